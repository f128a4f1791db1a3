//! Bulk copies, asynchronous stores, and all else that completes on its own.
//!
//! A transfer may complete at any time after it was issued. Here it does when nothing else in its
//! cluster can go on, or, with a seed, now and then before. Until somebody waited for it, its
//! destination is unusable and its source must not be written.

use std::collections::VecDeque;

use crate::fault::FaultKind;
use crate::lower::op::{Atom, BulkCopy, NONE, StoreAsync};
use crate::memory::{DEFINED, fill_bytes, load_bytes, store_bytes};
use crate::ptx::Space;

use super::access::{addresses, lanes_of, misaligned, sectors_of_run};
use super::cluster::Cluster;
use super::mbarrier::Delivery;
use super::races::{Act, Flight};
use super::registers::LANES;
use super::staging::gather;
use super::state::{BUSY, PENDING, Problem, READING, REDUCING, Shared, Step, WRITTEN, Warp, Worker};
use super::traffic::Kind;

/// Where a transfer reads or writes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Global(u64),
    /// Rank of the block and offset.
    Shared(usize, u64),
}

/// What a transfer writes.
pub(super) enum Source {
    Global(u64),
    /// Rank of the block and offset.
    Shared(usize, u64),
    /// Bytes that were read already.
    Bytes(Vec<u8>),
    /// Nothing: it stands for the copies that lanes issued with `cp.async`.
    Copies(u32),
}

/// How a transfer tells that it is complete.
#[derive(Clone, Copy)]
pub(super) enum Done {
    /// To an object: rank of the block and offset.
    Mbarrier(usize, u64),
    /// To the thread that issued it: the number of its group.
    Group(u32),
}

/// Who issued a transfer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Issuer {
    pub(super) rank: usize,
    pub(super) warp: u32,
    pub(super) lane: usize,
    pub(super) pc: u32,
}

/// A transfer that is not complete.
pub(super) struct Transfer {
    from: Source,
    to: Option<Place>,
    bytes: usize,
    site: u32,
    reduce: Option<Box<Atom>>,
    done: Done,
    pub(super) issuer: Issuer,
    /// The same for all that one operation issued.
    serial: u64,
}

impl Transfer {
    /// One that moves nothing.
    pub(super) fn new(from: Source, done: Done, issuer: Issuer) -> Transfer {
        Transfer { from, to: None, bytes: 0, site: 0, reduce: None, done, issuer, serial: 0 }
    }

    /// Where it reads, if it still does.
    fn source(&self) -> Option<Place> {
        match self.from {
            Source::Global(address) => Some(Place::Global(address)),
            Source::Shared(rank, offset) => Some(Place::Shared(rank, offset)),
            _ => None,
        }
    }

    fn act(&self) -> Act {
        if self.reduce.is_some() { Act::Update } else { Act::Write }
    }

    /// Whether it still needs the shared memory of a block.
    fn needs(&self, rank: usize) -> bool {
        matches!(self.from, Source::Shared(from, _) if from == rank)
            || matches!(self.to, Some(Place::Shared(to, _)) if to == rank)
    }

    /// Whether it was issued by a thread into a group that comes before others.
    fn in_group(&self, (rank, warp, lane): (usize, u32, usize), before: u32) -> bool {
        let Issuer { rank: of, warp: by, lane: issued, .. } = self.issuer;
        matches!(self.done, Done::Group(group) if group < before) && (of, by, issued) == (rank, warp, lane)
    }
}

/// The transfers of a cluster.
#[derive(Default)]
pub(super) struct Transfers {
    pending: VecDeque<Transfer>,
    /// Complete, which those that issued them have no way to know before they wait: until then their
    /// sources must not be written.
    unknown: Vec<Transfer>,
    serial: u64,
}

/// A transfer that failed: what happened, and who issued it.
pub(super) type Failure = (Box<Problem>, Issuer);

impl Transfers {
    /// An operation begins to issue transfers.
    pub(super) fn begin(&mut self) {
        self.serial += 1;
    }

    pub(super) fn issue(&mut self, transfer: Transfer) {
        self.pending.push_back(Transfer { serial: self.serial, ..transfer });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.unknown.clear();
    }

