//! Launches: checked as the driver checks them, then run.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::function;
use super::memory::pinned_blocks;
use super::pinned::HostUse;
use super::state::{Context, Function, Stream, current, lock};
use super::status::Status;
use super::stream::resolve;
use super::work::Work;
use super::{Answer, driver_api, occupancy};
use crate::control::LaunchRecord;
use crate::exec::{self, LaunchShape};
use crate::fault::Fault;

/// Largest block and grid in each dimension, the same on all devices.
pub(super) const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
pub(super) const MAX_GRID: [u32; 3] = [0x7FFF_FFFF, 65_535, 65_535];

/// Cluster sizes up to this are allowed without asking.
pub(super) const PORTABLE_CLUSTER: u32 = 8;

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct LaunchConfig {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    pub(super) dynamic_shared: c_uint,
    stream: *mut c_void,
    attributes: *const LaunchAttribute,
    attribute_count: c_uint,
}

/// `CUlaunchAttribute`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LaunchAttribute {
    id: c_uint,
    pad: [u8; 4],
    /// The union of all values: 64 bytes, aligned to 8.
    value: [u64; 8],
}

impl LaunchAttribute {
    fn word(&self, index: usize) -> u32 {
        (self.value[index / 2] >> (index % 2 * 32)) as u32
    }
}

/// The launch attributes that change what is run.
#[derive(Clone, Copy, Default)]
pub(super) struct Attributes {
    pub(super) cluster: Option<[u32; 3]>,
    pub(super) cooperative: bool,
}

/// `CUlaunchAttributeID`s with a meaning here.
const COOPERATIVE: c_uint = 2;
const CLUSTER_DIMENSION: c_uint = 4;
/// The highest known one. All others are hints, or allow an overlap that this driver makes no
/// use of (programmatic stream serialisation), and are accepted.
const LAST_ATTRIBUTE: c_uint = 18;
/// Those that would change what happens: events recorded by the launch, updatable graph nodes.
const UNSUPPORTED_ATTRIBUTES: [c_uint; 3] = [7, 12, 13];

impl LaunchConfig {
    pub(super) fn block(&self) -> [u32; 3] {
        self.block
    }

    /// # Safety
    /// The attribute list is valid for its count.
    pub(super) unsafe fn attributes(&self) -> Answer<Attributes> {
        let mut attributes = Attributes::default();
        if self.attribute_count > 0 && self.attributes.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        for index in 0..self.attribute_count as usize {
            // SAFETY: within the count for which the caller vouches.
            let attribute = unsafe { self.attributes.add(index).read_unaligned() };
            match attribute.id {
                COOPERATIVE => attributes.cooperative = attribute.word(0) != 0,
                CLUSTER_DIMENSION => {
                    attributes.cluster = Some([attribute.word(0), attribute.word(1), attribute.word(2)]);
                }
                id if UNSUPPORTED_ATTRIBUTES.contains(&id) => {
                    let reason = format!("cuLaunchKernelEx: launch attribute {id}");
                    return Err(current()?.device.refuse(Status::NOT_SUPPORTED, reason));
                }
                id if id <= LAST_ATTRIBUTE => {}
                _ => return Err(Status::INVALID_VALUE),
            }
        }
        Ok(attributes)
    }
}

/// The cluster a launch will have: that of the launch, else that of the function's attributes.
pub(super) fn cluster_of(function: &Function, asked: Option<[u32; 3]>) -> Answer<[u32; 3]> {
    let device = &function.module.context.device;
    let settings = *lock(&function.settings);
    let fixed = (settings.required_cluster != [0; 3]).then(|| settings.required_cluster.map(|n| n.max(1)));
    let cluster = match (asked, fixed) {
        (None, None) => return Ok([1; 3]),
        (Some(asked), Some(fixed)) if asked != fixed => {
            let reason = format!("cluster {asked:?} asked for, but the kernel requires {fixed:?}");
            return Err(device.refuse(Status::INVALID_VALUE, reason));
        }
        (Some(cluster), _) | (None, Some(cluster)) => cluster,
    };
    let size = cluster.iter().try_fold(1_u32, |all, n| all.checked_mul(*n)).unwrap_or(u32::MAX);
    let most = device.config.max_cluster;
    let allowed = if settings.non_portable_cluster { most } else { most.min(PORTABLE_CLUSTER) };
    if size == 0 || size > allowed {
        let reason = format!("a cluster of {size} blocks; allowed are {allowed} (the device has {most})");
        return Err(device.refuse(Status::INVALID_CLUSTER_SIZE, reason));
    }
    Ok(cluster)
}

