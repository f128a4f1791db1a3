//! The example programs, run as their users run them, and the parts of them that can be wrong by themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use half::{bf16, f16};
use ndarray::{Array2, array};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use zlpr::reference::Row;
use zlpr::{Element, Options, Score};

#[path = "../examples/train/generator.rs"]
mod generator;
#[path = "../examples/train/metrics.rs"]
mod metrics;

use metrics::F1;

#[test]
fn f1_is_that_of_the_counts() {
    let scores = array![[1.0, -1.0, 0.0], [2.0, 3.0, -1.0], [-0.5, 0.1, -2.0]];
    let labels = array![[1, 0, 0], [1, 0, 0], [1, 1, 0]];
    // Label 0: TP 2, FN 1. Label 1: TP 1, FP 1. Label 2: neither present nor predicted (0 is no prediction).
    let expected = F1 { micro: 6.0 / 8.0, macro_: (4.0 / 5.0 + 2.0 / 3.0) / 3.0 };
    assert_eq!(F1::of(scores.view(), labels.view()), expected);
    let nothing = F1::of(Array2::zeros((2, 0)).view(), Array2::zeros((2, 0)).view());
    assert_eq!(nothing, F1::default());
}

#[test]
fn generated_data_are_long_tailed_and_the_same_every_time() {
    let (features, labels) = generator::generate(7);
    assert_eq!((&features, &labels), (&generator::generate(7).0, &generator::generate(7).1));
    assert_ne!(features, generator::generate(8).0);

    assert_eq!(features.dim(), (generator::ROWS, generator::FEATURES));
    let counts: Vec<usize> =
        labels.columns().into_iter().map(|column| column.iter().map(|&label| usize::from(label)).sum()).collect();
    assert_eq!(counts.len(), generator::LABELS);
    assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
    // Zipf: the tenth label is a tenth as frequent as the first.
    assert!(counts[0].abs_diff(10 * counts[9]) <= 10, "{counts:?}");
    let per_row = counts.iter().sum::<usize>() as f64 / generator::ROWS as f64;
    assert!((per_row - generator::LABELS_PER_ROW).abs() < 0.05, "{per_row} labels per row");
    assert!(features.rows().into_iter().all(|row| row.dot(&row) < 1.001));
}

/// An example of this profile, which `cargo test` builds along with the tests.
fn example(name: &str) -> Command {
    let executable = std::env::current_exe().expect("the path of this test");
    let profile = executable.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is not built: run `cargo build --examples` in the same profile", path.display());
    Command::new(path)
}

/// A path of its own for each file of a test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    fs::create_dir_all(&folder).expect("a writable target folder");
    folder.join(name)
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the example starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8 output")
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// A matrix to be written, or read back.
#[derive(Clone)]
struct Matrix {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Matrix {
    fn new<T: Element>(dtype: Dtype, rows: usize, cols: usize, value: impl Fn(usize) -> T) -> Self {
        let values: Vec<T> = (0..rows * cols).map(value).collect();
        Matrix { dtype, shape: vec![rows, cols], bytes: bytemuck::cast_slice(&values).to_vec() }
    }

    fn to_f64(&self) -> Vec<f64> {
        fn widen<T: Element>(bytes: &[u8]) -> Vec<f64> {
            bytes.chunks_exact(size_of::<T>()).map(|x| bytemuck::pod_read_unaligned::<T>(x).to_f64()).collect()
        }
        match self.dtype {
            Dtype::F32 => widen::<f32>(&self.bytes),
            Dtype::F16 => widen::<f16>(&self.bytes),
            Dtype::BF16 => widen::<bf16>(&self.bytes),
            Dtype::F64 => self.bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect(),
            Dtype::U8 => widen::<u8>(&self.bytes),
            other => panic!("{other:?} is not a type of these tests"),
        }
    }
}

/// Names and values.
type Tensors<'a> = &'a [(&'a str, &'a Matrix)];

fn write(name: &str, tensors: Tensors<'_>) -> PathBuf {
    let views = tensors.iter().map(|(name, m)| {
        (*name, TensorView::new(m.dtype, m.shape.clone(), &m.bytes).expect("as many bytes as the shape has"))
    });
    let path = scratch(name);
    fs::write(&path, serialize(views, None).expect("a sound file")).expect("a writable target folder");
    path
}

fn read(path: &Path, name: &str) -> Option<Matrix> {
    let bytes = fs::read(path).expect("a readable file");
    let tensors = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = tensors.tensor(name).ok()?;
    Some(Matrix { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), bytes: tensor.data().to_vec() })
}

