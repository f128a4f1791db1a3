//! What a graph looks like: its nodes, its edges, a picture of it.

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::super::state::{DRIVER, current_device, live, lock};
use super::super::status::Status;
use super::super::work::Work;
use super::super::{Answer, driver_api, put};
use super::{Content, Graph, Node};

/// Hands out a list as the driver does: without room it answers how long the list is, and room for
/// more than there is is filled with nulls.
///
/// # Safety
/// `count` is null or valid, and each of `outs` is null or has room for as many handles as it says.
unsafe fn put_lists<const N: usize>(lists: [&[u64]; N], outs: [*mut u64; N], count: *mut usize) -> Answer {
    if count.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        let room = count.read_unaligned();
        count.write_unaligned(lists[0].len());
        if outs[0].is_null() {
            return Ok(());
        }
        for (list, out) in lists.iter().zip(outs).filter(|(_, out)| !out.is_null()) {
            for index in 0..room {
                out.add(index).write_unaligned(list.get(index).copied().unwrap_or(0));
            }
        }
        count.write_unaligned(room.min(lists[0].len()));
    }
    Ok(())
}

fn graph_of(graph: *mut c_void) -> Answer<Arc<Graph>> {
    live(&DRIVER.graphs, graph)
}

fn node_of(node: *mut c_void) -> Answer<Arc<Node>> {
    live(&DRIVER.nodes, node)
}

impl Graph {
    /// All edges: where they come from, and where they go.
    fn edges(&self) -> (Vec<u64>, Vec<u64>) {
        let nodes = lock(&self.nodes);
        let into = |node: &Arc<Node>| {
            let before = lock(&node.before).clone();
            before.into_iter().map(|from| (from, node.handle)).collect::<Vec<_>>()
        };
        nodes.iter().flat_map(into).unzip()
    }

    /// The graph in the language of Graphviz.
    fn dot(&self) -> String {
        let mut text = String::from("digraph dot {\n");
        for node in lock(&self.nodes).iter() {
            let what = match &*lock(&node.content) {
                Content::Work(Work::Kernel(kernel)) => format!("KERNEL\\n{}", kernel.function.info.name),
                Content::Work(Work::Copy(_)) => "MEMCPY".to_owned(),
                Content::Work(Work::Fill(_)) => "MEMSET".to_owned(),
                Content::Work(Work::Host(_)) => "HOST".to_owned(),
                Content::Work(Work::Nothing) => "EMPTY".to_owned(),
                Content::Work(Work::Wait(_)) => "EVENT_WAIT".to_owned(),
                Content::Work(Work::Record(_)) => "EVENT_RECORD".to_owned(),
                Content::Work(Work::Allocate(block)) => format!("MEM_ALLOC\\n{} bytes", block.bytes),
                Content::Work(Work::Free(_)) => "MEM_FREE".to_owned(),
                Content::Child(child) => format!("GRAPH\\n{} nodes", lock(&child.nodes).len()),
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "    \"node_{}\" [label=\"{}\\n{what}\"];", node.handle, node.local);
        }
        let (from, to) = self.edges();
        for (from, to) in from.iter().zip(to) {
            let _ = writeln!(text, "    \"node_{from}\" -> \"node_{to}\";");
        }
        text.push_str("}\n");
        text
    }
}

/// The nodes that wait for a node.
fn dependents(node: &Node) -> Vec<u64> {
    let Some(graph) = node.graph.upgrade() else { return Vec::new() };
    let nodes = lock(&graph.nodes);
    let waits = |other: &&Arc<Node>| lock(&other.before).contains(&node.handle);
    nodes.iter().filter(waits).map(|other| other.handle).collect()
}

