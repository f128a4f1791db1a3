//! Memory that a device reaches besides its own: the host's, and that of other devices.
//!
//! Host memory that kernels may use has the same address for both sides, as unified addressing
//! has it. Nothing notices when the host writes there, so all of it counts as initialised.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Allocation, DEFINED, Mapping, Memory, OutOfMemory, Parts, State, fill_bytes, forget_tags};

/// Bytes of host memory that devices of this process reach, and how many they may.
static REACHED: AtomicU64 = AtomicU64::new(0);
const MOST_REACHED: u64 = 64 << 30;

const PAGE: usize = 4096;

/// A file of defined shadow bytes that large shadows are copies of until a kernel writes, so that
/// they take memory only then; and how much of it is filled.
static TEMPLATE: Mutex<Option<(c_int, usize)>> = Mutex::new(None);

/// Most of it.
const TEMPLATE_BYTES: usize = 64 << 20;

/// The template's file, filled this far.
fn template(bytes: usize) -> Option<c_int> {
    let mut template = TEMPLATE.lock().unwrap_or_else(PoisonError::into_inner);
    let (file, filled) = match *template {
        Some(known) => known,
        // SAFETY: a valid name.
        None => (unsafe { libc::memfd_create(c"softcuda".as_ptr(), libc::MFD_CLOEXEC) }, 0),
    };
    if file < 0 {
        return None;
    }
    *template = Some((file, filled));
    let block = [DEFINED; 1 << 16];
    for at in (filled..bytes).step_by(block.len()) {
        // SAFETY: the block is valid for its length.
        let written = unsafe { libc::pwrite(file, block.as_ptr().cast(), block.len(), at as libc::off_t) };
        if written != block.len() as isize {
            return None;
        }
        *template = Some((file, at + block.len()));
    }
    Some(file)
}

/// Makes a range of shadow bytes defined. `None` if the system has no room.
///
/// # Safety
/// The bytes belong to one mapping, and the first is at the beginning of a page.
unsafe fn define(shadow: *mut u8, bytes: usize) -> Option<()> {
    // A few pages are not worth a mapping.
    let mapped = if bytes < 16 * PAGE { 0 } else { bytes / PAGE * PAGE };
    for at in (0..mapped).step_by(TEMPLATE_BYTES) {
        let part = TEMPLATE_BYTES.min(mapped - at);
        let file = template(part)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_FIXED);
        // SAFETY: whole pages inside the mapping, which stays mapped.
        let placed = unsafe { libc::mmap(shadow.add(at).cast(), part, access, kind | libc::MAP_NORESERVE, file, 0) };
        if placed == libc::MAP_FAILED {
            return None;
        }
    }
    // SAFETY: inside the mapping, as the caller vouches.
    unsafe { fill_bytes(shadow.add(mapped), DEFINED, bytes - mapped) };
    Some(())
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if self.of_host {
            REACHED.fetch_sub(self.size, Relaxed);
        }
    }
}

impl Memory {
    /// Zeroed memory that the host reaches at the address given as well.
    pub(crate) fn alloc_managed(&self, bytes: u64) -> Result<u64, OutOfMemory> {
        self.reach(bytes, || {
            let shadow = bytes.next_multiple_of(PAGE as u64);
            Mapping::shared((shadow + Parts::of(bytes).end) as usize, shadow as usize)
        })
    }

    /// Lets kernels use host memory, unless they can use some of it already.
    ///
    /// The memory must stay valid until [`unmap_host`](Memory::unmap_host), or for as long as no
    /// kernel is run that gets its address.
    pub(crate) fn map_host(&self, start: *mut u8, bytes: u64) -> Result<u64, OutOfMemory> {
        self.reach(bytes, || Mapping::of_host(start, Parts::of(bytes).end as usize))
    }

    /// Enters host memory among the allocations.
    fn reach(&self, bytes: u64, mapping: impl FnOnce() -> Option<Mapping>) -> Result<u64, OutOfMemory> {
        let limit = self.limit();
        let error = OutOfMemory { requested: bytes, free: limit.saturating_sub(self.used()), limit };
        if bytes > MOST_REACHED.saturating_sub(REACHED.load(Relaxed)) {
            return Err(error);
        }
        let mapping = mapping().ok_or(error)?;
        let base = mapping.data as u64;
        let allocation = Allocation { base, size: bytes, read_only: false, of_host: true, mapping };
        REACHED.fetch_add(bytes, Relaxed);
        // SAFETY: the shadow has a byte for each byte, and begins at a page in both cases.
        unsafe { define(allocation.window().shadow, bytes as usize) }.ok_or(error)?;
        let mut state = self.state_mut();
        let after = state.live.partition_point(|other| other.base < base + bytes);
        let before = after.checked_sub(1).map(|before| &state.live[before]);
        if before.is_some_and(|before| before.base + before.size > base) {
            return Err(error);
        }
        // The host may use addresses again.
        state.freed.retain(|start, size| *start >= base + bytes || *start + *size <= base);
        Arc::make_mut(&mut state.live).insert(after, Arc::new(allocation));
        Ok(base)
    }

    /// Ends what [`map_host`](Memory::map_host) began, once whatever uses the memory has ended.
    pub(crate) fn unmap_host(&self, start: u64) {
        let mut state = self.state_mut();
        let Ok(index) = state.live.binary_search_by_key(&start, |allocation| allocation.base) else { return };
        let allocation = Arc::make_mut(&mut state.live).remove(index);
        state.freed.insert(allocation.base, allocation.size);
        drop(state);
        // The host is about to do something else with it.
        while Arc::strong_count(&allocation) > 1 {
            std::thread::yield_now();
        }
    }

    /// Lets kernels use the memory of another device. Whoever asks for it several times must end
    /// it as often.
    pub(crate) fn add_peer(&self, peer: &Arc<Memory>) {
        self.peers.write().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(peer));
    }

    /// Ends it, once.
    pub(crate) fn remove_peer(&self, peer: &Arc<Memory>) {
        let mut peers = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = peers.iter().position(|other| std::ptr::eq(other.as_ptr(), Arc::as_ptr(peer))) {
            peers.swap_remove(found);
        }
    }

    /// What the peers have allocated. Their bytes lose the tags of launches, which each device
    /// counts for itself.
    pub(super) fn of_peers(&self) -> Vec<Arc<Allocation>> {
        let peers = self.peers.read().unwrap_or_else(PoisonError::into_inner);
        let mut distinct: Vec<Arc<Memory>> = peers.iter().filter_map(Weak::upgrade).collect();
        drop(peers);
        distinct.sort_unstable_by_key(Arc::as_ptr);
        distinct.dedup_by_key(|peer| Arc::as_ptr(peer));
        let of = |peer: &Arc<Memory>| -> Arc<Vec<Arc<Allocation>>> {
            let state: &State = &peer.state();
            state.live.iter().for_each(|allocation| forget_tags(&allocation.window()));
            state.live.clone()
        };
        distinct.iter().flat_map(|peer| of(peer).to_vec()).collect()
    }
}
