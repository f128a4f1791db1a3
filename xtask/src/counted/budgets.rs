//! The budgets of `xtask/counted.toml`, which runs exceed them, and whether that is known.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::grid::{Extent, Layout, Mode};
use super::measure::Counted;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// What is wanted.
    budget: Vec<Budget>,
    /// What is not reached yet.
    #[serde(default)]
    known: Vec<Known>,
}

/// The most that a number may be, where it holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    metric: Metric,
    at_most: f64,
    #[serde(default)]
    r#where: Where,
}

/// Exceedings that are accepted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    metric: Metric,
    /// The most that is accepted.
    up_to: f64,
    #[serde(default)]
    r#where: Where,
    /// Whether the quick grid does not show it.
    #[serde(default)]
    whole_grid_only: bool,
    reason: String,
}

/// What has a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Metric {
    /// Requested bytes over the floor.
    Bytes,
    /// How often the inputs are read.
    Reads,
    /// Sectors over the least for the same requests.
    Sectors,
    /// Passes over the banks of shared memory over the least.
    Wavefronts,
    /// Round trips per row, through a block or a cluster.
    RoundTrips,
}

/// Which runs are meant: those that fit everything that is given.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Where {
    regime: Option<Vec<String>>,
    capability: Option<Vec<String>>,
    pair: Option<Vec<String>>,
    mode: Option<Vec<Mode>>,
    layout: Option<Layout>,
    aligned: Option<bool>,
    selected: Option<bool>,
    min_cols: Option<usize>,
    max_cols: Option<usize>,
}

impl Where {
    fn fits(&self, run: &Counted) -> bool {
        let among =
            |names: &Option<Vec<String>>, name: &str| names.as_ref().is_none_or(|n| n.iter().any(|n| n == name));
        among(&self.regime, run.regime)
            && among(&self.capability, &run.capability.to_string())
            && among(&self.pair, &run.pair)
            && self.mode.as_ref().is_none_or(|modes| modes.contains(&run.mode))
            && self.layout.is_none_or(|layout| layout == run.layout)
            && self.aligned.is_none_or(|aligned| aligned == run.aligned)
            && self.selected.is_none_or(|selected| selected == run.selected)
            && self.min_cols.is_none_or(|least| run.cols >= least)
            && self.max_cols.is_none_or(|most| run.cols <= most)
    }
}

impl Metric {
    fn of(self, run: &Counted) -> f64 {
        match self {
            Metric::Bytes => run.ratio(),
            Metric::Reads => run.reads,
            Metric::Sectors => run.sectors,
            Metric::Wavefronts => run.wavefronts,
            Metric::RoundTrips => run.round_trips(),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Bytes => "bytes over the floor",
            Metric::Reads => "reads of the inputs",
            Metric::Sectors => "sectors over the least",
            Metric::Wavefronts => "wavefronts over the least",
            Metric::RoundTrips => "round trips per row",
        })
    }
}

/// Exceedings of one budget in one regime that have the same explanation, or none.
#[derive(Debug, PartialEq)]
pub struct Exceeded {
    /// Index of the budget and of what explains it.
    budget: usize,
    known: Option<usize>,
    regime: &'static str,
    runs: usize,
    worst: f64,
    /// The run that is the worst.
    example: String,
}

/// How runs compare with the budgets.
#[derive(Debug)]
pub struct Verdict<'a> {
    budgets: &'a Budgets,
    exceeded: Vec<Exceeded>,
    /// Indices of known exceedings that there are not, with the regime if they name some.
    idle_known: Vec<(usize, &'a str)>,
    /// Indices of budgets that no run has.
    idle_budgets: Vec<usize>,
}

impl Budgets {
    /// The checked-in file.
    ///
    /// # Errors
    /// It does not have this form.
    pub fn read() -> Result<Budgets> {
        Budgets::parse(include_str!("../../counted.toml"))
    }

    pub(super) fn parse(text: &str) -> Result<Budgets> {
        toml::from_str(text).context("xtask/counted.toml")
    }

