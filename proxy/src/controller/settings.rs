//! Which controller is followed, and as whom.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::config::{ConfigError, Mode, Span};

// As flags and as the `controller` member of the configuration file; a flag wins.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Controller")]
pub(crate) struct ControllerSettings {
    /// Addresses of controllers, `HOST:PORT`: policies and workloads come from the first that answers
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    #[serde(rename = "addresses")]
    controller: Vec<String>,
    /// Name that the controller's certificate is for [default: eastwall-controller.eastwall-system.svc]
    #[arg(long, value_name = "NAME")]
    #[serde(rename = "name")]
    controller_name: Option<String>,
    /// Roots that the controller's certificate leads to, PEM [default: /var/run/secrets/eastwall/ca.crt]
    #[arg(long, value_name = "FILE")]
    #[serde(rename = "ca")]
    controller_ca: Option<PathBuf>,
    /// Token of this proxy's pod, for the audience `eastwall-controller` [default: /var/run/secrets/eastwall/token]
    #[arg(long, value_name = "FILE")]
    #[serde(rename = "token")]
    controller_token: Option<PathBuf>,
    /// Folder of what the controller said last, and of certificates [default: /var/lib/eastwall]
    #[arg(long, value_name = "DIR")]
    #[serde(rename = "state")]
    controller_state: Option<PathBuf>,
    /// Time without a word of the controller after which no address proves who a peer is [default: 1m]
    #[arg(long, value_name = "TIME")]
    #[serde(rename = "maxStaleness")]
    max_staleness: Option<Span>,
    /// Name of this proxy's pod [default: POD_NAME of the environment]
    #[arg(long, value_name = "NAME")]
    #[serde(rename = "podName")]
    pod_name: Option<String>,
    /// Namespace of this proxy's pod [default: POD_NAMESPACE of the environment]
    #[arg(long, value_name = "NAME")]
    #[serde(rename = "podNamespace")]
    pod_namespace: Option<String>,
    /// Name of the node [default: NODE_NAME of the environment]
    #[arg(long, value_name = "NAME")]
    #[serde(rename = "nodeName")]
    node_name: Option<String>,
}

/// A controller that is followed.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    /// `HOST:PORT` of each.
    pub(crate) addresses: Vec<String>,
    /// Name in their certificates.
    pub(crate) name: String,
    /// Roots of their certificates.
    pub(crate) ca: PathBuf,
    /// Token of this pod.
    pub(crate) token: PathBuf,
    /// Folder of what they said, and of certificates.
    pub(crate) state: PathBuf,
    /// Time without a word after which addresses prove nothing.
    pub(crate) max_staleness: Duration,
    /// Whom this proxy serves.
    pub(crate) serves: Serves,
    /// The node, where it is known.
    pub(crate) node: Option<Arc<str>>,
    /// Bytes of a whole slice.
    pub(crate) slice_bytes: usize,
}

/// Whom a proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// One pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Every pod of a node.
    Node(String),
}

impl ControllerSettings {
    /// Joined with the file's; `None` where no controller is named. `environment`: how a variable is read.
    pub(crate) fn over(
        &self,
        file: &Self,
        (mode, slice_bytes): (Mode, usize),
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Following>, ConfigError> {
        let addresses = if self.controller.is_empty() { &file.controller } else { &self.controller };
        if addresses.is_empty() {
            return Ok(None);
        }
        if addresses.iter().any(|address| !is_address(address)) {
            return Err(ConfigError::Misplaced("`--controller` takes `HOST:PORT`"));
        }
        fn set<T: Clone>(flag: Option<&T>, file: Option<&T>) -> Option<T> {
            flag.or(file).cloned()
        }
        let path = |flag: &Option<PathBuf>, file: &Option<PathBuf>, otherwise: &str| {
            set(flag.as_ref(), file.as_ref()).unwrap_or_else(|| otherwise.into())
        };
        let name = |flag: &Option<String>, file: &Option<String>, variable: &str| {
            let said = set(flag.as_ref(), file.as_ref()).or_else(|| environment(variable));
            said.filter(|name| !name.is_empty())
        };
        let node = name(&self.node_name, &file.node_name, "NODE_NAME");
        let pod = name(&self.pod_namespace, &file.pod_namespace, "POD_NAMESPACE").zip(name(
            &self.pod_name,
            &file.pod_name,
            "POD_NAME",
        ));
        let serves = match (mode, pod, node.clone()) {
            (Mode::Node, _, Some(node)) => Serves::Node(node),
            (Mode::Node, _, None) => return Err(ConfigError::Missing("say which node this is: `--node-name`")),
            (_, Some((namespace, name)), _) => Serves::Pod { namespace, name },
            (_, None, _) => {
                return Err(ConfigError::Missing("say which pod this is: `--pod-name` and `--pod-namespace`"));
            }
        };
        let max_staleness = set(self.max_staleness.as_ref(), file.max_staleness.as_ref());
        let max_staleness = max_staleness.map_or(Duration::from_secs(60), |span| span.0);
        if max_staleness.is_zero() {
            return Err(ConfigError::Zero("maxStaleness"));
        }
        let certified = set(self.controller_name.as_ref(), file.controller_name.as_ref());
        Ok(Some(Following {
            addresses: addresses.clone(),
            name: certified.unwrap_or_else(|| "eastwall-controller.eastwall-system.svc".to_owned()),
            ca: path(&self.controller_ca, &file.controller_ca, "/var/run/secrets/eastwall/ca.crt"),
            token: path(&self.controller_token, &file.controller_token, "/var/run/secrets/eastwall/token"),
            state: path(&self.controller_state, &file.controller_state, "/var/lib/eastwall"),
            max_staleness,
            serves,
            node: node.map(Into::into),
            slice_bytes,
        }))
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}
