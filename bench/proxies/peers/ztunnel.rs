//! ztunnel for one workload, as its own manual runs it without a cluster: workloads and policies from a file.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use super::Setup;
use crate::identities::{AUTHORITY, SOURCE, spiffe};
use crate::process::Failure;
use crate::rules::BACKEND;

/// Where it listens for HBONE: no setting changes the port. The tunnels that it takes lead to the address that was called.
pub(super) const LISTEN: SocketAddr = SocketAddr::new(BACKEND, 15008);

/// Arguments of `env`: settings, and the program. For each source of the rules one rule for layer 4.
pub(super) fn write(setup: &Setup, program: &Path) -> Result<Vec<String>, Failure> {
    let port = setup.upstream.port();
    let mut told = String::from("workloads:\n");
    for (name, ip) in [("app", BACKEND), (SOURCE, setup.client)] {
        writeln!(
            told,
            "- {{uid: cluster//Pod/shop/{name}, name: {name}, namespace: shop, serviceAccount: {name}, trustDomain: cluster.local, workloadIps: [{ip}], \
             protocol: HBONE, node: local, network: \"\", services: {{}}}}"
        )?;
    }
    told += "policies:\n- {name: p, namespace: shop, scope: Namespace, action: Allow, dryRun: false, rules: [\n";
    for source in 0..setup.rules.sources() {
        let principal = spiffe(&format!("sa-{source}"));
        let principal = principal.trim_start_matches("spiffe://");
        writeln!(told, "  [[{{principals: [!Exact {principal}]}}], [{{destinationPorts: [{port}]}}]],")?;
    }
    told += "  ]}\nservices: []\n";
    fs::write(setup.file("ztunnel.yaml"), told)?;
    let settings = [
        "LOCAL_XDS_PATH=ztunnel.yaml".to_owned(),
        "XDS_ADDRESS=".to_owned(),
        format!("CA_ADDRESS=https://{}", setup.authority),
        format!("CA_ROOT_CA={AUTHORITY}"),
        "PROXY_MODE=dedicated".to_owned(),
        "PROXY_WORKLOAD_INFO=shop/app/app".to_owned(),
        "NODE_NAME=local".to_owned(),
        "ENABLE_ORIG_SRC=false".to_owned(),
        "ISTIO_META_DNS_CAPTURE=false".to_owned(),
        "RUST_LOG=error".to_owned(),
        format!("ZTUNNEL_WORKER_THREADS={}", setup.workers),
    ];
    Ok(settings.into_iter().chain([program.display().to_string()]).collect())
}
