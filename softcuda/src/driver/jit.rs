//! What the driver's compiler does before the engine sees a module: it recognises images, refuses
//! PTX that is too new for the driver or the device, and writes its log.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use super::Answer;
use super::state::{Context, DRIVER, Module};
use super::status::Status;
use crate::exec::{self, LoadErrorKind};
use crate::memory::Memory;

/// First bytes of machine code: an ELF file, a fat binary, the wrapper that nvcc puts around one.
const BINARY_MAGIC: [[u8; 4]; 3] = [*b"\x7fELF", 0xBA55_ED50_u32.to_le_bytes(), 0x4662_43B1_u32.to_le_bytes()];

/// Why a module was refused: the code, and the text for the log.
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) log: String,
}

fn refusal(status: Status, log: impl Into<String>) -> Refusal {
    Refusal { status, log: log.into() }
}

/// Whether an image is machine code. It stops at the first byte that decides, since text may end
/// right after it.
///
/// # Safety
/// `image` is the start of an image: text with a terminating zero, or a binary.
unsafe fn is_binary(image: *const u8) -> bool {
    BINARY_MAGIC.iter().any(|magic| {
        let mut bytes = magic.iter().enumerate();
        // SAFETY: no magic number contains a zero before its end, so this stops at a text's.
        bytes.all(|(index, byte)| unsafe { image.add(index).read() } == *byte)
    })
}

/// The newest PTX that a driver reads.
fn newest_ptx(driver_version: u32) -> (u32, u32) {
    let (major, minor) = (driver_version / 1000, driver_version % 1000 / 10);
    match (major, minor) {
        (..11, _) => (6, 5),
        (11, _) => (7, minor),
        // PTX and CUDA counted together until 12.5; 12.6 brought no new PTX.
        (12, ..=5) => (8, minor),
        (12, _) => (8, minor - 1),
        _ => (major - 4, minor),
    }
}

/// Loads an image into a context.
///
/// # Safety
/// `image` is a binary, or text with a terminating zero.
pub(super) unsafe fn load_image(image: *const c_void, context: &Arc<Context>) -> Result<Arc<Module>, Refusal> {
    if image.is_null() {
        return Err(refusal(Status::INVALID_VALUE, "the image is a null pointer"));
    }
    // SAFETY: not null, and the caller vouches for the rest.
    if unsafe { is_binary(image.cast::<u8>()) } {
        let log = "machine code: a virtual device executes PTX only";
        return Err(refusal(Status::NO_BINARY_FOR_GPU, log));
    }
    // SAFETY: not a binary, so the caller vouches for the terminating zero.
    let text = unsafe { CStr::from_ptr(image.cast::<c_char>()) };
    load_text(&text.to_string_lossy(), context)
}

/// Loads an image that came from a file, whose size is known.
pub(super) fn load_bytes(mut image: Vec<u8>, context: &Arc<Context>) -> Result<Arc<Module>, Refusal> {
    image.push(0);
    // SAFETY: the zero was just appended.
    unsafe { load_image(image.as_ptr().cast(), context) }
}

/// A copy of an image that is kept.
///
/// # Safety
/// As for [`load_image`].
pub(super) unsafe fn bytes_of(image: *const c_void) -> Answer<Vec<u8>> {
    if image.is_null() {
        return Err(Status::INVALID_VALUE);
    }
    // SAFETY: not null, and the caller vouches for the rest. Of machine code, which is refused
    // whatever follows, the magic number is enough.
    unsafe {
        if is_binary(image.cast::<u8>()) {
            return Ok(std::slice::from_raw_parts(image.cast::<u8>(), BINARY_MAGIC[0].len()).to_vec());
        }
        Ok(CStr::from_ptr(image.cast::<c_char>()).to_bytes().to_vec())
    }
}

/// Reads an image for what is in it; it is loaded into no context.
pub(super) fn load_nowhere(image: &[u8]) -> Result<exec::Module, Refusal> {
    if BINARY_MAGIC.iter().any(|magic| image.starts_with(magic)) {
        return Err(refusal(Status::NO_BINARY_FOR_GPU, "machine code: a virtual device executes PTX only"));
    }
    let text = String::from_utf8_lossy(image);
    // Variables need memory of some device while the text is read.
    exec::Module::load(&text, &Memory::new(1 << 40)).map_err(|error| refusal(Status::INVALID_PTX, error.to_string()))
}

