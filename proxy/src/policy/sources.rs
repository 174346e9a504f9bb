//! Reading the policy files so that nothing opens by accident.
//!
//! Three things make a policy vanish that nobody deleted: a file that cannot be read, a file that is being written
//! (empty for a moment), and a file that is replaced by deleting it first. Its documents stay as they were: while it
//! cannot be read or is empty, and for [`GRACE`] after it is gone. What is deleted on purpose goes, and is told loudly.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eastwall_policy::registry::kubernetes::is_object;
use eastwall_policy::source::{self, Bounds, Document, Reader};

/// Where policies come from, and what was read of them last.
#[derive(Debug)]
pub(super) struct Sources {
    paths: Vec<PathBuf>,
    reader: Reader,
    held: Vec<Document>,
    gone: BTreeMap<Arc<str>, Instant>,
}

/// What is in force of what was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Documents, with those that are held.
    pub(super) sources: source::Sources,
    /// Files whose documents stay as they were, and why.
    pub(super) holds: Vec<Hold>,
    /// Something of which not even a name is known could not be read, and nothing stands in for it.
    pub(super) unknown: bool,
    /// A file is gone and still held: read again then.
    pub(super) again: Option<Instant>,
    /// Documents that were there before and are deleted now.
    pub(super) deleted: Vec<String>,
}

/// A file whose last good documents stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) file: Arc<str>,
    pub(super) why: &'static str,
}

impl Sources {
    pub(super) fn new(paths: Vec<PathBuf>, bounds: Bounds) -> Self {
        Self { paths, reader: Reader::new(bounds), held: Vec::new(), gone: BTreeMap::new() }
    }

    /// Reads everything. `running`: a table was good before, so what was never good is left out instead of closing
    /// everything that it might have selected.
    pub(super) fn read(&mut self, now: Instant, running: bool) -> Reading {
        let mut fresh = self.reader.read(&self.paths);
        let named: BTreeSet<_> = fresh.documents.iter().filter(|one| !is_nameless(one)).map(identity).collect();
        let seen: BTreeSet<Arc<str>> = fresh
            .documents
            .iter()
            .filter(|one| !is_unreadable(one))
            .map(|one| Arc::clone(&one.location.file))
            .collect();
        let unreadable: Vec<Arc<str>> =
            fresh.documents.iter().filter(|one| is_unreadable(one)).map(|one| Arc::clone(&one.location.file)).collect();
        let before: BTreeSet<Arc<str>> = self.held.iter().map(|one| Arc::clone(&one.location.file)).collect();

        let mut holds = Vec::new();
        self.gone.retain(|file, _| !seen.contains(file));
        for file in before.iter().filter(|file| !seen.contains(*file)) {
            if let Some(why) = self.reason_to_hold(file, &unreadable, now) {
                holds.push(Hold { file: Arc::clone(file), why });
            }
        }
        let kept = |file: &Arc<str>| holds.iter().any(|hold| hold.file == *file);
        let stays = |one: &&Document| kept(&one.location.file) && !named.contains(&identity(one));
        let stay: Vec<Document> = self.held.iter().filter(stays).cloned().collect();

        let mut unknown = false;
        fresh.documents.retain(|one| {
            if !is_nameless(one) {
                return true;
            }
            // What the path held before stands in for it: here where the file itself is away, in the compiler where
            // the file is there and only some document in it is broken.
            let stands_in = before.iter().any(|file| lies_in(file, &one.location.file));
            let broken_inside = stands_in && !is_unreadable(one);
            unknown |= !stands_in;
            broken_inside || (!stands_in && !running)
        });
        fresh.documents.extend(stay);

        let now_there: BTreeSet<_> = fresh.documents.iter().map(identity).collect();
        let broken_files: BTreeSet<_> =
            fresh.documents.iter().filter(|one| is_nameless(one)).map(|one| &one.location.file).collect();
        let deleted = self.held.iter().filter(|one| !is_nameless(one) && !broken_files.contains(&one.location.file));
        // Pods come and go.
        let deleted = deleted.filter(|one| !is_object(one));
        let deleted = deleted.filter(|one| !now_there.contains(&identity(one))).map(shown).collect();
        let again = self.gone.values().min().map(|since| *since + GRACE);
        // A broken document's file is remembered with what it last held, so that it can still be held for.
        let remembered = self.held.iter().filter(|one| broken_files.contains(&one.location.file));
        let remembered: Vec<Document> = remembered.filter(|one| !now_there.contains(&identity(one))).cloned().collect();
        self.held =
            fresh.documents.iter().filter(|one| !is_nameless(one)).map(Document::at_rest).chain(remembered).collect();
        Reading { sources: fresh, holds, unknown, again, deleted }
    }

    fn reason_to_hold(&mut self, file: &Arc<str>, unreadable: &[Arc<str>], now: Instant) -> Option<&'static str> {
        if unreadable.iter().any(|path| lies_in(file, path)) {
            self.gone.remove(file);
            return Some("cannot be read");
        }
        match std::fs::read(&**file) {
            Ok(bytes) if bytes.trim_ascii().is_empty() => Some("is empty: delete the file if its policies should go"),
            // Only comments, or a folder by now: somebody meant it.
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {
                let since = *self.gone.entry(Arc::clone(file)).or_insert(now);
                if now.duration_since(since) < GRACE {
                    return Some("has just disappeared");
                }
                self.gone.remove(file);
                None
            }
            Err(_) => Some("cannot be read"),
        }
    }
}

/// Whether `file` is `path` or lies below it.
fn lies_in(file: &str, path: &str) -> bool {
    Path::new(file).starts_with(path)
}

fn is_nameless(document: &Document) -> bool {
    document.broken && (document.kind.is_empty() || document.name.is_empty())
}

/// Nothing of it was read: not a document with a mistake, but a file or folder with one.
fn is_unreadable(document: &Document) -> bool {
    is_nameless(document) && document.file_text.is_empty()
}

fn identity(document: &Document) -> (String, String, String, String) {
    let group = document.api_version.split('/').next().unwrap_or_default();
    (group.to_owned(), document.kind.clone(), document.namespace.clone(), document.name.clone())
}

fn shown(document: &Document) -> String {
    let Document { kind, namespace, name, location, .. } = document;
    if namespace.is_empty() {
        format!("{kind} {name} ({location})")
    } else {
        format!("{kind} {namespace}/{name} ({location})")
    }
}

/// How long a file may be away while it is replaced. Editors and `git checkout` take milliseconds.
const GRACE: Duration = Duration::from_secs(1);
