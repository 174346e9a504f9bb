//! Who calls: the pod that a token is bound to, as the API server says, checked against the cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::directory::{Directory, Pod};
use super::slice::Serves;

/// The audience that a token must be made for.
pub const AUDIENCE: &str = "eastwall-controller";

/// What the API server says of a token (`TokenReview.status`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reviewed {
    /// `user.username`.
    pub user: String,
    /// `user.extra`.
    pub extra: BTreeMap<String, Vec<String>>,
    /// The audiences, among those asked for, that the token is for.
    pub audiences: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The token is not good.
    #[error("the token is not accepted: {0}")]
    Refused(String),
    /// Nobody could say.
    #[error("the token cannot be reviewed: {0}")]
    Unavailable(String),
}

/// An answer to come.
pub type Review<'a> = Pin<Box<dyn Future<Output = Result<Reviewed, ReviewError>> + Send + 'a>>;

/// Says whose a token is.
pub trait Reviewer: Send + Sync + 'static {
    /// Reviews a token for [`AUDIENCE`].
    fn review<'a>(&'a self, token: &'a str) -> Review<'a>;
}

/// The pod that calls.
#[derive(Clone, Debug)]
pub struct Caller {
    pub(crate) pod: Arc<Pod>,
    /// The node that the token is bound to.
    node: Option<String>,
}

/// Reviews tokens, a bounded number at once.
pub(super) struct Gate {
    reviewer: Arc<dyn Reviewer>,
    permits: Semaphore,
    patience: Duration,
}

impl Gate {
    pub(super) fn new(reviewer: Arc<dyn Reviewer>, at_once: usize, patience: Duration) -> Self {
        Self { reviewer, permits: Semaphore::new(at_once), patience }
    }

    /// Who calls, by the token in the call's metadata.
    pub(super) async fn caller(&self, metadata: &MetadataMap, directory: &Directory) -> Result<Caller, Status> {
        if !directory.complete {
            return Err(Status::unavailable("the controller has not read the whole cluster yet"));
        }
        let token = token(metadata)?;
        let review = async {
            let _permit = self.permits.acquire().await.map_err(|error| ReviewError::Unavailable(error.to_string()))?;
            self.reviewer.review(token).await
        };
        let answer = tokio::time::timeout(self.patience, review).await;
        let answer = answer.unwrap_or_else(|_| Err(ReviewError::Unavailable("no answer in time".to_owned())));
        match answer {
            Ok(reviewed) => Caller::of(&reviewed, directory),
            Err(refused @ ReviewError::Refused(_)) => Err(Status::unauthenticated(refused.to_string())),
            Err(unavailable) => Err(Status::unavailable(unavailable.to_string())),
        }
    }
}

fn token(metadata: &MetadataMap) -> Result<&str, Status> {
    let refused = || Status::unauthenticated("a call carries one `authorization: Bearer TOKEN`");
    let mut values = metadata.get_all("authorization").iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(refused()) };
    let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
    token.filter(|token| !token.is_empty() && token.len() <= TOKEN_BYTES).ok_or_else(refused)
}

/// A service account token has about 1 KiB.
const TOKEN_BYTES: usize = 16 << 10;

impl Caller {
    /// The pod that the token is bound to, if the cluster has exactly that one.
    pub(super) fn of(reviewed: &Reviewed, directory: &Directory) -> Result<Self, Status> {
        if !reviewed.audiences.iter().any(|audience| audience == AUDIENCE) {
            return Err(Status::unauthenticated(format!("the token is not for the audience `{AUDIENCE}`")));
        }
        let account = reviewed.user.strip_prefix("system:serviceaccount:").and_then(|name| name.split_once(':'));
        let bound = one(reviewed, "pod-name").zip(one(reviewed, "pod-uid"));
        let (Some((namespace, account)), Some((name, uid))) = (account, bound) else {
            let help = "the token is not bound to a pod: mount it as a projected volume of the pod";
            return Err(Status::unauthenticated(help));
        };
        let Some(pod) = directory.pod(namespace, name) else {
            // The pod may be younger than what the controller has read.
            return Err(Status::unavailable(format!("the pod `{namespace}/{name}` is not known yet")));
        };
        if *pod.uid != *uid {
            return Err(Status::unauthenticated(format!("the token is of an earlier pod `{namespace}/{name}`")));
        }
        if *pod.service_account != *account {
            return Err(Status::unauthenticated(format!("`{namespace}/{name}` does not run as `{account}`")));
        }
        let node = one(reviewed, "node-name").map(str::to_owned);
        let caller = Self { pod: Arc::clone(pod), node };
        caller.is_still_there(directory)?;
        Ok(caller)
    }

    /// Whether the pod is the one that the token was bound to, and runs where the token says.
    pub(super) fn is_still_there(&self, directory: &Directory) -> Result<(), Status> {
        let Pod { namespace, name, .. } = &*self.pod;
        let held = directory.pod(namespace, name).filter(|pod| pod.uid == self.pod.uid && !pod.ended);
        let Some(pod) = held else {
            return Err(Status::permission_denied(format!("the pod `{namespace}/{name}` has ended")));
        };
        match &self.node {
            Some(node) if *pod.node != **node => {
                Err(Status::permission_denied(format!("the token is of node `{node}`, the pod runs on `{}`", pod.node)))
            }
            _ => Ok(()),
        }
    }

    /// Whether it may be told what a proxy that serves these is told, and get their certificates.
    pub(crate) fn may_serve(&self, serves: &Serves, node_accounts: &[String]) -> Result<(), Status> {
        match serves {
            Serves::Pod { namespace, name } if *namespace == self.pod.namespace && *name == self.pod.name => Ok(()),
            Serves::Pod { namespace, name } => {
                Err(Status::permission_denied(format!("the token is of another pod than `{namespace}/{name}`")))
            }
            Serves::Node(node) => {
                let account = format!("{}/{}", self.pod.namespace, self.pod.service_account);
                if !node_accounts.contains(&account) {
                    return Err(Status::permission_denied(format!("`{account}` may not serve a node")));
                }
                // The token says the node only where the cluster binds tokens to nodes: without that nothing proves it.
                if self.node.as_deref() == Some(node) && self.pod.node == *node {
                    return Ok(());
                }
                Err(Status::permission_denied(format!("the token is not bound to node `{node}`")))
            }
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod.namespace, self.pod.name)
    }
}

/// The one value of what a token is bound to.
fn one<'r>(reviewed: &'r Reviewed, what: &str) -> Option<&'r str> {
    match reviewed.extra.get(&format!("authentication.kubernetes.io/{what}")).map(Vec::as_slice) {
        Some([value]) => Some(value),
        _ => None,
    }
}
