//! Device memory with a shadow that knows which bytes were ever written.
//!
//! Every allocation is one lazily reserved mapping: its bytes, then one shadow byte for each of
//! them, then a map of the regions that kernels wrote. Device addresses come from a window of
//! their own that no host mapping can have, are never handed out twice and are kept apart by
//! gaps, so that a stray access meets nothing and a stale address is recognised.

#![allow(clippy::result_large_err, reason = "a fault is rare and ends what the host is doing")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

mod allocation;
mod bytes;
mod reach;
pub(crate) mod room;

use allocation::{Allocation, Mapping, Parts, forget_tags};
pub(crate) use allocation::{GRANULE, Snapshot, Window};
pub(crate) use bytes::{fill_bytes, load_bytes, scan_shadow, store_bytes};

use crate::fault::{Fault, FaultKind};

/// Set in the shadow byte of every byte that was written. The low bits hold the tag of the launch
/// that wrote it, or 0 for the host.
pub(crate) const DEFINED: u8 = 0x80;

/// Tags that launches take in turn.
const TAGS: u8 = 127;

/// Alignment of allocations. Bases are odd multiples of it, so that nothing can rely on more.
const ALIGN: u64 = 512;

/// Bytes that kernels may print before the host takes them.
const PRINT_BUFFER: usize = 1 << 20;

/// Least distance between two allocations.
const GAP: u64 = 1 << 20;

/// Freed allocations that are remembered; of the device's own, the oldest have the lowest addresses.
const FREED: usize = 1 << 16;

/// The windows of device addresses: 4096 of them, taken in turn by devices, all above what the
/// host can map, so that host code which follows a device pointer fails at once.
const FIRST_WINDOW: u64 = 0x0070_0000_0000_0000;
const WINDOW_SHIFT: u32 = 44;
const WINDOWS: u64 = 4096;
static NEXT_WINDOW: AtomicU64 = AtomicU64::new(0);

/// Whether an address is set aside for devices, so that there is never anything of the host's at it.
pub(crate) fn is_of_devices(address: u64) -> bool {
    (FIRST_WINDOW..FIRST_WINDOW + (WINDOWS << WINDOW_SHIFT)).contains(&address)
}

/// There is no room for an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of device memory: {requested} bytes asked for, {free} of {limit} free")]
pub struct OutOfMemory {
    /// Bytes asked for.
    pub requested: u64,
    /// Bytes that are free.
    pub free: u64,
    /// Size of the memory.
    pub limit: u64,
}

/// An address that cannot be freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFree {
    /// Nothing was ever allocated there.
    #[error("{0:#x} was never allocated")]
    NotAllocated(u64),
    /// It was freed before.
    #[error("{0:#x} was freed before")]
    DoubleFree(u64),
    /// It lies inside an allocation.
    #[error("{address:#x} lies inside the allocation at {base:#x}")]
    NotTheBase {
        /// The address given.
        address: u64,
        /// Where the allocation begins.
        base: u64,
    },
}

struct State {
    /// Live allocations in ascending order. The bases of the device's own only ever grow.
    live: Arc<Vec<Arc<Allocation>>>,
    /// What has an address already and exists later, by base.
    reserved: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, u64>,
    next: u64,
    used: u64,
    launches: u64,
}

/// The memory of one device.
///
/// It may be used from several threads at once. A kernel that races with another or with the host
/// gets some mixture of the bytes written, as on a device.
pub struct Memory {
    limit: AtomicU64,
    window: Range<u64>,
    state: RwLock<State>,
    /// Devices whose memory kernels of this one may use as well.
    peers: RwLock<Vec<Weak<Memory>>>,
    /// What kernels printed and the host has not taken yet.
    printed: Mutex<Vec<u8>>,
}

impl Memory {
    /// A memory of `limit` bytes. Nothing is reserved yet.
    pub fn new(limit: u64) -> Memory {
        let start = FIRST_WINDOW + ((NEXT_WINDOW.fetch_add(1, Relaxed) % WINDOWS) << WINDOW_SHIFT);
        let state = State {
            live: Arc::default(),
            reserved: BTreeMap::new(),
            freed: BTreeMap::new(),
            next: start + GAP,
            used: 0,
            launches: 0,
        };
        let window = start..start + (1 << WINDOW_SHIFT);
        Memory {
            limit: AtomicU64::new(limit),
            window,
            state: RwLock::new(state),
            peers: RwLock::default(),
            printed: Mutex::default(),
        }
    }

