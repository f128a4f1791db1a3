//! Every instruction of the table against an oracle of its own, on edge cases crossed and on random inputs.
//! The oracles are written from the PTX manual and IEEE 754 and share nothing with the interpreter: integers
//! in 128 bits, fields bit by bit, floats by exact comparison of the real result with the numbers around it.
//!
//! The table itself says what runs: a form for which there is no oracle fails the test of its section.

#[path = "../ptx_support/mod.rs"]
mod ptx_support;

mod compare;
mod convert;
mod exact;
mod floats;
mod integers;
mod opcode;

use opcode::{Checked, Kind, Opcode, Oracle, Ty, check, inputs};
use softcuda::lower::table::{Family, Form, INSTRUCTIONS, Instruction};

fn rows(families: &[Family]) -> Vec<(&'static Instruction, &'static Form)> {
    let all = INSTRUCTIONS.iter().filter(|instruction| families.contains(&instruction.family));
    all.flat_map(|instruction| instruction.forms.iter().map(move |form| (instruction, form))).collect()
}

/// The oracle of an opcode whose result depends on its sources alone.
fn oracle(family: Family, form: &Form, op: &mut Opcode<'_>) -> Option<Oracle> {
    let float = op.types().last().is_some_and(|ty| ty.format().is_some());
    match family {
        Family::Arithmetic if op.name == "div" && float => floats::special(op),
        Family::Arithmetic if float => floats::float(op),
        Family::Arithmetic => integers::integer(op),
        Family::SpecialFunction => floats::special(op),
        Family::CopySign => floats::copysign(op),
        Family::Bits => integers::bits(op),
        Family::Logic => integers::logic(op),
        Family::Shift => integers::shift(op),
        Family::Setp => compare::setp(op, form.operands.starts_with("%p1|")),
        Family::Set => compare::set(op),
        Family::Selp => compare::selp(op),
        Family::Slct => compare::slct(op),
        Family::Testp => compare::testp(op),
        Family::Cvt => convert::cvt(op),
        _ => None,
    }
}

/// Inputs that suit an opcode's sources.
fn rows_of_inputs(op: &Opcode<'_>) -> Vec<[u64; 3]> {
    let types = op.types();
    let last = *types.last().unwrap();
    // What is selected by is the last type, what is selected has no meaning.
    let ty = match last.kind {
        Kind::Pred => Ty::parse("b32").unwrap(),
        _ => last,
    };
    let random = match ty.format() {
        Some(format) if format == exact::F64 => 400,
        Some(_) => 800,
        None => 1200,
    };
    let mut all = inputs(ty, random);
    if matches!(op.name, "bfi" | "bfe" | "fns" | "shf" | "slct") {
        // Fields and amounts come from the second and third input: all edges there too.
        let edges = inputs(Ty::parse("u32").unwrap(), 1200);
        for (row, other) in all.iter_mut().zip(edges) {
            let c = if op.name == "slct" { row[2] } else { other[0] & 0xffff_ffff };
            row[2] = c & 0xffff_ffff | other[1] << 32;
        }
    }
    all
}

/// One opcode of a form against its oracle.
fn checked(instruction: &Instruction, form: &Form, text: &str) -> Checked {
    if instruction.name == "lop3" {
        return integers::tables(form, text);
    }
    if text.split('.').any(|part| part == "cc") || matches!(instruction.name, "addc" | "subc" | "madc") {
        return integers::carries(form, text);
    }
    let mut op = Opcode::new(text);
    let inputs = rows_of_inputs(&op);
    let oracle = oracle(instruction.family, form, &mut op).ok_or_else(|| format!("{text} has no oracle"))?;
    op.finish();
    check(form, text, &inputs, &oracle)
}

fn run(families: &[Family]) {
    let mut opcodes = 0;
    let mut wrong = Vec::new();
    for (instruction, form) in rows(families) {
        for text in form.opcodes() {
            opcodes += 1;
            wrong.extend(checked(instruction, form, &text).err());
        }
    }
    println!("{opcodes} opcodes");
    assert!(opcodes > 0 && wrong.is_empty(), "{} opcodes are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn arithmetic() {
    run(&[Family::Arithmetic]);
}

#[test]
fn special_functions() {
    run(&[Family::SpecialFunction, Family::CopySign]);
}

#[test]
fn bits_and_shifts() {
    run(&[Family::Bits, Family::Logic, Family::Shift]);
}

#[test]
fn comparisons_and_selections() {
    run(&[Family::Setp, Family::Set, Family::Selp, Family::Slct, Family::Testp]);
}

#[test]
fn conversions() {
    run(&[Family::Cvt]);
}
