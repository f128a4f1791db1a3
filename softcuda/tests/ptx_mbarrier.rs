//! `mbarrier` objects: phases, states, transactions, and their misuse.
#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

mod ptx_support;

use ptx_support::{Device, fault, kernel_with};
use softcuda::Config;
use softcuda::counters::Counters;
use softcuda::fault::{Fault, FaultKind};

const SHARED: &str = ".shared .align 8 .b64 bar[4]; .shared .align 16 .b8 s[1024];";

/// `%r1` is the thread, `%rd3` where it has its 32-bit result.
const INDEX: &str = "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2; setp.eq.u32 %p1, %r1, 0;";

/// Waits for the phase with a parity.
fn wait(parity: u32, label: &str) -> String {
    format!("{label}: mbarrier.try_wait.parity.shared::cta.b64 %p9, [bar], {parity}; @!%p9 bra {label};")
}

fn seeds() -> impl Iterator<Item = Device> {
    (0..12).map(|seed| Device::with(Config { workers: 1, seed, ..Config::capability(9, 0) }))
}

fn launch(device: &Device, body: &str, threads: u32, out: u64) -> Result<Counters, Fault> {
    device.launch(&kernel_with(SHARED, &format!("{INDEX} {body}")), 1, threads, &[out, 0, 0, 0])
}

fn init(count: u32) -> String {
    format!("@%p1 mbarrier.init.shared::cta.b64 [bar], {count}; bar.sync 0;")
}

/// Warp 1 waits for what warp 0 wrote, says that it has it, and waits for more, with a state.
#[test]
fn threads_wait_for_arrivals() {
    let body = format!(
        "@%p1 mbarrier.init.shared.b64 [bar+8], 32; {} setp.lt.u32 %p2, %r1, 32; and.b32 %r2, %r1, 31;
         mov.u32 %r3, s; mad.lo.u32 %r3, %r2, 4, %r3; @!%p2 bra CONSUME;
         st.shared.u32 [%r3], %r2; mbarrier.arrive.release.cta.shared::cta.b64 _, [bar]; {}
         add.u32 %r4, %r2, 100; st.shared.u32 [%r3], %r4; mbarrier.arrive.shared.b64 %rd4, [bar]; bra END;
         CONSUME: {} ld.shared.u32 %r4, [%r3]; mbarrier.arrive.shared.b64 %rd5, [bar+8]; mov.b64 %rd6, 4294967328;
         STATE: mbarrier.test_wait.acquire.cta.shared::cta.b64 %p3, [bar], %rd6; @!%p3 bra STATE;
         ld.shared.u32 %r5, [%r3]; add.u32 %r4, %r4, %r5; st.global.u32 [%rd3], %r4; END:",
        init(32),
        wait(0, "A").replace("[bar]", "[bar+8]"),
        wait(0, "B"),
    );
    for device in seeds() {
        let out = device.upload(&[0u32; 64]);
        launch(&device, &body, 64, out).unwrap();
        let expected: Vec<u32> = (0..32).map(|i| 2 * i + 100).collect();
        assert_eq!(device.download::<u32>(out, 64)[32..], expected);
    }
}

