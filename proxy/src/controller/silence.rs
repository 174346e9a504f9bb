//! How long the controller has been silent, and what follows from that.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::observe::Recorder;
use crate::policy::Reloader;

/// Watches the time since the controller was heard.
#[derive(Debug)]
pub(super) struct Silence {
    most: Duration,
    /// When it was heard, and how long it had been silent then: after a restart, since before the start.
    since: Mutex<(Instant, Option<Duration>)>,
    changed: Notify,
}

impl Silence {
    /// `before`: the silence at the start; `None` for ever.
    pub(super) fn new(most: Duration, before: Option<Duration>) -> Self {
        Self { most, since: Mutex::new((Instant::now(), before)), changed: Notify::new() }
    }

    /// It is heard now.
    pub(super) fn heard(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = (Instant::now(), Some(Duration::ZERO));
        self.changed.notify_one();
    }

    /// How long it has been silent, and whether that is too long. What is older than this process and of unknown age
    /// is too old at once.
    fn look(&self) -> (Duration, bool) {
        let (at, before) = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let age = at.elapsed() + before.unwrap_or_default();
        (age, before.is_none() || age > self.most)
    }

    /// Tells the metric and the policy thread, until the process ends.
    pub(super) async fn watch(&self, recorder: &Recorder, reloader: &Reloader) {
        let mut was_too_long = None;
        loop {
            let (age, is_too_long) = self.look();
            recorder.metrics().set_registry_age(age);
            if was_too_long.replace(is_too_long) != Some(is_too_long) {
                reloader.controller_is_silent(is_too_long);
            }
            // A look that comes too late says the same.
            let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
        }
    }
}

/// Short against any time that is worth setting.
const LOOK: Duration = Duration::from_millis(250);
