//! Sum and mean of the row losses.

use zlpr::{Options, Reduction};

use crate::common::{Case, Implementation, Lab, Layer, PAIRS, Upstream, check_everywhere, data, turns};

const REDUCTIONS: [Reduction; 2] = [Reduction::Sum, Reduction::Mean];

const TYPED: Implementation = Implementation { layer: Layer::Typed, gradient: true };

#[test]
fn totals_of_a_few_rows() {
    check_everywhere(REDUCTIONS.into_iter().flat_map(|reduction| {
        [1, 2, 3, 31].into_iter().enumerate().flat_map(move |(i, rows)| {
            [0, 1].map(|k| {
                let case = data::ordinary("total", PAIRS[(i + 4 * k) % 8], (rows, 21), 3.0, 7);
                let upstream = Upstream::PerRow((0..rows).map(|r| (r % 5) as f32 - 2.0).collect());
                case.options(Options::new().reduction(reduction)).upstream(upstream)
            })
        })
    }));
}

/// Around the number of threads that sum, and around that from which partial sums go through the workspace.
#[test]
fn totals_around_every_edge() {
    for lab in Lab::each() {
        for (i, rows) in [255, 256, 257, 511, 513, 8191, 8192, 8193, 16_384, 16_385].into_iter().enumerate() {
            let options = Options::new().reduction(REDUCTIONS[i % 2]);
            let mut case = data::ordinary("total", PAIRS[i % 8], (rows, 3), 3.0, 7).options(options);
            case.vector_offset = i % 4;
            lab.check_one(&case, TYPED);
        }
    }
}

#[test]
fn totals_of_a_hundred_thousand_rows() {
    let rows = 100_000;
    let lab = Lab::new((8, 0));
    for reduction in REDUCTIONS {
        let case = data::ordinary("total", PAIRS[0], (rows, 2), 5.0, 7).options(Options::new().reduction(reduction));
        lab.check_one(&case, Implementation { gradient: false, ..TYPED });
    }
}

#[test]
fn totals_of_losses_of_very_different_size() {
    for lab in Lab::each() {
        for (reduction, large) in REDUCTIONS.into_iter().flat_map(|r| [1e2, 1e4, 1e30].map(|large| (r, large))) {
            let rows = 3000;
            // A loss of `large`, then losses of 1e-4.
            let scores: Vec<f64> = (0..rows).map(|r| if r == 0 { large } else { -9.2 }).collect();
            let case = Case::new(format!("total after {large:e}"), PAIRS[1], (rows, 1), &scores, &vec![0.0; rows]);
            lab.check_one(&case.options(Options::new().reduction(reduction)), TYPED);
        }
    }
}

#[test]
fn small_losses_beside_large_ones_are_not_lost() {
    for lab in Lab::each() {
        for reduction in REDUCTIONS {
            let case = turns::small_beside_large(PAIRS[0], reduction);
            let small: f64 = case.expected()[256..].iter().map(|row| row.loss).sum();
            let total: f64 = case.expected().iter().map(|row| row.loss).sum();
            assert!(
                small > 1.7e-6 * total && case.expected()[256].loss < 2f64.powi(-18),
                "they are not what they should be"
            );
            lab.check_one(&case, TYPED);
        }
    }
}

#[test]
fn totals_with_infinite_and_nan_losses() {
    check_everywhere(REDUCTIONS.into_iter().flat_map(|reduction| {
        [(f64::INFINITY, 0), (f64::INFINITY, 39), (f64::NAN, 7), (f32::MAX.into(), 5)].map(|(score, row)| {
            let rows = 40;
            let mut scores = data::normal(&mut data::rng(1), rows * 2, 1.0);
            scores[2 * row] = score;
            if score == f64::from(f32::MAX) {
                // Two losses of the largest finite number: their sum is infinite.
                scores[2 * row + 2] = score;
            }
            let case = Case::new(format!("total with {score:e}"), PAIRS[0], (rows, 2), &scores, &vec![0.0; 2 * rows]);
            case.options(Options::new().reduction(reduction))
        })
    }));
}

/// An infinite row loss passes the workspace as well.
#[test]
fn an_infinite_total_through_the_workspace() {
    let rows = 8193;
    let lab = Lab::new((7, 5));
    for (row, score) in [(0, f64::INFINITY), (8192, f64::INFINITY), (4000, f64::NAN)] {
        let mut scores = vec![0.5; rows];
        scores[row] = score;
        let case = Case::new("infinite total", PAIRS[0], (rows, 1), &scores, &vec![0.0; rows]);
        let case = case.options(Options::new().reduction(Reduction::Mean));
        let output = lab.check_one(&case, Implementation { gradient: false, ..TYPED });
        assert!(!output.total.unwrap().is_finite());
    }
}
