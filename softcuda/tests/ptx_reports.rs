//! The text of reports, whole: `ptx/reports.txt` has one for each kind of error.

mod driver_support;
mod ptx_support;

use cudarc::driver::PushKernelArg;
use driver_support::{STORE, device, kernel, shape};
use ptx_support::{Device, kernel_with};
use softcuda::Config;
use softcuda::fault::{Fault, FaultKind};

const REPORTS: &str = include_str!("ptx/reports.txt");

/// Names and bodies of kernels. Each runs in two blocks of a warp, which are a cluster; `%rd0` is a buffer
/// of 40 bytes, `%rd1` one that was freed, `%r0` the thread's index, `%p0` is true in thread 0 of block 0.
const KERNELS: [(&str, &str); 24] = [
    ("read beyond the end", "mul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd2, %rd0, %rd2;\nld.global.u32 %r1, [%rd2];"),
    ("write across the end", "st.global.v4.u32 [%rd0+32], {%r0, %r0, %r0, %r0};"),
    ("read before the beginning", "ld.global.u8 %r1, [%rd0+-3];"),
    ("misaligned read, generic address", "ld.u32 %r1, [%rd0+2];"),
    ("addition to freed memory", "red.global.add.u32 [%rd1+8], 1;"),
    ("read-only read of what was written", "@%p0 st.global.u32 [%rd0], %r0;\n@%p0 ld.global.nc.u32 %r1, [%rd0];"),
    ("write to a constant", "mov.u64 %rd2, fixed;\ncvta.const.u64 %rd2, %rd2;\nst.global.u32 [%rd2+4], %r0;"),
    ("shared memory", "shl.b32 %r1, %r0, 3;\nmov.u32 %r2, tile;\nadd.s32 %r2, %r2, %r1;\nst.shared.u64 [%r2+8], %rd0;"),
    ("local memory", ".local .align 4 .b8 own[16];\nmov.u64 %rd2, own;\nst.local.u32 [%rd2+16], %r0;"),
    ("asynchronous copy", "mov.u32 %r2, tile;\ncp.async.ca.shared.global [%r2], [%rd0+2], 4;"),
    ("uninitialised store", "mov.u32 %r2, tile;\nld.shared.u32 %r1, [%r2];\nst.global.u32 [%rd0], %r1;"),
    ("uninitialised branch", "setp.eq.u32 %p1, %r9, 0;\n@%p1 bra L;\nL:"),
    (
        "no wait for a copy",
        "shl.b32 %r1, %r0, 2;\nmov.u32 %r2, tile;\nadd.s32 %r2, %r2, %r1;\nsetp.lt.u32 %p1, %r0, 8;
@%p1 cp.async.ca.shared.global [%r2], [%rd0], 4;\n@%p1 ld.shared.u32 %r1, [%r2];",
    ),
    ("barrier in a branch", "setp.lt.u32 %p1, %r0, 5;\n@%p1 bra L;\nbar.sync 0;\nL:"),
    ("mask without the lanes that are there", "setp.lt.u32 %p1, %r0, 5;\n@%p1 bra L;\nbar.warp.sync 0xf;\nL:"),
    ("barrier for more threads than come", "setp.ge.u32 %p1, %r0, 32;\n@!%p1 bar.sync 1, 64;"),
    ("trap", "trap;"),
    (
        "race in shared memory",
        "shl.b32 %r1, %r0, 2;\nmov.u32 %r2, tile;\nadd.s32 %r2, %r2, %r1;\nst.shared.u32 [%r2], %r0;\n.loc 1 43 7
xor.b32 %r3, %r1, 4;\nmov.u32 %r4, tile;\nadd.s32 %r4, %r4, %r3;\nld.shared.u32 %r5, [%r4];",
    ),
    (
        "race in global memory",
        "setp.lt.u32 %p1, %r0, 10;\nmul.wide.u32 %rd2, %r0, 4;\nadd.s64 %rd2, %rd0, %rd2;
@%p1 ld.global.u32 %r1, [%rd2];\n.loc 1 43 7\n@%p1 st.global.u32 [%rd2], %r1;",
    ),
    (
        "race in the shared memory of a peer",
        "mov.u32 %r2, tile;\nsetp.eq.u32 %p1, %r0, 0;\nmov.u32 %r3, %cluster_ctarank;\nsetp.eq.and.u32 %p2, %r3, 1, %p1;
@%p1 st.shared.u32 [%r2], 1;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\n@%p2 st.shared.u32 [%r2], 2;\n.loc 1 43 7
mapa.shared::cluster.u32 %r4, %r2, 1;\n@%p0 ld.shared::cluster.u32 %r5, [%r4];
barrier.cluster.arrive;\nbarrier.cluster.wait;",
    ),
    ("mbarrier that was not initialised", "mbarrier.arrive.shared.b64 _, [tile];"),
    (
        "no proxy fence",
        "@%p0 st.shared.u64 [tile], %rd0;\n@%p0 st.shared.u64 [tile+8], %rd0;
@%p0 cp.async.bulk.global.shared::cta.bulk_group [%rd0], [tile], 16;",
    ),
    (
        "block that may have exited, and has not",
        "st.shared.u32 [tile], 1;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\nmov.u32 %r2, tile;\nmov.u32 %r3, %cluster_ctarank;
.loc 1 43 7\nmapa.shared::cluster.u32 %r4, %r2, 0;\nsetp.eq.u32 %p1, %r3, 1;\n@%p1 ld.shared::cluster.u32 %r5, [%r4];\n.loc 1 44 1",
    ),
    (
        "block that has exited",
        "st.shared.u32 [tile], 1;\nbarrier.cluster.arrive;\nbarrier.cluster.wait;\nmov.u32 %r2, tile;
.loc 1 43 7\nmapa.shared::cluster.u32 %r4, %r2, 1;\n@%p0 ld.shared::cluster.u32 %r5, [%r4];\n.loc 1 44 1",
    ),
];