    /// Holds runs against the budgets.
    pub fn judge<'a>(&'a self, runs: &[Counted]) -> Verdict<'a> {
        let mut exceeded: Vec<Exceeded> = Vec::new();
        for (index, budget) in self.budget.iter().enumerate() {
            for run in runs.iter().filter(|run| budget.r#where.fits(run)) {
                let value = budget.metric.of(run);
                // A number that is none exceeds, too.
                if value <= budget.at_most {
                    continue;
                }
                let known = self
                    .known
                    .iter()
                    .position(|known| known.metric == budget.metric && value <= known.up_to && known.r#where.fits(run));
                let (regime, example) = (run.regime, describe(run));
                match exceeded.iter_mut().find(|e| (e.budget, e.known, e.regime) == (index, known, regime)) {
                    Some(same) => {
                        same.runs += 1;
                        if value > same.worst {
                            (same.worst, same.example) = (value, example);
                        }
                    }
                    None => exceeded.push(Exceeded { budget: index, known, regime, runs: 1, worst: value, example }),
                }
            }
        }
        let idle = |(index, known): (usize, &'a Known)| {
            let regimes = known.r#where.regime.as_ref().map_or(vec!["any"], |r| r.iter().map(String::as_str).collect());
            let seen = |regime: &str| {
                exceeded.iter().any(|e| e.known == Some(index) && (regime == "any" || regime == e.regime))
            };
            regimes.into_iter().filter(|regime| !seen(regime)).map(|regime| (index, regime)).collect::<Vec<_>>()
        };
        let held = |budget: usize| runs.iter().any(|run| self.budget[budget].r#where.fits(run));
        Verdict {
            budgets: self,
            idle_known: self.known.iter().enumerate().flat_map(idle).collect(),
            idle_budgets: (0..self.budget.len()).filter(|&budget| !held(budget)).collect(),
            exceeded,
        }
    }
}

impl Verdict<'_> {
    /// What is known, in words.
    pub fn known(&self) -> Vec<String> {
        let known = self.exceeded.iter().filter_map(|e| Some((e, &self.budgets.known[e.known?])));
        known.map(|(exceeded, known)| format!("{}\n    {}", self.words(exceeded), known.reason)).collect()
    }

    /// What is wrong, in words; of a grid, also budgets and known exceedings that it should have shown and did not.
    pub fn wrong(&self, grid: Option<Extent>) -> Vec<String> {
        let mut wrong: Vec<String> =
            self.exceeded.iter().filter(|e| e.known.is_none()).map(|e| self.words(e)).collect();
        if let Some(extent) = grid {
            let known = self.idle_known.iter().map(|&(index, regime)| (&self.budgets.known[index], regime));
            let known = known.filter(|(known, _)| extent == Extent::Whole || !known.whole_grid_only);
            let known = known.map(|(Known { metric, reason, .. }, regime)| {
                format!("known, but not seen any more: {metric} in {regime} regime: take it out. {reason}")
            });
            let budgets = self.idle_budgets.iter().map(|&i| {
                let Budget { metric, at_most, .. } = &self.budgets.budget[i];
                format!("budget {i} is that of no run: {metric} at most {at_most}")
            });
            wrong.extend(known.chain(budgets));
        }
        wrong
    }

    fn words(&self, exceeded: &Exceeded) -> String {
        let Exceeded { budget, regime, runs, worst, example, .. } = exceeded;
        let Budget { metric, at_most, .. } = &self.budgets.budget[*budget];
        format!("{regime}: {metric} above {at_most} in {runs} runs; worst {worst:.3}: {example}")
    }
}

/// A run, for people.
fn describe(run: &Counted) -> String {
    let Counted { capability, pair, rows, cols, mode, layout, selected, .. } = run;
    let how = if *selected { "selected" } else { "forced" };
    format!("{capability} {pair} {rows}x{cols} {mode} {layout} ({how})")
}
