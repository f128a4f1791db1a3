//! The buffer that bytes pass between registers and memory.

#![allow(clippy::needless_range_loop, reason = "loops over lanes, in the form that vectorises")]

use crate::lower::op::{Access, NONE, Reg};
use crate::memory::DEFINED;

use super::access::lanes_of;
use super::registers::LANES;
use super::state::Warp;

/// Bytes on their way between registers and memory: up to 32 for each lane, lane after lane.
#[repr(C, align(64))]
pub(super) struct Staging {
    pub(super) bytes: [u8; 32 * LANES],
    /// Whether each byte is defined; valid only if `partial`.
    pub(super) defined: [u8; 32 * LANES],
    /// Whether any byte is undefined.
    pub(super) partial: bool,
    /// With a seed: lanes that store what was there already.
    pub(super) unchanged: u32,
}

impl Staging {
    pub(super) fn new() -> Staging {
        Staging { bytes: [0; 32 * LANES], defined: [0; 32 * LANES], partial: false, unchanged: 0 }
    }

    /// Notes which bytes of a range are undefined.
    #[cold]
    #[inline(never)]
    pub(super) fn note(&mut self, start: usize, states: &[u8]) {
        if !self.partial {
            self.partial = true;
            self.defined.fill(DEFINED);
        }
        self.defined[start..start + states.len()].copy_from_slice(states);
    }

    /// The undefined bits of `size` bytes.
    fn undefined_bits(&self, start: usize, size: usize) -> u64 {
        self.defined[start..start + size]
            .iter()
            .enumerate()
            .fold(0, |bits, (index, state)| if state & DEFINED == 0 { bits | 0xff << (8 * index) } else { bits })
    }
}

#[inline(always)]
fn read<const SIZE: usize>(bytes: &[u8; 32 * LANES], start: usize) -> u64 {
    let mut value = [0; 8];
    value[..SIZE].copy_from_slice(&bytes[start..start + SIZE]);
    u64::from_le_bytes(value)
}

#[inline(always)]
fn sign_extend(value: u64, size: usize) -> u64 {
    let shift = 64 - 8 * size as u32;
    ((value << shift) as i64 >> shift) as u64
}

/// One element of a load from the staging buffer to its register.
#[inline(always)]
fn spread_one<const SIZE: usize>(
    staging: &Staging,
    warp: &mut Warp,
    access: &Access,
    (reg, mask): (Reg, u32),
    (start, stride): (usize, usize),
) {
    if access.wide {
        let mut values = [0; LANES];
        for lane in 0..LANES {
            let value = read::<SIZE>(&staging.bytes, lane * stride + start);
            values[lane] = if access.extend == 64 { sign_extend(value, SIZE) } else { value };
        }
        warp.r.set64(reg, &values, mask);
    } else {
        let mut values = [0; LANES];
        for lane in 0..LANES {
            let value = read::<SIZE>(&staging.bytes, lane * stride + start);
            values[lane] = value as u32;
        }
        if access.extend != 0 {
            let width = access.extend;
            for value in &mut values {
                let extended = sign_extend(u64::from(*value), SIZE) as u32;
                *value = if width == 16 { extended & 0xffff } else { extended };
            }
        }
        warp.r.set32(reg, &values, mask);
    }
    if staging.partial {
        spread_undefined(staging, warp, access, reg, mask, (start, stride, SIZE));
    } else {
        warp.r.define(reg, mask);
    }
}

#[cold]
#[inline(never)]
fn spread_undefined(
    staging: &Staging,
    warp: &mut Warp,
    access: &Access,
    reg: Reg,
    mask: u32,
    (start, stride, size): (usize, usize, usize),
) {
    for lane in lanes_of(mask) {
        let bits = staging.undefined_bits(lane * stride + start, size);
        let bits = if access.extend != 0 { sign_extend(bits, size) } else { bits };
        if access.wide {
            warp.r.set_undefined64(reg, lane, bits);
        } else {
            warp.r.set_undefined32(reg, lane, bits as u32);
        }
    }
}

/// A load's bytes from the staging buffer to registers.
#[inline(always)]
pub(super) fn spread(staging: &Staging, warp: &mut Warp, access: &Access, mask: u32) {
    let (size, count) = (usize::from(access.size), usize::from(access.count));
    for index in 0..count {
        let reg = access.regs[index];
        if reg == NONE {
            continue;
        }
        let target = (reg, mask);
        let start = index * size;
        match (size, count) {
            (4, 1) => spread_one::<4>(staging, warp, access, target, (0, 4)),
            (4, 4) => spread_one::<4>(staging, warp, access, target, (start, 16)),
            (1, _) => spread_one::<1>(staging, warp, access, target, (start, count)),
            (2, _) => spread_one::<2>(staging, warp, access, target, (start, 2 * count)),
            (4, _) => spread_one::<4>(staging, warp, access, target, (start, 4 * count)),
            _ => spread_one::<8>(staging, warp, access, target, (start, 8 * count)),
        }
    }
}

/// A store's bytes from registers to the staging buffer.
#[inline(always)]
pub(super) fn gather(staging: &mut Staging, warp: &Warp, access: &Access, mask: u32) {
    let (size, count) = (usize::from(access.size), usize::from(access.count));
    let stride = size * count;
    for index in 0..count {
        let reg = access.regs[index];
        let start = index * size;
        if access.wide {
            let values = warp.r.get64(reg);
            for lane in 0..LANES {
                let at = lane * stride + start;
                let bytes = values[lane].to_le_bytes();
                match size {
                    8 => staging.bytes[at..at + 8].copy_from_slice(&bytes),
                    _ => staging.bytes[at..at + size].copy_from_slice(&bytes[..size]),
                }
            }
        } else {
            let values = warp.r.get32(reg);
            for lane in 0..LANES {
                let at = lane * stride + start;
                let bytes = values[lane].to_le_bytes();
                match size {
                    4 => staging.bytes[at..at + 4].copy_from_slice(&bytes),
                    _ => staging.bytes[at..at + size].copy_from_slice(&bytes[..size]),
                }
            }
        }
        if mask & !warp.r.defined(reg) != 0 {
            gather_undefined(staging, warp, access, reg, mask, start);
        }
    }
}

#[cold]
#[inline(never)]
fn gather_undefined(staging: &mut Staging, warp: &Warp, access: &Access, reg: Reg, mask: u32, start: usize) {
    let size = usize::from(access.size);
    let stride = size * usize::from(access.count);
    for lane in lanes_of(mask & !warp.r.defined(reg)) {
        let bits = if access.wide { warp.r.undefined64(reg, lane) } else { u64::from(warp.r.undefined32(reg, lane)) };
        let mut states = [DEFINED; 8];
        for (state, byte) in states.iter_mut().zip(bits.to_le_bytes()) {
            if byte != 0 {
                *state = 0;
            }
        }
        let states = &states[..size];
        if states.contains(&0) {
            staging.note(lane * stride + start, states);
        }
    }
}
