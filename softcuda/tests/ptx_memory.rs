//! Loads, stores, spaces, atomics, barriers, asynchronous copies, counters.

mod ptx_support;

use ptx_support::{Device, HEADER, kernel, kernel_with};
use softcuda::Counters;
use softcuda::counters::OpClass;
use softcuda::exec::{LaunchShape, Module, run};

#[test]
fn widths_and_vectors() {
    let device = Device::new();
    let input: Vec<u8> = (0..32 * 64u32).map(|i| (i * 37 + 11) as u8).collect();
    for (load, store, size) in [
        ("ld.global.u8 %r3, [%rd4];", "st.global.u8 [%rd5], %r3;", 1),
        ("ld.global.nc.b8 %h1, [%rd4];", "st.global.b8 [%rd5], %h1;", 1),
        ("ld.global.u16 %h1, [%rd4];", "st.global.u16 [%rd5], %h1;", 2),
        ("ld.global.b32 %r3, [%rd4];", "st.global.b32 [%rd5], %r3;", 4),
        ("ld.global.f32 %f3, [%rd4];", "st.global.f32 [%rd5], %f3;", 4),
        ("ld.global.b64 %rd8, [%rd4];", "st.global.b64 [%rd5], %rd8;", 8),
        ("ld.global.v2.u8 {%h1, %h2}, [%rd4];", "st.global.v2.u8 [%rd5], {%h1, %h2};", 2),
        ("ld.global.v4.u16 {%h1, %h2, %h3, %h4}, [%rd4];", "st.global.v4.u16 [%rd5], {%h1, %h2, %h3, %h4};", 8),
        ("ld.global.cs.v2.b32 {%r3, %r4}, [%rd4];", "st.global.cs.v2.b32 [%rd5], {%r3, %r4};", 8),
        (
            "ld.global.nc.L1::no_allocate.L2::128B.v4.b32 {%r3, %r4, %r5, %r6}, [%rd4];",
            "st.global.wt.v4.f32 [%rd5], {%r3, %r4, %r5, %r6};",
            16,
        ),
        ("ld.volatile.global.v2.f64 {%fd1, %fd2}, [%rd4];", "st.relaxed.gpu.global.v2.f64 [%rd5], {%fd1, %fd2};", 16),
        (
            "ld.global.v8.b32 {%r3, %r4, %r5, %r6, %r7, %r8, %r9, %r10}, [%rd4];",
            "st.global.v8.b32 [%rd5], {%r3, %r4, %r5, %r6, %r7, %r8, %r9, %r10};",
            32,
        ),
        ("ld.b32 %r3, [%rd4];", "st.b32 [%rd5], %r3;", 4),
    ] {
        // Contiguous, reversed, and strided over the lanes.
        for index in ["mov.u32 %r2, %r1", "sub.u32 %r2, 31, %r1", "mul.lo.u32 %r2, %r1, 2"] {
            let source = device.upload(&input);
            let target = device.upload(&vec![0u8; input.len()]);
            let text = kernel(&format!(
                "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.u32 %r1, %tid.x; {index};
                 mul.wide.u32 %rd3, %r2, {size}; add.s64 %rd4, %rd1, %rd3; add.s64 %rd5, %rd2, %rd3;
                 {load} {store}"
            ));
            device.launch(&text, 1, 32, &[source, target, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
            let stride = if index.starts_with("mul") { 2 * size } else { size };
            let output: Vec<u8> = device.download(target, input.len());
            for (place, (&got, &value)) in output.iter().zip(&input).enumerate() {
                let copied = place < 32 * stride && place % stride < size;
                assert_eq!(got, if copied { value } else { 0 }, "{load} {index} at {place}");
            }
        }
    }
}

#[test]
fn sign_extension() {
    let device = Device::new();
    let source = device.upload(&[0x80u8, 0xff, 0x01, 0x80, 0xfe, 0xff, 0xff, 0xff]);
    let target = device.upload(&[0u64; 6]);
    let text = kernel(
        "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1];
         ld.global.s8 %r1, [%rd1]; ld.global.s16 %r2, [%rd1+2]; ld.global.s32 %rd3, [%rd1+4];
         ld.global.u8 %rd4, [%rd1]; ld.global.s8 %h1, [%rd1]; cvt.u32.u16 %r3, %h1;
         cvt.u64.u32 %rd5, %r1; st.global.u64 [%rd2], %rd5;
         cvt.u64.u32 %rd5, %r2; st.global.u64 [%rd2+8], %rd5;
         st.global.u64 [%rd2+16], %rd3; st.global.u64 [%rd2+24], %rd4;
         cvt.u64.u32 %rd5, %r3; st.global.u64 [%rd2+32], %rd5;",
    );
    device.launch(&text, 1, 1, &[source, target, 0, 0]).unwrap();
    let values: Vec<u64> = device.download(target, 5);
    assert_eq!(values, [0xffff_ff80, 0xffff_8001, 0xffff_ffff_ffff_fffe, 0x80, 0xff80]);
}

#[test]
fn every_space_by_generic_addresses() {
    let device = Device::new();
    let target = device.upload(&[0u32; 64]);
    let text = kernel_with(
        ".const .align 4 .u32 numbers[4] = {10, 20, 30, 40};
         .global .align 4 .u32 counter = 7;
         .global .align 8 .u64 pointer = generic(numbers)+8;
         .shared .align 4 .b8 fixed[128];
         .extern .shared .align 16 .b8 dynamic[];",
        ".local .align 4 .b8 mine[8];
         ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x;
         mov.u64 %rd2, mine; cvta.local.u64 %rd2, %rd2; st.u32 [%rd2+4], %r1;
         mov.u64 %rd3, fixed; cvta.shared.u64 %rd3, %rd3; mul.wide.u32 %rd4, %r1, 4;
         add.s64 %rd3, %rd3, %rd4; add.u32 %r2, %r1, 100; st.u32 [%rd3], %r2;
         mov.u32 %r9, dynamic; mad.lo.u32 %r9, %r1, 4, %r9; add.u32 %r3, %r1, 1000;
         st.shared.u32 [%r9], %r3;
         bar.sync 0;
         ld.local.u32 %r4, [mine+4];
         xor.b32 %r5, %r1, 1; mul.wide.u32 %rd5, %r5, 4; mov.u64 %rd6, fixed; add.s64 %rd5, %rd6, %rd5;
         ld.shared.u32 %r5, [%rd5];
         ld.shared.u32 %r6, [dynamic];
         ld.const.u32 %r7, [numbers+12];
         ld.global.u64 %rd7, [pointer]; ld.u32 %r8, [%rd7];
         mov.u64 %rd10, p0; cvta.param.u64 %rd10, %rd10; ld.u64 %rd11, [%rd10];
         setp.ne.u64 %p2, %rd11, %rd1; @%p2 trap;
         isspacep.shared %p1, %rd3; @!%p1 trap; isspacep.global %p1, %rd3; @%p1 trap;
         cvta.to.shared.u64 %rd12, %rd3; ld.shared.u32 %r10, [%rd12]; sub.u32 %r10, %r10, %r2;
         add.u32 %r4, %r4, %r5; add.u32 %r4, %r4, %r6; add.u32 %r4, %r4, %r7; add.u32 %r4, %r4, %r8;
         add.u32 %r4, %r4, %r10;
         add.s64 %rd8, %rd1, %rd4; st.global.u32 [%rd8], %r4;
         ld.global.u32 %r11, [counter]; add.u32 %r11, %r11, 1; setp.eq.u32 %p3, %r1, 0;
         bar.warp.sync 0xffffffff; @%p3 st.global.u32 [counter], %r11;",
    );
    let module = Module::load(&text, &device.memory).unwrap();
    let info = module.entry_info(module.entry("test").unwrap());
    assert_eq!((info.static_shared, info.local_bytes, info.param_bytes), (128, 8, 32));
    let shape = LaunchShape { grid: [1; 3], block: [32, 1, 1], cluster: [1; 3], dynamic_shared: 128 };
    let mut params = target.to_le_bytes().to_vec();
    params.resize(32, 0);
    let entry = module.entry("test").unwrap();
    run(&module, entry, &shape, &params, &device.memory, &device.config).unwrap_or_else(|fault| panic!("{fault}"));
    let values: Vec<u32> = device.download(target, 32);
    for (lane, value) in (0..).zip(values) {
        assert_eq!(value, lane + (lane ^ 1) + 100 + 1000 + 40 + 30);
    }
    let (counter, bytes) = module.global("counter").unwrap();
    assert_eq!((device.download::<u32>(counter, 1)[0], bytes), (8, 4));
    let used = device.memory.used();
    module.unload(&device.memory);
    assert_eq!(device.memory.used(), used - 16 - 4 - 8);
}

#[test]
fn structures_as_parameters() {
    let device = Device::new();
    let target = device.upload(&[0u32; 2]);
    let text = format!(
        "{HEADER}.visible .entry test(.param .u8 small, .param .align 8 .b8 s[24], .param .u16 tail)
         {{ .reg .b32 %r<8>; .reg .b64 %rd<4>;
         ld.param.u64 %rd1, [s+8]; ld.param.v2.u32 {{%r1, %r2}}, [s+16]; ld.param.u8 %r3, [small];
         ld.param.u16 %r4, [tail]; mad.lo.u32 %r1, %r1, %r3, %r4; st.global.v2.u32 [%rd1], {{%r1, %r2}};
         ret; }}"
    );
    let module = Module::load(&text, &device.memory).unwrap();
    let entry = module.entry("test").unwrap();
    let info = module.entry_info(entry);
    let places: Vec<_> = info.params.iter().map(|p| (p.offset, p.size, p.align)).collect();
    assert_eq!(places, [(0, 1, 1), (8, 24, 8), (32, 2, 2)]);
    let mut params = vec![0u8; info.param_bytes as usize];
    params[0] = 3;
    params[16..24].copy_from_slice(&target.to_le_bytes());
    params[24..32].copy_from_slice(&[5, 0, 0, 0, 9, 0, 0, 0]);
    params[32..34].copy_from_slice(&1000u16.to_le_bytes());
    let shape = LaunchShape { grid: [1; 3], block: [1; 3], cluster: [1; 3], dynamic_shared: 0 };
    run(&module, entry, &shape, &params, &device.memory, &device.config).unwrap();
    assert_eq!(device.download::<u32>(target, 2), [1015, 9]);
}

#[test]
fn atomics_on_global_memory() {
    let device = Device::new();
    let cells: Vec<u32> = vec![0, 100, 50, u32::MAX, 0, 0xff00, 5, 3, 3, 0, 0, 0, 0, 0, 0, 0];
    let target = device.upload(&cells);
    let text = kernel(
        "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
         mad.lo.u32 %r1, %r1, %r2, %r3; cvt.rn.f32.u32 %f1, 1;
         atom.global.add.u32 %r4, [%rd1], 1;
         red.global.min.s32 [%rd1+4], %r1; red.global.max.u32 [%rd1+8], %r1;
         red.global.and.b32 [%rd1+12], 0xff; red.global.or.b32 [%rd1+16], %r1;
         red.global.xor.b32 [%rd1+20], 0x10; atom.global.inc.u32 %r5, [%rd1+24], 9;
         red.global.dec.u32 [%rd1+28], 7; atom.global.exch.b32 %r6, [%rd1+32], 77;
         red.relaxed.gpu.global.add.f32 [%rd1+36], %f1;
         red.global.add.u64 [%rd1+40], 3; mov.u32 %r7, 0x3c003c00;
         red.global.add.noftz.f16x2 [%rd1+48], %r7;
         atom.acq_rel.gpu.global.cas.b32 %r8, [%rd1+56], 0, 123;",
    );
    let counters = device.launch(&text, 2, 128, &[target, 0, 0, 0]).unwrap();
    let got: Vec<u32> = device.download(target, 16);
    let mut expected = cells.clone();
    for i in 0..256u32 {
        expected[0] += 1;
        expected[1] = expected[1].min(i);
        expected[2] = expected[2].max(i);
        expected[3] &= 0xff;
        expected[4] |= i;
        expected[5] ^= 0x10;
        expected[6] = if expected[6] >= 9 { 0 } else { expected[6] + 1 };
        expected[7] = if expected[7] == 0 || expected[7] > 7 { 7 } else { expected[7] - 1 };
    }
    expected[8] = 77;
    expected[9] = 256f32.to_bits();
    expected[10] = 768;
    expected[12] = 0x5c00_5c00;
    expected[14] = 123;
    assert_eq!(got, expected);
    assert_eq!(counters.class(OpClass::Atomic), 13 * 8);
}

#[test]
fn atomics_return_the_old_value_once_each() {
    let device = Device::new();
    let (cell, target) = (device.upload(&[0u32]), device.upload(&[0u32; 256]));
    let text = kernel_with(
        ".shared .align 4 .u32 ticket;",
        "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.u32 %r1, %tid.x;
         setp.eq.u32 %p1, %r1, 0; @%p1 st.shared.u32 [ticket], 0; bar.sync 0;
         atom.shared.add.u32 %r2, [ticket], 1; atom.add.u32 %r3, [%rd1], 2;
         mad.lo.u32 %r4, %r2, 1000, %r3; mul.wide.u32 %rd3, %r1, 4; add.s64 %rd2, %rd2, %rd3;
         st.global.u32 [%rd2], %r4;",
    );
    device.launch(&text, 1, 256, &[cell, target, 0, 0]).unwrap();
    let mut tickets: Vec<u32> = device.download(target, 256);
    tickets.sort_unstable();
    assert!(tickets.iter().enumerate().all(|(i, &ticket)| ticket as usize == i * 1002));
}

#[test]
fn named_barriers_and_reductions_by_barrier() {
    // Warps 0 and 1 hand a value to warps 2 and 3: one side only arrives.
    let device = Device::new();
    let target = device.upload(&[0u32; 128]);
    let text = kernel_with(
        ".shared .align 4 .b8 box[256];",
        "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; mov.u32 %r2, box;
         setp.ge.u32 %p1, %r1, 64; and.b32 %r3, %r1, 63; mad.lo.u32 %r2, %r3, 4, %r2; mov.u32 %r4, 0;
         @%p1 bra READ;
         add.u32 %r5, %r1, 500; st.shared.u32 [%r2], %r5; barrier.arrive 3, 128; bra JOIN;
         READ: barrier.sync 3, 128; xor.b32 %r6, %r2, 4; ld.shared.u32 %r4, [%r6];
         JOIN: setp.lt.u32 %p2, %r1, 100; bar.red.popc.u32 %r7, 0, %p2;
         bar.red.and.pred %p3, 1, %p2; bar.red.or.pred %p4, 1, !%p2; selp.u32 %r8, 1, 0, %p4;
         @%p3 trap;
         mad.lo.u32 %r4, %r7, 10000, %r4; add.u32 %r4, %r4, %r8;
         mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd1, %rd2; st.global.u32 [%rd1], %r4;",
    );
    let counters = device.launch(&text, 1, 128, &[target, 0, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
    for (i, value) in device.download::<u32>(target, 128).into_iter().enumerate() {
        let read = if i >= 64 { ((i as u32 - 64) ^ 1) + 500 } else { 0 };
        assert_eq!(value, 1_000_001 + read, "thread {i}");
    }
    assert_eq!(counters.barriers, 4);
}

#[test]
fn blocks_may_wait_for_each_other() {
    // Every block waits until all have come: a barrier of the grid.
    let device = Device::new();
    let (count, target) = (device.upload(&[0u32]), device.upload(&[0u32; 40]));
    let text = kernel(
        "ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x;
         setp.ne.u32 %p1, %r2, 0; @%p1 bra DONE;
         atom.add.release.gpu.global.u32 %r3, [%rd1], 1;
         WAIT: ld.acquire.gpu.global.u32 %r4, [%rd1]; setp.lt.u32 %p2, %r4, 40; @%p2 bra WAIT;
         mul.wide.u32 %rd3, %r1, 4; add.s64 %rd2, %rd2, %rd3; st.global.u32 [%rd2], %r4;
         DONE: bar.sync 0;",
    );
    device.launch(&text, 40, 64, &[count, target, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
    assert!(device.download::<u32>(target, 40).iter().all(|&seen| seen == 40));
}

#[test]
fn lanes_may_wait_for_each_other() {
    // A spin lock within a warp: it needs independent progress of diverged lanes.
    let device = Device::new();
    let cells = device.upload(&[0u32; 2]);
    let text = kernel(
        "ld.param.u64 %rd1, [p0];
         SPIN: atom.global.cas.b32 %r1, [%rd1], 0, 1; setp.ne.u32 %p1, %r1, 0; @%p1 bra SPIN;
         ld.volatile.global.u32 %r2, [%rd1+4]; add.u32 %r2, %r2, 1;
         st.volatile.global.u32 [%rd1+4], %r2; membar.gl;
         atom.global.exch.b32 %r3, [%rd1], 0;",
    );
    device.launch(&text, 3, 64, &[cells, 0, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
    assert_eq!(device.download::<u32>(cells, 2), [0, 192]);
}

#[test]
fn results_do_not_depend_on_workers_or_order() {
    let text = kernel_with(
        ".shared .align 4 .b8 s[1024];",
        "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x;
         mov.u32 %r3, s; mad.lo.u32 %r4, %r1, 4, %r3; mad.lo.u32 %r5, %r2, 256, %r1;
         st.shared.u32 [%r4], %r5; bar.sync 0; sub.u32 %r6, 255, %r1; mad.lo.u32 %r6, %r6, 4, %r3;
         ld.shared.u32 %r7, [%r6]; bar.sync 0; st.shared.u32 [%r4], %r7; bar.sync 0;
         xor.b32 %r6, %r1, 33; mad.lo.u32 %r6, %r6, 4, %r3; ld.shared.u32 %r7, [%r6];
         mul.wide.u32 %rd2, %r5, 4; add.s64 %rd1, %rd1, %rd2; st.global.u32 [%rd1], %r7;",
    );
    let run = |workers, seed| {
        let mut device = Device::new();
        (device.config.workers, device.config.seed) = (workers, seed);
        let target = device.upload(&[0u32; 64 * 256]);
        let counters = device.launch(&text, 64, 256, &[target, 0, 0, 0]).unwrap();
        (device.download::<u32>(target, 64 * 256), counters)
    };
    let first = run(1, 0);
    for workers in [2, 4] {
        assert!(run(workers, 0) == first, "workers {workers}");
    }
    // Where lanes part, a warp takes more instructions and requests; its threads do the same.
    for (workers, seed) in [(1, 1), (2, 99), (3, 12345)] {
        let (values, counters) = run(workers, seed);
        assert!(values == first.0, "workers {workers}, seed {seed}");
        let of_threads = |c: &Counters| (c.threads_by_class, c.barriers, c.blocks, c.warps, c.global_write_bytes);
        assert_eq!(of_threads(&counters), of_threads(&first.1), "workers {workers}, seed {seed}");
        assert_eq!(run(4, seed).1, counters, "seed {seed}");
    }
    assert_eq!((first.1.barriers, first.1.blocks, first.1.warps), (192, 64, 512));
}

#[test]
fn counters_of_global_memory() {
    let device = Device::new();
    let source = device.upload(&[0u32; 4096]);
    let count = |shift: u32, offset: u32| {
        let text = kernel(&format!(
            "ld.param.u64 %rd1, [p0]; mov.u32 %r1, %tid.x; shl.b32 %r1, %r1, {shift};
             mul.wide.u32 %rd2, %r1, 4; add.s64 %rd1, %rd1, %rd2; ld.global.u32 %r2, [%rd1+{offset}];"
        ));
        let counters = device.launch(&text, 1, 64, &[source, 0, 0, 0]).unwrap();
        (counters.global_read_requests, counters.global_read_bytes, counters.global_read_sectors)
    };
    assert_eq!(count(0, 0), (2, 256, 8));
    assert_eq!(count(0, 4), (2, 256, 10));
    assert_eq!(count(1, 0), (2, 256, 16));
    assert_eq!(count(3, 0), (2, 256, 64));
    // All lanes at one address.
    assert_eq!(count(32, 0), (2, 256, 2));
}

#[test]
fn bank_conflicts() {
    let device = Device::new();
    let wavefronts = |stride: u32| {
        let text = kernel_with(
            ".shared .align 4 .b8 s[8192];",
            &format!(
                "mov.u32 %r1, %tid.x; mul.lo.u32 %r1, %r1, {stride}; mov.u32 %r2, s;
             add.u32 %r1, %r1, %r2; st.shared.u32 [%r1], %r1;"
            ),
        );
        device.launch(&text, 1, 32, &[0; 4]).unwrap().shared_wavefronts
    };
    assert_eq!([4, 8, 16, 128, 132].map(wavefronts), [1, 2, 4, 32, 1]);
    assert_eq!(wavefronts(0), 1);
}

const COPY: &str = "
    ld.param.u64 %rd1, [p0]; ld.param.u64 %rd2, [p1]; mov.u32 %r1, %tid.x; mov.u32 %r2, s;
    mad.lo.u32 %r3, %r1, 16, %r2; mul.wide.u32 %rd3, %r1, 16; add.s64 %rd4, %rd1, %rd3;";

#[test]
fn asynchronous_copies() {
    let device = Device::new();
    let input: Vec<u32> = (0..512).collect();
    let (source, target) = (device.upload(&input), device.upload(&[9u32; 512]));
    let text = kernel_with(
        ".shared .align 16 .b8 s[2048];",
        &format!(
            "{COPY} cp.async.cg.shared.global [%r3], [%rd4], 16; cp.async.commit_group;
             add.u32 %r4, %r3, 1024; add.s64 %rd5, %rd4, 1024;
             cp.async.ca.shared.global.L2::128B [%r4], [%rd5], 8, 4;
             add.u32 %r5, %r4, 8; add.s64 %rd6, %rd5, 8;
             cp.async.ca.shared.global [%r5], [%rd6], 4; cp.async.commit_group;
             cp.async.wait_group 1; bar.sync 0;
             xor.b32 %r6, %r3, 16; ld.shared.v4.u32 {{%r10, %r11, %r12, %r13}}, [%r6];
             cp.async.wait_all; bar.sync 0;
             ld.shared.u32 %r14, [%r4]; ld.shared.u32 %r15, [%r4+4]; ld.shared.u32 %r16, [%r4+8];
             add.s64 %rd7, %rd2, %rd3; st.global.v4.u32 [%rd7], {{%r10, %r11, %r12, %r13}};
             st.global.u32 [%rd7+1024], %r14; st.global.u32 [%rd7+1028], %r15; st.global.u32 [%rd7+1032], %r16;"
        ),
    );
    device.launch(&text, 1, 64, &[source, target, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
    let got: Vec<u32> = device.download(target, 512);
    for i in 0..64usize {
        let other = (i ^ 1) * 4;
        assert_eq!(got[4 * i..4 * i + 4], input[other..other + 4], "first half, thread {i}");
        let second = 256 + 4 * i;
        assert_eq!(got[second..second + 4], [input[second], 0, input[second + 2], 9]);
    }
}
