//! A device, and a call of the typed layer whose every argument can be spoiled.

use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop};
use softcuda::{Config, Gpu};
use zlpr::{DType, Error, Labels, Mask, Matrix, MatrixMut, Options, Outputs, Reduction, Targets, Upstream, Zlpr};

/// A virtual device with a stream.
pub struct Host {
    pub stream: Arc<CudaStream>,
    pub context: Arc<CudaContext>,
    // Last, because the context must not outlive the device.
    pub gpu: Gpu,
}

impl Host {
    /// An A100 with a recent driver.
    pub fn new() -> Host {
        Host::with(Config::capability(8, 0))
    }

    /// A device of this configuration.
    pub fn with(config: Config) -> Host {
        let gpu = softcuda::virtual_gpu(config).expect("a virtual device");
        // Not through zlpr::context, which some of these drivers are too old for.
        let context = CudaContext::new(gpu.ordinal()).expect("a context");
        let stream = context.new_stream().expect("a stream");
        Host { stream, context, gpu }
    }

    /// The loss on it.
    pub fn zlpr(&self, options: Options) -> Zlpr {
        Zlpr::new(&self.context, options).expect("a loss")
    }

    /// Waits for everything, and fails with the virtual GPU's report if a kernel did something forbidden.
    pub fn synchronize(&self) {
        if let Err(error) = self.stream.synchronize() {
            panic!("{error}\n{}", self.gpu.report().unwrap_or_default());
        }
    }

    /// Kernels launched so far.
    pub fn launches(&self) -> u64 {
        self.gpu.counters().expect("a virtual device counts").launches
    }
}

/// Any address as an argument: what a slice of another library may be.
pub struct At<T> {
    pointer: u64,
    len: usize,
    stream: Arc<CudaStream>,
    marker: PhantomData<T>,
}

impl<T> DeviceSlice<T> for At<T> {
    fn len(&self) -> usize {
        self.len
    }
    fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

impl<T> DevicePtr<T> for At<T> {
    fn device_ptr<'a>(&'a self, stream: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.pointer, SyncOnDrop::record_event(&None, stream))
    }
}

impl<T> DevicePtrMut<T> for At<T> {
    fn device_ptr_mut<'a>(&'a mut self, stream: &'a CudaStream) -> (u64, SyncOnDrop<'a>) {
        (self.pointer, SyncOnDrop::record_event(&None, stream))
    }
}

/// One argument: where it is and what shape it says it has.
#[derive(Clone)]
pub struct Arg {
    pub pointer: u64,
    /// Elements that are there.
    pub len: usize,
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
    pub size: u64,
    pub stream: Arc<CudaStream>,
}

impl Arg {
    fn slice<T>(&self) -> At<T> {
        At { pointer: self.pointer, len: self.len, stream: self.stream.clone(), marker: PhantomData }
    }

    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.pointer + self.len as u64 * self.size
    }
}

/// Which method is called, and with which types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Forward,
    /// Scores, labels and gradient in f32.
    ForwardBackward,
    /// Scores in f16, labels in u8, gradient in f32.
    HalfScores,
    InPlace,
}

/// A call with all arguments there are, right until something is changed.
pub struct Call {
    pub method: Method,
    pub scores: Arg,
    pub labels: Arg,
    pub mask: Option<Arg>,
    pub upstream: Option<Arg>,
    /// The upstream gradient has one value, not one per row.
    pub one_upstream: bool,
    pub gradient: Arg,
    pub loss: Arg,
    pub total: Option<Arg>,
    pub workspace: Option<Arg>,
    pub zlpr: Zlpr,
    _memory: CudaSlice<u8>,
}

/// Rows of a [`Call`]: enough for a workspace.
pub const ROWS: usize = 8193;
/// Columns of a [`Call`].
pub const COLS: usize = 3;
/// Row stride of its scores, labels and gradient.
pub const STRIDE: usize = 4;

impl Call {
    /// A call that succeeds.
    pub fn new(host: &Host, method: Method) -> Call {
        // Far enough apart that one may be moved to the edge of another.
        const ROOM: usize = 1 << 20;
        let memory = host.stream.alloc_zeros::<u8>(20 * ROOM).expect("memory");
        let base = memory.device_ptr(&host.stream).0;
        let place = |index: u64, size: u64, (rows, cols, stride): (usize, usize, usize)| Arg {
            pointer: base + (2 * index + 1) * ROOM as u64,
            len: if rows == 0 { 0 } else { (rows - 1) * stride + cols },
            rows,
            cols,
            stride,
            size,
            stream: host.stream.clone(),
        };
        let matrix = (ROWS, COLS, STRIDE);
        let (scores_type, labels_type) =
            if method == Method::HalfScores { (DType::F16, DType::U8) } else { (DType::F32, DType::F32) };
        let zlpr = host.zlpr(Options::new().reduction(Reduction::Sum));
        zlpr.prepare(scores_type, labels_type, 5000).expect("kernels");
        Call {
            method,
            scores: place(0, scores_type.size() as u64, matrix),
            labels: place(1, labels_type.size() as u64, matrix),
            mask: Some(place(2, 1, matrix)),
            upstream: Some(place(3, 4, (ROWS, 1, 1))),
            one_upstream: false,
            gradient: place(4, 4, matrix),
            loss: place(5, 4, (ROWS, 1, 1)),
            total: Some(place(6, 4, (1, 1, 1))),
            workspace: Some(place(7, 4, (2, 1, 1))),
            zlpr,
            _memory: memory,
        }
    }

