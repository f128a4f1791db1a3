//! What the tests share: cases, the implementations they are given to, and the comparison with the reference.
//!
//! A [`Case`] is a problem with its data and memory layout. A [`Lab`] is a device of one compute capability; it
//! gives a case to every implementation: the raw layer forced into every regime that can hold the row, and the
//! typed layer with the plan's own choice, each with and without a gradient.

// Every test binary compiles this module and uses its own part of it.
#![allow(dead_code, unused_imports)]

mod case;
mod check;
pub mod data;
mod elements;
mod lab;
mod memory;
mod spec;
pub mod turns;
pub mod workloads;

pub use case::{Case, Place, Upstream};
pub use check::{Output, mismatches};
pub use elements::{PAIRS, SCORE_TYPES, decode, encode, max_finite, round};
pub use lab::{CAPABILITIES, Implementation, Lab, Layer, check_everywhere};
pub use spec::{MaskForm, Spec, Values};
