//! Device memory: as many buffers of one problem as make the L2 cache useless when they take turns.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use zlpr::plan::Plan;
use zlpr::{DType, Options, raw, reference};

use crate::device::Device;
use crate::elements::{decode, encode};
use crate::problem::Problem;
use crate::shapes::Mode;

/// Times the size of the L2 cache that the buffers have together.
const L2_TIMES: usize = 3;
/// Most buffers; where they do not exceed the cache, the result says so.
const MAX_SETS: usize = 1024;
/// Buffers begin at its multiples: a sector, and more than any access.
const ALIGNMENT: usize = 256;
/// Values that are different; they are repeated, since no kernel's work depends on them.
const VALUES: usize = 1 << 16;

/// Addresses of one problem's arrays; `gradient` is 0 for forward only.
#[derive(Clone, Copy)]
pub struct Set {
    pub scores: u64,
    pub labels: u64,
    pub gradient: u64,
    pub loss: u64,
}

/// All arrays of a problem.
pub struct Memory<'v> {
    pub problem: Problem,
    pub sets: Vec<Set>,
    /// Whether each set is out of the cache when its turn comes again.
    pub cold: bool,
    workspace: u64,
    values: &'v Values,
    scores_stride: usize,
    labels_stride: usize,
    scores: CudaSlice<u8>,
    loss: CudaSlice<u8>,
    // Named by address only.
    _arrays: [CudaSlice<u8>; 3],
}

impl<'v> Memory<'v> {
    /// Buffers that hold `values`, with a workspace.
    pub fn new(device: &Device, problem: Problem, values: &'v Values, workspace_bytes: usize) -> Result<Self> {
        let Device { stream, facts, .. } = device;
        let elements = problem.rows * problem.cols;
        let stride = |bytes: usize| bytes.next_multiple_of(ALIGNMENT);
        let scores_stride = stride(elements * problem.scores.size());
        let labels_stride = stride(elements * problem.labels.size());
        let gradient_stride = if problem.mode == Mode::Gradient { scores_stride } else { 0 };
        let loss_stride = stride(problem.rows * size_of::<f32>());
        let one = scores_stride + labels_stride + gradient_stride + loss_stride;

        let wanted = (L2_TIMES * facts.l2_bytes).div_ceil(problem.bytes()).max(2);
        // A part of the memory stays free, for code and for what the driver needs.
        let room = device.free_memory()? / 4 * 3 / one;
        let count = wanted.min(MAX_SETS).min(room);
        ensure!(count > 0, "no room for {one} bytes of {}", facts.name);

        let zeros = |bytes: usize| stream.alloc_zeros::<u8>(bytes.max(ALIGNMENT));
        let (scores, mut labels) = (zeros(count * scores_stride)?, zeros(count * labels_stride)?);
        repeat(stream, &values.labels, &mut labels)?;
        let (gradient, loss) = (zeros(count * gradient_stride)?, zeros(count * loss_stride)?);
        // Zeroed once: every launch leaves it as it found it.
        let workspace = zeros(workspace_bytes)?;

        let [score, label, loss_at, workspace_at] =
            [&scores, &labels, &loss, &workspace].map(|slice| slice.device_ptr(stream).0);
        let gradients = match problem.mode {
            Mode::Gradient => Some((gradient.device_ptr(stream).0, gradient_stride)),
            Mode::InPlace => Some((score, scores_stride)),
            Mode::Forward => None,
        };
        let at = |start: u64, stride: usize, index: usize| start + (index * stride) as u64;
        let set = |index| Set {
            scores: at(score, scores_stride, index),
            labels: at(label, labels_stride, index),
            gradient: gradients.map_or(0, |(start, stride)| at(start, stride, index)),
            loss: at(loss_at, loss_stride, index),
        };
        Ok(Memory {
            problem,
            sets: (0..count).map(set).collect(),
            cold: count >= wanted,
            workspace: workspace_at,
            values,
            scores_stride,
            labels_stride,
            scores,
            loss,
            _arrays: [labels, gradient, workspace],
        })
    }

