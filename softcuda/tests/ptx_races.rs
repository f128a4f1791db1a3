//! Races: pairs of kernels that differ in what orders two accesses, one right and one wrong.

mod ptx_support;

use ptx_support::{Device, kernel_with};
use softcuda::fault::FaultKind;

/// Registers that every body finds: `%r1` the thread, `%r2` the block, `%r3` the lane, `%rd1` the first
/// buffer, `%rd2` the thread's word in it, `%rd3` the second buffer; `%r11` and `%r12` the thread's word, and
/// its neighbour's, in shared memory.
const PROLOGUE: &str = "
    ld.param.u64 %rd1, [p0];
    ld.param.u64 %rd3, [p1];
    mov.u32 %r1, %tid.x;
    mov.u32 %r2, %ctaid.x;
    and.b32 %r3, %r1, 31;
    mul.wide.u32 %rd4, %r1, 4;
    add.s64 %rd2, %rd1, %rd4;
    mov.u32 %r10, tile;
    shl.b32 %r4, %r1, 2;
    add.u32 %r11, %r10, %r4;
    xor.b32 %r5, %r1, 1;
    shl.b32 %r5, %r5, 2;
    add.u32 %r12, %r10, %r5;
    xor.b32 %r6, %r1, 32;
    shl.b32 %r6, %r6, 2;
    add.u32 %r13, %r10, %r6;
    setp.eq.u32 %p1, %r1, 0;
    setp.eq.u32 %p2, %r2, 0;
    setp.lt.u32 %p3, %r1, 32;
";

/// What a body does on two blocks of 64 threads with two zeroed buffers.
fn run(body: &str, seed: u64) -> Option<FaultKind> {
    let mut device = Device::new();
    device.config.seed = seed;
    let first = device.upload(&[0u32; 256]);
    let second = device.upload(&[0u32; 256]);
    let text =
        kernel_with(".shared .align 16 .b8 tile[1024];\n.shared .align 8 .b8 flag[64];", &format!("{PROLOGUE}{body}"));
    device.launch(&text, 2, 64, &[first, second, 0, 0]).err().map(|fault| {
        assert!(fault.ptx_line > 0, "{fault}");
        fault.kind
    })
}

/// The bodies with and without `$`-marked lines: with them all is in order, without them it is a race.
fn pair(body: &str) {
    let right = body.replace('$', "");
    let wrong: String = body.lines().filter(|line| !line.contains('$')).map(|line| format!("{line}\n")).collect();
    assert_ne!(right, wrong);
    for seed in 0..4 {
        assert_eq!(run(&right, seed), None, "seed {seed}:\n{right}");
        assert_eq!(run(&wrong, seed), Some(FaultKind::Race), "seed {seed}:\n{wrong}");
    }
}

/// Two bodies: one right, one a race.
fn variants(right: &str, wrong: &str) {
    for seed in 0..4 {
        assert_eq!(run(right, seed), None, "seed {seed}:\n{right}");
        assert_eq!(run(wrong, seed), Some(FaultKind::Race), "seed {seed}:\n{wrong}");
    }
}

#[test]
fn barrier_between_write_and_read() {
    pair(
        "st.shared.u32 [%r11], %r1;
        $ bar.sync 0;
        ld.shared.u32 %r20, [%r13];",
    );
}

#[test]
fn barrier_between_read_and_write() {
    pair(
        "st.shared.u32 [%r11], %r1;
        bar.sync 0;
        ld.shared.u32 %r20, [%r13];
        $ bar.sync 0;
        st.shared.u32 [%r11], %r20;",
    );
}

#[test]
fn everyone_reads_then_one_writes() {
    pair(
        "@%p1 st.shared.u32 [tile], %r1;
        bar.sync 0;
        ld.shared.u32 %r20, [tile];
        $ bar.sync 0;
        @%p1 st.shared.u32 [tile], %r20;",
    );
}

#[test]
fn warp_synchronisation() {
    pair(
        "st.shared.u32 [%r11], %r1;
        $ bar.warp.sync 0xffffffff;
        ld.shared.u32 %r20, [%r12];",
    );
}

