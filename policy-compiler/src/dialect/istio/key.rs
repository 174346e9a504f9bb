//! What a field of a source, an operation or a condition asks, and the layer that it can be seen on.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::form::{self, Form, PathError, Unbuildable};
use super::request_authentication::SpacedClaims;
use super::trust_domain::TrustDomains;
use crate::model::{Atom, CidrScope, Each, Expr, Pattern, PeerAtom, PlaintextPrincipal, PortAtom, Text};

/// The lowest layer at which Istio's enforcement points can see a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layer {
    /// Every enforcement point sees it on any connection.
    Connection,
    /// Sidecars and gateways see it on TCP, ztunnel does not.
    Proxy,
    /// Only on HTTP.
    Http,
}

/// Why one value is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadValue {
    #[error("`{0}` is not an address or a network")]
    Address(String),
    #[error("`{0}` is not a port from 1 to 65535")]
    Port(String),
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("{0}")]
    TooLarge(#[from] Unbuildable),
    #[error("`{0}` is not `<account>` or `<namespace>/<account>`")]
    ServiceAccount(String),
    #[error("`{0}` is no trust domain: one `*` at its start or end, and no `/`")]
    TrustDomain(String),
}

/// What the meaning of a value depends on, beside the value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) trust_domains: &'a TrustDomains<'a>,
    pub(super) own_namespace: &'a str,
    pub(super) spaced_claims: &'a SpacedClaims,
}

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// A match refuses: a field of a DENY rule, a `not…` field of an ALLOW rule.
    pub(super) denies: bool,
    /// `compatibility: Hardened`.
    pub(super) hardened: bool,
}

impl Reading {
    /// With what is known to slip past a match that refuses.
    fn is_wide(self) -> bool {
        self.hardened && self.denies
    }

    /// Without what is known to slip into a match that allows.
    fn is_narrow(self) -> bool {
        self.hardened && !self.denies
    }
}

/// The key of a `when` condition, or the field of a source or operation that means the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Principal,
    RequestPrincipal,
    Namespace,
    ServiceAccount,
    TrustDomain,
    SourceIp,
    RemoteIp,
    Host,
    Port,
    Method,
    Path,
    Header(Arc<str>),
    Audience,
    Presenter,
    Claim(Vec<Arc<str>>),
    DestinationIp,
    Sni,
}

