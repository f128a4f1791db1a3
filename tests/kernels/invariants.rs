//! What holds for the loss whatever the reference says (DESIGN, the operation).

use zlpr::DType;

use crate::common::{Case, Implementation, Lab, PAIRS, data, round};

/// Runs every implementation of every capability on each case.
fn everywhere(cases: &[Case], mut check: impl FnMut(&Lab, &Case, Implementation)) {
    for lab in Lab::each() {
        for case in cases {
            for implementation in lab.implementations(case) {
                check(&lab, case, implementation);
            }
        }
    }
}

fn soft_pairs() -> impl Iterator<Item = (DType, DType)> {
    PAIRS.into_iter().filter(|p| p.1 != DType::U8)
}

/// loss(s, t) = loss(-s, 1 - t), and the gradient changes its sign.
#[test]
fn negated_scores_with_complementary_labels() {
    let cases: Vec<Case> = soft_pairs()
        .flat_map(|pair| {
            [1.0, 10.0, 100.0].map(|sigma| {
                let mut case = data::ordinary("mirror", pair, (3, 215), sigma, 4);
                // Multiples of 1/128 have exact complements in every type.
                let labels: Vec<f64> = case.labels.iter().map(|t| (t * 128.0).round() / 128.0).collect();
                case = Case::new(format!("mirror, sigma {sigma}"), pair, (3, 215), &case.scores, &labels);
                case.mask(data::mask(&mut data::rng(8), 3 * 215))
            })
        })
        .collect();
    everywhere(&cases, |lab, case, implementation| {
        let mut mirrored = case.clone();
        mirrored.scores.iter_mut().for_each(|s| *s = -*s);
        mirrored.labels.iter_mut().for_each(|t| *t = 1.0 - *t);
        let shape = (case.rows, case.cols);
        let pair = (case.scores_type, case.labels_type);
        let mirrored =
            Case::new("mirrored", pair, shape, &mirrored.scores, &mirrored.labels).mask(case.mask.clone().unwrap());
        let (a, b) = (lab.run(case, implementation), lab.run(&mirrored, implementation));
        for (r, row) in case.expected().iter().enumerate() {
            let difference = f64::from(a.loss[r]) - f64::from(b.loss[r]);
            assert!(difference.abs() <= 2.0 * row.loss_tolerance(), "{case} by {implementation:?}: {a:?} {b:?}");
            let (Some(a), Some(b)) = (a.gradient_values(case), b.gradient_values(&mirrored)) else { continue };
            for (c, tolerance) in row.gradient_tolerance(1.0, case.gradient_type).enumerate() {
                let i = r * case.cols + c;
                assert!((a[i] + b[i]).abs() <= 2.0 * tolerance, "{case} by {implementation:?}: {} and {}", a[i], b[i]);
            }
        }
    });
}

/// At s = logit(t) / 2 the gradient is 0 and the loss 2 ln(1 + sum sqrt(t (1 - t))).
#[test]
fn the_minimum_is_where_it_should_be() {
    let cases: Vec<Case> = [PAIRS[0], PAIRS[3], PAIRS[6]]
        .into_iter()
        .flat_map(|pair| {
            [1, 40, 1500].map(|cols| {
                // Labels follow from the rounded scores, not the other way round: sigmoid(2 s) in f32 is close.
                let scores: Vec<f64> =
                    data::normal(&mut data::rng(4), cols, 2.0).into_iter().map(|s| round(pair.0, s)).collect();
                let labels: Vec<f64> = scores.iter().map(|s| 1.0 / (1.0 + (-2.0 * s).exp())).collect();
                Case::new("minimum", pair, (1, cols), &scores, &labels).gradient(DType::F32)
            })
        })
        .collect();
    everywhere(&cases, |lab, case, implementation| {
        let output = lab.run(case, implementation);
        let wanted = 2.0 * case.labels.iter().map(|t| (t * (1.0 - t)).sqrt()).sum::<f64>().ln_1p();
        let row = &case.expected()[0];
        let (got, tolerance) = (f64::from(output.loss[0]), row.loss_tolerance() + 1e-7 * wanted);
        assert!((got - wanted).abs() <= tolerance, "{case} by {implementation:?}: {got} {wanted}");
        let Some(gradient) = output.gradient_values(case) else { return };
        for (c, tolerance) in row.gradient_tolerance(1.0, DType::F32).enumerate() {
            // The label is off by 2^-25 of itself, 1 - t by as much in absolute terms: so are the terms.
            let t = case.labels[c];
            let rounding = 2f64.powi(-24) * (row.up[c] + row.down[c] * (1.0 + t / (1.0 - t)));
            assert!(gradient[c].abs() <= tolerance + rounding, "{case} by {implementation:?}: {}", gradient[c]);
        }
    });
}

