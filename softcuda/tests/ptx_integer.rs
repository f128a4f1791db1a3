//! Integer instructions against plain arithmetic.

mod ptx_support;

use ptx_support::{check, triples};

const EDGES: [u64; 14] =
    [0, 1, 2, 31, 32, 33, 63, 64, 0x7f, 0x8000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff_ffff_ffff, 0x8000_0000_0000_0000];

fn inputs() -> Vec<[u64; 3]> {
    triples(&EDGES, 600, |rng| {
        let value = rng.next();
        value >> (value % 64)
    })
}

#[track_caller]
fn check32(body: &str, expected: impl Fn(u32, u32, u32) -> u32) {
    check(&format!("{body} WIDEN32"), &inputs(), |a, b, c| u64::from(expected(a as u32, b as u32, c as u32)));
}

#[track_caller]
fn check16(body: &str, expected: impl Fn(u16, u16, u16) -> u16) {
    check(&format!("{body} WIDEN16"), &inputs(), |a, b, c| u64::from(expected(a as u16, b as u16, c as u16)));
}

#[track_caller]
fn check64(body: &str, expected: impl Fn(u64, u64, u64) -> u64) {
    check(body, &inputs(), expected);
}

#[test]
fn addition_and_multiplication() {
    check32("add.s32 %d32, %a32, %b32;", |a, b, _| a.wrapping_add(b));
    check32("sub.u32 %d32, %a32, %b32;", |a, b, _| a.wrapping_sub(b));
    check32("add.sat.s32 %d32, %a32, %b32;", |a, b, _| (a as i32).saturating_add(b as i32) as u32);
    check32("sub.sat.s32 %d32, %a32, %b32;", |a, b, _| (a as i32).saturating_sub(b as i32) as u32);
    check32("mul.lo.s32 %d32, %a32, %b32;", |a, b, _| a.wrapping_mul(b));
    check32("mul.hi.s32 %d32, %a32, %b32;", |a, b, _| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32);
    check32("mul.hi.u32 %d32, %a32, %b32;", |a, b, _| ((u64::from(a) * u64::from(b)) >> 32) as u32);
    check32("mad.lo.u32 %d32, %a32, %b32, %c32;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check32("mad.hi.u32 %d32, %a32, %b32, %c32;", |a, b, c| {
        (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)
    });
    check64("mul.wide.s32 %d, %a32, %b32;", |a, b, _| (i64::from(a as i32) * i64::from(b as i32)) as u64);
    check64("mad.wide.u32 %d, %a32, %b32, %c;", |a, b, c| (u64::from(a as u32) * u64::from(b as u32)).wrapping_add(c));
    check32("mul.wide.s16 %d32, %a16, %b16;", |a, b, _| (i32::from(a as i16) * i32::from(b as i16)) as u32);
    check32("mul.wide.u16 %d32, %a16, %b16;", |a, b, _| u32::from(a as u16) * u32::from(b as u16));
    check16("mul.lo.s16 %d16, %a16, %b16;", |a, b, _| a.wrapping_mul(b));
    check16("mul.hi.s16 %d16, %a16, %b16;", |a, b, _| ((i32::from(a as i16) * i32::from(b as i16)) >> 16) as u16);
    check16("mad.lo.s16 %d16, %a16, %b16, %c16;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check16("add.s16 %d16, %a16, %b16;", |a, b, _| a.wrapping_add(b));
    check16("sub.s16 %d16, %a16, %b16;", |a, b, _| a.wrapping_sub(b));
    check64("add.s64 %d, %a, %b;", |a, b, _| a.wrapping_add(b));
    check64("mul.lo.s64 %d, %a, %b;", |a, b, _| a.wrapping_mul(b));
    check64("mul.hi.u64 %d, %a, %b;", |a, b, _| ((u128::from(a) * u128::from(b)) >> 64) as u64);
    check64("mul.hi.s64 %d, %a, %b;", |a, b, _| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64);
    check64("mad.lo.s64 %d, %a, %b, %c;", |a, b, c| a.wrapping_mul(b).wrapping_add(c));
    check32("mul24.lo.s32 %d32, %a32, %b32;", |a, b, _| {
        let low = |x: u32| i64::from((x << 8) as i32 >> 8);
        (low(a) * low(b)) as u32
    });
    check32("mad24.lo.u32 %d32, %a32, %b32, %c32;", |a, b, c| {
        ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) as u32).wrapping_add(c)
    });
    check32("sad.s32 %d32, %a32, %b32, %c32;", |a, b, c| {
        let difference = i64::from(a as i32) - i64::from(b as i32);
        c.wrapping_add(difference.unsigned_abs() as u32)
    });
}

