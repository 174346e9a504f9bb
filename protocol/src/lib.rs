//! What Eastwall's programs say to others: the controller and its proxies to each other (`proto/eastwall.proto`), a node
//! proxy to a SPIRE agent (`proto/delegated_identity.proto`); and the code that is generated of it.

#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    clippy::use_self,
    reason = "generated: the .proto says it all"
)]
#[rustfmt::skip]
pub mod delegated_identity;
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    clippy::use_self,
    reason = "generated: the .proto says it all"
)]
#[rustfmt::skip]
pub mod v1alpha1;
