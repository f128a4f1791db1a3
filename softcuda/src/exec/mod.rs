//! Modules and launches.

#![allow(clippy::result_large_err, reason = "a fault ends a launch: it is made at most once")]

mod access;
mod alu;
mod alu64;
mod approximate;
mod assertion;
mod atomics;
mod banks;
mod barrier;
mod block;
mod cache;
mod cluster;
mod convert;
mod copies;
mod engine;
mod float;
mod grid;
mod half;
mod integer;
mod mbarrier;
mod meeting;
mod print;
mod races;
mod rare;
mod registers;
mod shared;
pub mod soft;
mod staging;
mod state;
mod sync;
mod traffic;
mod transfers;
mod undefined;

use crate::config::{Approximation, Config};
use crate::counters::Counters;
use crate::fault::{Fault, FaultKind};
use crate::lower::{Entry, Program, lower};
use crate::memory::Memory;
use crate::ptx::{header, parse};
use crate::traffic::Traffic;

pub use crate::lower::Param as ParamInfo;
pub use crate::ptx::{LoadError, LoadErrorKind};

use state::Launch;

/// Where the shared memory of a block lies among generic addresses. Like the other windows it is
/// outside of what [`Memory`] hands out.
pub(crate) const SHARED_WINDOW: u64 = 0x10 << 48;
/// Where the local memory of a thread lies among generic addresses.
pub(crate) const LOCAL_WINDOW: u64 = 0x20 << 48;
/// Where kernel parameters lie among generic addresses.
pub(crate) const PARAM_WINDOW: u64 = 0x30 << 48;
/// Where functions whose address is taken lie. Nothing can be read there.
pub(crate) const CODE_WINDOW: u64 = 0x40 << 48;

/// One kernel of a [`Module`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId(pub(crate) usize);