fn load_text(text: &str, context: &Arc<Context>) -> Result<Arc<Module>, Refusal> {
    let config = &context.device.config;
    let Some(version) = exec::Module::ptx_version(text) else {
        let log = "neither PTX (there is no .version directive) nor machine code";
        return Err(refusal(Status::INVALID_IMAGE, log));
    };
    let newest = newest_ptx(config.driver_version);
    if version > newest {
        let log =
            format!("Unsupported .version {}.{}; current version is '{}.{}'", version.0, version.1, newest.0, newest.1);
        return Err(refusal(Status::UNSUPPORTED_PTX_VERSION, log));
    }
    let Some((target, specific)) = exec::Module::ptx_target(text) else {
        return Err(refusal(Status::INVALID_PTX, "there is no .target directive"));
    };
    let capability = config.capability_major * 10 + config.capability_minor;
    // Code for an architecture or family with its own features runs nowhere else, older or newer.
    if target > capability || (specific && target != capability) {
        let suffix = if specific { "a or f" } else { "" };
        let log = format!("PTX for sm_{target}{suffix} does not run on sm_{capability}");
        return Err(refusal(Status::NO_BINARY_FOR_GPU, log));
    }
    let code = exec::Module::load(text, &context.device.memory).map_err(|error| {
        let status = match error.kind {
            LoadErrorKind::OutOfMemory => Status::OUT_OF_MEMORY,
            _ => Status::INVALID_PTX,
        };
        refusal(status, error.to_string())
    })?;
    if let Some(log) = too_much_shared(&code, config.shared_per_block) {
        code.unload(&context.device.memory);
        return Err(refusal(Status::INVALID_PTX, log));
    }
    let handle = DRIVER.new_handle();
    let module = Arc::new(Module { handle, context: context.clone(), code, target, functions: Default::default() });
    DRIVER.modules.insert(handle, module.clone());
    Ok(module)
}

/// Static shared memory has no opting in: more than the default is an error of `ptxas`.
fn too_much_shared(code: &exec::Module, most: u32) -> Option<String> {
    let mut entries = code.entries().filter_map(|name| code.entry(name)).map(|entry| code.entry_info(entry));
    let entry = entries.find(|info| info.static_shared > most)?;
    let (name, bytes) = (entry.name, entry.static_shared);
    Some(format!("Entry function '{name}' uses too much shared data ({bytes:#x} bytes, {most:#x} max)"))
}

/// `CUjit_option`s that ask for a log.
const INFO_LOG: u32 = 3;
const INFO_LOG_SIZE: u32 = 4;
const ERROR_LOG: u32 = 5;
const ERROR_LOG_SIZE: u32 = 6;

/// Where the caller wants the compiler's log.
#[derive(Default)]
pub(super) struct LogBuffers {
    error: Option<*mut c_char>,
    error_size: Option<*mut *mut c_void>,
    info: Option<*mut c_char>,
    info_size: Option<*mut *mut c_void>,
}

impl LogBuffers {
    /// Picks the log options out of the list; all other options change nothing here.
    ///
    /// # Safety
    /// `options` and `values` are valid for `count` elements.
    pub(super) unsafe fn read(count: u32, options: *const u32, values: *mut *mut c_void) -> Answer<LogBuffers> {
        let mut buffers = LogBuffers::default();
        if count > 0 && (options.is_null() || values.is_null()) {
            return Err(Status::INVALID_VALUE);
        }
        for index in 0..count as usize {
            // SAFETY: within the `count` elements for which the caller vouches.
            let (option, place) = unsafe { (options.add(index).read(), values.add(index)) };
            // SAFETY: as above.
            let value = unsafe { place.read() };
            match option {
                INFO_LOG => buffers.info = Some(value.cast()),
                INFO_LOG_SIZE => buffers.info_size = Some(place),
                ERROR_LOG => buffers.error = Some(value.cast()),
                ERROR_LOG_SIZE => buffers.error_size = Some(place),
                _ => {}
            }
        }
        Ok(buffers)
    }

    /// Writes the error log, and empties the information log.
    ///
    /// # Safety
    /// The buffers are as large as their sizes say.
    pub(super) unsafe fn write(&self, error: &str) {
        for (buffer, size, text) in [(self.error, self.error_size, error), (self.info, self.info_size, "")] {
            let Some((buffer, size)) = buffer.zip(size) else { continue };
            // Sizes are passed as values in the pointer's place, and come back the same way: the
            // bytes written.
            // SAFETY: `size` points into the caller's list of option values.
            let room = unsafe { size.read() } as usize;
            // SAFETY: the caller vouches for `room` bytes. A refused buffer is the caller's choice.
            let written = unsafe { super::put_string(buffer, room, text) };
            let used = if written.is_ok() { (text.len() + 1).min(room) } else { 0 };
            // SAFETY: as for the read.
            unsafe { size.write(used as *mut c_void) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_reads_the_ptx_of_its_own_release() {
        let table = [
            (11_080, (7, 8)),
            (12_010, (8, 1)),
            (12_050, (8, 5)),
            (12_060, (8, 5)),
            (12_080, (8, 7)),
            (12_090, (8, 8)),
            (13_000, (9, 0)),
            (13_050, (9, 5)),
        ];
        for (driver, ptx) in table {
            assert_eq!(newest_ptx(driver), ptx, "CUDA {driver}");
        }
    }
}
