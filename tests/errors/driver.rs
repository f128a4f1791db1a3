//! Machines without a driver, without the device asked for, with a driver that is too old, and refused calls.

use softcuda::Config;
use zlpr::plan::{Device, Plan, Problem};
use zlpr::{Buffers, DType, Error, Options, Reduction, Zlpr, raw};

use crate::alone;
use crate::call::Host;

/// Drivers stay loaded, so this needs a process that has loaded none. Not even an error's text may panic.
#[test]
fn no_driver_is_an_error_and_not_a_panic() {
    if softcuda::driver_present() {
        eprintln!("skipped: this machine has a driver");
        return;
    }
    alone("driver::no_driver_is_an_error_and_not_a_panic", || {
        let error = zlpr::context(0).expect_err("there is no driver");
        match &error {
            Error::NoDriver { tried } => {
                assert!(tried.contains("libcuda.so,") && tried.contains("libcuda.so.1"), "{tried}");
                assert_eq!(zlpr::device_count().unwrap_err(), error);
                assert_eq!(raw::device().unwrap_err(), error);
                let device = Device { capability: (8, 0), shared_memory_per_block: 163 << 10, max_grid: 1 << 30 };
                let plan = Plan::new(&device, &problem()).expect("plans need no driver");
                assert_eq!(raw::prepare(&plan).unwrap_err(), error);
                // SAFETY: it fails before it looks at any pointer.
                let launched = unsafe { raw::launch(&plan, &Options::new(), &no_arguments(), std::ptr::null_mut()) };
                assert_eq!(launched.unwrap_err(), error);
                // SAFETY: nothing was loaded.
                assert_eq!(unsafe { raw::unload() }.unwrap_err(), error);
            }
            // A driver library without a device.
            Error::NoDevice { ordinal: 0, count: 0 } => {}
            other => panic!("{other}"),
        }
        assert!(!error.to_string().contains('\n'));
    });
}

fn problem() -> Problem {
    Problem {
        rows: 1,
        cols: 8,
        scores: DType::F32,
        labels: DType::F32,
        gradient: Some(DType::F32),
        reduction: Reduction::None,
    }
}

fn no_arguments() -> raw::Arguments {
    raw::Arguments {
        scores: 0,
        scores_stride: 8,
        labels: 0,
        labels_stride: 8,
        mask: 0,
        mask_stride: 0,
        gradient: 0,
        gradient_stride: 8,
        loss: 0,
        upstream: 0,
        upstream_stride: 0,
        scale: 1.0,
        total: 0,
        workspace: 0,
    }
}

#[test]
fn no_such_device() {
    let host = Host::new();
    let count = zlpr::device_count().expect("a driver");
    assert!(count > host.gpu.ordinal());
    for ordinal in [count, count + 1, usize::MAX] {
        assert_eq!(zlpr::context(ordinal).unwrap_err(), Error::NoDevice { ordinal, count });
    }
    assert_eq!(zlpr::context(host.gpu.ordinal()).expect("a context").cu_ctx(), host.context.cu_ctx());
}

#[test]
fn no_context_on_this_thread() {
    let host = Host::new();
    let plan = Plan::new(host.zlpr(Options::new()).device(), &problem()).expect("a plan");
    // The context is current on this thread, and on no new one.
    let elsewhere = std::thread::spawn(move || {
        // SAFETY: it fails before it looks at any pointer.
        let launched = unsafe { raw::launch(&plan, &Options::new(), &no_arguments(), std::ptr::null_mut()) };
        // SAFETY: nothing was loaded.
        let unloaded = unsafe { raw::unload() };
        (raw::device().err(), raw::prepare(&plan).err(), launched.err(), unloaded.err())
    });
    let no = Some(Error::NoContext);
    assert_eq!(elsewhere.join().expect("no panic"), (no.clone(), no.clone(), no.clone(), no));
}

/// The typed layer needs no current context: it makes its own current.
#[test]
fn the_typed_layer_works_on_any_thread() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new());
    let elsewhere = std::thread::spawn(move || zlpr.prepare(DType::F32, DType::U8, 10));
    assert_eq!(elsewhere.join().expect("no panic"), Ok(()));
}

#[test]
fn a_device_without_room() {
    let host = Host::with(Config { memory_bytes: 1 << 20, ..Config::capability(8, 0) });
    let zlpr = host.zlpr(Options::new());
    let error = Buffers::<f32>::new(&zlpr, &host.stream, 1 << 10, 1 << 10).err().expect("4 MiB do not fit");
    let Error::Driver { call, code, name, text } = &error else { panic!("{error}") };
    assert_eq!((*call, *code, name.as_str()), ("cuMemAllocAsync", 2, "CUDA_ERROR_OUT_OF_MEMORY"));
    assert!(!text.is_empty() && !error.to_string().contains('\n'));
    let fits = Buffers::<f32>::new(&zlpr, &host.stream, 1 << 8, 1 << 8);
    assert!(fits.is_ok(), "the device is still usable");
}

#[test]
fn buffers_beyond_any_size() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new());
    let error = Buffers::<f32>::new(&zlpr, &host.stream, usize::MAX, 3).err().expect("too large");
    let (rows, cols) = (usize::MAX as u64, 3);
    assert_eq!(error, Error::TooLarge { argument: "gradient", rows, cols, stride: cols });
}

/// A kernel that faults makes later calls fail, with a driver's error and not a panic.
#[test]
fn a_fault_is_reported_by_later_calls() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new());
    zlpr.prepare(DType::F32, DType::F32, 8).expect("kernels");
    let plan = zlpr.plan(1, 8, DType::F32, DType::F32, Some(DType::F32)).expect("a plan");
    // SAFETY: none on a real device; the virtual one checks every address, which is what this is about.
    let launched = unsafe { raw::launch(&plan, &Options::new(), &no_arguments(), host.stream.cu_stream().cast()) };
    assert_eq!(launched, Ok(()), "a launch does not wait for its result");
    // As on hardware, the first call that waits notices; every later one is refused.
    assert!(host.stream.synchronize().is_err());
    let error = Buffers::<f32>::new(&zlpr, &host.stream, 4, 4).err().expect("the context is lost");
    assert!(matches!(&error, Error::Driver { code: 700, .. }), "{error}");
    let report = host.gpu.report().expect("a report");
    assert!(report.contains("zlpr_warp_f32_f32"), "{report}");
}

/// Drivers from 12.1 on are supported.
#[test]
fn drivers_that_are_too_old() {
    alone("driver::drivers_that_are_too_old", || {
        for (found, supported) in [(11_080, false), (12_000, false), (12_010, true), (13_050, true)] {
            let host = Host::with(Config { driver_version: found, ..Config::capability(8, 0) });
            let wanted = (!supported).then_some(Error::DriverTooOld { found: found as i32 });
            assert_eq!(zlpr::context(host.gpu.ordinal()).err(), wanted);
            assert_eq!(zlpr::device_count().err(), wanted);
            assert_eq!(Zlpr::new(&host.context, Options::new()).err(), wanted);
            let device = raw::device().expect("the limits of any device");
            let plan = Plan::new(&device, &problem()).expect("a plan");
            if !supported {
                assert_eq!(raw::prepare(&plan).err(), wanted);
            }
        }
        let text = Error::DriverTooOld { found: 11_080 }.to_string();
        assert!(text.contains("11.8") && text.contains("12.1") && text.contains("530"), "{text}");
    });
}
