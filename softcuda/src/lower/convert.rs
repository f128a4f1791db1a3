//! Conversions.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::op::{CvtSpec, Mode, Op, Round};
use super::parts::Parts;

impl<'a> Lowerer<'a, '_> {
    pub(super) fn cvt(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Result<(), LoadError> {
        let integral =
            parts.take_of(&[("rni", Round::Nearest), ("rzi", Round::Zero), ("rmi", Round::Down), ("rpi", Round::Up)]);
        let round = parts.round();
        let mut mode = parts.ftz();
        for (name, flag) in [("sat", Mode::SAT), ("relu", Mode::RELU)] {
            if parts.take(name) {
                mode = mode.with(flag);
            }
        }
        let (to, from) = (parts.ty()?, parts.ty()?);
        parts.finish()?;
        let packed = matches!(to, Type::F16x2 | Type::Bf16x2);
        let same_float = to.is_float() && to == from;
        // A float that changes to a narrower one or comes from an integer, or loses its fraction,
        // must say how it is rounded.
        let narrows = to.is_float() && (!from.is_float() || from.bytes() > to.bytes() || packed);
        let to_integer = from.is_float() && !to.is_float();
        if (narrows && round.is_none()) || (to_integer && integral.is_none()) {
            return Err(LoadError::operand(self.line, "this conversion needs a rounding"));
        }
        let spec = CvtSpec {
            from,
            to,
            round: integral.or(round).unwrap_or(Round::Nearest),
            integral: integral.is_some() && (same_float || to_integer),
            mode,
            wide_to: 0,
        };
        if packed {
            let [d, a, b] = operands else { return Err(parts.operands()) };
            if from != Type::F32 {
                return Err(parts.unsupported());
            }
            let d = self.target(d, to, parts)?;
            let (a, b) = (self.source(a, from, parts)?, self.source(b, from, parts)?);
            self.emit(OpClass::Convert, Op::CvtPack { spec, d, a, b });
            return Ok(());
        }
        for ty in [to, from] {
            if matches!(
                ty,
                Type::Pred | Type::U16x2 | Type::S16x2 | Type::F16x2 | Type::Bf16x2 | Type::F32x2 | Type::B128
            ) || matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64)
            {
                return Err(parts.unsupported());
            }
        }
        let [d, a] = operands else { return Err(parts.operands()) };
        let (d, size) = self.loose_target(d, to, parts)?;
        let (a, source_size) = self.loose_source(a, from, parts)?;
        if source_size == 8 && from.bytes() < 8 {
            // The low half holds the value.
            let low = self.temp32();
            self.emit_extra(Op::Unpack64 { d: low, e: super::op::NONE, a });
            return self.convert(spec, d, size, low);
        }
        self.convert(spec, d, size, a)
    }

    fn convert(&mut self, spec: CvtSpec, d: u32, size: u32, a: u32) -> Result<(), LoadError> {
        let spec = CvtSpec { wide_to: (size * 8) as u8, ..spec };
        self.emit(OpClass::Convert, Op::Cvt { spec, d, a });
        Ok(())
    }
}
