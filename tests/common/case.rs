//! A problem with its data and its memory layout.

use std::sync::OnceLock;

use zlpr::reference::Row;
use zlpr::{DType, Options, Reduction};

use super::elements::{decode, encode};

/// Where a matrix lies in its buffer, in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Elements before the first row. The buffer itself is aligned to 256 bytes.
    pub offset: usize,
    /// Elements from one row to the next. 0: one row for all.
    pub stride: usize,
}

/// The upstream gradient, in each of its forms.
#[derive(Clone, Debug, PartialEq)]
pub enum Upstream {
    /// A host value.
    Host(f32),
    /// One value in device memory.
    Device(f32),
    /// One value per row in device memory.
    PerRow(Vec<f32>),
}

/// A problem with its data and its memory layout. Values are exact in their types.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// Type of the scores.
    pub scores_type: DType,
    /// Type of the labels.
    pub labels_type: DType,
    /// Type of the gradient.
    pub gradient_type: DType,
    /// The gradient replaces the scores.
    pub in_place: bool,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// `[rows, cols]`.
    pub scores: Vec<f64>,
    /// `[rows, cols]`, or `[cols]` if one row serves all. Bytes for u8 labels.
    pub labels: Vec<f64>,
    /// `[rows, cols]`, or `[cols]` if one row serves all; 0 = masked.
    pub mask: Option<Vec<u8>>,
    /// Options, the reduction among them.
    pub options: Options,
    /// The upstream gradient.
    pub upstream: Upstream,
    /// Where the scores are.
    pub scores_place: Place,
    /// Where the labels are.
    pub labels_place: Place,
    /// Where the mask is.
    pub mask_place: Place,
    /// Where the gradient is, unless in place.
    pub gradient_place: Place,
    /// Elements before the row losses and before the upstream gradients.
    pub vector_offset: usize,
    expected: OnceLock<Vec<Row>>,
}

impl Case {
    /// A case with contiguous rows, a separate gradient in the scores' type, upstream gradient 1 and default
    /// options. Scores and labels are rounded to their types.
    pub fn new(
        name: impl Into<String>,
        (scores_type, labels_type): (DType, DType),
        (rows, cols): (usize, usize),
        scores: &[f64],
        labels: &[f64],
    ) -> Case {
        assert_eq!((scores.len(), labels.len()), (rows * cols, rows * cols));
        let place = Place { offset: 0, stride: cols };
        Case {
            name: name.into(),
            scores_type,
            labels_type,
            gradient_type: scores_type,
            in_place: false,
            rows,
            cols,
            scores: decode(scores_type, &encode(scores_type, scores)),
            labels: decode(labels_type, &encode(labels_type, labels)),
            mask: None,
            options: Options::new(),
            upstream: Upstream::Host(1.0),
            scores_place: place,
            labels_place: place,
            mask_place: place,
            gradient_place: place,
            vector_offset: 0,
            expected: OnceLock::new(),
        }
    }

    /// With an explicit mask.
    pub fn mask(mut self, mask: Vec<u8>) -> Case {
        assert_eq!(mask.len(), self.rows * self.cols);
        self.mask = Some(mask);
        self
    }

    /// With other options.
    pub fn options(mut self, options: Options) -> Case {
        self.options = options;
        self
    }

    /// With an upstream gradient.
    pub fn upstream(mut self, upstream: Upstream) -> Case {
        self.upstream = upstream;
        self
    }

    /// With a gradient of another type.
    pub fn gradient(mut self, dtype: DType) -> Case {
        self.gradient_type = dtype;
        self
    }

    /// With the gradient in place of the scores.
    pub fn in_place(mut self) -> Case {
        self.in_place = true;
        self.gradient_type = self.scores_type;
        self
    }

    /// With every array shifted by its own number of elements: scores, labels, mask, gradient.
    pub fn offsets(mut self, [scores, labels, mask, gradient]: [usize; 4]) -> Case {
        self.scores_place.offset = scores;
        self.labels_place.offset = labels;
        self.mask_place.offset = mask;
        self.gradient_place.offset = gradient;
        self
    }

    /// With elements between the rows: scores, labels, mask, gradient.
    pub fn padding(mut self, [scores, labels, mask, gradient]: [usize; 4]) -> Case {
        self.scores_place.stride = self.cols + scores;
        self.labels_place.stride = self.cols + labels;
        self.mask_place.stride = self.cols + mask;
        self.gradient_place.stride = self.cols + gradient;
        self
    }

