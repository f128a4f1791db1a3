//! Sums and selections over arrays.

use half::f16;
use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape, shared};
use crate::ptx_support::Random;

programs! {
    reduce_tiles 75
    dot_last_block 75
    warp_aggregate 75
    atomics 75
}

/// Numbers whose sums are exact in any order: eighths between -8 and 8.
pub fn eighths(rng: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.below(129) as f32 / 8.0 - 8.0).collect()
}

fn reduce_tiles(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (n, grid, block) in [(1, 1, 32), (1000, 3, 96), (4099, 2, 1024), (65, 1, 64)] {
        let x = eighths(&mut rng, n);
        let (input, sums) = (run.upload(&x), run.alloc::<f32>(grid));
        run.launch("block_sums", shape(grid as u32, block), &args![sums, input, n as i32])?;
        let total: f32 = run.download::<f32>(sums, grid).iter().sum();
        assert_eq!(total, x.iter().sum::<f32>());

        let x: Vec<i32> = (0..n).map(|_| rng.next() as i32).collect();
        let (input, least, most) = (run.upload(&x), run.upload(&[i32::MAX]), run.upload(&[i32::MIN]));
        run.launch("range", shape(n.div_ceil(64) as u32, 64), &args![least, most, input, n as i32])?;
        assert_eq!(run.download::<i32>(least, 1)[0], *x.iter().min().unwrap());
        assert_eq!(run.download::<i32>(most, 1)[0], *x.iter().max().unwrap());
    }
    Ok(())
}

fn dot_last_block(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for (n, grid, block) in [(1, 1, 32), (777, 5, 64), (5000, 7, 128)] {
        let (x, y) = (eighths(&mut rng, n), eighths(&mut rng, n));
        let (a, b) = (run.upload(&x), run.upload(&y));
        let (result, partial) = (run.alloc::<f32>(1), run.alloc::<f32>(grid));
        let tickets = if run.bug == 1 { run.alloc::<u32>(1) } else { run.zeros::<u32>(1) };
        if run.bug == 2 {
            run.free(b);
        }
        let given = n as i32 + i32::from(run.bug == 3);
        let launch = shared(shape(grid as u32, block), 4 * block as usize);
        for _ in 0..2 {
            run.launch("dot", launch, &args![result, partial, tickets, a, b, given])?;
            let wanted: f32 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
            assert_eq!(run.download::<f32>(result, 1)[0], wanted);
        }
        let (partial, tickets) = (run.alloc::<u32>(n.div_ceil(64)), run.zeros::<u32>(1));
        let launch = shape(n.div_ceil(64) as u32, 64);
        run.launch("count_positive", launch, &args![result, partial, tickets, a, n as i32])?;
        let wanted = x.iter().filter(|&&x| x > 0.0).count();
        assert_eq!(run.download::<u32>(result, 1)[0] as usize, wanted);
    }
    Ok(())
}

fn warp_aggregate(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for (n, limit) in [(1usize, -1), (1000, 30), (333, 100), (640, -1)] {
        let x: Vec<i32> = (0..n).map(|_| rng.below(100) as i32).collect();
        let input = run.upload(&x);
        let mut wanted: Vec<i32> = x.iter().copied().filter(|&v| v > limit).collect();
        let room = wanted.len().max(1) - usize::from(run.bug == 2 && wanted.len() > 1);
        let (list, count) = (run.alloc::<i32>(room), run.zeros::<i32>(1));
        run.launch("filter", shape(n.div_ceil(96) as u32, 96), &args![list, count, input, n as i32, limit])?;
        assert_eq!(run.download::<i32>(count, 1)[0] as usize, wanted.len());
        let mut got = run.download::<i32>(list, wanted.len());
        got.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(got, wanted);

        let (counts, leaders) = (run.zeros::<i32>(100), run.zeros::<i32>(1));
        run.launch("count_keys", shape(2, 128), &args![counts, leaders, input, n as i32])?;
        // A group has at most 32 members.
        let led = run.download::<i32>(leaders, 1)[0] as usize;
        assert!(led >= n / 32 && led <= n, "{led}");
        let of = |key: usize| x.iter().filter(|&&v| v as usize == key).count() as i32;
        assert_eq!(run.download::<i32>(counts, 100), (0..100).map(of).collect::<Vec<_>>());

        let keys: Vec<i32> = (0..n).map(|i| if i < 100 { 7 } else { x[i] }).collect();
        let (sums, keyed) = (run.zeros::<i32>(100), run.upload(&keys));
        run.launch("sum_by_key", shape(n.div_ceil(64) as u32, 64), &args![sums, keyed, input, n as i32])?;
        let of = |key: i32| keys.iter().zip(&x).filter(|(k, _)| **k == key).map(|(_, v)| v).sum::<i32>();
        assert_eq!(run.download::<i32>(sums, 100), (0..100).map(of).collect::<Vec<_>>());
    }
    Ok(())
}

