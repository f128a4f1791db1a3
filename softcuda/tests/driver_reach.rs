//! What kernels reach besides their device's memory: managed memory, pinned memory, other devices.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::mem::MaybeUninit;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, DriverError, PushKernelArg, result};
use driver_support::{SCALE, a100, code, device, kernel, shape};
use softcuda::{Config, Gpu};

/// Runs `y[i] = 2 x[i]` on plain addresses.
fn double(context: &Arc<CudaContext>, y: u64, x: u64, n: u32) -> Result<(), DriverError> {
    let stream = context.default_stream();
    let function = kernel(context, SCALE, "scale");
    let mut launch = stream.launch_builder(&function);
    launch.arg(&y).arg(&x).arg(&2.0_f32).arg(&n);
    unsafe { launch.launch(shape(1, 32)) }?;
    stream.synchronize()
}

#[track_caller]
fn faulted(gpu: &Gpu, outcome: Result<(), DriverError>, words: &str) {
    assert_eq!(code(outcome), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    let report = gpu.report().unwrap();
    assert!(report.contains(words), "no {words:?} in {report}");
}

#[test]
fn managed_memory_is_used_by_both_sides() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let function = kernel(&context, SCALE, "scale");
    let mut x = unsafe { context.alloc_unified::<f32>(8, true) }.unwrap();
    let mut y = unsafe { context.alloc_unified::<f32>(8, false) }.unwrap();
    x.as_mut_slice().unwrap().copy_from_slice(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    x.prefetch().unwrap();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut y).arg(&x).arg(&0.5_f32).arg(&8_u32);
    unsafe { launch.launch(shape(1, 8)) }.unwrap();
    stream.synchronize().unwrap();
    assert_eq!(y.as_slice().unwrap(), [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]);
    // Copies take it for either side's.
    assert_eq!(stream.clone_dtoh(&y).unwrap()[7], 4.0);
    assert_eq!(gpu.live_allocations(), Some((2, 64)));
    drop((x, y));
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
    context.check_err().unwrap();
}

#[test]
fn managed_memory_ends_where_it_ends() {
    let (gpu, context) = a100();
    let x = unsafe { result::malloc_managed(16, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) }.unwrap();
    faulted(&gpu, double(&context, x, x, 5), "0 bytes after the end of the 16 bytes");
}

#[test]
fn managed_memory_is_gone_when_freed() {
    let (gpu, context) = a100();
    let x = unsafe { result::malloc_managed(64, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) }.unwrap();
    double(&context, x, x, 16).unwrap();
    unsafe { result::memory_free(x) }.unwrap();
    faulted(&gpu, double(&context, x, x, 16), "use after free");
    assert!(gpu.report().unwrap().contains("allocated by call 1 of cuMemAllocManaged"));
}