/// Hard labels: each side's gradients lie in [0, 1] and sum to less than 1.
#[test]
fn each_side_of_the_gradient_sums_to_less_than_one() {
    let cases: Vec<Case> = PAIRS
        .into_iter()
        .flat_map(|pair| {
            [(1.0, 300), (5.0, 1100), (20.0, 40), (120.0, 40)].map(|(sigma, cols)| {
                let rng = &mut data::rng(cols as u64);
                let scores = data::normal(rng, 2 * cols, sigma);
                let labels = data::hard_labels(rng, 2 * cols, 0.3);
                Case::new(format!("sides, sigma {sigma}"), pair, (2, cols), &scores, &labels).gradient(DType::F32)
            })
        })
        .collect();
    everywhere(&cases, |lab, case, implementation| {
        let output = lab.run(case, implementation);
        assert!(output.loss.iter().all(|&loss| loss >= 0.0));
        let Some(gradient) = output.gradient_values(case) else { return };
        for (gradient, labels) in gradient.chunks(case.cols).zip(case.labels.chunks(case.cols)) {
            let (mut down, mut up) = (0.0, 0.0);
            for (&g, &label) in gradient.iter().zip(labels) {
                let positive = label != 0.0;
                assert!(if positive { (-1.0..=0.0).contains(&g) } else { (0.0..=1.0).contains(&g) }, "{case}: {g}");
                if positive { up -= g } else { down += g }
            }
            // Below 1, but for what f32 rounds.
            assert!(down <= 1.0 + 1e-5 && up <= 1.0 + 1e-5, "{case} by {implementation:?}: {down} {up}");
        }
    });
}

/// What lies at a masked column changes no bit; taking the column away changes the result by roundings only.
#[test]
fn a_masked_column_changes_nothing() {
    let (rows, cols) = (2, 260);
    let cases: Vec<Case> = PAIRS
        .into_iter()
        .map(|pair| {
            let mask = data::mask(&mut data::rng(5), rows * cols);
            let mask: Vec<u8> = mask[..cols].repeat(rows);
            data::ordinary("masked columns", pair, (rows, cols), 3.0, 9).mask(mask)
        })
        .collect();
    everywhere(&cases, |lab, case, implementation| {
        let mask = case.mask.as_ref().unwrap();
        let output = lab.run(case, implementation);
        let mut other = case.clone();
        for i in (0..rows * cols).filter(|&i| mask[i] == 0) {
            other.scores[i] = [f64::NAN, 1e4, -1e4][i % 3];
            other.labels[i] = 1.0 - other.labels[i].min(1.0);
        }
        assert!(output.same_bits(&lab.run(&other, implementation)), "{case} by {implementation:?}");

        let kept: Vec<usize> = (0..rows * cols).filter(|&i| mask[i] != 0).collect();
        let take = |values: &[f64]| -> Vec<f64> { kept.iter().map(|&i| values[i]).collect() };
        let pair = (case.scores_type, case.labels_type);
        let shape = (rows, kept.len() / rows);
        let shorter = Case::new("without them", pair, shape, &take(&case.scores), &take(&case.labels));
        let short = lab.run(&shorter, implementation);
        for (r, row) in shorter.expected().iter().enumerate() {
            let difference = f64::from(output.loss[r]) - f64::from(short.loss[r]);
            assert!(difference.abs() <= 2.0 * row.loss_tolerance(), "{case} by {implementation:?}");
        }
        let (Some(long), Some(short)) = (output.gradient_values(case), short.gradient_values(&shorter)) else { return };
        let tolerances = shorter.expected().iter().flat_map(|row| row.gradient_tolerance(1.0, case.gradient_type));
        for ((&i, tolerance), short) in kept.iter().zip(tolerances).zip(short) {
            assert!((long[i] - short).abs() <= 2.0 * tolerance, "{case} by {implementation:?}: {} {short}", long[i]);
        }
    });
}

/// A loss below e^88 does not depend on where it is computed: every regime agrees with every other.
#[test]
fn implementations_agree_with_each_other() {
    for lab in Lab::each() {
        for pair in PAIRS {
            let case = data::ordinary("agreement", pair, (2, 257), 4.0, 5);
            let runs: Vec<_> = lab.implementations(&case).into_iter().map(|i| (i, lab.run(&case, i))).collect();
            for (r, row) in case.expected().iter().enumerate() {
                let losses: Vec<f64> = runs.iter().map(|(_, output)| output.loss[r].into()).collect();
                let spread = losses.iter().fold(0.0, |m: f64, loss| m.max((loss - losses[0]).abs()));
                assert!(spread <= 5e-7 * row.loss, "{case}: {losses:?}");
            }
            // With and without the gradient, and typed or raw, the same regime gives the same bits.
            for (i, output) in &runs {
                let forward = runs.iter().find(|(j, _)| j.layer == i.layer && !j.gradient);
                if let Some((_, forward)) = forward.filter(|_| matches!(i.layer, crate::common::Layer::Raw(_))) {
                    assert_eq!(output.loss, forward.loss, "{case} by {i:?}");
                }
            }
        }
    }
}
