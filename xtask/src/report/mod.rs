//! `cargo xtask static`: what the machine code of every kernel costs on every architecture, against budgets.

mod budgets;
mod code;
mod launch;
mod listing;
mod measure;
mod model;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::Args;
use zlpr::kernels::KERNELS;

use self::budgets::Budgets;
use self::code::Tools;
use self::measure::measure;
use crate::{ARCHITECTURES, sources};

/// Options of `cargo xtask static`.
#[derive(Args)]
pub struct Options {
    /// The disassembler. Without it only registers, spills, shared memory and occupancy are told.
    #[arg(long)]
    nvdisasm: Option<PathBuf>,
    /// Assemble NVRTC's PTX with this ptxas, instead of letting NVRTC make machine code.
    #[arg(long)]
    ptxas: Option<PathBuf>,
    /// Fail if any budget of xtask/budgets.toml is exceeded, not only that on spills.
    #[arg(long)]
    check: bool,
    /// Architectures; default: all the kernels are meant for.
    #[arg(long, value_delimiter = ',')]
    arch: Vec<u32>,
    /// Kernel modules, such as warp; default: all.
    #[arg(long, value_delimiter = ',')]
    module: Vec<String>,
    /// Print the counted path of one kernel, such as zlpr_warp_f16_f16, instead of the tables.
    #[arg(long)]
    kernel: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// If a tool fails, a kernel cannot be walked through, or with `check` a budget is exceeded.
pub fn run(options: &Options) -> Result<()> {
    let tools = Tools { nvrtc: crate::find_nvrtc()?, ptxas: options.ptxas.clone(), nvdisasm: options.nvdisasm.clone() };
    let archs = if options.arch.is_empty() { ARCHITECTURES.to_vec() } else { options.arch.clone() };
    let known = tools.nvrtc.architectures()?;
    if let Some(arch) = archs.iter().find(|a| !known.contains(a)) {
        bail!("NVRTC {:?} does not know {arch}: use 13.x", tools.nvrtc.version);
    }
    if let Some(name) = &options.kernel {
        ensure!(KERNELS.iter().any(|k| k.name == name), "no kernel {name}");
        ensure!(tools.nvdisasm.is_some(), "--kernel needs --nvdisasm");
    }
    let budgets = Budgets::read()?;
    let (mut all, mut exceeded, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for source in sources::read(&crate::kernels_folder())? {
        if !options.wants(&source.module) {
            continue;
        }
        for &arch in &archs {
            let module = tools.module(&source, arch)?;
            for (name, resources) in &module.resources {
                let Some(kernel) = KERNELS.iter().find(|k| k.name == name) else {
                    // The total: not a row kernel, so only spills matter.
                    if resources.frame_bytes > 0 {
                        exceeded.push(format!(
                            "sm_{arch} {name}: {}: {} bytes",
                            budgets::SPILLS,
                            resources.frame_bytes
                        ));
                    }
                    continue;
                };
                if options.kernel.as_ref().is_some_and(|wanted| wanted != name) {
                    continue;
                }
                let function = module.functions.iter().find(|f| f.name == *name);
                match measure(kernel, arch, *resources, function) {
                    Ok(measured) => {
                        if let (Some(_), Some(function)) = (&options.kernel, function) {
                            print!("{}", listing::annotated(function, &measured));
                        }
                        let wrong = budgets.exceeded(&measured);
                        exceeded.extend(wrong.into_iter().map(|w| format!("sm_{arch} {name}: {w}")));
                        all.push(measured);
                    }
                    // The others are worth knowing even so.
                    Err(error) => failures.push(format!("sm_{arch} {name}: {error:#}")),
                }
            }
        }
    }
    print!("{}", table::code(&all));
    print!("{}", table::speed(&all));
    ensure!(failures.is_empty(), "cannot be counted:\n  {}", failures.join("\n  "));
    if exceeded.is_empty() {
        println!("{} kernels x architectures within their budgets", all.len());
        return Ok(());
    }
    let list = format!("budgets exceeded:\n  {}", exceeded.join("\n  "));
    // Spills are never a matter of taste.
    if options.check || exceeded.iter().any(|e| e.contains(budgets::SPILLS)) {
        bail!(list);
    }
    println!("{list}");
    Ok(())
}

impl Options {
    fn wants(&self, module: &str) -> bool {
        let of_kernel = |name: &String| KERNELS.iter().any(|k| k.name == name && k.regime.module() == module);
        (self.module.is_empty() || self.module.iter().any(|m| m == module))
            && self.kernel.as_ref().is_none_or(of_kernel)
    }
}
