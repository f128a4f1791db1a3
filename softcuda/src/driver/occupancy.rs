//! How many blocks fit, by the rules of NVIDIA's occupancy calculator (`cuda_occupancy.h`), and how
//! many clusters.
//!
//! Clusters have no published calculator. The model: a cluster lives in one graphics processing
//! cluster (GPC); the pairs of multiprocessors of a device are dealt out to its GPCs as evenly as
//! they go, and a GPC holds as many clusters as its multiprocessors have room for all their blocks.
//! An H100 has 8 GPCs of 16 or 18 multiprocessors, as most of them do; single devices differ.
//!
//! Not modelled: the named barriers that kernels with more than one use up.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::launch::{LaunchConfig, PORTABLE_CLUSTER};
use super::state::{Function, FunctionSettings, current, lock};
use super::status::Status;
use super::{Answer, driver_api, put};
use crate::config::Config;
use crate::exec::EntryInfo;

/// Registers are given to warps in units of this many.
const REGISTER_UNIT: u32 = 256;
/// Each of the four parts of a multiprocessor has a quarter of the registers.
const PARTITIONS: u32 = 4;

/// Sizes that the shared memory of a multiprocessor can be set to, in KiB; a device has those that
/// do not exceed what it has.
const SHARED_SIZES: [u32; 10] = [0, 8, 16, 32, 64, 100, 132, 164, 196, 228];
/// The smallest one of capability 7.
const LEAST_SHARED_7: u32 = 32;

/// Registers that one warp takes.
fn registers_per_warp(config: &Config, registers: u32) -> u32 {
    (registers.max(1) * config.warp_size).next_multiple_of(REGISTER_UNIT)
}

/// Warps of one block that registers allow: by what a block may have, which the hardware checks as
/// if all parts of the multiprocessor took the same number, and by what there are.
fn warps_by_registers(config: &Config, registers: u32) -> (u32, u32) {
    let per_warp = registers_per_warp(config, registers);
    let of_block = config.registers_per_block / per_warp / PARTITIONS * PARTITIONS;
    (of_block, config.registers_per_sm / PARTITIONS / per_warp * PARTITIONS)
}

/// The most threads that a block of this kernel can have.
pub(super) fn max_threads(config: &Config, info: &EntryInfo) -> u32 {
    let (of_block, of_sm) = warps_by_registers(config, info.registers);
    let declared = if info.max_threads == 0 { u32::MAX } else { info.max_threads };
    config.max_threads_per_block.min(of_block.min(of_sm) * config.warp_size).min(declared)
}

/// Whether a block's registers exceed what a block may have.
pub(super) fn exceeds_registers(config: &Config, info: &EntryInfo, threads: u32) -> bool {
    let (of_block, of_sm) = warps_by_registers(config, info.registers);
    threads.div_ceil(config.warp_size) > of_block.min(of_sm)
}

/// Shared memory is given to blocks in units of this many bytes.
fn shared_unit(config: &Config) -> u64 {
    if config.capability_major >= 8 { 128 } else { 256 }
}

/// Shared memory that a resident block takes.
fn shared_per_block(config: &Config, bytes: u64) -> u64 {
    (bytes + u64::from(config.shared_reserved)).next_multiple_of(shared_unit(config))
}

/// The size that the shared memory of a multiprocessor is set to, for a need of this many bytes.
fn shared_size(config: &Config, bytes: u64) -> u64 {
    let least = if config.capability_major == 7 { LEAST_SHARED_7 } else { 0 };
    let sizes = SHARED_SIZES.iter().filter(|size| **size >= least).map(|size| u64::from(*size) << 10);
    let whole = u64::from(config.shared_per_sm);
    sizes.into_iter().find(|size| *size >= bytes).unwrap_or(whole).min(whole)
}

/// The same for what a kernel prefers: its carveout, or else its cache configuration.
fn preferred_shared(config: &Config, settings: &FunctionSettings) -> u64 {
    let percent = match (u64::try_from(settings.carveout), settings.cache_config) {
        (Ok(percent), _) => percent,
        (Err(_), 2) => 0,
        (Err(_), 3) => 50,
        (Err(_), _) => 100,
    };
    shared_size(config, percent * u64::from(config.shared_per_sm) / 100)
}