/// Runs the loss example on a file and holds what it writes against the reference, or against the answers that
/// the file brings along.
#[track_caller]
fn check_loss(input: &Path, output: &str, arguments: &[&str], options: &Options) -> String {
    let output = scratch(output);
    let printed = succeed(example("loss").arg(input).arg(&output).args(arguments));

    let matrix = |path, name| read(path, name).unwrap_or_else(|| panic!("no tensor {name}"));
    let (scores, labels) = (matrix(input, "scores"), matrix(input, "labels"));
    let (loss, gradient) = (matrix(&output, "loss"), matrix(&output, "grad"));
    let mask = read(input, "mask");
    let answers = [read(input, "loss"), read(input, "grad")].map(|answer| answer.map(|answer| answer.to_f64()));
    let cols = scores.shape[1];
    assert_eq!((loss.dtype, &loss.shape[..]), (Dtype::F32, &scores.shape[..1]));
    assert_eq!((gradient.dtype, &gradient.shape), (scores.dtype, &scores.shape));

    let dtype = match scores.dtype {
        Dtype::F16 => zlpr::DType::F16,
        Dtype::BF16 => zlpr::DType::Bf16,
        _ => zlpr::DType::F32,
    };
    let (scores, labels, gradient) = (scores.to_f64(), labels.to_f64(), gradient.to_f64());
    for (index, loss) in loss.to_f64().into_iter().enumerate() {
        let range = index * cols..(index + 1) * cols;
        let mask = mask.as_ref().map(|mask| &mask.bytes[range.clone()]);
        let mut row = Row::new(&scores[range.clone()], &labels[range.clone()], mask, options);
        if let [Some(losses), Some(gradients)] = &answers {
            row.loss = losses[index];
            row.gradient.copy_from_slice(&gradients[range.clone()]);
        }
        assert!((loss - row.loss).abs() <= row.loss_tolerance(), "row {index}: loss {loss}, not {}", row.loss);
        let columns = row.gradient.iter().zip(row.gradient_tolerance(1.0, dtype)).zip(&gradient[range]);
        for (column, ((expected, tolerance), given)) in columns.enumerate() {
            assert!(
                (given - expected).abs() <= tolerance,
                "row {index}, column {column}: gradient {given}, not {expected} +- {tolerance:e}"
            );
        }
    }
    printed
}

/// Scores from -6 to 6, in an order without a pattern.
fn score<S: Score>(index: usize) -> S {
    S::from_f64((index * 7919 % 1201) as f64 / 100.0 - 6.0)
}

/// Labels: exact zeros and ones, and some between.
fn soft<S: Score>(index: usize) -> S {
    S::from_f64([0.0, 0.0, 1.0, 0.25, 0.0, 0.0, 0.9][index % 7])
}

