//! Floating point by definition: a result is found among all numbers of its format by comparing them with
//! the exact value, which is never rounded on the way. Nothing here is shared with the interpreter.

use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// To nearest, ties to even.
    Even,
    /// To nearest, ties away from zero.
    Away,
    Zero,
    Down,
    Up,
}

/// A binary format: fields of the exponent and of the mantissa.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub exponent: u32,
    pub mantissa: u32,
    /// Without infinities, with one NaN of each sign.
    pub finite: bool,
}

const fn format(exponent: u32, mantissa: u32) -> Format {
    Format { exponent, mantissa, finite: false }
}

pub const F16: Format = format(5, 10);
pub const BF16: Format = format(8, 7);
pub const TF32: Format = format(8, 10);
pub const F32: Format = format(8, 23);
pub const F64: Format = format(11, 52);
pub const E5M2: Format = format(5, 2);
pub const E4M3: Format = Format { finite: true, ..format(4, 3) };

/// `significand * 2^exponent`, or its opposite.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    pub negative: bool,
    pub significand: u128,
    pub exponent: i32,
}

impl Term {
    pub fn integer(value: i128) -> Term {
        Term { negative: value < 0, significand: value.unsigned_abs(), exponent: 0 }
    }

    pub fn times(self, other: Term) -> Term {
        Term {
            negative: self.negative != other.negative,
            significand: self.significand * other.significand,
            exponent: self.exponent + other.exponent,
        }
    }

    pub fn opposite(self) -> Term {
        Term { negative: !self.negative, ..self }
    }

    fn magnitude(self) -> Term {
        Term { negative: false, ..self }
    }
}

/// What a pattern of bits stands for.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    Nan,
    /// Negative or not.
    Infinite(bool),
    Finite(Term),
}

impl Value {
    pub fn negative(self) -> bool {
        match self {
            Value::Nan => false,
            Value::Infinite(negative) => negative,
            Value::Finite(term) => term.negative,
        }
    }

    pub fn is_nan(self) -> bool {
        matches!(self, Value::Nan)
    }

    fn is_zero(self) -> bool {
        matches!(self, Value::Finite(term) if term.significand == 0)
    }
}

/// How the sum of the terms compares with zero, in integers as long as it takes.
pub fn sign(terms: &[Term]) -> Ordering {
    let terms = || terms.iter().filter(|term| term.significand != 0);
    let Some(least) = terms().map(|term| term.exponent).min() else { return Ordering::Equal };
    let top = terms().map(|term| term.exponent - least).max().unwrap() as usize;
    // 128 bits of the highest term, carries, and a sign.
    let length = top / 64 + 5;
    let mut sum = [0u64; 80];
    let sum = &mut sum[..length];
    for term in terms() {
        let shift = (term.exponent - least) as usize;
        let low = [term.significand as u64, (term.significand >> 64) as u64, 0];
        let word = |index: usize| {
            let at = index.wrapping_sub(shift / 64);
            let part = |at: usize| low.get(at).copied().unwrap_or(0);
            let above = if shift.is_multiple_of(64) { 0 } else { part(at.wrapping_sub(1)) >> (64 - shift % 64) };
            part(at) << (shift % 64) | above
        };
        let mut carry = term.negative;
        for (index, limb) in sum.iter_mut().enumerate() {
            // A difference is the sum with the complement and one.
            let addend = if term.negative { !word(index) } else { word(index) };
            let (partial, first) = limb.overflowing_add(addend);
            let (whole, second) = partial.overflowing_add(u64::from(carry));
            (*limb, carry) = (whole, first || second);
        }
    }
    match sum.last().unwrap() >> 63 {
        1 => Ordering::Less,
        _ if sum.iter().all(|&limb| limb == 0) => Ordering::Equal,
        _ => Ordering::Greater,
    }
}

impl Format {
    pub fn bits(self) -> u32 {
        1 + self.exponent + self.mantissa
    }

    pub fn sign_bit(self) -> u64 {
        1 << (self.bits() - 1)
    }

    fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.mantissa
    }

    /// The largest finite magnitude.
    pub fn largest(self) -> u64 {
        if self.finite { self.sign_bit() - 2 } else { self.infinity() - 1 }
    }

    /// What NVIDIA's hardware makes: all bits but the sign, and in double precision the common quiet NaN.
    pub fn nan(self) -> u64 {
        if self == F64 { 0x7ff8_0000_0000_0000 } else { self.sign_bit() - 1 }
    }

    /// The value of a magnitude, of those beyond the largest as if the exponents went on.
    fn number(self, magnitude: u64) -> Term {
        let bias = (1 << (self.exponent - 1)) - 1;
        let fraction = magnitude & ((1 << self.mantissa) - 1);
        let field = magnitude >> self.mantissa;
        let hidden = u64::from(field > 0) << self.mantissa;
        let exponent = (field.max(1) as i32) - bias - self.mantissa as i32;
        Term { negative: false, significand: u128::from(fraction | hidden), exponent }
    }

    pub fn value(self, bits: u64) -> Value {
        let magnitude = bits & (self.sign_bit() - 1);
        let negative = bits & self.sign_bit() != 0;
        match magnitude.cmp(&self.largest()) {
            Ordering::Greater if !self.finite && magnitude == self.infinity() => Value::Infinite(negative),
            Ordering::Greater => Value::Nan,
            _ => Value::Finite(Term { negative, ..self.number(magnitude) }),
        }
    }

    pub fn is_nan(self, bits: u64) -> bool {
        self.value(bits).is_nan()
    }

    pub fn is_subnormal(self, bits: u64) -> bool {
        let magnitude = bits & (self.sign_bit() - 1);
        magnitude != 0 && magnitude >> self.mantissa == 0
    }

    /// `.ftz`.
    pub fn flush(self, on: bool, bits: u64) -> u64 {
        if on && self.is_subnormal(bits) { bits & self.sign_bit() } else { bits }
    }

    fn signed(self, negative: bool, magnitude: u64) -> u64 {
        if negative { magnitude | self.sign_bit() } else { magnitude }
    }

    pub fn infinite(self, negative: bool) -> u64 {
        self.signed(negative, if self.finite { self.largest() } else { self.infinity() })
    }

    /// The number for a value whose magnitude is above zero and compares with others as `compare` says.
    fn round_by(self, negative: bool, round: Round, compare: impl Fn(Term) -> Ordering) -> u64 {
        // The largest magnitude that is not above the value.
        let (mut low, mut high) = (0, self.largest() + 1);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match compare(self.number(middle)) {
                Ordering::Less => high = middle,
                _ => low = middle,
            }
        }
        let number = self.number(low);
        let exact = compare(number) == Ordering::Equal;
        // Half way to the next one.
        let half = Term { significand: number.significand * 2 + 1, exponent: number.exponent - 1, ..number };
        let up = !exact
            && match round {
                Round::Even => match compare(half) {
                    Ordering::Equal => low & 1 != 0,
                    other => other == Ordering::Greater,
                },
                Round::Away => compare(half) != Ordering::Less,
                Round::Zero => false,
                Round::Down => negative,
                Round::Up => !negative,
            };
        let magnitude = low + u64::from(up);
        let magnitude = if self.finite { magnitude.min(self.largest()) } else { magnitude };
        self.signed(negative, magnitude)
    }

    /// The sum of terms, rounded once. An exact zero takes the given sign.
    pub fn round(self, terms: &[Term], round: Round, zero: bool) -> u64 {
        let negative = match sign(terms) {
            Ordering::Equal => return self.signed(zero, 0),
            other => other == Ordering::Less,
        };
        self.round_by(negative, round, |number| {
            let mut all = [number.opposite(); 4];
            for (slot, term) in all[1..].iter_mut().zip(terms) {
                *slot = if negative { term.opposite() } else { *term };
            }
            sign(&all[..=terms.len()])
        })
    }

    /// `a * b + c`.
    pub fn fma(self, [a, b, c]: [Value; 3], round: Round) -> u64 {
        let product_negative = a.negative() != b.negative();
        match (a, b, c) {
            (Value::Nan, ..) | (_, Value::Nan, _) | (.., Value::Nan) => self.nan(),
            (Value::Infinite(_), ..) | (_, Value::Infinite(_), _) => match c {
                _ if a.is_zero() || b.is_zero() => self.nan(),
                Value::Infinite(negative) if negative != product_negative => self.nan(),
                _ => self.infinite(product_negative),
            },
            (.., Value::Infinite(negative)) => self.infinite(negative),
            (Value::Finite(a), Value::Finite(b), Value::Finite(c)) => {
                let zero = if product_negative == c.negative { c.negative } else { round == Round::Down };
                self.round(&[a.times(b), c], round, zero)
            }
        }
    }

    pub fn add(self, a: Value, b: Value, round: Round) -> u64 {
        match (a, b) {
            (Value::Nan, _) | (_, Value::Nan) => self.nan(),
            (Value::Infinite(a), Value::Infinite(b)) if a != b => self.nan(),
            (Value::Infinite(negative), _) | (_, Value::Infinite(negative)) => self.infinite(negative),
            (Value::Finite(a), Value::Finite(b)) => {
                let zero = if a.negative == b.negative { a.negative } else { round == Round::Down };
                self.round(&[a, b], round, zero)
            }
        }
    }

    pub fn multiply(self, a: Value, b: Value, round: Round) -> u64 {
        let negative = a.negative() != b.negative();
        match (a, b) {
            (Value::Nan, _) | (_, Value::Nan) => self.nan(),
            (Value::Finite(a), Value::Finite(b)) => self.round(&[a.times(b)], round, negative),
            _ if a.is_zero() || b.is_zero() => self.nan(),
            _ => self.infinite(negative),
        }
    }

    pub fn divide(self, a: Value, b: Value, round: Round) -> u64 {
        let negative = a.negative() != b.negative();
        match (a, b) {
            (Value::Nan, _) | (_, Value::Nan) | (Value::Infinite(_), Value::Infinite(_)) => self.nan(),
            (Value::Infinite(_), _) => self.infinite(negative),
            (_, Value::Infinite(_)) => self.signed(negative, 0),
            (Value::Finite(a), Value::Finite(b)) => match (a.significand, b.significand) {
                (0, 0) => self.nan(),
                (_, 0) => self.infinite(negative),
                (0, _) => self.signed(negative, 0),
                _ => {
                    let (a, b) = (a.magnitude(), b.magnitude());
                    self.round_by(negative, round, |number| sign(&[a, number.times(b).opposite()]))
                }
            },
        }
    }

    pub fn square_root(self, a: Value, round: Round) -> u64 {
        match a {
            Value::Finite(a) if a.significand == 0 => self.signed(a.negative, 0),
            Value::Nan => self.nan(),
            _ if a.negative() => self.nan(),
            Value::Infinite(_) => self.infinite(false),
            Value::Finite(a) => self.round_by(false, round, |number| sign(&[a, number.times(number).opposite()])),
        }
    }

    /// Another format's value in this one.
    pub fn convert(self, value: Value, round: Round) -> u64 {
        match value {
            Value::Nan => self.nan(),
            Value::Infinite(negative) => self.infinite(negative),
            Value::Finite(term) => self.round(&[term], round, term.negative),
        }
    }
}

