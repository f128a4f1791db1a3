//! Arithmetic in f32 and f64.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::op::{Bin32, Bin64, HalfOp, HalfType, Mode, Op, Round, Tri32, Tri64, Un32, Un64};
use super::parts::Parts;

type Done = Result<(), LoadError>;

/// Takes the modifiers of minimum and maximum.
pub(super) fn extremum_mode(parts: &mut Parts<'_>) -> Mode {
    let mut mode = parts.ftz();
    if parts.take("NaN") {
        mode = mode.with(Mode::NAN);
    }
    if parts.take("xorsign") && parts.take("abs") {
        mode = mode.with(Mode::XORSIGN);
    }
    mode
}

impl<'a> Lowerer<'a, '_> {
    pub(super) fn float(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        match parts.last_ty() {
            Some(Type::F32) => self.single(parts, operands),
            Some(Type::F64) => self.double(parts, operands),
            _ => self.single_pair(parts, operands),
        }
    }

    fn single(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ty = Type::F32;
        let base = parts.base();
        if matches!(base, "min" | "max") {
            let m = extremum_mode(parts);
            let abs = operands.len() == 4 && parts.take("abs");
            let m = if abs { m.with(Mode::ABS) } else { m };
            parts.ty()?;
            parts.finish()?;
            let op = if operands.len() == 4 {
                let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
                let f = if base == "min" { Tri32::FMin3 } else { Tri32::FMax3 };
                Op::Tri32 { f, m, lut: 0, d, a, b, c }
            } else {
                let (d, [a, b]) = self.registers(operands, ty, parts)?;
                let f = if base == "min" { Bin32::FMin } else { Bin32::FMax };
                Op::Bin32 { f, m, d, a, b }
            };
            self.emit(OpClass::Alu, op);
            return Ok(());
        }
        if base == "div" {
            let (approx, full) = (parts.take("approx"), parts.take("full"));
            let m = parts.arithmetic_mode();
            parts.ty()?;
            parts.finish()?;
            let (d, [a, b]) = self.registers(operands, ty, parts)?;
            let f = match (approx, full) {
                (true, _) => Bin32::FDivApprox,
                (_, true) => Bin32::FDivFull,
                _ => Bin32::FDiv,
            };
            self.emit(OpClass::Mufu, Op::Bin32 { f, m, d, a, b });
            return Ok(());
        }
        let m = parts.arithmetic_mode();
        parts.ty()?;
        parts.finish()?;
        let (class, op) = match base {
            "abs" | "neg" => {
                let (d, [a]) = self.registers(operands, ty, parts)?;
                let f = if base == "abs" { Un32::FAbs } else { Un32::FNeg };
                (OpClass::Alu, Op::Un32 { f, m, d, a })
            }
            "fma" | "mad" => {
                let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
                (OpClass::Fma, Op::Tri32 { f: Tri32::FFma, m, lut: 0, d, a, b, c })
            }
            _ => {
                let (d, [a, b]) = self.registers(operands, ty, parts)?;
                let f = match base {
                    "add" => Bin32::FAdd,
                    "sub" => Bin32::FSub,
                    "mul" => Bin32::FMul,
                    _ => return Err(parts.unsupported()),
                };
                (OpClass::Alu, Op::Bin32 { f, m, d, a, b })
            }
        };
        self.emit(class, op);
        Ok(())
    }

    /// `add`, `sub` and `fma` in f32 with factors or the first summand of 16 bits.
    pub(super) fn mixed(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let base = parts.base();
        let m = parts.arithmetic_mode();
        let (ty, narrow) = (parts.ty()?, parts.ty()?);
        parts.finish()?;
        if ty != Type::F32 || m.has(Mode::FTZ) {
            return Err(parts.unsupported());
        }
        match (base, operands) {
            ("fma", [d, a, b, c]) => {
                let d = self.target(d, ty, parts)?;
                let (a, b) = (self.widened(a, narrow, parts)?, self.widened(b, narrow, parts)?);
                let c = self.source(c, ty, parts)?;
                self.emit(OpClass::Fma, Op::Tri32 { f: Tri32::FFma, m, lut: 0, d, a, b, c });
            }
            ("add" | "sub", [d, a, b]) => {
                let d = self.target(d, ty, parts)?;
                let (a, b) = (self.widened(a, narrow, parts)?, self.source(b, ty, parts)?);
                let f = if base == "add" { Bin32::FAdd } else { Bin32::FSub };
                self.emit(OpClass::Alu, Op::Bin32 { f, m, d, a, b });
            }
            ("add" | "sub" | "fma", _) => return Err(parts.operands()),
            _ => return Err(parts.unsupported()),
        }
        Ok(())
    }

    /// Pairs of f32 in a 64-bit register.
    fn single_pair(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let base = parts.base();
        let m = parts.arithmetic_mode();
        let ty = parts.ty()?;
        parts.finish()?;
        if m.has(Mode::SAT) || ty != Type::F32x2 {
            return Err(parts.unsupported());
        }
        if base == "fma" {
            let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
            self.emit(OpClass::Fma, Op::Tri64 { f: Tri64::FmaX2, m, d, a, b, c });
            return Ok(());
        }
        let f = match base {
            "add" => Bin64::AddX2,
            "sub" => Bin64::SubX2,
            "mul" => Bin64::MulX2,
            _ => return Err(parts.unsupported()),
        };
        let (d, [a, b]) = self.registers(operands, ty, parts)?;
        self.emit(OpClass::Alu, Op::Bin64 { f, m, d, a, b });
        Ok(())
    }

    fn double(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ty = Type::F64;
        let base = parts.base();
        let m = Mode::PLAIN.rounded(parts.round().unwrap_or(Round::Nearest));
        parts.ty()?;
        parts.finish()?;
        let op = match base {
            "abs" | "neg" => {
                let (d, [a]) = self.registers(operands, ty, parts)?;
                let f = if base == "abs" { Un64::DAbs } else { Un64::DNeg };
                Op::Un64 { f, m, d, a }
            }
            "fma" | "mad" => {
                let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
                Op::Tri64 { f: Tri64::DFma, m, d, a, b, c }
            }
            _ => {
                let (d, [a, b]) = self.registers(operands, ty, parts)?;
                let f = match base {
                    "add" => Bin64::DAdd,
                    "sub" => Bin64::DSub,
                    "mul" => Bin64::DMul,
                    "div" => Bin64::DDiv,
                    "min" => Bin64::DMin,
                    "max" => Bin64::DMax,
                    _ => return Err(parts.unsupported()),
                };
                Op::Bin64 { f, m, d, a, b }
            }
        };
        self.emit(OpClass::Double, op);
        Ok(())
    }

    /// `rcp` to `tanh`.
    pub(super) fn special_function(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let base = parts.base();
        let approx = parts.take("approx");
        let round = if approx { None } else { parts.round() };
        let m = parts.ftz().rounded(round.unwrap_or(Round::Nearest));
        let ty = parts.ty()?;
        parts.finish()?;
        if !approx && round.is_none() {
            return Err(parts.unsupported());
        }
        let (d, [a]) = self.registers(operands, ty, parts)?;
        let op = match ty {
            Type::F32 => {
                let f = match (base, approx) {
                    ("rcp", true) => Un32::FRcpApprox,
                    ("rcp", false) => Un32::FRcp,
                    ("sqrt", true) => Un32::FSqrtApprox,
                    ("sqrt", false) => Un32::FSqrt,
                    ("rsqrt", true) => Un32::FRsqrtApprox,
                    ("sin", true) => Un32::FSin,
                    ("cos", true) => Un32::FCos,
                    ("lg2", true) => Un32::FLg2,
                    ("ex2", true) => Un32::FEx2,
                    ("tanh", true) => Un32::FTanh,
                    _ => return Err(parts.unsupported()),
                };
                Op::Un32 { f, m, d, a }
            }
            Type::F64 => {
                let f = match (base, approx) {
                    ("rcp", true) if m.has(Mode::FTZ) => Un64::DRcpApprox,
                    ("rcp", false) => Un64::DRcp,
                    ("sqrt", false) => Un64::DSqrt,
                    ("rsqrt", true) => Un64::DRsqrtApprox,
                    _ => return Err(parts.unsupported()),
                };
                self.emit(OpClass::Double, Op::Un64 { f, m, d, a });
                return Ok(());
            }
            _ => {
                let t = match ty {
                    Type::F16 => HalfType::F16,
                    Type::F16x2 => HalfType::F16x2,
                    Type::Bf16 => HalfType::Bf16,
                    Type::Bf16x2 => HalfType::Bf16x2,
                    _ => return Err(parts.unsupported()),
                };
                let f = match (base, approx) {
                    ("ex2", true) if t.bf16() == m.has(Mode::FTZ) => HalfOp::Ex2,
                    ("tanh", true) if m == Mode::PLAIN => HalfOp::Tanh,
                    _ => return Err(parts.unsupported()),
                };
                Op::Half { f, t, m, d, a, b: a, c: a }
            }
        };
        let pair = matches!(ty, Type::F16x2 | Type::Bf16x2);
        self.emit(if pair { OpClass::MufuPair } else { OpClass::Mufu }, op);
        Ok(())
    }

    pub(super) fn copysign(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ty = parts.ty()?;
        parts.finish()?;
        let m = Mode::PLAIN;
        // The sign comes from the first source, the magnitude from the second.
        let (d, [a, b]) = self.registers(operands, ty, parts)?;
        let op = match ty {
            Type::F32 => Op::Bin32 { f: Bin32::CopySign, m, d, a, b },
            Type::F64 => Op::Bin64 { f: Bin64::DCopySign, m, d, a, b },
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }
}
