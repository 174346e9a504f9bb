//! What the API server asks before it stores an object.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use tokio::sync::Semaphore;

use crate::cluster::Store;
use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::serve::{Answer, Handler, body, json, text};

mod bundle;
pub(crate) mod certificate;
mod validate;

pub(crate) use certificate::Identity;

/// The webhooks, one a path.
pub(crate) struct Webhooks {
    store: Arc<Store>,
    policies: Arc<Policies>,
    metrics: Arc<Metrics>,
    /// Objects that are judged at once: whoever can reach the port can send any.
    seats: Semaphore,
}

impl Webhooks {
    pub(crate) fn new(store: Arc<Store>, policies: Arc<Policies>, metrics: Arc<Metrics>) -> Self {
        Self { store, policies, metrics, seats: Semaphore::new(SEATS) }
    }
}

impl Handler for Webhooks {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let path = request.uri().path().to_owned();
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "an admission review is sent by POST\n");
        }
        match path.as_str() {
            "/validate" => match body(request).await {
                Ok(body) => self.validate(&body).await,
                Err(answer) => answer,
            },
            _ => text(StatusCode::NOT_FOUND, "there is /validate\n"),
        }
    }
}

impl Webhooks {
    async fn validate(&self, body: &[u8]) -> Answer {
        let started = Instant::now();
        let (verdict, answer) = match self.judge(body).await {
            Ok(response) => {
                let verdict = if response.allowed { "allowed" } else { "refused" };
                match serde_json::to_vec(&response.into_review()) {
                    Ok(bytes) => (verdict, json(bytes)),
                    Err(error) => ("error", text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
                }
            }
            Err(answer) => ("error", answer),
        };
        self.metrics.judged("validate", verdict, started.elapsed());
        answer
    }

    async fn judge(&self, body: &[u8]) -> Result<AdmissionResponse, Answer> {
        let cluster = self.store.load();
        if !cluster.complete {
            // What it names may be in the part that is not known yet.
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, "the cluster was not read as a whole yet\n"));
        }
        let unreadable = |error: &dyn std::fmt::Display| {
            text(StatusCode::BAD_REQUEST, format!("this is no admission review of `admission.k8s.io/v1`: {error}\n"))
        };
        let review: AdmissionReview<DynamicObject> =
            serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
        let request: AdmissionRequest<DynamicObject> = review.try_into().map_err(|error| unreadable(&error))?;
        let Ok(Ok(_seat)) = tokio::time::timeout(PATIENCE, self.seats.acquire()).await else {
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, "too many objects are judged already\n"));
        };
        let policies = Arc::clone(&self.policies);
        let judged = tokio::task::spawn_blocking(move || {
            let response = AdmissionResponse::from(&request);
            validate::judge(&policies.view(&cluster), request).onto(response)
        });
        judged.await.map_err(|error| {
            tracing::error!(%error, "an object could not be judged");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the object could not be judged\n")
        })
    }
}

/// Objects that are judged at once.
const SEATS: usize = 4;

/// How long one waits for its turn: less than the API server waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);
