//! The objects behind the handles, and the tables that know which handles are alive.

use std::collections::{BTreeMap, HashMap};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use super::Answer;
use super::calls::Call;
use super::capture::Point;
pub(crate) use super::context::{Context, current, current_device, current_unchecked, with_stack};
pub(crate) use super::device::{Allocation, Device};
use super::graph::{Exec, Graph, Node};
use super::history::{Death, History, Object};
use super::library::{Kernel, Library};
use super::linker::Link;
use super::pinned::Pages;
use super::queue::{Mark, Order};
use super::status::Status;
use crate::config::Config;
use crate::exec::{self, EntryId, EntryInfo};

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

    pub(super) fn take(&self, handle: u64) -> Option<Arc<T>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&handle)
    }

    /// The handles of what `which` picks.
    pub(super) fn handles(&self, which: impl Fn(&T) -> bool) -> Vec<u64> {
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
