//! What each proxy is told of the cluster: the policies that can select one of its workloads, and who is where.
//!
//! [`Directory`] follows the cluster and keeps what proxies are told ready; [`Slice`] is the part of one of them;
//! [`Fleet`] knows which proxies there are and what they have put in force; [`Endpoint`] is the gRPC server of both
//! services. Who asks is said by [`Caller`], never by the request.

mod caller;
mod directory;
mod endpoint;
mod fleet;
mod follow;
mod group;
mod rate;
mod serve;
mod settings;
mod slice;
mod token_review;
mod trim;

pub use caller::{AUDIENCE, Caller, Review, ReviewError, Reviewed, Reviewer};
pub use directory::Directory;
pub(crate) use endpoint::Callers;
pub use endpoint::Endpoint;
pub use fleet::{Counts, Fleet};
pub(crate) use serve::{Flags, serve};
pub use settings::Settings;
pub use slice::{Serves, Slice};

#[cfg(test)]
mod tests;
