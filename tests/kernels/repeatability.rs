//! Bitwise equal from run to run, wherever a row lies in the batch, and however many blocks run at once.

use softcuda::Config;
use zlpr::{DType, Options, Reduction};

use crate::common::{Case, Lab, PAIRS, data};

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for pair in PAIRS {
        for (cols, sigma) in [(61, 1.0), (1200, 5.0), (900, 60.0)] {
            let options = Options::new().reduction(Reduction::Mean);
            cases.push(data::ordinary("repeat", pair, (7, cols), sigma, 2).options(options).offsets([1, 0, 0, 3]));
        }
    }
    cases
}

#[test]
fn twice_the_same_bits() {
    for lab in Lab::each() {
        for case in cases() {
            for implementation in lab.implementations(&case) {
                let first = lab.check_one(&case, implementation);
                assert!(first.same_bits(&lab.run(&case, implementation)), "{case} by {implementation:?}");
            }
        }
    }
}

/// Another device, with another order of everything that hardware leaves open.
#[test]
fn the_same_bits_on_another_device_of_the_same_kind() {
    let lab = Lab::new((8, 0));
    let other = Lab::with(Config { sm_count: 3, workers: 1, seed: 12_345, ..Config::capability(8, 0) });
    for case in cases() {
        for implementation in lab.implementations(&case) {
            let first = lab.run(&case, implementation);
            assert!(first.same_bits(&other.run(&case, implementation)), "{case} by {implementation:?}");
        }
    }
}

/// With a stride that keeps the alignment, equal rows have equal results.
#[test]
fn equal_rows_have_equal_results() {
    for lab in Lab::each() {
        for pair in PAIRS {
            for (cols, sigma) in [(60, 2.0), (1130, 2.0), (300, 100.0)] {
                let (rows, stride) = (9, cols / 16 * 16 + 16);
                let row = data::ordinary("", pair, (1, cols), sigma, 6);
                let case =
                    Case::new("equal rows", pair, (rows, cols), &row.scores.repeat(rows), &row.labels.repeat(rows));
                let case = case.padding([stride - cols; 4]).offsets([3, 1, 0, 2]);
                for implementation in lab.implementations(&case) {
                    let output = lab.check_one(&case, implementation);
                    assert!(
                        output.loss.iter().all(|l| l.to_bits() == output.loss[0].to_bits()),
                        "{case} by {implementation:?}"
                    );
                    let Some(gradient) = output.gradient else { continue };
                    let bytes = cols * case.gradient_type.size();
                    assert!(gradient.chunks(bytes).all(|g| g == &gradient[..bytes]), "{case} by {implementation:?}");
                }
            }
        }
    }
}

/// In place and out of place are the same arithmetic.
#[test]
fn in_place_gives_the_same_bits() {
    let lab = Lab::new((8, 0));
    for case in cases() {
        let in_place = case.clone().in_place();
        for implementation in lab.implementations(&case) {
            let (a, b) = (lab.run(&case, implementation), lab.run(&in_place, implementation));
            assert!(a.same_bits(&b), "{case} by {implementation:?}");
        }
    }
}

/// f32 gradients, rounded afterwards, are those in the scores' type: there is one rounding.
#[test]
fn gradients_are_rounded_once() {
    for lab in Lab::each() {
        for pair in PAIRS.into_iter().filter(|p| p.0 != DType::F32) {
            let case = data::ordinary("rounding", pair, (2, 700), 2.0, 5);
            let wide = case.clone().gradient(DType::F32);
            for implementation in lab.implementations(&case).into_iter().filter(|i| i.gradient) {
                let narrow = lab.run(&case, implementation).gradient_values(&case).unwrap();
                let wide = lab.run(&wide, implementation).gradient_values(&wide).unwrap();
                for (narrow, wide) in narrow.into_iter().zip(wide) {
                    assert_eq!(narrow, crate::common::round(pair.0, wide), "{case} by {implementation:?}");
                }
            }
        }
    }
}
