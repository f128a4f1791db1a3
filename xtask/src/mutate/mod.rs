//! `cargo xtask mutate`: whether the tests would notice if a kernel were wrong.
//!
//! Each mutant is one kernel's PTX with one instruction changed. It runs on the virtual GPU through the raw layer
//! against a kill set: cases with the reference's results and DESIGN's tolerances. A wrong result, a report of the
//! virtual GPU or a hang kills it. What survives is printed, and must be explained in `mutants/survivors.toml`.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use zlpr::DType;
use zlpr::plan::Regime;

mod cases;
mod lines;
mod operators;
mod process;
mod ptx;
mod survivors;
mod worker;

use lines::Lines;
use operators::{Kind, changes};
use process::Worker;
use ptx::{Text, without_numbers};
use survivors::{Class, List};
use worker::Verdict;
pub use worker::serve;

/// What part of the mutants that are not equivalent must be killed.
const PASS: f64 = 0.97;

/// Options of the command.
#[derive(clap::Args)]
pub struct Options {
    /// Which mutants are made.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Mutants in all.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1..=1500))]
    limit: u64,
    /// Run this many of them; any survivor must be explained, but no score is asked for.
    #[arg(long)]
    sample: Option<usize>,
    /// Only the kernels whose name holds this.
    #[arg(long)]
    kernel: Option<String>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Print the mutants instead of running them.
    #[arg(long)]
    list: bool,
    /// Write every mutant with its verdict to this file.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A kernel to change.
pub struct Target {
    /// Entry point.
    entry: &'static str,
    /// Module, and its prebuilt PTX's architecture.
    module: &'static str,
    capability: (u32, u32),
    /// `None`: the sum of row losses.
    regime: Option<Regime>,
    /// Types of scores and labels.
    pair: (DType, DType),
}

/// One instantiation of every regime, so that each type, label form and rounding is in one: between them, soft and
/// hard labels, rounding by instruction and (before 8.0) by hand, clamping by instruction and by comparison.
/// A new one goes to the end: the choice of a kernel's mutants depends on its place, and the list of survivors on that.
const TARGETS: [Target; 5] = [
    Target {
        entry: "zlpr_warp_f16_u8",
        module: "warp",
        capability: (8, 0),
        regime: Some(Regime::Warp),
        pair: (DType::F16, DType::U8),
    },
    Target {
        entry: "zlpr_block_bf16_bf16",
        module: "block",
        capability: (7, 5),
        regime: Some(Regime::Block),
        pair: (DType::Bf16, DType::Bf16),
    },
    Target {
        entry: "zlpr_staged_f16_f16",
        module: "staged",
        capability: (8, 0),
        regime: Some(Regime::Staged),
        pair: (DType::F16, DType::F16),
    },
    Target {
        entry: "zlpr_two_pass_f32_f32",
        module: "two_pass",
        capability: (8, 0),
        regime: Some(Regime::TwoPass),
        pair: (DType::F32, DType::F32),
    },
    Target { entry: "zlpr_total", module: "total", capability: (8, 0), regime: None, pair: (DType::F32, DType::F32) },
];

impl Target {
    /// Its PTX.
    fn text(&self) -> Result<Text> {
        let arch = self.capability.0 * 10 + self.capability.1;
        let path = crate::kernels_folder().join("prebuilt").join(crate::sources::ptx_file_name(self.module, arch));
        let module = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Text::extract(&module, self.entry, &Lines::read(&crate::kernels_folder())?)
    }
}

/// One changed instruction.
pub struct Mutant {
    entry: &'static str,
    kind: Kind,
    /// Index of the line that changes.
    line: usize,
    /// Line in the prebuilt file.
    file_line: usize,
    /// Source line by `.loc`.
    source: String,
    /// Which of the instructions that are the same there.
    copy: usize,
    /// The instruction before, without numbers.
    original: String,
    /// What was done.
    what: String,
    /// The new line.
    text: String,
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Mutant { entry, file_line, source, copy, original, what, text, .. } = self;
        // As the list has it; the comment is for the eye.
        write!(f, "{{ kernel = {entry:?}, at = {source:?}, text = {original:?}, ")?;
        write!(f, "change = [{what:?}], copies = [{copy}] }},  # PTX line {file_line}: {text}")
    }
}

