//! Calls through pointers, and what kernels print.

mod ptx_support;

use ptx_support::{Device, fault, kernel, kernel_with};
use softcuda::exec::{LoadErrorKind, Module};
use softcuda::fault::FaultKind;

const FUNCTIONS: &str = "
.visible .func (.param .b32 r) twice(.param .b32 x)
{ .reg .b32 %a; ld.param.b32 %a, [x]; shl.b32 %a, %a, 1; st.param.b32 [r], %a; ret; }
.func (.param .b32 r) minus(.param .b32 x)
{ .reg .b32 %a; ld.param.b32 %a, [x]; neg.s32 %a, %a; st.param.b32 [r], %a; ret; }
.func (.param .b32 r) shared_sum(.param .b32 x)
{ .reg .b32 %a, %b; .shared .align 4 .b32 cell; ld.param.b32 %a, [x];
  st.volatile.shared.b32 [cell], 7; ld.volatile.shared.b32 %b, [cell]; add.s32 %a, %a, %b; st.param.b32 [r], %a; ret; }
.func (.param .b64 r) wide(.param .b64 x) { st.param.b64 [r], 0; ret; }
.global .align 8 .u64 table[3] = {twice, minus, shared_sum};
.global .align 8 .u64 other = wide;";

/// Calls the function whose address is in `%rd2` with `%r1`; the result is in `%r2`.
const CALL: &str = "{ .param .b32 q; .param .b32 s; st.param.b32 [q], %r1;
P: .callprototype (.param .b32 _) _ (.param .b32 _);
call (s), %rd2, (q), P; ld.param.b32 %r2, [s]; }";

#[allow(clippy::result_large_err, reason = "faults are what these tests are about")]
fn call_by(address: &str, block: u32) -> Result<Vec<i32>, softcuda::fault::Fault> {
    let device = Device::new();
    let out = device.upload(&vec![0i32; block as usize]);
    let body = format!(
        "mov.u32 %r1, %tid.x; {address} {CALL}
         ld.param.u64 %rd3, [p0]; mad.wide.u32 %rd3, %r1, 4, %rd3; st.global.u32 [%rd3], %r2;"
    );
    device.launch(&kernel_with(FUNCTIONS, &body), 1, block, &[out, 0, 0, 0])?;
    Ok(device.download(out, block as usize))
}

#[test]
fn pointers_from_a_table_diverge_and_meet_again() {
    let index =
        "rem.u32 %r5, %r1, 3; mov.u64 %rd4, table; mad.wide.u32 %rd4, %r5, 8, %rd4; ld.global.u64 %rd2, [%rd4];";
    let wanted: Vec<i32> = (0..40).map(|i| [2 * i, -i, i + 7][i as usize % 3]).collect();
    assert_eq!(call_by(index, 40).unwrap(), wanted);
}

#[test]
fn pointers_from_moves() {
    assert_eq!(call_by("mov.u64 %rd2, minus;", 3).unwrap(), [0, -1, -2]);
    assert_eq!(call_by("mov.b64 %rd2, twice;", 3).unwrap(), [0, 2, 4]);
}

#[test]
fn pointers_to_anything_else_are_found_out() {
    let null = fault(call_by("mov.u64 %rd2, 0;", 1), FaultKind::InvalidCall);
    assert!(null.detail.contains("0x0"), "{null}");
    assert!(null.ptx_text.contains("call (s), %rd2"), "{null}");
    let skewed = "mov.u64 %rd2, twice; add.s64 %rd2, %rd2, 4;";
    fault(call_by(skewed, 1), FaultKind::InvalidCall);
    // A function, but with other parameters.
    fault(call_by("mov.u64 %rd2, wide;", 1), FaultKind::InvalidCall);
    // A function's address is no memory.
    fault(call_by("mov.u64 %rd2, twice; ld.u32 %r9, [%rd2];", 1), FaultKind::OutOfBounds);
}

