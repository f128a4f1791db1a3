//! Counters and traffic of kernels whose counts are known by hand.

mod ptx_support;

use ptx_support::{Device, kernel};
use softcuda::counters::OpClass;
use softcuda::{Accesses, Config, Counters, Kernel, Traffic};

/// Byte address of element `index(thread)` of the buffer in `p0`, for `%r1` = the thread's index in
/// the grid, in `%rd1`; the index is computed by `index` from `%r1` into `%r2`.
fn address(index: &str, size: u32) -> String {
    format!(
        "mov.u32 %r3, %ctaid.x;
mov.u32 %r4, %ntid.x;
mov.u32 %r5, %tid.x;
mad.lo.s32 %r1, %r3, %r4, %r5;
{index}
ld.param.u64 %rd0, [p0];
mul.wide.u32 %rd1, %r2, {size};
add.s64 %rd1, %rd0, %rd1;"
    )
}

fn tracing() -> Device {
    let mut device = Device::new();
    device.config.trace = true;
    device
}

/// One read of 4 bytes by each of 32 threads.
fn read(index: &str, offset: u64) -> (Counters, Accesses) {
    let device = tracing();
    let buffer = device.upload(&vec![1u32; 4096]);
    let text = kernel(&format!("{}\nld.global.u32 %r6, [%rd1];", address(index, 4)));
    let measured = device.measure(&text, (1, 32, 0), &[buffer + offset, 0, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
    let traffic = measured.traffic.unwrap();
    assert_eq!(traffic.buffers.len(), 1);
    let seen = traffic.buffer(buffer).unwrap();
    assert_eq!((seen.base, seen.size, seen.written), (buffer, 4 * 4096, Accesses::default()));
    assert_eq!(traffic.dram_read_bytes, 32 * seen.read.sectors, "nothing is cached yet");
    (measured.counters, seen.read)
}

#[test]
fn reads_of_one_warp() {
    // Requests, sectors, bytes, different bytes; the least sectors.
    let cases = [
        ("coalesced", "mov.u32 %r2, %r1;", 0, (1, 4, 128, 128), 4),
        ("backwards", "sub.s32 %r2, 31, %r1;", 0, (1, 4, 128, 128), 4),
        ("every second word", "shl.b32 %r2, %r1, 1;", 0, (1, 8, 128, 128), 4),
        ("a sector each", "shl.b32 %r2, %r1, 3;", 0, (1, 32, 128, 128), 4),
        ("one word for all", "mov.u32 %r2, 7;", 0, (1, 1, 128, 4), 1),
        ("two lanes a word", "shr.u32 %r2, %r1, 1;", 0, (1, 2, 128, 64), 2),
        ("off by one word", "mov.u32 %r2, %r1;", 4, (1, 5, 128, 128), 4),
    ];
    for (name, index, offset, expected, least) in cases {
        let (counters, read) = self::read(index, offset);
        assert_eq!((read.requests, read.sectors, read.bytes, read.unique_bytes), expected, "{name}");
        let totals = (counters.global_read_requests, counters.global_read_sectors, counters.global_read_bytes);
        assert_eq!(totals, (read.requests, read.sectors, read.bytes), "{name}");
        assert_eq!((counters.global_read_sectors_least, counters.global_write_sectors_least), (least, 0), "{name}");
        assert_eq!(read.sectors_least, least, "{name}");
        assert_eq!(read.repeated_bytes(), expected.2 - expected.3);
    }
}

#[test]
fn traffic_by_buffer() {
    let device = tracing();
    let (from, to, sum, idle) =
        (device.upload(&[1u32; 64]), device.upload(&[0u32; 64]), device.upload(&[0u32; 1]), device.upload(&[0u32; 4]));
    let text = kernel(&format!(
        "{}
ld.global.u32 %r6, [%rd1];
ld.global.u32 %r7, [%rd1];
ld.param.u64 %rd2, [p1];
mul.wide.u32 %rd3, %r1, 4;
add.s64 %rd2, %rd2, %rd3;
st.global.u32 [%rd2], %r7;
ld.param.u64 %rd4, [p2];
red.global.add.u32 [%rd4], %r6;",
        address("mov.u32 %r2, %r1;", 4)
    ));
    let traffic = device.measure(&text, (1, 64, 0), &[from, to, sum, 0]).unwrap().traffic.unwrap();
    let all = |accesses: Accesses| (accesses.requests, accesses.sectors, accesses.bytes, accesses.unique_bytes);
    let of = |address| traffic.buffer(address).map(|buffer| (all(buffer.read), all(buffer.written)));
    assert_eq!(of(from), Some(((4, 16, 512, 256), (0, 0, 0, 0))));
    assert_eq!(of(to), Some(((0, 0, 0, 0), (2, 8, 256, 256))));
    assert_eq!(of(sum), Some(((0, 0, 0, 0), (2, 2, 256, 4))));
    assert_eq!(of(idle), None);
    // The second read of each byte hits; the sum is fetched because it is added to.
    assert_eq!((traffic.l2_read_sectors, traffic.l2_read_hits), (16, 8));
    assert_eq!((traffic.dram_read_bytes, traffic.dram_write_bytes), (256 + 32, 256 + 32));
}

/// Each of 64 blocks reads the 4 KiB of its own row twice.
fn two_passes(sm_count: u32, l2_bytes: u32, workers: u32) -> Traffic {
    let mut device = tracing();
    device.config = Config { sm_count, l2_bytes, workers, max_blocks_per_sm: 1, ..device.config };
    let buffer = device.upload(&vec![1u32; 64 * 1024]);
    let text = kernel(
        "ld.param.u64 %rd0, [p0];
mov.u32 %r1, %ctaid.x;
mul.wide.u32 %rd1, %r1, 4096;
add.s64 %rd0, %rd0, %rd1;
mov.u32 %r2, %tid.x;
mul.wide.u32 %rd1, %r2, 16;
add.s64 %rd0, %rd0, %rd1;
mov.u32 %r3, 0;
PASS:
mov.u32 %r4, 0;
mov.u64 %rd2, %rd0;
ROW:
ld.global.v4.u32 {%r5, %r6, %r7, %r8}, [%rd2];
add.s64 %rd2, %rd2, 512;
add.s32 %r4, %r4, 1;
setp.lt.u32 %p1, %r4, 8;
@%p1 bra ROW;
add.s32 %r3, %r3, 1;
setp.lt.u32 %p1, %r3, 2;
@%p1 bra PASS;",
    );
    let measured = device.measure(&text, (64, 32, 0), &[buffer, 0, 0, 0]).unwrap();
    let traffic = measured.traffic.unwrap();
    let read = traffic.buffer(buffer).unwrap().read;
    assert_eq!((read.bytes, read.unique_bytes, read.repeated_bytes()), (524_288, 262_144, 262_144));
    assert_eq!(traffic.l2_read_sectors, 524_288 / 32);
    traffic
}

#[test]
fn a_second_pass_comes_from_the_cache_if_the_rows_in_work_fit() {
    // 16 blocks work on 64 KiB at a time.
    let resident = two_passes(16, 128 << 10, 1);
    assert_eq!((resident.dram_read_bytes, resident.l2_read_hits), (262_144, 8192));
    let thrashing = two_passes(16, 32 << 10, 1);
    assert_eq!((thrashing.dram_read_bytes, thrashing.l2_read_hits), (524_288, 0));
    // Fewer blocks at a time need less of it.
    assert_eq!(two_passes(4, 32 << 10, 1).dram_read_bytes, 262_144);
    let mut again = two_passes(16, 32 << 10, 8);
    again.buffers[0].base = thrashing.buffers[0].base;
    assert_eq!(again, thrashing, "neither host threads nor addresses matter");
}

/// Sectors touched and the least possible, of reads and of writes, by 32 threads with the address of their `size` bytes
/// in `%rd1`.
fn sectors(size: u32, offset: u64, operation: &str) -> [u64; 4] {
    let device = Device::new();
    let buffer = device.upload(&vec![1u32; 4096]);
    let text = kernel(&format!(
        ".shared .align 16 .b8 tile[4096];
{}
mov.u64 %rd4, 0;
{operation}",
        address("mov.u32 %r2, %r1;", size)
    ));
    let counters = device.launch(&text, 1, 32, &[buffer + offset, 0, 0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
    let read = [counters.global_read_sectors, counters.global_read_sectors_least];
    let written = [counters.global_write_sectors, counters.global_write_sectors_least];
    [read[0], read[1], written[0], written[1]]
}

#[test]
fn the_least_sectors_of_every_kind_of_request() {
    let store = "st.global.u32 [%rd1], %r1;";
    assert_eq!(sectors(4, 0, store), [0, 0, 4, 4]);
    assert_eq!(sectors(4, 20, store), [0, 0, 5, 4]);
    assert_eq!(sectors(8, 0, store), [0, 0, 8, 4], "every second word");
    assert_eq!(sectors(16, 16, "ld.global.v4.u32 {%r6, %r7, %r8, %r9}, [%rd1];"), [17, 16, 0, 0]);
    let some = "setp.lt.u32 %p1, %r1, 3;\n@%p1 st.global.u32 [%rd1], %r1;";
    assert_eq!(sectors(4, 24, some), [0, 0, 2, 1], "three lanes, in two sectors");
    let atomic = "red.global.add.u32 [%rd1], 1;";
    assert_eq!(sectors(4, 4, atomic), [0, 0, 5, 4]);
    assert_eq!(sectors(0, 4, atomic), [0, 0, 1, 1], "one word for all");
    let copy = "mov.u32 %r6, tile;
mad.lo.u32 %r6, %r1, 16, %r6;
cp.async.cg.shared.global [%r6], [%rd1], 16;
cp.async.wait_all;";
    assert_eq!(sectors(16, 16, copy), [17, 16, 0, 0]);
    let part = copy.replace("16;\ncp", "16, %r5;\ncp");
    // Thread t copies its first t bytes, and the first none, up to 15.
    assert_eq!(sectors(16, 0, &format!("and.b32 %r5, %r1, 15;\n{part}")), [16, 8, 0, 0]);
}

/// 32 threads store 4 bytes each at `stride` times their index in shared memory.
fn shared(stride: u32, size: u32, op: &str, threads: u32) -> (u64, u64) {
    let device = Device::new();
    let text = kernel(&format!(
        ".shared .align 16 .b8 tile[40960];
mov.u32 %r1, %tid.x;
mul.lo.u32 %r2, %r1, {stride};
mov.u32 %r3, tile;
add.s32 %r3, %r3, %r2;
mov.u32 %r4, 0;
mov.u64 %rd4, 0;
{op}"
    ));
    let counters = device.launch(&text, 1, threads, &[0; 4]).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!((counters.shared_requests, counters.shared_write_bytes), (1, u64::from(threads * size)));
    (counters.shared_wavefronts, counters.shared_bank_conflicts)
}

#[test]
fn banks_of_shared_memory() {
    let four = "st.shared.u32 [%r3], %r4;";
    assert_eq!(shared(4, 4, four, 32), (1, 0));
    assert_eq!(shared(8, 4, four, 32), (2, 1));
    assert_eq!(shared(128, 4, four, 32), (32, 31));
    assert_eq!(shared(132, 4, four, 32), (1, 0), "padding");
    assert_eq!(shared(0, 4, four, 32), (1, 0), "one word for all");
    assert_eq!(shared(128, 4, four, 5), (5, 4));
    let two = "cvt.u16.u32 %h1, %r4; st.shared.u16 [%r3], %h1;";
    assert_eq!(shared(2, 2, two, 32), (1, 0));
    assert_eq!(shared(64, 2, two, 32), (16, 15));
    let eight = "st.shared.u64 [%r3], %rd4;";
    assert_eq!(shared(8, 8, eight, 32), (2, 0));
    assert_eq!(shared(8, 8, eight, 16), (1, 0), "half of the warp");
    assert_eq!(shared(128, 8, eight, 32), (32, 30));
    assert_eq!(shared(136, 8, eight, 32), (2, 0));
    let sixteen = "st.shared.v4.u32 [%r3], {%r4, %r4, %r4, %r4};";
    assert_eq!(shared(16, 16, sixteen, 32), (4, 0));
    assert_eq!(shared(16, 16, sixteen, 1), (1, 0));
    assert_eq!(shared(128, 16, sixteen, 32), (32, 28));
    assert_eq!(shared(144, 16, sixteen, 32), (4, 0));
}

#[test]
fn atomics_on_one_word_come_one_after_the_other() {
    let zero = "st.shared.u32 [%r3], %r4;\n";
    let device = Device::new();
    for (stride, expected) in [(4, (1, 0)), (0, (32, 31)), (8, (2, 1)), (128, (32, 31))] {
        let text = kernel(&format!(
            ".shared .align 16 .b8 tile[4096];
mov.u32 %r1, %tid.x;
mul.lo.u32 %r2, %r1, {stride};
mov.u32 %r3, tile;
add.s32 %r3, %r3, %r2;
mov.u32 %r4, 0;
{zero}bar.sync 0;
red.shared.add.u32 [%r3], 1;"
        ));
        let counters = device.launch(&text, 1, 32, &[0; 4]).unwrap();
        let stores = shared(stride, 4, zero, 32);
        let atomics = (counters.shared_wavefronts - stores.0, counters.shared_bank_conflicts - stores.1);
        assert_eq!(atomics, expected, "stride {stride}");
    }
}

/// A 32 by 32 transpose through shared memory with rows of `pitch` words, one warp.
fn transpose(pitch: u32) -> Counters {
    let device = Device::new();
    let (from, to) = (device.upload(&(0..1024).collect::<Vec<u32>>()), device.upload(&[0u32; 1024]));
    let text = kernel(&format!(
        ".shared .align 16 .b8 tile[8192];
ld.param.u64 %rd0, [p0];
ld.param.u64 %rd1, [p1];
mov.u32 %r1, %tid.x;
mul.wide.u32 %rd2, %r1, 4;
add.s64 %rd0, %rd0, %rd2;
add.s64 %rd1, %rd1, %rd2;
mov.u32 %r2, tile;
shl.b32 %r3, %r1, 2;
add.s32 %r3, %r3, %r2;
mov.u32 %r5, 0;
FILL:
ld.global.u32 %r6, [%rd0];
st.shared.u32 [%r3], %r6;
add.s64 %rd0, %rd0, 128;
add.s32 %r3, %r3, {row};
add.s32 %r5, %r5, 1;
setp.lt.u32 %p1, %r5, 32;
@%p1 bra FILL;
bar.warp.sync 0xffffffff;
mul.lo.u32 %r3, %r1, {row};
add.s32 %r3, %r3, %r2;
mov.u32 %r5, 0;
DRAIN:
ld.shared.u32 %r6, [%r3];
st.global.u32 [%rd1], %r6;
add.s64 %rd1, %rd1, 128;
add.s32 %r3, %r3, 4;
add.s32 %r5, %r5, 1;
setp.lt.u32 %p1, %r5, 32;
@%p1 bra DRAIN;",
        row = 4 * pitch
    ));
    let counters = device.launch(&text, 1, 32, &[from, to, 0, 0]).unwrap_or_else(|fault| panic!("{fault}"));
    let result = device.download::<u32>(to, 1024);
    assert!((0..1024).all(|i| result[i] == (i % 32 * 32 + i / 32) as u32));
    counters
}

#[test]
fn a_transpose_with_and_without_padding() {
    let (plain, padded) = (transpose(32), transpose(33));
    assert_eq!((plain.shared_requests, plain.shared_wavefronts), (64, 32 + 32 * 32));
    assert_eq!(plain.shared_bank_conflicts, 32 * 31);
    assert_eq!((padded.shared_requests, padded.shared_wavefronts, padded.shared_bank_conflicts), (64, 64, 0));
    assert_eq!((padded.warp_barriers, padded.barriers), (1, 0));
}

#[test]
fn asynchronous_copies_use_the_banks() {
    let device = tracing();
    let buffer = device.upload(&[1u32; 4096]);
    for (stride, expected) in [(16, (4, 0)), (128, (32, 28))] {
        let text = kernel(&format!(
            ".shared .align 16 .b8 tile[4096];
{}
mov.u32 %r6, tile;
mul.lo.u32 %r7, %r1, {stride};
add.s32 %r6, %r6, %r7;
cp.async.cg.shared.global [%r6], [%rd1], 16;
cp.async.wait_all;",
            address("mov.u32 %r2, %r1;", 16)
        ));
        let measured = device.measure(&text, (1, 32, 0), &[buffer, 0, 0, 0]).unwrap_or_else(|f| panic!("{f}"));
        let counters = measured.counters;
        assert_eq!((counters.shared_wavefronts, counters.shared_bank_conflicts), expected);
        let traffic = measured.traffic.unwrap();
        let read = traffic.buffer(buffer).unwrap().read;
        assert_eq!((read.requests, read.sectors, read.bytes, read.unique_bytes), (1, 16, 512, 512));
        assert_eq!(traffic.warp_bytes_in_flight, 512);
    }
}

/// Bytes in flight of a warp and a multiprocessor.
fn in_flight(body: &str, grid: u32, block: u32) -> (u64, u64) {
    let mut device = tracing();
    device.config = Config { sm_count: 2, max_threads_per_sm: 256, ..device.config };
    let buffer = device.upload(&vec![1u32; 65_536]);
    let text = kernel(&format!("{}\n{body}", address("mov.u32 %r2, %r1;", 4)));
    let traffic = device.measure(&text, (grid, block, 0), &[buffer, 0, 0, 0]).unwrap().traffic.unwrap();
    (traffic.warp_bytes_in_flight, traffic.sm_bytes_in_flight)
}

#[test]
fn bytes_in_flight_end_with_the_first_use() {
    let load = |to: u32, offset: u32| format!("ld.global.u32 %r{to}, [%rd1+{offset}];\n");
    let used = "add.s32 %r20, %r10, %r11;\nadd.s32 %r21, %r12, %r13;\n";
    let four = (0..4).map(|i| load(10 + i, 128 * i)).collect::<String>() + used;
    assert_eq!(in_flight(&four, 1, 32), (512, 512));
    let one_by_one: String =
        (0..4).map(|i| load(10 + i, 128 * i) + &format!("add.s32 %r20, %r{}, 1;\n", 10 + i)).collect();
    assert_eq!(in_flight(&one_by_one, 1, 32), (128, 128));
    // The next is loaded before the last is used.
    let ahead: String = (0..4).map(|i| load(11 + i, 128 * i) + &format!("add.s32 %r20, %r{}, 1;\n", 10 + i)).collect();
    assert_eq!(in_flight(&(load(10, 0) + &ahead), 1, 32), (256, 256));
    // Overwriting the result waits for it too.
    assert_eq!(
        in_flight(&(load(10, 0) + "mov.u32 %r10, 0;\n" + &load(11, 0) + "add.s32 %r20, %r10, %r11;"), 1, 32),
        (128, 128)
    );
    // Four blocks of two warps on two multiprocessors that have room for four each.
    assert_eq!(in_flight(&four, 4, 64), (512, 2 * 2 * 512));
    assert_eq!(in_flight(&four, 64, 64), (512, 4 * 2 * 512));
}

#[test]
fn barriers_of_clusters() {
    let meet = "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;\n";
    let twice = kernel(&format!("{meet}{meet}bar.sync 0;"));
    let mut launch = Kernel::load(&twice, "test").unwrap().grid([6, 1, 1]).cluster([2, 1, 1]).block([64, 1, 1]);
    for _ in 0..4 {
        launch = launch.arg(0_u64);
    }
    let ran = launch.run(&Config::capability(9, 0)).unwrap_or_else(|error| panic!("{error}"));
    let counters = ran.launch.counters;
    assert_eq!((counters.cluster_barriers, counters.barriers, counters.warp_barriers), (2 * 3, 6, 0));
    assert_eq!((ran.launch.cluster, counters.blocks, counters.warps), ([2, 1, 1], 6, 12));
}

#[test]
fn special_functions_are_counted_by_thread() {
    let device = Device::new();
    let counters = device
        .launch(
            &kernel(
                "mov.u32 %r1, %tid.x;
setp.lt.u32 %p1, %r1, 20;
mov.f32 %f1, 0f3F800000;
ex2.approx.f32 %f2, %f1;
@%p1 lg2.approx.f32 %f3, %f1;
mov.u32 %r2, 0x3c003c00;
ex2.approx.f16x2 %r3, %r2;
div.rn.f32 %f4, %f1, %f1;",
            ),
            1,
            32,
            &[0; 4],
        )
        .unwrap();
    assert_eq!((counters.class(OpClass::Mufu), counters.threads(OpClass::Mufu)), (3, 84));
    assert_eq!((counters.class(OpClass::MufuPair), counters.threads(OpClass::MufuPair)), (1, 32));
    assert_eq!(counters.mufu(), 84 + 64);
}

#[test]
fn divergence_is_seen_in_branches_and_lanes() {
    let device = Device::new();
    let body = |limit: u32| {
        kernel(&format!(
            "mov.u32 %r1, %laneid;
setp.lt.u32 %p1, %r1, {limit};
@%p1 bra OVER;
mov.u32 %r2, 1;
mov.u32 %r2, 2;
OVER:"
        ))
    };
    let together = device.launch(&body(32), 1, 64, &[0; 4]).unwrap();
    assert_eq!((together.divergent_branches, together.lanes_per_instruction()), (0, 32.0));
    let apart = device.launch(&body(8), 1, 64, &[0; 4]).unwrap();
    assert_eq!(apart.divergent_branches, 2);
    // mov, setp, bra and ret for all, though the branch is taken by 8 lanes; two for 24.
    assert_eq!((apart.warp_instructions, apart.thread_instructions), (12, 2 * (3 * 32 + 8 + 2 * 24)));
    assert_eq!(Counters::default().lanes_per_instruction(), 0.0);
}

#[test]
fn counters_and_traffic_survive_json() {
    let (counters, _) = read("mov.u32 %r2, %r1;", 0);
    let text = counters.to_json();
    assert!(text.contains(r#""load global":1"#) && !text.contains("atomic"), "{text}");
    assert_eq!(serde_json::from_str::<Counters>(&text).unwrap(), counters);
    let traffic = two_passes(4, 32 << 10, 1);
    assert_eq!(serde_json::from_str::<Traffic>(&traffic.to_json()).unwrap(), traffic);
}
