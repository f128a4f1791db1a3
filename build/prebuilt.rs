//! Reading the checked-in PTX, and the manifest that ties it to the sources. `cargo xtask prebuilt` writes both.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::sources::{self, PREBUILT_ARCHITECTURES, Source};

/// One checked-in file.
pub struct Prebuilt {
    /// Kernel module.
    pub module: String,
    /// Virtual architecture, such as 80.
    pub arch: u32,
    /// The PTX, without a trailing NUL.
    pub ptx: Vec<u8>,
}

/// Reads the prebuilt PTX of all sources. `Ok(Err(reason))`: it is not what these
/// sources give.
///
/// # Errors
/// If a file cannot be read although the manifest names it.
pub fn read(folder: &Path, sources: &[Source]) -> Result<Result<Vec<Prebuilt>, String>> {
    let path = folder.join("manifest.json");
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(Err("there is no kernels/prebuilt/manifest.json".into()));
    };
    let manifest: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let mut found = Vec::new();
    for source in sources {
        let module = &source.module;
        if manifest["sources_sha256"][module] != source.hash() {
            return Ok(Err(format!(
                "kernels/{module}.cu or a header it includes has changed since the prebuilt PTX was made"
            )));
        }
        for arch in PREBUILT_ARCHITECTURES {
            let name = sources::ptx_file_name(module, arch);
            let bytes = fs::read(folder.join(&name)).with_context(|| format!("cannot read kernels/prebuilt/{name}"))?;
            if manifest["files_sha256"][&name] != sources::hash(&bytes) {
                return Ok(Err(format!("kernels/prebuilt/{name} is not the file that its manifest names")));
            }
            found.push(Prebuilt { module: module.clone(), arch, ptx: bytes });
        }
    }
    Ok(Ok(found))
}
