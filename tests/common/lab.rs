//! A device, and every implementation on it.

use std::fmt::Display;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream};
use half::{bf16, f16};
use softcuda::{Config, Gpu};
use zlpr::plan::{Device, Plan, Problem, Regime};
use zlpr::{
    DType, GradientOf, Labels, Mask, Matrix, MatrixMut, Options, Outputs, Reduction, Score, Targets, Upstream, Zlpr,
    raw,
};

use super::memory::{Array, Image};
use super::{Case, Output, Place, case, check, encode};

/// The compute capabilities that every case runs on.
pub const CAPABILITIES: [(u32, u32); 3] = [(7, 5), (8, 0), (9, 0)];

/// How a case gets to the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The typed layer, with the plan's own choice.
    Typed,
    /// The raw layer, forced into a regime.
    Raw(Regime),
}

/// One way to compute a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Implementation {
    /// How it gets to the kernels.
    pub layer: Layer,
    /// With the gradient, or forward only.
    pub gradient: bool,
}

/// A device of one compute capability.
pub struct Lab {
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
    device: Device,
    // Last, because the context must not outlive the device.
    gpu: Gpu,
}

/// The arrays of one run.
struct Arrays {
    scores: Array,
    labels: Array,
    mask: Option<Array>,
    upstream: Option<Array>,
    gradient: Option<Array>,
    loss: Array,
    total: Option<Array>,
    workspace: Option<Array>,
}

impl Lab {
    /// A device of this capability; the real one where there is one, whatever its capability.
    pub fn new((major, minor): (u32, u32)) -> Lab {
        Lab::with(Config::capability(major, minor))
    }

    /// A device with this configuration, or the real one where there is one.
    pub fn with(config: Config) -> Lab {
        let gpu = softcuda::gpu(config).unwrap_or_else(|e| panic!("no device: {e}"));
        let context = zlpr::context(gpu.ordinal()).unwrap_or_else(|e| panic!("no context: {e}"));
        let stream = context.new_stream().unwrap_or_else(|e| panic!("no stream: {e}"));
        let zlpr = Zlpr::new(&context, Options::new()).unwrap_or_else(|e| panic!("no loss: {e}"));
        Lab { stream, device: *zlpr.device(), context, gpu }
    }

    /// A device for each of [`CAPABILITIES`]; only the one that there is, if it is real.
    pub fn each() -> impl Iterator<Item = Lab> {
        let mut real = false;
        CAPABILITIES.into_iter().map_while(move |capability| {
            let lab = (!real).then(|| Lab::new(capability))?;
            real = !lab.gpu.is_virtual();
            Some(lab)
        })
    }

    /// The virtual or real GPU.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Its context.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The stream that everything runs on: not the default one.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Its limits.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The value, or a panic with the error and what the virtual GPU has to say about it.
    pub fn expect<T, E: Display>(&self, what: &dyn Display, result: Result<T, E>) -> T {
        self.explain(what, result).unwrap_or_else(|text| panic!("{text}"))
    }

    fn explain<T, E: Display>(&self, what: &dyn Display, result: Result<T, E>) -> Result<T, String> {
        result.map_err(|error| {
            let report = self.gpu.report().unwrap_or_default();
            format!("{what} on capability {:?}: {error}\n{report}", self.device.capability)
        })
    }

    /// Everything that can compute a case.
    pub fn implementations(&self, case: &Case) -> Vec<Implementation> {
        let holds = |r: &Regime| case.cols as u64 <= r.max_cols(&self.device, case.scores_type, case.labels_type);
        let layers = Regime::ALL.into_iter().filter(holds).map(Layer::Raw).chain([Layer::Typed]);
        layers.flat_map(|layer| [true, false].map(|gradient| Implementation { layer, gradient })).collect()
    }

    /// Runs a case on every implementation and compares; panics with all that is wrong.
    pub fn check(&self, case: &Case) {
        for implementation in self.implementations(case) {
            self.check_one(case, implementation);
        }
    }

