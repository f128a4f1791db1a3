//! Thread-block clusters: blocks that run together and reach each other's shared memory.
//!
//! A launch without clusters runs clusters of one block. An address in `.shared::cluster` is an
//! offset in the memory of the block that uses it or, above [`RANK_SHIFT`], of the block whose rank
//! is one less than what is there.

use crate::fault::{Fault, FaultKind};
use crate::lower::op::Op;

use super::SHARED_WINDOW;
use super::access::lanes_of;
use super::block::{Block, Outcome, next};
use super::engine::{RunWarp, hazy, settle};
use super::meeting::ClusterBarrier;
use super::races::{Told, Touch};
use super::registers::{LANES, Lanes64};
use super::state::{Launch, Problem, Shared, Step, Warp, Worker};
use super::transfers::{Failure, Transfers};

/// Where an address in `.shared::cluster` says whose memory it is in.
pub(super) const RANK_SHIFT: u32 = 24;

/// What the blocks of a cluster share.
pub(super) struct Cluster {
    /// What the warps of each block share, by the block's rank.
    pub(super) blocks: Vec<Shared>,
    /// Rank of the block that runs.
    pub(super) me: usize,
    pub(super) barrier: ClusterBarrier,
    pub(super) transfers: Transfers,
    /// What its threads tell each other there, for the race detector.
    pub(super) told: Told,
}

impl Cluster {
    /// The block that runs.
    #[inline(always)]
    pub(super) fn own(&self) -> &Shared {
        &self.blocks[self.me]
    }

    /// The block that runs.
    #[inline(always)]
    pub(super) fn own_mut(&mut self) -> &mut Shared {
        &mut self.blocks[self.me]
    }

    /// Rank and offset of an address in the window of the cluster.
    pub(super) fn split(&self, address: u64) -> (usize, u64) {
        match (address >> RANK_SHIFT) as usize {
            0 => (self.me, address),
            above => (above - 1, address & ((1 << RANK_SHIFT) - 1)),
        }
    }

    /// The same for a block that can be reached.
    pub(super) fn place(&self, address: u64, lane: usize, what: &str) -> Step<(usize, u64)> {
        let (rank, offset) = self.split(address);
        let size = self.blocks.len();
        let Some(block) = self.blocks.get(rank) else {
            let detail = format!("{what} at {address:#x}, in block {rank} of a cluster of {size}");
            return Err(Problem::new(FaultKind::OutOfBounds, lane, address, detail));
        };
        let gone = block.exited == block.threads;
        if rank != self.me && (gone || !block.started) {
            let state = if gone { "has exited" } else { "need not have begun" };
            let detail = format!("{what} at offset {offset:#x} of shared memory of block {rank}, which {state}");
            return Err(Problem::new(FaultKind::PeerNotRunning, lane, address, detail));
        }
        Ok((rank, offset))
    }

    /// The blocks that lanes reach with addresses in the window: each rank, its lanes and all
    /// offsets.
    pub(super) fn ranks(&self, at: &Lanes64, mask: u32, what: &str) -> Step<Vec<(usize, u32, Lanes64)>> {
        let mut found: Vec<(usize, u32, Lanes64)> = Vec::new();
        for lane in lanes_of(mask) {
            let (rank, offset) = self.place(at[lane], lane, what)?;
            match found.iter_mut().find(|(other, ..)| *other == rank) {
                Some((_, lanes, offsets)) => (*lanes, offsets[lane]) = (*lanes | 1 << lane, offset),
                None => {
                    let mut offsets = [0; LANES];
                    offsets[lane] = offset;
                    found.push((rank, 1 << lane, offsets));
                }
            }
        }
        Ok(found)
    }

