//! The typed layer's arguments: matrices on the device, label and mask forms, upstream gradients.

use cudarc::driver::{DevicePtr, DevicePtrMut};

use crate::Score;

/// A matrix `[rows, cols]` in device memory that is read: any cudarc slice or view, with a row stride.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T> {
    pub(crate) data: &'a dyn DevicePtr<T>,
    pub(crate) rows: u64,
    pub(crate) cols: u64,
    pub(crate) row_stride: u64,
}

impl<'a, T> Matrix<'a, T> {
    /// Contiguous rows.
    pub fn new(data: &'a dyn DevicePtr<T>, rows: usize, cols: usize) -> Self {
        Matrix { data, rows: rows as u64, cols: cols as u64, row_stride: cols as u64 }
    }

    /// Rows `stride` elements apart. At least `cols`; labels and masks also take 0, one row for all.
    pub fn row_stride(mut self, stride: usize) -> Self {
        self.row_stride = stride as u64;
        self
    }
}

/// A matrix `[rows, cols]` in device memory that is written.
pub struct MatrixMut<'a, T> {
    pub(crate) data: &'a mut dyn DevicePtrMut<T>,
    pub(crate) rows: u64,
    pub(crate) cols: u64,
    pub(crate) row_stride: u64,
}

impl<'a, T> MatrixMut<'a, T> {
    /// Contiguous rows.
    pub fn new(data: &'a mut dyn DevicePtrMut<T>, rows: usize, cols: usize) -> Self {
        MatrixMut { data, rows: rows as u64, cols: cols as u64, row_stride: cols as u64 }
    }

    /// Rows `stride` elements apart, at least `cols`. What lies between rows is not written.
    pub fn row_stride(mut self, stride: usize) -> Self {
        self.row_stride = stride as u64;
        self
    }
}

/// The labels, in one of the forms that kernels exist for.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Labels<'a, S: Score> {
    /// Probabilities in [0, 1], in the scores' type.
    Soft(Matrix<'a, S>),
    /// Probabilities in [0, 1], in f32.
    SoftF32(Matrix<'a, f32>),
    /// Bytes: 0 is 0, anything else is 1.
    Hard(Matrix<'a, u8>),
}

/// Which positions take part.
#[derive(Clone, Copy, Default)]
#[non_exhaustive]
pub enum Mask<'a> {
    /// All of them (scores of -inf and at or below a cutoff never do).
    #[default]
    None,
    /// One byte per position, 0 = masked.
    Bytes(Matrix<'a, u8>),
}

/// The gradient of whatever follows with respect to this loss; multiplies the gradient in f32.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Upstream<'a> {
    /// A value known on the host.
    Host(f32),
    /// One f32 in device memory.
    Device(&'a dyn DevicePtr<f32>),
    /// One f32 per row in device memory.
    PerRow(&'a dyn DevicePtr<f32>),
}

impl Default for Upstream<'_> {
    fn default() -> Self {
        Upstream::Host(1.0)
    }
}

/// What the scores are held against.
#[derive(Clone, Copy)]
pub struct Targets<'a, S: Score> {
    pub(crate) labels: Labels<'a, S>,
    pub(crate) mask: Mask<'a>,
}

impl<'a, S: Score> Targets<'a, S> {
    /// Labels without a mask.
    pub fn new(labels: Labels<'a, S>) -> Self {
        Targets { labels, mask: Mask::None }
    }

    /// With a mask.
    pub fn mask(mut self, mask: Mask<'a>) -> Self {
        self.mask = mask;
        self
    }
}

/// Everything that is written besides the gradient.
pub struct Outputs<'a> {
    pub(crate) loss: &'a mut dyn DevicePtrMut<f32>,
    pub(crate) total: Option<&'a mut dyn DevicePtrMut<f32>>,
    pub(crate) workspace: Option<&'a mut dyn DevicePtrMut<f32>>,
}

impl<'a> Outputs<'a> {
    /// Row losses `[rows]`, always written.
    pub fn new(loss: &'a mut dyn DevicePtrMut<f32>) -> Self {
        Outputs { loss, total: None, workspace: None }
    }

    /// The total: one f32. Required by a reduction other than none, refused without one.
    pub fn total(mut self, total: &'a mut dyn DevicePtrMut<f32>) -> Self {
        self.total = Some(total);
        self
    }

    /// The workspace, at least [`Plan::workspace_bytes`](crate::plan::Plan::workspace_bytes) long. One
    /// workspace serves one stream at a time.
    pub fn workspace(mut self, workspace: &'a mut dyn DevicePtrMut<f32>) -> Self {
        self.workspace = Some(workspace);
        self
    }
}
