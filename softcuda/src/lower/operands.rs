//! What operations on memory and between threads say besides their registers.

use crate::ptx::{Space, Type};

use super::op::{Mode, PredRef};

/// A register: its number, or [`NONE`].
pub type Reg = u32;

/// No register.
pub const NONE: Reg = u32::MAX;

/// Threads among which an ordering holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named after the scopes; the system is one device here")]
pub enum Scope {
    Block,
    Cluster,
    Device,
}

/// What a strong access or a fence orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What comes after sees what the other thread released.
    pub acquire: bool,
    /// What came before is seen by whoever acquires.
    pub release: bool,
    /// Among whom.
    pub scope: Scope,
}

impl Order {
    /// No order: that of weak and relaxed accesses.
    pub const RELAXED: Order = Order { acquire: false, release: false, scope: Scope::Device };
}

/// An access to memory.
#[derive(Clone, Debug)]
pub struct Access {
    /// Which memory; `None` for a generic address.
    pub space: Option<Space>,
    /// Register of the address, or [`NONE`].
    pub base: Reg,
    /// Whether that register has 64 bits.
    pub base_wide: bool,
    /// What to add to it.
    pub offset: i64,
    /// Bytes of one element.
    pub size: u8,
    /// Elements of the vector.
    pub count: u8,
    /// Registers of the elements; [`NONE`] ignores one.
    pub regs: [Reg; 8],
    /// Whether element registers have 64 bits.
    pub wide: bool,
    /// Bits to which loaded values are sign-extended, 0 for none.
    pub extend: u8,
    /// A load through the read-only path.
    pub read_only: bool,
    /// A strong or volatile access: what a thread polls with.
    pub strong: bool,
    /// What it orders, if it is strong.
    pub order: Order,
    /// Number of the instruction among those that access memory.
    pub site: u32,
}

/// What an atomic operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum AtomOp {
    Add,
    Min,
    Max,
    And,
    Or,
    Xor,
    Exch,
    Cas,
    Inc,
    Dec,
}

/// An atomic operation; `at.regs[0]` and `[1]` are its operands.
#[derive(Clone, Debug)]
pub struct Atom {
    /// Where; `count` is 1.
    pub at: Access,
    /// What.
    pub op: AtomOp,
    /// On what type.
    pub ty: Type,
    /// Register of the old value, or [`NONE`].
    pub d: Reg,
    /// Bytes that the address must be a multiple of: for the first element of a vector all of it.
    pub align: u8,
}

/// The kinds of shuffle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum ShflMode {
    Up,
    Down,
    Bfly,
    Idx,
}

/// `shfl.sync`.
#[derive(Clone, Debug)]
pub struct Shfl {
    /// Which.
    pub mode: ShflMode,
    /// Result.
    pub d: Reg,
    /// Predicate for "the source lane was in range", or [`NONE`].
    pub p: u32,
    /// Value.
    pub a: Reg,
    /// Lane or distance.
    pub b: Reg,
    /// Clamp and segment mask.
    pub c: Reg,
    /// Member mask.
    pub members: Reg,
}

/// The kinds of vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum VoteMode {
    All,
    Any,
    Uni,
    Ballot,
}

/// Reductions over a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum ReduxOp {
    Add,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    FMin(Mode),
    FMax(Mode),
}

/// What a barrier does besides waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum BarKind {
    Sync,
    Arrive,
    /// Counts the threads whose predicate is true.
    RedPopc,
    RedAnd,
    RedOr,
}

/// A barrier of the block.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What it does.
    pub kind: BarKind,
    /// Whether whole warps execute it.
    pub aligned: bool,
    /// Register of its number.
    pub id: Reg,
    /// Register of the thread count, or [`NONE`] for the whole block.
    pub count: Reg,
    /// Source of a reduction.
    pub source: PredRef,
    /// Result register of `.popc`, or predicate of the others.
    pub d: Reg,
}

/// `cp.async`.
#[derive(Clone, Debug)]
pub struct CpAsync {
    /// Destination in shared memory.
    pub to: Access,
    /// Source in global memory.
    pub from: Access,
    /// Register of the number of bytes to read, the rest is zero; [`NONE`] for all.
    pub bytes: Reg,
    /// `ignore-src`: reads nothing if true.
    pub ignore: PredRef,
}

/// What is done to an `mbarrier` object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MbarrierOp {
    /// Makes one.
    Init,
    /// Ends one.
    Invalidate,
    /// Arrives.
    Arrive {
        /// Later phases need as many fewer arrivals.
        drops: bool,
        /// The arrival may be the last one.
        completes: bool,
        /// `a` is a number of bytes to expect, not of arrivals.
        expects: bool,
    },
    /// Expects bytes.
    ExpectTx,
    /// Says that bytes came.
    CompleteTx,
    /// Asks whether a phase is complete.
    Wait {
        /// Phases are named by their parity, not by a state.
        parity: bool,
    },
    /// Arrives when the thread's `cp.async` copies so far are complete.
    CopiesArrive {
        /// The arrival is among those that the phase needs anyway.
        counted: bool,
    },
}

/// An operation on an `mbarrier` object.
#[derive(Clone, Debug)]
pub struct Mbarrier {
    /// What it does.
    pub f: MbarrierOp,
    /// Where the object is.
    pub at: Access,
    /// It orders nothing.
    pub relaxed: bool,
    /// Register of a count, a number of bytes, a state or a parity, or [`NONE`].
    pub a: Reg,
    /// Register of the state, or [`NONE`].
    pub d: Reg,
    /// Predicate of a wait, or [`NONE`].
    pub p: u32,
}

/// `cp.async.bulk` and `cp.reduce.async.bulk`.
#[derive(Clone, Debug)]
pub struct BulkCopy {
    /// Destination.
    pub to: Access,
    /// Source.
    pub from: Access,
    /// Register of the number of bytes.
    pub size: Reg,
    /// Object that learns of its completion; else it belongs to a group.
    pub mbarrier: Option<Access>,
    /// Register of the ranks of the blocks that get it, or [`NONE`].
    pub mask: Reg,
    /// How elements are added to what is there.
    pub reduce: Option<Atom>,
}

/// `st.async` and `red.async`.
#[derive(Clone, Debug)]
pub struct StoreAsync {
    /// What goes where.
    pub to: Access,
    /// Object that learns of its completion.
    pub mbarrier: Access,
    /// How it is added to what is there.
    pub reduce: Option<Atom>,
}

/// What a clock reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the special registers")]
pub enum Clock {
    Low,
    High,
    Whole,
    Timer,
}
