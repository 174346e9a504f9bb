//! Which files a path means, and their bytes as text.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};

use super::Bounds;
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::pace;

/// Reads every file that the paths mean, in sorted order, each once. `each` gets its name as people see it, and its text.
pub(super) fn load(paths: &[PathBuf], bounds: &Bounds, mut each: impl FnMut(Arc<str>, String)) -> Vec<Diagnostic> {
    let mut walk = Walk { bounds, found: Vec::new(), folders: Vec::new(), diagnostics: Vec::new() };
    for path in paths {
        walk.named(path);
    }
    let Walk { found, mut diagnostics, .. } = walk;
    let mut seen = hashbrown::HashSet::<PathBuf, foldhash::fast::RandomState>::default();
    let mut total = 0;
    for Found { path, identity } in found {
        pace::step();
        // The same file named twice would be a second document of the same name.
        if !seen.insert(identity) {
            continue;
        }
        if total > bounds.total_bytes {
            diagnostics.push(too_much(&path, bounds));
            continue;
        }
        match text_of(&path, bounds) {
            Ok(text) => {
                total += text.len();
                if total > bounds.total_bytes {
                    diagnostics.push(too_much(&path, bounds));
                } else {
                    each(shown(&path), text);
                }
            }
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    diagnostics
}

/// A file, by the path that was found and by the one that no link is on.
struct Found {
    path: PathBuf,
    identity: PathBuf,
}

impl Found {
    fn at(path: PathBuf) -> Self {
        Self { identity: fs::canonicalize(&path).unwrap_or_else(|_| path.clone()), path }
    }
}

struct Walk<'b> {
    bounds: &'b Bounds,
    found: Vec<Found>,
    folders: Vec<PathBuf>,
    diagnostics: Vec<Diagnostic>,
}

impl Walk<'_> {
    fn named(&mut self, path: &Path) {
        if path.as_os_str() == "-" {
            self.found.push(Found::at(path.to_owned()));
            return;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path, 0),
            Ok(_) => self.found.push(Found::at(path.to_owned())),
            Err(error) => self.unreadable(path, &error),
        }
    }

    fn folder(&mut self, path: &Path, depth: usize) {
        let identity = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.folders.contains(&identity) {
            return;
        }
        self.folders.push(identity.clone());
        if depth > self.bounds.folder_depth {
            let message = format!("folders lie deeper than {} levels", self.bounds.folder_depth);
            self.diagnostics.push(Diagnostic::new(Code::TooLarge, place(path), message));
            return;
        }
        let entries = match fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(path, &error),
        };
        let mut entries: Vec<(OsString, fs::DirEntry)> =
            entries.into_iter().map(|entry| (entry.file_name(), entry)).collect();
        pace::step();
        entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (name, entry) in entries {
            pace::tick();
            // A mounted ConfigMap keeps its files twice: as `key` (a link) and inside `..data`.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // PERF: of what is no link the folder says what it is; to ask for each is a tenth of reading unchanged policies.
            let is_plain = entry.file_type().is_ok_and(|kind| kind.is_file());
            let entry = entry.path();
            if is_plain {
                if is_policy_file(&entry) {
                    self.found.push(Found { path: entry, identity: identity.join(name) });
                }
                continue;
            }
            match fs::metadata(&entry) {
                Ok(metadata) if metadata.is_dir() => self.folder(&entry, depth + 1),
                Ok(metadata) if metadata.is_file() && is_policy_file(&entry) => self.found.push(Found::at(entry)),
                Ok(_) if is_policy_file(&entry) => self.diagnostics.push(no_file(&entry)),
                Ok(_) => {}
                Err(error) if is_policy_file(&entry) => self.unreadable(&entry, &error),
                Err(_) => {}
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        self.diagnostics.push(unreadable(path, error));
    }
}

fn is_policy_file(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

pub(super) fn text_of(path: &Path, bounds: &Bounds) -> Result<String, Box<Diagnostic>> {
    let limit = bounds.file_bytes as u64 + 1;
    let mut bytes = Vec::new();
    let outcome = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        let (file, length) = open(path)?;
        // What is too large anyway is not read; what is not gets its memory once.
        if length >= limit {
            return Err(Box::new(too_large(path, bounds)));
        }
        bytes.reserve_exact(usize::try_from(length).unwrap_or(0).saturating_add(1));
        file.take(limit).read_to_end(&mut bytes)
    };
    outcome.map_err(|error| Box::new(unreadable(path, &error)))?;
    pace::step();
    if bytes.len() > bounds.file_bytes {
        return Err(Box::new(too_large(path, bounds)));
    }
    String::from_utf8(bytes).map_err(|error| Box::new(not_utf8(path, &error)))
}

/// Opens what can be read without waiting for anybody: a file, or a pipe that this process was given. Of a file with how
/// long it is.
fn open(path: &Path) -> Result<(File, u64), Box<Diagnostic>> {
    let failed = |error: rustix::io::Errno| Box::new(unreadable(path, &error.into()));
    // A pipe without a writer would keep us here for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&opened).map_err(failed)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((opened.into(), u64::try_from(stat.st_size).unwrap_or(0))),
        FileType::CharacterDevice | FileType::Directory => Ok((opened.into(), 0)),
        // The shell's `<(…)`: its writer is there already.
        FileType::Fifo if is_given(path) => {
            let opened = rustix::fs::open(path, flags - OFlags::NONBLOCK, Mode::empty()).map_err(failed)?;
            Ok((opened.into(), 0))
        }
        _ => Err(Box::new(no_file(path))),
    }
}

