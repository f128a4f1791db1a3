//! What asynchronous copies, stores and reductions must leave once somebody has waited, and cache hints.

use softcuda::lower::table::Form;

use crate::exact::F32;
use crate::memory::updated;
use crate::opcode::{Checked, Opcode, Ty, inputs};
use crate::script::{ONE, Shape, expect, line, operands, run};

/// Two mbarrier phases are enough: the object is for one arrival, and waited for here.
const INIT: &str = "mov.u32 %r3, bar; mbarrier.init.shared.b64 [bar], 1; fence.mbarrier_init.release.cluster;
    fence.proxy.async;";
const WAIT: &str = "WAIT: mbarrier.try_wait.parity.shared.b64 %p9, [bar], 0; @!%p9 bra WAIT;";

/// In `%r30` to `%r33` the first words of global memory, which the address in `%rd40` has from `pattern`.
fn pattern() -> Vec<u8> {
    (0..=255u8).cycle().take(1024).map(|byte| byte.wrapping_mul(37).wrapping_add(11)).collect()
}

fn words(bytes: &[u8]) -> [u32; 4] {
    let word = |index: usize| u32::from_le_bytes(bytes[4 * index..4 * index + 4].try_into().unwrap());
    [word(0), word(1), word(2), word(3)]
}

/// With the pattern in global memory every thread has these words at the end.
fn leaves(text: &str, shape: Shape, body: &str, wanted: [u32; 4]) -> Checked {
    for seed in 0..6 {
        let outcome = run(seed, shape, &pattern(), body).map_err(|(_, fault)| format!("{text}: {fault}\n{body}"))?;
        if outcome.words.iter().any(|words| *words != wanted) {
            return Err(format!("{text} with seed {seed}: {:x?}, not {wanted:x?}\n{body}", outcome.words));
        }
    }
    Ok(())
}

/// Loads four words of shared memory.
const LOAD: &str = "ld.shared.u32 %r20, [tile]; ld.shared.u32 %r21, [tile+4]; ld.shared.u32 %r22, [tile+8]; ld.shared.u32 %r23, [tile+12];";

pub fn copy(form: &Form, text: &str) -> Checked {
    let op = Opcode::new(text);
    if text.starts_with("cp.reduce") {
        return reduce(form, text);
    }
    if op.has("bulk") {
        return bulk(form, text);
    }
    let data = pattern();
    let clear = "mov.u32 %r1, tile; mov.u64 %rd1, %rd40; st.shared.v4.u32 [%r1], {-1, -1, -1, -1};";
    let plain = "cp.async.ca.shared.global [%r1], [%rd1], 16;";
    match () {
        () if op.has("ca") => {
            // "the remaining bytes in the destination are filled with zeros"
            for size in [4usize, 3, 2, 1, 0] {
                let mut kept = data[..4].to_vec();
                kept[size..].fill(0);
                let first = u32::from_le_bytes(kept.try_into().unwrap());
                let own = line(text, form.operands);
                let body = format!("{clear} mov.u32 %r2, {size}; {own} cp.async.wait_all; {LOAD}");
                leaves(text, ONE, &body, [first, u32::MAX, u32::MAX, u32::MAX])?;
            }
            Ok(())
        }
        () if op.has("cg") => {
            // "ignore-src: data from the source location is ignored and zeros are written"
            for (ignored, wanted) in [(0, words(&data)), (1, [0; 4])] {
                let own = line(text, form.operands);
                let body = format!("{clear} setp.eq.u32 %p1, {ignored}, 1; {own} cp.async.wait_all; {LOAD}");
                leaves(text, ONE, &body, wanted)?;
            }
            Ok(())
        }
        () if op.has("commit_group") => {
            leaves(text, ONE, &format!("{clear} {plain} {text}; cp.async.wait_group 0; {LOAD}"), words(&data))
        }
        () if op.has("wait_all") => leaves(text, ONE, &format!("{clear} {plain} {text}; {LOAD}"), words(&data)),
        () if op.has("wait_group") => {
            // Two groups may be pending: the first of three is there.
            let more = "cp.async.ca.shared.global [%r1+32], [%rd1+32], 16; cp.async.commit_group;
                cp.async.ca.shared.global [%r1+64], [%rd1+64], 16; cp.async.commit_group;";
            let own = line(text, form.operands);
            let body = format!("{clear} {plain} cp.async.commit_group; {more} {own} {LOAD} cp.async.wait_all;");
            leaves(text, ONE, &body, words(&data))
        }
        // An arrival once the copies are there: one that was counted, or one more than was.
        () => {
            let generic = !text.contains("shared");
            let object = if generic { "mov.u64 %rd5, bar; cvta.shared.u64 %rd5, %rd5;" } else { "mov.u64 %rd5, bar;" };
            let own = line(text, &operands(form, &[("[%rd1]", "[%rd5]")]));
            let other = if op.has("noinc") { "" } else { "mbarrier.arrive.shared.b64 %rd6, [bar];" };
            leaves(text, ONE, &format!("{INIT} {object} {clear} {plain} {own} {other} {WAIT} {LOAD}"), words(&data))
        }
    }
}

