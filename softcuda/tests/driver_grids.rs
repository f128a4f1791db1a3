//! Grids whose blocks wait for one another, and grids that depend on one another, in 32 orders.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaStream, DevicePtr, PushKernelArg};
use driver_support::{device, kernel, shape};
use softcuda::{Config, schedules};

/// Steps of a relaxation between which all blocks meet at a barrier of atomics (programs/grid_barrier.cu);
/// and the same without its fences.
const BARRIER: &str = include_str!("programs/ptx/grid_barrier.ptx");
const WITHOUT_FENCES: &str = include_str!("programs/ptx/grid_barrier.bug3.ptx");

/// A kernel that needs another's results, and waits for them (programs/dependent_launch.cu).
const DEPENDENT: &str = include_str!("programs/ptx/dependent_launch.ptx");

const THREADS: u32 = 64;
const STEPS: i32 = 3;

/// Four blocks on a device that holds no more of them.
fn small(seed: u64) -> Config {
    Config { seed, sm_count: 2, max_blocks_per_sm: 2, workers: 1 + seed as u32 % 3, ..Config::capability(8, 0) }
}

/// Relaxes a line in a cooperative launch of so many blocks.
fn relax(config: Config, ptx: &str, blocks: u32) -> Result<Vec<f32>, CUresult> {
    let (_gpu, context) = device(config);
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, ptx, "relax");
    let n = (blocks * THREADS) as i32;
    let line = start(n);
    let mut from = stream.clone_htod(&line).unwrap();
    let mut to = stream.clone_htod(&line).unwrap();
    let mut meeting = stream.alloc_zeros::<u32>(2).unwrap();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut from).arg(&mut to).arg(&n).arg(&STEPS).arg(&mut meeting);
    unsafe { launch.launch_cooperative(shape(blocks, THREADS)) }.map_err(|error| error.0)?;
    // After an odd number of steps the result is in the second array.
    stream.clone_dtoh(&to).map_err(|error| error.0)
}

/// Eighths, whose halves of sums are exact for these few steps.
fn start(n: i32) -> Vec<f32> {
    (0..n).map(|i| (i * i % 37) as f32 / 8.0).collect()
}

fn relaxed(n: i32) -> Vec<f32> {
    let mut line = start(n);
    for _ in 0..STEPS {
        let from = line.clone();
        (1..line.len() - 1).for_each(|i| line[i] = 0.5 * (from[i - 1] + from[i + 1]));
    }
    line
}

#[test]
fn blocks_of_a_cooperative_launch_meet_in_any_order() {
    schedules(32, |seed| {
        assert_eq!(relax(small(seed), BARRIER, 4).unwrap(), relaxed(4 * THREADS as i32), "seed {seed}");
    });
}

#[test]
fn a_grid_barrier_without_fences_is_found_out() {
    for seed in 0..32 {
        assert_eq!(relax(small(seed), WITHOUT_FENCES, 4), Err(CUresult::CUDA_ERROR_LAUNCH_FAILED), "seed {seed}");
    }
}

/// Blocks that are not on the device together would never meet: a cooperative launch does not begin.
#[test]
fn a_grid_that_does_not_fit_cannot_meet() {
    let refused = relax(small(1), BARRIER, 5);
    assert_eq!(refused, Err(CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE));
}

/// Launches with programmatic stream serialisation: the grid may begin before the one before it has ended.
fn overlapping(stream: &CudaStream, function: &cudarc::driver::CudaFunction, blocks: u32, args: &mut [u64]) {
    let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
    value.programmaticStreamSerializationAllowed = 1;
    let mut attribute = sys::CUlaunchAttribute { id, pad: [0; 4], value };
    let config = sys::CUlaunchConfig {
        gridDimX: blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: THREADS,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream.cu_stream(),
        attrs: &raw mut attribute,
        numAttrs: 1,
    };
    let mut pointers: Vec<_> = args.iter_mut().map(|arg| std::ptr::from_mut(arg).cast()).collect();
    let result =
        unsafe { sys::cuLaunchKernelEx(&config, function.cu_function(), pointers.as_mut_ptr(), std::ptr::null_mut()) };
    assert_eq!(result, CUresult::CUDA_SUCCESS);
}

/// Grids of a stream run one after another here, as the README says: the second one finds the first one's
/// results at its `griddepcontrol.wait`, as it must, and before it too, where hardware promises nothing.
#[test]
fn a_dependent_grid_runs_after_the_one_before_it() {
    let early = DEPENDENT.replace("griddepcontrol.wait;", "");
    assert_ne!(early, DEPENDENT);
    for ptx in [DEPENDENT, &early] {
        schedules(32, |seed| {
            let (_gpu, context) = device(Config { seed, ..Config::capability(9, 0) });
            let stream = context.new_stream().unwrap();
            let (first, second) = (kernel(&context, ptx, "first"), kernel(&context, ptx, "second"));
            let n = 200_usize;
            let (x, weights) = (start(n as i32), vec![2f32; n]);
            let input = stream.clone_htod(&x).unwrap();
            let weights = stream.clone_htod(&weights).unwrap();
            let (middle, output) = (stream.alloc_zeros::<f32>(n).unwrap(), stream.alloc_zeros::<f32>(n).unwrap());
            let [input, weights, middle, result] =
                [&input, &weights, &middle, &output].map(|buffer| buffer.device_ptr(&stream).0);
            overlapping(&stream, &first, 4, &mut [middle, input, n as u64]);
            overlapping(&stream, &second, 4, &mut [result, middle, weights, n as u64]);
            let wanted: Vec<f32> = (0..n).map(|i| 2.0 * (x[n - 1 - i] * x[n - 1 - i])).collect();
            assert_eq!(stream.clone_dtoh(&output).unwrap(), wanted, "seed {seed}");
        });
    }
}
