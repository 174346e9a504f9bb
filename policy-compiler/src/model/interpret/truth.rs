//! The truth of a condition for one leg and one request, in Kleene logic.

use super::leg::Leg;
use super::{peer, probe, text};
use crate::facts::{Direction, Fact, Place, Request, Truth};
use crate::model::{Atom, Expr, PortAtom};

/// The truth of a whole condition.
pub(crate) fn of(condition: &Expr, leg: &Leg<'_>, request: &Request<'_>) -> Truth {
    match condition {
        Expr::True => Truth::True,
        Expr::False => Truth::False,
        Expr::Is(atom) => connection(atom, leg).unwrap_or_else(|| asked(atom, leg, request)),
        Expr::All(parts) => parts.iter().map(|part| of(part, leg, request)).fold(Truth::True, Truth::and),
        Expr::Any(parts) => parts.iter().map(|part| of(part, leg, request)).fold(Truth::False, Truth::or),
        Expr::Not(inner) => !of(inner, leg, request),
    }
}

/// The truth of an atom about the connection; `None` for one about the request.
pub(crate) fn connection(atom: &Atom, leg: &Leg<'_>) -> Option<Truth> {
    let peer = |atom, party| peer::truth(atom, &party, leg.workload(), leg.registry, &leg.model.settings);
    match atom {
        Atom::Subject(atom) => Some(peer(atom, leg.subject_party())),
        Atom::Peer(atom) => Some(peer(atom, leg.peer_party())),
        Atom::Located(atom) => Some(peer(atom, leg.located_party())),
        Atom::Port(atom) => Some(port(atom, leg)),
        Atom::Transport(transport) => Some((*transport == leg.transport).into()),
        Atom::Protocol(_) | Atom::Text { .. } | Atom::Present(_) | Atom::RemoteIp(_) | Atom::DeclaredProbe => None,
    }
}

fn asked(atom: &Atom, leg: &Leg<'_>, request: &Request<'_>) -> Truth {
    match atom {
        Atom::Protocol(any) => match request.protocol {
            Fact::Known(protocol) => any.contains(&protocol).into(),
            Fact::Absent => Truth::False,
            Fact::Unknown => Truth::Unknown,
        },
        Atom::Text { of, each, is } => text::truth(of, *each, is, leg, request),
        Atom::Present(of) => text::present(of, leg, request),
        Atom::RemoteIp(net) => match request.client(leg.source.address, leg.model.settings.istio.trusted_proxies) {
            Fact::Known(address) => net.contains(&address).into(),
            Fact::Absent | Fact::Unknown => Truth::Unknown,
        },
        Atom::DeclaredProbe => {
            probe::on(leg).map_or(Truth::False, |(workload, port)| probe::is(workload, port, request))
        }
        Atom::Subject(_) | Atom::Peer(_) | Atom::Located(_) | Atom::Port(_) | Atom::Transport(_) => Truth::Unknown,
    }
}

fn port(atom: &PortAtom, leg: &Leg<'_>) -> Truth {
    let Some(port) = leg.destination.port else { return Truth::Unknown };
    if let PortAtom::Range(low, high) = atom {
        return (*low <= port && port <= *high).into();
    }
    // Who is behind the destination of an outbound connection is a peer.
    let is_believed = leg.direction == Direction::Inbound || !leg.registry.is_doubted();
    let workload = leg.destination.workload.filter(|_| is_believed);
    let Some(workload) = workload.and_then(|id| leg.registry.workload(id)) else {
        return match leg.destination.end.place {
            Place::External => Truth::False,
            // Which of a node's pods listens there is not known.
            Place::Node(_) | Place::Unknown | Place::Workload(_) => Truth::Unknown,
        };
    };
    let mut declared = workload.ports.iter().filter(|held| held.port == port && held.transport == leg.transport);
    match atom {
        PortAtom::Named(name) => declared.any(|held| held.name.as_ref() == Some(name)).into(),
        PortAtom::Declared | PortAtom::Range(..) => declared.next().is_some().into(),
        PortAtom::Annotated(key) => workload.annotation(key).is_some_and(|list| lists(list, port)).into(),
    }
}

/// Whether a list of ports and ranges has this one. What is no port names none.
fn lists(list: &str, port: u16) -> bool {
    list.split(',').any(|part| {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let bounds = low.trim().parse::<u16>().ok().zip(high.trim().parse::<u16>().ok());
        bounds.is_some_and(|(low, high)| low <= port && port <= high)
    })
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn a_list_names_ports_and_ranges() {
        for (list, port, expected) in [
            ("8080", 8080, true),
            ("8080", 808, false),
            ("80, 9000-9010", 9010, true),
            ("80,9000-9010", 9011, false),
            ("", 0, false),
            ("http", 80, false),
            ("9010-9000", 9005, false),
        ] {
            assert_eq!(lists(list, port), expected, "{list} {port}");
        }
    }
}
