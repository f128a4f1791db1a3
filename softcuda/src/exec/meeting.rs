//! Barriers of a cluster.

use crate::fault::FaultKind;

use super::barrier::Arrival;
use super::cluster::Cluster;
use super::state::{Problem, State, Step, Warp, Worker};

/// The barrier of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClusterBarrier {
    /// Threads that arrived and have not exited since.
    arrived: u32,
    /// Completions so far.
    pub(super) generation: u64,
}

/// What the lanes of a warp did at the barrier of its cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attendance {
    /// Lanes that arrived and did not wait yet.
    arrived: u32,
    /// Those of them that arrived in an odd generation.
    odd: u32,
}

impl Attendance {
    /// Lanes whose barrier is complete, of those that arrived.
    fn complete(self, generation: u64) -> u32 {
        self.arrived & if generation & 1 == 0 { self.odd } else { !self.odd }
    }

    /// Lanes have waited.
    pub(super) fn leave(&mut self, lanes: u32) {
        self.arrived &= !lanes;
        self.odd &= !lanes;
    }
}

impl Cluster {
    /// Completes the barrier if all threads that have not exited arrived.
    fn meet(&mut self, worker: &mut Worker<'_>) {
        let running: u32 = self.blocks.iter().map(|block| block.threads - block.exited).sum();
        if self.barrier.arrived == running && running > 0 {
            self.told.complete();
            self.barrier = ClusterBarrier { arrived: 0, generation: self.barrier.generation + 1 };
            worker.counters.cluster_barriers += 1;
            worker.progress += 1;
        }
    }

    /// Threads exit: nobody waits for them.
    pub(super) fn exit(&mut self, worker: &mut Worker<'_>, warp: &mut Warp, lanes: u32) {
        let here = warp.attendance.arrived & !warp.attendance.complete(self.barrier.generation);
        self.barrier.arrived -= (here & lanes).count_ones();
        warp.attendance.leave(lanes);
        if self.blocks.len() > 1 {
            self.meet(worker);
        }
    }

    /// `barrier.cluster.arrive`.
    pub(super) fn arrive(
        &mut self,
        worker: &mut Worker<'_>,
        warp: &mut Warp,
        (aligned, relaxed): (bool, bool),
        lanes: u32,
    ) -> Step<Arrival> {
        if aligned && lanes != warp.live {
            return Ok(Arrival::WaitForWarp);
        }
        let again = lanes & warp.attendance.arrived;
        if again != 0 {
            let detail = "the thread arrived at the barrier of the cluster and did not wait since".to_owned();
            return Err(Problem::new(FaultKind::BarrierDivergence, again.trailing_zeros() as usize, 0, detail));
        }
        warp.attendance.arrived |= lanes;
        if self.barrier.generation & 1 != 0 {
            warp.attendance.odd |= lanes;
        }
        self.barrier.arrived += lanes.count_ones();
        if worker.launch.races.is_some() {
            let race = &self.blocks[self.me].race;
            match relaxed {
                true => self.told.arrive_relaxed(race, &mut warp.race, lanes),
                false => self.told.arrive(race, &mut warp.race, lanes),
            }
        }
        self.meet(worker);
        Ok(Arrival::Pass)
    }

    /// `barrier.cluster.wait`: which lanes must still wait, and how.
    pub(super) fn wait(&self, warp: &mut Warp, aligned: bool, lanes: u32) -> Step<(Arrival, u32)> {
        if aligned && lanes != warp.live {
            return Ok((Arrival::WaitForWarp, lanes));
        }
        let never = lanes & !warp.attendance.arrived;
        if never != 0 {
            let detail = "the thread waits at the barrier of the cluster and did not arrive".to_owned();
            return Err(Problem::new(FaultKind::BarrierDivergence, never.trailing_zeros() as usize, 0, detail));
        }
        let generation = self.barrier.generation;
        let ready = lanes & warp.attendance.complete(generation);
        warp.attendance.leave(ready);
        self.told.learn(&self.own().race, &mut warp.race, ready, false);
        if ready == lanes {
            return Ok((Arrival::Pass, 0));
        }
        Ok((Arrival::Wait(State::Cluster { generation }), lanes & !ready))
    }
}
