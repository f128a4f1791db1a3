//! Compiles the kernels with NVRTC if there is one, and embeds the images with the prebuilt PTX.
//!
//! Environment: `ZLPR_NVRTC` (library, folder or `none`), `ZLPR_CUDA_ARCHS` (machine code for these, such
//! as `80,90`; default: all of 75, 80, 86, 89, 90, 100, 120 that this NVRTC knows), `DOCS_RS`.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

#[path = "build/nvrtc.rs"]
mod nvrtc;
#[path = "build/prebuilt.rs"]
mod prebuilt;
#[path = "build/sources.rs"]
mod sources;

use nvrtc::{Nvrtc, Target};
use sources::Source;

/// PTX of this build: one for every generation, so that a newer device compiles from the nearest one.
const PTX_ARCHITECTURES: [u32; 3] = [75, 80, 90];
/// Machine code by default, as far as the NVRTC at hand knows them.
const MACHINE_CODE_ARCHITECTURES: [u32; 7] = [75, 80, 86, 89, 90, 100, 120];

fn main() -> Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    for variable in ["ZLPR_NVRTC", "ZLPR_CUDA_ARCHS", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "DOCS_RS"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    for folder in ["kernels", "kernels/prebuilt", "build"] {
        println!("cargo:rerun-if-changed={folder}");
        for entry in fs::read_dir(root.join(folder)).with_context(|| format!("cannot list {folder}"))? {
            println!("cargo:rerun-if-changed={}", entry?.path().display());
        }
    }
    println!("cargo:rerun-if-changed=build.rs");

    let mut images = Images { out, list: String::new() };
    if env::var_os("DOCS_RS").is_some() {
        note("DOCS_RS is set: no kernels are embedded");
        return images.write();
    }
    let sources = sources::read(&root.join("kernels"))?;
    let nvrtc = Nvrtc::find()?;
    if let Some(nvrtc) = &nvrtc {
        let targets = targets(nvrtc)?;
        for (module, target, bytes) in compile_all(nvrtc, &sources, &targets)? {
            match target {
                Target::Ptx(arch) => images.add_ptx("BuiltPtx", "build", &module, arch, bytes)?,
                Target::MachineCode(arch) => {
                    images.add("MachineCode", &format!("{module}.sm_{arch}.cubin"), &module, arch, &bytes)?
                }
            }
        }
        let (major, minor) = nvrtc.version;
        note(&format!("kernels compiled by NVRTC {major}.{minor} ({}) for {targets:?}", nvrtc.origin));
    }
    match prebuilt::read(&root.join("kernels/prebuilt"), &sources)? {
        Ok(files) => {
            for file in files {
                images.add_ptx("PrebuiltPtx", "prebuilt", &file.module, file.arch, file.ptx)?;
            }
            if nvrtc.is_none() {
                note("no NVRTC: the prebuilt PTX is embedded (set ZLPR_NVRTC to compile the kernels)");
            }
        }
        Err(reason) if nvrtc.is_some() => note(&format!("the prebuilt PTX is left out: {reason}")),
        Err(reason) => bail!(
            "{reason}, and there is no NVRTC to compile the kernels with. Point ZLPR_NVRTC to libnvrtc (any from 12.1 on); \
             with 12.1, `cargo xtask prebuilt` brings the prebuilt PTX up to date"
        ),
    }
    images.write()
}

fn note(text: &str) {
    println!("cargo:warning={text}");
}

fn targets(nvrtc: &Nvrtc) -> Result<Vec<Target>> {
    let known = nvrtc.architectures()?;
    let machine_code = match env::var("ZLPR_CUDA_ARCHS") {
        Ok(list) if !list.trim().is_empty() => {
            let mut wanted = Vec::new();
            for item in list.split([',', ';', ' ']).filter(|item| !item.is_empty()) {
                let arch = item.trim_start_matches("sm_").parse();
                let arch = arch
                    .with_context(|| format!("ZLPR_CUDA_ARCHS={list}: `{item}` is not an architecture such as 80"))?;
                if !known.contains(&arch) {
                    bail!("ZLPR_CUDA_ARCHS={list}: NVRTC {:?} does not know {arch}, but {known:?}", nvrtc.version);
                }
                wanted.push(arch);
            }
            wanted
        }
        _ => MACHINE_CODE_ARCHITECTURES.into_iter().filter(|arch| known.contains(arch)).collect(),
    };
    let ptx = PTX_ARCHITECTURES.into_iter().filter(|arch| known.contains(arch)).map(Target::Ptx);
    Ok(ptx.chain(machine_code.into_iter().map(Target::MachineCode)).collect())
}

/// Compiles every source for every target, on all cores.
fn compile_all(nvrtc: &Nvrtc, sources: &[Source], targets: &[Target]) -> Result<Vec<(String, Target, Vec<u8>)>> {
    let jobs = targets.iter().flat_map(|&target| sources.iter().map(move |source| (source, target)));
    let jobs = Mutex::new(jobs);
    let worker = || -> Result<Vec<_>> {
        let mut done = Vec::new();
        loop {
            let job = jobs.lock().map_err(|_| anyhow::anyhow!("another compilation panicked"))?.next();
            let Some((source, target)) = job else { return Ok(done) };
            done.push((source.module.clone(), target, nvrtc.compile(source, target)?));
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| bail!("a compilation panicked"))).collect()
    });
    let mut done = Vec::new();
    for result in results {
        done.extend(result?);
    }
    // The order of completion must not show in the output.
    done.sort_by_key(|(module, target, _)| (module.clone(), format!("{target:?}")));
    Ok(done)
}

/// `images.rs`, the list of embedded files.
struct Images {
    out: PathBuf,
    list: String,
}

impl Images {
    fn add(&mut self, kind: &str, name: &str, module: &str, arch: u32, bytes: &[u8]) -> Result<()> {
        let path = self.out.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        writeln!(
            self.list,
            "    Image {{ module: {module:?}, kind: ImageKind::{kind}({arch}), \
             bytes: include_bytes!(concat!(env!(\"OUT_DIR\"), {:?})) }},",
            Path::new("/").join(name)
        )?;
        Ok(())
    }

    /// The driver takes PTX as a C string.
    fn add_ptx(&mut self, kind: &str, prefix: &str, module: &str, arch: u32, mut ptx: Vec<u8>) -> Result<()> {
        ptx.push(0);
        self.add(kind, &format!("{prefix}.{}", sources::ptx_file_name(module, arch)), module, arch, &ptx)
    }

    fn write(self) -> Result<()> {
        let path = self.out.join("images.rs");
        let text = format!("/// Every embedded image.\npub static IMAGES: &[Image] = &[\n{}];\n", self.list);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}
