//! Operands, constant expressions and initial values.

use super::lexer::TokenKind;
use super::parser::Parser;
use super::tree::{Init, Operand};
use super::{LoadError, Type};

/// How deep vectors and initial values may nest: mutated text must not exhaust the stack.
const MAX_DEPTH: u32 = 8;

/// Initial values of a variable, zeros between them included.
const MAX_VALUES: usize = 1 << 20;

impl<'a> Parser<'_, 'a> {
    pub(super) fn operand(&mut self, depth: u32) -> Result<Operand<'a>, LoadError> {
        if depth > MAX_DEPTH {
            return Err(LoadError::syntax(self.line(), "operands nest too deep"));
        }
        match self.peek() {
            Some(TokenKind::Mark(b'{')) => {
                self.at += 1;
                Ok(Operand::Vector(self.operands_until(b'}', depth)?))
            }
            Some(TokenKind::Mark(b'(')) => {
                self.at += 1;
                Ok(Operand::List(self.operands_until(b')', depth)?))
            }
            Some(TokenKind::Mark(b'[')) => {
                self.at += 1;
                let address = match self.operand(depth + 1)? {
                    Operand::Offset(name, offset) => Operand::Address(Box::new(Operand::Name(name)), offset),
                    base @ (Operand::Name(_) | Operand::Int(_)) => Operand::Address(Box::new(base), 0),
                    _ => return self.wrong("an address"),
                };
                if self.peek_mark(b',') {
                    return Err(LoadError::unsupported(self.line(), "tensor addresses"));
                }
                self.mark(b']')?;
                Ok(address)
            }
            Some(TokenKind::Mark(b'!')) => {
                self.at += 1;
                if matches!(self.peek(), Some(TokenKind::Int(_))) {
                    return Ok(Operand::Int(i64::from(self.int()? == 0)));
                }
                Ok(Operand::Not(self.name()?))
            }
            Some(TokenKind::Mark(b'-' | b'~')) => {
                let complement = self.peek_mark(b'~');
                self.at += 1;
                Ok(match self.operand(depth + 1)? {
                    Operand::Int(value) if complement => Operand::Int(!value),
                    Operand::Int(value) => Operand::Int(value.wrapping_neg()),
                    Operand::F32(bits) if !complement => Operand::F32(bits ^ 1 << 31),
                    Operand::F64(bits) if !complement => Operand::F64(bits ^ 1 << 63),
                    _ => return self.wrong("a number"),
                })
            }
            Some(TokenKind::Int(value)) => {
                self.at += 1;
                let mut value = value as i64;
                loop {
                    if self.take_mark(b'+') {
                        value = value.wrapping_add(self.int()? as i64);
                    } else if self.take_mark(b'-') {
                        value = value.wrapping_sub(self.int()? as i64);
                    } else {
                        return Ok(Operand::Int(value));
                    }
                }
            }
            Some(TokenKind::F32(bits)) => {
                self.at += 1;
                Ok(Operand::F32(bits))
            }
            Some(TokenKind::F64(bits)) => {
                self.at += 1;
                Ok(Operand::F64(bits))
            }
            Some(TokenKind::Word("WARP_SZ")) => {
                self.at += 1;
                Ok(Operand::Int(32))
            }
            Some(TokenKind::Word(_)) => {
                let name = self.name()?;
                if self.take_mark(b'|') {
                    return Ok(Operand::Pair(name, self.name()?));
                }
                let offset = self.addend()?;
                Ok(if offset == 0 { Operand::Name(name) } else { Operand::Offset(name, offset) })
            }
            _ => self.wrong("an operand"),
        }
    }

    fn operands_until(&mut self, end: u8, depth: u32) -> Result<Vec<Operand<'a>>, LoadError> {
        let mut operands = Vec::new();
        while !self.take_mark(end) {
            if !operands.is_empty() {
                self.mark(b',')?;
            }
            operands.push(self.operand(depth + 1)?);
        }
        Ok(operands)
    }

    /// What follows a name: any number of `+4` and `-4`, the number possibly negative.
    fn addend(&mut self) -> Result<i64, LoadError> {
        let mut sum = 0i64;
        loop {
            let minus = match self.peek() {
                Some(TokenKind::Mark(b'+')) => false,
                Some(TokenKind::Mark(b'-')) => true,
                _ => return Ok(sum),
            };
            self.at += 1;
            let negative = self.take_mark(b'-') != minus;
            let value = self.int()? as i64;
            sum = if negative { sum.wrapping_sub(value) } else { sum.wrapping_add(value) };
        }
    }

    /// Initial values, flattened; inner lists are filled up to their dimension with zeros.
    pub(super) fn initialiser(&mut self, ty: Type, dimensions: &[Option<u64>]) -> Result<Vec<Init<'a>>, LoadError> {
        if !self.take_mark(b'{') {
            return Ok(vec![self.init_value(ty)?]);
        }
        let inner = dimensions.get(1..).unwrap_or(&[]);
        if dimensions.len() > MAX_DEPTH as usize {
            return Err(LoadError::syntax(self.line(), "too many dimensions"));
        }
        let inner_count = inner.iter().try_fold(1u64, |product, n| product.checked_mul(n.unwrap_or(0)));
        let limit = dimensions.iter().try_fold(1u64, |product, n| match n {
            Some(n) => product.checked_mul(*n),
            None => Some(u64::MAX),
        });
        let mut values: Vec<Init<'a>> = Vec::new();
        while !self.take_mark(b'}') {
            if !values.is_empty() {
                self.mark(b',')?;
            }
            if self.peek_mark(b'{') {
                let line = self.line();
                if inner.is_empty() {
                    return self.wrong("a value");
                }
                let nested = self.initialiser(ty, inner)?;
                let given = nested.len() as u64;
                values.extend(nested);
                // As many as the text could hold, so that a huge dimension costs nothing.
                let missing = inner_count.unwrap_or(0).saturating_sub(given);
                if missing > MAX_VALUES as u64 {
                    return Err(LoadError::unsupported(line, "initial value that sparse"));
                }
                values.extend((0..missing).map(|_| Init::Bits(0)));
            } else {
                values.push(self.init_value(ty)?);
            }
            if values.len() > MAX_VALUES {
                return Err(LoadError::unsupported(self.line(), "that many initial values"));
            }
            if limit.is_some_and(|limit| values.len() as u64 > limit) {
                return Err(LoadError::syntax(self.line(), "too many initial values"));
            }
        }
        Ok(values)
    }

    fn init_value(&mut self, ty: Type) -> Result<Init<'a>, LoadError> {
        let line = self.line();
        // `0xFF(generic(name))`-style masks take one byte of an address.
        if let (Some(TokenKind::Int(mask)), Some(TokenKind::Mark(b'('))) =
            (self.peek(), self.tokens.get(self.at + 1).map(|token| token.kind))
        {
            self.at += 2;
            let inner = self.init_value(ty)?;
            self.mark(b')')?;
            return Ok(match inner {
                Init::Address { name, addend, generic, .. } => Init::Address { name, addend, generic, mask },
                Init::Bits(bits) => Init::Bits(bits & mask),
            });
        }
        if self.peek_word() == Some("generic") {
            self.at += 1;
            self.mark(b'(')?;
            let name = self.name()?;
            let inside = self.addend()?;
            self.mark(b')')?;
            let addend = inside.wrapping_add(self.addend()?);
            return Ok(Init::Address { name, addend, generic: true, mask: u64::MAX });
        }
        let address = |name, addend| Init::Address { name, addend, generic: false, mask: u64::MAX };
        Ok(match (self.operand(0)?, ty) {
            (Operand::Name(name), _) => address(name, 0),
            (Operand::Offset(name, addend), _) => address(name, addend),
            (Operand::Int(value), Type::F32) => Init::Bits(u64::from((value as f32).to_bits())),
            (Operand::Int(value), Type::F64) => Init::Bits((value as f64).to_bits()),
            (Operand::Int(value), _) => Init::Bits(value as u64),
            (Operand::F32(bits), Type::F64) => Init::Bits(f64::from(f32::from_bits(bits)).to_bits()),
            (Operand::F32(bits), _) => Init::Bits(u64::from(bits)),
            (Operand::F64(bits), Type::F32) => Init::Bits(u64::from((f64::from_bits(bits) as f32).to_bits())),
            (Operand::F64(bits), _) => Init::Bits(bits),
            _ => return Err(LoadError::syntax(line, "this is no initial value")),
        })
    }
}