/// Blocks of one multiprocessor.
pub(super) fn blocks_per_sm(
    config: &Config,
    info: &EntryInfo,
    settings: &FunctionSettings,
    threads: u32,
    dynamic: u64,
) -> u32 {
    if threads == 0 || threads > max_threads(config, info) || dynamic > u64::from(settings.max_dynamic_shared) {
        return 0;
    }
    let warps = threads.div_ceil(config.warp_size);
    let by_threads = config.max_threads_per_sm / config.warp_size / warps;
    let by_registers = warps_by_registers(config, info.registers).1 / warps;
    let shared = shared_per_block(config, u64::from(info.static_shared) + dynamic);
    // The preference counts as far as it leaves room for a block.
    let size = preferred_shared(config, settings).max(shared_size(config, shared));
    let by_shared = size.checked_div(shared).map_or(u32::MAX, |n| n as u32);
    by_threads.min(by_registers).min(by_shared).min(config.max_blocks_per_sm)
}

/// [`blocks_per_sm`] for a function with its attributes as they are.
pub(super) fn of_function(function: &Function, threads: u32, dynamic: u64) -> u32 {
    let settings = *lock(&function.settings);
    blocks_per_sm(&function.module.context.device.config, &function.info, &settings, threads, dynamic)
}

/// Multiprocessors of each GPC.
fn gpcs(config: &Config) -> impl Iterator<Item = u32> {
    let (pairs, count) = (config.sm_count.div_ceil(2), config.gpc_count.max(1));
    // The last of an odd number has no partner.
    let missing = config.sm_count % 2;
    (0..count).map(move |gpc| {
        let own = pairs / count + u32::from(gpc < pairs % count);
        2 * own - if gpc == 0 { missing } else { 0 }
    })
}

/// Clusters of `size` blocks that can be resident at once.
pub(super) fn clusters(config: &Config, per_sm: u32, size: u32) -> u32 {
    gpcs(config).map(|multiprocessors| multiprocessors * per_sm / size.max(1)).sum()
}

/// The function behind a handle, with the context checked.
fn function(handle: *mut c_void) -> Answer<Arc<Function>> {
    current()?;
    super::function::resolve(handle)
}

fn positive(value: c_int) -> Answer<u32> {
    u32::try_from(value).ok().filter(|value| *value > 0).ok_or(Status::INVALID_VALUE)
}

type SharedOfBlock = unsafe extern "C" fn(c_int) -> usize;

/// The block size of at most `limit` threads with the most resident ones, the largest of equals,
/// and how many such blocks a multiprocessor holds.
fn best(config: &Config, limit: u32, mut resident: impl FnMut(u32) -> u32) -> (u32, u32) {
    let mut best = (0, 0, 0);
    let mut threads = limit.next_multiple_of(config.warp_size);
    while threads > 0 && best.0 < config.max_threads_per_sm {
        let block = threads.min(limit);
        let blocks = resident(block);
        if blocks * block > best.0 {
            best = (blocks * block, blocks, block);
        }
        threads -= config.warp_size;
    }
    (best.1, best.2)
}

/// Blocks of the grid that fills the device, and their threads.
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
    let (blocks, threads) = best(config, limit, |block| {
        // SAFETY: the caller vouches for its function.
        let bytes = shared.map_or(dynamic, |shared| unsafe { shared(block as c_int) });
        of_function(function, block, bytes as u64)
    });
    Ok((blocks * config.sm_count, threads))
}

