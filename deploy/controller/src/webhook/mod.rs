//! What the API server asks before it stores an object.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use tokio::sync::Semaphore;

use crate::cluster::{Cluster, Store};
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::serve::{Answer, Handler, body, json, text};

mod bundle;
pub(crate) mod certificate;
mod mutate;
mod validate;

pub(crate) use certificate::Identity;
pub(crate) use mutate::Sidecars;

/// The webhooks, one a path.
pub(crate) struct Webhooks {
    store: Arc<Store>,
    policies: Arc<Policies>,
    sidecars: Sidecars,
    metrics: Arc<Metrics>,
    /// Objects that are judged at once: whoever can reach the port can send any.
    seats: Semaphore,
}

impl Webhooks {
    pub(crate) fn new(store: Arc<Store>, policies: Arc<Policies>, sidecars: Sidecars, metrics: Arc<Metrics>) -> Self {
        Self { store, policies, sidecars, metrics, seats: Semaphore::new(SEATS) }
    }
}

impl Handler for Webhooks {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "an admission review is sent by POST\n");
        }
        let webhook = match path.as_str() {
            "/validate" => Webhook::Validate,
            "/mutate" => Webhook::Mutate,
            _ => return text(StatusCode::NOT_FOUND, "there are /validate and /mutate\n"),
        };
        match body(request).await {
            Ok(body) => self.review(webhook, &body).await,
            Err(answer) => answer,
        }
    }
}

impl Webhooks {
    async fn review(&self, webhook: Webhook, body: &[u8]) -> Answer {
        let started = Instant::now();
        let judged = match webhook {
            Webhook::Validate => self.judge(body).await,
            Webhook::Mutate => self.inject(body),
        };
        let (verdict, answer) = match judged {
            Ok(response) => {
                let verdict = if response.allowed { "allowed" } else { "refused" };
                match serde_json::to_vec(&response.into_review()) {
                    Ok(bytes) => (verdict, json(bytes)),
                    Err(error) => ("error", text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
                }
            }
            Err(answer) => ("error", *answer),
        };
        self.metrics.judged(webhook.label(), verdict, started.elapsed());
        answer
    }

    /// The cluster, once all of it is known: what an object names may be in the part that is not.
    fn cluster(&self) -> Result<Cluster, Box<Answer>> {
        let cluster = self.store.load();
        if cluster.complete {
            return Ok(cluster);
        }
        Err(Box::new(text(StatusCode::SERVICE_UNAVAILABLE, "the cluster was not read as a whole yet\n")))
    }

    fn inject(&self, body: &[u8]) -> Result<AdmissionResponse, Box<Answer>> {
        let cluster = self.cluster()?;
        let request = read(body)?;
        // The patch is for the pod as it was sent, not as the types of a client know it.
        let sent: serde_json::Value = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        let pod = sent.pointer("/request/object").ok_or_else(|| unreadable(&"there is no object"))?;
        let answer = self.sidecars.answer(&cluster, &request, pod);
        answer.ok_or_else(|| Box::new(text(StatusCode::SERVICE_UNAVAILABLE, "the namespace is not known yet\n")))
    }

    async fn judge(&self, body: &[u8]) -> Result<AdmissionResponse, Box<Answer>> {
        let cluster = self.cluster()?;
        let request = read(body)?;
        let Ok(Ok(_seat)) = tokio::time::timeout(PATIENCE, self.seats.acquire()).await else {
            return Err(Box::new(text(StatusCode::SERVICE_UNAVAILABLE, "too many objects are judged already\n")));
        };
        let policies = Arc::clone(&self.policies);
        let judged = tokio::task::spawn_blocking(move || {
            let response = AdmissionResponse::from(&request);
            validate::judge(&policies.view(&cluster), request).onto(response)
        });
        judged.await.map_err(|error| {
            tracing::error!(%error, "an object could not be judged");
            Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, "the object could not be judged\n"))
        })
    }
}

fn read(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, Box<Answer>> {
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    review.try_into().map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn std::fmt::Display) -> Box<Answer> {
    let problem = format!("this is no admission review of `admission.k8s.io/v1`: {error}\n");
    Box::new(text(StatusCode::BAD_REQUEST, problem))
}

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Webhook {
    /// Refuses what the compiler refuses.
    Validate,
    /// Puts sidecars into pods.
    Mutate,
}

impl Webhook {
    /// As metrics name it.
    const fn label(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Mutate => "mutate",
        }
    }
}

/// Objects that are judged at once.
const SEATS: usize = 4;

/// How long one waits for its turn: less than the API server waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