    /// Runs a case on one implementation and compares; panics with all that is wrong.
    pub fn check_one(&self, case: &Case, implementation: Implementation) -> Output {
        let output = self.run(case, implementation);
        let wrong = check::mismatches(case, &output);
        assert!(
            wrong.is_empty(),
            "{case}\non capability {:?} by {implementation:?}:\n  {}",
            self.device.capability,
            wrong.join("\n  ")
        );
        output
    }

    /// Runs a case on one implementation; panics if the driver refuses or a kernel faults.
    pub fn run(&self, case: &Case, implementation: Implementation) -> Output {
        self.try_run(case, implementation).unwrap_or_else(|text| panic!("{text}"))
    }

    /// Runs a case on one implementation. After an error the device may be lost.
    pub fn try_run(&self, case: &Case, implementation: Implementation) -> Result<Output, String> {
        let what = format!("{case} by {implementation:?}");
        let plan = self.plan(case, implementation);
        let mut arrays = self.explain(&what, self.upload(case, &plan))?;
        let launched = match (implementation.layer, case.scores_type) {
            (Layer::Raw(_), _) => self.launch_raw(case, &plan, &arrays),
            (Layer::Typed, DType::F32) => self.launch_typed::<f32>(case, &plan, &mut arrays),
            (Layer::Typed, DType::F16) => self.launch_typed::<f16>(case, &plan, &mut arrays),
            (Layer::Typed, _) => self.launch_typed::<bf16>(case, &plan, &mut arrays),
        };
        self.explain(&what, launched)?;
        self.explain(&what, self.stream.synchronize())?;
        self.explain(&what, self.download(case, &arrays, implementation.gradient))
    }

    /// The plan of an implementation.
    pub fn plan(&self, case: &Case, implementation: Implementation) -> Plan {
        let problem = Problem {
            rows: case.rows as u64,
            cols: case.cols as u64,
            scores: case.scores_type,
            labels: case.labels_type,
            gradient: implementation.gradient.then_some(case.gradient_type),
            reduction: case.options.total(),
        };
        let plan = match implementation.layer {
            Layer::Typed => Plan::new(&self.device, &problem),
            Layer::Raw(regime) => Plan::with_regime(&self.device, &problem, regime),
        };
        self.expect(&format!("{case} by {implementation:?}"), plan)
    }

    fn upload(&self, case: &Case, plan: &Plan) -> Result<Arrays, cudarc::driver::DriverError> {
        let shape = (case.rows, case.cols);
        let put = |name, image| Array::new(name, image, &self.stream);
        let vector = Place { offset: case.vector_offset, stride: 1 };
        let values = |count| Image::output(DType::F32, (count, 1), vector);

        let scores = encode(case.scores_type, &case.scores);
        let scores = match case.in_place && plan.problem.gradient.is_some() {
            true => Image::in_place(case.scores_type, &scores, shape, case.scores_place),
            false => Image::input(case.scores_type, &scores, shape, case.scores_place),
        };
        let labels = encode(case.labels_type, &case.labels);
        let mask = case.mask.as_ref().map(|m| Image::input(DType::U8, m, shape, case.mask_place));
        let upstream = match &case.upstream {
            case::Upstream::Host(_) => None,
            case::Upstream::Device(x) => Some(vec![*x]),
            case::Upstream::PerRow(x) => Some(x.clone()),
        };
        let upstream = upstream.map(|x| Image::input(DType::F32, bytemuck::cast_slice(&x), (x.len(), 1), vector));
        let gradient = plan.problem.gradient.filter(|_| !case.in_place);
        let gradient = gradient.map(|dtype| Image::output(dtype, shape, case.gradient_place));
        let workspace = (plan.workspace_bytes / 4) as usize;
        Ok(Arrays {
            scores: put("scores", scores)?,
            labels: put("labels", Image::input(case.labels_type, &labels, shape, case.labels_place))?,
            mask: mask.map(|i| put("mask", i)).transpose()?,
            upstream: upstream.map(|i| put("upstream", i)).transpose()?,
            gradient: gradient.map(|i| put("gradient", i)).transpose()?,
            loss: put("loss", values(case.rows))?,
            total: plan.total.map(|_| put("total", values(1))).transpose()?,
            workspace: (workspace > 0).then(|| put("workspace", values(workspace))).transpose()?,
        })
    }

