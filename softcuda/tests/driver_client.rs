//! How the library is found and chosen, in processes of their own, since a process decides once.

mod driver_support;

use std::process::Command;

use softcuda::{Config, Error};

/// Set in the processes that [`alone`] starts.
const CHILD: &str = "SOFTCUDA_TEST_CHILD";

/// Runs the body of the test of this name in a process of its own with these variables. Gives what that
/// process wrote, and `None` inside it.
#[track_caller]
fn alone(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if std::env::var_os(CHILD).is_some() {
        body();
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", test]);
    command.env_remove("SOFTCUDA").env_remove("SOFTCUDA_LIB").env(CHILD, "1");
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    Some(text)
}

fn takes_a_virtual_device() {
    let gpu = softcuda::gpu(Config::capability(9, 0)).unwrap();
    assert!(gpu.is_virtual());
    assert_eq!(gpu.config(), Some(Config::capability(9, 0)));
    let context = cudarc::driver::CudaContext::new(gpu.ordinal()).unwrap();
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
}

fn takes_a_real_device() {
    let gpu = softcuda::gpu(Config::default()).unwrap();
    assert!(!gpu.is_virtual());
    assert!(gpu.counters().is_none() && gpu.report().is_none() && gpu.config().is_none());
    cudarc::driver::CudaContext::new(gpu.ordinal()).unwrap();
    assert_eq!(softcuda::virtual_gpu(Config::default()).unwrap_err(), Error::RealDriverInUse);
}

#[test]
fn without_the_switch_a_real_device_is_preferred() {
    alone("without_the_switch_a_real_device_is_preferred", &[], || {
        if softcuda::driver_present() { takes_a_real_device() } else { takes_a_virtual_device() }
    });
}

#[test]
fn the_switch_demands_a_real_device() {
    alone("the_switch_demands_a_real_device", &[("SOFTCUDA", "real")], || {
        if softcuda::driver_present() {
            takes_a_real_device();
        } else {
            assert_eq!(softcuda::gpu(Config::default()).unwrap_err(), Error::NoRealDevice);
        }
    });
}

#[test]
fn the_switch_demands_a_virtual_device() {
    alone("the_switch_demands_a_virtual_device", &[("SOFTCUDA", "virtual")], takes_a_virtual_device);
}

#[test]
fn a_bad_switch_is_refused() {
    alone("a_bad_switch_is_refused", &[("SOFTCUDA", "imaginary")], || {
        let refused = softcuda::gpu(Config::default()).unwrap_err();
        assert_eq!(refused, Error::BadSwitch("imaginary".to_owned()));
    });
}

fn the_library_is_missing() {
    let missing = softcuda::virtual_gpu(Config::default()).unwrap_err();
    let Error::LibraryNotFound { tried } = &missing else { panic!("{missing}") };
    assert_eq!(tried.len(), 1, "only where it was told to look");
    assert!(missing.to_string().contains("SOFTCUDA_LIB"), "{missing}");
}

#[test]
fn a_library_that_is_not_there_is_said_to_be_missing() {
    let nowhere = [("SOFTCUDA_LIB", "/nowhere/libsoftcuda.so")];
    alone("a_library_that_is_not_there_is_said_to_be_missing", &nowhere, the_library_is_missing);
}

#[test]
fn a_file_that_is_no_library_is_said_to_be_missing() {
    let text_file = [("SOFTCUDA_LIB", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))];
    alone("a_file_that_is_no_library_is_said_to_be_missing", &text_file, the_library_is_missing);
}

