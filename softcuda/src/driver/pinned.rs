//! Watches over pinned host memory between the submission of a copy and its execution.
//!
//! What the copy reads is summed up at both times: a difference means that the host touched it in
//! between. What it writes is filled with a pattern until it is written: a host that reads it too
//! early gets the pattern, and one that writes it is found out.
//!
//! Work that comes before the copy may use the same memory rightly. Where such work, or a host
//! function that could do anything, is still to run at submission, the copy is not watched.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex};

use super::Answer;
use super::state::{Context, lock};
use super::status::Status;
use crate::memory::{fill_bytes, load_bytes, room};

/// Fills destinations until they are written.
const POISON: u8 = 0xB5;

/// Pinned memory that was allocated here. Copies that use it hold on to it: one in a graph, which
/// can run long after the host has freed the memory, finds it out then.
pub(crate) struct Pages {
    start: *mut u8,
    bytes: usize,
    freed: AtomicBool,
}

// SAFETY: the pages belong to no thread; who uses them answers for that.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Zeroed pages. Like the system's own they take memory when they are touched.
    pub(super) fn new(bytes: usize) -> Answer<Pages> {
        let start = room::take(bytes).ok_or(Status::OUT_OF_MEMORY)?;
        Ok(Pages { start, bytes, freed: AtomicBool::new(false) })
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start
    }

    /// The host has freed them.
    pub(super) fn set_freed(&self) {
        self.freed.store(true, Ordering::Release);
    }

    pub(super) fn are_freed(&self) -> bool {
        self.freed.load(Ordering::Acquire)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: taken by `new` with this size, and nobody holds on to them any more.
        unsafe { room::give_back(self.start, self.bytes) };
    }
}

/// Whether the host has something mapped at all pages of a range.
pub(super) fn is_mapped(start: usize, bytes: usize) -> bool {
    // SAFETY: it answers a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let offset = start % page;
    // SAFETY: with this flag the system looks whether the pages are mapped, and does nothing else.
    unsafe { libc::msync((start - offset) as *mut libc::c_void, bytes.saturating_add(offset), libc::MS_ASYNC) == 0 }
}

/// Uses of host memory by work that has not run.
#[derive(Default)]
struct InFlight {
    next: u64,
    uses: HashMap<u64, Use>,
}

#[derive(Clone, Copy)]
enum Use {
    /// Anything, by work of this device.
    Opaque(i32),
    Range {
        start: usize,
        end: usize,
        writes: bool,
    },
}

static IN_FLIGHT: LazyLock<Mutex<InFlight>> = LazyLock::new(Mutex::default);

/// A use of host memory that ends when this is dropped.
pub(crate) struct HostUse(u64);

impl HostUse {
    /// Something that may use any of the host's memory.
    pub(super) fn opaque(device: i32) -> HostUse {
        lock(&IN_FLIGHT).enter(Use::Opaque(device))
    }

    /// Something that may read and write a block.
    pub(super) fn of_block(start: usize, bytes: usize) -> HostUse {
        lock(&IN_FLIGHT).enter(Use::Range { start, end: start + bytes, writes: true })
    }
}

impl Drop for HostUse {
    fn drop(&mut self) {
        lock(&IN_FLIGHT).uses.remove(&self.0);
    }
}

impl InFlight {
    fn enter(&mut self, entry: Use) -> HostUse {
        self.next += 1;
        self.uses.insert(self.next, entry);
        HostUse(self.next)
    }

    /// Whether work that has not run may rightly change a range until a copy that `writes` it, or
    /// reads it, runs on this device.
    fn is_disputed(&self, rows: &Rows, writes: bool, device: i32) -> bool {
        let (first, last) = rows.span();
        self.uses.values().any(|other| match *other {
            Use::Opaque(of) => of == device,
            Use::Range { start, end, writes: written } => (writes || written) && start < last && first < end,
        })
    }
}

/// Rows of host memory, all inside one pinned block.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(super) start: *mut u8,
    pub(super) width: usize,
    pub(super) pitch: usize,
    pub(super) height: usize,
    pub(super) plane: usize,
    pub(super) depth: usize,
}

// SAFETY: the memory is pinned and the driver's until the copy is done; it is read and written with
// relaxed atomics only.
unsafe impl Send for Rows {}

impl Rows {
    fn each(&self) -> impl Iterator<Item = *mut u8> + '_ {
        (0..self.depth)
            .flat_map(move |z| (0..self.height).map(move |y| self.start.wrapping_add(z * self.plane + y * self.pitch)))
    }

    /// First byte, and the one after the last.
    fn span(&self) -> (usize, usize) {
        let start = self.start as usize;
        (start, start + (self.depth - 1) * self.plane + (self.height - 1) * self.pitch + self.width)
    }

    fn fill(&self) {
        for row in self.each() {
            // SAFETY: the rows lie in a pinned block, which is not freed before the copy has run.
            unsafe { fill_bytes(row, POISON, self.width) };
        }
    }

    /// Adds up the bytes in a way that tells their order.
    fn sum(&self) -> u64 {
        let mut buffer = [0_u64; 512];
        let mut sum = 0xcbf2_9ce4_8422_2325_u64;
        for row in self.each() {
            for start in (0..self.width).step_by(size_of_val(&buffer)) {
                let count = size_of_val(&buffer).min(self.width - start);
                buffer[count / 8..count.div_ceil(8)].fill(0);
                // SAFETY: as in `fill`; `count` bytes fit the buffer.
                unsafe { load_bytes(row.add(start), buffer.as_mut_ptr().cast(), count) };
                for word in &buffer[..count.div_ceil(8)] {
                    sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
                }
            }
        }
        sum
    }
}

/// The watch over the pinned end of a copy.
pub(crate) struct Watch {
    rows: Rows,
    writes: bool,
    /// The sum at submission; `None` if others may use the memory rightly.
    sum: Option<u64>,
    _use: HostUse,
}

impl Watch {
    /// Begins when the copy is submitted.
    pub(super) fn new(rows: Rows, writes: bool, device: i32) -> Watch {
        let (start, end) = rows.span();
        let mut in_flight = lock(&IN_FLIGHT);
        let disputed = in_flight.is_disputed(&rows, writes, device);
        let entered = in_flight.enter(Use::Range { start, end, writes });
        drop(in_flight);
        if writes && !disputed {
            rows.fill();
        }
        Watch { rows, writes, sum: (!disputed).then(|| rows.sum()), _use: entered }
    }

    /// Ends when the copy runs.
    pub(super) fn verify(&self, context: &Context) {
        if self.sum.is_some_and(|sum| sum != self.rows.sum()) {
            let what = if self.writes { "a copy was to write it" } else { "a copy was to read it" };
            let (start, end) = self.rows.span();
            context.hazard(format!("pinned host memory touched while {what}: in {start:#x} to {end:#x}"));
        }
    }
}
