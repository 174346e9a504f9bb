//! HBONE: HTTP/1.1 connections inside CONNECT streams of a few connections of mutual TLS.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, StatusCode, Uri};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::get;
use super::{Done, Target};
use crate::identities::{self, SOURCE};
use crate::process::Failure;

/// Windows of Eastwall; a proxy that waits for one would be measured for the load.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

/// One connection of mutual TLS, shared by its tunnels.
#[derive(Clone)]
pub(crate) struct Client(SendRequest<Bytes>);

/// One stream of it.
pub(crate) struct Tunnel {
    to: SendStream<Bytes>,
    from: RecvStream,
}

impl Client {
    /// With the identity of an account, which the folder of the proxy has. Within a `LocalSet`.
    pub(crate) async fn connect(folder: &Path, account: &str, from: IpAddr, at: SocketAddr) -> Result<Self, Failure> {
        let connector = TlsConnector::from(identities::client(folder, account)?);
        let stream = shake(&connector, from, at).await?;
        let (sender, connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        tokio::task::spawn_local(connection);
        Ok(Self(sender))
    }

    /// One request without a tunnel: the status.
    pub(crate) async fn ask(&self, path: &str) -> Result<u16, Failure> {
        let request = Request::get(format!("https://app{path}")).body(())?;
        let (response, _) = self.0.clone().ready().await?.send_request(request, true)?;
        Ok(response.await?.status().as_u16())
    }

    /// A tunnel to that address, or how it was refused.
    pub(crate) async fn tunnel(&self, to: SocketAddr) -> Result<Result<Tunnel, StatusCode>, Failure> {
        let uri = Uri::builder().authority(to.to_string()).build()?;
        let request = Request::builder().method(Method::CONNECT).uri(uri).body(())?;
        let (response, to) = self.0.clone().ready().await?.send_request(request, false)?;
        let response = response.await?;
        Ok(if response.status() == StatusCode::OK {
            Ok(Tunnel { to, from: response.into_body() })
        } else {
            Err(response.status())
        })
    }
}

/// The TLS connection alone.
pub(super) async fn shake(
    connector: &TlsConnector,
    from: IpAddr,
    at: SocketAddr,
) -> Result<TlsStream<TcpStream>, Failure> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let socket = socket.connect(at).await?;
    socket.set_nodelay(true)?;
    Ok(connector.connect(identities::name(at.ip()), socket).await?)
}

impl Tunnel {
    /// One request of HTTP/1.1, and its answer with its body: the status.
    pub(crate) async fn ask(&mut self, request: Bytes) -> Result<u16, Failure> {
        self.to.send_data(request, false)?;
        let mut read = Vec::new();
        loop {
            let data = self.from.data().await.ok_or("the tunnel ended before its answer")??;
            self.from.flow_control().release_capacity(data.len())?;
            read.extend_from_slice(&data);
            if let Some(status) = whole(&read)? {
                return Ok(status);
            }
        }
    }
}

/// The status of an answer that is there to its end.
fn whole(read: &[u8]) -> Result<Option<u16>, Failure> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = head.parse(read)? else { return Ok(None) };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.map_or(Ok("0"), |header| std::str::from_utf8(header.value))?.parse()?;
    Ok(head.code.filter(|_| read.len() >= end + length))
}

pub(super) fn run(target: &Target<'_>, connections: usize, tunnels: usize) -> Result<Done, Failure> {
    let requests: Vec<Bytes> = target.rules.allowed("GET").iter().map(|path| get(path).into()).collect();
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(target.seconds);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let count = runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let client = Client::connect(target.folder, SOURCE, target.client, target.at).await?;
            for number in 0..tunnels {
                let mut tunnel = opened(&client, target.to).await?;
                let requests = requests.clone();
                tasks.push(tokio::task::spawn_local(async move {
                    let mut count = 0;
                    while Instant::now() < end {
                        let status = tunnel.ask(requests[(number + count) % requests.len()].clone()).await?;
                        if status != 200 {
                            return Err(format!("{status} instead of 200").into());
                        }
                        count += 1;
                    }
                    Ok::<usize, Failure>(count)
                }));
            }
        }
        let mut count = 0;
        for task in tasks {
            count += task.await??;
        }
        Ok::<usize, Failure>(count)
    })?;
    Ok(Done::untimed(count as f64, start.elapsed().as_secs_f64()))
}

/// A tunnel that must not be refused.
pub(crate) async fn opened(client: &Client, to: SocketAddr) -> Result<Tunnel, Failure> {
    client.tunnel(to).await?.map_err(|status| format!("a tunnel is refused with {status}").into())
}
