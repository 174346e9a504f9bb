//! WebSocket connections on which a message goes out as soon as the last one came back.

use std::time::{Duration, Instant};

use super::threads::each;
use super::wire::Connection;
use super::{Done, Target};
use crate::process::Failure;

/// A text frame of 64 bytes, masked with zeros.
const LENGTH: usize = 2 + 4 + 64;

pub(super) fn run(target: &Target<'_>, connections: usize) -> Result<Done, Failure> {
    let path = target.rules.allowed("GET").swap_remove(0);
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(target.seconds);
    let one = |_| -> Result<u64, Failure> {
        let mut connection = Connection::open(target.at)?;
        let upgrade = format!(
            "GET {path} HTTP/1.1\r\nhost: app\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        connection.send(upgrade.as_bytes())?;
        let status = connection.head()?.status;
        if status != 101 {
            return Err(format!("{status} instead of 101").into());
        }
        let mut message = [b'x'; LENGTH];
        message[..6].copy_from_slice(&[0x81, 0x80 | 64, 0, 0, 0, 0]);
        let mut count = 0;
        while Instant::now() < end {
            connection.send(&message)?;
            let mut read = 0;
            while read < LENGTH {
                read += connection.skip()?;
            }
            count += 1;
        }
        Ok(count)
    };
    let count: u64 = each(connections, one)?.iter().sum();
    Ok(Done::untimed(count as f64, start.elapsed().as_secs_f64()))
}
