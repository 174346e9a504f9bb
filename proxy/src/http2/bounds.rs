//! The bounds of every HTTP/2 connection that somebody opens to us.

use h2::server::Builder;

use crate::config::Limits;

/// Flow control.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) stream: u32,
    /// Of all streams together.
    pub(crate) connection: u32,
}

/// Whoever serves the streams refuses heads beyond `head_bytes`: counted, and in the log. The codec bears a few times more.
pub(crate) fn server(limits: &Limits, windows: Windows, head_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(head_bytes.saturating_mul(4)).unwrap_or(u32::MAX))
        // Resets by the client (CVE-2023-44487), and resets that it provokes (CVE-2025-8671).
        .max_pending_accept_reset_streams(limits.stream_resets)
        .max_local_error_reset_streams(Some(limits.stream_resets))
        .max_concurrent_reset_streams(limits.stream_resets)
        .max_send_buffer_size(windows.stream as usize);
    builder
}
