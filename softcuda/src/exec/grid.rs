//! Grids: the clusters of a launch, on one host thread or several.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::config::Config;
use crate::counters::Counters;
use crate::fault::Fault;
use crate::lower::Entry;
use crate::lower::op::{AtomOp, NONE, Op};
use crate::memory::Snapshot;
use crate::ptx::Space;

use super::block::{Outcome, next};
use super::cluster::Team;
use super::engine::run_warp;
use super::races::Races;
use super::state::{Launch, Worker};
use super::{LaunchShape, Measured};

/// Rounds in which all resident blocks only polled memory, after which they are given up.
const IDLE_ROUNDS: u32 = 512;

/// Blocks for which it is worth while to start another host thread.
const BLOCKS_PER_WORKER: u64 = 4;

/// Whether blocks may look at what others write, so that the result could depend on which of them
/// run at the same time. Such launches run on one host thread.
fn communicates(entry: &Entry) -> bool {
    let inside = |space| matches!(space, Some(Space::Shared | Space::Cluster));
    entry.code.iter().any(|inst| match &inst.op {
        // So do the sums of floating-point numbers.
        Op::BulkCopy(copy) => copy.reduce.as_ref().is_some_and(|atom| atom.ty.is_float()),
        // Texts come in the order of blocks.
        Op::Print { .. } => true,
        Op::Load(access) => access.strong && !inside(access.space),
        Op::Atom(atom) => {
            // Sums and the like of integers come out the same in any order.
            let commutes =
                !atom.ty.is_float() && !matches!(atom.op, AtomOp::Exch | AtomOp::Cas | AtomOp::Inc | AtomOp::Dec);
            !inside(atom.at.space) && (atom.d != NONE || !commutes)
        }
        _ => false,
    })
}

/// The race detector's part of a launch, if there is anybody to race with.
pub(super) fn races(entry: &Entry, shape: &LaunchShape, config: &Config) -> Option<Races> {
    let product = |dims: [u32; 3]| dims.iter().map(|&n| u64::from(n)).product::<u64>();
    let (blocks, threads) = (product(shape.grid), product(shape.block) as u32);
    (config.races && blocks * u64::from(threads) > 1).then(|| {
        let copies = entry.code.iter().any(|inst| matches!(inst.op, Op::BulkCopy(_) | Op::StoreAsync(_)));
        Races::new(blocks, threads, (communicates(entry), copies))
    })
}

/// Blocks that fit on a multiprocessor at once, as far as threads and shared memory go: how many
/// registers they need is up to ptxas.
pub(super) fn resident_per_sm(launch: &Launch<'_>) -> u64 {
    let config = launch.config;
    let threads = u64::from(launch.threads().max(1));
    let mut per_sm = u64::from(config.max_threads_per_sm) / threads;
    per_sm = per_sm.min(u64::from(config.max_blocks_per_sm));
    let shared = launch.shared_bytes as u64 + u64::from(config.shared_reserved);
    let by_shared = u64::from(config.shared_per_sm).checked_div(shared);
    per_sm.min(by_shared.unwrap_or(u64::MAX)).max(1)
}

/// Blocks that fit on the device at once.
pub(super) fn residency(launch: &Launch<'_>) -> u64 {
    resident_per_sm(launch) * u64::from(launch.config.sm_count)
}

/// Blocks of a cluster.
fn cluster_size(launch: &Launch<'_>) -> u64 {
    launch.shape.cluster.iter().map(|&n| u64::from(n)).product::<u64>().max(1)
}

/// Clusters that pause at a time, with a seed: more would take memory and show no more.
const PAUSED: usize = 32;

/// The cluster that starts as number `turn`. Which of those that fit on the device together starts
/// first is drawn from the seed; but none starts before those that must have ended to make room for
/// it, since kernels that wait for blocks of lower numbers count on that.
fn started(launch: &Launch<'_>, turn: u64, total: u64) -> u64 {
    let seed = launch.config.seed;
    if seed == 0 {
        return turn;
    }
    let together = (residency(launch) / cluster_size(launch)).max(1);
    let first = turn / together * together;
    first + permuted(turn - first, together.min(total - first), seed ^ first)
}

/// Where a permutation of the numbers below `count`, drawn from a seed, takes `x`.
fn permuted(mut x: u64, count: u64, seed: u64) -> u64 {
    let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
    let mask = (1u64 << bits) - 1;
    // Each step permutes the numbers of so many bits; those beyond `count` are passed over.
    loop {
        let mut state = seed;
        for _ in 0..3 {
            let (factor, offset) = (next(&mut state) | 1, next(&mut state));
            x = x.wrapping_mul(factor).wrapping_add(offset) & mask;
            x ^= x >> (bits / 2).max(1);
        }
        if x < count {
            return x;
        }
    }
}

