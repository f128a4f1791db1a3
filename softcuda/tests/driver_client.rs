//! How the library is found and chosen, in processes of their own, since a process decides once.

use std::process::{Command, Output};

use softcuda::{Config, Error};

/// Runs one of the ignored tests below in a process with these variables.
fn run(test: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--ignored", "--nocapture", test]);
    command.env_remove("SOFTCUDA").env_remove("SOFTCUDA_LIB");
    command.envs(variables.iter().copied());
    command.output().unwrap()
}

#[track_caller]
fn passes(test: &str, variables: &[(&str, &str)]) -> String {
    let output = run(test, variables);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text
}

#[test]
fn the_switch_chooses_the_driver() {
    passes("virtual_whatever_is_there", &[("SOFTCUDA", "virtual")]);
    passes("a_bad_switch_is_refused", &[("SOFTCUDA", "imaginary")]);
    if softcuda::driver_present() {
        passes("the_real_device_is_taken", &[]);
        passes("the_real_device_is_taken", &[("SOFTCUDA", "real")]);
    } else {
        passes("virtual_whatever_is_there", &[]);
        passes("there_is_no_real_device", &[("SOFTCUDA", "real")]);
    }
}

#[test]
fn a_library_that_is_not_there_is_said_to_be_missing() {
    passes("the_library_is_missing", &[("SOFTCUDA_LIB", "/nowhere/libsoftcuda.so")]);
    passes("the_library_is_missing", &[("SOFTCUDA_LIB", "/etc/hostname")]);
}

#[test]
fn faults_that_nobody_reads_are_printed_at_the_end() {
    let text = passes("a_fault_goes_unread", &[]);
    assert_eq!(text.matches("softcuda: CUDA_ERROR_ILLEGAL_ADDRESS").count(), 1, "{text}");
}

#[test]
fn programs_that_know_nothing_of_leases_can_have_devices() {
    passes("devices_stand_without_a_lease", &[("SOFTCUDA_DEVICES", "75, 90")]);
    passes("nonsense_gives_no_devices", &[("SOFTCUDA_DEVICES", "T4")]);
}

/// Loads the library as a program would that finds it on its path as `libcuda.so`.
fn load_by_hand() {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let library = std::env::current_exe().unwrap().with_file_name("libsoftcuda.so");
    // SAFETY: the library has no initialisers.
    std::mem::forget(unsafe { Library::open(Some(library), RTLD_NOW | RTLD_GLOBAL) }.unwrap());
}

#[test]
#[ignore = "run by programs_that_know_nothing_of_leases_can_have_devices"]
fn devices_stand_without_a_lease() {
    use cudarc::driver::CudaContext;
    load_by_hand();
    assert_eq!(CudaContext::device_count().unwrap(), 2);
    let capability = |ordinal| CudaContext::new(ordinal).unwrap().compute_capability().unwrap();
    assert_eq!([capability(0), capability(1)], [(7, 5), (9, 0)]);
}

#[test]
#[ignore = "run by programs_that_know_nothing_of_leases_can_have_devices"]
fn nonsense_gives_no_devices() {
    load_by_hand();
    let refused = cudarc::driver::result::init().unwrap_err();
    assert_eq!(refused.0, cudarc::driver::sys::CUresult::CUDA_ERROR_INVALID_VALUE);
}

#[test]
#[ignore = "run by the_switch_chooses_the_driver"]
fn virtual_whatever_is_there() {
    let gpu = softcuda::gpu(Config::capability(9, 0)).unwrap();
    assert!(gpu.is_virtual());
    assert_eq!(gpu.config(), Some(Config::capability(9, 0)));
    let context = cudarc::driver::CudaContext::new(gpu.ordinal()).unwrap();
    assert_eq!(context.compute_capability().unwrap(), (9, 0));
}

#[test]
#[ignore = "run by the_switch_chooses_the_driver"]
fn the_real_device_is_taken() {
    let gpu = softcuda::gpu(Config::default()).unwrap();
    assert!(!gpu.is_virtual());
    assert!(gpu.counters().is_none() && gpu.report().is_none() && gpu.config().is_none());
    cudarc::driver::CudaContext::new(gpu.ordinal()).unwrap();
    assert_eq!(softcuda::virtual_gpu(Config::default()).unwrap_err(), Error::RealDriverInUse);
}

#[test]
#[ignore = "run by the_switch_chooses_the_driver"]
fn there_is_no_real_device() {
    assert_eq!(softcuda::gpu(Config::default()).unwrap_err(), Error::NoRealDevice);
}

#[test]
#[ignore = "run by the_switch_chooses_the_driver"]
fn a_bad_switch_is_refused() {
    let refused = softcuda::gpu(Config::default()).unwrap_err();
    assert_eq!(refused, Error::BadSwitch("imaginary".to_owned()));
}

#[test]
#[ignore = "run by a_library_that_is_not_there_is_said_to_be_missing"]
fn the_library_is_missing() {
    let missing = softcuda::virtual_gpu(Config::default()).unwrap_err();
    let Error::LibraryNotFound { tried } = &missing else { panic!("{missing}") };
    assert_eq!(tried.len(), 1, "only where it was told to look");
    assert!(missing.to_string().contains("SOFTCUDA_LIB"), "{missing}");
}

mod driver_support;

#[test]
#[ignore = "run by faults_that_nobody_reads_are_printed_at_the_end"]
fn a_fault_goes_unread() {
    use cudarc::driver::PushKernelArg;
    let (_gpu, context) = driver_support::a100();
    let stream = context.default_stream();
    let function = driver_support::kernel(&context, driver_support::STORE, "store");
    let mut launch = stream.launch_builder(&function);
    launch.arg(&0x10_u64).arg(&0_u64);
    // SAFETY: the kernel takes two 64-bit integers; what it does with them is the point.
    unsafe { launch.launch(driver_support::shape(1, 1)) }.unwrap();
    assert!(stream.synchronize().is_err());
}