#[test]
fn faults_that_nobody_reads_are_printed_at_the_end() {
    use cudarc::driver::PushKernelArg;
    let text = alone("faults_that_nobody_reads_are_printed_at_the_end", &[], || {
        let (_gpu, context) = driver_support::a100();
        let stream = context.default_stream();
        let function = driver_support::kernel(&context, driver_support::STORE, "store");
        let mut launch = stream.launch_builder(&function);
        launch.arg(&0x10_u64).arg(&0_u64);
        // SAFETY: the kernel takes two 64-bit integers; what it does with them is the point.
        unsafe { launch.launch(driver_support::shape(1, 1)) }.unwrap();
        assert!(stream.synchronize().is_err());
    });
    if let Some(text) = text {
        let begins = "softcuda: a kernel made an error that nobody asked about\n========= Invalid __global__ write";
        assert_eq!(text.matches(begins).count(), 1, "{text}");
        assert!(text.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{text}");
    }
}

#[test]
fn leaks_that_nobody_asks_for_are_printed_at_the_end() {
    let text = alone("leaks_that_nobody_asks_for_are_printed_at_the_end", &[], || {
        let (gpu, context) = driver_support::a100();
        let stream = context.default_stream();
        // One in a context that ends before the lease does, two in one that does not.
        stream.alloc_zeros::<u8>(11).unwrap().leak();
        drop((stream, context));
        let context = cudarc::driver::CudaContext::new(gpu.ordinal()).unwrap();
        let stream = context.default_stream();
        stream.alloc_zeros::<u8>(12).unwrap().leak();
        let _alive = stream.alloc_zeros::<u8>(13).unwrap();
        drop(gpu);
        // What was asked for is not printed.
        let (gpu, context) = driver_support::a100();
        context.default_stream().alloc_zeros::<u8>(14).unwrap().leak();
        drop(context);
        assert_eq!(gpu.leaks().unwrap().len(), 1);
    });
    if let Some(text) = text {
        for (bytes, times) in [(11, 1), (12, 1), (13, 1), (14, 0)] {
            assert_eq!(text.matches(&format!("softcuda: leaked {bytes} bytes")).count(), times, "{bytes}: {text}");
        }
    }
}

/// Loads the library as a program would that finds it on its path as `libcuda.so`.
fn load_by_hand() {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let library = std::env::current_exe().unwrap().with_file_name("libsoftcuda.so");
    // SAFETY: the library has no initialisers.
    std::mem::forget(unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }.unwrap());
}

#[test]
fn programs_that_know_nothing_of_leases_can_have_devices() {
    use cudarc::driver::CudaContext;
    let devices = [("SOFTCUDA_DEVICES", "75, 90")];
    alone("programs_that_know_nothing_of_leases_can_have_devices", &devices, || {
        load_by_hand();
        assert_eq!(CudaContext::device_count().unwrap(), 2);
        let capability = |ordinal| CudaContext::new(ordinal).unwrap().compute_capability().unwrap();
        assert_eq!([capability(0), capability(1)], [(7, 5), (9, 0)]);
    });
}

#[test]
fn nonsense_gives_no_devices() {
    alone("nonsense_gives_no_devices", &[("SOFTCUDA_DEVICES", "T4")], || {
        load_by_hand();
        let refused = cudarc::driver::result::init().unwrap_err();
        assert_eq!(refused.0, cudarc::driver::sys::CUresult::CUDA_ERROR_INVALID_VALUE);
    });
}

/// `greet()`: each thread prints `hello N` and a line end.
const GREET: &str = ".version 7.0
.target sm_75
.address_size 64
.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
.global .align 1 .b8 format[10] = {104, 101, 108, 108, 111, 32, 37, 117, 10, 0};
.visible .entry greet()
{
    .local .align 8 .b8 frame[8];
    .reg .b32 %r1;
    .reg .b64 %rd<3>;
    mov.u32 %r1, %tid.x;
    st.local.u32 [frame], %r1;
    mov.u64 %rd1, format;
    cvta.local.u64 %rd2, frame;
    {
        .param .b64 a; .param .b64 b; .param .b32 c;
        st.param.b64 [a], %rd1;
        st.param.b64 [b], %rd2;
        call.uni (c), vprintf, (a, b);
    }
    ret;
}";

fn greet(ordinal: usize) {
    use cudarc::driver::{CudaContext, LaunchConfig};
    let context = CudaContext::new(ordinal).unwrap();
    let module = context.load_module(cudarc::nvrtc::Ptx::from_src(GREET)).unwrap();
    let kernel = module.load_function("greet").unwrap();
    let shape = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (3, 1, 1), shared_mem_bytes: 0 };
    let stream = context.default_stream();
    // SAFETY: the kernel has no parameters.
    unsafe { stream.launch_builder(&kernel).launch(shape) }.unwrap();
    stream.synchronize().unwrap();
}

#[test]
fn what_kernels_print_can_be_taken() {
    let gpu = softcuda::virtual_gpu(Config::default()).unwrap();
    greet(gpu.ordinal());
    assert_eq!(gpu.take_output().as_deref(), Some("hello 0\nhello 1\nhello 2\n"));
    assert_eq!(gpu.take_output().as_deref(), Some(""));
}

#[test]
fn what_nobody_takes_is_printed() {
    let text = alone("what_nobody_takes_is_printed", &[("SOFTCUDA", "virtual")], || {
        let gpu = softcuda::gpu(Config::default()).unwrap();
        greet(gpu.ordinal());
    });
    assert!(text.is_none_or(|text| text.contains("hello 0\nhello 1\nhello 2\n")));
}

#[test]
fn devices_that_nobody_leased_print_at_once() {
    let text = alone("devices_that_nobody_leased_print_at_once", &[("SOFTCUDA_DEVICES", "80")], || {
        load_by_hand();
        greet(0);
        println!("after");
    });
    assert!(text.is_none_or(|text| text.contains("hello 2\nafter")));
}
