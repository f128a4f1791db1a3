//! CUDA graphs of many launches, replayed between events.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaEvent, CudaGraph, CudaStream};

use crate::device::Device;

/// A captured sequence of launches.
pub struct Graph {
    graph: CudaGraph,
    launches: usize,
}

impl Graph {
    /// Captures `launch(0)`, `launch(1)` and so on.
    pub fn capture(
        stream: &Arc<CudaStream>,
        launches: usize,
        launch: impl FnMut(usize) -> Result<()>,
    ) -> Result<Graph> {
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = (0..launches).try_for_each(launch);
        // Ended in any case: a stream that captures can do nothing else.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        launched?;
        let graph = graph?.context("nothing was captured")?;
        graph.upload()?;
        Ok(Graph { graph, launches })
    }
}

/// Two graphs that take turns on one stream.
pub struct Duel {
    stream: Arc<CudaStream>,
    ours: Graph,
    streaming: Graph,
    events: [CudaEvent; 3],
}

/// Seconds per launch of one turn.
#[derive(Clone, Copy)]
pub struct Turn {
    pub ours: f64,
    pub streaming: f64,
}

impl Duel {
    pub fn new(device: &Device, ours: Graph, streaming: Graph) -> Result<Duel> {
        let event = || device.context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        Ok(Duel { stream: device.stream.clone(), ours, streaming, events: [event()?, event()?, event()?] })
    }

    /// Both graphs once.
    pub fn turn(&self) -> Result<Turn> {
        let [start, between, end] = &self.events;
        // Untimed: while it runs, the host enqueues what follows, and no time of the host is measured.
        self.streaming.graph.launch()?;
        start.record(&self.stream)?;
        self.ours.graph.launch()?;
        between.record(&self.stream)?;
        self.streaming.graph.launch()?;
        end.record(&self.stream)?;
        let seconds = |from: &CudaEvent, to: &CudaEvent, graph: &Graph| -> Result<f64> {
            Ok(f64::from(from.elapsed_ms(to)?) / 1e3 / graph.launches as f64)
        };
        Ok(Turn { ours: seconds(start, between, &self.ours)?, streaming: seconds(between, end, &self.streaming)? })
    }

    /// Takes turns for so long.
    pub fn warm_up(&self, duration: Duration) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < duration {
            self.turn()?;
        }
        Ok(())
    }

    /// Takes turns until `launches` of ours have run; their time, for Criterion.
    pub fn run(&self, launches: u64, turns: &mut Vec<Turn>) -> Result<Duration> {
        let before = turns.len();
        for _ in 0..launches.div_ceil(self.ours.launches as u64) {
            turns.push(self.turn()?);
        }
        let new = &turns[before..];
        let mean = new.iter().map(|turn| turn.ours).sum::<f64>() / new.len().max(1) as f64;
        // Events tell no negative times, and Criterion takes no zero.
        Ok(Duration::from_secs_f64((mean * launches as f64).max(1e-9)))
    }
}
