//! Every function that cudarc can call exists, and C code finds them the way C code does.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::{Path, PathBuf};

use cudarc::driver::sys::{self, CUresult};
use driver_support::a100;

/// What cudarc 0.19.10's safe and result layers refer to: every `cu...` that is called in
/// `src/driver/result.rs` and `src/driver/safe/`, for CUDA 11.4 to 13.4.
const CUDARC: &str = include_str!("../src/driver/cudarc.txt");

/// The names after `sys::` in the code of a Rust file, or of all files of a folder.
fn called_in(path: &Path, names: &mut BTreeSet<String>) {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().flatten();
        return entries.for_each(|entry| called_in(&entry.path(), names));
    }
    let text = std::fs::read_to_string(path).unwrap();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for after in line.split("sys::").skip(1) {
            let name = after.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            if name.strip_prefix("cu").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_uppercase())) {
                names.insert(name.to_owned());
            }
        }
    }
}

/// Where cargo keeps the sources of the cudarc that this was built with; `None` if it has them from
/// somewhere else than a registry.
fn source_of_cudarc() -> Option<PathBuf> {
    let locked = include_str!("../../Cargo.lock").split("name = \"cudarc\"\nversion = \"").nth(1)?;
    let version = locked.split('"').next()?;
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))?;
    let registries = std::fs::read_dir(cargo.join("registry/src")).ok()?.flatten();
    let mut sources = registries.map(|registry| registry.path().join(format!("cudarc-{version}/src/driver")));
    sources.find(|source| source.is_dir())
}

#[test]
fn the_list_is_what_cudarc_calls() {
    let Some(source) = source_of_cudarc() else {
        eprintln!("cudarc's sources are not in a registry of cargo's: the list is not compared with them");
        return;
    };
    let mut called = BTreeSet::new();
    called_in(&source.join("result.rs"), &mut called);
    called_in(&source.join("safe"), &mut called);
    let listed: BTreeSet<String> = CUDARC.split_whitespace().map(str::to_owned).collect();
    assert_eq!(called, listed);
}

/// The address the driver gives for a name and a CUDA version; null if it knows none.
fn address(name: &str, version: i32) -> usize {
    let name = CString::new(name).unwrap();
    let mut found = std::ptr::null_mut();
    let mut status = sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SUCCESS;
    let result = unsafe { sys::cuGetProcAddress_v2(name.as_ptr(), &mut found, version, 0, &mut status) };
    assert_eq!(result == CUresult::CUDA_SUCCESS, !found.is_null());
    found as usize
}

#[test]
fn every_symbol_of_cudarc_is_exported() {
    let _device = a100();
    for name in CUDARC.split_whitespace() {
        let exported = unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()) };
        assert!(exported.is_ok(), "{name}: {:?}", exported.err());
        assert_ne!(address(name, 13_040), 0, "{name}");
    }
}

#[test]
fn versions_choose_among_the_forms_of_a_function() {
    let _device = a100();
    assert_eq!(address("cuMemAlloc", 11_000), address("cuMemAlloc_v2", 11_000));
    assert_eq!(address("cuCtxCreate", 12_050), address("cuCtxCreate_v4", 12_050));
    assert_eq!(address("cuCtxCreate", 12_000), address("cuCtxCreate_v3", 12_000));
    assert_eq!(address("cuCtxCreate", 11_000), address("cuCtxCreate_v2", 11_000));
    assert_ne!(address("cuEventElapsedTime", 12_000), address("cuEventElapsedTime", 12_080));
    assert_eq!(address("cuMakeCoffee", 13_000), 0);
}

#[test]
fn errors_have_names_and_texts() {
    let _device = a100();
    let error = cudarc::driver::DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!(error.error_name().unwrap(), c"CUDA_ERROR_ILLEGAL_ADDRESS");
    assert_eq!(error.error_string().unwrap(), c"an illegal memory access was encountered");
    assert!(format!("{error}").contains("illegal memory access"));
}

#[test]
fn null_pointers_are_invalid_values() {
    let (_gpu, context) = a100();
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    use std::ptr::null_mut as null;
    unsafe {
        assert_eq!(sys::cuDeviceGetCount(null()), invalid);
        assert_eq!(sys::cuDriverGetVersion(null()), invalid);
        assert_eq!(sys::cuStreamCreate(null(), 0), invalid);
        assert_eq!(sys::cuEventCreate(null(), 0), invalid);
        assert_eq!(sys::cuMemAlloc_v2(null(), 16), invalid);
        assert_eq!(sys::cuMemHostAlloc(null(), 16, 0), invalid);
        assert_eq!(sys::cuMemcpyDtoH_v2(null(), 0x1000, 4), invalid);
        assert_eq!(sys::cuModuleLoad(null(), std::ptr::null()), invalid);
        assert_eq!(sys::cuLaunchKernelEx(std::ptr::null(), null(), null(), null()), invalid);
        let pointers = sys::cuPointerGetAttributes(1, null(), null(), 0);
        assert_eq!(pointers, invalid);
    }
    context.synchronize().unwrap();
}