#[test]
fn a_shuffle_orders_nothing() {
    variants(
        "st.shared.u32 [%r11], %r1;
        bar.warp.sync 0xffffffff;
        ld.shared.u32 %r20, [%r12];",
        "st.shared.u32 [%r11], %r1;
        shfl.sync.idx.b32 %r21, %r1, 0, 31, 0xffffffff;
        ld.shared.u32 %r20, [%r12];",
    );
}

#[test]
fn warp_synchronisation_is_for_the_warp() {
    variants(
        "st.shared.u32 [%r11], %r1;
        bar.warp.sync 0xffffffff;
        ld.shared.u32 %r20, [%r12];",
        "st.shared.u32 [%r11], %r1;
        bar.warp.sync 0xffffffff;
        ld.shared.u32 %r20, [%r13];",
    );
}

#[test]
fn named_barriers_of_all() {
    pair(
        "st.shared.u32 [%r11], %r1;
        $ bar.sync 3, 64;
        ld.shared.u32 %r20, [%r13];",
    );
}

#[test]
fn producer_arrives_consumer_waits() {
    variants(
        "@!%p3 bra CONSUMER;
        st.shared.u32 [%r11], %r1;
        bar.arrive 1, 64;
        bra DONE;
        CONSUMER:
        bar.sync 1, 64;
        ld.shared.u32 %r20, [%r13];
        DONE:",
        "@!%p3 bra CONSUMER;
        bar.arrive 1, 64;
        st.shared.u32 [%r11], %r1;
        bra DONE;
        CONSUMER:
        bar.sync 1, 64;
        ld.shared.u32 %r20, [%r13];
        DONE:",
    );
}

#[test]
fn who_arrives_learns_nothing() {
    variants(
        "@!%p3 bra OTHER;
        bar.sync 1, 64;
        ld.shared.u32 %r20, [%r13];
        bra DONE;
        OTHER:
        st.shared.u32 [%r11], %r1;
        bar.sync 1, 64;
        DONE:",
        "@!%p3 bra OTHER;
        bar.arrive 1, 64;
        ld.shared.u32 %r20, [%r13];
        bra DONE;
        OTHER:
        st.shared.u32 [%r11], %r1;
        bar.sync 1, 64;
        DONE:",
    );
}

/// Both warps read the same word; then one of them, or a thread of it, writes it.
#[test]
fn readers_of_several_warps_meet_at_a_barrier_of_some() {
    for writer in ["%p1", "%p5"] {
        pair(&format!(
            "setp.eq.u32 %p5, %r1, 32;
            @%p1 st.shared.u32 [tile], %r1;
            bar.sync 0;
            ld.shared.u32 %r20, [tile];
            $ bar.sync 1, 64;
            @{writer} st.shared.u32 [tile], %r20;"
        ));
    }
}

#[test]
fn readers_of_several_warps_meet_at_an_mbarrier() {
    pair(
        "@%p1 st.shared.u32 [tile], %r1;
        @%p1 mbarrier.init.shared.b64 [flag], 64;
        bar.sync 0;
        ld.shared.u32 %r20, [tile];
        mbarrier.arrive.shared.b64 %rd20, [flag];
        $ AGAIN: mbarrier.test_wait.shared.b64 %p5, [flag], %rd20;
        $ @!%p5 bra AGAIN;
        setp.eq.u32 %p6, %r1, 40;
        @%p6 st.shared.u32 [tile], %r20;",
    );
}

#[test]
fn bytes_are_told_apart() {
    variants(
        "add.u32 %r14, %r10, %r1;
        st.shared.u8 [%r14], %r1;",
        "shr.u32 %r14, %r1, 1;
        add.u32 %r14, %r10, %r14;
        st.shared.u8 [%r14], %r1;",
    );
}

#[test]
fn halves_are_told_apart() {
    variants(
        "mul.wide.u32 %rd5, %r1, 2;
        add.s64 %rd5, %rd1, %rd5;
        cvt.u16.u32 %h1, %r1;
        @%p2 st.global.u16 [%rd5], %h1;",
        "mul.wide.u32 %rd5, %r1, 2;
        add.s64 %rd5, %rd1, %rd5;
        cvt.u16.u32 %h1, %r1;
        @%p2 st.global.u16 [%rd5], %h1;
        @%p2 ld.global.u32 %r20, [%rd2];",
    );
}

