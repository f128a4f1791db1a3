//! Initialisation, devices, primary contexts.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use super::state::{Context, DRIVER, Device, current_device, lock};
use super::status::Status;
use super::{Answer, attributes, driver, driver_api, put, put_string, string};
use crate::config::Config;

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
