//! The rarer instructions against the manual's definitions, bit by bit.

mod ptx_support;

use half::{bf16, f16};
use ptx_support::{Device, Random, check, evaluate, fault, kernel, triples};
use softcuda::fault::FaultKind;

const EDGES: [u64; 16] =
    [0, 1, 2, 5, 31, 32, 33, 0x7f, 0x80, 0x7fff, 0x8000, 0xff_ffff, 0x80_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

fn words() -> Vec<[u64; 3]> {
    triples(&EDGES, 1500, |rng| {
        let value = rng.next() & 0xffff_ffff;
        value >> (value % 32)
    })
}

#[track_caller]
fn check32(body: &str, expected: impl Fn(u32, u32, u32) -> u32) {
    check(&format!("{body} WIDEN32"), &words(), |a, b, c| u64::from(expected(a as u32, b as u32, c as u32)));
}

#[test]
fn dot_products_of_halves_and_bytes() {
    for (first, second) in [("s32", "s32"), ("s32", "u32"), ("u32", "s32"), ("u32", "u32")] {
        for half in ["lo", "hi"] {
            check32(&format!("dp2a.{half}.{first}.{second} %d32, %a32, %b32, %c32;"), |a, b, c| {
                let wide = |x: u32| if first == "s32" { i128::from(x as i16) } else { i128::from(x as u16) };
                let byte = |x: u32| if second == "s32" { i128::from(x as i8) } else { i128::from(x as u8) };
                let at = if half == "hi" { 16 } else { 0 };
                let sum = wide(a) * byte(b >> at) + wide(a >> 16) * byte(b >> (at + 8));
                (sum + i128::from(c)) as u32
            });
        }
        check32(&format!("dp4a.{first}.{second} %d32, %a32, %b32, %c32;"), |a, b, c| {
            let byte = |x: u32, ty: &str| if ty == "s32" { i128::from(x as i8) } else { i128::from(x as u8) };
            let sum: i128 = (0..4).map(|i| byte(a >> (8 * i), first) * byte(b >> (8 * i), second)).sum();
            (sum + i128::from(c)) as u32
        });
    }
}

#[test]
fn products_of_24_bits() {
    let signed = |x: u32| i64::from((x << 8) as i32 >> 8);
    let unsigned = |x: u32| u64::from(x & 0xff_ffff);
    check32("mul24.hi.s32 %d32, %a32, %b32;", |a, b, _| ((signed(a) * signed(b)) >> 16) as u32);
    check32("mul24.hi.u32 %d32, %a32, %b32;", |a, b, _| ((unsigned(a) * unsigned(b)) >> 16) as u32);
    check32("mad24.hi.u32 %d32, %a32, %b32, %c32;", |a, b, c| {
        (((unsigned(a) * unsigned(b)) >> 16) as u32).wrapping_add(c)
    });
    check32("mad24.hi.s32 %d32, %a32, %b32, %c32;", |a, b, c| (((signed(a) * signed(b)) >> 16) as u32).wrapping_add(c));
    check32("mad24.hi.sat.s32 %d32, %a32, %b32, %c32;", |a, b, c| {
        let sum = i128::from((signed(a) * signed(b)) >> 16) + i128::from(c as i32);
        sum.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as u32
    });
    check32("mad.hi.sat.s32 %d32, %a32, %b32, %c32;", |a, b, c| {
        let product = (i128::from(a as i32) * i128::from(b as i32)) >> 32;
        (product + i128::from(c as i32)).clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as u32
    });
}

#[test]
fn extremes_that_are_not_negative() {
    check32("min.relu.s32 %d32, %a32, %b32;", |a, b, _| (a as i32).min(b as i32).max(0) as u32);
    check32("max.s32.relu %d32, %a32, %b32;", |a, b, _| (a as i32).max(b as i32).max(0) as u32);
    let halves = |a: u32, b: u32, f: fn(i16, i16) -> i16| {
        let part = |shift: u32| u32::from(f((a >> shift) as i16, (b >> shift) as i16) as u16) << shift;
        part(0) | part(16)
    };
    check32("min.relu.s16x2 %d32, %a32, %b32;", |a, b, _| halves(a, b, |a, b| a.min(b).max(0)));
    check32("max.relu.s16x2 %d32, %a32, %b32;", |a, b, _| halves(a, b, |a, b| a.max(b).max(0)));
    check32("vabsdiff2.u32.u32.u32 %d32, %a32, %b32, %c32;", |a, b, _| {
        halves(a, b, |a, b| (a as u16).abs_diff(b as u16) as i16)
    });
    check32("vabsdiff2.u32.u32.u32.add %d32, %a32, %b32, %c32;", |a, b, c| {
        let distance = |shift: u32| u32::from(((a >> shift) as u16).abs_diff((b >> shift) as u16));
        c.wrapping_add(distance(0)).wrapping_add(distance(16))
    });
}

/// The manual's loop.
fn find_nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    if offset == 0 {
        return if mask >> base & 1 != 0 { base } else { u32::MAX };
    }
    let (mut place, mut left) = (base as i32, offset.unsigned_abs() - 1);
    while (0..32).contains(&place) {
        if mask >> place & 1 != 0 {
            if left == 0 {
                return place as u32;
            }
            left -= 1;
        }
        place += offset.signum();
    }
    u32::MAX
}