impl Key {
    /// The key of a `when` condition; `None` is unknown to Istio or not supported here.
    pub(super) fn of_condition(key: &str) -> Option<Self> {
        let bracketed = |prefix: &str| key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']');
        Some(match key {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::Namespace,
            "source.principal" => Self::Principal,
            "source.serviceAccount" => Self::ServiceAccount,
            "source.trustDomain" => Self::TrustDomain,
            "request.auth.principal" => Self::RequestPrincipal,
            "request.auth.audiences" => Self::Audience,
            "request.auth.presenter" => Self::Presenter,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::Port,
            "connection.sni" => Self::Sni,
            _ => {
                if let Some(name) = bracketed("request.headers") {
                    let name = name.to_ascii_lowercase();
                    // Of the pseudo-headers those that every request has the same way.
                    let known = !name.starts_with(':') || matches!(&*name, ":method" | ":path" | ":authority");
                    if name.is_empty() || !known {
                        return None;
                    }
                    Self::Header(name.into())
                } else {
                    Self::Claim(claim_path(bracketed("request.auth.claims")?)?)
                }
            }
        })
    }

    pub(super) fn layer(&self, in_condition: bool) -> Layer {
        match self {
            Self::Principal | Self::Namespace | Self::SourceIp | Self::DestinationIp | Self::Port => Layer::Connection,
            Self::ServiceAccount if !in_condition => Layer::Connection,
            // SPEC: ztunnel knows no trust domains.
            Self::ServiceAccount | Self::TrustDomain | Self::RemoteIp | Self::Sni => Layer::Proxy,
            Self::RequestPrincipal
            | Self::Host
            | Self::Method
            | Self::Path
            | Self::Header(_)
            | Self::Audience
            | Self::Presenter
            | Self::Claim(_) => Layer::Http,
        }
    }

    /// One value of the list, as a positive expression.
    pub(super) fn matches(&self, value: &str, reading: Reading, given: Surroundings<'_>) -> Result<Expr, BadValue> {
        let text = |of: Text, pattern: Pattern| Expr::Is(Atom::Text { of, each: Each::Joined, is: vec![pattern] });
        let present_or = |of: Text| match Form::of(value) {
            Form::Presence => Expr::Is(Atom::Present(of)),
            form => text(of, form.pattern()),
        };
        let identity = |is: Vec<Pattern>| identity(is, reading);
        Ok(match self {
            Self::Principal => {
                let values = given.trust_domains.expand_principal(value);
                identity(values.iter().map(|value| form::principal(value)).collect::<Result<_, _>>()?)
            }
            Self::Namespace => identity(vec![form::namespace(value)?]),
            Self::TrustDomain => {
                let asterisk_inside = value.trim_start_matches('*').trim_end_matches('*').contains('*');
                if value.matches('*').count() > 1 || asterisk_inside || value.contains('/') {
                    return Err(BadValue::TrustDomain(value.to_owned()));
                }
                let values = given.trust_domains.expand(value);
                identity(values.into_iter().map(form::trust_domain).collect::<Result<_, _>>()?)
            }
            Self::ServiceAccount => {
                let parts: Vec<&str> = value.split('/').collect();
                if parts.len() > 2 || parts.contains(&"") || value.contains('*') || value.len() > LONGEST_ACCOUNT {
                    return Err(BadValue::ServiceAccount(value.to_owned()));
                }
                identity(vec![form::service_account(value, given.own_namespace)?])
            }
            Self::SourceIp => Expr::Is(Atom::Peer(PeerAtom::Cidr { net: network(value)?, scope: CidrScope::Every })),
            Self::DestinationIp => {
                Expr::Is(Atom::Subject(PeerAtom::Cidr { net: network(value)?, scope: CidrScope::Every }))
            }
            Self::RemoteIp => Expr::Is(Atom::RemoteIp(network(value)?)),
            Self::Port => {
                let digits = value.bytes().all(|byte| byte.is_ascii_digit());
                let port = value.parse::<u16>().ok().filter(|_| digits);
                let port = port.ok_or_else(|| BadValue::Port(value.to_owned()))?;
                // SPEC: port 0 is taken, and nothing has it.
                Expr::Is(Atom::Port(PortAtom::Range(port, port)))
            }
            Self::Host => host(value, reading),
            Self::Method if value == "GET" && reading.is_wide() => {
                let each = ["GET", "HEAD"].map(|method| Form::Exact(method).pattern());
                Expr::Is(Atom::Text { of: Text::Method, each: Each::Joined, is: each.into() })
            }
            Self::Method => present_or(Text::Method),
            Self::Path => path(value, reading)?,
            Self::Header(name) => match &**name {
                ":method" => present_or(Text::Method),
                ":path" => present_or(Text::PathAndQuery),
                ":authority" | "host" => present_or(Text::Authority),
                _ => {
                    let joined = present_or(Text::Header(name.clone()));
                    let parts = Form::of(value).pattern();
                    if !reading.is_wide() {
                        return Ok(joined);
                    }
                    let of = Text::Header(name.clone());
                    Expr::any([joined, Expr::Is(Atom::Text { of, each: Each::Some, is: vec![parts] })])
                }
            },
            Self::Sni => text(Text::Sni, Form::of(value).pattern()),
            Self::RequestPrincipal => request_principal(value)?,
            Self::Audience => claim("aud", form::claim(Form::of(value))?),
            Self::Presenter => claim("azp", form::claim(Form::of(value))?),
            Self::Claim(path) => given.spaced_claims.claim(path, &form::claim(Form::of(value))?),
        })
    }
}

/// SPEC: `[a][b]` is a path; what does not read as one is a single name, brackets and all.
fn claim_path(inner: &str) -> Option<Vec<Arc<str>>> {
    let names: Vec<&str> = inner.split("][").collect();
    let names = if names.iter().any(|name| name.contains(['[', ']'])) { vec![inner] } else { names };
    (!names.contains(&"")).then(|| names.into_iter().map(Arc::from).collect())
}