#[test]
fn division() {
    let nonzero = |b: u64, mask: u64| if b & mask == 0 { 3 } else { b };
    check64("setp.eq.u32 %p1, %b32, 0; selp.b32 %b32, 3, %b32, %p1; div.u32 %d32, %a32, %b32; WIDEN32", |a, b, _| {
        u64::from(a as u32 / nonzero(b, 0xffff_ffff) as u32)
    });
    check64("setp.eq.u32 %p1, %b32, 0; selp.b32 %b32, 3, %b32, %p1; rem.s32 %d32, %a32, %b32; WIDEN32", |a, b, _| {
        u64::from((a as i32).wrapping_rem(nonzero(b, 0xffff_ffff) as i32) as u32)
    });
    check64("setp.eq.u64 %p1, %b, 0; selp.b64 %b, 3, %b, %p1; div.s64 %d, %a, %b;", |a, b, _| {
        (a as i64).wrapping_div(nonzero(b, u64::MAX) as i64) as u64
    });
    check64("setp.eq.u64 %p1, %b, 0; selp.b64 %b, 3, %b, %p1; rem.u64 %d, %a, %b;", |a, b, _| a % nonzero(b, u64::MAX));
    check64("setp.eq.u16 %p1, %b16, 0; selp.b16 %b16, 3, %b16, %p1; div.s16 %d16, %a16, %b16; WIDEN16", |a, b, _| {
        u64::from((a as i16).wrapping_div(nonzero(b, 0xffff) as i16) as u16)
    });
}

#[test]
fn carries() {
    check64(
        "mov.b64 {%r2, %r3}, %a; mov.b64 {%r4, %r5}, %b;
         add.cc.u32 %r6, %r2, %r4; addc.u32 %r7, %r3, %r5; mov.b64 %d, {%r6, %r7};",
        |a, b, _| a.wrapping_add(b),
    );
    check64(
        "mov.b64 {%r2, %r3}, %a; mov.b64 {%r4, %r5}, %b;
         sub.cc.s32 %r6, %r2, %r4; subc.s32 %r7, %r3, %r5; mov.b64 %d, {%r6, %r7};",
        |a, b, _| a.wrapping_sub(b),
    );
    // 64 x 64 -> 64 from 32-bit pieces.
    check64(
        "mov.b64 {%r2, %r3}, %a; mov.b64 {%r4, %r5}, %b; mov.b64 {%r8, %r9}, %c;
         mad.lo.cc.u32 %r6, %r2, %r4, %r8; madc.hi.u32 %r7, %r2, %r4, %r9;
         mad.lo.u32 %r7, %r2, %r5, %r7; mad.lo.u32 %r7, %r3, %r4, %r7; mov.b64 %d, {%r6, %r7};",
        |a, b, c| a.wrapping_mul(b).wrapping_add(c),
    );
    check64("add.cc.u64 %rd1, %a, %b; addc.u64 %d, 0, 0;", |a, b, _| u64::from(a.checked_add(b).is_none()));
    // A subtraction leaves the carry of the sum with the complement: 1 where nothing is borrowed.
    check64("sub.cc.u64 %rd1, %a, %b; addc.u64 %d, 0, 0;", |a, b, _| u64::from(a >= b));
    check64("sub.cc.u64 %rd1, %a, %b; subc.u64 %d, 0, 0;", |a, b, _| if a >= b { 0 } else { u64::MAX });
    check64(
        "add.cc.u64 %rd1, %a, %b; subc.u64 %d, 0, 0;",
        |a, b, _| if a.checked_add(b).is_none() { 0 } else { u64::MAX },
    );
}

