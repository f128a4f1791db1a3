//! Clocks of threads, and what threads know of each other's.
//!
//! A thread's clock counts its releases. All threads of a block know everything from before the
//! block's last barrier, so most of what a thread knows is one number: the generation, which a barrier
//! of the whole block begins. Below it a clock counts what lanes release in between. What is learnt in
//! other ways is a [`Knowledge`], kept by lane until the next such barrier.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::lower::op::Scope;

use super::cell::GRANULE;
use super::peers::Visits;
use super::table::Table;
use super::view::View;
use super::{Act, LANES, Touch, includes, number_threads};

/// Bits of a clock below the generation.
const STEP_BITS: u32 = 11;
const LAST_STEP: u32 = (1 << STEP_BITS) - 1;
/// One less than would fit: the last clocks of all are never anybody's.
const LAST_GENERATION: u32 = (1 << 11) - 2;

/// Clocks that somebody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Knowledge {
    /// By the number of a block's first thread: a clock known of all its threads.
    blocks: BTreeMap<u64, u32>,
    /// By the number of a warp's first thread: clocks known of its lanes.
    warps: BTreeMap<u64, [u32; LANES]>,
}

impl Knowledge {
    /// The clock of one thread.
    fn of_one(uid: u64, clock: u32) -> Knowledge {
        let (lane, mut clocks) = (uid as usize % LANES, [0; LANES]);
        clocks[lane] = clock;
        Knowledge { blocks: BTreeMap::new(), warps: BTreeMap::from([(uid - lane as u64, clocks)]) }
    }

    fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.warps.is_empty()
    }

    fn join(&mut self, other: &Knowledge) {
        for (&block, &clock) in &other.blocks {
            let mine = self.blocks.entry(block).or_default();
            *mine = clock.max(*mine);
        }
        for (&warp, clocks) in &other.warps {
            let mine = self.warps.entry(warp).or_insert([0; LANES]);
            mine.iter_mut().zip(clocks).for_each(|(mine, &clock)| *mine = clock.max(*mine));
        }
    }

    fn of_block(&self, uid: u64, threads: u64) -> u32 {
        let below = self.blocks.range(..=uid).next_back();
        below.filter(|(base, _)| uid - **base < threads).map_or(0, |(_, &clock)| clock)
    }

    fn of_thread(&self, uid: u64, threads: u64) -> u32 {
        let (warp, lane) = (uid - uid % LANES as u64, (uid % LANES as u64) as usize);
        let of_warp = self.warps.get(&warp).map_or(0, |clocks| clocks[lane]);
        of_warp.max(self.of_block(uid, threads))
    }
}

type Known = Option<Arc<Knowledge>>;

/// Adds to what is known.
fn learn(known: &mut Known, news: &Arc<Knowledge>) {
    match known {
        None => *known = Some(news.clone()),
        Some(old) if Arc::ptr_eq(old, news) => {}
        Some(old) => Arc::make_mut(old).join(news),
    }
}

/// What a release left at an address.
struct Published {
    knowledge: Arc<Knowledge>,
    scope: Scope,
    block: u64,
}

/// Addresses through which threads synchronise.
#[derive(Default)]
pub(in super::super) struct Flags(HashMap<u64, Vec<Published>>);

impl Flags {
    /// A strong access of a lane.
    pub(super) fn touch(&mut self, block: &BlockClock, warp: &mut WarpClock, lane: usize, address: u64, touch: Touch) {
        warp.catch_up(block);
        if touch.act != Act::Write
            && let Some(published) = self.0.get(&address)
        {
            for one in published {
                let same = one.block == block.uid;
                if includes(one.scope, same) && includes(touch.order.scope, same) {
                    let known = match (touch.order.acquire, same) {
                        (true, _) => &mut warp.known,
                        (false, true) => &mut warp.seen_near,
                        (false, false) => &mut warp.seen,
                    };
                    learn(&mut known[lane], &one.knowledge);
                    warp.plain = false;
                }
            }
        }
        if touch.act == Act::Read {
            return;
        }
        let mut told = Vec::new();
        if touch.order.release {
            told.push((Arc::new(warp.tell(block, lane)), touch.order.scope));
            warp.step(1 << lane);
        } else {
            let narrower = |scope: Scope| scope.min(touch.order.scope);
            told.extend(warp.fenced[lane].iter().map(|(k, scope)| (k.clone(), narrower(*scope))));
            told.extend(block.fenced.iter().map(|k| (k.clone(), touch.order.scope)));
        }
        let block = block.uid;
        let told = told.into_iter().map(|(knowledge, scope)| Published { knowledge, scope, block });
        // A plain store ends what was released there; an atomic operation goes on with it.
        if touch.act == Act::Write {
            self.0.remove(&address);
        }
        let told: Vec<Published> = told.collect();
        if told.is_empty() {
            return;
        }
        let here = self.0.entry(address).or_default();
        for one in told {
            // The same scope from the same block: one entry is enough.
            match here.iter_mut().find(|old| old.scope == one.scope && old.block == one.block) {
                Some(old) => Arc::make_mut(&mut old.knowledge).join(&one.knowledge),
                None => here.push(one),
            }
        }
    }
}

