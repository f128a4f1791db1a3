//! The objects behind the handles, and the tables that know which handles are alive.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::thread::ThreadId;

use super::calls::{Call, Calls, running};
use super::capture::Point;
use super::graph::{Exec, Graph, Node};
use super::history::{Death, Freed, History, Leaks, Object};
use super::library::{Kernel, Library};
use super::linker::Link;
use super::managed::Advice;
use super::pinned::Pages;
use super::queue::{Mark, Order};
use super::status::Status;
use super::{Answer, driver};
use crate::config::Config;
use crate::control::LaunchRecord;
use crate::counters::Counters;
use crate::exec::{self, EntryId, EntryInfo};
use crate::fault::{Fault, FaultKind, MARGIN};
use crate::memory::{BadFree, Memory};
use crate::records::Records;

/// Devices that can be leased at once.
const SLOTS: usize = 256;

/// A device handle is `generation << SHIFT | ordinal`.
const GENERATION_SHIFT: u32 = 8;

/// Everything this process has of the virtual driver.
pub(crate) static DRIVER: LazyLock<Driver> = LazyLock::new(Driver::default);

/// Locks; a panic elsewhere does not make the data behind it unusable here, since every update of
/// it is a single step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The live objects of one kind, by handle.
pub(crate) struct Table<T>(RwLock<HashMap<u64, Arc<T>>>);

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table(RwLock::default())
    }
}

impl<T> Table<T> {
    pub(crate) fn insert(&self, handle: u64, object: Arc<T>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(handle, object);
    }

    pub(crate) fn get(&self, handle: u64) -> Option<Arc<T>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&handle).cloned()
    }

    fn take(&self, handle: u64) -> Option<Arc<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&handle)
    }

    /// The handles of what `which` picks.
    fn handles(&self, which: impl Fn(&T) -> bool) -> Vec<u64> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.iter().filter(|(_, object)| which(object)).map(|(handle, _)| *handle).collect()
    }
}

impl<T> Table<T> {
    /// What `which` picks.
    pub(crate) fn pick(&self, which: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.values().filter(|object| which(object)).cloned().collect()
    }

    pub(crate) fn for_each(&self, body: impl Fn(&T)) {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().for_each(|object| body(object));
    }
}

impl<T: Object> Table<T> {
    pub(crate) fn remove(&self, handle: u64) -> Option<Arc<T>> {
        let object = self.take(handle)?;
        DRIVER.bury(handle, &*object);
        Some(object)
    }

    /// Removes what `which` picks and hands it out, so that it is dropped outside the lock.
    pub(crate) fn remove_all(&self, which: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        self.handles(which).into_iter().filter_map(|handle| self.remove(handle)).collect()
    }
}

/// The driver: leased devices and every live object.
pub(crate) struct Driver {
    initialised: AtomicBool,
    /// Leased devices by ordinal, and how many leases each ordinal has had.
    slots: RwLock<Vec<(u32, Option<Arc<Device>>)>>,
    /// Source of handles. They are never reused, so a stale handle cannot name a later object.
    next_handle: AtomicU64,
    pub(crate) contexts: Table<Context>,
    pub(crate) streams: Table<Stream>,
    pub(crate) events: Table<Event>,
    pub(crate) modules: Table<Module>,
    pub(crate) functions: Table<Function>,
    pub(crate) pools: Table<Pool>,
    pub(crate) libraries: Table<Library>,
    pub(crate) kernels: Table<Kernel>,
    pub(crate) links: Table<Link>,
    pub(crate) graphs: Table<Graph>,
    pub(crate) nodes: Table<Node>,
    pub(crate) execs: Table<Exec>,
    /// The ends of objects, by handle.
    pub(super) dead: History<Death>,
    /// Pinned host memory by address.
    pub(crate) pinned: Mutex<BTreeMap<usize, Pinned>>,
}

impl Default for Driver {
    fn default() -> Driver {
        Driver {
            initialised: AtomicBool::new(false),
            slots: RwLock::default(),
            // Above the values that the driver gives a meaning of their own (the legacy and the
            // per-thread stream), and never a plausible pointer.
            next_handle: AtomicU64::new(0x5C00_0000_0000_0010),
            contexts: Table::default(),
            streams: Table::default(),
            events: Table::default(),
            modules: Table::default(),
            functions: Table::default(),
            pools: Table::default(),
            libraries: Table::default(),
            kernels: Table::default(),
            links: Table::default(),
            graphs: Table::default(),
            nodes: Table::default(),
            execs: Table::default(),
            dead: History::default(),
            pinned: Mutex::default(),
        }
    }
}

