//! Thread-block clusters: their registers, addresses, memory and barrier.
#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

mod ptx_support;

use ptx_support::{Device, fault, kernel, kernel_with};
use softcuda::Config;
use softcuda::fault::FaultKind;

/// `%rd3` is where this thread of the grid has its result, `%r1` its index in the block, `%r2` the
/// rank of the block.
const INDEX: &str = "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x;
    mad.lo.u32 %r5, %r3, %r4, %r1; mul.wide.u32 %rd2, %r5, 4; add.s64 %rd3, %rd1, %rd2;
    mov.u32 %r2, %cluster_ctarank;";

const SHARED: &str = ".shared .align 8 .b8 s[256];";

const SYNC: &str = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;";

fn seeds() -> impl Iterator<Item = Device> {
    (0..20).map(|seed| Device::with(Config { workers: 1, seed, ..Config::capability(9, 0) }))
}

#[test]
fn registers() {
    let text = kernel(&format!(
        "{INDEX} mov.u32 %r6, %cluster_nctarank; mov.u32 %r7, %clusterid.x; mov.u32 %r8, %nclusterid.x;
         mov.u32 %r9, %cluster_ctaid.x; mad.lo.u32 %r2, %r2, 10, %r6; mad.lo.u32 %r2, %r2, 10, %r7;
         mad.lo.u32 %r2, %r2, 10, %r8; mad.lo.u32 %r2, %r2, 10, %r9; st.global.u32 [%rd3], %r2;"
    ));
    let device = Device::new();
    let out = device.upload(&[0u32; 8]);
    device.launch_clusters(&text, (8, 4, 1), &[out, 0, 0, 0]).unwrap();
    let expected: Vec<u32> = (0..8).map(|block| block % 4 * 10_000 + 4000 + block / 4 * 100 + 20 + block % 4).collect();
    assert_eq!(device.download::<u32>(out, 8), expected);
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let device = Device::new();
    let text = kernel("");
    device.launch_clusters(&text, (16, 16, 1), &[0; 4]).unwrap();
    for (grid, cluster) in [(17, 17), (6, 4), (4, 0)] {
        fault(device.launch_clusters(&text, (grid, cluster, 1), &[0; 4]), FaultKind::BadLaunch);
    }
    let old = Device::with(Config::capability(8, 0));
    fault(old.launch_clusters(&text, (2, 2, 1), &[0; 4]), FaultKind::BadLaunch);
    let fixed = text.replace(".param .u64 p3)", ".param .u64 p3) .reqnctapercluster 2");
    device.launch_clusters(&fixed, (4, 2, 1), &[0; 4]).unwrap();
    fault(device.launch_clusters(&fixed, (4, 4, 1), &[0; 4]), FaultKind::BadLaunch);
}

/// Each thread writes to its own block and reads from the next one, by every kind of address.
#[test]
fn blocks_read_and_write_each_other() {
    let next = "add.u32 %r6, %r2, 1; and.b32 %r6, %r6, 3; mov.u32 %r7, s; mad.lo.u32 %r7, %r1, 4, %r7;
        mad.lo.u32 %r8, %r3, 100, %r1;";
    let narrow = "mapa.shared::cluster.u32 %r9, %r7, %r6;";
    let generic = "cvt.u64.u32 %rd4, %r7; cvta.shared.u64 %rd4, %rd4; mapa.u64 %rd4, %rd4, %r6;";
    for (map, read) in [
        (narrow, "ld.shared::cluster.u32 %r10, [%r9];"),
        (narrow, "ld.relaxed.cluster.shared::cluster.u32 %r10, [%r9];"),
        (narrow, "atom.shared::cluster.add.u32 %r10, [%r9], 0;"),
        (generic, "ld.u32 %r10, [%rd4];"),
        (generic, "cvta.to.shared.u64 %rd5, %rd4; ld.shared::cluster.u32 %r10, [%rd5];"),
    ] {
        for device in seeds() {
            let body = format!(
                "{INDEX} {next} st.shared.u32 [%r7], %r8; {SYNC} {map} {read} st.global.u32 [%rd3], %r10; {SYNC}"
            );
            let out = device.upload(&[0u32; 8 * 32]);
            let counters = device.launch_clusters(&kernel_with(SHARED, &body), (8, 4, 32), &[out, 0, 0, 0]).unwrap();
            assert_eq!(counters.cluster_barriers, 4);
            let expected: Vec<u32> = (0..256).map(|i| (i / 32 / 4 * 4 + (i / 32 + 1) % 4) * 100 + i % 32).collect();
            assert_eq!(device.download::<u32>(out, 256), expected, "{read}");
        }
    }
    for (map, write) in [
        (narrow, "st.shared::cluster.u32 [%r9], %r8;"),
        (narrow, "st.shared.u32 [%r7], 0; red.shared::cluster.add.u32 [%r9], %r8;"),
        (generic, "st.u32 [%rd4], %r8;"),
    ] {
        for device in seeds() {
            let body = format!(
                "{INDEX} {next} st.shared.u32 [%r7], 0; {SYNC} {map} {} {SYNC} ld.shared.u32 %r10, [%r7];
                 st.global.u32 [%rd3], %r10;",
                write.trim_start_matches("st.shared.u32 [%r7], 0;"),
            );
            let out = device.upload(&[0u32; 8 * 32]);
            device.launch_clusters(&kernel_with(SHARED, &body), (8, 4, 32), &[out, 0, 0, 0]).unwrap();
            let expected: Vec<u32> = (0..256).map(|i| (i / 32 / 4 * 4 + (i / 32 + 3) % 4) * 100 + i % 32).collect();
            assert_eq!(device.download::<u32>(out, 256), expected, "{write}");
        }
    }
}