/// Runs all clusters; the error is that of the lowest that made one.
pub(super) fn run(launch: &Launch<'_>, snapshot: &Snapshot) -> Result<Measured, Fault> {
    let blocks: u64 = launch.shape.grid.iter().map(|&n| u64::from(n)).product();
    let total = blocks / cluster_size(launch);
    let wanted = u64::from(launch.config.workers.max(1)).min(blocks / BLOCKS_PER_WORKER).max(1);
    if launch.config.trace || communicates(launch.entry) {
        return run_together(launch, snapshot, total);
    }
    let turns = AtomicU64::new(0);
    let stop_at = AtomicU64::new(u64::MAX);
    let failed: Mutex<Option<(u64, Fault)>> = Mutex::new(None);
    let sum = Mutex::new(Counters::default());
    let work = || {
        let mut worker = Worker::new(launch, snapshot.windows());
        let mut team = Team::new(launch);
        let run_warp = run_warp();
        loop {
            let turn = turns.fetch_add(1, Relaxed);
            if turn >= total {
                break;
            }
            let index = started(launch, turn, total);
            // A cluster below the one that failed must still run: it may fail too.
            if index > stop_at.load(Relaxed) {
                continue;
            }
            team.start(launch, index);
            let mut idle = 0;
            let result = loop {
                match team.run(&mut worker, run_warp) {
                    Ok(Outcome::Paused) => {}
                    // It polls shared memory, so only its own warps can help it.
                    Ok(Outcome::Waiting) if idle < IDLE_ROUNDS => idle += 1,
                    Ok(Outcome::Waiting) => break Err(team.starved(launch)),
                    other => break other,
                }
            };
            if let Err(fault) = result {
                stop_at.fetch_min(index, Relaxed);
                let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                if failed.as_ref().is_none_or(|(first, _)| index < *first) {
                    *failed = Some((index, fault));
                }
            }
        }
        *sum.lock().unwrap_or_else(|e| e.into_inner()) += worker.totals();
    };
    std::thread::scope(|scope| {
        (1..wanted).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some((_, fault)) => Err(fault),
        None => {
            let counters = sum.into_inner().unwrap_or_else(|e| e.into_inner());
            Ok(Measured { counters, traffic: None })
        }
    }
}

/// Runs all clusters on this thread. One that waits for others makes room for them, as long as
/// they fit on the device together.
fn run_together(launch: &Launch<'_>, snapshot: &Snapshot, total: u64) -> Result<Measured, Fault> {
    let mut worker = Worker::new(launch, snapshot.windows());
    let run_warp = run_warp();
    let limit = (residency(launch) / cluster_size(launch)).max(1);
    let mut resident: VecDeque<Team> = VecDeque::new();
    let mut spare: Option<Team> = None;
    let (mut turn, mut idle) = (0, 0);
    let mut seed = launch.config.seed;
    loop {
        let others = resident.len();
        let mut starts = turn < total && (others as u64) < limit;
        if seed != 0 && others > 0 {
            // Those that wait may wait for one that has not started.
            let wanted = others < PAUSED || idle as usize > others;
            starts &= wanted && next(&mut seed) & 1 == 0;
            resident.swap(0, next(&mut seed) as usize % others);
        }
        let mut team = if starts {
            let mut team = spare.take().unwrap_or_else(|| Team::new(launch));
            team.start(launch, started(launch, turn, total));
            turn += 1;
            team
        } else if let Some(team) = resident.pop_front() {
            team
        } else {
            let traffic = worker.tracer.take().map(|tracer| tracer.finish(launch));
            return Ok(Measured { counters: worker.totals(), traffic });
        };
        let before = worker.progress;
        match team.run(&mut worker, run_warp)? {
            Outcome::Done => spare = Some(team),
            Outcome::Paused => {
                idle = 0;
                resident.push_back(team);
            }
            Outcome::Waiting | Outcome::Stuck => {
                let stalled = worker.progress == before;
                idle = if stalled { idle + 1 } else { 0 };
                if idle > IDLE_ROUNDS.saturating_mul(resident.len() as u32 + 1) {
                    let first = resident.iter().chain([&team]).min_by_key(|team| team.index);
                    return Err(first.unwrap_or(&team).starved(launch));
                }
                resident.push_back(team);
            }
        }
    }
}
