//! Occupancy, against the tables of NVIDIA's programming and tuning guides.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use cudarc::driver::CudaFunction;
use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute};
use driver_support::{NOTHING, device, kernel};
use softcuda::{Config, Gpu};

/// A kernel of few registers, allowed all the shared memory the device has.
fn light(major: u32, minor: u32) -> (Gpu, CudaFunction) {
    let (gpu, context) = device(Config::capability(major, minor));
    let function = kernel(&context, NOTHING, "nothing");
    let most = gpu.config().unwrap().shared_per_block_optin as i32;
    function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most).unwrap();
    (gpu, function)
}

#[test]
fn blocks_are_limited_by_threads_blocks_and_shared_memory() {
    const KIB: usize = 1024;
    // Capability, threads of a block, dynamic shared memory, resident blocks.
    let table = [
        // Threads: 1024 on 7.5, 2048 on 8.0, 9.0 and 10.0, 1536 on 8.6, 8.9 and 12.0.
        ((7, 5), 256, 0, 4),
        ((8, 0), 256, 0, 8),
        ((8, 6), 256, 0, 6),
        ((8, 9), 512, 0, 3),
        ((9, 0), 1024, 0, 2),
        ((10, 0), 1024, 0, 2),
        ((12, 0), 1024, 0, 1),
        // Warps, not threads: 33 threads take two.
        ((8, 0), 65, 0, 21),
        // Blocks.
        ((7, 5), 32, 0, 16),
        ((8, 0), 32, 0, 32),
        ((8, 6), 32, 0, 16),
        ((8, 9), 32, 0, 24),
        ((9, 0), 32, 0, 32),
        ((12, 0), 32, 0, 24),
        // Shared memory, of which each block loses 1 KiB to the system from 8.0 on.
        ((7, 5), 32, 32 * KIB, 2),
        ((7, 5), 32, 64 * KIB, 1),
        ((8, 0), 32, 163 * KIB, 1),
        ((8, 0), 32, 81 * KIB, 2),
        ((8, 0), 32, 81 * KIB + 1, 1),
        ((8, 0), 32, 48 * KIB, 3),
        ((8, 6), 32, 99 * KIB, 1),
        ((8, 6), 32, 49 * KIB, 2),
        ((9, 0), 32, 227 * KIB, 1),
        ((9, 0), 32, 113 * KIB, 2),
        ((9, 0), 32, 75 * KIB, 3),
        ((12, 0), 32, 99 * KIB, 1),
    ];
    for ((major, minor), threads, dynamic, expected) in table {
        let (_gpu, function) = light(major, minor);
        let blocks = function.occupancy_max_active_blocks_per_multiprocessor(threads, dynamic, None).unwrap();
        assert_eq!(blocks, expected, "{threads} threads, {dynamic} bytes on {major}.{minor}");
    }
}

#[test]
fn what_cannot_be_launched_has_no_blocks() {
    let (gpu, context) = device(Config::capability(8, 0));
    let function = kernel(&context, NOTHING, "nothing");
    let blocks =
        |threads, dynamic| function.occupancy_max_active_blocks_per_multiprocessor(threads, dynamic, None).unwrap();
    assert_eq!(blocks(2048, 0), 0);
    assert_eq!(blocks(32, 49 * 1024), 0, "without the attribute");
    drop(gpu);
}

#[test]
fn the_best_block_fills_the_multiprocessor() {
    for ((major, minor), block, grid) in
        [((7, 5), 1024, 40), ((8, 0), 1024, 216), ((8, 6), 768, 168), ((9, 0), 1024, 264)]
    {
        let (_gpu, function) = light(major, minor);
        extern "C" fn no_shared(_threads: i32) -> usize {
            0
        }
        let (best_grid, best_block) = function.occupancy_max_potential_block_size(no_shared, 0, 0, None).unwrap();
        assert_eq!((best_block, best_grid), (block, grid), "{major}.{minor}");
    }
}

#[test]
fn the_shared_memory_left_is_what_keeps_the_blocks_resident() {
    let (_gpu, function) = light(8, 0);
    let left = |blocks, threads| function.occupancy_available_dynamic_smem_per_block(blocks, threads).unwrap();
    for blocks in 1..=8 {
        let bytes = left(blocks, 128);
        let resident = function.occupancy_max_active_blocks_per_multiprocessor(128, bytes, None).unwrap();
        assert!(resident >= blocks, "{blocks} blocks of {bytes} bytes: {resident}");
    }
    assert_eq!(left(1, 128), 163 * 1024);
    assert_eq!(left(2, 128), 81 * 1024);
}

