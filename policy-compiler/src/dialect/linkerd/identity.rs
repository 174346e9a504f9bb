//! Identities as Linkerd spells them.
//!
//! SPEC: `*` is every name, `*.rest` every name that ends in `.rest`, and every other `*` stands for itself. A peer
//! whose identity is a SPIFFE URI is matched by what names exactly one identity, never by a suffix, not even by `*`.

use crate::model::{Atom, Expr, Pattern, PeerAtom, PlaintextPrincipal};
use crate::settings::Settings;

/// Peers with any of these identities.
pub(super) fn any_of<'i>(identities: impl IntoIterator<Item = &'i str>, settings: &Settings) -> Expr {
    let mut exact = Vec::new();
    let mut suffixes = Vec::new();
    let mut everybody = false;
    for identity in identities {
        if identity == "*" {
            everybody = true;
        } else if let Some(rest) = identity.strip_prefix("*.") {
            suffixes.push(Pattern::Suffix(format!(".{rest}").into_bytes().into()));
        } else {
            exact.push(Pattern::Exact(identity.as_bytes().into()));
            exact.extend(as_uri(identity, settings).map(|uri| Pattern::Exact(uri.into_bytes().into())));
        }
    }
    let mut either = Vec::new();
    if everybody {
        either.push(Expr::all([Expr::Is(Atom::Peer(PeerAtom::Proven)), !is_uri()]));
    }
    if !suffixes.is_empty() {
        either.push(Expr::all([principal(suffixes), !is_uri()]));
    }
    if !exact.is_empty() {
        either.push(principal(exact));
    }
    Expr::any(either)
}

/// The identity of a service account.
pub(super) fn of_account(namespace: &str, account: &str, settings: &Settings) -> String {
    format!("{account}.{namespace}.{}", domain(settings))
}

/// Every service account of a namespace.
pub(super) fn of_namespace(namespace: &str, settings: &Settings) -> String {
    format!("*.{namespace}.{}", domain(settings))
}

/// What every service account's identity ends in, from the third label on.
fn domain(settings: &Settings) -> String {
    format!("serviceaccount.identity.{}.{}", settings.linkerd.control_plane_namespace, trust_domain(settings))
}

fn trust_domain(settings: &Settings) -> &str {
    settings.linkerd.trust_domain.as_deref().unwrap_or(&settings.trust_domain)
}

/// The same account as the identity that Eastwall itself proves.
fn as_uri(identity: &str, settings: &Settings) -> Option<String> {
    let account = identity.strip_suffix(&format!(".{}", domain(settings)))?;
    let (account, namespace) = account.rsplit_once('.')?;
    let is_account = !account.is_empty() && !namespace.is_empty();
    is_account.then(|| format!("spiffe://{}/ns/{namespace}/sa/{account}", trust_domain(settings)))
}

fn is_uri() -> Expr {
    principal(vec![Pattern::PrefixIgnoreCase(b"spiffe://".as_slice().into())])
}

fn principal(is: Vec<Pattern>) -> Expr {
    Expr::Is(Atom::Peer(PeerAtom::Principal { is, plaintext: PlaintextPrincipal::Absent }))
}
