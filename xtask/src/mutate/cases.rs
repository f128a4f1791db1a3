//! The kill set: the cases that a mutant must get wrong in one to be killed, the deadliest first.

use zlpr::plan::Regime;
use zlpr::{DType, Options, Reduction};

use super::Target;
use crate::common::{Case, Implementation, Layer, MaskForm, Spec, Upstream, Values, data, turns};

/// One run: a case, and whether it wants the gradient.
pub struct Run {
    /// The case.
    pub case: Case,
    /// How it gets to the kernels.
    pub implementation: Implementation,
    /// Seed of the order in which the device runs warps and blocks.
    pub schedule: u64,
    /// What may move, for rows that are none of the exact path's.
    pub budget: Option<Budget>,
}

/// The limits of the traffic tests.
#[derive(Clone, Copy)]
pub struct Budget {
    /// Ratio of the bytes that move to those that must.
    pub ratio: f64,
    /// Where all is aligned: how often the row is read, in wide requests only.
    pub wide: Option<u64>,
}

/// Seeds of the device's order; every case runs under one of them, the first cases under all.
const SCHEDULES: u64 = 3;
/// Cases that run under every schedule.
const UNDER_ALL: usize = 4;

/// The kill set of a kernel.
pub fn kill_set(target: &Target) -> Vec<Run> {
    let Some(regime) = target.regime else {
        let layer = Layer::Raw(Regime::Warp);
        return schedule(&totals(target.pair), Implementation { layer, gradient: false }, &[]);
    };
    let gradient = Implementation { layer: Layer::Raw(regime), gradient: true };
    let fast = fast_rows(target.pair, regime);
    let mut cases = fast.clone();
    cases.extend(rows(target.pair, regime));
    let mut runs = schedule(&cases, gradient, &fast);
    let forward: Vec<Case> = cases.into_iter().skip(1).step_by(3).collect();
    runs.extend(schedule(&forward, Implementation { gradient: false, ..gradient }, &[]));
    runs
}

/// Deals the cases out to the schedules, device by device, since each schedule is a device of its own. The first of
/// `cases` are `fast`.
fn schedule(cases: &[Case], implementation: Implementation, fast: &[Case]) -> Vec<Run> {
    // Computed here, once, and not in every copy below.
    for case in cases {
        case.expected();
    }
    let two_pass = implementation.layer == Layer::Raw(Regime::TwoPass);
    let mut runs = Vec::new();
    for schedule in 0..SCHEDULES {
        for (i, case) in cases.iter().enumerate() {
            let wide = case.name == WIDE;
            // The other schedules part the lanes of a warp, which then ask one after another.
            let due = if wide { schedule == 0 } else { i < UNDER_ALL || i as u64 % SCHEDULES == schedule };
            if due {
                let budget = Budget {
                    ratio: if two_pass { 2.0 } else { 1.1 },
                    wide: wide.then_some(if two_pass { 2 } else { 1 }),
                };
                let budget = (i < fast.len()).then_some(budget);
                runs.push(Run { case: case.clone(), implementation, schedule, budget });
            }
        }
    }
    runs
}

/// A problem that touches everything that ordinary ones do.
fn ordinary(pair: (DType, DType), cols: usize, seed: u64) -> Spec {
    Spec {
        pair,
        rows: 5,
        cols,
        values: Values::Normal(3.0),
        seed,
        mask: MaskForm::PerRow,
        shared_labels: false,
        offsets: [3, 1, 2, 5],
        padding: [1, 2, 3, 4],
        in_place: false,
        f32_gradient: false,
        epsilon: 1e-7,
        cutoff: Some(-6.0),
        reduction: Reduction::Mean,
        upstream: Some(0.75),
        per_row: true,
    }
}

/// The same where everything lies well.
fn aligned(pair: (DType, DType), cols: usize, seed: u64) -> Spec {
    Spec {
        offsets: [0; 4],
        padding: [0; 4],
        mask: MaskForm::None,
        cutoff: None,
        upstream: None,
        ..ordinary(pair, cols, seed)
    }
}

