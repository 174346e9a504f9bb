//! HTTP/2 with prior knowledge, gRPC included: the h2 crate on both sides, a verdict on every stream.
