//! What is recorded of every verdict: counters always, an access-log line, an alert where it matters.

pub(crate) mod event;

pub(crate) use event::{ConnectionEnd, RequestEvent};
