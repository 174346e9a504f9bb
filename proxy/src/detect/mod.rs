//! Which protocol is this connection?
