//! The kernels on the device: every shape, type, label kind and mode.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use zlpr::DType;
use zlpr::kernels::KERNELS;
use zlpr::plan::{self, Plan, Regime};
use zlpr::raw;

use crate::device::Device;
use crate::memory::{Memory, Values};
use crate::problem::Problem;
use crate::record::Line;
use crate::shapes::{GRID, Mode, Settings, TINY};
use crate::streaming::Streaming;
use crate::timing::{Duel, Graph, Turn};

/// Samples of Criterion.
const SAMPLES: usize = 20;
/// Criterion's own warm-up, since ours comes before it; it takes no zero.
const SHORTEST: Duration = Duration::from_millis(1);

/// All measurements of kernels.
pub struct Session<'a> {
    device: &'a Device,
    limits: plan::Device,
    streaming: Streaming,
    settings: &'a Settings,
    pub lines: Vec<Line>,
    /// What could not be measured.
    pub failures: Vec<String>,
}

impl<'a> Session<'a> {
    pub fn new(device: &'a Device, settings: &'a Settings) -> Result<Self> {
        device.context.bind_to_thread()?;
        let (limits, streaming) = (raw::device()?, Streaming::new(device)?);
        Ok(Session { device, limits, streaming, settings, lines: Vec::new(), failures: Vec::new() })
    }

    /// Every combination that there is a kernel for.
    pub fn run(&mut self, criterion: &mut Criterion) {
        let mut pairs: Vec<(DType, DType)> = KERNELS.iter().map(|k| (k.scores, k.labels)).collect();
        // Soft labels in the scores' type, and hard ones.
        pairs.retain(|&(scores, labels)| labels == scores || labels == DType::U8);
        pairs.sort_by_key(|&(scores, labels)| (scores.name(), labels.name()));
        pairs.dedup();
        for pair in pairs {
            let values = Values::new(pair.0, pair.1);
            for mode in Mode::ALL {
                for shape in self.settings.shapes() {
                    let problem = Problem::new(shape, pair, mode);
                    if let Err(error) = self.problem(criterion, problem, &values) {
                        self.fail(&problem.to_string(), &error);
                    }
                }
            }
        }
    }

    /// Notes what could not be measured; the rest goes on.
    fn fail(&mut self, what: &str, error: &anyhow::Error) {
        let failure = format!("{what}: {error:#}");
        eprintln!("failed: {failure}");
        self.failures.push(failure);
    }

