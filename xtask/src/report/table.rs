//! The tables that `cargo xtask static` prints.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::measure::Measured;

fn joined(widths: Option<&BTreeSet<u32>>) -> String {
    let widths: Vec<String> = widths.into_iter().flatten().map(u32::to_string).collect();
    widths.join("+")
}

/// One line per kernel and architecture.
pub fn code(all: &[Measured]) -> String {
    let mut text = String::from(
        "Machine code. Per element: of the main body, in parentheses with what every row takes. Widths: bytes per lane of \
         each\naccess to scores, labels, gradient. KiB: in flight per multiprocessor. Data: branches that depend on data.\n",
    );
    let _ = writeln!(
        text,
        "{:26} {:>6} {:>4} {:>6} {:>7} {:>6} {:>6} {:>7} {:>5} {:>14} {:>13} {:>10} {:>5} {:>4} {:>4}",
        "kernel",
        "sm",
        "regs",
        "spills",
        "shared",
        "blocks",
        "warps",
        "cols",
        "lane",
        "instructions",
        "MUFU",
        "widths",
        "KiB",
        "bars",
        "data"
    );
    for m in all {
        let spills = format!("{}/{}", m.resources.frame_bytes, m.local_accesses);
        let shared = m.resources.static_shared_bytes + m.dynamic_shared_bytes;
        let _ = write!(
            text,
            "{:26} {:>6} {:>4} {spills:>6} {shared:>7} {:>6} {:>6} {:>7}",
            m.kernel.name,
            m.arch,
            m.resources.registers,
            m.blocks_per_sm,
            m.warps_per_sm(),
            m.cols
        );
        if let Some(c) = &m.counts {
            let widths = ["scores", "labels", "gradient"].map(|a| joined(c.widths.get(a))).join("/");
            let pair = |body: f64, all: f64| format!("{body:.2} ({all:.2})");
            let _ = write!(
                text,
                " {:>5} {:>14} {:>13} {widths:>10} {:>5.1} {:>4} {:>4}",
                c.elements_per_lane,
                pair(c.body_instructions, c.instructions),
                pair(c.body_mufu, c.mufu),
                c.in_flight_per_sm as f64 / 1024.0,
                c.barriers,
                c.branches_on_data
            );
        }
        text.push('\n');
    }
    text
}

/// One line per kernel and GPU; nothing for kernels that were not walked through.
pub fn speed(all: &[Measured]) -> String {
    if all.iter().all(|m| m.counts.is_none()) {
        return String::new();
    }
    let mut text = String::from(
        "\nPredictions, never measured. Shares of the issue slots and pipes at DRAM peak, in %; then each bound and the \
         predicted\nspeed, as fractions of a 2-read-1-write stream at DRAM peak.\n",
    );
    let _ = writeln!(
        text,
        "{:26} {:>9} {:>5} {:>5} {:>5} {:>5} {:>5} {:>7} {:>7} {:>5} {:>9}",
        "kernel", "GPU", "issue", "fma", "alu", "mufu", "lsu", "pipes", "latency", "tail", "predicted"
    );
    for m in all {
        for on in m.counts.iter().flat_map(|c| &c.gpus) {
            let share = |name| 100.0 * on.shares.iter().find(|s| s.0 == name).map_or(0.0, |s| s.1);
            let _ = writeln!(
                text,
                "{:26} {:>9} {:>5.0} {:>5.0} {:>5.0} {:>5.0} {:>5.0} {:>7.2} {:>7.2} {:>5.2} {:>9.2}",
                m.kernel.name,
                on.gpu.name,
                share("issue"),
                share("fma"),
                share("alu"),
                share("mufu"),
                share("lsu"),
                on.bounds.pipes,
                on.bounds.latency,
                on.bounds.tail,
                on.bounds.fraction()
            );
        }
    }
    text
}
