//! Copies under unified addressing whose addresses are stale or wild: each is refused with its
//! reason, and nothing is read or written through it.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::null_mut;

use cudarc::driver::result;
use cudarc::driver::sys::{self, CUmemorytype, CUresult};
use driver_support::a100;
use softcuda::Gpu;

const INVALID: CUresult = CUresult::CUDA_ERROR_INVALID_VALUE;

#[track_caller]
fn report_says(gpu: &Gpu, word: &str) {
    let report = gpu.report().expect("a report");
    assert!(report.contains(word), "no {word:?} in {report}");
    assert_eq!(report.trim_end().lines().count(), 1, "{report}");
}

/// Rows of 4 bytes, two of them, one below the other.
fn two_rows(to: u64, from: u64) -> sys::CUDA_MEMCPY2D {
    let mut request = MaybeUninit::<sys::CUDA_MEMCPY2D>::zeroed();
    // No kind of memory is 0.
    let mut request = unsafe {
        (&raw mut (*request.as_mut_ptr()).srcMemoryType).write(CUmemorytype::CU_MEMORYTYPE_UNIFIED);
        (&raw mut (*request.as_mut_ptr()).dstMemoryType).write(CUmemorytype::CU_MEMORYTYPE_UNIFIED);
        request.assume_init()
    };
    (request.srcDevice, request.dstDevice) = (from, to);
    (request.srcPitch, request.dstPitch) = (4, 4);
    (request.WidthInBytes, request.Height) = (4, 2);
    request
}

fn two_planes(to: u64, from: u64) -> sys::CUDA_MEMCPY3D {
    let mut request = MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
    // No kind of memory is 0.
    let mut request = unsafe {
        (&raw mut (*request.as_mut_ptr()).srcMemoryType).write(CUmemorytype::CU_MEMORYTYPE_UNIFIED);
        (&raw mut (*request.as_mut_ptr()).dstMemoryType).write(CUmemorytype::CU_MEMORYTYPE_UNIFIED);
        request.assume_init()
    };
    (request.srcDevice, request.dstDevice) = (from, to);
    (request.srcPitch, request.dstPitch, request.srcHeight, request.dstHeight) = (4, 4, 1, 1);
    (request.WidthInBytes, request.Height, request.Depth) = (4, 1, 2);
    request
}

/// Adds a node that copies to a new graph.
fn node(to: u64, from: u64) -> CUresult {
    let mut graph = null_mut();
    let mut node = null_mut();
    unsafe {
        sys::cuGraphCreate(&mut graph, 0).result().unwrap();
        let added = sys::cuGraphAddMemcpyNode(&mut node, graph, null_mut(), 0, &two_planes(to, from), null_mut());
        sys::cuGraphDestroy(graph).result().unwrap();
        added
    }
}

type Copy = fn(u64, u64) -> CUresult;

/// Every function that copies 8 bytes between addresses of which it is to find out what they are.
const COPIES: [(&str, Copy); 8] = [
    ("cuMemcpy", |to, from| unsafe { sys::cuMemcpy(to, from, 8) }),
    ("cuMemcpyAsync", |to, from| unsafe { sys::cuMemcpyAsync(to, from, 8, null_mut()) }),
    ("cuMemcpy2D", |to, from| unsafe { sys::cuMemcpy2D_v2(&two_rows(to, from)) }),
    ("cuMemcpy2DUnaligned", |to, from| unsafe { sys::cuMemcpy2DUnaligned_v2(&two_rows(to, from)) }),
    ("cuMemcpy2DAsync", |to, from| unsafe { sys::cuMemcpy2DAsync_v2(&two_rows(to, from), null_mut()) }),
    ("cuMemcpy3D", |to, from| unsafe { sys::cuMemcpy3D_v2(&two_planes(to, from)) }),
    ("cuMemcpy3DAsync", |to, from| unsafe { sys::cuMemcpy3DAsync_v2(&two_planes(to, from), null_mut()) }),
    ("cuGraphAddMemcpyNode", node),
];

