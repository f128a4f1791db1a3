//! Races between the blocks of a cluster, and blocks that are not there yet, or no more, when others
//! access their shared memory: found by what orders the two, in whatever order the blocks run.

mod ptx_support;

use ptx_support::{Device, kernel_with};
use softcuda::fault::{Fault, FaultKind};

const SYNC: &str = "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;";
const RELAXED: &str = "barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;";

/// `%r1` is the thread and `%r2` the rank of two blocks of 64 threads; `%p0` is true in thread 0, `%p1` in
/// block 0, `%p2` in thread 0 of block 1. `%r4` is the thread's word in shared memory, `%r5` the same in the
/// other block, `%r6` the other block's object.
const PROLOGUE: &str = "mov.u32 %r1, %tid.x; mov.u32 %r2, %cluster_ctarank; xor.b32 %r3, %r2, 1; mov.u32 %r4, tile;
    mad.lo.u32 %r4, %r1, 4, %r4; mapa.shared::cluster.u32 %r5, %r4, %r3; mov.u32 %r6, flag;
    mapa.shared::cluster.u32 %r6, %r6, %r3; setp.eq.u32 %p0, %r1, 0; setp.eq.u32 %p1, %r2, 0;
    setp.eq.and.u32 %p2, %r2, 1, %p0; st.shared.u32 [%r4], %r1;
    @%p0 mbarrier.init.shared.b64 [flag], 1; bar.sync 0;";

fn run(body: &str, seed: u64) -> Option<Fault> {
    let mut device = Device::new();
    device.config.seed = seed;
    let text = kernel_with(
        ".shared .align 16 .b8 tile[1024];\n.shared .align 8 .b8 flag[64];",
        &format!("{PROLOGUE}\n{body}"),
    );
    device.launch_clusters(&text, (4, 2, 64), &[0; 4]).err()
}

/// Bodies that are right under every seed.
fn right(body: &str) {
    for seed in 0..6 {
        assert_eq!(run(body, seed), None, "seed {seed}:\n{body}");
    }
}

/// Bodies that are wrong under every seed.
fn wrong(body: &str, kind: FaultKind) -> Fault {
    for seed in 1..6 {
        assert_eq!(run(body, seed).map(|fault| fault.kind), Some(kind), "seed {seed}:\n{body}");
    }
    let fault = run(body, 0).unwrap_or_else(|| panic!("no error:\n{body}"));
    assert_eq!(fault.kind, kind, "{fault}\n{body}");
    fault
}

/// Thread 0 of block 1, which goes on first after a barrier, uses memory of block 0, which is still there.
const ACCESSES: [&str; 6] = [
    "@%p2 ld.shared::cluster.u32 %r7, [%r5];",
    "@%p2 st.shared::cluster.u32 [%r5], 1;",
    "@%p2 atom.shared::cluster.add.u32 %r7, [%r5], 1;",
    "@%p2 red.relaxed.cluster.shared::cluster.add.u32 [%r5], 1;",
    "@%p2 st.relaxed.cluster.shared::cluster.u32 [%r5], 1;",
    "cvt.u64.u32 %rd4, %r5; cvta.shared::cluster.u64 %rd4, %rd4; @%p2 ld.u32 %r7, [%rd4];",
];

#[test]
fn a_block_stays_until_others_are_done_with_its_memory() {
    for access in ACCESSES {
        right(&format!("{SYNC} {access} {SYNC}"));
        right(&format!("{SYNC} {access} fence.acq_rel.cluster; {RELAXED}"));
        for end in
            ["", "bar.sync 0;", RELAXED, "fence.acq_rel.cta; barrier.cluster.arrive.relaxed; barrier.cluster.wait;"]
        {
            let fault = wrong(&format!("{SYNC} {access} {end}"), FaultKind::PeerNotRunning);
            assert!(fault.detail.contains("of block (0,0,0), which may have exited"), "{fault}");
            assert_eq!((fault.block, fault.thread), ([1, 0, 0], [0; 3]));
            assert!(fault.ptx_text.contains(access.rsplit("; ").next().unwrap()), "{fault}");
        }
    }
}

/// One thread that knows of the access is enough, if it exits later.
#[test]
fn an_object_keeps_a_block() {
    let wait = "setp.ne.and.u32 %p4, %r2, 1, %p0; @!%p4 bra E;
        W: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 %p9, [flag], 0; @!%p9 bra W; E:";
    let arrive = "@%p2 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r6];";
    let read = ACCESSES[0];
    right(&format!("{SYNC} {read} {arrive} {wait}"));
    wrong(&format!("{SYNC} {arrive} {read} {wait}"), FaultKind::PeerNotRunning);
    // The arrival is an access as well.
    wrong(&format!("{SYNC} {arrive}"), FaultKind::PeerNotRunning);
}

