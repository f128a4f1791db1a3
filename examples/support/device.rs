//! Where an example computes: a GPU, the virtual GPU, or the f64 reference.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use cudarc::driver::{CudaContext, CudaStream};
use softcuda::{Config, Gpu};

/// The devices to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// The GPU if there is one, else the virtual one.
    Auto,
    /// A real GPU.
    Gpu,
    /// The virtual GPU: the kernels' PTX, interpreted on the CPU.
    Virtual,
    /// The formula in f64 on the CPU, without any kernel.
    Reference,
}

/// An opened device.
pub enum Device {
    /// The f64 reference.
    Reference,
    /// A CUDA device, real or virtual.
    Cuda(Cuda),
}

/// A CUDA device with one stream.
pub struct Cuda {
    /// Its stream.
    pub stream: Arc<CudaStream>,
    /// Its context.
    pub context: Arc<CudaContext>,
    /// Its lease. Declared last: it must outlive the context.
    pub gpu: Gpu,
}

impl Device {
    /// Opens the chosen device; `capability` (80 = 8.0) is the virtual GPU's.
    pub fn open(choice: Choice, capability: Option<u32>) -> Result<Device> {
        if capability.is_some() && !matches!(choice, Choice::Auto | Choice::Virtual) {
            bail!("--capability is the virtual GPU's: it goes with --device virtual or auto");
        }
        let number = capability.unwrap_or(80);
        let config = Config::capability(number / 10, number % 10);
        let gpu = match choice {
            Choice::Reference => return Ok(Device::Reference),
            // Whoever asks for a capability wants the virtual GPU, on any machine.
            Choice::Auto if capability.is_none() => softcuda::gpu(config),
            Choice::Auto | Choice::Virtual => softcuda::virtual_gpu(config),
            Choice::Gpu if softcuda::driver_present() => softcuda::gpu(config),
            Choice::Gpu => bail!("no GPU: no CUDA driver with a device was found (--device virtual needs none)"),
        };
        let gpu = gpu.context("cannot open the device")?;
        if choice == Choice::Gpu && gpu.is_virtual() {
            bail!("--device gpu, but the environment asks for the virtual GPU (SOFTCUDA=virtual)");
        }
        let context = zlpr::context(gpu.ordinal())?;
        Ok(Device::Cuda(Cuda { stream: context.default_stream(), context, gpu }))
    }

    /// What it is, for people.
    pub fn describe(&self) -> Result<String> {
        let Device::Cuda(Cuda { context, gpu, .. }) = self else {
            return Ok("CPU, the reference in f64 (no kernel runs)".to_owned());
        };
        let (major, minor) = context.compute_capability()?;
        Ok(match gpu.is_virtual() {
            true => format!("virtual GPU of capability {major}.{minor} (the kernels' PTX, interpreted on the CPU)"),
            false => format!("{} (capability {major}.{minor})", context.name()?),
        })
    }
}
