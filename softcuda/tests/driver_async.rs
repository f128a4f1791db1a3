//! Work runs later than it is submitted: what host code relies on then, and what it forgets.
#![allow(clippy::undocumented_unsafe_blocks, reason = "each calls the driver with pointers to locals")]

mod driver_support;

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaStream, PushKernelArg, result};
use driver_support::{SCALE, STORE, a100, code, device, kernel, shape};
use softcuda::{Config, Gpu};

/// An A100 whose orders come from a seed. cudarc's own events are off: the tests place them.
fn seeded(seed: u64) -> (Gpu, Arc<CudaContext>) {
    let (gpu, context) = device(Config { seed, ..Config::capability(8, 0) });
    unsafe { context.disable_event_tracking() };
    (gpu, context)
}

/// Makes a stream wait until the sender says so, or is gone.
fn block(stream: &CudaStream) -> Sender<()> {
    unsafe extern "C" fn wait(receiver: *mut c_void) {
        let receiver = unsafe { Box::from_raw(receiver.cast::<Receiver<()>>()) };
        let _ = receiver.recv();
    }
    let (sender, receiver) = channel::<()>();
    let receiver = Box::into_raw(Box::new(receiver)).cast();
    unsafe { result::stream::launch_host_function(stream.cu_stream(), wait, receiver) }.unwrap();
    sender
}

fn is_done(stream: &CudaStream) -> bool {
    match unsafe { sys::cuStreamQuery(stream.cu_stream()) } {
        CUresult::CUDA_SUCCESS => true,
        CUresult::CUDA_ERROR_NOT_READY => false,
        other => panic!("{other:?}"),
    }
}

/// One stream writes, another scales; answers what the second made of it.
fn produce_and_consume(config: Config, waits: bool) -> Vec<f32> {
    let (_gpu, context) = device(config);
    unsafe { context.disable_event_tracking() };
    let function = kernel(&context, SCALE, "scale");
    let (producer, consumer) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut input = producer.clone_htod(&[1.0_f32; 64]).unwrap();
    let mut output = producer.alloc_zeros::<f32>(64).unwrap();
    producer.synchronize().unwrap();
    producer.memcpy_htod(&[2.0_f32; 64], &mut input).unwrap();
    if waits {
        consumer.join(&producer).unwrap();
    }
    let mut launch = consumer.launch_builder(&function);
    launch.arg(&mut output).arg(&input).arg(&10.0_f32).arg(&64_u32);
    unsafe { launch.launch(shape(1, 64)) }.unwrap();
    consumer.clone_dtoh(&output).unwrap()
}

#[test]
fn a_missing_wait_between_streams_shows() {
    let config = |seed| Config { seed, ..Config::capability(8, 0) };
    assert_eq!(produce_and_consume(config(0), false), [10.0; 64], "the default order is the laziest one");
    let wrong = (1..=8).filter(|&seed| produce_and_consume(config(seed), false) != [20.0; 64]).count();
    assert!((1..8).contains(&wrong), "{wrong} of 8: seeds are different orders");
    for seed in 0..=8 {
        assert_eq!(produce_and_consume(config(seed), true), [20.0; 64], "seed {seed}");
    }
}

#[test]
fn eager_devices_hide_it() {
    let config = Config { eager: true, ..Config::capability(8, 0) };
    assert_eq!(produce_and_consume(config, false), [20.0; 64]);
}

