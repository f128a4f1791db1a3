//! Leaks, double frees and stale handles: reports that name what they are about.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{PushKernelArg, result};
use driver_support::{SCALE, STORE, a100, code, kernel, shape};
use softcuda::Gpu;

#[track_caller]
fn report_says(gpu: &Gpu, words: &[&str]) {
    let report = gpu.report().expect("a report");
    for word in words {
        assert!(report.contains(word), "no {word:?} in {report}");
    }
}

#[test]
fn memory_that_outlives_its_context_is_a_leak() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let kept = stream.alloc_zeros::<u32>(25).unwrap().leak();
    drop(stream.alloc_zeros::<u32>(7).unwrap());
    let synchronous = unsafe { result::malloc_sync(40) }.unwrap();
    assert_eq!(gpu.leaks(), Some(Vec::new()), "the context may yet free it");
    drop((stream, context));
    let expected = [
        format!("100 bytes at {kept:#x}, allocated by call 1 of cuMemAllocAsync"),
        format!("40 bytes at {synchronous:#x}, allocated by call 1 of cuMemAlloc_v2"),
    ];
    assert_eq!(gpu.leaks().unwrap(), expected);
    assert_eq!(gpu.live_allocations(), Some((0, 0)), "the driver frees it all the same");
}

#[test]
fn memory_that_is_freed_is_no_leak() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let slice = stream.clone_htod(&[1_u8; 100]).unwrap();
    let module = kernel(&context, SCALE, "scale");
    drop((slice, module, stream, context));
    assert_eq!(gpu.leaks(), Some(Vec::new()));
}

#[test]
fn pinned_memory_that_outlives_its_context_is_a_leak() {
    let (gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let kept = unsafe { result::malloc_host(100, 0) }.unwrap();
    let freed = unsafe { result::malloc_host(7, 0) }.unwrap();
    unsafe { result::free_host(freed) }.unwrap();
    assert_eq!(gpu.leaks(), Some(Vec::new()), "the context may yet free it");
    drop(context);
    let expected = format!("100 bytes of pinned host memory at {kept:p}, allocated by call 1 of cuMemHostAlloc");
    assert_eq!(gpu.leaks().unwrap(), [expected]);
    unsafe { result::free_host(kept) }.unwrap();
}

#[test]
fn pinned_memory_that_is_freed_or_was_the_hosts_is_no_leak() {
    let (gpu, context) = a100();
    let slice = unsafe { context.alloc_pinned::<u32>(100) }.unwrap();
    let mut own = vec![0_u64; 64];
    let own: *mut std::ffi::c_void = own.as_mut_ptr().cast();
    unsafe { sys::cuMemHostRegister_v2(own, 512, 0) }.result().unwrap();
    drop((slice, context));
    assert_eq!(gpu.leaks(), Some(Vec::new()));
    unsafe { sys::cuMemHostUnregister(own) }.result().unwrap();
}

/// cudarc cannot free what belongs to a context that a kernel's fault has ended.
#[test]
fn what_a_fault_leaves_is_no_leak() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let slice = stream.alloc_zeros::<u8>(64).unwrap();
    let function = kernel(&context, STORE, "store");
    let mut launch = stream.launch_builder(&function);
    launch.arg(&slice).arg(&4096_u64);
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
    assert!(stream.synchronize().is_err());
    drop((slice, function, stream, context));
    assert_eq!(gpu.leaks(), Some(Vec::new()));
    assert!(gpu.report().is_some());
}

#[test]
fn a_double_free_names_both_ends() {
    let (gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let address = unsafe { result::malloc_sync(48) }.unwrap();
    unsafe { result::free_sync(address) }.unwrap();
    assert_eq!(code(unsafe { result::free_sync(address) }), CUresult::CUDA_ERROR_INVALID_VALUE);
    let what =
        format!("48 bytes at {address:#x}, allocated by call 1 of cuMemAlloc_v2, freed by call 1 of cuMemFree_v2");
    report_says(&gpu, &["freed before", &what]);
}

#[test]
fn freeing_inside_an_allocation_names_it() {
    let (gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let address = unsafe { result::malloc_sync(48) }.unwrap();
    assert_eq!(code(unsafe { result::free_sync(address + 16) }), CUresult::CUDA_ERROR_INVALID_VALUE);
    report_says(&gpu, &["lies inside", &format!("48 bytes at {address:#x}, allocated by call 1 of cuMemAlloc_v2")]);
    unsafe { result::free_sync(address) }.unwrap();
}

#[test]
fn a_fault_names_the_allocation_that_was_freed() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let address = unsafe { result::malloc_sync(48) }.unwrap();
    unsafe { result::free_sync(address) }.unwrap();
    let function = kernel(&context, STORE, "store");
    let mut launch = stream.launch_builder(&function);
    launch.arg(&address).arg(&8_u64);
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
    assert!(stream.synchronize().is_err());
    report_says(&gpu, &["use after free", "allocated by call 1 of cuMemAlloc_v2, freed by call 1 of cuMemFree_v2"]);
}

#[test]
fn stale_handles_are_named() {
    let (gpu, context) = a100();
    let invalid = CUresult::CUDA_ERROR_INVALID_HANDLE;
    let stream = result::stream::create(result::stream::StreamKind::NonBlocking).unwrap();
    unsafe { result::stream::destroy(stream) }.unwrap();
    assert_eq!(code(unsafe { result::stream::synchronize(stream) }), invalid);
    report_says(&gpu, &["a stream that was ended by call 1 of cuStreamDestroy_v2", "call 1 of cuStreamSynchronize"]);
    assert_eq!(code(unsafe { result::stream::destroy(stream) }), invalid);
    report_says(&gpu, &["call 2 of cuStreamDestroy_v2"]);

    let event = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT).unwrap();
    assert_eq!(code(unsafe { result::stream::synchronize(event.cast()) }), invalid);
    report_says(&gpu, &["is not a stream: it is an event"]);
    unsafe { result::event::destroy(event) }.unwrap();
    assert_eq!(code(unsafe { result::event::query(event) }), invalid);
    report_says(&gpu, &["an event that was ended by call 1 of cuEventDestroy_v2"]);
    drop(context);
}

#[test]
fn kernels_of_an_unloaded_module_are_named() {
    let (gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let image = std::ffi::CString::new(SCALE).unwrap();
    let module = unsafe { result::module::load_data(image.as_ptr().cast()) }.unwrap();
    let function = unsafe { result::module::get_function(module, c"scale".to_owned()) }.unwrap();
    unsafe { result::module::unload(module) }.unwrap();
    let stream = std::ptr::null_mut();
    let launched = unsafe { result::launch_kernel(function, (1, 1, 1), (1, 1, 1), 0, stream, &mut []) };
    assert_eq!(code(launched), CUresult::CUDA_ERROR_INVALID_HANDLE);
    report_says(&gpu, &["the kernel scale that was ended by call 1 of cuModuleUnload"]);
    assert!(unsafe { result::module::get_function(module, c"scale".to_owned()) }.is_err());
    report_says(&gpu, &["a module that was ended by call 1 of cuModuleUnload"]);
}
