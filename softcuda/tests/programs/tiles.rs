//! Matrices and images.

use half::f16;
use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape, shared};
use crate::norms::close;
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    transpose 75
    matmul_tiled 75
    stencil 75
    convolution 75
    resize 75
    life 75
    cached_copy 80
}

fn tiles(n: usize, tile: usize) -> u32 {
    n.div_ceil(tile) as u32
}

fn transpose(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (rows, cols) in [(1, 1), (33, 70), (64, 5)] {
        let x: Vec<u32> = (0..rows * cols).map(|_| rng.next() as u32).collect();
        // With bug 3 a column is read beyond the tile's: there must be room where it goes.
        let (input, output) = (run.upload(&x), run.alloc::<u32>((rows + 1) * (cols + 1)));
        for kernel in ["transpose", "transpose_padded"] {
            let launch = shape((tiles(cols, 32), tiles(rows, 32)), (32, 8));
            run.launch(kernel, launch, &args![output, input, rows as i32, cols as i32])?;
            let got = run.download::<u32>(output, rows * cols);
            for (i, got) in got.into_iter().enumerate() {
                assert_eq!(got, x[i % rows * cols + i / rows], "{kernel}");
            }
        }
    }
    for (rows, cols) in [(4, 4), (36, 100)] {
        let x: Vec<u16> = (0..rows * cols).map(|_| rng.next() as u16).collect();
        let (input, output) = (run.upload(&x), run.alloc::<u16>(rows * cols));
        let launch = shape((tiles(cols, 32), tiles(rows, 32)), (8, 32));
        run.launch("transpose_vectors", launch, &args![output, input, rows as i32, cols as i32])?;
        for (i, got) in run.download::<u16>(output, rows * cols).into_iter().enumerate() {
            assert_eq!(got, x[i % rows * cols + i / rows]);
        }
    }
    Ok(())
}

fn product(a: &[f64], b: &[f64], (m, n, k): (usize, usize, usize)) -> Vec<f64> {
    (0..m * n).map(|i| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum()).collect()
}