#[test]
fn a_block_has_begun_when_others_use_its_memory() {
    for access in ACCESSES {
        // Strong, as is what the other block did there, or at another place.
        let access = access.replace("[%r5]", "[%r5+256]").replace("%r5;", "%r5; add.s64 %rd4, %rd4, 0;");
        let first = "st.shared.u32 [%r4+256], 1;";
        right(&format!("{first} {SYNC} {access} {SYNC}"));
        let fault = wrong(&format!("{access} {SYNC}"), FaultKind::PeerNotRunning);
        assert!(fault.detail.contains("need not have begun"), "{fault}");
    }
    // That it has begun is all that a relaxed arrival says.
    right(&format!("{RELAXED} @%p2 st.shared::cluster.u32 [%r5+256], 1; {SYNC}"));
}

/// A word in each block, which the other one reads.
fn exchange(between: &str) -> String {
    format!("{SYNC} st.shared.u32 [%r4], 7; {between} ld.shared::cluster.u32 %r7, [%r5]; {SYNC}")
}

#[test]
fn the_barrier_of_a_cluster_orders() {
    right(&exchange(SYNC));
    wrong(&exchange("bar.sync 0;"), FaultKind::Race);
}

#[test]
fn a_relaxed_arrival_releases_nothing() {
    right(&exchange(&format!("fence.acq_rel.cluster; {RELAXED}")));
    right(&exchange(&format!("membar.gl; bar.sync 0; {RELAXED}")));
    wrong(&exchange(RELAXED), FaultKind::Race);
    wrong(&exchange(&format!("fence.acq_rel.cta; {RELAXED}")), FaultKind::Race);
    wrong(&exchange(&format!("fence.mbarrier_init.release.cluster; {RELAXED}")), FaultKind::Race);
    wrong(&exchange(&format!("{RELAXED} fence.acq_rel.cluster;")), FaultKind::Race);
}

/// Warp 1 reads what warp 0 wrote, after an object's phase.
fn handed_over(before: &str, arrive: &str, wait: &str, after: &str) -> String {
    format!(
        "setp.lt.u32 %p3, %r1, 32; @!%p3 bra W; @!%p0 bra E; st.shared.u32 [%r4], 9; {before}
         mbarrier.arrive.{arrive}.cta.shared::cta.b64 _, [flag]; bra E;
         W: mbarrier.try_wait.parity.{wait}.cta.shared::cta.b64 %p9, [flag], 0; @!%p9 bra W;
         {after} ld.shared.u32 %r7, [tile]; E:"
    )
}

#[test]
fn relaxed_operations_on_objects() {
    let fence = "fence.acq_rel.cta;";
    right(&handed_over("", "release", "acquire", ""));
    wrong(&handed_over("", "relaxed", "acquire", ""), FaultKind::Race);
    wrong(&handed_over("", "release", "relaxed", ""), FaultKind::Race);
    right(&handed_over(fence, "relaxed", "acquire", ""));
    right(&handed_over("", "release", "relaxed", fence));
}

/// Atomic operations for their own blocks only, on one word from two.
#[test]
fn scopes_in_the_memory_of_a_cluster() {
    let both = |scope: &str| {
        format!(
            "{SYNC} mapa.shared::cluster.u32 %r8, %r4, 0;
             @%p0 red.relaxed.{scope}.shared::cluster.add.u32 [%r8], 1; {SYNC}"
        )
    };
    right(&both("cluster"));
    let fault = wrong(&both("cta"), FaultKind::Race);
    assert!(fault.detail.contains("(.cta)"), "{fault}");
}

/// All warps of one block read a word of the other, which then writes it.
#[test]
fn readers_meet_the_writer_at_the_barrier_of_the_cluster() {
    let body = |between: &str| {
        format!(
            "{SYNC} mov.u32 %r7, tile; mapa.shared::cluster.u32 %r8, %r7, %r3; ld.shared::cluster.u32 %r9, [%r8];
             {between} @%p0 st.shared.u32 [tile], %r1; {SYNC}"
        )
    };
    right(&body(SYNC));
    wrong(&body("bar.sync 0;"), FaultKind::Race);
}
