//! What lanes compute on 64-bit integers, f64, and pairs of f32.

#![allow(clippy::redundant_closure, reason = "a closure takes on its caller's processor features")]

use crate::lower::op::{Bin64, CarryOp, Mode, Round, Tri64, Un64};

use super::alu::{map1, map2, map3};
use super::float::{self, bits, extremum64, f, flush, propagate64};
use super::registers::Lanes64;
use super::soft::F64;

fn d(x: u64) -> f64 {
    f64::from_bits(x)
}

pub(super) fn mul_hi_s(x: u64, y: u64) -> u64 {
    ((i128::from(x as i64) * i128::from(y as i64)) >> 64) as u64
}

pub(super) fn mul_hi_u(x: u64, y: u64) -> u64 {
    ((u128::from(x) * u128::from(y)) >> 64) as u64
}

/// `.approx.ftz.f64`: of the upper word alone, to the upper word alone; subnormals are zeros.
fn gross(x: u64, function: fn(f64) -> f64) -> u64 {
    let flush = |x: u64| if x & 0x7ff0_0000_0000_0000 == 0 { x & 1 << 63 } else { x };
    let result = function(d(flush(x & !0xffff_ffff)));
    if result.is_nan() {
        return 0x7fff_ffff_0000_0000;
    }
    // To the nearest number with so few bits; carries go where they should.
    let bits = result.to_bits();
    let rounded = if result.is_finite() { bits.wrapping_add(0x8000_0000) } else { bits };
    flush(rounded & !0xffff_ffff)
}

#[inline(always)]
pub(super) fn un64(function: Un64, m: Mode, a: &Lanes64) -> Lanes64 {
    match function {
        Un64::Mov => *a,
        Un64::Not => map1(a, |x| !x),
        Un64::Cnot => map1(a, |x| u64::from(x == 0)),
        Un64::Neg => map1(a, |x| u64::wrapping_neg(x)),
        Un64::Abs => map1(a, |x| (x as i64).wrapping_abs() as u64),
        Un64::Brev => map1(a, |x| u64::reverse_bits(x)),
        Un64::DNeg => map1(a, |x| x ^ 1 << 63),
        Un64::DAbs => map1(a, |x| x & !(1 << 63)),
        Un64::DRcp => map1(a, |x| propagate64([x], F64.divide(1f64.to_bits(), x, m.round()))),
        Un64::DRcpApprox => map1(a, |x| gross(x, |x| 1.0 / x)),
        Un64::DSqrt if m.round() == Round::Nearest => map1(a, |x| propagate64([x], d(x).sqrt().to_bits())),
        Un64::DSqrt => map1(a, |x| propagate64([x], F64.square_root(x, m.round()))),
        Un64::DRsqrtApprox if m.has(Mode::FTZ) => map1(a, |x| gross(x, |x| 1.0 / x.sqrt())),
        Un64::DRsqrtApprox => map1(a, |x| propagate64([x], (1.0 / d(x).sqrt()).to_bits())),
    }
}

/// Applies an f32 function to both halves.
#[inline(always)]
fn halves(function: impl Fn(u32) -> u32, low: u32, high: u32) -> u64 {
    u64::from(function(low)) | u64::from(function(high)) << 32
}

#[inline(always)]
fn pairs(m: Mode, x: u64, y: u64, z: u64) -> u64 {
    let one = |x: u32, y: u32, z: u32| {
        if m == Mode::PLAIN {
            bits(f(x).mul_add(f(y), f(z)))
        } else if m == Mode::FTZ {
            flush(bits(f(flush(x)).mul_add(f(flush(y)), f(flush(z)))))
        } else {
            float::fma_general(m, x, y, z)
        }
    };
    let low = one(x as u32, y as u32, z as u32);
    let high = one((x >> 32) as u32, (y >> 32) as u32, (z >> 32) as u32);
    halves(|x| x, low, high)
}

/// Both halves of 1.0, and both signs.
const ONES: u64 = 0x3f80_0000_3f80_0000;
const SIGNS: u64 = 0x8000_0000_8000_0000;

