//! Barriers of a block.

use crate::fault::FaultKind;
use crate::lower::op::{Bar, BarKind, NONE};

use super::registers::LANES;
use super::state::{Barrier, Problem, Shared, State, Step, Warp, Worker, uniform};

/// What a group does after it arrived at a barrier.
pub(super) enum Arrival {
    /// The lanes go on.
    Pass,
    /// The lanes wait for other lanes of their warp.
    WaitForWarp,
    /// The lanes wait for the rest of the block.
    Wait(State),
}

/// Results that are kept for threads which have not gone on yet: more than a block has warps.
const KEPT_RESULTS: usize = 4096;

/// Gives lanes that waited at a barrier, in this generation of it, what the others know and the
/// result of a `bar.red`.
pub(super) fn finish(warp: &mut Warp, shared: &Shared, bar: &Bar, at: (u8, u64), lanes: u32) {
    warp.race.catch_up(&shared.race);
    if bar.count != NONE && bar.kind != BarKind::Arrive {
        shared.race.pass(&mut warp.race, lanes, at);
    }
    if matches!(bar.kind, BarKind::Sync | BarKind::Arrive) {
        return;
    }
    let found = shared.reductions.iter().rev().find(|&&(id, generation, _)| (id, generation) == at);
    let (trues, of) = found.map_or((0, 0), |result| result.2);
    if bar.kind == BarKind::RedPopc {
        warp.r.set32(bar.d, &[trues; LANES], lanes);
        warp.r.define(bar.d, lanes);
    } else if bar.d != NONE {
        let result = if bar.kind == BarKind::RedAnd { trues == of } else { trues != 0 };
        warp.r.set_predicate(bar.d, u32::from(result).wrapping_neg(), u32::MAX, lanes);
    }
}

fn operand(warp: &Warp, reg: u32, lanes: u32, what: &str) -> Step<u32> {
    let lane = lanes.trailing_zeros() as usize;
    if lanes & !warp.r.defined(reg) != 0 {
        let detail = format!("the barrier's {what} depends on uninitialised data");
        return Err(Problem::new(FaultKind::Uninitialised, lane, 0, detail));
    }
    uniform(warp.r.get32(reg), lanes).ok_or_else(|| {
        let detail = format!("lanes of a warp at one barrier with different {what}s");
        Problem::new(FaultKind::BarrierDivergence, lane, 0, detail)
    })
}

/// Lanes arrive at a barrier.
pub(super) fn arrive(
    worker: &mut Worker<'_>,
    shared: &mut Shared,
    warp: &mut Warp,
    bar: &Bar,
    lanes: u32,
) -> Step<Arrival> {
    let lane = lanes.trailing_zeros() as usize;
    if bar.aligned && lanes != warp.live {
        return Ok(Arrival::WaitForWarp);
    }
    let id = operand(warp, bar.id, lanes, "number")?;
    if id > 15 {
        let detail = format!("barrier {id}: there are 16");
        return Err(Problem::new(FaultKind::BarrierDivergence, lane, 0, detail));
    }
    let came = lanes.count_ones();
    let (expected, came) = if bar.count == NONE {
        (shared.threads, came)
    } else {
        let count = operand(warp, bar.count, lanes, "thread count")?;
        if count == 0 || count % LANES as u32 != 0 || count > shared.threads.next_multiple_of(32) {
            let detail = format!(
                "barrier {id} for {count} threads: the count must be a multiple of 32 that the \
                 block of {} threads can reach",
                shared.threads
            );
            return Err(Problem::new(FaultKind::BarrierDivergence, lane, 0, detail));
        }
        // With a count, a warp counts as 32 threads however many it has.
        let whole = lanes == warp.exists || (bar.aligned && lanes == warp.live);
        (count, if whole { LANES as u32 } else { came })
    };
    let trues = if matches!(bar.kind, BarKind::Sync | BarKind::Arrive) {
        0
    } else {
        if lanes & !warp.r.predicate_defined(bar.source) != 0 {
            let detail = "the predicate depends on uninitialised data".to_owned();
            return Err(Problem::new(FaultKind::Uninitialised, lane, 0, detail));
        }
        (warp.r.predicate(bar.source) & lanes).count_ones()
    };
    let barrier = &mut shared.barriers[id as usize];
    if barrier.expected == 0 {
        barrier.expected = expected;
    }
    if barrier.expected != expected || barrier.arrived + came > expected {
        let detail = format!(
            "barrier {id}: {} threads arrived that expect {}, now {came} more that expect {expected}",
            barrier.arrived, barrier.expected
        );
        return Err(Problem::new(FaultKind::BarrierDivergence, lane, 0, detail));
    }
    barrier.arrived += came;
    barrier.trues += trues;
    let generation = barrier.generation;
    // Without a count all of the block wait, and then know all of each other.
    let (whole, number) = (bar.count == NONE, usize::from(id as u8));
    if whole {
        shared.race.arrive_whole(&mut warp.race, lanes);
    } else {
        shared.race.arrive_part(&mut warp.race, lanes, number);
    }
    let barrier = &mut shared.barriers[number];
    if barrier.arrived == expected {
        let result = (barrier.trues, expected.min(shared.threads));
        *barrier = Barrier { generation: generation + 1, ..Barrier::default() };
        if !matches!(bar.kind, BarKind::Sync | BarKind::Arrive) {
            if shared.reductions.len() == KEPT_RESULTS {
                shared.reductions.drain(..KEPT_RESULTS / 2);
            }
            shared.reductions.push((id as u8, generation, result));
        }
        worker.counters.barriers += 1;
        worker.progress += 1;
        if whole {
            shared.race.complete_whole();
        } else {
            shared.race.complete_part(number, generation);
        }
        finish(warp, shared, bar, (id as u8, generation), lanes);
        return Ok(Arrival::Pass);
    }
    if bar.kind == BarKind::Arrive {
        return Ok(Arrival::Pass);
    }
    Ok(Arrival::Wait(State::Barrier { id: id as u8, generation }))
}
