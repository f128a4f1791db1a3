//! The same bits in every order that hardware may run lanes, warps, blocks and copies in.

use softcuda::{Config, schedules};
use zlpr::{DType, Options, Reduction};

use crate::common::{CAPABILITIES, Case, Lab, Output, data};

/// Rows in place and beside it, on the exact path and off it, that every regime holds; offset, so that all kinds of
/// access occur.
fn cases() -> Vec<Case> {
    let options = Options::new().reduction(Reduction::Sum);
    [((DType::F16, DType::F16), 530, 2.0), ((DType::Bf16, DType::U8), 301, 90.0), ((DType::F32, DType::F32), 270, 60.0)]
        .into_iter()
        .flat_map(|(pair, cols, sigma)| {
            let mask = data::mask(&mut data::rng(3), 5 * cols);
            let case = data::ordinary("orders", pair, (5, cols), sigma, 8).options(options).offsets([1, 2, 0, 1]);
            [case.clone(), case.in_place().mask(mask)]
        })
        .collect()
}

#[test]
fn the_same_bits_in_every_order() {
    for capability in CAPABILITIES {
        let (major, minor) = capability;
        let cases = cases();
        let plain: Vec<Vec<Output>> = {
            let lab = Lab::new(capability);
            cases
                .iter()
                .map(|case| lab.implementations(case).into_iter().map(|i| lab.check_one(case, i)).collect())
                .collect()
        };
        schedules(32, |seed| {
            let lab = Lab::with(Config { seed, ..Config::capability(major, minor) });
            for (case, plain) in cases.iter().zip(&plain) {
                for (implementation, plain) in lab.implementations(case).into_iter().zip(plain) {
                    let output = lab.run(case, implementation);
                    assert!(output.same_bits(plain), "{case} by {implementation:?} on {capability:?} with seed {seed}");
                }
            }
        });
    }
}
