//! The bugs that are planted in the programs: a comment `// bug N: CHECK` marks the lines that a
//! report may name when the program is compiled with `BUG=N`.

use std::collections::BTreeMap;

use softcuda::fault::FaultKind;

use crate::harness::Program;
use crate::nvrtc;

/// A check that softcuda makes.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// What sources call it.
    pub name: &'static str,
    /// What it is reported as.
    pub kind: FaultKind,
    /// What a report says that tells it from others of its kind.
    pub says: &'static str,
}

const fn check(name: &'static str, kind: FaultKind, says: &'static str) -> Check {
    Check { name, kind, says }
}

/// Every check of a kernel's work.
const CHECKS: &[Check] = &[
    check("out of bounds", FaultKind::OutOfBounds, ""),
    check("misaligned", FaultKind::Misaligned, ""),
    check("uninitialised", FaultKind::Uninitialised, ""),
    check("use after free", FaultKind::UseAfterFree, ""),
    check("barrier divergence", FaultKind::BarrierDivergence, ""),
    check("bad member mask", FaultKind::BadSyncMask, ""),
    check("missing cp.async wait", FaultKind::MissingWait, "asynchronous copy"),
    check("shared race", FaultKind::Race, ""),
    check("global race", FaultKind::Race, ""),
    check("distributed race", FaultKind::Race, ""),
    check("peer not running", FaultKind::PeerNotRunning, ""),
    check("missing bulk wait", FaultKind::MissingWait, "asynchronous"),
    check("missing mbarrier wait", FaultKind::Race, ""),
    check("wrong transaction count", FaultKind::Deadlock, "bytes"),
    check("deadlock", FaultKind::Deadlock, ""),
    check("read-only load", FaultKind::ReadOnlyViolation, ""),
    check("write to constant memory", FaultKind::WriteToReadOnly, ""),
];

/// Every check of what the host does, for which the tests of `host` and `pinned` stand.
const HOST_CHECKS: [&str; 5] =
    ["double free", "leak", "pinned source changed", "pinned destination read", "pinned destination written"];

/// A bug of a program.
#[derive(Debug)]
pub struct Bug {
    pub number: u32,
    /// What a report may be of, and on which line of the source, from 1. It depends on the order of
    /// threads where a bug has several checks.
    pub marks: Vec<(Check, u32)>,
}

impl Bug {
    /// The check that finds it in every order.
    fn check(&self) -> Option<Check> {
        let (first, _) = self.marks[0];
        Some(first).filter(|first| self.marks.iter().all(|(check, _)| check.name == first.name))
    }
}

/// The bugs of a program, as its source marks them.
pub fn bugs(name: &str, source: &str) -> Vec<Bug> {
    let mut bugs: BTreeMap<u32, Bug> = BTreeMap::new();
    for (index, line) in source.lines().enumerate() {
        for mark in line.split("// bug ").skip(1) {
            let (number, check) = mark.split_once(": ").unwrap_or_else(|| panic!("{name}.cu: {line}"));
            let (number, check) = (number.parse().unwrap(), check.trim());
            let check = *CHECKS.iter().find(|c| c.name == check).unwrap_or_else(|| panic!("{name}.cu: {line}"));
            let bug = bugs.entry(number).or_insert(Bug { number, marks: Vec::new() });
            bug.marks.push((check, index as u32 + 1));
        }
    }
    bugs.into_values().collect()
}

fn programs() -> impl Iterator<Item = &'static Program> {
    let lists = [
        crate::arithmetic::PROGRAMS,
        crate::asynchronous::PROGRAMS,
        crate::cluster::PROGRAMS,
        crate::graphs::PROGRAMS,
        crate::linear::PROGRAMS,
        crate::norms::PROGRAMS,
        crate::reductions::PROGRAMS,
        crate::scans::PROGRAMS,
        crate::sync::PROGRAMS,
        crate::tiles::PROGRAMS,
    ];
    lists.into_iter().flatten()
}

/// Every check has at least three bugs that it must find, in every order of threads.
#[test]
fn each_check_has_three_bugs() {
    let names = CHECKS.iter().map(|check| check.name).chain(HOST_CHECKS);
    let mut counts: BTreeMap<&str, usize> = names.map(|name| (name, 0)).collect();
    for program in programs() {
        for check in bugs(program.name, &nvrtc::source(program.name)).iter().filter_map(Bug::check) {
            *counts.get_mut(check.name).unwrap() += 1;
        }
    }
    let of_host =
        crate::host::BUGS.iter().map(|(_, name)| name).chain(crate::pinned::BUGS.iter().map(|(_, name)| name));
    of_host.for_each(|name| *counts.get_mut(name).unwrap() += 1);
    println!("{counts:#?}");
    assert!(counts.values().all(|&count| count >= 3), "{counts:?}");
}

/// The version that made a program's checked-in PTX: the oldest that knows its architecture.
fn maker(arch: u32) -> (i32, i32) {
    if arch <= 90 { (12, 1) } else { (13, 5) }
}

/// What is checked in is what the sources give, as far as the compilers that made it are there. With
/// `SOFTCUDA_PROGRAMS=write` it is written instead.
#[test]
fn checked_in_ptx_is_up_to_date() {
    let write = std::env::var("SOFTCUDA_PROGRAMS").is_ok_and(|value| value == "write");
    let mut names = Vec::new();
    for program in programs() {
        let source = nvrtc::source(program.name);
        let bugs = bugs(program.name, &source);
        names.push(nvrtc::checked_in(program.name, 0));
        names.extend(bugs.iter().map(|bug| nvrtc::checked_in(program.name, bug.number)));
        let Some(nvrtc) = nvrtc::all().iter().find(|nvrtc| nvrtc.version == maker(program.arch)) else { continue };
        let compile = |bug| nvrtc.compile(program.name, &source, program.arch, bug);
        let clean = compile(0);
        for bug in std::iter::once(0).chain(bugs.iter().map(|bug| bug.number)) {
            let path = nvrtc::checked_in(program.name, bug);
            let text = Some(compile(bug)).filter(|text| bug == 0 || *text != clean);
            if write {
                // Nothing to remove where there was nothing.
                let _ = std::fs::remove_file(&path);
                text.iter().for_each(|text| std::fs::write(&path, text).unwrap());
            } else {
                let same = std::fs::read_to_string(&path).ok() == text;
                assert!(same, "{}: run with SOFTCUDA_PROGRAMS=write", path.display());
            }
        }
    }
    let folder = nvrtc::checked_in("", 0).parent().unwrap().to_owned();
    let present: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    let strays: Vec<_> = present.iter().filter(|path| !names.contains(path)).collect();
    assert!(strays.is_empty(), "{strays:?}");
}
