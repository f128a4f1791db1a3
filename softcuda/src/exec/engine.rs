//! The interpreter's inner loop.
//!
//! The loop is one function, compiled twice where it pays: once for the processor that every
//! program may assume, once for one with 256-bit vectors and fused multiply-add. Both compute the
//! same bits.

use crate::counters::OpClass;
use crate::fault::FaultKind;
use crate::lower::op::{Clock, Combine, Inst, NONE, Op, PredRef, Reg, Wide};
use crate::ptx::Space;

use super::alu::{self, map2};
use super::barrier::{Arrival, arrive};
use super::convert;
use super::registers::{LANES, Registers};
use super::state::{Group, Problem, Shared, State, Step, Warp, Worker};
use super::undefined::propagate;
use super::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, alu64, half};

/// The main loop that fits this processor.
pub(super) type RunWarp = fn(&mut Worker<'_>, &mut Shared, &mut Warp, u32) -> Result<(), (Box<Problem>, u32)>;

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
        return |worker, shared, warp, budget| {
            // SAFETY: the processor has the features that the function is compiled for.
            unsafe { run_avx2(worker, shared, warp, budget) }
        };
    }
    |worker, shared, warp, budget| run(worker, shared, warp, budget)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt")]
fn run_avx2(
    worker: &mut Worker<'_>,
    shared: &mut Shared,
    warp: &mut Warp,
    budget: u32,
) -> Result<(), (Box<Problem>, u32)> {
    run(worker, shared, warp, budget)
}

/// Runs a warp until it waits for others, has nothing left to do, or has had its turn. An error
/// comes with the place of the operation.
#[inline(always)]
fn run(worker: &mut Worker<'_>, shared: &mut Shared, warp: &mut Warp, budget: u32) -> Result<(), (Box<Problem>, u32)> {
    let code: &[Inst] = &worker.launch.entry.code;
    let mut left = budget;
    worker.polls = 0;
    while left > 0 && worker.polls < POLLS {
        let Some(index) = warp.choose(code, shared) else { return Ok(()) };
        let mut lanes = Lanes {
            pc: warp.groups[index].pc,
            mask: warp.groups[index].mask,
            state: State::Ready,
            fork: None,
            stop: false,
        };
        let limit = warp.meeting_point(index);
        let before = left;
        while left > 0 && lanes.pc < limit {
            left -= 1;
            let inst = &code[lanes.pc as usize];
            if let Err(problem) = step(worker, shared, warp, code, inst, &mut lanes) {
                return Err((problem, lanes.pc));
            }
            if lanes.stop {
                break;
            }
        }
        let spent = before - left;
        warp.steps += u64::from(spent);
        let diverged = warp.groups.len() > 1 || lanes.fork.is_some();
        let group = &mut warp.groups[index];
        group.age = if diverged { group.age.saturating_add(spent) } else { 0 };
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
const POLLS: u32 = 64;

/// The group that runs, while it runs.
struct Lanes {
    pc: u32,
    mask: u32,
    state: State,
    /// Lanes that part from the group.
    fork: Option<(u32, u32, State)>,
    /// The group cannot simply go on.
    stop: bool,
}

/// Lanes in which an operand is not wholly defined; none if there is no operand.
#[inline(always)]
fn hazy(r: &Registers, reg: Reg, active: u32) -> u32 {
    active & !r.defined(reg)
}

/// Notes what is defined in the result `d` of `op`.
#[inline(always)]
fn settle(r: &mut Registers, op: &Op, d: Reg, active: u32, hazy: u32) {
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
    shared: &mut Shared,
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
            let v = map2(r.get64(a), r.get32(b), |x, y| alu::shift64(f, x, y));
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
            let v = map2(&high, &low, |x, y| x << 16 | y & 0xffff);
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
        Op::Load(ref access) => worker.load(shared, warp, access, active)?,
        Op::Store(ref access) => worker.store(shared, warp, access, active)?,
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
            let ready = warp.meet(s.members, active, false, code)?;
            if ready != 0 {
                warp.shuffle(s, ready)?;
            }
            wait_for_members(lanes, active & !ready);
            return Ok(());
        }
        _ => return rare(worker, shared, warp, code, op, lanes, active),
    }
    lanes.pc += 1;
    Ok(())
}

