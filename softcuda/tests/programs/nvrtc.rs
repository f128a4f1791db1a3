//! NVRTC, loaded by path, as many versions as there are; and the PTX that is checked in.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::Library;

type Handle = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Handle,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Handle, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Handle, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Handle) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
type Count = unsafe extern "C" fn(*mut c_int) -> c_int;

/// One NVRTC.
pub struct Nvrtc {
    library: Library,
    pub version: (c_int, c_int),
    pub architectures: Vec<c_int>,
}

impl Nvrtc {
    fn open(path: &Path) -> Nvrtc {
        let path = if path.is_dir() { in_folder(path) } else { path.to_owned() };
        // SAFETY: NVRTC does nothing when it is loaded but initialise itself.
        let library = unsafe { Library::new(&path) }.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut nvrtc = Nvrtc { library, version: (0, 0), architectures: Vec::new() };
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: the functions have these types in every version; there is room for what they write.
        unsafe {
            assert_eq!(nvrtc.function::<Version>("nvrtcVersion")(&mut major, &mut minor), 0);
            assert_eq!(nvrtc.function::<Count>("nvrtcGetNumSupportedArchs")(&mut count), 0);
            nvrtc.architectures = vec![0; count as usize];
            let list = nvrtc.architectures.as_mut_ptr();
            assert_eq!(nvrtc.function::<Count>("nvrtcGetSupportedArchs")(list), 0);
        }
        nvrtc.version = (major, minor);
        nvrtc
    }

    /// A function of the library.
    ///
    /// # Safety
    /// The function has this type.
    unsafe fn function<F: Copy>(&self, name: &str) -> F {
        // SAFETY: as the caller promises.
        unsafe { *self.library.get::<F>(name.as_bytes()).unwrap_or_else(|e| panic!("{name}: {e}")) }
    }

    /// Compiles a program to PTX, without what only a debugger reads.
    pub fn compile(&self, name: &str, source: &str, arch: u32, bug: u32) -> String {
        let text = CString::new(source).unwrap();
        let file = CString::new(format!("/programs/{name}.cu")).unwrap();
        let options = [
            format!("--gpu-architecture=compute_{arch}"),
            "--std=c++17".to_owned(),
            "--generate-line-info".to_owned(),
            "--device-int128".to_owned(),
            format!("--define-macro=BUG={bug}"),
        ]
        .map(|option| CString::new(option).unwrap());
        let options = options.each_ref().map(|option| option.as_ptr());
        let none = std::ptr::null();
        let mut program = std::ptr::null_mut();
        // SAFETY: the functions have these types; strings end with NUL and outlive the calls; the
        // program is destroyed once.
        unsafe {
            let create = self.function::<Create>("nvrtcCreateProgram");
            assert_eq!(create(&mut program, text.as_ptr(), file.as_ptr(), 0, none, none), 0);
            let code =
                self.function::<Compile>("nvrtcCompileProgram")(program, options.len() as c_int, options.as_ptr());
            let log = self.text(program, "nvrtcGetProgramLog");
            assert!(code == 0, "{name}.cu for compute_{arch} with BUG={bug}:\n{log}");
            let ptx = self.text(program, "nvrtcGetPTX");
            assert_eq!(self.function::<Destroy>("nvrtcDestroyProgram")(&mut program), 0);
            trim(&ptx)
        }
    }

    /// A text of a program.
    ///
    /// # Safety
    /// The program exists, and the library has this function with its `Size`.
    unsafe fn text(&self, program: Handle, function: &str) -> String {
        let mut size = 0;
        // SAFETY: as the caller promises; the buffer has the size that the library asked for, and
        // the text ends with NUL.
        unsafe {
            assert_eq!(self.function::<Size>(&format!("{function}Size"))(program, &mut size), 0);
            let mut bytes = vec![0u8; size + 1];
            assert_eq!(self.function::<Text>(function)(program, bytes.as_mut_ptr().cast()), 0);
            CStr::from_bytes_until_nul(&bytes).unwrap().to_str().unwrap().to_owned()
        }
    }
}

/// The newest libnvrtc of a folder.
fn in_folder(folder: &Path) -> PathBuf {
    let entries = folder.read_dir().unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let names = entries.map(|entry| entry.unwrap().path());
    let found = names.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("libnvrtc.so"));
    found.max().unwrap_or_else(|| panic!("no libnvrtc in {}", folder.display()))
}

/// PTX without comments, debug sections, variables of the compiler's own headers, and where what is
/// inlined was called.
fn trim(ptx: &str) -> String {
    let mut kept = String::new();
    let mut in_section = false;
    for line in ptx.lines() {
        let text = line.trim();
        in_section |= text.starts_with(".section");
        let noise = text.is_empty() || text.starts_with("//") || text.contains("2nv6target");
        if !noise && !in_section {
            let comment = if text.starts_with(".loc") { "," } else { " //" };
            let code = text.split_once(comment).map_or(text, |(code, _)| code.trim_end());
            kept.push_str(&code.replace('\t', " "));
            kept.push('\n');
        }
        in_section &= text != "}";
    }
    kept
}

/// All that `SOFTCUDA_NVRTC` names. Says once, past the capture of tests, what will run.
pub fn all() -> &'static [Nvrtc] {
    static ALL: OnceLock<Vec<Nvrtc>> = OnceLock::new();
    ALL.get_or_init(|| {
        let paths = std::env::var("SOFTCUDA_NVRTC").unwrap_or_default();
        let found: Vec<Nvrtc> =
            paths.split(':').filter(|path| !path.is_empty()).map(|path| Nvrtc::open(Path::new(path))).collect();
        let versions: Vec<String> = found.iter().map(|n| format!("{}.{}", n.version.0, n.version.1)).collect();
        let way = match versions.len() {
            0 => "the checked-in PTX runs: SOFTCUDA_NVRTC is not set".to_owned(),
            _ => format!("the programs are compiled by NVRTC {}", versions.join(" and ")),
        };
        // A report that nobody reads is no reason to fail.
        let _ = writeln!(std::io::stderr(), "{way}");
        found
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs")
}

/// The source of a program.
pub fn source(name: &str) -> String {
    let path = folder().join(format!("{name}.cu"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Where the checked-in PTX of a program is. A bug that needs the host only has none of its own.
pub fn checked_in(name: &str, bug: u32) -> PathBuf {
    folder().join("ptx").join(if bug == 0 { format!("{name}.ptx") } else { format!("{name}.bug{bug}.ptx") })
}