#[test]
fn the_same_value_by_one_instruction() {
    variants(
        "mov.u32 %r20, 7;
        @%p3 st.shared.u32 [tile], %r20;",
        "@%p3 st.shared.u32 [tile], %r1;",
    );
}

#[test]
fn the_same_value_by_two_warps() {
    variants(
        "mov.u32 %r20, 7;
        @%p3 st.shared.u32 [tile], %r20;",
        "mov.u32 %r20, 7;
        st.shared.u32 [tile], %r20;",
    );
}

#[test]
fn blocks_write_the_same_word() {
    variants("@%p2 st.global.u32 [%rd2], %r1;", "st.global.u32 [%rd2], %r1;");
}

#[test]
fn one_block_reads_what_another_writes() {
    variants(
        "@%p2 st.global.u32 [%rd2], %r1;
        @!%p2 ld.global.u32 %r20, [%rd3];",
        "@%p2 st.global.u32 [%rd2], %r1;
        @!%p2 ld.global.u32 %r20, [%rd2];",
    );
}

#[test]
fn blocks_read_what_one_writes_then() {
    variants(
        "ld.global.u32 %r20, [%rd2];
        add.s64 %rd5, %rd3, %rd4;
        @%p2 st.global.u32 [%rd5], %r20;",
        "ld.global.u32 %r20, [%rd2];
        @%p2 st.global.u32 [%rd2], %r20;",
    );
}

#[test]
fn atomics_do_not_race_with_each_other() {
    variants(
        "red.global.add.u32 [%rd1], 1;",
        "red.global.add.u32 [%rd1], 1;
        ld.global.u32 %r20, [%rd1];",
    );
}

#[test]
fn atomics_in_shared_memory() {
    pair(
        "st.shared.u32 [%r11], 0;
        bar.sync 0;
        @%p1 st.shared.u32 [tile], 5;
        $ bar.sync 0;
        atom.shared.add.u32 %r20, [tile], 1;",
    );
}

#[test]
fn volatile_accesses_do_not_race_with_each_other() {
    variants(
        "@%p2 st.volatile.global.u32 [%rd1], 1;
        @!%p2 ld.volatile.global.u32 %r20, [%rd1];",
        "@%p2 st.volatile.global.u32 [%rd1], 1;
        @!%p2 ld.global.u32 %r20, [%rd1];",
    );
}

/// Strong accesses need scopes that include each other.
#[test]
fn scopes_of_atomics() {
    let right = "red.relaxed.gpu.global.add.u32 [%rd1], 1;";
    variants(right, "red.relaxed.cta.global.add.u32 [%rd1], 1;");
    variants(
        "@%p2 red.relaxed.cta.global.add.u32 [%rd1], 1;",
        "@%p2 red.relaxed.cta.global.add.u32 [%rd1], 1;
        @!%p2 red.relaxed.gpu.global.add.u32 [%rd1], 1;",
    );
    variants(
        right,
        "@!%p2 red.relaxed.cta.global.add.u32 [%rd1], 1;
        @%p2 red.relaxed.gpu.global.add.u32 [%rd1], 1;",
    );
    // Weak accesses of the same block, and of another one.
    variants(
        "@%p2 red.relaxed.cta.global.add.u32 [%rd1], 1;
        bar.sync 0;
        @%p2 ld.global.u32 %r20, [%rd1];",
        "@%p2 red.relaxed.cta.global.add.u32 [%rd1], 1;
        bar.sync 0;
        @!%p2 ld.global.u32 %r20, [%rd1];",
    );
    variants(
        "@%p2 red.relaxed.cta.global.add.u32 [%rd1], 1;",
        "@%p2 red.relaxed.cta.global.add.u32 [%rd1], 1;
        @%p2 ld.global.u32 %r20, [%rd1];",
    );
}

