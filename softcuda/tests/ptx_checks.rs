//! Every check of the engine: programs that it must refuse, and programs it must let pass.

mod ptx_support;

use ptx_support::{Device, HEADER, fault, kernel, kernel_with};
use softcuda::exec::{LaunchShape, Module, run};
use softcuda::fault::FaultKind;

const INDEX: &str = "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;";

#[test]
fn global_memory_out_of_bounds() {
    let device = Device::new();
    let source = device.upload(&[0u32; 40]);
    let text = kernel(&format!("{INDEX} ld.global.u32 %r2, [%rd3];"));
    device.launch(&text, 1, 40, &[source, 0, 0, 0]).unwrap();
    let error = fault(device.launch(&text, 1, 64, &[source, 0, 0, 0]), FaultKind::OutOfBounds);
    assert_eq!((error.thread, error.address), ([40, 0, 0], source + 160));
    let wanted = format!("0 bytes after the end of the 160 bytes at {source:#x}");
    assert!(error.detail.contains(&wanted), "{error}");
    assert!(error.ptx_text.contains("ld.global.u32"), "{error}");
    // Before the beginning, between allocations, and across the end.
    let error = fault(device.launch(&text, 1, 1, &[source - 8, 0, 0, 0]), FaultKind::OutOfBounds);
    assert!(error.detail.contains("8 bytes before"), "{error}");
    fault(device.launch(&text, 1, 1, &[0x1234, 0, 0, 0]), FaultKind::OutOfBounds);
    fault(device.launch(&text, 1, 1, &[u64::MAX - 3, 0, 0, 0]), FaultKind::OutOfBounds);
    let wide = kernel("ld.param.u64 %rd1, [p0]; ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1];");
    let odd = device.upload(&[0u32; 6]);
    let error = fault(device.launch(&wide, 1, 1, &[odd + 16, 0, 0, 0]), FaultKind::OutOfBounds);
    assert!(error.detail.contains("the last 8 beyond the end"), "{error}");
    let text = kernel(&format!("{INDEX} st.global.u32 [%rd3+-4], %r1;"));
    fault(device.launch(&text, 1, 32, &[source, 0, 0, 0]), FaultKind::OutOfBounds);
    // A lane whose predicate is false touches nothing.
    let text = kernel(&format!("{INDEX} setp.lt.u32 %p1, %r1, 40; @%p1 ld.global.u32 %r2, [%rd3];"));
    device.launch(&text, 1, 64, &[source, 0, 0, 0]).unwrap();
}

#[test]
fn shared_local_and_parameter_memory_out_of_bounds() {
    let device = Device::new();
    let declarations = ".shared .align 4 .b8 s[64]; .extern .shared .align 4 .b8 d[];";
    let text = kernel_with(
        declarations,
        "mov.u32 %r1, %tid.x; mov.u32 %r2, d; mad.lo.u32 %r2, %r1, 4, %r2; st.shared.u32 [%r2], %r1;
         st.shared.u32 [s], 1;",
    );
    device.launch_shared(&text, 1, 32, 128, &[0; 4]).unwrap();
    let error = fault(device.launch_shared(&text, 1, 32, 100, &[0; 4]), FaultKind::OutOfBounds);
    assert_eq!(error.thread, [25, 0, 0]);
    assert!(error.detail.contains("shared memory, which has 164 bytes"), "{error}");
    let local = kernel(
        ".local .align 4 .b8 l[16]; mov.u32 %r1, %tid.x; mov.u64 %rd1, l; mul.wide.u32 %rd2, %r1, 4;
         add.s64 %rd1, %rd1, %rd2; st.local.u32 [%rd1], %r1;",
    );
    device.launch(&local, 1, 4, &[0; 4]).unwrap();
    fault(device.launch(&local, 1, 5, &[0; 4]), FaultKind::OutOfBounds);
    let param = kernel(
        "mov.u32 %r1, %tid.x; mov.u64 %rd1, p0; mul.wide.u32 %rd2, %r1, 8; add.s64 %rd1, %rd1, %rd2;
         ld.param.u64 %rd3, [%rd1];",
    );
    device.launch(&param, 1, 4, &[0; 4]).unwrap();
    fault(device.launch(&param, 1, 5, &[0; 4]), FaultKind::OutOfBounds);
}

