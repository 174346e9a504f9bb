//! What bounds the server, each with its default.

use std::num::NonZeroU32;
use std::time::Duration;

/// Settings of the gRPC server.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Service accounts (`namespace/name`) whose pods may ask for all pods of their node.
    pub node_accounts: Vec<String>,
    /// A slice that is larger is sent in parts of about this many bytes.
    pub part_bytes: usize,
    /// Bytes of one message of a proxy.
    pub message_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// HTTP/2 streams of one connection at once.
    pub streams: u32,
    /// Calls that one address may make at once, and how many of them it gets back each second.
    pub calls: NonZeroU32,
    /// See `calls`.
    pub calls_per_second: NonZeroU32,
    /// Reviews of tokens at once.
    pub reviews: usize,
    /// Time to shake hands, to review a token, and to say `Hello`.
    pub patience: Duration,
    /// Time to acknowledge a version.
    pub acknowledge_within: Duration,
    /// A heartbeat is sent this often.
    pub heartbeat: Duration,
    /// Changes are gathered this long before they are told.
    pub gather: Duration,
    /// A stream ends after this time, so that its token is reviewed again.
    pub stream_lifetime: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node_accounts: vec!["eastwall-system/eastwall-node".to_owned()],
            part_bytes: 1 << 20,
            // A node's proxy names its pods, which are a few hundred.
            message_bytes: 256 << 10,
            connections: 10_000,
            streams: 16,
            // A node proxy asks for a certificate for each account on its node, which are a few hundred.
            calls: NonZeroU32::MIN.saturating_add(511),
            calls_per_second: NonZeroU32::MIN.saturating_add(15),
            reviews: 64,
            patience: Duration::from_secs(10),
            acknowledge_within: Duration::from_secs(60),
            heartbeat: Duration::from_secs(5),
            gather: Duration::from_millis(50),
            stream_lifetime: Duration::from_secs(3600),
        }
    }
}
