//! How long one warp takes when it has the multiprocessor to itself.

use std::collections::HashMap;

use super::pipes::{self, PIPES, Pipe};
use super::sass::{File, Function};
use super::state::{parts, reads};

/// Clocks for the instructions of `trace` (their indices, and how many lanes took part), issued in order, each when its
/// operands and its pipe are free. Loads come back after `memory_latency`; stores are not waited for.
pub fn clocks(function: &Function, arch: u32, trace: &[(u32, u8)], memory_latency: f64) -> f64 {
    let mut now = 0.0f64;
    let mut ready: HashMap<(File, u8), f64> = HashMap::new();
    let mut copies_ready = 0.0f64;
    let mut pipe_free = [0.0f64; PIPES.len()];
    for &(at, lanes) in trace {
        let instruction = &function.instructions[at as usize];
        if lanes > 0 {
            let pipe = pipes::pipe(instruction);
            let mut start = now.max(pipe_free[pipe as usize]);
            for register in reads(instruction) {
                start = start.max(ready.get(&register).copied().unwrap_or(0.0));
            }
            if instruction.base() == "DEPBAR" {
                start = start.max(copies_ready);
            }
            // A quarter of the multiprocessor's lanes belongs to this warp's part, except for memory.
            let share = if pipe == Pipe::Lsu { 1.0 } else { 4.0 };
            pipe_free[pipe as usize] = start + share * pipes::clocks(instruction, arch, lanes.into());
            let global = matches!(instruction.base(), "LDG" | "LD");
            let done = start + if global { memory_latency } else { pipes::latency(instruction) };
            if instruction.base() == "LDGSTS" {
                copies_ready = start + memory_latency;
            }
            if let Some((file, index)) = parts(instruction).register {
                for word in 0..(instruction.width() / 4).clamp(1, 8) as u8 {
                    ready.insert((file, index.saturating_add(word)), done);
                }
            }
            now = if instruction.base() == "BAR" { done } else { start };
        }
        now += 1.0;
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::sass;

    fn alone(lines: &[&str], memory_latency: f64) -> f64 {
        let code: String = (0..).zip(lines).map(|(i, l)| format!("/*{:04x}*/  {l} ;\n", 16 * i)).collect();
        let functions = sass::parse(&format!(".section .text.k,\"ax\"\n{code}"));
        let trace: Vec<(u32, u8)> = (0..lines.len() as u32).map(|i| (i, 32)).collect();
        clocks(&functions[0], 90, &trace, memory_latency)
    }

    #[test]
    fn loads_overlap_until_the_first_use() {
        let loads = ["LDG.E.128 R4, desc[UR4][R2.64]", "LDG.E.128 R8, desc[UR4][R2.64+0x200]"];
        let used = [loads[0], loads[1], "FADD R12, R5, R9"];
        let serial = [loads[0], "FADD R12, R5, R5", loads[1], "FADD R12, R9, R9"];
        // 512 bytes take the load pipe 4 clocks.
        assert_eq!(alone(&loads, 500.0), 5.0);
        assert_eq!(alone(&used, 500.0), 505.0);
        assert_eq!(alone(&serial, 500.0), 1002.0);
    }

    #[test]
    fn pipes_and_results_are_waited_for() {
        // Eight clocks per exponential in a quarter of a multiprocessor.
        assert_eq!(alone(&["MUFU.EX2 R1, R2", "MUFU.EX2 R3, R4"], 0.0), 9.0);
        assert_eq!(alone(&["MUFU.EX2 R1, R2", "FADD R3, R1, R1"], 0.0), 19.0);
        assert_eq!(alone(&["FADD R1, R2, R2", "FADD R3, R4, R4"], 0.0), 2.0);
    }
}
