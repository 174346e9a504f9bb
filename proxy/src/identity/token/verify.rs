//! One token and one set of keys: does a key of the set say that the token is its issuer's?
//!
//! RFC 8725: the algorithm is one that is listed, and the key's own; no symmetric one is ever used, so that a public key
//! is never a secret; nothing in a token says where keys are (`jku`, `jwk`, `x5u`, `x5c` have no effect).

use jsonwebtoken::{Algorithm, crypto, dangerous};
use serde_json::{Map, Value};

use super::Finding;
use super::jwks::KeySet;

/// Algorithms that signatures may have, all asymmetric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Algorithms(u16);

/// Names (RFC 7518 3.1, RFC 8037 3.1), and what each is.
const ASYMMETRIC: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

impl Algorithms {
    /// Every one.
    pub(crate) const ALL: Self = Self((1 << ASYMMETRIC.len()) - 1);

    /// Those of these names; the error is a name that is none.
    pub(crate) fn named(names: &[String]) -> Result<Self, &String> {
        names.iter().try_fold(Self(0), |list, name| {
            let position = ASYMMETRIC.iter().position(|(known, _)| known == name).ok_or(name)?;
            Ok(Self(list.0 | 1 << position))
        })
    }

    /// Names of all, for whoever wrote another.
    pub(crate) fn names() -> String {
        ASYMMETRIC.map(|(name, _)| name).join(", ")
    }

    /// Whether it is one of these.
    pub(crate) fn contains(self, algorithm: Algorithm) -> bool {
        ASYMMETRIC
            .iter()
            .position(|(_, known)| *known == algorithm)
            .is_some_and(|position| self.0 & (1 << position) != 0)
    }
}

/// The parts of a token as they are written. Nothing of it is true before a key has said so.
#[derive(Debug)]
pub(super) struct Unverified {
    pub(super) algorithm: Algorithm,
    kid: Option<String>,
    pub(super) claims: Value,
}

impl Unverified {
    /// Reads a token of three parts.
    pub(super) fn read(token: &str) -> Result<Self, Finding> {
        let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
            // `none`, and whatever else no key of a set could have signed with.
            jsonwebtoken::errors::ErrorKind::Json(_) if names_algorithm(token) => Finding::Algorithm,
            _ => Finding::Malformed,
        })?;
        if !Algorithms::ALL.contains(header.alg) {
            return Err(Finding::Algorithm);
        }
        // SPEC: RFC 7515 4.1.11, what is critical must be understood, and nothing is.
        if header.crit.is_some() {
            return Err(Finding::Malformed);
        }
        let claims: Map<String, Value> = dangerous::insecure_decode_claims(token).map_err(|_| Finding::Malformed)?;
        Ok(Self { algorithm: header.alg, kid: header.kid, claims: Value::Object(claims) })
    }

    /// Whether a key of the set made the signature.
    pub(super) fn verify(&self, token: &str, keys: &KeySet) -> Result<(), Finding> {
        let (message, signature) = token.rsplit_once('.').ok_or(Finding::Malformed)?;
        let mut finding = Finding::UnknownKey;
        for key in keys.meant(self.kid.as_deref(), self.algorithm) {
            match crypto::verify(signature, message.as_bytes(), key, self.algorithm) {
                Ok(true) => return Ok(()),
                Ok(false) | Err(_) => finding = Finding::Signature,
            }
        }
        Err(finding)
    }

    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str()
    }

    /// SPEC: RFC 7519 4.1.3, one text or a list of them.
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match self.claims.get("aud") {
            Some(Value::String(only)) => only == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    /// Whether it is valid at this time. `exp` is required.
    pub(super) fn in_time(&self, now: i64, leeway: i64) -> Result<(), Finding> {
        let ends = self.ends().ok_or(Finding::Expired)?;
        // SPEC: RFC 7519 4.1.4, on or after that time it is not accepted.
        if now >= ends.saturating_add(leeway) {
            return Err(Finding::Expired);
        }
        match self.claims.get("nbf") {
            None => Ok(()),
            begins => match seconds(begins) {
                Some(begins) if now.saturating_add(leeway) >= begins => Ok(()),
                _ => Err(Finding::NotYetValid),
            },
        }
    }

    /// When it ends.
    pub(super) fn ends(&self) -> Option<i64> {
        seconds(self.claims.get("exp"))
    }
}

