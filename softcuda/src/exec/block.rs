//! Blocks: the warps that share memory and barriers, and in what order they run.

use crate::fault::{AccessInfo, Fault, FaultKind, Place};
use crate::lower::op::{Access, Inst, NONE, Op, Reg};
use crate::ptx::Space;

use super::cluster::Cluster;
use super::engine::RunWarp;
use super::registers::LANES;
use super::state::{Launch, Problem, Shared, State, Step, Warp, Worker};
use super::{LOCAL_WINDOW, PARAM_WINDOW, SHARED_WINDOW};

/// Operations that a warp executes before another one has its turn, if nothing stops it earlier.
const TURN: u32 = 1 << 16;

/// Operations after a poll during which a warp counts as polling.
const POLLED: u64 = 1 << 12;

/// Rounds in which all warps only poll memory, after which other blocks have their turn.
const PATIENCE: u32 = 16;

/// One of so many rounds of the warps is followed by a pause, with a seed.
const PAUSES: u64 = 8;

/// A block.
pub(super) struct Block {
    pub(super) index: u64,
    warps: Vec<Warp>,
    /// State of the generator of the order of warps; 0 runs them in order.
    seed: u64,
}

/// How far a block came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All threads exited.
    Done,
    /// It makes room for other blocks, for no reason but the seed.
    Paused,
    /// It waits for what other blocks write.
    Waiting,
    /// It cannot go on, unless other blocks of its cluster do.
    Stuck,
}

/// A step of splitmix64, from which all schedules are drawn.
pub(super) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The length of a turn, at most 2^`most`; all magnitudes are as likely, since errors need a change of
/// turns at one operation, or long ones.
pub(super) fn turn(state: &mut u64, most: u64) -> u32 {
    let magnitude = next(state) % (most + 1);
    1 + next(state) as u32 % (1 << magnitude)
}

impl Block {
    pub(super) fn new(launch: &Launch<'_>) -> Block {
        let threads = launch.threads();
        let warps = (0..threads.div_ceil(LANES as u32)).map(|index| Warp::new(launch, index));
        Block { index: 0, warps: warps.collect(), seed: 0 }
    }

    /// Makes it ready to run as a block of the grid.
    pub(super) fn start(&mut self, launch: &Launch<'_>, block: [u32; 3]) {
        let [x, y, _] = launch.shape.grid.map(u64::from);
        let index = (u64::from(block[2]) * y + u64::from(block[1])) * x + u64::from(block[0]);
        self.index = index;
        self.warps.iter_mut().for_each(|warp| warp.start(launch, block));
        let seed = launch.config.seed;
        self.seed = if seed == 0 { 0 } else { seed ^ next(&mut (index + 1)) | 1 };
    }

    /// Gives its warps the clock of the block.
    pub(super) fn catch_up(&mut self, shared: &Shared) {
        self.warps.iter_mut().for_each(|warp| warp.race.catch_up(&shared.race));
    }

    /// Runs it until it is done, or waits for another block.
    pub(super) fn run(
        &mut self,
        worker: &mut Worker<'_>,
        cluster: &mut Cluster,
        run_warp: RunWarp,
    ) -> Result<Outcome, Fault> {
        worker.trace_block(self.index);
        cluster.own_mut().started = true;
        let mut order: Vec<usize> = (0..self.warps.len()).collect();
        let mut idle = 0;
        loop {
            let before = worker.progress;
            let (mut ran, mut polled, mut alive) = (false, true, false);
            if self.seed != 0 {
                for place in (1..order.len()).rev() {
                    order.swap(place, next(&mut self.seed) as usize % (place + 1));
                }
            }
            for &index in &order {
                let warp = &mut self.warps[index];
                if warp.live == 0 {
                    continue;
                }
                alive = true;
                let steps = warp.steps;
                let mut budget = TURN;
                if self.seed != 0 {
                    budget = turn(&mut self.seed, 8);
                    warp.scatter(&mut self.seed);
                }
                if let Err((problem, pc)) = run_warp(worker, cluster, warp, budget) {
                    return Err(self.fault(worker.launch, cluster.own(), &problem, index, pc));
                }
                if self.warps[index].steps > worker.launch.config.max_steps {
                    return Err(self.endless(worker.launch, cluster.own(), index));
                }
                let warp = &mut self.warps[index];
                if worker.polls > 0 {
                    warp.polled = Some(warp.steps);
                }
                ran |= warp.steps != steps;
                // A short turn need not come by the operation that polls.
                polled &= warp.steps == steps || warp.polled.is_some_and(|at| warp.steps - at < POLLED);
            }
            if !alive {
                worker.counters.blocks += 1;
                worker.counters.warps += self.warps.len() as u64;
                worker.trace_end_of_block(self.index);
                return Ok(Outcome::Done);
            }
            if !ran {
                return Ok(Outcome::Stuck);
            }
            idle = if polled && worker.progress == before { idle + 1 } else { 0 };
            // What polls may wait for a transfer.
            if idle == PATIENCE || (idle > 0 && !cluster.transfers.is_empty()) {
                return Ok(Outcome::Waiting);
            }
            // One that has just ended is done, not paused.
            let over = self.warps.iter().all(|warp| warp.live == 0);
            if self.seed != 0 && idle == 0 && !over && next(&mut self.seed).is_multiple_of(PAUSES) {
                return Ok(Outcome::Paused);
            }
        }
    }

