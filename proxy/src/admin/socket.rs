//! The Unix socket of the admin API: where it stands, and who may speak to it.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

/// Where the socket stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketPath {
    /// In the runtime folder of whoever runs the proxy; another proxy may have it already, then one of its own beside it.
    Default,
    /// Exactly here, or the start fails.
    At(PathBuf),
}

impl SocketPath {
    /// The path where `eastwall explain` looks too.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Default => folder().join("admin.sock"),
            Self::At(path) => path.clone(),
        }
    }
}

/// A bound socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Where it stands.
    pub(crate) path: PathBuf,
    inode: u64,
}

impl Drop for Bound {
    fn drop(&mut self) {
        // The next process may have put its own there.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Whether it is still there makes no difference to a process that ends.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Binds the socket for its owner alone. `replaces`: in place of a process that is about to end.
pub(crate) fn bind(wanted: &SocketPath, replaces: bool) -> io::Result<(UnixListener, Bound)> {
    let path = wanted.path();
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
    {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        if *wanted == SocketPath::Default {
            owned(folder)?;
        }
    }
    match (listen(&path, replaces), wanted) {
        (Err(error), SocketPath::Default) if error.kind() == io::ErrorKind::AddrInUse => {
            let own = folder().join(format!("admin-{}.sock", std::process::id()));
            tracing::warn!(taken = %path.display(), own = %own.display(), "another proxy has the default admin socket");
            listen(&own, false)
        }
        (result, _) => result,
    }
}

/// The default folder may stand where anybody can make one: it must be ours, and nobody else's to write to.
fn owned(folder: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    let ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
    if ours && metadata.permissions().mode() & 0o022 == 0 {
        return Ok(());
    }
    let message = format!("{} belongs to somebody else or can be written by others: name a socket", folder.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

fn listen(path: &Path, replaces: bool) -> io::Result<(UnixListener, Bound)> {
    if let Ok(metadata) = fs::symlink_metadata(path) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is no socket", path.display())));
        }
        if !replaces && UnixStream::connect(path).is_ok() {
            return Err(io::Error::from(io::ErrorKind::AddrInUse));
        }
        // Left behind by a process that was killed, or is to be replaced.
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let bound = Bound { path: path.to_owned(), inode: fs::symlink_metadata(path)?.ino() };
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((listener, bound))
}

/// Whether the peer is root or the proxy's own user. The mode of the file says the same; a peer that was handed an open
/// socket, or a folder that was opened to others, does not get past this.
pub(crate) fn is_permitted(stream: impl AsFd) -> bool {
    peer_uid(&stream).is_ok_and(|peer| may_speak(peer, rustix::process::geteuid().as_raw()))
}

/// The uid of a peer. One of another process namespace, as the container runtime is for a proxy in a container, has no
/// process id here, which `rustix` takes for an error.
pub(crate) fn peer_uid(stream: &impl AsFd) -> io::Result<u32> {
    Ok(getsockopt(stream, sockopt::PeerCredentials)?.uid())
}

const fn may_speak(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

fn folder() -> PathBuf {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return "/run/eastwall".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(runtime) if Path::new(&runtime).is_absolute() => Path::new(&runtime).join("eastwall"),
        _ => format!("/tmp/eastwall-{}", user.as_raw()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_proxy_itself_may_speak() {
        for (peer, own, expected) in [(0, 1337, true), (1337, 1337, true), (1000, 1337, false), (1000, 0, false)] {
            assert_eq!(may_speak(peer, own), expected, "{peer} to {own}");
        }
    }

    #[test]
    fn only_the_owner_can_open_it_and_it_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/admin.sock");
        let (_listener, bound) = bind(&SocketPath::At(path.clone()), false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_others_write_to_is_none_for_the_default_socket() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("own");
        fs::create_dir(&own).unwrap();
        std::os::unix::fs::symlink(&own, folder.path().join("link")).unwrap();
        for (mode, expected) in [(0o700, true), (0o755, true), (0o775, false), (0o1777, false)] {
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(owned(&own).is_ok(), expected, "{mode:o}");
        }
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(owned(&folder.path().join("link")).is_err(), "a link may lead anywhere");
    }

    #[test]
    fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = SocketPath::At(folder.path().join("admin.sock"));
        drop(UnixListener::bind(at.path()).unwrap());
        let held = bind(&at, false).unwrap();
        assert_eq!(bind(&at, false).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let next = bind(&at, true).unwrap();
        drop(held);
        assert!(at.path().exists(), "it is another one's by now");
        drop(next);
        fs::write(at.path(), "precious").unwrap();
        assert_eq!(bind(&at, true).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(at.path()).unwrap(), b"precious");
    }
}
