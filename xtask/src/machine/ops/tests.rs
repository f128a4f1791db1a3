use super::*;
use crate::machine::sass;

/// Executes lines and returns a register of lane 5 of warp 2, block 3.
fn run(lines: &[&str], file: File, index: u8) -> Option<u32> {
    let code: String = lines.iter().map(|l| format!("/*0000*/  {l} ;\n")).collect();
    let functions = sass::parse(&format!(".section .text.k,\"ax\"\n{code}"));
    let mut constants = vec![None; 0x84 + 4];
    constants[0x84..].copy_from_slice(&[Some(1000), Some(1), Some(7), Some(0x8000_0000)]);
    let launch = Launch { constants, block_index: 3, warp: 2 };
    let mut registers = Registers::unknown();
    let active: Vec<usize> = (0..32).collect();
    for instruction in &functions[0].instructions {
        assert!(execute(instruction, &mut registers, &launch, &active), "{}", instruction.text);
    }
    registers.register(file, index, 5)
}

#[test]
fn uniform_datapath() {
    let code = [
        "ULDC.64 UR14, c[0x0][0x218]",
        "UIADD3 UR10, -UR14, URZ, URZ",
        "ULOP3.LUT UR10, UR10, 0xe, URZ, 0xc0, !UPT",
        "USHF.R.U64 UR10, UR10, 0x1, URZ",
        "UISETP.LT.U32.AND UP0, UPT, UR10, UR14, UPT",
        "UISETP.LT.U32.AND.EX UP0, UPT, URZ, UR15, UPT, UP0",
        "USEL UR10, UR10, UR14, UP0",
    ];
    let value = |lines: usize, index| run(&code[..lines], File::Uniform, index);
    assert_eq!((value(1, 14), value(1, 15)), (Some(7), Some(0x8000_0000)));
    assert_eq!((value(2, 10), value(3, 10), value(4, 10)), (Some(-7i32 as u32), Some(8), Some(4)));
    assert_eq!(value(7, 10), Some(4));
}

fn vector(lines: &[&str], index: u8) -> Option<u32> {
    run(lines, File::Vector, index)
}

#[test]
fn what_the_launch_fixes() {
    assert_eq!(vector(&["S2R R0, SR_TID.X"], 0), Some(69));
    assert_eq!(vector(&["S2R R0, SR_CTAID.X", "IMAD.WIDE.U32 R2, R0, 0x4, RZ"], 2), Some(12));
    assert_eq!(run(&["ULDC.64 UR4, c[0x0][0x210]"], File::Uniform, 5), Some(1));
    assert_eq!(run(&["LDCU.128 UR4, c[0x0][0x210]"], File::Uniform, 7), Some(0x8000_0000));
    assert_eq!(vector(&["LDC R4, c[0x0][0x208]"], 4), None);
    assert_eq!(vector(&["LDG.E R4, desc[UR4][R2.64]", "LOP3.LUT R5, R4, RZ, RZ, 0xc0, !PT"], 5), Some(0));
    assert_eq!(vector(&["HFMA2.MMA R5, -RZ, RZ, 1.875, 0"], 5), Some(0x3f80_0000));
}

#[test]
fn flags_beside_unknown_flags() {
    // P3 depends on data, P4 does not; both go into R4.
    let set = ["S2R R0, SR_TID.X", "ISETP.GT.AND P3, PT, R9, RZ, PT", "ISETP.GT.AND P4, PT, R0, RZ, PT", "MOV R4, RZ"];
    let with = |more: &[&str]| vector(&[&set[..], more].concat(), 5);
    let kept = ["@P3 LOP3.LUT R4, R4, 0x8, RZ, 0xfc, !PT", "@P4 LOP3.LUT R4, R4, 0x10, RZ, 0xfc, !PT"];
    let test = |bit| [kept[0], kept[1], bit, "SEL R5, RZ, 0x1, !P1"];
    assert_eq!(with(&test("LOP3.LUT P1, RZ, R4, 0x10, RZ, 0xc0, !PT")), Some(1));
    assert_eq!(with(&test("LOP3.LUT P1, RZ, R4, 0x4, RZ, 0xc0, !PT")), Some(0));
    assert_eq!(with(&test("LOP3.LUT P1, RZ, R4, 0x8, RZ, 0xc0, !PT")), None);
    assert_eq!(with(&["P2R R6, PR, RZ, 0x18", "LOP3.LUT R5, R6, 0x10, RZ, 0xc0, !PT"]), Some(16));
    assert_eq!(with(&["P2R R6, PR, RZ, 0x10", "R2P PR, R6, 0x12", "SEL R5, RZ, 0x1, P1"]), Some(1));
}

