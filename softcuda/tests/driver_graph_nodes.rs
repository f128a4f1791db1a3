//! Graphs built node by node: launched, updated, asked what they are.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use cudarc::driver::sys::{self, CUgraphInstantiate_flags as Flags, CUresult};
use cudarc::driver::{CudaContext, result};
use driver_support::{SCALE, bench, code, kernel};

/// A graph by hand: fills, scales, calls the host, and copies back.
struct ByHand {
    graph: sys::CUgraph,
    fill: sys::CUgraphNode,
    scale: sys::CUgraphNode,
    call: sys::CUgraphNode,
    download: sys::CUgraphNode,
}

fn copy_to(host: *mut c_void, address: u64) -> sys::CUDA_MEMCPY3D {
    // Zeroed, but for its two enumerations, which have no zero.
    let mut copy = std::mem::MaybeUninit::<sys::CUDA_MEMCPY3D>::zeroed();
    let mut copy = unsafe {
        (&raw mut (*copy.as_mut_ptr()).srcMemoryType).write(sys::CUmemorytype::CU_MEMORYTYPE_DEVICE);
        (&raw mut (*copy.as_mut_ptr()).dstMemoryType).write(sys::CUmemorytype::CU_MEMORYTYPE_HOST);
        copy.assume_init()
    };
    (copy.srcDevice, copy.dstHost) = (address, host);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (16, 1, 1);
    copy
}

fn fill_with(address: u64, value: u32) -> sys::CUDA_MEMSET_NODE_PARAMS {
    sys::CUDA_MEMSET_NODE_PARAMS { dst: address, pitch: 0, value, elementSize: 4, width: 4, height: 1 }
}

