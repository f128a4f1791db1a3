//! The side of the crate that tests and programs link: it finds the cdylib, loads it before cudarc
//! looks for a driver, and leases devices from it.
//!
//! No state of the driver lives here. The program has a second copy of all this crate's code, in
//! the rlib that it links, and two copies of the state would be two drivers.

use std::ffi::{c_int, c_uint};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

use crate::config::Config;
use crate::control::{
    self, AllocationsFn, BuildFn, CommandFn, CountersFn, FailFn, LastLaunchFn, LaunchNumbers, Lease, LeaseFn,
    ReleaseFn, ResetCountersFn, TakeOutputFn, TextFn,
};
use crate::counters::Counters;
use crate::records::{KernelRecord, LaunchRecord};

/// Chooses between real and virtual devices: `virtual` or `real`; unset or empty takes a real one
/// where there is one.
const SWITCH: &str = "SOFTCUDA";

/// Names the cdylib.
const LIBRARY_SWITCH: &str = "SOFTCUDA_LIB";

/// The name under which cudarc asks for the driver first, and the cdylib's SONAME.
const DRIVER: &str = "libcuda.so";

/// Where real drivers are found. The name with the version comes first: a driver that is loaded
/// under the plain name would be the one that the loader finds by that name ever after.
const REAL_DRIVERS: [&str; 2] = ["libcuda.so.1", DRIVER];

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cdylib of this crate was not found, or not in the version that this program was built
    /// with.
    #[error(
        "the virtual driver libsoftcuda was not found (SOFTCUDA_LIB can name it); tried:{}",
        .tried.iter().map(|(path, why)| format!("\n  {}: {why}", path.display())).collect::<String>()
    )]
    LibraryNotFound {
        /// Every place that was tried, with the reason why it was not taken.
        tried: Vec<(PathBuf, String)>,
    },
    /// Another `libcuda.so` was loaded before this crate was asked for a device, and cudarc would
    /// use that one.
    #[error("another libcuda.so is already loaded: ask softcuda for a device before anything else uses the driver")]
    Shadowed,
    /// This process uses the real driver, and cudarc can only use one.
    #[error("this process already uses the real driver; run it with SOFTCUDA=virtual to have virtual devices")]
    RealDriverInUse,
    /// This process uses the virtual driver, and cudarc can only use one.
    #[error("SOFTCUDA=real, but this process already uses the virtual driver")]
    VirtualDriverInUse,
    /// `SOFTCUDA=real`, but there is no driver or no device.
    #[error("SOFTCUDA=real, but there is no CUDA driver with a device")]
    NoRealDevice,
    /// The environment variable `SOFTCUDA` has a value without a meaning.
    #[error("SOFTCUDA is {0:?}: it must be `real`, `virtual` or unset")]
    BadSwitch(String),
    /// No device can be made of this configuration.
    #[error("impossible device: {0}")]
    BadConfig(&'static str),
    /// All 256 ordinals are leased.
    #[error("all 256 virtual devices are leased")]
    AllLeased,
    /// The driver has no function of this name.
    #[error("the driver exports no function {0}")]
    NoSuchFunction(String),
    /// Only a virtual device can do this.
    #[error("the device is a real one")]
    RealDevice,
}

/// The cdylib's functions. The library itself is never unloaded: cudarc keeps its addresses.
pub(crate) struct Api {
    lease: LeaseFn,
    release: ReleaseFn,
    counters: CountersFn,
    reset_counters: ResetCountersFn,
    text: TextFn,
    take_output: TakeOutputFn,
    last_launch: LastLaunchFn,
    allocations: AllocationsFn,
    pub(crate) fail: FailFn,
    pub(crate) command: CommandFn,
}

/// Which driver this process uses. The first device decides it, since cudarc loads one library
/// and keeps it.
static CHOICE: Mutex<Option<Choice>> = Mutex::new(None);

#[derive(Clone, Copy)]
enum Choice {
    Real,
    Virtual(&'static Api),
}

/// A device to test on; dropping it gives it back.
///
/// A virtual device belongs to this value alone: it has its own ordinal, configuration, memory,
/// counters and errors, and whatever happens on it leaves other devices alone. When the value is
/// dropped all memory of the device is freed; contexts and slices that are still alive get error
/// codes from then on. Declare it before the contexts, so that it is dropped after them. The report
/// of a kernel's fault that nobody asked for is then printed to standard error, and so are
/// [leaks](Gpu::leaks).
#[derive(Debug)]
pub struct Gpu(pub(crate) Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Real,
    Virtual { api: &'static Api, lease: Lease, config: Config },
}

impl std::fmt::Debug for Api {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("libsoftcuda")
    }
}

/// The last kernel that was launched on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaunchInfo {
    /// Its name.
    pub kernel: String,
    /// Blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads of a block in each dimension.
    pub block: [u32; 3],
    /// Blocks of a cluster in each dimension; ones without clusters.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared: u32,
}

