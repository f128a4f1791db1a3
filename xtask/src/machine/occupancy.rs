//! How many blocks of a kernel are resident on one multiprocessor, by the rules of NVIDIA's occupancy
//! calculator (`cuda_occupancy.h`); limits per architecture from `softcuda::Config`.

use softcuda::Config;

/// Registers are given to warps in units of this many.
const REGISTER_UNIT: u32 = 256;
/// Each of the four parts of a multiprocessor has a quarter of the registers and issues one instruction per clock.
pub const PARTITIONS: u32 = 4;

/// The device that stands for an architecture, such as 86.
pub fn device(arch: u32) -> Config {
    Config::capability(arch / 10, arch % 10)
}

/// Resident blocks per multiprocessor, if shared memory is set to its largest size. 0: it cannot be launched.
pub fn blocks_per_sm(arch: u32, registers: u32, threads: u32, shared_bytes: u32) -> u32 {
    let limits = device(arch);
    let warps = threads.div_ceil(limits.warp_size).max(1);
    let registers_per_warp = (registers.max(1) * limits.warp_size).next_multiple_of(REGISTER_UNIT);
    let warps_of = |registers: u32| registers / PARTITIONS / registers_per_warp * PARTITIONS;
    if warps > limits.registers_per_block / registers_per_warp / PARTITIONS * PARTITIONS {
        return 0;
    }
    let unit = if limits.capability_major >= 8 { 128 } else { 256 };
    let shared = (shared_bytes + limits.shared_reserved).next_multiple_of(unit);
    (limits.max_threads_per_sm / limits.warp_size / warps)
        .min(warps_of(limits.registers_per_sm) / warps)
        .min(limits.shared_per_sm.checked_div(shared).unwrap_or(u32::MAX))
        .min(limits.max_blocks_per_sm)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of NVIDIA's header, which softcuda is tested against too: capability, registers, static shared
    /// memory, carveout, threads, dynamic shared memory, blocks.
    #[test]
    fn agrees_with_nvidias_header() {
        let mut compared = 0;
        for line in include_str!("../../../softcuda/src/driver/occupancy.txt").lines() {
            let fields: Vec<i64> = line.split_whitespace().filter_map(|f| f.parse().ok()).collect();
            let &[arch, registers, fixed, carveout, threads, dynamic, blocks, ..] = &fields[..] else { continue };
            // The other carveouts leave a part to the L1 cache.
            if carveout == -1 {
                let found = blocks_per_sm(arch as u32, registers as u32, threads as u32, (fixed + dynamic) as u32);
                assert_eq!(i64::from(found), blocks, "{line}");
                compared += 1;
            }
        }
        assert!(compared > 80, "{compared}");
    }
}
