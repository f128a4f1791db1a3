//! Bugs of the host: what it frees twice, never frees, or touches while the device does. A small
//! application in cudarc makes them on request, and none without.

use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaFunction, DriverError, LaunchConfig, PushKernelArg, result};
use cudarc::nvrtc::Ptx;
use softcuda::{Config, Gpu};

use crate::nvrtc;

/// What the application does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    None,
    /// The destructor of a wrapper frees what its owner has freed.
    FreedBySecondOwner,
    /// A buffer is freed on both of two ways out.
    FreedOnBothWays,
    /// A slice is rebuilt from a pointer that still has its owner.
    FreedByTwoSlices,
    /// An early return forgets a buffer.
    ForgottenOnError,
    /// A buffer is replaced by a larger one, and the smaller one forgotten.
    ForgottenWhenGrown,
    /// A slice becomes a raw pointer for an interface that does not own it.
    ForgottenAsPointer,
}

/// Each bug, and the check that finds it.
pub const BUGS: [(Bug, &str); 6] = [
    (Bug::FreedBySecondOwner, "double free"),
    (Bug::FreedOnBothWays, "double free"),
    (Bug::FreedByTwoSlices, "double free"),
    (Bug::ForgottenOnError, "leak"),
    (Bug::ForgottenWhenGrown, "leak"),
    (Bug::ForgottenAsPointer, "leak"),
];

fn bugs(check: &str) -> impl Iterator<Item = Bug> {
    BUGS.into_iter().filter(move |(_, name)| *name == check).map(|(bug, _)| bug)
}

struct Application {
    gpu: Gpu,
    context: Arc<CudaContext>,
    kernel: CudaFunction,
}

impl Application {
    fn new(seed: u64) -> Application {
        let gpu = softcuda::virtual_gpu(Config { seed, ..Config::capability(8, 0) }).unwrap();
        let context = CudaContext::new(gpu.ordinal()).unwrap();
        let ptx = std::fs::read_to_string(nvrtc::checked_in("histogram", 0)).unwrap();
        let module = context.load_module(Ptx::from_src(ptx)).unwrap();
        let kernel = module.load_function("by_private_copies").unwrap();
        Application { gpu, context, kernel }
    }

    /// The histogram of some bytes, with memory from both allocators.
    fn histogram(&self, bytes: &[u8], bug: Bug) -> Result<Vec<u32>, DriverError> {
        let stream = self.context.new_stream()?;
        let mut input = stream.clone_htod(bytes)?;
        if bug == Bug::ForgottenWhenGrown {
            let larger = stream.alloc_zeros::<u8>(2 * bytes.len())?;
            std::mem::replace(&mut input, larger).leak();
            stream.memcpy_htod(bytes, &mut input)?;
        }
        // SAFETY: whether the pointers are good is what the bugs are about; kernel and buffers have
        // the sizes that they name.
        unsafe {
            let bins = result::malloc_sync(4 * 256)?;
            // In the stream of the launch: what the null stream does is not ordered before it.
            result::memset_d8_async(bins, 0, 4 * 256, stream.cu_stream())?;
            if bug == Bug::ForgottenOnError && bytes.len() > 100 {
                return Ok(Vec::new());
            }
            let mut launch = stream.launch_builder(&self.kernel);
            let n = bytes.len() as i32;
            launch.arg(&bins).arg(&input).arg(&n);
            launch.launch(LaunchConfig { grid_dim: (2, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 })?;
            let mut counts = vec![0u32; 256];
            stream.synchronize()?;
            result::memcpy_dtoh_sync(&mut counts, bins)?;
            result::free_sync(bins)?;
            if bug == Bug::FreedOnBothWays {
                result::free_sync(bins)?;
            }
            match bug {
                Bug::ForgottenAsPointer => {
                    let pointer = input.leak();
                    assert_ne!(pointer, 0);
                }
                Bug::FreedBySecondOwner => {
                    let pointer = input.leak();
                    result::free_sync(pointer)?;
                    result::free_async(pointer, stream.cu_stream())?;
                }
                Bug::FreedByTwoSlices => {
                    let pointer = input.leak();
                    let first = stream.upgrade_device_ptr::<u8>(pointer, bytes.len());
                    let second = stream.upgrade_device_ptr::<u8>(pointer, bytes.len() / 2);
                    drop((first, second));
                    // cudarc keeps what a destructor met for the next call.
                    self.context.check_err()?;
                }
                _ => drop(input),
            }
            Ok(counts)
        }
    }
}

const SEEDS: [u64; 3] = [0, 1, 2];

fn wanted(bytes: &[u8]) -> Vec<u32> {
    (0..=255).map(|bin| bytes.iter().filter(|&&v| v == bin).count() as u32).collect()
}

#[test]
fn the_application_is_clean() {
    for seed in SEEDS {
        let application = Application::new(seed);
        for n in [1, 100, 777] {
            let bytes: Vec<u8> = (0..n).map(|i| (i * i) as u8).collect();
            assert_eq!(application.histogram(&bytes, Bug::None).unwrap(), wanted(&bytes));
        }
        let Application { gpu, context, kernel } = application;
        drop((context, kernel));
        assert_eq!((gpu.report(), gpu.leaks()), (None, Some(Vec::new())));
    }
}

#[test]
fn what_is_freed_twice_is_found() {
    for bug in bugs("double free") {
        let application = Application::new(1);
        let error = application.histogram(&[1, 2, 3, 4], bug).expect_err("a double free");
        assert_eq!(error.0, CUresult::CUDA_ERROR_INVALID_VALUE, "{bug:?}");
        let report = application.gpu.report().unwrap();
        assert!(report.contains("freed before") && report.contains("allocated by call"), "{bug:?}: {report}");
    }
}

#[test]
fn what_is_never_freed_is_found() {
    for bug in bugs("leak") {
        // What is forgotten on an error are the bins, otherwise the input.
        let bytes = if bug == Bug::ForgottenOnError { 1024 } else { 200 };
        let application = Application::new(1);
        application.histogram(&[7; 200], bug).unwrap();
        let Application { gpu, context, kernel } = application;
        drop((context, kernel));
        let leaks = gpu.leaks().unwrap();
        assert!(leaks.len() == 1 && leaks[0].starts_with(&format!("{bytes} bytes")), "{bug:?}: {leaks:?}");
    }
}
