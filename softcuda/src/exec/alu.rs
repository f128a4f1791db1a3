//! What lanes compute on integers and f32: one loop over the lanes for each function.

#![allow(clippy::redundant_closure, reason = "a closure takes on its caller's processor features")]

use crate::lower::op::{Bin32, Compare, CompareType, Mode, Round, Tri32, Un32, Wide};

use super::float::{self, bits, f, flush_if};
use super::integer::{
    bfe_s, bfe_u, bfind, convert_pack, distances, dp2a, dp4a, find_nth_set, funnel, half_distances, lop3, mul_hi_s,
    mul_hi_u, mul24_hi_s, mul24_hi_u, pair16, prmt, relu16, s16, sar, shl, shr, signed_magnitude_bits,
};
use super::registers::{LANES, Lanes32, Lanes64};

#[inline(always)]
pub(super) fn map1<A: Copy, D: Copy + Default>(a: &[A; LANES], function: impl Fn(A) -> D) -> [D; LANES] {
    let mut d = [D::default(); LANES];
    for lane in 0..LANES {
        d[lane] = function(a[lane]);
    }
    d
}

#[inline(always)]
pub(super) fn map2<A: Copy, B: Copy, D: Copy + Default>(
    a: &[A; LANES],
    b: &[B; LANES],
    function: impl Fn(A, B) -> D,
) -> [D; LANES] {
    let mut d = [D::default(); LANES];
    for lane in 0..LANES {
        d[lane] = function(a[lane], b[lane]);
    }
    d
}

#[inline(always)]
pub(super) fn map3<A: Copy, B: Copy, C: Copy, D: Copy + Default>(
    a: &[A; LANES],
    b: &[B; LANES],
    c: &[C; LANES],
    function: impl Fn(A, B, C) -> D,
) -> [D; LANES] {
    let mut d = [D::default(); LANES];
    for lane in 0..LANES {
        d[lane] = function(a[lane], b[lane], c[lane]);
    }
    d
}

/// A bit for each lane for which the function is true.
#[inline(always)]
fn compare<A: Copy>(a: &[A; LANES], b: &[A; LANES], function: impl Fn(A, A) -> bool) -> u32 {
    let mut result = 0;
    for lane in 0..LANES {
        result |= u32::from(function(a[lane], b[lane])) << lane;
    }
    result
}

#[inline(always)]
pub(super) fn un32(function: Un32, m: Mode, a: &Lanes32) -> Lanes32 {
    let ftz = m.has(Mode::FTZ);
    let nearest = m.round() == Round::Nearest;
    match function {
        Un32::Mov => *a,
        Un32::Not => map1(a, |x| !x),
        Un32::Not16 => map1(a, |x| !x & 0xffff),
        Un32::Cnot => map1(a, |x| u32::from(x == 0)),
        Un32::Cnot16 => map1(a, |x| u32::from(x & 0xffff == 0)),
        Un32::Neg => map1(a, |x| u32::wrapping_neg(x)),
        Un32::Neg16 => map1(a, |x| x.wrapping_neg() & 0xffff),
        Un32::Abs => map1(a, |x| (x as i32).wrapping_abs() as u32),
        Un32::Abs16 => map1(a, |x| s16(x).wrapping_abs() as u32 & 0xffff),
        Un32::Popc => map1(a, |x| u32::count_ones(x)),
        Un32::Clz => map1(a, |x| u32::leading_zeros(x)),
        Un32::Brev => map1(a, |x| u32::reverse_bits(x)),
        Un32::BfindU => map1(a, |x| bfind(x, false)),
        Un32::BfindS => map1(a, |x| bfind(signed_magnitude_bits(x), false)),
        Un32::BfindShiftU => map1(a, |x| bfind(x, true)),
        Un32::BfindShiftS => map1(a, |x| bfind(signed_magnitude_bits(x), true)),
        Un32::FNeg => map1(a, |x| flush_if(ftz, bits(f(x ^ 0x8000_0000)))),
        Un32::FAbs => map1(a, |x| flush_if(ftz, bits(f(x & 0x7fff_ffff)))),
        Un32::FRcp if !nearest => map1(a, |x| float::div_general(m, 1f32.to_bits(), x)),
        Un32::FRcp | Un32::FRcpApprox if ftz => map1(a, |x| float::rcp(Mode::FTZ, x)),
        Un32::FRcp | Un32::FRcpApprox => map1(a, |x| float::rcp(Mode::PLAIN, x)),
        Un32::FSqrt if !nearest => map1(a, |x| float::sqrt_general(m, x)),
        Un32::FSqrt | Un32::FSqrtApprox if ftz => map1(a, |x| float::sqrt(Mode::FTZ, x)),
        Un32::FSqrt | Un32::FSqrtApprox => map1(a, |x| float::sqrt(Mode::PLAIN, x)),
        Un32::FRsqrtApprox => map1(a, |x| float::rsqrt(m, x)),
        Un32::FEx2 if ftz => map1(a, |x| float::ex2(Mode::FTZ, x)),
        Un32::FEx2 => map1(a, |x| float::ex2(Mode::PLAIN, x)),
        Un32::FLg2 if ftz => map1(a, |x| float::lg2(Mode::FTZ, x)),
        Un32::FLg2 => map1(a, |x| float::lg2(Mode::PLAIN, x)),
        Un32::FSin => map1(a, |x| float::sine(m, x)),
        Un32::FCos => map1(a, |x| float::cosine(m, x)),
        Un32::FTanh => map1(a, |x| float::tanh(x)),
    }
}

