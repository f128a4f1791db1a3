//! The raw layer: planned kernels on raw pointers and a raw stream, in whatever context is current.
//!
//! No allocation, no synchronisation, no cudarc type in a signature; this is what other frameworks build
//! on. [`prepare`] loads a plan's kernels once per context, [`launch`] only launches, so every launch can be
//! captured in a CUDA graph. One workspace serves one stream at a time.
//!
//! Pointers are device addresses as `u64`, strides are in elements, the stream is a `CUstream` as
//! `*mut c_void` (null: the legacy default stream).

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::sync::{PoisonError, RwLock};

use cudarc::driver::{result, sys};

use crate::driver::{check, current_context_id, driver_version, failed};
use crate::kernels::{IMAGES, TOTAL, TOTAL_MODULE};
use crate::plan::{Device, Plan, Problem, Regime, TotalPlan};
use crate::{DType, Error, Options, Reduction, loader};

/// Arguments of one launch. `0` is "none" for `mask`, `upstream`, `gradient` and `total`.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// Scores `[rows, cols]`, of the plan's type.
    pub scores: u64,
    /// Elements from one row of scores to the next, at least `cols`.
    pub scores_stride: u64,
    /// Labels `[rows, cols]`, of the plan's type.
    pub labels: u64,
    /// Row stride of the labels; 0 = one row for all.
    pub labels_stride: u64,
    /// Mask `[rows, cols]`, one byte per position, 0 = masked; 0 = nothing is masked.
    pub mask: u64,
    /// Row stride of the mask; 0 = one row for all.
    pub mask_stride: u64,
    /// Gradient `[rows, cols]`, of the plan's type; required if the plan has one. May equal `scores`, if
    /// types and strides are equal too.
    pub gradient: u64,
    /// Row stride of the gradient.
    pub gradient_stride: u64,
    /// Row losses `[rows]`, f32.
    pub loss: u64,
    /// Upstream gradient, f32: one value (`upstream_stride` 0) or one per row (1); 0 = 1.
    pub upstream: u64,
    /// 0 or 1.
    pub upstream_stride: u64,
    /// Multiplies the gradient in f32, besides `upstream` and the `1 / rows` of a mean.
    pub scale: f32,
    /// Total, one f32; required if the plan has a reduction.
    pub total: u64,
    /// Workspace of the plan's size, 4-byte aligned; 0 if that is 0.
    pub workspace: u64,
}

/// The argument block of the row kernels: `Args` in `kernels/args.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
struct KernelArgs {
    rows: u64,
    cols: u64,
    scores: u64,
    scores_stride: u64,
    labels: u64,
    labels_stride: u64,
    mask: u64,
    mask_stride: u64,
    gradient: u64,
    gradient_stride: u64,
    loss: u64,
    upstream: u64,
    upstream_stride: u64,
    scale: f32,
    low: f32,
    high: f32,
    cutoff: f32,
    gradient_f32: u32,
    reserved: u32,
}
const _: () = assert!(size_of::<KernelArgs>() == 128);

impl KernelArgs {
    fn new(plan: &Plan, options: &Options, arguments: &Arguments) -> KernelArgs {
        let problem = &plan.problem;
        let (low, high) = options.label_bounds();
        KernelArgs {
            rows: problem.rows,
            cols: problem.cols,
            scores: arguments.scores,
            scores_stride: arguments.scores_stride,
            labels: arguments.labels,
            labels_stride: arguments.labels_stride,
            mask: arguments.mask,
            mask_stride: arguments.mask_stride,
            gradient: if problem.gradient.is_some() { arguments.gradient } else { 0 },
            gradient_stride: arguments.gradient_stride,
            loss: arguments.loss,
            upstream: arguments.upstream,
            upstream_stride: arguments.upstream_stride,
            scale: arguments.scale * share(problem),
            low,
            high,
            cutoff: options.cutoff_score().unwrap_or(f32::NEG_INFINITY),
            gradient_f32: (problem.gradient == Some(DType::F32)).into(),
            reserved: 0,
        }
    }
}

