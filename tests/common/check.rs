//! What a kernel wrote, held against the reference.

use zlpr::reference::Row;
use zlpr::{DType, Reduction};

use super::Case;
use super::elements::{decode, max_finite};

/// What one run left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Row losses.
    pub loss: Vec<f32>,
    /// The total, if there is a reduction.
    pub total: Option<f32>,
    /// Bytes of the gradient without padding, unless forward only.
    pub gradient: Option<Vec<u8>>,
    /// What was overwritten though it must not be.
    pub damage: Vec<String>,
}

impl Output {
    /// The gradient's values.
    pub fn gradient_values(&self, case: &Case) -> Option<Vec<f64>> {
        self.gradient.as_ref().map(|bytes| decode(case.gradient_type, bytes))
    }

    /// Whether both have the same bits.
    pub fn same_bits(&self, other: &Output) -> bool {
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        bits(&self.loss) == bits(&other.loss)
            && self.total.map(f32::to_bits) == other.total.map(f32::to_bits)
            && self.gradient == other.gradient
    }
}

/// Mismatches after which a comparison gives up.
const ENOUGH: usize = 8;

/// Everything in which an output differs from the reference, up to a few.
pub fn mismatches(case: &Case, output: &Output) -> Vec<String> {
    let mut wrong = output.damage.clone();
    let rows = case.expected();
    if output.loss.len() != rows.len() {
        wrong.push(format!("{} row losses, wanted {}", output.loss.len(), rows.len()));
        return wrong;
    }
    for (r, (row, &loss)) in rows.iter().zip(&output.loss).enumerate() {
        wrong.extend(wrong_loss(row, loss).map(|text| format!("row {r}: {text}")));
    }
    wrong.extend(wrong_total(case, output));
    if let Some(bytes) = &output.gradient {
        let values = decode(case.gradient_type, bytes);
        let size = case.gradient_type.size();
        for (r, row) in rows.iter().enumerate() {
            let range = r * case.cols..(r + 1) * case.cols;
            let written = bytes[range.start * size..range.end * size].chunks_exact(size);
            wrong_gradient(case, r, row, &values[range], written, &mut wrong);
            if wrong.len() >= ENOUGH {
                break;
            }
        }
    }
    wrong.truncate(ENOUGH);
    wrong
}

fn wrong_loss(row: &Row, got: f32) -> Option<String> {
    let (wanted, tolerance) = (row.loss, row.loss_tolerance());
    let right = match got {
        // A NaN of the arithmetic is 0x7fffffff or a quieted input, never the poison.
        _ if got.to_bits() == u32::MAX => return Some("the loss was not written".into()),
        _ if wanted.is_nan() => got.is_nan(),
        _ => close(got.into(), wanted, tolerance, DType::F32),
    };
    (!right).then(|| format!("loss {got:e}, wanted {wanted:e} within {tolerance:e}"))
}

/// Within the tolerance, or infinite where rounding to the type may overflow.
fn close(got: f64, wanted: f64, tolerance: f64, dtype: DType) -> bool {
    if wanted.is_infinite() {
        return got == wanted;
    }
    if got.is_infinite() {
        // `tolerance` holds the half ulp that would round down to the largest finite value.
        return got.signum() == wanted.signum() && wanted.abs() + tolerance >= max_finite(dtype);
    }
    // A value that saturates instead of becoming an infinity fails here: the next step would be a whole ulp away.
    (got - wanted).abs() <= tolerance
}

fn wrong_total(case: &Case, output: &Output) -> Option<String> {
    let divisor = match case.options.total() {
        Reduction::Mean => case.rows.max(1) as f64,
        _ => 1.0,
    };
    let reduces = case.options.total() != Reduction::None;
    let got = match output.total {
        None => return reduces.then(|| "there is no total".into()),
        Some(_) if !reduces => return Some("there is a total without a reduction".into()),
        Some(got) => got,
    };
    if got.to_bits() == u32::MAX {
        return Some("the total was not written".into());
    }
    // Against the row losses of the same run, and against the reference, whose row losses may differ by more.
    let stored: f64 = output.loss.iter().map(|&x| f64::from(x)).sum();
    let rows = case.expected();
    let exact: f64 = rows.iter().map(|row| row.loss).sum();
    let apart: f64 = rows.iter().map(Row::loss_tolerance).sum();
    for (sum, allowed) in [(stored, 2e-6 * stored), (exact, apart.max(2e-6 * exact))] {
        let (wanted, tolerance) = (sum / divisor, allowed / divisor + 2f64.powi(-149));
        // A mean is its sum, divided: it is infinite where the sum is beyond the range.
        let overflow = got == f32::INFINITY && sum + allowed >= max_finite(DType::F32);
        let right = if wanted.is_nan() { got.is_nan() } else { close(got.into(), wanted, tolerance, DType::F32) };
        if !right && !overflow {
            return Some(format!("total {got:e}, wanted {wanted:e} within {tolerance:e}"));
        }
    }
    None
}

fn wrong_gradient<'b>(
    case: &Case,
    r: usize,
    row: &Row,
    values: &[f64],
    written: impl Iterator<Item = &'b [u8]>,
    wrong: &mut Vec<String>,
) {
    let scale = case.scale(r);
    let finite_scale = case.scale_is_finite(r);
    let tolerances = row.gradient_tolerance(scale, case.gradient_type);
    let mut non_finite = 0;
    for (c, (((&got, bytes), tolerance), &valid)) in
        values.iter().zip(written).zip(tolerances).zip(&row.valid).enumerate()
    {
        let wanted = scale * row.gradient[c];
        non_finite += usize::from(!got.is_finite());
        let problem = match () {
            _ if !case.in_place && bytes.iter().all(|&byte| byte == 0xff) => "was not written",
            _ if !valid => {
                if got == 0.0 {
                    continue;
                } else {
                    "is not exactly 0 where masked"
                }
            }
            // A NaN row: which of its elements are NaN is not said, only that one is (below).
            _ if !row.loss.is_finite() => continue,
            _ if !finite_scale => {
                if got.is_finite() && row.gradient[c].abs() > 1e-30 {
                    "hides a scale that is not finite"
                } else {
                    continue;
                }
            }
            _ if close(got, wanted, tolerance, case.gradient_type) => continue,
            _ => "is wrong",
        };
        wrong.push(format!("row {r} column {c}: gradient {got:e} {problem}, wanted {wanted:e} within {tolerance:e}"));
        if wrong.len() >= ENOUGH {
            return;
        }
    }
    let nan = values.iter().any(|g| g.is_nan());
    if row.loss.is_nan() && !nan {
        wrong.push(format!("row {r}: the loss is NaN, but no gradient is"));
    }
    if row.loss.is_infinite() && non_finite == 0 {
        wrong.push(format!("row {r}: the loss is infinite, but every gradient is finite"));
    }
}
