//! Operations among the lanes of a warp.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::op::{Mode, NONE, Op, ReduxOp, Shfl, ShflMode, VoteMode};
use super::parts::Parts;

type Done = Result<(), LoadError>;

impl<'a> Lowerer<'a, '_> {
    pub(super) fn warp_operation(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.base() == "activemask" {
            parts.ty()?;
            parts.finish()?;
            let [d] = operands else { return Err(parts.operands()) };
            let d = self.target(d, Type::B32, parts)?;
            self.emit(OpClass::Shuffle, Op::ActiveMask { d });
            return Ok(());
        }
        // The forms without `.sync` are gone since sm_70.
        if !parts.take("sync") {
            return Err(parts.unsupported());
        }
        let op = match parts.base() {
            "shfl" => self.shuffle(parts, operands)?,
            "vote" => self.vote(parts, operands)?,
            "match" => self.match_lanes(parts, operands)?,
            "redux" => self.reduction(parts, operands)?,
            "elect" => {
                parts.finish()?;
                let [Operand::Pair(d, p), members] = operands else {
                    return Err(parts.operands());
                };
                let d = self.target(&Operand::Name(d), Type::B32, parts)?;
                let p = self.predicate_target(p, parts)?;
                let members = self.source(members, Type::B32, parts)?;
                Op::Elect { d, p, members }
            }
            _ => return Err(parts.unsupported()),
        };
        self.emit(OpClass::Shuffle, op);
        Ok(())
    }

    fn shuffle(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Result<Op, LoadError> {
        let mode = parts.take_of(&[
            ("up", ShflMode::Up),
            ("down", ShflMode::Down),
            ("bfly", ShflMode::Bfly),
            ("idx", ShflMode::Idx),
        ]);
        let mode = mode.ok_or_else(|| parts.unsupported())?;
        let ty = parts.ty()?;
        parts.finish()?;
        let ([d, a, b, c, members], 4) = (operands, ty.bytes()) else {
            return Err(parts.operands());
        };
        let (d, p) = match d {
            Operand::Pair(d, p) => (self.target(&Operand::Name(d), ty, parts)?, self.predicate_target(p, parts)?),
            d => (self.target(d, ty, parts)?, NONE),
        };
        let a = self.source(a, ty, parts)?;
        let b = self.source(b, Type::U32, parts)?;
        let c = self.source(c, Type::U32, parts)?;
        let members = self.source(members, Type::B32, parts)?;
        Ok(Op::Shfl(Box::new(Shfl { mode, d, p, a, b, c, members })))
    }

    fn vote(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Result<Op, LoadError> {
        let f = parts.take_of(&[
            ("all", VoteMode::All),
            ("any", VoteMode::Any),
            ("uni", VoteMode::Uni),
            ("ballot", VoteMode::Ballot),
        ]);
        let f = f.ok_or_else(|| parts.unsupported())?;
        parts.ty()?;
        parts.finish()?;
        let [d, a, members] = operands else { return Err(parts.operands()) };
        let d = match (f, d) {
            (VoteMode::Ballot, d) => self.target(d, Type::B32, parts)?,
            (_, Operand::Name(name)) => self.predicate_target(name, parts)?,
            _ => return Err(parts.operands()),
        };
        let a = self.predicate(a, parts)?;
        let members = self.source(members, Type::B32, parts)?;
        Ok(Op::Vote { f, d, a, members })
    }

    fn match_lanes(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Result<Op, LoadError> {
        let all = parts.take("all");
        if !all && !parts.take("any") {
            return Err(parts.unsupported());
        }
        let ty = parts.ty()?;
        parts.finish()?;
        let [d, a, members] = operands else { return Err(parts.operands()) };
        let (d, p) = match d {
            Operand::Pair(d, p) if all => {
                (self.target(&Operand::Name(d), Type::B32, parts)?, self.predicate_target(p, parts)?)
            }
            d => (self.target(d, Type::B32, parts)?, NONE),
        };
        let wide = match ty.bytes() {
            4 => false,
            8 => true,
            _ => return Err(parts.unsupported()),
        };
        let a = self.source(a, ty, parts)?;
        let members = self.source(members, Type::B32, parts)?;
        Ok(Op::Match { all, wide, d, p, a, members })
    }

    fn reduction(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Result<Op, LoadError> {
        let name = parts.take_of(&[
            ("add", "add"),
            ("min", "min"),
            ("max", "max"),
            ("and", "and"),
            ("or", "or"),
            ("xor", "xor"),
        ]);
        let name = name.ok_or_else(|| parts.unsupported())?;
        let mut mode = if parts.take("abs") { Mode::ABS } else { Mode::PLAIN };
        if parts.take("NaN") {
            mode = mode.with(Mode::NAN);
        }
        let ty = parts.ty()?;
        parts.finish()?;
        let f = match (name, ty) {
            ("add", Type::U32 | Type::S32) => ReduxOp::Add,
            ("min", Type::S32) => ReduxOp::MinS,
            ("min", Type::U32) => ReduxOp::MinU,
            ("max", Type::S32) => ReduxOp::MaxS,
            ("max", Type::U32) => ReduxOp::MaxU,
            ("and", Type::B32) => ReduxOp::And,
            ("or", Type::B32) => ReduxOp::Or,
            ("xor", Type::B32) => ReduxOp::Xor,
            ("min", Type::F32) => ReduxOp::FMin(mode),
            ("max", Type::F32) => ReduxOp::FMax(mode),
            _ => return Err(parts.unsupported()),
        };
        if mode != Mode::PLAIN && ty != Type::F32 {
            return Err(parts.unsupported());
        }
        let (d, [a, members]) = self.registers(operands, Type::B32, parts)?;
        Ok(Op::Redux { f, d, a, members })
    }
}
