//! A table joined with a registry: what a verdict is asked of.
//!
//! A world is immutable. A change of policies or of workloads makes a new one, which is swapped in whole, so every
//! verdict is of exactly one [`Generation`].

use std::sync::Arc;

use crate::canonical;
use crate::model::Model;
use crate::registry::Registry;
use crate::verdict::{Generation, Verdict};

/// Policies and registry, ready to answer.
#[derive(Debug)]
pub struct World {
    model: Arc<Model>,
    registry: Arc<Registry>,
    generation: Generation,
}

/// One connection resolved against the world that made it: who both ends are and which scopes judge it. Keep it
/// beside its `Arc<World>`; with another world it means nothing.
#[derive(Debug)]
pub struct Flow {}

/// What can be said of a connection before any request is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionVerdict {
    /// No request could be allowed.
    Deny(Verdict),
    /// Every request is allowed: bytes may pass unseen.
    Opaque(Verdict),
    /// It depends on the request.
    Inspect,
}

/// What canonicalisation needs to know of a flow's scopes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CanonicalScope {
    /// Opt-ins in force, the strictest of all.
    pub options: canonical::Options,
    /// Lower-case names of headers that rules in scope look at: a name that folds to one of them (`X_Role`) is
    /// refused, and so is a Connection header that nominates one.
    pub watched_headers: Vec<Arc<str>>,
}

impl World {
    /// The generation that every verdict of this world carries.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The registry in force.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The policies in force.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

// To come, with exactly these shapes:
//   World::new(model: Arc<Model>, registry: Arc<Registry>, number: u64) -> World
//   World::closed(registry, number) -> World            no table: every registered workload is closed (Reason::NoTable)
//   World::flow(&self, &Connection<'_>) -> Flow
//   World::connection_verdict(&self, &Flow, now: i64) -> ConnectionVerdict
//   World::request_verdict(&self, &Flow, &Request<'_>) -> Verdict
//   World::canonical_scope(&self, &Flow) -> &CanonicalScope
//   World::source(&self, address: IpAddr) -> End ; World::destination(..)
