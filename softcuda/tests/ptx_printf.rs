//! `printf` with formats that are no good, and arguments that are not there: what is no conversion stands
//! for itself, as in CUDA, and what cannot be read is a fault. Nothing crashes.
#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

mod ptx_support;

use ptx_support::{Device, fault, kernel_with};
use softcuda::fault::{Fault, FaultKind};

/// Prints with arguments that the body leaves in `frame`, whose address is in `%rd8`. Gives the text and what
/// `vprintf` returned, the number of arguments.
fn print(format: &[u8], body: &str) -> Result<(String, u32), Fault> {
    let device = Device::new();
    let bytes: Vec<String> = format.iter().chain([&0]).map(u8::to_string).collect();
    let declarations = format!(
        ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
         .global .align 1 .b8 word[4] = {{119, 111, 114, 0}};
         .global .align 1 .b8 format[{}] = {{{}}};",
        bytes.len(),
        bytes.join(", ")
    );
    let body = format!(
        ".local .align 8 .b8 frame[32]; cvta.local.u64 %rd8, frame; mov.u64 %rd7, format; {body}
         {{ .param .b64 q0; .param .b64 q1; .param .b32 s; st.param.b64 [q0], %rd7; st.param.b64 [q1], %rd8;
         call.uni (s), vprintf, (q0, q1); ld.param.b32 %r2, [s]; }}
         ld.param.u64 %rd3, [p0]; st.global.u32 [%rd3], %r2;"
    );
    let out = device.upload(&[0u32]);
    device.launch(&kernel_with(&declarations, &body), 1, 1, &[out, 0, 0, 0])?;
    let text = device.memory.take_printed(1 << 20).unwrap();
    Ok((String::from_utf8(text).unwrap(), device.download::<u32>(out, 1)[0]))
}

#[track_caller]
fn prints(format: &str, body: &str, text: &str, count: u32) {
    let printed = print(format.as_bytes(), body).unwrap_or_else(|fault| panic!("{format}: {fault}"));
    assert_eq!(printed, (text.to_owned(), count), "{format}");
}

const SEVEN: &str = "st.local.u32 [frame], 7; st.local.u32 [frame+4], 8;";

#[test]
fn what_is_no_conversion_stands_for_itself() {
    for format in
        ["%", "100%", "%y", "%5", "%-", "%.", "%*", "%l", "%5.", "% ", "%\u{e9}", "%5%", "%..3d", "%5-d", "%1.2.3f"]
    {
        // No argument is read: there is none.
        prints(format, "mov.u64 %rd8, 0;", format, 0);
    }
    // Of what follows, all is as usual.
    prints("%y%d%", SEVEN, "%y7%", 1);
    prints("%%%d%%%", SEVEN, "%7%%", 1);
    // The format is cut where its zero should be.
    prints(&"x".repeat(5000), "", &"x".repeat(1024), 0);
}

#[test]
fn counting_what_is_printed_writes_nothing() {
    let (text, count) = print(b"ab%n", "st.local.u64 [frame], %rd8;").unwrap();
    assert_eq!((text.as_str(), count), ("ab%n", 0));
}

#[test]
fn widths_and_precisions_are_limited() {
    let wide = format!("{}7", " ".repeat(1023));
    prints("%2000000000d", SEVEN, &wide, 1);
    prints("%99999999999999999999999d", SEVEN, &wide, 1);
    prints("%.2000000000d", SEVEN, &format!("{}7", "0".repeat(1023)), 1);
    prints("%*d", "st.local.u32 [frame], 2000000000; st.local.u32 [frame+4], 7;", &wide, 2);
    prints("%*d|", "st.local.u32 [frame], -3; st.local.u32 [frame+4], 7;", "7  |", 2);
    // A negative precision is none.
    prints("%.*d|", "st.local.u32 [frame], -3; st.local.u32 [frame+4], 7;", "7|", 2);
    prints("%05.3d|%-4.1f|", "st.local.u32 [frame], 7; st.local.f64 [frame+8], 0d3FF8000000000000;", "  007|1.5 |", 2);
}

#[test]
fn lengths_of_any_kind() {
    prints(
        "%hhd %hd %ld %lld",
        "st.local.u32 [frame], 300; st.local.u32 [frame+4], -1; st.local.u64 [frame+8], -2;
        st.local.u64 [frame+16], -3;",
        "300 -1 -2 -3",
        4,
    );
    prints(
        "%#x %+i %o",
        "st.local.u32 [frame], 255; st.local.u32 [frame+4], 5; st.local.u32 [frame+8], 8;",
        "0xff +5 10",
        3,
    );
}

#[test]
fn too_few_arguments_are_a_fault() {
    // Beyond the thread's memory, in parts of it that nothing wrote, and without any.
    let last = "add.u64 %rd8, %rd8, 4096;";
    let error = fault(print(b"%lld", last), FaultKind::OutOfBounds);
    assert!(error.detail.contains("`printf` reads beyond local memory"), "{error}");
    fault(print(b"%d %d %d", SEVEN), FaultKind::Uninitialised);
    fault(print(b"%d", "mov.u64 %rd8, 0;"), FaultKind::OutOfBounds);
    fault(print(b"%*d", "mov.u64 %rd8, 0;"), FaultKind::OutOfBounds);
}

#[test]
fn texts_at_bad_pointers_are_a_fault() {
    prints("<%s>", "mov.u64 %rd1, word; st.local.u64 [frame], %rd1;", "<wor>", 1);
    prints("<%s>", "st.local.u64 [frame], 0;", "<(null)>", 1);
    fault(print(b"%s", "st.local.u64 [frame], 4096;"), FaultKind::OutOfBounds);
    fault(print(b"%s", "st.local.u64 [frame], -1;"), FaultKind::OutOfBounds);
    fault(print(b"%s", "add.u64 %rd1, %rd8, 4096; st.local.u64 [frame], %rd1;"), FaultKind::OutOfBounds);
    // Into the frame itself, whose bytes were written in part.
    fault(
        print(b"%s", "add.u64 %rd1, %rd8, 8; st.local.u64 [frame], %rd1; st.local.u8 [frame+8], 65;"),
        FaultKind::Uninitialised,
    );
    fault(print(b"x", "mov.u64 %rd7, 4096;"), FaultKind::OutOfBounds);
    fault(print(b"x", "mov.u64 %rd7, 0;"), FaultKind::OutOfBounds);
}
