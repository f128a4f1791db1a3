//! Every instruction of the table against an oracle of its own, on edge cases crossed and on random inputs.
//! The oracles are written from the PTX manual and IEEE 754 and share nothing with the interpreter: integers
//! in 128 bits, fields bit by bit, floats by exact comparison of the real result with the numbers around it.
//!
//! The table itself says what runs: a form for which there is no oracle fails the test of its section.

#[path = "../ptx_support/mod.rs"]
mod ptx_support;

mod asynchronous;
mod compare;
mod compiled;
mod convert;
mod exact;
mod floats;
mod integers;
mod memory;
mod moves;
mod opcode;
mod script;
mod sync;
mod warp;

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
    match instruction.family {
        Family::Load => return memory::load(form, text),
        Family::Store if text.contains("async") => return asynchronous::store_async(form, text),
        Family::Store => return memory::store(form, text),
        Family::Atomic if text.contains("async") => return asynchronous::reduce_async(form, text),
        Family::Atomic => return memory::atomic(form, text),
        Family::CopyAsync => return asynchronous::copy(form, text),
        Family::CacheHint => return asynchronous::hint(form, text),
        Family::Mov => return moves::mov(form, text),
        Family::Cvta => return moves::cvta(form, text),
        Family::IsSpacep => return moves::isspacep(form, text),
        Family::Branch | Family::Call => return sync::branch(form, text),
        Family::Synchronise => return sync::synchronise(form, text),
        Family::Mbarrier => return sync::mbarrier(form, text),
        Family::ClusterAddress => return sync::cluster_address(form, text),
        Family::Warp => return warp::check(form, text),
        _ => {}
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

/// A test for each section, and the list of what each of them runs.
macro_rules! sections {
    ($($name:ident: $($family:ident)*;)*) => {
        $(#[test]
        fn $name() {
            run(&[$(Family::$family),*]);
        })*

        const SECTIONS: &[(&str, &[Family])] = &[$((stringify!($name), &[$(Family::$family),*])),*];
    };
}

sections! {
    arithmetic: Arithmetic;
    special_functions: SpecialFunction CopySign;
    bits_and_shifts: Bits Logic Shift;
    comparisons_and_selections: Setp Set Selp Slct Testp;
    conversions: Cvt;
    moves_and_addresses: Mov Cvta IsSpacep ClusterAddress;
    loads_and_stores: Load Store;
    atomic_operations: Atomic;
    asynchronous_copies_and_hints: CopyAsync CacheHint;
    control_flow: Branch Call;
    synchronisation: Synchronise Mbarrier;
    lanes_of_a_warp: Warp;
}

/// Every form of the table is run by one test here, which fails if it finds no oracle for it.
#[test]
fn every_row_has_its_test() {
    for instruction in INSTRUCTIONS {
        let tests = SECTIONS.iter().filter(|(_, families)| families.contains(&instruction.family));
        let tests: Vec<&str> = tests.map(|(name, _)| *name).collect();
        assert_eq!(tests.len(), 1, "{} is run by {tests:?}", instruction.name);
        assert!(instruction.forms.iter().all(|form| !form.opcodes().is_empty()), "{}", instruction.name);
    }
}

/// An opcode that the table gets, and the oracles do not know, fails.
#[test]
fn an_unknown_opcode_has_no_oracle() {
    for (name, text, operands) in [
        ("add", "addx.u32", "T, T, T"),
        ("add", "add.frob.u32", "T, T, T"),
        ("cvt", "cvt.rn.e5m2.f32", "F, T"),
        ("membar", "nofence.gl", ""),
        ("mbarrier", "mbarrier.frob.b64", "[%rd1], %r1"),
        ("shfl", "shift.sync.b32", "%r1, %r2, -1"),
        ("ld", "ld.frob.u32", "T, [%rd1]"),
    ] {
        let instruction = INSTRUCTIONS.iter().find(|instruction| instruction.name == name).unwrap();
        let form = Form { opcode: text, operands, since: "" };
        // Some say so in a panic.
        let result = std::panic::catch_unwind(|| checked(instruction, &form, text));
        assert!(!matches!(result, Ok(Ok(()))), "{text}");
    }
}

/// Where the host has the same operations, the search among all numbers agrees with it.
#[test]
fn exact_results_are_those_of_the_host() {
    use exact::{BF16, F16, F32, F64, Round, Value};
    let mut rng = ptx_support::Random(5);
    for row in inputs(Ty::parse("f64").unwrap(), 3000) {
        let [a, b, c] = row.map(f64::from_bits);
        let [x, y, z] = row.map(|bits| F64.value(bits));
        let same = |got: u64, host: f64| assert!(got == host.to_bits() || host.is_nan() && F64.is_nan(got), "{row:x?}");
        same(F64.add(x, y, Round::Even), a + b);
        same(F64.multiply(x, y, Round::Even), a * b);
        same(F64.divide(x, y, Round::Even), a / b);
        same(F64.fma([x, y, z], Round::Even), a.mul_add(b, c));
        same(F64.square_root(x, Round::Even), a.sqrt());
        let narrow = F32.convert(x, Round::Even);
        assert!(narrow == u64::from((a as f32).to_bits()) || a.is_nan(), "{row:x?}");
        assert!(F16.convert(x, Round::Even) == u64::from(half::f16::from_f64(a).to_bits()) || a.is_nan(), "{row:x?}");
        // Rounded down and up, a number is between the two.
        let wide = Value::Finite(exact::Term::integer(i128::from(rng.next())));
        let [low, near, high] = [Round::Down, Round::Even, Round::Up].map(|round| BF16.convert(wide, round));
        assert!(low <= near && near <= high && high - low <= 1, "{low:x} {near:x} {high:x}");
    }
}
