//! Compiled kernels and their listings, kept from one run to the next.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::machine::cubin::{self, Resources};
use crate::machine::sass::{self, Function};
use crate::nvrtc::{Nvrtc, Target};
use crate::sources::{self, Source};

/// The programs that turn PTX into machine code and machine code into text.
pub struct Tools {
    pub nvrtc: Nvrtc,
    /// Assembles NVRTC's PTX; without it NVRTC makes machine code itself.
    pub ptxas: Option<PathBuf>,
    /// `None`: nothing is disassembled.
    pub nvdisasm: Option<PathBuf>,
}

/// One module for one architecture.
pub struct Module {
    pub resources: BTreeMap<String, Resources>,
    /// Empty without a disassembler.
    pub functions: Vec<Function>,
}

impl Tools {
    /// Compiles, or takes what an earlier run has left for the same source and compiler.
    ///
    /// # Errors
    /// If a tool fails.
    pub fn module(&self, source: &Source, arch: u32) -> Result<Module> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/static");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let by = self.ptxas.as_ref().map_or("nvrtc", |_| "ptxas");
        let (major, minor) = self.nvrtc.version;
        let stem = format!("{}.sm_{arch}.{by}", source.module);
        let key = format!("{} {major}.{minor} {:?}", source.hash(), self.ptxas);
        let (image, stamp) = (folder.join(format!("{stem}.cubin")), folder.join(format!("{stem}.from")));
        if fs::read_to_string(&stamp).ok().as_deref() != Some(&key) || !image.exists() {
            // Gone while the files change, so that an interrupted run leaves no wrong match.
            let _ = fs::remove_file(&stamp);
            eprintln!("compiling {} for sm_{arch}", source.module);
            match &self.ptxas {
                None => fs::write(&image, self.nvrtc.compile(source, Target::MachineCode(arch))?)?,
                Some(ptxas) => {
                    let ptx = folder.join(sources::ptx_file_name(&source.module, arch));
                    fs::write(&ptx, self.nvrtc.compile(source, Target::Ptx(arch))?)?;
                    run(Command::new(ptxas).arg(format!("-arch=sm_{arch}")).arg("-o").arg(&image).arg(&ptx))?;
                }
            }
            fs::write(&stamp, &key)?;
        }
        let resources = cubin::read(&fs::read(&image)?).with_context(|| format!("in {}", image.display()))?;
        let functions = match &self.nvdisasm {
            Some(nvdisasm) => sass::parse(&run(Command::new(nvdisasm).arg("-c").arg(&image))?),
            None => Vec::new(),
        };
        Ok(Module { resources, functions })
    }
}

/// Standard output of a command that must succeed.
fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed:\n{log}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
