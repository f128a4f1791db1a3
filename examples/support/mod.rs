//! What several examples share: choosing a device, reading tensors, ending with one line on errors.

pub mod device;
pub mod tensors;

use std::process::ExitCode;

/// Ends the program: on an error one line on stderr, and exit code 2.
pub fn finish(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Some causes are lists over several lines.
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    eprintln!("error: {}", lines.join(" "));
    ExitCode::from(2)
}
