//! HTTP servers within bounds: whoever is slow, greedy or many is cut off.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// An answer.
pub(crate) type Answer = Response<Full<Bytes>>;

/// Answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// One request; its body is not read yet.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Serves until the task is ended; with TLS where there is an acceptor.
pub(crate) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, handler: impl Handler) {
    let (seats, handler) = (Arc::new(Semaphore::new(SEATS)), Arc::new(handler));
    loop {
        // Whoever comes when all seats are taken waits in the kernel's queue.
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (tls, handler) = (tls.clone(), Arc::clone(&handler));
        tokio::spawn(async move {
            let _seat = seat;
            let served = match tls {
                None => converse(stream, &*handler).await,
                Some(tls) => match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, &*handler).await,
                    Ok(Err(error)) => Err(error),
                    Err(_) => Err(io::Error::other("the TLS handshake took too long")),
                },
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, handler: &impl Handler) -> io::Result<()> {
    let service = service_fn(|request| async { Ok::<_, std::convert::Infallible>(handler.answer(request).await) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

/// The whole body of a request, within bounds.
///
/// # Errors
/// The answer to one that is too long or too slow.
pub(crate) async fn body(request: Request<Incoming>) -> Result<Bytes, Answer> {
    let collected = tokio::time::timeout(BODY_TIME, Limited::new(request.into_body(), BODY).collect());
    match collected.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(text(StatusCode::PAYLOAD_TOO_LARGE, format!("the body cannot be read: {error}\n"))),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body is too slow\n")),
    }
}

/// An answer in words.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    of_type(status, "text/plain; charset=utf-8", text.into())
}

/// An answer as JSON.
pub(crate) fn json(bytes: Vec<u8>) -> Answer {
    of_type(StatusCode::OK, "application/json", bytes.into())
}

/// An answer of a media type.
pub(crate) fn of_type(status: StatusCode, media_type: &'static str, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// Connections at once.
const SEATS: usize = 256;

/// After an `accept` that failed, mostly for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Until a head is whole. The API server keeps idle connections for 90 s: it, not this side, ends them.
const IDLE: Duration = Duration::from_secs(120);

/// Bytes of a head.
const HEAD: usize = 64 << 10;

/// Bytes of a body: a review holds an object twice, and etcd takes objects of up to 1.5 MB.
const BODY: usize = 8 << 20;

/// Until a body is whole.
const BODY_TIME: Duration = Duration::from_secs(10);
