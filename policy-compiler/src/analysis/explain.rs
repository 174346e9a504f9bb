//! Why a flow is judged as it is: every side, stack and tier in the order in which they are asked, and for a denial the
//! allow rules that came nearest, with the conditions that failed.

mod condition;

pub(in crate::analysis) use condition::pattern_words;

use serde::Serialize;

use crate::facts::{Direction, Request};
use crate::flow::{Answer, Question, QuestionError};
use crate::model::interpret::leg::{Leg, legs};
use crate::model::interpret::tier::{self, Answer as TierAnswer, Table};
use crate::model::interpret::{STACKS, TIERS, judge};
use crate::model::{Effect, Policy, Rule, Stack, Tier};
use crate::verdict::{Action, Reason};
use crate::world::World;

/// The whole account of one verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The verdict.
    #[serde(flatten)]
    pub answer: Answer,
    /// Each side that was judged, in the order of the way.
    pub sides: Vec<Side>,
}

/// One side of the flow.
#[derive(Clone, Debug, Serialize)]
pub struct Side {
    /// Which.
    pub direction: Direction,
    /// The workload whose policies were asked.
    pub workload: String,
    /// What that side said.
    pub verdict: Action,
    /// Why.
    pub reason: Reason,
    /// Stacks and tiers in which some policy selects the workload.
    pub tiers: Vec<TierAccount>,
    /// The allow rules that came nearest, where the side denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<NearMiss>,
}

/// What one tier said.
#[derive(Clone, Debug, Serialize)]
pub struct TierAccount {
    /// Stack.
    pub stack: &'static str,
    /// Tier.
    pub tier: &'static str,
    /// The policies that select the workload.
    pub policies: Vec<String>,
    /// What it said: `deny`, `allow`, `pass`, `closed`, `broken`, `silent`, or `not asked` where an earlier tier decided.
    pub said: &'static str,
    /// The rule or policy that said it, with its place.
    pub by: Option<String>,
}

/// An allow rule that did not match.
#[derive(Clone, Debug, Serialize)]
pub struct NearMiss {
    /// Policy and rule.
    pub rule: String,
    /// Where it stands.
    pub location: String,
    /// The first conditions that failed, each with what was asked and what was there.
    pub failed: Vec<String>,
}

/// Explains the verdict on a question.
///
/// # Errors
/// As [`Question::ask`].
pub fn explain(world: &World, question: &Question, now: i64) -> Result<Explanation, QuestionError> {
    let asked = question.ask(world, now)?;
    let answer = question.answer(world, now)?;
    let sides = match asked.request() {
        Ok(request) => {
            let legs = legs(world.model(), world.registry(), &asked.connection());
            legs.iter().map(|leg| side(leg, &request)).collect()
        }
        Err(_) => Vec::new(),
    };
    Ok(Explanation { answer, sides })
}

fn side(leg: &Leg<'_>, request: &Request<'_>) -> Side {
    let judgement = judge(leg, request, Table::Enforced);
    let mut tiers = Vec::new();
    for stack in STACKS {
        let mut decided = false;
        for tier in TIERS {
            let policies = tier::selecting(leg, Table::Enforced, stack, tier);
            if policies.is_empty() {
                continue;
            }
            let (said, by) = match tier::answer(leg, request, Table::Enforced, stack, tier) {
                _ if decided => ("not asked", None),
                TierAnswer::Deny(policy, rule) => ("deny", Some(place(policy, Some(rule)))),
                TierAnswer::Allow(policy, rule) => ("allow", Some(place(policy, Some(rule)))),
                TierAnswer::Closed(policy) => ("closed", Some(place(policy, None))),
                TierAnswer::Broken(policy) => ("broken", Some(place(policy, None))),
                TierAnswer::Pass(policy, rule) => ("pass", Some(place(policy, Some(rule)))),
                TierAnswer::Silent => ("silent", None),
            };
            decided |= !matches!(said, "silent" | "pass");
            tiers.push(TierAccount {
                stack: stack_name(stack),
                tier: tier_name(tier),
                policies: policies.iter().map(|policy| policy.name.to_string()).collect(),
                said,
                by,
            });
        }
    }
    Side {
        direction: leg.direction,
        workload: leg.workload().map(|held| format!("{}/{}", held.namespace, held.name)).unwrap_or_default(),
        verdict: judgement.action,
        reason: judgement.reason,
        tiers,
        nearest: if judgement.action == Action::Allow { Vec::new() } else { nearest(leg, request) },
    }
}

