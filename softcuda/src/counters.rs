//! What a launch did, in numbers that do not depend on time.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// Counts of what kernels executed and asked of memory.
///
/// An instruction counts as issued whether or not its predicate let any lane through, as NVIDIA's
/// `inst_executed` does; thread instructions count the lanes that were let through. Plain 64-bit
/// integers only: it crosses a C boundary.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    #[serde(with = "classes")]
    pub by_class: [u64; OpClass::COUNT],
    /// Thread instructions by class, indexed by [`OpClass`].
    #[serde(with = "classes")]
    pub threads_by_class: [u64; OpClass::COUNT],
    /// Bytes that threads asked to read from global memory.
    pub global_read_bytes: u64,
    /// Bytes that threads asked to write to global memory, atomic operations included.
    pub global_write_bytes: u64,
    /// 32-byte sectors touched by each read request of a warp, summed over the requests.
    pub global_read_sectors: u64,
    /// 32-byte sectors touched by each write request of a warp, summed over the requests.
    pub global_write_sectors: u64,
    /// The least sectors that the read requests could have touched: those of the same bytes side by
    /// side from the beginning of a sector on, or what a request did touch where lanes share bytes.
    pub global_read_sectors_least: u64,
    /// The least sectors that the write requests could have touched.
    pub global_write_sectors_least: u64,
    /// Read requests of warps to global memory.
    pub global_read_requests: u64,
    /// Write requests of warps to global memory, atomic operations included.
    pub global_write_requests: u64,
    /// Bytes that threads read from shared memory.
    pub shared_read_bytes: u64,
    /// Bytes that threads wrote to shared memory, atomic operations included.
    pub shared_write_bytes: u64,
    /// Passes over the 32 banks that the shared-memory requests need. The lanes of a warp go
    /// together if they access up to four bytes each, in two halves with eight, in four quarters
    /// with sixteen; such a part needs as many passes as one bank has different words to give.
    /// Atomic operations of lanes on one word need a pass each.
    pub shared_wavefronts: u64,
    /// Passes beyond one for each part of a warp: what bank conflicts cost.
    pub shared_bank_conflicts: u64,
    /// Requests of warps to shared memory.
    pub shared_requests: u64,
    /// Barriers that blocks completed.
    pub barriers: u64,
    /// Barriers that clusters completed.
    pub cluster_barriers: u64,
    /// `bar.warp.sync` that warps executed.
    pub warp_barriers: u64,
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
    /// The same on pairs of f16 or bf16, which takes the unit two operations.
    MufuPair,
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
    pub const COUNT: usize = 18;

    /// All classes, in the order of their indices.
    pub const ALL: [OpClass; OpClass::COUNT] = [
        OpClass::Alu,
        OpClass::Fma,
        OpClass::Double,
        OpClass::Mufu,
        OpClass::MufuPair,
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
            OpClass::MufuPair => "mufu pair",
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

    /// The thread instructions of one class.
    pub fn threads(&self, class: OpClass) -> u64 {
        self.threads_by_class[class as usize]
    }

    /// Operations of the special-function unit that threads executed; divided by the elements that
    /// a kernel works on, how many it spends on each. Those inside f64 arithmetic are not counted.
    pub fn mufu(&self) -> u64 {
        self.threads(OpClass::Mufu) + 2 * self.threads(OpClass::MufuPair)
    }

    /// Lanes that an instruction executes on average, of 32: less where warps diverge, are not
    /// full, or instructions are predicated. 0 before any instruction.
    pub fn lanes_per_instruction(&self) -> f64 {
        if self.warp_instructions == 0 {
            return 0.0;
        }
        self.thread_instructions as f64 / self.warp_instructions as f64
    }

    /// The counts as JSON.
    pub fn to_json(&self) -> String {
        crate::records::json(self)
    }
}

/// Counts by class are a map from the class's name in JSON; what is 0 is left out.
mod classes {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::OpClass;

    pub(super) fn serialize<S: Serializer>(counts: &[u64; OpClass::COUNT], out: S) -> Result<S::Ok, S::Error> {
        let named = OpClass::ALL.iter().zip(counts).filter(|(_, count)| **count != 0);
        out.collect_map(named.map(|(class, count)| (class.name(), count)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; OpClass::COUNT], D::Error> {
        let named = BTreeMap::<String, u64>::deserialize(from)?;
        Ok(OpClass::ALL.map(|class| named.get(class.name()).copied().unwrap_or(0)))
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
        for (mine, theirs) in self.threads_by_class.iter_mut().zip(other.threads_by_class) {
            *mine += theirs;
        }
        self.global_read_bytes += other.global_read_bytes;
        self.global_write_bytes += other.global_write_bytes;
        self.global_read_sectors += other.global_read_sectors;
        self.global_write_sectors += other.global_write_sectors;
        self.global_read_sectors_least += other.global_read_sectors_least;
        self.global_write_sectors_least += other.global_write_sectors_least;
        self.global_read_requests += other.global_read_requests;
        self.global_write_requests += other.global_write_requests;
        self.shared_read_bytes += other.shared_read_bytes;
        self.shared_write_bytes += other.shared_write_bytes;
        self.shared_wavefronts += other.shared_wavefronts;
        self.shared_bank_conflicts += other.shared_bank_conflicts;
        self.shared_requests += other.shared_requests;
        self.barriers += other.barriers;
        self.cluster_barriers += other.cluster_barriers;
        self.warp_barriers += other.warp_barriers;
        self.divergent_branches += other.divergent_branches;
    }
}
