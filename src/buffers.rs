//! Outputs that are allocated once and used for every step.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

use crate::inputs::{MatrixMut, Outputs};
use crate::{DType, Element, Error, Zlpr, driver};

/// Row losses, total, gradient and workspace for shapes up to a maximum, in device memory.
///
/// Allocated once, by [`Buffers::new`]; they grow only in [`Buffers::reserve`]. One set of buffers serves
/// one stream at a time.
pub struct Buffers<G> {
    loss: CudaSlice<f32>,
    total: CudaSlice<f32>,
    gradient: CudaSlice<G>,
    workspace: CudaSlice<f32>,
    reduces: bool,
    rows: usize,
    elements: usize,
}

impl<G: Element> Buffers<G> {
    /// Buffers for up to `rows` rows and `rows * cols` gradient elements, zeroed.
    ///
    /// # Errors
    /// [`Error::Driver`] if the device has no room; [`Error::TooLarge`].
    pub fn new(zlpr: &Zlpr, stream: &Arc<CudaStream>, rows: usize, cols: usize) -> Result<Self, Error> {
        let elements = elements(rows, cols)?;
        // The workspace depends on rows and reduction alone, not on the types.
        let plan = zlpr.plan(rows, cols, DType::F32, DType::U8, None)?;
        let words = (plan.workspace_bytes / 4) as usize;
        Ok(Buffers {
            loss: zeros(stream, rows)?,
            total: zeros(stream, 1)?,
            gradient: zeros(stream, elements)?,
            workspace: zeros(stream, words)?,
            reduces: plan.total.is_some(),
            rows,
            elements,
        })
    }

    /// Makes room for a larger shape; what fits already is left as it is. Old contents are lost when it
    /// grows.
    ///
    /// # Errors
    /// Those of [`Buffers::new`].
    pub fn reserve(&mut self, zlpr: &Zlpr, stream: &Arc<CudaStream>, rows: usize, cols: usize) -> Result<(), Error> {
        let elements = elements(rows, cols)?;
        if rows > self.rows || elements > self.elements {
            let rows = rows.max(self.rows);
            // As few columns as give the elements of the larger of both shapes.
            let cols = elements.max(self.elements).div_ceil(rows.max(1));
            *self = Buffers::new(zlpr, stream, rows, cols)?;
        }
        Ok(())
    }

    /// The buffers as the arguments of [`Zlpr::forward_backward`], for a shape of up to the maximum.
    ///
    /// # Errors
    /// [`Error::TooShort`] for a larger shape: call [`Buffers::reserve`] first.
    pub fn outputs(&mut self, rows: usize, cols: usize) -> Result<(Outputs<'_>, MatrixMut<'_, G>), Error> {
        let needed = elements(rows, cols)?;
        for (argument, given, needed) in [("loss", self.rows, rows), ("gradient", self.elements, needed)] {
            if needed > given {
                return Err(Error::TooShort { argument, given: given as u64, needed: needed as u64 });
            }
        }
        let outputs = Outputs::new(&mut self.loss).workspace(&mut self.workspace);
        let outputs = if self.reduces { outputs.total(&mut self.total) } else { outputs };
        Ok((outputs, MatrixMut::new(&mut self.gradient, rows, cols)))
    }

    /// Row losses of the last call in its first `rows` elements.
    pub fn loss(&self) -> &CudaSlice<f32> {
        &self.loss
    }

    /// Total of the last call; one element, 0 if there is no reduction.
    pub fn total(&self) -> &CudaSlice<f32> {
        &self.total
    }

    /// Gradient of the last call in its first `rows * cols` elements, contiguous.
    pub fn gradient(&self) -> &CudaSlice<G> {
        &self.gradient
    }
}

fn elements(rows: usize, cols: usize) -> Result<usize, Error> {
    let (r, c) = (rows as u64, cols as u64);
    rows.checked_mul(cols).ok_or(Error::TooLarge { argument: "gradient", rows: r, cols: c, stride: c })
}

/// At least one element: the driver refuses allocations of nothing.
fn zeros<T: Element>(stream: &Arc<CudaStream>, len: usize) -> Result<CudaSlice<T>, Error> {
    stream.alloc_zeros(len.max(1)).map_err(|e| driver::failed("cuMemAllocAsync", e))
}
