//! Arithmetic in f16 and bf16, single and in pairs.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::float::extremum_mode;
use super::op::{Combine, Compare, CvtSpec, HalfOp, HalfType, Mode, Op, PredRef, Reg, Round};
use super::parts::Parts;

type Done = Result<(), LoadError>;

fn half_type(ty: Type, parts: &Parts<'_>) -> Result<HalfType, LoadError> {
    match ty {
        Type::F16 => Ok(HalfType::F16),
        Type::F16x2 => Ok(HalfType::F16x2),
        Type::Bf16 => Ok(HalfType::Bf16),
        Type::Bf16x2 => Ok(HalfType::Bf16x2),
        _ => Err(parts.unsupported()),
    }
}

impl<'a> Lowerer<'a, '_> {
    pub(super) fn half(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let base = parts.base();
        let extremum = matches!(base, "min" | "max");
        let m = if extremum { extremum_mode(parts) } else { parts.arithmetic_mode() };
        let m = if parts.take("relu") { m.with(Mode::RELU) } else { m };
        let ty = parts.ty()?;
        parts.finish()?;
        let t = half_type(ty, parts)?;
        if m.round() != Round::Nearest || (t.bf16() && m.has(Mode::FTZ)) {
            return Err(parts.unsupported());
        }
        if matches!(base, "abs" | "neg") {
            let (d, [a]) = self.registers(operands, ty, parts)?;
            let f = if base == "abs" { HalfOp::Abs } else { HalfOp::Neg };
            self.emit(OpClass::Alu, Op::Half { f, t, m, d, a, b: a, c: a });
            return Ok(());
        }
        if base == "fma" {
            let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
            self.emit(OpClass::Fma, Op::Half { f: HalfOp::Fma, t, m, d, a, b, c });
            return Ok(());
        }
        let (d, [a, b]) = self.registers(operands, ty, parts)?;
        let f = match base {
            "add" => HalfOp::Add,
            "sub" => HalfOp::Sub,
            "mul" => HalfOp::Mul,
            "min" => HalfOp::Min,
            "max" => HalfOp::Max,
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, Op::Half { f, t, m, d, a, b, c: a });
        Ok(())
    }

    /// `set` on pairs.
    pub(super) fn set_pair(
        &mut self,
        parts: &Parts<'_>,
        to: Type,
        ty: Type,
        (f, k, c, ftz): (Compare, Combine, PredRef, bool),
        [d, a, b]: [Reg; 3],
    ) -> Done {
        let t = half_type(ty, parts)?;
        let one = match to {
            Type::F16x2 if to == ty => 0x3c00,
            Type::Bf16x2 if to == ty => 0x3f80,
            Type::U32 | Type::S32 => 0xffff,
            _ => return Err(parts.unsupported()),
        };
        let m = if ftz { Mode::FTZ } else { Mode::PLAIN };
        let (p, q) = (self.temp_predicate(), self.temp_predicate());
        self.emit(OpClass::Alu, Op::CmpPair { t, f, k, c, m, p, q, a, b });
        let (one, zero) = (self.const32(one), self.const32(0));
        let (low, high) = (self.temp32(), self.temp32());
        self.emit_extra(Op::Selp32 { d: low, a: one, b: zero, p: PredRef::new(p, false) });
        self.emit_extra(Op::Selp32 { d: high, a: one, b: zero, p: PredRef::new(q, false) });
        self.emit_extra(Op::Pack32 { d, a: low, b: high });
        Ok(())
    }

    /// A source of a mixed-precision instruction, widened to f32.
    pub(super) fn widened(&mut self, operand: &Operand<'a>, from: Type, parts: &Parts<'_>) -> Result<Reg, LoadError> {
        let a = self.source(operand, from, parts)?;
        let d = self.temp32();
        let spec =
            CvtSpec { from, to: Type::F32, round: Round::Nearest, integral: false, mode: Mode::PLAIN, wide_to: 32 };
        self.emit_extra(Op::Cvt { spec, d, a });
        Ok(d)
    }
}
