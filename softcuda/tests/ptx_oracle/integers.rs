//! What integer, logic, shift and bit instructions must give: in 128 bits, or bit by bit.

use softcuda::lower::table::Form;

use crate::opcode::{Checked, Kind, Opcode, Oracle, Ty, Want, check, check_between, inputs};

/// Parts of a register, each of `bits`.
fn parts(value: u64, bits: u32) -> impl Iterator<Item = u64> {
    (0..64 / bits).map(move |index| value >> (index * bits) & (u64::MAX >> (64 - bits)))
}

fn bit(value: u64, place: u64) -> u64 {
    if place < 64 { value >> place & 1 } else { 0 }
}

/// A number from its bits, the lowest first.
fn assemble(width: u32, each: impl Fn(u64) -> u64) -> u64 {
    (0..u64::from(width)).fold(0, |value, place| value | (each(place) & 1) << place)
}

/// Two or three sources of a type to a result modulo its size.
fn arithmetic(ty: Ty, function: impl Fn(i128, i128, i128) -> i128 + 'static) -> Oracle {
    Box::new(move |x| {
        let at = |index: usize| x.get(index).map_or(0, |&bits| ty.integer(bits));
        Want::Bits(ty.wrap(function(at(0), at(1), at(2))))
    })
}

/// The same on both halves.
fn halves(ty: Ty, function: impl Fn(i128, i128) -> i128 + 'static) -> Oracle {
    Box::new(move |x| {
        let all = parts(x[0], 16).zip(parts(x[1], 16)).take(2).enumerate();
        Want::Bits(
            all.fold(0, |d, (index, (a, b))| d | ty.wrap(function(ty.integer(a), ty.integer(b))) << (16 * index)),
        )
    })
}

/// `add` to `neg` on integers.
pub fn integer(op: &mut Opcode<'_>) -> Option<Oracle> {
    let (saturates, relu) = (op.take("sat"), op.take("relu"));
    let half = op.one_of(&["lo", "hi", "wide"]).unwrap_or("lo");
    let ty = op.ty();
    let limit = move |value: i128| if saturates { value.clamp(ty.range().0, ty.range().1) } else { value };
    let positive = move |value: i128| if relu { value.max(0) } else { value };
    if ty.parts == 2 {
        return Some(match op.name {
            "add" => halves(ty, |a, b| a + b),
            "min" => halves(ty, move |a, b| positive(a.min(b))),
            "max" => halves(ty, move |a, b| positive(a.max(b))),
            _ => return None,
        });
    }
    // Of a product the half that is asked for, or all of it.
    let take = move |product: i128| if half == "hi" { product >> ty.bits } else { product };
    if half == "wide" {
        let wide = Ty { bits: 2 * ty.bits, ..ty };
        return Some(Box::new(move |x| {
            let sum = x.get(2).map_or(0, |&c| wide.integer(c));
            Want::Bits(wide.wrap(ty.integer(x[0]) * ty.integer(x[1]) + sum))
        }));
    }
    Some(match op.name {
        "add" => arithmetic(ty, move |a, b, _| limit(a + b)),
        "sub" => arithmetic(ty, move |a, b, _| limit(a - b)),
        "mul" => arithmetic(ty, move |a, b, _| product_half(take, ty, a, b)),
        "mad" => arithmetic(ty, move |a, b, c| limit(product_half(take, ty, a, b) + c)),
        "min" => arithmetic(ty, move |a, b, _| positive(a.min(b))),
        "max" => arithmetic(ty, move |a, b, _| positive(a.max(b))),
        "abs" => arithmetic(ty, |a, _, _| if a < 0 { -a } else { a }),
        "neg" => arithmetic(ty, |a, _, _| -a),
        "div" | "rem" => {
            let quotient = op.name == "div";
            Box::new(move |x| {
                let (a, b) = (ty.integer(x[0]), ty.integer(x[1]));
                // "Division by zero yields an unspecified, machine-specific value."
                if b == 0 {
                    return Want::Open;
                }
                // By the magnitudes: the quotient is cut towards zero, the remainder has the dividend's sign.
                let (q, r) = (a.unsigned_abs() / b.unsigned_abs(), a.unsigned_abs() % b.unsigned_abs());
                let signed = |magnitude: u128, negative: bool| {
                    if negative { -(magnitude as i128) } else { magnitude as i128 }
                };
                Want::Bits(ty.wrap(if quotient { signed(q, (a < 0) != (b < 0)) } else { signed(r, a < 0) }))
            })
        }
        "sad" => arithmetic(ty, |a, b, c| c + if a < b { b - a } else { a - b }),
        _ => return None,
    })
}

