//! A virtual GPU: the CUDA driver API over a checking PTX interpreter.
//!
//! Unmodified host code written with [`cudarc`](https://docs.rs/cudarc) runs on it, with the very
//! PTX that a GPU would run, under plain `cargo test` on a machine that has neither GPU nor driver.
//! Every memory access is checked as compute-sanitizer checks it, and what a kernel does is counted.
//!
//! ```
//! use cudarc::driver::{CudaContext, LaunchConfig, PushKernelArg};
//! use cudarc::nvrtc::Ptx;
//! use softcuda::Config;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The only two lines that know of softcuda: a device, and its ordinal.
//! let gpu = softcuda::gpu(Config::capability(8, 0))?;
//! let context = CudaContext::new(gpu.ordinal())?;
//!
//! let ptx = ".version 7.0
//!     .target sm_75
//!     .address_size 64
//!     .visible .entry double(.param .u64 values)
//!     {
//!         .reg .b32 %r<3>;
//!         .reg .b64 %rd<4>;
//!         ld.param.u64 %rd1, [values];
//!         mov.u32 %r1, %tid.x;
//!         mul.wide.u32 %rd2, %r1, 4;
//!         add.s64 %rd3, %rd1, %rd2;
//!         ld.global.u32 %r2, [%rd3];
//!         add.s32 %r2, %r2, %r2;
//!         st.global.u32 [%rd3], %r2;
//!         ret;
//!     }";
//! let kernel = context.load_module(Ptx::from_src(ptx))?.load_function("double")?;
//! let stream = context.default_stream();
//! let mut values = stream.clone_htod(&[1_u32, 2, 3, 4])?;
//! let shape = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (4, 1, 1), shared_mem_bytes: 0 };
//! unsafe { stream.launch_builder(&kernel).arg(&mut values).launch(shape)? };
//! assert_eq!(stream.clone_dtoh(&values)?, [2, 4, 6, 8]);
//! if let Some(counters) = gpu.counters() {
//!     assert_eq!(counters.global_read_bytes, 16); // on a virtual device
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Devices
//!
//! [`gpu`] hands out the real device where there is a driver with one, otherwise a virtual device;
//! [`virtual_gpu`] never takes the real one. The environment variable `SOFTCUDA` (`real`, `virtual`)
//! overrides the choice. One process uses one driver: the first call decides, and it must come
//! before anything else touches the driver, because that is when the library is loaded under the
//! name `libcuda.so`.
//!
//! Each virtual device is leased: it has an ordinal, a [`Config`], memory, counters and errors of
//! its own until its [`Gpu`] is dropped, so that tests in parallel threads do not disturb each
//! other. `cuDeviceGetCount` answers the highest leased ordinal plus one; an ordinal that nobody
//! has leased is `CUDA_ERROR_INVALID_DEVICE`, also when it is 0. `cuInit` always succeeds.
//!
//! Programs that know nothing of leases, in any language, get standing devices from the environment
//! variable `SOFTCUDA_DEVICES` (`80`, or `75,90`), with the library on their path as `libcuda.so`.
//!
//! What kernels print with `printf` can be taken ([`Gpu::take_output`]); otherwise it goes to standard
//! output when the lease ends, and at once on standing devices.
//!
//! # Errors
//!
//! Refusals have the driver's codes, and the reason in [`Gpu::report`]. A kernel that faults does
//! so after its launch has returned, as on hardware: the launch and whatever is enqueued after it
//! succeed (and do nothing), the first call that waits for the device answers the fault's code, and
//! from then on every call in that context does, until the context ends. What the report says of a
//! fault reads like compute-sanitizer's; [`FaultKind`] lists what is found.
//!
//! # Orders
//!
//! Work that is submitted to a stream runs when something waits for it, as late as hardware may;
//! [`Config::eager`] runs it at once. Hardware leaves open in which order streams, lanes, warps, blocks
//! and clusters run, and when copies read and arrive. [`Config::seed`] draws it: a test that runs under many seeds finds results that
//! depend on luck, and the seed reproduces them.
//! What approximate instructions give is left open too, within bounds: see [`Approximation`].
//!
//! # Failures
//!
//! [`Gpu::fail`] makes calls of a driver function fail, [`Gpu::set_memory_limit`] shrinks the memory,
//! [`Gpu::lose`] loses the device; [`Gpu::calls`] counts the calls, [`Gpu::leaks`] tells what was not
//! freed.
//!
//! # Counters
//!
//! [`Gpu::counters`] sums what kernels did, [`Gpu::launches`] and [`Gpu::kernels`] have it by launch
//! and by kernel. With [`Config::trace`] they have the [`Traffic`] too: by buffer, behind an L2
//! cache, in flight. All of them are exact, and do not depend on [`Config::workers`].
//!
//! # PTX without a driver
//!
//! [`Kernel`] runs a kernel of any PTX text with values and buffers, and so does the program
//! `softcuda` of this crate.
//!
//! # What it is not
//!
//! It executes PTX: machine code is refused with `CUDA_ERROR_NO_BINARY_FOR_GPU`, which makes
//! loaders fall back as they should. It says nothing of what `ptxas` makes of the PTX, of registers
//! or of time. Instructions that it does not have are refused, by name and line, when a module is
//! loaded. Driver functions that it does not have (arrays and textures, virtual memory management)
//! answer `CUDA_ERROR_NOT_SUPPORTED` and are named in the report.
//!
//! Linux only; the dependent crate uses cudarc with dynamic loading, its default.

#![allow(clippy::result_large_err, reason = "a fault is made once, and ends a launch")]

mod client;
mod config;
mod control;
mod driver;
mod inject;
mod kernel;
mod records;
mod schedules;
mod traffic;

#[doc(hidden)]
pub mod counters;
#[doc(hidden)]
pub mod exec;
#[doc(hidden)]
pub mod fault;
#[doc(hidden)]
pub mod lower;
#[doc(hidden)]
pub mod memory;
#[doc(hidden)]
pub mod ptx;

pub use client::{Error, Gpu, LaunchInfo, driver_present, gpu, virtual_gpu};
pub use config::{Approximation, Config};
pub use counters::{Counters, OpClass};
pub use exec::{EntryInfo, ParamInfo};
pub use fault::{AccessInfo, Fault, FaultKind};
pub use inject::When;
pub use kernel::{Arg, Kernel, Number, Ran, RunError, numbers};
pub use memory::OutOfMemory;
pub use ptx::{LoadError, LoadErrorKind};
pub use records::{KernelRecord, LaunchRecord};
pub use schedules::schedules;
pub use traffic::{Accesses, BufferTraffic, Traffic};
