//! What a running launch consists of: workers, blocks, warps, groups of lanes.

use std::collections::{BTreeMap, HashMap};

use crate::config::Config;
use crate::counters::{Counters, OpClass};
use crate::fault::FaultKind;
use crate::lower::op::Inst;
use crate::lower::{Entry, Special};
use crate::memory::{Memory, Window};

use super::LaunchShape;
use super::copies::Copies;
use super::mbarrier::Object;
use super::meeting::Attendance;
use super::races::{BlockClock, Flags, Races, WarpClock};
use super::registers::{LANES, Lanes32, Registers};
use super::staging::Staging;
use super::traffic::Tracer;

/// What went wrong while lanes executed an operation; the engine adds where.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) kind: FaultKind,
    pub(super) lane: usize,
    pub(super) address: u64,
    pub(super) detail: String,
    /// Place of an earlier operation that it is about as well.
    pub(super) earlier: Option<u32>,
}

impl Problem {
    #[cold]
    pub(super) fn new(kind: FaultKind, lane: usize, address: u64, detail: String) -> Box<Problem> {
        Box::new(Problem { kind, lane, address, detail, earlier: None })
    }
}

/// The result of executing an operation.
pub(super) type Step<T = ()> = Result<T, Box<Problem>>;

/// What all blocks of a launch share.
pub(super) struct Launch<'a> {
    pub(super) entry: &'a Entry,
    pub(super) shape: LaunchShape,
    pub(super) params: &'a [u8],
    pub(super) memory: &'a Memory,
    pub(super) config: &'a Config,
    /// Tag of what this launch writes, see [`crate::memory`].
    pub(super) tag: u8,
    pub(super) shared_bytes: usize,
    /// Who touches what, if races are looked for.
    pub(super) races: Option<Races>,
    /// Names of source files, and the module's text: what reports quote.
    pub(super) files: &'a HashMap<u32, String>,
    pub(super) text: &'a str,
}

impl Launch<'_> {
    pub(super) fn threads(&self) -> u32 {
        self.shape.block.iter().product()
    }

    /// Where in the grid a block is, by its number: cluster by cluster, and by rank in each.
    pub(super) fn place(&self, number: u64) -> [u32; 3] {
        let size = self.shape.cluster.map(|n| n.max(1));
        let blocks: u64 = size.iter().map(|&n| u64::from(n)).product();
        let (index, rank) = (number / blocks, (number % blocks) as u32);
        let [x, y, _] = [0, 1, 2].map(|d| u64::from(self.shape.grid[d] / size[d]).max(1));
        let first = [index % x, index / x % y, index / x / y];
        let inside = [rank % size[0], rank / size[0] % size[1], rank / size[0] / size[1]];
        [0, 1, 2].map(|d| first[d] as u32 * size[d] + inside[d])
    }
}

/// One thread of the host, which runs blocks.
pub(super) struct Worker<'a> {
    pub(super) launch: &'a Launch<'a>,
    pub(super) windows: Vec<Window>,
    /// The window that each instruction used last.
    pub(super) sites: Vec<u32>,
    pub(super) staging: Box<Staging>,
    pub(super) counters: Counters,
    /// Warp and thread instructions by class; the last entry is for what does not count.
    pub(super) issued: [u64; OpClass::COUNT + 1],
    pub(super) executed: [u64; OpClass::COUNT + 1],
    /// Signs that a warp waits for others by looking at memory, since it began to run.
    pub(super) polls: u32,
    /// Grows whenever memory changes, a barrier completes or a thread exits.
    pub(super) progress: u64,
    /// What threads tell each other through global memory.
    pub(super) flags: Flags,
    /// Where accesses go, if the launch is traced.
    pub(super) tracer: Option<Box<Tracer>>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(launch: &'a Launch<'a>, windows: Vec<Window>) -> Worker<'a> {
        let tracer = launch.config.trace.then(|| Box::new(Tracer::new(launch, &windows)));
        Worker {
            launch,
            windows,
            tracer,
            sites: vec![0; launch.entry.sites as usize],
            staging: Box::new(Staging::new()),
            counters: Counters::default(),
            issued: [0; OpClass::COUNT + 1],
            executed: [0; OpClass::COUNT + 1],
            polls: 0,
            progress: 0,
            flags: Flags::default(),
        }
    }

    /// Takes back that an operation was executed by these lanes, of so many warps.
    pub(super) fn retract(&mut self, inst: &Inst, warps: u64, lanes: u32) {
        let class = inst.class.map_or(OpClass::COUNT, |class| class as usize);
        self.issued[class] -= warps;
        self.executed[class] -= u64::from(lanes.count_ones());
    }

    /// The counts of everything this worker ran.
    pub(super) fn totals(&self) -> Counters {
        let mut counters = self.counters;
        counters.by_class.copy_from_slice(&self.issued[..OpClass::COUNT]);
        counters.warp_instructions = counters.by_class.iter().sum();
        counters.threads_by_class.copy_from_slice(&self.executed[..OpClass::COUNT]);
        counters.thread_instructions = counters.threads_by_class.iter().sum();
        counters
    }
}

