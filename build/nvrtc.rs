//! NVRTC: where it is, and compiling with it through cudarc.

use std::env;
use std::ffi::{CString, c_int};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use cudarc::nvrtc::{result, sys};

use crate::sources::Source;

/// What to compile to: `Ptx(80)` is compute_80, `MachineCode(80)` is sm_80.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// PTX for a virtual architecture.
    Ptx(u32),
    /// Machine code for a real architecture.
    MachineCode(u32),
}

/// A loaded NVRTC.
pub struct Nvrtc {
    /// Where it was found, for messages.
    pub origin: String,
    /// Major and minor version.
    pub version: (u32, u32),
    // Keeps the library that cudarc resolved by name.
    _library: libloading::Library,
}

/// Names that cudarc asks the loader for, as far as Linux has them.
const NAMES: [&str; 4] = ["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11"];

impl Nvrtc {
    /// Finds NVRTC: `ZLPR_NVRTC` (the library, its folder, or `none`), then `CUDA_HOME` / `CUDA_PATH`, the
    /// loader's path, the active Python's `nvidia` wheels. `None`: there is none, or none is wanted.
    ///
    /// # Errors
    /// If `ZLPR_NVRTC` names something that is no NVRTC, or cudarc resolves another library than this one.
    pub fn find() -> Result<Option<Nvrtc>> {
        match env::var("ZLPR_NVRTC") {
            Ok(wanted) if wanted == "none" => return Ok(None),
            Ok(wanted) if !wanted.is_empty() => {
                let path = Path::new(&wanted);
                let found = if path.is_dir() { in_folder(path) } else { Some(path.to_path_buf()) };
                let path = found.with_context(|| format!("ZLPR_NVRTC={wanted}: no libnvrtc in this folder"))?;
                return Nvrtc::open(&path).with_context(|| format!("ZLPR_NVRTC={wanted}")).map(Some);
            }
            _ => {}
        }
        let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os).map(PathBuf::from);
        for toolkit in toolkits {
            if let Some(path) =
                ["lib64", "lib", "targets/x86_64-linux/lib"].iter().find_map(|f| in_folder(&toolkit.join(f)))
            {
                return Nvrtc::open(&path).map(Some);
            }
        }
        for name in NAMES {
            // SAFETY: NVRTC has no load-time side effects besides its own initialisers.
            if let Ok(library) = unsafe { libloading::Library::new(name) } {
                return Nvrtc::check(library, name.into()).map(Some);
            }
        }
        match python_packages().iter().find_map(|packages| in_wheels(packages)) {
            Some(path) => Nvrtc::open(&path).map(Some),
            None => Ok(None),
        }
    }

    /// Loads the library at `path` before cudarc looks for it: cudarc asks for bare names, and a library that
    /// is already loaded under such a name (its SONAME) wins.
    ///
    /// # Errors
    /// If it cannot be loaded, or cudarc resolves another library.
    pub fn open(path: &Path) -> Result<Nvrtc> {
        let path = path.canonicalize().with_context(|| format!("no file {}", path.display()))?;
        // SAFETY: as above.
        let library = unsafe { libloading::Library::new(&path) }?;
        Nvrtc::check(library, path.display().to_string())
    }

    fn check(library: libloading::Library, origin: String) -> Result<Nvrtc> {
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> sys::nvrtcResult;
        // SAFETY: both symbols have this type in every NVRTC; only their addresses are used.
        let (ours, cudarcs) = unsafe {
            let ours = *library.get::<Version>(b"nvrtcVersion\0").context("not an NVRTC library")?;
            (ours, *sys::culib().get::<Version>(b"nvrtcVersion\0")?)
        };
        ensure!(
            ours as usize == cudarcs as usize,
            "{origin} was asked for, but cudarc resolves another libnvrtc on the loader's path: take that one off \
             LD_LIBRARY_PATH, or point ZLPR_NVRTC to it"
        );
        let (mut major, mut minor) = (0, 0);
        // SAFETY: valid pointers to two ints.
        unsafe { sys::nvrtcVersion(&mut major, &mut minor) }.result()?;
        Ok(Nvrtc { origin, version: (major as u32, minor as u32), _library: library })
    }

    /// Architectures it compiles for, such as 80.
    ///
    /// # Errors
    /// If NVRTC refuses the query.
    pub fn architectures(&self) -> Result<Vec<u32>> {
        let mut count = 0;
        // SAFETY: a valid pointer to one int.
        unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }.result()?;
        let mut list = vec![0; usize::try_from(count)?];
        // SAFETY: room for the number of entries just given.
        unsafe { sys::nvrtcGetSupportedArchs(list.as_mut_ptr()) }.result()?;
        Ok(list.into_iter().map(|arch| arch as u32).collect())
    }

    /// Compiles one source; PTX comes without the trailing NUL.
    ///
    /// # Errors
    /// With NVRTC's own log if the source does not compile.
    pub fn compile(&self, source: &Source, target: Target) -> Result<Vec<u8>> {
        let architecture = match target {
            Target::Ptx(arch) => format!("--gpu-architecture=compute_{arch}"),
            Target::MachineCode(arch) => format!("--gpu-architecture=sm_{arch}"),
        };
        let text = CString::new(source.text.as_str())?;
        let name = CString::new(source.virtual_name.as_str())?;
        let program = Program(result::create_program(&text, Some(&name))?);
        let mut options = vec![architecture.as_str(), "--std=c++17"];
        if let Target::Ptx(_) = target {
            // Not for machine code: it would carry a copy of its PTX, three times the size of the code.
            options.push("--generate-line-info");
        }
        // SAFETY: `program` was created above and is destroyed when it goes out of scope.
        unsafe {
            let compiled = result::compile_program(program.0, &options);
            let log: Vec<u8> = result::get_program_log(program.0)?.into_iter().map(|c| c as u8).collect();
            let log = String::from_utf8_lossy(&log);
            let log = log.trim_end_matches('\0').trim();
            if let Err(error) = compiled {
                bail!("{} does not compile for {target:?} ({error}):\n{log}", source.virtual_name);
            }
            // A warning in a kernel is a defect: nobody would see it.
            ensure!(log.is_empty(), "{} for {target:?}: NVRTC warns:\n{log}", source.virtual_name);
            match target {
                Target::Ptx(_) => {
                    let ptx: Vec<u8> = result::get_ptx(program.0)?.into_iter().map(|c| c as u8).collect();
                    Ok(ptx.into_iter().take_while(|&byte| byte != 0).collect())
                }
                Target::MachineCode(_) => {
                    let mut size = 0;
                    sys::nvrtcGetCUBINSize(program.0, &mut size).result()?;
                    let mut code = vec![0u8; size];
                    sys::nvrtcGetCUBIN(program.0, code.as_mut_ptr().cast()).result()?;
                    Ok(code)
                }
            }
        }
    }
}

/// Destroys the program on every way out.
struct Program(sys::nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: created by `create_program`, destroyed once. An error here has nobody to go to.
        let _ = unsafe { result::destroy_program(self.0) };
    }
}

/// The newest libnvrtc of a folder.
fn in_folder(folder: &Path) -> Option<PathBuf> {
    let entries = folder.read_dir().ok()?.filter_map(|e| Some(e.ok()?.path()));
    entries.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("libnvrtc.so"))).max()
}

/// `nvidia/*/lib` of a site-packages folder: `cuda_nvrtc` up to 12.x, `cu13` from 13 on.
fn in_wheels(packages: &Path) -> Option<PathBuf> {
    let folders = packages.join("nvidia").read_dir().ok()?.filter_map(|e| Some(e.ok()?.path().join("lib")));
    folders.filter_map(|folder| in_folder(&folder)).max()
}

/// site-packages of the active Python: whatever `python3` is on PATH.
fn python_packages() -> Vec<PathBuf> {
    let script = "import sysconfig; print(sysconfig.get_path('purelib')); print(sysconfig.get_path('platlib'))";
    let output = Command::new("python3").args(["-c", script]).output();
    let Ok(output) = output else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}
