//! The table of instructions: all that it lists loads, and the documentation says what it says.

mod ptx_support;

use ptx_support::kernel_with;
use softcuda::exec::{LoadErrorKind, Module};
use softcuda::lower::table::{INSTRUCTIONS, markdown};
use softcuda::memory::Memory;

const FUNCTION: &str = ".func (.reg .b32 %o) function(.reg .b32 %i) { mov.b32 %o, %i; ret; }";

fn load(instruction: &str, memory: &Memory) -> Result<(), softcuda::exec::LoadError> {
    let body = format!(
        "mov.u64 %rd9, function; LABEL: {instruction}
         TABLE: .branchtargets LABEL; prototype: .callprototype (.reg .b32 _) _ (.reg .b32 _);"
    );
    let module = Module::load(&kernel_with(FUNCTION, &body), memory)?;
    module.unload(memory);
    Ok(())
}

#[test]
fn every_listed_form_loads() {
    let memory = Memory::new(1 << 30);
    let mut count = 0;
    for form in INSTRUCTIONS.iter().flat_map(|instruction| instruction.forms) {
        for opcode in form.opcodes() {
            let instruction = form.instance(&opcode);
            load(&instruction, &memory).unwrap_or_else(|error| panic!("{instruction} {error}"));
            count += 1;
        }
    }
    assert!(count > 3000, "{count} opcodes");
}

/// No modifier is ignored: with one that does not exist, every form is refused.
#[test]
fn no_listed_form_loads_with_another_modifier() {
    let memory = Memory::new(1 << 30);
    for instruction in INSTRUCTIONS {
        for form in instruction.forms {
            let opcode = form.opcodes().pop().unwrap();
            let wrong = form.instance(&opcode).replacen(&opcode, &format!("{opcode}.frob"), 1);
            let error = load(&wrong, &memory).expect_err(&wrong);
            assert_eq!(error.kind, LoadErrorKind::Unsupported, "{wrong} {error}");
            assert!(error.what.contains(&format!("`{opcode}.frob`")), "{wrong} {error}");
        }
    }
}

#[test]
fn what_is_not_listed_is_refused_by_name() {
    let memory = Memory::new(1 << 30);
    for name in ["wgmma", "mma", "tex", "tcgen05", "ldmatrix", "multimem", "alloca", "vadd", "suld", "setmaxnreg"] {
        assert!(INSTRUCTIONS.iter().all(|instruction| instruction.name != name));
        let error = load(&format!("{name}.sync %r1, %r2;"), &memory).unwrap_err();
        assert_eq!(error.kind, LoadErrorKind::Unsupported);
        assert!(error.what.contains(&format!("`{name}.sync`")), "{error}");
    }
}

#[test]
fn the_table_is_in_order() {
    let mut names: Vec<&str> = INSTRUCTIONS.iter().map(|instruction| instruction.name).collect();
    for instruction in INSTRUCTIONS {
        assert!(!instruction.forms.is_empty(), "{}", instruction.name);
        for opcode in instruction.forms.iter().flat_map(|form| form.opcodes()) {
            assert_eq!(opcode.split('.').next(), Some(instruction.name));
            assert!(!opcode.contains(['[', ']', '{', '}', '/']), "{opcode}");
        }
    }
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "an instruction is listed twice");
}

/// `SOFTCUDA_BLESS=1` writes the file anew.
#[test]
fn the_documentation_is_generated_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/PTX.md");
    if std::env::var_os("SOFTCUDA_BLESS").is_some() {
        std::fs::write(path, markdown()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == markdown(), "{path} is stale: run this test with SOFTCUDA_BLESS=1");
}
