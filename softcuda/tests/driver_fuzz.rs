//! Random calls with handles, sizes and device addresses that mean nothing: answers, never crashes.
//! Host pointers are valid, as the driver demands of its callers.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to buffers that live on")]

mod driver_support;

use std::collections::HashMap;
use std::ffi::{CStr, c_void};
use std::sync::{Mutex, PoisonError};

use cudarc::driver::sys;
use driver_support::SCALE;
use softcuda::{Config, Gpu, When};

/// What is called, with the kinds of the arguments. `>X` is a place for a new X.
///
/// Handles: S stream, E event, M module, F function, L library, K kernel, C context, P pool, N
/// linker, D device. A is a device address, H pinned memory. h is a buffer of the host's and b a
/// number of bytes in it, o a place for results. z is a size, Z a small or an impossible one, w any word, i any 32 bits, s a small
/// number, f a few flags, c a count of up to 8, 0 nothing. n is a name, m an image, j a size that
/// every image has. 2 is a pitched copy, l a launch configuration, p parameters of a kernel, U a
/// list of numbers, O a list of places, V and W functions to call back.
const FUNCTIONS: &str = "
    cuCtxCreate_v2 >C f D; cuCtxDestroy_v2 C; cuCtxDisablePeerAccess C; cuCtxEnablePeerAccess C f;
    cuCtxGetApiVersion C o; cuCtxGetCacheConfig o; cuCtxGetCurrent o; cuCtxGetDevice o; cuCtxGetFlags o;
    cuCtxGetId C o; cuCtxGetLimit o s; cuCtxGetSharedMemConfig o; cuCtxGetStreamPriorityRange o o;
    cuCtxPopCurrent_v2 o; cuCtxPushCurrent_v2 C; cuCtxResetPersistingL2Cache; cuCtxSetCacheConfig s;
    cuCtxSetCurrent C; cuCtxSetFlags f; cuCtxSetLimit s z; cuCtxSynchronize; cuDeviceCanAccessPeer o D D;
    cuDeviceComputeCapability o o D; cuDeviceGet o s; cuDeviceGetAttribute o i D; cuDeviceGetAttribute o s D;
    cuDeviceGetByPCIBusId o n; cuDeviceGetCount o; cuDeviceGetDefaultMemPool >P D; cuDeviceGetMemPool >P D;
    cuDeviceGetName o b D; cuDeviceGetP2PAttribute o s D D; cuDeviceGetPCIBusId o b D; cuDeviceGetUuid_v2 o D;
    cuDevicePrimaryCtxGetState D o o; cuDevicePrimaryCtxRelease_v2 D; cuDevicePrimaryCtxReset_v2 D;
    cuDevicePrimaryCtxRetain >C D; cuDevicePrimaryCtxSetFlags_v2 D f; cuDeviceSetMemPool D P;
    cuDeviceTotalMem_v2 o D; cuDriverGetVersion o; cuEventCreate >E s; cuEventDestroy_v2 E;
    cuEventElapsedTime o E E; cuEventElapsedTime_v2 o E E; cuEventQuery E; cuEventRecord E S;
    cuEventRecordWithFlags E S f; cuEventSynchronize E; cuFuncGetAttribute o s F; cuFuncGetModule o F;
    cuFuncGetName o F; cuFuncGetParamCount F o; cuFuncGetParamInfo F s o o; cuFuncIsLoaded o F; cuFuncLoad F;
    cuFuncSetAttribute F s i; cuFuncSetAttribute F s s; cuFuncSetCacheConfig F s; cuGetErrorName i o;
    cuGetErrorString s o; cuInit f; cuKernelGetAttribute o s K D; cuKernelGetFunction >F K;
    cuKernelGetLibrary o K; cuKernelGetName o K; cuKernelGetParamCount K o; cuKernelGetParamInfo K s o o;
    cuKernelSetAttribute s i K D; cuKernelSetCacheConfig K s D;
    cuLaunchCooperativeKernel F s s s s s s z S p; cuLaunchHostFunc S V 0;
    cuLaunchKernel F s f f i f f z S p 0; cuLaunchKernel F s 1 1 s 1 1 0 S p 0; cuLaunchKernel F s 1 1 s 1 1 0 0 p 0;
    cuLaunchKernel F s 1 1 s 1 1 0 0 p 0; cuLaunchKernel K s 1 1 s 1 1 0 S p 0;
    cuLaunchKernelEx l F p 0; cuLibraryEnumerateKernels o c L; cuLibraryGetGlobal o o L n;
    cuLibraryGetKernel >K L n; cuLibraryGetKernelCount o L; cuLibraryGetModule >M L;
    cuLibraryLoadData >L m 0 0 0 0 0 0; cuLibraryUnload L; cuLinkAddData_v2 N s m j n 0 0 0;
    cuLinkComplete N o o; cuLinkCreate_v2 0 0 0 >N; cuLinkDestroy N; cuMemAdvise A z s D; cuMemAllocAsync >A b S;
    cuMemAllocFromPoolAsync >A b P S; cuMemAllocManaged >A Z f; cuMemAllocManaged >A b f; cuMemAllocPitch_v2 >A o b s s;
    cuMemAlloc_v2 >A b; cuMemAlloc_v2 >A z; cuMemFreeAsync A S; cuMemFreeHost H; cuMemFree_v2 A;
    cuMemGetAddressRange_v2 o o A; cuMemGetInfo_v2 o o; cuMemHostAlloc >H b f; cuMemAllocHost_v2 >H Z;
    cuMemHostGetDevicePointer_v2 >A H 0; cuMemHostGetFlags o H; cuMemHostRegister_v2 h b f; cuMemHostUnregister h;
    cuMemPoolCreate >P o; cuMemPoolDestroy P; cuMemPoolGetAttribute P s o; cuMemPoolSetAttribute P s o;
    cuMemPoolTrimTo P z; cuMemPrefetchAsync A z D S; cuMemRangeGetAttribute o b s A z;
    cuMemcpy2DAsync_v2 2 S; cuMemcpy2D_v2 2; cuMemcpyDtoDAsync_v2 A A z S; cuMemcpyDtoD_v2 A A b;
    cuMemcpyDtoHAsync_v2 h A b S; cuMemcpyDtoH_v2 h A b; cuMemcpyHtoDAsync_v2 A h b S; cuMemcpyHtoD_v2 A h b;
    cuMemcpyPeer A C A C b; cuMemcpyPeerAsync A C A C z S; cuMemsetD16Async A i z S; cuMemsetD16_v2 A i b;
    cuMemsetD2D16_v2 A z i z s; cuMemsetD2D32Async A z i b s S; cuMemsetD2D8_v2 A b i b s; cuMemsetD32Async A i b S;
    cuMemsetD32_v2 A i z; cuMemsetD8Async A i b S; cuMemsetD8_v2 A i z; cuModuleEnumerateFunctions o c M;
    cuModuleGetFunction >F M n; cuModuleGetFunction >F M n; cuModuleGetFunction >F M n; cuModuleGetFunctionCount o M; cuModuleGetGlobal_v2 o o M n;
    cuModuleGetLoadingMode o; cuModuleLoad >M n; cuModuleLoadData >M m; cuModuleLoadData >M m; cuModuleLoadDataEx >M m 0 0 0;
    cuModuleUnload M; cuOccupancyAvailableDynamicSMemPerBlock o F s s;
    cuOccupancyMaxActiveBlocksPerMultiprocessor o F i z; cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags o F s b s;
    cuOccupancyMaxActiveClusters o F l; cuOccupancyMaxPotentialBlockSize o o F 0 z i;
    cuOccupancyMaxPotentialClusterSize o F l; cuPointerGetAttribute o s A; cuPointerGetAttributes c U O A;
    cuStreamAddCallback S W 0 0; cuStreamAttachMemAsync S A z s; cuStreamCreate >S f;
    cuStreamCreateWithPriority >S f i; cuStreamDestroy_v2 S; cuStreamGetCtx S o; cuStreamGetDevice S o;
    cuStreamGetFlags S o; cuStreamGetId S o; cuStreamGetPriority S o; cuStreamQuery S; cuStreamSynchronize S;
    cuStreamWaitEvent S E f";

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
        if !known.is_empty() && self.below(8) > 0 {
            known[self.below(known.len() as u64) as usize]
        } else {
            self.number()
        }
    }
}

