//! NaN and +inf: never swallowed, and only in their own row.

use zlpr::DType;

use crate::common::{Case, Lab, PAIRS, check_everywhere, data};

/// Columns of a row of 300 in which an element is treated differently: edges, packs, the ends.
const COLUMNS: [usize; 9] = [0, 1, 4, 7, 8, 150, 295, 298, 299];

/// Ordinary rows, in each of which `put` changes one column; the rows between stay ordinary.
fn spoiled(name: &str, pair: (DType, DType), put: impl Fn(&mut f64, &mut f64)) -> Case {
    let (rows, cols) = (2 * COLUMNS.len(), 300);
    let mut case = data::ordinary("", pair, (rows, cols), 2.0, 7);
    for (r, c) in COLUMNS.into_iter().enumerate() {
        let i = 2 * r * cols + c;
        put(&mut case.scores[i], &mut case.labels[i]);
    }
    Case::new(name, pair, (rows, cols), &case.scores, &case.labels).offsets([3, 5, 0, 1])
}

#[test]
fn nan_scores_make_their_rows_nan() {
    check_everywhere(
        PAIRS
            .into_iter()
            .flat_map(|pair| {
                [0.0, 0.5, 1.0].map(|label| {
                    let case = spoiled(&format!("NaN score, label {label}"), pair, |s, t| (*s, *t) = (f64::NAN, label));
                    assert!(case.expected().iter().enumerate().all(|(r, row)| row.loss.is_nan() == (r % 2 == 0)));
                    let overflowing = spoiled("NaN score, exact path", pair, |s, _| *s = f64::NAN);
                    let scores: Vec<f64> = overflowing.scores.iter().map(|s| 100.0 * s).collect();
                    let shape = (case.rows, case.cols);
                    [case, Case::new(overflowing.name, pair, shape, &scores, &overflowing.labels)]
                })
            })
            .flatten(),
    );
}

#[test]
fn nan_labels_make_their_rows_nan() {
    let soft = PAIRS.into_iter().filter(|p| p.1 != DType::U8);
    check_everywhere(soft.flat_map(|pair| {
        [-200.0, -20.0, 0.0, 20.0, 200.0, f64::INFINITY].map(|score| {
            let case = spoiled(&format!("NaN label, score {score}"), pair, |s, t| (*s, *t) = (score, f64::NAN));
            assert!(case.expected().iter().enumerate().all(|(r, row)| row.loss.is_nan() == (r % 2 == 0)));
            case
        })
    }));
}

#[test]
fn plus_infinity_contributes_nothing_with_label_one() {
    check_everywhere(PAIRS.map(|pair| {
        let case = spoiled("+inf, label 1", pair, |s, t| (*s, *t) = (f64::INFINITY, 1.0));
        assert!(case.expected().iter().all(|row| row.loss.is_finite()));
        case
    }));
}

#[test]
fn plus_infinity_makes_the_loss_infinite_with_any_other_label() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let labels: &[f64] = if pair.1 == DType::U8 { &[0.0] } else { &[0.0, 1e-3, 0.5, 0.99] };
        labels.iter().map(move |&label| {
            let case = spoiled(&format!("+inf, label {label}"), pair, |s, t| (*s, *t) = (f64::INFINITY, label));
            assert!(case.expected().iter().enumerate().all(|(r, row)| row.loss.is_infinite() == (r % 2 == 0)));
            case
        })
    }));
}

#[test]
fn infinities_and_nans_together() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let inf = f64::INFINITY;
        let rows: [&[f64]; 6] = [
            &[inf, inf, 1.0, -inf, 2.0, 3.0],
            &[inf, f64::NAN, 1.0, 1.0, 1.0, 1.0],
            &[f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN],
            &[inf, inf, inf, inf, inf, inf],
            &[-inf, inf, -inf, -inf, -inf, -inf],
            &[200.0, inf, -200.0, 5.0, 1.0, 0.0],
        ];
        let scores: Vec<f64> = rows.concat();
        [0.0, 1.0].map(|label| {
            let labels: Vec<f64> = (0..scores.len()).map(|i| if i % 3 == 0 { 1.0 - label } else { label }).collect();
            Case::new(format!("infinities and NaN, {label}"), pair, (rows.len(), 6), &scores, &labels)
        })
    }));
}

/// A spoiled row leaves the bits of its neighbours alone, also where they share a block.
#[test]
fn other_rows_keep_their_bits() {
    for lab in Lab::each() {
        for pair in PAIRS {
            let spoiled = spoiled("NaN score", pair, |s, _| *s = f64::NAN);
            let clean = data::ordinary("", pair, (spoiled.rows, spoiled.cols), 2.0, 7).offsets([3, 5, 0, 1]);
            for implementation in lab.implementations(&clean) {
                let (a, b) = (lab.run(&spoiled, implementation), lab.run(&clean, implementation));
                for row in (1..clean.rows).step_by(2) {
                    assert_eq!(
                        a.loss[row].to_bits(),
                        b.loss[row].to_bits(),
                        "{clean} by {implementation:?}, row {row}"
                    );
                    if let (Some(a), Some(b)) = (&a.gradient, &b.gradient) {
                        let bytes = clean.cols * pair.0.size();
                        let range = row * bytes..(row + 1) * bytes;
                        assert_eq!(a[range.clone()], b[range], "{clean} by {implementation:?}, row {row}");
                    }
                }
            }
        }
    }
}
