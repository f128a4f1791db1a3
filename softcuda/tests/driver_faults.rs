//! Kernels that fault: the code, the text, and that nobody else notices.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::sync::Arc;

use cudarc::driver::sys::CUresult;
use cudarc::driver::{CudaContext, CudaFunction, PushKernelArg, result};
use driver_support::{NOTHING, SCALE, STOP, STORE, a100, code, kernel, shape};

/// Lets `store` write at a byte offset of an address. Launching succeeds, whatever the kernel does.
fn store(context: &Arc<CudaContext>, function: &CudaFunction, address: u64, offset: u64) {
    let stream = context.default_stream();
    let mut launch = stream.launch_builder(function);
    launch.arg(&address).arg(&offset);
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
}

#[test]
fn an_access_out_of_bounds_is_an_illegal_address() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let function = kernel(&context, STORE, "store");
    let address = stream.alloc_zeros::<u32>(4).unwrap().leak();
    store(&context, &function, address, 12);
    stream.synchronize().unwrap();
    store(&context, &function, address, 16);
    assert_eq!(code(stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    let report = gpu.report().unwrap();
    for word in ["CUDA_ERROR_ILLEGAL_ADDRESS", "store", "st.global.u32", "compute capability 8.0"] {
        assert!(report.contains(word), "{word} in {report}");
    }
}

#[test]
fn a_fault_is_sticky_until_the_context_ends() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let function = kernel(&context, STORE, "store");
    let slice = stream.alloc_zeros::<u32>(4).unwrap();
    store(&context, &function, 0x10, 0);
    // Every call in the context answers the same from now on.
    let illegal = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    assert_eq!(code(context.synchronize()), illegal);
    assert_eq!(code(stream.clone_dtoh(&slice)), illegal);
    assert_eq!(code(stream.alloc_zeros::<u32>(1)), illegal);
    assert_eq!(code(context.new_stream()), illegal);
    assert_eq!(code(context.new_event(None)), illegal);
    assert_eq!(code(result::mem_get_info()), illegal);
    // Drops record the error, which the next call of the context returns, and nothing panics.
    drop(slice);
    assert_eq!(code(context.check_err()), illegal);
    drop(function);
    drop(stream);
    drop(context);
    // The primary context was released: the next one is clean, and the memory is free.
    assert_eq!(gpu.live_allocations(), Some((0, 0)));
    let context = CudaContext::new(gpu.ordinal()).unwrap();
    let stream = context.default_stream();
    let slice = stream.clone_htod(&[1_u8]).unwrap();
    assert_eq!(stream.clone_dtoh(&slice).unwrap(), [1]);
    assert!(gpu.report().unwrap().contains("ILLEGAL_ADDRESS"), "the report outlives the context");
}