#[test]
fn memory_is_not_there_before_its_allocation() {
    let use_it = |seed, waits: bool| {
        let (gpu, context) = seeded(seed);
        let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let mut slice = unsafe { one.alloc::<u32>(16) }.unwrap();
        if waits {
            two.join(&one).unwrap();
        }
        two.memset_zeros(&mut slice).unwrap();
        let result = two.synchronize();
        if result.is_err() {
            assert_eq!(code(result), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
            let report = gpu.report().unwrap();
            assert!(report.to_lowercase().contains("use before allocation"), "{report}");
            return false;
        }
        one.join(&two).unwrap();
        true
    };
    assert!(!use_it(0, false));
    for seed in 0..=8 {
        assert!(use_it(seed, true), "seed {seed}");
    }
}

#[test]
fn memory_that_a_stream_frees_is_gone_for_others() {
    let use_it = |seed, waits: bool| {
        let (gpu, context) = seeded(seed);
        let function = kernel(&context, STORE, "store");
        let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let address = one.alloc_zeros::<u32>(4).unwrap().leak();
        one.synchronize().unwrap();
        let mut launch = two.launch_builder(&function);
        launch.arg(&address).arg(&0_u64);
        unsafe { launch.launch(shape(1, 1)) }.unwrap();
        if waits {
            one.join(&two).unwrap();
        }
        unsafe { result::free_async(address, one.cu_stream()) }.unwrap();
        let result = context.synchronize();
        if result.is_err() {
            assert!(gpu.report().unwrap().contains("freed"), "{:?}", gpu.report());
        }
        result.is_ok()
    };
    assert!(!use_it(0, false), "what was submitted last goes first");
    for seed in 0..=8 {
        assert!(use_it(seed, true), "seed {seed}");
    }
}

#[test]
fn freeing_before_the_allocation_is_reported() {
    let (gpu, context) = seeded(0);
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let address = unsafe { one.alloc::<u32>(16) }.unwrap().leak();
    unsafe { result::free_async(address, two.cu_stream()) }.unwrap();
    assert_eq!(code(two.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(gpu.report().unwrap().to_lowercase().contains("use before allocation"), "{:?}", gpu.report());
}

#[test]
fn queries_say_not_ready_until_it_is() {
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let event = context.new_event(None).unwrap();
    let release = block(&stream);
    event.record(&stream).unwrap();
    assert_eq!(event.try_is_complete(), Ok(false));
    assert!(!is_done(&stream));
    release.send(()).unwrap();
    event.synchronize().unwrap();
    assert_eq!(event.try_is_complete(), Ok(true));
    assert!(is_done(&stream));
    // Polling alone gets the work done as well.
    let slice = stream.alloc_zeros::<u8>(100).unwrap();
    event.record(&stream).unwrap();
    while !event.is_complete() {}
    drop(slice);
}

#[test]
fn the_device_works_while_the_host_waits_elsewhere() {
    unsafe extern "C" fn tell(sender: *mut c_void) {
        let sender = unsafe { Box::from_raw(sender.cast::<Sender<u32>>()) };
        sender.send(7).unwrap();
    }
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let (sender, receiver) = channel::<u32>();
    let sender = Box::into_raw(Box::new(sender)).cast();
    unsafe { result::stream::launch_host_function(stream.cu_stream(), tell, sender) }.unwrap();
    assert_eq!(receiver.recv(), Ok(7), "nothing but the background gets here");
}

#[test]
fn waiting_for_one_stream_is_not_waiting_for_another() {
    for seed in 0..4 {
        let (_gpu, context) = seeded(seed);
        let (stuck, free) = (context.new_stream().unwrap(), context.new_stream().unwrap());
        let release = block(&stuck);
        let slice = free.clone_htod(&[1_u8, 2, 3]).unwrap();
        assert_eq!(free.clone_dtoh(&slice).unwrap(), [1, 2, 3]);
        assert!(!is_done(&stuck));
        release.send(()).unwrap();
        context.synchronize().unwrap();
        assert!(is_done(&stuck), "the context waits for all");
    }
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams_only() {
    let (_gpu, context) = seeded(0);
    let made = result::stream::create(result::stream::StreamKind::Default).unwrap();
    let blocking = unsafe { context.wrap_borrowed_stream(made) };
    let (legacy, free) = (context.default_stream(), context.new_stream().unwrap());
    let mut slice = free.alloc_zeros::<u8>(4).unwrap();
    free.synchronize().unwrap();
    let release = block(&blocking);
    legacy.memset_zeros(&mut slice).unwrap();
    free.memset_zeros(&mut slice).unwrap();
    while !is_done(&free) {}
    for _ in 0..10 {
        assert!(!is_done(&legacy), "it waits for the blocking stream");
    }
    release.send(()).unwrap();
    legacy.synchronize().unwrap();
    // And the other way round.
    let release = block(&legacy);
    blocking.memset_zeros(&mut slice).unwrap();
    free.memset_zeros(&mut slice).unwrap();
    free.synchronize().unwrap();
    assert!(!is_done(&blocking));
    release.send(()).unwrap();
    blocking.synchronize().unwrap();
    drop(blocking);
    unsafe { result::stream::destroy(made) }.unwrap();
}

#[test]
fn waits_are_for_what_was_recorded_before_them() {
    let (_gpu, context) = seeded(0);
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let event = context.new_event(None).unwrap();
    event.record(&one).unwrap();
    two.wait(&event).unwrap();
    let release = block(&one);
    event.record(&one).unwrap();
    // It waited for the first record, which is long done.
    two.synchronize().unwrap();
    two.wait(&event).unwrap();
    assert!(!is_done(&two));
    release.send(()).unwrap();
    two.synchronize().unwrap();
}

#[test]
fn per_thread_default_streams_are_streams_of_their_own() {
    let (_gpu, context) = seeded(0);
    let here = context.per_thread_stream();
    let release = block(&here);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            context.bind_to_thread().unwrap();
            let there = context.per_thread_stream();
            let slice = there.clone_htod(&[5_u8]).unwrap();
            there.clone_dtoh(&slice).unwrap()
        });
        assert_eq!(other.join().unwrap(), [5]);
    });
    assert!(!is_done(&here));
    release.send(()).unwrap();
    here.synchronize().unwrap();
}

