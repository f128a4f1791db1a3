//! The exact path, turn by turn of its loops.

use zlpr::plan::Regime;

use crate::common::{Implementation, Lab, Layer, PAIRS, check_everywhere, turns};

#[test]
fn every_turn_of_the_exact_path() {
    for lab in Lab::each() {
        // Each type of scores and of labels.
        for pair in [PAIRS[0], PAIRS[4], PAIRS[5]] {
            for regime in Regime::ALL {
                let threads = if regime == Regime::Warp { 32 } else { regime.threads()[0] as usize };
                for case in turns::turns(pair, threads) {
                    lab.check_one(&case, Implementation { layer: Layer::Raw(regime), gradient: true });
                }
            }
        }
    }
}

#[test]
fn maxima_of_exactly_one() {
    check_everywhere(PAIRS.map(turns::unit_maxima));
}

#[test]
fn the_logarithm_of_the_exact_path() {
    check_everywhere(PAIRS.map(|pair| {
        let case = turns::logarithm(pair);
        let loss = case.expected()[0].loss;
        assert!((96.0 * 2f64.ln()..66.6).contains(&loss), "{loss}");
        case
    }));
}
