//! The counted path: what one warp executes for one full, aligned row on the fast path.
//!
//! How the count is made. The warp is walked through the machine code with all 32 lanes. What the launch fixes is
//! computed (see [`state`](super::state)), so loops run for their true number of trips and guards on sizes and
//! alignment are decided. Lanes that part ways are each followed; the lanes at the lowest address go first, which
//! joins them again where the code joins. What depends on data is not known. A branch on such a value is taken
//! the same way each time it is met, by all lanes, and both ways are tried; of all walks that store the whole
//! gradient of the warp's elements and the loss, the cheapest is the counted path. The exact path, the slow cases of
//! division and logarithm, and waits for other blocks fall away thereby, because they only add work.
//!
//! Checks on the method: a walk counts only if every global address is known and lies in one of the launch's
//! arrays, scores and labels loaded are at least the warp's share of the row and the gradient stored is exactly that,
//! and no value became unknown only because its instruction is not modelled. Cross-check: the virtual GPU executes the PTX
//! of the same launch on real data. Exponentials, shuffles, barriers and accesses must agree exactly; all instructions
//! together are 2 to 15% fewer in machine code, where a move, a pack or a conversion is often part of another instruction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Result, bail};

use super::cfg::{Flow, flow};
use super::ops;
use super::sass::{File, Function, Instruction, Operand};
use super::state::{LANES, Launch, Registers, View, parts, reads};

/// Warp instructions after which a walk is given up.
const MOST_STEPS: u64 = 400_000;

/// Branches on data that are looked at: the kernels have about ten on their way, in a hundred combinations.
const MOST_FORKS: usize = 3000;
/// Warp instructions between two looks at which walk is the shortest.
const STRETCH: u64 = 64;

/// An array of the launch in global memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    pub name: &'static str,
    pub start: u64,
    pub bytes: u64,
}

/// What a walk must have stored to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    pub gradient_bytes: u64,
    pub loss: bool,
    /// What it must have loaded, at least.
    pub score_bytes: u64,
    pub label_bytes: u64,
}

pub struct Walker<'a> {
    pub function: &'a Function,
    pub launch: Launch,
    pub arrays: &'a [Array],
}

/// Accesses of one instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    pub array: &'static str,
    pub store: bool,
    /// Bytes per lane.
    pub width: u32,
    pub bytes: u64,
}

/// What a walk has done.
#[derive(Clone)]
pub struct Path {
    /// Per instruction, how often it was issued, and how often for at least one lane.
    pub issued: Vec<u32>,
    pub effective: Vec<u32>,
    /// Lanes that took part, over all times.
    pub lanes: Vec<u64>,
    pub steps: u64,
    pub accesses: BTreeMap<usize, Access>,
    /// Most bytes that were asked for and not yet used.
    pub peak_in_flight: u64,
    /// Branches on data, and which way they were taken.
    pub decisions: BTreeMap<usize, bool>,
    /// Instructions in the order of issue, and how many lanes took part.
    pub trace: Vec<(u32, u8)>,
    stored: BTreeMap<&'static str, u64>,
    unknown_address: Option<usize>,
    not_modelled: Option<usize>,
}

#[derive(Clone)]
struct Run {
    registers: Registers,
    at: [Option<usize>; LANES],
    path: Path,
    /// Which load a register waits for.
    waits: HashMap<(File, u8), u64>,
    /// Loads in the order of issue.
    loads: Vec<(u64, u64)>,
    in_flight: u64,
    /// Asynchronous copies: bytes of the group that is being formed, and of the groups before it.
    copies: (u64, Vec<u64>),
}

impl Run {
    /// What the rest of the walk depends on.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.at, &self.registers, &self.path.stored, &self.path.unknown_address).hash(&mut hasher);
        hasher.finish()
    }
}

enum Step {
    Next,
    Undecided(usize),
    Done,
}

