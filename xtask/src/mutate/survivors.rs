//! The checked-in list of mutants that may survive, each with the reason.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Mutant;
use super::lines::INLINED_AT;

/// The whole list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Its reasons.
    #[serde(default)]
    reason: Vec<Reason>,
}

/// Why some mutants survive.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Whether they do the same as the original, or what the tests cannot see.
    pub class: Class,
    /// Why.
    pub why: String,
    /// Which.
    mutants: Vec<Entry>,
}

/// Mutants that may survive, as printed but for register numbers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The only entry point that is meant.
    kernel: Option<String>,
    /// The place in the sources; a beginning of it fits wherever that was inlined.
    at: String,
    /// The instruction.
    text: String,
    /// What was done to it.
    change: Vec<String>,
    /// Which of a kernel's copies of the instruction at this place are meant, if not all.
    copies: Option<Vec<usize>>,
}

/// Why a mutant may survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It does the same on everything that callers can give.
    Equivalent,
    /// It differs by less than the tolerances allow.
    Tolerance,
    /// It differs only on inputs that no test can afford. Counts against the score, as `Tolerance` does.
    OutOfReach,
}

/// An entry by its index in its reason, and that by its own.
pub type Index = (usize, usize);

impl List {
    /// Reads the list.
    ///
    /// # Errors
    /// It is not there or not well formed.
    pub fn read() -> Result<List> {
        let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants/survivors.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a list of survivors", path.display()))
    }

    fn entries(&self) -> impl Iterator<Item = (Index, &Reason, &Entry)> {
        let reasons = self.reason.iter().enumerate();
        reasons.flat_map(|(r, reason)| reason.mutants.iter().enumerate().map(move |(e, entry)| ((r, e), reason, entry)))
    }

    /// The entry that explains a mutant.
    pub fn explains(&self, mutant: &Mutant) -> Option<(Index, &Reason)> {
        let fitting = self.entries().find(|(_, _, entry)| entry.fits(mutant));
        fitting.map(|(index, reason, _)| (index, reason))
    }

    /// Entries that are none of `used`.
    pub fn unused<'a>(&'a self, used: &'a [Index]) -> impl Iterator<Item = &'a Entry> {
        self.entries().filter(|(index, ..)| !used.contains(index)).map(|(_, _, entry)| entry)
    }
}

impl Entry {
    fn fits(&self, mutant: &Mutant) -> bool {
        let inside =
            mutant.source.strip_prefix(&self.at).is_some_and(|rest| rest.is_empty() || rest.starts_with(INLINED_AT));
        inside
            && self.kernel.as_ref().is_none_or(|kernel| kernel == mutant.entry)
            && self.text == mutant.original
            && self.change.contains(&mutant.what)
            && self.copies.as_ref().is_none_or(|copies| copies.contains(&mutant.copy))
    }
}
