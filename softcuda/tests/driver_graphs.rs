//! Graphs: captured from streams, built by hand, launched, updated.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::sys::{self, CUgraphInstantiate_flags as Flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaGraph, CudaStream, PushKernelArg, result};
use driver_support::{SCALE, a100, code, device, kernel, shape};
use softcuda::{Config, Gpu};

const GLOBAL: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
const LOCAL: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const RELAXED: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;

/// A device without cudarc's own events, which may not be waited for in a capture, and two streams.
fn bench(seed: u64) -> (Gpu, Arc<CudaContext>, [Arc<CudaStream>; 2]) {
    let (gpu, context) = device(Config { seed, ..Config::capability(8, 0) });
    unsafe { context.disable_event_tracking() };
    let streams = [context.new_stream().unwrap(), context.new_stream().unwrap()];
    (gpu, context, streams)
}

fn end(stream: &Arc<CudaStream>) -> CudaGraph {
    stream.end_capture(Flags(0)).unwrap().unwrap()
}

/// The code with which a capture ends.
fn spoilt(stream: &Arc<CudaStream>) -> CUresult {
    code(stream.end_capture(Flags(0)).map(|_| ()))
}

fn bytes(stream: &CudaStream, address: u64, count: usize) -> Vec<u8> {
    let mut out = vec![0; count];
    unsafe { result::memcpy_dtoh_async(&mut out, address, stream.cu_stream()) }.unwrap();
    stream.synchronize().unwrap();
    out
}

#[test]
fn a_captured_graph_runs_when_it_is_launched() {
    let (gpu, context, [stream, _]) = bench(0);
    let function = kernel(&context, SCALE, "scale");
    for flags in [Flags(0), Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH] {
        let mut data = stream.clone_htod(&[1.0_f32; 4]).unwrap();
        stream.synchronize().unwrap();
        let before = gpu.counters().unwrap().launches;
        stream.begin_capture(LOCAL).unwrap();
        let active = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE;
        assert_eq!(stream.capture_status().unwrap(), active);
        let mut factor = 2.0_f32;
        let address = {
            use cudarc::driver::DevicePtrMut;
            data.device_ptr_mut(&stream).0
        };
        let mut launch = stream.launch_builder(&function);
        launch.arg(&address).arg(&address).arg(&factor).arg(&4_u32);
        unsafe { launch.launch(shape(1, 4)) }.unwrap();
        factor += 1.0;
        let graph = stream.end_capture(flags).unwrap().unwrap();
        assert_eq!(gpu.counters().unwrap().launches, before, "captured, not run ({factor})");
        graph.upload().unwrap();
        graph.launch().unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&data).unwrap(), [4.0; 4]);
        stream.memcpy_htod(&[3.0_f32; 4], &mut data).unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&data).unwrap(), [6.0; 4]);
        assert_eq!(gpu.counters().unwrap().launches, before + 3);
    }
}

#[test]
fn impossible_flags_are_refused_and_the_stream_goes_on() {
    let (_gpu, _context, [stream, _]) = bench(0);
    stream.begin_capture(LOCAL).unwrap();
    let both =
        Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | Flags::CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH;
    assert_eq!(code(stream.end_capture(both).map(|_| ())), CUresult::CUDA_ERROR_INVALID_VALUE);
    stream.begin_capture(LOCAL).unwrap();
    end(&stream).launch().unwrap();
    stream.synchronize().unwrap();
}

/// Two branches that both write one buffer, forked and joined by events; what the last write was.
fn fork(seed: u64, ordered: bool) -> u8 {
    let (_gpu, _context, [one, two]) = bench(seed);
    let address = one.alloc_zeros::<u8>(16).unwrap().leak();
    one.synchronize().unwrap();
    one.begin_capture(GLOBAL).unwrap();
    two.join(&one).unwrap();
    unsafe { result::memset_d8_async(address, 1, 16, one.cu_stream()) }.unwrap();
    if ordered {
        two.join(&one).unwrap();
    }
    unsafe { result::memset_d8_async(address, 2, 16, two.cu_stream()) }.unwrap();
    one.join(&two).unwrap();
    let graph = end(&one);
    graph.launch().unwrap();
    let last = bytes(&one, address, 1)[0];
    unsafe { result::free_sync(address) }.unwrap();
    last
}

