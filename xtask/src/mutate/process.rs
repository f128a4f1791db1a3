//! The other side of a worker process: asks, waits, and replaces a process that hangs or dies.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};

use super::worker::{Answer, Verdict};

/// How long one case may take. The longest takes a fraction of a second; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the cases may take that are made when a kernel is first asked for.
const START: Duration = Duration::from_secs(120);

/// A process that runs mutants.
pub struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<Answer>,
}

impl Worker {
    /// Starts one.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn start() -> Result<Worker> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("mutate-worker")
            // Mutants stay away from real devices: they write where they please.
            .env("SOFTCUDA", "virtual")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let requests = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (send, answers) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Ok(answer) = serde_json::from_str(&line) else { continue };
                if send.send(answer).is_err() {
                    return;
                }
            }
        });
        Ok(Worker { child, requests, answers })
    }

    /// The verdict on a mutant of a kernel, or on the kernel as it is.
    ///
    /// # Errors
    /// A new process cannot be started.
    pub fn judge(&mut self, target: usize, mutant: Option<usize>) -> Result<Verdict> {
        let mutant = mutant.map_or("-".to_owned(), |i| i.to_string());
        let asked = writeln!(self.requests, "{target} {mutant}").and_then(|()| self.requests.flush());
        asked.context("a worker is gone")?;
        let mut patience = START;
        let reason = loop {
            match self.answers.recv_timeout(patience) {
                Ok(Answer::Alive) => patience = PATIENCE,
                Ok(Answer::Verdict(verdict)) => return Ok(verdict),
                Err(RecvTimeoutError::Timeout) => break "it hangs",
                Err(RecvTimeoutError::Disconnected) => break "it crashes the virtual GPU",
            }
        };
        *self = Worker::start()?;
        Ok(Verdict::Killed(reason.to_owned()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
