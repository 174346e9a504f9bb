//! Tells that the watched paths may have changed: inotify on their folders (a watch on a file dies with its first
//! replacement), and what is still being written.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// What happened to a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Somebody writes to it.
    Writing(PathBuf),
    /// Whoever wrote has closed it.
    Written(PathBuf),
    /// It came, went, or was replaced.
    Moved,
    /// Events were lost: anything may have changed.
    Lost,
}

/// Watches folders. Without inotify (its limit may be reached) the slow poll alone finds changes.
#[derive(Debug)]
pub(super) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl FolderWatch {
    /// Sends every change to `sender`.
    pub(super) fn new<M: From<Change> + Send + 'static>(sender: Sender<M>) -> Self {
        let tell = move |event: notify::Result<Event>| {
            for change in changes(event) {
                // A receiver that is gone is a proxy that ends.
                let _ = sender.send(change.into());
            }
        };
        let watcher = match notify::recommended_watcher(tell) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "cannot watch folders: changes are found by polling alone");
                None
            }
        };
        Self { watcher, watched: BTreeMap::new() }
    }

    /// Watches exactly these folders from now on. A folder that was replaced is watched anew.
    pub(super) fn follow(&mut self, folders: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeMap<PathBuf, (u64, u64)> = folders
            .iter()
            .filter_map(|folder| {
                let metadata = std::fs::metadata(folder).ok()?;
                Some((folder.clone(), (metadata.dev(), metadata.ino())))
            })
            .collect();
        self.watched.retain(|folder, identity| {
            let kept = wanted.get(folder) == Some(identity);
            if !kept {
                // Already gone with the folder, as a rule.
                let _ = watcher.unwatch(folder);
            }
            kept
        });
        for (folder, identity) in wanted {
            if self.watched.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder, identity);
                }
                Err(error) => {
                    tracing::warn!(%error, folder = %folder.display(), "cannot watch: found by polling alone");
                }
            }
        }
    }
}

fn changes(event: notify::Result<Event>) -> Vec<Change> {
    let Ok(event) = event else { return vec![Change::Lost] };
    if event.need_rescan() {
        return vec![Change::Lost];
    }
    let of_files = |make: fn(PathBuf) -> Change| event.paths.iter().filter(|path| may_hold(path)).cloned().map(make);
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => of_files(Change::Writing).collect(),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => of_files(Change::Written).collect(),
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(_) | EventKind::Any => vec![Change::Moved],
        EventKind::Access(_) | EventKind::Other => Vec::new(),
    }
}

/// Other files of a folder, such as a log that grows beside the policies, are no reason to look.
fn may_hold(path: &Path) -> bool {
    path.extension().is_none_or(|extension| !["log", "swp", "tmp"].iter().any(|other| extension == *other))
}
