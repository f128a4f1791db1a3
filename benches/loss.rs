//! Criterion benches: `cargo bench --bench loss`.
//!
//! Everywhere: making a plan, validating a call, the reference. Where there is a GPU: the launch path, and
//! the kernels, timed with CUDA events. Without one they are skipped, since the virtual GPU keeps no time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use criterion::{BenchmarkId, Criterion, Throughput};
use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream};
use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use zlpr::plan::{Device, Plan, Problem};
use zlpr::reference::Row;
use zlpr::{Buffers, DType, Labels, Matrix, Options, Reduction, Score, Targets, Upstream, Zlpr};

/// Shapes of real workloads, at least one for every regime.
const SHAPES: [(usize, usize, &str); 7] = [
    (1024, 103, "RCV1"),
    (264_192, 220, "TPLinker+"),
    (4096, 3956, "EUR-Lex"),
    (640, 16_384, "CLUENER, 10 heads of 128^2"),
    (144, 65_536, "CMeEE, 9 heads of 256^2"),
    (64, 670_091, "Amazon-670K"),
    (40, 1_048_576, "GlobalPointer, 1024^2"),
];

/// Launches between two waits: the driver's queue holds 1,024, and a full one would be what is timed.
const LAUNCHES_AT_ONCE: u64 = 256;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    plan(&mut criterion)?;
    reference(&mut criterion);
    match softcuda::gpu(Default::default()) {
        Ok(gpu) => {
            let context = zlpr::context(gpu.ordinal())?;
            validation(&mut criterion, &context)?;
            if gpu.is_virtual() {
                eprintln!("skipped: launch path and kernels, there is no GPU (the virtual one keeps no time)");
            } else {
                eprintln!("kernels run on {}", context.name()?);
                launch_path(&mut criterion, &context)?;
                kernels::<f16>(&mut criterion, &context);
                kernels::<bf16>(&mut criterion, &context);
                kernels::<f32>(&mut criterion, &context);
            }
        }
        Err(error) => eprintln!("skipped: validation, launch path and kernels, there is no device: {error}"),
    }
    criterion.final_summary();
    Ok(())
}

/// Deciding on a launch, for a device with the limits of an H100.
fn plan(criterion: &mut Criterion) -> Result<()> {
    let device = Device { capability: (9, 0), shared_memory_per_block: 227 * 1024, max_grid: i32::MAX as u32 };
    let mut group = criterion.benchmark_group("plan");
    for (rows, cols, _) in SHAPES {
        let problem = Problem {
            rows: rows as u64,
            cols: cols as u64,
            scores: DType::F16,
            labels: DType::U8,
            gradient: Some(DType::F16),
            reduction: Reduction::Mean,
        };
        let regime = Plan::new(&device, &problem)?.kernel.regime;
        group.bench_function(BenchmarkId::new(regime.module(), format!("{rows}x{cols}")), |bencher| {
            bencher.iter(|| Plan::new(&device, std::hint::black_box(&problem)))
        });
    }
    group.finish();
    Ok(())
}

/// The f64 oracle, one row on one core.
fn reference(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reference");
    for cols in [103, 16_384] {
        let (scores, labels) = host_rows::<f32>(1, cols);
        let scores: Vec<f64> = scores.into_iter().map(f64::from).collect();
        let labels: Vec<f64> = labels.into_iter().map(f64::from).collect();
        group.throughput(Throughput::Elements(cols as u64));
        group.bench_function(BenchmarkId::from_parameter(cols), |bencher| {
            bencher.iter(|| Row::new(std::hint::black_box(&scores), &labels, None, &Options::new()))
        });
    }
    group.finish();
}

/// Everything a typed call does but the launch: without rows nothing is launched.
fn validation(criterion: &mut Criterion, context: &Arc<CudaContext>) -> Result<()> {
    let mut inputs = Inputs::<f32>::new(context, 1, 128)?;
    criterion.bench_function("typed call without rows", |bencher| {
        bencher.iter(|| inputs.launch(0, 128, false).expect("a valid call"))
    });
    Ok(())
}

/// Host time of one typed call with its launch.
fn launch_path(criterion: &mut Criterion, context: &Arc<CudaContext>) -> Result<()> {
    let mut inputs = Inputs::<f32>::new(context, 1, 128)?;
    let stream = inputs.stream.clone();
    criterion.bench_function("typed call with launch", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut elapsed = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let now = left.min(LAUNCHES_AT_ONCE);
                let start = Instant::now();
                for _ in 0..now {
                    inputs.launch(1, 128, false).expect("a valid launch");
                }
                elapsed += start.elapsed();
                stream.synchronize().expect("the launches ran");
                left -= now;
            }
            elapsed
        })
    });
    Ok(())
}

