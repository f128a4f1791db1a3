//! Blocks of a cluster, which reach each other's shared memory.

use softcuda::fault::Fault;

use crate::harness::{Run, args, clusters, programs, shape};
use crate::norms::close;
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    cluster_reduce 90
    softmax_cluster 90
}

fn cluster_reduce(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (rows, cols, blocks, threads) in [(1, 10, 2, 32), (2, 1000, 4, 64), (1, 777, 8, 32), (2, 65, 1, 32)] {
        let x = eighths(&mut rng, rows * cols);
        let (input, output) = (run.upload(&x), run.alloc::<f32>(rows));
        let launch = clusters(shape(rows as u32 * blocks, threads), blocks);
        run.launch("row_sums", launch, &args![output, input, cols as i32])?;
        let wanted = x.chunks(cols).map(|x| x.iter().sum::<f32>());
        assert!(run.download::<f32>(output, rows).into_iter().eq(wanted));

        let x: Vec<u8> = (0..cols).map(|_| (rng.next() & rng.next()) as u8).collect();
        let (input, bins) = (run.upload(&x), run.zeros::<u32>(256));
        run.launch("histogram", launch, &args![bins, input, cols as i32])?;
        let count = |bin: usize| x.iter().filter(|&&v| usize::from(v) == bin).count() as u32;
        assert!(run.download::<u32>(bins, 256).into_iter().eq((0..256).map(count)));
    }
    Ok(())
}

fn softmax_cluster(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for (rows, cols, blocks, threads) in [(1, 10, 2, 32), (3, 1000, 4, 96), (1, 777, 8, 32)] {
        let x = eighths(&mut rng, rows * cols);
        let (input, output) = (run.upload(&x), run.alloc::<f32>(rows * cols));
        let launch = clusters(shape(rows as u32 * blocks, threads), blocks);
        run.launch("softmax", launch, &args![output, input, cols as i32])?;
        let got = run.download::<f32>(output, rows * cols);
        for (x, got) in x.chunks(cols).zip(got.chunks(cols)) {
            let sum: f64 = x.iter().map(|&v| f64::from(v).exp()).sum();
            for (&x, &got) in x.iter().zip(got) {
                close(f64::from(got), f64::from(x).exp() / sum, 2e-5, 1e-12);
            }
        }
    }
    Ok(())
}
