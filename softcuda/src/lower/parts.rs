//! An opcode, split at its dots.

use crate::ptx::{LoadError, Type};

use super::op::{Mode, Round};

/// The parts of an opcode. Whoever lowers an instruction takes the modifiers that it knows;
/// [`finish`](Parts::finish) refuses the instruction if any is left, so that none is ever ignored.
pub(super) struct Parts<'a> {
    whole: &'a str,
    base: &'a str,
    modifiers: Vec<&'a str>,
    line: u32,
}

impl<'a> Parts<'a> {
    pub(super) fn new(whole: &'a str, line: u32) -> Parts<'a> {
        let mut words = whole.split('.');
        let base = words.next().unwrap_or("");
        Parts { whole, base, modifiers: words.collect(), line }
    }

    pub(super) fn base(&self) -> &'a str {
        self.base
    }

    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// Takes a modifier, if it is there.
    pub(super) fn take(&mut self, name: &str) -> bool {
        let found = self.modifiers.iter().position(|&modifier| modifier == name);
        found.is_some_and(|index| {
            self.modifiers.remove(index);
            true
        })
    }

    /// Whether a modifier is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.modifiers.contains(&name)
    }

    /// Takes the first modifier that is one of these and returns what it stands for.
    pub(super) fn take_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        for index in 0..self.modifiers.len() {
            let modifier = self.modifiers[index];
            if let Some(&(_, value)) = choices.iter().find(|(name, _)| *name == modifier) {
                self.modifiers.remove(index);
                return Some(value);
            }
        }
        None
    }

    /// Takes every modifier that begins with one of these prefixes.
    pub(super) fn take_prefixed(&mut self, prefixes: &[&str]) {
        self.modifiers.retain(|m| !prefixes.iter().any(|prefix| m.starts_with(prefix)));
    }

    /// Takes the first type among the modifiers.
    pub(super) fn ty(&mut self) -> Result<Type, LoadError> {
        let found = self.modifiers.iter().position(|modifier| Type::parse(modifier).is_some());
        let ty = found.and_then(|index| Type::parse(self.modifiers.remove(index)));
        ty.ok_or_else(|| self.unsupported())
    }

    /// The last type among the modifiers, which stays there.
    pub(super) fn last_ty(&self) -> Option<Type> {
        self.modifiers.iter().rev().find_map(|modifier| Type::parse(modifier))
    }

    /// Takes `.rn`, `.rz`, `.rm` or `.rp`.
    pub(super) fn round(&mut self) -> Option<Round> {
        self.take_of(&[("rn", Round::Nearest), ("rz", Round::Zero), ("rm", Round::Down), ("rp", Round::Up)])
    }

    /// Takes `.rn` and so on, `.ftz` and `.sat`.
    pub(super) fn arithmetic_mode(&mut self) -> Mode {
        let mut mode = Mode::PLAIN.rounded(self.round().unwrap_or(Round::Nearest));
        for (name, flag) in [("ftz", Mode::FTZ), ("sat", Mode::SAT)] {
            if self.take(name) {
                mode = mode.with(flag);
            }
        }
        mode
    }

    /// Takes `.ftz`.
    pub(super) fn ftz(&mut self) -> Mode {
        if self.take("ftz") { Mode::FTZ } else { Mode::PLAIN }
    }

    /// The instruction is not one that this engine does.
    pub(super) fn unsupported(&self) -> LoadError {
        LoadError::unsupported(self.line, format!("unsupported instruction `{}`", self.whole))
    }

    /// Operands do not fit.
    pub(super) fn operands(&self) -> LoadError {
        LoadError::operand(self.line, format!("wrong operands for `{}`", self.whole))
    }

    /// All modifiers must have been taken.
    pub(super) fn finish(&self) -> Result<(), LoadError> {
        match self.modifiers.first() {
            None => Ok(()),
            Some(modifier) => Err(LoadError::unsupported(
                self.line,
                format!("unsupported instruction `{}`: modifier `.{modifier}`", self.whole),
            )),
        }
    }
}
