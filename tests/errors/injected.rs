//! Every call of the driver that a typical run makes, failing in turn: an error each time, never a panic, a wrong
//! answer, or memory that stays allocated.

use std::collections::BTreeMap;

use softcuda::{Config, Gpu, When};
use zlpr::{
    Buffers, DType, Error, Labels, Matrix, Options, Reduction, Targets, Upstream, Zlpr, context, device_count, raw,
};

const ROWS: usize = 5;
const COLS: usize = 70;

/// What calls are made to fail with.
const CODE: u32 = 2;
const NAME: &str = "CUDA_ERROR_OUT_OF_MEMORY";

/// What only names an error. It is called in a run that succeeds where the machine code of a build is refused by the
/// virtual device, and nothing depends on its answer.
const NAMES: [&str; 2] = ["cuGetErrorName", "cuGetErrorString"];

/// Losses, gradient and total.
#[derive(Clone, Debug, PartialEq)]
struct Answer(Vec<f32>, Vec<f32>, Vec<f32>);

type Failed = Box<dyn std::error::Error>;

/// How often each function of the driver was called.
type Calls = BTreeMap<String, u64>;

/// All that a program does with this crate, from finding the device to giving everything back. Also the calls up to
/// the last moment at which a program can hear of an error: what is called after it, is called while the context is
/// dropped. cudarc tracks the use of slices by events, or does not.
fn run(gpu: &Gpu, tracked: bool, midway: impl FnOnce(&Gpu)) -> Result<(Answer, Calls), Failed> {
    assert!(device_count()? > gpu.ordinal());
    let context = context(gpu.ordinal())?;
    if !tracked {
        // SAFETY: there is one stream only.
        unsafe { context.disable_event_tracking() };
    }
    let answer = (|| {
        let stream = context.new_stream()?;
        let zlpr = Zlpr::new(&context, Options::new().reduction(Reduction::Sum))?;
        zlpr.prepare(DType::F32, DType::F32, COLS)?;
        let mut buffers = Buffers::<f32>::new(&zlpr, &stream, ROWS, COLS)?;
        let values: Vec<f32> = (0..ROWS * COLS).map(|i| (i * 37 % 100) as f32 / 10.0 - 5.0).collect();
        let labels: Vec<f32> = (0..ROWS * COLS).map(|i| (i % 3) as f32 / 2.0).collect();
        let (scores, labels) = (stream.clone_htod(&values)?, stream.clone_htod(&labels)?);
        midway(gpu);
        let targets = Targets::new(Labels::Soft(Matrix::new(&labels, ROWS, COLS)));
        let (outputs, gradient) = buffers.outputs(ROWS, COLS)?;
        let scores = Matrix::new(&scores, ROWS, COLS);
        zlpr.forward_backward(&stream, scores, &targets, Upstream::Host(1.0), gradient, outputs)?;
        let loss = stream.clone_dtoh(buffers.loss())?;
        let gradient = stream.clone_dtoh(buffers.gradient())?;
        let total = stream.clone_dtoh(buffers.total())?;
        stream.synchronize()?;
        Ok(Answer(loss, gradient, total))
    })();
    // Whatever happened, the kernels are given back.
    context.bind_to_thread()?;
    // SAFETY: nothing of this crate is in flight: the stream was waited for, or has ended.
    let unloaded = unsafe { raw::unload() };
    let answer: Answer = answer.map_err(|error: Failed| error)?;
    unloaded?;
    // Errors of calls that were made while something was dropped.
    context.check_err()?;
    Ok((answer, gpu.calls().expect("a virtual device counts")))
}

/// A lease of its own, on a thread of its own, since what is current on a thread outlives a run.
fn on_a_device<T: Send>(body: impl FnOnce(&Gpu) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            let gpu = softcuda::virtual_gpu(Config::capability(8, 0)).expect("a virtual device");
            body(&gpu)
        };
        scope.spawn(run).join().expect("no panic")
    })
}

/// Fails every call of the functions given, one after the other.
fn fail_each(tracked: bool, expected: &Answer, calls: &Calls) {
    for (name, &count) in calls {
        if NAMES.contains(&name.as_str()) {
            continue;
        }
        for nth in 1..=count {
            let what = format!("call {nth} of {count} of {name}");
            on_a_device(|gpu| {
                gpu.fail(name, When::Nth(nth), CODE).expect("it was called, so it exists");
                let error = run(gpu, tracked, |_| ()).expect_err(&what);
                let text = format!("{error} {error:?}");
                assert!(text.contains(NAME), "{what}: {text}");
                let leaks = gpu.leaks().expect("a virtual device");
                // What a failed free leaves cannot be helped. cudarc forgets what it has allocated when it cannot make
                // the events that are to track it.
                let makes_events = tracked && ["cuCtxGetCurrent", "cuEventCreate"].contains(&name.as_str());
                let expected_leaks = usize::from(name == "cuMemFreeAsync");
                assert!(leaks.len() == expected_leaks || (makes_events && leaks.len() == 1), "{what}: {leaks:?}");
                if name == "cuModuleUnload" {
                    let unloaded = gpu.calls().expect("a virtual device counts")[name];
                    assert_eq!(unloaded, count, "{what}: the other modules");
                }
                if nth == count {
                    // It was that one call: everything works again.
                    let again = run(gpu, tracked, |_| ()).unwrap_or_else(|error| panic!("{what}: {error} ever after"));
                    assert_eq!(&again.0, expected, "{what}: afterwards");
                }
            });
        }
    }
}

