//! Runs a program as every compiler makes it, in several orders, clean and with each planted bug.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use softcuda::exec::{LaunchShape, Module, run};
use softcuda::fault::Fault;
use softcuda::{Config, Counters};

use crate::nvrtc;
use crate::planted::{self, Bug, Check};
use crate::ptx_support::Device;

/// A program: its name is that of its source.
pub struct Program {
    pub name: &'static str,
    /// The lowest architecture that has what it uses.
    pub arch: u32,
    /// Launches it for several sizes and compares with an oracle.
    pub test: Test,
}

pub type Test = fn(&Run) -> Result<(), Fault>;

/// A list of programs, and a test for each.
macro_rules! programs {
    ($($name:ident $arch:literal)*) => {
        pub const PROGRAMS: &[$crate::harness::Program] = &[
            $($crate::harness::Program { name: stringify!($name), arch: $arch, test: $name },)*
        ];
        mod runs {
            $(#[test]
            fn $name() {
                let program = super::PROGRAMS.iter().find(|program| program.name == stringify!($name));
                $crate::harness::check(program.unwrap());
            })*
        }
    };
}
pub(crate) use programs;

/// One way to run a program.
pub struct Run {
    pub device: Device,
    /// The planted bug, 0 for none: some need the host's help.
    pub bug: u32,
    module: Module,
}

/// What one kernel argument is.
pub trait Argument {
    fn push(&self, params: &mut Vec<u8>);
}

macro_rules! arguments {
    ($($ty:ty)*) => {$(
        impl Argument for $ty {
            fn push(&self, params: &mut Vec<u8>) {
                let bytes = self.to_le_bytes();
                params.resize(params.len().next_multiple_of(bytes.len()), 0);
                params.extend(bytes);
            }
        }
    )*};
}
arguments!(u16 i32 u32 u64 i64 f32 f64);

/// A parameter block.
macro_rules! args {
    ($($value:expr),* $(,)?) => {{
        let mut params = Vec::new();
        $($crate::harness::Argument::push(&$value, &mut params);)*
        params
    }};
}
pub(crate) use args;

/// One, two or three dimensions.
pub trait Dimensions {
    fn dims(self) -> [u32; 3];
}

impl Dimensions for u32 {
    fn dims(self) -> [u32; 3] {
        [self, 1, 1]
    }
}

impl Dimensions for (u32, u32) {
    fn dims(self) -> [u32; 3] {
        [self.0, self.1, 1]
    }
}

/// A grid of blocks.
pub fn shape(grid: impl Dimensions, block: impl Dimensions) -> LaunchShape {
    LaunchShape { grid: grid.dims(), block: block.dims(), cluster: [1; 3], dynamic_shared: 0 }
}

/// The same with dynamic shared memory.
pub fn shared(shape: LaunchShape, dynamic_shared: usize) -> LaunchShape {
    LaunchShape { dynamic_shared: dynamic_shared as u32, ..shape }
}

/// The same in clusters.
pub fn clusters(shape: LaunchShape, blocks: u32) -> LaunchShape {
    LaunchShape { cluster: blocks.dims(), ..shape }
}

impl Run {
    pub fn upload<T: Copy>(&self, values: &[T]) -> u64 {
        self.device.upload(values)
    }

    pub fn zeros<T: Copy + Default>(&self, count: usize) -> u64 {
        self.upload(&vec![T::default(); count])
    }

    /// Memory that nothing has written.
    pub fn alloc<T>(&self, count: usize) -> u64 {
        self.device.memory.alloc((size_of::<T>() * count) as u64).unwrap()
    }

    pub fn free(&self, address: u64) {
        self.device.memory.free(address).unwrap();
    }

    pub fn download<T: Copy + Default>(&self, address: u64, count: usize) -> Vec<T> {
        self.device.download(address, count)
    }

    pub fn launch(&self, kernel: &str, shape: LaunchShape, params: &[u8]) -> Result<Counters, Fault> {
        let entry = self.module.entry(kernel).unwrap_or_else(|| panic!("no kernel {kernel}"));
        run(&self.module, entry, &shape, params, &self.device.memory, &self.device.config)
    }
}

/// A program's PTX, and where it is from.
struct Compiled {
    origin: String,
    arch: u32,
    text: String,
}