/// A device: the real one where there is a driver with a device, otherwise a virtual one with this
/// configuration.
///
/// The environment variable `SOFTCUDA` overrides the choice: `virtual` never takes the real device,
/// `real` demands it. The first call of the process decides for all that follow, because cudarc
/// binds itself to one driver. It must come before any other use of the driver.
///
/// # Errors
/// See [`Error`].
pub fn gpu(config: Config) -> Result<Gpu, Error> {
    let switch = std::env::var(SWITCH).unwrap_or_default();
    let mut choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    match (switch.as_str(), *choice) {
        ("" | "virtual", Some(Choice::Virtual(api))) => lease(api, config),
        ("" | "real", Some(Choice::Real)) => Ok(Gpu(Kind::Real)),
        ("virtual", Some(Choice::Real)) => Err(Error::RealDriverInUse),
        ("real", Some(Choice::Virtual(_))) => Err(Error::VirtualDriverInUse),
        ("" | "real", None) if driver_present() => {
            *choice = Some(Choice::Real);
            Ok(Gpu(Kind::Real))
        }
        ("real", None) => Err(Error::NoRealDevice),
        ("" | "virtual", None) => lease(load(&mut choice)?, config),
        _ => Err(Error::BadSwitch(switch)),
    }
}

/// A virtual device with this configuration, also where there is a real one.
///
/// # Errors
/// [`Error::RealDriverInUse`] if [`gpu`] handed out the real device in this process, and whatever
/// else [`Error`] lists for virtual devices.
pub fn virtual_gpu(config: Config) -> Result<Gpu, Error> {
    let mut choice = CHOICE.lock().unwrap_or_else(PoisonError::into_inner);
    match *choice {
        Some(Choice::Real) => Err(Error::RealDriverInUse),
        Some(Choice::Virtual(api)) => lease(api, config),
        None => lease(load(&mut choice)?, config),
    }
}

/// Whether there is a real driver with at least one device, whatever the environment variable
/// `SOFTCUDA` says.
///
/// It asks the driver itself and not cudarc, which panics where there is none.
pub fn driver_present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    *PRESENT.get_or_init(|| REAL_DRIVERS.iter().any(|name| has_device(name).unwrap_or(false)))
}

/// Whether the library of this name is a real driver with a device. It stays loaded if so.
fn has_device(name: &str) -> Result<bool, libloading::Error> {
    type Init = unsafe extern "C" fn(c_uint) -> c_uint;
    type Count = unsafe extern "C" fn(*mut c_int) -> c_uint;
    // SAFETY: loading a driver runs its initialisers, as cudarc's first call would.
    let library = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL)? };
    // SAFETY: the type is that of the function in `control`; here only its existence counts.
    if unsafe { library.get::<BuildFn>(b"softcuda_build") }.is_ok() {
        return Ok(false);
    }
    let mut count = 0;
    // SAFETY: these are the documented types of the two functions, and `count` is valid.
    let ready = unsafe {
        let (init, get_count) = (library.get::<Init>(b"cuInit")?, library.get::<Count>(b"cuDeviceGetCount")?);
        init(0) == 0 && get_count(&mut count) == 0
    };
    if ready && count > 0 {
        // cudarc opens it again; a driver that was initialised is best never unloaded.
        std::mem::forget(library);
        return Ok(true);
    }
    Ok(false)
}

/// Where the cdylib may be, best first.
fn candidates() -> Vec<PathBuf> {
    let file = libloading::library_filename("softcuda");
    if let Some(named) = std::env::var_os(LIBRARY_SWITCH).filter(|named| !named.is_empty()) {
        return vec![PathBuf::from(named)];
    }
    let mut folders = Vec::new();
    if let Some(folder) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        // Tests lie beside it in `deps`, examples and benches in sister folders of `deps`, the
        // package's programs above it.
        folders.extend([folder.to_owned(), folder.join("../deps"), folder.join("deps")]);
    }
    // Doc tests run from a temporary folder. This crate was built below the folder that has it.
    let built = Path::new(env!("OUT_DIR")).ancestors().take(6);
    let mut paths: Vec<PathBuf> = folders.iter().map(|folder| folder.join(&file)).collect();
    paths.push(PathBuf::from(&file));
    paths.extend(built.map(|folder| folder.join("deps").join(&file)));
    paths
}

