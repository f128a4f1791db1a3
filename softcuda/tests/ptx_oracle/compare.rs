//! What comparisons and selections must give.

use std::cmp::Ordering;

use crate::exact::{F32, Value, compare};
use crate::opcode::{Kind, Opcode, Oracle, Ty, Want};

const FUNCTIONS: [&str; 18] = [
    "eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan",
];

/// Whether a function holds of two values that compare so; `None` is with a NaN.
fn holds(function: &str, order: Option<Ordering>) -> bool {
    let Some(order) = order else { return function.ends_with('u') || function == "nan" };
    match function {
        "eq" | "equ" => order.is_eq(),
        "ne" | "neu" => order.is_ne(),
        "lt" | "ltu" | "lo" => order.is_lt(),
        "le" | "leu" | "ls" => order.is_le(),
        "gt" | "gtu" | "hi" => order.is_gt(),
        "ge" | "geu" | "hs" => order.is_ge(),
        "num" => true,
        "nan" => false,
        _ => panic!("no comparison {function}"),
    }
}

fn order(ty: Ty, ftz: bool, a: u64, b: u64) -> Option<Ordering> {
    let (a, b) = (a & ty.mask(), b & ty.mask());
    match ty.format() {
        Some(format) => compare(format.value(format.flush(ftz, a)), format.value(format.flush(ftz, b))),
        None => Some(ty.integer(a).cmp(&ty.integer(b))),
    }
}

/// The results of a comparison in each part, combined with a predicate.
struct Comparison {
    function: &'static str,
    combine: Option<&'static str>,
    ftz: bool,
    ty: Ty,
}

impl Comparison {
    fn part(&self, x: &[u64], part: u32) -> (bool, bool) {
        let shift = part * self.ty.bits;
        let first = holds(self.function, order(self.ty, self.ftz, x[0] >> shift, x[1] >> shift));
        let combined = |value: bool| match self.combine {
            None => value,
            Some("and") => value && x[2] == 1,
            Some("or") => value || x[2] == 1,
            Some(_) => value != (x[2] == 1),
        };
        (combined(first), combined(!first))
    }
}

fn comparison(op: &mut Opcode<'_>, results: usize) -> (Vec<Ty>, Comparison) {
    let function = op.one_of(&FUNCTIONS).unwrap();
    let combine = op.one_of(&["and", "or", "xor"]);
    let ftz = op.take("ftz");
    let to = (0..results).map(|_| op.ty()).collect();
    (to, Comparison { function, combine, ftz, ty: op.ty() })
}

pub fn setp(op: &mut Opcode<'_>, pair: bool) -> Option<Oracle> {
    let (_, c) = comparison(op, 0);
    Some(Box::new(move |x| {
        let (first, opposite) = c.part(x, 0);
        // Of a pair the second predicate is of the high half, else it is of the opposite.
        let second = if c.ty.parts == 2 { c.part(x, 1).0 } else { opposite };
        Want::Bits(u64::from(first) | u64::from(second && pair) << 1)
    }))
}

pub fn set(op: &mut Opcode<'_>) -> Option<Oracle> {
    let (to, c) = comparison(op, 1);
    let to = to[0];
    // "a floating-point destination receives 1.0, an integer one all ones"; of a pair, in each half.
    let width = if c.ty.parts == 2 { 16 } else { to.bits };
    let one = match to.format() {
        Some(format) => format.convert(Value::Finite(crate::exact::Term::integer(1)), crate::exact::Round::Even),
        None => u64::MAX >> (64 - width),
    };
    Some(Box::new(move |x| {
        Want::Bits((0..c.ty.parts).fold(0, |d, part| if c.part(x, part).0 { d | one << (width * part) } else { d }))
    }))
}

pub fn selp(op: &mut Opcode<'_>) -> Option<Oracle> {
    op.ty();
    Some(Box::new(|x| Want::Bits(if x[2] == 1 { x[0] } else { x[1] })))
}

pub fn slct(op: &mut Opcode<'_>) -> Option<Oracle> {
    let ftz = op.take("ftz");
    op.ty();
    let by = op.ty();
    Some(Box::new(move |x| {
        // "a if c >= 0, otherwise b; for NaN b; -0.0 is 0".
        let zero_or_more = match by.kind {
            Kind::Float(_) => {
                let c = F32.flush(ftz, x[2]);
                compare(F32.value(c), F32.value(0)).is_some_and(|order| order != Ordering::Less)
            }
            _ => by.integer(x[2]) >= 0,
        };
        Want::Bits(if zero_or_more { x[0] } else { x[1] })
    }))
}

pub fn testp(op: &mut Opcode<'_>) -> Option<Oracle> {
    let test = op.one_of(&["finite", "infinite", "number", "notanumber", "normal", "subnormal"]).unwrap();
    let format = op.ty().format().unwrap();
    Some(Box::new(move |x| {
        let value = format.value(x[0]);
        let finite = matches!(value, Value::Finite(_));
        Want::Bits(u64::from(match test {
            "finite" => finite,
            "infinite" => matches!(value, Value::Infinite(_)),
            "number" => !value.is_nan(),
            "notanumber" => value.is_nan(),
            // "As a special case, positive and negative zero are considered normal numbers."
            "normal" => finite && !format.is_subnormal(x[0]),
            _ => format.is_subnormal(x[0]),
        }))
    }))
}