#[test]
fn loss_example_agrees_with_the_reference() {
    let (rows, cols) = (3, 257);
    let hard = Matrix::new(Dtype::U8, rows, cols, |i| u8::from(i % 50 == 3));
    let soft_f16 = Matrix::new(Dtype::F16, rows, cols, soft::<f16>);
    let scores_f32 = Matrix::new(Dtype::F32, rows, cols, score::<f32>);
    let scores_f16 = Matrix::new(Dtype::F16, rows, cols, score::<f16>);
    let scores_bf16 = Matrix::new(Dtype::BF16, rows, cols, score::<bf16>);
    let mask = Matrix::new(Dtype::U8, rows, cols, |i| u8::from(i % 3 != 0));
    let plain = [
        ("f32_u8", &scores_f32, &hard),
        ("f16_f16", &scores_f16, &soft_f16),
        ("bf16_u8", &scores_bf16, &hard),
        // No kernel takes these: they are widened.
        ("bf16_f16", &scores_bf16, &soft_f16),
    ];
    for (name, scores, labels) in plain {
        let input = write(&format!("{name}.safetensors"), &[("scores", scores), ("labels", labels)]);
        for device in ["auto", "reference"] {
            let output = format!("{name}_{device}.safetensors");
            let printed = check_loss(&input, &output, &["--device", device], &Options::new());
            assert!(printed.contains("[3, 257]") && printed.contains("mean loss"), "{printed}");
            assert_eq!(printed.contains("widened to f32"), name == "bf16_f16", "{printed}");
        }
    }

    let input = write("masked.safetensors", &[("scores", &scores_f32), ("labels", &soft_f16), ("mask", &mask)]);
    let options = Options::new().epsilon(0.3).cutoff(-4.0);
    for (device, extra) in [("virtual", "75"), ("virtual", "80"), ("virtual", "90"), ("reference", "")] {
        let mut arguments = vec!["--device", device, "--epsilon", "0.3", "--cutoff", "-4"];
        if !extra.is_empty() {
            arguments.extend(["--capability", extra]);
        }
        let printed = check_loss(&input, &format!("masked_{device}{extra}.safetensors"), &arguments, &options);
        assert_eq!(printed.contains("counted by the virtual GPU"), device == "virtual", "{printed}");
    }
}

#[test]
fn loss_example_takes_files_without_rows_or_columns() {
    for (rows, cols) in [(0, 5), (4, 0)] {
        let scores = Matrix::new(Dtype::F32, rows, cols, score::<f32>);
        let labels = Matrix::new(Dtype::U8, rows, cols, |_| 1u8);
        let input = write(&format!("empty_{rows}.safetensors"), &[("scores", &scores), ("labels", &labels)]);
        for device in ["auto", "reference"] {
            let output = format!("empty_{rows}_{device}.safetensors");
            check_loss(&input, &output, &["--device", device], &Options::new());
        }
    }
}

/// Exit code 2 and one line on stderr that contains `expected`.
#[track_caller]
fn refused(command: &mut Command, expected: &str) {
    let output = run(command);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains(expected), "{command:?}: {stderr}");
}

