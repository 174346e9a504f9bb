//! Rules that no known workload can ever use.

use super::flows::{self, Candidate};
use super::{about, acts};
use crate::diagnostic::{Code, Diagnostic, Severity};
use crate::facts::{Direction, Transport, Truth};
use crate::model::interpret::leg::legs;
use crate::model::interpret::{possible, tier};
use crate::model::{Model, Policy, Rule};
use crate::registry::{Registry, WorkloadId};

/// Rules whose condition no connection of anybody known can meet, of policies that select somebody.
pub(super) fn never(model: &Model, registry: &Registry) -> Vec<Diagnostic> {
    let everybody = flows::everybody(model, registry);
    let mut findings = Vec::new();
    let mut trials = Trials { model, registry, left: MOST };
    for policy in model.policies.iter().filter(|policy| acts(policy)) {
        let subjects = trials.subjects(policy);
        if subjects.is_empty() {
            continue;
        }
        for rule in policy.rules.iter().filter(|rule| policy.wrote(rule)) {
            match trials.is_usable(rule, &subjects, &everybody) {
                Some(true) => {}
                Some(false) => {
                    let message = format!("no known workload can ever use rule `{}`", rule.name);
                    let help = "its peers, ports and addresses fit nobody of the workloads; check names and labels";
                    findings.push(about(Code::NeverUsed, policy, rule, message, help));
                }
                None => {
                    let message = format!("from rule `{}` on nobody looked whether rules can be used", rule.name);
                    let help =
                        format!("more than {MOST} connections would have to be tried; check fewer policies at once");
                    let finding = about(Code::NeverUsed, policy, rule, message, help);
                    findings.push(Diagnostic { severity: Severity::Note, ..finding });
                    return findings;
                }
            }
        }
    }
    findings
}

struct Trials<'a> {
    model: &'a Model,
    registry: &'a Registry,
    left: usize,
}

impl Trials<'_> {
    fn subjects(&self, policy: &Policy) -> Vec<WorkloadId> {
        let ids = (0u32..).zip(&self.registry.workloads).map(|(id, _)| WorkloadId(id));
        ids.filter(|id| {
            let connection = crate::analysis::exposure::from_anyone(*id, Direction::Inbound);
            legs(self.model, self.registry, &connection).iter().any(|leg| tier::selects(policy, leg))
        })
        .collect()
    }

    /// `None` when no more connections may be tried.
    fn is_usable(&mut self, rule: &Rule, subjects: &[WorkloadId], everybody: &[Candidate]) -> Option<bool> {
        let named = flows::named(rule, self.model, self.registry);
        let numbers = flows::ports(&rule.condition);
        for subject in subjects {
            for peer in named.iter().chain(everybody) {
                let destination = match rule.direction {
                    Direction::Inbound => Some(*subject),
                    Direction::Outbound => peer.workload(),
                };
                for port in self.ports(&numbers, destination) {
                    self.left = self.left.checked_sub(1)?;
                    let connection = flows::connection(*subject, peer, rule.direction, port, self.registry);
                    // What is not known never uses a rule.
                    let may_hold = |leg| possible::seen(&rule.condition, leg).has(Truth::True);
                    if legs(self.model, self.registry, &connection).iter().any(may_hold) {
                        return Some(true);
                    }
                }
            }
        }
        Some(false)
    }

    /// Ports worth a try: those that the rule names, those that the destination declares, and any other.
    fn ports(&self, numbers: &[u16], destination: Option<WorkloadId>) -> Vec<(u16, Transport)> {
        let workload = destination.and_then(|id| self.registry.workload(id));
        let declared =
            workload.into_iter().flat_map(|workload| &workload.ports).map(|port| (port.port, port.transport));
        let named = numbers.iter().flat_map(|port| TRANSPORTS.map(|transport| (*port, transport)));
        let any = TRANSPORTS.map(|transport| (ANY_PORT, transport));
        named.chain(declared).chain(any).collect()
    }
}

const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];
/// A port that nobody declares as a rule.
const ANY_PORT: u16 = 65_123;
/// Connections that are tried: seconds of work at most.
const MOST: usize = 3_000_000;
