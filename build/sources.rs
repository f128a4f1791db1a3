//! The kernel sources as NVRTC gets them: one text per `kernels/*.cu`, includes expanded.
//!
//! Expanding here, with `#line` and a virtual absolute name, keeps every folder of the building machine
//! out of the output: NVRTC would write the current folder into the line information.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// Folder of a source in line information: the same on every machine.
fn virtual_folder(folder: &Path) -> Result<String> {
    let name = folder.file_name().and_then(|n| n.to_str()).context("the folder of the kernels has no UTF-8 name")?;
    Ok(format!("/zlpr/{name}"))
}

/// Virtual architectures of the prebuilt PTX: one for each source branch (`__CUDA_ARCH__`) there is.
pub const PREBUILT_ARCHITECTURES: [u32; 2] = [75, 80];

/// File name of one module's PTX.
pub fn ptx_file_name(module: &str, arch: u32) -> String {
    format!("{module}.compute_{arch}.ptx")
}

/// One translation unit.
pub struct Source {
    /// File name without extension: the name of the kernel module.
    pub module: String,
    /// Text with all includes expanded.
    pub text: String,
    /// The name NVRTC is told.
    pub virtual_name: String,
}

impl Source {
    /// SHA-256 of the expanded text, in hexadecimal: what the prebuilt PTX was made from.
    pub fn hash(&self) -> String {
        hash(self.text.as_bytes())
    }
}

/// SHA-256 in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All translation units of a folder, by name.
pub fn read(folder: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    let virtual_folder = virtual_folder(folder)?;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "cu") {
            let module = path.file_stem().and_then(|s| s.to_str()).context("kernel file name is not UTF-8")?;
            let mut text = String::new();
            let name = format!("{module}.cu");
            expand((folder, &virtual_folder), &name, &mut BTreeSet::new(), &mut text)?;
            let virtual_name = format!("{virtual_folder}/{name}");
            sources.push(Source { module: module.into(), text, virtual_name });
        }
    }
    if sources.is_empty() {
        bail!("no kernels in {}", folder.display());
    }
    sources.sort_by(|a, b| a.module.cmp(&b.module));
    Ok(sources)
}

/// Appends `name` of a real folder, whose virtual name is told, to `text`. Every header is `#pragma once`: included where
/// it is first named.
fn expand(folders: (&Path, &str), name: &str, seen: &mut BTreeSet<String>, text: &mut String) -> Result<()> {
    let (folder, virtual_folder) = folders;
    let path = folder.join(name);
    let file = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    text.push_str(&format!("#line 1 \"{virtual_folder}/{name}\"\n"));
    for (number, line) in (1..).zip(file.lines()) {
        let include = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"'));
        match include {
            Some(header) => {
                if seen.insert(header.into()) {
                    expand(folders, header, seen, text)?;
                }
                text.push_str(&format!("#line {} \"{virtual_folder}/{name}\"\n", number + 1));
            }
            // Only headers are guarded by it, and they are expanded once; in a main file it is a warning.
            None if line == "#pragma once" => text.push('\n'),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Ok(())
}
