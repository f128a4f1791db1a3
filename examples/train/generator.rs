//! Long-tailed multi-label data out of a seed, for the example to run without a file.
//!
//! A row is a document of some topics: features are sparse, non-negative and of length 1, as tf-idf
//! vectors are. A linear teacher scores every label on every row, with noise; label l is present on
//! the rows where it scores highest, as many as Zipf's law gives the l-th most frequent label.

use ndarray::{Array2, Axis};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Exp1, StandardNormal};

/// Number of rows.
pub const ROWS: usize = 4000;
/// Number of features.
pub const FEATURES: usize = 100;
/// Number of labels.
pub const LABELS: usize = 100;
/// Mean number of labels on a row.
pub const LABELS_PER_ROW: f64 = 3.0;
/// Share of the features that a row has.
const DENSITY: f64 = 0.05;
/// Standard deviation of the noise relative to that of the teacher's scores.
const NOISE: f32 = 0.3;

/// Features [ROWS, FEATURES] and labels [ROWS, LABELS].
pub fn generate(seed: u64) -> (Array2<f32>, Array2<u8>) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut features = Array2::from_shape_simple_fn((ROWS, FEATURES), || {
        let weight: f32 = Exp1.sample(&mut rng);
        if rng.random_bool(DENSITY) { weight } else { 0.0 }
    });
    for mut row in features.axis_iter_mut(Axis(0)) {
        let norm = row.dot(&row).sqrt();
        row /= norm.max(f32::MIN_POSITIVE);
    }
    let teacher = Array2::from_shape_simple_fn((FEATURES, LABELS), || -> f32 { StandardNormal.sample(&mut rng) });
    // Rows have length 1, so the teacher's scores have variance 1.
    let scores = features.dot(&teacher).mapv_into(|score| {
        let noise: f32 = StandardNormal.sample(&mut rng);
        score + NOISE * noise
    });

    let mut labels = Array2::zeros((ROWS, LABELS));
    let harmonic: f64 = (1..=LABELS).map(|rank| 1.0 / rank as f64).sum();
    for (label, (scores, mut labels)) in scores.axis_iter(Axis(1)).zip(labels.axis_iter_mut(Axis(1))).enumerate() {
        let share = LABELS_PER_ROW / harmonic / (label + 1) as f64;
        let mut order: Vec<usize> = (0..ROWS).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        for &row in &order[..(share * ROWS as f64).round() as usize] {
            labels[row] = 1;
        }
    }
    (features, labels)
}
