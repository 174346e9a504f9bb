//! The pods that the node's container runtime has handed over, through the CNI plugin: kept in a file, so that they
//! survive this process. Nothing here enters a namespace.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use eastwall_policy::registry::Registry;
use serde::{Deserialize, Serialize};

use super::namespace;

/// The label of a namespace whose pods are left alone.
const INTERCEPTION: &str = "eastwall.dev/interception";

/// The annotation that the injector writes: the pod has a sidecar.
const INJECTED: &str = "eastwall.dev/injected";

/// A pod as the runtime tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HandedPod {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    /// Name.
    pub(crate) name: Arc<str>,
    /// The uid of its object, where the runtime tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<Arc<str>>,
    /// Path of its network namespace.
    pub(crate) netns: PathBuf,
    /// Device and inode that the path led to.
    pub(crate) identity: (u64, u64),
    /// The addresses that the plugins before have given it.
    pub(crate) ips: Vec<IpAddr>,
    /// Its namespace had the label when it was last known.
    pub(crate) exempt: bool,
}

/// All of them, by `namespace/name`.
#[derive(Debug, Default)]
pub(crate) struct Handed {
    pods: BTreeMap<Arc<str>, HandedPod>,
    file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    pods: Vec<HandedPod>,
}

/// Of [`Kept`].
const VERSION: u32 = 1;

// === impl HandedPod ===

impl HandedPod {
    /// `namespace/name`.
    pub(crate) fn full_name(&self) -> Arc<str> {
        format!("{}/{}", self.namespace, self.name).into()
    }

    /// Whether its path still leads to the namespace that was handed over.
    pub(crate) fn is_there(&self) -> bool {
        namespace::identity_of(&self.netns).is_ok_and(|identity| identity == self.identity)
    }
}

// === impl Handed ===

impl Handed {
    /// What the file holds, without those whose namespace is gone, or whose path leads elsewhere.
    pub(crate) fn load(file: &Path) -> io::Result<Self> {
        let mut handed = Self { pods: BTreeMap::new(), file: Some(file.to_owned()) };
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(handed),
            Err(error) => return Err(unusable(file, &error)),
        };
        let kept: Kept = serde_json::from_str(&text).map_err(|error| unusable(file, &error))?;
        if kept.version != VERSION {
            return Err(unusable(file, &format!("version {} is not {VERSION}", kept.version)));
        }
        for pod in kept.pods {
            let name = pod.full_name();
            if pod.is_there() {
                handed.pods.insert(name, pod);
            } else {
                tracing::info!(pod = %name, netns = %pod.netns.display(), "a pod that was handed over is gone");
            }
        }
        Ok(handed)
    }

    /// Writes the file whole, in place of the one before.
    pub(crate) fn save(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let text = serde_json::to_vec(&Kept { version: VERSION, pods: self.pods.values().cloned().collect() })?;
        let fresh = file.with_extension("new");
        // What a killed process left may have another mode.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        written.write_all(&text)?;
        written.sync_all()?;
        fs::rename(&fresh, file)?;
        File::open(folder)?.sync_all()
    }

    /// The pod of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&HandedPod> {
        self.pods.get(name)
    }

    /// All, in order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &HandedPod)> {
        self.pods.iter()
    }

    /// Who has this network namespace.
    pub(crate) fn owner_of(&self, identity: (u64, u64)) -> Option<&Arc<str>> {
        self.pods.iter().find(|(_, pod)| pod.identity == identity).map(|(name, _)| name)
    }

    /// Adds a pod, in place of the one of the same name.
    pub(crate) fn insert(&mut self, pod: HandedPod) {
        self.pods.insert(pod.full_name(), pod);
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, name: &str) -> Option<HandedPod> {
        self.pods.remove(name)
    }

    /// Forgets whose namespace is gone; whether anybody's was.
    pub(crate) fn drop_gone(&mut self) -> bool {
        let before = self.pods.len();
        self.pods.retain(|_, pod| pod.is_there());
        self.pods.len() != before
    }

    /// Adds those of the file that are not known yet: another process may have written it.
    pub(crate) fn read_again(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            let kept = Self::load(file)?;
            for (name, pod) in kept.pods {
                self.pods.entry(name).or_insert(pod);
            }
        }
        Ok(())
    }

    /// The pods of which the registry says something else than what was last known, and what.
    pub(crate) fn changed_exemptions(&self, registry: &Registry) -> Vec<(Arc<str>, bool)> {
        if self.pods.is_empty() {
            return Vec::new();
        }
        let known = exemptions(registry);
        let changed = |pod: &HandedPod| known.get(&*pod.namespace).copied().filter(|exempt| *exempt != pod.exempt);
        self.pods.iter().filter_map(|(name, pod)| Some((Arc::clone(name), changed(pod)?))).collect()
    }

    /// Remembers what [`Self::changed_exemptions`] said of one.
    pub(crate) fn set_exempt(&mut self, name: &str, exempt: bool) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.exempt = exempt;
        }
    }
}

