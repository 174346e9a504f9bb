//! Rules that are gone, or soon will be.

use std::sync::Arc;

use super::{about, acting};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Policy;

/// Rules that have expired, or do within [`SOON`].
pub(super) fn expiring(policies: &[Arc<Policy>], now: i64) -> Vec<Diagnostic> {
    let dated = acting(policies).filter_map(|(policy, rule)| Some((policy, rule, rule.expires?)));
    dated
        .filter(|(_, _, expires)| *expires <= now.saturating_add(SOON))
        .map(|(policy, rule, expires)| {
            let time = jiff::Timestamp::from_second(expires).map(|time| time.to_string()).unwrap_or_default();
            let verb = if expires <= now { "expired" } else { "expires" };
            let message = format!("rule `{}` {verb} at {time}", rule.name);
            about(
                Code::Expiring,
                policy,
                rule,
                message,
                "renew `expires`, or remove the rule: the policy goes on selecting",
            )
        })
        .collect()
}

/// Two weeks, in seconds: time enough to ask for a renewal.
const SOON: i64 = 14 * 24 * 3600;