#[test]
fn scopes_of_strong_loads_and_stores() {
    let pair = |load: &str, store: &str, who: &str| {
        format!("@%p2 ld.relaxed.{load}.global.u32 %r20, [%rd1];\n@{who} st.relaxed.{store}.global.u32 [%rd1], 1;")
    };
    // All threads of block 0 read; then all of it, or of block 1, write.
    variants(&pair("gpu", "gpu", "!%p2"), &pair("cta", "gpu", "!%p2"));
    variants(&pair("sys", "gpu", "!%p2"), &pair("gpu", "cta", "!%p2"));
    variants(&pair("cta", "cta", "%p2"), &pair("cta", "cta", "!%p2"));
    variants(&pair("cta", "gpu", "%p2"), &pair("cta", "sys", "!%p2"));
    // Whole granules.
    let wide = |scope: &str| format!("@%p1 st.relaxed.{scope}.global.v4.u32 [%rd1], {{%r1, %r1, %r1, %r1}};");
    variants(&wide("gpu"), &wide("cta"));
}

/// A strong read takes nothing away from a weak one before it.
#[test]
fn a_weak_read_before_a_strong_one() {
    variants(
        "@%p2 ld.relaxed.gpu.global.u32 %r20, [%rd1];
        @!%p2 st.relaxed.gpu.global.u32 [%rd1], 1;",
        "@!%p1 bra DONE;
        @%p2 ld.global.u32 %r20, [%rd1];
        @%p2 ld.relaxed.gpu.global.u32 %r20, [%rd1];
        @!%p2 st.relaxed.gpu.global.u32 [%rd1], 1;
        DONE:",
    );
}

/// A message from block 0 to block 1: data in the second buffer, a flag in the first.
fn message(before_flag: &str, store: &str, load: &str, after_flag: &str) -> String {
    format!(
        "@!%p1 bra DONE;
        @!%p2 bra RECEIVE;
        st.global.u32 [%rd3], 42;
        {before_flag}
        {store} [%rd1], 1;
        bra DONE;
        RECEIVE:
        {load} %r20, [%rd1];
        setp.eq.u32 %p4, %r20, 0;
        @%p4 bra RECEIVE;
        {after_flag}
        ld.global.u32 %r21, [%rd3];
        DONE:"
    )
}

#[test]
fn messages_by_release_and_acquire() {
    let right = message("", "st.release.gpu.global.u32", "ld.acquire.gpu.global.u32", "");
    variants(&right, &message("", "st.relaxed.gpu.global.u32", "ld.acquire.gpu.global.u32", ""));
    variants(&right, &message("", "st.release.gpu.global.u32", "ld.relaxed.gpu.global.u32", ""));
    variants(&right, &message("", "st.release.cta.global.u32", "ld.acquire.gpu.global.u32", ""));
    variants(&right, &message("", "st.release.gpu.global.u32", "ld.acquire.cta.global.u32", ""));
    let right = message("", "red.release.gpu.global.add.u32", "ld.acquire.gpu.global.u32", "");
    variants(&right, &message("", "red.release.cta.global.add.u32", "ld.acquire.gpu.global.u32", ""));
}

#[test]
fn messages_by_fences() {
    let (store, load) = ("st.volatile.global.u32", "ld.volatile.global.u32");
    let right = message("membar.gl;", store, load, "membar.gl;");
    variants(&right, &message("", store, load, "membar.gl;"));
    variants(&right, &message("membar.gl;", store, load, ""));
    variants(&right, &message("membar.cta;", store, load, "membar.gl;"));
    variants(&right, &message("fence.acq_rel.gpu;", store, load, "fence.acq_rel.cta;"));
}

/// A message that all of block 0 writes and all of block 1 reads.
fn broadcast(before: &str, after: &str) -> String {
    format!(
        "add.s64 %rd5, %rd3, %rd4;
        @!%p2 bra RECEIVE;
        st.global.u32 [%rd5], %r1;
        {before}
        @%p1 atom.global.exch.b32 %r20, [%rd1], 1;
        bra DONE;
        RECEIVE:
        @!%p1 bra HEARD;
        WAIT:
        ld.relaxed.gpu.global.u32 %r20, [%rd1];
        setp.eq.u32 %p4, %r20, 0;
        @%p4 bra WAIT;
        fence.acq_rel.gpu;
        HEARD:
        {after}
        ld.global.u32 %r21, [%rd5];
        DONE:"
    )
}

