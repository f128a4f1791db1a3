//! The budgets of `xtask/budgets.toml`, and which of them a kernel exceeds.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::launch::regime_name;
use super::measure::Measured;

/// How messages on spills begin.
pub const SPILLS: &str = "spills";

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Bytes of local memory per thread.
    spills: u32,
    /// Bytes per lane that an access to scores may have.
    score_widths: Vec<u32>,
    /// Block barriers per row.
    barriers: u32,
    /// Least bytes in flight per multiprocessor, by GPU.
    in_flight: BTreeMap<String, u64>,
    /// Largest share of a pipe at DRAM peak, by GPU, for 16-bit scores with soft labels of the same type.
    pipes: BTreeMap<String, f64>,
    /// How a row is kept; a regime that is in none of them has only the common budgets.
    form: Vec<Form>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    regimes: Vec<String>,
    /// Whether the budget `pipes` is for them.
    pipes: bool,
    soft: PerElement,
    hard: PerElement,
}

/// Of the main body, per element.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PerElement {
    instructions: f64,
    mufu: f64,
    /// By architecture, such as `sm_100`, where another number of instructions holds.
    #[serde(default)]
    instructions_of: BTreeMap<String, f64>,
}

impl Budgets {
    /// The checked-in budgets.
    ///
    /// # Errors
    /// If the file does not have this form.
    pub fn read() -> Result<Budgets> {
        toml::from_str(include_str!("../../budgets.toml")).context("xtask/budgets.toml")
    }

    /// What exceeds its budget, in words.
    pub fn exceeded(&self, m: &Measured) -> Vec<String> {
        let mut wrong = Vec::new();
        if m.resources.frame_bytes > self.spills || m.local_accesses > 0 {
            let (bytes, accesses) = (m.resources.frame_bytes, m.local_accesses);
            wrong.push(format!("{SPILLS}: {bytes} bytes of local memory, {accesses} accesses to it"));
        }
        if m.blocks_per_sm == 0 {
            wrong.push("no block fits on a multiprocessor".into());
        }
        let Some(counts) = &m.counts else { return wrong };
        let regime = regime_name(m.kernel.regime);
        let mut at_most = |what: &str, found: f64, budget: f64| {
            if found > budget {
                wrong.push(format!("{what}: {found:.2}, budget {budget}"));
            }
        };
        at_most("block barriers per row", f64::from(counts.barriers), f64::from(self.barriers));
        for form in self.form.iter().filter(|f| f.regimes.iter().any(|r| r == regime)) {
            let budget = if m.soft() { &form.soft } else { &form.hard };
            let instructions = budget.instructions_of.get(&format!("sm_{}", m.arch)).unwrap_or(&budget.instructions);
            at_most("instructions per element", counts.body_instructions, *instructions);
            at_most("MUFU per element", counts.body_mufu, budget.mufu);
            if form.pipes && m.kernel.scores.size() == 2 && m.kernel.labels == m.kernel.scores {
                for on in &counts.gpus {
                    if let Some((budget, (pipe, share))) = self.pipes.get(on.gpu.name).zip(on.shares.first()) {
                        at_most(&format!("% of {pipe} on {}", on.gpu.name), 100.0 * share, 100.0 * budget);
                    }
                }
            }
        }
        for on in &counts.gpus {
            if let Some(&least) = self.in_flight.get(on.gpu.name)
                && counts.in_flight_per_sm < least
            {
                let (found, name) = (counts.in_flight_per_sm, on.gpu.name);
                wrong.push(format!("bytes in flight per multiprocessor on {name}: {found}, at least {least} wanted"));
            }
        }
        let scores = counts.widths.get("scores").into_iter().flatten().copied();
        wrong.extend(
            scores.clone().filter(|w| !self.score_widths.contains(w)).map(|w| format!("scores: {w}-byte access")),
        );
        // The other arrays move the same elements in one access, or in 16-byte pieces if those are more bytes.
        let elements = scores.max().unwrap_or(0) / m.kernel.scores.size() as u32;
        for (array, size) in [("labels", m.kernel.labels.size()), ("gradient", m.kernel.scores.size())] {
            let natural = (elements * size as u32).min(16);
            let narrow = counts.widths.get(array).into_iter().flatten().filter(|&&w| w < natural);
            wrong.extend(narrow.map(|w| format!("{array}: {w}-byte access, natural are {natural}")));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_designs_numbers() {
        let budgets = Budgets::read().expect("budgets.toml");
        let form = |regime: &str| budgets.form.iter().find(|f| f.regimes.iter().any(|r| r == regime)).expect("a form");
        let (registers, staged) = (form("warp"), form("staged"));
        assert_eq!((registers.soft.instructions, registers.soft.mufu), (16.0, 2.1));
        assert_eq!(registers.soft.instructions_of["sm_100"], 13.0);
        assert_eq!((registers.hard.instructions, registers.hard.mufu), (15.0, 1.1));
        assert_eq!((staged.soft.instructions, staged.soft.mufu, staged.pipes), (22.0, 4.1, false));
        assert_eq!((budgets.pipes["T4"], budgets.pipes["B200"]), (0.65, 0.80));
        for gpu in crate::report::model::GPUS {
            assert!(budgets.pipes.contains_key(gpu.name), "{}", gpu.name);
        }
        let known = |r: &String| zlpr::plan::Regime::ALL.iter().any(|known| known.module() == r);
        assert!(budgets.form.iter().flat_map(|f| &f.regimes).all(known), "a budget for a regime that is not there");
    }
}