#[test]
fn masks_and_places_of_bits() {
    check32(
        "and.b32 %b32, %b32, 31; and.b32 %c32, %c32, 15; sub.s32 %c32, %c32, 8; fns.b32 %d32, %a32, %b32, %c32;",
        |a, b, c| find_nth_set(a, b & 31, (c & 15) as i32 - 8),
    );
    // As the manual computes them.
    check32("bmsk.clamp.b32 %d32, %a32, %b32;", |a, b, _| {
        (0..32).filter(|&bit| bit >= u64::from(a) && bit < u64::from(a) + u64::from(b)).fold(0, |d, bit| d | 1 << bit)
    });
    check32("bmsk.wrap.b32 %d32, %a32, %b32;", |a, b, _| {
        (0..32).filter(|&bit| bit >= a & 31 && bit < (a & 31) + (b & 31)).fold(0, |d, bit| d | 1 << bit)
    });
    let extend = |a: u32, width: u32, signed: bool| match width {
        0 => 0,
        32.. => a,
        _ => {
            let low = a & ((1 << width) - 1);
            if signed && low >> (width - 1) != 0 { low | u32::MAX << width } else { low }
        }
    };
    check32("szext.clamp.u32 %d32, %a32, %b32;", |a, b, _| extend(a, b, false));
    check32("szext.clamp.s32 %d32, %a32, %b32;", |a, b, _| extend(a, b, true));
    check32("szext.wrap.u32 %d32, %a32, %b32;", |a, b, _| extend(a, b & 31, false));
    check32("szext.wrap.s32 %d32, %a32, %b32;", |a, b, _| extend(a, b & 31, true));
    check32("bfind.shiftamt.s32 %d32, %a32;", |a, _, _| {
        let significant = if (a as i32) < 0 { !a } else { a };
        if significant == 0 { u32::MAX } else { significant.leading_zeros() }
    });
}

#[test]
fn tables_of_logic_with_a_predicate() {
    let table = |a: u32, b: u32, c: u32, lut: u8| {
        (0..32).fold(0, |d, bit| {
            let pick = |x: u32| x >> bit & 1;
            d | u32::from(lut >> (pick(a) << 2 | pick(b) << 1 | pick(c)) & 1) << bit
        })
    };
    for lut in 0..=255u8 {
        let inputs = triples(&[0, 0x0f0f_3355], 4, |rng| rng.next() & 0xffff_ffff);
        check(&format!("lop3.b32 %d32, %a32, %b32, %c32, {lut}; WIDEN32"), &inputs, |a, b, c| {
            u64::from(table(a as u32, b as u32, c as u32, lut))
        });
    }
    for (name, lut) in [("or", 0x80), ("and", 0x80), ("and", 0x96), ("or", 0)] {
        for target in ["%d32|%p1", "_|%p1"] {
            let body = format!(
                "mov.u32 %d32, 0; setp.gt.s32 %p2, %c32, 5;
                 lop3.{name}.b32 {target}, %a32, %b32, %c32, {lut}, %p2;
                 selp.u64 %rd1, 0x100000000, 0, %p1; cvt.u64.u32 %d, %d32; or.b64 %d, %d, %rd1;"
            );
            check(&body, &words(), |a, b, c| {
                let result = table(a as u32, b as u32, c as u32, lut);
                let other = c as i32 > 5;
                let holds = if name == "or" { result != 0 || other } else { result != 0 && other };
                u64::from(holds) << 32 | if target.starts_with('_') { 0 } else { u64::from(result) }
            });
        }
    }
}

