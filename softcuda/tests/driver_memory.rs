//! Device memory, host memory, copies, fills and pools, through cudarc.

#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{DevicePtr, result};
use driver_support::{a100, code, device};
use softcuda::Config;

#[test]
fn a_slice_makes_the_round_trip() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let sent: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let slice = stream.clone_htod(&sent).unwrap();
    assert_eq!(stream.clone_dtoh(&slice).unwrap(), sent);
    let copy = slice.try_clone().unwrap();
    drop(slice);
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), sent);
}

#[test]
fn fills_and_views_touch_what_they_should() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let mut slice = stream.clone_htod(&[1_u32, 2, 3, 4, 5]).unwrap();
    stream.memset_zeros(&mut slice.slice_mut(1..3)).unwrap();
    assert_eq!(stream.clone_dtoh(&slice).unwrap(), [1, 0, 0, 4, 5]);
    stream.memcpy_htod(&[9, 8], &mut slice.slice_mut(3..)).unwrap();
    assert_eq!(stream.clone_dtoh(&slice.slice(2..)).unwrap(), [0, 9, 8]);
    let zeros = stream.alloc_zeros::<u64>(7).unwrap();
    assert_eq!(stream.clone_dtoh(&zeros).unwrap(), [0; 7]);
}

#[test]
fn wide_fills_and_pitched_copies() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let slice = stream.alloc_zeros::<u8>(64).unwrap();
    let (address, _guard) = slice.device_ptr(&stream);
    unsafe {
        sys::cuMemsetD16_v2(address, 0x1234, 2).result().unwrap();
        sys::cuMemsetD32_v2(address + 4, 0xAABB_CCDD, 1).result().unwrap();
        sys::cuMemsetD2D8_v2(address + 8, 16, 7, 3, 2).result().unwrap();
    }
    let bytes = stream.clone_dtoh(&slice).unwrap();
    assert_eq!(bytes[..12], [0x34, 0x12, 0x34, 0x12, 0xDD, 0xCC, 0xBB, 0xAA, 7, 7, 7, 0]);
    assert_eq!(bytes[24..28], [7, 7, 7, 0]);
    // Elements that are not aligned are refused, as is a row wider than the pitch.
    let refused = unsafe { sys::cuMemsetD32_v2(address + 2, 0, 1) };
    assert_eq!(refused, CUresult::CUDA_ERROR_INVALID_VALUE);
    let refused = unsafe { sys::cuMemsetD2D8_v2(address, 4, 0, 5, 2) };
    assert_eq!(refused, CUresult::CUDA_ERROR_INVALID_VALUE);

    // Two rows of three bytes from the host into a pitch of 8.
    let rows = [1_u8, 2, 3, 4, 5, 6];
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 0,
        srcY: 0,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: rows.as_ptr().cast(),
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        srcPitch: 3,
        dstXInBytes: 1,
        dstY: 1,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: address + 32,
        dstArray: std::ptr::null_mut(),
        dstPitch: 8,
        WidthInBytes: 3,
        Height: 2,
    };
    unsafe { sys::cuMemcpy2D_v2(&copy) }.result().unwrap();
    let bytes = stream.clone_dtoh(&slice).unwrap();
    assert_eq!(bytes[40..44], [0, 1, 2, 3]);
    assert_eq!(bytes[48..52], [0, 4, 5, 6]);
}

#[test]
fn a_generic_copy_finds_out_which_side_is_the_device() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let slice = stream.clone_htod(&[5_u8, 6, 7]).unwrap();
    let (address, _guard) = slice.device_ptr(&stream);
    let mut host = [0_u8; 3];
    unsafe {
        sys::cuMemcpy(host.as_mut_ptr() as u64, address, 3).result().unwrap();
        sys::cuMemcpy(address + 1, host.as_ptr() as u64, 2).result().unwrap();
    }
    assert_eq!(host, [5, 6, 7]);
    assert_eq!(stream.clone_dtoh(&slice).unwrap(), [5, 5, 6]);
}

