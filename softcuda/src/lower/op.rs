//! The operations that the engine executes.
//!
//! Operands are registers by number: virtual ones while a kernel is lowered, slots of the register
//! file after allocation. Immediates and special registers are registers too,
//! filled once per warp. Few shapes, many functions: what allocation and definedness need to know
//! is the shape, what a lane computes is the function.

use crate::counters::OpClass;
use crate::ptx::{Space, Type};

pub use super::functions::{
    Bin32, Bin64, CarryOp, Combine, Compare, CompareType, Count64, DP2A_FIRST, DP2A_HIGH, DP2A_SECOND, HalfOp,
    HalfType, PACK_SIGNED, Shift64, Test, Tri32, Tri64, Un32, Un64, Wide,
};

pub use super::operands::{
    Access, Atom, AtomOp, Bar, BarKind, BulkCopy, Clock, CpAsync, Mbarrier, MbarrierOp, NONE, Order, ReduxOp, Reg,
    Scope, Shfl, ShflMode, StoreAsync, VoteMode,
};

/// A predicate operand: the predicate's number, twice, plus one if it is negated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredRef(pub u32);

impl PredRef {
    /// Predicate 0 is always true.
    pub const TRUE: PredRef = PredRef(0);

    /// A predicate, possibly negated.
    pub fn new(index: u32, negated: bool) -> PredRef {
        PredRef(index * 2 + u32::from(negated))
    }

    /// The predicate's number.
    #[inline(always)]
    pub fn index(self) -> usize {
        (self.0 >> 1) as usize
    }

    /// All ones if it is negated.
    #[inline(always)]
    pub fn flip(self) -> u32 {
        (self.0 & 1).wrapping_neg()
    }
}

/// Rounding of floating-point results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Round {
    /// To nearest, ties to even.
    Nearest,
    /// Towards zero.
    Zero,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// To nearest, ties away from zero.
    NearestAway,
}

/// Modifiers of floating-point arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Mode(pub u8);

impl Mode {
    /// No modifier.
    pub const PLAIN: Mode = Mode(0);
    /// `.ftz`: subnormal inputs and results are zero.
    pub const FTZ: Mode = Mode(1);
    /// `.sat`: the result is clamped to [0, 1].
    pub const SAT: Mode = Mode(2);
    /// `.NaN`: minimum and maximum pass NaN on.
    pub const NAN: Mode = Mode(4);
    /// `.relu`: negative results become 0.
    pub const RELU: Mode = Mode(8);
    /// `.xorsign.abs`: minimum and maximum of magnitudes, with the product's sign.
    pub const XORSIGN: Mode = Mode(16);
    /// `.satfinite` of a conversion, which has no `.xorsign`: what is too large becomes the largest
    /// finite number.
    pub const SATFINITE: Mode = Mode::XORSIGN;
    /// `.abs` of a minimum or maximum of three: that of magnitudes. They are not clamped.
    pub const ABS: Mode = Mode::SAT;

    /// Both.
    #[must_use]
    pub fn with(self, other: Mode) -> Mode {
        Mode(self.0 | other.0)
    }

    /// With a rounding other than to nearest.
    #[must_use]
    pub fn rounded(self, round: Round) -> Mode {
        Mode(self.0 | (round as u8) << 5)
    }

    /// Whether a modifier is there.
    #[inline(always)]
    pub fn has(self, flag: Mode) -> bool {
        self.0 & flag.0 != 0
    }

    /// The rounding.
    #[inline(always)]
    pub fn round(self) -> Round {
        match self.0 >> 5 {
            0 => Round::Nearest,
            1 => Round::Zero,
            2 => Round::Down,
            3 => Round::Up,
            _ => Round::NearestAway,
        }
    }
}

/// A conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CvtSpec {
    /// Type of the source.
    pub from: Type,
    /// Type of the result.
    pub to: Type,
    /// Rounding of a floating-point result.
    pub round: Round,
    /// Rounding to an integral value: `.rni` and so on.
    pub integral: bool,
    /// Modifiers.
    pub mode: Mode,
    /// Bits of the destination register when it is wider than the type: integers fill it.
    pub wide_to: u8,
}

