//! The recorded cases: every file of `../shared/cases` where there is that folder, and the embedded ones always.
//!
//! A file holds `scores` and `labels` `[rows, cols]`, optionally `mask` (u8), and what an independent program in f64
//! made of them with an epsilon of 1e-7: `loss` `[rows]` and `grad` `[rows, cols]`.

mod common;

use std::path::{Path, PathBuf};

use common::{Case, PAIRS, check_everywhere, decode, round};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use zlpr::{DType, Options, Reduction};

const INF: f64 = f64::INFINITY;

/// A row whose loss and gradient were computed with 60 decimal digits.
struct Known {
    name: &'static str,
    scores: &'static [f64],
    labels: &'static [f64],
    mask: Option<&'static [u8]>,
    loss: f64,
    gradient: &'static [f64],
}

const KNOWN: &[Known] = &[
    Known {
        name: "one undecided column",
        scores: &[0.0],
        labels: &[0.5],
        mask: None,
        loss: 0.8109302162163288,
        gradient: &[0.0],
    },
    Known {
        name: "a positive and a negative",
        scores: &[0.0, 0.0],
        labels: &[1.0, 0.0],
        mask: None,
        loss: 1.3862943611198906,
        gradient: &[-0.5, 0.5],
    },
    Known {
        name: "soft",
        scores: &[0.5, -1.25, 2.0, -3.5, 0.0],
        labels: &[0.25, 0.5, 0.875, 0.125, 1.0],
        mask: None,
        loss: 3.3015154882267446,
        gradient: &[
            0.35275594516568987,
            -0.17098855999199664,
            0.26285805642502574,
            -0.49968072381948436,
            -0.12262935970194407,
        ],
    },
    Known {
        name: "hard",
        scores: &[2.5, -0.75, -4.0, 6.0, -1.0, 0.125, -2.0],
        labels: &[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0],
        mask: None,
        loss: 1.366631347540477,
        gradient: &[
            -0.0417297750746205,
            0.236906205602486,
            0.009185850452655457,
            -0.001260130018055425,
            0.18450273843769133,
            -0.4486373620792454,
            0.06787476431105868,
        ],
    },
    Known {
        name: "masked",
        scores: &[1.5, -INF, -0.5, 3.0, -INF, -2.25],
        labels: &[1.0, 1.0, 0.0, 0.0, 0.0, 0.5],
        mask: Some(&[1, 1, 1, 0, 1, 1]),
        loss: 2.29259776975003,
        gradient: &[-0.037394039216946444, 0.0, 0.3655494176729832, 0.0, 0.0, -0.7632560220111476],
    },
    Known {
        name: "far apart",
        scores: &[10000.0, -9984.0, 9999.0, 0.0],
        labels: &[0.0, 1.0, 0.5, 0.5],
        mask: None,
        loss: 19984.1688476235,
        gradient: &[0.8446375965030364, -1.0, 0.15536240349696362, -0.0],
    },
    Known {
        name: "beyond e^88",
        scores: &[100.0, -95.0, -100.0, 96.0, 20.0],
        labels: &[1.0, 0.0, 0.75, 0.5, 0.0],
        mask: None,
        loss: 195.01917074698827,
        gradient: &[-1.8451953689823166e-87, 2.2427659406455712e-83, -1.0, 1.0, 1.9708309372222515e-33],
    },
    Known {
        name: "well fitted",
        scores: &[30.0, -28.0, -31.5, 29.25],
        labels: &[1.0, 0.0, 0.0, 1.0],
        mask: None,
        loss: 1.0039967993034832e-12,
        gradient: &[-9.357622968837445e-14, 6.914400106935277e-13, 2.087967911644446e-14, -1.9810087980484018e-13],
    },
    Known {
        name: "wrong everywhere",
        scores: &[-12.0, 14.0, -9.0, 11.5],
        labels: &[1.0, 0.0, 1.0, 0.0],
        mask: None,
        loss: 26.12748370711705,
        gradient: &[-0.9525685516123372, 0.924141109822092, -0.047425595604200566, 0.07585812172803473],
    },
];

