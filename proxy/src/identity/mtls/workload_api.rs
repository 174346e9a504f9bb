//! Identities from the SPIFFE Workload API: a stream of the agent of this node, followed for as long as the proxy runs.

use std::pin::Pin;

use futures_core::Stream;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe::{WorkloadApiClient, X509Context};

use super::source::Material;
use super::svid::KeyPair;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Hands over what the agent says, each time it says something else, until the stream ends.
pub(super) async fn follow(socket: &str, mut take: impl FnMut(Material)) -> Result<(), Failure> {
    let client = WorkloadApiClient::connect_to(socket).await?;
    let mut contexts = client.stream_x509_contexts().await?;
    while let Some(context) = std::future::poll_fn(|context| Pin::new(&mut contexts).poll_next(context)).await {
        take(material(&context?)?);
    }
    Ok(())
}

fn material(context: &X509Context) -> Result<Material, Failure> {
    let mut material = Material::default();
    for (domain, bundle) in context.bundle_set().iter() {
        let authorities: Vec<_> =
            bundle.authorities().iter().map(|one| CertificateDer::from(one.as_bytes().to_vec())).collect();
        material.trust.add(domain.as_str(), &authorities)?;
    }
    for svid in context.svids() {
        let chain = svid.cert_chain().iter().map(|one| CertificateDer::from(one.as_bytes().to_vec())).collect();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec()));
        material.pairs.push((svid.spiffe_id().to_string(), KeyPair { chain, key }));
    }
    Ok(material)
}
