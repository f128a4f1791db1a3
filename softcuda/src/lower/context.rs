//! The state of lowering one kernel: registers, names, labels.

use std::collections::HashMap;

use crate::counters::OpClass;
use crate::ptx::{Function, LoadError, Operand, Space, Tree, Type, Variable};

use super::module::Symbols;
use super::op::{Inst, NONE, Op, PredRef, Reg};
use super::parts::Parts;
use super::special::Special;

/// Virtual registers, predicates, branch targets and operations that one kernel may have after inlining; more is
/// a mistake or malice.
const MAX_CODE: usize = 1 << 20;

/// What a virtual register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Content {
    /// Written by the kernel; 32 bits, or fewer.
    Narrow,
    /// Written by the kernel; 64 bits.
    Wide,
    /// An immediate.
    Const32(u32),
    /// An immediate.
    Const64(u64),
    /// A special register.
    Special(Special),
}

impl Content {
    pub(super) fn wide(self) -> bool {
        matches!(self, Content::Wide | Content::Const64(_))
    }
}

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Symbol {
    Register { reg: Reg, ty: Type },
    Predicate(u32),
    Memory { space: Space, address: u64, bytes: u64 },
}

/// The names of one pair of braces.
#[derive(Default)]
pub(super) struct Scope<'a> {
    names: HashMap<&'a str, Symbol>,
    ranges: HashMap<&'a str, (u32, Type, u32)>,
    pub(super) labels: HashMap<&'a str, u32>,
    pub(super) tables: HashMap<&'a str, Vec<&'a str>>,
    /// Names of an inlined function do not see those of its caller.
    opaque: bool,
}

impl Scope<'_> {
    /// The outermost scope of a function.
    pub(super) fn of_function() -> Self {
        Scope { opaque: true, ..Scope::default() }
    }
}

/// The state of lowering one kernel.
pub(super) struct Lowerer<'a, 'm> {
    pub(super) tree: &'m Tree<'a>,
    pub(super) symbols: &'m Symbols<'a>,
    pub(super) code: Vec<Inst>,
    pub(super) lines: Vec<u32>,
    pub(super) locations: Vec<(u32, u32)>,
    pub(super) contents: Vec<Content>,
    pub(super) predicates: u32,
    /// Entries of all branch tables.
    pub(super) targets: usize,
    pub(super) labels: Vec<Option<u32>>,
    pub(super) local_bytes: u64,
    pub(super) sites: u32,
    /// Offsets of the shared variables of function bodies, by the variable's place in the tree.
    pub(super) shared: HashMap<*const Variable<'a>, u64>,
    /// Offset and size of module-level shared variables that this kernel uses.
    pub(super) module_shared: HashMap<&'a str, (u64, u64)>,
    pub(super) scopes: Vec<Scope<'a>>,
    /// Functions being inlined, and the label behind each.
    pub(super) calls: Vec<(&'a str, u32)>,
    constants: HashMap<Content, Reg>,
    pub(super) line: u32,
    pub(super) location: (u32, u32),
    pub(super) guard: PredRef,
}

impl<'a, 'm> Lowerer<'a, 'm> {
    pub(super) fn new(tree: &'m Tree<'a>, symbols: &'m Symbols<'a>) -> Lowerer<'a, 'm> {
        Lowerer {
            tree,
            symbols,
            code: Vec::new(),
            lines: Vec::new(),
            locations: Vec::new(),
            contents: Vec::new(),
            // Predicate 0 is always true.
            predicates: 1,
            targets: 0,
            labels: Vec::new(),
            local_bytes: 0,
            sites: 0,
            shared: HashMap::new(),
            module_shared: HashMap::new(),
            scopes: Vec::new(),
            calls: Vec::new(),
            constants: HashMap::new(),
            line: 0,
            location: (0, 0),
            guard: PredRef::TRUE,
        }
    }

    /// Appends the main operation of an instruction.
    pub(super) fn emit(&mut self, class: OpClass, op: Op) {
        self.push(Some(class), op);
    }

    /// Appends an operation that an instruction needs beside its main one.
    pub(super) fn emit_extra(&mut self, op: Op) {
        self.push(None, op);
    }

