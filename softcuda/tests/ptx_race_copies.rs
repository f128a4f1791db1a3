//! Asynchronous copies as accesses: what they read and write from their issue until somebody waits for
//! them, and who knows that they are over.

mod ptx_support;

use ptx_support::{Device, kernel_with};
use softcuda::fault::{Fault, FaultKind};

const SHARED: &str = ".shared .align 16 .b8 s[1024]; .shared .align 16 .b8 t[1024]; .shared .align 8 .b64 bar[4];
    .shared .align 8 .b32 note[4];";

/// Blocks of two warps in clusters of two. `%r1` is the thread, `%r2` the rank; `%p0` is true in thread 0, `%p1`
/// in warp 1, `%p2` in thread 32, `%p3` in block 0. `%rd1` and `%rd2` are 1 KiB of the block's own in two
/// buffers, `%rd3` the thread's word in the first; `%r4` and `%r5` the thread's words in `s` and `t`, `%r6`
/// 16 bytes of its own in `t`. `bar` has objects for one arrival, `note` zeros.
const PROLOGUE: &str =
    "mov.u32 %r1, %tid.x; mov.u32 %r2, %cluster_ctarank; ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1];
    mov.u32 %r3, %ctaid.x; mul.wide.u32 %rd4, %r3, 1024; add.s64 %rd1, %rd1, %rd4; add.s64 %rd2, %rd2, %rd4;
    mul.wide.u32 %rd4, %r1, 4; add.s64 %rd3, %rd1, %rd4; mov.u32 %r4, s; mad.lo.u32 %r4, %r1, 4, %r4; mov.u32 %r6, t;
    mad.lo.u32 %r5, %r1, 4, %r6; mad.lo.u32 %r6, %r1, 16, %r6; setp.eq.u32 %p0, %r1, 0; setp.ge.u32 %p1, %r1, 32;
    setp.eq.u32 %p2, %r1, 32; setp.eq.u32 %p3, %r2, 0; st.shared.u32 [%r4], %r1; st.shared.u32 [%r5], %r1;
    @%p0 st.shared.u32 [note], 0; @%p0 mbarrier.init.shared.b64 [bar], 1; @%p0 mbarrier.init.shared.b64 [bar+8], 1;
    xor.b32 %r7, %r2, 1; mov.u32 %r8, s; mapa.shared::cluster.u32 %r9, %r8, %r7; mov.u32 %r10, bar;
    mapa.shared::cluster.u32 %r10, %r10, %r7; fence.proxy.async; barrier.cluster.arrive; barrier.cluster.wait;";

const SYNC: &str = "barrier.cluster.arrive; barrier.cluster.wait;";
const MEET: &str = "bar.sync 0;";
const EXPECT: &str = "@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 128;";
const LOAD: &str = "@%p0 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [s], [%rd1], 128, [bar];";
const STORE: &str = "@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd2], [s], 128;
    @%p0 cp.async.bulk.commit_group;";

/// Waits for the phase with a parity, in the threads for which a predicate is true.
fn wait(guard: &str, parity: u32, label: &str) -> String {
    format!(
        "@!{guard} bra E{label};
         {label}: mbarrier.try_wait.parity.shared::cta.b64 %p9, [bar], {parity}; @!%p9 bra {label}; E{label}:"
    )
}

/// Some thread tells another one, of the other warp, that it has come this far: in time, but for no memory.
fn note(from: &str, to: &str, number: u32) -> String {
    format!(
        "@{from} st.volatile.shared.u32 [note], {number}; @!{to} bra EN{number};
         N{number}: ld.volatile.shared.u32 %r30, [note]; setp.ne.u32 %p10, %r30, {number}; @%p10 bra N{number}; EN{number}:"
    )
}

fn run(body: &str, seed: u64) -> Option<Fault> {
    let mut device = Device::new();
    device.config.seed = seed;
    let (first, second) = (device.upload(&[1u32; 1024]), device.upload(&[2u32; 1024]));
    let text = kernel_with(SHARED, &format!("{PROLOGUE}\n{body}\n{SYNC}"));
    device.launch_clusters(&text, (4, 2, 64), &[first, second, 0, 0]).err()
}