/// The reference agrees with an independent result to far below any tolerance of the kernels.
fn verify_reference(case: &Case, r: usize, loss: f64, gradient: &[f64]) {
    let row = &case.expected()[r];
    let apart = |a: f64, b: f64| (a - b).abs() / b.abs().max(1e-300);
    assert!(row.loss == loss || apart(row.loss, loss) < 1e-11, "{case}: row {r}: {} {loss}", row.loss);
    for (c, (&ours, &theirs)) in row.gradient.iter().zip(gradient).enumerate() {
        // Where both terms nearly cancel, they are what the difference is measured by.
        let terms = row.down[c] + row.up[c];
        assert!((ours - theirs).abs() <= 1e-11 * terms + 1e-300, "{case}: row {r} column {c}: {ours} {theirs}");
        assert!(row.valid[c] || theirs == 0.0, "{case}: row {r} column {c}: masked, but {theirs}");
    }
}

/// The case in every pair of types that holds its values exactly, contiguous and in place, with and without a total.
fn variants(case: &Case) -> Vec<Case> {
    let holds = |dtype: DType, values: &[f64]| values.iter().all(|&x| round(dtype, x) == x);
    let pairs = PAIRS.into_iter().filter(|&(scores, labels)| {
        let hard = case.labels.iter().all(|&t| t == 0.0 || t == 1.0);
        holds(scores, &case.scores) && if labels == DType::U8 { hard } else { holds(labels, &case.labels) }
    });
    let cases = pairs.flat_map(|pair| {
        let mut same = Case::new(case.name.clone(), pair, (case.rows, case.cols), &case.scores, &case.labels);
        same.mask = case.mask.clone();
        let shifted = same.clone().offsets([3, 2, 1, 5]).padding([1, 2, 3, 4]);
        let mean = shifted.clone().options(Options::new().reduction(Reduction::Mean));
        [same.clone(), same.gradient(DType::F32), shifted.in_place(), mean]
    });
    cases.collect()
}

#[test]
fn embedded_cases() {
    let cases = KNOWN.iter().flat_map(|known| {
        let shape = (1, known.scores.len());
        let mut case = Case::new(known.name, PAIRS[0], shape, known.scores, known.labels);
        case.mask = known.mask.map(<[u8]>::to_vec);
        verify_reference(&case, 0, known.loss, known.gradient);
        let variants = variants(&case);
        assert!(variants.len() >= 4, "{case}: f32 holds it");
        variants
    });
    check_everywhere(cases);
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    let Ok(entries) = folder.read_dir() else {
        eprintln!("skipped: there is no {}", folder.display());
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    files.sort();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

fn dtype(tensor: &TensorView<'_>) -> DType {
    match tensor.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::U8 => DType::U8,
        other => panic!("unexpected type {other:?}"),
    }
}

fn doubles(tensor: &TensorView<'_>) -> Vec<f64> {
    assert_eq!(tensor.dtype(), Dtype::F64);
    tensor.data().chunks_exact(8).map(bytemuck::pod_read_unaligned).collect()
}

/// The case of a file, after the reference was held against the file's results.
fn read(path: &Path) -> Case {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let tensor = |name| file.tensor(name).unwrap_or_else(|e| panic!("{}: {name}: {e}", path.display()));
    let (scores, labels) = (tensor("scores"), tensor("labels"));
    let &[rows, cols] = scores.shape() else { panic!("{}: scores {:?}", path.display(), scores.shape()) };
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let pair = (dtype(&scores), dtype(&labels));
    let values = |tensor: &TensorView<'_>| decode(dtype(tensor), tensor.data());
    let mut case = Case::new(name, pair, (rows, cols), &values(&scores), &values(&labels));
    case.mask = file.tensor("mask").ok().map(|mask| mask.data().to_vec());

    let (losses, gradients) = (doubles(&tensor("loss")), doubles(&tensor("grad")));
    assert_eq!((losses.len(), gradients.len()), (rows, rows * cols));
    for (r, (&loss, gradient)) in losses.iter().zip(gradients.chunks(cols)).enumerate() {
        verify_reference(&case, r, loss, gradient);
    }
    case
}

#[test]
fn shared_cases() {
    let cases = files().into_iter().map(|path| read(&path)).flat_map(|case| {
        let variants = variants(&case);
        let own = |c: &Case| (c.scores_type, c.labels_type) == (case.scores_type, case.labels_type);
        assert!(variants.iter().any(own), "{case} is not among its own variants");
        variants
    });
    let cases: Vec<Case> = cases.collect();
    if !cases.is_empty() {
        check_everywhere(cases);
    }
}

/// The reference itself, on the CPU alone.
#[test]
fn the_reference_agrees_with_every_file() {
    for path in files() {
        read(&path);
    }
}
