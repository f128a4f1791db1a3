//! `cp.async`: copies from global to shared memory that complete when they are waited for.
//!
//! A copy may complete at any time between its issue and the end of a wait for it. Here its
//! destination is unusable from the issue on and gets its bytes, read as late as possible, at the
//! wait: whoever does not wait, or waits for too few groups, is found out.

use crate::fault::FaultKind;
use crate::lower::op::{CpAsync, NONE};
use crate::memory::{DEFINED, load_bytes};

use super::access::{addresses, lanes_of, sectors};
use super::registers::LANES;
use super::state::{Copies, PENDING, PendingCopy, Problem, Shared, Step, Warp, Worker};

impl Worker<'_> {
    /// Issues a copy for each lane.
    #[inline(never)]
    pub(super) fn copy_async(&mut self, shared: &mut Shared, warp: &mut Warp, copy: &CpAsync, mask: u32) -> Step {
        let size = usize::from(copy.to.size);
        let (to, from) = (addresses(warp, &copy.to, mask)?, addresses(warp, &copy.from, mask)?);
        let unknown = |what: &str, lanes: u32| {
            let detail = format!("the {what} of the copy depends on uninitialised data");
            Problem::new(FaultKind::Uninitialised, lanes.trailing_zeros() as usize, 0, detail)
        };
        let undefined = mask & !warp.r.predicate_defined(copy.ignore);
        if undefined != 0 {
            return Err(unknown("predicate", undefined));
        }
        if copy.bytes != NONE && mask & !warp.r.defined(copy.bytes) != 0 {
            return Err(unknown("size", mask & !warp.r.defined(copy.bytes)));
        }
        let ignored = warp.r.predicate(copy.ignore);
        warp.copies.resize_with(LANES, Copies::default);
        let mut reading = 0;
        for lane in lanes_of(mask) {
            let bytes = match copy.bytes {
                _ if ignored >> lane & 1 != 0 => 0,
                NONE => size,
                reg => (warp.r.get32(reg)[lane] as usize).min(size),
            };
            for (address, what) in [(to[lane], "destination"), (from[lane], "source")] {
                if address % size as u64 != 0 && (what == "destination" || bytes != 0) {
                    let detail = format!(
                        "asynchronous copy of {size} bytes, whose {what} {address:#x} is not \
                         aligned to {size}"
                    );
                    return Err(Problem::new(FaultKind::Misaligned, lane, address, detail));
                }
            }
            if bytes != 0 {
                reading |= 1 << lane;
                if self.window(copy.from.site, from[lane], bytes as u64).is_none() {
                    return Err(self.outside(lane, from[lane], bytes, "asynchronous copy"));
                }
            }
            let total = shared.bytes.len() as u64;
            if to[lane].saturating_add(size as u64) > total {
                let detail = format!(
                    "asynchronous copy of {size} bytes to offset {:#x} of shared memory, which \
                     has {total} bytes",
                    to[lane]
                );
                return Err(Problem::new(FaultKind::OutOfBounds, lane, to[lane], detail));
            }
            let start = to[lane] as usize;
            let states = &mut shared.state[start..start + size];
            if states.contains(&PENDING) {
                let detail = format!(
                    "two asynchronous copies to offset {start:#x} of shared memory with no wait \
                     between them"
                );
                return Err(Problem::new(FaultKind::MissingWait, lane, to[lane], detail));
            }
            states.fill(PENDING);
            warp.copies[lane].open.push(PendingCopy {
                to: to[lane] as u32,
                from: from[lane],
                bytes: bytes as u8,
                size: size as u8,
            });
            self.counters.global_read_bytes += bytes as u64;
        }
        self.counters.global_read_requests += u64::from(reading != 0);
        self.counters.global_read_sectors += sectors(&from, reading, size);
        self.counters.shared_requests += 1;
        self.counters.shared_wavefronts += (size as u64).div_ceil(4);
        self.counters.shared_write_bytes += u64::from(mask.count_ones()) * size as u64;
        Ok(())
    }

    /// Closes the group of copies issued so far.
    pub(super) fn commit_copies(&mut self, warp: &mut Warp, mask: u32) {
        warp.copies.resize_with(LANES, Copies::default);
        for lane in lanes_of(mask) {
            let copies = &mut warp.copies[lane];
            let open = std::mem::take(&mut copies.open);
            copies.groups.push_back(open);
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
        if warp.copies.is_empty() {
            return Ok(());
        }
        for lane in lanes_of(mask) {
            let keep = pending.unwrap_or(0) as usize;
            while warp.copies[lane].groups.len() > keep {
                let group = warp.copies[lane].groups.pop_front().unwrap_or_default();
                self.deliver(shared, &group, lane)?;
            }
            if pending.is_none() {
                let open = std::mem::take(&mut warp.copies[lane].open);
                self.deliver(shared, &open, lane)?;
            }
        }
        Ok(())
    }

    fn deliver(&mut self, shared: &mut Shared, group: &[PendingCopy], lane: usize) -> Step {
        for copy in group {
            let (start, size) = (copy.to as usize, usize::from(copy.size));
            let bytes = usize::from(copy.bytes);
            let (mut data, mut states) = ([0; 16], [DEFINED; 16]);
            if bytes != 0 {
                let after = self.windows.partition_point(|window| window.base <= copy.from);
                let window = after.checked_sub(1).map(|index| self.windows[index]);
                let found = window.and_then(|w| Some((w, w.offset_of(copy.from, bytes as u64)?)));
                let Some((window, offset)) = found else {
                    return Err(self.outside(lane, copy.from, bytes, "asynchronous copy"));
                };
                // SAFETY: the range lies inside the allocation; a copy has at most 16 bytes.
                unsafe {
                    load_bytes(window.data.add(offset), data.as_mut_ptr(), bytes);
                    load_bytes(window.shadow.add(offset), states.as_mut_ptr(), bytes);
                }
            }
            shared.bytes[start..start + size].copy_from_slice(&data[..size]);
            for (state, from) in shared.state[start..start + size].iter_mut().zip(states) {
                *state = from & DEFINED;
            }
        }
        Ok(())
    }
}
