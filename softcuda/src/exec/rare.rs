//! Operations that are not worth a place in the hot loop.

use crate::fault::FaultKind;
use crate::lower::op::{CarryOp, Clock, Inst, NONE, Op, Reg};
use crate::ptx::Space;

use super::alu;
use super::approximate;
use super::barrier::{Arrival, arrive};
use super::cluster::Cluster;
use super::engine::{Lanes, POLLS, combine, hazy, set_part, settle, settle_parts, wait_for_members};
use super::integer;
use super::registers::{LANES, Registers};
use super::state::{Problem, State, Step, Warp, Worker};
use super::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW, alu64, half};

/// Executes an operation on the active lanes of a group.
#[inline(never)]
pub(super) fn rare(
    worker: &mut Worker<'_>,
    cluster: &mut Cluster,
    warp: &mut Warp,
    code: &[Inst],
    op: &Op,
    lanes: &mut Lanes,
    active: u32,
) -> Step {
    match *op {
        Op::Exit => {
            leave(worker, cluster, warp, active);
            lanes.mask &= !active;
            lanes.stop = true;
        }
        Op::Bar(ref bar) => match arrive(worker, cluster.own_mut(), warp, bar, active)? {
            Arrival::Pass => {}
            Arrival::WaitForWarp => {
                wait_for_members(lanes, active);
                return Ok(());
            }
            Arrival::Wait(state) => {
                part(lanes, active, state);
                return Ok(());
            }
        },
        Op::MapRank { .. } | Op::RankOf { .. } => cluster.map(warp, op, active)?,
        Op::ClusterArrive { aligned, relaxed } => {
            if let Arrival::WaitForWarp = cluster.arrive(worker, warp, (aligned, relaxed), active)? {
                wait_for_members(lanes, active);
                return Ok(());
            }
        }
        Op::ClusterWait { aligned } => match cluster.wait(warp, aligned, active)? {
            (Arrival::Pass, _) => {}
            (Arrival::WaitForWarp, waiting) => {
                wait_for_members(lanes, waiting);
                return Ok(());
            }
            (Arrival::Wait(state), waiting) => {
                part(lanes, waiting, state);
                return Ok(());
            }
        },
        Op::WarpSync { members } => {
            let (ready, released) = warp.meet(members, active, true, code)?;
            worker.counters.warp_barriers += u64::from(ready != 0);
            if let (Some(class), true) = (code[lanes.pc as usize].class, released != 0) {
                // They do not execute it again.
                worker.issued[class as usize] += 1;
                worker.executed[class as usize] += u64::from(released.count_ones());
            }
            warp.race.meet(&cluster.own().race, ready | released);
            wait_for_members(lanes, active & !ready);
            return Ok(());
        }
        Op::Vote { members, .. }
        | Op::Match { members, .. }
        | Op::Redux { members, .. }
        | Op::Elect { members, .. } => {
            let (ready, _) = warp.meet(members, active, false, code)?;
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
        Op::Atom(ref atom) => {
            worker.atomic(cluster, warp, atom, active)?;
            lanes.stop = worker.polls >= POLLS;
        }
        Op::CpAsync(ref copy) => worker.copy_async(cluster.own_mut(), warp, copy, active)?,
        Op::Mbarrier(ref mbarrier) => {
            lanes.stop = worker.mbarrier(cluster, warp, mbarrier, (active, lanes.pc))?;
        }
        Op::BulkCopy(ref copy) => worker.copy_bulk(cluster, warp, copy, (active, lanes.pc))?,
        Op::StoreAsync(ref store) => worker.store_async(cluster, warp, store, (active, lanes.pc))?,
        Op::BulkCommit => worker.commit_bulk(warp, active),
        Op::BulkWait { pending, reads } => {
            worker.wait_bulk(cluster, warp, active, (pending, reads)).map_err(|(problem, _)| problem)?;
        }
        Op::FenceProxy => cluster.own_mut().fence_proxy(),
        Op::CpCommit => worker.commit_copies(warp, active),
        Op::CpWait(pending) => worker.wait_copies(cluster.own_mut(), warp, active, Some(pending))?,
        Op::CpWaitAll => worker.wait_copies(cluster.own_mut(), warp, active, None)?,
        Op::Trap => {
            let lane = active.trailing_zeros() as usize;
            let detail = "the kernel executed `trap`".to_owned();
            return Err(Problem::new(FaultKind::Trap, lane, 0, detail));
        }
        Op::Assert { message, file, line, function } => {
            return Err(worker.assertion(warp, [message, file, line, function], active));
        }
        Op::Approximate(ref inner) => approximate::execute(&mut warp.r, inner, worker.launch.config, active),
        Op::Print { format, arguments, d } => worker.print(warp, [format, arguments, d], active)?,
        Op::NoFunction { a } => {
            let lane = active.trailing_zeros() as usize;
            let address = warp.r.get64(a)[lane];
            let detail = format!("a call of {address:#x}, where no function with such parameters is");
            return Err(Problem::new(FaultKind::InvalidCall, lane, address, detail));
        }
        Op::Pause => {
            worker.polls += POLLS;
            lanes.stop = true;
        }
        Op::Fence { scope } => warp.race.fence(&cluster.own().race, active, scope),
        Op::Nop => {}
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
            lanes.stop = worker.polls >= POLLS;
        }
        Op::IsSpace { space, p, a } => {
            let inside = |address: u64| {
                let window = address >> 48 << 48;
                match space {
                    Space::Shared => window == SHARED_WINDOW && cluster.split(address - SHARED_WINDOW).0 == cluster.me,
                    Space::Cluster => window == SHARED_WINDOW,
                    Space::Local => window == LOCAL_WINDOW,
                    Space::Param => window == PARAM_WINDOW,
                    Space::Const => worker.is_constant(address),
                    // Of kernel parameters too: their "window is contained within the .global window".
                    _ => ![SHARED_WINDOW, LOCAL_WINDOW].contains(&window) && !worker.is_constant(address),
                }
            };
            if p != NONE {
                let addresses = warp.r.get64(a).iter().enumerate();
                let value = addresses.fold(0, |mask, (lane, &at)| mask | u32::from(inside(at)) << lane);
                warp.r.set_predicate(p, value, warp.r.defined(a), active);
            }
        }
        _ => rare_arithmetic(&mut warp.r, op, active),
    }
    lanes.pc += 1;
    Ok(())
}

