//! Integer arithmetic, logic, shifts and bit fields.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::op::{
    Bin32, Bin64, CarryOp, Combine, Compare, CompareType, Count64, DP2A_FIRST, DP2A_HIGH, DP2A_SECOND, Mode, NONE, Op,
    PredRef, Reg, Shift64, Tri32, Tri64, Un32, Un64, Wide,
};
use super::parts::Parts;

type Done = Result<(), LoadError>;

impl<'a> Lowerer<'a, '_> {
    /// `add` to `neg` on whatever type.
    pub(super) fn arithmetic(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        match parts.last_ty() {
            Some(Type::F32 | Type::F64 | Type::F32x2) => self.float(parts, operands),
            Some(Type::F16 | Type::Bf16) if parts.has("f32") => self.mixed(parts, operands),
            Some(Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2) => self.half(parts, operands),
            Some(_) => self.integer(parts, operands),
            None => Err(parts.unsupported()),
        }
    }

    /// The registers of `d, a, b...`, all of one type.
    pub(super) fn registers<const N: usize>(
        &mut self,
        operands: &[Operand<'a>],
        ty: Type,
        parts: &Parts<'_>,
    ) -> Result<(Reg, [Reg; N]), LoadError> {
        let (Some((d, sources)), true) = (operands.split_first(), operands.len() == N + 1) else {
            return Err(parts.operands());
        };
        let d = self.target(d, ty, parts)?;
        let mut regs = [NONE; N];
        for (reg, source) in regs.iter_mut().zip(sources) {
            *reg = self.source(source, ty, parts)?;
        }
        Ok((d, regs))
    }

    fn integer(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ty = parts.ty()?;
        let pair = matches!(ty, Type::U16x2 | Type::S16x2);
        match parts.base() {
            "add" | "min" | "max" if pair => self.integer_binary(parts, ty, operands),
            _ if pair => Err(parts.unsupported()),
            "addc" | "subc" | "madc" => self.carry(parts, ty, operands),
            _ if parts.has("cc") => self.carry(parts, ty, operands),
            "mul" | "mad" => self.multiply(parts, ty, operands),
            "abs" | "neg" => self.integer_unary(parts, ty, operands),
            _ => self.integer_binary(parts, ty, operands),
        }
    }

    fn integer_unary(&mut self, parts: &mut Parts<'_>, ty: Type, operands: &[Operand<'a>]) -> Done {
        parts.finish()?;
        let (d, [a]) = self.registers(operands, ty, parts)?;
        let abs = parts.base() == "abs";
        let m = Mode::PLAIN;
        let op = match (ty.bytes(), abs) {
            (2, true) => Op::Un32 { f: Un32::Abs16, m, d, a },
            (2, false) => Op::Un32 { f: Un32::Neg16, m, d, a },
            (4, true) => Op::Un32 { f: Un32::Abs, m, d, a },
            (4, false) => Op::Un32 { f: Un32::Neg, m, d, a },
            (8, true) => Op::Un64 { f: Un64::Abs, m, d, a },
            (8, false) => Op::Un64 { f: Un64::Neg, m, d, a },
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    fn integer_binary(&mut self, parts: &mut Parts<'_>, ty: Type, operands: &[Operand<'a>]) -> Done {
        let saturates = parts.take("sat");
        let relu = matches!(parts.base(), "min" | "max") && matches!(ty, Type::S32 | Type::S16x2) && parts.take("relu");
        parts.finish()?;
        let (d, [a, b]) = self.registers(operands, ty, parts)?;
        let m = if relu { Mode::RELU } else { Mode::PLAIN };
        let signed = ty.is_signed();
        let pair = matches!(ty, Type::U16x2 | Type::S16x2);
        let f = match (parts.base(), ty.bytes(), signed) {
            ("add", 4, true) if saturates => Bin32::AddSat,
            ("sub", 4, true) if saturates => Bin32::SubSat,
            _ if saturates => return Err(parts.unsupported()),
            ("add", 4, _) if pair => Bin32::Add16x2,
            ("min", 4, true) if pair => Bin32::MinS16x2,
            ("min", 4, false) if pair => Bin32::MinU16x2,
            ("max", 4, true) if pair => Bin32::MaxS16x2,
            ("max", 4, false) if pair => Bin32::MaxU16x2,
            _ if pair => return Err(parts.unsupported()),
            ("add", 2, _) => Bin32::Add16,
            ("add", 4, _) => Bin32::Add,
            ("sub", 2, _) => Bin32::Sub16,
            ("sub", 4, _) => Bin32::Sub,
            ("div", 2, true) => Bin32::DivS16,
            ("div", 4, true) => Bin32::DivS,
            ("div", 2 | 4, false) => Bin32::DivU,
            ("rem", 2, true) => Bin32::RemS16,
            ("rem", 4, true) => Bin32::RemS,
            ("rem", 2 | 4, false) => Bin32::RemU,
            ("min", 2, true) => Bin32::MinS16,
            ("min", 4, true) => Bin32::MinS,
            ("min", 2 | 4, false) => Bin32::MinU,
            ("max", 2, true) => Bin32::MaxS16,
            ("max", 4, true) => Bin32::MaxS,
            ("max", 2 | 4, false) => Bin32::MaxU,
            (base, 8, _) => {
                let f = match (base, signed) {
                    ("add", _) => Bin64::Add,
                    ("sub", _) => Bin64::Sub,
                    ("div", true) => Bin64::DivS,
                    ("div", false) => Bin64::DivU,
                    ("rem", true) => Bin64::RemS,
                    ("rem", false) => Bin64::RemU,
                    ("min", true) => Bin64::MinS,
                    ("min", false) => Bin64::MinU,
                    ("max", true) => Bin64::MaxS,
                    ("max", false) => Bin64::MaxU,
                    _ => return Err(parts.unsupported()),
                };
                self.emit(OpClass::Alu, Op::Bin64 { f, m, d, a, b });
                return Ok(());
            }
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, Op::Bin32 { f, m, d, a, b });
        Ok(())
    }

    fn multiply(&mut self, parts: &mut Parts<'_>, ty: Type, operands: &[Operand<'a>]) -> Done {
        let mad = parts.base() == "mad";
        let (wide, high) = (parts.take("wide"), parts.take("hi"));
        parts.take("lo");
        let saturates = parts.take("sat");
        parts.finish()?;
        let signed = ty.is_signed();
        let m = Mode::PLAIN;
        if wide {
            return self.multiply_wide(parts, ty, mad, operands);
        }
        if saturates && !(mad && high && ty == Type::S32) {
            return Err(parts.unsupported());
        }
        let (d, a, b, c) = if mad {
            let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
            (d, a, b, c)
        } else {
            let (d, [a, b]) = self.registers(operands, ty, parts)?;
            (d, a, b, NONE)
        };
        let op = match (ty.bytes(), mad, high, signed) {
            (4, false, false, _) => Op::Bin32 { f: Bin32::Mul, m, d, a, b },
            (4, false, true, true) => Op::Bin32 { f: Bin32::MulHiS, m, d, a, b },
            (4, false, true, false) => Op::Bin32 { f: Bin32::MulHiU, m, d, a, b },
            (2, false, false, _) => Op::Bin32 { f: Bin32::Mul16, m, d, a, b },
            (2, false, true, true) => Op::Bin32 { f: Bin32::MulHiS16, m, d, a, b },
            (2, false, true, false) => Op::Bin32 { f: Bin32::MulHiU16, m, d, a, b },
            (8, false, false, _) => Op::Bin64 { f: Bin64::Mul, m, d, a, b },
            (8, false, true, true) => Op::Bin64 { f: Bin64::MulHiS, m, d, a, b },
            (8, false, true, false) => Op::Bin64 { f: Bin64::MulHiU, m, d, a, b },
            (4, true, false, _) => Op::Tri32 { f: Tri32::Mad, m, lut: 0, d, a, b, c },
            (4, true, true, true) => {
                let f = if saturates { Tri32::MadHiSatS } else { Tri32::MadHiS };
                Op::Tri32 { f, m, lut: 0, d, a, b, c }
            }
            (4, true, true, false) => Op::Tri32 { f: Tri32::MadHiU, m, lut: 0, d, a, b, c },
            (2, true, false, _) => Op::Tri32 { f: Tri32::Mad16, m, lut: 0, d, a, b, c },
            (8, true, false, _) => Op::Tri64 { f: Tri64::Mad, m, d, a, b, c },
            (8, true, true, true) => Op::Tri64 { f: Tri64::MadHiS, m, d, a, b, c },
            (8, true, true, false) => Op::Tri64 { f: Tri64::MadHiU, m, d, a, b, c },
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    fn multiply_wide(&mut self, parts: &Parts<'_>, ty: Type, mad: bool, operands: &[Operand<'a>]) -> Done {
        let result = match ty {
            Type::U16 | Type::S16 => Type::B32,
            Type::U32 | Type::S32 => Type::B64,
            _ => return Err(parts.unsupported()),
        };
        let (d, a, b, c) = match operands {
            [d, a, b] if !mad => (d, a, b, None),
            [d, a, b, c] if mad => (d, a, b, Some(c)),
            _ => return Err(parts.operands()),
        };
        let d = self.target(d, result, parts)?;
        let (a, b) = (self.source(a, ty, parts)?, self.source(b, ty, parts)?);
        let c = c.map_or(Ok(NONE), |c| self.source(c, result, parts))?;
        let m = Mode::PLAIN;
        let op = match (ty, mad) {
            (Type::S32, false) => Op::Wide { f: Wide::MulS, d, a, b, c },
            (Type::U32, false) => Op::Wide { f: Wide::MulU, d, a, b, c },
            (Type::S32, true) => Op::Wide { f: Wide::MadS, d, a, b, c },
            (Type::U32, true) => Op::Wide { f: Wide::MadU, d, a, b, c },
            (Type::S16, false) => Op::Bin32 { f: Bin32::MulWideS16, m, d, a, b },
            (_, false) => Op::Bin32 { f: Bin32::MulWideU16, m, d, a, b },
            (Type::S16, true) => Op::Tri32 { f: Tri32::MadWideS16, m, lut: 0, d, a, b, c },
            (_, true) => Op::Tri32 { f: Tri32::MadWideU16, m, lut: 0, d, a, b, c },
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    /// `add.cc`, `addc`, `addc.cc` and their kin.
    fn carry(&mut self, parts: &mut Parts<'_>, ty: Type, operands: &[Operand<'a>]) -> Done {
        let writes = parts.take("cc");
        let (high, _) = (parts.take("hi"), parts.take("lo"));
        parts.finish()?;
        let reads = matches!(parts.base(), "addc" | "subc" | "madc");
        let wide = match ty.bytes() {
            4 => false,
            8 => true,
            _ => return Err(parts.unsupported()),
        };
        let f = match (parts.base(), high, ty.is_signed()) {
            ("add" | "addc", false, _) => CarryOp::Add,
            ("sub" | "subc", false, _) => CarryOp::Sub,
            ("mad" | "madc", false, _) => CarryOp::MadLo,
            ("mad" | "madc", true, true) => CarryOp::MadHiS,
            ("mad" | "madc", true, false) => CarryOp::MadHiU,
            _ => return Err(parts.unsupported()),
        };
        let (d, a, b, c) = if matches!(f, CarryOp::Add | CarryOp::Sub) {
            let (d, [a, b]) = self.registers(operands, ty, parts)?;
            (d, a, b, NONE)
        } else {
            let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
            (d, a, b, c)
        };
        self.emit(OpClass::Alu, Op::Carry { f, wide, reads, writes, d, a, b, c });
        Ok(())
    }

    pub(super) fn logic(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ty = parts.ty()?;
        parts.finish()?;
        if ty == Type::Pred {
            return self.predicate_logic(parts, operands);
        }
        let m = Mode::PLAIN;
        let (narrow, wide) = match parts.base() {
            "and" => (Bin32::And, Bin64::And),
            "or" => (Bin32::Or, Bin64::Or),
            "xor" => (Bin32::Xor, Bin64::Xor),
            base => {
                let (d, [a]) = self.registers(operands, ty, parts)?;
                let op = match (base, ty.bytes()) {
                    ("not", 2) => Op::Un32 { f: Un32::Not16, m, d, a },
                    ("not", 4) => Op::Un32 { f: Un32::Not, m, d, a },
                    ("not", 8) => Op::Un64 { f: Un64::Not, m, d, a },
                    ("cnot", 2) => Op::Un32 { f: Un32::Cnot16, m, d, a },
                    ("cnot", 4) => Op::Un32 { f: Un32::Cnot, m, d, a },
                    ("cnot", 8) => Op::Un64 { f: Un64::Cnot, m, d, a },
                    _ => return Err(parts.unsupported()),
                };
                self.emit(OpClass::Alu, op);
                return Ok(());
            }
        };
        let (d, [a, b]) = self.registers(operands, ty, parts)?;
        let op = match ty.bytes() {
            2 | 4 => Op::Bin32 { f: narrow, m, d, a, b },
            8 => Op::Bin64 { f: wide, m, d, a, b },
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    fn predicate_logic(&mut self, parts: &Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let Some(Operand::Name(d)) = operands.first() else { return Err(parts.operands()) };
        let d = self.predicate_target(d, parts)?;
        let (k, a, b) = match (parts.base(), &operands[1..]) {
            ("not", [a]) => (Combine::Xor, self.predicate(a, parts)?, PredRef::TRUE),
            (base, [a, b]) => {
                let k = match base {
                    "and" => Combine::And,
                    "or" => Combine::Or,
                    "xor" => Combine::Xor,
                    _ => return Err(parts.unsupported()),
                };
                (k, self.predicate(a, parts)?, self.predicate(b, parts)?)
            }
            _ => return Err(parts.operands()),
        };
        self.emit(OpClass::Alu, Op::PredBin { k, d, a, b });
        Ok(())
    }

    pub(super) fn shift(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.base() == "shf" {
            return self.funnel_shift(parts, operands);
        }
        let ty = parts.ty()?;
        parts.finish()?;
        let [d, a, b] = operands else { return Err(parts.operands()) };
        let d = self.target(d, ty, parts)?;
        let a = self.source(a, ty, parts)?;
        let b = self.source(b, Type::U32, parts)?;
        let m = Mode::PLAIN;
        let op = match (parts.base(), ty.bytes(), ty.is_signed()) {
            ("shl", 2, _) => Op::Bin32 { f: Bin32::Shl16, m, d, a, b },
            ("shl", 4, _) => Op::Bin32 { f: Bin32::Shl, m, d, a, b },
            ("shl", 8, _) => Op::Shift64 { f: Shift64::Shl, d, a, b },
            ("shr", 2, true) => Op::Bin32 { f: Bin32::ShrS16, m, d, a, b },
            ("shr", 4, true) => Op::Bin32 { f: Bin32::ShrS, m, d, a, b },
            ("shr", 2 | 4, false) => Op::Bin32 { f: Bin32::ShrU, m, d, a, b },
            ("shr", 8, true) => Op::Shift64 { f: Shift64::ShrS, d, a, b },
            ("shr", 8, false) => Op::Shift64 { f: Shift64::ShrU, d, a, b },
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    fn funnel_shift(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let left = parts.take("l");
        let right = parts.take("r");
        let wrap = parts.take("wrap");
        let clamp = parts.take("clamp");
        let ty = parts.ty()?;
        parts.finish()?;
        let f = match (left, right, wrap, clamp) {
            (true, false, true, false) => Tri32::ShfLWrap,
            (true, false, false, true) => Tri32::ShfL,
            (false, true, true, false) => Tri32::ShfRWrap,
            (false, true, false, true) => Tri32::ShfR,
            _ => return Err(parts.unsupported()),
        };
        if ty != Type::B32 {
            return Err(parts.unsupported());
        }
        let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
        self.emit(OpClass::Alu, Op::Tri32 { f, m: Mode::PLAIN, lut: 0, d, a, b, c });
        Ok(())
    }

    /// Instructions on bit fields, and the rarer arithmetic.
    pub(super) fn bits(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let m = Mode::PLAIN;
        let op = match parts.base() {
            "mul24" | "mad24" => {
                let (high, saturates) = (parts.take("hi"), parts.take("sat"));
                parts.take("lo");
                let ty = parts.ty()?;
                parts.finish()?;
                let signed = ty.is_signed();
                let mad = parts.base() == "mad24";
                if ty.bytes() != 4 || (saturates && !(mad && high && signed)) {
                    return Err(parts.unsupported());
                }
                let m = if saturates { Mode::SAT } else { m };
                if mad {
                    let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
                    let f = match (high, signed) {
                        (false, true) => Tri32::Mad24S,
                        (false, false) => Tri32::Mad24U,
                        (true, true) => Tri32::Mad24HiS,
                        (true, false) => Tri32::Mad24HiU,
                    };
                    Op::Tri32 { f, m, lut: 0, d, a, b, c }
                } else {
                    let (d, [a, b]) = self.registers(operands, ty, parts)?;
                    let f = match (high, signed) {
                        (false, true) => Bin32::Mul24S,
                        (false, false) => Bin32::Mul24U,
                        (true, true) => Bin32::Mul24HiS,
                        (true, false) => Bin32::Mul24HiU,
                    };
                    Op::Bin32 { f, m, d, a, b }
                }
            }
            "sad" => {
                let ty = parts.ty()?;
                parts.finish()?;
                let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
                match ty {
                    Type::S16 => Op::Tri32 { f: Tri32::SadS16, m, lut: 0, d, a, b, c },
                    Type::U16 => Op::Tri32 { f: Tri32::SadU16, m, lut: 0, d, a, b, c },
                    Type::S32 => Op::Tri32 { f: Tri32::SadS, m, lut: 0, d, a, b, c },
                    Type::U32 => Op::Tri32 { f: Tri32::SadU, m, lut: 0, d, a, b, c },
                    Type::S64 => Op::Tri64 { f: Tri64::SadS, m, d, a, b, c },
                    Type::U64 => Op::Tri64 { f: Tri64::SadU, m, d, a, b, c },
                    _ => return Err(parts.unsupported()),
                }
            }
            "popc" | "clz" | "bfind" => self.count(parts, operands)?,
            "brev" => {
                let ty = parts.ty()?;
                parts.finish()?;
                let (d, [a]) = self.registers(operands, ty, parts)?;
                match ty.bytes() {
                    4 => Op::Un32 { f: Un32::Brev, m, d, a },
                    8 => Op::Un64 { f: Un64::Brev, m, d, a },
                    _ => return Err(parts.unsupported()),
                }
            }
            "bfe" | "bfi" => self.bit_field(parts, operands)?,
            "bmsk" | "szext" => {
                let wrap = parts.take("wrap");
                if !wrap && !parts.take("clamp") {
                    return Err(parts.unsupported());
                }
                let ty = parts.ty()?;
                parts.finish()?;
                let (d, [a, b]) = self.registers(operands, Type::B32, parts)?;
                let f = match (parts.base(), ty.is_signed(), wrap) {
                    ("bmsk", _, false) => Bin32::Bmsk,
                    ("bmsk", _, true) => Bin32::BmskWrap,
                    (_, true, false) => Bin32::SzextS,
                    (_, true, true) => Bin32::SzextWrapS,
                    (_, false, false) => Bin32::SzextU,
                    (_, false, true) => Bin32::SzextWrapU,
                };
                Op::Bin32 { f, m, d, a, b }
            }
            "lop3" => return self.lop3(parts, operands),
            "prmt" => {
                let f = parts.take_of(&[
                    ("f4e", Tri32::PrmtF4e),
                    ("b4e", Tri32::PrmtB4e),
                    ("rc8", Tri32::PrmtRc8),
                    ("ecl", Tri32::PrmtEcl),
                    ("ecr", Tri32::PrmtEcr),
                    ("rc16", Tri32::PrmtRc16),
                ]);
                let ty = parts.ty()?;
                parts.finish()?;
                if ty != Type::B32 {
                    return Err(parts.unsupported());
                }
                let (d, [a, b, c]) = self.registers(operands, ty, parts)?;
                Op::Tri32 { f: f.unwrap_or(Tri32::Prmt), m, lut: 0, d, a, b, c }
            }
            "vabsdiff2" | "vabsdiff4" => {
                let sums = parts.take("add");
                for _ in 0..3 {
                    if parts.ty()? != Type::U32 {
                        return Err(parts.unsupported());
                    }
                }
                parts.finish()?;
                let (d, [a, b, c]) = self.registers(operands, Type::B32, parts)?;
                let f = match (parts.base(), sums) {
                    ("vabsdiff4", true) => Tri32::SadBytes,
                    ("vabsdiff4", false) => Tri32::DistanceBytes,
                    (_, true) => Tri32::SadHalves,
                    (_, false) => Tri32::DistanceHalves,
                };
                Op::Tri32 { f, m, lut: 0, d, a, b, c }
            }
            "dp2a" => {
                let high = parts.take("hi");
                if !high && !parts.take("lo") {
                    return Err(parts.unsupported());
                }
                let mut lut = if high { DP2A_HIGH } else { 0 };
                for flag in [DP2A_FIRST, DP2A_SECOND] {
                    match parts.ty()? {
                        Type::S32 => lut |= flag,
                        Type::U32 => {}
                        _ => return Err(parts.unsupported()),
                    }
                }
                parts.finish()?;
                let (d, [a, b, c]) = self.registers(operands, Type::B32, parts)?;
                Op::Tri32 { f: Tri32::Dp2a, m, lut, d, a, b, c }
            }
            "fns" => {
                if parts.ty()? != Type::B32 {
                    return Err(parts.unsupported());
                }
                parts.finish()?;
                let (d, [a, b, c]) = self.registers(operands, Type::B32, parts)?;
                Op::Tri32 { f: Tri32::Fns, m, lut: 0, d, a, b, c }
            }
            "dp4a" => {
                let (first, second) = (parts.ty()?, parts.ty()?);
                parts.finish()?;
                let (d, [a, b, c]) = self.registers(operands, Type::B32, parts)?;
                let f = match (first, second) {
                    (Type::S32, Type::S32) => Tri32::Dp4aSS,
                    (Type::S32, Type::U32) => Tri32::Dp4aSU,
                    (Type::U32, Type::S32) => Tri32::Dp4aUS,
                    (Type::U32, Type::U32) => Tri32::Dp4aUU,
                    _ => return Err(parts.unsupported()),
                };
                Op::Tri32 { f, m, lut: 0, d, a, b, c }
            }
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    /// Logic by a table, and with `.and` or `.or` also whether the result is not 0.
    fn lop3(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let combine = parts.take_of(&[("and", Combine::And), ("or", Combine::Or)]);
        let ty = parts.ty()?;
        parts.finish()?;
        let (whole, q) = match (combine, operands) {
            (None, whole) => (whole, None),
            (Some(_), [whole @ .., q]) => (whole, Some(self.predicate(q, parts)?)),
            _ => return Err(parts.operands()),
        };
        let [d, a, b, c, Operand::Int(lut @ 0..=255)] = whole else { return Err(parts.operands()) };
        if ty != Type::B32 {
            return Err(parts.unsupported());
        }
        let (d, p) = match (d, q) {
            (Operand::Pair(d, p), Some(_)) => {
                (self.target(&Operand::Name(d), ty, parts)?, self.predicate_target(p, parts)?)
            }
            (d, None) => (self.target(d, ty, parts)?, NONE),
            _ => return Err(parts.operands()),
        };
        let [a, b, c] = [self.source(a, ty, parts)?, self.source(b, ty, parts)?, self.source(c, ty, parts)?];
        self.emit(OpClass::Alu, Op::Tri32 { f: Tri32::Lop3, m: Mode::PLAIN, lut: *lut as u8, d, a, b, c });
        if let (Some(k), Some(c)) = (combine, q) {
            let b = self.const32(0);
            self.emit_extra(Op::Cmp { ty: CompareType::U32, f: Compare::Ne, k, c, p, q: NONE, a: d, b });
        }
        Ok(())
    }

    fn count(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Result<Op, LoadError> {
        let shift = parts.take("shiftamt");
        let ty = parts.ty()?;
        parts.finish()?;
        let [d, a] = operands else { return Err(parts.operands()) };
        let d = self.target(d, Type::U32, parts)?;
        let a = self.source(a, ty, parts)?;
        let (narrow, wide) = match (parts.base(), shift, ty.is_signed()) {
            ("popc", false, _) => (Un32::Popc, Count64::Popc),
            ("clz", false, _) => (Un32::Clz, Count64::Clz),
            ("bfind", false, true) => (Un32::BfindS, Count64::BfindS),
            ("bfind", false, false) => (Un32::BfindU, Count64::BfindU),
            ("bfind", true, true) => (Un32::BfindShiftS, Count64::BfindShiftS),
            ("bfind", true, false) => (Un32::BfindShiftU, Count64::BfindShiftU),
            _ => return Err(parts.unsupported()),
        };
        match ty.bytes() {
            4 => Ok(Op::Un32 { f: narrow, m: Mode::PLAIN, d, a }),
            8 => Ok(Op::Count64 { f: wide, d, a }),
            _ => Err(parts.unsupported()),
        }
    }

    fn bit_field(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Result<Op, LoadError> {
        let ty = parts.ty()?;
        parts.finish()?;
        let wide = match ty.bytes() {
            4 => false,
            8 => true,
            _ => return Err(parts.unsupported()),
        };
        match (parts.base(), operands) {
            ("bfe", [d, a, b, c]) => {
                let (d, a) = (self.target(d, ty, parts)?, self.source(a, ty, parts)?);
                let (b, c) = (self.source(b, Type::U32, parts)?, self.source(c, Type::U32, parts)?);
                let signed = ty.is_signed();
                Ok(if wide {
                    Op::Bfe64 { signed, d, a, b, c }
                } else {
                    let f = if signed { Tri32::BfeS } else { Tri32::BfeU };
                    Op::Tri32 { f, m: Mode::PLAIN, lut: 0, d, a, b, c }
                })
            }
            ("bfi", [d, a, b, c, e]) => {
                let d = self.target(d, ty, parts)?;
                let (a, b) = (self.source(a, ty, parts)?, self.source(b, ty, parts)?);
                let (c, e) = (self.source(c, Type::U32, parts)?, self.source(e, Type::U32, parts)?);
                Ok(if wide { Op::Bfi64 { d, a, b, c, e } } else { Op::Bfi32 { d, a, b, c, e } })
            }
            _ => Err(parts.operands()),
        }
    }
}
