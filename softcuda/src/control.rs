//! The C functions by which [`client`](crate::client) reaches the one copy of the driver's state,
//! which lives in the cdylib.
//!
//! Both sides are compiled from this file, and [`build`] tells a stale library from the right one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::config::Config;
use crate::counters::Counters;
use crate::driver::calls;
use crate::driver::state::{DRIVER, Device, lock};
use crate::driver::status::Status;
use crate::exec::LaunchShape;
use crate::records::{Records, json};

/// A number that every change of the sources changes, computed by the build script.
pub(crate) fn build() -> u64 {
    env!("SOFTCUDA_BUILD").parse().unwrap_or_default()
}

/// A launch, kept for [`Gpu::last_launch`](crate::Gpu::last_launch).
pub(crate) struct LaunchRecord {
    pub(crate) kernel: String,
    pub(crate) shape: LaunchShape,
}

/// What [`softcuda_lease`] answers.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lease {
    /// The device handle; 0 if every ordinal is taken.
    pub(crate) handle: i32,
    pub(crate) ordinal: u32,
}

/// Numbers of the last launch; the name travels separately.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct LaunchNumbers {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) cluster: [u32; 3],
    pub(crate) dynamic_shared: u32,
}

/// What [`softcuda_text`] can be asked for.
pub(crate) const TEXT_REPORT: u32 = 0;
pub(crate) const TEXT_KERNEL: u32 = 1;
pub(crate) const TEXT_UNREAD_FAULT: u32 = 2;
pub(crate) const TEXT_CALLS: u32 = 3;
pub(crate) const TEXT_LEAKS: u32 = 4;
pub(crate) const TEXT_UNREAD_LEAKS: u32 = 5;
/// Lists of records, as JSON.
pub(crate) const TEXT_LAUNCHES: u32 = 6;
pub(crate) const TEXT_KERNELS: u32 = 7;

/// What [`softcuda_command`] can be told to do.
pub(crate) const COMMAND_HEAL: u32 = 0;
pub(crate) const COMMAND_LOSE: u32 = 1;
pub(crate) const COMMAND_MEMORY_LIMIT: u32 = 2;
pub(crate) const COMMAND_RESET_CALLS: u32 = 3;

pub(crate) type BuildFn = unsafe extern "C" fn() -> u64;
pub(crate) type LeaseFn = unsafe extern "C" fn(*const Config) -> Lease;
pub(crate) type ReleaseFn = unsafe extern "C" fn(i32);
pub(crate) type CountersFn = unsafe extern "C" fn(i32, *mut Counters) -> bool;
pub(crate) type ResetCountersFn = unsafe extern "C" fn(i32);
pub(crate) type TextFn = unsafe extern "C" fn(i32, u32, *mut u8, usize) -> i64;
pub(crate) type TakeOutputFn = unsafe extern "C" fn(i32, *mut u8, usize) -> i64;
pub(crate) type LastLaunchFn = unsafe extern "C" fn(i32, *mut LaunchNumbers) -> bool;
pub(crate) type FailFn = unsafe extern "C" fn(i32, *const u8, usize, u64, bool, u32) -> bool;
pub(crate) type CommandFn = unsafe extern "C" fn(i32, u32, u64);
pub(crate) type AllocationsFn = unsafe extern "C" fn(i32, *mut u64, *mut u64) -> bool;

/// Runs `body` on the device of a lease. A panic ends here, as nothing may unwind into C.
fn with_device<T>(handle: i32, otherwise: T, body: impl FnOnce(&Arc<Device>) -> T) -> T {
    let run = || DRIVER.device(handle).ok().map(|device| body(&device));
    let answer: Result<_, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(run));
    answer.ok().flatten().unwrap_or(otherwise)
}

/// The same, once the device has done what it can do: what is asked for is what work leaves behind.
fn with_settled<T>(handle: i32, otherwise: T, body: impl FnOnce(&Arc<Device>) -> T) -> T {
    with_device(handle, otherwise, |device| {
        device.settle();
        body(device)
    })
}

#[unsafe(no_mangle)]
extern "C" fn softcuda_build() -> u64 {
    build()
}

/// Leases an ordinal.
///
/// # Safety
/// `config` points to a [`Config`].
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_lease(config: *const Config) -> Lease {
    // SAFETY: the client passes a reference, and both were built from the same sources.
    let config = unsafe { *config };
    let leased = catch_unwind(|| {
        // A lease without `cuInit` is no device that anybody could use.
        DRIVER.initialise();
        let device = DRIVER.lease(config)?;
        calls::leased(device.handle);
        Some(device)
    });
    leased
        .ok()
        .flatten()
        .map_or(Lease::default(), |device| Lease { handle: device.handle, ordinal: device.ordinal as u32 })
}