    /// A transfer completes that nobody waits for.
    pub(super) fn completes(&mut self, transfer: &Transfer) {
        if let Done::Group(_) = transfer.done {
            let from = match transfer.from {
                Source::Shared(rank, offset) => Source::Shared(rank, offset),
                _ => Source::Bytes(Vec::new()),
            };
            let (to, bytes, site, reduce) = (transfer.to, transfer.bytes, transfer.site, transfer.reduce.clone());
            let known = Transfer::new(from, transfer.done, transfer.issuer);
            self.unknown.push(Transfer { to, bytes, site, reduce, ..known });
        }
    }

    /// Takes out one operation's transfers: those of the `choice`-th, counted round.
    pub(super) fn take(&mut self, choice: u64) -> Vec<Transfer> {
        let mut serials: Vec<u64> = self.pending.iter().map(|transfer| transfer.serial).collect();
        serials.dedup();
        let Some(&serial) = serials.get((choice % serials.len().max(1) as u64) as usize) else { return Vec::new() };
        self.take_if(|transfer| transfer.serial == serial)
    }

    fn take_if(&mut self, wanted: impl Fn(&Transfer) -> bool) -> Vec<Transfer> {
        let (taken, left): (VecDeque<_>, VecDeque<_>) = self.pending.drain(..).partition(wanted);
        self.pending = left;
        taken.into()
    }

    /// A block exits: nothing may still need its shared memory.
    pub(super) fn exit(&mut self, rank: usize) -> Result<(), Failure> {
        self.pending.retain(|transfer| !matches!(transfer.from, Source::Copies(_)) || transfer.issuer.rank != rank);
        let mut all = self.pending.iter().chain(&self.unknown);
        let Some(transfer) = all.find(|transfer| transfer.needs(rank)) else { return Ok(()) };
        let what = if matches!(transfer.from, Source::Shared(from, _) if from == rank) { "reads" } else { "writes" };
        let detail = format!("block {rank} of the cluster exits while this asynchronous copy {what} its shared memory");
        Err((Problem::new(FaultKind::MissingWait, transfer.issuer.lane, 0, detail), transfer.issuer))
    }
}

impl Shared {
    /// Checks a range of a transfer and marks it.
    fn reserve(&mut self, start: u64, bytes: usize, lane: usize, target: Option<&Option<Box<Atom>>>) -> Step {
        let (size, what) = (self.bytes.len(), "asynchronous copy");
        if start.saturating_add(bytes as u64) > size as u64 {
            let detail =
                format!("{what} of {bytes} bytes at offset {start:#x} of shared memory, which has {size} bytes");
            return Err(Problem::new(FaultKind::OutOfBounds, lane, start, detail));
        }
        let states = &mut self.state[start as usize..start as usize + bytes];
        let any = states.iter().fold(0, |any, state| any | state);
        let problem = |kind, detail: &str| Err(Problem::new(kind, lane, start, format!("{what} {detail}")));
        match target {
            None => {
                if any & PENDING != 0 {
                    return problem(FaultKind::MissingWait, "from what another one that was not waited for will write");
                }
                if any & WRITTEN != 0 {
                    let detail = "from shared memory that was written with no `fence.proxy.async` since";
                    return problem(FaultKind::MissingFence, detail);
                }
                states.iter_mut().for_each(|state| *state |= READING);
            }
            Some(Some(_)) => {
                if states.iter().any(|state| state & (DEFINED | REDUCING) == 0) {
                    return problem(FaultKind::Uninitialised, "that adds to uninitialised bytes");
                }
                states.fill(PENDING | REDUCING);
            }
            Some(None) => {
                if any & BUSY != 0 {
                    return problem(
                        FaultKind::MissingWait,
                        "to what another one that was not waited for reads or writes",
                    );
                }
                states.fill(PENDING);
            }
        }
        Ok(())
    }
}

