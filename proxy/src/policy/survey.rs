//! What the file system shows of the watched paths, without reading a file: enough to see that something changed, and
//! which folders to watch.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use eastwall_policy::pace;
use sha2::{Digest as _, Sha256};

/// One look at the watched paths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Changes whenever a file or folder below was written, replaced, added or removed.
    pub(crate) fingerprint: [u8; 32],
    /// Folders in which a change matters: the paths' own parents too, since a path may be replaced as a whole.
    pub(crate) folders: Vec<PathBuf>,
}

/// Looks at these paths, following links: a mounted ConfigMap changes by a link that points elsewhere.
pub(crate) fn survey<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Survey {
    let mut walk = Walk { hash: Sha256::new(), folders: Vec::new() };
    for path in paths {
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        // Where the link stands, and where what it points to stands.
        for named in [Some(parent.to_owned()), target_parent(path)].into_iter().flatten() {
            if let Ok(metadata) = fs::metadata(&named) {
                walk.note(&named, &metadata, false);
                walk.folders.push(named);
            }
        }
        walk.visit(path, 0);
    }
    walk.folders.sort();
    walk.folders.dedup();
    Survey { fingerprint: walk.hash.finalize().into(), folders: walk.folders }
}

struct Walk {
    hash: Sha256,
    folders: Vec<PathBuf>,
}

impl Walk {
    fn visit(&mut self, path: &Path, depth: usize) {
        pace::step();
        let Ok(metadata) = fs::metadata(path) else {
            self.hash.update(b"?");
            self.hash.update(path.as_os_str().as_encoded_bytes());
            return;
        };
        self.note(path, &metadata, true);
        if !metadata.is_dir() || depth > DEEPEST {
            return;
        }
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.folders.contains(&real) && depth > 0 {
            return;
        }
        self.folders.push(real);
        let Ok(entries) = fs::read_dir(path) else { return };
        let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        pace::step();
        // PERF: as paths they would be taken apart for each comparison; what differs is the name alone.
        entries.sort_unstable_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
        for entry in entries {
            if !is_hidden(&entry) {
                self.visit(&entry, depth + 1);
            }
        }
    }

    fn note(&mut self, path: &Path, metadata: &Metadata, times: bool) {
        self.hash.update(path.as_os_str().as_encoded_bytes());
        let mut numbers = vec![metadata.dev(), metadata.ino()];
        // A folder's own times change with every stranger's file in it.
        if times && !metadata.is_dir() {
            numbers.extend([metadata.size(), metadata.mtime().cast_unsigned(), metadata.mtime_nsec().cast_unsigned()]);
            numbers.extend([metadata.ctime().cast_unsigned(), metadata.ctime_nsec().cast_unsigned()]);
        }
        for number in numbers {
            self.hash.update(number.to_be_bytes());
        }
    }
}

fn target_parent(path: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(path).ok()?;
    real.parent().map(Path::to_owned)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// The reader's own bound on folders is the same.
const DEEPEST: usize = 32;
