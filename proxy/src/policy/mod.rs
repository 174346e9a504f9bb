//! The live table: where policies and workloads come from, reload, and the swap that every connection sees.
//!
//! [`start`] reads the first world and keeps it up to date on a thread of its own; the data path only ever sees
//! [`Live`].

pub(crate) mod break_glass;
mod courtesy;
mod expiry;
mod files;
mod live;
mod maker;
mod news;
mod reload;
mod self_test;
mod sources;
mod status;
mod survey;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use files::Files;
pub(crate) use live::Live;
pub(crate) use news::{News, Watch};
pub(crate) use reload::{Followed, Origin, Reloader, start};
pub(crate) use status::Outcome;
pub(crate) use status::Status;