    /// Appends an operation of either kind.
    pub(super) fn push(&mut self, class: Option<OpClass>, op: Op) {
        self.code.push(Inst { guard: self.guard, class, op });
        self.lines.push(self.line);
        self.locations.push(self.location);
    }

    pub(super) fn check_size(&self) -> Result<(), LoadError> {
        let largest = self.code.len().max(self.contents.len()).max(self.predicates as usize).max(self.targets);
        if largest > MAX_CODE {
            return Err(LoadError::unsupported(self.line, "a kernel of that size"));
        }
        Ok(())
    }

    fn reg(&mut self, content: Content) -> Reg {
        self.contents.push(content);
        (self.contents.len() - 1) as Reg
    }

    /// A new 32-bit register.
    pub(super) fn temp32(&mut self) -> Reg {
        self.reg(Content::Narrow)
    }

    /// A new 64-bit register.
    pub(super) fn temp64(&mut self) -> Reg {
        self.reg(Content::Wide)
    }

    /// A new predicate.
    pub(super) fn temp_predicate(&mut self) -> u32 {
        self.predicates += 1;
        self.predicates - 1
    }

    fn constant(&mut self, content: Content) -> Reg {
        if let Some(&reg) = self.constants.get(&content) {
            return reg;
        }
        let reg = self.reg(content);
        self.constants.insert(content, reg);
        reg
    }

    /// A register that holds an immediate.
    pub(super) fn const32(&mut self, bits: u32) -> Reg {
        self.constant(Content::Const32(bits))
    }

    /// A register that holds an immediate.
    pub(super) fn const64(&mut self, bits: u64) -> Reg {
        self.constant(Content::Const64(bits))
    }

    /// A register that holds a special register's value.
    pub(super) fn special(&mut self, special: Special) -> Reg {
        self.constant(Content::Special(special))
    }

    pub(super) fn new_label(&mut self) -> u32 {
        self.labels.push(None);
        (self.labels.len() - 1) as u32
    }

    pub(super) fn place_label(&mut self, label: u32) {
        self.labels[label as usize] = Some(self.code.len() as u32);
    }

    pub(super) fn site(&mut self) -> u32 {
        self.sites += 1;
        self.sites - 1
    }

    fn scope(&mut self) -> &mut Scope<'a> {
        if self.scopes.is_empty() {
            self.scopes.push(Scope::default());
        }
        let last = self.scopes.len() - 1;
        &mut self.scopes[last]
    }

    pub(super) fn define(&mut self, name: &'a str, symbol: Symbol, line: u32) -> Result<(), LoadError> {
        if self.scope().names.insert(name, symbol).is_some() {
            return Err(LoadError::symbol(line, format!("`{name}` is declared twice")));
        }
        Ok(())
    }

    /// Declares the registers of a `.reg` directive.
    pub(super) fn declare_registers(&mut self, variable: &Variable<'a>) -> Result<(), LoadError> {
        let line = variable.line;
        if variable.ty == Type::B128 {
            return Err(LoadError::unsupported(line, "registers of 128 bits"));
        }
        if variable.count != 1 {
            return Err(LoadError::unsupported(line, "vector registers"));
        }
        match variable.range {
            None => {
                let symbol = self.register_symbol(variable.ty);
                self.define(variable.name, symbol, line)
            }
            Some(count) => {
                let first = match variable.ty {
                    Type::Pred => {
                        self.predicates += count;
                        self.predicates - count
                    }
                    ty => {
                        let wide = ty.bytes() == 8;
                        let content = if wide { Content::Wide } else { Content::Narrow };
                        let first = self.contents.len();
                        self.contents.extend((0..count).map(|_| content));
                        first as u32
                    }
                };
                self.check_size()?;
                let range = (count, variable.ty, first);
                if self.scope().ranges.insert(variable.name, range).is_some() {
                    let text = format!("`{}<{count}>` is declared twice", variable.name);
                    return Err(LoadError::symbol(line, text));
                }
                Ok(())
            }
        }
    }

