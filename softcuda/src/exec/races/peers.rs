//! Accesses to the shared memory of other blocks of a cluster.
//!
//! That memory is there from when its block begins until its last thread exits. Who uses it must know
//! that the block has begun, and some thread of the block must know of the access when it exits,
//! whatever order the blocks happen to run in. The cells do not tell: they have the last access only.

use std::collections::BTreeMap;

use crate::fault::FaultKind;

use super::super::cluster::Cluster;
use super::super::mbarrier::Object;
use super::super::registers::LANES;
use super::super::state::{Problem, Shared, Step, Warp, Worker};
use super::super::transfers::{Failure, Issuer};
use super::{cell, lanes_of};

/// A thread's last access.
#[derive(Clone, Copy, Default)]
pub(super) struct Visit {
    /// The thread's clock, 0 for none.
    clock: u32,
    mark: u16,
}

/// The last accesses of the lanes of warps, by the numbers of their first, their blocks, and their index.
pub(super) type Visits = BTreeMap<(u64, [u32; 3], u32), [Visit; LANES]>;

impl Worker<'_> {
    /// Lanes use the shared memory of another block of the cluster, which they must know to have begun.
    pub(in super::super) fn must_have_begun(
        &self,
        of: &Shared,
        shared: &Shared,
        warp: &Warp,
        mask: u32,
        what: &str,
    ) -> Step {
        if self.launch.races.is_none() || of.block == shared.block {
            return Ok(());
        }
        let Some(lane) = lanes_of(mask).find(|&lane| !warp.race.knows_of(&shared.race, lane, &of.race)) else {
            return Ok(());
        };
        let [x, y, z] = of.block;
        let detail = format!("{what} in the shared memory of block ({x},{y},{z}), which need not have begun");
        Err(Problem::new(FaultKind::PeerNotRunning, lane, 0, detail))
    }

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
        self.must_have_begun(of, shared, warp, mask, what)?;
        let mut visits = of.race.visits.borrow_mut();
        let lanes = visits.entry((warp.race.uid, shared.block, warp.index)).or_insert([Visit::default(); LANES]);
        for lane in lanes_of(mask) {
            lanes[lane] = Visit { clock: warp.race.clock(&shared.race, lane), mark: cell::mark(site) };
        }
        Ok(())
    }

    /// A block has exited. The error is that of a copy to it that it did not wait for, or of an access to its shared memory which no thread of it knew
    /// of at its end: it could as well come later.
    pub(in super::super) fn check_exit(&self, cluster: &Cluster, rank: usize) -> Result<(), Failure> {
        let gone = &cluster.blocks[rank];
        if let Some(issuer) = gone.mbarriers.values().find_map(Object::unobserved) {
            let detail = format!(
                "block {rank} of the cluster exits and has not waited for this asynchronous copy, which writes its shared memory"
            );
            return Err((Problem::new(FaultKind::MissingWait, issuer.lane, 0, detail), issuer));
        }
        for ((first, block, warp), lanes) in gone.race.visits.take() {
            let unknown = |lane: &usize| {
                let Visit { clock, .. } = lanes[*lane];
                clock != 0 && !gone.race.knew(first + *lane as u64, clock)
            };
            if let Some(lane) = (0..LANES).find(unknown) {
                let [x, y, z] = gone.block;
                let detail = format!(
                    "access to the shared memory of block ({x},{y},{z}), which may have exited: nothing orders its exit \
                     after the access"
                );
                let rank = cluster.blocks.iter().position(|other| other.block == block).unwrap_or(rank);
                let pc = self.marked(lanes[lane].mark).unwrap_or(0);
                let problem = Problem::new(FaultKind::PeerNotRunning, lane, 0, detail);
                return Err((problem, Issuer { rank, warp, lane, pc }));
            }
        }
        Ok(())
    }
}
