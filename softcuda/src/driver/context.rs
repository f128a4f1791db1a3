//! Contexts: made, current, their limits and flags.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use super::state::{DRIVER, Device, Stream, lock};
use super::status::Status;
use super::{Answer, capture, driver, driver_api, put, put_if_wanted};
use crate::fault::{Fault, FaultKind, MARGIN};

/// A context: primary, or made by `cuCtxCreate`.
pub(crate) struct Context {
    pub(crate) handle: u64,
    pub(crate) device: Arc<Device>,
    pub(crate) is_primary: bool,
    pub(crate) flags: AtomicU32,
    pub(crate) cache_config: AtomicU32,
    pub(crate) limits: Mutex<HashMap<u32, usize>>,
    /// Contexts of other devices whose memory kernels of this one may use, by handle.
    pub(crate) peers: Mutex<Vec<u64>>,
    /// Code of the fault that made this context unusable, 0 while there is none.
    pub(super) fault: AtomicU32,
    /// Some call has waited for the device since, and so noticed.
    noticed: AtomicBool,
    /// The host has touched memory that the device had in use, and no call has answered so yet.
    hazard: AtomicBool,
    /// The default streams: the legacy one, and that of each thread.
    default_streams: Mutex<HashMap<Option<ThreadId>, Arc<Stream>>>,
}

impl Context {
    /// Makes a context and enters it into the table.
    pub(crate) fn create(device: &Arc<Device>, is_primary: bool, flags: u32) -> Arc<Context> {
        let context = Arc::new(Context {
            handle: DRIVER.new_handle(),
            device: device.clone(),
            is_primary,
            flags: AtomicU32::new(flags),
            cache_config: AtomicU32::new(0),
            limits: Mutex::default(),
            peers: Mutex::default(),
            fault: AtomicU32::new(0),
            noticed: AtomicBool::new(false),
            hazard: AtomicBool::new(false),
            default_streams: Mutex::default(),
        });
        DRIVER.contexts.insert(context.handle, context.clone());
        context
    }

    /// Takes the context out of the table and frees what it owns, when its work has run.
    pub(crate) fn destroy(&self) {
        self.drain();
        DRIVER.contexts.take(self.handle);
        self.device.note_leaks(self);
        self.tear_down();
    }

    /// Frees what the context owns: modules, allocations, streams, events.
    pub(super) fn tear_down(&self) {
        self.forget_peers();
        DRIVER.libraries.for_each(|library| library.forget(self.handle));
        let mine = |context: &Arc<Context>| context.handle == self.handle;
        DRIVER.functions.remove_all(|function| mine(&function.module.context));
        for module in DRIVER.modules.remove_all(|module| mine(&module.context)) {
            module.unload();
        }
        DRIVER.execs.remove_all(|exec| mine(&exec.context));
        DRIVER.links.remove_all(|link| link.belongs_to(self.handle));
        DRIVER.streams.remove_all(|stream| mine(&stream.context));
        DRIVER.events.remove_all(|event| mine(&event.context));
        lock(&self.default_streams).clear();
        let owned: Vec<u64> = lock(&self.device.allocations)
            .iter()
            .filter(|(_, allocation)| allocation.context == self.handle)
            .map(|(address, _)| *address)
            .collect();
        let _work = self.device.work();
        for address in owned {
            // It was in the table, so it can be freed; and nobody is left to hear otherwise.
            let _ = self.device.deallocate(address);
        }
    }

    /// The sticky error, if a kernel of this context has faulted and a call has noticed. Calls that
    /// only enqueue work go on until then, as they nearly always do on hardware.
    pub(crate) fn check(&self) -> Answer {
        if self.noticed.load(Ordering::Acquire) { self.verdict() } else { Ok(()) }
    }

    /// Waits for all work of the context.
    pub(crate) fn synchronise(&self) -> Answer {
        self.drain();
        self.verdict()
    }

    /// The code of the fault, 0 while there is none.
    pub(crate) fn fault_code(&self) -> u32 {
        self.fault.load(Ordering::Acquire)
    }

    /// For calls that have waited for the device, or could have: they notice a fault.
    pub(crate) fn verdict(&self) -> Answer {
        match self.fault_code() {
            0 if self.hazard.swap(false, Ordering::AcqRel) => Err(Status::ILLEGAL_STATE),
            0 => Ok(()),
            code => {
                self.noticed.store(true, Ordering::Release);
                Err(Status(code))
            }
        }
    }

    /// The host has done what hardware would not notice. The next call that waits answers
    /// `CUDA_ERROR_ILLEGAL_STATE`, once.
    pub(crate) fn hazard(&self, text: String) {
        let mut notes = self.device.notes();
        if !notes.unread_fault {
            notes.report = Some(text);
            notes.unread_fault = true;
        }
        self.hazard.store(true, Ordering::Release);
    }