    pub(super) fn register_symbol(&mut self, ty: Type) -> Symbol {
        match ty {
            Type::Pred => Symbol::Predicate(self.temp_predicate()),
            _ if ty.bytes() == 8 => Symbol::Register { reg: self.temp64(), ty },
            _ => Symbol::Register { reg: self.temp32(), ty },
        }
    }

    /// What a name stands for, from the innermost scope outwards.
    pub(super) fn look_up(&self, name: &str) -> Option<Symbol> {
        for scope in self.scopes.iter().rev() {
            if let Some(&symbol) = scope.names.get(name) {
                return Some(symbol);
            }
            let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            for split in name.len() - digits..name.len() {
                let (prefix, number) = name.split_at(split);
                let Some(&(count, ty, first)) = scope.ranges.get(prefix) else { continue };
                let canonical = number.len() == 1 || !number.starts_with('0');
                match number.parse::<u32>() {
                    Ok(index) if index < count && canonical => {
                        return Some(if ty == Type::Pred {
                            Symbol::Predicate(first + index)
                        } else {
                            Symbol::Register { reg: first + index, ty }
                        });
                    }
                    _ => {}
                }
            }
            if scope.opaque {
                break;
            }
        }
        if let Some(&(address, bytes)) = self.module_shared.get(name) {
            return Some(Symbol::Memory { space: Space::Shared, address, bytes });
        }
        self.symbols.get(name)
    }

    /// The label that a name stands for.
    pub(super) fn look_up_label(&self, name: &str) -> Result<u32, LoadError> {
        for scope in self.scopes.iter().rev() {
            if let Some(&label) = scope.labels.get(name) {
                return Ok(label);
            }
            if scope.opaque {
                break;
            }
        }
        Err(LoadError::symbol(self.line, format!("there is no label `{name}`")))
    }

    pub(super) fn unknown(&self, name: &str) -> LoadError {
        LoadError::symbol(self.line, format!("`{name}` is not declared"))
    }

    pub(super) fn function(&self, name: &str) -> Option<&'m Function<'a>> {
        self.symbols.function(name).map(|index| &self.tree.functions[index])
    }

    /// An immediate's bits as a value of a type.
    fn immediate(&self, operand: &Operand<'a>, ty: Type) -> Option<u64> {
        let bits = match (operand, ty) {
            (Operand::Int(value), Type::F32) => u64::from((*value as f32).to_bits()),
            (Operand::Int(value), Type::F64) => (*value as f64).to_bits(),
            (Operand::Int(value), _) => *value as u64,
            (Operand::F32(bits), Type::F64) => f64::from(f32::from_bits(*bits)).to_bits(),
            (Operand::F32(bits), _) => u64::from(*bits),
            (Operand::F64(bits), Type::F32) => u64::from((f64::from_bits(*bits) as f32).to_bits()),
            (Operand::F64(bits), _) => *bits,
            _ => return None,
        };
        Some(match ty.bytes() {
            1 => bits & 0xff,
            2 => bits & 0xffff,
            4 => bits & 0xffff_ffff,
            _ => bits,
        })
    }

    /// A source register of a type. Registers must have the type's size, or any larger one if
    /// `loose`, as conversions, loads and stores allow.
    fn source_of(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
        loose: bool,
        parts: &Parts<'_>,
    ) -> Result<(Reg, u32), LoadError> {
        if let Some(bits) = self.immediate(operand, ty) {
            return Ok(if ty.bytes() == 8 { (self.const64(bits), 8) } else { (self.const32(bits as u32), 4) });
        }
        let (name, offset) = match operand {
            Operand::Name(name) => (*name, 0),
            Operand::Offset(name, offset) => (*name, *offset),
            _ => return Err(parts.operands()),
        };
        match self.look_up(name) {
            Some(Symbol::Register { reg, ty: declared }) if offset == 0 => {
                let (has, wants) = (declared.bytes(), ty.bytes());
                if has == wants || (loose && has > wants) || (has.max(wants) <= 2) {
                    Ok((reg, has))
                } else {
                    let text = format!("`{name}` has {has} bytes where {wants} are wanted");
                    Err(LoadError::operand(self.line, text))
                }
            }
            Some(Symbol::Memory { space, address, .. }) => {
                let address = address.wrapping_add(offset as u64);
                match (ty.bytes(), space) {
                    (8, _) => Ok((self.const64(address), 8)),
                    (4, Space::Shared | Space::Local | Space::Param) => Ok((self.const32(address as u32), 4)),
                    _ => Err(parts.operands()),
                }
            }
            Some(_) => Err(parts.operands()),
            None => match Special::parse(name) {
                Some(special) if ty.bytes() == 4 || (ty.bytes() == 2 && loose) => Ok((self.special(special), 4)),
                Some(special) if ty.bytes() == 8 => {
                    // `mov.u64` from a 32-bit special register does not exist but for these.
                    let wide = self.temp64();
                    let low = self.special(special);
                    let high = self.const32(0);
                    self.emit_extra(Op::Pack64 { d: wide, a: low, b: high });
                    Ok((wide, 8))
                }
                Some(_) => Err(parts.operands()),
                None => match self.symbols.address_of_function(name) {
                    Some(address) if ty.bytes() == 8 && offset == 0 => Ok((self.const64(address), 8)),
                    Some(_) => Err(parts.operands()),
                    None => Err(self.unknown(name)),
                },
            },
        }
    }

