//! What the runtime says in environment variables.

use std::collections::BTreeMap;
use std::path::Path;

use crate::failure::Failure;

/// The variables, as they are: which of them a command needs is its own matter.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// CNI_COMMAND.
    pub(crate) command: String,
    container: Option<String>,
    netns: Option<String>,
    interface: Option<String>,
    arguments: Option<String>,
}

/// A pod of Kubernetes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PodName {
    /// Namespace.
    pub(crate) namespace: String,
    /// Name.
    pub(crate) name: String,
    /// The uid of its object.
    pub(crate) uid: Option<String>,
}

impl Environment {
    /// Reads them; an empty one is none.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        Self {
            command: given("CNI_COMMAND").unwrap_or_default(),
            container: given("CNI_CONTAINERID"),
            netns: given("CNI_NETNS").map(|path| resolved(&path)),
            interface: given("CNI_IFNAME"),
            arguments: given("CNI_ARGS"),
        }
    }

    /// What every command about a pod has.
    pub(crate) fn check_attachment(&self) -> Result<(), Failure> {
        needed("CNI_CONTAINERID", self.container.as_deref())?;
        needed("CNI_IFNAME", self.interface.as_deref()).map(drop)
    }

    /// The path of the pod's network namespace.
    pub(crate) fn netns(&self) -> Result<&str, Failure> {
        needed("CNI_NETNS", self.netns.as_deref())
    }

    /// The same, where the runtime still has it.
    pub(crate) fn netns_left(&self) -> Option<&str> {
        self.netns.as_deref()
    }

    /// The pod that CNI_ARGS name. Without a name there is no policy.
    pub(crate) fn pod(&self) -> Result<PodName, Failure> {
        let mut found = BTreeMap::new();
        for pair in self.arguments.as_deref().unwrap_or_default().split(';').filter(|pair| !pair.is_empty()) {
            let wrong = |why| Failure::environment(format!("CNI_ARGS: `{pair}` {why}"));
            let (name, value) = pair.split_once('=').ok_or_else(|| wrong("is not `NAME=VALUE`"))?;
            if found.insert(name, value).is_some() {
                return Err(wrong("is there twice"));
            }
        }
        let mut take = |name| found.remove(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let mut required =
            |name| take(name).ok_or_else(|| Failure::environment(format!("CNI_ARGS lacks {name}: which pod is this?")));
        Ok(PodName { namespace: required(NAMESPACE)?, name: required(NAME)?, uid: take(UID) })
    }
}

fn needed<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Failure> {
    value.ok_or_else(|| Failure::environment(format!("{name} is not set")))
}

const NAMESPACE: &str = "K8S_POD_NAMESPACE";
const NAME: &str = "K8S_POD_NAME";
const UID: &str = "K8S_POD_UID";

/// As the proxy of a node finds it: runtimes say `/var/run/netns`, a link to `/run/netns` that a container need not have. The
/// namespace itself may be gone already.
fn resolved(path: &str) -> String {
    let real = Path::new(path).parent().zip(Path::new(path).file_name());
    let real = real.and_then(|(folder, name)| Some(folder.canonicalize().ok()?.join(name).to_str()?.to_owned()));
    real.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(arguments: &str) -> Result<PodName, Failure> {
        Environment::of(|name| (name == "CNI_ARGS").then(|| arguments.to_owned())).pod()
    }

    #[test]
    fn the_pod_is_named_by_the_arguments() {
        let named =
            pod("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=u")
                .unwrap();
        let expected = PodName { namespace: "shop".into(), name: "web-1".into(), uid: Some("u".into()) };
        assert_eq!(named, expected);
        assert_eq!(pod("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;").unwrap().uid, None);
        for (arguments, word) in [
            ("", "K8S_POD_NAMESPACE"),
            ("K8S_POD_NAMESPACE=shop", "K8S_POD_NAME"),
            ("K8S_POD_NAMESPACE=;K8S_POD_NAME=a", "K8S_POD_NAMESPACE"),
            ("K8S_POD_NAMESPACE=a;K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system", "twice"),
            ("K8S_POD_NAMESPACE", "NAME=VALUE"),
        ] {
            let failure = pod(arguments).unwrap_err();
            assert_eq!(failure.code(), 4);
            assert!(failure.details().contains(word), "{arguments}: {failure:?}");
        }
    }

    #[test]
    fn what_is_empty_is_not_set() {
        let environment = Environment::of(|name| (name != "CNI_CONTAINERID").then(String::new));
        assert!(environment.netns().is_err() && environment.netns_left().is_none());
        assert!(environment.check_attachment().unwrap_err().details().contains("CNI_CONTAINERID"));
    }

    #[test]
    fn links_on_the_way_to_a_namespace_are_followed() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("run");
        std::fs::create_dir(&real).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(resolved(link.join("x").to_str().unwrap()), real.join("x").to_str().unwrap());
        assert_eq!(resolved("/nowhere/x"), "/nowhere/x");
    }
}
