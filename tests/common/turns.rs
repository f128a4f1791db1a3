//! Rows in which one element decides, in every turn of a loop over the row that compilers unroll by four: each turn
//! has code of its own, and so has what is left.

use zlpr::{DType, Options, Reduction};

use super::{Case, Upstream, data};

/// Rows that the exact path takes, for `threads` threads to a row.
pub fn turns(pair: (DType, DType), threads: usize) -> Vec<Case> {
    // Four whole turns; turns that are left, and one thread with one more than the others.
    let lengths = [4 * threads, 3 * threads + 1];
    let soft = pair.1 != DType::U8;
    let mut cases = Vec::new();
    for (k, cols) in lengths.into_iter().enumerate() {
        let beside = Beside { pair, cols, seed: 50 + k as u64, masked: k == 0 };
        for (score, label) in [(3e4, 0.0), (-3e4, 1.0)] {
            // On the side where it counts: without it in the maximum all overflows.
            cases.push(beside.case(format!("single {score}"), (score, label), None));
            // On the other side, where it weighs nothing, and as a maximum would leave nothing of the others.
            cases.push(beside.case(format!("fitted {}", -score), (-score, label), Some((score, label))));
        }
        // A label exactly at a bound has its weight on both sides.
        for (score, label) in [(3e4, 0.75), (-3e4, 0.25)].into_iter().filter(|_| soft) {
            let case = beside.case(format!("single {score} on the bound"), (score, label), None);
            cases.push(case.options(Options::new().epsilon(0.25)));
        }
        cases.push(beside.case("+inf".into(), (f64::INFINITY, 0.0), None));
        // Nobody else would have a NaN gradient: the others are masked by the mask, or by their scores without one.
        let mut alone = beside.case("NaN alone".into(), (f64::NAN, 0.0), None);
        match &mut alone.mask {
            Some(mask) => mask.iter_mut().zip(&alone.scores).for_each(|(m, s)| *m = s.is_nan().into()),
            None => alone.scores.iter_mut().filter(|s| !s.is_nan()).for_each(|s| *s = f64::NEG_INFINITY),
        }
        cases.push(alone);
    }
    cases
}

/// Ordinary rows, a column of which is another in each.
struct Beside {
    pair: (DType, DType),
    cols: usize,
    seed: u64,
    masked: bool,
}

impl Beside {
    /// Puts an element into another column of each row, and perhaps a second one far from it.
    fn case(&self, name: String, first: (f64, f64), second: Option<(f64, f64)>) -> Case {
        let (rows, cols) = (9, self.cols);
        let case = data::ordinary("", self.pair, (rows, cols), 2.0, self.seed);
        let (mut scores, mut labels) = (case.scores, case.labels);
        for row in 0..rows {
            let column = [row * cols / rows, cols - 1, 0][row.saturating_sub(6)];
            let mut put = |column: usize, (score, label)| {
                (scores[row * cols + column], labels[row * cols + column]) = (score, label);
            };
            if let Some(second) = second {
                put((column + cols / 2) % cols, second);
            }
            put(column, first);
        }
        let case = Case::new(name, self.pair, (rows, cols), &scores, &labels);
        if self.masked { case.mask(vec![1; rows * cols]) } else { case }
    }
}

/// Both maxima are exactly 1, on the exact path because of a scale that is no normal number: an exponent of 0 is
/// no longer the maximum, though its distance from it is a round number.
pub fn unit_maxima(pair: (DType, DType)) -> Case {
    let scores = [1.0, -1.0, 0.5, -0.5, 1.0, -1.0];
    Case::new("unit maxima", pair, (1, 6), &scores, &[0.0, 1.0, 0.0, 1.0, 1.0, 0.0]).upstream(Upstream::Host(1e-40))
}

/// A row just beyond the fast path, where a relative tolerance is smallest beside the logarithm of the exact path, whose
/// argument is 2/3 of a power of two: there its polynomial has the most to say.
pub fn logarithm(pair: (DType, DType)) -> Case {
    let cols = (1 << 14) * 2 / 3 + 1;
    Case::new("logarithm", pair, (1, cols), &vec![57.25; cols], &vec![0.0; cols])
}

/// Labels below 0 and above 1, which count as 0 and 1, whatever epsilon is.
pub fn labels_outside(pair: (DType, DType), cols: usize, epsilon: f32) -> Case {
    let case = data::ordinary("labels outside", pair, (3, cols), 2.0, 5);
    let labels: Vec<f64> = case.labels.iter().enumerate().map(|(i, t)| [-0.5, *t, 1.5][i * 7 / 3 % 3]).collect();
    Case::new("labels outside", pair, (3, cols), &case.scores, &labels).options(Options::new().epsilon(epsilon))
}

/// Row losses of 64, as many as threads sum, and then losses of nearly half a unit in their last place: each of those
/// is lost but for the error term, and with it on the wrong side the total is wrong by twice as much.
pub fn small_beside_large(pair: (DType, DType), reduction: Reduction) -> Case {
    let scores: Vec<f64> = (0..8192).map(|row| if row < 256 { 64.0 } else { -12.5 }).collect();
    let case = Case::new("small beside large", pair, (8192, 1), &scores, &[0.0; 8192]);
    case.options(Options::new().reduction(reduction))
}
