//! Why an object does not get the sidecar, where in it that stands, and what to do.

use std::fmt;

use crate::choice::INJECT;
use crate::examine::ALLOW_CAPABILITIES;
use crate::path::FieldPath;

/// One reason, and its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Refusal {
    /// Where.
    pub path: FieldPath,
    /// Why.
    pub reason: Reason,
}

/// What is injected all the same, but will not work as its author may think.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub path: FieldPath,
    /// What.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Everything that is wrong with an object; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals(pub(crate) Vec<Refusal>);

impl Refusals {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Refusal> {
        self.0.iter()
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, refusal) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{refusal}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusals {}

/// Why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A field that the decision hangs on cannot be read.
    #[error("`{found}` is not {expected}")]
    Unreadable {
        /// What it should be.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A field that must be there is not.
    #[error("is missing")]
    Missing,
    /// The pod has the node's network.
    #[error(
        "the pod has the network of its node, where redirecting would catch the node's own traffic; leave the pod out with \
         `{INJECT}: disabled`"
    )]
    HostNetwork,
    /// A pod for Windows.
    #[error("the proxy runs on Linux alone; leave the pod out with `{INJECT}: disabled`")]
    Windows,
    /// A container that could take the rules away.
    #[error(
        "container `{container}` is privileged, so it can take away the rules that bring traffic to the proxy; remove it, or \
         accept that with the annotation `{ALLOW_CAPABILITIES}: \"true\"`"
    )]
    Privileged {
        /// Its name.
        container: String,
    },
    /// A container that could take the rules away, or get past them.
    #[error(
        "container `{container}` asks for {capability}, which gets past the proxy; remove it, or accept that with the annotation \
         `{ALLOW_CAPABILITIES}: \"true\"`"
    )]
    Capability {
        /// Its name.
        container: String,
        /// Of the capability.
        capability: String,
    },
    /// The proxy is known by its uid.
    #[error(
        "container `{container}` runs as {uid}, the uid of the proxy, whose traffic is not redirected; give it another, or accept \
         that with the annotation `{ALLOW_CAPABILITIES}: \"true\"`"
    )]
    ProxyUid {
        /// Its name.
        container: String,
        /// The uid.
        uid: u32,
    },
    /// An annotation that the platform does not allow.
    #[error("the platform does not allow this annotation; ask whoever runs it")]
    ForbiddenAnnotation,
    /// A word that is none of those that are known.
    #[error("`{found}` is not {expected}")]
    UnknownWord {
        /// The words.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Label and annotation say opposite things.
    #[error("the label `{INJECT}` says something else than the annotation; keep one of them")]
    Contradiction,
    /// A pod that does not get the sidecar has something of its name.
    #[error("the pod has a container of the sidecar's name, but is not to get the sidecar; take one of the two out")]
    Pretended,
    /// A name that the sidecar needs.
    #[error("`{0}` is a name of the sidecar's; give it another")]
    NameTaken(String),
    /// A volume of the sidecar's in another container.
    #[error("container `{container}` mounts `{volume}`, which is the sidecar's alone")]
    VolumeShared {
        /// Its name.
        container: String,
        /// The volume.
        volume: String,
    },
    /// A port that the proxy needs.
    #[error("port {0} is the proxy's own; move the container, or the proxy by its settings")]
    PortTaken(u16),
    /// A probe on a port that its container does not declare.
    #[error("`{0}` is no port of its container; name one that it declares, or write the number")]
    UnknownPort(String),
    /// What is to be injected is not there.
    #[error("a `{0}` cannot get a sidecar by itself; inject into the object that makes its pods")]
    NoTemplate(String),
}
