//! Libraries: code that belongs to no context. It is loaded into a context when a kernel or a
//! variable of it is asked for there.

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::{Arc, Mutex};

use super::function::{self, attribute, c_name, parameter, set_attribute};
use super::jit::{self, LogBuffers, Refusal};
use super::module::{self, function as function_of};
use super::state::{Context, DRIVER, Function, Module, current, current_device, end, live, lock};
use super::status::Status;
use super::{Answer, driver, driver_api, put, put_if_wanted, string};
use crate::exec;

/// A library.
pub(crate) struct Library {
    handle: u64,
    image: Vec<u8>,
    /// Names of its kernels.
    names: Vec<String>,
    /// Where it is loaded, by context.
    modules: Mutex<HashMap<u64, Arc<Module>>>,
    /// Handles of the kernels asked for so far.
    kernels: Mutex<HashMap<String, u64>>,
}

/// A kernel of a library: a function in every context.
pub(crate) struct Kernel {
    pub(super) library: Arc<Library>,
    pub(super) name: String,
}

impl Library {
    /// The library as a module of a context.
    fn module(&self, context: &Arc<Context>) -> Answer<Arc<Module>> {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(&context.handle) {
            return Ok(module.clone());
        }
        let loaded = jit::load_bytes(self.image.clone(), context);
        let module = loaded.map_err(|Refusal { status, log }| context.device.refuse(status, log))?;
        modules.insert(context.handle, module.clone());
        Ok(module)
    }

    /// A context has ended, and its modules with it.
    pub(super) fn forget(&self, context: u64) {
        lock(&self.modules).remove(&context);
    }

    fn kernel(self: &Arc<Library>, name: &str) -> Answer<u64> {
        if !self.names.iter().any(|known| known == name) {
            let reason = format!("the library has no kernel {name}");
            return Err(current_device().map_or(Status::NOT_FOUND, |device| device.refuse(Status::NOT_FOUND, reason)));
        }
        let mut kernels = lock(&self.kernels);
        let handle = *kernels.entry(name.to_owned()).or_insert_with(|| DRIVER.new_handle());
        DRIVER.kernels.insert(handle, Arc::new(Kernel { library: self.clone(), name: name.to_owned() }));
        Ok(handle)
    }
}

impl Kernel {
    /// The handle of the kernel's function in a context.
    fn function_handle(&self, context: &Arc<Context>) -> Answer<u64> {
        function_of(&self.library.module(context)?, &self.name)
    }

    /// The kernel's function in a context.
    pub(super) fn function(&self, context: &Arc<Context>) -> Answer<Arc<Function>> {
        live(&DRIVER.functions, self.function_handle(context)? as *mut c_void)
    }
}

/// The kernel's function on a device: in the current context, or else in the primary one.
fn on_device(kernel: *mut c_void, device: c_int) -> Answer<Arc<Function>> {
    let (kernel, device) = (live(&driver()?.kernels, kernel)?, driver()?.device(device)?);
    let here = current().ok().filter(|context| Arc::ptr_eq(&context.device, &device));
    let context = here.or_else(|| lock(&device.primary).context.clone()).ok_or(Status::INVALID_CONTEXT)?;
    kernel.function(&context)
}

/// Makes a library of an image. It must load in the current context; without one, anywhere.
///
/// # Safety
/// The log buffers are valid for their sizes.
unsafe fn make(out: *mut *mut c_void, image: Vec<u8>, logs: &LogBuffers) -> Answer {
    driver()?;
    if out.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    let context = current().ok();
    let loaded = match &context {
        Some(context) => jit::load_bytes(image.clone(), context).map(|module| (names(&module.code), Some(module))),
        None => jit::load_nowhere(&image).map(|code| (names(&code), None)),
    };
    // SAFETY: the caller vouches for the buffers.
    unsafe { logs.write(loaded.as_ref().err().map_or("", |refusal| &refusal.log)) };
    let (names, module) = loaded.map_err(|Refusal { status, log }| match &context {
        Some(context) => context.device.refuse(status, log),
        None => status,
    })?;
    let handle = DRIVER.new_handle();
    let modules = module.map(|module| (module.context.handle, module)).into_iter().collect();
    let library = Library { handle, image, names, modules: Mutex::new(modules), kernels: Mutex::default() };
    DRIVER.libraries.insert(handle, Arc::new(library));
    // SAFETY: the caller of the exported function vouches for `out`.
    unsafe { put(out, handle as *mut c_void) }
}

fn names(code: &exec::Module) -> Vec<String> {
    code.entries().map(str::to_owned).collect()
}

/// The log options among those of the compiler.
///
/// # Safety
/// As for [`LogBuffers::read`].
unsafe fn logs(options: *const u32, values: *mut *mut c_void, count: c_uint) -> Answer<LogBuffers> {
    // SAFETY: the caller vouches for the lists.
    unsafe { LogBuffers::read(count, options, values) }
}

