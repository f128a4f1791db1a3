//! Shapes, strides, lengths, contexts and options.

use softcuda::Config;
use zlpr::plan::Regime;
use zlpr::{Error, Options, Outputs, Reduction, Zlpr};

use crate::call::{COLS, Call, Host, Method, ROWS, STRIDE, accepted, refused};

const MATRICES: [&str; 3] = ["labels", "mask", "gradient"];

#[test]
fn shapes_differ_from_the_scores() {
    let host = Host::new();
    for argument in MATRICES {
        for (rows, cols) in
            [(ROWS - 1, COLS), (ROWS + 1, COLS), (ROWS, COLS - 1), (ROWS, COLS + 1), (COLS, ROWS), (0, 0)]
        {
            let mut call = Call::new(&host, Method::ForwardBackward);
            accepted(&host, &call, argument);
            (call.arg(argument).rows, call.arg(argument).cols) = (rows, cols);
            let given = (rows as u64, cols as u64);
            let wanted = Error::Shape { argument: static_name(argument), given, allowed: (ROWS as u64, COLS as u64) };
            refused(&host, &call, &wanted);
        }
    }
}

#[test]
fn strides_below_the_number_of_columns() {
    let host = Host::new();
    for method in [Method::Forward, Method::ForwardBackward, Method::HalfScores, Method::InPlace] {
        for argument in ["scores", "labels", "mask", "gradient"] {
            let shared = matches!(argument, "labels" | "mask");
            if argument == "gradient" && matches!(method, Method::Forward | Method::InPlace) {
                continue;
            }
            for stride in [0, 1, COLS - 1] {
                let mut call = Call::new(&host, method);
                call.arg(argument).stride = stride;
                if shared && stride == 0 {
                    accepted(&host, &call, "one row for all");
                    continue;
                }
                let allowed = format!("{}at least {COLS}", if shared { "0 or " } else { "" });
                let wanted = Error::Stride { argument: static_name(argument), given: stride as u64, allowed };
                refused(&host, &call, &wanted);
            }
            let mut call = Call::new(&host, method);
            call.arg(argument).stride = COLS;
            accepted(&host, &call, "rows without padding");
        }
    }
}

/// The last row needs its columns, not its padding.
#[test]
fn buffers_that_are_too_short() {
    let host = Host::new();
    for argument in ["scores", "labels", "mask", "upstream", "gradient", "loss", "total", "workspace"] {
        let mut call = Call::new(&host, Method::ForwardBackward);
        let needed = match argument {
            "scores" | "labels" | "mask" | "gradient" => (ROWS - 1) * STRIDE + COLS,
            "upstream" | "loss" => ROWS,
            "total" => 1,
            _ => 2,
        };
        assert_eq!(call.arg(argument).len, needed);
        accepted(&host, &call, "just long enough");
        for given in [needed - 1, 0] {
            call.arg(argument).len = given;
            let wanted =
                Error::TooShort { argument: static_name(argument), given: given as u64, needed: needed as u64 };
            refused(&host, &call, &wanted);
        }
    }
}

#[test]
fn one_upstream_gradient_is_enough_for_all_rows() {
    let host = Host::new();
    let mut call = Call::new(&host, Method::ForwardBackward);
    call.one_upstream = true;
    call.arg("upstream").len = 1;
    accepted(&host, &call, "one value");
    call.arg("upstream").len = 0;
    refused(&host, &call, &Error::TooShort { argument: "upstream", given: 0, needed: 1 });
}

#[test]
fn the_workspace_is_required_where_the_plan_has_one() {
    let host = Host::new();
    let mut call = Call::new(&host, Method::ForwardBackward);
    call.workspace = None;
    refused(&host, &call, &Error::TooShort { argument: "workspace", given: 0, needed: 2 });
    // Without a reduction none is needed, and a given one is no error.
    for workspace in [false, true] {
        let mut call = Call::new(&host, Method::ForwardBackward);
        call.zlpr = host.zlpr(Options::new());
        call.total = None;
        if !workspace {
            call.workspace = None;
        }
        accepted(&host, &call, "no reduction");
    }
}

#[test]
fn total_and_reduction_go_together() {
    let host = Host::new();
    for reduction in [Reduction::None, Reduction::Sum, Reduction::Mean] {
        for total in [false, true] {
            let mut call = Call::new(&host, Method::ForwardBackward);
            call.zlpr = host.zlpr(Options::new().reduction(reduction));
            if !total {
                call.total = None;
            }
            if total == (reduction != Reduction::None) {
                accepted(&host, &call, "they go together");
                continue;
            }
            let error = call.run(&host.stream).expect_err("they do not go together");
            assert!(matches!(error, Error::Total { .. }), "{error}");
            assert!(error.to_string().contains(if total { "Options::reduction" } else { "Outputs::total" }), "{error}");
        }
    }
}

