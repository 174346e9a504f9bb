//! Single requests, to learn whether a proxy has started and whether it judges as it was told.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::Request;
use rustix::net::{self, AddressFamily, SocketType};

use crate::peers::{Peer, Protocol, Setup};
use crate::process::{Failure, Process};
use crate::rules::{CLIENT, STRANGER};

/// Long enough to load the largest policy on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until an allowed request is answered, then asks every path that the load will.
pub(crate) fn check(peer: Peer, setup: &Setup, process: &mut Process) -> Result<(), Failure> {
    let Setup { listen: at, protocol, rules, .. } = *setup;
    let name = peer.name();
    let status = |path: &str| match protocol {
        Protocol::Http1 | Protocol::WebSocket | Protocol::Tcp => http1(CLIENT, at, path),
        Protocol::Http2 => http2(at, path),
    };
    let allowed = rules.allowed("GET");
    let first = allowed.first().ok_or("the load is allowed nothing")?;
    let end = Instant::now() + PATIENCE;
    while status(first).ok() != Some(200) {
        if process.has_ended() || Instant::now() > end {
            let answer = status(first).map_or_else(|error| error.to_string(), |status| status.to_string());
            return Err(format!(
                "{name} does not answer 200 to what is allowed but {answer}; {}",
                process.last_words()
            )
            .into());
        }
        sleep(Duration::from_millis(20));
    }
    if protocol == Protocol::Tcp {
        return match http1(STRANGER, at, first) {
            Ok(status) => Err(format!("{name} passes on what a stranger sends: {status}").into()),
            Err(_) => Ok(()),
        };
    }
    let refusal = if peer.judges() { 403 } else { 200 };
    for (expected, paths) in [(200, allowed), (refusal, rules.denied())] {
        for path in paths {
            let given = status(&path)?;
            if given != expected {
                return Err(format!("{name} answers {given} to GET {path}: {expected} was expected").into());
            }
        }
    }
    Ok(())
}

/// Asks from an address of this machine.
pub(crate) fn http1(from: IpAddr, at: SocketAddr, path: &str) -> Result<u16, Failure> {
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    net::bind(&socket, &SocketAddr::new(from, 0))?;
    net::connect(&socket, &at)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    Ok(std::str::from_utf8(&head)?.get(9..).unwrap_or("").parse()?)
}

fn http2(at: SocketAddr, path: &str) -> Result<u16, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(at).await?;
        let (mut sender, connection) = h2::client::handshake(stream).await?;
        let request = Request::get(format!("http://app{path}")).body(())?;
        let (response, _) = sender.send_request(request, true)?;
        tokio::select! {
            response = response => Ok(response?.status().as_u16()),
            ended = connection => Err(ended.err().map_or_else(|| "closed without an answer".into(), Failure::from)),
        }
    })
}