/// What the host may know of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryInfo {
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub params: Vec<ParamInfo>,
    /// Size of the parameter block.
    pub param_bytes: u32,
    /// Shared memory with a size known at load time.
    pub static_shared: u32,
    /// Local memory of each thread.
    pub local_bytes: u32,
    /// `.maxntid` or `.reqntid`, the dimensions multiplied; 0 where there is none.
    pub max_threads: u32,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`, 0 where there is none.
    pub min_blocks: u32,
    /// Registers a thread needs, estimated from what is live at once.
    pub registers: u32,
    /// `.reqnctapercluster`, where given.
    pub cluster: Option<[u32; 3]>,
}

/// PTX, loaded.
#[derive(Debug)]
pub struct Module {
    program: Program,
    text: String,
}

/// How many blocks of how many threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Blocks of a cluster; ones for none.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
}

impl Module {
    /// Reads PTX text; the module's variables are allocated in `memory` and initialised.
    ///
    /// # Errors
    /// The text is not PTX, uses something that this engine does not do (named, with its line),
    /// or its names do not fit together.
    pub fn load(text: &str, memory: &Memory) -> Result<Module, LoadError> {
        let text = text.trim_end_matches('\0');
        let tree = parse(text)?;
        let program = lower(&tree, memory)?;
        Ok(Module { program, text: text.to_owned() })
    }

    /// `.version` of a text, without reading the rest.
    pub fn ptx_version(text: &str) -> Option<(u32, u32)> {
        header(text).0
    }

    /// `.target` of a text, without reading the rest: 90 for `sm_90`, and whether it is for that
    /// architecture (`a`) or its family (`f`) only.
    pub fn ptx_target(text: &str) -> Option<(u32, bool)> {
        header(text).1.map(|target| (target.sm, target.specific))
    }

    /// The kernel with a name.
    pub fn entry(&self, name: &str) -> Option<EntryId> {
        self.program.entries.iter().position(|entry| entry.name == name).map(EntryId)
    }

    /// The names of all kernels.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.program.entries.iter().map(|entry| entry.name.as_str())
    }

    /// What the host may know of a kernel.
    pub fn entry_info(&self, id: EntryId) -> EntryInfo {
        let entry = &self.program.entries[id.0];
        let max_threads = declared_threads(entry);
        EntryInfo {
            name: entry.name.clone(),
            params: entry.params.clone(),
            param_bytes: entry.param_bytes,
            static_shared: entry.static_shared,
            local_bytes: entry.local_bytes,
            max_threads,
            required_threads: entry.required_threads,
            min_blocks: entry.min_blocks,
            registers: registers(entry),
            cluster: entry.cluster,
        }
    }

    /// Address and size of a variable in device memory.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        let global = self.program.globals.iter().find(|global| global.name == name)?;
        Some((global.address, global.bytes))
    }

    /// Frees the module's variables.
    pub fn unload(&self, memory: &Memory) {
        for global in &self.program.globals {
            // A second unload finds nothing to free.
            let _ = memory.free(global.address);
        }
    }
}

/// Threads that a block may have by `.maxntid` or `.reqntid`; 0 where there is neither.
fn declared_threads(entry: &Entry) -> u32 {
    let product = |dims: [u32; 3]| dims.iter().fold(1u32, |all, &n| all.saturating_mul(n));
    entry.max_threads.or(entry.required_threads).map_or(0, product)
}

/// Registers of a thread: what is live at once, and some for addresses and temporaries. As ptxas
/// does, it keeps within what a block of the declared size can have: 64K registers, dealt out to
/// whole warps in eights. Without a declared size, a block of any size fits.
fn registers(entry: &Entry) -> u32 {
    const FILE: u32 = 65_536;
    let threads = match declared_threads(entry) {
        0 => 1024,
        threads => threads.min(1024).next_multiple_of(32),
    };
    let resident = threads.saturating_mul(entry.min_blocks.max(1));
    let most = (FILE / resident / 8 * 8).clamp(16, 255);
    (entry.frame.pressure + 8).next_multiple_of(8).clamp(16, most)
}

/// What a launch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Its counts.
    pub counters: Counters,
    /// Where its traffic went, if it was traced.
    pub traffic: Option<Traffic>,
}

/// As [`measure`], for those who want the counts alone.
///
/// # Errors
/// As there.
pub fn run(
    module: &Module,
    entry: EntryId,
    shape: &LaunchShape,
    params: &[u8],
    memory: &Memory,
    config: &Config,
) -> Result<Counters, Fault> {
    measure(module, entry, shape, params, memory, config).map(|measured| measured.counters)
}

/// Runs a kernel to completion. `params` is the packed parameter block, as [`EntryInfo`] lays it
/// out. Independent blocks run on `config.workers` threads; the result does not depend on that.
///
/// # Errors
/// The launch is impossible, or the kernel made an error: of all that are found, the one of the
/// lowest block.
pub fn measure(
    module: &Module,
    entry: EntryId,
    shape: &LaunchShape,
    params: &[u8],
    memory: &Memory,
    config: &Config,
) -> Result<Measured, Fault> {
    let entry = &module.program.entries[entry.0];
    check(entry, shape, params, config)?;
    let perturbed = (config.approximation != Approximation::Nearest).then(|| approximate::perturbed(entry));
    let entry = perturbed.as_ref().unwrap_or(entry);
    let (snapshot, tag) = memory.begin_launch();
    let launch = Launch {
        entry,
        shape: *shape,
        params,
        memory,
        config,
        tag,
        shared_bytes: entry.static_shared as usize + shape.dynamic_shared as usize,
        races: grid::races(entry, shape, config),
        files: &module.program.files,
        text: &module.text,
    };
    let mut measured = grid::run(&launch, &snapshot)?;
    measured.counters.launches = 1;
    Ok(measured)
}

/// Blocks that a cluster may have on any device.
const MAX_CLUSTER: u32 = 16;

/// Refuses launches that no device of this configuration could make.
fn check(entry: &Entry, shape: &LaunchShape, params: &[u8], config: &Config) -> Result<(), Fault> {
    let refuse = |detail: String| {
        let mut fault = Fault::of_host(FaultKind::BadLaunch, 0, detail);
        fault.kernel.clone_from(&entry.name);
        Err(fault)
    };
    let product = |dims: &[u32; 3]| dims.iter().map(|&n| u128::from(n)).product::<u128>();
    let threads = product(&shape.block);
    if threads == 0 || threads > u128::from(config.max_threads_per_block.min(1024)) {
        return refuse(format!("a block of {threads} threads"));
    }
    if product(&shape.grid) == 0 || product(&shape.grid) > u128::from(u64::MAX >> 1) {
        return refuse(format!("a grid of {} blocks", product(&shape.grid)));
    }
    let shared = u64::from(entry.static_shared) + u64::from(shape.dynamic_shared);
    if shared > u64::from(config.shared_per_block_optin.max(config.shared_per_block)) {
        return refuse(format!("{shared} bytes of shared memory"));
    }
    if (params.len() as u64) < u64::from(entry.param_bytes) {
        let (given, wanted) = (params.len(), entry.param_bytes);
        return refuse(format!("{given} bytes of parameters where {wanted} are wanted"));
    }
    let cluster = product(&shape.cluster);
    if cluster == 0 || cluster > u128::from(config.max_cluster.clamp(1, MAX_CLUSTER)) {
        return refuse(format!("a cluster of {cluster} blocks"));
    }
    if entry.cluster.is_some_and(|required| required != shape.cluster) {
        return refuse(format!("clusters of {:?}, the kernel requires {:?}", shape.cluster, entry.cluster));
    }
    if (0..3).any(|d| !shape.grid[d].is_multiple_of(shape.cluster[d])) {
        return refuse(format!("a grid of {:?} blocks in clusters of {:?}", shape.grid, shape.cluster));
    }
    Ok(())
}
