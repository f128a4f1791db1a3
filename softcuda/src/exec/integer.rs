//! What one lane computes on integers: shifts, bit fields, permutations, products.

use crate::lower::op::{Count64, DP2A_FIRST, DP2A_HIGH, DP2A_SECOND, Mode, PACK_SIGNED, Shift64, Tri32};

#[inline]
pub(super) fn s16(x: u32) -> i32 {
    i32::from(x as i16)
}

/// The shift amount of PTX: everything from the width up shifts all bits out.
#[inline(always)]
pub(super) fn shl(a: u32, b: u32) -> u32 {
    if b < 32 { a << (b & 31) } else { 0 }
}

#[inline(always)]
pub(super) fn shr(a: u32, b: u32) -> u32 {
    if b < 32 { a >> (b & 31) } else { 0 }
}

#[inline(always)]
pub(super) fn sar(a: u32, b: u32) -> u32 {
    (a as i32 >> b.min(31)) as u32
}

#[inline(always)]
pub(super) fn shift64(function: Shift64, a: u64, b: u32) -> u64 {
    match function {
        Shift64::Shl => {
            if b < 64 {
                a << (b & 63)
            } else {
                0
            }
        }
        Shift64::ShrU => {
            if b < 64 {
                a >> (b & 63)
            } else {
                0
            }
        }
        Shift64::ShrS => (a as i64 >> b.min(63)) as u64,
    }
}

#[inline]
pub(super) fn bfind(x: u32, shift: bool) -> u32 {
    match x {
        0 => u32::MAX,
        _ if shift => x.leading_zeros(),
        _ => 31 - x.leading_zeros(),
    }
}

#[inline]
fn bfind64(x: u64, shift: bool) -> u32 {
    match x {
        0 => u32::MAX,
        _ if shift => x.leading_zeros(),
        _ => 63 - x.leading_zeros(),
    }
}

#[inline]
pub(super) fn signed_magnitude_bits(x: u32) -> u32 {
    if (x as i32) < 0 { !x } else { x }
}

#[inline]
pub(super) fn count64(function: Count64, x: u64) -> u32 {
    let significant = if (x as i64) < 0 { !x } else { x };
    match function {
        Count64::Popc => x.count_ones(),
        Count64::Clz => x.leading_zeros(),
        Count64::BfindU => bfind64(x, false),
        Count64::BfindS => bfind64(significant, false),
        Count64::BfindShiftU => bfind64(x, true),
        Count64::BfindShiftS => bfind64(significant, true),
    }
}

/// The upper 32 bits of the 48-bit product of two 24-bit numbers.
#[inline]
pub(super) fn mul24_hi_s(x: u32, y: u32) -> u32 {
    let low = |x: u32| i64::from((x as i32) << 8 >> 8);
    ((low(x) * low(y)) >> 16) as u32
}

#[inline]
pub(super) fn mul24_hi_u(x: u32, y: u32) -> u32 {
    let low = |x: u32| u64::from(x & 0xff_ffff);
    ((low(x) * low(y)) >> 16) as u32
}

/// `.relu` of a half.
#[inline]
pub(super) fn relu16(m: Mode, x: i16) -> u16 {
    if m.has(Mode::RELU) { x.max(0) as u16 } else { x as u16 }
}

#[inline(always)]
pub(super) fn mul_hi_s(x: u32, y: u32) -> u32 {
    ((i64::from(x as i32) * i64::from(y as i32)) >> 32) as u32
}

#[inline(always)]
pub(super) fn mul_hi_u(x: u32, y: u32) -> u32 {
    ((u64::from(x) * u64::from(y)) >> 32) as u32
}

/// A bit field, zero-extended. Position and length are bytes of their operands.
#[inline]
pub(super) fn bfe_u(x: u32, position: u32, length: u32) -> u32 {
    let (position, length) = (position & 255, length & 255);
    let field = shr(x, position);
    if length >= 32 { field } else { field & ((1 << length) - 1) }
}

/// A bit field, sign-extended from its last bit inside the register.
#[inline]
pub(super) fn bfe_s(x: u32, position: u32, length: u32) -> u32 {
    let (position, length) = (position & 255, length & 255);
    if length == 0 {
        return 0;
    }
    let last = (position + length - 1).min(31);
    let sign = (x >> last & 1).wrapping_neg();
    let field = shr(x, position);
    let within = if position > 31 { 0 } else { last + 1 - position };
    if within >= 32 { field } else { field & ((1 << within) - 1) | sign << within }
}

#[inline]
pub(super) fn bfe64(signed: bool, x: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 255, length & 255);
    let field = shift64(Shift64::ShrU, x, position);
    if !signed {
        return if length >= 64 { field } else { field & ((1 << length) - 1) };
    }
    if length == 0 {
        return 0;
    }
    let last = (position + length - 1).min(63);
    let sign = (x >> last & 1).wrapping_neg();
    let within = if position > 63 { 0 } else { last + 1 - position };
    if within >= 64 { field } else { field & ((1 << within) - 1) | sign << within }
}

/// `a` inserted into `b`.
#[inline]
pub(super) fn bfi32(a: u32, b: u32, position: u32, length: u32) -> u32 {
    let (position, length) = (position & 255, length & 255);
    let ones = if length >= 32 { u32::MAX } else { (1 << length) - 1 };
    let mask = shl(ones, position);
    (b & !mask) | (shl(a, position) & mask)
}

#[inline]
pub(super) fn bfi64(a: u64, b: u64, position: u32, length: u32) -> u64 {
    let (position, length) = (position & 255, length & 255);
    let ones = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    let mask = shift64(Shift64::Shl, ones, position);
    (b & !mask) | (shift64(Shift64::Shl, a, position) & mask)
}

