//! Connections of HBONE to other proxies: shared by all tunnels of one identity to one destination.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use hashbrown::HashMap;
use tokio::sync::Mutex;

/// Which connection: from whom, through which namespace, to whom, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Way {
    pub(super) own: Arc<str>,
    pub(super) pod: Option<Arc<str>>,
    pub(super) peer: Arc<str>,
    pub(super) proxy: SocketAddr,
}

/// What is open.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    held: RefCell<HashMap<Way, Rc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    open: RefCell<Vec<Shared>>,
    /// Locked while somebody dials, so that a burst of connections opens one.
    dialling: Mutex<()>,
}

/// One connection, and how many tunnels are in it. Tunnels may be moved to another thread; a connection is not.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) sender: SendRequest<Bytes>,
    load: Arc<Load>,
}

#[derive(Debug)]
struct Load {
    tunnels: AtomicUsize,
    used: Lock<Instant>,
    ended: AtomicBool,
}

/// A tunnel's place in its connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Load>);

impl Pool {
    /// A connection with fewer than `most` tunnels and room for one more, and the place in it: one that is open, or the one that `dial` opens.
    pub(super) async fn acquire<E>(
        &self,
        way: &Way,
        most: usize,
        dial: impl AsyncFnOnce() -> Result<Shared, E>,
    ) -> Result<(SendRequest<Bytes>, Place), E> {
        let entry = self.entry(way);
        if let Some(found) = entry.find(most) {
            return Ok(found);
        }
        let _dialling = entry.dialling.lock().await;
        // Somebody else may have dialled while we waited for the lock.
        if let Some(found) = entry.find(most) {
            return Ok(found);
        }
        let shared = dial().await?;
        entry.open.borrow_mut().push(shared.clone());
        Ok(shared.place())
    }

    fn entry(&self, way: &Way) -> Rc<Entry> {
        let mut held = self.held.borrow_mut();
        let fresh = || Rc::new(Entry { open: RefCell::default(), dialling: Mutex::new(()) });
        Rc::clone(held.entry(way.clone()).or_insert_with(fresh))
    }

    /// Forgets connections that carry nothing and took nothing for a while, and those that have ended.
    pub(crate) fn sweep(&self, idle: Duration) {
        self.held.borrow_mut().retain(|_, entry| {
            entry
                .open
                .borrow_mut()
                .retain(|shared| !shared.load.has_ended() && (shared.load.tunnels() > 0 || shared.load.is_fresh(idle)));
            // Whoever dials holds it too.
            Rc::strong_count(entry) > 1 || !entry.open.borrow().is_empty()
        });
    }
}

impl Entry {
    fn find(&self, most: usize) -> Option<(SendRequest<Bytes>, Place)> {
        let mut open = self.open.borrow_mut();
        open.retain(|shared| !shared.load.has_ended());
        open.iter().find(|shared| shared.has_room(most)).map(Shared::place)
    }
}

impl Shared {
    /// A connection that carries nothing yet, and what is to be told of its end.
    pub(super) fn new(sender: SendRequest<Bytes>) -> (Self, impl FnOnce()) {
        let load =
            Load { tunnels: AtomicUsize::new(0), used: Lock::new(Instant::now()), ended: AtomicBool::new(false) };
        let load = Arc::new(load);
        let told = Arc::clone(&load);
        (Self { sender, load }, move || told.ended.store(true, Ordering::Relaxed))
    }

    fn has_room(&self, most: usize) -> bool {
        self.load.tunnels() < most.min(self.sender.current_max_send_streams())
    }

    fn place(&self) -> (SendRequest<Bytes>, Place) {
        self.load.tunnels.fetch_add(1, Ordering::Relaxed);
        self.load.touch();
        (self.sender.clone(), Place(Arc::clone(&self.load)))
    }
}

impl Load {
    fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn is_fresh(&self, idle: Duration) -> bool {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < idle
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
        self.0.touch();
    }
}
