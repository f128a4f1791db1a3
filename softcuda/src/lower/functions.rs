//! What lanes compute: the functions of each shape of operation.

/// Functions of one 32-bit value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions; 16 marks those on half registers")]
pub enum Un32 {
    Mov,
    Not,
    Not16,
    Cnot,
    Cnot16,
    Neg,
    Neg16,
    Abs,
    Abs16,
    Popc,
    Clz,
    Brev,
    BfindU,
    BfindS,
    BfindShiftU,
    BfindShiftS,
    FNeg,
    FAbs,
    FRcp,
    FRcpApprox,
    FSqrt,
    FSqrtApprox,
    FRsqrtApprox,
    FEx2,
    FLg2,
    FSin,
    FCos,
    FTanh,
}

/// Functions of two 32-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions; 16 marks those on half registers")]
pub enum Bin32 {
    Add,
    Add16,
    Add16x2,
    AddSat,
    Sub,
    Sub16,
    SubSat,
    Mul,
    Mul16,
    MulHiS,
    MulHiU,
    MulHiS16,
    MulHiU16,
    MulWideS16,
    MulWideU16,
    Mul24S,
    Mul24U,
    Mul24HiS,
    Mul24HiU,
    DivS,
    DivU,
    DivS16,
    RemS,
    RemU,
    RemS16,
    MinS,
    MinU,
    MinS16,
    MinS16x2,
    MinU16x2,
    MaxS,
    MaxU,
    MaxS16,
    MaxS16x2,
    MaxU16x2,
    And,
    Or,
    Xor,
    Shl,
    Shl16,
    ShrS,
    ShrU,
    ShrS16,
    Bmsk,
    BmskWrap,
    SzextS,
    SzextU,
    SzextWrapS,
    SzextWrapU,
    FAdd,
    FSub,
    FMul,
    FDiv,
    FDivApprox,
    FDivFull,
    FMin,
    FMax,
    CopySign,
}

/// Functions of three 32-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions; 16 marks those on half registers")]
pub enum Tri32 {
    Mad,
    Mad16,
    MadHiS,
    MadHiU,
    MadHiSatS,
    Mad24S,
    Mad24U,
    Mad24HiS,
    Mad24HiU,
    MadWideS16,
    MadWideU16,
    SadS,
    SadU,
    SadS16,
    SadU16,
    Lop3,
    Prmt,
    PrmtF4e,
    PrmtB4e,
    PrmtRc8,
    PrmtEcl,
    PrmtEcr,
    PrmtRc16,
    BfeS,
    BfeU,
    ShfL,
    ShfLWrap,
    ShfR,
    ShfRWrap,
    /// Sums of the distances of bytes, added to the third operand.
    SadBytes,
    /// Distances of bytes.
    DistanceBytes,
    /// The same of halves.
    SadHalves,
    DistanceHalves,
    Dp4aSS,
    Dp4aSU,
    Dp4aUS,
    Dp4aUU,
    /// The table says which halves, and which operands are signed: [`DP2A_HIGH`] and the like.
    Dp2a,
    /// Finds the n-th set bit.
    Fns,
    /// `cvt.pack`: the table says how many bits, plus [`PACK_SIGNED`].
    CvtPack,
    FFma,
    FMin3,
    FMax3,
}

/// `dp2a.hi`: the upper two bytes of the second operand.
pub const DP2A_HIGH: u8 = 1;
/// `dp2a`: the first operand is signed.
pub const DP2A_FIRST: u8 = 2;
/// `dp2a`: the second operand is signed.
pub const DP2A_SECOND: u8 = 4;
/// `cvt.pack` to a signed type.
pub const PACK_SIGNED: u8 = 128;

/// Functions of one 64-bit value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum Un64 {
    Mov,
    Not,
    Cnot,
    Neg,
    Abs,
    Brev,
    DNeg,
    DAbs,
    DRcp,
    DRcpApprox,
    DSqrt,
    DRsqrtApprox,
}

/// Functions of two 64-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions; X2 marks pairs of f32")]
pub enum Bin64 {
    Add,
    Sub,
    Mul,
    MulHiS,
    MulHiU,
    DivS,
    DivU,
    RemS,
    RemU,
    MinS,
    MinU,
    MaxS,
    MaxU,
    And,
    Or,
    Xor,
    DAdd,
    DSub,
    DMul,
    DDiv,
    DMin,
    DMax,
    DCopySign,
    AddX2,
    SubX2,
    MulX2,
}

/// Functions of three 64-bit values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions; X2 marks pairs of f32")]
pub enum Tri64 {
    Mad,
    MadHiS,
    MadHiU,
    SadS,
    SadU,
    DFma,
    FmaX2,
}

/// Shifts of a 64-bit value by a 32-bit amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum Shift64 {
    Shl,
    ShrS,
    ShrU,
}

/// 64-bit results of 32-bit factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum Wide {
    MulS,
    MulU,
    MadS,
    MadU,
}

/// 32-bit results of a 64-bit value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum Count64 {
    Popc,
    Clz,
    BfindU,
    BfindS,
    BfindShiftU,
    BfindShiftS,
}

/// Arithmetic with a carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum CarryOp {
    Add,
    Sub,
    MadLo,
    MadHiS,
    MadHiU,
}

/// Arithmetic on 16-bit floating-point values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum HalfOp {
    Add,
    Sub,
    Mul,
    Fma,
    Min,
    Max,
    Neg,
    Abs,
    Ex2,
    Tanh,
}

/// The 16-bit floating-point formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the types")]
pub enum HalfType {
    F16,
    F16x2,
    Bf16,
    Bf16x2,
}

impl HalfType {
    /// Whether two values share a register.
    #[inline(always)]
    pub fn packed(self) -> bool {
        matches!(self, HalfType::F16x2 | HalfType::Bf16x2)
    }

    /// Whether it is a bf16 format.
    #[inline(always)]
    pub fn bf16(self) -> bool {
        matches!(self, HalfType::Bf16 | HalfType::Bf16x2)
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the types")]
pub enum CompareType {
    S16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F32Ftz,
    F64,
    F16,
    F16Ftz,
    Bf16,
}

/// Comparisons; a `U` in front accepts unordered operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    UEq,
    UNe,
    ULt,
    ULe,
    UGt,
    UGe,
    Num,
    Nan,
}

/// How a comparison combines with another predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum Combine {
    None,
    And,
    Or,
    Xor,
}

/// `testp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the instructions")]
pub enum Test {
    Finite,
    Infinite,
    Number,
    NotANumber,
    Normal,
    Subnormal,
}