    /// Delivers the copies that lanes of a warp issued with `cp.async`.
    pub(super) fn finish_copies(
        &mut self,
        worker: &mut Worker<'_>,
        shared: &mut Shared,
        warp: u32,
        lanes: u32,
    ) -> Step {
        worker.wait_copies(shared, &mut self.warps[warp as usize], lanes, None)
    }

    /// A fault at an operation of a warp.
    pub(super) fn fault(&self, launch: &Launch<'_>, shared: &Shared, problem: &Problem, warp: usize, pc: u32) -> Fault {
        let entry = launch.entry;
        let Place { ptx_line, ptx_text, source } = place(launch, pc);
        Fault {
            kind: problem.kind,
            kernel: entry.name.clone(),
            block: shared.block,
            thread: self.warps[warp].thread(launch, problem.lane),
            address: problem.address,
            access: entry.code.get(pc as usize).and_then(|inst| access_info(&inst.op, &self.warps[warp], problem.lane)),
            ptx_line,
            ptx_text,
            source,
            detail: problem.detail.clone(),
            earlier: problem.earlier.map(|pc| place(launch, pc)),
        }
    }

    /// No warp can run and no thread is done: says who waits for whom.
    pub(super) fn stuck(&self, launch: &Launch<'_>, shared: &Shared) -> Fault {
        let code = &launch.entry.code;
        let mut waiting = Vec::new();
        for (index, warp) in self.warps.iter().enumerate() {
            waiting.extend(warp.groups.iter().map(|group| (index, *group)));
        }
        let of_warp = waiting.iter().find(|(_, group)| group.state == State::Sync);
        let Some(&(warp, group)) = of_warp.or(waiting.first()) else {
            let detail = "no thread can go on".to_owned();
            let problem = Problem::new(FaultKind::Deadlock, 0, 0, detail);
            return self.fault(launch, shared, &problem, 0, 0);
        };
        let places: std::collections::BTreeSet<u32> =
            waiting.iter().map(|(_, group)| launch.entry.lines[group.pc as usize]).collect();
        let threads: u32 = waiting
            .iter()
            .filter(|(_, other)| other.pc == group.pc && other.state == group.state)
            .map(|(_, other)| other.mask.count_ones())
            .sum();
        let places: Vec<String> = places.iter().map(u32::to_string).collect();
        let apart = waiting.iter().any(|(_, other)| other.pc != group.pc);
        let (exited, total) = (shared.exited, shared.threads);
        let situation = format!(
            "{exited} of the block's {total} threads have exited, the others wait at PTX line {}",
            places.join(", ")
        );
        let op = &code[group.pc as usize].op;
        let barrier = matches!(op, Op::Bar(_) | Op::ClusterArrive { .. } | Op::ClusterWait { .. });
        let partial = barrier && group.state == State::Sync;
        let (kind, what) = match group.state {
            State::Sync if partial => (
                FaultKind::BarrierDivergence,
                format!(
                    "{} of the {} threads of a warp are at a barrier for whole warps, the others \
                     never come",
                    group.mask.count_ones(),
                    self.warps[warp].exists.count_ones()
                ),
            ),
            State::Sync => (
                FaultKind::BadSyncMask,
                format!("the lanes {:#010x} wait for others of {}", group.mask, self.members(warp, code, group.pc)),
            ),
            State::Cluster { .. } => (
                FaultKind::BarrierDivergence,
                format!("{threads} threads wait at the barrier of the cluster, at which others never arrive"),
            ),
            _ if exited > 0 || apart => (
                FaultKind::BarrierDivergence,
                format!("{threads} threads are at a barrier that the others never reach"),
            ),
            _ => (FaultKind::Deadlock, format!("{threads} threads are at a barrier that needs more")),
        };
        let lane = group.mask.trailing_zeros() as usize & 31;
        let problem = Problem::new(kind, lane, 0, format!("{what}; {situation}"));
        self.fault(launch, shared, &problem, warp, group.pc)
    }

