//! What the loss is, apart from its inputs.

use crate::Error;

/// How the row losses become one value, and what that does to the gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduction {
    /// No total; each row's gradient is that of its own loss.
    #[default]
    None,
    /// The sum of the row losses.
    Sum,
    /// The sum of the row losses divided by the number of rows (0 rows: 0); so is the gradient, before it is rounded.
    Mean,
}

/// Options of the loss, by a builder. The default is epsilon 1e-7, no cutoff, no reduction.
///
/// ```
/// use zlpr::{Options, Reduction};
/// let options = Options::new().reduction(Reduction::Mean).cutoff(-1e4);
/// assert_eq!(options.cutoff_score(), Some(-1e4));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    epsilon: f32,
    cutoff: Option<f32>,
    reduction: Reduction,
}

impl Default for Options {
    fn default() -> Self {
        Options { epsilon: 1e-7, cutoff: None, reduction: Reduction::None }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label below `epsilon` counts as exactly 0, one above `1 - epsilon` (rounded to f32) as exactly 1.
    /// In [0, 0.5); anything else is [`Error::Epsilon`] when the options are used.
    pub fn epsilon(mut self, epsilon: f32) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Scores at or below `cutoff` are masked. Scores of -inf always are. NaN and +inf are
    /// [`Error::Cutoff`] when the options are used.
    pub fn cutoff(mut self, cutoff: f32) -> Self {
        self.cutoff = Some(cutoff);
        self
    }

    /// How the row losses become one value.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The reduction in force.
    pub fn total(&self) -> Reduction {
        self.reduction
    }

    /// The cutoff in force.
    pub fn cutoff_score(&self) -> Option<f32> {
        self.cutoff
    }

    /// `(low, high)`: labels below `low` are 0, labels above `high` are 1. Both are rounded in f32.
    pub fn label_bounds(&self) -> (f32, f32) {
        (self.epsilon, 1.0 - self.epsilon)
    }

    /// Checks the ranges stated at the setters.
    ///
    /// # Errors
    /// [`Error::Epsilon`], [`Error::Cutoff`].
    pub fn validate(&self) -> Result<(), Error> {
        if !(0.0..0.5).contains(&self.epsilon) {
            return Err(Error::Epsilon { given: self.epsilon });
        }
        match self.cutoff {
            Some(c) if c.is_nan() || c == f32::INFINITY => Err(Error::Cutoff { given: c }),
            _ => Ok(()),
        }
    }
}
