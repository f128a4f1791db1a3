//! Copies that go on beside the threads.

use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape};
use crate::norms::close;
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    pipeline_async 80
    bulk_copy 90
}

fn pipeline_async(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (rows, cols) in [(1, 4), (2, 300), (3, 516)] {
        let x = eighths(&mut rng, rows * cols);
        let (input, output) = (run.upload(&x), run.alloc::<f32>(rows * cols));
        run.launch("smooth", shape(rows as u32, 32), &args![output, input, cols as i32])?;
        let got = run.download::<f32>(output, rows * cols);
        for (x, got) in x.chunks(cols).zip(got.chunks(cols)) {
            for i in 0..cols {
                let sum: f32 = x[i.saturating_sub(4)..(i + 5).min(cols)].iter().sum();
                close(f64::from(got[i]), f64::from(sum) / 9.0, 1e-6, 1e-6);
            }
        }
    }
    for n in [1usize, 333, 100] {
        let table: Vec<i32> = (0..50).map(|_| rng.below(30) as i32).collect();
        let mut index: Vec<i32> = (0..n).map(|_| rng.below(50) as i32).collect();
        index[n / 2] = if run.bug == 5 { 50 } else { index[n / 2] };
        let output = run.alloc::<i32>(n);
        let params = args![output, run.upload(&table), run.upload(&index), n as i32];
        run.launch("gather_sorted", shape(n.div_ceil(96) as u32, 96), &params)?;
        let mut wanted: Vec<i32> = index.iter().map(|&i| table[i as usize]).collect();
        wanted.chunks_mut(96).for_each(<[_]>::sort_unstable);
        assert_eq!(run.download::<i32>(output, n), wanted);
    }
    Ok(())
}

fn bulk_copy(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for (blocks, tiles, threads) in [(1, 1, 32), (2, 5, 64), (3, 2, 96)] {
        let n = blocks * tiles * 256;
        let x = eighths(&mut rng, n + 2);
        let (input, output) = (run.upload(&x) + if run.bug == 7 { 8 } else { 0 }, run.alloc::<f32>(n));
        run.launch("scale", shape(blocks as u32, threads), &args![output, input, tiles as i32, 3.0f32])?;
        let got = run.download::<f32>(output, n);
        assert!(got.into_iter().eq(x[..n].iter().map(|v| 3.0 * v)));
    }
    Ok(())
}
