//! Streams.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;

use super::state::{Context, Stream, current, current_unchecked, end, live};
use super::status::Status;
use super::{Answer, driver, driver_api, put};

/// Priorities run from 0 down to this.
pub(super) const GREATEST_PRIORITY: c_int = -5;

/// `CU_STREAM_LEGACY` and `CU_STREAM_PER_THREAD`: handles with a meaning of their own.
const LEGACY: u64 = 1;
const PER_THREAD: u64 = 2;

/// The stream meant by a handle; the default streams belong to the current context.
pub(super) fn resolve(handle: *mut c_void) -> Answer<Arc<Stream>> {
    match handle as u64 {
        0 | LEGACY | PER_THREAD => {
            let context = current()?;
            Ok(Arc::new(Stream { handle: handle as u64, context, flags: 0, priority: 0 }))
        }
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
    driver.streams.insert(handle, Arc::new(Stream { handle, context, flags, priority }));
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, handle as *mut c_void) }
}

/// A function for the host to call in stream order.
type HostFunction = unsafe extern "C" fn(*mut c_void);
/// The older form, which is told the stream and its state.
type StreamCallback = unsafe extern "C" fn(*mut c_void, u32, *mut c_void);

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
        // Waits for work that another thread has submitted and that is still running.
        stream.submit(|_| ());
        stream.context.synchronise()
    }

    fn cuStreamQuery(stream: *mut c_void) {
        resolve(stream)?.context.synchronise()
    }

    fn cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, _flags: c_uint) {
        resolve(stream)?;
        // Whatever the event stands for has run: nothing to wait for. An event of another context
        // is allowed, one that was never recorded means no wait.
        live(&driver()?.events, event).map(|_| ())
    }

    fn cuStreamGetFlags(stream: *mut c_void, out: *mut c_uint) {
        put(out, resolve(stream)?.flags)
    }

    fn cuStreamGetPriority(stream: *mut c_void, out: *mut c_int) {
        put(out, resolve(stream)?.priority)
    }

    fn cuStreamGetId(stream: *mut c_void, out: *mut u64) {
        let stream = resolve(stream)?;
        // The default streams of two contexts are two streams.
        let id = if stream.handle <= PER_THREAD { stream.context.handle + stream.handle } else { stream.handle };
        put(out, id)
    }

    fn cuStreamGetCtx(stream: *mut c_void, out: *mut *mut c_void) {
        put(out, resolve(stream)?.context.handle as *mut c_void)
    }

    fn cuStreamGetDevice(stream: *mut c_void, out: *mut c_int) {
        put(out, resolve(stream)?.context.device.handle)
    }

    fn cuStreamIsCapturing(stream: *mut c_void, out: *mut c_uint) {
        resolve(stream)?;
        put(out, 0)
    }

    fn cuLaunchHostFunc(stream: *mut c_void, function: Option<HostFunction>, argument: *mut c_void) {
        resolve(stream)?;
        // Called without a lock held: it may wait for another thread that uses this device.
        (function.ok_or(Status::INVALID_VALUE)?)(argument);
        Ok(())
    }

    fn cuStreamAddCallback(stream: *mut c_void, callback: Option<StreamCallback>, argument: *mut c_void, _flags: c_uint) {
        resolve(stream)?;
        (callback.ok_or(Status::INVALID_VALUE)?)(stream, 0, argument);
        Ok(())
    }
}
