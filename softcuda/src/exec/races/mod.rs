//! Races: two threads touch the same byte, at least one writes, and nothing orders the two.
//!
//! What orders them is a relation between threads, not the schedule that happened to run: each
//! thread has a clock and knows of the clocks of others ([`clock`]), as of what it synchronised with.
//! Memory remembers who touched it last and at which clock ([`cell`]). An access is in order if
//! its thread knows that clock. The edges are those of PTX's memory consistency model: barriers of
//! a block, `bar.warp.sync`, and release and acquire patterns, made of strong accesses and fences, whose
//! scopes include each other. Shuffles, votes and the lockstep of a warp order nothing.
//!
//! The shared memory of a block is there while the block is: [`peers`] looks at that. What asynchronous
//! copies touch is in [`flight`] until somebody waits for them.
//!
//! Four deliberate tolerances. Operations on `mbarrier` objects order across blocks whatever their scope
//! is: much code leaves it out, which means `.cta`. A fence before a barrier of the block counts for the
//! relaxed accesses that other threads make after it: the model wants a fence of the same thread, much
//! code has it on the wrong side, and all hardware honours it. Lanes that store the same value to the
//! same place by one instruction do not race. And of the readers from several warps only the last is
//! remembered: who synchronised with it alone may write.

mod cell;
mod clock;
mod flight;
mod peers;
mod report;
mod table;
mod view;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::lower::op::{Access, Order, Scope};
use crate::memory::Window;

use super::access::{consecutive, contiguous, first_lane, lanes_of};
use super::registers::{LANES, Lanes64};
use super::state::{Shared, Step, Warp, Worker};

use cell::{Conflict, GRANULE, Piece};
pub(super) use clock::{BlockClock, Flags, Told, WarpClock};
pub(super) use flight::Flight;
use table::Table;
use view::View;

/// Numbers of threads, never used twice. A cell with a number below those of a launch is of an
/// earlier launch, which the order of streams puts before this one.
static NEXT_THREAD: AtomicU64 = AtomicU64::new(LANES as u64);

/// Numbers for threads, in whole warps.
fn number_threads(count: u64) -> u64 {
    NEXT_THREAD.fetch_add(count.next_multiple_of(LANES as u64), Relaxed)
}

/// The part of race detection that the blocks of a launch share.
pub(super) struct Races {
    /// The number of the first thread.
    first: u64,
    /// Numbers that each block takes: those of its threads, and a warp more for what copies on its own.
    per_block: u64,
    /// Whether blocks look at what others write: only then can one be ordered after another.
    pub(super) communicates: bool,
    table: Table,
}

impl Races {
    pub(super) fn new(blocks: u64, threads: u32, (communicates, copies): (bool, bool)) -> Races {
        let agents = if copies { LANES as u64 } else { 0 };
        let per_block = u64::from(threads).next_multiple_of(LANES as u64) + agents;
        let first = number_threads(blocks.saturating_mul(per_block));
        Races { first, per_block, communicates, table: Table::new(64) }
    }

    /// The clock of a block that begins, by its number: cluster by cluster, and by rank in each.
    pub(super) fn block(&self, index: u64) -> BlockClock {
        BlockClock::new(self.first + index * self.per_block, self.per_block)
    }

    /// The cells of an allocation.
    #[inline(always)]
    fn view(&self, window: &Window) -> View<'_> {
        let granules = (window.size as usize).div_ceil(GRANULE);
        // SAFETY: the marks of the reads follow on those of the writes, of which there are whole fours.
        let marks = (window.sites, unsafe { window.sites.add(granules.next_multiple_of(4)) });
        View::new((window.writes, window.reads), marks, &self.table, window.base, self.first)
    }
}

/// What an access does to memory, for the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Read,
    Write,
    /// Reads and writes at once, atomically.
    Update,
}

/// How a request touches memory.
#[derive(Clone, Copy)]
pub(super) struct Touch {
    pub(super) act: Act,
    pub(super) strong: bool,
    pub(super) order: Order,
    pub(super) site: u32,
    /// It goes on until somebody waits for it.
    pub(super) flight: bool,
}

impl Touch {
    pub(super) fn of(access: &Access, act: Act) -> Touch {
        Touch { act, strong: access.strong, order: access.order, site: access.site, flight: false }
    }

