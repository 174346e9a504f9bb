//! The backend where nginx cannot be one: it reads bodies, echoes gRPC messages, and switches to WebSocket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::copy;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};

use crate::floor::Local;
use crate::process::Failure;

/// What RFC 6455 wants in answer to the one key that the load sends.
const ACCEPT: &str = "ICX+Yqv66kxgM0FcWaLWlFLwTAI=";

/// Answers until it is ended: HTTP/2 with prior knowledge, or HTTP/1.1.
pub(crate) fn serve(is_http2: bool, listen: SocketAddr) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let io = TokioIo::new(stream);
            tokio::task::spawn_local(async move {
                // A connection that breaks off is its client's business; the load counts what it misses.
                let _ = if is_http2 {
                    hyper::server::conn::http2::Builder::new(Local).serve_connection(io, service_fn(answer)).await
                } else {
                    let connection =
                        hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(answer));
                    connection.with_upgrades().await
                };
            });
        }
    })
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Answer>, Infallible> {
    let is = |name: &header::HeaderName, value: &str| request.headers().get(name).is_some_and(|given| given == value);
    if is(&header::UPGRADE, "websocket") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::task::spawn_local(async move {
            let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await?));
            copy(&mut from, &mut to).await?;
            Ok::<(), Failure>(())
        });
        let mut response = Response::new(Answer::Nothing);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(ACCEPT));
        return Ok(response);
    }
    if is(&header::CONTENT_TYPE, "application/grpc") {
        let mut response = Response::new(Answer::Echo(request.into_body()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        return Ok(response);
    }
    if request.method() == Method::POST {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
    }
    Ok(Response::new(Answer::Nothing))
}

enum Answer {
    Nothing,
    /// What was sent, with the trailers of a call that went well.
    Echo(Incoming),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Echo(body) = &mut *self else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        Poll::Ready(match frame {
            Some(frame) => Some(frame),
            None => {
                *self = Self::Nothing;
                let trailers = HeaderMap::from_iter([(
                    header::HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )]);
                Some(Ok(Frame::trailers(trailers)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}