/// Elements of the longest row that the smallest block of a regime holds, or of one of two turns of a block.
fn long(pair: (DType, DType), regime: Regime) -> usize {
    let per_pack = 16 / pair.0.size();
    let threads = regime.threads()[0] as usize;
    match regime {
        Regime::Warp => 4 * 32 * per_pack,
        Regime::Block => 4 * threads * per_pack,
        _ => 2 * threads * per_pack,
    }
}

/// Name of the cases whose gradients lie halfway between two values, and are rounded exactly.
pub const TIES: &str = "ties";

/// Name of the cases that move in wide requests only.
const WIDE: &str = "wide";

/// Rows that stay on the fast path: wrong sums could hide behind the exact path, were it not for the bytes that it
/// reads again.
fn fast_rows(pair: (DType, DType), regime: Regime) -> Vec<Case> {
    let per_pack = 16 / pair.0.size();
    let long = long(pair, regime);
    let odd = ordinary(pair, 215, 1);
    let straight = aligned(pair, 32 * per_pack, 2);
    let mut specs = vec![odd.clone(), straight.clone()];
    // Long rows, whose every pack has code of its own: all arrays wide or element by element, with and without a mask.
    for (k, cols) in [long, long - 3, long - 1, long, long - per_pack, long + per_pack - 2].into_iter().enumerate() {
        let k = k as u64;
        let offsets = [[0; 4], [1, 3, 5, 7], [0, 1, 0, 2], [0, 0, 3, 0], [0; 4], [2, 2, 2, 2]][k as usize];
        let spec = Spec { rows: 2, offsets, padding: [(16 - cols % 16) % 16; 4], ..ordinary(pair, cols, 10 + k) };
        specs.push(Spec { f32_gradient: k.is_multiple_of(2), ..spec.clone() });
        specs.push(Spec { f32_gradient: k % 2 == 1, mask: MaskForm::None, cutoff: None, ..spec.clone() });
        specs.push(Spec {
            f32_gradient: k.is_multiple_of(3),
            mask: MaskForm::Shared,
            shared_labels: true,
            rows: 1,
            ..spec
        });
    }
    // A part of the threads has one pack more than the others.
    for turn in 0..long.div_ceil(long.min(threads(regime) * per_pack)) {
        let cols = (turn * threads(regime) + threads(regime) / 2) * per_pack;
        specs.push(Spec { rows: 1, mask: MaskForm::PerRow, ..aligned(pair, cols, 18) });
    }
    if regime.packs_per_thread().is_none() {
        // More terms per thread than one accumulator takes.
        specs.push(Spec { rows: 1, ..aligned(pair, 33_001, 19) });
    }
    // Masked elements are no light labels.
    specs.push(Spec { epsilon: 0.0, ..odd.clone() });
    specs.push(Spec { epsilon: 0.0, mask: MaskForm::PerRow, rows: 2, ..aligned(pair, long, 16) });
    specs.push(Spec { in_place: true, ..straight });
    specs.push(Spec { in_place: true, ..odd });
    let mut cases: Vec<Case> = specs.iter().map(Spec::case).collect();
    let whole = long / (32 * per_pack) * 32 * per_pack;
    for (mask, f32_gradient) in [(MaskForm::None, false), (MaskForm::PerRow, false), (MaskForm::PerRow, true)] {
        let spec = Spec {
            rows: 2,
            mask,
            f32_gradient,
            reduction: Reduction::None,
            padding: [per_pack; 4],
            ..aligned(pair, whole, 30)
        };
        let mut case = spec.case();
        WIDE.clone_into(&mut case.name);
        cases.push(case);
    }
    cases.extend(on_bounds(pair, long, 1.0));
    cases.extend([1e-7, 0.0].map(|epsilon| fitted(pair, long).options(Options::new().epsilon(epsilon))));
    cases
}

/// Threads that share a row, at least.
fn threads(regime: Regime) -> usize {
    if regime == Regime::Warp { 32 } else { regime.threads()[0] as usize }
}

