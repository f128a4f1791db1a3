//! Bytes that kernels ask for, held against the floor: everything that must move, once. Counted by the virtual GPU.

use zlpr::{DType, Options};

use crate::common::{Case, Implementation, Lab, Layer, PAIRS, Upstream, data};
use zlpr::plan::Regime;

/// Scores, labels, mask, gradient and per-row values, once each.
fn floor(case: &Case, gradient: bool) -> u64 {
    let elements = case.rows * case.cols;
    let written = if gradient { elements * case.gradient_type.size() } else { 0 };
    let mask = case.mask.as_ref().map_or(0, |_| elements);
    let upstream = match &case.upstream {
        Upstream::PerRow(x) => 4 * x.len(),
        Upstream::Device(_) => 4,
        Upstream::Host(_) => 0,
    };
    (elements * (case.scores_type.size() + case.labels_type.size()) + mask + written + upstream + 4 * case.rows) as u64
}

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
                let ratio = bytes as f64 / floor(&case, implementation.gradient) as f64;
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
            let per_pack = 16 / pair.0.size();
            // An element of f32 beside an element of 16 bits takes two accesses per pack.
            let requests = |dtype: DType| (2 * cols / per_pack / 32 * (per_pack * dtype.size()).div_ceil(16)) as u64;
            let reads = requests(pair.0) + requests(pair.1) + requests(DType::U8);
            for implementation in lab.implementations(&case).into_iter().filter(|i| i.gradient) {
                lab.gpu().reset_counters();
                lab.check_one(&case, implementation);
                let Some(counters) = lab.gpu().counters() else {
                    eprintln!("skipped: a real GPU does not count requests");
                    return;
                };
                let times = if lab.plan(&case, implementation).kernel.regime == Regime::TwoPass { 2 } else { 1 };
                assert_eq!(counters.global_read_requests, times * reads, "{case} by {implementation:?}");
                // The row losses are the two requests more.
                assert_eq!(counters.global_write_requests, requests(gradient_type) + 2, "{case} by {implementation:?}");
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
