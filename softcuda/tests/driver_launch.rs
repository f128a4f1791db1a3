//! Launches: what runs, what the driver refuses, and what can be learnt afterwards.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute, CUresult};
use cudarc::driver::{CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use driver_support::{EXCHANGE, NOTHING, SCALE, a100, code, device, kernel, shape};
use softcuda::{Config, Gpu};

#[test]
fn a_kernel_runs_with_arguments_of_every_kind() {
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, SCALE, "scale");
    let n = 1000_u32;
    let x: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let input = stream.clone_htod(&x).unwrap();
    let mut output = stream.alloc_zeros::<f32>(n as usize).unwrap();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut output).arg(&input).arg(&2.5_f32).arg(&n);
    unsafe { launch.launch(shape(n.div_ceil(256), 256)) }.unwrap();
    let expected: Vec<f32> = x.iter().map(|x| 2.5 * x).collect();
    assert_eq!(stream.clone_dtoh(&output).unwrap(), expected);

    let info = gpu.last_launch().unwrap();
    assert_eq!((info.kernel.as_str(), info.grid, info.block), ("scale", [4, 1, 1], [256, 1, 1]));
    assert_eq!((info.cluster, info.dynamic_shared), ([1, 1, 1], 0));
    let counters = gpu.counters().unwrap();
    assert_eq!(counters.launches, 1);
    assert_eq!(counters.global_read_bytes, 4000);
    assert_eq!(counters.global_write_bytes, 4000);
    gpu.reset_counters();
    assert_eq!(gpu.counters().unwrap().launches, 0);
    assert_eq!(gpu.report(), None);
}

