//! Executable graphs: made, launched, updated.

use std::collections::HashMap;
use std::ffi::{c_char, c_uint, c_void};
use std::sync::{Arc, Mutex};

use super::super::queue::{Mark, Task};
use super::super::state::{Context, DRIVER, Stream, current, end, live, lock};
use super::super::status::Status;
use super::super::stream::resolve;
use super::super::work::Work;
use super::super::{Answer, capture, driver_api, put, put_if_wanted};
use super::parameters::{Copy, HostNode, KernelNode, MemsetNode};
use super::{Content, Graph, Node};

/// Flags of instantiation.
const AUTO_FREE_ON_LAUNCH: u64 = 1;
const UPLOAD: u64 = 2;
const DEVICE_LAUNCH: u64 = 4;
const ALL_FLAGS: u64 = 15;

/// `CUgraphExecUpdateResult`, as far as it is answered.
const UPDATE_TOPOLOGY_CHANGED: c_uint = 2;
const UPDATE_NODE_TYPE_CHANGED: c_uint = 3;

/// A graph ready to be launched. It does not change when the graph does.
pub(crate) struct Exec {
    handle: u64,
    pub(crate) context: Arc<Context>,
    flags: u64,
    steps: Mutex<Vec<Step>>,
    /// The end of the last launch, for which the next one waits.
    last: Mutex<Option<Arc<Mark>>>,
}

/// A node, with what a child graph has inside in its place.
#[derive(Clone)]
struct Step {
    node: u64,
    kind: u32,
    work: Work,
    enabled: bool,
    /// Indices of steps that come before it, all smaller than its own.
    before: Vec<usize>,
}

/// Adds the nodes of a graph in an order that they can run in; answers the steps that are last.
fn flatten(graph: &Graph, outside: &[usize], steps: &mut Vec<Step>) -> Answer<Vec<usize>> {
    let mut left = lock(&graph.nodes).clone();
    let mut placed: HashMap<u64, usize> = HashMap::new();
    let mut last: Vec<usize> = Vec::new();
    while !left.is_empty() {
        let ready = |node: &Arc<Node>| lock(&node.before).iter().all(|before| placed.contains_key(before));
        // Nothing ready: the nodes wait for each other in a circle.
        let node = left.remove(left.iter().position(ready).ok_or(Status::INVALID_VALUE)?);
        let mut before: Vec<usize> = lock(&node.before).iter().map(|other| placed[other]).collect();
        last.retain(|step| !before.contains(step));
        if before.is_empty() {
            before.extend_from_slice(outside);
        }
        let content = lock(&node.content).clone();
        let kind = content.kind();
        let work = match content {
            Content::Work(work) => work,
            Content::Child(child) => {
                before = flatten(&child, &before, steps)?;
                Work::Nothing
            }
        };
        placed.insert(node.handle, steps.len());
        last.push(steps.len());
        steps.push(Step { node: node.handle, kind, work, enabled: true, before });
    }
    // An empty graph passes on what it waits for.
    Ok(if last.is_empty() { outside.to_vec() } else { last })
}

fn instantiate(graph: *mut c_void, flags: u64) -> Answer<u64> {
    let context = current()?;
    let graph = live(&DRIVER.graphs, graph)?;
    if flags & !ALL_FLAGS != 0 || flags & (AUTO_FREE_ON_LAUNCH | DEVICE_LAUNCH) == AUTO_FREE_ON_LAUNCH | DEVICE_LAUNCH {
        return Err(Status::INVALID_VALUE);
    }
    if flags & DEVICE_LAUNCH != 0 {
        return Err(context.device.refuse(Status::NOT_SUPPORTED, "graphs launched by kernels"));
    }
    let mut steps = Vec::new();
    flatten(&graph, &[], &mut steps)?;
    let handle = DRIVER.new_handle();
    let exec = Exec { handle, context, flags, steps: Mutex::new(steps), last: Mutex::default() };
    DRIVER.execs.insert(handle, Arc::new(exec));
    Ok(handle)
}

