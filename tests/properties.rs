//! Random problems: every implementation agrees with the reference on all of them.
//!
//! A failure prints the smallest problem that fails. `PROPTEST_CASES` sets the number of problems per property,
//! `PROPTEST_RNG_SEED` their seed, which otherwise differs from run to run.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{CAPABILITIES, Lab, MaskForm, PAIRS, Spec, Values, mismatches};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use zlpr::Reduction;

/// Problems per property, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 96;

fn specs(values: impl Strategy<Value = Values> + 'static) -> impl Strategy<Value = (usize, Spec)> {
    let four = |up_to: usize| [0..up_to, 0..up_to, 0..up_to, 0..up_to];
    let cols = prop_oneof![6 => 0..200usize, 3 => 200..1500usize, 1 => 1500..12_000usize];
    let shape = (0..3usize, 0..PAIRS.len(), 0..6usize, cols, values, any::<u64>());
    let mask = prop_oneof![Just(MaskForm::None), Just(MaskForm::PerRow), Just(MaskForm::Shared)];
    let layout = (mask, any::<bool>(), four(9), four(20), any::<bool>(), any::<bool>());
    let epsilon = prop_oneof![4 => Just(1e-7f32), 1 => Just(0.0), 1 => 0.0..0.499f32, 1 => Just(1e-12)];
    let cutoff = proptest::option::weighted(0.3, -30.0..5.0f32);
    let reduction = prop_oneof![Just(Reduction::None), Just(Reduction::Sum), Just(Reduction::Mean)];
    let upstream = proptest::option::of(prop_oneof![-1e3..1e3f32, any::<f32>()]);
    let rest = (epsilon, cutoff, reduction, upstream, any::<bool>());
    (shape, layout, rest).prop_map(|(shape, layout, rest)| {
        let (capability, pair, rows, cols, values, seed) = shape;
        let (mask, shared_labels, offsets, padding, in_place, f32_gradient) = layout;
        let (epsilon, cutoff, reduction, upstream, per_row) = rest;
        let spec = Spec {
            pair: PAIRS[pair],
            rows,
            cols,
            values,
            seed,
            mask,
            shared_labels,
            offsets,
            padding,
            in_place,
            f32_gradient,
            epsilon,
            cutoff,
            reduction,
            upstream,
            per_row,
        };
        (capability, spec)
    })
}

/// Every implementation agrees with the reference, twice with the same bits.
fn check(values: impl Strategy<Value = Values> + 'static) {
    let labs: Vec<_> = Lab::each().map(|lab| RefCell::new(Rc::new(lab))).collect();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&specs(values), |(capability, spec)| {
        let case = spec.case();
        let slot = &labs[capability % labs.len()];
        let lab = slot.borrow().clone();
        let run = |implementation| {
            lab.try_run(&case, implementation).map_err(|text| {
                // The device is lost after a fault: the next, smaller problem needs another.
                *slot.borrow_mut() = Rc::new(Lab::new(CAPABILITIES[capability]));
                TestCaseError::fail(text)
            })
        };
        for implementation in lab.implementations(&case) {
            let output = run(implementation)?;
            let wrong = mismatches(&case, &output);
            prop_assert!(wrong.is_empty(), "{case}\nby {implementation:?}:\n  {}", wrong.join("\n  "));
            prop_assert!(output.same_bits(&run(implementation)?), "{case}\nby {implementation:?}: other bits");
        }
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, spec)) => panic!("{reason}\nsmallest problem: {spec:#?}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn normal_scores() {
    check(prop_oneof![Just(0.1), Just(1.0), Just(5.0), Just(15.0), 0.01..60.0f64].prop_map(Values::Normal));
}

#[test]
fn saturated_scores() {
    let magnitude = prop_oneof![40.0..130.0f64, 86.0..90.0f64, 1e2..6.5e4f64, Just(1e12), Just(3e38)];
    check(magnitude.prop_map(Values::Saturated));
}

#[test]
fn any_bits() {
    check(Just(Values::Bits));
}

#[test]
fn any_finite_bits() {
    check(Just(Values::FiniteBits));
}
