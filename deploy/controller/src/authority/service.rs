//! `Certificates/Sign`: which pod's name a caller may have.

use std::sync::Arc;

use eastwall_protocol::v1alpha1 as protocol;
use protocol::certificates_server::Certificates as Service;
use protocol::{SignRequest, SignResponse};
use tonic::{Request, Response, Status};

use super::{Authority, SignError, Signed, now};
use crate::slices::{Caller, Callers, Serves};

/// Signs for whoever may have the name.
pub(crate) struct Certificates {
    pub(crate) authority: Arc<Authority>,
    pub(crate) callers: Arc<Callers>,
}

#[tonic::async_trait]
impl Service for Certificates {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let caller = self.callers.admit(&request).await?;
        let SignRequest { pod, request } = request.into_inner();
        let pod = pod.ok_or_else(|| Status::invalid_argument("say for which pod"))?;
        let signed = self.signed(&caller, &pod, &request);
        self.callers.asked_for_certificate(&signed);
        let signed = signed?;
        let ders = |certificates: &[rustls::pki_types::CertificateDer<'_>]| {
            certificates.iter().map(|one| one.to_vec()).collect()
        };
        let Signed { chain, bundle, not_before, not_after } = &signed;
        Ok(Response::new(SignResponse {
            chain: ders(chain),
            bundle: ders(bundle),
            not_before: *not_before,
            not_after: *not_after,
        }))
    }
}

impl Certificates {
    fn signed(&self, caller: &Caller, pod: &protocol::Pod, request: &[u8]) -> Result<Signed, Status> {
        let directory = self.callers.directory();
        let (namespace, name) = (pod.namespace.as_str(), pod.name.as_str());
        let own = Serves::Pod { namespace: namespace.into(), name: name.into() };
        let not_its = |status: Status| {
            tracing::warn!(%namespace, %name, by = %caller, "a certificate was asked for that the caller may not have");
            status
        };
        let Some(pod) = directory.pod(namespace, name) else {
            return Err(not_its(Status::permission_denied(format!("there is no pod `{namespace}/{name}` to serve"))));
        };
        if self.callers.may_serve(caller, &own).is_err() {
            // A node proxy: for pods on its node alone.
            self.callers.may_serve(caller, &Serves::Node(Arc::clone(&pod.node))).map_err(not_its)?;
        }
        if !pod.has_identity() {
            let text = "a pod that has ended, or shares its node's network, has no identity";
            return Err(Status::failed_precondition(text));
        }
        let id = self.authority.id(&pod.namespace, &pod.service_account);
        self.authority.sign(request, &id, now()).map_err(|error| match error {
            SignError::Invalid(_) | SignError::Key => Status::invalid_argument(error.to_string()),
            SignError::Unable(_) => Status::internal(error.to_string()),
        })
    }
}
