//! Each field of a source, an operation or a condition, as one expression and the layer it can be seen on.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::form::{self, Form, TemplateError, Unbuildable};
use crate::model::{Atom, CidrScope, Each, Expr, Pattern, PeerAtom, PlaintextPrincipal, PortAtom, Text};
use crate::settings::Istio;

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
    Template(#[from] TemplateError),
    #[error("{0}")]
    TooLarge(#[from] Unbuildable),
    #[error("`{0}` is not `<account>` or `<namespace>/<account>`")]
    ServiceAccount(String),
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
                    if name.is_empty() {
                        return None;
                    }
                    Self::Header(name.to_ascii_lowercase().into())
                } else {
                    let path: Vec<Arc<str>> = bracketed("request.auth.claims")?.split("][").map(Arc::from).collect();
                    if path.iter().any(|name| name.is_empty()) {
                        return None;
                    }
                    Self::Claim(path)
                }
            }
        })
    }

    pub(super) fn layer(&self, in_condition: bool) -> Layer {
        match self {
            Self::Principal | Self::Namespace | Self::SourceIp | Self::DestinationIp | Self::Port => Layer::Connection,
            Self::ServiceAccount | Self::TrustDomain if !in_condition => Layer::Connection,
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
    pub(super) fn matches(&self, value: &str, own_namespace: &str, istio: &Mesh<'_>) -> Result<Expr, BadValue> {
        let text = |of: Text, pattern: Pattern| Expr::Is(Atom::Text { of, each: Each::Joined, is: vec![pattern] });
        let present_or = |of: Text| match Form::of(value) {
            Form::Presence => Expr::Is(Atom::Present(of)),
            form => text(of, form.pattern()),
        };
        Ok(match self {
            Self::Principal => {
                identity(istio.expand(value).iter().map(|value| form::principal(value)).collect::<Result<Vec<_>, _>>()?)
            }
            Self::Namespace => identity(vec![form::namespace(value)?]),
            Self::TrustDomain => identity(vec![form::trust_domain(value)?]),
            Self::ServiceAccount => {
                if value.matches('/').count() > 1
                    || value.starts_with('/')
                    || value.ends_with('/')
                    || value.contains('*')
                {
                    return Err(BadValue::ServiceAccount(value.to_owned()));
                }
                identity(vec![form::service_account(value, own_namespace)?])
            }
            Self::SourceIp => Expr::Is(Atom::Peer(PeerAtom::Cidr { net: network(value)?, scope: CidrScope::Every })),
            Self::DestinationIp => {
                Expr::Is(Atom::Subject(PeerAtom::Cidr { net: network(value)?, scope: CidrScope::Every }))
            }
            Self::RemoteIp => Expr::Is(Atom::RemoteIp(network(value)?)),
            Self::Port => {
                let port = value.parse::<u16>().ok().filter(|port| *port != 0);
                let port = port.ok_or_else(|| BadValue::Port(value.to_owned()))?;
                Expr::Is(Atom::Port(PortAtom::Range(port, port)))
            }
            Self::Host => match form::host(value) {
                Pattern::Anything => Expr::Is(Atom::Present(Text::Authority)),
                pattern => text(Text::Authority, pattern),
            },
            Self::Method => present_or(Text::Method),
            Self::Path if form::is_template(value) => text(Text::Path, form::template(value)?),
            Self::Path => text(Text::Path, Form::of(value).pattern()),
            Self::Header(name) => match &**name {
                ":method" => present_or(Text::Method),
                ":path" => present_or(Text::PathAndQuery),
                ":authority" | "host" => present_or(Text::Authority),
                _ => present_or(Text::Header(name.clone())),
            },
            Self::Sni => text(Text::Sni, Form::of(value).pattern()),
            Self::RequestPrincipal => request_principal(value),
            Self::Audience => claim(["aud".into()].into(), Form::of(value).pattern()),
            Self::Presenter => claim(["azp".into()].into(), Form::of(value).pattern()),
            Self::Claim(path) => claim(path.clone(), Form::of(value).pattern()),
        })
    }
}

/// The mesh's own trust domains, which `cluster.local` and any one of them stand for.
pub(super) struct Mesh<'a> {
    domains: Vec<&'a str>,
}

impl<'a> Mesh<'a> {
    pub(super) fn new(istio: &'a Istio, cluster_trust_domain: &'a str) -> Self {
        let own = istio.trust_domain.as_deref().unwrap_or(cluster_trust_domain);
        Self { domains: std::iter::once(own).chain(istio.trust_domain_aliases.iter().map(String::as_str)).collect() }
    }

