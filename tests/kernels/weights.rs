//! Labels next to the bounds at which they count as exactly 0 or 1, and labels that weigh almost nothing.

use zlpr::{DType, Options};

use crate::common::{Case, PAIRS, check_everywhere, data, turns};

fn soft_pairs() -> impl Iterator<Item = (DType, DType)> {
    PAIRS.into_iter().filter(|p| p.1 != DType::U8)
}

/// The f32 values next to `x`, and `x`.
fn around(x: f32) -> [f64; 3] {
    [x.next_down().into(), x.into(), x.next_up().into()]
}

/// Every label at every score: rows of one score, so that each label's weight shows in that row's loss.
fn grid(name: &str, pair: (DType, DType), options: Options, scores: &[f64], labels: &[f64]) -> Vec<Case> {
    let single = scores.iter().flat_map(|&score| {
        // Each label by itself: another one would hide its weight.
        let name = format!("{name}, score {score}");
        let column = Case::new(name.clone(), pair, (labels.len(), 1), &vec![score; labels.len()], labels);
        let row = Case::new(name, pair, (1, labels.len()), &vec![score; labels.len()], labels);
        [column.options(options), row.options(options)]
    });
    single.collect()
}

#[test]
fn labels_at_and_next_to_epsilon() {
    check_everywhere(soft_pairs().flat_map(|pair| {
        [1e-7f32, 0.25, 0.4, 0.49999997, f32::MIN_POSITIVE].into_iter().flat_map(move |epsilon| {
            let mut labels = vec![0.0, 1.0, 0.5];
            labels.extend(around(epsilon).into_iter().chain(around(1.0 - epsilon)));
            labels.extend([2f64.powi(-24), 1.0 - 2f64.powi(-24), 1.0 - 2f64.powi(-23), 1.0 - 2f64.powi(-11), 0.3, 0.7]);
            let options = Options::new().epsilon(epsilon);
            grid(&format!("epsilon {epsilon:e}"), pair, options, &[-20.0, 0.0, 3.0, 20.0, 95.0, -95.0], &labels)
        })
    }));
}

/// The bounds are rounded in f32, on both sides: 1 - 1e-7 is 1 - 2^-23, which does not count as 1; 1 - 2^-24 does.
#[test]
fn bounds_are_rounded_in_f32() {
    let options = Options::new();
    assert_eq!(options.label_bounds(), (1e-7, 1.0 - 2f32.powi(-23)));
    let labels = [1.0 - 2f64.powi(-23), 1.0 - 2f64.powi(-24)];
    let case = Case::new("bounds", PAIRS[0], (2, 1), &[30.0, 30.0], &labels);
    let losses: Vec<f64> = case.expected().iter().map(|row| row.loss).collect();
    assert!(losses[0] > 10.0 && losses[1] < 1e-12, "{losses:?}");
    check_everywhere([case]);
}

/// With epsilon 0 every label weighs, down to the smallest subnormal: the clamp of the fast path must not hide an
/// exponential beyond it.
#[test]
fn labels_that_weigh_next_to_nothing() {
    let smallest = [1e-45, 1e-40, 1e-38, 1e-30, 2f64.powi(-31), 2f64.powi(-30), 1e-8, 6e-8, 1e-7];
    check_everywhere(soft_pairs().flat_map(|pair| {
        let mut labels: Vec<f64> = smallest.to_vec();
        labels.extend([0.0, 1.0 - 2f64.powi(-24), 1.0, 2f64.powi(-60), 2f64.powi(-90)]);
        [0.0, 1e-12, 2f32.powi(-31), 2f32.powi(-30)].into_iter().flat_map(move |epsilon| {
            let options = Options::new().epsilon(epsilon);
            let scores = [-88.0, -88.1, -100.0, -104.0, -150.0, -1000.0, 88.1, 0.0];
            grid(&format!("light labels, epsilon {epsilon:e}"), pair, options, &scores, &labels)
        })
    }));
}

