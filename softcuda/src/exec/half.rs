//! What lanes compute in f16 and bf16.

use crate::lower::op::{Compare, HalfOp, HalfType, Mode};

use super::float::{self, bits, f, fma_odd, from_bf16, from_f16, to_bf16, to_f16, to_odd};
use super::registers::{LANES, Lanes32};

const CANONICAL_NAN: u32 = 0x7fff;

/// A 16-bit format as f32 and back.
trait Format {
    /// The bits of the exponent.
    const EXPONENT: u32;
    fn widen(h: u32) -> u32;
    fn narrow(x: u32) -> u32;
    /// Products of the format's values that f32 cannot hold exactly need another way.
    fn product(a: u32, b: u32) -> u32;
}

struct Half;

impl Format for Half {
    const EXPONENT: u32 = 0x7c00;
    #[inline(always)]
    fn widen(h: u32) -> u32 {
        from_f16(h)
    }
    #[inline(always)]
    fn narrow(x: u32) -> u32 {
        to_f16(x)
    }
    #[inline(always)]
    fn product(a: u32, b: u32) -> u32 {
        bits(f(a) * f(b))
    }
}

struct Brain;

impl Format for Brain {
    const EXPONENT: u32 = 0x7f80;
    #[inline(always)]
    fn widen(h: u32) -> u32 {
        from_bf16(h)
    }
    #[inline(always)]
    fn narrow(x: u32) -> u32 {
        to_bf16(x)
    }
    /// A product of two small numbers is below what f32 holds: it is rounded to odd from f64.
    #[inline(always)]
    fn product(a: u32, b: u32) -> u32 {
        to_odd(f64::from(f(a)) * f64::from(f(b)))
    }
}

/// Applies a function of 16-bit values to every lane, and to both halves if they are packed.
#[inline(always)]
fn each(packed: bool, a: &Lanes32, b: &Lanes32, c: &Lanes32, function: impl Fn(u32, u32, u32) -> u32) -> Lanes32 {
    let mut d = [0; LANES];
    if packed {
        for lane in 0..LANES {
            let low = function(a[lane] & 0xffff, b[lane] & 0xffff, c[lane] & 0xffff);
            d[lane] = low | function(a[lane] >> 16, b[lane] >> 16, c[lane] >> 16) << 16;
        }
    } else {
        for lane in 0..LANES {
            d[lane] = function(a[lane] & 0xffff, b[lane] & 0xffff, c[lane] & 0xffff);
        }
    }
    d
}

pub(super) fn compare_values(function: Compare, x: f32, y: f32) -> bool {
    let unordered = x.is_nan() || y.is_nan();
    match function {
        Compare::Eq => x == y,
        Compare::Ne => !unordered && x != y,
        Compare::Lt => x < y,
        Compare::Le => x <= y,
        Compare::Gt => x > y,
        Compare::Ge => x >= y,
        Compare::UEq => unordered || x == y,
        Compare::UNe => x != y,
        Compare::ULt => unordered || x < y,
        Compare::ULe => unordered || x <= y,
        Compare::UGt => unordered || x > y,
        Compare::UGe => unordered || x >= y,
        Compare::Num => !unordered,
        Compare::Nan => unordered,
    }
}

/// A subnormal becomes a zero of its sign.
fn flush<F: Format>(on: bool, h: u32) -> u32 {
    if on && h & F::EXPONENT == 0 { h & 0x8000 } else { h }
}

