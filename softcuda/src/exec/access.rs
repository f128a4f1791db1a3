//! Loads and stores.
//!
//! A warp whose lanes touch consecutive addresses needs one bounds check and one copy; otherwise
//! lanes go one by one. Global memory is here, the memory of a block and its threads in
//! [`shared`](super::shared).

#![allow(clippy::needless_range_loop, reason = "loops over lanes, in the form that vectorises")]

use crate::fault::FaultKind;
use crate::lower::op::{Access, NONE};
use crate::memory::{DEFINED, Window, fill_bytes, load_bytes, scan_shadow, store_bytes};
use crate::ptx::Space;

use super::cluster::Cluster;
use super::races::{Act, Touch};
use super::registers::{LANES, Lanes64};
use super::staging::{gather, spread};
use super::state::{Problem, Step, Warp, Worker};
use super::traffic::Kind;
use super::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};

const WINDOW_BITS: u32 = 48;

pub(super) fn lanes_of(mask: u32) -> impl Iterator<Item = usize> {
    (0..LANES).filter(move |lane| mask >> lane & 1 != 0)
}

pub(super) fn first_lane(mask: u32) -> usize {
    mask.trailing_zeros() as usize & 31
}

/// Whether the set lanes are consecutive.
pub(super) fn consecutive(mask: u32) -> bool {
    let shifted = mask >> mask.trailing_zeros();
    shifted & shifted.wrapping_add(1) == 0
}

/// The address of each lane.
#[inline(always)]
pub(super) fn addresses(warp: &Warp, access: &Access, mask: u32) -> Step<Lanes64> {
    let mut result = [access.offset as u64; LANES];
    if access.base == NONE {
        return Ok(result);
    }
    let undefined = mask & !warp.r.defined(access.base);
    if undefined != 0 {
        let lane = first_lane(undefined);
        let detail = "the address depends on uninitialised data".to_owned();
        return Err(Problem::new(FaultKind::Uninitialised, lane, 0, detail));
    }
    let offset = access.offset as u64;
    if access.base_wide {
        let base = warp.r.get64(access.base);
        for lane in 0..LANES {
            result[lane] = base[lane].wrapping_add(offset);
        }
    } else {
        let base = warp.r.get32(access.base);
        for lane in 0..LANES {
            result[lane] = u64::from(base[lane].wrapping_add(offset as u32));
        }
    }
    Ok(result)
}

/// Whether each lane's address follows on that of the lane before.
#[inline(always)]
pub(super) fn contiguous(addresses: &Lanes64, mask: u32, bytes: u64) -> bool {
    let first = first_lane(mask);
    let start = addresses[first].wrapping_sub(first as u64 * bytes);
    let mut differs = 0;
    for lane in 0..LANES {
        let expected = start.wrapping_add(lane as u64 * bytes);
        let counts = u64::from(mask >> lane & 1).wrapping_neg();
        differs |= (addresses[lane] ^ expected) & counts;
    }
    differs == 0
}

#[cold]
pub(super) fn misaligned(lane: usize, address: u64, bytes: usize, what: &str) -> Box<Problem> {
    let detail = format!("{what} of {bytes} bytes at {address:#x}, which is not aligned to {bytes}");
    Problem::new(FaultKind::Misaligned, lane, address, detail)
}

