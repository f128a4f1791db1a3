//! Bugs of the host with pinned memory: two buffers take turns in a stream of copies up and down,
//! and the host touches one while a copy has it.

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, DriverError, result};
use softcuda::{Config, Gpu};

const LENGTH: usize = 1000;
/// More chunks than there are orders in which the device could always have been faster.
const CHUNKS: usize = 60;

/// What the host does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    /// A buffer is filled again without waiting for the copy that reads it.
    RefilledTooEarly,
    /// One buffer serves for all, with the waits of two.
    OneBufferForAll,
    /// Where results go is cleared after their copy was enqueued.
    ClearedInFlight,
}

/// A pinned buffer and the event behind its latest copy.
struct Buffer {
    source: *mut u8,
    target: *mut u8,
    done: sys::CUevent,
}

impl Buffer {
    fn new() -> Result<Buffer, DriverError> {
        // SAFETY: plain allocations, freed by `free`.
        let pinned = || unsafe { result::malloc_host(LENGTH, 0) };
        let done = result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        Ok(Buffer { source: pinned()?.cast(), target: pinned()?.cast(), done })
    }

    /// The memory that copies read, and that which they write.
    fn parts(&self) -> [&mut [u8]; 2] {
        // SAFETY: both have the length and live until `free`; that the device does not use them at
        // the same time is what the test is about.
        [self.source, self.target].map(|at| unsafe { std::slice::from_raw_parts_mut(at, LENGTH) })
    }

    fn free(self) -> Result<(), DriverError> {
        // SAFETY: allocated by `new`, freed once.
        unsafe {
            result::free_host(self.source.cast())?;
            result::free_host(self.target.cast())?;
            result::event::destroy(self.done)
        }
    }
}

/// Sends chunks up and takes them down again; the sum of what came back.
fn echo(gpu: &Gpu, bug: Bug) -> Result<u64, DriverError> {
    let context = CudaContext::new(gpu.ordinal())?;
    let stream = context.new_stream()?;
    let buffers = [Buffer::new()?, Buffer::new()?];
    let mut sum = 0;
    // SAFETY: device memory of the length, events and stream that live until the end.
    unsafe {
        let device = result::malloc_sync(LENGTH)?;
        for chunk in 0..CHUNKS + 2 {
            let done = buffers[chunk % 2].done;
            let [source, target] = buffers[if bug == Bug::OneBufferForAll { 0 } else { chunk % 2 }].parts();
            if chunk >= 2 {
                if bug != Bug::RefilledTooEarly {
                    result::event::synchronize(done)?;
                }
                sum += target.iter().map(|&byte| u64::from(byte)).sum::<u64>();
            }
            if chunk < CHUNKS {
                source.fill(chunk as u8);
                result::memcpy_htod_async(device, source, stream.cu_stream())?;
                result::memcpy_dtoh_async(target, device, stream.cu_stream())?;
                if bug == Bug::ClearedInFlight {
                    target.fill(0xee);
                }
                result::event::record(done, stream.cu_stream())?;
            }
        }
        stream.synchronize()?;
        result::free_sync(device)?;
    }
    buffers.into_iter().try_for_each(Buffer::free)?;
    Ok(sum)
}

fn virtual_gpu(seed: u64) -> Gpu {
    softcuda::virtual_gpu(Config { seed, ..Config::capability(8, 0) }).unwrap()
}

#[test]
fn buffers_in_turn_are_clean() {
    for seed in 0..4 {
        let gpu = virtual_gpu(seed);
        let wanted = (0..CHUNKS as u64).map(|chunk| chunk * LENGTH as u64).sum();
        assert_eq!(echo(&gpu, Bug::None), Ok(wanted), "{:?}", gpu.report());
        assert_eq!(gpu.report(), None);
    }
}

#[test]
fn memory_touched_in_flight_is_found() {
    for bug in [Bug::RefilledTooEarly, Bug::OneBufferForAll, Bug::ClearedInFlight] {
        let gpu = virtual_gpu(1);
        let error = echo(&gpu, bug).expect_err("memory is touched in flight");
        assert_eq!(error.0, CUresult::CUDA_ERROR_ILLEGAL_STATE, "{bug:?}");
        let report = gpu.report().unwrap();
        assert!(report.contains("pinned host memory touched"), "{bug:?}: {report}");
    }
}
