//! Where the memory traffic of a traced launch goes.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// The traffic of a launch, or of several, that ran with [`Config::trace`](crate::Config::trace).
///
/// # The cache
///
/// DRAM traffic is what remains behind an L2 cache of [`Config::l2_bytes`](crate::Config::l2_bytes):
/// lines of 128 bytes with four sectors, 16 ways, the least recently used line goes first. Reads
/// fetch whole sectors; writes are kept until their line goes, and fetch nothing. The cache is
/// empty when a launch begins and is written back when it ends. There is no L1 in front of it.
///
/// The interpreter runs one block after another, which is kinder to a cache than a device that runs
/// all that fit on it. So the accesses of as many blocks as are resident at once go to the cache in
/// turn, one request of each block at a time; then come the next blocks.
///
/// # Bytes in flight
///
/// The bytes of a global load are in flight from the load until the first instruction of its warp
/// that reads or overwrites one of the registers it loads; those of `cp.async` until a wait for it.
/// Bulk copies, whose waits are those of other threads, are not among them. This is what the order of PTX instructions allows; `ptxas` may move loads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Traffic {
    /// The allocations that kernels accessed, in the order of their addresses.
    pub buffers: Vec<BufferTraffic>,
    /// Sectors that kernels asked the cache for.
    pub l2_read_sectors: u64,
    /// Sectors of those that it had.
    pub l2_read_hits: u64,
    /// Bytes read from DRAM.
    pub dram_read_bytes: u64,
    /// Bytes written to DRAM.
    pub dram_write_bytes: u64,
    /// The most bytes that one warp has in flight.
    pub warp_bytes_in_flight: u64,
    /// The most bytes that a multiprocessor can have in flight: those of all warps of a block, each
    /// at its best, times the blocks that are resident on it. Registers, which may allow fewer
    /// blocks, are not considered.
    pub sm_bytes_in_flight: u64,
}

/// The traffic of one allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BufferTraffic {
    /// Its device address.
    pub base: u64,
    /// Its size.
    pub size: u64,
    /// What was read.
    pub read: Accesses,
    /// What was written, atomic operations included.
    pub written: Accesses,
}

/// Accesses of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Accesses {
    /// Requests of warps.
    pub requests: u64,
    /// 32-byte sectors touched by each request, summed over the requests.
    pub sectors: u64,
    /// The least sectors that these requests could have touched; see
    /// [`Counters::global_read_sectors_least`](crate::Counters::global_read_sectors_least).
    pub sectors_least: u64,
    /// Bytes that threads asked for.
    pub bytes: u64,
    /// Different bytes among them, within a launch.
    pub unique_bytes: u64,
}

impl Accesses {
    /// Bytes that were asked for again, by the same thread or by others of the launch.
    pub fn repeated_bytes(&self) -> u64 {
        self.bytes - self.unique_bytes
    }
}

impl AddAssign for Accesses {
    fn add_assign(&mut self, other: Accesses) {
        self.requests += other.requests;
        self.sectors += other.sectors;
        self.sectors_least += other.sectors_least;
        self.bytes += other.bytes;
        self.unique_bytes += other.unique_bytes;
    }
}

impl Traffic {
    /// The traffic of the allocation that an address lies in.
    pub fn buffer(&self, address: u64) -> Option<&BufferTraffic> {
        self.buffers.iter().find(|buffer| address.checked_sub(buffer.base).is_some_and(|at| at < buffer.size))
    }

    /// The traffic as JSON.
    pub fn to_json(&self) -> String {
        crate::records::json(self)
    }
}

impl AddAssign<&Traffic> for Traffic {
    fn add_assign(&mut self, other: &Traffic) {
        for theirs in &other.buffers {
            match self.buffers.binary_search_by_key(&theirs.base, |buffer| buffer.base) {
                Ok(index) => {
                    self.buffers[index].read += theirs.read;
                    self.buffers[index].written += theirs.written;
                }
                Err(index) => self.buffers.insert(index, *theirs),
            }
        }
        self.l2_read_sectors += other.l2_read_sectors;
        self.l2_read_hits += other.l2_read_hits;
        self.dram_read_bytes += other.dram_read_bytes;
        self.dram_write_bytes += other.dram_write_bytes;
        self.warp_bytes_in_flight = self.warp_bytes_in_flight.max(other.warp_bytes_in_flight);
        self.sm_bytes_in_flight = self.sm_bytes_in_flight.max(other.sm_bytes_in_flight);
    }
}