/// Products of 64 bits without sign fill all of 128, where a signed number has no room for them.
fn product_half(take: impl Fn(i128) -> i128, ty: Ty, a: i128, b: i128) -> i128 {
    if ty.kind == Kind::Unsigned && ty.bits == 64 {
        let product = a as u128 * b as u128;
        return if take(1 << 64) == 1 { (product >> 64) as i128 } else { product as u64 as i128 };
    }
    take(a * b)
}

/// `add.cc` to `madc.hi.cc`: the sum, and what it leaves in the carry flag, which is not changed without `.cc`.
pub fn carries(form: &Form, text: &str) -> Checked {
    let mut op = Opcode::new(text);
    let writes = op.take("cc");
    let half = op.one_of(&["lo", "hi"]);
    let ty = op.ty();
    op.finish();
    let reads = matches!(op.name, "addc" | "subc" | "madc");
    let difference = op.name.starts_with("sub");
    let rows: Vec<[u64; 3]> =
        inputs(ty, 800).into_iter().flat_map(|[a, b, c]| [[a, b, c], [a, b, c ^ 1 << 40]]).collect();
    // The carry, or borrow, before: one bit of the third input, where only 64-bit sources see it.
    let before_bit = move |input: [u64; 3]| i128::from(input[2] >> 40 & 1);
    let set = if difference { "sub.cc.u32 %r12, 0, %r11;" } else { "add.cc.u32 %r12, %r11, -1;" };
    let before = format!("shr.u64 %rd12, %c, 40; cvt.u32.u64 %r11, %rd12; and.b32 %r11, %r11, 1; {set}");
    let result = move |input: [u64; 3], x: &[u64]| -> (u64, bool) {
        let plain = Ty { kind: Kind::Unsigned, ..ty };
        let sources: Vec<i128> = x.iter().map(|&bits| plain.integer(bits)).collect();
        let carry = if reads { before_bit(input) } else { 0 };
        let (a, b) = match half {
            None => (sources[0], sources[1]),
            Some(half) => {
                let shifted = |product: i128| if half == "hi" { product >> ty.bits } else { product };
                (plain.integer(plain.wrap(product_half(shifted, ty, ty.integer(x[0]), ty.integer(x[1])))), sources[2])
            }
        };
        let whole = if difference { a - b - carry } else { a + b + carry };
        (ty.wrap(whole), whole < 0 || whole >= 1 << ty.bits)
    };
    check_between(form, text, &rows, (&before, ""), move |input, x| Want::Bits(result(input, x).0))?;
    // The flag afterwards, in place of the result.
    let after = if difference { "subc.u32 %r10, 0, 0; and.b32 %r10, %r10, 1;" } else { "addc.u32 %r10, 0, 0;" };
    let after =
        if ty.bits == 64 { format!("{after} cvt.u64.u32 %d, %r10;") } else { format!("{after} mov.b32 %d32, %r10;") };
    check_between(form, text, &rows, (&before, &after), move |input, x| {
        let flag = if writes { result(input, x).1 } else { before_bit(input) != 0 };
        Want::Bits(u64::from(flag))
    })
}

/// The byte that a mode of `prmt` picks for each place: the manual's table, as rules.
fn picked(mode: Option<&str>, control: u64, place: u64) -> u64 {
    let n = control & 3;
    match mode {
        Some("f4e") => n + place,
        // Backwards from byte `n`, around the eight bytes.
        Some("b4e") => (n + 8 - place) % 8,
        Some("rc8") => n,
        Some("ecl") => n.max(place),
        Some("ecr") => n.min(place),
        Some("rc16") => 2 * (n & 1) + place % 2,
        _ => control >> (4 * place) & 7,
    }
}

