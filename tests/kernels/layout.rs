//! Strides, alignments, shared rows, in place, and the gradient in f32.

use zlpr::DType;

use crate::common::{Case, PAIRS, Place, check_everywhere, data};

fn masked(name: &str, pair: (DType, DType), shape: (usize, usize), seed: u64) -> Case {
    let mask = data::mask(&mut data::rng(seed + 1), shape.0 * shape.1);
    data::ordinary(name, pair, shape, 2.0, seed).mask(mask)
}

/// Every alignment of the scores with every alignment of the labels, and all of those of mask and gradient.
#[test]
fn every_alignment_of_every_array() {
    let offsets = (0..=8).flat_map(|s| (0..=8).map(move |l| [s, l, (s + 2 * l) % 9, (2 * s + l + 1) % 9]));
    check_everywhere(offsets.enumerate().flat_map(|(i, offsets)| {
        // Two pairs each, so that each pair meets every difference between the alignments of two arrays.
        [PAIRS[i % 8], PAIRS[(i + 3) % 8]].map(|pair| {
            let mut case = masked("alignment", pair, (2, 70), i as u64).offsets(offsets);
            case.vector_offset = i % 5;
            case
        })
    }));
}

/// Rows that are padded differently in every array, so that alignments differ from row to row as well.
#[test]
fn every_array_has_a_stride_of_its_own() {
    let paddings =
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [3, 5, 7, 11], [8, 16, 1, 4], [130, 1, 64, 9]];
    check_everywhere(paddings.into_iter().enumerate().flat_map(|(i, padding)| {
        PAIRS.map(|pair| masked("padding", pair, (4, 61), i as u64).padding(padding).offsets([i, 2 * i, i / 2, 3]))
    }));
}

#[test]
fn one_row_of_labels_or_mask_serves_all() {
    check_everywhere(PAIRS.into_iter().enumerate().flat_map(|(i, pair)| {
        let case = masked("shared", pair, (5, 83), i as u64).offsets([i, 1, 2, 3]).padding([i, 0, 0, 2]);
        [
            case.clone().shared_labels(),
            case.clone().shared_mask(),
            case.clone().shared_labels().shared_mask(),
            case.in_place().shared_labels().shared_mask(),
        ]
    }));
}

#[test]
fn in_place_at_every_alignment() {
    check_everywhere((0..=8).flat_map(|offset| {
        PAIRS.map(|pair| {
            masked("in place", pair, (4, 75), offset as u64)
                .offsets([offset, 3, 1, 0])
                .padding([offset % 4, 0, 2, 0])
                .in_place()
        })
    }));
}

/// The rows touch each other: what one row's block writes early, its neighbour must not read late.
#[test]
fn in_place_for_long_contiguous_rows() {
    check_everywhere(PAIRS.into_iter().flat_map(|pair| {
        let overflowing = data::ordinary("in place, exact path", pair, (3, 1237), 300.0, 2).in_place();
        [data::ordinary("in place", pair, (3, 1237), 3.0, 1).in_place(), overflowing]
    }));
}

#[test]
fn gradient_in_f32_at_every_alignment() {
    let half_pairs = PAIRS.into_iter().filter(|p| p.0 != DType::F32);
    check_everywhere(half_pairs.flat_map(|pair| {
        (0..=8).map(move |offset| {
            masked("f32 gradient", pair, (3, 90), offset as u64)
                .gradient(DType::F32)
                .offsets([(3 * offset) % 9, 1, 0, offset])
                .padding([offset % 3, 0, 0, offset % 2])
        })
    }));
}

/// f32 gradients keep what the scores' type would round away.
#[test]
fn gradient_in_f32_is_not_rounded_to_the_scores_type() {
    for pair in PAIRS.into_iter().filter(|p| p.0 != DType::F32) {
        let case = data::ordinary("f32 gradient", pair, (1, 64), 1.0, 3).gradient(DType::F32);
        let lab = crate::common::Lab::new((8, 0));
        for implementation in lab.implementations(&case).into_iter().filter(|i| i.gradient) {
            let gradient = lab.check_one(&case, implementation).gradient_values(&case).unwrap();
            assert!(gradient.iter().any(|&g| crate::common::round(pair.0, g) != g), "{case} by {implementation:?}");
        }
    }
}

/// A single row may have any stride: it is never used.
#[test]
fn the_stride_of_a_single_row_is_not_used() {
    check_everywhere(PAIRS.map(|pair| {
        let mut case = masked("one row", pair, (1, 50), 9);
        for place in [&mut case.scores_place, &mut case.labels_place, &mut case.mask_place, &mut case.gradient_place] {
            *place = Place { offset: 1, stride: 1 << 40 };
        }
        case
    }));
}