#[test]
fn the_guard_of_a_call_through_a_pointer_holds() {
    let guarded = CALL.replace("call (s)", "setp.lt.u32 %p1, %r1, 2; st.param.b32 [s], 99; @%p1 call (s)");
    let device = Device::new();
    let out = device.upload(&[0i32; 4]);
    let body = format!(
        "mov.u32 %r1, %tid.x; mov.u64 %rd2, twice; {guarded}
         ld.param.u64 %rd3, [p0]; mad.wide.u32 %rd3, %r1, 4, %rd3; st.global.u32 [%rd3], %r2;"
    );
    device.launch(&kernel_with(FUNCTIONS, &body), 1, 4, &[out, 0, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(device.download::<i32>(out, 4), [0, 2, 99, 99]);
}

#[test]
fn recursion_and_the_heap_are_refused_by_name() {
    let device = Device::new();
    let refused = |declarations: &str, body: &str, part: &str| {
        let error = Module::load(&kernel_with(declarations, body), &device.memory).unwrap_err();
        assert_eq!(error.kind, LoadErrorKind::Unsupported, "{error}");
        assert!(error.what.contains(part), "{error}");
    };
    let heap = ".extern .func (.param .b64 r) malloc(.param .b64 n);";
    refused(heap, "{ .param .b64 r; .param .b64 n; st.param.b64 [n], 8; call (r), malloc, (n); }", "`malloc`");
    refused(".func f() { call f, (); ret; }", "call f, ();", "recursive call of `f`");
    // Through a pointer it is found when it happens.
    let again = ".func again(.param .b64 to) { .reg .b64 %x; ld.param.b64 %x, [to];
        { .param .b64 q; st.param.b64 [q], %x; call %x, (q), P; P: .callprototype _ (.param .b64 _); } ret; }";
    let body = "mov.u64 %rd2, again; { .param .b64 q; st.param.b64 [q], %rd2; call %rd2, (q), P;
        P: .callprototype _ (.param .b64 _); }";
    fault(device.launch(&kernel_with(again, body), 1, 1, &[0; 4]), FaultKind::InvalidCall);
}

/// Runs a kernel that prints and gives what it printed.
fn printed(texts: &[(&str, &str)], block: u32, body: &str) -> String {
    let device = Device::new();
    let mut declarations = ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);\n".to_owned();
    for (name, text) in texts {
        let bytes: Vec<String> = text.bytes().chain([0]).map(|byte| byte.to_string()).collect();
        declarations += &format!(".global .align 1 .b8 {name}[{}] = {{{}}};\n", bytes.len(), bytes.join(", "));
    }
    let body = format!(
        ".local .align 8 .b8 frame[96]; mov.u64 %rd9, frame; cvta.local.u64 %rd8, %rd9; mov.u32 %r1, %tid.x;
         {body}
         mov.u64 %rd7, format; cvta.global.u64 %rd7, %rd7;
         {{ .param .b64 q0; .param .b64 q1; .param .b32 s; st.param.b64 [q0], %rd7; st.param.b64 [q1], %rd8;
         call.uni (s), vprintf, (q0, q1); ld.param.b32 %r2, [s]; }}
         ld.param.u64 %rd3, [p0]; setp.eq.u32 %p1, %r1, 0; @%p1 st.global.u32 [%rd3], %r2;"
    );
    let out = device.upload(&[0u32]);
    let result = device.launch(&kernel_with(&declarations, &body), 1, block, &[out, 0, 0, 0]);
    result.unwrap_or_else(|fault| panic!("{fault}"));
    let conversions = texts[0].1.replace("%%", "").matches('%').count() + texts[0].1.matches('*').count();
    assert_eq!(device.download::<u32>(out, 1)[0] as usize, conversions, "the result of printf");
    String::from_utf8(device.memory.take_printed(1 << 20).unwrap()).unwrap()
}

