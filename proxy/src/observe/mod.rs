//! What is recorded of every verdict: counters always, an access-log line, an alert where it matters.

mod decision;
pub(crate) mod event;
mod flood;
mod json;
mod label;
mod line;
mod log;
mod metrics;
mod recorder;
mod series;

#[cfg(test)]
mod tests;

pub(crate) use decision::DecisionId;
pub(crate) use event::{Alert, AlertKind, ConnectionEnd, Limit, RequestEvent};
#[cfg(test)]
pub(crate) use log::LogWriter;
pub(crate) use log::{AccessLog, Destination};
#[cfg(test)]
pub(crate) use metrics::Metrics;
pub(crate) use recorder::{ConnectionRecorder, Recorder};