    fn members(&self, warp: usize, code: &[Inst], pc: u32) -> String {
        let register: Reg = match &code[pc as usize].op {
            Op::Shfl(shfl) => shfl.members,
            Op::WarpSync { members }
            | Op::Vote { members, .. }
            | Op::Match { members, .. }
            | Op::Redux { members, .. }
            | Op::Elect { members, .. } => *members,
            _ => NONE,
        };
        if register == NONE {
            return "their warp".to_owned();
        }
        let warp = &self.warps[warp];
        let group = warp.groups.iter().find(|group| group.pc == pc);
        let lane = group.map_or(0, |group| group.mask.trailing_zeros() as usize & 31);
        format!("the member mask {:#010x}, which never come", warp.r.get32(register)[lane])
    }

    /// The fault of a warp that goes on and on.
    fn endless(&self, launch: &Launch<'_>, shared: &Shared, warp: usize) -> Fault {
        let group = self.warps[warp].groups.first();
        let (pc, lane) = group.map_or((0, 0), |group| (group.pc, group.mask.trailing_zeros() as usize & 31));
        let steps = launch.config.max_steps;
        let detail = format!("the warp executed more than {steps} operations (`Config::max_steps`)");
        let problem = Problem::new(FaultKind::Deadlock, lane, 0, detail);
        self.fault(launch, shared, &problem, warp, pc)
    }

    /// The fault of a block that waits for others which will never do what it waits for.
    pub(super) fn starved(&self, launch: &Launch<'_>, shared: &Shared, reasons: &[String]) -> Fault {
        let found = self.warps.iter().enumerate().find(|(_, warp)| !warp.groups.is_empty());
        let (warp, pc, lane) = found.map_or((0, 0, 0), |(index, warp)| {
            let group = warp.groups[0];
            (index, group.pc, group.mask.trailing_zeros() as usize & 31)
        });
        let mut detail = "the threads poll memory that nothing changes any more".to_owned();
        reasons.iter().for_each(|reason| detail.extend(["; ", reason]));
        let problem = Problem::new(FaultKind::Deadlock, lane, 0, detail);
        self.fault(launch, shared, &problem, warp, pc)
    }
}

/// Where an operation is in the program.
fn place(launch: &Launch<'_>, pc: u32) -> Place {
    let entry = launch.entry;
    let (file, line) = entry.locations.get(pc as usize).copied().unwrap_or((0, 0));
    // Compilers give line 0 to what belongs to no line.
    let source = launch.files.get(&file).filter(|_| line != 0).map(|name| (name.clone(), line));
    let ptx_line = entry.lines.get(pc as usize).copied().unwrap_or(0);
    let ptx_text = launch.text.lines().nth(ptx_line.wrapping_sub(1) as usize);
    Place { ptx_line, ptx_text: ptx_text.unwrap_or("").trim().replace('\t', " "), source }
}

/// What access to memory an operation makes for a lane.
fn access_info(op: &Op, warp: &Warp, lane: usize) -> Option<AccessInfo> {
    let info = |access: &Access, action| {
        let generic = || match warp.r.get64(access.base)[lane].wrapping_add(access.offset as u64) >> 48 << 48 {
            SHARED_WINDOW => "shared",
            LOCAL_WINDOW => "local",
            PARAM_WINDOW => "param",
            _ => "global",
        };
        let space = match access.space {
            Some(Space::Shared | Space::Cluster) => "shared",
            Some(Space::Local) => "local",
            Some(Space::Const) => "constant",
            Some(Space::Param) => "param",
            None if access.base != NONE && access.base_wide => generic(),
            _ => "global",
        };
        AccessInfo { space: Some(space), action, bytes: u32::from(access.size) * u32::from(access.count) }
    };
    match op {
        Op::Load(access) => Some(info(access, "read")),
        Op::Store(access) => Some(info(access, "write")),
        Op::Atom(atom) => Some(AccessInfo { bytes: atom.at.size.into(), ..info(&atom.at, "atomic operation") }),
        Op::CpAsync(copy) => Some(AccessInfo { space: None, action: "asynchronous copy", bytes: copy.to.size.into() }),
        _ => None,
    }
}