/// A function with fast loops for no modifier and for `.ftz` alone, and a slow one for the rest.
macro_rules! float2 {
    ($m:expr, $a:expr, $b:expr, $fast:expr, $general:expr) => {{
        let fast = $fast;
        if $m == Mode::PLAIN {
            map2($a, $b, |x, y| bits(fast(f(x), f(y))))
        } else if $m == Mode::FTZ {
            map2($a, $b, |x, y| float::flush(bits(fast(f(float::flush(x)), f(float::flush(y))))))
        } else {
            map2($a, $b, |x, y| $general($m, x, y))
        }
    }};
}

#[inline(always)]
pub(super) fn bin32(function: Bin32, m: Mode, a: &Lanes32, b: &Lanes32) -> Lanes32 {
    match function {
        Bin32::Add => map2(a, b, |x, y| u32::wrapping_add(x, y)),
        Bin32::Add16 => map2(a, b, |x, y| x.wrapping_add(y) & 0xffff),
        Bin32::Add16x2 => {
            map2(a, b, |x, y| x.wrapping_add(y) & 0xffff | (x & 0xffff_0000).wrapping_add(y & 0xffff_0000))
        }
        Bin32::MinS16x2 => map2(a, b, |x, y| pair16(x, y, |x, y| relu16(m, (x as i16).min(y as i16)))),
        Bin32::MinU16x2 => map2(a, b, |x, y| pair16(x, y, |x, y| x.min(y))),
        Bin32::MaxS16x2 => map2(a, b, |x, y| pair16(x, y, |x, y| relu16(m, (x as i16).max(y as i16)))),
        Bin32::MaxU16x2 => map2(a, b, |x, y| pair16(x, y, |x, y| x.max(y))),
        Bin32::AddSat => map2(a, b, |x, y| (x as i32).saturating_add(y as i32) as u32),
        Bin32::Sub => map2(a, b, |x, y| u32::wrapping_sub(x, y)),
        Bin32::Sub16 => map2(a, b, |x, y| x.wrapping_sub(y) & 0xffff),
        Bin32::SubSat => map2(a, b, |x, y| (x as i32).saturating_sub(y as i32) as u32),
        Bin32::Mul => map2(a, b, |x, y| u32::wrapping_mul(x, y)),
        Bin32::Mul16 => map2(a, b, |x, y| x.wrapping_mul(y) & 0xffff),
        Bin32::MulHiS => map2(a, b, |x, y| mul_hi_s(x, y)),
        Bin32::MulHiU => map2(a, b, |x, y| mul_hi_u(x, y)),
        Bin32::MulHiS16 => map2(a, b, |x, y| (s16(x) * s16(y)) as u32 >> 16),
        Bin32::MulHiU16 => map2(a, b, |x, y| (x & 0xffff).wrapping_mul(y & 0xffff) >> 16),
        Bin32::MulWideS16 => map2(a, b, |x, y| (s16(x) * s16(y)) as u32),
        Bin32::MulWideU16 => map2(a, b, |x, y| (x & 0xffff).wrapping_mul(y & 0xffff)),
        Bin32::Mul24S => map2(a, b, |x, y| ((x as i32) << 8 >> 8).wrapping_mul((y as i32) << 8 >> 8) as u32),
        Bin32::Mul24U => map2(a, b, |x, y| (x & 0xff_ffff).wrapping_mul(y & 0xff_ffff)),
        Bin32::Mul24HiS => map2(a, b, |x, y| mul24_hi_s(x, y)),
        Bin32::Mul24HiU => map2(a, b, |x, y| mul24_hi_u(x, y)),
        // Division by zero has an unspecified result; the hardware gives all ones.
        Bin32::DivS => map2(a, b, |x, y| match y {
            0 => u32::MAX,
            _ => (x as i32).wrapping_div(y as i32) as u32,
        }),
        Bin32::DivU => map2(a, b, |x, y| x.checked_div(y).unwrap_or(u32::MAX)),
        Bin32::DivS16 => map2(a, b, |x, y| match s16(y) {
            0 => 0xffff,
            y => s16(x).wrapping_div(y) as u32 & 0xffff,
        }),
        Bin32::RemS => map2(a, b, |x, y| match y {
            0 => x,
            _ => (x as i32).wrapping_rem(y as i32) as u32,
        }),
        Bin32::RemU => map2(a, b, |x, y| x.checked_rem(y).unwrap_or(x)),
        Bin32::RemS16 => map2(a, b, |x, y| match s16(y) {
            0 => x,
            y => s16(x).wrapping_rem(y) as u32 & 0xffff,
        }),
        Bin32::MinS if m.has(Mode::RELU) => map2(a, b, |x, y| (x as i32).min(y as i32).max(0) as u32),
        Bin32::MaxS if m.has(Mode::RELU) => map2(a, b, |x, y| (x as i32).max(y as i32).max(0) as u32),
        Bin32::MinS => map2(a, b, |x, y| (x as i32).min(y as i32) as u32),
        Bin32::MinU => map2(a, b, |x, y| u32::min(x, y)),
        Bin32::MinS16 => map2(a, b, |x, y| s16(x).min(s16(y)) as u32 & 0xffff),
        Bin32::MaxS => map2(a, b, |x, y| (x as i32).max(y as i32) as u32),
        Bin32::MaxU => map2(a, b, |x, y| u32::max(x, y)),
        Bin32::MaxS16 => map2(a, b, |x, y| s16(x).max(s16(y)) as u32 & 0xffff),
        Bin32::And => map2(a, b, |x, y| x & y),
        Bin32::Or => map2(a, b, |x, y| x | y),
        Bin32::Xor => map2(a, b, |x, y| x ^ y),
        Bin32::Shl => map2(a, b, |x, y| shl(x, y)),
        Bin32::Shl16 => map2(a, b, |x, y| shl(x, y) & 0xffff),
        Bin32::ShrS => map2(a, b, |x, y| sar(x, y)),
        Bin32::ShrU => map2(a, b, |x, y| shr(x, y)),
        Bin32::ShrS16 => map2(a, b, |x, y| sar(s16(x) as u32, y) & 0xffff),
        Bin32::Bmsk => map2(a, b, |x, y| shl(shl(1, y).wrapping_sub(1), x)),
        Bin32::BmskWrap => map2(a, b, |x, y| shl(shl(1, y & 31).wrapping_sub(1), x & 31)),
        Bin32::SzextS => map2(a, b, |x, y| bfe_s(x, 0, y.min(32))),
        Bin32::SzextU => map2(a, b, |x, y| bfe_u(x, 0, y.min(32))),
        Bin32::SzextWrapS => map2(a, b, |x, y| bfe_s(x, 0, y & 31)),
        Bin32::SzextWrapU => map2(a, b, |x, y| bfe_u(x, 0, y & 31)),
        Bin32::FAdd => float2!(m, a, b, |x: f32, y: f32| x + y, float::add_general),
        Bin32::FSub => {
            float2!(m, a, b, |x: f32, y: f32| x - y, |m, x, y: u32| { float::add_general(m, x, y ^ 0x8000_0000) })
        }
        Bin32::FMul => float2!(m, a, b, |x: f32, y: f32| x * y, float::mul_general),
        Bin32::FDiv => float2!(m, a, b, |x: f32, y: f32| x / y, float::div_general),
        Bin32::FDivFull => float2!(m, a, b, |x: f32, y: f32| x / y, float::div_general),
        Bin32::FDivApprox => map2(a, b, |x, y| float::div_approx(m, x, y)),
        Bin32::FMin if m == Mode::PLAIN => map2(a, b, |x, y| float::extremum(Mode::PLAIN, false, x, y)),
        Bin32::FMax if m == Mode::PLAIN => map2(a, b, |x, y| float::extremum(Mode::PLAIN, true, x, y)),
        Bin32::FMin => map2(a, b, |x, y| float::extremum(m, false, x, y)),
        Bin32::FMax => map2(a, b, |x, y| float::extremum(m, true, x, y)),
        Bin32::CopySign => map2(a, b, |x, y| (x & 0x8000_0000) | (y & 0x7fff_ffff)),
    }
}

