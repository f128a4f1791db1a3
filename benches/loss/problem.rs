//! One problem: a shape in types and a mode, and the kernel for it.

use std::fmt;

use anyhow::Result;
use zlpr::plan::{self, Plan, Regime};
use zlpr::{DType, Reduction};

use crate::shapes::{Mode, Shape};

/// What is computed.
#[derive(Clone, Copy)]
pub struct Problem {
    pub workload: &'static str,
    pub rows: usize,
    pub cols: usize,
    pub scores: DType,
    pub labels: DType,
    pub mode: Mode,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { rows, cols, scores, labels, mode, .. } = self;
        write!(f, "{rows} x {cols} {scores} {labels} {}", mode.name())
    }
}

impl Problem {
    pub fn new(shape: Shape, (scores, labels): (DType, DType), mode: Mode) -> Problem {
        Problem { workload: shape.name, rows: shape.rows, cols: shape.cols, scores, labels, mode }
    }

    /// Bytes that must move per element: scores and labels in, the gradient out.
    pub fn bytes_per_element(&self) -> usize {
        let gradient = if self.mode == Mode::Forward { 0 } else { self.scores.size() };
        self.scores.size() + self.labels.size() + gradient
    }

    /// Bytes that must move: every input, the gradient and the loss once.
    pub fn bytes(&self) -> usize {
        self.rows * self.cols * self.bytes_per_element() + self.rows * size_of::<f32>()
    }

    fn described(&self) -> plan::Problem {
        plan::Problem {
            rows: self.rows as u64,
            cols: self.cols as u64,
            scores: self.scores,
            labels: self.labels,
            gradient: (self.mode != Mode::Forward).then_some(self.scores),
            reduction: Reduction::None,
        }
    }

    /// The library's own plan.
    pub fn plan(&self, device: &plan::Device) -> Result<Plan> {
        Ok(Plan::new(device, &self.described())?)
    }

    /// The plans with every other regime that can hold the rows.
    pub fn other_plans<'a>(&'a self, device: &'a plan::Device, chosen: Regime) -> impl Iterator<Item = Plan> + 'a {
        let others = Regime::ALL.into_iter().filter(move |&regime| regime != chosen);
        others.filter_map(|regime| Plan::with_regime(device, &self.described(), regime).ok())
    }
}
