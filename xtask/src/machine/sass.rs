//! The disassembler's listing as instructions.
//!
//! Input is what `nvdisasm -c` prints: per kernel a line `.section .text.NAME`, labels on lines of their own, and
//! instructions as `/*0250*/  @!P0 LDG.E.128 R4, desc[UR4][R2.64+0x10] ;`.

use std::collections::HashMap;

/// Index of the register that reads as zero, and of the predicate that reads as true.
pub const ZERO: u8 = 255;
/// See [`ZERO`].
pub const TRUE: u8 = 7;

/// A register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// One value per lane.
    Vector,
    /// One value per warp.
    Uniform,
}

/// A predicate as a source or destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predicate {
    pub file: File,
    pub index: u8,
    pub negated: bool,
}

/// A register as part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub file: File,
    pub index: u8,
    /// 64 bits, from this register and the next.
    pub wide: bool,
    pub scale: u32,
}

/// What stands before the value of an operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    pub negated: bool,
    pub inverted: bool,
    pub absolute: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Register {
        file: File,
        index: u8,
        modifiers: Modifiers,
    },
    Predicate(Predicate),
    Constant {
        bank: u32,
        offset: u32,
        index: Option<Base>,
        modifiers: Modifiers,
    },
    /// Written as a hexadecimal integer.
    Integer(i64),
    /// Written as a decimal number.
    Float(f64),
    Memory {
        bases: Vec<Base>,
        offset: i64,
    },
    Label(String),
    /// Special registers, barriers and whatever else needs no value.
    Other(String),
}

#[derive(Clone, Debug)]
pub struct Instruction {
    pub offset: u32,
    pub guard: Option<Predicate>,
    /// With all its modifiers: `IMAD.WIDE.U32`.
    pub opcode: String,
    pub operands: Vec<Operand>,
    /// As printed, without the offset.
    pub text: String,
}

impl Instruction {
    /// The opcode without modifiers.
    pub fn base(&self) -> &str {
        self.opcode.split('.').next().unwrap_or(&self.opcode)
    }

    /// Whether the opcode has this modifier.
    pub fn has(&self, modifier: &str) -> bool {
        self.opcode.split('.').skip(1).any(|m| m == modifier)
    }

    /// Bytes that one lane moves, of a load or store.
    pub fn width(&self) -> u32 {
        let widths = [("256", 32), ("128", 16), ("64", 8), ("U16", 2), ("S16", 2), ("U8", 1), ("S8", 1)];
        widths.into_iter().find(|(name, _)| self.has(name)).map_or(4, |(_, bytes)| bytes)
    }

    /// The label it names, if any.
    pub fn label(&self) -> Option<&str> {
        self.operands.iter().find_map(|o| match o {
            Operand::Label(name) => Some(name.as_str()),
            _ => None,
        })
    }
}

/// One kernel, with the subroutines that the compiler put behind it.
#[derive(Debug, Default)]
pub struct Function {
    pub name: String,
    pub instructions: Vec<Instruction>,
    /// Label to index in `instructions`.
    pub labels: HashMap<String, usize>,
}

impl Function {
    /// Index of the instruction at this offset.
    pub fn at(&self, offset: u32) -> Option<usize> {
        self.instructions.binary_search_by_key(&offset, |i| i.offset).ok()
    }

    /// Where the label of a branch is.
    pub fn target(&self, instruction: &Instruction) -> Option<usize> {
        self.labels.get(instruction.label()?).copied()
    }
}

/// All kernels of a listing.
pub fn parse(listing: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    for line in listing.lines() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix(".section") {
            if let Some(name) = section.trim().strip_prefix(".text.") {
                let name = name.split(',').next().unwrap_or(name).trim_matches('"').into();
                functions.push(Function { name, ..Function::default() });
            }
            continue;
        }
        let Some(function) = functions.last_mut() else { continue };
        if let Some(label) = line.strip_suffix(':') {
            function.labels.insert(label.into(), function.instructions.len());
        } else if let Some(instruction) = parse_instruction(line) {
            function.instructions.push(instruction);
        }
    }
    functions.retain(|f| !f.instructions.is_empty());
    functions
}