impl Worker<'_> {
    /// `cp.async.bulk` and `cp.reduce.async.bulk`.
    #[inline(never)]
    pub(super) fn copy_bulk(
        &mut self,
        cluster: &mut Cluster,
        warp: &mut Warp,
        op: &BulkCopy,
        (mask, pc): (u32, u32),
    ) -> Step {
        let (to, from) = (addresses(warp, &op.to, mask)?, addresses(warp, &op.from, mask)?);
        let objects = op.mbarrier.as_ref().map(|access| addresses(warp, access, mask)).transpose()?;
        for reg in [op.size, op.mask].into_iter().filter(|&reg| reg != NONE) {
            let undefined = mask & !warp.r.defined(reg);
            if undefined != 0 {
                let detail = "the size or mask of the copy depends on uninitialised data".to_owned();
                return Err(Problem::new(FaultKind::Uninitialised, undefined.trailing_zeros() as usize, 0, detail));
            }
        }
        cluster.transfers.begin();
        let act = if op.reduce.is_some() { Act::Update } else { Act::Write };
        for lane in lanes_of(mask) {
            let bytes = warp.r.get32(op.size)[lane] as usize;
            let (to, from) = (to[lane], from[lane]);
            for place in [to, from, bytes as u64] {
                if !place.is_multiple_of(16) {
                    return Err(misaligned(lane, place, 16, "bulk copy, or its size,"));
                }
            }
            let issuer = Issuer { rank: cluster.me, warp: warp.index, lane, pc };
            let source = match op.from.space {
                Some(Space::Global) => {
                    if self.window(op.from.site, from, bytes as u64).is_none() && bytes > 0 {
                        return Err(self.outside(lane, from, bytes, "bulk copy"));
                    }
                    self.count_read_request(bytes as u64, sectors_of_run(from, bytes as u64));
                    self.trace_ranges(Kind::Read, std::iter::once((from, bytes as u64)));
                    None
                }
                _ => Some(cluster.place(from, lane, "bulk copy")?),
            };
            if let Some((rank, offset)) = source {
                if rank != cluster.me {
                    let detail = format!("bulk copy from block {rank} of the cluster: only from the own one");
                    return Err(Problem::new(FaultKind::OutOfBounds, lane, from, detail));
                }
                cluster.blocks[rank].reserve(offset, bytes, lane, None)?;
            }
            let transfer = |target, done| Transfer {
                from: source.map_or(Source::Global(from), |(rank, offset)| Source::Shared(rank, offset)),
                to: Some(target),
                bytes,
                site: if source.is_none() { op.from.site } else { op.to.site },
                reduce: op.reduce.clone().map(Box::new),
                done,
                issuer,
                serial: 0,
            };
            let (Some(objects), Some(access)) = (&objects, &op.mbarrier) else {
                match self.window(op.to.site, to, bytes as u64) {
                    Some((window, _)) if window.read_only => {
                        let detail = format!("bulk copy to {to:#x}, which is constant");
                        return Err(Problem::new(FaultKind::WriteToReadOnly, lane, to, detail));
                    }
                    None if bytes > 0 => return Err(self.outside(lane, to, bytes, "bulk copy")),
                    _ => {}
                }
                if let Some((rank, offset)) = source {
                    let states = &cluster.blocks[rank].state[offset as usize..offset as usize + bytes];
                    if states.iter().any(|state| state & DEFINED == 0) {
                        let detail = "bulk copy of uninitialised bytes to global memory".to_owned();
                        return Err(Problem::new(FaultKind::Uninitialised, lane, to, detail));
                    }
                }
                let (thread, site) = ((cluster.own(), &*warp, lane), op.from.site);
                let flight = |act| Flight { uid: warp.race.uid + lane as u64, act, site, bytes };
                if let Some((rank, offset)) = source {
                    self.take_off(&cluster.blocks, thread, Place::Shared(rank, offset), flight(Act::Read))?;
                }
                self.take_off(&cluster.blocks, thread, Place::Global(to), flight(act))?;
                self.count_write_request(bytes as u64, sectors_of_run(to, bytes as u64));
                let kind = if op.reduce.is_some() { Kind::Atomic } else { Kind::Write };
                self.trace_ranges(kind, std::iter::once((to, bytes as u64)));
                cluster.transfers.issue(transfer(Place::Global(to), Done::Group(warp.bulk_groups[lane])));
                continue;
            };
            let (rank, offset) = cluster.place(to, lane, "bulk copy")?;
            let (home, object) = cluster.object(access, objects, lane)?;
            if home != rank || (op.to.space == Some(Space::Shared) && rank != cluster.me) {
                let detail =
                    format!("bulk copy to block {rank} that signals an mbarrier of block {home} of the cluster");
                return Err(Problem::new(FaultKind::BadMbarrier, lane, to, detail));
            }
            let ranks = if op.mask == NONE { 1 << rank } else { warp.r.get32(op.mask)[lane] & 0xffff };
            for rank in lanes_of(ranks) {
                if rank != cluster.me {
                    cluster.place(((rank as u64 + 1) << super::cluster::RANK_SHIFT) + offset, lane, "bulk copy")?;
                }
                self.must_have_begun(&cluster.blocks[rank], cluster.own(), warp, 1 << lane, "bulk copy")?;
                let shared = &mut cluster.blocks[rank];
                shared.must_have_object(object, lane)?;
                shared.reserve(offset, bytes, lane, Some(&op.reduce.clone().map(Box::new)))?;
                let (thread, site) = ((cluster.own(), &*warp, lane), op.from.site);
                let flight = |act| Flight { uid: cluster.blocks[rank].race.agent(object), act, site, bytes };
                let from = source.map_or(Place::Global(from), |(rank, offset)| Place::Shared(rank, offset));
                self.take_off(&cluster.blocks, thread, from, flight(Act::Read))?;
                self.take_off(&cluster.blocks, thread, Place::Shared(rank, offset), flight(act))?;
                cluster.transfers.issue(transfer(Place::Shared(rank, offset), Done::Mbarrier(rank, object)));
            }
        }
        Ok(())
    }

    /// `st.async` and `red.async`.
    #[inline(never)]
    pub(super) fn store_async(
        &mut self,
        cluster: &mut Cluster,
        warp: &mut Warp,
        op: &StoreAsync,
        (mask, pc): (u32, u32),
    ) -> Step {
        let (to, objects) = (addresses(warp, &op.to, mask)?, addresses(warp, &op.mbarrier, mask)?);
        let bytes = usize::from(op.to.size) * usize::from(op.to.count);
        self.staging.partial = false;
        gather(&mut self.staging, warp, &op.to, mask);
        if self.staging.partial {
            let defined =
                |&lane: &usize| self.staging.defined[lane * bytes..][..bytes].iter().all(|&s| s & DEFINED != 0);
            if let Some(lane) = lanes_of(mask).find(|lane| !defined(lane)) {
                let detail = "what is stored asynchronously depends on uninitialised data".to_owned();
                return Err(Problem::new(FaultKind::Uninitialised, lane, to[lane], detail));
            }
        }
        let reduce = op.reduce.clone().map(Box::new);
        cluster.transfers.begin();
        for lane in lanes_of(mask) {
            if !to[lane].is_multiple_of(bytes as u64) {
                return Err(misaligned(lane, to[lane], bytes, "asynchronous store"));
            }
            let (rank, offset) = cluster.place(to[lane], lane, "asynchronous store")?;
            let (home, object) = cluster.object(&op.mbarrier, &objects, lane)?;
            if home != rank {
                let detail = format!("asynchronous store to block {rank} that signals an mbarrier of block {home}");
                return Err(Problem::new(FaultKind::BadMbarrier, lane, to[lane], detail));
            }
            self.must_have_begun(&cluster.blocks[rank], cluster.own(), warp, 1 << lane, "asynchronous store")?;
            let shared = &mut cluster.blocks[rank];
            shared.must_have_object(object, lane)?;
            shared.reserve(offset, bytes, lane, Some(&reduce))?;
            let act = if reduce.is_some() { Act::Update } else { Act::Write };
            let flight = Flight { uid: shared.race.agent(object), act, site: op.to.site, bytes };
            let thread = (cluster.own(), &*warp, lane);
            self.take_off(&cluster.blocks, thread, Place::Shared(rank, offset), flight)?;
            let data = self.staging.bytes[lane * bytes..(lane + 1) * bytes].to_vec();
            let issuer = Issuer { rank: cluster.me, warp: warp.index, lane, pc };
            let done = Done::Mbarrier(rank, object);
            let to = Some(Place::Shared(rank, offset));
            let (from, reduce) = (Source::Bytes(data), reduce.clone());
            cluster.transfers.issue(Transfer { from, to, bytes, site: 0, reduce, done, issuer, serial: 0 });
        }
        Ok(())
    }

    /// `cp.async.bulk.commit_group`.
    pub(super) fn commit_bulk(&mut self, warp: &mut Warp, mask: u32) {
        for lane in lanes_of(mask) {
            warp.bulk_groups[lane] += 1;
        }
    }

    /// `cp.async.bulk.wait_group`: completes all but the last `pending` groups of each lane, or has
    /// them read their sources.
    pub(super) fn wait_bulk(
        &mut self,
        cluster: &mut Cluster,
        warp: &Warp,
        mask: u32,
        (pending, reads): (u32, bool),
    ) -> Result<(), Failure> {
        for lane in lanes_of(mask) {
            let before = warp.bulk_groups[lane].saturating_sub(pending);
            let who = (cluster.me, warp.index, lane);
            let clock = warp.race.clock(&cluster.own().race, lane);
            let flight = |act, transfer: &Transfer| {
                let uid = warp.race.uid + lane as u64;
                Flight { uid, act, site: transfer.site, bytes: transfer.bytes }
            };
            let over = |worker: &mut Self, cluster: &Cluster, transfer: &Transfer| {
                let target = transfer.to.filter(|_| !reads).map(|place| (place, transfer.act()));
                for (place, act) in transfer.source().map(|place| (place, Act::Read)).into_iter().chain(target) {
                    worker.land(&cluster.blocks, cluster.me, place, flight(act, transfer), clock);
                }
            };
            let (mut known, unknown): (Vec<_>, Vec<_>) = std::mem::take(&mut cluster.transfers.unknown)
                .into_iter()
                .partition(|transfer| transfer.in_group(who, before));
            cluster.transfers.unknown = unknown;
            known.iter().for_each(|transfer| over(self, cluster, transfer));
            cluster.release_sources(&known);
            if reads {
                // What they write is still not known.
                known.iter_mut().for_each(|transfer| transfer.from = Source::Bytes(Vec::new()));
                cluster.transfers.unknown.append(&mut known);
                let mut transfers = std::mem::take(&mut cluster.transfers.pending);
                for transfer in transfers.iter_mut().filter(|transfer| transfer.in_group(who, before)) {
                    over(self, cluster, transfer);
                    if let Source::Shared(rank, offset) = transfer.from {
                        let at = offset as usize;
                        let bytes = cluster.blocks[rank].bytes[at..at + transfer.bytes].to_vec();
                        transfer.from = Source::Bytes(bytes);
                        cluster.blocks[rank].state[at..at + transfer.bytes].iter_mut().for_each(|s| *s &= !READING);
                    }
                }
                cluster.transfers.pending = transfers;
                cluster.mark_sources();
            } else {
                for transfer in cluster.transfers.take_if(|transfer| transfer.in_group(who, before)) {
                    over(self, cluster, &transfer);
                    self.complete(cluster, transfer)?;
                }
            }
        }
        Ok(())
    }

    /// Carries a transfer out.
    pub(super) fn complete(&mut self, cluster: &mut Cluster, transfer: Transfer) -> Result<(), Failure> {
        let (source, act) = (transfer.source(), transfer.act());
        let Transfer { from, to, bytes, site, reduce, done, issuer, .. } = transfer;
        let failed = |problem| (problem, issuer);
        self.progress += 1;
        let mut states = vec![DEFINED; bytes];
        let data = match from {
            Source::Bytes(data) => data,
            Source::Copies(_) => Vec::new(),
            Source::Global(address) => {
                let mut data = vec![0; bytes];
                if let Some((window, offset)) = self.window(site, address, bytes as u64) {
                    // SAFETY: the range lies inside the allocation, and so does its shadow; the
                    // buffers have as many bytes.
                    unsafe {
                        load_bytes(window.data.add(offset), data.as_mut_ptr(), bytes);
                        load_bytes(window.shadow.add(offset), states.as_mut_ptr(), bytes);
                    }
                    states.iter_mut().for_each(|state| *state &= DEFINED);
                }
                data
            }
            Source::Shared(rank, offset) => {
                let range = offset as usize..offset as usize + bytes;
                let shared = &mut cluster.blocks[rank];
                shared.state[range.clone()].iter_mut().for_each(|state| *state &= !READING);
                states = shared.state[range.clone()].iter().map(|state| state & DEFINED).collect();
                let data = shared.bytes[range].to_vec();
                cluster.mark_sources();
                data
            }
        };
        match to {
            None => {}
            Some(Place::Shared(rank, offset)) => {
                let range = offset as usize..offset as usize + bytes;
                if let Some(atom) = &reduce {
                    self.reduce_shared(&mut cluster.blocks[rank], atom, offset, &data, issuer.lane).map_err(failed)?;
                    // Another reduction may still be on its way.
                    if cluster.transfers.pending.iter().any(|other| other.writes(rank, &range)) {
                        states.fill(PENDING | REDUCING);
                    }
                } else {
                    cluster.blocks[rank].bytes[range].copy_from_slice(&data);
                }
            }
            Some(Place::Global(address)) => match &reduce {
                Some(atom) => {
                    let size = usize::from(atom.at.size);
                    for (index, element) in data.chunks_exact(size).enumerate() {
                        let at = address + (index * size) as u64;
                        self.atomic_global(atom, issuer.lane, at, size, (number(element), 0)).map_err(failed)?;
                    }
                }
                None => {
                    if let Some((window, offset)) = self.window(site, address, bytes as u64) {
                        // SAFETY: the range lies inside the allocation, and so does its shadow; the
                        // buffer has as many bytes.
                        unsafe {
                            store_bytes(window.data.add(offset), data.as_ptr(), bytes);
                            fill_bytes(window.shadow.add(offset), DEFINED | self.launch.tag, bytes);
                        }
                        if bytes > 0 {
                            window.mark_written(offset, bytes);
                        }
                    }
                }
            },
        }
        if let Done::Mbarrier(rank, object) = done {
            let shared = &mut cluster.blocks[rank];
            let result = match to {
                Some(Place::Shared(_, offset)) => shared
                    .complete(object, Delivery { phase: 0, start: offset as usize, states, source, act, site, issuer }),
                _ => shared.copies_arrived(object),
            };
            result.map_err(|detail| failed(Problem::new(FaultKind::BadMbarrier, issuer.lane, object, detail)))?;
        }
        Ok(())
    }

    /// Adds to shared memory that is reserved for it.
    fn reduce_shared(&mut self, shared: &mut Shared, atom: &Atom, offset: u64, data: &[u8], lane: usize) -> Step {
        let size = usize::from(atom.at.size);
        for (index, element) in data.chunks_exact(size).enumerate() {
            let at = offset as usize + index * size;
            shared.state[at..at + size].fill(DEFINED);
            self.atomic_shared(shared, atom, lane, at as u64, size, (number(element), 0))?;
            shared.state[at..at + size].fill(PENDING | REDUCING);
        }
        Ok(())
    }
}

