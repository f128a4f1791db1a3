//! The registers that an operation reads and writes.

use super::op::{Access, NONE, Op, Reg};

/// What an operation does with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads it.
    Use,
    /// Writes it.
    Def,
}

fn access(access: &mut Access, role: Role, visit: &mut impl FnMut(&mut Reg, Role)) {
    visit(&mut access.base, Role::Use);
    for reg in &mut access.regs[..usize::from(access.count)] {
        visit(reg, role);
    }
}

impl Op {
    /// Calls `visit` for every register operand, the ones read before the ones written.
    pub fn visit(&mut self, mut visit: impl FnMut(&mut Reg, Role)) {
        let mut visit = |reg: &mut Reg, role: Role| {
            if *reg != NONE {
                visit(reg, role);
            }
        };
        let visit = &mut visit;
        let whole = match self {
            Op::Approximate(inner) => inner,
            op => op,
        };
        let (uses, defs): ([Option<&mut Reg>; 4], [Option<&mut Reg>; 2]) = match whole {
            Op::Un32 { d, a, .. }
            | Op::Un64 { d, a, .. }
            | Op::Count64 { d, a, .. }
            | Op::Cvt { d, a, .. }
            | Op::RankOf { d, a, .. } => ([Some(a), None, None, None], [Some(d), None]),
            Op::Bin32 { d, a, b, .. }
            | Op::Bin64 { d, a, b, .. }
            | Op::Shift64 { d, a, b, .. }
            | Op::CvtPack { d, a, b, .. }
            | Op::Selp32 { d, a, b, .. }
            | Op::Selp64 { d, a, b, .. }
            | Op::MapRank { d, a, b, .. }
            | Op::Pack64 { d, a, b }
            | Op::Pack32 { d, a, b } => ([Some(a), Some(b), None, None], [Some(d), None]),
            Op::Tri32 { d, a, b, c, .. }
            | Op::Tri64 { d, a, b, c, .. }
            | Op::Wide { d, a, b, c, .. }
            | Op::Bfe64 { d, a, b, c, .. }
            | Op::Carry { d, a, b, c, .. }
            | Op::Half { d, a, b, c, .. } => ([Some(a), Some(b), Some(c), None], [Some(d), None]),
            Op::Bfi32 { d, a, b, c, e } | Op::Bfi64 { d, a, b, c, e } => {
                ([Some(a), Some(b), Some(c), Some(e)], [Some(d), None])
            }
            Op::Cmp { a, b, .. } | Op::CmpPair { a, b, .. } => ([Some(a), Some(b), None, None], [None, None]),
            Op::Test { a, .. } | Op::IsSpace { a, .. } | Op::Brx { index: a, .. } => {
                ([Some(a), None, None, None], [None, None])
            }
            Op::Unpack64 { d, e, a } | Op::Unpack32 { d, e, a } => ([Some(a), None, None, None], [Some(d), Some(e)]),
            Op::PackFour { d, parts, .. } => {
                parts.iter_mut().for_each(|part| visit(part, Role::Use));
                ([None, None, None, None], [Some(d), None])
            }
            Op::UnpackFour { a, parts, .. } => {
                visit(a, Role::Use);
                parts.iter_mut().for_each(|part| visit(part, Role::Def));
                return;
            }
            Op::Clock { d, .. } | Op::ActiveMask { d } => ([None, None, None, None], [Some(d), None]),
            Op::Load(load) => return access(load, Role::Def, visit),
            Op::Store(store) => return access(store, Role::Use, visit),
            Op::Atom(atom) => {
                access(&mut atom.at, Role::Use, visit);
                ([None, None, None, None], [Some(&mut atom.d), None])
            }
            Op::CpAsync(copy) => {
                access(&mut copy.to, Role::Use, visit);
                access(&mut copy.from, Role::Use, visit);
                ([Some(&mut copy.bytes), None, None, None], [None, None])
            }
            Op::Mbarrier(mbarrier) => {
                access(&mut mbarrier.at, Role::Use, visit);
                ([Some(&mut mbarrier.a), None, None, None], [Some(&mut mbarrier.d), None])
            }
            Op::BulkCopy(copy) => {
                access(&mut copy.to, Role::Use, visit);
                access(&mut copy.from, Role::Use, visit);
                if let Some(mbarrier) = &mut copy.mbarrier {
                    access(mbarrier, Role::Use, visit);
                }
                ([Some(&mut copy.size), Some(&mut copy.mask), None, None], [None, None])
            }
            Op::StoreAsync(store) => {
                access(&mut store.to, Role::Use, visit);
                return access(&mut store.mbarrier, Role::Use, visit);
            }
            Op::Assert { message, file, line, function } => {
                ([Some(message), Some(file), Some(line), Some(function)], [None, None])
            }
            Op::Print { format, arguments, d } => ([Some(format), Some(arguments), None, None], [Some(d), None]),
            Op::NoFunction { a } => ([Some(a), None, None, None], [None, None]),
            Op::Bar(bar) => {
                let d = (bar.kind == super::op::BarKind::RedPopc).then_some(&mut bar.d);
                ([Some(&mut bar.id), Some(&mut bar.count), None, None], [d, None])
            }
            Op::WarpSync { members } => ([Some(members), None, None, None], [None, None]),
            Op::Shfl(shfl) => (
                [Some(&mut shfl.a), Some(&mut shfl.b), Some(&mut shfl.c), Some(&mut shfl.members)],
                [Some(&mut shfl.d), None],
            ),
            Op::Vote { f, d, members, .. } => {
                let d = (*f == super::op::VoteMode::Ballot).then_some(d);
                ([Some(members), None, None, None], [d, None])
            }
            Op::Match { d, a, members, .. } | Op::Redux { d, a, members, .. } => {
                ([Some(a), Some(members), None, None], [Some(d), None])
            }
            Op::Elect { d, members, .. } => ([Some(members), None, None, None], [Some(d), None]),
            // Only one that is not inside another.
            Op::Approximate(_)
            | Op::PredBin { .. }
            | Op::ClusterArrive { .. }
            | Op::ClusterWait { .. }
            | Op::BulkCommit
            | Op::BulkWait { .. }
            | Op::CpCommit
            | Op::CpWait(_)
            | Op::CpWaitAll
            | Op::Bra { .. }
            | Op::Exit
            | Op::Trap
            | Op::Fence { .. }
            | Op::FenceProxy
            | Op::Pause
            | Op::Nop => return,
        };
        uses.into_iter().flatten().for_each(|reg| visit(reg, Role::Use));
        defs.into_iter().flatten().for_each(|reg| visit(reg, Role::Def));
    }
}
