//! Arguments of kernels, as text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use half::{bf16, f16};
use softcuda::{Arg, Number};

use crate::options::Failure;

/// The types of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    Bf16,
    F32,
    F64,
}

/// Calls a generic function with a type.
macro_rules! with_type {
    ($ty:expr, $function:ident, $($argument:expr),*) => {
        match $ty {
            Type::U8 => $function::<u8>($($argument),*),
            Type::I8 => $function::<i8>($($argument),*),
            Type::U16 => $function::<u16>($($argument),*),
            Type::I16 => $function::<i16>($($argument),*),
            Type::U32 => $function::<u32>($($argument),*),
            Type::I32 => $function::<i32>($($argument),*),
            Type::U64 => $function::<u64>($($argument),*),
            Type::I64 => $function::<i64>($($argument),*),
            Type::F16 => $function::<f16>($($argument),*),
            Type::Bf16 => $function::<bf16>($($argument),*),
            Type::F32 => $function::<f32>($($argument),*),
            Type::F64 => $function::<f64>($($argument),*),
        }
    };
}

/// A number that random bits make.
trait Random: Number {
    fn random(bits: u64) -> Self;
}

macro_rules! random {
    ($($ty:ty: $make:expr),* $(,)?) => {$(
        impl Random for $ty {
            fn random(bits: u64) -> $ty {
                let make: fn(u64) -> $ty = $make;
                make(bits)
            }
        }
    )*};
}

/// From -1 to 1.
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

random! {
    u8: |bits| bits as u8,
    i8: |bits| bits as i8,
    u16: |bits| bits as u16,
    i16: |bits| bits as i16,
    u32: |bits| bits as u32,
    i32: |bits| bits as i32,
    u64: |bits| bits,
    i64: |bits| bits as i64,
    f16: |bits| f16::from_f64(fraction(bits)),
    bf16: |bits| bf16::from_f64(fraction(bits)),
    f32: |bits| fraction(bits) as f32,
    f64: fraction,
}

impl FromStr for Type {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Type, Failure> {
        Ok(match text {
            "u8" => Type::U8,
            "i8" => Type::I8,
            "u16" => Type::U16,
            "i16" => Type::I16,
            "u32" => Type::U32,
            "i32" => Type::I32,
            "u64" => Type::U64,
            "i64" => Type::I64,
            "f16" => Type::F16,
            "bf16" => Type::Bf16,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return Err(format!("{text:?} is no type").into()),
        })
    }
}

/// An argument of a kernel.
#[derive(Clone, Debug)]
pub struct Argument {
    text: String,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Number(Arg),
    Zeros(Type, usize),
    Random(Type, usize, u64),
    File(PathBuf),
    Out(Type, usize),
}

impl FromStr for Argument {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Argument, Failure> {
        let value = parse(text).map_err(|error| format!("argument {text:?}: {error}"))?;
        Ok(Argument { text: text.to_owned(), value })
    }
}

fn parse(text: &str) -> Result<Value, Failure> {
    let (kind, rest) = text.split_once(':').ok_or("it is like i32:5 or zeros:f32:64")?;
    let parts: Vec<&str> = rest.split(':').collect();
    Ok(match (kind, &parts[..]) {
        ("file", _) => Value::File(rest.into()),
        ("zeros", [ty, count]) => Value::Zeros(ty.parse()?, count.parse()?),
        ("out", [ty, count]) => Value::Out(ty.parse()?, count.parse()?),
        ("rand", [ty, count]) => Value::Random(ty.parse()?, count.parse()?, 0),
        ("rand", [ty, count, seed]) => Value::Random(ty.parse()?, count.parse()?, seed.parse()?),
        ("zeros" | "out" | "rand", _) => return Err("a buffer has a type and a count".into()),
        (ty, [value]) => Value::Number(with_type!(ty.parse()?, number, value)?),
        _ => return Err("it is like i32:5".into()),
    })
}

fn number<T>(text: &str) -> Result<Arg, Failure>
where
    T: FromStr<Err: std::error::Error + 'static> + Into<Arg>,
{
    Ok(text.parse::<T>()?.into())
}

fn zeros<T: Number>(count: usize) -> Arg {
    Arg::Buffer(vec![0; count * size_of::<T>()])
}

fn uninitialised<T: Number>(count: usize) -> Arg {
    Arg::uninitialised::<T>(count)
}

fn random<T: Random>(count: usize, seed: u64) -> Arg {
    let mut state = seed;
    // Splitmix64.
    let next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        T::random(bits ^ bits >> 31)
    };
    Arg::buffer(&std::iter::repeat_with(next).take(count).collect::<Vec<T>>())
}

fn texts<T: Number + fmt::Display>(bytes: &[u8]) -> Vec<String> {
    softcuda::numbers::<T>(bytes).iter().map(T::to_string).collect()
}

impl Argument {
    /// What the kernel gets.
    pub fn value(&self) -> Result<Arg, Failure> {
        Ok(match &self.value {
            Value::Number(arg) => arg.clone(),
            Value::Zeros(ty, count) => with_type!(ty, zeros, *count),
            Value::Random(ty, count, seed) => with_type!(ty, random, *count, *seed),
            Value::Out(ty, count) => with_type!(ty, uninitialised, *count),
            Value::File(path) => {
                Arg::Buffer(std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?)
            }
        })
    }

    /// Whether its buffer is printed at the end.
    pub fn printed(&self) -> bool {
        matches!(self.value, Value::Out(..))
    }

    /// The numbers of its buffer.
    pub fn numbers(&self, bytes: &[u8]) -> Vec<String> {
        match &self.value {
            Value::Zeros(ty, _) | Value::Random(ty, ..) | Value::Out(ty, _) => with_type!(ty, texts, bytes),
            Value::Number(_) | Value::File(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}
