//! The program, end to end.

use std::path::PathBuf;
use std::process::{Command, Output};

/// `scale(out, in, factor, count)`, with a block-wide exchange through shared memory before it
/// stores: `out[i] = factor * in[i ^ 1]`.
const SCALE: &str = ".version 7.0
.target sm_75
.address_size 64
.visible .entry scale(.param .u64 out, .param .u64 in, .param .f32 factor, .param .u32 count)
{
.reg .pred %p<2>;
.reg .b32 %r<8>;
.reg .f32 %f<3>;
.reg .b64 %rd<6>;
.shared .align 4 .b8 tile[512];
ld.param.u64 %rd1, [out];
ld.param.u64 %rd2, [in];
ld.param.f32 %f1, [factor];
ld.param.u32 %r1, [count];
mov.u32 %r2, %tid.x;
setp.ge.u32 %p1, %r2, %r1;
@%p1 bra OVER;
mul.wide.u32 %rd3, %r2, 4;
add.s64 %rd4, %rd2, %rd3;
ld.global.f32 %f2, [%rd4];
OVER:
shl.b32 %r3, %r2, 2;
mov.u32 %r4, tile;
add.s32 %r5, %r4, %r3;
@!%p1 st.shared.f32 [%r5], %f2;
bar.sync 0;
@%p1 bra DONE;
xor.b32 %r6, %r5, 4;
ld.shared.f32 %f2, [%r6];
mul.f32 %f2, %f2, %f1;
add.s64 %rd5, %rd1, %rd3;
st.global.f32 [%rd5], %f2;
DONE:
ret;
}
";

/// A file of this test's own, in the folder that cargo gives to tests.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}"));
    std::fs::write(&path, content).unwrap();
    path
}

fn softcuda(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_softcuda")).args(words).output().unwrap()
}

/// What it prints, when it succeeds.
#[track_caller]
fn succeeds(words: &[&str]) -> String {
    let output = softcuda(words);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(errors, "");
    String::from_utf8(output.stdout).unwrap()
}

