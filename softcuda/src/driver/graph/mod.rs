//! Graphs: nodes with work, and what comes before what.

mod build;
mod exec;
mod inspect;
mod parameters;

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::sync::{Arc, Mutex, Weak};

pub(super) use exec::Exec;

use super::state::{DRIVER, current_device, live, lock};
use super::status::Status;
use super::work::Work;
use super::{Answer, Export};

/// The exported functions.
pub(super) static EXPORTS: [&[Export]; 4] = [build::EXPORTS, exec::EXPORTS, inspect::EXPORTS, parameters::EXPORTS];

/// A graph.
pub(crate) struct Graph {
    pub(crate) handle: u64,
    /// Handle of the device that was current when it was made: its nodes hold on to what that has, so
    /// it ends with the lease at the latest.
    pub(super) device: Option<i32>,
    /// It belongs to a node, which ends it.
    pub(super) is_child: bool,
    /// In the order in which they were added.
    pub(super) nodes: Mutex<Vec<Arc<Node>>>,
}

/// A node of a graph.
pub(crate) struct Node {
    pub(crate) handle: u64,
    pub(super) graph: Weak<Graph>,
    /// Its place among all nodes that the graph has had.
    pub(super) local: usize,
    /// The node that it is a copy of, 0 for none.
    pub(super) original: u64,
    pub(super) content: Mutex<Content>,
    /// Handles of the nodes that it waits for.
    pub(super) before: Mutex<Vec<u64>>,
    /// Parameters that the host may read: where each is, and what they are.
    pub(super) shown: Mutex<Option<Shown>>,
}

/// The addresses of a kernel's parameters, and the parameters.
type Shown = (Arc<[usize]>, Arc<[u8]>);

/// What a node does.
#[derive(Clone)]
pub(crate) enum Content {
    Work(Work),
    Child(Arc<Graph>),
}

impl Content {
    /// `CUgraphNodeType`.
    fn kind(&self) -> u32 {
        match self {
            Content::Work(Work::Kernel(_)) => 0,
            Content::Work(Work::Copy(_)) => 1,
            Content::Work(Work::Fill(_)) => 2,
            Content::Work(Work::Host(_)) => 3,
            Content::Child(_) => 4,
            Content::Work(Work::Nothing) => 5,
            Content::Work(Work::Wait(_)) => 6,
            Content::Work(Work::Record(_)) => 7,
            Content::Work(Work::Allocate(_)) => 10,
            Content::Work(Work::Free(_)) => 11,
        }
    }

    /// Memory nodes belong to one graph only.
    fn is_of_memory(&self) -> bool {
        matches!(self, Content::Work(Work::Allocate(_) | Work::Free(_)))
    }
}

impl Node {
    /// Ends what it has, when it is out of its graph.
    fn end(&self) {
        match &*lock(&self.content) {
            Content::Child(child) => child.destroy(),
            // An address that was promised and never used.
            Content::Work(Work::Allocate(block)) if block.device.memory.is_reserved(block.address) => {
                // It is reserved, so this cannot fail.
                let _ = block.device.memory.free(block.address);
            }
            Content::Work(_) => {}
        }
    }
}

impl Graph {
    /// Makes an empty graph and enters it into the table.
    pub(super) fn create(is_child: bool) -> Arc<Graph> {
        let (handle, device) = (DRIVER.new_handle(), current_device().map(|device| device.handle));
        let graph = Arc::new(Graph { handle, device, is_child, nodes: Mutex::default() });
        DRIVER.graphs.insert(graph.handle, graph.clone());
        graph
    }

    /// Adds a node behind others of this graph.
    pub(super) fn add(self: &Arc<Graph>, content: Content, before: &[u64]) -> Arc<Node> {
        self.add_copy(content, before.to_vec(), 0)
    }

    fn add_copy(self: &Arc<Graph>, content: Content, before: Vec<u64>, original: u64) -> Arc<Node> {
        let mut nodes = lock(&self.nodes);
        // One that was destroyed meanwhile is waited for no more.
        let before = before.into_iter().filter(|other| nodes.iter().any(|node| node.handle == *other)).collect();
        let node = Arc::new(Node {
            handle: DRIVER.new_handle(),
            graph: Arc::downgrade(self),
            local: nodes.last().map_or(0, |last| last.local + 1),
            original,
            content: Mutex::new(content),
            before: Mutex::new(before),
            shown: Mutex::default(),
        });
        nodes.push(node.clone());
        DRIVER.nodes.insert(node.handle, node.clone());
        node
    }

    /// The handles of a caller's list of nodes, all of this graph and none of them twice.
    ///
    /// # Safety
    /// `list` is valid for `count` handles.
    pub(super) unsafe fn members(&self, list: *const *mut c_void, count: usize) -> Answer<Vec<u64>> {
        if count > 0 && list.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let mut handles: Vec<u64> = Vec::new();
        for index in 0..count {
            // SAFETY: within the count for which the caller vouches.
            let node = live(&DRIVER.nodes, unsafe { list.add(index).read() })?;
            if !std::ptr::eq(node.graph.as_ptr(), self) || handles.contains(&node.handle) {
                return Err(Status::INVALID_VALUE);
            }
            handles.push(node.handle);
        }
        Ok(handles)
    }

    /// The nodes of a list and all before them.
    pub(super) fn all_before(&self, ends: &[u64]) -> HashSet<u64> {
        let before: HashMap<u64, Vec<u64>> =
            lock(&self.nodes).iter().map(|node| (node.handle, lock(&node.before).clone())).collect();
        let (mut seen, mut open) = (HashSet::new(), ends.to_vec());
        while let Some(node) = open.pop() {
            if seen.insert(node) {
                open.extend(before.get(&node).into_iter().flatten());
            }
        }
        seen
    }

    /// A copy with nodes of its own.
    fn copy(&self, is_child: bool) -> Answer<Arc<Graph>> {
        let nodes = lock(&self.nodes).clone();
        if nodes.iter().any(|node| lock(&node.content).is_of_memory()) {
            return Err(Status::NOT_SUPPORTED);
        }
        let graph = Graph::create(is_child);
        let mut copies = HashMap::new();
        for node in &nodes {
            let content = match lock(&node.content).clone() {
                Content::Child(child) => Content::Child(child.copy(true)?),
                content => content,
            };
            copies.insert(node.handle, graph.add_copy(content, Vec::new(), node.handle));
        }
        for node in &nodes {
            let before =
                lock(&node.before).iter().filter_map(|other| copies.get(other)).map(|copy| copy.handle).collect();
            *lock(&copies[&node.handle].before) = before;
        }
        Ok(graph)
    }

    /// Takes it and its nodes out of the tables.
    pub(super) fn destroy(&self) {
        DRIVER.graphs.remove(self.handle);
        let nodes = std::mem::take(&mut *lock(&self.nodes));
        for node in nodes {
            DRIVER.nodes.remove(node.handle);
            node.end();
        }
    }

    /// Ends the graphs that were made for a device.
    pub(super) fn end_all_of(device: i32) {
        let mut graphs = DRIVER.graphs.pick(|graph| graph.device == Some(device));
        graphs.retain(|graph| !graph.is_child);
        graphs.iter().for_each(|graph| graph.destroy());
        // Children whose node went without them.
        DRIVER.graphs.pick(|graph| graph.device == Some(device)).iter().for_each(|graph| graph.destroy());
    }
}
