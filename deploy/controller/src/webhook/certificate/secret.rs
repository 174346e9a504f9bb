//! The Secret in which all replicas find the webhooks' certificate.
//!
//! Whoever finds none makes it. The one that leads renews it long before it ends: first the API server is told to trust
//! the new authority beside the old one, and only then do replicas find the new certificate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;

use super::Identity;
use super::issue::{Issued, issue};
use crate::kubernetes::Said;
use crate::webhook::bundle;

/// What the Secret is called, and what its certificate is for.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    pub(crate) namespace: String,
    pub(crate) secret: String,
    /// Names and addresses under which the API server calls the webhooks.
    pub(crate) names: Vec<String>,
    /// The webhook configurations that must trust the certificate.
    pub(crate) configuration: String,
}

/// Keeps the identity as the Secret has it, for ever; renews it and tells the API server whom to trust while this replica
/// leads.
pub(crate) async fn keep(client: Client, keeper: Keeper, identity: Arc<Identity>, mut leads: watch::Receiver<bool>) {
    let api: Api<Secret> = Api::namespaced(client.clone(), &keeper.namespace);
    let mut shown = None;
    loop {
        let is_leader = *leads.borrow_and_update();
        let round = Round { client: &client, api: &api, keeper: &keeper, is_leader };
        let outcome = tokio::time::timeout(TIMEOUT, round.run(&identity, &mut shown)).await;
        let outcome = outcome.unwrap_or_else(|_| Err("the API server does not answer".to_owned()));
        if let Err(problem) = &outcome {
            tracing::warn!(secret = keeper.secret, "the webhooks' certificate: {problem}; it is tried again");
        }
        let pause = if outcome.is_ok() && identity.is_there() { ROUND } else { RETRY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = leads.changed() => if changed.is_err() { return },
        }
    }
}

struct Round<'a> {
    client: &'a Client,
    api: &'a Api<Secret>,
    keeper: &'a Keeper,
    is_leader: bool,
}