/// What earlier calls made, by kind: to be used rightly, wrongly and after its end.
#[derive(Default)]
struct Made {
    lists: HashMap<u8, Vec<u64>>,
    /// All pinned memory there ever was, to be given back.
    pinned: Vec<u64>,
}

impl Made {
    /// A handle, mostly of the kind asked for.
    fn pick(&self, kind: u8, random: &mut Random) -> u64 {
        const KINDS: &[u8] = b"SEMFLKCPNA";
        let kind = if random.below(12) == 0 { KINDS[random.below(KINDS.len() as u64) as usize] } else { kind };
        random.pick(self.lists.get(&kind).map_or(&[], Vec::as_slice))
    }

    /// Keeps the last few.
    fn add(&mut self, kind: u8, value: u64, random: &mut Random) {
        let list = self.lists.entry(kind).or_default();
        list.push(value);
        if list.len() > 20 {
            list.swap_remove(random.below(20) as usize);
        }
    }
}

/// Bytes of a buffer of the host's, and how many of them a call is told of.
const ROOM: usize = 1 << 16;
const BYTES: u64 = 4096;

/// What pointers point to. It outlives the run: pinned by one call, it may be used by a later one.
struct Buffers {
    host: &'static mut [u64],
    out: [u64; 1024],
    made: u64,
    lists: [[u64; 8]; 2],
    words: [u64; 32],
    values: [u64; 8],
    pointers: [*const c_void; 8],
    attributes: [[u64; 9]; 3],
}

