//! The calls that each lease has had, and the failures that its holder asked for: the gate that
//! every exported function passes before its body runs.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fmt;
use std::sync::Arc;

use super::state::{DRIVER, Device, current_unchecked, lock, with_stack};
use super::status::Status;
use super::work::host_function_of;
use super::{Answer, EXPORTED};

/// Functions that touch no device: they go on when one is lost, as they do on hardware.
const HOST_ONLY: [&str; 12] = [
    "cuCtxGetCurrent",
    "cuCtxPopCurrent_v2",
    "cuCtxPushCurrent_v2",
    "cuCtxSetCurrent",
    "cuDeviceGetCount",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGetExportTable",
    "cuGetProcAddress",
    "cuGetProcAddress_v2",
    "cuInit",
];

/// One call of a driver function: which one it was, counted per lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) number: u64,
}

impl fmt::Display for Call {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "call {} of {}", self.number, self.name)
    }
}

/// A failure that the lease's holder asked for.
struct Failure {
    name: &'static str,
    /// The number of the first call that fails.
    first: u64,
    /// All later ones fail as well.
    onwards: bool,
    status: Status,
}

/// What a lease knows of the calls that concern it.
#[derive(Default)]
pub(crate) struct Calls {
    counts: BTreeMap<&'static str, u64>,
    failures: Vec<Failure>,
    lost: bool,
}

impl Calls {
    /// Makes calls fail: the `nth` from now on, counted from 1, and if `onwards` all after it.
    /// `false` if there is no such function.
    pub(crate) fn fail(&mut self, name: &str, nth: u64, onwards: bool, status: Status) -> bool {
        let mut names = EXPORTED.iter().flat_map(|table| table.iter()).map(|export| export.name);
        let Some(name) = names.find(|known| *known == name) else { return false };
        let first = self.counts.get(name).copied().unwrap_or(0).saturating_add(nth.max(1));
        self.failures.push(Failure { name, first, onwards, status });
        true
    }

    /// Forgets the failures that were asked for.
    pub(crate) fn heal(&mut self) {
        self.failures.clear();
    }

    /// Starts counting anew. Failures that were asked for stay as many calls away as they were.
    pub(crate) fn reset(&mut self) {
        for failure in &mut self.failures {
            let had = self.counts.get(failure.name).copied().unwrap_or(0);
            failure.first = failure.first.saturating_sub(had);
        }
        self.counts.clear();
    }

    /// The device is gone for good.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// One line for each function that was called: its name and how often.
    pub(crate) fn text(&self) -> String {
        self.counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect()
    }

    /// Counts a call, and says whether it is to fail.
    fn count(&mut self, name: &'static str) -> (Call, Option<Status>) {
        let count = self.counts.entry(name).or_default();
        *count += 1;
        let number = *count;
        let hit = |failure: &&Failure| {
            failure.name == name && (number == failure.first || (failure.onwards && number > failure.first))
        };
        (Call { name, number }, self.failures.iter().find(hit).map(|failure| failure.status))
    }
}

thread_local! {
    /// The call that runs on this thread.
    static RUNNING: Cell<Option<Call>> = const { Cell::new(None) };
    /// Handle of the device that this thread leased last.
    static LEASED: Cell<i32> = const { Cell::new(0) };
}

/// The call that runs on this thread, to be named by reports about what it makes and ends.
pub(crate) fn running() -> Option<Call> {
    RUNNING.try_with(Cell::get).ok().flatten()
}

/// Notes a lease for the calls that name no device; see [`concerned`].
pub(crate) fn leased(handle: i32) {
    // A thread that is being torn down makes no more calls.
    let _ = LEASED.try_with(|leased| leased.set(handle));
}

/// The device that a call concerns, and whether by way of a context: the one that its arguments
/// name, else that of the current context, else (nothing is current yet: `cuInit`) the one that
/// this thread leased last.
fn concerned(named: Option<c_int>) -> Option<(Arc<Device>, bool)> {
    if let Some(device) = named.and_then(|handle| DRIVER.device(handle).ok()) {
        return Some((device, false));
    }
    match with_stack(|stack| stack.last().copied().unwrap_or(0)) {
        Ok(0) => {
            let handle = LEASED.try_with(Cell::get).ok().filter(|handle| *handle != 0)?;
            DRIVER.device(handle).ok().map(|device| (device, false))
        }
        // A context that was destroyed says nothing of where the call was meant to go.
        _ => current_unchecked().ok().map(|context| (context.device.clone(), true)),
    }
}

/// Restores what ran on this thread before: host functions in a stream may call the driver.
pub(super) struct Running(Option<Call>);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = RUNNING.try_with(|running| running.set(self.0));
    }
}

/// Counts a call where it concerns a lease, and fails it if that is asked for.
pub(super) fn enter(name: &'static str, named: Option<c_int>) -> Answer<Running> {
    if let Some(device) = host_function_of().filter(|_| !HOST_ONLY.contains(&name)) {
        return Err(match DRIVER.device(device) {
            Ok(device) => device.refuse(Status::NOT_PERMITTED, format!("{name}: called by a host function")),
            Err(_) => Status::NOT_PERMITTED,
        });
    }
    let Some((device, in_context)) = concerned(named) else { return Ok(Running(running())) };
    let (call, failure, lost) = {
        let mut calls = lock(&device.calls);
        let (call, failure) = calls.count(name);
        (call, failure, calls.lost)
    };
    if let Some(status) = failure {
        return Err(device.refuse(status, format!("{call} was made to fail")));
    }
    if lost && !HOST_ONLY.contains(&name) {
        // What has a context learns that the device no longer answers; what looks for a device
        // finds none to use.
        return Err(if in_context { Status::UNKNOWN } else { Status::DEVICE_UNAVAILABLE });
    }
    let before = RUNNING.try_with(|running| running.replace(Some(call))).ok().flatten();
    Ok(Running(before))
}