/// By every NVRTC for every architecture, or what is checked in. Programs with bugs are made for
/// the lowest and the highest architecture.
fn compiled(name: &str, lowest: u32, bug: u32) -> Vec<Compiled> {
    let source = nvrtc::source(name);
    if nvrtc::all().is_empty() {
        let own = nvrtc::checked_in(name, bug);
        let path = if own.exists() { own } else { nvrtc::checked_in(name, 0) };
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return vec![Compiled { origin: "checked-in PTX".to_owned(), arch: lowest, text }];
    }
    let mut all = Vec::new();
    for nvrtc in nvrtc::all() {
        let known = |arch: &u32| *arch >= lowest && nvrtc.architectures.contains(&(*arch as i32));
        let mut archs: Vec<u32> = [75, 80, 90, 100].into_iter().filter(known).collect();
        if bug != 0 && archs.len() > 2 {
            archs = vec![archs[0], archs[archs.len() - 1]];
        }
        for arch in archs {
            let (major, minor) = nvrtc.version;
            let origin = format!("NVRTC {major}.{minor} for compute_{arch}");
            all.push(Compiled { origin, arch, text: nvrtc.compile(name, &source, arch, bug) });
        }
    }
    all
}

/// Seeds of the orders in which a program runs: `SOFTCUDA_SEEDS` of them, or a few.
fn seeds() -> Vec<u64> {
    match std::env::var("SOFTCUDA_SEEDS") {
        Ok(count) => (0..count.parse().expect("SOFTCUDA_SEEDS is a number")).collect(),
        // Versions differ in the code, seeds in the order: half of the pairs see all of either.
        Err(_) if nvrtc::all().is_empty() => vec![0, 1, 2, 0x5eed],
        Err(_) => vec![1, 2],
    }
}

/// Runs a program clean, then with each of its bugs.
pub fn check(program: &Program) {
    everywhere(program, 0, |result, _| {
        if let Err(fault) = result {
            panic!("a correct program: {fault}");
        }
    });
    for bug in planted::bugs(program.name, &nvrtc::source(program.name)) {
        everywhere(program, bug.number, |result, ptx| found(&bug, result, ptx));
    }
}

/// The report must be of the right kind and name a line that the source marks, unless the compiler
/// names none; so must the earlier of two accesses.
fn found(bug: &Bug, result: Result<(), Fault>, ptx: &str) {
    let Err(fault) = result else { panic!("not found: {bug:?}") };
    let marked = |source: &Option<(String, u32)>, ptx_line: u32| {
        let named = |line: u32| source.as_ref().map_or(names_no_line(ptx, ptx_line), |(_, named)| *named == line);
        let fits = |&(check, line): &(Check, u32)| {
            fault.kind == check.kind && fault.detail.contains(check.says) && named(line)
        };
        bug.marks.iter().any(fits)
    };
    let both = marked(&fault.source, fault.ptx_line)
        && fault.earlier.as_ref().is_none_or(|place| marked(&place.source, place.ptx_line));
    assert!(both, "{bug:?} expected: {fault}");
}

/// Whether the compiler has said that a line of the PTX comes from no line of the source: the latest
/// `.loc` has line 0. NVRTC 13 has that for values that it loads once for several lines.
fn names_no_line(ptx: &str, line: u32) -> bool {
    let before: Vec<&str> = ptx.lines().take(line as usize).collect();
    let latest = before.iter().rev().find_map(|line| line.trim().strip_prefix(".loc "));
    latest.is_some_and(|loc| loc.split_whitespace().nth(1) == Some("0"))
}

fn everywhere(program: &Program, bug: u32, judge: impl Fn(Result<(), Fault>, &str)) {
    let name = program.name;
    for compiled in compiled(name, program.arch, bug) {
        for seed in seeds() {
            let mut device = Device::new();
            device.config = Config::capability(compiled.arch / 10, compiled.arch % 10);
            (device.config.seed, device.config.workers) = (seed, 1 + seed as u32 % 2);
            let module = Module::load(&compiled.text, &device.memory);
            let module = module.unwrap_or_else(|e| panic!("{name}, {}: {e}", compiled.origin));
            let run = Run { device, bug, module };
            let judged = catch_unwind(AssertUnwindSafe(|| judge((program.test)(&run), &compiled.text)));
            if let Err(panic) = judged {
                eprintln!("{name}.cu, BUG={bug}, {}, seed {seed:#x}", compiled.origin);
                resume_unwind(panic);
            }
        }
    }
}