    /// The argument of this name.
    pub fn arg(&mut self, name: &str) -> &mut Arg {
        match name {
            "scores" => Some(&mut self.scores),
            "labels" => Some(&mut self.labels),
            "mask" => self.mask.as_mut(),
            "upstream" => self.upstream.as_mut(),
            "gradient" => Some(&mut self.gradient),
            "loss" => Some(&mut self.loss),
            "total" => self.total.as_mut(),
            "workspace" => self.workspace.as_mut(),
            _ => None,
        }
        .unwrap_or_else(|| panic!("no argument {name}"))
    }

    /// Makes the call on a stream.
    pub fn run(&self, stream: &CudaStream) -> Result<(), Error> {
        let (f32_labels, u8_labels) = (self.labels.slice::<f32>(), self.labels.slice::<u8>());
        let mask = self.mask.as_ref().map(|arg| (arg.slice::<u8>(), arg));
        let mask = mask.as_ref().map_or(Mask::None, |(slice, arg)| Mask::Bytes(matrix(slice, arg)));
        let upstream = self.upstream.as_ref().map(Arg::slice::<f32>);
        let upstream = match &upstream {
            None => Upstream::Host(1.0),
            Some(slice) if self.one_upstream => Upstream::Device(slice),
            Some(slice) => Upstream::PerRow(slice),
        };
        let mut loss = self.loss.slice::<f32>();
        let mut total = self.total.as_ref().map(Arg::slice::<f32>);
        let mut workspace = self.workspace.as_ref().map(Arg::slice::<f32>);
        let mut outputs = Outputs::new(&mut loss);
        if let Some(total) = &mut total {
            outputs = outputs.total(total);
        }
        if let Some(workspace) = &mut workspace {
            outputs = outputs.workspace(workspace);
        }
        let labels = matrix(&f32_labels, &self.labels);
        let zlpr = &self.zlpr;
        match self.method {
            Method::Forward => {
                let scores = self.scores.slice::<f32>();
                let targets = Targets::new(Labels::Soft(labels)).mask(mask);
                zlpr.forward(stream, matrix(&scores, &self.scores), &targets, outputs)
            }
            Method::InPlace => {
                let mut scores = self.scores.slice::<f32>();
                let targets = Targets::new(Labels::Soft(labels)).mask(mask);
                let scores = matrix_mut(&mut scores, &self.scores);
                zlpr.forward_backward_in_place(stream, scores, &targets, upstream, outputs)
            }
            Method::ForwardBackward => {
                let (scores, mut gradient) = (self.scores.slice::<f32>(), self.gradient.slice::<f32>());
                let targets = Targets::new(Labels::Soft(labels)).mask(mask);
                let gradient = matrix_mut(&mut gradient, &self.gradient);
                zlpr.forward_backward(stream, matrix(&scores, &self.scores), &targets, upstream, gradient, outputs)
            }
            Method::HalfScores => {
                let (scores, mut gradient) = (self.scores.slice::<half::f16>(), self.gradient.slice::<f32>());
                let targets = Targets::new(Labels::Hard(matrix(&u8_labels, &self.labels))).mask(mask);
                let gradient = matrix_mut(&mut gradient, &self.gradient);
                zlpr.forward_backward(stream, matrix(&scores, &self.scores), &targets, upstream, gradient, outputs)
            }
        }
    }
}

fn matrix<'a, T>(slice: &'a At<T>, arg: &Arg) -> Matrix<'a, T> {
    Matrix::new(slice, arg.rows, arg.cols).row_stride(arg.stride)
}

fn matrix_mut<'a, T>(slice: &'a mut At<T>, arg: &Arg) -> MatrixMut<'a, T> {
    MatrixMut::new(slice, arg.rows, arg.cols).row_stride(arg.stride)
}

/// The call fails with this error, in one line that names the argument, and nothing is launched.
pub fn refused(host: &Host, call: &Call, wanted: &Error) {
    let before = host.launches();
    let error = call.run(&host.stream).expect_err(&format!("not refused, wanted: {wanted}"));
    assert_eq!(&error, wanted);
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n'), "{text}");
    host.synchronize();
    assert_eq!(host.launches(), before, "{error}, but something was launched");
}

/// The call succeeds, and so does what it launched.
pub fn accepted(host: &Host, call: &Call, what: &str) {
    call.run(&host.stream).unwrap_or_else(|error| panic!("{what}: {error}"));
    host.synchronize();
}
