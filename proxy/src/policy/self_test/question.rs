//! A request that a rule is about, asked of the table and of the reference interpreter.

use eastwall_policy::facts::{Connection, Direction, End, Fact, Place, Protocol, Request, Transport};
use eastwall_policy::model::{
    Atom, Expr, Model, Pattern, PeerAtom, Policy, PortAtom, Rest, Rule, Segment, Text, interpret,
};
use eastwall_policy::registry::{Registry, WorkloadId};
use eastwall_policy::verdict::Reason;
use eastwall_policy::world::World;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Question {
    protected: End<'static>,
    peer: End<'static>,
    direction: Direction,
    port: u16,
    protocol: Protocol,
    method: Vec<u8>,
    /// `None`: nothing of the request can be seen.
    path: Option<Vec<u8>>,
}

impl Question {
    /// What a rule names, as far as that can be read off: whoever it names asks for it. `None` where nobody is registered
    /// whom its policy protects.
    pub(super) fn about(policy: &Policy, rule: &Rule, registry: &Registry) -> Option<Self> {
        let find = |is: &Expr| {
            let id = (0u32..).zip(&registry.workloads).find(|(_, workload)| is.selects(workload))?.0;
            let address = registry.workload(WorkloadId(id)).and_then(|workload| workload.ips.first()).copied();
            Some(End { address, place: Place::Workload(WorkloadId(id)), principal: None })
        };
        let protected = find(&policy.subject)?;
        let mut named = Named::default();
        named.read(&rule.condition);
        let peer = find(&Expr::All(named.peer)).unwrap_or(NOBODY);
        let destination = if rule.direction == Direction::Inbound { protected } else { peer };
        let declared = match destination.place {
            Place::Workload(id) => registry.workload(id).and_then(|workload| workload.ports.first()),
            _ => None,
        };
        Some(Self {
            protected,
            peer,
            direction: rule.direction,
            port: named.port.or(declared.map(|port| port.port)).unwrap_or(80),
            protocol: named.protocol.unwrap_or(Protocol::Http),
            method: named.method.unwrap_or_else(|| b"GET".to_vec()),
            path: named.path,
        })
    }

    /// The same of somebody who is not known.
    pub(super) fn of_nobody(&self) -> Self {
        Self { peer: NOBODY, ..self.clone() }
    }

    /// Whether the table of a world says what the reference says of these policies.
    pub(super) fn check(&self, world: &World, model: &Model) -> Result<(), String> {
        let (source, destination) = match self.direction {
            Direction::Inbound => (self.peer, self.protected),
            Direction::Outbound => (self.protected, self.peer),
        };
        let connection = Connection {
            source,
            destination,
            port: self.port,
            transport: Transport::Tcp,
            service: None,
            fqdn: None,
            direction: Some(self.direction),
        };
        let request = match &self.path {
            None => Request::opaque(Fact::Known(self.protocol), 0),
            Some(path) => Request::bare(self.protocol, &self.method, path, 0),
        };
        let verdict = world.request_verdict(&world.flow(&connection), &request);
        if verdict.reason == Reason::PlaintextRefused {
            // So the world says before the table is asked, and nobody proves anything here.
            return Ok(());
        }
        let table = verdict.action;
        let reference = interpret::request_verdict(model, world.registry(), &connection, &request).action;
        if table == reference {
            return Ok(());
        }
        let path = self.path.as_deref().map(String::from_utf8_lossy);
        Err(format!("the table says {table:?}, the reference {reference:?}: {connection:?}, path {path:?}"))
    }
}

const NOBODY: End<'static> = End { address: None, place: Place::Unknown, principal: None };

/// What a condition names first.
#[derive(Debug, Default)]
struct Named {
    /// Who the peer is, asked of a workload.
    peer: Vec<Expr>,
    port: Option<u16>,
    protocol: Option<Protocol>,
    method: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
}

impl Named {
    fn read(&mut self, condition: &Expr) {
        match condition {
            Expr::Is(atom) => self.note(atom),
            Expr::All(parts) => parts.iter().for_each(|part| self.read(part)),
            Expr::Any(parts) => parts.iter().take(1).for_each(|part| self.read(part)),
            Expr::True | Expr::False | Expr::Not(_) => {}
        }
    }

    fn note(&mut self, atom: &Atom) {
        match atom {
            Atom::Peer(peer) | Atom::Located(peer)
                if matches!(
                    peer,
                    PeerAtom::Namespace(_)
                        | PeerAtom::ServiceAccount(_)
                        | PeerAtom::NamespaceLabels(_)
                        | PeerAtom::Labels(_)
                ) =>
            {
                self.peer.push(Expr::Is(Atom::Subject(peer.clone())));
            }
            Atom::Port(PortAtom::Range(first, _)) => self.port = Some(*first),
            Atom::Protocol(any) => self.protocol = any.first().copied(),
            Atom::Text { of: Text::Method, is, .. } => self.method = is.first().and_then(witness),
            Atom::Text { of: Text::Path | Text::PathEitherSlash | Text::PathAndQuery, is, .. } => {
                self.path = is.first().and_then(witness);
            }
            _ => {}
        }
    }
}

/// Bytes that match, where they can be read off.
fn witness(pattern: &Pattern) -> Option<Vec<u8>> {
    match pattern {
        Pattern::Exact(bytes) | Pattern::ExactIgnoreCase(bytes) | Pattern::Prefix(bytes) => Some(bytes.to_vec()),
        Pattern::Segments { segments, rest } => {
            let mut path = Vec::new();
            for segment in segments {
                path.push(b'/');
                match segment {
                    Segment::Literal(bytes) => path.extend_from_slice(bytes),
                    Segment::Variable | Segment::Of(_) => path.push(b'x'),
                }
            }
            if *rest != Rest::Nothing || path.is_empty() {
                path.extend_from_slice(b"/x");
            }
            Some(path)
        }
        _ => None,
    }
}
