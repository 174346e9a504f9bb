//! Tells that the watched paths may have changed: inotify on their folders (a watch on a file dies with its first
//! replacement), and what is still being written.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf, absolute};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// What happened to a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
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
pub(crate) struct FolderWatch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, (u64, u64)>,
}

impl FolderWatch {
    /// Tells of every change. `named` are the files and folders that are read.
    pub(crate) fn new(named: Vec<PathBuf>, mut tell: impl FnMut(Change) + Send + 'static) -> Self {
        let tell = move |event: notify::Result<Event>| changes(event, &named).into_iter().for_each(&mut tell);
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
    pub(crate) fn follow(&mut self, folders: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeMap<PathBuf, (u64, u64)> = folders
            .iter()
            .filter_map(|folder| {
                let metadata = fs::metadata(folder).ok()?;
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

fn changes(event: notify::Result<Event>, named: &[PathBuf]) -> Vec<Change> {
    let Ok(event) = event else { return vec![Change::Lost] };
    if event.need_rescan() {
        return vec![Change::Lost];
    }
    let of_files =
        |make: fn(PathBuf) -> Change| event.paths.iter().filter(|path| may_hold(path, named)).cloned().map(make);
    match event.kind {
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => of_files(Change::Writing).collect(),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => of_files(Change::Written).collect(),
        EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(_) | EventKind::Any => vec![Change::Moved],
        EventKind::Access(_) | EventKind::Other => Vec::new(),
    }
}

/// Whether a reading should wait for whoever writes to this file. Other files of a folder, such as a log that grows
/// beside the policies, are no reason to look, nor to wait.
fn may_hold(path: &Path, named: &[PathBuf]) -> bool {
    let Ok(path) = absolute(path) else { return true };
    let is_document = || {
        path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end.eq_ignore_ascii_case(known)))
    };
    // Links are followed now: they may lead elsewhere since the last event.
    named.iter().flat_map(|named| [absolute(named), fs::canonicalize(named)]).flatten().any(|root| {
        // Nothing is below a file.
        path == root || (path.starts_with(&root) && is_document())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_read_holds_a_reload() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("policies/deep")).unwrap();
        fs::create_dir(at("real")).unwrap();
        fs::write(at("workloads"), "[]").unwrap();
        fs::write(at("real/one.yaml"), "").unwrap();
        symlink(at("real/one.yaml"), at("linked.yaml")).unwrap();
        let named = [at("policies"), at("workloads"), at("linked.yaml")];
        for (name, expected) in [
            ("workloads", true),
            ("policies/a.yaml", true),
            ("policies/deep/b.json", true),
            ("policies/./c.yml", true),
            ("linked.yaml", true),
            ("real/one.yaml", true),
            ("real/two.yaml", false),
            ("policies/a.pcap", false),
            ("policies/a.yaml.log", false),
            ("core", false),
            ("beside.yaml", false),
            ("policies.yaml", false),
        ] {
            assert_eq!(may_hold(&at(name), &named), expected, "{name}");
        }
    }
}
