//! Developer commands: `cargo xtask <command>`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod columns;
#[path = "../../tests/common/mod.rs"]
mod common;
mod counted;
mod hardware;
mod kernels;
mod machine;
mod mutate;
#[path = "../../build/nvrtc.rs"]
mod nvrtc;
mod prebuilt;
mod report;
#[path = "../../build/sources.rs"]
mod sources;
mod throughput;

/// Developer commands of the zlpr workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Regenerate `kernels/prebuilt` and the bench's PTX with NVRTC 12.1 (`ZLPR_NVRTC` says where it is).
    Prebuilt {
        /// Write nothing; fail unless the checked-in files are what the sources give.
        #[arg(long)]
        check: bool,
    },
    /// Write every PTX and machine-code file and a manifest, for ptxas, nvdisasm and cuobjdump.
    Kernels {
        /// Folder to write to; made if it does not exist.
        #[arg(long)]
        out: PathBuf,
        /// Architectures of the machine code; default: all the kernels are meant for that NVRTC knows.
        #[arg(long, value_delimiter = ',')]
        archs: Vec<u32>,
    },
    /// Tell what every kernel's machine code costs on every architecture, and hold it against `xtask/budgets.toml`.
    Static(report::Options),
    /// Count what the kernels ask of memory on virtual GPUs, and hold it against `xtask/counted.toml`.
    Counted(counted::Options),
    /// Change the kernels' PTX instruction by instruction, and fail if tests on the virtual GPU would not notice.
    ///
    /// `cargo mutants` does the same for plan, validation and raw layer: see `.cargo/mutants.toml`.
    Mutate(mutate::Options),
    /// On a machine with a GPU: run tests, compute-sanitizer, bench and peers, and write one report to send back.
    Hardware(hardware::Options),
    /// Measure how fast the virtual GPU runs the kernels.
    Throughput,
    /// The process that runs changed kernels.
    #[command(hide = true)]
    MutateWorker,
}

/// Architectures the kernels are meant for.
const ARCHITECTURES: [u32; 7] = [75, 80, 86, 89, 90, 100, 120];

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Prebuilt { check } => prebuilt::run(check),
        Command::Kernels { out, archs } => kernels::write(&out, &archs),
        Command::Static(options) => report::run(&options),
        Command::Counted(options) => counted::run(&options),
        Command::Mutate(options) => mutate::run(&options),
        Command::Hardware(options) => hardware::run(&options),
        Command::Throughput => throughput::run(),
        Command::MutateWorker => mutate::serve(),
    }
}

/// `kernels/` of the workspace.
fn kernels_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels")
}

/// The NVRTC that the environment names.
fn find_nvrtc() -> Result<nvrtc::Nvrtc> {
    nvrtc::Nvrtc::find()?.ok_or_else(|| anyhow::anyhow!("no NVRTC found: point ZLPR_NVRTC to libnvrtc or its folder"))
}
