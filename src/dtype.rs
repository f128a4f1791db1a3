//! Element types of scores, labels and gradients.

use cudarc::driver::{DeviceRepr, ValidAsZeroBits};
use half::{bf16, f16};

/// An element type, as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Unsigned byte: a hard label, nonzero is 1.
    U8,
}

impl DType {
    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::Bf16 => 2,
            DType::U8 => 1,
        }
    }

    /// The name used in kernel names and messages: `f32`, `f16`, `bf16`, `u8`.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::U8 => "u8",
        }
    }

    /// Half the distance from `x` to the next value of this type: the error of rounding to nearest.
    pub(crate) fn half_ulp(self, x: f64) -> f64 {
        let (bits, lowest) = match self {
            DType::F32 => (24, -126),
            DType::F16 => (11, -14),
            DType::Bf16 => (8, -126),
            DType::U8 => (8, 0),
        };
        if !x.is_finite() {
            return 0.0;
        }
        let exponent = if x == 0.0 { lowest } else { (x.abs().log2().floor() as i32).max(lowest) };
        2f64.powi(exponent - bits)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A type that device arrays of this crate may have: `f32`, `f16`, `bf16` or `u8`. Sealed.
pub trait Element: DeviceRepr + ValidAsZeroBits + bytemuck::Pod + Send + Sync + sealed::Sealed {
    /// The same type, as data.
    const DTYPE: DType;
    /// The value, as a label or score.
    fn to_f64(self) -> f64;
}

/// A type scores may have: `f32`, `f16` or `bf16`. Sealed.
pub trait Score: Element + GradientOf<Self> {
    /// The nearest value of this type.
    fn from_f64(x: f64) -> Self;
}

/// A type the gradient may have for scores of type `S`: `S` itself or `f32`. Sealed.
pub trait GradientOf<S: Score>: Element {}

macro_rules! score {
    ($type:ty, $dtype:expr, $to:expr, $from:expr) => {
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = $dtype;
            fn to_f64(self) -> f64 {
                $to(self)
            }
        }
        impl Score for $type {
            fn from_f64(x: f64) -> Self {
                $from(x)
            }
        }
        impl GradientOf<$type> for $type {}
    };
}
score!(f32, DType::F32, f64::from, |x| x as f32);
score!(f16, DType::F16, f16::to_f64, f16::from_f64);
score!(bf16, DType::Bf16, bf16::to_f64, bf16::from_f64);
impl GradientOf<f16> for f32 {}
impl GradientOf<bf16> for f32 {}

impl sealed::Sealed for u8 {}
impl Element for u8 {
    const DTYPE: DType = DType::U8;
    fn to_f64(self) -> f64 {
        f64::from(self != 0)
    }
}
