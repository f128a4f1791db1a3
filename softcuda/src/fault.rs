//! What went wrong on the device, and its text.

use std::fmt;

/// The kinds of error that a running kernel or a memory operation can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside every allocation, or beyond the end of the one it belongs to.
    OutOfBounds,
    /// An address that is not a multiple of the access size.
    Misaligned,
    /// A value that nothing ever wrote decides a branch, an address or what is stored.
    Uninitialised,
    /// An access to memory that was freed.
    UseAfterFree,
    /// An access to memory whose stream-ordered allocation has not been reached: the stream that
    /// allocates was not waited for.
    UseBeforeAllocation,
    /// A barrier that not all threads that take part in it can reach.
    BarrierDivergence,
    /// A `.sync` operation whose member mask does not fit the lanes that execute it.
    BadSyncMask,
    /// Threads wait for each other and none can go on.
    Deadlock,
    /// The kernel executed `trap`.
    Trap,
    /// A device-side `assert` failed.
    Assertion,
    /// A call through a pointer that is no function's, or one with other parameters.
    InvalidCall,
    /// A read through the read-only path of memory that this launch wrote.
    ReadOnlyViolation,
    /// A write to memory that cannot be written: constants or kernel parameters.
    WriteToReadOnly,
    /// Two threads touch the same byte, at least one writes, and nothing orders the two.
    Race,
    /// An asynchronous copy was used before it was waited for.
    MissingWait,
    /// An `mbarrier` object that is not there, or is used other than it can be.
    BadMbarrier,
    /// An asynchronous copy of what was written with no proxy fence since.
    MissingFence,
    /// An access to the shared memory of a block of the cluster that has exited, or need not have begun.
    PeerNotRunning,
    /// The program did what this engine does not do.
    Unsupported,
    /// The launch itself is impossible: too many threads, too much shared memory.
    BadLaunch,
}

impl FaultKind {
    /// A short description, the first words of a report.
    pub fn text(self) -> &'static str {
        match self {
            FaultKind::OutOfBounds => "out-of-bounds access",
            FaultKind::Misaligned => "misaligned access",
            FaultKind::Uninitialised => "use of uninitialised data",
            FaultKind::UseAfterFree => "use after free",
            FaultKind::UseBeforeAllocation => "use before allocation",
            FaultKind::BarrierDivergence => "barrier divergence",
            FaultKind::BadSyncMask => "bad member mask",
            FaultKind::Deadlock => "deadlock",
            FaultKind::Trap => "trap",
            FaultKind::Assertion => "failed assertion",
            FaultKind::InvalidCall => "call of what is no function",
            FaultKind::ReadOnlyViolation => "read-only load of memory written in the same launch",
            FaultKind::WriteToReadOnly => "write to read-only memory",
            FaultKind::Race => "race",
            FaultKind::MissingWait => "missing wait for an asynchronous copy",
            FaultKind::BadMbarrier => "misuse of an mbarrier",
            FaultKind::MissingFence => "missing fence before an asynchronous copy",
            FaultKind::PeerNotRunning => "shared memory of a block that need not be running",
            FaultKind::Unsupported => "unsupported operation",
            FaultKind::BadLaunch => "impossible launch",
        }
    }

    /// What is usually behind it, and what to do.
    pub fn hint(self) -> Option<&'static str> {
        Some(match self {
            FaultKind::OutOfBounds => {
                "compare the index with the length before the access: a launch may have more threads than elements"
            }
            FaultKind::Misaligned => {
                "an access of several bytes needs an address that is a multiple of its size; a slice that begins \
                 inside a buffer may have none"
            }
            FaultKind::Uninitialised => {
                "neither device memory, when it is allocated, nor shared memory, when a block begins, is zero: \
                 something must write it first"
            }
            FaultKind::UseAfterFree => {
                "the host freed it too early: keep the slice until the launch is known to be over"
            }
            FaultKind::UseBeforeAllocation => "let the stream wait, by an event, for the stream that allocates",
            FaultKind::BarrierDivergence => {
                "all threads must come to the same barrier: none in a branch that only some take, or after some returned"
            }
            FaultKind::BadSyncMask => "the mask must name exactly the lanes that come to this instruction",
            FaultKind::Deadlock => {
                "count the arrivals that are waited for: a thread may have left, or taken another branch"
            }
            FaultKind::ReadOnlyViolation => {
                "load it without __ldg and const __restrict__, or write it in an earlier launch"
            }
            FaultKind::Race => {
                "let the threads meet at a barrier between the two (__syncthreads, or __syncwarp within a warp); blocks \
                 need a release and an acquire, or atomic operations on both sides"
            }
            FaultKind::MissingWait => {
                "wait for the copy (cp.async.wait_group, or its mbarrier), then let the threads meet at a barrier"
            }
            FaultKind::BadMbarrier => {
                "mbarrier.init comes first, and only mbarrier operations touch the object until mbarrier.inval"
            }
            FaultKind::MissingFence => {
                "each thread that wrote executes fence.proxy.async, then they meet at a barrier, then one issues the copy"
            }
            FaultKind::PeerNotRunning => {
                "let the blocks meet at a barrier of the cluster before the first access and after the last one"
            }
            _ => return None,
        })
    }
}

