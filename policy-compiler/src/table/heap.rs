//! How many bytes of the heap parts of a table hold. Shared texts count where they are held; what an allocator adds is
//! not counted.

use std::mem::size_of_val;

use super::normal::Normal;
use super::residue::Residue;
use crate::model::{Atom, Pattern, PeerAtom, PortAtom, Segment, Selector, Text};

/// Behind a condition.
pub(super) fn of_normal(condition: &Normal) -> usize {
    match condition {
        Normal::True | Normal::False => 0,
        Normal::Literal { atom, .. } => of_atom(atom),
        Normal::All(parts) | Normal::Any(parts) => {
            size_of_val(parts.as_slice()) + parts.iter().map(of_normal).sum::<usize>()
        }
    }
}

/// Behind a residue.
pub(super) fn of_residue(residue: &Residue) -> usize {
    match residue {
        Residue::Literal { atom, .. } => of_atom(atom),
        Residue::Gate(_) => 0,
        Residue::All(parts) | Residue::Any(parts) => {
            size_of_val(&**parts) + parts.iter().map(of_residue).sum::<usize>()
        }
    }
}

/// Behind a pattern; of an expression what its automata take, their caches aside.
pub(super) fn of_pattern(pattern: &Pattern) -> usize {
    match pattern {
        Pattern::Exact(bytes)
        | Pattern::ExactIgnoreCase(bytes)
        | Pattern::Prefix(bytes)
        | Pattern::Suffix(bytes)
        | Pattern::SuffixIgnoreCase(bytes)
        | Pattern::PrefixIgnoreCase(bytes)
        | Pattern::OneLabel(bytes) => bytes.len(),
        Pattern::NonEmpty | Pattern::Anything => 0,
        Pattern::Segments { segments, .. } => {
            let literal = |segment: &Segment| match segment {
                Segment::Literal(bytes) => bytes.len(),
                Segment::Variable | Segment::Of(_) => 0,
            };
            size_of_val(segments.as_slice()) + segments.iter().map(literal).sum::<usize>()
        }
        Pattern::Regex { source, expression, regex } => source.len() + expression.len() + regex.memory_usage(),
    }
}

fn of_patterns(patterns: &[Pattern]) -> usize {
    size_of_val(patterns) + patterns.iter().map(of_pattern).sum::<usize>()
}

fn of_atom(atom: &Atom) -> usize {
    match atom {
        Atom::Subject(peer) | Atom::Peer(peer) | Atom::Located(peer) => of_peer(peer),
        Atom::Port(PortAtom::Named(text) | PortAtom::Annotated(text)) => text.len(),
        Atom::Protocol(any) => size_of_val(any.as_slice()),
        Atom::Text { of, is, .. } => of_text(of) + of_patterns(is),
        Atom::Present(of) => of_text(of),
        Atom::Port(PortAtom::Range(..) | PortAtom::Declared)
        | Atom::Transport(_)
        | Atom::RemoteIp(_)
        | Atom::DeclaredProbe => 0,
    }
}

fn of_text(of: &Text) -> usize {
    match of {
        Text::Header(name) | Text::Query(name) => name.len(),
        Text::Claim(path) | Text::StringClaim(path) | Text::SpacedClaim(path) => {
            size_of_val(path.as_slice()) + path.iter().map(|key| key.len()).sum::<usize>()
        }
        _ => 0,
    }
}

fn of_peer(peer: &PeerAtom) -> usize {
    match peer {
        PeerAtom::Namespace(text) | PeerAtom::ServiceAccount(text) => text.len(),
        PeerAtom::NamespaceLabels(selector) | PeerAtom::Labels(selector) | PeerAtom::Annotations(selector) => {
            of_selector(selector)
        }
        PeerAtom::Principal { is, .. } | PeerAtom::Fqdn(is) => of_patterns(is),
        PeerAtom::Service { namespace, name } => namespace.len() + name.len(),
        PeerAtom::ServiceNamed { name, namespaces } => name.len() + of_selector(namespaces),
        PeerAtom::Cidr { .. } | PeerAtom::Node(_) | PeerAtom::Proven | PeerAtom::Workload | PeerAtom::External => 0,
    }
}

fn of_selector(selector: &Selector) -> usize {
    let each = selector.requirements.iter().map(|requirement| {
        let values = requirement.values.iter().map(|value| value.len()).sum::<usize>();
        requirement.key.len() + size_of_val(requirement.values.as_slice()) + values
    });
    size_of_val(selector.requirements.as_slice()) + each.sum::<usize>()
}
