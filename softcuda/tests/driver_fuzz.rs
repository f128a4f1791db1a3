//! Random calls with handles, sizes and device addresses that mean nothing: answers, never crashes.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::{CString, c_void};

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUresult};
use driver_support::{SCALE, device};
use softcuda::Config;

/// A generator of its own, so that a failing call can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 29
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Small numbers, numbers near powers of two, and any.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => self.below(64),
            1 => (1_u64 << self.below(64)).wrapping_add(self.below(3)).wrapping_sub(1),
            2 => self.below(1 << 20),
            _ => self.next() << 29 ^ self.next(),
        }
    }

    fn pick(&mut self, known: &[u64]) -> u64 {
        if !known.is_empty() && self.below(4) > 0 {
            known[self.below(known.len() as u64) as usize]
        } else {
            self.number()
        }
    }
}

/// What earlier calls made, to be used rightly, wrongly and after its end.
#[derive(Default)]
struct Made {
    handles: [Vec<u64>; 4],
    addresses: Vec<u64>,
}

const STREAM: usize = 0;
const EVENT: usize = 1;
const MODULE: usize = 2;
const FUNCTION: usize = 3;

impl Made {
    /// A handle, mostly of the kind asked for.
    fn handle<T>(&self, kind: usize, random: &mut Random) -> *mut T {
        let kind = if random.below(5) == 0 { random.below(4) as usize } else { kind };
        random.pick(&self.handles[kind]) as *mut T
    }
}

/// One random call.
unsafe fn call(random: &mut Random, made: &mut Made, image: &CString) -> CUresult {
    let mut buffer = [0_u8; 256];
    let host: *mut c_void = buffer.as_mut_ptr().cast();
    let bytes = random.below(256) as usize;
    let size = random.number() as usize;
    let (stream, event) = (made.handle(STREAM, random), made.handle(EVENT, random));
    let (module, function) = (made.handle(MODULE, random), made.handle(FUNCTION, random));
    let address = random.pick(&made.addresses).wrapping_add(random.below(8));
    let other = random.pick(&made.addresses);
    let (mut out, mut kind) = (std::ptr::null_mut::<c_void>(), STREAM);
    let (mut number, mut wide, mut pointer) = (0_i32, 0_usize, 0_u64);
    let small = random.next() as u32;
    let answer = unsafe {
        match random.below(34) {
            0 => sys::cuStreamCreate((&raw mut out).cast(), small % 3),
            1 => sys::cuStreamDestroy_v2(stream),
            2 => {
                kind = EVENT;
                sys::cuEventCreate((&raw mut out).cast(), small % 9)
            }
            3 => sys::cuEventDestroy_v2(event),
            4 => sys::cuEventRecord(event, stream),
            5 => sys::cuStreamWaitEvent(stream, event, small),
            6 => sys::cuMemAlloc_v2(&mut pointer, size),
            7 => sys::cuMemAllocAsync(&mut pointer, bytes, stream),
            8 => sys::cuMemFree_v2(address),
            9 => sys::cuMemFreeAsync(other, stream),
            10 => sys::cuMemcpyHtoD_v2(address, host, bytes),
            11 => sys::cuMemcpyDtoH_v2(host, address, bytes),
            12 => sys::cuMemcpyDtoDAsync_v2(address, other, size % 100_000, stream),
            13 => sys::cuMemsetD8Async(address, 1, size % 100_000, stream),
            14 => sys::cuMemsetD32_v2(address, 1, size),
            15 => sys::cuMemsetD2D16_v2(address, size, 1, bytes, size % 100),
            16 => {
                kind = MODULE;
                sys::cuModuleLoadData((&raw mut out).cast(), image.as_ptr().cast())
            }
            17 => {
                kind = FUNCTION;
                sys::cuModuleGetFunction((&raw mut out).cast(), module, c"scale".as_ptr())
            }
            18 => sys::cuModuleUnload(module),
            19 => sys::cuModuleGetGlobal_v2(&mut pointer, &mut wide, module, c"x".as_ptr()),
            20 => sys::cuCtxSetLimit(sys::CUlimit::CU_LIMIT_STACK_SIZE, size),
            21 => sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&mut number, function, small as i32, size),
            22 => sys::cuOccupancyAvailableDynamicSMemPerBlock(&mut wide, function, (small % 99) as i32, bytes as i32),
            23 => sys::cuFuncSetAttribute(
                function,
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                small as i32,
            ),
            24 => sys::cuPointerGetAttribute(host, sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_RANGE_SIZE, address),
            25 => sys::cuMemGetAddressRange_v2(&mut pointer, &mut wide, address),
            26 => sys::cuDeviceGetAttribute(
                &mut number,
                sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE,
                small as i32,
            ),
            27 => sys::cuDevicePrimaryCtxRelease_v2((small | 1 << 30) as i32),
            28 => sys::cuMemPoolTrimTo(stream.cast(), size),
            29 => sys::cuEventElapsedTime_v2((&raw mut buffer).cast(), event, made.handle(EVENT, random)),
            30 => sys::cuMemAllocFromPoolAsync(&mut pointer, bytes, event.cast(), stream),
            31 => sys::cuCtxPushCurrent_v2((random.number() as *mut c_void).cast()),
            32 => sys::cuMemFreeHost(random.number() as *mut c_void),
            _ => {
                let (x, y, n) = (address, other, small % 64);
                let mut params = [
                    (&raw const x).cast_mut().cast(),
                    (&raw const y).cast_mut().cast(),
                    host,
                    (&raw const n).cast_mut().cast(),
                ];
                let shape = [random.number() as u32 % 5, small % 3, random.number() as u32 % 300];
                let shared = if random.below(2) == 0 { 0 } else { size as u32 };
                sys::cuLaunchKernel(
                    function,
                    shape[0],
                    shape[1],
                    1,
                    shape[2],
                    1,
                    1,
                    shared,
                    stream,
                    params.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            }
        }
    };
    if !out.is_null() {
        made.handles[kind].push(out as u64);
    }
    if pointer != 0 {
        made.addresses.push(pointer);
    }
    // Old ones stay in use for a while, then make room.
    for list in made.handles.iter_mut().chain([&mut made.addresses]) {
        if list.len() > 20 {
            list.swap_remove(random.below(20) as usize);
        }
    }
    answer
}

/// `SOFTCUDA_FUZZ_SEEDS=2000` makes ten million calls.
#[test]
fn nonsense_is_answered() {
    let image = CString::new(SCALE).unwrap();
    let seeds = std::env::var("SOFTCUDA_FUZZ_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let mut launches = 0;
    for seed in 0..seeds.unwrap_or(20) {
        let (gpu, mut context) = device(Config { memory_bytes: 1 << 24, ..Config::capability(8, 0) });
        let mut random = Random(seed);
        let mut made = Made::default();
        for step in 0..5_000 {
            let answer = unsafe { call(&mut random, &mut made, &image) };
            // A kernel may well fault on a wild address, but nothing may fail inside the driver.
            let unknown = CUresult::CUDA_ERROR_UNKNOWN;
            assert_ne!(answer, unknown, "seed {seed}, step {step}: {:?}", gpu.report());
            if context.synchronize().is_err() {
                // A sticky error: nothing would be tested any more but that.
                drop(context);
                context = CudaContext::new(gpu.ordinal()).unwrap();
                made = Made::default();
            }
        }
        launches += u32::from(gpu.last_launch().is_some());
    }
    assert!(launches > 10, "{launches}: the calls must reach as far as kernels");
}