    /// One problem by the plan's regime, on the grid by the others as well.
    fn problem(&mut self, criterion: &mut Criterion, problem: Problem, values: &Values) -> Result<()> {
        let chosen = problem.plan(&self.limits)?;
        let mut plans = vec![chosen];
        if problem.workload == GRID && (problem.mode == Mode::Gradient || self.settings.quick) {
            plans.extend(problem.other_plans(&self.limits, chosen.kernel.regime));
        }
        let workspace = plans.iter().map(|plan| plan.workspace_bytes).max().unwrap_or(0);
        // Made when the first sample is taken, so that a filter on the command line skips it.
        let mut memory = None;
        for plan in &plans {
            let mut contest = None;
            let mut failure = None;
            let name = format!("{} {} {}", problem.scores, problem.labels, problem.mode.name());
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Bytes(problem.bytes() as u64));
            group.sampling_mode(SamplingMode::Flat).sample_size(SAMPLES);
            group.warm_up_time(SHORTEST).measurement_time(self.settings.measurement);
            let id = BenchmarkId::new(plan.kernel.regime.module(), format!("{}x{}", problem.rows, problem.cols));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|launches| {
                    let mut sample = || -> Result<_> {
                        if memory.is_none() {
                            memory = Some(Memory::new(self.device, problem, values, workspace as usize)?);
                        }
                        let memory = memory.as_mut().context("made above")?;
                        if contest.is_none() {
                            contest = Some(self.contest(memory, plan)?);
                        }
                        let Contest { duel, turns, .. } = contest.as_mut().context("made above")?;
                        duel.run(launches, turns)
                    };
                    // Criterion takes no error: it gets a time, and the error is reported below.
                    sample().unwrap_or_else(|error| {
                        failure = Some(error);
                        Duration::from_nanos(launches)
                    })
                })
            });
            group.finish();
            if let Some(error) = failure {
                self.fail(&format!("{} {problem}", plan.kernel.name), &error);
            } else if let (Some(memory), Some(contest)) = (&memory, contest) {
                let is_chosen = plan.kernel.regime == chosen.kernel.regime;
                let Contest { turns, launches, counted, .. } = contest;
                let line = Line::new(memory, plan, is_chosen, &turns, launches, &self.device.facts, counted)?;
                line.print();
                self.lines.push(line);
            }
        }
        Ok(())
    }

    /// Prepares a plan and the streaming kernel of the same problem.
    fn contest(&self, memory: &mut Memory, plan: &Plan) -> Result<Contest> {
        let Device { stream, context, gpu, .. } = self.device;
        context.bind_to_thread()?;
        raw::prepare(plan)?;
        memory.check(stream, plan)?;
        let memory = &*memory;
        let set = |index: usize| &memory.sets[index % memory.sets.len()];
        let ours = |index: usize| memory.launch(stream, plan, set(index));
        let streaming = |index: usize| {
            // SAFETY: the sets have room for the problem up to whole packs, and one stream uses them.
            unsafe { self.streaming.launch(stream, &memory.problem, set(index)) }
        };
        let mut counted = None;
        if gpu.is_virtual() {
            let moved = |launch: &dyn Fn() -> Result<()>| -> Result<u64> {
                gpu.reset_counters();
                launch()?;
                stream.synchronize()?;
                let counters = gpu.counters().context("a virtual device counts")?;
                Ok(counters.global_read_bytes + counters.global_write_bytes)
            };
            let bytes = moved(&|| streaming(0))?;
            let wanted = Streaming::bytes(&memory.problem) as u64;
            ensure!(bytes == wanted, "the streaming kernel moves {bytes} bytes instead of {wanted}");
            counted = Some(moved(&|| ours(0))? as f64 / memory.problem.bytes() as f64);
        }
        let launches = self.settings.launches(memory.problem.bytes(), memory.sets.len());
        let duel = Duel::new(
            self.device,
            Graph::capture(stream, launches, ours)?,
            Graph::capture(stream, launches, streaming)?,
        )?;
        duel.warm_up(self.settings.warm_up)?;
        if gpu.is_virtual() {
            gpu.reset_counters();
            duel.turn()?;
            let ran = gpu.counters().context("a virtual device counts")?.launches;
            // Ours once, streaming twice.
            ensure!(ran == 3 * launches as u64, "{ran} launches in a turn instead of 3 times {launches}");
        }
        Ok(Contest { duel, turns: Vec::new(), launches, counted })
    }

    /// Time of a tiny problem in a graph, if it was measured.
    pub fn graph_node_seconds(&self) -> Option<f64> {
        let tiny = |line: &&Line| line.workload == TINY && line.scores == "f32" && line.mode == Mode::Gradient.name();
        let line = self.lines.iter().find(tiny).filter(|_| !self.device.gpu.is_virtual())?;
        Some(line.seconds.median)
    }

    /// Regimes that no line is of.
    pub fn not_run(&self) -> Vec<String> {
        let missing = Regime::ALL.into_iter().filter(|r| !self.lines.iter().any(|l| l.regime == r.module()));
        missing.map(|regime| regime.module().to_owned()).collect()
    }
}

/// A plan against the streaming kernel.
struct Contest {
    duel: Duel,
    turns: Vec<Turn>,
    launches: usize,
    /// On a virtual GPU, bytes asked for over bytes that must move.
    counted: Option<f64>,
}