#[inline(always)]
pub(super) fn tri32(function: Tri32, m: Mode, lut: u8, a: &Lanes32, b: &Lanes32, c: &Lanes32) -> Lanes32 {
    match function {
        Tri32::Mad => map3(a, b, c, |x, y, z| x.wrapping_mul(y).wrapping_add(z)),
        Tri32::Mad16 => map3(a, b, c, |x, y, z| x.wrapping_mul(y).wrapping_add(z) & 0xffff),
        Tri32::MadHiS => map3(a, b, c, |x, y, z| mul_hi_s(x, y).wrapping_add(z)),
        Tri32::MadHiU => map3(a, b, c, |x, y, z| mul_hi_u(x, y).wrapping_add(z)),
        Tri32::MadHiSatS => map3(a, b, c, |x, y, z| (mul_hi_s(x, y) as i32).saturating_add(z as i32) as u32),
        Tri32::Mad24S => map3(a, b, c, |x, y, z| {
            let product = ((x as i32) << 8 >> 8).wrapping_mul((y as i32) << 8 >> 8);
            (product as u32).wrapping_add(z)
        }),
        Tri32::Mad24U => map3(a, b, c, |x, y, z| (x & 0xff_ffff).wrapping_mul(y & 0xff_ffff).wrapping_add(z)),
        Tri32::Mad24HiS if m.has(Mode::SAT) => {
            map3(a, b, c, |x, y, z| (mul24_hi_s(x, y) as i32).saturating_add(z as i32) as u32)
        }
        Tri32::Mad24HiS => map3(a, b, c, |x, y, z| mul24_hi_s(x, y).wrapping_add(z)),
        Tri32::Mad24HiU => map3(a, b, c, |x, y, z| mul24_hi_u(x, y).wrapping_add(z)),
        Tri32::MadWideS16 => map3(a, b, c, |x, y, z| ((s16(x) * s16(y)) as u32).wrapping_add(z)),
        Tri32::MadWideU16 => map3(a, b, c, |x, y, z| (x & 0xffff).wrapping_mul(y & 0xffff).wrapping_add(z)),
        Tri32::SadS => map3(a, b, c, |x, y, z| z.wrapping_add((x as i32).abs_diff(y as i32))),
        Tri32::SadU => map3(a, b, c, |x, y, z| z.wrapping_add(x.abs_diff(y))),
        Tri32::SadS16 => map3(a, b, c, |x, y, z| z.wrapping_add(s16(x).abs_diff(s16(y))) & 0xffff),
        Tri32::SadU16 => map3(a, b, c, |x, y, z| z.wrapping_add((x & 0xffff).abs_diff(y & 0xffff)) & 0xffff),
        Tri32::Lop3 => map3(a, b, c, |x, y, z| lop3(x, y, z, lut)),
        Tri32::Prmt
        | Tri32::PrmtF4e
        | Tri32::PrmtB4e
        | Tri32::PrmtRc8
        | Tri32::PrmtEcl
        | Tri32::PrmtEcr
        | Tri32::PrmtRc16 => map3(a, b, c, |x, y, z| prmt(function, x, y, z)),
        Tri32::BfeS => map3(a, b, c, |x, y, z| bfe_s(x, y, z)),
        Tri32::BfeU => map3(a, b, c, |x, y, z| bfe_u(x, y, z)),
        Tri32::ShfL | Tri32::ShfLWrap | Tri32::ShfR | Tri32::ShfRWrap => {
            map3(a, b, c, |x, y, z| funnel(function, x, y, z))
        }
        Tri32::SadBytes => {
            map3(a, b, c, |x, y, z| distances(x, y).into_iter().fold(z, |sum, d| sum.wrapping_add(u32::from(d))))
        }
        Tri32::DistanceBytes => map3(a, b, c, |x, y, _| u32::from_le_bytes(distances(x, y))),
        Tri32::SadHalves => {
            map3(a, b, c, |x, y, z| half_distances(x, y).into_iter().fold(z, |sum, d| sum.wrapping_add(d)))
        }
        Tri32::DistanceHalves => map3(a, b, c, |x, y, _| half_distances(x, y)[0] | half_distances(x, y)[1] << 16),
        Tri32::Dp2a => map3(a, b, c, |x, y, z| dp2a(lut, x, y, z)),
        Tri32::Fns => map3(a, b, c, |x, y, z| find_nth_set(x, y, z as i32)),
        Tri32::CvtPack => map3(a, b, c, |x, y, z| convert_pack(lut, x, y, z)),
        Tri32::Dp4aSS => map3(a, b, c, |x, y, z| dp4a(true, true, x, y, z)),
        Tri32::Dp4aSU => map3(a, b, c, |x, y, z| dp4a(true, false, x, y, z)),
        Tri32::Dp4aUS => map3(a, b, c, |x, y, z| dp4a(false, true, x, y, z)),
        Tri32::Dp4aUU => map3(a, b, c, |x, y, z| dp4a(false, false, x, y, z)),
        Tri32::FFma if m == Mode::PLAIN => map3(a, b, c, |x, y, z| bits(f(x).mul_add(f(y), f(z)))),
        Tri32::FFma if m == Mode::FTZ => map3(a, b, c, |x, y, z| {
            let flush = float::flush;
            flush(bits(f(flush(x)).mul_add(f(flush(y)), f(flush(z)))))
        }),
        Tri32::FFma => map3(a, b, c, |x, y, z| float::fma_general(m, x, y, z)),
        Tri32::FMin3 | Tri32::FMax3 => map3(a, b, c, |x, y, z| {
            let keep = if m.has(Mode::ABS) { 0x7fff_ffff } else { u32::MAX };
            let [x, y, z] = [x & keep, y & keep, z & keep];
            let maximum = function == Tri32::FMax3;
            float::extremum(m, maximum, float::extremum(m, maximum, x, y), z)
        }),
    }
}

