//! Which path answers what, and through which door.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{Admin, decision};
use crate::observe::DecisionId;
use crate::policy::Outcome;

/// How the client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Anybody on the network, the application included.
    Tcp,
    /// Root or the proxy's own user.
    Socket,
}

/// Everything that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'p> {
    Health,
    Ready,
    Metrics,
    Policy,
    Explain(&'p str),
    Flows,
    Reload,
    Drain,
    Version,
}

impl<'p> Route<'p> {
    fn of(path: &'p str) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/policy" => Self::Policy,
            "/flows" => Self::Flows,
            "/reload" => Self::Reload,
            "/drain" => Self::Drain,
            "/version" => Self::Version,
            _ => Self::Explain(path.strip_prefix("/explain/")?),
        })
    }

    fn is_open_to(self, door: Door) -> bool {
        door == Door::Socket || matches!(self, Self::Health | Self::Ready | Self::Metrics)
    }

    fn changes(self) -> bool {
        matches!(self, Self::Reload | Self::Drain)
    }
}

/// Answers one request. Bodies of requests are never read.
pub(super) async fn answer<B>(admin: &Admin, door: Door, request: &Request<B>) -> Response<Full<Bytes>> {
    let Some(route) = Route::of(request.uri().path()).filter(|route| route.is_open_to(door)) else {
        return text(StatusCode::NOT_FOUND, unknown(door));
    };
    let permitted = if route.changes() { &[Method::POST][..] } else { &[Method::GET, Method::HEAD] };
    if !permitted.contains(request.method()) {
        let allow = if route.changes() { "POST" } else { "GET, HEAD" };
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allow}\n"));
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        return refusal;
    }
    match route {
        Route::Health => text(StatusCode::OK, "ok\n"),
        Route::Ready => ready(admin),
        Route::Metrics => metrics(admin),
        Route::Policy => object(StatusCode::OK, &policy(admin)),
        Route::Explain(id) => explain(admin, id),
        Route::Flows => flows(admin),
        Route::Reload => reload(admin).await,
        Route::Drain => {
            admin.lifecycle.drain();
            text(StatusCode::ACCEPTED, "draining\n")
        }
        Route::Version => object(StatusCode::OK, &json!({"version": env!("CARGO_PKG_VERSION")})),
    }
}

fn ready(admin: &Admin) -> Response<Full<Bytes>> {
    let status = admin.reloader.status();
    let (listening, draining) = (admin.lifecycle.is_listening(), admin.lifecycle.is_draining());
    let unserved = admin.lifecycle.unserved();
    let identity = admin.lifecycle.has_identity();
    let is_ready = status.is_ready() && listening && !draining && unserved.is_empty() && identity;
    let detail = json!({
        "ready": is_ready,
        "listening": listening,
        "draining": draining,
        "unservedPods": unserved,
        "identity": identity,
        "generation": admin.live.load().generation().to_string(),
        "policy": &*status,
    });
    object(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &detail)
}

fn metrics(admin: &Admin) -> Response<Full<Bytes>> {
    match admin.recorder.metrics().render() {
        Ok(rendered) => body(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", rendered),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be rendered: {error}\n")),
    }
}

fn policy(admin: &Admin) -> Value {
    let world = admin.live.load();
    let policies: Vec<Value> = world
        .model()
        .policies
        .iter()
        .map(|policy| {
            json!({
                "policy": policy.name.to_string(),
                "location": policy.location.to_string(),
                "tier": format!("{:?}", policy.tier),
                "mode": format!("{:?}", policy.mode),
                "closes": {"inbound": policy.closes.inbound, "outbound": policy.closes.outbound},
                "broken": policy.broken,
                "rules": policy.rules.iter().map(|rule| json!({
                    "rule": &*rule.name,
                    "location": rule.location.to_string(),
                    "direction": rule.direction,
                    "effect": format!("{:?}", rule.effect),
                    "expires": rule.expires,
                })).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "generation": world.generation().to_string(),
        "status": &*admin.reloader.status(),
        "workloads": world.registry().workloads.len(),
        "policies": policies,
    })
}

fn explain(admin: &Admin, id: &str) -> Response<Full<Bytes>> {
    let Some(id) = DecisionId::parse(id) else {
        return text(StatusCode::BAD_REQUEST, "a decision id has 32 hexadecimal digits\n");
    };
    match admin.recorder.decision(id) {
        Some(line) => object(StatusCode::OK, &decision::account(&admin.live.load(), &line)),
        None => text(
            StatusCode::NOT_FOUND,
            "no such decision is held here: the most recent refusals of each source are; look for the id in the access log\n",
        ),
    }
}

fn flows(admin: &Admin) -> Response<Full<Bytes>> {
    let mut lines = admin.recorder.recent().join("\n");
    if !lines.is_empty() {
        lines.push('\n');
    }
    body(StatusCode::OK, "application/x-ndjson", lines)
}

async fn reload(admin: &Admin) -> Response<Full<Bytes>> {
    let Ok(status) = admin.reloader.reload().await else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the policy thread has ended\n");
    };
    let code = match status.last_reload.result {
        Outcome::Success | Outcome::Unchanged => StatusCode::OK,
        Outcome::Partial | Outcome::Failure => StatusCode::UNPROCESSABLE_ENTITY,
    };
    object(code, &json!(&*status))
}

const fn unknown(door: Door) -> &'static str {
    match door {
        Door::Tcp => {
            "here are /healthz, /readyz and /metrics; everything else is on the Unix socket of --admin-socket\n"
        }
        Door::Socket => {
            "here are GET /healthz /readyz /metrics /policy /explain/DECISION_ID /flows /version, POST /reload /drain\n"
        }
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", text)
}

fn object(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    body(status, JSON, format!("{value}\n"))
}

fn body(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(bytes.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const JSON: &str = "application/json";
