//! The proxies that are measured: how each is told the policy, and started.

pub(crate) mod eastwall;
mod envoy;
mod haproxy;
mod nginx;
mod ztunnel;

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use eastwall_bench::machine;

pub(crate) use self::nginx::{HEAD, TEMPORARY};
use crate::churn::Change;
use crate::floor::Floor;
use crate::process::{Cores, Failure, LOAD, Place, Process};
use crate::rules::Rules;

/// What a proxy speaks, to both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// With prior knowledge.
    Http2,
    /// HTTP/1.1 that is switched to WebSocket.
    WebSocket,
    /// Bytes that are not looked at, judged by their source alone.
    Tcp,
    /// HTTP/1.1 in tunnels of mutual TLS; plain to the backend.
    Hbone,
}

/// What stands between load and backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Eastwall,
    Haproxy,
    Nginx,
    Envoy,
    /// Tunnels of mutual TLS, judged by their source alone.
    Ztunnel,
    /// Eastwall while something changes.
    Changing(Change),
    /// Eastwall with so many rules, whatever the others have.
    Holding(usize),
    /// Eastwall with an access log.
    Logging(Lines),
    /// Eastwall between two pods.
    Between(Mode),
    /// No policy: what a library costs by itself.
    Floor(Floor),
}

/// Those that are told the policy.
pub(crate) const EVERYBODY: &[Peer] = &[Peer::Eastwall, Peer::Haproxy, Peer::Nginx, Peer::Envoy];

/// What every proxy is told, and writes down in its own terms.
pub(crate) struct Setup {
    pub(crate) folder: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) upstream: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) rules: Rules,
    pub(crate) workers: usize,
    /// Where the load comes from.
    pub(crate) client: IpAddr,
    /// Where certificates are issued, to a proxy that asks for its own.
    pub(crate) authority: SocketAddr,
    /// Path of the network namespace of the protected pod, where it has one of its own.
    pub(crate) namespace: Option<String>,
}

/// How traffic reaches Eastwall between two pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A listener in the protected pod.
    Gateway,
    /// Redirected in the protected pod.
    Sidecar,
    /// Redirected in the protected pod to a proxy outside it.
    Node,
}

/// What is in an access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// What was refused.
    Denied,
    /// Every request.
    All,
}

/// Where the programs are.
pub(crate) struct Programs {
    pub(crate) eastwall: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) ztunnel: Option<PathBuf>,
}

impl Programs {
    /// Whether this one can be started here.
    pub(crate) fn have(&self, peer: Peer) -> bool {
        match peer {
            Peer::Envoy => self.envoy.is_some(),
            Peer::Ztunnel => self.ztunnel.is_some(),
            _ => true,
        }
    }

