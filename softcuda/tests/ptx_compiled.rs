//! What NVRTC makes of CUDA in the habits of others (ptx/rows.cu), against oracles on the CPU.

mod ptx_support;

use half::f16;
use ptx_support::{Device, Random, fault};
use softcuda::Counters;
use softcuda::exec::{LaunchShape, Module, run};
use softcuda::fault::{Fault, FaultKind};

const COMPILED: [(&str, &str); 4] = [
    ("12.1 sm_75", include_str!("ptx/rows.12.1-sm_75.ptx")),
    ("12.1 sm_80", include_str!("ptx/rows.12.1-sm_80.ptx")),
    ("13.5 sm_90", include_str!("ptx/rows.13.5-sm_90.ptx")),
    ("13.5 sm_100", include_str!("ptx/rows.13.5-sm_100.ptx")),
];

/// A parameter block: values at their natural alignment.
#[derive(Default)]
struct Params(Vec<u8>);

impl Params {
    fn push<const N: usize>(mut self, bytes: [u8; N]) -> Params {
        self.0.resize(self.0.len().next_multiple_of(N), 0);
        self.0.extend(bytes);
        self
    }

    fn address(self, value: u64) -> Params {
        self.push(value.to_le_bytes())
    }

    fn int(self, value: i32) -> Params {
        self.push(value.to_le_bytes())
    }
}

/// Runs a test on every compiled module, in order and in random orders of warps.
fn everywhere(test: impl Fn(&Device, &Module)) {
    for (name, text) in COMPILED {
        for seed in [0, 1, 2, 3] {
            let mut device = Device::new();
            (device.config.seed, device.config.workers) = (seed, 1 + seed as u32 % 2);
            let module = Module::load(text, &device.memory).unwrap_or_else(|e| panic!("{name}: {e}"));
            test(&device, &module);
        }
    }
}

#[allow(clippy::result_large_err, reason = "faults are what these tests are about")]
fn launch(
    device: &Device,
    module: &Module,
    name: &str,
    (grid, block, dynamic_shared): (u32, u32, u32),
    params: Params,
) -> Result<Counters, Fault> {
    let shape = LaunchShape { grid: [grid, 1, 1], block: [block, 1, 1], cluster: [1; 3], dynamic_shared };
    let entry = module.entry(name).unwrap();
    run(module, entry, &shape, &params.0, &device.memory, &device.config)
}

fn normal(rng: &mut Random) -> f32 {
    (0..12).map(|_| (rng.next() >> 40) as f32 / (1 << 24) as f32).sum::<f32>() - 6.0
}

#[track_caller]
fn close(got: f64, wanted: f64, relative: f64, absolute: f64) {
    let error = (got - wanted).abs();
    assert!(error <= relative * wanted.abs() + absolute, "{got:e} is not {wanted:e}");
}

#[test]
fn cross_entropy() {
    let (rows, cols) = (3, 777);
    let mut rng = Random(1);
    let x: Vec<f32> = (0..rows * cols).map(|_| 3.0 * normal(&mut rng)).collect();
    let targets: Vec<i32> = (0..rows).map(|_| rng.below(cols) as i32).collect();
    everywhere(|device, module| {
        let (scores, labels) = (device.upload(&x), device.upload(&targets));
        let loss = device.memory.alloc(4 * rows as u64).unwrap();
        let grad = device.memory.alloc(4 * (rows * cols) as u64).unwrap();
        let params = Params::default().address(loss).address(grad).address(scores);
        let params = params.address(labels).int(cols as i32);
        let counters = launch(device, module, "cross_entropy", (rows as u32, 96, 0), params)
            .unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(counters.global_write_bytes, 4 * (rows * cols + rows) as u64);
        assert_eq!(counters.barriers, 4 * rows as u64);
        let losses: Vec<f32> = device.download(loss, rows);
        let grads: Vec<f32> = device.download(grad, rows * cols);
        for row in 0..rows {
            let x: Vec<f64> = x[row * cols..][..cols].iter().map(|&v| f64::from(v)).collect();
            let most = x.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = x.iter().map(|v| (v - most).exp()).sum();
            let target = targets[row] as usize;
            close(f64::from(losses[row]), sum.ln() + most - x[target], 1e-6, 1e-6);
            for col in 0..cols {
                let hot = f64::from(u8::from(col == target));
                let wanted = (x[col] - most).exp() / sum - hot;
                close(f64::from(grads[row * cols + col]), wanted, 3e-6, 1e-7 * hot);
            }
        }
    });
}

