//! Shared and local memory, and kernel parameters.

use crate::fault::FaultKind;
use crate::memory::DEFINED;

use super::access::{consecutive, contiguous, first_lane, lanes_of, misaligned};
use super::banks::{parts, wavefronts};
use super::registers::Lanes64;
use super::state::{BUSY, MBARRIER, PENDING, Problem, Shared, Step, WRITTEN, Warp, Worker};

impl Shared {
    /// `fence.proxy.async`: what was written before may be read by asynchronous copies.
    pub(super) fn fence_proxy(&mut self) {
        self.state.iter_mut().for_each(|state| *state &= !WRITTEN);
    }

    /// Checks that lanes may touch shared memory, and counts the request. Returns the whole range
    /// if the lanes are contiguous.
    #[inline(always)]
    pub(super) fn check(&self, at: &Lanes64, mask: u32, bytes: usize, what: &str) -> Step<Option<(usize, usize)>> {
        let size = self.bytes.len();
        let first = first_lane(mask);
        if contiguous(at, mask, bytes as u64) {
            let last = 31 - mask.leading_zeros() as usize;
            let (start, end) = (at[first], at[last].wrapping_add(bytes as u64));
            if start & (bytes as u64 - 1) == 0 && start < end && end <= size as u64 {
                return Ok(Some((start as usize, (end - start) as usize)));
            }
        }
        for lane in lanes_of(mask) {
            let address = at[lane];
            if address & (bytes as u64 - 1) != 0 {
                return Err(misaligned(lane, address, bytes, what));
            }
            if address >= size as u64 || size as u64 - address < bytes as u64 {
                return Err(beyond(lane, address, bytes, what, size, "shared"));
            }
        }
        Ok(None)
    }
}