/// Finds and loads the cdylib, so that the loader answers with it when cudarc asks for the driver.
fn load(choice: &mut Option<Choice>) -> Result<&'static Api, Error> {
    let mut tried = Vec::new();
    for path in candidates() {
        if path.components().count() > 1 && !path.exists() {
            tried.push((path, "no such file".to_owned()));
            continue;
        }
        match open(&path) {
            Ok(api) => {
                if !is_ours() {
                    return Err(Error::Shadowed);
                }
                let api: &'static Api = Box::leak(Box::new(api));
                *choice = Some(Choice::Virtual(api));
                return Ok(api);
            }
            Err(why) => tried.push((path, why)),
        }
    }
    Err(Error::LibraryNotFound { tried })
}

fn open(path: &Path) -> Result<Api, String> {
    let text = |error: libloading::Error| match std::error::Error::source(&error) {
        Some(reason) => format!("{error}: {reason}"),
        None => error.to_string(),
    };
    // Looked at privately first: a stale library must not take the driver's name.
    // SAFETY: the library has no initialisers of its own.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(text)?;
    // SAFETY: the type of `softcuda_build` in `control`, which no version of this crate changes.
    let build = unsafe { library.get::<BuildFn>(b"softcuda_build").map_err(text)?() };
    if build != control::build() {
        return Err("built from other sources than this program".to_owned());
    }
    // SAFETY: as above; it is the same library, now visible to all.
    std::mem::forget(unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map_err(text)?);
    // SAFETY: both sides were built from the same `control`, which declares these types.
    let api = unsafe {
        Api {
            lease: *library.get(b"softcuda_lease").map_err(text)?,
            release: *library.get(b"softcuda_release").map_err(text)?,
            counters: *library.get(b"softcuda_counters").map_err(text)?,
            reset_counters: *library.get(b"softcuda_reset_counters").map_err(text)?,
            text: *library.get(b"softcuda_text").map_err(text)?,
            take_output: *library.get(b"softcuda_take_output").map_err(text)?,
            last_launch: *library.get(b"softcuda_last_launch").map_err(text)?,
            allocations: *library.get(b"softcuda_allocations").map_err(text)?,
            fail: *library.get(b"softcuda_fail").map_err(text)?,
            command: *library.get(b"softcuda_command").map_err(text)?,
        }
    };
    std::mem::forget(library);
    Ok(api)
}

/// Whether the loader answers with the cdylib when asked for the driver.
fn is_ours() -> bool {
    // SAFETY: it is loaded already; otherwise it is a driver that cudarc would load.
    let library = unsafe { Library::open(Some(DRIVER), RTLD_NOW | RTLD_LOCAL) };
    // SAFETY: only the existence of the symbol counts.
    library.is_ok_and(|library| unsafe { library.get::<BuildFn>(b"softcuda_build").is_ok() })
}

fn lease(api: &'static Api, config: Config) -> Result<Gpu, Error> {
    if let Some(fault) = config.fault() {
        return Err(Error::BadConfig(fault));
    }
    // SAFETY: the configuration is valid for the call.
    let lease = unsafe { (api.lease)(&config) };
    if lease.handle == 0 { Err(Error::AllLeased) } else { Ok(Gpu(Kind::Virtual { api, lease, config })) }
}

impl Gpu {
    /// The ordinal to make a context with: `CudaContext::new(gpu.ordinal())`.
    pub fn ordinal(&self) -> usize {
        match &self.0 {
            Kind::Real => 0,
            Kind::Virtual { lease, .. } => lease.ordinal as usize,
        }
    }

    /// Whether kernels are interpreted.
    pub fn is_virtual(&self) -> bool {
        matches!(self.0, Kind::Virtual { .. })
    }

    /// The configuration it was leased with; `None` for a real device.
    pub fn config(&self) -> Option<Config> {
        match &self.0 {
            Kind::Real => None,
            Kind::Virtual { config, .. } => Some(*config),
        }
    }

    /// What kernels did since the lease began or the counters were last reset; `None` for a real
    /// device. A kernel that faulted is not counted.
    pub fn counters(&self) -> Option<Counters> {
        let Kind::Virtual { api, lease, .. } = &self.0 else { return None };
        let mut counters = Counters::default();
        // SAFETY: `counters` is valid for the write.
        unsafe { (api.counters)(lease.handle, &mut counters) }.then_some(counters)
    }