#[test]
fn barriers_pass_messages_on() {
    let right = broadcast("bar.sync 0; membar.gl;", "bar.sync 0;");
    variants(&right, &broadcast("membar.gl;", "bar.sync 0;"));
    variants(&right, &broadcast("bar.sync 0; membar.gl;", ""));
    variants(&right, &broadcast("bar.sync 0;", "bar.sync 0;"));
    // The fence on the other side of the barrier is tolerated.
    assert_eq!(run(&broadcast("membar.gl; bar.sync 0;", "bar.sync 0;"), 0), None);
}

#[test]
fn an_mbarrier_tells_of_copies_and_of_what_came_before() {
    let body = |before: &str, after: &str| {
        format!(
            "@%p1 mbarrier.init.shared.b64 [flag], 64;
            bar.sync 0;
            cp.async.ca.shared.global [%r11+512], [%rd2], 4;
            {before}
            cp.async.mbarrier.arrive.noinc.shared.b64 [flag];
            {after}
            AGAIN: mbarrier.test_wait.parity.shared.b64 %p5, [flag], 0;
            @!%p5 bra AGAIN;
            ld.shared.u32 %r20, [%r13+512];
            ld.shared.u32 %r21, [%r13];"
        )
    };
    let write = "st.shared.u32 [%r11], %r1;";
    variants(&body(write, ""), &body("", write));
}

#[test]
fn an_earlier_launch_is_in_order() {
    let device = Device::new();
    let buffer = device.upload(&[0u32; 64]);
    let body = format!("{PROLOGUE} add.u32 %r20, %r1, 1; st.global.u32 [%rd2], %r20;");
    let text = kernel_with(".shared .align 16 .b8 tile[16];", &body);
    for _ in 0..3 {
        device.launch(&text, 1, 64, &[buffer, buffer, 0, 0]).unwrap();
    }
    assert_eq!(device.download::<u32>(buffer, 64), (1..=64).collect::<Vec<u32>>());
}

#[test]
fn many_barriers() {
    // More than a clock can count: the block goes on under new numbers.
    let body = |barrier: &str| {
        format!(
            "mov.u32 %r20, 0;
            LOOP:
            st.shared.u32 [%r11], %r20;
            bar.sync 0;
            ld.shared.u32 %r21, [%r13];
            bar.sync 0;
            add.u32 %r20, %r20, 1;
            setp.lt.u32 %p4, %r20, 3000;
            @%p4 bra LOOP;
            st.shared.u32 [%r11], %r20;
            {barrier}
            ld.shared.u32 %r21, [%r13];"
        )
    };
    assert_eq!(run(&body("bar.sync 0;"), 0), None);
    assert_eq!(run(&body(""), 0), Some(FaultKind::Race));
}

#[test]
fn the_report_names_both_threads() {
    let device = Device::new();
    let buffer = device.upload(&[0u32; 64]);
    let body = format!("{PROLOGUE} st.global.u32 [%rd2], %r1;");
    let text = kernel_with(".shared .align 16 .b8 tile[16];", &body);
    let fault = device.launch(&text, 2, 64, &[buffer, buffer, 0, 0]).unwrap_err();
    assert_eq!((fault.kind, fault.block, fault.thread), (FaultKind::Race, [1, 0, 0], [0, 0, 0]));
    let expected =
        format!("write of 4 bytes at {buffer:#x} is not ordered after the write by thread (0,0,0) in block (0,0,0)");
    assert_eq!(fault.detail, expected);
}

/// The two instructions of a race, in their order, with their source lines.
fn both_places(cluster: bool, body: &str) -> [(String, u32); 2] {
    let device = Device::new();
    let buffer = device.upload(&[0u32; 64]);
    let body = format!("{PROLOGUE} st.shared.u32 [%r11], 0; {body}");
    let text = kernel_with(".file 1 \"rows.cu\"\n.shared .align 16 .b8 tile[1024];", &body);
    let result = match cluster {
        true => device.launch_clusters(&text, (2, 2, 64), &[buffer, buffer, 0, 0]),
        false => device.launch(&text, 2, 64, &[buffer, buffer, 0, 0]),
    };
    let fault = result.expect_err(&body);
    assert_eq!(fault.kind, FaultKind::Race, "{fault}");
    let earlier = fault.earlier.clone().unwrap_or_else(|| panic!("{fault}"));
    [(earlier.ptx_text, earlier.source), (fault.ptx_text, fault.source)].map(|(text, source)| {
        let (file, line) = source.unwrap();
        assert_eq!(file, "rows.cu");
        (text, line)
    })
}

