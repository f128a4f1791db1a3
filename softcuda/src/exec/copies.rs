//! `cp.async`: copies from global to shared memory that complete when they are waited for.
//!
//! A copy may complete at any time between its issue and the end of a wait for it. Here its
//! destination is unusable from the issue on and gets its bytes at the wait: whoever does not wait,
//! or waits for too few groups, is found out. They are read as late as possible or, with a seed, at
//! some moment in between: the source must stay as it is.

use crate::fault::FaultKind;
use crate::lower::op::{CpAsync, NONE};
use crate::memory::{DEFINED, load_bytes};

use super::access::{addresses, consecutive, contiguous, first_lane, lanes_of, misaligned, sectors, sectors_of_run};
use super::banks::{parts, wavefronts};
use super::block::next;
use super::registers::{LANES, Lanes32, Lanes64};
use super::shared::in_flight;
use super::state::{BUSY, MBARRIER, PENDING, Problem, Shared, Step, Warp, Worker};
use super::traffic::Kind;

/// A `cp.async` that some lanes have not waited for.
pub(super) struct PendingCopy {
    /// Lanes whose copy is not delivered.
    pub(super) lanes: u32,
    /// Those of them that an mbarrier tells of.
    told: u32,
    pub(super) to: Lanes64,
    pub(super) from: Lanes64,
    /// Bytes to copy; the rest up to `size` becomes 0.
    pub(super) bytes: [u8; LANES],
    pub(super) size: usize,
    pub(super) site: u32,
    /// Groups that each lane had committed when it issued the copy: the number of its group.
    group: Lanes32,
    /// What was read before anything waited: bytes and their states, by lane.
    read: Option<Box<[(Part, Part); LANES]>>,
}

/// Bytes that a lane copies at once, at most.
const MAX_SIZE: usize = 16;

/// Bytes of one lane, or their states.
type Part = [u8; MAX_SIZE];

impl PendingCopy {
    /// Those of the lanes that copy all of their bytes.
    pub(super) fn full(&self, lanes: u32) -> u32 {
        let full = lanes_of(lanes).filter(|&lane| usize::from(self.bytes[lane]) == self.size);
        full.fold(0, |lanes, lane| lanes | 1 << lane)
    }
}

/// The asynchronous copies of a warp.
#[derive(Default)]
pub(super) struct Copies {
    pending: Vec<PendingCopy>,
    /// Groups that each lane has committed.
    committed: Lanes32,
}

impl Copies {
    /// Bytes that are still to be copied from global memory.
    pub(super) fn outstanding(&self) -> u64 {
        let bytes = |copy: &PendingCopy| lanes_of(copy.lanes).map(|lane| u64::from(copy.bytes[lane])).sum::<u64>();
        self.pending.iter().map(bytes).sum()
    }

    /// Forgets everything, for the next block.
    pub(super) fn clear(&mut self) {
        self.pending.clear();
        self.committed = [0; LANES];
    }
}

fn unknown(what: &str, lanes: u32) -> Box<Problem> {
    let detail = format!("the {what} of the copy depends on uninitialised data");
    Problem::new(FaultKind::Uninitialised, first_lane(lanes), 0, detail)
}

