//! An upgrade without a refused connection: the next process takes over the listening sockets of this one.
//!
//! Over a Unix socket (SOCK_SEQPACKET, so that messages keep their bounds) the old process sends each listener with its
//! address and network namespace, and an empty message after the last. Once the new one is ready it says [`RETIRE`]: the
//! old one accepts no more and drains. Until then it goes on, and a successor that dies leaves it as it was. What waits in
//! the kernel's queue belongs to the listener, and so to whoever accepts next.

use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, recv, recvmsg, send,
    sendmsg, socket_with,
};
use serde::{Deserialize, Serialize};

use super::namespace::here;
use crate::admin::is_permitted;

/// A listener's network namespace (device, inode) and address: what makes it the same for both processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    namespace: (u64, u64),
    address: SocketAddr,
}

/// Listeners that a predecessor has handed over, until somebody wants them.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Mutex<HashMap<Key, TcpListener>>);

/// The process before this one. It serves until it is told to retire.
#[derive(Debug)]
pub(crate) struct Predecessor(OwnedFd);

/// Waits for a successor; gone, its socket goes too.
#[derive(Debug)]
pub(crate) struct Successors {
    socket: OwnedFd,
    path: PathBuf,
    inode: u64,
}

/// What the new process says when it serves.
const RETIRE: &[u8] = b"retire";

/// What the old one answers.
const RETIRED: &[u8] = b"retired";

/// A message names one address.
const MESSAGE_MAX: usize = 512;

/// How long either side waits for the other's next word. A successor reads and compiles its policies in between.
const PATIENCE: Duration = Duration::from_secs(300);

// === impl Inherited ===

impl Inherited {
    /// A listener of this address in the namespace that the calling thread is in, if there was one.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<TcpListener> {
        let key = Key { namespace: here().ok()?, address };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
    }
}

/// Takes over what the process at this socket has; `None` where there is none.
pub(crate) fn take_over(path: &Path) -> io::Result<Option<(Inherited, Predecessor)>> {
    let socket = seqpacket()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => {}
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    permitted(&socket)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let mut handed = HashMap::new();
    while let Some((key, listener)) = receive(&socket)? {
        handed.insert(key, listener);
    }
    tracing::info!(listeners = handed.len(), "took over from the process before");
    Ok(Some((Inherited(Mutex::new(handed)), Predecessor(socket))))
}

// === impl Predecessor ===

impl Predecessor {
    /// This process serves now: the other one accepts no more, and drains.
    pub(crate) fn retire(self) -> io::Result<()> {
        send(&self.0, RETIRE, SendFlags::NOSIGNAL)?;
        let mut answer = [0; MESSAGE_MAX];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        match answer.get(..length) {
            Some(RETIRED) => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

// === impl Successors ===

impl Successors {
    /// Listens at this path, in place of whoever did before.
    pub(crate) fn expect(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = seqpacket()?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        listen(&socket, 1)?;
        Ok(Self { socket, path: path.to_owned(), inode: fs::metadata(path)?.ino() })
    }

    /// Serves one successor after the other on a thread of its own, until one takes over: then `retire` is called.
    pub(crate) fn serve(
        self,
        listeners: impl Fn() -> Vec<((u64, u64), TcpListener)> + Send + 'static,
        retire: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        std::thread::Builder::new().name("handover".into()).stack_size(256 * 1024).spawn(move || {
            loop {
                let handed = accept_with(&self.socket, SocketFlags::CLOEXEC)
                    .map_err(io::Error::from)
                    .and_then(|successor| hand_over(successor, &listeners()));
                match handed {
                    Ok(successor) => {
                        tracing::info!("the next process serves");
                        retire();
                        // It waits for no more than this word.
                        let _ = send(&successor, RETIRED, SendFlags::NOSIGNAL);
                        return;
                    }
                    Err(error) => tracing::warn!(%error, "a handover has failed: this process goes on"),
                }
            }
        })?;
        Ok(())
    }
}

impl Drop for Successors {
    fn drop(&mut self) {
        // The successor may have put its own there.
        if fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Sends everything and waits for the word. Gives the successor back, which waits for an answer.
fn hand_over(successor: OwnedFd, listeners: &[((u64, u64), TcpListener)]) -> io::Result<OwnedFd> {
    permitted(&successor)?;
    set_socket_timeout(&successor, Timeout::Recv, Some(PATIENCE))?;
    set_socket_timeout(&successor, Timeout::Send, Some(PATIENCE))?;
    for (namespace, listener) in listeners {
        let key = Key { namespace: *namespace, address: listener.local_addr()? };
        let text = serde_json::to_vec(&key)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let fds = [listener.as_fd()];
        rights.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&successor, &[IoSlice::new(&text)], &mut rights, SendFlags::NOSIGNAL)?;
    }
    send(&successor, b"{}", SendFlags::NOSIGNAL)?;
    let mut word = [0; MESSAGE_MAX];
    let (length, _) = recv(&successor, &mut word, RecvFlags::empty())?;
    match word.get(..length) {
        Some(RETIRE) => Ok(successor),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the successor is gone")),
    }
}

/// One listener; `None` after the last.
fn receive(from: &OwnedFd) -> io::Result<Option<(Key, TcpListener)>> {
    let mut text = [0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let text = text.get(..received.bytes).unwrap_or_default();
    if text == b"{}" {
        return Ok(None);
    }
    let key = serde_json::from_slice(text)?;
    let fd = rights.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let listener = TcpListener::from(fd.ok_or(io::ErrorKind::InvalidData)?);
    Ok(Some((key, listener)))
}

fn seqpacket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Whoever holds the listeners holds the traffic: the other side must be root or the proxy's own user.
fn permitted(peer: &OwnedFd) -> io::Result<()> {
    if is_permitted(peer) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the other side is neither root nor the proxy's own user"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;
    use std::sync::mpsc;

    use super::*;

    fn serve(path: &Path) -> (SocketAddr, TcpListener, mpsc::Receiver<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, handed) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
        let (told, retired) = mpsc::channel();
        let namespace = here().unwrap();
        let clones = move || vec![(namespace, handed.try_clone().unwrap())];
        Successors::expect(path).unwrap().serve(clones, move || told.send(()).unwrap()).unwrap();
        (address, listener, retired)
    }

    #[test]
    fn what_waits_is_served_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover.sock");
        assert!(take_over(&path).unwrap().is_none(), "nobody is there");
        let (address, old, retired) = serve(&path);
        let mut waiting = TcpStream::connect(address).unwrap();
        let (handed, predecessor) = take_over(&path).unwrap().unwrap();
        assert!(handed.take("127.0.0.1:1".parse().unwrap()).is_none());
        let new = handed.take(address).unwrap();
        assert!(handed.take(address).is_none());
        predecessor.retire().unwrap();
        retired.recv_timeout(Duration::from_secs(10)).unwrap();
        drop(old);
        let (mut accepted, _) = new.accept().unwrap();
        accepted.write_all(b"here").unwrap();
        drop(accepted);
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "here");
    }

    #[test]
    fn a_successor_that_dies_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover.sock");
        let (address, _old, retired) = serve(&path);
        for _ in 0..2 {
            drop(take_over(&path).unwrap().unwrap());
        }
        assert!(retired.try_recv().is_err());
        let (handed, predecessor) = take_over(&path).unwrap().unwrap();
        assert!(handed.take(address).is_some());
        predecessor.retire().unwrap();
        retired.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
