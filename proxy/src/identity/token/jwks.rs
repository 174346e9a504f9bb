//! A set of keys (RFC 7517), of which those are kept that can verify a signature, each with what it is for.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// Public keys of one issuer.
pub(super) struct KeySet {
    keys: Vec<Key>,
    text: [u8; 32],
}

struct Key {
    kid: Option<String>,
    /// What the key says that it is for.
    only: Option<Algorithm>,
    kind: Kind,
    key: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => matches!(
                algorithm,
                Algorithm::RS256
                    | Algorithm::RS384
                    | Algorithm::RS512
                    | Algorithm::PS256
                    | Algorithm::PS384
                    | Algorithm::PS512
            ),
            Self::P256 => algorithm == Algorithm::ES256,
            Self::P384 => algorithm == Algorithm::ES384,
            Self::Ed25519 => algorithm == Algorithm::EdDSA,
        }
    }
}

/// Why a text is no set of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadKeys {
    #[error("it has {0} bytes, more than `jwksBytes` ({1}) allows")]
    TooLarge(usize, usize),
    #[error("it is no JSON object with a list `keys` (RFC 7517): {0}")]
    Malformed(String),
    #[error("it has {0} keys, more than `jwksKeys` ({1}) allows")]
    TooMany(usize, usize),
    #[error("none of its {0} keys can verify a signature: RSA from 2048 bits, P-256, P-384 and Ed25519 can")]
    Useless(usize),
}

impl KeySet {
    /// Reads a set, or a single key.
    ///
    /// SPEC: RFC 7517 5, keys that are not understood are passed over.
    pub(super) fn read(text: &[u8], most_bytes: usize, most_keys: usize) -> Result<Self, BadKeys> {
        if text.len() > most_bytes {
            return Err(BadKeys::TooLarge(text.len(), most_bytes));
        }
        let mut whole: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| BadKeys::Malformed(error.to_string()))?;
        let listed = match whole.remove("keys") {
            Some(Value::Array(keys)) => keys,
            Some(_) => return Err(BadKeys::Malformed("`keys` is no list".into())),
            None => vec![Value::Object(whole)],
        };
        if listed.len() > most_keys {
            return Err(BadKeys::TooMany(listed.len(), most_keys));
        }
        let count = listed.len();
        let keys: Vec<Key> = listed.into_iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            Err(BadKeys::Useless(count))
        } else {
            Ok(Self { keys, text: Sha256::digest(text).into() })
        }
    }

    /// Whether it was read from this text.
    pub(super) fn is_of(&self, text: &[u8]) -> bool {
        self.text == *Sha256::digest(text)
    }

    /// The keys that a token with this header may mean.
    pub(super) fn meant(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        self.keys.iter().filter(move |key| key.is_meant(kid, algorithm)).map(|key| &key.key)
    }

    /// How many keys it has.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.len()).finish()
    }
}

impl Key {
    fn read(value: Value) -> Option<Self> {
        let has_algorithm = value.get("alg").is_some();
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let only = jwk.common.key_algorithm.and_then(|named| Algorithm::try_from(named).ok());
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Kind::Rsa,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Kind::P256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => Kind::P384,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Kind::Ed25519,
            _ => return None,
        };
        let is_of_kind = match only {
            Some(only) => kind.fits(only),
            // An algorithm of another trade, such as one that encrypts.
            None => !has_algorithm,
        };
        let signs = jwk.common.public_key_use.as_ref().is_none_or(|of| *of == PublicKeyUse::Signature)
            && jwk.common.key_operations.as_ref().is_none_or(|of| of.contains(&KeyOperations::Verify));
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        (is_of_kind && signs && is_long_enough(kind, &key)).then_some(Self { kid: jwk.common.key_id, only, kind, key })
    }

    /// A key without a `kid` may be any, and a token without one may be any key's.
    fn is_meant(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        let by_name = match (&self.kid, kid) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        };
        by_name && self.kind.fits(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }
}

/// SPEC: RFC 7518 3.3, 2048 bits or more. The other kinds have one length.
fn is_long_enough(kind: Kind, key: &DecodingKey) -> bool {
    match (kind, key.kind()) {
        (Kind::Rsa, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            let first = n.iter().position(|byte| *byte != 0).unwrap_or(n.len());
            n.len() - first >= 256
        }
        (Kind::Rsa, _) => false,
        (Kind::P256, _) => key.try_get_as_bytes().is_ok_and(|point| point.len() == 65),
        (Kind::P384, _) => key.try_get_as_bytes().is_ok_and(|point| point.len() == 97),
        (Kind::Ed25519, _) => key.try_get_as_bytes().is_ok_and(|point| point.len() == 32),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::verify::tests::{Signer, set};
    use super::*;

    #[test]
    fn keys_that_cannot_be_used_are_passed_over_and_sets_are_bounded() {
        let signer = Signer::ed25519("a");
        let with = |name: &str, value: Value| {
            let mut jwk = signer.jwk();
            jwk[name] = value;
            jwk
        };
        for (jwk, expected) in [
            (signer.jwk(), 1),
            (with("use", json!("sig")), 1),
            (with("use", json!("enc")), 0),
            (with("key_ops", json!(["verify"])), 1),
            (with("key_ops", json!(["sign"])), 0),
            (with("alg", json!("RSA-OAEP")), 0),
            (with("alg", json!("HS256")), 0),
            (with("alg", json!("ES256")), 0),
            (with("crv", json!("Ed448")), 0),
            (with("x", json!("AAAA")), 0),
            (with("x", json!("!")), 0),
            (json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}), 0),
            (json!({"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}), 0),
            (json!(5), 0),
        ] {
            let count = set(std::slice::from_ref(&jwk)).map_or(0, |set| set.len());
            assert_eq!(count, expected, "{jwk}");
        }
        assert_eq!(KeySet::read(signer.jwk().to_string().as_bytes(), 1_000, 1).unwrap().len(), 1, "one key alone");
        assert_eq!(set(&[]).unwrap_err(), BadKeys::Useless(0));
        assert_eq!(set(&vec![signer.jwk(); 11]).unwrap_err(), BadKeys::TooMany(11, 10));
        assert_eq!(KeySet::read(b"{\"keys\": []}", 11, 10).unwrap_err(), BadKeys::TooLarge(12, 11));
        for text in ["", "[]", "{\"keys\": {}}", "{\"keys\": ["] {
            assert!(matches!(KeySet::read(text.as_bytes(), 100, 10), Err(BadKeys::Malformed(_))), "{text}");
        }
    }
}
