//! Identities from SPIRE's Delegated Identity API: the agent of this node gives a node proxy the SVIDs of the pods that it
//! serves, and of no others.

mod answer;
mod channel;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use eastwall_protocol::delegated_identity::delegated_identity_client::DelegatedIdentityClient;
use eastwall_protocol::delegated_identity::{BundlesRequest, Selector, SvidsRequest, SvidsResponse};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_stream::{StreamExt as _, StreamMap, StreamNotifyClose};
use tonic::{Status, Streaming};

use super::peer::PeerRefused;
use super::source::Material;
use answer::Answer;
use channel::{Broken, Channel};

/// The pods that are served.
pub(crate) struct Pods {
    /// When to look again; that nobody says so is no reason not to.
    pub(crate) changed: watch::Receiver<u64>,
    /// Who they are now.
    pub(crate) served: Box<dyn Fn() -> Served>,
}

/// See [`Pods`].
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// Of this cluster.
    pub(crate) trust_domain: String,
    pub(crate) accounts: BTreeSet<Account>,
}

/// A service account that some pod here runs as.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Account {
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    /// The only identity that is taken for it.
    pub(crate) spiffe_id: String,
}

/// What the agent has said, over all connections to it.
#[derive(Debug, Default)]
pub(super) struct Said {
    bundles: BTreeMap<String, Vec<u8>>,
    answers: BTreeMap<Account, Answer>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no connection: {0}")]
    Connection(#[from] Broken),
    #[error("{}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
    #[error("the agent has ended the stream")]
    Ended,
    #[error("the agent has not answered within {PATIENCE:?}")]
    Late,
    #[error("the authorities of `{domain}`: {source}")]
    Bundle { domain: String, source: PeerRefused },
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

type Answers = StreamMap<Account, StreamNotifyClose<Streaming<SvidsResponse>>>;

/// Hands over what the agent says, each time that it says something else or other pods are served, until it breaks off.
pub(super) async fn follow(
    socket: &Path,
    pods: &mut Pods,
    said: &mut Said,
    mut take: impl FnMut(Material),
) -> Result<Infallible, Failure> {
    let channel = in_time(async { Channel::connect(socket).await.map_err(Failure::from) }).await?;
    let mut client = DelegatedIdentityClient::with_origin(channel, Channel::origin());
    let bundles = async { Ok(client.subscribe_to_x509_bundles(BundlesRequest {}).await?) };
    let mut bundles = in_time(bundles).await?.into_inner();
    let mut answers = Answers::new();
    let mut known = false;
    loop {
        let served = (pods.served)();
        let gone: Vec<Account> = answers.keys().filter(|held| !served.accounts.contains(*held)).cloned().collect();
        let mut is_news = !gone.is_empty();
        gone.iter().for_each(|account| drop(answers.remove(account)));
        said.answers.retain(|account, _| served.accounts.contains(account));
        for account in &served.accounts {
            if !answers.contains_key(account) {
                let asked = async { Ok(client.subscribe_to_x509svi_ds(account.request()).await?) };
                answers.insert(account.clone(), StreamNotifyClose::new(in_time(asked).await?.into_inner()));
            }
        }
        tokio::select! {
            update = bundles.message() => {
                said.bundles = update?.ok_or(Failure::Ended)?.ca_certificates.into_iter().collect();
                (known, is_news) = (true, true);
            }
            Some((account, update)) = answers.next(), if !answers.is_empty() => {
                let update = update.ok_or(Failure::Ended)??;
                said.answers.insert(account.clone(), Answer::new(&account, update));
                is_news = true;
            }
            _ = pods.changed.changed(), if pods.changed.has_changed().is_ok() => {}
            () = sleep(LOOK) => {}
        }
        // Whoever has said nothing of authorities has said nothing of use.
        if is_news && known {
            take(said.material(&served.trust_domain)?);
        }
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(PATIENCE, work).await.unwrap_or(Err(Failure::Late))
}

impl Account {
    /// Asks for the entries that are written for the account, and for nothing else of its pods.
    fn request(&self) -> SvidsRequest {
        let selector = |value: String| Selector { r#type: "k8s".into(), value };
        let selectors = vec![selector(format!("ns:{}", self.namespace)), selector(format!("sa:{}", self.name))];
        SvidsRequest { selectors }
    }
}

impl Said {
    /// Only the authorities of this cluster and of domains that an entry federates with are believed, of all that the agent
    /// has.
    fn material(&self, trust_domain: &str) -> Result<Material, Failure> {
        let mut material = Material::default();
        let mut believed = BTreeSet::from([trust_domain]);
        for (account, answer) in &self.answers {
            believed.extend(answer.federates_with.iter().map(String::as_str));
            match &answer.svid {
                Ok(svid) => material.pairs.push((account.spiffe_id.clone(), svid.key_pair())),
                Err(why) => drop(material.refused.insert(account.spiffe_id.clone(), why.to_string())),
            }
        }
        for (domain, bundle) in &self.bundles {
            let domain = answer::trust_domain(domain);
            if believed.contains(domain) {
                let added =
                    answer::certificates(bundle).and_then(|authorities| material.trust.add(domain, &authorities));
                added.map_err(|source| Failure::Bundle { domain: domain.to_owned(), source })?;
            }
        }
        Ok(material)
    }
}

/// For a connection, and for the first word of each stream.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pods also come without a swap: the container runtime hands them over.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use eastwall_protocol::delegated_identity::SvidsResponse;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn authority() -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn authorities_of_others_are_believed_where_an_entry_federates_with_them() {
        let spiffe_id = "spiffe://cluster.local/ns/shop/sa/orders".to_owned();
        let account = Account { namespace: "shop".into(), name: "orders".into(), spiffe_id: spiffe_id.clone() };
        let mut said = Said::default();
        for domain in ["spiffe://cluster.local", "partner.example", "spiffe://other.example"] {
            said.bundles.insert(domain.to_owned(), authority());
        }
        let believed = |said: &Said| {
            let material = said.material("cluster.local").unwrap();
            material.trust.domains().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(believed(&said), ["cluster.local"]);
        let federates_with = vec!["partner.example".to_owned()];
        let answer = Answer::new(&account, SvidsResponse { x509_svids: Vec::new(), federates_with });
        said.answers.insert(account, answer);
        assert_eq!(believed(&said), ["cluster.local", "partner.example"]);
        let material = said.material("cluster.local").unwrap();
        assert!(material.pairs.is_empty() && material.refused.contains_key(&spiffe_id));
        said.bundles.insert("partner.example".to_owned(), b"nonsense".to_vec());
        assert!(
            matches!(said.material("cluster.local"), Err(Failure::Bundle { domain, .. }) if domain == "partner.example")
        );
    }
}
