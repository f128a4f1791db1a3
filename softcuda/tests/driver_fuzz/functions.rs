//! What is called.

use cudarc::driver::sys;

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

/// A function of the driver, as if it took as many words as any of them.
pub type Function = unsafe extern "C" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> u32;

/// The table: names, kinds of the arguments, and where the function is.
pub fn functions() -> Vec<(&'static str, Vec<&'static str>, Function)> {
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