    /// SPEC: only a value of five segments names a trust domain; a lone `*` there names none.
    fn expand(&self, value: &str) -> Vec<String> {
        let Some((domain, rest)) = value.split_once('/') else { return vec![value.to_owned()] };
        if rest.split('/').count() != 4 || domain == "*" {
            return vec![value.to_owned()];
        }
        let known = domain == "cluster.local" || self.domains.iter().any(|own| related(own, domain));
        if !known {
            return vec![value.to_owned()];
        }
        let mut expanded: Vec<String> = Vec::new();
        for own in &self.domains {
            let kept = domain.strip_prefix('*').is_some_and(|suffix| own.ends_with(suffix));
            let next = if kept { value.to_owned() } else { format!("{own}/{rest}") };
            if !expanded.contains(&next) {
                expanded.push(next);
            }
        }
        expanded
    }
}

fn related(own: &str, domain: &str) -> bool {
    own == domain
        || domain.strip_prefix('*').is_some_and(|suffix| own.ends_with(suffix))
        || domain.strip_suffix('*').is_some_and(|prefix| own.starts_with(prefix))
}

fn identity(is: Vec<Pattern>) -> Expr {
    Expr::Is(Atom::Peer(PeerAtom::Principal { is, plaintext: PlaintextPrincipal::Absent }))
}

fn claim(path: Vec<Arc<str>>, pattern: Pattern) -> Expr {
    // SPEC: `scope` and `permission` are lists delimited by spaces.
    let spaced = matches!(path.as_slice(), [only] if matches!(&**only, "scope" | "permission"));
    let of = if spaced { Text::SpacedClaim(path) } else { Text::Claim(path) };
    Expr::Is(Atom::Text { of, each: Each::Some, is: vec![pattern] })
}

/// `<iss>/<sub>`, cut at the last `/`: an issuer is often a URL.
fn request_principal(value: &str) -> Expr {
    let cut = value.rsplit_once('/');
    let exact = |text: &str| Form::Exact(text).pattern();
    let (issuer, subject) = match (Form::of(value), cut) {
        (Form::Presence, _) => (Pattern::NonEmpty, Pattern::NonEmpty),
        (Form::Suffix(_), Some((issuer, subject))) => (Form::of_leading(issuer).pattern(), exact(subject)),
        (Form::Suffix(rest), None) => (Pattern::NonEmpty, Form::Suffix(rest).pattern()),
        (Form::Prefix(_), Some((issuer, subject))) => (exact(issuer), Form::of(subject).pattern()),
        (Form::Prefix(rest), None) => (Form::Prefix(rest).pattern(), Pattern::NonEmpty),
        (Form::Exact(_), Some((issuer, subject))) => (exact(issuer), exact(subject)),
        (Form::Exact(issuer), None) => (exact(issuer), exact("")),
    };
    Expr::all([claim(["iss".into()].into(), issuer), claim(["sub".into()].into(), subject)])
}

fn network(value: &str) -> Result<IpNet, BadValue> {
    let net = value.parse::<IpNet>().or_else(|_| value.parse::<IpAddr>().map(IpNet::from));
    net.map(|net| net.trunc()).map_err(|_| BadValue::Address(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(istio: &Istio) -> Mesh<'_> {
        Mesh::new(istio, "cluster.local")
    }

    #[test]
    fn cluster_local_stands_for_the_mesh_and_its_aliases() {
        let mut istio = crate::settings::Settings::default().istio;
        istio.trust_domain = Some("td1".into());
        istio.trust_domain_aliases = vec!["td2".into()];
        let mesh = mesh(&istio);
        assert_eq!(mesh.expand("cluster.local/ns/foo/sa/a"), ["td1/ns/foo/sa/a", "td2/ns/foo/sa/a"]);
        assert_eq!(mesh.expand("td2/ns/foo/sa/a"), ["td1/ns/foo/sa/a", "td2/ns/foo/sa/a"]);
        assert_eq!(mesh.expand("td3/ns/foo/sa/a"), ["td3/ns/foo/sa/a"]);
        assert_eq!(mesh.expand("*/ns/foo/sa/a"), ["*/ns/foo/sa/a"]);
        assert_eq!(mesh.expand("*1/ns/foo/sa/a"), ["*1/ns/foo/sa/a", "td2/ns/foo/sa/a"]);
        assert_eq!(mesh.expand("sa/a"), ["sa/a"]);
    }

    #[test]
    fn request_principals_are_cut_at_the_last_slash() {
        // The `/` of `https://` is the last one: issuer `https:/`, which no token has.
        assert_eq!(
            request_principal("https://acc*"),
            Expr::all([
                claim(["iss".into()].into(), Form::Exact("https:/").pattern()),
                claim(["sub".into()].into(), Form::Prefix("acc").pattern()),
            ])
        );
    }

    #[test]
    fn keys_of_conditions() {
        assert_eq!(Key::of_condition("request.headers[X-A]"), Some(Key::Header("x-a".into())));
        assert_eq!(Key::of_condition("request.auth.claims[a][b]"), Some(Key::Claim(vec!["a".into(), "b".into()])));
        for unknown in [
            "request.headers",
            "request.headers[]",
            "request.auth.claims[a][]",
            "foo",
            "experimental.envoy.filters.a[b]",
        ] {
            assert_eq!(Key::of_condition(unknown), None, "{unknown}");
        }
    }
}
