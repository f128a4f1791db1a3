//! Kernels of any PTX, run without a driver around them.

use half::{bf16, f16};

use crate::config::Config;
use crate::exec::{self, EntryInfo, LaunchShape, Module};
use crate::fault::Fault;
use crate::memory::{Memory, OutOfMemory};
use crate::ptx::LoadError;
use crate::records::LaunchRecord;

/// A number that kernels work on.
pub trait Number: Copy + sealed::Sealed {
    /// Appends its bytes, the lowest first.
    #[doc(hidden)]
    fn put(self, bytes: &mut Vec<u8>);
    /// The number of as many bytes as it has.
    #[doc(hidden)]
    fn get(bytes: &[u8]) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! number {
    ($($ty:ty),*) => {$(
        impl sealed::Sealed for $ty {}

        impl Number for $ty {
            fn put(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_le_bytes());
            }

            fn get(bytes: &[u8]) -> $ty {
                let mut whole = [0; size_of::<$ty>()];
                whole.copy_from_slice(bytes);
                <$ty>::from_le_bytes(whole)
            }
        }

        impl From<$ty> for Arg {
            fn from(value: $ty) -> Arg {
                Arg::Value(value.to_le_bytes().to_vec())
            }
        }
    )*};
}

number!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, f16, bf16);

/// An argument of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Arg {
    /// The bytes of a parameter: a number, or a structure laid out as in C.
    Value(Vec<u8>),
    /// The address of device memory with these bytes, which can be read back.
    Buffer(Vec<u8>),
    /// The address of device memory of this size that nothing has written yet: a kernel that reads
    /// it before it writes it makes an error.
    Uninitialised(u64),
}

impl Arg {
    /// A buffer with these numbers.
    pub fn buffer<T: Number>(values: &[T]) -> Arg {
        let mut bytes = Vec::with_capacity(size_of_val(values));
        values.iter().for_each(|value| value.put(&mut bytes));
        Arg::Buffer(bytes)
    }

    /// A buffer for so many numbers that nothing has written yet.
    pub fn uninitialised<T: Number>(count: usize) -> Arg {
        Arg::Uninitialised((count * size_of::<T>()) as u64)
    }
}

/// Why a kernel did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The text is not PTX that this crate knows.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The PTX has no kernel of that name.
    #[error("there is no kernel {name:?}; there are {kernels:?}")]
    NoKernel {
        /// The name asked for.
        name: String,
        /// The kernels that there are.
        kernels: Vec<String>,
    },
    /// The PTX is for another device.
    #[error("PTX for sm_{target} does not run on sm_{capability}")]
    Target {
        /// What the PTX is for: 90 for `sm_90`.
        target: u32,
        /// What the configuration says.
        capability: u32,
    },
    /// The arguments are not those that the kernel takes.
    #[error("{0}")]
    Arguments(String),
    /// The buffers do not fit in device memory.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The kernel made an error, or no device could run it.
    #[error(transparent)]
    Fault(#[from] Box<Fault>),
}

impl From<Fault> for RunError {
    fn from(fault: Fault) -> RunError {
        RunError::Fault(Box::new(fault))
    }
}

/// A kernel of any PTX text, with what it is launched with.
///
/// It runs on the engine alone: no driver, no cudarc, no device to lease.
///
/// ```
/// use softcuda::{Arg, Config, Kernel};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let ptx = ".version 7.0
/// #     .target sm_75
/// #     .address_size 64
/// #     .visible .entry scale(.param .u64 out, .param .u64 in, .param .f32 factor)
/// #     {
/// #         .reg .b32 %r<2>;
/// #         .reg .f32 %f<3>;
/// #         .reg .b64 %rd<6>;
/// #         ld.param.u64 %rd1, [out];
/// #         ld.param.u64 %rd2, [in];
/// #         ld.param.f32 %f1, [factor];
/// #         mov.u32 %r1, %tid.x;
/// #         mul.wide.u32 %rd3, %r1, 4;
/// #         add.s64 %rd4, %rd2, %rd3;
/// #         add.s64 %rd5, %rd1, %rd3;
/// #         ld.global.f32 %f2, [%rd4];
/// #         mul.f32 %f2, %f2, %f1;
/// #         st.global.f32 [%rd5], %f2;
/// #         ret;
/// #     }";
/// let ran = Kernel::load(ptx, "scale")?
///     .block([4, 1, 1])
///     .arg(Arg::uninitialised::<f32>(4))
///     .arg(Arg::buffer(&[1.0_f32, 2.0, 3.0, 4.0]))
///     .arg(0.5_f32)
///     .run(&Config::capability(8, 0))?;
/// assert_eq!(ran.values::<f32>(0), [0.5, 1.0, 1.5, 2.0]);
/// assert_eq!(ran.launch.counters.global_read_bytes, 16);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Kernel {
    text: String,
    info: EntryInfo,
    shape: LaunchShape,
    args: Vec<Arg>,
}

/// What a kernel did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ran {
    /// The launch, with its counts and, with [`Config::trace`], its traffic.
    pub launch: LaunchRecord,
    /// What is in the buffers now, by the index of the argument; empty for values.
    pub buffers: Vec<Vec<u8>>,
    /// What it printed with `printf`: the last megabyte.
    pub printed: String,
}

impl Ran {
    /// What is in the buffer of an argument, as numbers; what nothing wrote is 0.
    ///
    /// # Panics
    /// There is no argument of that index, or the buffer is not of whole numbers.
    pub fn values<T: Number>(&self, argument: usize) -> Vec<T> {
        numbers(&self.buffers[argument])
    }
}

