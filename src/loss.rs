//! The typed layer: cudarc slices and streams in, typed errors out, all validation here.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DevicePtrMut, SyncOnDrop};

use crate::inputs::{Labels, Mask, Matrix, MatrixMut, Outputs, Targets, Upstream};
use crate::plan::{Device, Plan, Problem, regimes_for};
use crate::validate::{Argument, Arguments};
use crate::{DType, Element, Error, GradientOf, Options, Reduction, Score, driver, raw};

/// The loss on one device: options, the device's limits, and the kernels that were prepared there.
///
/// Cheap to clone. No method allocates device memory (but for [`Zlpr::prepare`], which loads code),
/// synchronises, or uses another stream than the one it is given.
#[derive(Clone, Debug)]
pub struct Zlpr {
    context: Arc<CudaContext>,
    device: Device,
    options: Options,
}

impl Zlpr {
    /// The loss with these options, for slices and streams of `context`.
    ///
    /// # Errors
    /// [`Error::Epsilon`], [`Error::Cutoff`], [`Error::DriverTooOld`], [`Error::Driver`].
    pub fn new(context: &Arc<CudaContext>, options: Options) -> Result<Self, Error> {
        options.validate()?;
        driver::probe()?;
        driver::driver_version()?;
        context.bind_to_thread().map_err(|e| driver::failed("cuCtxSetCurrent", e))?;
        Ok(Zlpr { context: context.clone(), device: driver::device()?, options })
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The limits that plans are made for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The plan for `rows` rows of `cols` columns; `gradient: None` is forward only.
    ///
    /// # Errors
    /// Those of [`Plan::new`].
    pub fn plan(
        &self,
        rows: usize,
        cols: usize,
        scores: DType,
        labels: DType,
        gradient: Option<DType>,
    ) -> Result<Plan, Error> {
        let (rows, cols, reduction) = (rows as u64, cols as u64, self.options.total());
        Plan::new(&self.device, &Problem { rows, cols, scores, labels, gradient, reduction })
    }

    /// Loads every kernel that rows of up to `max_cols` columns of these types may need, forward only and
    /// with the gradient. Once per context; what is loaded already is not loaded again.
    ///
    /// # Errors
    /// [`Error::Types`], [`Error::Capability`], [`Error::NoImage`], [`Error::Driver`].
    pub fn prepare(&self, scores: DType, labels: DType, max_cols: usize) -> Result<(), Error> {
        self.bind()?;
        let max_cols = max_cols as u64;
        for gradient in [Some(scores), None] {
            for regime in regimes_for(gradient.is_some()) {
                let longest = regime.max_cols(&self.device, scores, labels);
                let cols = max_cols.min(longest);
                let problem = Problem { rows: 1, cols, scores, labels, gradient, reduction: self.options.total() };
                raw::prepare(&Plan::with_regime(&self.device, &problem, regime)?)?;
                if max_cols <= longest {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Row losses, and the total if there is a reduction.
    ///
    /// # Errors
    /// [`Error::NotPrepared`] without [`Zlpr::prepare`]; otherwise the error names the argument at fault,
    /// what was given and what is allowed.
    pub fn forward<S: Score>(
        &self,
        stream: &CudaStream,
        scores: Matrix<'_, S>,
        targets: &Targets<'_, S>,
        outputs: Outputs<'_>,
    ) -> Result<(), Error> {
        self.local_stream(stream)?;
        let (scores, _scores) = self.read("scores", &scores, stream)?;
        self.run(stream, scores, targets, Upstream::default(), None, outputs)
    }

    /// Row losses, the gradient with respect to the scores, and the total if there is a reduction, in one
    /// launch (two or three with a total).
    ///
    /// The gradient is that of the reduced loss times `upstream`; with [`Reduction::None`], row r's is
    /// that of its own loss times its upstream gradient.
    ///
    /// # Errors
    /// [`Error::NotPrepared`] without [`Zlpr::prepare`]; otherwise the error names the argument at fault,
    /// what was given and what is allowed.
    pub fn forward_backward<S: Score, G: GradientOf<S>>(
        &self,
        stream: &CudaStream,
        scores: Matrix<'_, S>,
        targets: &Targets<'_, S>,
        upstream: Upstream<'_>,
        gradient: MatrixMut<'_, G>,
        outputs: Outputs<'_>,
    ) -> Result<(), Error> {
        self.local_stream(stream)?;
        let (scores, _scores) = self.read("scores", &scores, stream)?;
        let MatrixMut { data, rows, cols, row_stride } = gradient;
        let (gradient, _gradient) = self.write("gradient", data, (rows, cols, row_stride), stream)?;
        self.run(stream, scores, targets, upstream, Some(gradient), outputs)
    }

    /// [`Zlpr::forward_backward`] whose gradient overwrites the scores.
    ///
    /// # Errors
    /// Those of [`Zlpr::forward_backward`].
    pub fn forward_backward_in_place<S: Score>(
        &self,
        stream: &CudaStream,
        scores: MatrixMut<'_, S>,
        targets: &Targets<'_, S>,
        upstream: Upstream<'_>,
        outputs: Outputs<'_>,
    ) -> Result<(), Error> {
        self.local_stream(stream)?;
        let MatrixMut { data, rows, cols, row_stride } = scores;
        let (scores, _scores) = self.write("scores", data, (rows, cols, row_stride), stream)?;
        self.run(stream, scores, targets, upstream, Some(Argument { name: "gradient", ..scores }), outputs)
    }

    fn run<S: Score>(
        &self,
        stream: &CudaStream,
        scores: Argument,
        targets: &Targets<'_, S>,
        upstream: Upstream<'_>,
        gradient: Option<Argument>,
        outputs: Outputs<'_>,
    ) -> Result<(), Error> {
        let Outputs { loss, total, workspace } = outputs;
        let (rows, cols, reduction) = (scores.rows, scores.cols, self.options.total());
        match (reduction, &total) {
            (Reduction::None, Some(_)) => {
                return Err(Error::Total {
                    given: "a total was given, but the reduction is none: set Options::reduction",
                });
            }
            (Reduction::Sum | Reduction::Mean, None) => {
                return Err(Error::Total { given: "the reduction needs a total: set Outputs::total" });
            }
            _ => {}
        }

        // The guards `_x` record the use of each slice on the stream; they live until the launch is enqueued.
        let (labels, _labels) = match &targets.labels {
            Labels::Soft(labels) => self.read("labels", labels, stream)?,
            Labels::SoftF32(labels) => self.read("labels", labels, stream)?,
            Labels::Hard(labels) => self.read("labels", labels, stream)?,
        };
        let (mask, _mask) = match &targets.mask {
            Mask::None => (None, None),
            Mask::Bytes(mask) => split(self.read("mask", mask, stream)?),
        };
        let vector = |data, count| Matrix { data, rows: count, cols: 1, row_stride: 1 };
        let (upstream, _upstream, scale) = match upstream {
            Upstream::Host(scale) => (None, None, scale),
            Upstream::Device(data) => {
                let (argument, guard) = self.read("upstream", &vector(data, 1), stream)?;
                (Some(Argument { row_stride: 0, ..argument }), Some(guard), 1.0)
            }
            Upstream::PerRow(data) => {
                let (argument, guard) = self.read("upstream", &vector(data, rows), stream)?;
                (Some(argument), Some(guard), 1.0)
            }
        };
        let (loss, _loss) = self.write("loss", loss, (rows, 1, 1), stream)?;
        let (total, _total) = match total {
            Some(total) => split(self.write("total", total, (1, 1, 1), stream)?),
            None => (None, None),
        };

        let gradient_type = gradient.map(|g| g.dtype);
        let problem =
            Problem { rows, cols, scores: S::DTYPE, labels: labels.dtype, gradient: gradient_type, reduction };
        let plan = Plan::new(&self.device, &problem)?;
        let (workspace, _workspace) = match workspace {
            Some(workspace) => {
                let words = plan.workspace_bytes.div_ceil(4);
                split(self.write("workspace", workspace, (words, 1, 1), stream)?)
            }
            None if plan.workspace_bytes > 0 => {
                return Err(Error::TooShort { argument: "workspace", given: 0, needed: plan.workspace_bytes / 4 });
            }
            None => (None, None),
        };

        let arguments = Arguments { scores, labels, mask, upstream, gradient, loss, total, workspace };
        arguments.validate()?;
        self.bind()?;
        // SAFETY: the arguments are live slices of this context, long enough for the plan's shape at their
        // strides, and nothing written overlaps anything else (all validated); the guards order the launch
        // after earlier uses of the same slices on other streams.
        unsafe { raw::launch(&plan, &self.options, &arguments.to_raw(scale), stream.cu_stream().cast()) }
    }

    fn bind(&self) -> Result<(), Error> {
        self.context.bind_to_thread().map_err(|e| driver::failed("cuCtxSetCurrent", e))
    }

    fn local(&self, argument: &'static str, context: &CudaContext) -> Result<(), Error> {
        // Contexts are compared by handle: a primary context retained twice is the same context.
        if context.cu_ctx() == self.context.cu_ctx() {
            return Ok(());
        }
        Err(Error::ForeignContext { argument, given: context.ordinal(), allowed: self.context.ordinal() })
    }

    fn local_stream(&self, stream: &CudaStream) -> Result<(), Error> {
        self.local("stream", stream.context())
    }

    fn read<'b, T: Element>(
        &self,
        name: &'static str,
        matrix: &Matrix<'b, T>,
        stream: &'b CudaStream,
    ) -> Result<(Argument, SyncOnDrop<'b>), Error> {
        let Matrix { data, rows, cols, row_stride } = *matrix;
        self.local(name, data.stream().context())?;
        let len = data.len() as u64;
        let (pointer, guard) = data.device_ptr(stream);
        Ok((Argument { name, dtype: T::DTYPE, pointer, len, rows, cols, row_stride }, guard))
    }

    fn write<'b, T: Element>(
        &self,
        name: &'static str,
        data: &'b mut dyn DevicePtrMut<T>,
        (rows, cols, row_stride): (u64, u64, u64),
        stream: &'b CudaStream,
    ) -> Result<(Argument, SyncOnDrop<'b>), Error> {
        self.local(name, data.stream().context())?;
        let len = data.len() as u64;
        let (pointer, guard) = data.device_ptr_mut(stream);
        Ok((Argument { name, dtype: T::DTYPE, pointer, len, rows, cols, row_stride }, guard))
    }
}

fn split<A, B>((a, b): (A, B)) -> (Option<A>, Option<B>) {
    (Some(a), Some(b))
}
