//! gRPC calls that carry one message there and back, or many in one stream.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};

use super::{Done, Target};
use crate::process::Failure;

/// Messages of one call where it streams.
const STREAMED: usize = 100;
/// A message of 32 bytes behind its head: not compressed, length.
const MESSAGE: &[u8; 37] = b"\0\0\0\0\x20a message of thirty-two bytes..!";

pub(super) fn run(target: &Target<'_>, connections: usize, calls: usize, is_streaming: bool) -> Result<Done, Failure> {
    let path = target.rules.allowed("POST").swap_remove(0);
    let messages = if is_streaming { STREAMED } else { 1 };
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(target.seconds);
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let count = runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let stream = TcpStream::connect(target.at).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::handshake(stream).await?;
            tokio::task::spawn_local(connection);
            for _ in 0..calls {
                let (sender, path) = (sender.clone(), path.clone());
                tasks.push(tokio::task::spawn_local(async move {
                    let mut count = 0;
                    while Instant::now() < end {
                        call(sender.clone(), &path, messages).await?;
                        count += messages;
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

/// Each message goes out when the one before it came back.
async fn call(sender: SendRequest<Bytes>, path: &str, messages: usize) -> Result<(), Failure> {
    let request = Request::post(format!("http://app{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (response, mut to) = sender.ready().await?.send_request(request, false)?;
    to.send_data(Bytes::from_static(MESSAGE), messages == 1)?;
    let response = response.await?;
    let mut from = response.into_body();
    for message in 1..=messages {
        let mut read = 0;
        while read < MESSAGE.len() {
            let data = from.data().await.ok_or("the answer ended before its message")??;
            from.flow_control().release_capacity(data.len())?;
            read += data.len();
        }
        if message < messages {
            to.send_data(Bytes::from_static(MESSAGE), message + 1 == messages)?;
        }
    }
    let trailers = from.trailers().await?.ok_or("the answer has no trailers")?;
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        other => Err(format!("grpc-status {other:?} instead of 0").into()),
    }
}
