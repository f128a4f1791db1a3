//! Random and mutated PTX: whatever the text, loading it ends, does not panic, and needs no more
//! memory than a small multiple of what a large kernel needs.
//!
//! `SOFTCUDA_FUZZ=10000000` tries that many texts, `SOFTCUDA_FUZZ_SEED` others than usual.

mod ptx_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use ptx_support::{HEADER, Random, kernel, kernel_with};
use softcuda::exec::Module;
use softcuda::lower::table::INSTRUCTIONS;
use softcuda::memory::Memory;

/// Texts that a run without further wishes tries.
const TEXTS: u64 = 40_000;
/// Bytes of the heap that loading one text may take.
const HEAP: usize = 512 << 20;

/// The system's allocator, with the bytes it has given out and the most it ever had.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(held, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held by a test while it runs: the heap is everybody's.
static ALONE: Mutex<()> = Mutex::new(());

/// Loads a text; the peak of the heap tells whether it was modest.
fn load(text: &str, memory: &Memory) -> bool {
    PEAK.store(HELD.load(Relaxed), Relaxed);
    let before = HELD.load(Relaxed);
    let result = Module::load(text, memory);
    let loaded = result.is_ok();
    if let Ok(module) = result {
        module.unload(memory);
    }
    let took = PEAK.load(Relaxed) - before;
    assert!(took < HEAP, "{took} bytes of heap for\n{text}");
    assert_eq!(memory.used(), 0, "variables stay after\n{text}");
    Module::ptx_version(text);
    Module::ptx_target(text);
    loaded
}

