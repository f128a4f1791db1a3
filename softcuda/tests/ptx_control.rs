//! Divergence, loops, calls, scopes, and the operations among lanes.

mod ptx_support;

use ptx_support::{Device, HEADER, Random, fault, kernel, kernel_with};
use softcuda::{Config, FaultKind};

/// Runs a kernel whose threads each leave a `u32` in `%r0`, with `%r1` the thread's index.
fn per_thread(block: u32, declarations: &str, body: &str) -> Vec<u32> {
    let device = Device::new();
    let output = device.upload(&vec![0xdead_beefu32; block as usize]);
    let text = kernel_with(
        declarations,
        &format!(
            "ld.param.u64 %rd1, [p0];
             mov.u32 %r1, %tid.x;
             {body}
             mul.wide.u32 %rd2, %r1, 4;
             add.s64 %rd1, %rd1, %rd2;
             st.global.u32 [%rd1], %r0;"
        ),
    );
    let result = device.launch(&text, 1, block, &[output, 0, 0, 0]);
    result.unwrap_or_else(|fault| panic!("{fault}\n{text}"));
    device.download(output, block as usize)
}

#[track_caller]
fn check(block: u32, body: &str, expected: impl Fn(u32) -> u32) {
    let wanted: Vec<u32> = (0..block).map(expected).collect();
    assert_eq!(per_thread(block, "", body), wanted, "{body}");
}

#[test]
fn nested_branches_meet_again() {
    check(
        64,
        "and.b32 %r2, %r1, 1; setp.ne.u32 %p1, %r2, 0;
         and.b32 %r3, %r1, 2; setp.ne.u32 %p2, %r3, 0;
         mov.u32 %r0, 0;
         @%p1 bra ODD;
         @%p2 bra EVEN2;
         add.u32 %r0, %r0, 1; bra JOIN;
         EVEN2: add.u32 %r0, %r0, 2; bra JOIN;
         ODD: @!%p2 bra ODD1; add.u32 %r0, %r0, 4; bra JOIN;
         ODD1: add.u32 %r0, %r0, 8;
         JOIN: activemask.b32 %r4; popc.b32 %r4, %r4; mad.lo.u32 %r0, %r4, 100, %r0;",
        |i| 3200 + [1, 8, 2, 4][i as usize & 3],
    );
}

#[test]
fn loops_of_different_length() {
    // The number of Collatz steps.
    let steps = |mut n: u32| {
        let mut count = 0;
        while n > 1 {
            n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
            count += 1;
        }
        count
    };
    check(
        256,
        "mov.u32 %r0, 0; mov.u32 %r2, %r1;
         LOOP: setp.le.u32 %p1, %r2, 1; @%p1 bra END;
         and.b32 %r3, %r2, 1; setp.eq.u32 %p2, %r3, 0;
         @%p2 shr.u32 %r2, %r2, 1; @!%p2 mad.lo.u32 %r2, %r2, 3, 1;
         add.u32 %r0, %r0, 1; bra.uni LOOP;
         END:",
        steps,
    );
}

#[test]
fn early_exit() {
    let device = Device::new();
    let output = device.upload(&[0u32; 32]);
    let text = kernel(
        "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; setp.gt.u32 %p1, %r1, 9; @%p1 exit;
         mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd1, %rd2; activemask.b32 %r2;
         st.global.u32 [%rd1], %r2;",
    );
    device.launch(&text, 1, 32, &[output, 0, 0, 0]).unwrap();
    let values: Vec<u32> = device.download(output, 32);
    assert!(values[..10].iter().all(|&v| v == 0x3ff) && values[10..].iter().all(|&v| v == 0));
}

#[test]
fn indexed_branches() {
    check(
        32,
        "and.b32 %r2, %r1, 3; mov.u32 %r0, 0;
         TABLE: .branchtargets A, B, C, A;
         brx.idx %r2, TABLE;
         A: add.u32 %r0, %r0, 10; bra END;
         B: add.u32 %r0, %r0, 20;
         C: add.u32 %r0, %r0, 30;
         END:",
        |i| [10, 50, 30, 10][i as usize & 3],
    );
}

#[test]
fn scopes_shadow_names_and_labels() {
    check(
        32,
        "mov.u32 %r2, 5; mov.u32 %r0, 0;
         { .reg .u32 %r2; .reg .pred %p; mov.u32 %r2, 7; setp.lt.u32 %p, %r1, 16; @%p bra L;
           add.u32 %r0, %r0, 100; L: add.u32 %r0, %r0, %r2; }
         { .reg .pred %p; setp.lt.u32 %p, %r1, 8; @%p bra L; add.u32 %r0, %r0, 1000; L: }
         add.u32 %r0, %r0, %r2;",
        |i| 12 + if i < 16 { 0 } else { 100 } + if i < 8 { 0 } else { 1000 },
    );
}

