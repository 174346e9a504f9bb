//! Probes of the application. The kubelet's connection ends at the proxy, which accepts it whatever the application does: a
//! `tcpSocket` probe would always succeed. It becomes a question to the proxy, which dials the application itself. HTTP and
//! gRPC probes go through the proxy, which lets those through that the pod declares; commands run in the container.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::container::{PROXY, REDIRECT};
use crate::field::Fields;
use crate::path::FieldPath;
use crate::refusal::{Reason, Refusal, Warning};

/// What the proxy has to answer for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dialled {
    /// Ports of the pod.
    pub(crate) ports: BTreeSet<u16>,
    /// The longest time that a probe gives, in seconds.
    pub(crate) seconds: u64,
}

const PROBES: [&str; 3] = ["startupProbe", "livenessProbe", "readinessProbe"];

/// Path of the proxy's answer, before the port.
const PATH: &str = "/probe/tcp/";

/// Rewrites the probes of a container.
pub(crate) fn rewrite(
    container: &mut Value,
    path: &FieldPath,
    admin_port: u16,
    dialled: &mut Dialled,
    warnings: &mut Vec<Warning>,
) -> Result<(), Refusal> {
    let fields = Fields::new(container, path)?;
    if fields.text("name")?.is_some_and(|name| [REDIRECT, PROXY].contains(&name)) {
        return Ok(());
    }
    warn_of_hooks(fields, warnings)?;
    let mut rewritten = Vec::new();
    for name in PROBES {
        let Some(written) = fields.value(name) else { continue };
        let path = fields.at(name);
        let probe = Fields::new(written, &path)?;
        let port = match (tcp_port(fields, probe)?, own_port(probe, admin_port)?) {
            (Some(port), _) => {
                rewritten.push((name, asked_of_the_proxy(written, port, admin_port)));
                port
            }
            (None, Some(port)) => port,
            (None, None) => {
                warn_of_encryption(probe, warnings)?;
                continue;
            }
        };
        dialled.ports.insert(port);
        let seconds = probe.number("timeoutSeconds", "a number of seconds")?.unwrap_or(1);
        dialled.seconds = dialled.seconds.max(seconds);
    }
    if let Value::Object(container) = container {
        for (name, probe) in rewritten {
            container.insert(name.to_owned(), probe);
        }
    }
    Ok(())
}

/// The port of a `tcpSocket` probe; none where it asks another host, which is no business of the proxy's.
fn tcp_port(container: Fields<'_>, probe: Fields<'_>) -> Result<Option<u16>, Refusal> {
    let Some(written) = probe.value("tcpSocket") else { return Ok(None) };
    let path = probe.at("tcpSocket");
    let socket = Fields::new(written, &path)?;
    if socket.text("host")?.is_some_and(|host| !host.is_empty()) {
        return Ok(None);
    }
    let Some(Value::String(name)) = socket.value("port") else {
        let port = socket.number::<u16>("port", "a port")?.filter(|port| *port != 0);
        return port.map(Some).ok_or_else(|| Refusal { path: socket.at("port"), reason: Reason::Missing });
    };
    for (index, port) in container.list("ports")?.iter().enumerate() {
        let path = container.at("ports").index(index);
        let port = Fields::new(port, &path)?;
        if port.text("name")? == Some(name) {
            return port.number("containerPort", "a port");
        }
    }
    match name.parse() {
        Ok(port) if port != 0 => Ok(Some(port)),
        _ => Err(Refusal { path: socket.at("port"), reason: Reason::UnknownPort(name.clone()) }),
    }
}

/// The port of a probe that was rewritten before.
fn own_port(probe: Fields<'_>, admin_port: u16) -> Result<Option<u16>, Refusal> {
    let Some(written) = probe.value("httpGet") else { return Ok(None) };
    let path = probe.at("httpGet");
    let get = Fields::new(written, &path)?;
    if get.value("port").and_then(Value::as_u64) != Some(admin_port.into()) {
        return Ok(None);
    }
    Ok(get.text("path")?.and_then(|path| path.strip_prefix(PATH)?.parse().ok()))
}

/// The same probe, the question in the place of the socket.
fn asked_of_the_proxy(probe: &Value, port: u16, admin_port: u16) -> Value {
    let question = json!({"path": format!("{PATH}{port}"), "port": admin_port, "scheme": "HTTP"});
    let members = probe.as_object().into_iter().flatten();
    let rewritten: Map<String, Value> = members
        .map(|(key, value)| match key.as_str() {
            "tcpSocket" => ("httpGet".to_owned(), question.clone()),
            _ => (key.clone(), value.clone()),
        })
        .collect();
    Value::Object(rewritten)
}

fn warn_of_encryption(probe: Fields<'_>, warnings: &mut Vec<Warning>) -> Result<(), Refusal> {
    let Some(written) = probe.value("httpGet") else { return Ok(()) };
    let path = probe.at("httpGet");
    let get = Fields::new(written, &path)?;
    let is_elsewhere = get.text("host")?.is_some_and(|host| !host.is_empty());
    if get.text("scheme")? == Some("HTTPS") && !is_elsewhere {
        let text = "the proxy cannot see what an encrypted probe asks: where a policy closes the port, allow `tls` from the \
                    node, or probe by `exec` or `tcpSocket`";
        warnings.push(Warning { path, text: text.to_owned() });
    }
    Ok(())
}

fn warn_of_hooks(container: Fields<'_>, warnings: &mut Vec<Warning>) -> Result<(), Refusal> {
    let Some(lifecycle) = container.value("lifecycle") else { return Ok(()) };
    let path = container.at("lifecycle");
    let lifecycle = Fields::new(lifecycle, &path)?;
    for hook in ["postStart", "preStop"] {
        let is_http = lifecycle.mapping(hook)?.is_some_and(|hook| hook.contains_key("httpGet"));
        if is_http {
            let text = "a hook over HTTP is no declared probe: where a policy closes the port, allow it from the node, or use \
                        `exec`";
            warnings.push(Warning { path: lifecycle.at(hook).key("httpGet"), text: text.to_owned() });
        }
    }
    Ok(())
}