/// The lanes that must wait for others than their warp part from those that go on.
fn part(lanes: &mut Lanes, waiting: u32, state: State) {
    if waiting == lanes.mask {
        lanes.state = state;
    } else {
        lanes.fork = Some((lanes.pc, waiting, state));
        lanes.mask &= !waiting;
        lanes.pc += 1;
    }
    lanes.stop = true;
}

/// Lanes whose threads end.
fn leave(worker: &mut Worker<'_>, cluster: &mut Cluster, warp: &mut Warp, lanes: u32) {
    warp.live &= !lanes;
    cluster.own_mut().exited += lanes.count_ones();
    if cluster.blocks.len() > 1 {
        cluster.own_mut().race.part(&warp.race, lanes);
    }
    worker.progress += 1;
    cluster.exit(worker, warp, lanes);
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
                *value = integer::bfi32(a, b, c, e);
            }
            r.set32(d, &v, active);
        }
        Op::Bfi64 { d, a, b, c, e } => {
            let hazy = [a, b, c, e].iter().fold(0, |all, &reg| all | hazy(r, reg, active));
            settle(r, op, d, active, hazy);
            let mut v = [0; LANES];
            for (lane, value) in v.iter_mut().enumerate() {
                let (a, b) = (r.get64(a)[lane], r.get64(b)[lane]);
                *value = integer::bfi64(a, b, r.get32(c)[lane], r.get32(e)[lane]);
            }
            r.set64(d, &v, active);
        }
        Op::Bfe64 { signed, d, a, b, c } => {
            let hazy = hazy(r, a, active) | hazy(r, b, active) | hazy(r, c, active);
            settle(r, op, d, active, hazy);
            let v = alu::map3(r.get64(a), r.get32(b), r.get32(c), |x, y, z| integer::bfe64(signed, x, y, z));
            r.set64(d, &v, active);
        }
        Op::Count64 { f, d, a } => {
            let hazy = hazy(r, a, active);
            settle(r, op, d, active, hazy);
            let v = alu::map1(r.get64(a), |x| integer::count64(f, x));
            r.set32(d, &v, active);
        }
        Op::Carry { .. } => carry(r, op, active),
        Op::CmpPair { t, f, k, c, m, p, q, a, b } => {
            let (low, high) = half::compare_pairs(t, f, m, r.get32(a), r.get32(b));
            let mut known = [u32::MAX; 2];
            for lane in 0..LANES {
                let bits = r.undefined32(a, lane) | r.undefined32(b, lane);
                known[0] &= !(u32::from(bits & 0xffff != 0) << lane);
                known[1] &= !(u32::from(bits >> 16 != 0) << lane);
            }
            let other = (r.predicate(c), r.predicate_defined(c));
            for (target, value, defined) in [(p, low, known[0]), (q, high, known[1])] {
                if target != NONE {
                    let (value, defined) = combine(k, (value, defined), other);
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
    // The flag that is kept is the carry of the sum with the complement, which is there when there is
    // no borrow: NVRTC's division of 128-bit integers reads it with `addc` after `subc.cc`.
    let complement = f == CarryOp::Sub;
    let (mut results, mut out) = ([0u64; LANES], 0u32);
    for (lane, result) in results.iter_mut().enumerate() {
        let value = |reg: Reg| match reg {
            NONE => 0,
            reg if wide => r.get64(reg)[lane],
            reg => u64::from(r.get32(reg)[lane]),
        };
        let carry_in = reads && (r.carry >> lane & 1 != 0) != complement;
        let (value, carry_out) = alu64::carry(f, wide, [value(a), value(b), value(c)], carry_in);
        *result = value;
        out |= u32::from(carry_out != complement) << lane;
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