#[test]
fn shapes_beyond_the_address_space() {
    let host = Host::new();
    for argument in ["scores", "labels", "mask", "gradient"] {
        for stride in [usize::MAX, 1 << 62, (1 << 63) / (ROWS - 1)] {
            let mut call = Call::new(&host, Method::ForwardBackward);
            call.arg(argument).stride = stride;
            let wanted = Error::TooLarge {
                argument: static_name(argument),
                rows: ROWS as u64,
                cols: COLS as u64,
                stride: stride as u64,
            };
            refused(&host, &call, &wanted);
        }
    }
}

#[test]
fn arguments_of_another_context() {
    let (host, other) = (Host::new(), Host::new());
    let foreign =
        |argument| Error::ForeignContext { argument, given: other.gpu.ordinal(), allowed: host.gpu.ordinal() };
    for argument in ["scores", "labels", "mask", "upstream", "gradient", "loss", "total", "workspace"] {
        let mut call = Call::new(&host, Method::ForwardBackward);
        call.arg(argument).stream = other.stream.clone();
        refused(&host, &call, &foreign(static_name(argument)));
    }
    for method in [Method::Forward, Method::ForwardBackward, Method::InPlace] {
        let call = Call::new(&host, method);
        assert_eq!(call.run(&other.stream), Err(foreign("stream")));
    }
    let mut in_place = Call::new(&host, Method::InPlace);
    in_place.scores.stream = other.stream.clone();
    refused(&host, &in_place, &foreign("scores"));
    assert_eq!((host.launches(), other.launches()), (0, 0));
}

/// A second context object for the same primary context is not another context.
#[test]
fn a_context_retained_twice_is_the_same() {
    let host = Host::new();
    let again = cudarc::driver::CudaContext::new(host.gpu.ordinal()).expect("a context");
    let call = Call::new(&host, Method::ForwardBackward);
    accepted(&host, &call, "its own stream");
    assert_eq!(call.run(&again.new_stream().expect("a stream")), Ok(()));
    again.synchronize().expect("no fault");
}

#[test]
fn epsilon_out_of_range() {
    let host = Host::new();
    for epsilon in [-1e-9, -1.0, 0.5, 0.7, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        let options = Options::new().epsilon(epsilon);
        for error in [options.validate().unwrap_err(), Zlpr::new(&host.context, options).unwrap_err()] {
            assert!(matches!(error, Error::Epsilon { given } if given.to_bits() == epsilon.to_bits()), "{error}");
            assert!(error.to_string().contains("0 <= epsilon < 0.5"), "{error}");
        }
    }
    for epsilon in [0.0, 1e-45, 1e-7, 0.49999997] {
        assert_eq!(Options::new().epsilon(epsilon).validate(), Ok(()));
    }
}

#[test]
fn cutoff_out_of_range() {
    let host = Host::new();
    for cutoff in [f32::NAN, f32::INFINITY] {
        let options = Options::new().cutoff(cutoff);
        for error in [options.validate().unwrap_err(), Zlpr::new(&host.context, options).unwrap_err()] {
            assert!(matches!(error, Error::Cutoff { given } if given.to_bits() == cutoff.to_bits()), "{error}");
        }
    }
    for cutoff in [f32::NEG_INFINITY, f32::MIN, -0.0, f32::MAX] {
        assert_eq!(Options::new().cutoff(cutoff).validate(), Ok(()));
    }
}

#[test]
fn more_rows_than_a_grid_has_blocks() {
    let host = Host::new();
    let zlpr = host.zlpr(Options::new());
    let empty = host.stream.alloc_zeros::<f32>(1).expect("memory");
    let mut loss = host.stream.alloc_zeros::<f32>(1).expect("memory");
    let rows = 1usize << 40;
    // No columns: the rows themselves need no memory.
    let matrix = || zlpr::Matrix::new(&empty, rows, 0);
    let targets = zlpr::Targets::new(zlpr::Labels::Soft(matrix()));
    let error = zlpr.forward(&host.stream, matrix(), &targets, Outputs::new(&mut loss)).unwrap_err();
    let allowed = u64::from(zlpr.device().max_grid) * 4;
    assert_eq!(error, Error::GridLimit { rows: rows as u64, regime: Regime::Warp, allowed });
}

#[test]
fn limits_are_those_of_the_device() {
    for (capability, shared) in [((7, 5), 64 << 10), ((8, 0), 163 << 10), ((8, 6), 99 << 10), ((9, 0), 227 << 10)] {
        let host = Host::with(Config::capability(capability.0, capability.1));
        let device = *host.zlpr(Options::new()).device();
        assert_eq!(device.capability, capability);
        assert_eq!(device.shared_memory_per_block, shared);
        assert_eq!(device.max_grid, i32::MAX as u32);
        host.context.bind_to_thread().expect("its context");
        assert_eq!(zlpr::raw::device(), Ok(device));
    }
}

fn static_name(name: &str) -> &'static str {
    let names = ["scores", "labels", "mask", "upstream", "gradient", "loss", "total", "workspace"];
    names.into_iter().find(|n| *n == name).unwrap_or_else(|| panic!("no argument {name}"))
}