/// Every score is far beyond the clamp and right for its label: nothing overflows.
fn fitted(pair: (DType, DType), cols: usize) -> Case {
    let labels = data::hard_labels(&mut data::rng(17), 2 * cols, 0.5);
    let scores: Vec<f64> = labels.iter().map(|t| 120.0 * (2.0 * t - 1.0)).collect();
    Case::new("fitted", pair, (2, cols), &scores, &labels)
}

/// One valid element in a row, for each element of each pack of a thread, with upstream gradients that put its
/// gradient halfway between two values of the type.
fn ties(pair: (DType, DType), regime: Regime) -> Case {
    let (per_pack, cols) = (16 / pair.0.size(), long(pair, regime));
    let half_ulp = if pair.0 == DType::F16 { 2f32.powi(-11) } else { 2f32.powi(-8) };
    let packs = cols / per_pack / threads(regime);
    let rows = 2 * packs * per_pack;
    let mut mask = vec![0; rows * cols];
    for row in 0..rows {
        let (pack, element) = (row / 2 / per_pack * threads(regime) + row % 5, row / 2 % per_pack);
        mask[row * cols + pack * per_pack + element] = 1;
    }
    let wanted = (0..rows).map(|row| 2.0 * (1.0 + (1 + 2 * (row % 2)) as f32 * half_ulp)).collect();
    let zeros = vec![0.0; rows * cols];
    Case::new(TIES, pair, (rows, cols), &zeros, &zeros).mask(mask).upstream(Upstream::PerRow(wanted))
}

/// Labels at and below a bound that is close to 0, where light labels are watched.
fn light_bounds(pair: (DType, DType), cols: usize) -> Case {
    let bound = 2f64.powi(-40);
    let rng = &mut data::rng(19);
    let scores: Vec<f64> = data::normal(rng, 2 * cols, 1.0).iter().map(|x| (x * 20.0).clamp(-60.0, 60.0)).collect();
    let (random, choice) = (data::labels(rng, 2 * cols, pair.1), data::hard_labels(rng, 4 * cols, 0.5));
    let labels = (0..2 * cols).map(|i| match (choice[2 * i], choice[2 * i + 1]) {
        (0.0, 0.0) if pair.1 != DType::U8 => bound,
        (0.0, 1.0) if pair.1 != DType::U8 => bound / 2.0,
        _ => random[i],
    });
    let labels: Vec<f64> = labels.collect();
    let case = Case::new("light bounds", pair, (2, cols), &scores, &labels).gradient(DType::F32);
    case.options(Options::new().epsilon(bound as f32))
}

/// Scores at the cutoff and labels at the bounds, exactly, in every place; `sigma` of the scores, without units.
fn on_bounds(pair: (DType, DType), cols: usize, sigma: f64) -> Vec<Case> {
    let options = Options::new().cutoff(-sigma as f32).epsilon(0.25);
    let cases = [0, 1, 3].map(|offset| {
        let case = data::ordinary("", pair, (3, cols - offset), 1.0, 31 + offset as u64);
        let scores: Vec<f64> = case.scores.iter().map(|s| s.round().clamp(-2.0, 2.0) * sigma).collect();
        let soft = |t: &f64| if pair.1 == DType::U8 { *t } else { (t * 4.0).round() / 4.0 };
        let labels: Vec<f64> = case.labels.iter().map(soft).collect();
        let case = Case::new("on the bounds", pair, (3, cols - offset), &scores, &labels).options(options);
        case.offsets([offset, 0, offset, 0]).padding([offset; 4])
    });
    cases.into()
}

