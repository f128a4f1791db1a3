//! Where the cells of some memory are, and what is beside them.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};

use super::Act;
use super::cell::{GRANULE, UID_SHIFT};
use super::table::Table;

/// The cells of an allocation, or of a block's shared memory.
pub(super) struct View<'a> {
    writes: *const AtomicU64,
    reads: *const AtomicU64,
    write_marks: *const AtomicU16,
    read_marks: *const AtomicU16,
    pub(super) table: &'a Table,
    /// Tells the granules of one view from those of another in the same table.
    base: u64,
    /// Cells of threads with lower numbers are of the past.
    pub(super) floor: u64,
}

impl<'a> View<'a> {
    pub(super) fn new(
        (writes, reads): (*const AtomicU64, *const AtomicU64),
        (write_marks, read_marks): (*const AtomicU16, *const AtomicU16),
        table: &'a Table,
        base: u64,
        floor: u64,
    ) -> View<'a> {
        View { writes, reads, write_marks, read_marks, table, base, floor: floor << UID_SHIFT }
    }

    #[inline(always)]
    pub(super) fn write(&self, granule: usize) -> &AtomicU64 {
        // SAFETY: there is a cell for each granule of the memory, and callers stay inside it.
        unsafe { &*self.writes.add(granule) }
    }

    #[inline(always)]
    pub(super) fn read(&self, granule: usize) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { &*self.reads.add(granule) }
    }
}

impl View<'_> {
    /// The granule's key in the table.
    pub(super) fn key(&self, granule: usize) -> u64 {
        self.base + (granule * GRANULE) as u64
    }

    #[inline(always)]
    pub(super) fn mark(&self, granule: usize, act: Act) -> &AtomicU16 {
        let marks = if act == Act::Read { self.read_marks } else { self.write_marks };
        // SAFETY: as above.
        unsafe { &*marks.add(granule) }
    }

    /// Marks granules, four at once where they can be.
    #[inline(always)]
    pub(super) fn mark_run(&self, granules: std::ops::Range<usize>, act: Act, mark: u16) {
        let std::ops::Range { start: mut at, end } = granules;
        while at < end {
            if at.is_multiple_of(4) && end - at >= 4 {
                let place: *const AtomicU16 = self.mark(at, act);
                // SAFETY: four marks that are there; the first of all is aligned to the size of four.
                let four = unsafe { &*place.cast::<AtomicU64>() };
                four.store(u64::from(mark) * 0x0001_0001_0001_0001, Relaxed);
                at += 4;
            } else {
                self.mark(at, act).store(mark, Relaxed);
                at += 1;
            }
        }
    }
}