impl Worker<'_> {
    /// Counts a request, which takes `passes` over the banks.
    #[inline(always)]
    pub(super) fn count_shared(&mut self, passes: u64, mask: u32, bytes: usize, write: bool) {
        let total = u64::from(mask.count_ones()) * bytes as u64;
        self.counters.shared_requests += 1;
        self.counters.shared_wavefronts += passes;
        self.counters.shared_bank_conflicts += passes - parts(mask, bytes);
        if write {
            self.counters.shared_write_bytes += total;
        } else {
            self.counters.shared_read_bytes += total;
        }
    }

    #[inline(always)]
    pub(super) fn fetch_shared(&mut self, shared: &Shared, at: &Lanes64, mask: u32, bytes: usize) -> Step {
        let run = shared.check(at, mask, bytes, "read")?;
        let passes = if run.is_some() { parts(mask, bytes) } else { wavefronts(at, mask, bytes) };
        self.count_shared(passes, mask, bytes, false);
        if let Some((start, length)) = run {
            let staged = first_lane(mask) * bytes;
            self.staging.bytes[staged..staged + length].copy_from_slice(&shared.bytes[start..start + length]);
            let states = &shared.state[start..start + length];
            if states.iter().fold(DEFINED, |all, state| all & state) != DEFINED {
                self.not_defined(shared, at, mask, bytes)?;
            }
            return Ok(());
        }
        let mut all = DEFINED;
        for lane in lanes_of(mask) {
            let (start, staged) = (at[lane] as usize, lane * bytes);
            let (from, to) = (&shared.bytes[start..], &mut self.staging.bytes[staged..]);
            match bytes {
                4 => to[..4].copy_from_slice(&from[..4]),
                _ => to[..bytes].copy_from_slice(&from[..bytes]),
            }
            all = shared.state[start..start + bytes].iter().fold(all, |all, state| all & state);
        }
        if all != DEFINED {
            self.not_defined(shared, at, mask, bytes)?;
        }
        Ok(())
    }

    /// Notes the bytes of shared memory that are undefined, and refuses those that an asynchronous
    /// copy has not delivered.
    #[cold]
    #[inline(never)]
    fn not_defined(&mut self, shared: &Shared, at: &Lanes64, mask: u32, bytes: usize) -> Step {
        for lane in lanes_of(mask) {
            let start = at[lane] as usize;
            let states = &shared.state[start..start + bytes];
            if states.iter().any(|state| state & PENDING != 0) {
                return Err(in_flight(states, lane, at[lane], bytes, "read"));
            }
            self.staging.note(lane * bytes, states);
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn deposit_shared(&mut self, shared: &mut Shared, at: &Lanes64, mask: u32, bytes: usize) -> Step {
        self.progress += 1;
        let run = shared.check(at, mask, bytes, "write")?;
        let passes = if run.is_some() { parts(mask, bytes) } else { wavefronts(at, mask, bytes) };
        self.count_shared(passes, mask, bytes, true);
        if self.launch.config.seed != 0 {
            let value = |lane: usize| &self.staging.bytes[lane * bytes..(lane + 1) * bytes];
            let same = |&lane: &usize| shared.bytes[at[lane] as usize..][..bytes] == *value(lane);
            self.staging.unchanged = lanes_of(mask).filter(same).fold(0, |lanes, lane| lanes | 1 << lane);
        }
        if let (Some((start, length)), true) = (run, consecutive(mask) && !self.staging.partial) {
            let states = &mut shared.state[start..start + length];
            if states.iter().fold(0, |any, state| any | state) & BUSY == 0 {
                let staged = first_lane(mask) * bytes;
                states.fill(DEFINED | WRITTEN);
                shared.bytes[start..start + length].copy_from_slice(&self.staging.bytes[staged..staged + length]);
                return Ok(());
            }
        }
        for lane in lanes_of(mask) {
            let start = at[lane] as usize;
            let states = &mut shared.state[start..start + bytes];
            if states.iter().fold(0, |any, state| any | state) & BUSY != 0 {
                return Err(in_flight(states, lane, at[lane], bytes, "write"));
            }
            let staged = lane * bytes;
            shared.bytes[start..start + bytes].copy_from_slice(&self.staging.bytes[staged..staged + bytes]);
            if self.staging.partial {
                states.copy_from_slice(&self.staging.defined[staged..staged + bytes]);
            } else {
                states.fill(DEFINED | WRITTEN);
            }
        }
        Ok(())
    }

    pub(super) fn fetch_local(&mut self, warp: &Warp, at: &Lanes64, mask: u32, bytes: usize) -> Step {
        let size = self.launch.entry.local_bytes as usize;
        for lane in lanes_of(mask) {
            let start = local_place(at[lane], lane, bytes, size, "read")?;
            self.staging.bytes[lane * bytes..(lane + 1) * bytes].copy_from_slice(&warp.local[start..start + bytes]);
            let states = &warp.local_defined[start..start + bytes];
            if states.iter().any(|&state| state != DEFINED) {
                self.staging.note(lane * bytes, states);
            }
        }
        Ok(())
    }

    pub(super) fn deposit_local(&mut self, warp: &mut Warp, at: &Lanes64, mask: u32, bytes: usize) -> Step {
        let size = self.launch.entry.local_bytes as usize;
        for lane in lanes_of(mask) {
            let start = local_place(at[lane], lane, bytes, size, "write")?;
            let staged = lane * bytes;
            warp.local[start..start + bytes].copy_from_slice(&self.staging.bytes[staged..staged + bytes]);
            let states = &mut warp.local_defined[start..start + bytes];
            if self.staging.partial {
                states.copy_from_slice(&self.staging.defined[staged..staged + bytes]);
            } else {
                states.fill(DEFINED);
            }
        }
        Ok(())
    }

    pub(super) fn fetch_params(&mut self, at: &Lanes64, mask: u32, bytes: usize) -> Step {
        let params = self.launch.params;
        for lane in lanes_of(mask) {
            let address = at[lane];
            if address & (bytes as u64 - 1) != 0 {
                return Err(misaligned(lane, address, bytes, "read"));
            }
            let end = address.saturating_add(bytes as u64);
            if end > params.len() as u64 {
                return Err(beyond(lane, address, bytes, "read", params.len(), "parameter"));
            }
            self.staging.bytes[lane * bytes..(lane + 1) * bytes]
                .copy_from_slice(&params[address as usize..end as usize]);
        }
        Ok(())
    }
}

#[cold]
fn beyond(lane: usize, address: u64, bytes: usize, what: &str, size: usize, space: &str) -> Box<Problem> {
    let detail = format!("{what} of {bytes} bytes at offset {address:#x} of {space} memory, which has {size} bytes");
    Problem::new(FaultKind::OutOfBounds, lane, address, detail)
}

/// Why bytes in these states cannot be read or written.
#[cold]
pub(super) fn in_flight(states: &[u8], lane: usize, address: u64, bytes: usize, what: &str) -> Box<Problem> {
    let any = states.iter().fold(0, |any, state| any | state);
    let (kind, why) = if any & MBARRIER != 0 {
        (FaultKind::BadMbarrier, "holds an mbarrier")
    } else if any & PENDING != 0 {
        (FaultKind::MissingWait, "an asynchronous copy that was not waited for will write")
    } else {
        (FaultKind::MissingWait, "an asynchronous copy that was not waited for may still read")
    };
    let detail = format!("{what} of {bytes} bytes at offset {address:#x} of shared memory, which {why}");
    Problem::new(kind, lane, address, detail)
}

fn local_place(address: u64, lane: usize, bytes: usize, size: usize, what: &str) -> Step<usize> {
    if address & (bytes as u64 - 1) != 0 {
        return Err(misaligned(lane, address, bytes, what));
    }
    if address.saturating_add(bytes as u64) > size as u64 {
        return Err(beyond(lane, address, bytes, what, size, "local"));
    }
    Ok(lane * size + address as usize)
}
