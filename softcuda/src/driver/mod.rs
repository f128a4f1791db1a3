//! The exported driver functions.
//!
//! Handles are integers cast to pointers and looked up in tables before anything is read through
//! them, so a stale or invented handle is an error code, never undefined behaviour. Pointers to
//! host memory are the caller's responsibility, as with any driver; device addresses are checked by
//! [`Memory`](crate::memory::Memory).
//!
//! Work is submitted through one gate, [`Stream::submit`](state::Stream::submit), and runs later:
//! see [`queue`].

mod attributes;
pub(crate) mod calls;
mod capture;
mod context;
mod copy;
mod device;
mod event;
mod function;
mod graph;
mod history;
mod jit;
mod launch;
mod library;
mod linker;
mod managed;
mod memory;
mod module;
mod occupancy;
mod peer;
mod pinned;
mod pool;
mod procaddress;
mod queue;
pub(crate) mod state;
pub(crate) mod status;
mod stream;
mod unsupported;
mod work;

use std::any::Any;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

use state::{DRIVER, current_device};
use status::Status;

/// What the body of a driver function answers.
pub(crate) type Answer<T = ()> = Result<T, Status>;

/// One exported function, for `cuGetProcAddress`.
pub(crate) struct Export {
    pub(crate) name: &'static str,
    pub(crate) address: *const (),
}

// SAFETY: the address of a function is a constant; nobody writes through it.
unsafe impl Sync for Export {}

/// Defines exported driver functions: C linkage and name, panics caught, `Err` turned into the
/// code. It also defines `EXPORTS`, the table of what it defined.
///
/// The bodies may dereference the caller's pointers: like any C function they trust the host
/// pointers that they get, and nothing else.
macro_rules! driver_api {
    ($(
        $(#[$attribute:meta])*
        fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block
    )*) => {
        $(
            $(#[$attribute])*
            #[allow(non_snake_case, reason = "the driver's own name")]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
                let named = $crate::driver::named_device!($(($argument $argument))*);
                $crate::driver::guarded(stringify!($name), named, move || -> $crate::driver::Answer {
                    #[allow(unused_unsafe, reason = "not every body touches a pointer")]
                    // SAFETY: the caller of a C function vouches for the host pointers it passes.
                    unsafe { $body }
                })
            }
        )*

        pub(super) static EXPORTS: &[$crate::driver::Export] = &[
            $($crate::driver::Export { name: stringify!($name), address: $name as *const () },)*
        ];
    };
}
pub(crate) use driver_api;

/// Picks the argument that names a device out of a function's list, by what it is called. Each
/// argument comes twice: to be compared, and to be used.
macro_rules! named_device {
    ((device $value:ident) $($rest:tt)*) => { Some($value) };
    ((ordinal $value:ident) $($rest:tt)*) => { Some($value) };
    (($other:ident $value:ident) $($rest:tt)*) => { $crate::driver::named_device!($($rest)*) };
    () => { None };
}
pub(crate) use named_device;

/// The tables of exported functions, module by module.
static EXPORTED: &[&[Export]] = &[
    context::EXPORTS,
    capture::EXPORTS,
    copy::EXPORTS,
    device::EXPORTS,
    event::EXPORTS,
    function::EXPORTS,
    graph::EXPORTS[0],
    graph::EXPORTS[1],
    graph::EXPORTS[2],
    graph::EXPORTS[3],
    launch::EXPORTS,
    library::EXPORTS,
    linker::EXPORTS,
    managed::EXPORTS,
    memory::EXPORTS,
    module::EXPORTS,
    occupancy::EXPORTS,
    peer::EXPORTS,
    pool::EXPORTS,
    procaddress::EXPORTS,
    status::EXPORTS,
    stream::EXPORTS,
    unsupported::EXPORTS,
];

/// Runs the body of an exported function, unless the call is made to fail. A panic must not cross
/// the C boundary: it becomes `CUDA_ERROR_UNKNOWN` with its message in the report.
fn guarded(name: &'static str, named: Option<c_int>, body: impl FnOnce() -> Answer) -> u32 {
    let run = || {
        let _running = calls::enter(name, named)?;
        body()
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => 0,
        Ok(Err(status)) => status.0,
        Err(panic) => {
            let text = format!("softcuda: {name} failed inside: {}", panic_text(&*panic));
            // The report is a courtesy; a second failure while making it must stay here as well.
            let _ = catch_unwind(|| {
                eprintln!("{text}");
                if let Some(device) = current_device() {
                    device.note(text.clone());
                }
            });
            Status::UNKNOWN.0
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic")
}

/// The driver, once `cuInit` was called.
fn driver() -> Answer<&'static state::Driver> {
    if DRIVER.is_initialised() { Ok(&DRIVER) } else { Err(Status::NOT_INITIALIZED) }
}

/// Writes a result to where the caller wants it; null is an error, not a crash.
///
/// # Safety
/// `out` is null or valid for a write of `T`.
unsafe fn put<T>(out: *mut T, value: T) -> Answer {
    if out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { out.write_unaligned(value) };
    Ok(())
}

/// Like [`put`], for results that the caller may leave out with a null pointer.
///
/// # Safety
/// `out` is null or valid for a write of `T`.
unsafe fn put_if_wanted<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: not null, and the caller vouches for the rest.
        unsafe { out.write_unaligned(value) };
    }
}

/// The caller's string.
///
/// # Safety
/// `text` is null or points to a string that ends with a zero byte.
unsafe fn string<'a>(text: *const c_char) -> Answer<&'a str> {
    if text.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller vouches for the terminating zero.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| Status::INVALID_VALUE)
}

/// Copies a string into the caller's buffer, cut to its size and always terminated.
///
/// # Safety
/// `out` is null or valid for writes of `size` bytes.
unsafe fn put_string(out: *mut c_char, size: usize, text: &str) -> Answer {
    if out.is_null() || size == 0 {
        return Err(Status::INVALID_VALUE);
    }
    let kept = text.len().min(size - 1);
    // SAFETY: `kept + 1 <= size` bytes, for which the caller vouches.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast::<c_char>(), out, kept);
        out.add(kept).write(0);
    }
    Ok(())
}
