//! The two containers. Every default of the API is written, so that what comes back from there is the same.

use serde_json::{Map, Value, json};

use crate::annotation::Chosen;
use crate::probe::Dialled;
use crate::settings::{Bypass, Resources, Settings};
use crate::volume;

/// Makes the rules, and ends.
pub(crate) const REDIRECT: &str = "eastwall-redirect";

/// The sidecar.
pub(crate) const PROXY: &str = "eastwall-proxy";

/// What both of one pod are made of.
pub(crate) struct Plan<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) chosen: &'a Chosen,
    pub(crate) dialled: &'a Dialled,
    /// The pod's AppArmor profile is for the application: a file of the node that says what that may do.
    pub(crate) has_own_apparmor: bool,
}

impl Plan<'_> {
    /// Root with one capability, over one network namespace, before anything else of the pod runs.
    pub(crate) fn redirect(&self) -> Value {
        let Settings { uid, inbound_port, outbound_port, admin_port, family, bypass, .. } = self.settings;
        let mut words =
            vec!["eastwall".to_owned(), "redirect".to_owned(), "apply".to_owned(), "--mode=sidecar".to_owned()];
        words.push(format!("--uid={uid}"));
        words.push(format!("--inbound-port={inbound_port}"));
        words.push(format!("--outbound-port={outbound_port}"));
        words.push(format!("--family={}", family.word()));
        let mut inbound = vec![admin_port.to_string()];
        inbound.extend(bypass.inbound_ports.iter().cloned());
        words.push(format!("--bypass-inbound-ports={}", inbound.join(",")));
        let Bypass { inbound_cidrs, outbound_ports, outbound_cidrs, .. } = bypass;
        for (flag, values) in [
            ("--bypass-inbound-cidrs", inbound_cidrs),
            ("--bypass-outbound-ports", outbound_ports),
            ("--bypass-outbound-cidrs", outbound_cidrs),
        ] {
            if !values.is_empty() {
                words.push(format!("{flag}={}", values.join(",")));
            }
        }
        words.push("--allow-resolvers=/etc/resolv.conf".to_owned());
        let mut context = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        self.confine(&mut context);
        json!({
            "name": REDIRECT,
            "image": self.chosen.image,
            "imagePullPolicy": self.settings.image_pull_policy.word(),
            "command": words,
            "resources": {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m", "memory": "16Mi"}},
            "securityContext": context,
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "FallbackToLogsOnError",
        })
    }

    /// The kubelet starts it before and ends it after the containers of the application: it needs no hook for that, and one
    /// would run at the beginning of the end.
    pub(crate) fn proxy(&self) -> Value {
        let Settings { uid, admin_port, .. } = self.settings;
        let mut context = json!({
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": uid,
            "runAsNonRoot": true,
            "runAsUser": uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        self.confine(&mut context);
        let probe = |path: &str, period: u32, failures: u32| {
            json!({
                "httpGet": {"path": path, "port": admin_port, "scheme": "HTTP"},
                "timeoutSeconds": 2,
                "periodSeconds": period,
                "successThreshold": 1,
                "failureThreshold": failures,
            })
        };
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
        json!({
            "name": PROXY,
            "image": self.chosen.image,
            "imagePullPolicy": self.settings.image_pull_policy.word(),
            "restartPolicy": "Always",
            "command": self.command(),
            "env": [
                field("POD_NAME", "metadata.name"),
                field("POD_NAMESPACE", "metadata.namespace"),
                field("POD_IPS", "status.podIPs"),
                field("NODE_NAME", "spec.nodeName"),
                {"name": "EASTWALL_LOG", "value": self.chosen.log.level},
            ],
            "ports": [{"name": "eastwall-admin", "containerPort": admin_port, "protocol": "TCP"}],
            "resources": resources(&self.chosen.resources),
            // Until there is a table nothing would pass, so the application does not start yet.
            "startupProbe": probe("/readyz", 1, 120),
            "readinessProbe": probe("/readyz", 5, 3),
            "livenessProbe": probe("/healthz", 10, 3),
            "securityContext": context,
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": volume::STATE, "mountPath": volume::STATE_FOLDER},
                {"name": volume::TOKEN, "mountPath": volume::TOKEN_FOLDER, "readOnly": true},
                {"name": volume::CA, "mountPath": volume::CA_FOLDER, "readOnly": true},
            ],
        })
    }

    fn command(&self) -> Vec<String> {
        let Settings { inbound_port, outbound_port, admin_port, family, controller, workers, drain_seconds, .. } =
            self.settings;
        let Chosen { log, .. } = self.chosen;
        let mut words = vec!["eastwall".to_owned(), "proxy".to_owned(), "--mode=sidecar".to_owned()];
        words.push(format!("--controller={controller}"));
        words.push(format!("--controller-ca={}/ca.crt", volume::CA_FOLDER));
        words.push(format!("--controller-token={}/token", volume::TOKEN_FOLDER));
        words.push(format!("--controller-state={}/state", volume::STATE_FOLDER));
        words.push(format!("--inbound-port={inbound_port}"));
        words.push(format!("--outbound-port={outbound_port}"));
        words.push(format!("--family={}", family.word()));
        // The unspecified address of IPv6 takes both versions.
        words.push(format!("--admin=[::]:{admin_port}"));
        words.push(format!("--admin-socket={}/admin/admin.sock", volume::STATE_FOLDER));
        words.push(format!("--workers={workers}"));
        words.push(format!("--drain={drain_seconds}s"));
        words.push(format!("--log-allowed={}", log.allowed));
        if !self.dialled.ports.is_empty() {
            let ports: Vec<String> = self.dialled.ports.iter().map(u16::to_string).collect();
            words.push(format!("--probe-ports={}", ports.join(",")));
            words.push(format!("--probe-timeout={}s", self.dialled.seconds.max(1)));
        }
        words
    }

    fn confine(&self, context: &mut Value) {
        if let Value::Object(context) = context
            && self.has_own_apparmor
        {
            context.insert("appArmorProfile".to_owned(), json!({"type": "RuntimeDefault"}));
        }
    }
}

fn resources(resources: &Resources) -> Value {
    let Resources { cpu, memory, cpu_limit, memory_limit } = resources;
    let limits = [("cpu", cpu_limit), ("memory", memory_limit)];
    let limits: Map<String, Value> =
        limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit.clone()?.into()))).collect();
    let mut written = Map::new();
    if !limits.is_empty() {
        written.insert("limits".to_owned(), limits.into());
    }
    written.insert("requests".to_owned(), json!({"cpu": cpu, "memory": memory}));
    written.into()
}