#[test]
fn misaligned() {
    let device = Device::new();
    let source = device.upload(&[0u32; 64]);
    let text = kernel("ld.param.u64 %rd1, [p0]; ld.global.v2.u32 {%r1, %r2}, [%rd1];");
    device.launch(&text, 1, 1, &[source + 8, 0, 0, 0]).unwrap();
    // A vector must be aligned to its whole size.
    fault(device.launch(&text, 1, 1, &[source + 4, 0, 0, 0]), FaultKind::Misaligned);
    let text = kernel(&format!("{INDEX} st.global.u32 [%rd3], %r1;"));
    fault(device.launch(&text, 1, 32, &[source + 2, 0, 0, 0]), FaultKind::Misaligned);
    let text = kernel_with(".shared .align 8 .b8 s[64];", "mov.u64 %rd1, 1; st.shared.u64 [s+4], %rd1;");
    fault(device.launch(&text, 1, 1, &[0; 4]), FaultKind::Misaligned);
}

#[test]
fn use_after_free() {
    let device = Device::new();
    let source = device.upload(&[0u32; 32]);
    let text = kernel(&format!("{INDEX} ld.global.u32 %r2, [%rd3];"));
    device.launch(&text, 1, 32, &[source, 0, 0, 0]).unwrap();
    device.memory.free(source).unwrap();
    let error = fault(device.launch(&text, 1, 32, &[source + 4, 0, 0, 0]), FaultKind::UseAfterFree);
    assert!(error.detail.contains("4 bytes into the freed 128 bytes"), "{error}");
}

#[test]
fn uninitialised_global_memory() {
    let device = Device::new();
    let raw = device.memory.alloc(256).unwrap();
    let target = device.upload(&[0u32; 64]);
    let params = [raw, target, 0, 0];
    let load = format!("{INDEX} ld.param.u64 %rd4, [p1]; ld.global.u32 %r2, [%rd3];");
    // Loading is no error, nor is computing.
    device.launch(&kernel(&format!("{load} add.u32 %r3, %r2, 1;")), 1, 32, &params).unwrap();
    // Storing to global memory, branching on it and addressing with it are.
    for (use_it, what) in [
        ("add.s64 %rd4, %rd4, %rd2; st.global.u32 [%rd4], %r2;", "stored"),
        ("xor.b32 %r3, %r2, 1; add.s64 %rd4, %rd4, %rd2; st.global.u32 [%rd4], %r3;", "stored"),
        ("setp.eq.u32 %p1, %r2, 0; @%p1 bra L; L:", "predicate"),
        ("setp.eq.u32 %p1, %r2, 0; @%p1 st.global.u32 [%rd4], 1;", "predicate"),
        ("mul.wide.u32 %rd5, %r2, 4; add.s64 %rd4, %rd4, %rd5; ld.global.u32 %r4, [%rd4];", "address"),
        ("atom.global.add.u32 %r4, [%rd4], %r2;", "operand"),
        ("shfl.sync.idx.b32 %r3, %r1, 0, 31, %r2;", "member mask"),
        ("shfl.sync.idx.b32 %r3, %r1, %r2, 31, -1;", "source lane"),
        ("shfl.sync.idx.b32 %r3, %r2, 0, 31, -1; st.global.u32 [%rd4], %r3;", "stored"),
        ("bar.sync %r2;", "barrier"),
    ] {
        let result = device.launch(&kernel(&format!("{load} {use_it}")), 1, 32, &params);
        let error = fault(result, FaultKind::Uninitialised);
        assert!(error.detail.contains(what), "{use_it}: {error}");
    }
    // Registers that were never written.
    let text = kernel("ld.param.u64 %rd1, [p1]; st.global.u32 [%rd1], %r9;");
    fault(device.launch(&text, 1, 1, &params), FaultKind::Uninitialised);
    let text = kernel("ld.param.u64 %rd1, [p1]; @%p5 st.global.u32 [%rd1], 1;");
    fault(device.launch(&text, 1, 1, &params), FaultKind::Uninitialised);
}

