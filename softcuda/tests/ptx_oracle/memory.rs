//! What loads, stores and atomic operations must move, byte by byte, in every space that an address can be in.

use softcuda::lower::table::Form;

use crate::exact::{F32, Format, Round};
use crate::floats::{extremum, with_payloads};
use crate::opcode::{Checked, Opcode, Ty, Want, inputs};
use crate::ptx_support::{Device, Random, kernel_with};

const THREADS: usize = 3;
/// Bytes that each thread has for itself.
const SLOT: usize = 64;

/// Modifiers that say how caches behave, or order accesses of several threads: one thread alone sees no
/// difference (tests of races and schedules do).
const WITHOUT_EFFECT: [&str; 25] = [
    "weak",
    "volatile",
    "relaxed",
    "acquire",
    "release",
    "acq_rel",
    "cta",
    "cluster",
    "gpu",
    "sys",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "nc",
    "L1::no_allocate",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L2::cache_hint",
    "noftz",
    "async",
];

/// Where an address points and how it gets there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Global,
    Shared,
    Local,
    Const,
    Param,
}

struct Access {
    /// Elements, and the type of each.
    count: usize,
    ty: Ty,
    place: Option<Place>,
    operation: Option<&'static str>,
}

const OPERATIONS: [&str; 10] = ["add", "min", "max", "and", "or", "xor", "exch", "inc", "dec", "cas"];

fn access(op: &mut Opcode<'_>) -> Access {
    let place = op.one_of(&["global", "shared", "shared::cta", "shared::cluster", "local", "const", "param"]);
    let place = place.map(|name| match name {
        "global" => Place::Global,
        "local" => Place::Local,
        "const" => Place::Const,
        "param" => Place::Param,
        _ => Place::Shared,
    });
    let count = op.one_of(&["v2", "v4", "v8"]).map_or(1, |vector| vector[1..].parse().unwrap());
    let operation = op.one_of(&OPERATIONS);
    while op.one_of(&WITHOUT_EFFECT).is_some() {}
    Access { count, ty: op.ty(), place, operation }
}

/// The registers of a vector or of its one element: by size, from a number on.
fn registers(ty: Ty, count: usize, first: usize) -> Vec<String> {
    let letter = match ty.register() {
        16 => "%h",
        32 => "%r",
        _ => "%rd",
    };
    (first..first + count).map(|index| format!("{letter}{index}")).collect()
}

fn vector(names: &[String]) -> String {
    if names.len() == 1 { names[0].clone() } else { format!("{{{}}}", names.join(", ")) }
}

/// The instruction with the operands of its form: the table's address, and these registers.
fn instruction(form: &Form, text: &str, names: &[String], second: Option<&[String]>) -> String {
    let mut vectors = [Some(names), second].into_iter().flatten();
    let operands: Vec<String> = form
        .operands
        .split(", ")
        .map(|word| match word {
            "T" | "V" => vector(vectors.next().unwrap_or(names)),
            "%rd2" => "%rd9".to_owned(),
            other => other.to_owned(),
        })
        .collect();
    format!("{text} {};", operands.join(", "))
}

/// Instructions that leave in `%rd1` and `%r1` the address of this thread's slot, for an access in a space or
/// by a generic address; the slot has 64 bytes of the input at `p0`, or all bits but one if it is to be written.
fn address(place: Place, generic: bool, fills: bool) -> String {
    let begin = "ld.param.u64 %rd20, [p0]; ld.param.u64 %rd21, [p1]; mov.u32 %r50, %tid.x; mov.u64 %rd9, 0;
        mul.wide.u32 %rd22, %r50, 64; add.s64 %rd20, %rd20, %rd22;";
    let own = match place {
        Place::Global if fills => "ld.param.u64 %rd1, [p2]; add.s64 %rd1, %rd1, %rd22; cvt.u32.u64 %r1, %rd1;",
        Place::Global => "mov.u64 %rd1, %rd20; cvt.u32.u64 %r1, %rd1;",
        Place::Shared => "mov.u64 %rd1, tile; add.s64 %rd1, %rd1, %rd22; cvt.u32.u64 %r1, %rd1;",
        Place::Local => "mov.u64 %rd1, own; cvt.u32.u64 %r1, %rd1;",
        Place::Const => "mov.u64 %rd1, table; add.s64 %rd1, %rd1, %rd22;",
        Place::Param => "mov.u64 %rd1, p3;",
    };
    let space = match place {
        Place::Global => "global",
        Place::Shared => "shared",
        Place::Local => "local",
        Place::Const => "const",
        Place::Param => "param",
    };
    let mut text = format!("{begin} {own}");
    if matches!(place, Place::Shared | Place::Local) || fills {
        for offset in (0..SLOT).step_by(8) {
            text += &match fills {
                true => format!("st.{space}.u64 [%rd1+{offset}], 0xeeeeeeeeeeeeeeee;"),
                false => {
                    format!("ld.global.u64 %rd23, [%rd20+{offset}]; st.{space}.u64 [%rd1+{offset}], %rd23;")
                }
            };
        }
    }
    if generic {
        text += &format!("cvta.{space}.u64 %rd1, %rd1;");
    }
    text
}

