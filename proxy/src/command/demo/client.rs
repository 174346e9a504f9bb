//! What the pods send to `orders`.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::pods::{Pod, Pods};

const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A status.
    Status(u16),
    /// The connection was refused, reset or closed without an answer.
    Nothing(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::Nothing(why) => write!(f, "no answer ({why})"),
        }
    }
}

/// One request on a connection of its own.
pub(super) fn call(pods: &Pods, from: Pod, method: &str, path: &str) -> Outcome {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: orders.shop\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    send(pods, from, request.as_bytes())
}

/// Any bytes on a connection of their own.
pub(super) fn send(pods: &Pods, from: Pod, bytes: &[u8]) -> Outcome {
    match exchange(pods, from, bytes) {
        Ok(answer) => match status(&answer) {
            Some(status) => Outcome::Status(status),
            None => Outcome::Nothing("closed".to_owned()),
        },
        Err(error) => Outcome::Nothing(error.kind().to_string()),
    }
}

fn exchange(pods: &Pods, from: Pod, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = pods.connect(from)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.take(64 * 1024).read_to_end(&mut answer)?;
    Ok(answer)
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// An answer that goes on: open until somebody cuts it.
#[derive(Debug)]
pub(super) struct Feed {
    stream: TcpStream,
}

impl Feed {
    /// Opens it and waits for the first bytes of its body.
    pub(super) fn open(pods: &Pods, from: Pod) -> io::Result<Self> {
        let mut stream = pods.connect(from)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.write_all(b"GET /feed HTTP/1.1\r\nHost: orders.shop\r\n\r\n")?;
        let mut seen = Vec::new();
        let mut part = [0; 1024];
        while !seen.windows(7).any(|bytes| bytes == b"shipped") {
            let read = stream.read(&mut part)?;
            seen.extend_from_slice(part.get(..read).unwrap_or_default());
            if read == 0 || status(&seen).is_some_and(|status| status != 200) {
                return Err(io::Error::other("the feed did not start"));
            }
        }
        Ok(Self { stream })
    }

    /// Reads on until it is cut; how long that took, and how it looked.
    pub(super) fn wait_for_the_cut(mut self, since: Instant) -> Option<(Duration, String)> {
        let mut part = [0; 1024];
        while since.elapsed() < READ_TIMEOUT {
            match self.stream.read(&mut part) {
                Ok(0) => return Some((since.elapsed(), "closed".to_owned())),
                Ok(_) => {}
                Err(error) => return Some((since.elapsed(), error.kind().to_string())),
            }
        }
        None
    }
}