unsafe extern "C" fn count(counter: *mut c_void) {
    unsafe { &*counter.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
}

/// The parameters of `scale(address, address, factor, 4)`.
fn scale_by(function: sys::CUfunction, params: &mut [*mut c_void; 4]) -> sys::CUDA_KERNEL_NODE_PARAMS {
    let mut node: sys::CUDA_KERNEL_NODE_PARAMS = unsafe { std::mem::zeroed() };
    node.func = function;
    (node.gridDimX, node.gridDimY, node.gridDimZ) = (1, 1, 1);
    (node.blockDimX, node.blockDimY, node.blockDimZ) = (4, 1, 1);
    node.kernelParams = params.as_mut_ptr();
    node
}

impl ByHand {
    fn new(
        context: &CudaContext,
        function: sys::CUfunction,
        address: u64,
        host: *mut c_void,
        counter: &AtomicU32,
    ) -> ByHand {
        let (mut graph, mut fill, mut scale, mut call, mut download) =
            (null_mut(), null_mut(), null_mut(), null_mut(), null_mut());
        let (mut target, mut factor, mut length) = (address, 2.0_f32, 4_u32);
        let mut params: [*mut c_void; 4] =
            [(&raw mut target).cast(), (&raw mut target).cast(), (&raw mut factor).cast(), (&raw mut length).cast()];
        unsafe {
            sys::cuGraphCreate(&mut graph, 0).result().unwrap();
            let one = fill_with(address, 1.0_f32.to_bits());
            sys::cuGraphAddMemsetNode(&mut fill, graph, null(), 0, &one, context.cu_ctx()).result().unwrap();
            let node = scale_by(function, &mut params);
            sys::cuGraphAddKernelNode_v2(&mut scale, graph, &fill, 1, &node).result().unwrap();
            let node = sys::CUDA_HOST_NODE_PARAMS {
                fn_: Some(count),
                userData: std::ptr::from_ref(counter).cast_mut().cast(),
            };
            sys::cuGraphAddHostNode(&mut call, graph, &scale, 1, &node).result().unwrap();
            let node = copy_to(host, address);
            sys::cuGraphAddMemcpyNode(&mut download, graph, null(), 0, &node, context.cu_ctx()).result().unwrap();
            sys::cuGraphAddDependencies_v2(graph, &scale, &download, null(), 1).result().unwrap();
        }
        ByHand { graph, fill, scale, call, download }
    }
}

#[test]
fn graphs_are_built_node_by_node() {
    let (_gpu, context, [stream, _]) = bench(5);
    let function = kernel(&context, SCALE, "scale");
    let address = stream.alloc_zeros::<f32>(4).unwrap().leak();
    stream.synchronize().unwrap();
    let counter = AtomicU32::new(0);
    let mut host = [0.0_f32; 4];
    let out: *mut c_void = host.as_mut_ptr().cast();
    let raw = function.cu_function();
    let made = ByHand::new(&context, raw, address, out, &counter);
    let read = || unsafe { std::ptr::read_volatile(out.cast::<[f32; 4]>()) };
    unsafe {
        let exec = result::graph::instantiate(made.graph, Flags(0)).unwrap();
        let launch = || {
            result::graph::launch(exec, stream.cu_stream()).unwrap();
            stream.synchronize().unwrap();
        };
        launch();
        assert_eq!((read(), counter.load(Ordering::SeqCst)), ([2.0; 4], 1));

        // The executable graph can be changed, the other stays as it was.
        let five = fill_with(address, 5.0_f32.to_bits());
        sys::cuGraphExecMemsetNodeSetParams(exec, made.fill, &five, context.cu_ctx()).result().unwrap();
        launch();
        assert_eq!(read(), [10.0; 4]);
        let (mut target, mut factor, mut length) = (address, 3.0_f32, 4_u32);
        let mut params: [*mut c_void; 4] =
            [(&raw mut target).cast(), (&raw mut target).cast(), (&raw mut factor).cast(), (&raw mut length).cast()];
        let node = scale_by(raw, &mut params);
        sys::cuGraphExecKernelNodeSetParams_v2(exec, made.scale, &node).result().unwrap();
        launch();
        assert_eq!(read(), [15.0; 4]);
        let wrong = sys::cuGraphExecKernelNodeSetParams_v2(exec, made.fill, &node);
        assert_eq!(wrong, CUresult::CUDA_ERROR_INVALID_VALUE, "a memset is no kernel");

        // A node that is switched off does nothing, and its successors run.
        sys::cuGraphNodeSetEnabled(exec, made.scale, 0).result().unwrap();
        launch();
        assert_eq!(read(), [5.0; 4]);

        // Updated from the graph, it is as that is.
        let mut info = std::mem::zeroed();
        sys::cuGraphExecUpdate_v2(exec, made.graph, &mut info).result().unwrap();
        sys::cuGraphNodeSetEnabled(exec, made.scale, 1).result().unwrap();
        launch();
        assert_eq!(read(), [2.0; 4]);
        sys::cuGraphDestroyNode(made.call).result().unwrap();
        let update = sys::cuGraphExecUpdate_v2(exec, made.graph, &mut info);
        assert_eq!(update, CUresult::CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        assert_eq!(info.result, sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
        result::graph::exec_destroy(exec).unwrap();
        result::graph::destroy(made.graph).unwrap();
        assert_eq!(code(result::graph::destroy(made.graph)), CUresult::CUDA_ERROR_INVALID_HANDLE);
        let mut kind = sys::CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
        assert_eq!(sys::cuGraphNodeGetType(made.fill, &mut kind), CUresult::CUDA_ERROR_INVALID_HANDLE);
        result::free_sync(address).unwrap();
    }
}

#[test]
fn graphs_tell_what_they_are() {
    let (_gpu, context, [stream, _]) = bench(0);
    let function = kernel(&context, SCALE, "scale");
    let address = stream.alloc_zeros::<f32>(4).unwrap().leak();
    stream.synchronize().unwrap();
    let counter = AtomicU32::new(0);
    let mut host = [0.0_f32; 4];
    let raw = function.cu_function();
    let made = ByHand::new(&context, raw, address, host.as_mut_ptr().cast(), &counter);
    unsafe {
        let (mut nodes, mut count) = ([null_mut(); 8], 0);
        sys::cuGraphGetNodes(made.graph, null_mut(), &mut count).result().unwrap();
        assert_eq!(count, 4);
        count = 8;
        sys::cuGraphGetNodes(made.graph, nodes.as_mut_ptr(), &mut count).result().unwrap();
        assert_eq!((nodes[0], nodes[3], nodes[4], count), (made.fill, made.download, null_mut(), 4));
        count = 8;
        sys::cuGraphGetRootNodes(made.graph, nodes.as_mut_ptr(), &mut count).result().unwrap();
        assert_eq!((nodes[0], count), (made.fill, 1));
        let (mut from, mut to) = ([null_mut(); 3], [null_mut(); 3]);
        count = 3;
        sys::cuGraphGetEdges_v2(made.graph, from.as_mut_ptr(), to.as_mut_ptr(), null_mut(), &mut count)
            .result()
            .unwrap();
        assert_eq!(from, [made.fill, made.scale, made.scale]);
        assert_eq!(to, [made.scale, made.call, made.download]);
        count = 2;
        sys::cuGraphNodeGetDependentNodes_v2(made.scale, nodes.as_mut_ptr(), null_mut(), &mut count).result().unwrap();
        assert_eq!((nodes[0], nodes[1], count), (made.call, made.download, 2));

        use sys::CUgraphNodeType as Type;
        let expected = [
            (made.fill, Type::CU_GRAPH_NODE_TYPE_MEMSET),
            (made.scale, Type::CU_GRAPH_NODE_TYPE_KERNEL),
            (made.call, Type::CU_GRAPH_NODE_TYPE_HOST),
            (made.download, Type::CU_GRAPH_NODE_TYPE_MEMCPY),
        ];
        for (node, is) in expected {
            let mut kind = Type::CU_GRAPH_NODE_TYPE_EMPTY;
            sys::cuGraphNodeGetType(node, &mut kind).result().unwrap();
            assert_eq!(kind, is);
        }
        let mut fill = std::mem::zeroed();
        sys::cuGraphMemsetNodeGetParams(made.fill, &mut fill).result().unwrap();
        assert_eq!(fill, fill_with(address, 1.0_f32.to_bits()));
        let mut scale: sys::CUDA_KERNEL_NODE_PARAMS = std::mem::zeroed();
        sys::cuGraphKernelNodeGetParams_v2(made.scale, &mut scale).result().unwrap();
        assert_eq!((scale.func, scale.blockDimX), (raw, 4));
        assert_eq!((*scale.kernelParams.add(2)).cast::<f32>().read(), 2.0);
        let mut copy = copy_to(null_mut(), 0);
        sys::cuGraphMemcpyNodeGetParams(made.download, &mut copy).result().unwrap();
        assert_eq!((copy.srcDevice, copy.WidthInBytes), (address, 16));

        // A clone has nodes of its own, a child graph too.
        let (mut clone, mut twin, mut parent, mut child) = (null_mut(), null_mut(), null_mut(), null_mut());
        sys::cuGraphClone(&mut clone, made.graph).result().unwrap();
        sys::cuGraphNodeFindInClone(&mut twin, made.scale, clone).result().unwrap();
        assert_ne!(twin, made.scale);
        sys::cuGraphCreate(&mut parent, 0).result().unwrap();
        sys::cuGraphAddChildGraphNode(&mut child, parent, null(), 0, clone).result().unwrap();
        result::graph::destroy(clone).unwrap();
        let mut inner = null_mut();
        sys::cuGraphChildGraphNodeGetGraph(child, &mut inner).result().unwrap();
        assert_eq!(code(result::graph::destroy(inner)), CUresult::CUDA_ERROR_INVALID_VALUE);
        let exec = result::graph::instantiate(parent, Flags(0)).unwrap();
        result::graph::launch(exec, stream.cu_stream()).unwrap();
        stream.synchronize().unwrap();
        assert_eq!(counter.load(Ordering::SeqCst), 1);

        // A circle cannot be run.
        sys::cuGraphAddDependencies_v2(made.graph, &made.download, &made.fill, null(), 1).result().unwrap();
        assert_eq!(code(result::graph::instantiate(made.graph, Flags(0))), CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuGraphRemoveDependencies_v2(made.graph, &made.download, &made.fill, null(), 1).result().unwrap();

        let path = std::env::temp_dir().join(format!("softcuda-graph-{}.dot", std::process::id()));
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        sys::cuGraphDebugDotPrint(made.graph, name.as_ptr(), 0).result().unwrap();
        let dot = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(dot.contains("KERNEL\\nscale") && dot.matches("->").count() == 3, "{dot}");
        result::graph::exec_destroy(exec).unwrap();
        result::graph::destroy(parent).unwrap();
        result::graph::destroy(made.graph).unwrap();
        result::free_sync(address).unwrap();
    }
    assert_eq!(host, [2.0; 4]);
}
