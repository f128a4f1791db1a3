//! The registers of a warp.
//!
//! A slot holds 32 bits of each of the 32 lanes, a 64-bit register takes two slots. Beside the
//! values there is a bit per slot and lane that says "all of it is defined", and, for the lanes
//! where that bit is 0, the bits of the value that are undefined.

use crate::lower::Frame;
use crate::lower::op::{PredRef, Reg};

/// Lanes of a warp.
pub(super) const LANES: usize = 32;
/// A 32-bit register: a value for each lane.
pub(super) type Lanes32 = [u32; LANES];
/// A 64-bit register: a value for each lane.
pub(super) type Lanes64 = [u64; LANES];

/// Register values need this alignment, that of two slots.
#[derive(Clone, Copy)]
#[repr(C, align(256))]
struct SlotPair([u32; 2 * LANES]);

/// The registers of one warp.
pub(super) struct Registers {
    values: Box<[SlotPair]>,
    /// Bits that are undefined, for lanes that are not wholly defined. Rarely touched.
    undefined: Box<[u32]>,
    /// Lanes that are wholly defined, by slot.
    defined: Box<[u32]>,
    /// Predicates: a bit per lane.
    predicates: Box<[u32]>,
    predicates_defined: Box<[u32]>,
    /// The carry of each lane, and where it is defined.
    pub(super) carry: u32,
    pub(super) carry_defined: u32,
}

impl Registers {
    pub(super) fn new(frame: &Frame, predicates: u32) -> Registers {
        let pairs = (frame.slots as usize).div_ceil(2);
        let zeros = SlotPair([0; 2 * LANES]);
        let mut registers = Registers {
            values: vec![zeros; pairs].into_boxed_slice(),
            undefined: vec![0; pairs * 2 * LANES].into_boxed_slice(),
            defined: vec![0; 2 * pairs].into_boxed_slice(),
            predicates: vec![0; predicates as usize].into_boxed_slice(),
            predicates_defined: vec![0; predicates as usize].into_boxed_slice(),
            carry: 0,
            carry_defined: 0,
        };
        for &(slot, bits) in &frame.constants32 {
            registers.set32(slot, &[bits; LANES], u32::MAX);
        }
        for &(slot, bits) in &frame.constants64 {
            registers.set64(slot, &[bits; LANES], u32::MAX);
        }
        registers
    }

    /// Forgets everything but the immediates, for the next block.
    pub(super) fn reset(&mut self, frame: &Frame) {
        self.defined.fill(0);
        self.predicates_defined.fill(0);
        self.carry_defined = 0;
        // Predicate 0 is always true.
        if let Some(first) = self.predicates.first_mut() {
            *first = u32::MAX;
            self.predicates_defined[0] = u32::MAX;
        }
        for &slot in &frame.unwritten {
            let start = slot as usize * LANES;
            self.undefined[start..start + LANES].fill(u32::MAX);
        }
        let constants = frame.constants32.iter().map(|constant| constant.0);
        for slot in constants.chain(frame.constants64.iter().map(|constant| constant.0)) {
            self.defined[slot as usize] = u32::MAX;
        }
    }

    #[inline(always)]
    fn slot(&self, reg: Reg) -> *const u32 {
        debug_assert!((reg as usize) < 2 * self.values.len());
        // SAFETY: registers are slots of the frame that sized `values`.
        unsafe { self.values.as_ptr().cast::<u32>().add(reg as usize * LANES) }
    }

    #[inline(always)]
    fn slot_mut(&mut self, reg: Reg) -> *mut u32 {
        debug_assert!((reg as usize) < 2 * self.values.len());
        // SAFETY: registers are slots of the frame that sized `values`.
        unsafe { self.values.as_mut_ptr().cast::<u32>().add(reg as usize * LANES) }
    }

    /// A 32-bit register.
    #[inline(always)]
    pub(super) fn get32(&self, reg: Reg) -> &Lanes32 {
        // SAFETY: the slot is inside `values`, borrowed as `self` is.
        unsafe { &*self.slot(reg).cast::<Lanes32>() }
    }

    /// A 64-bit register. Its slots begin at any place, but 128 bytes are alignment enough.
    #[inline(always)]
    pub(super) fn get64(&self, reg: Reg) -> &Lanes64 {
        // SAFETY: both slots are inside `values`, borrowed as `self` is.
        unsafe { &*self.slot(reg).cast::<Lanes64>() }
    }

