//! Streams and events through cudarc, and the functions that do not exist yet.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::sys::{self, CUevent_flags, CUresult};
use cudarc::driver::{result, safe};
use driver_support::{a100, code};

#[test]
fn work_crosses_streams_by_events() {
    let (_gpu, context) = a100();
    let one = context.new_stream().unwrap();
    let two = one.fork().unwrap();
    let slice = one.clone_htod(&[1_u32, 2, 3]).unwrap();
    two.join(&one).unwrap();
    let copy = two.clone_dtod(&slice).unwrap();
    assert_eq!(two.clone_dtoh(&copy).unwrap(), [1, 2, 3]);
    let per_thread = context.per_thread_stream();
    assert_eq!(per_thread.clone_dtoh(&copy).unwrap(), [1, 2, 3]);
    one.synchronize().unwrap();
    context.synchronize().unwrap();
}

#[test]
fn events_measure_time_if_they_were_made_to() {
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let timed = Some(CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(timed).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    let end = stream.record_event(timed).unwrap();
    assert!(start.elapsed_ms(&end).unwrap() >= 5.0);
    assert!(end.elapsed_ms(&start).unwrap() <= -5.0);
    assert_eq!(start.elapsed_ms(&start).unwrap(), 0.0);
    assert!(end.is_complete() && start.try_is_complete().unwrap());
    end.synchronize().unwrap();

    let untimed = stream.record_event(None).unwrap();
    assert_eq!(code(start.elapsed_ms(&untimed)), CUresult::CUDA_ERROR_INVALID_HANDLE);
    let unrecorded = context.new_event(timed).unwrap();
    assert_eq!(code(start.elapsed_ms(&unrecorded)), CUresult::CUDA_ERROR_INVALID_HANDLE);
    assert!(unrecorded.is_complete(), "nothing to wait for");
}

#[test]
fn an_event_is_recorded_in_its_own_context_only() {
    let (_one, first) = a100();
    let (_two, second) = a100();
    let event = first.new_event(None).unwrap();
    let stream = second.new_stream().unwrap();
    let refused = unsafe { result::event::record(event.cu_event(), stream.cu_stream()) };
    assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_HANDLE);
    // Waiting for an event of another context is allowed.
    stream.wait(&event).unwrap();
}

#[test]
fn streams_have_priorities_and_flags() {
    let (_gpu, context) = a100();
    let (least, greatest) = result::stream::get_priority_range().unwrap();
    assert!(greatest < least);
    let stream = context.new_stream_with_priority(greatest - 1).unwrap();
    let (mut priority, mut flags) = (0, 0);
    unsafe {
        sys::cuStreamGetPriority(stream.cu_stream(), &mut priority).result().unwrap();
        sys::cuStreamGetFlags(stream.cu_stream(), &mut flags).result().unwrap();
    }
    assert_eq!((priority, flags), (greatest, 1));
}

#[test]
fn invented_and_destroyed_handles_are_refused() {
    let (_gpu, context) = a100();
    let invented = 0xDEAD_BEE0_usize as *mut _;
    unsafe {
        assert_eq!(code(result::stream::synchronize(invented)), CUresult::CUDA_ERROR_INVALID_HANDLE);
        let stream = result::stream::create(result::stream::StreamKind::Default).unwrap();
        let event = result::event::create(CUevent_flags::CU_EVENT_DEFAULT).unwrap();
        // A handle of one kind is none of another.
        assert_eq!(code(result::event::synchronize(stream.cast())), CUresult::CUDA_ERROR_INVALID_HANDLE);
        result::stream::destroy(stream).unwrap();
        result::event::destroy(event).unwrap();
        assert_eq!(code(result::stream::destroy(stream)), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(code(result::event::query(event)), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
    let refused = unsafe { result::ctx::set_current(invented.cast()) };
    assert_eq!(code(refused), CUresult::CUDA_ERROR_INVALID_CONTEXT);
    context.synchronize().unwrap();
}

#[test]
fn host_functions_run_in_stream_order() {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn count(amount: *mut std::ffi::c_void) {
        CALLS.fetch_add(amount as usize as u32, Ordering::SeqCst);
    }
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let amount = std::ptr::without_provenance_mut(3);
    unsafe { result::stream::launch_host_function(stream.cu_stream(), count, amount) }.unwrap();
    stream.synchronize().unwrap();
    assert_eq!(CALLS.load(Ordering::SeqCst), 3);
}

#[test]
fn what_is_not_supported_says_so_by_name() {
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let none = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    assert_eq!(stream.capture_status().unwrap(), none);
    let written = unsafe { sys::cuStreamWriteValue32_v2(stream.cu_stream(), 0, 0, 0) };
    assert_eq!(written, CUresult::CUDA_ERROR_NOT_SUPPORTED);
    assert_eq!(gpu.report().unwrap(), "CUDA_ERROR_NOT_SUPPORTED: cuStreamWriteValue32_v2");
    let _profile = safe::Profiler::new().unwrap();
}

#[test]
fn contexts_can_be_made_pushed_and_destroyed() {
    let (gpu, primary) = a100();
    let mut own = std::ptr::null_mut();
    unsafe { sys::cuCtxCreate_v4(&mut own, std::ptr::null_mut(), 0, primary.cu_device()) }.result().unwrap();
    assert_eq!(result::ctx::get_current().unwrap(), Some(own), "a new context is current");
    let address = unsafe { result::malloc_sync(64) }.unwrap();
    assert_eq!(gpu.live_allocations(), Some((1, 64)));
    unsafe {
        sys::cuCtxPushCurrent_v2(primary.cu_ctx()).result().unwrap();
        assert_eq!(result::ctx::get_current().unwrap(), Some(primary.cu_ctx()));
        let mut popped = std::ptr::null_mut();
        sys::cuCtxPopCurrent_v2(&mut popped).result().unwrap();
        assert_eq!(popped, primary.cu_ctx());
        sys::cuCtxDestroy_v2(own).result().unwrap();
    }
    // Its memory went with it, and its handle means nothing any more.
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
    assert_eq!(code(unsafe { result::ctx::set_current(own) }), CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED);
    primary.bind_to_thread().unwrap();
    assert_eq!(code(unsafe { result::free_sync(address) }), CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
fn limits_and_cache_preferences_are_kept() {
    let (_gpu, context) = a100();
    let stack = sys::CUlimit::CU_LIMIT_STACK_SIZE;
    assert_eq!(context.get_limit(stack).unwrap(), 1024);
    context.set_limit(stack, 4096).unwrap();
    assert_eq!(context.get_limit(stack).unwrap(), 4096);
    let prefer = sys::CUfunc_cache::CU_FUNC_CACHE_PREFER_SHARED;
    context.set_cache_config(prefer).unwrap();
    assert_eq!(context.get_cache_config().unwrap(), prefer);
    context.set_blocking_synchronize().unwrap();
}