#[inline(always)]
pub(super) fn wide(function: Wide, a: &Lanes32, b: &Lanes32, c: &Lanes64) -> Lanes64 {
    let signed = |x: u32, y: u32| (i64::from(x as i32) * i64::from(y as i32)) as u64;
    let unsigned = |x: u32, y: u32| u64::from(x) * u64::from(y);
    match function {
        Wide::MulS => map2(a, b, |x, y| signed(x, y)),
        Wide::MulU => map2(a, b, |x, y| unsigned(x, y)),
        Wide::MadS => map3(a, b, c, |x, y, z| signed(x, y).wrapping_add(z)),
        Wide::MadU => map3(a, b, c, |x, y, z| unsigned(x, y).wrapping_add(z)),
    }
}

/// A comparison of ordered values.
#[inline(always)]
fn ordered<A: Copy + PartialOrd>(function: Compare, a: &[A; LANES], b: &[A; LANES]) -> u32 {
    match function {
        Compare::Eq | Compare::UEq => compare(a, b, |x, y| x == y),
        Compare::Ne | Compare::UNe => compare(a, b, |x, y| x != y),
        Compare::Lt | Compare::ULt => compare(a, b, |x, y| x < y),
        Compare::Le | Compare::ULe => compare(a, b, |x, y| x <= y),
        Compare::Gt | Compare::UGt => compare(a, b, |x, y| x > y),
        Compare::Ge | Compare::UGe => compare(a, b, |x, y| x >= y),
        Compare::Num => u32::MAX,
        Compare::Nan => 0,
    }
}

