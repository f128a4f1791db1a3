//! Rows of neural networks: normalisations, softmax, an optimiser, an embedding.

use half::f16;
use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape, shared};
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    layer_norm 75
    rms_norm 75
    softmax_online 75
    adam 75
    embedding 75
}

/// Values within a relative and an absolute error.
#[track_caller]
pub fn close(got: f64, wanted: f64, relative: f64, absolute: f64) {
    let error = (got - wanted).abs();
    assert!(error <= relative * wanted.abs() + absolute, "{got:e} is not {wanted:e}");
}

fn layer_norm(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (rows, cols, block) in [(3, 100, 64), (2, 1, 32), (1, 777, 256)] {
        let (x, gain) = (eighths(&mut rng, rows * cols), eighths(&mut rng, cols));
        let bias = eighths(&mut rng, cols);
        let (input, weights) = (run.upload(&x), run.upload(&gain));
        let biases = if run.bug == 4 { run.alloc::<f32>(cols) } else { run.upload(&bias) };
        let output = run.alloc::<f32>(rows * cols);
        let params = args![output, input, weights, biases, cols as i32, 1e-5f32];
        run.launch("layer_norm", shape(rows as u32, block), &params)?;
        let got = run.download::<f32>(output, rows * cols);
        for (x, got) in x.chunks(cols).zip(got.chunks(cols)) {
            let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / cols as f64;
            let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / cols as f64;
            for i in 0..cols {
                let normal = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
                let wanted = normal * f64::from(gain[i]) + f64::from(bias[i]);
                close(f64::from(got[i]), wanted, 1e-5, 1e-4);
            }
        }
    }
    Ok(())
}

fn rms_norm(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    let halves = |rng: &mut Random, n| -> Vec<f16> { eighths(rng, n).into_iter().map(f16::from_f32).collect() };
    for (rows, cols) in [(5, 264), (1, 8), (7, 512)] {
        let (x, gain) = (halves(&mut rng, rows * cols + 1), halves(&mut rng, cols + 1));
        let (input, weights) = (run.upload(&x), run.upload(&gain));
        let output = run.alloc::<f16>(rows * cols + 1);
        let odd = |bug| 2 * u64::from(run.bug == bug);
        let params = args![output + odd(3), input + odd(1), weights + odd(2), rows as i32, cols as i32, 1e-6f32];
        run.launch("rms_norm", shape(rows.div_ceil(3) as u32, (32, 3)), &params)?;
        let got = run.download::<f16>(output, rows * cols);
        for (x, got) in x.chunks(cols).zip(got.chunks(cols)) {
            let mean = x.iter().map(|v| v.to_f64().powi(2)).sum::<f64>() / cols as f64;
            for i in 0..cols {
                let wanted = x[i].to_f64() / (mean + 1e-6).sqrt() * gain[i].to_f64();
                close(got[i].to_f64(), wanted, 2e-3, 1e-6);
            }
        }
    }
    Ok(())
}

fn softmax_online(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for (rows, cols, scale) in [(5usize, 100, 0.5f32), (3, 1, 1.0), (2, 1025, 2.0)] {
        let x = eighths(&mut rng, rows * cols);
        let input = run.upload(&x);
        let params = |output| args![output, input, rows as i32, cols as i32, scale];
        let by_rows = run.alloc::<f32>(rows * cols);
        run.launch("softmax_rows", shape(rows.div_ceil(4) as u32, 128), &params(by_rows))?;
        let by_blocks = run.alloc::<f32>(rows * cols);
        let bytes = 8 * 3 - 8 * usize::from(run.bug == 2);
        let launch = shared(shape(rows as u32, 96), bytes);
        run.launch("softmax_block", launch, &args![by_blocks, input, cols as i32, scale])?;
        for output in [by_rows, by_blocks] {
            let got = run.download::<f32>(output, rows * cols);
            for (x, got) in x.chunks(cols).zip(got.chunks(cols)) {
                let x: Vec<f64> = x.iter().map(|&v| f64::from(v * scale)).collect();
                let most = x.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = x.iter().map(|v| (v - most).exp()).sum();
                for (x, &got) in x.iter().zip(got) {
                    close(f64::from(got), (x - most).exp() / sum, 2e-5, 1e-30);
                }
            }
        }
    }
    Ok(())
}

