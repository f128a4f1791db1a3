//! `cargo xtask kernels`: the compiled kernels, for inspection.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use zlpr::kernels::{KERNELS, TOTAL, TOTAL_MODULE, TOTAL_THREADS};

use crate::ARCHITECTURES;
use crate::nvrtc::Target;
use crate::sources::{self, Source};

/// PTX architectures that `build.rs` compiles for.
const PTX_ARCHITECTURES: [u32; 3] = [75, 80, 90];

/// What the manifest says of one entry point.
#[derive(Serialize)]
struct Entry {
    name: &'static str,
    module: &'static str,
    regime: &'static str,
    scores: Option<&'static str>,
    labels: Option<&'static str>,
    /// All are stored by the one kernel; which one is an argument.
    gradient: Vec<&'static str>,
    threads_per_block: Vec<u32>,
    elements_per_thread: ElementsPerThread,
    static_shared_bytes: u32,
    /// Bytes of dynamic shared memory per 16-byte pack of scores; 0 = none is used.
    dynamic_shared_bytes_per_pack: u64,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ElementsPerThread {
    Registers(u64),
    Elsewhere(&'static str),
}

#[derive(Serialize)]
struct Manifest {
    nvrtc: String,
    ptx: Vec<String>,
    machine_code: Vec<String>,
    entries: Vec<Entry>,
}

/// Writes every PTX and machine-code file and `manifest.json` to `out`.
///
/// # Errors
/// If a kernel does not compile, or the compiled entry points are not those of `zlpr::kernels`.
pub fn write(out: &Path, archs: &[u32]) -> Result<()> {
    let nvrtc = crate::find_nvrtc()?;
    let known = nvrtc.architectures()?;
    let archs: Vec<u32> = match archs {
        [] => ARCHITECTURES.into_iter().filter(|arch| known.contains(arch)).collect(),
        given => given.to_vec(),
    };
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let sources = sources::read(&crate::kernels_folder())?;
    let mut manifest = Manifest {
        nvrtc: format!("{}.{}", nvrtc.version.0, nvrtc.version.1),
        ptx: Vec::new(),
        machine_code: Vec::new(),
        entries: entries(),
    };
    for source in &sources {
        for arch in PTX_ARCHITECTURES {
            let ptx = nvrtc.compile(source, Target::Ptx(arch))?;
            check_entries(source, &String::from_utf8_lossy(&ptx))?;
            let name = sources::ptx_file_name(&source.module, arch);
            fs::write(out.join(&name), ptx)?;
            manifest.ptx.push(name);
        }
        for &arch in &archs {
            let name = format!("{}.sm_{arch}.cubin", source.module);
            fs::write(out.join(&name), nvrtc.compile(source, Target::MachineCode(arch))?)?;
            manifest.machine_code.push(name);
        }
    }
    fs::write(out.join("manifest.json"), format!("{}\n", serde_json::to_string_pretty(&manifest)?))?;
    println!(
        "wrote {} PTX and {} machine-code files of {} entry points to {}",
        manifest.ptx.len(),
        manifest.machine_code.len(),
        manifest.entries.len(),
        out.display()
    );
    Ok(())
}

fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = KERNELS
        .iter()
        .map(|kernel| {
            let per_pack = 16 / kernel.scores.size() as u64;
            let staged = kernel.regime == zlpr::plan::Regime::Staged;
            Entry {
                name: kernel.name,
                module: kernel.regime.module(),
                regime: kernel.regime.module(),
                scores: Some(kernel.scores.name()),
                labels: Some(kernel.labels.name()),
                gradient: if kernel.scores.name() == "f32" { vec!["f32"] } else { vec![kernel.scores.name(), "f32"] },
                threads_per_block: kernel.regime.threads().to_vec(),
                elements_per_thread: match kernel.regime.packs_per_thread() {
                    Some(packs) => ElementsPerThread::Registers(packs * per_pack),
                    None => ElementsPerThread::Elsewhere(if staged { "staged" } else { "streamed" }),
                },
                static_shared_bytes: kernel.regime.static_shared_bytes(),
                dynamic_shared_bytes_per_pack: if staged { 16 + per_pack * kernel.labels.size() as u64 } else { 0 },
            }
        })
        .collect();
    entries.push(Entry {
        name: TOTAL,
        module: TOTAL_MODULE,
        regime: "total",
        scores: None,
        labels: None,
        gradient: Vec::new(),
        threads_per_block: vec![TOTAL_THREADS],
        elements_per_thread: ElementsPerThread::Elsewhere("streamed"),
        static_shared_bytes: 3 * 32 * 8,
        dynamic_shared_bytes_per_pack: 0,
    });
    entries
}

/// The table in `zlpr::kernels` and the sources must name the same entry points.
fn check_entries(source: &Source, ptx: &str) -> Result<()> {
    let compiled: BTreeSet<&str> =
        ptx.lines().filter_map(|l| Some(l.strip_prefix(".visible .entry ")?.split('(').next()?.trim())).collect();
    let listed: BTreeSet<&str> = (KERNELS.iter().filter(|k| k.regime.module() == source.module).map(|k| k.name))
        .chain((source.module == TOTAL_MODULE).then_some(TOTAL))
        .collect();
    ensure!(
        compiled == listed,
        "kernels/{}.cu and zlpr::kernels differ in {:?}",
        source.module,
        compiled.symmetric_difference(&listed).collect::<Vec<_>>()
    );
    Ok(())
}
