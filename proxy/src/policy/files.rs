//! Files that are read again whenever they change: named by the kernel, and found by looking where it tells nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::survey::survey;
use super::watch::FolderWatch;

/// Files and folders, as they were when they were looked at last.
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    changed: Arc<Notify>,
    watch: FolderWatch,
    seen: Option<[u8; 32]>,
}

impl Files {
    /// Nothing of these was read yet.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let watch = FolderWatch::new(paths.clone(), move |_| told.notify_one());
        Self { paths, changed, watch, seen: None }
    }

    /// Whether they are to be read: they are other than when this was last asked.
    pub(crate) fn differ(&mut self) -> bool {
        let survey = survey(self.paths.iter().map(PathBuf::as_path));
        self.watch.follow(&survey.folders);
        self.seen.replace(survey.fingerprint) != Some(survey.fingerprint)
    }

    /// What was read may be half written: they differ when asked next, whether or not a change is seen.
    pub(crate) fn read_again(&mut self) {
        self.seen = None;
    }

    /// Until it is worth asking again.
    pub(crate) async fn wait(&self) {
        if timeout(POLL, self.changed.notified()).await.is_ok() {
            // Whoever writes may not have ended.
            sleep(QUIET).await;
        }
    }
}

/// Looks without being told, as for policies.
const POLL: Duration = Duration::from_secs(5);

/// After the last change of a file.
const QUIET: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_differ_once_after_each_change_and_as_often_as_they_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let mut files = Files::new(vec![path.clone()]);
        assert_eq!((files.differ(), files.differ()), (true, false), "one that is not there may come");
        for text in ["a", "bb"] {
            std::fs::write(&path, text).unwrap();
            timeout(POLL / 2, files.wait()).await.unwrap();
            assert_eq!((files.differ(), files.differ()), (true, false), "{text}");
        }
        files.read_again();
        assert!(files.differ());
    }
}