/// The clock of a block, and the cells of its shared memory.
pub(in super::super) struct BlockClock {
    /// The number of the block's first thread.
    pub(in super::super) uid: u64,
    pub(super) threads: u64,
    generation: u32,
    /// Numbers the block's threads had before their clocks ran out.
    past: Vec<u64>,
    /// Known to all threads.
    common: Known,
    /// What threads bring to the barrier of the whole block: what they know, and what they fenced.
    gathered: (Known, Known),
    /// What was fenced before the last barrier.
    fenced: Known,
    /// The last clock of its copies.
    agents: u32,
    /// What its threads knew when they exited.
    pub(super) parted: Known,
    /// Accesses of other blocks to its shared memory.
    pub(super) visits: RefCell<Visits>,
    /// What arrived at each of the 16 barriers so far, and what those that wait will learn.
    arrived: [Knowledge; 16],
    passed: Vec<(u8, u64, Arc<Knowledge>)>,
    /// Flags in shared memory.
    pub(super) flags: RefCell<Flags>,
    cells: Box<[AtomicU64]>,
    /// Four in each.
    marks: Box<[AtomicU64]>,
    table: Table,
}

impl BlockClock {
    pub(super) fn new(uid: u64, threads: u64) -> BlockClock {
        BlockClock {
            uid,
            threads,
            generation: 1,
            past: Vec::new(),
            common: None,
            gathered: (None, None),
            fenced: None,
            agents: 0,
            parted: None,
            visits: RefCell::default(),
            arrived: Default::default(),
            passed: Vec::new(),
            flags: RefCell::default(),
            cells: Box::default(),
            marks: Box::default(),
            table: Table::new(1),
        }
    }

    /// A clock of threads that nobody watches.
    pub(in super::super) fn idle() -> BlockClock {
        BlockClock::new(0, 0)
    }

    /// Goes on as the clock of another block, with the memory of this one.
    pub(in super::super) fn restart(&mut self, mut fresh: BlockClock, shared_bytes: usize) {
        fresh.cells = std::mem::take(&mut self.cells);
        fresh.marks = std::mem::take(&mut self.marks);
        std::mem::swap(&mut fresh.table, &mut self.table);
        let granules = shared_bytes.div_ceil(GRANULE);
        if fresh.cells.len() == 2 * granules {
            fresh.cells.iter_mut().for_each(|cell| *cell.get_mut() = 0);
        } else {
            fresh.cells = (0..2 * granules).map(|_| AtomicU64::new(0)).collect();
            fresh.marks = (0..2 * granules.div_ceil(4)).map(|_| AtomicU64::new(0)).collect();
        }
        fresh.table.clear();
        *self = fresh;
    }

    /// Threads exit.
    pub(in super::super) fn part(&mut self, warp: &WarpClock, lanes: u32) {
        let known = super::lanes_of(lanes).filter_map(|lane| warp.known[lane].as_ref());
        known.for_each(|known| learn(&mut self.parted, known));
    }

    /// Whether any thread, before it exited, knew a clock of a thread of another block.
    pub(super) fn knew(&self, uid: u64, clock: u32) -> bool {
        let known = [&self.common, &self.parted].into_iter().flatten();
        known.map(|known| known.of_thread(uid, self.threads)).any(|known| known >= clock)
    }

