//! What a report of a race says.

use crate::fault::FaultKind;

use super::super::registers::{LANES, Lanes64};
use super::super::state::{Launch, Problem, Shared, Warp, Worker};
use super::cell::{Conflict, Several, mark};
use super::{Act, Races};

impl Races {
    /// The block and the thread that a number belongs to, in words.
    fn name(&self, uid: u64, launch: &Launch<'_>, shared: &Shared) -> (String, String) {
        let own = uid.wrapping_sub(shared.race.uid);
        let (block, thread) = if own < self.per_block {
            (shared.block, own)
        } else {
            let from_first = uid - self.first;
            let index = from_first / self.per_block;
            if index >= launch.shape.grid.iter().map(|&n| u64::from(n)).product() {
                return ("another block".to_owned(), "a thread".to_owned());
            }
            (launch.place(index), from_first % self.per_block)
        };
        if thread >= u64::from(launch.threads()) {
            let [bx, by, bz] = block;
            return (format!("block ({bx},{by},{bz})"), "a copy that an mbarrier tells of".to_owned());
        }
        let [x, y, _] = launch.shape.block.map(u64::from);
        let [tx, ty, tz] = [thread % x, thread / x % y, thread / x / y];
        let [bx, by, bz] = block;
        (format!("block ({bx},{by},{bz})"), format!("thread ({tx},{ty},{tz})"))
    }
}

impl Worker<'_> {
    /// The place of the instruction with a mark.
    pub(super) fn marked(&self, number: u16) -> Option<u32> {
        let code = &self.launch.entry.code;
        let found = code.iter().position(|inst| number != 0 && inst.op.site().is_some_and(|site| mark(site) == number));
        found.map(|place| place as u32)
    }

    /// The error of an access, to shared memory of a block or to global memory, by a thread of another.
    #[cold]
    #[inline(never)]
    pub(super) fn race(
        &self,
        conflict: &Conflict,
        (of, shared): (Option<&Shared>, &Shared),
        warp: &Warp,
        at: &Lanes64,
        bytes: usize,
        act: Act,
    ) -> Box<Problem> {
        let lane = (conflict.by.wrapping_sub(warp.race.uid) as usize).min(LANES - 1);
        let what = match act {
            Act::Read => "read",
            Act::Write => "write",
            Act::Update => "atomic operation",
        };
        let before = match (conflict.wrote, conflict.strong) {
            (true, true) => "the atomic or strong write",
            (true, false) => "the write",
            (false, true) => "the strong read",
            (false, false) => "the read",
        };
        let address = at[lane];
        let place = match of {
            None => format!("{address:#x}"),
            Some(of) if of.block == shared.block => format!("offset {address:#x} of shared memory"),
            Some(of) => {
                let [x, y, z] = of.block;
                format!("offset {address:#x} of shared memory of block ({x},{y},{z})")
            }
        };
        let races = self.launch.races.as_ref();
        let (block, thread) =
            races.map_or_else(Default::default, |races| races.name(conflict.other, self.launch, shared));
        let who = match conflict.several {
            Several::One => format!("{thread} in {block}"),
            Several::OfWarp => format!("several threads of a warp, one of them {thread} in {block}"),
            Several::OfBlock => format!("several threads in {block}"),
            Several::OfBlocks => "threads of several blocks".to_owned(),
        };
        let why =
            if conflict.apart { ", and one of the two is atomic for the threads of its block only (.cta)" } else { "" };
        let why = if conflict.flight { ", an asynchronous copy that was not waited for" } else { why };
        let detail = format!("{what} of {bytes} bytes at {place} is not ordered after {before} by {who}{why}");
        let mut problem = Problem::new(FaultKind::Race, lane, address, detail);
        problem.earlier = self.marked(conflict.mark);
        problem
    }
}
