//! Failures on request: of single calls, of memory, of the whole device; and the count of calls.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, PushKernelArg, result};
use driver_support::{SCALE, a100, code, kernel, shape};
use softcuda::{Config, Error, When};

const NO_ROOM: CUresult = CUresult::CUDA_ERROR_OUT_OF_MEMORY;

#[test]
fn the_nth_call_fails_and_no_other() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let allocate = || stream.alloc_zeros::<u8>(8).map(drop);
    allocate().unwrap();
    gpu.fail("cuMemAllocAsync", When::Nth(2), NO_ROOM as u32).unwrap();
    allocate().unwrap();
    assert_eq!(code(allocate()), NO_ROOM);
    assert!(gpu.report().unwrap().contains("call 3 of cuMemAllocAsync was made to fail"));
    allocate().unwrap();
    gpu.fail("cuMemAllocAsync", When::Nth(1), CUresult::CUDA_ERROR_NOT_PERMITTED as u32).unwrap();
    assert_eq!(code(allocate()), CUresult::CUDA_ERROR_NOT_PERMITTED);
    allocate().unwrap();
}

#[test]
fn all_calls_from_the_nth_fail_until_told_otherwise() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    gpu.fail("cuMemAllocAsync", When::From(2), NO_ROOM as u32).unwrap();
    let outcomes: Vec<bool> = (0..4).map(|_| stream.alloc_zeros::<u8>(8).is_ok()).collect();
    assert_eq!(outcomes, [true, false, false, false]);
    gpu.stop_failing();
    assert!(stream.alloc_zeros::<u8>(8).is_ok());
}

#[test]
fn a_failed_call_has_no_effect() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let kept = stream.clone_htod(&[1_u8; 16]).unwrap().leak();
    gpu.fail("cuMemFreeAsync", When::Nth(1), CUresult::CUDA_ERROR_INVALID_VALUE as u32).unwrap();
    assert!(unsafe { result::free_async(kept, stream.cu_stream()) }.is_err());
    assert_eq!(gpu.live_allocations(), Some((1, 16)));
    unsafe { result::free_async(kept, stream.cu_stream()) }.unwrap();
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
}

/// What runs before there is a context concerns the device that it names, or that the thread leased.
#[test]
fn calls_without_a_context_belong_to_the_device_they_mean() {
    let first = softcuda::virtual_gpu(Config::default()).unwrap();
    let second = softcuda::virtual_gpu(Config::default()).unwrap();
    let no_device = CUresult::CUDA_ERROR_NO_DEVICE;
    second.fail("cuInit", When::Nth(1), no_device as u32).unwrap();
    assert_eq!(code(CudaContext::new(first.ordinal())), no_device, "the last lease of this thread");
    first.fail("cuDeviceGet", When::Nth(1), no_device as u32).unwrap();
    assert!(CudaContext::new(second.ordinal()).is_ok());
    assert_eq!(code(CudaContext::new(first.ordinal())), no_device);
    first.fail("cuDevicePrimaryCtxRetain", When::Nth(1), NO_ROOM as u32).unwrap();
    let ordinal = first.ordinal();
    let elsewhere = std::thread::spawn(move || CudaContext::new(ordinal).map(|_| ()));
    assert_eq!(code(elsewhere.join().unwrap()), NO_ROOM, "on any thread");
}

#[test]
fn only_functions_that_exist_can_fail() {
    let (gpu, _context) = a100();
    let unknown = gpu.fail("cuMemAlloc", When::Nth(1), 2);
    assert_eq!(unknown.unwrap_err(), Error::NoSuchFunction("cuMemAlloc".to_owned()));
    // Not supported, but there.
    gpu.fail("cuTexObjectCreate", When::Nth(1), 2).unwrap();
}