    fn launch_raw(&self, case: &Case, plan: &Plan, arrays: &Arrays) -> Result<(), zlpr::Error> {
        let pointer = |array: &Option<Array>| array.as_ref().map_or(0, |a| a.pointer(&self.stream));
        let stride = |array: &Option<Array>| array.as_ref().map_or(0, |a| a.stride() as u64);
        let in_place = case.in_place && plan.problem.gradient.is_some();
        let replaced = if in_place { Some(&arrays.scores) } else { arrays.gradient.as_ref() };
        let scale = if let case::Upstream::Host(x) = case.upstream { x } else { 1.0 };
        let arguments = raw::Arguments {
            scores: arrays.scores.pointer(&self.stream),
            scores_stride: arrays.scores.stride() as u64,
            labels: arrays.labels.pointer(&self.stream),
            labels_stride: arrays.labels.stride() as u64,
            mask: pointer(&arrays.mask),
            mask_stride: stride(&arrays.mask),
            gradient: replaced.map_or(0, |a| a.pointer(&self.stream)),
            // Without a gradient its stride is nobody's business.
            gradient_stride: replaced.map_or(case.gradient_place.stride as u64, |a| a.stride() as u64),
            loss: arrays.loss.pointer(&self.stream),
            upstream: pointer(&arrays.upstream),
            upstream_stride: matches!(case.upstream, case::Upstream::PerRow(_)).into(),
            scale,
            total: pointer(&arrays.total),
            workspace: pointer(&arrays.workspace),
        };
        raw::prepare(plan)?;
        // SAFETY: the arrays are alive until `run` has synchronised, and have the case's shapes.
        unsafe { raw::launch(plan, &case.options, &arguments, self.stream.cu_stream().cast()) }
    }