#[test]
fn host_to_device_copies_capture_their_source() {
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let mut slice = stream.alloc_zeros::<u32>(1).unwrap();
    let mut source = [1_u32];
    stream.memcpy_htod(&source, &mut slice).unwrap();
    source[0] = 2;
    assert_eq!(stream.clone_dtoh(&slice).unwrap(), [1]);
    assert_eq!(source, [2]);
}

#[test]
fn empty_slices_work_and_empty_synchronous_allocations_do_not() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let empty = stream.null::<f32>().unwrap();
    assert_eq!(stream.clone_dtoh(&empty).unwrap(), [0.0; 0]);
    let empty = stream.clone_htod(&[0_u32; 0]).unwrap();
    drop(empty);
    let refused = unsafe { result::malloc_sync(0) };
    assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_VALUE);
    context.check_err().unwrap();
}

#[test]
fn the_memory_is_finite() {
    let (gpu, context) = device(Config { memory_bytes: 1 << 20, ..Config::capability(8, 0) });
    let stream = context.default_stream();
    assert_eq!(context.total_mem().unwrap(), 1 << 20);
    let half = stream.alloc_zeros::<u8>(1 << 19).unwrap();
    let (free, total) = context.mem_get_info().unwrap();
    assert_eq!((free, total), (1 << 19, 1 << 20));
    let refused = unsafe { stream.alloc::<u8>((1 << 19) + 1) };
    assert_eq!(code(refused), CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    assert!(gpu.report().unwrap().contains("524289"), "{:?}", gpu.report());
    // Not sticky: what fits still works, and what is freed can be had again.
    drop(half);
    stream.alloc_zeros::<u8>(1 << 20).unwrap();
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
}

#[test]
fn huge_allocations_cost_only_what_is_touched() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let mut one = unsafe { stream.alloc::<u8>(40 << 30) }.unwrap();
    let two = unsafe { stream.alloc::<u8>(40 << 30) }.unwrap();
    let end = one.len() - 4;
    stream.memcpy_htod(&[1, 2, 3, 4], &mut one.slice_mut(end..)).unwrap();
    assert_eq!(stream.clone_dtoh(&one.slice(end..)).unwrap(), [1, 2, 3, 4]);
    drop(two);
}

#[test]
fn wild_and_stale_addresses_are_refused() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let slice = stream.clone_htod(&[1_u32, 2]).unwrap();
    let address = slice.leak();
    let mut host = [0_u32; 3];
    // One element too far, then freed, then freed again, then never allocated.
    let beyond = unsafe { result::memcpy_dtoh_sync(&mut host, address) };
    assert_eq!(code(beyond), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert!(gpu.report().unwrap().contains("bounds"), "{:?}", gpu.report());
    let inside = unsafe { result::free_sync(address + 4) };
    assert_eq!(code(inside), CUresult::CUDA_ERROR_INVALID_VALUE);
    unsafe { result::free_sync(address) }.unwrap();
    let stale = unsafe { result::memcpy_dtoh_sync(&mut host[..1], address) };
    assert_eq!(code(stale), CUresult::CUDA_ERROR_INVALID_VALUE);
    let twice = unsafe { result::free_sync(address) };
    assert_eq!(code(twice), CUresult::CUDA_ERROR_INVALID_VALUE);
    let wild = unsafe { result::memset_d8_sync(0x1234, 0, 1) };
    assert_eq!(code(wild), CUresult::CUDA_ERROR_INVALID_VALUE);
    // None of that is sticky.
    assert_eq!(stream.clone_dtoh(&stream.alloc_zeros::<u8>(1).unwrap()).unwrap(), [0]);
}

