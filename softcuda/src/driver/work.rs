//! What streams and graphs are made of: the operations, how they get into a stream, and how they run.

use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Arc;

use super::copy::Transfer;
use super::launch::Kernel;
use super::memory::Fill;
use super::pinned::{HostUse, Watch};
use super::queue::{Mark, Task};
use super::state::{Context, Device, Event, Recorded, Stream, lock};
use super::status::Status;
use super::{Answer, capture};
use crate::fault::{Fault, FaultKind};

/// One operation of a stream, or of a graph's node.
#[derive(Clone)]
pub(crate) enum Work {
    Nothing,
    Kernel(Kernel),
    Copy(Transfer),
    Fill(Fill),
    Host(HostCall),
    Record(Arc<Event>),
    Wait(Arc<Event>),
    /// Lets an address exist that was given out already.
    Allocate(Block),
    Free(Block),
}

/// An allocation of a device.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) device: Arc<Device>,
    pub(crate) address: u64,
    /// 0 where the size does not matter.
    pub(crate) bytes: u64,
}

/// What an operation holds on to from its submission until it has run.
pub(crate) enum Guard {
    /// Host memory that others may find changed, or must leave as it is.
    Uses(#[allow(dead_code, reason = "held until it is dropped")] Vec<HostUse>),
    /// Pinned memory of a copy.
    Watched(Watch),
}

/// A function of the host.
#[derive(Clone, Copy)]
pub(crate) struct HostCall {
    pub(crate) function: HostFunction,
    pub(crate) argument: *mut c_void,
}

/// The two forms of host functions; the older one is told the stream and its state.
#[derive(Clone, Copy)]
pub(crate) enum HostFunction {
    Plain(unsafe extern "C" fn(*mut c_void)),
    Callback(unsafe extern "C" fn(*mut c_void, u32, *mut c_void), u64),
}

// SAFETY: the argument is the caller's, who says by passing it that it may be used on another
// thread; it is not dereferenced here.
unsafe impl Send for HostCall {}
// SAFETY: as above.
unsafe impl Sync for HostCall {}

thread_local! {
    /// The device whose host function runs on this thread.
    static IN_HOST_FUNCTION: Cell<Option<i32>> = const { Cell::new(None) };
}

/// The handle of the device whose host function runs on this thread: it must not call the driver.
pub(super) fn host_function_of() -> Option<i32> {
    IN_HOST_FUNCTION.try_with(Cell::get).ok().flatten()
}

impl HostCall {
    /// Calls the function. After a fault, as documented, only the older form is called and told.
    pub(super) fn run(self, context: &Context) {
        let fault = context.fault_code();
        IN_HOST_FUNCTION.set(Some(context.device.handle));
        // SAFETY: whoever submitted the function vouches for it and its argument.
        unsafe {
            match self.function {
                HostFunction::Plain(function) if fault == 0 => function(self.argument),
                HostFunction::Plain(_) => {}
                HostFunction::Callback(function, stream) => function(stream as *mut c_void, fault, self.argument),
            }
        }
        IN_HOST_FUNCTION.set(None);
    }
}

impl Work {
    pub(super) fn is_of_host(&self) -> bool {
        matches!(self, Work::Host(_))
    }

    /// Bytes of the host's memory that it has a copy of.
    pub(super) fn staged_bytes(&self) -> usize {
        if let Work::Copy(transfer) = self { transfer.staged_bytes() } else { 0 }
    }

    /// Does it. The device is this thread's alone.
    pub(super) fn run(&self, context: &Context, guard: Option<&Guard>) {
        let done = match self {
            // Marks and dependencies are the queue's; host functions never get here.
            Work::Nothing | Work::Host(_) | Work::Record(_) | Work::Wait(_) => Ok(()),
            Work::Kernel(kernel) => kernel.run(context),
            Work::Copy(transfer) => {
                if let Some(Guard::Watched(watch)) = guard {
                    watch.verify(context);
                }
                transfer.run()
            }
            Work::Fill(fill) => fill.run(),
            Work::Allocate(block) => block.exist(),
            Work::Free(block) => block.free(),
        };
        if let Err(fault) = done {
            context.fault(&fault);
        }
    }

