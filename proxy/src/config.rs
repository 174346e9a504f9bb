//! What the data plane is told: flags and the configuration file, merged and validated once, never checked again.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use eastwall_policy::source::Bounds;
use ipnet::IpNet;
use serde::Deserialize;

use crate::admin::ProbeSettings;
use crate::bounds::ReadingSettings;
use crate::controller::{ControllerSettings, Following, State};
use crate::identity::{Accepts, MutualTlsConfig, MutualTlsSettings, TokenLimitSettings, TokenLimits};
use crate::intercept::NodeSetup;
use crate::intercept::rules::{Bypass, Family, PortRange, Ports};
use crate::observe::{AccessLog, Destination};

/// How traffic reaches the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// An explicit listener and upstream, for trials and tests, without privileges.
    Gateway,
    /// nftables REDIRECT inside one pod.
    Sidecar,
    /// One process per node that enters each pod's network namespace.
    Node,
}

/// Every bound, with its default. Each is a flag and a member of the configuration file; each refusal has a reason label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of a request or response head, start line and trailers included.
    pub(crate) head_bytes: usize,
    /// Header lines of one message.
    pub(crate) header_fields: usize,
    /// Concurrent HTTP/2 streams of one connection.
    pub(crate) streams: u32,
    /// Streams that a peer may reset, or make us reset, before the HTTP/2 connection is closed.
    pub(crate) stream_resets: usize,
    /// Time to receive a whole head.
    pub(crate) head_timeout: Duration,
    /// Time without a byte in either direction after which a connection is closed.
    pub(crate) idle_timeout: Duration,
    /// Time to see enough first bytes to know the protocol, on an undeclared port with L7 rules; and for the next request
    /// of a client that is silent when the drain begins.
    pub(crate) detect_timeout: Duration,
    /// Time to connect upstream.
    pub(crate) connect_timeout: Duration,
    /// Concurrent connections.
    pub(crate) connections: usize,
    /// Concurrent connections of one source address.
    pub(crate) connections_per_source: usize,
    /// Bytes of a refused request's body that are read and thrown away to keep its connection; more closes it.
    pub(crate) body_drain: u64,
    /// Bytes of a TLS ClientHello, over all its records.
    pub(crate) hello_bytes: usize,
    /// Idle upstream connections kept for one source identity and destination, by each worker.
    pub(crate) pooled: usize,
    /// Time after which an idle upstream connection is closed.
    pub(crate) pool_idle_timeout: Duration,
    /// Bytes of the head of a CONNECT, or of the answer to one. It has few headers.
    pub(crate) hbone_head_bytes: usize,
    /// Flow-control window of one tunnel.
    pub(crate) hbone_window: u32,
    /// Of all tunnels of a connection: a few whose readers pause must not hold up the others.
    pub(crate) hbone_connection_window: u32,
    /// Tunnels of one connection to another proxy. One that carries more is left to them, and another one opened: what one
    /// tunnel loses in the kernel's queue all others wait for.
    pub(crate) hbone_tunnels: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 60 * 1024,
            header_fields: 100,
            streams: 250,
            stream_resets: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            detect_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            connections: 10_000,
            connections_per_source: 1_000,
            body_drain: 64 * 1024,
            hello_bytes: 16 * 1024,
            pooled: 64,
            pool_idle_timeout: Duration::from_secs(60),
            hbone_head_bytes: 16 * 1024,
            hbone_window: 256 * 1024,
            hbone_connection_window: 16 * 1024 * 1024,
            hbone_tunnels: 100,
        }
    }
}