fn number(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    whole[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(whole)
}

impl Transfer {
    /// Whether it writes any byte of a range of a block's shared memory.
    fn writes(&self, rank: usize, range: &std::ops::Range<usize>) -> bool {
        let Some(Place::Shared(to, offset)) = self.to else { return false };
        to == rank && (offset as usize) < range.end && range.start < offset as usize + self.bytes
    }

    /// The lanes whose `cp.async` copies it stands for.
    pub(super) fn copies(&self) -> Option<u32> {
        match self.from {
            Source::Copies(lanes) => Some(lanes),
            _ => None,
        }
    }

    /// The same for one of those lanes, and for the others.
    pub(super) fn once_for_each(self) -> impl Iterator<Item = Transfer> {
        let count = self.copies().unwrap_or(1).count_ones();
        (0..count.min(LANES as u32)).map(move |_| Transfer::new(Source::Copies(0), self.done, self.issuer))
    }
}

impl Cluster {
    /// Sources of transfers may be written.
    fn release_sources(&mut self, transfers: &[Transfer]) {
        for transfer in transfers {
            if let Source::Shared(rank, offset) = transfer.from {
                let range = offset as usize..offset as usize + transfer.bytes;
                self.blocks[rank].state[range].iter_mut().for_each(|state| *state &= !READING);
            }
        }
        if !transfers.is_empty() {
            self.mark_sources();
        }
    }

    /// Marks the sources of all transfers, after one that may overlap with them has let go of its own.
    fn mark_sources(&mut self) {
        for transfer in self.transfers.pending.iter().chain(&self.transfers.unknown) {
            if let Source::Shared(rank, offset) = transfer.from {
                let range = offset as usize..offset as usize + transfer.bytes;
                self.blocks[rank].state[range].iter_mut().for_each(|state| *state |= READING);
            }
        }
    }
}