    /// `mapa` and `getctarank`.
    pub(super) fn map(&self, warp: &mut Warp, op: &Op, active: u32) -> Step {
        let (Op::MapRank { generic, wide, d, a, .. } | Op::RankOf { generic, wide, d, a }) = *op else { return Ok(()) };
        let window = if generic { SHARED_WINDOW } else { 0 };
        let r = &mut warp.r;
        let addresses: Lanes64 = if wide { *r.get64(a) } else { r.get32(a).map(u64::from) };
        let addresses = addresses.map(|address| address.wrapping_sub(window));
        let lost = |lane: &usize| addresses[*lane] >> RANK_SHIFT > self.blocks.len() as u64;
        if let Some(lane) = lanes_of(active & r.defined(a)).find(lost) {
            let address = addresses[lane].wrapping_add(window);
            let detail = format!("{address:#x} is not in the shared memory of the cluster");
            return Err(Problem::new(FaultKind::OutOfBounds, lane, address, detail));
        }
        let Op::MapRank { b, .. } = *op else {
            settle(r, op, d, active, hazy(r, a, active));
            r.set32(d, &addresses.map(|address| self.split(address).0 as u32), active);
            return Ok(());
        };
        let ranks = *r.get32(b);
        let size = self.blocks.len();
        if let Some(lane) = lanes_of(active & r.defined(b)).find(|&lane| ranks[lane] as usize >= size) {
            let detail = format!("block {} of a cluster of {size}", ranks[lane]);
            return Err(Problem::new(FaultKind::OutOfBounds, lane, 0, detail));
        }
        settle(r, op, d, active, hazy(r, a, active) | hazy(r, b, active));
        let mut mapped = [0; LANES];
        for (lane, mapped) in mapped.iter_mut().enumerate() {
            let offset = addresses[lane] & ((1 << RANK_SHIFT) - 1);
            *mapped = window + offset + ((u64::from(ranks[lane]) + 1) << RANK_SHIFT);
        }
        if wide {
            r.set64(d, &mapped, active);
        } else {
            r.set32(d, &mapped.map(|address| address as u32), active);
        }
        Ok(())
    }

    /// After an access to `.shared::cta` failed: the offsets, if the addresses were those of the
    /// cluster's window in the own block.
    #[cold]
    pub(super) fn in_own(&self, at: &Lanes64, mask: u32, problem: Box<Problem>) -> Step<Lanes64> {
        let mut offsets = *at;
        for lane in lanes_of(mask) {
            let (rank, offset) = self.split(at[lane]);
            if offset == at[lane] || rank >= self.blocks.len() {
                return Err(problem);
            }
            if rank != self.me {
                let detail = format!("{}; the address is in block {rank} of the cluster", problem.detail);
                return Err(Box::new(Problem { detail, ..*problem }));
            }
            offsets[lane] = offset;
        }
        Ok(offsets)
    }
}

impl Worker<'_> {
    /// Reads shared memory of any block of the cluster.
    pub(super) fn fetch_cluster(
        &mut self,
        cluster: &Cluster,
        warp: &mut Warp,
        at: &Lanes64,
        mask: u32,
        bytes: usize,
        touch: Touch,
    ) -> Step {
        for (rank, lanes, offsets) in cluster.ranks(at, mask, "read")? {
            let of = &cluster.blocks[rank];
            self.visit(of, cluster.own(), warp, lanes, (touch.site, "read"))?;
            self.fetch_shared(of, &offsets, lanes, bytes)?;
            self.race_shared(of, cluster.own(), warp, &offsets, lanes, bytes, touch)?;
        }
        Ok(())
    }

    /// Writes shared memory of any block of the cluster.
    pub(super) fn deposit_cluster(
        &mut self,
        cluster: &mut Cluster,
        warp: &mut Warp,
        at: &Lanes64,
        mask: u32,
        bytes: usize,
        touch: Touch,
    ) -> Step {
        for (rank, lanes, offsets) in cluster.ranks(at, mask, "write")? {
            self.visit(&cluster.blocks[rank], cluster.own(), warp, lanes, (touch.site, "write"))?;
            self.deposit_shared(&mut cluster.blocks[rank], &offsets, lanes, bytes)?;
            self.race_shared(&cluster.blocks[rank], cluster.own(), warp, &offsets, lanes, bytes, touch)?;
        }
        Ok(())
    }
}

/// The blocks of a cluster, as they run together on one host thread.
pub(super) struct Team {
    /// Number of the cluster in the grid.
    pub(super) index: u64,
    blocks: Vec<Block>,
    cluster: Cluster,
    /// State of the generator of the order of blocks; 0 runs them in order.
    seed: u64,
}

impl Team {
    pub(super) fn new(launch: &Launch<'_>) -> Team {
        let size = launch.shape.cluster.iter().product::<u32>() as usize;
        let blocks = (0..size).map(|_| Block::new(launch)).collect();
        let shared = (0..size).map(|_| Shared::new(launch)).collect();
        Team {
            index: 0,
            blocks,
            cluster: Cluster {
                blocks: shared,
                me: 0,
                barrier: ClusterBarrier::default(),
                transfers: Transfers::default(),
                told: Told::default(),
            },
            seed: 0,
        }
    }

    /// Makes it ready to run as cluster number `index` of the grid.
    pub(super) fn start(&mut self, launch: &Launch<'_>, index: u64) {
        self.index = index;
        self.cluster.barrier = ClusterBarrier::default();
        self.cluster.transfers.clear();
        self.cluster.told = Told::default();
        let blocks = self.blocks.len() as u64;
        for (rank, (block, shared)) in self.blocks.iter_mut().zip(&mut self.cluster.blocks).enumerate() {
            let number = index * blocks + rank as u64;
            let at = launch.place(number);
            shared.start(at);
            if let Some(races) = &launch.races {
                shared.race.restart(races.block(number), launch.shared_bytes);
            }
            block.start(launch, at);
            block.catch_up(shared);
        }
        let seed = launch.config.seed;
        self.seed = if seed == 0 { 0 } else { seed ^ next(&mut (index + 1)) | 1 };
    }

