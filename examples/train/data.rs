//! Features and labels: from a file or generated, standardised where that makes sense, split in halves.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ndarray::{Array2, ArrayView1, Axis};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use zlpr::DType;

use crate::generator;
use crate::support::tensors::{Matrix, Tensors};

/// Rows to train on or to test with.
pub struct Part {
    /// Features [rows, d].
    pub features: Array2<f32>,
    /// Labels [rows, L], 0 or 1.
    pub labels: Array2<u8>,
}

/// Both halves.
pub struct Data {
    /// The half that is trained on.
    pub train: Part,
    /// The other half.
    pub test: Part,
    /// What it is, for people.
    pub description: String,
}

impl Data {
    /// The data of a file, or generated data; the seed decides about the halves too.
    pub fn load(path: Option<&Path>, seed: u64) -> Result<Data> {
        let (name, (features, labels)) = match path {
            Some(path) => {
                let name = path.display().to_string();
                let arrays = read(path).with_context(|| name.clone())?;
                (name, arrays)
            }
            None => ("generated, labels by Zipf's law".to_owned(), generator::generate(seed)),
        };
        Ok(Data::split(&name, &features, &labels, seed))
    }

    fn split(name: &str, features: &Array2<f32>, labels: &Array2<u8>, seed: u64) -> Data {
        let rows = features.nrows();
        let mut order: Vec<usize> = (0..rows).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let (train, test) = order.split_at(rows / 2);
        let part =
            |rows: &[usize]| Part { features: features.select(Axis(0), rows), labels: labels.select(Axis(0), rows) };
        let (mut train, mut test) = (part(train), part(test));

        // Sparse features (tf-idf and the like) are of one scale, and centring would fill their zeros.
        let zeros = features.iter().filter(|&&x| x == 0.0).count() as f64 / features.len() as f64;
        let treatment = if zeros > 0.5 {
            format!("{:.0} % zeros: taken as they are", 100.0 * zeros)
        } else {
            standardise(&mut train, &mut test);
            "dense: standardised by the training half".to_owned()
        };
        let present = labels.iter().filter(|&&label| label != 0).count();
        let description = format!(
            "{name}\n          {} features ({treatment})\n          {} labels, {:.1} per row; {} rows to train, {} to test",
            features.ncols(),
            labels.ncols(),
            present as f64 / rows as f64,
            train.features.nrows(),
            test.features.nrows(),
        );
        Data { train, test, description }
    }
}

fn read(path: &Path) -> Result<(Array2<f32>, Array2<u8>)> {
    let bytes = fs::read(path)?;
    let tensors = Tensors::parse(&bytes)?;
    let features = tensors.matrix("features", &[DType::F32])?;
    let labels = tensors.matrix("labels", &[DType::U8])?;
    let Matrix { rows, cols, .. } = features;
    ensure!(labels.rows == rows, "`features` has {rows} rows, but `labels` {}", labels.rows);
    ensure!(rows >= 2, "{rows} rows: two halves need at least 2");
    ensure!(cols > 0 && labels.cols > 0, "there are {cols} features and {} labels", labels.cols);
    let present = labels.elements::<u8>().into_iter().map(|label| u8::from(label != 0)).collect();
    let labels = Array2::from_shape_vec((rows, labels.cols), present)?;
    let features = Array2::from_shape_vec((rows, cols), features.elements::<f32>())?;
    if let Some(((row, column), value)) = features.indexed_iter().find(|(_, value)| !value.is_finite()) {
        bail!("`features` is {value} in row {row}, column {column}");
    }
    Ok((features, labels))
}

/// Mean 0 and variance 1 on the training half. A constant feature becomes 0.
fn standardise(train: &mut Part, test: &mut Part) {
    for (mut train, mut test) in train.features.axis_iter_mut(Axis(1)).zip(test.features.axis_iter_mut(Axis(1))) {
        let (mean, deviation) = moments(train.view());
        let inverse = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
        for values in [&mut train, &mut test] {
            values.mapv_inplace(|x| ((f64::from(x) - mean) * inverse) as f32);
        }
    }
}

fn moments(values: ArrayView1<'_, f32>) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
    let variance = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}
