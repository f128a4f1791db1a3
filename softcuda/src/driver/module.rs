//! Modules.

use std::ffi::{c_char, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::jit::{self, LogBuffers, Refusal};
use super::state::{
    Context, DRIVER, Function, FunctionSettings, Module, current, current_device, current_unchecked, end, live, lock,
};
use super::status::Status;
use super::{Answer, driver, driver_api, put, put_if_wanted, string};

/// The context to load into, if there is somewhere to put the module's handle.
fn target(out: *mut *mut c_void) -> Answer<Arc<Context>> {
    let context = current()?;
    if out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    context.verdict()?;
    Ok(context)
}

/// Hands out a module, or the refusal with its log in the device's report.
fn finish(out: *mut *mut c_void, loaded: Result<Arc<Module>, Refusal>, context: &Context) -> Answer {
    match loaded {
        // SAFETY: the caller of the exported function vouches for `out`.
        Ok(module) => unsafe { put(out, module.handle as *mut c_void) },
        Err(refusal) => Err(context.device.refuse(refusal.status, refusal.log)),
    }
}

/// The function object of a kernel; the same one each time, since attributes stay set.
pub(super) fn function(module: &Arc<Module>, name: &str) -> Answer<u64> {
    let device = &module.context.device;
    let mut functions = lock(&module.functions);
    if let Some(handle) = functions.get(name) {
        return Ok(*handle);
    }
    let Some(entry) = module.code.entry(name) else {
        return Err(device.refuse(Status::NOT_FOUND, format!("the module has no kernel {name}")));
    };
    let info = module.code.entry_info(entry);
    let settings = FunctionSettings {
        max_dynamic_shared: device.config.shared_per_block.saturating_sub(info.static_shared),
        carveout: -1,
        cache_config: module.context.cache_config.load(Ordering::Relaxed),
        non_portable_cluster: false,
        required_cluster: info.cluster.unwrap_or([0; 3]),
        cluster_scheduling: 0,
    };
    let handle = DRIVER.new_handle();
    let function = Function { module: module.clone(), entry, info, settings: Mutex::new(settings) };
    DRIVER.functions.insert(handle, Arc::new(function));
    functions.insert(name.to_owned(), handle);
    Ok(handle)
}

/// What a file contains.
///
/// # Safety
/// `path` is null or ends with a zero byte.
pub(super) unsafe fn read_file(path: *const c_char) -> Answer<Vec<u8>> {
    if path.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller vouches for the terminating zero.
    let path = Path::new(std::ffi::OsStr::from_bytes(unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes()));
    std::fs::read(path).map_err(|error| match current_device() {
        Some(device) => device.refuse(Status::FILE_NOT_FOUND, format!("{}: {error}", path.display())),
        None => Status::FILE_NOT_FOUND,
    })
}

/// Address and size of a variable.
pub(super) fn global(module: &Module, name: &str) -> Answer<(u64, u64)> {
    module.code.global(name).ok_or_else(|| {
        let reason = format!("the module has no variable {name}");
        module.context.device.refuse(Status::NOT_FOUND, reason)
    })
}

/// Ends a module that is in no table any more.
pub(super) fn unload(module: &Arc<Module>) {
    DRIVER.functions.remove_all(|function| Arc::ptr_eq(&function.module, module));
    module.unload();
}

driver_api! {
    fn cuModuleLoad(out: *mut *mut c_void, path: *const c_char) {
        let context = target(out)?;
        let image = read_file(path)?;
        finish(out, jit::load_bytes(image, &context), &context)
    }

    fn cuModuleLoadData(out: *mut *mut c_void, image: *const c_void) {
        let context = target(out)?;
        finish(out, jit::load_image(image, &context), &context)
    }

    fn cuModuleLoadDataEx(out: *mut *mut c_void, image: *const c_void, count: c_uint, options: *const u32, values: *mut *mut c_void) {
        let context = target(out)?;
        let logs = LogBuffers::read(count, options, values)?;
        let loaded = jit::load_image(image, &context);
        logs.write(loaded.as_ref().err().map_or("", |refusal| &refusal.log));
        finish(out, loaded, &context)
    }

    fn cuModuleLoadFatBinary(out: *mut *mut c_void, image: *const c_void) {
        let context = target(out)?;
        finish(out, jit::load_image(image, &context), &context)
    }

    fn cuModuleUnload(module: *mut c_void) {
        current_unchecked()?;
        let module = end(&driver()?.modules, module)?;
        unload(&module);
        module.context.verdict()
    }

    fn cuModuleGetFunction(out: *mut *mut c_void, module: *mut c_void, name: *const c_char) {
        current()?;
        let module = live(&driver()?.modules, module)?;
        put(out, function(&module, string(name)?)? as *mut c_void)
    }

    fn cuModuleGetGlobal_v2(address: *mut u64, bytes: *mut usize, module: *mut c_void, name: *const c_char) {
        current()?;
        let module = live(&driver()?.modules, module)?;
        let (start, size) = global(&module, string(name)?)?;
        put_if_wanted(address, start);
        put_if_wanted(bytes, size as usize);
        Ok(())
    }

    fn cuModuleGetFunctionCount(out: *mut c_uint, module: *mut c_void) {
        current()?;
        put(out, live(&driver()?.modules, module)?.code.entries().count() as c_uint)
    }

    fn cuModuleEnumerateFunctions(out: *mut *mut c_void, room: c_uint, module: *mut c_void) {
        current()?;
        let module = live(&driver()?.modules, module)?;
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        for (index, name) in module.code.entries().take(room as usize).enumerate() {
            put(out.add(index), function(&module, name)? as *mut c_void)?;
        }
        Ok(())
    }

    fn cuModuleGetLoadingMode(out: *mut c_uint) {
        put(out, 1) // eager
    }
}