/// Instructions on bits, and the rarer arithmetic.
pub fn bits(op: &mut Opcode<'_>) -> Option<Oracle> {
    Some(match op.name {
        "sad" => return integer(op),
        "mul24" | "mad24" => {
            let (high, saturates) = (op.one_of(&["lo", "hi"]) == Some("hi"), op.take("sat"));
            let ty = op.ty();
            let narrow = Ty { bits: 24, ..ty };
            Box::new(move |x| {
                let product = narrow.integer(x[0]) * narrow.integer(x[1]);
                // Of 48 bits the upper or the lower 32.
                let kept = ty.integer(ty.wrap(if high { product >> 16 } else { product }));
                let sum = kept + x.get(2).map_or(0, |&c| ty.integer(c));
                Want::Bits(ty.wrap(if saturates { sum.clamp(ty.range().0, ty.range().1) } else { sum }))
            })
        }
        "dp4a" | "dp2a" => {
            let high = op.one_of(&["lo", "hi"]) == Some("hi");
            let (first, second) = (op.ty(), op.ty());
            let size = if op.name == "dp4a" { 8 } else { 16 };
            Box::new(move |x| {
                let (a, b) = (Ty { bits: size, ..first }, Ty { bits: 8, ..second });
                let bytes = if high { x[1] >> 16 } else { x[1] };
                let products = parts(x[0], size).zip(parts(bytes, 8)).take(32 / size as usize);
                let sum = products.map(|(x, y)| a.integer(x) * b.integer(y)).sum::<i128>();
                Want::Bits((sum + i128::from(x[2])) as u32 as u64)
            })
        }
        "vabsdiff2" | "vabsdiff4" => {
            let adds = op.take("add");
            op.ty();
            op.ty();
            op.ty();
            let size = if op.name == "vabsdiff2" { 16 } else { 8 };
            Box::new(move |x| {
                let differences = parts(x[0], size).zip(parts(x[1], size)).take(32 / size as usize);
                let differences = differences.map(|(a, b)| a.max(b) - a.min(b));
                Want::Bits(if adds {
                    (x[2] + differences.sum::<u64>()) & 0xffff_ffff
                } else {
                    differences.enumerate().fold(0, |d, (index, part)| d | part << (size as usize * index))
                })
            })
        }
        "popc" | "clz" => {
            let ty = op.ty();
            let all = op.name == "popc";
            Box::new(move |x| {
                let places = (0..u64::from(ty.bits)).rev();
                let set = |&place: &u64| bit(x[0], place) == 1;
                Want::Bits(if all {
                    places.filter(set).count() as u64
                } else {
                    places.take_while(|place| !set(place)).count() as u64
                })
            })
        }
        "bfind" => {
            let shift = op.take("shiftamt");
            let ty = op.ty();
            Box::new(move |x| {
                let top = u64::from(ty.bits) - 1;
                // "For signed integers, bfind returns the bit position of the most significant 0 for
                // negative inputs and of the most significant 1 for non-negative inputs."
                let wanted = u64::from(!(ty.signed() && bit(x[0], top) == 1));
                let found = (0..=top).rev().find(|&place| bit(x[0], place) == wanted);
                Want::Bits(found.map_or(0xffff_ffff, |place| if shift { top - place } else { place }))
            })
        }
        "fns" => {
            op.ty();
            Box::new(|x| {
                let (mask, base, offset) = (x[0], x[1], i64::from(x[2] as u32 as i32));
                // The manual asks for a base below 32.
                if base > 31 {
                    return Want::Open;
                }
                if offset == 0 {
                    return Want::Bits(if bit(mask, base) == 1 { base } else { 0xffff_ffff });
                }
                let (mut place, mut left) = (base as i64, offset.abs() - 1);
                while (0..32).contains(&place) {
                    if bit(mask, place as u64) == 1 {
                        if left == 0 {
                            return Want::Bits(place as u64);
                        }
                        left -= 1;
                    }
                    place += offset.signum();
                }
                Want::Bits(0xffff_ffff)
            })
        }
        "brev" => {
            let ty = op.ty();
            Box::new(move |x| Want::Bits(assemble(ty.bits, |place| bit(x[0], u64::from(ty.bits) - 1 - place))))
        }
        "bfe" => {
            let ty = op.ty();
            Box::new(move |x| {
                let (position, length, top) = (x[1] & 0xff, x[2] & 0xff, u64::from(ty.bits) - 1);
                let sign = if !ty.signed() || length == 0 { 0 } else { bit(x[0], (position + length - 1).min(top)) };
                Want::Bits(assemble(ty.bits, |place| {
                    if place < length && position + place <= top { bit(x[0], position + place) } else { sign }
                }))
            })
        }
        "bfi" => {
            let ty = op.ty();
            Box::new(move |x| {
                let (position, length) = (x[2] & 0xff, x[3] & 0xff);
                Want::Bits(assemble(ty.bits, |place| {
                    let inside = place >= position && place - position < length;
                    if inside { bit(x[0], place - position) } else { bit(x[1], place) }
                }))
            })
        }
        "bmsk" => {
            let wrap = op.one_of(&["wrap", "clamp"]) == Some("wrap");
            op.ty();
            Box::new(move |x| {
                let (position, width) = if wrap { (x[0] & 31, x[1] & 31) } else { (x[0], x[1]) };
                Want::Bits(assemble(32, |place| u64::from(place >= position && place - position < width)))
            })
        }
        "szext" => {
            let wrap = op.one_of(&["wrap", "clamp"]) == Some("wrap");
            let ty = op.ty();
            Box::new(move |x| {
                let width = if wrap { x[1] & 31 } else { x[1].min(32) };
                let above = if ty.signed() && width > 0 { bit(x[0], width - 1) } else { 0 };
                Want::Bits(assemble(32, |place| if place < width { bit(x[0], place) } else { above }))
            })
        }
        "prmt" => {
            let mode = op.one_of(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
            op.ty();
            Box::new(move |x| {
                let all = x[0] | x[1] << 32;
                Want::Bits((0..4).fold(0, |d, place| {
                    let byte = all >> (8 * picked(mode, x[2], place)) & 0xff;
                    // The top bit of a selector replicates the sign of the byte.
                    let signs = mode.is_none() && bit(x[2], 4 * place + 3) == 1;
                    let byte = if signs { 0xff * (byte >> 7) } else { byte };
                    d | byte << (8 * place)
                }))
            })
        }
        _ => return None,
    })
}

/// `lop3` with every table.
pub fn tables(form: &Form, text: &str) -> Checked {
    let mut op = Opcode::new(text);
    let combine = op.one_of(&["or", "and"]);
    op.ty();
    op.finish();
    let rows: Vec<[u64; 3]> = inputs(Ty::parse("b32").unwrap(), 40)
        .into_iter()
        .enumerate()
        .map(|(index, [a, b, c])| [a, b ^ 0x5555, c & 0xffff_ffff | (index as u64 & 1) << 32])
        .collect();
    for table in 0..256u64 {
        let operands = form.operands.replace("0x96", &table.to_string());
        let form = Form { operands: operands.leak(), ..*form };
        let oracle: Oracle = Box::new(move |x| {
            let d = assemble(32, |place| bit(table, bit(x[0], place) << 2 | bit(x[1], place) << 1 | bit(x[2], place)));
            // The predicate source is the sixth operand.
            let predicate = match combine {
                None => 0,
                Some("or") => u64::from(d != 0 || x[4] == 1),
                Some(_) => u64::from(d != 0 && x[4] == 1),
            };
            Want::Bits(d | predicate << 32)
        });
        check(&form, text, &rows, &oracle)?;
    }
    Ok(())
}

pub fn logic(op: &mut Opcode<'_>) -> Option<Oracle> {
    let ty = op.ty();
    // A predicate is one bit.
    let width = ty.bits.max(1);
    type Gate = fn(u64, u64) -> u64;
    let gate: Gate = match op.name {
        "and" => |a, b| a * b,
        "or" => |a, b| a + b - a * b,
        "xor" => |a, b| a + b - 2 * a * b,
        "not" => |a, _| 1 - a,
        "cnot" => return Some(Box::new(|x| Want::Bits(u64::from(x[0] == 0)))),
        _ => return None,
    };
    Some(Box::new(move |x| {
        let second = x.get(1).copied().unwrap_or(0);
        Want::Bits(assemble(width, |place| gate(bit(x[0], place), bit(second, place))))
    }))
}

pub fn shift(op: &mut Opcode<'_>) -> Option<Oracle> {
    if op.name == "shf" {
        let left = op.one_of(&["l", "r"]) == Some("l");
        let wrap = op.one_of(&["wrap", "clamp"]) == Some("wrap");
        op.ty();
        return Some(Box::new(move |x| {
            let both = x[0] | x[1] << 32;
            let by = if wrap { x[2] & 31 } else { x[2].min(32) };
            // To the left the upper word of what is shifted counts, to the right the lower one.
            let first = if left { 32 - by } else { by };
            Want::Bits(assemble(32, |place| bit(both, first + place)))
        }));
    }
    let ty = op.ty();
    let left = op.name == "shl";
    // "Bit-size types are treated as unsigned"; amounts beyond the width are taken as the width.
    Some(Box::new(move |x| {
        let (by, top) = (x[1].min(64), u64::from(ty.bits) - 1);
        let fill = if ty.signed() { bit(x[0], top) } else { 0 };
        Want::Bits(assemble(ty.bits, |place| match left {
            true if place >= by => bit(x[0], place - by),
            true => 0,
            false if place + by <= top => bit(x[0], place + by),
            false => fill,
        }))
    }))
}
