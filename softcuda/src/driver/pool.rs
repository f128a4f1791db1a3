//! Memory pools. A pool keeps account and settings; memory goes back to the system when it is
//! freed, so there is nothing to trim and nothing reserved beyond what is in use.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::{Arc, Mutex};

use super::memory::allocate_async;
use super::state::{DRIVER, Device, Pool, live, lock};
use super::status::Status;
use super::stream::resolve;
use super::{Answer, driver, driver_api, put};

/// `CUmemPoolProps`, as far as it is read.
#[repr(C)]
#[derive(Clone, Copy)]
struct PoolProperties {
    allocation_type: c_int,
    handle_types: c_uint,
    location: Location,
}

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Location {
    kind: c_uint,
    id: c_int,
}

impl Location {
    /// The device that it names, by ordinal: pools have no other places.
    fn device(self) -> Answer<Arc<Device>> {
        if self.kind == 1 { driver()?.device(self.id) } else { Err(Status::INVALID_VALUE) }
    }
}

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy)]
struct AccessDescriptor {
    location: Location,
    flags: c_uint,
}

/// `CUmemAccess_flags`.
const NO_ACCESS: c_uint = 0;
const READ_AND_WRITE: c_uint = 3;

impl Pool {
    fn is_open_to(&self, device: &Arc<Device>) -> bool {
        Arc::ptr_eq(device, &self.device) || lock(&self.open_to).contains(&device.handle)
    }

    /// Opens it to a device, or closes it. As peer access does, that opens all of the memory that
    /// the pool's device has.
    fn let_access(&self, device: &Arc<Device>, opens: bool) {
        if Arc::ptr_eq(device, &self.device) {
            return;
        }
        let mut open_to = lock(&self.open_to);
        let known = open_to.iter().position(|other| *other == device.handle);
        match (known, opens) {
            (None, true) => {
                open_to.push(device.handle);
                device.memory.add_peer(&self.device.memory);
            }
            (Some(index), false) => {
                open_to.swap_remove(index);
                drop(open_to);
                // Kernels that were launched before still use it.
                device.drain();
                device.memory.remove_peer(&self.device.memory);
            }
            _ => {}
        }
    }

    /// Closes it to everybody.
    fn close(&self) {
        let open_to = lock(&self.open_to).clone();
        for device in open_to.into_iter().filter_map(|handle| DRIVER.device(handle).ok()) {
            self.let_access(&device, false);
        }
    }
}

fn make(device: &Arc<Device>) -> u64 {
    let handle = DRIVER.new_handle();
    let pool = Pool { handle, device: device.clone(), settings: Mutex::default(), open_to: Mutex::default() };
    DRIVER.pools.insert(handle, Arc::new(pool));
    handle
}

/// The device's own pool, made when first asked for.
fn default_pool(device: &Arc<Device>) -> u64 {
    let mut pools = lock(&device.pools);
    if pools.default == 0 {
        pools.default = make(device);
    }
    pools.default
}

/// The pool that asynchronous allocations take from.
pub(super) fn current_pool(device: &Arc<Device>) -> u64 {
    let current = lock(&device.pools).current;
    if current == 0 { default_pool(device) } else { current }
}

/// Bytes allocated from a pool and not freed.
fn used(pool: &Pool) -> u64 {
    let allocations = lock(&pool.device.allocations);
    let mine = allocations.values().filter(|allocation| allocation.pool == pool.handle);
    mine.map(|allocation| allocation.bytes).sum()
}

