//! The least native policy that recorded traffic needs.
//!
//! Flows that were allowed and did not only fail are grouped by whom they reached, from whom, on which port and how;
//! paths are generalised where their segments are identifiers. What was refused has the last word: no rule is ever
//! general enough to let it pass, and who refused anything stays closed.

mod collect;
mod path;
mod peer;
mod render;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::facts::Direction;

pub use collect::Collector;
use collect::{Asked, Group, Seen, Spoken};
use peer::{Peer, Subject};

/// How much a rule needs behind it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Flows that a method with a path (as it is written, generalised or not), a call or a server name must have been
    /// seen in.
    pub min_evidence: u64,
}

/// What was suggested, and what was left out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Suggestion {
    /// One a protected service account, in order.
    pub policies: Vec<Suggested>,
    /// Flows that gave no rule, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// Flows that the policies stand for.
    pub flows: u64,
}

/// One policy.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Suggested {
    /// Namespace of the protected service account, and of the policy.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
    /// In order of their names.
    pub rules: Vec<SuggestedRule>,
    /// Directions without a rule in which something was refused: they are closed.
    pub closed: Vec<Closed>,
}

/// A direction that is closed and has no rule.
#[derive(Clone, Debug, Serialize)]
pub struct Closed {
    /// `Ingress` or `Egress`.
    pub direction: &'static str,
    /// How often something was refused.
    pub refused: Evidence,
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
    /// The same for each thing that it names.
    pub parts: Vec<Part>,
}

/// One thing that a rule names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// `GET /orders/{order}`, `shop.Orders/Get`, a server name.
    pub what: String,
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

impl Collector {
    /// The policies that stand for what was read.
    #[must_use]
    pub fn suggest(mut self, options: Options) -> Suggestion {
        let groups = std::mem::take(&mut self.groups);
        let refusals = refusals(&groups);
        let mut flows = 0;
        let mut rules: BTreeMap<Subject, Vec<SuggestedRule>> = BTreeMap::new();
        let mut leave_out = |why, count| *self.left_out.entry(why).or_default() += count;
        for (group, seen) in &groups {
            let refused = refused_of(group, &refusals);
            let kept = allowed(group, seen, &refused, &mut leave_out);
            let seen: u64 = kept.values().map(|evidence| evidence.flows).sum();
            let rule = render::rule(group, &kept, &refused, options.min_evidence);
            let stands_for = rule.as_ref().map_or(0, |rule| rule.evidence.flows);
            flows += stands_for;
            if seen > stands_for {
                leave_out("less evidence than asked for", seen - stands_for);
            }
            rules.entry(group.subject.clone()).or_default().extend(rule);
        }
        let subjects: BTreeSet<&Subject> = rules.keys().chain(self.closed.keys().map(|(subject, _)| subject)).collect();
        let policies = subjects.into_iter().map(|subject| {
            let mut rules = rules.get(subject).cloned().unwrap_or_default();
            render::name_apart(&mut rules);
            let closed = [(Direction::Inbound, "ingress", "Ingress"), (Direction::Outbound, "egress", "Egress")];
            let closed = closed.into_iter().filter(|(_, section, _)| rules.iter().all(|rule| rule.section != *section));
            let closed = closed.filter_map(|(direction, _, word)| {
                let refused = *self.closed.get(&(subject.clone(), direction))?;
                Some(Closed { direction: word, refused })
            });
            let Subject { namespace, account } = subject.clone();
            Suggested { namespace, service_account: account, closed: closed.collect(), rules }
        });
        let policies = policies.filter(|policy| !policy.rules.is_empty() || !policy.closed.is_empty()).collect();
        Suggestion { policies, left_out: self.left_out, flows }
    }
}

/// What was refused, by the groups whose rules could let it pass.
fn refusals(groups: &BTreeMap<Group, Seen>) -> BTreeMap<Group, BTreeSet<&Asked>> {
    let mut refusals: BTreeMap<Group, BTreeSet<&Asked>> = BTreeMap::new();
    for (group, seen) in groups.iter().filter(|(_, seen)| !seen.refused.is_empty()) {
        for protocol in group.protocol.covered_by() {
            let wider = Group { protocol: *protocol, ..group.clone() };
            refusals.entry(wider).or_default().extend(&seen.refused);
        }
    }
    refusals
}

/// What was refused that a rule for this group could let pass.
fn refused_of<'g>(group: &Group, refusals: &BTreeMap<Group, BTreeSet<&'g Asked>>) -> BTreeSet<&'g Asked> {
    // Who stands behind a Service of several accounts is also reached by name.
    let beside = refusals.iter().filter(|(other, _)| {
        matches!(group.peer, Peer::Service { .. })
            && (&other.subject, other.direction, &other.port, other.protocol)
                == (&group.subject, group.direction, &group.port, group.protocol)
    });
    let own = refusals.get(group).into_iter();
    beside.map(|(_, refused)| refused).chain(own).flatten().copied().collect()
}

/// What a rule for this group may stand for.
fn allowed<'g>(
    group: &Group,
    seen: &'g Seen,
    refused: &BTreeSet<&Asked>,
    leave_out: &mut impl FnMut(&'static str, u64),
) -> BTreeMap<&'g Asked, Evidence> {
    let mut kept = BTreeMap::new();
    for (asked, outcome) in &seen.allowed {
        // A rule for bytes tells no two of them apart, nor one for every server name.
        let says_all = match group.protocol {
            Spoken::Tcp | Spoken::Udp | Spoken::Dns => true,
            Spoken::Tls => asked.server_name.is_none(),
            Spoken::Http | Spoken::Grpc => false,
        };
        if refused.contains(asked) || (says_all && !refused.is_empty()) {
            leave_out("allowed once and refused once: what was refused stays so", outcome.evidence.flows);
        } else if !outcome.answered {
            leave_out("only errors were answered", outcome.evidence.flows);
        } else {
            kept.insert(asked, outcome.evidence);
        }
    }
    kept
}

impl Evidence {
    fn add(&mut self, time: Option<i64>) {
        self.join(Self { flows: 1, first_seen: time, last_seen: time });
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