    /// Whether it is strong for the threads of its block only.
    #[inline(always)]
    pub(super) fn narrow(&self) -> bool {
        self.strong && self.order.scope == Scope::Block
    }
}

impl Worker<'_> {
    /// Checks a request to global memory that was found to lie inside allocations.
    #[inline(always)]
    pub(super) fn race_global(
        &mut self,
        shared: &Shared,
        warp: &mut Warp,
        at: &Lanes64,
        mask: u32,
        bytes: usize,
        touch: Touch,
    ) -> Step {
        let Some(races) = &self.launch.races else { return Ok(()) };
        let first = first_lane(mask);
        if consecutive(mask) && contiguous(at, mask, bytes as u64) {
            let length = mask.count_ones() as u64 * bytes as u64;
            if let Some((window, offset)) = self.window(touch.site, at[first], length) {
                let view = races.view(&window);
                let found = run(&view, shared, warp, (first, mask), (offset, bytes), touch);
                self.settle_race(found, (None, shared), warp, at, bytes, touch)?;
                return self.synchronise(shared, warp, at, mask, touch, None);
            }
        }
        let mask = self.distinct(at, mask, bytes, touch);
        for (lane, many) in heads(at, mask, bytes, touch.act) {
            let Some((window, offset)) = self.window(touch.site, at[lane], bytes as u64) else { continue };
            let view = races.view(&window);
            let found = single(&view, shared, warp, lane, many, (offset, bytes), touch);
            self.settle_race(found, (None, shared), warp, at, bytes, touch)?;
        }
        self.synchronise(shared, warp, at, mask, touch, None)
    }

    /// Checks a request to shared memory, by offsets that were found to lie inside it.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "a request, and whose memory it is in")]
    pub(super) fn race_shared(
        &mut self,
        of: &Shared,
        shared: &Shared,
        warp: &mut Warp,
        at: &Lanes64,
        mask: u32,
        bytes: usize,
        touch: Touch,
    ) -> Step {
        if self.launch.races.is_none() {
            return Ok(());
        }
        let first = first_lane(mask);
        let view = of.race.view();
        if consecutive(mask) && contiguous(at, mask, bytes as u64) {
            let found = run(&view, shared, warp, (first, mask), (at[first] as usize, bytes), touch);
            self.settle_race(found, (Some(of), shared), warp, at, bytes, touch)?;
        } else {
            let mask = self.distinct(at, mask, bytes, touch);
            for (lane, many) in heads(at, mask, bytes, touch.act) {
                let found = single(&view, shared, warp, lane, many, (at[lane] as usize, bytes), touch);
                self.settle_race(found, (Some(of), shared), warp, at, bytes, touch)?;
            }
        }
        self.synchronise(shared, warp, at, mask, touch, Some(of))
    }

    /// The lanes of a request without those that write what a lane before them writes, to the same
    /// place: whichever is last, the result is the same.
    fn distinct(&self, at: &Lanes64, mask: u32, bytes: usize, touch: Touch) -> u32 {
        if touch.act != Act::Write || touch.flight {
            return mask;
        }
        let value = |lane: usize| &self.staging.bytes[lane * bytes..(lane + 1) * bytes];
        let repeats = |&lane: &usize| {
            let before = lanes_of(mask & ((1 << lane) - 1)).find(|&other| at[other] == at[lane]);
            before.is_some_and(|other| value(other) == value(lane))
        };
        lanes_of(mask).filter(|lane| !repeats(lane)).fold(0, |lanes, lane| lanes | 1 << lane)
    }

    #[inline(always)]
    fn settle_race(
        &self,
        found: Result<(), Conflict>,
        whose: (Option<&Shared>, &Shared),
        warp: &Warp,
        at: &Lanes64,
        bytes: usize,
        touch: Touch,
    ) -> Step {
        match found {
            Err(conflict) if !self.repeats(&conflict, warp, touch) => {
                Err(self.race(&conflict, whose, warp, at, bytes, touch.act))
            }
            _ => Ok(()),
        }
    }

    /// Whether lanes store the same value to the same place by one instruction, apart only because a
    /// draw parted them.
    #[cold]
    fn repeats(&self, conflict: &Conflict, warp: &Warp, touch: Touch) -> bool {
        let lane = |thread: u64| Some(thread.wrapping_sub(warp.race.uid)).filter(|&lane| lane < LANES as u64);
        let unchanged = lane(conflict.by).is_some_and(|lane| self.staging.unchanged >> lane & 1 != 0);
        let one = touch.act == Act::Write && conflict.wrote && conflict.mark == cell::mark(touch.site);
        unchanged && one && !conflict.strong && !conflict.flight && !touch.flight && lane(conflict.other).is_some()
    }

    /// What strong accesses tell, and learn from, other threads.
    #[inline(always)]
    fn synchronise(
        &mut self,
        shared: &Shared,
        warp: &mut Warp,
        at: &Lanes64,
        mask: u32,
        touch: Touch,
        near: Option<&Shared>,
    ) -> Step {
        let concerned =
            touch.strong && (near.is_some() || self.launch.races.as_ref().is_some_and(|races| races.communicates));
        if concerned {
            for lane in lanes_of(mask) {
                let mut of_block = near.map(|of| of.race.flags.borrow_mut());
                let flags = of_block.as_deref_mut().unwrap_or(&mut self.flags);
                flags.touch(&shared.race, &mut warp.race, lane, at[lane], touch);
            }
        }
        Ok(())
    }
}