#[inline]
pub(super) fn lop3(a: u32, b: u32, c: u32, lut: u8) -> u32 {
    let mut result = 0;
    for (index, (x, y, z)) in
        [(!a, !b, !c), (!a, !b, c), (!a, b, !c), (!a, b, c), (a, !b, !c), (a, !b, c), (a, b, !c), (a, b, c)]
            .into_iter()
            .enumerate()
    {
        result |= (x & y & z) & (u32::from(lut) >> index & 1).wrapping_neg();
    }
    result
}

/// The selector that a mode of `prmt` stands for.
#[inline]
fn prmt_selector(function: Tri32, control: u32) -> u32 {
    let c = (control & 3) as usize;
    match function {
        Tri32::PrmtF4e => [0x3210, 0x4321, 0x5432, 0x6543][c],
        Tri32::PrmtB4e => [0x5670, 0x6701, 0x7012, 0x0123][c],
        Tri32::PrmtRc8 => [0x0000, 0x1111, 0x2222, 0x3333][c],
        Tri32::PrmtEcl => [0x3210, 0x3211, 0x3222, 0x3333][c],
        Tri32::PrmtEcr => [0x0000, 0x1110, 0x2210, 0x3210][c],
        Tri32::PrmtRc16 => [0x1010, 0x3232, 0x1010, 0x3232][c],
        _ => control & 0xffff,
    }
}

#[inline]
pub(super) fn prmt(function: Tri32, a: u32, b: u32, control: u32) -> u32 {
    let selector = prmt_selector(function, control);
    let bytes = u64::from(a) | u64::from(b) << 32;
    let mut result = 0;
    for index in 0..4 {
        let choice = selector >> (4 * index) & 15;
        let byte = (bytes >> (8 * (choice & 7))) as u8;
        let byte = if choice & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
        result |= u32::from(byte) << (8 * index);
    }
    result
}

#[inline]
pub(super) fn funnel(function: Tri32, a: u32, b: u32, c: u32) -> u32 {
    let both = u64::from(b) << 32 | u64::from(a);
    match function {
        Tri32::ShfL => (both << c.min(32) >> 32) as u32,
        Tri32::ShfLWrap => (both << (c & 31) >> 32) as u32,
        Tri32::ShfR => (both >> c.min(32)) as u32,
        _ => (both >> (c & 31)) as u32,
    }
}

/// Applies a function to both halves.
#[inline]
pub(super) fn pair16(x: u32, y: u32, function: impl Fn(u16, u16) -> u16) -> u32 {
    let low = function(x as u16, y as u16);
    let high = function((x >> 16) as u16, (y >> 16) as u16);
    u32::from(low) | u32::from(high) << 16
}

#[inline]
pub(super) fn distances(x: u32, y: u32) -> [u8; 4] {
    let (x, y) = (x.to_le_bytes(), y.to_le_bytes());
    [0, 1, 2, 3].map(|index| x[index].abs_diff(y[index]))
}

#[inline]
pub(super) fn half_distances(x: u32, y: u32) -> [u32; 2] {
    [0, 16].map(|shift| (x >> shift & 0xffff).abs_diff(y >> shift & 0xffff))
}

/// Products of the halves of `a` with two bytes of `b`, added to `c`.
#[inline]
pub(super) fn dp2a(table: u8, a: u32, b: u32, c: u32) -> u32 {
    let bytes = if table & DP2A_HIGH != 0 { b >> 16 } else { b };
    let half = |x: u32| if table & DP2A_FIRST != 0 { i32::from(x as i16) } else { i32::from(x as u16) };
    let byte = |x: u32| if table & DP2A_SECOND != 0 { i32::from(x as i8) } else { i32::from(x as u8) };
    let products = [0, 1].map(|i| half(a >> (16 * i)).wrapping_mul(byte(bytes >> (8 * i))) as u32);
    c.wrapping_add(products[0]).wrapping_add(products[1])
}

/// The place of the `offset`-th set bit of `mask`, counted from `base` upwards, or downwards if it
/// is negative; all ones if there is none.
#[inline]
pub(super) fn find_nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    let base = base & 31;
    let set = |place: &u32| mask >> place & 1 != 0;
    let found = match offset {
        0 => Some(base).filter(set),
        1.. => (base..32).filter(set).nth(offset as usize - 1),
        _ => (0..=base).rev().filter(set).nth(offset.unsigned_abs() as usize - 1),
    };
    found.unwrap_or(u32::MAX)
}

/// `cvt.pack`: both integers saturated, the first above the second, then the bits of `c`.
#[inline]
pub(super) fn convert_pack(table: u8, a: u32, b: u32, c: u32) -> u32 {
    let size = u32::from(table & !PACK_SIGNED);
    let (least, most) =
        if table & PACK_SIGNED != 0 { (-(1 << (size - 1)), (1 << (size - 1)) - 1) } else { (0, (1 << size) - 1) };
    let part = |x: u32| (x as i32).clamp(least, most) as u32 & ((1 << size) - 1);
    part(b) | part(a) << size | shl(c, 2 * size)
}

#[inline]
pub(super) fn dp4a(signed_a: bool, signed_b: bool, a: u32, b: u32, c: u32) -> u32 {
    let byte = |x: u8, signed: bool| if signed { i32::from(x as i8) } else { i32::from(x) };
    a.to_le_bytes()
        .iter()
        .zip(b.to_le_bytes())
        .fold(c, |sum, (&x, y)| sum.wrapping_add((byte(x, signed_a) * byte(y, signed_b)) as u32))
}
