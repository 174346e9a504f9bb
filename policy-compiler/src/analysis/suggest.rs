//! The least native policy that recorded traffic needs.
//!
//! Flows that were allowed and did not only fail are grouped by whom they reached, from whom, on which port and how;
//! paths are generalised where their segments are identifiers. What was refused has the last word: no rule is ever
//! general enough to let it pass.

mod path;
mod peer;
mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::facts::{Connection, Direction, Fact, Protocol, Request, Transport};
use crate::flow::{Question, QuestionError, recorded};
use crate::registry::Registry;
use crate::world::World;

use peer::{Peer, Port, Subject};

/// How much a rule needs behind it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Flows that a path, a method or a server name must have been seen in.
    pub min_evidence: u64,
}

/// What was suggested, and what was left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Suggestion {
    /// One a protected service account, in order.
    pub policies: Vec<Suggested>,
    /// Lines that gave no rule, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Flows that the policies stand for.
    pub flows: u64,
}

/// One policy.
#[derive(Clone, Debug, Serialize)]
pub struct Suggested {
    /// Namespace of the protected service account, and of the policy.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// In order of their names.
    pub rules: Vec<SuggestedRule>,
}

/// One rule.
#[derive(Clone, Debug, Serialize)]
pub struct SuggestedRule {
    /// Name.
    pub name: String,
    /// `ingress` or `egress`.
    pub section: &'static str,
    /// The peer, a member of `from` or `to`.
    pub peer: Value,
    /// The port, a member of `ports`.
    pub port: Value,
    /// `http`, `grpc`, `tls`, `tcp`, `udp` or `dns`.
    pub protocol: &'static str,
    /// The value of that member.
    pub matches: Value,
    /// What it stands for.
    pub evidence: Evidence,
}

/// How often something was seen, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Flows.
    pub flows: u64,
    /// Seconds since the epoch of the first; `None` where the lines have no time.
    pub first_seen: Option<i64>,
    /// Seconds since the epoch of the last.
    pub last_seen: Option<i64>,
}

/// Reads lines one after the other, and keeps what differs.
#[derive(Debug)]
pub struct Collector {
    world: World,
    groups: BTreeMap<Group, Seen>,
    left_out: BTreeMap<&'static str, u64>,
}

/// Flows that one rule can stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    subject: Subject,
    direction: Direction,
    peer: Peer,
    port: Port,
    protocol: Spoken,
}

/// The member of a rule that says what is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spoken {
    Http,
    Grpc,
    Tls,
    Tcp,
    Udp,
    Dns,
}

/// What was seen of a group.
#[derive(Debug, Default)]
struct Seen {
    allowed: BTreeMap<Asked, Outcome>,
    refused: BTreeSet<Asked>,
}

/// What one request asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    method: String,
    path: String,
    upgrade: Option<String>,
    server_name: Option<String>,
}

/// What came of all requests that asked for the same.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    evidence: Evidence,
    /// Some did not fail.
    answered: bool,
}

// === impl Collector ===

