//! The computation, on a CUDA device or by the reference.

use std::sync::Arc;

use anyhow::{Result, bail};
use cudarc::driver::{CudaSlice, CudaStream};
use half::{bf16, f16};
use zlpr::reference::Row;
use zlpr::{Buffers, DType, Element, Labels, Mask, Options, Score, Targets, Upstream, Zlpr};

use crate::support::device::{Cuda, Device};
use crate::support::tensors::Matrix;

/// What the file holds, all of one shape.
pub struct Inputs<'a> {
    /// Scores, f32, f16 or bf16.
    pub scores: Matrix<'a>,
    /// Labels, f32, f16, bf16 or u8.
    pub labels: Matrix<'a>,
    /// Mask, u8, 0 = masked.
    pub mask: Option<Matrix<'a>>,
}

impl Inputs<'_> {
    /// Bytes of all inputs and outputs: what moves if each moves once. `labels`: as they are computed with.
    pub fn floor(&self, labels: DType) -> u64 {
        let Matrix { rows, cols, dtype: scores, .. } = self.scores;
        let per_element = 2 * scores.size() + labels.size() + usize::from(self.mask.is_some());
        (rows * cols * per_element + rows * size_of::<f32>()) as u64
    }
}

/// What comes out, and how.
pub struct Outcome {
    /// Row losses.
    pub loss: Vec<f32>,
    /// Gradient in the scores' type, as bytes.
    pub gradient: Vec<u8>,
    /// Type of the labels as they were computed with.
    pub labels: DType,
    /// Which kernel ran, for people.
    pub kernel: String,
    /// Bytes the kernel read and wrote in device memory, where that is counted.
    pub moved: Option<u64>,
}

/// Labels in a form that a kernel takes with scores of type `S`.
enum HostLabels<S> {
    Soft(Vec<S>),
    SoftF32(Vec<f32>),
    Hard(Vec<u8>),
}

/// Loss and gradient of `inputs` on `device`.
pub fn run(device: &Device, inputs: &Inputs<'_>, options: Options) -> Result<Outcome> {
    match inputs.scores.dtype {
        DType::F32 => run_as::<f32>(device, inputs, options),
        DType::F16 => run_as::<f16>(device, inputs, options),
        DType::Bf16 => run_as::<bf16>(device, inputs, options),
        other => bail!("scores cannot be {other}"),
    }
}

fn run_as<S: Score>(device: &Device, inputs: &Inputs<'_>, options: Options) -> Result<Outcome> {
    let scores: Vec<S> = inputs.scores.elements();
    let labels = host_labels::<S>(&inputs.labels)?;
    let mask: Option<Vec<u8>> = inputs.mask.map(|mask| mask.elements());
    match device {
        Device::Reference => Ok(reference(inputs, &scores, &labels, mask.as_deref(), &options)),
        Device::Cuda(cuda) => launch(cuda, inputs, &scores, &labels, mask.as_deref(), options),
    }
}

impl<S: Score> HostLabels<S> {
    fn dtype(&self) -> DType {
        match self {
            HostLabels::Soft(_) => S::DTYPE,
            HostLabels::SoftF32(_) => DType::F32,
            HostLabels::Hard(_) => DType::U8,
        }
    }

    fn to_f64(&self) -> Vec<f64> {
        match self {
            HostLabels::Soft(labels) => widened(labels),
            HostLabels::SoftF32(labels) => widened(labels),
            HostLabels::Hard(labels) => widened(labels),
        }
    }
}

fn host_labels<S: Score>(labels: &Matrix<'_>) -> Result<HostLabels<S>> {
    Ok(match labels.dtype {
        dtype if dtype == S::DTYPE => HostLabels::Soft(labels.elements()),
        DType::U8 => HostLabels::Hard(labels.elements()),
        DType::F32 => HostLabels::SoftF32(labels.elements()),
        // No kernel mixes two half types; every half is an f32.
        DType::F16 => HostLabels::SoftF32(labels.elements::<f16>().into_iter().map(f32::from).collect()),
        DType::Bf16 => HostLabels::SoftF32(labels.elements::<bf16>().into_iter().map(f32::from).collect()),
        other => bail!("labels cannot be {other}"),
    })
}

