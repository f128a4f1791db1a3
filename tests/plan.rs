//! The plan, on the CPU: every edge of every regime, limits, sizes, and the table of kernels against the sources.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use zlpr::kernels::{IMAGES, ImageKind, KERNELS, TOTAL, TOTAL_MODULE, TOTAL_THREADS};
use zlpr::plan::{Device, Plan, Problem, Regime};
use zlpr::{DType, Error, Reduction};

/// The published limits of T4, A100, A40, H100 and B200.
const DEVICES: [Device; 5] = [
    Device { capability: (7, 5), shared_memory_per_block: 64 << 10, max_grid: 0x7fff_ffff },
    Device { capability: (8, 0), shared_memory_per_block: 163 << 10, max_grid: 0x7fff_ffff },
    Device { capability: (8, 6), shared_memory_per_block: 99 << 10, max_grid: 0x7fff_ffff },
    Device { capability: (9, 0), shared_memory_per_block: 227 << 10, max_grid: 0x7fff_ffff },
    Device { capability: (10, 0), shared_memory_per_block: 227 << 10, max_grid: 0x7fff_ffff },
];

const PAIRS: [(DType, DType); 8] = [
    (DType::F32, DType::F32),
    (DType::F32, DType::U8),
    (DType::F16, DType::F16),
    (DType::F16, DType::F32),
    (DType::F16, DType::U8),
    (DType::Bf16, DType::Bf16),
    (DType::Bf16, DType::F32),
    (DType::Bf16, DType::U8),
];

fn problem((scores, labels): (DType, DType), rows: u64, cols: u64) -> Problem {
    Problem { rows, cols, scores, labels, gradient: Some(scores), reduction: Reduction::None }
}

/// Every device with every pair of types.
fn everything() -> impl Iterator<Item = (Device, (DType, DType))> {
    DEVICES.into_iter().flat_map(|device| PAIRS.map(|pair| (device, pair)))
}

#[test]
fn each_regime_begins_one_column_after_the_last() {
    for (device, pair) in everything() {
        let max = |regime: Regime| regime.max_cols(&device, pair.0, pair.1);
        let regime = |cols| Plan::new(&device, &problem(pair, 3, cols)).unwrap().kernel.regime;
        assert_eq!(regime(0), Regime::Warp);
        assert_eq!(max(Regime::TwoPass), u64::MAX);
        assert_eq!(regime(u64::MAX), Regime::TwoPass);
        let mut previous = 0;
        for (this, next) in Regime::ALL.into_iter().zip(&Regime::ALL[1..]) {
            if max(this) <= previous {
                // Registers hold more than this device's shared memory: nothing is left for staging.
                assert_eq!(this, Regime::Staged, "{device:?} {pair:?}");
                continue;
            }
            let after = if max(*next) > max(this) { *next } else { Regime::TwoPass };
            assert_eq!(regime(previous + u64::from(previous > 0)), this, "{device:?} {pair:?}");
            assert_eq!(regime(max(this)), this, "{device:?} {pair:?}");
            assert_eq!(regime(max(this) + 1), after, "{device:?} {pair:?}");
            previous = max(this);
        }
    }
}

#[test]
fn the_longest_rows_are_those_of_the_sources() {
    // 4 packs of 16 bytes per thread, and less than one more pack at each end.
    assert_eq!(Regime::ALL.map(Regime::static_shared_bytes), [0, 768, 768, 768]);
    assert_eq!(Regime::ALL.map(|regime| regime.to_string()), ["warp", "block", "staged", "two_pass"]);
    for (device, pair) in everything() {
        let per_pack = 16 / pair.0.size() as u64;
        let max = |regime: Regime| regime.max_cols(&device, pair.0, pair.1);
        assert_eq!(max(Regime::Warp), 32 * 4 * per_pack + per_pack - 1);
        assert_eq!(max(Regime::Block), 512 * 4 * per_pack + per_pack - 1);
        let staged = u64::from(device.shared_memory_per_block - 768) / (16 + per_pack * pair.1.size() as u64);
        assert_eq!(max(Regime::Staged), staged * per_pack + per_pack - 1);
    }
    let a100 = &DEVICES[1];
    assert_eq!(Regime::Warp.max_cols(a100, DType::F16, DType::U8), 1031);
    assert_eq!(Regime::Block.max_cols(a100, DType::F16, DType::U8), 16391);
    assert_eq!(Regime::Staged.max_cols(a100, DType::F16, DType::F16), 41_543);
    assert_eq!(Regime::Staged.max_cols(a100, DType::F32, DType::F32), 20_771);
}

