//! HTTP/2 connections to upstreams: one for each source identity and destination, shared by its streams.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hashbrown::HashMap;
use tokio::sync::Mutex;

use super::{STREAM_WINDOW, UPSTREAM_WINDOW};
use crate::connection::Session;
use crate::identity::PoolKey;
use crate::observe::Limit;

/// What is open.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    held: RefCell<HashMap<PoolKey, Rc<Entry>>>,
}

#[derive(Debug)]
struct Entry {
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Locked while somebody dials, so that a burst of streams opens one connection.
    dialling: Mutex<()>,
    used: Cell<Instant>,
}

/// Why there is no upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoUpstream {
    /// It could not be reached.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// It does not speak HTTP/2.
    #[error("no HTTP/2: {0}")]
    Handshake(#[from] h2::Error),
}

impl Pool {
    /// A connection that takes one more stream now, if it is asked before anything else happens: one that is closed, or
    /// closing, is not given.
    pub(super) async fn acquire(
        &self,
        session: &Session,
        key: &PoolKey,
        now: Instant,
    ) -> Result<SendRequest<Bytes>, NoUpstream> {
        let entry = self.entry(key);
        entry.used.set(now);
        let held = entry.sender.borrow().clone();
        if let Some(sender) = held
            && let Ok(ready) = sender.ready().await
        {
            return Ok(ready);
        }
        let dialling = entry.dialling.lock().await;
        // Somebody else may have dialled while we waited for the lock.
        let held = entry.sender.borrow().clone();
        if let Some(sender) = held
            && let Some(Ok(ready)) = now_or_never(sender.ready())
        {
            return Ok(ready);
        }
        entry.sender.take();
        let stream = session.dial().await?;
        let limits = &session.worker.limits;
        let handshake = Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(UPSTREAM_WINDOW)
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .enable_push(false)
            .handshake(stream);
        let (sender, connection) = match tokio::time::timeout(limits.connect_timeout, handshake).await {
            Ok(done) => done?,
            Err(_) => {
                session.worker.recorder.refused_connection(Limit::ConnectTimeout);
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            }
        };
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        entry.sender.replace(Some(sender.clone()));
        drop(dialling);
        Ok(sender.ready().await?)
    }

    fn entry(&self, key: &PoolKey) -> Rc<Entry> {
        let mut held = self.held.borrow_mut();
        if let Some(entry) = held.get(key) {
            return Rc::clone(entry);
        }
        let entry =
            Rc::new(Entry { sender: RefCell::new(None), dialling: Mutex::new(()), used: Cell::new(Instant::now()) });
        held.insert(key.clone(), Rc::clone(&entry));
        entry
    }

    /// Forgets connections that took no stream for a while: with the last sender and the last stream gone they close.
    pub(crate) fn sweep(&self, idle: Duration) {
        self.held.borrow_mut().retain(|_, entry| entry.used.get().elapsed() < idle);
    }
}

/// The answer of a future that has one already.
fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
