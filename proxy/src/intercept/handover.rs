//! An upgrade without a refused connection: the next process takes over the listening sockets of this one.
//!
//! Over a Unix socket (SOCK_SEQPACKET, so that messages keep their bounds) the next process says where it lives, and is
//! given the admin port if that is where the old one lives too. When it can judge it asks for the listeners, each of which
//! comes with its address and network namespace, and once it accepts it says [`RETIRE`]: the old one accepts no more and
//! drains. Until then the old one goes on, and a successor that dies leaves it as it was. What waits in the kernel's queue
//! belongs to the listener, and so to whoever accepts next.

use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Device and inode of a network namespace.
type NamespaceId = (u64, u64);

/// A listener's network namespace and address: what makes it the same for both processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Key {
    namespace: NamespaceId,
    address: SocketAddr,
}

/// Listeners that a predecessor has handed over, until somebody wants them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited(Arc<Mutex<HashMap<Key, TcpListener>>>);

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

/// Where the next process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Successor {
    /// In the network namespace of this one: whoever started it knows that this one ends.
    Here,
    /// In another one, as the next pod of a `DaemonSet` does: whoever runs this one ends it.
    Elsewhere,
}

/// What the new process says first.
#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    version: u32,
    namespace: NamespaceId,
}

/// Of what both sides speak. A process that speaks another one takes nothing over.
const VERSION: u32 = 1;

/// What the new process says when it can judge.
const LISTENERS: &[u8] = b"listeners";

/// What it says when it serves.
const RETIRE: &[u8] = b"retire";

/// What the old one answers.
const RETIRED: &[u8] = b"retired";

/// After the last listener.
const LAST: &[u8] = b"{}";

/// A message names one address.
const MESSAGE_MAX: usize = 512;

/// How long either side waits for the other's next word, while neither has anything else to do.
const PATIENCE: Duration = Duration::from_secs(300);

// === impl Inherited ===

impl Inherited {
    /// A listener of this address in the namespace that the calling thread is in, if there was one.
    pub(crate) fn take(&self, address: SocketAddr) -> Option<TcpListener> {
        let key = Key { namespace: here().ok()?, address };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key)
    }
}

// === impl Predecessor ===

impl Predecessor {
    /// Whoever serves at this socket, after it has handed over its admin port if that is in the way; `None` where there
    /// is nobody.
    pub(crate) fn find(path: &Path, inherited: &Inherited) -> io::Result<Option<Self>> {
        let socket = seqpacket()?;
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        permitted(&socket)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        let greeting = Greeting { version: VERSION, namespace: here()? };
        send(&socket, &serde_json::to_vec(&greeting)?, SendFlags::NOSIGNAL)?;
        let predecessor = Self(socket);
        predecessor.receive_all(inherited)?;
        Ok(Some(predecessor))
    }

    /// This process can judge: takes over every listener that there is now. The other one goes on accepting.
    pub(crate) fn hand_over(&self, inherited: &Inherited) -> io::Result<usize> {
        send(&self.0, LISTENERS, SendFlags::NOSIGNAL)?;
        self.receive_all(inherited)
    }

    /// This process serves now: the other one accepts no more, and drains.
    pub(crate) fn retire(self) -> io::Result<()> {
        send(&self.0, RETIRE, SendFlags::NOSIGNAL)?;
        expect_word(&self.0, RETIRED)
    }