    /// The cells of shared memory.
    pub(super) fn view(&self) -> View<'_> {
        let (writes, reads) = self.cells.split_at(self.cells.len() / 2);
        let (write_marks, read_marks) = self.marks.split_at(self.marks.len() / 2);
        // What earlier blocks left there was cleared.
        let (cells, marks) =
            ((writes.as_ptr(), reads.as_ptr()), (write_marks.as_ptr().cast(), read_marks.as_ptr().cast()));
        View::new(cells, marks, &self.table, 0, 1)
    }

    /// Whether a number is, or was, of a thread of the block, and it stands for no other block's.
    pub(super) fn has(&self, uid: u64, stands_for_several: bool) -> bool {
        let starts = self.past.iter().chain([&self.uid]);
        !stands_for_several && starts.into_iter().any(|&start| uid.wrapping_sub(start) < self.threads)
    }

    /// Which of the block's threads a number is, or was, of.
    pub(super) fn index_of(&self, uid: u64) -> Option<u64> {
        let starts = self.past.iter().chain([&self.uid]);
        starts.map(|&start| uid.wrapping_sub(start)).find(|&index| index < self.threads)
    }

    /// The number of what an object's copies read and write.
    pub(in super::super) fn agent(&self, object: u64) -> u64 {
        (self.uid + self.threads).saturating_sub(LANES as u64) + object / 8 % LANES as u64
    }

    /// A new clock for such an agent: somebody waits for its copies.
    pub(in super::super) fn agent_clock(&mut self) -> u32 {
        let next = self.agents.max(self.generation << STEP_BITS) + 1;
        self.agents = next.min(self.last() - 1);
        self.agents
    }

    /// The last clock that all of the block know of each other.
    #[inline(always)]
    pub(super) fn base(&self) -> u32 {
        (self.generation << STEP_BITS) - 1
    }

    /// The last clock of this generation.
    pub(super) fn last(&self) -> u32 {
        self.generation << STEP_BITS | LAST_STEP
    }

    /// Lanes arrive at a barrier that all of the block wait at.
    pub(in super::super) fn arrive_whole(&mut self, warp: &mut WarpClock, lanes: u32) {
        if warp.plain && warp.generation == self.generation {
            return;
        }
        warp.catch_up(self);
        for lane in super::lanes_of(lanes) {
            if let Some(known) = &warp.known[lane] {
                learn(&mut self.gathered.0, known);
            }
            if let Some((fenced, Scope::Device | Scope::Cluster)) = &warp.fenced[lane] {
                learn(&mut self.gathered.1, fenced);
            }
        }
    }

    /// All of the block have arrived.
    pub(in super::super) fn complete_whole(&mut self) {
        let (known, fenced) = std::mem::take(&mut self.gathered);
        if let Some(known) = &known {
            learn(&mut self.common, known);
        }
        self.fenced = fenced.or(self.fenced.take());
        if self.generation == LAST_GENERATION {
            // New numbers, and clocks that begin again; others know the old ones.
            let mut told = Knowledge::default();
            told.blocks.insert(self.uid, self.last());
            learn(&mut self.common, &Arc::new(told));
            self.past.push(self.uid);
            self.uid = number_threads(self.threads);
            self.generation = 0;
            self.agents = 0;
        }
        self.generation += 1;
    }

    /// Lanes arrive at a barrier of some of the block.
    pub(in super::super) fn arrive_part(&mut self, warp: &mut WarpClock, lanes: u32, id: usize) {
        warp.catch_up(self);
        for lane in super::lanes_of(lanes) {
            let told = warp.tell(self, lane);
            self.arrived[id].join(&told);
        }
        warp.step(lanes);
    }

    /// The barrier of some is complete in this generation of it.
    pub(in super::super) fn complete_part(&mut self, id: usize, generation: u64) {
        let told = std::mem::take(&mut self.arrived[id]);
        if !told.is_empty() {
            if self.passed.len() >= 64 {
                self.passed.drain(..32);
            }
            self.passed.push((id as u8, generation, Arc::new(told)));
        }
    }

    /// Lanes go on that waited at such a barrier.
    pub(in super::super) fn pass(&self, warp: &mut WarpClock, lanes: u32, at: (u8, u64)) {
        let found = self.passed.iter().rev().find(|passed| (passed.0, passed.1) == at);
        if let Some((_, _, told)) = found {
            warp.catch_up(self);
            super::lanes_of(lanes).for_each(|lane| learn(&mut warp.known[lane], told));
            warp.plain = false;
        }
    }
}

/// What threads tell each other at the barrier of their cluster, or at an `mbarrier`.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Told {
    arrived: Knowledge,
    complete: Known,
    /// Of copies that arrived at an object, and that somebody waited for.
    copies: Known,
}

impl Told {
    /// Lanes arrive.
    pub(in super::super) fn arrive(&mut self, block: &BlockClock, warp: &mut WarpClock, lanes: u32) {
        warp.catch_up(block);
        for lane in super::lanes_of(lanes) {
            self.arrived.join(&warp.tell(block, lane));
        }
        warp.step(lanes);
    }

    /// Lanes arrive with `.relaxed`.
    pub(in super::super) fn arrive_relaxed(&mut self, block: &BlockClock, warp: &mut WarpClock, lanes: u32) {
        for lane in super::lanes_of(lanes) {
            self.arrived.join(&warp.tell_relaxed(block, lane, false));
        }
    }