impl Walker<'_> {
    /// The counted path.
    ///
    /// # Errors
    /// If no walk does its duty.
    pub fn path(&self, duty: Duty) -> Result<Path> {
        let count = self.function.instructions.len();
        let run = Run {
            registers: Registers::unknown(),
            at: [Some(0); LANES],
            path: Path {
                issued: vec![0; count],
                effective: vec![0; count],
                lanes: vec![0; count],
                steps: 0,
                accesses: BTreeMap::new(),
                peak_in_flight: 0,
                decisions: BTreeMap::new(),
                trace: Vec::new(),
                stored: BTreeMap::new(),
                unknown_address: None,
                not_modelled: None,
            },
            waits: HashMap::new(),
            loads: Vec::new(),
            in_flight: 0,
            copies: (0, Vec::new()),
        };
        // A walk that cannot go on, say for a return address that is not known, is none.
        // The walk with the fewest instructions so far goes on, so the first that does its duty is the cheapest.
        // It goes a stretch at a time; walks that differ only in what they have behind them are one.
        let mut failed: Vec<String> = Vec::new();
        let mut open = BTreeMap::from([((0, 0), run)]);
        let mut number = 0;
        let mut seen = HashSet::new();
        while let Some((_, mut run)) = open.pop_first() {
            let end = run.path.steps + STRETCH;
            let undecided = loop {
                match self.step(&mut run) {
                    Ok(Step::Next) if run.path.steps < end => {}
                    Ok(Step::Next) => break None,
                    Ok(Step::Undecided(branch)) => break Some(branch),
                    Ok(Step::Done) => match self.shortcoming(&run.path, duty)? {
                        None => return Ok(run.path),
                        Some(what) => {
                            failed.push(format!("after {}: {what}", run.path.steps));
                            run.path.steps = MOST_STEPS;
                            break None;
                        }
                    },
                    Err(error) => {
                        failed.push(format!("after {}: {error}", run.path.steps));
                        run.path.steps = MOST_STEPS;
                        break None;
                    }
                }
            };
            if run.path.steps >= MOST_STEPS {
                continue;
            }
            let Some(branch) = undecided else {
                number += 1;
                open.insert((run.path.steps, number), run);
                continue;
            };
            if !seen.insert(run.fingerprint()) {
                continue;
            }
            if seen.len() > MOST_FORKS {
                let place = self.function.instructions[branch].offset;
                failed.push(format!("too many branches on data, one of them at {place:04x}"));
                break;
            }
            for taken in [false, true] {
                let mut next = run.clone();
                next.path.decisions.insert(branch, taken);
                number += 1;
                open.insert((next.path.steps, number), next);
            }
        }
        // The shortest walks tell the most, and the last says why the search ended.
        if failed.len() > 3 {
            failed.drain(2..failed.len() - 1);
        }
        bail!("no walk of warp {} stores {duty:?}: {}", self.launch.warp, failed.join("; "))
    }

    /// Why a walk that has ended is not the one looked for.
    ///
    /// # Errors
    /// If it would be, were it not for what is not modelled: a dearer walk must not take its place.
    fn shortcoming(&self, path: &Path, duty: Duty) -> Result<Option<String>> {
        let stored = |name| path.stored.get(name).copied().unwrap_or(0);
        let (gradient, loss) = (stored("gradient"), stored("loss") > 0);
        if gradient != duty.gradient_bytes || loss != duty.loss {
            return Ok(Some(format!("one stores {gradient} bytes of the gradient, loss: {loss}")));
        }
        let loaded =
            |name| path.accesses.values().filter(|a| a.array == name && !a.store).map(|a| a.bytes).sum::<u64>();
        if loaded("scores") < duty.score_bytes || loaded("labels") < duty.label_bytes {
            return Ok(Some("one loads too little".into()));
        }
        let text = |at: usize| {
            format!("{:04x} {}", self.function.instructions[at].offset, self.function.instructions[at].text)
        };
        if let Some(at) = path.not_modelled {
            bail!("not modelled, though it depends on the launch only: {}", text(at));
        }
        if let Some(at) = path.unknown_address {
            bail!("unknown address: {}", text(at));
        }
        Ok(None)
    }

    fn step(&self, run: &mut Run) -> Result<Step> {
        let Some(at) = run.at.iter().flatten().copied().min() else { return Ok(Step::Done) };
        let Some(instruction) = self.function.instructions.get(at) else { bail!("walked off the end") };
        let active: Vec<usize> = (0..LANES).filter(|&lane| run.at[lane] == Some(at)).collect();
        let guard = |lane: usize| instruction.guard.map_or(Some(true), |g| run.registers.predicate(g, lane));
        let condition = |lane: usize| {
            // A branch may have a second condition among its operands.
            let others = instruction.operands.iter().filter_map(|o| match o {
                Operand::Predicate(p) => Some(run.registers.predicate(*p, lane)),
                _ => None,
            });
            others.chain([guard(lane)]).try_fold(true, |all, c| Some(all && c?))
        };
        // BRA.DIV leaves a converged warp alone, and BRA.CONV takes it along.
        let branches = matches!(flow(instruction), Flow::Branch(_)) && !instruction.has("DIV");
        if let (true, Some(Operand::Other(what))) =
            (branches, instruction.operands.iter().find(|o| matches!(o, Operand::Other(_))))
        {
            bail!("unknown condition {what} in: {}", instruction.text);
        }
        let mut taken = [false; LANES];
        if branches || matches!(flow(instruction), Flow::Leave | Flow::Call) {
            for &lane in &active {
                taken[lane] = match condition(lane).or(run.path.decisions.get(&at).copied()) {
                    Some(taken) => taken,
                    None => return Ok(Step::Undecided(at)),
                };
            }
        }
        let working: Vec<usize> = active.iter().copied().filter(|&lane| guard(lane) != Some(false)).collect();
        run.path.steps += 1;
        run.path.issued[at] += 1;
        run.path.lanes[at] += working.len() as u64;
        run.path.effective[at] += u32::from(!working.is_empty());
        run.path.trace.push((at as u32, working.len() as u8));
        if !working.is_empty() {
            self.access(run, at, instruction, &working);
        }
        if !ops::execute(instruction, &mut run.registers, &self.launch, &active) {
            run.path.not_modelled.get_or_insert(at);
        }

        for &lane in &active {
            run.at[lane] = Some(at + 1);
        }
        let leaves: Vec<usize> = active.into_iter().filter(|&lane| taken[lane]).collect();
        for &lane in &leaves {
            run.at[lane] = match (flow(instruction), instruction.base()) {
                (Flow::Leave, "EXIT") => None,
                (Flow::Leave, _) => {
                    let view = View { registers: &run.registers, launch: &self.launch, lane };
                    let offset = instruction.operands.first().and_then(|o| view.int(o));
                    let back = offset.and_then(|o| self.function.at(o));
                    if back.is_none() {
                        bail!("unknown return address in: {}", instruction.text);
                    }
                    back
                }
                (Flow::Branch(_) | Flow::Call, _) => match self.function.target(instruction) {
                    Some(target) => Some(target),
                    None => bail!("unknown target of: {}", instruction.text),
                },
                (Flow::Next, _) => Some(at + 1),
            };
        }
        Ok(Step::Next)
    }

    /// Where loads and stores go, and what is in flight.
    fn access(&self, run: &mut Run, at: usize, instruction: &Instruction, working: &[usize]) {
        // The first use of a load waits for it and for those before it.
        for register in reads(instruction) {
            if let Some(load) = run.waits.remove(&register) {
                run.loads.retain(|&(number, bytes)| {
                    if number <= load {
                        run.in_flight -= bytes;
                    }
                    number > load
                });
            }
        }
        let base = instruction.base();
        match base {
            "LDGDEPBAR" => {
                let formed = std::mem::take(&mut run.copies.0);
                run.copies.1.push(formed);
            }
            "DEPBAR" => {
                let left =
                    instruction.operands.iter().find_map(|o| if let Operand::Integer(n) = o { Some(*n) } else { None });
                while run.copies.1.len() > left.unwrap_or(0) as usize {
                    run.in_flight -= run.copies.1.remove(0);
                }
            }
            _ => {}
        }
        let load = matches!(base, "LDG" | "LD" | "LDGSTS");
        let store = matches!(base, "STG" | "ST");
        if !load && !store {
            return;
        }
        // A copy names shared memory first, then global memory.
        let Some(operand) = instruction.operands.iter().rfind(|o| matches!(o, Operand::Memory { .. })) else { return };
        let width = instruction.width();
        let mut array = None;
        for &lane in working {
            let view = View { registers: &run.registers, launch: &self.launch, lane };
            let address = view.address(operand, instruction.has("E"));
            let inside =
                |a: &&Array| address.is_some_and(|x| x >= a.start && x + u64::from(width) <= a.start + a.bytes);
            match self.arrays.iter().find(inside) {
                Some(found) => array = Some(found.name),
                None => {
                    run.path.unknown_address.get_or_insert(at);
                }
            }
        }
        let Some(array) = array else { return };
        let bytes = working.len() as u64 * u64::from(width);
        let sum = run.path.accesses.entry(at).or_insert(Access { array, store, width, bytes: 0 });
        sum.bytes += bytes;
        if store {
            *run.path.stored.entry(array).or_default() += bytes;
            return;
        }
        run.in_flight += bytes;
        run.path.peak_in_flight = run.path.peak_in_flight.max(run.in_flight);
        if base == "LDGSTS" {
            run.copies.0 += bytes;
        } else if let Some((file, index)) = parts(instruction).register {
            let number = run.path.steps;
            run.loads.push((number, bytes));
            let words = if instruction.has("256") { 4 } else { (width / 4).max(1) } as u8;
            for word in 0..words {
                run.waits.insert((file, index.saturating_add(word)), number);
            }
            if let (true, Some(Operand::Register { file, index, .. })) =
                (instruction.has("256"), parts(instruction).sources.first())
            {
                for word in 0..4 {
                    run.waits.insert((*file, index.saturating_add(word)), number);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::sass;

    /// Three trips of a loop that loads 16 bytes of scores and of labels, has a cold block for large scores, and
    /// stores 16 bytes; lane 0 stores the loss.
    const ROW: &str = include_str!("../../tests/sass/row.sass");
    const ARRAY: u64 = 3 * 512;

    fn walk(listing: &str, label_bytes: u64) -> Result<Path> {
        let functions = sass::parse(listing);
        let array = |name, place: u64, bytes| Array { name, start: place << 40, bytes };
        let arrays =
            [array("scores", 1, ARRAY), array("labels", 2, ARRAY), array("gradient", 3, ARRAY), array("loss", 4, 4)];
        let mut constants = vec![None; 0x84];
        constants.extend(arrays.iter().flat_map(|a| [Some(a.start as u32), Some((a.start >> 32) as u32)]));
        let launch = Launch { constants, block_index: 0, warp: 0 };
        let duty = Duty { gradient_bytes: ARRAY, loss: true, score_bytes: ARRAY, label_bytes };
        Walker { function: &functions[0], launch, arrays: &arrays }.path(duty)
    }

    #[test]
    fn the_cheapest_walk_that_does_its_duty() {
        let path = walk(ROW, ARRAY).expect("a path");
        let offsets = |times: u32| {
            (0..path.issued.len()).filter(|&i| path.issued[i] == times).map(|i| 16 * i).collect::<Vec<_>>()
        };
        assert_eq!(offsets(3), (0xa0..0x190).step_by(16).collect::<Vec<_>>());
        assert_eq!(offsets(0), [0x1d0, 0x1e0]);
        assert_eq!(path.steps, 10 + 3 * 15 + 4);
        assert_eq!(path.decisions, BTreeMap::from([(0xd, false)]));
        assert_eq!((path.lanes[0x1b], path.lanes[0xa]), (1, 3 * 32));
        // Scores and labels of one trip, until the comparison uses the scores.
        assert_eq!(path.peak_in_flight, 1024);
        let scores = Access { array: "scores", store: false, width: 16, bytes: ARRAY };
        assert_eq!(path.accesses[&0xa], scores);
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        let error = |listing: &str, labels| walk(listing, labels).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error(ROW, ARRAY + 1).contains("loads too little"));
        // A fourth trip leaves the arrays.
        let four_trips = ROW.replace("R9, 0x3, PT", "R9, 0x4, PT");
        assert!(error(&four_trips, ARRAY).contains("unknown address: 00a0"), "{}", error(&four_trips, ARRAY));
        let unknown = ROW.replace("IADD3 R6, P0, R6, 0x200, RZ", "IADD3 R6, P0, R6, R19, RZ");
        assert!(error(&unknown, ARRAY).contains("stores 512 bytes"), "{}", error(&unknown, ARRAY));
        let new_opcode = ROW.replace("VIADD R9, R9, 0x1", "VINCREMENT R9, R9");
        assert!(!error(&new_opcode, ARRAY).is_empty());
    }
}
