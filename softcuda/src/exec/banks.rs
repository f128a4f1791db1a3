//! Banks of shared memory: how many passes over them an access needs.
//!
//! There are 32 banks of four bytes. The lanes of a warp go together if they access up to four
//! bytes each; with eight they go in halves, with sixteen in quarters. In one pass a bank gives one
//! word, to any number of lanes.

use super::registers::{LANES, Lanes64};

const BANKS: usize = 32;

/// Lanes that go together.
#[inline(always)]
fn lanes_together(bytes: usize) -> usize {
    match bytes {
        0..=4 => LANES,
        5..=8 => LANES / 2,
        9..=16 => LANES / 4,
        _ => LANES / 8,
    }
}

/// Parts of the warp that have lanes to serve: the passes that an access needs without conflicts.
#[inline(always)]
pub(super) fn parts(mask: u32, bytes: usize) -> u64 {
    let together = lanes_together(bytes);
    if mask == u32::MAX || together == LANES {
        return (LANES / together) as u64;
    }
    let part = (1u32 << together) - 1;
    (0..LANES / together).map(|index| u64::from(mask >> (index * together) & part != 0)).sum()
}

/// Passes of a load or store.
#[inline(never)]
pub(super) fn wavefronts(at: &Lanes64, mask: u32, bytes: usize) -> u64 {
    passes(at, mask, bytes, true)
}

/// Passes of an atomic operation: the lanes that meet at a word come one after the other.
#[inline(never)]
pub(super) fn atomic_wavefronts(at: &Lanes64, mask: u32, bytes: usize) -> u64 {
    passes(at, mask, bytes, false)
}

#[inline(always)]
fn passes(at: &Lanes64, mask: u32, bytes: usize, broadcast: bool) -> u64 {
    let together = lanes_together(bytes);
    let shift = bytes.max(4).trailing_zeros();
    let mut total = 0;
    for start in (0..LANES).step_by(together) {
        // As many different places in the banks as lanes: that is the common case, and quick to see.
        let (mut places, mut clash) = (0u32, 0u32);
        let (part, lanes) = (&at[start..start + together], mask >> start);
        for (lane, &address) in part.iter().enumerate() {
            let place = (lanes >> lane & 1) << ((address >> shift) as usize % together);
            clash |= places & place;
            places |= place;
        }
        total += match clash {
            0 => u64::from(places != 0),
            _ => passes_of_part(part, lanes, bytes, broadcast),
        };
    }
    total
}

/// Passes for lanes that go together.
fn passes_of_part(at: &[u64], mask: u32, bytes: usize, broadcast: bool) -> u64 {
    // No more words than there are banks: a part of the warp accesses 128 bytes at most.
    let mut words = [0u64; BANKS];
    let mut count = 0;
    let mut banks = [0u8; BANKS];
    for (_, &address) in at.iter().enumerate().filter(|(lane, _)| mask >> lane & 1 != 0) {
        for word in address / 4..(address + bytes as u64).div_ceil(4) {
            if broadcast && words[..count].contains(&word) {
                continue;
            }
            words[count] = word;
            count += 1;
            banks[word as usize % BANKS] += 1;
        }
    }
    u64::from(banks.iter().copied().max().unwrap_or(0))
}