#[test]
fn every_mode_of_byte_permutation() {
    let modes: [(&str, [u32; 4]); 6] = [
        ("f4e", [0x3210, 0x4321, 0x5432, 0x6543]),
        ("b4e", [0x5670, 0x6701, 0x7012, 0x0123]),
        ("rc8", [0x0000, 0x1111, 0x2222, 0x3333]),
        ("ecl", [0x3210, 0x3211, 0x3222, 0x3333]),
        ("ecr", [0x0000, 0x1110, 0x2210, 0x3210]),
        ("rc16", [0x1010, 0x3232, 0x1010, 0x3232]),
    ];
    for (mode, selectors) in modes {
        check32(&format!("prmt.b32.{mode} %d32, %a32, %b32, %c32;"), |a, b, c| {
            let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
            let selector = selectors[c as usize & 3];
            u32::from_le_bytes([0, 4, 8, 12].map(|shift| bytes[(selector >> shift & 7) as usize]))
        });
    }
}

#[test]
fn chains_of_carries_are_wide_arithmetic() {
    let wide = triples(&[0, 1, u64::MAX, 1 << 63, 0xffff_ffff, 0xffff_ffff_0000_0000], 1500, Random::next);
    let value = |a: u64, b: u64| u128::from(a) << 64 | u128::from(b);
    // 128 bits from four pieces of 32: the upper word of (a:b) + (c:a) and of (a:b) - (c:a).
    let split = "mov.b64 {%r2, %r3}, %a; mov.b64 {%r4, %r5}, %b; mov.b64 {%r6, %r7}, %c;";
    check(
        &format!(
            "{split} add.cc.u32 %r8, %r4, %r2; addc.cc.u32 %r8, %r5, %r3;
             addc.cc.u32 %r8, %r2, %r6; addc.u32 %r9, %r3, %r7; mov.b64 %d, {{%r8, %r9}};"
        ),
        &wide,
        |a, b, c| (value(a, b).wrapping_add(value(c, a)) >> 64) as u64,
    );
    check(
        &format!(
            "{split} sub.cc.u32 %r8, %r4, %r2; subc.cc.u32 %r8, %r5, %r3;
             subc.cc.u32 %r8, %r2, %r6; subc.u32 %r9, %r3, %r7; mov.b64 %d, {{%r8, %r9}};"
        ),
        &wide,
        |a, b, c| (value(a, b).wrapping_sub(value(c, a)) >> 64) as u64,
    );
    check("add.cc.s64 %rd1, %b, %a; addc.s64 %d, %a, %c;", &wide, |a, b, c| {
        (value(a, b).wrapping_add(value(c, a)) >> 64) as u64
    });
    // The upper half of a * b + (c:0) with one carry from the lower.
    check("mad.lo.cc.u64 %rd1, %a, %b, %c; madc.hi.u64 %d, %a, %b, 0;", &wide, |a, b, c| {
        ((u128::from(a) * u128::from(b) + u128::from(c)) >> 64) as u64
    });
    check("mad.lo.cc.s64 %rd1, %a, %b, %c; madc.hi.s64 %d, %a, %b, 0;", &wide, |a, b, c| {
        ((i128::from(a as i64) * i128::from(b as i64)).wrapping_add(i128::from(c)) >> 64) as u64
    });
    // The carry says what did not fit.
    check("mad.hi.cc.u64 %rd1, %a, %b, %c; addc.u64 %d, 0, 0;", &wide, |a, b, c| {
        let high = (u128::from(a) * u128::from(b)) >> 64;
        ((high + u128::from(c)) >> 64) as u64
    });
    check("sub.cc.u64 %rd1, %a, %b; subc.u64 %d, 0, 0;", &wide, |a, b, _| if a < b { u64::MAX } else { 0 });
}

