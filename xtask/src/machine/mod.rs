//! Compiled kernels as machine code: reading, walking and costing it.

pub mod cfg;
pub mod cubin;
pub mod occupancy;
mod ops;
pub mod pipes;
pub mod sass;
pub mod state;
pub mod timing;
pub mod walk;
