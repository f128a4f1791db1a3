//! Cells by bytes, for the granules that need it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::cell::GRANULE;

/// The cells of a granule's bytes.
pub(super) struct Split {
    pub(super) writes: [u64; GRANULE],
    pub(super) reads: [u64; GRANULE],
    /// What is beside each of them.
    pub(super) write_marks: [u16; GRANULE],
    pub(super) read_marks: [u16; GRANULE],
}

pub(super) type Shard = HashMap<u64, Box<Split>>;

/// Granules by their address, in shards so that blocks on several host threads rarely wait.
pub(super) struct Table(Box<[Mutex<Shard>]>);

impl Table {
    pub(super) fn new(shards: usize) -> Table {
        Table((0..shards).map(|_| Mutex::default()).collect())
    }

    pub(super) fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let index = (key / GRANULE as u64) as usize % self.0.len();
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clear(&mut self) {
        for shard in &mut self.0 {
            shard.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}
