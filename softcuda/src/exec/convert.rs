//! Conversions.

#![allow(clippy::redundant_closure, reason = "a closure takes on its caller's processor features")]

use crate::lower::op::{CvtSpec, Mode, Round};
use crate::ptx::Type;

use super::alu::{map1, map2};
use super::float::{self, bits, f, flush, from_bf16, from_f16, saturate, to_bf16, to_f16};
use super::registers::{Lanes32, Lanes64};
use super::soft::{self, Format, Number};

fn format(ty: Type) -> Option<Format> {
    match ty {
        Type::F16 => Some(soft::F16),
        Type::Bf16 => Some(soft::BF16),
        Type::F32 => Some(soft::F32),
        Type::F64 => Some(soft::F64),
        Type::Tf32 => Some(soft::TF32),
        Type::E4m3 => Some(soft::E4M3),
        Type::E5m2 => Some(soft::E5M2),
        _ => None,
    }
}

/// An integer of a type, from the low bits of a register.
fn integer(ty: Type, bits: u64) -> i128 {
    match (ty.bytes(), ty.is_signed()) {
        (1, true) => i128::from(bits as i8),
        (1, false) => i128::from(bits as u8),
        (2, true) => i128::from(bits as i16),
        (2, false) => i128::from(bits as u16),
        (4, true) => i128::from(bits as i32),
        (4, false) => i128::from(bits as u32),
        (_, true) => i128::from(bits as i64),
        (_, false) => i128::from(bits),
    }
}

/// The range of an integer type.
fn range(ty: Type) -> (i128, i128) {
    let width = ty.bytes() * 8;
    if ty.is_signed() { (-(1 << (width - 1)), (1 << (width - 1)) - 1) } else { (0, (1 << width) - 1) }
}

/// Sign- or zero-extends an integer of a type to its register.
fn extend(spec: CvtSpec, value: i128) -> u64 {
    let value = integer(spec.to, value as u64);
    match spec.wide_to {
        64 => value as u64,
        32 => u64::from(value as u32),
        _ => u64::from(value as u16),
    }
}

/// A finite number as an integer, huge ones only roughly: they saturate anyway.
fn to_integer(significand: u128, exponent: i32, negative: bool, round: Round) -> i128 {
    let magnitude = if exponent >= 0 {
        if significand == 0 || significand.leading_zeros() as i32 > exponent + 2 {
            significand << exponent.min(126)
        } else {
            1 << 100
        }
    } else {
        let shift = -exponent as u32;
        if shift > 120 {
            let up = significand != 0 && (round == Round::Up && !negative || round == Round::Down && negative);
            u128::from(up)
        } else {
            let kept = significand >> shift;
            let rest = significand & ((1 << shift) - 1);
            let half = 1u128 << (shift - 1);
            let up = match round {
                Round::Nearest => rest > half || (rest == half && kept & 1 != 0),
                Round::NearestAway => rest >= half,
                Round::Zero => false,
                Round::Down => rest != 0 && negative,
                Round::Up => rest != 0 && !negative,
            };
            kept + u128::from(up)
        }
    };
    if negative { -(magnitude as i128) } else { magnitude as i128 }
}

fn is_negative(number: Number) -> bool {
    match number {
        Number::Nan => false,
        Number::Infinity(negative) | Number::Finite { negative, .. } => negative,
    }
}

/// f32 to tf32, which has the place of an f32 with its last 13 bits zero.
fn to_tf32(spec: CvtSpec, value: u32) -> u64 {
    if spec.round != Round::NearestAway {
        return convert_value(spec, u64::from(value)) << 13;
    }
    // This rounding adds half a unit and cuts, except to infinities and NaN, which it only cuts. Of a NaN
    // of which that leaves an infinity the canonical one is made.
    let special = value & 0x7f80_0000 == 0x7f80_0000;
    let rounded = if special { value } else { value.wrapping_add(0x1000) } >> 13;
    if float::is_nan(value) && !float::is_nan(rounded << 13) {
        return soft::TF32.nan() << 13;
    }
    let result = if spec.mode.has(Mode::SATFINITE) && !float::is_nan(value) {
        soft::TF32.saturate(u64::from(rounded))
    } else {
        u64::from(rounded)
    };
    result << 13
}