#[test]
fn extremes_and_signs() {
    check32("min.s32 %d32, %a32, %b32;", |a, b, _| (a as i32).min(b as i32) as u32);
    check32("max.u32 %d32, %a32, %b32;", |a, b, _| a.max(b));
    check16("min.s16 %d16, %a16, %b16;", |a, b, _| (a as i16).min(b as i16) as u16);
    check16("max.u16 %d16, %a16, %b16;", |a, b, _| a.max(b));
    check64("max.s64 %d, %a, %b;", |a, b, _| (a as i64).max(b as i64) as u64);
    check32("neg.s32 %d32, %a32;", |a, _, _| a.wrapping_neg());
    check32("abs.s32 %d32, %a32;", |a, _, _| (a as i32).wrapping_abs() as u32);
    check16("neg.s16 %d16, %a16;", |a, _, _| a.wrapping_neg());
    check16("abs.s16 %d16, %a16;", |a, _, _| (a as i16).wrapping_abs() as u16);
    check64("abs.s64 %d, %a;", |a, _, _| (a as i64).wrapping_abs() as u64);
}

#[test]
fn logic() {
    check32("and.b32 %d32, %a32, %b32;", |a, b, _| a & b);
    check32("or.b32 %d32, %a32, %b32;", |a, b, _| a | b);
    check64("xor.b64 %d, %a, %b;", |a, b, _| a ^ b);
    check32("not.b32 %d32, %a32;", |a, _, _| !a);
    check16("not.b16 %d16, %a16;", |a, _, _| !a);
    check32("cnot.b32 %d32, %a32;", |a, _, _| u32::from(a == 0));
    for lut in [0xE8u8, 0x96, 0x1B, 0xCA, 0x80, 0xFE] {
        check32(&format!("lop3.b32 %d32, %a32, %b32, %c32, {lut};"), |a, b, c| {
            (0..32).fold(0, |d, bit| {
                let pick = |x: u32| x >> bit & 1;
                let index = pick(a) << 2 | pick(b) << 1 | pick(c);
                d | u32::from(lut >> index & 1) << bit
            })
        });
    }
}

#[test]
fn shifts_beyond_the_width() {
    check32("shl.b32 %d32, %a32, %b32;", |a, b, _| a.checked_shl(b).unwrap_or(0));
    check32("shr.u32 %d32, %a32, %b32;", |a, b, _| a.checked_shr(b).unwrap_or(0));
    check32("shr.s32 %d32, %a32, %b32;", |a, b, _| (a as i32 >> b.min(31)) as u32);
    check64("shl.b64 %d, %a, %b32;", |a, b, _| a.checked_shl(b as u32).unwrap_or(0));
    check64("shr.u64 %d, %a, %b32;", |a, b, _| a.checked_shr(b as u32).unwrap_or(0));
    check64("shr.s64 %d, %a, %b32;", |a, b, _| (a as i64 >> (b as u32).min(63)) as u64);
    check("shl.b16 %d16, %a16, %b32; WIDEN16", &inputs(), |a, b, _| {
        u64::from((a as u16).checked_shl(b as u32).unwrap_or(0))
    });
    check("shr.s16 %d16, %a16, %b32; WIDEN16", &inputs(), |a, b, _| u64::from((a as i16 >> (b as u32).min(15)) as u16));
    let both = |a: u32, b: u32| u64::from(b) << 32 | u64::from(a);
    check32("shf.l.wrap.b32 %d32, %a32, %b32, %c32;", |a, b, c| ((both(a, b) << (c & 31)) >> 32) as u32);
    check32("shf.r.wrap.b32 %d32, %a32, %b32, %c32;", |a, b, c| (both(a, b) >> (c & 31)) as u32);
    check32("shf.l.clamp.b32 %d32, %a32, %b32, %c32;", |a, b, c| ((both(a, b) << c.min(32)) >> 32) as u32);
    check32("shf.r.clamp.b32 %d32, %a32, %b32, %c32;", |a, b, c| (both(a, b) >> c.min(32)) as u32);
}

