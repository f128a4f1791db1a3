//! Allocations, and what a running kernel sees of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};

use super::{DEFINED, room};

/// Bytes that a cell of the race detector stands for.
pub(crate) const GRANULE: u64 = 16;

/// Log2 of the size of the regions in the map of what kernels wrote.
pub(super) const REGION_SHIFT: u32 = 16;

/// The lazily reserved bytes behind one allocation.
pub(super) struct Mapping {
    pub(super) start: *mut u8,
    pub(super) length: usize,
    /// Where the bytes are: at the start, or in memory of the host's.
    pub(super) data: *mut u8,
    /// Offset of the shadow.
    pub(super) shadow: usize,
}

// SAFETY: a mapping is plain memory that belongs to no thread; all access to it is by relaxed
// atomics (see `load_bytes` and `store_bytes`).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// A mapping for the bytes, with their shadow at this offset.
    pub(super) fn new(length: usize, shadow: usize) -> Option<Mapping> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches
        // nothing that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start: *mut u8 = start.cast();
        Some(Mapping { start, length, data: start, shadow })
    }

    /// The same, at addresses that the host uses as well.
    pub(super) fn shared(length: usize, shadow: usize) -> Option<Mapping> {
        let start = room::take(length)?;
        Some(Mapping { start, length, data: start, shadow })
    }

    /// A mapping for the shadow only, of bytes that are the host's.
    pub(super) fn of_host(data: *mut u8, length: usize) -> Option<Mapping> {
        let shadow = Mapping::new(length, 0)?;
        // Taken apart by hand: a mapping that is dropped is unmapped.
        let (start, length) = (shadow.start, shadow.length);
        std::mem::forget(shadow);
        Some(Mapping { start, length, data, shadow: 0 })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and nothing else refers to it: every user
        // holds the `Arc<Allocation>` that owns it.
        unsafe { room::give_back(self.start, self.length) };
    }
}

/// One allocation.
pub(crate) struct Allocation {
    pub(super) base: u64,
    pub(super) size: u64,
    pub(super) read_only: bool,
    /// Its address is the host's own, and it takes none of the device's memory.
    pub(super) of_host: bool,
    pub(super) mapping: Mapping,
}

impl Allocation {
    pub(super) fn window(&self) -> Window {
        let Mapping { start, data, shadow, .. } = self.mapping;
        let parts = Parts::of(self.size);
        // SAFETY: from that offset on, the mapping holds the shadow bytes and the other parts.
        let at = |offset: u64| unsafe { start.add(shadow + offset as usize) };
        let Allocation { base, size, read_only, .. } = *self;
        let (writes, reads, sites) = (at(parts.writes).cast(), at(parts.reads).cast(), at(parts.sites).cast());
        Window { base, size, data, shadow: at(0), regions: at(parts.regions), writes, reads, sites, read_only }
    }
}

/// What follows the shadow of an allocation, by offsets from its beginning.
pub(super) struct Parts {
    /// The map of the regions that kernels wrote.
    pub(super) regions: u64,
    /// Who wrote and who read last, a cell for each [`GRANULE`] bytes.
    pub(super) writes: u64,
    pub(super) reads: u64,
    /// Which instructions did: a number for each cell.
    sites: u64,
    pub(super) end: u64,
}

impl Parts {
    pub(super) fn of(size: u64) -> Parts {
        let regions = size.next_multiple_of(8);
        let writes = (regions + (size >> REGION_SHIFT) + 1).next_multiple_of(8);
        let granules = size.div_ceil(GRANULE);
        let (reads, sites) = (writes + 8 * granules, writes + 16 * granules);
        Parts { regions, writes, reads, sites, end: sites + 4 * granules.next_multiple_of(4) }
    }
}

/// An allocation as a running kernel sees it: plain numbers, valid while the [`Snapshot`] that it
/// came from lives.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) base: u64,
    pub(crate) size: u64,
    pub(crate) data: *mut u8,
    pub(crate) shadow: *mut u8,
    pub(super) regions: *mut u8,
    /// Cells of the race detector, see [`GRANULE`].
    pub(crate) writes: *const AtomicU64,
    pub(crate) reads: *const AtomicU64,
    /// Those of all writes, in whole fours, then those of all reads.
    pub(crate) sites: *const AtomicU16,
    pub(crate) read_only: bool,
}

impl Window {
    /// Offset of `bytes` bytes at `address`, if they lie inside.
    #[inline(always)]
    pub(crate) fn offset_of(&self, address: u64, bytes: u64) -> Option<usize> {
        let offset = address.wrapping_sub(self.base);
        (offset < self.size && bytes <= self.size - offset).then_some(offset as usize)
    }

    /// Notes that a kernel wrote in a range, so that its tags can be forgotten later.
    #[inline(always)]
    pub(crate) fn mark_written(&self, offset: usize, bytes: usize) {
        let (first, last) = (offset >> REGION_SHIFT, (offset + bytes - 1) >> REGION_SHIFT);
        for region in first..=last {
            // SAFETY: the region map has one byte for each region that the size covers.
            let region = unsafe { AtomicU8::from_ptr(self.regions.add(region)) };
            if region.load(Relaxed) == 0 {
                region.store(1, Relaxed);
            }
        }
    }
}

/// The allocations that existed when a launch began.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(super) live: Arc<Vec<Arc<Allocation>>>,
}

impl Snapshot {
    /// Windows in ascending order of their bases.
    pub(crate) fn windows(&self) -> Vec<Window> {
        self.live.iter().map(|allocation| allocation.window()).collect()
    }
}

/// Makes what launches wrote look like what the host wrote, so that a tag can be used again.
pub(super) fn forget_tags(window: &Window) {
    for region in 0..=(window.size >> REGION_SHIFT) as usize {
        // SAFETY: the region map has one byte for each region that the size covers.
        let written = unsafe { AtomicU8::from_ptr(window.regions.add(region)) };
        if written.swap(0, Relaxed) == 0 {
            continue;
        }
        let start = region << REGION_SHIFT;
        let end = (start + (1 << REGION_SHIFT)).min(window.size as usize);
        for offset in start..end {
            // SAFETY: `offset` is below the size, and there is one shadow byte per byte.
            let byte = unsafe { AtomicU8::from_ptr(window.shadow.add(offset)) };
            byte.fetch_and(DEFINED, Relaxed);
        }
    }
}
