//! Element types as data: rounding, encoding and decoding of values in `f64`.

use half::{bf16, f16};
use zlpr::DType;

/// Every pair of scores and labels that there are kernels for.
pub const PAIRS: [(DType, DType); 8] = [
    (DType::F32, DType::F32),
    (DType::F32, DType::U8),
    (DType::F16, DType::F16),
    (DType::F16, DType::F32),
    (DType::F16, DType::U8),
    (DType::Bf16, DType::Bf16),
    (DType::Bf16, DType::F32),
    (DType::Bf16, DType::U8),
];

/// Every type that scores may have.
pub const SCORE_TYPES: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];

/// The bytes of `values`, each rounded to the nearest value of the type. Bytes of `u8` are the values themselves:
/// a label of 255 is a positive like a label of 1.
pub fn encode(dtype: DType, values: &[f64]) -> Vec<u8> {
    fn bytes<T: bytemuck::Pod>(values: &[f64], convert: impl Fn(f64) -> T) -> Vec<u8> {
        let converted: Vec<T> = values.iter().map(|&x| convert(x)).collect();
        bytemuck::cast_slice(&converted).to_vec()
    }
    match dtype {
        DType::F32 => bytes(values, |x| x as f32),
        DType::F16 => bytes(values, f16::from_f64),
        DType::Bf16 => bytes(values, bf16::from_f64),
        DType::U8 => bytes(values, |x| x as u8),
        other => panic!("no encoding for {other}"),
    }
}

/// The inverse of [`encode`].
pub fn decode(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let half = |b: &[u8]| u16::from_ne_bytes([b[0], b[1]]);
    match dtype {
        DType::F32 => bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]).into()).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| f16::from_bits(half(b)).to_f64()).collect(),
        DType::Bf16 => bytes.chunks_exact(2).map(|b| bf16::from_bits(half(b)).to_f64()).collect(),
        DType::U8 => bytes.iter().map(|&b| b.into()).collect(),
        other => panic!("no encoding for {other}"),
    }
}

/// The nearest value of the type.
pub fn round(dtype: DType, x: f64) -> f64 {
    decode(dtype, &encode(dtype, &[x]))[0]
}

/// The largest finite value of the type.
pub fn max_finite(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => f32::MAX.into(),
        DType::F16 => f16::MAX.to_f64(),
        DType::Bf16 => bf16::MAX.to_f64(),
        _ => 255.0,
    }
}
