//! F1 of multi-label predictions.

use ndarray::{ArrayView2, Axis};

/// The two averages of F1 = 2 TP / (2 TP + FP + FN).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct F1 {
    /// Of the counts summed over all labels.
    pub micro: f64,
    /// Mean over the labels; a label that is neither present nor predicted counts as 0.
    pub macro_: f64,
}

impl F1 {
    /// F1 of predicting each label whose score is above 0; scores and labels are [rows, labels].
    pub fn of(scores: ArrayView2<'_, f32>, labels: ArrayView2<'_, u8>) -> F1 {
        let (mut hits, mut marked, mut sum) = (0, 0, 0.0);
        for (scores, labels) in scores.axis_iter(Axis(1)).zip(labels.axis_iter(Axis(1))) {
            // 2 TP, and 2 TP + FP + FN: predictions and labels counted separately.
            let (mut label_hits, mut label_marked) = (0_u64, 0_u64);
            for (&score, &label) in scores.iter().zip(labels) {
                let (predicted, present) = (score > 0.0, label != 0);
                label_hits += 2 * u64::from(predicted && present);
                label_marked += u64::from(predicted) + u64::from(present);
            }
            sum += ratio(label_hits, label_marked);
            hits += label_hits;
            marked += label_marked;
        }
        F1 { micro: ratio(hits, marked), macro_: sum / labels.ncols().max(1) as f64 }
    }
}

fn ratio(hits: u64, marked: u64) -> f64 {
    if marked == 0 { 0.0 } else { hits as f64 / marked as f64 }
}