#[test]
fn softmax_by_warps() {
    for (rows, cols) in [(5, 264), (3, 100), (4, 31), (2, 1)] {
        let mut rng = Random(2);
        let x: Vec<u16> = (0..rows * cols).map(|_| f16::from_f32(2.0 * normal(&mut rng)).to_bits()).collect();
        everywhere(|device, module| {
            let input = device.upload(&x);
            let output = device.memory.alloc(2 * (rows * cols) as u64).unwrap();
            let params = Params::default().address(output).address(input);
            let params = params.int(rows as i32).int(cols as i32);
            launch(device, module, "softmax_warp", (2, 96, 0), params).unwrap_or_else(|fault| panic!("{fault}"));
            let got: Vec<u16> = device.download(output, rows * cols);
            for (x, got) in x.chunks(cols).zip(got.chunks(cols)) {
                let x: Vec<f64> = x.iter().map(|&h| f16::from_bits(h).to_f64()).collect();
                let most = x.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = x.iter().map(|v| (v - most).exp()).sum();
                for (x, &got) in x.iter().zip(got) {
                    close(f16::from_bits(got).to_f64(), (x - most).exp() / sum, 5e-4, 3.1e-8);
                }
            }
        });
    }
}

#[test]
fn structures_calls_and_local_memory() {
    let n = 150;
    let mut rng = Random(3);
    let x: Vec<f32> = (0..n).map(|_| normal(&mut rng)).collect();
    let mask: Vec<u8> = (0..n).map(|i| u8::from(i % 7 != 3)).collect();
    everywhere(|device, module| {
        let (input, masks) = (device.upload(&x), device.upload(&mask));
        let output = device.memory.alloc(4 * n as u64).unwrap();
        let mut params = Params::default().address(output).address(input).int(n as i32);
        params = params.address(masks);
        for scale in [0.5f32, 1.5, -2.0] {
            params = params.push(scale.to_le_bytes());
        }
        params = params.push(2i16.to_le_bytes()).push(0.25f64.to_le_bytes());
        launch(device, module, "weighted", (3, 64, 0), params).unwrap_or_else(|f| panic!("{f}"));
        let got: Vec<f32> = device.download(output, n);
        for i in 0..n {
            let at = f64::from(x[(i + (i & 3)).min(n - 1)]);
            let scale = [0.5, 1.5, -2.0][i % 3];
            let weighed = (at * at).ln_1p() * scale + at.tanh() * 4.0 + 0.25;
            let weighed = if mask[i] == 0 { 0.0 } else { weighed };
            close(f64::from(got[i]), weighed + f64::from(x[i]).sin(), 2e-6, 2e-6);
        }
    });
}

#[test]
fn tiles_staged_in_shared_memory() {
    let (rows, tiles, threads) = (2, 5, 64);
    let mut rng = Random(4);
    let x: Vec<f32> = (0..rows * tiles * threads * 4).map(|_| normal(&mut rng)).collect();
    everywhere(|device, module| {
        let input = device.upload(&x);
        let output = device.memory.alloc(4 * rows as u64).unwrap();
        let params = || Params::default().address(output).address(input).int(tiles as i32);
        let shared = 2 * 16 * threads as u32;
        launch(device, module, "staged_sum", (rows as u32, threads as u32, shared), params())
            .unwrap_or_else(|fault| panic!("{fault}"));
        let got: Vec<f32> = device.download(output, rows);
        for (row, x) in x.chunks(x.len() / rows).enumerate() {
            close(f64::from(got[row]), x.iter().map(|&v| f64::from(v)).sum(), 1e-6, 1e-4);
        }
        // Too little shared memory is found out, with the line of the source.
        let small = (rows as u32, threads as u32, 16 * threads as u32 - 16);
        let result = launch(device, module, "staged_sum", small, params());
        let source = fault(result, FaultKind::OutOfBounds).source.unwrap();
        assert!(source.0.ends_with("rows.cu") && source.1 > 100, "{source:?}");
    });
}

#[test]
fn histogram_scan_and_compaction() {
    let n = 1000;
    let mut rng = Random(5);
    let x: Vec<u8> = (0..n).map(|_| rng.next() as u8).collect();
    everywhere(|device, module| {
        let input = device.upload(&x);
        let (count, scan) = (device.upload(&[0u32]), device.upload(&[0u32; 256]));
        let output = device.upload(&vec![u32::MAX; n]);
        let params = Params::default().address(output).address(count).address(scan);
        let params = params.address(input).int(n as i32);
        launch(device, module, "compact", (1, 256, 0), params).unwrap_or_else(|f| panic!("{f}"));
        let sums: Vec<u32> = device.download(scan, 256);
        for (limit, &sum) in sums.iter().enumerate() {
            assert_eq!(sum as usize, x.iter().filter(|&&v| usize::from(v) <= limit).count());
        }
        let wanted: Vec<u32> = (0..n as u32).filter(|&i| x[i as usize] >= 100).collect();
        let mut got: Vec<u32> = device.download(output, wanted.len());
        got.sort_unstable();
        assert_eq!((device.download::<u32>(count, 1)[0] as usize, got), (wanted.len(), wanted));
    });
}
