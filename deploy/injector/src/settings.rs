//! What the platform decides about every sidecar.

use serde::Deserialize;

/// As a file says it; what is left out keeps its default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Image of both containers.
    pub image: String,
    /// When it is pulled.
    pub image_pull_policy: PullPolicy,
    /// Uid and gid of the proxy; no other container of a pod may have it.
    pub uid: u32,
    /// Port that gets what arrives at the pod.
    pub inbound_port: u16,
    /// Port that gets what the pod opens.
    pub outbound_port: u16,
    /// Port of health, readiness, metrics and probes. It is not redirected.
    pub admin_port: u16,
    /// IP versions that are redirected.
    pub family: Family,
    /// What is not redirected.
    pub bypass: Bypass,
    /// Address of the controller, `host:port`.
    pub controller: String,
    /// What the proxy gets, unless a pod's annotations say otherwise.
    pub resources: Resources,
    /// Worker threads of the proxy.
    pub workers: u16,
    /// What the proxy writes.
    pub log: Log,
    /// Seconds that connections have to end after the application has ended.
    pub drain_seconds: u16,
    /// Whether a pod may keep privileges that get past the proxy, by the annotation `eastwall.dev/allow-capabilities`.
    pub allow_capabilities_annotation: bool,
    /// Whether a pod may name the proxy's image, by the annotation `eastwall.dev/proxy-image`.
    pub allow_image_annotation: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            image: format!("ghcr.io/eastwall/eastwall:{}", env!("CARGO_PKG_VERSION")),
            image_pull_policy: PullPolicy::IfNotPresent,
            uid: 15106,
            inbound_port: 15106,
            outbound_port: 15101,
            admin_port: 15020,
            family: Family::Both,
            bypass: Bypass::default(),
            controller: "eastwall-controller.eastwall-system.svc:15012".to_owned(),
            resources: Resources::default(),
            workers: 2,
            log: Log::default(),
            drain_seconds: 5,
            allow_capabilities_annotation: true,
            allow_image_annotation: false,
        }
    }
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the words of the Kubernetes API")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The IP versions that are redirected. TCP of the other one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "they say what they are")]
pub enum Family {
    Both,
    Ipv4,
    Ipv6,
}

impl Family {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// What is not redirected, as `eastwall redirect` takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Bypass {
    /// TCP ports of the pod, `PORT` or `LO-HI`.
    pub inbound_ports: Vec<String>,
    /// Networks whose connections to the pod.
    pub inbound_cidrs: Vec<String>,
    /// Destination ports.
    pub outbound_ports: Vec<String>,
    /// Destination networks.
    pub outbound_cidrs: Vec<String>,
}

/// Quantities of the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Resources {
    /// CPU that is reserved.
    pub cpu: String,
    /// Memory that is reserved.
    pub memory: String,
    /// Most CPU. Without it the proxy is never throttled.
    pub cpu_limit: Option<String>,
    /// Most memory. Without it one pod's proxy can take the node's.
    pub memory_limit: Option<String>,
}

impl Default for Resources {
    fn default() -> Self {
        // 10,000 idle connections are 100 MB, a table of 1,000 rules is 15 MB.
        Self { cpu: "20m".into(), memory: "32Mi".into(), cpu_limit: None, memory_limit: Some("256Mi".into()) }
    }
}

/// What the proxy writes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Log {
    /// Of what is no access-log line: `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Access-log lines for allowed requests too.
    pub allowed: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), allowed: true }
    }
}

/// Why settings are unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A value that means nothing.
    #[error("`{name}`: `{value}` is not {expected}")]
    Value {
        /// Of the setting.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Two ports of the proxy are the same.
    #[error("`inboundPort`, `outboundPort` and `adminPort` must differ")]
    Ports,
}

/// Settings that are known to be usable.
#[derive(Clone, Debug)]
pub struct Injector {
    pub(crate) settings: Settings,
}

impl Injector {
    /// Checks settings.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let wrong =
            |name, value: &dyn ToString, expected| SettingsError::Value { name, value: value.to_string(), expected };
        if !is_image(&settings.image) {
            return Err(wrong("image", &settings.image, "an image with a version, and not `latest`"));
        }
        if settings.uid == 0 || settings.uid > i32::MAX.unsigned_abs() {
            return Err(wrong("uid", &settings.uid, "a uid of its own, from 1 to 2147483647"));
        }
        let ports = [settings.inbound_port, settings.outbound_port, settings.admin_port];
        if ports.contains(&0) {
            return Err(wrong("inboundPort, outboundPort, adminPort", &0, "a port"));
        }
        if ports[0] == ports[1] || ports[0] == ports[2] || ports[1] == ports[2] {
            return Err(SettingsError::Ports);
        }
        let endpoint = settings.controller.rsplit_once(':');
        if !endpoint.is_some_and(|(host, port)| !host.is_empty() && port.parse().is_ok_and(|port: u16| port != 0)) {
            return Err(wrong("controller", &settings.controller, "`host:port`"));
        }
        let Resources { cpu, memory, cpu_limit, memory_limit } = &settings.resources;
        let named = [
            ("resources.cpu", Some(cpu)),
            ("resources.memory", Some(memory)),
            ("resources.cpuLimit", cpu_limit.as_ref()),
            ("resources.memoryLimit", memory_limit.as_ref()),
        ];
        for (name, quantity) in named {
            if let Some(quantity) = quantity.filter(|quantity| !is_quantity(quantity)) {
                return Err(wrong(name, quantity, QUANTITY));
            }
        }
        if settings.workers == 0 {
            return Err(wrong("workers", &0, "more than zero"));
        }
        if !LEVELS.contains(&&*settings.log.level) {
            return Err(wrong("log.level", &settings.log.level, LEVEL));
        }
        Ok(Self { settings })
    }
}

/// What [`is_quantity`] takes.
pub(crate) const QUANTITY: &str = "a quantity such as `100m` or `64Mi`";

/// Of `EASTWALL_LOG`.
pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The same for people.
pub(crate) const LEVEL: &str = "`error`, `warn`, `info`, `debug` or `trace`";

/// SPEC: a positive quantity of the Kubernetes API, without exponents.
pub(crate) fn is_quantity(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let known = ["", "m", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"].contains(&suffix);
    known && number.parse::<f64>().is_ok_and(|number| number > 0.0)
}

/// A tag or a digest; `latest` would be whatever somebody pushes.
pub(crate) fn is_image(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic());
    if let Some((name, digest)) = text.split_once('@') {
        return plain(name) && digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64);
    }
    let tag = text.rsplit('/').next().and_then(|last| last.split_once(':'));
    plain(text) && tag.is_some_and(|(name, tag)| !name.is_empty() && !tag.is_empty() && tag != "latest")
}