fn parse_instruction(line: &str) -> Option<Instruction> {
    let (offset, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let offset = u32::from_str_radix(offset, 16).ok()?;
    let text = rest.split(';').next()?.trim();
    let mut body = text;
    let mut guard = None;
    if let Some(rest) = body.strip_prefix('@') {
        let (predicate, rest) = rest.split_once(char::is_whitespace)?;
        guard = parse_predicate(predicate);
        body = rest.trim();
    }
    let (opcode, operands) = body.split_once(char::is_whitespace).unwrap_or((body, ""));
    if !opcode.starts_with(|c: char| c.is_ascii_uppercase()) {
        return None;
    }
    // A return names its register and its function without a comma between.
    let operands = operands.replace(", `(", " `(").replace(" `(", ", `(");
    let operands = operands.split(", ").map(str::trim).filter(|o| !o.is_empty()).map(parse_operand).collect();
    Some(Instruction { offset, guard, opcode: opcode.into(), operands, text: text.into() })
}

fn parse_predicate(text: &str) -> Option<Predicate> {
    let (negated, name) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let (file, rest) = match name.strip_prefix("UP") {
        Some(rest) => (File::Uniform, rest),
        None => (File::Vector, name.strip_prefix('P')?),
    };
    let index = if rest == "T" { TRUE } else { rest.parse().ok().filter(|i| *i < TRUE)? };
    Some(Predicate { file, index, negated })
}

/// `R12`, `RZ`, `UR4`, with suffixes such as `.reuse`, `.64`, `.H0_H0`.
fn parse_register(text: &str) -> Option<(File, u8, &str)> {
    let (name, suffix) = text.split_once('.').unwrap_or((text, ""));
    let (file, rest) = match name.strip_prefix("UR") {
        Some(rest) => (File::Uniform, rest),
        None => (File::Vector, name.strip_prefix('R')?),
    };
    Some((file, if rest == "Z" { ZERO } else { rest.parse().ok()? }, suffix))
}

fn parse_integer(text: &str) -> Option<i64> {
    let (negated, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let value = u64::from_str_radix(digits.strip_prefix("0x")?, 16).ok()? as i64;
    Some(if negated { value.wrapping_neg() } else { value })
}

fn parse_base(text: &str) -> Option<Base> {
    let (file, index, suffix) = parse_register(text)?;
    let scale = suffix.split('.').find_map(|s| s.strip_prefix('X')?.parse().ok()).unwrap_or(1);
    Some(Base { file, index, wide: suffix.split('.').any(|s| s == "64"), scale })
}

/// The inside of `[R2.64+UR4+0x10]`.
fn parse_memory(inside: &str) -> Operand {
    let (mut bases, mut offset) = (Vec::new(), 0);
    for term in inside.split('+').map(str::trim) {
        match (parse_integer(term), parse_base(term)) {
            (Some(value), _) => offset += value,
            (None, Some(base)) => bases.push(base),
            (None, None) => {}
        }
    }
    Operand::Memory { bases, offset }
}

fn parse_operand(text: &str) -> Operand {
    if let Some(name) = text.strip_prefix("`(") {
        return Operand::Label(name.trim_end_matches(')').into());
    }
    if let Some(predicate) = parse_predicate(text) {
        return Operand::Predicate(predicate);
    }
    if let Some(value) = parse_integer(text) {
        return Operand::Integer(value);
    }
    let mut modifiers = Modifiers::default();
    let mut rest = text;
    while let Some(first) = rest.as_bytes().first() {
        match first {
            b'-' => modifiers.negated = true,
            b'~' => modifiers.inverted = true,
            b'|' => modifiers.absolute = true,
            _ => break,
        }
        rest = &rest[1..];
    }
    // The closing bar of an absolute value stands before the suffixes: `|R4|.reuse`.
    let rest = rest.replacen('|', "", 1);
    let rest = rest.as_str();
    if let Some((file, index, _)) = parse_register(rest) {
        return Operand::Register { file, index, modifiers };
    }
    if let Some((bank, inside)) = rest.strip_prefix("c[").and_then(|r| r.split_once("][")) {
        let inside = inside.split(']').next().unwrap_or(inside);
        if let (Some(bank), Operand::Memory { bases, offset }) = (parse_integer(bank), parse_memory(inside)) {
            let index = bases.first().copied();
            return Operand::Constant { bank: bank as u32, offset: offset as u32, index, modifiers };
        }
    }
    // `desc[UR4][R2.64]`: the descriptor says nothing of the address.
    let address = rest.strip_prefix("desc[").and_then(|r| r.split_once("][")).map(|(_, inside)| inside);
    if let Some(inside) = address.or(rest.strip_prefix('[')) {
        return parse_memory(inside.split(']').next().unwrap_or(inside));
    }
    let number = match text.trim_start_matches(['-', '+']) {
        "INF" => Some(f64::INFINITY),
        "QNAN" | "SNAN" => Some(f64::NAN),
        digits => digits.parse().ok(),
    };
    match number {
        Some(value) => Operand::Float(if text.starts_with('-') { -value } else { value }),
        None => Operand::Other(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Instruction {
        parse_instruction(line).expect("an instruction")
    }

    #[test]
    fn loads_of_several_generations() {
        let turing = one("/*01c0*/   @!P0 LDG.E.128.SYS R84, [R4+-0x10] ;");
        assert_eq!((turing.offset, turing.base(), turing.width()), (0x1c0, "LDG", 16));
        assert_eq!(turing.guard, Some(Predicate { file: File::Vector, index: 0, negated: true }));
        let hopper = one("/*0730*/  LDG.E.U16 R40, desc[UR4][R22.64+UR8+0x2] ;");
        let base = |file, index, wide| Base { file, index, wide, scale: 1 };
        let bases = vec![base(File::Vector, 22, true), base(File::Uniform, 8, false)];
        assert_eq!(hopper.operands[1], Operand::Memory { bases, offset: 2 });
        assert_eq!(hopper.width(), 2);
        let blackwell = one("/*0100*/  LDG.E.ENL2.256 R8, R4, desc[UR6][R2.64] ;");
        assert_eq!((blackwell.width(), blackwell.operands.len()), (32, 3));
        let shared = one("/*0040*/  STS.64 [R3.X8+UR4+0x10], R6 ;");
        let Operand::Memory { bases, offset: 16 } = &shared.operands[0] else { panic!("{shared:?}") };
        assert_eq!((bases[0].scale, bases[1].file), (8, File::Uniform));
    }

    #[test]
    fn operands_with_modifiers() {
        let add = one("/*0000*/  IADD3.X R9, P1, PT, ~R4.reuse, -UR5, c[0x0][0x164], P2, !PT ;");
        assert_eq!(add.operands.len(), 8);
        assert!(matches!(
            add.operands[3],
            Operand::Register { index: 4, modifiers: Modifiers { inverted: true, .. }, .. }
        ));
        assert!(matches!(
            add.operands[4],
            Operand::Register { file: File::Uniform, modifiers: Modifiers { negated: true, .. }, .. }
        ));
        assert!(matches!(add.operands[5], Operand::Constant { bank: 0, offset: 0x164, index: None, .. }));
        assert!(matches!(add.operands[7], Operand::Predicate(Predicate { index: TRUE, negated: true, .. })));
        let compare = one("/*0000*/  FSETP.GT.AND P0, PT, |R4|.reuse, 9.31322574615478515625e-10, PT ;");
        assert!(matches!(
            compare.operands[2],
            Operand::Register { index: 4, modifiers: Modifiers { absolute: true, .. }, .. }
        ));
        assert_eq!(compare.operands[3], Operand::Float(2.0f64.powi(-30)));
        let infinity = one("/*0000*/  FSEL R4, R5, -INF , P0 ;");
        assert_eq!(infinity.operands[2], Operand::Float(f64::NEG_INFINITY));
        let back = one("/*0000*/  RET.REL.NODEC R2 `(zlpr_warp) ;");
        assert_eq!(back.label(), Some("zlpr_warp"));
        let uniform = one("/*0000*/  BRA.U !UP0, `(.L_x_594) ;");
        let not_up0 = Predicate { file: File::Uniform, index: 0, negated: true };
        assert_eq!(uniform.operands, [Operand::Predicate(not_up0), Operand::Label(".L_x_594".into())]);
    }

    #[test]
    fn functions_and_labels() {
        let listing = "\t.section\t.text.first,\"ax\",@progbits\nfirst:\n.text.first:\n        /*0000*/  NOP ;\n.L_x_1:\n        \
                       /*0010*/  BRA `(.L_x_1) ;\n\t.section\t.text.second,\"ax\",@progbits\n        /*0000*/  EXIT ;\n";
        let functions = parse(listing);
        assert_eq!(functions.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        let first = &functions[0];
        assert_eq!((first.target(&first.instructions[1]), first.at(0x10)), (Some(1), Some(1)));
    }
}
