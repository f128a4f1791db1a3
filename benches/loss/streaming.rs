//! The streaming kernel that the loss is held against: `benches/streaming.cu`.

use std::collections::HashMap;

use anyhow::{Context, Result};
use cudarc::driver::{CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use crate::device::Device;
use crate::memory::Set;
use crate::problem::Problem;

/// As in the source: threads per block, and packs of 16 bytes of scores per thread.
const THREADS: u32 = 256;
const PACKS: u64 = 4;

/// Label bytes beside 16 bytes of scores that it is compiled for.
const LABEL_BYTES: [usize; 3] = [4, 8, 16];

/// The kernel, once for each width of the labels.
pub struct Streaming {
    functions: HashMap<usize, CudaFunction>,
}

impl Streaming {
    pub fn new(device: &Device) -> Result<Streaming> {
        let module = device.context.load_module(Ptx::from_src(include_str!("../streaming.ptx")))?;
        let function = |bytes| Ok((bytes, module.load_function(&format!("stream_{bytes}"))?));
        Ok(Streaming { functions: LABEL_BYTES.into_iter().map(function).collect::<Result<_>>()? })
    }

    /// Bytes that it moves for a problem: those of the loss, up to whole packs.
    pub fn bytes(problem: &Problem) -> usize {
        let per_element = problem.bytes_per_element();
        packs(problem) * per_pack(problem) * per_element + problem.rows * size_of::<f32>()
    }

    /// Streams the buffers of a problem.
    ///
    /// # Safety
    /// `set` has room for the problem, up to whole packs, and nothing else uses it meanwhile.
    pub unsafe fn launch(&self, stream: &CudaStream, problem: &Problem, set: &Set) -> Result<()> {
        let label_bytes = per_pack(problem) * problem.labels.size();
        let function = self.functions.get(&label_bytes).context("no streaming kernel for this width of labels")?;
        let (packs, rows) = (packs(problem) as u64, problem.rows as u64);
        let blocks = packs.div_ceil(u64::from(THREADS) * PACKS);
        let shape =
            LaunchConfig { grid_dim: (u32::try_from(blocks)?, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 };
        let mut launch = stream.launch_builder(function);
        launch.arg(&set.scores).arg(&set.labels).arg(&set.gradient).arg(&set.loss).arg(&packs).arg(&rows);
        // SAFETY: the arguments are the kernel's, and the caller vouches for the buffers.
        unsafe { launch.launch(shape)? };
        Ok(())
    }
}

/// Elements in 16 bytes of scores.
fn per_pack(problem: &Problem) -> usize {
    16 / problem.scores.size()
}

/// Packs that hold all elements.
fn packs(problem: &Problem) -> usize {
    (problem.rows * problem.cols).div_ceil(per_pack(problem))
}
