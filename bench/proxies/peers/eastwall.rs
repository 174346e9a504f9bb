//! Eastwall as a gateway: native documents of a hundred rules, and everybody registered.

use std::fs;

use super::{Lines, Mode, Protocol, Setup, words};
use crate::identities;
use crate::process::{Failure, free_port};
use crate::rules::{PROXY, Rules};

/// Rules of one document.
pub(crate) const A_DOCUMENT: usize = 100;

/// The folder of its documents, and the file of who is where.
pub(crate) const DOCUMENTS: &str = "policies";
pub(crate) const WORKLOADS: &str = "workloads.yaml";

/// Who a sidecar runs as: what its redirection leaves alone.
pub(super) const SIDECAR_UID: u32 = 15106;
/// Makes the redirection of a sidecar.
pub(super) const REDIRECT: &str =
    "redirect apply --mode sidecar --uid 15106 --policy policies --workloads workloads.yaml --workload shop/app";

pub(super) fn write(setup: &Setup, mode: Mode, log: Option<Lines>) -> Result<Vec<String>, Failure> {
    let documents = setup.file(DOCUMENTS);
    fs::create_dir_all(&documents)?;
    for number in 0..setup.rules.0.div_ceil(A_DOCUMENT) {
        fs::write(documents.join(format!("p{number}.yaml")), document(setup, number, None))?;
    }
    fs::write(setup.file(WORKLOADS), workloads(setup, 0))?;
    let Setup { listen, upstream, workers, .. } = setup;
    let arrives = match mode {
        Mode::Gateway if setup.protocol == Protocol::Hbone => format!(
            "gateway --listen {} --upstream {upstream} --hbone-listen {listen} --identity {}",
            free_port(PROXY)?,
            identities::folder(identities::APP)
        ),
        Mode::Gateway => format!("gateway --listen {listen} --upstream {upstream}"),
        Mode::Sidecar => "sidecar".to_owned(),
        Mode::Node => "node".to_owned(),
    };
    let log = match log {
        None => "off",
        Some(Lines::Denied) => "access.log --log-allowed=false",
        Some(Lines::All) => "access.log",
    };
    Ok(words(&format!(
        "proxy --mode {arrives} --policy {DOCUMENTS} --workloads {WORKLOADS} --workers {workers} --access-log {log} \
         --drain 1s --connections 20000 --connections-per-source 20000"
    )))
}

/// One document; with `added`, the load may also GET that path.
pub(crate) fn document(setup: &Setup, number: usize, added: Option<&str>) -> String {
    let mut text = format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p{number}, namespace: shop}}\n\
         spec:\n  subject: [{{serviceAccount: app}}]\n  ingress:\n"
    );
    for rule in setup.rules.all().skip(number * A_DOCUMENT).take(A_DOCUMENT) {
        text += &format!("  - {{name: r{}, from: [{{serviceAccount: sa-{}}}], ", rule.number, rule.source);
        text += &match setup.protocol {
            Protocol::Tcp => "tcp: {}}\n".to_owned(),
            Protocol::WebSocket => {
                format!("http: [{{methods: [{}], paths: [{}], upgrades: [websocket]}}]}}\n", rule.method, rule.path)
            }
            Protocol::Http1 | Protocol::Http2 | Protocol::Hbone => {
                format!("http: [{{methods: [{}], paths: [{}]}}]}}\n", rule.method, rule.path)
            }
        };
    }
    if let Some(path) = added {
        text += &format!(
            "  - {{name: added, from: [{{serviceAccount: sa-0}}], http: [{{methods: [GET], paths: [{path}]}}]}}\n"
        );
    }
    text
}

/// Who is where; every revision has another address for every source but the load.
pub(crate) fn workloads(setup: &Setup, revision: usize) -> String {
    let declared = match setup.protocol {
        Protocol::Http1 | Protocol::WebSocket | Protocol::Hbone => "http",
        Protocol::Http2 => "http2",
        Protocol::Tcp => "tcp",
    };
    let (ip, port) = (setup.upstream.ip(), setup.upstream.port());
    let namespace = setup.namespace.as_ref().map_or_else(String::new, |path| format!(", netns: {path}"));
    let mut text = format!(
        "- {{name: app, namespace: shop, serviceAccount: app, ips: [{ip}], ports: [{{name: {declared}, port: {port}}}]{namespace}}}\n"
    );
    for source in 0..setup.rules.sources() {
        let address = if source == 0 { setup.client } else { Rules::address(source, revision) };
        text += &format!("- {{name: sa-{source}, namespace: shop, serviceAccount: sa-{source}, ips: [{address}]}}\n");
    }
    text
}