/// Whether a pod says that it has a sidecar of its own. It may say so of itself: whoever believes it has closed it first.
pub(crate) fn has_sidecar(registry: &Registry, pod: &HandedPod) -> bool {
    let id = registry.find_workload(&pod.namespace, &pod.name);
    let workload = id.and_then(|id| registry.workload(id)).filter(|workload| workload.netns.is_none());
    workload.is_some_and(|workload| workload.annotations.contains_key(INJECTED))
}

/// Whether the pods of a namespace are left alone; `None`: the registry does not know the namespace.
pub(crate) fn exemption(registry: &Registry, namespace: &str) -> Option<bool> {
    exemptions(registry).get(namespace).copied()
}

/// By namespace. Where workloads of one namespace disagree on its labels, it is not exempt.
fn exemptions(registry: &Registry) -> BTreeMap<&str, bool> {
    let mut found = BTreeMap::new();
    for workload in &registry.workloads {
        let disabled = workload.namespace_labels.get(INTERCEPTION).is_some_and(|value| &**value == "disabled");
        *found.entry(&*workload.namespace).or_insert(true) &= disabled;
    }
    found
}

fn unusable(file: &Path, why: &impl ToString) -> io::Error {
    let why = why.to_string();
    let message = format!(
        "`{}` cannot be used: {why}; delete it, and the pods of this node that it named (they stay closed)",
        file.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn pod(name: &str, netns: &Path) -> HandedPod {
        HandedPod {
            namespace: "shop".into(),
            name: name.into(),
            uid: Some("1-2".into()),
            netns: netns.into(),
            identity: namespace::identity_of(netns).unwrap(),
            ips: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            exempt: false,
        }
    }

    #[test]
    fn the_file_keeps_who_is_there_and_drops_who_is_gone_or_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pods.json");
        let netns = ["stays", "goes", "changes"].map(|name| folder.path().join(name));
        netns.iter().for_each(|path| fs::write(path, "").unwrap());
        let mut handed = Handed::load(&file).unwrap();
        netns.iter().zip(["a", "b", "c"]).for_each(|(path, name)| handed.insert(pod(name, path)));
        handed.save().unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4, "nothing but the file is left behind");
        assert_eq!(Handed::load(&file).unwrap().iter().count(), 3);

        fs::remove_file(&netns[1]).unwrap();
        let fresh = folder.path().join("fresh");
        fs::write(&fresh, "").unwrap();
        fs::rename(&fresh, &netns[2]).unwrap();
        let loaded = Handed::load(&file).unwrap();
        assert_eq!(loaded.iter().map(|(_, pod)| pod.clone()).collect::<Vec<_>>(), [pod("a", &netns[0])]);
        assert!(handed.drop_gone() && !handed.drop_gone());
        assert_eq!(handed.iter().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pods.json");
        for text in ["", "{", r#"{"version":2,"pods":[]}"#, r#"{"version":1,"pods":[],"more":1}"#] {
            fs::write(&file, text).unwrap();
            let error = Handed::load(&file).unwrap_err().to_string();
            assert!(error.contains("pods.json") && error.contains("delete it"), "{text}: {error}");
        }
    }

    #[test]
    fn a_namespace_is_exempt_by_its_label_where_all_agree() {
        let text = "- {name: a, namespace: one, namespaceLabels: {eastwall.dev/interception: disabled}}\n\
                    - {name: b, namespace: one, namespaceLabels: {eastwall.dev/interception: disabled}}\n\
                    - {name: a, namespace: two, namespaceLabels: {eastwall.dev/interception: disabled}}\n\
                    - {name: b, namespace: two}\n\
                    - {name: a, namespace: three, labels: {eastwall.dev/interception: disabled}}\n\
                    - {name: a, namespace: four, namespaceLabels: {eastwall.dev/interception: enabled}}\n";
        let (registry, diagnostics) = Registry::parse("workloads.yaml", &text.into());
        assert!(diagnostics.iter().all(|diagnostic| !diagnostic.is_error()), "{diagnostics:?}");
        for (namespace, expected) in
            [("one", Some(true)), ("two", Some(false)), ("three", Some(false)), ("four", Some(false)), ("five", None)]
        {
            assert_eq!(exemption(&registry, namespace), expected, "{namespace}");
        }
    }
}