#[test]
fn a_fault_is_noticed_by_the_first_call_that_waits() {
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, STORE, "store");
    let mut slice = stream.clone_htod(&[1_u8, 2]).unwrap();
    // With more than one stream cudarc records events after each launch: they succeed as well.
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut slice).arg(&(1_u64 << 40));
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
    let event = stream.record_event(None).unwrap();
    stream.memset_zeros(&mut slice).unwrap();
    unsafe { launch_again(&stream, &function) };
    let noticed = loop {
        match event.try_is_complete() {
            // Queries run the work bit by bit.
            Ok(false) => {}
            answer => break answer.map_err(|error| error.0),
        }
    };
    assert_eq!(noticed, Err(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
    assert_eq!(code(stream.memset_zeros(&mut slice)), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    let report = gpu.report().unwrap();
    assert!(report.contains("out-of-bounds"), "{report}");
    assert_eq!(gpu.counters().unwrap().launches, 0, "nothing ran after the fault");
}

/// Another launch into a stream whose context has faulted.
unsafe fn launch_again(stream: &cudarc::driver::CudaStream, function: &CudaFunction) {
    let mut launch = stream.launch_builder(function);
    launch.arg(&0_u64).arg(&0_u64);
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
}

#[test]
fn a_misaligned_access_has_its_own_code() {
    let (gpu, context) = a100();
    let function = kernel(&context, STORE, "store");
    let address = context.default_stream().alloc_zeros::<u32>(4).unwrap().leak();
    store(&context, &function, address, 2);
    assert_eq!(code(context.synchronize()), CUresult::CUDA_ERROR_MISALIGNED_ADDRESS);
    assert!(gpu.report().unwrap().contains("misaligned"));
}

#[test]
fn freed_memory_is_an_illegal_address() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let function = kernel(&context, STORE, "store");
    let address = stream.alloc_zeros::<u32>(4).unwrap().leak();
    unsafe { result::free_sync(address) }.unwrap();
    store(&context, &function, address, 0);
    assert_eq!(code(stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(gpu.report().unwrap().contains("free"), "{:?}", gpu.report());
}

#[test]
fn a_trap_is_a_failed_launch() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    let function = kernel(&context, STOP, "stop");
    unsafe { stream.launch_builder(&function).launch(shape(1, 1)) }.unwrap();
    assert_eq!(code(stream.synchronize()), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    assert!(gpu.report().unwrap().contains("trap"));
}

#[test]
fn what_was_never_written_must_not_be_used() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    // Reads an index from memory and branches on it.
    let branch =
        SCALE.replace("setp.ge.u32 %p, %r2, %r1;", "ld.global.u32 %r1, [%rd2];\n    setp.ge.u32 %p, %r2, %r1;");
    let function = kernel(&context, &branch, "scale");
    let input = unsafe { stream.alloc::<f32>(1) }.unwrap();
    let mut output = stream.alloc_zeros::<f32>(1).unwrap();
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut output).arg(&input).arg(&1.0_f32).arg(&1_u32);
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
    assert_eq!(code(stream.synchronize()), CUresult::CUDA_ERROR_LAUNCH_FAILED);
    assert!(gpu.report().unwrap().contains("uninitialised"), "{:?}", gpu.report());
}

#[test]
fn a_barrier_that_some_threads_never_reach_is_found() {
    let (gpu, context) = a100();
    let stream = context.default_stream();
    // The first warp waits at a barrier for the second, which waits at another one.
    let crossed = NOTHING.replace(
        "    ret;",
        ".reg .pred %p;\n.reg .b32 %r;\nmov.u32 %r, %tid.x;\nsetp.lt.u32 %p, %r, 32;\n\
         @%p bra FIRST;\nbar.sync 1;\nbra.uni END;\nFIRST:\nbar.sync 2;\nEND:\nret;",
    );
    let function = kernel(&context, &crossed, "nothing");
    unsafe { stream.launch_builder(&function).launch(shape(1, 64)) }.unwrap();
    let found = code(stream.synchronize());
    let allowed = [CUresult::CUDA_ERROR_LAUNCH_TIMEOUT, CUresult::CUDA_ERROR_LAUNCH_FAILED];
    assert!(allowed.contains(&found), "{found:?}: {:?}", gpu.report());
}

#[test]
fn one_devices_fault_is_not_anothers() {
    let threads: Vec<_> = (0..8)
        .map(|index| {
            std::thread::spawn(move || {
                let (gpu, context) = a100();
                let stream = context.default_stream();
                let function = kernel(&context, STORE, "store");
                let address = stream.alloc_zeros::<u32>(4).unwrap().leak();
                for round in 0..20 {
                    let beyond = index % 2 == 1 && round == 10;
                    store(&context, &function, address, if beyond { 16 } else { 4 });
                    let faulted = stream.synchronize().is_err();
                    assert_eq!(faulted, beyond, "device {index}, round {round}: {:?}", gpu.report());
                    if faulted {
                        break;
                    }
                }
                assert_eq!(gpu.report().is_some(), index % 2 == 1);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
