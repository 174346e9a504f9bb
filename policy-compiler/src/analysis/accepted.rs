//! Which tokens workloads accept, and the rules that depend on them. A request says nothing of the key that its token is
//! signed with, so this is stated and not shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::analysis::exposure::from_anyone;
use crate::facts::Direction;
use crate::model::interpret::canonical_scope;
use crate::model::interpret::leg::legs;
use crate::model::interpret::tier::{self, Table};
use crate::model::interpret::{STACKS, TIERS};
use crate::model::{Atom, Expr, JwtRule, KeysFrom, Text, TokenPlace};
use crate::registry::WorkloadId;
use crate::world::World;

/// Tokens, and the policy by which they are accepted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Accepted {
    /// Whose, for whom, by which keys, found where.
    pub tokens: String,
    /// The policy.
    pub policy: String,
    /// Where it stands.
    pub location: String,
}

/// What some workloads accept, and do not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Whose.
    pub workloads: Vec<String>,
    /// Accepted now, and not before.
    pub accepted: Vec<Accepted>,
    /// Accepted before, and not now.
    pub dropped: Vec<Accepted>,
    /// The rules that ask what a token says, with their places.
    pub rules: Vec<String>,
    /// Something may pass by it that did not.
    pub wider: bool,
}

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tokens accepted at {}", self.workloads.join("; "))?;
        for (sign, list) in [('+', &self.accepted), ('-', &self.dropped)] {
            for Accepted { tokens, policy, location } in list {
                writeln!(f, "  {sign} {tokens}: {policy} at {location}")?;
            }
        }
        self.rules.iter().try_for_each(|rule| writeln!(f, "    asked for by {rule}"))
    }
}

/// Workloads whose accepted tokens differ.
pub(super) fn differences(old: &World, new: &World) -> Vec<Tokens> {
    let mut found: BTreeMap<Difference, Vec<String>> = BTreeMap::new();
    for (id, workload) in (0u32..).map(WorkloadId).zip(&new.registry().workloads) {
        let (before, now) = (of(old, id), of(new, id));
        let only = |these: &Held, others: &Held| -> Vec<Accepted> {
            these.iter().filter(|(rule, _)| !others.contains_key(*rule)).map(|(_, held)| held.clone()).collect()
        };
        let (accepted, dropped) = (only(&now, &before), only(&before, &now));
        if accepted.is_empty() && dropped.is_empty() {
            continue;
        }
        let rules: BTreeSet<String> = [old, new].into_iter().flat_map(|world| depending(world, id)).collect();
        // Where nobody looked at tokens all passed, and said nothing; where nobody does any more none is refused.
        let wider = match (before.is_empty(), now.is_empty()) {
            (true, _) => !rules.is_empty(),
            (false, true) => true,
            (false, false) => !accepted.is_empty(),
        };
        let difference = Difference { accepted, dropped, rules: rules.into_iter().collect(), wider };
        found.entry(difference).or_default().push(format!("{}/{}", workload.namespace, workload.name));
    }
    let tokens = |(Difference { accepted, dropped, rules, wider }, workloads)| Tokens {
        workloads,
        accepted,
        dropped,
        rules,
        wider,
    };
    found.into_iter().map(tokens).collect()
}

/// What workloads can have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    accepted: Vec<Accepted>,
    dropped: Vec<Accepted>,
    rules: Vec<String>,
    wider: bool,
}

type Held = BTreeMap<Arc<JwtRule>, Accepted>;

fn of(world: &World, workload: WorkloadId) -> Held {
    let connection = from_anyone(workload, Direction::Inbound);
    let scope = canonical_scope(world.model(), world.registry(), &connection);
    let accepted = |rule: &JwtRule, policy: u32| {
        let policy = world.model().policies.get(policy as usize)?;
        Some(Accepted {
            tokens: in_words(rule),
            policy: policy.name.to_string(),
            location: policy.location.to_string(),
        })
    };
    let rules = scope.jwt_rules.into_iter();
    rules.filter_map(|scoped| Some((Arc::clone(&scoped.rule), accepted(&scoped.rule, scoped.policy)?))).collect()
}

/// The rules of a workload that ask what an accepted token says.
fn depending(world: &World, workload: WorkloadId) -> Vec<String> {
    let connection = from_anyone(workload, Direction::Inbound);
    let mut rules = Vec::new();
    for leg in &legs(world.model(), world.registry(), &connection) {
        for (stack, tier) in STACKS.into_iter().flat_map(|stack| TIERS.map(|tier| (stack, tier))) {
            let policies = tier::selecting(leg, Table::Enforced, stack, tier);
            let asking = tier::rules_of(&policies, leg).filter(|(_, rule)| asks(&rule.condition));
            rules.extend(
                asking.map(|(policy, rule)| format!("{} rule `{}` at {}", policy.name, rule.name, rule.location)),
            );
        }
    }
    rules
}

fn asks(condition: &Expr) -> bool {
    match condition {
        Expr::True | Expr::False => false,
        Expr::Is(Atom::Text { of, .. } | Atom::Present(of)) => {
            matches!(of, Text::RequestPrincipal | Text::StringClaim(_) | Text::SpacedClaim(_))
        }
        Expr::Is(_) => false,
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(asks),
        Expr::Not(inner) => asks(inner),
    }
}

fn in_words(rule: &JwtRule) -> String {
    let JwtRule { issuer, audiences, keys, places, told_in } = rule;
    let quoted = |names: &[Arc<str>]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut words = match issuer {
        Some(issuer) => format!("tokens of `{issuer}`"),
        None => "tokens of any issuer".into(),
    };
    if !audiences.is_empty() {
        words.push_str(&format!(" for {}", quoted(audiences)));
    }
    words.push_str(&match keys {
        KeysFrom::Text(text) => {
            let hash: String =
                Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            format!(", keys written there (SHA-256 {hash}…)")
        }
        KeysFrom::File(path) => format!(", keys of the file `{}`", path.display()),
        KeysFrom::Address(address) => format!(", keys of `{address}`"),
        KeysFrom::Issuer(_) => ", keys as the issuer says".into(),
    });
    let found: Vec<String> = places.iter().map(place_in_words).collect();
    words.push_str(&format!(", in {}", found.join(" or ")));
    if !told_in.is_empty() {
        words.push_str(&format!(", without {} beside it", quoted(told_in)));
    }
    words
}

fn place_in_words(place: &TokenPlace) -> String {
    match place {
        TokenPlace::Bearer => "`authorization`".into(),
        TokenPlace::Header { name, prefix } if prefix.is_empty() => format!("the header `{name}`"),
        TokenPlace::Header { name, prefix } => format!("the header `{name}` behind `{prefix}`"),
        TokenPlace::Parameter(name) => format!("the parameter `{name}`"),
        TokenPlace::Cookie(name) => format!("the cookie `{name}`"),
    }
}
