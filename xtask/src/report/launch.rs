//! The launch that a kernel is counted for: a full, aligned row of the longest length that fills its threads evenly.

use anyhow::{Context, Result, ensure};
use zlpr::kernels::Kernel;
use zlpr::plan::{Device, Plan, Problem, Regime};
use zlpr::{DType, Reduction};

use crate::machine::cubin::Resources;
use crate::machine::occupancy;
use crate::machine::state::{LANES, Launch};
use crate::machine::walk::{Array, Duty};

/// Columns where a regime sets no limit.
const LONG_ROW: u64 = 1 << 16;
/// Rows of the launch: enough that the grid is full.
const ROWS: u64 = 1 << 16;
/// Which block is walked: one whose row is not the first.
const BLOCK: u32 = 3;
/// Distance of the arrays in the address space: more than any of them takes.
const SPACING: u64 = 1 << 40;

/// One launch to walk a warp of.
pub struct Case {
    pub plan: Plan,
    pub launch: Launch,
    pub arrays: Vec<Array>,
    pub duty: Duty,
    /// Elements that the walked warp works on.
    pub elements: u64,
    /// Bytes that must move per element.
    pub bytes_per_element: u64,
}

/// Limits of the device that stands for an architecture, as plans know them.
pub fn device(arch: u32) -> Device {
    let limits = occupancy::device(arch);
    Device {
        capability: (arch / 10, arch % 10),
        shared_memory_per_block: limits.shared_per_block_optin,
        max_grid: i32::MAX as u32,
    }
}

/// The type that the gradient of these scores has.
fn gradient(scores: DType) -> DType {
    scores
}

/// Bytes that must move per element: scores, labels, gradient.
pub fn bytes_per_element(scores: DType, labels: DType) -> u64 {
    (scores.size() + labels.size() + gradient(scores).size()) as u64
}

/// The longest row that gives each thread the same number of 16-byte packs.
fn even_cols(device: &Device, kernel: &Kernel) -> u64 {
    let pack = 16 / kernel.scores.size() as u64;
    let most = kernel.regime.max_cols(device, kernel.scores, kernel.labels).min(LONG_ROW);
    let threads = u64::from(kernel.regime.threads().last().copied().unwrap_or(1));
    let threads_per_row = threads / kernel.regime.rows_per_block().max(1);
    let unit = pack * threads_per_row;
    // A loop over several packs that is left in the middle would count its last trip as if it were whole.
    let several = if kernel.regime.packs_per_thread().is_none() { 8 } else { 1 };
    match most / (unit * several) {
        0 => most / unit * unit,
        whole => whole * unit * several,
    }
}

/// The case of a kernel, or with `empty` the same launch with rows of no columns: what every row costs.
///
/// # Errors
/// If there is no plan, or the compiled argument block is not the one known here.
pub fn case(kernel: &Kernel, arch: u32, resources: &Resources, empty: bool) -> Result<Case> {
    let device = device(arch);
    let full = even_cols(&device, kernel);
    let cols = if empty { 0 } else { full };
    let problem = |cols| Problem {
        rows: ROWS,
        cols,
        scores: kernel.scores,
        labels: kernel.labels,
        gradient: Some(gradient(kernel.scores)),
        reduction: Reduction::None,
    };
    let plan = Plan::with_regime(&device, &problem(full), kernel.regime).context("no plan")?;
    let array = |name, place: u64, size: usize, cols: u64| Array {
        name,
        start: place * SPACING,
        bytes: ROWS * cols * size as u64,
    };
    let arrays = vec![
        array("scores", 1, kernel.scores.size(), full),
        array("labels", 2, kernel.labels.size(), full),
        array("gradient", 3, gradient(kernel.scores).size(), full),
        array("loss", 4, 4, 1),
    ];
    let warps = u64::from(plan.block) / LANES as u64;
    let rows_per_block = kernel.regime.rows_per_block();
    let elements = full * rows_per_block / warps;
    let share = |dtype: DType| if empty { 0 } else { elements * dtype.size() as u64 };
    Ok(Case {
        plan,
        launch: Launch {
            constants: constants(arch, resources, &plan, &arguments(&arrays, cols, full, kernel.scores))?,
            block_index: BLOCK,
            warp: 0,
        },
        arrays,
        duty: Duty {
            gradient_bytes: share(gradient(kernel.scores)),
            loss: true,
            score_bytes: share(kernel.scores),
            label_bytes: share(kernel.labels),
        },
        elements,
        bytes_per_element: bytes_per_element(kernel.scores, kernel.labels),
    })
}

/// `Args` of `kernels/args.cuh` for these arrays, nothing optional given.
fn arguments(arrays: &[Array], cols: u64, stride: u64, scores: DType) -> Vec<u32> {
    let start = |i: usize| arrays[i].start;
    let longs = [ROWS, cols, start(0), stride, start(1), stride, 0, 0, start(2), stride, start(3), 0, 0];
    let floats = [1.0f32, 1e-7, 1.0 - 1e-7, f32::NEG_INFINITY];
    let mut words: Vec<u32> = longs.iter().flat_map(|&x| [x as u32, (x >> 32) as u32]).collect();
    words.extend(floats.map(f32::to_bits));
    words.extend([u32::from(scores == DType::F32), 0]);
    words
}

/// Constant bank 0: the sizes of block and grid, and the parameters.
fn constants(arch: u32, resources: &Resources, plan: &Plan, arguments: &[u32]) -> Result<Vec<Option<u32>>> {
    let (start, bytes) = resources.parameters;
    ensure!(
        bytes as usize == 4 * arguments.len(),
        "the kernel takes {bytes} bytes, Args here has {}",
        4 * arguments.len()
    );
    let mut words = vec![None; (start / 4) as usize + arguments.len()];
    // Block and grid begin the bank up to 9.0 and stand before the parameters from 10.0 on.
    let sizes = if arch < 100 { 0 } else { 0x360 / 4 };
    for (i, value) in [plan.block, 1, 1, plan.grid, 1, 1].into_iter().enumerate() {
        words[sizes + if i < 3 || arch < 100 { i } else { i + 1 }] = Some(value);
    }
    for (word, &value) in words[(start / 4) as usize..].iter_mut().zip(arguments) {
        *word = Some(value);
    }
    Ok(words)
}

/// Name of a regime in budgets and tables.
pub fn regime_name(regime: Regime) -> &'static str {
    regime.module()
}