    /// What each launch did since the lease began or the counters were last reset, the last 1024 of
    /// them; `None` for a real device. A kernel that faulted is not among them.
    pub fn launches(&self) -> Option<Vec<LaunchRecord>> {
        serde_json::from_str(&self.text(control::TEXT_LAUNCHES)?).ok()
    }

    /// The same, summed by the kernel's name, for all launches; sorted by name.
    pub fn kernels(&self) -> Option<Vec<KernelRecord>> {
        serde_json::from_str(&self.text(control::TEXT_KERNELS)?).ok()
    }

    /// Sets the counters to zero and forgets the launches. On a real device it does nothing.
    pub fn reset_counters(&self) {
        if let Kind::Virtual { api, lease, .. } = &self.0 {
            // SAFETY: the function takes a handle only.
            unsafe { (api.reset_counters)(lease.handle) };
        }
    }

    /// The text of the last fault of a kernel, refused launch or module, or unsupported call;
    /// `None` if there was none, and for a real device.
    pub fn report(&self) -> Option<String> {
        self.text(control::TEXT_REPORT)
    }

    /// What kernels printed with `printf` since it was last taken, threads in the order in which they
    /// printed; `None` for a real device, which prints to standard output by itself. What nobody
    /// takes goes to standard output when the device is dropped. As on hardware, the buffer holds a
    /// megabyte, and of more the oldest text is lost.
    pub fn take_output(&self) -> Option<String> {
        let Kind::Virtual { api, lease, .. } = &self.0 else { return None };
        let mut bytes = Vec::new();
        loop {
            // SAFETY: the buffer has the room that is passed along.
            let whole = unsafe { (api.take_output)(lease.handle, bytes.as_mut_ptr(), bytes.len()) };
            let whole = usize::try_from(whole).ok()?;
            if whole <= bytes.len() {
                bytes.truncate(whole);
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            bytes.resize(whole, 0);
        }
    }

    /// The last kernel that was launched; `None` if there was none, and for a real device.
    pub fn last_launch(&self) -> Option<LaunchInfo> {
        let Kind::Virtual { api, lease, .. } = &self.0 else { return None };
        let mut numbers = LaunchNumbers::default();
        // SAFETY: `numbers` is valid for the write.
        let launched = unsafe { (api.last_launch)(lease.handle, &mut numbers) };
        let LaunchNumbers { grid, block, cluster, dynamic_shared } = numbers;
        let kernel = self.text(control::TEXT_KERNEL).filter(|_| launched)?;
        Some(LaunchInfo { kernel, grid, block, cluster, dynamic_shared })
    }

    /// Allocations of device memory that were not freed, and their bytes; `None` for a real device.
    /// At the end of a test this is what it leaked.
    pub fn live_allocations(&self) -> Option<(u64, u64)> {
        let Kind::Virtual { api, lease, .. } = &self.0 else { return None };
        let (mut count, mut bytes) = (0, 0);
        // SAFETY: both are valid for the writes.
        unsafe { (api.allocations)(lease.handle, &mut count, &mut bytes) }.then_some((count, bytes))
    }

    pub(crate) fn text(&self, which: u32) -> Option<String> {
        let Kind::Virtual { api, lease, .. } = &self.0 else { return None };
        let mut text = Vec::new();
        loop {
            // SAFETY: the buffer has the room that is passed along.
            let whole = unsafe { (api.text)(lease.handle, which, text.as_mut_ptr(), text.len()) };
            let whole = usize::try_from(whole).ok()?;
            // It may have grown between the two calls.
            if whole <= text.len() {
                text.truncate(whole);
                return Some(String::from_utf8_lossy(&text).into_owned());
            }
            text.resize(whole, 0);
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if let Kind::Virtual { api, lease, .. } = &self.0 {
            if let Some(output) = self.take_output().filter(|output| !output.is_empty()) {
                print!("{output}");
            }
            // A test that fails on the code alone shows the reason as well. It is printed here and
            // not in the driver, whose copy of the standard library knows nothing of the test
            // harness that captures the output.
            if let Some(report) = self.text(control::TEXT_UNREAD_FAULT) {
                eprintln!("softcuda: a kernel made an error that nobody asked about\n{report}");
            }
            for leak in self.text(control::TEXT_UNREAD_LEAKS).iter().flat_map(|leaks| leaks.lines()) {
                eprintln!("softcuda: leaked {leak}");
            }
            // SAFETY: the function takes a handle only.
            unsafe { (api.release)(lease.handle) };
        }
    }
}
