//! Bytes that kernels ask for, held against the floor: everything that must move, once. Counted by the virtual GPU.

use zlpr::{DType, Options};

use crate::common::{Case, Implementation, Lab, Layer, PAIRS, Upstream, data};
use zlpr::plan::Regime;

/// Bytes requested by the launch, if they are counted.
fn requested(lab: &Lab, case: &Case, implementation: Implementation) -> Option<u64> {
    lab.gpu().reset_counters();
    lab.check_one(case, implementation);
    let counters = lab.gpu().counters()?;
    assert_eq!(counters.launches, 1);
    Some(counters.global_read_bytes + counters.global_write_bytes)
}

/// The greatest ratio to the floor over all on-chip implementations of these cases.
fn check(limit: f64, cases: impl Fn((DType, DType)) -> Vec<Case>) {
    for lab in Lab::each() {
        if !lab.gpu().is_virtual() {
            eprintln!("skipped: a real GPU does not count the bytes that its kernels ask for");
            return;
        }
        for case in PAIRS.into_iter().flat_map(&cases) {
            let forward_too = case.upstream == Upstream::Host(1.0);
            for implementation in lab.implementations(&case).into_iter().filter(|i| i.gradient || forward_too) {
                // The two-pass regime reads twice for the gradient, which is why it comes last.
                let on_chip =
                    !implementation.gradient || lab.plan(&case, implementation).kernel.regime != Regime::TwoPass;
                let bytes = requested(&lab, &case, implementation).unwrap();
                let ratio = bytes as f64 / case.floor(implementation.gradient) as f64;
                assert!(ratio >= 1.0, "{case} by {implementation:?}: {ratio} of the floor: not everything is counted");
                assert!(
                    ratio <= if on_chip { limit } else { 2.0 },
                    "{case} by {implementation:?}: {ratio} of the floor"
                );
            }
        }
    }
}

#[test]
fn aligned_rows_move_once() {
    check(1.02, |pair| {
        let masked = |cols| data::mask(&mut data::rng(1), 2 * cols);
        [1024, 4096, 16_384]
            .into_iter()
            .flat_map(|cols| {
                let case = data::ordinary("aligned", pair, (2, cols), 2.0, 3);
                [case.clone(), case.clone().in_place(), case.clone().gradient(DType::F32), case.mask(masked(cols))]
            })
            .collect()
    });
}

#[test]
fn per_row_inputs_move_once() {
    check(1.02, |pair| {
        let case = |cols| data::ordinary("aligned", pair, (2, cols), 2.0, 3);
        vec![
            case(1024).upstream(Upstream::PerRow(vec![0.5, 2.0])),
            case(4096).upstream(Upstream::PerRow(vec![0.5, 2.0])),
            case(2048).upstream(Upstream::Device(3.0)),
            case(2048).options(Options::new().cutoff(-3.0)),
        ]
    });
}

#[test]
fn odd_rows_move_nearly_once() {
    check(1.10, |pair| {
        [1025, 1031, 4099, 10_007]
            .into_iter()
            .flat_map(|cols| {
                let case = data::ordinary("odd", pair, (2, cols), 2.0, 3);
                [case.clone(), case.clone().offsets([1, 3, 5, 7]), case.offsets([5, 2, 1, 0]).in_place()]
            })
            .collect()
    });
}

/// Aligned rows are read and written 16 bytes of scores at a time, the other arrays the same elements at their width:
/// a request of a warp moves 32 such packs.
#[test]
fn aligned_rows_move_in_wide_requests() {
    for lab in Lab::each() {
        for (pair, gradient_type) in PAIRS.into_iter().flat_map(|pair| [(pair, pair.0), (pair, DType::F32)]) {
            let cols = 4096;
            let mask = data::mask(&mut data::rng(1), 2 * cols);
            let case = data::ordinary("wide", pair, (2, cols), 2.0, 3).mask(mask).gradient(gradient_type);
            let (reads, writes) = case.wide_requests();
            for implementation in lab.implementations(&case).into_iter().filter(|i| i.gradient) {
                lab.gpu().reset_counters();
                lab.check_one(&case, implementation);
                let Some(counters) = lab.gpu().counters() else {
                    eprintln!("skipped: a real GPU does not count requests");
                    return;
                };
                let times = if lab.plan(&case, implementation).kernel.regime == Regime::TwoPass { 2 } else { 1 };
                assert_eq!(counters.global_read_requests, times * reads, "{case} by {implementation:?}");
                assert_eq!(counters.global_write_requests, writes, "{case} by {implementation:?}");
            }
        }
    }
}

/// One barrier per row where a block shares it, none where a warp does; two shared-memory reads of its warps' sums.
#[test]
fn one_barrier_per_row() {
    for lab in Lab::each() {
        let case = data::ordinary("barriers", PAIRS[2], (6, 1024), 2.0, 3);
        for implementation in lab.implementations(&case) {
            lab.gpu().reset_counters();
            lab.check_one(&case, implementation);
            let Some(counters) = lab.gpu().counters() else {
                eprintln!("skipped: a real GPU does not count barriers");
                return;
            };
            let warp = matches!(implementation.layer, Layer::Raw(Regime::Warp) | Layer::Typed);
            assert_eq!(counters.barriers, if warp { 0 } else { 6 }, "{case} by {implementation:?}");
        }
    }
}
