//! The upstream gradient: in each form, of any value, multiplied in f32 before the gradient is rounded.

use zlpr::{DType, Options, Reduction};

use crate::common::{Case, Lab, PAIRS, Upstream, check_everywhere, data, max_finite, round};

const VALUES: [f32; 14] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.37,
    -1e5,
    1e30,
    f32::MAX,
    1e-20,
    f32::MIN_POSITIVE,
    1e-40,
    -1e-45,
    f32::INFINITY,
    f32::NAN,
];

#[test]
fn every_form_with_every_value() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        VALUES.into_iter().flat_map(move |x| {
            let mask = data::mask(&mut data::rng(3), 2 * 70);
            let case = data::ordinary(&format!("upstream {x:e}"), pair, (2, 70), 2.0, 11).mask(mask);
            [case.clone().upstream(Upstream::Host(x)), case.upstream(Upstream::Device(x))]
        })
    }));
}

/// Each row gets its own, also where several rows share a block; the one before the row's is not taken instead.
#[test]
fn each_row_gets_its_own() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        [50, 1100].map(|cols| {
            let mut case = data::ordinary("per row", pair, (VALUES.len(), cols), 2.0, 4);
            case.vector_offset = 3;
            case.upstream(Upstream::PerRow(VALUES.to_vec()))
        })
    }));
}

/// With sums near the end of the fast path, a small scale over a large sum leaves the normal numbers: the products
/// must not lose their accuracy with it.
#[test]
fn small_scales_over_large_sums() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        [1e-3, 1e-15, 1e-25, 1e-36, 3e38].into_iter().flat_map(move |x: f32| {
            // On both sides, or with one sum large and the other small.
            [40.0, 64.0, 80.0].into_iter().flat_map(move |magnitude: f64| {
                [[magnitude, -magnitude], [magnitude, magnitude], [-magnitude, -magnitude]].map(|extremes| {
                    let (rows, cols) = (3, 64);
                    let mut case = data::ordinary("", pair, (rows, cols), 2.0, 4);
                    for (i, (score, label)) in case.scores.iter_mut().zip(&mut case.labels).enumerate() {
                        if i % 8 == 0 {
                            *score = extremes[i / 8 % 2];
                            *label = f64::from(*score < 0.0);
                        }
                    }
                    let name = format!("scale {x:e}, scores {extremes:?}");
                    Case::new(name, pair, (rows, cols), &case.scores, &case.labels).upstream(Upstream::Host(x))
                })
            })
        })
    }));
}

/// A gradient beyond its type's range is an infinity: it never saturates, and never wraps into NaN.
#[test]
fn gradients_beyond_the_range_become_infinities() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let (scores, labels) = ([30.0, -30.0, 1.0, -30.0, 30.0], [0.0, 1.0, 0.0, 0.0, 1.0]);
        let max = max_finite(pair.0) as f32;
        [max, -max, 2.0 * max, 1.01 * max, 0.999 * max, 65_520.0, 65_519.0, 1e6, 3.4e38].into_iter().flat_map(
            move |x| {
                let case = Case::new(format!("beyond the range, {x:e}"), pair, (1, 5), &scores, &labels);
                let case = case.upstream(Upstream::PerRow(vec![x]));
                [case.clone(), case.clone().in_place(), case.gradient(DType::F32)]
            },
        )
    }));
    let case = Case::new("f16", PAIRS[2], (1, 2), &[30.0, -30.0], &[0.0, 1.0]).upstream(Upstream::Host(1e6));
    let lab = Lab::new((8, 0));
    for implementation in lab.implementations(&case).into_iter().filter(|i| i.gradient) {
        let gradient = lab.check_one(&case, implementation).gradient_values(&case).unwrap();
        assert_eq!(gradient, [f64::INFINITY, f64::NEG_INFINITY]);
    }
}

/// The mean over rows multiplies before rounding: unscaled f16 gradients of long rows are a few subnormal steps.
#[test]
fn the_scale_comes_before_the_rounding() {
    let (rows, cols) = (64, 1500);
    let case = data::ordinary("loss scale", PAIRS[2], (rows, cols), 2.0, 4);
    let mean = case.options(Options::new().reduction(Reduction::Mean)).upstream(Upstream::Host(65_536.0));
    // Rounded first, many of these would be off by four times half an ulp of a normal number.
    let ulp = 2f64.powi(-24);
    let first: Vec<f64> = mean.expected()[0].gradient.iter().map(|g| g / rows as f64).collect();
    let lost = first.iter().filter(|&&g| ((g / ulp).round() * ulp - g).abs() > 0.002 * g.abs()).count();
    assert!(lost > cols / 4, "{lost}");
    check_everywhere([mean]);
}

/// The loss itself is not scaled, by anything.
#[test]
fn losses_do_not_depend_on_the_upstream_gradient() {
    let lab = Lab::new((9, 0));
    for pair in PAIRS {
        let case = data::ordinary("scaled", pair, (5, 99), 3.0, 4);
        let mean = Options::new().reduction(Reduction::Mean);
        let scaled = case.clone().options(mean).upstream(Upstream::PerRow(vec![7.0, 0.0, -1.0, f32::INFINITY, 1e-30]));
        for implementation in lab.implementations(&case) {
            let (a, b) = (lab.check_one(&case, implementation), lab.check_one(&scaled, implementation));
            for row in 0..3 {
                assert_eq!(a.loss[row].to_bits(), b.loss[row].to_bits(), "{scaled} by {implementation:?}, row {row}");
            }
        }
    }
}

/// Halfway between two values of the type, the gradient goes to the even one: a single column with s = 0 and t = 0
/// has the gradient k / 2, exactly.
#[test]
fn ties_round_to_even() {
    for lab in Lab::each() {
        for pair in PAIRS.into_iter().filter(|p| p.0 != DType::F32) {
            let half_ulp = if pair.0 == DType::F16 { 2f32.powi(-11) } else { 2f32.powi(-8) };
            let wanted: Vec<f32> =
                (0..8).flat_map(|i| [1.0, -1.0].map(|sign| sign * (1.0 + i as f32 * half_ulp))).collect();
            let rows = wanted.len();
            let case = Case::new("ties", pair, (rows, 1), &vec![0.0; rows], &vec![0.0; rows]);
            let case = case.upstream(Upstream::PerRow(wanted.iter().map(|x| 2.0 * x).collect()));
            for implementation in lab.implementations(&case).into_iter().filter(|i| i.gradient) {
                let got = lab.check_one(&case, implementation).gradient_values(&case).unwrap();
                let rounded: Vec<f64> = wanted.iter().map(|&x| round(pair.0, x.into())).collect();
                assert_eq!(got, rounded, "{case} by {implementation:?}");
            }
        }
    }
}
