//! What one thread computes: random numbers, functions, wide integers, calls, bytes.

use softcuda::fault::{Fault, FaultKind};

use crate::harness::{Run, args, programs, shape, shared};
use crate::norms::close;
use crate::ptx_support::Random;
use crate::reductions::eighths;

programs! {
    philox 75
    mandelbrot 75
    double_math 75
    wide_integers 75
    functions 75
    function_pointers 75
    string_search 75
    print_assert 75
}

fn blocks(n: usize, block: usize) -> u32 {
    n.div_ceil(block) as u32
}

fn philox4x32(at: u64, seed: u64) -> [u32; 4] {
    let (mut c, mut key) = ([at as u32, (at >> 32) as u32, 0, 0], [seed as u32, (seed >> 32) as u32]);
    for _ in 0..10 {
        let (first, second) = (0xD251_1F53 * u64::from(c[0]), 0xCD9E_8D57 * u64::from(c[2]));
        let high = |product: u64| (product >> 32) as u32;
        c = [high(second) ^ c[1] ^ key[0], second as u32, high(first) ^ c[3] ^ key[1], first as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

fn philox(run: &Run) -> Result<(), Fault> {
    // The known answer of the reference implementation for a counter and a key of zeros.
    assert_eq!(philox4x32(0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    for n in [1usize, 100, 333] {
        let output = run.alloc::<u32>(4 * n + 1) + if run.bug == 1 { 4 } else { 0 };
        let (seed, first) = (0x1234_5678_9abc_def0u64, u64::from(u32::MAX) - 50);
        run.launch("fill", shape(blocks(n, 64), 64), &args![output, seed, first, n as i32])?;
        let got = run.download::<[u32; 4]>(output, n);
        assert!(got.into_iter().eq((0..n as u64).map(|i| philox4x32(first + i, seed))));

        let x = eighths(&mut Random(1), n);
        let room = n.div_ceil(8) - usize::from(run.bug == 2 && n > 8);
        let (values, mask) = (run.upload(&x), run.alloc::<u8>(room));
        run.launch("dropout", shape(blocks(n, 8 * 32), 32), &args![values, mask, n as i32, 0.75f32])?;
        let (values, mask) = (run.download::<f32>(values, n), run.download::<u8>(mask, n.div_ceil(8)));
        for i in 0..n {
            let kept = philox4x32(i as u64 / 4, 42)[i % 4] as f32 * 2.328_306_4e-10 < 0.75;
            assert_eq!(mask[i / 8] >> (i % 8) & 1 == 1, kept);
            close(f64::from(values[i]), if kept { f64::from(x[i]) / 0.75 } else { 0.0 }, 1e-6, 0.0);
        }

        let states: Vec<u64> = (1..=n as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let states_at = if run.bug == 3 { run.alloc::<u64>(n) } else { run.upload(&states) };
        let normals = run.alloc::<[f32; 2]>(n);
        run.launch("walk", shape(blocks(n, 64), 64), &args![normals, states_at, n as i32, 5i32])?;
        let (got, ends) = (run.download::<[f32; 2]>(normals, n), run.download::<u64>(states_at, n));
        for i in 0..n {
            let (mut s, mut sum) = (states[i], [0.0; 2]);
            for _ in 0..5 {
                s ^= s << 13;
                s ^= s >> 7;
                s ^= s << 17;
                let unit = |bits: u64| bits as f64 / f64::from(1 << 24);
                let (u, v) = (unit((s >> 40) + 1), unit(s & 0xff_ffff));
                let (radius, angle) = ((-2.0 * u.ln()).sqrt(), 2.0 * std::f64::consts::PI * v);
                sum = [sum[0] + radius * angle.cos(), sum[1] + radius * angle.sin()];
            }
            assert_eq!(ends[i], s);
            (0..2).for_each(|d| close(f64::from(got[i][d]), sum[d], 1e-5, 1e-5));
        }
    }
    Ok(())
}

fn mandelbrot(run: &Run) -> Result<(), Fault> {
    for (width, height, most) in [(1, 1, 10), (37, 21, 50), (64, 9, 77)] {
        let room = width * height - usize::from(run.bug == 1);
        let (times, colours) = (run.alloc::<i32>(room.max(1)), run.alloc::<u32>(width * height));
        let launch = shape((blocks(width, 16), blocks(height, 8)), (16, 8));
        let (left, top, size) = (-2.0, -1.25, 2.5);
        let params = args![times, colours, width as i32, height as i32, left, top, size, most];
        run.launch("escape", launch, &params)?;
        let (times, colours) = (run.download::<i32>(times, room), run.download::<u32>(colours, width * height));
        let mut differ = 0;
        for (i, &got) in times.iter().enumerate() {
            let (px, py) = (i % width, i / width);
            let (cx, cy) = (left + size * px as f64 / width as f64, top + size * py as f64 / height as f64);
            let (mut x, mut y, mut time) = (0.0f64, 0.0f64, 0);
            while time < most && x * x + y * y <= 4.0 {
                (x, y) = (x * x - y * y + cx, 2.0 * x * y + cy);
                time += 1;
            }
            // Contraction to fma moves points at the edge.
            differ += u32::from(time != got);
            let palette = |i: i32| 0x01_0203u32.wrapping_mul((i * most % 83 + 1) as u32);
            let colour = match got % 7 {
                0 => palette(got & 7),
                1 => palette((got + 3) & 7) >> 1,
                2 => !palette(0),
                3 if got == most => 0,
                3 | 4 => palette(got / 2 % 8) + 1,
                5 => palette(px as i32 & 7),
                _ => 0xff_ffff,
            };
            assert_eq!(colours[i], colour);
        }
        assert!(differ as usize <= width * height / 50, "{differ} of {}", width * height);
    }
    Ok(())
}

fn double_math(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(3);
    for n in [1usize, 77, 200] {
        let x: Vec<f64> = (0..n).map(|_| (rng.next() >> 11) as f64 / (1u64 << 50) as f64 - 4.0 + 1e-9).collect();
        let (input, output) = (run.upload(&x), run.alloc::<f64>(16 * n));
        run.launch("functions", shape(2, 64), &args![output, input, n as i32])?;
        for (&v, got) in x.iter().zip(run.download::<f64>(output, 16 * n).chunks(16)) {
            let p = v.abs() + 1e-3;
            let wanted = [
                v.exp(),
                p.ln(),
                p.powf(v),
                v.sin(),
                v.cos(),
                v.tanh(),
                p.sqrt(),
                1.0 / p.sqrt(),
                v.cbrt(),
                got[9],
                v.atan2(p),
                v.hypot(3.0),
                (v * 1e-3).exp_m1(),
                p.ln_1p(),
                v % 0.7,
                1.0 / v,
            ];
            for (got, wanted) in got.iter().zip(wanted) {
                close(*got, wanted, 1e-14, 1e-16);
            }
            assert!(got[9].abs() <= 1.0 && got[9].signum() == v.signum());
        }

        let output = run.alloc::<i64>(8 * n);
        run.launch("conversions", shape(blocks(n, 64), 64), &args![output, input, n as i32])?;
        for (&v, got) in x.iter().zip(run.download::<i64>(output, 8 * n).chunks(8)) {
            let toward_zero = {
                let near = v as f32;
                let away = f64::from(near).abs() > v.abs();
                if away { f32::from_bits(near.to_bits() - 1) } else { near }
            };
            let bits = v.to_bits();
            let wanted = [
                v as i64,
                i64::from((v * 1e10).round_ties_even() as i32),
                v.ceil() as i64,
                i64::from(v.floor() as i32 as u32),
                v.round().to_bits() as i64,
                i64::from(toward_zero.to_bits() as i32),
                v.round_ties_even() as i64,
                i64::from((bits >> 32) as i32 ^ bits as i32),
            ];
            assert_eq!(got, wanted, "{v:e}");
        }

        let x: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        let (input, output) = (run.upload(&x), run.alloc::<f32>(12 * n));
        run.launch("single_functions", shape(blocks(n, 64), 64), &args![output, input, n as i32])?;
        for (&v, got) in x.iter().zip(run.download::<f32>(output, 12 * n).chunks(12)) {
            let (p, w) = (f64::from(v.abs() + 1e-3), f64::from(v));
            let wanted = [
                w.exp(),
                p.ln(),
                p.powf(w * 0.25),
                w.sin(),
                w.tanh(),
                f64::from(got[5]),
                p.log2(),
                w.exp2(),
                w / p,
                w % 0.75,
                w.atan(),
                f64::from(100.0 * v).cos(),
            ];
            for (got, wanted) in got.iter().zip(wanted) {
                close(f64::from(*got), wanted, 1e-6, 1e-6);
            }
        }
    }
    Ok(())
}

fn wide_integers(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(4);
    let mut number = || {
        let value = u128::from(rng.next()) << 64 | u128::from(rng.next());
        if rng.next() & 3 == 0 { u128::MAX - (value >> 120) } else { value }
    };
    for n in [1usize, 50, 100] {
        let (a, b): (Vec<u128>, Vec<u128>) = (0..n).map(|_| (number(), number())).unzip();
        let (left, right, output) = (run.upload(&a), run.upload(&b), run.alloc::<u128>(6 * n));
        let launch = shape(blocks(n, 64), 64);
        run.launch("arithmetic", launch, &args![output, left, right, n as i32])?;
        for (i, got) in run.download::<u128>(output, 6 * n).chunks(6).enumerate() {
            let (x, y) = (a[i], b[i]);
            let wanted = [
                x.wrapping_add(y),
                x.wrapping_sub(y),
                x.wrapping_mul(y),
                x >> (y as u64 % 127),
                (x as i128 >> 67) as u128,
                x / (y >> 70 | 3),
            ];
            assert_eq!(got, wanted);
        }

        let count = n / 2;
        if count > 0 {
            // Pairs of 128-bit numbers are numbers of 8 words.
            let sums = run.alloc::<u32>(9 * count);
            run.launch("add_long", launch, &args![sums, left, right, count as i32])?;
            for (i, got) in run.download::<u32>(sums, 9 * count).chunks(9).enumerate() {
                let (low, carry) = a[2 * i].overflowing_add(b[2 * i]);
                let (high, first) = a[2 * i + 1].overflowing_add(b[2 * i + 1]);
                let (high, second) = high.overflowing_add(u128::from(carry));
                let words = [low, high].into_iter().flat_map(|v| (0..4).map(move |k| (v >> (32 * k)) as u32));
                assert!(words.chain([u32::from(first | second)]).eq(got.iter().copied()));
            }
        }

        let prime = (1u64 << 61) - 1;
        let bases: Vec<u64> = a.iter().map(|&v| v as u64 % prime).collect();
        let exponents: Vec<u32> = b.iter().map(|&v| v as u32 >> ((v >> 64) as u32 % 32)).collect();
        let output = run.alloc::<u64>(n);
        let params = args![output, run.upload(&bases), run.upload(&exponents), n as i32];
        run.launch("powers", launch, &params)?;
        for (i, got) in run.download::<u64>(output, n).into_iter().enumerate() {
            let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(prime)) as u64;
            let bits = (0..32).rev();
            let wanted = bits.fold(1, |power, bit| {
                let square = times(power, power);
                if exponents[i] >> bit & 1 == 1 { times(square, bases[i]) } else { square }
            });
            assert_eq!(got, wanted);
        }
    }
    Ok(())
}

fn functions(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(5);
    for n in [1usize, 100, 65] {
        let x: Vec<i32> = (0..n).map(|_| rng.next() as i32 % 1000).collect();
        let (input, output) = (run.upload(&x), run.alloc::<f64>(2 * n));
        let launch = shape(blocks(n, 64), 64);
        run.launch("items", launch, &args![output, input, n as i32])?;
        for (i, got) in run.download::<f64>(output, n).into_iter().enumerate() {
            let weight = 0.25 * i as f64 + 0.5 * (i % 5) as f64;
            assert_eq!(got, f64::from(x[i]) * 1.5 + weight + f64::from((x[i] & 0xff) + 1));
        }

        let output = run.alloc::<i32>(n);
        run.launch("local_arrays", launch, &args![output, input, n as i32])?;
        for (i, got) in run.download::<i32>(output, n).into_iter().enumerate() {
            let mut v: Vec<i32> = (0..8).map(|k| x[(i + k * k) % n] ^ k as i32).collect();
            v.sort_unstable();
            // Six steps of one or two that make i % 13.
            let ways = [1, 6, 15, 20, 15, 6, 1].get((i % 13).wrapping_sub(6)).copied().unwrap_or(0);
            assert_eq!(got, v[i & 7].wrapping_mul(1000) + ways);
        }
    }
    Ok(())
}

fn string_search(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(6);
    for (n, pattern) in [(1, &b"a"[..]), (1000, b"abba"), (777, b"bab")] {
        let text: Vec<u8> = (0..n).map(|_| b'a' + (rng.next() & 1) as u8).collect();
        let (input, needle) = (run.upload(&text), run.upload(pattern));
        let (places, count) = (run.alloc::<i32>(n), run.zeros::<i32>(1));
        let launch = shared(shape(blocks(n, 96), 96), 96 + pattern.len() - 1);
        let params = args![places, count, input, n as i32, needle, pattern.len() as i32];
        run.launch("find", launch, &params)?;
        let found = run.download::<i32>(count, 1)[0] as usize;
        let mut got = run.download::<i32>(places, found);
        got.sort_unstable();
        let windows = text.windows(pattern.len()).enumerate();
        let wanted: Vec<i32> = windows.filter(|(_, w)| *w == pattern).map(|(i, _)| i as i32).collect();
        assert_eq!(got, wanted);

        let (words, rows) = (5, n.div_ceil(10));
        let a: Vec<i8> = (0..rows * words * 4).map(|_| rng.next() as i8).collect();
        let b: Vec<i8> = (0..words * 4).map(|_| rng.next() as i8).collect();
        let output = run.alloc::<i32>(2 * rows);
        let params = args![output, run.upload(&a), run.upload(&b), words as i32, rows as i32];
        run.launch("dots", shape(blocks(rows, 32), 32), &params)?;
        for (a, got) in a.chunks(4 * words).zip(run.download::<i32>(output, 2 * rows).chunks(2)) {
            let dot: i32 = a.iter().zip(&b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum();
            let most = (0..4).map(|byte| {
                let pairs = a.iter().zip(&b).skip(byte).step_by(4);
                pairs.map(|(&a, &b)| (a as u8).abs_diff(b as u8)).max().unwrap()
            });
            assert_eq!(got, [dot, i32::from_le_bytes(most.collect::<Vec<_>>().try_into().unwrap())]);
        }

        let text: Vec<u8> = (0..4 * n).map(|_| rng.next() as u8 & 0x7f).collect();
        let letters = run.upload(&text);
        run.launch("upper", shape(blocks(n, 64), 64), &args![letters, n as i32])?;
        assert_eq!(run.download::<u8>(letters, 4 * n), text.to_ascii_uppercase());
    }
    Ok(())
}

fn print_assert(run: &Run) -> Result<(), Fault> {
    for n in [1usize, 45] {
        let x: Vec<i32> = (1..=n as i32).collect();
        let (input, output) = (run.upload(&x), run.alloc::<i32>(n));
        let params = args![output, input, n as i32];
        run.launch("checked", shape(blocks(n, 32), 32), &params)?;
        assert!(run.download::<i32>(output, n).into_iter().eq(x.iter().map(|v| v + 1)));
        let printed = String::from_utf8(run.device.memory.take_printed(usize::MAX).unwrap()).unwrap();
        let mut lines: Vec<&str> = printed.lines().collect();
        lines.sort_unstable();
        let line = |i: usize| {
            let (x, letter) = (x[i], char::from(b'a' + i as u8 % 26));
            format!("x[{i}] = {x}, ten, {:5.2}, {letter}, {}", f64::from(x) * 0.1, 1u64 << (i % 60))
        };
        let mut wanted: Vec<String> = (0..n).filter(|&i| x[i] % 10 == 0).map(line).collect();
        wanted.sort_unstable();
        assert_eq!(lines, wanted);
    }
    let x = [1, 2, -3, 4];
    let params = args![run.alloc::<i32>(4), run.upload(&x), 4i32];
    let failed = run.launch("checked", shape(1, 32), &params).expect_err("the assertion fails");
    assert_eq!((failed.kind, failed.thread), (FaultKind::Assertion, [2, 0, 0]), "{failed}");
    assert!(failed.detail.contains("x[i] >= 0"), "{failed}");
    Ok(())
}

fn function_pointers(run: &Run) -> Result<(), Fault> {
    let mut rng = Random(7);
    for n in [1usize, 100, 65] {
        let launch = shape(blocks(n, 64), 64);
        let (y, which) = (eighths(&mut rng, n), (0..n).map(|_| rng.below(8) as i32).collect::<Vec<_>>());
        let output = run.alloc::<f32>(n);
        let params = args![output, run.upload(&y), run.upload(&which), n as i32];
        run.launch("by_pointers", launch, &params)?;
        for (i, got) in run.download::<f32>(output, n).into_iter().enumerate() {
            let area = if which[i] & 4 != 0 { 9.0 } else { 3.0 * y[i] / 2.0 };
            assert_eq!(got, [y[i] * y[i], -y[i], 0.5 * y[i]][which[i] as usize % 3] + area);
        }
    }
    Ok(())
}