#[test]
fn clusters_share_what_their_blocks_need() {
    let (_gpu, function) = light(9, 0);
    let mut attribute = cluster_attribute();
    let config = cluster_launch(&mut attribute, 8, 1024, 200 << 10);
    let (mut clusters, mut largest) = (0, 0);
    unsafe {
        sys::cuOccupancyMaxActiveClusters(&mut clusters, function.cu_function(), &config).result().unwrap();
        sys::cuOccupancyMaxPotentialClusterSize(&mut largest, function.cu_function(), &config).result().unwrap();
    }
    assert_eq!(largest, 8);
    // One block per multiprocessor; 8 groups of 16 or 18 hold two clusters each.
    assert_eq!(clusters, 16);
}

/// A launch of clusters of `size` blocks.
fn cluster_launch(
    attribute: &mut sys::CUlaunchAttribute,
    size: u32,
    threads: u32,
    dynamic_shared: u32,
) -> sys::CUlaunchConfig {
    attribute.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: size, y: 1, z: 1 };
    sys::CUlaunchConfig {
        gridDimX: size,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: threads,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: dynamic_shared,
        hStream: std::ptr::null_mut(),
        attrs: attribute,
        numAttrs: 1,
    }
}

fn cluster_attribute() -> sys::CUlaunchAttribute {
    sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { pad: [0; 64] },
    }
}

/// Few multiprocessors to a GPC make the largest cluster smaller, and what does not fit is refused.
#[test]
fn clusters_are_as_large_as_the_room_in_one_gpc() {
    // Two GPCs of four multiprocessors, on each of which one block fits.
    let (gpu, context) = device(Config { sm_count: 8, gpc_count: 2, ..Config::capability(9, 0) });
    let function = kernel(&context, NOTHING, "nothing");
    let most = gpu.config().unwrap().shared_per_block_optin as i32;
    function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, most).unwrap();
    let mut attribute = cluster_attribute();
    for (size, expected) in [(1, 8), (2, 4), (3, 2), (4, 2), (5, 0), (8, 0)] {
        let config = cluster_launch(&mut attribute, size, 1024, 200 << 10);
        let (mut clusters, mut largest) = (-1, -1);
        unsafe {
            sys::cuOccupancyMaxActiveClusters(&mut clusters, function.cu_function(), &config).result().unwrap();
            sys::cuOccupancyMaxPotentialClusterSize(&mut largest, function.cu_function(), &config).result().unwrap();
        }
        assert_eq!((clusters, largest), (expected, 4), "{size}");
        if expected == 0 {
            let null = std::ptr::null_mut();
            let launched = unsafe { sys::cuLaunchKernelEx(&config, function.cu_function(), null, null.cast()) };
            assert_eq!(launched, sys::CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE, "{size}");
            assert!(gpu.report().unwrap().contains("no group of multiprocessors"), "{:?}", gpu.report());
        }
    }
    // Smaller blocks leave room for larger clusters.
    let config = cluster_launch(&mut attribute, 8, 512, 0);
    let mut largest = -1;
    unsafe { sys::cuOccupancyMaxPotentialClusterSize(&mut largest, function.cu_function(), &config) }.result().unwrap();
    assert_eq!(largest, 8, "the portable size");
    function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1).unwrap();
    unsafe { sys::cuOccupancyMaxPotentialClusterSize(&mut largest, function.cu_function(), &config) }.result().unwrap();
    assert_eq!(largest, 16);
}

/// A kernel that prefers L1 cache gets less shared memory, but never too little for one block.
#[test]
fn the_carveout_bounds_what_blocks_share() {
    let (_gpu, function) = light(8, 0);
    let blocks = |dynamic| function.occupancy_max_active_blocks_per_multiprocessor(32, dynamic, None).unwrap();
    assert_eq!(blocks(15 << 10), 10, "16 of 164 KiB each");
    for (percent, expected) in [(100, 10), (50, 6), (25, 4), (0, 1), (-1, 10)] {
        function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, percent).unwrap();
        assert_eq!(blocks(15 << 10), expected, "{percent} per cent");
    }
    unsafe { sys::cuFuncSetCacheConfig(function.cu_function(), sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_L1) }
        .result()
        .unwrap();
    assert_eq!(blocks(15 << 10), 1, "the older way of saying so");
}
