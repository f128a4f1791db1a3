//! One launch on the virtual GPU, in numbers per element and row.

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use softcuda::{Accesses, BufferTraffic, Config};

use super::grid::{Capability, Layout, Mode, Run};
use crate::common::{Implementation, Lab, Layer};

/// What was counted.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// Compute capability.
    pub capability: Capability,
    /// Where the row lives.
    pub regime: &'static str,
    /// Whether the plan chose the regime.
    pub selected: bool,
    /// Entry point.
    pub kernel: &'static str,
    /// Scores and labels, such as `f16+u8`.
    pub pair: String,
    /// What is computed.
    pub mode: Mode,
    /// Where the arrays lie.
    pub layout: Layout,
    /// Whether every row of every array is aligned.
    pub aligned: bool,
    /// Rows that ran.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Bytes per element that must move: scores, labels, mask, gradient, loss and per-row inputs, once.
    pub floor: f64,
    /// Bytes per element that the kernel requested.
    pub bytes: f64,
    /// Bytes per element that were read again.
    pub read_again: f64,
    /// How often the scores, labels and mask were read.
    pub reads: f64,
    /// Bytes per element that DRAM moved, behind an L2 cache of the device's size that was empty before.
    pub dram: f64,
    /// 32-byte sectors per request of a warp to global memory.
    pub sectors_per_request: f64,
    /// Sectors of all requests, over the least that these requests could touch.
    pub sectors: f64,
    /// Passes over the banks of shared memory, over the least for these requests; 1 without shared memory.
    pub wavefronts: f64,
    /// Barriers of a block per row that it works on.
    pub barriers: f64,
    /// Barriers of a cluster per row.
    pub cluster_barriers: f64,
    /// Reads of the workspace per row, of which most are asking again whether another block is done.
    pub waits: f64,
    /// Instructions per element, each of a warp counted for its 32 lanes; those of waiting for other blocks are among them.
    pub instructions: f64,
    /// Operations of the special-function unit per element.
    pub mufu: f64,
    /// Branches per row at which the lanes of a warp part.
    pub divergent: f64,
    /// Lanes that an instruction executes on average, of 32.
    pub lanes: f64,
    /// The most bytes of loads that one warp has in flight.
    pub warp_bytes_in_flight: u64,
}

impl Counted {
    /// Requested bytes over the floor.
    pub fn ratio(&self) -> f64 {
        self.bytes / self.floor
    }

    /// Block barriers and cluster barriers per row. The first barrier of a cluster is not one: it tells that the shared
    /// memory of its blocks may be used.
    pub fn round_trips(&self) -> f64 {
        self.barriers + (self.cluster_barriers - 1.0).max(0.0)
    }
}

/// A virtual GPU that follows every access, also where there is a real one, which would not count.
///
/// # Errors
/// This process uses the real driver already, or the environment insists on it.
pub fn lab(Capability(major, minor): Capability) -> Result<Lab> {
    ensure!(std::env::var_os("SOFTCUDA").is_none_or(|is| is != "real"), "SOFTCUDA=real, but a real GPU does not count");
    let config = Config { trace: true, races: false, workers: 1, ..Config::capability(major, minor) };
    // A process has one driver, that of its first device.
    softcuda::virtual_gpu(config)?;
    Ok(Lab::with(config))
}

/// Runs and counts.
///
/// # Errors
/// The launch fails.
pub fn measure(lab: &Lab, capability: Capability, run: &Run) -> Result<Counted> {
    let case = run.case();
    let implementation = Implementation { layer: Layer::Raw(run.regime), gradient: run.mode.gradient() };
    let plan = lab.plan(&case, implementation);
    lab.gpu().reset_counters();
    let output = lab.try_run(&case, implementation).map_err(|text| anyhow!(text))?;
    ensure!(output.loss.iter().all(|loss| loss.is_finite()), "{case}: a loss is not finite");
    let launches = lab.gpu().launches().context("a virtual device records launches")?;
    let [launch] = &launches[..] else { anyhow::bail!("{case}: {} launches instead of one", launches.len()) };
    let (counters, traffic) = (launch.counters, launch.traffic.as_ref().context("the launch was traced")?);

    let (rows, cols) = (run.shape.rows, run.shape.cols);
    let elements = (rows * cols) as f64;
    // So few rows are each worked on once, by one block or, if there are more blocks than rows, by as many as fall to it.
    let blocks_per_row = (plan.grid as usize / rows).max(1);
    let (asked, inputs, waits) = accesses(&traffic.buffers, (rows * cols) as u64);
    Ok(Counted {
        capability,
        regime: run.regime.module(),
        selected: run.selected,
        kernel: plan.kernel.name,
        pair: format!("{}+{}", run.pair.0, run.pair.1),
        mode: run.mode,
        layout: run.layout,
        aligned: run.aligned(),
        rows,
        cols,
        floor: case.floor(run.mode.gradient()) as f64 / elements,
        bytes: asked.bytes as f64 / elements,
        read_again: inputs.repeated_bytes() as f64 / elements,
        reads: inputs.bytes as f64 / inputs.unique_bytes as f64,
        dram: (traffic.dram_read_bytes + traffic.dram_write_bytes) as f64 / elements,
        sectors_per_request: asked.sectors as f64 / asked.requests as f64,
        sectors: asked.sectors as f64 / asked.sectors_least as f64,
        wavefronts: counters.shared_wavefronts.max(1) as f64
            / (counters.shared_wavefronts - counters.shared_bank_conflicts).max(1) as f64,
        barriers: counters.barriers as f64 / (rows * blocks_per_row) as f64,
        cluster_barriers: counters.cluster_barriers as f64 / rows as f64,
        waits: waits as f64 / rows as f64,
        instructions: 32.0 * counters.warp_instructions as f64 / elements,
        mufu: counters.mufu() as f64 / elements,
        divergent: counters.divergent_branches as f64 / rows as f64,
        lanes: counters.lanes_per_instruction(),
        warp_bytes_in_flight: traffic.warp_bytes_in_flight,
    })
}

/// What was asked of all arrays; reads of the matrices among it, of each of which at least a byte per element is read;
/// and reads of the workspace, which are not among it. That is what is both read and written but for gradients in
/// place. Blocks ask it again and again whether others are done, as often as the interpreter lets them.
pub(super) fn accesses(buffers: &[BufferTraffic], elements: u64) -> (Accesses, Accesses, u64) {
    let (mut asked, mut inputs, mut waits) = (Accesses::default(), Accesses::default(), 0);
    for BufferTraffic { read, written, .. } in buffers {
        let matrix = read.unique_bytes >= elements;
        if !matrix && read.requests != 0 && written.requests != 0 {
            waits += read.requests;
            continue;
        }
        asked += *read;
        asked += *written;
        if matrix {
            inputs += *read;
        }
    }
    (asked, inputs, waits)
}
