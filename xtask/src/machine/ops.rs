//! What integer and address instructions do, lane by lane. What is not listed gives unknown values: the floating
//! point of the kernels depends on data anyway. A wrong result here cannot pass unnoticed: every address on the
//! counted path must lie in one of the launch's arrays, and the elements stored must be those of the row.

use half::f16;

use super::sass::{File, Instruction, Operand, Predicate, TRUE, ZERO};
use super::state::{Bits, Launch, Parts, Registers, View, parts};

/// The results of one lane: up to 64 bits and two predicates.
#[derive(Default)]
struct Results {
    /// `None`: unknown, or known in parts.
    value: Option<u64>,
    bits: Bits,
    predicates: [Option<bool>; 2],
}

impl From<Option<u64>> for Results {
    fn from(value: Option<u64>) -> Results {
        Results { value, ..Results::default() }
    }
}

impl From<Bits> for Results {
    fn from(bits: Bits) -> Results {
        Results { value: bits.whole().map(u64::from), bits, predicates: [None; 2] }
    }
}

impl From<Option<u32>> for Results {
    fn from(value: Option<u32>) -> Results {
        Results::from(value.map(u64::from))
    }
}

/// Registers that the destination takes, from the opcode's width.
fn destination_words(instruction: &Instruction) -> u8 {
    let base = instruction.base();
    let loads = ["LDG", "LDS", "LD", "LDL", "LDC", "LDCU", "ULDC"].contains(&base);
    if loads {
        return (instruction.width() / 4).max(1) as u8;
    }
    let wide = ["WIDE", "64", "S64", "U64"].iter().any(|m| instruction.has(m)) && !instruction.has("HI");
    let shift = base.ends_with("SHF");
    let pairs = ["FFMA2", "FADD2", "FMUL2"].contains(&base);
    let from_long = ["I2F", "SHFL"].contains(&base);
    if (base == "CS2R" && !instruction.has("32")) || (wide && !shift && !from_long) || pairs { 2 } else { 1 }
}

/// Executes an instruction that moves no control, for the lanes in `active`. Lanes with an unknown guard get
/// unknown results. False: it is not among those modelled here, though all that it reads is known.
pub fn execute(instruction: &Instruction, registers: &mut Registers, launch: &Launch, active: &[usize]) -> bool {
    let parts = parts(instruction);
    let words = destination_words(instruction);
    let uniform = matches!(parts.register, Some((File::Uniform, _)))
        || parts.predicates.first().is_some_and(|p| p.file == File::Uniform);
    let constant = ["LDC", "LDCU", "ULDC"].contains(&instruction.base());
    // One result for the warp.
    let lanes = if uniform { active.get(..1).unwrap_or(active) } else { active };
    let mut all = Vec::with_capacity(lanes.len());
    let mut modelled = true;
    for &lane in lanes {
        let view = View { registers, launch, lane };
        let guard = instruction.guard.map_or(Some(true), |g| registers.predicate(g, lane));
        if guard == Some(false) {
            continue;
        }
        let results = results(instruction, &parts, view, lane == active[0]);
        let lost = match parts.register {
            Some((_, ZERO)) | None => {
                parts.predicates.iter().zip(results.predicates).any(|(p, r)| p.index != TRUE && r.is_none())
            }
            Some(_) => results.value.is_none() && !constant,
        };
        modelled &= !(lost && all_known(instruction, &parts, view));
        all.push((lane, guard.is_some(), results));
    }
    if instruction.base() == "R2P" {
        predicates_of_register(instruction, registers, launch, lanes);
    }
    // A shuffle of what all lanes agree on gives the same again.
    let agreed = all.first().and_then(|(_, _, r)| r.value);
    let agree = all.len() == 32 && all.iter().all(|(_, _, r)| r.value == agreed);
    for (lane, certain, mut result) in all {
        if instruction.base() == "SHFL" && !agree {
            result = Results::default();
        }
        if let Some((file, index)) = parts.register {
            for word in 0..words.min(ZERO.saturating_sub(index)) {
                let bits = match result.value {
                    // Of several words only constants are known.
                    _ if constant => Bits::of(constant_word(&parts, View { registers, launch, lane }, word)),
                    Some(value) => Bits::of(Some((value >> (32 * u32::from(word).min(1))) as u32)),
                    None if word == 0 => result.bits,
                    None => Bits::default(),
                };
                let before = registers.bits(file, index + word, lane);
                registers.set_bits(file, index + word, lane, if certain { bits } else { bits.either(before) });
            }
            // A 256-bit load has a second register of four words.
            if let (true, Some(Operand::Register { file, index: second, .. })) =
                (instruction.has("256"), parts.sources.first())
            {
                for word in 0..4 {
                    registers.set_bits(*file, second + word, lane, Bits::default());
                    registers.set_bits(*file, index + word, lane, Bits::default());
                }
            }
        }
        for (p, value) in parts.predicates.iter().zip(result.predicates) {
            let before = registers.predicate(*p, lane);
            registers.set_predicate(*p, lane, value.filter(|_| certain || value == before));
        }
    }
    modelled
}