/// Checks a launch by the driver's rules.
fn check(function: &Function, shape: &LaunchShape, cooperative: bool) -> Answer {
    let device = &function.module.context.device;
    let (config, info) = (&device.config, &function.info);
    let refuse = |status, reason: String| Err(device.refuse(status, format!("launch of {}: {reason}", info.name)));
    let LaunchShape { grid, block, cluster, dynamic_shared } = *shape;
    for axis in 0..3 {
        let (blocks, threads) = (grid[axis], block[axis]);
        if blocks == 0 || blocks > MAX_GRID[axis] || threads == 0 || threads > MAX_BLOCK[axis] {
            let reason = format!("grid {grid:?} of blocks {block:?} is outside 1 to {MAX_GRID:?} of {MAX_BLOCK:?}");
            return refuse(Status::INVALID_VALUE, reason);
        }
        if !blocks.is_multiple_of(cluster[axis]) {
            return refuse(Status::INVALID_VALUE, format!("grid {grid:?} is no multiple of the cluster {cluster:?}"));
        }
    }
    let threads: u32 = block.iter().product();
    if threads > config.max_threads_per_block {
        let reason = format!("{threads} threads per block, the device allows {}", config.max_threads_per_block);
        return refuse(Status::INVALID_VALUE, reason);
    }
    if info.max_threads != 0 && threads > info.max_threads {
        let reason = format!("{threads} threads per block, the kernel's bound is {}", info.max_threads);
        return refuse(Status::INVALID_VALUE, reason);
    }
    if info.required_threads.is_some_and(|required| required != block) {
        return refuse(
            Status::INVALID_VALUE,
            format!("blocks of {block:?}, the kernel requires {:?}", info.required_threads),
        );
    }
    if occupancy::exceeds_registers(config, info, threads) {
        let reason = format!("{threads} threads with about {} registers each", info.registers);
        return refuse(Status::LAUNCH_OUT_OF_RESOURCES, reason);
    }
    let allowed = lock(&function.settings).max_dynamic_shared;
    if dynamic_shared > allowed {
        let reason = format!(
            "{dynamic_shared} bytes of dynamic shared memory with {} static ones; MAX_DYNAMIC_SHARED_SIZE_BYTES is {allowed}",
            info.static_shared
        );
        return refuse(Status::INVALID_VALUE, reason);
    }
    let per_sm = occupancy::of_function(function, threads, u64::from(dynamic_shared));
    let cluster_blocks: u32 = cluster.iter().product();
    let clusters = occupancy::clusters(config, per_sm, cluster_blocks);
    if cluster_blocks > 1 && clusters == 0 {
        let reason = format!("no group of multiprocessors has room for a cluster of {cluster_blocks} such blocks");
        return refuse(Status::INVALID_CLUSTER_SIZE, reason);
    }
    if cooperative {
        let resident = match cluster_blocks {
            1 => u64::from(per_sm) * u64::from(config.sm_count),
            size => u64::from(clusters) * u64::from(size),
        };
        let blocks: u64 = grid.iter().map(|n| u64::from(*n)).product();
        if blocks > resident {
            return refuse(
                Status::COOPERATIVE_LAUNCH_TOO_LARGE,
                format!("{blocks} blocks, {resident} can be resident"),
            );
        }
    }
    Ok(())
}

/// `CU_LAUNCH_PARAM_BUFFER_POINTER`, `_SIZE` and `_END`: the keys of the `extra` list.
const PARAM_END: usize = 0;
const PARAM_POINTER: usize = 1;
const PARAM_SIZE: usize = 2;

/// Lays the parameters out as the kernel reads them.
///
/// # Safety
/// `params` has a valid pointer for each of the kernel's parameters, or `extra` is a list with an
/// end that names a buffer of the size it says.
unsafe fn pack(function: &Function, params: *const *const c_void, extra: *const *mut c_void) -> Answer<Vec<u8>> {
    let info = &function.info;
    let mut block = vec![0; info.param_bytes as usize];
    if info.params.is_empty() {
        return Ok(block);
    }
    if !params.is_null() {
        for (index, parameter) in info.params.iter().enumerate() {
            // SAFETY: the caller has one pointer for each parameter.
            let from = unsafe { params.add(index).read() }.cast::<u8>();
            let (offset, size) = (parameter.offset as usize, parameter.size as usize);
            let to = block.get_mut(offset..offset + size).ok_or(Status::UNKNOWN)?;
            if from.is_null() {
                return Err(Status::INVALID_VALUE);
            }
            // SAFETY: not null, and the caller vouches for the parameter's size behind it.
            unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), size) };
        }
        return Ok(block);
    }
    if extra.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let (mut buffer, mut size) = (std::ptr::null::<u8>(), 0);
    let mut next = extra;
    loop {
        // SAFETY: the list goes on until its end key.
        let key = unsafe { next.read() } as usize;
        if key == PARAM_END {
            break;
        }
        // SAFETY: every other key has a value after it.
        let value = unsafe { next.add(1).read() };
        match key {
            PARAM_POINTER => buffer = value.cast(),
            // SAFETY: the value of this key points to a size.
            PARAM_SIZE => size = unsafe { value.cast::<usize>().read() },
            _ => return Err(Status::INVALID_VALUE),
        }
        // SAFETY: the key and its value were read.
        next = unsafe { next.add(2) };
    }
    if buffer.is_null() || size < block.len() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller vouches for `size` bytes, and the block is no longer than that.
    unsafe { std::ptr::copy_nonoverlapping(buffer, block.as_mut_ptr(), block.len()) };
    Ok(block)
}