driver_api! {
    fn cuGraphGetNodes(graph: *mut c_void, nodes: *mut u64, count: *mut usize) {
        let graph = graph_of(graph)?;
        let all: Vec<u64> = lock(&graph.nodes).iter().map(|node| node.handle).collect();
        put_lists([&all], [nodes], count)
    }

    fn cuGraphGetRootNodes(graph: *mut c_void, nodes: *mut u64, count: *mut usize) {
        let graph = graph_of(graph)?;
        let all = lock(&graph.nodes).clone();
        let roots: Vec<u64> = all.iter().filter(|node| lock(&node.before).is_empty()).map(|node| node.handle).collect();
        put_lists([&roots], [nodes], count)
    }

    fn cuGraphGetEdges(graph: *mut c_void, from: *mut u64, to: *mut u64, count: *mut usize) {
        let (sources, targets) = graph_of(graph)?.edges();
        put_lists([&sources, &targets], [from, to], count)
    }

    fn cuGraphGetEdges_v2(graph: *mut c_void, from: *mut u64, to: *mut u64, data: *mut u64, count: *mut usize) {
        let (sources, targets) = graph_of(graph)?.edges();
        // An edge's data are eight bytes, all zero for plain edges.
        let plain = vec![0; sources.len()];
        put_lists([&sources, &targets, &plain], [from, to, data], count)
    }

    fn cuGraphNodeGetDependencies(node: *mut c_void, nodes: *mut u64, count: *mut usize) {
        let before = lock(&node_of(node)?.before).clone();
        put_lists([&before], [nodes], count)
    }

    fn cuGraphNodeGetDependencies_v2(node: *mut c_void, nodes: *mut u64, data: *mut u64, count: *mut usize) {
        let before = lock(&node_of(node)?.before).clone();
        let plain = vec![0; before.len()];
        put_lists([&before, &plain], [nodes, data], count)
    }

    fn cuGraphNodeGetDependentNodes(node: *mut c_void, nodes: *mut u64, count: *mut usize) {
        put_lists([&dependents(&*node_of(node)?)], [nodes], count)
    }

    fn cuGraphNodeGetDependentNodes_v2(node: *mut c_void, nodes: *mut u64, data: *mut u64, count: *mut usize) {
        let after = dependents(&*node_of(node)?);
        let plain = vec![0; after.len()];
        put_lists([&after, &plain], [nodes, data], count)
    }

    fn cuGraphNodeGetType(node: *mut c_void, out: *mut c_uint) {
        put(out, lock(&node_of(node)?.content).kind())
    }

    fn cuGraphNodeGetContainingGraph(node: *mut c_void, out: *mut *mut c_void) {
        let graph = node_of(node)?.graph.upgrade().ok_or(Status::INVALID_HANDLE)?;
        put(out, graph.handle as *mut c_void)
    }

    fn cuGraphNodeGetLocalId(node: *mut c_void, out: *mut c_uint) {
        put(out, node_of(node)?.local as c_uint)
    }

    fn cuGraphNodeGetToolsId(node: *mut c_void, out: *mut u64) {
        put(out, node_of(node)?.handle)
    }

    fn cuGraphGetId(graph: *mut c_void, out: *mut c_uint) {
        put(out, graph_of(graph)?.handle as c_uint)
    }

    fn cuGraphNodeFindInClone(out: *mut *mut c_void, original: *mut c_void, clone: *mut c_void) {
        let original = original as u64;
        let mut open = vec![graph_of(clone)?];
        let mut seen = HashSet::new();
        while let Some(graph) = open.pop().filter(|graph| seen.insert(graph.handle)) {
            for node in lock(&graph.nodes).iter() {
                if node.original == original && original != 0 {
                    return put(out, node.handle as *mut c_void);
                }
                if let Content::Child(child) = &*lock(&node.content) {
                    open.push(child.clone());
                }
            }
        }
        Err(Status::INVALID_VALUE)
    }

    fn cuGraphDebugDotPrint(graph: *mut c_void, path: *const c_char, _flags: c_uint) {
        let graph = graph_of(graph)?;
        if path.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let path = Path::new(std::ffi::OsStr::from_bytes(CStr::from_ptr(path).to_bytes()));
        std::fs::write(path, graph.dot()).map_err(|error| match current_device() {
            Some(device) => device.refuse(Status::OPERATING_SYSTEM, format!("{}: {error}", path.display())),
            None => Status::OPERATING_SYSTEM,
        })
    }
}
