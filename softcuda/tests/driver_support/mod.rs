//! What the driver's tests share: a leased device with a context, and a few small kernels.

#![allow(dead_code, reason = "every test file takes what it needs")]

use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaFunction, CudaStream, DriverError, LaunchConfig};
use cudarc::nvrtc::Ptx;
use softcuda::{Config, Gpu};

/// A device of its own for a test, always a virtual one. The `Gpu` comes first in the tuple's
/// pattern, so that it is dropped last.
pub(crate) fn device(config: Config) -> (Gpu, Arc<CudaContext>) {
    let gpu = softcuda::virtual_gpu(config).expect("a virtual device");
    let context = CudaContext::new(gpu.ordinal()).expect("a context");
    (gpu, context)
}

/// A device of compute capability 8.0.
pub(crate) fn a100() -> (Gpu, Arc<CudaContext>) {
    device(Config::capability(8, 0))
}

/// A device without cudarc's own events, which may not be waited for in a capture, and two streams.
pub(crate) fn bench(seed: u64) -> (Gpu, Arc<CudaContext>, [Arc<CudaStream>; 2]) {
    let (gpu, context) = device(Config { seed, ..Config::capability(8, 0) });
    // SAFETY: nothing was allocated yet whose events would be missed.
    unsafe { context.disable_event_tracking() };
    let streams = [context.new_stream().unwrap(), context.new_stream().unwrap()];
    (gpu, context, streams)
}

/// A kernel of a PTX text.
pub(crate) fn kernel(context: &Arc<CudaContext>, ptx: &str, name: &str) -> CudaFunction {
    let module = context.load_module(Ptx::from_src(ptx)).expect("a module");
    module.load_function(name).expect("a kernel")
}

/// The code of a refused call.
#[track_caller]
pub(crate) fn code<T>(result: Result<T, DriverError>) -> CUresult {
    match result {
        Ok(_) => panic!("the call succeeded"),
        Err(error) => error.0,
    }
}

/// A launch of one-dimensional blocks.
pub(crate) fn shape(blocks: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// `scale(y, x, a, n)`: y[i] = a x[i].
pub(crate) const SCALE: &str = r"
.version 7.0
.target sm_75
.address_size 64
.visible .entry scale(.param .u64 y, .param .u64 x, .param .f32 a, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %r<5>;
    .reg .b64 %rd<6>;
    .reg .f32 %f<4>;
    ld.param.u64 %rd1, [y];
    ld.param.u64 %rd2, [x];
    ld.param.f32 %f1, [a];
    ld.param.u32 %r1, [n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r2, %r2, %r3, %r4;
    setp.ge.u32 %p, %r2, %r1;
    @%p bra DONE;
    mul.wide.u32 %rd3, %r2, 4;
    cvta.to.global.u64 %rd2, %rd2;
    cvta.to.global.u64 %rd1, %rd1;
    add.s64 %rd4, %rd2, %rd3;
    ld.global.f32 %f2, [%rd4];
    mul.f32 %f3, %f2, %f1;
    add.s64 %rd5, %rd1, %rd3;
    st.global.f32 [%rd5], %f3;
DONE:
    ret;
}
";

/// `store(p, offset)`: one thread stores 1 at byte `offset` of p.
pub(crate) const STORE: &str = r"
.version 7.0
.target sm_75
.address_size 64
.visible .entry store(.param .u64 p, .param .u64 offset)
{
    .reg .b32 %r1;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    ld.param.u64 %rd2, [offset];
    add.s64 %rd1, %rd1, %rd2;
    mov.u32 %r1, 1;
    st.global.u32 [%rd1], %r1;
    ret;
}
";

/// `stop()`: executes `trap`.
pub(crate) const STOP: &str = r"
.version 7.0
.target sm_75
.address_size 64
.visible .entry stop()
{
    trap;
}
";

/// `exchange(out)`: thread i stores i in dynamic shared memory and reads its opposite; there is
/// one element per thread.
pub(crate) const EXCHANGE: &str = r"
.version 7.0
.target sm_75
.address_size 64
.extern .shared .align 4 .b8 buffer[];
.visible .entry exchange(.param .u64 out)
{
    .reg .b32 %r<8>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, buffer;
    shl.b32 %r4, %r1, 2;
    add.s32 %r5, %r3, %r4;
    st.shared.u32 [%r5], %r1;
    bar.sync 0;
    sub.s32 %r6, %r2, %r1;
    add.s32 %r6, %r6, -1;
    shl.b32 %r6, %r6, 2;
    add.s32 %r6, %r3, %r6;
    ld.shared.u32 %r7, [%r6];
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    st.global.u32 [%rd3], %r7;
    ret;
}
";

/// `nothing()`: returns.
pub(crate) const NOTHING: &str = r"
.version 7.0
.target sm_75
.address_size 64
.visible .entry nothing()
{
    ret;
}
";