/// Division by zero and of the least number by -1, as hardware has them.
#[test]
fn divisions_without_a_quotient() {
    let inputs = [[7, 0, 0], [0x8000_0000, 0xffff_ffff, 0], [0x8000_0000_0000_0000, u64::MAX, 0]];
    assert_eq!(evaluate("div.u32 %d32, %a32, %b32; WIDEN32", &inputs)[0], 0xffff_ffff);
    assert_eq!(evaluate("rem.u32 %d32, %a32, %b32; WIDEN32", &inputs)[0], 7);
    assert_eq!(evaluate("div.s32 %d32, %a32, %b32; WIDEN32", &inputs)[1], 0x8000_0000);
    assert_eq!(evaluate("rem.s32 %d32, %a32, %b32; WIDEN32", &inputs)[1], 0);
    assert_eq!(evaluate("div.u64 %d, %a, %b;", &inputs)[0], u64::MAX);
    assert_eq!(evaluate("div.s64 %d, %a, %b;", &inputs)[2], 0x8000_0000_0000_0000);
    assert_eq!(evaluate("rem.s64 %d, %a, %b;", &inputs)[2], 0);
    assert_eq!(evaluate("abs.s64 %d, %a;", &inputs)[2], 0x8000_0000_0000_0000);
    assert_eq!(evaluate("neg.s32 %d32, %a32; WIDEN32", &inputs)[1], 0x8000_0000);
}

