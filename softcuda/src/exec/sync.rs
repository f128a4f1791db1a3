//! Groups of lanes, and what lanes of a warp do together.

use crate::fault::FaultKind;
use crate::lower::op::{Inst, Mode, NONE, Op, PredRef, ReduxOp, Reg, Shfl, ShflMode, VoteMode};

use super::access::lanes_of;
use super::block::{next, turn};
use super::cluster::Cluster;
use super::float;
use super::registers::{LANES, Lanes32};
use super::state::{Group, Problem, State, Step, Warp, uniform};

/// Operations a group may execute while others of its warp wait for their turn.
const TURN: u32 = 4096;

/// Groups into which a draw parts the lanes of a warp, at most.
const PARTS: usize = 4;

/// Which group runs next, and how far.
pub(super) struct Choice {
    pub(super) index: usize,
    /// Where it must stop to see whether it met another.
    pub(super) limit: u32,
    /// Operations until the next choice.
    pub(super) turn: u32,
}

/// Operations at which lanes wait for others of their warp.
fn meets(op: &Op) -> bool {
    match op {
        Op::Shfl(_) | Op::Bar(_) | Op::WarpSync { .. } => true,
        Op::Vote { .. } | Op::Match { .. } | Op::Redux { .. } | Op::Elect { .. } => true,
        _ => matches!(op, Op::ClusterArrive { .. } | Op::ClusterWait { .. }),
    }
}

impl Warp {
    /// Begins, now and then, a time in which lanes part and do not join where they meet. Most warps
    /// begin with one, since most kernels are short.
    pub(super) fn scatter(&mut self, draw: &mut u64) {
        let seldom = if self.steps == 0 { 0 } else { 7 };
        let words = next(draw);
        if words & 3 != 0 && words >> 2 & seldom == 0 && !self.is_apart() {
            self.seed = next(draw);
            self.apart = self.steps + 64 + u64::from(turn(draw, 11));
        }
    }

    /// Whether a draw keeps lanes apart for now.
    fn is_apart(&self) -> bool {
        self.steps < self.apart
    }

    /// Parts lanes that are together, as hardware with independent thread scheduling may at any
    /// operation: only what the program synchronises is ordered. Then any of the groups that can run.
    fn choose_apart(&mut self, code: &[Inst]) -> Option<Choice> {
        let words = next(&mut self.seed);
        let ready = self.groups.iter().enumerate().filter(|(_, group)| group.state == State::Ready);
        let choices = ready.clone().count().max(1);
        let index = ready.map(|(index, _)| index).nth((words >> 8) as usize % choices)?;
        let group = &mut self.groups[index];
        if meets(&code[group.pc as usize].op) {
            // What brings lanes together is executed by all of them; after it they may part.
            return Some(Choice { index, limit: u32::MAX, turn: 1 });
        }
        let leaving = group.mask & (words >> 32) as u32;
        // More groups would take time and show no more.
        if words & 1 == 0 && choices < PARTS && leaving != 0 && leaving != group.mask {
            group.mask &= !leaving;
            let parted = Group { mask: leaving, ..*group };
            self.groups.push(parted);
        }
        Some(Choice { index, limit: u32::MAX, turn: turn(&mut self.seed, 5) })
    }

    /// Joins groups at the same operation, and lets those go on whose barrier completed.
    fn gather(&mut self, code: &[Inst], cluster: &Cluster) {
        for index in 0..self.groups.len() {
            let group = self.groups[index];
            if let State::Cluster { generation } = group.state
                && cluster.barrier.generation != generation
            {
                self.attendance.leave(group.mask);
                cluster.told.learn(&cluster.own().race, &mut self.race, group.mask, false);
                let group = &mut self.groups[index];
                (group.pc, group.state) = (group.pc + 1, State::Ready);
            }
            if let State::Barrier { id, generation } = group.state {
                let barrier = &cluster.own().barriers[usize::from(id)];
                if barrier.generation != generation {
                    if let Op::Bar(bar) = &code[group.pc as usize].op {
                        super::barrier::finish(self, cluster.own(), bar, (id, generation), group.mask);
                    }
                    let group = &mut self.groups[index];
                    (group.pc, group.state) = (group.pc + 1, State::Ready);
                }
            }
        }
        let apart = self.is_apart();
        let mut index = 0;
        while index < self.groups.len() {
            let mut other = index + 1;
            while other < self.groups.len() {
                let (a, b) = (self.groups[index], self.groups[other]);
                let waits = |group: Group| matches!(group.state, State::Barrier { .. } | State::Cluster { .. });
                let kept = apart && a.state == State::Ready && b.state == State::Ready;
                if a.pc == b.pc && !waits(a) && !waits(b) && !kept {
                    let group = &mut self.groups[index];
                    group.mask |= b.mask;
                    group.state = State::Ready;
                    group.age = a.age.min(b.age);
                    self.groups.swap_remove(other);
                } else {
                    other += 1;
                }
            }
            index += 1;
        }
    }