#[test]
fn undefined_bytes_that_are_not_used_do_no_harm() {
    let device = Device::new();
    // 7 of 8 halves are initialised, and all but one byte of the labels.
    let scores = device.memory.alloc(16).unwrap();
    device.memory.write(scores, &[1u8; 14]).unwrap();
    let target = device.upload(&[0u32; 16]);
    let params = [scores, target, 0, 0];
    let load = "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1];
         ld.global.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1]; mov.b32 {%h1, %h2}, %r4;";
    for fine in [
        "cvt.u32.u16 %r5, %h1; st.global.u32 [%rd2], %r5;",
        "and.b32 %r5, %r4, 0xffff; st.global.u32 [%rd2], %r5;",
        "shl.b32 %r5, %r4, 16; st.global.u32 [%rd2], %r5;",
        "bfe.u32 %r5, %r4, 4, 12; st.global.u32 [%rd2], %r5;",
        "prmt.b32 %r5, %r4, %r3, 0x5410; st.global.u32 [%rd2], %r5;",
        "lop3.b32 %r5, %r4, 0xffff, 0, 0xc0; st.global.u32 [%rd2], %r5;",
        "st.global.u16 [%rd2], %r4;",
        "cvt.u16.u32 %h3, %r4; st.global.u16 [%rd2], %h3;",
        // Half of a pair.
        "mov.b32 %r6, 0x3c003c00; add.f16x2 %r5, %r4, %r6; mov.b32 {%h3, %h4}, %r5;
         st.global.u16 [%rd2], %h3;",
        // Deselected.
        "setp.eq.u32 %p1, 0, 0; selp.b32 %r5, %r3, %r4, %p1; st.global.u32 [%rd2], %r5;",
        // Decided by the defined side of a conjunction.
        "setp.eq.u32 %p1, %r4, 7; setp.eq.u32 %p2, 0, 1; and.pred %p3, %p1, %p2;
         @%p3 st.global.u32 [%rd2], 1;",
        "setp.eq.u32 %p2, 0, 1; setp.eq.and.u32 %p3, %r4, 7, %p2; @%p3 st.global.u32 [%rd2], 1;",
        // Through shared memory.
        "st.shared.u32 [s], %r4; ld.shared.u16 %h3, [s]; st.global.u16 [%rd2], %h3;",
    ] {
        let text = kernel_with(".shared .align 4 .b8 s[64];", &format!("{load} {fine}"));
        device.launch(&text, 1, 1, &params).unwrap_or_else(|error| panic!("{fine}: {error}"));
    }
    for wrong in [
        "cvt.u32.u16 %r5, %h2; st.global.u32 [%rd2], %r5;",
        "shr.u32 %r5, %r4, 1; st.global.u32 [%rd2], %r5;",
        "shr.u32 %r5, %r4, 16; st.global.u32 [%rd2], %r5;",
        "prmt.b32 %r5, %r4, %r3, 0x5432; st.global.u32 [%rd2], %r5;",
        "setp.eq.u32 %p1, 0, 1; selp.b32 %r5, %r3, %r4, %p1; st.global.u32 [%rd2], %r5;",
        "setp.eq.u32 %p1, %r4, 7; selp.b32 %r5, %r1, %r2, %p1; st.global.u32 [%rd2], %r5;",
        "setp.eq.u32 %p1, %r4, 7; setp.eq.u32 %p2, 0, 0; and.pred %p3, %p1, %p2;
         @%p3 st.global.u32 [%rd2], 1;",
        "mov.b32 %r6, 0x3c003c00; add.f16x2 %r5, %r4, %r6; st.global.u32 [%rd2], %r5;",
        "cvt.rn.f32.u32 %f1, %r4; st.global.f32 [%rd2], %f1;",
        "st.shared.u32 [s], %r4; ld.shared.u32 %r5, [s]; st.global.u32 [%rd2], %r5;",
        "st.global.u32 [%rd2], %r4;",
    ] {
        let text = kernel_with(".shared .align 4 .b8 s[64];", &format!("{load} {wrong}"));
        let result = device.launch(&text, 1, 1, &params);
        assert_eq!(result.expect_err(wrong).kind, FaultKind::Uninitialised, "{wrong}");
    }
}

