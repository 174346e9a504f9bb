//! What about a pod would let its traffic past the proxy, or break it: everything that is found, not the first alone.

use serde_json::{Map, Value};

use crate::container::{PROXY, REDIRECT};
use crate::field::Fields;
use crate::path::FieldPath;
use crate::refusal::{Reason, Refusal};
use crate::settings::Settings;
use crate::volume;

/// Annotation of a pod: keep what gets past the proxy.
pub(crate) const ALLOW_CAPABILITIES: &str = "eastwall.dev/allow-capabilities";

/// Whose rules of the kernel's network can be changed, or passed by.
const CAPABILITIES: [&str; 6] = ["ALL", "BPF", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_MODULE"];

/// Everything that stands against a sidecar in this pod.
pub(crate) fn examine(metadata: Option<Fields<'_>>, spec: Fields<'_>, settings: &Settings) -> Vec<Refusal> {
    let mut found = Vec::new();
    if let Err(refusal) = pod(spec, &mut found) {
        found.push(refusal);
    }
    let allowed = match is_allowed(metadata, settings) {
        Ok(allowed) => allowed,
        Err(refusal) => {
            found.push(refusal);
            return found;
        }
    };
    for (list, is_ours) in [("containers", false), ("initContainers", true), ("ephemeralContainers", false)] {
        let containers = match spec.list(list) {
            Ok(containers) => containers,
            Err(refusal) => {
                found.push(refusal);
                continue;
            }
        };
        for (index, container) in containers.iter().enumerate() {
            let path = spec.at(list).index(index);
            let asked = Asked { spec, settings, is_ours, allowed };
            if let Err(refusal) = asked.container(container, &path, &mut found) {
                found.push(refusal);
            }
        }
    }
    found
}

fn pod(spec: Fields<'_>, found: &mut Vec<Refusal>) -> Result<(), Refusal> {
    let mut refuse = |path, reason| found.push(Refusal { path, reason });
    if spec.flag("hostNetwork")? {
        refuse(spec.at("hostNetwork"), Reason::HostNetwork);
    }
    let os = spec.mapping("os")?.and_then(|os| os.get("name"));
    if os.is_some_and(|name| name != "linux") {
        refuse(spec.at("os").key("name"), Reason::Windows);
    }
    for label in ["kubernetes.io/os", "beta.kubernetes.io/os"] {
        if spec.mapping("nodeSelector")?.and_then(|labels| labels.get(label)).is_some_and(|name| name != "linux") {
            refuse(spec.at("nodeSelector").key(label), Reason::Windows);
        }
    }
    Ok(())
}

fn is_allowed(metadata: Option<Fields<'_>>, settings: &Settings) -> Result<bool, Refusal> {
    let Some(metadata) = metadata else { return Ok(false) };
    let annotations = metadata.mapping("annotations")?;
    let path = metadata.at("annotations").key(ALLOW_CAPABILITIES);
    match annotations.and_then(|annotations| annotations.get(ALLOW_CAPABILITIES)) {
        None => Ok(false),
        Some(Value::String(word)) if word == "false" => Ok(false),
        Some(Value::String(word)) if word == "true" && settings.allow_capabilities_annotation => Ok(true),
        Some(Value::String(word)) if word == "true" => Err(Refusal { path, reason: Reason::ForbiddenAnnotation }),
        Some(other) => {
            let found = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
            Err(Refusal { path, reason: Reason::UnknownWord { expected: "`true` or `false`", found } })
        }
    }
}

/// What is asked of each container.
struct Asked<'a> {
    spec: Fields<'a>,
    settings: &'a Settings,
    /// The sidecar's own containers are in this list, and are made anew.
    is_ours: bool,
    allowed: bool,
}

