//! Eastwall as a gateway: native documents of a hundred rules, and everybody registered.

use std::fmt::Write as _;
use std::fs;

use super::{Protocol, Setup, words};
use crate::process::Failure;
use crate::rules::{BACKEND, Rules};

/// Rules of one document.
const A_DOCUMENT: usize = 100;

pub(super) fn write(setup: &Setup<'_>) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    for (index, rule) in setup.rules.all().enumerate() {
        if index % A_DOCUMENT == 0 {
            let number = index / A_DOCUMENT;
            writeln!(
                text,
                "---\napiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p{number}, namespace: shop}}\n\
                 spec:\n  subject: [{{serviceAccount: app}}]\n  ingress:"
            )?;
        }
        let what = match setup.protocol {
            Protocol::Tcp => "tcp: {}".to_owned(),
            Protocol::WebSocket => {
                format!("http: [{{methods: [{}], paths: [{}], upgrades: [websocket]}}]", rule.method, rule.path)
            }
            Protocol::Http1 | Protocol::Http2 => {
                format!("http: [{{methods: [{}], paths: [{}]}}]", rule.method, rule.path)
            }
        };
        writeln!(text, "  - {{name: r{}, from: [{{serviceAccount: sa-{}}}], {what}}}", rule.number, rule.source)?;
    }
    fs::write(setup.file("policy.yaml"), text)?;
    fs::write(setup.file("workloads.yaml"), workloads(setup)?)?;
    Ok(words(&format!(
        "proxy --mode gateway --listen {} --upstream {} --policy policy.yaml --workloads workloads.yaml --workers {} \
         --access-log off --drain 1s --connections 20000 --connections-per-source 20000",
        setup.listen, setup.upstream, setup.workers
    )))
}

fn workloads(setup: &Setup<'_>) -> Result<String, Failure> {
    let declared = match setup.protocol {
        Protocol::Http1 | Protocol::WebSocket => "http",
        Protocol::Http2 => "http2",
        Protocol::Tcp => "tcp",
    };
    let mut text = format!(
        "- {{name: app, namespace: shop, serviceAccount: app, ips: [{BACKEND}], ports: [{{name: {declared}, port: {}}}]}}\n",
        setup.upstream.port()
    );
    for source in 0..setup.rules.sources() {
        let address = Rules::address(source);
        writeln!(text, "- {{name: sa-{source}, namespace: shop, serviceAccount: sa-{source}, ips: [{address}]}}")?;
    }
    Ok(text)
}