// The limits as flags and as the `limits` member of the configuration file; what is left out keeps its default.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitSettings {
    /// Bytes of a request or response head [default: 61440]
    #[arg(long, value_name = "BYTES")]
    head_bytes: Option<usize>,
    /// Header lines of one message [default: 100]
    #[arg(long, value_name = "N")]
    header_fields: Option<usize>,
    /// Concurrent HTTP/2 streams of one connection [default: 250]
    #[arg(long, value_name = "N")]
    streams: Option<u32>,
    /// Streams that may be reset before an HTTP/2 connection is closed [default: 100]
    #[arg(long, value_name = "N")]
    stream_resets: Option<usize>,
    /// Time to receive a whole head [default: 10s]
    #[arg(long, value_name = "TIME")]
    head_timeout: Option<Span>,
    /// Time without a byte after which a connection is closed [default: 1h]
    #[arg(long, value_name = "TIME")]
    idle_timeout: Option<Span>,
    /// Time to know the protocol on an undeclared port, and of a silent client after a drain began [default: 1s]
    #[arg(long, value_name = "TIME")]
    detect_timeout: Option<Span>,
    /// Time to connect upstream [default: 5s]
    #[arg(long, value_name = "TIME")]
    connect_timeout: Option<Span>,
    /// Concurrent connections [default: 10000]
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Concurrent connections of one source address [default: 1000]
    #[arg(long, value_name = "N")]
    connections_per_source: Option<usize>,
    /// Bytes of a refused request's body that are thrown away to keep its connection [default: 65536]
    #[arg(long, value_name = "BYTES")]
    body_drain: Option<u64>,
    /// Bytes of a TLS ClientHello [default: 16384]
    #[arg(long, value_name = "BYTES")]
    hello_bytes: Option<usize>,
    /// Idle upstream connections kept for one source identity and destination, by each worker [default: 64]
    #[arg(long, value_name = "N")]
    pooled: Option<usize>,
    /// Time after which an idle upstream connection is closed [default: 1m]
    #[arg(long, value_name = "TIME")]
    pool_idle_timeout: Option<Span>,
    /// Bytes of the head of a CONNECT of HBONE, or of its answer [default: 16384]
    #[arg(long, value_name = "BYTES")]
    hbone_head_bytes: Option<usize>,
    /// Flow-control window of one tunnel of HBONE [default: 262144]
    #[arg(long, value_name = "BYTES")]
    hbone_window: Option<u32>,
    /// Flow-control window of all tunnels of one connection of HBONE [default: 16777216]
    #[arg(long, value_name = "BYTES")]
    hbone_connection_window: Option<u32>,
    /// Tunnels in one connection of HBONE to another proxy [default: 100]
    #[arg(long, value_name = "N")]
    hbone_tunnels: Option<usize>,
}

impl LimitSettings {
    /// Writes what is set over `limits`.
    fn apply(&self, limits: &mut Limits) {
        fn set<T: Clone>(value: Option<&T>, into: &mut T) {
            if let Some(value) = value {
                *into = value.clone();
            }
        }
        let span = |value: &Option<Span>, into: &mut Duration| set(value.as_ref().map(|span| &span.0), into);
        set(self.head_bytes.as_ref(), &mut limits.head_bytes);
        set(self.header_fields.as_ref(), &mut limits.header_fields);
        set(self.streams.as_ref(), &mut limits.streams);
        set(self.stream_resets.as_ref(), &mut limits.stream_resets);
        span(&self.head_timeout, &mut limits.head_timeout);
        span(&self.idle_timeout, &mut limits.idle_timeout);
        span(&self.detect_timeout, &mut limits.detect_timeout);
        span(&self.connect_timeout, &mut limits.connect_timeout);
        set(self.connections.as_ref(), &mut limits.connections);
        set(self.connections_per_source.as_ref(), &mut limits.connections_per_source);
        set(self.body_drain.as_ref(), &mut limits.body_drain);
        set(self.hello_bytes.as_ref(), &mut limits.hello_bytes);
        set(self.pooled.as_ref(), &mut limits.pooled);
        span(&self.pool_idle_timeout, &mut limits.pool_idle_timeout);
        set(self.hbone_head_bytes.as_ref(), &mut limits.hbone_head_bytes);
        set(self.hbone_window.as_ref(), &mut limits.hbone_window);
        set(self.hbone_connection_window.as_ref(), &mut limits.hbone_connection_window);
        set(self.hbone_tunnels.as_ref(), &mut limits.hbone_tunnels);
    }
}