/// Blocks per multiprocessor of a launch.
fn per_sm(function: &Function, launch: &LaunchConfig) -> Answer<u32> {
    let threads = launch.block().iter().try_fold(1_u32, |all, n| all.checked_mul(*n));
    Ok(of_function(function, threads.ok_or(Status::INVALID_VALUE)?, u64::from(launch.dynamic_shared)))
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
        let settings = *lock(&function.settings);
        // One block gets all it may have; several share what the kernel prefers. The calculator
        // forgets what the driver reserves of each share, so that the blocks would not fit.
        let size = if blocks == 1 { u64::from(config.shared_per_sm) } else { preferred_shared(config, &settings) };
        let unit = shared_unit(config);
        let share = size / u64::from(blocks) / unit * unit;
        let own = u64::from(config.shared_reserved + function.info.static_shared);
        put(out, share.saturating_sub(own).min(u64::from(settings.max_dynamic_shared)) as usize)
    }

    fn cuOccupancyMaxActiveClusters(out: *mut c_int, kernel: *mut c_void, launch: *const LaunchConfig) {
        let function = function(kernel)?;
        if launch.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let launch = launch.read_unaligned();
        let attributes = launch.attributes()?;
        let cluster = super::launch::cluster_of(&function, attributes.cluster)?;
        let size: u32 = cluster.iter().product();
        put(out, clusters(&function.module.context.device.config, per_sm(&function, &launch)?, size) as c_int)
    }

    fn cuOccupancyMaxPotentialClusterSize(out: *mut c_int, kernel: *mut c_void, launch: *const LaunchConfig) {
        let function = function(kernel)?;
        if launch.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let config = &function.module.context.device.config;
        let non_portable = lock(&function.settings).non_portable_cluster;
        let allowed = if non_portable { config.max_cluster } else { config.max_cluster.min(PORTABLE_CLUSTER) };
        let per_sm = per_sm(&function, &launch.read_unaligned())?;
        let largest = (1..=allowed).rev().find(|size| clusters(config, per_sm, *size) > 0);
        put(out, largest.unwrap_or(0) as c_int)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Capability, registers, static shared memory, carveout, threads, dynamic shared memory; then
    /// what NVIDIA's calculator of CUDA 13.0 answers to it (with the most dynamic shared memory that
    /// a kernel can ask for allowed): blocks per multiprocessor, best grid, best block.
    const CALCULATOR: &str = include_str!("occupancy.txt");

    #[test]
    fn the_answers_are_those_of_the_calculator() {
        let mut rows = 0;
        for line in CALCULATOR.lines() {
            let row: Vec<i64> = line.split(' ').map(|field| field.parse().expect("a number")).collect();
            let [capability, registers, static_shared, carveout, threads, dynamic, blocks, grid, block] = row[..]
            else {
                panic!("{line}")
            };
            let config = Config::capability(capability as u32 / 10, capability as u32 % 10);
            let info = EntryInfo {
                name: String::new(),
                params: Vec::new(),
                param_bytes: 0,
                static_shared: static_shared as u32,
                local_bytes: 0,
                max_threads: 0,
                required_threads: None,
                min_blocks: 0,
                registers: registers as u32,
                cluster: None,
            };
            let settings = FunctionSettings {
                max_dynamic_shared: config.shared_per_block_optin - info.static_shared,
                carveout: carveout as i32,
                ..FunctionSettings::default()
            };
            let found = blocks_per_sm(&config, &info, &settings, threads as u32, dynamic as u64);
            assert_eq!(i64::from(found), blocks, "{line}");
            let resident = |block| blocks_per_sm(&config, &info, &settings, block, dynamic as u64);
            let (found_blocks, found_best) = best(&config, max_threads(&config, &info), resident);
            assert_eq!((i64::from(found_blocks * config.sm_count), i64::from(found_best)), (grid, block), "{line}");
            rows += 1;
        }
        assert_eq!(rows, 280);
    }

    #[test]
    fn multiprocessors_are_dealt_out_in_pairs() {
        let of = |major, minor| gpcs(&Config::capability(major, minor)).collect::<Vec<_>>();
        assert_eq!(of(9, 0), [18, 18, 16, 16, 16, 16, 16, 16]);
        assert_eq!(of(10, 0), [20, 20, 18, 18, 18, 18, 18, 18]);
        assert_eq!(of(12, 0).iter().sum::<u32>(), 170);
        let small = Config { sm_count: 7, gpc_count: 3, ..Config::capability(9, 0) };
        assert_eq!(gpcs(&small).collect::<Vec<_>>(), [3, 2, 2]);
        let one = Config { sm_count: 1, gpc_count: 8, ..Config::capability(9, 0) };
        assert_eq!(gpcs(&one).sum::<u32>(), 1);
    }

    #[test]
    fn clusters_stay_in_one_gpc() {
        let h100 = Config::capability(9, 0);
        for (per_sm, size, expected) in [(1, 2, 66), (1, 4, 32), (1, 8, 16), (1, 16, 8), (2, 16, 16), (0, 2, 0)] {
            assert_eq!(clusters(&h100, per_sm, size), expected, "{per_sm} per multiprocessor, {size} in a cluster");
        }
    }
}