/// What a row's loss counts in the total.
fn share(problem: &Problem) -> f32 {
    // An empty mean is 0, not 0 / 0.
    if problem.reduction == Reduction::Mean { 1.0 / problem.rows.max(1) as f32 } else { 1.0 }
}

/// One launch of the kernel that sums: `count` values, by `shares` blocks, each to a place of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sum {
    from: u64,
    count: u64,
    scale: f32,
    to: u64,
    shares: u32,
}

/// The launches that compute the total, in their order.
fn sums(total: TotalPlan, problem: &Problem, arguments: &Arguments) -> (Sum, Option<Sum>) {
    let (rows, scale, shares) = (problem.rows, share(problem), total.shares);
    let to_total = Sum { from: arguments.loss, count: rows, scale, to: arguments.total, shares: 1 };
    if shares == 1 {
        return (to_total, None);
    }
    // Each block's share goes to the workspace, and is scaled on its way out of it.
    let to_workspace = Sum { scale: 1.0, to: arguments.workspace, shares, ..to_total };
    (to_workspace, Some(Sum { from: arguments.workspace, count: shares.into(), ..to_total }))
}

/// What one context has loaded. Handles are kept as integers: they are only ever given back to the driver.
#[derive(Default)]
struct Loaded {
    modules: HashMap<&'static str, usize>,
    functions: HashMap<&'static str, usize>,
}

/// By context id. Entries of destroyed contexts are never found again, since ids are not reused.
static LOADED: RwLock<Option<HashMap<u64, Loaded>>> = RwLock::new(None);

/// Limits of the current context's device, for [`Plan::new`].
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoContext`], [`Error::Driver`].
pub fn device() -> Result<Device, Error> {
    crate::driver::probe()?;
    current_context_id()?;
    crate::driver::device()
}

/// Loads the plan's kernels into the current context and sets their attributes. Does nothing for what is
/// loaded already; may allocate device memory for code and may synchronise, unlike [`launch`].
///
/// # Errors
/// [`Error::NoDriver`], [`Error::DriverTooOld`], [`Error::NoContext`], [`Error::NoImage`], [`Error::Driver`].
pub fn prepare(plan: &Plan) -> Result<(), Error> {
    crate::driver::probe()?;
    let driver = driver_version()?;
    let context = current_context_id()?;
    let device = crate::driver::device()?;
    let regime = plan.kernel.regime;

    let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default().entry(context).or_default();
    let function = loaded.load(regime.module(), plan.kernel.name, &device, driver)?;
    if regime == Regime::Staged {
        // All the device allows, once, so that later plans of other lengths need no attribute of their own.
        let bytes = device.shared_memory_per_block.saturating_sub(regime.static_shared_bytes());
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: `function` was loaded into the current context.
        let status = unsafe { sys::cuFuncSetAttribute(function as sys::CUfunction, attribute, bytes as i32) };
        check("cuFuncSetAttribute", status)?;
    }
    if plan.total.is_some() {
        loaded.load(TOTAL_MODULE, TOTAL, &device, driver)?;
    }
    Ok(())
}

/// Has the current context launch `entry` of `ptx` as the kernel of that name, instead of the embedded one:
/// `cargo xtask mutate` runs changed kernels through this very layer.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoContext`], [`Error::Driver`] if the driver refuses the PTX or has no such kernel in it.
#[doc(hidden)]
pub fn substitute(entry: &'static str, ptx: &CStr) -> Result<(), Error> {
    crate::driver::probe()?;
    let context = current_context_id()?;
    // SAFETY: PTX that ends with a NUL.
    let handle = unsafe { result::module::load_data(ptx.as_ptr().cast()) };
    let handle = handle.map_err(|e| failed("cuModuleLoadData", e))? as usize;
    let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    let loaded = loaded.get_or_insert_default().entry(context).or_default();
    // Under the name of the kernel: the module of that name may hold others that are still wanted.
    loaded.modules.insert(entry, handle);
    let function = function_of(handle, entry)?;
    loaded.functions.insert(entry, function);
    Ok(())
}

