//! Arrays in device memory, with what surrounds them.
//!
//! Whatever is not part of the shape is poison: NaN beside inputs, so that its use shows in the results, and a
//! pattern beside outputs, which must still be there afterwards. Inputs end where their buffer ends, so that the
//! virtual GPU sees a read beyond; outputs have guards on both sides, so that any GPU shows a stray write.

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DriverError};
use zlpr::DType;

use super::Place;

/// Bytes of guard on each side of an output; a multiple of every alignment that kernels look at.
const GUARD: usize = 256;
/// Every byte of an output before the run, and of an input's surroundings: NaN in every float type.
const POISON: u8 = 0xff;

/// The bytes of a buffer before the run, and which of them belong to the shape.
pub struct Image {
    bytes: Vec<u8>,
    element: usize,
    first: usize,
    rows: usize,
    cols: usize,
    stride: usize,
}

impl Image {
    fn new(dtype: DType, (rows, cols): (usize, usize), place: Place, guard: usize) -> Image {
        // One row serves all: there is one. Without columns there is nothing.
        let rows = if cols == 0 {
            0
        } else if place.stride == 0 {
            rows.min(1)
        } else {
            rows
        };
        let element = dtype.size();
        let first = guard + place.offset * element;
        let elements = if rows == 0 { 0 } else { (rows - 1) * place.stride + cols };
        let bytes = vec![POISON; first + elements * element + guard];
        Image { bytes, element, first, rows, cols, stride: place.stride }
    }

    /// An array that is only read. `values` are its rows without padding.
    pub fn input(dtype: DType, values: &[u8], shape: (usize, usize), place: Place) -> Image {
        Image::new(dtype, shape, place, 0).filled(values)
    }

    /// An array that is read and then overwritten.
    pub fn in_place(dtype: DType, values: &[u8], shape: (usize, usize), place: Place) -> Image {
        Image::new(dtype, shape, place, GUARD).filled(values)
    }

    /// An array that is written.
    pub fn output(dtype: DType, shape: (usize, usize), place: Place) -> Image {
        let mut image = Image::new(dtype, shape, place, GUARD);
        for (i, byte) in image.bytes.iter_mut().enumerate() {
            *byte = 0xa5 ^ (i as u8).wrapping_mul(29);
        }
        let poison = vec![POISON; image.rows * image.cols * image.element];
        image.filled(&poison)
    }

    fn filled(mut self, values: &[u8]) -> Image {
        for r in 0..self.rows {
            let range = self.row(r);
            let length = range.len();
            self.bytes[range].copy_from_slice(&values[r * length..][..length]);
        }
        self
    }

    fn row(&self, r: usize) -> Range<usize> {
        let begin = self.first + r * self.stride * self.element;
        begin..begin + self.cols * self.element
    }

    /// From the first element to the end of the last.
    fn extent(&self) -> Range<usize> {
        self.first..if self.rows == 0 { self.first } else { self.row(self.rows - 1).end }
    }

    /// The rows of `bytes`, a buffer like this one, without padding.
    fn values(&self, bytes: &[u8]) -> Vec<u8> {
        (0..self.rows).flat_map(|r| bytes[self.row(r)].iter().copied()).collect()
    }

    /// What differs between this buffer and `bytes` outside the shape, if anything.
    fn damage(&self, bytes: &[u8]) -> Option<String> {
        let mut begin = 0;
        for row in (0..self.rows).map(|r| self.row(r)) {
            if let Some(text) = self.difference(bytes, begin..row.start) {
                return Some(text);
            }
            begin = row.end;
        }
        self.difference(bytes, begin..self.bytes.len())
    }

    fn difference(&self, bytes: &[u8], range: Range<usize>) -> Option<String> {
        if self.bytes[range.clone()] == bytes[range.clone()] {
            return None;
        }
        let at = range.clone().find(|&i| self.bytes[i] != bytes[i])?;
        let element = (at as i64 - self.first as i64).div_euclid(self.element as i64);
        Some(format!("element {element} from the first is outside the shape and was overwritten"))
    }
}

/// An array in device memory.
pub struct Array {
    name: &'static str,
    image: Image,
    buffer: CudaSlice<u8>,
}

impl Array {
    /// Uploads an image.
    pub fn new(name: &'static str, image: Image, stream: &Arc<CudaStream>) -> Result<Array, DriverError> {
        // The driver refuses allocations of nothing.
        // SAFETY: any byte is a valid u8, and what matters of the buffer is written next.
        let mut buffer = unsafe { stream.alloc::<u8>(image.bytes.len().max(1)) }?;
        if !image.bytes.is_empty() {
            stream.memcpy_htod(&image.bytes, &mut buffer)?;
        }
        Ok(Array { name, image, buffer })
    }

    /// Device address of the first element.
    pub fn pointer(&self, stream: &CudaStream) -> u64 {
        self.buffer.device_ptr(stream).0 + self.image.first as u64
    }

    /// Row stride in elements.
    pub fn stride(&self) -> usize {
        self.image.stride
    }

    /// The elements from the first to the last, as `T`.
    pub fn view<T>(&self) -> CudaView<'_, T> {
        let bytes = self.buffer.slice(self.image.extent());
        // SAFETY: every bit pattern is a valid element.
        unsafe { bytes.transmute(bytes.len() / size_of::<T>()) }.expect("it is no longer than its bytes")
    }

    /// Gives the elements from the first to the last to `use_it`, as `T`.
    pub fn with_view_mut<T, R>(&mut self, use_it: impl FnOnce(CudaViewMut<'_, T>) -> R) -> R {
        let extent = self.image.extent();
        // SAFETY: every bit pattern is a valid element.
        let whole = unsafe { self.buffer.transmute_mut(self.buffer.len() / size_of::<T>()) };
        let mut whole = whole.expect("it is no longer than its bytes");
        use_it(whole.slice_mut(extent.start / size_of::<T>()..extent.end / size_of::<T>()))
    }

    /// The rows without padding, after the run. What was overwritten outside the shape is added to `damage`.
    pub fn download(&self, stream: &Arc<CudaStream>, damage: &mut Vec<String>) -> Result<Vec<u8>, DriverError> {
        let mut bytes = stream.clone_dtoh(&self.buffer)?;
        stream.synchronize()?;
        bytes.truncate(self.image.bytes.len());
        damage.extend(self.image.damage(&bytes).map(|text| format!("{}: {text}", self.name)));
        Ok(self.image.values(&bytes))
    }

    /// Adds to `damage` if anything at all was overwritten.
    pub fn verify_unchanged(&self, stream: &Arc<CudaStream>, damage: &mut Vec<String>) -> Result<(), DriverError> {
        let values = self.download(stream, damage)?;
        if values != self.image.values(&self.image.bytes) {
            damage.push(format!("{}: an input was overwritten", self.name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte outside the shape is watched, and none inside.
    #[test]
    fn stray_writes_are_seen() {
        let image = Image::output(DType::F16, (3, 2), Place { offset: 3, stride: 5 });
        let inside: Vec<usize> = (0..3).flat_map(|r| image.row(r)).collect();
        assert_eq!(inside.len(), 12);
        for i in 0..image.bytes.len() {
            let mut bytes = image.bytes.clone();
            bytes[i] ^= 1;
            assert_eq!(image.damage(&bytes).is_none(), inside.contains(&i), "byte {i}");
        }
        assert_eq!(image.damage(&image.bytes), None);
    }
}
