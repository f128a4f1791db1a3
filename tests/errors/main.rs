//! Every error that a host can meet, and what a launch does not do. Always on virtual devices, whose drivers, limits
//! and memory are what a test wants them to be.

mod arguments;
mod call;
mod driver;
mod injected;
mod launching;
mod loading;
mod overlap;

use std::process::Command;

/// Set in a process that runs a single test.
const ALONE: &str = "ZLPR_TEST_ALONE";

/// Runs `test`, the body of the test of this name, in a process of its own: whether there is a driver, and which
/// version it has, is one thing for all devices and threads of a process.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let this = std::env::current_exe().expect("this program has a path");
    let child = Command::new(this).args([name, "--exact", "--nocapture"]).env(ALONE, "1").output();
    let child = child.expect("this program starts");
    let text = format!("{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}
