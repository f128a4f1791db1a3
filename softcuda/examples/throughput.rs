//! How fast the engine interprets, with all checks on: row reductions compiled by NVRTC.
//!
//! `cargo run --release -p softcuda --example throughput`

use std::time::Instant;

use softcuda::Config;
use softcuda::exec::{LaunchShape, Module, run};
use softcuda::memory::Memory;

const PTX: &str = include_str!("../tests/ptx/rows.13.5-sm_90.ptx");
const ROWS: u32 = 128;
const COLS: u32 = 4096;

fn upload(memory: &Memory, bytes: &[u8]) -> Result<u64, Box<dyn std::error::Error>> {
    let address = memory.alloc(bytes.len() as u64)?;
    memory.write(address, bytes)?;
    Ok(address)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let memory = Memory::new(1 << 32);
    let module = Module::load(PTX, &memory)?;
    let count = (ROWS * COLS) as usize;
    let value = |i: usize| (i * 7919 % 1013) as f32 / 100.0 - 5.0;
    let wide: Vec<u8> = (0..count).flat_map(|i| value(i).to_le_bytes()).collect();
    let narrow: Vec<u8> = (0..count).flat_map(|i| half::f16::from_f32(value(i)).to_le_bytes()).collect();
    let targets: Vec<u8> = (0..ROWS).flat_map(u32::to_le_bytes).collect();
    let (wide, narrow) = (upload(&memory, &wide)?, upload(&memory, &narrow)?);
    let (targets, out) = (upload(&memory, &targets)?, memory.alloc(4 * count as u64)?);
    let loss = memory.alloc(4 * u64::from(ROWS))?;
    let sizes = |a: u32, b: u32| u64::from(a) | u64::from(b) << 32;
    let kernels = [
        ("cross_entropy", ROWS, 256, vec![loss, out, wide, targets, u64::from(COLS)]),
        ("softmax_warp", ROWS / 4, 128, vec![out, narrow, sizes(ROWS, COLS)]),
        ("staged_sum", ROWS, 128, vec![loss, wide, u64::from(COLS / 512)]),
    ];
    for (name, grid, block, params) in kernels {
        let entry = module.entry(name).ok_or("the kernel is gone")?;
        let params: Vec<u8> = params.iter().flat_map(|p| p.to_le_bytes()).collect();
        let shape =
            LaunchShape { grid: [grid, 1, 1], block: [block, 1, 1], cluster: [1; 3], dynamic_shared: 32 * block };
        for workers in [1, Config::capability(9, 0).workers] {
            let config = Config { workers, ..Config::capability(9, 0) };
            let (mut best, mut instructions) = (f64::MAX, 0);
            for _ in 0..10 {
                let start = Instant::now();
                let counters = run(&module, entry, &shape, &params, &memory, &config)?;
                best = best.min(start.elapsed().as_secs_f64());
                instructions = counters.warp_instructions;
            }
            let rate = instructions as f64 / best / 1e6;
            println!("{name}: {workers} host threads, {rate:.1} million warp instructions per second");
        }
    }
    Ok(())
}
