//! The one interpretation of a request: matched, logged and forwarded. Refusals come first.
//!
//! Sans-I/O: the HTTP/1 codec and the HTTP/2 front hand over raw parts, `decide` hands over JSON; all get the same
//! canonical parts or the same [`Refusal`]. Out-buffers are appended to and reused by the caller, so nothing is
//! allocated in steady state.

mod fields;
mod framing;
mod grpc;
mod host;
pub mod octet;
mod path;
mod refusal;
mod target;
mod token;
mod upgrade;

#[cfg(test)]
mod tests;

pub use fields::{connection_options, fields, is_override, is_reserved, response_trailers, trailers};
pub use framing::Framing;
pub use grpc::is_grpc_call;
pub use host::{authorities_agree, authority, server_name};
pub use path::{path, query};
pub use refusal::Refusal;
pub use target::{Form, Scheme, Target};
pub use token::{Token, token};
pub use upgrade::upgrade;

use crate::model::HttpOption;

/// The canonicalisation options in force on one port of a protected workload: the strictest of all opt-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// `%2F`.
    pub escaped_slash: HttpOption,
    /// `\` and `%5C`.
    pub backslash: HttpOption,
    /// `;`.
    pub path_parameters: HttpOption,
    /// `//`; `Reject` means merge.
    pub merge_slashes: HttpOption,
    /// Method and path override headers.
    pub method_override: HttpOption,
    /// Names that fold to a header of a rule in scope.
    pub underscore_headers: HttpOption,
}

/// Checks a method: a token, its case kept, and no longer than any method in use.
///
/// # Errors
/// [`Refusal::MalformedMethod`].
pub fn method(raw: &[u8]) -> Result<(), Refusal> {
    if octet::is_whole_token(raw) && raw.len() <= LONGEST_METHOD { Ok(()) } else { Err(Refusal::MalformedMethod) }
}

/// `UPDATEREDIRECTREF`, the longest registered, has 17; the rest is room.
pub const LONGEST_METHOD: usize = 64;
