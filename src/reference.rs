//! The operation in `f64`, written like the formula: the oracle of every test.
//!
//! For one row of scores `s`, labels `t` in [0, 1] and valid positions V:
//!
//! ```text
//! P = sum over V of t e^-s      Q = sum over V of (1 - t) e^s
//! loss     = ln(1 + P) + ln(1 + Q)
//! gradient = (1 - t) e^s / (1 + Q)  -  t e^-s / (1 + P)      (0 where not valid)
//! ```
//!
//! Source: Su Jianlin, "soft-label version of multi-label softmax cross-entropy", kexue.fm/archives/9064,
//! eq. (5) and (6); Su et al., "ZLPR", arXiv 2208.02955. Nothing here is fast, and nothing overflows:
//! both sums are shifted by their maximum.

use crate::{DType, Options};

/// Loss and gradient of one row, without upstream gradient, reduction or rounding.
///
/// ```
/// use zlpr::{Options, reference::Row};
/// let row = Row::new(&[0.0, 0.0], &[1.0, 0.0], None, &Options::new());
/// assert!((row.loss - 2.0 * 2f64.ln()).abs() < 1e-15);
/// assert_eq!(row.gradient, [-0.5, 0.5]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// `ln(1 + P) + ln(1 + Q)`; 0 for a row with nothing valid.
    pub loss: f64,
    /// `d loss / d score` per column; exactly 0 where masked.
    pub gradient: Vec<f64>,
    /// Per column, `(1 - t) e^s / (1 + Q)`: how strongly the score is pushed down. 0 where masked.
    pub down: Vec<f64>,
    /// Per column, `t e^-s / (1 + P)`: how strongly the score is pushed up. 0 where masked.
    pub up: Vec<f64>,
    /// Per column, whether the position took part.
    pub valid: Vec<bool>,
    /// `min(88, max |s|)` over the valid positions: what f32 rounding errors grow with.
    pub span: f64,
}

impl Row {
    /// Computes one row. `scores` and `labels` are the rounded inputs that the kernel sees, in `f64`
    /// (a u8 label: nonzero is 1); `mask` has one byte per column, 0 = masked.
    ///
    /// Slices shorter than `scores` count as 0 (labels) and 1 (mask) beyond their end.
    pub fn new(scores: &[f64], labels: &[f64], mask: Option<&[u8]>, options: &Options) -> Row {
        let cutoff = options.cutoff_score().map_or(f64::NEG_INFINITY, f64::from);
        let (low, high) = options.label_bounds();
        let valid: Vec<bool> = (scores.iter().enumerate())
            .map(|(i, &s)| {
                let masked = mask.and_then(|m| m.get(i)).is_some_and(|&m| m == 0);
                // NaN stays valid: it must not be swallowed.
                !masked && (s.is_nan() || s > cutoff)
            })
            .collect();
        // The weight of each column in P and in Q.
        let weights: Vec<(f64, f64)> = (0..scores.len())
            .map(|i| {
                let t = labels.get(i).copied().unwrap_or(0.0);
                match t {
                    _ if !valid[i] => (0.0, 0.0),
                    t if t < f64::from(low) => (0.0, 1.0),
                    t if t > f64::from(high) => (1.0, 0.0),
                    t => (t, 1.0 - t),
                }
            })
            .collect();

        let up = Side::new(scores.iter().zip(&weights).map(|(&s, w)| (w.0, -s)));
        let down = Side::new(scores.iter().zip(&weights).map(|(&s, w)| (w.1, s)));
        let span = (scores.iter().zip(&valid).filter(|(_, v)| **v)).fold(0.0, |m: f64, (s, _)| m.max(s.abs()));
        let gradient = down.shares.iter().zip(&up.shares).map(|(d, u)| d - u).collect();
        Row { loss: up.log + down.log, gradient, down: down.shares, up: up.shares, valid, span: span.min(88.0) }
    }

    /// How far an implementation in f32 may be from [`Row::loss`].
    pub fn loss_tolerance(&self) -> f64 {
        (2e-6 + 8e-8 * self.span) * self.loss + self.valid.len() as f64 * 2f64.powi(-126)
    }

    /// Per column, how far a gradient stored as `dtype` may be from `scale * gradient`.
    pub fn gradient_tolerance(&self, scale: f64, dtype: DType) -> impl Iterator<Item = f64> {
        self.down.iter().zip(&self.up).map(move |(down, up)| {
            let relative = (4e-6 + 8e-8 * self.span) * (down + up) + 2f64.powi(-125);
            scale.abs() * relative + 2f64.powi(-126) + dtype.half_ulp(scale * (down - up))
        })
    }
}

/// One of the two logarithms, `ln(1 + sum w e^x)`, and each term's share `w e^x / (1 + sum)`.
struct Side {
    log: f64,
    shares: Vec<f64>,
}

impl Side {
    fn new(terms: impl Iterator<Item = (f64, f64)> + Clone) -> Side {
        // The "1 +" is a term with exponent 0.
        let maximum = terms.clone().filter(|(w, _)| *w != 0.0).fold(0.0, |m: f64, (_, x)| m.max(x));
        if terms.clone().any(|(w, x)| w.is_nan() || (w != 0.0 && x.is_nan())) {
            return Side { log: f64::NAN, shares: terms.map(|_| f64::NAN).collect() };
        }
        if maximum == f64::INFINITY {
            // An infinite score on the side it weighs on: an infinite loss and an undefined gradient.
            let shares = terms.map(|(w, _)| if w == 0.0 { 0.0 } else { f64::NAN }).collect();
            return Side { log: maximum, shares };
        }
        let term = |(w, x): (f64, f64)| if w == 0.0 { 0.0 } else { w * (x - maximum).exp() };
        let sum: f64 = terms.clone().map(term).sum();
        let total = sum + (-maximum).exp();
        // As long as the sum is in range it enters as it is: beside a large maximum, the logarithm of a sum near 1
        // (a label that weighs next to nothing) would lose its digits.
        let log = if maximum < 600.0 { (sum * maximum.exp()).ln_1p() } else { maximum + total.ln() };
        Side { log, shares: terms.map(|t| term(t) / total).collect() }
    }
}
