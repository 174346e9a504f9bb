//! Idle HTTP/1 connections to upstreams, kept for the next request of the same source identity to the same destination.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::HeadLimits;
use super::codec::Codec;
use crate::identity::PoolKey;
use crate::stream::ByteStream;

const CODECS_MAX: usize = 256;

/// One large head must not be remembered for ever by each of them.
const FOOTPRINT_MAX: usize = 32 * 1024;

/// What is idle. The most recently used is taken first, so that the others can grow old.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<PoolKey, Vec<Idle>>>,
    #[allow(clippy::vec_box, reason = "a codec moves between the pool and connections; it is a kilobyte")]
    codecs: RefCell<Vec<Box<Codec>>>,
}

#[derive(Debug)]
struct Idle {
    stream: ByteStream,
    since: Instant,
}

impl Pool {
    /// Takes a connection that the upstream has not closed, as far as can be known.
    pub(super) fn take(&self, key: &PoolKey) -> Option<ByteStream> {
        let mut idle = self.idle.borrow_mut();
        let held = idle.get_mut(key)?;
        while let Some(Idle { mut stream, .. }) = held.pop() {
            if stream.is_quiet() {
                return Some(stream);
            }
        }
        None
    }

    /// Keeps a connection whose last response was read to its end.
    pub(super) fn put(&self, key: &PoolKey, stream: ByteStream, limit: usize) {
        let kept = Idle { stream, since: Instant::now() };
        let mut idle = self.idle.borrow_mut();
        match idle.get_mut(key) {
            Some(held) if held.len() >= limit => {}
            Some(held) => held.push(kept),
            None if limit > 0 => {
                idle.insert(key.clone(), vec![kept]);
            }
            None => {}
        }
    }

    /// Readers for one exchange.
    pub(super) fn codec(&self, limits: HeadLimits) -> Box<Codec> {
        self.codecs.borrow_mut().pop().unwrap_or_else(|| Codec::new(limits))
    }

    /// Takes them back; more than a few hundred exchanges at once are seldom.
    pub(super) fn give_back(&self, codec: Box<Codec>) {
        let mut codecs = self.codecs.borrow_mut();
        if codecs.len() < CODECS_MAX && codec.footprint() <= FOOTPRINT_MAX {
            codecs.push(codec);
        }
    }

    /// Closes what nobody used for a while, and what the upstream closed.
    pub(crate) fn sweep(&self, bound: Duration) {
        self.idle.borrow_mut().retain(|_, held| {
            held.retain_mut(|idle| idle.since.elapsed() < bound && idle.stream.is_quiet());
            !held.is_empty()
        });
    }
}