/// The opposite of P2R.
fn predicates_of_register(instruction: &Instruction, registers: &mut Registers, launch: &Launch, lanes: &[usize]) {
    let [_, source, mask] = &instruction.operands[..] else { return };
    for &lane in lanes {
        let view = View { registers, launch, lane };
        let (word, mask) = (view.bits(source), view.int(mask).unwrap_or(u32::MAX));
        let known = instruction.opcode == "R2P" && instruction.guard.is_none();
        for index in (0..TRUE).filter(|i| mask >> i & 1 == 1) {
            let value = (known && word.known >> index & 1 == 1).then_some(word.value >> index & 1 == 1);
            registers.set_predicate(Predicate { file: File::Vector, index, negated: false }, lane, value);
        }
    }
}

/// Whether a lane knows everything that the instruction reads.
fn all_known(instruction: &Instruction, parts: &Parts<'_>, v: View<'_>) -> bool {
    // What comes from memory or from other lanes is not known, whatever the address; floating point is modelled
    // only as far as integers come out of it; the predicates of P2R are not among its operands.
    let elsewhere = ["SHFL", "VOTE", "VOTEU", "MATCH", "REDUX", "CREDUX", "ATOMG", "ATOMS", "SYNCS", "MUFU"];
    let base = instruction.base();
    !elsewhere.contains(&base)
        && !base.starts_with(['F', 'H'])
        && instruction.opcode != "P2R"
        && parts.sources.iter().all(|o| match o {
            Operand::Register { .. } | Operand::Constant { .. } => v.int(o).is_some(),
            Operand::Predicate(_) => v.bool(o).is_some(),
            Operand::Memory { .. } => false,
            _ => true,
        })
}

fn constant_word(parts: &Parts<'_>, view: View<'_>, word: u8) -> Option<u32> {
    let Some(&Operand::Constant { bank, offset, index, modifiers }) = parts.sources.first() else { return None };
    view.int(&Operand::Constant { bank, offset: offset + 4 * u32::from(word), index, modifiers })
}