#[test]
fn states_drops_and_counts() {
    let device = Device::new();
    let out = device.upload(&[0u32; 4]);
    let body = "mbarrier.init.shared.b64 [bar], 7; mbarrier.arrive.shared.b64 %rd4, [bar], 2;
        mbarrier.arrive.noComplete.shared.b64 %rd5, [bar], 3; mbarrier.arrive_drop.shared.b64 %rd6, [bar];
        mbarrier.arrive_drop.shared.b64 %rd7, [bar]; mbarrier.arrive.b64 %rd8, [%rd20];
        mbarrier.pending_count.b64 %r2, %rd4; mbarrier.pending_count.b64 %r3, %rd5;
        mbarrier.pending_count.b64 %r4, %rd7; mbarrier.pending_count.b64 %r5, %rd8;
        mbarrier.test_wait.parity.shared.b64 %p2, [bar], 0; mbarrier.test_wait.parity.shared.b64 %p3, [bar], 1;
        mbarrier.test_wait.shared.b64 %p4, [bar], %rd4; mbarrier.test_wait.shared.b64 %p5, [bar], %rd8;
        selp.u32 %r6, 1, 0, %p2; @%p3 add.u32 %r6, %r6, 2; @%p4 add.u32 %r6, %r6, 4; @%p5 add.u32 %r6, %r6, 8;
        mad.lo.u32 %r2, %r2, 10, %r3; mad.lo.u32 %r2, %r2, 10, %r4; mad.lo.u32 %r2, %r2, 10, %r5;
        mad.lo.u32 %r2, %r2, 100, %r6; st.global.u32 [%rd3], %r2; mbarrier.inval.shared.b64 [bar];
        st.shared.u64 [bar], %rd4; mbarrier.init.shared.b64 [bar], 1;";
    launch(&device, &format!("mov.u64 %rd20, bar; cvta.shared.u64 %rd20, %rd20; {body}"), 1, out).unwrap();
    assert_eq!(device.download::<u32>(out, 1), [751_505]);
}

#[test]
fn transactions_hold_a_phase_open() {
    for device in seeds() {
        let out = device.upload(&[0u32; 32]);
        let body = format!(
            "{} @!%p1 bra WAIT; mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], 48;
             mbarrier.test_wait.parity.shared.b64 %p2, [bar], 0; @%p2 trap; mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [bar], 16;
             mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [bar], 48; mbarrier.test_wait.parity.shared.b64 %p2, [bar], 0;
             @%p2 trap; mbarrier.complete_tx.shared::cta.b64 [bar], 16; WAIT: {} st.global.u32 [%rd3], 1;",
            init(1),
            wait(0, "A"),
        );
        launch(&device, &body, 32, out).unwrap();
        assert_eq!(device.download::<u32>(out, 32), [1; 32]);
    }
}

/// Arrivals at the object of a peer.
#[test]
fn blocks_arrive_at_each_others_objects() {
    let body = format!(
        "{INDEX} mov.u32 %r2, %cluster_ctarank; @%p1 mbarrier.init.shared.b64 [bar], 64;
         fence.mbarrier_init.release.cluster; barrier.cluster.arrive; barrier.cluster.wait; xor.b32 %r3, %r2, 1;
         mov.u32 %r4, bar; mapa.shared::cluster.u32 %r4, %r4, %r3;
         mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r4];
         mapa.shared::cluster.u32 %r5, %r4, %r2; mbarrier.arrive.shared::cluster.b64 _, [%r5];
         WAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p9, [bar], 0, 1000; @!%p9 bra WAIT;
         barrier.cluster.arrive; barrier.cluster.wait;"
    );
    for device in seeds() {
        device.launch_clusters(&kernel_with(SHARED, &body), (4, 2, 32), &[0; 4]).unwrap();
        let early = body.replace("bra WAIT;\n         barrier.cluster.arrive; barrier.cluster.wait;", "bra WAIT;");
        assert_ne!(early, body);
        device.launch_clusters(&kernel_with(SHARED, &early), (4, 2, 32), &[0; 4]).unwrap();
    }
}

/// `cp.async.mbarrier.arrive` arrives when the thread's copies are there, and not before.
#[test]
fn copies_arrive() {
    for (count, form, arrive) in [(32, ".noinc", ""), (32, "", "mbarrier.arrive.shared.b64 _, [bar];")] {
        for device in seeds() {
            let source: Vec<u32> = (0..64).collect();
            let out = device.upload(&source);
            let body = format!(
                "{} mov.u32 %r2, s; mad.lo.u32 %r2, %r1, 4, %r2; cp.async.ca.shared.global [%r2], [%rd3], 4;
                 cp.async.mbarrier.arrive{form}.shared.b64 [bar]; {arrive} WAITING ld.shared.u32 %r3, [%r2];
                 add.u32 %r3, %r3, 5; st.global.u32 [%rd3], %r3;",
                init(count),
            );
            launch(&device, &body.replace("WAITING", &wait(0, "A")), 32, out).unwrap();
            let expected: Vec<u32> = (5..37).collect();
            assert_eq!(device.download::<u32>(out, 32), expected);
            fault(launch(&device, &body.replace("WAITING", ""), 32, out), FaultKind::MissingWait);
        }
    }
}