impl Round<'_> {
    async fn run(&self, identity: &Identity, shown: &mut Option<Content>) -> Result<(), String> {
        let found = self.api.get_opt(&self.keeper.secret).await.map_err(|error| Said(&error).to_string())?;
        let Some(secret) = found else {
            let issued = self.issue()?;
            let content = Content::new(&issued, None);
            return match self.api.create(&PostParams::default(), &self.secret(content, &issued, None)).await {
                Ok(_) => Err("it was made and is read next".to_owned()),
                Err(kube::Error::Api(answer)) if answer.code == 409 => Err("another replica made it".to_owned()),
                Err(error) => Err(Said(&error).to_string()),
            };
        };
        let content = Content::of(&secret);
        if self.is_leader && (content.is_none() || self.is_due(&secret)) {
            return self.renew(content, secret.metadata.resource_version).await;
        }
        let content = content.ok_or("the Secret lacks `tls.crt`, `tls.key` or `ca.crt`: the leader makes them anew")?;
        if shown.as_ref() != Some(&content) {
            identity.put(&content.chain, &content.key)?;
            tracing::info!(secret = self.keeper.secret, "the webhooks' certificate was read");
            *shown = Some(content.clone());
        }
        if self.is_leader {
            bundle::put(self.client, &self.keeper.configuration, &content.authorities).await?;
        }
        Ok(())
    }

    async fn renew(&self, before: Option<Content>, version: Option<String>) -> Result<(), String> {
        let issued = self.issue()?;
        let content = Content::new(&issued, before.as_ref());
        bundle::put(self.client, &self.keeper.configuration, &content.authorities).await?;
        tokio::time::sleep(SETTLE).await;
        let secret = self.secret(content, &issued, version);
        self.api
            .replace(&self.keeper.secret, &PostParams::default(), &secret)
            .await
            .map_err(|error| Said(&error).to_string())?;
        Err(format!("it was renewed, the next time after {}, and is read next", issued.renew_after))
    }

    fn issue(&self) -> Result<Issued, String> {
        issue(&self.keeper.names, Timestamp::now()).map_err(|error| format!("none can be issued: {error}"))
    }

    /// Whether the time has come, or it is for other names. What does not say when is renewed.
    fn is_due(&self, secret: &Secret) -> bool {
        let said = |name: &str| secret.metadata.annotations.as_ref().and_then(|all| all.get(name));
        let renew_after = said(RENEW_AFTER).and_then(|text| text.parse::<Timestamp>().ok());
        renew_after.is_none_or(|time| time <= Timestamp::now())
            || said(NAMES).map(String::as_str) != Some(self.keeper.names.join(",").as_str())
    }

    fn secret(&self, content: Content, issued: &Issued, version: Option<String>) -> Secret {
        let annotations = [(RENEW_AFTER, issued.renew_after.to_string()), (NAMES, self.keeper.names.join(","))];
        Secret {
            metadata: ObjectMeta {
                name: Some(self.keeper.secret.clone()),
                resource_version: version,
                annotations: Some(annotations.map(|(name, value)| (name.to_owned(), value)).into()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "eastwall".to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(content.into_data()),
            ..Secret::default()
        }
    }
}

/// What the Secret holds, PEM.
#[derive(Clone, PartialEq, Eq)]
struct Content {
    /// The newest first.
    authorities: Vec<u8>,
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl Content {
    /// What was issued, with the authority before it: replicas that still show its certificate are trusted.
    fn new(issued: &Issued, before: Option<&Self>) -> Self {
        let mut authorities = issued.authority.clone().into_bytes();
        if let Some(before) = before {
            authorities.extend(first(&before.authorities));
        }
        Self { authorities, chain: issued.chain.clone().into(), key: issued.key.clone().into() }
    }

    fn of(secret: &Secret) -> Option<Self> {
        let member =
            |name: &str| secret.data.as_ref()?.get(name).map(|bytes| bytes.0.clone()).filter(|one| !one.is_empty());
        Some(Self { authorities: member(AUTHORITIES)?, chain: member(CHAIN)?, key: member(KEY)? })
    }

    fn into_data(self) -> BTreeMap<String, ByteString> {
        let members = [(AUTHORITIES, self.authorities), (CHAIN, self.chain), (KEY, self.key)];
        members.into_iter().map(|(name, bytes)| (name.to_owned(), ByteString(bytes))).collect()
    }
}

/// The first of several certificates.
fn first(authorities: &[u8]) -> &[u8] {
    const END: &[u8] = b"-----END CERTIFICATE-----";
    let end = authorities.windows(END.len()).position(|part| part == END);
    end.and_then(|at| authorities.get(..at + END.len())).unwrap_or_default()
}

const AUTHORITIES: &str = "ca.crt";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// When it is to be renewed.
const RENEW_AFTER: &str = "eastwall.dev/renew-after";

/// The names that the certificate is for.
const NAMES: &str = "eastwall.dev/names";

/// Between two looks at the Secret, and of the leader at the webhook configurations: somebody may have installed them, or
/// reset them to what stands in a repository. Until they are told, no pod of a namespace with sidecars is made.
const ROUND: Duration = Duration::from_secs(3);

/// The same while something is missing.
const RETRY: Duration = Duration::from_secs(2);

/// For the API server to take notice of a changed webhook configuration.
const SETTLE: Duration = Duration::from_secs(5);

/// One look, with a renewal.
const TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_authorities_are_trusted_and_no_more() {
        let issued = || issue(&["eastwall.x.svc".to_owned()], Timestamp::now()).unwrap();
        let count = |content: &Content| String::from_utf8_lossy(&content.authorities).matches("BEGIN CERT").count();
        let first = Content::new(&issued(), None);
        let second = Content::new(&issued(), Some(&first));
        let third = Content::new(&issued(), Some(&second));
        assert_eq!([&first, &second, &third].map(count), [1, 2, 2]);
        let text = |content: &Content| String::from_utf8_lossy(&content.authorities).trim().to_owned();
        assert!(text(&second).ends_with(&text(&first)) && !text(&third).contains(&text(&first)));
        assert!(first.authorities.ends_with(b"\n"), "or the next one would not begin on a line of its own");
    }

    #[test]
    fn what_is_written_is_read() {
        let issued = issue(&["eastwall.x.svc".to_owned()], Timestamp::now()).unwrap();
        let content = Content::new(&issued, None);
        let secret = Secret { data: Some(content.clone().into_data()), ..Secret::default() };
        assert!(Content::of(&secret) == Some(content));
        assert!(Content::of(&Secret::default()).is_none());
        let days = (issued.renew_after - Timestamp::now()).total(jiff::Unit::Hour).unwrap() / 24.0;
        assert!((59.0..61.0).contains(&days), "{days}");
    }
}