fn bulk(form: &Form, text: &str) -> Checked {
    let op = Opcode::new(text);
    let data = pattern();
    let own = line(text, form.operands);
    let expect_bytes = "mbarrier.arrive.expect_tx.shared.b64 %rd6, [bar], 64;";
    let place = "mov.u32 %r1, tile; mov.u64 %rd1, %rd40; mov.u32 %r2, 64; mov.u64 %rd2, 0;";
    // Sources in shared memory: the pattern, by way of registers.
    let fill = |at: u32| {
        (0..8).fold(String::new(), |all, word| {
            all + &format!("ld.global.u64 %rd7, [%rd40+{}]; st.shared.u64 [tile+{}], %rd7;", 8 * word, at + 8 * word)
        })
    };
    let to_global = "fence.proxy.async; cp.async.bulk.global.shared::cta.bulk_group [%rd1], [%r1], %r2;";
    let back = "ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%rd40+512];";
    match () {
        () if op.has("prefetch") => {
            let body = format!("{place} {own} ld.global.v4.u32 {{%r20, %r21, %r22, %r23}}, [%rd40];");
            leaves(text, ONE, &body, words(&data))
        }
        () if op.has("commit_group") || op.has("wait_group") => {
            // One group may be pending in `wait_group 1`: the first of two is done.
            let (commit, wait) = match op.has("commit_group") {
                true => (own.as_str(), "cp.async.bulk.wait_group 0;"),
                false => ("cp.async.bulk.commit_group;", own.as_str()),
            };
            let second = if op.has("wait_group") { "cp.async.bulk.commit_group;" } else { "" };
            let (again, result) = match op.has("read") {
                // Only the source is free again: it may be written.
                true => ("st.shared.u32 [tile], 0; cp.async.bulk.wait_group 0;", back),
                false => ("", back),
            };
            let body = format!(
                "{place} {} add.u64 %rd1, %rd1, 512; {to_global} {commit} {second} {wait} {again} {result}",
                fill(0)
            );
            leaves(text, ONE, &body, words(&data))
        }
        () if text.contains("global.shared::cta.bulk_group") => {
            let body = format!(
                "{place} {} add.u64 %rd1, %rd1, 512; fence.proxy.async; {own} cp.async.bulk.commit_group;
                 cp.async.bulk.wait_group 0; {back}",
                fill(0)
            );
            leaves(text, ONE, &body, words(&data))
        }
        () if form.operands.contains("[%r4]") => {
            let source = format!("{} mov.u32 %r4, tile; add.u32 %r4, %r4, 512; fence.proxy.async;", fill(512));
            leaves(text, ONE, &format!("{INIT} {place} {source} {expect_bytes} {own} {WAIT} {LOAD}"), words(&data))
        }
        () if op.has("multicast::cluster") => {
            // Block 0 copies to both blocks, each of which waits for its own object.
            let pair = Shape { blocks: 2, cluster: true, threads: 1 };
            let sync = "barrier.cluster.arrive; barrier.cluster.wait;";
            let body = format!(
                "{INIT} {place} mov.u16 %h1, 3; {expect_bytes} {sync} setp.eq.u32 %p5, %r51, 0; @%p5 {own} {WAIT} {LOAD} {sync}"
            );
            leaves(text, pair, &body, words(&data))
        }
        () => leaves(text, ONE, &format!("{INIT} {place} {expect_bytes} {own} {WAIT} {LOAD}"), words(&data)),
    }
}

