//! Arithmetic in f16 and bf16, single and in pairs.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::float::extremum_mode;
use super::op::{Combine, Compare, HalfOp, HalfType, Mode, Op, Reg, Round};
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
        (compare, combine, ftz): (Compare, Combine, bool),
        [d, a, b]: [Reg; 3],
    ) -> Done {
        let t = half_type(ty, parts)?;
        if combine != Combine::None {
            return Err(parts.unsupported());
        }
        let f = match to {
            _ if to == ty => HalfOp::SetFloat(compare),
            Type::U32 | Type::S32 => HalfOp::SetMask(compare),
            _ => return Err(parts.unsupported()),
        };
        let m = if ftz { Mode::FTZ } else { Mode::PLAIN };
        self.emit(OpClass::Alu, Op::Half { f, t, m, d, a, b, c: a });
        Ok(())
    }
}
