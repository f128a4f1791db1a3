//! Runs kernels of any PTX file, with all checks: `softcuda run` and `softcuda info`.

mod argument;
mod options;
mod report;

use std::process::ExitCode;

use softcuda::{Kernel, Ran, RunError};

use argument::Argument;
use options::{Command, Failure, Run};

fn main() -> ExitCode {
    match options::parse().and_then(execute) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("softcuda: {failure}");
            ExitCode::from(2)
        }
    }
}

fn execute(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Help => {
            print!("{}", options::HELP);
            Ok(ExitCode::SUCCESS)
        }
        Command::Info(path) => {
            print!("{}", report::kernels(&Kernel::all(&read(&path)?)?));
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(run) => execute_run(&run),
    }
}

fn read(path: &std::path::Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Runs once for each seed. The results are those of the first; that others differ is worth a note.
fn execute_run(run: &Run) -> Result<ExitCode, Failure> {
    let mut kernel = Kernel::load(&read(&run.file)?, &run.kernel)?
        .grid(run.grid)
        .block(run.block)
        .cluster(run.cluster)
        .dynamic_shared(run.shared);
    for argument in &run.args {
        kernel = kernel.arg(argument.value()?);
    }
    let config = run.config(kernel.target());
    let mut first: Option<Ran> = None;
    for seed in run.seeds.clone() {
        let config = softcuda::Config { seed, ..config };
        let ran = match kernel.run(&config) {
            Ok(ran) => ran,
            Err(RunError::Fault(fault)) => {
                print!("{}", if run.json { report::fault_json(&fault, seed) } else { report::fault(&fault, seed) });
                return Ok(ExitCode::FAILURE);
            }
            Err(error) => return Err(error.into()),
        };
        let Some(first) = &first else {
            first = Some(ran);
            continue;
        };
        for (index, argument) in run.args.iter().enumerate() {
            if ran.buffers[index] != first.buffers[index] {
                let from = run.seeds.start;
                eprintln!("softcuda: argument {index} ({argument}) is not the same with seed {seed} as with {from}");
            }
        }
    }
    let Some(ran) = first else { return Err("no seeds".into()) };
    for (index, path) in &run.dumps {
        let buffer = ran.buffers.get(*index).ok_or_else(|| format!("--dump {index}: there is no such argument"))?;
        std::fs::write(path, buffer).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let buffers = run.args.iter().zip(&ran.buffers).enumerate().filter(|(_, (argument, _))| argument.printed());
    let buffers: Vec<(usize, &Argument, &[u8])> =
        buffers.map(|(index, (arg, bytes))| (index, arg, &bytes[..])).collect();
    print!("{}", if run.json { report::json(&ran, &buffers) } else { report::text(&ran, &buffers) });
    Ok(ExitCode::SUCCESS)
}