#[test]
fn shared_memory_is_uninitialised_in_every_block() {
    let device = Device::new();
    let target = device.upload(&[0u32; 64]);
    let text = kernel_with(
        ".shared .align 4 .b8 s[128];",
        &format!(
            "{INDEX} mov.u32 %r2, %ctaid.x; mov.u32 %r3, s; mad.lo.u32 %r3, %r1, 4, %r3;
             setp.eq.u32 %p1, %r2, 0; @%p1 st.shared.u32 [%r3], %r1; bar.sync 0;
             ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd3], %r4;"
        ),
    );
    device.launch(&text, 1, 32, &[target, 0, 0, 0]).unwrap();
    let error = fault(device.launch(&text, 2, 32, &[target, 0, 0, 0]), FaultKind::Uninitialised);
    assert_eq!(error.block, [1, 0, 0]);
}

#[test]
fn copies_keep_what_is_undefined() {
    let device = Device::new();
    let (from, to) = (device.memory.alloc(64).unwrap(), device.memory.alloc(64).unwrap());
    device.memory.write(from, &[1; 32]).unwrap();
    device.memory.copy(from, to, 64).unwrap();
    let target = device.upload(&[0u32; 16]);
    let text = kernel(
        "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; ld.global.u32 %r1, [%rd1];
         st.global.u32 [%rd2], %r1;",
    );
    device.launch(&text, 1, 1, &[to + 28, target, 0, 0]).unwrap();
    fault(device.launch(&text, 1, 1, &[to + 32, target, 0, 0]), FaultKind::Uninitialised);
    device.memory.fill(to, &[0, 1], 32).unwrap();
    device.launch(&text, 1, 1, &[to + 32, target, 0, 0]).unwrap();
}

#[test]
fn barrier_divergence() {
    let device = Device::new();
    for (body, threads) in [
        // Half of a warp at the barrier, the other half gone or past it.
        ("setp.lt.u32 %p1, %r1, 16; @%p1 bar.sync 0;", 32),
        ("setp.lt.u32 %p1, %r1, 16; @%p1 exit; bar.sync 0;", 64),
        // A whole warp missing.
        ("setp.lt.u32 %p1, %r1, 32; @%p1 exit; bar.sync 0;", 64),
        ("setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 0;", 64),
        // Two warps at different barriers.
        ("setp.lt.u32 %p1, %r1, 32; @%p1 bra A; bar.sync 1; bra B; A: bar.sync 2; B:", 64),
        ("setp.lt.u32 %p1, %r1, 5; @%p1 barrier.sync 0;", 64),
        // Counts that do not fit.
        ("bar.sync 1, 48;", 64),
        ("setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 1, 64; @!%p1 bar.sync 1, 32;", 64),
    ] {
        let text = kernel(&format!("mov.u32 %r1, %tid.x; {body}"));
        let error = fault(device.launch(&text, 1, threads, &[0; 4]), FaultKind::BarrierDivergence);
        assert!(error.ptx_text.contains("bar"), "{body}: {error}");
    }
    let error = fault(
        device.launch(&kernel("setp.eq.u32 %p1, 0, 0; @%p1 bar.sync 1, 64;"), 1, 32, &[0; 4]),
        FaultKind::BarrierDivergence,
    );
    assert!(error.detail.contains("64"), "{error}");
    for fine in [
        "setp.lt.u32 %p1, %r1, 16; @%p1 bra A; add.u32 %r2, %r1, 1; A: bar.sync 0;",
        "setp.lt.u32 %p1, %r1, 32; @%p1 bra A; bar.sync 1, 32; bra B; A: bar.sync 2, 32; B: bar.sync 0;",
        "setp.lt.u32 %p1, %r1, 7; @%p1 bra A; barrier.sync 0; bra B; A: barrier.sync 0; B:",
        "setp.lt.u32 %p1, %r1, 32; @%p1 bar.sync 1, 32; bar.sync 0; @%p1 exit;",
    ] {
        let text = kernel(&format!("mov.u32 %r1, %tid.x; {fine}"));
        device.launch(&text, 1, 64, &[0; 4]).unwrap_or_else(|error| panic!("{fine}: {error}"));
    }
}

