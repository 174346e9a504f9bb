//! Recorded flows, line by line, as far as rules can tell them apart.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::peer::{Peer, Port, Subject};
use super::{Evidence, path};
use crate::facts::{Connection, Direction, Fact, Protocol, Request, Transport};
use crate::flow::{Question, QuestionError, recorded};
use crate::registry::Registry;
use crate::world::World;

/// Reads lines one after the other, and keeps what differs.
#[derive(Debug)]
pub struct Collector {
    world: World,
    pub(super) groups: BTreeMap<Group, Seen>,
    /// Who refused anything, in which direction.
    pub(super) closed: BTreeMap<(Subject, Direction), Evidence>,
    pub(super) left_out: BTreeMap<&'static str, u64>,
    /// Bytes that may still be kept.
    room: usize,
    max_bytes: usize,
}

/// Flows that one rule can stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    pub(super) subject: Subject,
    pub(super) direction: Direction,
    pub(super) peer: Peer,
    pub(super) port: Port,
    pub(super) protocol: Spoken,
}

/// The member of a rule that says what is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spoken {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
    Dns,
}

/// What was seen of a group.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) allowed: BTreeMap<Asked, Outcome>,
    pub(super) refused: BTreeSet<Asked>,
}

/// What one request asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) upgrade: Option<String>,
    pub(super) server_name: Option<String>,
}

/// What came of all requests that asked for the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) evidence: Evidence,
    /// Some did not fail.
    pub(super) answered: bool,
}

/// What a line says beside the flow.
#[derive(Clone, Copy)]
struct Told {
    allowed: bool,
    time: Option<i64>,
    status: Option<u64>,
}

// === impl Collector ===

impl Collector {
    /// With who is where. What differs may take `max_bytes` of memory.
    #[must_use]
    pub fn new(registry: Arc<Registry>, max_bytes: usize) -> Self {
        Self {
            world: World::new(Arc::default(), registry, 1),
            groups: BTreeMap::new(),
            closed: BTreeMap::new(),
            left_out: BTreeMap::new(),
            room: max_bytes,
            max_bytes,
        }
    }

    /// Reads one line: of the access log, or a request of `decide` with its `verdict`.
    ///
    /// # Errors
    /// A line that is neither; more distinct requests than there is room for: with some of them forgotten a rule could
    /// let pass what was refused.
    pub fn add(&mut self, line: &str) -> Result<(), QuestionError> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(line)
            .map_err(|error| QuestionError { member: String::new(), message: error.to_string() })?;
        let (question, status) = if value.get("dst").is_some() {
            let mut question = value.clone();
            if let Some(members) = question.as_object_mut() {
                members.retain(|key, _| !matches!(key.as_str(), "verdict" | "status" | "timestamp"));
            }
            (question, value.get("status"))
        } else {
            let Some(question) = recorded::logged(&value, self.world.registry()) else {
                self.leave_out("no flow: an alert, or another event");
                return Ok(());
            };
            (question, value.get("http.response.status_code"))
        };
        if value.get("reason").and_then(Value::as_str) == Some("probe") {
            self.leave_out("a declared probe, which passes without a rule");
            return Ok(());
        }
        let question = Question::from_json(&question)?;
        let allowed = match value.get("verdict").and_then(Value::as_str) {
            Some("allow") => true,
            Some("deny" | "reject") => false,
            _ => {
                self.leave_out("no verdict");
                return Ok(());
            }
        };
        let time = value.get("timestamp").and_then(Value::as_str);
        let time = time.and_then(|text| text.parse::<jiff::Timestamp>().ok()).map(jiff::Timestamp::as_second);
        self.flow(&question, Told { allowed, time, status: status.and_then(Value::as_u64) })
    }

    fn flow(&mut self, question: &Question, told: Told) -> Result<(), QuestionError> {
        let asked = question.ask(&self.world, 0)?;
        let connection = asked.connection();
        let subject = |direction| Subject::of(&connection, direction, self.world.registry());
        // On a port that a Service does not have nobody is reached.
        let is_reached = Port::of(&connection, self.world.registry()).is_some();
        let (from, to) = (subject(Direction::Outbound), subject(Direction::Inbound).filter(|_| is_reached));
        if !told.allowed {
            // Where it is not said which end refused, closing the destination is enough.
            let direction = connection.direction.unwrap_or(match to {
                Some(_) => Direction::Inbound,
                None => Direction::Outbound,
            });
            let subject = if direction == Direction::Inbound { &to } else { &from };
            if let Some(subject) = subject {
                self.closed.entry((subject.clone(), direction)).or_default().add(told.time);
            }
        }
        // A flow that is judged on its whole way is evidence for both of its ends.
        let sides: &[Direction] = match connection.direction {
            Some(Direction::Inbound) => &[Direction::Inbound],
            Some(Direction::Outbound) => &[Direction::Outbound],
            None if from.is_some() => &[Direction::Inbound, Direction::Outbound],
            None => &[Direction::Inbound],
        };
        let request = asked.request().ok();
        if request.is_none() && told.allowed {
            self.leave_out("no canonical request");
            return Ok(());
        }
        for direction in sides {
            let subject = if *direction == Direction::Inbound { &to } else { &from };
            self.side(*direction, subject.as_ref(), &connection, request.as_ref(), told)?;
        }
        Ok(())
    }

    /// Without a request: one that was refused because it was none.
    fn side(
        &mut self,
        direction: Direction,
        subject: Option<&Subject>,
        connection: &Connection<'_>,
        request: Option<&Request<'_>>,
        told: Told,
    ) -> Result<(), QuestionError> {
        let Some(subject) = subject.cloned() else {
            self.leave_out("the end that a rule would protect is no registered workload");
            return Ok(());
        };
        let registry = self.world.registry();
        let peer = Peer::of(connection, direction, registry);
        let port = Port::of(connection, registry);
        let (Some(peer), Some(port)) = (peer, port) else {
            self.leave_out("nobody knows who is at the other end");
            return Ok(());
        };
        let spoken = request.map_or(Some(Spoken::Http), |request| Spoken::of(request, connection.transport));
        let Some(protocol) = spoken else {
            self.leave_out("a protocol for which there is no rule");
            return Ok(());
        };
        let asked = request.map(|request| Asked::of(request, protocol)).unwrap_or_default();
        // What is no call of a method is a POST like any other.
        let is_call = path::call(&asked.path).is_some();
        let protocol = if protocol == Spoken::Grpc && !is_call { Spoken::Http } else { protocol };
        if told.allowed && matches!(protocol, Spoken::Http | Spoken::Grpc) && !asked.path.starts_with('/') {
            self.leave_out("a request without a path");
            return Ok(());
        }
        let upgraded = told.status == Some(101) && asked.upgrade.is_none();
        let asked = if upgraded { Asked { upgrade: Some("websocket".into()), ..asked } } else { asked };
        self.keep(Group { subject, direction, peer, port, protocol }, asked, told)
    }

    fn keep(&mut self, group: Group, asked: Asked, told: Told) -> Result<(), QuestionError> {
        let mut taken = asked.bytes();
        let seen = match self.groups.entry(group) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(free) => {
                taken += free.key().bytes();
                free.insert(Seen::default())
            }
        };
        let is_new = if told.allowed {
            let is_new = !seen.allowed.contains_key(&asked);
            let held = seen.allowed.entry(asked).or_default();
            held.evidence.add(told.time);
            held.answered |= told.status.is_none_or(|status| status < 400);
            is_new
        } else {
            seen.refused.insert(asked)
        };
        if is_new {
            let max = self.max_bytes;
            self.room = self.room.checked_sub(taken).ok_or_else(|| QuestionError {
                member: String::new(),
                message: format!("the distinct requests up to here take more than {max} bytes of memory"),
            })?;
        }
        Ok(())
    }

    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }
}