/// Small modules that together touch the grammar and every family of instructions.
fn seeds() -> Vec<String> {
    let mut seeds = vec![
        kernel(
            "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; @%p1 bra L; setp.lt.and.s32 %p1|%p2, %r1, -5, !%p3;
             L: mov.b64 {%r1, _}, %rd2; { .reg .pred p; setp.ne.b32 p, %r2, 0; selp.b32 %r3, 1, 0, p; }
             ld.global.nc.L2::128B.v4.f32 {%f1, %f2, %f3, %f4}, [%rd1+16]; fma.rn.ftz.f32 %f5, %f1, 0f3F800000, %f2;
             shfl.sync.bfly.b32 %r4|%p4, %r3, 16, 31, -1; bar.sync 0, 64; st.global.v2.u64 [%rd1], {%rd1, %rd2};",
        ),
        kernel(
            ".loc 1 2 3 T: .branchtargets L, M; L: brx.idx %r5, T; M: cp.async.cg.shared.global [%r7], [%rd3], 16, %r8;
             cp.async.commit_group; cp.async.wait_group 0; atom.global.add.u32 %r6, [%rd1+-4], 1;
             red.global.add.v2.f32 [%rd1], {%f1, %f2}; prmt.b32 %r9, %r1, %r2, 0x5410; lop3.or.b32 %r1|%p1, %r2, %r3, %r4, 0x96, %p2;",
        ),
        kernel(
            "cvt.rn.f16x2.f32 %r1, %f1, %f2; cvt.rna.tf32.f32 %r2, %f1; cvt.rn.satfinite.e4m3x2.f32 %h1, %f1, %f2;
             cvt.pack.sat.u8.s32.b32 %r3, %r4, %r5, %r6; cvt.rzi.s64.f64 %rd1, %fd1; add.cc.u32 %r1, %r2, %r3;
             madc.hi.cc.u32 %r1, %r2, %r3, %r4; dp2a.lo.s32.u32 %r1, %r2, %r3, %r4; bfi.b64 %rd1, %rd2, %rd3, 3, 5;
             fma.rn.relu.bf16x2 %r1, %r2, %r3, %r4; max.NaN.xorsign.abs.f16x2 %r1, %r2, %r3; ex2.approx.ftz.f32 %f1, %f2;
             set.lt.and.f16x2.f16x2 %r1, %r2, %r3, %p1; add.rz.sat.f32.bf16 %f1, %h1, %f2; testp.subnormal.f64 %p1, %fd1;",
        ),
        kernel(
            "vote.sync.ballot.b32 %r1, %p1, -1; match.all.sync.b64 %r1|%p1, %rd1, %r2; redux.sync.min.s32 %r1, %r2, -1;
             elect.sync %r1|%p1, -1; activemask.b32 %r2; barrier.cta.red.popc.aligned.u32 %r1, 0, 64, !%p1;
             bar.warp.sync 0xff; fence.acq_rel.gpu; membar.sys; nanosleep.u32 20; griddepcontrol.wait;
             isspacep.shared %p1, %rd1; cvta.to.global.u64 %rd1, %rd2; prefetch.global.L2 [%rd1]; trap; exit;",
        ),
        kernel_with(
            ".file 1 \"/a.cu\"\n.const .align 4 .b8 t[8] = {1, 2, 3}; .extern .shared .b8 d[];
             .global .u64 g = t+4; .global .align 8 .u64 m[2] = {0xff(t), generic(g)-4}; .shared .f64 s[2][3];
             .visible .global .align 8 .u64 table[2] = {f, h}; .global .v4 .f32 v[2] = {{1.0, 2, 0f3F800000, 0d4000000000000000}, {}};
             .func (.param .b32 o) f(.param .b32 i) { .reg .b32 %a; .local .b8 z[4]; ld.param.b32 %a, [i];
             st.param.b32 [o], %a; ret; } .func (.reg .u32 %o) h(.reg .u32 %i) { add.u32 %o, %i, 1; ret; }
             .extern .func (.param .b32 r) vprintf(.param .b64 f, .param .b64 a);",
            "call (%r5), h, (%r4); { .param .b32 q; .param .b32 s; st.param.b32 [q], 1; mov.u64 %rd1, f;
             @%p1 call (s), %rd1, (q), P; P: .callprototype (.param .b32 _) _ (.param .b32 _); ld.param.b32 %r1, [s]; }
             { .param .b64 q; .param .b64 u; .param .b32 s; call.uni (s), vprintf, (q, u); } .local .align 8 .b8 l[16];
             st.shared.u8 [d+3], %h1; ld.const.u8 %r1, [t+2]; st.local.u32 [l+4], %r2;",
        ),
        format!(
            "{HEADER}.visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 8 .b8 q[40])
             .maxntid 128, 2, 1 .minnctapersm 3 .maxnreg 64 {{ .reg .b16 %s<3>; mov.b32 {{%s0, %s1}}, 5; ret; }}
             .visible .entry c() .reqntid 64 .explicitcluster .reqnctapercluster 2, 1, 1 {{ ret; }}
             .section .debug_str {{ .b8 1, 2 }}"
        ),
    ];
    // Every listed form of every instruction, a few dozen to a module.
    let instances: Vec<String> = INSTRUCTIONS
        .iter()
        .flat_map(|instruction| instruction.forms)
        .map(|form| form.instance(&form.opcodes()[form.opcodes().len() / 2]))
        .collect();
    for some in instances.chunks(24) {
        let body = format!(
            "LABEL: {} TABLE: .branchtargets LABEL; prototype: .callprototype (.reg .b32 _) _ (.reg .b32 _);",
            some.join(" ")
        );
        let function = ".func (.reg .b32 %o) function(.reg .b32 %i) { mov.b32 %o, %i; ret; }";
        seeds.push(kernel_with(function, &body));
    }
    let compiled = include_str!("ptx/rows.13.5-sm_90.ptx");
    // A piece of compiled code, cut at a statement, so that splices have something to take.
    let piece: String = compiled.lines().filter(|line| !line.contains(".loc")).take(160).collect::<Vec<_>>().join("\n");
    seeds.push(piece);
    seeds
}