/// Every mutant of a kernel, in the order of its text.
fn mutants(target: &Target) -> Result<Vec<Mutant>> {
    let text = target.text()?;
    let all = text.instructions.iter().flat_map(|instruction| {
        changes(instruction).into_iter().map(|change| Mutant {
            entry: target.entry,
            kind: change.kind,
            line: instruction.line,
            file_line: instruction.file_line,
            source: instruction.source.clone(),
            copy: instruction.copy,
            original: without_numbers(&instruction.to_string()),
            what: change.what,
            text: change.text,
        })
    });
    Ok(all.collect())
}

/// `count` mutants of a kernel by their index: of each class in turn, so that the rare ones are all in it.
fn choose(mutants: &[Mutant], count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut classes: BTreeMap<Kind, Vec<usize>> = BTreeMap::new();
    for (i, mutant) in mutants.iter().enumerate() {
        classes.entry(mutant.kind).or_default().push(i);
    }
    classes.values_mut().for_each(|class| class.shuffle(rng));
    let mut chosen = Vec::new();
    while chosen.len() < count && classes.values().any(|class| !class.is_empty()) {
        chosen.extend(classes.values_mut().filter_map(Vec::pop));
    }
    chosen.truncate(count);
    chosen
}

/// A mutant to run, by the indices of its kernel and itself.
type Job = (usize, usize);

/// Runs the command.
///
/// # Errors
/// A kernel fails its kill set as it is, a survivor is not explained, or too many survive.
pub fn run(options: &Options) -> Result<()> {
    let list = List::read()?;
    let mut universe = Vec::new();
    let mut jobs: Vec<Job> = Vec::new();
    let mut room = options.limit as usize;
    for (index, target) in TARGETS.iter().enumerate().rev() {
        let all = mutants(target)?;
        let share = room / (index + 1);
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ ((index as u64) << 32));
        let chosen = choose(&all, share, &mut rng);
        room -= chosen.len();
        if options.kernel.as_ref().is_none_or(|name| target.entry.contains(name.as_str())) {
            jobs.extend(chosen.into_iter().map(|mutant| (index, mutant)));
        }
        universe.push(all);
    }
    universe.reverse();
    ensure!(!jobs.is_empty(), "no kernel has that in its name");
    jobs.shuffle(&mut ChaCha8Rng::seed_from_u64(options.seed));
    jobs.truncate(options.sample.unwrap_or(usize::MAX));

    if options.list {
        jobs.iter().for_each(|&(target, mutant)| println!("{}", universe[target][mutant]));
        return Ok(());
    }

    verify_originals(&jobs)?;
    let begin = Instant::now();
    let verdicts = run_all(&universe, &list, jobs, options.jobs.max(1))?;
    println!("{} mutants in {:.0} s", verdicts.len(), begin.elapsed().as_secs_f64());
    if let Some(path) = &options.out {
        let mut text = String::new();
        for (&(target, mutant), verdict) in &verdicts {
            let mutant = &universe[target][mutant];
            writeln!(text, "{:?} {mutant}\n    {verdict:?}", mutant.kind)?;
            if let (Verdict::Survived, Some((_, reason))) = (verdict, list.explains(mutant)) {
                writeln!(text, "    {:?}: {}", reason.class, reason.why)?;
            }
            text.push('\n');
        }
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    report(&universe, &verdicts, &list, options)
}

