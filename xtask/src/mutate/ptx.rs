//! The PTX of one kernel as text that can be changed instruction by instruction.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::lines::{INLINED_AT, Lines};

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
    /// The place in the sources by `.loc`, and those that it was inlined at:
    /// `numeric.cuh: float sum = high + x; <- stream.cuh: p.add(part.x);`.
    pub source: String,
    /// Which of the instructions that have the same text, but for numbers, at the same place: from 0 on.
    pub copy: usize,
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
        let opcode = opcode.to_owned();
        Some(Instruction { line: 0, source: String::new(), copy: 0, file_line: 0, guard, opcode, operands })
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
    /// Takes the kernel `entry` out of the PTX of a module whose sources have these lines.
    ///
    /// # Errors
    /// There is no such kernel.
    pub fn extract(module: &str, entry: &str, lines: &Lines) -> Result<Text> {
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
        let mut copies: HashMap<(String, String), usize> = HashMap::new();
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
                    source = location(place, &files, &mut places, lines).unwrap_or_default();
                } else if let Some(instruction) = Instruction::parse(line) {
                    let line = text.lines.len();
                    let source = source.clone();
                    let copies = copies.entry((source.clone(), without_numbers(&instruction.to_string()))).or_default();
                    let copy = *copies;
                    *copies += 1;
                    text.instructions.push(Instruction { line, source, copy, file_line: i + 1, ..instruction });
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

/// `1 18 5, function_name $L, inlined_at 3 11 5` with what those lines say. The place that it was inlined at has a
/// `.loc` of its own before, which says where that was inlined at: `places` has the last of every place.
fn location(
    text: &str,
    files: &HashMap<String, String>,
    places: &mut HashMap<String, String>,
    lines: &Lines,
) -> Option<String> {
    let (here, at) = match text.split_once("inlined_at") {
        Some((here, at)) => (here, Some(at)),
        None => (text, None),
    };
    // A place by its numbers, since two calls may share a line.
    let numbers = |text: &str| {
        let mut words = text.split_whitespace().map(|word| word.trim_end_matches(',').to_owned());
        Some([words.next()?, words.next()?, words.next()?])
    };
    let says = |[file, line, _]: &[String; 3]| Some(lines.place(files.get(file)?, line));
    let here = numbers(here)?;
    let mut whole = says(&here)?;
    if let Some(at) = at.and_then(numbers) {
        let before = match places.get(&at.join(" ")) {
            Some(before) => before.clone(),
            None => says(&at)?,
        };
        whole = [whole, before].join(INLINED_AT);
    }
    places.insert(here.join(" "), whole.clone());
    Some(whole)
}

/// A text without the numbers of its registers and the names of its labels, which differ between unrolled copies of
/// a line.
pub fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut name = None;
    for c in text.chars() {
        if matches!(c, '%' | '$') {
            name = Some(c);
        } else if name.is_some() && (c.is_alphanumeric() || c == '_') {
            if c.is_ascii_digit() || name == Some('$') {
                continue;
            }
        } else {
            name = None;
        }
        out.push(c);
    }
    out
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
        let text = Text::extract(MODULE, "b", &Lines::default())?;
        assert!(!text.lines.iter().any(|line| line.contains("entry a") || line.contains("%r1, 1")));
        assert!(text.lines.iter().any(|line| line.contains(".version")) && text.lines.len() == 14);
        let load = &text.instructions[0];
        assert_eq!(load.to_string(), "@!%p1 ld.global.v2.u32 {%r1, %r2}, [%rd1+8];");
        assert_eq!((load.source.as_str(), load.name(), load.operands.len()), ("row.cuh: 7 <- b.cu: 18", "ld", 2));
        assert_eq!(
            MODULE.lines().nth(load.file_line - 1).map(str::trim_start),
            Some("@!%p1 ld.global.v2.u32 \t{%r1, %r2}, [%rd1+8];")
        );
        let without = text.with(text.instructions[1].line, "");
        assert!(!without.contains("bar.sync") && without.contains("ret;"));
        assert!(Text::extract(MODULE, "c", &Lines::default()).is_err());
        Ok(())
    }

    #[test]
    fn copies_of_an_instruction_are_counted() -> Result<()> {
        let twice = MODULE.replace("\tbar.sync \t0;", "\t@!%p4 ld.global.v2.u32 \t{%r3, %r4}, [%rd2+8];");
        let text = Text::extract(&twice, "b", &Lines::default())?;
        assert_eq!(text.instructions.iter().map(|i| i.copy).collect::<Vec<_>>(), [0, 1, 0]);
        Ok(())
    }

    #[test]
    fn survivors_are_known_without_numbers() {
        assert_eq!(without_numbers("@%p12 bra $L__BB0_24;"), "@%p bra $;");
        assert_eq!(without_numbers("add.f32 %f70, %f67, 0f3F800000;"), "add.f32 %f, %f, 0f3F800000;");
        assert_eq!(
            without_numbers("ld.param.v2.f32 {%f1, %f2}, [zlpr_total_param_0+104];"),
            "ld.param.v2.f32 {%f, %f}, [zlpr_total_param_0+104];"
        );
    }
}