/// Cases for a kernel of rows.
fn rows(pair: (DType, DType), regime: Regime) -> Vec<Case> {
    let per_pack = 16 / pair.0.size();
    let whole_warp = 32 * per_pack;
    let long = long(pair, regime);
    let odd = ordinary(pair, 215, 1);
    let straight = aligned(pair, whole_warp, 2);
    let mut specs = vec![
        Spec { values: Values::Saturated(90.0), cutoff: None, ..odd.clone() },
        Spec { values: Values::Bits, cutoff: None, rows: 24, ..ordinary(pair, 33, 5) },
        Spec { values: Values::FiniteBits, epsilon: 0.0, rows: 24, cutoff: None, ..ordinary(pair, 19, 6) },
        Spec { rows: 9, in_place: true, ..ordinary(pair, 70, 7) },
        Spec { f32_gradient: true, shared_labels: true, offsets: [1, 0, 0, 1], ..odd.clone() },
        Spec { values: Values::Saturated(1000.0), ..straight.clone() },
        Spec { mask: MaskForm::PerRow, values: Values::Normal(80.0), cutoff: None, ..straight.clone() },
        Spec { values: Values::Normal(80.0), cutoff: None, rows: 2, ..ordinary(pair, long - 5, 8) },
        Spec { values: Values::FiniteBits, epsilon: 0.0, rows: 2, cutoff: None, ..aligned(pair, long, 9) },
    ];
    // Every alignment, with lengths around packs and warps.
    for k in 0..=8 {
        let offsets = [k, (3 * k + 1) % 9, (5 * k + 2) % 9, (7 * k + 3) % 9];
        let cols = [1, per_pack - 1, per_pack, per_pack + 1, 31, 32, 33, whole_warp - 1, whole_warp + 1][k];
        let spec = Spec { offsets, upstream: None, ..ordinary(pair, cols, 20 + k as u64) };
        specs.push(spec.clone());
        specs.push(Spec { padding: [0; 4], mask: MaskForm::None, f32_gradient: true, rows: 4, ..spec.clone() });
        specs.push(Spec {
            padding: [per_pack; 4],
            offsets: [k, k, k, k],
            per_row: false,
            upstream: Some(-3.0),
            ..spec
        });
    }
    // Lengths and rows around what decides.
    for (k, cols) in [0, 1, 2, 64, whole_warp, 2 * whole_warp - 1, 3 * whole_warp + 5, long - 1].into_iter().enumerate()
    {
        let seed = 40 + k as u64;
        specs.push(Spec { rows: 1 + k % 3, ..aligned(pair, cols, seed) });
        specs.push(Spec { rows: 1 + k % 3, cutoff: None, ..ordinary(pair, cols, seed) });
    }
    // The exact path, and labels that weigh next to nothing.
    for (k, values) in [
        Values::Saturated(66.6),
        Values::Saturated(87.5),
        Values::Saturated(88.5),
        Values::Saturated(104.0),
        Values::Saturated(1e4),
        Values::Normal(0.01),
        Values::Normal(20.0),
        Values::Normal(40.0),
    ]
    .into_iter()
    .enumerate()
    {
        let seed = 60 + k as u64;
        let spec = Spec { values, cutoff: None, rows: 7, ..ordinary(pair, 41, seed) };
        specs.push(Spec { epsilon: [0.0, 1e-12, 0.3, 1e-7][k % 4], ..spec.clone() });
        specs.push(Spec { upstream: None, rows: 2, cols: 600, offsets: [0; 4], padding: [0; 4], ..spec.clone() });
        specs.push(Spec { f32_gradient: true, rows: 40, cols: 1, ..spec });
    }
    for seed in 80..88 {
        let cols = [3, 17, 50, 130, 260][seed as usize % 5];
        let values = if seed % 2 == 0 { Values::Bits } else { Values::FiniteBits };
        specs.push(Spec {
            values,
            cutoff: None,
            rows: 12,
            epsilon: [0.0, 1e-7][seed as usize / 2 % 2],
            ..ordinary(pair, cols, seed)
        });
    }
    let mut cases: Vec<Case> = specs.iter().map(Spec::case).collect();
    if pair.1 != DType::U8 {
        cases.extend([0.0, 1e-7].map(|epsilon| turns::labels_outside(pair, long.min(300), epsilon)));
    }
    cases.push(turns::unit_maxima(pair));
    cases.extend(extremes(pair));
    cases.extend([1e-7, 0.0].into_iter().flat_map(|epsilon| spoiled(pair, regime, epsilon)));
    cases.extend([ties(pair, regime), light_bounds(pair, long), light_bounds(pair, long - 3).offsets([3, 0, 0, 0])]);
    cases.extend(exact(pair, regime));
    cases
}

