//! What the controller is told on its command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::lease::Candidate;
use crate::replicas::Telling;
use crate::slices::Flags;
use crate::uncovered::Looks;
use crate::webhook::certificate::{Files, Keeper};

/// Follow a Kubernetes cluster for the proxies of the Eastwall firewall
#[derive(Debug, clap::Parser)]
#[command(
    name = "eastwall-controller",
    version,
    after_help = "It finds the API server as kubectl does (KUBECONFIG), or by the service account of its pod.
What it logs goes to standard error (EASTWALL_LOG=debug tells more). SIGTERM ends it: it gives the
lease back first.

Exit codes: 0 it was told to end, 1 it could not go on, 2 unusable call.

Examples:
  eastwall-controller                   in a pod, with the rights of deploy/base/rbac.yaml
  eastwall-controller --webhook-cert tls.crt --webhook-key tls.key     with those of cert-manager
  KUBECONFIG=~/.kube/config eastwall-controller --namespace eastwall-system"
)]
pub struct Config {
    /// Namespace of the lease and the Secret [default: that of the pod, else of the kubeconfig]
    #[arg(long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// What this replica is called in the lease [default: POD_NAME, else HOSTNAME and the process id]
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Address of the admin server: /healthz, /readyz, /metrics
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:15021")]
    pub(crate) admin: SocketAddr,
    /// Address of the webhooks
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9443")]
    pub(crate) webhook: SocketAddr,
    /// Service through which the API server calls the webhooks
    #[arg(long, value_name = "NAME", default_value = "eastwall-controller")]
    webhook_service: String,
    /// Another name or address that the webhooks' certificate is for; may be given several times
    #[arg(long = "webhook-name", value_name = "NAME")]
    webhook_names: Vec<String>,
    /// Name of the webhook configurations that are told the certificate's authority
    #[arg(long, value_name = "NAME", default_value = "eastwall")]
    webhook_configuration: String,
    /// Secret that keeps the webhooks' certificate
    #[arg(long, value_name = "NAME", default_value = "eastwall-webhook")]
    webhook_secret: String,
    /// Certificate of the webhooks, PEM, instead of one that the controller issues; read anew when it changes
    #[arg(long, value_name = "FILE", requires = "webhook_key")]
    webhook_cert: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "webhook_cert")]
    webhook_key: Option<PathBuf>,
    /// Settings of the sidecars that pods get, as `eastwall inject --settings` takes them; read anew when they change
    #[arg(long, value_name = "FILE")]
    pub(crate) injector_settings: Option<PathBuf>,
    /// The lease that the replica holds that writes statuses
    #[arg(long, value_name = "NAME", default_value = "eastwall-controller")]
    lease: String,
    /// Seconds without a sign of life after which another replica takes the lease
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(5..=300))]
    lease_duration: u16,
    /// ConfigMap in which each replica says how its proxies stand
    #[arg(long, value_name = "NAME", default_value = "eastwall-controller-replicas")]
    replicas_configmap: String,
    /// Bytes that a replica may say there; what does not fit makes `Programmed` unknown
    #[arg(long, value_name = "BYTES", default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    max_replica_bytes: u32,
    /// Seconds that a pod may be without a proxy before its policies' statuses and the metrics tell
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=3600))]
    proxy_grace: u16,
    #[command(flatten)]
    pub(crate) proxies: Flags,
}

impl Config {
    /// As who it wants the lease.
    pub(crate) fn candidate(&self, namespace: &str) -> Candidate {
        let named = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
        let host = || format!("{}-{}", named("HOSTNAME").unwrap_or_else(|| "local".to_owned()), std::process::id());
        Candidate {
            namespace: namespace.to_owned(),
            lease: self.lease.clone(),
            identity: self.identity.clone().or_else(|| named("POD_NAME")).unwrap_or_else(host),
            duration: Duration::from_secs(self.lease_duration.into()),
        }
    }

    /// How it tells the other replicas.
    pub(crate) fn telling(&self, namespace: &str) -> Telling {
        let Candidate { namespace, identity, duration, .. } = self.candidate(namespace);
        let most = usize::try_from(self.max_replica_bytes).unwrap_or(usize::MAX);
        Telling { namespace, configmap: self.replicas_configmap.clone(), identity, patience: duration, most }
    }

    /// How it looks for pods without a proxy.
    pub(crate) fn looks(&self, namespace: &str) -> Looks {
        Looks { node_accounts: self.proxies.accounts(namespace), grace: Duration::from_secs(self.proxy_grace.into()) }
    }

    /// The certificate's files, where it has some.
    pub(crate) fn files(&self) -> Option<Files> {
        Some(Files { chain: self.webhook_cert.clone()?, key: self.webhook_key.clone()? })
    }

    /// How it keeps a certificate of its own.
    pub(crate) fn keeper(&self, namespace: &str) -> Keeper {
        let service = format!("{}.{namespace}.svc", self.webhook_service);
        let mut names = vec![service.clone(), format!("{service}.cluster.local")];
        names.extend(self.webhook_names.iter().cloned());
        Keeper {
            namespace: namespace.to_owned(),
            secret: self.webhook_secret.clone(),
            names,
            configuration: self.webhook_configuration.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Config;

    #[test]
    fn the_command_line_is_well_formed() {
        Config::command().debug_assert();
        let parse = |words: &[&str]| Config::try_parse_from([&["eastwall-controller"], words].concat());
        assert!(parse(&["--webhook-cert", "a"]).is_err(), "a certificate without its key");
        assert!(parse(&["--lease-duration", "1"]).is_err());
        let config = parse(&["--webhook-name", "localhost", "--identity", "a"]).unwrap();
        assert_eq!(
            config.keeper("n").names,
            ["eastwall-controller.n.svc", "eastwall-controller.n.svc.cluster.local", "localhost"]
        );
        assert_eq!(config.candidate("n").identity, "a");
        assert!(config.files().is_none());
    }
}
