//! What one lane computes in floating point: bit-exact and without branches, so that loops over
//! lanes become vector code.

use crate::lower::op::{Mode, Round, Test};

use super::soft;

/// NVIDIA's canonical NaN in f32.
pub(super) const NAN32: u32 = 0x7fff_ffff;
/// The canonical NaN in f64.
pub(super) const NAN64: u64 = 0x7ff8_0000_0000_0000;

#[inline(always)]
pub(super) fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

/// Bits of a result, with the canonical NaN.
#[inline(always)]
#[allow(clippy::eq_op, reason = "the idiom for NaN that vectorises")]
pub(super) fn bits(value: f32) -> u32 {
    if value != value { NAN32 } else { value.to_bits() }
}

#[inline(always)]
fn is_nan64(x: u64) -> bool {
    x & !(1 << 63) > 0x7ff0_0000_0000_0000
}

/// A result in f64. "NaN payloads are supported for double-precision instructions": the first NaN among
/// the operands is the result, made quiet; an operation without one that has no result makes the
/// canonical NaN.
#[inline(always)]
pub(super) fn propagate64<const N: usize>(operands: [u64; N], result: u64) -> u64 {
    if !is_nan64(result) {
        return result;
    }
    operands.into_iter().find(|&x| is_nan64(x)).map_or(NAN64, |x| x | 1 << 51)
}

/// A conversion to f64, whose NaN is the canonical one.
#[inline(always)]
pub(super) fn bits64(value: f64) -> u64 {
    if value.is_nan() { NAN64 } else { value.to_bits() }
}

/// A subnormal becomes a zero of its sign.
#[inline(always)]
pub(super) fn flush(x: u32) -> u32 {
    if x & 0x7f80_0000 == 0 { x & 0x8000_0000 } else { x }
}

#[inline(always)]
pub(super) fn flush_if(on: bool, x: u32) -> u32 {
    if on { flush(x) } else { x }
}

/// Clamps a result to [0, 1]; NaN becomes 0.
#[inline(always)]
pub(super) fn saturate(x: u32) -> u32 {
    let value = f(x);
    if value > 0.0 { if value < 1.0 { x } else { 0x3f80_0000 } } else { 0 }
}

/// What follows the arithmetic of an instruction.
#[inline(always)]
pub(super) fn finish(m: Mode, x: u32) -> u32 {
    let x = flush_if(m.has(Mode::FTZ), x);
    if m.has(Mode::SAT) { saturate(x) } else { x }
}

/// Maps floats to integers of the same order; -0 is below +0.
#[inline(always)]
fn key(x: u32) -> i32 {
    (x ^ ((x as i32 >> 31) as u32 >> 1)) as i32
}

#[inline(always)]
pub(super) fn is_nan(x: u32) -> bool {
    x & 0x7fff_ffff > 0x7f80_0000
}

/// Minimum (or maximum): a NaN loses against a number, unless `.NaN`.
#[inline(always)]
pub(super) fn extremum(m: Mode, maximum: bool, a: u32, b: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let (a, b) = (flush_if(ftz, a), flush_if(ftz, b));
    let xorsign = m.has(Mode::XORSIGN);
    let sign = (a ^ b) & 0x8000_0000;
    let (a, b) = if xorsign { (a & 0x7fff_ffff, b & 0x7fff_ffff) } else { (a, b) };
    let first = (key(a) < key(b)) != maximum;
    let chosen = if first { a } else { b };
    let chosen = if is_nan(a) { b } else { chosen };
    let chosen = if is_nan(b) { a } else { chosen };
    let poisoned = is_nan(chosen) || (m.has(Mode::NAN) && (is_nan(a) || is_nan(b)));
    let result = if xorsign { chosen | sign } else { chosen };
    if poisoned { NAN32 } else { result }
}

