//! HTTP/1: one strict codec, sans-I/O, and its forwarding.
