//! Launches in clusters, by cudarc's own calls: blocks pass a value round through shared memory.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;

use cudarc::driver::DevicePtr;
use cudarc::driver::sys::{self, CUfunction_attribute_enum as Attribute, CUresult};
use driver_support::{device, kernel};
use softcuda::Config;

/// Each block writes its number where the next one of its cluster finds it.
const ROUND: &str = ".version 8.0\n.target sm_90\n.address_size 64
.visible .entry round(.param .u64 out) CLUSTER
{
.reg .b32 %r<8>;
.reg .b64 %rd<4>;
.shared .align 4 .u32 s;
mov.u32 %r1, %ctaid.x;
mov.u32 %r2, %cluster_ctarank;
mov.u32 %r3, %cluster_nctarank;
add.u32 %r4, %r2, 1;
rem.u32 %r4, %r4, %r3;
barrier.cluster.arrive.relaxed.aligned;
barrier.cluster.wait.aligned;
mov.u32 %r5, s;
mapa.shared::cluster.u32 %r5, %r5, %r4;
st.shared::cluster.u32 [%r5], %r1;
barrier.cluster.arrive.release.aligned;
barrier.cluster.wait.acquire.aligned;
ld.shared.u32 %r6, [s];
ld.param.u64 %rd1, [out];
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd1, %rd1, %rd2;
st.global.u32 [%rd1], %r6;
ret;
}
";

/// What 16 blocks left, launched with this cluster size or that of the kernel.
fn launch(text: &str, cluster: Option<u32>, allow: bool) -> Result<Vec<u32>, CUresult> {
    let (_gpu, context) = device(Config::capability(9, 0));
    let stream = context.default_stream();
    let function = kernel(&context, text, "round");
    if allow {
        function.set_attribute(Attribute::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1).unwrap();
    }
    let out = stream.alloc_zeros::<u32>(16).unwrap();
    let mut attribute = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { pad: [0; 64] },
    };
    attribute.value.clusterDim =
        sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: cluster.unwrap_or(1), y: 1, z: 1 };
    let config = sys::CUlaunchConfig {
        gridDimX: 16,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 32,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream.cu_stream(),
        attrs: &raw mut attribute,
        numAttrs: u32::from(cluster.is_some()),
    };
    let (address, _guard) = out.device_ptr(&stream);
    let mut params = [(&raw const address).cast_mut().cast::<c_void>()];
    let result =
        unsafe { sys::cuLaunchKernelEx(&config, function.cu_function(), params.as_mut_ptr(), std::ptr::null_mut()) };
    if result != CUresult::CUDA_SUCCESS {
        return Err(result);
    }
    Ok(stream.clone_dtoh(&out).unwrap())
}

fn expected(size: u32) -> Vec<u32> {
    (0..16).map(|block| block / size * size + (block + size - 1) % size).collect()
}

#[test]
fn clusters_of_the_launch_and_of_the_kernel() {
    let free = ROUND.replace("CLUSTER", "");
    for size in [1, 2, 4, 8] {
        assert_eq!(launch(&free, Some(size), false), Ok(expected(size)));
    }
    assert_eq!(launch(&free, Some(16), true), Ok(expected(16)));
    assert_eq!(launch(&free, None, false), Ok(expected(1)));
    let fixed = ROUND.replace("CLUSTER", ".explicitcluster .reqnctapercluster 4, 1, 1");
    assert_eq!(launch(&fixed, None, false), Ok(expected(4)));
    assert_eq!(launch(&fixed, Some(4), false), Ok(expected(4)));
    assert_eq!(launch(&fixed, Some(2), false), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
}
