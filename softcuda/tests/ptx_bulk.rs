//! Bulk copies and asynchronous stores, and what goes wrong around them.
#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

mod ptx_support;

use ptx_support::{Device, fault, kernel_with};
use softcuda::Config;
use softcuda::counters::Counters;
use softcuda::exec::{LoadErrorKind, Module};
use softcuda::fault::{Fault, FaultKind};

const SHARED: &str = ".shared .align 8 .b64 bar; .shared .align 16 .b8 s[1024]; .shared .align 16 .b8 t[1024];";

const BULK: &str = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes";

/// `%r1` is the thread, `%r2` the rank, `%rd1` the source, `%rd3` where the thread of the grid has
/// its result; one object, which the blocks of a cluster know of, for one arrival.
const BEGIN: &str = "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.u32 %r1, %tid.x; mov.u32 %r3, %ctaid.x;
    mov.u32 %r4, %ntid.x; mad.lo.u32 %r4, %r3, %r4, %r1; mul.wide.u32 %rd3, %r4, 4; add.s64 %rd3, %rd2, %rd3;
    mov.u32 %r2, %cluster_ctarank; setp.eq.u32 %p1, %r1, 0; mov.u32 %r5, s; mad.lo.u32 %r6, %r1, 4, %r5;
    @%p1 mbarrier.init.shared.b64 [bar], 1; fence.mbarrier_init.release.cluster; barrier.cluster.arrive; barrier.cluster.wait;";

const EXPECT: &str = "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 128;";
const WAIT: &str = "W: mbarrier.try_wait.parity.shared::cta.b64 %p9, [bar], 0; @!%p9 bra W;";
const RESULT: &str = "ld.shared.u32 %r7, [%r6]; st.global.u32 [%rd3], %r7;";
const SYNC: &str = "barrier.cluster.arrive; barrier.cluster.wait;";

fn seeds() -> impl Iterator<Item = Device> {
    (0..12).map(|seed| Device::with(Config { workers: 1, seed, ..Config::capability(9, 0) }))
}

/// Source and destination of a launch of `blocks` blocks in one cluster.
fn launch(device: &Device, body: &str, blocks: u32) -> (Result<Counters, Fault>, Vec<u32>) {
    let source: Vec<u32> = (1000..1064).collect();
    let (source, out) = (device.upload(&source), device.upload(&vec![7u32; 32 * blocks as usize]));
    let text = kernel_with(SHARED, &format!("{BEGIN} {body}"));
    let result = device.launch_clusters(&text, (blocks, blocks, 32), &[source, out, 0, 0]);
    (result, device.download(out, 32 * blocks as usize))
}

#[test]
fn global_to_shared() {
    for dst in ["shared::cluster", "shared::cta"] {
        let copy = format!("@%p1 {} [s], [%rd1], 128, [bar];", BULK.replace("shared::cluster", dst));
        for device in seeds() {
            let (result, out) = launch(&device, &format!("{EXPECT} {copy} {WAIT} {RESULT}"), 1);
            result.unwrap();
            assert_eq!(out, (1000..1032).collect::<Vec<u32>>());
            // Nobody may look before the wait, whoever waits.
            for early in
                [format!("{EXPECT} {copy} {RESULT} {WAIT}"), format!("{EXPECT} {copy} st.shared.u32 [%r6], 1; {WAIT}")]
            {
                fault(launch(&device, &early, 1).0, FaultKind::MissingWait);
            }
        }
    }
    let device = Device::new();
    let copy = format!("@%p1 {BULK} [s], [%rd1], 128, [bar];");
    // Two copies to one place, and a block that exits before its copy is there.
    fault(launch(&device, &format!("{EXPECT} {copy} {copy} {WAIT}"), 1).0, FaultKind::MissingWait);
    let error = fault(launch(&device, &format!("{EXPECT} {copy}"), 1).0, FaultKind::MissingWait);
    assert!(error.detail.contains("exits while"), "{error}");
}

#[test]
fn transactions_must_add_up() {
    let device = Device::new();
    let copy = format!("@%p1 {BULK} [s], [%rd1], 128, [bar];");
    for (expected, what) in
        [(256, "128 bytes that it was told to expect are outstanding"), (64, "64 more bytes arrived")]
    {
        let expect = EXPECT.replace("128", &expected.to_string());
        let error = fault(launch(&device, &format!("{expect} {copy} {WAIT} {RESULT}"), 1).0, FaultKind::Deadlock);
        assert!(error.detail.contains(what), "{error}");
    }
    // A phase that completes with one of two copies.
    let two = format!(
        "{EXPECT} {copy} @%p1 {BULK} [t], [%rd1], 128, [bar]; {WAIT} {RESULT} ld.shared.u32 %r7, [t]; ld.shared.u32 %r7, [s];"
    );
    fault(launch(&device, &two, 1).0, FaultKind::MissingWait);
}