impl Collector {
    /// With who is where.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { world: World::new(Arc::default(), registry, 1), groups: BTreeMap::new(), left_out: BTreeMap::new() }
    }

    /// Reads one line: of the access log, or a request of `decide` with its `verdict`.
    ///
    /// # Errors
    /// A line that is neither.
    pub fn add(&mut self, line: &str) -> Result<(), QuestionError> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(line)
            .map_err(|error| QuestionError { member: String::new(), message: error.to_string() })?;
        let verdict = value.get("verdict").and_then(Value::as_str);
        let (question, time, status) = if value.get("dst").is_some() {
            let mut question = value.clone();
            if let Some(members) = question.as_object_mut() {
                members.retain(|key, _| !matches!(key.as_str(), "verdict" | "status" | "timestamp"));
            }
            (question, value.get("timestamp"), value.get("status"))
        } else {
            let Some(question) = recorded::logged(&value, self.world.registry()) else {
                self.leave_out("no flow: an alert, or another event");
                return Ok(());
            };
            (question, value.get("timestamp"), value.get("http.response.status_code"))
        };
        if value.get("reason").and_then(Value::as_str) == Some("probe") {
            self.leave_out("a declared probe, which passes without a rule");
            return Ok(());
        }
        let time = time.and_then(Value::as_str).and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let status = status.and_then(Value::as_u64);
        self.flow(&question, verdict, time.map(jiff::Timestamp::as_second), status)
    }

    fn flow(
        &mut self,
        question: &Value,
        verdict: Option<&str>,
        time: Option<i64>,
        status: Option<u64>,
    ) -> Result<(), QuestionError> {
        let question = Question::from_json(question)?;
        let asked = question.ask(&self.world, 0)?;
        let connection = asked.connection();
        let Ok(request) = asked.request() else {
            self.leave_out("no canonical request");
            return Ok(());
        };
        let registry = self.world.registry();
        // A flow that is judged on its whole way is evidence for both of its ends.
        let whole = connection.direction.is_none() && Subject::of(&connection, Direction::Outbound, registry).is_some();
        let sides: &[Direction] = match connection.direction {
            Some(Direction::Inbound) => &[Direction::Inbound],
            Some(Direction::Outbound) => &[Direction::Outbound],
            None if whole => &[Direction::Inbound, Direction::Outbound],
            None => &[Direction::Inbound],
        };
        for direction in sides {
            self.side(*direction, &connection, &request, verdict, time, status);
        }
        Ok(())
    }

    fn side(
        &mut self,
        direction: Direction,
        connection: &Connection<'_>,
        request: &Request<'_>,
        verdict: Option<&str>,
        time: Option<i64>,
        status: Option<u64>,
    ) {
        let registry = self.world.registry();
        let Some(subject) = Subject::of(connection, direction, registry) else {
            self.leave_out("the end that a rule would protect is no registered workload");
            return;
        };
        let peer = Peer::of(connection, direction, registry);
        let port = Port::of(connection, registry);
        let (Some(peer), Some(port)) = (peer, port) else {
            self.leave_out("nobody knows who is at the other end");
            return;
        };
        let Some(protocol) = Spoken::of(request, connection.transport) else {
            self.leave_out("a protocol for which there is no rule");
            return;
        };
        let asked = Asked::of(request, protocol);
        // What is no call of a method is a POST like any other.
        let is_call = path::call(&asked.path).is_some();
        let protocol = if protocol == Spoken::Grpc && !is_call { Spoken::Http } else { protocol };
        let allowed = match verdict {
            Some("allow") => true,
            Some("deny" | "reject") => false,
            _ => {
                self.leave_out("no verdict");
                return;
            }
        };
        if allowed && matches!(protocol, Spoken::Http | Spoken::Grpc) && !asked.path.starts_with('/') {
            self.leave_out("a request without a path");
            return;
        }
        let upgraded = status == Some(101) && asked.upgrade.is_none();
        let asked = if upgraded { Asked { upgrade: Some("websocket".into()), ..asked } } else { asked };
        let seen = self.groups.entry(Group { subject, direction, peer, port, protocol }).or_default();
        if allowed {
            let held = seen.allowed.entry(asked).or_default();
            held.evidence.add(time);
            held.answered |= status.is_none_or(|status| status < 400);
        } else {
            seen.refused.insert(asked);
        }
    }

    fn leave_out(&mut self, why: &'static str) {
        *self.left_out.entry(why).or_default() += 1;
    }

    /// The policies that stand for what was read.
    #[must_use]
    pub fn suggest(mut self, options: Options) -> Suggestion {
        let mut policies: BTreeMap<Subject, Vec<SuggestedRule>> = BTreeMap::new();
        let mut flows = 0;
        let groups = std::mem::take(&mut self.groups);
        let mut refusals: BTreeMap<Group, BTreeSet<Asked>> = BTreeMap::new();
        for (group, seen) in groups.iter().filter(|(_, seen)| !seen.refused.is_empty()) {
            for protocol in group.protocol.covered_by() {
                let wider = Group { protocol: *protocol, ..group.clone() };
                refusals.entry(wider).or_default().extend(seen.refused.iter().cloned());
            }
        }
        for (group, seen) in groups {
            // Who stands behind a Service of several accounts is also reached by name.
            let beside = refusals.iter().filter(|(other, _)| {
                matches!(group.peer, Peer::Service { .. })
                    && (&other.subject, other.direction, &other.port, other.protocol)
                        == (&group.subject, group.direction, &group.port, group.protocol)
            });
            let mut refused: BTreeSet<Asked> = beside.flat_map(|(_, refused)| refused.iter().cloned()).collect();
            refused.extend(refusals.get(&group).into_iter().flatten().cloned());
            let refused = &refused;
            // A rule for bytes tells no two of them apart, nor one for every server name.
            let says_all = match group.protocol {
                Spoken::Tcp | Spoken::Udp | Spoken::Dns => true,
                Spoken::Tls => seen.allowed.keys().any(|asked| asked.server_name.is_none()),
                Spoken::Http | Spoken::Grpc => false,
            };
            let mut kept: BTreeMap<Asked, Evidence> = BTreeMap::new();
            for (asked, outcome) in seen.allowed {
                let count = outcome.evidence.flows;
                let says_all = says_all && (group.protocol != Spoken::Tls || asked.server_name.is_none());
                let why = if refused.contains(&asked) || (says_all && !refused.is_empty()) {
                    "allowed once and refused once: what was refused stays so"
                } else if !outcome.answered {
                    "only errors were answered"
                } else if count < options.min_evidence {
                    "less evidence than asked for"
                } else {
                    flows += count;
                    kept.insert(asked, outcome.evidence);
                    continue;
                };
                *self.left_out.entry(why).or_default() += count;
            }
            if kept.is_empty() {
                continue;
            }
            let rule = render::rule(&group, &kept, refused);
            policies.entry(group.subject).or_default().push(rule);
        }
        let policies = policies.into_iter().map(|(subject, mut rules)| {
            render::name_apart(&mut rules);
            Suggested { namespace: subject.namespace, service_account: subject.account, rules }
        });
        Suggestion { policies: policies.collect(), left_out: self.left_out, flows }
    }
}

impl Evidence {
    fn add(&mut self, time: Option<i64>) {
        self.flows += 1;
        self.join(Self { flows: 0, first_seen: time, last_seen: time });
    }

    /// Both together.
    fn join(&mut self, other: Self) {
        self.flows += other.flows;
        let pick = |a: Option<i64>, b: Option<i64>, of: fn(i64, i64) -> i64| match (a, b) {
            (Some(a), Some(b)) => Some(of(a, b)),
            (a, b) => a.or(b),
        };
        self.first_seen = pick(self.first_seen, other.first_seen, i64::min);
        self.last_seen = pick(self.last_seen, other.last_seen, i64::max);
    }
}

impl Spoken {
    /// The members of rules that such a flow could pass by.
    fn covered_by(self) -> &'static [Self] {
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
}