    /// Runs it until it is done, or waits for another cluster.
    pub(super) fn run(&mut self, worker: &mut Worker<'_>, run_warp: RunWarp) -> Result<Outcome, Fault> {
        let mut order: Vec<usize> = (0..self.blocks.len()).collect();
        loop {
            let before = worker.progress;
            let (mut polls, mut paused, mut stuck) = (false, false, None);
            if self.seed != 0 {
                for place in (1..order.len()).rev() {
                    order.swap(place, next(&mut self.seed) as usize % (place + 1));
                }
            }
            order.retain(|&rank| self.cluster.blocks[rank].runs());
            for &rank in &order {
                self.cluster.me = rank;
                match self.blocks[rank].run(worker, &mut self.cluster, run_warp)? {
                    Outcome::Done => {
                        let over = self.cluster.transfers.exit(rank);
                        let over = over.and_then(|()| worker.check_exit(&self.cluster, rank));
                        over.map_err(|failure| self.failed(worker, &failure))?
                    }
                    Outcome::Paused => paused = true,
                    Outcome::Waiting => polls = true,
                    Outcome::Stuck => stuck = stuck.or(Some(rank)),
                }
            }
            let idle = worker.progress == before && !paused;
            if !self.cluster.transfers.is_empty()
                && (idle || (self.seed != 0 && next(&mut self.seed).is_multiple_of(4)))
            {
                let choice = if self.seed == 0 { 0 } else { next(&mut self.seed) };
                self.deliver(worker, choice).map_err(|failure| self.failed(worker, &failure))?;
                continue;
            }
            if paused {
                // Other clusters may have their turn too.
                if self.blocks.len() == 1 || next(&mut self.seed).is_multiple_of(4) {
                    return Ok(Outcome::Paused);
                }
                continue;
            }
            if !polls && stuck.is_none() {
                while !self.cluster.transfers.is_empty() {
                    self.deliver(worker, 0).map_err(|failure| self.failed(worker, &failure))?;
                }
                return Ok(Outcome::Done);
            }
            // Nobody in a cluster of one can help a block that polls.
            if idle || (polls && self.blocks.len() == 1) {
                return match stuck {
                    Some(rank) if !polls => Err(self.blocks[rank].stuck(worker.launch, &self.cluster.blocks[rank])),
                    _ => Ok(Outcome::Waiting),
                };
            }
        }
    }

    /// Completes what one operation issued.
    fn deliver(&mut self, worker: &mut Worker<'_>, choice: u64) -> Result<(), Failure> {
        for transfer in self.cluster.transfers.take(choice) {
            if let Some(lanes) = transfer.copies() {
                let issuer = transfer.issuer;
                let block = &mut self.blocks[issuer.rank];
                block
                    .finish_copies(worker, &mut self.cluster.blocks[issuer.rank], issuer.warp, lanes)
                    .map_err(|problem| (problem, issuer))?;
                for arrival in transfer.once_for_each() {
                    worker.complete(&mut self.cluster, arrival)?;
                }
            } else {
                self.cluster.transfers.completes(&transfer);
                worker.complete(&mut self.cluster, transfer)?;
            }
        }
        Ok(())
    }

    /// The fault of a transfer.
    fn failed(&self, worker: &Worker<'_>, (problem, issuer): &Failure) -> Fault {
        let shared = &self.cluster.blocks[issuer.rank];
        self.blocks[issuer.rank].fault(worker.launch, shared, problem, issuer.warp as usize, issuer.pc)
    }

    /// The fault of a cluster that waits for others which will never do what it waits for.
    pub(super) fn starved(&self, launch: &Launch<'_>) -> Fault {
        let waiting = (0..self.blocks.len()).find(|&rank| self.cluster.blocks[rank].runs()).unwrap_or(0);
        let objects = self.cluster.blocks.iter().enumerate().flat_map(|(rank, block)| {
            block.mbarriers.iter().filter_map(move |(at, object)| Some((rank, at, object.outstanding()?)))
        });
        let reasons: Vec<String> = objects
            .map(|(rank, at, reason)| {
                format!("the mbarrier at offset {at:#x} of block {rank} of the cluster: {reason}")
            })
            .collect();
        self.blocks[waiting].starved(launch, &self.cluster.blocks[waiting], &reasons)
    }
}
