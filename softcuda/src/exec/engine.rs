//! The interpreter's inner loop.
//!
//! The loop is one function, compiled twice where it pays: once for the processor that every
//! program may assume, once for one with 256-bit vectors and fused multiply-add. Both compute the
//! same bits.

use crate::counters::OpClass;
use crate::fault::FaultKind;
use crate::lower::op::{Combine, Inst, NONE, Op, PredRef, Reg, Wide};

use super::alu::{self, map2};
use super::cluster::Cluster;
use super::convert;
use super::integer;
use super::rare::rare;
use super::registers::{LANES, Registers};
use super::state::{Group, Problem, State, Step, Warp, Worker};
use super::sync::Choice;
use super::undefined::propagate;
use super::{alu64, half};

/// The main loop that fits this processor.
pub(super) type RunWarp = fn(&mut Worker<'_>, &mut Cluster, &mut Warp, u32) -> Result<(), (Box<Problem>, u32)>;

/// Chooses the main loop.
pub(super) fn run_warp() -> RunWarp {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("bmi1")
        && std::arch::is_x86_feature_detected!("bmi2")
        && std::arch::is_x86_feature_detected!("lzcnt")
        && std::arch::is_x86_feature_detected!("popcnt")
    {
        return |worker, cluster, warp, budget| {
            // SAFETY: the processor has the features that the function is compiled for.
            unsafe { run_avx2(worker, cluster, warp, budget) }
        };
    }
    |worker, cluster, warp, budget| run(worker, cluster, warp, budget)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx2(
    worker: &mut Worker<'_>,
    cluster: &mut Cluster,
    warp: &mut Warp,
    budget: u32,
) -> Result<(), (Box<Problem>, u32)> {
    run(worker, cluster, warp, budget)
}

/// Runs a warp until it waits for others, has nothing left to do, or has had its turn. An error
/// comes with the place of the operation.
#[inline(always)]
fn run(
    worker: &mut Worker<'_>,
    cluster: &mut Cluster,
    warp: &mut Warp,
    budget: u32,
) -> Result<(), (Box<Problem>, u32)> {
    let code: &[Inst] = &worker.launch.entry.code;
    let mut left = budget;
    let traced = worker.tracer.is_some();
    worker.polls = 0;
    while left > 0 && worker.polls < POLLS {
        let Some(Choice { index, limit, turn }) = warp.choose(code, cluster) else { return Ok(()) };
        let mut lanes = Lanes {
            pc: warp.groups[index].pc,
            mask: warp.groups[index].mask,
            state: State::Ready,
            fork: None,
            stop: false,
        };
        let (before, polls) = (left, worker.polls);
        let until = left.saturating_sub(turn);
        while left > until && lanes.pc < limit {
            left -= 1;
            let inst = &code[lanes.pc as usize];
            let (pc, read) = (lanes.pc, worker.counters.global_read_bytes);
            if let Err(problem) = step(worker, cluster, warp, code, inst, &mut lanes) {
                return Err((problem, lanes.pc));
            }
            if traced {
                worker.trace_flight(warp, pc, read);
            }
            if lanes.stop {
                break;
            }
        }
        // Lanes that wait for others of their warp will execute the operation once more.
        match (lanes.state, lanes.fork) {
            (State::Sync, _) => worker.retract(&code[lanes.pc as usize], 1, lanes.mask),
            (_, Some((pc, mask, State::Sync))) => worker.retract(&code[pc as usize], 0, mask),
            _ => {}
        }
        let spent = before - left;
        warp.steps += u64::from(spent);
        // Polling counts more: what it waits for may be up to the other lanes.
        let age = spent + POLL_AGE * (worker.polls - polls);
        let diverged = warp.groups.len() > 1 || lanes.fork.is_some();
        let group = &mut warp.groups[index];
        group.age = if diverged { group.age.saturating_add(age) } else { 0 };
        (group.pc, group.mask, group.state) = (lanes.pc, lanes.mask, lanes.state);
        let age = group.age;
        if lanes.mask == 0 {
            warp.groups.swap_remove(index);
        }
        if let Some((pc, mask, state)) = lanes.fork {
            warp.groups.push(Group { pc, mask, state, age });
        }
    }
    Ok(())
}

/// Polls of memory after which a warp lets others run.
pub(super) const POLLS: u32 = 64;

/// Operations that one poll counts for in the turns of diverged lanes.
const POLL_AGE: u32 = 64;

/// The group that runs, while it runs.
pub(super) struct Lanes {
    pub(super) pc: u32,
    pub(super) mask: u32,
    pub(super) state: State,
    /// Lanes that part from the group.
    pub(super) fork: Option<(u32, u32, State)>,
    /// The group cannot simply go on.
    pub(super) stop: bool,
}

/// Lanes in which an operand is not wholly defined; none if there is no operand.
#[inline(always)]
pub(super) fn hazy(r: &Registers, reg: Reg, active: u32) -> u32 {
    active & !r.defined(reg)
}

/// Notes what is defined in the result `d` of `op`.
#[inline(always)]
pub(super) fn settle(r: &mut Registers, op: &Op, d: Reg, active: u32, hazy: u32) {
    if hazy == 0 {
        r.define(d, active);
    } else {
        r.define(d, active & !hazy);
        propagate(r, op, hazy);
    }
}

#[cold]
fn undefined_guard(lanes: u32) -> Box<Problem> {
    let detail = "the predicate depends on uninitialised data".to_owned();
    Problem::new(FaultKind::Uninitialised, lanes.trailing_zeros() as usize, 0, detail)
}

/// Executes one operation.
#[inline(always)]
fn step(
    worker: &mut Worker<'_>,
    cluster: &mut Cluster,
    warp: &mut Warp,
    code: &[Inst],
    inst: &Inst,
    lanes: &mut Lanes,
) -> Step {
    let class = inst.class.map_or(OpClass::COUNT, |class| class as usize);
    let active = if inst.guard == PredRef::TRUE {
        lanes.mask
    } else {
        let undefined = lanes.mask & !warp.r.predicate_defined(inst.guard);
        if undefined != 0 {
            return Err(undefined_guard(undefined));
        }
        lanes.mask & warp.r.predicate(inst.guard)
    };
    worker.issued[class] += 1;
    worker.executed[class] += u64::from(active.count_ones());
    if active == 0 {
        lanes.pc += 1;
        return Ok(());
    }
    let op = &inst.op;
    let r = &mut warp.r;
    match *op {
        Op::Un32 { f, m, d, a } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            let v = alu::un32(f, m, r.get32(a));
            r.set32(d, &v, active);
        }
        Op::Bin32 { f, m, d, a, b } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            settle(r, op, d, active, hazy);
            let v = alu::bin32(f, m, r.get32(a), r.get32(b));
            r.set32(d, &v, active);
        }
        Op::Tri32 { f, m, lut, d, a, b, c } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active) | hazy(r, c, active);
            settle(r, op, d, active, hazy);
            let v = alu::tri32(f, m, lut, r.get32(a), r.get32(b), r.get32(c));
            r.set32(d, &v, active);
        }
        Op::Un64 { f, m, d, a } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            let v = alu64::un64(f, m, r.get64(a));
            r.set64(d, &v, active);
        }
        Op::Bin64 { f, m, d, a, b } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            settle(r, op, d, active, hazy);
            let v = alu64::bin64(f, m, r.get64(a), r.get64(b));
            r.set64(d, &v, active);
        }
        Op::Tri64 { f, m, d, a, b, c } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active) | hazy(r, c, active);
            settle(r, op, d, active, hazy);
            let v = alu64::tri64(f, m, r.get64(a), r.get64(b), r.get64(c));
            r.set64(d, &v, active);
        }
        Op::Shift64 { f, d, a, b } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            settle(r, op, d, active, hazy);
            let v = map2(r.get64(a), r.get32(b), |x, y| integer::shift64(f, x, y));
            r.set64(d, &v, active);
        }
        Op::Wide { f, d, a, b, c } => {
            let adds = matches!(f, Wide::MadS | Wide::MadU);
            let third = if adds { hazy(r, c, active) } else { 0 };
            let hazy = hazy(r, a, active) | hazy(r, b, active) | third;
            settle(r, op, d, active, hazy);
            let zero = [0; LANES];
            let c = if adds { r.get64(c) } else { &zero };
            let v = alu::wide(f, r.get32(a), r.get32(b), c);
            r.set64(d, &v, active);
        }
        Op::Half { f, t, m, d, a, b, c } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active) | hazy(r, c, active);
            settle(r, op, d, active, hazy);
            let v = half::half(f, t, m, r.get32(a), r.get32(b), r.get32(c));
            r.set32(d, &v, active);
        }
        Op::Cvt { spec, d, a } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            match (spec.from.bytes() == 8, spec.wide_to == 64) {
                (false, false) => {
                    let v = convert::cvt32(spec, r.get32(a));
                    r.set32(d, &v, active);
                }
                (false, true) => {
                    let v = convert::cvt32_to_64(spec, r.get32(a));
                    r.set64(d, &v, active);
                }
                (true, false) => {
                    let v = convert::cvt64_to_32(spec, r.get64(a));
                    r.set32(d, &v, active);
                }
                (true, true) => {
                    let v = convert::cvt64(spec, r.get64(a));
                    r.set64(d, &v, active);
                }
            }
        }
        Op::CvtPack { spec, d, a, b } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            settle(r, op, d, active, hazy);
            let part = convert::part(spec);
            let high = convert::cvt32(part, r.get32(a));
            let low = convert::cvt32(part, r.get32(b));
            let v = convert::pair(spec, &high, &low);
            r.set32(d, &v, active);
        }
        Op::Cmp { ty, f, k, c, p, q, a, b } => {
            use crate::lower::op::CompareType::{F64, S64, U64};
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            let value = if matches!(ty, S64 | U64 | F64) {
                alu::compare64(ty, f, r.get64(a), r.get64(b))
            } else {
                alu::compare32(ty, f, r.get32(a), r.get32(b))
            };
            let (other, known) = (r.predicate(c), r.predicate_defined(c));
            for (target, value) in [(p, value), (q, !value)] {
                if target != NONE {
                    let (value, defined) = combine(k, (value, !hazy), (other, known));
                    r.set_predicate(target, value, defined, active);
                }
            }
        }
        Op::Selp32 { d, a, b, p } => {
            let chosen = r.predicate(p);
            let defined = (chosen & r.defined(a)) | (!chosen & r.defined(b));
            let hazy = active & !(defined & r.predicate_defined(p));
            settle(r, op, d, active, hazy);
            let mut v = *r.get32(b);
            let a = r.get32(a);
            for lane in 0..LANES {
                let take = (chosen >> lane & 1).wrapping_neg();
                v[lane] = (v[lane] & !take) | (a[lane] & take);
            }
            r.set32(d, &v, active);
        }
        Op::Selp64 { d, a, b, p } => {
            let chosen = r.predicate(p);
            let defined = (chosen & r.defined(a)) | (!chosen & r.defined(b));
            let hazy = active & !(defined & r.predicate_defined(p));
            settle(r, op, d, active, hazy);
            let mut v = *r.get64(b);
            let a = r.get64(a);
            for lane in 0..LANES {
                let take = u64::from(chosen >> lane & 1).wrapping_neg();
                v[lane] = (v[lane] & !take) | (a[lane] & take);
            }
            r.set64(d, &v, active);
        }
        Op::PredBin { k, d, a, b } => {
            if d != NONE {
                let a = (r.predicate(a), r.predicate_defined(a));
                let b = (r.predicate(b), r.predicate_defined(b));
                let (value, defined) = combine(k, a, b);
                r.set_predicate(d, value, defined, active);
            }
        }
        Op::Pack64 { d, a, b } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            settle(r, op, d, active, hazy);
            let v = map2(r.get32(a), r.get32(b), |x, y| u64::from(x) | u64::from(y) << 32);
            r.set64(d, &v, active);
        }
        Op::Pack32 { d, a, b } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active);
            settle(r, op, d, active, hazy);
            let v = map2(r.get32(a), r.get32(b), |x, y| x & 0xffff | y << 16);
            r.set32(d, &v, active);
        }
        Op::Unpack64 { d, e, a } => {
            let hazy = hazy(r, a, active);
            settle_parts(r, op, &[d, e], active, hazy);
            let (low, high) = (alu::map1(r.get64(a), |x| x as u32), alu::map1(r.get64(a), |x| (x >> 32) as u32));
            set_part(r, d, &low, active);
            set_part(r, e, &high, active);
        }
        Op::Unpack32 { d, e, a } => {
            let hazy = hazy(r, a, active);
            settle_parts(r, op, &[d, e], active, hazy);
            let (low, high) = (alu::map1(r.get32(a), |x| x & 0xffff), alu::map1(r.get32(a), |x| x >> 16));
            set_part(r, d, &low, active);
            set_part(r, e, &high, active);
        }
        Op::Load(ref access) => {
            worker.load(cluster, warp, access, active)?;
            lanes.stop = access.strong && worker.polls >= POLLS;
        }
        Op::Store(ref access) => worker.store(cluster, warp, access, active)?,
        Op::Bra { to } => {
            if active == lanes.mask {
                // Others may be where this jumps over.
                lanes.stop = warp.groups.len() > 1;
                lanes.pc = to;
            } else {
                worker.counters.divergent_branches += 1;
                lanes.fork = Some((to, active, State::Ready));
                lanes.mask &= !active;
                lanes.pc += 1;
                lanes.stop = true;
            }
            return Ok(());
        }
        Op::Shfl(ref s) => {
            let (ready, _) = warp.meet(s.members, active, false, code)?;
            if ready != 0 {
                warp.shuffle(s, ready)?;
            }
            wait_for_members(lanes, active & !ready);
            return Ok(());
        }
        _ => return rare(worker, cluster, warp, code, op, lanes, active),
    }
    lanes.pc += 1;
    Ok(())
}

