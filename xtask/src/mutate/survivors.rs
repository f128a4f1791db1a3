//! The checked-in list of mutants that may survive, each with the reason.

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Mutant;

/// The whole list.
#[derive(Deserialize)]
pub struct List {
    /// Its entries.
    #[serde(default)]
    survivor: Vec<Entry>,
}

/// Mutants that may survive. What is left out fits all; the numbers of registers are no part of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Entry point.
    kernel: Option<String>,
    /// The place in the sources, as printed; a beginning of it fits wherever that was inlined.
    source: String,
    /// The instruction, as printed.
    text: Option<String>,
    /// What was done to it, as printed.
    change: Option<String>,
    /// Whether it does the same as the original, or what the tolerances allow.
    pub class: Class,
    /// Why.
    pub why: String,
}

/// Why a mutant may survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It does the same on everything that callers can give.
    Equivalent,
    /// It differs by less than the tolerances allow.
    Tolerance,
}

impl List {
    /// Reads the list.
    ///
    /// # Errors
    /// It is not there or not well formed.
    pub fn read() -> Result<List> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants/survivors.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not a list of survivors", path.display()))
    }

    /// The entry that explains a mutant.
    pub fn explains(&self, mutant: &Mutant) -> Option<(usize, &Entry)> {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
        self.survivor.iter().enumerate().find(|(_, entry)| {
            fits(&entry.kernel, mutant.entry)
                && mutant
                    .source
                    .strip_prefix(&entry.source)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(" < "))
                && fits(&entry.text, &mutant.original)
                && fits(&entry.change, &mutant.what)
        })
    }

    /// Entries that explain none of `used`.
    pub fn unused<'a>(&'a self, used: &'a [usize]) -> impl Iterator<Item = &'a Entry> {
        self.survivor.iter().enumerate().filter(|(i, _)| !used.contains(i)).map(|(_, entry)| entry)
    }
}