/// The error of a kernel, with the address of the buffer as `BUFFER`, others in relation to it.
fn report(body: &str, dynamic_shared: u32) -> (FaultKind, String) {
    let device = Device::new();
    let (buffer, free) = (device.upload(&[7u32; 10]), device.upload(&[0u32; 10]));
    device.memory.free(free).unwrap();
    let text = kernel_with(
        ".file 1 \"rows.cu\"\n.const .align 4 .b8 fixed[8];\n.shared .align 16 .b8 tile[256];\n",
        &format!(
            "ld.param.u64 %rd0, [p0];\nld.param.u64 %rd1, [p1];\nmov.u32 %r0, %tid.x;
mov.u32 %r30, %ctaid.x;\nor.b32 %r30, %r30, %r0;\nsetp.eq.u32 %p0, %r30, 0;\n.loc 1 42 7\n{body}"
        ),
    );
    let result = device.measure_clusters(&text, (2, 2, 32, dynamic_shared), &[buffer, free, 0, 0]);
    let fault = result.expect_err("the kernel should have made an error");
    let mut text = fault.to_string();
    for (place, _) in fault.detail.match_indices("0x") {
        let digits: String = fault.detail[place + 2..].chars().take_while(char::is_ascii_hexdigit).collect();
        let offset = u64::from_str_radix(&digits, 16).unwrap().wrapping_sub(buffer) as i64;
        if offset.unsigned_abs() < 1 << 32 {
            text = text.replace(&format!("0x{digits}"), &format!("BUFFER{offset:+}"));
        }
    }
    (fault.kind, text)
}

#[test]
fn reports_of_kernels() {
    let mut found = String::new();
    for (name, body) in KERNELS {
        found += &format!("{name}\n{}\n\n", report(body, 0).1);
    }
    found += &format!("more shared memory than there is\n{}\n\n", report("", 1 << 20).1);
    found += &format!("memory before its allocation\n{}\n", before_its_allocation());
    assert!(found == REPORTS, "{found}");
}

/// The report of a store to memory that another stream allocates.
fn before_its_allocation() -> String {
    let (gpu, context) = device(Config::capability(8, 0));
    let function = kernel(&context, STORE, "store");
    let (one, two) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    // SAFETY: nothing reads what is not initialised.
    let address = unsafe { one.alloc::<u32>(16) }.unwrap().leak();
    let mut launch = two.launch_builder(&function);
    launch.arg(&address).arg(&8_u64);
    // SAFETY: the virtual device finds out that the address is not valid yet, which is what is tested.
    unsafe { launch.launch(shape(1, 1)) }.unwrap();
    assert!(two.synchronize().is_err());
    let report = gpu.report().unwrap();
    let report = report.replace(&format!("{address:#x}"), "BUFFER").replace(&format!("{:#x}", address + 8), "BUFFER+8");
    report.replace(&format!("virtual device {}", gpu.ordinal()), "virtual device N")
}

#[test]
fn line_zero_is_no_line() {
    let (_, text) = report(".loc 1 0 0\ntrap;", 0);
    assert!(text.contains("trap;") && !text.contains("rows.cu"), "{text}");
}

#[test]
fn errors_of_the_host_are_one_line() {
    let device = Device::new();
    let fault: Fault = device.memory.read(16, &mut [0; 4]).unwrap_err();
    assert_eq!(fault.to_string(), "out-of-bounds access: host read of 4 bytes at 0x10, where nothing is allocated");
}