#[test]
fn pairs_and_quadruples() {
    let halves = |a: u32, b: u32, f: fn(u16, u16) -> u16| {
        u32::from(f(a as u16, b as u16)) | u32::from(f((a >> 16) as u16, (b >> 16) as u16)) << 16
    };
    check32("add.u16x2 %d32, %a32, %b32;", move |a, b, _| halves(a, b, u16::wrapping_add));
    check32("min.s16x2 %d32, %a32, %b32;", move |a, b, _| halves(a, b, |a, b| (a as i16).min(b as i16) as u16));
    check32("max.u16x2 %d32, %a32, %b32;", move |a, b, _| halves(a, b, u16::max));
    let distances = |a: u32, b: u32| {
        let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
        [0, 1, 2, 3].map(|i| (i32::from(a[i]) - i32::from(b[i])).unsigned_abs() as u8)
    };
    check32("vabsdiff4.u32.u32.u32 %d32, %a32, %b32, %c32;", move |a, b, _| u32::from_le_bytes(distances(a, b)));
    check32("vabsdiff4.u32.u32.u32.add %d32, %a32, %b32, %c32;", move |a, b, c| {
        distances(a, b).iter().fold(c, |sum, &d| sum.wrapping_add(u32::from(d)))
    });
    check32("mul.lo.u32 %d32, %a32, WARP_SZ;", |a, _, _| a.wrapping_mul(32));
}

#[test]
fn counting_bits() {
    check32("popc.b32 %d32, %a32;", |a, _, _| a.count_ones());
    check32("clz.b32 %d32, %a32;", |a, _, _| a.leading_zeros());
    check("popc.b64 %d32, %a; WIDEN32", &inputs(), |a, _, _| u64::from(a.count_ones()));
    check("clz.b64 %d32, %a; WIDEN32", &inputs(), |a, _, _| u64::from(a.leading_zeros()));
    check32("brev.b32 %d32, %a32;", |a, _, _| a.reverse_bits());
    check64("brev.b64 %d, %a;", |a, _, _| a.reverse_bits());
    check32("bfind.u32 %d32, %a32;", |a, _, _| 31u32.wrapping_sub(a.leading_zeros()));
    check32("bfind.shiftamt.u32 %d32, %a32;", |a, _, _| if a == 0 { u32::MAX } else { a.leading_zeros() });
    check32("bfind.s32 %d32, %a32;", |a, _, _| {
        let a = if (a as i32) < 0 { !a } else { a };
        31u32.wrapping_sub(a.leading_zeros())
    });
}

/// The definition of `bfe` in the PTX manual, bit by bit.
fn bfe(a: u64, position: u32, length: u32, width: u32, signed: bool) -> u64 {
    let (position, length) = (position & 255, length & 255);
    let bit = |index: u32| a >> index & 1;
    let sign = if !signed || length == 0 { 0 } else { bit((position + length - 1).min(width - 1)) };
    (0..width).fold(0, |d, index| {
        let inside = index < length && position + index < width;
        d | (if inside { bit(position + index) } else { sign }) << index
    })
}

#[test]
fn bit_fields() {
    check32("bfe.u32 %d32, %a32, %b32, %c32;", |a, b, c| bfe(u64::from(a), b, c, 32, false) as u32);
    check32("bfe.s32 %d32, %a32, %b32, %c32;", |a, b, c| bfe(u64::from(a), b, c, 32, true) as u32);
    check64("bfe.u64 %d, %a, %b32, %c32;", |a, b, c| bfe(a, b as u32, c as u32, 64, false));
    check64("bfe.s64 %d, %a, %b32, %c32;", |a, b, c| bfe(a, b as u32, c as u32, 64, true));
    let insert = |a: u64, b: u64, position: u32, length: u32, width: u32| {
        let (position, length) = (position & 255, length & 255);
        (0..length).fold(b, |d, index| match position + index {
            place if place < width => (d & !(1 << place)) | (a >> index & 1) << place,
            _ => d,
        })
    };
    check32("shr.u32 %r2, %c32, 8; bfi.b32 %d32, %a32, %b32, %c32, %r2;", |a, b, c| {
        insert(u64::from(a), u64::from(b), c, c >> 8, 32) as u32
    });
    check64("shr.u32 %r2, %c32, 8; bfi.b64 %d, %a, %b, %c32, %r2;", |a, b, c| {
        insert(a, b, c as u32, c as u32 >> 8, 64)
    });
}