#[test]
fn branches_run_in_any_order() {
    let orders: Vec<u8> = (0..16).map(|seed| fork(seed, false)).collect();
    assert!(orders.contains(&1) && orders.contains(&2), "{orders:?}");
    for seed in 0..16 {
        assert_eq!(fork(seed, true), 2, "seed {seed}");
    }
}

#[test]
fn captures_are_spoilt_by_what_cannot_be_captured() {
    let (_gpu, context, [one, two]) = bench(0);
    let event = context.new_event(None).unwrap();
    let outside = two.record_event(None).unwrap();
    let unsupported = CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    let invalidated = CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;

    one.begin_capture(LOCAL).unwrap();
    assert_eq!(code(one.synchronize()), unsupported);
    let state = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    assert_eq!(one.capture_status().unwrap(), state);
    assert_eq!(code(one.clone_htod(&[1_u8])), invalidated);
    assert_eq!(spoilt(&one), invalidated);

    one.begin_capture(LOCAL).unwrap();
    assert_eq!(unsafe { sys::cuStreamQuery(one.cu_stream()) }, unsupported);
    assert_eq!(spoilt(&one), invalidated);

    one.begin_capture(LOCAL).unwrap();
    event.record(&one).unwrap();
    assert_eq!(event.try_is_complete().map_err(|error| error.0), Err(CUresult::CUDA_ERROR_CAPTURED_EVENT));
    assert_eq!(spoilt(&one), invalidated);

    one.begin_capture(LOCAL).unwrap();
    assert_eq!(code(one.wait(&outside)), CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert_eq!(spoilt(&one), invalidated);

    one.begin_capture(LOCAL).unwrap();
    two.begin_capture(LOCAL).unwrap();
    event.record(&one).unwrap();
    assert_eq!(code(two.wait(&event)), CUresult::CUDA_ERROR_STREAM_CAPTURE_MERGE);
    assert_eq!(spoilt(&one), invalidated);
    assert_eq!(spoilt(&two), invalidated);

    // A branch that nothing waits for.
    one.begin_capture(LOCAL).unwrap();
    two.join(&one).unwrap();
    unsafe { result::stream::launch_host_function(two.cu_stream(), nothing, null_mut()) }.unwrap();
    assert_eq!(code(two.end_capture(Flags(0)).map(|_| ())), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    assert_eq!(spoilt(&one), invalidated);
    one.begin_capture(LOCAL).unwrap();
    two.join(&one).unwrap();
    unsafe { result::stream::launch_host_function(two.cu_stream(), nothing, null_mut()) }.unwrap();
    assert_eq!(spoilt(&one), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);

    assert_eq!(code(one.end_capture(Flags(0)).map(|_| ())), CUresult::CUDA_ERROR_ILLEGAL_STATE);
    one.begin_capture(LOCAL).unwrap();
    assert_eq!(code(one.begin_capture(LOCAL)), CUresult::CUDA_ERROR_ILLEGAL_STATE);
    let other = std::thread::scope(|scope| scope.spawn(|| spoilt(&one)).join().unwrap());
    assert_eq!(other, CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
    end(&one).launch().unwrap();
    // None of all this is sticky, and a stream takes its capture with it.
    let lost = context.new_stream().unwrap();
    lost.begin_capture(GLOBAL).unwrap();
    drop(lost);
    context.synchronize().unwrap();
}

unsafe extern "C" fn nothing(_: *mut c_void) {}

#[test]
fn what_might_synchronise_is_forbidden_by_mode() {
    let (_gpu, context, [one, _]) = bench(0);
    let unsupported = CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    let elsewhere = || {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                context.bind_to_thread().unwrap();
                unsafe { result::malloc_sync(16) }.and_then(|address| unsafe { result::free_sync(address) })
            });
            thread.join().unwrap()
        })
    };
    one.begin_capture(GLOBAL).unwrap();
    assert_eq!(code(elsewhere()), unsupported);
    assert_eq!(spoilt(&one), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    one.begin_capture(LOCAL).unwrap();
    elsewhere().unwrap();
    assert_eq!(code(unsafe { result::malloc_sync(16) }), unsupported);
    assert_eq!(spoilt(&one), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    one.begin_capture(RELAXED).unwrap();
    let address = unsafe { result::malloc_sync(16) }.unwrap();
    end(&one);
    // The thread's own mode lifts the ban.
    let mut mode = RELAXED;
    one.begin_capture(GLOBAL).unwrap();
    unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) }.result().unwrap();
    assert_eq!(mode, GLOBAL);
    unsafe { result::free_sync(address) }.unwrap();
    unsafe { sys::cuThreadExchangeStreamCaptureMode(&mut mode) }.result().unwrap();
    end(&one);
}

