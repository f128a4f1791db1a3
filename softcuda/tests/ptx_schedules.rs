//! What the seed draws: kernels whose results depend on luck have bad luck under one of 32 seeds, and
//! those that order what they do never have. Races are not looked for here, since they would be found
//! at once: what is tested is that the orders differ.
#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

mod ptx_support;

use std::collections::BTreeSet;

use ptx_support::{Device, kernel_with};
use softcuda::Config;

const SEEDS: u64 = 32;
const SHARED: &str = ".shared .align 16 .b8 tile[4096];";

fn config(seed: u64) -> Config {
    Config { workers: 1, seed, races: false, ..Config::capability(9, 0) }
}

/// What the kernel leaves in `words` words that begin as zeros, under each seed.
fn outcomes(text: &str, (grid, block): (u32, u32), words: usize) -> Vec<Vec<u32>> {
    let run = |seed| {
        let device = Device::with(config(seed));
        let out = device.upload(&vec![0u32; words]);
        device.launch(text, grid, block, &[out, 0, 0, 0]).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        device.download(out, words)
    };
    (0..SEEDS).map(run).collect()
}

/// The plain order gives `expected`, some other does not; `ordered`, the same kernel with what it
/// lacks, always gives it.
fn depends_on_luck(lucky: &str, ordered: &str, shape: (u32, u32), expected: &[u32]) {
    let found = outcomes(lucky, shape, expected.len());
    assert_eq!(found[0], expected, "the plain order");
    let telling = found.iter().filter(|outcome| *outcome != expected).count();
    eprintln!("{telling} of {SEEDS} orders tell");
    assert!(telling > 0, "no order tells");
    for (seed, outcome) in outcomes(ordered, shape, expected.len()).iter().enumerate() {
        assert_eq!(outcome, expected, "seed {seed}");
    }
}

/// Every thread writes its index to shared memory, and then to global memory what its neighbour wrote.
fn exchange(distance: u32, sync: &str) -> String {
    kernel_with(
        SHARED,
        &format!(
            "ld.param.u64 %rd0, [p0];
mov.u32 %r0, %tid.x;
mov.u32 %r1, tile;
mad.lo.u32 %r2, %r0, 4, %r1;
mov.u32 %r7, 0;
st.shared.u32 [%r2], %r7;
bar.sync 0;
st.shared.u32 [%r2], %r0;
{sync}
xor.b32 %r3, %r0, {distance};
mad.lo.u32 %r4, %r3, 4, %r1;
ld.shared.u32 %r5, [%r4];
mad.wide.u32 %rd1, %r0, 4, %rd0;
st.global.u32 [%rd1], %r5;"
        ),
    )
}

#[test]
fn lanes_of_a_warp_are_not_in_step() {
    let expected: Vec<u32> = (0..32).map(|lane| lane ^ 1).collect();
    depends_on_luck(&exchange(1, ""), &exchange(1, "bar.warp.sync -1;"), (1, 32), &expected);
}

#[test]
fn warps_run_in_any_order() {
    // Of the two warps the first reads before the second has written.
    let found = outcomes(&exchange(32, ""), (1, 64), 64);
    let different: BTreeSet<_> = found.iter().collect();
    assert!(different.len() > 2, "{}", different.len());
    let expected: Vec<u32> = (0..64).map(|thread| thread ^ 32).collect();
    for (seed, outcome) in outcomes(&exchange(32, "bar.sync 0;"), (1, 64), 64).iter().enumerate() {
        assert_eq!(outcome, &expected, "seed {seed}");
    }
}

#[test]
fn blocks_start_in_any_order() {
    // The number of a block, by the order in which they come.
    let body = "ld.param.u64 %rd0, [p0];
atom.global.add.u32 %r0, [%rd0], 1;
mov.u32 %r1, %ctaid.x;
mad.wide.u32 %rd1, %r0, 4, %rd0;
st.global.u32 [%rd1+4], %r1;";
    let found = outcomes(&kernel_with("", body), (8, 1), 9);
    assert_eq!(found[0], [8, 0, 1, 2, 3, 4, 5, 6, 7]);
    let different: BTreeSet<_> = found.iter().collect();
    assert!(different.len() > SEEDS as usize / 2, "{}", different.len());
    for outcome in &found {
        let all: BTreeSet<u32> = outcome[1..].iter().copied().collect();
        assert_eq!((outcome[0], all), (8, (0..8).collect()));
    }
}

