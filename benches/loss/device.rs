//! The device: what it is, and a stream on it.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, CudaStream, result};
use serde::Serialize;
use softcuda::{Config, Gpu};

/// A GPU, or a virtual one where there is none.
pub struct Device {
    pub stream: Arc<CudaStream>,
    pub context: Arc<CudaContext>,
    pub facts: Facts,
    // Last: it must outlive the context.
    pub gpu: Gpu,
}

/// What results depend on.
#[derive(Serialize)]
pub struct Facts {
    pub name: String,
    pub capability: (i32, i32),
    pub multiprocessors: i32,
    pub memory_bytes: usize,
    pub l2_bytes: usize,
    /// Highest clock of the multiprocessors.
    pub sm_clock_khz: i32,
    /// Highest clock of the memory, 0 where the driver does not tell.
    pub memory_clock_khz: i32,
    pub bus_width_bits: i32,
    /// CUDA version of the driver, 1000 * major + 10 * minor.
    pub driver_cuda: i32,
    /// The driver's own version, as its kernel module tells it.
    pub driver_release: Option<String>,
}

impl Device {
    pub fn open() -> Result<Device> {
        // Few multiprocessors and a small cache: what the virtual GPU does then takes every turn that a large one's
        // takes, for small problems. Clusters of eight still fit.
        let config = Config { l2_bytes: 16 << 10, sm_count: 16, gpc_count: 1, ..Config::capability(9, 0) };
        let gpu = softcuda::gpu(config)?;
        let context = zlpr::context(gpu.ordinal())?;
        let facts = Facts::new(&context)?;
        // The default stream cannot be captured.
        Ok(Device { stream: context.new_stream()?, context, facts, gpu })
    }

    /// Bytes of memory that are free.
    pub fn free_memory(&self) -> Result<usize> {
        // What was freed on the stream is given back when it is waited for.
        self.stream.synchronize()?;
        Ok(result::mem_get_info()?.0)
    }
}

impl Facts {
    fn new(context: &Arc<CudaContext>) -> Result<Facts> {
        let attribute = |attribute| context.attribute(attribute).context("the device does not tell its limits");
        let driver_cuda = {
            let mut version = 0;
            // SAFETY: a valid pointer to one int; the driver is loaded, since there is a context.
            unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result()?;
            version
        };
        let release = fs::read_to_string("/proc/driver/nvidia/version").ok();
        Ok(Facts {
            name: context.name()?,
            capability: context.compute_capability()?,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            memory_bytes: context.total_mem()?,
            l2_bytes: attribute(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.try_into()?,
            sm_clock_khz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
            memory_clock_khz: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
            bus_width_bits: attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?,
            driver_cuda,
            driver_release: release.and_then(|text| text.lines().next().map(str::to_owned)),
        })
    }

    /// Bytes per second at the memory's highest clock, two transfers per clock; `None` where it is not told.
    pub fn peak(&self) -> Option<f64> {
        let peak = 2e3 * f64::from(self.memory_clock_khz) * f64::from(self.bus_width_bits) / 8.0;
        (peak > 0.0).then_some(peak)
    }
}
