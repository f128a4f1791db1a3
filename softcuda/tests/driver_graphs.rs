//! Graphs captured from streams: what may be captured, launches, ends.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use cudarc::driver::sys::{self, CUgraphInstantiate_flags as Flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaStream, PushKernelArg, result};
use driver_support::{SCALE, a100, bench, code, kernel, shape};

const GLOBAL: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
const LOCAL: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const RELAXED: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;

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
