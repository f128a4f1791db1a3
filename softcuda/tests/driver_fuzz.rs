//! Random calls with handles, sizes and device addresses that mean nothing: answers, never crashes.
//! Host pointers are valid, as the driver demands of its callers.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to buffers that live on")]

mod driver_support;

use std::collections::{BTreeSet, HashMap};
use std::ffi::{CStr, c_void};
use std::path::Path;
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
///
/// G is a graph, X an executable one, d a node, q a list of nodes. a is an address of the device's or
/// the host's. 3 is a copy of planes, k what a kernel's node does, y what a memset's, v a host
/// function's, B what is allocated. t says how to instantiate, x how much room there is, r what a pool
/// is to be, e a way to reach one, I a place for memory, R a list of sizes, u a capture's mode, T a file
/// that swallows everything, J one with PTX. g is managed memory.
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
    cuOccupancyMaxActiveBlocksPerMultiprocessor o F i z; cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags o F s b f;
    cuOccupancyMaxActiveClusters o F l; cuOccupancyMaxPotentialBlockSize o o F 0 z i;
    cuOccupancyMaxPotentialClusterSize o F l; cuPointerGetAttribute o s A; cuPointerGetAttributes c U O A;
    cuStreamAddCallback S W 0 0; cuStreamAttachMemAsync S A z s; cuStreamCreate >S f;
    cuStreamCreateWithPriority >S f i; cuStreamDestroy_v2 S; cuStreamGetCtx S o; cuStreamGetDevice S o;
    cuStreamGetFlags S o; cuStreamGetId S o; cuStreamGetPriority S o; cuStreamQuery S; cuStreamSynchronize S;
    cuStreamWaitEvent S E f;

    cuCtxCreate_v3 >C 0 0 f D; cuCtxCreate_v4 >C 0 f D; cuCtxGetDevice_v2 o C; cuCtxSetSharedMemConfig f;
    cuCtxSynchronize_v2 C; cuDeviceGetUuid o D; cuFuncSetSharedMemConfig F f; cuGetExportTable o o;
    cuGetProcAddress n o i w; cuGetProcAddress_v2 n o i w o; cuLibraryGetManaged o o L n;
    cuLibraryLoadFromFile >L n 0 0 0 0 0 0; cuLinkAddFile_v2 N s n 0 0 0; cuMemAdvise_v2 A z s I;
    cuMemPoolCreate >P r; cuMemPoolGetAccess o P e; cuMemPoolSetAccess P e f; cuMemPrefetchAsync_v2 A z I 0 S;
    cuMemRangeGetAttributes O R U c A z; cuMemcpy a a b; cuMemcpyAsync a a b S; cuMemcpy2DUnaligned_v2 2;
    cuMemcpy3DAsync_v2 3 S; cuMemcpy3D_v2 3; cuMemsetD2D16Async A z i b s S; cuMemsetD2D32_v2 A z i b s;
    cuMemsetD2D8Async A b i b s S; cuModuleLoadFatBinary >M m;
    cuOccupancyMaxPotentialBlockSizeWithFlags o o F 0 z i f; cuProfilerStart; cuProfilerStop;

    cuStreamBeginCaptureToGraph S G q 0 c f; cuStreamBeginCapture_v2 S f; cuStreamBeginCapture_v2 S f;
    cuStreamEndCapture S >G; cuStreamEndCapture S >G; cuStreamEndCapture S >G; cuStreamEndCapture S >G;
    cuStreamGetCaptureInfo S o o; cuStreamGetCaptureInfo_v2 S o o >G o o; cuStreamGetCaptureInfo_v3 S o o >G o o o;
    cuStreamIsCapturing S o; cuStreamUpdateCaptureDependencies S q c f;
    cuStreamUpdateCaptureDependencies_v2 S q 0 c f; cuThreadExchangeStreamCaptureMode u;

    cuGraphAddChildGraphNode >d G q c G; cuGraphAddDependencies G q q c; cuGraphAddDependencies_v2 G q q 0 c;
    cuGraphAddEmptyNode >d G q c; cuGraphAddEmptyNode >d G 0 0; cuGraphAddEventRecordNode >d G q c E;
    cuGraphAddEventWaitNode >d G q c E; cuGraphAddHostNode >d G q c v; cuGraphAddHostNode >d G 0 0 v;
    cuGraphAddKernelNode >d G q c k; cuGraphAddKernelNode_v2 >d G q c k; cuGraphAddKernelNode_v2 >d G 0 0 k;
    cuGraphAddMemAllocNode >d G q c B; cuGraphAddMemFreeNode >d G q c A; cuGraphAddMemcpyNode >d G q c 3 C;
    cuGraphAddMemcpyNode >d G 0 0 3 C; cuGraphAddMemsetNode >d G q c y C; cuGraphAddMemsetNode >d G 0 0 y C;
    cuGraphChildGraphNodeGetGraph d >G; cuGraphClone >G G; cuGraphCreate >G 0; cuGraphCreate >G f; cuGraphCreate >G 0;
    cuGraphDebugDotPrint G T i; cuGraphDestroy G; cuGraphDestroyNode d; cuGraphEventRecordNodeGetEvent d o;
    cuGraphEventRecordNodeSetEvent d E; cuGraphEventWaitNodeGetEvent d o; cuGraphEventWaitNodeSetEvent d E;
    cuGraphExecDestroy X; cuGraphExecEventRecordNodeSetEvent X d E; cuGraphExecEventWaitNodeSetEvent X d E;
    cuGraphExecGetFlags X o; cuGraphExecGetId X o; cuGraphExecHostNodeSetParams X d v;
    cuGraphExecKernelNodeSetParams X d k; cuGraphExecKernelNodeSetParams_v2 X d k;
    cuGraphExecMemcpyNodeSetParams X d 3 C; cuGraphExecMemsetNodeSetParams X d y C; cuGraphExecUpdate X G o o;
    cuGraphExecUpdate_v2 X G o; cuGraphGetEdges G o o x; cuGraphGetEdges_v2 G o o o x; cuGraphGetId G o;
    cuGraphGetNodes G o x; cuGraphGetRootNodes G o x; cuGraphHostNodeGetParams d o; cuGraphHostNodeSetParams d v;
    cuGraphInstantiateWithFlags >X G f; cuGraphInstantiateWithFlags >X G 0; cuGraphInstantiateWithParams >X G t;
    cuGraphInstantiate_v2 >X G o o b; cuGraphKernelNodeGetParams d o; cuGraphKernelNodeGetParams_v2 d o;
    cuGraphKernelNodeSetParams d k; cuGraphKernelNodeSetParams_v2 d k; cuGraphLaunch X S; cuGraphLaunch X S; cuGraphLaunch X 0;
    cuGraphLaunch X S; cuGraphLaunch X S; cuGraphMemFreeNodeGetParams d o; cuGraphMemcpyNodeGetParams d o;
    cuGraphMemcpyNodeSetParams d 3; cuGraphMemsetNodeGetParams d o; cuGraphMemsetNodeSetParams d y;
    cuGraphNodeFindInClone >d d G; cuGraphNodeGetContainingGraph d >G; cuGraphNodeGetDependencies d o x;
    cuGraphNodeGetDependencies_v2 d o o x; cuGraphNodeGetDependentNodes d o x; cuGraphNodeGetDependentNodes_v2 d o o x;
    cuGraphNodeGetEnabled X d o; cuGraphNodeGetLocalId d o; cuGraphNodeGetToolsId d o; cuGraphNodeGetType d o;
    cuGraphNodeSetEnabled X d f; cuGraphRemoveDependencies G q q c; cuGraphRemoveDependencies_v2 G q q 0 c;
    cuGraphUpload X S;

    cuDeviceGetP2PAttribute o f D D; cuEventCreate >E 0; cuEventCreate >E 0; cuEventCreate >E f; cuEventRecord E 0;
    cuEventRecordWithFlags E S 1; cuStreamWaitEvent S E 1; cuFuncGetParamInfo F f o o; cuKernelGetParamInfo K f o o;
    cuLaunchCooperativeKernel F f 1 1 s 1 1 0 S p; cuLibraryLoadFromFile >L J 0 0 0 0 0 0;
    cuLinkAddData_v2 N 1 m j n 0 0 0; cuLinkAddFile_v2 N 1 J 0 0 0; cuLinkCreate_v2 0 0 0 >N; cuModuleLoad >M J;
    cuMemAllocManaged >g b 1; cuMemAllocManaged >g b 1; cuMemAdvise g f f D; cuMemAdvise_v2 g f f I; cuMemPrefetchAsync g f D S;
    cuMemPrefetchAsync_v2 g f I 0 S; cuMemRangeGetAttribute o 4 f g f; cuMemRangeGetAttributes O R U 1 g f;
    cuStreamAttachMemAsync S g 0 f; cuMemsetD2D16Async A s i f f S; cuMemsetD2D32Async A s i f f S;
    cuMemsetD2D8Async A s i f f S; cuMemsetD2D32_v2 A s i f f; cuMemsetD32Async A i f S;
    cuStreamBeginCaptureToGraph S G 0 0 0 f; cuStreamUpdateCaptureDependencies S q 1 f;
    cuStreamUpdateCaptureDependencies S 0 0 f; cuStreamUpdateCaptureDependencies_v2 S 0 0 0 f";

