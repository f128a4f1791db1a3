//! What nodes do: the structures that say so, read and written.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

pub(super) use super::super::copy::Copy3D as Copy;
use super::super::launch::{Attributes, Kernel, Size};
use super::super::memory::Fill;
use super::super::state::{DRIVER, current, live, lock};
use super::super::status::Status;
use super::super::work::{HostCall, HostFunction, Work};
use super::super::{Answer, driver_api, put};
use super::{Content, Node};

/// `CUDA_KERNEL_NODE_PARAMS`; the second version has two more members, which are not needed.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct KernelNode {
    function: *mut c_void,
    grid: [c_uint; 3],
    block: [c_uint; 3],
    dynamic_shared: c_uint,
    params: *const *const c_void,
    extra: *const *mut c_void,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct MemsetNode {
    address: u64,
    pitch: usize,
    value: c_uint,
    element: c_uint,
    width: usize,
    height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct HostNode {
    function: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
}

/// A structure of the caller.
///
/// # Safety
/// `from` is null or valid.
unsafe fn read<T: std::marker::Copy>(from: *const T) -> Answer<T> {
    if from.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    Ok(unsafe { from.read_unaligned() })
}

impl KernelNode {
    /// # Safety
    /// `from` is null or valid, and so are the parameters that it names.
    pub(super) unsafe fn work(from: *const KernelNode) -> Answer<Work> {
        current()?;
        // SAFETY: the caller vouches for the structure and the parameters.
        let kernel = unsafe {
            let KernelNode { function, grid, block, dynamic_shared, params, extra } = read(from)?;
            Kernel::new(function, &Size { grid, block, dynamic_shared }, &Attributes::default(), params, extra)?
        };
        Ok(Work::Kernel(kernel))
    }
}

impl MemsetNode {
    /// # Safety
    /// `from` is null or valid.
    pub(super) unsafe fn work(from: *const MemsetNode) -> Answer<Work> {
        // SAFETY: the caller vouches for it.
        let MemsetNode { address, pitch, value, element, width, height } = unsafe { read(from)? };
        if !matches!(element, 1 | 2 | 4) {
            return Err(Status::INVALID_VALUE);
        }
        let near = &current()?.device;
        let fill = Fill::new(address, pitch, (value, element as usize), (width, height), near)?;
        fill.map(Work::Fill).ok_or(Status::INVALID_VALUE)
    }
}

impl HostNode {
    /// # Safety
    /// `from` is null or valid.
    pub(super) unsafe fn work(from: *const HostNode) -> Answer<Work> {
        // SAFETY: the caller vouches for it.
        let HostNode { function, argument } = unsafe { read(from)? };
        let function = HostFunction::Plain(function.ok_or(Status::INVALID_VALUE)?);
        Ok(Work::Host(HostCall { function, argument }))
    }
}

/// The work of a copy's node.
///
/// # Safety
/// `from` is null or valid.
pub(super) unsafe fn copy(from: *const Copy) -> Answer<Work> {
    // SAFETY: the caller vouches for it.
    let request = unsafe { Copy::read(from)? };
    let near = &current()?.device;
    let transfer = request.transfer(near)?;
    if transfer.is_empty() {
        return Err(Status::INVALID_VALUE);
    }
    transfer.check(near)?;
    Ok(Work::Copy(transfer))
}

fn node_of(node: *mut c_void) -> Answer<Arc<Node>> {
    live(&DRIVER.nodes, node)
}

/// Changes what a node does, not what kind of node it is.
fn set(node: *mut c_void, work: Work) -> Answer {
    let node = node_of(node)?;
    let mut content = lock(&node.content);
    let new = Content::Work(work);
    if content.kind() != new.kind() {
        return Err(Status::INVALID_VALUE);
    }
    *content = new;
    Ok(())
}

/// A node's parameters, if it is of the right kind.
fn get<T>(node: *mut c_void, pick: impl FnOnce(&Work) -> Option<T>) -> Answer<T> {
    let node = node_of(node)?;
    let content = lock(&node.content);
    let Content::Work(work) = &*content else { return Err(Status::INVALID_VALUE) };
    pick(work).ok_or(Status::INVALID_VALUE)
}

/// Where the caller may read a kernel's parameters, as long as the node keeps them.
fn shown(node: *mut c_void, kernel: &Kernel) -> Answer<*const *const c_void> {
    let node = node_of(node)?;
    let offsets = kernel.function.info.params.iter().map(|parameter| parameter.offset as usize);
    let pointers: Arc<[usize]> = offsets.map(|offset| kernel.params[offset..].as_ptr() as usize).collect();
    let start = pointers.as_ptr().cast();
    *lock(&node.shown) = Some((pointers, kernel.params.clone()));
    Ok(start)
}

fn get_kernel(out: *mut KernelNode, node: *mut c_void) -> Answer {
    let kernel = get(node, |work| if let Work::Kernel(kernel) = work { Some(kernel.clone()) } else { None })?;
    let (function, params) = (kernel.handle as *mut c_void, shown(node, &kernel)?);
    let shape = kernel.shape;
    let (grid, block, dynamic_shared) = (shape.grid, shape.block, shape.dynamic_shared);
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, KernelNode { function, grid, block, dynamic_shared, params, extra: std::ptr::null() }) }
}