const FUNCTIONS: &str = "
.func (.param .b32 result) square_plus(.param .b32 x, .param .align 8 .b8 s[16])
{ .reg .b32 %a, %b; .reg .b64 %q; .reg .pred %p;
  ld.param.b32 %a, [x]; ld.param.b32 %b, [s+8];
  setp.gt.u32 %p, %a, 20; @%p bra BIG;
  mad.lo.u32 %a, %a, %a, %b; st.param.b32 [result], %a; ret;
  BIG: st.param.b32 [result], %b; ret; }
.func (.reg .u32 %out) twice(.reg .u32 %in)
{ .reg .u32 %t; call (%t), thrice, (%in); sub.u32 %out, %t, %in; }
.func (.reg .u32 %out) thrice(.reg .u32 %in) { mul.lo.u32 %out, %in, 3; ret; }
";

#[test]
fn calls_with_parameters() {
    let body = "setp.lt.u32 %p1, %r1, 28; mov.u32 %r0, 1;
         { .param .b32 arg0; .param .align 8 .b8 arg1[16]; .param .b32 back;
           st.param.b32 [arg0], %r1; add.u32 %r2, %r1, 1000; st.param.b32 [arg1+8], %r2;
           call (back), square_plus, (arg0, arg1); ld.param.b32 %r3, [back]; }
         @%p1 call (%r0), twice, (%r3);";
    let wanted: Vec<u32> = (0..32u32)
        .map(|i| match i {
            28.. => 1,
            _ => 2 * if i > 20 { i + 1000 } else { i * i + i + 1000 },
        })
        .collect();
    // `twice` is defined before `thrice`: a declaration comes first.
    let declarations = format!(".func (.reg .u32 %out) thrice(.reg .u32 %in);\n{FUNCTIONS}");
    assert_eq!(per_thread(32, &declarations, body), wanted);
}

#[test]
fn special_registers() {
    let device = Device::new();
    let output = device.upload(&[0u32; 24 * 8]);
    let text = format!(
        "{HEADER}.visible .entry test(.param .u64 p0) {{ .reg .b32 %r<16>; .reg .b64 %rd<4>;
         ld.param.u64 %rd1, [p0];
         mov.u32 %r1, %tid.x; mov.u32 %r2, %tid.y; mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x;
         mov.u32 %r5, %ntid.y; mov.u32 %r6, %nctaid.x; mov.u32 %r7, %laneid; mov.u32 %r8, %lanemask_lt;
         mad.lo.u32 %r9, %r2, %r4, %r1; mul.lo.u32 %r10, %r4, %r5; mad.lo.u32 %r9, %r3, %r10, %r9;
         mul.wide.u32 %rd2, %r9, 32; add.s64 %rd1, %rd1, %rd2;
         st.global.v4.u32 [%rd1], {{%r1, %r2, %r3, %r4}};
         st.global.v4.u32 [%rd1+16], {{%r5, %r6, %r7, %r8}}; ret; }}"
    );
    let module = softcuda::exec::Module::load(&text, &device.memory).unwrap();
    let shape =
        softcuda::exec::LaunchShape { grid: [2, 1, 1], block: [3, 4, 1], cluster: [1, 1, 1], dynamic_shared: 0 };
    let entry = module.entry("test").unwrap();
    softcuda::exec::run(&module, entry, &shape, &output.to_le_bytes(), &device.memory, &device.config).unwrap();
    for (index, row) in device.download::<u32>(output, 24 * 8).chunks(8).enumerate() {
        let (block, thread) = (index as u32 / 12, index as u32 % 12);
        let lanes = (1u32 << thread) - 1;
        assert_eq!(row, [thread % 3, thread / 3, block, 3, 4, 2, thread, lanes]);
    }
}

/// The definition of `shfl` in the PTX manual: the source lane and whether it is in range.
fn shuffle(mode: &str, lane: u32, b: u32, c: u32) -> (u32, bool) {
    let (b, clamp, segment) = (b & 31, c & 31, c >> 8 & 31);
    let most = ((lane & segment) | (clamp & !segment)) as i32;
    let least = lane & segment;
    let (from, valid) = match mode {
        "up" => {
            let from = lane as i32 - b as i32;
            (from, from >= most)
        }
        "down" => ((lane + b) as i32, (lane + b) as i32 <= most),
        "bfly" => ((lane ^ b) as i32, (lane ^ b) as i32 <= most),
        _ => {
            let from = (least | (b & !segment)) as i32;
            (from, from <= most)
        }
    };
    if valid { (from as u32, true) } else { (lane, false) }
}

#[test]
fn shuffles() {
    let mut rng = Random(9);
    for mode in ["up", "down", "bfly", "idx"] {
        for width in [32u32, 16, 8, 4, 1] {
            let c = (32 - width) << 8 | if mode == "up" { 0 } else { 31 };
            let b = rng.below(32) as u32;
            check(
                32,
                &format!(
                    "mul.lo.u32 %r2, %r1, 7;
                     shfl.sync.{mode}.b32 %r3|%p1, %r2, {b}, {c}, 0xffffffff;
                     selp.u32 %r4, 1000, 0, %p1; add.u32 %r0, %r3, %r4;"
                ),
                |lane| {
                    let (from, valid) = shuffle(mode, lane, b, c);
                    7 * from + if valid { 1000 } else { 0 }
                },
            );
        }
    }
    // A lane of its own for each, and lanes of different member masks at one instruction.
    check(
        32,
        "xor.b32 %r2, %r1, 5; setp.lt.u32 %p1, %r1, 16; selp.b32 %r3, 0xffff, 0xffff0000, %p1;
         shfl.sync.idx.b32 %r0, %r1, %r2, 31, %r3;",
        |lane| lane ^ 5,
    );
}

