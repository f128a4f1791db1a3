//! Graphs built node by node.

use std::collections::HashSet;
use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::super::state::{DRIVER, current, end, live, lock};
use super::super::status::Status;
use super::super::work::{Block, Work};
use super::super::{Answer, driver, driver_api, put};
use super::parameters::{self, Copy, HostNode, KernelNode, MemsetNode};
use super::{Content, Graph, Node};

/// Where a new node goes.
struct Place {
    out: *mut *mut c_void,
    graph: *mut c_void,
    before: *const *mut c_void,
    count: usize,
}

impl Place {
    /// Adds a node with this content.
    ///
    /// # Safety
    /// `out` is valid for a write, and `before` for `count` handles.
    unsafe fn add(&self, content: impl FnOnce() -> Answer<Content>) -> Answer {
        let graph = live(&DRIVER.graphs, self.graph)?;
        if self.out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: the caller vouches for the pointers.
        unsafe {
            let before = graph.members(self.before, self.count)?;
            put(self.out, graph.add(content()?, &before).handle as *mut c_void)
        }
    }
}

/// `CUDA_MEM_ALLOC_NODE_PARAMS`, as far as it is read and written.
#[repr(C)]
#[derive(Clone, Copy)]
struct AllocateNode {
    pool_properties: [u64; 11],
    access: *const c_void,
    access_count: usize,
    bytes: usize,
    address: u64,
}

/// Both ends of an edge, in the same graph.
fn edge(graph: &Arc<Graph>, from: *mut c_void, to: *mut c_void) -> Answer<[Arc<Node>; 2]> {
    let ends = [live(&DRIVER.nodes, from)?, live(&DRIVER.nodes, to)?];
    let inside = ends.iter().all(|node| std::ptr::eq(node.graph.as_ptr(), Arc::as_ptr(graph)));
    if inside && ends[0].handle != ends[1].handle { Ok(ends) } else { Err(Status::INVALID_VALUE) }
}

/// Adds edges, or removes them: all, or none if one of them cannot be.
///
/// # Safety
/// Both lists are valid for `count` handles.
unsafe fn change(
    graph: *mut c_void,
    from: *const *mut c_void,
    to: *const *mut c_void,
    count: usize,
    adds: bool,
) -> Answer {
    let graph = live(&DRIVER.graphs, graph)?;
    if count > 0 && (from.is_null() || to.is_null()) {
        return Err(Status::INVALID_VALUE);
    }
    let mut edges = Vec::new();
    let mut known = HashSet::new();
    for index in 0..count {
        // SAFETY: within the count for which the caller vouches.
        let [from, to] = unsafe { edge(&graph, from.add(index).read(), to.add(index).read())? };
        let exists = lock(&to.before).contains(&from.handle);
        // An edge that is there already, or one that is not.
        if exists == adds || !known.insert((from.handle, to.handle)) {
            return Err(Status::INVALID_VALUE);
        }
        edges.push((from, to));
    }
    for (from, to) in edges {
        let mut before = lock(&to.before);
        if adds {
            before.push(from.handle);
        } else {
            before.retain(|other| *other != from.handle);
        }
    }
    Ok(())
}

