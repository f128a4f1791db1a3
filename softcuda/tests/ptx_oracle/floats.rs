//! What floating-point arithmetic must give, rounded once from the exact value.

use std::cmp::Ordering;

use crate::exact::{self, F32, F64, Format, Round, Value, compare};
use crate::opcode::{Opcode, Oracle, Ty, Want};

/// The result in each part of a register.
pub fn each(ty: Ty, x: &[u64], function: impl Fn(&[u64]) -> u64) -> Want {
    let width = ty.format().unwrap().bits();
    Want::Bits((0..ty.parts).fold(0, |d, part| {
        let own: Vec<u64> = x.iter().map(|bits| bits >> (part * width) & ty.mask()).collect();
        d | function(&own) << (part * width)
    }))
}

/// `.sat`: "clamps the result to [0.0, 1.0]. NaN results are flushed to +0.0f."
pub fn saturate(format: Format, on: bool, bits: u64) -> u64 {
    let one = format.convert(Value::Finite(exact::Term::integer(1)), Round::Even);
    match format.value(bits) {
        _ if !on => bits,
        Value::Nan => 0,
        value if value.negative() => 0,
        value if compare(value, format.value(one)) == Some(Ordering::Greater) => one,
        _ => bits,
    }
}

/// In double precision "NaN payloads are supported": a NaN among the operands is the result, made quiet.
pub fn with_payloads(x: &[u64], result: u64) -> Want {
    let nans: Vec<u64> = x.iter().filter(|&&bits| F64.is_nan(bits)).map(|bits| bits | 1 << 51).collect();
    match () {
        () if !nans.is_empty() => Want::Any(nans),
        () if F64.is_nan(result) => Want::Quiet,
        () => Want::Bits(result),
    }
}

/// The lesser (or greater) of two: a number beats a NaN unless `.NaN`, and -0 is below +0.
pub fn extremum(format: Format, maximum: bool, nan: bool, a: u64, b: u64) -> u64 {
    let (x, y) = (format.value(a), format.value(b));
    match (x.is_nan(), y.is_nan()) {
        (true, true) => format.nan(),
        (true, _) | (_, true) if nan => format.nan(),
        (true, _) => b,
        (_, true) => a,
        _ => {
            let order = compare(x, y).unwrap().then(y.negative().cmp(&x.negative()));
            if (order == Ordering::Greater) == maximum { a } else { b }
        }
    }
}

fn extrema(op: &mut Opcode<'_>) -> Oracle {
    let maximum = op.name == "max";
    let (ftz, nan) = (op.take("ftz"), op.take("NaN"));
    let (xorsign, abs) = (op.take("xorsign"), op.take("abs"));
    let ty = op.ty();
    let format = ty.format().unwrap();
    if format == F64 {
        return Box::new(move |x| {
            let result = extremum(format, maximum, nan, x[0], x[1]);
            if F64.is_nan(result) { with_payloads(x, result) } else { Want::Bits(result) }
        });
    }
    Box::new(move |x| {
        each(ty, x, |x| {
            let x: Vec<u64> = x.iter().map(|&bits| format.flush(ftz, bits)).collect();
            let sign = if xorsign { (x[0] ^ x[1]) & format.sign_bit() } else { 0 };
            let magnitude = |bits: u64| if abs { bits & (format.sign_bit() - 1) } else { bits };
            let all = x.into_iter().map(magnitude);
            let result = all.reduce(|a, b| extremum(format, maximum, nan, a, b)).unwrap();
            if format.is_nan(result) { format.nan() } else { result | sign }
        })
    })
}

