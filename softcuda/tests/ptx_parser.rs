//! What the loader refuses, how it says so, and that no text makes it panic.

mod ptx_support;

use ptx_support::{HEADER, Random, kernel, kernel_with};
use softcuda::exec::{LoadError, LoadErrorKind, Module};
use softcuda::memory::Memory;

fn load(text: &str) -> Result<Module, LoadError> {
    let memory = Memory::new(1 << 32);
    let result = Module::load(text, &memory);
    if result.is_err() {
        assert_eq!(memory.used(), 0, "a module that does not load leaves nothing behind");
    }
    result
}

#[track_caller]
fn refuse(text: &str, kind: LoadErrorKind, part: &str) {
    let error = load(text).expect_err(part);
    assert_eq!(error.kind, kind, "{error}");
    assert!(error.what.contains(part), "`{}` does not mention `{part}`", error.what);
}

#[test]
fn unsupported_instructions_are_named_with_their_line() {
    let text = kernel("mov.u32 %r1, 1;\nwgmma.fence.sync.aligned;");
    let error = load(&text).unwrap_err();
    assert_eq!(error.kind, LoadErrorKind::Unsupported);
    let line = text.lines().position(|line| line.contains("wgmma")).unwrap() as u32 + 1;
    assert_eq!(error.line, line);
    assert!(error.to_string().contains("`wgmma.fence.sync.aligned`"), "{error}");
    for body in [
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1}, {%r1}, {%r2}, {%f2};",
        "tex.2d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [%rd1, {%r1, %r2}];",
        "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2}], [%r3];",
        "tcgen05.fence::before_thread_sync;",
        "ld.global.frob.u32 %r1, [%rd1];",
        "add.frob.u32 %r1, %r2, %r3;",
        "add.rn.ftz.s32 %r1, %r2, %r3;",
        "cvt.rn.satfinite.e2m1x2.f32 %h1, %f1, %f2;",
        "shfl.up.b32 %r1, %r1, 1, 0;",
        "wgmma.commit_group.sync.aligned;",
        "cp.async.bulk.prefetch.tensor.1d.L2.global [%rd1, {%r2}];",
        ".reg .b128 %q;",
        "alloca.u64 %rd1, 8;",
    ] {
        let error = load(&kernel(body)).expect_err(body);
        assert_eq!(error.kind, LoadErrorKind::Unsupported, "{body}: {error}");
        assert_eq!(error.line, 13, "{body}: {error}");
    }
}

#[test]
fn names() {
    refuse(&kernel("mov.u32 %r99, 1;"), LoadErrorKind::Symbol, "`%r99`");
    refuse(&kernel("mov.u32 %x, 1;"), LoadErrorKind::Symbol, "`%x`");
    refuse(&kernel("bra NOWHERE;"), LoadErrorKind::Symbol, "`NOWHERE`");
    refuse(&kernel("L: L: ret;"), LoadErrorKind::Symbol, "`L`");
    refuse(&kernel(".reg .u32 %y; .reg .u32 %y;"), LoadErrorKind::Symbol, "`%y`");
    refuse(&kernel_with(".global .u32 g; .global .u32 g;", ""), LoadErrorKind::Symbol, "`g`");
    refuse(&kernel_with(".extern .global .u32 g;", ""), LoadErrorKind::Symbol, "`g`");
    refuse(&format!("{0}{1}", kernel(""), &kernel("")[HEADER.len()..]), LoadErrorKind::Symbol, "`test`");
    refuse(&kernel("call missing, ();"), LoadErrorKind::Symbol, "`missing`");
    let recursive = ".func f() { call f, (); ret; }";
    refuse(&kernel_with(recursive, "call f, ();"), LoadErrorKind::Unsupported, "recursive");
    let external = ".extern .func f();";
    refuse(&kernel_with(external, "call f, ();"), LoadErrorKind::Unsupported, "`f`");
    // Inner declarations are gone outside of their braces.
    refuse(&kernel("{ .reg .u32 %z; } mov.u32 %z, 1;"), LoadErrorKind::Symbol, "`%z`");
}

