//! HTTP/2 with prior knowledge, gRPC included: the h2 crate on both sides, a verdict on every stream.

mod answer;
mod bounds;
mod exchange;
mod frames;
mod head;
mod pool;
mod relay;
mod serve;

pub(crate) use bounds::{Windows, server};
pub(crate) use pool::Pool;
pub(crate) use serve::serve;

/// Ticks of a worker's news that make up the time after which an idle stream ends.
pub(crate) const IDLE_TICKS: u32 = 4;

/// Flow-control window of a stream. The protocol's own 64 KiB throttles one fast stream; windows of megabytes hide that
/// a receiver is slow.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Flow-control window of a connection: a few streams at full speed.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Towards an upstream, whose connection is shared by all streams of one source: a few whose readers pause must not hold
/// up the others.
const UPSTREAM_WINDOW: u32 = 64 * STREAM_WINDOW;