    /// The group to run next: the one furthest behind, so that lanes meet again; but a group that
    /// spins makes room for the others after a while.
    pub(super) fn choose(&mut self, code: &[Inst], cluster: &Cluster) -> Option<Choice> {
        // The common case: all lanes together.
        if self.groups.len() != 1 || self.groups[0].state != State::Ready {
            self.gather(code, cluster);
        }
        if self.is_apart() {
            return self.choose_apart(code);
        }
        loop {
            let ready = self.groups.iter().enumerate().filter(|(_, g)| g.state == State::Ready);
            let chosen = ready.clone().filter(|(_, g)| g.age < TURN).min_by_key(|(_, g)| g.pc);
            match chosen {
                Some((index, _)) => {
                    return Some(Choice { index, limit: self.meeting_point(index), turn: u32::MAX });
                }
                None if ready.count() == 0 => return None,
                None => self.groups.iter_mut().for_each(|group| group.age = 0),
            }
        }
    }

    /// Where the chosen group must stop to see whether it met another.
    fn meeting_point(&self, chosen: usize) -> u32 {
        let pc = self.groups[chosen].pc;
        let others = self.groups.iter().enumerate().filter(|&(index, _)| index != chosen);
        others.map(|(_, group)| group.pc).filter(|&other| other > pc).min().unwrap_or(u32::MAX)
    }

    /// Which of the lanes at a `.sync` operation can go on: those whose fellow members all came; and
    /// those fellows that waited at another place, which go on as well.
    pub(super) fn meet(&mut self, members: Reg, lanes: u32, any_place: bool, code: &[Inst]) -> Step<(u32, u32)> {
        let undefined = lanes & !self.r.defined(members);
        if undefined != 0 {
            let detail = "the member mask depends on uninitialised data".to_owned();
            let lane = undefined.trailing_zeros() as usize;
            return Err(Problem::new(FaultKind::Uninitialised, lane, 0, detail));
        }
        let values = self.r.get32(members);
        if let Some(all) = uniform(values, lanes)
            && lanes & !all == 0
            && all & self.live & !lanes == 0
        {
            return Ok((lanes, 0));
        }
        let values = *values;
        let (mut ready, mut released) = (0, 0);
        for (named, same) in subsets(&values, lanes) {
            if same & !named != 0 {
                let lane = (same & !named).trailing_zeros() as usize;
                let detail = format!("lane {lane} executes it, but its member mask is {named:#010x}");
                return Err(Problem::new(FaultKind::BadSyncMask, lane, 0, detail));
            }
            let needed = named & self.live;
            let differing = needed & lanes & !same;
            if differing != 0 {
                let (lane, other) = (same.trailing_zeros(), differing.trailing_zeros() as usize);
                let detail = format!(
                    "the member mask of lane {lane} is {named:#010x}, that of lane {other} is {:#010x}",
                    values[other]
                );
                return Err(Problem::new(FaultKind::BadSyncMask, lane as usize, 0, detail));
            }
            let elsewhere = if any_place { self.waiting_elsewhere(named, code) } else { 0 };
            if needed & !(same | elsewhere) == 0 {
                ready |= same;
                if elsewhere & needed != 0 {
                    self.release_elsewhere(needed);
                    released |= elsewhere & needed;
                }
            }
        }
        Ok((ready, released))
    }