/// Whatever the row's alignment, the threads have a place for each of its packs and for each edge element.
#[test]
fn no_row_is_longer_than_its_regime_holds() {
    for (device, pair) in everything() {
        let per_pack = 16 / pair.0.size() as u64;
        for regime in [Regime::Warp, Regime::Block, Regime::Staged] {
            let max = regime.max_cols(&device, pair.0, pair.1);
            for cols in (0..40).chain(max - 40..=max).chain((0..400).map(|i| i * max / 400)) {
                let plan = Plan::with_regime(&device, &problem(pair, 1, cols), regime).unwrap();
                for head in 0..per_pack.min(cols + 1) {
                    let packs = (cols - head) / per_pack;
                    let edges = cols - packs * per_pack;
                    let threads = u64::from(if regime == Regime::Warp { 32 } else { plan.block });
                    assert!(edges <= threads, "{cols} columns: an edge element without a thread");
                    match regime.packs_per_thread() {
                        Some(each) => assert!(packs <= threads * each, "{regime} {cols}: a pack without a register"),
                        None => {
                            let bytes = packs * (16 + per_pack * pair.1.size() as u64);
                            assert!(bytes <= plan.shared_bytes.into(), "{regime} {cols}: a pack without a place");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn blocks_are_the_smallest_that_hold_the_row() {
    let device = &DEVICES[1];
    for pair in PAIRS {
        let per_pack = 16 / pair.0.size() as u64;
        let block = |cols| Plan::with_regime(device, &problem(pair, 1, cols), Regime::Block).unwrap().block;
        for (threads, larger) in [(128, 256), (256, 512)] {
            let last = (threads * 4 + 1) * per_pack - 1;
            assert_eq!(u64::from(block(last)), threads);
            assert_eq!(block(last + 1), larger);
        }
        assert_eq!(block(0), 128);
        assert_eq!(block(Regime::Block.max_cols(device, pair.0, pair.1)), 512);
        for regime in [Regime::Warp, Regime::Staged, Regime::TwoPass] {
            let blocks: BTreeSet<_> = [0, 1, 500, Regime::Warp.max_cols(device, pair.0, pair.1)]
                .map(|cols| Plan::with_regime(device, &problem(pair, 1, cols), regime).unwrap().block)
                .into();
            assert_eq!(blocks, [regime.threads()[0]].into());
        }
    }
}

#[test]
fn shared_memory_stays_within_the_limit() {
    for (device, pair) in everything() {
        let max = Regime::Staged.max_cols(&device, pair.0, pair.1);
        let pack_bytes = 16 + 16 / pair.0.size() as u32 * pair.1.size() as u32;
        for cols in [0, 1, 7, 8, 1000, max - 1, max] {
            let plan = Plan::with_regime(&device, &problem(pair, 1, cols), Regime::Staged).unwrap();
            assert_eq!(plan.shared_bytes, (cols / (16 / pair.0.size() as u64)) as u32 * pack_bytes);
            assert!(plan.shared_bytes + Regime::Staged.static_shared_bytes() <= device.shared_memory_per_block);
        }
        let full = Plan::with_regime(&device, &problem(pair, 1, max), Regime::Staged).unwrap().shared_bytes;
        let used = full + Regime::Staged.static_shared_bytes();
        assert!(used + pack_bytes > device.shared_memory_per_block, "room for another pack is left");
        for regime in [Regime::Warp, Regime::Block, Regime::TwoPass] {
            assert_eq!(Plan::with_regime(&device, &problem(pair, 1, 500), regime).unwrap().shared_bytes, 0);
        }
    }
}

#[test]
fn a_regime_refuses_rows_beyond_its_limit() {
    for (device, pair) in everything() {
        for regime in [Regime::Warp, Regime::Block, Regime::Staged] {
            let allowed = regime.max_cols(&device, pair.0, pair.1);
            assert!(Plan::with_regime(&device, &problem(pair, 1, allowed), regime).is_ok());
            let refused = Plan::with_regime(&device, &problem(pair, 1, allowed + 1), regime);
            assert_eq!(refused, Err(Error::RegimeLimit { regime, cols: allowed + 1, allowed }));
        }
    }
}

#[test]
fn grids_cover_the_rows_and_no_more_than_the_device_allows() {
    let device = &DEVICES[1];
    let pair = (DType::F16, DType::U8);
    for (regime, per_block) in [(Regime::Warp, 4), (Regime::Block, 1), (Regime::Staged, 1), (Regime::TwoPass, 1)] {
        let plan = |rows| Plan::with_regime(device, &problem(pair, rows, 10), regime);
        let most = u64::from(device.max_grid) * per_block;
        for rows in [0, 1, 3, 4, 5, 8, 8193, most - 1, most] {
            assert_eq!(u64::from(plan(rows).unwrap().grid), rows.div_ceil(per_block), "{regime} {rows}");
        }
        for rows in [most + 1, u64::MAX] {
            assert_eq!(plan(rows), Err(Error::GridLimit { rows, regime, allowed: most }));
        }
    }
    let small = Device { max_grid: 65_535, ..*device };
    let refused = Plan::new(&small, &problem(pair, 65_536, 5000));
    assert_eq!(refused, Err(Error::GridLimit { rows: 65_536, regime: Regime::Block, allowed: 65_535 }));
}

#[test]
fn forward_only_takes_no_detour_through_shared_memory() {
    for (device, pair) in everything() {
        let warp = Regime::Warp.max_cols(&device, pair.0, pair.1);
        let longest = Regime::Staged.max_cols(&device, pair.0, pair.1);
        let forward = |cols| Problem { gradient: None, ..problem(pair, 2, cols) };
        assert_eq!(Plan::new(&device, &forward(warp)).unwrap().kernel.regime, Regime::Warp);
        for cols in [warp + 1, longest, longest + 1] {
            assert_eq!(Plan::new(&device, &forward(cols)).unwrap().kernel.regime, Regime::TwoPass);
        }
        for regime in Regime::ALL {
            assert_eq!(Plan::with_regime(&device, &forward(5), regime).unwrap().kernel.regime, regime);
        }
    }
}

#[test]
fn totals_take_one_launch_up_to_8192_rows_and_two_beyond() {
    let device = &DEVICES[3];
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let plan = |rows| {
            let problem = Problem { reduction, ..problem((DType::Bf16, DType::F32), rows, 9) };
            let plan = Plan::new(device, &problem).unwrap();
            (plan.total.unwrap().shares, plan.workspace_bytes)
        };
        for rows in [0, 1, 8191, 8192] {
            assert_eq!(plan(rows), (1, 0), "{rows}");
        }
        assert_eq!(plan(8193), (2, 8));
        assert_eq!(plan(16_384), (2, 8));
        assert_eq!(plan(16_385), (3, 12));
        assert_eq!(plan(8192 * 1024), (1024, 4096));
        assert_eq!(plan(8192 * 1024 + 1), (1024, 4096));
        assert_eq!(plan(1 << 32), (1024, 4096));
    }
    let plan = Plan::new(device, &problem((DType::Bf16, DType::F32), 1 << 20, 9)).unwrap();
    assert_eq!((plan.total, plan.workspace_bytes), (None, 0));
    assert_eq!(plan.total_block(), TOTAL_THREADS);
}

#[test]
fn devices_before_7_5_are_refused() {
    for capability in [(7, 0), (7, 2), (6, 1), (3, 5)] {
        let device = Device { capability, ..DEVICES[0] };
        let refused = Plan::new(&device, &problem((DType::F32, DType::F32), 1, 1));
        assert_eq!(refused, Err(Error::Capability { capability }));
    }
}

#[test]
fn every_pair_of_types_is_planned_or_refused() {
    let types = [DType::F32, DType::F16, DType::Bf16, DType::U8];
    for device in &DEVICES {
        for scores in types {
            for labels in types {
                for regime in Regime::ALL {
                    let plan = Plan::with_regime(
                        device,
                        &Problem { gradient: None, ..problem((scores, labels), 1, 9) },
                        regime,
                    );
                    if PAIRS.contains(&(scores, labels)) {
                        let kernel = plan.unwrap().kernel;
                        assert_eq!((kernel.regime, kernel.scores, kernel.labels), (regime, scores, labels));
                    } else {
                        assert_eq!(plan, Err(Error::Types { scores, labels }));
                    }
                }
            }
        }
    }
}

#[test]
fn the_gradient_has_the_type_of_the_scores_or_f32() {
    let types = [DType::F32, DType::F16, DType::Bf16, DType::U8];
    for (scores, labels) in PAIRS {
        for gradient in types {
            let plan = Plan::new(&DEVICES[0], &Problem { gradient: Some(gradient), ..problem((scores, labels), 1, 9) });
            if gradient == scores || gradient == DType::F32 {
                assert!(plan.is_ok());
            } else {
                assert_eq!(plan, Err(Error::GradientType { scores, gradient }));
            }
        }
    }
    // u8 scores have no gradient at all, not even one in f32.
    let bytes = Problem { gradient: Some(DType::F32), ..problem((DType::U8, DType::U8), 1, 9) };
    assert_eq!(Plan::new(&DEVICES[0], &bytes), Err(Error::GradientType { scores: DType::U8, gradient: DType::F32 }));
}

#[test]
fn nothing_is_launched_for_no_rows_and_something_for_no_columns() {
    for (device, pair) in everything() {
        let empty = Plan::new(&device, &problem(pair, 0, 100)).unwrap();
        assert_eq!(empty.grid, 0);
        // Rows without columns have losses of 0, which somebody must write.
        let narrow = Plan::new(&device, &problem(pair, 9, 0)).unwrap();
        assert_eq!((narrow.grid, narrow.kernel.regime), (3, Regime::Warp));
    }
}

fn source(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The value of `NAME = value` in a source.
fn constant(text: &str, name: &str) -> u32 {
    let at = text.find(&format!("{name} = ")).unwrap_or_else(|| panic!("no {name}"));
    let digits: String = text[at + name.len() + 3..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{name} is no number"))
}

#[test]
fn the_table_is_that_of_the_sources() {
    let name_of = |c_type: &str| match c_type {
        "float" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::Bf16,
        "u8" => DType::U8,
        other => panic!("unknown type {other}"),
    };
    let pairs = source("pairs.cuh");
    let mut from_sources = HashSet::new();
    for regime in Regime::ALL {
        let module = source(&format!("{}.cu", regime.module()));
        assert!(module.contains("ZLPR_FOR_EACH_PAIR(KERNEL)"));
        let prefix = format!("zlpr_{}_##NAME", regime.module());
        assert!(module.contains(&prefix), "{prefix} is not in its module");
        for line in pairs.lines().filter_map(|l| l.trim().strip_prefix("KERNEL(")) {
            let arguments: Vec<&str> = line.split(')').next().unwrap_or("").split(',').map(str::trim).collect();
            let (scores, labels) = (name_of(arguments[1]), name_of(arguments[2]));
            assert_eq!(arguments[0], format!("{scores}_{labels}"));
            from_sources.insert((format!("zlpr_{}_{}", regime.module(), arguments[0]), regime, scores, labels));
        }
    }
    let table: HashSet<_> = KERNELS.iter().map(|k| (k.name.to_string(), k.regime, k.scores, k.labels)).collect();
    let difference: Vec<_> = table.symmetric_difference(&from_sources).collect();
    assert!(difference.is_empty(), "in the table or in the sources, but not in both: {difference:?}");
    assert_eq!(table.len(), KERNELS.len(), "an entry point is listed twice");
    assert_eq!(KERNELS.len(), Regime::ALL.len() * PAIRS.len());
}

#[test]
fn the_numbers_are_those_of_the_sources() {
    let warp = source("warp.cu");
    assert_eq!(u64::from(constant(&warp, "WARPS")), Regime::Warp.rows_per_block());
    assert_eq!(constant(&warp, "WARPS") * 32, Regime::Warp.threads()[0]);
    assert_eq!(Some(u64::from(constant(&warp, "PACKS"))), Regime::Warp.packs_per_thread());
    let block = source("block.cu");
    assert_eq!(Some(&constant(&block, "MAX_THREADS")), Regime::Block.threads().last());
    assert_eq!(Some(u64::from(constant(&block, "PACKS"))), Regime::Block.packs_per_thread());
    for regime in [Regime::Staged, Regime::TwoPass] {
        let threads = constant(&source(&format!("{}.cu", regime.module())), "THREADS");
        assert_eq!(regime.threads(), [threads]);
    }
    assert_eq!(constant(&source("total.cu"), "THREADS"), TOTAL_THREADS);
    assert!(source("total.cu").contains(&format!("{TOTAL}(")));
    assert_eq!(TOTAL_MODULE, "total");
    // Powers of two, or a warp would be partly empty and its shuffles undefined.
    for threads in Regime::ALL.iter().flat_map(|r| r.threads()) {
        assert_eq!(threads % 32, 0);
    }
}

/// The body of an entry point, from its name to the end of the function.
fn entry<'t>(ptx: &'t str, name: &str) -> Option<&'t str> {
    let begin = ptx.find(&format!(".entry {name}("))?;
    Some(&ptx[begin..begin + ptx[begin..].find("\n}")?])
}

#[test]
fn every_embedded_ptx_has_every_kernel_of_its_module() {
    let mut seen = BTreeSet::new();
    for image in IMAGES {
        let (arch, prebuilt) = match image.kind {
            ImageKind::BuiltPtx(arch) => (arch, false),
            ImageKind::PrebuiltPtx(arch) => (arch, true),
            ImageKind::MachineCode(_) => continue,
        };
        seen.insert((prebuilt, image.module));
        assert_eq!(image.bytes.last(), Some(&0), "the driver wants a NUL");
        let ptx = std::str::from_utf8(&image.bytes[..image.bytes.len() - 1]).unwrap();
        assert!(ptx.contains(&format!(".target sm_{arch}\n")), "{} {}", image.module, image.kind);
        if image.module == TOTAL_MODULE {
            assert!(entry(ptx, TOTAL).unwrap().contains(&format!(".maxntid {TOTAL_THREADS}")));
            continue;
        }
        let kernels: Vec<_> = KERNELS.iter().filter(|k| k.regime.module() == image.module).collect();
        assert_eq!(ptx.matches(".entry ").count(), kernels.len(), "{} {}", image.module, image.kind);
        // `.shared .align 8 .b8 name[768];` at module scope; `extern` is the dynamic part.
        let sizes = ptx.lines().filter_map(|l| l.strip_prefix(".shared ")?.rsplit_once('[')?.1.strip_suffix("];"));
        let shared: u32 = sizes.map(|size| size.parse::<u32>().unwrap()).sum();
        assert_eq!(shared, kernels[0].regime.static_shared_bytes(), "{} {}", image.module, image.kind);
        for kernel in kernels {
            let text = entry(ptx, kernel.name).unwrap_or_else(|| panic!("{} is not in {}", kernel.name, image.kind));
            let threads = kernel.regime.threads().last().unwrap();
            assert!(text.contains(&format!(".maxntid {threads}")), "{}: another block size", kernel.name);
            assert!(text.contains("param_0[128]"), "{}: another argument block", kernel.name);
        }
    }
    let modules: BTreeSet<_> = Regime::ALL.iter().map(|r| r.module()).chain([TOTAL_MODULE]).collect();
    for prebuilt in [true, false] {
        let has: BTreeSet<_> = seen.iter().filter(|s| s.0 == prebuilt).map(|s| s.1).collect();
        assert!(has.is_empty() || has == modules, "some modules are missing: {has:?}");
    }
    assert!(!seen.is_empty(), "no PTX is embedded");
}
