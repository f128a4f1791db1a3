//! Every kernel against the reference: sizes, layouts, values, semantics of DESIGN, totals, determinism, traffic.

#[path = "../common/mod.rs"]
mod common;

mod approximations;
mod invariants;
mod large;
mod layout;
mod masks;
mod nonfinite;
mod repeatability;
mod schedules;
mod sizes;
mod totals;
mod traffic;
mod turns;
mod upstream;
mod values;
mod weights;
