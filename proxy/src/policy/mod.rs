//! The live table: where policies and workloads come from, reload, and the swap that every connection sees.

pub(crate) mod live;

pub(crate) use live::{Live, Watch};