/// Rows in which a single element is NaN or infinite, at the label that would hide it best.
fn spoiled(pair: (DType, DType), regime: Regime, epsilon: f32) -> Vec<Case> {
    let options = Options::new().epsilon(epsilon);
    let (per_pack, long) = (16 / pair.0.size(), long(pair, regime));
    let mut cases = Vec::new();
    for (score, label) in [
        (f64::NAN, 0.0),
        (f64::NAN, 0.5),
        (f64::NAN, 1.0),
        (f64::INFINITY, 1.0),
        (f64::INFINITY, 0.0),
        (-20.0, f64::NAN),
        (20.0, f64::NAN),
        (f64::INFINITY, f64::NAN),
        // A label so light that only the watch for such labels notices it.
        (-100.0, 2f64.powi(-100)),
    ] {
        if pair.1 == DType::U8 && label != 0.0 && label != 1.0 {
            continue;
        }
        let (rows, cols) = (24, 100);
        let case = data::ordinary("", pair, (rows, cols), 2.0, 7);
        let (mut scores, mut labels) = (case.scores, case.labels);
        for row in 0..rows {
            // The edges, and each element of a pack.
            let column = [row, 95 - row, 99 - row / 2][row % 3];
            (scores[row * cols + column], labels[row * cols + column]) = (score, label);
        }
        let case = Case::new(format!("score {score}, label {label}"), pair, (rows, cols), &scores, &labels);
        cases.push(case.options(options).offsets([3, 5, 0, 1]));
        // One in every element of every pack of a thread that has several, each in a row of its own.
        let (places, long) = match regime.packs_per_thread() {
            Some(packs) => (packs as usize * per_pack, long),
            None => (per_pack, 16 * per_pack),
        };
        let case = data::ordinary("", pair, (places, long), 2.0, 7);
        let (mut scores, mut labels) = (case.scores, case.labels);
        for row in 0..places {
            let pack = row / per_pack * long / per_pack / 4 + 3;
            let i = row * long + pack * per_pack + row % per_pack;
            (scores[i], labels[i]) = (score, label);
        }
        let case = Case::new(format!("long, score {score}, label {label}"), pair, (places, long), &scores, &labels);
        cases.push(case.options(options));
    }
    cases
}

/// The exact path, whose loops do four turns at a time and what is left one by one.
fn exact(pair: (DType, DType), regime: Regime) -> Vec<Case> {
    let threads = threads(regime);
    let mut cases = turns::turns(pair, threads);
    if regime != Regime::Warp {
        cases.push(turns::logarithm(pair));
    }
    for (k, cols) in [4 * threads, 4 * threads + threads / 2, 3 * threads + 1].into_iter().enumerate() {
        let seed = 55 + k as u64;
        let epsilon = [0.0, 1e-7][k % 2];
        let spec = Spec { values: Values::Normal(70.0), epsilon, cutoff: None, rows: 2, ..ordinary(pair, cols, seed) };
        cases.push(Spec { f32_gradient: k.is_multiple_of(2), ..spec.clone() }.case());
        cases.push(Spec { f32_gradient: k % 2 == 1, mask: MaskForm::None, ..spec.clone() }.case());
        cases.push(Spec { in_place: true, offsets: [0; 4], padding: [0; 4], ..spec }.case());
    }
    cases.extend(on_bounds(pair, 4 * threads + threads / 2, 64.0));
    cases
}

