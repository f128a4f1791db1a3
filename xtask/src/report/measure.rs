//! What the machine code of one kernel says: per element, per row, per multiprocessor.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use zlpr::DType;
use zlpr::kernels::Kernel;

use super::launch::{self, Case};
use super::model::{Bounds, GPUS, Gpu, Residency, Work, shares};
use crate::machine::cubin::Resources;
use crate::machine::occupancy;
use crate::machine::pipes::{self, PIPES, Pipe};
use crate::machine::sass::Function;
use crate::machine::state::LANES;
use crate::machine::timing;
use crate::machine::walk::{Path, Walker};

/// One kernel on one architecture.
pub struct Measured {
    pub kernel: &'static Kernel,
    pub arch: u32,
    pub resources: Resources,
    /// Loads and stores of local memory in the whole kernel.
    pub local_accesses: usize,
    pub cols: u64,
    pub threads: u32,
    pub dynamic_shared_bytes: u32,
    pub blocks_per_sm: u32,
    /// What the counted path does; `None` without a disassembler, or if the kernel spills.
    pub counts: Option<Counts>,
}

/// The counted path in numbers.
pub struct Counts {
    /// Warp instructions per element of a lane: all of the row, and without what an empty row takes.
    pub instructions: f64,
    pub body_instructions: f64,
    pub mufu: f64,
    pub body_mufu: f64,
    pub barriers: u32,
    /// Bytes per lane of each array's accesses on the path.
    pub widths: BTreeMap<&'static str, BTreeSet<u32>>,
    /// Bytes that a multiprocessor has asked for before the first is used.
    pub in_flight_per_sm: u64,
    pub elements_per_lane: f64,
    pub branches_on_data: usize,
    pub gpus: Vec<OnGpu>,
    pub path: Path,
}

/// The path on a product.
pub struct OnGpu {
    pub gpu: &'static Gpu,
    pub shares: Vec<(&'static str, f64)>,
    pub bounds: Bounds,
}

impl Measured {
    pub fn warps_per_sm(&self) -> u32 {
        self.blocks_per_sm * self.threads / LANES as u32
    }

    pub fn soft(&self) -> bool {
        self.kernel.labels != DType::U8
    }
}

/// Measures a kernel; without `function` only what the cubin notes.
///
/// # Errors
/// If no walk through the code does what the kernel is for.
pub fn measure(
    kernel: &'static Kernel,
    arch: u32,
    resources: Resources,
    function: Option<&Function>,
) -> Result<Measured> {
    let case = launch::case(kernel, arch, &resources, false)?;
    let plan = &case.plan;
    let shared = resources.static_shared_bytes + plan.shared_bytes;
    let mut measured = Measured {
        kernel,
        arch,
        resources,
        local_accesses: function
            .map_or(0, |f| f.instructions.iter().filter(|i| matches!(i.base(), "LDL" | "STL")).count()),
        cols: plan.problem.cols,
        threads: plan.block,
        dynamic_shared_bytes: plan.shared_bytes,
        blocks_per_sm: occupancy::blocks_per_sm(arch, resources.registers, plan.block, shared),
        counts: None,
    };
    // Addresses and flags that went through local memory are not followed; spills are reported without.
    let spills = measured.resources.frame_bytes > 0 || measured.local_accesses > 0;
    if let (false, Some(function)) = (spills, function) {
        measured.counts = Some(counts(&measured, &case, function)?);
    }
    Ok(measured)
}

fn counts(measured: &Measured, case: &Case, function: &Function) -> Result<Counts> {
    let arch = measured.arch;
    let walk = |case: &Case| Walker { function, launch: case.launch.clone(), arrays: &case.arrays }.path(case.duty);
    let path = walk(case)?;
    let empty = launch::case(measured.kernel, arch, &measured.resources, true)?;
    let empty = walk(&empty).context("a row without columns")?;
    let alone = |memory_latency: f64| timing::clocks(function, arch, &path.trace, memory_latency);

    let per_lane = case.elements as f64 / LANES as f64;
    let count = |times: &[u32], wanted: &dyn Fn(&str) -> bool| {
        let matching = function.instructions.iter().zip(times).filter(|(i, _)| wanted(i.base()));
        matching.map(|(_, &n)| f64::from(n)).sum::<f64>()
    };
    let all = |_: &str| true;
    let mufu = |base: &str| base == "MUFU";
    let instructions = count(&path.issued, &all);
    let mut pipe_clocks = BTreeMap::from(PIPES.map(|p| (p, 0.0)));
    for (i, instruction) in function.instructions.iter().enumerate() {
        if path.effective[i] > 0 {
            // Shuffles and shared memory go by the lanes that take part, on average.
            let lanes = path.lanes[i] / u64::from(path.effective[i]);
            *pipe_clocks.entry(pipes::pipe(instruction)).or_default() +=
                f64::from(path.effective[i]) * pipes::clocks(instruction, arch, lanes as u32);
        }
    }
    pipe_clocks.remove(&Pipe::Other);
    let work = Work {
        elements: case.elements as f64,
        bytes_per_element: case.bytes_per_element as f64,
        instructions,
        pipe_clocks,
    };
    let mut widths: BTreeMap<&'static str, BTreeSet<u32>> = BTreeMap::new();
    for access in path.accesses.values().filter(|a| a.array != "loss") {
        widths.entry(access.array).or_default().insert(access.width);
    }
    let on_gpu = |gpu: &'static Gpu| {
        let residency = Residency {
            warps_per_block: f64::from(measured.threads) / LANES as f64,
            blocks_per_multiprocessor: f64::from(measured.blocks_per_sm),
            alone: alone(gpu.memory_latency()),
            without_memory: alone(0.0),
        };
        OnGpu { gpu, shares: shares(gpu, &work), bounds: Bounds::new(gpu, &work, &residency) }
    };
    let gpus = GPUS.iter().filter(|g| g.arch == arch).map(on_gpu).collect();
    Ok(Counts {
        instructions: instructions / per_lane,
        // An empty row's instructions that no lane needs are not counted against it: the compiler may
        // guard parts of the body one by one.
        body_instructions: (instructions - count(&empty.effective, &all)) / per_lane,
        mufu: count(&path.issued, &mufu) / per_lane,
        body_mufu: (count(&path.issued, &mufu) - count(&empty.effective, &mufu)) / per_lane,
        barriers: count(&path.issued, &|base| base == "BAR") as u32,
        widths,
        in_flight_per_sm: path.peak_in_flight * u64::from(measured.warps_per_sm()),
        elements_per_lane: per_lane,
        branches_on_data: path.decisions.len(),
        gpus,
        path,
    })
}
