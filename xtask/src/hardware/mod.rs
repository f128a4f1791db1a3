//! `cargo xtask hardware`: everything that a machine with a GPU can tell, in one report to send back.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use serde_json::Value;
use softcuda::Config;

mod report;
mod summary;

use report::{Outcome, Report};

/// What to run, and where to.
#[derive(clap::Args)]
pub struct Options {
    /// Folder of the report and of all results; default: `hardware` in the target folder.
    #[arg(long)]
    out: Option<PathBuf>,
    /// On the virtual GPU, in a minute: proves that this command works, and measures nothing.
    #[arg(long = "virtual")]
    on_virtual: bool,
}

/// compute-sanitizer's tools; leaks and uninitialised reads are what the virtual GPU finds.
const SANITIZERS: [&str; 3] = ["memcheck", "racecheck", "synccheck"];
/// Tests that it watches: every regime, alignment and stride, in seconds without it.
const WATCHED: &str = "layout::";
/// Its exit status for findings: one that the tests themselves do not have.
const FINDINGS: &str = "86";

/// The report's file name.
const REPORT: &str = "report.md";
/// The peers' table, by `benches/peers.py`.
const PEERS: &str = "peers.md";

/// Runs all steps, whatever becomes of each, and writes the report.
///
/// # Errors
/// There is no GPU and no `--virtual`; a step failed; the report cannot be written.
pub fn run(options: &Options) -> Result<()> {
    ensure!(
        options.on_virtual || softcuda::driver_present(),
        "there is no GPU here (no CUDA driver with a device); `--virtual` runs the same steps quickly on the virtual one"
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let out = match &options.out {
        Some(out) => std::path::absolute(out)?,
        None => env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("hardware"),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    // Results of an earlier run must not pass for this one's.
    for stale in [REPORT, PEERS, "peers.json", "loss.json", "loss.virtual.json"].map(|name| out.join(name)) {
        if stale.exists() {
            fs::remove_file(&stale).with_context(|| format!("cannot remove {}", stale.display()))?;
        }
    }
    let session = Session { on_virtual: options.on_virtual, root, out };

    let mut report = Report::new();
    report.step("device", |log| session.device(log));
    report.step("tests", |log| session.tests(log));
    for tool in SANITIZERS {
        report.step(&format!("compute-sanitizer {tool}"), |log| session.sanitizer(tool, log));
    }
    report.step("bench", |log| session.bench(log));
    report.step("peers", |log| session.peers(log));
    let path = session.out.join(REPORT);
    fs::write(&path, session.text(&report)?).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nThe report to send back: {}", path.display());
    let failed = report.failed();
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// One run of the steps.
struct Session {
    on_virtual: bool,
    root: PathBuf,
    out: PathBuf,
}

impl Session {
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root).env("ZLPR_BENCH_OUT", &self.out);
        // Without it tests and bench take the GPU; the virtual one's own tests need it unset.
        match self.on_virtual {
            true => command.env("SOFTCUDA", "virtual"),
            false => command.env_remove("SOFTCUDA"),
        };
        command
    }

    fn cargo(&self, arguments: &[&str]) -> Command {
        self.command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
    }

    /// What it all runs on.
    fn device(&self, log: &mut String) -> Result<Outcome> {
        let config = Config::capability(9, 0);
        let gpu = if self.on_virtual { softcuda::virtual_gpu(config) } else { softcuda::gpu(config) }?;
        ensure!(gpu.is_virtual() == self.on_virtual, "SOFTCUDA in the environment asks for the virtual GPU");
        let context = zlpr::context(gpu.ordinal())?;
        let (major, minor) = context.compute_capability()?;
        let multiprocessors = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        writeln!(log, "{}: capability {major}.{minor}, {multiprocessors} multiprocessors", context.name()?)?;
        writeln!(
            log,
            "{:.1} GiB, {} devices",
            context.total_mem()? as f64 / f64::from(1 << 30),
            zlpr::device_count()?
        )?;
        if let Ok(version) = fs::read_to_string("/proc/driver/nvidia/version") {
            writeln!(log, "{}", version.trim())?;
        }
        // Nothing of these is needed, and each tells something.
        for (program, arguments) in
            [("rustc", &["-vV"][..]), ("git", &["describe", "--always", "--dirty"]), ("nvidia-smi", &["-q"])]
        {
            match self.command(program, arguments).output() {
                Ok(output) => writeln!(log, "$ {program}\n{}", String::from_utf8_lossy(&output.stdout).trim())?,
                Err(error) => writeln!(log, "$ {program}: {error}")?,
            }
        }
        Ok(Outcome::Passed)
    }

    fn tests(&self, log: &mut String) -> Result<Outcome> {
        let all = ["test", "--release", "--workspace"];
        let command = match self.on_virtual {
            true => self.cargo(&[&all[..], &["--test", "kernels", WATCHED]].concat()),
            false => self.cargo(&[&all[..], &["--no-fail-fast"]].concat()),
        };
        report::tee(command, log)
    }

    fn sanitizer(&self, tool: &str, log: &mut String) -> Result<Outcome> {
        let Some(program) = on_path("compute-sanitizer") else {
            return Ok(Outcome::Skipped("compute-sanitizer is not on PATH".into()));
        };
        let tests = self.test_executable("kernels")?;
        let tests = tests.to_str().context("the path of the tests is not UTF-8")?;
        let options = ["--tool", tool, "--error-exitcode", FINDINGS, tests, WATCHED];
        let outcome = report::tee(self.command(program, &options), log)?;
        ensure!(!log.contains("running 0 tests"), "no test is named {WATCHED}");
        Ok(outcome)
    }

    /// The executable of a test target, built if it is not.
    fn test_executable(&self, name: &str) -> Result<PathBuf> {
        let build =
            ["test", "--release", "--workspace", "--test", name, "--no-run", "--quiet", "--message-format=json"];
        let output = self.cargo(&build).output()?;
        ensure!(output.status.success(), "the tests do not build: {}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8_lossy(&output.stdout);
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut executables = messages.filter(|message| message["target"]["name"] == name);
        let found = executables.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)));
        found.with_context(|| format!("cargo built no test named {name}"))
    }

    fn bench(&self, log: &mut String) -> Result<Outcome> {
        let bench = ["bench", "-p", "zlpr", "--bench", "loss"];
        let quick: &[&str] = if self.on_virtual { &["--", "--test"] } else { &[] };
        report::tee(self.cargo(&[&bench[..], quick].concat()), log)
    }

    fn peers(&self, log: &mut String) -> Result<Outcome> {
        let torch = self.command("python3", &["-c", "import torch"]).output();
        if !torch.is_ok_and(|output| output.status.success()) {
            return Ok(Outcome::Skipped("python3 has no torch".into()));
        }
        let mut command = self.command("python3", &["benches/peers.py"]);
        match self.on_virtual {
            true => command.args(["--check", "--device", "cpu", "--scores", "f32"]),
            // bf16 moves what f16 moves, and each shape takes seconds to compile.
            false => command.args(["--device", "cuda", "--scores", "f16,f32", "--ours"]).arg(self.results()),
        };
        report::tee(command, log)
    }

    /// The file that the bench writes.
    fn results(&self) -> PathBuf {
        self.out.join(if self.on_virtual { "loss.virtual.json" } else { "loss.json" })
    }

    /// The report: steps, tables, and the results as they are.
    fn text(&self, report: &Report) -> Result<String> {
        let mut text = String::from("# zlpr on hardware\n\n");
        if self.on_virtual {
            text.push_str("On the virtual GPU: nothing here is a measurement.\n\n");
        }
        text.push_str(&report.overview());
        if let Ok(json) = fs::read_to_string(self.results()) {
            let run: Value = serde_json::from_str(&json).context("the bench wrote something that is no JSON")?;
            text.push_str(&summary::tables(&run)?);
            write!(text, "\n## Results\n\n```json\n{run}\n```\n")?;
        }
        if let Ok(peers) = fs::read_to_string(self.out.join(PEERS)) {
            // One level down, as a part of this.
            write!(text, "\n#{peers}")?;
        }
        text.push_str(&report.logs());
        Ok(text)
    }
}

/// A program of this name on PATH.
fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}
