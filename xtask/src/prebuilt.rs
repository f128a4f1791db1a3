//! `cargo xtask prebuilt`: the checked-in PTX and the manifest that ties it to the sources.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::nvrtc::Target;
use crate::sources::{self, PREBUILT_ARCHITECTURES, Source};

/// The NVRTC that the prebuilt PTX is made with: its PTX 8.1 is accepted by drivers from 530 on.
const NVRTC_VERSION: (u32, u32) = (12, 1);

/// Regenerates the files, or with `check` compares them.
///
/// # Errors
/// Another NVRTC than 12.1; with `check`, any difference.
pub fn run(check: bool) -> Result<()> {
    let nvrtc = crate::find_nvrtc()?;
    let (major, minor) = nvrtc.version;
    ensure!(
        nvrtc.version == NVRTC_VERSION,
        "the prebuilt PTX is made with NVRTC {}.{}, but {} is {major}.{minor}: point ZLPR_NVRTC to 12.1",
        NVRTC_VERSION.0,
        NVRTC_VERSION.1,
        nvrtc.origin
    );
    let sources = sources::read(&crate::kernels_folder())?;
    let mut files = BTreeMap::new();
    for source in &sources {
        for arch in PREBUILT_ARCHITECTURES {
            let name = sources::ptx_file_name(&source.module, arch);
            files.insert(name, nvrtc.compile(source, Target::Ptx(arch))?);
        }
    }
    let manifest = manifest(&sources, &files).into_bytes();
    files.insert("manifest.json".into(), manifest);

    let folder = crate::kernels_folder().join("prebuilt");
    fs::create_dir_all(&folder)?;
    let mut present: Vec<String> = Vec::new();
    for entry in fs::read_dir(&folder)? {
        present.push(entry?.file_name().to_string_lossy().into());
    }
    let stale = present.iter().filter(|name| !files.contains_key(*name));
    if !check {
        for name in stale {
            fs::remove_file(folder.join(name))?;
        }
        for (name, bytes) in &files {
            fs::write(folder.join(name), bytes).with_context(|| format!("cannot write kernels/prebuilt/{name}"))?;
        }
        println!("wrote {} files to kernels/prebuilt", files.len());
        return Ok(());
    }
    let mut wrong: Vec<String> = stale.map(|name| format!("{name} belongs to no source")).collect();
    for (name, bytes) in &files {
        match fs::read(folder.join(name)) {
            Ok(found) if found == *bytes => {}
            Ok(_) => wrong.push(format!("{name} is not what the sources give")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    if !wrong.is_empty() {
        bail!("kernels/prebuilt is out of date (`cargo xtask prebuilt` regenerates it):\n  {}", wrong.join("\n  "));
    }
    println!("{} files in kernels/prebuilt are what the sources give", files.len());
    Ok(())
}

/// The manifest's text for these sources and files (name to contents).
fn manifest(sources: &[Source], files: &BTreeMap<String, Vec<u8>>) -> String {
    let sources: BTreeMap<_, _> = sources.iter().map(|s| (s.module.clone(), s.hash())).collect();
    let files: BTreeMap<_, _> = files.iter().map(|(name, bytes)| (name.clone(), sources::hash(bytes))).collect();
    let nvrtc = format!("{}.{}", NVRTC_VERSION.0, NVRTC_VERSION.1);
    let manifest = serde_json::json!({ "nvrtc": nvrtc, "sources_sha256": sources, "files_sha256": files });
    format!("{manifest:#}\n")
}
