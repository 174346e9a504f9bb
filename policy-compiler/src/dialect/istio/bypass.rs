//! What is known to slip past a rule that means what Istio says it means: told under `compatibility: Exact` (a prefix
//! without a boundary is told of every dialect alike, by `analysis::check`). Under
//! `Hardened` each of these is closed ([`super::key::Reading`]), so nothing is left to tell.

use super::form::Form;
use super::key::Key;
use crate::diagnostic::Code;
use crate::source::{Findings, Span};

/// Tells what slips past one list of values. `denies`: a match of the list refuses (a field of a DENY rule, a `not…`
/// field of an ALLOW rule).
pub(super) fn warn(key: &Key, name: &str, values: &[(&str, Span)], denies: bool, findings: &mut Findings) {
    let listed = |value: &str| values.iter().any(|(other, _)| *other == value);
    for (value, span) in values {
        let found = match (key, denies) {
            (Key::Host, true) => host(value, listed),
            (Key::Path, true) => denied_path(value, listed),
            (Key::Method, true) => (*value == "GET" && !listed("HEAD") && !listed("*"))
                .then(|| ("`HEAD` reads the same and is not covered".to_owned(), "add `HEAD`".to_owned())),
            (Key::Header(header), true) if !header.starts_with(':') && !matches!(Form::of(value), Form::Presence) => {
                let message = format!("header `{header}` sent twice is one value, joined with `,`, and is not covered");
                Some((message, "deny by a path, a method or an identity, which nobody can send twice".to_owned()))
            }
            (Key::Principal | Key::Namespace | Key::ServiceAccount | Key::TrustDomain, true) => Some((
                format!("`{name}` does not cover a peer without mTLS, whoever it is"),
                "make mTLS `STRICT` with a `PeerAuthentication`".to_owned(),
            )),
            _ => None,
        };
        if let Some((message, help)) = found {
            let help = format!("{help}, or set `istio.compatibility: Hardened`");
            findings.report_with(Code::Suspicious, *span, message, help);
            // One example of a list says enough.
            return;
        }
    }
}

fn host(value: &str, listed: impl Fn(&str) -> bool) -> Option<(String, String)> {
    let with_any_port = format!("{value}:*");
    let open = match Form::of(value) {
        Form::Exact(host) => !host.contains(':') && !listed(&with_any_port),
        Form::Suffix(tail) => !tail.contains(':'),
        Form::Presence | Form::Prefix(_) => false,
    };
    open.then(|| {
        let help = match Form::of(value) {
            Form::Exact(_) => format!("add `{with_any_port}`"),
            _ => "name the hosts, each with and without `:*`".to_owned(),
        };
        (format!("a request may write a port behind its host: `{value}` does not cover it"), help)
    })
}

fn denied_path(value: &str, listed: impl Fn(&str) -> bool) -> Option<(String, String)> {
    let shorter = match Form::of(value) {
        Form::Exact(path) if !path.contains('{') && path != "/" => {
            let other = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
            let covered = listed(&other) || listed(&format!("{path}*"));
            return (!covered).then(|| {
                (format!("many servers take `{other}` for the same, and it is not covered"), format!("add `{other}`"))
            });
        }
        Form::Prefix(path) => path.strip_suffix('/').filter(|shorter| !shorter.is_empty() && !listed(shorter)),
        _ => None,
    };
    shorter.map(|path| (format!("`{path}` itself is not covered by `{value}`"), format!("add `{path}`")))
}
