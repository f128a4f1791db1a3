//! Addresses of the host's for what both sides use: managed memory, and pinned memory that is
//! allocated here. They are set aside once for the process, never used twice and given to nothing
//! else, so that one which is stale is recognised, and host code that follows it fails at once.

use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes of addresses. They take no memory.
const BYTES: usize = 1 << 44;

const KIND: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

/// The addresses, and the next that nobody has had.
static ROOM: OnceLock<Option<(Range<usize>, AtomicUsize)>> = OnceLock::new();

fn room() -> Option<&'static (Range<usize>, AtomicUsize)> {
    let make = || {
        // SAFETY: a mapping at an address of the system's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_NONE, KIND, -1, 0) };
        // Under a limit of the address space the system's addresses have to do.
        (start != libc::MAP_FAILED).then(|| (start as usize..start as usize + BYTES, AtomicUsize::new(start as usize)))
    };
    ROOM.get_or_init(make).as_ref()
}

/// Whether an address is one of these.
pub(crate) fn is_set_aside(address: u64) -> bool {
    let room = ROOM.get().and_then(Option::as_ref);
    room.is_some_and(|(range, _)| range.contains(&(address as usize)))
}

/// Zeroed pages, which take memory when they are touched.
pub(crate) fn take(bytes: usize) -> Option<*mut u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // Large ones begin at large pages; between any two there is a page that nobody may touch.
    let align = if bytes < 1 << 21 { 1 << 16 } else { 1 << 21 };
    let place = |next: usize, end: usize| {
        let start = next.checked_next_multiple_of(align)?;
        let next = start.checked_add(bytes)?.checked_add(1 << 16)?;
        (next <= end).then_some((start, next))
    };
    let fresh = room().and_then(|(range, next)| {
        let taken = next.fetch_update(Relaxed, Relaxed, |next| place(next, range.end).map(|(_, next)| next));
        place(taken.ok()?, range.end).map(|(start, _)| start)
    });
    let (hint, fixed) = fresh.map_or((0, 0), |start| (start, libc::MAP_FIXED));
    // SAFETY: at an address of the system's choice, or at ones that were set aside and nobody has had.
    let start = unsafe { libc::mmap(hint as *mut libc::c_void, bytes, access, KIND | fixed, -1, 0) };
    (start != libc::MAP_FAILED).then_some(start.cast())
}

/// Gives pages back to the system, and keeps their addresses.
///
/// # Safety
/// They came from [`take`] with this size, or are another mapping, and nobody uses them any more.
pub(crate) unsafe fn give_back(start: *mut u8, bytes: usize) {
    if is_set_aside(start as u64) {
        // SAFETY: as the caller vouches; what was there is replaced by nothing.
        unsafe { libc::mmap(start.cast(), bytes, libc::PROT_NONE, KIND | libc::MAP_FIXED, -1, 0) };
    } else {
        // SAFETY: as the caller vouches.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}
