//! What is minimised: a loss of scores and labels, with its gradient with respect to the scores.

use anyhow::Result;
use ndarray::{Array2, ArrayView2, Zip};

/// Labels of a batch [rows, labels], all contiguous.
pub struct Targets {
    /// 0 or 1.
    pub hard: Array2<u8>,
    /// The same after label smoothing; `None` without.
    pub soft: Option<Array2<f32>>,
}

impl Targets {
    /// Labels, smoothed: t' = (1 - alpha) t + alpha / 2.
    pub fn new(hard: Array2<u8>, alpha: f32) -> Self {
        let smoothed = |&label: &u8| (1.0 - alpha) * f32::from(label) + 0.5 * alpha;
        let soft = (alpha > 0.0).then(|| hard.map(smoothed));
        Targets { hard, soft }
    }
}

/// A loss, averaged over the rows of a batch.
pub trait Objective {
    /// Its name in tables and plots.
    fn name(&self) -> &'static str;

    /// Mean loss of the rows, and its gradient with respect to the scores [rows, labels].
    fn step(&mut self, scores: ArrayView2<'_, f32>, targets: &Targets) -> Result<(f32, Array2<f32>)>;
}

/// Sigmoid + binary cross-entropy, summed over the labels: what ZLPR is compared with. On the CPU.
pub struct BinaryCrossEntropy;

impl Objective for BinaryCrossEntropy {
    fn name(&self) -> &'static str {
        "BCE"
    }

    fn step(&mut self, scores: ArrayView2<'_, f32>, targets: &Targets) -> Result<(f32, Array2<f32>)> {
        let rows = scores.nrows() as f32;
        let mut gradient = match &targets.soft {
            Some(soft) => soft.clone(),
            None => targets.hard.mapv(f32::from),
        };
        let mut loss = 0.0_f64;
        Zip::from(&mut gradient).and(scores).for_each(|target, &score| {
            // ln(1 + e^s) - t s, without overflow.
            let softplus = score.max(0.0) + (-score.abs()).exp().ln_1p();
            loss += f64::from(softplus - *target * score);
            let sigmoid = 1.0 / (1.0 + (-score).exp());
            *target = (sigmoid - *target) / rows;
        });
        Ok(((loss / f64::from(rows)) as f32, gradient))
    }
}