#[test]
fn member_masks() {
    let device = Device::new();
    for wrong in [
        // A lane that is not in its own mask.
        "shfl.sync.bfly.b32 %r2, %r1, 1, 31, 0xffff;",
        // Lanes that name each other with different masks.
        "setp.eq.u32 %p1, %r1, 0; selp.b32 %r3, -1, 0xfffffffe, %p1; vote.sync.ballot.b32 %r2, %p1, %r3;",
        // Members that wait at another shuffle, or at a barrier.
        "setp.lt.u32 %p1, %r1, 16; @%p1 bra A; shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; bra B;
         A: shfl.sync.bfly.b32 %r2, %r1, 2, 31, -1; B:",
        "setp.lt.u32 %p1, %r1, 16; @%p1 bra A; bar.warp.sync -1; bra B; A: barrier.sync 0; B:",
    ] {
        let text = kernel(&format!("mov.u32 %r1, %tid.x; {wrong}"));
        fault(device.launch(&text, 1, 32, &[0; 4]), FaultKind::BadSyncMask);
    }
    // Lanes that have exited, or never existed, need not come.
    let text = kernel(
        "mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 3; @%p1 exit;
         shfl.sync.bfly.b32 %r2, %r1, 4, 31, -1; bar.warp.sync -1;",
    );
    device.launch(&text, 1, 20, &[0; 4]).unwrap();
}

#[test]
fn threads_that_wait_for_ever() {
    let device = Device::new();
    let flag = device.upload(&[0u32]);
    let text = kernel(
        "ld.param.u64 %rd1, [p0]; L: ld.volatile.global.u32 %r1, [%rd1];
         setp.eq.u32 %p1, %r1, 0; @%p1 bra L;",
    );
    fault(device.launch(&text, 4, 64, &[flag, 0, 0, 0]), FaultKind::Deadlock);
    let shared = kernel_with(
        ".shared .align 4 .u32 s;",
        "st.volatile.shared.u32 [s], 0; L: ld.volatile.shared.u32 %r1, [s]; setp.eq.u32 %p1, %r1, 0; @%p1 bra L;",
    );
    fault(device.launch(&shared, 1, 32, &[0; 4]), FaultKind::Deadlock);
}

#[test]
fn read_only_loads_of_what_the_launch_wrote() {
    let device = Device::new();
    let data = device.upload(&[0u32; 64]);
    let text = kernel(&format!("{INDEX} st.global.u32 [%rd3], %r1; bar.sync 0; ld.global.nc.u32 %r2, [%rd3+64];"));
    fault(device.launch(&text, 1, 32, &[data, 0, 0, 0]), FaultKind::ReadOnlyViolation);
    // What an earlier launch wrote, or another part of the allocation, is fine: 300 launches, so
    // that the tags come round.
    let text = kernel(&format!("{INDEX} ld.global.nc.u32 %r2, [%rd3+128]; st.global.u32 [%rd3], %r1;"));
    for round in 0..300u64 {
        let at = data + if round % 2 == 0 { 0 } else { 64 };
        device.launch(&text, 1, 16, &[at, 0, 0, 0]).unwrap_or_else(|error| panic!("{round} {error}"));
    }
}

#[test]
fn constants_cannot_be_written() {
    let device = Device::new();
    let text =
        kernel_with(".const .align 4 .u32 c = 1;", "mov.u64 %rd1, c; cvta.const.u64 %rd1, %rd1; st.u32 [%rd1], 2;");
    fault(device.launch(&text, 1, 1, &[0; 4]), FaultKind::WriteToReadOnly);
}

#[test]
fn asynchronous_copies_must_be_waited_for() {
    let device = Device::new();
    let (source, target) = (device.upload(&[5u32; 256]), device.upload(&[0u32; 256]));
    let begin = "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.u32 %r1, %tid.x; mov.u32 %r2, s;
         mad.lo.u32 %r3, %r1, 4, %r2; mul.wide.u32 %rd3, %r1, 4; add.s64 %rd4, %rd1, %rd3;
         add.s64 %rd5, %rd2, %rd3; cp.async.ca.shared.global [%r3], [%rd4], 4;";
    let end = "ld.shared.u32 %r4, [%r3]; st.global.u32 [%rd5], %r4;";
    for (middle, right) in [
        ("cp.async.wait_all;", true),
        ("cp.async.commit_group; cp.async.wait_group 0;", true),
        ("", false),
        ("bar.sync 0;", false),
        ("cp.async.commit_group; cp.async.wait_group 1;", false),
        // The copy is not in the group that is waited for.
        ("cp.async.wait_group 0;", false),
        ("cp.async.commit_group; cp.async.commit_group; cp.async.wait_group 1;", true),
    ] {
        let text = kernel_with(".shared .align 16 .b8 s[1024];", &format!("{begin} {middle} {end}"));
        let result = device.launch(&text, 1, 64, &[source, target, 0, 0]);
        if right {
            result.unwrap_or_else(|error| panic!("{middle}: {error}"));
        } else {
            fault(result, FaultKind::MissingWait);
        }
    }
    let text = kernel_with(
        ".shared .align 16 .b8 s[1024];",
        &format!("{begin} add.s64 %rd4, %rd4, 2; cp.async.ca.shared.global [%r3], [%rd4], 4;"),
    );
    fault(device.launch(&text, 1, 64, &[source, target, 0, 0]), FaultKind::Misaligned);
}