/// Logic on predicates: a defined operand that decides makes the result defined.
#[inline(always)]
fn combine(k: Combine, (a, da): (u32, u32), (b, db): (u32, u32)) -> (u32, u32) {
    match k {
        Combine::None => (a, da),
        Combine::And => (a & b, (da & db) | (da & !a) | (db & !b)),
        Combine::Or => (a | b, (da & db) | (da & a) | (db & b)),
        Combine::Xor => (a ^ b, da & db),
    }
}

#[inline(always)]
fn settle_parts(r: &mut Registers, op: &Op, parts: &[Reg], active: u32, hazy: u32) {
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
fn set_part(r: &mut Registers, reg: Reg, values: &[u32; LANES], mask: u32) {
    if reg != NONE {
        r.set32(reg, values, mask);
    }
}

/// The lanes of a `.sync` operation that must wait part from those that go on.
#[inline(always)]
fn wait_for_members(lanes: &mut Lanes, waiting: u32) {
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

/// Operations that are not worth a place in the hot loop.
#[inline(never)]
fn rare(
    worker: &mut Worker<'_>,
    shared: &mut Shared,
    warp: &mut Warp,
    code: &[Inst],
    op: &Op,
    lanes: &mut Lanes,
    active: u32,
) -> Step {
    match *op {
        Op::Exit => {
            leave(worker, shared, warp, active);
            lanes.mask &= !active;
            lanes.stop = true;
        }
        Op::Bar(ref bar) => match arrive(worker, shared, warp, bar, active)? {
            Arrival::Pass => {}
            Arrival::WaitForWarp => {
                wait_for_members(lanes, active);
                return Ok(());
            }
            Arrival::Wait(state) => {
                if active == lanes.mask {
                    lanes.state = state;
                } else {
                    lanes.fork = Some((lanes.pc, active, state));
                    lanes.mask &= !active;
                    lanes.pc += 1;
                }
                lanes.stop = true;
                return Ok(());
            }
        },
        Op::WarpSync { members } => {
            let ready = warp.meet(members, active, true, code)?;
            wait_for_members(lanes, active & !ready);
            return Ok(());
        }
        Op::Vote { members, .. }
        | Op::Match { members, .. }
        | Op::Redux { members, .. }
        | Op::Elect { members, .. } => {
            let ready = warp.meet(members, active, false, code)?;
            let values = *warp.r.get32(members);
            if ready != 0 {
                match *op {
                    Op::Vote { f, d, a, .. } => warp.vote(f, d, a, &values, ready)?,
                    Op::Redux { f, d, a, .. } => warp.reduce(f, d, a, &values, ready)?,
                    Op::Elect { d, p, .. } => warp.elect(d, p, &values, ready)?,
                    _ => warp.match_lanes(op, &values, ready)?,
                }
            }
            wait_for_members(lanes, active & !ready);
            return Ok(());
        }
        Op::Brx { index, ref targets } => return branch_indexed(warp, index, targets, lanes, active),
        Op::Atom(ref atom) => worker.atomic(shared, warp, atom, active)?,
        Op::CpAsync(ref copy) => worker.copy_async(shared, warp, copy, active)?,
        Op::CpCommit => worker.commit_copies(warp, active),
        Op::CpWait(pending) => worker.wait_copies(shared, warp, active, Some(pending))?,
        Op::CpWaitAll => worker.wait_copies(shared, warp, active, None)?,
        Op::Trap => {
            let lane = active.trailing_zeros() as usize;
            let detail = "the kernel executed `trap`".to_owned();
            return Err(Problem::new(FaultKind::Trap, lane, 0, detail));
        }
        Op::Assert { message, file, line, function } => {
            return Err(worker.assertion(warp, [message, file, line, function], active));
        }
        Op::Pause => worker.polls += POLLS,
        Op::Fence | Op::Nop => {}
        Op::ActiveMask { d } => {
            warp.r.set32(d, &[active; LANES], active);
            warp.r.define(d, active);
        }
        Op::Clock { f, d } => {
            let now = warp.steps;
            warp.r.define(d, active);
            match f {
                Clock::Low => warp.r.set32(d, &[now as u32; LANES], active),
                Clock::High => warp.r.set32(d, &[(now >> 32) as u32; LANES], active),
                Clock::Whole | Clock::Timer => warp.r.set64(d, &[now; LANES], active),
            }
            // A timed wait must see time pass even if nothing else happens.
            warp.steps += 64;
            worker.polls += 1;
        }
        _ => rare_arithmetic(&mut warp.r, op, active),
    }
    lanes.pc += 1;
    Ok(())
}

/// Lanes whose threads end.
fn leave(worker: &mut Worker<'_>, shared: &mut Shared, warp: &mut Warp, lanes: u32) {
    warp.live &= !lanes;
    shared.exited += lanes.count_ones();
    worker.progress += 1;
    // Those that wait for the exited lanes may go on now.
    for group in &mut warp.groups {
        if group.state == State::Sync {
            group.state = State::Ready;
        }
    }
}

fn branch_indexed(warp: &mut Warp, index: Reg, targets: &[u32], lanes: &mut Lanes, active: u32) -> Step {
    let first = active.trailing_zeros() as usize;
    if active & !warp.r.defined(index) != 0 {
        let detail = "the branch index depends on uninitialised data".to_owned();
        return Err(Problem::new(FaultKind::Uninitialised, first, 0, detail));
    }
    let values = warp.r.get32(index);
    let chosen = values[first];
    let Some(&to) = targets.get(chosen as usize) else {
        let detail = format!("branch index {chosen} of a table of {}", targets.len());
        return Err(Problem::new(FaultKind::OutOfBounds, first, 0, detail));
    };
    let same = (0..LANES)
        .filter(|&lane| active >> lane & 1 != 0 && values[lane] == chosen)
        .fold(0u32, |mask, lane| mask | 1 << lane);
    lanes.stop = true;
    if same == lanes.mask {
        lanes.pc = to;
    } else {
        // The rest comes back to this branch, one target at a time.
        lanes.fork = Some((to, same, State::Ready));
        lanes.mask &= !same;
        if active == same {
            lanes.pc += 1;
        }
    }
    Ok(())
}

fn rare_arithmetic(r: &mut Registers, op: &Op, active: u32) {
    match *op {
        Op::Bfi32 { d, a, b, c, e } => {
            let hazy = [a, b, c, e].iter().fold(0, |all, &reg| all | hazy(r, reg, active));
            settle(r, op, d, active, hazy);
            let mut v = [0; LANES];
            for (lane, value) in v.iter_mut().enumerate() {
                let [a, b, c, e] = [a, b, c, e].map(|reg| r.get32(reg)[lane]);
                *value = alu::bfi32(a, b, c, e);
            }
            r.set32(d, &v, active);
        }
        Op::Bfi64 { d, a, b, c, e } => {
            let hazy = [a, b, c, e].iter().fold(0, |all, &reg| all | hazy(r, reg, active));
            settle(r, op, d, active, hazy);
            let mut v = [0; LANES];
            for (lane, value) in v.iter_mut().enumerate() {
                let (a, b) = (r.get64(a)[lane], r.get64(b)[lane]);
                *value = alu::bfi64(a, b, r.get32(c)[lane], r.get32(e)[lane]);
            }
            r.set64(d, &v, active);
        }
        Op::Bfe64 { signed, d, a, b, c } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active) | hazy(r, c, active);
            settle(r, op, d, active, hazy);
            let v = alu::map3(r.get64(a), r.get32(b), r.get32(c), |x, y, z| alu::bfe64(signed, x, y, z));
            r.set64(d, &v, active);
        }
        Op::Count64 { f, d, a } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            let v = alu::map1(r.get64(a), |x| alu::count64(f, x));
            r.set32(d, &v, active);
        }
        Op::Carry { .. } => carry(r, op, active),
        Op::CmpPair { t, f, m, p, q, a, b } => {
            let (low, high) = half::compare_pairs(t, f, m, r.get32(a), r.get32(b));
            let mut known = [u32::MAX; 2];
            for lane in 0..LANES {
                let bits = r.undefined32(a, lane) | r.undefined32(b, lane);
                known[0] &= !(u32::from(bits & 0xffff != 0) << lane);
                known[1] &= !(u32::from(bits >> 16 != 0) << lane);
            }
            for (target, value, defined) in [(p, low, known[0]), (q, high, known[1])] {
                if target != NONE {
                    r.set_predicate(target, value, defined, active);
                }
            }
        }
        Op::Test { f, wide, p, a } => {
            let mut value = 0;
            for lane in 0..LANES {
                let bit = if wide {
                    super::float::test64(f, r.get64(a)[lane])
                } else {
                    super::float::test32(f, r.get32(a)[lane])
                };
                value |= u32::from(bit) << lane;
            }
            if p != NONE {
                r.set_predicate(p, value, r.defined(a), active);
            }
        }
        Op::PackFour { wide, d, ref parts } => {
            let hazy = parts.iter().fold(0, |all, &reg| all | hazy(r, reg, active));
            settle(r, op, d, active, hazy);
            let (width, mask) = if wide { (16, 0xffff) } else { (8, 0xff) };
            let mut v = [0u64; LANES];
            for (lane, value) in v.iter_mut().enumerate() {
                for (index, &part) in parts.iter().enumerate() {
                    *value |= u64::from(r.get32(part)[lane] & mask) << (width * index);
                }
            }
            if wide {
                r.set64(d, &v, active);
            } else {
                r.set32(d, &v.map(|x| x as u32), active);
            }
        }
        Op::UnpackFour { wide, a, ref parts } => {
            let hazy = hazy(r, a, active);
            settle_parts(r, op, &parts[..], active, hazy);
            let values: [u64; LANES] = if wide { *r.get64(a) } else { r.get32(a).map(u64::from) };
            let (width, mask) = if wide { (16, 0xffff) } else { (8, 0xff) };
            for (index, &part) in parts.iter().enumerate() {
                let v = values.map(|x| (x >> (width * index)) as u32 & mask);
                set_part(r, part, &v, active);
            }
        }
        Op::IsSpace { space, p, a } => {
            let mut value = 0;
            for (lane, &address) in r.get64(a).iter().enumerate() {
                let window = address >> 48 << 48;
                let inside = match space {
                    Space::Shared => window == SHARED_WINDOW,
                    Space::Local => window == LOCAL_WINDOW,
                    Space::Param => window == PARAM_WINDOW,
                    _ => ![SHARED_WINDOW, LOCAL_WINDOW, PARAM_WINDOW].contains(&window),
                };
                value |= u32::from(inside) << lane;
            }
            if p != NONE {
                r.set_predicate(p, value, r.defined(a), active);
            }
        }
        _ => debug_assert!(false, "an operation without an implementation: {op:?}"),
    }
}