/// Forward + gradient on the GPU, by events around the launches. The throughput is that of the floor: every
/// input and output moved once.
fn kernels<S: Score>(criterion: &mut Criterion, context: &Arc<CudaContext>) {
    for hard in [false, true] {
        let label_type = if hard { DType::U8 } else { S::DTYPE };
        let mut group = criterion.benchmark_group(format!("kernel {} {label_type}", S::DTYPE));
        for (rows, cols, workload) in SHAPES {
            let bytes = rows * cols * (2 * S::DTYPE.size() + label_type.size()) + rows * size_of::<f32>();
            group.throughput(Throughput::Bytes(bytes as u64));
            // Made when the first sample is taken, so that a filter on the command line skips it.
            let mut copies = None;
            group.bench_function(BenchmarkId::new(workload, format!("{rows}x{cols}")), |bencher| {
                let copies: &mut Vec<Inputs<S>> =
                    copies.get_or_insert_with(|| beyond_the_cache(context, rows, cols, bytes).expect("device memory"));
                bencher.iter_custom(|iterations| time(copies, rows, cols, hard, iterations).expect("the launches ran"))
            });
        }
        group.finish();
    }
}

/// As many copies of the inputs as make the L2 cache useless when they take turns.
fn beyond_the_cache<S: Score>(
    context: &Arc<CudaContext>,
    rows: usize,
    cols: usize,
    bytes: usize,
) -> Result<Vec<Inputs<S>>> {
    let cache = context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?;
    let count = (4 * usize::try_from(cache)?).div_ceil(bytes).clamp(1, 1024);
    (0..count).map(|_| Inputs::new(context, rows, cols)).collect()
}

fn time<S: Score>(copies: &mut [Inputs<S>], rows: usize, cols: usize, hard: bool, iterations: u64) -> Result<Duration> {
    let stream = copies[0].stream.clone();
    let event = || stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
    let start = event()?;
    for index in 0..iterations as usize {
        let turn = index % copies.len();
        copies[turn].launch(rows, cols, hard)?;
    }
    let milliseconds = start.elapsed_ms(&event()?)?;
    Ok(Duration::from_secs_f64(f64::from(milliseconds) / 1e3))
}

/// A batch in device memory, with labels in both forms.
struct Inputs<S> {
    stream: Arc<CudaStream>,
    zlpr: Zlpr,
    scores: CudaSlice<S>,
    soft: CudaSlice<S>,
    hard: CudaSlice<u8>,
    buffers: Buffers<S>,
}

impl<S: Score> Inputs<S> {
    fn new(context: &Arc<CudaContext>, rows: usize, cols: usize) -> Result<Self> {
        let stream = context.default_stream();
        let zlpr = Zlpr::new(context, Options::new())?;
        for labels in [S::DTYPE, DType::U8] {
            zlpr.prepare(S::DTYPE, labels, cols)?;
        }
        let (scores, labels) = host_rows::<S>(rows, cols);
        let soft: Vec<S> = labels.iter().map(|&label| S::from_f64(0.05 + 0.9 * f64::from(label))).collect();
        Ok(Inputs {
            scores: stream.clone_htod(&scores)?,
            soft: stream.clone_htod(&soft)?,
            hard: stream.clone_htod(&labels)?,
            buffers: Buffers::new(&zlpr, &stream, rows, cols)?,
            stream,
            zlpr,
        })
    }

    fn launch(&mut self, rows: usize, cols: usize, hard: bool) -> Result<(), zlpr::Error> {
        let labels = match hard {
            true => Labels::Hard(Matrix::new(&self.hard, rows, cols)),
            false => Labels::Soft(Matrix::new(&self.soft, rows, cols)),
        };
        let (outputs, gradient) = self.buffers.outputs(rows, cols)?;
        let scores = Matrix::new(&self.scores, rows, cols);
        self.zlpr.forward_backward(&self.stream, scores, &Targets::new(labels), Upstream::default(), gradient, outputs)
    }
}

/// Scores of standard deviation 3 and hard labels, about four per row.
fn host_rows<S: Score>(rows: usize, cols: usize) -> (Vec<S>, Vec<u8>) {
    // One block of values again and again: the kernels' work does not depend on them, the set-up's does.
    const BLOCK: usize = 1 << 20;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let normal = Normal::new(0.0, 3.0).expect("a finite deviation");
    let share = (4.0 / cols as f64).min(0.5);
    let elements = rows * cols;
    let scores: Vec<S> = (0..elements.min(BLOCK)).map(|_| S::from_f64(normal.sample(&mut rng))).collect();
    let labels: Vec<u8> = (0..elements.min(BLOCK)).map(|_| rng.random_bool(share).into()).collect();
    let cycle = |count| (0..count).map(|index| index % BLOCK);
    (cycle(elements).map(|index| scores[index]).collect(), cycle(elements).map(|index| labels[index]).collect())
}
