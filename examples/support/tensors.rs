//! Matrices from safetensors files, with errors that name the tensor, what was given and what is allowed.

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};
use zlpr::{DType, Element};

/// The tensors of a file.
pub struct Tensors<'a>(SafeTensors<'a>);

/// One matrix of a file, row by row.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// Type of its elements.
    pub dtype: DType,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    bytes: &'a [u8],
}

impl<'a> Tensors<'a> {
    /// The tensors of a file with these bytes, once its header is known to be sound.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        Ok(Tensors(SafeTensors::deserialize(bytes).context("not a safetensors file")?))
    }

    /// A matrix of one of the allowed types.
    pub fn matrix(&self, name: &str, allowed: &[DType]) -> Result<Matrix<'a>> {
        self.optional_matrix(name, allowed)?.with_context(|| {
            let mut names = self.0.names();
            names.sort_unstable();
            format!("there is no tensor `{name}`, only: {}", names.join(", "))
        })
    }

    /// A matrix that may be absent.
    pub fn optional_matrix(&self, name: &str, allowed: &[DType]) -> Result<Option<Matrix<'a>>> {
        let Ok(tensor) = self.0.tensor(name) else { return Ok(None) };
        let Some(&dtype) = allowed.iter().find(|&&dtype| file_type(dtype) == Some(tensor.dtype())) else {
            let allowed: Vec<&str> = allowed.iter().map(|dtype| dtype.name()).collect();
            let given = format!("{:?}", tensor.dtype()).to_lowercase();
            bail!("`{name}` is of type {given}; allowed: {}", allowed.join(", "));
        };
        let &[rows, cols] = tensor.shape() else {
            bail!("`{name}` has shape {:?}; needed: [rows, columns]", tensor.shape());
        };
        Ok(Some(Matrix { dtype, rows, cols, bytes: tensor.data() }))
    }
}

impl Matrix<'_> {
    /// The elements, row by row. `T` is the type that [`Matrix::dtype`] names.
    pub fn elements<T: Element>(&self) -> Vec<T> {
        debug_assert_eq!(T::DTYPE, self.dtype);
        // The file guarantees no alignment. It is little-endian, as is every host with a CUDA driver.
        self.bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }
}

/// How a type is called in a file.
pub fn file_type(dtype: DType) -> Option<Dtype> {
    match dtype {
        DType::F32 => Some(Dtype::F32),
        DType::F16 => Some(Dtype::F16),
        DType::Bf16 => Some(Dtype::BF16),
        DType::U8 => Some(Dtype::U8),
        _ => None,
    }
}
