//! Loss and gradient of the scores and labels in a safetensors file.
//!
//! ```text
//! cargo run --release --example loss -- IN.safetensors OUT.safetensors --device virtual --capability 90
//! ```
//!
//! IN holds `scores` [R, N] (f32, f16, bf16), `labels` [R, N] (f32, f16, bf16, u8) and, if it likes, `mask`
//! [R, N] (u8, 0 = masked). OUT gets `loss` [R] (f32) and `grad` [R, N] in the scores' type, each row's
//! gradient that of its own loss.

mod compute;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use zlpr::{DType, Options};

use compute::{Inputs, Outcome};
use support::device::{Choice, Device};
use support::tensors::{Matrix, Tensors, file_type};

/// Loss and gradient of the scores and labels in a safetensors file
#[derive(Parser)]
struct Cli {
    /// File with `scores` [R, N], `labels` [R, N] and optionally `mask` [R, N]
    input: PathBuf,
    /// File to write: `loss` [R] and `grad` [R, N]
    output: PathBuf,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    device: Choice,
    /// Labels below it count as 0, above 1 - it as 1 [default: 1e-7]
    #[arg(long, allow_negative_numbers = true)]
    epsilon: Option<f32>,
    /// Scores at or below it are masked [default: only -inf is]
    #[arg(long, allow_negative_numbers = true)]
    cutoff: Option<f32>,
    /// Compute capability of the virtual GPU, 80 = 8.0; with it, auto is virtual [default: 80]
    #[arg(long, value_parser = ["75", "80", "90"])]
    capability: Option<String>,
}

fn main() -> ExitCode {
    support::finish(run(&Cli::parse()))
}

fn run(cli: &Cli) -> Result<()> {
    let mut options = Options::new();
    if let Some(epsilon) = cli.epsilon {
        options = options.epsilon(epsilon);
    }
    if let Some(cutoff) = cli.cutoff {
        options = options.cutoff(cutoff);
    }
    options.validate()?;

    let path = || cli.input.display().to_string();
    let bytes = fs::read(&cli.input).with_context(path)?;
    let inputs = read(&bytes).with_context(path)?;
    let capability = cli.capability.as_deref().map(str::parse).transpose()?;
    let device = Device::open(cli.device, capability)?;
    let outcome = compute::run(&device, &inputs, options)?;

    print(&inputs, &device, &outcome)?;
    write(&cli.output, &inputs, &outcome).with_context(|| format!("cannot write {}", cli.output.display()))
}

fn read(bytes: &[u8]) -> Result<Inputs<'_>> {
    let tensors = Tensors::parse(bytes)?;
    let scores = tensors.matrix("scores", &[DType::F32, DType::F16, DType::Bf16])?;
    let labels = tensors.matrix("labels", &[DType::F32, DType::F16, DType::Bf16, DType::U8])?;
    let mask = tensors.optional_matrix("mask", &[DType::U8])?;
    for (name, other) in [("labels", Some(labels)), ("mask", mask)] {
        let Some(Matrix { rows, cols, .. }) = other else { continue };
        let expected = [scores.rows, scores.cols];
        ensure!([rows, cols] == expected, "`{name}` is [{rows}, {cols}], but `scores` is {expected:?}");
    }
    Ok(Inputs { scores, labels, mask })
}

fn print(inputs: &Inputs<'_>, device: &Device, outcome: &Outcome) -> Result<()> {
    let Inputs { scores, labels, mask } = inputs;
    let mask = if mask.is_some() { ", mask u8" } else { "" };
    println!("shape      [{}, {}]: scores {}, labels {}{mask}", scores.rows, scores.cols, scores.dtype, labels.dtype);
    if outcome.labels != labels.dtype {
        println!(
            "           no kernel takes {} labels with {} scores: widened to {}, which is exact",
            labels.dtype, scores.dtype, outcome.labels
        );
    }
    println!("device     {}", device.describe()?);
    println!("kernel     {}", outcome.kernel);
    match outcome.loss.len() {
        0 => println!("mean loss  none: there are no rows"),
        rows => {
            let sum: f64 = outcome.loss.iter().copied().map(f64::from).sum();
            println!("mean loss  {:?}", (sum / rows as f64) as f32);
        }
    }

    let elements = (scores.rows * scores.cols) as f64;
    let floor = inputs.floor(outcome.labels) as f64 / elements;
    match outcome.moved {
        _ if elements == 0.0 => println!("moved      nothing"),
        Some(moved) => println!(
            "moved      {:.3} bytes per element, counted by the virtual GPU; everything once: {floor:.3}",
            moved as f64 / elements
        ),
        None => println!("moved      not counted on this device; everything once: {floor:.3} bytes per element"),
    }
    Ok(())
}

fn write(path: &Path, inputs: &Inputs<'_>, outcome: &Outcome) -> Result<()> {
    let Matrix { rows, cols, dtype, .. } = inputs.scores;
    let dtype = file_type(dtype).context("the scores' type has no name in safetensors")?;
    let loss = TensorView::new(Dtype::F32, vec![rows], bytemuck::cast_slice(&outcome.loss))?;
    let gradient = TensorView::new(dtype, vec![rows, cols], &outcome.gradient)?;
    Ok(serialize_to_file([("loss", loss), ("grad", gradient)], None, path)?)
}