#[test]
fn shuffles_wait_for_their_members() {
    // Lanes come to the shuffle by different ways; those with an odd index take longer.
    check(
        32,
        "and.b32 %r2, %r1, 1; setp.eq.u32 %p1, %r2, 0; mov.u32 %r3, %r1; @%p1 bra MEET;
         mov.u32 %r4, 0;
         AGAIN: add.u32 %r4, %r4, 1; setp.lt.u32 %p2, %r4, %r1; @%p2 bra AGAIN;
         add.u32 %r3, %r3, 100;
         MEET: shfl.sync.bfly.b32 %r0, %r3, 1, 31, -1;",
        |lane| if lane & 1 == 0 { lane + 101 } else { lane - 1 },
    );
    // Half of a warp shuffles on its own, the other half does something else.
    check(
        32,
        "setp.ge.u32 %p1, %r1, 16; mov.u32 %r0, 1; @%p1 bra END;
         shfl.sync.down.b32 %r0, %r1, 1, 31, 0xffff;
         // Lane 15 reads lane 16, which does not take part: nobody may look at that.
         setp.eq.u32 %p2, %r1, 15; @%p2 mov.u32 %r0, 2; END:",
        |lane| if lane < 15 { lane + 1 } else { 1 + u32::from(lane == 15) },
    );
}

#[test]
fn warp_sync_at_different_places() {
    check(
        32,
        "setp.lt.u32 %p1, %r1, 7; @%p1 bra A; bar.warp.sync -1; mov.u32 %r0, 2; bra END;
         A: mov.u32 %r0, 1; bar.warp.sync -1; END:",
        |lane| if lane < 7 { 1 } else { 2 },
    );
}

#[test]
fn votes_matches_reductions() {
    check(32, "setp.lt.u32 %p1, %r1, 5; vote.sync.ballot.b32 %r0, %p1, -1;", |_| 0x1f);
    check(
        32,
        "setp.lt.u32 %p1, %r1, 5; vote.sync.any.pred %p2, !%p1, -1; vote.sync.all.pred %p3, %p1, -1;
         vote.sync.uni.pred %p4, %p1, -1;
         selp.u32 %r0, 1, 0, %p2; selp.u32 %r2, 2, 0, %p3; selp.u32 %r3, 4, 0, %p4;
         add.u32 %r0, %r0, %r2; add.u32 %r0, %r0, %r3;",
        |_| 1,
    );
    check(32, "shr.u32 %r2, %r1, 3; match.any.sync.b32 %r0, %r2, -1;", |lane| 0xff << (lane / 8 * 8));
    check(32, "mov.u64 %rd5, 77; match.all.sync.b64 %r0|%p1, %rd5, -1; @!%p1 mov.u32 %r0, 0;", |_| u32::MAX);
    check(32, "redux.sync.add.s32 %r0, %r1, -1;", |_| 496);
    check(32, "sub.s32 %r2, %r1, 10; redux.sync.min.s32 %r0, %r2, -1;", |_| -10i32 as u32);
    check(32, "redux.sync.max.u32 %r0, %r1, -1;", |_| 31);
    check(
        32,
        "setp.lt.u32 %p1, %r1, 16; selp.b32 %r2, 0xffff, 0xffff0000, %p1;
         redux.sync.or.b32 %r0, %r1, %r2;",
        |lane| if lane < 16 { 15 } else { 31 },
    );
    check(
        32,
        "mov.u32 %r0, 9; setp.lt.u32 %p2, %r1, 4; @%p2 bra END;
         elect.sync %r2|%p1, 0xfffffff0; selp.u32 %r0, 1, %r2, %p1; END:",
        |lane| match lane {
            0..4 => 9,
            4 => 1,
            _ => 4,
        },
    );
}

#[test]
fn a_loop_without_end_is_ended() {
    let device = Device::with(Config { workers: 1, max_steps: 1 << 20, ..Config::capability(9, 0) });
    let count = |limit: u32| {
        kernel(&format!("mov.u32 %r1, 0; LOOP: add.u32 %r1, %r1, 1; setp.lt.u32 %p1, %r1, {limit}; @%p1 bra LOOP;"))
    };
    device.launch(&count(10_000), 1, 32, &[0; 4]).unwrap();
    let error = fault(device.launch(&count(u32::MAX), 1, 32, &[0; 4]), FaultKind::Deadlock);
    assert!(error.detail.contains("more than 1048576 operations"), "{error}");
}