/// A launch that passed the driver's checks, with its parameters.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub(super) function: Arc<Function>,
    pub(super) handle: u64,
    pub(super) shape: LaunchShape,
    /// The kernel reads them as they were at submission.
    pub(super) params: Arc<[u8]>,
}

/// Blocks and threads of a launch, as it asks for them.
pub(super) struct Size {
    pub(super) grid: [u32; 3],
    pub(super) block: [u32; 3],
    pub(super) dynamic_shared: u32,
}

impl Kernel {
    /// # Safety
    /// As for [`pack`].
    pub(super) unsafe fn new(
        function: *mut c_void,
        size: &Size,
        attributes: &Attributes,
        params: *const *const c_void,
        extra: *const *mut c_void,
    ) -> Answer<Kernel> {
        let handle = function as u64;
        let function = function::resolve(function)?;
        let cluster = cluster_of(&function, attributes.cluster)?;
        let Size { grid, block, dynamic_shared } = *size;
        let shape = LaunchShape { grid, block, cluster, dynamic_shared };
        check(&function, &shape, attributes.cooperative)?;
        // SAFETY: the caller vouches for the parameters.
        let params = unsafe { pack(&function, params, extra)? };
        Ok(Kernel { function, handle, shape, params: params.into() })
    }

    /// The pinned blocks that it gets pointers to.
    pub(super) fn pinned_uses(&self) -> Option<Vec<HostUse>> {
        let words = self
            .params
            .chunks_exact(8)
            .map(|word| word.iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte)));
        let blocks = pinned_blocks(words);
        (!blocks.is_empty()).then(|| blocks.into_iter().map(|(start, bytes)| HostUse::of_block(start, bytes)).collect())
    }

    pub(super) fn run(&self, context: &Context) -> Result<(), Fault> {
        let Kernel { function, shape, params, .. } = self;
        let device = &context.device;
        let name = &function.info.name;
        device.notes().last_launch = Some(LaunchRecord { kernel: name.clone(), shape: *shape });
        let module = &function.module.code;
        let measured = exec::measure(module, function.entry, shape, params, &device.memory, &device.config);
        device.flush_output();
        let measured = measured?;
        let mut notes = device.notes();
        notes.counters += measured.counters;
        notes.records.add(name, shape, measured);
        Ok(())
    }
}

/// Submits a launch.
///
/// # Safety
/// As for [`pack`].
unsafe fn launch(
    function: *mut c_void,
    size: &Size,
    stream: *mut c_void,
    attributes: &Attributes,
    params: *const *const c_void,
    extra: *const *mut c_void,
) -> Answer {
    let context = current()?;
    let of = function::resolve(function)?;
    let stream: Arc<Stream> = resolve(stream)?;
    let foreign = |other: u64| other != context.handle;
    if foreign(of.module.context.handle) || foreign(stream.context.handle) {
        let reason = format!("launch of {}: kernel, stream and current context do not belong together", of.info.name);
        return Err(context.device.refuse(Status::INVALID_HANDLE, reason));
    }
    // SAFETY: the caller vouches for the parameters.
    let kernel = unsafe { Kernel::new(function, size, attributes, params, extra)? };
    stream.submit(Work::Kernel(kernel)).map(|_| ())
}

driver_api! {
    fn cuLaunchKernel(
        function: *mut c_void,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        dynamic_shared: c_uint, stream: *mut c_void,
        params: *const *const c_void, extra: *const *mut c_void,
    ) {
        let size = Size { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared };
        launch(function, &size, stream, &Attributes::default(), params, extra)
    }

    fn cuLaunchCooperativeKernel(
        function: *mut c_void,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        dynamic_shared: c_uint, stream: *mut c_void, params: *const *const c_void,
    ) {
        let size = Size { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], dynamic_shared };
        let attributes = Attributes { cooperative: true, cluster: None };
        launch(function, &size, stream, &attributes, params, std::ptr::null())
    }

    fn cuLaunchKernelEx(config: *const LaunchConfig, function: *mut c_void, params: *const *const c_void, extra: *const *mut c_void) {
        current()?;
        if config.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let config = config.read_unaligned();
        let attributes = config.attributes()?;
        let LaunchConfig { grid, block, dynamic_shared, stream, .. } = config;
        launch(function, &Size { grid, block, dynamic_shared }, stream, &attributes, params, extra)
    }
}