/// The same in f64.
pub(super) fn extremum64(maximum: bool, a: u64, b: u64) -> u64 {
    let (x, y) = (f64::from_bits(a), f64::from_bits(b));
    let key = |x: u64| (x ^ ((x as i64 >> 63) as u64 >> 1)) as i64;
    match (x.is_nan(), y.is_nan()) {
        (true, true) => propagate64([a, b], a),
        (true, false) => b,
        (false, true) => a,
        _ if (key(a) < key(b)) != maximum => a,
        _ => b,
    }
}

/// `a * b + c` with any modifiers.
#[inline(always)]
pub(super) fn fma_general(m: Mode, a: u32, b: u32, c: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let [a, b, c] = [flush_if(ftz, a), flush_if(ftz, b), flush_if(ftz, c)];
    let result = match m.round() {
        Round::Nearest | Round::NearestAway => bits(f(a).mul_add(f(b), f(c))),
        round => fma_directed(round, a, b, c),
    };
    finish(m, result)
}

/// `a * b + c`, rounded in a direction: in f64 the product is exact and so is the error of the sum,
/// which tells on which side of the nearest f32 the exact result lies.
#[inline(always)]
fn fma_directed(round: Round, a: u32, b: u32, c: u32) -> u32 {
    let (down, up) = (round == Round::Down, round == Round::Up);
    let product = f64::from(f(a)) * f64::from(f(b));
    let addend = f64::from(f(c));
    let sum = product + addend;
    let part = sum - product;
    let error = (product - (sum - part)) + (addend - part);
    let near = sum as f32;
    let difference = f64::from(near) - sum;
    let lower = difference > error && (down || (!up && sum > 0.0));
    let raise = difference < error && (up || (!down && sum < 0.0));
    let negative = near.to_bits() >> 31 != 0;
    let outward = near.to_bits().wrapping_add(1);
    let inward = near.to_bits().wrapping_sub(1);
    let lowered = if negative { outward } else { inward };
    let raised = if negative { inward } else { outward };
    let moved = if lower { lowered } else { near.to_bits() };
    let moved = if raise { raised } else { moved };
    // Opposite numbers cancel to -0 towards minus infinity; zeros of one sign keep it.
    let signs = product.to_bits() & addend.to_bits() >> 63 << 63 != 0;
    let zero =
        if signs || (down && (product != 0.0 || product.to_bits() != addend.to_bits())) { 0x8000_0000 } else { 0 };
    let moved = if sum == 0.0 { zero } else { moved };
    if sum.is_finite() { moved } else { bits(near) }
}

/// Addition and multiplication by way of a fused one. The zero added to a product has the
/// product's sign, so that it never changes the sign of a zero.
#[inline(always)]
pub(super) fn add_general(m: Mode, a: u32, b: u32) -> u32 {
    fma_general(m, a, 1f32.to_bits(), b)
}

#[inline(always)]
pub(super) fn mul_general(m: Mode, a: u32, b: u32) -> u32 {
    fma_general(m, a, b, (a ^ b) & 0x8000_0000)
}

pub(super) fn div_general(m: Mode, a: u32, b: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let [a, b] = [a, b].map(|x| u64::from(flush_if(ftz, x)));
    finish(m, soft::F32.divide(a, b, m.round()) as u32)
}

pub(super) fn sqrt_general(m: Mode, a: u32) -> u32 {
    let a = u64::from(flush_if(m.has(Mode::FTZ), a));
    finish(m, soft::F32.square_root(a, m.round()) as u32)
}

/// `div.approx`: as documented, a divisor beyond 2^126 gives 0, and NaN for infinite dividends.
#[inline(always)]
pub(super) fn div_approx(m: Mode, a: u32, b: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let (a, b) = (flush_if(ftz, a), flush_if(ftz, b));
    let magnitude = b & 0x7fff_ffff;
    let result = bits(f(a) / f(b));
    let huge = magnitude > 0x7e80_0000 && magnitude < 0x7f80_0000;
    let infinite = a & 0x7fff_ffff == 0x7f80_0000;
    let beyond = if infinite || is_nan(a) { NAN32 } else { (a ^ b) & 0x8000_0000 };
    finish(m, if huge { beyond } else { result })
}

