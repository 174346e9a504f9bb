//! Health, readiness and metrics.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use tokio::sync::watch;

use crate::cluster::Store;
use crate::metrics::Metrics;
use crate::serve::{Answer, Handler, of_type, text};
use crate::webhook::Identity;

/// What the admin server tells.
pub(crate) struct Admin {
    pub(crate) store: Arc<Store>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) webhook: Arc<Identity>,
    /// It was told to end.
    pub(crate) ends: watch::Receiver<bool>,
}

impl Handler for Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "the admin server answers GET alone\n");
        }
        match request.uri().path() {
            // The process runs; that the API server is away is no reason to restart it.
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match self.lacks() {
                None => text(StatusCode::OK, "ok\n"),
                Some(lacks) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{lacks}\n")),
            },
            "/metrics" => {
                of_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.metrics.render().into())
            }
            _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n"),
        }
    }
}

impl Admin {
    /// What is not there yet.
    fn lacks(&self) -> Option<&'static str> {
        if *self.ends.borrow() {
            return Some("it ends");
        }
        if !self.store.load().complete {
            return Some("the cluster was not read as a whole yet: the log says which watch is missing");
        }
        (!self.webhook.is_there()).then_some("the webhook has no certificate yet")
    }
}