/// Unloads everything [`prepare`] loaded into the current context.
///
/// # Safety
/// No launch of this crate may be in flight in the context, or held by a CUDA graph that is launched again.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoContext`], [`Error::Driver`].
pub unsafe fn unload() -> Result<(), Error> {
    crate::driver::probe()?;
    let context = current_context_id()?;
    let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    let modules = loaded.get_or_insert_default().remove(&context).unwrap_or_default().modules;
    let mut unloaded = Ok(());
    for module in modules.into_values() {
        // SAFETY: loaded by us into this context, and no longer in use, as the caller promises.
        let this = unsafe { result::module::unload(module as sys::CUmodule) };
        // One that fails must not keep the others loaded: nobody could name them any more.
        unloaded = unloaded.and(this.map_err(|e| failed("cuModuleUnload", e)));
    }
    unloaded
}

impl Loaded {
    fn load(
        &mut self,
        module: &'static str,
        entry: &'static str,
        device: &Device,
        driver: i32,
    ) -> Result<usize, Error> {
        if let Some(&function) = self.functions.get(entry) {
            return Ok(function);
        }
        let handle = match self.modules.get(module) {
            Some(&handle) => handle,
            None => {
                let handle = loader::load_first(IMAGES, module, device.capability, driver, |image| {
                    // SAFETY: the image is machine code, or PTX that ends with a NUL.
                    unsafe { result::module::load_data(image.bytes.as_ptr().cast()) }
                        .map_err(|e| (e.0 as u32, failed("cuModuleLoadData", e)))
                })? as usize;
                self.modules.insert(module, handle);
                handle
            }
        };
        let function = function_of(handle, entry)?;
        self.functions.insert(entry, function);
        Ok(function)
    }
}

/// The kernel of a module of the current context.
fn function_of(module: usize, entry: &'static str) -> Result<usize, Error> {
    // Entry points are identifiers of ours, without NUL.
    let name = CString::new(entry).unwrap_or_default();
    // SAFETY: `module` is a module of the current context.
    let function = unsafe { result::module::get_function(module as sys::CUmodule, name) };
    Ok(function.map_err(|e| failed("cuModuleGetFunction", e))? as usize)
}

