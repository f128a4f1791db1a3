//! CUDA programs in the habits of others: each gives what an oracle on the CPU gives, in every order
//! of warps and as every compiler version makes it, without a report; and with a bug planted, the
//! report names it and its line.
//!
//! `SOFTCUDA_NVRTC` names NVRTC libraries or their folders, separated by `:`; the programs are then
//! compiled by each for every architecture. Without it, checked-in PTX runs (`ptx/`). `SOFTCUDA_SEEDS`
//! is how many orders each program runs in, clean and with each bug.

#![allow(clippy::result_large_err, reason = "faults are what these tests are about")]

mod arithmetic;
mod asynchronous;
mod cluster;
mod graphs;
mod harness;
mod host;
mod linear;
mod norms;
mod nvrtc;
mod pinned;
mod planted;
mod reductions;
mod scans;
mod sync;
mod tiles;

#[path = "../ptx_support/mod.rs"]
mod ptx_support;
