//! Leases: ordinals, configurations, and handles that outlive their device.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::sync::{Mutex, MutexGuard, PoisonError};

use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute, CUresult};
use cudarc::driver::{CudaContext, PushKernelArg, result};
use driver_support::{SCALE, a100, code, device, kernel, shape};
use softcuda::{Config, Error};

/// The tests of this file speak of ordinals, so they run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_lease_has_its_own_ordinal_and_configuration() {
    let _alone = alone();
    let capabilities = [(7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)];
    let leased: Vec<_> = capabilities.map(|(major, minor)| device(Config::capability(major, minor))).into();
    let mut ordinals: Vec<_> = leased.iter().map(|(gpu, _)| gpu.ordinal()).collect();
    for ((gpu, context), (major, minor)) in leased.iter().zip(capabilities) {
        assert!(gpu.is_virtual());
        assert_eq!(context.compute_capability().unwrap(), (major as i32, minor as i32));
        let config = gpu.config().unwrap();
        let attribute = |attribute| context.attribute(attribute).unwrap() as u32;
        assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), config.sm_count);
        assert_eq!(
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
            config.shared_per_block_optin
        );
        assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH), u32::from(major >= 9));
        assert!(context.name().unwrap().contains(&format!("{major}.{minor}")));
    }
    ordinals.sort_unstable();
    ordinals.dedup();
    assert_eq!(ordinals.len(), capabilities.len());
    let uuids = leased.iter().map(|(_, context)| context.uuid().unwrap().bytes);
    assert_eq!(uuids.collect::<std::collections::HashSet<_>>().len(), capabilities.len());
}

#[test]
fn ordinals_are_used_again_and_start_clean() {
    let _alone = alone();
    let (gpu, context) = a100();
    let ordinal = gpu.ordinal();
    let kept = context.default_stream().clone_htod(&[1_u32; 100]).unwrap().leak();
    assert!(CudaContext::device_count().unwrap() as usize > ordinal);
    drop(context);
    drop(gpu);
    let (gpu, context) = device(Config::capability(9, 0));
    assert_eq!(gpu.ordinal(), ordinal, "the lowest free ordinal");
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
    let mut host = [0_u32];
    let stale = unsafe { result::memcpy_dtoh_sync(&mut host, kept) };
    assert_eq!(code(stale), CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn an_ordinal_that_is_not_leased_is_no_device() {
    let _alone = alone();
    let _leased = a100();
    assert_eq!(code(result::device::get(255)), CUresult::CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(code(result::device::get(-1)), CUresult::CUDA_ERROR_INVALID_DEVICE);
    assert_eq!(code(CudaContext::new(200)), CUresult::CUDA_ERROR_INVALID_DEVICE);
}

#[test]
fn what_outlives_its_lease_gets_errors_and_no_more() {
    let _alone = alone();
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, SCALE, "scale");
    let mut slice = stream.clone_htod(&[1.0_f32; 4]).unwrap();
    let event = stream.record_event(None).unwrap();
    let pinned = unsafe { context.alloc_pinned::<u8>(16) }.unwrap();
    let ordinal = gpu.ordinal();
    drop(gpu);
    // Another test's device takes the ordinal; the old handles must not reach it.
    let (other, clean) = a100();
    assert_eq!(other.ordinal(), ordinal);
    let resident = clean.default_stream().clone_htod(&[7_u8]).unwrap();

    let gone = [CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED, CUresult::CUDA_ERROR_INVALID_HANDLE];
    assert!(gone.contains(&code(stream.synchronize())));
    assert!(gone.contains(&code(stream.clone_dtoh(&slice))));
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut slice).arg(&0_u64).arg(&1.0_f32).arg(&0_u32);
    assert!(gone.contains(&code(unsafe { launch.launch(shape(1, 1)) })));
    assert!(context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE).is_err());
    drop((event, pinned, slice, function, stream));
    drop(context);

    let stream = clean.default_stream();
    assert_eq!(stream.clone_dtoh(&resident).unwrap(), [7]);
    assert_eq!(other.live_allocations(), Some((1, 1)));
    clean.check_err().unwrap();
}

#[test]
fn the_primary_context_counts_its_holders() {
    let _alone = alone();
    let (gpu, first) = a100();
    let second = CudaContext::new(gpu.ordinal()).unwrap();
    assert_eq!(first.cu_ctx(), second.cu_ctx());
    let slice = second.default_stream().clone_htod(&[1_u8]).unwrap();
    drop(first);
    assert_eq!(second.default_stream().clone_dtoh(&slice).unwrap(), [1]);
    let (mut flags, mut active) = (0, 0);
    unsafe { sys::cuDevicePrimaryCtxGetState(second.cu_device(), &mut flags, &mut active) }.result().unwrap();
    assert_eq!(active, 1);
    let (device, raw) = (second.cu_device(), second.cu_ctx());
    drop(slice);
    drop(second);
    unsafe { sys::cuDevicePrimaryCtxGetState(device, &mut flags, &mut active) }.result().unwrap();
    assert_eq!(active, 0);
    assert_eq!(code(unsafe { result::ctx::set_current(raw) }), CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED);
    assert_eq!(code(unsafe { result::primary_ctx::release(device) }), CUresult::CUDA_ERROR_INVALID_CONTEXT);
}

#[test]
fn two_threads_share_a_context() {
    let _alone = alone();
    let (gpu, context) = a100();
    let function = kernel(&context, SCALE, "scale");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (context, function) = (&context, &function);
            scope.spawn(move || {
                let stream = context.new_stream().unwrap();
                let input = stream.clone_htod(&[thread as f32; 100]).unwrap();
                let mut output = stream.alloc_zeros::<f32>(100).unwrap();
                for _ in 0..10 {
                    let mut launch = stream.launch_builder(function);
                    launch.arg(&mut output).arg(&input).arg(&2.0_f32).arg(&100_u32);
                    unsafe { launch.launch(shape(1, 128)) }.unwrap();
                }
                assert_eq!(stream.clone_dtoh(&output).unwrap(), [2.0 * thread as f32; 100]);
            });
        }
    });
    assert_eq!(gpu.counters().unwrap().launches, 40);
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
}

#[test]
fn a_thread_without_a_context_is_told_so() {
    let _alone = alone();
    let (_gpu, context) = a100();
    let free = std::thread::spawn(|| unsafe { result::malloc_sync(1) }.map(|_| ()));
    assert_eq!(code(free.join().unwrap()), CUresult::CUDA_ERROR_INVALID_CONTEXT);
    drop(context);
}

#[test]
fn impossible_devices_are_refused() {
    let _alone = alone();
    for wrong in [
        Config { warp_size: 64, ..Config::default() },
        Config { sm_count: 0, ..Config::default() },
        Config { memory_bytes: 0, ..Config::default() },
    ] {
        assert!(matches!(softcuda::virtual_gpu(wrong), Err(Error::BadConfig(_))));
    }
}

#[test]
fn ordinals_run_out_at_256() {
    let _alone = alone();
    let mut leased = Vec::new();
    let refused = loop {
        match softcuda::virtual_gpu(Config::default()) {
            Ok(gpu) => leased.push(gpu),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::AllLeased);
    assert!(leased.len() > 200, "{}", leased.len());
}
