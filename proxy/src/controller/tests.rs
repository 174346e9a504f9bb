//! A proxy and a controller, both real, over TLS on loopback.

mod follow;
mod refuse;
mod site;
mod state;
