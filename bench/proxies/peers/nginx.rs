//! nginx: one look-up of `source method path` in the hash of a `map`.

use std::fmt::Write as _;
use std::fs;

use super::{Protocol, Setup, words};
use crate::identities;
use crate::process::Failure;
use crate::rules::Rules;

pub(super) fn write(setup: &Setup) -> Result<Vec<String>, Failure> {
    let mut allowed = String::new();
    for rule in setup.rules.all() {
        writeln!(allowed, "\"{} {} {}\" 1;", Rules::address(rule.source, 0), rule.method, rule.path)?;
    }
    fs::write(setup.file("allowed.map"), allowed)?;
    let Setup { listen, upstream, workers, .. } = setup;
    let (speaks, forward) = match setup.protocol {
        Protocol::Http1 => ("", "proxy_pass http://app; proxy_set_header Connection \"\";"),
        Protocol::WebSocket => {
            ("", "proxy_pass http://app; proxy_set_header Connection upgrade; proxy_set_header Upgrade $http_upgrade;")
        }
        Protocol::Hbone => {
            fs::write(setup.file("nginx.conf"), who_it_is(setup))?;
            return Ok(arguments(setup));
        }
        Protocol::Tcp => return Err("nginx has no `stream` in Debian's nginx-light".into()),
        // The only way that nginx speaks HTTP/2 to an upstream.
        Protocol::Http2 => (" http2", "grpc_pass grpc://app;"),
    };
    let size = setup.rules.0.next_power_of_two().max(2_048) * 2;
    fs::write(
        setup.file("nginx.conf"),
        format!(
            "{HEAD}worker_processes {workers};\nhttp {{\n{TEMPORARY}\
             map_hash_max_size {size};\nmap_hash_bucket_size 128;\n\
             map \"$remote_addr $request_method $uri\" $allowed {{ default 0; include allowed.map; }}\n\
             upstream app {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n\
             server {{\n  listen {listen}{speaks};\n  keepalive_requests 1000000000;\n  client_max_body_size 0;\n  \
             proxy_http_version 1.1;\n  proxy_request_buffering off;\n  proxy_max_temp_file_size 0;\n  \
             location / {{ if ($allowed = 0) {{ return 403; }} {forward} }}\n}}\n}}\n"
        ),
    )?;
    Ok(arguments(setup))
}

/// Mutual TLS, and the same answer to whoever has a certificate.
fn who_it_is(setup: &Setup) -> String {
    let Setup { listen, workers, .. } = setup;
    let own = identities::folder(identities::APP);
    format!(
        "{HEAD}worker_processes {workers};\nhttp {{\n{TEMPORARY}server {{\n  listen {listen} ssl http2;\n  \
         ssl_protocols TLSv1.3;\n  ssl_session_cache off;\n  ssl_session_tickets off;\n  \
         ssl_certificate {own}/tls.crt;\n  ssl_certificate_key {own}/tls.key;\n  \
         ssl_client_certificate {own}/ca.crt;\n  ssl_verify_client on;\n  return 200;\n}}\n}}\n"
    )
}

fn arguments(setup: &Setup) -> Vec<String> {
    let mut arguments = words("-c nginx.conf -e stderr -p");
    arguments.push(setup.folder.display().to_string());
    arguments
}

/// Before everything else of a configuration.
pub(crate) const HEAD: &str =
    "daemon off;\npid nginx.pid;\nerror_log stderr error;\nevents { worker_connections 16384; }\n";
/// In `http`: no file outside the folder is touched.
pub(crate) const TEMPORARY: &str = "access_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
    uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n";
