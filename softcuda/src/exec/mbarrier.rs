//! `mbarrier` objects.
//!
//! An object is kept beside the bytes that the program gives it, which no other operation may touch
//! while it is there. The state that an arrival returns holds the arrivals that were pending, and
//! the number of the phase above them.

use crate::fault::FaultKind;
use crate::lower::op::{Access, Mbarrier, MbarrierOp, NONE, Reg};
use crate::ptx::Space;

use super::SHARED_WINDOW;
use super::access::{addresses, lanes_of, misaligned};
use super::cluster::Cluster;
use super::engine::POLLS;
use super::races::{Act, Flight, Told};
use super::registers::Lanes64;
use super::state::{BUSY, MBARRIER, PENDING, Problem, Shared, Step, Warp, Worker};
use super::transfers::{Done, Issuer, Place, Source, Transfer};

/// Arrivals, and bytes, that an object can count.
const LIMIT: i64 = (1 << 20) - 1;

/// Bytes that arrived at an object.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    /// The phase that they arrived with.
    pub(super) phase: u64,
    /// Where they are, and what their states become once somebody waited.
    pub(super) start: usize,
    pub(super) states: Vec<u8>,
    /// What the copy read and did.
    pub(super) source: Option<Place>,
    pub(super) act: Act,
    pub(super) site: u32,
    pub(super) issuer: Issuer,
}

/// An `mbarrier` object.
#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    /// Phases completed.
    phase: u64,
    /// Arrivals that the next phase needs, and that this one still needs.
    expected: u32,
    pending: u32,
    /// Bytes expected and not arrived.
    bytes: i64,
    /// What arrived and nobody waited for yet.
    delivered: Vec<Delivery>,
    /// Whether a thread found the phase incomplete.
    polled: bool,
    /// What those that arrive tell those that wait, for the race detector.
    told: Told,
}

impl Object {
    /// Completes the phase if nothing is outstanding.
    fn settle(&mut self) {
        if self.pending == 0 && self.bytes == 0 {
            self.phase += 1;
            self.pending = self.expected;
            self.polled = false;
            self.told.complete();
        }
    }

    fn arrive(&mut self, count: u32, drops: bool, completes: bool) -> Result<u64, String> {
        let state = self.phase << 32 | u64::from(self.pending);
        if count == 0 || count > self.pending {
            return Err(format!("{count} arrivals at an mbarrier whose phase needs {} more", self.pending));
        }
        if count == self.pending && !completes {
            return Err("an arrival with `.noComplete` is the last that the phase needs".to_owned());
        }
        self.pending -= count;
        if drops {
            self.expected -= count;
        }
        self.settle();
        Ok(state)
    }

    /// Who issued a copy that arrived and that nobody waited for.
    pub(super) fn unobserved(&self) -> Option<Issuer> {
        self.delivered.first().map(|delivery| delivery.issuer)
    }

    fn transact(&mut self, bytes: i64) -> Result<(), String> {
        self.bytes += bytes;
        if self.bytes.abs() > LIMIT {
            return Err(format!("{} bytes outstanding: an mbarrier counts up to {LIMIT}", self.bytes));
        }
        Ok(())
    }

    /// Why threads that wait for the phase wait in vain, if any do.
    pub(super) fn outstanding(&self) -> Option<String> {
        let Object { phase, pending, bytes, .. } = *self;
        let bytes = if bytes < 0 {
            format!("{} more bytes arrived than it was told to expect", -bytes)
        } else {
            format!("{bytes} bytes that it was told to expect are outstanding")
        };
        self.polled.then(|| format!("phase {phase} never completes: {pending} arrivals are outstanding, {bytes}"))
    }
}

impl Shared {
    /// Bytes arrive for an object, with its present phase.
    pub(super) fn complete(&mut self, at: u64, delivery: Delivery) -> Result<(), String> {
        let object = self.mbarriers.get_mut(&at).ok_or_else(|| missing(at))?;
        object.transact(-(delivery.states.len() as i64))?;
        object.delivered.push(Delivery { phase: object.phase, ..delivery });
        object.settle();
        Ok(())
    }

    /// Copies of a thread, issued with `cp.async`, are complete.
    pub(super) fn copies_arrived(&mut self, at: u64) -> Result<(), String> {
        let object = self.mbarriers.get_mut(&at).ok_or_else(|| missing(at))?;
        object.arrive(1, false, true).map(|_| ())
    }

