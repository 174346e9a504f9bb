//! The admin API: health and metrics over TCP, everything else on a Unix socket that checks the peer.