// What is not redirected, as flags and as the `bypass` member of the configuration file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BypassSettings {
    /// TCP ports of the pod that are not redirected
    #[arg(long, value_name = "PORT|LO-HI", value_delimiter = ',')]
    #[serde(rename = "inboundPorts")]
    bypass_inbound_ports: Vec<PortRange>,
    /// Networks whose connections to the pod are not redirected
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    #[serde(rename = "inboundCidrs")]
    bypass_inbound_cidrs: Vec<IpNet>,
    /// Destination ports that are not redirected
    #[arg(long, value_name = "PORT|LO-HI", value_delimiter = ',')]
    #[serde(rename = "outboundPorts")]
    bypass_outbound_ports: Vec<PortRange>,
    /// Destination networks that are not redirected
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    #[serde(rename = "outboundCidrs")]
    bypass_outbound_cidrs: Vec<IpNet>,
}

impl BypassSettings {
    /// As the rules want it.
    pub(crate) fn to_bypass(&self) -> Bypass {
        self.over(&Self::default())
    }

    /// Each list that is set, and the file's where it is not.
    fn over(&self, file: &Self) -> Bypass {
        fn set<T: Clone>(flag: &[T], file: &[T]) -> Vec<T> {
            if flag.is_empty() { file.to_vec() } else { flag.to_vec() }
        }
        Bypass {
            inbound_ports: set(&self.bypass_inbound_ports, &file.bypass_inbound_ports),
            inbound_networks: set(&self.bypass_inbound_cidrs, &file.bypass_inbound_cidrs),
            outbound_ports: set(&self.bypass_outbound_ports, &file.bypass_outbound_ports),
            outbound_networks: set(&self.bypass_outbound_cidrs, &file.bypass_outbound_cidrs),
        }
    }
}

// What may be a flag or a member of the configuration file; a flag wins.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Settings {
    /// How traffic reaches the proxy
    #[arg(long, value_enum)]
    #[serde(default, deserialize_with = "parsed")]
    mode: Option<Mode>,
    /// Policy files and folders; may be repeated. Required, here or in the configuration file, without a controller
    #[arg(long, value_name = "PATH", num_args = 1..)]
    #[serde(default)]
    policy: Vec<PathBuf>,
    /// Workloads file; without it nobody is registered, so a gateway passes everything
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// Gateway: the address to accept on
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Gateway: the address to forward to
    #[arg(long, value_name = "ADDR")]
    upstream: Option<SocketAddr>,
    /// Address of the admin server (health, readiness, metrics)
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Unix socket of the admin server (policy, explain, flows, reload, drain)
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// Refuse everything that a policy may protect until a good table was read. `false` is the one exception to failing
    /// closed: until then everything passes [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    start_closed: Option<bool>,
    /// Worker threads [default: one a core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Access log: a file, `-` for standard output, or `off`, which loses the lines of denials too [default: -]
    #[arg(long, value_name = "PATH|-|off")]
    access_log: Option<String>,
    /// Lines for allowed requests too; `false`: for what was refused, revoked, or would be by the audited policies
    /// [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    log_allowed: Option<bool>,
    /// Time that requests in flight have to end after SIGTERM [default: 30s]
    #[arg(long, value_name = "TIME")]
    drain: Option<Span>,
    /// Unix socket over which the next process takes over the listeners, and this one those of a process before it: an
    /// upgrade that refuses no connection. Both have to name it
    #[arg(long, value_name = "PATH")]
    handover: Option<PathBuf>,
    /// Sidecar and node: port that gets what arrives at the pod [default: 15106]
    #[arg(long, value_name = "PORT")]
    inbound_port: Option<u16>,
    /// Sidecar and node: port that gets what the pod opens [default: 15101]
    #[arg(long, value_name = "PORT")]
    outbound_port: Option<u16>,
    /// Sidecar and node: IP versions that are redirected [default: both]
    #[arg(long, value_enum)]
    #[serde(default, deserialize_with = "parsed")]
    family: Option<Family>,
    /// Node: only the pods of this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Node: Unix socket, for root alone, on which the CNI plugin `eastwall-cni` hands over pods [default: none]
    #[arg(long, value_name = "PATH")]
    cni_socket: Option<PathBuf>,
    /// Node: file that keeps the pods that were handed over [default: pods.json beside the socket]
    #[arg(long, value_name = "FILE")]
    cni_state: Option<PathBuf>,
    #[command(flatten)]
    #[serde(default)]
    probes: ProbeSettings,
    #[command(flatten)]
    #[serde(default)]
    bypass: BypassSettings,
    #[command(flatten)]
    #[serde(default)]
    limits: LimitSettings,
    #[command(flatten)]
    #[serde(default)]
    mutual_tls: MutualTlsSettings,
    #[command(flatten)]
    #[serde(default)]
    controller: ControllerSettings,
    #[command(flatten)]
    #[serde(default)]
    token_limits: TokenLimitSettings,
    /// Whose tokens native rules believe; in the configuration file alone.
    #[arg(skip)]
    #[serde(default)]
    tokens: Vec<Accepts>,
    #[command(flatten)]
    #[serde(default)]
    reading: ReadingSettings,
}

