//! Certificates of the pods that this proxy serves: keys made here, signed by the controller, renewed in time.
//!
//! A sidecar has `DIR/identity/{tls.crt,tls.key,ca.crt}`, a node proxy `DIR/identity/NAMESPACE/ACCOUNT/…`. The three files
//! are links through `..data`, which is swapped as a mounted Secret's is: they always belong together.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use eastwall_protocol::v1alpha1::certificates_client::CertificatesClient;
use eastwall_protocol::v1alpha1::{Pod, SignRequest, SignResponse, Workload};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::time::Instant;

use super::connect::Channel;
use super::settings::Serves;
use super::state::{State, remove};

/// Namespace and account.
type Account = (String, String);

/// All of them.
#[derive(Debug)]
pub(super) struct Identities {
    folder: PathBuf,
    /// One pod, one folder.
    is_one: bool,
    wanted: BTreeMap<Account, Wanted>,
}

#[derive(Debug)]
struct Wanted {
    /// Any of the pods that run as the account here.
    pod: String,
    due: Instant,
    failures: u32,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Key(#[from] rcgen::Error),
    #[error("{}", .0.message())]
    Refused(#[from] Box<tonic::Status>),
    #[error("the controller signed nothing")]
    Empty,
}

impl Identities {
    pub(super) fn new(state: &Path, serves: &Serves) -> Self {
        let is_one = matches!(serves, Serves::Pod { .. });
        Self { folder: State::identities(state), is_one, wanted: BTreeMap::new() }
    }

    /// These pods are served from now on. The keys of accounts that have none here any more are thrown away.
    pub(super) fn want(&mut self, workloads: &[Workload]) {
        let mut before = std::mem::take(&mut self.wanted);
        for Workload { namespace, name, service_account } in workloads {
            if !is_name(namespace) || !is_name(service_account) {
                tracing::error!(namespace, service_account, "no certificate: such names are none of Kubernetes");
                continue;
            }
            let account = (namespace.clone(), service_account.clone());
            let held = before.remove(&account).map_or((Instant::now(), 0), |held| (held.due, held.failures));
            let (due, failures) = held;
            self.wanted.entry(account).or_insert(Wanted { pod: name.clone(), due, failures });
        }
        if let Err(error) = self.clean() {
            tracing::error!(%error, "keys of pods that are gone cannot be removed");
        }
    }

    /// Waits until a certificate is due, and gets it.
    pub(super) async fn renew(&mut self, channel: &Channel) {
        let Some(due) = self.wanted.values().map(|wanted| wanted.due).min() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let Some((account, wanted)) = self.wanted.iter_mut().find(|(_, wanted)| wanted.due <= now) else { return };
        let (namespace, name) = account;
        let folder = if self.is_one { self.folder.clone() } else { self.folder.join(namespace).join(name) };
        // Should the call be given up with the stream, it is tried again soon.
        wanted.due = now + AGAIN;
        match renewed(channel, namespace, &wanted.pod, &folder).await {
            Ok(lives) => {
                tracing::info!(namespace, account = name, renewal = ?lives, "certificate obtained");
                (wanted.due, wanted.failures) = (Instant::now() + lives, 0);
            }
            Err(error) => {
                tracing::error!(namespace, account = name, %error, "no certificate");
                wanted.due = Instant::now() + AGAIN * 2_u32.pow(wanted.failures.min(6));
                wanted.failures += 1;
            }
        }
    }

    fn clean(&self) -> io::Result<()> {
        if self.is_one {
            return if self.wanted.is_empty() { remove(&self.folder) } else { Ok(()) };
        }
        for namespace in folders(&self.folder)? {
            let of_it = self.folder.join(&namespace);
            for account in folders(&of_it)? {
                if !self.wanted.contains_key(&(namespace.clone(), account.clone())) {
                    remove(&of_it.join(account))?;
                }
            }
            if folders(&of_it)?.is_empty() {
                remove(&of_it)?;
            }
        }
        Ok(())
    }
}

/// How long until it has to be renewed.
async fn renewed(channel: &Channel, namespace: &str, pod: &str, folder: &Path) -> Result<Duration, Failure> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // The controller knows the name; whatever is asked for does not count.
    let request = CertificateParams::new(Vec::new())?.serialize_request(&key)?;
    let mut client = CertificatesClient::with_origin(channel.clone(), Channel::origin());
    let pod = Pod { namespace: namespace.to_owned(), name: pod.to_owned() };
    let asked = client.sign(SignRequest { pod: Some(pod), request: request.der().to_vec() });
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let answer = answer.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time")));
    let signed = answer.map_err(Box::new)?.into_inner();
    if signed.chain.is_empty() || signed.bundle.is_empty() {
        return Err(Failure::Empty);
    }
    store(folder, &key.serialize_pem(), &signed)?;
    // After two thirds of its life, by the controller's clock; by ours it may have begun already.
    let seconds = |from: i64, to: i64| Duration::from_secs(u64::try_from(to.saturating_sub(from)).unwrap_or_default());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = seconds(i64::try_from(now).unwrap_or(i64::MAX), signed.not_after);
    let whole = seconds(signed.not_before, signed.not_after);
    Ok(left.saturating_sub(whole / 3).max(AGAIN))
}

/// Swaps all three files at once.
fn store(folder: &Path, key: &str, signed: &SignResponse) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let held = fs::read_link(folder.join("..data")).ok();
    let other = if held.as_deref() == Some(Path::new("..1")) { "..2" } else { "..1" };
    let fresh = folder.join(other);
    remove(&fresh)?;
    fs::DirBuilder::new().mode(0o700).create(&fresh)?;
    write(&fresh.join("tls.key"), key, 0o600)?;
    write(&fresh.join("tls.crt"), &pem(&signed.chain), 0o600)?;
    write(&fresh.join("ca.crt"), &pem(&signed.bundle), 0o600)?;
    let link = |target: &str, name: &str| {
        let new = folder.join("..new");
        remove(&new)?;
        symlink(target, &new)?;
        fs::rename(&new, folder.join(name))
    };
    link(other, "..data")?;
    for name in ["ca.crt", "tls.crt", "tls.key"] {
        link(&format!("..data/{name}"), name)?;
    }
    if let Some(held) = held {
        remove(&folder.join(held))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    // A key that is lost is made anew, but half a file would be read.
    file.sync_all()
}

fn pem(certificates: &[Vec<u8>]) -> String {
    certificates.iter().map(|der| pem::encode(&pem::Pem::new("CERTIFICATE", der.as_slice()))).collect()
}

fn folders(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

/// Names are parts of a path here.
fn is_name(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    !text.is_empty() && text.len() <= 253 && !text.starts_with('.') && text.bytes().all(known)
}

/// After a failure; doubled with each, up to a minute.
const AGAIN: Duration = Duration::from_secs(1);

const PATIENCE: Duration = Duration::from_secs(10);
