//! A flow as JSON: what `decide`, `explain` and policy tests read and write.
//!
//! A [`Question`] mirrors the line that was read; [`Asked`] is the same resolved against a world, its request made
//! canonical as the proxy does it. Unknown fields are errors: a misspelt condition must not become no condition.

mod ask;
mod members;
pub(crate) mod recorded;
mod request;

use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

pub use ask::{Asked, Judged};
pub use members::QuestionError;

use crate::canonical::Refusal;
use crate::facts::{Direction, Protocol, Transport};
use crate::verdict::{Action, Proof, Reason, RuleId, RuleRef};
use crate::world::World;

/// One flow to be judged, as it was written.
#[derive(Clone, Debug)]
pub struct Question {
    /// Echoed.
    pub id: Option<Value>,
    /// Seconds since the epoch; the clock's where missing.
    pub now: Option<i64>,
    source: SourceMembers,
    destination: DestinationMembers,
    /// The side to judge; both where missing.
    pub direction: Option<Direction>,
    transport: Transport,
    protocol: Option<Protocol>,
    method: Given<Vec<u8>>,
    path: Given<Vec<u8>>,
    query: Given<Vec<u8>>,
    host: Given<Vec<u8>>,
    headers: Given<Vec<(Vec<u8>, Vec<u8>)>>,
    sni: Given<Vec<u8>>,
    alpn: Given<Vec<u8>>,
    tls: bool,
    jwt: Given<Value>,
    remote_ip: Option<IpAddr>,
    qname: Given<Vec<u8>>,
}

/// `src`.
#[derive(Clone, Debug, Default)]
struct SourceMembers {
    ip: Option<IpAddr>,
    workload: Option<(String, String)>,
    principal: Option<String>,
}

/// `dst`.
#[derive(Clone, Debug)]
struct DestinationMembers {
    ip: Option<IpAddr>,
    workload: Option<(String, String)>,
    port: u16,
    service: Option<(String, String)>,
    fqdn: Option<String>,
}

/// A member that may be left out, or be there as `null`: not there is absent (of some, unknown), `null` is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Given<T> {
    Missing,
    Null,
    Value(T),
}

/// The verdict on a question, as `decide` writes it.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// As it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
    /// What happens.
    pub verdict: Action,
    /// What the shadow table says. Without a policy in mode Audit that is the same.
    pub audit: AuditAnswer,
    /// Why.
    pub reason: Reason,
    /// Why it is no canonical request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// By which proof the peer was known.
    pub proof: Proof,
    /// The policy that decided.
    pub policy: Option<String>,
    /// Its rule.
    pub rule: Option<String>,
    /// Where that stands.
    pub location: Option<String>,
    /// When the emergency ends by which alone it passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The generation that said so.
    pub generation: String,
}

/// See [`Answer::audit`].
#[derive(Clone, Debug, Serialize)]
pub struct AuditAnswer {
    /// What would happen.
    pub verdict: Action,
    /// The policy that would decide.
    pub policy: Option<String>,
    /// Its rule.
    pub rule: Option<String>,
}

// === impl Question ===

impl Question {
    /// Reads one line.
    ///
    /// # Errors
    /// Text that is not JSON, an unknown member, a value that cannot be what its member says.
    pub fn parse(line: &str) -> Result<Self, QuestionError> {
        let value: Value = serde_json::from_str(line).map_err(|error| QuestionError::new("", error.to_string()))?;
        Self::from_json(&value)
    }

    /// Reads one object.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn from_json(value: &Value) -> Result<Self, QuestionError> {
        members::question(value)
    }
}

// === impl Answer ===

impl Answer {
    /// Why, on one line: the reason, and the rule or policy with its place.
    #[must_use]
    pub fn because(&self) -> String {
        let mut words = self.reason.in_words().to_owned();
        if let Some(refusal) = self.refusal {
            words.push_str(&format!(" ({})", refusal.label()));
        }
        if let Some(policy) = &self.policy {
            let rule = self.rule.as_ref().map(|rule| format!(" rule `{rule}`")).unwrap_or_default();
            let location = self.location.as_ref().map(|location| format!(" at {location}")).unwrap_or_default();
            words.push_str(&format!(": {policy}{rule}{location}"));
        }
        if let Some(until) = &self.until {
            words.push_str(&format!(", until {until}"));
        }
        words
    }

    pub(crate) fn new(id: Option<Value>, judged: &Judged, world: &World) -> Self {
        let verdict = &judged.verdict;
        let named = |rule: Option<RuleId>| rule.and_then(|id| world.named(id));
        let names = |rule: Option<RuleRef<'_>>| {
            (rule.map(|rule| rule.policy.to_string()), rule.and_then(|rule| rule.rule).map(ToString::to_string))
        };
        let by = named(verdict.rule);
        let (policy, rule) = names(by);
        let audit = match &verdict.audit {
            Some(audit) => {
                let (policy, rule) = names(named(audit.rule));
                AuditAnswer { verdict: audit.action, policy, rule }
            }
            None => AuditAnswer { verdict: verdict.action, policy: policy.clone(), rule: rule.clone() },
        };
        let emergency = judged.emergency.as_ref();
        Self {
            id,
            verdict: verdict.action,
            audit,
            reason: verdict.reason,
            refusal: judged.refusal,
            proof: verdict.proof,
            policy: emergency.map(|glass| glass.name.to_string()).or(policy),
            rule,
            location: emergency.map(|glass| &glass.location).or(by.map(|rule| rule.location)).map(ToString::to_string),
            until: emergency.map(|glass| in_words(glass.expires)),
            generation: world.generation().to_string(),
        }
    }
}

/// A time as documents write it.
pub(crate) fn in_words(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}