#[test]
fn advice_is_remembered() {
    use sys::{CUmem_advise as Advice, CUmem_range_attribute as Attribute};
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let x = unsafe { result::malloc_managed(64, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) }.unwrap();
    let device = context.cu_device();
    let read = |attribute| {
        let mut value = -9;
        unsafe { sys::cuMemRangeGetAttribute((&raw mut value).cast(), 4, attribute, x, 64) }.result().unwrap();
        value
    };
    let preferred = Attribute::CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION;
    assert_eq!(read(preferred), -2, "none");
    let at = |kind, id| {
        let mut location: sys::CUmemLocation = unsafe { std::mem::zeroed() };
        location.type_ = kind;
        location.__bindgen_anon_1.id = id;
        location
    };
    let here = at(sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, device);
    let host = at(sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_HOST, 0);
    unsafe {
        result::mem_advise(x, 64, Advice::CU_MEM_ADVISE_SET_PREFERRED_LOCATION, here).unwrap();
        result::mem_advise(x, 64, Advice::CU_MEM_ADVISE_SET_READ_MOSTLY, here).unwrap();
        result::mem_prefetch_async(x, 64, host, stream.cu_stream()).unwrap();
    }
    assert_eq!(read(preferred), device);
    assert_eq!(read(Attribute::CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY), 1);
    assert_eq!(read(Attribute::CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION), -1);
    // Of managed memory only, and only inside it.
    let ordinary = stream.alloc_zeros::<u8>(64).unwrap().leak();
    for (address, bytes) in [(ordinary, 64), (x, 65), (x + 64, 1), (0x10, 1)] {
        let refused = unsafe { result::mem_advise(address, bytes, Advice::CU_MEM_ADVISE_SET_READ_MOSTLY, here) };
        assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_VALUE, "{address:#x} {bytes}");
    }
    assert!(gpu.report().unwrap().contains("managed memory"));
    let mut managed = 9_u8;
    let is_managed = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_IS_MANAGED;
    for (address, expected) in [(x, 1), (ordinary, 0)] {
        unsafe { sys::cuPointerGetAttribute((&raw mut managed).cast(), is_managed, address) }.result().unwrap();
        assert_eq!(managed, expected);
    }
    unsafe {
        result::memory_free(x).unwrap();
        result::free_async(ordinary, stream.cu_stream()).unwrap();
    }
}

#[test]
fn kernels_use_pinned_memory_at_its_own_address() {
    let (_gpu, context) = a100();
    let mut pinned = unsafe { context.alloc_pinned::<f32>(4) }.unwrap();
    pinned.as_mut_slice().unwrap().copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
    let address = pinned.as_ptr().unwrap() as u64;
    double(&context, address, address, 4).unwrap();
    assert_eq!(pinned.as_slice().unwrap(), [2.0, 4.0, 6.0, 8.0]);
}

