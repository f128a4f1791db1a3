//! Random problems: every implementation agrees with the reference on all of them.
//!
//! A failure prints the smallest problem that fails. `PROPTEST_CASES` sets the number of problems per property,
//! `PROPTEST_RNG_SEED` their seed, which otherwise differs from run to run.

mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::{CAPABILITIES, Case, Lab, PAIRS, Upstream, data, decode, mismatches};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use rand::Rng;
use zlpr::{DType, Options, Reduction};

/// Problems per property, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 96;

/// Where scores and labels come from.
#[derive(Clone, Debug)]
enum Values {
    /// Normal scores of this standard deviation, ordinary labels.
    Normal(f64),
    /// All scores of nearly this magnitude.
    Saturated(f64),
    /// Any bits at all: NaN, infinities, subnormals, labels outside [0, 1].
    Bits,
    /// Any bits, but finite, with labels in [0, 1].
    FiniteBits,
}

#[derive(Clone, Copy, Debug)]
enum MaskForm {
    None,
    PerRow,
    Shared,
}

/// A problem in a few numbers, which shrink.
#[derive(Clone, Debug)]
struct Spec {
    capability: usize,
    pair: usize,
    rows: usize,
    cols: usize,
    values: Values,
    seed: u64,
    mask: MaskForm,
    shared_labels: bool,
    offsets: [usize; 4],
    padding: [usize; 4],
    in_place: bool,
    f32_gradient: bool,
    epsilon: f32,
    cutoff: Option<f32>,
    reduction: Reduction,
    upstream: Option<f32>,
    per_row: bool,
}

impl Spec {
    fn case(&self) -> Case {
        let pair = PAIRS[self.pair];
        let count = self.rows * self.cols;
        let rng = &mut data::rng(self.seed);
        let (scores, labels) = match self.values {
            Values::Normal(sigma) => (data::normal(rng, count, sigma), data::labels(rng, count, pair.1)),
            Values::Saturated(magnitude) => {
                let scores = data::normal(rng, count, 0.3).iter().map(|x| x + magnitude * x.signum()).collect();
                (scores, data::labels(rng, count, pair.1))
            }
            Values::Bits => (bits(rng, pair.0, count, |_| true), bits(rng, pair.1, count, |_| true)),
            Values::FiniteBits => {
                let labels = bits(rng, pair.1, count, |t| (0.0..=1.0).contains(&t));
                (bits(rng, pair.0, count, f64::is_finite), labels)
            }
        };
        // The random magnitude may pass the range of the type.
        let scores: Vec<f64> =
            scores.iter().map(|&s| if s.is_finite() { s.clamp(-3.3e38, 3.3e38) } else { s }).collect();
        let mut case = Case::new("random", pair, (self.rows, self.cols), &scores, &labels);
        let options = Options::new().epsilon(self.epsilon).reduction(self.reduction);
        case = case.options(self.cutoff.map_or(options, |c| options.cutoff(c)));
        case = case.offsets(self.offsets).padding(self.padding);
        case.vector_offset = self.offsets[0] % 3;
        match self.mask {
            MaskForm::None => {}
            MaskForm::PerRow => case = case.mask(data::mask(rng, count)),
            MaskForm::Shared => case = case.mask(data::mask(rng, count)).shared_mask(),
        }
        if self.shared_labels {
            case = case.shared_labels();
        }
        if self.f32_gradient {
            case = case.gradient(DType::F32);
        } else if self.in_place {
            case = case.in_place();
        }
        match self.upstream {
            Some(x) if self.per_row => {
                case.upstream(Upstream::PerRow((0..self.rows).map(|r| x * (r as f32 - 1.0)).collect()))
            }
            Some(x) => case.upstream(Upstream::Device(x)),
            None => case.upstream(Upstream::Host(1.5)),
        }
    }
}

/// Values of random bits that `keep` keeps, for u8 any bytes.
fn bits(rng: &mut impl Rng, dtype: DType, count: usize, keep: impl Fn(f64) -> bool) -> Vec<f64> {
    let mut values = Vec::with_capacity(count);
    while values.len() < count {
        let bytes: [u8; 4] = rng.random();
        let value = decode(dtype, &bytes[..dtype.size()])[0];
        // A NaN of all ones is what unwritten memory holds: another one.
        let value = if value.is_nan() { f64::NAN } else { value };
        if dtype == DType::U8 || keep(value) {
            values.push(value);
        }
    }
    values
}

fn specs(values: impl Strategy<Value = Values> + 'static) -> impl Strategy<Value = Spec> {
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
        Spec {
            capability,
            pair,
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
        }
    })
}

/// Every implementation agrees with the reference, twice with the same bits.
fn check(values: impl Strategy<Value = Values> + 'static) {
    let labs: Vec<_> = Lab::each().map(|lab| RefCell::new(Rc::new(lab))).collect();
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let outcome = runner.run(&specs(values), |spec| {
        let case = spec.case();
        let slot = &labs[spec.capability % labs.len()];
        let lab = slot.borrow().clone();
        let run = |implementation| {
            lab.try_run(&case, implementation).map_err(|text| {
                // The device is lost after a fault: the next, smaller problem needs another.
                *slot.borrow_mut() = Rc::new(Lab::new(CAPABILITIES[spec.capability]));
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