fn is_given(path: &Path) -> bool {
    ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|given| path.starts_with(given))
}

fn too_large(path: &Path, bounds: &Bounds) -> Diagnostic {
    let message = format!("the file holds more than {} bytes", bounds.file_bytes);
    Diagnostic::new(Code::TooLarge, place(path), message).help("split it into several files")
}

/// Of each file that is not read: it is there, and what it held may not be taken for deleted.
fn too_much(path: &Path, bounds: &Bounds) -> Diagnostic {
    let message = format!("the files together hold more than {} bytes: this one is not read", bounds.total_bytes);
    Diagnostic::new(Code::TooLarge, place(path), message)
}

fn no_file(path: &Path) -> Diagnostic {
    let message = format!("cannot read `{}`: it is no regular file", path.display());
    Diagnostic::new(Code::Unreadable, place(path), message).help("write `-` to read from a pipe")
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Diagnostic {
    let valid = error.utf8_error().valid_up_to();
    let before = error.as_bytes().get(..valid).map(String::from_utf8_lossy).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let location = Location { file: shown(path), line: number(line), column: number(column) };
    let utf16 = matches!(error.as_bytes().get(..2), Some([0xff, 0xfe] | [0xfe, 0xff]));
    let help = if utf16 { "the file looks like UTF-16: save it as UTF-8" } else { "save the file as UTF-8" };
    Diagnostic::new(Code::NotUtf8, location, "the file is not valid UTF-8").help(help)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostic {
    Diagnostic::new(Code::Unreadable, place(path), format!("cannot read `{}`: {error}", path.display()))
}

fn place(path: &Path) -> Location {
    Location { file: shown(path), line: 1, column: 1 }
}

pub(super) fn shown(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use std::sync::Arc;

    use crate::diagnostic::{Code, Diagnostic};
    use crate::source::Bounds;

    /// The names of the files that are read.
    fn load(paths: &[PathBuf], bounds: &Bounds) -> (Vec<Arc<str>>, Vec<Diagnostic>) {
        let mut names = Vec::new();
        let diagnostics = super::load(paths, bounds, |name, _| names.push(name));
        (names, diagnostics)
    }

    #[test]
    fn a_mounted_config_map_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("..2026_01")).unwrap();
        fs::write(at("..2026_01/b.yaml"), "b: 1").unwrap();
        std::os::unix::fs::symlink("..2026_01", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/b.yaml", at("b.yaml")).unwrap();
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/a.json"), "{}").unwrap();
        fs::write(at("sub/readme.md"), "x").unwrap();
        fs::write(at(".hidden.yaml"), "x").unwrap();
        std::os::unix::fs::symlink("..", at("sub/loop")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("gone.yml")).unwrap();
        let (loaded, diagnostics) = load(&[folder.path().to_owned(), at("b.yaml")], &Bounds::default());
        let names: Vec<_> = loaded.iter().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
        assert_eq!(names, ["b.yaml", "a.json"]);
        assert_eq!(diagnostics.iter().map(|d| d.code).collect::<Vec<_>>(), [Code::Unreadable]);
    }

    #[test]
    fn bad_bytes_and_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.yaml");
        let bounds = Bounds { file_bytes: 8, ..Bounds::default() };
        for (bytes, code, place) in [
            (&b"a: 1\nb\xff"[..], Code::NotUtf8, (2, 2)),
            (b"\xff\xfea\0", Code::NotUtf8, (1, 1)),
            (b"123456789", Code::TooLarge, (1, 1)),
        ] {
            fs::write(&file, bytes).unwrap();
            let (loaded, diagnostics) = load(std::slice::from_ref(&file), &bounds);
            assert!(loaded.is_empty());
            let found: Vec<_> = diagnostics.iter().map(|d| (d.code, (d.location.line, d.location.column))).collect();
            assert_eq!(found, [(code, place)]);
        }
        assert_eq!(load(&[PathBuf::from("/nonexistent/x")], &bounds).1.len(), 1);
    }

    #[test]
    fn nobody_is_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.yaml");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [pipe, folder.path().to_owned()] {
            let (loaded, diagnostics) = load(&[path], &Bounds::default());
            assert!(loaded.is_empty());
            let found: Vec<_> = diagnostics.iter().map(|one| (one.code, one.message.contains("no regular"))).collect();
            assert_eq!(found, [(Code::Unreadable, true)]);
        }
        assert_eq!(load(&["/dev/null".into()], &Bounds::default()).0.len(), 1);
        let endless = load(&["/dev/zero".into()], &Bounds { file_bytes: 1 << 20, ..Bounds::default() });
        assert_eq!(endless.1[0].code, Code::TooLarge);
    }

    #[test]
    fn all_files_together_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.yaml", "b.yaml", "c.yaml"] {
            fs::write(folder.path().join(name), "a: 1").unwrap();
        }
        let (loaded, diagnostics) = load(&[folder.path().to_owned()], &Bounds { total_bytes: 8, ..Bounds::default() });
        assert_eq!(loaded.len(), 2);
        assert_eq!(diagnostics.iter().map(|one| one.code).collect::<Vec<_>>(), [Code::TooLarge]);
        let (_, diagnostics) = load(&[folder.path().to_owned()], &Bounds { total_bytes: 7, ..Bounds::default() });
        assert_eq!(diagnostics.len(), 2, "each file that is not read: {diagnostics:?}");
    }
}
