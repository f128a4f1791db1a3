//! Moves, selections, comparisons, address conversions.

use crate::counters::OpClass;
use crate::exec::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};
use crate::ptx::{LoadError, Operand, Space, Type};

use super::context::{Lowerer, Symbol};
use super::op::{Bin64, Clock, Combine, Compare, CompareType, HalfType, Mode, NONE, Op, PredRef, Test, Un32, Un64};
use super::parts::Parts;

type Done = Result<(), LoadError>;

impl<'a> Lowerer<'a, '_> {
    pub(super) fn mov(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ty = parts.ty()?;
        parts.finish()?;
        let [d, a] = operands else { return Err(parts.operands()) };
        if ty == Type::Pred {
            let Operand::Name(name) = d else { return Err(parts.operands()) };
            let d = self.predicate_target(name, parts)?;
            let a = match a {
                Operand::Name("%is_explicit_cluster") => PredRef::new(0, true),
                _ => self.predicate(a, parts)?,
            };
            self.emit(OpClass::Alu, Op::PredBin { k: Combine::And, d, a, b: PredRef::TRUE });
            return Ok(());
        }
        match (d, a) {
            (Operand::Vector(ds), _) => return self.unpack(ty, ds, a, parts),
            (_, Operand::Vector(sources)) => return self.pack(ty, d, sources, parts),
            (_, Operand::Name(name)) if self.look_up(name).is_none() => {
                let clock = match (*name, ty.bytes()) {
                    ("%clock" | "%clock_lo", 4) => Some(Clock::Low),
                    ("%clock_hi", 4) => Some(Clock::High),
                    ("%clock64", 8) => Some(Clock::Whole),
                    ("%globaltimer", 8) => Some(Clock::Timer),
                    ("%globaltimer_lo", 4) => Some(Clock::Low),
                    ("%globaltimer_hi", 4) => Some(Clock::High),
                    _ => None,
                };
                if let Some(f) = clock {
                    let d = self.target(d, ty, parts)?;
                    self.emit(OpClass::Other, Op::Clock { f, d });
                    return Ok(());
                }
            }
            _ => {}
        }
        let d = self.target(d, ty, parts)?;
        let a = match a {
            // `mov.u16 %rs, %tid.x` and the like take the low half.
            Operand::Name(name) if ty.bytes() == 2 && self.look_up(name).is_none() => {
                let (a, _) = self.loose_source(a, ty, parts)?;
                let mask = self.const32(0xffff);
                let f = super::op::Bin32::And;
                self.emit(OpClass::Alu, Op::Bin32 { f, m: Mode::PLAIN, d, a, b: mask });
                return Ok(());
            }
            _ => self.source(a, ty, parts)?,
        };
        self.emit(
            OpClass::Alu,
            if ty.bytes() == 8 {
                Op::Un64 { f: Un64::Mov, m: Mode::PLAIN, d, a }
            } else {
                Op::Un32 { f: Un32::Mov, m: Mode::PLAIN, d, a }
            },
        );
        Ok(())
    }

    /// The type of each part when a register of a type is split in `count`.
    fn part_type(ty: Type, count: usize, parts: &Parts<'_>) -> Result<Type, LoadError> {
        match (ty.bytes(), count) {
            (8, 2) => Ok(Type::B32),
            (8, 4) | (4, 2) => Ok(Type::B16),
            (4, 4) => Ok(Type::B8),
            (16, _) => Err(LoadError::unsupported(parts.line(), "registers of 128 bits")),
            _ => Err(parts.operands()),
        }
    }

    fn pack(&mut self, ty: Type, d: &Operand<'a>, sources: &[Operand<'a>], parts: &Parts<'_>) -> Done {
        let part = Self::part_type(ty, sources.len(), parts)?;
        let d = self.target(d, ty, parts)?;
        let mut regs = [NONE; 4];
        for (reg, source) in regs.iter_mut().zip(sources) {
            *reg = self.source(source, part, parts)?;
        }
        let [a, b, ..] = regs;
        let op = match (ty.bytes(), sources.len()) {
            (8, 2) => Op::Pack64 { d, a, b },
            (4, 2) => Op::Pack32 { d, a, b },
            (bytes, _) => Op::PackFour { wide: bytes == 8, d, parts: Box::new(regs) },
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    fn unpack(&mut self, ty: Type, targets: &[Operand<'a>], a: &Operand<'a>, parts: &Parts<'_>) -> Done {
        let part = Self::part_type(ty, targets.len(), parts)?;
        let a = self.source(a, ty, parts)?;
        let mut regs = [NONE; 4];
        for (reg, target) in regs.iter_mut().zip(targets) {
            if *target != Operand::Name("_") {
                *reg = self.target(target, part, parts)?;
            }
        }
        let [d, e, ..] = regs;
        let op = match (ty.bytes(), targets.len()) {
            (8, 2) => Op::Unpack64 { d, e, a },
            (4, 2) => Op::Unpack32 { d, e, a },
            (bytes, _) => Op::UnpackFour { wide: bytes == 8, a, parts: Box::new(regs) },
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    pub(super) fn selp(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ty = parts.ty()?;
        parts.finish()?;
        let [d, a, b, p] = operands else { return Err(parts.operands()) };
        let d = self.target(d, ty, parts)?;
        let (a, b) = (self.source(a, ty, parts)?, self.source(b, ty, parts)?);
        let p = self.predicate(p, parts)?;
        self.emit(OpClass::Alu, selection(ty, d, a, b, p));
        Ok(())
    }

    pub(super) fn slct(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let ftz = parts.take("ftz");
        let (ty, by) = (parts.ty()?, parts.ty()?);
        parts.finish()?;
        let [d, a, b, c] = operands else { return Err(parts.operands()) };
        let d = self.target(d, ty, parts)?;
        let (a, b, c) = (self.source(a, ty, parts)?, self.source(b, ty, parts)?, self.source(c, by, parts)?);
        let p = self.temp_predicate();
        let compared = match by {
            Type::S32 => CompareType::S32,
            Type::F32 if ftz => CompareType::F32Ftz,
            Type::F32 => CompareType::F32,
            _ => return Err(parts.unsupported()),
        };
        let zero = self.const32(0);
        self.emit_extra(Op::Cmp {
            ty: compared,
            f: Compare::Ge,
            k: Combine::None,
            c: PredRef::TRUE,
            p,
            q: NONE,
            a: c,
            b: zero,
        });
        self.emit(OpClass::Alu, selection(ty, d, a, b, PredRef::new(p, false)));
        Ok(())
    }

    fn comparison(&mut self, parts: &mut Parts<'_>) -> Result<(Compare, Combine), LoadError> {
        let combine = parts
            .take_of(&[("and", Combine::And), ("or", Combine::Or), ("xor", Combine::Xor)])
            .unwrap_or(Combine::None);
        let compare = parts.take_of(&[
            ("eq", Compare::Eq),
            ("ne", Compare::Ne),
            ("lt", Compare::Lt),
            ("le", Compare::Le),
            ("gt", Compare::Gt),
            ("ge", Compare::Ge),
            ("lo", Compare::Lt),
            ("ls", Compare::Le),
            ("hi", Compare::Gt),
            ("hs", Compare::Ge),
            ("equ", Compare::UEq),
            ("neu", Compare::UNe),
            ("ltu", Compare::ULt),
            ("leu", Compare::ULe),
            ("gtu", Compare::UGt),
            ("geu", Compare::UGe),
            ("num", Compare::Num),
            ("nan", Compare::Nan),
        ]);
        Ok((compare.ok_or_else(|| parts.unsupported())?, combine))
    }

    fn compare_type(ty: Type, ftz: bool, parts: &Parts<'_>) -> Result<CompareType, LoadError> {
        Ok(match ty {
            Type::S16 => CompareType::S16,
            Type::U16 | Type::B16 | Type::U32 | Type::B32 => CompareType::U32,
            Type::S32 => CompareType::S32,
            Type::U64 | Type::B64 => CompareType::U64,
            Type::S64 => CompareType::S64,
            Type::F32 if ftz => CompareType::F32Ftz,
            Type::F32 => CompareType::F32,
            Type::F64 => CompareType::F64,
            Type::F16 if ftz => CompareType::F16Ftz,
            Type::F16 => CompareType::F16,
            Type::Bf16 => CompareType::Bf16,
            _ => return Err(parts.unsupported()),
        })
    }

    pub(super) fn setp(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let (f, k) = self.comparison(parts)?;
        let ftz = parts.take("ftz");
        let ty = parts.ty()?;
        parts.finish()?;
        let (targets, a, b, c) = match operands {
            [targets, a, b] => (targets, a, b, None),
            [targets, a, b, c] if k != Combine::None => (targets, a, b, Some(c)),
            _ => return Err(parts.operands()),
        };
        if k != Combine::None && c.is_none() {
            return Err(parts.operands());
        }
        let (p, q) = match targets {
            Operand::Name(p) => (*p, "_"),
            Operand::Pair(p, q) => (*p, *q),
            _ => return Err(parts.operands()),
        };
        let (p, q) = (self.predicate_target(p, parts)?, self.predicate_target(q, parts)?);
        let c = c.map_or(Ok(PredRef::TRUE), |c| self.predicate(c, parts))?;
        let (a, b) = (self.source(a, ty, parts)?, self.source(b, ty, parts)?);
        if let Type::F16x2 | Type::Bf16x2 = ty {
            let t = if ty == Type::F16x2 { HalfType::F16x2 } else { HalfType::Bf16x2 };
            let m = if ftz { Mode::FTZ } else { Mode::PLAIN };
            self.emit(OpClass::Alu, Op::CmpPair { t, f, k, c, m, p, q, a, b });
            return Ok(());
        }
        let ty = Self::compare_type(ty, ftz, parts)?;
        self.emit(OpClass::Alu, Op::Cmp { ty, f, k, c, p, q, a, b });
        Ok(())
    }

    pub(super) fn set(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let (f, k) = self.comparison(parts)?;
        let ftz = parts.take("ftz");
        let (to, ty) = (parts.ty()?, parts.ty()?);
        parts.finish()?;
        let (d, a, b, c) = match operands {
            [d, a, b] if k == Combine::None => (d, a, b, PredRef::TRUE),
            [d, a, b, c] if k != Combine::None => (d, a, b, self.predicate(c, parts)?),
            _ => return Err(parts.operands()),
        };
        let d = self.target(d, to, parts)?;
        let (a, b) = (self.source(a, ty, parts)?, self.source(b, ty, parts)?);
        if let Type::F16x2 | Type::Bf16x2 = ty {
            return self.set_pair(parts, to, ty, (f, k, c, ftz), [d, a, b]);
        }
        let one = match to {
            Type::U32 | Type::S32 => u32::MAX,
            Type::U16 | Type::S16 => 0xffff,
            Type::F32 => 1f32.to_bits(),
            Type::F16 => 0x3c00,
            Type::Bf16 => 0x3f80,
            _ => return Err(parts.unsupported()),
        };
        let ty = Self::compare_type(ty, ftz, parts)?;
        let p = self.temp_predicate();
        self.emit(OpClass::Alu, Op::Cmp { ty, f, k, c, p, q: NONE, a, b });
        let (one, zero) = (self.const32(one), self.const32(0));
        self.emit_extra(Op::Selp32 { d, a: one, b: zero, p: PredRef::new(p, false) });
        Ok(())
    }

    pub(super) fn testp(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let f = parts.take_of(&[
            ("finite", Test::Finite),
            ("infinite", Test::Infinite),
            ("number", Test::Number),
            ("notanumber", Test::NotANumber),
            ("normal", Test::Normal),
            ("subnormal", Test::Subnormal),
        ]);
        let f = f.ok_or_else(|| parts.unsupported())?;
        let ty = parts.ty()?;
        parts.finish()?;
        let [Operand::Name(p), a] = operands else { return Err(parts.operands()) };
        if !matches!(ty, Type::F32 | Type::F64) {
            return Err(parts.unsupported());
        }
        let p = self.predicate_target(p, parts)?;
        let a = self.source(a, ty, parts)?;
        self.emit(OpClass::Alu, Op::Test { f, wide: ty == Type::F64, p, a });
        Ok(())
    }

    pub(super) fn cvta(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let to_space = parts.take("to");
        let space = parts.take_of(&[
            ("global", Space::Global),
            ("const", Space::Const),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            ("shared::cluster", Space::Shared),
            ("local", Space::Local),
            ("param", Space::Param),
        ]);
        let space = space.ok_or_else(|| parts.unsupported())?;
        let ty = parts.ty()?;
        parts.finish()?;
        let [d, a] = operands else { return Err(parts.operands()) };
        if ty.bytes() != 8 {
            return Err(parts.unsupported());
        }
        // An inlined function's parameters are in local memory.
        let space = match a {
            Operand::Name(name) | Operand::Offset(name, _) => match self.look_up(name) {
                Some(Symbol::Memory { space, .. }) => space,
                _ if space == Space::Param => self.param_space(),
                _ => space,
            },
            _ => space,
        };
        let d = self.target(d, ty, parts)?;
        let a = self.source(a, ty, parts)?;
        let window = match space {
            Space::Shared => SHARED_WINDOW,
            Space::Local => LOCAL_WINDOW,
            Space::Param => PARAM_WINDOW,
            _ => 0,
        };
        let op = if window == 0 {
            Op::Un64 { f: Un64::Mov, m: Mode::PLAIN, d, a }
        } else {
            let f = if to_space { Bin64::Sub } else { Bin64::Add };
            let b = self.const64(window);
            Op::Bin64 { f, m: Mode::PLAIN, d, a, b }
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    pub(super) fn isspacep(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let space = parts.take_of(&[
            ("global", Space::Global),
            ("const", Space::Const),
            ("shared", Space::Shared),
            ("shared::cta", Space::Shared),
            ("shared::cluster", Space::Cluster),
            ("local", Space::Local),
            ("param", Space::Param),
        ]);
        let space = space.ok_or_else(|| parts.unsupported())?;
        parts.finish()?;
        let [Operand::Name(p), a] = operands else { return Err(parts.operands()) };
        let p = self.predicate_target(p, parts)?;
        let a = self.source(a, Type::B64, parts)?;
        self.emit(OpClass::Alu, Op::IsSpace { space, p, a });
        Ok(())
    }
}

fn selection(ty: Type, d: u32, a: u32, b: u32, p: PredRef) -> Op {
    if ty.bytes() == 8 { Op::Selp64 { d, a, b, p } } else { Op::Selp32 { d, a, b, p } }
}