    /// Makes a task of it. What happens to the host's memory between now and its execution is
    /// watched, and an event stands for this record from now on.
    pub(crate) fn into_task(self, stream: &Stream) -> Task {
        let device = &stream.context.device;
        let opaque = || Some(Guard::Uses(vec![HostUse::opaque(device.handle)]));
        let mut task = Task::new(Work::Nothing);
        match &self {
            Work::Record(event) => {
                let mark = Mark::new(stream);
                *lock(&event.recorded) = Recorded::In(mark.clone());
                task.mark = Some(mark);
            }
            Work::Wait(event) => {
                task.after = event.mark().filter(|mark| mark.time().is_none());
                // Host functions of other devices come before what follows.
                task.guard = task.after.as_ref().filter(|mark| mark.is_foreign_to(device)).and_then(|_| opaque());
            }
            Work::Host(_) => task.guard = opaque(),
            Work::Kernel(kernel) => task.guard = kernel.pinned_uses().map(Guard::Uses),
            Work::Copy(transfer) => task.guard = transfer.watch(device.handle).map(Guard::Watched),
            _ => {}
        }
        task.work = Some(self);
        task
    }
}

impl Block {
    /// Lets it exist; again, if a graph that allocates and frees it is launched again.
    fn exist(&self) -> Result<(), Fault> {
        let memory = &self.device.memory;
        if memory.range_of(self.address).is_none() {
            let again = memory.reserve_again(self.address, self.bytes);
            again.map_err(|error| Fault::of_host(FaultKind::BadLaunch, self.address, error.to_string()))?;
        }
        memory.activate(self.address);
        Ok(())
    }

    fn free(&self) -> Result<(), Fault> {
        let address = self.address;
        if self.device.memory.is_reserved(address) {
            let detail = format!("{address:#x} is freed, and its allocation comes later in stream order");
            return Err(Fault::of_host(FaultKind::UseBeforeAllocation, address, detail));
        }
        let freed = self.device.memory.free(address);
        freed.map_err(|error| Fault::of_host(FaultKind::UseAfterFree, address, error.to_string()))
    }
}

impl Stream {
    /// Puts work into the stream, or into the graph that captures it. The number of the item, if
    /// there is one to wait for.
    pub(crate) fn submit(&self, work: Work) -> Answer<Option<u64>> {
        if capture::capture(self, &work)? {
            return Ok(None);
        }
        match &work {
            // Nothing to wait for.
            Work::Wait(event) if event.mark().is_none_or(|mark| mark.time().is_some()) => Ok(None),
            _ => {
                // An event is reached at once in a stream with nothing to do.
                let at_once = matches!(work, Work::Record(_)) && self.is_idle();
                let task = work.into_task(self);
                match &task.mark {
                    Some(mark) if at_once => {
                        mark.reach();
                        Ok(None)
                    }
                    _ => Ok(Some(self.enqueue(vec![task]))),
                }
            }
        }
    }

    /// Waits for what [`Stream::submit`] answered, and says how it went.
    pub(crate) fn finish(&self, number: Option<u64>) -> Answer {
        let Some(number) = number else { return Ok(()) };
        self.wait_for(number);
        self.context.verdict()
    }
}

impl Event {
    /// The point that it stands for, if it was recorded outside a capture.
    pub(crate) fn mark(&self) -> Option<Arc<Mark>> {
        match &*lock(&self.recorded) {
            Recorded::In(mark) => Some(mark.clone()),
            Recorded::Never | Recorded::Captured(_) => None,
        }
    }

    /// The same for calls that ask about it, which they must not while it belongs to a capture.
    pub(crate) fn asked(&self) -> Answer<Option<Arc<Mark>>> {
        match &*lock(&self.recorded) {
            Recorded::Never => Ok(None),
            Recorded::In(mark) => Ok(Some(mark.clone())),
            Recorded::Captured(point) => {
                point.capture.invalidate();
                Err(Status::CAPTURED_EVENT)
            }
        }
    }
}