#[test]
fn calls_are_counted_per_lease() {
    let (gpu, context) = a100();
    let (other, _elsewhere) = a100();
    let stream = context.default_stream();
    context.bind_to_thread().unwrap();
    other.reset_calls();
    gpu.reset_calls();
    let slice = stream.clone_htod(&[1_u8; 4]).unwrap();
    stream.clone_dtoh(&slice).unwrap();
    let calls = gpu.calls().unwrap();
    let of = |name: &str| calls.get(name).copied().unwrap_or(0);
    assert_eq!(of("cuMemAllocAsync"), 1, "{calls:?}");
    assert_eq!(of("cuMemcpyHtoDAsync_v2"), 1, "{calls:?}");
    assert_eq!(of("cuMemcpyDtoHAsync_v2"), 1, "{calls:?}");
    assert_eq!(of("cuLaunchKernel"), 0, "{calls:?}");
    assert_eq!(other.calls().unwrap().len(), 0);
    gpu.fail("cuMemFreeAsync", When::Nth(2), 1).unwrap();
    gpu.reset_calls();
    assert_eq!(gpu.calls().unwrap().len(), 0);
    drop(slice);
    assert_eq!(gpu.calls().unwrap().get("cuMemFreeAsync"), Some(&1));
    context.check_err().unwrap();
    drop(stream.clone_htod(&[1_u8; 4]).unwrap());
    assert_eq!(code(context.check_err()), CUresult::CUDA_ERROR_INVALID_VALUE, "two calls after it was asked for");
}

#[test]
fn the_memory_limit_can_change() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let kept = stream.alloc_zeros::<u8>(1 << 20).unwrap();
    gpu.set_memory_limit(1 << 20);
    assert_eq!(code(stream.alloc_zeros::<u8>(1)), NO_ROOM);
    assert!(gpu.report().unwrap().contains("0 of 1048576 free"));
    let (free, total) = result::mem_get_info().unwrap();
    assert_eq!((free, total as u64), (0, gpu.config().unwrap().memory_bytes));
    gpu.set_memory_limit(1);
    assert_eq!(code(stream.alloc_zeros::<u8>(1)), NO_ROOM, "less than what is allocated");
    drop(kept);
    stream.synchronize().unwrap();
    assert!(stream.alloc_zeros::<u8>(1).is_ok());
    gpu.set_memory_limit(2 << 20);
    assert!(stream.alloc_zeros::<u8>(2 << 20).is_ok());
}

#[test]
fn a_lost_device_answers_nothing_but_that() {
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, SCALE, "scale");
    let input = stream.clone_htod(&[1.0_f32; 4]).unwrap();
    let mut output = stream.alloc_zeros::<f32>(4).unwrap();
    let before = gpu.counters().unwrap().launches;
    gpu.lose();
    let gone = CUresult::CUDA_ERROR_UNKNOWN;
    assert_eq!(code(stream.synchronize()), gone);
    assert_eq!(code(stream.alloc_zeros::<u8>(1)), gone);
    assert_eq!(code(stream.clone_dtoh(&input)), gone);
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut output).arg(&input).arg(&2.0_f32).arg(&4_u32);
    assert_eq!(code(unsafe { launch.launch(shape(1, 4)) }), gone);
    assert_eq!(gpu.counters().unwrap().launches, before);
    // Who looks for a device finds none; who asks what an error means gets an answer.
    assert_eq!(code(CudaContext::new(gpu.ordinal())), CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE);
    assert_eq!(cudarc::driver::DriverError(gone).error_name().unwrap(), c"CUDA_ERROR_UNKNOWN");
    let mut count = 0;
    unsafe { sys::cuDeviceGetCount(&mut count) }.result().unwrap();
    assert!(gpu.report().unwrap().contains("lost"));
    // Others are as they were.
    let (_other, alive) = a100();
    alive.default_stream().synchronize().unwrap();
    drop((input, output, stream, context));
    assert_eq!(gpu.leaks().unwrap().len(), 0, "nothing could be freed");
}
