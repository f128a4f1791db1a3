//! Exact floating-point arithmetic on integers, for every format and rounding.
//!
//! Slow and plain: the engine uses it where the host's arithmetic has no such rounding, and the
//! tests use it as the oracle of the fast paths.

use crate::lower::op::Round;

/// A binary interchange format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bits of the significand, the hidden one included.
    precision: u32,
    /// Bits of the exponent.
    exponent: u32,
    /// Without infinities: the highest exponent is for numbers too, all ones are the only NaN.
    finite: bool,
}

/// IEEE half precision.
pub const F16: Format = Format { precision: 11, exponent: 5, finite: false };
/// The upper half of single precision.
pub const BF16: Format = Format { precision: 8, exponent: 8, finite: false };
/// Single precision.
pub const F32: Format = Format { precision: 24, exponent: 8, finite: false };
/// Double precision.
pub const F64: Format = Format { precision: 53, exponent: 11, finite: false };
/// The range of single precision with the significand of half precision.
pub const TF32: Format = Format { precision: 11, exponent: 8, finite: false };
/// Eight bits, four of them for the significand.
pub const E4M3: Format = Format { precision: 4, exponent: 4, finite: true };
/// Eight bits, three of them for the significand.
pub const E5M2: Format = Format { precision: 3, exponent: 5, finite: false };

/// A number taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Not a number.
    Nan,
    /// An infinity, negative or not.
    Infinity(bool),
    /// `significand * 2^exponent`, negative or not; a zero has significand 0.
    Finite {
        /// Whether it is negative.
        negative: bool,
        /// The significand, an integer.
        significand: u128,
        /// The exponent of its last bit.
        exponent: i32,
    },
}

impl Format {
    fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    fn top(self) -> u64 {
        (1 << self.exponent) - 1
    }

    fn sign_bit(self) -> u32 {
        self.precision - 1 + self.exponent
    }

    /// NVIDIA's canonical NaN: all bits but the sign.
    pub fn nan(self) -> u64 {
        // Double precision differs: its canonical NaN is the common quiet one.
        if self == F64 { 0x7ff8_0000_0000_0000 } else { (1 << self.sign_bit()) - 1 }
    }

    fn infinity(self, negative: bool) -> u64 {
        u64::from(negative) << self.sign_bit() | self.top() << (self.precision - 1)
    }

    /// The largest finite number in place of an infinity.
    pub fn saturate(self, bits: u64) -> u64 {
        match self.unpack(bits) {
            Number::Infinity(_) => bits - 1,
            _ => bits,
        }
    }

    /// Takes a number apart.
    pub fn unpack(self, bits: u64) -> Number {
        let fraction = bits & ((1 << (self.precision - 1)) - 1);
        let field = bits >> (self.precision - 1) & self.top();
        let negative = bits >> self.sign_bit() & 1 != 0;
        if self.finite && field == self.top() && fraction == (1 << (self.precision - 1)) - 1 {
            return Number::Nan;
        }
        if !self.finite && field == self.top() {
            return if fraction == 0 { Number::Infinity(negative) } else { Number::Nan };
        }
        let hidden = u64::from(field != 0) << (self.precision - 1);
        Number::Finite {
            negative,
            significand: u128::from(fraction | hidden),
            exponent: field.max(1) as i32 - self.bias() - (self.precision as i32 - 1),
        }
    }

    /// The nearest number of the format to `significand * 2^exponent`, by the rounding. With
    /// `sticky`, the exact value is a little larger in magnitude.
    pub fn pack(self, negative: bool, significand: u128, exponent: i32, sticky: bool, round: Round) -> u64 {
        let sign = u64::from(negative) << self.sign_bit();
        if significand == 0 && !sticky {
            return sign;
        }
        // Room below the last bit for what `sticky` stands for.
        let room = significand.leading_zeros().min(self.precision + 3);
        let (significand, exponent) = (significand << room, exponent - room as i32);
        let significand = significand | u128::from(sticky);
        let top = exponent + 127 - significand.leading_zeros() as i32;
        let least = 1 - self.bias();
        let last = top.max(least) - (self.precision as i32 - 1);
        let shift = last - exponent;
        let (mut kept, above_half, at_half, inexact) = if shift <= 0 {
            (significand << -shift, false, false, false)
        } else if shift > 127 {
            (0, false, false, true)
        } else {
            let rest = significand & ((1 << shift) - 1);
            let half = 1u128 << (shift - 1);
            (significand >> shift, rest > half, rest == half, rest != 0)
        };
        let up = match round {
            Round::Nearest => above_half || (at_half && kept & 1 != 0),
            Round::NearestAway => above_half || at_half,
            Round::Zero => false,
            Round::Down => inexact && negative,
            Round::Up => inexact && !negative,
        };
        kept += u128::from(up);
        let hidden = 1u128 << (self.precision - 1);
        // A carry out of the significand increments the exponent field by itself.
        let field = if top < least { 0 } else { (top + self.bias()) as u64 };
        let base = if field == 0 { 0 } else { hidden };
        let magnitude = (u128::from(field) << (self.precision - 1)) + kept.wrapping_sub(base);
        if self.finite {
            // Too large a number becomes the largest.
            return sign | (magnitude as u64).min(self.nan() - 1);
        }
        if magnitude >> (self.precision - 1) >= u128::from(self.top()) {
            let stays_finite = match round {
                Round::Nearest | Round::NearestAway => false,
                Round::Zero => true,
                Round::Down => !negative,
                Round::Up => negative,
            };
            return self.infinity(negative) - u64::from(stays_finite);
        }
        sign | magnitude as u64
    }

