//! Steps that go on whatever becomes of one, and what they printed.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

/// Lines of a step's output that the report keeps, from its end: failures are told there.
const KEPT_LINES: usize = 200;

/// What became of a step.
pub enum Outcome {
    Passed,
    /// And why.
    Failed(String),
    /// And why.
    Skipped(String),
}

struct Step {
    name: String,
    outcome: Outcome,
    seconds: f64,
    log: String,
}

/// All steps so far.
pub struct Report {
    steps: Vec<Step>,
}

impl Report {
    pub fn new() -> Report {
        Report { steps: Vec::new() }
    }

    /// Runs a step, which appends what is worth telling to a log; an error is its failure.
    pub fn step(&mut self, name: &str, run: impl FnOnce(&mut String) -> Result<Outcome>) {
        println!("\n== {name}");
        let (start, mut log) = (Instant::now(), String::new());
        let outcome = run(&mut log).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        let step = Step { name: name.into(), outcome, seconds: start.elapsed().as_secs_f64(), log };
        println!("== {name}: {}", step.told());
        self.steps.push(step);
    }

    /// Names of the steps that failed.
    pub fn failed(&self) -> Vec<&str> {
        let failed = self.steps.iter().filter(|step| matches!(step.outcome, Outcome::Failed(_)));
        failed.map(|step| step.name.as_str()).collect()
    }

    /// A table of the steps.
    pub fn overview(&self) -> String {
        let mut text = String::from("| Step | Result | Seconds |\n|---|---|---|\n");
        for step in &self.steps {
            // A message may have lines, and a table's cell may not.
            let told = step.told().replace('\n', " ").replace('|', "/");
            let _ = writeln!(text, "| {} | {told} | {:.0} |", step.name, step.seconds);
        }
        text
    }

    /// What the steps printed.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for Step { name, log, .. } in self.steps.iter().filter(|step| !step.log.is_empty()) {
            let lines: Vec<&str> = log.lines().collect();
            let left_out = lines.len().saturating_sub(KEPT_LINES);
            let _ = write!(text, "\n## Output of {name}\n\n");
            if left_out > 0 {
                let _ = write!(text, "The last {KEPT_LINES} of {} lines.\n\n", lines.len());
            }
            // Indented: no output can end it.
            for line in &lines[left_out..] {
                let _ = writeln!(text, "    {line}");
            }
        }
        text
    }
}

impl Step {
    fn told(&self) -> String {
        match &self.outcome {
            Outcome::Passed => "passed".into(),
            Outcome::Failed(why) => format!("FAILED: {why}"),
            Outcome::Skipped(why) => format!("skipped: {why}"),
        }
    }
}

/// Runs a command whose output goes to the terminal and into the log; failed unless it exits with 0.
pub fn tee(mut command: Command, log: &mut String) -> Result<Outcome> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start {program}"))?;
    // The command holds the writing end: without this, the pipe never ends.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        log.push_str(&line);
        log.push('\n');
    }
    let status = child.wait()?;
    Ok(if status.success() { Outcome::Passed } else { Outcome::Failed(status.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failed_step_is_named_and_the_others_go_on() {
        let mut report = Report::new();
        report.step("first", |log| tee(shell("echo to the end; echo and beside it >&2; exit 3"), log));
        report.step("second", |_| anyhow::bail!("no | such\nthing"));
        report.step("third", |_| Ok(Outcome::Skipped("not here".into())));
        report.step("fourth", |log| tee(shell("echo fine"), log));
        assert_eq!(report.failed(), ["first", "second"]);
        let overview = report.overview();
        for told in ["first | FAILED: exit status: 3 |", "second | FAILED: no / such thing |", "skipped: not here"] {
            assert!(overview.contains(told), "{told} is not in {overview}");
        }
        assert!(overview.contains("fourth | passed |"), "{overview}");
        let logs = report.logs();
        assert!(logs.contains("Output of first\n\n    to the end\n    and beside it\n"), "{logs}");
        assert!(logs.contains("Output of fourth\n\n    fine\n") && !logs.contains("third"), "{logs}");
    }

    #[test]
    fn of_a_long_output_the_end_is_kept() {
        let mut report = Report::new();
        report.step("long", |log| tee(shell("seq 1000"), log));
        let logs = report.logs();
        assert!(logs.contains("The last 200 of 1000 lines.\n\n    801\n") && logs.ends_with("    1000\n"), "{logs}");
    }
}