fn right(body: &str) {
    for seed in 0..6 {
        assert_eq!(run(body, seed), None, "seed {seed}:\n{body}");
    }
}

/// A body with this error under every seed.
fn wrong(body: &str, kind: FaultKind) -> Fault {
    for seed in 1..6 {
        assert_eq!(run(body, seed).map(|fault| fault.kind), Some(kind), "seed {seed}:\n{body}");
    }
    let fault = run(body, 0).unwrap_or_else(|| panic!("no error:\n{body}"));
    assert_eq!(fault.kind, kind, "{fault}\n{body}");
    fault
}

/// A race with a copy, which is the earlier of the two.
fn races(body: &str, copy: &str) {
    let fault = wrong(body, FaultKind::Race);
    let earlier = fault.earlier.clone().unwrap_or_else(|| panic!("{fault}"));
    assert!(earlier.ptx_text.contains(copy), "{fault}");
}

#[test]
fn copies_write_when_they_are_waited_for() {
    let body = |meet: &str| {
        format!(
            "cp.async.ca.shared.global [%r6], [%rd1], 16; cp.async.wait_all; {meet} xor.b32 %r20, %r6, 512; ld.shared.u32 %r21, [%r20];"
        )
    };
    right(&body(MEET));
    races(&body(""), "cp.async.ca");
}

#[test]
fn the_source_of_a_copy_stays_until_the_wait() {
    for size in [4, 16] {
        let copy = format!("cp.async.ca.shared.global [%r6], [%rd1], {size};");
        let write = "@%p2 st.global.u32 [%rd1], 5;";
        right(&format!("@!%p1 {copy} cp.async.wait_all; {MEET} {write}"));
        right(&format!("{copy} cp.async.wait_all; {MEET} {write}"));
        // However many barriers are between the two.
        races(&format!("@!%p1 {copy} {MEET} {write} {MEET} cp.async.wait_all;"), "cp.async");
        races(&format!("@%p0 {copy} {MEET} @%p0 st.global.u32 [%rd1], 5; cp.async.wait_all;"), "cp.async");
        // A group that was not waited for.
        let group = "cp.async.commit_group; cp.async.wait_group";
        right(&format!("@!%p1 {copy} {group} 0; {MEET} {write}"));
        races(&format!("@!%p1 {copy} {group} 1; {MEET} {write} cp.async.wait_all;"), "cp.async");
    }
}

/// Several copies, and loads, of the same bytes.
#[test]
fn a_source_may_be_read_by_others() {
    let copy = "cp.async.ca.shared.global [%r6], [%rd1], 16;";
    right(&format!(
        "{copy} ld.global.u32 %r20, [%rd1]; ld.global.v4.u32 {{%r20, %r21, %r22, %r23}}, [%rd1];
        cp.async.wait_all; {MEET} @%p2 st.global.u32 [%rd1], 5;"
    ));
    // A thread on its own needs nobody else.
    right(
        "mul.wide.u32 %rd5, %r1, 16; add.s64 %rd5, %rd1, %rd5; cp.async.ca.shared.global [%r6], [%rd5], 16;
         ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%rd5]; ld.global.u32 %r20, [%rd5]; cp.async.wait_all;
         st.global.u32 [%rd5], 5; st.global.v4.u32 [%rd5], {%r20, %r21, %r22, %r23};",
    );
}

#[test]
fn a_copy_waits_for_readers_of_its_destination() {
    let body = |between: &str| {
        format!(
            "@%p2 ld.shared.u32 %r21, [t]; {between} @%p0 cp.async.ca.shared.global [t], [%rd1], 4;
             {MEET} cp.async.wait_all;"
        )
    };
    right(&body(MEET));
    races(&body(&note("%p2", "%p0", 1)), "ld.shared");
}

