//! Branches, barriers and fences.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::memory::take_scope;
use super::op::{Bar, BarKind, NONE, Op, PredRef, Scope};
use super::parts::Parts;

type Done = Result<(), LoadError>;

impl<'a> Lowerer<'a, '_> {
    pub(super) fn branch(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        parts.take("uni");
        let op = match parts.base() {
            "bra" => {
                let [Operand::Name(label)] = operands else { return Err(parts.operands()) };
                Op::Bra { to: self.look_up_label(label)? }
            }
            "brx" => {
                if !parts.take("idx") {
                    return Err(parts.unsupported());
                }
                let [index, Operand::Name(table)] = operands else {
                    return Err(parts.operands());
                };
                let index = self.source(index, Type::U32, parts)?;
                let names = self.scopes.iter().rev().find_map(|scope| scope.tables.get(table)).cloned();
                let names = names.ok_or_else(|| self.unknown(table))?;
                self.targets += names.len();
                self.check_size()?;
                let targets: Result<Box<[u32]>, LoadError> =
                    names.iter().map(|name| self.look_up_label(name)).collect();
                Op::Brx { index, targets: targets? }
            }
            "ret" => match self.calls.last() {
                Some(&(_, after)) if after != u32::MAX => Op::Bra { to: after },
                _ => Op::Exit,
            },
            "exit" => Op::Exit,
            _ => Op::Trap,
        };
        parts.finish()?;
        self.emit(OpClass::Branch, op);
        Ok(())
    }

    /// Barriers, fences, pauses.
    pub(super) fn synchronise(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        match parts.base() {
            "barrier" if parts.has("cluster") => self.cluster_barrier(parts, operands),
            "bar" | "barrier" => self.barrier(parts, operands),
            "membar" => {
                let scope = take_scope(parts).ok_or_else(|| parts.unsupported())?;
                parts.finish()?;
                self.emit(OpClass::Barrier, Op::Fence { scope });
                Ok(())
            }
            "fence" => {
                // Between proxies, not between threads.
                let proxy = parts.take("proxy");
                let (to_async, global) = (parts.has("async"), parts.has("global"));
                // It orders the initialisation of mbarriers, and nothing else.
                let init = parts.take("mbarrier_init");
                for name in ["sc", "acq_rel", "acquire", "release", "alias", "async"] {
                    parts.take(name);
                }
                for name in ["async::generic", "sync_restrict::shared::cta", "sync_restrict::shared::cluster"] {
                    parts.take(name);
                }
                let scope = take_scope(parts).unwrap_or(Scope::Device);
                for name in ["global", "shared::cta", "shared::cluster"] {
                    parts.take(name);
                }
                parts.finish()?;
                let op = match (proxy, to_async && !global) {
                    (true, true) => Op::FenceProxy,
                    (true, false) => Op::Nop,
                    (false, _) if init => Op::Nop,
                    (false, _) => Op::Fence { scope },
                };
                self.emit(OpClass::Barrier, op);
                Ok(())
            }
            "nanosleep" => {
                parts.ty()?;
                parts.finish()?;
                let [time] = operands else { return Err(parts.operands()) };
                self.source(time, Type::U32, parts)?;
                self.emit(OpClass::Other, Op::Pause);
                Ok(())
            }
            "griddepcontrol" => {
                if !parts.take("wait") && !parts.take("launch_dependents") {
                    return Err(parts.unsupported());
                }
                parts.finish()?;
                self.emit(OpClass::Barrier, Op::Nop);
                Ok(())
            }
            // pmevent: for profilers.
            _ => {
                parts.take("mask");
                parts.finish()?;
                self.emit(OpClass::Other, Op::Nop);
                Ok(())
            }
        }
    }

    fn barrier(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        if parts.take("warp") {
            if !parts.take("sync") {
                return Err(parts.unsupported());
            }
            parts.finish()?;
            let [members] = operands else { return Err(parts.operands()) };
            let members = self.source(members, Type::B32, parts)?;
            self.emit(OpClass::Barrier, Op::WarpSync { members });
            return Ok(());
        }
        // `bar` is `barrier.aligned`.
        let aligned = parts.take("aligned") || parts.base() == "bar";
        parts.take("cta");
        let kind = parts.take_of(&[("sync", 0), ("arrive", 1), ("red", 2)]);
        let kind = kind.ok_or_else(|| parts.unsupported())?;
        let reduction = parts.take_of(&[("popc", BarKind::RedPopc), ("and", BarKind::RedAnd), ("or", BarKind::RedOr)]);
        let (kind, d, operands, source) = match (kind, reduction) {
            (0, None) => (BarKind::Sync, NONE, operands, None),
            (1, None) => (BarKind::Arrive, NONE, operands, None),
            (2, Some(kind)) => {
                let [d, rest @ .., source] = operands else { return Err(parts.operands()) };
                let d = if kind == BarKind::RedPopc {
                    parts.ty()?;
                    self.target(d, Type::U32, parts)?
                } else {
                    parts.take("pred");
                    let Operand::Name(name) = d else { return Err(parts.operands()) };
                    self.predicate_target(name, parts)?
                };
                (kind, d, rest, Some(source))
            }
            _ => return Err(parts.unsupported()),
        };
        parts.finish()?;
        let source = source.map_or(Ok(PredRef::TRUE), |source| self.predicate(source, parts))?;
        let (id, count) = match operands {
            [id] if kind != BarKind::Arrive => (id, None),
            [id, count] => (id, Some(count)),
            _ => return Err(parts.operands()),
        };
        let id = self.source(id, Type::U32, parts)?;
        let count = count.map_or(Ok(NONE), |count| self.source(count, Type::U32, parts))?;
        let bar = Bar { kind, aligned, id, count, source, d };
        self.emit(OpClass::Barrier, Op::Bar(Box::new(bar)));
        Ok(())
    }
}
