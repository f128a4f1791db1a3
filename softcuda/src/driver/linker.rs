//! The linker, for what does not need one: a single piece of PTX comes out as it went in. (The
//! "machine code" that is handed out is that text, which loads like any.)

use std::ffi::{CString, c_char, c_uint, c_void};
use std::sync::{Arc, Mutex};

use super::module::read_file;
use super::state::{Context, DRIVER, current, current_unchecked, end, live, lock};
use super::status::Status;
use super::{Answer, driver, driver_api, put, put_if_wanted};

/// `CU_JIT_INPUT_PTX`.
const PTX: c_uint = 1;

/// A linker's state.
pub(crate) struct Link {
    context: Arc<Context>,
    text: Mutex<Option<CString>>,
}

impl Link {
    pub(super) fn belongs_to(&self, context: u64) -> bool {
        self.context.handle == context
    }

    fn add(&self, kind: c_uint, data: &[u8]) -> Answer {
        let device = &self.context.device;
        let refuse = |status, reason: &str| Err(device.refuse(status, format!("linking: {reason}")));
        if kind != PTX {
            return refuse(Status::NO_BINARY_FOR_GPU, "a virtual device executes PTX only");
        }
        let text = data.split(|byte| *byte == 0).next().unwrap_or_default();
        let Ok(text) = CString::new(text) else { return Err(Status::INVALID_IMAGE) };
        let mut held = lock(&self.text);
        if held.is_some() {
            return refuse(Status::NOT_SUPPORTED, "several modules into one");
        }
        *held = Some(text);
        Ok(())
    }
}

driver_api! {
    fn cuLinkCreate_v2(_count: c_uint, _options: *const u32, _values: *const *mut c_void, out: *mut *mut c_void) {
        let context = current()?;
        if out.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        let handle = DRIVER.new_handle();
        DRIVER.links.insert(handle, Arc::new(Link { context, text: Mutex::default() }));
        put(out, handle as *mut c_void)
    }

    fn cuLinkAddData_v2(
        state: *mut c_void, kind: c_uint, data: *const c_void, size: usize, _name: *const c_char,
        _count: c_uint, _options: *const u32, _values: *const *mut c_void,
    ) {
        current()?;
        let link = live(&driver()?.links, state)?;
        if data.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        link.add(kind, std::slice::from_raw_parts(data.cast::<u8>(), size))
    }

    fn cuLinkAddFile_v2(
        state: *mut c_void, kind: c_uint, path: *const c_char,
        _count: c_uint, _options: *const u32, _values: *const *mut c_void,
    ) {
        current()?;
        live(&driver()?.links, state)?.add(kind, &read_file(path)?)
    }

    fn cuLinkComplete(state: *mut c_void, out: *mut *const c_void, size: *mut usize) {
        current()?;
        let link = live(&driver()?.links, state)?;
        let text = lock(&link.text);
        let text = text.as_ref().ok_or(Status::INVALID_VALUE)?;
        // Valid until the state is destroyed, as documented: nothing else is added to it.
        put(out, text.as_ptr().cast())?;
        put_if_wanted(size, text.as_bytes_with_nul().len());
        Ok(())
    }

    fn cuLinkDestroy(state: *mut c_void) {
        current_unchecked()?;
        end(&driver()?.links, state).map(|_| ())
    }
}
