//! The access-log line of one event. Attribute names are OpenTelemetry's where it has one.

use super::event::{Alert, AlertKind, RequestEvent};
use super::json::Object;
use super::{DecisionId, label};

use eastwall_policy::facts::Protocol;
use eastwall_policy::verdict::{Action, RuleId, RuleRef};

/// Appends the line of a verdict, without the line feed.
pub(super) fn request(event: &RequestEvent<'_>, id: Option<DecisionId>, out: &mut Vec<u8>) {
    let verdict = event.verdict;
    let mut line = Object::open(out);
    line.shown("timestamp", jiff::Timestamp::now());
    line.text("event", if event.revoked { "revocation" } else { "request" });
    line.text("verdict", label::action(verdict.action));
    line.label("reason", verdict.reason);
    if let Some(refusal) = event.refusal {
        line.label("refusal", refusal);
    }
    let named = |id: Option<RuleId>| id.and_then(|id| event.world.named(id));
    by(named(verdict.rule), &mut line);
    line.shown("generation", event.world.generation());
    if let Some(id) = id {
        line.shown("decision_id", id);
    }
    line.text("proof", label::proof(verdict.proof));
    if let Some(audit) = &verdict.audit {
        line.object("audit", |audited| {
            audited.text("verdict", label::action(audit.action));
            audited.label("reason", audit.reason);
            by(named(audit.rule), audited);
        });
    }
    line.text("direction", label::direction(event.direction));
    line.text("protocol", label::protocol(event.protocol));
    let registry = event.world.registry();
    for (key, id) in [("source_workload", event.source_workload), ("destination_workload", event.destination_workload)]
    {
        if let Some(workload) = id.and_then(|id| registry.workload(id)) {
            line.shown(key, format_args!("{}/{}", workload.namespace, workload.name));
        }
    }
    if let Some(principal) = event.principal {
        line.text("principal", principal);
    }
    line.shown("client.address", event.source.ip().to_canonical());
    line.number("client.port", event.source.port());
    match event.host {
        Some(host) => line.wire("server.address", host),
        None => line.shown("server.address", event.destination.ip().to_canonical()),
    }
    line.number("server.port", event.host_port.unwrap_or(event.destination.port()));
    line.shown("destination.address", event.destination.ip().to_canonical());
    line.number("destination.port", event.destination.port());
    line.text("network.transport", transport(event.protocol));
    let (name, version) = application(event.protocol);
    line.text("network.protocol.name", name);
    if let Some(version) = version {
        line.text("network.protocol.version", version);
    }
    if event.protocol == Protocol::Grpc {
        line.text("rpc.system", "grpc");
    }
    if let Some(method) = event.method {
        line.wire("http.request.method", method);
    }
    if let Some(path) = event.path {
        line.wire("url.path", path_alone(path));
    }
    if let Some(status) = event.status {
        line.number("http.response.status_code", status);
    }
    if let Some(sni) = event.sni {
        line.wire("tls.client.server_name", sni);
    }
    line.seconds("decision_seconds", event.decision);
    line.seconds("duration_seconds", event.duration);
    line.close();
}

fn by(rule: Option<RuleRef<'_>>, line: &mut Object<'_>) {
    let Some(RuleRef { policy, rule, location }) = rule else { return };
    line.shown("policy", policy);
    if let Some(name) = rule {
        line.text("rule", name);
    }
    line.shown("rule_location", location);
}

/// Appends the line of an alert, without the line feed.
pub(super) fn alert(alert: &Alert<'_>, out: &mut Vec<u8>) {
    let mut line = Object::open(out);
    line.shown("timestamp", jiff::Timestamp::now());
    line.text("event", "alert");
    line.text("alert", alert.kind.label());
    line.text("severity", alert.kind.severity());
    line.shown("generation", alert.world.generation());
    line.text("direction", label::direction(alert.direction));
    let registry = alert.world.registry();
    for (key, id) in [("source_workload", alert.source_workload), ("destination_workload", alert.destination_workload)]
    {
        if let Some(workload) = id.and_then(|id| registry.workload(id)) {
            line.shown(key, format_args!("{}/{}", workload.namespace, workload.name));
        }
    }
    line.shown("client.address", alert.source.ip().to_canonical());
    line.number("client.port", alert.source.port());
    line.shown("destination.address", alert.destination.ip().to_canonical());
    line.number("destination.port", alert.destination.port());
    if let Some(id) = alert.decision_id {
        line.shown("decision_id", id);
    }
    line.text("detail", alert.detail);
    line.wire("evidence", evidence(alert));
    line.close();
}

/// Of a request that was refused as it stood on the wire: neither its query nor the user and password of an authority,
/// since both may be secrets. A canonical path has neither.
fn path_alone(target: &[u8]) -> &[u8] {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match path.iter().rposition(|byte| *byte == b'@') {
        Some(at) if !path.starts_with(b"/") => path.get(at + 1..).unwrap_or_default(),
        _ => path,
    }
}

/// First bytes of a connection may be a password or a head with a token: what tells one protocol from another is logged,
/// and no more.
fn evidence<'a>(alert: &Alert<'a>) -> &'a [u8] {
    match alert.kind {
        AlertKind::ProtocolMismatch => alert.evidence.get(..FIRST_BYTES).unwrap_or(alert.evidence),
        AlertKind::EvasionAttempt => path_alone(alert.evidence),
        AlertKind::SpoofedSource
        | AlertKind::IdentityMismatch
        | AlertKind::Downgrade
        | AlertKind::BreakGlass
        | AlertKind::CertificateRefused
        | AlertKind::TunnelRelay => alert.evidence,
    }
}

/// `SSH-2.0-`, `GET /ord`, a TLS record's head.
const FIRST_BYTES: usize = 8;

/// Whether a line must not be lost: what was refused, what was cut, and what the shadow table sees differently.
pub(super) fn matters(event: &RequestEvent<'_>) -> bool {
    let verdict = event.verdict;
    verdict.action != Action::Allow
        || event.revoked
        || verdict.audit.as_ref().is_some_and(|audit| audit.action != verdict.action)
}

const fn transport(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Udp | Protocol::Dns => "udp",
        Protocol::Sctp => "sctp",
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls | Protocol::Tcp => "tcp",
    }
}

const fn application(protocol: Protocol) -> (&'static str, Option<&'static str>) {
    match protocol {
        Protocol::Http => ("http", Some("1.1")),
        Protocol::Http2 | Protocol::Grpc => ("http", Some("2")),
        Protocol::Tls => ("tls", None),
        Protocol::Tcp => ("tcp", None),
        Protocol::Udp => ("udp", None),
        Protocol::Sctp => ("sctp", None),
        Protocol::Dns => ("dns", None),
    }
}