/// The allow rules with the fewest failed conditions. An expired one fails by that alone.
fn nearest(leg: &Leg<'_>, request: &Request<'_>) -> Vec<NearMiss> {
    let mut misses: Vec<(usize, NearMiss)> = Vec::new();
    for (stack, tier) in STACKS.into_iter().flat_map(|stack| TIERS.map(|tier| (stack, tier))) {
        for policy in tier::selecting(leg, Table::Enforced, stack, tier) {
            for rule in tier::rules(policy, leg).filter(|rule| rule.effect == Effect::Allow) {
                let mut failed = condition::failures(&rule.condition, leg, request);
                if let Some(expires) = rule.expires.filter(|_| tier::is_expired(rule, request.now)) {
                    let time = jiff::Timestamp::from_second(expires).map(|time| time.to_string()).unwrap_or_default();
                    failed.insert(0, format!("it expired at {time}"));
                }
                // What matched was not missing: another stack denied.
                if failed.is_empty() {
                    continue;
                }
                let rank = failed.len();
                let name = format!("{} rule `{}`", policy.name, rule.name);
                misses.push((rank, NearMiss { rule: name, location: rule.location.to_string(), failed }));
            }
        }
    }
    let best = misses.iter().map(|(rank, _)| *rank).min().unwrap_or_default();
    misses.into_iter().filter(|(rank, _)| *rank == best).map(|(_, miss)| miss).take(SHOWN).collect()
}

fn place(policy: &Policy, rule: Option<&Rule>) -> String {
    match rule {
        Some(rule) => format!("{} rule `{}` at {}", policy.name, rule.name, rule.location),
        None => format!("{} at {}", policy.name, policy.location),
    }
}

fn stack_name(stack: Stack) -> &'static str {
    match stack {
        Stack::Native => "native",
        Stack::Network => "network",
        Stack::Istio => "istio",
        Stack::Linkerd => "linkerd",
    }
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Admin => "admin",
        Tier::Application => "application",
        Tier::Baseline => "baseline",
    }
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { answer, sides } = self;
        writeln!(f, "{}: {}", answer.verdict, answer.because())?;
        writeln!(f, "generation {}", answer.generation)?;
        for side in sides {
            writeln!(f)?;
            let direction = match side.direction {
                Direction::Inbound => "inbound at",
                Direction::Outbound => "outbound at",
            };
            writeln!(f, "{direction} {}: {}, {}", side.workload, side.verdict, side.reason.in_words())?;
            for account in &side.tiers {
                let by = account.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
                writeln!(f, "  {} {}: {}{by}", account.stack, account.tier, account.said)?;
            }
            for miss in &side.nearest {
                writeln!(f, "  nearest: {} at {}", miss.rule, miss.location)?;
                for failed in &miss.failed {
                    writeln!(f, "    {failed}")?;
                }
            }
        }
        Ok(())
    }
}

/// More near misses than this tell a person nothing.
const SHOWN: usize = 5;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::registry::Registry;
    use crate::{dialect, source};

    #[test]
    fn a_denial_names_the_nearest_rule_and_what_failed() {
        let policy = r#"
apiVersion: eastwall.dev/v1alpha1
kind: FirewallPolicy
metadata: {name: orders, namespace: shop}
spec:
  subject: [{serviceAccount: orders}]
  ingress:
  - {name: far, from: [{serviceAccount: clerk}], ports: [9], http: [{methods: [PUT], paths: [/x]}]}
  - {name: near, from: [{serviceAccount: web}], http: [{methods: [GET], paths: ["/orders/{id}"]}]}
"#;
        let workloads = r#"
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 8080}]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
"#;
        let compiled = dialect::compile(&source::parse("p.yaml", &policy.into()));
        let (registry, _) = Registry::parse("w.yaml", &workloads.into());
        let world = World::new(compiled.model, Arc::new(registry), 1);
        let line = r#"{"src": {"ip": "10.0.0.3"}, "dst": {"workload": "shop/orders", "port": 8080}, "method": "DELETE", "path": "/orders/7"}"#;
        let account = explain(&world, &Question::parse(line).unwrap(), 0).unwrap();
        let text = account.to_string();
        assert_eq!(
            account.sides.iter().map(|side| side.reason).collect::<Vec<_>>(),
            [Reason::Unprotected, Reason::NoRule]
        );
        assert!(text.contains("nearest: FirewallPolicy shop/orders rule `near` at p.yaml:9:"), "{text}");
        assert!(text.contains("false: the method is `GET`; it is `DELETE`"), "{text}");
        assert!(!text.contains("`far`"), "{text}");
        assert_eq!(account.answer.location.as_deref(), Some("p.yaml:2:1"));
    }
}