/// The data plane's configuration, complete.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// How traffic reaches the proxy.
    pub(crate) mode: Mode,
    /// Policy files and folders.
    pub(crate) policy: Vec<PathBuf>,
    /// Workloads file.
    pub(crate) workloads: Option<PathBuf>,
    /// The controller that keeps both up to date.
    pub(crate) controller: Option<Following>,
    /// Listener and upstream, in gateway mode.
    pub(crate) gateway: Option<Gateway>,
    /// Address of the admin server.
    pub(crate) admin: Option<SocketAddr>,
    /// Unix socket of the admin server.
    pub(crate) admin_socket: Option<PathBuf>,
    /// Ports of the pod that the admin server dials for probes.
    pub(crate) probes: ProbeSettings,
    /// Refuse everything that a policy may protect until a good table was read.
    pub(crate) start_closed: bool,
    /// Worker threads.
    pub(crate) workers: NonZeroUsize,
    /// Where access-log lines go.
    pub(crate) access_log: AccessLog,
    /// Time that requests in flight have to end after SIGTERM.
    pub(crate) drain: Duration,
    /// Socket over which listeners are handed over.
    pub(crate) handover: Option<PathBuf>,
    /// Ports, IP versions and exceptions of redirected traffic, in sidecar and node mode.
    pub(crate) redirected: NodeSetup,
    /// Where the CNI plugin hands over pods, in node mode.
    pub(crate) cni: Option<CniConfig>,
    /// Every bound.
    pub(crate) limits: Limits,
    /// What this proxy can prove, and whom it believes; `None`: it speaks plaintext alone.
    pub(crate) mutual_tls: Option<MutualTlsConfig>,
    /// Whose tokens native rules believe.
    pub(crate) tokens: Arc<[Accepts]>,
    /// Bounds on tokens and keys.
    pub(crate) token_limits: TokenLimits,
    /// Bounds on the files that are read.
    pub(crate) reading: Bounds,
}

/// Where pods are handed over, and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CniConfig {
    /// The socket.
    pub(crate) socket: PathBuf,
    /// The file.
    pub(crate) state: PathBuf,
}

impl CniConfig {
    fn new(mode: Mode, socket: Option<PathBuf>, state: Option<PathBuf>) -> Result<Option<Self>, ConfigError> {
        match (mode, socket, state) {
            (_, None, None) => Ok(None),
            (Mode::Node, Some(socket), state) => {
                let state = state.unwrap_or_else(|| socket.with_file_name("pods.json"));
                Ok(Some(Self { socket, state }))
            }
            (Mode::Node, None, Some(_)) => {
                Err(ConfigError::Misplaced("`--cni-state` without `--cni-socket`: nobody could hand over a pod"))
            }
            _ => Err(ConfigError::Misplaced("`--cni-socket` and `--cni-state` belong to node mode")),
        }
    }
}

