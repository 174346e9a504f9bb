//! What an API server, or the way to it, said no with: in its words, without the structures around them.

use std::fmt;

use kube::runtime::watcher;

/// An error of a call, for people.
pub(crate) struct Said<'e>(pub(crate) &'e kube::Error);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            kube::Error::Api(status) if !status.message.is_empty() => f.write_str(&status.message),
            other => causes(other, f),
        }
    }
}

/// An error of a watch, for people.
pub(super) struct Broke<'e>(pub(super) &'e watcher::Error);

impl fmt::Display for Broke<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            watcher::Error::InitialListFailed(error) => write!(f, "listing: {}", Said(error)),
            watcher::Error::WatchStartFailed(error) => write!(f, "beginning: {}", Said(error)),
            watcher::Error::WatchFailed(error) => write!(f, "watching: {}", Said(error)),
            watcher::Error::WatchError(status) => write!(f, "watching: {}", status.message),
            other @ watcher::Error::NoResourceVersion => write!(f, "{other}"),
        }
    }
}

/// The error and what it comes of: "connection refused" stands innermost.
fn causes(error: &dyn std::error::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    let mut cause = error.source();
    while let Some(inner) = cause {
        write!(f, ": {inner}")?;
        cause = inner.source();
    }
    Ok(())
}
