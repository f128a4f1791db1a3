//! Capture: what is submitted to a stream goes into a graph instead.
//!
//! The rules that reach beyond a stream, which forbid calls that could synchronise while anything
//! is captured, reach as far as the device here: tests that share a process each have their own.

use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use super::graph::{Content, Graph};
use super::queue::Order;
use super::state::{Context, DRIVER, Recorded, Stream, current, live, lock};
use super::status::Status;
use super::stream::resolve;
use super::work::Work;
use super::{Answer, driver_api, put, put_if_wanted};

/// Which calls a capture forbids, `CUstreamCaptureMode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Global,
    ThreadLocal,
    Relaxed,
}

impl Mode {
    fn of(number: c_uint) -> Answer<Mode> {
        match number {
            0 => Ok(Mode::Global),
            1 => Ok(Mode::ThreadLocal),
            2 => Ok(Mode::Relaxed),
            _ => Err(Status::INVALID_VALUE),
        }
    }
}

/// One capture, from its beginning to its end.
pub(crate) struct Capture {
    id: u64,
    mode: Mode,
    thread: ThreadId,
    context: u64,
    device: i32,
    /// Number of the stream that it began in.
    origin: u64,
    graph: Arc<Graph>,
    /// A blocking stream takes part: the legacy default stream would have to wait for it.
    blocking: AtomicBool,
    /// It has not ended.
    open: AtomicBool,
    /// Nothing has spoilt it.
    valid: AtomicBool,
    /// Nodes that a stream takes part with, to be joined with the origin at the end.
    added: Mutex<Vec<u64>>,
}

/// A place in a capture: what comes next depends on these nodes.
#[derive(Clone)]
pub(crate) struct Point {
    pub(super) capture: Arc<Capture>,
    nodes: Vec<u64>,
}

/// The captures that have not ended.
static OPEN: Mutex<Vec<Arc<Capture>>> = Mutex::new(Vec::new());

thread_local! {
    /// What this thread may call while others capture.
    static THREAD_MODE: Cell<Mode> = const { Cell::new(Mode::Global) };
}

impl Capture {
    /// Spoils it. Its end will say so.
    pub(super) fn invalidate(&self) {
        self.valid.store(false, Ordering::Release);
    }

    fn close(&self) {
        self.open.store(false, Ordering::Release);
        lock(&OPEN).retain(|other| other.id != self.id);
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn is_valid(&self) -> bool {
        self.valid.load(Ordering::Acquire)
    }

    fn fail(&self, status: Status) -> Answer<bool> {
        self.invalidate();
        Err(status)
    }
}

impl Stream {
    /// Where its capture is, if it is being captured.
    fn point(&self) -> Option<Point> {
        let mut captured = lock(&self.captured);
        if captured.as_ref().is_some_and(|point| !point.capture.is_open()) {
            *captured = None;
        }
        captured.clone()
    }

