//! Loads, stores, atomics, asynchronous copies, cache hints.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Space, Type};

use super::context::{Lowerer, Symbol};
use super::op::{Access, Atom, AtomOp, CpAsync, Mode, NONE, Op, Order, PredRef, Reg, Scope, Un32, Un64};
use super::parts::Parts;

type Done = Result<(), LoadError>;

/// Modifiers that say how caches should behave.
const CACHE_HINTS: [&str; 2] = ["L1::", "L2::"];

fn take_space(parts: &mut Parts<'_>) -> Option<Space> {
    parts.take_of(&[
        ("global", Space::Global),
        ("const", Space::Const),
        ("shared", Space::Shared),
        ("shared::cta", Space::Shared),
        ("shared::cluster", Space::Cluster),
        ("local", Space::Local),
        ("param", Space::Param),
        ("param::entry", Space::Param),
        ("param::func", Space::Param),
    ])
}

/// Takes memory ordering and scope: whether the access is strong, and what it orders.
pub(super) fn take_ordering(parts: &mut Parts<'_>) -> (bool, Order) {
    let mut relaxed = false;
    for name in ["volatile", "relaxed", "mmio"] {
        relaxed |= parts.take(name);
    }
    let (acquire, release, both) = (parts.take("acquire"), parts.take("release"), parts.take("acq_rel"));
    parts.take("weak");
    let scope = take_scope(parts).unwrap_or(Scope::Device);
    (relaxed || acquire || release || both, Order { acquire: acquire || both, release: release || both, scope })
}

/// Takes a scope.
pub(super) fn take_scope(parts: &mut Parts<'_>) -> Option<Scope> {
    let (block, cluster) = (("cta", Scope::Block), ("cluster", Scope::Cluster));
    parts.take_of(&[block, cluster, ("gpu", Scope::Device), ("gl", Scope::Device), ("sys", Scope::Device)])
}