    /// A number in this format.
    pub fn from_number(self, number: Number, round: Round) -> u64 {
        match number {
            Number::Nan => self.nan(),
            Number::Infinity(negative) if self.finite => self.pack(negative, 1, 1 << 16, false, round),
            Number::Infinity(negative) => self.infinity(negative),
            Number::Finite { negative, significand, exponent } => {
                self.pack(negative, significand, exponent, false, round)
            }
        }
    }

    /// `a * b + c`, rounded once.
    pub fn fma(self, a: u64, b: u64, c: u64, round: Round) -> u64 {
        use Number::{Finite, Infinity, Nan};
        let (a, b, c) = (self.unpack(a), self.unpack(b), self.unpack(c));
        let negative = |number: Number| match number {
            Nan => false,
            Infinity(negative) | Finite { negative, .. } => negative,
        };
        let zero = |number: Number| matches!(number, Finite { significand: 0, .. });
        let product_negative = negative(a) != negative(b);
        match (a, b, c) {
            (Nan, ..) | (_, Nan, _) | (.., Nan) => self.nan(),
            (Infinity(_), ..) | (_, Infinity(_), _) => match c {
                _ if zero(a) || zero(b) => self.nan(),
                Infinity(other) if other != product_negative => self.nan(),
                _ => self.infinity(product_negative),
            },
            (.., Infinity(negative)) => self.infinity(negative),
            (
                Finite { significand: ma, exponent: ea, .. },
                Finite { significand: mb, exponent: eb, .. },
                Finite { significand: mc, exponent: ec, negative: c_negative },
            ) => self.sum((product_negative, ma * mb, ea + eb), (c_negative, mc, ec), round),
        }
    }

    /// The sum of two exact numbers (sign, significand, exponent), rounded once.
    fn sum(self, x: (bool, u128, i32), y: (bool, u128, i32), round: Round) -> u64 {
        if x.1 == 0 && y.1 == 0 {
            let negative = if x.0 == y.0 { x.0 } else { round == Round::Down };
            return self.pack(negative, 0, 0, false, round);
        }
        if x.1 == 0 {
            return self.pack(y.0, y.1, y.2, false, round);
        }
        if y.1 == 0 {
            return self.pack(x.0, x.1, x.2, false, round);
        }
        // Both with their top bit at place 125, so that a carry fits. Bits shifted out become one
        // sticky bit: when they do, the other operand is so much larger that it is enough.
        let normal = |(negative, significand, exponent): (bool, u128, i32)| {
            let shift = significand.leading_zeros() as i32 - 2;
            (negative, significand << shift, exponent - shift)
        };
        let (x, y) = (normal(x), normal(y));
        let (large, small) = if (x.2, x.1) >= (y.2, y.1) { (x, y) } else { (y, x) };
        let distance = (large.2 - small.2) as u32;
        let (shifted, lost) =
            if distance > 127 { (0, true) } else { (small.1 >> distance, small.1 & ((1 << distance) - 1) != 0) };
        let sum = if large.0 == small.0 { large.1 + shifted } else { large.1 - shifted - u128::from(lost) };
        if sum == 0 && !lost {
            return self.pack(round == Round::Down, 0, 0, false, round);
        }
        self.pack(large.0, sum, large.2, lost, round)
    }

    /// `a / b`.
    pub fn divide(self, a: u64, b: u64, round: Round) -> u64 {
        use Number::{Finite, Infinity, Nan};
        match (self.unpack(a), self.unpack(b)) {
            (Nan, _) | (_, Nan) | (Infinity(_), Infinity(_)) => self.nan(),
            (Infinity(n), Finite { negative, .. }) => self.infinity(n != negative),
            (Finite { negative, .. }, Infinity(n)) => self.pack(n != negative, 0, 0, false, round),
            (
                Finite { negative: na, significand: ma, exponent: ea },
                Finite { negative: nb, significand: mb, exponent: eb },
            ) => match (ma, mb) {
                (0, 0) => self.nan(),
                (_, 0) => self.infinity(na != nb),
                (0, _) => self.pack(na != nb, 0, 0, false, round),
                _ => {
                    let shift = ma.leading_zeros().saturating_sub(1);
                    let numerator = ma << shift;
                    let (quotient, rest) = (numerator / mb, numerator % mb);
                    let exponent = ea - eb - shift as i32;
                    self.pack(na != nb, quotient, exponent, rest != 0, round)
                }
            },
        }
    }

    /// The square root.
    pub fn square_root(self, a: u64, round: Round) -> u64 {
        match self.unpack(a) {
            Number::Nan | Number::Infinity(true) => self.nan(),
            Number::Infinity(false) => self.infinity(false),
            Number::Finite { significand: 0, .. } => a,
            Number::Finite { negative: true, .. } => self.nan(),
            Number::Finite { significand, exponent, .. } => {
                let shift = significand.leading_zeros() - 1;
                let shift = shift - ((exponent - shift as i32) & 1) as u32;
                let wide = significand << shift;
                let root = wide.isqrt();
                let exponent = (exponent - shift as i32) / 2;
                self.pack(false, root, exponent, root * root != wide, round)
            }
        }
    }
}