    fn receive_all(&self, inherited: &Inherited) -> io::Result<usize> {
        let mut received = 0;
        while let Some((key, listener)) = receive(&self.0)? {
            inherited.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, listener);
            received += 1;
        }
        Ok(received)
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
    /// `admin` goes to a successor that lives here, `listeners` to everyone that can judge.
    pub(crate) fn serve(
        self,
        admin: Option<TcpListener>,
        listeners: impl Fn() -> Vec<(NamespaceId, TcpListener)> + Send + 'static,
        retire: impl FnOnce(Successor) + Send + 'static,
    ) -> io::Result<()> {
        std::thread::Builder::new().name("handover".into()).stack_size(256 * 1024).spawn(move || {
            loop {
                let handed = accept_with(&self.socket, SocketFlags::CLOEXEC)
                    .map_err(io::Error::from)
                    .and_then(|successor| Ok((hand_over(&successor, admin.as_ref(), &listeners)?, successor)));
                match handed {
                    Ok((lives, successor)) => {
                        tracing::info!(?lives, "the next process serves");
                        retire(lives);
                        // Gone before the next one stands there.
                        drop(self);
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

/// Sends everything as it is asked for, until the successor serves.
fn hand_over(
    successor: &OwnedFd,
    admin: Option<&TcpListener>,
    listeners: impl Fn() -> Vec<(NamespaceId, TcpListener)>,
) -> io::Result<Successor> {
    permitted(successor)?;
    set_socket_timeout(successor, Timeout::Send, Some(PATIENCE))?;
    set_socket_timeout(successor, Timeout::Recv, Some(PATIENCE))?;
    let mut word = [0; MESSAGE_MAX];
    let (length, _) = recv(successor, &mut word, RecvFlags::empty())?;
    let Greeting { version, namespace } = serde_json::from_slice(word.get(..length).unwrap_or_default())?;
    if version != VERSION {
        return Err(io::Error::new(io::ErrorKind::Unsupported, format!("it speaks version {version}, not {VERSION}")));
    }
    let own = here()?;
    let lives = if namespace == own { Successor::Here } else { Successor::Elsewhere };
    let admin = admin.filter(|_| lives == Successor::Here);
    send_all(successor, admin.map(|admin| (own, admin)))?;
    // It may wait for policies for as long as it likes; that it is gone shows at once.
    set_socket_timeout(successor, Timeout::Recv, None)?;
    expect_word(successor, LISTENERS)?;
    set_socket_timeout(successor, Timeout::Recv, Some(PATIENCE))?;
    send_all(successor, listeners().iter().map(|(namespace, listener)| (*namespace, listener)))?;
    expect_word(successor, RETIRE)?;
    Ok(lives)
}

fn expect_word(from: &OwnedFd, expected: &[u8]) -> io::Result<()> {
    let mut word = [0; MESSAGE_MAX];
    let (length, _) = recv(from, &mut word, RecvFlags::empty())?;
    match word.get(..length) {
        Some(word) if word == expected => Ok(()),
        Some([]) | None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process is gone")),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn send_all<'a>(to: &OwnedFd, listeners: impl IntoIterator<Item = (NamespaceId, &'a TcpListener)>) -> io::Result<()> {
    for (namespace, listener) in listeners {
        let text = serde_json::to_vec(&Key { namespace, address: listener.local_addr()? })?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let fds = [listener.as_fd()];
        rights.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(to, &[IoSlice::new(&text)], &mut rights, SendFlags::NOSIGNAL)?;
    }
    send(to, LAST, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One listener; `None` after the last.
fn receive(from: &OwnedFd) -> io::Result<Option<(Key, TcpListener)>> {
    let mut text = [0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut text)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let text = text.get(..received.bytes).unwrap_or_default();
    if text == LAST {
        return Ok(None);
    }
    if text.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the process before has ended, or refuses"));
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

    struct Site {
        folder: tempfile::TempDir,
        admin: TcpListener,
        listener: TcpListener,
        retired: mpsc::Receiver<Successor>,
    }

    impl Site {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let [admin, listener] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
            let (told, retired) = mpsc::channel();
            let (namespace, handed) = (here().unwrap(), listener.try_clone().unwrap());
            let clones = move || vec![(namespace, handed.try_clone().unwrap())];
            let successors = Successors::expect(&folder.path().join("handover.sock")).unwrap();
            let retire = move |lives| told.send(lives).unwrap();
            successors.serve(Some(admin.try_clone().unwrap()), clones, retire).unwrap();
            Self { folder, admin, listener, retired }
        }

        fn find(&self) -> (Predecessor, Inherited) {
            let inherited = Inherited::default();
            let path = self.folder.path().join("handover.sock");
            (Predecessor::find(&path, &inherited).unwrap().unwrap(), inherited)
        }

        fn lives(&self) -> Successor {
            self.retired.recv_timeout(Duration::from_secs(10)).unwrap()
        }
    }

    #[test]
    fn what_waits_is_served_by_the_next() {
        let site = Site::new();
        let (admin, address) = (site.admin.local_addr().unwrap(), site.listener.local_addr().unwrap());
        let mut waiting = TcpStream::connect(address).unwrap();
        let (predecessor, inherited) = site.find();
        assert!(inherited.take(admin).is_some() && inherited.take(admin).is_none());
        assert!(inherited.take(address).is_none(), "not before it is asked for");
        assert_eq!(predecessor.hand_over(&inherited).unwrap(), 1);
        let new = inherited.take(address).unwrap();
        predecessor.retire().unwrap();
        assert_eq!(site.lives(), Successor::Here);
        drop(site);
        let (mut accepted, _) = new.accept().unwrap();
        accepted.write_all(b"here").unwrap();
        drop(accepted);
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "here");
    }

    #[test]
    fn nobody_is_found_where_nobody_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Predecessor::find(&folder.path().join("none.sock"), &Inherited::default()).unwrap().is_none());
    }

    #[test]
    fn a_successor_that_dies_changes_nothing() {
        let site = Site::new();
        drop(site.find());
        let (predecessor, inherited) = site.find();
        predecessor.hand_over(&inherited).unwrap();
        drop(predecessor);
        assert!(site.retired.try_recv().is_err());
        let (predecessor, inherited) = site.find();
        assert_eq!(predecessor.hand_over(&inherited).unwrap(), 1);
        predecessor.retire().unwrap();
        assert_eq!(site.lives(), Successor::Here);
    }

    #[test]
    fn words_out_of_order_and_of_another_version_hand_nothing_over() {
        let site = Site::new();
        let here = here().unwrap();
        let greeting = |version| serde_json::to_vec(&Greeting { version, namespace: here }).unwrap();
        for words in [vec![greeting(VERSION + 1)], vec![RETIRE.to_vec()], vec![greeting(VERSION), RETIRE.to_vec()]] {
            let socket = seqpacket().unwrap();
            connect(&socket, &SocketAddrUnix::new(site.folder.path().join("handover.sock")).unwrap()).unwrap();
            set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10))).unwrap();
            for word in words {
                send(&socket, &word, SendFlags::NOSIGNAL).unwrap();
            }
            // What comes is at most the admin port, and then the end.
            while let Ok(Some((key, _))) = receive(&socket) {
                assert_eq!(key.address, site.admin.local_addr().unwrap());
            }
            assert_eq!(receive(&socket).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(site.retired.try_recv().is_err());
        drop(site.find());
    }
}
