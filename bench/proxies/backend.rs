//! What stands behind the proxies.

use std::env;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;

use crate::peers::{HEAD, Protocol, TEMPORARY, words};
use crate::process::{Failure, LOAD, Place, Process, free_port};
use crate::rules::BACKEND;

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// nginx with a short answer to everything.
    Short,
    /// nginx with a file of so many bytes as the answer to everything.
    File(u64),
    /// A server of our own, which reads bodies and answers messages.
    Reads,
}

/// A running backend and where it listens.
pub(crate) struct Backend {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl Backend {
    pub(crate) fn start(folder: &Path, protocol: Protocol, origin: Origin) -> Result<Self, Failure> {
        Self::start_at(free_port(BACKEND)?, LOAD.into(), folder, protocol, origin)
    }

    /// Starts it at this address, in a network namespace if need be.
    pub(crate) fn start_at(
        address: SocketAddr,
        place: Place,
        folder: &Path,
        protocol: Protocol,
        origin: Origin,
    ) -> Result<Self, Failure> {
        let location = match origin {
            Origin::Short => "return 200 \"here you are\\n\";".to_owned(),
            Origin::File(bytes) => {
                File::create(folder.join("body"))?.set_len(bytes)?;
                format!("root {}; try_files /body =404;", folder.display())
            }
            Origin::Reads => {
                let kind = if protocol == Protocol::Http2 { "origin-http2" } else { "origin-http1" };
                let arguments = words(&format!("{kind} {address}"));
                let process = Process::start("backend", &place, &env::current_exe()?, &arguments, folder)?;
                return Ok(Self { _process: process, address });
            }
        };
        let speaks = if protocol == Protocol::Http2 { " http2" } else { "" };
        let configuration = format!(
            "{HEAD}http {{\n{TEMPORARY}sendfile on;\nserver {{\n  listen {address}{speaks};\n  keepalive_requests 1000000000;\n  \
             location / {{ {location} }}\n}}\n}}\n"
        );
        fs::write(folder.join("backend.conf"), configuration)?;
        let mut arguments = words("-c backend.conf -e stderr -p");
        arguments.push(folder.display().to_string());
        let process = Process::start("backend", &place, Path::new("nginx"), &arguments, folder)?;
        Ok(Self { _process: process, address })
    }
}
