//! Seeded scores, labels and masks.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use zlpr::DType;

use super::Case;

/// A generator whose numbers are the same everywhere.
pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// `count` scores from a normal distribution.
pub fn normal(rng: &mut ChaCha8Rng, count: usize, sigma: f64) -> Vec<f64> {
    (0..count).map(|_| sigma * Distribution::<f64>::sample(&StandardNormal, rng)).collect()
}

/// `count` labels: for u8, a third of them positive, by any nonzero byte; otherwise uniform in [0, 1], with exact
/// zeros and ones among them.
pub fn labels(rng: &mut ChaCha8Rng, count: usize, dtype: DType) -> Vec<f64> {
    let soft = |rng: &mut ChaCha8Rng| match rng.random_range(0..6) {
        0 => 0.0,
        1 => 1.0,
        _ => rng.random_range(0.0..=1.0),
    };
    let hard =
        |rng: &mut ChaCha8Rng| [0, 0, 0, 0, 1, 255][rng.random_range(0..6)].max(rng.random_range(0..3) / 2 * 128);
    (0..count).map(|_| if dtype == DType::U8 { f64::from(hard(rng)) } else { soft(rng) }).collect()
}

/// `count` labels that are exactly 0 or 1, a few of them 1.
pub fn hard_labels(rng: &mut ChaCha8Rng, count: usize, probability: f64) -> Vec<f64> {
    (0..count).map(|_| f64::from(u8::from(rng.random_bool(probability)))).collect()
}

/// `count` mask bytes, a quarter of them 0, the others any nonzero byte.
pub fn mask(rng: &mut ChaCha8Rng, count: usize) -> Vec<u8> {
    (0..count).map(|_| if rng.random_bool(0.25) { 0 } else { rng.random_range(1..=255) }).collect()
}

/// An ordinary case: scores of standard deviation `sigma`, mixed labels.
pub fn ordinary(name: &str, pair: (DType, DType), (rows, cols): (usize, usize), sigma: f64, seed: u64) -> Case {
    let rng = &mut rng(seed);
    let scores = normal(rng, rows * cols, sigma);
    let labels = labels(rng, rows * cols, pair.1);
    Case::new(name, pair, (rows, cols), &scores, &labels)
}
