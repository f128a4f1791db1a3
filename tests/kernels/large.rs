//! Rows 2^32 elements apart: every index from a row's number must have 64 bits. Device memory is reserved lazily by
//! the virtual GPU; a real one may have too little.

use zlpr::plan::{Plan, Problem, Regime};
use zlpr::reference::Row;
use zlpr::{DType, Options, Reduction, raw};

use crate::common::{Lab, PAIRS, data, decode, encode};

/// Elements from one row to the next.
const STRIDE: u64 = 1 << 32;
const ROWS: usize = 2;

/// A buffer of two rows `STRIDE` elements apart; only the rows are ever touched.
struct Apart {
    buffer: cudarc::driver::CudaSlice<u8>,
    dtype: DType,
}

impl Apart {
    fn new(lab: &Lab, dtype: DType, cols: usize) -> Option<Apart> {
        let bytes = (STRIDE as usize + cols) * dtype.size();
        // SAFETY: any byte is a valid u8.
        let buffer = unsafe { lab.stream().alloc::<u8>(bytes) }.ok()?;
        Some(Apart { buffer, dtype })
    }

    fn range(&self, row: usize, cols: usize) -> std::ops::Range<usize> {
        let begin = row * STRIDE as usize * self.dtype.size();
        begin..begin + cols * self.dtype.size()
    }

    fn write(&mut self, lab: &Lab, row: usize, bytes: &[u8]) {
        let range = self.range(row, bytes.len() / self.dtype.size());
        let written = lab.stream().memcpy_htod(bytes, &mut self.buffer.slice_mut(range));
        lab.expect(&"writing a row", written);
    }

    fn read(&self, lab: &Lab, row: usize, cols: usize) -> Vec<u8> {
        let bytes = lab.stream().clone_dtoh(&self.buffer.slice(self.range(row, cols)));
        let bytes = lab.expect(&"reading a row", bytes);
        lab.expect(&"reading a row", lab.stream().synchronize());
        bytes
    }

    fn pointer(&self, lab: &Lab) -> u64 {
        cudarc::driver::DevicePtr::device_ptr(&self.buffer, lab.stream()).0
    }
}

fn run(lab: &Lab, (scores_type, labels_type): (DType, DType), gradient_type: DType, regime: Regime) -> bool {
    let cols = 77;
    let case = data::ordinary("far apart", (scores_type, labels_type), (ROWS, cols), 2.0, 3);
    let mask = data::mask(&mut data::rng(6), ROWS * cols);
    let arrays = [scores_type, labels_type, DType::U8, gradient_type].map(|dtype| Apart::new(lab, dtype, cols));
    let [Some(mut scores), Some(mut labels), Some(mut masks), Some(mut gradient)] = arrays else { return false };
    for r in 0..ROWS {
        let row = r * cols..(r + 1) * cols;
        scores.write(lab, r, &encode(scores_type, &case.scores[row.clone()]));
        labels.write(lab, r, &encode(labels_type, &case.labels[row.clone()]));
        masks.write(lab, r, &mask[row]);
        gradient.write(lab, r, &vec![0xff; cols * gradient_type.size()]);
    }
    let loss = lab.expect(&"allocating", lab.stream().clone_htod(&[f32::NAN; ROWS]));
    let problem = Problem {
        rows: ROWS as u64,
        cols: cols as u64,
        scores: scores_type,
        labels: labels_type,
        gradient: Some(gradient_type),
        reduction: Reduction::None,
    };
    let plan = lab.expect(&"planning", Plan::with_regime(lab.device(), &problem, regime));
    lab.expect(&"preparing", raw::prepare(&plan));
    let arguments = raw::Arguments {
        scores: scores.pointer(lab),
        scores_stride: STRIDE,
        labels: labels.pointer(lab),
        labels_stride: STRIDE,
        mask: masks.pointer(lab),
        mask_stride: STRIDE,
        gradient: gradient.pointer(lab),
        gradient_stride: STRIDE,
        loss: cudarc::driver::DevicePtr::device_ptr(&loss, lab.stream()).0,
        upstream: 0,
        upstream_stride: 0,
        scale: 1.0,
        total: 0,
        workspace: 0,
    };
    let options = Options::new();
    // SAFETY: the arrays have the plan's shape at these strides and live until the stream is synchronised.
    let launched = unsafe { raw::launch(&plan, &options, &arguments, lab.stream().cu_stream().cast()) };
    let what = format!("{scores_type} {labels_type} in regime {regime}");
    lab.expect(&what, launched);
    lab.expect(&what, lab.stream().synchronize());

    let losses = lab.expect(&what, lab.stream().clone_dtoh(&loss));
    lab.expect(&what, lab.stream().synchronize());
    for (r, &loss) in losses.iter().enumerate() {
        let row = r * cols..(r + 1) * cols;
        let hard = |t: f64| if labels_type == DType::U8 { f64::from(t != 0.0) } else { t };
        let labels: Vec<f64> = case.labels[row.clone()].iter().map(|&t| hard(t)).collect();
        let wanted = Row::new(&case.scores[row.clone()], &labels, Some(&mask[row.clone()]), &options);
        let got = f64::from(loss);
        assert!((got - wanted.loss).abs() <= wanted.loss_tolerance(), "{what}: row {r}: {got} {}", wanted.loss);
        let got = decode(gradient_type, &gradient.read(lab, r, cols));
        for (c, tolerance) in wanted.gradient_tolerance(1.0, gradient_type).enumerate() {
            assert!((got[c] - wanted.gradient[c]).abs() <= tolerance, "{what}: row {r} column {c}: {}", got[c]);
        }
        assert_eq!(
            scores.read(lab, r, cols),
            encode(scores_type, &case.scores[row]),
            "{what}: scores were overwritten"
        );
    }
    true
}

#[test]
fn rows_beyond_the_reach_of_32_bits() {
    for lab in Lab::each() {
        for regime in Regime::ALL {
            for pair in PAIRS {
                let f32_too = (pair.0 != DType::F32).then_some(DType::F32);
                for gradient_type in std::iter::once(pair.0).chain(f32_too) {
                    if !run(&lab, pair, gradient_type, regime) {
                        assert!(!lab.gpu().is_virtual(), "the virtual GPU has memory for this");
                        eprintln!("SKIPPED: this GPU has no room for two {pair:?} rows 2^32 elements apart");
                    }
                }
            }
        }
    }
}
