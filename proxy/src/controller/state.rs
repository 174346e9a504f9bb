//! The folder that the sources read, kept in step with the slice.
//!
//! ```text
//! DIR/current -> versions/N-DIGEST    what is in force; swapped by renaming the link
//!     policies/GROUP/KIND/[NAMESPACE/]NAME.json, objects/…, workloads.yaml
//!     manifest    the version, and the digest of every file
//! DIR/heard       its time of change says when the controller was heard last
//! DIR/identity/   certificates
//! ```
//!
//! Nothing is flushed to the disk: after a crash of the machine the digests tell what was lost, and then nothing of the
//! folder is used.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use eastwall_protocol::v1alpha1::{Key, Object};
use sha2::{Digest as _, Sha256};

mod files;

use files::{Files, Finished};

/// What the folder holds.
#[derive(Debug)]
pub(crate) struct State {
    folder: PathBuf,
    /// Empty for none.
    version: String,
    number: u64,
    files: Files,
}

impl State {
    /// Opens the folder, which is made where it is not there. What was damaged is not used.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let versions = folder.join("versions");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&versions)?;
        // One that was there may be open to others.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        let mut state = Self { folder: folder.to_owned(), version: String::new(), number: 0, files: Files::default() };
        match state.load() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.forget()?,
            Err(error) => {
                tracing::error!(folder = %folder.display(), %error, "what the controller said last is damaged: not used");
                state.forget()?;
            }
        }
        Ok(state)
    }

    /// Where the sources find policies and objects.
    pub(crate) fn policies(folder: &Path) -> Vec<PathBuf> {
        ["current/policies", "current/objects"].map(|name| folder.join(name)).into()
    }

    /// Where certificates are.
    pub(crate) fn identities(folder: &Path) -> PathBuf {
        folder.join("identity")
    }

    /// Where the sources find workloads: none, since objects say who is where; the file says that the slice is whole.
    pub(crate) fn workloads(folder: &Path) -> PathBuf {
        folder.join("current/workloads.yaml")
    }

    /// The version that is held; empty for none.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Since when the controller has not been heard; `None` where it never was, or clocks say the impossible.
    pub(crate) fn silence(&self) -> Option<Duration> {
        if self.version.is_empty() {
            return None;
        }
        let heard = fs::metadata(self.folder.join("heard")).and_then(|held| held.modified()).ok()?;
        SystemTime::now().duration_since(heard).ok()
    }

    /// The controller is heard.
    pub(super) fn heard(&self) {
        let written = fs::File::create(self.folder.join("heard")).and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = written {
            tracing::debug!(%error, "a restart will not know that the controller was heard");
        }
    }

    /// Takes a whole slice.
    pub(super) fn replace(&mut self, version: &str, objects: Vec<Object>) -> io::Result<()> {
        let mut files = Files::default();
        objects.into_iter().try_for_each(|object| files.put(object))?;
        self.swap(version, files)
    }

    /// Takes what differs from the version that is held.
    pub(super) fn change(&mut self, version: &str, put: Vec<Object>, deleted: &[Key]) -> io::Result<()> {
        let mut files = self.files.clone();
        put.into_iter().try_for_each(|object| files.put(object))?;
        deleted.iter().for_each(|key| files.delete(key));
        self.swap(version, files)
    }

    /// The document that a file of the folder holds, by the place that a diagnostic names.
    pub(super) fn key_at(&self, location: &str) -> Option<Key> {
        let path = location.strip_prefix(self.folder.join("current").to_str()?)?.strip_prefix('/')?;
        let path = path.split(':').next()?;
        self.files.key_at(path)
    }

    /// Writes a version beside the one in force, and swaps them. Files that are the same are linked, not written.
    fn swap(&mut self, version: &str, mut files: Files) -> io::Result<()> {
        let versions = self.folder.join("versions");
        let fresh = versions.join("new");
        remove(&fresh)?;
        let current = self.folder.join("current");
        let mut manifest = format!("{version}\n");
        for Finished { name, digest, made } in files.finish()? {
            let path = fresh.join(&*name);
            make_parent(&path)?;
            match made {
                Some(bytes) => write(&path, &bytes)?,
                None if fs::hard_link(current.join(&*name), &path).is_ok() => {}
                None => write(&path, &files.bytes(&name)?)?,
            }
            manifest.push_str(&format!("{} {name}\n", hex(&digest)));
        }
        // A file that is gone is held for a while, since somebody may be replacing it. Here nobody is.
        for name in self.files.gone_from(&files) {
            let path = fresh.join(&**name);
            make_parent(&path)?;
            write(&path, b"# deleted\n")?;
        }
        for folder in ["policies", "objects"] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(fresh.join(folder))?;
        }
        write(&fresh.join("workloads.yaml"), b"[]\n")?;
        write(&fresh.join("manifest"), manifest.as_bytes())?;

        self.number += 1;
        let name = format!("{}-{}", self.number, hex(&Sha256::digest(&manifest).into()));
        fs::rename(&fresh, versions.join(&name))?;
        let link = self.folder.join("current.new");
        remove(&link)?;
        symlink(Path::new("versions").join(&name), &link)?;
        fs::rename(&link, &current)?;
        (self.version, self.files) = (version.to_owned(), files);
        for entry in fs::read_dir(&versions)?.flatten().filter(|entry| entry.file_name() != *name) {
            remove(&entry.path())?;
        }
        Ok(())
    }

    fn load(&mut self) -> io::Result<()> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let link = fs::read_link(self.folder.join("current"))?;
        let name = link.file_name().and_then(|name| name.to_str()).ok_or_else(|| damaged("the link"))?;
        let (number, digest) = name.split_once('-').ok_or_else(|| damaged("the link"))?;
        self.number = number.parse().map_err(|_| damaged("the link"))?;
        let current = self.folder.join("versions").join(name);
        let manifest = fs::read_to_string(current.join("manifest")).map_err(|_| damaged("the manifest is away"))?;
        if hex(&Sha256::digest(&manifest).into()) != digest {
            return Err(damaged("the manifest"));
        }
        let mut lines = manifest.lines();
        let version = lines.next().unwrap_or_default().to_owned();
        let mut files = Files::default();
        for line in lines {
            let (digest, name) = line.split_once(' ').ok_or_else(|| damaged("the manifest"))?;
            let bytes = fs::read(current.join(name)).map_err(|_| damaged(name))?;
            if hex(&Sha256::digest(&bytes).into()) != digest {
                return Err(damaged(name));
            }
            files.read(&bytes)?;
        }
        files.finish()?;
        (self.version, self.files) = (version, files);
        Ok(())
    }

    fn forget(&mut self) -> io::Result<()> {
        remove(&self.folder.join("current"))
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

/// Whatever it is; nothing there is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
