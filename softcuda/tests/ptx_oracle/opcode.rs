//! An opcode of the table, taken apart; and the kernel that runs it on what the oracle is given too.

use softcuda::Config;
use softcuda::lower::table::Form;

use crate::exact::{self, Format, Round};
use crate::ptx_support::{Random, evaluate_with};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pred,
    Bits,
    Unsigned,
    Signed,
    Float(Format),
}

/// A type: what each of its parts is, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ty {
    pub kind: Kind,
    /// Of one part.
    pub bits: u32,
    pub parts: u32,
}

impl Ty {
    pub fn parse(name: &str) -> Option<Ty> {
        let (name, parts) = name.strip_suffix("x2").map_or((name, 1), |single| (single, 2));
        let float = |format: Format| (Kind::Float(format), format.bits());
        let (kind, bits) = match name {
            "pred" => (Kind::Pred, 0),
            "f16" => float(exact::F16),
            "bf16" => float(exact::BF16),
            "f32" => float(exact::F32),
            "f64" => float(exact::F64),
            "tf32" => (Kind::Float(exact::TF32), 32),
            "e4m3" => float(exact::E4M3),
            "e5m2" => float(exact::E5M2),
            _ => {
                let (letter, bits) = name.split_at(1);
                let bits = bits.parse().ok().filter(|bits| [8, 16, 32, 64].contains(bits))?;
                match letter {
                    "b" => (Kind::Bits, bits),
                    "u" => (Kind::Unsigned, bits),
                    "s" => (Kind::Signed, bits),
                    _ => return None,
                }
            }
        };
        Some(Ty { kind, bits, parts })
    }

    /// The register that holds it: 8-bit values are in one of 32 bits.
    pub fn register(self) -> u32 {
        match self.bits * self.parts {
            8 => 32,
            bits => bits,
        }
    }

    pub fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }

    pub fn signed(self) -> bool {
        self.kind == Kind::Signed
    }

    pub fn format(self) -> Option<Format> {
        match self.kind {
            Kind::Float(format) => Some(format),
            _ => None,
        }
    }

    /// An integer of this type.
    pub fn integer(self, bits: u64) -> i128 {
        let value = i128::from(bits & self.mask());
        if self.signed() && value >> (self.bits - 1) != 0 { value - (1 << self.bits) } else { value }
    }

    pub fn range(self) -> (i128, i128) {
        if self.signed() { (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) } else { (0, (1 << self.bits) - 1) }
    }

    /// The bits of an integer modulo the type's size.
    pub fn wrap(self, value: i128) -> u64 {
        value as u64 & self.mask()
    }
}

/// An opcode whose modifiers are taken one by one, so that none is overlooked.
pub struct Opcode<'a> {
    pub text: &'a str,
    pub name: &'a str,
    parts: Vec<&'a str>,
}