/// More barriers than clocks count: the last of them, or the one before, comes while copies are in flight.
#[test]
fn copies_in_flight_when_the_clocks_begin_again() {
    let body = |first: &str, times: u32, end: &str| {
        format!(
            "mul.wide.u32 %rd5, %r1, 16; add.s64 %rd5, %rd1, %rd5; mov.u32 %r20, 0; {first}
             LOOP: cp.async.ca.shared.global [%r6], [%rd5], 16; {MEET} cp.async.wait_all; {MEET}
             add.u32 %r20, %r20, 1; setp.lt.u32 %p4, %r20, {times}; @%p4 bra LOOP; xor.b32 %r21, %r1, 32;
             mul.wide.u32 %rd6, %r21, 16; add.s64 %rd6, %rd1, %rd6; {end} st.global.u32 [%rd6], 1;"
        )
    };
    for times in 1022..=1025 {
        for first in ["", MEET] {
            assert_eq!(run(&body(first, times, ""), 0), None, "{times}");
            let flying = body(first, times, "cp.async.ca.shared.global [%r6], [%rd5], 16; bar.sync 0;");
            assert_eq!(run(&flying, 0).map(|fault| fault.kind), Some(FaultKind::Race), "{times}");
        }
    }
}

#[test]
fn who_waits_for_a_bulk_copy_may_read() {
    let read = "@%p2 ld.shared.u32 %r20, [s];";
    right(&format!("{EXPECT} {LOAD} {} {read}", wait("%p1", 0, "A")));
    right(&format!("{EXPECT} {LOAD} {} {MEET} {read}", wait("%p0", 0, "A")));
    // It is there by then, which the reader cannot know.
    let noted = format!("{EXPECT} {LOAD} {} {} {read} {MEET}", wait("%p0", 0, "A"), note("%p0", "%p2", 1));
    races(&noted, "cp.async.bulk");
    // Nor by a barrier after the issue.
    let noted = format!("{EXPECT} {LOAD} {MEET} {} {} {read} {MEET}", wait("%p0", 0, "A"), note("%p0", "%p2", 1));
    races(&noted, "cp.async.bulk");
}

#[test]
fn a_bulk_copy_waits_for_readers_of_its_destination() {
    let body = |between: &str| {
        format!(
            "{EXPECT} {LOAD} {} ld.shared.u32 %r20, [s]; {between} {EXPECT} {LOAD} {} {MEET}",
            wait("%p9", 0, "A").replace("@!%p9 bra EA;\n", ""),
            wait("%p0", 1, "B"),
        )
    };
    right(&body(MEET));
    races(&body(&note("%p2", "%p0", 1)), "ld.shared");
    let released = "bar.warp.sync -1; @%p2 mbarrier.arrive.shared.b64 _, [bar+8]; @!%p0 bra EC;
        C: mbarrier.try_wait.parity.shared::cta.b64 %p9, [bar+8], 0; @!%p9 bra C; EC: bar.warp.sync -1;";
    right(&body(released));
}

#[test]
fn the_source_of_a_bulk_copy_stays_until_the_wait() {
    let write = "@%p2 st.global.u32 [%rd1], 5;";
    right(&format!("{EXPECT} {LOAD} {} {MEET} {write}", wait("%p0", 0, "A")));
    right(&format!("{EXPECT} {LOAD} {} {write}", wait("%p2", 0, "A")));
    races(&format!("{EXPECT} {LOAD} {MEET} {write} {MEET} {}", wait("%p0", 0, "A")), "cp.async.bulk");
    races(&format!("{EXPECT} {LOAD} {} {} {write}", wait("%p0", 0, "A"), note("%p0", "%p2", 1)), "cp.async.bulk");
    // What is written must be there at the issue.
    right(&format!("@%p0 st.global.u32 [%rd1], 5; {EXPECT} {LOAD} {}", wait("%p0", 0, "A")));
    races(&format!("{write} {} {EXPECT} {LOAD} {}", note("%p2", "%p0", 1), wait("%p0", 0, "A")), "st.global");
}

#[test]
fn the_source_of_a_bulk_store_stays_until_the_wait() {
    let (write, read) = ("@%p2 st.shared.u32 [s], 5;", "@%p0 cp.async.bulk.wait_group.read 0;");
    for wait in [read, "@%p0 cp.async.bulk.wait_group 0;"] {
        right(&format!("{STORE} {wait} {MEET} {write}"));
        races(&format!("{STORE} {wait} {} {write} {MEET}", note("%p0", "%p2", 1)), "cp.async.bulk");
    }
    wrong(&format!("{STORE} {MEET} {write} {MEET} {read}"), FaultKind::MissingWait);
}