impl Worker<'_> {
    /// Issues a copy for each lane.
    #[inline(never)]
    pub(super) fn copy_async(&mut self, shared: &mut Shared, warp: &mut Warp, copy: &CpAsync, mask: u32) -> Step {
        let size = usize::from(copy.to.size);
        let (to, from) = (addresses(warp, &copy.to, mask)?, addresses(warp, &copy.from, mask)?);
        let undefined = mask & !warp.r.predicate_defined(copy.ignore);
        if undefined != 0 {
            return Err(unknown("predicate", undefined));
        }
        let ignored = warp.r.predicate(copy.ignore);
        let mut bytes = [size as u8; LANES];
        if copy.bytes != NONE {
            let undefined = mask & !warp.r.defined(copy.bytes);
            if undefined != 0 {
                return Err(unknown("size", undefined));
            }
            let given = warp.r.get32(copy.bytes);
            if let Some(lane) = lanes_of(mask).find(|&lane| given[lane] as usize > size) {
                let detail = format!("asynchronous copy of {size} bytes that should read {}", given[lane]);
                return Err(Problem::new(FaultKind::OutOfBounds, lane, from[lane], detail));
            }
            bytes = given.map(|bytes| bytes as u8);
        }
        let mut reading = 0;
        for lane in lanes_of(mask) {
            if ignored >> lane & 1 != 0 {
                bytes[lane] = 0;
            }
            reading |= u32::from(bytes[lane] != 0) << lane;
        }
        self.check_source(copy, &from, &bytes, reading, size)?;
        let run = self.check_target(shared, &to, mask, size)?;
        let passes = if run { parts(mask, size) } else { wavefronts(&to, mask, size) };
        self.count_shared(passes, mask, size, true);
        let (group, site) = (warp.copies.committed, copy.from.site);
        let copy = PendingCopy { lanes: mask, told: 0, to, from, bytes, size, site, group, read: None };
        let taken = self.take_off_copy(shared, warp, &copy);
        warp.copies.pending.push(copy);
        taken?;
        let seed = self.launch.config.seed;
        if seed == 0 { Ok(()) } else { self.read_ahead(warp, seed ^ warp.steps << 32 ^ from[first_lane(mask)]) }
    }

    /// Reads the sources of some copies that nothing waits for yet.
    fn read_ahead(&mut self, warp: &mut Warp, mut draw: u64) -> Step {
        for copy in warp.copies.pending.iter_mut().filter(|copy| copy.read.is_none()) {
            if next(&mut draw) & 3 != 0 {
                continue;
            }
            let mut read = Box::new([([0; MAX_SIZE], [0; MAX_SIZE]); LANES]);
            for lane in lanes_of(copy.lanes) {
                let (data, states) = &mut read[lane];
                self.read_source(copy, lane, &mut data[..copy.bytes[lane].into()], states)?;
            }
            copy.read = Some(read);
        }
        Ok(())
    }

    /// The source must be there when the copy is issued: it may be read at once.
    fn check_source(&mut self, copy: &CpAsync, from: &Lanes64, bytes: &[u8; LANES], reading: u32, size: usize) -> Step {
        if reading == 0 {
            return Ok(());
        }
        let first = first_lane(reading);
        let full = lanes_of(reading).all(|lane| usize::from(bytes[lane]) == size);
        let run = full && consecutive(reading) && contiguous(from, reading, size as u64);
        let length = reading.count_ones() as u64 * size as u64;
        let whole = run
            && from[first].is_multiple_of(size as u64)
            && self.window(copy.from.site, from[first], length).is_some();
        self.trace_ranges(Kind::Read, lanes_of(reading).map(|lane| (from[lane], u64::from(bytes[lane]))));
        if whole {
            self.count_read_request(length, sectors_of_run(from[first], length));
            return Ok(());
        }
        let mut total = 0;
        for lane in lanes_of(reading) {
            let address = from[lane];
            if !address.is_multiple_of(size as u64) {
                return Err(misaligned(lane, address, size, "asynchronous copy"));
            }
            let length = u64::from(bytes[lane]);
            if self.window(copy.from.site, address, length).is_none() {
                return Err(self.outside(lane, address, length as usize, "asynchronous copy"));
            }
            total += length;
        }
        self.count_read_request(total, sectors(from, reading, size));
        Ok(())
    }

    /// Makes the target unusable until the copy is delivered. Returns whether its lanes are
    /// contiguous.
    fn check_target(&mut self, shared: &mut Shared, to: &Lanes64, mask: u32, size: usize) -> Step<bool> {
        let run = shared.check(to, mask, size, "asynchronous copy")?;
        if let (Some((start, length)), true) = (run, consecutive(mask)) {
            let states = &mut shared.state[start..start + length];
            if states.iter().fold(0, |any, state| any | state) & BUSY == 0 {
                states.fill(PENDING);
                return Ok(true);
            }
        }
        for lane in lanes_of(mask) {
            let start = to[lane] as usize;
            let states = &mut shared.state[start..start + size];
            if states.iter().any(|state| state & MBARRIER != 0) {
                return Err(in_flight(states, lane, to[lane], size, "asynchronous copy"));
            }
            if states.iter().any(|state| state & BUSY != 0) {
                let detail = format!(
                    "two asynchronous copies to offset {start:#x} of shared memory with no wait \
                     between them"
                );
                return Err(Problem::new(FaultKind::MissingWait, lane, to[lane], detail));
            }
            states.fill(PENDING);
        }
        Ok(run.is_some())
    }

    /// Closes the group of copies issued so far.
    pub(super) fn commit_copies(&mut self, warp: &mut Warp, mask: u32) {
        for (lane, committed) in warp.copies.committed.iter_mut().enumerate() {
            *committed += mask >> lane & 1;
        }
    }

    /// Delivers all but the last `pending` groups; with `None`, everything.
    pub(super) fn wait_copies(
        &mut self,
        shared: &mut Shared,
        warp: &mut Warp,
        mask: u32,
        pending: Option<u32>,
    ) -> Step {
        let mut all = std::mem::take(&mut warp.copies);
        let Copies { pending: copies, committed } = &mut all;
        for copy in copies.iter_mut() {
            let due = match pending {
                None => copy.lanes & mask,
                Some(keep) => {
                    let old = |lane: usize| u32::from(copy.group[lane].saturating_add(keep) < committed[lane]) << lane;
                    (0..LANES).fold(0, |due, lane| due | old(lane)) & copy.lanes & mask
                }
            };
            if due != 0 {
                self.deliver(shared, copy, due)?;
                self.land_copy(shared, warp, copy, due & !copy.told);
                copy.lanes &= !due;
            }
        }
        copies.retain(|copy| copy.lanes != 0);
        warp.copies = all;
        Ok(())
    }

    /// Lanes let an mbarrier tell of their copies: for the race detector these end now, before the
    /// arrival, whenever they are delivered.
    pub(super) fn tell_copies(&mut self, shared: &Shared, warp: &mut Warp, mask: u32) {
        let mut all = std::mem::take(&mut warp.copies);
        for copy in &mut all.pending {
            let new = copy.lanes & mask & !copy.told;
            copy.told |= new;
            self.land_copy(shared, warp, copy, new);
        }
        warp.copies = all;
    }

    fn deliver(&mut self, shared: &mut Shared, copy: &PendingCopy, due: u32) -> Step {
        let size = copy.size;
        let (first, count) = (first_lane(due), due.count_ones() as usize);
        let full = lanes_of(due).all(|lane| usize::from(copy.bytes[lane]) == size);
        let wide = size as u64;
        if copy.read.is_none()
            && full
            && consecutive(due)
            && contiguous(&copy.to, due, wide)
            && contiguous(&copy.from, due, wide)
        {
            return self.deliver_run(shared, copy, first, size * count, size * count);
        }
        for lane in lanes_of(due) {
            self.deliver_run(shared, copy, lane, usize::from(copy.bytes[lane]), size)?;
        }
        Ok(())
    }

    /// Copies `bytes` bytes from where a lane's copy begins, and fills up to `size` with zeros.
    fn deliver_run(&mut self, shared: &mut Shared, copy: &PendingCopy, lane: usize, bytes: usize, size: usize) -> Step {
        let start = copy.to[lane] as usize;
        let data = &mut shared.bytes[start..start + size];
        let states = &mut shared.state[start..start + size];
        match &copy.read {
            Some(read) => {
                data[..bytes].copy_from_slice(&read[lane].0[..bytes]);
                states[..bytes].copy_from_slice(&read[lane].1[..bytes]);
            }
            None => self.read_source(copy, lane, &mut data[..bytes], states)?,
        }
        data[bytes..].fill(0);
        states[bytes..].fill(DEFINED);
        Ok(())
    }

    /// Reads what is at the source of a lane's copy, and beyond it as far as `data` goes.
    fn read_source(&mut self, copy: &PendingCopy, lane: usize, data: &mut [u8], states: &mut [u8]) -> Step {
        let (from, bytes) = (copy.from[lane], data.len());
        if bytes == 0 {
            return Ok(());
        }
        let Some((window, offset)) = self.window(copy.site, from, bytes as u64) else {
            return Err(self.outside(lane, from, bytes, "asynchronous copy"));
        };
        let states = &mut states[..bytes];
        // SAFETY: the range lies inside the allocation, and so does its shadow; both slices have as
        // many bytes.
        unsafe {
            load_bytes(window.data.add(offset), data.as_mut_ptr(), bytes);
            load_bytes(window.shadow.add(offset), states.as_mut_ptr(), bytes);
        }
        // What this launch wrote has its tag there.
        states.iter_mut().for_each(|state| *state &= DEFINED);
        Ok(())
    }
}
