//! How undefinedness travels through operations.
//!
//! Only lanes with an operand that is not wholly defined come here. Arithmetic makes its whole
//! result undefined; moves, shifts, masks, selections, packing and conversions between integers
//! are exact to the bit, so that bytes beside the ones that matter do no harm. Everything here
//! runs before the operation writes its result.

use crate::lower::op::{Bin32, Bin64, CvtSpec, HalfType, NONE, Op, Reg, Tri32, Un32, Un64};

use super::convert::convert;
use super::integer::{self, shift64};
use super::registers::{LANES, Registers};

/// Bits of a conjunction that depend on undefined ones: a defined 0 on either side decides.
fn conjunction(a: u64, ua: u64, b: u64, ub: u64) -> u64 {
    (ua | ub) & (ua | a) & (ub | b)
}

fn all32(bits: u32) -> u32 {
    if bits != 0 { u32::MAX } else { 0 }
}

fn all64(bits: u64) -> u64 {
    if bits != 0 { u64::MAX } else { 0 }
}

/// Bits of a `lop3` that change with the undefined bits of its operands.
fn lop3(values: [u32; 3], undefined: [u32; 3], lut: u8) -> u32 {
    let settled: Vec<[u32; 2]> = values.iter().zip(undefined).map(|(&v, u)| [v & !u, v | u]).collect();
    let mut ones = 0;
    let mut zeros = 0;
    for choice in 0..8usize {
        let [a, b, c] = [0, 1, 2].map(|index| settled[index][choice >> index & 1]);
        let result = integer::lop3(a, b, c, lut);
        ones |= result;
        zeros |= !result;
    }
    ones & zeros
}

fn tri32(f: Tri32, lut: u8, v: [u32; 3], u: [u32; 3]) -> u32 {
    match f {
        Tri32::Lop3 => lop3(v, u, lut),
        Tri32::Prmt
        | Tri32::PrmtF4e
        | Tri32::PrmtB4e
        | Tri32::PrmtRc8
        | Tri32::PrmtEcl
        | Tri32::PrmtEcr
        | Tri32::PrmtRc16
            if u[2] & 0xffff == 0 =>
        {
            integer::prmt(f, u[0], u[1], v[2])
        }
        Tri32::ShfL | Tri32::ShfLWrap | Tri32::ShfR | Tri32::ShfRWrap if u[2] == 0 => {
            integer::funnel(f, u[0], u[1], v[2])
        }
        Tri32::BfeS if u[1] | u[2] == 0 => integer::bfe_s(u[0], v[1], v[2]),
        Tri32::BfeU if u[1] | u[2] == 0 => integer::bfe_u(u[0], v[1], v[2]),
        _ => all32(u[0] | u[1] | u[2]),
    }
}

fn bin32(f: Bin32, a: u32, ua: u32, b: u32, ub: u32) -> u32 {
    let wide = u64::from;
    match f {
        Bin32::And => conjunction(wide(a), wide(ua), wide(b), wide(ub)) as u32,
        Bin32::Or => conjunction(wide(!a), wide(ua), wide(!b), wide(ub)) as u32,
        Bin32::Xor => ua | ub,
        Bin32::Shl if ub == 0 => integer::shl(ua, b),
        Bin32::Shl16 if ub == 0 => integer::shl(ua, b) & 0xffff,
        Bin32::ShrU if ub == 0 => integer::shr(ua, b),
        Bin32::ShrS if ub == 0 => integer::sar(ua, b),
        Bin32::ShrS16 if ub == 0 => integer::sar(i32::from(ua as i16) as u32, b) & 0xffff,
        _ => all32(ua | ub),
    }
}

fn bin64(f: Bin64, a: u64, ua: u64, b: u64, ub: u64) -> u64 {
    let halves = |bits: u64| u64::from(all32(bits as u32)) | u64::from(all32((bits >> 32) as u32)) << 32;
    match f {
        Bin64::And => conjunction(a, ua, b, ub),
        Bin64::Or => conjunction(!a, ua, !b, ub),
        Bin64::Xor => ua | ub,
        Bin64::AddX2 | Bin64::SubX2 | Bin64::MulX2 => halves(ua | ub),
        _ => all64(ua | ub),
    }
}

