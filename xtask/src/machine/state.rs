//! The registers of one warp, each value known or not.
//!
//! What a launch fixes is known: parameters, sizes, thread and block indices, and whatever integers follow from
//! them: addresses, trip counts, guards. What comes from memory is not, nor is anything computed from it.

use super::sass::{Base, File, Instruction, Modifiers, Operand, Predicate, TRUE, ZERO};

pub const LANES: usize = 32;

/// What the launch fixes.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Constant bank 0 in words: built-in values and parameters.
    pub constants: Vec<Option<u32>>,
    pub block_index: u32,
    /// Which warp of the block is walked.
    pub warp: u32,
}

/// A word of which some bits are known: compilers keep flags that depend on data beside those that do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bits {
    /// 0 where not known.
    pub value: u32,
    pub known: u32,
}

impl Bits {
    /// All known, or none.
    pub fn of(value: Option<u32>) -> Bits {
        value.map_or(Bits::default(), |value| Bits { value, known: u32::MAX })
    }

    pub fn whole(self) -> Option<u32> {
        (self.known == u32::MAX).then_some(self.value)
    }

    /// One of the two, it is not known which.
    pub fn either(self, other: Bits) -> Bits {
        let known = self.known & other.known & !(self.value ^ other.value);
        Bits { value: self.value & known, known }
    }
}

#[derive(Clone, Hash)]
pub struct Registers {
    vector: Vec<[Bits; LANES]>,
    uniform: Vec<Bits>,
    predicates: [[Option<bool>; LANES]; TRUE as usize],
    uniform_predicates: [Option<bool>; TRUE as usize],
}

impl Registers {
    pub fn unknown() -> Registers {
        Registers {
            vector: vec![[Bits::default(); LANES]; usize::from(ZERO)],
            uniform: vec![Bits::default(); usize::from(ZERO)],
            predicates: [[None; LANES]; TRUE as usize],
            uniform_predicates: [None; TRUE as usize],
        }
    }

    pub fn bits(&self, file: File, index: u8, lane: usize) -> Bits {
        match file {
            _ if index == ZERO => Bits::of(Some(0)),
            File::Vector => self.vector[usize::from(index)][lane],
            File::Uniform => self.uniform[usize::from(index)],
        }
    }

    pub fn register(&self, file: File, index: u8, lane: usize) -> Option<u32> {
        self.bits(file, index, lane).whole()
    }

    pub fn set_bits(&mut self, file: File, index: u8, lane: usize, bits: Bits) {
        match file {
            _ if index == ZERO => {}
            File::Vector => self.vector[usize::from(index)][lane] = bits,
            File::Uniform => self.uniform[usize::from(index)] = bits,
        }
    }

    pub fn predicate(&self, p: Predicate, lane: usize) -> Option<bool> {
        let value = match p.file {
            _ if p.index == TRUE => Some(true),
            File::Vector => self.predicates[usize::from(p.index)][lane],
            File::Uniform => self.uniform_predicates[usize::from(p.index)],
        };
        value.map(|v| v != p.negated)
    }

    pub fn set_predicate(&mut self, p: Predicate, lane: usize, value: Option<bool>) {
        match p.file {
            _ if p.index == TRUE => {}
            File::Vector => self.predicates[usize::from(p.index)][lane] = value,
            File::Uniform => self.uniform_predicates[usize::from(p.index)] = value,
        }
    }
}

/// Operand values as one lane sees them.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub registers: &'a Registers,
    pub launch: &'a Launch,
    pub lane: usize,
}

