//! Approximate instructions: within the error that the PTX manual documents, at both limits and in
//! between, with the exact results that its tables list.

mod ptx_support;

use half::{bf16, f16};
use ptx_support::{Random, evaluate_with};
use softcuda::Approximation::{self, Lower, Nearest, Random as Drawn, Upper};
use softcuda::Config;

/// The error that the manual allows of an exact result.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// `2^n`, relative.
    Relative(f64),
    /// `2^n`.
    Absolute(f64),
    /// Units of the last place of the rounded result.
    Units(f64),
}
use Bound::{Absolute, Relative, Units};

/// The formats of results.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    F32,
    F16,
    Bf16,
}
use Format::{Bf16, F16, F32};

impl Format {
    fn value(self, bits: u64) -> f64 {
        match self {
            F32 => f64::from(f32::from_bits(bits as u32)),
            F16 => f16::from_bits(bits as u16).to_f64(),
            Bf16 => bf16::from_bits(bits as u16).to_f64(),
        }
    }

    fn nearest(self, x: f64) -> u64 {
        match self {
            F32 => u64::from((x as f32).to_bits()),
            F16 => u64::from(f16::from_f64(x).to_bits()),
            Bf16 => u64::from(bf16::from_f64(x).to_bits()),
        }
    }

    /// The distance from a number to the next of larger magnitude.
    fn unit(self, x: f64) -> f64 {
        let bits = self.nearest(x.abs());
        self.value(bits + 1) - self.value(bits)
    }

    fn least_normal(self) -> f64 {
        if self == F16 { 2f64.powi(-14) } else { 2f64.powi(-126) }
    }
}