// === impl Group, Spoken, Asked ===

/// About what an entry of a map takes beside its texts.
const ENTRY: usize = 160;

impl Group {
    fn bytes(&self) -> usize {
        let Subject { namespace, account } = &self.subject;
        ENTRY + namespace.len() + account.len() + self.peer.word().len() + self.port.word().len()
    }
}

impl Spoken {
    /// The members of rules that such a flow could pass by.
    pub(super) fn covered_by(self) -> &'static [Self] {
        match self {
            Self::Http => &[Self::Http, Self::Tcp],
            Self::Grpc => &[Self::Grpc, Self::Http, Self::Tcp],
            Self::Tls => &[Self::Tls, Self::Tcp],
            Self::Tcp => &[Self::Tcp],
            Self::Udp => &[Self::Udp],
            Self::Dns => &[Self::Dns, Self::Udp],
        }
    }

    fn of(request: &Request<'_>, transport: Transport) -> Option<Self> {
        match (request.protocol, transport) {
            (Fact::Known(Protocol::Http | Protocol::Http2), _) => Some(Self::Http),
            (Fact::Known(Protocol::Grpc), _) => Some(Self::Grpc),
            (Fact::Known(Protocol::Tls), _) => Some(Self::Tls),
            (Fact::Known(Protocol::Dns), _) => Some(Self::Dns),
            (_, Transport::Tcp) => Some(Self::Tcp),
            (_, Transport::Udp) => Some(Self::Udp),
            (_, Transport::Sctp) => None,
        }
    }
}

impl Asked {
    fn of(request: &Request<'_>, protocol: Spoken) -> Self {
        let text = |fact: Fact<&[u8]>| match fact {
            Fact::Known(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Fact::Absent | Fact::Unknown => None,
        };
        match protocol {
            Spoken::Http | Spoken::Grpc => Self {
                method: text(request.method).unwrap_or_default(),
                path: text(request.path).unwrap_or_default(),
                upgrade: text(request.upgrade),
                server_name: None,
            },
            Spoken::Tls => Self { server_name: text(request.sni), ..Self::default() },
            Spoken::Tcp | Spoken::Udp | Spoken::Dns => Self::default(),
        }
    }

    fn bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        ENTRY + self.method.len() + self.path.len() + optional(&self.upgrade) + optional(&self.server_name)
    }
}