/// What it says, when it cannot do what it is asked.
#[track_caller]
fn refuses(words: &[&str]) -> String {
    let output = softcuda(words);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_kernel_runs_with_values_files_and_output() {
    let ptx = file("run.ptx", SCALE.as_bytes());
    let input: Vec<u8> = (0..8).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let (input, dump) = (file("run.in", &input), file("run.out", b""));
    let words = ["run", ptx.to_str().unwrap(), "scale", "--grid", "1", "--block=8,1", "--capability", "8.0"];
    let from = format!("file:{}", input.display());
    let to = format!("0:{}", dump.display());
    let args = ["--dump", &to, "--arg", "out:f32:8", "-a", &from, "--arg", "f32:0.5", "--arg", "u32:8"];
    let text = succeeds(&[&words[..], &args[..]].concat());
    assert!(
        text.starts_with("argument 0 (out:f32:8)\n    0.5 0 1.5 1 2.5 2 3.5 3\nscale: 1 blocks, 1 warps\n"),
        "{text}"
    );
    assert!(text.contains("global read              32 bytes, 1 requests, 1 sectors (at least 1)"), "{text}");
    assert!(!text.contains("DRAM"), "not traced: {text}");
    let dumped: Vec<u8> = [0.5_f32, 0.0, 1.5, 1.0, 2.5, 2.0, 3.5, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(std::fs::read(&dump).unwrap(), dumped);
}

#[test]
fn counters_and_output_as_json() {
    let ptx = file("json.ptx", SCALE.as_bytes());
    let words = ["run", ptx.to_str().unwrap(), "scale", "--block", "64", "--json", "--trace", "--seeds", "5"];
    let args = ["-a", "out:f32:64", "-a", "zeros:f32:64", "-a", "f32:1", "-a", "u32:64"];
    let value: serde_json::Value = serde_json::from_str(&succeeds(&[&words[..], &args[..]].concat())).unwrap();
    let counters = &value["launch"]["counters"];
    assert_eq!((&counters["blocks"], &counters["by_class"]["load global"]), (&1.into(), &2.into()));
    assert_eq!(value["launch"]["traffic"]["dram_read_bytes"], 256);
    assert_eq!(value["launch"]["traffic"]["buffers"].as_array().unwrap().len(), 2);
    assert_eq!(value["output"][0]["values"].as_array().unwrap().len(), 64);
}

#[test]
fn random_buffers_come_from_their_seed() {
    let ptx = file("random.ptx", SCALE.as_bytes());
    let run = |from: &str| {
        let words = ["run", ptx.to_str().unwrap(), "scale", "--block", "4"];
        succeeds(&[&words[..], &["-a", "out:f32:4", "-a", from, "-a", "f32:1", "-a", "u32:4"]].concat())
    };
    assert_eq!(run("rand:f32:4:7"), run("rand:f32:4:7"));
    assert_ne!(run("rand:f32:4:7"), run("rand:f32:4:8"));
}

#[test]
fn what_kernels_print_comes_first() {
    let ptx = file(
        "print.ptx",
        b".version 7.0
.target sm_75
.address_size 64
.extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);
.global .align 1 .b8 text[4] = {104, 105, 10, 0};
.visible .entry hello()
{
.reg .b64 %rd<2>;
mov.u64 %rd1, text;
cvta.global.u64 %rd1, %rd1;
{ .param .b64 q0; .param .b64 q1; .param .b32 s;
st.param.b64 [q0], %rd1; st.param.b64 [q1], 0;
call.uni (s), vprintf, (q0, q1); }
ret;
}
",
    );
    let words = ["run", ptx.to_str().unwrap(), "hello", "--block", "2"];
    assert!(succeeds(&words).starts_with("hi\nhi\nhello: 1 blocks, 1 warps\n"));
    let value: serde_json::Value = serde_json::from_str(&succeeds(&[&words[..], &["--json"]].concat())).unwrap();
    assert_eq!(value["printed"], "hi\nhi\n");
}

#[test]
fn errors_of_kernels_are_reported() {
    let ptx = file("fault.ptx", SCALE.as_bytes());
    let args = ["-a", "out:f32:8", "-a", "zeros:f32:7", "-a", "f32:1", "-a", "u32:8"];
    let words = [&["run", ptx.to_str().unwrap(), "scale", "--block", "8"][..], &args].concat();
    let output = softcuda(&words);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["thread (7,0,0) in block (0,0,0)", "line 20: ld.global.f32 %f2, [%rd4];", "28 bytes"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let output = softcuda(&[&words[..], &["--json", "--seed", "9"]].concat());
    assert_eq!(output.status.code(), Some(1));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let fault = &value["fault"];
    assert_eq!((&fault["thread"][0], &fault["ptx_line"], &fault["seed"]), (&7.into(), &20.into(), &9.into()));
}

#[test]
fn what_cannot_be_run_is_refused_with_a_reason() {
    let ptx = file("refused.ptx", SCALE.as_bytes());
    let ptx = ptx.to_str().unwrap();
    let broken =
        file("broken.ptx", b".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry k() { frobnicate; }\n");
    let cases: [(&[&str], &str); 9] = [
        (&["frobnicate"], "\"frobnicate\" is no command"),
        (&["run", ptx], "run takes a PTX file and a kernel's name"),
        (&["run", ptx, "scales"], "there is no kernel \"scales\"; there are [\"scale\"]"),
        (&["run", ptx, "scale"], "0 arguments, scale takes 4"),
        (&["run", ptx, "scale", "-a", "x32:1"], "argument \"x32:1\": \"x32\" is no type"),
        (&["run", ptx, "scale", "--block", "1,2,3,4"], "there are three dimensions"),
        (&["run", ptx, "scale", "-a", "i32:1", "-a", "i32:1", "-a", "i32:1", "-a", "i32:1"], "argument 0 has 4 bytes"),
        (&["run", broken.to_str().unwrap(), "k"], "PTX line 4"),
        (&["info", "/nowhere.ptx"], "/nowhere.ptx: No such file"),
    ];
    for (words, reason) in cases {
        let text = refuses(words);
        assert!(text.contains(reason), "{words:?}: {text}");
    }
    let args = ["-a", "u64:0", "-a", "u64:0", "-a", "f32:0", "-a", "u32:0"];
    let text = refuses(&[&["run", ptx, "scale", "--capability", "7.0"][..], &args].concat());
    assert!(text.contains("PTX for sm_75 does not run on sm_70"), "{text}");
}

#[test]
fn info_lists_the_kernels() {
    let ptx = file("info.ptx", SCALE.as_bytes());
    let text = succeeds(&["info", ptx.to_str().unwrap()]);
    assert!(text.starts_with("scale\n    for capability 7.5 and later\n    parameter 0: 8 bytes at 0\n"), "{text}");
    assert!(text.contains("512 bytes of shared memory"), "{text}");
    let compiled = succeeds(&["info", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ptx/rows.13.5-sm_90.ptx")]);
    assert!(compiled.contains("cross_entropy\n    for capability 9.0 and later\n"), "{compiled}");
    assert!(succeeds(&["--help"]).contains("softcuda run FILE.ptx KERNEL"));
}
