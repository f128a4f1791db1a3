//! Rows and columns on both sides of every edge at which something is decided.

use std::collections::BTreeSet;

use zlpr::plan::{Device, Regime};
use zlpr::{DType, Options, Reduction};

use crate::common::{Case, Implementation, Lab, Layer, PAIRS, check_everywhere, data};

/// Numbers of columns on both sides of every edge of the pack, the warp, the block sizes and the regimes.
fn edges(device: &Device, (scores, labels): (DType, DType)) -> BTreeSet<u64> {
    let per_pack = 16 / scores.size() as u64;
    let mut edges = BTreeSet::from([1, 2, 3, per_pack, 2 * per_pack, 32, 64]);
    for regime in Regime::ALL {
        let longest = regime.max_cols(device, scores, labels);
        if regime.packs_per_thread().is_some() || regime == Regime::Staged {
            // The last one that fits whatever the alignment, and the last whole number of packs.
            edges.extend([longest, longest + 1 - per_pack]);
        }
    }
    // Blocks: one pack for each thread, all packs of each thread, and one edge more than that.
    let packs = Regime::Block.packs_per_thread().unwrap();
    for &threads in Regime::Block.threads() {
        let all = u64::from(threads) * packs * per_pack;
        edges.extend([all / packs, all, all + per_pack - 1]);
    }
    edges.into_iter().flat_map(|n| n.saturating_sub(1)..=n + 1).collect()
}

#[test]
fn columns_around_every_edge() {
    for lab in Lab::each() {
        for (i, &pair) in PAIRS.iter().enumerate() {
            for cols in edges(lab.device(), pair) {
                // More rows than a block of warps takes, where rows are short.
                let rows = if cols < 600 { 5 } else { 1 };
                let sigma = if cols % 2 == 0 { 1.0 } else { 4.0 };
                let case = data::ordinary("edge", pair, (rows, cols as usize), sigma, cols + i as u64);
                // With the rows one after the other, odd lengths bring every alignment; offsets change the first.
                lab.check(&case.offsets([cols as usize % 9, i, 0, cols as usize % 5]));
            }
        }
    }
}

#[test]
fn every_number_of_columns_up_to_a_hundred() {
    let cases = (0..100).flat_map(|cols| {
        let pair = PAIRS[cols % PAIRS.len()];
        [
            data::ordinary("short", pair, (3, cols), 2.0, cols as u64),
            data::ordinary("shorter", PAIRS[(cols + 3) % 8], (2, cols), 2.0, 7),
        ]
    });
    check_everywhere(cases);
}

#[test]
fn numbers_of_rows() {
    let cases = [0, 1, 2, 3, 4, 5, 7, 8, 9, 33].into_iter().flat_map(|rows| {
        PAIRS.map(|pair| {
            let options = Options::new().reduction(Reduction::Sum);
            data::ordinary("rows", pair, (rows, 19), 1.5, rows as u64).options(options)
        })
    });
    check_everywhere(cases);
}

#[test]
fn nothing_at_all() {
    let cases = [(0, 0), (0, 1), (0, 5000), (0, 1 << 20), (1, 0), (9, 0)].into_iter().flat_map(|shape| {
        [Reduction::None, Reduction::Sum, Reduction::Mean].map(|reduction| {
            let options = Options::new().reduction(reduction);
            data::ordinary("nothing", PAIRS[2], shape, 1.0, 0).options(options)
        })
    });
    check_everywhere(cases);
}

#[test]
fn a_million_columns() {
    const COLS: usize = 1 << 20;
    for pair in [PAIRS[1], PAIRS[2], PAIRS[6]] {
        let case = data::ordinary("million", pair, (1, COLS), 3.0, 5);
        for lab in Lab::each() {
            let regimes: Vec<_> = lab.implementations(&case).iter().map(|i| i.layer).collect();
            assert_eq!(regimes[..2], [Layer::Raw(Regime::TwoPass); 2], "it fits nowhere on chip");
            for gradient in [true, false] {
                lab.check_one(&case, Implementation { layer: Layer::Typed, gradient });
            }
        }
    }
}

/// A row of which all but one column weigh nothing: what many terms add up to must not hide it.
#[test]
fn a_million_columns_that_overflow() {
    const COLS: usize = (1 << 20) + 3;
    let mut scores = vec![-30.0; COLS];
    scores[COLS - 2] = 300.0;
    let labels = vec![0.0; COLS];
    let case = Case::new("million, exact path", PAIRS[1], (1, COLS), &scores, &labels);
    Lab::new((8, 0)).check_one(&case, Implementation { layer: Layer::Typed, gradient: true });
}

/// One weight in every thread's reach and then only weights below half an ulp of it: a single f32 accumulator would
/// lose them all, here most of the loss's accuracy.
#[test]
fn many_small_terms_after_a_large_one() {
    // e^-6.9 is a little more than 2^-10: half its ulp is 5.8e-8 of it, more than e^-17 or 64 e^-21.
    const LARGE: f64 = -6.9;
    // Lengths at which the terms of one accumulator, and the sums of 64 terms that go to the next, would be lost.
    for (cols, small) in [(1 << 20, -17.0), (1 << 23, -21.0)] {
        let threads = Regime::TwoPass.threads()[0] as usize;
        let (scores_type, labels_type) = PAIRS[1];
        let first = threads * 16 / scores_type.size();
        let scores: Vec<f64> = (0..cols).map(|c| if c < first && c % 4 == 0 { LARGE } else { LARGE + small }).collect();
        let case = Case::new("small after large", (scores_type, labels_type), (1, cols), &scores, &vec![0.0; cols]);
        // What would be lost is several times the tolerance.
        let row = &case.expected()[0];
        let large = (threads as f64 * LARGE.exp()).ln_1p();
        assert!(row.loss - large > 2.0 * row.loss_tolerance(), "{} {large}", row.loss);
        Lab::new((8, 0)).check_one(&case, Implementation { layer: Layer::Typed, gradient: false });
    }
}