#[test]
fn operands() {
    for body in [
        "add.s32 %r1, %r2;",
        "add.s32 %r1, %r2, %r3, %r4;",
        "add.s32 %rd1, %r2, %r3;",
        "add.s64 %rd1, %r2, %rd3;",
        "add.s32 5, %r2, %r3;",
        "mov.u64 %r1, %rd1;",
        "mov.b64 {%r1, %r2, %r3}, %rd1;",
        "ld.global.v4.u32 {%r1, %r2}, [%rd1];",
        "ld.global.u32 %r1, %rd1;",
        "ld.global.u32 %p1, [%rd1];",
        "setp.lt.and.u32 %p1, %r1, %r2;",
        "cvt.f32.s32 %f1, %r1;",
        "cvt.s32.f32 %r1, %f1;",
        "selp.b32 %r1, %r2, %r3, %r4;",
        "st.shared.u32 [p0], %r1;",
        "cp.async.cg.shared.global [%r1], [%rd1], 8;",
        "lop3.b32 %r1, %r2, %r3, %r4, 256;",
        "lop3.and.b32 %r1, %r2, %r3, %r4, 6, %p1;",
        "call %rd1, (), 0;",
        "call %r1, ();",
    ] {
        let error = load(&kernel(body)).expect_err(body);
        assert_eq!(error.kind, LoadErrorKind::Operand, "{body}: {error}");
    }
    refuse(&kernel("ld.global.u32 %r1, [%r2];\nret; }"), LoadErrorKind::Syntax, "");
}

