//! How many blocks fit, by the rules of NVIDIA's occupancy calculator (`cuda_occupancy.h`).

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::launch::{LaunchConfig, PORTABLE_CLUSTER};
use super::state::{Function, current, live, lock};
use super::status::Status;
use super::{Answer, driver, driver_api, put};
use crate::config::Config;
use crate::exec::EntryInfo;

/// Registers are given to warps in units of this many.
const REGISTER_UNIT: u32 = 256;
/// Each of the four parts of a multiprocessor has a quarter of the registers.
const PARTITIONS: u32 = 4;
/// Multiprocessors that a cluster can spread over, taken as 16 on every device. Products differ by
/// one or two, and from sample to sample.
const GPC: u32 = 16;

/// Warps that the registers of one multiprocessor can hold.
fn warps_by_registers(config: &Config, registers: u32) -> u32 {
    let per_warp = (registers.max(1) * config.warp_size).next_multiple_of(REGISTER_UNIT);
    config.registers_per_sm / PARTITIONS / per_warp * PARTITIONS
}

/// The most threads that a block of this kernel can have.
pub(super) fn max_threads(config: &Config, info: &EntryInfo) -> u32 {
    let by_registers = warps_by_registers(config, info.registers) * config.warp_size;
    let declared = if info.max_threads == 0 { u32::MAX } else { info.max_threads };
    config.max_threads_per_block.min(by_registers).min(declared)
}

/// Whether a block's registers exceed what a block may have.
pub(super) fn exceeds_registers(config: &Config, info: &EntryInfo, threads: u32) -> bool {
    threads.div_ceil(config.warp_size) > warps_by_registers(config, info.registers)
}

/// Shared memory that a resident block takes.
fn shared_per_block(config: &Config, bytes: u64) -> u64 {
    let unit = if config.capability_major >= 8 { 128 } else { 256 };
    (bytes + u64::from(config.shared_reserved)).next_multiple_of(unit)
}

/// Blocks of one multiprocessor.
pub(super) fn blocks_per_sm(config: &Config, info: &EntryInfo, max_dynamic: u32, threads: u32, dynamic: u64) -> u32 {
    if threads == 0 || threads > max_threads(config, info) || dynamic > u64::from(max_dynamic) {
        return 0;
    }
    let warps = threads.div_ceil(config.warp_size);
    let by_threads = config.max_threads_per_sm / config.warp_size / warps;
    let by_registers = warps_by_registers(config, info.registers) / warps;
    let shared = shared_per_block(config, u64::from(info.static_shared) + dynamic);
    let by_shared = u64::from(config.shared_per_sm).checked_div(shared).map_or(u32::MAX, |n| n as u32);
    by_threads.min(by_registers).min(by_shared).min(config.max_blocks_per_sm)
}

/// [`blocks_per_sm`] for a function with its attributes as they are.
pub(super) fn of_function(function: &Function, threads: u32, dynamic: u64) -> u32 {
    let max_dynamic = lock(&function.settings).max_dynamic_shared;
    let config = &function.module.context.device.config;
    blocks_per_sm(config, &function.info, max_dynamic, threads, dynamic)
}

/// Clusters of `size` blocks that can be resident at once.
fn clusters(config: &Config, per_sm: u32, size: u32) -> u32 {
    let gpc = GPC.min(config.sm_count).max(1);
    config.sm_count / gpc * (gpc * per_sm / size.max(1))
}

/// The function behind a handle, with the context checked.
fn function(handle: *mut c_void) -> Answer<Arc<Function>> {
    current()?;
    live(&driver()?.functions, handle)
}

fn positive(value: c_int) -> Answer<u32> {
    u32::try_from(value).ok().filter(|value| *value > 0).ok_or(Status::INVALID_VALUE)
}

type SharedOfBlock = unsafe extern "C" fn(c_int) -> usize;