#[test]
fn misuse() {
    let device = Device::new();
    let good = "mbarrier.init.shared.b64 [bar], 2;";
    for (body, what) in [
        ("mbarrier.arrive.shared.b64 _, [bar];", "no mbarrier at offset"),
        ("mbarrier.try_wait.parity.shared.b64 %p2, [bar], 0;", "no mbarrier at offset"),
        ("mbarrier.init.shared.b64 [bar], 0;", "counts from 1"),
        ("mbarrier.init.shared.b64 [bar], 2; mbarrier.init.shared.b64 [bar], 2;", "not invalidated"),
        ("mbarrier.init.shared.b64 [bar], 2; mbarrier.arrive.shared.b64 _, [bar], 3;", "3 arrivals"),
        ("mbarrier.init.shared.b64 [bar], 2; mbarrier.arrive.noComplete.shared.b64 %rd4, [bar], 2;", "noComplete"),
        (
            "mbarrier.init.shared.b64 [bar], 2; mbarrier.inval.shared.b64 [bar]; mbarrier.arrive.shared.b64 _, [bar];",
            "no mbarrier",
        ),
        ("mbarrier.init.shared.b64 [bar], 2; mbarrier.expect_tx.shared::cta.b64 [bar], 1048576;", "counts up to"),
        ("mbarrier.init.shared.b64 [bar], 2; ld.shared.u32 %r2, [bar+4];", "holds an mbarrier"),
        ("mbarrier.init.shared.b64 [bar], 2; st.shared.u8 [bar+1], %r1;", "holds an mbarrier"),
        ("mbarrier.init.shared.b64 [bar], 2; red.shared.add.u32 [bar], 1;", "holds an mbarrier"),
        ("mbarrier.init.shared.b64 [bar], 2; cp.async.ca.shared.global [bar], [%rd1], 4;", "holds an mbarrier"),
    ] {
        let out = device.upload(&[0u32; 4]);
        let error = fault(launch(&device, body, 1, out), FaultKind::BadMbarrier);
        assert!(error.detail.contains(what), "{body}: {error}");
    }
    launch(&device, &format!("{good} mbarrier.init.shared.b64 [bar+8], 2; st.shared.u32 [bar+16], 1;"), 1, 0).unwrap();
    fault(launch(&device, "mbarrier.init.shared.b64 [bar+4], 1;", 1, 0), FaultKind::Misaligned);
    fault(launch(&device, "mbarrier.init.shared.b64 [bar+2048], 1;", 1, 0), FaultKind::OutOfBounds);
    fault(launch(&device, "mbarrier.init.shared.b64 [bar], %r9;", 1, 0), FaultKind::Uninitialised);
}

/// A phase that never completes says what it lacks.
#[test]
fn deadlock_reports_say_what_is_outstanding() {
    let device = Device::new();
    let bytes = format!("{} @%p1 mbarrier.arrive.expect_tx.shared.b64 _, [bar], 64; {}", init(1), wait(0, "A"));
    let error = fault(launch(&device, &bytes, 32, 0), FaultKind::Deadlock);
    assert!(error.detail.contains("0 arrivals are outstanding, 64 bytes"), "{error}");
    let arrivals = format!("{} mbarrier.arrive.shared.b64 _, [bar]; {}", init(33), wait(0, "A"));
    let error = fault(launch(&device, &arrivals, 32, 0), FaultKind::Deadlock);
    assert!(error.detail.contains("1 arrivals are outstanding, 0 bytes"), "{error}");
}