/// Each kernel as it is must pass its kill set, or a death would mean nothing.
fn verify_originals(jobs: &[Job]) -> Result<()> {
    for (index, target) in TARGETS.iter().enumerate().filter(|(i, _)| jobs.iter().any(|job| job.0 == *i)) {
        let begin = Instant::now();
        // The reference's results are computed meanwhile.
        let verdict = Worker::start()?.judge(index, None)?;
        ensure!(verdict == Verdict::Survived, "{} fails its kill set unchanged: {verdict:?}", target.entry);
        println!("{} passes its kill set unchanged ({:.1} s)", target.entry, begin.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Runs the mutants, and prints each unexplained survivor as it turns up.
fn run_all(universe: &[Vec<Mutant>], list: &List, jobs: Vec<Job>, processes: usize) -> Result<BTreeMap<Job, Verdict>> {
    let queue = Mutex::new(jobs);
    let verdicts = Mutex::new(BTreeMap::new());
    let work = || -> Result<()> {
        let mut worker = Worker::start()?;
        loop {
            let next = queue.lock().map_err(|_| anyhow::anyhow!("another thread panicked"))?.pop();
            let Some(job) = next else { return Ok(()) };
            let verdict = worker.judge(job.0, Some(job.1))?;
            let mutant = &universe[job.0][job.1];
            if verdict == Verdict::Survived && list.explains(mutant).is_none() {
                println!("survived, not explained:\n    {mutant}");
            }
            verdicts.lock().map_err(|_| anyhow::anyhow!("another thread panicked"))?.insert(job, verdict);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..processes).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    verdicts.into_inner().map_err(|_| anyhow::anyhow!("a thread panicked"))
}

fn report(universe: &[Vec<Mutant>], verdicts: &BTreeMap<Job, Verdict>, list: &List, options: &Options) -> Result<()> {
    let (mut killed, mut valid, mut coarse, mut unexplained) = (0usize, 0usize, 0usize, 0usize);
    let (mut explained, mut used) = (BTreeMap::<Class, usize>::new(), Vec::new());
    let mut by_kind: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
    let mut by_kernel: HashMap<&str, (usize, usize)> = HashMap::new();
    for (&(target, mutant), verdict) in verdicts {
        let mutant = &universe[target][mutant];
        if matches!(verdict, Verdict::Invalid(_)) {
            continue;
        }
        valid += 1;
        let dead = matches!(verdict, Verdict::Killed(_));
        for (all, dead_ones) in [by_kind.entry(mutant.kind).or_default(), by_kernel.entry(mutant.entry).or_default()] {
            *all += 1;
            *dead_ones += usize::from(dead);
        }
        killed += usize::from(dead);
        match (dead, list.explains(mutant)) {
            (true, Some(_)) => {
                println!("killed, though it is listed as a survivor:\n    {mutant}");
                coarse += 1;
            }
            (true, None) => {}
            (false, Some((index, reason))) => {
                *explained.entry(reason.class).or_default() += 1;
                used.push(index);
            }
            (false, None) => unexplained += 1,
        }
    }
    for (kind, (all, dead)) in &by_kind {
        println!("  {kind:?}: {dead} of {all} killed");
    }
    for target in &TARGETS {
        if let Some((all, dead)) = by_kernel.get(target.entry) {
            println!("  {}: {dead} of {all} killed", target.entry);
        }
    }
    let whole = options.sample.is_none() && options.kernel.is_none();
    if whole {
        list.unused(&used).for_each(|entry| println!("no longer survives: {entry:?}"));
    }
    let of = |class| explained.get(&class).copied().unwrap_or(0);
    let equivalent = of(Class::Equivalent);
    let score = killed as f64 / (valid - equivalent).max(1) as f64;
    println!(
        "killed {killed} of {valid} valid mutants ({} not loaded); of the others {equivalent} are equivalent, {} within \
         tolerance, {} out of reach: score killed / (valid - equivalent) = {:.2} %",
        verdicts.len() - valid,
        of(Class::Tolerance),
        of(Class::OutOfReach),
        100.0 * score
    );
    ensure!(unexplained == 0, "{unexplained} survivors are not explained in xtask/mutants/survivors.toml");
    ensure!(coarse == 0, "{coarse} mutants are killed that xtask/mutants/survivors.toml has as survivors");
    ensure!(!whole || score >= PASS, "the score is below {:.0} %", 100.0 * PASS);
    Ok(())
}
