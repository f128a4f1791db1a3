//! Accesses to the shared memory of other blocks of a cluster.
//!
//! That memory is there from when its block begins until its last thread exits. Who uses it must know
//! that the block has begun, and some thread of the block must know of the access when it exits,
//! whatever order the blocks happen to run in. The cells do not tell: they have the last access only.

use std::collections::BTreeMap;

use crate::fault::FaultKind;

use super::super::cluster::Cluster;
use super::super::registers::LANES;
use super::super::state::{Problem, Shared, Step, Warp, Worker};
use super::{cell, lanes_of};

/// A thread's last access.
#[derive(Clone, Copy, Default)]
pub(super) struct Visit {
    /// The thread's clock, 0 for none.
    clock: u32,
    mark: u16,
}

/// The last accesses of the lanes of warps, by the numbers of their first.
pub(super) type Visits = BTreeMap<u64, [Visit; LANES]>;

impl Worker<'_> {
    /// Lanes access the shared memory of another block of the cluster.
    pub(in super::super) fn visit(
        &self,
        of: &Shared,
        shared: &Shared,
        warp: &Warp,
        mask: u32,
        (site, what): (u32, &str),
    ) -> Step {
        if self.launch.races.is_none() || of.block == shared.block {
            return Ok(());
        }
        if let Some(lane) = lanes_of(mask).find(|&lane| !warp.race.knows_of(&shared.race, lane, &of.race)) {
            let [x, y, z] = of.block;
            let detail = format!("{what} in the shared memory of block ({x},{y},{z}), which need not have begun");
            return Err(Problem::new(FaultKind::PeerNotRunning, lane, 0, detail));
        }
        let mut visits = of.race.visits.borrow_mut();
        let lanes = visits.entry(warp.race.uid).or_insert([Visit::default(); LANES]);
        for lane in lanes_of(mask) {
            lanes[lane] = Visit { clock: warp.race.clock(&shared.race, lane), mark: cell::mark(site) };
        }
        Ok(())
    }

    /// Lanes of the block that runs exit. After the last of them nobody may access its shared memory.
    pub(in super::super) fn part(&self, cluster: &mut Cluster, warp: &Warp, mask: u32) -> Step {
        let Some(races) = self.launch.races.as_ref().filter(|_| cluster.blocks.len() > 1) else { return Ok(()) };
        let own = cluster.own_mut();
        own.race.part(&warp.race, mask);
        if own.runs() {
            return Ok(());
        }
        let visits = own.race.visits.take();
        let all = visits.iter().flat_map(|(first, lanes)| (*first..).zip(lanes));
        let Some((uid, visit)) =
            all.filter(|(_, visit)| visit.clock != 0).find(|(uid, v)| !own.race.knew(*uid, v.clock))
        else {
            return Ok(());
        };
        let (block, thread) = races.name(uid, self.launch, own);
        let detail = format!(
            "the block has exited, which nothing orders after the access to its shared memory by {thread} in {block}"
        );
        let mut problem = Problem::new(FaultKind::PeerNotRunning, super::first_lane(mask), 0, detail);
        problem.earlier = self.marked(visit.mark);
        Err(problem)
    }
}
