//! `cargo xtask throughput`: how fast the virtual GPU runs this crate's kernels, with all its checks on.

use std::time::Instant;

use anyhow::{Context, Result};
use cudarc::driver::DevicePtr;
use half::f16;
use softcuda::Config;
use zlpr::plan::{Plan, Problem, Regime};
use zlpr::{DType, Options, Reduction, raw};

const ROWS: usize = 256;

/// Columns that keep each regime in its main loop.
const SHAPES: [(Regime, usize); 4] =
    [(Regime::Warp, 1024), (Regime::Block, 4096), (Regime::Staged, 4096), (Regime::TwoPass, 4096)];

/// Prints warp instructions per second of one host thread, for f16 scores and labels, with races looked for or not.
pub fn run() -> Result<()> {
    println!("{:<10} {:>6} {:>22} {:>16}", "regime", "cols", "million instr/s", "without races");
    for (regime, cols) in SHAPES {
        let checked = rate(regime, cols, true)?;
        let unchecked = rate(regime, cols, false)?;
        println!("{:<10} {cols:>6} {checked:>22.1} {unchecked:>16.1}", regime.module());
    }
    Ok(())
}

fn rate(regime: Regime, cols: usize, races: bool) -> Result<f64> {
    let config = Config { workers: 1, eager: true, races, ..Config::capability(8, 0) };
    let gpu = softcuda::virtual_gpu(config)?;
    let context = zlpr::context(gpu.ordinal())?;
    let stream = context.new_stream()?;
    let scores: Vec<f16> = (0..ROWS * cols).map(|i| f16::from_f32((i * 7919 % 1013) as f32 / 100.0 - 5.0)).collect();
    let labels: Vec<f16> = (0..ROWS * cols).map(|i| f16::from_f32((i % 5) as f32 / 4.0)).collect();
    let (scores, labels) = (stream.clone_htod(&scores)?, stream.clone_htod(&labels)?);
    let (gradient, loss) = (stream.alloc_zeros::<f16>(ROWS * cols)?, stream.alloc_zeros::<f32>(ROWS)?);
    let problem = Problem {
        rows: ROWS as u64,
        cols: cols as u64,
        scores: DType::F16,
        labels: DType::F16,
        gradient: Some(DType::F16),
        reduction: Reduction::None,
    };
    let plan = Plan::with_regime(&raw::device()?, &problem, regime)?;
    raw::prepare(&plan)?;
    let stride = cols as u64;
    let arguments = raw::Arguments {
        scores: scores.device_ptr(&stream).0,
        scores_stride: stride,
        labels: labels.device_ptr(&stream).0,
        labels_stride: stride,
        mask: 0,
        mask_stride: 0,
        gradient: gradient.device_ptr(&stream).0,
        gradient_stride: stride,
        loss: loss.device_ptr(&stream).0,
        upstream: 0,
        upstream_stride: 0,
        scale: 1.0,
        total: 0,
        workspace: 0,
    };
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        // SAFETY: the slices have the problem's shape and outlive the launch, which is waited for.
        unsafe { raw::launch(&plan, &Options::new(), &arguments, stream.cu_stream().cast())? };
        stream.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    let launches = gpu.launches().context("a virtual device counts")?;
    let instructions = launches.last().context("there were launches")?.counters.warp_instructions;
    Ok(instructions as f64 / best / 1e6)
}
