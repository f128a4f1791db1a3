//! ZLPR as an objective, computed by this crate on a CUDA device or by its reference.

use std::marker::PhantomData;

use anyhow::{Context, Result, bail};
use cudarc::driver::CudaSlice;
use ndarray::{Array2, ArrayView2, Axis};
use zlpr::reference::Row;
use zlpr::{Buffers, DType, Labels, Matrix, Options, Reduction, Score, Upstream, Zlpr};

use crate::objective::{Objective, Targets};
use crate::support::device::{Cuda, Device};

/// Multiplies the gradient before it is rounded and divides it afterwards, as in all mixed-precision
/// training: gradients of a mean over many rows are f16 subnormals otherwise. A power of two loses nothing.
const LOSS_SCALE: f32 = 1024.0;

/// ZLPR of batches of up to `rows` rows, with scores and gradient in `S`.
pub fn zlpr<'a, S>(device: &'a Device, rows: usize, labels: usize, smoothed: bool) -> Result<Box<dyn Objective + 'a>>
where
    S: Score,
{
    Ok(match device {
        Device::Reference => Box::new(ReferenceZlpr::<S>(PhantomData)),
        Device::Cuda(cuda) => Box::new(CudaZlpr::<S>::new(cuda, rows, labels, smoothed)?),
    })
}

/// The typed API, with everything allocated once.
struct CudaZlpr<'a, S> {
    cuda: &'a Cuda,
    zlpr: Zlpr,
    scores: CudaSlice<S>,
    labels: DeviceLabels,
    buffers: Buffers<S>,
}

enum DeviceLabels {
    Hard(CudaSlice<u8>),
    Soft(CudaSlice<f32>),
}

impl<'a, S> CudaZlpr<'a, S>
where
    S: Score,
{
    fn new(cuda: &'a Cuda, rows: usize, labels: usize, smoothed: bool) -> Result<Self> {
        let stream = &cuda.stream;
        let zlpr = Zlpr::new(&cuda.context, Options::new().reduction(Reduction::Mean))?;
        let label_type = if smoothed { DType::F32 } else { DType::U8 };
        zlpr.prepare(S::DTYPE, label_type, labels)?;
        let elements = rows * labels;
        Ok(CudaZlpr {
            cuda,
            scores: stream.alloc_zeros(elements)?,
            labels: match smoothed {
                true => DeviceLabels::Soft(stream.alloc_zeros(elements)?),
                false => DeviceLabels::Hard(stream.alloc_zeros(elements)?),
            },
            buffers: Buffers::new(&zlpr, stream, rows, labels)?,
            zlpr,
        })
    }
}

impl<S: Score> Objective for CudaZlpr<'_, S> {
    fn name(&self) -> &'static str {
        "ZLPR"
    }

    fn step(&mut self, scores: ArrayView2<'_, f32>, targets: &Targets) -> Result<(f32, Array2<f32>)> {
        let (rows, cols) = scores.dim();
        let stream = &self.cuda.stream;
        let rounded: Vec<S> = scores.iter().map(|&score| S::from_f64(score.into())).collect();
        stream.memcpy_htod(&rounded, &mut self.scores)?;
        let labels = match (&mut self.labels, &targets.soft) {
            (DeviceLabels::Soft(labels), Some(soft)) => {
                stream.memcpy_htod(contiguous(soft)?, labels)?;
                Labels::SoftF32(Matrix::new(labels, rows, cols))
            }
            (DeviceLabels::Hard(labels), None) => {
                stream.memcpy_htod(contiguous(&targets.hard)?, labels)?;
                Labels::Hard(Matrix::new(labels, rows, cols))
            }
            _ => bail!("smoothed labels need the objective that was made for them"),
        };

        let (outputs, gradient) = self.buffers.outputs(rows, cols)?;
        let scores = Matrix::new(&self.scores, rows, cols);
        let upstream = Upstream::Host(LOSS_SCALE);
        self.zlpr.forward_backward(stream, scores, &zlpr::Targets::new(labels), upstream, gradient, outputs)?;

        let mut loss = [0.0];
        let mut gradient = rounded;
        stream.memcpy_dtoh(self.buffers.total(), &mut loss)?;
        stream.memcpy_dtoh(&self.buffers.gradient().slice(..rows * cols), &mut gradient)?;
        stream.synchronize()?;
        Ok((loss[0], unscaled(&gradient, rows, cols)?))
    }
}

/// The formula in f64, on scores rounded to `S`.
struct ReferenceZlpr<S>(PhantomData<S>);

impl<S: Score> Objective for ReferenceZlpr<S> {
    fn name(&self) -> &'static str {
        "ZLPR"
    }

    fn step(&mut self, scores: ArrayView2<'_, f32>, targets: &Targets) -> Result<(f32, Array2<f32>)> {
        let (rows, cols) = scores.dim();
        let scale = f64::from(LOSS_SCALE) / rows as f64;
        let mut loss = 0.0;
        let mut gradient = Vec::with_capacity(rows * cols);
        for (row, scores) in scores.axis_iter(Axis(0)).enumerate() {
            let scores: Vec<f64> = scores.iter().map(|&score| S::from_f64(score.into()).to_f64()).collect();
            let labels: Vec<f64> = match &targets.soft {
                Some(soft) => soft.row(row).iter().map(|&label| label.into()).collect(),
                None => targets.hard.row(row).iter().map(|&label| label.into()).collect(),
            };
            let row = Row::new(&scores, &labels, None, &Options::new());
            loss += row.loss / rows as f64;
            gradient.extend(row.gradient.iter().map(|g| S::from_f64(scale * g)));
        }
        Ok((loss as f32, unscaled(&gradient, rows, cols)?))
    }
}

fn contiguous<T>(array: &Array2<T>) -> Result<&[T]> {
    array.as_slice().context("labels are not contiguous")
}

fn unscaled<S: Score>(gradient: &[S], rows: usize, cols: usize) -> Result<Array2<f32>> {
    let gradient = gradient.iter().map(|g| g.to_f64() as f32 / LOSS_SCALE).collect();
    Ok(Array2::from_shape_vec((rows, cols), gradient)?)
}