/// One value, any conversion.
pub(super) fn convert(spec: CvtSpec, value: u64) -> u64 {
    if spec.to == Type::Tf32 { to_tf32(spec, value as u32) } else { convert_value(spec, value) }
}

fn convert_value(spec: CvtSpec, value: u64) -> u64 {
    let ftz = spec.mode.has(Mode::FTZ);
    let value = match spec.from {
        Type::F16 | Type::Bf16 => value & 0xffff,
        Type::E4m3 | Type::E5m2 => value & 0xff,
        Type::F32 if ftz => u64::from(flush(value as u32)),
        _ => value,
    };
    match (format(spec.from), format(spec.to)) {
        (None, None) => {
            let number = integer(spec.from, value);
            if spec.mode.has(Mode::SAT) {
                let (least, most) = range(spec.to);
                return extend(spec, number.clamp(least, most));
            }
            extend(spec, number)
        }
        (None, Some(to)) => {
            let number = integer(spec.from, value);
            let packed = to.pack(number < 0, number.unsigned_abs(), 0, false, spec.round);
            finish(spec, packed)
        }
        (Some(from), None) => {
            let (least, most) = range(spec.to);
            let number = match from.unpack(value) {
                // As documented: 0, but the lowest integer where 64 bits are involved.
                Number::Nan if spec.from == Type::F64 || spec.to.bytes() == 8 => {
                    return extend(spec, 1 << (spec.to.bytes() * 8 - 1));
                }
                Number::Nan => 0,
                Number::Infinity(true) => least,
                Number::Infinity(false) => most,
                Number::Finite { negative, significand, exponent } => {
                    to_integer(significand, exponent, negative, spec.round)
                }
            };
            extend(spec, number.clamp(least, most))
        }
        (Some(from), Some(to)) => {
            let number = from.unpack(value);
            let number = match number {
                Number::Finite { negative, significand, exponent } if spec.integral && exponent < 0 => {
                    let whole = to_integer(significand, exponent, negative, spec.round);
                    Number::Finite { negative, significand: whole.unsigned_abs(), exponent: 0 }
                }
                other => other,
            };
            if spec.mode.has(Mode::RELU) && is_negative(number) {
                return 0;
            }
            let result = to.from_number(number, spec.round);
            finish(spec, if spec.mode.has(Mode::SATFINITE) { to.saturate(result) } else { result })
        }
    }
}

/// `.ftz` and `.sat` of a floating-point result.
fn finish(spec: CvtSpec, value: u64) -> u64 {
    let ftz = spec.mode.has(Mode::FTZ);
    let value = if ftz && spec.to == Type::F32 { u64::from(flush(value as u32)) } else { value };
    if !spec.mode.has(Mode::SAT) {
        return value;
    }
    match spec.to {
        Type::F16 => u64::from(to_f16(saturate(from_f16(value as u32)))),
        Type::Bf16 => u64::from(to_bf16(saturate(from_bf16(value as u32)))),
        Type::F32 => u64::from(saturate(value as u32)),
        _ => {
            let number = f64::from_bits(value);
            if number > 0.0 { number.min(1.0).to_bits() } else { 0 }
        }
    }
}

