//! Random problems from a few numbers: what the property tests shrink, and `cargo xtask mutate` kills with.

use rand::Rng;
use zlpr::{DType, Options, Reduction};

use super::{Case, Upstream, data, decode};

/// Where scores and labels come from.
#[derive(Clone, Debug)]
pub enum Values {
    /// Normal scores of this standard deviation, ordinary labels.
    Normal(f64),
    /// All scores of nearly this magnitude.
    Saturated(f64),
    /// Any bits at all: NaN, infinities, subnormals, labels outside [0, 1].
    Bits,
    /// Any bits, but finite, with labels in [0, 1].
    FiniteBits,
}

/// Which mask there is.
#[derive(Clone, Copy, Debug)]
pub enum MaskForm {
    /// None.
    None,
    /// One of the scores' shape.
    PerRow,
    /// One row for all.
    Shared,
}

/// A problem in a few numbers, which shrink.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Types of scores and labels.
    pub pair: (DType, DType),
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Scores and labels.
    pub values: Values,
    /// Seed of the values.
    pub seed: u64,
    /// The mask.
    pub mask: MaskForm,
    /// One row of labels serves all.
    pub shared_labels: bool,
    /// Elements before scores, labels, mask and gradient.
    pub offsets: [usize; 4],
    /// Elements between the rows of scores, labels, mask and gradient.
    pub padding: [usize; 4],
    /// The gradient replaces the scores, unless it is in f32.
    pub in_place: bool,
    /// The gradient is in f32.
    pub f32_gradient: bool,
    /// Epsilon of the labels.
    pub epsilon: f32,
    /// Scores at or below are masked.
    pub cutoff: Option<f32>,
    /// How there is a total.
    pub reduction: Reduction,
    /// Upstream gradient in device memory; 1.5 from the host if there is none.
    pub upstream: Option<f32>,
    /// A multiple of it for each row.
    pub per_row: bool,
}

impl Spec {
    /// The case.
    pub fn case(&self) -> Case {
        let pair = self.pair;
        let count = self.rows * self.cols;
        let rng = &mut data::rng(self.seed);
        let (scores, labels) = match self.values {
            Values::Normal(sigma) => (data::normal(rng, count, sigma), data::labels(rng, count, pair.1)),
            Values::Saturated(magnitude) => {
                let scores = data::normal(rng, count, 0.3).iter().map(|x| x + magnitude * x.signum()).collect();
                (scores, data::labels(rng, count, pair.1))
            }
            Values::Bits => (bits(rng, pair.0, count, |_| true), bits(rng, pair.1, count, |_| true)),
            Values::FiniteBits => {
                let labels = bits(rng, pair.1, count, |t| (0.0..=1.0).contains(&t));
                (bits(rng, pair.0, count, f64::is_finite), labels)
            }
        };
        // The random magnitude may pass the range of the type.
        let scores: Vec<f64> =
            scores.iter().map(|&s| if s.is_finite() { s.clamp(-3.3e38, 3.3e38) } else { s }).collect();
        let mut case = Case::new("random", pair, (self.rows, self.cols), &scores, &labels);
        let options = Options::new().epsilon(self.epsilon).reduction(self.reduction);
        case = case.options(self.cutoff.map_or(options, |c| options.cutoff(c)));
        case = case.offsets(self.offsets).padding(self.padding);
        case.vector_offset = self.offsets[0] % 3;
        match self.mask {
            MaskForm::None => {}
            MaskForm::PerRow => case = case.mask(data::mask(rng, count)),
            MaskForm::Shared => case = case.mask(data::mask(rng, count)).shared_mask(),
        }
        if self.shared_labels {
            case = case.shared_labels();
        }
        if self.f32_gradient {
            case = case.gradient(DType::F32);
        } else if self.in_place {
            case = case.in_place();
        }
        match self.upstream {
            Some(x) if self.per_row => {
                case.upstream(Upstream::PerRow((0..self.rows).map(|r| x * (r as f32 - 1.0)).collect()))
            }
            Some(x) => case.upstream(Upstream::Device(x)),
            None => case.upstream(Upstream::Host(1.5)),
        }
    }
}

/// Values of random bits that `keep` keeps, for u8 any bytes.
fn bits(rng: &mut impl Rng, dtype: DType, count: usize, keep: impl Fn(f64) -> bool) -> Vec<f64> {
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let bytes: [u8; 4] = rng.random();
        let value = decode(dtype, &bytes[..dtype.size()])[0];
        // A NaN of all ones is what unwritten memory holds: another one.
        let value = if value.is_nan() { f64::NAN } else { value };
        if dtype == DType::U8 || keep(value) {
            values.push(value);
        }
    }
    values
}
