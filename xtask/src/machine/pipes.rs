//! Which pipe of a multiprocessor executes an instruction, at what rate, and how long its result takes.
//!
//! Rates: table "Throughput of Native Arithmetic Instructions" of the CUDA C++ programming guide, in lanes per
//! clock and multiprocessor: f32 64 on 7.5 and 8.0, 128 later; integer, logic, comparison 64; exponentials,
//! reciprocals and conversions by F2F, F2I, I2F 16; shuffles 32. Two things the table does not say are taken to be
//! so: packed conversions (F2FP) run with the integer instructions, and a packed f32x2 instruction counts as two.
//! sm_120 can do more integer work than is assumed.
//!
//! Latencies: rounded from microbenchmarks (Jia et al., arXiv 1804.06826 and 1903.07486; Luo et al., arXiv
//! 2402.13499). They decide little next to that of memory.

use super::sass::Instruction;

/// An execution pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pipe {
    /// Floating-point multiply and add, integer multiply.
    Fma,
    /// Integer and logic, comparison, selection, packed conversion.
    Alu,
    /// Exponential, reciprocal, logarithm, scalar conversion.
    Mufu,
    /// Loads, stores, shuffles.
    Lsu,
    /// Control and the uniform datapath: these cost an issue slot only.
    Other,
}

pub const PIPES: [Pipe; 5] = [Pipe::Fma, Pipe::Alu, Pipe::Mufu, Pipe::Lsu, Pipe::Other];

impl Pipe {
    pub fn name(self) -> &'static str {
        match self {
            Pipe::Fma => "fma",
            Pipe::Alu => "alu",
            Pipe::Mufu => "mufu",
            Pipe::Lsu => "lsu",
            Pipe::Other => "-",
        }
    }
}

/// The pipe of an instruction.
pub fn pipe(instruction: &Instruction) -> Pipe {
    let base = instruction.base();
    match base {
        "MUFU" | "F2F" | "F2I" | "I2F" | "FRND" | "POPC" | "FLO" => Pipe::Mufu,
        "FADD" | "FMUL" | "FFMA" | "IMAD" | "FADD2" | "FMUL2" | "FFMA2" | "HADD2" | "HMUL2" | "HFMA2" | "IDP" => {
            Pipe::Fma
        }
        "LDG" | "STG" | "LDS" | "STS" | "LDL" | "STL" | "LD" | "ST" | "LDGSTS" | "SHFL" | "RED" | "ATOM" | "ATOMG"
        | "ATOMS" | "LDSM" | "STAS" => Pipe::Lsu,
        "BRA" | "BSSY" | "BSYNC" | "BMOV" | "EXIT" | "NOP" | "CALL" | "RET" | "WARPSYNC" | "BAR" | "LDC" | "S2R"
        | "CS2R" | "LDGDEPBAR" | "DEPBAR" | "MEMBAR" | "FENCE" | "ERRBAR" | "CCTL" | "YIELD" | "BREAK" => Pipe::Other,
        _ if base.starts_with('U') || base.starts_with("LDCU") || base.starts_with("S2UR") => Pipe::Other,
        _ => Pipe::Alu,
    }
}

/// Clocks of the whole multiprocessor that one warp instruction takes of its pipe, if `lanes` access memory.
pub fn clocks(instruction: &Instruction, arch: u32, lanes: u32) -> f64 {
    let f32_lanes = if arch <= 80 { 64.0 } else { 128.0 };
    match pipe(instruction) {
        Pipe::Mufu => 32.0 / 16.0,
        Pipe::Alu => 32.0 / 64.0,
        // The L1 cache and shared memory move 128 bytes per clock.
        Pipe::Lsu => f64::from(lanes * instruction.width()).max(128.0) / 128.0,
        Pipe::Other => 0.0,
        Pipe::Fma => match instruction.base() {
            "IMAD" | "IDP" => 32.0 / 64.0,
            "FADD2" | "FMUL2" | "FFMA2" => 2.0 * 32.0 / f32_lanes,
            // Twice the rate of f32 per element on the data-centre parts: as many instructions.
            "HADD2" | "HMUL2" | "HFMA2" if [80, 90, 100].contains(&arch) => 32.0 / 128.0,
            "HADD2" | "HMUL2" | "HFMA2" => 32.0 / 64.0,
            _ => 32.0 / f32_lanes,
        },
    }
}

/// Clocks from issue to the result, except for loads from global memory.
pub fn latency(instruction: &Instruction) -> f64 {
    match instruction.base() {
        "BAR" => 30.0,
        "SHFL" | "LDS" => 24.0,
        "LDC" | "LDCU" | "ULDC" | "S2R" | "S2UR" => 24.0,
        _ if pipe(instruction) == Pipe::Mufu => 18.0,
        _ => 4.0,
    }
}
