//! Conversions.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::op::{Bin32, CvtSpec, Mode, NONE, Op, PACK_SIGNED, Reg, Round, Tri32};
use super::parts::Parts;

type Done = Result<(), LoadError>;

impl<'a> Lowerer<'a, '_> {
    pub(super) fn cvt(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.take("pack") {
            return self.cvt_pack(parts, operands);
        }
        let integral =
            parts.take_of(&[("rni", Round::Nearest), ("rzi", Round::Zero), ("rmi", Round::Down), ("rpi", Round::Up)]);
        let round = parts.round().or_else(|| parts.take("rna").then_some(Round::NearestAway));
        let mut mode = parts.ftz();
        for (name, flag) in [("sat", Mode::SAT), ("relu", Mode::RELU), ("satfinite", Mode::SATFINITE)] {
            if parts.take(name) {
                mode = mode.with(flag);
            }
        }
        let (to, from) = (parts.ty()?, parts.ty()?);
        parts.finish()?;
        let packed = matches!(to, Type::F16x2 | Type::Bf16x2 | Type::E4m3x2 | Type::E5m2x2);
        let same_float = to.is_float() && to == from;
        // A float that changes to a narrower one or comes from an integer, or loses its fraction,
        // must say how it is rounded.
        let narrows = to.is_float() && (!from.is_float() || from.bytes() > to.bytes() || packed || to == Type::Tf32);
        let to_integer = from.is_float() && !to.is_float();
        if (narrows && round.is_none()) || (to_integer && integral.is_none()) {
            return Err(LoadError::operand(self.line, "this conversion needs a rounding"));
        }
        // These are for formats that came later, and for f32 as their source.
        let late = matches!(to, Type::F16 | Type::Bf16 | Type::Tf32) && from == Type::F32;
        let special = mode.has(Mode::RELU) || mode.has(Mode::SATFINITE);
        let away = round == Some(Round::NearestAway);
        if (special && !packed && !late) || (away && to != Type::Tf32) {
            return Err(parts.unsupported());
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
            return self.cvt_pair(spec, parts, operands);
        }
        for ty in [to, from] {
            if matches!(
                ty,
                Type::Pred | Type::U16x2 | Type::S16x2 | Type::F16x2 | Type::Bf16x2 | Type::F32x2 | Type::B128
            ) || matches!(ty, Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::E4m3x2 | Type::E5m2x2)
            {
                return Err(parts.unsupported());
            }
        }
        if from == Type::Tf32 || (to == Type::Tf32 && from != Type::F32) {
            return Err(parts.unsupported());
        }
        let [d, a] = operands else { return Err(parts.operands()) };
        let (d, size) = self.loose_target(d, to, parts)?;
        let (a, source_size) = self.loose_source(a, from, parts)?;
        if source_size == 8 && from.bytes() < 8 {
            // The low half holds the value.
            let low = self.temp32();
            self.emit_extra(Op::Unpack64 { d: low, e: NONE, a });
            return self.convert(spec, d, size, low);
        }
        self.convert(spec, d, size, a)
    }

    fn convert(&mut self, spec: CvtSpec, d: u32, size: u32, a: u32) -> Done {
        let spec = CvtSpec { wide_to: (size * 8) as u8, ..spec };
        self.emit(OpClass::Convert, Op::Cvt { spec, d, a });
        Ok(())
    }

    /// Two values to a pair: from two f32, or from a pair of another format.
    fn cvt_pair(&mut self, spec: CvtSpec, parts: &Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let narrow = matches!(spec.to, Type::E4m3x2 | Type::E5m2x2);
        if narrow && !(spec.round == Round::Nearest && spec.mode.has(Mode::SATFINITE)) {
            return Err(parts.unsupported());
        }
        let (d, from, [a, b]) = match (spec.from, operands) {
            (Type::F32, [d, a, b]) => {
                (d, Type::F32, [self.source(a, spec.from, parts)?, self.source(b, spec.from, parts)?])
            }
            (Type::F16x2, [d, a]) if narrow => {
                let a = self.source(a, spec.from, parts)?;
                let (low, high) = (self.temp32(), self.temp32());
                self.emit_extra(Op::Unpack32 { d: low, e: high, a });
                (d, Type::F16, [high, low])
            }
            (Type::E4m3x2 | Type::E5m2x2, [d, a]) if spec.to == Type::F16x2 => {
                let a = self.source(a, spec.from, parts)?;
                let from = if spec.from == Type::E4m3x2 { Type::E4m3 } else { Type::E5m2 };
                (d, from, [self.with_constant(Bin32::ShrU, a, 8), self.with_constant(Bin32::And, a, 0xff)])
            }
            (Type::F32 | Type::F16x2 | Type::E4m3x2 | Type::E5m2x2, _) => return Err(parts.operands()),
            _ => return Err(parts.unsupported()),
        };
        let d = self.target(d, spec.to, parts)?;
        let spec = CvtSpec { from, ..spec };
        self.emit(OpClass::Convert, Op::CvtPack { spec, d, a, b });
        Ok(())
    }

    fn with_constant(&mut self, f: Bin32, a: Reg, constant: u32) -> Reg {
        let (d, b) = (self.temp32(), self.const32(constant));
        self.emit_extra(Op::Bin32 { f, m: Mode::PLAIN, d, a, b });
        d
    }

    /// Two integers, saturated to fewer bits and packed.
    fn cvt_pack(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let size = parts.take_of(&[
            ("u2", 2),
            ("u4", 4),
            ("u8", 8),
            ("u16", 16),
            ("s2", 2 | PACK_SIGNED),
            ("s4", 4 | PACK_SIGNED),
            ("s8", 8 | PACK_SIGNED),
            ("s16", 16 | PACK_SIGNED),
        ]);
        let (Some(lut), true, Type::S32) = (size, parts.take("sat"), parts.ty()?) else {
            return Err(parts.unsupported());
        };
        let adds = parts.take("b32");
        parts.finish()?;
        let (first, c) = match operands {
            [first @ .., c] if adds => (first, self.source(c, Type::B32, parts)?),
            whole => (whole, self.const32(0)),
        };
        if adds == (lut & !PACK_SIGNED == 16) {
            return Err(parts.unsupported());
        }
        let (d, [a, b]) = self.registers(first, Type::B32, parts)?;
        self.emit(OpClass::Convert, Op::Tri32 { f: Tri32::CvtPack, m: Mode::PLAIN, lut, d, a, b, c });
        Ok(())
    }
}