/// What a group of lanes is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It can run.
    Ready,
    /// It waits at a `.sync` operation for other lanes of its warp.
    Sync,
    /// It waits at a barrier of the block, in this generation of it.
    Barrier { id: u8, generation: u64 },
    /// It waits at the barrier of the cluster, in this generation of it.
    Cluster { generation: u64 },
}

/// Lanes of a warp that are at the same operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) pc: u32,
    pub(super) mask: u32,
    pub(super) state: State,
    /// Operations executed while diverged, since all groups last had their turn.
    pub(super) age: u32,
}

/// A warp.
pub(super) struct Warp {
    pub(super) index: u32,
    pub(super) r: Registers,
    /// Lanes that have a thread.
    pub(super) exists: u32,
    /// Lanes whose thread has not exited.
    pub(super) live: u32,
    pub(super) groups: Vec<Group>,
    /// Local memory of all lanes, one after the other, and which bytes are defined.
    pub(super) local: Vec<u8>,
    pub(super) local_defined: Vec<u8>,
    pub(super) copies: Copies,
    /// Groups of bulk copies that each lane has committed.
    pub(super) bulk_groups: Lanes32,
    pub(super) attendance: Attendance,
    /// Clocks of its lanes, for the race detector.
    pub(super) race: WarpClock,
    /// Operations executed; what the clocks show.
    pub(super) steps: u64,
    /// Until the warp has executed so many operations, its groups do not join where they meet, and
    /// take turns by `seed`.
    pub(super) apart: u64,
    pub(super) seed: u64,
    /// Operations executed when it last polled memory.
    pub(super) polled: Option<u64>,
}

impl Warp {
    pub(super) fn new(launch: &Launch<'_>, index: u32) -> Warp {
        let local = launch.entry.local_bytes as usize * LANES;
        Warp {
            index,
            r: Registers::new(&launch.entry.frame, launch.entry.predicates),
            exists: 0,
            live: 0,
            groups: Vec::new(),
            local: vec![0; local],
            local_defined: vec![0; local],
            copies: Copies::default(),
            bulk_groups: [0; LANES],
            attendance: Attendance::default(),
            race: WarpClock::new(index),
            steps: 0,
            apart: 0,
            seed: 0,
            polled: None,
        }
    }

    /// Makes the warp ready to run a block.
    pub(super) fn start(&mut self, launch: &Launch<'_>, block: [u32; 3]) {
        let threads = launch.threads() - self.index * LANES as u32;
        self.exists = if threads >= 32 { u32::MAX } else { (1 << threads) - 1 };
        self.live = self.exists;
        self.groups.clear();
        self.groups.push(Group { pc: 0, mask: self.exists, state: State::Ready, age: 0 });
        self.local_defined.fill(0);
        self.copies.clear();
        self.bulk_groups = [0; LANES];
        self.attendance = Attendance::default();
        (self.steps, self.apart, self.polled) = (0, 0, None);
        self.r.reset(&launch.entry.frame);
        for &(slot, special) in &launch.entry.frame.specials {
            let mut values = [0; LANES];
            for (lane, value) in values.iter_mut().enumerate() {
                *value = special_value(launch, special, block, self.index, lane as u32);
            }
            self.r.set32(slot, &values, u32::MAX);
            self.r.define(slot, u32::MAX);
        }
    }

    /// The thread of a lane.
    pub(super) fn thread(&self, launch: &Launch<'_>, lane: usize) -> [u32; 3] {
        let linear = self.index * LANES as u32 + lane as u32;
        let [x, y, _] = launch.shape.block;
        [linear % x, linear / x % y, linear / x / y]
    }
}