/// The operation and the type of a reduction, as the table writes them: `.add.u64` or `.add.noftz.f16`.
fn reduction(text: &str) -> (&str, Ty) {
    let operations = ["add", "min", "max", "and", "or", "xor", "inc", "dec"];
    let operation = text.split('.').find(|part| operations.contains(part)).unwrap();
    (operation, Ty::parse(text.rsplit('.').next().unwrap()).unwrap())
}

/// Old values and operands of a type, in pieces of `count`.
fn pairs(ty: Ty, count: usize) -> Vec<Vec<(u64, u64)>> {
    let all: Vec<(u64, u64)> = inputs(ty, 300).iter().map(|row| (row[0] & ty.mask(), row[1] & ty.mask())).collect();
    all.chunks_exact(count).map(<[_]>::to_vec).collect()
}

fn bytes(ty: Ty, values: impl Iterator<Item = u64>) -> Vec<u8> {
    values.flat_map(|value| value.to_le_bytes()[..ty.bits as usize / 8].to_vec()).collect()
}

/// What a reduction leaves in memory, where it should leave what the oracle says.
fn compared(text: &str, (operation, ty): (&str, Ty), pairs: &[(u64, u64)], memory: &[u8]) -> Checked {
    let size = ty.bits as usize / 8;
    for (&(old, a), found) in pairs.iter().zip(memory.chunks(size)) {
        // "add.f32 flushes subnormal inputs and results": these go to global memory.
        let ftz = ty.format() == Some(F32) && text.contains("global");
        let want = updated(operation, ty, ftz, old, a, 0);
        let found = found.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        if !want.accepts(found) {
            return Err(format!("{text} of {old:#x} and {a:#x} leaves {found:#x}, not {want:x?}"));
        }
    }
    Ok(())
}

/// Copies 256 bytes at an offset from global to shared memory, or back.
fn move_bytes(to_shared: bool, global: u32, shared: u32) -> String {
    (0..32).fold(String::new(), |all, word| {
        let (g, s) = (global + 8 * word, shared + 8 * word);
        all + &match to_shared {
            true => format!("ld.global.u64 %rd7, [%rd40+{g}]; st.shared.u64 [tile+{s}], %rd7;"),
            false => format!("ld.shared.u64 %rd7, [tile+{s}]; st.global.u64 [%rd40+{g}], %rd7;"),
        }
    })
}

/// 256 bytes of old values at the beginning of global memory, of operands after them.
fn reduce(form: &Form, text: &str) -> Checked {
    let (operation, ty) = reduction(text);
    let own = line(text, form.operands);
    let place = "mov.u32 %r1, tile; mov.u32 %r4, tile; add.u32 %r4, %r4, 256; mov.u64 %rd1, %rd40; mov.u32 %r2, 256;";
    let body = match text.contains("bulk_group") {
        true => format!(
            "{place} mov.u32 %r1, %r4; {} fence.proxy.async; {own} cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
            move_bytes(true, 256, 256)
        ),
        false => format!(
            "{INIT} {place} {} {} fence.proxy.async; mbarrier.arrive.expect_tx.shared.b64 %rd6, [bar], 256; {own} {WAIT} {}",
            move_bytes(true, 0, 0),
            move_bytes(true, 256, 256),
            move_bytes(false, 0, 0)
        ),
    };
    for chunk in pairs(ty, 256 * 8 / ty.bits as usize) {
        let memory = bytes(ty, chunk.iter().map(|pair| pair.0).chain(chunk.iter().map(|pair| pair.1)));
        let outcome = run(0, ONE, &memory, &body).map_err(|(_, fault)| format!("{text}: {fault}\n{body}"))?;
        compared(text, (operation, ty), &chunk, &outcome.memory)?;
    }
    Ok(())
}