/// The event of a node.
fn event_of(node: *mut c_void, records: bool) -> Answer<*mut c_void> {
    get(node, |work| match work {
        Work::Record(event) if records => Some(event.handle as *mut c_void),
        Work::Wait(event) if !records => Some(event.handle as *mut c_void),
        _ => None,
    })
}

driver_api! {
    fn cuGraphKernelNodeGetParams(node: *mut c_void, out: *mut KernelNode) {
        get_kernel(out, node)
    }

    fn cuGraphKernelNodeGetParams_v2(node: *mut c_void, out: *mut [u64; 9]) {
        // The second version ends with a kernel and a context, which are null.
        put(out, [0; 9])?;
        get_kernel(out.cast(), node)
    }

    fn cuGraphKernelNodeSetParams(node: *mut c_void, params: *const KernelNode) {
        set(node, KernelNode::work(params)?)
    }

    fn cuGraphKernelNodeSetParams_v2(node: *mut c_void, params: *const KernelNode) {
        set(node, KernelNode::work(params)?)
    }

    fn cuGraphMemcpyNodeGetParams(node: *mut c_void, out: *mut Copy) {
        put(out, get(node, |work| if let Work::Copy(transfer) = work { Some(transfer.request()) } else { None })?)
    }

    fn cuGraphMemcpyNodeSetParams(node: *mut c_void, params: *const Copy) {
        set(node, copy(params)?)
    }

    fn cuGraphMemsetNodeGetParams(node: *mut c_void, out: *mut MemsetNode) {
        let params = get(node, |work| {
            let Work::Fill(Fill { address, pitch, value, element, width, height, .. }) = *work else { return None };
            Some(MemsetNode { address, pitch, value, element: element as c_uint, width, height })
        })?;
        put(out, params)
    }

    fn cuGraphMemsetNodeSetParams(node: *mut c_void, params: *const MemsetNode) {
        set(node, MemsetNode::work(params)?)
    }

    fn cuGraphHostNodeGetParams(node: *mut c_void, out: *mut HostNode) {
        let params = get(node, |work| match work {
            Work::Host(HostCall { function: HostFunction::Plain(function), argument }) => {
                Some(HostNode { function: Some(*function), argument: *argument })
            }
            _ => None,
        })?;
        put(out, params)
    }

    fn cuGraphHostNodeSetParams(node: *mut c_void, params: *const HostNode) {
        set(node, HostNode::work(params)?)
    }

    fn cuGraphEventRecordNodeGetEvent(node: *mut c_void, out: *mut *mut c_void) {
        put(out, event_of(node, true)?)
    }

    fn cuGraphEventRecordNodeSetEvent(node: *mut c_void, event: *mut c_void) {
        set(node, Work::Record(live(&DRIVER.events, event)?))
    }

    fn cuGraphEventWaitNodeGetEvent(node: *mut c_void, out: *mut *mut c_void) {
        put(out, event_of(node, false)?)
    }

    fn cuGraphEventWaitNodeSetEvent(node: *mut c_void, event: *mut c_void) {
        set(node, Work::Wait(live(&DRIVER.events, event)?))
    }

    fn cuGraphMemFreeNodeGetParams(node: *mut c_void, out: *mut u64) {
        put(out, get(node, |work| if let Work::Free(block) = work { Some(block.address) } else { None })?)
    }

    fn cuGraphChildGraphNodeGetGraph(node: *mut c_void, out: *mut *mut c_void) {
        let node = node_of(node)?;
        let content = lock(&node.content);
        let Content::Child(child) = &*content else { return Err(Status::INVALID_VALUE) };
        put(out, child.handle as *mut c_void)
    }
}
