//! What stands behind the proxies: nginx with a short answer to everything.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::peers::{HEAD, Protocol, TEMPORARY};
use crate::process::{Failure, LOAD, Process, free_port};
use crate::rules::BACKEND;

/// A running backend and where it listens.
pub(crate) struct Backend {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl Backend {
    pub(crate) fn start(folder: &Path, protocol: Protocol) -> Result<Self, Failure> {
        let address = free_port(BACKEND)?;
        let speaks = match protocol {
            Protocol::Http1 => "",
            Protocol::Http2 => " http2",
        };
        let configuration = format!(
            "{HEAD}http {{\n{TEMPORARY}server {{\n  listen {address}{speaks};\n  keepalive_requests 1000000000;\n  \
             location / {{ return 200 \"here you are\\n\"; }}\n}}\n}}\n"
        );
        fs::write(folder.join("backend.conf"), configuration)?;
        let mut arguments: Vec<String> = ["-c", "backend.conf", "-e", "stderr", "-p"].map(str::to_owned).into();
        arguments.push(folder.display().to_string());
        let process = Process::start("backend", LOAD, Path::new("nginx"), &arguments, folder)?;
        Ok(Self { _process: process, address })
    }
}