    /// A source register of exactly a type's size.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type, parts: &Parts<'_>) -> Result<Reg, LoadError> {
        self.source_of(operand, ty, false, parts).map(|(reg, _)| reg)
    }

    /// A source register that may be larger than the type, and its size.
    pub(super) fn loose_source(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
        parts: &Parts<'_>,
    ) -> Result<(Reg, u32), LoadError> {
        self.source_of(operand, ty, true, parts)
    }

    /// A destination register and its declared size, at least that of the type. `_` is a register
    /// that nothing reads.
    pub(super) fn loose_target(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
        parts: &Parts<'_>,
    ) -> Result<(Reg, u32), LoadError> {
        match operand {
            Operand::Name("_") if ty.bytes() == 8 => Ok((self.temp64(), 8)),
            Operand::Name("_") => Ok((self.temp32(), 4)),
            Operand::Name(name) => match self.look_up(name) {
                Some(Symbol::Register { reg, ty: declared }) => {
                    let (has, wants) = (declared.bytes(), ty.bytes());
                    if has >= wants || has.max(wants) <= 2 {
                        Ok((reg, has))
                    } else {
                        let text = format!("`{name}` has {has} bytes where {wants} are wanted");
                        Err(LoadError::operand(self.line, text))
                    }
                }
                Some(_) => Err(parts.operands()),
                None => Err(self.unknown(name)),
            },
            _ => Err(parts.operands()),
        }
    }

    /// A destination register of exactly a type's size.
    pub(super) fn target(&mut self, operand: &Operand<'a>, ty: Type, parts: &Parts<'_>) -> Result<Reg, LoadError> {
        let (reg, has) = self.loose_target(operand, ty, parts)?;
        let wants = ty.bytes();
        if has == wants || has.max(wants) <= 2 || matches!(operand, Operand::Name("_")) {
            Ok(reg)
        } else {
            Err(parts.operands())
        }
    }

    /// A predicate source, possibly negated, or an immediate truth value.
    pub(super) fn predicate(&mut self, operand: &Operand<'a>, parts: &Parts<'_>) -> Result<PredRef, LoadError> {
        let (name, negated) = match operand {
            Operand::Name(name) => (*name, false),
            Operand::Not(name) => (*name, true),
            Operand::Int(value) => return Ok(PredRef::new(0, *value == 0)),
            _ => return Err(parts.operands()),
        };
        match self.look_up(name) {
            Some(Symbol::Predicate(index)) => Ok(PredRef::new(index, negated)),
            Some(_) => Err(parts.operands()),
            None => Err(self.unknown(name)),
        }
    }

    /// A predicate destination; `_` is [`NONE`].
    pub(super) fn predicate_target(&mut self, name: &str, parts: &Parts<'_>) -> Result<u32, LoadError> {
        if name == "_" {
            return Ok(NONE);
        }
        match self.look_up(name) {
            Some(Symbol::Predicate(index)) => Ok(index),
            Some(_) => Err(parts.operands()),
            None => Err(self.unknown(name)),
        }
    }
}