    /// This driver itself failed while it ran the context's work.
    pub(crate) fn break_down(&self, why: &str) {
        self.device.note(format!("softcuda failed inside: {why}"));
        self.fault.store(Status::UNKNOWN.0, Ordering::Release);
    }

    /// A default stream: the legacy one, or that of a thread.
    pub(crate) fn default_stream(self: &Arc<Context>, thread: Option<ThreadId>) -> Arc<Stream> {
        let make = || {
            // Its handle is the same in all contexts, `CU_STREAM_LEGACY` or `CU_STREAM_PER_THREAD`.
            let handle = if thread.is_some() { 2 } else { 1 };
            Arc::new(Stream::new(handle, self.clone(), 0, 0))
        };
        lock(&self.default_streams).entry(thread).or_insert_with(make).clone()
    }

    /// A kernel faulted: no more work of this context runs, and once a call has noticed it answers
    /// nothing but that error.
    pub(crate) fn fault(&self, fault: &Fault) {
        let status = status_of(fault.kind);
        let config = &self.device.config;
        let memory = self.device.allocation_at(fault.address).or_else(|| {
            let owner = DRIVER.owner_of(fault.address, &self.device)?;
            let ordinal = owner.ordinal;
            owner.allocation_at(fault.address).map(|text| format!("{text}, of device {ordinal}, which is no peer"))
        });
        let memory = memory.map_or(String::new(), |text| format!("\n{MARGIN}     memory: {text}"));
        let text = format!(
            "{fault}{memory}\n{MARGIN}     {} on virtual device {}, compute capability {}.{}",
            status.name(),
            self.device.ordinal,
            config.capability_major,
            config.capability_minor
        );
        let mut notes = self.device.notes();
        notes.report = Some(text);
        notes.unread_fault = true;
        drop(notes);
        self.fault.store(status.0, Ordering::Release);
    }
}

/// The code that hardware answers to such an error, or the closest one for what it cannot detect.
fn status_of(kind: FaultKind) -> Status {
    match kind {
        FaultKind::OutOfBounds
        | FaultKind::UseAfterFree
        | FaultKind::UseBeforeAllocation
        | FaultKind::WriteToReadOnly => Status::ILLEGAL_ADDRESS,
        FaultKind::Misaligned => Status::MISALIGNED_ADDRESS,
        FaultKind::Deadlock => Status::LAUNCH_TIMEOUT,
        FaultKind::Assertion => Status::ASSERT,
        FaultKind::InvalidCall => Status::INVALID_PC,
        FaultKind::Unsupported => Status::NOT_SUPPORTED,
        _ => Status::LAUNCH_FAILED,
    }
}

thread_local! {
    /// The thread's stack of current contexts, by handle: a lease must be able to end although
    /// some idle thread still has its context current.
    static CURRENT: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// The stack of current contexts. It is gone while the thread is being torn down.
pub(crate) fn with_stack<T>(body: impl FnOnce(&mut Vec<u64>) -> T) -> Answer<T> {
    CURRENT.try_with(|stack| body(&mut stack.borrow_mut())).map_err(|_| Status::DEINITIALIZED)
}

/// The current context, faulted or not.
pub(crate) fn current_unchecked() -> Answer<Arc<Context>> {
    let driver = driver()?;
    match with_stack(|stack| stack.last().copied())? {
        None | Some(0) => Err(Status::INVALID_CONTEXT),
        Some(handle) => driver.context(handle as *mut c_void),
    }
}

/// The current context, if it has not noticed a fault.
pub(crate) fn current() -> Answer<Arc<Context>> {
    let context = current_unchecked()?;
    context.check()?;
    Ok(context)
}

/// The device of the current context, for reports.
pub(crate) fn current_device() -> Option<Arc<Device>> {
    current_unchecked().ok().map(|context| context.device.clone())
}

/// What `cuCtxGetApiVersion` has answered since CUDA 3.2.
const API_VERSION: c_uint = 3020;

/// Limits of a fresh context, by `CUlimit`, as drivers report them.
const LIMITS: [(u32, usize); 7] = [(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 64), (6, 0)];

fn create(out: *mut *mut c_void, flags: c_uint, device: c_int) -> Answer {
    let device = driver()?.device(device)?;
    if out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let context = Context::create(&device, false, flags);
    // As documented, a new context becomes current on the thread that made it.
    with_stack(|stack| stack.push(context.handle))?;
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, context.handle as *mut c_void) }
}

/// The context meant by a handle, where null stands for the current one.
fn named_or_current(handle: *mut c_void) -> Answer<Arc<Context>> {
    if handle.is_null() { current_unchecked() } else { driver()?.context(handle) }
}