impl Worker<'_> {
    /// The allocation that a range lies in.
    #[inline(always)]
    pub(super) fn window(&mut self, site: u32, address: u64, bytes: u64) -> Option<(Window, usize)> {
        let index = self.sites[site as usize] as usize;
        if let Some(window) = self.windows.get(index)
            && let Some(offset) = window.offset_of(address, bytes)
        {
            return Some((*window, offset));
        }
        self.find_window(site, address, bytes)
    }

    #[inline(never)]
    fn find_window(&mut self, site: u32, address: u64, bytes: u64) -> Option<(Window, usize)> {
        let after = self.windows.partition_point(|window| window.base <= address);
        let index = after.checked_sub(1)?;
        let window = self.windows[index];
        let offset = window.offset_of(address, bytes)?;
        self.sites[site as usize] = index as u32;
        Some((window, offset))
    }

    /// Whether an address is in constant memory.
    pub(super) fn is_constant(&self, address: u64) -> bool {
        let after = self.windows.partition_point(|window| window.base <= address);
        let window = after.checked_sub(1).map(|index| &self.windows[index]);
        window.is_some_and(|window| window.read_only && window.offset_of(address, 1).is_some())
    }

    #[cold]
    pub(super) fn outside(&self, lane: usize, address: u64, bytes: usize, what: &str) -> Box<Problem> {
        let (kind, detail) = self.launch.memory.explain(address, bytes as u64, what);
        Problem::new(kind, lane, address, detail)
    }

    /// Reads global or constant memory into the staging buffer.
    #[inline(always)]
    fn fetch_global(&mut self, at: &Lanes64, mask: u32, bytes: usize, access: &Access, count: bool) -> Step {
        let first = first_lane(mask);
        let start = at[first];
        if contiguous(at, mask, bytes as u64) {
            if start & (bytes as u64 - 1) != 0 {
                return Err(misaligned(first, start, bytes, "read"));
            }
            let last = 31 - mask.leading_zeros() as usize;
            let length = (last - first + 1) * bytes;
            if let Some((window, offset)) = self.window(access.site, start, length as u64) {
                // SAFETY: the range lies inside the allocation, which the launch's snapshot keeps,
                // and the staging buffer holds 32 bytes for each lane.
                unsafe {
                    let to = self.staging.bytes.as_mut_ptr().add(first * bytes);
                    load_bytes(window.data.add(offset), to, length);
                }
                self.check_shadow(&window, offset, first * bytes, length, access, first, start)?;
                if count {
                    let run = consecutive(mask);
                    let touched = if run { sectors_of_run(start, length as u64) } else { sectors(at, mask, bytes) };
                    self.count_read(at, mask, bytes, touched);
                }
                return Ok(());
            }
        }
        self.gather_global(at, mask, bytes, access)?;
        if count {
            self.count_read(at, mask, bytes, sectors(at, mask, bytes));
        }
        Ok(())
    }

    #[inline(always)]
    fn count_read(&mut self, at: &Lanes64, mask: u32, bytes: usize, touched: u64) {
        self.count_read_request(u64::from(mask.count_ones()) * bytes as u64, touched);
        self.trace(Kind::Read, at, mask, bytes);
    }

    /// Counts a read request to global memory and the sectors that it touched.
    #[inline(always)]
    pub(super) fn count_read_request(&mut self, bytes: u64, touched: u64) {
        self.counters.global_read_requests += 1;
        self.counters.global_read_bytes += bytes;
        self.counters.global_read_sectors += touched;
        self.counters.global_read_sectors_least += least_sectors(bytes, touched);
    }

    /// Counts a write request to global memory and the sectors that it touched.
    #[inline(always)]
    pub(super) fn count_write_request(&mut self, bytes: u64, touched: u64) {
        self.counters.global_write_requests += 1;
        self.counters.global_write_bytes += bytes;
        self.counters.global_write_sectors += touched;
        self.counters.global_write_sectors_least += least_sectors(bytes, touched);
    }

    fn gather_global(&mut self, at: &Lanes64, mask: u32, bytes: usize, access: &Access) -> Step {
        for lane in lanes_of(mask) {
            let address = at[lane];
            if address & (bytes as u64 - 1) != 0 {
                return Err(misaligned(lane, address, bytes, "read"));
            }
            let Some((window, offset)) = self.window(access.site, address, bytes as u64) else {
                return Err(self.outside(lane, address, bytes, "read"));
            };
            // SAFETY: as in `fetch_global`.
            unsafe {
                let to = self.staging.bytes.as_mut_ptr().add(lane * bytes);
                load_bytes(window.data.add(offset), to, bytes);
            }
            self.check_shadow(&window, offset, lane * bytes, bytes, access, lane, address)?;
        }
        Ok(())
    }

    /// Notes undefined bytes in the staging buffer, and refuses read-only loads of bytes that this
    /// launch wrote.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "one range in three coordinate systems")]
    fn check_shadow(
        &mut self,
        window: &Window,
        offset: usize,
        staged: usize,
        length: usize,
        access: &Access,
        lane: usize,
        address: u64,
    ) -> Step {
        let tag = if access.read_only { self.launch.tag | DEFINED } else { 0 };
        // SAFETY: there is a shadow byte for each byte of the allocation.
        let (all, written) = unsafe { scan_shadow(window.shadow.add(offset), length, tag) };
        if access.read_only && written {
            let detail = format!(
                "{length} bytes at {address:#x} hold some that this launch wrote; the \
                 read-only path (ld.global.nc) need not see them"
            );
            return Err(Problem::new(FaultKind::ReadOnlyViolation, lane, address, detail));
        }
        if !all {
            let mut states = [0; 32 * LANES];
            // SAFETY: as above; a range is at most 32 bytes for each lane.
            unsafe { load_bytes(window.shadow.add(offset), states.as_mut_ptr(), length) };
            self.staging.note(staged, &states[..length]);
        }
        Ok(())
    }

    /// Writes the staging buffer to global memory.
    #[inline(always)]
    fn deposit_global(&mut self, at: &Lanes64, mask: u32, bytes: usize, access: &Access) -> Step {
        let first = first_lane(mask);
        let start = at[first];
        self.progress += 1;
        let run = consecutive(mask) && contiguous(at, mask, bytes as u64);
        let length = mask.count_ones() as usize * bytes;
        self.trace(Kind::Write, at, mask, bytes);
        if run {
            if start & (bytes as u64 - 1) != 0 {
                return Err(misaligned(first, start, bytes, "write"));
            }
            if let Some((window, offset)) = self.window(access.site, start, length as u64) {
                self.store_run(&window, offset, first * bytes, length, first, start)?;
                if self.staging.unchanged != 0 {
                    self.staging.unchanged = mask;
                }
                self.count_write_request(length as u64, sectors_of_run(start, length as u64));
                return Ok(());
            }
        }
        for lane in lanes_of(mask) {
            let address = at[lane];
            if address & (bytes as u64 - 1) != 0 {
                return Err(misaligned(lane, address, bytes, "write"));
            }
            let Some((window, offset)) = self.window(access.site, address, bytes as u64) else {
                return Err(self.outside(lane, address, bytes, "write"));
            };
            self.store_run(&window, offset, lane * bytes, bytes, lane, address)?;
        }
        self.count_write_request(length as u64, sectors(at, mask, bytes));
        Ok(())
    }

    #[inline(always)]
    fn store_run(
        &mut self,
        window: &Window,
        offset: usize,
        staged: usize,
        length: usize,
        lane: usize,
        address: u64,
    ) -> Step {
        if window.read_only {
            let detail = format!("write of {length} bytes at {address:#x}, which is constant");
            return Err(Problem::new(FaultKind::WriteToReadOnly, lane, address, detail));
        }
        if self.launch.config.seed != 0 {
            let mut before = [0; 32 * LANES];
            // SAFETY: the range lies inside the allocation, which the launch's snapshot keeps, and is
            // no longer than what all lanes store at once.
            unsafe { load_bytes(window.data.add(offset), before.as_mut_ptr(), length) };
            let same = before[..length] == self.staging.bytes[staged..staged + length];
            self.staging.unchanged |= u32::from(same) << lane;
        }
        // SAFETY: the range lies inside the allocation, which the launch's snapshot keeps; the
        // staging buffer holds the bytes.
        unsafe {
            let from = self.staging.bytes.as_ptr().add(staged);
            store_bytes(window.data.add(offset), from, length);
            fill_bytes(window.shadow.add(offset), DEFINED | self.launch.tag, length);
        }
        window.mark_written(offset, length);
        Ok(())
    }
}

