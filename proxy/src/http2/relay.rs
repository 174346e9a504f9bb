//! One direction of a stream: data, trailers and resets, at the pace of the slower side.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

/// Why a direction ended before its end.
#[derive(Debug)]
pub(super) enum Broken {
    /// The side that sends went away.
    Source(Reason),
    /// The side that receives wants no more.
    Sink(Reason),
    /// Trailers that may not pass.
    Trailers,
}

/// Passes on everything from `from` to `to` up to END_STREAM. `moved` counts bytes.
pub(super) async fn relay(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    moved: &Cell<u64>,
    mut trailers_pass: impl FnMut(&mut HeaderMap) -> bool,
) -> Result<(), Broken> {
    loop {
        let next = poll_fn(|context| {
            if let Poll::Ready(reset) = to.poll_reset(context) {
                return Poll::Ready(Err(Broken::Sink(reset.unwrap_or(Reason::CANCEL))));
            }
            from.poll_data(context).map(Ok)
        })
        .await?;
        match next {
            Some(Ok(data)) => {
                let length = data.len();
                let end = from.is_end_stream();
                send(data, to, end).await?;
                moved.set(moved.get() + length as u64);
                // INVARIANT: the sender's window opens only by what the receiver took.
                let _ = from.flow_control().release_capacity(length);
                if end {
                    return Ok(());
                }
            }
            Some(Err(error)) => return Err(Broken::Source(reason(&error))),
            None => break,
        }
    }
    let trailers = poll_fn(|context| from.poll_trailers(context)).await;
    let sent = match trailers {
        Ok(Some(mut trailers)) => {
            if !trailers_pass(&mut trailers) {
                return Err(Broken::Trailers);
            }
            to.send_trailers(trailers)
        }
        Ok(None) => to.send_data(Bytes::new(), true),
        Err(error) => return Err(Broken::Source(reason(&error))),
    };
    sent.map_err(|error| Broken::Sink(reason(&error)))
}

async fn send(mut data: Bytes, to: &mut SendStream<Bytes>, end: bool) -> Result<(), Broken> {
    if data.is_empty() && !end {
        return Ok(());
    }
    loop {
        to.reserve_capacity(data.len());
        let mut room = to.capacity();
        if room == 0 && !data.is_empty() {
            room = match poll_fn(|context| to.poll_capacity(context)).await {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Err(Broken::Sink(reason(&error))),
                None => return Err(Broken::Sink(Reason::CANCEL)),
            };
        }
        let piece = data.split_to(room.min(data.len()));
        if piece.is_empty() && !data.is_empty() {
            continue;
        }
        to.send_data(piece, end && data.is_empty()).map_err(|error| Broken::Sink(reason(&error)))?;
        if data.is_empty() {
            return Ok(());
        }
    }
}

/// What the other side is told about an error of this one.
pub(super) fn reason(error: &h2::Error) -> Reason {
    // A connection that is lost is lost for each of its streams.
    if error.is_reset() { error.reason().unwrap_or(Reason::CANCEL) } else { Reason::CANCEL }
}