driver_api! {
    fn cuCtxCreate_v2(out: *mut *mut c_void, flags: c_uint, device: c_int) {
        create(out, flags, device)
    }

    fn cuCtxCreate_v3(out: *mut *mut c_void, affinity: *mut c_void, count: c_int, flags: c_uint, device: c_int) {
        if !affinity.is_null() && count != 0 {
            return Err(Status::UNSUPPORTED_EXEC_AFFINITY);
        }
        create(out, flags, device)
    }

    fn cuCtxCreate_v4(out: *mut *mut c_void, parameters: *mut c_void, flags: c_uint, device: c_int) {
        // Execution affinity and graphics interoperation, neither of which exists here.
        if !parameters.is_null() {
            return Err(Status::NOT_SUPPORTED);
        }
        create(out, flags, device)
    }

    fn cuCtxDestroy_v2(context: *mut c_void) {
        let context = driver()?.context(context)?;
        if context.is_primary {
            return Err(Status::INVALID_CONTEXT);
        }
        // Destroying the current context pops it; other threads keep a handle that is refused.
        with_stack(|stack| {
            if stack.last() == Some(&context.handle) {
                stack.pop();
            }
        })?;
        context.destroy();
        Ok(())
    }

    fn cuCtxGetCurrent(out: *mut *mut c_void) {
        driver()?;
        let top = with_stack(|stack| stack.last().copied())?.unwrap_or(0);
        put(out, top as *mut c_void)
    }

    fn cuCtxSetCurrent(context: *mut c_void) {
        if !context.is_null() {
            driver()?.context(context)?;
        }
        with_stack(|stack| {
            stack.pop();
            if !context.is_null() {
                stack.push(context as u64);
            }
        })
    }

    fn cuCtxPushCurrent_v2(context: *mut c_void) {
        let context = driver()?.context(context)?;
        with_stack(|stack| stack.push(context.handle))
    }

    fn cuCtxPopCurrent_v2(out: *mut *mut c_void) {
        driver()?;
        let top = with_stack(Vec::pop)?.ok_or(Status::INVALID_CONTEXT)?;
        put_if_wanted(out, top as *mut c_void);
        Ok(())
    }

    fn cuCtxGetDevice(out: *mut c_int) {
        put(out, current_unchecked()?.device.handle)
    }

    fn cuCtxGetDevice_v2(out: *mut c_int, context: *mut c_void) {
        put(out, named_or_current(context)?.device.handle)
    }

    fn cuCtxGetFlags(out: *mut c_uint) {
        put(out, current_unchecked()?.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: c_uint) {
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetId(context: *mut c_void, out: *mut u64) {
        put(out, named_or_current(context)?.handle)
    }

    fn cuCtxGetApiVersion(context: *mut c_void, out: *mut c_uint) {
        named_or_current(context)?;
        put(out, API_VERSION)
    }

    fn cuCtxSynchronize() {
        let context = current()?;
        capture::refuse_unsafe(&context)?;
        context.synchronise()
    }

    fn cuCtxSynchronize_v2(context: *mut c_void) {
        let context = named_or_current(context)?;
        capture::refuse_unsafe(&context)?;
        context.synchronise()
    }

    fn cuCtxGetLimit(out: *mut usize, limit: c_uint) {
        let context = current()?;
        let fresh = LIMITS.iter().find(|(number, _)| *number == limit);
        let &(_, fresh) = fresh.ok_or(Status::UNSUPPORTED_LIMIT)?;
        put(out, lock(&context.limits).get(&limit).copied().unwrap_or(fresh))
    }

    fn cuCtxSetLimit(limit: c_uint, value: usize) {
        let context = current()?;
        if !LIMITS.iter().any(|(number, _)| *number == limit) {
            return Err(Status::UNSUPPORTED_LIMIT);
        }
        lock(&context.limits).insert(limit, value);
        Ok(())
    }

    fn cuCtxGetCacheConfig(out: *mut c_uint) {
        put(out, current()?.cache_config.load(Ordering::Relaxed))
    }

    fn cuCtxSetCacheConfig(config: c_uint) {
        let context = current()?;
        if config > 3 {
            return Err(Status::INVALID_VALUE);
        }
        context.cache_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(out: *mut c_uint) {
        current()?;
        put(out, 1) // four-byte banks, the only width since capability 5.0
    }

    fn cuCtxSetSharedMemConfig(_config: c_uint) {
        current().map(|_| ())
    }

    fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        current()?;
        put_if_wanted(least, 0);
        put_if_wanted(greatest, super::stream::GREATEST_PRIORITY);
        Ok(())
    }

    fn cuCtxResetPersistingL2Cache() {
        current().map(|_| ())
    }

    fn cuProfilerStart() {
        current().map(|_| ())
    }

    fn cuProfilerStop() {
        current().map(|_| ())
    }
}