#[test]
fn the_host_may_change_what_it_has_passed() {
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, SCALE, "scale");
    let mut source = vec![1.0_f32; 1000];
    let input = stream.clone_htod(&source).unwrap();
    source.fill(9.0);
    let mut output = stream.alloc_zeros::<f32>(1000).unwrap();
    let (mut factor, count) = (2.0_f32, 1000_u32);
    let mut launch = stream.launch_builder(&function);
    launch.arg(&mut output).arg(&input).arg(&factor).arg(&count);
    unsafe { launch.launch(shape(4, 256)) }.unwrap();
    factor = 100.0;
    assert_eq!(stream.clone_dtoh(&output).unwrap(), [2.0; 1000], "not {factor}");
}

#[test]
fn streams_finish_their_work_after_their_end() {
    let (gpu, context) = seeded(0);
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let function = kernel(&context, STORE, "store");
    let address = two.alloc_zeros::<u32>(1).unwrap().leak();
    two.synchronize().unwrap();
    let raw = one.cu_stream();
    let mut launch = one.launch_builder(&function);
    launch.arg(&address).arg(&0_u64);
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
    drop(one);
    assert_eq!(code(unsafe { result::stream::synchronize(raw) }), CUresult::CUDA_ERROR_INVALID_HANDLE);
    context.synchronize().unwrap();
    let slice = unsafe { two.upgrade_device_ptr::<u32>(address, 1) };
    assert_eq!(two.clone_dtoh(&slice).unwrap(), [1]);
    assert_eq!(gpu.counters().unwrap().launches, 1);
}

#[test]
fn host_functions_must_not_call_the_driver() {
    unsafe extern "C" fn call(out: *mut c_void) {
        let mut free = 0;
        let refused = unsafe { sys::cuMemGetInfo_v2(&mut free, &mut free) };
        unsafe { out.cast::<CUresult>().write(refused) };
    }
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let mut refused = CUresult::CUDA_SUCCESS;
    let out = (&raw mut refused).cast();
    unsafe { result::stream::launch_host_function(stream.cu_stream(), call, out) }.unwrap();
    stream.synchronize().unwrap();
    assert_eq!(refused, CUresult::CUDA_ERROR_NOT_PERMITTED);
    assert!(gpu.report().unwrap().contains("cuMemGetInfo_v2: called by a host function"), "{:?}", gpu.report());
}

