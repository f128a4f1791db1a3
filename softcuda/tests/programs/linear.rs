//! Products of matrices and vectors, and of bodies.

use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape, shared};
use crate::norms::close;
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    spmv 75
    nbody 75
    fft 75
    cholesky 75
    matvec_wide 100
}

fn spmv(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (rows, n) in [(1usize, 5), (77, 40), (130, 200)] {
        let mut starts = vec![0];
        let (mut cols, mut values) = (Vec::new(), Vec::new());
        for row in 0..rows {
            // Some rows are empty, one is long.
            let count = if row == rows / 2 { n } else { rng.below(6) };
            cols.extend((0..count).map(|_| rng.below(n) as i32));
            values.extend(eighths(&mut rng, count));
            starts.push(cols.len() as i32);
        }
        let x = eighths(&mut rng, n);
        let mut given = cols.clone();
        given[0] = if run.bug == 2 { n as i32 } else { given[0] };
        let (output, input) = (run.alloc::<f32>(rows), run.upload(&x));
        let indices = if run.bug == 3 { run.alloc::<i32>(cols.len()) } else { run.upload(&given) };
        let params = args![output, run.upload(&starts), indices, run.upload(&values), input, rows as i32];
        let wanted: Vec<f32> = starts
            .windows(2)
            .map(|range| (range[0]..range[1]).map(|i| values[i as usize] * x[cols[i as usize] as usize]).sum())
            .collect();
        run.launch("spmv_warp", shape(rows.div_ceil(3) as u32, 96), &params)?;
        assert_eq!(run.download::<f32>(output, rows), wanted);
        let sums = run.upload(&wanted);
        let short = [&args![sums], &params[8..], &args![5i32]].concat();
        run.launch("spmv_short", shape(rows.div_ceil(64) as u32, 64), &short)?;
        assert_eq!(run.download::<f32>(sums, rows), wanted);
    }
    Ok(())
}

fn nbody(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for (n, block) in [(1usize, 32usize), (77, 32), (100, 64)] {
        let bodies: Vec<[f32; 4]> = (0..n).map(|_| eighths(&mut rng, 4).try_into().unwrap()).collect();
        let bodies: Vec<[f32; 4]> = bodies.into_iter().map(|[x, y, z, w]| [x, y, z, w.abs()]).collect();
        let (input, velocity, output) = (run.upload(&bodies), run.zeros::<[f32; 4]>(n), run.alloc::<[f32; 4]>(n));
        let bytes = 16 * block - 16 * usize::from(run.bug == 1);
        let launch = shared(shape(n.div_ceil(block) as u32, block as u32), bytes);
        run.launch("step", launch, &args![output, velocity, input, n as i32, 0.125f32, 0.5f32])?;
        let got = run.download::<[f32; 4]>(output, n);
        for (body, got) in bodies.iter().zip(got) {
            for d in 0..3 {
                let pull = |other: &[f32; 4]| {
                    let delta = |d: usize| f64::from(other[d] - body[d]);
                    let square = (0..3).map(|d| delta(d).powi(2)).sum::<f64>() + 0.5;
                    delta(d) * f64::from(other[3]) / square.powf(1.5)
                };
                let pulls: f64 = bodies.iter().map(pull).sum();
                close(f64::from(got[d]), f64::from(body[d]) + 0.125 * 0.125 * pulls, 1e-5, 1e-4);
            }
            assert_eq!(got[3], body[3]);
        }
    }
    Ok(())
}

fn matvec_wide(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for (rows, cols) in [(1usize, 8), (7, 520), (10, 256)] {
        let (a, x) = (eighths(&mut rng, rows * cols), eighths(&mut rng, cols));
        let (matrix, vector, output) = (run.upload(&a), run.upload(&x), run.alloc::<f32>(rows));
        let odd = 4 * u64::from(run.bug == 1);
        let given = cols as i32 + 8 * i32::from(run.bug == 2);
        let params = args![output, matrix, vector + odd, rows as i32, given];
        run.launch("matvec", shape(rows.div_ceil(4) as u32, (32, 4)), &params)?;
        let wanted: Vec<f32> = a.chunks(cols).map(|a| a.iter().zip(&x).map(|(a, x)| a * x).sum()).collect();
        assert_eq!(run.download::<f32>(output, rows), wanted);
    }
    Ok(())
}

fn fft(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    for (lists, bits) in [(1, 1), (2, 7), (1, 9)] {
        let n = 1usize << bits;
        let x: Vec<[f32; 2]> = (0..lists * n).map(|_| eighths(&mut rng, 2).try_into().unwrap()).collect();
        let data = run.upload(&x);
        let launch = shared(shape(lists as u32, n as u32 / 2), 8 * n);
        run.launch("fft", launch, &args![data, bits, -1.0f32])?;
        for (x, got) in x.chunks(n).zip(run.download::<[f32; 2]>(data, lists * n).chunks(n)) {
            for k in (0..n).step_by(n.div_ceil(20)) {
                let mut sum = [0.0; 2];
                for (j, v) in x.iter().enumerate() {
                    let angle = -2.0 * std::f64::consts::PI * (j * k % n) as f64 / n as f64;
                    let (a, b) = (f64::from(v[0]), f64::from(v[1]));
                    sum[0] += a * angle.cos() - b * angle.sin();
                    sum[1] += a * angle.sin() + b * angle.cos();
                }
                (0..2).for_each(|part| close(f64::from(got[k][part]), sum[part], 1e-5, 2e-3));
            }
        }
    }
    Ok(())
}

fn cholesky(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(5);
    for (count, n) in [(1, 1), (3, 7), (2, 12)] {
        let mut matrices = Vec::new();
        for _ in 0..count {
            let b: Vec<f64> = eighths(&mut rng, n * n).into_iter().map(f64::from).collect();
            let dot = |i: usize, j: usize| (0..n).map(|k| b[i * n + k] * b[j * n + k]).sum::<f64>();
            matrices.extend((0..n * n).map(|at| dot(at / n, at % n) + if at / n == at % n { 4.0 } else { 0.0 }));
        }
        let vectors: Vec<f64> = eighths(&mut rng, count * n).into_iter().map(f64::from).collect();
        let (factors, solutions) = (run.upload(&matrices), run.upload(&vectors));
        let mut launch = shared(shape(1, (n as u32, n as u32)), 8 * n * n);
        launch.grid[2] = count as u32;
        run.launch("cholesky", launch, &args![factors, solutions, n as i32])?;
        let factors = run.download::<f64>(factors, count * n * n);
        let solutions = run.download::<f64>(solutions, count * n);
        for (m, (a, l)) in matrices.chunks(n * n).zip(factors.chunks(n * n)).enumerate() {
            for i in 0..n {
                for j in 0..=i {
                    let product: f64 = (0..=j).map(|k| l[i * n + k] * l[j * n + k]).sum();
                    close(product, a[i * n + j], 1e-12, 1e-10);
                }
                let row: f64 = (0..n).map(|j| a[i * n + j] * solutions[m * n + j]).sum();
                close(row, vectors[m * n + i], 1e-8, 1e-8);
            }
        }
    }
    Ok(())
}