#[test]
fn byte_permutations() {
    check32("prmt.b32 %d32, %a32, %b32, %c32;", |a, b, c| {
        let bytes: Vec<u8> = a.to_le_bytes().into_iter().chain(b.to_le_bytes()).collect();
        let pick = |index: u32| {
            let choice = c >> (4 * index) & 15;
            let byte = bytes[choice as usize & 7];
            if choice & 8 == 0 {
                byte
            } else if byte & 0x80 != 0 {
                0xff
            } else {
                0
            }
        };
        u32::from_le_bytes([pick(0), pick(1), pick(2), pick(3)])
    });
    check32("prmt.b32 %d32, %a32, %b32, 0x7610;", |a, b, _| a & 0xffff | b & 0xffff_0000);
    check32("prmt.b32.rc16 %d32, %a32, %b32, 1;", |a, _, _| a >> 16 | a & 0xffff_0000);
    check32("dp4a.s32.u32 %d32, %a32, %b32, %c32;", |a, b, c| {
        a.to_le_bytes()
            .into_iter()
            .zip(b.to_le_bytes())
            .fold(c, |sum, (x, y)| sum.wrapping_add((i32::from(x as i8) * i32::from(y)) as u32))
    });
}

#[test]
fn comparisons_and_selection() {
    type Holds = fn(std::cmp::Ordering) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("eq", |o| o.is_eq()),
        ("ne", |o| o.is_ne()),
        ("lt", |o| o.is_lt()),
        ("le", |o| o.is_le()),
        ("gt", |o| o.is_gt()),
        ("ge", |o| o.is_ge()),
    ];
    for (name, holds) in operators {
        let body =
            |ty: &str, suffix: &str| format!("setp.{name}.{ty} %p1, %a{suffix}, %b{suffix}; selp.b64 %d, 1, 0, %p1;");
        check64(&body("s32", "32"), |a, b, _| u64::from(holds((a as i32).cmp(&(b as i32)))));
        check64(&body("u32", "32"), |a, b, _| u64::from(holds((a as u32).cmp(&(b as u32)))));
        check64(&body("s16", "16"), |a, b, _| u64::from(holds((a as i16).cmp(&(b as i16)))));
        check64(&body("u16", "16"), |a, b, _| u64::from(holds((a as u16).cmp(&(b as u16)))));
        check64(&body("s64", ""), |a, b, _| u64::from(holds((a as i64).cmp(&(b as i64)))));
        check64(&body("u64", ""), |a, b, _| u64::from(holds(a.cmp(&b))));
    }
    check64(
        "setp.lo.u32 %p1, %a32, %b32; selp.b64 %d, %a, %b, %p1;",
        |a, b, _| {
            if (a as u32) < b as u32 { a } else { b }
        },
    );
    check64(
        "setp.gt.s32 %p2, %c32, 5;
         setp.lt.and.s32 %p1|%p3, %a32, %b32, !%p2;
         selp.u32 %r2, 1, 0, %p1; selp.u32 %r3, 2, 0, %p3; or.b32 %d32, %r2, %r3; WIDEN32",
        |a, b, c| {
            let (less, other) = ((a as i32) < (b as i32), (c as i32) <= 5);
            u64::from(less && other) + 2 * u64::from(!less && other)
        },
    );
    check32("set.lt.u32.s32 %d32, %a32, %b32;", |a, b, _| if (a as i32) < (b as i32) { u32::MAX } else { 0 });
    check32("set.ge.f32.u32 %d32, %a32, %b32;", |a, b, _| if a >= b { 1f32.to_bits() } else { 0 });
    check32("slct.b32.s32 %d32, %a32, %b32, %c32;", |a, b, c| if (c as i32) >= 0 { a } else { b });
}

#[test]
fn packing() {
    check64("mov.b64 {%r2, %r3}, %a; mov.b64 %d, {%r3, %r2};", |a, _, _| a.rotate_left(32));
    check32(".reg .b16 %x, %y; mov.b32 {%x, %y}, %a32; mov.b32 %d32, {%y, %x};", |a, _, _| a.rotate_left(16));
    check64(".reg .b16 %w<4>; mov.b64 {%w0, %w1, %w2, %w3}, %a; mov.b64 %d, {%w3, %w0, %w1, %w2};", |a, _, _| {
        a.rotate_left(16)
    });
    check64("mov.b64 {_, %d32}, %a; WIDEN32", |a, _, _| a >> 32);
    check32("add.s32 %d32, 1, -3; and.b32 %d32, %d32, 0b1111; add.s32 %d32, %d32, 017;", |_, _, _| 0xe + 0o17);
}
