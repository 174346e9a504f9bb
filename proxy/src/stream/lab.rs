//! What tests of this room and of those above it send.

use tokio::net::{TcpListener, TcpStream};

use super::ByteStream;

/// The first is what somebody outside has.
pub(crate) async fn pair() -> (TcpStream, ByteStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (far, _) = listener.accept().await.unwrap();
    (near, far.into())
}

/// Enough for many pipes, not a multiple of anything.
pub(crate) const BULK: usize = 5_000_003;

/// So many bytes, others with another seed.
pub(crate) fn bulk(seed: usize) -> Vec<u8> {
    (0..BULK).map(|n| ((n + seed) % 251) as u8).collect()
}