impl Asked<'_> {
    fn container(&self, container: &Value, path: &FieldPath, found: &mut Vec<Refusal>) -> Result<(), Refusal> {
        let fields = Fields::new(container, path)?;
        let name = fields.text("name")?.unwrap_or_default();
        if [REDIRECT, PROXY].contains(&name) {
            if !self.is_ours {
                found.push(Refusal { path: fields.at("name"), reason: Reason::NameTaken(name.to_owned()) });
            }
            return Ok(());
        }
        self.ports(fields, found)?;
        mounts(fields, name, found)?;
        if self.allowed { Ok(()) } else { self.privileges(fields, name, found) }
    }

    fn ports(&self, container: Fields<'_>, found: &mut Vec<Refusal>) -> Result<(), Refusal> {
        let Settings { inbound_port, outbound_port, admin_port, .. } = self.settings;
        for (index, port) in container.list("ports")?.iter().enumerate() {
            let path = container.at("ports").index(index);
            let port = Fields::new(port, &path)?;
            if let Some(number) = port.number::<u16>("containerPort", "a port")?
                && [inbound_port, outbound_port, admin_port].contains(&&number)
            {
                found.push(Refusal { path: port.at("containerPort"), reason: Reason::PortTaken(number) });
            }
        }
        Ok(())
    }

    fn privileges(&self, container: Fields<'_>, name: &str, found: &mut Vec<Refusal>) -> Result<(), Refusal> {
        let named = || name.to_owned();
        let path = container.at("securityContext");
        let nothing = Value::Object(Map::new());
        let context = Fields::new(container.value("securityContext").unwrap_or(&nothing), &path)?;
        if context.flag("privileged")? {
            found.push(Refusal { path: context.at("privileged"), reason: Reason::Privileged { container: named() } });
        }
        let of_pod_path = self.spec.at("securityContext");
        let of_pod = Fields::new(self.spec.value("securityContext").unwrap_or(&nothing), &of_pod_path)?;
        let uid =
            |of: Fields<'_>| of.number::<u32>("runAsUser", "a uid").map(|uid| uid.map(|uid| (of.at("runAsUser"), uid)));
        if let Some((path, uid)) = uid(context)?.map_or_else(|| uid(of_pod), |own| Ok(Some(own)))?
            && uid == self.settings.uid
        {
            found.push(Refusal { path, reason: Reason::ProxyUid { container: named(), uid } });
        }
        let path = context.at("capabilities");
        let capabilities = Fields::new(context.value("capabilities").unwrap_or(&nothing), &path)?;
        let shares_processes = self.spec.flag("shareProcessNamespace")? || self.spec.flag("hostPID")?;
        for (index, added) in capabilities.list("add")?.iter().enumerate() {
            let path = capabilities.at("add").index(index);
            let Some(added) = added.as_str() else {
                return Err(Refusal {
                    path,
                    reason: Reason::Unreadable { expected: "text", found: added.to_string() },
                });
            };
            let upper = added.to_ascii_uppercase();
            let capability = upper.strip_prefix("CAP_").unwrap_or(&upper);
            // Reading the proxy's memory needs its process to be seen.
            if CAPABILITIES.contains(&capability) || (capability == "SYS_PTRACE" && shares_processes) {
                let reason = Reason::Capability { container: named(), capability: capability.to_owned() };
                found.push(Refusal { path, reason });
            }
        }
        Ok(())
    }
}

/// The proxy's token and certificate are nobody else's.
fn mounts(container: Fields<'_>, name: &str, found: &mut Vec<Refusal>) -> Result<(), Refusal> {
    for (index, mount) in container.list("volumeMounts")?.iter().enumerate() {
        let path = container.at("volumeMounts").index(index);
        let mount = Fields::new(mount, &path)?;
        if let Some(volume) = mount.text("name")?.filter(|volume| volume::NAMES.contains(volume)) {
            let reason = Reason::VolumeShared { container: name.to_owned(), volume: volume.to_owned() };
            found.push(Refusal { path: mount.at("name"), reason });
        }
    }
    Ok(())
}
