//! TLS passed through: the ClientHello is read, nothing is decrypted.
