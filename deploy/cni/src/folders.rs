//! The two folders of a node that container runtimes read. Every file is replaced whole.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::list::{self, Entry, TYPE};

/// Where they are.
#[derive(Debug)]
pub(crate) struct Folders {
    /// Plugins.
    pub(crate) programs: PathBuf,
    /// Network configurations.
    pub(crate) configurations: PathBuf,
}

impl Default for Folders {
    fn default() -> Self {
        Self { programs: "/opt/cni/bin".into(), configurations: "/etc/cni/net.d".into() }
    }
}

impl Folders {
    /// Puts this program and its entry where runtimes find them: the program first, or pods would fail in between.
    pub(crate) fn install(&self, entry: &Entry) -> Result<String, String> {
        let program = fs::read("/proc/self/exe").map_err(|error| format!("cannot read this program: {error}"))?;
        let file = self.first()?;
        let text = read(&file)?;
        let changed = list::with(&text, entry).map_err(|error| format!("`{}`: {error}", file.display()))?;
        replace(&self.programs.join(TYPE), &program, 0o755)?;
        for other in self.lists()?.iter().filter(|other| **other != file) {
            take_out(other)?;
        }
        if changed != text {
            replace(&file, changed.as_bytes(), mode(&file)?)?;
        }
        Ok(format!("installed: the last plugin of {}\n", file.display()))
    }

    /// Takes both away again: the entries first.
    pub(crate) fn uninstall(&self) -> Result<String, String> {
        for file in self.lists()? {
            take_out(&file)?;
        }
        for left in [
            self.programs.join(TYPE),
            unfinished(&self.programs.join(TYPE)),
            unfinished(&self.configurations.join("any")),
        ] {
            match fs::remove_file(&left) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("cannot remove `{}`: {error}", left.display()));
                }
                _ => {}
            }
        }
        Ok("uninstalled\n".to_owned())
    }

    /// The configuration that runtimes take: the first by name.
    fn first(&self) -> Result<PathBuf, String> {
        let all = self.named(&["conf", "conflist", "json"])?;
        let folder = self.configurations.display();
        let first = all.into_iter().next().ok_or_else(|| {
            format!("no network configuration in `{folder}` yet: install the cluster's CNI plugin, then run this again")
        })?;
        if extension(&first) == "conflist" {
            return Ok(first);
        }
        Err(format!(
            "`{}` is the first network configuration of the node and holds one plugin alone: write it as a list (`.conflist`)",
            first.display()
        ))
    }

    fn lists(&self) -> Result<Vec<PathBuf>, String> {
        self.named(&["conflist"])
    }

    fn named(&self, extensions: &[&str]) -> Result<Vec<PathBuf>, String> {
        let unreadable = |error: io::Error| format!("cannot read `{}`: {error}", self.configurations.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.configurations).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if extensions.contains(&extension(&path)) && path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

/// A list that cannot be read has no entry that a runtime would run.
fn take_out(file: &Path) -> Result<(), String> {
    let text = read(file)?;
    match list::without(&text) {
        Ok(left) if left != text => replace(file, left.as_bytes(), mode(file)?),
        _ => Ok(()),
    }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("cannot read `{}`: {error}", file.display()))
}

fn mode(file: &Path) -> Result<u32, String> {
    let metadata = fs::metadata(file).map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

/// Where a file is written before it takes its place; no runtime reads that name.
fn unfinished(file: &Path) -> PathBuf {
    file.with_file_name(format!(".{TYPE}.unfinished"))
}

fn replace(file: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let write = || {
        let fresh = unfinished(file);
        let mut written = File::create(&fresh)?;
        written.set_permissions(Permissions::from_mode(mode))?;
        written.write_all(bytes)?;
        written.sync_all()?;
        fs::rename(&fresh, file)
    };
    write().map_err(|error| format!("cannot write `{}`: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"plugins\":[\n  {\"type\":\"ptp\"}\n]}\n";

    fn node(files: &[(&str, &str)]) -> (tempfile::TempDir, Folders) {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders { programs: folder.path().join("bin"), configurations: folder.path().join("net.d") };
        fs::create_dir(&folders.programs).unwrap();
        fs::create_dir(&folders.configurations).unwrap();
        files.iter().for_each(|(name, text)| fs::write(folders.configurations.join(name), text).unwrap());
        (folder, folders)
    }

    /// Every file with its mode and bytes.
    fn state(folders: &Folders) -> Vec<(PathBuf, u32, Vec<u8>)> {
        let mut all: Vec<_> = [&folders.programs, &folders.configurations]
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), mode(&path).unwrap(), fs::read(&path).unwrap()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn installs_into_the_first_list_once_and_leaves_no_trace() {
        let (_folder, folders) =
            node(&[("10-first.conflist", LIST), ("20-second.conflist", LIST), ("05-notes.txt", "")]);
        fs::set_permissions(folders.configurations.join("10-first.conflist"), Permissions::from_mode(0o640)).unwrap();
        fs::write(folders.programs.join("ptp"), "").unwrap();
        let before = state(&folders);
        folders.install(&Entry::default()).unwrap();
        let installed = state(&folders);
        assert_eq!(installed.len(), before.len() + 1);
        assert_eq!(mode(&folders.programs.join(TYPE)).unwrap(), 0o755);
        let first = folders.configurations.join("10-first.conflist");
        assert!(read(&first).unwrap().contains(TYPE) && mode(&first).unwrap() == 0o640);
        assert_eq!(read(&folders.configurations.join("20-second.conflist")).unwrap(), LIST);
        folders.install(&Entry::default()).unwrap();
        assert_eq!(state(&folders), installed);
        folders.uninstall().unwrap();
        assert_eq!(state(&folders), before);
        folders.uninstall().unwrap();
        assert_eq!(state(&folders), before);
    }

    #[test]
    fn the_entry_moves_to_the_list_that_is_first_now() {
        let (_folder, folders) = node(&[("20-second.conflist", LIST)]);
        folders.install(&Entry::default()).unwrap();
        fs::write(folders.configurations.join("10-first.conflist"), LIST).unwrap();
        folders.install(&Entry::default()).unwrap();
        assert!(read(&folders.configurations.join("10-first.conflist")).unwrap().contains(TYPE));
        assert_eq!(read(&folders.configurations.join("20-second.conflist")).unwrap(), LIST);
    }

    #[test]
    fn what_cannot_be_changed_is_left_alone_with_words() {
        for (files, word) in [
            (&[][..], "install the cluster's CNI plugin"),
            (&[("10-a.conf", "{}"), ("20-b.conflist", LIST)], "write it as a list"),
            (&[("10-a.conflist", "{"), ("20-b.conflist", LIST)], "10-a.conflist"),
        ] {
            let (_folder, folders) = node(files);
            let before = state(&folders);
            let error = folders.install(&Entry::default()).unwrap_err();
            assert!(error.contains(word), "{error}");
            assert_eq!(state(&folders), before);
            folders.uninstall().unwrap();
            assert_eq!(state(&folders), before);
        }
    }
}