fn half(t: HalfType, u: u32) -> u32 {
    let part = |bits: u32| if bits & 0xffff != 0 { 0xffff } else { 0 };
    if t.packed() { part(u) | part(u >> 16) << 16 } else { part(u) }
}

/// An integer conversion moves bits; any other mixes them.
fn cvt(spec: CvtSpec, u: u64) -> u64 {
    let low = if spec.from.bytes() == 8 { u } else { u & ((1 << (spec.from.bytes() * 8)) - 1) };
    let moves = !spec.from.is_float() && !spec.to.is_float() && spec.mode.0 == 0;
    if moves { convert(spec, u) } else { all64(low) }
}

/// Sets what is undefined in the results of an operation on the lanes in `lanes`, some operands of
/// which are not wholly defined.
#[cold]
#[inline(never)]
pub(super) fn propagate(r: &mut Registers, op: &Op, lanes: u32) {
    for lane in (0..LANES).filter(|lane| lanes >> lane & 1 != 0) {
        propagate_lane(r, op, lane);
    }
}

fn propagate_lane(r: &mut Registers, op: &Op, lane: usize) {
    let u32_of = |r: &Registers, reg: Reg| {
        if reg == NONE { 0 } else { r.undefined32(reg, lane) }
    };
    let u64_of = |r: &Registers, reg: Reg| {
        if reg == NONE { 0 } else { r.undefined64(reg, lane) }
    };
    match *op {
        Op::Un32 { f, d, a, .. } => {
            let u = u32_of(r, a);
            let u = match f {
                Un32::Mov | Un32::Not => u,
                Un32::Not16 => u & 0xffff,
                Un32::Brev => u.reverse_bits(),
                _ => all32(u),
            };
            r.set_undefined32(d, lane, u);
        }
        Op::Bin32 { f, d, a, b, .. } => {
            let (x, y) = (r.get32(a)[lane], r.get32(b)[lane]);
            let u = bin32(f, x, u32_of(r, a), y, u32_of(r, b));
            r.set_undefined32(d, lane, u);
        }
        Op::Tri32 { f, lut, d, a, b, c, .. } => {
            let values = [a, b, c].map(|reg| r.get32(reg)[lane]);
            let undefined = [a, b, c].map(|reg| u32_of(r, reg));
            r.set_undefined32(d, lane, tri32(f, lut, values, undefined));
        }
        Op::Bfi32 { d, a, b, c, e } => {
            let (position, length) = (r.get32(c)[lane], r.get32(e)[lane]);
            let u = if u32_of(r, c) | u32_of(r, e) != 0 {
                u32::MAX
            } else {
                integer::bfi32(u32_of(r, a), u32_of(r, b), position, length)
            };
            r.set_undefined32(d, lane, u);
        }
        Op::Un64 { f, d, a, .. } => {
            let u = u64_of(r, a);
            let u = match f {
                Un64::Mov | Un64::Not => u,
                Un64::Brev => u.reverse_bits(),
                _ => all64(u),
            };
            r.set_undefined64(d, lane, u);
        }
        Op::Bin64 { f, d, a, b, .. } => {
            let (x, y) = (r.get64(a)[lane], r.get64(b)[lane]);
            let u = bin64(f, x, u64_of(r, a), y, u64_of(r, b));
            r.set_undefined64(d, lane, u);
        }
        Op::Tri64 { d, a, b, c, .. } => {
            let u = all64(u64_of(r, a) | u64_of(r, b) | u64_of(r, c));
            r.set_undefined64(d, lane, u);
        }
        Op::Shift64 { f, d, a, b } => {
            let amount = r.get32(b)[lane];
            let u = if u32_of(r, b) != 0 { u64::MAX } else { shift64(f, u64_of(r, a), amount) };
            r.set_undefined64(d, lane, u);
        }
        Op::Wide { d, a, b, c, .. } => {
            let u = all64(u64::from(u32_of(r, a) | u32_of(r, b)) | u64_of(r, c));
            r.set_undefined64(d, lane, u);
        }
        Op::Count64 { d, a, .. } => {
            let u = all32(u32::from(u64_of(r, a) != 0));
            r.set_undefined32(d, lane, u);
        }
        Op::Bfe64 { signed, d, a, b, c } => {
            let (position, length) = (r.get32(b)[lane], r.get32(c)[lane]);
            let u = if u32_of(r, b) | u32_of(r, c) != 0 {
                u64::MAX
            } else {
                integer::bfe64(signed, u64_of(r, a), position, length)
            };
            r.set_undefined64(d, lane, u);
        }
        Op::Bfi64 { d, a, b, c, e } => {
            let (position, length) = (r.get32(c)[lane], r.get32(e)[lane]);
            let u = if u32_of(r, c) | u32_of(r, e) != 0 {
                u64::MAX
            } else {
                integer::bfi64(u64_of(r, a), u64_of(r, b), position, length)
            };
            r.set_undefined64(d, lane, u);
        }
        Op::Half { t, d, a, b, c, .. } => {
            let u = u32_of(r, a) | u32_of(r, b) | u32_of(r, c);
            r.set_undefined32(d, lane, half(t, u));
        }
        Op::Cvt { spec, d, a } => {
            let u = if spec.from.bytes() == 8 { u64_of(r, a) } else { u64::from(u32_of(r, a)) };
            let u = cvt(spec, u);
            if spec.wide_to == 64 {
                r.set_undefined64(d, lane, u);
            } else {
                r.set_undefined32(d, lane, u as u32);
            }
        }
        Op::CvtPack { spec, d, a, b } => {
            let width = spec.to.bytes() * 4;
            let part = |reg: Reg| all32(u32_of(r, reg)) & ((1 << width) - 1);
            let u = part(a) << width | part(b);
            r.set_undefined32(d, lane, u);
        }
        Op::Pack64 { d, a, b } => {
            let u = u64::from(u32_of(r, a)) | u64::from(u32_of(r, b)) << 32;
            r.set_undefined64(d, lane, u);
        }
        Op::Pack32 { d, a, b } => {
            let u = u32_of(r, a) & 0xffff | u32_of(r, b) << 16;
            r.set_undefined32(d, lane, u);
        }
        Op::PackFour { wide, d, ref parts } => {
            let (width, mask) = if wide { (16, 0xffff) } else { (8, 0xff) };
            let u = parts
                .iter()
                .enumerate()
                .fold(0u64, |u, (index, &part)| u | u64::from(u32_of(r, part) & mask) << (width * index));
            if wide {
                r.set_undefined64(d, lane, u);
            } else {
                r.set_undefined32(d, lane, u as u32);
            }
        }
        _ => propagate_parts(r, op, lane),
    }
}

