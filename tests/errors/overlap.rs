//! Arguments that share memory.

use zlpr::Error;

use crate::call::{Call, Host, Method, STRIDE, accepted, refused};

const READ: [&str; 4] = ["scores", "labels", "mask", "upstream"];
const WRITTEN: [&str; 4] = ["gradient", "loss", "total", "workspace"];

/// Every pair of arguments of which at least one is written.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let read = WRITTEN.into_iter().flat_map(|written| READ.map(|read| (written, read)));
    let both = WRITTEN.into_iter().enumerate().flat_map(|(i, a)| WRITTEN[i + 1..].iter().map(move |&b| (a, b)));
    read.chain(both)
}

/// One byte or element in common is refused, from either side; touching is not.
#[test]
fn every_pair_of_arguments_of_which_one_is_written() {
    let host = Host::new();
    for (written, other) in pairs() {
        let wanted = Error::Overlap { written, other };
        let mut call = Call::new(&host, Method::ForwardBackward);
        let home = call.arg(other).pointer;
        let (start, end) = (call.arg(written).pointer, call.arg(written).end());
        let bytes = call.arg(other).end() - home;
        let size = call.arg(other).size;

        call.arg(other).pointer = end - size;
        refused(&host, &call, &wanted);
        call.arg(other).pointer = end;
        accepted(&host, &call, &format!("{other} after {written}"));

        // The nearest aligned place in front that still has an element in common.
        call.arg(other).pointer = (start + size - bytes).next_multiple_of(size);
        refused(&host, &call, &wanted);
        call.arg(other).pointer = (start - bytes) / 4 * 4;
        accepted(&host, &call, &format!("{other} before {written}"));

        call.arg(other).pointer = start;
        if (written, other) != ("gradient", "scores") {
            refused(&host, &call, &wanted);
        }
    }
}

/// What is only read may be the same memory.
#[test]
fn inputs_may_overlap() {
    let host = Host::new();
    let mut call = Call::new(&host, Method::ForwardBackward);
    call.labels.pointer = call.scores.pointer;
    let scores = call.scores.pointer;
    call.arg("mask").pointer = scores + 1;
    call.arg("upstream").pointer = scores;
    accepted(&host, &call, "inputs in one place");
}

#[test]
fn a_gradient_may_replace_the_scores_only_exactly() {
    let host = Host::new();
    let overlap = Error::Overlap { written: "gradient", other: "scores" };

    let mut call = Call::new(&host, Method::ForwardBackward);
    call.gradient.pointer = call.scores.pointer;
    accepted(&host, &call, "pointer, type and stride alike");

    call.gradient.stride = STRIDE + 1;
    call.gradient.len = call.gradient.rows * call.gradient.stride;
    refused(&host, &call, &overlap);
    call.gradient.stride = STRIDE;
    call.gradient.pointer += 4;
    refused(&host, &call, &overlap);

    // The same bytes as another type: the first row's gradient covers the second row's scores.
    let mut call = Call::new(&host, Method::HalfScores);
    accepted(&host, &call, "f16 scores, f32 gradient");
    call.gradient.pointer = call.scores.pointer;
    refused(&host, &call, &overlap);

    // Rows of the one between the rows of the other: the padding between rows counts as touched.
    let mut call = Call::new(&host, Method::ForwardBackward);
    (call.scores.stride, call.gradient.stride) = (2 * STRIDE, 2 * STRIDE);
    (call.scores.len, call.gradient.len) = (call.scores.rows * 2 * STRIDE, call.gradient.rows * 2 * STRIDE);
    call.gradient.pointer = call.scores.pointer + 4 * STRIDE as u64;
    refused(&host, &call, &overlap);
}

#[test]
fn in_place_the_scores_are_written() {
    let host = Host::new();
    for other in ["labels", "mask", "upstream", "loss", "total", "workspace"] {
        let mut call = Call::new(&host, Method::InPlace);
        accepted(&host, &call, "in place");
        call.arg(other).pointer = call.scores.pointer;
        refused(&host, &call, &Error::Overlap { written: "gradient", other });
    }
}

/// Without a gradient the other outputs are still written.
#[test]
fn forward_only() {
    let host = Host::new();
    for written in ["loss", "total", "workspace"] {
        for other in ["scores", "labels", "mask"] {
            let mut call = Call::new(&host, Method::Forward);
            accepted(&host, &call, "forward");
            call.arg(written).pointer = call.arg(other).pointer;
            refused(&host, &call, &Error::Overlap { written, other });
        }
    }
}

/// Nothing overlaps what has no elements.
#[test]
fn empty_arguments_overlap_nothing() {
    let host = Host::new();
    let mut call = Call::new(&host, Method::ForwardBackward);
    for argument in ["scores", "labels", "mask", "gradient"] {
        call.arg(argument).cols = 0;
        call.arg(argument).pointer = call.loss.pointer;
    }
    accepted(&host, &call, "no columns");
}
