//! Results as JSON.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use zlpr::plan::Plan;

use crate::device::Facts;
use crate::memory::Memory;
use crate::timing::Turn;

/// Everything of one run.
#[derive(Serialize)]
pub struct Run<'a> {
    /// Whether the device was a virtual one: nothing in it is a measurement then.
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    /// Once through small problems.
    pub quick: bool,
    /// When it was written.
    pub unix_seconds: u64,
    /// Of the crate.
    pub version: &'static str,
    pub device: &'a Facts,
    /// Bytes per second times 1e-9 at the memory's highest clock.
    pub peak_gbps: Option<f64>,
    pub overhead: Overhead,
    pub lines: Vec<Line>,
    /// Regimes without a line, and why.
    pub not_run: Vec<String>,
}

/// What a launch costs apart from the kernel's work.
#[derive(Default, Serialize)]
pub struct Overhead {
    /// Host time of one typed call; `None` where it was not measured.
    pub typed_call_seconds: Option<f64>,
    /// Host time of one raw call.
    pub raw_call_seconds: Option<f64>,
    /// Time of one tiny problem in a graph.
    pub graph_node_seconds: Option<f64>,
    /// Driver calls of one typed call, on the virtual GPU.
    pub typed_driver_calls: Option<u64>,
    /// Driver calls of one raw call, on the virtual GPU.
    pub raw_driver_calls: Option<u64>,
}

/// One kernel on one problem.
#[derive(Serialize)]
pub struct Line {
    pub workload: &'static str,
    pub rows: usize,
    pub cols: usize,
    pub scores: &'static str,
    pub labels: &'static str,
    pub mode: &'static str,
    pub regime: &'static str,
    pub kernel: &'static str,
    /// Whether the plan chooses this regime by itself.
    pub chosen: bool,
    /// Every input and output once.
    pub bytes: usize,
    pub buffers: usize,
    /// Whether the buffers together are three times the L2 cache.
    pub l2_cold: bool,
    pub launches_per_graph: usize,
    pub turns: usize,
    /// Seconds per launch.
    pub seconds: Quantiles,
    /// Seconds per launch of the streaming kernel, in the same turns.
    pub streaming_seconds: Quantiles,
    /// `bytes` per second times 1e-9, by the median; `None` on a virtual GPU, as what follows.
    pub gbps: Option<f64>,
    pub streaming_gbps: Option<f64>,
    /// Speed as a fraction of the streaming kernel's, by the median of the turns' ratios.
    pub of_streaming: Option<f64>,
    /// Speed as a fraction of the memory's peak.
    pub of_peak: Option<f64>,
    /// Bytes that threads asked for over `bytes`; only on a virtual GPU.
    pub counted: Option<f64>,
}

/// A distribution by three of its points.
#[derive(Clone, Copy, Serialize)]
pub struct Quantiles {
    pub p20: f64,
    pub median: f64,
    pub p80: f64,
}

impl Quantiles {
    pub fn new(values: impl Iterator<Item = f64>) -> Result<Quantiles> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1).context("nothing was timed")?;
        let at = |share: f64| sorted[(share * last as f64).round() as usize];
        Ok(Quantiles { p20: at(0.2), median: at(0.5), p80: at(0.8) })
    }
}

impl Line {
    /// What the turns say; `counted` is for a virtual device, whose times say nothing.
    pub fn new(
        memory: &Memory,
        plan: &Plan,
        chosen: bool,
        turns: &[Turn],
        launches_per_graph: usize,
        device: &Facts,
        counted: Option<f64>,
    ) -> Result<Line> {
        let problem = &memory.problem;
        let bytes = problem.bytes();
        let seconds = Quantiles::new(turns.iter().map(|turn| turn.ours))?;
        let streaming_seconds = Quantiles::new(turns.iter().map(|turn| turn.streaming))?;
        let real = |value: f64| counted.is_none().then_some(value);
        let gbps = |seconds: Quantiles| bytes as f64 / seconds.median / 1e9;
        Ok(Line {
            workload: problem.workload,
            rows: problem.rows,
            cols: problem.cols,
            scores: problem.scores.name(),
            labels: problem.labels.name(),
            mode: problem.mode.name(),
            regime: plan.kernel.regime.module(),
            kernel: plan.kernel.name,
            chosen,
            bytes,
            buffers: memory.sets.len(),
            l2_cold: memory.cold,
            launches_per_graph,
            turns: turns.len(),
            seconds,
            streaming_seconds,
            gbps: real(gbps(seconds)),
            streaming_gbps: real(gbps(streaming_seconds)),
            of_streaming: real(Quantiles::new(turns.iter().map(|turn| turn.streaming / turn.ours))?.median),
            of_peak: device.peak().and_then(|peak| real(gbps(seconds) * 1e9 / peak)),
            counted,
        })
    }

    /// For people.
    pub fn print(&self) {
        let Line { kernel, rows, cols, mode, workload, .. } = self;
        let percent = |share: Option<f64>| share.map_or("?".into(), |share| format!("{:.1}%", 1e2 * share));
        if let Some(gbps) = self.gbps {
            let (of_streaming, of_peak) = (percent(self.of_streaming), percent(self.of_peak));
            let warm = if self.l2_cold { "" } else { ", within the L2 cache" };
            println!(
                "{kernel} {rows} x {cols} {mode} ({workload}): {gbps:.0} GB/s, {of_streaming} of streaming, {of_peak} of \
                 peak{warm}"
            );
        }
    }
}

impl Run<'_> {
    /// Writes the file; its path. A virtual run never replaces a measured one.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(if self.is_virtual { "loss.virtual.json" } else { "loss.json" });
        let text = format!("{}\n", serde_json::to_string_pretty(self)?);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

/// Where results go: `ZLPR_BENCH_OUT`, or `bench` in the target folder.
pub fn folder() -> Result<PathBuf> {
    let folder = match std::env::var_os("ZLPR_BENCH_OUT") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
