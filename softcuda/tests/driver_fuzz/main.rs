//! Random calls with handles, sizes and device addresses that mean nothing: answers, never crashes.
//! Host pointers are valid, as the driver demands of its callers.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to buffers that live on")]

mod caller;
#[path = "../driver_support/mod.rs"]
mod driver_support;
mod functions;

use std::collections::BTreeSet;
use std::ffi::{CStr, c_void};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use caller::{Buffers, Caller, Made, ROOM, Random};
use cudarc::driver::sys;
use driver_support::SCALE;
use functions::functions;
use softcuda::{Config, Gpu};

/// `threads` callers of one device, who use each other's handles.
fn fuzz(seed: u64, threads: u64, steps: u32) -> (Gpu, BTreeSet<&'static str>) {
    let lease = || {
        let gpu = softcuda::virtual_gpu(Config { memory_bytes: 1 << 24, ..Config::capability(8, 0) }).unwrap();
        let mut handle = 0;
        unsafe { sys::cuDeviceGet(&mut handle, gpu.ordinal() as i32) }.result().unwrap();
        let device = (handle as u64, gpu.ordinal() as u64);
        (gpu, device)
    };
    // The calls that name no device are the last lease's.
    let ((other, second), (gpu, first)) = (lease(), lease());
    let devices = [first, second];
    let with_variable = SCALE.replace(".visible .entry", ".visible .global .align 4 .u32 x[4];\n.visible .entry");
    let path = format!("{}/fuzz-{}.ptx\0", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let file = CStr::from_bytes_with_nul(path.as_bytes()).unwrap();
    std::fs::write(file.to_str().unwrap(), &with_variable).unwrap();
    let images: Vec<Vec<u8>> = [SCALE, SCALE, &with_variable, ".version 7.0\n.target sm_75\n.bogus", "\x7fELF", "text"]
        .map(|text| [text.as_bytes(), b"\0\0\0\0"].concat())
        .into();
    let made = Mutex::new(Made::default());
    let successes = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (gpu, made, images, successes) = (&gpu, &made, &images, &successes);
            scope.spawn(move || {
                // Left behind on purpose: the driver may still think of it as pinned.
                let host: &'static mut [u64] = Box::leak(vec![0; ROOM / 8].into_boxed_slice());
                let empty = [std::ptr::null(); 8];
                let buffers = Box::new(Buffers {
                    host,
                    out: [0; 1024],
                    made: 0,
                    lists: [[0; 8]; 2],
                    words: [0; 32],
                    values: [0; 8],
                    pointers: empty,
                    attributes: [[0; 9]; 3],
                    things: [[0; 32]; 2],
                    turn: 0,
                });
                let random = Random((seed << 8 | thread) << 32);
                let succeeded = BTreeSet::new();
                let mut caller = Caller { random, made, buffers, devices, file, images, succeeded };
                caller.run(gpu, seed, steps);
                successes.lock().unwrap_or_else(PoisonError::into_inner).append(&mut caller.succeeded);
            });
        }
    });
    let Made { pinned, libraries, .. } = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    for library in libraries {
        unsafe { sys::cuLibraryUnload(library as sys::CUlibrary) };
    }
    for address in pinned {
        // Some of it is free already, and its owner gone: an answer like any.
        unsafe { sys::cuMemFreeHost(address as *mut c_void) };
    }
    drop((other.leaks(), other.report()));
    (gpu, successes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// `SOFTCUDA_FUZZ_SEEDS=2000` makes ten million calls.
fn seeds() -> Option<u64> {
    std::env::var("SOFTCUDA_FUZZ_SEEDS").ok().and_then(|seeds| seeds.parse().ok())
}

/// They can only fail: what they would hand out does not exist here.
const NEVER: [&str; 2] = ["cuGetExportTable", "cuLibraryGetManaged"];

#[test]
fn nonsense_is_answered() {
    let mut launches = 0;
    let mut succeeded = BTreeSet::new();
    for seed in 0..seeds().unwrap_or(40) {
        let (gpu, mut done) = fuzz(seed, 1, 5_000);
        launches += u32::from(gpu.last_launch().is_some());
        drop((gpu.leaks(), gpu.report()));
        succeeded.append(&mut done);
    }
    assert!(launches > 2, "{launches}: the calls must reach as far as kernels");
    let all: BTreeSet<&str> = functions().iter().map(|(name, ..)| *name).collect();
    let failed: Vec<&&str> = all.difference(&succeeded).filter(|name| !NEVER.contains(name)).collect();
    // A short run misses some of those that need three handles to belong together; a table without
    // sense, or a driver that only refuses, misses many more.
    let most = if seeds().is_some_and(|seeds| seeds >= 1000) { 0 } else { 15 };
    assert!(failed.len() <= most, "arguments with which these never succeed: {failed:?}");
}

#[test]
fn nonsense_from_several_threads_is_answered() {
    for seed in 0..seeds().map_or(3, |seeds| seeds / 10) {
        let (gpu, _) = fuzz(1_000_000 + seed, 3, 1_000);
        drop((gpu.leaks(), gpu.report()));
    }
}

/// The names of the functions that a folder of sources defines.
fn defined_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            defined_in(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let defined = text.lines().filter_map(|line| line.strip_prefix("    fn cu")?.split_once('('));
        let named = defined.filter(|(name, _)| name.starts_with(|first: char| first.is_ascii_uppercase()));
        names.extend(named.map(|(name, _)| format!("cu{name}")));
    }
}

#[test]
fn every_function_is_in_the_table() {
    let _gpu = softcuda::virtual_gpu(Config::capability(8, 0)).unwrap();
    let mut defined = BTreeSet::new();
    defined_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/driver"), &mut defined);
    assert!(defined.len() > 250, "{}", defined.len());
    let known: BTreeSet<&str> = functions().iter().map(|(name, ..)| *name).collect();
    let missing: Vec<&String> = defined.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
