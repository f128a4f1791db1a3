//! Events.

use std::ffi::{c_uint, c_void};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::state::{Event, current, current_unchecked, end, live, lock};
use super::status::Status;
use super::stream::resolve;
use super::{Answer, driver, driver_api, put};

const BLOCKING_SYNC: c_uint = 1;
const DISABLE_TIMING: c_uint = 2;
const INTERPROCESS: c_uint = 4;

fn record(event: *mut c_void, stream: *mut c_void) -> Answer {
    let stream = resolve(stream)?;
    let event = live(&driver()?.events, event)?;
    if event.context.handle != stream.context.handle {
        return Err(Status::INVALID_HANDLE);
    }
    stream.submit(|_| *lock(&event.reached) = Some(Instant::now()));
    Ok(())
}

/// Both synchronising and querying: what was recorded has been reached, and an event that was
/// never recorded counts as reached.
fn reached(event: *mut c_void) -> Answer {
    live(&driver()?.events, event)?.context.synchronise()
}

fn elapsed(out: *mut f32, start: *mut c_void, end: *mut c_void) -> Answer {
    current()?;
    let events = &driver()?.events;
    let (start, end) = (live(events, start)?, live(events, end)?);
    let timed = |event: &Event| event.flags & DISABLE_TIMING == 0;
    if start.context.handle != end.context.handle || !timed(&start) || !timed(&end) {
        return Err(Status::INVALID_HANDLE);
    }
    // One lock at a time: both may be the same event.
    let from = *lock(&start.reached);
    let to = *lock(&end.reached);
    let (from, to) = from.zip(to).ok_or(Status::INVALID_HANDLE)?;
    // Host time, and negative if the events were recorded in the other order.
    let milliseconds = match to.checked_duration_since(from) {
        Some(forward) => forward.as_secs_f32() * 1e3,
        None => -from.duration_since(to).as_secs_f32() * 1e3,
    };
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, milliseconds) }
}

driver_api! {
    fn cuEventCreate(out: *mut *mut c_void, flags: c_uint) {
        let context = current()?;
        if flags & !(BLOCKING_SYNC | DISABLE_TIMING | INTERPROCESS) != 0 || out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        if flags & INTERPROCESS != 0 {
            return Err(context.device.refuse(Status::NOT_SUPPORTED, "cuEventCreate: interprocess events"));
        }
        let driver = driver()?;
        let handle = driver.new_handle();
        driver.events.insert(handle, Arc::new(Event { context, flags, reached: Mutex::new(None) }));
        put(out, handle as *mut c_void)
    }

    fn cuEventDestroy_v2(event: *mut c_void) {
        current_unchecked()?;
        let event = end(&driver()?.events, event)?;
        event.context.check()
    }

    fn cuEventRecord(event: *mut c_void, stream: *mut c_void) {
        record(event, stream)
    }

    fn cuEventRecordWithFlags(event: *mut c_void, stream: *mut c_void, _flags: c_uint) {
        record(event, stream)
    }

    fn cuEventQuery(event: *mut c_void) {
        reached(event)
    }

    fn cuEventSynchronize(event: *mut c_void) {
        reached(event)
    }

    fn cuEventElapsedTime(out: *mut f32, start: *mut c_void, end: *mut c_void) {
        elapsed(out, start, end)
    }

    fn cuEventElapsedTime_v2(out: *mut f32, start: *mut c_void, end: *mut c_void) {
        elapsed(out, start, end)
    }
}