    /// What each calls itself.
    pub(crate) fn versions(&self) -> Vec<(&'static str, String)> {
        let first = |program: &str, flag: &str| {
            let said = machine::said(program, &[flag]);
            said.lines().next().unwrap_or_default().trim().to_owned()
        };
        // It puts its own path in front.
        let envoy = |path: &PathBuf| {
            let said = machine::said(&path.to_string_lossy(), &["--version"]);
            said.rsplit_once("version: ").map_or(String::new(), |(_, version)| version.to_owned())
        };
        let ztunnel = |path: &PathBuf| {
            let said = machine::said(&path.to_string_lossy(), &["version"]);
            let revision = said.split_once("GitRevision:\"").and_then(|(_, rest)| rest.split_once('"'));
            revision.map_or(said.clone(), |(revision, _)| revision.to_owned())
        };
        vec![
            ("eastwall", first(&self.eastwall.to_string_lossy(), "--version")),
            ("haproxy", first("haproxy", "-v")),
            ("nginx", first("nginx", "-v")),
            ("envoy", self.envoy.as_ref().map_or_else(|| "none".to_owned(), envoy)),
            ("ztunnel", self.ztunnel.as_ref().map_or_else(|| "none".to_owned(), ztunnel)),
            ("wrk", first("wrk", "-v")),
            ("h2load", first("h2load", "--version")),
            ("h2", machine::locked("h2")),
            ("hyper", machine::locked("hyper")),
            ("rustls", machine::locked("rustls")),
        ]
    }
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eastwall => "eastwall",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Ztunnel => "ztunnel",
            Self::Changing(Change::Nothing) => "the same again",
            Self::Changing(Change::Document) => "a document a second",
            Self::Changing(Change::Addresses) => "addresses each second",
            Self::Holding(_) => "eastwall",
            Self::Logging(Lines::Denied) => "log of denials",
            Self::Logging(Lines::All) => "log of every request",
            Self::Between(Mode::Gateway) => "gateway",
            Self::Between(Mode::Sidecar) => "sidecar",
            Self::Between(Mode::Node) => "node",
            Self::Floor(Floor::H2) => "h2-to-h2",
            Self::Floor(Floor::Hyper) => "hyper-to-h2",
            Self::Floor(Floor::Tunnels) => "hbone-to-tcp",
        }
    }

    fn place(self, setup: &Setup) -> Place {
        // One worker has a core of its own; two share both with the load.
        let cores = if setup.workers == 1 { Cores("0") } else { Cores("0,1") };
        match self {
            Self::Between(Mode::Node) => cores.into(),
            Self::Between(Mode::Sidecar) => {
                Place { cores, namespace: setup.namespace.clone(), uid: Some(eastwall::SIDECAR_UID) }
            }
            _ => Place { cores, namespace: setup.namespace.clone(), uid: None },
        }
    }

    /// Whether it was told a policy.
    pub(crate) fn judges(self) -> bool {
        !matches!(self, Self::Floor(_))
    }

    /// Whether what it was told is about requests.
    pub(crate) fn judges_requests(self) -> bool {
        self.judges() && self != Self::Ztunnel
    }

    /// Whether CONNECT opens a tunnel through it.
    pub(crate) fn takes_tunnels(self) -> bool {
        self != Self::Nginx
    }

    /// Where it has to listen, if anywhere in particular.
    pub(crate) fn listens(self) -> Option<SocketAddr> {
        (self == Self::Ztunnel).then_some(ztunnel::LISTEN)
    }

    /// What has to run beside it.
    pub(crate) fn start_authority(self, setup: &Setup) -> Result<Option<Process>, Failure> {
        if self != Self::Ztunnel {
            return Ok(None);
        }
        let arguments = words(&format!("authority {} .", setup.authority));
        Ok(Some(Process::start("authority", &LOAD.into(), &env::current_exe()?, &arguments, &setup.folder)?))
    }

    pub(crate) fn start(self, setup: &Setup, programs: &Programs) -> Result<Process, Failure> {
        let (program, arguments) = match self {
            Self::Eastwall | Self::Changing(_) | Self::Holding(_) => {
                (programs.eastwall.clone(), eastwall::write(setup, Mode::Gateway, None)?)
            }
            Self::Logging(lines) => (programs.eastwall.clone(), eastwall::write(setup, Mode::Gateway, Some(lines))?),
            Self::Between(mode) => (programs.eastwall.clone(), eastwall::write(setup, mode, None)?),
            Self::Haproxy => ("haproxy".into(), haproxy::write(setup)?),
            Self::Nginx => ("nginx".into(), nginx::write(setup)?),
            Self::Envoy => (programs.envoy.clone().ok_or("there is no Envoy")?, envoy::write(setup)?),
            Self::Ztunnel => {
                let program = programs.ztunnel.as_deref().ok_or("there is no ztunnel")?;
                ("env".into(), ztunnel::write(setup, program)?)
            }
            Self::Floor(_) => {
                (env::current_exe()?, words(&format!("{} {} {}", self.name(), setup.listen, setup.upstream)))
            }
        };
        let place = self.place(setup);
        if self == Self::Between(Mode::Sidecar) {
            let redirect = words(eastwall::REDIRECT);
            Process::start("redirect", &Place { uid: None, ..place.clone() }, &program, &redirect, &setup.folder)?
                .wait()?;
        }
        Process::start(self.name(), &place, &program, &arguments, &setup.folder)
    }
}

impl Setup {
    /// A file of this proxy.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

pub(crate) fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