    /// Appends to what kernels printed. As in the buffer that hardware has for it, the oldest text
    /// is lost when there is too much.
    pub(crate) fn print(&self, text: &[u8]) {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        printed.extend_from_slice(text);
        let excess = printed.len().saturating_sub(PRINT_BUFFER);
        printed.drain(..excess);
    }

    /// What kernels printed since this was last taken, if it fits: at most `room` bytes.
    ///
    /// # Errors
    /// How long it is, if it is longer.
    pub fn take_printed(&self, room: usize) -> Result<Vec<u8>, usize> {
        let mut printed = self.printed.lock().unwrap_or_else(PoisonError::into_inner);
        if printed.len() <= room { Ok(std::mem::take(&mut *printed)) } else { Err(printed.len()) }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves `bytes` uninitialised bytes, aligned to 512, and returns their device address.
    ///
    /// # Errors
    /// The memory's limit, or the host's address space, is exhausted.
    pub fn alloc(&self, bytes: u64) -> Result<u64, OutOfMemory> {
        self.alloc_as(bytes, false)
    }

    /// As [`alloc`](Memory::alloc), for memory that kernels cannot write.
    pub(crate) fn alloc_read_only(&self, bytes: u64) -> Result<u64, OutOfMemory> {
        self.alloc_as(bytes, true)
    }

    fn alloc_as(&self, bytes: u64, read_only: bool) -> Result<u64, OutOfMemory> {
        let base = self.reserve_as(bytes, read_only)?;
        self.activate(base);
        Ok(base)
    }

    /// Gives out an address for `bytes` bytes that exist from [`activate`](Memory::activate) on.
    ///
    /// # Errors
    /// As for [`alloc`](Memory::alloc).
    pub(crate) fn reserve(&self, bytes: u64) -> Result<u64, OutOfMemory> {
        self.reserve_as(bytes, false)
    }

    fn reserve_as(&self, bytes: u64, read_only: bool) -> Result<u64, OutOfMemory> {
        let mut state = self.state_mut();
        let base = state.next.next_multiple_of(2 * ALIGN) + ALIGN;
        let next = base.saturating_add(bytes).saturating_add(GAP);
        if next > self.window.end {
            return Err(self.out_of_memory(&state, bytes));
        }
        self.place(&mut state, base, bytes, read_only)?;
        state.next = next;
        Ok(base)
    }

    /// Reserves what was freed once more, at its old address: the allocation nodes of graphs do.
    ///
    /// # Errors
    /// As for [`alloc`](Memory::alloc).
    pub(crate) fn reserve_again(&self, base: u64, bytes: u64) -> Result<(), OutOfMemory> {
        let mut state = self.state_mut();
        self.place(&mut state, base, bytes, false)?;
        state.freed.remove(&base);
        Ok(())
    }

    fn place(&self, state: &mut State, base: u64, bytes: u64, read_only: bool) -> Result<(), OutOfMemory> {
        let error = self.out_of_memory(state, bytes);
        if bytes > error.free {
            return Err(error);
        }
        let padded = bytes.next_multiple_of(8);
        let length = padded + Parts::of(bytes).end;
        let mapping = Mapping::new(length as usize, padded as usize).ok_or(error)?;
        state.used += bytes;
        let allocation = Arc::new(Allocation { base, size: bytes, read_only, of_host: false, mapping });
        state.reserved.insert(base, allocation);
        Ok(())
    }

    fn out_of_memory(&self, state: &State, requested: u64) -> OutOfMemory {
        let limit = self.limit();
        OutOfMemory { requested, free: limit.saturating_sub(state.used), limit }
    }

    /// Lets what was reserved exist.
    pub(crate) fn activate(&self, base: u64) {
        let mut state = self.state_mut();
        if let Some(allocation) = state.reserved.remove(&base) {
            let at = state.live.partition_point(|other| other.base < base);
            Arc::make_mut(&mut state.live).insert(at, allocation);
        }
    }

    /// Whether an address is, or could become, one of this memory's own.
    pub(crate) fn could_give(&self, address: u64) -> bool {
        self.window.contains(&address)
    }

    /// Whether an address lies in what was freed, and not so long ago that it is forgotten.
    pub(crate) fn has_freed(&self, address: u64) -> bool {
        let state = self.state();
        let below = state.freed.range(..=address).next_back();
        below.is_some_and(|(base, size)| address - base < *size)
    }

    /// Whether an address was reserved and does not exist yet.
    pub(crate) fn is_reserved(&self, base: u64) -> bool {
        self.state().reserved.contains_key(&base)
    }

    /// Frees the allocation that begins at `address`; its pages go back to the host's system.
    ///
    /// # Errors
    /// The address is not the base of a live allocation.
    pub fn free(&self, address: u64) -> Result<(), BadFree> {
        let mut state = self.state_mut();
        let found = state.live.binary_search_by_key(&address, |allocation| allocation.base);
        let allocation = match (found, state.reserved.remove(&address)) {
            (Ok(index), _) => Arc::make_mut(&mut state.live).remove(index),
            (Err(_), Some(reserved)) => reserved,
            (Err(_), None) => {
                return Err(match find(&state.live, address) {
                    Some(inside) => BadFree::NotTheBase { address, base: inside.base },
                    None if state.freed.contains_key(&address) => BadFree::DoubleFree(address),
                    None => BadFree::NotAllocated(address),
                });
            }
        };
        state.freed.insert(allocation.base, allocation.size);
        if state.freed.len() > FREED {
            state.freed.pop_first();
        }
        if !allocation.of_host {
            state.used -= allocation.size;
        }
        Ok(())
    }

    /// Copies bytes to the host. They need not be initialised: those that are not read as 0.
    ///
    /// # Errors
    /// The range is not inside one live allocation.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Fault> {
        if out.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.range(address, out.len() as u64, "read")?;
        // SAFETY: `range` checked that the bytes lie inside the allocation, which is alive.
        unsafe { load_bytes(allocation.window().data.add(offset), out.as_mut_ptr(), out.len()) };
        Ok(())
    }