    /// Lanes that wait at some `bar.warp.sync` with this member mask.
    fn waiting_elsewhere(&self, named: u32, code: &[Inst]) -> u32 {
        let waits = |group: &&Group| match &code[group.pc as usize].op {
            Op::WarpSync { members } => {
                group.state == State::Sync && uniform(self.r.get32(*members), group.mask) == Some(named)
            }
            _ => false,
        };
        self.groups.iter().filter(waits).fold(0, |lanes, group| lanes | group.mask)
    }

    fn release_elsewhere(&mut self, lanes: u32) {
        for group in &mut self.groups {
            if group.state == State::Sync && group.mask & lanes == group.mask {
                (group.pc, group.state) = (group.pc + 1, State::Ready);
            }
        }
    }

    /// `shfl.sync` among lanes that all came.
    #[inline(always)]
    pub(super) fn shuffle(&mut self, s: &Shfl, lanes: u32) -> Step {
        let undefined = lanes & !(self.r.defined(s.b) & self.r.defined(s.c));
        if undefined != 0 {
            let detail = "the source lane depends on uninitialised data".to_owned();
            let lane = undefined.trailing_zeros() as usize;
            return Err(Problem::new(FaultKind::Uninitialised, lane, 0, detail));
        }
        let (a, b, c) = (*self.r.get32(s.a), self.r.get32(s.b), self.r.get32(s.c));
        let mut source = [0u32; LANES];
        let mut valid = 0;
        for lane in 0..LANES as u32 {
            let (b, c) = (b[lane as usize] & 31, c[lane as usize]);
            let (clamp, segment) = (c & 31, c >> 8 & 31);
            let most = (lane & segment) | (clamp & !segment);
            let least = lane & segment;
            let (from, fits) = match s.mode {
                ShflMode::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= most as i32),
                ShflMode::Down => (lane + b, lane + b <= most),
                ShflMode::Bfly => (lane ^ b, lane ^ b <= most),
                ShflMode::Idx => {
                    let from = least | (b & !segment);
                    (from, from <= most)
                }
            };
            source[lane as usize] = if fits { from & 31 } else { lane };
            valid |= u32::from(fits) << lane;
        }
        let mut values = [0u32; LANES];
        for lane in 0..LANES {
            values[lane] = a[source[lane] as usize & 31];
        }
        // A source lane that does not take part has no value to give.
        let given = self.r.defined(s.a) & lanes;
        let mut defined = 0;
        for (lane, &from) in source.iter().enumerate() {
            defined |= (given >> from & 1) << lane;
        }
        let partial = lanes & !defined;
        let mut bits = [0u32; LANES];
        for lane in lanes_of(partial) {
            let from = source[lane] as usize;
            let takes_part = lanes >> from & 1 != 0;
            bits[lane] = if takes_part { self.r.undefined32(s.a, from) } else { u32::MAX };
        }
        for lane in lanes_of(partial) {
            self.r.set_undefined32(s.d, lane, bits[lane]);
        }
        self.r.define(s.d, lanes & defined);
        self.r.set32(s.d, &values, lanes);
        if s.p != NONE {
            self.r.set_predicate(s.p, valid, u32::MAX, lanes);
        }
        Ok(())
    }

    /// `vote.sync` for each set of members.
    pub(super) fn vote(&mut self, f: VoteMode, d: Reg, a: PredRef, members: &Lanes32, lanes: u32) -> Step {
        let undefined = lanes & !self.r.predicate_defined(a);
        let value = self.r.predicate(a);
        for (_, same) in subsets(members, lanes) {
            let trues = value & same;
            let defined = if undefined & same == 0 { u32::MAX } else { 0 };
            let result = match f {
                VoteMode::All => trues == same,
                VoteMode::Any => trues != 0,
                VoteMode::Uni => trues == same || trues == 0,
                VoteMode::Ballot => {
                    self.r.set32(d, &[trues; LANES], same);
                    self.r.define(d, same);
                    for lane in lanes_of(if undefined & same == 0 { 0 } else { same }) {
                        self.r.set_undefined32(d, lane, undefined & same);
                    }
                    continue;
                }
            };
            self.r.set_predicate(d, u32::from(result).wrapping_neg(), defined, same);
        }
        Ok(())
    }

    /// `match.sync`: lanes with equal values.
    pub(super) fn match_lanes(&mut self, op: &Op, members: &Lanes32, lanes: u32) -> Step {
        let Op::Match { all, wide, d, p, a, .. } = *op else { return Ok(()) };
        let known = self.r.defined(a);
        let values: [u64; LANES] = if wide { *self.r.get64(a) } else { self.r.get32(a).map(u64::from) };
        for (_, same) in subsets(members, lanes) {
            for lane in lanes_of(same) {
                let equal = lanes_of(same)
                    .filter(|&other| values[other] == values[lane])
                    .fold(0u32, |mask, other| mask | 1 << other);
                let everyone = equal == same;
                let result = if all && !everyone { 0 } else { equal };
                let mut row = [0; LANES];
                row[lane] = result;
                self.r.set32(d, &row, 1 << lane);
                let undefined = if known & same == same { 0 } else { u32::MAX };
                self.r.set_undefined32(d, lane, undefined);
                if p != NONE {
                    let value = u32::from(everyone).wrapping_neg();
                    self.r.set_predicate(p, value, !undefined, 1 << lane);
                }
            }
        }
        Ok(())
    }

    /// `redux.sync` for each set of members.
    pub(super) fn reduce(&mut self, f: ReduxOp, d: Reg, a: Reg, members: &Lanes32, lanes: u32) -> Step {
        let values = *self.r.get32(a);
        let known = self.r.defined(a);
        for (_, same) in subsets(members, lanes) {
            let pick = |x: u32, y: u32| match f {
                ReduxOp::Add => x.wrapping_add(y),
                ReduxOp::MinS => (x as i32).min(y as i32) as u32,
                ReduxOp::MaxS => (x as i32).max(y as i32) as u32,
                ReduxOp::MinU => x.min(y),
                ReduxOp::MaxU => x.max(y),
                ReduxOp::And => x & y,
                ReduxOp::Or => x | y,
                ReduxOp::Xor => x ^ y,
                ReduxOp::FMin(m) => float::extremum(m, false, x, y),
                ReduxOp::FMax(m) => float::extremum(m, true, x, y),
            };
            // "If .abs qualifier is specified, then the absolute value of the input is considered."
            let (float, abs) = match f {
                ReduxOp::FMin(m) | ReduxOp::FMax(m) => (true, m.has(Mode::ABS)),
                _ => (false, false),
            };
            let keep = if abs { 0x7fff_ffff } else { u32::MAX };
            let result = lanes_of(same).map(|lane| values[lane] & keep).reduce(pick).unwrap_or(0);
            let result = if float && float::is_nan(result) { float::NAN32 } else { result };
            self.r.set32(d, &[result; LANES], same);
            self.r.define(d, same);
            for lane in lanes_of(if known & same == same { 0 } else { same }) {
                self.r.set_undefined32(d, lane, u32::MAX);
            }
        }
        Ok(())
    }

    /// `elect.sync`: the lowest member leads.
    pub(super) fn elect(&mut self, d: Reg, p: u32, members: &Lanes32, lanes: u32) -> Step {
        for (_, same) in subsets(members, lanes) {
            let leader = same.trailing_zeros();
            self.r.set32(d, &[leader; LANES], same);
            self.r.define(d, same);
            if p != NONE {
                self.r.set_predicate(p, 1 << leader, u32::MAX, same);
            }
        }
        Ok(())
    }
}

/// The lanes by their member mask: each mask, and the lanes that have it.
pub(super) fn subsets(values: &Lanes32, lanes: u32) -> impl Iterator<Item = (u32, u32)> {
    let mut left = lanes;
    std::iter::from_fn(move || {
        if left == 0 {
            return None;
        }
        let named = values[left.trailing_zeros() as usize];
        let same = lanes_of(left).filter(|&lane| values[lane] == named).fold(0u32, |mask, lane| mask | 1 << lane);
        left &= !same;
        Some((named, same))
    })
}
