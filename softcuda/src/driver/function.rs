//! Attributes of kernels.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, LazyLock, Mutex};

use super::occupancy;
use super::state::{Function, current, live, lock};
use super::status::Status;
use super::{Answer, driver, driver_api, put, put_if_wanted};

/// `CUfunction_attribute`.
const MAX_THREADS_PER_BLOCK: c_uint = 0;
const SHARED_SIZE_BYTES: c_uint = 1;
const CONST_SIZE_BYTES: c_uint = 2;
const LOCAL_SIZE_BYTES: c_uint = 3;
const NUM_REGS: c_uint = 4;
const PTX_VERSION: c_uint = 5;
const BINARY_VERSION: c_uint = 6;
const CACHE_MODE_CA: c_uint = 7;
const MAX_DYNAMIC_SHARED_SIZE_BYTES: c_uint = 8;
const PREFERRED_SHARED_MEMORY_CARVEOUT: c_uint = 9;
const CLUSTER_SIZE_MUST_BE_SET: c_uint = 10;
const REQUIRED_CLUSTER_WIDTH: c_uint = 11;
const REQUIRED_CLUSTER_DEPTH: c_uint = 13;
const NON_PORTABLE_CLUSTER_SIZE_ALLOWED: c_uint = 14;
const CLUSTER_SCHEDULING_POLICY_PREFERENCE: c_uint = 15;

pub(super) fn attribute(function: &Function, attribute: c_uint) -> Answer<c_int> {
    let config = &function.module.context.device.config;
    let info = &function.info;
    let settings = *lock(&function.settings);
    Ok(match attribute {
        MAX_THREADS_PER_BLOCK => occupancy::max_threads(config, info) as c_int,
        SHARED_SIZE_BYTES => info.static_shared as c_int,
        CONST_SIZE_BYTES | CACHE_MODE_CA => 0,
        LOCAL_SIZE_BYTES => info.local_bytes as c_int,
        NUM_REGS => info.registers as c_int,
        // Documented as the PTX version; what drivers answer is the virtual architecture.
        PTX_VERSION => function.module.target as c_int,
        BINARY_VERSION => (config.capability_major * 10 + config.capability_minor) as c_int,
        MAX_DYNAMIC_SHARED_SIZE_BYTES => settings.max_dynamic_shared as c_int,
        PREFERRED_SHARED_MEMORY_CARVEOUT => settings.carveout,
        CLUSTER_SIZE_MUST_BE_SET => c_int::from(info.cluster.is_some()),
        REQUIRED_CLUSTER_WIDTH..=REQUIRED_CLUSTER_DEPTH => {
            settings.required_cluster[(attribute - REQUIRED_CLUSTER_WIDTH) as usize] as c_int
        }
        NON_PORTABLE_CLUSTER_SIZE_ALLOWED => c_int::from(settings.non_portable_cluster),
        CLUSTER_SCHEDULING_POLICY_PREFERENCE => settings.cluster_scheduling,
        _ => return Err(Status::INVALID_VALUE),
    })
}

pub(super) fn set_attribute(function: &Function, attribute: c_uint, value: c_int) -> Answer {
    let device = &function.module.context.device;
    let config = &device.config;
    let mut settings = lock(&function.settings);
    let size = u32::try_from(value);
    match attribute {
        MAX_DYNAMIC_SHARED_SIZE_BYTES => {
            let most = config.shared_per_block_optin.saturating_sub(function.info.static_shared);
            match size {
                Ok(size) if size <= most => settings.max_dynamic_shared = size,
                _ => {
                    let reason = format!(
                        "MAX_DYNAMIC_SHARED_SIZE_BYTES of {value} for {}: with {} static bytes at most {most}",
                        function.info.name, function.info.static_shared
                    );
                    return Err(device.refuse(Status::INVALID_VALUE, reason));
                }
            }
        }
        PREFERRED_SHARED_MEMORY_CARVEOUT if (-1..=100).contains(&value) => settings.carveout = value,
        REQUIRED_CLUSTER_WIDTH..=REQUIRED_CLUSTER_DEPTH => {
            // Fixed where the kernel was compiled with a cluster size.
            if function.info.cluster.is_some() || config.max_cluster == 0 {
                return Err(Status::NOT_PERMITTED);
            }
            let axis = (attribute - REQUIRED_CLUSTER_WIDTH) as usize;
            settings.required_cluster[axis] = size.map_err(|_| Status::INVALID_VALUE)?;
        }
        NON_PORTABLE_CLUSTER_SIZE_ALLOWED => {
            if config.max_cluster == 0 {
                return Err(Status::NOT_SUPPORTED);
            }
            settings.non_portable_cluster = value != 0;
        }
        CLUSTER_SCHEDULING_POLICY_PREFERENCE if (0..=2).contains(&value) => {
            settings.cluster_scheduling = value;
        }
        _ => return Err(Status::INVALID_VALUE),
    }
    Ok(())
}

