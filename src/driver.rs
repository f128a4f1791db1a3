//! Finding the driver without panicking, and its errors as ours.

use std::sync::{Arc, OnceLock};

use cudarc::driver::{CudaContext, DriverError, result, sys};

use crate::{Error, plan::Device};

/// Oldest driver this crate works with: the one that accepts the prebuilt PTX (8.1).
const MIN_DRIVER: i32 = 12010;

/// A context on device `ordinal`, or an error where `CudaContext::new` would panic because there is no
/// driver.
///
/// ```no_run
/// let context = zlpr::context(0)?;
/// # Ok::<(), zlpr::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::DriverTooOld`], [`Error::Driver`].
pub fn context(ordinal: usize) -> Result<Arc<CudaContext>, Error> {
    let count = device_count()?;
    if ordinal >= count {
        return Err(Error::NoDevice { ordinal, count });
    }
    CudaContext::new(ordinal).map_err(|e| failed("cuDevicePrimaryCtxRetain", e))
}

/// Number of CUDA devices.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::DriverTooOld`], [`Error::Driver`].
pub fn device_count() -> Result<usize, Error> {
    probe()?;
    match result::init() {
        // A driver library without a device or without its kernel module.
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => return Ok(0),
        other => other.map_err(|e| failed("cuInit", e))?,
    }
    driver_version()?;
    let count = result::device::get_count().map_err(|e| failed("cuDeviceGetCount", e))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Loads the driver library under cudarc's names in cudarc's order; cudarc itself panics when there is none.
pub(crate) fn probe() -> Result<(), Error> {
    static FOUND: OnceLock<libloading::Library> = OnceLock::new();
    if FOUND.get().is_some() {
        return Ok(());
    }
    let names = library_names();
    for name in &names {
        // SAFETY: loading the CUDA driver runs its initialisers, which is what every CUDA program does.
        if let Ok(library) = unsafe { libloading::Library::new(name) } {
            // Kept loaded, so that cudarc finds the same library.
            let _ = FOUND.set(library);
            return Ok(());
        }
    }
    Err(Error::NoDriver { tried: names.join(", ") })
}

fn library_names() -> Vec<String> {
    use std::env::consts::{DLL_PREFIX as PREFIX, DLL_SUFFIX as SUFFIX};
    let mut names = Vec::new();
    for library in ["cuda", "nvcuda"] {
        names.push(format!("{PREFIX}{library}{SUFFIX}"));
        names.push(format!("{PREFIX}{library}64{SUFFIX}"));
        names.extend(["13", "12", "11", "10", "9", "1"].map(|major| format!("{PREFIX}{library}{SUFFIX}.{major}")));
    }
    names
}

pub(crate) fn driver_version() -> Result<i32, Error> {
    let mut version = 0;
    // SAFETY: the library is loaded (`probe`), and the pointer is valid for one int.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    check("cuDriverGetVersion", status)?;
    if version < MIN_DRIVER { Err(Error::DriverTooOld { found: version }) } else { Ok(version) }
}

/// The limits of the current context's device.
pub(crate) fn device() -> Result<Device, Error> {
    let mut device = 0;
    // SAFETY: a valid pointer to one device handle.
    check("cuCtxGetDevice", unsafe { sys::cuCtxGetDevice(&mut device) })?;
    let attribute = |attribute| {
        // SAFETY: `device` is the current context's.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        value.map(|v| u32::try_from(v).unwrap_or(0)).map_err(|e| failed("cuDeviceGetAttribute", e))
    };
    use sys::CUdevice_attribute as Attribute;
    Ok(Device {
        capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        shared_memory_per_block: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        max_grid: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X)?,
    })
}

/// The current context's id: unlike its address, never used again for another context.
pub(crate) fn current_context_id() -> Result<u64, Error> {
    let context = result::ctx::get_current().map_err(|e| failed("cuCtxGetCurrent", e))?;
    let context = context.ok_or(Error::NoContext)?;
    let mut id = 0;
    // SAFETY: `context` is current, and the pointer is valid for one integer.
    check("cuCtxGetId", unsafe { sys::cuCtxGetId(context, &mut id) })?;
    Ok(id)
}

pub(crate) fn check(call: &'static str, status: sys::CUresult) -> Result<(), Error> {
    status.result().map_err(|e| failed(call, e))
}

/// A refused call. Only called after a successful `probe`: cudarc panics on error texts without a driver.
pub(crate) fn failed(call: &'static str, error: DriverError) -> Error {
    let text = |t: Result<&std::ffi::CStr, DriverError>| t.map_or_else(|_| "?".into(), |t| t.to_string_lossy().into());
    Error::Driver { call, code: error.0 as u32, name: text(error.error_name()), text: text(error.error_string()) }
}
