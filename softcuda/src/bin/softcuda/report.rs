//! What the program prints.

use std::fmt::Write;

use serde_json::json;
use softcuda::{Accesses, Fault, Kernel, LaunchRecord, OpClass, Ran};

use crate::argument::Argument;

/// Numbers in a line.
const PER_LINE: usize = 8;

/// The kernels of a file.
pub fn kernels(kernels: &[Kernel]) -> String {
    let mut out = String::new();
    for kernel in kernels {
        let info = kernel.info();
        let (major, minor) = kernel.target();
        out += &format!("{}\n    for capability {major}.{minor} and later\n", info.name);
        for (index, param) in info.params.iter().enumerate() {
            out += &format!("    parameter {index}: {} bytes at {}\n", param.size, param.offset);
        }
        out += &format!("    about {} registers, {} bytes of shared memory", info.registers, info.static_shared);
        out += &format!(", {} bytes of local memory\n", info.local_bytes);
        match (info.required_threads, info.max_threads) {
            (Some([x, y, z]), _) => out += &format!("    blocks of {x},{y},{z} threads\n"),
            (None, 0) => {}
            (None, most) => out += &format!("    blocks of {most} threads at most\n"),
        }
        if let Some([x, y, z]) = info.cluster {
            out += &format!("    clusters of {x},{y},{z} blocks\n");
        }
    }
    out
}

/// A kernel's error.
pub fn fault(fault: &Fault, seed: u64) -> String {
    let seed = if seed == 0 { String::new() } else { format!("========= With seed {seed}\n") };
    format!("{fault}\n{seed}")
}

/// A kernel's error as JSON.
pub fn fault_json(fault: &Fault, seed: u64) -> String {
    let source = fault.source.as_ref().map(|(file, line)| json!({ "file": file, "line": line }));
    let value = json!({
        "fault": {
            "kind": fault.kind.text(),
            "kernel": fault.kernel,
            "block": fault.block,
            "thread": fault.thread,
            "address": fault.address,
            "ptx_line": fault.ptx_line,
            "ptx_text": fault.ptx_text,
            "source": source,
            "detail": fault.detail,
            "seed": seed,
        }
    });
    format!("{value}\n")
}

/// What a kernel did, and its output.
pub fn json(ran: &Ran, buffers: &[(usize, &Argument, &[u8])]) -> String {
    let output = buffers.iter().map(|(index, argument, bytes)| {
        json!({ "argument": index, "as": argument.to_string(), "values": argument.numbers(bytes) })
    });
    format!("{}\n", json!({ "launch": ran.launch, "printed": ran.printed, "output": output.collect::<Vec<_>>() }))
}

/// The same, to be read.
pub fn text(ran: &Ran, buffers: &[(usize, &Argument, &[u8])]) -> String {
    let mut out = ran.printed.clone();
    for (index, argument, bytes) in buffers {
        out += &format!("argument {index} ({argument})\n");
        for line in argument.numbers(bytes).chunks(PER_LINE) {
            out += &format!("    {}\n", line.join(" "));
        }
    }
    counters(&mut out, &ran.launch);
    traffic(&mut out, &ran.launch);
    out
}

fn row(out: &mut String, name: &str, values: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "    {name:<24} {values}");
}

fn counters(out: &mut String, launch: &LaunchRecord) {
    let counters = &launch.counters;
    *out += &format!("{}: {} blocks, {} warps\n", launch.kernel, counters.blocks, counters.warps);
    let lanes = counters.lanes_per_instruction();
    row(out, "warp instructions", format_args!("{} of {lanes:.1} lanes", counters.warp_instructions));
    for class in OpClass::ALL.into_iter().filter(|class| counters.class(*class) != 0) {
        row(out, &format!("  {}", class.name()), format_args!("{}", counters.class(class)));
    }
    row(out, "special functions", format_args!("{} by threads", counters.mufu()));
    row(out, "divergent branches", format_args!("{}", counters.divergent_branches));
    let (block, cluster, warp) = (counters.barriers, counters.cluster_barriers, counters.warp_barriers);
    row(out, "barriers", format_args!("{block} of blocks, {cluster} of clusters, {warp} of warps"));
    let mut global = |name: &str, [bytes, requests, sectors, least]: [u64; 4]| {
        row(out, name, format_args!("{bytes} bytes, {requests} requests, {sectors} sectors (at least {least})"));
    };
    global(
        "global read",
        [
            counters.global_read_bytes,
            counters.global_read_requests,
            counters.global_read_sectors,
            counters.global_read_sectors_least,
        ],
    );
    global(
        "global written",
        [
            counters.global_write_bytes,
            counters.global_write_requests,
            counters.global_write_sectors,
            counters.global_write_sectors_least,
        ],
    );
    let shared = (counters.shared_read_bytes, counters.shared_write_bytes);
    row(out, "shared memory", format_args!("{} bytes read, {} written", shared.0, shared.1));
    let (requests, passes) = (counters.shared_requests, counters.shared_wavefronts);
    let conflicts = counters.shared_bank_conflicts;
    row(out, "  banks", format_args!("{requests} requests, {passes} wavefronts, {conflicts} of them for conflicts"));
}

fn traffic(out: &mut String, launch: &LaunchRecord) {
    let Some(traffic) = &launch.traffic else { return };
    row(out, "DRAM", format_args!("{} bytes read, {} written", traffic.dram_read_bytes, traffic.dram_write_bytes));
    row(out, "L2", format_args!("{} of {} sectors read hit", traffic.l2_read_hits, traffic.l2_read_sectors));
    let (warp, sm) = (traffic.warp_bytes_in_flight, traffic.sm_bytes_in_flight);
    row(out, "bytes in flight", format_args!("{warp} of a warp, {sm} of a multiprocessor"));
    for buffer in &traffic.buffers {
        row(out, "buffer", format_args!("{} bytes at {:#x}", buffer.size, buffer.base));
        for (name, accesses) in [("  read", &buffer.read), ("  written", &buffer.written)] {
            let Accesses { requests, sectors, bytes, unique_bytes, .. } = *accesses;
            if requests != 0 {
                let again = accesses.repeated_bytes();
                row(
                    out,
                    name,
                    format_args!(
                        "{bytes} bytes ({unique_bytes} different, {again} again), {requests} requests, {sectors} sectors"
                    ),
                );
            }
        }
    }
}