driver_api! {
    fn cuDeviceGetDefaultMemPool(out: *mut *mut c_void, device: c_int) {
        let device = driver()?.device(device)?;
        put(out, default_pool(&device) as *mut c_void)
    }

    fn cuDeviceGetMemPool(out: *mut *mut c_void, device: c_int) {
        let device = driver()?.device(device)?;
        put(out, current_pool(&device) as *mut c_void)
    }

    fn cuDeviceSetMemPool(device: c_int, pool: *mut c_void) {
        let device = driver()?.device(device)?;
        let pool = live(&driver()?.pools, pool)?;
        if !Arc::ptr_eq(&pool.device, &device) {
            return Err(Status::INVALID_VALUE);
        }
        lock(&device.pools).current = pool.handle;
        Ok(())
    }

    fn cuMemPoolCreate(out: *mut *mut c_void, properties: *const PoolProperties) {
        driver()?;
        if properties.is_null() || out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let properties = properties.read_unaligned();
        if properties.allocation_type != 1 {
            return Err(Status::INVALID_VALUE);
        }
        let device = properties.location.device()?;
        if properties.handle_types != 0 {
            return Err(device.refuse(Status::NOT_SUPPORTED, "cuMemPoolCreate: exportable pools"));
        }
        put(out, make(&device) as *mut c_void)
    }

    fn cuMemPoolDestroy(pool: *mut c_void) {
        let pool = live(&driver()?.pools, pool)?;
        let mut pools = lock(&pool.device.pools);
        if pools.default == pool.handle {
            return Err(Status::INVALID_VALUE);
        }
        if pools.current == pool.handle {
            pools.current = 0;
        }
        drop(pools);
        DRIVER.pools.remove(pool.handle);
        pool.close();
        Ok(())
    }

    fn cuMemPoolTrimTo(pool: *mut c_void, _keep: usize) {
        live(&driver()?.pools, pool).map(|_| ())
    }

    fn cuMemPoolGetAttribute(pool: *mut c_void, attribute: c_uint, out: *mut c_void) {
        let pool = live(&driver()?.pools, pool)?;
        let set = lock(&pool.settings).get(&attribute).copied();
        match attribute {
            1..=3 => put(out.cast::<c_int>(), set.unwrap_or(1) as c_int),
            4 => put(out.cast::<u64>(), set.unwrap_or(0)),
            5..=8 => put(out.cast::<u64>(), used(&pool)),
            _ => Err(Status::INVALID_VALUE),
        }
    }

    fn cuMemPoolSetAttribute(pool: *mut c_void, attribute: c_uint, value: *mut c_void) {
        let pool = live(&driver()?.pools, pool)?;
        if value.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let value = match attribute {
            1..=3 => u64::from(value.cast::<c_uint>().read_unaligned()),
            4 => value.cast::<u64>().read_unaligned(),
            // The high-water marks can only be reset.
            6 | 8 if value.cast::<u64>().read_unaligned() == 0 => return Ok(()),
            _ => return Err(Status::INVALID_VALUE),
        };
        lock(&pool.settings).insert(attribute, value);
        Ok(())
    }

    fn cuMemPoolSetAccess(pool: *mut c_void, descriptors: *const AccessDescriptor, count: usize) {
        let pool = live(&driver()?.pools, pool)?;
        if descriptors.is_null() && count > 0 {
            return Err(Status::INVALID_VALUE);
        }
        let mut wanted = Vec::new();
        for index in 0..count {
            let AccessDescriptor { location, flags } = descriptors.add(index).read_unaligned();
            let device = location.device()?;
            // The pool's own device always has access, and nobody to read only.
            if !matches!(flags, NO_ACCESS | READ_AND_WRITE) || (Arc::ptr_eq(&device, &pool.device) && flags == NO_ACCESS) {
                return Err(Status::INVALID_VALUE);
            }
            wanted.push((device, flags));
        }
        for (device, flags) in wanted {
            pool.let_access(&device, flags == READ_AND_WRITE);
        }
        Ok(())
    }

    fn cuMemPoolGetAccess(out: *mut c_uint, pool: *mut c_void, location: *const Location) {
        let pool = live(&driver()?.pools, pool)?;
        if location.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let device = location.read_unaligned().device()?;
        put(out, if pool.is_open_to(&device) { READ_AND_WRITE } else { NO_ACCESS })
    }

    fn cuMemAllocFromPoolAsync(out: *mut u64, bytes: usize, pool: *mut c_void, stream: *mut c_void) {
        let stream = resolve(stream)?;
        let pool = live(&driver()?.pools, pool)?;
        if !Arc::ptr_eq(&pool.device, &stream.context.device) {
            return Err(Status::INVALID_VALUE);
        }
        if bytes == 0 {
            return Err(Status::INVALID_VALUE);
        }
        allocate_async(out, bytes, &stream, pool.handle)
    }
}
