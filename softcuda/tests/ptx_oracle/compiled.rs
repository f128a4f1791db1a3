//! CUDA's intrinsics as NVRTC compiles them (ptx/semantics.cu), against the oracles of the instructions that
//! the source says they are.

use softcuda::exec::{LaunchShape, Module, run};
use softcuda::lower::table::INSTRUCTIONS;

use crate::opcode::{Opcode, Oracle, Ty, inputs};
use crate::oracle;
use crate::ptx_support::Device;

const SOURCE: &str = include_str!("../ptx/semantics.cu");

/// What was compiled how: with `--ftz=true` or not.
const COMPILED: [(&str, bool, &str); 3] = [
    ("12.1 sm_80", false, include_str!("../ptx/semantics.12.1-sm_80.ptx")),
    ("12.1 sm_80 --ftz=true", true, include_str!("../ptx/semantics.12.1-sm_80-ftz.ptx")),
    ("13.5 sm_100", false, include_str!("../ptx/semantics.13.5-sm_100.ptx")),
];

/// A line of the source: what it says, the instruction, and which bits of a third operand count.
struct Line {
    text: &'static str,
    opcode: String,
    third: u64,
}

fn lines(ftz: bool) -> Vec<Line> {
    let marked = SOURCE.lines().filter_map(|line| line.trim().rsplit_once(" // "));
    let lines = marked.map(|(text, opcode)| {
        let (opcode, third) = match opcode.split_once(" &0x") {
            Some((opcode, mask)) => (opcode, u64::from_str_radix(mask, 16).unwrap()),
            None => (opcode, u64::MAX),
        };
        // Everything on f32 flushes, but for what comes from integers.
        let single = opcode.ends_with("f32") || opcode.ends_with("f32.f64");
        let opcode = if ftz && single { flushing(opcode) } else { opcode.to_owned() };
        Line { text, opcode, third }
    });
    lines.collect()
}

/// The same opcode with `.ftz`, which stands before `.sat` and the types.
fn flushing(opcode: &str) -> String {
    let mut parts: Vec<&str> = opcode.split('.').collect();
    let at = parts.iter().position(|part| *part == "sat" || Ty::parse(part).is_some()).unwrap();
    parts.insert(at, "ftz");
    parts.join(".")
}

/// The oracle of an opcode, how many sources it has, and their size; that of the third may be twice as large.
fn oracle_of(text: &str) -> (Oracle, usize, u32, bool) {
    let name = text.split('.').next().unwrap();
    let instruction = INSTRUCTIONS.iter().find(|instruction| instruction.name == name).unwrap();
    let form = instruction.forms.iter().find(|form| form.opcodes().iter().any(|opcode| opcode == text));
    let form = form.unwrap_or_else(|| panic!("{text} is not in the table"));
    let mut op = Opcode::new(text);
    let (register, wide) = (op.types().last().unwrap().register(), op.has("wide"));
    let oracle = oracle(instruction.family, form, &mut op).unwrap();
    op.finish();
    (oracle, form.operands.split(", ").count() - 1, register, wide)
}

#[test]
fn intrinsics_are_the_instructions_that_they_should_be() {
    let rows: Vec<[u64; 3]> = ["f32", "f64", "u64"].iter().flat_map(|ty| inputs(Ty::parse(ty).unwrap(), 300)).collect();
    for (name, ftz, text) in COMPILED {
        let lines = lines(ftz);
        assert!(lines.len() > 100, "{}", lines.len());
        let device = Device::new();
        let module = Module::load(text, &device.memory).unwrap_or_else(|error| panic!("{name}: {error}"));
        let flat: Vec<u64> = rows.iter().flatten().copied().collect();
        let (from, to) = (device.upload(&flat), device.upload(&vec![0u64; rows.len() * lines.len()]));
        let grid = rows.len().div_ceil(64) as u32;
        let shape = LaunchShape { grid: [grid, 1, 1], block: [64, 1, 1], cluster: [1; 3], dynamic_shared: 0 };
        let mut params = [to.to_le_bytes(), from.to_le_bytes()].concat();
        params.extend((rows.len() as u32).to_le_bytes());
        params.extend((lines.len() as u32).to_le_bytes());
        let entry = module.entry("semantics").unwrap();
        run(&module, entry, &shape, &params, &device.memory, &device.config)
            .unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let results = device.download::<u64>(to, rows.len() * lines.len());
        let mut wrong = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let (oracle, count, register, wide) = oracle_of(&line.opcode);
            let cut = |value: u64, bits: u32| value & u64::MAX >> (64 - bits);
            let failure = rows.iter().enumerate().find_map(|(row, &[a, b, c])| {
                let third = cut(c & line.third, if wide { 64 } else { register });
                let want = oracle(&[cut(a, register), cut(b, register), third][..count]);
                let got = results[row * lines.len() + index];
                (!want.accepts(got)).then(|| {
                    format!("{} ({}) of {a:#x}, {b:#x}, {c:#x}: {got:#x}, not {want:x?}", line.text, line.opcode)
                })
            });
            wrong.extend(failure);
        }
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
}