    pub(crate) fn is_capturing(&self) -> bool {
        self.point().is_some()
    }
}

impl Drop for Stream {
    /// A capture that its stream does not end is no capture any more.
    fn drop(&mut self) {
        if let Some(point) = self.point().filter(|point| point.capture.origin == self.id) {
            point.capture.close();
            point.capture.graph.destroy();
        }
    }
}

/// Takes work for the graph of the stream's capture; `false` if the stream is to run it.
pub(super) fn capture(stream: &Stream, work: &Work) -> Answer<bool> {
    let point = stream.point();
    if let (Work::Wait(event), None) = (work, &point) {
        let event = match &*lock(&event.recorded) {
            Recorded::Captured(event) => event.clone(),
            Recorded::Never | Recorded::In(_) => return refuse_legacy(stream),
        };
        return join(stream, event);
    }
    let Some(mut point) = point else { return refuse_legacy(stream) };
    let capture = point.capture.clone();
    if !capture.is_valid() {
        return Err(Status::STREAM_CAPTURE_INVALIDATED);
    }
    match work {
        Work::Wait(event) => match &*lock(&event.recorded) {
            // Documented as no wait at all.
            Recorded::Never => {}
            Recorded::Captured(other) if Arc::ptr_eq(&other.capture, &capture) => {
                for node in &other.nodes {
                    if !point.nodes.contains(node) {
                        point.nodes.push(*node);
                    }
                }
            }
            Recorded::Captured(other) if other.capture.is_open() => {
                other.capture.invalidate();
                return capture.fail(Status::STREAM_CAPTURE_MERGE);
            }
            Recorded::Captured(_) | Recorded::In(_) => return capture.fail(Status::STREAM_CAPTURE_ISOLATION),
        },
        Work::Record(event) => *lock(&event.recorded) = Recorded::Captured(point.clone()),
        _ => {
            let node = capture.graph.add(Content::Work(work.clone()), &point.nodes);
            lock(&capture.added).push(node.handle);
            point.nodes = vec![node.handle];
        }
    }
    *lock(&stream.captured) = Some(point);
    Ok(true)
}

/// Adds a node for what would otherwise not become one.
pub(super) fn add_node(stream: &Stream, work: Work) -> Answer {
    add(stream, Content::Work(work))
}

/// The launch of a graph is captured as a child.
pub(super) fn add_child(stream: &Stream, graph: Arc<Graph>) -> Answer {
    add(stream, Content::Child(graph))
}

fn add(stream: &Stream, content: Content) -> Answer {
    let point = stream.point().ok_or(Status::ILLEGAL_STATE)?;
    if !point.capture.is_valid() {
        return Err(Status::STREAM_CAPTURE_INVALIDATED);
    }
    let node = point.capture.graph.add(content, &point.nodes);
    lock(&point.capture.added).push(node.handle);
    *lock(&stream.captured) = Some(Point { nodes: vec![node.handle], ..point });
    Ok(())
}

/// A stream that waits for a captured event is captured from then on.
fn join(stream: &Stream, event: Point) -> Answer<bool> {
    let capture = event.capture.clone();
    if !capture.is_open() {
        return Err(Status::CAPTURED_EVENT);
    }
    if !capture.is_valid() {
        return Err(Status::STREAM_CAPTURE_INVALIDATED);
    }
    match stream.order() {
        Order::Legacy => return capture.fail(Status::STREAM_CAPTURE_IMPLICIT),
        Order::Blocking => capture.blocking.store(true, Ordering::Release),
        Order::NonBlocking => {}
    }
    *lock(&stream.captured) = Some(event);
    Ok(true)
}

/// The legacy default stream cannot be used while a blocking stream of its context is captured.
fn refuse_legacy(stream: &Stream) -> Answer<bool> {
    let mut refused = false;
    if stream.order() == Order::Legacy {
        let context = stream.context.handle;
        for capture in lock(&OPEN).iter().filter(|capture| capture.context == context) {
            if capture.blocking.load(Ordering::Acquire) {
                capture.invalidate();
                refused = true;
            }
        }
    }
    if refused { Err(Status::STREAM_CAPTURE_IMPLICIT) } else { Ok(false) }
}

/// Refuses to wait for a stream that is being captured, or to ask about it.
pub(super) fn refuse_waiting(stream: &Stream) -> Answer {
    match stream.point() {
        Some(point) => point.capture.fail(Status::STREAM_CAPTURE_UNSUPPORTED).map(|_| ()),
        None => refuse_legacy(stream).map(|_| ()),
    }
}

/// Refuses calls that could synchronise, where a capture forbids them.
pub(super) fn refuse_unsafe(context: &Context) -> Answer {
    let open = lock(&OPEN);
    if open.is_empty() {
        return Ok(());
    }
    let (here, mode) = (std::thread::current().id(), THREAD_MODE.get());
    let forbids = |capture: &&Arc<Capture>| {
        let of_this_thread = capture.thread == here && capture.mode != Mode::Relaxed;
        let of_others = mode == Mode::Global && capture.mode == Mode::Global;
        capture.device == context.device.handle && mode != Mode::Relaxed && (of_this_thread || of_others)
    };
    let mut refused = false;
    for capture in open.iter().filter(forbids) {
        capture.invalidate();
        refused = true;
    }
    if refused { Err(Status::STREAM_CAPTURE_UNSUPPORTED) } else { Ok(()) }
}

/// Begins a capture into a graph, behind some of its nodes.
fn begin(stream: &Stream, graph: Arc<Graph>, nodes: Vec<u64>, mode: c_uint) -> Answer {
    let mode = Mode::of(mode)?;
    if stream.order() == Order::Legacy {
        return Err(Status::STREAM_CAPTURE_UNSUPPORTED);
    }
    if stream.is_capturing() {
        return Err(Status::ILLEGAL_STATE);
    }
    let capture = Arc::new(Capture {
        id: DRIVER.new_handle(),
        mode,
        thread: std::thread::current().id(),
        context: stream.context.handle,
        device: stream.context.device.handle,
        origin: stream.id,
        graph,
        blocking: AtomicBool::new(stream.order() == Order::Blocking),
        open: AtomicBool::new(true),
        valid: AtomicBool::new(true),
        added: Mutex::default(),
    });
    lock(&OPEN).push(capture.clone());
    *lock(&stream.captured) = Some(Point { capture, nodes });
    Ok(())
}

/// Ends a capture: the graph, or why there is none.
fn end(stream: &Stream) -> Answer<Arc<Graph>> {
    let Point { capture, nodes } = stream.point().ok_or(Status::ILLEGAL_STATE)?;
    if capture.origin != stream.id {
        return capture.fail(Status::STREAM_CAPTURE_UNMATCHED).and(Err(Status::STREAM_CAPTURE_UNMATCHED));
    }
    if capture.mode != Mode::Relaxed && capture.thread != std::thread::current().id() {
        return Err(Status::STREAM_CAPTURE_WRONG_THREAD);
    }
    capture.close();
    *lock(&stream.captured) = None;
    let joined = capture.graph.all_before(&nodes);
    let unjoined = lock(&capture.added).iter().any(|node| !joined.contains(node));
    let refused = match (capture.is_valid(), unjoined) {
        (false, _) => Status::STREAM_CAPTURE_INVALIDATED,
        (true, true) => Status::STREAM_CAPTURE_UNJOINED,
        (true, false) => return Ok(capture.graph.clone()),
    };
    capture.graph.destroy();
    Err(refused)
}

/// `CUstreamCaptureStatus`.
fn status(point: Option<&Point>) -> c_uint {
    match point {
        None => 0,
        Some(point) if point.capture.is_valid() => 1,
        Some(_) => 2,
    }
}

thread_local! {
    /// Dependencies handed out by `cuStreamGetCaptureInfo`, valid until the thread's next such call.
    static HANDED_OUT: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// Where `cuStreamGetCaptureInfo` writes; each may be null.
struct Info {
    status: *mut c_uint,
    id: *mut u64,
    graph: *mut *mut c_void,
    nodes: *mut *const u64,
    count: *mut usize,
}

/// # Safety
/// Each pointer is null or valid for a write.
unsafe fn info(stream: *mut c_void, out: &Info) -> Answer {
    let stream = resolve(stream)?;
    let point = stream.point();
    refuse_legacy(&stream)?;
    // SAFETY: the caller vouches for the pointers.
    unsafe {
        put(out.status, status(point.as_ref()))?;
        let Some(point) = point.filter(|point| point.capture.is_valid()) else { return Ok(()) };
        put_if_wanted(out.id, point.capture.id);
        put_if_wanted(out.graph, point.capture.graph.handle as *mut c_void);
        put_if_wanted(out.count, point.nodes.len());
        put_if_wanted(out.nodes, point.nodes.as_ptr());
        HANDED_OUT.set(point.nodes);
    }
    Ok(())
}

/// Adds to, or replaces, what the next node of a capture depends on.
///
/// # Safety
/// `nodes` is valid for `count` handles.
unsafe fn update(stream: *mut c_void, nodes: *const *mut c_void, count: usize, flags: c_uint) -> Answer {
    let stream = resolve(stream)?;
    let mut point = stream.point().ok_or(Status::ILLEGAL_STATE)?;
    // SAFETY: the caller vouches for the handles.
    let new = unsafe { point.capture.graph.members(nodes, count)? };
    match flags {
        0 => point.nodes.extend(new),
        1 => point.nodes = new,
        _ => return Err(Status::INVALID_VALUE),
    }
    *lock(&stream.captured) = Some(point);
    Ok(())
}

driver_api! {
    fn cuStreamBeginCapture_v2(stream: *mut c_void, mode: c_uint) {
        let stream = resolve(stream)?;
        begin(&stream, Graph::create(false), Vec::new(), mode)
    }

    fn cuStreamBeginCaptureToGraph(
        stream: *mut c_void, graph: *mut c_void,
        nodes: *const *mut c_void, _edges: *const c_void, count: usize, mode: c_uint,
    ) {
        let stream = resolve(stream)?;
        let graph = live(&DRIVER.graphs, graph)?;
        let nodes = graph.members(nodes, count)?;
        begin(&stream, graph, nodes, mode)
    }

    fn cuStreamEndCapture(stream: *mut c_void, out: *mut *mut c_void) {
        let stream = resolve(stream)?;
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        put(out, std::ptr::null_mut())?;
        put(out, end(&stream)?.handle as *mut c_void)
    }

    fn cuStreamIsCapturing(stream: *mut c_void, out: *mut c_uint) {
        let stream = resolve(stream)?;
        let point = stream.point();
        refuse_legacy(&stream)?;
        put(out, status(point.as_ref()))
    }

    fn cuStreamGetCaptureInfo(stream: *mut c_void, out: *mut c_uint, id: *mut u64) {
        use std::ptr::null_mut as null;
        info(stream, &Info { status: out, id, graph: null(), nodes: null(), count: null() })
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: *mut c_void, out: *mut c_uint, id: *mut u64,
        graph: *mut *mut c_void, nodes: *mut *const u64, count: *mut usize,
    ) {
        info(stream, &Info { status: out, id, graph, nodes, count })
    }

    fn cuStreamGetCaptureInfo_v3(
        stream: *mut c_void, out: *mut c_uint, id: *mut u64,
        graph: *mut *mut c_void, nodes: *mut *const u64, edges: *mut *const c_void, count: *mut usize,
    ) {
        // No edge carries data here.
        put_if_wanted(edges, std::ptr::null());
        info(stream, &Info { status: out, id, graph, nodes, count })
    }

    fn cuStreamUpdateCaptureDependencies(stream: *mut c_void, nodes: *const *mut c_void, count: usize, flags: c_uint) {
        update(stream, nodes, count, flags)
    }

    fn cuStreamUpdateCaptureDependencies_v2(
        stream: *mut c_void, nodes: *const *mut c_void, _edges: *const c_void, count: usize, flags: c_uint,
    ) {
        update(stream, nodes, count, flags)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: *mut c_uint) {
        current()?;
        if mode.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let new = Mode::of(mode.read_unaligned())?;
        put(mode, THREAD_MODE.replace(new) as c_uint)
    }
}
