//! Streams.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::state::{Context, Stream, current, current_unchecked, end, live};
use super::status::Status;
use super::work::{HostCall, HostFunction, Work};
use super::{Answer, capture, driver, driver_api, put};

/// Priorities run from 0 down to this.
pub(super) const GREATEST_PRIORITY: c_int = -5;

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`: handles with a meaning of their own.
const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;

/// The stream meant by a handle; the default streams belong to the current context.
pub(super) fn resolve(handle: *mut c_void) -> Answer<Arc<Stream>> {
    match handle as u64 {
        0 | LEGACY => Ok(current()?.default_stream(None)),
        PER_THREAD => Ok(current()?.default_stream(Some(std::thread::current().id()))),
        _ => {
            // Without a current context the driver refuses before it looks at the stream.
            current_unchecked()?;
            let stream = live(&driver()?.streams, handle)?;
            stream.context.check()?;
            Ok(stream)
        }
    }
}

fn create(out: *mut *mut c_void, flags: c_uint, priority: c_int) -> Answer {
    let context: Arc<Context> = current()?;
    if flags > 1 || out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let driver = driver()?;
    let handle = driver.new_handle();
    // Out-of-range priorities are clamped, as documented.
    let priority = priority.clamp(GREATEST_PRIORITY, 0);
    driver.streams.insert(handle, Arc::new(Stream::new(handle, context, flags, priority)));
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, handle as *mut c_void) }
}

/// `CU_EVENT_WAIT_EXTERNAL`: in a capture it makes a node that waits for the event.
const WAIT_EXTERNAL: c_uint = 1;

/// Puts a host function into a stream.
fn call_host(stream: &Stream, function: HostFunction, argument: *mut c_void) -> Answer {
    stream.submit(Work::Host(HostCall { function, argument })).map(|_| ())
}

driver_api! {
    fn cuStreamCreate(out: *mut *mut c_void, flags: c_uint) {
        create(out, flags, 0)
    }

    fn cuStreamCreateWithPriority(out: *mut *mut c_void, flags: c_uint, priority: c_int) {
        create(out, flags, priority)
    }

    fn cuStreamDestroy_v2(stream: *mut c_void) {
        current_unchecked()?;
        let stream = end(&driver()?.streams, stream)?;
        // Destroyed either way; the fault is reported as every call does.
        stream.context.check()
    }

    fn cuStreamSynchronize(stream: *mut c_void) {
        let stream = resolve(stream)?;
        capture::refuse_waiting(&stream)?;
        stream.drain();
        stream.context.verdict()
    }

    fn cuStreamQuery(stream: *mut c_void) {
        let stream = resolve(stream)?;
        capture::refuse_waiting(&stream)?;
        let ready = stream.poll();
        stream.context.verdict()?;
        if ready { Ok(()) } else { Err(Status::NOT_READY) }
    }

    fn cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, flags: c_uint) {
        let stream = resolve(stream)?;
        // An event of another context is allowed, one that was never recorded means no wait.
        let event = live(&driver()?.events, event)?;
        if flags & WAIT_EXTERNAL != 0 && stream.is_capturing() {
            return capture::add_node(&stream, Work::Wait(event));
        }
        stream.submit(Work::Wait(event)).map(|_| ())
    }

    fn cuStreamGetFlags(stream: *mut c_void, out: *mut c_uint) {
        put(out, resolve(stream)?.flags)
    }

    fn cuStreamGetPriority(stream: *mut c_void, out: *mut c_int) {
        put(out, resolve(stream)?.priority)
    }

    fn cuStreamGetId(stream: *mut c_void, out: *mut u64) {
        put(out, resolve(stream)?.id)
    }

    fn cuStreamGetCtx(stream: *mut c_void, out: *mut *mut c_void) {
        put(out, resolve(stream)?.context.handle as *mut c_void)
    }

    fn cuStreamGetDevice(stream: *mut c_void, out: *mut c_int) {
        put(out, resolve(stream)?.context.device.handle)
    }

    fn cuLaunchHostFunc(stream: *mut c_void, function: Option<unsafe extern "C" fn(*mut c_void)>, argument: *mut c_void) {
        let stream = resolve(stream)?;
        call_host(&stream, HostFunction::Plain(function.ok_or(Status::INVALID_VALUE)?), argument)
    }

    fn cuStreamAddCallback(
        stream: *mut c_void,
        callback: Option<unsafe extern "C" fn(*mut c_void, u32, *mut c_void)>,
        argument: *mut c_void,
        _flags: c_uint,
    ) {
        let handle = stream as u64;
        let stream = resolve(stream)?;
        // As documented, this one cannot be captured.
        capture::refuse_waiting(&stream)?;
        call_host(&stream, HostFunction::Callback(callback.ok_or(Status::INVALID_VALUE)?, handle), argument)
    }
}