#[test]
fn parameters_can_come_as_one_buffer() {
    #[repr(C)]
    struct Params {
        y: u64,
        x: u64,
        a: f32,
        n: u32,
    }
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let function = kernel(&context, SCALE, "scale");
    let x = stream.clone_htod(&[1.0_f32, 2.0]).unwrap().leak();
    let y = stream.alloc_zeros::<f32>(2).unwrap().leak();
    let params = Params { y, x, a: 3.0, n: 2 };
    let launch = |extra: *mut *mut c_void| unsafe {
        let stream = stream.cu_stream();
        sys::cuLaunchKernel(function.cu_function(), 1, 1, 1, 32, 1, 1, 0, stream, std::ptr::null_mut(), extra)
    };
    let launch_with = |mut size: usize| {
        // CU_LAUNCH_PARAM_BUFFER_POINTER, ..._SIZE, ..._END
        let mut extra: [*mut c_void; 5] = [
            std::ptr::without_provenance_mut(1),
            (&raw const params).cast_mut().cast(),
            std::ptr::without_provenance_mut(2),
            (&raw mut size).cast(),
            std::ptr::null_mut(),
        ];
        launch(extra.as_mut_ptr())
    };
    launch_with(size_of::<Params>()).result().unwrap();
    let result = unsafe { stream.upgrade_device_ptr::<f32>(y, 2) };
    assert_eq!(stream.clone_dtoh(&result).unwrap(), [3.0, 6.0]);
    // Too short, and nothing at all.
    assert_eq!(launch_with(size_of::<Params>() - 1), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(launch(std::ptr::null_mut()), CUresult::CUDA_ERROR_INVALID_VALUE);
}

/// A function, its stream and its device, for launches without arguments.
struct Bench {
    gpu: Gpu,
    stream: Arc<CudaStream>,
    function: CudaFunction,
}

impl Bench {
    fn new(config: Config, ptx: &str, name: &str) -> Bench {
        let (gpu, context) = device(config);
        let function = kernel(&context, ptx, name);
        Bench { gpu, stream: context.default_stream(), function }
    }

    fn launch(&self, grid: [u32; 3], block: [u32; 3], shared: u32) -> Result<(), CUresult> {
        let config = LaunchConfig { grid_dim: grid.into(), block_dim: block.into(), shared_mem_bytes: shared };
        let launched = unsafe { self.stream.launch_builder(&self.function).launch(config) };
        launched.map(|_| ()).map_err(|error| error.0)
    }
}

#[test]
fn impossible_shapes_are_invalid_values() {
    let bench = Bench::new(Config::capability(8, 0), NOTHING, "nothing");
    let invalid = Err(CUresult::CUDA_ERROR_INVALID_VALUE);
    for (grid, block) in [
        ([0, 1, 1], [32, 1, 1]),
        ([1, 1, 1], [0, 1, 1]),
        ([1 << 31, 1, 1], [1, 1, 1]),
        ([1, 65_536, 1], [1, 1, 1]),
        ([1, 1, 65_536], [1, 1, 1]),
        ([1, 1, 1], [1025, 1, 1]),
        ([1, 1, 1], [1, 1025, 1]),
        ([1, 1, 1], [1, 1, 65]),
        ([1, 1, 1], [32, 33, 1]),
        ([1, 1, 1], [u32::MAX, u32::MAX, u32::MAX]),
    ] {
        assert_eq!(bench.launch(grid, block, 0), invalid, "{grid:?} of {block:?}");
        assert!(bench.gpu.report().unwrap().contains("launch of nothing"));
    }
    // Not sticky, and the largest shapes are fine.
    bench.launch([3, 2, 2], [16, 8, 8], 0).unwrap();
    bench.launch([1, 65_535, 1], [1, 1, 1], 0).unwrap();
    bench.stream.synchronize().unwrap();
}

#[test]
fn dynamic_shared_memory_beyond_48_kib_must_be_asked_for() {
    let bench = Bench::new(Config::capability(8, 0), NOTHING, "nothing");
    let one = [1, 1, 1];
    bench.launch(one, one, 48 * 1024).unwrap();
    assert_eq!(bench.launch(one, one, 48 * 1024 + 1), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
    assert!(bench.gpu.report().unwrap().contains("MAX_DYNAMIC_SHARED_SIZE_BYTES"));
    let dynamic = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    bench.function.set_attribute(dynamic, 100_000).unwrap();
    bench.launch(one, one, 100_000).unwrap();
    assert_eq!(bench.launch(one, one, 100_001), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn dynamic_shared_memory_is_there_to_use() {
    let (_gpu, context) = a100();
    let stream = context.default_stream();
    let function = kernel(&context, EXCHANGE, "exchange");
    let mut output = stream.alloc_zeros::<u32>(64).unwrap();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut output);
    unsafe { launch.launch(LaunchConfig { shared_mem_bytes: 256, ..shape(1, 64) }) }.unwrap();
    let expected: Vec<u32> = (0..64).rev().collect();
    assert_eq!(stream.clone_dtoh(&output).unwrap(), expected);
}

#[test]
fn a_kernel_with_bounds_is_held_to_them() {
    let bounded = NOTHING.replace("nothing()", "nothing() .maxntid 128, 1, 1");
    let bench = Bench::new(Config::capability(8, 0), &bounded, "nothing");
    bench.launch([1, 1, 1], [128, 1, 1], 0).unwrap();
    assert_eq!(bench.launch([1, 1, 1], [129, 1, 1], 0), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
    let most = bench.function.get_attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    assert_eq!(most.unwrap(), 128);

    let required = NOTHING.replace("nothing()", "nothing() .reqntid 64, 2, 1");
    let bench = Bench::new(Config::capability(8, 0), &required, "nothing");
    bench.launch([1, 1, 1], [64, 2, 1], 0).unwrap();
    assert_eq!(bench.launch([1, 1, 1], [128, 1, 1], 0), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn a_cooperative_grid_must_be_resident() {
    let config = Config { sm_count: 2, ..Config::capability(8, 0) };
    let (_gpu, context) = device(config);
    let stream = context.default_stream();
    let function = kernel(&context, NOTHING, "nothing");
    let launch = |blocks| unsafe { stream.launch_builder(&function).launch_cooperative(shape(blocks, 1024)) };
    // Two blocks of 1024 threads on each of two multiprocessors.
    launch(4).unwrap();
    assert_eq!(code(launch(5)), CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
}

#[test]
fn kernel_stream_and_context_must_belong_together() {
    let (_one, first) = a100();
    let (_two, second) = a100();
    let function = kernel(&first, NOTHING, "nothing");
    let launch = |stream: &CudaStream| unsafe { stream.launch_builder(&function).launch(shape(1, 1)) };
    assert_eq!(code(launch(&second.default_stream())), CUresult::CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(code(launch(&second.new_stream().unwrap())), CUresult::CUDA_ERROR_INVALID_HANDLE);
    launch(&first.default_stream()).unwrap();
}

/// Launches through `cuLaunchKernelEx`.
fn launch_ex(bench: &Bench, blocks: u32, attributes: &mut [sys::CUlaunchAttribute]) -> CUresult {
    let config = sys::CUlaunchConfig {
        gridDimX: blocks,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 32,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: bench.stream.cu_stream(),
        attrs: attributes.as_mut_ptr(),
        numAttrs: attributes.len() as u32,
    };
    let none = std::ptr::null_mut();
    unsafe { sys::cuLaunchKernelEx(&config, bench.function.cu_function(), none, none) }
}

fn attribute(id: sys::CUlaunchAttributeID, set: impl Fn(&mut sys::CUlaunchAttributeValue)) -> sys::CUlaunchAttribute {
    let mut value = sys::CUlaunchAttributeValue { pad: [0; 64] };
    set(&mut value);
    sys::CUlaunchAttribute { id, pad: [0; 4], value }
}

fn cluster(blocks: u32) -> sys::CUlaunchAttribute {
    attribute(sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, |value| {
        value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: blocks, y: 1, z: 1 };
    })
}

#[test]
fn launch_attributes_are_understood() {
    let bench = Bench::new(Config::capability(9, 0), NOTHING, "nothing");
    assert_eq!(launch_ex(&bench, 4, &mut []), CUresult::CUDA_SUCCESS);
    let overlap = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    let overlap = attribute(overlap, |value| value.programmaticStreamSerializationAllowed = 1);
    assert_eq!(launch_ex(&bench, 4, &mut [overlap]), CUresult::CUDA_SUCCESS);
    let cooperative = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    let cooperative = attribute(cooperative, |value| value.cooperative = 1);
    let resident = 132 * 32;
    assert_eq!(launch_ex(&bench, resident, &mut [cooperative]), CUresult::CUDA_SUCCESS);
    let refused = launch_ex(&bench, resident + 1, &mut [cooperative]);
    assert_eq!(refused, CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    bench.stream.synchronize().unwrap();
}

#[test]
fn cluster_sizes_have_limits() {
    let bench = Bench::new(Config::capability(9, 0), NOTHING, "nothing");
    let size = CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE;
    assert_eq!(launch_ex(&bench, 16, &mut [cluster(16)]), size, "16 is not portable");
    assert_eq!(launch_ex(&bench, 3, &mut [cluster(2)]), CUresult::CUDA_ERROR_INVALID_VALUE);
    assert_eq!(launch_ex(&bench, 3, &mut [cluster(0)]), size);
    let allow = Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
    bench.function.set_attribute(allow, 1).unwrap();
    assert_eq!(launch_ex(&bench, 32, &mut [cluster(32)]), size);

    let older = Bench::new(Config::capability(8, 0), NOTHING, "nothing");
    assert_eq!(launch_ex(&older, 2, &mut [cluster(2)]), size);
    assert_eq!(launch_ex(&older, 2, &mut [cluster(1)]), size);
}
