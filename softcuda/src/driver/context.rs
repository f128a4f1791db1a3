//! Contexts: made, current, their limits and flags.

use std::ffi::{c_int, c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::state::{Context, current, current_unchecked, lock, with_stack};
use super::status::Status;
use super::{Answer, capture, driver, driver_api, put, put_if_wanted};

/// What `cuCtxGetApiVersion` has answered since CUDA 3.2.
const API_VERSION: c_uint = 3020;

/// Limits of a fresh context, by `CUlimit`, as drivers report them.
const LIMITS: [(u32, usize); 7] = [(0, 1024), (1, 1 << 20), (2, 8 << 20), (3, 2), (4, 2048), (5, 64), (6, 0)];

fn create(out: *mut *mut c_void, flags: c_uint, device: c_int) -> Answer {
    let device = driver()?.device(device)?;
    if out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let context = Context::create(&device, false, flags);
    // As documented, a new context becomes current on the thread that made it.
    with_stack(|stack| stack.push(context.handle))?;
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, context.handle as *mut c_void) }
}

/// The context meant by a handle, where null stands for the current one.
fn named_or_current(handle: *mut c_void) -> Answer<Arc<Context>> {
    if handle.is_null() { current_unchecked() } else { driver()?.context(handle) }
}

driver_api! {
    fn cuCtxCreate_v2(out: *mut *mut c_void, flags: c_uint, device: c_int) {
        create(out, flags, device)
    }

    fn cuCtxCreate_v3(out: *mut *mut c_void, affinity: *mut c_void, count: c_int, flags: c_uint, device: c_int) {
        if !affinity.is_null() && count != 0 {
            return Err(Status::UNSUPPORTED_EXEC_AFFINITY);
        }
        create(out, flags, device)
    }

    fn cuCtxCreate_v4(out: *mut *mut c_void, parameters: *mut c_void, flags: c_uint, device: c_int) {
        // Execution affinity and graphics interoperation, neither of which exists here.
        if !parameters.is_null() {
            return Err(Status::NOT_SUPPORTED);
        }
        create(out, flags, device)
    }

    fn cuCtxDestroy_v2(context: *mut c_void) {
        let context = driver()?.context(context)?;
        if context.is_primary {
            return Err(Status::INVALID_CONTEXT);
        }
        // Destroying the current context pops it; other threads keep a handle that is refused.
        with_stack(|stack| {
            if stack.last() == Some(&context.handle) {
                stack.pop();
            }
        })?;
        context.destroy();
        Ok(())
    }

    fn cuCtxGetCurrent(out: *mut *mut c_void) {
        driver()?;
        let top = with_stack(|stack| stack.last().copied())?.unwrap_or(0);
        put(out, top as *mut c_void)
    }

    fn cuCtxSetCurrent(context: *mut c_void) {
        if !context.is_null() {
            driver()?.context(context)?;
        }
        with_stack(|stack| {
            stack.pop();
            if !context.is_null() {
                stack.push(context as u64);
            }
        })
    }

    fn cuCtxPushCurrent_v2(context: *mut c_void) {
        let context = driver()?.context(context)?;
        with_stack(|stack| stack.push(context.handle))
    }

    fn cuCtxPopCurrent_v2(out: *mut *mut c_void) {
        driver()?;
        let top = with_stack(Vec::pop)?.ok_or(Status::INVALID_CONTEXT)?;
        put_if_wanted(out, top as *mut c_void);
        Ok(())
    }

    fn cuCtxGetDevice(out: *mut c_int) {
        put(out, current_unchecked()?.device.handle)
    }

    fn cuCtxGetDevice_v2(out: *mut c_int, context: *mut c_void) {
        put(out, named_or_current(context)?.device.handle)
    }

    fn cuCtxGetFlags(out: *mut c_uint) {
        put(out, current_unchecked()?.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: c_uint) {
        current()?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetId(context: *mut c_void, out: *mut u64) {
        put(out, named_or_current(context)?.handle)
    }

    fn cuCtxGetApiVersion(context: *mut c_void, out: *mut c_uint) {
        named_or_current(context)?;
        put(out, API_VERSION)
    }

    fn cuCtxSynchronize() {
        let context = current()?;
        capture::refuse_unsafe(&context)?;
        context.synchronise()
    }

    fn cuCtxSynchronize_v2(context: *mut c_void) {
        let context = named_or_current(context)?;
        capture::refuse_unsafe(&context)?;
        context.synchronise()
    }

    fn cuCtxGetLimit(out: *mut usize, limit: c_uint) {
        let context = current()?;
        let fresh = LIMITS.iter().find(|(number, _)| *number == limit);
        let &(_, fresh) = fresh.ok_or(Status::UNSUPPORTED_LIMIT)?;
        put(out, lock(&context.limits).get(&limit).copied().unwrap_or(fresh))
    }

    fn cuCtxSetLimit(limit: c_uint, value: usize) {
        let context = current()?;
        if !LIMITS.iter().any(|(number, _)| *number == limit) {
            return Err(Status::UNSUPPORTED_LIMIT);
        }
        lock(&context.limits).insert(limit, value);
        Ok(())
    }

    fn cuCtxGetCacheConfig(out: *mut c_uint) {
        put(out, current()?.cache_config.load(Ordering::Relaxed))
    }

    fn cuCtxSetCacheConfig(config: c_uint) {
        let context = current()?;
        if config > 3 {
            return Err(Status::INVALID_VALUE);
        }
        context.cache_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(out: *mut c_uint) {
        current()?;
        put(out, 1) // four-byte banks, the only width since capability 5.0
    }

    fn cuCtxSetSharedMemConfig(_config: c_uint) {
        current().map(|_| ())
    }

    fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        current()?;
        put_if_wanted(least, 0);
        put_if_wanted(greatest, super::stream::GREATEST_PRIORITY);
        Ok(())
    }

    fn cuCtxResetPersistingL2Cache() {
        current().map(|_| ())
    }

    fn cuProfilerStart() {
        current().map(|_| ())
    }

    fn cuProfilerStop() {
        current().map(|_| ())
    }
}