    /// All have arrived.
    pub(in super::super) fn complete(&mut self) {
        self.complete = Some(Arc::new(std::mem::take(&mut self.arrived)));
    }

    /// A lane that told this arrives.
    pub(in super::super) fn hear(&mut self, told: &Knowledge) {
        self.arrived.join(told);
    }

    /// The copies of a phase are known to be complete.
    pub(in super::super) fn observe(&mut self, agent: u64, clock: u32) {
        learn(&mut self.copies, &Arc::new(Knowledge::of_one(agent, clock)));
    }

    /// What those learn that wait now.
    pub(in super::super) fn news(&self) -> Told {
        Told { arrived: Knowledge::default(), complete: self.complete.clone(), copies: self.copies.clone() }
    }

    /// Lanes have waited.
    pub(in super::super) fn learn(&self, block: &BlockClock, warp: &mut WarpClock, lanes: u32, relaxed: bool) {
        let complete = self.complete.as_ref().filter(|told| !told.is_empty());
        if lanes == 0 || (complete.is_none() && self.copies.is_none()) {
            return;
        }
        warp.catch_up(block);
        // Only a fence makes known what a relaxed wait saw.
        let known = if relaxed { &mut warp.seen_near } else { &mut warp.known };
        for told in complete.into_iter().chain(&self.copies) {
            super::lanes_of(lanes).for_each(|lane| learn(&mut known[lane], told));
        }
        warp.plain = false;
    }
}

/// The clocks of a warp's lanes.
pub(in super::super) struct WarpClock {
    /// Index of the warp in its block.
    index: u64,
    /// The number of its first lane.
    pub(in super::super) uid: u64,
    /// The block's generation that the rest is about; in a later one it is void.
    generation: u32,
    steps: [u32; LANES],
    /// All lanes are at the same step.
    even: bool,
    /// No lane knows, or fenced, anything of its own.
    plain: bool,
    known: [Known; LANES],
    /// What relaxed reads saw, of other blocks and of the own one; a fence that includes them makes
    /// it known.
    seen: [Known; LANES],
    seen_near: [Known; LANES],
    /// What fences made ready for relaxed writes to tell.
    fenced: [Option<(Arc<Knowledge>, Scope)>; LANES],
}

impl WarpClock {
    pub(in super::super) fn new(index: u32) -> WarpClock {
        WarpClock {
            index: u64::from(index),
            uid: 0,
            generation: 0,
            steps: [0; LANES],
            even: true,
            plain: true,
            known: Default::default(),
            seen: Default::default(),
            seen_near: Default::default(),
            fenced: Default::default(),
        }
    }

    /// Forgets what was of an earlier generation, or of an earlier block.
    pub(in super::super) fn catch_up(&mut self, block: &BlockClock) {
        let uid = block.uid + self.index * LANES as u64;
        if self.generation == block.generation && self.uid == uid {
            return;
        }
        (self.uid, self.generation) = (uid, block.generation);
        (self.steps, self.even) = ([0; LANES], true);
        if !self.plain {
            self.plain = true;
            (self.known, self.fenced) = Default::default();
            (self.seen, self.seen_near) = Default::default();
        }
    }

    /// The clock of all lanes, if it is one.
    #[inline(always)]
    pub(super) fn common(&self, block: &BlockClock) -> Option<u32> {
        self.even.then_some(block.generation << STEP_BITS | self.steps[0])
    }

    pub(in super::super) fn clock(&self, block: &BlockClock, lane: usize) -> u32 {
        block.generation << STEP_BITS | self.steps[lane]
    }

    /// Lanes have told others: what comes after is new.
    fn step(&mut self, lanes: u32) {
        for lane in super::lanes_of(lanes) {
            self.steps[lane] = (self.steps[lane] + 1).min(LAST_STEP - 1);
        }
        self.even = self.steps.iter().all(|&step| step == self.steps[0]);
    }

    /// All that a lane knows, itself included.
    fn tell(&self, block: &BlockClock, lane: usize) -> Knowledge {
        let mut told = Knowledge::default();
        for known in [&block.common, &self.known[lane]].into_iter().flatten() {
            told.join(known);
        }
        let of_block = told.blocks.entry(block.uid).or_default();
        *of_block = block.base().max(*of_block);
        let of_warp = told.warps.entry(self.uid).or_insert([0; LANES]);
        of_warp[lane] = self.clock(block, lane);
        told
    }