fn adam(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    for n in [1, 100, 777] {
        let lists: Vec<Vec<f32>> = (0..4).map(|_| eighths(&mut rng, n)).collect();
        let squares: Vec<f32> = lists[2].iter().map(|v| v.abs()).collect();
        let (w, m, rate) = (run.upload(&lists[0]), run.upload(&lists[1]), run.upload(&[0.01f32]));
        let v = if run.bug == 1 { run.alloc::<f32>(n) } else { run.upload(&squares) };
        let grad = if run.bug == 2 { run.alloc::<f32>(n) } else { run.upload(&lists[3]) };
        let params = args![w, m, v, grad, rate, 0.9f32, 0.999f32, 1e-8f32, 0.1f32, 3i32, n as i64];
        run.launch("adam", shape(2, 64), &params)?;
        let (new_w, new_m, new_v) = (run.download::<f32>(w, n), run.download::<f32>(m, n), run.download::<f32>(v, n));
        for i in 0..n {
            let [w, m, g] = [0, 1, 3].map(|list: usize| f64::from(lists[list][i]));
            let (mean, square) = (0.9 * m + 0.1 * g, 0.999 * f64::from(squares[i]) + 0.001 * g * g);
            let (c1, c2) = (1.0 - 0.9f64.powi(3), 1.0 - 0.999f64.powi(3));
            let step = mean / c1 / ((square / c2).sqrt() + 1e-8) + 0.1 * w;
            close(f64::from(new_m[i]), mean, 1e-5, 1e-5);
            close(f64::from(new_v[i]), square, 1e-5, 1e-6);
            close(f64::from(new_w[i]), w - 0.01 * step, 1e-4, 1e-4);
        }
    }
    Ok(())
}

fn embedding(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(5);
    for (tokens, cols) in [(7, 20), (1, 4), (30, 132)] {
        let (vocabulary, last) = (11, 10);
        let table = eighths(&mut rng, vocabulary * cols);
        let grad = eighths(&mut rng, tokens * cols);
        let mut ids: Vec<i32> = (0..tokens).map(|_| rng.below(vocabulary) as i32).collect();
        ids[tokens / 2] = -1;
        ids[0] = if run.bug == 2 { vocabulary as i32 } else { last };
        let [weights, grads, tokens_ids] = [run.upload(&table), run.upload(&grad), run.upload(&ids)];
        let output = run.alloc::<f32>(tokens * cols);
        if run.bug == 1 {
            run.free(weights);
        }
        let launch = shape(tokens as u32, 32);
        run.launch("gather", launch, &args![output, weights, tokens_ids, cols as i32 / 4])?;
        let got = run.download::<f32>(output, tokens * cols);
        let mut sums = vec![0.0; vocabulary * cols];
        for (t, &id) in ids.iter().enumerate() {
            for c in 0..cols {
                let row = id.max(0) as usize * cols + c;
                assert_eq!(got[t * cols + c], if id < 0 { 0.0 } else { table[row] });
                sums[row] += if id < 0 { 0.0 } else { grad[t * cols + c] };
            }
        }
        let total = run.zeros::<f32>(vocabulary * cols);
        if run.bug == 3 {
            run.free(grads);
        }
        run.launch("scatter_add", launch, &args![total, grads, tokens_ids, cols as i32])?;
        assert_eq!(run.download::<f32>(total, vocabulary * cols), sums);

        let rows: Vec<i32> = (0..vocabulary as i32).rev().collect();
        let (out, list) = (run.alloc::<f32>(vocabulary * cols), run.upload(&rows));
        run.launch("renormalise", shape(vocabulary as u32, 32), &args![out, weights, list, cols as i32, 0.5f32])?;
        let got = run.download::<f32>(out, vocabulary * cols);
        for (b, &row) in rows.iter().enumerate() {
            for c in 0..cols {
                assert_eq!(got[b * cols + c], 0.5 * table[row as usize * cols + cols - 1 - c]);
            }
        }
    }
    Ok(())
}