#[test]
fn the_legacy_stream_stays_out_of_captures() {
    let (_gpu, context, [free, _]) = bench(0);
    let legacy = context.default_stream();
    assert_eq!(code(legacy.begin_capture(LOCAL)), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let raw = result::stream::create(result::stream::StreamKind::Default).unwrap();
    let blocking = unsafe { context.wrap_borrowed_stream(raw) };
    let mut slice = free.alloc_zeros::<u8>(4).unwrap();
    free.synchronize().unwrap();
    blocking.begin_capture(RELAXED).unwrap();
    let implicit = CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    assert_eq!(code(legacy.memset_zeros(&mut slice)), implicit);
    assert_eq!(spoilt(&blocking), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    // A stream that does not block it is none of its business.
    free.begin_capture(RELAXED).unwrap();
    legacy.memset_zeros(&mut slice).unwrap();
    end(&free);
    drop(blocking);
    unsafe { result::stream::destroy(raw) }.unwrap();
}

#[test]
fn memory_of_a_graph_comes_and_goes_with_its_launches() {
    let (gpu, _context, [stream, _]) = bench(0);
    let keep = unsafe { stream.alloc::<u8>(16) }.unwrap().leak();
    stream.synchronize().unwrap();
    stream.begin_capture(LOCAL).unwrap();
    let inside = unsafe { result::malloc_async(stream.cu_stream(), 16) }.unwrap();
    unsafe {
        result::memset_d8_async(inside, 7, 16, stream.cu_stream()).unwrap();
        result::memcpy_dtod_async(keep, inside, 16, stream.cu_stream()).unwrap();
        result::free_async(inside, stream.cu_stream()).unwrap();
    }
    let graph = end(&stream);
    assert_eq!(gpu.live_allocations(), Some((1, 16)));
    for _ in 0..3 {
        graph.launch().unwrap();
    }
    assert_eq!(bytes(&stream, keep, 16), [7; 16]);
    assert_eq!(gpu.live_allocations(), Some((1, 16)));
    // One that leaves its memory to the host, which must free it before the next launch.
    stream.begin_capture(LOCAL).unwrap();
    let left = unsafe { result::malloc_async(stream.cu_stream(), 32) }.unwrap();
    unsafe { result::memset_d8_async(left, 9, 32, stream.cu_stream()) }.unwrap();
    let graph = end(&stream);
    graph.launch().unwrap();
    assert_eq!(bytes(&stream, left, 32), [9; 32]);
    assert_eq!(code(graph.launch()), CUresult::CUDA_ERROR_INVALID_VALUE);
    unsafe { result::free_async(left, stream.cu_stream()) }.unwrap();
    graph.launch().unwrap();
    assert_eq!(bytes(&stream, left, 32), [9; 32]);
    unsafe {
        result::free_async(left, stream.cu_stream()).unwrap();
        result::free_async(keep, stream.cu_stream()).unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
}

/// A graph by hand: fills, scales, calls the host, and copies back.
struct ByHand {
    graph: sys::CUgraph,
    fill: sys::CUgraphNode,
    scale: sys::CUgraphNode,
    call: sys::CUgraphNode,
    download: sys::CUgraphNode,
}

fn copy_to(host: *mut c_void, address: u64) -> sys::CUDA_MEMCPY3D {
    // Zeroed, but for its two enumerations, which have no zero.
    let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
    let mut copy = unsafe {
        (&raw mut (*copy.as_mut_ptr()).srcMemoryType).write(sys::CUmemorytype::CU_MEMORYTYPE_DEVICE);
        (&raw mut (*copy.as_mut_ptr()).dstMemoryType).write(sys::CUmemorytype::CU_MEMORYTYPE_HOST);
        copy.assume_init()
    };
    (copy.srcDevice, copy.dstHost) = (address, host);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (16, 1, 1);
    copy
}

fn fill_with(address: u64, value: u32) -> sys::CUDA_MEMSET_NODE_PARAMS {
    sys::CUDA_MEMSET_NODE_PARAMS { dst: address, pitch: 0, value, elementSize: 4, width: 4, height: 1 }
}

unsafe extern "C" fn count(counter: *mut c_void) {
    unsafe { &*counter.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
}

/// The parameters of `scale(address, address, factor, 4)`.
fn scale_by(function: sys::CUfunction, params: &mut [*mut c_void; 4]) -> sys::CUDA_KERNEL_NODE_PARAMS {
    let mut node: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    node.func = function;
    (node.gridDimX, node.gridDimY, node.gridDimZ) = (1, 1, 1);
    (node.blockDimX, node.blockDimY, node.blockDimZ) = (4, 1, 1);
    node.kernelParams = params.as_mut_ptr();
    node
}

impl ByHand {
    fn new(
        context: &CudaContext,
        function: sys::CUfunction,
        address: u64,
        host: *mut c_void,
        counter: &AtomicU32,
    ) -> ByHand {
        let (mut graph, mut fill, mut scale, mut call, mut download) =
            (null_mut(), null_mut(), null_mut(), null_mut(), null_mut());
        let (mut target, mut factor, mut length) = (address, 2.0_f32, 4_u32);
        let mut params: [*mut c_void; 4] =
            [(&raw mut target).cast(), (&raw mut target).cast(), (&raw mut factor).cast(), (&raw mut length).cast()];
        unsafe {
            sys::cuGraphCreate(&mut graph, 0).result().unwrap();
            let one = fill_with(address, 1.0_f32.to_bits());
            sys::cuGraphAddMemsetNode(&mut fill, graph, null(), 0, &one, context.cu_ctx()).result().unwrap();
            let node = scale_by(function, &mut params);
            sys::cuGraphAddKernelNode_v2(&mut scale, graph, &fill, 1, &node).result().unwrap();
            let node = sys::CUDA_HOST_NODE_PARAMS {
                fn_: Some(count),
                userData: std::ptr::from_ref(counter).cast_mut().cast(),
            };
            sys::cuGraphAddHostNode(&mut call, graph, &scale, 1, &node).result().unwrap();
            let node = copy_to(host, address);
            sys::cuGraphAddMemcpyNode(&mut download, graph, null(), 0, &node, context.cu_ctx()).result().unwrap();
            sys::cuGraphAddDependencies_v2(graph, &scale, &download, null(), 1).result().unwrap();
        }
        ByHand { graph, fill, scale, call, download }
    }
}

#[test]
fn graphs_are_built_node_by_node() {
    let (_gpu, context, [stream, _]) = bench(5);
    let function = kernel(&context, SCALE, "scale");
    let address = stream.alloc_zeros::<f32>(4).unwrap().leak();
    stream.synchronize().unwrap();
    let counter = AtomicU32::new(0);
    let mut host = [0.0_f32; 4];
    let out: *mut c_void = host.as_mut_ptr().cast();
    let raw = function.cu_function();
    let made = ByHand::new(&context, raw, address, out, &counter);
    let read = || unsafe { std::ptr::read_volatile(out.cast::<[f32; 4]>()) };
    unsafe {
        let exec = result::graph::instantiate(made.graph, Flags(0)).unwrap();
        let launch = || {
            result::graph::launch(exec, stream.cu_stream()).unwrap();
            stream.synchronize().unwrap();
        };
        launch();
        assert_eq!((read(), counter.load(Ordering::SeqCst)), ([2.0; 4], 1));

        // The executable graph can be changed, the other stays as it was.
        let five = fill_with(address, 5.0_f32.to_bits());
        sys::cuGraphExecMemsetNodeSetParams(exec, made.fill, &five, context.cu_ctx()).result().unwrap();
        launch();
        assert_eq!(read(), [10.0; 4]);
        let (mut target, mut factor, mut length) = (address, 3.0_f32, 4_u32);
        let mut params: [*mut c_void; 4] =
            [(&raw mut target).cast(), (&raw mut target).cast(), (&raw mut factor).cast(), (&raw mut length).cast()];
        let node = scale_by(raw, &mut params);
        sys::cuGraphExecKernelNodeSetParams_v2(exec, made.scale, &node).result().unwrap();
        launch();
        assert_eq!(read(), [15.0; 4]);
        let wrong = sys::cuGraphExecKernelNodeSetParams_v2(exec, made.fill, &node);
        assert_eq!(wrong, CUresult::CUDA_ERROR_INVALID_VALUE, "a memset is no kernel");

        // A node that is switched off does nothing, and its successors run.
        sys::cuGraphNodeSetEnabled(exec, made.scale, 0).result().unwrap();
        launch();
        assert_eq!(read(), [5.0; 4]);

        // Updated from the graph, it is as that is.
        let mut info = std::mem::zeroed();
        sys::cuGraphExecUpdate_v2(exec, made.graph, &mut info).result().unwrap();
        sys::cuGraphNodeSetEnabled(exec, made.scale, 1).result().unwrap();
        launch();
        assert_eq!(read(), [2.0; 4]);
        sys::cuGraphDestroyNode(made.call).result().unwrap();
        let update = sys::cuGraphExecUpdate_v2(exec, made.graph, &mut info);
        assert_eq!(update, CUresult::CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        assert_eq!(info.result, sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
        result::graph::exec_destroy(exec).unwrap();
        result::graph::destroy(made.graph).unwrap();
        assert_eq!(code(result::graph::destroy(made.graph)), CUresult::CUDA_ERROR_INVALID_HANDLE);
        let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
        assert_eq!(sys::cuGraphNodeGetType(made.fill, &mut kind), CUresult::CUDA_ERROR_INVALID_HANDLE);
        result::free_sync(address).unwrap();
    }
}

#[test]
fn graphs_tell_what_they_are() {
    let (_gpu, context, [stream, _]) = bench(0);
    let function = kernel(&context, SCALE, "scale");
    let address = stream.alloc_zeros::<f32>(4).unwrap().leak();
    stream.synchronize().unwrap();
    let counter = AtomicU32::new(0);
    let mut host = [0.0_f32; 4];
    let raw = function.cu_function();
    let made = ByHand::new(&context, raw, address, host.as_mut_ptr().cast(), &counter);
    unsafe {
        let (mut nodes, mut count) = ([null_mut(); 8], 0);
        sys::cuGraphGetNodes(made.graph, null_mut(), &mut count).result().unwrap();
        assert_eq!(count, 4);
        count = 8;
        sys::cuGraphGetNodes(made.graph, nodes.as_mut_ptr(), &mut count).result().unwrap();
        assert_eq!((nodes[0], nodes[3], nodes[4], count), (made.fill, made.download, null_mut(), 4));
        count = 8;
        sys::cuGraphGetRootNodes(made.graph, nodes.as_mut_ptr(), &mut count).result().unwrap();
        assert_eq!((nodes[0], count), (made.fill, 1));
        let (mut from, mut to) = ([null_mut(); 3], [null_mut(); 3]);
        count = 3;
        sys::cuGraphGetEdges_v2(made.graph, from.as_mut_ptr(), to.as_mut_ptr(), null_mut(), &mut count)
            .result()
            .unwrap();
        assert_eq!(from, [made.fill, made.scale, made.scale]);
        assert_eq!(to, [made.scale, made.call, made.download]);
        count = 2;
        sys::cuGraphNodeGetDependentNodes_v2(made.scale, nodes.as_mut_ptr(), null_mut(), &mut count).result().unwrap();
        assert_eq!((nodes[0], nodes[1], count), (made.call, made.download, 2));

        use sys::CUgraphNodeType as Type;
        let expected = [
            (made.fill, Type::CU_GRAPH_NODE_TYPE_MEMSET),
            (made.scale, Type::CU_GRAPH_NODE_TYPE_KERNEL),
            (made.call, Type::CU_GRAPH_NODE_TYPE_HOST),
            (made.download, Type::CU_GRAPH_NODE_TYPE_MEMCPY),
        ];
        for (node, is) in expected {
            let mut kind = Type::CU_GRAPH_NODE_TYPE_EMPTY;
            sys::cuGraphNodeGetType(node, &mut kind).result().unwrap();
            assert_eq!(kind, is);
        }
        let mut fill = std::mem::zeroed();
        sys::cuGraphMemsetNodeGetParams(made.fill, &mut fill).result().unwrap();
        assert_eq!(fill, fill_with(address, 1.0_f32.to_bits()));
        let mut scale: sys::CUDA_KERNEL_NODE_PARAMS = std::mem::zeroed();
        sys::cuGraphKernelNodeGetParams_v2(made.scale, &mut scale).result().unwrap();
        assert_eq!((scale.func, scale.blockDimX), (raw, 4));
        assert_eq!((*scale.kernelParams.add(2)).cast::<f32>().read(), 2.0);
        let mut copy = copy_to(null_mut(), 0);
        sys::cuGraphMemcpyNodeGetParams(made.download, &mut copy).result().unwrap();
        assert_eq!((copy.srcDevice, copy.WidthInBytes), (address, 16));

        // A clone has nodes of its own, a child graph too.
        let (mut clone, mut twin, mut parent, mut child) = (null_mut(), null_mut(), null_mut(), null_mut());
        sys::cuGraphClone(&mut clone, made.graph).result().unwrap();
        sys::cuGraphNodeFindInClone(&mut twin, made.scale, clone).result().unwrap();
        assert_ne!(twin, made.scale);
        sys::cuGraphCreate(&mut parent, 0).result().unwrap();
        sys::cuGraphAddChildGraphNode(&mut child, parent, null(), 0, clone).result().unwrap();
        result::graph::destroy(clone).unwrap();
        let mut inner = null_mut();
        sys::cuGraphChildGraphNodeGetGraph(child, &mut inner).result().unwrap();
        assert_eq!(code(result::graph::destroy(inner)), CUresult::CUDA_ERROR_INVALID_VALUE);
        let exec = result::graph::instantiate(parent, Flags(0)).unwrap();
        result::graph::launch(exec, stream.cu_stream()).unwrap();
        stream.synchronize().unwrap();
        assert_eq!(counter.load(Ordering::SeqCst), 1);

        // A circle cannot be run.
        sys::cuGraphAddDependencies_v2(made.graph, &made.download, &made.fill, null(), 1).result().unwrap();
        assert_eq!(code(result::graph::instantiate(made.graph, Flags(0))), CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuGraphRemoveDependencies_v2(made.graph, &made.download, &made.fill, null(), 1).result().unwrap();

        let path = std::env::temp_dir().join(format!("softcuda-graph-{}.dot", std::process::id()));
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        sys::cuGraphDebugDotPrint(made.graph, name.as_ptr(), 0).result().unwrap();
        let dot = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(dot.contains("KERNEL\\nscale") && dot.matches("->").count() == 3, "{dot}");
        result::graph::exec_destroy(exec).unwrap();
        result::graph::destroy(parent).unwrap();
        result::graph::destroy(made.graph).unwrap();
        result::free_sync(address).unwrap();
    }
    assert_eq!(host, [2.0; 4]);
}

#[test]
fn events_and_launches_are_captured_as_nodes() {
    let (_gpu, context, [stream, other]) = bench(0);
    let address = stream.alloc_zeros::<u8>(4).unwrap().leak();
    stream.synchronize().unwrap();
    let event = context.new_event(None).unwrap();
    stream.begin_capture(LOCAL).unwrap();
    unsafe { result::memset_d8_async(address, 6, 4, stream.cu_stream()) }.unwrap();
    let external = sys::CUevent_record_flags::CU_EVENT_RECORD_EXTERNAL as u32;
    unsafe { sys::cuEventRecordWithFlags(event.cu_event(), stream.cu_stream(), external) }.result().unwrap();
    let inner = end(&stream);
    // The launch of a graph in a capture is a node of the other one.
    stream.begin_capture(LOCAL).unwrap();
    inner.launch().unwrap();
    let outer = end(&stream);
    unsafe { result::memset_d8_async(address, 1, 4, stream.cu_stream()) }.unwrap();
    outer.launch().unwrap();
    other.wait(&event).unwrap();
    assert_eq!(bytes(&other, address, 4), [6; 4], "the event was recorded by the launch");
    context.synchronize().unwrap();
    unsafe { result::free_sync(address) }.unwrap();
}

#[test]
fn the_place_in_a_capture_can_be_asked_for_and_changed() {
    let (_gpu, _context, [stream, _]) = bench(0);
    let handle = stream.cu_stream();
    unsafe {
        stream.begin_capture(LOCAL).unwrap();
        result::stream::launch_host_function(handle, nothing, null_mut()).unwrap();
        let (mut status, mut id) = (sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE, 0);
        let (mut graph, mut nodes, mut count) = (null_mut(), null(), 0);
        sys::cuStreamGetCaptureInfo_v3(handle, &mut status, &mut id, &mut graph, &mut nodes, null_mut(), &mut count)
            .result()
            .unwrap();
        assert_eq!((status, count), (sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE, 1));
        let mut first = *nodes;
        let mut extra = null_mut();
        sys::cuGraphAddEmptyNode(&mut extra, graph, &first, 1).result().unwrap();
        sys::cuStreamUpdateCaptureDependencies_v2(handle, &mut extra, null(), 1, 1).result().unwrap();
        result::stream::launch_host_function(handle, nothing, null_mut()).unwrap();
        let made = end(&stream);
        assert_eq!(made.cu_graph(), graph);
        let (mut after, mut found) = ([null_mut(); 2], 2);
        sys::cuGraphNodeGetDependentNodes_v2(extra, after.as_mut_ptr(), null_mut(), &mut found).result().unwrap();
        assert_eq!(found, 1);
        found = 2;
        sys::cuGraphNodeGetDependencies_v2(extra, after.as_mut_ptr(), null_mut(), &mut found).result().unwrap();
        assert_eq!((found, after[0]), (1, first));
        first = null_mut();
        let invented = sys::cuGraphNodeGetType(first, &mut sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY);
        assert_eq!(invented, CUresult::CUDA_ERROR_INVALID_HANDLE);
        made.launch().unwrap();
        stream.synchronize().unwrap();
    }
}

#[test]
fn a_fault_in_a_graph_is_the_contexts() {
    let (gpu, context) = a100();
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, SCALE, "scale");
    stream.begin_capture(LOCAL).unwrap();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&16_u64).arg(&16_u64).arg(&1.0_f32).arg(&4_u32);
    unsafe { launch.launch(shape(1, 4)) }.unwrap();
    let graph = end(&stream);
    graph.launch().unwrap();
    assert_eq!(code(stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(gpu.report().unwrap().contains("scale"));
}

/// Else what their nodes hold would stay for as long as the process does.
#[test]
fn graphs_end_with_their_lease_and_children_with_their_node() {
    let (gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let (mut graph, mut inner, mut node, mut child) = (null_mut(), null_mut(), null_mut(), null_mut());
    let nodes_of = |graph| unsafe { sys::cuGraphGetNodes(graph, null_mut(), &mut 0) };
    unsafe {
        sys::cuGraphCreate(&mut graph, 0).result().unwrap();
        sys::cuGraphCreate(&mut inner, 0).result().unwrap();
        sys::cuGraphAddChildGraphNode(&mut node, graph, null_mut(), 0, inner).result().unwrap();
        sys::cuGraphChildGraphNodeGetGraph(node, &mut child).result().unwrap();
        assert_eq!(nodes_of(child), CUresult::CUDA_SUCCESS);
        sys::cuGraphDestroyNode(node).result().unwrap();
        assert_eq!(nodes_of(child), CUresult::CUDA_ERROR_INVALID_HANDLE);
        sys::cuGraphAddChildGraphNode(&mut node, graph, null_mut(), 0, inner).result().unwrap();
        sys::cuGraphChildGraphNodeGetGraph(node, &mut child).result().unwrap();
    }
    drop((context, gpu));
    assert_eq!([graph, inner, child].map(nodes_of), [CUresult::CUDA_ERROR_INVALID_HANDLE; 3]);
}

#[test]
fn executable_graphs_end_with_their_context() {
    let (_gpu, context) = a100();
    context.bind_to_thread().unwrap();
    let (mut other, mut graph, mut exec) = (null_mut(), null_mut(), null_mut());
    unsafe {
        sys::cuCtxCreate_v4(&mut other, null_mut(), 0, context.cu_device()).result().unwrap();
        sys::cuGraphCreate(&mut graph, 0).result().unwrap();
        sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0).result().unwrap();
        sys::cuGraphUpload(exec, null_mut()).result().unwrap();
        sys::cuCtxDestroy_v2(other).result().unwrap();
        context.bind_to_thread().unwrap();
        assert_eq!(sys::cuGraphUpload(exec, null_mut()), CUresult::CUDA_ERROR_INVALID_HANDLE);
        sys::cuGraphDestroy(graph).result().unwrap();
    }
}