#[test]
fn packed_integer_conversions() {
    for (bits, signed) in [(2, false), (2, true), (4, false), (4, true), (8, false), (8, true)] {
        let ty = format!("{}{bits}", if signed { "s" } else { "u" });
        let limit = |x: u32| {
            let (least, most) = if signed { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
            (x as i32).clamp(least, most) as u32 & ((1 << bits) - 1)
        };
        check32(&format!("cvt.pack.sat.{ty}.s32.b32 %d32, %a32, %b32, %c32;"), |a, b, c| {
            limit(b) | limit(a) << bits | c << (2 * bits)
        });
    }
    check32("cvt.pack.sat.u16.s32 %d32, %a32, %b32;", |a, b, _| {
        (b as i32).clamp(0, 0xffff) as u32 | ((a as i32).clamp(0, 0xffff) as u32) << 16
    });
    check32("cvt.pack.sat.s16.s32 %d32, %a32, %b32;", |a, b, _| {
        let limit = |x: u32| (x as i32).clamp(-0x8000, 0x7fff) as u32 & 0xffff;
        limit(b) | limit(a) << 16
    });
}

fn floats() -> Vec<[u64; 3]> {
    let edges: Vec<u64> =
        [0.0f32, -0.0, 1.0, -1.0, 448.0, 464.0, 480.0, 57344.0, 61440.0, 65504.0, 65520.0, 1e-9, f32::MAX]
            .iter()
            .map(|x| u64::from(x.to_bits()))
            .chain([
                0x7f80_0000,
                0xff80_0000,
                0x7fff_ffff,
                0x7f80_0001,
                0xffc0_0000,
                1,
                0x8000_0001,
                0x007f_ffff,
                0x7f7f_f000,
            ])
            .collect();
    let mut inputs = triples(&edges, 2000, |rng| rng.next() & 0xffff_ffff);
    let mut rng = Random(8);
    // Around the range of the narrow formats.
    inputs.extend((0..4000).map(|_| [(); 3].map(|()| rng.next() & 0x83ff_ffff | 0x3800_0000)));
    inputs
}

/// The value of an 8-bit number: `mantissa` bits, the rest exponent and sign. `None` for NaN and infinities.
fn byte_value(bits: u8, mantissa: u32) -> Option<f64> {
    let (exponent, fraction) = (u32::from(bits & 0x7f) >> mantissa, u32::from(bits) & ((1 << mantissa) - 1));
    let bias = if mantissa == 3 { 7 } else { 15 };
    let special = if mantissa == 3 { bits & 0x7f == 0x7f } else { exponent == 31 };
    let unit = 2f64.powi(-(mantissa as i32));
    let magnitude = match exponent {
        0 => f64::from(fraction) * unit * 2f64.powi(1 - bias),
        _ => (1.0 + f64::from(fraction) * unit) * 2f64.powi(exponent as i32 - bias),
    };
    (!special).then_some(if bits & 0x80 != 0 { -magnitude } else { magnitude })
}

/// The nearest 8-bit number, found by looking at all.
fn nearest_byte(x: f64, mantissa: u32) -> u64 {
    if x.is_nan() {
        return 0x7f;
    }
    let distance = |bits: u8| (byte_value(bits, mantissa).unwrap() - x.abs()).abs();
    let all = (0..0x80u8).filter(|&bits| byte_value(bits, mantissa).is_some());
    let best = all.min_by(|&p, &q| distance(p).total_cmp(&distance(q)).then((p & 1).cmp(&(q & 1)))).unwrap();
    u64::from(best) | if x.is_sign_negative() { 0x80 } else { 0 }
}

#[test]
fn eight_bit_floats() {
    let f = |bits: u64| f64::from(f32::from_bits(bits as u32));
    for (ty, mantissa) in [("e4m3x2", 3), ("e5m2x2", 2)] {
        // Far beyond the range, where distances still differ.
        let finite = |x: f64| x.clamp(-1e6, 1e6);
        let byte = |x: f64| nearest_byte(finite(x), mantissa);
        check(&format!("cvt.rn.satfinite.{ty}.f32 %d16, %a32, %b32; WIDEN16"), &floats(), |a, b, _| {
            byte(f(a)) << 8 | byte(f(b))
        });
        check(&format!("cvt.rn.satfinite.relu.{ty}.f32 %d16, %a32, %b32; WIDEN16"), &floats(), |a, b, _| {
            let relu = |x: f64| if x.is_nan() || x > 0.0 { x } else { 0.0 };
            byte(relu(f(a))) << 8 | byte(relu(f(b)))
        });
        let halves: Vec<[u64; 3]> = (0..0x1_0000u64).map(|bits| [bits << 16 | bits.swap_bytes() >> 48, 0, 0]).collect();
        check(&format!("cvt.rn.satfinite.{ty}.f16x2 %d16, %a32; WIDEN16"), &halves, |a, _, _| {
            let h = |bits: u64| byte(f16::from_bits(bits as u16).to_f64());
            h(a >> 16) << 8 | h(a)
        });
        let all: Vec<[u64; 3]> = (0..0x1_0000).map(|bits| [bits, 0, 0]).collect();
        check(&format!("cvt.rn.f16x2.{ty} %d32, %a16; WIDEN32"), &all, |a, _, _| {
            let wide = |bits: u64| match byte_value(bits as u8, mantissa) {
                Some(x) => u64::from(f16::from_f64(x).to_bits()),
                None if mantissa == 2 && bits & 3 == 0 => (bits & 0x80) << 8 | 0x7c00,
                None => 0x7fff,
            };
            wide(a >> 8) << 16 | wide(a & 0xff)
        });
    }
}

#[test]
fn tf32() {
    let nan = |a: u64| f32::from_bits(a as u32).is_nan();
    let infinite = |a: u64| f32::from_bits(a as u32).is_infinite();
    let nearest = |a: u64| (a + 0xfff + (a >> 13 & 1)) & 0xffff_e000;
    check("cvt.rn.tf32.f32 %d32, %a32; WIDEN32", &floats(), |a, _, _| if nan(a) { 0x7fff_e000 } else { nearest(a) });
    check(
        "cvt.rz.tf32.f32 %d32, %a32; WIDEN32",
        &floats(),
        |a, _, _| {
            if nan(a) { 0x7fff_e000 } else { a & 0xffff_e000 }
        },
    );
    check("cvt.rn.relu.tf32.f32 %d32, %a32; WIDEN32", &floats(), |a, _, _| match a {
        a if nan(a) => 0x7fff_e000,
        a if a >> 31 != 0 => 0,
        a => nearest(a),
    });
    check("cvt.rna.tf32.f32 %d32, %a32; WIDEN32", &floats(), |a, _, _| {
        let cut = a & 0xffff_e000;
        match () {
            // A NaN stays one even if the bits that tell are cut.
            () if nan(a) => {
                if nan(cut) {
                    cut
                } else {
                    0x7fff_e000
                }
            }
            () if infinite(a) => a,
            () => (a + 0x1000) & 0xffff_e000,
        }
    });
    check("cvt.rn.satfinite.tf32.f32 %d32, %a32; WIDEN32", &floats(), |a, _, _| match nearest(a) {
        _ if nan(a) => 0x7fff_e000,
        rounded if rounded & 0x7fff_ffff == 0x7f80_0000 => rounded - 0x2000,
        rounded => rounded,
    });
}

#[test]
fn saturation_to_the_largest_finite_number() {
    let f = |bits: u64| f32::from_bits(bits as u32);
    check("cvt.rn.satfinite.f16.f32 %d16, %a32; WIDEN16", &floats(), |a, _, _| match f16::from_f32(f(a)) {
        h if h.is_nan() => 0x7fff,
        h if h.is_infinite() => u64::from(h.to_bits()) - 1,
        h => u64::from(h.to_bits()),
    });
    check("cvt.rn.satfinite.bf16x2.f32 %d32, %a32, %b32; WIDEN32", &floats(), |a, b, _| {
        let part = |x: u64| match bf16::from_f32(f(x)) {
            h if h.is_nan() => 0x7fff,
            h if h.is_infinite() => u64::from(h.to_bits()) - 1,
            h => u64::from(h.to_bits()),
        };
        part(a) << 16 | part(b)
    });
}

/// A mixed-precision instruction is its operands' conversion and then the plain one.
#[test]
fn mixed_precision() {
    for ty in ["f16", "bf16"] {
        for (round, sat) in [("", ""), (".rz", ""), (".rm", ""), (".rp", ".sat"), (".rn", ".sat")] {
            let widen = format!("cvt.f32.{ty} %r2, %a16; cvt.f32.{ty} %r3, %b16;");
            for (mixed, plain) in [
                (
                    format!("add{round}{sat}.f32.{ty} %d32, %a16, %b32;"),
                    format!("add{round}{sat}.f32 %d32, %r2, %b32;"),
                ),
                (
                    format!("sub{round}{sat}.f32.{ty} %d32, %a16, %b32;"),
                    format!("sub{round}{sat}.f32 %d32, %r2, %b32;"),
                ),
                (
                    format!(
                        "fma{}{sat}.f32.{ty} %d32, %a16, %b16, %c32;",
                        if round.is_empty() { ".rn" } else { round }
                    ),
                    format!("fma{}{sat}.f32 %d32, %r2, %r3, %c32;", if round.is_empty() { ".rn" } else { round }),
                ),
            ] {
                let (mixed, plain) = (format!("{mixed} WIDEN32"), format!("{widen} {plain} WIDEN32"));
                assert_eq!(evaluate(&mixed, &floats()), evaluate(&plain, &floats()), "{mixed}");
            }
        }
    }
    check("add.f32.f16 %d32, %a16, %b32; WIDEN32", &floats(), |a, b, _| {
        let sum = f16::from_bits(a as u16).to_f32() + f32::from_bits(b as u32);
        u64::from(if sum.is_nan() { 0x7fff_ffff } else { sum.to_bits() })
    });
}

#[test]
fn comparisons_of_pairs_with_a_predicate() {
    let pairs = triples(&[0x3c00_7e00, 0xbc00_3c00, 0x0000_8000], 3000, |rng| rng.next() & 0xffff_ffff);
    let less = |a: u64, b: u64| f16::from_bits(a as u16).to_f32() < f16::from_bits(b as u16).to_f32();
    type Combine = fn(bool, bool) -> bool;
    let combinations: [(&str, Combine); 3] = [("and", |x, y| x && y), ("or", |x, y| x || y), ("xor", |x, y| x != y)];
    for (name, combine) in combinations {
        let both = |a: u64, b: u64, c: u64| [0, 16].map(|shift| combine(less(a >> shift, b >> shift), c as i32 > 5));
        check(
            &format!(
                "setp.gt.s32 %p3, %c32, 5; setp.lt.{name}.f16x2 %p1|%p2, %a32, %b32, %p3;
                 selp.u32 %r2, 1, 0, %p1; selp.u32 %r3, 2, 0, %p2; or.b32 %d32, %r2, %r3; WIDEN32"
            ),
            &pairs,
            |a, b, c| {
                let [low, high] = both(a, b, c);
                u64::from(low) + 2 * u64::from(high)
            },
        );
        for (ty, one) in [("u32", 0xffffu64), ("f16x2", 0x3c00)] {
            let body = format!("setp.gt.s32 %p3, %c32, 5; set.lt.{name}.{ty}.f16x2 %d32, %a32, %b32, %p3; WIDEN32");
            check(&body, &pairs, |a, b, c| {
                let [low, high] = both(a, b, c).map(|holds| if holds { one } else { 0 });
                low | high << 16
            });
        }
    }
    check("set.geu.bf16x2.bf16x2 %d32, %a32, %b32; WIDEN32", &pairs, |a, b, _| {
        let part = |a: u64, b: u64| {
            let below = bf16::from_bits(a as u16).to_f32() < bf16::from_bits(b as u16).to_f32();
            if below { 0 } else { 0x3f80 }
        };
        part(a, b) | part(a >> 16, b >> 16) << 16
    });
}

#[test]
fn extremes_of_three() {
    let f = |bits: u64| f32::from_bits(bits as u32);
    let bits = |x: f32| u64::from(if x.is_nan() { 0x7fff_ffff } else { x.to_bits() });
    // Numbers of different magnitude, so that signs of zeros do not matter here.
    let inputs: Vec<[u64; 3]> = floats().into_iter().filter(|row| row.iter().all(|&x| f(x).abs() > 1e-30)).collect();
    check("max.abs.f32 %d32, %a32, %b32, %c32; WIDEN32", &inputs, |a, b, c| {
        bits(f(a).abs().max(f(b).abs()).max(f(c).abs()))
    });
    check("min.NaN.abs.f32 %d32, %a32, %b32, %c32; WIDEN32", &inputs, |a, b, c| {
        let any = f(a).is_nan() || f(b).is_nan() || f(c).is_nan();
        bits(if any { f32::NAN } else { f(a).abs().min(f(b).abs()).min(f(c).abs()) })
    });
    check("min.f32 %d32, %a32, %b32, %c32; WIDEN32", &inputs, |a, b, c| bits(f(a).min(f(b)).min(f(c))));
}

#[test]
fn differences_of_pairs_of_f32() {
    let f = |bits: u64| f32::from_bits(bits as u32);
    let bits = |x: f32| u64::from(if x.is_nan() { 0x7fff_ffff } else { x.to_bits() });
    let inputs = triples(&[0x3f80_0000_0000_0001, 0xbf80_0000_7f80_0000], 800, Random::next);
    check("sub.f32x2 %d, %a, %b;", &inputs, |a, b, _| bits(f(a) - f(b)) | bits(f(a >> 32) - f(b >> 32)) << 32);
    let parts = "mov.b64 {%r2, %r3}, %a; mov.b64 {%r4, %r5}, %b;";
    for mode in ["rz", "rm.ftz", "rp"] {
        let single =
            format!("{parts} sub.{mode}.f32 %r2, %r2, %r4; sub.{mode}.f32 %r3, %r3, %r5; mov.b64 %d, {{%r2, %r3}};");
        let pair = format!("sub.{mode}.f32x2 %d, %a, %b;");
        assert_eq!(evaluate(&pair, &inputs), evaluate(&single, &inputs), "{mode}");
    }
}

#[test]
fn atomics_on_vectors() {
    let device = Device::new();
    let floats = device.upload(&[1f32, 2.0, 3.0, 4.0]);
    let body = "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; cvt.rn.f32.u32 %f1, %r1; mov.f32 %f2, 0f3F800000;
         red.global.add.v4.f32 [%rd1], {%f1, %f2, %f2, %f1};";
    device.launch(&kernel(body), 2, 64, &[floats, 0, 0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(device.download::<f32>(floats, 4), [4033.0, 130.0, 131.0, 4036.0]);
    // The old values come back, each before its own change.
    let old = device.upload(&[0f32; 2]);
    let body = "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.f32 %f1, 0f40000000; mov.f32 %f2, 0f40400000;
         atom.global.v2.f32.add {%f2, %f1}, [%rd1], {%f1, %f2}; st.global.v2.f32 [%rd2], {%f2, %f1};";
    device.launch(&kernel(body), 1, 1, &[floats, old, 0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(device.download::<f32>(old, 2), [4033.0, 130.0]);
    assert_eq!(device.download::<f32>(floats, 2), [4035.0, 133.0]);
    // Halves, with minimum and maximum.
    let halves = device.upload(&[0x3c00u16, 0xbc00, 0x4000, 0x7fff]);
    let body = "ld.param.u64 %rd1, [p0]; mov.b16 %h1, 0x3800; mov.b32 %r1, 0x38003800;
         red.global.min.noftz.v2.f16 [%rd1], {%h1, %h1}; red.global.max.noftz.v2.f16x2 [%rd1], {%r1, %r1};";
    let refused = device.launch(&kernel(body), 1, 1, &[halves, 0, 0, 0]);
    refused.unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(device.download::<u16>(halves, 4), [0x3800, 0x3800, 0x4000, 0x3800]);
    // A vector is aligned as a whole.
    let skewed = "ld.param.u64 %rd1, [p0]; add.s64 %rd1, %rd1, 8; mov.f32 %f1, 0f3F800000;
         red.global.add.v4.f32 [%rd1], {%f1, %f1, %f1, %f1};";
    let large = device.upload(&[0f32; 8]);
    fault(device.launch(&kernel(skewed), 1, 1, &[large, 0, 0, 0]), FaultKind::Misaligned);
    let aligned = skewed.replace("%rd1, 8", "%rd1, 16");
    device.launch(&kernel(&aligned), 1, 1, &[large, 0, 0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn wide_loads_and_stores() {
    let device = Device::new();
    let input: Vec<u32> = (0..64).map(|i| i * 0x0101_0101).collect();
    let (from, to) = (device.upload(&input), device.upload(&[0u32; 64]));
    let names: Vec<String> = (10..18).map(|i| format!("%r{i}")).collect();
    let words = names.join(", ");
    let body = format!(
        "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd3, %r1, 64;
         add.s64 %rd1, %rd1, %rd3; add.s64 %rd2, %rd2, %rd3;
         ld.global.nc.L1::no_allocate.L2::256B.v8.b32 {{{words}}}, [%rd1]; st.global.v8.b32 [%rd2], {{{words}}};
         ld.global.v4.b64 {{%rd10, %rd11, %rd12, %rd13}}, [%rd1+32]; st.global.v4.b64 [%rd2+32], {{%rd10, %rd11, %rd12, %rd13}};"
    );
    device.launch(&kernel(&body), 1, 4, &[from, to, 0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(device.download::<u32>(to, 64), input);
    let skewed = body.replace("mul.wide.u32 %rd3, %r1, 64;", "mul.wide.u32 %rd3, %r1, 16;");
    fault(device.launch(&kernel(&skewed), 1, 2, &[from, to, 0, 0]), FaultKind::Misaligned);
}
