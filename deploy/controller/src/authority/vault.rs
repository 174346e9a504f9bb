//! Where the authority keeps its roots: one value, changed by whoever saw it last.

use std::future::Future;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;

use sha2::{Digest as _, Sha256};

/// What is kept: text, with private keys in it.
pub type Kept = String;

/// What was found, and which revision of it.
#[derive(Clone)]
pub struct Found {
    /// The value.
    pub kept: Kept,
    /// Another one once the value changes.
    pub revision: String,
}

/// Why it cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Somebody else changed it meanwhile.
    #[error("somebody else keeps changing the roots of the authority")]
    Conflict,
    /// It cannot be read or written.
    #[error("the roots of the authority cannot be kept: {0}")]
    Unavailable(String),
}

/// An answer to come.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, VaultError>> + Send + 'a>>;

/// Keeps one value for all replicas.
pub trait Vault: Send + Sync + 'static {
    /// What is there.
    fn load(&self) -> Answer<'_, Option<Found>>;
    /// Puts another value in place of the revision that was found; `None`: of nothing.
    fn store(&self, kept: Kept, over: Option<String>) -> Answer<'_, ()>;
}

/// A file in a folder that only this user may enter: for a single controller.
#[derive(Clone, Debug)]
pub struct FileVault {
    folder: PathBuf,
}

impl FileVault {
    /// Keeps it in this folder, which is made.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("authority.json")
    }

    fn read(&self) -> io::Result<Option<Found>> {
        match std::fs::read_to_string(self.file()) {
            Ok(kept) => Ok(Some(Found { revision: revision(&kept), kept })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, kept: &str) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let fresh = self.folder.join("authority.json.new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(kept.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(fresh, self.file())
    }
}

impl Vault for FileVault {
    fn load(&self) -> Answer<'_, Option<Found>> {
        Box::pin(async { self.read().map_err(|error| self.unavailable(&error)) })
    }

    fn store(&self, kept: Kept, over: Option<String>) -> Answer<'_, ()> {
        Box::pin(async move {
            let found = self.read().map_err(|error| self.unavailable(&error))?;
            if found.map(|found| found.revision) != over {
                return Err(VaultError::Conflict);
            }
            self.write(&kept).map_err(|error| self.unavailable(&error))
        })
    }
}

impl FileVault {
    fn unavailable(&self, error: &io::Error) -> VaultError {
        VaultError::Unavailable(format!("`{}`: {error}", self.file().display()))
    }
}

fn revision(kept: &str) -> String {
    Sha256::digest(kept).iter().map(|byte| format!("{byte:02x}")).collect()
}