/// Words that mean something, wherever they land.
const WORDS: [&str; 64] = [
    "%r1",
    "%p1",
    "%rd1",
    "%h1",
    "%f1",
    "%fd1",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ";",
    ",",
    "-",
    "!",
    "@",
    "|",
    "+",
    ":",
    "0",
    "-1",
    "1",
    "255",
    "4294967295",
    "18446744073709551615",
    "9223372036854775808",
    "99999999999999999999",
    "0x",
    "0f3F800000",
    "0d",
    "1e999",
    "\"",
    "/*",
    "//",
    ".reg",
    ".param",
    ".local",
    ".shared",
    ".global",
    ".const",
    ".func",
    ".entry",
    ".b32",
    ".b64",
    ".pred",
    ".f16x2",
    ".v4",
    ".align",
    "<5>",
    "<1048576>",
    "[1073741824]",
    "L:",
    "bra",
    "call",
    "ret",
    "ld.global.v8.b64",
    "%tid.x",
    "WARP_SZ",
    "_",
    ".extern",
    ".branchtargets",
    "mov.b128",
    "\u{e9}",
];

/// Where a word, number or mark begins and ends, of what is there at a place.
fn token_at(text: &[u8], at: usize) -> (usize, usize) {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"_$%.:".contains(&byte);
    if !word(text[at]) {
        return (at, at + 1);
    }
    let start = (0..at).rev().find(|&i| !word(text[i])).map_or(0, |i| i + 1);
    let end = (at..text.len()).find(|&i| !word(text[i])).unwrap_or(text.len());
    (start, end)
}

