//! The one interpretation of a request: matched, logged and forwarded. Refusals come first.
//!
//! Sans-I/O: the HTTP/1 codec and the HTTP/2 front hand over raw parts, `decide` hands over JSON; all get the same
//! canonical parts or the same [`Refusal`].

mod refusal;

pub use refusal::Refusal;

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

// To come, with these shapes (out-buffers are reused: no allocation in steady state):
//   pub fn path(raw: &[u8], options: Options, out: &mut Vec<u8>) -> Result<(), Refusal>      raw: path without query
//   pub fn query(raw: &[u8]) -> Result<(), Refusal>                                          validates escapes
//   pub fn authority(raw: &[u8], out: &mut Vec<u8>) -> Result<Option<u16>, Refusal>          host lower-cased into out, port returned
//   pub fn server_name(raw: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal>                 SNI
//   pub fn fields<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, scope: &CanonicalScope) -> Result<(), Refusal>
//        override channels, folding names, Connection nominations of watched headers, framing headers (for `decide` too)
//   pub struct Target { .. }  request-target of HTTP/1: origin, absolute, authority (CONNECT), asterisk