/// 2^x in f64 for |x| below 1100, with an error below 1e-13: a Taylor series around the nearest
/// integer.
#[inline(always)]
fn exp2_wide(x: f64) -> f64 {
    // Adding and subtracting 1.5 * 2^52 rounds to an integer, which stays in the low bits.
    const ROUNDER: f64 = 6_755_399_441_055_744.0;
    let shifted = x + ROUNDER;
    let whole = shifted - ROUNDER;
    let r = (x - whole) * std::f64::consts::LN_2;
    let mut p = 1.0 / 39_916_800.0;
    p = p * r + 1.0 / 3_628_800.0;
    p = p * r + 1.0 / 362_880.0;
    p = p * r + 1.0 / 40_320.0;
    p = p * r + 1.0 / 5_040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    let exponent = shifted.to_bits().wrapping_add(1023) << 52;
    p * f64::from_bits(exponent)
}

/// `ex2.approx`: 2^x, rounded from f64.
#[inline(always)]
pub(super) fn ex2(m: Mode, x: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let value = f(flush_if(ftz, x));
    // Beyond these the result is 0 or infinity anyway. A NaN passes through both.
    let clamped = if value > 200.0 { 200.0 } else { value };
    let clamped = if clamped < -200.0 { -200.0 } else { clamped };
    let result = bits(exp2_wide(f64::from(clamped)) as f32);
    flush_if(ftz, if is_nan(x) { NAN32 } else { result })
}

/// `lg2.approx`: the binary logarithm, rounded from f64.
#[inline(always)]
pub(super) fn lg2(m: Mode, x: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let flushed = flush_if(ftz, x);
    // In f64 every f32 is normal, so that the exponent field is the exponent.
    let wide = f64::from(f(flushed)).to_bits();
    let offset = wide.wrapping_sub(0x3fe6_a09e_667f_3bcd);
    let exponent = (offset as i64 >> 52) as f64;
    // The mantissa between sqrt(1/2) and sqrt(2).
    let mantissa = f64::from_bits(wide.wrapping_sub(offset & 0xfff0_0000_0000_0000));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let z = s * s;
    let mut p = 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    p = p * z + 1.0;
    let result = (exponent + p * s * (2.0 * std::f64::consts::LOG2_E)) as f32;
    let magnitude = flushed & 0x7fff_ffff;
    let regular = if flushed == 0x7f80_0000 { flushed } else { bits(result) };
    let regular = if flushed >> 31 != 0 || is_nan(flushed) { NAN32 } else { regular };
    flush_if(ftz, if magnitude == 0 { 0xff80_0000 } else { regular })
}

#[inline(always)]
pub(super) fn rcp(m: Mode, x: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    flush_if(ftz, bits(1.0 / f(flush_if(ftz, x))))
}

#[inline(always)]
pub(super) fn sqrt(m: Mode, x: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    flush_if(ftz, bits(f(flush_if(ftz, x)).sqrt()))
}

#[inline(always)]
pub(super) fn rsqrt(m: Mode, x: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let x = flush_if(ftz, x);
    let root = (1.0 / f64::from(f(x)).sqrt()) as f32;
    // The reciprocal root of -0 is minus infinity, which 1/sqrt gives by itself.
    flush_if(ftz, bits(root))
}

pub(super) fn sine(m: Mode, x: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let x = flush_if(ftz, x);
    flush_if(ftz, bits(f64::from(f(x)).sin() as f32))
}

pub(super) fn cosine(m: Mode, x: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let x = flush_if(ftz, x);
    flush_if(ftz, bits(f64::from(f(x)).cos() as f32))
}

pub(super) fn tanh(x: u32) -> u32 {
    bits(f64::from(f(x)).tanh() as f32)
}

pub(super) fn test32(test: Test, x: u32) -> bool {
    let value = f(x);
    match test {
        Test::Finite => value.is_finite(),
        Test::Infinite => value.is_infinite(),
        Test::Number => !value.is_nan(),
        Test::NotANumber => value.is_nan(),
        // The manual: "As a special case, positive and negative zero are considered normal numbers."
        Test::Normal => value.is_normal() || value == 0.0,
        Test::Subnormal => value.is_subnormal(),
    }
}

