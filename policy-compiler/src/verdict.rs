//! The answer: what happens to a request, which rule said so, and where that rule stands.

use std::sync::Arc;

use serde::Serialize;

use crate::diagnostic::Location;
use crate::model::PolicyName;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It passes.
    Allow,
    /// A policy refuses it.
    Deny,
    /// It is not a valid canonical request.
    Reject,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Reject => "reject",
        })
    }
}

/// Why, as a label of bounded cardinality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// An allow rule surely matches.
    AllowRule,
    /// A deny rule possibly matches.
    DenyRule,
    /// The direction is closed and no allow rule surely matches.
    NoRule,
    /// No policy closes the direction: open, and counted as unprotected.
    Unprotected,
    /// A kubelet probe declared in the pod's own spec.
    Probe,
    /// It would be refused, but for an emergency (`BreakGlass`).
    BreakGlass,
    /// The end to be judged is no registered workload: nothing to judge.
    NotSubject,
    /// A Service without a ready endpoint.
    NoEndpoint,
    /// The policy that would decide has an error and no last good version.
    BrokenPolicy,
    /// There is no table yet.
    NoTable,
    /// The first bytes are not of the protocol that the port declares: no rule was asked.
    ProtocolMismatch,
    /// The proxy stands in front of an address that no registered workload has.
    Unregistered,
    /// The workload takes proven peers alone, and the peer came in plaintext.
    PlaintextRefused,
    /// The peer's certificate names another identity than the workload registered at its address.
    IdentityMismatch,
    /// Since the connection began, the address of one of its ends has become somebody else's.
    PeerReplaced,
    /// It carries a token that no policy of the destination accepts, or more than one.
    InvalidToken,
    /// Not a valid canonical request; the refusal has its own label beside this one.
    Rejected,
}

impl Reason {
    /// The same in a few words, for people.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::AllowRule => "an allow rule matches",
            Self::DenyRule => "a deny rule matches, or cannot be ruled out",
            Self::NoRule => "the direction is closed and no allow rule surely matches",
            Self::Unprotected => "no policy closes this direction",
            Self::Probe => "it is a probe that the pod declares",
            Self::BreakGlass => "it would be refused, but an emergency opens the workload for a while",
            Self::NotSubject => "neither end that would judge is a registered workload",
            Self::NoEndpoint => "the service has no ready endpoint",
            Self::BrokenPolicy => "a policy that selects the workload has an error",
            Self::NoTable => "there is no table yet",
            Self::ProtocolMismatch => "its first bytes are not of the protocol that the port declares",
            Self::Unregistered => "the proxy's own end is no registered workload",
            Self::PlaintextRefused => "the workload takes peers alone that prove who they are by a certificate",
            Self::IdentityMismatch => "the certificate names another identity than the workload at the peer's address",
            Self::PeerReplaced => "the address of one end has become somebody else's since the connection began",
            Self::InvalidToken => "no policy of the destination accepts the token that it carries",
            Self::Rejected => "it is no valid canonical request",
        }
    }
}

/// By which proof the peer was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// The workload registered at the source address.
    Address,
    /// The certificate of the peer.
    Mtls,
}

/// What decided, by its position in the policies that were asked. [`crate::world::World::named`] says what that is; in
/// another world it is something else.
///
/// PERF: a verdict reads and counts nothing of what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleId {
    /// A policy as a whole: a default deny.
    Policy(u32),
    /// A rule, by its position among the rules of all policies.
    Rule(u32),
}

/// A rule, or a policy as a whole, with its name and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleRef<'a> {
    /// `FirewallPolicy shop/orders`.
    pub policy: &'a PolicyName,
    /// Name of the rule, or its position (`ingress[2]`) where the dialect has no names; `None` for a default deny.
    pub rule: Option<&'a str>,
    /// Where it stands.
    pub location: &'a Location,
}

/// Number and content hash of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation {
    /// Counts swaps since the process started, from 1.
    pub number: u64,
    /// First 12 hexadecimal digits of the SHA-256 of the policies' canonical content.
    pub hash: Arc<str>,
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.number, self.hash)
    }
}

/// What the shadow table (policies in mode Audit, with what they replace taken away) would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audit {
    /// What would happen.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The rule that would decide.
    pub rule: Option<RuleId>,
}

/// The answer for one request or connection. The generation is the [`crate::world::World`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The rule that decided; for a default deny the policy that closed the direction.
    pub rule: Option<RuleId>,
    /// By which proof the peer was known.
    pub proof: Proof,
    /// The shadow verdict, where a policy in mode Audit selects an end of the flow.
    pub audit: Option<Audit>,
}

impl Verdict {
    /// Of a connection whose bytes are not what its port declares: no rule was asked.
    #[must_use]
    pub fn mismatched(proof: Proof) -> Self {
        Self { action: Action::Deny, reason: Reason::ProtocolMismatch, rule: None, proof, audit: None }
    }

    /// Of a request whose token is refused, by the policy at this position: no rule was asked.
    #[must_use]
    pub fn unauthenticated(policy: u32, proof: Proof) -> Self {
        let rule = Some(RuleId::Policy(policy));
        Self { action: Action::Deny, reason: Reason::InvalidToken, rule, proof, audit: None }
    }

    /// Of a request that is not canonical: no rule was asked.
    #[must_use]
    pub fn rejected(proof: Proof) -> Self {
        Self { action: Action::Reject, reason: Reason::Rejected, rule: None, proof, audit: None }
    }
}
