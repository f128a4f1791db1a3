//! Rows of neural networks: normalisations, softmax, an optimiser, an embedding.

use half::{bf16, f16};
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
    quantise 80
    attention 75
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

fn quantise(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(6);
    for (rows, cols, block) in [(1, 4, 32), (3, 100, 64), (2, 516, 96)] {
        let x = eighths(&mut rng, rows * cols + 1);
        let (input, output) = (run.upload(&x) + 4 * u64::from(run.bug == 1), run.alloc::<i8>(rows * cols));
        let (scales, sums) = (run.alloc::<f32>(rows), run.alloc::<i32>(rows));
        if run.bug != 2 {
            run.device.memory.write(sums, &vec![0; 4 * rows]).unwrap();
        }
        let launch = shape(rows as u32, block);
        run.launch("quantise", launch, &args![output, scales, sums, input, cols as i32 / 4])?;
        let wide = run.alloc::<bf16>(rows * cols);
        run.launch("dequantise", launch, &args![wide, output, scales, cols as i32])?;
        let (got, wide) = (run.download::<i8>(output, rows * cols), run.download::<bf16>(wide, rows * cols));
        let (scales, sums) = (run.download::<f32>(scales, rows), run.download::<i32>(sums, rows));
        for row in 0..rows {
            let x = &x[row * cols..][..cols];
            let most = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            close(f64::from(scales[row]), f64::from(most) / 127.0, 1e-6, 0.0);
            let got = &got[row * cols..][..cols];
            assert_eq!(sums[row], got.iter().map(|&q| i32::from(q)).sum::<i32>());
            for col in 0..cols {
                assert_eq!(got[col], (x[col] * (127.0 / most)).round_ties_even() as i8);
                let value = f32::from(got[col]) * scales[row];
                assert_eq!(wide[row * cols + col], bf16::from_f32(value));
            }
        }
        let edges = [0.5f32, 1.5, -0.5, 300.0, -300.0, 127.5, f32::NAN, f32::INFINITY, 255.9, 0.25];
        let (input, output) = (run.upload(&edges), run.alloc::<i32>(4 * edges.len()));
        run.launch("saturate", shape(1, 32), &args![output, input, edges.len() as i32])?;
        for (v, got) in edges.iter().zip(run.download::<i32>(output, 4 * edges.len()).chunks(4)) {
            let s8 = i32::from(v.round_ties_even() as i8);
            let s16 = i32::from((v * 1000.0).round_ties_even() as i16);
            let unit = if v.is_nan() { 0.0 } else { v.clamp(0.0, 1.0) };
            assert_eq!(got, [s8, i32::from(*v as u8), s16, unit.to_bits() as i32], "{v}");
        }
    }
    Ok(())
}

fn attention(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(7);
    for (length, warps) in [(1usize, 1u32), (37, 4), (20, 2)] {
        let lists: Vec<Vec<f32>> = (0..3).map(|_| eighths(&mut rng, length * 64)).collect();
        let [q, k, v] = [0, 1, 2].map(|list: usize| run.upload(&lists[list]));
        let output = run.alloc::<f32>(length * 64);
        let launch = shape((length as u32).div_ceil(warps), (32, warps));
        run.launch("attend", launch, &args![output, q, k, v, length as i32, 0.02f32])?;
        let row = |list: usize, at: usize| lists[list][at * 64..][..64].iter().map(|&v| f64::from(v));
        for (i, got) in run.download::<f32>(output, length * 64).chunks(64).enumerate() {
            let scores: Vec<f64> =
                (0..=i).map(|j| (0.02 * row(0, i).zip(row(1, j)).map(|(a, b)| a * b).sum::<f64>()).exp()).collect();
            let sum: f64 = scores.iter().sum();
            for (channel, &got) in got.iter().enumerate() {
                let value = |j: usize| f64::from(lists[2][j * 64 + channel]);
                let wanted: f64 = scores.iter().enumerate().map(|(j, p)| p / sum * value(j)).sum();
                close(f64::from(got), wanted, 1e-4, 1e-4);
            }
        }
    }
    Ok(())
}