extern "C" fn called_back(_argument: *mut c_void) {}
extern "C" fn called_back_with_state(_stream: *mut c_void, _state: u32, _argument: *mut c_void) {}

const NAMES: [&CStr; 6] = [c"scale", c"scale", c"scale", c"x", c"", c"0000:00:00.0"];

/// One caller: a thread with its buffers.
struct Caller<'a> {
    random: Random,
    made: &'a Mutex<Made>,
    buffers: Box<Buffers>,
    device: u64,
    images: &'a [Vec<u8>],
}

type Function = unsafe extern "C" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> u32;

impl Caller<'_> {
    fn known(&mut self, kind: u8) -> u64 {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.pick(kind, &mut self.random)
    }

    /// A value for an argument of a kind.
    fn argument(&mut self, kind: u8) -> u64 {
        let random = &mut self.random;
        match kind {
            b'0' => 0,
            b'1' => 1,
            b'D' => {
                if random.below(8) > 0 {
                    self.device
                } else {
                    // Other ordinals are other tests' devices.
                    random.number() << 32 | 0x7FFF_FFFF
                }
            }
            b'h' => self.buffers.host.as_ptr() as u64 + random.below(8) * 8,
            b'b' => random.below(BYTES),
            b'o' => self.buffers.out.as_ptr() as u64,
            b'z' | b'w' => random.number(),
            b'Z' => random.below(BYTES) << [0, 48][random.below(2) as usize],
            b'i' => random.number() & 0xFFFF_FFFF,
            b's' => random.below(40),
            b'f' => random.below(4),
            b'c' => random.below(8),
            b'j' => random.below(4),
            b'n' => NAMES[random.below(6) as usize].as_ptr() as u64,
            b'm' => self.images[random.below(self.images.len() as u64) as usize].as_ptr() as u64,
            b'V' => called_back as *const () as u64,
            b'W' => called_back_with_state as *const () as u64,
            b'U' => {
                for at in 0..8 {
                    // Two 32-bit numbers to a word.
                    self.buffers.lists[0][at] = random.below(24) << 32 | random.below(24);
                }
                self.buffers.lists[0].as_ptr() as u64
            }
            b'O' => {
                let start = self.buffers.out.as_ptr() as u64;
                self.buffers.lists[1] = std::array::from_fn(|at| start + 64 * at as u64);
                self.buffers.lists[1].as_ptr() as u64
            }
            b'2' => self.pitched_copy(),
            b'l' => self.launch_config(),
            b'p' => {
                for at in 0..8 {
                    self.buffers.values[at] = if at < 2 { self.known(b'A') } else { self.random.below(64) };
                }
                self.buffers.pointers = std::array::from_fn(|at| (&raw const self.buffers.values[at]).cast());
                self.buffers.pointers.as_ptr() as u64
            }
            b'A' => self.known(b'A').wrapping_add(if self.random.below(2) == 0 { 0 } else { self.random.below(64) }),
            kind => self.known(kind),
        }
    }

    /// `CUDA_MEMCPY2D`, whose host ends lie inside the buffer.
    fn pitched_copy(&mut self) -> u64 {
        let host = self.buffers.host.as_ptr() as u64;
        let (from, to) = (self.known(b'A'), self.known(b'A'));
        let random = &mut self.random;
        let mut kind = || 1 + random.below(2);
        let kinds = (kind(), kind());
        let mut small = |bound| random.below(bound);
        self.buffers.words[..16].copy_from_slice(&[
            small(16),
            small(8),
            kinds.0,
            host,
            from,
            0,
            small(256),
            small(16),
            small(8),
            kinds.1,
            host,
            to,
            0,
            small(256),
            small(128),
            small(16),
        ]);
        self.buffers.words.as_ptr() as u64
    }

    /// `CUlaunchConfig`, with any attributes.
    fn launch_config(&mut self) -> u64 {
        let (stream, count) = (self.known(b'S'), self.random.below(4));
        let random = &mut self.random;
        for attribute in &mut self.buffers.attributes {
            *attribute = std::array::from_fn(|_| random.below(4) << 32 | random.below(4));
            attribute[0] = random.below(24);
        }
        let mut pair = |low, high| random.below(low) | random.below(high) << 32;
        let words = [pair(9, 3), pair(3, 100), pair(3, 3), pair(5000, 1), stream];
        // Three words for the grid, three for the block, one for shared memory and one of padding.
        self.buffers.words[..4].copy_from_slice(&words[..4]);
        self.buffers.words[4] = words[4];
        self.buffers.words[5] = self.buffers.attributes.as_ptr() as u64;
        self.buffers.words[6] = count;
        self.buffers.words.as_ptr() as u64
    }

    /// One random call. Gives its name and its answer.
    fn call(&mut self, functions: &[(&'static str, Vec<&'static str>, Function)]) -> (&'static str, u32) {
        let (name, kinds, function) = &functions[self.random.below(functions.len() as u64) as usize];
        let (mut arguments, mut makes) = ([0; 11], None);
        self.buffers.made = 0;
        for (argument, kind) in arguments.iter_mut().zip(kinds) {
            *argument = match kind.as_bytes() {
                [b'>', kind] => {
                    makes = Some(*kind);
                    (&raw mut self.buffers.made) as u64
                }
                [kind, ..] => self.argument(*kind),
                [] => 0,
            };
        }
        let [a, b, c, d, e, f, g, h, i, j, k] = arguments;
        // A caller may pass more integers than a C function takes, on the platforms this driver is for.
        let answer = unsafe { function(a, b, c, d, e, f, g, h, i, j, k) };
        let made = unsafe { (&raw const self.buffers.made).read_volatile() };
        if let Some(kind) = makes.filter(|_| answer == 0 && made != 0) {
            let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            all.add(kind, made, &mut self.random);
            if kind == b'H' {
                all.pinned.push(made);
                all.add(b'A', made, &mut self.random);
            }
        }
        (name, answer)
    }

    /// Makes a working primary context current, a new one if need be.
    fn recover(&mut self) {
        let device = self.device as i32;
        unsafe {
            let mut context = std::ptr::null_mut();
            if sys::cuDevicePrimaryCtxRetain(&mut context, device) as u32 == 0 {
                sys::cuCtxSetCurrent(context);
            }
            if sys::cuCtxSynchronize() as u32 != 0 {
                sys::cuDevicePrimaryCtxReset_v2(device);
                sys::cuDevicePrimaryCtxRetain(&mut context, device);
                sys::cuCtxSetCurrent(context);
            }
        }
    }

    /// Many calls, none of which may fail inside the driver.
    fn run(&mut self, gpu: &Gpu, seed: u64, steps: u32) {
        let functions = functions();
        const CODES: [u32; 5] = [1, 2, 100, 201, 700];
        for step in 0..steps {
            if step % 8 == 0 {
                self.recover();
            }
            match self.random.below(1000) {
                0 => {
                    let (name, when) = (functions[self.random.below(functions.len() as u64) as usize].0, When::Nth(2));
                    gpu.fail(name, when, CODES[self.random.below(5) as usize]).unwrap();
                }
                1 => gpu.stop_failing(),
                _ => {}
            }
            let (name, answer) = self.call(&functions);
            assert_ne!(answer, 999, "seed {seed}, step {step}, {name}: {:?}", gpu.report());
        }
    }
}

