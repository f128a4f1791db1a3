//! f32 and f64 instructions against the host's arithmetic and exact error terms.

#![allow(
    clippy::neg_cmp_op_on_partial_ord,
    clippy::double_comparisons,
    clippy::manual_clamp,
    reason = "written the way the manual defines them: what NaN does matters"
)]

mod ptx_support;

use ptx_support::{Random, check, evaluate, triples};

const NAN: u32 = 0x7fff_ffff;

/// Zeros, subnormals, normals, ties, the largest, infinities, NaNs.
const EDGES: [u64; 22] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x807f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x3380_0000,
    0x3f7f_ffff,
    0x3f80_0000,
    0xbf80_0000,
    0x3f80_0001,
    0x4b80_0000,
    0x4b80_0001,
    0x7e80_0001,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffa0_0001,
];

fn inputs() -> Vec<[u64; 3]> {
    triples(&EDGES, 2000, |rng| {
        let value = rng.next();
        // Half of them near 1, so that sums do not lose one operand.
        if value >> 40 & 1 == 0 { value & 0xffff_ffff } else { value & 0x81ff_ffff | 0x3e00_0000 }
    })
}

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn bits(value: f32) -> u64 {
    u64::from(if value.is_nan() { NAN } else { value.to_bits() })
}

fn flush(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

fn saturate(value: f32) -> f32 {
    if value.is_nan() || value <= 0.0 { 0.0 } else { value.min(1.0) }
}

/// Checks an instruction with no modifier, `.ftz`, `.sat` and `.ftz.sat`.
#[track_caller]
fn check_modes(head: &str, tail: &str, expected: impl Fn(f32, f32, f32) -> f32) {
    for (ftz, sat) in [(false, false), (true, false), (false, true), (true, true)] {
        let modifiers = [if ftz { ".ftz" } else { "" }, if sat { ".sat" } else { "" }].concat();
        check(&format!("{head}{modifiers}.f32 {tail}; WIDEN32"), &inputs(), |a, b, c| {
            let through = |x: f32| if ftz { flush(x) } else { x };
            let value = through(expected(through(f(a)), through(f(b)), through(f(c))));
            bits(if sat { saturate(value) } else { value })
        });
    }
}

#[test]
fn nearest() {
    check_modes("add", "%d32, %a32, %b32", |a, b, _| a + b);
    check_modes("sub.rn", "%d32, %a32, %b32", |a, b, _| a - b);
    check_modes("mul", "%d32, %a32, %b32", |a, b, _| a * b);
    check_modes("fma.rn", "%d32, %a32, %b32, %c32", |a, b, c| a.mul_add(b, c));
    for ftz in ["", ".ftz"] {
        let through = |x: f32| if ftz.is_empty() { x } else { flush(x) };
        check(&format!("div.rn{ftz}.f32 %d32, %a32, %b32; WIDEN32"), &inputs(), |a, b, _| {
            bits(through(through(f(a)) / through(f(b))))
        });
        check(&format!("rcp.rn{ftz}.f32 %d32, %a32; WIDEN32"), &inputs(), |a, _, _| bits(through(1.0 / through(f(a)))));
        check(&format!("sqrt.rn{ftz}.f32 %d32, %a32; WIDEN32"), &inputs(), |a, _, _| {
            bits(through(through(f(a)).sqrt()))
        });
        check(&format!("neg{ftz}.f32 %d32, %a32; WIDEN32"), &inputs(), |a, _, _| bits(-through(f(a))));
        check(&format!("abs{ftz}.f32 %d32, %a32; WIDEN32"), &inputs(), |a, _, _| bits(through(f(a)).abs()));
    }
}

/// The f32 next to the exact value `sum + error`, in a direction. `sum` is the nearest f64.
fn directed(mode: &str, sum: f64, error: f64) -> f32 {
    if sum.is_nan() || sum.is_infinite() {
        return sum as f32;
    }
    let near = sum as f32;
    let above = if near.is_infinite() {
        near > 0.0
    } else {
        let difference = f64::from(near) - sum;
        difference > error || (difference == 0.0 && error < 0.0)
    };
    let exact = near.is_finite() && f64::from(near) == sum && error == 0.0;
    let (low, high) = match (exact, above) {
        (true, _) => (near, near),
        (_, true) => (near.next_down(), near),
        (_, false) => (near, near.next_up()),
    };
    match mode {
        "rm" => low,
        "rp" => high,
        _ if sum > 0.0 => low,
        _ => high,
    }
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let s = a + b;
    let t = s - a;
    (s, (a - (s - t)) + (b - t))
}

#[test]
fn directed_rounding() {
    for mode in ["rz", "rm", "rp"] {
        let sum = |a: f64, b: f64| {
            let (s, e) = two_sum(a, b);
            let value = directed(mode, s, if s.is_finite() { e } else { 0.0 });
            // Opposite numbers cancel to -0 only towards minus infinity.
            let cancels = value == 0.0 && e == 0.0 && (a != 0.0 || a.is_sign_positive() != b.is_sign_positive());
            if cancels && s == 0.0 { if mode == "rm" { -0.0 } else { 0.0 } } else { value }
        };
        check(&format!("add.{mode}.f32 %d32, %a32, %b32; WIDEN32"), &inputs(), |a, b, _| {
            bits(sum(f64::from(f(a)), f64::from(f(b))))
        });
        check(&format!("mul.{mode}.f32 %d32, %a32, %b32; WIDEN32"), &inputs(), |a, b, _| {
            // The product of two f32 is exact in f64.
            let product = f64::from(f(a)) * f64::from(f(b));
            let value = directed(mode, product, 0.0);
            bits(if product == 0.0 { product as f32 } else { value })
        });
        check(&format!("fma.{mode}.f32 %d32, %a32, %b32, %c32; WIDEN32"), &inputs(), |a, b, c| {
            let product = f64::from(f(a)) * f64::from(f(b));
            bits(sum(product, f64::from(f(c))))
        });
        check(&format!("div.{mode}.f32 %d32, %a32, %b32; WIDEN32"), &inputs(), |a, b, _| {
            let (a, b) = (f64::from(f(a)), f64::from(f(b)));
            let quotient = a / b;
            let rest = if quotient.is_finite() { (-quotient).mul_add(b, a) } else { 0.0 };
            let error = if b < 0.0 { -rest } else { rest } * f64::MIN_POSITIVE.sqrt();
            let value = directed(mode, quotient, error);
            bits(if a == 0.0 || b.is_infinite() { quotient as f32 } else { value })
        });
        check(&format!("sqrt.{mode}.f32 %d32, %a32; WIDEN32"), &inputs(), |a, _, _| {
            let a = f64::from(f(a));
            let root = a.sqrt();
            let rest = if root.is_finite() { (-root).mul_add(root, a) } else { 0.0 };
            let value = directed(mode, root, rest * f64::MIN_POSITIVE.sqrt());
            bits(if a == 0.0 { root as f32 } else { value })
        });
    }
}

#[test]
fn minimum_and_maximum() {
    // -0 is below +0, a number beats a NaN.
    let minimum = |a: f32, b: f32| match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        }
        _ => {
            if a < b {
                a
            } else {
                b
            }
        }
    };
    let maximum = move |a: f32, b: f32| -minimum(-a, -b);
    for ftz in ["", ".ftz"] {
        let through = |x: u64| if ftz.is_empty() { f(x) } else { flush(f(x)) };
        check(&format!("min{ftz}.f32 %d32, %a32, %b32; WIDEN32"), &inputs(), |a, b, _| {
            bits(minimum(through(a), through(b)))
        });
        check(&format!("max{ftz}.f32 %d32, %a32, %b32; WIDEN32"), &inputs(), |a, b, _| {
            bits(maximum(through(a), through(b)))
        });
        check(&format!("max{ftz}.NaN.f32 %d32, %a32, %b32; WIDEN32"), &inputs(), |a, b, _| {
            let (a, b) = (through(a), through(b));
            bits(if a.is_nan() || b.is_nan() { f32::NAN } else { maximum(a, b) })
        });
    }
    check("min.xorsign.abs.f32 %d32, %a32, %b32; WIDEN32", &inputs(), |a, b, _| {
        let least = minimum(f(a).abs(), f(b).abs());
        let negative = f(a).is_sign_negative() != f(b).is_sign_negative();
        bits(if negative { -least } else { least })
    });
    check("max.f32 %d32, %a32, %b32, %c32; WIDEN32", &inputs(), |a, b, c| bits(maximum(maximum(f(a), f(b)), f(c))));
}

