//! Puts the Eastwall sidecar into Kubernetes objects. Pure: an object and settings go in, the object with the sidecar or
//! a refusal comes out. It asks no cluster and reads no file.
//!
//! Two containers are added, before every other init container: `eastwall-redirect` makes the rules that close the pod and
//! ends; `eastwall-proxy` is a native sidecar (an init container with `restartPolicy: Always`, Kubernetes 1.29), which
//! starts before and ends after the application.

mod annotation;
mod choice;
mod container;
mod examine;
mod field;
mod object;
mod path;
mod pod;
mod probe;
mod refusal;
mod review;
mod settings;
mod volume;

pub use choice::{NamespaceChoice, Scope};
pub use object::{Injected, Outcome, Untouched};
pub use path::{FieldPath, Segment};
pub use pod::Sidecar;
pub use refusal::{Reason, Refusal, Refusals, Warning};
pub use review::Review;
pub use settings::{Bypass, Family, Injector, Log, PullPolicy, Resources, Settings, SettingsError};
