//! The service that `orders` runs, and what it saw.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::time::{Interval, interval};

/// What reached the service, however it got there.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<(IpAddr, String)>>>,
}

impl Seen {
    /// Connections accepted.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests, each with the address that it came from.
    pub(super) fn requests(&self) -> Vec<(IpAddr, String)> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Serves on a thread of its own for as long as the process lives.
pub(super) fn serve(listener: TcpListener) -> io::Result<Seen> {
    let seen = Seen::default();
    let told = seen.clone();
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("orders".into()).spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            while let Ok((stream, peer)) = listener.accept().await {
                told.connections.fetch_add(1, Ordering::Relaxed);
                let told = told.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let line = format!("{} {}", request.method(), request.uri());
                    told.requests.lock().unwrap_or_else(PoisonError::into_inner).push((peer.ip(), line));
                    std::future::ready(answer(&request))
                });
                tokio::spawn(async move {
                    // A client that goes away is no news here.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
    })?;
    Ok(seen)
}

fn answer(request: &Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let answer = match request.uri().path() {
        "/feed" => Answer::Feed(interval(Duration::from_millis(200))),
        path => Answer::Text(Some(Bytes::from(format!("this is {path}\n")))),
    };
    let mut response = Response::new(answer);
    if request.method() == http::Method::POST {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

/// A short text, or a feed that never ends.
enum Answer {
    Text(Option<Bytes>),
    Feed(Interval),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Feed(ticks) => {
                ticks.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(b"order shipped\n")))))
            }
        }
    }
}
