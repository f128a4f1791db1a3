//! The tables that `cargo xtask counted` prints.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::grid::{self, Capability};
use super::measure::Counted;

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
    let mut text = format!(
        "The worst of each regime and capability, bytes and DRAM over the floor; instructions and MUFU from the least to the most\n\
         where the plan chose the regime.\n{LEGEND}"
    );
    let _ = writeln!(
        text,
        "{:10} {:>4} {:9} {:>5} {:>8} {:>6} {:>6} {:>6} {:>14} {:>6} {:>9} {:>13} {:>11} {:>6} {:>6}",
        "regime",
        "cc",
        "rows",
        "runs",
        "columns",
        "bytes",
        "again",
        "DRAM",
        "sectors",
        "waves",
        "bars",
        "instr",
        "MUFU",
        "div",
        "lanes"
    );
    for ((capability, _, unaligned), runs) in groups {
        let most = |value: fn(&Counted) -> f64| runs.iter().map(|run| value(run)).fold(0.0, f64::max);
        let least = |value: fn(&Counted) -> f64| runs.iter().map(|run| value(run)).fold(f64::MAX, f64::min);
        // Forced to rows that are too short for it, a regime spends what it likes.
        let chosen = runs.iter().any(|run| run.selected);
        let range = |value: fn(&Counted) -> f64| {
            let values = runs.iter().filter(|run| run.selected == chosen).map(|run| value(run));
            values.fold((f64::MAX, 0.0), |(least, most): (f64, f64), x| (least.min(x), most.max(x)))
        };
        let (instructions, mufu) = (range(|run| run.instructions), range(|run| run.mufu));
        let _ = writeln!(
            text,
            "{:10} {capability:>4} {:9} {:>5} {:>8} {:>6.3} {:>6.2} {:>6.3} {:>14} {:>6.3} {:>9} {:>13} {:>11} {:>6.1} {:>6.1}",
            runs[0].regime,
            if unaligned { "unaligned" } else { "aligned" },
            runs.len(),
            runs.iter().map(|run| run.cols).max().unwrap_or(0),
            most(Counted::ratio),
            most(|run| run.read_again),
            most(|run| run.dram / run.floor),
            format!("{:.3} ({:.1})", most(|run| run.sectors), most(|run| run.sectors_per_request)),
            most(|run| run.wavefronts),
            format!("{:.1}+{:.1}", most(|run| run.barriers), most(|run| run.cluster_barriers)),
            format!("{:.1}-{:.1}", instructions.0, instructions.1),
            format!("{:.2}-{:.2}", mufu.0, mufu.1),
            most(|run| run.divergent),
            least(|run| run.lanes),
        );
    }
    text
}

/// One line per run.
pub fn runs(all: &[Counted]) -> String {
    let mut text = LEGEND.to_owned();
    let _ = writeln!(
        text,
        "{:10} {:>4} {:9} {:>14} {:8} {:10} {:8} {:>6} {:>6} {:>6} {:>6} {:>14} {:>6} {:>9} {:>6} {:>5} {:>6} {:>6}",
        "regime",
        "cc",
        "types",
        "shape",
        "mode",
        "layout",
        "chosen",
        "bytes",
        "floor",
        "again",
        "DRAM",
        "sectors",
        "waves",
        "bars",
        "instr",
        "MUFU",
        "div",
        "lanes"
    );
    for run in all {
        let _ = writeln!(
            text,
            "{:10} {:>4} {:9} {:>14} {:8} {:10} {:8} {:>6.3} {:>6.3} {:>6.2} {:>6.3} {:>14} {:>6.3} {:>9} {:>6.1} {:>5.2} {:>6.1} {:>6.1}",
            run.regime,
            run.capability,
            run.pair,
            format!("{}x{}", run.rows, run.cols),
            run.mode,
            run.layout,
            if run.selected { "by plan" } else { "forced" },
            run.bytes,
            run.floor,
            run.read_again,
            run.dram,
            format!("{:.3} ({:.1})", run.sectors, run.sectors_per_request),
            run.wavefronts,
            format!("{:.1}+{:.1}", run.barriers, run.cluster_barriers),
            run.instructions,
            run.mufu,
            run.divergent,
            run.lanes,
        );
    }
    text
}