/// The results of one lane; `first`: it is the first active one.
fn results(instruction: &Instruction, parts: &Parts<'_>, v: View<'_>, first: bool) -> Results {
    let s = parts.sources;
    let int = |i: usize| v.int(s.get(i)?);
    let long = |i: usize| v.long(s.get(i)?);
    let float = |i: usize| v.float(s.get(i)?);
    let bool = |i: usize| v.bool(s.get(i)?);
    let has = |m| instruction.has(m);
    let base = instruction.base();
    // The uniform datapath has the same operations under names that begin with U.
    let base = match base.strip_prefix('U') {
        Some(rest) if base != "UNDEF" => rest,
        _ => base,
    };
    match base {
        "MOV" if has("64") => long(0).into(),
        "MOV" | "R2UR" | "SHFL" => s.first().map_or(Results::default(), |o| v.bits(o).into()),
        "IMAD" if has("MOV") && has("U32") => s.get(2).map_or(Results::default(), |o| v.bits(o).into()),
        "S2R" | "S2UR" | "CS2R" => match s.first() {
            Some(Operand::Other(name)) => v.special(name).into(),
            _ => Results::default(),
        },
        // The compiler's way to load a constant through the half-precision pipe: 0 * 0 + two halves.
        "HFMA2" => match s {
            [
                Operand::Register { index: 255, .. },
                Operand::Register { index: 255, .. },
                Operand::Float(high),
                Operand::Float(low),
            ] => {
                let bits = |x: f64| u32::from(f16::from_f64(x).to_bits());
                Some(bits(*high) << 16 | bits(*low)).into()
            }
            _ => Results::default(),
        },
        "IMAD" => multiply_add(instruction, s, v),
        "IADD" | "IADD3" | "VIADD" if has("64") => sum_long(s, v),
        "IADD" | "IADD3" | "VIADD" => sum(s, v, has("X")),
        "LEA" => lea(instruction, s, v),
        "SHF" => shift(instruction, int(0), int(1), int(2)).into(),
        "LOP3" => logic(s, v),
        "PLOP3" => predicate_logic(s, v),
        "SEL" if has("64") => bool(2).and_then(|c| if c { long(0) } else { long(1) }).into(),
        "SEL" => bool(2).and_then(|c| if c { int(0) } else { int(1) }).into(),
        "FSEL" => bool(2).and_then(|c| if c { float(0) } else { float(1) }).map(f32::to_bits).into(),
        "IMNMX" | "VIMNMX" => minimum(instruction, s, v),
        "ISETP" => compare_int(instruction, s, v),
        "FSETP" => compare_float(instruction, s, v),
        "PRMT" => permute(int(0), int(1), int(2)).into(),
        // Integer division goes through floating point.
        "I2F" | "I2FP" => int_to_float(instruction, s, v).map(f32::to_bits).into(),
        "F2I" if has("U32") && has("TRUNC") => float(0).map(|x| x as u32).into(),
        "F2I" if has("U64") && has("TRUNC") => float(0).map(|x| x as u64).into(),
        "MUFU" if has("RCP") => float(0).map(|x| ((1.0 / f64::from(x)) as f32).to_bits()).into(),
        "FADD" => float(0).zip(float(1)).map(|(a, b)| (a + b).to_bits()).into(),
        "FMUL" => float(0).zip(float(1)).map(|(a, b)| (a * b).to_bits()).into(),
        "FFMA" => (|| Some(float(0)?.mul_add(float(1)?, float(2)?).to_bits()))().into(),
        "POPC" => int(0).map(u32::count_ones).into(),
        // Predicates kept in a register: those of the mask, above what was there.
        "P2R" if instruction.opcode == "P2R" => {
            let (Some(source), Some(mask)) = (s.get(1), int(2)) else { return Results::default() };
            let (mut bits, mask) = (v.bits(source), mask & ((1 << TRUE) - 1));
            (bits.value, bits.known) = (bits.value & !mask, bits.known & !mask);
            for index in (0..TRUE).filter(|i| mask >> i & 1 == 1) {
                let p = Predicate { file: File::Vector, index, negated: false };
                if let Some(value) = v.registers.predicate(p, v.lane) {
                    bits.known |= 1 << index;
                    bits.value |= u32::from(value) << index;
                }
            }
            bits.into()
        }
        // One lane for all.
        "ELECT" => Results { value: None, predicates: [Some(first), None], ..Results::default() },
        _ => Results::default(),
    }
}

/// The carries that come in: the predicates behind the sources.
fn carries(operands: &[Operand], v: View<'_>) -> Option<u64> {
    operands.iter().try_fold(0, |sum, o| match o {
        Operand::Predicate(_) => Some(sum + u64::from(v.bool(o)?)),
        _ => Some(sum),
    })
}