#[test]
fn every_conversion_of_printf() {
    let text = printed(
        &[("format", "%d|%5u|%-4x|%lld|%c|%s|%.3f|%e|%g|%p|%%|%*d|%#o\n"), ("word", "words")],
        1,
        "st.local.u32 [frame], -7; st.local.u32 [frame+4], 42; st.local.u32 [frame+8], 255;
         st.local.u64 [frame+16], -1234567890123; st.local.u32 [frame+24], 65;
         mov.u64 %rd1, word; cvta.global.u64 %rd1, %rd1; st.local.u64 [frame+32], %rd1;
         st.local.f64 [frame+40], 0d3FF8000000000000; st.local.f64 [frame+48], 0d40C3880000000000;
         st.local.f64 [frame+56], 0d3FB999999999999A; st.local.u64 [frame+64], 0x7f00;
         st.local.u32 [frame+72], -5; st.local.u32 [frame+76], 12; st.local.u32 [frame+80], 8;",
    );
    assert_eq!(text, "-7|   42|ff  |-1234567890123|A|words|1.500|1.000000e+04|0.1|0x7f00|%|12   |010\n");
}

#[test]
fn widths_from_arguments_and_texts_without_any() {
    let frame = "st.local.u32 [frame], 6; st.local.u32 [frame+4], 42;";
    assert_eq!(printed(&[("format", "<%*d>%%")], 1, frame), "<    42>%");
    assert_eq!(printed(&[("format", "100%% of \u{e9}")], 1, ""), "100% of \u{e9}");
    assert_eq!(printed(&[("format", "")], 1, ""), "");
}

#[test]
fn threads_print_in_order() {
    let text = printed(&[("format", "%d ")], 70, "st.local.u32 [frame], %r1;");
    let wanted: String = (0..70).map(|i| format!("{i} ")).collect();
    assert_eq!(text, wanted);
}

#[test]
fn printing_uninitialised_data_is_found_out() {
    let device = Device::new();
    let text = kernel_with(
        ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
         .global .align 1 .b8 format[3] = {37, 100, 0};",
        ".local .align 8 .b8 frame[8]; cvta.local.u64 %rd8, frame; mov.u64 %rd7, format;
         { .param .b64 q0; .param .b64 q1; .param .b32 s; st.param.b64 [q0], %rd7; st.param.b64 [q1], %rd8;
         call.uni (s), vprintf, (q0, q1); }",
    );
    fault(device.launch(&text, 1, 1, &[0; 4]), FaultKind::Uninitialised);
    let beyond = text.replace("st.param.b64 [q1], %rd8;", "add.s64 %rd8, %rd8, 4096; st.param.b64 [q1], %rd8;");
    fault(device.launch(&beyond, 1, 1, &[0; 4]), FaultKind::OutOfBounds);
}

#[test]
fn only_the_last_megabyte_is_kept() {
    let device = Device::new();
    let text = kernel_with(
        ".extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
         .global .align 1 .b8 format[9] = {37, 49, 48, 50, 51, 100, 10, 0, 0};",
        ".local .align 8 .b8 frame[8]; cvta.local.u64 %rd8, frame; mov.u64 %rd7, format;
         mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x; mad.lo.u32 %r1, %r1, 128, %r2; st.local.u32 [frame], %r1;
         { .param .b64 q0; .param .b64 q1; .param .b32 s; st.param.b64 [q0], %rd7; st.param.b64 [q1], %rd8;
         call.uni (s), vprintf, (q0, q1); }",
    );
    device.launch(&text, 16, 128, &[0; 4]).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(device.memory.take_printed(1000), Err(1 << 20));
    let kept = device.memory.take_printed(1 << 20).unwrap();
    assert_eq!((kept.len(), kept.ends_with(b" 2047\n")), (1 << 20, true));
    assert_eq!(device.memory.take_printed(0), Ok(Vec::new()));
}

#[test]
fn a_kernel_that_prints_nothing_leaves_nothing() {
    let device = Device::new();
    device.launch(&kernel("mov.u32 %r1, 0;"), 1, 1, &[0; 4]).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(device.memory.take_printed(100), Ok(Vec::new()));
}