/// Values at which an accuracy or a range ends.
fn extremes(pair: (DType, DType)) -> Vec<Case> {
    let mut cases = Vec::new();
    let upstream = [0.0, -0.0, 1e-20, f32::MIN_POSITIVE, 1e-40, -1e-45, 1e30, f32::MAX, f32::INFINITY, f32::NAN];
    let values = Case::new(
        "upstream",
        pair,
        (upstream.len(), 37),
        &data::normal(&mut data::rng(1), 37 * upstream.len(), 2.0),
        &data::labels(&mut data::rng(2), 37 * upstream.len(), pair.1),
    );
    cases.push(
        values.mask(data::mask(&mut data::rng(3), 37 * upstream.len())).upstream(Upstream::PerRow(upstream.into())),
    );
    // Each label by itself at each score: nothing else hides its weight.
    let mut scores: Vec<f64> = (-24..=24).map(|i| f64::from(i) * 5.0).collect();
    scores.extend([60.0, 66.5, 66.6, 67.0, 87.0, 87.5, 88.0, 88.5, 89.0, 95.0].iter().flat_map(|s| [*s, -*s]));
    let labels = [0.0, 0.375, 1.0, 1e-7, 6e-8, 1.0 - 2f64.powi(-23), 1.0 - 2f64.powi(-24), 1e-30, 1e-40];
    for label in labels.into_iter().filter(|&t| pair.1 != DType::U8 || t == 0.0 || t == 1.0) {
        for epsilon in [1e-7, 0.0] {
            let case = Case::new("one column", pair, (scores.len(), 1), &scores, &vec![label; scores.len()]);
            cases.push(case.options(Options::new().epsilon(epsilon)).gradient(DType::F32));
        }
    }
    // A well-fitted row has a tiny loss, with its relative accuracy.
    for margin in [5.0, 18.0, 24.0, 50.0, 86.0] {
        let rng = &mut data::rng(9);
        let labels = data::hard_labels(rng, 3 * 60, 0.1);
        let jitter = data::normal(rng, 3 * 60, 0.5);
        let scores: Vec<f64> = labels.iter().zip(&jitter).map(|(&t, x)| (margin + x) * (2.0 * t - 1.0)).collect();
        cases.push(Case::new(format!("margin {margin}"), pair, (3, 60), &scores, &labels).gradient(DType::F32));
    }
    // A small scale over large sums, and gradients beyond the range.
    for (scale, magnitude) in [(1e-36, 64.0), (1e-25, 40.0), (3e38, 64.0), (1e6, 30.0), (65_520.0, 30.0)] {
        let scores = [magnitude, -magnitude, 1.0, -magnitude, magnitude];
        let case = Case::new("scale", pair, (1, 5), &scores, &[0.0, 1.0, 0.0, 0.0, 1.0]);
        cases.push(case.upstream(Upstream::Host(scale)));
    }
    // Halfway between two values of the gradient's type.
    let half_ulp = if pair.0 == DType::F16 { 2f32.powi(-11) } else { 2f32.powi(-8) };
    let wanted: Vec<f32> = (0..8).flat_map(|i| [2.0, -2.0].map(|sign| sign * (1.0 + i as f32 * half_ulp))).collect();
    let case = Case::new(TIES, pair, (16, 1), &[0.0; 16], &[0.0; 16]);
    cases.push(case.upstream(Upstream::PerRow(wanted)));
    cases
}

/// Cases for the kernel that sums row losses: rows of two columns, which cost little.
fn totals(pair: (DType, DType)) -> Vec<Case> {
    let mut cases = Vec::new();
    let reductions = [Reduction::Sum, Reduction::Mean];
    for (k, rows) in [300, 8193, 1, 2, 31, 33, 255, 256, 257, 513, 1025, 8192, 16_385, 0].into_iter().enumerate() {
        let options = Options::new().reduction(reductions[k % 2]);
        let mut case = data::ordinary("total", pair, (rows, 2), 3.0, 7 + k as u64).options(options);
        case.vector_offset = k % 4;
        cases.push(case);
    }
    cases.extend(reductions.map(|reduction| turns::small_beside_large(pair, reduction)));
    for (k, large) in [1e2, 1e4, 1e30, f64::INFINITY, f64::NAN, 2e38].into_iter().enumerate() {
        for rows in [40, 3000, 8200] {
            // One large loss, or two whose sum is infinite, then losses of 1e-4.
            let first = if large == 2e38 { 2 } else { 1 };
            let scores: Vec<f64> = (0..rows).map(|r| if r < first { large } else { -9.2 }).collect();
            let case = Case::new(format!("total after {large:e}"), pair, (rows, 1), &scores, &vec![0.0; rows]);
            cases.push(case.options(Options::new().reduction(reductions[k % 2])));
        }
    }
    cases
}