/// An instruction: its opcode, format, exact function, error and where that error is promised.
struct Row(&'static str, Format, fn(f64) -> f64, Bound, std::ops::Range<f64>);

const TAU: f64 = std::f64::consts::TAU;

#[rustfmt::skip]
const ROWS: [Row; 22] = [
    Row("ex2.approx.f32", F32, f64::exp2, Units(2.0), -149.0..128.0),
    Row("ex2.approx.ftz.f32", F32, f64::exp2, Units(2.0), -126.0..128.0),
    Row("lg2.approx.f32", F32, f64::log2, Absolute(-22.0), 0.5..2.0),
    Row("lg2.approx.ftz.f32", F32, f64::log2, Absolute(-22.0), 0.5..2.0),
    Row("lg2.approx.f32", F32, f64::log2, Relative(-22.0), 2.0..1e38),
    Row("lg2.approx.ftz.f32", F32, f64::log2, Relative(-22.0), 1e-37..0.5),
    Row("sin.approx.f32", F32, f64::sin, Absolute(-20.5), -TAU..TAU),
    Row("cos.approx.ftz.f32", F32, f64::cos, Absolute(-20.5), -TAU..TAU),
    Row("sin.approx.ftz.f32", F32, f64::sin, Absolute(-14.7), TAU..50.0 * TAU),
    Row("cos.approx.f32", F32, f64::cos, Absolute(-14.7), -50.0 * TAU..-TAU),
    Row("tanh.approx.f32", F32, f64::tanh, Relative(-11.0), -12.0..12.0),
    Row("rcp.approx.f32", F32, |x| 1.0 / x, Units(1.0), -1e37..1e37),
    Row("rcp.approx.ftz.f32", F32, |x| 1.0 / x, Units(1.0), 1e-3..1e3),
    Row("sqrt.approx.f32", F32, f64::sqrt, Relative(-23.0), 0.0..1e38),
    Row("sqrt.approx.ftz.f32", F32, f64::sqrt, Relative(-23.0), 1e-37..4.0),
    Row("rsqrt.approx.f32", F32, |x| 1.0 / x.sqrt(), Relative(-22.9), 1e-37..1e38),
    Row("rsqrt.approx.ftz.f32", F32, |x| 1.0 / x.sqrt(), Relative(-22.9), 1e-3..1e3),
    Row("ex2.approx.f16", F16, f64::exp2, Relative(-9.9), -14.0..15.9),
    Row("ex2.approx.ftz.bf16", Bf16, f64::exp2, Relative(-7.0), -120.0..127.0),
    Row("tanh.approx.f16", F16, f64::tanh, Absolute(-10.987), -5.0..5.0),
    Row("tanh.approx.bf16", Bf16, f64::tanh, Absolute(-8.0), -5.0..5.0),
    Row("tanh.approx.f16", F16, f64::tanh, Absolute(-10.987), -0.1..0.1),
];

fn body(opcode: &str, format: Format) -> String {
    match format {
        F32 => format!("{opcode} %d32, %a32; WIDEN32"),
        _ => format!("{opcode} %d16, %a16; WIDEN16"),
    }
}

fn run(approximation: Approximation, seed: u64, body: &str, inputs: &[[u64; 3]]) -> Vec<u64> {
    let config = Config { approximation, seed, workers: 1, ..Config::capability(9, 0) };
    evaluate_with(config, body, inputs)
}

/// Numbers of a range, evenly and over its powers of two, in the format.
fn inputs(format: Format, range: &std::ops::Range<f64>) -> Vec<[u64; 3]> {
    let mut rng = Random(9);
    let mut inputs = Vec::new();
    while inputs.len() < 4000 {
        let unit = (rng.next() >> 11) as f64 / (1u64 << 53) as f64;
        let even = range.start + unit * (range.end - range.start);
        let x = if rng.below(2) == 0 { even } else { even * 2f64.powi(-(rng.below(30) as i32)) };
        let bits = format.nearest(x);
        if range.contains(&format.value(bits)) && format.value(bits).abs() >= format.least_normal() {
            inputs.push([bits, 0, 0]);
        }
    }
    inputs
}

/// The least and largest that the manual allows.
fn limits(format: Format, exact: f64, bound: Bound) -> (f64, f64) {
    let margin = match bound {
        Relative(power) => exact.abs() * power.exp2(),
        Absolute(power) => power.exp2(),
        Units(count) => {
            let nearest = format.value(format.nearest(exact));
            let unit = format.unit(nearest);
            return (nearest - count * unit, nearest + count * unit);
        }
    };
    (exact - margin, exact + margin)
}

#[test]
fn every_regime_stays_within_the_documented_error() {
    for Row(opcode, format, function, bound, range) in &ROWS {
        let inputs = inputs(*format, range);
        let body = body(opcode, *format);
        let [nearest, upper, lower, drawn] =
            [Nearest, Upper, Lower, Drawn].map(|regime| run(regime, 5, &body, &inputs));
        let mut farthest = (0f64, 0f64);
        let mut differ = [0; 3];
        for (index, &[x, ..]) in inputs.iter().enumerate() {
            let x = format.value(x);
            let exact = function(x);
            let (low, high) = limits(*format, exact, *bound);
            let four = [nearest[index], upper[index], lower[index], drawn[index]].map(|bits| format.value(bits));
            for result in four {
                // The tests' own arithmetic is not exact either.
                let slack = exact.abs() * 1e-15;
                let subnormal = exact.abs() < format.least_normal();
                let rounding = if subnormal { format.unit(0.0) } else { 0.0 };
                assert!(
                    result >= low - slack - rounding && result <= high + slack + rounding,
                    "{opcode}({x:e}) is {result:e}, not from {low:e} to {high:e}"
                );
            }
            let [middle, most, least, random] = four;
            assert!(least <= middle && middle <= most, "{opcode}({x:e}): {least:e} {middle:e} {most:e}");
            assert!(least <= random && random <= most, "{opcode}({x:e}): {least:e} {random:e} {most:e}");
            if high > low && exact != 0.0 {
                farthest.0 = farthest.0.max((most - exact) / (high - exact));
                farthest.1 = farthest.1.max((least - exact) / (low - exact));
            }
            differ[0] += usize::from(most != middle);
            differ[1] += usize::from(least != middle);
            differ[2] += usize::from(random != middle);
        }
        assert!(farthest.0 > 0.7 && farthest.1 > 0.7, "{opcode} does not reach its limits: {farthest:?}");
        let enough = inputs.len() / 5;
        assert!(differ.iter().all(|&count| count > enough), "{opcode}: {differ:?} of {} differ", inputs.len());
    }
}

#[test]
fn listed_results_stay_exact() {
    const INF: u64 = 0x7f80_0000;
    const MINUS: u64 = 0x8000_0000;
    const ONE: u64 = 0x3f80_0000;
    const NAN: u64 = 0x7fff_ffff;
    #[rustfmt::skip]
    let rows: [(&str, &[(u64, u64)]); 8] = [
        ("ex2.approx.f32", &[(MINUS | INF, 0), (MINUS, ONE), (0, ONE), (INF, INF), (NAN, NAN), (0x43c8_0000, INF), (0xc3c8_0000, 0)]),
        ("lg2.approx.f32", &[(MINUS | INF, NAN), (MINUS, MINUS | INF), (0, MINUS | INF), (INF, INF), (MINUS | ONE, NAN), (NAN, NAN)]),
        ("sin.approx.f32", &[(MINUS | INF, NAN), (MINUS, MINUS), (0, 0), (INF, NAN), (NAN, NAN)]),
        ("cos.approx.f32", &[(MINUS | INF, NAN), (MINUS, ONE), (0, ONE), (INF, NAN), (NAN, NAN)]),
        ("tanh.approx.f32", &[(MINUS | INF, MINUS | ONE), (MINUS, MINUS), (0, 0), (INF, ONE), (NAN, NAN)]),
        ("rcp.approx.f32", &[(MINUS | INF, MINUS), (MINUS, MINUS | INF), (0, INF), (INF, 0), (NAN, NAN)]),
        ("sqrt.approx.f32", &[(MINUS | INF, NAN), (MINUS, MINUS), (0, 0), (INF, INF), (MINUS | ONE, NAN), (NAN, NAN)]),
        ("rsqrt.approx.f32", &[(MINUS | INF, NAN), (MINUS, MINUS | INF), (0, INF), (INF, 0), (MINUS | ONE, NAN), (NAN, NAN)]),
    ];
    for (opcode, results) in rows {
        let inputs: Vec<[u64; 3]> = results.iter().map(|&(x, _)| [x, 0, 0]).collect();
        for regime in [Nearest, Upper, Lower, Drawn] {
            for ftz in [false, true] {
                let opcode = if ftz { opcode.replace(".approx", ".approx.ftz") } else { opcode.to_owned() };
                if opcode == "tanh.approx.ftz.f32" {
                    continue;
                }
                let got = run(regime, 3, &body(&opcode, F32), &inputs);
                for (got, (x, wanted)) in got.iter().zip(results) {
                    assert_eq!(got, wanted, "{opcode}({x:#x}), {regime:?}");
                }
            }
        }
    }
    for (opcode, format, one, infinity) in
        [("ex2.approx.f16", F16, 0x3c00, 0x7c00), ("ex2.approx.ftz.bf16", Bf16, 0x3f80, 0x7f80)]
    {
        let inputs = [0, 0x8000, infinity, 0x8000 | infinity, 0x7fff].map(|x| [x, 0, 0]);
        for regime in [Nearest, Upper, Lower, Drawn] {
            let got = run(regime, 3, &body(opcode, format), &inputs);
            assert_eq!(got, [one, one, infinity, 0, 0x7fff], "{opcode}, {regime:?}");
        }
    }
}

#[test]
fn subnormals_are_flushed_or_not() {
    let tiny = 0x0040_0000; // 2^-127
    let inputs = [[tiny, 0, 0]];
    for regime in [Nearest, Upper, Lower, Drawn] {
        assert_eq!(run(regime, 1, &body("lg2.approx.ftz.f32", F32), &inputs), [0xff80_0000], "{regime:?}");
        assert_eq!(run(regime, 1, &body("rsqrt.approx.ftz.f32", F32), &inputs), [0x7f80_0000], "{regime:?}");
        let root = F32.value(run(regime, 1, &body("sqrt.approx.f32", F32), &inputs)[0]);
        assert!((root * 2f64.powf(63.5) - 1.0).abs() < 2f64.powi(-22), "{regime:?} {root:e}");
        // 2^-127 is subnormal.
        let flushed = run(regime, 1, &body("ex2.approx.ftz.f32", F32), &[[0xc2fe_0000, 0, 0]]);
        assert_eq!(flushed, [0], "{regime:?}");
    }
}

#[test]
fn quotients() {
    let mut rng = Random(4);
    let float = |rng: &mut Random| u64::from(((rng.next() >> 40) as f32 / 1e4 - 800.0).to_bits());
    let inputs: Vec<[u64; 3]> = (0..4000).map(|_| [float(&mut rng), float(&mut rng), 0]).collect();
    for opcode in ["div.approx.f32", "div.full.f32", "div.approx.ftz.f32", "div.full.ftz.f32"] {
        let body = format!("{opcode} %d32, %a32, %b32; WIDEN32");
        let [nearest, upper, lower, drawn] =
            [Nearest, Upper, Lower, Drawn].map(|regime| run(regime, 2, &body, &inputs));
        let mut farthest = 0f64;
        for (index, &[a, b, _]) in inputs.iter().enumerate() {
            let nearest = F32.value(nearest[index]);
            let unit = F32.unit(nearest);
            assert_eq!(nearest as f32, F32.value(a) as f32 / F32.value(b) as f32);
            for other in [upper[index], lower[index], drawn[index]].map(|bits| F32.value(bits)) {
                assert!((other - nearest).abs() <= 2.0 * unit, "{opcode}({a:#x}, {b:#x})");
                farthest = farthest.max((other - nearest).abs() / unit);
            }
        }
        assert!(farthest == 2.0, "{opcode} reaches {farthest} units");
        let special = [[0x3f80_0000, 0, 0], [0x7f80_0000, 0x7e90_0000, 0], [0, 0x3f80_0000, 0]];
        for regime in [Nearest, Upper, Lower, Drawn] {
            let beyond = if opcode.contains("approx") { 0x7fff_ffff } else { 0x7f80_0000 };
            assert_eq!(run(regime, 2, &body, &special), [0x7f80_0000, beyond, 0], "{opcode}");
        }
    }
}

#[test]
fn gross_approximations_in_f64_use_the_upper_word_only() {
    let mut rng = Random(6);
    let inputs: Vec<[u64; 3]> =
        (0..2000).map(|_| [(rng.next() & 0x3fff_ffff_ffff_ffff) | 1 << 61 | rng.next() << 63, 0, 0]).collect();
    type Exact = fn(f64) -> f64;
    let functions: [(&str, Exact); 2] = [("rcp", |x| 1.0 / x), ("rsqrt", |x| 1.0 / x.sqrt())];
    for (name, exact) in functions {
        for regime in [Nearest, Upper, Lower, Drawn] {
            let got = run(regime, 8, &format!("{name}.approx.ftz.f64 %d, %a;"), &inputs);
            for (got, &[x, ..]) in got.into_iter().zip(&inputs) {
                let exact = exact(f64::from_bits(x & !0xffff_ffff));
                assert_eq!(got & 0xffff_ffff, 0);
                if exact.is_nan() {
                    assert_eq!(got, 0x7fff_ffff_0000_0000);
                } else if exact.abs() < f64::MIN_POSITIVE {
                    assert_eq!(got & !(1 << 63), 0);
                } else {
                    let error = (f64::from_bits(got) / exact - 1.0).abs();
                    let units = if regime == Nearest { 0.51 } else { 1.51 };
                    assert!(error <= units * 2f64.powi(-20), "{name}({x:#x}), {regime:?}: {error:e}");
                }
            }
        }
        let listed = [0, 1 << 63, 1, f64::INFINITY.to_bits(), f64::NAN.to_bits()].map(|x| [x, 0, 0]);
        let infinity = f64::INFINITY.to_bits();
        let wanted = [infinity, infinity | 1 << 63, infinity, 0, 0x7fff_ffff_0000_0000];
        assert_eq!(run(Upper, 8, &format!("{name}.approx.ftz.f64 %d, %a;"), &listed), wanted, "{name}");
    }
}

#[test]
fn random_results_depend_on_the_seed_and_the_operands_alone() {
    let inputs = inputs(F32, &(0.1..0.9));
    let body = body("ex2.approx.f32", F32);
    let once = run(Drawn, 1, &body, &inputs);
    assert_eq!(once, run(Drawn, 1, &body, &inputs));
    assert_ne!(once, run(Drawn, 2, &body, &inputs));
    let twice: Vec<[u64; 3]> = inputs.iter().rev().copied().collect();
    let mut reversed = run(Drawn, 1, &body, &twice);
    reversed.reverse();
    assert_eq!(once, reversed);
}

/// What is not approximate is not perturbed.
#[test]
fn exact_instructions_stay_exact() {
    let inputs = inputs(F32, &(0.1..90.0));
    for body in [
        "rcp.rn.f32 %d32, %a32; WIDEN32",
        "sqrt.rn.f32 %d32, %a32; WIDEN32",
        "div.rn.f32 %d32, 0f3F800000, %a32; WIDEN32",
        "fma.rn.f32 %d32, %a32, %a32, %a32; WIDEN32",
        "cvt.f64.f32 %d, %a32; rcp.rn.f64 %d, %d;",
        "cvt.f64.f32 %d, %a32; rsqrt.approx.f64 %d, %d;",
    ] {
        assert_eq!(run(Nearest, 1, body, &inputs), run(Upper, 1, body, &inputs), "{body}");
    }
}
