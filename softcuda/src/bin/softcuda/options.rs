//! The command line.

use std::ffi::OsString;
use std::ops::Range;
use std::path::PathBuf;

use lexopt::prelude::*;
use softcuda::Config;

use crate::argument::Argument;

pub type Failure = Box<dyn std::error::Error>;

pub const HELP: &str = "\
Runs kernels of PTX files on the CPU, and checks every access.

softcuda info FILE.ptx
    Lists the kernels: parameters, shared memory, registers, bounds.

softcuda run FILE.ptx KERNEL [options] --arg ARG --arg ARG ...
    Runs a kernel and prints its output, and its counters or its error.
    The exit status is 1 if the kernel made an error, 2 if it could not be run.

    --grid X[,Y,Z]       blocks, by default 1
    --block X[,Y,Z]      threads of a block, by default 1
    --cluster X[,Y,Z]    blocks of a cluster
    --shared BYTES       dynamic shared memory
    --capability M.N     of the device, by default that of the PTX
    --seed N             of the order of warps and blocks; 0, the default, is the plain order
    --seeds N            runs with the seeds 0 to N - 1, until one makes an error
    --trace              follows the traffic: by buffer, through L2, bytes in flight
    --dump N:PATH        writes the buffer of argument N (from 0) to a file
    --json               prints JSON

    --arg, or -a, is one of
    TYPE:VALUE           a number: u8 i8 u16 i16 u32 i32 u64 i64 f16 bf16 f32 f64
    zeros:TYPE:COUNT     a buffer of zeros
    rand:TYPE:COUNT:SEED a buffer of random numbers, those with a fraction from -1 to 1
    file:PATH            a buffer with a file's bytes
    out:TYPE:COUNT       a buffer that nothing has written; it is printed at the end
";

pub enum Command {
    Help,
    Info(PathBuf),
    Run(Box<Run>),
}

/// What `softcuda run` is asked to do.
pub struct Run {
    pub file: PathBuf,
    pub kernel: String,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub shared: u32,
    pub capability: Option<(u32, u32)>,
    pub seeds: Range<u64>,
    pub trace: bool,
    pub json: bool,
    pub dumps: Vec<(usize, PathBuf)>,
    pub args: Vec<Argument>,
}

impl Run {
    pub fn config(&self, target: (u32, u32)) -> Config {
        let (major, minor) = self.capability.unwrap_or(target);
        Config { trace: self.trace, ..Config::capability(major, minor) }
    }
}

pub fn parse() -> Result<Command, Failure> {
    let mut words = lexopt::Parser::from_env();
    let command = match words.next()? {
        Some(Value(command)) => command.string()?,
        None | Some(Short('h') | Long("help")) => return Ok(Command::Help),
        Some(other) => return Err(other.unexpected().into()),
    };
    match command.as_str() {
        "help" => Ok(Command::Help),
        "info" => match words.next()? {
            Some(Value(file)) => Ok(Command::Info(file.into())),
            Some(Short('h') | Long("help")) => Ok(Command::Help),
            _ => Err("info takes a PTX file".into()),
        },
        "run" => parse_run(words),
        other => Err(format!("{other:?} is no command; see softcuda --help").into()),
    }
}

fn parse_run(mut words: lexopt::Parser) -> Result<Command, Failure> {
    let mut files = Vec::<OsString>::new();
    let mut run = Run {
        file: PathBuf::new(),
        kernel: String::new(),
        grid: [1; 3],
        block: [1; 3],
        cluster: [1; 3],
        shared: 0,
        capability: None,
        seeds: 0..1,
        trace: false,
        json: false,
        dumps: Vec::new(),
        args: Vec::new(),
    };
    while let Some(word) = words.next()? {
        match word {
            Long("grid") => run.grid = dimensions(&words.value()?.string()?)?,
            Long("block") => run.block = dimensions(&words.value()?.string()?)?,
            Long("cluster") => run.cluster = dimensions(&words.value()?.string()?)?,
            Long("shared") => run.shared = words.value()?.parse()?,
            Long("capability") => run.capability = Some(capability(&words.value()?.string()?)?),
            Long("seed") => {
                let seed: u64 = words.value()?.parse()?;
                run.seeds = seed..seed.checked_add(1).ok_or("the seed is too large")?;
            }
            Long("seeds") => run.seeds = 0..words.value()?.parse()?,
            Long("trace") => run.trace = true,
            Long("json") => run.json = true,
            Long("dump") => {
                let word = words.value()?.string()?;
                let (index, path) = word.split_once(':').ok_or("--dump takes N:PATH")?;
                run.dumps.push((index.parse()?, path.into()));
            }
            Short('a') | Long("arg") => run.args.push(words.value()?.string()?.parse()?),
            Short('h') | Long("help") => return Ok(Command::Help),
            Value(file) if files.len() < 2 => files.push(file),
            other => return Err(other.unexpected().into()),
        }
    }
    let [file, kernel] = <[OsString; 2]>::try_from(files).map_err(|_| "run takes a PTX file and a kernel's name")?;
    (run.file, run.kernel) = (file.into(), kernel.string()?);
    Ok(Command::Run(Box::new(run)))
}

/// `4`, `4,2` or `4,2,1`.
fn dimensions(text: &str) -> Result<[u32; 3], Failure> {
    let mut result = [1; 3];
    for (index, part) in text.split(',').enumerate() {
        let place = result.get_mut(index).ok_or_else(|| format!("{text}: there are three dimensions"))?;
        *place = part.trim().parse().map_err(|error| format!("{text}: {error}"))?;
    }
    Ok(result)
}

/// `9.0`.
fn capability(text: &str) -> Result<(u32, u32), Failure> {
    let (major, minor) = text.split_once('.').ok_or_else(|| format!("{text}: a capability is like 9.0"))?;
    Ok((major.parse()?, minor.parse()?))
}