/// Names as C strings. They live as long as the process, as the driver's answer must outlive any
/// module; kernels have few names.
static NAMES: LazyLock<Mutex<std::collections::HashSet<&'static std::ffi::CStr>>> = LazyLock::new(Mutex::default);

pub(super) fn c_name(name: &str) -> Answer<*const c_char> {
    let name = CString::new(name).map_err(|_| Status::UNKNOWN)?;
    let mut names = lock(&NAMES);
    if let Some(known) = names.get(name.as_c_str()) {
        return Ok(known.as_ptr());
    }
    let name: &'static std::ffi::CStr = Box::leak(name.into_boxed_c_str());
    names.insert(name);
    Ok(name.as_ptr())
}

/// The function behind a handle: of a module, or of a library in the current context.
pub(super) fn resolve(handle: *mut c_void) -> Answer<Arc<Function>> {
    let driver = driver()?;
    match driver.kernels.get(handle as u64) {
        Some(kernel) => kernel.function(&current()?),
        None => live(&driver.functions, handle),
    }
}

pub(super) fn set_cache_config(function: &Function, config: c_uint) -> Answer {
    if config > 3 {
        return Err(Status::INVALID_VALUE);
    }
    lock(&function.settings).cache_config = config;
    Ok(())
}

/// Where a parameter lies.
///
/// # Safety
/// The pointers are null or valid for writes.
pub(super) unsafe fn parameter(function: &Function, index: usize, offset: *mut usize, size: *mut usize) -> Answer {
    let parameter = function.info.params.get(index).ok_or(Status::INVALID_VALUE)?;
    // SAFETY: the caller vouches for both.
    unsafe {
        put(offset, parameter.offset as usize)?;
        put_if_wanted(size, parameter.size as usize);
    }
    Ok(())
}

driver_api! {
    fn cuFuncGetAttribute(out: *mut c_int, number: c_uint, function: *mut c_void) {
        current()?;
        put(out, attribute(&*resolve(function)?, number)?)
    }

    fn cuFuncSetAttribute(function: *mut c_void, number: c_uint, value: c_int) {
        current()?;
        set_attribute(&*resolve(function)?, number, value)
    }

    fn cuFuncSetCacheConfig(function: *mut c_void, config: c_uint) {
        current()?;
        set_cache_config(&*resolve(function)?, config)
    }

    fn cuFuncSetSharedMemConfig(function: *mut c_void, _config: c_uint) {
        current()?;
        resolve(function).map(|_| ())
    }

    fn cuFuncGetModule(out: *mut *mut c_void, function: *mut c_void) {
        put(out, resolve(function)?.module.handle as *mut c_void)
    }

    fn cuFuncGetName(out: *mut *const c_char, function: *mut c_void) {
        put(out, c_name(&resolve(function)?.info.name)?)
    }

    fn cuFuncGetParamInfo(function: *mut c_void, index: usize, offset: *mut usize, size: *mut usize) {
        parameter(&*resolve(function)?, index, offset, size)
    }

    fn cuFuncGetParamCount(function: *mut c_void, out: *mut usize) {
        put(out, resolve(function)?.info.params.len())
    }

    fn cuFuncIsLoaded(out: *mut c_uint, function: *mut c_void) {
        resolve(function)?;
        put(out, 1)
    }

    fn cuFuncLoad(function: *mut c_void) {
        resolve(function).map(|_| ())
    }
}