#[test]
fn every_call_may_fail_once() {
    let (expected, calls) = on_a_device(|gpu| run(gpu, false, |_| ()).expect("nothing fails"));
    for name in ["cuInit", "cuModuleLoadData", "cuMemAllocAsync", "cuLaunchKernel"] {
        assert!(calls.contains_key(name), "{calls:?}");
    }
    fail_each(false, &expected, &calls);
}

#[test]
fn every_call_that_tracks_slices_may_fail_once() {
    let (_, untracked) = on_a_device(|gpu| run(gpu, false, |_| ()).expect("nothing fails"));
    let (expected, mut calls) = on_a_device(|gpu| run(gpu, true, |_| ()).expect("nothing fails"));
    calls.retain(|name, count| untracked.get(name) != Some(count));
    for name in ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy_v2"] {
        assert!(calls.contains_key(name), "{calls:?}");
    }
    fail_each(true, &expected, &calls);
}

/// Nobody hears of calls that fail while the context is dropped; nor does anything come of it.
#[test]
fn calls_at_the_very_end_may_fail() {
    let (expected, heard, all) = on_a_device(|gpu| {
        let (answer, heard) = run(gpu, true, |_| ()).expect("nothing fails");
        (answer, heard, gpu.calls().expect("a virtual device counts"))
    });
    let mut failed = 0;
    for (name, &count) in &all {
        for nth in heard.get(name).copied().unwrap_or(0) + 1..=count {
            on_a_device(|gpu| {
                gpu.fail(name, When::Nth(nth), CODE).expect("it was called, so it exists");
                assert_eq!(run(gpu, true, |_| ()).expect("nobody hears of it").0, expected, "call {nth} of {name}");
                assert_eq!(gpu.leaks(), Some(Vec::new()), "call {nth} of {name}");
            });
            failed += 1;
        }
    }
    assert!((1..10).contains(&failed), "{failed}");
}

#[test]
fn every_call_may_fail_for_good() {
    let (_, heard) = on_a_device(|gpu| run(gpu, true, |_| ()).expect("nothing fails"));
    for (name, &count) in heard.iter().filter(|(name, _)| !NAMES.contains(&name.as_str())) {
        for nth in [1, count] {
            on_a_device(|gpu| {
                gpu.fail(name, When::From(nth), CODE).expect("it was called, so it exists");
                assert!(run(gpu, true, |_| ()).is_err(), "from call {nth} of {name}");
            });
        }
    }
}

/// Not even when the driver cannot say what its own codes mean: what is no error without names is none then, and what
/// is one stays one.
#[test]
fn codes_without_a_name_are_errors_too() {
    let (expected, _) = on_a_device(|gpu| run(gpu, false, |_| ()).expect("nothing fails"));
    on_a_device(|gpu| {
        for name in NAMES {
            gpu.fail(name, When::From(1), CODE).expect("it exists");
        }
        assert_eq!(run(gpu, false, |_| ()).expect("only names are missing").0, expected);
    });
    on_a_device(|gpu| {
        gpu.fail("cuGetErrorName", When::From(1), 1).expect("it exists");
        gpu.fail("cuGetErrorString", When::From(1), 1).expect("it exists");
        gpu.fail("cuCtxGetDevice", When::From(1), CODE).expect("it exists");
        let error = run(gpu, true, |_| ()).expect_err("it fails");
        let error = error.downcast_ref::<Error>().expect("an error of this crate");
        assert!(matches!(error, Error::Driver { call: "cuCtxGetDevice", code: CODE, .. }), "{error}");
    });
}

/// A device that is lost between two calls makes the next one fail, and whatever is dropped afterwards.
#[test]
fn a_device_may_be_lost() {
    on_a_device(|gpu| {
        let error = run(gpu, true, Gpu::lose).expect_err("the device is gone");
        assert!(format!("{error} {error:?}").contains("CUDA_ERROR_UNKNOWN"), "{error}");
        let error = context(gpu.ordinal()).expect_err("the device is gone");
        assert!(matches!(error, Error::Driver { .. }), "{error}");
    });
}

/// Long rows need an attribute of their kernel to be set.
#[test]
fn attributes_may_fail() {
    on_a_device(|gpu| {
        let context = context(gpu.ordinal()).expect("a context");
        let zlpr = Zlpr::new(&context, Options::new()).expect("a loss");
        let plan = zlpr.plan(1, 20_000, DType::F32, DType::F32, Some(DType::F32)).expect("a plan");
        gpu.fail("cuFuncSetAttribute", When::Nth(1), CODE).expect("it exists");
        let error = raw::prepare(&plan).expect_err("it fails");
        assert!(matches!(error, Error::Driver { call: "cuFuncSetAttribute", code: CODE, .. }), "{error}");
        raw::prepare(&plan).expect("it was that one call");
        // SAFETY: nothing was launched.
        unsafe { raw::unload() }.expect("the context is alive");
    });
}
