//! The thread that serves the admin API, and its bounds: whoever is slow, greedy or many is cut off.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, oneshot};

use super::Admin;
use super::route::{self, Door};
use super::socket::{self, Bound, SocketPath};
use crate::intercept::Inherited;

/// The running server. Dropping it ends it and removes its socket.
#[derive(Debug)]
pub(crate) struct AdminServer {
    tcp: Option<SocketAddr>,
    /// For the next process.
    listener: Option<TcpListener>,
    bound: Bound,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Binds both doors and serves them on a thread of its own. SIGHUP reloads and opens the access log again.
///
/// `handed`: what a process before this one has handed over; its socket file is replaced.
pub(crate) fn start(
    tcp: Option<SocketAddr>,
    socket: &SocketPath,
    admin: Admin,
    handed: Option<&Inherited>,
) -> io::Result<AdminServer> {
    let taken = |address| handed.and_then(|handed| handed.take(address));
    let tcp = tcp.map(|address| taken(address).map_or_else(|| TcpListener::bind(address), Ok)).transpose()?;
    if let Some(listener) = &tcp {
        listener.set_nonblocking(true)?;
    }
    let address = tcp.as_ref().map(TcpListener::local_addr).transpose()?;
    let listener = tcp.as_ref().map(TcpListener::try_clone).transpose()?;
    let (unix, bound) = socket::bind(socket, handed.is_some())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (stop, stopped) = oneshot::channel();
    let serve = move || {
        runtime.block_on(async {
            if let Err(error) = run(tcp, unix, admin, stopped).await {
                tracing::error!(%error, "the admin server has ended");
            }
        });
    };
    let thread = std::thread::Builder::new().name("admin".into()).spawn(serve)?;
    Ok(AdminServer { tcp: address, listener, bound, stop: Some(stop), thread: Some(thread) })
}

impl AdminServer {
    /// The address of the TCP door, where there is one.
    pub(crate) fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// The TCP door itself, for the next process.
    pub(crate) fn listener(&self) -> Option<TcpListener> {
        self.listener.as_ref()?.try_clone().ok()
    }

    /// The Unix socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.bound.path
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread had ended before");
        }
    }
}

async fn run(
    tcp: Option<TcpListener>,
    unix: UnixListener,
    admin: Admin,
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let unix = tokio::net::UnixListener::from_std(unix)?;
    let tcp = tcp.map(tokio::net::TcpListener::from_std).transpose()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let seats = Seats::default();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            _ = hangup.recv() => {
                admin.reloader.request();
                admin.recorder.reopen_log();
            }
            accepted = unix.accept() => match accepted {
                Ok((stream, _)) if socket::is_permitted(&stream) => seat(&seats.socket, stream, &admin, Door::Socket),
                Ok(_) => tracing::warn!("a peer on the admin socket is neither root nor the proxy's own user"),
                Err(error) => pause(&error).await,
            },
            accepted = accept(tcp.as_ref()) => match accepted {
                Ok((stream, peer)) => {
                    let seats = if is_local(&stream, peer) { &seats.local } else { &seats.remote };
                    seat(seats, stream, &admin, Door::Tcp);
                }
                Err(error) => pause(&error).await,
            },
        }
    }
}

/// How many may sit at once, each sort apart: an application that takes every seat of its own takes none of the
/// kubelet's, nor of the operator's.
struct Seats {
    socket: Arc<Semaphore>,
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
}

impl Default for Seats {
    fn default() -> Self {
        let seats = |count| Arc::new(Semaphore::new(count));
        Self { socket: seats(16), local: seats(32), remote: seats(64) }
    }
}

async fn accept(listener: Option<&tokio::net::TcpListener>) -> io::Result<(tokio::net::TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Loopback, or the pod calling its own address.
fn is_local(stream: &tokio::net::TcpStream, peer: SocketAddr) -> bool {
    peer.ip().is_loopback() || stream.local_addr().is_ok_and(|local| local.ip() == peer.ip())
}

/// Out of descriptors, as a rule: trying again at once would spin.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept on the admin API");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn seat<S>(seats: &Arc<Semaphore>, stream: S, admin: &Admin, door: Door)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(seat) = Arc::clone(seats).try_acquire_owned() else { return };
    let admin = admin.clone();
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let admin = admin.clone();
            async move { Ok::<_, std::convert::Infallible>(route::answer(&admin, door, &request).await) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_headers(64).max_buf_size(HEAD_BYTES);
        let connection = server.serve_connection(TokioIo::new(stream), service);
        // What goes wrong here concerns the client alone.
        let _ = tokio::time::timeout(CONNECTION_TIME, connection).await;
        drop(seat);
    });
}

/// A head that takes longer is an attempt to keep a seat.
const HEAD_TIME: Duration = Duration::from_secs(5);

/// The longest life of a connection, idle or not: scrapers and probes connect again.
const CONNECTION_TIME: Duration = Duration::from_secs(60);

/// Bytes of one head.
const HEAD_BYTES: usize = 16 * 1024;
