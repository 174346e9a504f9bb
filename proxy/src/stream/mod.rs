//! Opaque TCP: bytes both ways, half-close kept.