#[inline(always)]
pub(super) fn bin64(function: Bin64, m: Mode, a: &Lanes64, b: &Lanes64) -> Lanes64 {
    let round = m.round();
    let nearest = round == Round::Nearest;
    match function {
        Bin64::Add => map2(a, b, |x, y| u64::wrapping_add(x, y)),
        Bin64::Sub => map2(a, b, |x, y| u64::wrapping_sub(x, y)),
        Bin64::Mul => map2(a, b, |x, y| u64::wrapping_mul(x, y)),
        Bin64::MulHiS => map2(a, b, |x, y| mul_hi_s(x, y)),
        Bin64::MulHiU => map2(a, b, |x, y| mul_hi_u(x, y)),
        // Division by zero has an unspecified result; the hardware gives all ones.
        Bin64::DivS => map2(a, b, |x, y| match y {
            0 => u64::MAX,
            _ => (x as i64).wrapping_div(y as i64) as u64,
        }),
        Bin64::DivU => map2(a, b, |x, y| x.checked_div(y).unwrap_or(u64::MAX)),
        Bin64::RemS => map2(a, b, |x, y| match y {
            0 => x,
            _ => (x as i64).wrapping_rem(y as i64) as u64,
        }),
        Bin64::RemU => map2(a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
        Bin64::MinS => map2(a, b, |x, y| (x as i64).min(y as i64) as u64),
        Bin64::MinU => map2(a, b, |x, y| u64::min(x, y)),
        Bin64::MaxS => map2(a, b, |x, y| (x as i64).max(y as i64) as u64),
        Bin64::MaxU => map2(a, b, |x, y| u64::max(x, y)),
        Bin64::And => map2(a, b, |x, y| x & y),
        Bin64::Or => map2(a, b, |x, y| x | y),
        Bin64::Xor => map2(a, b, |x, y| x ^ y),
        Bin64::DAdd if nearest => map2(a, b, |x, y| propagate64([x, y], (d(x) + d(y)).to_bits())),
        Bin64::DSub if nearest => map2(a, b, |x, y| propagate64([x, y], (d(x) - d(y)).to_bits())),
        Bin64::DMul if nearest => map2(a, b, |x, y| propagate64([x, y], (d(x) * d(y)).to_bits())),
        Bin64::DDiv if nearest => map2(a, b, |x, y| propagate64([x, y], (d(x) / d(y)).to_bits())),
        Bin64::DAdd => map2(a, b, |x, y| propagate64([x, y], F64.fma(x, 1f64.to_bits(), y, round))),
        Bin64::DSub => map2(a, b, |x, y| propagate64([x, y], F64.fma(x, 1f64.to_bits(), y ^ 1 << 63, round))),
        Bin64::DMul => map2(a, b, |x, y| propagate64([x, y], F64.fma(x, y, (x ^ y) & 1 << 63, round))),
        Bin64::DDiv => map2(a, b, |x, y| propagate64([x, y], F64.divide(x, y, round))),
        Bin64::DMin => map2(a, b, |x, y| extremum64(false, x, y)),
        Bin64::DMax => map2(a, b, |x, y| extremum64(true, x, y)),
        Bin64::DCopySign => map2(a, b, |x, y| (x & 1 << 63) | (y & !(1 << 63))),
        Bin64::AddX2 => map2(a, b, |x, y| pairs(m, x, ONES, y)),
        Bin64::SubX2 => map2(a, b, |x, y| pairs(m, x, ONES, y ^ SIGNS)),
        Bin64::MulX2 => map2(a, b, |x, y| pairs(m, x, y, (x ^ y) & SIGNS)),
    }
}

#[inline(always)]
pub(super) fn tri64(function: Tri64, m: Mode, a: &Lanes64, b: &Lanes64, c: &Lanes64) -> Lanes64 {
    match function {
        Tri64::Mad => map3(a, b, c, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
        Tri64::MadHiS => map3(a, b, c, |x, y, z| mul_hi_s(x, y).wrapping_add(z)),
        Tri64::MadHiU => map3(a, b, c, |x, y, z| mul_hi_u(x, y).wrapping_add(z)),
        Tri64::SadS => map3(a, b, c, |x, y, z| z.wrapping_add((x as i64).abs_diff(y as i64))),
        Tri64::SadU => map3(a, b, c, |x, y, z| z.wrapping_add(x.abs_diff(y))),
        Tri64::DFma if m.round() == Round::Nearest => {
            map3(a, b, c, |x, y, z| propagate64([x, y, z], d(x).mul_add(d(y), d(z)).to_bits()))
        }
        Tri64::DFma => map3(a, b, c, |x, y, z| propagate64([x, y, z], F64.fma(x, y, z, m.round()))),
        Tri64::FmaX2 => map3(a, b, c, |x, y, z| pairs(m, x, y, z)),
    }
}

/// One lane of arithmetic with a carry: the result and the new carry, in `width` bits. For
/// subtraction the carry is a borrow.
pub(super) fn carry(function: CarryOp, wide: bool, [a, b, c]: [u64; 3], carry: bool) -> (u64, bool) {
    let width = if wide { 64 } else { 32 };
    let mask = u64::MAX >> (64 - width);
    let narrow_product = u128::from(a) * u128::from(b);
    let signed_product = if wide {
        i128::from(a as i64) * i128::from(b as i64)
    } else {
        i128::from(a as u32 as i32) * i128::from(b as u32 as i32)
    };
    let (x, y) = match function {
        CarryOp::Add | CarryOp::Sub => (a, b),
        CarryOp::MadLo => (narrow_product as u64 & mask, c),
        CarryOp::MadHiU => ((narrow_product >> width) as u64 & mask, c),
        CarryOp::MadHiS => ((signed_product >> width) as u64 & mask, c),
    };
    let (x, y) = (i128::from(x), i128::from(y));
    let result = if function == CarryOp::Sub { x - y - i128::from(carry) } else { x + y + i128::from(carry) };
    (result as u64 & mask, result >> width & 1 != 0)
}