/// Each form, with an address at either end and host or device memory at the other.
#[track_caller]
fn refused_everywhere(gpu: &Gpu, address: u64, reason: &str) {
    let mut host = [7_u8; 8];
    let host = host.as_mut_ptr() as u64;
    let device = unsafe { result::malloc_sync(8) }.unwrap();
    for (name, copy) in COPIES {
        for (to, from) in [(host, address), (address, host), (device, address), (address, device), (address, address)] {
            assert_eq!(copy(to, from), INVALID, "{name} from {from:#x} to {to:#x}");
            report_says(gpu, reason);
        }
        assert_eq!(copy(device, host), CUresult::CUDA_SUCCESS, "{name}: both are fine");
        assert_eq!(copy(host, device), CUresult::CUDA_SUCCESS, "{name}: both are fine");
    }
    unsafe { result::free_sync(device) }.unwrap();
    assert_eq!(unsafe { sys::cuCtxSynchronize() }, CUresult::CUDA_SUCCESS, "nothing of it reached a stream");
}

#[test]
fn device_memory_that_was_freed() {
    let (gpu, _context) = a100();
    let address = unsafe { result::malloc_sync(64) }.unwrap();
    unsafe { result::free_sync(address) }.unwrap();
    refused_everywhere(&gpu, address + 16, &format!("16 bytes into the freed 64 bytes at {address:#x}"));
}

#[test]
fn device_memory_that_never_was() {
    let (gpu, _context) = a100();
    let address = unsafe { result::malloc_sync(64) }.unwrap();
    refused_everywhere(&gpu, address + 64, "0 bytes after the end of the 64 bytes");
    refused_everywhere(&gpu, address + 60, "the last 4 beyond the end of the 64 bytes");
    // Far from what any device has given out.
    refused_everywhere(&gpu, 0x0170_0000_0000_0000 - 16, "after the end of the");
    unsafe { result::free_sync(address) }.unwrap();
}

#[test]
fn device_memory_of_a_lease_that_has_ended() {
    let (gpu, _context) = a100();
    let address = {
        let (_gpu, _context) = a100();
        unsafe { result::malloc_sync(64) }.unwrap()
    };
    // The current context went with its device.
    _context.bind_to_thread().unwrap();
    refused_everywhere(&gpu, address, &format!("{address:#x}"));
}

#[test]
fn managed_and_pinned_memory_that_was_freed() {
    let (gpu, _context) = a100();
    let bytes = 1 << 20;
    let managed = unsafe { result::malloc_managed(bytes, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) }.unwrap();
    unsafe { result::free_sync(managed) }.unwrap();
    refused_everywhere(&gpu, managed + 4096, "4096 bytes into the freed 1048576 bytes");
    // Nor is it the host's to copy from.
    let device = unsafe { result::malloc_sync(8) }.unwrap();
    assert_eq!(unsafe { sys::cuMemcpyHtoD_v2(device, managed as *const c_void, 8) }, INVALID);
    report_says(&gpu, "0 bytes into the freed 1048576 bytes");
    unsafe { result::free_sync(device) }.unwrap();
    let pinned = unsafe { result::malloc_host(bytes, 0) }.unwrap();
    unsafe { result::free_host(pinned) }.unwrap();
    refused_everywhere(&gpu, pinned as u64 + 4096, "4096 bytes into the freed 1048576 bytes");
}

/// So large that no mapping which another test makes meanwhile reaches its first pages: the system
/// begins at the other end.
const LARGE: usize = 4 << 30;