#[test]
fn comparisons_with_nan() {
    type Holds = fn(f32, f32) -> bool;
    let ordered: [(&str, Holds); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a < b || a > b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for (name, holds) in ordered {
        for ftz in ["", ".ftz"] {
            let through = |x: u64| if ftz.is_empty() { f(x) } else { flush(f(x)) };
            let body = |name: &str| format!("setp.{name}{ftz}.f32 %p1, %a32, %b32; selp.b64 %d, 1, 0, %p1;");
            check(&body(name), &inputs(), |a, b, _| u64::from(holds(through(a), through(b))));
            check(&body(&format!("{name}u")), &inputs(), |a, b, _| {
                let (a, b) = (through(a), through(b));
                u64::from(a.is_nan() || b.is_nan() || holds(a, b))
            });
        }
    }
    check("setp.num.f32 %p1|%p2, %a32, %b32; selp.u64 %d, 1, 0, %p1;", &inputs(), |a, b, _| {
        u64::from(!f(a).is_nan() && !f(b).is_nan())
    });
    check("setp.nan.f32 %p1, %a32, %b32; selp.u64 %d, 1, 0, %p1;", &inputs(), |a, b, _| {
        u64::from(f(a).is_nan() || f(b).is_nan())
    });
    type Is = fn(f32) -> bool;
    let tests: [(&str, Is); 6] = [
        ("finite", |x| x.is_finite()),
        ("infinite", |x| x.is_infinite()),
        ("number", |x| !x.is_nan()),
        ("notanumber", |x| x.is_nan()),
        ("normal", |x| x.is_normal() || x == 0.0),
        ("subnormal", |x| x.is_subnormal()),
    ];
    for (name, holds) in tests {
        check(&format!("testp.{name}.f32 %p1, %a32; selp.u64 %d, 1, 0, %p1;"), &inputs(), |a, _, _| {
            u64::from(holds(f(a)))
        });
    }
    check("copysign.f32 %d32, %a32, %b32; WIDEN32", &inputs(), |a, b, _| (a & 0x8000_0000) | (b & 0x7fff_ffff));
}

/// Checks an approximate function: exact special values, and elsewhere a relative error.
#[track_caller]
fn check_approximate(
    opcode: &str,
    relative: f64,
    absolute: f64,
    range: std::ops::Range<f32>,
    expected: fn(f64) -> f64,
) {
    let mut rng = Random(3);
    let mut inputs: Vec<[u64; 3]> = EDGES.iter().map(|&a| [a, 0, 0]).collect();
    for _ in 0..20_000 {
        let unit = (rng.next() >> 40) as f32 / (1u64 << 24) as f32;
        let value = range.start + unit * (range.end - range.start);
        inputs.push([u64::from(value.to_bits()), 0, 0]);
    }
    let ftz = opcode.contains(".ftz");
    let results = evaluate(&format!("{opcode} %d32, %a32; WIDEN32"), &inputs);
    for (result, [a, ..]) in results.into_iter().zip(inputs) {
        let x = if ftz { flush(f(a)) } else { f(a) };
        let wanted = expected(f64::from(x));
        let got = f(result);
        if wanted.is_nan() {
            assert_eq!(result, u64::from(NAN), "{opcode}({x:e})");
            continue;
        }
        let rounded = wanted as f32;
        if rounded.is_infinite() || rounded == 0.0 || (ftz && rounded.abs() < f32::MIN_POSITIVE) {
            let wanted = if ftz { flush(rounded) } else { rounded };
            assert!(got == wanted, "{opcode}({x:e}) = {got:e}, not {wanted:e}");
            continue;
        }
        let error = (f64::from(got) - wanted).abs();
        assert!(error <= relative * wanted.abs() + absolute, "{opcode}({x:e}) = {got:e}, not {wanted:e}");
    }
}

#[test]
fn approximate_functions() {
    const ULP: f64 = 1.2e-7;
    const SUBNORMAL: f64 = 1e-45;
    check_approximate("ex2.approx.f32", ULP, SUBNORMAL, -160.0..140.0, f64::exp2);
    check_approximate("ex2.approx.ftz.f32", ULP, 0.0, -140.0..140.0, f64::exp2);
    check_approximate("ex2.approx.ftz.f32", ULP, 0.0, -1.0..1.0, f64::exp2);
    check_approximate("lg2.approx.f32", ULP, 1e-12, 0.0..4.0, |x| if x == 0.0 { f64::NEG_INFINITY } else { x.log2() });
    check_approximate(
        "lg2.approx.ftz.f32",
        ULP,
        1e-12,
        0.5..2.0,
        |x| {
            if x == 0.0 { f64::NEG_INFINITY } else { x.log2() }
        },
    );
    check_approximate("rcp.approx.ftz.f32", ULP, 0.0, -9.0..9.0, |x| 1.0 / x);
    check_approximate("sqrt.approx.f32", ULP, 0.0, 0.0..9.0, f64::sqrt);
    check_approximate("rsqrt.approx.f32", ULP, 0.0, 0.0..9.0, |x| 1.0 / x.sqrt());
    check_approximate("sin.approx.f32", ULP, SUBNORMAL, -9.0..9.0, f64::sin);
    check_approximate("cos.approx.ftz.f32", ULP, 0.0, -9.0..9.0, f64::cos);
    check_approximate("tanh.approx.f32", ULP, SUBNORMAL, -9.0..9.0, f64::tanh);
}

#[test]
fn division_of_limited_range() {
    check("div.approx.f32 %d32, %a32, %b32; WIDEN32", &inputs(), |a, b, _| {
        let (a, b) = (f(a), f(b));
        // Documented: for 2^126 < |b| < 2^128 the result is 0, or NaN for an infinite dividend.
        if b.is_finite() && b.abs() > 2f32.powi(126) {
            if a.is_infinite() || a.is_nan() { u64::from(NAN) } else { bits(a * 0.0 * b.signum()) }
        } else {
            bits(a / b)
        }
    });
    check("div.full.ftz.f32 %d32, %a32, %b32; WIDEN32", &inputs(), |a, b, _| bits(flush(flush(f(a)) / flush(f(b)))));
}

fn doubles() -> Vec<[u64; 3]> {
    let edges = [
        0f64.to_bits(),
        (-0f64).to_bits(),
        1f64.to_bits(),
        (-1.5f64).to_bits(),
        1,
        f64::MIN_POSITIVE.to_bits(),
        f64::MAX.to_bits(),
        f64::INFINITY.to_bits(),
        f64::NEG_INFINITY.to_bits(),
        f64::NAN.to_bits(),
    ];
    triples(&edges, 1000, |rng| rng.next() & 0x81ff_ffff_ffff_ffff | 0x3e00_0000_0000_0000)
}

#[test]
fn double_precision() {
    let d = f64::from_bits;
    let bits = |x: f64| if x.is_nan() { f64::NAN.to_bits() } else { x.to_bits() };
    check("add.f64 %d, %a, %b;", &doubles(), |a, b, _| bits(d(a) + d(b)));
    check("sub.rn.f64 %d, %a, %b;", &doubles(), |a, b, _| bits(d(a) - d(b)));
    check("mul.f64 %d, %a, %b;", &doubles(), |a, b, _| bits(d(a) * d(b)));
    check("fma.rn.f64 %d, %a, %b, %c;", &doubles(), |a, b, c| bits(d(a).mul_add(d(b), d(c))));
    check("div.rn.f64 %d, %a, %b;", &doubles(), |a, b, _| bits(d(a) / d(b)));
    check("rcp.rn.f64 %d, %a;", &doubles(), |a, _, _| bits(1.0 / d(a)));
    check("sqrt.rn.f64 %d, %a;", &doubles(), |a, _, _| bits(d(a).sqrt()));
    check("setp.ltu.f64 %p1, %a, %b; selp.b64 %d, 1, 0, %p1;", &doubles(), |a, b, _| u64::from(!(d(a) >= d(b))));
}

#[test]
fn double_precision_directed() {
    // Factors of 26 bits, so that their product is exact and two-sum gives the error.
    let inputs = triples(&[1f64.to_bits(), (-3f64).to_bits()], 1000, |rng| {
        rng.next() & 0x81ff_ffff_f800_0000 | 0x3e00_0000_0000_0000
    });
    let d = f64::from_bits;
    let directed = |mode: &str, value: f64, error: f64| match mode {
        "rm" if error < 0.0 => value.next_down(),
        "rp" if error > 0.0 => value.next_up(),
        "rz" if value > 0.0 && error < 0.0 => value.next_down(),
        "rz" if value < 0.0 && error > 0.0 => value.next_up(),
        "rm" if value == 0.0 => -0.0,
        _ => value,
    };
    for mode in ["rz", "rm", "rp"] {
        check(&format!("fma.{mode}.f64 %d, %a, %b, %c;"), &inputs, |a, b, c| {
            let (sum, error) = two_sum(d(a) * d(b), d(c));
            directed(mode, sum, error).to_bits()
        });
        check(&format!("add.{mode}.f64 %d, %a, %b;"), &inputs, |a, b, _| {
            let (sum, error) = two_sum(d(a), d(b));
            directed(mode, sum, error).to_bits()
        });
        check(&format!("mul.{mode}.f64 %d, %a, %b;"), &inputs, |a, b, _| {
            let product = d(a) * d(b);
            directed(mode, product, d(a).mul_add(d(b), -product)).to_bits()
        });
        check(&format!("div.{mode}.f64 %d, %a, %b;"), &inputs, |a, b, _| {
            let quotient = d(a) / d(b);
            let rest = (-quotient).mul_add(d(b), d(a));
            directed(mode, quotient, if d(b) < 0.0 { -rest } else { rest }).to_bits()
        });
        check(&format!("and.b64 %a, %a, 0x7fffffffffffffff; sqrt.{mode}.f64 %d, %a;"), &inputs, |a, _, _| {
            let a = d(a).abs();
            directed(mode, a.sqrt(), (-a.sqrt()).mul_add(a.sqrt(), a)).to_bits()
        });
    }
}

#[test]
fn pairs_of_f32() {
    let pack = |low: f32, high: f32| bits(low) | bits(high) << 32;
    let halves = |x: u64| (f(x & 0xffff_ffff), f(x >> 32));
    let inputs = triples(&[0x3f80_0000_0000_0001, 0xbf80_0000_7f80_0000], 500, Random::next);
    check("fma.rn.f32x2 %d, %a, %b, %c;", &inputs, |a, b, c| {
        let ((a0, a1), (b0, b1), (c0, c1)) = (halves(a), halves(b), halves(c));
        pack(a0.mul_add(b0, c0), a1.mul_add(b1, c1))
    });
    check("add.ftz.f32x2 %d, %a, %b;", &inputs, |a, b, _| {
        let ((a0, a1), (b0, b1)) = (halves(a), halves(b));
        pack(flush(flush(a0) + flush(b0)), flush(flush(a1) + flush(b1)))
    });
    check("mul.rn.f32x2 %d, %a, %b;", &inputs, |a, b, _| {
        let ((a0, a1), (b0, b1)) = (halves(a), halves(b));
        pack(a0 * b0, a1 * b1)
    });
}