fn sum(s: &[Operand], v: View<'_>, extended: bool) -> Results {
    let terms = s.iter().filter(|o| !matches!(o, Operand::Predicate(_)));
    let total = terms.map(|o| v.term(o)).sum::<Option<u64>>();
    let carry = if extended { carries(s, v) } else { Some(0) };
    let Some(total) = total.zip(carry).map(|(t, c)| t + c) else { return Results::default() };
    // Three summands carry up to two.
    let carries = total >> 32;
    Results { value: Some(total), predicates: [Some(carries >= 1), Some(carries >= 2)], ..Results::default() }
}

fn sum_long(s: &[Operand], v: View<'_>) -> Results {
    let terms = s.iter().filter(|o| !matches!(o, Operand::Predicate(_)));
    terms.map(|o| v.long(o)).try_fold(0u64, |sum, term| Some(sum.wrapping_add(term?))).into()
}

fn multiply_add(instruction: &Instruction, s: &[Operand], v: View<'_>) -> Results {
    let [a, b, c, rest @ ..] = s else { return Results::default() };
    let (factors, signed) = (v.int(a).zip(v.int(b)), !instruction.has("U32"));
    // Zero times whatever is zero: how registers are moved.
    let product = match (v.int(a), v.int(b)) {
        (Some(0), _) | (_, Some(0)) => Some(0),
        _ => factors.map(|(a, b)| match signed {
            true => (i64::from(a as i32) * i64::from(b as i32)) as u64,
            false => u64::from(a) * u64::from(b),
        }),
    };
    let Some(product) = product else { return Results::default() };
    if instruction.has("WIDE") || instruction.has("HI") {
        let carry = if instruction.has("X") { carries(rest, v) } else { Some(0) };
        let Some((c, carry)) = v.long(c).zip(carry) else { return Results::default() };
        let wide = u128::from(product) + u128::from(c) + u128::from(carry);
        let value = if instruction.has("HI") { wide as u64 >> 32 } else { wide as u64 };
        return Results { value: Some(value), predicates: [Some(wide >> 64 != 0), None], ..Results::default() };
    }
    let carry = if instruction.has("X") { carries(rest, v) } else { Some(0) };
    let Some((c, carry)) = v.term(c).zip(carry) else { return Results::default() };
    let total = u64::from(product as u32) + c + carry;
    Results { value: Some(total & 0xffff_ffff), predicates: [Some(total >> 32 != 0), None], ..Results::default() }
}

/// `b + (a << shift)`; with `HI` the upper half of a 64-bit shift.
fn lea(instruction: &Instruction, s: &[Operand], v: View<'_>) -> Results {
    let high = instruction.has("HI");
    let sign = instruction.has("SX32");
    let numbers: Vec<&Operand> = s.iter().filter(|o| !matches!(o, Operand::Predicate(_))).collect();
    let (a, b, upper, amount) = match numbers[..] {
        [a, b, upper, amount] => (a, b, Some(upper), amount),
        [a, b, amount] => (a, b, None, amount),
        _ => return Results::default(),
    };
    let inner = || {
        let low = v.int(a)?;
        let upper = match upper {
            Some(upper) => v.int(upper)?,
            None if sign => (low as i32 >> 31) as u32,
            None => 0,
        };
        let shifted = (u64::from(upper) << 32 | u64::from(low)) << (v.int(amount)? & 31);
        let part = if high { shifted >> 32 } else { shifted & 0xffff_ffff };
        let carry = if instruction.has("X") { carries(s, v)? } else { 0 };
        Some(part + v.term(b)? + carry)
    };
    match inner() {
        Some(total) => Results {
            value: Some(total & 0xffff_ffff),
            predicates: [Some(total >> 32 != 0), None],
            ..Results::default()
        },
        None => Results::default(),
    }
}

