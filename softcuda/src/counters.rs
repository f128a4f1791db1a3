//! What a launch did, in numbers that do not depend on time.

use std::ops::AddAssign;

/// Counts of what kernels executed and asked of memory.
///
/// An instruction counts as issued whether or not its predicate let any lane through, as NVIDIA's
/// `inst_executed` does; thread instructions count the lanes that were let through. Plain 64-bit
/// integers only: it crosses a C boundary.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernel launches.
    pub launches: u64,
    /// Blocks that ran.
    pub blocks: u64,
    /// Warps that ran.
    pub warps: u64,
    /// Instructions issued, one for a whole warp or the diverged part of one.
    pub warp_instructions: u64,
    /// Instructions executed by threads: lanes whose predicate was true.
    pub thread_instructions: u64,
    /// Warp instructions by class, indexed by [`OpClass`].
    pub by_class: [u64; OpClass::COUNT],
    /// Bytes that threads asked to read from global memory.
    pub global_read_bytes: u64,
    /// Bytes that threads asked to write to global memory, atomic operations included.
    pub global_write_bytes: u64,
    /// 32-byte sectors touched by each read request of a warp, summed over the requests.
    pub global_read_sectors: u64,
    /// 32-byte sectors touched by each write request of a warp, summed over the requests.
    pub global_write_sectors: u64,
    /// Read requests of warps to global memory.
    pub global_read_requests: u64,
    /// Write requests of warps to global memory, atomic operations included.
    pub global_write_requests: u64,
    /// Bytes that threads read from shared memory.
    pub shared_read_bytes: u64,
    /// Bytes that threads wrote to shared memory, atomic operations included.
    pub shared_write_bytes: u64,
    /// Passes over the 32 banks that the shared-memory requests need; one each without conflicts
    /// for accesses of up to four bytes a lane.
    pub shared_wavefronts: u64,
    /// Requests of warps to shared memory.
    pub shared_requests: u64,
    /// Barriers that blocks completed.
    pub barriers: u64,
    /// Branches at which the lanes of a warp parted.
    pub divergent_branches: u64,
}

/// The classes by which [`Counters::by_class`] counts instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum OpClass {
    /// Integer, logic, select, compare, move and f32 arithmetic other than fma.
    Alu,
    /// Fused multiply-add, in f32, f16 and bf16.
    Fma,
    /// Arithmetic in f64.
    Double,
    /// The special-function unit: reciprocal, root, ex2, lg2, sin, cos, tanh, division.
    Mufu,
    /// Conversions between types.
    Convert,
    /// Loads from global memory.
    LoadGlobal,
    /// Stores to global memory.
    StoreGlobal,
    /// Loads from shared memory.
    LoadShared,
    /// Stores to shared memory.
    StoreShared,
    /// Loads and stores of local memory.
    Local,
    /// Loads of kernel parameters and constants.
    Constant,
    /// Atomic operations and reductions on memory.
    Atomic,
    /// Shuffles, votes, matches and warp reductions.
    Shuffle,
    /// Barriers and fences.
    Barrier,
    /// Branches, returns and exits.
    Branch,
    /// Asynchronous copies and their waits.
    Async,
    /// Everything else.
    Other,
}

impl OpClass {
    /// Number of classes.
    pub const COUNT: usize = 17;

    /// All classes, in the order of their indices.
    pub const ALL: [OpClass; OpClass::COUNT] = [
        OpClass::Alu,
        OpClass::Fma,
        OpClass::Double,
        OpClass::Mufu,
        OpClass::Convert,
        OpClass::LoadGlobal,
        OpClass::StoreGlobal,
        OpClass::LoadShared,
        OpClass::StoreShared,
        OpClass::Local,
        OpClass::Constant,
        OpClass::Atomic,
        OpClass::Shuffle,
        OpClass::Barrier,
        OpClass::Branch,
        OpClass::Async,
        OpClass::Other,
    ];

    /// A short name, for tables.
    pub fn name(self) -> &'static str {
        match self {
            OpClass::Alu => "alu",
            OpClass::Fma => "fma",
            OpClass::Double => "double",
            OpClass::Mufu => "mufu",
            OpClass::Convert => "convert",
            OpClass::LoadGlobal => "load global",
            OpClass::StoreGlobal => "store global",
            OpClass::LoadShared => "load shared",
            OpClass::StoreShared => "store shared",
            OpClass::Local => "local",
            OpClass::Constant => "constant",
            OpClass::Atomic => "atomic",
            OpClass::Shuffle => "shuffle",
            OpClass::Barrier => "barrier",
            OpClass::Branch => "branch",
            OpClass::Async => "async",
            OpClass::Other => "other",
        }
    }
}

impl Counters {
    /// The warp instructions of one class.
    pub fn class(&self, class: OpClass) -> u64 {
        self.by_class[class as usize]
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Counters) {
        self.launches += other.launches;
        self.blocks += other.blocks;
        self.warps += other.warps;
        self.warp_instructions += other.warp_instructions;
        self.thread_instructions += other.thread_instructions;
        for (mine, theirs) in self.by_class.iter_mut().zip(other.by_class) {
            *mine += theirs;
        }
        self.global_read_bytes += other.global_read_bytes;
        self.global_write_bytes += other.global_write_bytes;
        self.global_read_sectors += other.global_read_sectors;
        self.global_write_sectors += other.global_write_sectors;
        self.global_read_requests += other.global_read_requests;
        self.global_write_requests += other.global_write_requests;
        self.shared_read_bytes += other.shared_read_bytes;
        self.shared_write_bytes += other.shared_write_bytes;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_requests += other.shared_requests;
        self.barriers += other.barriers;
        self.divergent_branches += other.divergent_branches;
    }
}