/// A large exponential times a tiny label is a small loss, which keeps its relative accuracy, in the reference too.
#[test]
fn light_labels_before_the_clamp() {
    let scores = [-40.0, -70.0, -87.0, -40.0, -70.0, -87.0];
    let labels = [2f64.powi(-75), 2f64.powi(-133), 2f64.powi(-133), 2f64.powi(-90), 2f64.powi(-120), 2f64.powi(-128)];
    check_everywhere([PAIRS[0], PAIRS[3], PAIRS[5], PAIRS[6]].into_iter().map(|pair| {
        let case = Case::new("light labels", pair, (scores.len(), 1), &scores, &labels);
        let case = case.options(Options::new().epsilon(0.0));
        for (row, (s, t)) in case.expected().iter().zip(scores.iter().zip(labels)) {
            let wanted = (t * (-s).exp()).ln_1p() + ((1.0 - t) * s.exp()).ln_1p();
            assert!((row.loss - wanted).abs() <= 1e-13 * wanted, "{case}: {} {wanted}", row.loss);
        }
        case
    }));
}

/// One light label, in each place of a row where a kernel treats its element differently.
#[test]
fn one_light_label_anywhere_in_a_row() {
    let (rows, cols) = (23, 300);
    check_everywhere([PAIRS[0], PAIRS[3], PAIRS[6]].into_iter().flat_map(|pair| {
        [(-120.0, 1e-35), (-100.0, 1e-42), (-89.0, 1e-20)].map(|(score, label)| {
            let mut scores = data::normal(&mut data::rng(4), rows * cols, 1.0);
            let mut labels = vec![0.0; rows * cols];
            for row in 0..rows {
                // The first and the last columns, and some between.
                let column = if row < 10 { row } else { cols - 1 - (row - 10) * (row - 10) };
                scores[row * cols + column] = score;
                labels[row * cols + column] = label;
            }
            let name = format!("light label {label:e} at score {score}");
            let case = Case::new(name, pair, (rows, cols), &scores, &labels).options(Options::new().epsilon(0.0));
            // With the clamp, e^88 t would be what counts.
            let clamped = (label * 88f64.exp()).ln_1p();
            assert!(case.expected().iter().all(|row| row.loss > 1.01 * clamped));
            case.offsets([3, 1, 0, 2])
        })
    }));
}

/// Bytes other than 0 and 1 are positives.
#[test]
fn every_byte_but_zero_is_a_positive() {
    let labels: Vec<f64> = (0..=255).map(f64::from).collect();
    check_everywhere(PAIRS.into_iter().filter(|p| p.1 == DType::U8).map(|pair| {
        let case = Case::new("bytes", pair, (1, 256), &data::normal(&mut data::rng(1), 256, 1.0), &labels);
        let down = &case.expected()[0].down;
        assert!(down[0] > 0.0 && down[1..].iter().all(|&d| d == 0.0));
        case
    }));
}

/// Smoothed and mixed labels: what goes into the sums is the label given, and epsilon applies to that.
#[test]
fn smoothed_and_mixed_labels() {
    check_everywhere(soft_pairs().flat_map(|pair| {
        let rng = &mut data::rng(12);
        let (rows, cols) = (5, 210);
        let scores = data::normal(rng, rows * cols, 2.0);
        let (a, b) = (data::hard_labels(rng, rows * cols, 0.1), data::hard_labels(rng, rows * cols, 0.1));
        let smoothed: Vec<f64> = a.iter().map(|t| 0.9 * t + 0.05).collect();
        let mixed: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 0.3 * a + 0.7 * b).collect();
        [("smoothed", smoothed), ("mixed", mixed)]
            .map(|(name, labels)| Case::new(name, pair, (rows, cols), &scores, &labels))
    }));
}

#[test]
fn labels_outside_of_0_to_1_count_as_those() {
    check_everywhere(soft_pairs().flat_map(|pair| {
        [0.0, 1e-7].map(|epsilon| {
            let case = turns::labels_outside(pair, 300, epsilon);
            assert!([-0.5, 1.5].iter().all(|outside| case.labels.contains(outside)));
            case
        })
    }));
}