    /// All that a lane knows, which it releases.
    pub(in super::super) fn tell_once(&mut self, block: &BlockClock, lane: usize) -> Knowledge {
        self.catch_up(block);
        let told = self.tell(block, lane);
        self.step(1 << lane);
        told
    }

    /// What a lane tells with a relaxed arrival, in its own block or beyond: what it fenced before, and that
    /// its block has begun.
    pub(in super::super) fn tell_relaxed(&mut self, block: &BlockClock, lane: usize, near: bool) -> Knowledge {
        self.catch_up(block);
        let mut told = Knowledge::default();
        told.blocks.insert(block.uid, 1);
        let wide = self.fenced[lane].as_ref().filter(|(_, scope)| includes(*scope, near)).map(|(known, _)| known);
        [wide, block.fenced.as_ref()].into_iter().flatten().for_each(|known| told.join(known));
        told
    }

    /// Whether a lane knows that another block has begun.
    pub(super) fn knows_of(&self, block: &BlockClock, lane: usize, other: &BlockClock) -> bool {
        let knows = |uid: u64| self.of(block, lane, |known| known.of_block(uid, other.threads)) != 0;
        other.past.iter().any(|&uid| knows(uid)) || knows(other.uid)
    }

    /// Lanes meet at `bar.warp.sync`.
    pub(in super::super) fn meet(&mut self, block: &BlockClock, lanes: u32) {
        self.catch_up(block);
        let mut told = Knowledge::default();
        if self.plain {
            let clocks: [u32; LANES] = std::array::from_fn(|lane| match lanes >> lane & 1 {
                1 => self.clock(block, lane),
                _ => 0,
            });
            told.warps.insert(self.uid, clocks);
        } else {
            super::lanes_of(lanes).for_each(|lane| told.join(&self.tell(block, lane)));
        }
        let told = Arc::new(told);
        for lane in super::lanes_of(lanes) {
            match &self.known[lane] {
                // Its own knowledge is part of what was told.
                Some(_) if !self.plain => self.known[lane] = Some(told.clone()),
                _ => learn(&mut self.known[lane], &told),
            }
        }
        self.plain = false;
        self.step(lanes);
    }

    /// Lanes execute a fence.
    pub(in super::super) fn fence(&mut self, block: &BlockClock, lanes: u32, scope: Scope) {
        self.catch_up(block);
        for lane in super::lanes_of(lanes) {
            let far = if includes(scope, false) { self.seen[lane].take() } else { None };
            for seen in [self.seen_near[lane].take(), far].into_iter().flatten() {
                learn(&mut self.known[lane], &seen);
            }
            let told = Arc::new(self.tell(block, lane));
            self.fenced[lane] = Some((told, scope));
        }
        self.plain = false;
        self.step(lanes);
    }

    fn of(&self, block: &BlockClock, lane: usize, which: impl Fn(&Knowledge) -> u32) -> u32 {
        let known = [block.common.as_deref(), self.known[lane].as_deref()];
        known.into_iter().flatten().map(which).max().unwrap_or(0)
    }

    /// Whether a lane knows a clock of a thread.
    pub(super) fn knows(&self, block: &BlockClock, lane: usize, uid: u64, clock: u32) -> bool {
        let own = uid.wrapping_sub(block.uid) < block.threads && clock <= block.base();
        let past = block.past.iter().any(|&start| uid.wrapping_sub(start) < block.threads);
        own || past || self.of(block, lane, |known| known.of_thread(uid, block.threads)) >= clock
    }

    /// Whether a lane knows a clock of lanes of a warp, of which one stands for all.
    pub(super) fn knows_warp(&self, block: &BlockClock, lane: usize, uid: u64, clock: u32) -> bool {
        let me = self.uid + lane as u64;
        self.knows(block, lane, if uid == me { uid ^ 1 } else { uid }, clock)
    }

    /// Whether a lane has synchronised with another thread of its block since all did.
    pub(super) fn knows_peers(&self, block: &BlockClock, lane: usize) -> bool {
        let of_warp = |(&first, clocks): (&u64, &[u32; LANES])| {
            let peers = first.wrapping_sub(block.uid) < block.threads;
            peers
                && (0..LANES)
                    .any(|other| clocks[other] > block.base() && first + other as u64 != self.uid + lane as u64)
        };
        self.of(block, lane, |known| u32::from(known.warps.iter().any(of_warp))) != 0
    }

    /// Whether a lane knows of any thread of another block.
    pub(super) fn knows_others(&self, block: &BlockClock, lane: usize) -> bool {
        self.of(block, lane, |known| u32::from(known.blocks.keys().any(|&other| other != block.uid))) != 0
    }
}