impl<'a> Lowerer<'a, '_> {
    /// Where `ld.param` with an address in a register reads: an inlined function's parameters are
    /// in local memory.
    pub(super) fn param_space(&self) -> Space {
        if self.calls.len() > 1 { Space::Local } else { Space::Param }
    }

    /// The address of an access to `bytes` bytes.
    pub(super) fn address(
        &mut self,
        operand: &Operand<'a>,
        space: Option<Space>,
        parts: &Parts<'_>,
    ) -> Result<Access, LoadError> {
        let Operand::Address(base, offset) = operand else { return Err(parts.operands()) };
        let mut access = Access {
            space,
            base: NONE,
            base_wide: true,
            offset: *offset,
            size: 0,
            count: 0,
            regs: [NONE; 8],
            wide: false,
            extend: 0,
            read_only: false,
            strong: false,
            order: Order::RELAXED,
            site: self.site(),
        };
        match &**base {
            Operand::Int(address) => access.offset = access.offset.wrapping_add(*address),
            Operand::Name(name) => match self.look_up(name) {
                Some(Symbol::Register { reg, ty }) if ty.bytes() >= 4 => {
                    access.base = reg;
                    access.base_wide = ty.bytes() == 8;
                    if space == Some(Space::Param) {
                        access.space = Some(self.param_space());
                    }
                }
                Some(Symbol::Memory { space: declared, address, .. }) => {
                    access.offset = access.offset.wrapping_add(address as i64);
                    let fits = match space {
                        None => true,
                        Some(Space::Param) => matches!(declared, Space::Param | Space::Local),
                        // A block's shared memory is part of its cluster's.
                        Some(Space::Cluster) => declared == Space::Shared,
                        Some(space) => space == declared,
                    };
                    if !fits {
                        return Err(parts.operands());
                    }
                    access.space = Some(declared);
                }
                Some(_) => return Err(parts.operands()),
                None => return Err(self.unknown(name)),
            },
            _ => return Err(parts.operands()),
        }
        Ok(access)
    }

    /// The elements of a load or store: their registers and whether those have 64 bits.
    pub(super) fn elements(
        &mut self,
        access: &mut Access,
        operand: &Operand<'a>,
        (ty, count): (Type, usize),
        load: bool,
        parts: &Parts<'_>,
    ) -> Done {
        let one = std::slice::from_ref(operand);
        let list = match operand {
            Operand::Vector(list) => &list[..],
            _ => one,
        };
        if list.len() != count {
            return Err(parts.operands());
        }
        access.size = ty.bytes() as u8;
        access.count = count as u8;
        let mut sizes = [0; 8];
        for (index, element) in list.iter().enumerate() {
            let (reg, size) = match (load, element) {
                (true, Operand::Name("_")) => (NONE, 0),
                (true, _) => self.loose_target(element, ty, parts)?,
                (false, _) => self.loose_source(element, ty, parts)?,
            };
            access.regs[index] = reg;
            sizes[index] = size;
        }
        let known = sizes.iter().copied().find(|&size| size != 0).unwrap_or(ty.bytes());
        access.wide = known == 8;
        if sizes.iter().any(|&size| size != 0 && (size == 8) != access.wide) {
            return Err(LoadError::unsupported(self.line, "vector elements of different sizes"));
        }
        if load && ty.is_signed() && known > ty.bytes() {
            access.extend = (known * 8) as u8;
        }
        if ty.is_float() && known > ty.bytes().max(2) {
            return Err(parts.operands());
        }
        Ok(())
    }

    pub(super) fn vector(parts: &mut Parts<'_>) -> usize {
        parts.take_of(&[("v2", 2), ("v4", 4), ("v8", 8)]).unwrap_or(1)
    }

    pub(super) fn load(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let hinted = parts.has("L2::cache_hint");
        parts.take_prefixed(&CACHE_HINTS);
        let (strong, order) = take_ordering(parts);
        let space = take_space(parts);
        let read_only = parts.take("nc");
        for name in ["ca", "cg", "cs", "lu", "cv", "unified"] {
            parts.take(name);
        }
        let count = Self::vector(parts);
        let ty = parts.ty()?;
        parts.finish()?;
        let [d, address] = operands.get(..2).unwrap_or(&[]) else { return Err(parts.operands()) };
        if operands.len() != 2 + usize::from(hinted) {
            return Err(parts.operands());
        }
        if ty == Type::B128 || ty == Type::Pred || ty.bytes() as usize * count > 32 {
            return Err(parts.unsupported());
        }
        let mut access = self.address(address, space, parts)?;
        (access.strong, access.order) = (strong, order);
        access.read_only = read_only;
        self.elements(&mut access, d, (ty, count), true, parts)?;
        let class = match access.space {
            Some(Space::Shared | Space::Cluster) => OpClass::LoadShared,
            Some(Space::Local) => OpClass::Local,
            Some(Space::Param | Space::Const) => OpClass::Constant,
            _ => OpClass::LoadGlobal,
        };
        self.emit(class, Op::Load(Box::new(access)));
        Ok(())
    }

    /// A load of a call's argument, where the callee is part of this engine.
    pub(super) fn load_argument(&mut self, name: &'a str, ty: Type, parts: &Parts<'_>) -> Result<Reg, LoadError> {
        let address = Operand::Address(Box::new(Operand::Name(name)), 0);
        let mut access = self.address(&address, Some(Space::Param), parts)?;
        access.size = ty.bytes() as u8;
        access.count = 1;
        access.wide = ty.bytes() == 8;
        let reg = if access.wide { self.temp64() } else { self.temp32() };
        access.regs[0] = reg;
        self.emit_extra(Op::Load(Box::new(access)));
        Ok(reg)
    }

    /// A store of a call's 32-bit result, where the callee is part of this engine.
    pub(super) fn store_result(&mut self, name: &'a str, reg: Reg, parts: &Parts<'_>) -> Done {
        let address = Operand::Address(Box::new(Operand::Name(name)), 0);
        let mut access = self.address(&address, Some(Space::Param), parts)?;
        (access.size, access.count, access.regs[0]) = (4, 1, reg);
        self.emit_extra(Op::Store(Box::new(access)));
        Ok(())
    }

    pub(super) fn store(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.has("async") {
            return self.store_async(parts, operands);
        }
        let hinted = parts.has("L2::cache_hint");
        parts.take_prefixed(&CACHE_HINTS);
        let (strong, order) = take_ordering(parts);
        let space = take_space(parts);
        for name in ["wb", "cg", "cs", "wt"] {
            parts.take(name);
        }
        let count = Self::vector(parts);
        let ty = parts.ty()?;
        parts.finish()?;
        let [address, value] = operands.get(..2).unwrap_or(&[]) else {
            return Err(parts.operands());
        };
        if operands.len() != 2 + usize::from(hinted) {
            return Err(parts.operands());
        }
        if ty == Type::B128 || ty == Type::Pred || ty.bytes() as usize * count > 32 {
            return Err(parts.unsupported());
        }
        let mut access = self.address(address, space, parts)?;
        (access.strong, access.order) = (strong, order);
        self.elements(&mut access, value, (ty, count), false, parts)?;
        let class = match access.space {
            Some(Space::Shared | Space::Cluster) => OpClass::StoreShared,
            Some(Space::Local) => OpClass::Local,
            _ => OpClass::StoreGlobal,
        };
        self.emit(class, Op::Store(Box::new(access)));
        Ok(())
    }

    pub(super) fn atomic(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let hinted = parts.has("L2::cache_hint");
        let returns = parts.base() == "atom";
        if parts.has("async") && !returns {
            return self.store_async(parts, operands);
        }
        parts.take_prefixed(&CACHE_HINTS);
        let (_, order) = take_ordering(parts);
        let space = take_space(parts);
        parts.take("noftz");
        let op = parts.take_of(&[
            ("add", AtomOp::Add),
            ("min", AtomOp::Min),
            ("max", AtomOp::Max),
            ("and", AtomOp::And),
            ("or", AtomOp::Or),
            ("xor", AtomOp::Xor),
            ("exch", AtomOp::Exch),
            ("cas", AtomOp::Cas),
            ("inc", AtomOp::Inc),
            ("dec", AtomOp::Dec),
        ]);
        let op = op.ok_or_else(|| parts.unsupported())?;
        let count = Self::vector(parts);
        let ty = parts.ty()?;
        parts.finish()?;
        let half = matches!(ty, Type::F16 | Type::Bf16 | Type::F16x2 | Type::Bf16x2);
        let known = match op {
            _ if count > 1 => self.known_vector(op, ty, count, space),
            AtomOp::Add => half || matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64 | Type::F32 | Type::F64),
            AtomOp::Min | AtomOp::Max => {
                matches!(ty, Type::U32 | Type::S32 | Type::U64 | Type::S64)
            }
            AtomOp::Inc | AtomOp::Dec => ty == Type::U32,
            AtomOp::And | AtomOp::Or | AtomOp::Xor | AtomOp::Exch => matches!(ty.bytes(), 4 | 8) && !ty.is_float(),
            AtomOp::Cas => matches!(ty.bytes(), 2 | 4 | 8) && !ty.is_float(),
        };
        if !known {
            return Err(parts.unsupported());
        }
        let (d, rest) = match operands.split_first() {
            Some((d, rest)) if returns => (Some(d), rest),
            _ => (None, operands),
        };
        let sources = if op == AtomOp::Cas { 2 } else { 1 };
        if rest.len() != 1 + sources + usize::from(hinted) {
            return Err(parts.operands());
        }
        if count > 1 {
            return self.atomic_vector((op, ty, count), d, (&rest[0], space, order), &rest[1], parts);
        }
        let mut at = self.address(&rest[0], space, parts)?;
        at.size = ty.bytes() as u8;
        at.count = sources as u8;
        at.wide = ty.bytes() == 8;
        (at.strong, at.order) = (true, order);
        for index in 0..sources {
            at.regs[index] = self.source(&rest[1 + index], ty, parts)?;
        }
        let d = match d {
            None | Some(Operand::Name("_")) => NONE,
            Some(d) => self.target(d, ty, parts)?,
        };
        let align = at.size;
        self.emit(OpClass::Atomic, Op::Atom(Box::new(Atom { at, op, ty, d, align })));
        Ok(())
    }

    /// The atomic operations on vectors, all of them on global memory.
    fn known_vector(&self, op: AtomOp, ty: Type, count: usize, space: Option<Space>) -> bool {
        let fits = match ty {
            Type::F32 => count <= 4 && op == AtomOp::Add,
            Type::F16 | Type::Bf16 => true,
            Type::F16x2 | Type::Bf16x2 => count <= 4,
            _ => false,
        };
        fits && matches!(op, AtomOp::Add | AtomOp::Min | AtomOp::Max) && matches!(space, None | Some(Space::Global))
    }

    /// A vector is as many operations: each is atomic, all together are not.
    fn atomic_vector(
        &mut self,
        (op, ty, count): (AtomOp, Type, usize),
        d: Option<&Operand<'a>>,
        (address, space, order): (&Operand<'a>, Option<Space>, Order),
        values: &Operand<'a>,
        parts: &Parts<'_>,
    ) -> Done {
        let Operand::Vector(values) = values else { return Err(parts.operands()) };
        let targets: &[Operand<'a>] = match d {
            None => &[],
            Some(Operand::Vector(targets)) if targets.len() == count => targets,
            Some(_) => return Err(parts.operands()),
        };
        if values.len() != count {
            return Err(parts.operands());
        }
        let mut results = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let mut at = self.address(address, space, parts)?;
            at.offset = at.offset.wrapping_add(i64::from(ty.bytes()) * index as i64);
            (at.size, at.count, at.strong, at.order) = (ty.bytes() as u8, 1, true, order);
            at.regs[0] = self.source(value, ty, parts)?;
            // A result may be a later element's operand.
            let d = if targets.is_empty() { NONE } else { self.temp32() };
            results.push(d);
            let align = if index == 0 { at.size * count as u8 } else { at.size };
            let atom = Atom { at, op, ty, d, align };
            let class = (index == 0).then_some(OpClass::Atomic);
            self.push(class, Op::Atom(Box::new(atom)));
        }
        for (target, a) in targets.iter().zip(results) {
            let d = self.target(target, ty, parts)?;
            self.emit_extra(Op::Un32 { f: Un32::Mov, m: Mode::PLAIN, d, a });
        }
        Ok(())
    }

    /// `cp.async` and its groups.
    pub(super) fn copy_async(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if !parts.take("async") {
            return Err(parts.unsupported());
        }
        if parts.has("bulk") {
            return self.copy_bulk(parts, operands);
        }
        if parts.has("mbarrier") {
            return self.copies_arrive(parts, operands);
        }
        if parts.take("commit_group") {
            parts.finish()?;
            self.emit(OpClass::Async, Op::CpCommit);
            return Ok(());
        }
        if parts.take("wait_all") {
            parts.finish()?;
            self.emit(OpClass::Async, Op::CpWaitAll);
            return Ok(());
        }
        if parts.take("wait_group") {
            parts.finish()?;
            let [Operand::Int(groups @ 0..=0x7fff_ffff)] = operands else {
                return Err(parts.operands());
            };
            self.emit(OpClass::Async, Op::CpWait(*groups as u32));
            return Ok(());
        }
        let hinted = parts.has("L2::cache_hint");
        parts.take_prefixed(&CACHE_HINTS);
        let (all_levels, _) = (parts.take("ca"), parts.take("cg"));
        if !parts.take("shared") && !parts.take("shared::cta") || !parts.take("global") {
            return Err(parts.unsupported());
        }
        parts.finish()?;
        let operands = &operands[..operands.len() - usize::from(hinted).min(operands.len())];
        let [to, from, Operand::Int(size), rest @ ..] = operands else {
            return Err(parts.operands());
        };
        let sized = matches!((size, all_levels), (16, _) | (4 | 8, true));
        if !sized || rest.len() > 1 {
            return Err(parts.operands());
        }
        let mut to = self.address(to, Some(Space::Shared), parts)?;
        let mut from = self.address(from, Some(Space::Global), parts)?;
        (to.size, from.size) = (*size as u8, *size as u8);
        let mut bytes = NONE;
        let mut ignore = PredRef::new(0, true);
        match rest {
            [] => {}
            [Operand::Not(_)] => ignore = self.predicate(&rest[0], parts)?,
            [Operand::Name(name)] if matches!(self.look_up(name), Some(Symbol::Predicate(_))) => {
                ignore = self.predicate(&rest[0], parts)?;
            }
            [source] => bytes = self.source(source, Type::U32, parts)?,
            _ => return Err(parts.operands()),
        }
        let copy = CpAsync { to, from, bytes, ignore };
        self.emit(OpClass::Async, Op::CpAsync(Box::new(copy)));
        Ok(())
    }

    /// Instructions that only advise caches do nothing but hold their place.
    pub(super) fn cache_hint(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.has("tensor") {
            return Err(parts.unsupported());
        }
        if parts.base() == "createpolicy" {
            let kind = ["fractional", "range", "cvt"].into_iter().any(|kind| parts.take(kind));
            parts.take_prefixed(&CACHE_HINTS);
            parts.take("L2");
            take_space(parts);
            let (true, Type::B64) = (kind, parts.ty()?) else { return Err(parts.unsupported()) };
            parts.finish()?;
            let Some(d) = operands.first() else { return Err(parts.operands()) };
            let d = self.target(d, Type::B64, parts)?;
            let a = self.const64(0);
            self.emit(OpClass::Other, Op::Un64 { f: Un64::Mov, m: Mode::PLAIN, d, a });
            return Ok(());
        }
        parts.take_prefixed(&CACHE_HINTS);
        for level in ["L1", "L2"] {
            parts.take(level);
        }
        take_space(parts);
        parts.finish()?;
        let [Operand::Address(..), ..] = operands else { return Err(parts.operands()) };
        self.emit(OpClass::Other, Op::Nop);
        Ok(())
    }
}