impl Driver {
    pub(crate) fn initialise(&self) {
        self.initialised.store(true, Ordering::Release);
    }

    pub(crate) fn is_initialised(&self) -> bool {
        self.initialised.load(Ordering::Acquire)
    }

    /// A handle no object has had before.
    pub(crate) fn new_handle(&self) -> u64 {
        self.next_handle.fetch_add(0x10, Ordering::Relaxed)
    }

    /// Whether some object once had this handle.
    fn was_issued(&self, handle: u64) -> bool {
        (0x5C00_0000_0000_0010..self.next_handle.load(Ordering::Relaxed)).contains(&handle)
    }

    /// Leases the lowest free ordinal, or `None` if all are taken.
    pub(crate) fn lease(&self, config: Config) -> Option<Arc<Device>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let ordinal = match slots.iter().position(|(_, device)| device.is_none()) {
            Some(free) => free,
            None if slots.len() < SLOTS => {
                slots.push((0, None));
                slots.len() - 1
            }
            None => return None,
        };
        let (generation, device) = &mut slots[ordinal];
        // 23 bits: a handle stays positive, and never equals a plain ordinal.
        *generation = (*generation % 0x7F_FFFF) + 1;
        let handle = ((*generation << GENERATION_SHIFT) | ordinal as u32) as i32;
        Some(device.insert(Arc::new(Device::new(ordinal, handle, config))).clone())
    }

    /// Ends a lease: every context of the device is destroyed, and its ordinal is free again.
    pub(crate) fn release(&self, handle: i32) {
        let Ok(device) = self.device(handle) else { return };
        device.retire();
        {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            slots[device.ordinal].1 = None;
        }
        lock(&device.primary).context = None;
        for handle in self.contexts.handles(|context| Arc::ptr_eq(&context.device, &device)) {
            if let Some(context) = self.contexts.take(handle) {
                context.tear_down();
            }
        }
        Graph::end_all_of(device.handle);
        self.pools.remove_all(|pool| Arc::ptr_eq(&pool.device, &device));
    }

    /// The device behind a `CUdevice`. Plain ordinals are taken as well, since much host code
    /// believes that the two are the same; a handle from an earlier lease is not.
    pub(crate) fn device(&self, handle: i32) -> Answer<Arc<Device>> {
        let ordinal = usize::try_from(handle).map_err(|_| Status::INVALID_DEVICE)?;
        let device = self.device_at(ordinal & (SLOTS - 1)).ok_or(Status::INVALID_DEVICE)?;
        if handle == device.handle || ordinal == device.ordinal { Ok(device) } else { Err(Status::INVALID_DEVICE) }
    }

    /// The device leased at an ordinal.
    pub(crate) fn device_at(&self, ordinal: usize) -> Option<Arc<Device>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(ordinal).and_then(|(_, device)| device.clone())
    }

    /// One more than the highest leased ordinal.
    pub(crate) fn device_count(&self) -> usize {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.iter().rposition(|(_, device)| device.is_some()).map_or(0, |highest| highest + 1)
    }

    /// The device that owns a device address, looking at `first` before the others.
    pub(crate) fn owner_of(&self, address: u64, first: &Arc<Device>) -> Option<Arc<Device>> {
        if first.memory.range_of(address).is_some() {
            return Some(first.clone());
        }
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut devices = slots.iter().filter_map(|(_, device)| device.as_ref());
        devices.find(|device| device.memory.range_of(address).is_some()).cloned()
    }

    /// The device that an address which is nobody's once belonged to, to word a refusal.
    pub(crate) fn former_owner_of(&self, address: u64) -> Option<Arc<Device>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let devices = || slots.iter().filter_map(|(_, device)| device.as_ref());
        let freed = devices().find(|device| device.memory.has_freed(address));
        freed.or_else(|| devices().find(|device| device.memory.could_give(address))).cloned()
    }

    /// A live context.
    pub(crate) fn context(&self, handle: *mut c_void) -> Answer<Arc<Context>> {
        let handle = handle as u64;
        self.contexts
            .get(handle)
            .ok_or_else(|| if self.was_issued(handle) { Status::CONTEXT_IS_DESTROYED } else { Status::INVALID_CONTEXT })
    }
}

