//! HBONE forwarded without looking into it: what TLS and HTTP/2 cost any proxy that is built on these libraries.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::TlsAcceptor;

use super::{STREAM_WINDOW, UPSTREAM_WINDOW, send};
use crate::identities;
use crate::process::Failure;

/// Of what is read for one frame.
const PIECE: usize = 16 * 1024;

pub(super) async fn serve(acceptor: TlsAcceptor, client: TcpStream, upstream: SocketAddr) -> Result<(), Failure> {
    let stream = acceptor.accept(client).await?;
    let mut connection = server::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(UPSTREAM_WINDOW)
        .handshake(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        tokio::task::spawn_local(forward(request, respond, upstream));
    }
    Ok(())
}

pub(super) fn acceptor() -> Result<TlsAcceptor, Failure> {
    Ok(TlsAcceptor::from(identities::server(Path::new("."), true)?))
}

async fn forward(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    upstream: SocketAddr,
) -> Result<(), Failure> {
    let socket = TcpStream::connect(upstream).await?;
    socket.set_nodelay(true)?;
    let (from, to) = socket.into_split();
    let sending = respond.send_response(Response::new(()), false)?;
    tokio::try_join!(up(request.into_body(), to), down(from, sending)).map(drop)
}

async fn up(mut from: RecvStream, mut to: OwnedWriteHalf) -> Result<(), Failure> {
    while let Some(data) = from.data().await {
        let data = data?;
        to.write_all(&data).await?;
        from.flow_control().release_capacity(data.len())?;
    }
    Ok(to.shutdown().await?)
}

async fn down(mut from: OwnedReadHalf, mut to: SendStream<Bytes>) -> Result<(), Failure> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        send(Bytes::copy_from_slice(&piece[..read]), &mut to, read == 0).await?;
        if read == 0 {
            return Ok(());
        }
    }
}
