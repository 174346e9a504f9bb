//! Kubernetes' own policies: their meaning beside a straight-line reading, by example, and what is told of wrong ones.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot make its own input fails"
)]

mod cast;
mod findings;
mod meaning;
mod policies;
mod reading;
