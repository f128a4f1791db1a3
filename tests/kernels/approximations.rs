//! Every regime with approximate instructions at the limits of their documented errors: no kernel is right only by
//! the luck of the device that it was tried on.

use softcuda::{Approximation, Config};

use crate::common::{CAPABILITIES, Case, Lab, PAIRS, data};

/// Rows for the warp, block and longer regimes, of every width of scores, and fitted ones, whose loss is near 0.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, pair) in PAIRS.into_iter().enumerate() {
        for (cols, sigma) in [(63, 1.0), (203, 15.0), (1100, 3.0)] {
            let seed = index as u64 + cols as u64;
            cases.push(data::ordinary(&format!("sigma {sigma}"), pair, (2, cols), sigma, seed));
        }
        let (rows, cols) = (2, 97);
        let labels = data::labels(&mut data::rng(index as u64), rows * cols, pair.1);
        let fitted: Vec<f64> = labels.iter().map(|&t| if t > 0.5 { 20.0 } else { -20.0 }).collect();
        cases.push(Case::new("fitted".to_owned(), pair, (rows, cols), &fitted, &labels));
    }
    cases
}

#[test]
fn every_regime_holds_at_both_limits_and_between() {
    let cases = cases();
    for (major, minor) in CAPABILITIES {
        let regimes = [(Approximation::Upper, 0), (Approximation::Lower, 0), (Approximation::Random, 1)];
        for (approximation, seed) in regimes {
            let lab = Lab::with(Config { approximation, seed, ..Config::capability(major, minor) });
            if !lab.gpu().is_virtual() {
                return;
            }
            for case in &cases {
                lab.check(case);
            }
        }
    }
}

/// The perturbation arrives: losses at the two limits differ, if only in their last places.
#[test]
fn the_limits_differ() {
    let losses = [Approximation::Upper, Approximation::Lower].map(|approximation| {
        let lab = Lab::with(Config { approximation, ..Config::capability(8, 0) });
        let case = data::ordinary("limits", PAIRS[0], (8, 203), 3.0, 5);
        let outputs = lab.implementations(&case).into_iter().map(|implementation| lab.check_one(&case, implementation));
        (lab.gpu().is_virtual(), outputs.map(|output| output.loss).collect::<Vec<_>>())
    });
    let [(virtual_gpu, upper), (_, lower)] = losses;
    assert!(!virtual_gpu || upper.iter().zip(&lower).all(|(upper, lower)| upper != lower), "{upper:?}");
}