driver_api! {
    fn cuGraphCreate(out: *mut *mut c_void, flags: c_uint) {
        driver()?;
        if flags != 0 || out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        put(out, Graph::create(false).handle as *mut c_void)
    }

    fn cuGraphDestroy(graph: *mut c_void) {
        let listed = live(&DRIVER.graphs, graph)?;
        if listed.is_child {
            return Err(Status::INVALID_VALUE);
        }
        listed.destroy();
        Ok(())
    }

    fn cuGraphClone(out: *mut *mut c_void, graph: *mut c_void) {
        let graph = live(&DRIVER.graphs, graph)?;
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        put(out, graph.copy(false)?.handle as *mut c_void)
    }

    fn cuGraphAddEmptyNode(out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize) {
        Place { out, graph, before, count }.add(|| Ok(Content::Work(Work::Nothing)))
    }

    fn cuGraphAddKernelNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, params: *const KernelNode,
    ) {
        Place { out, graph, before, count }.add(|| KernelNode::work(params).map(Content::Work))
    }

    fn cuGraphAddKernelNode_v2(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, params: *const KernelNode,
    ) {
        Place { out, graph, before, count }.add(|| KernelNode::work(params).map(Content::Work))
    }

    fn cuGraphAddMemcpyNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize,
        params: *const Copy, _context: *mut c_void,
    ) {
        Place { out, graph, before, count }.add(|| parameters::copy(params).map(Content::Work))
    }

    fn cuGraphAddMemsetNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize,
        params: *const MemsetNode, _context: *mut c_void,
    ) {
        Place { out, graph, before, count }.add(|| MemsetNode::work(params).map(Content::Work))
    }

    fn cuGraphAddHostNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, params: *const HostNode,
    ) {
        Place { out, graph, before, count }.add(|| HostNode::work(params).map(Content::Work))
    }

    fn cuGraphAddChildGraphNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, child: *mut c_void,
    ) {
        // The child is copied, so a graph can hold itself as it is now.
        Place { out, graph, before, count }.add(|| Ok(Content::Child(live(&DRIVER.graphs, child)?.copy(true)?)))
    }

    fn cuGraphAddEventRecordNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, event: *mut c_void,
    ) {
        Place { out, graph, before, count }.add(|| Ok(Content::Work(Work::Record(live(&DRIVER.events, event)?))))
    }

    fn cuGraphAddEventWaitNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, event: *mut c_void,
    ) {
        Place { out, graph, before, count }.add(|| Ok(Content::Work(Work::Wait(live(&DRIVER.events, event)?))))
    }

    fn cuGraphAddMemAllocNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, params: *mut AllocateNode,
    ) {
        Place { out, graph, before, count }.add(|| {
            if params.is_null() {
                return Err(Status::INVALID_VALUE);
            }
            let mut wanted = params.read_unaligned();
            if wanted.bytes == 0 {
                return Err(Status::INVALID_VALUE);
            }
            let device = current()?.device.clone();
            wanted.address = device.reserve(wanted.bytes as u64)?;
            put(params, wanted)?;
            Ok(Content::Work(Work::Allocate(Block { device, address: wanted.address, bytes: wanted.bytes as u64 })))
        })
    }

    fn cuGraphAddMemFreeNode(
        out: *mut *mut c_void, graph: *mut c_void, before: *const *mut c_void, count: usize, address: u64,
    ) {
        Place { out, graph, before, count }.add(|| {
            let near = current()?.device.clone();
            let device = DRIVER.owner_of(address, &near).ok_or(Status::INVALID_VALUE)?;
            Ok(Content::Work(Work::Free(Block { device, address, bytes: 0 })))
        })
    }

    fn cuGraphAddDependencies(graph: *mut c_void, from: *const *mut c_void, to: *const *mut c_void, count: usize) {
        change(graph, from, to, count, true)
    }

    fn cuGraphAddDependencies_v2(
        graph: *mut c_void, from: *const *mut c_void, to: *const *mut c_void, _data: *const c_void, count: usize,
    ) {
        change(graph, from, to, count, true)
    }

    fn cuGraphRemoveDependencies(graph: *mut c_void, from: *const *mut c_void, to: *const *mut c_void, count: usize) {
        change(graph, from, to, count, false)
    }

    fn cuGraphRemoveDependencies_v2(
        graph: *mut c_void, from: *const *mut c_void, to: *const *mut c_void, _data: *const c_void, count: usize,
    ) {
        change(graph, from, to, count, false)
    }

    fn cuGraphDestroyNode(node: *mut c_void) {
        let node = end(&DRIVER.nodes, node)?;
        let Some(graph) = node.graph.upgrade() else { return Ok(()) };
        let mut nodes = lock(&graph.nodes);
        nodes.retain(|other| other.handle != node.handle);
        for other in nodes.iter() {
            lock(&other.before).retain(|before| *before != node.handle);
        }
        drop(nodes);
        node.end();
        Ok(())
    }
}