fn shift(instruction: &Instruction, low: Option<u32>, amount: Option<u32>, high: Option<u32>) -> Option<u32> {
    let (amount, signed) = (amount?, instruction.has("S32") || instruction.has("S64"));
    let long = instruction.has("U64") || instruction.has("S64");
    if instruction.has("L") {
        if instruction.has("HI") && long {
            return Some(((u64::from(high?) << 32 | u64::from(low?)).wrapping_shl(amount) >> 32) as u32);
        }
        return Some(low?.checked_shl(amount).unwrap_or(0));
    }
    if long {
        let value = u64::from(high?) << 32 | u64::from(low?);
        return Some(if signed {
            (value as i64).wrapping_shr(amount) as u32
        } else {
            value.wrapping_shr(amount) as u32
        });
    }
    if instruction.has("HI") {
        let high = high?;
        return Some(match signed {
            true => (high as i32).wrapping_shr(amount.min(31)) as u32,
            false => high.checked_shr(amount).unwrap_or(0),
        });
    }
    Some(((u64::from(high?) << 32 | u64::from(low?)).wrapping_shr(amount)) as u32)
}

/// Any function of three bits, bit by bit.
fn logic(s: &[Operand], v: View<'_>) -> Results {
    let [a, b, c, table, rest @ ..] = s else { return Results::default() };
    let Some(table) = v.int(table) else { return Results::default() };
    let inputs = [v.bits(a), v.bits(b), v.bits(c)];
    let apply = |x: [u32; 3]| {
        (0..8u32).filter(|i| table >> i & 1 == 1).fold(0, |sum, i| {
            let pick = |k: usize| if i >> (2 - k) & 1 == 1 { x[k] } else { !x[k] };
            sum | pick(0) & pick(1) & pick(2)
        })
    };
    // A bit is known if it comes out the same whatever the unknown bits are.
    let (mut ones, mut zeros) = (u32::MAX, u32::MAX);
    for i in 0..8u32 {
        let x = apply([0, 1, 2].map(|k| inputs[k].value | if i >> k & 1 == 1 { !inputs[k].known } else { 0 }));
        (ones, zeros) = (ones & x, zeros & !x);
    }
    let bits = Bits { value: ones, known: ones | zeros };
    // The predicate is "the result is not zero", or-ed with the last operand.
    let nonzero = if ones != 0 { Some(true) } else { bits.whole().map(|_| false) };
    let with = rest.iter().rev().find_map(|o| matches!(o, Operand::Predicate(_)).then(|| v.bool(o)));
    let predicate = match with {
        Some(Some(false)) | None => nonzero,
        Some(other) => nonzero.zip(other).map(|(a, b)| a || b),
    };
    Results { predicates: [predicate, None], ..bits.into() }
}

fn predicate_logic(s: &[Operand], v: View<'_>) -> Results {
    let inputs: Vec<Option<bool>> =
        s.iter().filter(|o| matches!(o, Operand::Predicate(_))).map(|o| v.bool(o)).collect();
    let tables = s.iter().filter_map(|o| if let Operand::Integer(t) = o { Some(*t) } else { None });
    let mut results = Results::default();
    if inputs.len() == 3 {
        for (slot, table) in results.predicates.iter_mut().zip(tables) {
            let mut values = (0..8usize).filter_map(|i| {
                let fits = |k: usize| inputs[k].is_none_or(|x| x == (i >> (2 - k) & 1 == 1));
                (fits(0) && fits(1) && fits(2)).then_some(table >> i & 1 == 1)
            });
            let first = values.next();
            *slot = first.filter(|f| values.all(|x| x == *f));
        }
    }
    results
}

fn minimum(instruction: &Instruction, s: &[Operand], v: View<'_>) -> Results {
    let [a, b, select, ..] = s else { return Results::default() };
    let Some(smaller) = v.bool(select) else { return Results::default() };
    let less = |a: u64, b: u64| if (a < b) == smaller { a } else { b };
    if instruction.has("U64") {
        return v.long(a).zip(v.long(b)).map(|(a, b)| less(a, b)).into();
    }
    let pair = v.int(a).zip(v.int(b));
    match instruction.has("U32") {
        true => pair.map(|(a, b)| less(a.into(), b.into())).into(),
        false => pair.map(|(a, b)| if ((a as i32) < b as i32) == smaller { a } else { b }).into(),
    }
}