#[test]
fn no_block_starts_before_those_that_must_make_room() {
    // 40 blocks on a device that holds 4 at a time, each of which waits for the one before it.
    let body = "ld.param.u64 %rd0, [p0];
mov.u32 %r0, %ctaid.x;
mad.wide.u32 %rd1, %r0, 4, %rd0;
setp.ne.u32 %p0, %r0, 0;
WAIT:
ld.acquire.gpu.global.u32 %r1, [%rd1];
setp.eq.and.u32 %p1, %r1, 0, %p0;
@%p1 bra WAIT;
mov.u32 %r2, 1;
st.release.gpu.global.u32 [%rd1+4], %r2;";
    for seed in 0..SEEDS {
        let device = Device::with(Config { sm_count: 1, max_blocks_per_sm: 4, ..config(seed) });
        let out = device.upload(&[0u32; 41]);
        device.launch(&kernel_with("", body), 40, 1, &[out, 0, 0, 0]).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(device.download::<u32>(out + 4, 40), [1; 40], "seed {seed}");
    }
}

#[test]
fn blocks_take_turns() {
    // Eight blocks count to 16 each; a counter that is read and written apart loses some.
    let count = |add: &str| {
        let body = format!(
            "ld.param.u64 %rd0, [p0];
mov.u32 %r0, 0;
AGAIN:
{add}
add.u32 %r0, %r0, 1;
setp.lt.u32 %p0, %r0, 16;
@%p0 bra AGAIN;"
        );
        kernel_with("", &body)
    };
    let apart = count(
        "ld.relaxed.gpu.global.u32 %r1, [%rd0];
add.u32 %r1, %r1, 1;
st.relaxed.gpu.global.u32 [%rd0], %r1;",
    );
    depends_on_luck(&apart, &count("red.global.add.u32 [%rd0], 1;"), (8, 1), &[128]);
}

#[test]
fn asynchronous_copies_read_their_sources_at_any_time() {
    let copy = |before: &str, after: &str| {
        let body = format!(
            "ld.param.u64 %rd0, [p0];
mov.u32 %r0, tile;
mov.u32 %r1, 7;
cp.async.ca.shared.global [%r0], [%rd0], 4;
cp.async.commit_group;
{before}
st.global.u32 [%rd0], %r1;
{after}
ld.shared.u32 %r2, [%r0];
st.global.u32 [%rd0+4], %r2;"
        );
        kernel_with(SHARED, &body)
    };
    let wait = "cp.async.wait_group 0;";
    // Reading as late as possible, the plain order copies what is written after the copy was issued.
    let found = outcomes(&copy("", wait), (1, 1), 2);
    assert_eq!(found[0], [7, 7]);
    assert!(found.contains(&vec![7, 0]), "no order reads at once");
    for (seed, outcome) in outcomes(&copy(wait, ""), (1, 1), 2).iter().enumerate() {
        assert_eq!(outcome, &[7, 0], "seed {seed}");
    }
}

#[test]
fn a_seed_is_one_order() {
    let text = exchange(1, "");
    assert_eq!(outcomes(&text, (1, 32), 32), outcomes(&text, (1, 32), 32));
}

#[test]
fn the_report_is_of_the_lowest_block_in_any_order() {
    // Nothing sets the predicate.
    let text = exchange(1, "bar.warp.sync -1;").replace("st.global", "@%p9 st.global");
    for (seed, workers) in (0..4).flat_map(|seed| [(seed, 1), (seed, 4)]) {
        let device = Device::with(Config { workers, ..config(seed) });
        let out = device.upload(&[0u32; 32]);
        let fault = device.launch(&text, 64, 32, &[out, 0, 0, 0]).unwrap_err();
        assert_eq!(fault.block, [0, 0, 0], "seed {seed}, {workers} workers");
    }
}
