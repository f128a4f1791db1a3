//! `cargo xtask counted`: what the kernels ask of memory, counted by the virtual GPU, against budgets.

mod budgets;
mod grid;
mod measure;
mod plot;
mod table;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use zlpr::DType;
use zlpr::plan::Regime;

use self::budgets::Budgets;
use self::grid::{CAPABILITIES, Capability, Extent, PAIRS, Shape};
use self::measure::Counted;

/// Options of `cargo xtask counted`.
#[derive(Args)]
pub struct Options {
    /// Regimes, such as warp; default: those that plans select, and each at the edges of its range.
    #[arg(long, value_delimiter = ',', value_parser = grid::regime)]
    regime: Vec<Regime>,
    /// Compute capabilities of the virtual GPU; default: 7.5, 8.0, 8.6, 9.0, 10.0, 12.0.
    #[arg(long, value_delimiter = ',')]
    capability: Vec<Capability>,
    /// Shapes as ROWSxCOLS, run with so many rows, instead of the grid.
    #[arg(long, value_delimiter = ',')]
    shape: Vec<Shape>,
    /// A part of the grid that takes a minute.
    #[arg(long, conflicts_with_all = ["shape", "capability"])]
    quick: bool,
    /// Print every run, not only the worst of each regime and capability.
    #[arg(long)]
    runs: bool,
    /// Write every run as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Draw bytes per element over columns as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// Fail if a budget of xtask/counted.toml is exceeded and that is not known, or no longer so.
    #[arg(long)]
    check: bool,
}

/// Capabilities of the quick grid: without asynchronous copies, with them, with clusters, with little shared memory.
const QUICK: [Capability; 4] = [Capability(7, 5), Capability(8, 0), Capability(9, 0), Capability(12, 0)];

/// Runs the command.
///
/// # Errors
/// A launch fails, a file cannot be written, or with `check` a budget is exceeded.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let budgets = Budgets::read()?;
    let capabilities = match options {
        Options { capability, .. } if !capability.is_empty() => capability.clone(),
        Options { quick: true, .. } => QUICK.to_vec(),
        _ => CAPABILITIES.to_vec(),
    };
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{pos}/{len} runs {wide_bar} {elapsed}")?);
    let jobs: Vec<_> = capabilities.iter().flat_map(|&on| PAIRS.map(|pair| (on, pair))).collect();
    let counted: Vec<Vec<Counted>> =
        jobs.par_iter().map(|&(on, pair)| options.count(on, pair, &bar)).collect::<Result<_>>()?;
    bar.finish_and_clear();
    let counted = counted.concat();
    ensure!(!counted.is_empty(), "no regime that was asked for holds such a row");

    print!(
        "{}",
        if options.runs || !options.shape.is_empty() { table::runs(&counted) } else { table::summary(&counted) }
    );
    println!("{} launches counted in {:.0} s", counted.len(), start.elapsed().as_secs_f64());
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&counted)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &options.plot {
        plot::draw(&counted, path).with_context(|| format!("cannot write {}", path.display()))?;
    }

    let verdict = budgets.judge(&counted);
    for text in verdict.known() {
        println!("known: {text}");
    }
    let all = options.regime.is_empty() && options.shape.is_empty() && options.capability.is_empty();
    let wrong = verdict.wrong(all.then(|| options.extent()));
    if wrong.is_empty() {
        println!("nothing exceeds its budget in a way that is not known");
        return Ok(());
    }
    let list = format!("budgets exceeded:\n  {}", wrong.join("\n  "));
    ensure!(!options.check, "{list}");
    println!("{list}");
    Ok(())
}

impl Options {
    fn extent(&self) -> Extent {
        if self.quick { Extent::Quick } else { Extent::Whole }
    }

    /// Everything that was asked for on one device with one pair of types.
    fn count(&self, on: Capability, pair: (DType, DType), bar: &ProgressBar) -> Result<Vec<Counted>> {
        let lab = measure::lab(on)?;
        lab.context().bind_to_thread()?;
        let mut runs = Vec::new();
        for &shape in &self.shape {
            runs.extend(grid::one_shape(lab.device(), shape, pair, &self.regime)?);
        }
        if self.shape.is_empty() {
            runs = grid::runs(lab.device(), self.extent(), pair)?;
            runs.retain(|run| self.regime.is_empty() || self.regime.contains(&run.regime));
        }
        bar.inc_length(runs.len() as u64);
        let counted = runs.iter().map(|run| {
            let counted = measure::measure(&lab, on, run);
            bar.inc(1);
            counted
        });
        counted.collect()
    }
}