/// `add` to `neg` on floats of one type.
pub fn float(op: &mut Opcode<'_>) -> Option<Oracle> {
    if matches!(op.name, "min" | "max") {
        return Some(extrema(op));
    }
    if op.types().len() == 2 {
        return mixed(op);
    }
    let round = op.round().unwrap_or(Round::Even);
    let (ftz, sat, relu) = (op.take("ftz"), op.take("sat"), op.take("relu"));
    let ty = op.ty();
    let format = ty.format().unwrap();
    type Function = fn(Format, &[Value], Round) -> u64;
    let function: Function = match op.name {
        "add" => |format, x, round| format.add(x[0], x[1], round),
        "sub" => |format, x, round| {
            let opposite = match x[1] {
                Value::Nan => Value::Nan,
                Value::Infinite(negative) => Value::Infinite(!negative),
                Value::Finite(term) => Value::Finite(term.opposite()),
            };
            format.add(x[0], opposite, round)
        },
        "mul" => |format, x, round| format.multiply(x[0], x[1], round),
        "fma" | "mad" => |format, x, round| format.fma([x[0], x[1], x[2]], round),
        "div" => |format, x, round| format.divide(x[0], x[1], round),
        "rcp" => |format, x, round| {
            let one = Value::Finite(exact::Term::integer(1));
            format.divide(one, x[0], round)
        },
        "sqrt" => |format, x, round| format.square_root(x[0], round),
        // The sign alone, which a NaN of double precision has too; other NaNs become the canonical one.
        "neg" | "abs" => {
            let negates = op.name == "neg";
            return Some(Box::new(move |x| {
                each(ty, x, |x| {
                    let bits = format.flush(ftz, x[0]);
                    let rest = bits & (format.sign_bit() - 1);
                    match format.is_nan(bits) && format != F64 {
                        true => format.nan(),
                        false if negates => rest | (bits ^ format.sign_bit()) & format.sign_bit(),
                        false => rest,
                    }
                })
            }));
        }
        _ => return None,
    };
    let compute = move |x: &[u64]| {
        let values: Vec<Value> = x.iter().map(|&bits| format.value(format.flush(ftz, bits))).collect();
        let result = format.flush(ftz, function(format, &values, round));
        let result = saturate(format, sat, result);
        // "clamps the result to 0 if negative"
        let negative = relu && format.value(result).negative();
        if negative { 0 } else { result }
    };
    if format == F64 {
        return Some(Box::new(move |x| with_payloads(x, compute(x))));
    }
    Some(Box::new(move |x| each(ty, x, compute)))
}

/// `add`, `sub` and `fma` in f32 with operands of 16 bits.
fn mixed(op: &mut Opcode<'_>) -> Option<Oracle> {
    let round = op.round().unwrap_or(Round::Even);
    let sat = op.take("sat");
    assert_eq!(op.ty().format(), Some(F32));
    let narrow = op.ty().format().unwrap();
    let name = match op.name {
        "add" => "add",
        "sub" => "sub",
        "fma" => "fma",
        _ => return None,
    };
    Some(Box::new(move |x| {
        let a = narrow.value(x[0]);
        let result = match name {
            "add" => F32.add(a, F32.value(x[1]), round),
            "sub" => F32.add(a, F32.value(x[1] ^ F32.sign_bit()), round),
            _ => F32.fma([a, narrow.value(x[1]), F32.value(x[2])], round),
        };
        Want::Bits(saturate(F32, sat, result))
    }))
}

pub fn copysign(op: &mut Opcode<'_>) -> Option<Oracle> {
    let format = op.ty().format().unwrap();
    // "Copy sign bit of a into value of b."
    Some(Box::new(move |x| Want::Bits(x[1] - (x[1] & format.sign_bit()) + (x[0] & format.sign_bit()))))
}

/// Rounded special functions here, approximate ones by the errors that the manual allows.
pub fn special(op: &mut Opcode<'_>) -> Option<Oracle> {
    if !op.has("approx") && !op.has("full") {
        return float(op);
    }
    let full = op.take("full");
    op.take("approx");
    let ftz = op.take("ftz");
    let ty = op.ty();
    let format = ty.format().unwrap();
    let name = op.name.to_owned();
    Some(Box::new(move |x| {
        let part = |index: u32| {
            let own: Vec<u64> = x.iter().map(|bits| bits >> (index * format.bits()) & ty.mask()).collect();
            approximate(&name, format, ftz, full, &own)
        };
        if format == F64 && !ftz && F64.is_nan(x[0]) {
            return with_payloads(x, F64.nan());
        }
        Want::Within(format, (0..ty.parts).map(part).collect())
    }))
}

fn double(format: Format, bits: u64) -> f64 {
    f64::from_bits(F64.convert(format.value(bits), Round::Even))
}

