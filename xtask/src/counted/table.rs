//! The tables that `cargo xtask counted` prints.

use std::collections::BTreeMap;

use super::grid::{self, Capability};
use super::measure::Counted;
use crate::columns::{Column, table};

const LEGEND: &str = "\
bytes: requested; again: read again; DRAM: moved by it; each per element. sectors: over the least for the same requests; in
parentheses, per request. waves: passes over the banks of shared memory, over the least. bars: block and cluster barriers
per row. instr, MUFU: PTX instructions and special functions per element; the instructions of waiting for other blocks, as
often as the interpreter lets them ask, are among them. div: branches per row at which lanes part. lanes: per instruction.
";

/// The worst of each regime, capability and alignment, which need not be one run's.
pub fn summary(all: &[Counted]) -> String {
    let mut groups: BTreeMap<(Capability, usize, bool), Vec<&Counted>> = BTreeMap::new();
    for run in all {
        groups.entry((run.capability, grid::order(run.regime), !run.aligned)).or_default().push(run);
    }
    type Group<'a> = Vec<&'a Counted>;
    let most = |runs: &Group<'_>, value: fn(&Counted) -> f64| runs.iter().map(|run| value(run)).fold(0.0, f64::max);
    let range = |runs: &Group<'_>, value: fn(&Counted) -> f64| {
        // Forced to rows that are too short for it, a regime spends what it likes.
        let chosen = runs.iter().any(|run| run.selected);
        let values = runs.iter().filter(|run| run.selected == chosen).map(|run| value(run));
        values.fold((f64::MAX, 0.0), |(least, most): (f64, f64), x| (least.min(x), most.max(x)))
    };
    let columns: [Column<'_, Group<'_>>; 15] = [
        ("regime", &|runs| runs[0].regime.to_owned()),
        ("cc", &|runs| runs[0].capability.to_string()),
        ("rows", &|runs| if runs[0].aligned { "aligned" } else { "unaligned" }.to_owned()),
        ("runs", &|runs| runs.len().to_string()),
        ("columns", &|runs| runs.iter().map(|run| run.cols).max().unwrap_or(0).to_string()),
        ("bytes", &|runs| format!("{:.3}", most(runs, Counted::ratio))),
        ("again", &|runs| format!("{:.2}", most(runs, |run| run.read_again))),
        ("DRAM", &|runs| format!("{:.3}", most(runs, |run| run.dram / run.floor))),
        ("sectors", &|runs| sectors(most(runs, |run| run.sectors), most(runs, |run| run.sectors_per_request))),
        ("waves", &|runs| format!("{:.3}", most(runs, |run| run.wavefronts))),
        ("bars", &|runs| barriers(most(runs, |run| run.barriers), most(runs, |run| run.cluster_barriers))),
        ("instr", &|runs| {
            let (least, most) = range(runs, |run| run.instructions);
            format!("{least:.1}-{most:.1}")
        }),
        ("MUFU", &|runs| {
            let (least, most) = range(runs, |run| run.mufu);
            format!("{least:.2}-{most:.2}")
        }),
        ("div", &|runs| format!("{:.1}", most(runs, |run| run.divergent))),
        ("lanes", &|runs| format!("{:.1}", runs.iter().map(|run| run.lanes).fold(f64::MAX, f64::min))),
    ];
    format!(
        "The worst of each regime and capability, bytes and DRAM over the floor; instructions and MUFU from the least to the most\n\
         where the plan chose the regime.\n{LEGEND}{}",
        table(&columns, groups.into_values())
    )
}

/// One line per run.
pub fn runs(all: &[Counted]) -> String {
    let columns: [Column<'_, &Counted>; 18] = [
        ("regime", &|run| run.regime.to_owned()),
        ("cc", &|run| run.capability.to_string()),
        ("types", &|run| run.pair.clone()),
        ("shape", &|run| format!("{}x{}", run.rows, run.cols)),
        ("mode", &|run| run.mode.to_string()),
        ("layout", &|run| run.layout.to_string()),
        ("chosen", &|run| if run.selected { "by plan" } else { "forced" }.to_owned()),
        ("bytes", &|run| format!("{:.3}", run.bytes)),
        ("floor", &|run| format!("{:.3}", run.floor)),
        ("again", &|run| format!("{:.2}", run.read_again)),
        ("DRAM", &|run| format!("{:.3}", run.dram)),
        ("sectors", &|run| sectors(run.sectors, run.sectors_per_request)),
        ("waves", &|run| format!("{:.3}", run.wavefronts)),
        ("bars", &|run| barriers(run.barriers, run.cluster_barriers)),
        ("instr", &|run| format!("{:.1}", run.instructions)),
        ("MUFU", &|run| format!("{:.2}", run.mufu)),
        ("div", &|run| format!("{:.1}", run.divergent)),
        ("lanes", &|run| format!("{:.1}", run.lanes)),
    ];
    format!("{LEGEND}{}", table(&columns, all))
}

fn sectors(over_least: f64, per_request: f64) -> String {
    format!("{over_least:.3} ({per_request:.1})")
}

fn barriers(of_blocks: f64, of_clusters: f64) -> String {
    format!("{of_blocks:.1}+{of_clusters:.1}")
}
