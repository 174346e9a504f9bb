//! Wires everything: configuration, the live table, workers, admin, signals, drain.

mod slots;
mod worker;

pub(crate) use worker::{Worker, Workers};