fn carry(r: &mut Registers, op: &Op, active: u32) {
    let Op::Carry { f, wide, reads, writes, d, a, b, c } = *op else { return };
    let mut hazy = [a, b].iter().fold(0, |all, &reg| all | hazy_operand(r, reg, active));
    hazy |= hazy_operand(r, c, active);
    if reads {
        hazy |= active & !r.carry_defined;
    }
    let (mut results, mut out) = ([0u64; LANES], 0u32);
    for (lane, result) in results.iter_mut().enumerate() {
        let value = |reg: Reg| match reg {
            NONE => 0,
            reg if wide => r.get64(reg)[lane],
            reg => u64::from(r.get32(reg)[lane]),
        };
        let carry_in = reads && r.carry >> lane & 1 != 0;
        let (value, carry_out) = alu64::carry(f, wide, [value(a), value(b), value(c)], carry_in);
        *result = value;
        out |= u32::from(carry_out) << lane;
    }
    if writes {
        r.carry = (r.carry & !active) | (out & active);
        r.carry_defined = (r.carry_defined & !active) | (active & !hazy);
    }
    r.define(d, active & !hazy);
    for lane in super::access::lanes_of(hazy) {
        if wide {
            r.set_undefined64(d, lane, u64::MAX);
        } else {
            r.set_undefined32(d, lane, u32::MAX);
        }
    }
    if wide {
        r.set64(d, &results, active);
    } else {
        r.set32(d, &results.map(|x| x as u32), active);
    }
}

fn hazy_operand(r: &Registers, reg: Reg, active: u32) -> u32 {
    if reg == NONE { 0 } else { hazy(r, reg, active) }
}