/// Sectors of consecutive bytes.
#[inline(always)]
pub(super) fn sectors_of_run(start: u64, bytes: u64) -> u64 {
    (start + bytes).div_ceil(32) - start / 32
}

/// Sectors that a request for so many bytes touches at least. Lanes that share bytes touch fewer.
#[inline(always)]
pub(super) fn least_sectors(bytes: u64, touched: u64) -> u64 {
    bytes.div_ceil(32).min(touched)
}

/// Distinct 32-byte sectors that the lanes touch.
#[inline(never)]
pub(super) fn sectors(at: &Lanes64, mask: u32, bytes: usize) -> u64 {
    let mut seen = [0u64; LANES];
    let mut count = 0;
    for lane in lanes_of(mask) {
        // Accesses are aligned and no larger than a sector, so each lane touches one.
        let sector = at[lane] / 32;
        debug_assert!(bytes <= 32);
        if !seen[..count].iter().rev().any(|&other| other == sector) {
            seen[count] = sector;
            count += 1;
        }
    }
    count as u64
}

impl Worker<'_> {
    /// A load.
    #[inline(always)]
    pub(super) fn load(&mut self, cluster: &Cluster, warp: &mut Warp, access: &Access, mask: u32) -> Step {
        let at = addresses(warp, access, mask)?;
        let bytes = usize::from(access.size) * usize::from(access.count);
        self.staging.partial = false;
        self.polls += u32::from(access.strong);
        let touch = Touch::of(access, Act::Read);
        match access.space {
            Some(Space::Global) => {
                self.fetch_global(&at, mask, bytes, access, true)?;
                self.race_global(cluster.own(), warp, &at, mask, bytes, touch)?;
            }
            Some(Space::Shared) => {
                let own = cluster.own();
                if let Err(problem) = self.fetch_shared(own, &at, mask, bytes) {
                    let offsets = cluster.in_own(&at, mask, problem)?;
                    self.fetch_shared(own, &offsets, mask, bytes)?;
                    self.race_shared(own, own, warp, &offsets, mask, bytes, touch)?;
                } else {
                    self.race_shared(own, own, warp, &at, mask, bytes, touch)?;
                }
            }
            Some(Space::Param) if access.base == NONE => {
                return self.load_param(warp, access, mask, bytes);
            }
            Some(Space::Param) => self.fetch_params(&at, mask, bytes)?,
            Some(Space::Const) => self.fetch_global(&at, mask, bytes, access, false)?,
            Some(Space::Cluster) => self.fetch_cluster(cluster, warp, &at, mask, bytes, touch)?,
            Some(Space::Local) => self.fetch_local(warp, &at, mask, bytes)?,
            _ => self.fetch_generic(cluster, warp, access, &at, mask, bytes)?,
        }
        spread(&self.staging, warp, access, mask);
        Ok(())
    }

    /// A parameter at a constant offset is the same for all lanes.
    #[inline(never)]
    fn load_param(&mut self, warp: &mut Warp, access: &Access, mask: u32, bytes: usize) -> Step {
        let first = first_lane(mask);
        self.fetch_params(&[access.offset as u64; LANES], 1 << first, bytes)?;
        let (before, from) = self.staging.bytes.split_at_mut(first * bytes);
        let (from, after) = from.split_at_mut(bytes);
        for copy in before.chunks_exact_mut(bytes).chain(after.chunks_exact_mut(bytes)) {
            copy.copy_from_slice(from);
        }
        spread(&self.staging, warp, access, mask);
        Ok(())
    }

    fn fetch_generic(
        &mut self,
        cluster: &Cluster,
        warp: &mut Warp,
        access: &Access,
        at: &Lanes64,
        mask: u32,
        bytes: usize,
    ) -> Step {
        let touch = Touch::of(access, Act::Read);
        for (window, lanes) in spaces(at, mask) {
            let offsets = at.map(|address| address.wrapping_sub(window));
            match window {
                0 => {
                    self.fetch_global(at, lanes, bytes, access, true)?;
                    self.race_global(cluster.own(), warp, at, lanes, bytes, touch)?;
                }
                SHARED_WINDOW => self.fetch_cluster(cluster, warp, &offsets, lanes, bytes, touch)?,
                LOCAL_WINDOW => self.fetch_local(warp, &offsets, lanes, bytes)?,
                _ => self.fetch_params(&offsets, lanes, bytes)?,
            }
        }
        Ok(())
    }

    /// A store.
    #[inline(always)]
    pub(super) fn store(&mut self, cluster: &mut Cluster, warp: &mut Warp, access: &Access, mask: u32) -> Step {
        let at = addresses(warp, access, mask)?;
        let bytes = usize::from(access.size) * usize::from(access.count);
        (self.staging.partial, self.staging.unchanged) = (false, 0);
        gather(&mut self.staging, warp, access, mask);
        let touch = Touch::of(access, Act::Write);
        match access.space {
            Some(Space::Global) => {
                self.must_be_defined(&at, mask, bytes)?;
                self.deposit_global(&at, mask, bytes, access)?;
                self.race_global(cluster.own(), warp, &at, mask, bytes, touch)
            }
            Some(Space::Shared) => match self.deposit_shared(cluster.own_mut(), &at, mask, bytes) {
                Ok(()) => self.race_shared(cluster.own(), cluster.own(), warp, &at, mask, bytes, touch),
                Err(problem) => {
                    let offsets = cluster.in_own(&at, mask, problem)?;
                    self.deposit_shared(cluster.own_mut(), &offsets, mask, bytes)?;
                    self.race_shared(cluster.own(), cluster.own(), warp, &offsets, mask, bytes, touch)
                }
            },
            Some(Space::Cluster) => self.deposit_cluster(cluster, warp, &at, mask, bytes, touch),
            Some(Space::Local) => self.deposit_local(warp, &at, mask, bytes),
            None => {
                for (window, lanes) in spaces(&at, mask) {
                    let offsets = at.map(|address| address.wrapping_sub(window));
                    match window {
                        0 => {
                            self.must_be_defined(&at, lanes, bytes)?;
                            self.deposit_global(&at, lanes, bytes, access)?;
                            self.race_global(cluster.own(), warp, &at, lanes, bytes, touch)?;
                        }
                        SHARED_WINDOW => self.deposit_cluster(cluster, warp, &offsets, lanes, bytes, touch)?,
                        LOCAL_WINDOW => self.deposit_local(warp, &offsets, lanes, bytes)?,
                        _ => return Err(read_only(first_lane(lanes), at[first_lane(lanes)])),
                    }
                }
                Ok(())
            }
            Some(_) => Err(read_only(first_lane(mask), at[first_lane(mask)])),
        }
    }

    /// What is stored to global memory leaves the block: it must be defined.
    #[inline(always)]
    fn must_be_defined(&self, at: &Lanes64, mask: u32, bytes: usize) -> Step {
        if !self.staging.partial {
            return Ok(());
        }
        for lane in lanes_of(mask) {
            let states = &self.staging.defined[lane * bytes..(lane + 1) * bytes];
            if states.iter().any(|state| state & DEFINED == 0) {
                let detail =
                    format!("what is stored in {bytes} bytes at {:#x} depends on uninitialised data", at[lane]);
                return Err(Problem::new(FaultKind::Uninitialised, lane, at[lane], detail));
            }
        }
        Ok(())
    }
}

#[cold]
fn read_only(lane: usize, address: u64) -> Box<Problem> {
    let detail = format!("write at {address:#x}, which is constant");
    Problem::new(FaultKind::WriteToReadOnly, lane, address, detail)
}

/// The spaces that generic addresses lie in: the base of each window (0 for global memory) and the
/// lanes that address it.
pub(super) fn spaces(at: &Lanes64, mask: u32) -> impl Iterator<Item = (u64, u32)> + use<> {
    let mut lanes = [0u32; 4];
    for lane in lanes_of(mask) {
        let space = match at[lane] >> WINDOW_BITS << WINDOW_BITS {
            SHARED_WINDOW => 1,
            LOCAL_WINDOW => 2,
            PARAM_WINDOW => 3,
            _ => 0,
        };
        lanes[space] |= 1 << lane;
    }
    [0, SHARED_WINDOW, LOCAL_WINDOW, PARAM_WINDOW].into_iter().zip(lanes).filter(|&(_, lanes)| lanes != 0)
}