/// A request whose lanes follow on each other.
#[inline(always)]
fn run(
    view: &View<'_>,
    shared: &Shared,
    warp: &Warp,
    (first, mask): (usize, u32),
    (offset, bytes): (usize, usize),
    touch: Touch,
) -> Result<(), Conflict> {
    let (block, own) = (&shared.race, &warp.race);
    let count = mask.count_ones() as usize;
    let Some(clock) = (if touch.flight { Some(cell::FLIGHT) } else { own.common(block) }) else {
        for index in 0..count {
            let place = (offset + index * bytes, bytes);
            single(view, shared, warp, first + index, false, place, touch)?;
        }
        return Ok(());
    };
    let piece = Piece { uid: own.uid + first as u64, size: bytes, clock, many: false, who: None, touch };
    match touch.flight {
        true => cell::touch_run::<true>(view, block, own, &piece, offset, count * bytes),
        false => cell::touch_run::<false>(view, block, own, &piece, offset, count * bytes),
    }
}

/// A request of one lane, or of `many` that read the same place.
#[inline(always)]
fn single(
    view: &View<'_>,
    shared: &Shared,
    warp: &Warp,
    lane: usize,
    many: bool,
    place: (usize, usize),
    touch: Touch,
) -> Result<(), Conflict> {
    match touch.flight {
        true => single_as::<true>(view, shared, warp, lane, many, place, touch),
        false => single_as::<false>(view, shared, warp, lane, many, place, touch),
    }
}

#[inline(never)]
fn single_as<const FLYING: bool>(
    view: &View<'_>,
    shared: &Shared,
    warp: &Warp,
    lane: usize,
    many: bool,
    (offset, bytes): (usize, usize),
    touch: Touch,
) -> Result<(), Conflict> {
    let (block, own) = (&shared.race, &warp.race);
    let clock = if FLYING { cell::FLIGHT } else { own.clock(block, lane) };
    let piece = Piece { uid: own.uid + lane as u64, size: bytes, clock, many, who: None, touch };
    if cell::touch_granule::<FLYING>(view, block, own, &piece, offset) {
        return Ok(());
    }
    cell::touch_run::<FLYING>(view, block, own, &piece, offset, bytes)
}

/// Lanes to look at one by one. Where all read the same place the first stands for them.
fn heads(at: &Lanes64, mask: u32, bytes: usize, act: Act) -> impl Iterator<Item = (usize, bool)> + use<> {
    let first = first_lane(mask);
    let same = act == Act::Read && lanes_of(mask).all(|lane| at[lane] == at[first]);
    debug_assert!(bytes <= 32);
    let lanes = if same { 1 << first } else { mask };
    lanes_of(lanes).map(move |lane| (lane, same && mask.count_ones() > 1))
}

/// Who releases and acquires with a scope can be heard by whom.
fn includes(scope: Scope, same_block: bool) -> bool {
    scope != Scope::Block || same_block
}