fn declarations(data: &[u8]) -> String {
    let bytes: Vec<String> = data.iter().map(u8::to_string).collect();
    format!(
        ".shared .align 64 .b8 tile[{}]; .const .align 64 .b8 table[{}] = {{{}}};",
        THREADS * SLOT,
        data.len(),
        bytes.join(", ")
    )
}

fn random_bytes() -> Vec<u8> {
    let mut rng = Random(11);
    (0..THREADS * SLOT / 8).flat_map(|_| rng.next().to_le_bytes()).collect()
}

/// The spaces in which an access without one is tried, by a generic address.
fn places(access: &Access, text: &str) -> Vec<(Place, bool)> {
    match access.place {
        Some(place) => vec![(place, false)],
        None if text.contains(".nc") => vec![(Place::Global, true)],
        None if access.operation.is_some() => vec![(Place::Global, true), (Place::Shared, true)],
        None => vec![(Place::Global, true), (Place::Shared, true), (Place::Local, true)],
    }
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// The table's address of a form may have an offset.
fn offset(form: &Form) -> usize {
    if form.operands.contains("+16") { 16 } else { 0 }
}

pub fn load(form: &Form, text: &str) -> Checked {
    let mut op = Opcode::new(text);
    let access = access(&mut op);
    op.finish();
    let (ty, count) = (access.ty, access.count);
    let data = random_bytes();
    for (place, generic) in places(&access, text) {
        let device = Device::new();
        let (input, out) = (device.upload(&data), device.upload(&[0u64; THREADS * 8]));
        let names = registers(ty, count, 10);
        let load = instruction(form, text, &names, None);
        let load = if place == Place::Param { load.replace("[%rd1]", "[p3]") } else { load };
        let mut body = format!(
            ".local .align 64 .b8 own[64]; {} {load} mul.wide.u32 %rd24, %r50, 64; add.s64 %rd21, %rd21, %rd24;",
            address(place, generic, false)
        );
        for (index, name) in names.iter().enumerate() {
            body += &match ty.register() {
                64 => format!("st.global.u64 [%rd21+{}], {name};", 8 * index),
                bits => format!("cvt.u64.u{bits} %rd25, {name}; st.global.u64 [%rd21+{}], %rd25;", 8 * index),
            };
        }
        let own = 0x1234_5678_9abc_def0u64;
        let kernel = kernel_with(&declarations(&data), &body);
        let result = device.launch(&kernel, 1, THREADS as u32, &[input, out, 0, own]);
        result.map_err(|fault| format!("{text} in {place:?}: {fault}"))?;
        let got = device.download::<u64>(out, THREADS * 8);
        for thread in 0..THREADS {
            for element in 0..count {
                let size = ty.bits as usize / 8;
                let start = thread * SLOT + offset(form) + element * size;
                let bits = match place {
                    Place::Param => own & ty.mask(),
                    _ => word(&data[start..start + size]),
                };
                // "The value is sign-extended to the destination for signed types, else zero-extended."
                let wanted = ty.integer(bits) as u64 & u64::MAX >> (64 - ty.register());
                let found = got[thread * 8 + element];
                if found != wanted {
                    return Err(format!("{text} in {place:?}: element {element} is {found:#x}, not {wanted:#x}"));
                }
            }
        }
    }
    Ok(())
}

pub fn store(form: &Form, text: &str) -> Checked {
    let mut op = Opcode::new(text);
    let access = access(&mut op);
    op.finish();
    let (ty, count) = (access.ty, access.count);
    let data = random_bytes();
    for (place, generic) in places(&access, text) {
        let device = Device::new();
        let (input, out) = (device.upload(&data), device.upload(&[0u8; THREADS * SLOT]));
        let target = device.upload(&[0u8; THREADS * SLOT]);
        let names = registers(ty, count, 10);
        let mut body = format!(".local .align 64 .b8 own[64]; {}", address(place, generic, true));
        for (index, name) in names.iter().enumerate() {
            let bits = ty.register();
            body += &match bits {
                64 => format!("ld.global.u64 {name}, [%rd20+{}];", 8 * index),
                _ => format!("ld.global.u64 %rd25, [%rd20+{}]; cvt.u{bits}.u64 {name}, %rd25;", 8 * index),
            };
        }
        body += &instruction(form, text, &names, None);
        body += "mul.wide.u32 %rd24, %r50, 64; add.s64 %rd21, %rd21, %rd24;";
        let space = if generic { "" } else { [".global", ".shared", ".local"][place as usize] };
        for byte in 0..SLOT {
            body += &format!("ld{space}.u8 %r49, [%rd1+{byte}]; st.global.u8 [%rd21+{byte}], %r49;");
        }
        let result =
            device.launch(&kernel_with(&declarations(&data), &body), 1, THREADS as u32, &[input, out, target, 0]);
        result.map_err(|fault| format!("{text} in {place:?}: {fault}"))?;
        let got = device.download::<u8>(out, THREADS * SLOT);
        let mut wanted = vec![0xee; THREADS * SLOT];
        for thread in 0..THREADS {
            for element in 0..count {
                let (size, from) = (ty.bits as usize / 8, thread * SLOT + 8 * element);
                let to = thread * SLOT + offset(form) + element * size;
                wanted[to..to + size].copy_from_slice(&data[from..from + size]);
            }
        }
        if got != wanted {
            return Err(format!("{text} in {place:?}: {got:x?}, not {wanted:x?}"));
        }
    }
    Ok(())
}

/// What an atomic operation leaves in memory.
pub fn updated(operation: &str, ty: Ty, ftz: bool, old: u64, a: u64, b: u64) -> Want {
    if let Some(format) = ty.format() {
        let one = |old: u64, a: u64| float_update(operation, format, ftz, old, a);
        if format.bits() == 64 {
            return with_payloads(&[old, a], one(old, a));
        }
        let width = format.bits();
        let part = |index: u32| one(old >> (index * width) & ty.mask(), a >> (index * width) & ty.mask());
        return Want::Bits((0..ty.parts).fold(0, |all, index| all | part(index) << (index * width)));
    }
    let (x, y) = (ty.integer(old), ty.integer(a));
    Want::Bits(ty.wrap(match operation {
        "add" => x + y,
        "min" => x.min(y),
        "max" => x.max(y),
        "and" => x & y,
        "or" => x | y,
        "xor" => x ^ y,
        "exch" => y,
        // "inc: (old >= b) ? 0 : old+1; dec: (old == 0) || (old > b) ? b : old-1"
        "inc" => {
            if x >= y {
                0
            } else {
                x + 1
            }
        }
        "dec" => {
            if x == 0 || x > y {
                y
            } else {
                x - 1
            }
        }
        "cas" => {
            if x == y {
                ty.integer(b)
            } else {
                x
            }
        }
        _ => panic!("no operation {operation}"),
    }))
}

fn float_update(operation: &str, format: Format, ftz: bool, old: u64, a: u64) -> u64 {
    let (old, a) = (format.flush(ftz, old), format.flush(ftz, a));
    match operation {
        "add" => format.flush(ftz, format.add(format.value(old), format.value(a), Round::Even)),
        _ => match extremum(format, operation == "max", false, old, a) {
            result if format.is_nan(result) => format.nan(),
            result => result,
        },
    }
}

pub fn atomic(form: &Form, text: &str) -> Checked {
    const BLOCK: usize = 64;
    let mut op = Opcode::new(text);
    let returns = op.name == "atom";
    let access = access(&mut op);
    op.finish();
    let (ty, count, operation) = (access.ty, access.count, access.operation.unwrap());
    let size = (ty.bits * ty.parts) as usize / 8;
    let mut rows = inputs(ty, 600);
    if operation == "cas" {
        // Half of the comparisons succeed.
        rows.iter_mut().step_by(2).for_each(|row| row[1] = row[0]);
    }
    rows.truncate(rows.len() / (BLOCK * count) * BLOCK * count);
    let cut = u64::MAX >> (64 - 8 * size);
    rows.iter_mut().flatten().for_each(|value| *value &= cut);
    let threads = rows.len() / count;
    for (place, generic) in places(&access, text) {
        let device = Device::new();
        let olds: Vec<u8> = rows.iter().flat_map(|row| row[0].to_le_bytes()[..size].to_vec()).collect();
        let operands: Vec<u64> = rows.iter().flat_map(|row| [row[1], row[2]]).collect();
        let (memory, operands) = (device.upload(&olds), device.upload(&operands));
        let returned = device.upload(&vec![0u64; rows.len()]);
        let slot = size * count;
        let (sources, targets) = (registers(ty, count, 10), registers(ty, count, 20));
        let mut body = format!(
            "ld.param.u64 %rd40, [p0]; ld.param.u64 %rd41, [p1]; ld.param.u64 %rd42, [p2]; mov.u32 %r50, %tid.x;
             mov.u32 %r51, %ctaid.x; mad.lo.u32 %r52, %r51, {BLOCK}, %r50; mad.wide.u32 %rd40, %r52, {slot}, %rd40;
             mad.wide.u32 %rd41, %r52, {}, %rd41; mad.wide.u32 %rd42, %r52, {}, %rd42;",
            16 * count,
            8 * count
        );
        let unit = size.min(8) * 8;
        let moving = if unit == 16 {
            "%h1"
        } else if unit == 32 {
            "%r53"
        } else {
            "%rd43"
        };
        let copy = |from: &str, to: &str, element: usize| {
            format!(
                "ld.{from}.b{unit} {moving}, [{}+{at}]; st.{to}.b{unit} [{}+{at}], {moving};",
                if from == "global" { "%rd40" } else { "%rd1" },
                if to == "global" { "%rd40" } else { "%rd1" },
                at = element * size
            )
        };
        if place == Place::Shared {
            body += &format!("mov.u64 %rd1, cells; mad.wide.u32 %rd1, %r50, {slot}, %rd1; cvt.u32.u64 %r1, %rd1;");
            (0..count).for_each(|element| body += &copy("global", "shared", element));
        } else {
            body += "mov.u64 %rd1, %rd40;";
        }
        let load = |name: &str, at: usize| match ty.register() {
            64 => format!("ld.global.u64 {name}, [%rd41+{at}];"),
            bits => format!("ld.global.u64 %rd44, [%rd41+{at}]; cvt.u{bits}.u64 {name}, %rd44;"),
        };
        for (element, name) in sources.iter().enumerate() {
            body += &load(name, 16 * element);
        }
        let second = registers(ty, 1, 30);
        body += &load(&second[0], 8);
        let own = if generic && place == Place::Shared {
            "mov.u64 %rd5, %rd1; cvta.shared.u64 %rd1, %rd1;"
        } else {
            "mov.u64 %rd5, %rd1;"
        };
        body += own;
        let mut vectors = if returns { vec![&targets, &sources, &second] } else { vec![&sources, &second] }.into_iter();
        let words = form.operands.split(", ").map(|word| match word {
            "T" | "V" => vector(vectors.next().unwrap()),
            other => other.to_owned(),
        });
        body += &format!("{text} {}; mov.u64 %rd1, %rd5;", words.collect::<Vec<_>>().join(", "));
        for (element, name) in targets.iter().enumerate().filter(|_| returns) {
            body += &match ty.register() {
                64 => format!("st.global.u64 [%rd42+{}], {name};", 8 * element),
                bits => format!("cvt.u64.u{bits} %rd44, {name}; st.global.u64 [%rd42+{}], %rd44;", 8 * element),
            };
        }
        if place == Place::Shared {
            (0..count).for_each(|element| body += &copy("shared", "global", element));
        }
        let cells = format!(".shared .align 64 .b8 cells[{}];", BLOCK * slot);
        let launched = device.launch(
            &kernel_with(&cells, &body),
            (threads / BLOCK) as u32,
            BLOCK as u32,
            &[memory, operands, returned, 0],
        );
        launched.map_err(|fault| format!("{text} in {place:?}: {fault}"))?;
        let (new, old) = (device.download::<u8>(memory, olds.len()), device.download::<u64>(returned, rows.len()));
        // "atom.add.f32 on global memory flushes subnormal inputs and results to sign-preserving zero; on
        // shared memory it supports them."
        let ftz = ty.format() == Some(F32) && place == Place::Global;
        for (index, &[x, a, b]) in rows.iter().enumerate() {
            let want = updated(operation, ty, ftz, x, a, b);
            let found = word(&new[index * size..(index + 1) * size]);
            if !want.accepts(found) || (returns && old[index] != x) {
                return Err(format!(
                    "{text} in {place:?} of {x:#x}, {a:#x}, {b:#x} leaves {found:#x}, not {want:x?}, and gives {:#x}",
                    old[index]
                ));
            }
        }
    }
    Ok(())
}