/// Bytes as numbers.
///
/// # Panics
/// They are not the bytes of whole numbers.
pub fn numbers<T: Number>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks(size_of::<T>()).map(T::get).collect()
}

impl Kernel {
    /// The kernel of a PTX text with this name. The launch is one block of one thread, with no
    /// arguments, until told otherwise.
    ///
    /// # Errors
    /// [`RunError::Load`] and [`RunError::NoKernel`].
    pub fn load(ptx: &str, name: &str) -> Result<Kernel, RunError> {
        let known = Kernel::all(ptx)?;
        let kernels = known.iter().map(|kernel| kernel.info.name.clone()).collect();
        let found = known.into_iter().find(|kernel| kernel.info.name == name);
        found.ok_or_else(|| RunError::NoKernel { name: name.to_owned(), kernels })
    }

    /// All kernels of a PTX text.
    ///
    /// # Errors
    /// [`RunError::Load`].
    pub fn all(ptx: &str) -> Result<Vec<Kernel>, RunError> {
        let module = Module::load(ptx, &Memory::new(u64::MAX >> 1))?;
        let infos = module.entries().filter_map(|name| module.entry(name)).map(|entry| module.entry_info(entry));
        let shape = LaunchShape { grid: [1; 3], block: [1; 3], cluster: [1; 3], dynamic_shared: 0 };
        let kernel = |info| Kernel { text: ptx.to_owned(), info, shape, args: Vec::new() };
        Ok(infos.map(kernel).collect())
    }

    /// Blocks in each dimension.
    #[must_use]
    pub fn grid(mut self, blocks: [u32; 3]) -> Kernel {
        self.shape.grid = blocks;
        self
    }

    /// Threads of a block in each dimension.
    #[must_use]
    pub fn block(mut self, threads: [u32; 3]) -> Kernel {
        self.shape.block = threads;
        self
    }

    /// Blocks of a cluster in each dimension.
    #[must_use]
    pub fn cluster(mut self, blocks: [u32; 3]) -> Kernel {
        self.shape.cluster = blocks;
        self
    }

    /// Bytes of dynamic shared memory.
    #[must_use]
    pub fn dynamic_shared(mut self, bytes: u32) -> Kernel {
        self.shape.dynamic_shared = bytes;
        self
    }

    /// The next argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<Arg>) -> Kernel {
        self.args.push(arg.into());
        self
    }

    /// What is known of the kernel.
    pub fn info(&self) -> &EntryInfo {
        &self.info
    }

    /// The capability that the PTX asks for at least: (9, 0) of `sm_90`.
    pub fn target(&self) -> (u32, u32) {
        let target = Module::ptx_target(&self.text).map_or(0, |(target, _)| target);
        (target / 10, target % 10)
    }

    /// Runs it on a device of its own, with memory of its own.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn run(&self, config: &Config) -> Result<Ran, RunError> {
        self.suits(config)?;
        let memory = Memory::new(config.memory_bytes);
        let module = Module::load(&self.text, &memory)?;
        let entry = module.entry(&self.info.name).ok_or_else(|| RunError::NoKernel {
            name: self.info.name.clone(),
            kernels: module.entries().map(str::to_owned).collect(),
        })?;
        let mut params = vec![0; self.info.param_bytes as usize];
        let mut places = Vec::new();
        for (index, (arg, param)) in self.args.iter().zip(&self.info.params).enumerate() {
            let place = match arg {
                Arg::Value(_) => None,
                Arg::Buffer(bytes) => Some((memory.alloc(bytes.len() as u64)?, bytes.len())),
                Arg::Uninitialised(bytes) => Some((memory.alloc(*bytes)?, *bytes as usize)),
            };
            if let (Arg::Buffer(bytes), Some((address, _))) = (arg, place) {
                memory.write(address, bytes)?;
            }
            let value = match (arg, place) {
                (Arg::Value(bytes), _) => bytes.clone(),
                (_, place) => place.map_or(0, |(address, _)| address).to_le_bytes().to_vec(),
            };
            if value.len() != param.size as usize {
                let (given, wanted) = (value.len(), param.size);
                let text = format!("argument {index} has {given} bytes, {} takes {wanted}", self.info.name);
                return Err(RunError::Arguments(text));
            }
            params[param.offset as usize..][..value.len()].copy_from_slice(&value);
            places.push(place);
        }
        let measured = exec::measure(&module, entry, &self.shape, &params, &memory, config)?;
        let mut buffers = Vec::new();
        for place in places {
            let (address, bytes) = place.unwrap_or((0, 0));
            let mut buffer = vec![0; bytes];
            memory.read(address, &mut buffer)?;
            buffers.push(buffer);
        }
        let printed = memory.take_printed(usize::MAX).unwrap_or_default();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        Ok(Ran { launch: LaunchRecord::new(0, &self.info.name, &self.shape, measured), buffers, printed })
    }

    /// Whether the launch can be made on such a device at all.
    fn suits(&self, config: &Config) -> Result<(), RunError> {
        let capability = config.capability_major * 10 + config.capability_minor;
        let (target, specific) = Module::ptx_target(&self.text).unwrap_or((0, false));
        if target > capability || (specific && target != capability) {
            return Err(RunError::Target { target, capability });
        }
        if self.args.len() != self.info.params.len() {
            let (given, wanted) = (self.args.len(), self.info.params.len());
            return Err(RunError::Arguments(format!("{given} arguments, {} takes {wanted}", self.info.name)));
        }
        Ok(())
    }
}
