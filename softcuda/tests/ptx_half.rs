//! f16 and bf16 instructions, and all conversions, against exact arithmetic.

#![allow(
    clippy::neg_cmp_op_on_partial_ord,
    clippy::double_comparisons,
    clippy::manual_clamp,
    reason = "written the way the manual defines them: what NaN does matters"
)]

mod ptx_support;

use half::{bf16, f16};
use ptx_support::{Random, check, triples};

const NAN16: u64 = 0x7fff;

fn all_halves() -> Vec<[u64; 3]> {
    (0..0x1_0000).map(|bits| [bits, 0, 0]).collect()
}

fn canonical(value: f32) -> u64 {
    u64::from(if value.is_nan() { 0x7fff_ffff } else { value.to_bits() })
}

#[test]
fn widening() {
    check("cvt.f32.f16 %d32, %a16; WIDEN32", &all_halves(), |a, _, _| canonical(f16::from_bits(a as u16).to_f32()));
    check("cvt.f32.bf16 %d32, %a16; WIDEN32", &all_halves(), |a, _, _| canonical(bf16::from_bits(a as u16).to_f32()));
}

/// Every f16, every tie between two of them and its neighbours; the same for bf16; random ones.
fn narrowing_inputs() -> Vec<[u64; 3]> {
    let mut inputs = Vec::new();
    for bits in 0..0x1_0000u32 {
        let exact = f16::from_bits(bits as u16).to_f32().to_bits();
        let next = f16::from_bits(bits as u16 + u16::from(bits != 0xffff)).to_f32();
        let tie = ((f32::from_bits(exact) + next) / 2.0).to_bits();
        for value in [exact, tie.wrapping_sub(1), tie, tie + 1, bits << 16 | 0x7fff, bits << 16 | 0x8000] {
            inputs.push([u64::from(value), u64::from(bits << 16 | 0x8001), 0]);
        }
    }
    let mut rng = Random(11);
    inputs.extend((0..20_000).map(|_| [rng.next() & 0xffff_ffff, rng.next() & 0xffff_ffff, 0]));
    inputs
}

fn to_f16(value: f32) -> u64 {
    if value.is_nan() { NAN16 } else { u64::from(f16::from_f32(value).to_bits()) }
}

fn to_bf16(value: f32) -> u64 {
    if value.is_nan() { NAN16 } else { u64::from(bf16::from_f32(value).to_bits()) }
}

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

#[test]
fn narrowing() {
    let inputs = narrowing_inputs();
    check("cvt.rn.f16.f32 %d16, %a32; WIDEN16", &inputs, |a, _, _| to_f16(f(a)));
    check("cvt.rn.bf16.f32 %d16, %a32; WIDEN16", &inputs, |a, _, _| to_bf16(f(a)));
    check("cvt.rn.f16x2.f32 %d32, %a32, %b32; WIDEN32", &inputs, |a, b, _| to_f16(f(a)) << 16 | to_f16(f(b)));
    check("cvt.rn.bf16x2.f32 %d32, %a32, %b32; WIDEN32", &inputs, |a, b, _| to_bf16(f(a)) << 16 | to_bf16(f(b)));
    let relu = |value: f32| if value <= 0.0 { 0.0 } else { value };
    check("cvt.rn.relu.f16.f32 %d16, %a32; WIDEN16", &inputs, |a, _, _| to_f16(relu(f(a))));
    check("cvt.rn.relu.bf16x2.f32 %d32, %a32, %b32; WIDEN32", &inputs, |a, b, _| {
        to_bf16(relu(f(a))) << 16 | to_bf16(relu(f(b)))
    });
    check("cvt.rn.sat.f16.f32 %d16, %a32; WIDEN16", &inputs, |a, _, _| {
        if f(a).is_nan() { 0 } else { to_f16(f(a).max(0.0).min(1.0)) & 0x7fff }
    });
}

/// The f16 or bf16 next to a value, towards zero or outwards, found by stepping.
fn towards_zero(value: f32, nearest: u64) -> u64 {
    nearest - u64::from(f16::from_bits(nearest as u16).to_f32().abs() > value.abs())
}

