//! The content hash of a model: what the policies say, wherever they stand and in whatever order they were read.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use super::{Atom, BreakGlass, Expr, HttpOptions, Model, Pattern, PeerAtom, Policy};
use crate::pace;
use crate::settings::Settings;

/// The content hash of each policy of a model, in its order.
#[derive(Clone, Debug)]
pub struct Digests(Vec<[u8; 32]>);

impl Digests {
    /// Of every policy.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        Self(model.policies.iter().map(|policy| of_policy(policy)).collect())
    }

    /// Of every policy of another model; these, of the model `held`, are taken over for policies that are the same
    /// allocation.
    #[must_use]
    pub fn after(&self, held: &Model, model: &Model) -> Self {
        let known: HashMap<*const Policy, &[u8; 32], foldhash::fast::RandomState> =
            held.policies.iter().map(Arc::as_ptr).zip(&self.0).collect();
        let digest =
            |policy: &Arc<Policy>| known.get(&Arc::as_ptr(policy)).map_or_else(|| of_policy(policy), |one| **one);
        Self(model.policies.iter().map(digest).collect())
    }

    /// First 12 hexadecimal digits of the SHA-256 of everything.
    #[must_use]
    pub fn hash(&self, model: &Model) -> String {
        let mut policies = self.0.clone();
        policies.sort_unstable();
        let whole = digest(|into| {
            write_settings(&model.settings, into);
            policies.hash(into);
            for glass in &model.break_glass {
                let BreakGlass { name, location: _, subject, reason, begins, expires } = &**glass;
                (name, reason, begins, expires).hash(into);
                write_expr(subject, into);
            }
        });
        whole.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn of_policy(policy: &Policy) -> [u8; 32] {
    digest(|into| write_policy(policy, into))
}

/// The content hash of one question.
#[must_use]
pub(crate) fn of_atom(atom: &Atom) -> [u8; 32] {
    digest(|into| write_atom(atom, into))
}

/// The content hash of what an emergency opens, and when.
#[must_use]
pub(crate) fn of_emergency(glass: &BreakGlass) -> [u8; 32] {
    digest(|into| {
        (glass.begins, glass.expires).hash(into);
        write_expr(&glass.subject, into);
    })
}

/// Feeds what is hashed to SHA-256, integers in one width and order on every machine.
struct Feed(Sha256);

impl Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn write_u16(&mut self, value: u16) {
        self.write(&value.to_le_bytes());
    }

    fn write_u32(&mut self, value: u32) {
        self.write(&value.to_le_bytes());
    }

    fn write_u128(&mut self, value: u128) {
        self.write(&value.to_le_bytes());
    }

    fn write_i64(&mut self, value: i64) {
        self.write(&value.to_le_bytes());
    }

    fn write_usize(&mut self, value: usize) {
        self.write(&(value as u64).to_le_bytes());
    }

    fn write_isize(&mut self, value: isize) {
        self.write(&(value as i64).to_le_bytes());
    }

    /// Unused: the digest is taken whole.
    fn finish(&self) -> u64 {
        0
    }
}

fn digest(write: impl FnOnce(&mut Feed)) -> [u8; 32] {
    let mut feed = Feed(Sha256::new());
    write(&mut feed);
    feed.0.finalize().into()
}

/// Everything but the places in files.
fn write_policy(policy: &Policy, into: &mut Feed) {
    let Policy {
        name,
        location: _,
        stack,
        tier,
        priority,
        mode,
        replaces,
        subject,
        closes,
        rules,
        http_options,
        jwt_rules,
        broken,
    } = policy;
    (name, stack, tier, priority, mode, replaces, closes, jwt_rules, broken).hash(into);
    write_expr(subject, into);
    into.write_usize(rules.len());
    for rule in rules {
        pace::tick();
        (&rule.name, rule.direction, rule.effect, rule.expires).hash(into);
        write_expr(&rule.condition, into);
    }
    into.write_usize(http_options.len());
    for options in http_options {
        let HttpOptions {
            ports,
            escaped_slash,
            backslash,
            path_parameters,
            merge_slashes,
            method_override,
            underscore_headers,
        } = options;
        write_expr(ports, into);
        (escaped_slash, backslash, path_parameters, merge_slashes, method_override, underscore_headers).hash(into);
    }
}

fn write_expr(expr: &Expr, into: &mut Feed) {
    std::mem::discriminant(expr).hash(into);
    match expr {
        Expr::True | Expr::False => {}
        Expr::Is(atom) => write_atom(atom, into),
        Expr::All(parts) | Expr::Any(parts) => {
            into.write_usize(parts.len());
            parts.iter().for_each(|part| write_expr(part, into));
        }
        Expr::Not(inner) => write_expr(inner, into),
    }
}

fn write_atom(atom: &Atom, into: &mut Feed) {
    std::mem::discriminant(atom).hash(into);
    match atom {
        Atom::Subject(peer) | Atom::Peer(peer) | Atom::Located(peer) => write_peer(peer, into),
        Atom::Port(port) => port.hash(into),
        Atom::Protocol(any) => any.hash(into),
        Atom::Transport(transport) => transport.hash(into),
        Atom::Text { of, each, is } => {
            (of, each).hash(into);
            write_patterns(is, into);
        }
        Atom::Present(of) => of.hash(into),
        Atom::RemoteIp(net) => net.hash(into),
        Atom::DeclaredProbe => {}
    }
}

fn write_peer(peer: &PeerAtom, into: &mut Feed) {
    std::mem::discriminant(peer).hash(into);
    match peer {
        PeerAtom::Namespace(name) | PeerAtom::ServiceAccount(name) => name.hash(into),
        PeerAtom::NamespaceLabels(selector) | PeerAtom::Labels(selector) | PeerAtom::Annotations(selector) => {
            selector.hash(into);
        }
        PeerAtom::Principal { is, plaintext } => {
            plaintext.hash(into);
            write_patterns(is, into);
        }
        PeerAtom::Cidr { net, scope } => (net, scope).hash(into),
        PeerAtom::Service { namespace, name } => (namespace, name).hash(into),
        PeerAtom::ServiceNamed { name, namespaces } => (name, namespaces).hash(into),
        PeerAtom::Node(scope) => scope.hash(into),
        PeerAtom::Fqdn(is) => write_patterns(is, into),
        PeerAtom::Proven | PeerAtom::Workload | PeerAtom::External => {}
    }
}

fn write_patterns(patterns: &[Pattern], into: &mut Feed) {
    into.write_usize(patterns.len());
    for pattern in patterns {
        std::mem::discriminant(pattern).hash(into);
        match pattern {
            Pattern::Exact(bytes)
            | Pattern::ExactIgnoreCase(bytes)
            | Pattern::Prefix(bytes)
            | Pattern::Suffix(bytes)
            | Pattern::SuffixIgnoreCase(bytes)
            | Pattern::PrefixIgnoreCase(bytes)
            | Pattern::OneLabel(bytes) => bytes.hash(into),
            Pattern::NonEmpty | Pattern::Anything => {}
            Pattern::Segments { segments, rest } => (segments, rest).hash(into),
            Pattern::Regex { expression, .. } => expression.hash(into),
        }
    }
}

fn write_settings(settings: &Settings, into: &mut Feed) {
    format!("{settings:?}").hash(into);
}
