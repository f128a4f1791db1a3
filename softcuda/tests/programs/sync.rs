//! Threads and blocks that wait for each other.

use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape};
use crate::norms::close;
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    grid_barrier 75
    named_barriers 75
    mbarrier_pipeline 80
    split_barrier 80
    dependent_launch 90
}

fn grid_barrier(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (n, steps, threads) in [(3usize, 1, 32usize), (200, 4, 64), (97, 7, 32)] {
        let x = eighths(&mut rng, n);
        let (a, b, meeting) = (run.upload(&x), run.upload(&x), run.zeros::<u32>(2));
        // The bug with blocks that leave needs one that has nothing to do.
        let launch = shape((n.div_ceil(threads) + 1) as u32, threads as u32);
        run.launch("relax", launch, &args![a, b, n as i32, steps, meeting])?;
        let mut wanted: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        for _ in 0..steps {
            let from = wanted.clone();
            (1..n - 1).for_each(|i| wanted[i] = 0.5 * (from[i - 1] + from[i + 1]));
        }
        let last = if steps % 2 == 1 { b } else { a };
        for (got, wanted) in run.download::<f32>(last, n).into_iter().zip(wanted) {
            close(f64::from(got), wanted, 1e-6, 1e-6);
        }
    }
    Ok(())
}

fn named_barriers(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for rows in [1, 7, 20] {
        let x = eighths(&mut rng, rows * 64);
        let (input, output) = (run.upload(&x), run.alloc::<f32>(64));
        run.launch("column_sums", shape(1, 128), &args![output, input, rows as i32, 2.0f32])?;
        let sum = |col: usize| (0..rows).map(|row| 2.0 * x[row * 64 + col]).sum::<f32>();
        assert!(run.download::<f32>(output, 64).into_iter().eq((0..64).map(sum)));
    }
    Ok(())
}

fn dependent_launch(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    for n in [1usize, 100, 333] {
        let (x, weights) = (eighths(&mut rng, n), eighths(&mut rng, n));
        let (middle, output) = (run.alloc::<f32>(n), run.alloc::<f32>(n));
        let launch = shape(n.div_ceil(64) as u32, 64);
        run.launch("first", launch, &args![middle, run.upload(&x), n as i32])?;
        run.launch("second", launch, &args![output, middle, run.upload(&weights), n as i32])?;
        let wanted = (0..n).map(|i| weights[i] * (x[n - 1 - i] * x[n - 1 - i]));
        assert!(run.download::<f32>(output, n).into_iter().eq(wanted));
    }
    Ok(())
}

fn mbarrier_pipeline(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for (blocks, tiles, threads) in [(1, 1, 64), (3, 5, 96), (2, 12, 160)] {
        let x = eighths(&mut rng, blocks * tiles * 64);
        for kernel in ["sum_tiles", "sum_tiles_async"] {
            let (input, output) = (run.upload(&x), run.zeros::<f32>(blocks));
            run.launch(kernel, shape(blocks as u32, threads), &args![output, input, tiles as i32])?;
            let wanted = x.chunks(tiles * 64).map(|x| x.iter().sum::<f32>());
            assert!(run.download::<f32>(output, blocks).into_iter().eq(wanted), "{kernel}");
        }
    }
    Ok(())
}

fn split_barrier(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(5);
    for (blocks, n, threads, steps) in [(1, 3, 32, 1), (2, 96, 96, 5), (3, 90, 160, 4)] {
        let x = eighths(&mut rng, blocks * n);
        let (input, output) = (run.upload(&x), run.alloc::<f32>(blocks * n));
        run.launch("relax", shape(blocks as u32, threads), &args![output, input, n as i32, steps])?;
        let got = run.download::<f32>(output, blocks * n);
        for (x, got) in x.chunks(n).zip(got.chunks(n)) {
            let mut wanted: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
            for _ in 0..steps {
                let from = wanted.clone();
                (1..n - 1).for_each(|i| wanted[i] = 0.5 * from[i] + 0.25 * (from[i - 1] + from[i + 1]));
            }
            got.iter().zip(wanted).for_each(|(&got, wanted)| close(f64::from(got), wanted, 1e-6, 1e-6));
        }
    }
    Ok(())
}
