//! TLS passed through: the ClientHello is read, nothing is decrypted.

mod alert;
mod hello;

pub use alert::ACCESS_DENIED;
pub use hello::{ClientHello, HelloError, read};
