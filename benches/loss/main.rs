//! Criterion benches: `cargo bench --bench loss`.
//!
//! Everywhere: making a plan, validating a call, the reference. On a GPU: the launch path, and every kernel in CUDA
//! graphs over buffers that together exceed the L2 cache, in turns with a kernel that only streams the same bytes.
//! `target/bench/loss.json` and the plots beside it hold the results; `benches/peers.py` adds those of other
//! implementations. Without a GPU the kernels are left out, since the virtual one keeps no time; `-- --test` takes
//! them all once, on small problems, so that all of this runs there too.

mod device;
#[path = "../../tests/common/elements.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod elements;
mod host;
mod kernels;
mod memory;
mod plot;
mod problem;
mod record;
mod shapes;
mod streaming;
mod timing;
#[path = "../../tests/common/workloads.rs"]
mod workloads;

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use criterion::Criterion;

use device::Device;
use kernels::Session;
use record::Run;
use shapes::Settings;

fn main() -> Result<()> {
    // Plots of its own for each of a thousand lines would take longer than the measurements.
    let mut criterion = Criterion::default().configure_from_args().without_plots();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let settings = Settings::new(arguments.iter().any(|a| a == "--test"));
    let device = Device::open()?;
    let is_virtual = device.gpu.is_virtual();

    host::plan(&mut criterion, &device)?;
    host::reference(&mut criterion)?;
    let mut overhead = host::calls(&mut criterion, &device, &settings)?;
    if is_virtual && !settings.quick {
        eprintln!("skipped: launch path and kernels, there is no GPU (the virtual one keeps no time)");
        criterion.final_summary();
        return Ok(());
    }

    let mut session = Session::new(&device, &settings)?;
    session.run(&mut criterion);
    criterion.final_summary();
    overhead.graph_node_seconds = session.graph_node_seconds();
    let not_run = session.not_run();
    let Session { lines, failures, .. } = session;

    let run = Run {
        is_virtual,
        quick: settings.quick,
        unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        version: env!("CARGO_PKG_VERSION"),
        device: &device.facts,
        peak_gbps: device.facts.peak().filter(|_| !is_virtual).map(|peak| peak / 1e9),
        overhead,
        lines,
        not_run,
    };
    let folder = record::folder()?;
    let path = run.write(&folder)?;
    let plots = folder.join(if is_virtual { "plots.virtual" } else { "plots" });
    let name = if is_virtual { "virtual GPU, not a measurement" } else { &device.facts.name };
    let count = plot::draw(&run.lines, name, &plots)?;
    println!("{} lines: {}; {count} plots: {}", run.lines.len(), path.display(), plots.display());

    ensure!(failures.is_empty(), "{} of the measurements failed", failures.len());
    // Only a name on the command line leaves anything out of a quick run.
    let filtered = arguments.iter().any(|a| !a.starts_with('-'));
    ensure!(
        filtered || !is_virtual || run.not_run.is_empty(),
        "nothing was run of {}: the quick shapes must reach every regime",
        run.not_run.join(", ")
    );
    Ok(())
}
