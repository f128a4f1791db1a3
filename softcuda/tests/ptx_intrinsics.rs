//! CUDA's intrinsics and library functions as NVRTC compiles them (ptx/intrinsics.cu), against the
//! host's library and wide integers.

mod ptx_support;

use ptx_support::{Device, Random};
use softcuda::exec::{LaunchShape, Module, run};

const COMPILED: [(&str, &str); 2] = [
    ("12.1 sm_80", include_str!("ptx/intrinsics.12.1-sm_80.ptx")),
    ("13.5 sm_100", include_str!("ptx/intrinsics.13.5-sm_100.ptx")),
];

unsafe extern "C" {
    safe fn erf(x: f64) -> f64;
}

/// Runs a kernel on `n` elements of `input`, with `outputs` results of each, from both compilers.
#[track_caller]
fn everywhere<I: Copy, O: Copy + Default>(
    kernel: &str,
    input: &[I],
    (n, outputs): (usize, usize),
    check: impl Fn(&str, &[O]),
) {
    for (name, text) in COMPILED {
        let device = Device::new();
        let module = Module::load(text, &device.memory).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (from, to) = (device.upload(input), device.upload(&vec![O::default(); n * outputs]));
        let shape =
            LaunchShape { grid: [n.div_ceil(64) as u32, 1, 1], block: [64, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        let mut params = [to.to_le_bytes(), from.to_le_bytes()].concat();
        params.extend((n as u32).to_le_bytes());
        let entry = module.entry(kernel).unwrap();
        run(&module, entry, &shape, &params, &device.memory, &device.config)
            .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        check(name, &device.download(to, n * outputs));
    }
}

/// The error in units of the last place of `digits` bits, zero for equal infinities and NaN.
fn units(got: f64, wanted: f64, digits: i32) -> f64 {
    if got == wanted || (got.is_nan() && wanted.is_nan()) {
        return 0.0;
    }
    let least = if digits == 24 { -126 } else { -1022 };
    let exponent = (wanted.abs().log2().floor() as i32).max(least);
    (got - wanted).abs() / 2f64.powi(exponent - digits + 1)
}

#[test]
fn functions_of_f32() {
    let mut rng = Random(1);
    let mut input: Vec<f32> =
        (0..1000).map(|_| ((rng.next() >> 40) as f32 / 8e6 - 1.0) * [0.1f32, 3.0, 80.0, 2e5][rng.below(4)]).collect();
    input.extend([0.0, -0.0, 1.0, -1.0, 88.0, -103.0, 1e-40, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    everywhere("singles", &input, (input.len(), 12), |name, out: &[f32]| {
        for (&x, out) in input.iter().zip(out.chunks(12)) {
            let wide = f64::from(x);
            let a = wide.abs();
            // Maximum errors of the CUDA programming guide, in units of the last place, and half a unit
            // for the rounding of what is wanted.
            let wanted = [
                (wide.sin(), 2.0),
                (wide.cos(), 2.0),
                (wide.exp(), 1.0),
                (a.ln(), 1.0),
                (wide.tanh(), 2.0),
                (erf(wide), 2.0),
                (a.powf(f64::from(1.7f32)), 4.0),
                (wide.cbrt(), 1.0),
                (wide.atan2(0.5), 3.0),
                (wide % 0.75, 0.0),
            ];
            for (index, (wanted, limit)) in wanted.into_iter().enumerate() {
                let rounded = wanted as f32;
                let error =
                    units(f64::from(out[index]), if rounded.is_infinite() { f64::from(rounded) } else { wanted }, 24);
                assert!(error <= limit + 0.5, "{name}: function {index} of {x:e} is {:e}, not {wanted:e}", out[index]);
            }
            let towards_zero =
                |x: f64| if f64::from(x as f32).abs() > x.abs() { nudge(x as f32, -1) } else { x as f32 };
            let up = |x: f64| if f64::from(x as f32) < x { (x as f32).next_up() } else { x as f32 };
            let down = |x: f64| if f64::from(x as f32) > x { (x as f32).next_down() } else { x as f32 };
            if x.is_finite() && x.abs() > 1e-30 {
                let sum = towards_zero(wide + f64::from(0.1f32)) + up(wide * 3.0) - down(wide / 7.0);
                assert_eq!(out[10], sum, "{name}: directed roundings of {x:e}");
                let parts = [1.0 / a.sqrt(), a.sqrt(), 1.0 / wide];
                let (sum, size) = (parts.iter().sum::<f64>(), parts.iter().map(|part| part.abs()).sum::<f64>());
                assert!((f64::from(out[11]) - sum).abs() <= 3e-7 * size, "{name}: roots of {x:e}");
            }
        }
    });
}

fn nudge(x: f32, by: i32) -> f32 {
    f32::from_bits(x.to_bits().wrapping_add_signed(by))
}

#[test]
fn functions_of_f64() {
    let mut rng = Random(2);
    let mut input: Vec<f64> =
        (0..600).map(|_| ((rng.next() >> 11) as f64 / 4.5e15 - 1.0) * [0.1, 3.0, 80.0, 1e9][rng.below(4)]).collect();
    input.extend([0.0, -0.0, 1.0, -1.0, 709.0, 1e-300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
    everywhere("doubles", &input, (input.len(), 8), |name, out: &[f64]| {
        for (&x, out) in input.iter().zip(out.chunks(8)) {
            let a = x.abs();
            // The guide's errors; the host's library adds up to a unit of its own.
            let wanted = [
                (x.sin(), 2.0),
                (x.exp(), 1.0),
                (a.ln(), 1.0),
                (a.powf(1.7), 2.0),
                (x.tanh(), 2.0),
                (x / 7.3 + a.sqrt(), 0.0),
                (erf(x), 2.0),
            ];
            for (index, (wanted, limit)) in wanted.into_iter().enumerate() {
                let allowed = if limit == 0.0 { 0.0 } else { limit + 1.0 };
                let error = units(out[index], wanted, 53);
                assert!(error <= allowed, "{name}: function {index} of {x:e} is {:e}, not {wanted:e}", out[index]);
            }
            if x.is_finite() && x != 0.0 {
                // The directed results are a unit off the nearest at most.
                let parts = [x + 0.1, -3.0 * x, 1.0 / x];
                let (sum, size) = (parts.iter().sum::<f64>(), parts.iter().map(|part| part.abs()).sum::<f64>());
                assert!((out[7] - sum).abs() <= 1e-15 * size, "{name}: directed roundings of {x:e}");
            }
        }
    });
}

#[test]
fn functions_of_integers() {
    let mut rng = Random(3);
    let edges = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x8000_7fff, 0x00ff_ff00];
    let n = 700;
    let input: Vec<u32> = (0..3 * n)
        .map(|_| {
            if rng.below(3) == 0 { edges[rng.below(edges.len())] } else { (rng.next() >> (32 + rng.below(20))) as u32 }
        })
        // The least number by -1 has no quotient.
        .map(|x| if x == 0xffff_ffff { 0xffff_fffd } else { x })
        .collect();
    everywhere("integers", &input, (n, 16), |name, out: &[u32]| {
        for (abc, out) in input.chunks(3).zip(out.chunks(16)) {
            let &[a, b, c] = abc else { unreachable!("chunks of three") };
            let (sa, sb, sc) = (i64::from(a as i32), i64::from(b as i32), i64::from(c as i32));
            let byte = |x: u32, i: usize| x.to_le_bytes()[i];
            let half = |x: u32, i: usize| (x >> (16 * i)) as u16;
            let selected = |i: u32| {
                let bytes = [a.to_le_bytes(), b.to_le_bytes()].concat();
                u32::from(bytes[(c >> (4 * i) & 7) as usize]) << (8 * i)
            };
            let both = u64::from(b) << 32 | u64::from(a);
            let least = |i: usize| [a, b, c].map(|x| half(x, i) as i16).into_iter().min().unwrap() as u16;
            let wanted = [
                (0..4).map(|i| i64::from(byte(a, i) as i8) * i64::from(byte(b, i) as i8)).sum::<i64>() as u32,
                (0..2).map(|i| u32::from(half(a, i)).wrapping_mul(u32::from(byte(b, i)))).fold(0, u32::wrapping_add),
                (0..2).map(|i| i64::from(half(a, i) as i16) * i64::from(byte(b, i + 2) as i8)).sum::<i64>() as u32,
                (0..4).map(selected).sum(),
                (both << c.min(32) >> 32) as u32,
                (both >> (c & 31)) as u32,
                u32::from_le_bytes([0, 1, 2, 3].map(|i| byte(a, i).abs_diff(byte(b, i)))),
                (0..2).map(|i| u32::from(half(a, i).abs_diff(half(b, i)))).sum(),
                (if a == 0 { 0 } else { a.trailing_zeros() + 1 }) + b.leading_zeros() + c.count_ones(),
                a.reverse_bits() ^ ((u64::from(b) * u64::from(c)) >> 32) as u32 ^ ((sa * sc) >> 32) as u32,
                (((u64::from(a) + u64::from(b)) >> 1) as u32).wrapping_add(((sb + sc + 1) >> 1) as u32),
                a.abs_diff(b).wrapping_add(c),
                (a / (b | 1)).wrapping_add(a % (c | 1)),
                ((a as i32) / (b | 1) as i32).wrapping_add(a as i32 % (c | 1) as i32) as u32,
                (a as i32).wrapping_add(b as i32).max(c as i32).max(0) as u32,
                u32::from(least(0)) | u32::from(least(1)) << 16,
            ];
            for (index, wanted) in wanted.into_iter().enumerate() {
                let wanted = if index < 3 { wanted.wrapping_add(c) } else { wanted };
                assert_eq!(out[index], wanted, "{name}: function {index} of {a:#x}, {b:#x}, {c:#x}");
            }
        }
    });
}

#[test]
fn integers_of_128_bits() {
    let mut rng = Random(4);
    let n = 300;
    let input: Vec<i128> = (0..2 * n)
        .map(|_| {
            let value = i128::from(rng.next() as i64) << 64 | i128::from(rng.next());
            match value >> rng.below(120) {
                // A divisor, and one whose quotient exists.
                0 | -1 => 3,
                value => value,
            }
        })
        .collect();
    everywhere("wide", &input, (n, 6), |name, out: &[i128]| {
        for (ab, out) in input.chunks(2).zip(out.chunks(6)) {
            let &[a, b] = ab else { unreachable!("chunks of two") };
            let wanted = [
                a.wrapping_add(b),
                a.wrapping_sub(b),
                a.wrapping_mul(b),
                a / b,
                (a as u128 % b as u128) as i128,
                (a >> (b & 127)) ^ (a << (b & 63)),
            ];
            assert_eq!(out, wanted, "{name}: {a:#x}, {b:#x}");
        }
    });
}

#[test]
fn function_pointers_branch_tables_and_constants() {
    let n = 200;
    let input: Vec<f32> = (0..n).map(|i| i as f32 / 16.0 - 3.0).collect();
    everywhere("choices", &input, (n, 2), |name, out: &[f32]| {
        for (i, &a) in input.iter().enumerate() {
            let x = [a + 3.0, a * 3.0, a * a * a][i % 3];
            let wanted = match i % 11 {
                0 => x + [1.0, 0.5, 0.25, 0.125][i & 3],
                1 => x * 2.0,
                2 => -x,
                3 => x - 7.0,
                4 => x * x,
                5 => x + 5.0,
                6 => x * 0.25,
                7 => x.max(0.0),
                8 => 1.0 - x,
                _ => 9.0,
            };
            assert!((out[i] - wanted).abs() <= 1e-6 * wanted.abs(), "{name}: {i} gives {}, not {wanted}", out[i]);
            let beside = match i % 11 {
                3 => x - 7.0,
                5 => 1.0,
                _ => 0.0,
            };
            assert!((out[n + i] - beside).abs() <= 1e-6 * beside.abs(), "{name}: {i} leaves {}", out[n + i]);
        }
    });
}
