//! The machine code of a kernel with what the counted path does in it.

use std::fmt::Write as _;

use super::measure::Measured;
use crate::machine::cfg;
use crate::machine::pipes;
use crate::machine::sass::Function;

/// Every block of the counted path: per instruction how often it is issued, its share of the issue slots, its pipe, what
/// it accesses; cold blocks as one line each.
pub fn annotated(function: &Function, m: &Measured) -> String {
    let mut text = String::new();
    let Some(counts) = &m.counts else { return text };
    let path = &counts.path;
    let total: u64 = path.issued.iter().map(|&n| u64::from(n)).sum();
    let _ = writeln!(
        text,
        "{} on sm_{}: the counted path of one warp, {} columns, {} elements per lane, {total} instructions",
        function.name, m.arch, m.cols, counts.elements_per_lane
    );
    let _ = writeln!(text, "   times      %  pipe");
    for block in cfg::blocks(function) {
        let issued: u64 = block.range.clone().map(|i| u64::from(path.issued[i])).sum();
        let place = function.instructions[block.range.start].offset;
        if issued == 0 {
            let _ = writeln!(text, "-- {place:04x}: {} cold instructions", block.range.len());
            continue;
        }
        let share = 100.0 * issued as f64 / total as f64;
        let _ = writeln!(text, "-- {place:04x}: loop depth {}, {share:.1}% of the path", block.depth);
        for i in block.range {
            let instruction = &function.instructions[i];
            let mut note = String::new();
            if let Some(access) = path.accesses.get(&i) {
                let way = if access.store { "to" } else { "from" };
                let _ = write!(note, "  // {} bytes {way} {}", access.width, access.array);
            }
            if let Some(taken) = path.decisions.get(&i) {
                let _ = write!(note, "  // depends on data: {}", if *taken { "taken" } else { "not taken" });
            }
            if path.effective[i] == 0 {
                note.push_str("  // no lane");
            }
            let _ = writeln!(
                text,
                "{:8} {:6.2}  {:4} {:04x}  {}{note}",
                path.issued[i],
                100.0 * f64::from(path.issued[i]) / total as f64,
                pipes::pipe(instruction).name(),
                instruction.offset,
                instruction.text
            );
        }
    }
    let mut opcodes: std::collections::BTreeMap<&str, u64> = Default::default();
    for (instruction, &n) in function.instructions.iter().zip(&path.issued) {
        *opcodes.entry(instruction.base()).or_default() += u64::from(n);
    }
    let mut opcodes: Vec<_> = opcodes.into_iter().filter(|o| o.1 > 0).collect();
    opcodes.sort_by_key(|&(name, n)| (std::cmp::Reverse(n), name));
    let _ = writeln!(text, "per element:");
    for (name, n) in opcodes {
        let _ = writeln!(text, "{:8.3}  {name}", n as f64 / counts.elements_per_lane);
    }
    text
}
