//! What the host does: plans, the reference, and calls with and without their launch.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use criterion::{BenchmarkId, Criterion, Throughput};
use cudarc::driver::CudaSlice;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use zlpr::reference::Row;
use zlpr::{Buffers, DType, Labels, Matrix, Options, Targets, Upstream, Zlpr, raw};

use crate::device::Device;
use crate::memory::{Memory, Values};
use crate::problem::Problem;
use crate::record::Overhead;
use crate::shapes::{Mode, Settings, Shape};

/// Launches between two waits: the driver's queue holds 1,024, and a full one would be what is timed.
const LAUNCHES_AT_ONCE: u64 = 256;

/// Deciding on a launch, for every shape of a full run.
pub fn plan(criterion: &mut Criterion, device: &Device) -> Result<()> {
    device.context.bind_to_thread()?;
    let limits = raw::device()?;
    let mut group = criterion.benchmark_group("plan");
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    for shape in Settings::new(false).shapes() {
        let problem = Problem::new(shape, (DType::F16, DType::U8), Mode::Gradient);
        let regime = problem.plan(&limits)?.kernel.regime;
        let id = BenchmarkId::new(regime.module(), format!("{}x{}", problem.rows, problem.cols));
        group.bench_function(id, |bencher| bencher.iter(|| black_box(&problem).plan(&limits)));
    }
    group.finish();
    Ok(())
}

/// The f64 oracle, one row on one core.
pub fn reference(criterion: &mut Criterion) -> Result<()> {
    let normal = Normal::new(0.0, 3.0)?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut group = criterion.benchmark_group("reference");
    for cols in [103, 16_384] {
        let scores: Vec<f64> = (0..cols).map(|_| normal.sample(&mut rng)).collect();
        let labels: Vec<f64> = (0..cols).map(|_| rng.random_bool(0.03).into()).map(u8::into).collect();
        group.throughput(Throughput::Elements(cols as u64));
        group.bench_function(BenchmarkId::from_parameter(cols), |bencher| {
            bencher.iter(|| Row::new(black_box(&scores), &labels, None, &Options::new()))
        });
    }
    group.finish();
    Ok(())
}

/// What a call costs the host: validation alone, a typed call, a raw call. Times are told for a GPU only; for a virtual
/// one, the driver calls that each makes.
pub fn calls(criterion: &mut Criterion, device: &Device, settings: &Settings) -> Result<Overhead> {
    let mut typed = Typed::new(device)?;
    // Without rows nothing is launched: all that is left is validation.
    criterion.bench_function("typed call without rows", |bencher| {
        bencher.iter(|| typed.call(device, 0).expect("a valid call"))
    });

    let (tiny, types) = (Shape { name: "tiny", rows: 1, cols: COLS }, (DType::F32, DType::U8));
    let problem = Problem::new(tiny, types, Mode::Gradient);
    let plan = problem.plan(typed.zlpr.device())?;
    let values = Values::new(problem.scores, problem.labels);
    let memory = Memory::new(device, problem, &values, plan.workspace_bytes as usize)?;
    raw::prepare(&plan)?;

    let mut overhead = Overhead::default();
    let mut typed_call = || typed.call(device, 1);
    let mut raw_call = || memory.launch(&device.stream, &plan, &memory.sets[0]);
    if device.gpu.is_virtual() {
        overhead.typed_driver_calls = Some(driver_calls(device, &mut typed_call)?);
        overhead.raw_driver_calls = Some(driver_calls(device, &mut raw_call)?);
        println!("driver calls: {:?} in a typed call", overhead.typed_driver_calls.unwrap_or(0));
        println!("driver calls: {:?} in a raw call", overhead.raw_driver_calls.unwrap_or(0));
        if !settings.quick {
            return Ok(overhead);
        }
    }
    overhead.typed_call_seconds = host_time(criterion, device, "typed call with launch", &mut typed_call);
    overhead.raw_call_seconds = host_time(criterion, device, "raw call with launch", &mut raw_call);
    Ok(overhead)
}

/// Host seconds per call, the best sample's: what disturbs the host only adds. `None` on a virtual GPU.
fn host_time(
    criterion: &mut Criterion,
    device: &Device,
    name: &str,
    call: &mut dyn FnMut() -> Result<()>,
) -> Option<f64> {
    let mut best: Option<f64> = None;
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let now = left.min(LAUNCHES_AT_ONCE);
                let start = Instant::now();
                for _ in 0..now {
                    call().expect("a valid launch");
                }
                elapsed += start.elapsed();
                device.stream.synchronize().expect("the launches ran");
                left -= now;
            }
            let seconds = elapsed.as_secs_f64() / iterations as f64;
            best = Some(best.map_or(seconds, |best| best.min(seconds)));
            elapsed
        })
    });
    best.filter(|_| !device.gpu.is_virtual())
}

/// Driver calls that one call makes.
fn driver_calls(device: &Device, call: &mut dyn FnMut() -> Result<()>) -> Result<u64> {
    device.gpu.reset_calls();
    call()?;
    let calls = device.gpu.calls().context("a virtual device counts")?;
    device.stream.synchronize()?;
    Ok(calls.values().sum())
}

/// Columns of a tiny problem.
const COLS: usize = 128;

/// A row in the typed layer's arrays.
struct Typed {
    zlpr: Zlpr,
    scores: CudaSlice<f32>,
    labels: CudaSlice<u8>,
    buffers: Buffers<f32>,
}

impl Typed {
    fn new(device: &Device) -> Result<Self> {
        let zlpr = Zlpr::new(&device.context, Options::new())?;
        zlpr.prepare(DType::F32, DType::U8, COLS)?;
        Ok(Typed {
            scores: device.stream.alloc_zeros(COLS)?,
            labels: device.stream.alloc_zeros(COLS)?,
            buffers: Buffers::new(&zlpr, &device.stream, 1, COLS)?,
            zlpr,
        })
    }

    fn call(&mut self, device: &Device, rows: usize) -> Result<()> {
        let targets = Targets::new(Labels::Hard(Matrix::new(&self.labels, rows, COLS)));
        let (outputs, gradient) = self.buffers.outputs(rows, COLS)?;
        let scores = Matrix::new(&self.scores, rows, COLS);
        self.zlpr.forward_backward(&device.stream, scores, &targets, Upstream::default(), gradient, outputs)?;
        Ok(())
    }
}