#[test]
fn bad_files_give_one_line_and_exit_code_2() {
    let scores = Matrix::new(Dtype::F32, 2, 3, score::<f32>);
    let labels = Matrix::new(Dtype::U8, 2, 3, |_| 0u8);
    let wide = Matrix::new(Dtype::U8, 2, 4, |_| 0u8);
    let flat = Matrix { shape: vec![6], ..scores.clone() };
    let double = Matrix { dtype: Dtype::F64, shape: vec![1, 3], ..scores.clone() };
    let no_rows = Matrix::new(Dtype::F32, 0, 3, score::<f32>);
    let no_labels = Matrix::new(Dtype::U8, 0, 3, |_| 0u8);
    let holes = Matrix::new(Dtype::F32, 2, 3, |i| if i == 4 { f32::NAN } else { 0.0 });
    let output = scratch("never.safetensors");
    let plot = scratch("never.svg");

    let garbage = scratch("garbage.safetensors");
    fs::write(&garbage, b"not a safetensors file at all").expect("a writable target folder");
    for (path, expected) in [(garbage, "not a safetensors file"), (scratch("missing"), "missing: ")] {
        refused(example("loss").arg(&path).arg(&output), expected);
        refused(example("train").arg("--data").arg(&path).arg("--plot").arg(&plot), expected);
    }

    let cases: [(&str, Tensors<'_>, &str); 6] = [
        ("no_labels", &[("scores", &scores)], "no tensor `labels`, only: scores"),
        ("flat", &[("scores", &flat), ("labels", &labels)], "`scores` has shape [6]"),
        ("double", &[("scores", &double), ("labels", &labels)], "`scores` is of type f64; allowed: f32, f16, bf16"),
        ("wide", &[("scores", &scores), ("labels", &wide)], "`labels` is [2, 4], but `scores` is [2, 3]"),
        ("mask", &[("scores", &scores), ("labels", &labels), ("mask", &wide)], "`mask` is [2, 4]"),
        ("mask_type", &[("scores", &scores), ("labels", &labels), ("mask", &scores)], "`mask` is of type f32"),
    ];
    for (name, tensors, expected) in cases {
        let input = write(&format!("bad_{name}.safetensors"), tensors);
        refused(example("loss").arg(&input).arg(&output), expected);
    }
    let good = write("good.safetensors", &[("scores", &scores), ("labels", &labels)]);
    for (arguments, expected) in [
        (["--epsilon", "0.5"], "epsilon is 0.5"),
        (["--cutoff", "inf"], "cutoff is inf"),
        (["--device=reference", "--capability=80"], "--capability"),
    ] {
        refused(example("loss").arg(&good).arg(&output).args(arguments), expected);
    }
    refused(example("loss").arg(&good).arg(scratch("no/such/folder")).args(["--device", "reference"]), "cannot write");

    let cases: [(&str, Tensors<'_>, &str); 4] = [
        ("features", &[("labels", &labels)], "no tensor `features`"),
        ("types", &[("features", &scores), ("labels", &scores)], "`labels` is of type f32; allowed: u8"),
        ("rows", &[("features", &no_rows), ("labels", &no_labels)], "0 rows"),
        ("nan", &[("features", &holes), ("labels", &labels)], "`features` is NaN in row 1, column 1"),
    ];
    for (name, tensors, expected) in cases {
        let input = write(&format!("bad_{name}.safetensors"), tensors);
        refused(example("train").arg("--data").arg(&input).arg("--plot").arg(&plot), expected);
    }
    refused(example("train").args(["--label-smoothing", "1"]), "--label-smoothing is 1");
    assert!(!output.exists() && !plot.exists());
}

#[test]
fn training_gives_the_same_numbers_twice_and_draws_them() {
    let rows = 90;
    let features = Matrix::new(Dtype::F32, rows, 6, score::<f32>);
    let labels = Matrix::new(Dtype::U8, rows, 9, |i| u8::from(i % 7 == 0));
    let input = write("train.safetensors", &[("features", &features), ("labels", &labels)]);
    let train = |device: &str, more: &[&str]| {
        let plot = scratch(&format!("train_{device}.svg"));
        let mut command = example("train");
        command.args(["--device", device, "--epochs", "1", "--seed", "5"]).args(more).arg("--plot").arg(&plot);
        let printed = succeed(&mut command);
        let drawn = fs::read_to_string(&plot).expect("the plot");
        assert!(drawn.starts_with("<svg") && drawn.contains("micro-F1") && drawn.contains("ZLPR"), "{drawn}");
        assert!(printed.contains("test micro") && !printed.contains('\u{1b}'), "{printed}");
        (printed, drawn)
    };
    assert_eq!(train("reference", &[]), train("reference", &[]));
    let input = input.to_str().expect("a path in UTF-8");
    for dtype in ["f32", "f16", "bf16"] {
        for smoothing in ["0", "0.1"] {
            let more = ["--data", input, "--dtype", dtype, "--label-smoothing", smoothing, "--batch", "16"];
            assert_eq!(train("auto", &more), train("auto", &more));
        }
    }
    let (printed, _) = train("auto", &["--data", input, "--loss", "zlpr"]);
    assert!(!printed.contains("BCE"), "{printed}");
}

/// Every case that is at hand, at each capability: the files that the loss example is for.
#[test]
fn loss_example_on_the_shared_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder entry").path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name in UTF-8").to_owned();
        for capability in ["75", "80", "90"] {
            let arguments = ["--device", "virtual", "--capability", capability];
            check_loss(&path, &format!("case_{name}_{capability}.safetensors"), &arguments, &Options::new());
        }
    }
}