/// Launches a prepared plan: row losses, gradient and total as planned. Neither allocates nor synchronises.
///
/// # Safety
/// - All pointers are device memory that the current context's device can access, aligned to their element
///   type, with room for the plan's shape at the given strides, alive until the launch has run.
/// - Nothing that is written overlaps anything else, except a gradient that replaces the scores (same
///   pointer, type and stride).
/// - `stream` is a stream of the current context, and no other stream uses the workspace meanwhile.
///
/// # Errors
/// [`Error::NotPrepared`], [`Error::NoContext`], [`Error::Epsilon`], [`Error::Cutoff`], [`Error::Driver`].
pub unsafe fn launch(plan: &Plan, options: &Options, arguments: &Arguments, stream: *mut c_void) -> Result<(), Error> {
    options.validate()?;
    crate::driver::probe()?;
    let context = current_context_id()?;
    let function = |entry: &'static str| {
        let loaded = LOADED.read().unwrap_or_else(PoisonError::into_inner);
        let function = loaded.as_ref().and_then(|l| l.get(&context)?.functions.get(entry).copied());
        function.ok_or(Error::NotPrepared { kernel: entry })
    };
    let row_function = function(plan.kernel.name)?;
    let total = match &plan.total {
        Some(total) => Some((*total, function(TOTAL)?)),
        None => None,
    };

    let mut args = KernelArgs::new(plan, options, arguments);
    let launch = |function: usize, grid: u32, block: u32, shared: u32, params: &mut [*mut c_void]| {
        // SAFETY: the function belongs to the current context, `params` matches its signature, and the
        // caller vouches for pointers and stream.
        unsafe { result::launch_kernel(function as _, (grid, 1, 1), (block, 1, 1), shared, stream.cast(), params) }
            .map_err(|e| failed("cuLaunchKernel", e))
    };
    if plan.grid > 0 {
        let params = &mut [(&raw mut args).cast()];
        launch(row_function, plan.grid, plan.block, plan.shared_bytes, params)?;
    }
    let Some((total, total_function)) = total else { return Ok(()) };
    let sum = |sum: Sum| {
        let Sum { mut from, mut count, mut scale, mut to, shares } = sum;
        let params =
            &mut [(&raw mut from).cast(), (&raw mut count).cast(), (&raw mut scale).cast(), (&raw mut to).cast()];
        launch(total_function, shares, plan.total_block(), 0, params)
    };
    let (first, second) = sums(total, &plan.problem, arguments);
    sum(first)?;
    second.map_or(Ok(()), sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: Arguments = Arguments {
        scores: 1,
        scores_stride: 2,
        labels: 3,
        labels_stride: 4,
        mask: 5,
        mask_stride: 6,
        gradient: 7,
        gradient_stride: 8,
        loss: 9,
        upstream: 10,
        upstream_stride: 11,
        scale: 3.0,
        total: 12,
        workspace: 13,
    };

    fn plan(rows: u64, gradient: Option<DType>, reduction: Reduction) -> Plan {
        let device = Device { capability: (8, 0), shared_memory_per_block: 163 << 10, max_grid: 0x7fff_ffff };
        let problem = Problem { rows, cols: 20, scores: DType::F16, labels: DType::U8, gradient, reduction };
        Plan::new(&device, &problem).expect("a plan")
    }

    #[test]
    fn every_argument_in_its_place() {
        let plan_of = |gradient| plan(4, gradient, Reduction::Sum);
        let args = KernelArgs::new(&plan_of(Some(DType::F16)), &Options::new().epsilon(0.25).cutoff(-9.0), &ARGUMENTS);
        let words: [u64; 13] = [
            args.rows,
            args.cols,
            args.scores,
            args.scores_stride,
            args.labels,
            args.labels_stride,
            args.mask,
            args.mask_stride,
            args.gradient,
            args.gradient_stride,
            args.loss,
            args.upstream,
            args.upstream_stride,
        ];
        assert_eq!(words, [4, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!([args.scale, args.low, args.high, args.cutoff], [3.0, 0.25, 0.75, -9.0]);
        assert_eq!((args.gradient_f32, args.reserved), (0, 0));

        let wide = KernelArgs::new(&plan_of(Some(DType::F32)), &Options::new(), &ARGUMENTS);
        assert_eq!((wide.gradient, wide.gradient_f32, wide.cutoff), (7, 1, f32::NEG_INFINITY));
        let forward = KernelArgs::new(&plan_of(None), &Options::new(), &ARGUMENTS);
        assert_eq!((forward.gradient, forward.gradient_f32), (0, 0));
    }

    #[test]
    fn a_mean_divides_by_the_rows() {
        for (rows, reduction, scale) in
            [(4, Reduction::Mean, 0.75), (4, Reduction::Sum, 3.0), (4, Reduction::None, 3.0), (0, Reduction::Mean, 3.0)]
        {
            let args = KernelArgs::new(&plan(rows, None, reduction), &Options::new(), &ARGUMENTS);
            assert_eq!(args.scale, scale, "{rows} {reduction:?}");
        }
    }

    #[test]
    fn the_total_of_many_rows_goes_through_the_workspace() {
        let sums_of = |rows| {
            let plan = plan(rows, None, Reduction::Mean);
            sums(plan.total.expect("a total"), &plan.problem, &ARGUMENTS)
        };
        let direct = Sum { from: 9, count: 8192, scale: 1.0 / 8192.0, to: 12, shares: 1 };
        assert_eq!(sums_of(8192), (direct, None));
        let first = Sum { from: 9, count: 16_384, scale: 1.0, to: 13, shares: 2 };
        let second = Sum { from: 13, count: 2, scale: 1.0 / 16_384.0, to: 12, shares: 1 };
        assert_eq!(sums_of(16_384), (first, Some(second)));
    }
}
