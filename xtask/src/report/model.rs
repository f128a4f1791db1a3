//! How fast a kernel can be on a given GPU, as far as its machine code tells.
//!
//! Three bounds, each a fraction of DRAM peak, of which the least counts:
//! - pipes: a pipe whose share at DRAM peak is p allows 1 / p;
//! - latency (Little's law): the resident blocks together move their bytes once in the time that one block takes, with
//!   loads that come back after the memory latency. That time comes from walking one warp's code in order, with
//!   pipes and results as in [`pipes`](crate::machine::pipes); it contains the reduction, the barrier and the
//!   loads that a loop does not overlap, so it is the serial term of a row as well. The warps of a block load, compute
//!   and store together, so they wait for each other's use of the busiest pipe; those of other blocks do not;
//! - tail: of the waves of blocks that a launch of [`LAUNCH_ELEMENTS`] takes, the last is half empty on average.
//!
//! What it is compared with: the same 2-read-1-write stream without any of these, so 1.00 is the streaming limit. Not
//! modelled: L2, DRAM pages, turnarounds between reads and writes, clocks that fall under load, contention for
//! pipes among warps beyond their total use.

use std::collections::BTreeMap;

use crate::machine::occupancy::PARTITIONS;
use crate::machine::pipes::Pipe;

/// Elements of the launch that the tail is computed for: 2^27, half a gigabyte of f16 scores and gradient.
pub const LAUNCH_ELEMENTS: f64 = 134_217_728.0;

/// A product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    pub name: &'static str,
    pub arch: u32,
    pub multiprocessors: f64,
    /// Boost clock in GHz.
    pub clock: f64,
    /// DRAM peak in GB/s.
    pub bandwidth: f64,
    /// Bytes in flight per multiprocessor that keep DRAM busy.
    pub in_flight: f64,
}

/// Multiprocessors, boost clock and DRAM peak: NVIDIA's data sheets. H100 and H200 at 1.83 GHz and B200 at 1.85 GHz,
/// the clocks behind the table "Pipe bounds" of the project's notes. Bytes in flight: CUB's tuning of
/// `cub::DeviceTransform` (12K before 8.0, 16K on A100, 32K on H100, 48K on H200, 64K on B200); for GDDR boards,
/// whose multiprocessors have a third of the bandwidth, the same latency as A100's.
#[rustfmt::skip]
pub const GPUS: [Gpu; 8] = [
    Gpu { name: "T4", arch: 75, multiprocessors: 40.0, clock: 1.59, bandwidth: 320.0, in_flight: 6.0 * 1024.0 },
    Gpu { name: "A100-80", arch: 80, multiprocessors: 108.0, clock: 1.41, bandwidth: 2039.0, in_flight: 16.0 * 1024.0 },
    Gpu { name: "A40", arch: 86, multiprocessors: 84.0, clock: 1.74, bandwidth: 696.0, in_flight: 5.75 * 1024.0 },
    Gpu { name: "L40S", arch: 89, multiprocessors: 142.0, clock: 2.52, bandwidth: 864.0, in_flight: 3.0 * 1024.0 },
    Gpu { name: "H100", arch: 90, multiprocessors: 132.0, clock: 1.83, bandwidth: 3350.0, in_flight: 32.0 * 1024.0 },
    Gpu { name: "H200", arch: 90, multiprocessors: 132.0, clock: 1.83, bandwidth: 4800.0, in_flight: 48.0 * 1024.0 },
    Gpu { name: "B200", arch: 100, multiprocessors: 148.0, clock: 1.85, bandwidth: 8000.0, in_flight: 64.0 * 1024.0 },
    Gpu { name: "RTX 5090", arch: 120, multiprocessors: 170.0, clock: 2.41, bandwidth: 1792.0, in_flight: 5.25 * 1024.0 },
];

impl Gpu {
    /// DRAM peak in bytes per clock and multiprocessor.
    pub fn bytes_per_clock(&self) -> f64 {
        self.bandwidth / (self.multiprocessors * self.clock)
    }

    /// Clocks from a load to its data while DRAM is busy: Little's law.
    pub fn memory_latency(&self) -> f64 {
        self.in_flight / self.bytes_per_clock()
    }
}

/// What a warp does for its elements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Work {
    pub elements: f64,
    pub bytes_per_element: f64,
    /// Warp instructions.
    pub instructions: f64,
    /// Clocks of the whole multiprocessor on each pipe.
    pub pipe_clocks: BTreeMap<Pipe, f64>,
}

/// Shares of the issue slots and of each pipe in use when DRAM runs at its peak, the largest first.
pub fn shares(gpu: &Gpu, work: &Work) -> Vec<(&'static str, f64)> {
    let clocks = work.elements * work.bytes_per_element / gpu.bytes_per_clock();
    let mut shares = vec![("issue", work.instructions / f64::from(PARTITIONS) / clocks)];
    shares.extend(work.pipe_clocks.iter().filter(|(p, _)| **p != Pipe::Other).map(|(p, c)| (p.name(), c / clocks)));
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

/// The three bounds as fractions of DRAM peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub pipes: f64,
    pub latency: f64,
    pub tail: f64,
}