#[test]
fn registered_memory_is_reached_until_it_is_unregistered() {
    let (gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let mut own = vec![1.0_f32; 64];
    let start: *mut f32 = own.as_mut_ptr();
    unsafe { sys::cuMemHostRegister_v2(start.cast(), 256, 0) }.result().unwrap();
    double(&context, start as u64 + 128, start as u64, 32).unwrap();
    assert_eq!(own[32..], [2.0; 32]);
    unsafe { sys::cuMemHostUnregister(start.cast()) }.result().unwrap();
    faulted(&gpu, double(&context, start as u64, start as u64, 1), "256 bytes");
}

#[test]
fn host_memory_that_the_driver_does_not_know_is_out_of_bounds() {
    let (gpu, context) = a100();
    let mut own = vec![1.0_f32; 4];
    let start = own.as_mut_ptr() as u64;
    faulted(&gpu, double(&context, start, start, 4), "out-of-bounds");
}

/// Two devices with a context each, the first one current.
fn two() -> [(Gpu, Arc<CudaContext>); 2] {
    let (first, second) = (a100(), device(Config::capability(9, 0)));
    first.1.bind_to_thread().unwrap();
    [first, second]
}

#[test]
fn a_kernel_uses_its_peers_memory() {
    let [(_one, first), (_two, second)] = two();
    let x = second.default_stream().clone_htod(&[1.0_f32, 2.0, 3.0, 4.0]).unwrap().leak();
    second.synchronize().unwrap();
    let y = first.default_stream().alloc_zeros::<f32>(4).unwrap();
    let mut can = 0;
    unsafe { sys::cuDeviceCanAccessPeer(&mut can, first.cu_device(), second.cu_device()) }.result().unwrap();
    assert_eq!(can, 1);
    first.bind_to_thread().unwrap();
    unsafe { sys::cuCtxEnablePeerAccess(second.cu_ctx(), 0) }.result().unwrap();
    let again = unsafe { sys::cuCtxEnablePeerAccess(second.cu_ctx(), 0) };
    assert_eq!(again, CUresult::CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
    let stream = first.default_stream();
    let function = kernel(&first, SCALE, "scale");
    for (to, from) in [(None, x), (Some(x), x)] {
        let mut launch = stream.launch_builder(&function);
        match &to {
            Some(to) => launch.arg(to),
            None => launch.arg(&y),
        };
        launch.arg(&from).arg(&3.0_f32).arg(&4_u32);
        unsafe { launch.launch(shape(1, 4)) }.unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [3.0, 6.0, 9.0, 12.0]);
    let mut read = [0.0_f32; 4];
    second.bind_to_thread().unwrap();
    unsafe { result::memcpy_dtoh_sync(&mut read, x) }.unwrap();
    assert_eq!(read, [3.0, 6.0, 9.0, 12.0], "written there");
    unsafe { result::free_sync(x) }.unwrap();
}

#[test]
fn another_devices_memory_is_no_peers_unless_enabled() {
    let [(gpu, first), (_two, second)] = two();
    let x = second.default_stream().clone_htod(&[1.0_f32; 4]).unwrap().leak();
    second.synchronize().unwrap();
    faulted(&gpu, double(&first, x, x, 4), "which is no peer");
}

#[test]
fn peer_access_ends_when_disabled() {
    let [(gpu, first), (_two, second)] = two();
    let x = second.default_stream().clone_htod(&[1.0_f32; 4]).unwrap().leak();
    second.synchronize().unwrap();
    first.bind_to_thread().unwrap();
    let not_yet = unsafe { sys::cuCtxDisablePeerAccess(second.cu_ctx()) };
    assert_eq!(not_yet, CUresult::CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
    unsafe { sys::cuCtxEnablePeerAccess(second.cu_ctx(), 0) }.result().unwrap();
    double(&first, x, x, 4).unwrap();
    unsafe { sys::cuCtxDisablePeerAccess(second.cu_ctx()) }.result().unwrap();
    faulted(&gpu, double(&first, x, x, 4), "which is no peer");
}

#[test]
fn peer_access_ends_with_the_context_that_has_it() {
    let [(gpu, first), (_two, second)] = two();
    let x = second.default_stream().clone_htod(&[1.0_f32; 4]).unwrap().leak();
    second.synchronize().unwrap();
    first.bind_to_thread().unwrap();
    unsafe { sys::cuCtxEnablePeerAccess(second.cu_ctx(), 0) }.result().unwrap();
    double(&first, x, x, 4).unwrap();
    drop(first);
    let fresh = CudaContext::new(gpu.ordinal()).unwrap();
    faulted(&gpu, double(&fresh, x, x, 4), "which is no peer");
}

/// What a pool is open to a device for, or how it is to be.
fn access(gpu: &Gpu, flags: sys::CUmemAccess_flags) -> sys::CUmemAccessDesc {
    let kind = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    let mut location = MaybeUninit::<sys::CUmemLocation>::zeroed();
    // The rest of it is a number, in whatever form this version of CUDA has it.
    let location = unsafe {
        (&raw mut (*location.as_mut_ptr()).type_).write(kind);
        location.as_mut_ptr().cast::<i32>().add(1).write(gpu.ordinal() as i32);
        location.assume_init()
    };
    sys::CUmemAccessDesc { location, flags }
}

#[test]
fn a_pool_is_opened_to_other_devices() {
    use sys::CUmemAccess_flags::{CU_MEM_ACCESS_FLAGS_PROT_NONE as NONE, CU_MEM_ACCESS_FLAGS_PROT_READWRITE as ALL};
    let [(one, first), (two, second)] = two();
    let x = second.default_stream().clone_htod(&[1.0_f32; 4]).unwrap().leak();
    second.synchronize().unwrap();
    let mut pool = std::ptr::null_mut();
    unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, second.cu_device()) }.result().unwrap();
    let flags = |gpu: &Gpu| {
        let (mut flags, mut location) = (NONE, access(gpu, NONE).location);
        unsafe { sys::cuMemPoolGetAccess(&mut flags, pool, &mut location) }.result().unwrap();
        flags
    };
    let set = |gpu: &Gpu, flags| unsafe { sys::cuMemPoolSetAccess(pool, &access(gpu, flags), 1) };
    assert_eq!((flags(&one), flags(&two)), (NONE, ALL));
    set(&one, ALL).result().unwrap();
    assert_eq!(flags(&one), ALL);
    double(&first, x, x, 4).unwrap();
    set(&one, NONE).result().unwrap();
    assert_eq!(flags(&one), NONE);
    assert_eq!(set(&two, NONE), CUresult::CUDA_ERROR_INVALID_VALUE, "its own device always has access");
    faulted(&one, double(&first, x, x, 4), "which is no peer");
}

/// So that what is stale stays so.
#[test]
fn addresses_of_managed_memory_are_never_used_twice() {
    let (_gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for bytes in (0..200).map(|round| 1 + round * 997) {
        let x = unsafe { result::malloc_managed(bytes, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) }.unwrap();
        let y = unsafe { result::malloc_host(bytes, 0) }.unwrap();
        assert!(seen.insert(x) && seen.insert(y as u64));
        unsafe { (x as *mut u8).add(bytes - 1).write(1) };
        unsafe { result::free_sync(x) }.unwrap();
        unsafe { result::free_host(y) }.unwrap();
    }
}

#[test]
fn a_device_is_not_its_own_peer() {
    let (_gpu, context) = a100();
    let mut can = 9;
    unsafe { sys::cuDeviceCanAccessPeer(&mut can, context.cu_device(), context.cu_device()) }.result().unwrap();
    assert_eq!(can, 0);
    let itself = unsafe { sys::cuCtxEnablePeerAccess(context.cu_ctx(), 0) };
    assert_eq!(itself, CUresult::CUDA_ERROR_INVALID_DEVICE);
}

#[test]
fn copies_between_peers_name_their_contexts() {
    let [(_one, first), (_two, second)] = two();
    let sent = first.default_stream().clone_htod(&[3_u32, 1, 4]).unwrap();
    let received = second.default_stream().alloc_zeros::<u32>(3).unwrap();
    let (from, to) = (sent.leak(), received.leak());
    unsafe { sys::cuMemcpyPeer(to, second.cu_ctx(), from, first.cu_ctx(), 12) }.result().unwrap();
    second.bind_to_thread().unwrap();
    let mut read = [0_u32; 3];
    unsafe { result::memcpy_dtoh_sync(&mut read, to) }.unwrap();
    assert_eq!(read, [3, 1, 4]);
    let wild = unsafe { sys::cuMemcpyPeer(to, 0x10 as *mut _, from, first.cu_ctx(), 12) };
    assert_eq!(wild, CUresult::CUDA_ERROR_INVALID_CONTEXT);
    let too_long = unsafe { sys::cuMemcpyPeer(to, second.cu_ctx(), from, first.cu_ctx(), 16) };
    assert_eq!(too_long, CUresult::CUDA_ERROR_INVALID_VALUE);
    unsafe { result::free_sync(to).unwrap() };
    first.bind_to_thread().unwrap();
    unsafe { result::free_sync(from).unwrap() };
}

/// The shadow of large blocks takes no memory of its own, and is right all the same.
#[test]
fn large_blocks_are_defined_from_end_to_end() {
    let (_gpu, context) = a100();
    let bytes = (200 << 20) + 4096 + 8;
    let x = unsafe { result::malloc_managed(bytes, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) }.unwrap();
    for offset in [0, (64 << 20) - 64, 64 << 20, (200 << 20) - 64, 200 << 20, (200 << 20) + 4096 - 56] {
        let at = x + offset as u64;
        double(&context, at, at, 16).unwrap();
    }
    double(&context, x + bytes as u64 - 8, x + bytes as u64 - 8, 2).unwrap();
    unsafe { result::memory_free(x) }.unwrap();
    let enormous = unsafe { result::malloc_managed(1 << 50, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) };
    assert_eq!(code(enormous), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
}
