//! Policies and rules in normal form, and how tiers and stacks combine them.

use std::sync::Arc;

use super::{BreakGlass, Expr, JwtRule};
use crate::diagnostic::Location;
use crate::facts::Direction;
use crate::settings::Settings;

/// Everything that the policy files say. The content hash is over this.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The cluster's settings.
    pub settings: Settings,
    /// Policies, in no meaningful order. Shared: what has not changed is the same allocation in the next model.
    pub policies: Vec<Arc<Policy>>,
    /// Emergencies.
    pub break_glass: Vec<Arc<BreakGlass>>,
}

/// The policy families that enforce side by side: where several select a workload, all must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stack {
    /// `eastwall.dev`.
    Native,
    /// NetworkPolicy within its admin tiers, united with Cilium's.
    Network,
    /// Istio.
    Istio,
    /// Linkerd.
    Linkerd,
}

/// Tiers of one stack, asked in this order.
///
/// In each: a Deny rule possibly matches → deny; else an Allow rule surely matches → allow; else, if a policy of the
/// tier closes the direction for the subject → deny; else go on. After the last: open, counted as unprotected.
///
/// In an *ordered* tier ([`Tier::is_ordered`]) rules are asked one after the other, by [`Policy::priority`] and then as
/// they stand, and the first that acts decides. A Pass goes on to the next tier. What an Allow says behind a Pass that
/// is only possibly met is nothing sure, so it goes on to the next tier as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// Before the teams' policies. Never closes.
    Admin,
    /// The teams' policies.
    Application,
    /// Only where no application policy closed.
    Baseline,
}

impl Tier {
    /// Whether the first rule that acts decides, whatever it does: the tiers around NetworkPolicy, and Linkerd's routes.
    #[must_use]
    pub fn is_ordered(self, stack: Stack) -> bool {
        matches!((stack, self), (Stack::Network, Self::Admin | Self::Baseline) | (Stack::Linkerd, Self::Application))
    }
}

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// In the enforced table (and in the shadow, unless replaced there).
    #[default]
    Enforce,
    /// In the shadow table only.
    Audit,
}

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Lets it pass, if surely.
    Allow,
    /// Refuses it, if possibly.
    Deny,
    /// Leaves it to the next tier, if surely. In ordered tiers only.
    Pass,
}

/// A set of directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Directions {
    /// Ingress.
    pub inbound: bool,
    /// Egress.
    pub outbound: bool,
}

impl Directions {
    /// Whether the direction is in the set.
    #[must_use]
    pub fn contains(self, direction: Direction) -> bool {
        match direction {
            Direction::Inbound => self.inbound,
            Direction::Outbound => self.outbound,
        }
    }
}

/// Kind, namespace and name: what makes a policy the same one across versions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyName {
    /// `FirewallPolicy`.
    pub kind: Arc<str>,
    /// Empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

/// One policy in normal form.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Who it is.
    pub name: PolicyName,
    /// Where its document starts.
    pub location: Location,
    /// Family.
    pub stack: Stack,
    /// Tier within the family.
    pub tier: Tier,
    /// Place in an ordered tier: the smaller is asked first. The policies of a model stand in this order.
    pub priority: u32,
    /// Whether it acts.
    pub mode: Mode,
    /// Policies that the shadow table has without, where `mode` is Audit.
    pub replaces: Vec<PolicyName>,
    /// Which workloads it protects: only [`super::Atom::Subject`] atoms, each known for a registered workload.
    pub subject: Expr,
    /// The directions that it closes for its subjects.
    pub closes: Directions,
    /// Its rules.
    pub rules: Vec<Rule>,
    /// Canonicalisation opt-ins on ports of the subject.
    pub http_options: Vec<HttpOptions>,
    /// Tokens that its subjects accept. A token that none of the policies of a subject accepts is refused.
    pub jwt_rules: Vec<Arc<JwtRule>>,
    /// The document has an error and no last good version: what it selects is closed.
    pub broken: bool,
}

impl Policy {
    /// Whether its author wrote this rule. What a dialect adds of itself stands where the policy begins.
    #[must_use]
    pub fn wrote(&self, rule: &Rule) -> bool {
        rule.location != self.location
    }
}

/// One rule in normal form.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, or its position where the dialect has none: `ingress[2]`.
    pub name: Arc<str>,
    /// Where it stands.
    pub location: Location,
    /// Direction.
    pub direction: Direction,
    /// What it does.
    pub effect: Effect,
    /// Everything it asks.
    pub condition: Expr,
    /// Seconds since the epoch from which on the rule is gone; on Allow rules only.
    pub expires: Option<i64>,
}

/// How one canonicalisation question is answered on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum HttpOption {
    /// Least strict: undo the encoding (`escapedSlash`, `backslash`), or do not merge (`mergeSlashes: Keep`).
    Decode,
    /// Leave it where it is.
    Keep,
    /// Strictest, and the default: refuse (for `mergeSlashes`: merge).
    #[default]
    Reject,
}

/// `httpOptions`: opt-ins on ports of the subject, applied before any rule matches. Where several apply the strictest wins.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpOptions {
    /// Ports of the subject: [`super::Atom::Port`] atoms.
    pub ports: Expr,
    /// `%2F`.
    pub escaped_slash: Option<HttpOption>,
    /// `\` and `%5C`.
    pub backslash: Option<HttpOption>,
    /// `;`.
    pub path_parameters: Option<HttpOption>,
    /// `//`: `Reject` here means merge, `Keep` keeps.
    pub merge_slashes: Option<HttpOption>,
    /// Method and path override headers.
    pub method_override: Option<HttpOption>,
    /// Header names that fold to a rule's header.
    pub underscore_headers: Option<HttpOption>,
}