/// `red.async`: every thread of a warp reduces to a place of its own.
pub fn reduce_async(_: &Form, text: &str) -> Checked {
    let (operation, ty) = reduction(text);
    let size = ty.bits / 8;
    let (value, target) = if ty.bits == 64 { ("%rd1", "u64") } else { ("%r9", "u32") };
    let body = format!(
        "setp.eq.u32 %p5, %r50, 0; mov.u32 %r2, bar; mov.u32 %r30, tile; mad.lo.u32 %r1, %r50, {size}, %r30;
         mad.wide.u32 %rd8, %r50, {size}, %rd40; @%p5 mbarrier.init.shared.b64 [bar], 1;
         ld.global.{target} {value}, [%rd8]; st.shared.{target} [%r1], {value};
         ld.global.{target} {value}, [%rd8+{}]; bar.sync 0; @%p5 mbarrier.arrive.expect_tx.shared.b64 %rd6, [bar], {};
         {text} [%r1], {value}, [%r2]; {WAIT} ld.shared.{target} {value}, [%r1]; st.global.{target} [%rd8], {value};",
        32 * size,
        32 * size
    );
    let warp = Shape { threads: 32, ..ONE };
    for chunk in pairs(ty, 32) {
        let memory = bytes(ty, chunk.iter().map(|pair| pair.0).chain(chunk.iter().map(|pair| pair.1)));
        let outcome = run(1, warp, &memory, &body).map_err(|(_, fault)| format!("{text}: {fault}\n{body}"))?;
        compared(text, (operation, ty), &chunk, &outcome.memory)?;
    }
    Ok(())
}

/// `st.async`: one thread stores, and finds it after its wait.
pub fn store_async(_: &Form, text: &str) -> Checked {
    let ty = Ty::parse(text.rsplit('.').next().unwrap()).unwrap();
    let count = [("v2", 2), ("v4", 4)].iter().find(|(name, _)| text.contains(name)).map_or(1, |(_, count)| *count);
    let size = ty.bits / 8;
    let letter = if ty.bits == 64 { "%rd" } else { "%r" };
    let names: Vec<String> = (10..10 + count).map(|index| format!("{letter}{index}")).collect();
    let loads = names.iter().enumerate().fold(String::new(), |all, (index, name)| {
        all + &format!("ld.global.b{} {name}, [%rd40+{}];", ty.bits, size * index as u32)
    });
    let vector = if count == 1 { names[0].clone() } else { format!("{{{}}}", names.join(", ")) };
    let body = format!(
        "{INIT} mov.u32 %r1, tile; mov.u32 %r2, bar; st.shared.v4.u32 [%r1], {{-1, -1, -1, -1}}; {loads}
         mbarrier.arrive.expect_tx.shared.b64 %rd6, [bar], {}; {text} [%r1], {vector}, [%r2]; {WAIT} {LOAD}",
        size * count as u32
    );
    let mut wanted = pattern()[..16].to_vec();
    wanted[size as usize * count as usize..].fill(0xff);
    leaves(text, ONE, &body, words(&wanted))
}

/// Hints change nothing: memory has what it had. Only `discard` may leave anything.
pub fn hint(form: &Form, text: &str) -> Checked {
    let name = text.split('.').next().unwrap();
    let place = "mov.u64 %rd1, %rd40; mov.u64 %rd2, %rd40;";
    let load = "ld.global.v4.u32 {%r20, %r21, %r22, %r23}, [%rd40];";
    let own = line(text, form.operands);
    match name {
        "discard" => {
            let body = format!("{place} {own} st.global.v4.u32 [%rd40], {{1, 2, 3, 4}}; {load}");
            expect(text, ONE, &body, |_| [1, 2, 3, 4])
        }
        "createpolicy" => {
            let load = "ld.global.L2::cache_hint.v4.u32 {%r20, %r21, %r22, %r23}, [%rd40], %rd1;";
            let policy = if text.contains("cvt") { "mov.u64 %rd2, 0;" } else { "" };
            leaves(text, ONE, &format!("{place} {policy} {own} {load}"), words(&pattern()))
        }
        _ if text.contains("local") => {
            let body = format!(".local .align 16 .b8 own[128]; mov.u64 %rd1, own; {own} {load}");
            leaves(text, ONE, &body, words(&pattern()))
        }
        _ => leaves(text, ONE, &format!("{place} {own} {load}"), words(&pattern())),
    }
}