#[test]
fn addresses_know_their_block() {
    let text = kernel_with(
        SHARED,
        &format!(
            "{INDEX} mov.u32 %r7, s; mapa.shared::cluster.u32 %r8, %r7, 1; getctarank.shared::cluster.u32 %r9, %r8;
             getctarank.shared::cluster.u32 %r10, %r7; cvt.u64.u32 %rd4, %r8; cvta.shared::cluster.u64 %rd4, %rd4;
             getctarank.u64 %r11, %rd4; isspacep.shared::cluster %p1, %rd4; isspacep.shared::cta %p2, %rd4;
             selp.u32 %r12, 1, 0, %p1; selp.u32 %r13, 1, 0, %p2; mad.lo.u32 %r9, %r9, 10, %r10;
             mad.lo.u32 %r9, %r9, 10, %r11; mad.lo.u32 %r9, %r9, 10, %r12; mad.lo.u32 %r9, %r9, 10, %r13;
             st.global.u32 [%rd3], %r9; mapa.shared::cluster.u32 %r8, %r7, %r2; st.shared.u32 [%r8], 7;
             ld.shared.u32 %r9, [%r7]; atom.shared.add.u32 %r9, [%r8], 1;"
        ),
    );
    let device = Device::new();
    let out = device.upload(&[0u32; 2]);
    device.launch_clusters(&text, (2, 2, 1), &[out, 0, 0, 0]).unwrap();
    assert_eq!(device.download::<u32>(out, 2), [10_110, 11_111]);
}

#[test]
fn addresses_outside_of_what_they_say() {
    let device = Device::new();
    let launch = |body: &str| {
        let text = kernel_with(SHARED, &format!("{INDEX} mov.u32 %r7, s; st.shared.u32 [s], 1; {SYNC} {body} {SYNC}"));
        device.launch_clusters(&text, (2, 2, 1), &[0; 4])
    };
    let peer = "xor.b32 %r6, %r2, 1; mapa.shared::cluster.u32 %r8, %r7, %r6;";
    launch(&format!("{peer} ld.shared::cluster.u32 %r9, [%r8];")).unwrap();
    // `.shared` is `.shared::cta`.
    for access in ["ld.shared.u32 %r9, [%r8];", "st.shared.u32 [%r8], 1;", "red.shared.add.u32 [%r8], 1;"] {
        let error = fault(launch(&format!("{peer} {access}")), FaultKind::OutOfBounds);
        assert!(error.detail.contains(" of the cluster"), "{error}");
    }
    let error = fault(launch("mapa.shared::cluster.u32 %r8, %r7, 2;"), FaultKind::OutOfBounds);
    assert!(error.detail.contains("block 2 of a cluster of 2"), "{error}");
    fault(launch(&format!("{peer} ld.shared::cluster.u32 %r9, [%r8+256];")), FaultKind::OutOfBounds);
    fault(launch(&format!("{peer} ld.shared::cluster.u32 %r9, [%r8+2];")), FaultKind::Misaligned);
}