fn matmul_tiled(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for (m, n, k) in [(1, 2, 1), (17, 20, 33), (5, 34, 16)] {
        let (a, b) = (eighths(&mut rng, m * k), eighths(&mut rng, k * n));
        let [wide_a, wide_b] = [&a, &b].map(|x| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
        let wanted = product(&wide_a, &wide_b, (m, n, k));
        let (left, right, c) = (run.upload(&a), run.upload(&b), run.alloc::<f32>(m * n));
        let dims = args![m as i32, n as i32, k as i32];
        let launch = shape((tiles(n, 16), tiles(m, 16)), (16, 16));
        run.launch("multiply_f32", launch, &[args![c, left, right], dims.clone()].concat())?;
        assert!(run.download::<f32>(c, m * n).into_iter().map(f64::from).eq(wanted.iter().copied()));

        let (left, right) = (run.upload(&wide_a), run.upload(&wide_b));
        let c = if run.bug == 4 { run.alloc::<f64>(m * n) } else { run.upload(&vec![1.0f64; m * n]) };
        let launch = shape((tiles(n, 8), tiles(m, 8)), (8, 8));
        let params = args![c, left, right, m as i32, n as i32, k as i32, 0.5f64, 2.0f64];
        run.launch("multiply_f64", launch, &params)?;
        assert!(run.download::<f64>(c, m * n).into_iter().eq(wanted.iter().map(|v| 0.5 * v + 2.0)));

        let halves = |x: &[f32]| x.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>();
        let (left, right, c) = (run.upload(&halves(&a)), run.upload(&halves(&b)), run.alloc::<f16>(m * n));
        let launch = shape((tiles(n / 2, 16), tiles(m, 16)), (16, 16));
        run.launch("multiply_f16x2", launch, &[args![c, left, right], dims].concat())?;
        for (got, wanted) in run.download::<f16>(c, m * n).into_iter().zip(&wanted) {
            close(got.to_f64(), *wanted, 2e-3, 0.5);
        }
    }
    Ok(())
}

fn stencil(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for (width, height) in [(1, 1), (17, 30), (50, 8)] {
        let x = eighths(&mut rng, width * height);
        let (input, output) = (run.upload(&x), run.alloc::<f32>(width * height));
        let launch = shape((tiles(width, 16), tiles(height, 8)), (16, 8));
        run.launch("heat", launch, &args![output, input, width as i32, height as i32, 0.25f32])?;
        for (i, got) in run.download::<f32>(output, width * height).into_iter().enumerate() {
            let (px, py) = (i % width, i / width);
            let edge = px == 0 || px + 1 == width || py == 0 || py + 1 == height;
            let around = || x[i - 1] + x[i + 1] + x[i - width] + x[i + width];
            assert_eq!(got, if edge { x[i] } else { 0.25 * around() });
        }
    }
    for (n, steps, block) in [(3usize, 1, 32), (300, 7, 128), (65, 2, 64)] {
        let x = eighths(&mut rng, n);
        let line = run.upload(&x);
        let launch = shared(shape(1, block), 8 * n);
        run.launch("heat_line", launch, &args![line, n as i32, steps, 0.25f32])?;
        let mut wanted: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        for _ in 0..steps {
            let from = wanted.clone();
            for i in 1..n - 1 {
                wanted[i] = from[i] + 0.25 * (from[i - 1] - 2.0 * from[i] + from[i + 1]);
            }
        }
        for (got, wanted) in run.download::<f32>(line, n).into_iter().zip(wanted) {
            close(f64::from(got), wanted, 1e-6, 1e-5);
        }
    }
    Ok(())
}

/// The weighted sum around a pixel, edges clamped.
fn convolve(
    x: &[u8],
    (width, height): (usize, usize),
    at: usize,
    weight: impl Fn(i32, i32) -> f64,
    radius: i32,
) -> f64 {
    let clamp = |i: usize, d: i32, n: usize| (i as i32 + d).clamp(0, n as i32 - 1) as usize;
    let offsets = (-radius..=radius).flat_map(|dy| (-radius..=radius).map(move |dx| (dx, dy)));
    let pixel = |dx, dy| x[clamp(at / width, dy, height) * width + clamp(at % width, dx, width)];
    offsets.map(|(dx, dy)| f64::from(pixel(dx, dy)) * weight(dx, dy)).sum()
}

fn convolution(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    for (width, height) in [(1, 1), (37, 21), (16, 50)] {
        // 16 values, so that the blur is exact.
        let x: Vec<u8> = (0..width * height).map(|_| (rng.below(15) * 16) as u8).collect();
        let (input, blurred) = (run.upload(&x), run.alloc::<u8>(width * height));
        let launch = shape((tiles(width, 16), tiles(height, 4)), (16, 4));
        let params = |output| args![output, input, width as i32, height as i32];
        run.launch("blur", launch, &params(blurred))?;
        for (i, got) in run.download::<u8>(blurred, width * height).into_iter().enumerate() {
            let weight = |dx: i32, dy: i32| f64::from((2 - dx.abs()) * (2 - dy.abs())) / 16.0;
            let sum = convolve(&x, (width, height), i, weight, 1);
            assert_eq!(got, (sum + 0.5) as u8 + [3, 1, 4, 1][(i % width + i / width) % 4]);
        }
        run.launch("make_filter", shape(1, 32), &[])?;
        let sharp = run.alloc::<f32>(width * height);
        run.launch("sharpen", launch, &params(sharp))?;
        for (i, got) in run.download::<f32>(sharp, width * height).into_iter().enumerate() {
            let weight = |dx: i32, dy: i32| 1.0 / f64::from(1 + dx * dx + dy * dy);
            let wanted = 2.0 * f64::from(x[i]) - convolve(&x, (width, height), i, weight, 2);
            close(f64::from(got), wanted, 1e-5, 1e-3);
        }
    }
    Ok(())
}

fn resize(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(5);
    for (from, to) in [((1, 1), (3, 2)), ((13, 7), (37, 20)), ((40, 30), (9, 11))] {
        let x: Vec<u8> = (0..from.0 * from.1 * 4).map(|_| rng.next() as u8).collect();
        let (input, output) = (run.upload(&x), run.alloc::<u8>(to.0 * to.1 * 4));
        let params = args![output, to.0 as i32, to.1 as i32, input, from.0 as i32, from.1 as i32];
        run.launch("resize", shape((tiles(to.0, 8), tiles(to.1, 8)), (8, 8)), &params)?;
        let got = run.download::<u8>(output, to.0 * to.1 * 4);
        for (i, got) in got.into_iter().enumerate() {
            let (c, px, py) = (i % 4, i / 4 % to.0, i / 4 / to.0);
            let at = |p: usize, n: usize, out: usize| ((p as f64 + 0.5) * n as f64 / out as f64 - 0.5).max(0.0);
            let (fx, fy) = (at(px, from.0, to.0), at(py, from.1, to.1));
            let sample = |dx: usize, dy: usize| {
                let (sx, sy) = ((fx as usize + dx).min(from.0 - 1), (fy as usize + dy).min(from.1 - 1));
                f64::from(x[(sy * from.0 + sx) * 4 + c])
            };
            let (tx, ty) = (fx.fract(), fy.fract());
            let row = |dy| sample(0, dy) * (1.0 - tx) + sample(1, dy) * tx;
            close(f64::from(got), row(0) * (1.0 - ty) + row(1) * ty, 0.0, 0.502);
        }
    }
    Ok(())
}

fn life(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(6);
    for (words, rows) in [(1, 3), (3, 33), (2, 50)] {
        let x: Vec<u32> = (0..words * rows).map(|_| (rng.next() & rng.next()) as u32).collect();
        let (input, output) = (run.upload(&x), run.alloc::<u32>(x.len()));
        let launch = shape(tiles(x.len(), 64), 64);
        run.launch("step", launch, &args![output, input, words as i32, rows as i32])?;
        let cell = |col: usize, row: usize| {
            let (col, row) = (col % (32 * words), row % rows);
            x[row * words + col / 32] >> (col % 32) & 1
        };
        for (i, got) in run.download::<u32>(output, x.len()).into_iter().enumerate() {
            for bit in 0..32 {
                let (col, row) = (i % words * 32 + bit, i / words);
                let around = (0..9).filter(|&d| d != 4);
                let near = around.map(|d| cell(col + d % 3 + 32 * words - 1, row + d / 3 + rows - 1)).sum::<u32>();
                let alive = near == 3 || (near == 2 && cell(col, row) == 1);
                assert_eq!(got >> bit & 1, u32::from(alive), "{words} words, {rows} rows, word {i}, bit {bit}");
            }
        }
        let (reversed, runs) = (run.alloc::<u32>(x.len()), run.alloc::<u32>(x.len()));
        run.launch("describe", launch, &args![reversed, runs, input, x.len() as i32])?;
        let (reversed, runs) = (run.download::<u32>(reversed, x.len()), run.download::<u32>(runs, x.len()));
        for (i, &word) in x.iter().enumerate() {
            assert_eq!(reversed[i], word.swap_bytes() ^ word.reverse_bits());
            let from = i as u32 % 32;
            let length = (word >> from).trailing_ones();
            let below = (word & (2u32 << from).wrapping_sub(1)).count_ones();
            assert_eq!(runs[i], length | word.leading_zeros() << 8 | below << 16);
        }
    }
    Ok(())
}

fn cached_copy(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(7);
    for [nx, ny, nz] in [[1, 1, 1], [9, 5, 7], [33, 2, 3]] {
        let x: Vec<u32> = (0..nx * ny * nz).map(|_| rng.next() as u32).collect();
        let (input, output) = (run.upload(&x), run.alloc::<u32>(x.len()));
        let mut launch = shape((tiles(nx, 8), tiles(ny, 4)), (8, 4));
        (launch.grid[2], launch.block[2]) = (tiles(nz, 2), 2);
        run.launch("permute", launch, &args![output, input, nx as i32, ny as i32, nz as i32])?;
        for (i, got) in run.download::<u32>(output, x.len()).into_iter().enumerate() {
            let (px, py, pz) = (i / ny / nz, i % ny, i / ny % nz);
            let v = x[(pz * ny + py) * nx + px];
            let (value, kind, shift) = (v & 0xf_ffff ^ 0xf_ffff, ((v >> 20) + 1) & 31, (v >> 25).wrapping_neg() & 127);
            assert_eq!(got, value | kind << 20 | shift << 25);
        }
    }
    Ok(())
}
