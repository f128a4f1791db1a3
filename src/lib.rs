//! CUDA kernels for the ZLPR multi-label loss (zero-bounded log-sum-exp, pairwise rank-based; "softmax +
//! cross-entropy" for multi-label classification) with soft labels and masks. Loss and gradient come from
//! one pass over each row, in f16, bf16 and f32.
//!
//! ```text
//! P = sum t e^-s      Q = sum (1 - t) e^s      loss = ln(1 + P) + ln(1 + Q)
//! ```
//!
//! Source: Su Jianlin, kexue.fm/archives/9064, eq. (5) and (6); Su et al., arXiv 2208.02955. At the minimum
//! `t = sigmoid(2 s)`: the probability of a class is `sigmoid(2 s)`, and the decision threshold is `s > 0`.
//!
//! # Layers
//! - [`Zlpr`] with [`Options`], [`Targets`], [`Outputs`] and [`Buffers`]: cudarc slices and streams,
//!   everything validated.
//! - [`plan`]: which kernel runs, a pure function of device limits and problem.
//! - [`raw`]: planned kernels on raw pointers and streams, for other frameworks.
//! - [`mod@reference`]: the operation in f64, the oracle of every test.
//!
//! # Semantics
//! - A label below epsilon counts as exactly 0, above 1 - epsilon as exactly 1 (default 1e-7).
//! - A position is masked by the explicit mask, a score of -inf, or a score at or below the cutoff: it is in
//!   neither sum, and its gradient is exactly 0. A row with nothing valid has loss 0.
//! - NaN in a valid score or label gives its row a NaN loss and a NaN gradient; +inf with a label below 1 an
//!   infinite loss and a non-finite gradient. Other rows are untouched.
//! - Arithmetic is f32; the gradient is scaled in f32 before it is rounded. Results are bitwise equal from
//!   run to run on the same device.
#![deny(missing_docs)]

mod buffers;
mod driver;
mod dtype;
mod error;
mod inputs;
pub mod kernels;
mod loader;
mod loss;
mod options;
pub mod plan;
pub mod raw;
pub mod reference;
mod validate;

pub use buffers::Buffers;
pub use driver::{context, device_count};
pub use dtype::{DType, Element, GradientOf, Score};
pub use error::Error;
pub use inputs::{Labels, Mask, Matrix, MatrixMut, Outputs, Targets, Upstream};
pub use loss::Zlpr;
pub use options::{Options, Reduction};

/// The README's code runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