/// Logic on predicates: a defined operand that decides makes the result defined.
#[inline(always)]
pub(super) fn combine(k: Combine, (a, da): (u32, u32), (b, db): (u32, u32)) -> (u32, u32) {
    match k {
        Combine::None => (a, da),
        Combine::And => (a & b, (da & db) | (da & !a) | (db & !b)),
        Combine::Or => (a | b, (da & db) | (da & a) | (db & b)),
        Combine::Xor => (a ^ b, da & db),
    }
}

#[inline(always)]
pub(super) fn settle_parts(r: &mut Registers, op: &Op, parts: &[Reg], active: u32, hazy: u32) {
    if hazy != 0 {
        propagate(r, op, hazy);
    }
    for &part in parts {
        if part != NONE {
            r.define(part, active & !hazy);
        }
    }
}

#[inline(always)]
pub(super) fn set_part(r: &mut Registers, reg: Reg, values: &[u32; LANES], mask: u32) {
    if reg != NONE {
        r.set32(reg, values, mask);
    }
}

/// The lanes of a `.sync` operation that must wait part from those that go on.
#[inline(always)]
pub(super) fn wait_for_members(lanes: &mut Lanes, waiting: u32) {
    if waiting != 0 {
        if waiting == lanes.mask {
            lanes.state = State::Sync;
            lanes.stop = true;
            return;
        }
        lanes.fork = Some((lanes.pc, waiting, State::Sync));
        lanes.mask &= !waiting;
        lanes.stop = true;
    }
    lanes.pc += 1;
}