    /// Writes the lanes in `mask` of a 32-bit register.
    #[inline(always)]
    pub(super) fn set32(&mut self, reg: Reg, values: &Lanes32, mask: u32) {
        // SAFETY: the slot is inside `values`, borrowed as `self` is.
        let target = unsafe { &mut *self.slot_mut(reg).cast::<Lanes32>() };
        if mask == u32::MAX {
            *target = *values;
        } else {
            for lane in 0..LANES {
                let keep = (mask >> lane & 1).wrapping_sub(1);
                target[lane] = (target[lane] & keep) | (values[lane] & !keep);
            }
        }
    }

    /// Writes the lanes in `mask` of a 64-bit register.
    #[inline(always)]
    pub(super) fn set64(&mut self, reg: Reg, values: &Lanes64, mask: u32) {
        // SAFETY: both slots are inside `values`, borrowed as `self` is.
        let target = unsafe { &mut *self.slot_mut(reg).cast::<Lanes64>() };
        if mask == u32::MAX {
            *target = *values;
        } else {
            for lane in 0..LANES {
                let keep = u64::from(mask >> lane & 1).wrapping_sub(1);
                target[lane] = (target[lane] & keep) | (values[lane] & !keep);
            }
        }
    }

    /// Lanes in which all of a register is defined.
    #[inline(always)]
    pub(super) fn defined(&self, reg: Reg) -> u32 {
        debug_assert!((reg as usize) < self.defined.len());
        // SAFETY: registers are slots of the frame that sized `defined`.
        unsafe { *self.defined.get_unchecked(reg as usize) }
    }

    /// Marks lanes of a register as wholly defined.
    #[inline(always)]
    pub(super) fn define(&mut self, reg: Reg, mask: u32) {
        debug_assert!((reg as usize) < self.defined.len());
        // SAFETY: registers are slots of the frame that sized `defined`.
        unsafe { *self.defined.get_unchecked_mut(reg as usize) |= mask }
    }

    /// The undefined bits of a lane of a 32-bit register.
    pub(super) fn undefined32(&self, reg: Reg, lane: usize) -> u32 {
        if self.defined(reg) >> lane & 1 != 0 {
            return 0;
        }
        let index = reg as usize * LANES + lane;
        self.undefined[index]
    }

    /// The undefined bits of a lane of a 64-bit register.
    pub(super) fn undefined64(&self, reg: Reg, lane: usize) -> u64 {
        if self.defined(reg) >> lane & 1 != 0 {
            return 0;
        }
        let index = reg as usize * LANES + 2 * lane;
        let word = |index: usize| u64::from(self.undefined[index]);
        word(index) | word(index + 1) << 32
    }

    /// Sets which bits of a lane of a 32-bit register are undefined.
    pub(super) fn set_undefined32(&mut self, reg: Reg, lane: usize, bits: u32) {
        if bits == 0 {
            self.defined[reg as usize] |= 1 << lane;
        } else {
            self.defined[reg as usize] &= !(1 << lane);
            let index = reg as usize * LANES + lane;
            self.undefined[index] = bits;
        }
    }

    /// Sets which bits of a lane of a 64-bit register are undefined.
    pub(super) fn set_undefined64(&mut self, reg: Reg, lane: usize, bits: u64) {
        if bits == 0 {
            self.defined[reg as usize] |= 1 << lane;
        } else {
            self.defined[reg as usize] &= !(1 << lane);
            let index = reg as usize * LANES + 2 * lane;
            for (index, bits) in [(index, bits as u32), (index + 1, (bits >> 32) as u32)] {
                self.undefined[index] = bits;
            }
        }
    }

    /// A predicate operand.
    #[inline(always)]
    pub(super) fn predicate(&self, p: PredRef) -> u32 {
        debug_assert!(p.index() < self.predicates.len());
        // SAFETY: predicates are numbered below the count that sized `predicates`.
        unsafe { *self.predicates.get_unchecked(p.index()) ^ p.flip() }
    }

    /// Lanes in which a predicate operand is defined.
    #[inline(always)]
    pub(super) fn predicate_defined(&self, p: PredRef) -> u32 {
        debug_assert!(p.index() < self.predicates_defined.len());
        // SAFETY: predicates are numbered below the count that sized `predicates_defined`.
        unsafe { *self.predicates_defined.get_unchecked(p.index()) }
    }

    /// Writes the lanes in `mask` of a predicate, and whether each is defined.
    #[inline(always)]
    pub(super) fn set_predicate(&mut self, index: u32, value: u32, defined: u32, mask: u32) {
        debug_assert!((index as usize) < self.predicates.len());
        // SAFETY: predicates are numbered below the count that sized both lists.
        let (p, d) = unsafe {
            (
                self.predicates.get_unchecked_mut(index as usize),
                self.predicates_defined.get_unchecked_mut(index as usize),
            )
        };
        *p = (*p & !mask) | (value & mask);
        *d = (*d & !mask) | (defined & mask);
    }
}