#[test]
fn operands_of_bulk_copies() {
    let device = Device::new();
    for (copy, kind) in [
        ("[s+8], [%rd1], 128, [bar];", FaultKind::Misaligned),
        ("[s], [%rd1+4], 128, [bar];", FaultKind::Misaligned),
        ("[s], [%rd1], 120, [bar];", FaultKind::Misaligned),
        ("[s], [%rd1+240], 32, [bar];", FaultKind::OutOfBounds),
        ("[t+1008], [%rd1], 32, [bar];", FaultKind::OutOfBounds),
        ("[s], [%rd1], 32, [s+64];", FaultKind::BadMbarrier),
        ("[s], [%rd1], %r9, [bar];", FaultKind::Uninitialised),
    ] {
        fault(launch(&device, &format!("@%p1 {BULK} {copy}"), 1).0, kind);
    }
}

#[test]
fn shared_to_global() {
    let write = "add.u32 %r7, %r1, 50; st.shared.u32 [%r6], %r7;";
    let fence = "fence.proxy.async.shared::cta; bar.sync 0;";
    let copy = "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd2], [s], 128; @%p1 cp.async.bulk.commit_group;";
    let wait = "@%p1 cp.async.bulk.wait_group.read 0; bar.sync 0;";
    for device in seeds() {
        for wait in [wait, "@%p1 cp.async.bulk.wait_group 0; bar.sync 0;"] {
            let (result, out) = launch(&device, &format!("{write} {fence} {copy} {wait} st.shared.u32 [%r6], 0;"), 1);
            result.unwrap();
            assert_eq!(out, (50..82).collect::<Vec<u32>>());
        }
        // The source is written again too early, or goes away, or was not made visible, or is nothing.
        let error = fault(
            launch(&device, &format!("{write} {fence} {copy} st.shared.u32 [%r6], 0; {wait}"), 1).0,
            FaultKind::MissingWait,
        );
        assert!(error.detail.contains("may still read"), "{error}");
        let one = wait.replace("read 0", "read 1");
        fault(
            launch(&device, &format!("{write} {fence} {copy} {one} st.shared.u32 [%r6], 0;"), 1).0,
            FaultKind::MissingWait,
        );
        fault(launch(&device, &format!("{write} {fence} {copy}"), 1).0, FaultKind::MissingWait);
        // That the copy is complete is no excuse: other threads do not know it.
        let poll = "L: ld.volatile.global.u32 %r7, [%rd3]; setp.eq.u32 %p9, %r7, 7; @%p9 bra L;";
        let body = format!("{write} {fence} {copy} {poll} st.shared.u32 [%r6], 0; {wait}");
        let quiet = Device::with(Config { races: false, ..device.config });
        fault(launch(&quiet, &body, 1).0, FaultKind::MissingWait);
        // Where races are looked for, the poll is one.
        fault(launch(&device, &body, 1).0, FaultKind::Race);
        fault(launch(&device, &format!("{write} bar.sync 0; {copy} {wait}"), 1).0, FaultKind::MissingFence);
        fault(launch(&device, &format!("{fence} {copy} {wait}"), 1).0, FaultKind::Uninitialised);
    }
}

#[test]
fn shared_to_the_shared_memory_of_a_peer() {
    let body = format!(
        "mad.lo.u32 %r7, %r2, 100, %r1; mov.u32 %r8, t; mad.lo.u32 %r9, %r1, 4, %r8; st.shared.u32 [%r9], %r7;
         fence.proxy.async; bar.sync 0; {EXPECT} add.u32 %r10, %r2, 1; and.b32 %r10, %r10, 1;
         mapa.shared::cluster.u32 %r11, %r5, %r10; mov.u32 %r12, bar; mapa.shared::cluster.u32 %r12, %r12, %r10;
         @%p1 cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r11], [%r8], 128, [%r12];
         {WAIT} {RESULT} {SYNC}"
    );
    for device in seeds() {
        let (result, out) = launch(&device, &body, 2);
        result.unwrap();
        assert_eq!(out, (100..132).chain(0..32).collect::<Vec<u32>>());
        let wrong = body.replace("128, [%r12]", "128, [bar]");
        fault(launch(&device, &wrong, 2).0, FaultKind::BadMbarrier);
    }
}