fn special_value(launch: &Launch<'_>, special: Special, block: [u32; 3], warp: u32, lane: u32) -> u32 {
    let shape = &launch.shape;
    let linear = warp * LANES as u32 + lane;
    let at = |values: &[u32; 3], dimension: u8| values[usize::from(dimension.min(2))];
    let [x, y, _] = shape.block;
    let cluster = shape.cluster.map(|size| size.max(1));
    let clusters = [0, 1, 2].map(|d| shape.grid[d].div_ceil(cluster[d]));
    let in_cluster = [0, 1, 2].map(|d| block[d] % cluster[d]);
    match special {
        Special::Tid(d) => at(&[linear % x, linear / x % y, linear / x / y], d),
        Special::Ntid(d) => at(&shape.block, d),
        Special::Ctaid(d) => at(&block, d),
        Special::Nctaid(d) => at(&shape.grid, d),
        Special::LaneId => lane,
        Special::WarpId => warp,
        Special::NWarpId => launch.threads().div_ceil(LANES as u32),
        Special::SmId => {
            let [x, y, _] = shape.grid.map(u64::from);
            let index = (u64::from(block[2]) * y + u64::from(block[1])) * x + u64::from(block[0]);
            (index % u64::from(launch.config.sm_count.max(1))) as u32
        }
        Special::NSmId => launch.config.sm_count,
        Special::GridId | Special::Zero => 0,
        Special::LaneMaskEq => 1 << lane,
        Special::LaneMaskLe => u32::MAX >> (31 - lane),
        Special::LaneMaskLt => (1 << lane) - 1,
        Special::LaneMaskGe => u32::MAX << lane,
        Special::LaneMaskGt => (u32::MAX << lane) << 1,
        Special::DynamicSharedSize => shape.dynamic_shared,
        Special::TotalSharedSize | Special::AggregateSharedSize => launch.shared_bytes as u32,
        Special::ClusterId(d) => at(&block, d) / at(&cluster, d),
        Special::NClusterId(d) => at(&clusters, d),
        Special::ClusterCtaId(d) => at(&in_cluster, d),
        Special::ClusterNctaId(d) => at(&cluster, d),
        Special::ClusterCtaRank => (in_cluster[2] * cluster[1] + in_cluster[1]) * cluster[0] + in_cluster[0],
        Special::ClusterNctaRank => cluster.iter().product(),
    }
}

/// A barrier of a block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Barrier {
    /// Threads that arrived.
    pub(super) arrived: u32,
    /// Threads that the first arrival said would come; 0 before.
    pub(super) expected: u32,
    /// Completions so far.
    pub(super) generation: u64,
    /// What `bar.red` gathered so far.
    pub(super) trues: u32,
}

/// The part of a block that its warps share.
pub(super) struct Shared {
    pub(super) block: [u32; 3],
    pub(super) threads: u32,
    pub(super) exited: u32,
    /// Whether any of its warps has run.
    pub(super) started: bool,
    pub(super) barriers: [Barrier; 16],
    /// Results of `bar.red` that some threads may not have seen yet: barrier, generation, how many
    /// predicates were true, of how many.
    pub(super) reductions: Vec<(u8, u64, (u32, u32))>,
    /// Shared memory, and the state of each byte: [`DEFINED`](crate::memory::DEFINED),
    /// [`PENDING`] or 0.
    pub(super) bytes: Vec<u8>,
    pub(super) state: Vec<u8>,
    /// The `mbarrier` objects, by where they are.
    pub(super) mbarriers: BTreeMap<u64, Object>,
    /// The block's clock, for the race detector.
    pub(super) race: BlockClock,
}

impl Shared {
    pub(super) fn new(launch: &Launch<'_>) -> Shared {
        Shared {
            block: [0; 3],
            threads: launch.threads(),
            exited: 0,
            started: false,
            barriers: [Barrier::default(); 16],
            reductions: Vec::new(),
            bytes: vec![0; launch.shared_bytes],
            state: vec![0; launch.shared_bytes],
            mbarriers: BTreeMap::new(),
            race: BlockClock::idle(),
        }
    }

    /// Makes it ready for a block.
    pub(super) fn start(&mut self, block: [u32; 3]) {
        (self.block, self.exited, self.started) = (block, 0, false);
        self.barriers = [Barrier::default(); 16];
        self.reductions.clear();
        self.mbarriers.clear();
        self.state.fill(0);
    }

    /// Whether any thread has not exited.
    pub(super) fn runs(&self) -> bool {
        self.exited < self.threads
    }
}

/// State of a byte of shared memory that an asynchronous copy will write.
pub(super) const PENDING: u8 = 0x40;
/// With [`PENDING`]: it belongs to an `mbarrier` object.
pub(super) const MBARRIER: u8 = 0x20;
/// State of a byte that an asynchronous copy may still read.
pub(super) const READING: u8 = 0x10;
/// With [`PENDING`]: what comes is added to what is there.
pub(super) const REDUCING: u8 = 0x08;
/// State of a byte that was written since the last `fence.proxy.async`.
pub(super) const WRITTEN: u8 = 0x04;
/// What forbids that a byte is written.
pub(super) const BUSY: u8 = PENDING | READING;

/// All lanes with the same value.
pub(super) fn uniform(values: &Lanes32, mask: u32) -> Option<u32> {
    let first = values[mask.trailing_zeros() as usize & 31];
    let mut differs = 0;
    for (lane, &value) in values.iter().enumerate() {
        differs |= (value ^ first) & (mask >> lane & 1).wrapping_neg();
    }
    (differs == 0).then_some(first)
}
