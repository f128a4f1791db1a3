//! Asynchronous copies, as accesses.
//!
//! What a copy reads and writes it may touch at any time between its issue and the wait for it. At the
//! issue it must be in order with what was before, as an access of the thread that issues it. From then
//! on the cells have a clock that nobody ever knows, and at the wait they get that of then.
//!
//! Copies that their own thread waits for are its accesses. Those that arrive at an `mbarrier` are the
//! accesses of an agent, one for each object: all who wait for the phase learn of its clock, which is of
//! when the first of them did.

use crate::lower::op::{Order, Scope};

use super::super::copies::PendingCopy;
use super::super::state::{Shared, Step, Warp, Worker};
use super::super::transfers::Place;
use super::cell::{self, FLIGHT, Piece};
use super::{Act, Touch, consecutive, contiguous, first_lane, lanes_of};

/// An access of an asynchronous copy.
#[derive(Clone, Copy)]
pub(in super::super) struct Flight {
    /// Whose access it is.
    pub(in super::super) uid: u64,
    pub(in super::super) act: Act,
    pub(in super::super) site: u32,
    pub(in super::super) bytes: usize,
}

impl Flight {
    fn piece(&self, clock: u32, who: Option<u64>) -> Piece {
        let strong = self.act == Act::Update;
        let order = Order { scope: Scope::Device, ..Order::RELAXED };
        let touch = Touch { act: self.act, strong, order, site: self.site, flight: true };
        Piece { uid: self.uid, size: self.bytes.next_power_of_two(), clock, many: false, who, touch }
    }
}

impl Worker<'_> {
    /// A lane issues a copy, of which this is one access.
    pub(in super::super) fn take_off(
        &mut self,
        blocks: &[Shared],
        (shared, warp, lane): (&Shared, &Warp, usize),
        place: Place,
        flight: Flight,
    ) -> Step {
        let Some(races) = &self.launch.races else { return Ok(()) };
        if flight.bytes == 0 {
            return Ok(());
        }
        let piece = flight.piece(FLIGHT, Some(warp.race.uid + lane as u64));
        let (of, address, found) = match place {
            Place::Global(address) => {
                let Some((window, offset)) = self.window(flight.site, address, flight.bytes as u64) else {
                    return Ok(());
                };
                let view = races.view(&window);
                let found = cell::touch_run::<true>(&view, &shared.race, &warp.race, &piece, offset, flight.bytes);
                (None, address, found)
            }
            Place::Shared(rank, offset) => {
                let (of, view) = (&blocks[rank], blocks[rank].race.view());
                let found =
                    cell::touch_run::<true>(&view, &shared.race, &warp.race, &piece, offset as usize, flight.bytes);
                (Some(of), offset, found)
            }
        };
        found.map_err(|conflict| {
            let at = [address; super::LANES];
            self.race(&conflict, (of, shared), warp, &at, flight.bytes, flight.act)
        })
    }

    /// It has been waited for; its block's clock, or that of its agent, is now this.
    pub(in super::super) fn land(&mut self, blocks: &[Shared], rank: usize, place: Place, flight: Flight, clock: u32) {
        let Some(races) = &self.launch.races else { return };
        let (piece, block) = (flight.piece(clock, None), &blocks[rank].race);
        match place {
            Place::Global(address) => {
                if let Some((window, offset)) = self.window(flight.site, address, flight.bytes as u64) {
                    cell::land(&races.view(&window), block, &piece, offset, flight.bytes);
                }
            }
            Place::Shared(of, offset) => {
                cell::land(&blocks[of].race.view(), block, &piece, offset as usize, flight.bytes);
            }
        }
    }

    /// Lanes issue `cp.async`.
    pub(in super::super) fn take_off_copy(&mut self, shared: &Shared, warp: &mut Warp, copy: &PendingCopy) -> Step {
        if self.launch.races.is_none() {
            return Ok(());
        }
        let touch = |act| Touch { act, strong: false, order: Order::RELAXED, site: copy.site, flight: true };
        let full = copy.full(copy.lanes);
        if full != 0 {
            self.race_global(shared, warp, &copy.from, full, copy.size, touch(Act::Read))?;
        }
        for lane in lanes_of(copy.lanes & !full).filter(|&lane| copy.bytes[lane] != 0) {
            let bytes = usize::from(copy.bytes[lane]);
            self.race_global(shared, warp, &copy.from, 1 << lane, bytes, touch(Act::Read))?;
        }
        self.race_shared(shared, shared, warp, &copy.to, copy.lanes, copy.size, touch(Act::Write))
    }

    /// Lanes have waited for it, or an `mbarrier` is to tell of it.
    pub(in super::super) fn land_copy(&mut self, shared: &Shared, warp: &Warp, copy: &PendingCopy, due: u32) {
        let Some(races) = &self.launch.races else { return };
        if due == 0 {
            return;
        }
        let (block, own) = (&shared.race, &warp.race);
        let piece = |lane: usize, act, size, clock| {
            let touch = Touch { act, strong: false, order: Order::RELAXED, site: copy.site, flight: true };
            Piece { uid: own.uid + lane as u64, size, clock, many: false, who: None, touch }
        };
        let (first, wide) = (first_lane(due), copy.size as u64);
        let together = consecutive(due).then(|| own.common(block)).flatten();
        let length = due.count_ones() as usize * copy.size;
        match together {
            Some(clock) if contiguous(&copy.to, due, wide) => {
                let piece = piece(first, Act::Write, copy.size, clock);
                cell::land(&block.view(), block, &piece, copy.to[first] as usize, length);
            }
            _ => {
                for lane in lanes_of(due) {
                    let piece = piece(lane, Act::Write, copy.size, own.clock(block, lane));
                    cell::land(&block.view(), block, &piece, copy.to[lane] as usize, copy.size);
                }
            }
        }
        let whole = together.filter(|_| copy.full(due) == due && contiguous(&copy.from, due, wide));
        if let Some(clock) = whole
            && let Some((window, offset)) = self.window(copy.site, copy.from[first], length as u64)
        {
            cell::land(&races.view(&window), block, &piece(first, Act::Read, copy.size, clock), offset, length);
            return;
        }
        for lane in lanes_of(due).filter(|&lane| copy.bytes[lane] != 0) {
            let bytes = usize::from(copy.bytes[lane]);
            if let Some((window, offset)) = self.window(copy.site, copy.from[lane], bytes as u64) {
                let piece = piece(lane, Act::Read, bytes, own.clock(block, lane));
                cell::land(&races.view(&window), block, &piece, offset, bytes);
            }
        }
    }
}