    /// Whether the phase that a thread waits for is complete. What arrived with it is usable then.
    fn wait(&mut self, at: u64, parity: bool, value: u64) -> Result<(bool, Vec<Delivery>), String> {
        let object = self.mbarriers.get_mut(&at).ok_or_else(|| missing(at))?;
        let complete = if parity { object.phase & 1 != value & 1 } else { object.phase as u32 != (value >> 32) as u32 };
        object.polled |= !complete;
        if !complete || object.delivered.is_empty() {
            return Ok((complete, Vec::new()));
        }
        let phase = object.phase;
        let (usable, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut object.delivered).into_iter().partition(|part| part.phase < phase);
        object.delivered = rest;
        for Delivery { start, states, .. } in &usable {
            self.state[*start..start + states.len()].copy_from_slice(states);
        }
        Ok((true, usable))
    }

    /// A transfer must find its object.
    pub(super) fn must_have_object(&self, at: u64, lane: usize) -> Step {
        if self.mbarriers.contains_key(&at) {
            return Ok(());
        }
        let detail = format!("there is no mbarrier at offset {at:#x} of shared memory");
        Err(Problem::new(FaultKind::BadMbarrier, lane, at, detail))
    }

    fn initialise(&mut self, at: u64, count: u32) -> Result<(), String> {
        if count == 0 || i64::from(count) > LIMIT {
            return Err(format!("an mbarrier for {count} arrivals: it counts from 1 to {LIMIT}"));
        }
        if self.mbarriers.contains_key(&at) {
            return Err(format!("there is an mbarrier at offset {at:#x} that was not invalidated"));
        }
        let states = &mut self.state[at as usize..at as usize + 8];
        if states.iter().any(|state| state & BUSY != 0) {
            return Err(format!("the bytes at offset {at:#x} are in use by an asynchronous copy or another mbarrier"));
        }
        states.fill(PENDING | MBARRIER);
        self.mbarriers.insert(at, Object { expected: count, pending: count, ..Object::default() });
        Ok(())
    }
}

fn missing(at: u64) -> String {
    format!("there is no mbarrier at offset {at:#x} of shared memory")
}

/// A 32-bit operand, which must be defined.
fn operand(warp: &Warp, reg: Reg, lane: usize) -> Step<u32> {
    if warp.r.defined(reg) >> lane & 1 == 0 {
        let detail = "an operand of the mbarrier operation depends on uninitialised data".to_owned();
        return Err(Problem::new(FaultKind::Uninitialised, lane, 0, detail));
    }
    Ok(warp.r.get32(reg)[lane])
}

impl Cluster {
    /// Rank and offset of the object that a lane names.
    pub(super) fn object(&self, access: &Access, at: &Lanes64, lane: usize) -> Step<(usize, u64)> {
        let address = match access.space {
            None => at[lane].wrapping_sub(SHARED_WINDOW),
            _ => at[lane],
        };
        let (rank, offset) = self.place(address, lane, "mbarrier operation")?;
        let size = self.blocks[rank].bytes.len() as u64;
        if offset.saturating_add(8) > size || (rank != self.me && access.space == Some(Space::Shared)) {
            let detail = format!("mbarrier at {address:#x}: the block has {size} bytes of shared memory");
            return Err(Problem::new(FaultKind::OutOfBounds, lane, address, detail));
        }
        if !offset.is_multiple_of(8) {
            return Err(misaligned(lane, address, 8, "mbarrier"));
        }
        Ok((rank, offset))
    }
}