#[test]
fn wide_sums_carry() {
    let low = ["IMAD.MOV.U32 R2, RZ, RZ, -0x1", "IADD3 R4, P1, R2, 0x2, RZ"];
    let three = [low[0], low[1], "IADD3.X R5, RZ, 0x10, RZ, P1, !PT"];
    assert_eq!((vector(&low, 4), vector(&three, 5)), (Some(1), Some(0x11)));
    // a - a carries: the complement plus one is 2^32.
    assert_eq!(
        vector(&[low[0], "IADD3 R4, P1, PT, R2, -R2, RZ", "IADD3.X R5, PT, PT, RZ, RZ, RZ, P1, !PT"], 5),
        Some(1)
    );
    let long = ["MOV R2, 0xffffffff", "MOV R3, 0x1", "IADD.64 R4, R2, 0x1"];
    assert_eq!((vector(&long, 4), vector(&long, 5)), (Some(0), Some(2)));
}

#[test]
fn addresses() {
    let index = ["S2R R0, SR_TID.X", "MOV R1, 0x80000000", "MOV R2, 0x4"];
    let with = |line| vector(&[index[0], index[1], index[2], line], 4);
    assert_eq!(with("LEA R4, P0, R0, 0x10, 0x2"), Some(69 * 4 + 16));
    assert_eq!(with("LEA.HI R4, R1, R2, RZ, 0x1"), Some(5));
    assert_eq!(with("LEA.HI.X.SX32 R4, R1, R2, 0x1, !PT"), Some(3));
    assert_eq!(with("SHF.R.S32.HI R4, RZ, 0x1f, R1"), Some(u32::MAX));
    assert_eq!(with("SHF.L.U64.HI R4, R1, 0x1, R2"), Some(9));
    assert_eq!(with("SHF.R.U64 R4, R1, 0x1, R2"), Some(0x4000_0000));
    assert_eq!(with("PRMT R4, R0, 0x5410, R1"), Some(69));
    assert_eq!(with("SEL R4, R0, R2, !PT"), Some(4));
    assert_eq!(with("VIMNMX R4, PT, PT, R1, R2, PT"), Some(0x8000_0000));
    assert_eq!(with("VIMNMX.U32 R4, R1, R2, PT"), Some(4));
}

#[test]
fn comparisons_settle_what_they_can() {
    let flag = |line: &str| vector(&["S2R R0, SR_TID.X", line, "SEL R1, RZ, 0x1, !P0"], 1);
    assert_eq!(flag("ISETP.GE.U32.AND P0, PT, R0, 0x45, PT"), Some(1));
    // R9 is unknown, but true or-ed with it is true.
    assert_eq!(flag("ISETP.GT.OR P0, PT, R9, RZ, PT"), Some(1));
    assert_eq!(flag("ISETP.GT.AND P0, PT, R9, RZ, PT"), None);
    assert_eq!(flag("ISETP.NE.AND.EX P0, PT, RZ, RZ, PT, PT"), Some(1));
    assert_eq!(flag("FSETP.GEU.AND P0, PT, 1e-7, 9.3132257461547851562e-10, PT"), Some(1));
    assert_eq!(flag("PLOP3.LUT P0, PT, P5, !PT, PT, 0xa8, 0x0"), None);
    assert_eq!(flag("PLOP3.LUT P0, PT, PT, PT, P5, 0xc0, 0x0"), Some(1));
}

#[test]
fn integer_division_goes_through_floating_point() {
    let quotient = [
        "MOV R0, 0x7",
        "I2F.U32.RP R1, R0",
        "MUFU.RCP R1, R1",
        "VIADD R2, R1, 0xffffffe",
        "F2I.FTZ.U32.TRUNC.NTZ R3, R2",
    ];
    // A little below 2^32 / 7.
    let found = vector(&quotient, 3).expect("a known value");
    assert!(found <= 613_566_756 && found > 613_566_000, "{found}");
}