#[test]
fn what_a_bulk_store_writes_is_there_after_the_wait() {
    let (read, all) = ("@%p2 ld.global.u32 %r20, [%rd2];", "@%p0 cp.async.bulk.wait_group 0;");
    let half = "@%p0 cp.async.bulk.wait_group.read 0;";
    right(&format!("{STORE} {all} {MEET} {read}"));
    right(&format!("{STORE} {half} {all} {MEET} {read}"));
    races(&format!("{STORE} {half} {MEET} {read}"), "cp.async.bulk");
    races(&format!("{STORE} {half} @%p0 st.global.u32 [%rd2], 1; {all}"), "cp.async.bulk");
    races(&format!("{STORE} {STORE} {all}"), "cp.async.bulk");
    right(&format!("{STORE} {all} {STORE} {all}"));
    races(&format!("{read} {} {STORE} {all}", note("%p2", "%p0", 1)), "ld.global");
}

/// Sums into the same bytes of global memory from two blocks, which nothing else may touch.
#[test]
fn reductions_do_not_race_with_each_other() {
    let sum =
        "ld.param.u64 %rd6, [p0]; @%p0 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd6], [s], 128;
        @%p0 cp.async.bulk.commit_group; @%p0 cp.async.bulk.wait_group 0;";
    right(sum);
    right(&format!("{sum} @%p0 red.global.add.u32 [%rd6], 1;"));
    races(&sum.replace("cp.reduce", "cp").replace(".add.u32", ""), "cp.async.bulk");
    wrong(&format!("{sum} @%p0 ld.global.u32 %r20, [%rd6];"), FaultKind::Race);
}

const SEND: &str = "@%p2 st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r9], %r1, [%r10];";
const EXPECT_WORD: &str = "@%p0 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 4;";

#[test]
fn asynchronous_stores_to_a_peer() {
    let read = "@%p0 ld.shared.u32 %r20, [s];";
    right(&format!("{EXPECT_WORD} {SEND} {} {read}", wait("%p0", 0, "A")));
    right(&format!("{EXPECT_WORD} {SEND} {} {MEET} {read}", wait("%p2", 0, "A")));
    races(&format!("{EXPECT_WORD} {SEND} {} {} {read}", wait("%p2", 0, "A"), note("%p2", "%p0", 1)), "st.async");
    // The peer may still read what was there.
    right(&format!("{read} {SYNC} {EXPECT_WORD} {SEND} {}", wait("%p0", 0, "A")));
    let early =
        format!("{read} {} {EXPECT_WORD} {SEND} {}", SYNC.replace("arrive", "arrive.relaxed"), wait("%p0", 0, "A"));
    races(&early, "ld.shared");
}

/// A copy to a block that does not wait for it, complete or not.
#[test]
fn a_block_waits_for_what_is_sent_to_it() {
    for end in [
        "",
        SYNC,
        "mov.u32 %r20, 0; L: nanosleep.u32 100; add.u32 %r20, %r20, 1; setp.lt.u32 %p4, %r20, 50; @%p4 bra L;",
    ] {
        wrong(&format!("{EXPECT_WORD} {SEND} {end}"), FaultKind::MissingWait);
    }
}

#[test]
fn copies_go_to_blocks_that_have_begun() {
    let begins = PROLOGUE.rfind("barrier.cluster.arrive;").unwrap();
    for send in
        [SEND, "@%p0 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r9], [t], 128, [%r10];"]
    {
        let text = kernel_with(SHARED, &format!("{} {MEET} {send} {SYNC}", &PROLOGUE[..begins]));
        for seed in 0..6 {
            let mut device = Device::new();
            device.config.seed = seed;
            let buffer = device.upload(&[0u32; 1024]);
            let fault = device.launch_clusters(&text, (4, 2, 64), &[buffer, buffer, 0, 0]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::PeerNotRunning, "seed {seed}: {fault}");
        }
    }
}