driver_api! {
    fn cuLibraryLoadData(
        out: *mut *mut c_void, image: *const c_void,
        options: *const u32, values: *mut *mut c_void, count: c_uint,
        _library_options: *const u32, _library_values: *const *mut c_void, _library_count: c_uint,
    ) {
        make(out, jit::bytes_of(image)?, &logs(options, values, count)?)
    }

    fn cuLibraryLoadFromFile(
        out: *mut *mut c_void, path: *const c_char,
        options: *const u32, values: *mut *mut c_void, count: c_uint,
        _library_options: *const u32, _library_values: *const *mut c_void, _library_count: c_uint,
    ) {
        make(out, module::read_file(path)?, &logs(options, values, count)?)
    }

    fn cuLibraryUnload(library: *mut c_void) {
        let library = end(&driver()?.libraries, library)?;
        DRIVER.kernels.remove_all(|kernel| kernel.library.handle == library.handle);
        for module in std::mem::take(&mut *lock(&library.modules)).into_values() {
            // Contexts that have ended have taken theirs along.
            if DRIVER.modules.remove(module.handle).is_some() {
                module::unload(&module);
            }
        }
        Ok(())
    }

    fn cuLibraryGetKernel(out: *mut *mut c_void, library: *mut c_void, name: *const c_char) {
        let library = live(&driver()?.libraries, library)?;
        put(out, library.kernel(string(name)?)? as *mut c_void)
    }

    fn cuLibraryGetKernelCount(out: *mut c_uint, library: *mut c_void) {
        put(out, live(&driver()?.libraries, library)?.names.len() as c_uint)
    }

    fn cuLibraryEnumerateKernels(out: *mut *mut c_void, room: c_uint, library: *mut c_void) {
        let library = live(&driver()?.libraries, library)?;
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        for (index, name) in library.names.iter().take(room as usize).enumerate() {
            put(out.add(index), library.kernel(name)? as *mut c_void)?;
        }
        Ok(())
    }

    fn cuLibraryGetModule(out: *mut *mut c_void, library: *mut c_void) {
        let library = live(&driver()?.libraries, library)?;
        put(out, library.module(&current()?)?.handle as *mut c_void)
    }

    fn cuLibraryGetGlobal(address: *mut u64, bytes: *mut usize, library: *mut c_void, name: *const c_char) {
        let library = live(&driver()?.libraries, library)?;
        let (start, size) = module::global(&*library.module(&current()?)?, string(name)?)?;
        put_if_wanted(address, start);
        put_if_wanted(bytes, size as usize);
        Ok(())
    }

    fn cuLibraryGetManaged(_address: *mut u64, _bytes: *mut usize, library: *mut c_void, _name: *const c_char) {
        live(&driver()?.libraries, library)?;
        // PTX variables are never managed here: `.attribute(.managed)` is refused at load time.
        Err(Status::NOT_FOUND)
    }

    fn cuKernelGetFunction(out: *mut *mut c_void, kernel: *mut c_void) {
        let kernel = live(&driver()?.kernels, kernel)?;
        put(out, kernel.function_handle(&current()?)? as *mut c_void)
    }

    fn cuKernelGetLibrary(out: *mut *mut c_void, kernel: *mut c_void) {
        put(out, live(&driver()?.kernels, kernel)?.library.handle as *mut c_void)
    }

    fn cuKernelGetName(out: *mut *const c_char, kernel: *mut c_void) {
        put(out, c_name(&live(&driver()?.kernels, kernel)?.name)?)
    }

    fn cuKernelGetAttribute(out: *mut c_int, number: c_uint, kernel: *mut c_void, device: c_int) {
        put(out, attribute(&*on_device(kernel, device)?, number)?)
    }

    fn cuKernelSetAttribute(number: c_uint, value: c_int, kernel: *mut c_void, device: c_int) {
        set_attribute(&*on_device(kernel, device)?, number, value)
    }

    fn cuKernelSetCacheConfig(kernel: *mut c_void, config: c_uint, device: c_int) {
        function::set_cache_config(&*on_device(kernel, device)?, config)
    }

    fn cuKernelGetParamInfo(kernel: *mut c_void, index: usize, offset: *mut usize, size: *mut usize) {
        let kernel = live(&driver()?.kernels, kernel)?;
        parameter(&*kernel.function(&current()?)?, index, offset, size)
    }

    fn cuKernelGetParamCount(kernel: *mut c_void, out: *mut usize) {
        let kernel = live(&driver()?.kernels, kernel)?;
        put(out, kernel.function(&current()?)?.info.params.len())
    }
}
