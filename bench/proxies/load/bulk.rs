//! Large bodies, one after another on each connection; what counts is the bytes that moved.

use std::time::{Duration, Instant};

use super::threads::each;
use super::wire::{Connection, Head, get};
use super::{Done, Target};
use crate::process::Failure;

const MIB: f64 = 1_048_576.0;

/// Where the bodies go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the backend to the client.
    Down,
    Up,
}

pub(super) fn run(target: &Target<'_>, connections: usize, way: Way, bytes: u64) -> Result<Done, Failure> {
    let method = if way == Way::Down { "GET" } else { "POST" };
    let path = target.rules.allowed(method).swap_remove(0);
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(target.seconds);
    let one = |_| -> Result<u64, Failure> {
        let mut connection = Connection::open(target.at)?;
        connection.widen();
        let mut moved = 0;
        while Instant::now() < end {
            moved += match way {
                Way::Down => down(&mut connection, &path, bytes, end)?,
                Way::Up => up(&mut connection, &path, bytes, end)?,
            };
        }
        Ok(moved)
    };
    let moved: u64 = each(connections, one)?.iter().sum();
    Ok(Done::untimed(moved as f64 / MIB, start.elapsed().as_secs_f64()))
}

fn down(connection: &mut Connection, path: &str, bytes: u64, end: Instant) -> Result<u64, Failure> {
    connection.send(&get(path))?;
    let Head { status, mut begun, length } = connection.head()?;
    if status != 200 || length != bytes {
        return Err(format!("{status} with {length} bytes instead of 200 with {bytes}").into());
    }
    while begun < length && Instant::now() < end {
        begun += connection.skip()? as u64;
    }
    Ok(begun)
}

fn up(connection: &mut Connection, path: &str, bytes: u64, end: Instant) -> Result<u64, Failure> {
    connection.send(format!("POST {path} HTTP/1.1\r\nhost: app\r\ncontent-length: {bytes}\r\n\r\n").as_bytes())?;
    let piece = [0; 256 * 1024];
    let mut sent = 0;
    while sent < bytes && Instant::now() < end {
        let next = piece.len().min((bytes - sent) as usize);
        connection.send(&piece[..next])?;
        sent += next as u64;
    }
    if sent == bytes {
        let Head { status, .. } = connection.head()?;
        if status != 200 {
            return Err(format!("{status} instead of 200").into());
        }
    }
    Ok(sent)
}