/// Answers for handles that are not in their table.
pub(crate) fn live<T: Object>(table: &Table<T>, handle: *mut c_void) -> Answer<Arc<T>> {
    table.get(handle as u64).ok_or_else(|| DRIVER.no_such(handle as u64, T::KIND))
}

/// Takes an object out of its table, to end it.
pub(crate) fn end<T: Object>(table: &Table<T>, handle: *mut c_void) -> Answer<Arc<T>> {
    table.remove(handle as u64).ok_or_else(|| DRIVER.no_such(handle as u64, T::KIND))
}

/// One leased device.
pub(crate) struct Device {
    pub(crate) ordinal: usize,
    /// Its `CUdevice`.
    pub(crate) handle: i32,
    pub(crate) config: Config,
    pub(crate) memory: Arc<Memory>,
    /// Nobody leased it, so nobody takes what its kernels print: that goes to standard output.
    pub(crate) standing: AtomicBool,
    pub(crate) primary: Mutex<Primary>,
    pub(crate) allocations: Mutex<BTreeMap<u64, Allocation>>,
    /// The pool that allocations take from unless they name one; 0 until somebody asks for it.
    pub(crate) pools: Mutex<DevicePools>,
    pub(crate) calls: Mutex<Calls>,
    pub(crate) leaks: Mutex<Leaks>,
    freed: History<Freed>,
    work: Mutex<()>,
    notes: Mutex<Notes>,
}

/// The primary context and how often it was retained.
#[derive(Default)]
pub(crate) struct Primary {
    pub(crate) context: Option<Arc<Context>>,
    pub(crate) retained: u32,
    pub(crate) flags: u32,
}

/// The pools a device has by itself.
#[derive(Default)]
pub(crate) struct DevicePools {
    pub(crate) default: u64,
    pub(crate) current: u64,
}

/// A block of device memory that the host holds.
#[derive(Clone, Copy)]
pub(crate) struct Allocation {
    pub(crate) bytes: u64,
    /// Handle of the context that owns it.
    pub(crate) context: u64,
    /// Handle of the pool that it came from, 0 for none.
    pub(crate) pool: u64,
    /// Unique in the process, for `CU_POINTER_ATTRIBUTE_BUFFER_ID`.
    pub(crate) id: u64,
    /// The call that made it.
    pub(crate) by: Option<Call>,
    /// Managed memory, which the host reaches as well.
    pub(crate) managed: Option<Advice>,
}

/// What a lease's holder can ask for.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) counters: Counters,
    pub(crate) records: Records,
    pub(crate) report: Option<String>,
    /// The report is of a kernel's fault, and nobody has asked for it yet.
    pub(crate) unread_fault: bool,
    pub(crate) last_launch: Option<LaunchRecord>,
}