/// Operations with several results, and selections.
fn propagate_parts(r: &mut Registers, op: &Op, lane: usize) {
    let mut results: [(Reg, u32); 4] = [(NONE, 0); 4];
    match *op {
        Op::Unpack64 { d, e, a } => {
            let u = r.undefined64(a, lane);
            results[0] = (d, u as u32);
            results[1] = (e, (u >> 32) as u32);
        }
        Op::Unpack32 { d, e, a } => {
            let u = r.undefined32(a, lane);
            results[0] = (d, u & 0xffff);
            results[1] = (e, u >> 16);
        }
        Op::UnpackFour { wide, a, ref parts } => {
            let u = if wide { r.undefined64(a, lane) } else { u64::from(r.undefined32(a, lane)) };
            let (width, mask) = if wide { (16, 0xffff) } else { (8, 0xff) };
            for (index, &part) in parts.iter().enumerate() {
                results[index] = (part, (u >> (width * index)) as u32 & mask);
            }
        }
        Op::Selp32 { d, a, b, p } => {
            let known = r.predicate_defined(p) >> lane & 1 != 0;
            let chosen = if r.predicate(p) >> lane & 1 != 0 { a } else { b };
            results[0] = (d, if known { r.undefined32(chosen, lane) } else { u32::MAX });
        }
        Op::Selp64 { d, a, b, p } => {
            let known = r.predicate_defined(p) >> lane & 1 != 0;
            let chosen = if r.predicate(p) >> lane & 1 != 0 { a } else { b };
            let u = if known { r.undefined64(chosen, lane) } else { u64::MAX };
            r.set_undefined64(d, lane, u);
        }
        _ => {}
    }
    for (reg, bits) in results {
        if reg != NONE {
            r.set_undefined32(reg, lane, bits);
        }
    }
}
