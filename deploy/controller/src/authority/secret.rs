//! The roots in a Secret that all replicas share.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};

use super::vault::{Answer, Found, Kept, Vault, VaultError};
use crate::kubernetes::Said;

/// A Secret of one member.
#[derive(Clone)]
pub(crate) struct SecretVault {
    api: Api<Secret>,
    name: String,
}

impl SecretVault {
    pub(crate) fn new(client: kube::Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }

    fn failed(&self, error: &kube::Error) -> VaultError {
        match error {
            kube::Error::Api(answer) if answer.code == 409 => VaultError::Conflict,
            error => VaultError::Unavailable(format!("Secret `{}`: {}", self.name, Said(error))),
        }
    }
}

impl Vault for SecretVault {
    fn load(&self) -> Answer<'_, Option<Found>> {
        Box::pin(async {
            let secret = self.api.get_opt(&self.name).await.map_err(|error| self.failed(&error))?;
            let Some(secret) = secret else { return Ok(None) };
            let bytes = secret.data.and_then(|mut data| data.remove(MEMBER));
            let kept = bytes.and_then(|bytes| String::from_utf8(bytes.0).ok());
            let lacks = || VaultError::Unavailable(format!("Secret `{}` lacks `{MEMBER}`: delete it", self.name));
            let revision = secret.metadata.resource_version.unwrap_or_default();
            Ok(Some(Found { kept: kept.ok_or_else(lacks)?, revision }))
        })
    }

    fn store(&self, kept: Kept, over: Option<String>) -> Answer<'_, ()> {
        Box::pin(async move {
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    resource_version: over.clone(),
                    labels: Some([("app.kubernetes.io/part-of".to_owned(), "eastwall".to_owned())].into()),
                    ..ObjectMeta::default()
                },
                data: Some(BTreeMap::from([(MEMBER.to_owned(), ByteString(kept.into_bytes()))])),
                ..Secret::default()
            };
            let done = match over {
                None => self.api.create(&PostParams::default(), &secret).await,
                Some(_) => self.api.replace(&self.name, &PostParams::default(), &secret).await,
            };
            done.map(drop).map_err(|error| self.failed(&error))
        })
    }
}

const MEMBER: &str = "authority.json";
