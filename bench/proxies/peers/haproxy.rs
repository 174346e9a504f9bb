//! HAProxy: one exact look-up of `source method path` in a file that it keeps as a tree.

use std::fmt::Write as _;
use std::fs;

use super::{Protocol, Setup, words};
use crate::process::Failure;
use crate::rules::Rules;

pub(super) fn write(setup: &Setup) -> Result<Vec<String>, Failure> {
    let mut allowed = String::new();
    for rule in setup.rules.all() {
        let source = Rules::address(rule.source, 0);
        match setup.protocol {
            Protocol::Tcp => writeln!(allowed, "{source}")?,
            _ => writeln!(allowed, "{source} {} {}", rule.method, rule.path)?,
        }
    }
    fs::write(setup.file("allowed.list"), allowed)?;
    let Setup { listen, upstream, workers, .. } = setup;
    let judged = match setup.protocol {
        Protocol::Tcp => {
            "mode tcp\n  option splice-auto\n  tcp-request connection reject unless { src -f allowed.list }"
        }
        Protocol::Hbone => return Err("HAProxy takes no tunnels of HBONE here".into()),
        Protocol::Http1 | Protocol::Http2 | Protocol::WebSocket => {
            "mode http\n  http-request set-var-fmt(txn.asked) \"%[src] %[method] %[path]\"\n  \
             http-request deny deny_status 403 unless { var(txn.asked) -m str -f allowed.list }"
        }
    };
    let speaks = match setup.protocol {
        Protocol::Http2 => " proto h2",
        _ => "",
    };
    fs::write(
        setup.file("haproxy.cfg"),
        format!(
            // As many connections as the others: less than two files each, since most wait for nothing upstream.
            "global\n  nbthread {workers}\n  no strict-limits\n  maxconn 15000\n\
             defaults\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen pod\n  bind {listen}{speaks}\n  {judged}\n  server app {upstream}{speaks}\n"
        ),
    )?;
    Ok(words("-db -f haproxy.cfg"))
}
