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
    /// An asynchronous copy was used before it was waited for.
    MissingWait,
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
            FaultKind::BarrierDivergence => "barrier divergence",
            FaultKind::BadSyncMask => "bad member mask",
            FaultKind::Deadlock => "deadlock",
            FaultKind::Trap => "trap",
            FaultKind::Assertion => "failed assertion",
            FaultKind::InvalidCall => "call of what is no function",
            FaultKind::ReadOnlyViolation => "read-only load of memory written in the same launch",
            FaultKind::WriteToReadOnly => "write to read-only memory",
            FaultKind::MissingWait => "missing wait for an asynchronous copy",
            FaultKind::Unsupported => "unsupported operation",
            FaultKind::BadLaunch => "impossible launch",
        }
    }
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
    /// Line of the PTX text, from 1; 0 where there is none.
    pub ptx_line: u32,
    /// That line's text.
    pub ptx_text: String,
    /// File and line of the source, where the PTX carries `.loc` directives.
    pub source: Option<(String, u32)>,
    /// What exactly happened.
    pub detail: String,
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
            ptx_line: 0,
            ptx_text: String::new(),
            source: None,
            detail,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.text(), self.detail)?;
        if self.kernel.is_empty() {
            return Ok(());
        }
        let [bx, by, bz] = self.block;
        let [tx, ty, tz] = self.thread;
        write!(out, "\n    by thread ({tx},{ty},{tz}) in block ({bx},{by},{bz})")?;
        write!(out, " of kernel {}", self.kernel)?;
        if self.ptx_line != 0 {
            write!(out, "\n    at PTX line {}: {}", self.ptx_line, self.ptx_text)?;
        }
        if let Some((file, line)) = &self.source {
            write!(out, "\n    at {file}:{line}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
