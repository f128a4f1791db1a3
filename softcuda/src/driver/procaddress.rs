//! `cuGetProcAddress`: entry points by name and version.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::status::Status;
use super::{Answer, EXPORTED, driver_api, put, put_if_wanted, string};

/// Newer forms of functions, and the CUDA version from which a caller gets them. Every other
/// function is given out in its newest form, since they all predate CUDA 11.
const VERSIONED: [(&str, u32); 14] = [
    ("cuCtxCreate_v3", 11_040),
    ("cuCtxCreate_v4", 12_050),
    ("cuCtxGetDevice_v2", 13_000),
    ("cuCtxSynchronize_v2", 13_000),
    ("cuDeviceGetUuid_v2", 11_040),
    ("cuEventElapsedTime_v2", 12_080),
    ("cuGetProcAddress_v2", 12_000),
    ("cuMemAdvise_v2", 12_020),
    ("cuMemPrefetchAsync_v2", 12_020),
    ("cuStreamGetCaptureInfo_v2", 11_030),
    ("cuStreamGetCaptureInfo_v3", 12_030),
    ("cuStreamGetCtx_v2", 12_050),
    ("cuStreamUpdateCaptureDependencies_v2", 12_030),
    ("cuLaunchHostFunc_v2", 13_000),
];

/// The address of the form of a function that a caller of this CUDA version means.
fn find(name: &str, version: u32) -> Option<*const ()> {
    let forms = ["_v4", "_v3", "_v2", ""];
    forms.iter().find_map(|suffix| {
        let full = format!("{name}{suffix}");
        let since = VERSIONED.iter().find(|(known, _)| *known == full).map_or(0, |(_, since)| *since);
        let mut exports = EXPORTED.iter().flat_map(|table| table.iter());
        let export = exports.find(|export| export.name == full)?;
        (since <= version).then_some(export.address)
    })
}

fn get(symbol: *const c_char, out: *mut *const (), version: c_int, status: *mut c_uint) -> Answer {
    // SAFETY: the caller of the exported function vouches for its pointers.
    let name = unsafe { string(symbol)? };
    let found = find(name, u32::try_from(version).map_err(|_| Status::INVALID_VALUE)?);
    // SAFETY: as above. 0 is found, 1 not found.
    unsafe {
        put_if_wanted(status, c_uint::from(found.is_none()));
        put(out, found.unwrap_or(std::ptr::null()))?;
    }
    found.map(|_| ()).ok_or(Status::NOT_FOUND)
}

driver_api! {
    fn cuGetProcAddress(symbol: *const c_char, out: *mut *const (), version: c_int, _flags: u64) {
        get(symbol, out, version, std::ptr::null_mut())
    }

    fn cuGetProcAddress_v2(symbol: *const c_char, out: *mut *const (), version: c_int, _flags: u64, status: *mut c_uint) {
        get(symbol, out, version, status)
    }

    fn cuGetExportTable(_out: *mut *const c_void, _id: *const c_void) {
        Err(Status::NOT_FOUND)
    }
}
