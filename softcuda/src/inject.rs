//! What a lease's holder can do to its device, and ask of it, beyond the driver API: failures of
//! calls, a memory limit, the loss of the device; which calls there were, and what leaked.

use std::collections::BTreeMap;

use crate::client::{Error, Gpu, Kind};
use crate::control;

/// Which calls of a driver function fail, counted from when this is asked for; the next one is
/// number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// This one.
    Nth(u64),
    /// This one and all later ones.
    From(u64),
}

impl Gpu {
    /// Makes calls of a driver function fail with a code, without any effect of the call.
    ///
    /// The function has its exported name (`cuMemAlloc_v2`), as [`calls`](Gpu::calls) lists it. A
    /// call counts for the device that its arguments name, or else for that of the current context,
    /// or else, where none is current yet, for the device that the calling thread leased last.
    ///
    /// ```
    /// use cudarc::driver::{CudaContext, sys::CUresult};
    /// use softcuda::{Config, When};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let gpu = softcuda::virtual_gpu(Config::default())?;
    /// let stream = CudaContext::new(gpu.ordinal())?.default_stream();
    /// gpu.fail("cuMemAllocAsync", When::Nth(2), CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32)?;
    /// assert!(stream.alloc_zeros::<f32>(10).is_ok());
    /// assert!(stream.alloc_zeros::<f32>(10).is_err());
    /// assert!(stream.alloc_zeros::<f32>(10).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchFunction`] if the driver exports no function of this name,
    /// [`Error::RealDevice`] if the device is real.
    pub fn fail(&self, function: &str, when: When, code: u32) -> Result<(), Error> {
        let Kind::Virtual { api, lease, .. } = &self.0 else { return Err(Error::RealDevice) };
        let (nth, onwards) = match when {
            When::Nth(nth) => (nth, false),
            When::From(nth) => (nth, true),
        };
        // SAFETY: the name is valid for its length.
        let known = unsafe { (api.fail)(lease.handle, function.as_ptr(), function.len(), nth, onwards, code) };
        if known { Ok(()) } else { Err(Error::NoSuchFunction(function.to_owned())) }
    }

    /// Forgets every failure that [`fail`](Gpu::fail) asked for.
    pub fn stop_failing(&self) {
        self.command(control::COMMAND_HEAL, 0);
    }

    /// The device falls off the bus, for good: calls in its contexts answer `CUDA_ERROR_UNKNOWN`,
    /// calls that look for a device to use `CUDA_ERROR_DEVICE_UNAVAILABLE`, work that was enqueued
    /// does not run. Functions that touch no device (`cuInit`, `cuCtxSetCurrent`,
    /// `cuGetErrorName` and the like) go on. On a real device this does nothing.
    pub fn lose(&self) {
        self.command(control::COMMAND_LOSE, 0);
    }

    /// Sets the size of device memory that can be allocated from now on; what is allocated already
    /// stays. On a real device this does nothing.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.command(control::COMMAND_MEMORY_LIMIT, bytes);
    }

    /// How often each driver function was called since the lease began or
    /// [`reset_calls`](Gpu::reset_calls), by its exported name; `None` for a real device. Calls
    /// that fail count. [`fail`](Gpu::fail) says which calls belong to which device.
    pub fn calls(&self) -> Option<BTreeMap<String, u64>> {
        let text = self.text(control::TEXT_CALLS)?;
        let line = |line: &str| line.split_once(' ').and_then(|(name, n)| Some((name.to_owned(), n.parse().ok()?)));
        Some(text.lines().filter_map(line).collect())
    }

    /// Counts calls anew. On a real device this does nothing.
    pub fn reset_calls(&self) {
        self.command(control::COMMAND_RESET_CALLS, 0);
    }

    /// Device memory and pinned host memory that was still allocated when its context ended (its
    /// primary context was released, or it was destroyed): size, address and the call that allocated
    /// it. Host memory that was registered is the host's own, and no leak. `None` for a real device.
    ///
    /// Leaks that nobody asked for are printed to standard error when the lease ends, with what is
    /// allocated then. After a fault, and when the device was lost, nothing can be freed, so
    /// nothing counts as leaked.
    pub fn leaks(&self) -> Option<Vec<String>> {
        Some(self.text(control::TEXT_LEAKS)?.lines().map(str::to_owned).collect())
    }

    fn command(&self, command: u32, value: u64) {
        if let Kind::Virtual { api, lease, .. } = &self.0 {
            // SAFETY: the function takes numbers only.
            unsafe { (api.command)(lease.handle, command, value) };
        }
    }
}