#[test]
fn syntax() {
    for text in [
        "",
        "hello",
        ".version 8.0",
        ".version x\n.target sm_90",
        ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k( {",
        ".version 8.0\n.target sm_90\n.address_size 64\n.entry k() { mov.u32 %r1, 0x; }",
        ".version 8.0\n.target sm_90\n.address_size 64\n.entry k() { /* }",
        ".version 8.0\n.target sm_90\n.address_size 64\n.file 1 \"abc",
        ".version 8.0\n.target sm_90\n.address_size 64\n.entry k() { mov.f32 %f1, 0f12; }",
    ] {
        if text == ".version 8.0" {
            load(text).unwrap();
            continue;
        }
        assert_eq!(load(text).expect_err(text).kind, LoadErrorKind::Syntax, "{text}");
    }
    refuse(&HEADER.replace("64", "32"), LoadErrorKind::Unsupported, "32 bits");
    let deep = "{".repeat(10_000);
    refuse(&kernel(&format!("mov.b32 %r1, {deep}")), LoadErrorKind::Syntax, "deep");
    load(&kernel(&format!("{deep}{}", "}".repeat(10_000)))).unwrap();
    refuse(&kernel(".reg .b32 %z<99999999>;"), LoadErrorKind::Syntax, "large");
    refuse(&kernel(".local .b8 z[99999999999];"), LoadErrorKind::Unsupported, "local memory");
    refuse(&kernel_with(".global .b8 z[99999999999];", ""), LoadErrorKind::OutOfMemory, "`z`");
    refuse(&kernel_with(".global .b64 z[0xffffffffffffffff];", ""), LoadErrorKind::Syntax, "large");
}

#[test]
fn the_header_alone() {
    let version = |text| Module::ptx_version(text);
    assert_eq!(version("// comment\n.version 8.1\n.target sm_80\n"), Some((8, 1)));
    assert_eq!(version(".target sm_80"), None);
    assert_eq!(Module::ptx_target(HEADER), Some((90, false)));
    assert_eq!(Module::ptx_target(".version 8.6\n.target sm_100a, debug\n"), Some((100, true)));
    assert_eq!(Module::ptx_target(".version 8.6\n.target sm_120f\n"), Some((120, true)));
}

#[test]
fn declarations() {
    let module = load(&kernel_with(
        ".visible .global .align 16 .v4 .f32 quad = {1.0, 0f40000000, 3, 0d4010000000000000};
         .global .align 8 .b8 bytes[8] = {1, 2, 0xff};
         .global .u16 grid[2][3] = {{1, 2}, {4, 5, 6}};
         .const .f64 half = 0.5;
         .global .u64 addresses[2] = {bytes+4, generic(grid)};
         .weak .global .s32 minus[] = {-1, ~0, 3};",
        ".pragma \"nounroll\"; .reg .b32 %a, %b; mov.b32 %a, %b;",
    ));
    let module = module.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(module.global("quad").map(|g| g.1), Some(16));
    assert_eq!(module.global("grid").map(|g| g.1), Some(12));
    assert_eq!(module.global("minus").map(|g| g.1), Some(12));
    assert!(module.global("nothing").is_none());
}

#[test]
fn launch_bounds() {
    let text = format!(
        "{HEADER}.visible .entry k(.param .u64 .ptr .global .align 16 p)
         .maxntid 128, 2, 1 .minnctapersm 3 .maxnreg 64 {{ ret; }}
         .visible .entry c() .reqntid 64 .explicitcluster .reqnctapercluster 2, 1, 1 {{ ret; }}"
    );
    let module = load(&text).unwrap_or_else(|error| panic!("{error}"));
    let info = module.entry_info(module.entry("k").unwrap());
    assert_eq!((info.max_threads, info.min_blocks, info.required_threads), (256, 3, None));
    let info = module.entry_info(module.entry("c").unwrap());
    assert_eq!((info.max_threads, info.required_threads), (64, Some([64, 1, 1])));
    assert_eq!(info.cluster, Some([2, 1, 1]));
    assert_eq!(module.entries().collect::<Vec<_>>(), ["k", "c"]);
}

/// Text that touches most of the grammar.
fn sample() -> String {
    kernel_with(
        ".file 1 \"/a.cu\" .const .align 4 .b8 t[8] = {1, 2, 3}; .extern .shared .b8 d[];
         .global .u64 g = t+4;
         .func (.reg .u32 %o) f(.reg .u32 %i) { add.u32 %o, %i, 1; ret; }",
        ".loc 1 2 3 .local .align 8 .b8 l[16]; ld.param.u64 %rd1, [p0];
         @%p1 bra L; setp.lt.and.s32 %p1|%p2, %r1, -5, !%p3; L: mov.b64 {%r1, _}, %rd2;
         { .reg .pred p; setp.ne.b32 p, %r2, 0; selp.b32 %r3, 1, 0, p; }
         ld.global.nc.L2::128B.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+16];
         fma.rn.ftz.f32 %f5, %f1, 0f3F800000, %f2; shfl.sync.bfly.b32 %r4|%p4, %r3, 16, 31, -1;
         call (%r5), f, (%r4); T: .branchtargets L, M; brx.idx %r5, T; M: bar.sync 0, 64;
         atom.global.add.u32 %r6, [%rd1+-4], 1; cp.async.cg.shared.global [%r7], [%rd3], 16, %r8;
         prmt.b32 %r9, %r1, %r2, 0x5410; st.shared.u8 [d+3], %h1; cvt.rn.f16x2.f32 %r1, %f1, %f2;",
    )
}

#[test]
fn the_sample_loads() {
    load(&sample()).unwrap_or_else(|error| panic!("{error}"));
}

/// Deletes, doubles, swaps and replaces words and bytes.
fn mutate(text: &str, rng: &mut Random) -> String {
    const WORDS: [&str; 28] = [
        "%r1",
        "%p1",
        "%rd1",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        ";",
        ",",
        "-",
        "!",
        "@",
        "0",
        "-1",
        "99999999999999999999",
        "0x",
        ".reg",
        ".b32",
        "<5>",
        "L:",
        "bra",
        "\"",
        "/*",
        "4294967295",
        "ld.global.v8.b64",
        "%tid.x",
    ];
    let mut words: Vec<String> = text.split_inclusive([' ', '\n', ',']).map(str::to_owned).collect();
    for _ in 0..1 + rng.below(4) {
        let (at, other) = (rng.below(words.len()), rng.below(words.len()));
        match rng.below(6) {
            0 => words[at].clear(),
            1 => words[at] = words[other].clone(),
            2 => words.swap(at, other),
            3 => words[at] = WORDS[rng.below(WORDS.len())].to_owned(),
            4 => {
                let cut = rng.below(words[at].len() + 1);
                let cut = (0..=cut).rev().find(|&c| words[at].is_char_boundary(c)).unwrap_or(0);
                words[at].truncate(cut);
            }
            _ => words[at].insert_str(0, WORDS[rng.below(WORDS.len())]),
        }
    }
    words.concat()
}

#[test]
fn no_text_makes_it_panic() {
    let sample = sample();
    let memory = Memory::new(1 << 32);
    let mut rng = Random(2024);
    let mut loaded = 0;
    for _ in 0..20_000 {
        let text = mutate(&sample, &mut rng);
        if let Ok(module) = Module::load(&text, &memory) {
            loaded += 1;
            module.unload(&memory);
        }
        Module::ptx_version(&text);
        Module::ptx_target(&text);
    }
    assert!(loaded > 100, "mutants are too wild to test more than the lexer: {loaded}");
    assert_eq!(memory.used(), 0);
    // Bytes rather than words.
    for _ in 0..20_000 {
        let mut bytes = sample.clone().into_bytes();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len());
            bytes[at] = (rng.next() % 128) as u8;
        }
        if let Ok(module) = Module::load(&String::from_utf8(bytes).unwrap(), &memory) {
            module.unload(&memory);
        }
    }
}

/// Loaded mutants are also run: whatever they do, it is a fault or a result.
#[test]
fn no_program_makes_it_panic() {
    let sample = sample();
    let mut rng = Random(77);
    let device = ptx_support::Device::new();
    let data = device.upload(&[1u32; 256]);
    let mut ran = 0;
    for _ in 0..4000 {
        let text = mutate(&sample, &mut rng);
        // Loops without end would end the test, not the engine.
        if let Ok(module) = Module::load(&text, &device.memory) {
            module.unload(&device.memory);
            if text.matches("L:").count() == 1 && text.find("bra L") < text.find("L:") {
                let _ = device.launch_shared(&text, 1, 33, 64, &[data, data, data, data]);
                ran += 1;
            }
        }
    }
    assert!(ran > 50, "{ran}");
}