    /// The arguments of one launch, contiguous rows.
    fn arguments(&self, set: &Set) -> raw::Arguments {
        let stride = self.problem.cols as u64;
        raw::Arguments {
            scores: set.scores,
            scores_stride: stride,
            labels: set.labels,
            labels_stride: stride,
            mask: 0,
            mask_stride: 0,
            gradient: set.gradient,
            gradient_stride: stride,
            loss: set.loss,
            upstream: 0,
            upstream_stride: 0,
            scale: 1.0,
            total: 0,
            workspace: self.workspace,
        }
    }

    /// Launches the loss on a set.
    pub fn launch(&self, stream: &CudaStream, plan: &Plan, set: &Set) -> Result<()> {
        // SAFETY: the arrays have the problem's shape, overlap only where the gradient replaces the scores, and live as
        // long as this; one stream uses them, and the workspace is as large as this problem's plans need.
        unsafe { raw::launch(plan, &Options::new(), &self.arguments(set), stream.cu_stream().cast())? };
        Ok(())
    }

    /// Writes the scores, which gradients may have replaced, launches once, and holds the last row's loss against the
    /// reference: what is timed must be what is meant.
    pub fn check(&mut self, stream: &Arc<CudaStream>, plan: &Plan) -> Result<()> {
        repeat(stream, &self.values.scores, &mut self.scores)?;
        let Problem { rows, cols, scores, labels, .. } = self.problem;
        let last = self.sets.len() - 1;
        self.launch(stream, plan, &self.sets[last])?;
        let start = self.loss.len() / self.sets.len() * last + (rows - 1) * size_of::<f32>();
        let bytes = stream.clone_dtoh(&self.loss.slice(start..start + size_of::<f32>()))?;
        let loss = f64::from(f32::from_le_bytes(bytes.try_into().ok().context("one f32")?));

        let row = |values: &[f64], stride: usize, dtype: DType| -> Vec<f64> {
            let first = last * stride / dtype.size() + (rows - 1) * cols;
            (first..first + cols).map(|index| values[index % VALUES]).collect()
        };
        let scores = row(&self.values.scores_f64, self.scores_stride, scores);
        let labels = row(&self.values.labels_f64, self.labels_stride, labels);
        let wanted = reference::Row::new(&scores, &labels, None, &Options::new()).loss;
        ensure!((loss - wanted).abs() <= 1e-5 * wanted, "{}: loss {loss}, should be {wanted}", plan.kernel.name);
        Ok(())
    }
}

/// Values on the host, as bytes of the device and as numbers.
pub struct Values {
    scores: Vec<u8>,
    labels: Vec<u8>,
    scores_f64: Vec<f64>,
    labels_f64: Vec<f64>,
}

impl Values {
    /// Scores of standard deviation 3; one label in 32 is set, and soft labels are those, smoothed.
    pub fn new(scores: DType, labels: DType) -> Values {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let normal = Normal::new(0.0, 3.0).expect("a finite deviation");
        let score: Vec<f64> = (0..VALUES).map(|_| normal.sample(&mut rng)).collect();
        let hard: Vec<f64> = (0..VALUES).map(|_| f64::from(u8::from(rng.random_bool(1.0 / 32.0)))).collect();
        let soft: Vec<f64> = hard.iter().map(|t| 0.05 + 0.9 * t).collect();
        let rounded = |dtype: DType, values: &[f64]| {
            let bytes = encode(dtype, values);
            let values = decode(dtype, &bytes);
            (bytes, values)
        };
        let (scores, scores_f64) = rounded(scores, &score);
        let (labels, labels_f64) = rounded(labels, if labels == DType::U8 { &hard } else { &soft });
        Values { scores, labels, scores_f64, labels_f64 }
    }
}

/// Fills an array with `values`, again and again.
fn repeat(stream: &Arc<CudaStream>, values: &[u8], array: &mut CudaSlice<u8>) -> Result<()> {
    let mut filled = values.len().min(array.len());
    stream.memcpy_htod(&values[..filled], &mut array.slice_mut(..filled))?;
    while filled < array.len() {
        let more = filled.min(array.len() - filled);
        let (done, mut rest) = array.split_at_mut(filled);
        stream.memcpy_dtod(&done.slice(..more), &mut rest.slice_mut(..more))?;
        filled += more;
    }
    Ok(())
}
