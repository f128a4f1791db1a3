//! Scans, sorts, histograms, compaction.

use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape, shared};
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    scan_blelloch 75
    scan_lookback 75
    radix_pass 75
    bitonic_sort 75
    merge_path 75
    histogram 75
    compact 75
}

fn ints(rng: &mut Random, n: usize, limit: usize) -> Vec<i32> {
    (0..n).map(|_| rng.below(limit) as i32).collect()
}

fn scan_blelloch(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (n, threads) in [(1, 16usize), (129, 64), (1000, 32)] {
        let x = ints(&mut rng, n, 1000);
        let (input, blocks) = (run.upload(&x), n.div_ceil(2 * threads));
        let (output, totals, bases) = (run.alloc::<i32>(n), run.alloc::<i32>(blocks), run.alloc::<i32>(blocks));
        let launch = shape(blocks as u32, threads as u32);
        let bytes = 8 * threads - if run.bug == 4 { 4 } else { 0 };
        run.launch("scan_blocks", shared(launch, bytes), &args![output, totals, input, n as i32])?;
        let last = run.alloc::<i32>(1);
        let one = shared(shape(1, 16), 8 * 16);
        run.launch("scan_blocks", one, &args![bases, last, totals, blocks as i32])?;
        run.launch("add_totals", launch, &args![output, bases, n as i32])?;
        let mut sum = 0;
        for (x, got) in x.iter().zip(run.download::<i32>(output, n)) {
            assert_eq!(got, sum);
            sum += x;
        }
    }
    Ok(())
}

fn scan_lookback(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for (n, threads) in [(1, 32usize), (1000, 64), (777, 128), (555, 32)] {
        let x = ints(&mut rng, n, 1000);
        let (input, blocks) = (run.upload(&x), n.div_ceil(threads));
        let (output, status, counter) = (run.alloc::<i32>(n), run.zeros::<u64>(blocks), run.zeros::<u32>(1));
        let params = args![output, status, counter, input, n as i32];
        run.launch("scan", shape(blocks as u32, threads as u32), &params)?;
        let mut sum = 0;
        for (x, got) in x.iter().zip(run.download::<i32>(output, n)) {
            sum += x;
            assert_eq!(got, sum);
        }
    }
    Ok(())
}

fn radix_pass(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for (n, threads) in [(1, 32usize), (1000, 96), (300, 64)] {
        let mut keys: Vec<u32> = (0..n).map(|_| rng.next() as u32).collect();
        let (mut from, mut to) = (run.upload(&keys), run.alloc::<u32>(n));
        let blocks = n.div_ceil(threads);
        let counts = run.alloc::<u32>(16 * blocks);
        let launch = shape(blocks as u32, threads as u32);
        for shift in (0..32).step_by(4) {
            run.launch("digit_counts", launch, &args![counts, from, n as i32, shift])?;
            run.launch("scan_counts", shape(1, 64), &args![counts, 16 * blocks as i32])?;
            run.launch("scatter", launch, &args![to, from, counts, n as i32, shift])?;
            std::mem::swap(&mut from, &mut to);
        }
        keys.sort_unstable();
        assert_eq!(run.download::<u32>(from, n), keys);
    }
    Ok(())
}

fn bitonic_sort(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    for (lists, n) in [(2, 64), (1, 256), (3, 2), (1, 512)] {
        let mut pairs: Vec<(u64, i32)> = (0..lists * n).map(|i| (rng.next(), i as i32)).collect();
        let keys = run.upload(&pairs.iter().map(|p| p.0).collect::<Vec<_>>());
        let values = run.upload(&pairs.iter().map(|p| p.1).collect::<Vec<_>>());
        let launch = shared(shape(lists as u32, n as u32 / 2), 12 * n);
        run.launch("sort_lists", launch, &args![keys, values, n as i32])?;
        pairs.chunks_mut(n).for_each(<[_]>::sort_unstable);
        let (keys, values) = (run.download::<u64>(keys, lists * n), run.download::<i32>(values, lists * n));
        assert!(keys.into_iter().zip(values).eq(pairs));
    }
    Ok(())
}

fn merge_path(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(5);
    for (na, nb) in [(1usize, 1usize), (500, 333), (7, 700), (29, 1)] {
        let (mut a, mut b) = (ints(&mut rng, na, 300), ints(&mut rng, nb, 300));
        a.sort_unstable();
        b.sort_unstable();
        let (first, second, output) = (run.upload(&a), run.upload(&b), run.alloc::<i32>(na + nb));
        let params = args![output, first, na as i32, second, nb as i32];
        run.launch("merge", shape((na + nb).div_ceil(7 * 32) as u32, 32), &params)?;
        let mut wanted = [a, b].concat();
        wanted.sort_unstable();
        assert_eq!(run.download::<i32>(output, na + nb), wanted);
    }
    Ok(())
}

fn histogram(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(6);
    for n in [1, 777, 2050] {
        // A few bytes make up most of it.
        let x: Vec<u8> = (0..n).map(|_| (rng.next() & rng.next() & 0xff) as u8).collect();
        let input = run.upload(&x);
        let wanted: Vec<u32> = (0..=255).map(|bin| x.iter().filter(|&&v| v == bin).count() as u32).collect();
        for kernel in ["by_global_atomics", "by_private_copies"] {
            let bins = run.zeros::<u32>(256);
            run.launch(kernel, shape(3, 96), &args![bins, input, n])?;
            assert_eq!(run.download::<u32>(bins, 256), wanted, "{kernel}");
        }
    }
    Ok(())
}

fn compact(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(7);
    for n in [1usize, 1000, 129] {
        let x = eighths(&mut rng, n);
        let blocks = n.div_ceil(128);
        let (input, output, counts) = (run.upload(&x), run.alloc::<f32>(n), run.zeros::<u32>(blocks));
        let launch = shape(blocks as u32, 128);
        run.launch("count_kept", launch, &args![counts, input, n as i32])?;
        run.launch("compact", launch, &args![output, input, counts, n as i32])?;
        let (mut wanted, dropped): (Vec<f32>, Vec<f32>) = x.iter().partition(|&&v| v >= 0.0);
        wanted.extend(dropped.iter().rev());
        assert_eq!(run.download::<f32>(output, n), wanted);
    }
    Ok(())
}
