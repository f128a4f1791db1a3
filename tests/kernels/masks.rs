//! Masked positions: by the explicit mask, by a score of -inf, by a cutoff.

use zlpr::{DType, Options};

use crate::common::{Case, Lab, PAIRS, Upstream, check_everywhere, data, max_finite};

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// Whatever lies at a masked position has no effect, not even NaN and infinity.
#[test]
fn anything_may_lie_under_the_mask() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let max = max_finite(pair.0);
        let junk = [NAN, INF, -INF, max, -max, 100.0, -100.0, 0.0];
        let junk_labels = [NAN, INF, -INF, -1.0, 2.0, 0.5, 0.0, 1.0];
        [67, 1200].map(|cols| {
            let (rows, rng) = (3, &mut data::rng(cols as u64));
            let mut scores = data::normal(rng, rows * cols, 2.0);
            let mut labels = data::labels(rng, rows * cols, pair.1);
            let mask = data::mask(rng, rows * cols);
            for (i, (score, label)) in scores.iter_mut().zip(&mut labels).enumerate().filter(|(i, _)| mask[*i] == 0) {
                *score = junk[i % 8];
                if pair.1 != DType::U8 {
                    *label = junk_labels[i / 8 % 8];
                }
            }
            let case = Case::new("junk under the mask", pair, (rows, cols), &scores, &labels).mask(mask);
            assert!(case.expected().iter().all(|row| row.loss.is_finite()));
            case
        })
    }));
}

#[test]
fn minus_infinity_masks_whatever_its_label() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let labels: &[f64] = if pair.1 == DType::U8 { &[0.0, 1.0] } else { &[0.0, 1.0, 0.5, NAN, INF, -INF] };
        labels.iter().map(move |&label| {
            let (rows, cols) = (3, 77);
            let mut case = data::ordinary("", pair, (rows, cols), 2.0, 6);
            for i in (0..rows * cols).filter(|i| i % 4 == i / cols) {
                case.scores[i] = -INF;
                case.labels[i] = label;
            }
            let case = Case::new(format!("-inf with label {label}"), pair, (rows, cols), &case.scores, &case.labels);
            assert!(case.expected().iter().all(|row| row.loss.is_finite() && row.valid.contains(&false)));
            case.offsets([1, 2, 3, 4])
        })
    }));
}

#[test]
fn scores_at_or_below_a_cutoff_are_masked() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        [-INF, f64::from(f32::MIN), -1e4, -1.5, 0.0, 0.5, 1e5].into_iter().map(move |cutoff| {
            let cutoff = cutoff as f32;
            let (rows, cols) = (4, 90);
            let mut case = data::ordinary("", pair, (rows, cols), 2.0, 2);
            for i in (0..rows * cols).filter(|i| i % 5 == 0) {
                case.scores[i] = match i % 4 {
                    0 => f64::from(cutoff),
                    1 => f64::from(cutoff.next_up()),
                    2 => f64::from(cutoff.next_down()),
                    _ => case.scores[i],
                };
            }
            let case = Case::new(format!("cutoff {cutoff}"), pair, (rows, cols), &case.scores, &case.labels);
            case.options(Options::new().cutoff(cutoff)).offsets([2, 0, 0, 1])
        })
    }));
}

/// The cutoff is compared in f32: next to it, f32 scores fall on both sides.
#[test]
fn the_cutoff_itself_is_masked_and_the_next_score_is_not() {
    let cutoff = -3.3f32;
    let scores = [cutoff.next_down(), cutoff, cutoff.next_up()].map(f64::from);
    let case =
        Case::new("around the cutoff", PAIRS[0], (1, 3), &scores, &[0.5; 3]).options(Options::new().cutoff(cutoff));
    assert_eq!(case.expected()[0].valid, [false, false, true]);
    check_everywhere([case]);
}

/// A NaN score is above no cutoff and below none: it stays, and makes its row NaN.
#[test]
fn a_cutoff_does_not_swallow_nan() {
    check_everywhere(PAIRS.map(|pair| {
        let case = Case::new("NaN and a cutoff", pair, (1, 3), &[1.0, NAN, -9.0], &[1.0, 0.0, 0.0]);
        case.options(Options::new().cutoff(0.0))
    }));
}

#[test]
fn a_row_with_nothing_valid_has_loss_zero_and_gradient_zero() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let (rows, cols) = (3, 130);
        let by_mask = data::ordinary("masked, all", pair, (rows, cols), 30.0, 3);
        let mut some = data::mask(&mut data::rng(3), rows * cols);
        some[cols..2 * cols].fill(0);
        let by_score = vec![-INF; rows * cols];
        let by_score = Case::new("-inf, all", pair, (rows, cols), &by_score, &by_mask.labels);
        let by_cutoff = data::ordinary("cutoff, all", pair, (rows, cols), 1.0, 4).options(Options::new().cutoff(1e6));
        let cases = [
            by_mask.clone().mask(vec![0; rows * cols]),
            by_mask.clone().mask(some),
            by_mask.mask(vec![0; rows * cols]).shared_mask().in_place(),
            by_score,
            by_cutoff,
        ];
        assert!(cases.iter().all(|case| case.expected()[1].loss == 0.0));
        cases
    }));
}

/// Exactly zero, not a tiny number and not NaN, whatever the upstream gradient is.
#[test]
fn masked_gradients_are_zero_under_any_upstream_gradient() {
    let upstream = vec![0.0, -1.0, 1e-45, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-38];
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        [60, 1100]
            .into_iter()
            .flat_map(|cols| {
                let shape = (upstream.len(), cols);
                let mut case = data::ordinary("masked", pair, shape, 2.0, 3);
                let mask = data::mask(&mut data::rng(9), shape.0 * shape.1);
                for i in (0..shape.0 * shape.1).filter(|i| i % 7 == 3) {
                    case.scores[i] = -INF;
                }
                let case = Case::new("masked, odd upstream", pair, shape, &case.scores, &case.labels).mask(mask);
                let per_row = case.upstream(Upstream::PerRow(upstream.clone()));
                [per_row.clone(), per_row.in_place()]
            })
            .collect::<Vec<_>>()
    }));
}

/// GlobalPointer: the valid positions are those above the diagonal, of one triangle for all heads.
#[test]
fn triangular_masks_shared_by_all_rows() {
    check_everywhere(PAIRS.into_iter().map(|pair| {
        let (side, rows) = (24, 3);
        let triangle: Vec<u8> = (0..side * side).map(|i| u8::from(i / side <= i % side)).collect();
        let case = data::ordinary("triangle", pair, (rows, side * side), 3.0, 5);
        case.mask(triangle.repeat(rows)).shared_mask()
    }));
}

/// The mask and -inf say the same: bit for bit the same losses and gradients.
#[test]
fn the_mask_equals_minus_infinity_bit_for_bit() {
    for lab in Lab::each() {
        for pair in PAIRS {
            let (rows, cols) = (2, 333);
            let case = data::ordinary("by mask", pair, (rows, cols), 3.0, 1);
            let mask = data::mask(&mut data::rng(2), rows * cols);
            let scores: Vec<f64> =
                case.scores.iter().zip(&mask).map(|(&s, &m)| if m == 0 { -INF } else { s }).collect();
            let by_score = Case::new("by score", pair, (rows, cols), &scores, &case.labels);
            let by_mask = case.mask(mask);
            for implementation in lab.implementations(&by_mask) {
                let (a, b) = (lab.check_one(&by_mask, implementation), lab.check_one(&by_score, implementation));
                assert!(a.same_bits(&b), "{by_mask} by {implementation:?}");
            }
        }
    }
}