fn atomics(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    for n in [1usize, 100, 777] {
        let x: Vec<i32> = (0..n).map(|_| rng.next() as i32 >> 8).collect();
        // The layout of `results`: four bytes each but for the four of eight.
        let mut start = Vec::new();
        start.extend([i32::MAX, i32::MIN, -1, 0, 0, 0, 0, 0].map(i32::to_le_bytes).concat());
        start.extend([0, 0, i64::MAX, 0].map(i64::to_le_bytes).concat());
        start.extend([-1e9f32, 0.0, 0.0, 0.0].map(f32::to_le_bytes).concat());
        let (input, results) = (run.upload(&x), run.upload(&start));
        run.launch("all_kinds", shape(2, 64), &args![results, input, n as i32])?;
        let got = run.download::<u8>(results, start.len());
        let int = |at: usize| i32::from_le_bytes(got[at..at + 4].try_into().unwrap());
        let long = |at: usize| i64::from_le_bytes(got[at..at + 8].try_into().unwrap());
        assert_eq!([int(0), int(4)], [*x.iter().min().unwrap(), *x.iter().max().unwrap()]);
        assert_eq!(int(8), x.iter().fold(-1, |all, v| all & (v | 0xf0f)));
        assert_eq!(int(12), x.iter().fold(0, |all, v| all | (v & 0xff_00ff)));
        assert_eq!(int(16), x.iter().fold(0, |all, v| all ^ v));
        assert_eq!([int(20), int(24)], [n as i32 % 7, (11 - n as i32 % 11) % 11]);
        assert_eq!(long(32), x.iter().map(|&v| i64::from(v)).sum::<i64>());
        assert_eq!(long(40) as u64, x.iter().map(|&v| u64::from(v as u32) << 20).max().unwrap());
        assert_eq!(long(48), x.iter().map(|&v| i64::from(v) * 1_000_003).min().unwrap());
        assert_eq!(f64::from_bits(long(56) as u64), x.iter().map(|&v| f64::from(v) * 0.5).sum::<f64>());
        let float = |at: usize| f32::from_bits(int(at) as u32);
        assert_eq!(float(64), x.iter().map(|v| v % 1000).max().unwrap() as f32);
        assert_eq!(float(68), x.iter().map(|v| v % 64).sum::<i32>() as f32);
        let half = |at: usize| f16::from_bits(u16::from_le_bytes(got[at..at + 2].try_into().unwrap())).to_f32();
        assert_eq!([half(72), half(74)], [n as f32, 0.5 * n as f32]);
        assert!((1..=n as i32).contains(&int(76)));

        let (counts, sums) = (run.zeros::<u32>(8), run.zeros::<u64>(2));
        run.launch("either_memory", shape(n.div_ceil(96) as u32, 96), &args![counts, sums, input, n as i32])?;
        let of = |key: i32| x.iter().filter(|&&v| v & 7 == key).count() as u32;
        assert!(run.download::<u32>(counts, 8).into_iter().eq((0..8).map(of)));
        let total: u64 = x.iter().map(|&v| u64::from(v as u32)).sum();
        assert_eq!(run.download::<u64>(sums, 2).into_iter().sum::<u64>(), total);
    }
    Ok(())
}
