//! Syntax tree to register-indexed operations.
//!
//! Functions are inlined where they are called, names and immediates become registers, and
//! registers are packed into as few slots as their lifetimes allow, so that the engine's inner
//! loop looks nothing up.

mod allocate;
mod asynchronous;
mod body;
mod cluster;
mod context;
mod control;
mod convert;
mod float;
mod functions;
mod half;
mod integer;
mod memory;
mod module;
mod moves;
pub mod op;
mod operands;
mod parts;
mod special;
pub mod table;
mod visit;
mod warp;

pub use allocate::Frame;
pub use module::{Entry, Global, Param, Program, lower};
pub use special::Special;
pub use visit::Role;