/// How the warps of a kernel are resident, and how long one takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Residency {
    pub warps_per_block: f64,
    pub blocks_per_multiprocessor: f64,
    /// Clocks of a warp that has the multiprocessor to itself.
    pub alone: f64,
    /// The same if memory answered at once.
    pub without_memory: f64,
}

impl Bounds {
    /// The bounds for this work.
    pub fn new(gpu: &Gpu, work: &Work, residency: &Residency) -> Bounds {
        let &Residency { warps_per_block, blocks_per_multiprocessor: blocks, alone, without_memory } = residency;
        let (bytes, speed) = (work.elements * work.bytes_per_element, gpu.bytes_per_clock());
        let busiest = shares(gpu, work).first().map_or(0.0, |s| s.1);
        // Clocks that the warps of a block together need of the busiest pipe.
        let together = warps_per_block * busiest * bytes / speed;
        let block = alone - without_memory + without_memory.max(together);
        let waves = LAUNCH_ELEMENTS / (work.elements * warps_per_block * blocks.max(1.0) * gpu.multiprocessors);
        Bounds {
            pipes: (1.0 / busiest).min(1.0),
            latency: (blocks * warps_per_block * bytes / block / speed).min(1.0),
            tail: waves / (waves + 0.5),
        }
    }

    /// Predicted fraction of the streaming limit.
    pub fn fraction(&self) -> f64 {
        self.pipes.min(self.latency) * self.tail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(instructions: f64, mufu: f64, bytes_per_element: f64) -> Work {
        // One element per lane: 32 of them per warp instruction.
        let pipe_clocks = BTreeMap::from([(Pipe::Mufu, mufu * 2.0)]);
        Work { elements: 32.0, bytes_per_element, instructions, pipe_clocks }
    }

    /// The table "Pipe bounds" of the project's notes: f16 soft labels, 6 bytes per element.
    #[test]
    fn the_table_of_pipe_bounds_comes_out() {
        #[rustfmt::skip]
        let table = [
            ("T4", 5.0, [10, 21, 9, 13]), ("A100-80", 13.4, [28, 56, 24, 35]), ("H100", 13.9, [29, 58, 25, 36]),
            ("H200", 19.9, [41, 83, 36, 52]), ("B200", 29.2, [61, 122, 53, 76]), ("RTX 5090", 4.4, [9, 18, 8, 11]),
        ];
        for (name, bytes, expected) in table {
            let gpu = GPUS.iter().find(|g| g.name == name).expect("a GPU of the table");
            assert!((gpu.bytes_per_clock() - bytes).abs() < 0.06, "{name}: {}", gpu.bytes_per_clock());
            let share = |work: Work, pipe: &str| {
                let shares = shares(gpu, &work);
                100.0 * shares.iter().find(|s| s.0 == pipe).map_or(0.0, |s| s.1)
            };
            let found = [
                share(work(0.0, 2.0, 6.0), "mufu"),
                share(work(0.0, 4.0, 6.0), "mufu"),
                share(work(14.0, 0.0, 6.0), "issue"),
                share(work(20.0, 0.0, 6.0), "issue"),
            ];
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found - f64::from(expected)).abs() <= 0.6, "{name}: {found} instead of {expected}");
            }
            // f32 moves twice the bytes for the same work.
            assert_eq!(share(work(14.0, 2.0, 12.0), "issue") * 2.0, share(work(14.0, 2.0, 6.0), "issue"));
        }
    }

    #[test]
    fn each_bound_binds() {
        let gpu = &GPUS[4];
        let residency =
            Residency { warps_per_block: 4.0, blocks_per_multiprocessor: 16.0, alone: 100.0, without_memory: 50.0 };
        let light = work(14.0, 2.0, 6.0);
        let plenty = Bounds::new(gpu, &light, &residency);
        assert_eq!((plenty.pipes, plenty.latency), (1.0, 1.0));
        // 80 instructions instead of the 14 that take 25%.
        let heavy = Bounds::new(gpu, &work(80.0, 2.0, 6.0), &residency);
        assert!((heavy.pipes - 1.0 / (0.253 * 80.0 / 14.0)).abs() < 0.01, "{heavy:?}");
        // 64 warps with 192 bytes each and a latency of 2361 clocks: 5.2 of 13.9 bytes per clock.
        let waiting = Residency { alone: gpu.memory_latency(), without_memory: 0.0, ..residency };
        let starved = Bounds::new(gpu, &work(0.0, 0.0, 6.0), &waiting);
        assert!((starved.latency - 64.0 * 192.0 / gpu.in_flight).abs() < 1e-9, "{starved:?}");
        // A single block of 64 warps adds its 64 * 14 / 4 issue clocks to the wait.
        let one = Residency { warps_per_block: 64.0, blocks_per_multiprocessor: 1.0, ..waiting };
        let serial = Bounds::new(gpu, &light, &one);
        let expected = 64.0 * 192.0 / (gpu.memory_latency() + 64.0 * 4.0) / gpu.bytes_per_clock();
        assert!((serial.latency - expected).abs() < 1e-9, "{serial:?} instead of {expected}");
    }
}
