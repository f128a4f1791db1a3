//! Distributions of scores and labels, from tiny to the ends of the types' ranges.

use zlpr::DType;

use crate::common::{Case, PAIRS, check_everywhere, data, max_finite, round};

/// Rows in the warp regime and in the block regime of every type.
const LENGTHS: [usize; 2] = [203, 1100];

#[test]
fn normal_scores_of_every_width() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        [0.1, 1.0, 5.0, 15.0, 40.0].into_iter().enumerate().flat_map(move |(i, sigma)| {
            LENGTHS.map(|cols| data::ordinary(&format!("sigma {sigma}"), pair, (3, cols), sigma, i as u64))
        })
    }));
}

/// All scores of a row at one magnitude, with both signs and any label: on both sides of the fast path's clamp,
/// of the largest exponent of f32 and of f16's range.
#[test]
fn saturated_scores() {
    let magnitudes = [
        60.0, 66.0, 67.0, 74.0, 87.0, 87.9, 88.0, 88.1, 88.5, 89.0, 100.0, 103.0, 104.0, 130.0, 176.0, 1e4, 65_504.0,
        1e6, 1e12, 3e38,
    ];
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let magnitudes = magnitudes.into_iter().filter(move |&m| m <= max_finite(pair.0));
        magnitudes.flat_map(move |magnitude| {
            let rng = &mut data::rng(magnitude.to_bits());
            let (rows, cols) = (4, 97);
            let signs = data::normal(rng, rows * cols, 1.0);
            let labels = data::labels(rng, rows * cols, pair.1);
            let mixed: Vec<f64> = signs.iter().map(|x| magnitude * x.signum()).collect();
            // One such score among ordinary ones.
            let single: Vec<f64> =
                (0..rows * cols).map(|i| if i % cols == 31 * (i / cols) { mixed[i] } else { signs[i] }).collect();
            // Every score right for its label: nothing overflows, though everything saturates.
            let fitted: Vec<f64> =
                labels.iter().map(|&t| if t == 0.0 { -magnitude } else { magnitude * f64::from(t >= 0.5) }).collect();
            [("mixed", mixed), ("single", single), ("fitted", fitted)]
                .map(|(name, scores)| Case::new(format!("{name} {magnitude}"), pair, (rows, cols), &scores, &labels))
        })
    }));
}

/// Sums just below and just above 2^96, where the fast path ends: n e^s is 2^96 for s = 96 ln 2 - ln n.
#[test]
fn sums_around_the_end_of_the_fast_path() {
    let pairs = PAIRS.into_iter().filter(|p| p.0 == DType::F32);
    check_everywhere(pairs.flat_map(|pair| {
        [1, 2, 64, 1000].into_iter().flat_map(move |n| {
            [-1e-4, -1e-5, 0.0, 1e-5, 1e-4].into_iter().flat_map(move |beyond| {
                let s = 96.0 * 2f64.ln() - f64::ln(n as f64) + beyond;
                [(s, 0.0), (-s, 1.0)].map(|(score, label)| {
                    Case::new(format!("2^96 {beyond:+e}"), pair, (1, n), &vec![score; n], &vec![label; n])
                })
            })
        })
    }));
}

#[test]
fn ends_of_the_types_range() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let (scores_type, labels_type) = pair;
        let max = max_finite(scores_type);
        let [smallest, normal] = match scores_type {
            DType::F16 => [2f64.powi(-24), 2f64.powi(-14)],
            DType::Bf16 => [2f64.powi(-133), 2f64.powi(-126)],
            _ => [2f64.powi(-149), 2f64.powi(-126)],
        };
        let values = [max, -max, max / 2.0, smallest, -smallest, normal, -normal, normal - smallest, 0.0, -0.0];
        let labels = [0.0, 1.0, 0.5, 0.25];
        let (rows, cols) = (values.len() + 1, labels.len() * values.len());
        let scores: Vec<f64> = (0..rows * cols)
            .map(|i| {
                let (r, c) = (i / cols, i % cols);
                // One value per row with every label, and a row with all of them.
                values[if r < values.len() { r } else { c % values.len() }]
            })
            .collect();
        let labels: Vec<f64> = (0..rows * cols).map(|i| labels[i % cols / values.len()]).collect();
        // A row of only maxima of the same sign overflows the loss or not, depending on the type.
        let opposed = [max, -max];
        [
            Case::new("range ends", pair, (rows, cols), &scores, &labels),
            Case::new("both ends wrong", pair, (1, 2), &opposed, &[0.0, 1.0]),
            Case::new("both ends right", pair, (1, 2), &opposed, &[1.0, 0.0]),
            Case::new("only subnormals", pair, (2, 65), &vec![smallest; 130], &vec![round(labels_type, 0.5); 130]),
        ]
    }));
}