/// Nobody may touch the memory of a block that need not have begun, or may have exited.
#[test]
fn a_block_must_be_there_while_others_use_its_memory() {
    let read = "mov.u32 %r7, s; xor.b32 %r6, %r2, 1; mapa.shared::cluster.u32 %r8, %r7, %r6;
        ld.shared::cluster.u32 %r9, [%r8];";
    for device in seeds() {
        let launch = |before: &str, after: &str| {
            let text = kernel_with(SHARED, &format!("{INDEX} st.shared.u32 [s], 1; {before} {read} {after}"));
            device.launch_clusters(&text, (2, 2, 32), &[0; 4])
        };
        launch(SYNC, SYNC).unwrap();
        let error = fault(launch("", SYNC), FaultKind::PeerNotRunning);
        assert!(error.detail.contains("need not have begun"), "{error}");
        let error = fault(launch(SYNC, ""), FaultKind::PeerNotRunning);
        assert!(error.detail.contains("have exited") || error.detail.contains("has exited"), "{error}");
    }
}

#[test]
fn the_barrier_of_a_cluster() {
    let device = Device::new();
    let launch = |body: &str| device.launch_clusters(&kernel(&format!("{INDEX} {body}")), (4, 2, 64), &[0; 4]);
    // Work between arrival and wait, and threads that exit instead of coming.
    launch("barrier.cluster.arrive.relaxed; add.u32 %r9, %r1, 1; barrier.cluster.wait.acquire;").unwrap();
    launch("setp.eq.u32 %p1, %r2, 0; @%p1 exit; barrier.cluster.arrive; barrier.cluster.wait;").unwrap();
    launch("barrier.cluster.arrive; setp.eq.u32 %p1, %r1, 3; @%p1 exit; barrier.cluster.wait;").unwrap();
    launch(
        "setp.lt.u32 %p1, %r1, 5; @%p1 bra L; barrier.cluster.arrive; barrier.cluster.wait; bra E;
         L: barrier.cluster.arrive; barrier.cluster.wait; E:",
    )
    .unwrap();
    let error = fault(launch("barrier.cluster.arrive; barrier.cluster.arrive;"), FaultKind::BarrierDivergence);
    assert!(error.detail.contains("did not wait since"), "{error}");
    let error = fault(launch("barrier.cluster.wait;"), FaultKind::BarrierDivergence);
    assert!(error.detail.contains("did not arrive"), "{error}");
    let one_block = "setp.eq.u32 %p1, %r2, 0; @%p1 bra L; bar.sync 0, 64; barrier.cluster.arrive; barrier.cluster.wait;
        bra E; L: bar.sync 1, 128; E:";
    fault(launch(one_block), FaultKind::BarrierDivergence);
    let partial = "setp.lt.u32 %p1, %r1, 5; @%p1 bra L; barrier.cluster.arrive.aligned; L: bar.warp.sync -1;";
    fault(launch(partial), FaultKind::BarrierDivergence);
    let missing = "setp.lt.u32 %p1, %r1, 32; @%p1 bra L; barrier.cluster.arrive; barrier.cluster.wait; L: bar.sync 0;";
    let error = fault(launch(missing), FaultKind::BarrierDivergence);
    assert!(error.detail.contains("barrier"), "{error}");
}

/// Blocks of a cluster that hand a value round by polling each other's memory.
#[test]
fn blocks_of_a_cluster_run_together() {
    for device in seeds() {
        let text = kernel_with(
            SHARED,
            &format!(
                "{INDEX} st.shared.u32 [s], 0; {SYNC} add.u32 %r6, %r2, 1; mov.u32 %r7, s;
                 setp.eq.u32 %p1, %r2, 0; @%p1 bra SEND;
                 WAIT: ld.acquire.cluster.shared::cluster.u32 %r9, [%r7]; setp.eq.u32 %p2, %r9, 0; @%p2 bra WAIT;
                 SEND: setp.eq.u32 %p3, %r6, 4; @%p3 bra DONE; mapa.shared::cluster.u32 %r8, %r7, %r6;
                 st.release.cluster.shared::cluster.u32 [%r8], %r6; DONE: {SYNC} ld.shared.u32 %r10, [s];
                 st.global.u32 [%rd3], %r10;"
            ),
        );
        let out = device.upload(&[9u32; 8]);
        device.launch_clusters(&text, (8, 4, 1), &[out, 0, 0, 0]).unwrap();
        assert_eq!(device.download::<u32>(out, 8), [0, 1, 2, 3, 0, 1, 2, 3]);
    }
}