/// `a OP b`, combined with a predicate by AND, OR or XOR, which may settle it alone.
fn combine(instruction: &Instruction, compared: Option<bool>, with: Option<bool>) -> Results {
    let value = if instruction.has("OR") {
        if with == Some(true) || compared == Some(true) { Some(true) } else { compared.zip(with).map(|(a, b)| a || b) }
    } else if instruction.has("XOR") {
        compared.zip(with).map(|(a, b)| a != b)
    } else if with == Some(false) || compared == Some(false) {
        Some(false)
    } else {
        compared.zip(with).map(|(a, b)| a && b)
    };
    Results { value: None, predicates: [value, None], ..Results::default() }
}

fn compare_int(instruction: &Instruction, s: &[Operand], v: View<'_>) -> Results {
    use std::cmp::Ordering;
    let [a, b, with, rest @ ..] = s else { return Results::default() };
    let order: Option<Ordering> = if instruction.has("U64") {
        v.long(a).zip(v.long(b)).map(|(a, b)| a.cmp(&b))
    } else if instruction.has("S64") {
        v.long(a).zip(v.long(b)).map(|(a, b)| (a as i64).cmp(&(b as i64)))
    } else if instruction.has("U32") {
        v.int(a).zip(v.int(b)).map(|(a, b)| a.cmp(&b))
    } else {
        v.int(a).zip(v.int(b)).map(|(a, b)| (a as i32).cmp(&(b as i32)))
    };
    let test = |order: Ordering| match instruction.opcode.split('.').nth(1) {
        Some("LT") => order.is_lt(),
        Some("LE") => order.is_le(),
        Some("GT") => order.is_gt(),
        Some("GE") => order.is_ge(),
        Some("EQ") => order.is_eq(),
        _ => order.is_ne(),
    };
    let compared = match (instruction.has("EX"), rest.first()) {
        // The upper words of a comparison whose lower words have been compared.
        (true, Some(lower)) => match order {
            Some(Ordering::Equal) => v.bool(lower),
            other => other.map(test),
        },
        _ => order.map(test),
    };
    combine(instruction, compared, v.bool(with))
}

fn compare_float(instruction: &Instruction, s: &[Operand], v: View<'_>) -> Results {
    let [a, b, with, ..] = s else { return Results::default() };
    let test = |(a, b): (f32, f32)| {
        let name = instruction.opcode.split('.').nth(1).unwrap_or_default();
        match name.strip_suffix('U').filter(|n| !n.is_empty()) {
            // Unordered forms hold for a NaN.
            Some(_) if a.is_nan() || b.is_nan() => true,
            other => match other.unwrap_or(name) {
                "LT" => a < b,
                "LE" => a <= b,
                "GT" => a > b,
                "GE" => a >= b,
                "EQ" => a == b,
                "NE" => a != b,
                "NAN" => a.is_nan() || b.is_nan(),
                _ => !a.is_nan() && !b.is_nan(),
            },
        }
    };
    combine(instruction, v.float(a).zip(v.float(b)).map(test), v.bool(with))
}

/// Bytes of two words picked by four digits; a digit's highest bit spreads the sign.
fn permute(a: Option<u32>, selector: Option<u32>, b: Option<u32>) -> Option<u32> {
    let bytes = u64::from(b?) << 32 | u64::from(a?);
    let selector = selector?;
    Some((0..4).fold(0, |word, i| {
        let digit = selector >> (4 * i) & 15;
        let byte = (bytes >> (8 * (digit & 7))) as u8;
        let byte = if digit & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
        word | u32::from(byte) << (8 * i)
    }))
}

fn int_to_float(instruction: &Instruction, s: &[Operand], v: View<'_>) -> Option<f32> {
    let operand = s.first()?;
    let (exact, nearest) = if instruction.has("U64") {
        let x = v.long(operand)?;
        (x as f64, x as f32)
    } else if instruction.has("U32") {
        let x = v.int(operand)?;
        (f64::from(x), x as f32)
    } else {
        let x = v.int(operand)? as i32;
        (f64::from(x), x as f32)
    };
    Some(if instruction.has("RP") && f64::from(nearest) < exact { nearest.next_up() } else { nearest })
}

#[cfg(test)]
mod tests;
