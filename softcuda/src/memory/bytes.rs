//! Access to device memory and its shadow by relaxed atomics: kernels and the host may use the same
//! bytes at once.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Copies bytes out of device memory with relaxed atomic loads as wide as the alignment allows.
///
/// # Safety
/// `from` must be valid for reads of `count` bytes of device memory (or its shadow), `to` for
/// writes of as many bytes that nothing else refers to.
#[inline(always)]
pub(crate) unsafe fn load_bytes(from: *const u8, to: *mut u8, count: usize) {
    let mut done = 0;
    // SAFETY: every piece stays below `count`, and is aligned as its atomic type asks: the piece
    // is no wider than the alignment of its address.
    unsafe {
        while done < count {
            let (at, out, left) = (from.add(done) as *mut u8, to.add(done), count - done);
            let address = at as usize;
            if address.is_multiple_of(8) && left >= 8 {
                out.cast::<u64>().write_unaligned(AtomicU64::from_ptr(at.cast()).load(Relaxed));
                done += 8;
            } else if address.is_multiple_of(4) && left >= 4 {
                out.cast::<u32>().write_unaligned(AtomicU32::from_ptr(at.cast()).load(Relaxed));
                done += 4;
            } else if address.is_multiple_of(2) && left >= 2 {
                out.cast::<u16>().write_unaligned(AtomicU16::from_ptr(at.cast()).load(Relaxed));
                done += 2;
            } else {
                *out = AtomicU8::from_ptr(at).load(Relaxed);
                done += 1;
            }
        }
    }
}

/// Copies bytes into device memory with relaxed atomic stores as wide as the alignment allows.
///
/// # Safety
/// `to` must be valid for writes of `count` bytes of device memory (or its shadow), `from` for
/// reads of as many bytes.
#[inline(always)]
pub(crate) unsafe fn store_bytes(to: *mut u8, from: *const u8, count: usize) {
    let mut done = 0;
    // SAFETY: as in `load_bytes`.
    unsafe {
        while done < count {
            let (at, value, left) = (to.add(done), from.add(done), count - done);
            let address = at as usize;
            if address.is_multiple_of(8) && left >= 8 {
                AtomicU64::from_ptr(at.cast()).store(value.cast::<u64>().read_unaligned(), Relaxed);
                done += 8;
            } else if address.is_multiple_of(4) && left >= 4 {
                AtomicU32::from_ptr(at.cast()).store(value.cast::<u32>().read_unaligned(), Relaxed);
                done += 4;
            } else if address.is_multiple_of(2) && left >= 2 {
                AtomicU16::from_ptr(at.cast()).store(value.cast::<u16>().read_unaligned(), Relaxed);
                done += 2;
            } else {
                AtomicU8::from_ptr(at).store(*value, Relaxed);
                done += 1;
            }
        }
    }
}

/// Sets bytes of device memory (or its shadow) with relaxed atomic stores.
///
/// # Safety
/// `to` must be valid for writes of `count` bytes of device memory or its shadow.
#[inline(always)]
pub(crate) unsafe fn fill_bytes(to: *mut u8, value: u8, count: usize) {
    let wide = u64::from_ne_bytes([value; 8]);
    let mut done = 0;
    // SAFETY: as in `load_bytes`.
    unsafe {
        while done < count {
            let (at, left) = (to.add(done), count - done);
            let address = at as usize;
            if address.is_multiple_of(8) && left >= 8 {
                AtomicU64::from_ptr(at.cast()).store(wide, Relaxed);
                done += 8;
            } else if address.is_multiple_of(4) && left >= 4 {
                AtomicU32::from_ptr(at.cast()).store(wide as u32, Relaxed);
                done += 4;
            } else {
                AtomicU8::from_ptr(at).store(value, Relaxed);
                done += 1;
            }
        }
    }
}

/// Whether all of a range is defined, and whether any of its bytes has exactly this shadow.
///
/// # Safety
/// `from` must be valid for reads of `count` shadow bytes.
#[inline(always)]
pub(crate) unsafe fn scan_shadow(from: *const u8, count: usize, state: u8) -> (bool, bool) {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const DEFINED_ONES: u64 = 0x80 * ONES;
    let wanted = ONES * u64::from(state);
    let mut all = u64::MAX;
    let mut found = 0;
    let mut done = 0;
    while done < count {
        let (at, left) = (from.wrapping_add(done) as *mut u8, count - done);
        let address = at as usize;
        // SAFETY: as in `load_bytes`.
        let word = unsafe {
            if address.is_multiple_of(8) && left >= 8 {
                done += 8;
                AtomicU64::from_ptr(at.cast()).load(Relaxed)
            } else if address.is_multiple_of(4) && left >= 4 {
                done += 4;
                let low = AtomicU32::from_ptr(at.cast()).load(Relaxed);
                u64::from(low) | DEFINED_ONES << 32
            } else {
                done += 1;
                u64::from(AtomicU8::from_ptr(at).load(Relaxed)) | DEFINED_ONES << 8
            }
        };
        all &= word;
        // The classic test for a zero byte.
        let x = word ^ wanted;
        found |= x.wrapping_sub(ONES) & !x & DEFINED_ONES;
    }
    (all & DEFINED_ONES == DEFINED_ONES, found != 0)
}