/// How two values compare, if they do. Zeros are equal.
pub fn compare(a: Value, b: Value) -> Option<Ordering> {
    let rank = |value: Value| match value {
        Value::Infinite(negative) => Some(if negative { -1 } else { 1 }),
        Value::Finite(_) => Some(0),
        Value::Nan => None,
    };
    match (a, b) {
        (Value::Finite(a), Value::Finite(b)) => Some(sign(&[a, b.opposite()])),
        _ => Some(rank(a)?.cmp(&rank(b)?)),
    }
}

/// The integer for a number, saturated to a range.
pub fn integer(value: Term, round: Round, (least, most): (i128, i128)) -> i128 {
    let against = |n: i128| sign(&[value, Term::integer(n).opposite()]);
    // The largest integer that is not above the value, or one below the range.
    let (mut low, mut high) = (least - 1, most + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        match against(middle) {
            Ordering::Less => high = middle,
            _ => low = middle,
        }
    }
    let half = sign(&[value, Term { exponent: -1, ..Term::integer(2 * low + 1) }.opposite()]);
    let up = match round {
        _ if low >= least && against(low) == Ordering::Equal => false,
        Round::Even => half == Ordering::Greater || (half == Ordering::Equal && low & 1 != 0),
        Round::Away => half == Ordering::Greater || (half == Ordering::Equal && !value.negative),
        Round::Zero => value.negative,
        Round::Down => false,
        Round::Up => true,
    };
    (low + i128::from(up)).clamp(least, most)
}