impl View<'_> {
    fn constant(&self, bank: u32, offset: u32, index: Option<Base>) -> Option<u32> {
        let index = index.map_or(Some(0), |b| self.registers.register(b.file, b.index, self.lane))?;
        let word = (bank == 0).then_some(offset.wrapping_add(index) / 4)?;
        self.launch.constants.get(word as usize).copied().flatten()
    }

    /// The 32 bits of an operand before its modifiers.
    fn raw(&self, operand: &Operand, high: bool) -> Option<u32> {
        let step = u32::from(high);
        match *operand {
            Operand::Register { index: ZERO, .. } => Some(0),
            Operand::Register { file, index, .. } => self.registers.register(file, index + step as u8, self.lane),
            Operand::Constant { bank, offset, index, .. } => self.constant(bank, offset + 4 * step, index),
            Operand::Integer(value) if high => Some((value >> 32) as u32),
            Operand::Integer(value) => Some(value as u32),
            Operand::Float(value) => (!high).then_some((value as f32).to_bits()),
            _ => None,
        }
    }

    /// A word of which not all bits may be known.
    pub fn bits(&self, operand: &Operand) -> Bits {
        match *operand {
            Operand::Register { file, index, modifiers } if modifiers == Modifiers::default() => {
                self.registers.bits(file, index, self.lane)
            }
            _ => Bits::of(self.int(operand)),
        }
    }

    /// A 32-bit integer.
    pub fn int(&self, operand: &Operand) -> Option<u32> {
        Some(self.term(operand)? as u32)
    }

    /// A summand whose carry counts: a negated one is its complement plus one.
    pub fn term(&self, operand: &Operand) -> Option<u64> {
        let value = self.raw(operand, false)?;
        let Modifiers { negated, inverted, .. } = modifiers(operand);
        Some(match (negated, inverted) {
            (true, _) => u64::from(!value) + 1,
            (_, true) => u64::from(!value),
            _ => u64::from(value),
        })
    }

    /// A 64-bit integer, of a register and the next.
    pub fn long(&self, operand: &Operand) -> Option<u64> {
        let value = u64::from(self.raw(operand, false)?) | u64::from(self.raw(operand, true)?) << 32;
        let Modifiers { negated, inverted, .. } = modifiers(operand);
        Some(match (negated, inverted) {
            (true, _) => value.wrapping_neg(),
            (_, true) => !value,
            _ => value,
        })
    }

    pub fn float(&self, operand: &Operand) -> Option<f32> {
        let value = f32::from_bits(self.raw(operand, false)?);
        let Modifiers { negated, absolute, .. } = modifiers(operand);
        let value = if absolute { value.abs() } else { value };
        Some(if negated { -value } else { value })
    }

    pub fn bool(&self, operand: &Operand) -> Option<bool> {
        match operand {
            Operand::Predicate(p) => self.registers.predicate(*p, self.lane),
            _ => None,
        }
    }

    /// The address of a memory operand, with `wide`: its first register is one of two.
    pub fn address(&self, operand: &Operand, wide: bool) -> Option<u64> {
        let Operand::Memory { bases, offset } = operand else { return None };
        let mut address = *offset as u64;
        for (i, base) in bases.iter().enumerate() {
            let low = u64::from(self.registers.register(base.file, base.index, self.lane)?);
            let value = if (base.wide || wide && i == 0) && base.index != ZERO {
                low | u64::from(self.registers.register(base.file, base.index + 1, self.lane)?) << 32
            } else {
                low * u64::from(base.scale)
            };
            address = address.wrapping_add(value);
        }
        Some(address)
    }

    /// The value of a special register.
    pub fn special(&self, name: &str) -> Option<u32> {
        match name {
            "SR_TID.X" => Some(self.launch.warp * LANES as u32 + self.lane as u32),
            "SR_CTAID.X" => Some(self.launch.block_index),
            "SR_LANEID" => Some(self.lane as u32),
            "SRZ" | "SR_TID.Y" | "SR_TID.Z" | "SR_CTAID.Y" | "SR_CTAID.Z" | "SR_CgaCtaId" => Some(0),
            _ => None,
        }
    }
}

fn modifiers(operand: &Operand) -> Modifiers {
    match operand {
        Operand::Register { modifiers, .. } | Operand::Constant { modifiers, .. } => *modifiers,
        _ => Modifiers::default(),
    }
}

/// Destinations and sources of an instruction in the usual order: predicates, register, predicates, sources.
pub struct Parts<'a> {
    pub register: Option<(File, u8)>,
    pub predicates: Vec<Predicate>,
    pub sources: &'a [Operand],
}

/// Opcodes that write no register, whatever their first operand.
const NO_DESTINATION: [&str; 14] = [
    "BAR", "BMOV", "BRA", "BREAK", "BSSY", "BSYNC", "CALL", "DEPBAR", "EXIT", "NOP", "RET", "WARPSYNC", "YIELD", "R2P",
];

/// Splits the operands of an instruction.
pub fn parts(instruction: &Instruction) -> Parts<'_> {
    let mut rest = &instruction.operands[..];
    let mut parts = Parts { register: None, predicates: Vec::new(), sources: rest };
    let base = instruction.base();
    if NO_DESTINATION.contains(&base) {
        return parts;
    }
    let take = |rest: &mut &[Operand], most: usize, into: &mut Vec<Predicate>| {
        while into.len() < most
            && let [Operand::Predicate(p), tail @ ..] = *rest
        {
            into.push(*p);
            *rest = tail;
        }
    };
    take(&mut rest, 2, &mut parts.predicates);
    if !base.ends_with("SETP") && !base.ends_with("PLOP3") && base != "VOTE" {
        if let [Operand::Register { file, index, .. }, tail @ ..] = rest {
            parts.register = Some((*file, *index));
            rest = tail;
        }
        // `SEL` and its like have no second result: a predicate after the register comes last there.
        take(&mut rest, 2, &mut parts.predicates);
    }
    parts.sources = rest;
    parts
}

/// Registers that an instruction reads.
pub fn reads(instruction: &Instruction) -> Vec<(File, u8)> {
    let mut found = Vec::new();
    let stores = matches!(instruction.base(), "STG" | "STS" | "ST");
    let words = |file, index: u8, count: u8| (0..count).map(move |i| (file, index.saturating_add(i)));
    for operand in parts(instruction).sources {
        match operand {
            Operand::Register { index: ZERO, .. } => {}
            Operand::Register { file, index, .. } if stores => {
                found.extend(words(*file, *index, (instruction.width() / 4).clamp(1, 4) as u8));
            }
            Operand::Register { file, index, .. } => {
                let pair = ["64", "U64", "S64", "WIDE"].iter().any(|m| instruction.has(m))
                    || matches!(instruction.base(), "FFMA2" | "FADD2" | "FMUL2");
                found.extend(words(*file, *index, if pair { 2 } else { 1 }));
            }
            Operand::Memory { bases, .. } => {
                found.extend(bases.iter().flat_map(|b| words(b.file, b.index, 2)));
            }
            _ => {}
        }
    }
    found
}
