//! One connection of HTTP/2 over a Unix socket.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::body::Body;
use tonic::codegen::Service;

/// What calls go through.
#[derive(Clone, Debug)]
pub(super) struct Channel(SendRequest<Body>);

/// Why there is no connection, or no call.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum Broken {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

impl Channel {
    pub(super) async fn connect(socket: &Path) -> Result<Self, Broken> {
        let stream = UnixStream::connect(socket).await?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the SPIRE agent ends");
            }
        });
        Ok(Self(sender))
    }

    /// Where calls go: the connection is there already.
    pub(super) fn origin() -> Uri {
        Uri::from_static("http://spire-agent")
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
