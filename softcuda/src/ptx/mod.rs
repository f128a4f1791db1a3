//! PTX text to a typed syntax tree.
//!
//! [`parse`] reads a whole module. It knows the grammar, not the instructions: an opcode is a
//! string here, and what it means is for [`lower`](crate::lower) to say.

mod lexer;
mod operands;
mod parser;
mod tree;
mod types;

pub use lexer::{Token, TokenKind, tokens};
pub use parser::{header, parse};
pub use tree::{Function, Init, Instruction, Linkage, Operand, Space, Statement, Target, Tree, Variable};
pub use types::Type;

/// PTX that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}: {what}")]
pub struct LoadError {
    /// Line of the PTX text, from 1; 0 where the text as a whole is meant.
    pub line: u32,
    /// What kind of error.
    pub kind: LoadErrorKind,
    /// What is wrong there.
    pub what: String,
}

/// The kinds of [`LoadError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadErrorKind {
    /// The text is not PTX.
    Syntax,
    /// PTX that this engine does not do.
    Unsupported,
    /// A name is declared twice or not at all.
    Symbol,
    /// Operands that do not fit their instruction.
    Operand,
    /// Device memory for the module's variables is exhausted.
    OutOfMemory,
}

impl LoadError {
    pub(crate) fn new(kind: LoadErrorKind, line: u32, what: impl Into<String>) -> LoadError {
        LoadError { line, kind, what: what.into() }
    }

    pub(crate) fn syntax(line: u32, what: impl Into<String>) -> LoadError {
        LoadError::new(LoadErrorKind::Syntax, line, what)
    }

    pub(crate) fn unsupported(line: u32, what: impl Into<String>) -> LoadError {
        LoadError::new(LoadErrorKind::Unsupported, line, what)
    }

    pub(crate) fn symbol(line: u32, what: impl Into<String>) -> LoadError {
        LoadError::new(LoadErrorKind::Symbol, line, what)
    }

    pub(crate) fn operand(line: u32, what: impl Into<String>) -> LoadError {
        LoadError::new(LoadErrorKind::Operand, line, what)
    }
}
