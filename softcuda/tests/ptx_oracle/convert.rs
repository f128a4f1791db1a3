//! What conversions must give.

use crate::exact::{self, F32, F64, Format, Round, Term, Value, integer};
use crate::floats::saturate;
use crate::opcode::{Opcode, Oracle, Ty, Want};

#[derive(Clone, Copy)]
struct Conversion {
    /// The rounding to integers.
    integral: Option<Round>,
    round: Round,
    ftz: bool,
    sat: bool,
    relu: bool,
    satfinite: bool,
    to: Ty,
    from: Ty,
}

/// An integer of a type in its register: 8 bits are extended by the type to 32.
fn extended(ty: Ty, value: i128) -> u64 {
    let wrapped = ty.integer(ty.wrap(value));
    wrapped as u64 & u64::MAX >> (64 - ty.register())
}

/// Rounded to an integer, with the sign even of a zero.
fn whole(format: Format, bits: u64, round: Round) -> u64 {
    match format.value(bits) {
        Value::Finite(term) => {
            let limit = 1i128 << 62;
            let result = integer(term, round, (-limit, limit));
            // Larger numbers have no fraction.
            if result.abs() == limit {
                return bits;
            }
            format.round(&[Term::integer(result)], Round::Even, term.negative)
        }
        _ => bits,
    }
}

impl Conversion {
    fn whole_number(self, from: Format, bits: u64) -> u64 {
        let (least, most) = self.to.range();
        match from.value(bits) {
            // "Zero if source is not .f64 and destination is not .s64/.u64. Otherwise 1 << (BitWidth(dst) - 1)."
            Value::Nan if from == F64 || self.to.bits == 64 => extended(self.to, 1 << (self.to.bits - 1)),
            Value::Nan => 0,
            Value::Infinite(negative) => extended(self.to, if negative { least } else { most }),
            Value::Finite(term) => extended(self.to, integer(term, self.integral.unwrap(), (least, most))),
        }
    }

    /// One value.
    fn single(&self, bits: u64) -> u64 {
        let bits = bits & self.from.mask();
        let (from, to) = match (self.from.format(), self.to.format()) {
            (None, None) => {
                let value = self.from.integer(bits);
                let (least, most) = self.to.range();
                return extended(self.to, if self.sat { value.clamp(least, most) } else { value });
            }
            (None, Some(to)) => {
                let result = to.round(&[Term::integer(self.from.integer(bits))], self.round, false);
                return saturate(to, self.sat, result);
            }
            (Some(from), None) => return self.whole_number(from, from.flush(self.ftz && from == F32, bits)),
            (Some(from), Some(to)) => (from, to),
        };
        let bits = from.flush(self.ftz && from == F32, bits);
        let bits = self.integral.map_or(bits, |round| whole(from, bits, round));
        let value = from.value(bits);
        if self.relu && value.negative() {
            return 0;
        }
        let result = to.convert(value, self.round);
        let result = to.flush(self.ftz && to == F32, result);
        let infinite = matches!(to.value(result), Value::Infinite(_));
        let result = if self.satfinite && infinite { result - 1 } else { result };
        let result = saturate(to, self.sat, result);
        // tf32 is the upper part of an f32.
        if to == exact::TF32 { result << 13 } else { result }
    }
}

pub fn cvt(op: &mut Opcode<'_>) -> Option<Oracle> {
    if op.take("pack") {
        return Some(pack(op));
    }
    let integral = op.one_of(&["rni", "rzi", "rmi", "rpi"]).map(|name| match name {
        "rni" => Round::Even,
        "rzi" => Round::Zero,
        "rmi" => Round::Down,
        _ => Round::Up,
    });
    let round = op.round().unwrap_or(Round::Even);
    let (ftz, sat) = (op.take("ftz"), op.take("sat"));
    let (relu, satfinite) = (op.take("relu"), op.take("satfinite"));
    let (to, from) = (op.ty(), op.ty());
    let c = Conversion { integral, round, ftz, sat, relu, satfinite, to, from };
    if to.parts == 2 {
        let width = to.bits;
        let split = from.parts == 2;
        // Two sources, of which the first is the upper part; or both parts of one source.
        return Some(Box::new(move |x| {
            let (low, high) = if split { (x[0], x[0] >> from.bits) } else { (x[1], x[0]) };
            Want::Bits(c.single(low) | c.single(high) << width)
        }));
    }
    Some(Box::new(move |x| {
        let result = c.single(x[0]);
        match c.to.format() {
            Some(F64) if F64.is_nan(result) => Want::Quiet,
            // The manual does not say which NaN; those who use this rounding cut the operand's.
            Some(exact::TF32) if c.round == Round::Away && F32.is_nan(x[0]) => {
                let cut = x[0] & 0xffff_e000;
                Want::Any(if F32.is_nan(cut) { vec![result, cut] } else { vec![result] })
            }
            _ => Want::Bits(result),
        }
    }))
}

/// Two integers, saturated, the first above the second, below as much of a third as there is room for.
fn pack(op: &mut Opcode<'_>) -> Oracle {
    assert!(op.take("sat"));
    let names = ["u2", "s2", "u4", "s4", "u8", "s8", "u16", "s16"];
    let name = op.one_of(&names).unwrap();
    op.ty();
    op.take("b32");
    let (signed, bits) = (name.starts_with('s'), name[1..].parse::<u32>().unwrap());
    Box::new(move |x| {
        let (least, most) =
            if signed { (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1) } else { (0, (1i64 << bits) - 1) };
        let part = |bits32: u64| {
            let value = i64::from(bits32 as u32 as i32);
            let clamped = if value < least {
                least
            } else if value > most {
                most
            } else {
                value
            };
            clamped as u64 & ((1 << bits) - 1)
        };
        let above = x.get(2).map_or(0, |c| c << (2 * bits));
        Want::Bits((part(x[1]) | part(x[0]) << bits | above) & 0xffff_ffff)
    })
}