#[test]
fn host_memory_that_is_not_there() {
    let (gpu, _context) = a100();
    let kind = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
    let start = unsafe { libc::mmap(null_mut(), LARGE, libc::PROT_READ, kind, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    unsafe { libc::munmap(start, LARGE) };
    refused_everywhere(&gpu, start as u64 + 4096, "of the host's memory at");
    refused_everywhere(&gpu, 16, "of the host's memory at 0x10");
}

/// The classic mistake: the two kinds of pointers confused.
#[test]
fn a_device_address_in_place_of_the_hosts() {
    let (gpu, _context) = a100();
    let device = unsafe { result::malloc_sync(64) }.unwrap();
    let confused = &format!("{device:#x} is a device's address, and one of the host's is asked for");
    unsafe {
        assert_eq!(sys::cuMemcpyHtoD_v2(device, device as *const c_void, 8), INVALID);
        report_says(&gpu, confused);
        assert_eq!(sys::cuMemcpyHtoDAsync_v2(device, device as *const c_void, 8, null_mut()), INVALID);
        report_says(&gpu, confused);
        assert_eq!(sys::cuMemcpyDtoH_v2(device as *mut c_void, device, 8), INVALID);
        report_says(&gpu, confused);
        assert_eq!(sys::cuMemcpyDtoHAsync_v2(device as *mut c_void, device, 8, null_mut()), INVALID);
        report_says(&gpu, confused);
        assert_eq!(sys::cuMemHostRegister_v2(device as *mut c_void, 64, 0), INVALID);
        report_says(&gpu, "no memory of the host's at 0x");
        result::free_sync(device).unwrap();
    }
}

/// Copies between devices and fills take device addresses only.
#[test]
fn stale_addresses_in_the_other_functions() {
    let (gpu, context) = a100();
    let (device, stale) = unsafe { (result::malloc_sync(64).unwrap(), result::malloc_sync(64).unwrap()) };
    unsafe { result::free_sync(stale) }.unwrap();
    let handle = context.cu_ctx();
    let gone = "into the freed 64 bytes";
    for (to, from) in [(device, stale), (stale, device)] {
        let answers = unsafe {
            [
                sys::cuMemcpyPeer(to, handle, from, handle, 8),
                sys::cuMemcpyPeerAsync(to, handle, from, handle, 8, null_mut()),
                sys::cuMemcpyDtoD_v2(to, from, 8),
                sys::cuMemcpyDtoDAsync_v2(to, from, 8, null_mut()),
            ]
        };
        assert_eq!(answers, [INVALID; 4]);
        report_says(&gpu, gone);
    }
    let answers = unsafe {
        [
            sys::cuMemsetD8_v2(stale, 0, 8),
            sys::cuMemsetD16_v2(stale, 0, 8),
            sys::cuMemsetD32_v2(stale, 0, 8),
            sys::cuMemsetD2D8_v2(stale, 8, 0, 4, 2),
            sys::cuMemsetD32Async(stale, 0, 8, null_mut()),
        ]
    };
    assert_eq!(answers, [INVALID; 5]);
    report_says(&gpu, gone);
    unsafe { result::free_sync(device) }.unwrap();
}

#[test]
fn managed_memory_is_either_sides() {
    let (_gpu, _context) = a100();
    let managed = unsafe { result::malloc_managed(8, sys::CUmemAttach_flags::CU_MEM_ATTACH_GLOBAL) }.unwrap();
    let device = unsafe { result::malloc_sync(8) }.unwrap();
    unsafe {
        (managed as *mut u64).write(7);
        assert_eq!(sys::cuMemcpyHtoD_v2(device, managed as *const c_void, 8), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuCtxSynchronize(), CUresult::CUDA_SUCCESS);
        (managed as *mut u64).write(8);
        assert_eq!(sys::cuMemcpyDtoH_v2(managed as *mut c_void, device, 8), CUresult::CUDA_SUCCESS);
        assert_eq!((managed as *mut u64).read_volatile(), 7, "the copy is done when the call returns");
        result::free_sync(device).unwrap();
        result::free_sync(managed).unwrap();
    }
}

#[test]
fn copies_end_where_pinned_memory_ends() {
    let (gpu, _context) = a100();
    let pinned = unsafe { result::malloc_host(4096, 0) }.unwrap() as u64;
    let device = unsafe { result::malloc_sync(8192) }.unwrap();
    unsafe {
        assert_eq!(sys::cuMemcpy(device, pinned, 4096), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemcpy(device, pinned + 4, 4096), INVALID);
        report_says(&gpu, &format!("4096 bytes at {:#x} go beyond the end of the pinned memory there", pinned + 4));
        assert_eq!(sys::cuMemcpyDtoH_v2(pinned as *mut c_void, device, 4097), INVALID);
        result::free_host(pinned as *mut c_void).unwrap();
        result::free_sync(device).unwrap();
    }
}

#[test]
fn a_graph_that_copies_from_pinned_memory_which_was_freed() {
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let (device, pinned) = unsafe { (result::malloc_sync(64).unwrap(), result::malloc_host(64, 0).unwrap()) };
    stream.begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    unsafe { sys::cuMemcpyHtoDAsync_v2(device, pinned, 64, stream.cu_stream()) }.result().unwrap();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    graph.launch().unwrap();
    stream.synchronize().unwrap();
    unsafe { result::free_host(pinned) }.unwrap();
    graph.launch().unwrap();
    assert_eq!(driver_support::code(stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    let report = gpu.report().unwrap();
    assert!(report.contains(&format!("a copy uses the pinned memory at {pinned:p}, which was freed")), "{report}");
}