    fn launch_typed<S: Score + GradientOf<S>>(
        &self,
        case: &Case,
        plan: &Plan,
        arrays: &mut Arrays,
    ) -> Result<(), zlpr::Error>
    where
        f32: GradientOf<S>,
    {
        let (rows, cols) = (case.rows, case.cols);
        let zlpr = Zlpr::new(&self.context, case.options)?;
        zlpr.prepare(case.scores_type, case.labels_type, cols)?;

        let (same, wide, bytes) = (arrays.labels.view::<S>(), arrays.labels.view::<f32>(), arrays.labels.view::<u8>());
        let stride = arrays.labels.stride();
        let labels = match case.labels_type {
            DType::U8 => Labels::Hard(Matrix::new(&bytes, rows, cols).row_stride(stride)),
            DType::F32 if S::DTYPE != DType::F32 => Labels::SoftF32(Matrix::new(&wide, rows, cols).row_stride(stride)),
            _ => Labels::Soft(Matrix::new(&same, rows, cols).row_stride(stride)),
        };
        let mut targets = Targets::new(labels);
        let mask = arrays.mask.as_ref().map(|m| (m.view::<u8>(), m.stride()));
        if let Some((mask, stride)) = &mask {
            targets = targets.mask(Mask::Bytes(Matrix::new(mask, rows, cols).row_stride(*stride)));
        }
        let device_upstream = arrays.upstream.as_ref().map(Array::view::<f32>);
        let upstream = match (&case.upstream, &device_upstream) {
            (case::Upstream::PerRow(_), Some(view)) => Upstream::PerRow(view),
            (case::Upstream::Device(_), Some(view)) => Upstream::Device(view),
            (case::Upstream::Host(x), _) => Upstream::Host(*x),
            (_, None) => unreachable!("uploaded for these forms"),
        };

        let (scores, gradient) = (&mut arrays.scores, &mut arrays.gradient);
        let (total, workspace) = (&mut arrays.total, &mut arrays.workspace);
        let stride = scores.stride();
        arrays.loss.with_view_mut::<f32, _>(|mut loss| {
            with_optional(total, |mut total| {
                with_optional(workspace, |mut workspace| {
                    let mut outputs = Outputs::new(&mut loss);
                    if let Some(total) = &mut total {
                        outputs = outputs.total(total);
                    }
                    if let Some(workspace) = &mut workspace {
                        outputs = outputs.workspace(workspace);
                    }
                    let stream = &self.stream;
                    if plan.problem.gradient.is_some() && case.in_place {
                        return scores.with_view_mut::<S, _>(|mut view| {
                            let scores = MatrixMut::new(&mut view, rows, cols).row_stride(stride);
                            zlpr.forward_backward_in_place(stream, scores, &targets, upstream, outputs)
                        });
                    }
                    let view = scores.view::<S>();
                    let scores = Matrix::new(&view, rows, cols).row_stride(stride);
                    let Some(gradient) = gradient else {
                        return zlpr.forward(stream, scores, &targets, outputs);
                    };
                    let stride = gradient.stride();
                    if case.gradient_type == S::DTYPE {
                        gradient.with_view_mut::<S, _>(|mut view| {
                            let gradient = MatrixMut::new(&mut view, rows, cols).row_stride(stride);
                            zlpr.forward_backward(stream, scores, &targets, upstream, gradient, outputs)
                        })
                    } else {
                        gradient.with_view_mut::<f32, _>(|mut view| {
                            let gradient = MatrixMut::new(&mut view, rows, cols).row_stride(stride);
                            zlpr.forward_backward(stream, scores, &targets, upstream, gradient, outputs)
                        })
                    }
                })
            })
        })
    }

    fn download(&self, case: &Case, arrays: &Arrays, gradient: bool) -> Result<Output, cudarc::driver::DriverError> {
        let stream = &self.stream;
        let mut damage = Vec::new();
        for input in [Some(&arrays.labels), arrays.mask.as_ref(), arrays.upstream.as_ref()].into_iter().flatten() {
            input.verify_unchanged(stream, &mut damage)?;
        }
        let gradient = if case.in_place && gradient {
            Some(arrays.scores.download(stream, &mut damage)?)
        } else {
            arrays.scores.verify_unchanged(stream, &mut damage)?;
            arrays.gradient.as_ref().map(|a| a.download(stream, &mut damage)).transpose()?
        };
        let floats = |bytes: Vec<u8>| -> Vec<f32> { bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect() };
        let total = arrays.total.as_ref().map(|a| a.download(stream, &mut damage)).transpose()?;
        if let Some(workspace) = &arrays.workspace {
            workspace.download(stream, &mut damage)?;
        }
        let loss = floats(arrays.loss.download(stream, &mut damage)?);
        Ok(Output { loss, total: total.map(|t| floats(t)[0]), gradient, damage })
    }
}

/// Gives the view of an array to `use_it`, if there is an array.
fn with_optional<R>(
    array: &mut Option<Array>,
    use_it: impl FnOnce(Option<cudarc::driver::CudaViewMut<'_, f32>>) -> R,
) -> R {
    match array {
        Some(array) => array.with_view_mut(|view| use_it(Some(view))),
        None => use_it(None),
    }
}

/// Gives every case to every implementation on every capability.
pub fn check_everywhere(cases: impl IntoIterator<Item = Case>) {
    let cases: Vec<Case> = cases.into_iter().collect();
    assert!(!cases.is_empty(), "nothing to check");
    for lab in Lab::each() {
        for case in &cases {
            lab.check(case);
        }
    }
}