impl Worker<'_> {
    /// A thread waited for what arrived at an object: all who do know that it is there.
    fn land_deliveries(&mut self, cluster: &mut Cluster, rank: usize, object: u64, usable: &[Delivery]) {
        if usable.is_empty() || self.launch.races.is_none() {
            return;
        }
        let race = &mut cluster.blocks[rank].race;
        let (uid, clock) = (race.agent(object), race.agent_clock());
        for delivery in usable {
            let Delivery { start, site, act, .. } = *delivery;
            let flight = |act| Flight { uid, act, site, bytes: delivery.states.len() };
            let target = (Place::Shared(rank, start as u64), act);
            for (place, act) in delivery.source.map(|place| (place, Act::Read)).into_iter().chain([target]) {
                self.land(&cluster.blocks, rank, place, flight(act), clock);
            }
        }
        if let Some(object) = cluster.blocks[rank].mbarriers.get_mut(&object) {
            object.told.observe(uid, clock);
        }
    }

    /// An operation on `mbarrier` objects. Returns whether the warp should make room for others.
    #[inline(never)]
    pub(super) fn mbarrier(
        &mut self,
        cluster: &mut Cluster,
        warp: &mut Warp,
        op: &Mbarrier,
        (mask, pc): (u32, u32),
    ) -> Step<bool> {
        let at = addresses(warp, &op.at, mask)?;
        let mut copies: Vec<(u64, u32)> = Vec::new();
        let mut complete = 0;
        let watched = self.launch.races.is_some();
        if let MbarrierOp::CopiesArrive { .. } = op.f {
            self.tell_copies(cluster.own(), warp, mask);
        }
        for lane in lanes_of(mask) {
            let (rank, offset) = cluster.object(&op.at, &at, lane)?;
            let wrong = |detail| Problem::new(FaultKind::BadMbarrier, lane, offset, detail);
            let tells = watched && matches!(op.f, MbarrierOp::Arrive { .. } | MbarrierOp::CopiesArrive { .. });
            self.visit(&cluster.blocks[rank], cluster.own(), warp, 1 << lane, (op.at.site, "use of an mbarrier"))?;
            let own = &cluster.own().race;
            let told = tells.then(|| match op.relaxed {
                true => warp.race.tell_relaxed(own, lane, rank == cluster.me),
                false => warp.race.tell_once(own, lane),
            });
            let shared = &mut cluster.blocks[rank];
            if op.f == MbarrierOp::Init {
                shared.initialise(offset, operand(warp, op.a, lane)?).map_err(wrong)?;
                continue;
            }
            let Some(object) = shared.mbarriers.get_mut(&offset) else { return Err(wrong(missing(offset))) };
            if let Some(told) = told {
                object.told.hear(&told);
            }
            match op.f {
                MbarrierOp::Init => {}
                MbarrierOp::Invalidate => {
                    shared.mbarriers.remove(&offset);
                    shared.state[offset as usize..offset as usize + 8].fill(0);
                }
                MbarrierOp::Arrive { drops, completes, expects } => {
                    let value = if op.a == NONE { 1 } else { operand(warp, op.a, lane)? };
                    if expects {
                        object.transact(i64::from(value)).map_err(wrong)?;
                    }
                    let count = if expects { 1 } else { value };
                    let state = object.arrive(count, drops, completes).map_err(wrong)?;
                    if op.d != NONE {
                        warp.r.set64(op.d, &[state; 32], 1 << lane);
                        warp.r.define(op.d, 1 << lane);
                    }
                }
                MbarrierOp::ExpectTx => {
                    object.transact(i64::from(operand(warp, op.a, lane)?)).map_err(wrong)?;
                    object.settle();
                }
                MbarrierOp::CompleteTx => {
                    object.transact(-i64::from(operand(warp, op.a, lane)?)).map_err(wrong)?;
                    object.settle();
                }
                MbarrierOp::Wait { parity } => {
                    let low =
                        if parity || warp.r.defined(op.a) >> lane & 1 == 0 { operand(warp, op.a, lane)? } else { 0 };
                    let value = if parity { u64::from(low) } else { warp.r.get64(op.a)[lane] };
                    let (done, usable) = shared.wait(offset, parity, value).map_err(wrong)?;
                    self.land_deliveries(cluster, rank, offset, &usable);
                    complete |= u32::from(done) << lane;
                    if done {
                        let told = cluster.blocks[rank].mbarriers[&offset].told.news();
                        told.learn(&cluster.own().race, &mut warp.race, 1 << lane, op.relaxed);
                    }
                    continue;
                }
                MbarrierOp::CopiesArrive { counted } => {
                    if !counted {
                        object.pending += 1;
                    }
                    match copies.iter_mut().find(|(other, _)| *other == offset) {
                        Some((_, lanes)) => *lanes |= 1 << lane,
                        None => copies.push((offset, 1 << lane)),
                    }
                }
            }
            self.progress += 1;
        }
        cluster.transfers.begin();
        for (offset, lanes) in copies {
            let rank = cluster.me;
            let issuer = Issuer { rank, warp: warp.index, lane: lanes.trailing_zeros() as usize, pc };
            cluster.transfers.issue(Transfer::new(Source::Copies(lanes), Done::Mbarrier(rank, offset), issuer));
        }
        if let MbarrierOp::Wait { .. } = op.f {
            if op.p != NONE {
                warp.r.set_predicate(op.p, complete, u32::MAX, mask);
            }
            if complete != mask {
                self.polls += POLLS;
                return Ok(true);
            }
        }
        Ok(false)
    }
}