impl Device {
    fn new(ordinal: usize, handle: i32, config: Config) -> Device {
        Device {
            ordinal,
            handle,
            config,
            memory: Arc::new(Memory::new(config.memory_bytes)),
            standing: AtomicBool::new(false),
            primary: Mutex::default(),
            allocations: Mutex::default(),
            pools: Mutex::default(),
            calls: Mutex::default(),
            leaks: Mutex::default(),
            freed: History::default(),
            work: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    /// Prints what kernels printed, on a device that nobody leased.
    pub(crate) fn flush_output(&self) {
        if self.standing.load(Ordering::Acquire)
            && let Ok(text) = self.memory.take_printed(usize::MAX)
        {
            // A closed standard output is no reason to fail.
            let _ = std::io::stdout().lock().write_all(&text);
        }
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        lock(&self.notes)
    }

    /// Keeps a text for the lease's holder.
    pub(crate) fn note(&self, text: String) {
        let mut notes = self.notes();
        // What fails because of a fault must not hide it from whoever prints the unread ones.
        if !notes.unread_fault {
            notes.report = Some(text);
        }
    }

    /// An error with its reason in the report.
    pub(crate) fn refuse(&self, status: Status, reason: impl std::fmt::Display) -> Status {
        self.note(format!("{}: {reason}", status.name()));
        status
    }

    /// Keeps others off the device while work runs on it.
    pub(crate) fn work(&self) -> MutexGuard<'_, ()> {
        lock(&self.work)
    }

    /// Allocates for a context. Addresses stay the same whichever function frees them.
    pub(crate) fn allocate(&self, bytes: u64, context: u64, pool: u64) -> Answer<u64> {
        let address = self.reserve(bytes)?;
        self.memory.activate(address);
        self.enter(address, bytes, context, pool, None);
        Ok(address)
    }

    /// Gives out an address for memory that exists later in stream order.
    pub(crate) fn reserve(&self, bytes: u64) -> Answer<u64> {
        let reserved = self.memory.reserve(bytes).or_else(|_| {
            // What is freed in stream order leaves room once it has run.
            self.settle();
            self.memory.reserve(bytes)
        });
        reserved.map_err(|error| self.refuse(Status::OUT_OF_MEMORY, error))
    }

    /// Notes that the host holds memory no more, and answers what it was; `None` if there is none.
    pub(crate) fn forget_allocation(&self, address: u64) -> Option<Allocation> {
        let known = lock(&self.allocations).remove(&address)?;
        self.freed.note(address, known);
        Some(known)
    }

    /// The same for managed memory.
    pub(crate) fn allocate_managed(&self, bytes: u64, context: u64) -> Answer<u64> {
        let address = self.memory.alloc_managed(bytes).map_err(|error| self.refuse(Status::OUT_OF_MEMORY, error))?;
        self.enter(address, bytes, context, 0, Some(Advice::default()));
        Ok(address)
    }

    /// Notes that the host holds memory.
    pub(crate) fn enter(&self, address: u64, bytes: u64, context: u64, pool: u64, managed: Option<Advice>) {
        let (id, by) = (DRIVER.new_handle(), running());
        lock(&self.allocations).insert(address, Allocation { bytes, context, pool, id, by, managed });
    }

    /// Frees what [`Device::allocate`] gave.
    pub(crate) fn deallocate(&self, address: u64) -> Answer {
        self.release_allocation(address)?;
        self.memory.free(address).map_err(|error| self.refuse(Status::INVALID_VALUE, error))
    }

    /// The host's side of freeing: the memory itself goes when the caller frees it.
    pub(crate) fn release_allocation(&self, address: u64) -> Answer {
        if self.forget_allocation(address).is_some() {
            return Ok(());
        }
        let which = self.allocation_at(address).map_or(String::new(), |text| format!("\n    {text}"));
        // A module's variables are not the host's to free, and pinned memory has its own functions.
        let reason = match self.memory.range_of(address) {
            Some((base, _)) if base != address => BadFree::NotTheBase { address, base }.to_string(),
            _ if self.freed.had(address) => BadFree::DoubleFree(address).to_string(),
            Some(_) => format!("{address:#x} is a module's, or pinned host memory"),
            None => BadFree::NotAllocated(address).to_string(),
        };
        Err(self.refuse(Status::INVALID_VALUE, format!("{reason}{which}")))
    }

    /// The allocation that an address lies in, or once lay in, for reports.
    pub(crate) fn allocation_at(&self, address: u64) -> Option<String> {
        let live = self.memory.range_of(address).and_then(|(base, _)| {
            let allocation = lock(&self.allocations).get(&base).copied();
            allocation.map(|allocation| allocation.text(base))
        });
        live.or_else(|| self.freed.text(address))
    }

    /// Notes what a context leaves allocated. What could not be freed any more is no leak: after a
    /// fault, and when the device is lost.
    fn note_leaks(&self, context: &Context) {
        if context.fault.load(Ordering::Acquire) != 0 || lock(&self.calls).is_lost() {
            return;
        }
        for (address, allocation) in lock(&self.allocations).iter() {
            if allocation.context == context.handle {
                lock(&self.leaks).add(allocation.id, allocation.text(*address));
            }
        }
        for (address, block) in lock(&DRIVER.pinned).iter() {
            // Memory that was only registered is the host's own.
            if block.context == context.handle && block.pages.is_some() {
                lock(&self.leaks).add(block.id, block.text(*address));
            }
        }
    }

    /// What this lease has leaked, counting what is still allocated as lost with it.
    pub(crate) fn leaks_at_end(&self) -> Option<String> {
        let contexts = DRIVER.contexts.handles(|context| std::ptr::eq(&*context.device, self));
        for context in contexts.into_iter().filter_map(|handle| DRIVER.contexts.get(handle)) {
            self.note_leaks(&context);
        }
        lock(&self.leaks).text(false)
    }

    /// The device no longer answers, ever. Its contexts run no more work.
    pub(crate) fn lose(&self) {
        lock(&self.calls).lose();
        let contexts = DRIVER.contexts.handles(|context| std::ptr::eq(&*context.device, self));
        for context in contexts.into_iter().filter_map(|handle| DRIVER.contexts.get(handle)) {
            context.fault.store(Status::UNKNOWN.0, Ordering::Release);
        }
        self.note(format!("{}: the device was lost", Status::UNKNOWN.name()));
    }

    /// Allocations and bytes that the host holds.
    pub(crate) fn live_allocations(&self) -> (u64, u64) {
        let allocations = lock(&self.allocations);
        (allocations.len() as u64, allocations.values().map(|allocation| allocation.bytes).sum())
    }
}

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
    fault: AtomicU32,
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
    fn tear_down(&self) {
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

/// A stream. The default streams have no entry in the table.
pub(crate) struct Stream {
    pub(crate) handle: u64,
    /// Unique also among default streams.
    pub(crate) id: u64,
    pub(crate) context: Arc<Context>,
    pub(crate) flags: u32,
    pub(crate) priority: i32,
    /// Where the capture is that it takes part in.
    pub(super) captured: Mutex<Option<Point>>,
}

impl Stream {
    pub(crate) fn new(handle: u64, context: Arc<Context>, flags: u32, priority: i32) -> Stream {
        // Handles above the default streams' are unique already.
        let id = if handle > 2 { handle } else { DRIVER.new_handle() };
        Stream { handle, id, context, flags, priority, captured: Mutex::default() }
    }

    /// How it is ordered with the other streams of its context.
    pub(crate) fn order(&self) -> Order {
        match (self.handle, self.flags) {
            (1, _) => Order::Legacy,
            (_, 0) => Order::Blocking,
            _ => Order::NonBlocking,
        }
    }
}

/// An event.
pub(crate) struct Event {
    pub(crate) handle: u64,
    pub(crate) context: Arc<Context>,
    pub(crate) flags: u32,
    pub(crate) recorded: Mutex<Recorded>,
}

/// What an event stands for.
pub(crate) enum Recorded {
    Never,
    In(Arc<Mark>),
    /// It was recorded while its stream was being captured.
    Captured(Point),
}

/// A loaded module.
pub(crate) struct Module {
    pub(crate) handle: u64,
    pub(crate) context: Arc<Context>,
    pub(crate) code: exec::Module,
    /// `.target`: 90 of sm_90.
    pub(crate) target: u32,
    /// Handles of the functions asked for so far: asking twice gives the same one.
    pub(crate) functions: Mutex<HashMap<String, u64>>,
}

impl Module {
    pub(crate) fn unload(&self) {
        self.context.drain();
        let device = &self.context.device;
        let _work = device.work();
        self.code.unload(&device.memory);
    }
}

/// A kernel of a module.
pub(crate) struct Function {
    pub(crate) module: Arc<Module>,
    pub(crate) entry: EntryId,
    pub(crate) info: EntryInfo,
    pub(crate) settings: Mutex<FunctionSettings>,
}

/// The attributes of a function that the host can set.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct FunctionSettings {
    pub(crate) max_dynamic_shared: u32,
    pub(crate) carveout: i32,
    pub(crate) cache_config: u32,
    pub(crate) non_portable_cluster: bool,
    pub(crate) required_cluster: [u32; 3],
    pub(crate) cluster_scheduling: i32,
}

/// A memory pool.
pub(crate) struct Pool {
    pub(crate) handle: u64,
    pub(crate) device: Arc<Device>,
    /// Values of the attributes that can be set.
    pub(crate) settings: Mutex<HashMap<u32, u64>>,
    /// Handles of the other devices whose kernels may use its memory.
    pub(crate) open_to: Mutex<Vec<i32>>,
}

/// Host memory that the driver knows.
pub(crate) struct Pinned {
    pub(crate) bytes: usize,
    pub(crate) context: u64,
    pub(crate) flags: u32,
    /// What was allocated here; nothing if the caller registered memory of its own.
    pub(crate) pages: Option<Arc<Pages>>,
    /// Unique in the process.
    pub(crate) id: u64,
    /// The call that made it.
    pub(crate) by: Option<Call>,
    /// The device whose kernels can use it, unless its lease has ended.
    pub(crate) device: Weak<Device>,
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