/// One value, with any modifiers.
fn general<F: Format>(function: HalfOp, m: Mode, a: u32, b: u32, c: u32) -> u32 {
    let ftz = m.has(Mode::FTZ);
    let [a, b, c] = [a, b, c].map(|h| flush::<F>(ftz, h));
    let [x, y, z] = [a, b, c].map(F::widen);
    let result = match function {
        HalfOp::Add => F::narrow(bits(f(x) + f(y))),
        HalfOp::Sub => F::narrow(bits(f(x) - f(y))),
        HalfOp::Mul => F::narrow(F::product(x, y)),
        HalfOp::Fma => F::narrow(fma_odd(x, y, z)),
        HalfOp::Min | HalfOp::Max => {
            let result = F::narrow(float::extremum(m, function == HalfOp::Max, x, y));
            // The sign bits count even of NaNs, which lose them when they are widened.
            let signs = m.has(Mode::XORSIGN) && !float::is_nan(F::widen(result));
            if signs { result & 0x7fff | (a ^ b) & 0x8000 } else { result }
        }
        HalfOp::Neg => a ^ 0x8000,
        HalfOp::Abs => a & 0x7fff,
        HalfOp::Ex2 => F::narrow(float::ex2(Mode::PLAIN, x)),
        HalfOp::Tanh => F::narrow(float::tanh(x)),
    };
    let result = flush::<F>(ftz, result);
    let value = F::widen(result);
    if m.has(Mode::RELU) && !float::is_nan(value) && value >> 31 != 0 {
        return 0;
    }
    if m.has(Mode::SAT) {
        return F::narrow(float::saturate(value));
    }
    if float::is_nan(value) {
        return CANONICAL_NAN;
    }
    result
}

#[inline(always)]
fn in_format<F: Format>(function: HalfOp, packed: bool, m: Mode, [a, b, c]: [&Lanes32; 3]) -> Lanes32 {
    if m != Mode::PLAIN {
        return each(packed, a, b, c, |x, y, z| general::<F>(function, m, x, y, z));
    }
    match function {
        HalfOp::Add => each(packed, a, b, c, |x, y, _| F::narrow(bits(f(F::widen(x)) + f(F::widen(y))))),
        HalfOp::Sub => each(packed, a, b, c, |x, y, _| F::narrow(bits(f(F::widen(x)) - f(F::widen(y))))),
        HalfOp::Mul => each(packed, a, b, c, |x, y, _| F::narrow(F::product(F::widen(x), F::widen(y)))),
        HalfOp::Fma => each(packed, a, b, c, |x, y, z| F::narrow(fma_odd(F::widen(x), F::widen(y), F::widen(z)))),
        HalfOp::Min => {
            each(packed, a, b, c, |x, y, _| F::narrow(float::extremum(Mode::PLAIN, false, F::widen(x), F::widen(y))))
        }
        HalfOp::Max => {
            each(packed, a, b, c, |x, y, _| F::narrow(float::extremum(Mode::PLAIN, true, F::widen(x), F::widen(y))))
        }
        _ => each(packed, a, b, c, |x, y, z| general::<F>(function, m, x, y, z)),
    }
}

#[inline(always)]
pub(super) fn half(function: HalfOp, t: HalfType, m: Mode, a: &Lanes32, b: &Lanes32, c: &Lanes32) -> Lanes32 {
    if t.bf16() {
        in_format::<Brain>(function, t.packed(), m, [a, b, c])
    } else {
        in_format::<Half>(function, t.packed(), m, [a, b, c])
    }
}

/// Comparison of both halves: a bit per lane for the low and for the high one.
pub(super) fn compare_pairs(t: HalfType, function: Compare, m: Mode, a: &Lanes32, b: &Lanes32) -> (u32, u32) {
    let widen = |h: u32| {
        if t.bf16() { f(from_bf16(h)) } else { f(from_f16(flush::<Half>(m.has(Mode::FTZ), h))) }
    };
    let (mut low, mut high) = (0, 0);
    for lane in 0..LANES {
        let (x, y) = (a[lane], b[lane]);
        let first = compare_values(function, widen(x & 0xffff), widen(y & 0xffff));
        let second = compare_values(function, widen(x >> 16), widen(y >> 16));
        low |= u32::from(first) << lane;
        high |= u32::from(second) << lane;
    }
    (low, high)
}
