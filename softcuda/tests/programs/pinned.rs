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
pub enum Bug {
    None,
    /// A buffer is filled again without waiting for the copy that reads it.
    RefilledTooEarly,
    /// One buffer serves for all, with the waits of two.
    OneBufferForAll,
    /// A header is patched after the copy that sends it was enqueued.
    PatchedInFlight,
    /// Results are added up as soon as their copy was enqueued.
    SummedTooEarly,
    /// The event that is waited for was recorded before the copy of the results.
    EventBeforeCopy,
    /// Of two buffers, the one that was not waited for is added up.
    SummedTheOther,
    /// Where results go is cleared after their copy was enqueued.
    ClearedInFlight,
    /// The results are terminated before they are there.
    TerminatedInFlight,
    /// Results are scaled in place, in the buffer that was not waited for.
    ScaledTheOther,
}

/// Each bug, and the check that finds it.
pub const BUGS: [(Bug, &str); 9] = [
    (Bug::RefilledTooEarly, "pinned source changed"),
    (Bug::OneBufferForAll, "pinned source changed"),
    (Bug::PatchedInFlight, "pinned source changed"),
    (Bug::SummedTooEarly, "pinned destination read"),
    (Bug::EventBeforeCopy, "pinned destination read"),
    (Bug::SummedTheOther, "pinned destination read"),
    (Bug::ClearedInFlight, "pinned destination written"),
    (Bug::TerminatedInFlight, "pinned destination written"),
    (Bug::ScaledTheOther, "pinned destination written"),
];

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
    #[allow(clippy::mut_from_ref, reason = "the memory is not behind the reference")]
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

fn total(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte)).sum()
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
            let [_, other] = buffers[(chunk + 1) % 2].parts();
            if chunk >= 2 {
                if bug != Bug::RefilledTooEarly {
                    result::event::synchronize(done)?;
                }
                match bug {
                    Bug::SummedTooEarly => {}
                    Bug::SummedTheOther => sum += total(other),
                    _ => sum += total(target),
                }
                if bug == Bug::ScaledTheOther {
                    other.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(3));
                }
            }
            if chunk < CHUNKS {
                source.fill(chunk as u8);
                result::memcpy_htod_async(device, source, stream.cu_stream())?;
                if bug == Bug::EventBeforeCopy {
                    result::event::record(done, stream.cu_stream())?;
                }
                result::memcpy_dtoh_async(target, device, stream.cu_stream())?;
                match bug {
                    Bug::PatchedInFlight => source[..4].fill(0xee),
                    Bug::SummedTooEarly => sum += total(target),
                    Bug::ClearedInFlight => target.fill(0xee),
                    Bug::TerminatedInFlight => target[LENGTH - 1] = 0xff,
                    _ => {}
                }
                if bug != Bug::EventBeforeCopy {
                    result::event::record(done, stream.cu_stream())?;
                }
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

fn wanted() -> u64 {
    (0..CHUNKS as u64).map(|chunk| chunk * LENGTH as u64).sum()
}

#[test]
fn buffers_in_turn_are_clean() {
    for seed in 0..4 {
        let gpu = virtual_gpu(seed);
        assert_eq!(echo(&gpu, Bug::None), Ok(wanted()), "{:?}", gpu.report());
        assert_eq!(gpu.report(), None);
    }
}

#[test]
fn memory_touched_in_flight_is_found() {
    for (bug, check) in BUGS {
        for seed in 0..4 {
            let gpu = virtual_gpu(seed);
            let result = echo(&gpu, bug);
            if check == "pinned destination read" {
                // No report: what is read too early is not what the copy will bring.
                assert!(result.is_ok_and(|sum| sum != wanted()), "{bug:?}, seed {seed}: {result:?}");
                continue;
            }
            let error = result.expect_err("memory is touched in flight");
            assert_eq!(error.0, CUresult::CUDA_ERROR_ILLEGAL_STATE, "{bug:?}, seed {seed}");
            let report = gpu.report().unwrap();
            assert!(report.contains("pinned host memory touched"), "{bug:?}: {report}");
        }
    }
}