fn mutate(seeds: &[String], rng: &mut Random) -> String {
    let mut text = seeds[rng.below(seeds.len())].clone().into_bytes();
    for _ in 0..1 + rng.below(5) {
        if text.is_empty() {
            break;
        }
        let at = rng.below(text.len());
        let (start, end) = token_at(&text, at);
        match rng.below(10) {
            0 => text[at] = rng.next() as u8 & 0x7f,
            1 => text[at] ^= 1 << rng.below(7),
            2 => drop(text.splice(start..end, WORDS[rng.below(WORDS.len())].bytes())),
            3 => drop(text.drain(start..end)),
            4 => {
                let number = match rng.below(4) {
                    0 => (rng.next() % 70).to_string(),
                    1 => (1u64 << rng.below(64)).to_string(),
                    2 => format!("{}", rng.next() as i64),
                    _ => format!("0x{:x}", rng.next() >> rng.below(64)),
                };
                drop(text.splice(start..end, number.into_bytes()));
            }
            5 => {
                // A token from elsewhere, or one modifier of it.
                let (from, to) = token_at(&text, rng.below(text.len()));
                let token = text[from..to].to_vec();
                drop(text.splice(start..end, token));
            }
            6 => {
                // A statement from another module.
                let other = seeds[rng.below(seeds.len())].as_bytes();
                let from = rng.below(other.len());
                let to = other[from..].iter().position(|&b| b == b';').map_or(other.len(), |i| from + i + 1);
                let from = other[..from].iter().rposition(|&b| b == b';').map_or(0, |i| i + 1);
                let place = text[at..].iter().position(|&b| b == b';').map_or(text.len(), |i| at + i + 1);
                drop(text.splice(place..place, other[from..to].iter().copied()));
            }
            7 => {
                // Again and again.
                let piece = text[start..(end + rng.below(40)).min(text.len())].to_vec();
                let times = 1 << rng.below(6);
                drop(text.splice(start..start, piece.repeat(times)));
            }
            8 => text.truncate(at),
            _ => {
                let dot = text[start..end].iter().rposition(|&b| b == b'.').map_or(start, |i| start + i);
                let words = [
                    "ftz", "sat", "rn", "rz", "wide", "hi", "lo", "cc", "v2", "u64", "s16", "f16x2", "bf16", "b128",
                    "sync", "relu", "NaN",
                ];
                drop(text.splice(dot..end, format!(".{}", words[rng.below(words.len())]).into_bytes()));
            }
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

#[test]
fn no_text_is_too_much() {
    let _alone = ALONE.lock();
    let seeds = seeds();
    let memory = Memory::new(1 << 30);
    for seed in &seeds[..seeds.len() - 1] {
        assert!(load(seed, &memory), "{:?}\n{seed}", Module::load(seed, &memory).err());
    }
    let count = setting("SOFTCUDA_FUZZ", TEXTS);
    let seed = setting("SOFTCUDA_FUZZ_SEED", 1);
    let mut loaded = 0;
    for index in 0..count {
        // Each text by itself, so that one that fails can be had again.
        let mut rng = Random(seed.wrapping_mul(1 << 40).wrapping_add(index));
        let text = mutate(&seeds, &mut rng);
        let result = std::panic::catch_unwind(|| load(&text, &memory));
        match result {
            Ok(ok) => loaded += u64::from(ok),
            Err(_) => panic!("text {index} of seed {seed}:\n{text}"),
        }
    }
    assert!(loaded > count / 50, "mutants are too wild to test more than the lexer: {loaded} of {count} load");
    println!("{count} texts, of which {loaded} load");
}

/// Texts of a kind that once took more than linear time or memory.
#[test]
fn what_grows_is_bounded() {
    let _alone = ALONE.lock();
    let memory = Memory::new(1 << 30);
    let many = |piece: &str, count: usize| piece.repeat(count);
    // Calls that double with each level.
    let mut doubling = String::from(".func f0() { ret; }\n");
    for level in 1..60 {
        doubling += &format!(".func f{level}() {{ call f{0}, (); call f{0}, (); ret; }}\n", level - 1);
    }
    assert!(!load(&kernel_with(&doubling, "call f59, ();"), &memory));
    // Functions that call each other through pointers.
    let mut pointers = String::new();
    for index in 0..12 {
        pointers += &format!(".func g{index}() {{ .reg .b64 %x; mov.u64 %x, g{index}; call %x; ret; }}\n");
    }
    assert!(!load(&kernel_with(&pointers, "mov.u64 %rd1, g0; call %rd1;"), &memory));
    // Branch tables, each as long as there are of them.
    let labels: Vec<String> = (0..3000).map(|_| "L".to_owned()).collect();
    let tables = format!("T: .branchtargets {}; L: {}", labels.join(", "), many("brx.idx %r1, T; ", 3000));
    assert!(!load(&kernel(&tables), &memory));
    assert!(!load(&kernel(&many("{", 100_000)), &memory));
    assert!(!load(&kernel(&format!("mov.u32 %r1, {}1;", many("-", 100_000))), &memory));
    assert!(!load(&kernel_with(".global .b8 x[1000][1048576] = {{}, {}, {}, {}};", ""), &memory));
    assert!(!load(&kernel_with(".global .b8 x[1000000000000];", ""), &memory));
    assert!(!load(&kernel_with(".global .b8 x[700000000]; .global .b8 y[700000000];", ""), &memory));
    let registers: String = (0..5000).map(|i| format!(".reg .pred %q{i}_<1048576>;\n")).collect();
    assert!(!load(&kernel(&registers), &memory));
    // Many blocks in which many registers live: sets of both would be too large.
    let mut wide = String::from(".reg .b32 %w<60000>;\n");
    for index in 0..60_000 {
        wide += &format!("add.u32 %w{index}, %w{index}, 1; @%p1 bra E;\n");
    }
    assert!(!load(&kernel(&format!("{wide} E: ret;")), &memory));
    // And what is merely large loads.
    let large: String = (0..20_000).map(|i| format!("add.u32 %r1, %r2, {i}; @%p1 bra E;\n")).collect();
    assert!(load(&kernel(&format!("setp.eq.u32 %p1, 1, 2; mov.u32 %r2, 0; {large} E: ret;")), &memory));
}
