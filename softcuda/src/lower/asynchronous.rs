//! `mbarrier`, bulk copies and asynchronous stores.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Space, Type};

use super::context::Lowerer;
use super::memory::take_ordering;
use super::op::{Access, Atom, AtomOp, BulkCopy, Mbarrier, MbarrierOp, NONE, Op, Order, StoreAsync};
use super::parts::Parts;

type Done = Result<(), LoadError>;

const COMPLETION: &str = "mbarrier::complete_tx::bytes";

fn shared_space(parts: &mut Parts<'_>) -> Option<Space> {
    parts.take_of(&[("shared", Space::Shared), ("shared::cta", Space::Shared), ("shared::cluster", Space::Cluster)])
}

fn reduction(parts: &mut Parts<'_>) -> Option<AtomOp> {
    parts.take_of(&[
        ("add", AtomOp::Add),
        ("min", AtomOp::Min),
        ("max", AtomOp::Max),
        ("and", AtomOp::And),
        ("or", AtomOp::Or),
        ("xor", AtomOp::Xor),
        ("inc", AtomOp::Inc),
        ("dec", AtomOp::Dec),
    ])
}

/// The reductions of asynchronous instructions on integers.
fn reduces(op: AtomOp, ty: Type) -> bool {
    match op {
        AtomOp::Add => matches!(ty, Type::U32 | Type::S32 | Type::U64),
        AtomOp::Min | AtomOp::Max => matches!(ty, Type::U32 | Type::S32),
        AtomOp::Inc | AtomOp::Dec => ty == Type::U32,
        AtomOp::And | AtomOp::Or | AtomOp::Xor => ty == Type::B32,
        AtomOp::Exch | AtomOp::Cas => false,
    }
}

/// The further ones of bulk copies to global memory.
fn reduces_global(op: AtomOp, ty: Type) -> bool {
    match op {
        AtomOp::Add => matches!(ty, Type::F16 | Type::Bf16 | Type::F32 | Type::F64),
        AtomOp::Min | AtomOp::Max => matches!(ty, Type::U64 | Type::S64 | Type::F16 | Type::Bf16),
        AtomOp::And | AtomOp::Or | AtomOp::Xor => ty == Type::B64,
        _ => false,
    }
}

