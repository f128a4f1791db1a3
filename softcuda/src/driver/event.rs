//! Events.

use std::ffi::{c_uint, c_void};
use std::sync::{Arc, Mutex};

use super::state::{Event, Recorded, current, current_unchecked, end, live};
use super::status::Status;
use super::stream::resolve;
use super::work::Work;
use super::{Answer, capture, driver, driver_api, put};

const BLOCKING_SYNC: c_uint = 1;
const DISABLE_TIMING: c_uint = 2;
const INTERPROCESS: c_uint = 4;

/// `CU_EVENT_RECORD_EXTERNAL`: in a capture it makes a node that records the event.
const RECORD_EXTERNAL: c_uint = 1;

fn record(event: *mut c_void, stream: *mut c_void, flags: c_uint) -> Answer {
    let stream = resolve(stream)?;
    let event = live(&driver()?.events, event)?;
    if event.context.handle != stream.context.handle {
        return Err(Status::INVALID_HANDLE);
    }
    if flags & RECORD_EXTERNAL != 0 && stream.is_capturing() {
        return capture::add_node(&stream, Work::Record(event));
    }
    stream.submit(Work::Record(event)).map(|_| ())
}

fn elapsed(out: *mut f32, start: *mut c_void, end: *mut c_void) -> Answer {
    current()?;
    let events = &driver()?.events;
    let (start, end) = (live(events, start)?, live(events, end)?);
    let timed = |event: &Event| event.flags & DISABLE_TIMING == 0;
    if start.context.handle != end.context.handle || !timed(&start) || !timed(&end) {
        return Err(Status::INVALID_HANDLE);
    }
    let recorded = start.asked()?.zip(end.asked()?).ok_or(Status::INVALID_HANDLE)?;
    let (from, to) = recorded.0.time().zip(recorded.1.time()).ok_or(Status::NOT_READY)?;
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
        driver.events.insert(handle, Arc::new(Event { handle, context, flags, recorded: Mutex::new(Recorded::Never) }));
        put(out, handle as *mut c_void)
    }

    fn cuEventDestroy_v2(event: *mut c_void) {
        current_unchecked()?;
        let event = end(&driver()?.events, event)?;
        event.context.check()
    }

    fn cuEventRecord(event: *mut c_void, stream: *mut c_void) {
        record(event, stream, 0)
    }

    fn cuEventRecordWithFlags(event: *mut c_void, stream: *mut c_void, flags: c_uint) {
        record(event, stream, flags)
    }

    fn cuEventQuery(event: *mut c_void) {
        let event = live(&driver()?.events, event)?;
        // An event that was never recorded counts as reached.
        let ready = event.asked()?.is_none_or(|mark| mark.poll());
        event.context.verdict()?;
        if ready { Ok(()) } else { Err(Status::NOT_READY) }
    }

    fn cuEventSynchronize(event: *mut c_void) {
        let event = live(&driver()?.events, event)?;
        if let Some(mark) = event.asked()? {
            mark.wait();
        }
        event.context.verdict()
    }

    fn cuEventElapsedTime(out: *mut f32, start: *mut c_void, end: *mut c_void) {
        elapsed(out, start, end)
    }

    fn cuEventElapsedTime_v2(out: *mut f32, start: *mut c_void, end: *mut c_void) {
        elapsed(out, start, end)
    }
}
