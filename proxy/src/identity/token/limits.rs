//! Bounds on tokens and keys: each a flag, and a member of `tokenLimits` in the configuration file.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::Span;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenLimits {
    /// Bytes of one token.
    pub(crate) token_bytes: usize,
    /// How far the clocks of an issuer and of this machine may be apart.
    pub(crate) leeway: Duration,
    /// Verified tokens that each worker remembers.
    pub(crate) cached_tokens: usize,
    /// Bytes that they may take in each worker.
    pub(crate) cached_token_bytes: usize,
    /// Keys of one set.
    pub(crate) jwks_keys: usize,
    /// Bytes of one set.
    pub(crate) jwks_bytes: usize,
    /// Time to fetch one set.
    pub(crate) jwks_timeout: Duration,
    /// Time from one fetch of a set to the next.
    pub(crate) jwks_refresh: Duration,
    /// The least of that: after a failure, and where a token names a key that is not in the set.
    pub(crate) jwks_retry: Duration,
    /// Certificates of authorities (PEM) that are believed beside the system's when keys are fetched.
    pub(crate) jwks_ca: Option<PathBuf>,
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self {
            token_bytes: 8 * 1024,
            // What Envoy, and so Istio, allows.
            leeway: Duration::from_secs(60),
            cached_tokens: 1_000,
            cached_token_bytes: 4 * 1024 * 1024,
            jwks_keys: 32,
            jwks_bytes: 256 * 1024,
            jwks_timeout: Duration::from_secs(5),
            jwks_refresh: Duration::from_secs(300),
            jwks_retry: Duration::from_secs(10),
            jwks_ca: None,
        }
    }
}

/// Apart from what the command itself is about.
const HEADING: &str = "Tokens";

// What is left out keeps its default.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct TokenLimitSettings {
    /// Bytes of one token [default: 8192]
    #[arg(long, help_heading = HEADING, value_name = "BYTES")]
    token_bytes: Option<usize>,
    /// How far the clocks of an issuer and of this machine may be apart [default: 60s]
    #[arg(long, help_heading = HEADING, value_name = "TIME")]
    token_leeway: Option<Span>,
    /// Verified tokens that each worker remembers; 0 verifies every time [default: 1000]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    cached_tokens: Option<usize>,
    /// Bytes that they may take in each worker [default: 4194304]
    #[arg(long, help_heading = HEADING, value_name = "BYTES")]
    cached_token_bytes: Option<usize>,
    /// Keys of one set [default: 32]
    #[arg(long, help_heading = HEADING, value_name = "N")]
    jwks_keys: Option<usize>,
    /// Bytes of one set of keys [default: 262144]
    #[arg(long, help_heading = HEADING, value_name = "BYTES")]
    jwks_bytes: Option<usize>,
    /// Time to fetch one set of keys [default: 5s]
    #[arg(long, help_heading = HEADING, value_name = "TIME")]
    jwks_timeout: Option<Span>,
    /// Time from one fetch of a set of keys to the next [default: 5m]
    #[arg(long, help_heading = HEADING, value_name = "TIME")]
    jwks_refresh: Option<Span>,
    /// The least time between two fetches: after a failure, or where a token names a key that is not there
    /// [default: 10s]
    #[arg(long, help_heading = HEADING, value_name = "TIME")]
    jwks_retry: Option<Span>,
    /// Certificates (PEM) of authorities that are believed beside the system's when keys are fetched
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    jwks_ca: Option<PathBuf>,
}

impl TokenLimitSettings {
    /// Writes what is set over limits.
    pub(crate) fn over(&self, limits: TokenLimits) -> TokenLimits {
        let span = |set: Option<Span>, other: Duration| set.map_or(other, |span| span.0);
        TokenLimits {
            token_bytes: self.token_bytes.unwrap_or(limits.token_bytes),
            leeway: span(self.token_leeway, limits.leeway),
            cached_tokens: self.cached_tokens.unwrap_or(limits.cached_tokens),
            cached_token_bytes: self.cached_token_bytes.unwrap_or(limits.cached_token_bytes),
            jwks_keys: self.jwks_keys.unwrap_or(limits.jwks_keys),
            jwks_bytes: self.jwks_bytes.unwrap_or(limits.jwks_bytes),
            jwks_timeout: span(self.jwks_timeout, limits.jwks_timeout),
            jwks_refresh: span(self.jwks_refresh, limits.jwks_refresh),
            jwks_retry: span(self.jwks_retry, limits.jwks_retry),
            jwks_ca: self.jwks_ca.clone().or(limits.jwks_ca),
        }
    }
}

impl TokenLimits {
    /// The name of a bound that is zero where that would refuse everything, or never rest.
    pub(crate) fn zero(&self) -> Option<&'static str> {
        let zero = [
            ("tokenBytes", self.token_bytes == 0),
            ("jwksKeys", self.jwks_keys == 0),
            ("jwksBytes", self.jwks_bytes == 0),
            ("jwksTimeout", self.jwks_timeout.is_zero()),
            ("jwksRefresh", self.jwks_refresh.is_zero()),
            ("jwksRetry", self.jwks_retry.is_zero()),
        ];
        zero.into_iter().find(|(_, is_zero)| *is_zero).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn flags(line: &str) -> TokenLimits {
        let command = TokenLimitSettings::augment_args(clap::Command::new("x"));
        let matches = command.get_matches_from(std::iter::once("x").chain(line.split_whitespace()));
        TokenLimitSettings::from_arg_matches(&matches).unwrap().over(TokenLimits::default())
    }

    #[test]
    fn each_bound_has_its_flag_and_the_help_tells_the_default() {
        let expected = TokenLimits {
            token_bytes: 1,
            leeway: Duration::from_secs(2),
            cached_tokens: 3,
            cached_token_bytes: 4,
            jwks_keys: 5,
            jwks_bytes: 6,
            jwks_timeout: Duration::from_secs(7),
            jwks_refresh: Duration::from_secs(8),
            jwks_retry: Duration::from_secs(9),
            jwks_ca: Some("ca.pem".into()),
        };
        let line = "--token-bytes 1 --token-leeway 2s --cached-tokens 3 --cached-token-bytes 4 --jwks-keys 5 \
                    --jwks-bytes 6 --jwks-timeout 7s --jwks-refresh 8s --jwks-retry 9s --jwks-ca ca.pem";
        assert_eq!(flags(line), expected);
        assert_eq!(flags(""), TokenLimits::default());
        let help = TokenLimitSettings::augment_args(clap::Command::new("x")).render_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for default in ["8192", "60s", "1000", "4194304", "32", "262144", "5s", "5m", "10s"] {
            assert!(help.contains(&format!("[default: {default}]")), "{default}: {help}");
        }
    }

    #[test]
    fn a_bound_of_zero_that_refuses_everything_is_named() {
        assert_eq!(TokenLimits::default().zero(), None);
        assert_eq!(flags("--jwks-retry 0s").zero(), Some("jwksRetry"));
        assert_eq!(flags("--cached-tokens 0").zero(), None);
    }
}
