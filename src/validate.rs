//! The checks between the typed and the raw layer.

use crate::{DType, Error, raw};

/// One array argument after its pointer is known: `[rows, cols]` at a row stride, in elements.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(crate) dtype: DType,
    pub(crate) pointer: u64,
    /// Elements available from `pointer` on.
    pub(crate) len: u64,
    pub(crate) rows: u64,
    pub(crate) cols: u64,
    pub(crate) row_stride: u64,
}

/// All arguments of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    pub(crate) scores: Argument,
    pub(crate) labels: Argument,
    pub(crate) mask: Option<Argument>,
    pub(crate) upstream: Option<Argument>,
    pub(crate) gradient: Option<Argument>,
    pub(crate) loss: Argument,
    pub(crate) total: Option<Argument>,
    pub(crate) workspace: Option<Argument>,
}

impl Argument {
    /// Elements from the first to one past the last that the shape touches.
    fn extent(&self) -> Result<u64, Error> {
        if self.rows == 0 || self.cols == 0 {
            return Ok(0);
        }
        let elements = (self.rows - 1).checked_mul(self.row_stride).and_then(|e| e.checked_add(self.cols));
        let bytes = elements.and_then(|e| e.checked_mul(self.dtype.size() as u64));
        match (elements, bytes) {
            (Some(elements), Some(bytes)) if bytes < 1 << 63 => Ok(elements),
            _ => {
                Err(Error::TooLarge { argument: self.name, rows: self.rows, cols: self.cols, stride: self.row_stride })
            }
        }
    }

    /// Checks the row stride and that the buffer is long enough. `shared`: one row may serve all (stride 0).
    fn validate(&self, shared: bool) -> Result<(), Error> {
        let &Argument { name: argument, row_stride: given, cols, .. } = self;
        if given < cols && !(shared && given == 0) {
            let allowed = if shared { format!("0 or at least {cols}") } else { format!("at least {cols}") };
            return Err(Error::Stride { argument, given, allowed });
        }
        let needed = self.extent()?;
        if self.len < needed {
            return Err(Error::TooShort { argument, given: self.len, needed });
        }
        Ok(())
    }

    fn validate_shape(&self, scores: &Argument) -> Result<(), Error> {
        let (given, allowed) = ((self.rows, self.cols), (scores.rows, scores.cols));
        if given != allowed {
            return Err(Error::Shape { argument: self.name, given, allowed });
        }
        Ok(())
    }

    /// Bytes touched, padding between rows included.
    fn bytes(&self) -> Result<std::ops::Range<u64>, Error> {
        Ok(self.pointer..self.pointer + self.extent()? * self.dtype.size() as u64)
    }

    fn overlaps(&self, other: &Argument) -> Result<bool, Error> {
        let (a, b) = (self.bytes()?, other.bytes()?);
        Ok(!a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end)
    }

    /// The gradient may replace the scores, element by element.
    fn replaces(&self, scores: &Argument) -> bool {
        self.pointer == scores.pointer && self.dtype == scores.dtype && self.row_stride == scores.row_stride
    }
}

impl Arguments {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let Arguments { scores, labels, mask, upstream, gradient, loss, total, workspace } = self;
        scores.validate(false)?;
        labels.validate_shape(scores)?;
        labels.validate(true)?;
        if let Some(mask) = mask {
            mask.validate_shape(scores)?;
            mask.validate(true)?;
        }
        if let Some(gradient) = gradient {
            gradient.validate_shape(scores)?;
            gradient.validate(false)?;
        }
        loss.validate(false)?;
        for argument in [upstream, total, workspace].into_iter().flatten() {
            argument.validate(true)?;
        }

        let read = [Some(*scores), Some(*labels), *mask, *upstream];
        let written = [*gradient, Some(*loss), *total, *workspace];
        for (i, output) in written.iter().enumerate() {
            let Some(output) = output else { continue };
            for other in read.iter().chain(&written[i + 1..]).flatten() {
                let in_place = output.name == "gradient" && other.name == "scores" && output.replaces(other);
                if !in_place && output.overlaps(other)? {
                    return Err(Error::Overlap { written: output.name, other: other.name });
                }
            }
        }
        Ok(())
    }

    /// The raw arguments; `scale` is the upstream gradient known on the host.
    pub(crate) fn to_raw(self, scale: f32) -> raw::Arguments {
        let pointer = |argument: Option<Argument>| argument.map_or(0, |a| a.pointer);
        let stride = |argument: Option<Argument>| argument.map_or(0, |a| a.row_stride);
        raw::Arguments {
            scores: self.scores.pointer,
            scores_stride: self.scores.row_stride,
            labels: self.labels.pointer,
            labels_stride: self.labels.row_stride,
            mask: pointer(self.mask),
            mask_stride: stride(self.mask),
            gradient: pointer(self.gradient),
            gradient_stride: stride(self.gradient),
            loss: self.loss.pointer,
            upstream: pointer(self.upstream),
            upstream_stride: stride(self.upstream),
            scale,
            total: pointer(self.total),
            workspace: pointer(self.workspace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(pointer: u64, rows: u64, cols: u64) -> Argument {
        Argument { name: "mask", dtype: DType::U8, pointer, len: u64::MAX, rows, cols, row_stride: cols }
    }

    #[test]
    fn half_of_all_addresses_are_too_many() {
        let too_large = Error::TooLarge { argument: "mask", rows: 1, cols: 1 << 63, stride: 1 << 63 };
        assert_eq!(bytes(0, 1, 1 << 63).extent(), Err(too_large));
        assert_eq!(bytes(0, 1, (1 << 63) - 1).extent(), Ok((1 << 63) - 1));
        assert_eq!((bytes(0, 0, 5).extent(), bytes(0, 5, 0).extent()), (Ok(0), Ok(0)));
    }

    #[test]
    fn what_is_empty_overlaps_nothing() {
        let (around, other) = (bytes(64, 1, 16), bytes(72, 1, 1));
        for empty in [bytes(72, 0, 4), bytes(72, 4, 0)] {
            assert_eq!(empty.overlaps(&around), Ok(false));
            assert_eq!(around.overlaps(&empty), Ok(false));
        }
        assert_eq!((other.overlaps(&around), around.overlaps(&other)), (Ok(true), Ok(true)));
        for beside in [bytes(60, 1, 4), bytes(80, 1, 4)] {
            assert_eq!((beside.overlaps(&around), around.overlaps(&beside)), (Ok(false), Ok(false)));
        }
    }
}