#[test]
fn the_report_names_both_instructions() {
    for (first, second) in [("ld", "st"), ("st", "ld"), ("st", "st")] {
        let access = |guard: &str, f: &str, space: &str, at: &str| match f {
            "ld" => format!("{guard} ld{space}.u32 %r20, {at};"),
            _ => format!("{guard} st{space}.u32 {at}, %r1;"),
        };
        // A second warp, a second block, and a second block of the cluster: elsewhere each has other accesses.
        let other = "st.shared.u32 [%r11+512], %r1; ld.shared.u32 %r21, [%r11+512];";
        // Who comes last to a barrier goes on first.
        let warp = (".shared", "setp.eq.u32 %p6, %r1, 32; mov.pred %p5, %p1; @!%p6 bra NEXT;", "[tile]", "[tile]");
        let block = (
            ".global",
            "setp.eq.u32 %p5, %r2, 1; and.pred %p5, %p5, %p1; and.pred %p6, %p1, %p2; @!%p6 bra NEXT;",
            "[%rd1]",
            "[%rd1]",
        );
        let peer = (
            ".shared::cluster",
            "setp.eq.u32 %p6, %r2, 1; and.pred %p6, %p6, %p1; and.pred %p5, %p1, %p2;
            mapa.shared::cluster.u32 %r30, %r10, 1; @!%p6 bra NEXT;",
            "[tile]",
            "[%r30]",
        );
        for (space, choose, here, there) in [warp, block, peer] {
            let near = if space == ".global" { space } else { ".shared" };
            let (a, b) = (access("", first, near, here), access("@%p5", second, space, there));
            let cluster = space == ".shared::cluster";
            let meet = if cluster { "barrier.cluster.arrive; barrier.cluster.wait;" } else { "bar.sync 0;" };
            let body = format!(
                "{meet}\n{choose}\n.loc 1 10 1\n{a}\n.loc 1 11 1\nNEXT: {other}\n.loc 1 20 1\n{b}\n.loc 1 30 1\n{meet}"
            );
            let expected = [(a.trim().to_owned(), 10), (b.trim().to_owned(), 20)];
            assert_eq!(both_places(cluster, &body), expected, "{body}");
        }
    }
}

/// Parts of 16 bytes that different instructions touch have each their own.
#[test]
fn the_report_tells_parts_of_a_granule_apart() {
    let stores = "setp.eq.u32 %p6, %r1, 32;\n@!%p6 bra NEXT;\n.loc 1 5 1\nst.shared.u32 [tile], %r1;\n.loc 1 6 1\nst.shared.u64 [tile+8], %rd1;
        .loc 1 7 1\nst.shared.u8 [tile+4], %r1;\nNEXT: mov.pred %p5, %p1;\n.loc 1 9 1\n";
    for (read, line) in [
        ("ld.shared.u8 %r20, [tile+3];", 5),
        ("ld.shared.u32 %r20, [tile+8];", 6),
        ("ld.shared.u8 %r20, [tile+4];", 7),
        ("ld.shared.v4.u32 {%r20, %r21, %r22, %r23}, [tile];", 5),
        ("ld.shared.u64 %rd20, [tile+8];", 6),
    ] {
        let [(_, found), (text, 9)] = both_places(false, &format!("bar.sync 0; {stores} @%p5 {read}")) else {
            panic!("the wrong line for {read}")
        };
        assert_eq!((found, text), (line, format!("@%p5 {read}")));
    }
}

#[test]
fn races_are_looked_for_only_if_asked() {
    let mut device = Device::new();
    device.config.races = false;
    let buffer = device.upload(&[0u32; 64]);
    let body = format!("{PROLOGUE} st.global.u32 [%rd2], %r1;");
    let text = kernel_with(".shared .align 16 .b8 tile[16];", &body);
    device.launch(&text, 2, 64, &[buffer, buffer, 0, 0]).unwrap();
}