#[test]
fn narrowing_in_a_direction() {
    let inputs = narrowing_inputs();
    check("cvt.rz.f16.f32 %d16, %a32; WIDEN16", &inputs, |a, _, _| match f(a) {
        value if value.is_nan() || value.is_infinite() => to_f16(value),
        value => towards_zero(value, to_f16(value)),
    });
    check("cvt.rz.bf16.f32 %d16, %a32; WIDEN16", &inputs, |a, _, _| if f(a).is_nan() { NAN16 } else { a >> 16 });
    check("cvt.rp.f16.f32 %d16, %a32; WIDEN16", &inputs, |a, _, _| match f(a) {
        value if value.is_nan() || value.is_infinite() => to_f16(value),
        value => {
            let low = towards_zero(value, to_f16(value));
            let exact = f16::from_bits(low as u16).to_f32() == value;
            if value > 0.0 && !exact { low + 1 } else { low }
        }
    });
}

/// Exact arithmetic on finite f16: integers in units of 2^-48.
fn units(bits: u64) -> i128 {
    (f16::from_bits(bits as u16).to_f64() * 2f64.powi(24)) as i128
}

/// The f16 nearest to a number of units of 2^-48, ties to even, by search.
fn nearest(value: i128, zero: u64) -> u64 {
    if value == 0 {
        return zero;
    }
    let at = |bits: u64| match bits {
        0x7c00 => 1i128 << (16 + 48),
        _ => units(bits) << 24,
    };
    let magnitude = value.unsigned_abs() as i128;
    let (mut low, mut high) = (0u64, 0x7c00u64);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if at(middle) <= magnitude { low = middle } else { high = middle }
    }
    let (below, above) = (magnitude - at(low), at(high) - magnitude);
    let up = magnitude >= at(0x7c00) || above < below || (above == below && low & 1 != 0);
    (if up { high } else { low }) | if value < 0 { 0x8000 } else { 0 }
}

const HALF_EDGES: [u64; 16] = [
    0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x8400, 0x3c00, 0xbc00, 0x3c01, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x1234,
];

#[test]
fn arithmetic_in_f16() {
    let inputs = triples(&HALF_EDGES, 20_000, |rng| rng.next() & 0xffff);
    let h = |bits: u64| f16::from_bits(bits as u16).to_f64();
    let special = |value: f64| to_f16(value as f32);
    let finite = |x: f64| x.is_finite();
    check("add.f16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| {
        let sum = h(a) + h(b);
        if !finite(sum) {
            return special(sum);
        }
        nearest((units(a) + units(b)) << 24, to_f16(sum as f32))
    });
    check("sub.rn.f16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| {
        let sum = h(a) - h(b);
        if !finite(sum) {
            return special(sum);
        }
        nearest((units(a) - units(b)) << 24, to_f16(sum as f32))
    });
    check("mul.f16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| {
        let product = h(a) * h(b);
        if !finite(product) {
            return special(product);
        }
        nearest(units(a) * units(b), if product.is_sign_negative() { 0x8000 } else { 0 })
    });
    check("fma.rn.f16 %d16, %a16, %b16, %c16; WIDEN16", &inputs, |a, b, c| {
        let sum = h(a) * h(b) + h(c);
        if !finite(sum) {
            return special(sum);
        }
        let exact = units(a) * units(b) + (units(c) << 24);
        nearest(exact, if sum.is_sign_negative() { 0x8000 } else { 0 })
    });
    check("fma.rn.relu.f16 %d16, %a16, %b16, %c16; WIDEN16", &inputs, |a, b, c| {
        let sum = h(a) * h(b) + h(c);
        if sum.is_nan() {
            return NAN16;
        }
        if !finite(sum) {
            return special(sum.max(0.0));
        }
        let exact = units(a) * units(b) + (units(c) << 24);
        if exact <= 0 { 0 } else { nearest(exact, 0) }
    });
    check("add.sat.f16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| {
        let sum = h(a) + h(b);
        if sum.is_nan() || sum <= 0.0 {
            return 0;
        }
        if sum >= 1.0 { 0x3c00 } else { nearest((units(a) + units(b)) << 24, 0).min(0x3c00) }
    });
    check("add.ftz.f16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| {
        let flush = |x: u64| if x & 0x7c00 == 0 { x & 0x8000 } else { x };
        let (a, b) = (flush(a), flush(b));
        let sum = h(a) + h(b);
        if !finite(sum) {
            return special(sum);
        }
        flush(nearest((units(a) + units(b)) << 24, to_f16(sum as f32)))
    });
}

