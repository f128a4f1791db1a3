//! The syntax tree of a module. Names borrow from the text.

use std::collections::HashMap;

use super::Type;

/// A module.
#[derive(Debug, Default)]
pub struct Tree<'a> {
    /// `.version`.
    pub version: (u32, u32),
    /// `.target`.
    pub target: Target,
    /// Variables of the module: `.global`, `.const` and `.shared`.
    pub variables: Vec<Variable<'a>>,
    /// Kernels and functions, declarations included.
    pub functions: Vec<Function<'a>>,
    /// `.file`: names by index.
    pub files: HashMap<u32, String>,
}

/// The architecture a module was compiled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// 90 for `sm_90a`.
    pub sm: u32,
    /// Whether an `a` or `f` follows: code for this architecture or family only.
    pub specific: bool,
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Space {
    Register,
    Param,
    Global,
    Const,
    Shared,
    /// `.shared::cluster`: the shared memory of all blocks of a cluster.
    Cluster,
    Local,
}

/// How other modules see a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are PTX's own")]
pub enum Linkage {
    Private,
    Visible,
    Extern,
    Weak,
    Common,
}

/// A declared variable, register or parameter.
#[derive(Clone, Debug)]
pub struct Variable<'a> {
    /// Where it lives.
    pub space: Space,
    /// Who sees it.
    pub linkage: Linkage,
    /// `.align`, or the natural alignment.
    pub align: u32,
    /// Type of an element.
    pub ty: Type,
    /// Its name; a prefix where `range` is given.
    pub name: &'a str,
    /// `name<N>` declares `name0` to `name{N-1}`.
    pub range: Option<u32>,
    /// Number of elements, all dimensions and the vector width multiplied; 0 for `[]`.
    pub count: u64,
    /// Initial values of the first elements.
    pub init: Vec<Init<'a>>,
    /// Line of the declaration.
    pub line: u32,
}

impl Variable<'_> {
    /// Size in bytes; `None` beyond 64 bits.
    pub fn bytes(&self) -> Option<u64> {
        self.count.checked_mul(u64::from(self.ty.bytes()))
    }
}

/// One initial value.
#[derive(Clone, Debug)]
pub enum Init<'a> {
    /// A number, as bits of the element's type.
    Bits(u64),
    /// The address of a variable or function.
    Address {
        /// Its name.
        name: &'a str,
        /// What to add to it.
        addend: i64,
        /// Whether the generic address is meant, not the one in its own space.
        generic: bool,
        /// Which bits of it, for `mask()` operators.
        mask: u64,
    },
}

/// A kernel or function.
#[derive(Debug)]
pub struct Function<'a> {
    /// A kernel.
    pub entry: bool,
    /// Its name.
    pub name: &'a str,
    /// Who sees it.
    pub linkage: Linkage,
    /// Return parameters.
    pub returns: Vec<Variable<'a>>,
    /// Parameters.
    pub params: Vec<Variable<'a>>,
    /// Statements; `None` for a declaration.
    pub body: Option<Vec<Statement<'a>>>,
    /// `.maxntid`.
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`.
    pub required_threads: Option<[u32; 3]>,
    /// `.minnctapersm`.
    pub min_blocks: u32,
    /// `.reqnctapercluster`.
    pub cluster: Option<[u32; 3]>,
    /// Line of the declaration.
    pub line: u32,
}

/// A statement of a function's body.
#[derive(Debug)]
pub enum Statement<'a> {
    /// `{`: names declared from here on are gone at the matching `}`.
    Open,
    /// `}`.
    Close,
    /// A label.
    Label(&'a str, u32),
    /// A declaration.
    Variable(Variable<'a>),
    /// `.loc`: file index and line of what follows.
    Location(u32, u32),
    /// `.branchtargets`: a label for a list of labels.
    Targets(&'a str, Vec<&'a str>, u32),
    /// An instruction.
    Instruction(Instruction<'a>),
}

/// An instruction.
#[derive(Debug)]
pub struct Instruction<'a> {
    /// The guard predicate, and whether it is negated.
    pub guard: Option<(&'a str, bool)>,
    /// The opcode with its modifiers.
    pub opcode: &'a str,
    /// The operands.
    pub operands: Vec<Operand<'a>>,
    /// Its line.
    pub line: u32,
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    /// A register, variable, label, special register, or `_`.
    Name(&'a str),
    /// `!p`.
    Not(&'a str),
    /// An integer.
    Int(i64),
    /// `0f...`, or a decimal number in f32 context.
    F32(u32),
    /// `0d...`, or a decimal number.
    F64(u64),
    /// `name+4`.
    Offset(&'a str, i64),
    /// `{a, b}`.
    Vector(Vec<Operand<'a>>),
    /// `[a+4]`.
    Address(Box<Operand<'a>>, i64),
    /// `p|q`.
    Pair(&'a str, &'a str),
    /// `(a, b)` of a call.
    List(Vec<Operand<'a>>),
}
