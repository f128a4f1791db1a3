//! The PTX of one kernel as text that can be changed instruction by instruction.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// One kernel's PTX, with the directives of its module that it needs.
pub struct Text {
    /// Its lines.
    pub lines: Vec<String>,
    /// Its instructions.
    pub instructions: Vec<Instruction>,
}

/// `@guard opcode operands;` on a line of its own.
#[derive(Clone)]
pub struct Instruction {
    /// Index of its line.
    pub line: usize,
    /// The place in the sources by `.loc`, and those that it was inlined at: `numeric.cuh:94:9 < loss.cuh:64:9`.
    pub source: String,
    /// Line in the file that the kernel was taken from, from 1 on.
    pub file_line: usize,
    /// `@%p1` or `@!%p1`.
    pub guard: Option<String>,
    /// With its modifiers.
    pub opcode: String,
    /// Separated by commas; a vector or an address is one operand.
    pub operands: Vec<String>,
}

impl std::fmt::Display for Instruction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(guard) = &self.guard {
            write!(f, "{guard} ")?;
        }
        write!(f, "{} {};", self.opcode, self.operands.join(", "))
    }
}

impl Instruction {
    /// Reads a line; `None` if it is no instruction.
    fn parse(text: &str) -> Option<Instruction> {
        let mut text = text.trim().strip_suffix(';')?.trim();
        if !text.starts_with(|c: char| c.is_ascii_lowercase() || c == '@') {
            return None;
        }
        let mut guard = None;
        if text.starts_with('@') {
            let (first, rest) = text.split_once(char::is_whitespace)?;
            (guard, text) = (Some(first.to_owned()), rest.trim());
        }
        let (opcode, operands) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let operands = split(operands.trim());
        Some(Instruction { line: 0, source: String::new(), file_line: 0, guard, opcode: opcode.to_owned(), operands })
    }

    /// The name before the first dot.
    pub fn name(&self) -> &str {
        self.opcode.split('.').next().unwrap_or_default()
    }
}

/// Splits at the commas outside of brackets.
fn split(operands: &str) -> Vec<String> {
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for c in operands.chars() {
        depth += i32::from(matches!(c, '[' | '{' | '(')) - i32::from(matches!(c, ']' | '}' | ')'));
        if c == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part).trim().to_owned());
        } else {
            part.push(c);
        }
    }
    if !part.trim().is_empty() {
        parts.push(part.trim().to_owned());
    }
    parts
}

impl Text {
    /// Takes the kernel `entry` out of the PTX of a module.
    ///
    /// # Errors
    /// There is no such kernel.
    pub fn extract(module: &str, entry: &str) -> Result<Text> {
        let header = format!(".visible .entry {entry}(");
        let mut text = Text { lines: Vec::new(), instructions: Vec::new() };
        let mut files = HashMap::new();
        for line in module.lines().filter(|line| line.starts_with("\t.file")) {
            let mut words = line.split_whitespace().skip(1);
            if let (Some(index), Some(name)) = (words.next(), words.next()) {
                let name = name.trim_matches('"').rsplit('/').next().unwrap_or_default();
                files.insert(index.to_owned(), name.to_owned());
            }
        }
        let (mut ours, mut others, mut found) = (false, false, false);
        let mut source = String::new();
        let mut places = HashMap::new();
        for (i, line) in module.lines().enumerate() {
            if line.starts_with(".visible .entry") {
                ours = line.starts_with(&header);
                others = !ours;
                found |= ours;
            }
            if others {
                others = line != "}";
                continue;
            }
            if ours {
                if let Some(place) = line.trim().strip_prefix(".loc") {
                    source = location(place, &files, &mut places).unwrap_or_default();
                } else if let Some(instruction) = Instruction::parse(line) {
                    let line = text.lines.len();
                    text.instructions.push(Instruction {
                        line,
                        source: source.clone(),
                        file_line: i + 1,
                        ..instruction
                    });
                }
                ours = line != "}";
            }
            text.lines.push(line.to_owned());
        }
        found.then_some(text).with_context(|| format!("there is no kernel {entry}"))
    }

    /// The whole text with one instruction replaced.
    pub fn with(&self, line: usize, replacement: &str) -> String {
        let mut text = String::with_capacity(self.lines.iter().map(|l| l.len() + 1).sum());
        for (i, original) in self.lines.iter().enumerate() {
            text.push_str(if i == line { replacement } else { original });
            text.push('\n');
        }
        text
    }
}

/// `1 18 5, function_name $L, inlined_at 3 11 5` with the files' names. The place that it was inlined at has a `.loc`
/// of its own before, which says where that was inlined at: `places` has the last of every place.
fn location(text: &str, files: &HashMap<String, String>, places: &mut HashMap<String, String>) -> Option<String> {
    let place = |text: &str| {
        let mut words = text.split_whitespace().map(|word| word.trim_end_matches(','));
        let file = files.get(words.next()?)?;
        Some(format!("{file}:{}:{}", words.next()?, words.next()?))
    };
    let here = place(text)?;
    let whole = match text.split_once("inlined_at").and_then(|(_, at)| place(at)) {
        Some(at) => format!("{here} < {}", places.get(&at).unwrap_or(&at)),
        None => here.clone(),
    };
    places.insert(here, whole.clone());
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "\
.version 8.1
.visible .entry a(
\t.param .u64 a_param_0
)
{
\tmov.u32 \t%r1, 1;
}
.visible .entry b(
\t.param .u64 b_param_0
)
{
\t.reg .b32 \t%r<2>;
\t.loc\t1 18 5
\t.loc\t2 7 5, function_name $L, inlined_at 1 18 5
\t@!%p1 ld.global.v2.u32 \t{%r1, %r2}, [%rd1+8];
\tbar.sync \t0;
\tret;
}
\t.file\t1 \"/zlpr/kernels/b.cu\"
\t.file\t2 \"/zlpr/kernels/row.cuh\"
";

    #[test]
    fn one_kernel_is_taken_out() -> Result<()> {
        let text = Text::extract(MODULE, "b")?;
        assert!(!text.lines.iter().any(|line| line.contains("entry a") || line.contains("%r1, 1")));
        assert!(text.lines.iter().any(|line| line.contains(".version")) && text.lines.len() == 14);
        let load = &text.instructions[0];
        assert_eq!(load.to_string(), "@!%p1 ld.global.v2.u32 {%r1, %r2}, [%rd1+8];");
        assert_eq!((load.source.as_str(), load.name(), load.operands.len()), ("row.cuh:7:5 < b.cu:18:5", "ld", 2));
        assert_eq!(
            MODULE.lines().nth(load.file_line - 1).map(str::trim_start),
            Some("@!%p1 ld.global.v2.u32 \t{%r1, %r2}, [%rd1+8];")
        );
        let without = text.with(text.instructions[1].line, "");
        assert!(!without.contains("bar.sync") && without.contains("ret;"));
        assert!(Text::extract(MODULE, "c").is_err());
        Ok(())
    }
}