/// The interval that the manual allows for one value.
fn approximate(name: &str, format: Format, ftz: bool, full: bool, x: &[u64]) -> (f64, f64) {
    // The gross approximations in double precision "ignore the least-significant 32 bits of a".
    let seen = |bits: u64| if ftz && format == F64 { bits >> 32 << 32 } else { bits };
    let flushed: Vec<f64> = x.iter().map(|&bits| double(format, format.flush(ftz, seen(bits)))).collect();
    let a = flushed[0];
    let exact = match name {
        "rcp" => 1.0 / a,
        "div" => {
            let b = flushed[1];
            // "For |y| in [2^126, 2^128] with finite x the result is 0, with infinite x NaN" unless `.full`.
            let beyond = !full && b.is_finite() && b.abs() > 2f64.powi(126);
            match beyond {
                true if a.is_finite() => 0.0,
                true => f64::NAN,
                false => a / b,
            }
        }
        "sqrt" => a.sqrt(),
        "rsqrt" => 1.0 / a.sqrt(),
        "sin" => a.sin(),
        "cos" => a.cos(),
        "lg2" if a == 0.0 => f64::NEG_INFINITY,
        "lg2" => a.log2(),
        "ex2" => a.exp2(),
        "tanh" => a.tanh(),
        _ => panic!("no error bound of {name}"),
    };
    if exact.is_nan() {
        return (f64::NAN, f64::NAN);
    }
    let magnitude = exact.abs();
    // The manual gives units of the last place, or relative or absolute errors as powers of two.
    let unit = |count: f64| count * (magnitude.log2().floor().max(-126.0) - 23.0).exp2();
    let relative = |power: f64| magnitude * f64::exp2(power);
    let error = match (name, format.bits(), format.mantissa) {
        _ if magnitude == 0.0 || magnitude.is_infinite() => 0.0,
        // Of the 20 bits that are there nothing is promised; they are as good as they can be.
        ("rcp" | "rsqrt", 64, _) if ftz => relative(-20.0),
        // The manual is silent; it is the nearest but for its two roundings.
        ("rsqrt", 64, _) => relative(-52.0),
        ("rcp", ..) => unit(1.0),
        ("div", ..) => unit(2.0),
        ("sqrt", ..) => relative(-23.0),
        ("rsqrt", ..) => relative(-22.9),
        ("sin" | "cos", ..) if a.abs() <= 2.0 * std::f64::consts::PI => f64::exp2(-20.5),
        ("sin" | "cos", ..) => f64::exp2(-14.7),
        ("lg2", ..) if a > 0.5 && a < 2.0 => f64::exp2(-22.0),
        ("lg2", ..) => relative(-22.0),
        ("ex2", 32, _) => unit(2.0),
        ("ex2", _, 10) => relative(-9.9),
        ("ex2", ..) => relative(-7.0),
        ("tanh", 32, _) => relative(-11.0),
        ("tanh", _, 10) => f64::exp2(-10.987),
        ("tanh", ..) => f64::exp2(-8.0),
        _ => panic!("no error bound of {name}"),
    };
    // Where subnormals are a whole unit apart the nearest is half of one away.
    let least = double(format, 1);
    let error = if magnitude < double(format, 2 << format.mantissa) { error.max(least / 2.0) } else { error };
    let (mut low, mut high) = (exact - error, exact + error);
    // Beyond the largest there is infinity only; below the least the nearest numbers, or zero when flushed.
    let tiny = if ftz { double(format, 1 << format.mantissa) } else { least };
    let largest = double(format, format.largest());
    let tie = largest + largest * f64::exp2(-f64::from(format.mantissa) - 2.0);
    if magnitude < tiny {
        (low, high) = if exact > 0.0 { (0.0, high.max(tiny)) } else { (low.min(-tiny), 0.0) };
        if exact == 0.0 {
            (low, high) = (0.0, 0.0);
        }
    }
    if high >= tie {
        high = f64::INFINITY;
    }
    if low <= -tie {
        low = f64::NEG_INFINITY;
    }
    (low, if low > largest { f64::INFINITY } else { high })
}
