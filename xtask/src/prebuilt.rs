//! `cargo xtask prebuilt`: the checked-in PTX and the manifest that ties it to the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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
    let (folder, sources) = (crate::kernels_folder(), sources::read(&crate::kernels_folder())?);
    let mut files = BTreeMap::new();
    for source in &sources {
        for arch in PREBUILT_ARCHITECTURES {
            let name = sources::ptx_file_name(&source.module, arch);
            files.insert(name, nvrtc.compile(source, Target::Ptx(arch))?);
        }
    }
    let manifest = manifest(&sources, &files).into_bytes();
    files.insert("manifest.json".into(), manifest);
    settle(&folder.join("prebuilt"), &files, check)?;

    // What the bench compares with is none of the library's kernels: one PTX beside its source, for every device.
    let folder = folder.with_file_name("benches");
    let mut files = BTreeMap::new();
    for source in sources::read(&folder)? {
        files.insert(format!("{}.ptx", source.module), nvrtc.compile(&source, Target::Ptx(PREBUILT_ARCHITECTURES[0]))?);
    }
    settle(&folder, &files, check)
}

/// Writes the generated files of a folder and removes those that belong to no source any more, or with `check` compares
/// them.
fn settle(folder: &Path, files: &BTreeMap<String, Vec<u8>>, check: bool) -> Result<()> {
    let shown = folder.strip_prefix(crate::kernels_folder().with_file_name("")).unwrap_or(folder).display();
    fs::create_dir_all(folder)?;
    let mut stale = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "ptx" || e == "json") && !files.contains_key(&name) {
            stale.push(name);
        }
    }
    if !check {
        for name in stale {
            fs::remove_file(folder.join(name))?;
        }
        for (name, bytes) in files {
            fs::write(folder.join(name), bytes).with_context(|| format!("cannot write {shown}/{name}"))?;
        }
        println!("wrote {} files to {shown}", files.len());
        return Ok(());
    }
    let mut wrong: Vec<String> = stale.iter().map(|name| format!("{name} belongs to no source")).collect();
    for (name, bytes) in files {
        match fs::read(folder.join(name)) {
            Ok(found) if found == *bytes => {}
            Ok(_) => wrong.push(format!("{name} is not what the sources give")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    if !wrong.is_empty() {
        bail!("{shown} is out of date (`cargo xtask prebuilt` regenerates it):\n  {}", wrong.join("\n  "));
    }
    println!("{} files in {shown} are what the sources give", files.len());
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