impl Exec {
    /// Gives the memory of allocation nodes to the host, and takes that of free nodes from it.
    fn enter_memory(&self, steps: &[Step], stream: &Stream) -> Answer {
        let context = stream.context.handle;
        for step in steps {
            match &step.work {
                Work::Allocate(block) => {
                    let held = lock(&block.device.allocations).contains_key(&block.address);
                    if held && self.flags & AUTO_FREE_ON_LAUNCH == 0 {
                        let reason = "cuGraphLaunch: memory that an earlier launch allocated was not freed";
                        return Err(block.device.refuse(Status::INVALID_VALUE, reason));
                    }
                    if held {
                        block.device.forget_allocation(block.address);
                        stream.submit(Work::Free(block.clone()))?;
                    }
                    block.device.enter(block.address, block.bytes, context, 0, None);
                }
                Work::Free(block) => {
                    block.device.forget_allocation(block.address);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn launch(&self, stream: &Stream) -> Answer {
        let steps = lock(&self.steps).clone();
        if stream.is_capturing() {
            return capture::add_child(stream, graph_of(&steps)?);
        }
        self.enter_memory(&steps, stream)?;
        // One task at each end, for the launches before and after.
        let mut head = Task::new(Work::Nothing);
        let mark = Mark::new(stream);
        head.after = lock(&self.last).replace(mark.clone());
        let mut tail = Task::new(Work::Nothing);
        tail.mark = Some(mark);
        let mut tasks = vec![head];
        for step in &steps {
            let work = if step.enabled { step.work.clone() } else { Work::Nothing };
            tasks.push(work.into_task(stream));
        }
        tasks.push(tail);
        let mut connect = |from: usize, to: usize| {
            tasks[from].next.push(to);
            tasks[to].before += 1;
        };
        for (index, step) in steps.iter().enumerate() {
            step.before.iter().for_each(|before| connect(before + 1, index + 1));
            connect(0, index + 1);
            connect(index + 1, steps.len() + 1);
        }
        connect(0, steps.len() + 1);
        stream.enqueue(tasks);
        Ok(())
    }

    /// Changes what a node does, in the launches to come.
    fn set(&self, node: *mut c_void, work: Work) -> Answer {
        let mut steps = lock(&self.steps);
        let step = steps.iter_mut().find(|step| step.node == node as u64).ok_or(Status::INVALID_VALUE)?;
        if step.kind != Content::Work(work.clone()).kind() {
            return Err(Status::INVALID_VALUE);
        }
        step.work = work;
        Ok(())
    }

    /// Takes over what the nodes of a graph of the same shape do; else what differs, and where.
    fn update(&self, graph: &Graph) -> Answer<Option<(c_uint, u64)>> {
        let mut new = Vec::new();
        flatten(graph, &[], &mut new)?;
        let mut steps = lock(&self.steps);
        if steps.len() != new.len() {
            return Ok(Some((UPDATE_TOPOLOGY_CHANGED, 0)));
        }
        for (old, new) in steps.iter().zip(&new) {
            if old.before != new.before {
                return Ok(Some((UPDATE_TOPOLOGY_CHANGED, new.node)));
            }
            if old.kind != new.kind {
                return Ok(Some((UPDATE_NODE_TYPE_CHANGED, new.node)));
            }
        }
        for (old, new) in steps.iter_mut().zip(new) {
            old.work = new.work;
        }
        Ok(None)
    }
}

/// The steps as a graph again, for a launch that is captured.
fn graph_of(steps: &[Step]) -> Answer<Arc<Graph>> {
    let graph = Graph::create(true);
    let mut handles: Vec<u64> = Vec::new();
    for step in steps {
        let before: Vec<u64> = step.before.iter().map(|before| handles[*before]).collect();
        let work = if step.enabled { step.work.clone() } else { Work::Nothing };
        handles.push(graph.add(Content::Work(work), &before).handle);
    }
    Ok(graph)
}

/// `CUDA_GRAPH_INSTANTIATE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
struct InstantiateParams {
    flags: u64,
    upload_stream: *mut c_void,
    error_node: *mut c_void,
    result: c_uint,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
struct UpdateInfo {
    result: c_uint,
    node: u64,
    from: u64,
}

fn update(exec: *mut c_void, graph: *mut c_void) -> Answer<Option<(c_uint, u64)>> {
    let exec = live(&DRIVER.execs, exec)?;
    exec.update(&*live(&DRIVER.graphs, graph)?)
}

fn exec_of(exec: *mut c_void) -> Answer<Arc<Exec>> {
    live(&DRIVER.execs, exec)
}

driver_api! {
    fn cuGraphInstantiateWithFlags(out: *mut *mut c_void, graph: *mut c_void, flags: u64) {
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        put(out, instantiate(graph, flags)? as *mut c_void)
    }

    fn cuGraphInstantiate_v2(out: *mut *mut c_void, graph: *mut c_void, error_node: *mut *mut c_void, log: *mut c_char, bytes: usize) {
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        put_if_wanted(error_node, std::ptr::null_mut());
        if bytes > 0 {
            put_if_wanted(log, 0);
        }
        put(out, instantiate(graph, 0)? as *mut c_void)
    }

    fn cuGraphInstantiateWithParams(out: *mut *mut c_void, graph: *mut c_void, params: *mut InstantiateParams) {
        if out.is_null() || params.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let mut wanted = params.read_unaligned();
        let made = instantiate(graph, wanted.flags);
        // 0 is success, 1 an error that is not described further.
        (wanted.result, wanted.error_node) = (c_uint::from(made.is_err()), std::ptr::null_mut());
        put(params, wanted)?;
        if wanted.flags & UPLOAD != 0 {
            resolve(wanted.upload_stream)?;
        }
        put(out, made? as *mut c_void)
    }

    fn cuGraphUpload(exec: *mut c_void, stream: *mut c_void) {
        exec_of(exec)?;
        // There is nothing to be prepared.
        resolve(stream).map(|_| ())
    }

    fn cuGraphLaunch(exec: *mut c_void, stream: *mut c_void) {
        let exec = exec_of(exec)?;
        let stream = resolve(stream)?;
        if exec.context.handle != stream.context.handle {
            return Err(Status::INVALID_HANDLE);
        }
        exec.launch(&stream)
    }

    fn cuGraphExecDestroy(exec: *mut c_void) {
        // Launches that are under way go on without it.
        end(&DRIVER.execs, exec).map(|_| ())
    }

    fn cuGraphExecGetFlags(exec: *mut c_void, out: *mut u64) {
        put(out, exec_of(exec)?.flags)
    }

    fn cuGraphExecGetId(exec: *mut c_void, out: *mut c_uint) {
        put(out, exec_of(exec)?.handle as c_uint)
    }

    fn cuGraphExecUpdate_v2(exec: *mut c_void, graph: *mut c_void, info: *mut UpdateInfo) {
        let changed = update(exec, graph)?;
        let (result, node) = changed.unwrap_or_default();
        put(info, UpdateInfo { result, node, from: 0 })?;
        if changed.is_some() { Err(Status::GRAPH_EXEC_UPDATE_FAILURE) } else { Ok(()) }
    }

    fn cuGraphExecUpdate(exec: *mut c_void, graph: *mut c_void, error_node: *mut *mut c_void, out: *mut c_uint) {
        let changed = update(exec, graph)?;
        let (result, node) = changed.unwrap_or_default();
        put_if_wanted(error_node, node as *mut c_void);
        put(out, result)?;
        if changed.is_some() { Err(Status::GRAPH_EXEC_UPDATE_FAILURE) } else { Ok(()) }
    }

    fn cuGraphExecKernelNodeSetParams(exec: *mut c_void, node: *mut c_void, params: *const KernelNode) {
        exec_of(exec)?.set(node, KernelNode::work(params)?)
    }

    fn cuGraphExecKernelNodeSetParams_v2(exec: *mut c_void, node: *mut c_void, params: *const KernelNode) {
        exec_of(exec)?.set(node, KernelNode::work(params)?)
    }

    fn cuGraphExecMemcpyNodeSetParams(exec: *mut c_void, node: *mut c_void, params: *const Copy, _context: *mut c_void) {
        exec_of(exec)?.set(node, super::parameters::copy(params)?)
    }

    fn cuGraphExecMemsetNodeSetParams(exec: *mut c_void, node: *mut c_void, params: *const MemsetNode, _context: *mut c_void) {
        exec_of(exec)?.set(node, MemsetNode::work(params)?)
    }

    fn cuGraphExecHostNodeSetParams(exec: *mut c_void, node: *mut c_void, params: *const HostNode) {
        exec_of(exec)?.set(node, HostNode::work(params)?)
    }

    fn cuGraphExecEventRecordNodeSetEvent(exec: *mut c_void, node: *mut c_void, event: *mut c_void) {
        exec_of(exec)?.set(node, Work::Record(live(&DRIVER.events, event)?))
    }

    fn cuGraphExecEventWaitNodeSetEvent(exec: *mut c_void, node: *mut c_void, event: *mut c_void) {
        exec_of(exec)?.set(node, Work::Wait(live(&DRIVER.events, event)?))
    }

    fn cuGraphNodeSetEnabled(exec: *mut c_void, node: *mut c_void, enabled: c_uint) {
        let exec = exec_of(exec)?;
        let mut steps = lock(&exec.steps);
        let step = steps.iter_mut().find(|step| step.node == node as u64).ok_or(Status::INVALID_VALUE)?;
        // As documented: kernels, memsets and copies only.
        if step.kind > 2 {
            return Err(Status::INVALID_VALUE);
        }
        step.enabled = enabled != 0;
        Ok(())
    }

    fn cuGraphNodeGetEnabled(exec: *mut c_void, node: *mut c_void, out: *mut c_uint) {
        let exec = exec_of(exec)?;
        let steps = lock(&exec.steps);
        let step = steps.iter().find(|step| step.node == node as u64).ok_or(Status::INVALID_VALUE)?;
        put(out, c_uint::from(step.enabled))
    }
}