pub(super) fn test64(test: Test, x: u64) -> bool {
    let value = f64::from_bits(x);
    match test {
        Test::Finite => value.is_finite(),
        Test::Infinite => value.is_infinite(),
        Test::Number => !value.is_nan(),
        Test::NotANumber => value.is_nan(),
        // The manual: "As a special case, positive and negative zero are considered normal numbers."
        Test::Normal => value.is_normal() || value == 0.0,
        Test::Subnormal => value.is_subnormal(),
    }
}

/// A subnormal f16 becomes a zero of its sign.
#[inline(always)]
pub(super) fn flush_f16(h: u32) -> u32 {
    if h & 0x7c00 == 0 { h & 0x8000 } else { h }
}

/// f16 to f32, exactly.
#[inline(always)]
pub(super) fn from_f16(h: u32) -> u32 {
    let magnitude = h & 0x7fff;
    // As an f32 with too small an exponent, subnormal if the f16 is; a product with 2^112 is exact.
    let scaled = (f(magnitude << 13) * f(0x7780_0000)).to_bits();
    let special = if magnitude > 0x7c00 { NAN32 } else { 0x7f80_0000 };
    let magnitude_bits = if magnitude >= 0x7c00 { special } else { scaled };
    if magnitude > 0x7c00 { NAN32 } else { magnitude_bits | (h & 0x8000) << 16 }
}

/// f32 to f16, to nearest even.
#[inline(always)]
pub(super) fn to_f16(x: u32) -> u32 {
    let magnitude = x & 0x7fff_ffff;
    let odd = magnitude >> 13 & 1;
    let normal = magnitude.wrapping_add(0xfff + odd).wrapping_sub(0x3800_0000) >> 13;
    // Adding 0.5 leaves a subnormal's value in the last bits, rounded.
    let subnormal = (f(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let result = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let result = if magnitude >= 0x4780_0000 { 0x7c00 } else { result };
    if magnitude > 0x7f80_0000 { 0x7fff } else { result | x >> 16 & 0x8000 }
}

/// bf16 to f32, exactly.
#[inline(always)]
pub(super) fn from_bf16(h: u32) -> u32 {
    let x = h << 16;
    if is_nan(x) { NAN32 } else { x }
}

/// f32 to bf16, to nearest even.
#[inline(always)]
pub(super) fn to_bf16(x: u32) -> u32 {
    let rounded = x.wrapping_add(0x7fff + (x >> 16 & 1)) >> 16;
    if is_nan(x) { 0x7fff } else { rounded }
}

/// An f64 as an f32 that is rounded to odd: a further rounding to fewer bits is then exact.
#[inline(always)]
pub(super) fn to_odd(value: f64) -> u32 {
    let near = value as f32;
    let back = f64::from(near);
    let near_bits = near.to_bits();
    let too_large = back.abs() > value.abs();
    let truncated = if too_large { near_bits.wrapping_sub(1) } else { near_bits };
    if back != value { truncated | 1 } else { near_bits }
}

/// `a * b + c` in f32 terms for operands of 11 bits or fewer, rounded to odd.
#[inline(always)]
pub(super) fn fma_odd(a: u32, b: u32, c: u32) -> u32 {
    let (a, b, c) = (f64::from(f(a)), f64::from(f(b)), f64::from(f(c)));
    // The product is exact; two-sum gives the sum's error.
    let p = a * b;
    let s = p + c;
    let t = s - p;
    let error = (p - (s - t)) + (c - t);
    let raw = s.to_bits();
    let outward = (error > 0.0) == (s > 0.0);
    let moved = if outward { raw | 1 } else { raw.wrapping_sub(1) };
    let adjust = error != 0.0 && raw & 1 == 0 && s.is_finite();
    to_odd(f64::from_bits(if adjust { moved } else { raw }))
}