/// The block size with the most resident threads; the largest of equals, as the calculator says.
///
/// # Safety
/// `shared` may be called with any block size.
unsafe fn best_block(
    function: &Function,
    shared: Option<SharedOfBlock>,
    dynamic: usize,
    limit: c_int,
) -> Answer<(u32, u32)> {
    let config = &function.module.context.device.config;
    let most = max_threads(config, &function.info);
    let limit = if limit <= 0 { most } else { most.min(limit as u32) };
    let mut best = (0, 0, 0);
    let mut threads = limit.next_multiple_of(config.warp_size);
    while threads > 0 {
        let block = threads.min(limit);
        // SAFETY: the caller vouches for its function.
        let bytes = shared.map_or(dynamic, |shared| unsafe { shared(block as c_int) });
        let blocks = of_function(function, block, bytes as u64);
        if blocks * block > best.0 {
            best = (blocks * block, blocks, block);
        }
        if best.0 == config.max_threads_per_sm {
            break;
        }
        threads -= config.warp_size;
    }
    Ok((best.1 * config.sm_count, best.2))
}

driver_api! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(out: *mut c_int, kernel: *mut c_void, threads: c_int, dynamic: usize) {
        put(out, of_function(&*function(kernel)?, positive(threads)?, dynamic as u64) as c_int)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(out: *mut c_int, kernel: *mut c_void, threads: c_int, dynamic: usize, flags: c_uint) {
        if flags > 1 {
            return Err(Status::INVALID_VALUE);
        }
        put(out, of_function(&*function(kernel)?, positive(threads)?, dynamic as u64) as c_int)
    }

    fn cuOccupancyMaxPotentialBlockSize(grid: *mut c_int, block: *mut c_int, kernel: *mut c_void, shared: Option<SharedOfBlock>, dynamic: usize, limit: c_int) {
        let (blocks, threads) = best_block(&*function(kernel)?, shared, dynamic, limit)?;
        put(grid, blocks as c_int)?;
        put(block, threads as c_int)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(grid: *mut c_int, block: *mut c_int, kernel: *mut c_void, shared: Option<SharedOfBlock>, dynamic: usize, limit: c_int, flags: c_uint) {
        if flags > 1 {
            return Err(Status::INVALID_VALUE);
        }
        let (blocks, threads) = best_block(&*function(kernel)?, shared, dynamic, limit)?;
        put(grid, blocks as c_int)?;
        put(block, threads as c_int)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(out: *mut usize, kernel: *mut c_void, blocks: c_int, threads: c_int) {
        let function = function(kernel)?;
        let (blocks, threads) = (positive(blocks)?, positive(threads)?);
        let config = &function.module.context.device.config;
        if of_function(&function, threads, 0) < blocks {
            return Err(Status::INVALID_VALUE);
        }
        let unit = if config.capability_major >= 8 { 128 } else { 256 };
        let share = config.shared_per_sm / blocks / unit * unit;
        let own = config.shared_reserved + function.info.static_shared;
        let most = config.shared_per_block_optin.saturating_sub(function.info.static_shared);
        put(out, share.saturating_sub(own).min(most) as usize)
    }

    fn cuOccupancyMaxActiveClusters(out: *mut c_int, kernel: *mut c_void, launch: *const LaunchConfig) {
        let function = function(kernel)?;
        if launch.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let launch = launch.read_unaligned();
        let attributes = launch.attributes()?;
        let config = &function.module.context.device.config;
        let cluster = super::launch::cluster_of(&function, attributes.cluster)?;
        let size: u32 = cluster.iter().product();
        let threads = launch.block().iter().try_fold(1_u32, |all, n| all.checked_mul(*n));
        let per_sm = of_function(&function, threads.ok_or(Status::INVALID_VALUE)?, u64::from(launch.dynamic_shared));
        put(out, clusters(config, per_sm, size) as c_int)
    }

    fn cuOccupancyMaxPotentialClusterSize(out: *mut c_int, kernel: *mut c_void, launch: *const LaunchConfig) {
        let function = function(kernel)?;
        if launch.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let config = &function.module.context.device.config;
        let most = if lock(&function.settings).non_portable_cluster { config.max_cluster } else { config.max_cluster.min(PORTABLE_CLUSTER) };
        put(out, most as c_int)
    }
}