#[test]
fn traps_and_assertions() {
    let device = Device::new();
    let text = kernel("mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 35; @%p1 trap;");
    let error = fault(device.launch(&text, 1, 64, &[0; 4]), FaultKind::Trap);
    assert_eq!(error.thread, [35, 0, 0]);
    let text = kernel_with(
        ".extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e);
         .global .align 1 .b8 message[6] = {120, 32, 62, 32, 48, 0};
         .global .align 1 .b8 file[5] = {97, 46, 99, 117, 0};",
        "mov.u64 %rd1, message; mov.u64 %rd2, file;
         { .param .b64 q0; .param .b64 q1; .param .b32 q2; .param .b64 q3; .param .b64 q4;
         st.param.b64 [q0], %rd1; st.param.b64 [q1], %rd2; st.param.b32 [q2], 17;
         st.param.b64 [q3], %rd2; st.param.b64 [q4], 1;
         call.uni __assertfail, (q0, q1, q2, q3, q4); }",
    );
    let error = fault(device.launch(&text, 1, 1, &[0; 4]), FaultKind::Assertion);
    assert!(error.detail.contains("a.cu:17: a.cu: assertion `x > 0` failed"), "{error}");
}

#[test]
fn reports_name_the_source() {
    let device = Device::new();
    let text = format!(
        "{HEADER}.visible .entry broken(.param .u64 p0) {{ .reg .b64 %rd<4>; .reg .b32 %r<4>;
         .loc 1 10 3
         ld.param.u64 %rd1, [p0];
         .loc 1 12 5
         mov.u32 %r1, %tid.x;
         .loc 1 13 7, function_name $L__info_string0, inlined_at 1 12 5
         ld.global.u32 %r2, [%rd1];
         ret; }}
         .file 1 \"/kernels/broken.cu\"
         .section .debug_str {{ $L__info_string0: .b8 95, 0 }}"
    );
    let error = fault(device.launch(&text, 1, 1, &[0; 4]), FaultKind::OutOfBounds);
    assert_eq!(error.source, Some(("/kernels/broken.cu".to_owned(), 13)));
    let report = error.to_string();
    for part in ["out-of-bounds", "thread (0,0,0)", "block (0,0,0)", "kernel broken", "ld.global.u32"] {
        assert!(report.contains(part), "{report}");
    }
    assert!(report.contains("     in /kernels/broken.cu:13\n"), "{report}");
}

#[test]
fn the_lowest_block_is_reported() {
    for workers in [1, 4] {
        let mut device = Device::new();
        device.config.workers = workers;
        let text = kernel("mov.u32 %r1, %ctaid.x; setp.lt.u32 %p1, %r1, 37; @%p1 exit; trap;");
        for _ in 0..5 {
            let error = fault(device.launch(&text, 500, 32, &[0; 4]), FaultKind::Trap);
            assert_eq!(error.block, [37, 0, 0]);
        }
    }
}

#[test]
fn impossible_launches() {
    let device = Device::new();
    let text = kernel("");
    for (grid, block, shared) in [(0, 32, 0), (1, 0, 0), (1, 1025, 0), (1, 32, 300 << 10)] {
        fault(device.launch_shared(&text, grid, block, shared, &[0; 4]), FaultKind::BadLaunch);
    }
    fault(device.launch(&text, 1, 32, &[0; 2]), FaultKind::BadLaunch);
    let module = Module::load(&text, &device.memory).unwrap();
    let shape = LaunchShape { grid: [1; 3], block: [1; 3], cluster: [1; 3], dynamic_shared: 0 };
    let entry = module.entry("test").unwrap();
    run(&module, entry, &shape, &[0; 32], &device.memory, &device.config).unwrap();
    assert!(module.entry("other").is_none());
}