/// SPEC: RFC 7519 2, NumericDate: seconds, which may have a fraction.
fn seconds(date: Option<&Value>) -> Option<i64> {
    match date? {
        Value::Number(number) => number.as_i64().or_else(|| {
            let fraction = number.as_f64().filter(|seconds| seconds.abs() < LAST_DATE)?;
            #[expect(clippy::cast_possible_truncation, reason = "smaller than the bound, and the fraction is to go")]
            Some(fraction.floor() as i64)
        }),
        _ => None,
    }
}

/// Every whole number below it is exact.
const LAST_DATE: f64 = 9_007_199_254_740_992.0;

/// Whether the header is an object that names an algorithm: then that is what it was refused for.
fn names_algorithm(token: &str) -> bool {
    // The claims' place is where the reader of claims looks, so the header is put there.
    let header = token.split('.').next().unwrap_or_default();
    let read: Result<Map<String, Value>, _> = dangerous::insecure_decode_claims(format!(".{header}."));
    read.is_ok_and(|header| header.get("alg").is_some_and(Value::is_string))
}

#[cfg(test)]
pub(super) mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature as lc;
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::super::jwks::BadKeys;
    use super::*;

    /// Whoever makes tokens.
    pub(crate) struct Signer {
        kid: String,
        algorithm: Algorithm,
        key: EncodingKey,
    }

    impl Signer {
        pub(crate) fn ed25519(kid: &str) -> Self {
            let key = lc::Ed25519KeyPair::generate().unwrap();
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
            Self { kid: kid.into(), algorithm: Algorithm::EdDSA, key: EncodingKey::from_ed_der(der.as_ref()) }
        }

        pub(crate) fn ec(kid: &str, algorithm: Algorithm) -> Self {
            let curve = match algorithm {
                Algorithm::ES256 => &lc::ECDSA_P256_SHA256_FIXED_SIGNING,
                _ => &lc::ECDSA_P384_SHA384_FIXED_SIGNING,
            };
            let der = lc::EcdsaKeyPair::generate(curve).unwrap().to_pkcs8v1().unwrap();
            Self { kid: kid.into(), algorithm, key: EncodingKey::from_ec_der(der.as_ref()) }
        }

        pub(crate) fn rsa(kid: &str, algorithm: Algorithm) -> Self {
            let key = lc::RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
            // What is wrapped (RFC 5208) is the key itself (RFC 8017 A.1.2), behind 26 bytes.
            Self { kid: kid.into(), algorithm, key: EncodingKey::from_rsa_der(&der.as_ref()[26..]) }
        }

        pub(crate) fn sign(&self, claims: &Value) -> String {
            self.sign_with(self.algorithm, Some(&self.kid), claims)
        }

        fn sign_with(&self, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
            let header = Header { kid: kid.map(Into::into), ..Header::new(algorithm) };
            jsonwebtoken::encode(&header, claims, &self.key).unwrap()
        }

        pub(crate) fn jwk(&self) -> Value {
            let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
            jwk["kid"] = json!(self.kid);
            jwk
        }
    }

    /// A set of the public keys.
    pub(crate) fn keys_of(signers: &[&Signer]) -> KeySet {
        set(&signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()).unwrap()
    }

    pub(crate) fn set(keys: &[Value]) -> Result<KeySet, BadKeys> {
        KeySet::read(json!({ "keys": keys }).to_string().as_bytes(), 100_000, 10)
    }

    fn checked(token: &str, keys: &KeySet) -> Result<(), Finding> {
        Unverified::read(token)?.verify(token, keys)
    }

    fn every() -> Vec<Signer> {
        vec![
            Signer::rsa("rs256", Algorithm::RS256),
            Signer::rsa("ps384", Algorithm::PS384),
            Signer::ec("es256", Algorithm::ES256),
            Signer::ec("es384", Algorithm::ES384),
            Signer::ed25519("ed"),
        ]
    }

    #[test]
    fn every_kind_of_key_verifies_its_own_tokens_alone() {
        let signers = every();
        let keys = keys_of(&signers.iter().collect::<Vec<_>>());
        let claims = json!({"exp": 1});
        for signer in &signers {
            let token = signer.sign(&claims);
            assert_eq!(checked(&token, &keys), Ok(()), "{}", signer.kid);
            let unnamed = signer.sign_with(signer.algorithm, None, &claims);
            assert_eq!(checked(&unnamed, &keys), Ok(()), "{}", signer.kid);
            let other = signer.sign_with(signer.algorithm, Some("other"), &claims);
            assert_eq!(checked(&other, &keys), Err(Finding::UnknownKey), "{}", signer.kid);
            let mut stranger = every().into_iter().find(|one| one.algorithm == signer.algorithm).unwrap();
            stranger.kid.clone_from(&signer.kid);
            assert_eq!(checked(&stranger.sign(&claims), &keys), Err(Finding::Signature), "{}", signer.kid);
            let (head, signature) = token.rsplit_once('.').unwrap();
            let (header, _) = head.split_once('.').unwrap();
            let (_, others) =
                signer.sign(&json!({"exp": 2})).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            assert_eq!(checked(&format!("{head}.{others}"), &keys), Err(Finding::Signature));
            let forged = signer.sign(&json!({"exp": 9, "admin": true}));
            let payload = forged.split('.').nth(1).unwrap();
            assert_eq!(checked(&format!("{header}.{payload}.{signature}"), &keys), Err(Finding::Signature));
        }
    }

    #[test]
    fn the_algorithm_is_the_keys_own() {
        let rsa = Signer::rsa("a", Algorithm::RS256);
        let claims = json!({"exp": 1});
        let pinned = keys_of(&[&rsa]);
        let pss = rsa.sign_with(Algorithm::PS256, Some("a"), &claims);
        assert_eq!(checked(&pss, &pinned), Err(Finding::UnknownKey), "the key says RS256");
        let mut open = rsa.jwk();
        open.as_object_mut().unwrap().remove("alg");
        assert_eq!(checked(&pss, &set(&[open]).unwrap()), Ok(()), "the key does not say");
        for (other, algorithm) in
            [(Signer::ec("a", Algorithm::ES384), Algorithm::ES256), (Signer::ed25519("a"), Algorithm::RS256)]
        {
            let (mut jwk, mut signer) = (other.jwk(), Signer::ec("a", Algorithm::ES256));
            jwk.as_object_mut().unwrap().remove("alg");
            if algorithm == Algorithm::RS256 {
                signer = Signer::rsa("a", algorithm);
            }
            assert_eq!(
                checked(&signer.sign(&claims), &set(&[jwk]).unwrap()),
                Err(Finding::UnknownKey),
                "{algorithm:?}"
            );
        }
        // An EC key named by a token that says RSA, and the other way round.
        let ec = Signer::ec("a", Algorithm::ES256);
        assert_eq!(checked(&rsa.sign(&claims), &keys_of(&[&ec])), Err(Finding::UnknownKey));
        assert_eq!(checked(&ec.sign(&claims), &keys_of(&[&rsa])), Err(Finding::UnknownKey));
    }

    #[test]
    fn a_public_key_is_never_a_secret_and_no_signature_is_none() {
        let rsa = Signer::rsa("a", Algorithm::RS256);
        let keys = keys_of(&[&rsa]);
        let claims = json!({"exp": 1});
        let modulus = rsa.jwk()["n"].as_str().unwrap().to_owned();
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let secret = Signer { kid: "a".into(), algorithm, key: EncodingKey::from_secret(modulus.as_bytes()) };
            assert_eq!(checked(&secret.sign(&claims), &keys), Err(Finding::Algorithm), "{algorithm:?}");
        }
        let signed = rsa.sign(&claims);
        let payload = signed.split('.').nth(1).unwrap();
        for (header, expected) in [
            ("eyJhbGciOiJub25lIn0", Finding::Algorithm),  // {"alg":"none"}
            ("eyJhbGciOiJOb05lIn0", Finding::Algorithm),  // {"alg":"NoNe"}
            ("eyJhbGciOiJFUzUxMiJ9", Finding::Algorithm), // {"alg":"ES512"}
            ("e30", Finding::Malformed),                  // {}
            ("W10", Finding::Malformed),                  // []
        ] {
            assert_eq!(checked(&format!("{header}.{payload}.AAAA"), &keys), Err(expected), "{header}");
        }
        // A set with nothing but a secret in it is of no use.
        assert_eq!(set(&[json!({"kty": "oct", "k": "AAAA", "alg": "HS256"})]).unwrap_err(), BadKeys::Useless(1));
    }

    #[test]
    fn what_is_no_token_is_malformed() {
        let signer = Signer::ed25519("a");
        let good = signer.sign(&json!({"exp": 1}));
        let mut parts: Vec<&str> = good.split('.').collect();
        parts[1] = "W10"; // []
        for token in [parts.join("."), good.replace('.', "!."), "a.b.c".into(), good.replacen('e', "é", 1)] {
            assert_eq!(Unverified::read(&token).unwrap_err(), Finding::Malformed, "{token}");
        }
        let critical = Header { crit: Some(vec!["b64".into()]), ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&critical, &json!({"exp": 1}), &signer.key).unwrap();
        assert_eq!(Unverified::read(&token).unwrap_err(), Finding::Malformed);
        let padded = format!("{good}=");
        assert_eq!(checked(&padded, &keys_of(&[&signer])), Err(Finding::Signature));
    }

    #[test]
    fn times() {
        use Finding::{Expired, NotYetValid};
        let signer = Signer::ed25519("a");
        for (claims, now, expected) in [
            (json!({"exp": 100}), 99, Ok(())),
            (json!({"exp": 100}), 109, Ok(())),
            (json!({"exp": 100}), 110, Err(Expired)),
            (json!({"exp": 100.9}), 109, Ok(())),
            (json!({"exp": 100.9}), 110, Err(Expired)),
            (json!({}), 0, Err(Expired)),
            (json!({"exp": "100"}), 0, Err(Expired)),
            (json!({"exp": null}), 0, Err(Expired)),
            (json!({"exp": 1e300}), 0, Err(Expired)),
            (json!({"exp": i64::MAX}), i64::MAX - 1, Ok(())),
            (json!({"exp": 100, "nbf": 60}), 50, Ok(())),
            (json!({"exp": 100, "nbf": 60}), 49, Err(NotYetValid)),
            (json!({"exp": 100, "nbf": "60"}), 90, Err(NotYetValid)),
            (json!({"exp": 100, "nbf": null}), 90, Err(NotYetValid)),
        ] {
            let read = Unverified::read(&signer.sign(&claims)).unwrap();
            assert_eq!(read.in_time(now, 10), expected, "{claims} at {now}");
        }
    }

    #[test]
    fn audiences_are_compared_whole() {
        let signer = Signer::ed25519("a");
        for (audience, expected) in [
            (json!("orders"), true),
            (json!(["other", "orders"]), true),
            (json!("orders "), false),
            (json!("orders2"), false),
            (json!("Orders"), false),
            (json!(["other"]), false),
            (json!([]), false),
            (json!({"orders": 1}), false),
            (json!(null), false),
        ] {
            let read = Unverified::read(&signer.sign(&json!({"aud": audience}))).unwrap();
            assert_eq!(read.is_for("orders"), expected, "{audience}");
        }
    }
}
