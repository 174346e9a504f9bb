//! What an agent answers about one account, and what of it is taken.

use eastwall_protocol::delegated_identity::{SpiffeId, SvidWithKey, SvidsResponse};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Account;
use crate::identity::mtls::peer::{self, PeerRefused};
use crate::identity::mtls::svid::KeyPair;

/// See the module.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) svid: Result<Given, NoSvid>,
    /// Trust domains.
    pub(super) federates_with: Vec<String>,
}

/// A certificate and its key, as they came.
pub(super) struct Given {
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    expires_at: i64,
}

/// Why nothing is taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoSvid {
    #[error("the agent has none: is there an entry with the selectors k8s:ns:{0} and k8s:sa:{1} alone?")]
    None(String, String),
    #[error("refused: the agent gave what is of others: {0}")]
    Others(String),
}

impl Answer {
    /// An SVID counts where its certificate, and what the agent says of it, name the account that was asked for.
    pub(super) fn new(account: &Account, response: SvidsResponse) -> Self {
        let federates_with = response.federates_with.iter().map(|domain| trust_domain(domain).to_owned()).collect();
        let (mut best, mut others): (Option<Given>, Vec<String>) = (None, Vec::new());
        for svid in response.x509_svids {
            match given(account, svid) {
                // Of two the one that lives longer.
                Ok(own) if best.as_ref().is_none_or(|held| held.expires_at < own.expires_at) => best = Some(own),
                Ok(_) => {}
                Err(other) => others.push(other),
            }
        }
        let none = || match others.is_empty() {
            true => NoSvid::None(account.namespace.to_string(), account.name.to_string()),
            false => NoSvid::Others(others.join(", ")),
        };
        Self { svid: best.ok_or_else(none), federates_with }
    }
}

impl Given {
    pub(super) fn key_pair(&self) -> KeyPair {
        KeyPair { chain: self.chain.clone(), key: PrivateKeyDer::from(self.key.clone_key()) }
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// Or whose it is instead, in words.
fn given(account: &Account, svid: SvidWithKey) -> Result<Given, String> {
    let key = PrivatePkcs8KeyDer::from(svid.x509_svid_key);
    let svid = svid.x509_svid.unwrap_or_default();
    let chain: Vec<CertificateDer<'static>> = svid.cert_chain.into_iter().map(CertificateDer::from).collect();
    let said = svid.id.map(|SpiffeId { trust_domain, path }| format!("spiffe://{trust_domain}{path}"));
    let shown = chain.first().ok_or(PeerRefused::NoCertificate).and_then(peer::spiffe_id);
    let shown = shown.map(|id| id.to_string()).map_err(|error| error.to_string())?;
    match said {
        Some(said) if said != shown => Err(format!("`{shown}` by its certificate and `{said}` by its name")),
        _ if shown != account.spiffe_id => Err(format!("`{shown}`")),
        _ => Ok(Given { chain, key, expires_at: svid.expires_at }),
    }
}

/// The name alone, where an agent writes the SPIFFE id of the domain.
pub(super) fn trust_domain(written: &str) -> &str {
    written.strip_prefix("spiffe://").unwrap_or(written)
}

/// Certificates in DER, one after the other.
pub(super) fn certificates(mut bytes: &[u8]) -> Result<Vec<CertificateDer<'_>>, PeerRefused> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (rest, _) = X509Certificate::from_der(bytes).map_err(|_| PeerRefused::Malformed)?;
        let (one, _) = bytes.split_at_checked(bytes.len() - rest.len()).ok_or(PeerRefused::Malformed)?;
        found.push(CertificateDer::from(one));
        bytes = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use eastwall_protocol::delegated_identity::Svid;
    use rcgen::{CertificateParams, KeyPair as Key, SanType};

    use super::*;

    const OWN: &str = "spiffe://cluster.local/ns/shop/sa/orders";

    fn account() -> Account {
        Account { namespace: "shop".into(), name: "orders".into(), spiffe_id: OWN.into() }
    }

    fn certificate(id: &str) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.self_signed(&Key::generate().unwrap()).unwrap().der().to_vec()
    }

    fn svid(shown: &str, said: Option<(&str, &str)>, expires_at: i64) -> SvidWithKey {
        let id = said.map(|(domain, path)| SpiffeId { trust_domain: domain.into(), path: path.into() });
        let made = Svid { cert_chain: vec![certificate(shown)], id, expires_at };
        SvidWithKey { x509_svid: Some(made), x509_svid_key: vec![1] }
    }

    fn answer(x509_svids: Vec<SvidWithKey>) -> Answer {
        let federates_with = vec!["spiffe://partner.example".into(), "other.example".into()];
        Answer::new(&account(), SvidsResponse { x509_svids, federates_with })
    }

    #[test]
    fn only_the_account_that_was_asked_for_is_taken() {
        let own = |expires_at| svid(OWN, Some(("cluster.local", "/ns/shop/sa/orders")), expires_at);
        let other = || svid("spiffe://cluster.local/ns/shop/sa/web", None, 9);
        let taken = |svids| answer(svids).svid.map(|given| given.expires_at);
        assert_eq!(taken(vec![own(1)]), Ok(1));
        assert_eq!(taken(vec![svid(OWN, None, 1)]), Ok(1));
        assert_eq!(taken(vec![other(), own(1), own(3), own(2), other()]), Ok(3));
        let refused = |svids, part: &str| {
            let why = taken(svids).unwrap_err().to_string();
            assert!(why.contains(part), "{why}");
        };
        refused(Vec::new(), "k8s:ns:shop and k8s:sa:orders");
        refused(vec![other()], "of others: `spiffe://cluster.local/ns/shop/sa/web`");
        refused(vec![svid("spiffe://other/ns/shop/sa/orders", None, 1)], "`spiffe://other/ns/shop/sa/orders`");
        refused(
            vec![svid(OWN, Some(("cluster.local", "/ns/shop/sa/web")), 1)],
            "by its certificate and `spiffe://cluster.local/ns/shop/sa/web`",
        );
        refused(vec![SvidWithKey::default()], "of others");
        assert_eq!(answer(Vec::new()).federates_with, ["partner.example", "other.example"]);
    }

    #[test]
    fn bundles_are_certificates_one_after_the_other() {
        let (one, two) = (certificate(OWN), certificate(OWN));
        let whole = [one.clone(), two.clone()].concat();
        assert_eq!(certificates(&whole).unwrap(), [CertificateDer::from(one), CertificateDer::from(two)]);
        assert!(certificates(&[]).unwrap().is_empty());
        assert!(certificates(&whole[..whole.len() - 1]).is_err());
    }
}
