//! Trains a linear multi-label model with ZLPR and with sigmoid + binary cross-entropy, and compares them.
//!
//! ```text
//! cargo run --release --example train
//! cargo run --release --example train -- --data FILE.safetensors --device virtual --dtype f16
//! ```
//!
//! The dense layer is ndarray's, on the CPU, with Adam at 0.01. Loss and gradient of ZLPR are this crate's,
//! on the GPU if there is one. The data are a file with `features` [n, d] (f32) and `labels` [n, L] (u8), or
//! generated; one half is trained on, the other tests. What is printed on stdout is the same in every run.

mod data;
mod device;
mod generator;
mod metrics;
mod model;
mod objective;
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use half::{bf16, f16};
use indicatif::{ProgressBar, ProgressStyle};
use ndarray::Axis;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use data::Data;
use metrics::F1;
use model::{LEARNING_RATE, Linear};
use objective::{BinaryCrossEntropy, Objective, Targets};
use report::{Epoch, Run};
use support::device::{Choice, Device};

/// Trains a linear multi-label model with ZLPR and with sigmoid + binary cross-entropy, and compares them
#[derive(Parser)]
struct Cli {
    /// File with `features` [n, d] (f32) and `labels` [n, L] (u8) [default: generated data]
    #[arg(long, value_name = "FILE.safetensors")]
    data: Option<PathBuf>,
    /// Which loss to train with
    #[arg(long, value_enum, default_value_t = Loss::Both)]
    loss: Loss,
    /// Type of scores and gradient on the device
    #[arg(long, value_enum, default_value_t = Type::F32)]
    dtype: Type,
    /// Where ZLPR is computed
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    device: Choice,
    /// Passes over the training half
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    epochs: u32,
    /// Rows of a step
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Label smoothing: t' = (1 - A) t + A / 2, 0 <= A < 1
    #[arg(long, value_name = "A", default_value_t = 0.0, allow_negative_numbers = true)]
    label_smoothing: f32,
    /// Seed of the generated data, the halves and the order of the rows
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the learning curves go
    #[arg(long, value_name = "FILE.svg", default_value = "target/train.svg")]
    plot: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Loss {
    Zlpr,
    Bce,
    Both,
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    F32,
    F16,
    Bf16,
}

fn main() -> ExitCode {
    support::finish(run(&Cli::parse()))
}

fn run(cli: &Cli) -> Result<()> {
    let smoothing = cli.label_smoothing;
    ensure!((0.0..1.0).contains(&smoothing), "--label-smoothing is {smoothing}; allowed: 0 <= A < 1");
    let data = Data::load(cli.data.as_deref(), cli.seed)?;
    let device = if cli.loss == Loss::Bce { None } else { Some(Device::open(cli.device, None)?) };
    println!("data      {}", data.description);
    println!("model     linear, zero at first; Adam {LEARNING_RATE}, batches of {}, {} epochs", cli.batch, cli.epochs);
    let mut objectives: Vec<Box<dyn Objective + '_>> = Vec::new();
    if let Some(device) = &device {
        let zlpr = match cli.dtype {
            Type::F32 => device::zlpr::<f32>,
            Type::F16 => device::zlpr::<f16>,
            Type::Bf16 => device::zlpr::<bf16>,
        };
        let rows = data.train.features.nrows().min(cli.batch as usize);
        objectives.push(zlpr(device, rows, data.train.labels.ncols(), smoothing > 0.0)?);
        let dtype = cli.dtype.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        println!("ZLPR      {dtype} on {}", device.describe()?);
    }
    if cli.loss != Loss::Zlpr {
        objectives.push(Box::new(BinaryCrossEntropy));
        println!("BCE       f32 on CPU; sigmoid + binary cross-entropy, summed over the labels");
    }

    let mut runs = Vec::new();
    for mut objective in objectives {
        runs.push(train(objective.as_mut(), &data, cli)?);
    }
    report::print_table(&runs);
    report::plot(&runs, &cli.plot)?;
    println!("\nlearning curves: {}", cli.plot.display());
    Ok(())
}

fn train(objective: &mut dyn Objective, data: &Data, cli: &Cli) -> Result<Run> {
    let start = Instant::now();
    let name = objective.name();
    let (rows, labels) = data.train.labels.dim();
    let mut model = Linear::new(data.train.features.ncols(), labels);
    let mut order: Vec<usize> = (0..rows).collect();
    // Every loss sees the rows in the same order.
    let mut rng = ChaCha8Rng::seed_from_u64(cli.seed);
    let progress = ProgressBar::new(u64::from(cli.epochs) * rows as u64)
        .with_prefix(name)
        .with_style(ProgressStyle::with_template("{prefix} {bar:24} {percent:>3} %  {msg}")?.progress_chars("##-"));

    let mut epochs = Vec::new();
    for number in 1..=cli.epochs {
        order.shuffle(&mut rng);
        let mut sum = 0.0;
        for batch in order.chunks(cli.batch as usize) {
            let features = data.train.features.select(Axis(0), batch);
            let targets = Targets::new(data.train.labels.select(Axis(0), batch), cli.label_smoothing);
            let (loss, gradient) = objective.step(model.scores(features.view()).view(), &targets)?;
            ensure!(loss.is_finite(), "{name}: the loss is {loss} in epoch {number}");
            model.step(features.view(), &gradient);
            sum += f64::from(loss) * batch.len() as f64;
            progress.inc(batch.len() as u64);
        }
        let f1 = |part: &data::Part| F1::of(model.scores(part.features.view()).view(), part.labels.view());
        let epoch = Epoch { loss: (sum / rows as f64) as f32, train: f1(&data.train), test: f1(&data.test) };
        progress.set_message(format!("loss {:.4}, test micro-F1 {:.4}", epoch.loss, epoch.test.micro));
        epochs.push(epoch);
    }
    progress.finish_and_clear();
    // Times differ from run to run, so they go to stderr.
    eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(Run { name, epochs })
}
