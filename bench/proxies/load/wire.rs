//! One HTTP/1.1 connection of the load, which waits for what it reads.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketType};

use crate::process::Failure;

/// How long an answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of an answer.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// What of the body came with the head.
    pub(crate) begun: u64,
    pub(crate) length: u64,
}

impl Connection {
    pub(crate) fn open(at: SocketAddr) -> Result<Self, Failure> {
        Self::over(TcpStream::connect(at)?)
    }

    /// From an address of this machine.
    pub(crate) fn open_from(from: IpAddr, at: SocketAddr) -> Result<Self, Failure> {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        net::bind(&socket, &SocketAddr::new(from, 0))?;
        net::connect(&socket, &at)?;
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Result<Self, Failure> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: vec![0; 4 * 1024] })
    }

    /// Reads larger pieces at a time.
    pub(super) fn widen(&mut self) {
        self.buffer.resize(256 * 1024, 0);
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Reads what is there into nothing, and says how much it was.
    pub(crate) fn skip(&mut self) -> Result<usize, Failure> {
        match self.stream.read(&mut self.buffer)? {
            0 => Err("the connection ended before its answer".into()),
            read => Ok(read),
        }
    }

    pub(crate) fn head(&mut self) -> Result<Head, Failure> {
        let mut filled = 0;
        let end = loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            if read == 0 {
                return Err("the connection ended before its answer".into());
            }
            filled += read;
            if let Some(at) = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..end])?;
        let status = text.get(9..12).ok_or("the answer has no status")?.parse()?;
        let field = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            if name.eq_ignore_ascii_case("content-length") { value.parse().ok() } else { None }
        };
        let length = text.lines().find_map(field).unwrap_or(0);
        Ok(Head { status, begun: (filled - end) as u64, length })
    }

    /// Sends a request and reads the answer with its body: the status.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<u16, Failure> {
        self.send(request)?;
        let Head { status, begun, length } = self.head()?;
        let mut left = length.saturating_sub(begun);
        while left > 0 {
            left = left.saturating_sub(self.skip()? as u64);
        }
        Ok(status)
    }
}

/// A request without a body.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: app\r\n\r\n").into_bytes()
}