#[test]
fn no_host_function_runs_after_a_fault_but_callbacks_are_told() {
    unsafe extern "C" fn note(_: sys::CUstream, status: CUresult, out: *mut c_void) {
        unsafe { out.cast::<CUresult>().write(status) };
    }
    unsafe extern "C" fn never(out: *mut c_void) {
        unsafe { out.cast::<bool>().write(true) };
    }
    let (_gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    let function = kernel(&context, STORE, "store");
    let mut launch = stream.launch_builder(&function);
    launch.arg(&16_u64).arg(&0_u64);
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
    let (mut called, mut told) = (false, CUresult::CUDA_SUCCESS);
    unsafe {
        result::stream::launch_host_function(stream.cu_stream(), never, (&raw mut called).cast()).unwrap();
        sys::cuStreamAddCallback(stream.cu_stream(), Some(note), (&raw mut told).cast(), 0).result().unwrap();
    }
    assert_eq!(code(stream.synchronize()), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_eq!((called, told), (false, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS));
}

#[test]
fn devices_wait_for_each_other_by_events() {
    for seed in 0..4 {
        let config = Config { seed, ..Config::capability(8, 0) };
        let ((_one, first), (_two, second)) = (device(config), device(config));
        unsafe {
            first.disable_event_tracking();
            second.disable_event_tracking();
        }
        first.bind_to_thread().unwrap();
        let from = first.new_stream().unwrap();
        let source = from.clone_htod(&[3_u8; 100]).unwrap().leak();
        let event = from.record_event(None).unwrap();
        second.bind_to_thread().unwrap();
        let to = second.new_stream().unwrap();
        let target = to.alloc_zeros::<u8>(100).unwrap().leak();
        to.wait(&event).unwrap();
        unsafe {
            result::memcpy_peer_async(second.cu_ctx(), target, first.cu_ctx(), source, 100, to.cu_stream()).unwrap();
        }
        let copy = unsafe { to.upgrade_device_ptr::<u8>(target, 100) };
        assert_eq!(to.clone_dtoh(&copy).unwrap(), [3; 100], "seed {seed}");
        first.bind_to_thread().unwrap();
        unsafe { result::free_sync(source) }.unwrap();
    }
}

#[test]
fn long_queues_are_no_trouble() {
    let (_gpu, context) = seeded(3);
    let stream = context.new_stream().unwrap();
    let mut slice = stream.alloc_zeros::<u8>(8).unwrap();
    for round in 0..5000_u32 {
        unsafe { result::memset_d8_async(slice_address(&mut slice, &stream), round as u8, 8, stream.cu_stream()) }
            .unwrap();
    }
    assert_eq!(stream.clone_dtoh(&slice).unwrap(), [4999_u32 as u8; 8]);
}

fn slice_address(slice: &mut cudarc::driver::CudaSlice<u8>, stream: &CudaStream) -> sys::CUdeviceptr {
    use cudarc::driver::DevicePtrMut;
    slice.device_ptr_mut(stream).0
}

#[test]
fn a_lease_ends_when_its_work_has_run() {
    static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    unsafe extern "C" fn count(_: *mut c_void) {
        CALLS.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
    let (gpu, context) = a100();
    let stream = context.new_stream().unwrap();
    for _ in 0..3 {
        unsafe { result::stream::launch_host_function(stream.cu_stream(), count, std::ptr::null_mut()) }.unwrap();
    }
    drop(gpu);
    assert_eq!(CALLS.load(std::sync::atomic::Ordering::SeqCst), 3);
}