#[unsafe(no_mangle)]
extern "C" fn softcuda_release(handle: i32) {
    // A panic while freeing leaves the rest unfreed, which is all that can be done about it.
    let _ = catch_unwind(|| DRIVER.release(handle));
}

/// # Safety
/// `out` is valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_counters(handle: i32, out: *mut Counters) -> bool {
    with_settled(handle, false, |device| {
        // SAFETY: the caller vouches for `out`.
        unsafe { out.write(device.notes().counters) };
        true
    })
}

#[unsafe(no_mangle)]
extern "C" fn softcuda_reset_counters(handle: i32) {
    with_settled(handle, (), |device| {
        let mut notes = device.notes();
        notes.counters = Counters::default();
        notes.records = Records::default();
    });
}

/// Copies a text, cut to `room` bytes, and answers its whole length, or -1 if there is none.
///
/// # Safety
/// `out` is valid for writes of `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_text(handle: i32, which: u32, out: *mut u8, room: usize) -> i64 {
    with_settled(handle, -1, |device| {
        let mut notes = device.notes();
        if which == TEXT_REPORT {
            notes.unread_fault = false;
        }
        let text = match which {
            TEXT_REPORT => notes.report.clone(),
            TEXT_UNREAD_FAULT if notes.unread_fault => notes.report.clone(),
            TEXT_KERNEL => notes.last_launch.as_ref().map(|launch| launch.kernel.clone()),
            TEXT_CALLS => Some(lock(&device.calls).text()),
            TEXT_LEAKS => lock(&device.leaks).text(true),
            TEXT_UNREAD_LEAKS => device.leaks_at_end(),
            TEXT_LAUNCHES => Some(json(&notes.records.launches)),
            TEXT_KERNELS => Some(json(&notes.records.kernels.values().collect::<Vec<_>>())),
            _ => None,
        };
        let Some(text) = text else { return -1 };
        // SAFETY: no more than `room` bytes, for which the caller vouches.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), out, text.len().min(room)) };
        text.len() as i64
    })
}

/// Hands out what kernels printed since the last time, if it fits into `room` bytes, and answers its
/// length in any case; -1 without a device.
///
/// # Safety
/// `out` is valid for writes of `room` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_take_output(handle: i32, out: *mut u8, room: usize) -> i64 {
    with_settled(handle, -1, |device| match device.memory.take_printed(room) {
        Ok(text) => {
            // SAFETY: no more than `room` bytes, for which the caller vouches.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), out, text.len()) };
            text.len() as i64
        }
        Err(length) => length as i64,
    })
}

/// # Safety
/// `out` is valid for a write.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_last_launch(handle: i32, out: *mut LaunchNumbers) -> bool {
    with_settled(handle, false, |device| {
        let notes = device.notes();
        let Some(LaunchRecord { shape, .. }) = &notes.last_launch else { return false };
        let LaunchShape { grid, block, cluster, dynamic_shared } = *shape;
        // SAFETY: the caller vouches for `out`.
        unsafe { out.write(LaunchNumbers { grid, block, cluster, dynamic_shared }) };
        true
    })
}

/// # Safety
/// `count` and `bytes` are valid for writes.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_allocations(handle: i32, count: *mut u64, bytes: *mut u64) -> bool {
    with_device(handle, false, |device| {
        let (live, held) = device.live_allocations();
        // SAFETY: the caller vouches for both.
        unsafe {
            count.write(live);
            bytes.write(held);
        }
        true
    })
}

/// Makes calls of a function fail; see [`Gpu::fail`](crate::Gpu::fail). `false` if there is none of
/// this name.
///
/// # Safety
/// `name` is valid for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_fail(
    handle: i32,
    name: *const u8,
    length: usize,
    nth: u64,
    onwards: bool,
    code: u32,
) -> bool {
    // SAFETY: the caller vouches for the bytes.
    let name = String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(name, length) });
    with_device(handle, false, |device| lock(&device.calls).fail(&name, nth, onwards, Status(code)))
}

#[unsafe(no_mangle)]
extern "C" fn softcuda_command(handle: i32, command: u32, value: u64) {
    with_device(handle, (), |device| match command {
        COMMAND_HEAL => lock(&device.calls).heal(),
        COMMAND_LOSE => device.lose(),
        COMMAND_MEMORY_LIMIT => device.memory.set_limit(value),
        COMMAND_RESET_CALLS => lock(&device.calls).reset(),
        _ => {}
    });
}