/// A generator of its own, so that a failing call can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Good enough that what is drawn one after the other has nothing to do with each other.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
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
            _ => self.next(),
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
    /// All libraries, which belong to no device and end with none.
    libraries: Vec<u64>,
}

impl Made {
    /// A handle, mostly of the kind asked for.
    fn pick(&self, kind: u8, random: &mut Random) -> u64 {
        const KINDS: &[u8] = b"SEMFLKCPNAGXdg";
        let kind = if random.below(12) == 0 { KINDS[random.below(KINDS.len() as u64) as usize] } else { kind };
        random.pick(self.lists.get(&kind).map_or(&[], Vec::as_slice))
    }

    /// Keeps the last few.
    fn add(&mut self, kind: u8, value: u64, random: &mut Random) {
        let list = self.lists.entry(kind).or_default();
        list.push(value);
        // Few graphs, so that a graph, a node and what was made of both meet now and then.
        let most = if matches!(kind, b'G' | b'X' | b'd') { 8 } else { 20 };
        if list.len() > most {
            list.swap_remove(random.below(most as u64) as usize);
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
    /// Structures and lists of the other kinds. A call may take two of them.
    things: [[u64; 32]; 2],
    turn: usize,
}

extern "C" fn called_back(_argument: *mut c_void) {}
extern "C" fn called_back_with_state(_stream: *mut c_void, _state: u32, _argument: *mut c_void) {}

const NAMES: [&CStr; 8] = [c"scale", c"scale", c"scale", c"x", c"x", c"cuMemAlloc", c"", c"0000:00:00.0"];

/// One caller: a thread with its buffers.
struct Caller<'a> {
    random: Random,
    made: &'a Mutex<Made>,
    buffers: Box<Buffers>,
    /// Handles and ordinals of two devices: one for most calls, and one for some.
    devices: [(u64, u64); 2],
    file: &'a CStr,
    images: &'a [Vec<u8>],
    /// The functions that have done what they were asked to at least once.
    succeeded: BTreeSet<&'static str>,
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
            b'0' | b'1' | b'4' => u64::from(kind - b'0'),
            b'D' => {
                let which = random.below(16);
                if which > 0 {
                    self.devices[usize::from(which == 1)].0
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
            b'n' => NAMES[random.below(NAMES.len() as u64) as usize].as_ptr() as u64,
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
            b'a' if random.below(2) == 0 => self.argument(b'h'),
            b'a' => self.argument(b'A'),
            b'I' => random.below(6) | self.ordinal() << 32,
            b'J' => self.file.as_ptr() as u64,
            b'T' => c"/dev/null".as_ptr() as u64,
            b'u' => self.thing(|caller| vec![caller.random.below(4)]),
            b'x' => self.thing(|caller| vec![caller.random.below(16)]),
            b'q' => self.thing(|caller| (0..8).map(|_| caller.known(b'd')).collect()),
            b'R' => self.thing(|caller| (0..8).map(|_| caller.random.below(4) * 4).collect()),
            // Of this device, most of the time.
            b'r' => self.thing(|caller| vec![1, (1 + caller.random.below(8) / 7) | caller.ordinal() << 32, 0]),
            b'e' => self.thing(|caller| {
                // Three numbers of 32 bits each: the kind of the place, which one, and the access.
                let mut place = || {
                    (
                        1 + caller.random.below(8) / 7,
                        caller.ordinal(),
                        [0, 1, 2, 3, 3, 3][caller.random.below(6) as usize],
                    )
                };
                let (first, second, third) = (place(), place(), place());
                vec![
                    first.0 | first.1 << 32,
                    first.2 | second.0 << 32,
                    second.1 | second.2 << 32,
                    third.0 | third.1 << 32,
                    third.2,
                ]
            }),
            b'3' => self.copy_of_planes(),
            b'k' => self.kernel_node(),
            b'y' => self.thing(|caller| {
                let (at, random) = (caller.known(b'A'), &mut caller.random);
                let element = [1, 2, 4, random.below(9)][random.below(4) as usize];
                vec![at, random.below(128), random.below(256) | element << 32, random.below(32), random.below(4)]
            }),
            b'v' => self.thing(|_| vec![called_back as *const () as u64, 0]),
            b'B' => self.thing(|caller| {
                let mut words = vec![0; 16];
                words[13] = caller.random.below(BYTES);
                words
            }),
            b't' => self.thing(|caller| vec![caller.random.below(12), caller.known(b'S'), 0, 0]),
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

    /// The ordinal of one of the devices.
    fn ordinal(&mut self) -> u64 {
        self.devices[usize::from(self.random.below(4) == 0)].1
    }

    /// A structure or list of its own, which lives until the next call.
    fn thing(&mut self, words: impl FnOnce(&mut Self) -> Vec<u64>) -> u64 {
        let words = words(self);
        let turn = self.buffers.turn % 2;
        self.buffers.turn += 1;
        self.buffers.things[turn][..words.len()].copy_from_slice(&words);
        self.buffers.things[turn].as_ptr() as u64
    }

    /// One side of a `CUDA_MEMCPY3D`, whose host end lies inside the buffer.
    fn side_of_planes(&mut self) -> [u64; 11] {
        let host = self.buffers.host.as_ptr() as u64;
        let kind = [1, 2, 4, 4, self.random.below(6)][self.random.below(5) as usize];
        let device = if kind == 4 { self.argument(b'a') } else { self.known(b'A') };
        let random = &mut self.random;
        let mut small = |bound| random.below(bound);
        [small(16), small(4), small(3), 0, kind, host, device, 0, 0, small(256), small(16)]
    }

    /// `CUDA_MEMCPY3D`.
    fn copy_of_planes(&mut self) -> u64 {
        let (from, to) = (self.side_of_planes(), self.side_of_planes());
        let size = [self.random.below(64), self.random.below(8), self.random.below(4)];
        self.thing(|_| [&from[..], &to[..], &size[..]].concat())
    }

    /// `CUDA_KERNEL_NODE_PARAMS`.
    fn kernel_node(&mut self) -> u64 {
        let kind = if self.random.below(4) > 0 { b'F' } else { b'K' };
        let (function, params) = (self.known(kind), self.argument(b'p'));
        let random = &mut self.random;
        let (grid, block) = (random.below(3), random.below(100));
        let words = vec![function, grid | 1 << 32, 1 | block << 32, 1 | 1 << 32, random.below(64), params, 0, 0, 0];
        self.thing(|_| words)
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
        // Now and then a side of 0, which is none.
        let words = [pair(9, 3), pair(3, 100), pair(3, 3), pair(5000, 1), stream];
        let sides = if pair(4, 1) > 0 { [1 | 1 << 32; 3] } else { [0; 3] };
        let words = [words[0] | sides[0], words[1] | sides[1], words[2] | sides[2], words[3], words[4]];
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
            match kind {
                b'H' => all.pinned.push(made),
                b'L' => all.libraries.push(made),
                _ => {}
            }
            if matches!(kind, b'H' | b'g') {
                all.add(b'A', made, &mut self.random);
            }
        }
        (name, answer)
    }

    /// Makes a working primary context current, a new one if need be.
    fn recover(&mut self) {
        let device = self.devices[0].0 as i32;
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
        let mut functions = functions();
        // Every other time mostly graphs, and what their nodes need: among all functions the handles
        // that belong together hardly ever meet.
        const OF_GRAPHS: [&str; 8] =
            ["Graph", "Capture", "cuEvent", "cuStreamCreate", "cuMemAlloc_v2", "cuModule", "Library", "cuKernel"];
        if seed % 2 == 1 {
            functions.retain(|(name, ..)| OF_GRAPHS.iter().any(|part| name.contains(part)));
        }
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
            if answer == 0 {
                self.succeeded.insert(name);
            }
            assert_ne!(answer, 999, "seed {seed}, step {step}, {name}: {:?}", gpu.report());
        }
    }
}

fn functions() -> Vec<(&'static str, Vec<&'static str>, Function)> {
    let lines = FUNCTIONS.split(';').map(|line| line.split_whitespace().collect::<Vec<_>>());
    // What succeeds only if several handles belong together is tried more often.
    const CHOOSY: [&str; 7] =
        ["NodeSet", "PeerAccess", "ElapsedTime", "cuEventRecord", "cuLaunch", "Instantiate", "cuMemcpyPeer"];
    let named = lines.flat_map(|words| {
        let function = unsafe { sys::culib().get::<Function>(words[0].as_bytes()) };
        let function = *function.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        let often = if CHOOSY.iter().any(|part| words[0].contains(part)) { 5 } else { 1 };
        std::iter::repeat_n((words[0], words[1..].to_vec(), function), often)
    });
    named.collect()
}

/// `threads` callers of one device, who use each other's handles.
fn fuzz(seed: u64, threads: u64, steps: u32) -> (Gpu, BTreeSet<&'static str>) {
    let lease = || {
        let gpu = softcuda::virtual_gpu(Config { memory_bytes: 1 << 24, ..Config::capability(8, 0) }).unwrap();
        let mut handle = 0;
        unsafe { sys::cuDeviceGet(&mut handle, gpu.ordinal() as i32) }.result().unwrap();
        let device = (handle as u64, gpu.ordinal() as u64);
        (gpu, device)
    };
    // The calls that name no device are the last lease's.
    let ((other, second), (gpu, first)) = (lease(), lease());
    let devices = [first, second];
    let with_variable = SCALE.replace(".visible .entry", ".visible .global .align 4 .u32 x[4];\n.visible .entry");
    let path = format!("{}/fuzz-{}.ptx\0", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let file = CStr::from_bytes_with_nul(path.as_bytes()).unwrap();
    std::fs::write(file.to_str().unwrap(), &with_variable).unwrap();
    let images: Vec<Vec<u8>> = [SCALE, SCALE, &with_variable, ".version 7.0\n.target sm_75\n.bogus", "\x7fELF", "text"]
        .map(|text| [text.as_bytes(), b"\0\0\0\0"].concat())
        .into();
    let made = Mutex::new(Made::default());
    let successes = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (gpu, made, images, successes) = (&gpu, &made, &images, &successes);
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
                    things: [[0; 32]; 2],
                    turn: 0,
                });
                let random = Random((seed << 8 | thread) << 32);
                let succeeded = BTreeSet::new();
                let mut caller = Caller { random, made, buffers, devices, file, images, succeeded };
                caller.run(gpu, seed, steps);
                successes.lock().unwrap_or_else(PoisonError::into_inner).append(&mut caller.succeeded);
            });
        }
    });
    let Made { pinned, libraries, .. } = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    for library in libraries {
        unsafe { sys::cuLibraryUnload(library as sys::CUlibrary) };
    }
    for address in pinned {
        // Some of it is free already, and its owner gone: an answer like any.
        unsafe { sys::cuMemFreeHost(address as *mut c_void) };
    }
    drop((other.leaks(), other.report()));
    (gpu, successes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// `SOFTCUDA_FUZZ_SEEDS=2000` makes ten million calls.
fn seeds() -> Option<u64> {
    std::env::var("SOFTCUDA_FUZZ_SEEDS").ok().and_then(|seeds| seeds.parse().ok())
}

/// They can only fail: what they would hand out does not exist here.
const NEVER: [&str; 2] = ["cuGetExportTable", "cuLibraryGetManaged"];

#[test]
fn nonsense_is_answered() {
    let mut launches = 0;
    let mut succeeded = BTreeSet::new();
    for seed in 0..seeds().unwrap_or(40) {
        let (gpu, mut done) = fuzz(seed, 1, 5_000);
        launches += u32::from(gpu.last_launch().is_some());
        drop((gpu.leaks(), gpu.report()));
        succeeded.append(&mut done);
    }
    assert!(launches > 2, "{launches}: the calls must reach as far as kernels");
    let all: BTreeSet<&str> = functions().iter().map(|(name, ..)| *name).collect();
    let failed: Vec<&&str> = all.difference(&succeeded).filter(|name| !NEVER.contains(name)).collect();
    // A short run misses some of those that need three handles to belong together; a table without
    // sense, or a driver that only refuses, misses many more.
    let most = if seeds().is_some_and(|seeds| seeds >= 1000) { 0 } else { 15 };
    assert!(failed.len() <= most, "arguments with which these never succeed: {failed:?}");
}

#[test]
fn nonsense_from_several_threads_is_answered() {
    for seed in 0..seeds().map_or(3, |seeds| seeds / 10) {
        let (gpu, _) = fuzz(1_000_000 + seed, 3, 1_000);
        drop((gpu.leaks(), gpu.report()));
    }
}

/// The names of the functions that a folder of sources defines.
fn defined_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            defined_in(&path, names);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let defined = text.lines().filter_map(|line| line.strip_prefix("    fn cu")?.split_once('('));
        let named = defined.filter(|(name, _)| name.starts_with(|first: char| first.is_ascii_uppercase()));
        names.extend(named.map(|(name, _)| format!("cu{name}")));
    }
}

#[test]
fn every_function_is_in_the_table() {
    let _gpu = softcuda::virtual_gpu(Config::capability(8, 0)).unwrap();
    let mut defined = BTreeSet::new();
    defined_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/driver"), &mut defined);
    assert!(defined.len() > 250, "{}", defined.len());
    let known: BTreeSet<&str> = functions().iter().map(|(name, ..)| *name).collect();
    let missing: Vec<&String> = defined.iter().filter(|name| !known.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
