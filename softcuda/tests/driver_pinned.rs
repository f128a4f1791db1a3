//! Pinned host memory while copies have it in use.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaStream, result};
use driver_support::{a100, code, device};
use softcuda::{Config, Gpu};

const LENGTH: usize = 1000;

/// How often a test tries to be faster than the device, which runs its work when it likes to.
const ATTEMPTS: usize = 100;

/// A device with a stream, device memory and pinned host memory.
struct Bench {
    gpu: Gpu,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    device: sys::CUdeviceptr,
    host: *mut u8,
}

impl Bench {
    fn new(seed: u64) -> Bench {
        let (gpu, context) = device(Config { seed, ..Config::capability(8, 0) });
        let stream = context.new_stream().unwrap();
        let device = stream.clone_htod(&[1_u8; LENGTH]).unwrap().leak();
        let host = unsafe { result::malloc_host(LENGTH, 0) }.unwrap().cast();
        Bench { gpu, context, stream, device, host }
    }

    #[allow(clippy::mut_from_ref, reason = "the memory is not behind the reference")]
    fn host(&self) -> &mut [u8] {
        unsafe { std::slice::from_raw_parts_mut(self.host, LENGTH) }
    }

    fn upload(&self) {
        unsafe { result::memcpy_htod_async(self.device, self.host(), self.stream.cu_stream()) }.unwrap();
    }

    fn download(&self) {
        unsafe { result::memcpy_dtoh_async(self.host(), self.device, self.stream.cu_stream()) }.unwrap();
    }

    /// Whether the next call that waits says that the host has touched what it must not.
    fn is_caught(&self) -> bool {
        let result = self.stream.synchronize();
        if result.is_ok() {
            return false;
        }
        assert_eq!(code(result), CUresult::CUDA_ERROR_ILLEGAL_STATE);
        let report = self.gpu.report().unwrap();
        assert!(report.contains("pinned host memory touched"), "{report}");
        self.stream.synchronize().expect("it is said once");
        true
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.context.bind_to_thread().unwrap();
        unsafe {
            result::free_host(self.host.cast()).unwrap();
            result::free_sync(self.device).unwrap();
        }
    }
}

#[test]
fn a_source_that_changes_is_reported() {
    let bench = Bench::new(0);
    let caught = (0..ATTEMPTS).any(|round| {
        bench.host().fill(round as u8);
        bench.upload();
        unsafe { bench.host.add(LENGTH - 1).write_volatile(200) };
        bench.is_caught()
    });
    assert!(caught);
}

#[test]
fn a_destination_that_is_written_is_reported() {
    let bench = Bench::new(0);
    let caught = (0..ATTEMPTS).any(|_| {
        bench.download();
        unsafe { bench.host.add(17).write_volatile(200) };
        bench.is_caught()
    });
    assert!(caught);
}

#[test]
fn a_destination_that_is_read_too_early_holds_nothing_useful() {
    let bench = Bench::new(0);
    let caught = (0..ATTEMPTS).any(|_| {
        bench.download();
        bench.stream.synchronize().unwrap();
        assert_eq!(bench.host(), [1; LENGTH]);
        // It holds the right bytes already, from before.
        bench.download();
        let early = unsafe { bench.host.add(LENGTH / 2).read_volatile() };
        bench.stream.synchronize().unwrap();
        assert_eq!(bench.host(), [1; LENGTH]);
        early != 1
    });
    assert!(caught);
}

#[test]
fn registered_memory_is_watched_as_well() {
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let mut memory = vec![1_u8; 10_000];
    let start = memory.as_mut_ptr();
    unsafe { sys::cuMemHostRegister_v2(start.cast(), memory.len(), 0) }.result().unwrap();
    let target = stream.alloc_zeros::<u8>(5_000).unwrap().leak();
    let caught = (0..ATTEMPTS).any(|_| {
        let part = unsafe { std::slice::from_raw_parts(start.add(100), 5_000) };
        unsafe { result::memcpy_htod_async(target, part, stream.cu_stream()) }.unwrap();
        // Outside of what is copied everything is allowed.
        unsafe { start.add(99).write_volatile(start.read_volatile().wrapping_add(1)) };
        unsafe { start.add(5_100).write_volatile(7) };
        stream.synchronize().unwrap();
        unsafe { result::memcpy_htod_async(target, part, stream.cu_stream()) }.unwrap();
        unsafe { start.add(100).write_volatile(start.add(100).read_volatile().wrapping_add(1)) };
        stream.synchronize().is_err()
    });
    assert!(caught, "{:?}", gpu.report());
    unsafe { sys::cuMemHostUnregister(start.cast()) }.result().unwrap();
    unsafe { result::free_sync(target) }.unwrap();
}

#[test]
fn careful_hosts_are_left_alone() {
    unsafe extern "C" fn add(host: *mut c_void) {
        let host = unsafe { std::slice::from_raw_parts_mut(host.cast::<u8>(), LENGTH) };
        host.iter_mut().for_each(|byte| *byte += 1);
    }
    for seed in 0..8 {
        let bench = Bench::new(seed);
        // Down, changed by the host in stream order, and up again, over and over.
        for _ in 0..10 {
            bench.download();
            unsafe { result::stream::launch_host_function(bench.stream.cu_stream(), add, bench.host.cast()) }.unwrap();
            bench.upload();
        }
        bench.download();
        bench.stream.synchronize().unwrap();
        assert_eq!(bench.host(), [11; LENGTH], "seed {seed}");
        // Copies that read the same memory do not disturb each other, nor one that follows.
        bench.upload();
        bench.upload();
        bench.download();
        bench.stream.synchronize().unwrap();
        assert_eq!(bench.host(), [11; LENGTH], "seed {seed}");
        assert_eq!(bench.gpu.report(), None);
    }
}

#[test]
fn pinned_memory_is_freed_after_its_copies() {
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let mut target = stream.alloc_zeros::<u8>(LENGTH).unwrap();
    let host = unsafe { result::malloc_host(LENGTH, 0) }.unwrap().cast::<u8>();
    let source = unsafe { std::slice::from_raw_parts_mut(host, LENGTH) };
    source.fill(9);
    let address = {
        use cudarc::driver::DevicePtrMut;
        target.device_ptr_mut(&stream).0
    };
    unsafe { result::memcpy_htod_async(address, source, stream.cu_stream()) }.unwrap();
    unsafe { result::free_host(host.cast()) }.unwrap();
    assert_eq!(stream.clone_dtoh(&target).unwrap(), [9; LENGTH]);
}

#[test]
fn pageable_memory_is_the_hosts_again_at_once() {
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let mut source = vec![3_u8; LENGTH];
    let mut slice = stream.alloc_zeros::<u8>(LENGTH).unwrap();
    stream.memcpy_htod(&source, &mut slice).unwrap();
    source.fill(4);
    let mut back = vec![0_u8; LENGTH];
    stream.memcpy_dtoh(&slice, &mut back).unwrap();
    assert_eq!(back, [3; LENGTH]);
    assert_eq!(gpu.report(), None);
}
