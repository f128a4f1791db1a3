//! The tables that `cargo xtask static` prints.

use std::collections::BTreeSet;

use super::measure::{Counts, Measured, OnGpu};
use crate::columns::{Column, table};

fn joined(widths: Option<&BTreeSet<u32>>) -> String {
    let widths: Vec<String> = widths.into_iter().flatten().map(u32::to_string).collect();
    widths.join("+")
}

/// One line per kernel and architecture.
pub fn code(all: &[Measured]) -> String {
    // Nothing under the headings of the path for kernels that were not walked through.
    let counted = |m: &&Measured, cell: &dyn Fn(&Counts) -> String| m.counts.as_ref().map_or(String::new(), cell);
    let pair = |body: f64, all: f64| format!("{body:.2} ({all:.2})");
    let columns: [Column<'_, &Measured>; 15] = [
        ("kernel", &|m| m.kernel.name.to_owned()),
        ("sm", &|m| m.arch.to_string()),
        ("regs", &|m| m.resources.registers.to_string()),
        ("spills", &|m| format!("{}/{}", m.resources.frame_bytes, m.local_accesses)),
        ("shared", &|m| (m.resources.static_shared_bytes + m.dynamic_shared_bytes).to_string()),
        ("blocks", &|m| m.blocks_per_sm.to_string()),
        ("warps", &|m| m.warps_per_sm().to_string()),
        ("cols", &|m| m.cols.to_string()),
        ("lane", &|m| counted(m, &|c| c.elements_per_lane.to_string())),
        ("instructions", &|m| counted(m, &|c| pair(c.body_instructions, c.instructions))),
        ("MUFU", &|m| counted(m, &|c| pair(c.body_mufu, c.mufu))),
        ("widths", &|m| {
            counted(m, &|c| ["scores", "labels", "gradient"].map(|array| joined(c.widths.get(array))).join("/"))
        }),
        ("KiB", &|m| counted(m, &|c| format!("{:.1}", c.in_flight_per_sm as f64 / 1024.0))),
        ("bars", &|m| counted(m, &|c| c.barriers.to_string())),
        ("data", &|m| counted(m, &|c| c.branches_on_data.to_string())),
    ];
    format!(
        "Machine code. Per element: of the main body, in parentheses with what every row takes. Widths: bytes per lane of \
         each\naccess to scores, labels, gradient. KiB: in flight per multiprocessor. Data: branches that depend on data.\n{}",
        table(&columns, all)
    )
}

/// One line per kernel and GPU; nothing for kernels that were not walked through.
pub fn speed(all: &[Measured]) -> String {
    if all.iter().all(|m| m.counts.is_none()) {
        return String::new();
    }
    type Row<'a> = (&'a Measured, &'a OnGpu);
    let share = |(_, on): &Row<'_>, name: &str| {
        format!("{:.0}", 100.0 * on.shares.iter().find(|s| s.0 == name).map_or(0.0, |s| s.1))
    };
    let columns: [Column<'_, Row<'_>>; 11] = [
        ("kernel", &|(m, _)| m.kernel.name.to_owned()),
        ("GPU", &|(_, on)| on.gpu.name.to_owned()),
        ("issue", &|row| share(row, "issue")),
        ("fma", &|row| share(row, "fma")),
        ("alu", &|row| share(row, "alu")),
        ("mufu", &|row| share(row, "mufu")),
        ("lsu", &|row| share(row, "lsu")),
        ("pipes", &|(_, on)| format!("{:.2}", on.bounds.pipes)),
        ("latency", &|(_, on)| format!("{:.2}", on.bounds.latency)),
        ("tail", &|(_, on)| format!("{:.2}", on.bounds.tail)),
        ("predicted", &|(_, on)| format!("{:.2}", on.bounds.fraction())),
    ];
    let rows = all.iter().flat_map(|m| m.counts.iter().flat_map(|c| &c.gpus).map(move |on| (m, on)));
    format!(
        "\nPredictions, never measured. Shares of the issue slots and pipes at DRAM peak, in %; then each bound and the \
         predicted\nspeed, as fractions of a 2-read-1-write stream at DRAM peak.\n{}",
        table(&columns, rows)
    )
}