/// A comparison of values that may be unordered.
#[inline(always)]
#[allow(clippy::eq_op, clippy::neg_cmp_op_on_partial_ord, clippy::double_comparisons, reason = "unordered comparisons")]
fn unordered<A: Copy + PartialOrd>(function: Compare, a: &[A; LANES], b: &[A; LANES]) -> u32 {
    match function {
        Compare::Ne => compare(a, b, |x, y| x < y || x > y),
        Compare::UEq => compare(a, b, |x, y| !(x < y || x > y)),
        Compare::ULt => compare(a, b, |x, y| !(x >= y)),
        Compare::ULe => compare(a, b, |x, y| !(x > y)),
        Compare::UGt => compare(a, b, |x, y| !(x <= y)),
        Compare::UGe => compare(a, b, |x, y| !(x < y)),
        Compare::Num => compare(a, b, |x, y| x == x && y == y),
        Compare::Nan => compare(a, b, |x, y| x != x || y != y),
        Compare::UNe => compare(a, b, |x, y| x != y),
        _ => ordered(function, a, b),
    }
}

#[inline(always)]
pub(super) fn compare32(ty: CompareType, function: Compare, a: &Lanes32, b: &Lanes32) -> u32 {
    match ty {
        CompareType::U32 => ordered(function, a, b),
        CompareType::S32 => {
            let (a, b) = (map1(a, |x| x as i32), map1(b, |x| x as i32));
            ordered(function, &a, &b)
        }
        CompareType::S16 => ordered(function, &map1(a, |x| s16(x)), &map1(b, |x| s16(x))),
        CompareType::F32 => unordered(function, &map1(a, |x| f(x)), &map1(b, |x| f(x))),
        CompareType::F32Ftz => {
            let flushed = |x: u32| f(float::flush(x));
            unordered(function, &map1(a, |x| flushed(x)), &map1(b, |x| flushed(x)))
        }
        CompareType::F16 => {
            let value = |x: u32| f(float::from_f16(x & 0xffff));
            unordered(function, &map1(a, |x| value(x)), &map1(b, |x| value(x)))
        }
        CompareType::F16Ftz => {
            let value = |x: u32| f(float::from_f16(float::flush_f16(x & 0xffff)));
            unordered(function, &map1(a, |x| value(x)), &map1(b, |x| value(x)))
        }
        _ => {
            let value = |x: u32| f(float::from_bf16(x & 0xffff));
            unordered(function, &map1(a, |x| value(x)), &map1(b, |x| value(x)))
        }
    }
}

#[inline(always)]
pub(super) fn compare64(ty: CompareType, function: Compare, a: &Lanes64, b: &Lanes64) -> u32 {
    match ty {
        CompareType::S64 => {
            let (a, b) = (map1(a, |x| x as i64), map1(b, |x| x as i64));
            ordered(function, &a, &b)
        }
        CompareType::F64 => unordered(function, &map1(a, |x| f64::from_bits(x)), &map1(b, |x| f64::from_bits(x))),
        _ => ordered(function, a, b),
    }
}