fn host(value: &str, reading: Reading) -> Expr {
    let text = |of: Text, pattern: Pattern| Expr::Is(Atom::Text { of, each: Each::Joined, is: vec![pattern] });
    match form::host(value) {
        Pattern::Anything => Expr::Is(Atom::Present(Text::Authority)),
        pattern => {
            let with_port = text(Text::Authority, pattern.clone());
            // Whatever port the request writes behind it.
            if reading.is_wide() { Expr::any([with_port, text(Text::Host, pattern)]) } else { with_port }
        }
    }
}

fn path(value: &str, reading: Reading) -> Result<Expr, BadValue> {
    let pattern = form::path(value, reading.denies)?;
    let of = if reading.is_wide() { Text::PathEitherSlash } else { Text::Path };
    let is = match &pattern {
        Pattern::Prefix(bytes) if reading.is_narrow() && bytes.last() != Some(&b'/') => {
            // Whole segments alone.
            vec![Pattern::Exact(bytes.clone()), Pattern::Prefix([bytes, &b"/"[..]].concat().into())]
        }
        _ => vec![pattern],
    };
    Ok(Expr::Is(Atom::Text { of, each: Each::Joined, is }))
}

/// SPEC: without mTLS there is no identity. Hardened, who is registered at the address is possibly meant.
fn identity(is: Vec<Pattern>, reading: Reading) -> Expr {
    let plaintext = if reading.hardened { PlaintextPrincipal::Registered } else { PlaintextPrincipal::Absent };
    Expr::Is(Atom::Peer(PeerAtom::Principal { is, plaintext }))
}

fn claim(name: &str, pattern: Pattern) -> Expr {
    Expr::Is(Atom::Text { of: Text::StringClaim(vec![name.into()]), each: Each::Some, is: vec![pattern] })
}

/// `<iss>/<sub>`, cut at the last `/`: an issuer is often a URL.
fn request_principal(value: &str) -> Result<Expr, Unbuildable> {
    let cut = value.rsplit_once('/');
    let (issuer, subject) = match (Form::of(value), cut) {
        (Form::Presence, _) => (Form::Presence, Form::Presence),
        (Form::Suffix(_), Some((issuer, subject))) => (Form::of_leading(issuer), Form::Exact(subject)),
        (Form::Suffix(rest), None) => (Form::Presence, Form::Suffix(rest)),
        (Form::Prefix(_), Some((issuer, subject))) => (Form::Exact(issuer), Form::of(subject)),
        (Form::Prefix(rest), None) => (Form::Prefix(rest), Form::Presence),
        (Form::Exact(_), Some((issuer, subject))) => (Form::Exact(issuer), Form::Exact(subject)),
        (Form::Exact(issuer), None) => (Form::Exact(issuer), Form::Exact("")),
    };
    Ok(Expr::all([claim("iss", form::claim(issuer)?), claim("sub", form::claim(subject)?)]))
}

/// Bytes of a service account with its namespace; Istio's own bound.
const LONGEST_ACCOUNT: usize = 320;

fn network(value: &str) -> Result<IpNet, BadValue> {
    let net = value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc()).map_err(|_| BadValue::Address(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_principals_are_cut_at_the_last_slash() {
        // The `/` of `https://` is the last one: issuer `https:/`, which no token has.
        assert_eq!(
            request_principal("https://acc*").unwrap(),
            Expr::all([claim("iss", Form::Exact("https:/").pattern()), claim("sub", Form::Prefix("acc").pattern()),])
        );
    }

    #[test]
    fn keys_of_conditions() {
        assert_eq!(Key::of_condition("request.headers[X-A]"), Some(Key::Header("x-a".into())));
        for (written, path) in [("[a][b]", &["a", "b"][..]), ("[a.b]", &["a.b"]), ("[a[b]]", &["a[b]"])] {
            let path = path.iter().copied().map(Arc::from).collect();
            assert_eq!(Key::of_condition(&format!("request.auth.claims{written}")), Some(Key::Claim(path)));
        }
        for unknown in [
            "request.headers",
            "request.headers[]",
            "request.headers[:scheme]",
            "request.auth.claims[a][]",
            "foo",
            "experimental.envoy.filters.a[b]",
        ] {
            assert_eq!(Key::of_condition(unknown), None, "{unknown}");
        }
    }
}