impl<'a> Lowerer<'a, '_> {
    pub(super) fn mbarrier(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.take("pending_count") {
            parts.ty()?;
            parts.finish()?;
            let [d, a] = operands else { return Err(parts.operands()) };
            let (d, a) = (self.target(d, Type::B32, parts)?, self.source(a, Type::B64, parts)?);
            let e = self.temp32();
            self.emit(OpClass::Alu, Op::Unpack64 { d, e, a });
            return Ok(());
        }
        let f = parts.take_of(&[
            ("init", MbarrierOp::Init),
            ("inval", MbarrierOp::Invalidate),
            ("arrive", MbarrierOp::Arrive { drops: false, completes: true, expects: false }),
            ("arrive_drop", MbarrierOp::Arrive { drops: true, completes: true, expects: false }),
            ("test_wait", MbarrierOp::Wait { parity: false }),
            ("try_wait", MbarrierOp::Wait { parity: false }),
            ("expect_tx", MbarrierOp::ExpectTx),
            ("complete_tx", MbarrierOp::CompleteTx),
        ]);
        let mut f = f.ok_or_else(|| parts.unsupported())?;
        match &mut f {
            MbarrierOp::Arrive { completes, expects, .. } => {
                *expects = parts.take("expect_tx");
                *completes = !parts.take("noComplete");
            }
            MbarrierOp::Wait { parity } => *parity = parts.take("parity"),
            _ => {}
        }
        let (strong, order) = take_ordering(parts);
        let relaxed = strong && !order.acquire && !order.release;
        let space = shared_space(parts);
        if parts.ty()? != Type::B64 {
            return Err(parts.unsupported());
        }
        parts.finish()?;
        let mbarrier = |lowerer: &mut Self, at: &Operand<'a>, a: Option<&Operand<'a>>, ty, d, p| {
            let at = lowerer.address(at, space, parts)?;
            let a = a.map_or(Ok(NONE), |a| lowerer.source(a, ty, parts))?;
            lowerer.emit(OpClass::Barrier, Op::Mbarrier(Box::new(Mbarrier { f, at, relaxed, a, d, p })));
            Ok(())
        };
        match (f, operands) {
            (MbarrierOp::Invalidate, [at]) => mbarrier(self, at, None, Type::U32, NONE, NONE),
            (MbarrierOp::Init | MbarrierOp::ExpectTx | MbarrierOp::CompleteTx, [at, a]) => {
                mbarrier(self, at, Some(a), Type::U32, NONE, NONE)
            }
            (MbarrierOp::Arrive { completes, expects, .. }, [d, at, rest @ ..]) if rest.len() <= 1 => {
                let sink = matches!(d, Operand::Name("_"));
                if (rest.is_empty() && (expects || !completes)) || (space == Some(Space::Cluster) && !sink) {
                    return Err(parts.operands());
                }
                let d = if sink { NONE } else { self.target(d, Type::B64, parts)? };
                mbarrier(self, at, rest.first(), Type::U32, d, NONE)
            }
            (MbarrierOp::Wait { parity }, [Operand::Name(p), at, a, hint @ ..]) if hint.len() <= 1 => {
                if space == Some(Space::Cluster) {
                    return Err(parts.unsupported());
                }
                let p = self.predicate_target(p, parts)?;
                let ty = if parity { Type::U32 } else { Type::B64 };
                mbarrier(self, at, Some(a), ty, NONE, p)
            }
            _ => Err(parts.operands()),
        }
    }

    /// `cp.async.mbarrier.arrive`.
    pub(super) fn copies_arrive(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        parts.take("mbarrier");
        if !parts.take("arrive") {
            return Err(parts.unsupported());
        }
        let f = MbarrierOp::CopiesArrive { counted: parts.take("noinc") };
        let space = shared_space(parts);
        if parts.ty()? != Type::B64 || space == Some(Space::Cluster) {
            return Err(parts.unsupported());
        }
        parts.finish()?;
        let [at] = operands else { return Err(parts.operands()) };
        let at = self.address(at, space, parts)?;
        let (a, d, p, relaxed) = (NONE, NONE, NONE, false);
        self.emit(OpClass::Async, Op::Mbarrier(Box::new(Mbarrier { f, at, relaxed, a, d, p })));
        Ok(())
    }

    /// `cp.async.bulk` and `cp.reduce.async.bulk`.
    pub(super) fn copy_bulk(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.has("tensor") {
            return Err(parts.unsupported());
        }
        parts.take("bulk");
        if parts.take("commit_group") {
            parts.finish()?;
            self.emit(OpClass::Async, Op::BulkCommit);
            return Ok(());
        }
        if parts.take("wait_group") {
            let reads = parts.take("read");
            parts.finish()?;
            let [Operand::Int(groups @ 0..=0x7fff_ffff)] = operands else { return Err(parts.operands()) };
            self.emit(OpClass::Async, Op::BulkWait { pending: *groups as u32, reads });
            return Ok(());
        }
        let reduces = parts.take("reduce");
        let hinted = parts.take("L2::cache_hint");
        if parts.take("prefetch") {
            if !parts.take("L2") || !parts.take("global") {
                return Err(parts.unsupported());
            }
            parts.finish()?;
            if operands.len() != 2 + usize::from(hinted) {
                return Err(parts.operands());
            }
            self.emit(OpClass::Async, Op::Nop);
            return Ok(());
        }
        let spaces = [("global", Space::Global), ("shared::cta", Space::Shared), ("shared::cluster", Space::Cluster)];
        let (to, from) = (parts.take_of(&spaces), parts.take_of(&spaces));
        let (Some(to), Some(from)) = (to, from) else { return Err(parts.unsupported()) };
        let signals = parts.take(COMPLETION);
        let known = match (to, from) {
            (Space::Shared | Space::Cluster, Space::Global) => signals && !reduces,
            (Space::Cluster, Space::Shared) => signals,
            (Space::Global, Space::Shared) => !signals && parts.take("bulk_group"),
            _ => false,
        };
        let multicast = known && to == Space::Cluster && from == Space::Global && parts.take("multicast::cluster");
        if !known {
            return Err(parts.unsupported());
        }
        let op = if reduces { Some(reduction(parts).ok_or_else(|| parts.unsupported())?) } else { None };
        let noftz = op.is_some() && parts.take("noftz");
        let ty = if op.is_some() { parts.ty()? } else { Type::B8 };
        parts.finish()?;
        let half = matches!(ty, Type::F16 | Type::Bf16);
        let fits = |op| reduces_type(op, ty, to) && (noftz == (half && op == AtomOp::Add));
        if !op.is_none_or(fits) {
            return Err(parts.unsupported());
        }
        let wanted = 3 + usize::from(signals) + usize::from(multicast) + usize::from(hinted);
        if operands.len() != wanted {
            return Err(parts.operands());
        }
        let target = self.address(&operands[0], Some(to), parts)?;
        let source = self.address(&operands[1], Some(from), parts)?;
        let size = self.source(&operands[2], Type::U32, parts)?;
        let mbarrier = if signals { Some(self.address(&operands[3], Some(to), parts)?) } else { None };
        let mask = if multicast { self.source(&operands[4], Type::B16, parts)? } else { NONE };
        let reduce = op.map(|op| atom(op, ty, to, target.site));
        let copy = BulkCopy { to: target, from: source, size, mbarrier, mask, reduce };
        self.emit(OpClass::Async, Op::BulkCopy(Box::new(copy)));
        Ok(())
    }

    /// `st.async` and `red.async`.
    pub(super) fn store_async(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let reduces = parts.base() == "red";
        parts.take("async");
        if !parts.take(COMPLETION) {
            return Err(parts.unsupported());
        }
        for name in ["weak", "relaxed", "cluster"] {
            parts.take(name);
        }
        parts.take("shared::cluster");
        let op = if reduces { Some(reduction(parts).ok_or_else(|| parts.unsupported())?) } else { None };
        let count = if reduces { 1 } else { Self::vector(parts) };
        let ty = parts.ty()?;
        parts.finish()?;
        if !matches!(ty.bytes(), 4 | 8) || count > 4 || op.is_some_and(|op| !reduces_type(op, ty, Space::Cluster)) {
            return Err(parts.unsupported());
        }
        let [to, value, mbarrier] = operands else { return Err(parts.operands()) };
        let mut access = self.address(to, Some(Space::Cluster), parts)?;
        self.elements(&mut access, value, (ty, count), false, parts)?;
        let mbarrier = self.address(mbarrier, Some(Space::Cluster), parts)?;
        let reduce = op.map(|op| atom(op, ty, Space::Cluster, access.site));
        let store = StoreAsync { to: access, mbarrier, reduce };
        self.emit(OpClass::Async, Op::StoreAsync(Box::new(store)));
        Ok(())
    }
}

fn reduces_type(op: AtomOp, ty: Type, to: Space) -> bool {
    reduces(op, ty) || (to == Space::Global && reduces_global(op, ty))
}

/// One element's part of a reduction. Additions of f32 flush subnormals in global memory.
fn atom(op: AtomOp, ty: Type, space: Space, site: u32) -> Atom {
    let at = Access {
        space: Some(space),
        base: NONE,
        base_wide: true,
        offset: 0,
        size: ty.bytes() as u8,
        count: 0,
        regs: [NONE; 8],
        wide: ty.bytes() == 8,
        extend: 0,
        read_only: false,
        strong: true,
        order: Order::RELAXED,
        site,
    };
    Atom { align: at.size, at, op, ty, d: NONE }
}