/// What gateway mode needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    /// The address to accept on.
    pub(crate) listen: SocketAddr,
    /// The address to forward to, which names the destination workload.
    pub(crate) upstream: SocketAddr,
}

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("`{}`: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A setting is missing.
    #[error("{0}")]
    Missing(&'static str),
    /// A setting is there that the mode does not know.
    #[error("{0}")]
    Misplaced(&'static str),
    /// A bound that lets nothing through, or everything.
    #[error("`{0}` must be more than zero")]
    Zero(&'static str),
    /// A window that HTTP/2 cannot say.
    #[error("`{0}` must be at most {WINDOW_MAX}")]
    Window(&'static str),
}

impl Config {
    /// Joins flags with the file that `--config` names.
    pub(crate) fn new(flags: &Settings, file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match file {
            Some(path) => read(path)?,
            None => Settings::default(),
        };
        let mut named = flags.policy.iter().chain(&file.policy).chain(&flags.workloads).chain(&file.workloads);
        if named.any(|path| path.as_os_str() == "-") {
            // It can be read once: the first reload would find nothing, and open what it had closed.
            return Err(ConfigError::Misplaced("the proxy reads files and folders again and again: `-` is none"));
        }
        let mode = flags.mode.or(file.mode).ok_or(ConfigError::Missing("say how traffic arrives: `--mode`"))?;
        let listen = flags.listen.or(file.listen);
        let upstream = flags.upstream.or(file.upstream);
        let reading = flags.reading.over(file.reading.over(Bounds::default()));
        let controller = flags
            .controller
            .over(&file.controller, (mode, reading.total_bytes), |variable| std::env::var(variable).ok())?;
        let policy = if flags.policy.is_empty() { file.policy } else { flags.policy.clone() };
        let policy = match &controller {
            Some(following) if policy.is_empty() => State::policies(&following.state),
            Some(_) => {
                return Err(ConfigError::Misplaced("policies come from the controller: leave out `--policy`"));
            }
            None => policy,
        };
        let workloads = flags.workloads.clone().or(file.workloads);
        let workloads = workloads.or_else(|| Some(State::workloads(&controller.as_ref()?.state)));
        if policy.is_empty() {
            // Without one every workload would be open, and readiness would say that all is well.
            return Err(ConfigError::Missing(
                "say what is allowed: `--policy PATH`, a file or a folder, or `--controller ADDR`",
            ));
        }
        let gateway = match (mode, listen, upstream) {
            (Mode::Gateway, Some(listen), Some(upstream)) => Some(Gateway { listen, upstream }),
            (Mode::Gateway, _, _) => {
                return Err(ConfigError::Missing("gateway mode needs `--listen` and `--upstream`"));
            }
            (Mode::Sidecar | Mode::Node, None, None) => None,
            _ => return Err(ConfigError::Misplaced("`--listen` and `--upstream` belong to gateway mode")),
        };
        let mut limits = Limits::default();
        file.limits.apply(&mut limits);
        flags.limits.apply(&mut limits);
        limits.check()?;
        let issued = controller.as_ref().map(|following| State::identities(&following.state));
        let mutual_tls = flags.mutual_tls.over(file.mutual_tls, issued).map_err(ConfigError::Misplaced)?;
        if mode != Mode::Gateway && mutual_tls.as_ref().is_some_and(|held| held.listen.is_some()) {
            return Err(ConfigError::Misplaced(
                "`--hbone-listen` belongs to gateway mode: redirected traffic has a port",
            ));
        }
        if mode != Mode::Node && mutual_tls.as_ref().is_some_and(MutualTlsConfig::is_of_a_node) {
            return Err(ConfigError::Misplaced(
                "`--spire-admin-socket` belongs to node mode: a sidecar asks for its own certificate with `--workload-api`",
            ));
        }
        let token_limits = flags.token_limits.over(file.token_limits.over(TokenLimits::default()));
        if let Some(name) = token_limits.zero() {
            return Err(ConfigError::Zero(name));
        }
        let probes = flags.probes.over(&file.probes);
        let admin = flags.admin.or(file.admin);
        if probes.asks() && admin.is_none() {
            return Err(ConfigError::Missing("`--probe-ports` are asked about at `--admin`"));
        }
        if probes.is_hopeless() {
            return Err(ConfigError::Zero("probeTimeout"));
        }
        let ports = Ports::default();
        let node = flags.node.clone().or(file.node);
        let node = node.or_else(|| controller.as_ref()?.node.as_deref().map(str::to_owned));
        let redirected = NodeSetup {
            node: node.map(Into::into),
            uid: rustix::process::geteuid().as_raw(),
            ports: Ports {
                inbound: flags.inbound_port.or(file.inbound_port).unwrap_or(ports.inbound),
                outbound: flags.outbound_port.or(file.outbound_port).unwrap_or(ports.outbound),
            },
            family: flags.family.or(file.family).unwrap_or_default(),
            bypass: flags.bypass.over(&file.bypass),
        };
        let cni = CniConfig::new(
            mode,
            flags.cni_socket.clone().or(file.cni_socket),
            flags.cni_state.clone().or(file.cni_state),
        )?;
        let access_log = flags.access_log.as_ref().or(file.access_log.as_ref());
        Ok(Self {
            mode,
            policy,
            workloads,
            controller,
            gateway,
            admin,
            probes,
            admin_socket: flags.admin_socket.clone().or(file.admin_socket),
            start_closed: flags.start_closed.or(file.start_closed).unwrap_or(true),
            workers: flags
                .workers
                .or(file.workers)
                .or_else(|| std::thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
            access_log: AccessLog {
                destination: access_log.map_or(Destination::Stdout, |text| {
                    let Ok(destination) = text.parse();
                    destination
                }),
                allowed: flags.log_allowed.or(file.log_allowed).unwrap_or(true),
            },
            drain: flags.drain.or(file.drain).map_or(Duration::from_secs(30), |span| span.0),
            handover: flags.handover.clone().or(file.handover),
            redirected,
            cni,
            limits,
            mutual_tls,
            tokens: file.tokens.into(),
            token_limits,
            reading,
        })
    }
}

impl Limits {
    /// A bound of zero would refuse everything in silence.
    fn check(&self) -> Result<(), ConfigError> {
        let zero = [
            ("headBytes", self.head_bytes == 0),
            ("headerFields", self.header_fields == 0),
            ("streams", self.streams == 0),
            ("headTimeout", self.head_timeout.is_zero()),
            ("idleTimeout", self.idle_timeout.is_zero()),
            ("detectTimeout", self.detect_timeout.is_zero()),
            ("connectTimeout", self.connect_timeout.is_zero()),
            ("connections", self.connections == 0),
            ("connectionsPerSource", self.connections_per_source == 0),
            ("helloBytes", self.hello_bytes == 0),
            ("hboneHeadBytes", self.hbone_head_bytes == 0),
            ("hboneWindow", self.hbone_window == 0),
            ("hboneConnectionWindow", self.hbone_connection_window == 0),
            ("hboneTunnels", self.hbone_tunnels == 0),
        ];
        if let Some((name, _)) = zero.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(ConfigError::Zero(name));
        }
        let windows = [("hboneWindow", self.hbone_window), ("hboneConnectionWindow", self.hbone_connection_window)];
        match windows.into_iter().find(|(_, window)| *window > WINDOW_MAX) {
            Some((name, _)) => Err(ConfigError::Window(name)),
            None => Ok(()),
        }
    }
}

/// SPEC: RFC 9113 6.9.1.
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// A length of time: `500ms`, `10s`, `5m`, `1h`, or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let wrong = || format!("`{text}` is not a length of time: write `500ms`, `10s`, `5m` or `1h`");
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs).ok_or_else(wrong);
        match unit {
            "ms" => Ok(Duration::from_millis(number)),
            "" | "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(3600),
            _ => Err(wrong()),
        }
        .map(Self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn parsed<'de, D: serde::Deserializer<'de>, T: clap::ValueEnum>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    clap::ValueEnum::from_str(&text, false).map(Some).map_err(serde::de::Error::custom)
}

fn read(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.into(), source })?;
    serde_saphyr::from_str(&text)
        .map_err(|error| ConfigError::Invalid { path: path.into(), message: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        Config::new(&Settings::default(), Some(&path))
    }

    const GATEWAY: &str = "mode: gateway\nlisten: 127.0.0.1:80\nupstream: 127.0.0.2:80\npolicy: [policies]\n";

    #[test]
    fn file_sets_every_limit() {
        let config = file(&format!(
            "{GATEWAY}drain: 5s\nlimits: {{headBytes: 1, headerFields: 2, streams: 3, streamResets: 4, headTimeout: 5s, \
             idleTimeout: 6m, detectTimeout: 700ms, connectTimeout: 8, connections: 9, connectionsPerSource: 10, \
             bodyDrain: 11, helloBytes: 12, pooled: 13, poolIdleTimeout: 1h, hboneHeadBytes: 14, hboneWindow: 15, \
             hboneConnectionWindow: 16, hboneTunnels: 17}}\n"
        ))
        .unwrap();
        let expected = Limits {
            head_bytes: 1,
            header_fields: 2,
            streams: 3,
            stream_resets: 4,
            head_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(360),
            detect_timeout: Duration::from_millis(700),
            connect_timeout: Duration::from_secs(8),
            connections: 9,
            connections_per_source: 10,
            body_drain: 11,
            hello_bytes: 12,
            pooled: 13,
            pool_idle_timeout: Duration::from_secs(3600),
            hbone_head_bytes: 14,
            hbone_window: 15,
            hbone_connection_window: 16,
            hbone_tunnels: 17,
        };
        assert_eq!(config.limits, expected);
        assert_eq!(config.drain, Duration::from_secs(5));
    }

    #[test]
    fn windows_are_what_http2_can_say() {
        for (name, window, good) in [
            ("hboneWindow", "2147483647", true),
            ("hboneWindow", "2147483648", false),
            ("hboneConnectionWindow", "2147483648", false),
            ("hboneWindow", "0", false),
            ("hboneConnectionWindow", "0", false),
            ("hboneHeadBytes", "0", false),
            ("hboneTunnels", "0", false),
        ] {
            let read = file(&format!("{GATEWAY}limits: {{{name}: {window}}}\n"));
            assert_eq!(read.is_ok(), good, "{name}: {window}");
            assert!(good || read.unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn file_says_whose_tokens_are_believed() {
        let config = file(&format!(
            "{GATEWAY}tokens: [{{issuer: i, audiences: [a], jwks: k.json}}]\ntokenLimits: {{tokenBytes: 9, tokenLeeway: 0s, \
             cachedTokens: 0, jwksRefresh: 1h, jwksCa: ca.pem}}\n"
        ))
        .unwrap();
        let [accepts] = &*config.tokens else { panic!("{config:?}") };
        assert_eq!(accepts.rule.issuer.as_deref(), Some("i"));
        let expected = TokenLimits {
            token_bytes: 9,
            leeway: Duration::ZERO,
            cached_tokens: 0,
            jwks_refresh: Duration::from_secs(3600),
            jwks_ca: Some("ca.pem".into()),
            ..TokenLimits::default()
        };
        assert_eq!(config.token_limits, expected);
        let error = file(&format!("{GATEWAY}tokens:\n- {{issuer: i}}\n")).unwrap_err().to_string();
        assert!(error.contains("anyAudience") && error.contains("line 6"), "{error}");
        assert!(file(&format!("{GATEWAY}tokenLimits: {{jwksKeys: 0}}\n")).is_err());
    }

    #[test]
    fn unknown_members_are_errors() {
        for text in ["limit: {}\n", "limits: {headByte: 1}\n"] {
            let error = file(&format!("{GATEWAY}{text}")).unwrap_err();
            assert!(matches!(error, ConfigError::Invalid { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn impossible_settings_are_errors() {
        for text in [
            "mode: gateway\npolicy: [p]\n",
            "mode: sidecar\npolicy: [p]\nlisten: 127.0.0.1:80\n",
            "mode: sidecar\npolicy: [\"-\"]\n",
            "mode: sidecar\npolicy: [p]\nworkloads: \"-\"\n",
            "policy: [p]\n",
            "mode: sidecar\npolicy: [p]\nprobes: {ports: [80]}\n",
            "mode: sidecar\npolicy: [p]\nadmin: 127.0.0.1:1\nprobes: {ports: [80], timeout: 0s}\n",
            "mode: sidecar\npolicy: [p]\nadmin: 127.0.0.1:1\nprobes: {ports: [0]}\n",
            "mode: door\npolicy: [p]\n",
        ] {
            assert!(file(text).is_err(), "{text}");
        }
        assert!(matches!(file(&format!("{GATEWAY}limits: {{headBytes: 0}}\n")), Err(ConfigError::Zero("headBytes"))));
    }

    #[test]
    fn a_proxy_without_policies_does_not_start() {
        for text in ["mode: sidecar\n", "mode: node\npolicy: []\n"] {
            let error = file(text).unwrap_err();
            assert!(matches!(error, ConfigError::Missing(message) if message.contains("--policy")), "{text}: {error}");
        }
        assert_eq!(file("mode: sidecar\npolicy: [p]\n").unwrap().policy, [PathBuf::from("p")]);
    }

    #[test]
    fn denials_are_told_unless_somebody_turns_the_log_off() {
        for (text, destination, allowed) in [
            ("", Destination::Stdout, true),
            ("accessLog: \"off\"\n", Destination::Off, true),
            ("logAllowed: false\n", Destination::Stdout, false),
        ] {
            assert_eq!(file(&format!("{GATEWAY}{text}")).unwrap().access_log, AccessLog { destination, allowed });
        }
    }

    #[test]
    fn file_says_what_is_not_redirected() {
        let text = "mode: sidecar\npolicy: [p]\nbypass: {inboundPorts: [9443, 80-90], inboundCidrs: [10.0.0.0/8], \
                    outboundPorts: [53], outboundCidrs: [\"fd00::/8\"]}\n";
        let expected = Bypass {
            inbound_ports: vec![PortRange(9443, 9443), PortRange(80, 90)],
            inbound_networks: vec!["10.0.0.0/8".parse().unwrap()],
            outbound_ports: vec![PortRange(53, 53)],
            outbound_networks: vec!["fd00::/8".parse().unwrap()],
        };
        assert_eq!(file(text).unwrap().redirected.bypass, expected);
        assert!(file("mode: sidecar\npolicy: [p]\nbypass: {ports: [1]}\n").is_err());
    }

    #[test]
    fn pods_are_handed_over_in_node_mode_alone() {
        let cni = |text: &str| file(&format!("policy: [p]\n{text}")).map(|config| config.cni);
        let expected = |state: &str| Some(CniConfig { socket: "/run/e/cni.sock".into(), state: state.into() });
        assert_eq!(cni("mode: node\n").unwrap(), None);
        assert_eq!(cni("mode: node\ncniSocket: /run/e/cni.sock\n").unwrap(), expected("/run/e/pods.json"));
        let named = "mode: node\ncniSocket: /run/e/cni.sock\ncniState: /var/p\n";
        assert_eq!(cni(named).unwrap(), expected("/var/p"));
        for text in ["mode: node\ncniState: /var/p\n", "mode: sidecar\ncniSocket: /run/e/cni.sock\n"] {
            assert!(matches!(cni(text), Err(ConfigError::Misplaced(message)) if message.contains("--cni")), "{text}");
        }
    }

    #[test]
    fn spans() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("2", Some(2000)),
            ("2s", Some(2000)),
            ("1m", Some(60_000)),
            ("x", None),
            ("1d", None),
            ("-1s", None),
        ] {
            assert_eq!(text.parse::<Span>().ok().map(|span| span.0), expected.map(Duration::from_millis), "{text}");
        }
    }
}