/// Masks of other libraries: a large negative number, label 0, no mask. Such columns follow the formula, which gives
/// them no weight.
#[test]
fn large_negative_scores_without_a_mask() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        [-1e4, -1e7, -1e12].into_iter().filter(move |&s| -s <= max_finite(pair.0)).flat_map(move |negative| {
            LENGTHS.map(|cols| {
                let mut case = data::ordinary("", pair, (3, cols), 2.0, 3);
                let (mut scores, mut labels) = (case.scores.clone(), case.labels.clone());
                for (i, (score, label)) in scores.iter_mut().zip(&mut labels).enumerate() {
                    if i % 3 != 1 {
                        (*score, *label) = (negative, 0.0);
                    }
                }
                case = Case::new(format!("{negative:e} as a mask"), pair, (3, cols), &scores, &labels);
                // They weigh exactly nothing.
                let gradient = &case.expected()[0].gradient;
                assert!(gradient.iter().zip(&scores).all(|(&g, &s)| s != negative || g == 0.0));
                case
            })
        })
    }));
}

#[test]
fn all_labels_zero_or_all_one() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        [0.0, 1.0].into_iter().flat_map(move |label| {
            LENGTHS.map(|cols| {
                let scores = data::normal(&mut data::rng(8), 2 * cols, 3.0);
                Case::new(format!("all {label}"), pair, (2, cols), &scores, &vec![label; 2 * cols])
            })
        })
    }));
}

/// A well-fitted row has a tiny loss, which keeps its relative accuracy: that of log1p, not of log(1 + x).
#[test]
fn tiny_losses_keep_their_relative_accuracy() {
    let mut smallest = f64::INFINITY;
    let cases: Vec<Case> = PAIRS
        .into_iter()
        .flat_map(|pair| {
            [18.0, 21.0, 24.0, 30.0, 50.0, 80.0, 86.0].into_iter().flat_map(move |margin| {
                LENGTHS.map(|cols| {
                    let rng = &mut data::rng(cols as u64);
                    let labels = data::hard_labels(rng, 2 * cols, 0.1);
                    let jitter = data::normal(rng, 2 * cols, 0.5);
                    let scores: Vec<f64> =
                        labels.iter().zip(&jitter).map(|(&t, x)| (margin + x) * (2.0 * t - 1.0)).collect();
                    Case::new(format!("margin {margin}"), pair, (2, cols), &scores, &labels)
                })
            })
        })
        .collect();
    for row in cases.iter().flat_map(Case::expected) {
        smallest = smallest.min(row.loss);
    }
    assert!(smallest < 1e-30, "the smallest loss is {smallest:e}");
    check_everywhere(cases);
}

/// One column: both logarithms of a single term.
#[test]
fn one_column() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let wide = (-24..=24).map(|i| f64::from(i) * 5.0);
        let around = [60.0, 66.5, 67.0, 87.0, 87.5, 88.0, 88.5, 89.0].into_iter().flat_map(|s| [s, -s]);
        let scores: Vec<f64> = wide.chain(around).collect();
        [0.0, 0.375, 1.0].map(|label| {
            let labels = vec![label; scores.len()];
            Case::new(format!("one column, label {label}"), pair, (scores.len(), 1), &scores, &labels)
        })
    }));
}