/// An operation.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "d is the result; a, b, c, e are sources; the types say the rest")]
pub enum Op {
    Un32 {
        f: Un32,
        m: Mode,
        d: Reg,
        a: Reg,
    },
    Bin32 {
        f: Bin32,
        m: Mode,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Tri32 {
        f: Tri32,
        m: Mode,
        lut: u8,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Bfi32 {
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
        e: Reg,
    },
    Un64 {
        f: Un64,
        m: Mode,
        d: Reg,
        a: Reg,
    },
    Bin64 {
        f: Bin64,
        m: Mode,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Tri64 {
        f: Tri64,
        m: Mode,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Shift64 {
        f: Shift64,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Wide {
        f: Wide,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Count64 {
        f: Count64,
        d: Reg,
        a: Reg,
    },
    Bfe64 {
        signed: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Bfi64 {
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
        e: Reg,
    },
    Carry {
        f: CarryOp,
        wide: bool,
        reads: bool,
        writes: bool,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    Half {
        f: HalfOp,
        t: HalfType,
        m: Mode,
        d: Reg,
        a: Reg,
        b: Reg,
        c: Reg,
    },
    /// `p` and `q` are predicate numbers or [`NONE`].
    Cmp {
        ty: CompareType,
        f: Compare,
        k: Combine,
        c: PredRef,
        p: u32,
        q: u32,
        a: Reg,
        b: Reg,
    },
    CmpPair {
        t: HalfType,
        f: Compare,
        k: Combine,
        c: PredRef,
        m: Mode,
        p: u32,
        q: u32,
        a: Reg,
        b: Reg,
    },
    Test {
        f: Test,
        wide: bool,
        p: u32,
        a: Reg,
    },
    Selp32 {
        d: Reg,
        a: Reg,
        b: Reg,
        p: PredRef,
    },
    Selp64 {
        d: Reg,
        a: Reg,
        b: Reg,
        p: PredRef,
    },
    PredBin {
        k: Combine,
        d: u32,
        a: PredRef,
        b: PredRef,
    },
    Cvt {
        spec: CvtSpec,
        d: Reg,
        a: Reg,
    },
    /// `a` becomes the upper half.
    CvtPack {
        spec: CvtSpec,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Pack64 {
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Unpack64 {
        d: Reg,
        e: Reg,
        a: Reg,
    },
    Pack32 {
        d: Reg,
        a: Reg,
        b: Reg,
    },
    Unpack32 {
        d: Reg,
        e: Reg,
        a: Reg,
    },
    /// Four 16-bit parts of a 64-bit register, or four bytes of a 32-bit one.
    PackFour {
        wide: bool,
        d: Reg,
        parts: Box<[Reg; 4]>,
    },
    UnpackFour {
        wide: bool,
        a: Reg,
        parts: Box<[Reg; 4]>,
    },
    /// The address of what is at `a`, in the block of rank `b`.
    MapRank {
        generic: bool,
        wide: bool,
        d: Reg,
        a: Reg,
        b: Reg,
    },
    RankOf {
        generic: bool,
        wide: bool,
        d: Reg,
        a: Reg,
    },
    ClusterArrive {
        aligned: bool,
        relaxed: bool,
    },
    ClusterWait {
        aligned: bool,
    },
    IsSpace {
        space: Space,
        p: u32,
        a: Reg,
    },
    Clock {
        f: Clock,
        d: Reg,
    },
    Load(Box<Access>),
    Store(Box<Access>),
    Atom(Box<Atom>),
    CpAsync(Box<CpAsync>),
    CpCommit,
    /// Waits until at most this many groups are pending.
    CpWait(u32),
    CpWaitAll,
    Mbarrier(Box<Mbarrier>),
    BulkCopy(Box<BulkCopy>),
    BulkCommit,
    /// Waits until at most this many groups are pending, or have not read their sources.
    BulkWait {
        pending: u32,
        reads: bool,
    },
    StoreAsync(Box<StoreAsync>),
    Bra {
        to: u32,
    },
    Brx {
        index: Reg,
        targets: Box<[u32]>,
    },
    Exit,
    Trap,
    Assert {
        message: Reg,
        file: Reg,
        line: Reg,
        function: Reg,
    },
    /// An approximate operation, perturbed. Only copies that a launch makes of its kernel have it.
    Approximate(Box<Op>),
    /// `vprintf`: the addresses of its format and arguments, and its result or [`NONE`].
    Print {
        format: Reg,
        arguments: Reg,
        d: Reg,
    },
    /// A call through a pointer found no function.
    NoFunction {
        a: Reg,
    },
    Bar(Box<Bar>),
    WarpSync {
        members: Reg,
    },
    Shfl(Box<Shfl>),
    /// `d` is a register for a ballot, a predicate otherwise.
    Vote {
        f: VoteMode,
        d: Reg,
        a: PredRef,
        members: Reg,
    },
    /// `p` is a predicate number or [`NONE`], and only for `all`.
    Match {
        all: bool,
        wide: bool,
        d: Reg,
        p: u32,
        a: Reg,
        members: Reg,
    },
    Redux {
        f: ReduxOp,
        d: Reg,
        a: Reg,
        members: Reg,
    },
    Elect {
        d: Reg,
        p: u32,
        members: Reg,
    },
    ActiveMask {
        d: Reg,
    },
    Fence {
        scope: Scope,
    },
    /// `fence.proxy.async` for shared memory.
    FenceProxy,
    /// A hint to let others go first.
    Pause,
    Nop,
}

impl Op {
    /// The number of its access to memory; that of the source where it has two.
    pub fn site(&self) -> Option<u32> {
        match self {
            Op::Load(access) | Op::Store(access) => Some(access.site),
            Op::Atom(atom) => Some(atom.at.site),
            Op::CpAsync(copy) => Some(copy.from.site),
            Op::BulkCopy(copy) => Some(copy.from.site),
            Op::StoreAsync(store) => Some(store.to.site),
            Op::Mbarrier(mbarrier) => Some(mbarrier.at.site),
            _ => None,
        }
    }
}

/// An operation with its guard and class.
#[derive(Clone, Debug)]
pub struct Inst {
    /// Lanes whose guard is false do nothing.
    pub guard: PredRef,
    /// How it is counted; `None` for what an instruction needs beside its main operation.
    pub class: Option<OpClass>,
    /// What it does.
    pub op: Op,
}
