//! Graphs, tables, locks, queues: threads that meet in global memory.

use std::collections::BTreeMap;

use softcuda::fault::Fault;

use crate::harness::{Run, args, programs, shape};
use crate::ptx_support::Random;

programs! {
    bfs 75
    union_find 75
    hash_table 75
    spin_lock 75
    work_queue 75
}

/// Edges of a random graph with `n` vertices.
fn graph(rng: &mut Random, n: usize, edges: usize) -> Vec<[i32; 2]> {
    (0..edges).map(|_| [rng.below(n) as i32, rng.below(n) as i32]).collect()
}

fn bfs(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(1);
    for (n, m) in [(1, 1), (200, 500), (77, 60)] {
        let mut edges = graph(&mut rng, n, m);
        edges.sort_unstable();
        let starts: Vec<i32> = (0..=n as i32).map(|v| edges.partition_point(|e| e[0] < v) as i32).collect();
        let targets: Vec<i32> = edges.iter().map(|e| e[1]).collect();
        let (starts_at, edges_at) = (run.upload(&starts), run.upload(&targets));
        let mut distance = vec![-1; n];
        distance[0] = 0;
        let room = if run.bug == 3 { 2 } else { n };
        let (found, mut frontier, mut next) = (run.upload(&distance), run.zeros::<i32>(n), run.alloc::<i32>(room));
        let (mut size, mut depth, mut level) = (1, 0, vec![0]);
        while size > 0 {
            depth += 1;
            let count = run.zeros::<i32>(1);
            let params = args![found, next, count, frontier, size, starts_at, edges_at, depth];
            run.launch("level", shape((size as u32).div_ceil(32), 32), &params)?;
            size = run.download::<i32>(count, 1)[0];
            std::mem::swap(&mut frontier, &mut next);
            let mut after = Vec::new();
            for v in level {
                for e in starts[v]..starts[v + 1] {
                    let to = targets[e as usize] as usize;
                    if distance[to] < 0 {
                        distance[to] = depth;
                        after.push(to);
                    }
                }
            }
            level = after;
        }
        assert_eq!(run.download::<i32>(found, n), distance);
    }
    Ok(())
}

fn union_find(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(2);
    for (n, m) in [(1, 1), (300, 200), (100, 130)] {
        let edges = graph(&mut rng, n, m);
        let (parent, root) = (run.upload(&(0..n as i32).collect::<Vec<_>>()), run.alloc::<i32>(n));
        let params = args![parent, run.upload(&edges), m as i32];
        run.launch("unite", shape(m.div_ceil(64) as u32, 64), &params)?;
        run.launch("flatten", shape(n.div_ceil(64) as u32, 64), &args![root, parent, n as i32])?;
        let mut wanted: Vec<i32> = (0..n as i32).collect();
        // The least vertex of each component, by propagation until nothing changes.
        loop {
            let before = wanted.clone();
            for &[a, b] in &edges {
                let least = wanted[a as usize].min(wanted[b as usize]);
                (wanted[a as usize], wanted[b as usize]) = (least, least);
            }
            if wanted == before {
                break;
            }
        }
        assert_eq!(run.download::<i32>(root, n), wanted);
    }
    Ok(())
}

fn hash_table(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for (n, slots) in [(1, 2usize), (300, 256), (100, 64)] {
        // Few enough different keys to leave slots empty.
        let x: Vec<u64> = (0..n).map(|_| 1 + rng.below(slots / 2) as u64 * 0x1_0000_0001).collect();
        let sums = run.zeros::<u64>(slots);
        let keys = if run.bug == 2 { run.alloc::<u64>(slots) } else { run.zeros::<u64>(slots) };
        let (input, mask) = (run.upload(&x), slots as u32 - 1);
        run.launch("insert", shape(2, 96), &args![keys, sums, mask, input, n])?;
        let mut wanted: BTreeMap<u64, u64> = BTreeMap::new();
        for (i, &key) in x.iter().enumerate() {
            *wanted.entry(key).or_default() += i as u64;
        }
        let asked: Vec<u64> = x.iter().copied().chain([u64::MAX, 2]).collect();
        let output = run.alloc::<u64>(asked.len());
        let params = args![output, keys, sums, mask, run.upload(&asked), asked.len() as i32];
        run.launch("look_up", shape(asked.len().div_ceil(64) as u32, 64), &params)?;
        let wanted = asked.iter().map(|key| wanted.get(key).copied().unwrap_or(u64::MAX));
        assert!(run.download::<u64>(output, asked.len()).into_iter().eq(wanted));
    }
    Ok(())
}

fn spin_lock(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    for (n, threads) in [(1, 32u32), (70, 32), (45, 64)] {
        let x: Vec<i32> = (0..n).map(|_| rng.below(1000) as i32).collect();
        let (lock, total) = (run.zeros::<i32>(1), run.zeros::<i32>(1));
        let launch = shape((n as u32).div_ceil(threads), threads);
        run.launch("count", launch, &args![lock, total, run.upload(&x), n])?;
        assert_eq!(run.download::<i32>(total, 1)[0], x.iter().sum::<i32>());

        let (next, serving, length) = (run.zeros::<u32>(1), run.zeros::<u32>(1), run.zeros::<i32>(1));
        let log = run.alloc::<i32>(7);
        run.launch("by_tickets", shape(7, 32), &args![next, serving, log, length])?;
        let mut got = run.download::<i32>(log, 7);
        got.sort_unstable();
        assert_eq!(got, [0, 1, 2, 3, 4, 5, 6]);

        let pairs: Vec<[i32; 2]> = (0..n).map(|_| [rng.below(4) as i32, rng.below(4) as i32]).collect();
        let (locks, balance) = (run.zeros::<i32>(4), run.zeros::<i32>(4));
        let params = args![locks, balance, run.upload(&pairs), run.upload(&x), n];
        run.launch("transfer", launch, &params)?;
        let mut wanted = [0; 4];
        for (&[from, to], amount) in pairs.iter().zip(&x) {
            wanted[from as usize] -= amount;
            wanted[to as usize] += amount;
        }
        assert_eq!(run.download::<i32>(balance, 4), wanted);
    }
    Ok(())
}

fn work_queue(run: &Run) -> Result<(), Fault> {
    for (n, blocks) in [(1, 1), (1000, 3), (513, 5)] {
        let steps = run.alloc::<i32>(n as usize);
        let (queue, capacity) = (run.upload(&[0u32, 1, 1]), if run.bug == 2 { 2 } else { 128 });
        let tasks = run.alloc::<[i32; 2]>(capacity);
        run.device.memory.write(tasks, &args![0i32, n]).unwrap();
        let ready: Vec<u32> = (0..128).map(|place| u32::from(place == 0)).collect();
        let params = args![steps, queue, tasks, run.upload(&ready), capacity as i32];
        run.launch("work", shape(blocks, 64), &params)?;
        let collatz = |v: i64| {
            let next = |&v: &i64| (v > 1).then(|| if v & 1 == 1 { 3 * v + 1 } else { v / 2 });
            std::iter::successors(Some(v), next).count() as i32 - 1
        };
        assert!(run.download::<i32>(steps, n as usize).into_iter().eq((0..i64::from(n)).map(collatz)));
    }
    Ok(())
}
