//! Operations among the blocks of a cluster.

use crate::counters::OpClass;
use crate::ptx::{LoadError, Operand, Type};

use super::context::Lowerer;
use super::op::Op;
use super::parts::Parts;

type Done = Result<(), LoadError>;

impl<'a> Lowerer<'a, '_> {
    /// `mapa` and `getctarank`.
    pub(super) fn cluster_address(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        let generic = !parts.take("shared::cluster");
        let ty = parts.ty()?;
        parts.finish()?;
        if !matches!(ty, Type::U32 | Type::U64) || (generic && ty == Type::U32) {
            return Err(parts.unsupported());
        }
        let wide = ty == Type::U64;
        let op = match (parts.base(), operands) {
            ("mapa", [d, a, b]) => {
                let d = self.target(d, ty, parts)?;
                let (a, b) = (self.source(a, ty, parts)?, self.source(b, Type::U32, parts)?);
                Op::MapRank { generic, wide, d, a, b }
            }
            ("getctarank", [d, a]) => {
                let d = self.target(d, Type::U32, parts)?;
                let a = self.source(a, ty, parts)?;
                Op::RankOf { generic, wide, d, a }
            }
            _ => return Err(parts.operands()),
        };
        self.emit(OpClass::Alu, op);
        Ok(())
    }

    /// `barrier.cluster`: `.release` and `.acquire` unless it says `.relaxed`.
    pub(super) fn cluster_barrier(&mut self, parts: &mut Parts<'_>, operands: &[Operand<'a>]) -> Done {
        parts.take("cluster");
        let arrives = parts.take_of(&[("arrive", true), ("wait", false)]).ok_or_else(|| parts.unsupported())?;
        let orders: &[&str] = if arrives { &["release", "relaxed"] } else { &["acquire"] };
        let relaxed = orders.iter().find(|&order| parts.take(order)) == Some(&"relaxed");
        let aligned = parts.take("aligned");
        parts.finish()?;
        if !operands.is_empty() {
            return Err(parts.operands());
        }
        let op = if arrives { Op::ClusterArrive { aligned, relaxed } } else { Op::ClusterWait { aligned } };
        self.emit(OpClass::Barrier, op);
        Ok(())
    }
}
