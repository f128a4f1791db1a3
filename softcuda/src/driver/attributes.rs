//! `CUdevice_attribute`: the table of what a device answers about itself.

use crate::config::Config;

/// Texture and surface extents are the same on every device from capability 7.5 on. Textures are
/// not emulated, but code that sizes its tiles by these limits must not see zeros.
#[rustfmt::skip]
const TEXTURE_LIMITS: &[(i32, i32)] = &[
    (21, 131_072), (22, 131_072), (23, 65_536), (24, 16_384), (25, 16_384), (26, 16_384),
    (27, 32_768), (28, 32_768), (29, 2_048), (42, 32_768), (43, 2_048), (45, 32_768), (46, 32_768),
    (47, 8_192), (48, 8_192), (49, 32_768), (52, 32_768), (53, 32_768), (54, 2_046), (55, 32_768),
    (56, 131_072), (57, 65_536), (58, 16_384), (59, 16_384), (60, 16_384), (61, 32_768), (62, 2_048),
    (63, 32_768), (64, 32_768), (65, 2_048), (66, 32_768), (67, 32_768), (68, 2_046),
    (69, 268_435_456), (70, 131_072), (71, 65_000), (72, 2_097_120), (73, 32_768), (74, 32_768),
    (77, 32_768),
];

/// The value of an attribute, or `None` for a number that is no attribute.
///
/// What this driver does not do (stream memory operations, virtual memory management,
/// interprocess handles) is reported as absent, so that well-behaved
/// code never asks for it.
pub(crate) fn value(config: &Config, ordinal: usize, attribute: i32) -> Option<i32> {
    if let Some((_, value)) = TEXTURE_LIMITS.iter().find(|(number, _)| *number == attribute) {
        return Some(*value);
    }
    let count = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    let flag = |value: bool| i32::from(value);
    let capability = (config.capability_major, config.capability_minor);
    Some(match attribute {
        1 => count(config.max_threads_per_block),
        2 | 3 => count(super::launch::MAX_BLOCK[0]),
        4 => count(super::launch::MAX_BLOCK[2]),
        5 => count(super::launch::MAX_GRID[0]),
        6 | 7 => count(super::launch::MAX_GRID[1]),
        8 => count(config.shared_per_block),
        9 => 65_536, // constant memory
        10 => count(config.warp_size),
        11 => i32::MAX, // pitch
        12 => count(config.registers_per_block),
        13 => count(config.sm_clock_khz),
        14 => 512, // texture alignment
        15 => 1,   // copies overlap kernels
        16 => count(config.sm_count),
        17 | 18 => 0,                // run-time limit, integrated
        19 => 1,                     // kernels can use pinned host memory
        20 => 0,                     // compute mode: default
        30 => 512,                   // surface alignment
        31 => 1,                     // concurrent kernels
        32 => 1,                     // ECC
        33 => count(ordinal as u32), // PCI bus
        34 | 35 => 0,                // PCI device, TCC driver
        36 => count(config.memory_clock_khz),
        37 => count(config.bus_width_bits),
        38 => count(config.l2_bytes),
        39 => count(config.max_threads_per_sm),
        40 => 2, // copy engines
        41 => 1, // unified addressing: an address names its device
        44 => 1,
        50 => 0,  // PCI domain
        51 => 32, // texture pitch alignment
        75 => count(config.capability_major),
        76 => count(config.capability_minor),
        78 => 1,      // stream priorities
        79 | 80 => 1, // L1 caches
        81 => count(config.shared_per_sm),
        82 => count(config.registers_per_sm),
        83 => 1, // managed memory
        84 => 0, // multi-GPU board
        85 => count(ordinal as u32),
        86 => 0,
        87 => {
            if matches!(capability, (8 | 9, 0) | (10, 0)) {
                2
            } else {
                32
            }
        } // f32 : f64 rate
        88 => 0,      // pageable memory
        89 => 1,      // managed memory may be used by both sides at once
        90 => 1,      // compute preemption
        91 => 1,      // registered host memory has one address
        92..=94 => 0, // stream memory operations
        95 => 1,      // cooperative launch
        96 => 0,      // cooperative launch over several devices
        97 => count(config.shared_per_block_optin),
        98 => 0,
        99 => 1,        // host registration
        100..=105 => 0, // page tables, virtual memory management, export handles
        106 => count(config.max_blocks_per_sm),
        107 => 0,
        108 => {
            if capability >= (8, 0) {
                count(config.l2_bytes / 4 * 3)
            } else {
                0
            }
        }
        109 => {
            if capability >= (8, 0) {
                128 << 20
            } else {
                0
            }
        } // access policy window
        110 => 0,
        111 => count(config.shared_reserved),
        112..=114 => 0,
        115 => 1,       // memory pools
        116..=119 => 0, // RDMA, pool export
        120 => flag(config.max_cluster > 0),
        121..=125 => 0,
        126 => {
            if capability >= (9, 0) {
                4
            } else {
                1
            }
        } // memory synchronisation domains
        127 => 0, // tensor maps
        128 | 129 | 132 => 0,
        130 | 134 => -1, // NUMA configuration and nodes: none
        131 => -1,
        133 | 136 | 137 => 0,
        135 => 0,
        138..=162 => 0,
        _ => return None,
    })
}