/// An access to memory that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessInfo {
    /// Which memory, as CUDA calls it: `global`, `shared`, `local`, `constant`, `param`. `None` for
    /// what touches two.
    pub space: Option<&'static str>,
    /// What it does: `read`, `write`, `atomic operation`, `asynchronous copy`.
    pub action: &'static str,
    /// How many bytes each thread accesses.
    pub bytes: u32,
}

/// Where an operation is in the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line of the PTX text, from 1; 0 where there is none.
    pub ptx_line: u32,
    /// That line's text.
    pub ptx_text: String,
    /// File and line of the source, where the PTX carries `.loc` directives.
    pub source: Option<(String, u32)>,
}

/// An error of a kernel, with the place that made it.
///
/// For operations of the host on device memory `kernel` is empty and `ptx_line` is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of error.
    pub kind: FaultKind,
    /// Name of the kernel, empty for an operation of the host.
    pub kernel: String,
    /// Index of the block.
    pub block: [u32; 3],
    /// Index of the first thread of the block that made the error.
    pub thread: [u32; 3],
    /// The address in question, 0 where there is none.
    pub address: u64,
    /// The access that it was, if the error is about one.
    pub access: Option<AccessInfo>,
    /// Line of the PTX text, from 1; 0 where there is none.
    pub ptx_line: u32,
    /// That line's text.
    pub ptx_text: String,
    /// File and line of the source, where the PTX carries `.loc` directives.
    pub source: Option<(String, u32)>,
    /// What exactly happened.
    pub detail: String,
    /// For a race: where the earlier of the two accesses is.
    pub earlier: Option<Place>,
}

impl Fault {
    /// A fault of an operation of the host.
    pub(crate) fn of_host(kind: FaultKind, address: u64, detail: String) -> Fault {
        Fault {
            kind,
            kernel: String::new(),
            block: [0; 3],
            thread: [0; 3],
            address,
            access: None,
            ptx_line: 0,
            ptx_text: String::new(),
            source: None,
            detail,
            earlier: None,
        }
    }
}

impl Fault {
    /// The access, if it is what the error is about.
    fn invalid_access(&self) -> Option<AccessInfo> {
        let invalid = matches!(
            self.kind,
            FaultKind::OutOfBounds | FaultKind::Misaligned | FaultKind::UseAfterFree | FaultKind::WriteToReadOnly
        );
        self.access.filter(|_| invalid)
    }

    /// The first line of a report.
    fn headline(&self) -> String {
        if let Some(AccessInfo { space, action, bytes }) = self.invalid_access() {
            let space = space.map_or(String::new(), |space| format!("__{space}__ "));
            return format!("Invalid {space}{action} of size {bytes} bytes");
        }
        let text = self.kind.text();
        text[..1].to_uppercase() + &text[1..]
    }
}

/// What begins each line of a report, as compute-sanitizer has it.
pub(crate) const MARGIN: &str = "=========";

/// The report. An error of the host is one line.
impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kernel.is_empty() {
            return write!(out, "{}: {}", self.kind.text(), self.detail);
        }
        write!(out, "{MARGIN} {}", self.headline())?;
        if self.ptx_line != 0 {
            write!(out, "\n{MARGIN}     at PTX line {}: {}", self.ptx_line, self.ptx_text)?;
        }
        if let Some((file, line)) = &self.source {
            write!(out, "\n{MARGIN}     in {file}:{line}")?;
        }
        let kernel = &self.kernel;
        if self.kind == FaultKind::BadLaunch {
            write!(out, "\n{MARGIN}     at the launch of kernel {kernel}")?;
        } else {
            let ([bx, by, bz], [tx, ty, tz]) = (self.block, self.thread);
            write!(out, "\n{MARGIN}     by thread ({tx},{ty},{tz}) in block ({bx},{by},{bz}) of kernel {kernel}")?;
        }
        write!(out, "\n{MARGIN}     ")?;
        if self.invalid_access().is_some() {
            write!(out, "{}: ", self.kind.text())?;
        }
        write!(out, "{}", self.detail)?;
        if let Some(Place { ptx_line, ptx_text, source }) = &self.earlier {
            write!(out, "\n{MARGIN}     the earlier access is at PTX line {ptx_line}: {ptx_text}")?;
            if let Some((file, line)) = source {
                write!(out, "\n{MARGIN}     in {file}:{line}")?;
            }
        }
        if let Some(hint) = self.kind.hint() {
            write!(out, "\n{MARGIN}     hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