#[inline(always)]
pub(super) fn cvt32(spec: CvtSpec, a: &Lanes32) -> Lanes32 {
    if spec.mode == Mode::SAT && spec.from == Type::F32 && spec.to == Type::F32 && !spec.integral {
        return map1(a, |x| saturate(x));
    }
    if spec.mode != Mode::PLAIN || spec.wide_to == 64 {
        return map1(a, |x| convert(spec, u64::from(x)) as u32);
    }
    let nearest = spec.round == Round::Nearest;
    match (spec.from, spec.to) {
        (Type::F16, Type::F32) => map1(a, |x| from_f16(x & 0xffff)),
        (Type::Bf16, Type::F32) => map1(a, |x| from_bf16(x & 0xffff)),
        (Type::F32, Type::F16) if nearest => map1(a, |x| to_f16(x)),
        (Type::F32, Type::Bf16) if nearest => map1(a, |x| to_bf16(x)),
        (Type::S32, Type::F32) if nearest => map1(a, |x| (x as i32 as f32).to_bits()),
        (Type::U32, Type::F32) if nearest => map1(a, |x| (x as f32).to_bits()),
        (Type::U16, Type::F32) => map1(a, |x| ((x & 0xffff) as f32).to_bits()),
        (Type::S16, Type::F32) => map1(a, |x| f32::from(x as i16).to_bits()),
        (Type::U8, Type::F32) => map1(a, |x| ((x & 0xff) as f32).to_bits()),
        (Type::F32, Type::S32) if spec.round == Round::Zero => map1(a, |x| f(x) as i32 as u32),
        (Type::F32, Type::S32) if nearest => map1(a, |x| f(x).round_ties_even() as i32 as u32),
        (Type::F32, Type::U32) if spec.round == Round::Zero => map1(a, |x| f(x) as u32),
        (Type::F32, Type::F32) if spec.integral && nearest => map1(a, |x| bits(f(x).round_ties_even())),
        (Type::U16, Type::U32 | Type::S32) if spec.wide_to == 32 => map1(a, |x| x & 0xffff),
        (Type::U8, Type::U32 | Type::S32) if spec.wide_to == 32 => map1(a, |x| x & 0xff),
        (Type::S16, Type::U32 | Type::S32) if spec.wide_to == 32 => map1(a, |x| i32::from(x as i16) as u32),
        (Type::U32 | Type::S32, Type::U16) => map1(a, |x| x & 0xffff),
        (Type::U32 | Type::S32, Type::S16) if spec.wide_to == 16 => map1(a, |x| x & 0xffff),
        _ => map1(a, |x| convert(spec, u64::from(x)) as u32),
    }
}

#[inline(always)]
pub(super) fn cvt32_to_64(spec: CvtSpec, a: &Lanes32) -> Lanes64 {
    match (spec.from, spec.to) {
        (Type::U32, Type::U64 | Type::S64) => map1(a, |x| u64::from(x)),
        (Type::S32, Type::U64 | Type::S64) if spec.mode == Mode::PLAIN => map1(a, |x| i64::from(x as i32) as u64),
        (Type::F32, Type::F64) if spec.mode == Mode::PLAIN => map1(a, |x| float::bits64(f64::from(f(x)))),
        _ => map1(a, |x| convert(spec, u64::from(x))),
    }
}

#[inline(always)]
pub(super) fn cvt64_to_32(spec: CvtSpec, a: &Lanes64) -> Lanes32 {
    let plain = spec.mode == Mode::PLAIN;
    match (spec.from, spec.to) {
        (Type::U64 | Type::S64, Type::U32 | Type::S32) if plain => map1(a, |x| x as u32),
        (Type::F64, Type::F32) if plain && spec.round == Round::Nearest && !spec.integral => {
            map1(a, |x| bits(f64::from_bits(x) as f32))
        }
        _ => map1(a, |x| convert(spec, x) as u32),
    }
}

pub(super) fn cvt64(spec: CvtSpec, a: &Lanes64) -> Lanes64 {
    map1(a, |x| convert(spec, x))
}

/// The conversion of each part of a pair.
pub(super) fn part(spec: CvtSpec) -> CvtSpec {
    let to = match spec.to {
        Type::F16x2 => Type::F16,
        Type::E4m3x2 => Type::E4m3,
        Type::E5m2x2 => Type::E5m2,
        _ => Type::Bf16,
    };
    CvtSpec { to, ..spec }
}

/// Both parts of a pair in one register.
#[inline(always)]
pub(super) fn pair(spec: CvtSpec, high: &Lanes32, low: &Lanes32) -> Lanes32 {
    if matches!(spec.to, Type::E4m3x2 | Type::E5m2x2) {
        return map2(high, low, |x, y| x << 8 | y & 0xff);
    }
    map2(high, low, |x, y| x << 16 | y & 0xffff)
}