#[test]
fn multicast() {
    let copy = "setp.eq.u32 %p2, %r2, 1; and.pred %p2, %p1, %p2;
        @%p2 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [s], [%rd1+16], 128, [bar], MASK;";
    for device in seeds() {
        let (result, out) =
            launch(&device, &format!("{EXPECT} {SYNC} {} {WAIT} {RESULT} {SYNC}", copy.replace("MASK", "15")), 4);
        result.unwrap();
        assert_eq!(out, (0..128).map(|i| 1004 + i % 32).collect::<Vec<u32>>());
    }
    let body = format!("{EXPECT} {SYNC} {} {WAIT} {RESULT} {SYNC}", copy.replace("MASK", "7"));
    let error = fault(launch(&Device::new(), &body, 4).0, FaultKind::Deadlock);
    assert!(error.detail.contains("128 bytes"), "{error}");
    let body = format!("{EXPECT} {SYNC} {} {WAIT} {SYNC}", copy.replace("MASK", "31"));
    fault(launch(&Device::new(), &body, 4).0, FaultKind::OutOfBounds);
}

#[test]
fn asynchronous_stores() {
    let body = format!(
        "{EXPECT} {SYNC} xor.b32 %r10, %r2, 1; mapa.shared::cluster.u32 %r11, %r6, %r10; mov.u32 %r12, bar;
         mapa.shared::cluster.u32 %r12, %r12, %r10; mad.lo.u32 %r7, %r2, 100, %r1;
         st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r11], %r7, [%r12]; {WAIT} {RESULT} {SYNC}"
    );
    for device in seeds() {
        let (result, out) = launch(&device, &body, 2);
        result.unwrap();
        assert_eq!(out, (100..132).chain(0..32).collect::<Vec<u32>>());
        // Without a wait the peer may not even have begun to store.
        let error = launch(&device, &body.replace(WAIT, ""), 2).0.unwrap_err();
        assert!(matches!(error.kind, FaultKind::MissingWait | FaultKind::Uninitialised), "{error}");
        fault(launch(&device, &body.replace("mad.lo.u32 %r7, %r2, 100, %r1;", ""), 2).0, FaultKind::Uninitialised);
    }
    // Vectors, and reductions onto one word.
    let vector = format!(
        "{} {SYNC} mapa.shared::cluster.u32 %r11, %r5, %r2; mov.u32 %r12, bar; mapa.shared::cluster.u32 %r12, %r12, %r2;
         @%p1 st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.u32 [%r11], {{%r1, %r1, %r1, %r4}}, [%r12];
         {WAIT} ld.shared.u32 %r7, [s+8]; st.global.u32 [%rd3], %r7; {SYNC}",
        EXPECT.replace("128", "16")
    );
    let (result, out) = launch(&Device::new(), &vector, 1);
    result.unwrap();
    assert_eq!(out, [0; 32]);
    let red = format!(
        "st.shared.u32 [s], 5; {} {SYNC} mapa.shared::cluster.u32 %r11, %r5, 0; mov.u32 %r12, bar; mapa.shared::cluster.u32 %r12, %r12, 0;
         red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r11], %r1, [%r12];
         setp.ne.u32 %p2, %r2, 0; @%p2 bra E; {WAIT} ld.shared.u32 %r7, [s]; st.global.u32 [%rd3], %r7; E: {SYNC}",
        EXPECT.replace("128", "256")
    );
    for device in seeds() {
        let (result, out) = launch(&device, &red, 2);
        result.unwrap();
        assert_eq!(out[..32], [5 + 2 * 496; 32]);
        fault(launch(&device, &red.replace(WAIT, ""), 2).0, FaultKind::MissingWait);
    }
}

#[test]
fn reductions_of_bulk_copies() {
    let global = "st.shared.u32 [%r6], %r1; fence.proxy.async; bar.sync 0;
        @%p1 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd2], [s], 128;
        @%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;";
    let device = Device::new();
    let (result, out) = launch(&device, global, 1);
    result.unwrap();
    assert_eq!(out, (7..39).collect::<Vec<u32>>());
    let shared = format!(
        "st.shared.u32 [%r6], 3; mov.u32 %r8, t; mad.lo.u32 %r9, %r1, 4, %r8; st.shared.u32 [%r9], %r1; fence.proxy.async;
         {EXPECT} {SYNC} @%p1 cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.max.u32 [s], [t], 128, [bar];
         {WAIT} {RESULT}"
    );
    let (result, out) = launch(&device, &shared, 1);
    result.unwrap();
    assert_eq!(out, (0..32).map(|i: u32| i.max(3)).collect::<Vec<u32>>());
}

#[test]
fn what_is_not_done_says_so() {
    let device = Device::new();
    for instruction in [
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [s], [%rd1, {%r1, %r2}], [bar];",
        "cp.async.bulk.global.shared::cta.bulk_group.cp_mask [%rd1], [s], 128, %h1;",
    ] {
        let error = Module::load(&kernel_with(SHARED, instruction), &device.memory).unwrap_err();
        assert_eq!(error.kind, LoadErrorKind::Unsupported, "{error}");
        assert!(error.line > 0, "{error}");
    }
}