    /// Copies bytes from the host, which initialises them.
    ///
    /// # Errors
    /// The range is not inside one live allocation.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), Fault> {
        if data.is_empty() {
            return Ok(());
        }
        let (allocation, offset) = self.range(address, data.len() as u64, "write")?;
        let window = allocation.window();
        // SAFETY: `range` checked that the bytes lie inside the allocation, which is alive.
        unsafe {
            store_bytes(window.data.add(offset), data.as_ptr(), data.len());
            fill_bytes(window.shadow.add(offset), DEFINED, data.len());
        }
        Ok(())
    }

    /// Writes `count` copies of a pattern, which initialises them.
    ///
    /// # Errors
    /// The range is not inside one live allocation.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), Fault> {
        let bytes = count.saturating_mul(pattern.len() as u64);
        if bytes == 0 {
            return Ok(());
        }
        let (allocation, offset) = self.range(address, bytes, "memset")?;
        let window = allocation.window();
        let same = pattern.iter().all(|&byte| byte == pattern[0]);
        // SAFETY: `range` checked that the bytes lie inside the allocation, which is alive.
        unsafe {
            if same {
                fill_bytes(window.data.add(offset), pattern[0], bytes as usize);
            } else {
                for index in 0..count as usize {
                    let at = window.data.add(offset + index * pattern.len());
                    store_bytes(at, pattern.as_ptr(), pattern.len());
                }
            }
            fill_bytes(window.shadow.add(offset), DEFINED, bytes as usize);
        }
        Ok(())
    }

    /// Copies bytes within the memory. What was not initialised stays so in the copy.
    ///
    /// # Errors
    /// One of the ranges is not inside one live allocation.
    pub fn copy(&self, from: u64, to: u64, bytes: u64) -> Result<(), Fault> {
        if bytes == 0 {
            return Ok(());
        }
        let (source, source_offset) = self.range(from, bytes, "copy")?;
        let (target, target_offset) = self.range(to, bytes, "copy")?;
        let (source, target) = (source.window(), target.window());
        // In pieces, through the host: the ranges may overlap, then the direction matters.
        const PIECE: u64 = 1 << 16;
        let mut buffer = vec![0u8; PIECE.min(bytes) as usize];
        let pieces = bytes.div_ceil(PIECE);
        for index in 0..pieces {
            let index = if to > from { pieces - 1 - index } else { index };
            let start = index * PIECE;
            let length = PIECE.min(bytes - start) as usize;
            let (at, to) = (source_offset + start as usize, target_offset + start as usize);
            // SAFETY: `range` checked both ranges; the allocations are alive.
            unsafe {
                load_bytes(source.data.add(at), buffer.as_mut_ptr(), length);
                store_bytes(target.data.add(to), buffer.as_ptr(), length);
                load_bytes(source.shadow.add(at), buffer.as_mut_ptr(), length);
                buffer[..length].iter_mut().for_each(|byte| *byte &= DEFINED);
                store_bytes(target.shadow.add(to), buffer.as_ptr(), length);
            }
        }
        Ok(())
    }

    /// Base and size of the allocation that an address lies in, reserved or live.
    pub fn range_of(&self, address: u64) -> Option<(u64, u64)> {
        let state = self.state();
        let live = find(&state.live, address).map(|allocation| (allocation.base, allocation.size));
        live.or_else(|| reserved(&state, address))
    }

    /// Whether a range lies in one allocation, reserved or live.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check(&self, address: u64, bytes: u64, what: &str) -> Result<(), Fault> {
        match self.range_of(address) {
            Some((base, size)) if bytes <= size - (address - base) => Ok(()),
            _ => {
                let (kind, detail) = self.explain(address, bytes, &format!("host {what}"));
                Err(Fault::of_host(kind, address, detail))
            }
        }
    }

    /// Bytes that can be allocated in all.
    pub fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    /// Changes the limit. Below what is allocated, it only keeps more from being allocated.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    /// Bytes allocated.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// What a new launch works with: the allocations, and the tag of what it writes.
    pub(crate) fn begin_launch(&self) -> (Snapshot, u8) {
        let of_peers = self.of_peers();
        let mut state = self.state_mut();
        let tag = (state.launches % u64::from(TAGS)) as u8 + 1;
        if state.launches > 0 && tag == 1 {
            state.live.iter().for_each(|allocation| forget_tags(&allocation.window()));
        }
        state.launches += 1;
        let mut live = state.live.clone();
        if !of_peers.is_empty() {
            Arc::make_mut(&mut live).extend(of_peers);
            Arc::make_mut(&mut live).sort_unstable_by_key(|allocation| allocation.base);
        }
        (Snapshot { live }, tag)
    }

    /// Why an access of a kernel or of the host is wrong.
    pub(crate) fn explain(&self, address: u64, bytes: u64, what: &str) -> (FaultKind, String) {
        let state = self.state();
        let access = format!("{what} of {bytes} bytes at {address:#x}");
        if let Some((base, size)) = reserved(&state, address) {
            let beyond = (address - base).saturating_add(bytes).saturating_sub(size);
            return if beyond == 0 {
                let whose = "whose allocation comes later in stream order";
                (FaultKind::UseBeforeAllocation, format!("{access}, in the {size} bytes at {base:#x} {whose}"))
            } else {
                let detail = format!("{access}, the last {beyond} beyond the end of the {size} bytes at {base:#x}");
                (FaultKind::OutOfBounds, detail)
            };
        }
        let below = state.freed.range(..=address).next_back();
        if let Some((&base, &size)) = below.filter(|&(&base, &size)| address - base < size) {
            let offset = address - base;
            let detail = format!("{access}, {offset} bytes into the freed {size} bytes at {base:#x}");
            return (FaultKind::UseAfterFree, detail);
        }
        let after = state.live.partition_point(|allocation| allocation.base <= address);
        let before = after.checked_sub(1).map(|index| &state.live[index]);
        let next = state.live.get(after);
        let distance_after = before.map(|a| address.saturating_sub(a.base + a.size));
        let distance_before = next.map(|a| a.base - address);
        let near = match (before, next) {
            (Some(a), _) if distance_after <= distance_before || next.is_none() => {
                let (base, size) = (a.base, a.size);
                match address.checked_sub(base + size) {
                    Some(beyond) => {
                        format!("{beyond} bytes after the end of the {size} bytes at {base:#x}")
                    }
                    None => {
                        let beyond = address.saturating_add(bytes) - (base + size);
                        format!("the last {beyond} beyond the end of the {size} bytes at {base:#x}")
                    }
                }
            }
            (_, Some(a)) => {
                let (base, size) = (a.base, a.size);
                format!("{} bytes before the {size} bytes at {base:#x}", base - address)
            }
            _ => "where nothing is allocated".to_owned(),
        };
        (FaultKind::OutOfBounds, format!("{access}, {near}"))
    }

    fn range(&self, address: u64, bytes: u64, what: &str) -> Result<(Arc<Allocation>, usize), Fault> {
        let found = find(&self.state().live, address).cloned();
        let offset = found.as_ref().and_then(|a| a.window().offset_of(address, bytes));
        match (found, offset) {
            (Some(allocation), Some(offset)) => Ok((allocation, offset)),
            _ => {
                let (kind, detail) = self.explain(address, bytes, &format!("host {what}"));
                Err(Fault::of_host(kind, address, detail))
            }
        }
    }
}

fn find(live: &[Arc<Allocation>], address: u64) -> Option<&Arc<Allocation>> {
    let after = live.partition_point(|allocation| allocation.base <= address);
    let allocation = &live[after.checked_sub(1)?];
    (address - allocation.base < allocation.size).then_some(allocation)
}

fn reserved(state: &State, address: u64) -> Option<(u64, u64)> {
    let (base, allocation) = state.reserved.range(..=address).next_back()?;
    (address - base < allocation.size).then_some((*base, allocation.size))
}