#[test]
fn arithmetic_in_bf16() {
    // Near 1 everything is exact in i128; the edges are checked through f64.
    let inputs = triples(&[0x3f80, 0xbf80, 0x3f81, 0x4000], 20_000, |rng| rng.next() & 0x87ff | 0x3c00);
    let value = |bits: u64| bf16::from_bits(bits as u16).to_f64();
    // Sums and products of 8-bit significands within 16 powers of two are exact in f64.
    let round = |x: f64| {
        let low = (x.abs() as f32).to_bits() as u64 >> 16;
        let candidates = [low.saturating_sub(1), low, low + 1];
        let best = candidates.into_iter().min_by(|&p, &q| {
            let distance = |bits: u64| (value(bits) - x.abs()).abs();
            distance(p).total_cmp(&distance(q)).then((p & 1).cmp(&(q & 1)))
        });
        best.unwrap() | if x.is_sign_negative() { 0x8000 } else { 0 }
    };
    check("add.bf16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| round(value(a) + value(b)));
    check("mul.bf16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| round(value(a) * value(b)));
    check("fma.rn.bf16 %d16, %a16, %b16, %c16; WIDEN16", &inputs, |a, b, c| round(value(a) * value(b) + value(c)));
    // A product among the smallest subnormals: f32 would round it twice.
    check("mul.bf16 %d16, 0x2003, 0x1fab; WIDEN16", &[[0, 0, 0]], |_, _, _| {
        let exact = value(0x2003) * value(0x1fab) * 2f64.powi(133);
        exact.round_ties_even() as u64
    });
}

#[test]
fn pairs() {
    let inputs = triples(&[0x3c00_bc00, 0x7c00_0001, 0x7e00_8000], 3000, |rng| rng.next() & 0xffff_ffff);
    for (pair, single) in [("fma.rn.f16x2", "fma.rn.f16"), ("fma.rn.bf16x2", "fma.rn.bf16")] {
        let split = "mov.b32 {%x0, %x1}, %a32; mov.b32 {%y0, %y1}, %b32; mov.b32 {%z0, %z1}, %c32;";
        let body = format!(
            ".reg .b16 %x<2>, %y<2>, %z<2>; {split}
             {single} %x0, %x0, %y0, %z0; {single} %x1, %x1, %y1, %z1; mov.b32 %r3, {{%x0, %x1}};
             {pair} %d32, %a32, %b32, %c32; xor.b32 %d32, %d32, %r3; WIDEN32"
        );
        check(&body, &inputs, |_, _, _| 0);
    }
    for op in ["add", "sub", "mul", "min", "max", "max.NaN"] {
        for ty in ["f16", "bf16"] {
            let body = format!(
                ".reg .b16 %x<2>, %y<2>; mov.b32 {{%x0, %x1}}, %a32; mov.b32 {{%y0, %y1}}, %b32;
                 {op}.{ty} %x0, %x0, %y0; {op}.{ty} %x1, %x1, %y1; mov.b32 %r3, {{%x0, %x1}};
                 {op}.{ty}x2 %d32, %a32, %b32; xor.b32 %d32, %d32, %r3; WIDEN32"
            );
            check(&body, &inputs, |_, _, _| 0);
        }
    }
    check("neg.f16x2 %d32, %a32; and.b32 %d32, %d32, 0x80008000; WIDEN32", &[[0x3c00_bc00, 0, 0]], |_, _, _| {
        0x8000_0000
    });
}

#[test]
fn extremes() {
    let inputs = triples(&HALF_EDGES, 5000, |rng| rng.next() & 0xffff);
    let h = |bits: u64| f16::from_bits(bits as u16);
    let maximum = move |a: u64, b: u64| match (h(a).is_nan(), h(b).is_nan()) {
        (true, true) => NAN16,
        (true, _) => b,
        (_, true) => a,
        _ => {
            if h(a).total_cmp(&h(b)).is_gt() {
                a
            } else {
                b
            }
        }
    };
    check("max.f16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| maximum(a, b));
    check("max.NaN.f16 %d16, %a16, %b16; WIDEN16", &inputs, |a, b, _| {
        if h(a).is_nan() || h(b).is_nan() { NAN16 } else { maximum(a, b) }
    });
    check("setp.lt.f16 %p1, %a16, %b16; selp.u64 %d, 1, 0, %p1;", &inputs, |a, b, _| u64::from(h(a) < h(b)));
    check(
        "setp.geu.f16x2 %p1|%p2, %a32, %b32; selp.u32 %r2, 1, 0, %p1; selp.u32 %r3, 2, 0, %p2; or.b32 %d32, %r2, %r3; WIDEN32",
        &triples(&[0x3c00_7e00, 0xbc00_3c00], 2000, |rng| rng.next() & 0xffff_ffff),
        |a, b, _| u64::from(!(h(a) < h(b))) + 2 * u64::from(!(h(a >> 16) < h(b >> 16))),
    );
    check("set.gt.f16x2.f16x2 %d32, %a32, %b32; WIDEN32", &[[0x4000_3c00, 0x3c00_3c00, 0]], |_, _, _| 0x3c00_0000);
}

fn float_inputs() -> Vec<[u64; 3]> {
    let edges: Vec<u64> = [
        0.0f32,
        -0.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        0.49999997,
        127.5,
        128.0,
        255.5,
        32767.5,
        65535.5,
        2147483520.0,
        2147483648.0,
        -2147483648.0,
        4294967040.0,
        4294967296.0,
        9.3e18,
        -9.3e18,
        1.9e19,
        1e30,
        -1e30,
        1e-40,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
    ]
    .iter()
    .map(|x| u64::from(x.to_bits()))
    .collect();
    let mut inputs: Vec<[u64; 3]> = edges.iter().map(|&a| [a, 0, 0]).collect();
    let mut rng = Random(5);
    inputs.extend((0..5000).map(|_| {
        let value = (rng.next() as i64 >> (rng.below(60))) as f32 / 8.0;
        [u64::from(value.to_bits()), 0, 0]
    }));
    inputs
}

#[test]
fn floats_to_integers() {
    type Rounding = fn(f64) -> f64;
    let modes: [(&str, Rounding); 4] =
        [("rni", f64::round_ties_even), ("rzi", f64::trunc), ("rmi", f64::floor), ("rpi", f64::ceil)];
    for (mode, round) in modes {
        let rounded = |a: u64| round(f64::from(f(a)));
        check(&format!("cvt.{mode}.s32.f32 %d32, %a32; WIDEN32"), &float_inputs(), |a, _, _| {
            u64::from(rounded(a) as i32 as u32)
        });
        check(&format!("cvt.{mode}.u32.f32 %d32, %a32; WIDEN32"), &float_inputs(), |a, _, _| {
            u64::from(rounded(a) as u32)
        });
        check(&format!("cvt.{mode}.s16.f32 %d16, %a32; WIDEN16"), &float_inputs(), |a, _, _| {
            u64::from(rounded(a) as i16 as u16)
        });
        check(
            &format!("cvt.{mode}.u8.f32 %d32, %a32; WIDEN32"),
            &float_inputs(),
            |a, _, _| u64::from(rounded(a) as u8),
        );
        check(&format!("cvt.{mode}.s64.f32 %d, %a32;"), &float_inputs(), |a, _, _| {
            // Documented: NaN becomes the lowest integer where 64 bits are involved.
            if f(a).is_nan() { 1 << 63 } else { rounded(a) as i64 as u64 }
        });
        check(&format!("cvt.{mode}.f32.f32 %d32, %a32; WIDEN32"), &float_inputs(), |a, _, _| {
            canonical(rounded(a) as f32)
        });
        check(&format!("cvt.f64.f32 %d, %a32; cvt.{mode}.s32.f64 %d32, %d; WIDEN32"), &float_inputs(), |a, _, _| {
            if f(a).is_nan() { 1 << 31 } else { u64::from(rounded(a) as i32 as u32) }
        });
        check(&format!("cvt.f64.f32 %d, %a32; cvt.{mode}.u64.f64 %d, %d;"), &float_inputs(), |a, _, _| {
            if f(a).is_nan() { 1 << 63 } else { rounded(a) as u64 }
        });
    }
    check("cvt.rzi.s32.f16 %d32, %a16; WIDEN32", &all_halves(), |a, _, _| {
        u64::from(f16::from_bits(a as u16).to_f32() as i32 as u32)
    });
    check("cvt.sat.f32.f32 %d32, %a32; WIDEN32", &float_inputs(), |a, _, _| {
        canonical(if f(a).is_nan() { 0.0 } else { f(a).max(0.0).min(1.0) + 0.0 })
    });
    check("cvt.ftz.f32.f32 %d32, %a32; WIDEN32", &float_inputs(), |a, _, _| {
        canonical(if f(a).is_subnormal() { 0.0 } else { f(a) })
    });
}

#[test]
fn integers_to_floats_and_integers() {
    let inputs = triples(&[0, 1, 0x7fff_ffff, u64::MAX, 1 << 63, 0x0100_0001, 0x0180_0001], 3000, |rng| {
        let value = rng.next();
        value >> (value % 64)
    });
    check("cvt.rn.f32.s32 %d32, %a32; WIDEN32", &inputs, |a, _, _| canonical(a as i32 as f32));
    check("cvt.rn.f32.u32 %d32, %a32; WIDEN32", &inputs, |a, _, _| canonical(a as u32 as f32));
    check("cvt.rn.f32.u64 %d32, %a; WIDEN32", &inputs, |a, _, _| canonical(a as f32));
    check("cvt.rn.f32.s64 %d32, %a; WIDEN32", &inputs, |a, _, _| canonical(a as i64 as f32));
    check("cvt.rn.f64.s64 %d, %a;", &inputs, |a, _, _| (a as i64 as f64).to_bits());
    check("cvt.rn.f64.u64 %d, %a;", &inputs, |a, _, _| (a as f64).to_bits());
    check("cvt.rz.f32.u32 %d32, %a32; WIDEN32", &inputs, |a, _, _| {
        let near = a as u32 as f32;
        canonical(if f64::from(near) > f64::from(a as u32) { near.next_down() } else { near })
    });
    check("cvt.rn.f16.s32 %d16, %a32; WIDEN16", &inputs, |a, _, _| {
        u64::from(f16::from_f64(f64::from(a as i32)).to_bits())
    });
    check("cvt.rn.f32.f64 %d32, %a; WIDEN32", &inputs, |a, _, _| canonical(f64::from_bits(a) as f32));
    check("cvt.s64.s32 %d, %a32;", &inputs, |a, _, _| a as i32 as i64 as u64);
    check("cvt.u64.u32 %d, %a32;", &inputs, |a, _, _| u64::from(a as u32));
    check("cvt.s32.s8 %d32, %a32; WIDEN32", &inputs, |a, _, _| u64::from(a as i8 as i32 as u32));
    check("cvt.u32.u8 %d32, %a32; WIDEN32", &inputs, |a, _, _| a & 0xff);
    check("cvt.s8.s32 %d32, %a32; WIDEN32", &inputs, |a, _, _| u64::from(a as i8 as i32 as u32));
    check("cvt.s64.s16 %d, %a16;", &inputs, |a, _, _| a as i16 as i64 as u64);
    check("cvt.u16.u64 %d16, %a; WIDEN16", &inputs, |a, _, _| a & 0xffff);
    check("cvt.sat.s16.s32 %d16, %a32; WIDEN16", &inputs, |a, _, _| u64::from((a as i32).clamp(-32768, 32767) as u16));
    check("cvt.sat.u8.s32 %d32, %a32; WIDEN32", &inputs, |a, _, _| (a as i32).clamp(0, 255) as u64);
    check("cvt.sat.u32.s64 %d32, %a; WIDEN32", &inputs, |a, _, _| (a as i64).clamp(0, 0xffff_ffff) as u64);
}