fn functions() -> Vec<(&'static str, Vec<&'static str>, Function)> {
    let lines = FUNCTIONS.split(';').map(|line| line.split_whitespace().collect::<Vec<_>>());
    let named = lines.map(|words| {
        let function = unsafe { sys::culib().get::<Function>(words[0].as_bytes()) };
        (words[0], words[1..].to_vec(), *function.unwrap_or_else(|error| panic!("{}: {error}", words[0])))
    });
    named.collect()
}

/// `threads` callers of one device, who use each other's handles.
fn fuzz(seed: u64, threads: u64, steps: u32) -> Gpu {
    let gpu = softcuda::virtual_gpu(Config { memory_bytes: 1 << 24, ..Config::capability(8, 0) }).unwrap();
    let mut handle = 0;
    unsafe { sys::cuDeviceGet(&mut handle, gpu.ordinal() as i32) }.result().unwrap();
    let images: Vec<Vec<u8>> = [SCALE, SCALE, SCALE, ".version 7.0\n.target sm_75\n.bogus", "\x7fELF", "text"]
        .map(|text| [text.as_bytes(), b"\0\0\0\0"].concat())
        .into();
    let made = Mutex::new(Made::default());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (gpu, made, images) = (&gpu, &made, &images);
            scope.spawn(move || {
                // Left behind on purpose: the driver may still think of it as pinned.
                let host: &'static mut [u64] = Box::leak(vec![0; ROOM / 8].into_boxed_slice());
                let empty = [std::ptr::null(); 8];
                let buffers = Box::new(Buffers {
                    host,
                    out: [0; 1024],
                    made: 0,
                    lists: [[0; 8]; 2],
                    words: [0; 32],
                    values: [0; 8],
                    pointers: empty,
                    attributes: [[0; 9]; 3],
                });
                let random = Random(seed << 8 | thread);
                let mut caller = Caller { random, made, buffers, device: handle as u64, images };
                caller.run(gpu, seed, steps);
            });
        }
    });
    let pinned = made.into_inner().unwrap_or_else(PoisonError::into_inner).pinned;
    for address in pinned {
        // Some of it is free already, and its owner gone: an answer like any.
        unsafe { sys::cuMemFreeHost(address as *mut c_void) };
    }
    gpu
}

/// `SOFTCUDA_FUZZ_SEEDS=2000` makes ten million calls.
fn seeds() -> Option<u64> {
    std::env::var("SOFTCUDA_FUZZ_SEEDS").ok().and_then(|seeds| seeds.parse().ok())
}

#[test]
fn nonsense_is_answered() {
    let mut launches = 0;
    for seed in 0..seeds().unwrap_or(6) {
        let gpu = fuzz(seed, 1, 5_000);
        launches += u32::from(gpu.last_launch().is_some());
        drop((gpu.leaks(), gpu.report()));
    }
    assert!(launches > 2, "{launches}: the calls must reach as far as kernels");
}

#[test]
fn nonsense_from_several_threads_is_answered() {
    for seed in 0..seeds().map_or(3, |seeds| seeds / 10) {
        let gpu = fuzz(1_000_000 + seed, 3, 1_000);
        drop((gpu.leaks(), gpu.report()));
    }
}