    /// With one row of labels (that of row 0) for all rows.
    pub fn shared_labels(mut self) -> Case {
        self.labels_place.stride = 0;
        self.labels.truncate(self.cols);
        self
    }

    /// With one row of the mask (that of row 0) for all rows.
    pub fn shared_mask(mut self) -> Case {
        self.mask_place.stride = 0;
        if let Some(mask) = &mut self.mask {
            mask.truncate(self.cols);
        }
        self
    }

    /// Row losses and gradients by the reference, computed once.
    pub fn expected(&self) -> &[Row] {
        self.expected.get_or_init(|| {
            let row_of = |r: usize, place: Place| if place.stride == 0 { 0 } else { r * self.cols };
            let rows = (0..self.rows).map(|r| {
                let scores = &self.scores[r * self.cols..][..self.cols];
                let labels = &self.labels[row_of(r, self.labels_place)..][..self.cols];
                let mask = self.mask.as_ref().map(|m| &m[row_of(r, self.mask_place)..][..self.cols]);
                if self.labels_type == DType::U8 {
                    let labels: Vec<f64> = labels.iter().map(|&t| f64::from(t != 0.0)).collect();
                    Row::new(scores, &labels, mask, &self.options)
                } else {
                    Row::new(scores, labels, mask, &self.options)
                }
            });
            rows.collect()
        })
    }

    /// What multiplies the gradient of a row.
    pub fn scale(&self, row: usize) -> f64 {
        f64::from(self.upstream_of(row)) * self.share()
    }

    /// Bytes that must move: scores, labels, mask, gradient and per-row values, once each.
    pub fn floor(&self, gradient: bool) -> u64 {
        let elements = self.rows * self.cols;
        let written = if gradient { elements * self.gradient_type.size() } else { 0 };
        let mask = self.mask.as_ref().map_or(0, |_| elements);
        let upstream = match &self.upstream {
            Upstream::PerRow(x) => 4 * x.len(),
            Upstream::Device(_) => 4,
            Upstream::Host(_) => 0,
        };
        let read = elements * (self.scores_type.size() + self.labels_type.size()) + mask + upstream;
        (read + written + 4 * self.rows) as u64
    }

    /// Requests of a warp that read and write the case, if each moves 32 packs of 16 bytes of scores and as many
    /// elements of the other arrays: what is asked for where every array is aligned and a row is whole such packs.
    pub fn wide_requests(&self) -> (u64, u64) {
        let per_pack = 16 / self.scores_type.size();
        // An element of f32 beside an element of 16 bits takes two accesses per pack.
        let requests =
            |dtype: DType| (self.rows * self.cols / per_pack / 32 * (per_pack * dtype.size()).div_ceil(16)) as u64;
        let mask = self.mask.as_ref().map_or(0, |_| requests(DType::U8));
        // The row losses are stored one by one.
        let writes = requests(self.gradient_type) + self.rows as u64;
        (requests(self.scores_type) + requests(self.labels_type) + mask, writes)
    }

    /// Whether that is finite as a kernel forms it, in f32.
    pub fn scale_is_finite(&self, row: usize) -> bool {
        (self.upstream_of(row) * self.share() as f32).is_finite()
    }

    fn upstream_of(&self, row: usize) -> f32 {
        match &self.upstream {
            Upstream::Host(x) | Upstream::Device(x) => *x,
            Upstream::PerRow(x) => x[row],
        }
    }

    fn share(&self) -> f64 {
        if self.options.total() == Reduction::Mean { 1.0 / self.rows.max(1) as f64 } else { 1.0 }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Case { name, rows, cols, scores_type, labels_type, gradient_type, .. } = self;
        write!(f, "case `{name}` [{rows}, {cols}] scores {scores_type}, labels {labels_type}, ")?;
        if self.in_place { write!(f, "gradient in place") } else { write!(f, "gradient {gradient_type}") }?;
        for (array, place) in [
            ("scores", self.scores_place),
            ("labels", self.labels_place),
            ("mask", self.mask_place),
            ("gradient", self.gradient_place),
        ] {
            let used = (array != "mask" || self.mask.is_some()) && (array != "gradient" || !self.in_place);
            if used && place != (Place { offset: 0, stride: self.cols }) {
                write!(f, ", {array} at {} stride {}", place.offset, place.stride)?;
            }
        }
        Ok(())
    }
}
