//! What instructions among the lanes of a warp must give, in full warps and in parts of one.

use std::cmp::Ordering;

use softcuda::lower::table::Form;

use crate::exact::{F32, compare};
use crate::opcode::{Checked, Kind, Opcode, Ty};
use crate::ptx_support::{Device, Random, kernel};

const LANES: usize = 32;
const MEMBERS: [u32; 5] = [0xffff_ffff, 0x0000_ffff, 0xa5a5_5a5a, 0x0000_0001, 0x8000_0000];

/// Runs an instruction in the lanes of `members`, with three words of each, of which `%r2`, `%r3` and `%r4` (or
/// `%rd2`) are made, and the lowest bit of the first in `%p2`. Gives `%r1` and `%p1` of each lane.
fn run(line: &str, members: u32, input: &[[u64; 3]]) -> Result<Vec<(u64, bool)>, String> {
    let device = Device::new();
    let flat: Vec<u64> = input.iter().flatten().copied().collect();
    let (input, out) = (device.upload(&flat), device.upload(&[0u64; 2 * LANES]));
    let body = format!(
        "ld.param.u64 %rd40, [p0]; ld.param.u64 %rd41, [p1]; mov.u32 %r50, %tid.x; mad.wide.u32 %rd40, %r50, 24, %rd40;
         mad.wide.u32 %rd41, %r50, 16, %rd41; ld.global.u64 %rd2, [%rd40]; ld.global.u64 %rd3, [%rd40+8];
         ld.global.u64 %rd4, [%rd40+16]; cvt.u32.u64 %r2, %rd2; cvt.u32.u64 %r3, %rd3; cvt.u32.u64 %r4, %rd4;
         and.b32 %r5, %r2, 1; setp.ne.u32 %p2, %r5, 0; mov.u32 %r1, 0; setp.ne.u32 %p1, %r1, 0;
         mov.u32 %r51, {members}; shr.u32 %r52, %r51, %r50; and.b32 %r52, %r52, 1; setp.eq.u32 %p3, %r52, 0;
         @%p3 bra SKIP;
         {line}
         cvt.u64.u32 %rd42, %r1; selp.u64 %rd43, 1, 0, %p1; st.global.u64 [%rd41], %rd42; st.global.u64 [%rd41+8], %rd43;
         SKIP:"
    );
    let result = device.launch(&kernel(&body), 1, LANES as u32, &[input, out, 0, 0]);
    result.map_err(|fault| format!("{line} {fault}"))?;
    Ok(device.download::<u64>(out, 2 * LANES).chunks(2).map(|pair| (pair[0], pair[1] != 0)).collect())
}

/// The lane that `shfl` reads, and whether it is in range: the manual's pseudocode.
fn shuffle(mode: &str, lane: i64, b: u64, c: u64) -> (i64, bool) {
    let (b, clamp, segment) = (b as i64 & 31, c as i64 & 31, c as i64 >> 8 & 31);
    let (most, least) = (lane & segment | clamp & !segment, lane & segment);
    let (source, within) = match mode {
        "up" => (lane - b, lane - b >= most),
        "down" => (lane + b, lane + b <= most),
        "bfly" => (lane ^ b, (lane ^ b) <= most),
        _ => (least | b & !segment, (least | b & !segment) <= most),
    };
    (if within { source } else { lane }, within)
}

/// Compares the lanes of `members`; the second part of a result may be open.
fn compared(line: &str, members: u32, input: &[[u64; 3]], wanted: impl Fn(usize) -> (u64, Option<bool>)) -> Checked {
    let got = run(line, members, input)?;
    for lane in (0..LANES).filter(|lane| members >> lane & 1 != 0) {
        let (value, predicate) = wanted(lane);
        if got[lane].0 != value || predicate.is_some_and(|predicate| predicate != got[lane].1) {
            return Err(format!(
                "{line} in lane {lane} of {members:#x} gives {:x?}, not {value:#x} and {predicate:?}",
                got[lane]
            ));
        }
    }
    Ok(())
}

