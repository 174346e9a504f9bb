//! An item of `tokens` in the configuration file: whose tokens are accepted, and on which conditions.

use std::path::Path;
use std::sync::Arc;

use eastwall_policy::model::{JwtRule, KeysFrom, TokenPlace};
use serde::Deserialize;

use super::Algorithms;

/// Tokens of one issuer that whoever operates the proxy accepts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Accepts {
    /// Of whom, for whom, and where the keys are.
    pub(crate) rule: JwtRule,
    /// How it may be signed.
    pub(crate) algorithms: Algorithms,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written {
    issuer: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    any_audience: bool,
    jwks: Option<String>,
    algorithms: Option<Vec<String>>,
}

/// Why an item is refused.
#[derive(Debug, thiserror::Error)]
enum BadIssuer {
    #[error("`issuer` is empty: write the claim `iss` exactly as the tokens have it")]
    NoIssuer,
    #[error(
        "`{0}` accepts tokens for nobody: list `audiences`, or write `anyAudience: true` to accept what was issued for others"
    )]
    NoAudience(String),
    #[error("`{0}` has `audiences` and `anyAudience`: keep one of them")]
    TwoAudiences(String),
    #[error("`jwks` of `{0}` is empty: write a file or an URL, or leave it out to ask the issuer where its keys are")]
    NoKeys(String),
    #[error("`{0}` is no algorithm of a public key: write some of {names}, or leave `algorithms` out", names = Algorithms::names())]
    Algorithm(String),
    #[error("`algorithms` of `{0}` is empty: list at least one, or leave it out")]
    NoAlgorithm(String),
}

impl TryFrom<Written> for Accepts {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        accepts(written).map_err(|error| error.to_string())
    }
}

fn accepts(written: Written) -> Result<Accepts, BadIssuer> {
    let Written { issuer, audiences, any_audience, jwks, algorithms } = written;
    if issuer.is_empty() {
        return Err(BadIssuer::NoIssuer);
    }
    match (audiences.iter().any(|audience| !audience.is_empty()), any_audience) {
        (false, false) => return Err(BadIssuer::NoAudience(issuer)),
        (true, true) => return Err(BadIssuer::TwoAudiences(issuer)),
        _ => {}
    }
    let algorithms = match algorithms.as_deref() {
        None => Algorithms::ALL,
        Some([]) => return Err(BadIssuer::NoAlgorithm(issuer)),
        Some(names) => Algorithms::named(names).map_err(|name| BadIssuer::Algorithm(name.clone()))?,
    };
    let keys = match jwks.as_deref() {
        None => KeysFrom::Issuer(issuer.as_str().into()),
        Some("") => return Err(BadIssuer::NoKeys(issuer)),
        Some(address) if address.starts_with("https://") || address.starts_with("http://") => {
            KeysFrom::Address(address.into())
        }
        Some(path) => KeysFrom::File(Arc::from(Path::new(path))),
    };
    let rule = JwtRule {
        issuer: Some(issuer.into()),
        audiences: audiences.into_iter().map(Into::into).collect(),
        keys,
        places: vec![TokenPlace::Bearer],
        told_in: Vec::new(),
    };
    Ok(Accepts { rule, algorithms })
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;

    use super::*;

    fn read(text: &str) -> Result<Accepts, String> {
        serde_saphyr::from_str(text).map_err(|error: serde_saphyr::Error| error.to_string())
    }

    #[test]
    fn what_is_written_is_what_is_accepted() {
        let file = read("{issuer: https://sso, audiences: [orders], jwks: keys.json, algorithms: [ES256]}").unwrap();
        assert_eq!(file.rule.keys, KeysFrom::File(Arc::from(Path::new("keys.json"))));
        assert!(file.algorithms.contains(Algorithm::ES256) && !file.algorithms.contains(Algorithm::RS256));
        let address = read("{issuer: https://sso, anyAudience: true, jwks: \"https://sso/keys\"}").unwrap();
        assert_eq!(address.rule.keys, KeysFrom::Address("https://sso/keys".into()));
        assert!(address.rule.audiences.is_empty());
        assert!(!address.algorithms.contains(Algorithm::HS256), "a public key is no secret");
        let asked = read("{issuer: https://sso, audiences: [orders]}").unwrap();
        assert_eq!(asked.rule.keys, KeysFrom::Issuer("https://sso".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("{issuer: \"\", audiences: [a]}", "`issuer` is empty"),
            ("{audiences: [a]}", "issuer"),
            ("{issuer: i}", "anyAudience: true"),
            ("{issuer: i, audiences: []}", "anyAudience: true"),
            ("{issuer: i, audiences: [\"\"]}", "anyAudience: true"),
            ("{issuer: i, audiences: [a], anyAudience: true}", "keep one"),
            ("{issuer: i, audiences: [a], jwks: \"\"}", "`jwks` of `i` is empty"),
            ("{issuer: i, audiences: [a], algorithms: []}", "list at least one"),
            ("{issuer: i, audiences: [a], algorithms: [HS256]}", "`HS256` is no algorithm of a public key"),
            ("{issuer: i, audiences: [a], algorithms: [none]}", "`none` is no algorithm"),
            ("{issuer: i, audiences: [a], audience: b}", "audience"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
