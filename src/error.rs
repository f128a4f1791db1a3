//! Everything that can go wrong, with the argument at fault, what was given and what is allowed.

use crate::{DType, plan::Regime};

/// Error of this crate. No function of it panics on user input.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No CUDA driver library on this machine.
    #[error("no CUDA driver found (tried {tried}); install NVIDIA's driver, or run the reference or the virtual GPU")]
    NoDriver {
        /// File names the loader was asked for.
        tried: String,
    },
    /// A driver, but no device with this ordinal.
    #[error("no CUDA device {ordinal}: this machine has {count} (is CUDA_VISIBLE_DEVICES set?)")]
    NoDevice {
        /// The ordinal asked for.
        ordinal: usize,
        /// Devices the driver reports.
        count: usize,
    },
    /// The driver is older than this crate can use at all.
    #[error("the CUDA driver supports CUDA {}.{}, this crate needs 12.1: install driver 530 or newer", found / 1000, found % 1000 / 10)]
    DriverTooOld {
        /// `cuDriverGetVersion`, such as 11080.
        found: i32,
    },
    /// No current CUDA context on this thread.
    #[error("no CUDA context is current on this thread")]
    NoContext,
    /// None of the embedded kernel images runs on this device with this driver.
    #[error(
        "no embedded image of kernel module `{module}` loads on a device of compute capability {}.{} with a driver \
         for CUDA {}.{} (tried: {tried}); {remedy}",
        capability.0, capability.1, driver / 1000, driver % 1000 / 10
    )]
    NoImage {
        /// Kernel module, such as `warp`.
        module: &'static str,
        /// Compute capability of the device.
        capability: (u32, u32),
        /// `cuDriverGetVersion`, such as 12010.
        driver: i32,
        /// Images tried, in order, and the driver's answer to each.
        tried: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The plan's kernel was not prepared in the current context.
    #[error("kernel `{kernel}` is not prepared in this context: call `prepare` first")]
    NotPrepared {
        /// Name of the entry point.
        kernel: &'static str,
    },
    /// The device is older than every kernel.
    #[error("compute capability {}.{} is not supported: the kernels need 7.5 or newer", capability.0, capability.1)]
    Capability {
        /// Compute capability of the device.
        capability: (u32, u32),
    },
    /// No kernel takes these types together.
    #[error("no kernel takes {scores} scores with {labels} labels: labels have the scores' type, or are f32 or u8")]
    Types {
        /// Type of the scores.
        scores: DType,
        /// Type of the labels.
        labels: DType,
    },
    /// No kernel writes this gradient type.
    #[error("the gradient of {scores} scores has their type or is f32, not {gradient}")]
    GradientType {
        /// Type of the scores.
        scores: DType,
        /// Type of the gradient asked for.
        gradient: DType,
    },
    /// More rows than one launch can have.
    #[error("{rows} rows: regime {regime} takes at most {allowed} on this device; split the batch")]
    GridLimit {
        /// Rows given.
        rows: u64,
        /// Regime that was planned.
        regime: Regime,
        /// Rows allowed.
        allowed: u64,
    },
    /// A regime was asked for that cannot hold the row.
    #[error("regime {regime} takes at most {allowed} columns of these types on this device, {cols} were given")]
    RegimeLimit {
        /// Regime asked for.
        regime: Regime,
        /// Columns given.
        cols: u64,
        /// Columns allowed.
        allowed: u64,
    },
    /// Rows, columns and stride address more memory than exists.
    #[error("{argument}: {rows} rows of {cols} columns at a stride of {stride} exceed 2^63 bytes")]
    TooLarge {
        /// Argument at fault.
        argument: &'static str,
        /// Rows given.
        rows: u64,
        /// Columns given.
        cols: u64,
        /// Row stride, in elements.
        stride: u64,
    },
    /// A shape differs from the scores'.
    #[error("{argument} is [{}, {}], but the scores are [{}, {}]", given.0, given.1, allowed.0, allowed.1)]
    Shape {
        /// Argument at fault.
        argument: &'static str,
        /// Rows and columns given.
        given: (u64, u64),
        /// Rows and columns of the scores.
        allowed: (u64, u64),
    },
    /// A row stride below the number of columns.
    #[error("{argument} has a row stride of {given} elements; allowed is {allowed}")]
    Stride {
        /// Argument at fault.
        argument: &'static str,
        /// Stride given, in elements.
        given: u64,
        /// What is allowed.
        allowed: String,
    },
    /// A buffer is too short for its shape and stride.
    #[error("{argument} has {given} elements, its shape and stride need {needed}")]
    TooShort {
        /// Argument at fault.
        argument: &'static str,
        /// Elements given.
        given: u64,
        /// Elements needed.
        needed: u64,
    },
    /// Two arguments share memory and at least one of them is written.
    #[error(
        "{written} overlaps {other}: only the in-place gradient may share memory, with the scores, pointer and stride alike"
    )]
    Overlap {
        /// The argument that is written.
        written: &'static str,
        /// The other argument.
        other: &'static str,
    },
    /// An argument lives on another context than the loss.
    #[error("{argument} belongs to another CUDA context (device {given}) than the loss (device {allowed})")]
    ForeignContext {
        /// Argument at fault.
        argument: &'static str,
        /// Device ordinal of the argument.
        given: usize,
        /// Device ordinal of the loss.
        allowed: usize,
    },
    /// A total was asked for without a reduction, or the other way round.
    #[error("{given}")]
    Total {
        /// What is wrong, and what to do.
        given: &'static str,
    },
    /// Epsilon out of range.
    #[error("epsilon is {given}; allowed is 0 <= epsilon < 0.5")]
    Epsilon {
        /// Epsilon given.
        given: f32,
    },
    /// Cutoff out of range.
    #[error("cutoff is {given}; allowed is any score below +inf")]
    Cutoff {
        /// Cutoff given.
        given: f32,
    },
    /// The driver refused a call.
    #[error("{call} failed: {name} ({code}): {text}")]
    Driver {
        /// Driver function.
        call: &'static str,
        /// `CUresult` as a number.
        code: u32,
        /// Its name.
        name: String,
        /// Its description.
        text: String,
    },
}