impl<'a> Opcode<'a> {
    pub fn new(text: &'a str) -> Opcode<'a> {
        let mut parts: Vec<&str> = text.split('.').collect();
        let name = parts.remove(0);
        Opcode { text, name, parts }
    }

    pub fn has(&self, modifier: &str) -> bool {
        self.parts.contains(&modifier)
    }

    pub fn take(&mut self, modifier: &str) -> bool {
        let at = self.parts.iter().position(|part| *part == modifier);
        at.map(|at| self.parts.remove(at)).is_some()
    }

    /// The one of these that is there.
    pub fn one_of(&mut self, choices: &[&'static str]) -> Option<&'static str> {
        choices.iter().copied().find(|choice| self.take(choice))
    }

    pub fn round(&mut self) -> Option<Round> {
        Some(match self.one_of(&["rn", "rz", "rm", "rp", "rna"])? {
            "rn" => Round::Even,
            "rz" => Round::Zero,
            "rm" => Round::Down,
            "rp" => Round::Up,
            _ => Round::Away,
        })
    }

    /// The next type.
    pub fn ty(&mut self) -> Ty {
        let at = self.parts.iter().position(|part| Ty::parse(part).is_some());
        let at = at.unwrap_or_else(|| panic!("{} has no more types", self.text));
        Ty::parse(self.parts.remove(at)).unwrap()
    }

    /// All types, without taking them.
    pub fn types(&self) -> Vec<Ty> {
        self.parts.iter().filter_map(|part| Ty::parse(part)).collect()
    }

    /// Every modifier must have been understood.
    pub fn finish(&self) {
        assert!(self.parts.is_empty(), "the oracle of {} does not know {:?}", self.text, self.parts);
    }
}

/// What a result must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Want {
    Bits(u64),
    /// One of these: which of two payloads a NaN takes is open.
    Any(Vec<u64>),
    /// A quiet NaN of double precision.
    Quiet,
    /// A number of a format in an interval, or in both parts of a pair.
    Within(Format, Vec<(f64, f64)>),
    /// Nothing: the manual leaves it open.
    Open,
}

impl Want {
    pub fn accepts(&self, got: u64) -> bool {
        match self {
            Want::Bits(bits) => got == *bits,
            Want::Any(choices) => choices.contains(&got),
            Want::Quiet => got & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
            Want::Within(format, intervals) => intervals.iter().enumerate().all(|(part, &(low, high))| {
                let bits = got >> (format.bits() * part as u32) & (format.sign_bit() * 2 - 1);
                let value = f64::from_bits(exact::F64.convert(format.value(bits), Round::Even));
                (value >= low && value <= high) || (value.is_nan() && low.is_nan())
            }),
            Want::Open => true,
        }
    }
}

/// A function of the sources as registers hold them; of a predicate 0 or 1.
pub type Oracle = Box<dyn Fn(&[u64]) -> Want>;

/// Where a source comes from: a register's size and whether a predicate is negated.
#[derive(Clone, Copy)]
enum Source {
    Register(u32),
    Predicate(bool),
    Literal,
}

/// The operands of a form: texts, results put together in `%d`, and how the inputs reach the sources.
struct Plan {
    text: String,
    sources: Vec<Source>,
}

const LETTERS: [&str; 3] = ["a", "b", "c"];

fn register(bits: u32, index: usize) -> String {
    match (bits, index) {
        (32, 3) => "%r14".to_owned(),
        (64, _) => format!("%{}", LETTERS[index]),
        _ => format!("%{}{bits}", LETTERS[index]),
    }
}

fn plan(form: &Form, opcode: &str, before: &str, after: &str) -> Plan {
    let types = Opcode::new(opcode).types();
    let size = |word: &str| match word {
        "T" => types.last().map_or(32, |ty| ty.register()),
        "F" => types.first().map_or(32, |ty| ty.register()),
        word if word.starts_with("%rd") => 64,
        word if word.starts_with("%r") => 32,
        word if word.starts_with("%h") => 16,
        word if word.trim_start_matches('!').starts_with("%p") => 0,
        _ => u32::MAX,
    };
    let mut text = "shr.u64 %rd15, %c, 32; cvt.u32.u64 %r14, %rd15;".to_owned();
    let mut words = form.operands.split(", ");
    let result = words.next().unwrap();
    let (target, widen) = match (result, size(result)) {
        ("%p1|%p2", _) => (
            "%p1|%p2".to_owned(),
            "selp.u64 %rd13, 1, 0, %p1; selp.u64 %rd14, 2, 0, %p2; or.b64 %d, %rd13, %rd14;".to_owned(),
        ),
        ("%r1|%p1", _) => (
            "%d32|%p1".to_owned(),
            "cvt.u64.u32 %rd13, %d32; selp.u64 %rd14, 0x100000000, 0, %p1; or.b64 %d, %rd13, %rd14;".to_owned(),
        ),
        (_, 0) => ("%p1".to_owned(), "selp.u64 %d, 1, 0, %p1;".to_owned()),
        (_, 64) => ("%d".to_owned(), String::new()),
        (_, bits) => (format!("%d{bits}"), format!("WIDEN{bits}")),
    };
    let (mut sources, mut operands) = (Vec::new(), vec![target]);
    for (index, word) in words.enumerate() {
        match size(word) {
            u32::MAX => {
                sources.push(Source::Literal);
                operands.push(word.to_owned());
            }
            0 => {
                let negated = word.starts_with('!');
                let letter = if index < 3 { format!("%{}32", LETTERS[index]) } else { "%r14".to_owned() };
                text += &format!("and.b32 %r13, {letter}, 1; setp.ne.u32 %p{}, %r13, 0;", 3 + index);
                sources.push(Source::Predicate(negated));
                operands.push(format!("{}%p{}", if negated { "!" } else { "" }, 3 + index));
            }
            bits => {
                sources.push(Source::Register(bits));
                operands.push(register(bits, index));
            }
        }
    }
    text += &format!("{before} {opcode} {}; {after} {widen}", operands.join(", "));
    Plan { text, sources }
}

impl Plan {
    /// What the sources hold for an input.
    fn arguments(&self, input: [u64; 3]) -> Vec<u64> {
        let [a, b, c] = input;
        let words = [a, b, c, c >> 32];
        let value = |(index, source): (usize, &Source)| match *source {
            Source::Register(bits) => words[index] & u64::MAX >> (64 - bits),
            Source::Predicate(negated) => words[index.min(3)] & 1 ^ u64::from(negated),
            Source::Literal => 0,
        };
        self.sources.iter().enumerate().map(value).collect()
    }
}

/// The first input for which an opcode does not do as its oracle says.
pub type Checked = Result<(), String>;

/// Runs an opcode on the inputs and compares it with the oracle.
pub fn check(form: &Form, opcode: &str, inputs: &[[u64; 3]], oracle: &Oracle) -> Checked {
    check_between(form, opcode, inputs, ("", ""), |_, arguments| oracle(arguments))
}

/// The same with instructions before and after, and an oracle that sees the whole input.
pub fn check_between(
    form: &Form,
    opcode: &str,
    inputs: &[[u64; 3]],
    (before, after): (&str, &str),
    oracle: impl Fn([u64; 3], &[u64]) -> Want,
) -> Checked {
    let plan = plan(form, opcode, before, after);
    let config = Config { workers: 1, ..Config::capability(10, 0) };
    for (got, &input) in evaluate_with(config, &plan.text, inputs).into_iter().zip(inputs) {
        let arguments = plan.arguments(input);
        let want = oracle(input, &arguments);
        if !want.accepts(got) {
            return Err(format!("{opcode} of {arguments:x?} gives {got:#x}, not {want:x?}"));
        }
    }
    Ok(())
}

/// Values where something happens: small numbers, the ends of each size, shift amounts around each size.
const INTEGERS: [u64; 26] = [
    0,
    1,
    2,
    3,
    8,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
];

/// Zeros, subnormals, the ends of the normals, one and its neighbours, a half, ties of integers, the
/// largest, infinities, NaNs quiet and not, with payloads.
fn edges(format: Format) -> Vec<u64> {
    let one = ((1u64 << (format.exponent - 1)) - 1) << format.mantissa;
    let unit = 1u64 << format.mantissa;
    let infinity = format.infinite(false);
    let quiet = infinity | unit >> 1;
    let half = one - unit;
    let positive = [
        0,
        1,
        unit - 1,
        unit,
        unit + 1,
        half,
        one - 1,
        one,
        one + 1,
        one + unit / 2,
        // The first odd number whose half is a tie, and the one after.
        one + unit * u64::from(format.mantissa),
        one + unit * u64::from(format.mantissa) + 1,
        format.largest() - 1,
        format.largest(),
        infinity,
        if format.finite { format.nan() } else { quiet },
    ];
    let mut all: Vec<u64> = positive.iter().flat_map(|&bits| [bits, bits | format.sign_bit()]).collect();
    if !format.finite {
        all.extend([infinity | 1, quiet | format.sign_bit() | unit >> 2 | 1]);
    }
    all
}

/// Edge cases crossed and random triples, for operands of a type.
pub fn inputs(ty: Ty, random: usize) -> Vec<[u64; 3]> {
    let mut rng = Random(u64::from(ty.bits) * 3 + u64::from(ty.parts));
    let Some(format) = ty.format() else {
        let mut edges = INTEGERS.to_vec();
        edges.push(u64::MAX);
        edges.push(0x8000_ffff_7fff_0180);
        return crossed(&edges, random, || {
            let value = rng.next();
            // Of all lengths, of both signs.
            let value = value >> (rng.next() % 64);
            if rng.next() & 1 == 0 { value } else { value.wrapping_neg() }
        });
    };
    let width = ty.bits.max(format.bits());
    let near = ((1u64 << (format.exponent - 1)) - 1) << format.mantissa;
    let spread = ((1u64 << (format.mantissa + 3)) - 1) | format.sign_bit();
    let mut number = || {
        let value = rng.next();
        // Half of them near one, where sums do not lose an operand.
        let bits = if rng.next() & 1 == 0 { value } else { (value & spread).wrapping_add(near & !spread) };
        bits & (format.sign_bit() * 2 - 1)
    };
    let edges = edges(format);
    let mut all = crossed(&edges, random, &mut number);
    if ty.parts * width < 64 || ty.parts > 1 {
        // The other part of a pair, and what lies above a register's value, is another number.
        for (index, row) in all.iter_mut().enumerate() {
            for (place, word) in row.iter_mut().enumerate() {
                let other = edges[(index * 5 + place * 11) % edges.len()];
                let other = if (index / 7).is_multiple_of(2) { other } else { number() };
                *word |= other << width;
                if width * 2 < 64 {
                    *word |= *word << (2 * width);
                }
            }
        }
    }
    all
}

fn crossed(edges: &[u64], random: usize, mut value: impl FnMut() -> u64) -> Vec<[u64; 3]> {
    let mut all = Vec::new();
    for (i, &a) in edges.iter().enumerate() {
        for (j, &b) in edges.iter().enumerate() {
            all.push([a, b, edges[(i * 7 + j * 3) % edges.len()]]);
        }
    }
    all.extend((0..random).map(|_| [value(), value(), value()]));
    all
}
