//! The process that runs mutants: one that hangs or crashes takes only itself away.
//!
//! It reads `target mutant` (two numbers) a line, and answers with a line per case and a verdict at last.

use std::cell::OnceCell;
use std::ffi::CString;
use std::io::{BufRead, Write};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use softcuda::Config;
use zlpr::raw;

use super::cases::{Run, TIES, kill_set};
use super::{TARGETS, Target, mutants};
use crate::common::{Lab, Output, mismatches, round};

/// What the worker writes.
#[derive(Serialize, Deserialize)]
pub enum Answer {
    /// The cases are ready, or one is done and the mutant lives.
    Alive,
    /// The last word on a mutant.
    Verdict(Verdict),
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// A case noticed it: which, and how.
    Killed(String),
    /// No case noticed it.
    Survived,
    /// The virtual GPU does not load it.
    Invalid(String),
}

/// Answers requests until there are no more.
///
/// # Errors
/// The other side is gone, or asks for what there is not.
pub fn serve() -> Result<()> {
    let benches: Vec<OnceCell<Vec<Run>>> = TARGETS.iter().map(|_| OnceCell::new()).collect();
    let texts: Vec<_> = TARGETS.iter().map(|_| OnceCell::new()).collect();
    let mut out = std::io::stdout();
    let mut say = |answer: &Answer| -> Result<()> {
        writeln!(out, "{}", serde_json::to_string(answer)?)?;
        Ok(out.flush()?)
    };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (index, mutant) = line.split_once(' ').context("not a request")?;
        let index: usize = index.parse()?;
        let target = TARGETS.get(index).context("no such kernel")?;
        if texts[index].get().is_none() {
            let _ = texts[index].set((target.text()?, mutants(target)?));
        }
        let (text, all) = texts[index].get().context("was just set")?;
        let ptx = match mutant.parse::<usize>() {
            Ok(i) => {
                let mutant = all.get(i).context("no such mutant")?;
                text.with(mutant.line, &mutant.text)
            }
            // The kernel as it is.
            Err(_) => text.with(usize::MAX, ""),
        };
        let runs = benches[index].get_or_init(|| kill_set(target));
        say(&Answer::Alive)?;
        let verdict = judge(target, &CString::new(ptx)?, runs, || say(&Answer::Alive))?;
        say(&Answer::Verdict(verdict))?;
    }
    Ok(())
}

fn judge(target: &Target, ptx: &CString, runs: &[Run], mut alive: impl FnMut() -> Result<()>) -> Result<Verdict> {
    let mut lab: Option<(u64, Lab)> = None;
    for run in runs {
        if lab.as_ref().is_none_or(|(schedule, _)| *schedule != run.schedule) {
            let (major, minor) = target.capability;
            let config = Config { seed: run.schedule, workers: 1, ..Config::capability(major, minor) };
            let new = Lab::with(config);
            new.context().bind_to_thread()?;
            if let Err(error) = raw::substitute(target.entry, ptx) {
                return Ok(Verdict::Invalid(format!("{error}\n{}", new.gpu().report().unwrap_or_default())));
            }
            lab = Some((run.schedule, new));
        }
        let Some((_, lab)) = &lab else { continue };
        lab.gpu().reset_counters();
        let wrong = match lab.try_run(&run.case, run.implementation) {
            Ok(output) => mismatches(&run.case, &output)
                .into_iter()
                .next()
                .or_else(|| misrounded(run, &output))
                .or_else(|| wasteful(lab, run)),
            Err(text) => Some(text),
        };
        if let Some(text) = wrong {
            return Ok(Verdict::Killed(format!("{}: {text}", run.case)));
        }
        alive()?;
    }
    Ok(Verdict::Survived)
}

/// How a run moves more than its budget, if it does.
fn wasteful(lab: &Lab, run: &Run) -> Option<String> {
    let (counters, budget) = (lab.gpu().counters()?, run.budget?);
    let moved = (counters.global_read_bytes + counters.global_write_bytes) as f64;
    let ratio = moved / run.case.floor(run.implementation.gradient) as f64;
    if ratio > budget.ratio {
        return Some(format!("{ratio} times the bytes that must move"));
    }
    let times = budget.wide?;
    let (reads, writes) = run.case.wide_requests();
    let asked = (counters.global_read_requests, counters.global_write_requests);
    (asked != (times * reads, writes)).then(|| format!("{asked:?} requests to read and write"))
}

/// Where a gradient halfway between two values did not go to the even one, in the cases that are about this.
fn misrounded(run: &Run, output: &Output) -> Option<String> {
    let case = &run.case;
    let got = output.gradient_values(case).filter(|_| case.name == TIES)?;
    let rows = case.expected().iter().enumerate();
    let wanted =
        rows.flat_map(|(r, row)| row.gradient.iter().map(move |g| round(case.gradient_type, g * case.scale(r))));
    let wrong = got.iter().zip(wanted).find(|(got, wanted)| *got != wanted);
    wrong.map(|(got, wanted)| format!("gradient {got:e} is wrong, wanted {wanted:e}: ties go to the even one"))
}
