//! HTTP/2 forwarded without looking at it: what the h2 crate, and hyper in front of it, cost any proxy that is built on them.

mod tunnels;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};

use crate::process::Failure;

/// Windows of Eastwall.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const UPSTREAM_WINDOW: u32 = 64 * STREAM_WINDOW;

/// Which library takes what clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    H2,
    Hyper,
    /// HBONE to TCP.
    Tunnels,
}

/// Forwards until it is ended, over one connection upstream.
pub(crate) fn serve(floor: Floor, listen: SocketAddr, upstream: SocketAddr) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    if floor == Floor::Tunnels {
        return runtime.block_on(serve_tunnels(listen, upstream));
    }
    runtime.block_on(async {
        let stream = TcpStream::connect(upstream).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(UPSTREAM_WINDOW)
            .handshake(stream)
            .await?;
        tokio::task::spawn_local(connection);
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (client, _) = listener.accept().await?;
            client.set_nodelay(true)?;
            let sender = sender.clone();
            tokio::task::spawn_local(async move {
                // A connection that breaks off is its client's business; the load counts what it misses.
                let _ = if floor == Floor::H2 { by_h2(client, sender).await } else { by_hyper(client, sender).await };
            });
        }
    })
}

/// With the identity that is in its folder.
async fn serve_tunnels(listen: SocketAddr, upstream: SocketAddr) -> Result<(), Failure> {
    let acceptor = tunnels::acceptor()?;
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (client, _) = listener.accept().await?;
        client.set_nodelay(true)?;
        tokio::task::spawn_local(tunnels::serve(acceptor.clone(), client, upstream));
    }
}

async fn by_h2(client: TcpStream, sender: SendRequest<Bytes>) -> Result<(), Failure> {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(client)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let sender = sender.clone();
        tokio::task::spawn_local(forward(request, respond, sender));
    }
    Ok(())
}

async fn forward(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    sender: SendRequest<Bytes>,
) -> Result<(), h2::Error> {
    let (parts, mut body) = request.into_parts();
    let is_empty = body.is_end_stream();
    let (response, mut to) = sender.ready().await?.send_request(Request::from_parts(parts, ()), is_empty)?;
    let up = async { if is_empty { Ok(()) } else { relay(&mut body, &mut to).await } };
    let down = async {
        let (parts, mut body) = response.await?.into_parts();
        let is_empty = body.is_end_stream();
        let mut to = respond.send_response(Response::from_parts(parts, ()), is_empty)?;
        if is_empty { Ok(()) } else { relay(&mut body, &mut to).await }
    };
    tokio::try_join!(up, down).map(drop)
}

async fn relay(from: &mut RecvStream, to: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    while let Some(data) = from.data().await {
        let data = data?;
        let length = data.len();
        send(data, to, from.is_end_stream()).await?;
        from.flow_control().release_capacity(length)?;
        if from.is_end_stream() {
            return Ok(());
        }
    }
    match from.trailers().await? {
        Some(trailers) => to.send_trailers(trailers),
        None => to.send_data(Bytes::new(), true),
    }
}

async fn send(mut data: Bytes, to: &mut SendStream<Bytes>, is_last: bool) -> Result<(), h2::Error> {
    loop {
        to.reserve_capacity(data.len());
        if to.capacity() == 0 && !data.is_empty() {
            poll_fn(|context| to.poll_capacity(context)).await.transpose()?;
        }
        let piece = data.split_to(to.capacity().min(data.len()));
        to.send_data(piece, is_last && data.is_empty())?;
        if data.is_empty() {
            return Ok(());
        }
    }
}

async fn by_hyper(client: TcpStream, sender: SendRequest<Bytes>) -> Result<(), Failure> {
    let service = service_fn(|request: Request<Incoming>| {
        let sender = sender.clone();
        async move {
            let (parts, mut body) = request.into_parts();
            let is_empty = http_body::Body::is_end_stream(&body);
            let (response, mut to) = sender.ready().await?.send_request(Request::from_parts(parts, ()), is_empty)?;
            if !is_empty {
                tokio::task::spawn_local(async move {
                    while let Some(frame) = body.frame().await {
                        let Ok(data) = frame?.into_data() else { continue };
                        send(data, &mut to, false).await?;
                    }
                    to.send_data(Bytes::new(), true)?;
                    Ok::<(), Failure>(())
                });
            }
            Ok::<_, h2::Error>(response.await?.map(Answer))
        }
    });
    hyper::server::conn::http2::Builder::new(Local)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(client), service)
        .await?;
    Ok(())
}

/// The body of an answer, as hyper wants it.
struct Answer(RecvStream);

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(data) = ready!(self.0.poll_data(context)) {
            let data = data?;
            self.0.flow_control().release_capacity(data.len())?;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(self.0.poll_trailers(context))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Runs hyper's tasks on this thread.
#[derive(Clone, Copy)]
pub(crate) struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
