//! Memory that a device reaches besides its own: the host's, and that of other devices.
//!
//! Host memory that kernels may use has the same address for both sides, as unified addressing
//! has it. Nothing notices when the host writes there, so all of it counts as initialised.

use std::sync::{Arc, PoisonError, Weak};

use super::{Allocation, DEFINED, Mapping, Memory, OutOfMemory, REGION_SHIFT, State, fill_bytes, forget_tags};

/// Bytes of the shadow and the map of regions for so many bytes of memory.
fn overhead(bytes: u64) -> u64 {
    bytes.next_multiple_of(8) + (bytes >> REGION_SHIFT) + 8
}

impl Memory {
    /// Zeroed memory that the host reaches at the address given as well.
    pub(crate) fn alloc_managed(&self, bytes: u64) -> Result<u64, OutOfMemory> {
        let padded = bytes.checked_next_multiple_of(8).filter(|bytes| *bytes < 1 << 46);
        let mapping = padded.and_then(|padded| Mapping::new((padded + overhead(bytes)) as usize, padded as usize));
        self.reach(mapping.ok_or_else(|| self.no_room(bytes))?, bytes)
    }

    /// Lets kernels use host memory, unless they can use some of it already.
    ///
    /// The memory must stay valid until [`unmap_host`](Memory::unmap_host), or for as long as no
    /// kernel is run that gets its address.
    pub(crate) fn map_host(&self, start: *mut u8, bytes: u64) -> Result<u64, OutOfMemory> {
        let mapping = (bytes < 1 << 46).then(|| Mapping::of_host(start, overhead(bytes) as usize)).flatten();
        self.reach(mapping.ok_or_else(|| self.no_room(bytes))?, bytes)
    }

    fn no_room(&self, bytes: u64) -> OutOfMemory {
        let limit = self.limit();
        OutOfMemory { requested: bytes, free: limit.saturating_sub(self.used()), limit }
    }

    /// Enters host memory among the allocations.
    fn reach(&self, mapping: Mapping, bytes: u64) -> Result<u64, OutOfMemory> {
        let base = mapping.data as u64;
        let allocation = Allocation { base, size: bytes, read_only: false, of_host: true, mapping };
        // SAFETY: the shadow of an allocation has a byte for each of its bytes.
        unsafe { fill_bytes(allocation.window().shadow, DEFINED, bytes as usize) };
        let mut state = self.state_mut();
        let after = state.live.partition_point(|other| other.base < base + bytes);
        if after.checked_sub(1).is_some_and(|before| state.live[before].base + state.live[before].size > base) {
            drop(state);
            return Err(self.no_room(bytes));
        }
        // The host may use addresses again.
        state.freed.retain(|start, size| *start >= base + bytes || *start + *size <= base);
        Arc::make_mut(&mut state.live).insert(after, Arc::new(allocation));
        Ok(base)
    }

    /// Ends what [`map_host`](Memory::map_host) began.
    pub(crate) fn unmap_host(&self, start: u64) {
        // Gone already if the lease has ended meanwhile.
        let _ = self.free(start);
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