#[test]
fn pinned_memory_is_host_memory_that_the_driver_knows() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let mut pinned = unsafe { context.alloc_pinned::<u32>(4) }.unwrap();
    pinned.as_mut_slice().unwrap().copy_from_slice(&[1, 2, 3, 4]);
    let address = pinned.as_ptr().unwrap() as u64;
    let slice = stream.clone_htod(&pinned).unwrap();
    assert_eq!(stream.clone_dtoh(&slice).unwrap(), [1, 2, 3, 4]);
    let mut kind = 0_u32;
    let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
    unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), attribute, address) }.result().unwrap();
    assert_eq!(kind, 1);
    // Kernels reach it at the address it has.
    let mut mapped = 0;
    unsafe { sys::cuMemHostGetDevicePointer_v2(&mut mapped, address as *mut _, 0) }.result().unwrap();
    assert_eq!(mapped, address);
    let wild = unsafe { sys::cuMemHostGetDevicePointer_v2(&mut mapped, 0x10 as *mut _, 0) };
    assert_eq!(wild, CUresult::CUDA_ERROR_INVALID_VALUE);

    let mut own = [0_u8; 64];
    let start = own.as_mut_ptr().cast();
    unsafe {
        sys::cuMemHostRegister_v2(start, 64, 0).result().unwrap();
        let again = sys::cuMemHostRegister_v2(start, 1, 0);
        assert_eq!(again, CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        sys::cuMemHostUnregister(start).result().unwrap();
        let again = sys::cuMemHostUnregister(start);
        assert_eq!(again, CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    }
}

#[test]
fn a_pointer_knows_its_device_and_range() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let slice = stream.alloc_zeros::<u8>(100).unwrap();
    let (address, _guard) = slice.device_ptr(&stream);
    let (mut ordinal, mut base, mut bytes) = (-1_i32, 0_u64, 0_usize);
    let attribute = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL;
    unsafe {
        sys::cuPointerGetAttribute((&raw mut ordinal).cast(), attribute, address + 50).result().unwrap();
        sys::cuMemGetAddressRange_v2(&mut base, &mut bytes, address + 50).result().unwrap();
    }
    assert_eq!(ordinal, gpu.ordinal() as i32);
    assert_eq!((base, bytes), (address, 100));
    let mut wanted = [
        sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
        sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
    ];
    let (mut kind, mut device) = (7_u32, 7_i32);
    let mut outs = [(&raw mut kind).cast(), (&raw mut device).cast()];
    unsafe { sys::cuPointerGetAttributes(2, wanted.as_mut_ptr(), outs.as_mut_ptr(), 0x10) }.result().unwrap();
    assert_eq!((kind, device), (0, -2), "an unknown pointer is no error for the plural");
}

#[test]
fn pools_keep_account() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let pool = unsafe { result::device::get_default_mem_pool(context.cu_device()) }.unwrap();
    let used = || {
        let mut used = 0_u64;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut used).cast()) }.unwrap();
        used
    };
    let before = used();
    let slice = stream.alloc_zeros::<u8>(4096).unwrap();
    assert_eq!(used() - before, 4096);
    drop(slice);
    assert_eq!(used(), before);
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let (mut threshold, mut read) = (1_u64 << 30, 0_u64);
    unsafe {
        result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast()).unwrap();
        result::mem_pool::get_attribute(pool, attribute, (&raw mut read).cast()).unwrap();
        let address = result::mem_pool::alloc_async(pool, 16, stream.cu_stream()).unwrap();
        assert_eq!(gpu.live_allocations(), Some((1, 16)));
        result::free_async(address, stream.cu_stream()).unwrap();
        result::mem_pool::trim_to(pool, 0).unwrap();
        assert_eq!(code(result::mem_pool::destroy(pool)), CUresult::CUDA_ERROR_INVALID_VALUE);
    }
    assert_eq!(read, threshold);
}

#[test]
fn copies_go_from_device_to_device() {
    let (_one, first) = a100();
    let (_two, second) = device(Config::capability(9, 0));
    let (from, to) = (first.default_stream(), second.default_stream());
    let sent = from.clone_htod(&[3_u32, 1, 4]).unwrap();
    let received = to.clone_dtod(&sent).unwrap();
    assert_eq!(to.clone_dtoh(&received).unwrap(), [3, 1, 4]);
}
