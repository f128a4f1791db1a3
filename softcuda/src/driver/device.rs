//! Initialisation, devices, primary contexts.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::calls::{Call, Calls, running};
use super::history::{Freed, History, Leaks};
use super::managed::Advice;
use super::state::{Context, DRIVER, current_device, lock};
use super::status::Status;
use super::{Answer, attributes, driver, driver_api, put, put_string, string};
use crate::config::Config;
use crate::control::LaunchRecord;
use crate::counters::Counters;
use crate::memory::{BadFree, Memory};
use crate::records::Records;

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
    pub(super) fn new(ordinal: usize, handle: i32, config: Config) -> Device {
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
    pub(super) fn note_leaks(&self, context: &Context) {
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

/// The driver's version. Each device has its own here: the one meant is that of the current
/// context, or else the lowest leased one.
fn version() -> u32 {
    current_device()
        .or_else(|| (0..DRIVER.device_count()).find_map(|ordinal| DRIVER.device_at(ordinal)))
        .map_or(Config::default().driver_version, |device| device.config.driver_version)
}

/// Names the capabilities of devices that exist without a lease, as `80` or `75,90`.
const DEVICES: &str = "SOFTCUDA_DEVICES";

/// Makes the devices that the environment asks for: programs that know nothing of leases, in any
/// language, find them when the library is on their path as `libcuda.so`.
fn make_standing_devices() -> Answer {
    let Ok(list) = std::env::var(DEVICES) else { return Ok(()) };
    for capability in list.split(',').filter(|capability| !capability.trim().is_empty()) {
        let Ok(number) = capability.trim().parse::<u32>() else {
            eprintln!("softcuda: {DEVICES} is {list:?}: it must be a list like 75,90");
            return Err(Status::INVALID_VALUE);
        };
        let config = Config::capability(number / 10, number % 10);
        let device = if config.fault().is_none() { DRIVER.lease(config) } else { None };
        device.ok_or(Status::INVALID_DEVICE)?.standing.store(true, Ordering::Release);
    }
    Ok(())
}

/// A stable identity for each ordinal, recognisable as virtual.
fn uuid(device: &Device) -> [u8; 16] {
    let mut uuid = *b"softcuda\0\0\0\0\0\0\0\0";
    uuid[8] = device.config.capability_major as u8;
    uuid[9] = device.config.capability_minor as u8;
    uuid[12..].copy_from_slice(&(device.ordinal as u32).to_be_bytes());
    uuid
}

fn pci_bus_id(device: &Device) -> String {
    format!("0000:{:02X}:00.0", device.ordinal)
}

/// Retains the primary context, making it first if need be.
pub(super) fn retain_primary(device: &Arc<Device>) -> Arc<Context> {
    let mut primary = lock(&device.primary);
    let flags = primary.flags;
    primary.retained += 1;
    primary.context.get_or_insert_with(|| Context::create(device, true, flags)).clone()
}

fn reset_primary(device: &Device, released: bool) -> Answer {
    let context = {
        let mut primary = lock(&device.primary);
        if released {
            primary.retained = primary.retained.checked_sub(1).ok_or(Status::INVALID_CONTEXT)?;
            if primary.retained > 0 {
                return Ok(());
            }
        }
        primary.context.take()
    };
    if let Some(context) = context {
        context.destroy();
    }
    Ok(())
}

driver_api! {
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(Status::INVALID_VALUE);
        }
        static STANDING: OnceLock<Answer> = OnceLock::new();
        // A program that leases has its devices already.
        if !DRIVER.is_initialised() {
            (*STANDING.get_or_init(make_standing_devices))?;
            DRIVER.initialise();
        }
        Ok(())
    }

    fn cuDriverGetVersion(out: *mut c_int) {
        put(out, version() as c_int)
    }

    fn cuDeviceGetCount(out: *mut c_int) {
        put(out, driver()?.device_count() as c_int)
    }

    fn cuDeviceGet(out: *mut c_int, ordinal: c_int) {
        let ordinal = usize::try_from(ordinal).map_err(|_| Status::INVALID_DEVICE)?;
        let device = driver()?.device_at(ordinal).ok_or(Status::INVALID_DEVICE)?;
        put(out, device.handle)
    }

    fn cuDeviceGetName(out: *mut c_char, size: c_int, device: c_int) {
        let config = driver()?.device(device)?.config;
        let (major, minor) = (config.capability_major, config.capability_minor);
        let name = format!("softcuda virtual {} (compute capability {major}.{minor})", config.product());
        put_string(out, usize::try_from(size).map_err(|_| Status::INVALID_VALUE)?, &name)
    }

    fn cuDeviceGetUuid(out: *mut [u8; 16], device: c_int) {
        put(out, uuid(&*driver()?.device(device)?))
    }

    fn cuDeviceGetUuid_v2(out: *mut [u8; 16], device: c_int) {
        put(out, uuid(&*driver()?.device(device)?))
    }

    fn cuDeviceTotalMem_v2(out: *mut usize, device: c_int) {
        put(out, driver()?.device(device)?.config.memory_bytes as usize)
    }

    fn cuDeviceGetAttribute(out: *mut c_int, attribute: c_int, device: c_int) {
        let device = driver()?.device(device)?;
        let value = attributes::value(&device.config, device.ordinal, attribute);
        put(out, value.ok_or(Status::INVALID_VALUE)?)
    }

    fn cuDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, device: c_int) {
        let config = driver()?.device(device)?.config;
        put(major, config.capability_major as c_int)?;
        put(minor, config.capability_minor as c_int)
    }

    fn cuDeviceGetPCIBusId(out: *mut c_char, size: c_int, device: c_int) {
        let device = driver()?.device(device)?;
        put_string(out, usize::try_from(size).map_err(|_| Status::INVALID_VALUE)?, &pci_bus_id(&device))
    }

    fn cuDeviceGetByPCIBusId(out: *mut c_int, id: *const c_char) {
        let id = string(id)?;
        let driver = driver()?;
        let mut devices = (0..driver.device_count()).filter_map(|ordinal| driver.device_at(ordinal));
        let device = devices.find(|device| pci_bus_id(device).eq_ignore_ascii_case(id));
        put(out, device.ok_or(Status::INVALID_DEVICE)?.handle)
    }

    fn cuDevicePrimaryCtxRetain(out: *mut *mut c_void, device: c_int) {
        let device = driver()?.device(device)?;
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        put(out, retain_primary(&device).handle as *mut c_void)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        reset_primary(&*driver()?.device(device)?, true)
    }

    fn cuDevicePrimaryCtxReset_v2(device: c_int) {
        reset_primary(&*driver()?.device(device)?, false)
    }

    fn cuDevicePrimaryCtxGetState(device: c_int, flags: *mut c_uint, active: *mut c_int) {
        let device = driver()?.device(device)?;
        let primary = lock(&device.primary);
        put(flags, primary.flags)?;
        put(active, c_int::from(primary.context.is_some()))
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, flags: c_uint) {
        let device = driver()?.device(device)?;
        lock(&device.primary).flags = flags;
        Ok(())
    }
}