pub fn check(form: &Form, text: &str) -> Checked {
    let mut rng = Random(3);
    for round in 0..40 {
        let members = MEMBERS[round % MEMBERS.len()];
        let lanes: Vec<usize> = (0..LANES).filter(|lane| members >> lane & 1 != 0).collect();
        let mut op = Opcode::new(text);
        let mut input: Vec<[u64; 3]> = (0..LANES).map(|_| [rng.next(), rng.next(), rng.next()]).collect();
        let mask = members.to_string();
        let mut operands = form.operands.replace("-1", &mask);
        let types = op.types();
        let wide = types.last().is_some_and(|ty| ty.bits == 64);
        let line = |operands: &str| format!("{text} {operands};");
        op.take("sync");
        match op.name {
            "shfl" => {
                let mode = op.one_of(&["up", "down", "bfly", "idx"]).unwrap();
                op.ty();
                op.finish();
                // Half of the lanes' segments are whole warps.
                for (lane, row) in input.iter_mut().enumerate() {
                    if rng.next() & 1 == 0 {
                        row[2] = if mode == "up" { 0 } else { 31 };
                    }
                    // A lane that is not there gives nothing.
                    let source = shuffle(mode, lane as i64, row[1], row[2]).0;
                    if members >> source & 1 == 0 {
                        row[2] = if mode == "up" { 0 } else { 31 };
                        row[1] = if mode == "idx" { lane as u64 } else { 0 };
                    }
                }
                compared(&line(&operands), members, &input, |lane| {
                    let (source, within) = shuffle(mode, lane as i64, input[lane][1], input[lane][2]);
                    (input[source as usize][0] & 0xffff_ffff, Some(within))
                })?;
            }
            "vote" => {
                let mode = op.one_of(&["all", "any", "uni", "ballot"]).unwrap();
                while op.take("pred") || op.take("b32") {}
                op.finish();
                match round % 3 {
                    0 => {}
                    kind => input.iter_mut().for_each(|row| row[0] = kind as u64),
                }
                let operands = operands.replace("%r2", &mask);
                let negated = operands.contains('!');
                let holds = |lane: &usize| (input[*lane][0] & 1 == 1) != negated;
                let count = lanes.iter().filter(|lane| holds(lane)).count();
                compared(&line(&operands), members, &input, |_| match mode {
                    "ballot" => (lanes.iter().filter(|lane| holds(lane)).map(|lane| 1 << lane).sum(), None),
                    "all" => (0, Some(count == lanes.len())),
                    "any" => (0, Some(count > 0)),
                    _ => (0, Some(count == 0 || count == lanes.len())),
                })?;
            }
            "match" => {
                let all = op.one_of(&["all", "any"]) == Some("all");
                op.ty();
                op.finish();
                // Few values, of which some differ above the low 32 bits only.
                let values = if round % 4 == 0 { 1 } else { 4 };
                input.iter_mut().for_each(|row| row[0] = (row[0] % values) << (8 * (row[1] % values.min(2)) * 4));
                operands = operands.replace("%r2", &mask).replace('T', if wide { "%rd2" } else { "%r2" });
                let value = |lane: usize| if wide { input[lane][0] } else { input[lane][0] & 0xffff_ffff };
                compared(&line(&operands), members, &input, |lane| {
                    let same = lanes.iter().filter(|other| value(**other) == value(lane)).map(|other| 1u64 << other);
                    let same: u64 = same.sum();
                    match all {
                        false => (same, None),
                        true if same == u64::from(members) => (same, Some(true)),
                        true => (0, Some(false)),
                    }
                })?;
            }
            "redux" => {
                let kind = op.one_of(&["add", "min", "max", "and", "or", "xor"]).unwrap();
                let (abs, nan) = (op.take("abs"), op.take("NaN"));
                let ty = op.ty();
                op.finish();
                if ty.kind == Kind::Float(F32) {
                    let some = [0, 0x8000_0000, 1, 0x3f80_0000, 0xbf80_0000, 0x7f80_0000, 0x7fc0_0000, 0xffa0_0001];
                    input.iter_mut().for_each(|row| {
                        row[0] =
                            if row[1] & 1 == 0 { row[0] & 0xffff_ffff } else { some[row[2] as usize % some.len()] };
                    });
                }
                operands = operands.replacen('T', "%r1", 1).replacen('T', "%r2", 1);
                let values: Vec<u64> = lanes.iter().map(|&lane| input[lane][0] & 0xffff_ffff).collect();
                let wanted = reduced(kind, ty, (abs, nan), &values);
                compared(&line(&operands), members, &input, |_| (wanted, None))?;
            }
            "elect" => {
                op.finish();
                let got = run(&line(&operands), members, &input)?;
                let leader = got[lanes[0]].0;
                let one = lanes.iter().all(|&lane| got[lane] == (leader, lane as u64 == leader));
                if !one || members >> leader & 1 == 0 {
                    return Err(format!("{text} in {members:#x} gives {got:?}"));
                }
            }
            "activemask" => {
                op.ty();
                op.finish();
                // In the plain order the lanes of a branch are together.
                compared(&line(&operands), members, &input, |_| (u64::from(members), None))?;
            }
            _ => return Err(format!("{text} has no oracle")),
        }
    }
    Ok(())
}

fn reduced(kind: &str, ty: Ty, (abs, nan): (bool, bool), values: &[u64]) -> u64 {
    if ty.kind == Kind::Float(F32) {
        let values = values.iter().map(|&bits| if abs { bits & 0x7fff_ffff } else { bits });
        let (nans, numbers): (Vec<u64>, Vec<u64>) = values.partition(|&bits| F32.is_nan(bits));
        if numbers.is_empty() || (nan && !nans.is_empty()) {
            return F32.nan();
        }
        let order = |a: &u64, b: &u64| -> Ordering {
            let (x, y) = (F32.value(*a), F32.value(*b));
            compare(x, y).unwrap().then(y.negative().cmp(&x.negative()))
        };
        let numbers = numbers.into_iter();
        return if kind == "max" { numbers.max_by(order) } else { numbers.min_by(order) }.unwrap();
    }
    let integers = values.iter().map(|&bits| ty.integer(bits));
    ty.wrap(match kind {
        "add" => integers.sum(),
        "min" => integers.min().unwrap(),
        "max" => integers.max().unwrap(),
        "and" => integers.fold(-1, |all, value| all & value),
        "or" => integers.fold(0, |all, value| all | value),
        _ => integers.fold(0, |all, value| all ^ value),
    })
}