fn widened<T: Element>(values: &[T]) -> Vec<f64> {
    values.iter().map(|value| value.to_f64()).collect()
}

fn launch<S: Score>(
    cuda: &Cuda,
    inputs: &Inputs<'_>,
    scores: &[S],
    labels: &HostLabels<S>,
    mask: Option<&[u8]>,
    options: Options,
) -> Result<Outcome> {
    let Cuda { stream, context, gpu } = cuda;
    let Matrix { rows, cols, .. } = inputs.scores;
    let zlpr = Zlpr::new(context, options)?;
    zlpr.prepare(S::DTYPE, labels.dtype(), cols)?;
    let plan = zlpr.plan(rows, cols, S::DTYPE, labels.dtype(), Some(S::DTYPE))?;
    let mut buffers = Buffers::<S>::new(&zlpr, stream, rows, cols)?;

    let scores = upload(stream, scores)?;
    let mask = mask.map(|mask| upload(stream, mask)).transpose()?;
    let (soft, soft_f32, hard);
    let labels_on_device = match labels {
        HostLabels::Soft(labels) => {
            soft = upload(stream, labels)?;
            Labels::Soft(zlpr::Matrix::new(&soft, rows, cols))
        }
        HostLabels::SoftF32(labels) => {
            soft_f32 = upload(stream, labels)?;
            Labels::SoftF32(zlpr::Matrix::new(&soft_f32, rows, cols))
        }
        HostLabels::Hard(labels) => {
            hard = upload(stream, labels)?;
            Labels::Hard(zlpr::Matrix::new(&hard, rows, cols))
        }
    };
    let mut targets = Targets::new(labels_on_device);
    if let Some(mask) = &mask {
        targets = targets.mask(Mask::Bytes(zlpr::Matrix::new(mask, rows, cols)));
    }

    gpu.reset_counters();
    let (outputs, gradient) = buffers.outputs(rows, cols)?;
    let scores = zlpr::Matrix::new(&scores, rows, cols);
    zlpr.forward_backward(stream, scores, &targets, Upstream::default(), gradient, outputs)?;

    let mut loss = stream.clone_dtoh(buffers.loss())?;
    let mut gradient = stream.clone_dtoh(buffers.gradient())?;
    stream.synchronize()?;
    // The buffers have one element at least.
    loss.truncate(rows);
    gradient.truncate(rows * cols);
    Ok(Outcome {
        loss,
        gradient: bytemuck::cast_slice(&gradient).to_vec(),
        labels: labels.dtype(),
        kernel: match plan.grid {
            0 => "none: there are no rows".to_owned(),
            grid => format!(
                "{} (regime {}), {grid} x {} threads, {} bytes of dynamic shared memory",
                plan.kernel.name, plan.kernel.regime, plan.block, plan.shared_bytes
            ),
        },
        moved: gpu.counters().map(|counters| counters.global_read_bytes + counters.global_write_bytes),
    })
}

/// A copy on the device, of one element at least: the driver allocates no empty memory.
fn upload<T: Element>(stream: &Arc<CudaStream>, values: &[T]) -> Result<CudaSlice<T>> {
    Ok(if values.is_empty() { stream.alloc_zeros(1)? } else { stream.clone_htod(values)? })
}

fn reference<S: Score>(
    inputs: &Inputs<'_>,
    scores: &[S],
    labels: &HostLabels<S>,
    mask: Option<&[u8]>,
    options: &Options,
) -> Outcome {
    let Matrix { rows, cols, .. } = inputs.scores;
    let (scores, labels_f64) = (widened(scores), labels.to_f64());
    let (mut loss, mut gradient) = (Vec::with_capacity(rows), Vec::<S>::with_capacity(rows * cols));
    for row in 0..rows {
        let range = row * cols..(row + 1) * cols;
        let mask = mask.map(|mask| &mask[range.clone()]);
        let row = Row::new(&scores[range.clone()], &labels_f64[range], mask, options);
        loss.push(row.loss as f32);
        gradient.extend(row.gradient.into_iter().map(S::from_f64));
    }
    Outcome {
        loss,
        gradient: bytemuck::cast_slice(&gradient).to_vec(),
        labels: labels.dtype(),
        kernel: "none".to_owned(),
        moved: None,
    }
}
