//! Settings of mutual TLS: flags, and the member `mutualTls` of the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::files::Bundle;
use super::source::IdentitySource;
use crate::hbone;

/// As the proxy uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MutualTlsConfig {
    /// Where identities come from.
    pub(crate) source: IdentitySource,
    /// Port of a pod at which HBONE arrives.
    pub(crate) port: u16,
    /// Gateway: where HBONE arrives.
    pub(crate) listen: Option<SocketAddr>,
    /// SPIFFE ids that may come from any address.
    pub(crate) anywhere: Vec<String>,
    /// Whoever has proven an identity may come in plaintext all the same.
    pub(crate) takes_downgrades: bool,
}

const HEADING: &str = "Mutual TLS";

// What is left out keeps its default.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct MutualTlsSettings {
    /// Folder of this workload's certificate: `tls.crt`, `tls.key`, `ca.crt`; in node mode one a service account in
    /// `NAMESPACE/ACCOUNT/`. Replaced files are taken over without a restart
    #[arg(long, value_name = "DIR", help_heading = HEADING)]
    identity: Option<PathBuf>,
    /// SPIFFE Workload API, as `unix:PATH` or `tcp:IP:PORT`, which gives certificates instead of a folder [env:
    /// SPIFFE_ENDPOINT_SOCKET]
    #[arg(long, value_name = "ADDR", help_heading = HEADING)]
    workload_api: Option<String>,
    /// Admin socket of this node's SPIRE agent, whose Delegated Identity API gives a node proxy the certificates of the
    /// pods that it serves
    #[arg(long, value_name = "PATH", help_heading = HEADING)]
    spire_admin_socket: Option<PathBuf>,
    /// Authorities of another trust domain; may be repeated
    #[arg(long, value_name = "TRUST_DOMAIN=FILE", help_heading = HEADING)]
    #[serde(default)]
    trust_bundle: Vec<Bundle>,
    /// Port of a pod at which HBONE arrives [default: 15008]
    #[arg(long, value_name = "PORT", help_heading = HEADING)]
    hbone_port: Option<u16>,
    /// Gateway: the address to accept HBONE on
    #[arg(long, value_name = "ADDR", help_heading = HEADING)]
    hbone_listen: Option<SocketAddr>,
    /// Identities that may come from any address, as those of gateways do; all others must come from an address that the
    /// registry has them at. May be repeated
    #[arg(long, value_name = "SPIFFE_ID", help_heading = HEADING)]
    #[serde(default)]
    any_address: Vec<String>,
    /// Whoever has proven an identity once may come in plaintext all the same [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = HEADING)]
    accept_downgrade: Option<bool>,
}

/// Names the socket of the Workload API. SPEC: SPIFFE Workload Endpoint 4.
const SOCKET: &str = "SPIFFE_ENDPOINT_SOCKET";

impl MutualTlsSettings {
    /// These, and the file's where one is not set. `issued`: where the controller's certificates are, which are taken
    /// where nothing else is named. `None`: nothing can be proven here.
    pub(crate) fn over(&self, file: Self, issued: Option<PathBuf>) -> Result<Option<MutualTlsConfig>, &'static str> {
        let folder = self.identity.clone().or(file.identity);
        let socket = self.workload_api.clone().or(file.workload_api);
        let bundles = if self.trust_bundle.is_empty() { file.trust_bundle } else { self.trust_bundle.clone() };
        let listen = self.hbone_listen.or(file.hbone_listen);
        let admin = self.spire_admin_socket.clone().or(file.spire_admin_socket);
        let is_agent = socket.is_some() || admin.is_some();
        let source = match (folder, socket, admin) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                return Err(
                    "identities come from one of `--identity`, `--workload-api` and `--spire-admin-socket`, not from several",
                );
            }
            (Some(folder), None, None) => IdentitySource::Folder(folder, bundles),
            (None, _, _) if !bundles.is_empty() && is_agent => {
                return Err("the agent gives all authorities: `--trust-bundle` goes with `--identity`");
            }
            (None, Some(socket), None) => IdentitySource::WorkloadApi(socket),
            (None, None, Some(socket)) => IdentitySource::Delegated(socket),
            (None, None, None) => match (std::env::var(SOCKET), issued) {
                (Ok(socket), _) => IdentitySource::WorkloadApi(socket),
                (Err(_), Some(issued)) => IdentitySource::Folder(issued, bundles),
                (Err(_), None) if listen.is_some() || !bundles.is_empty() => {
                    return Err(
                        "mutual TLS needs a certificate: `--identity DIR`, `--workload-api ADDR` or `--spire-admin-socket PATH`",
                    );
                }
                (Err(_), None) => return Ok(None),
            },
        };
        let anywhere = if self.any_address.is_empty() { file.any_address } else { self.any_address.clone() };
        if anywhere.iter().any(|id| spiffe::SpiffeId::new(id).is_err()) {
            return Err("`--any-address` takes SPIFFE ids: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`");
        }
        Ok(Some(MutualTlsConfig {
            source,
            port: self.hbone_port.or(file.hbone_port).unwrap_or(hbone::PORT),
            listen,
            anywhere,
            takes_downgrades: self.accept_downgrade.or(file.accept_downgrade).unwrap_or(false),
        }))
    }
}

impl MutualTlsConfig {
    /// The source gives identities of others than the proxy's own workload alone: of the pods of a node.
    pub(crate) fn is_of_a_node(&self) -> bool {
        matches!(self.source, IdentitySource::Delegated(_))
    }
}
