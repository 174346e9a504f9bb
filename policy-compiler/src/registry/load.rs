//! The workloads file: a YAML list of workloads, Services and nodes.
//!
//! ```yaml
//! - {name: web-1, namespace: shop, serviceAccount: web, labels: {app: web}, node: n1, ips: [10.0.0.3]}
//! - name: orders-1
//!   namespace: shop
//!   ips: [10.0.0.2, "fd00::2"]
//!   ports: [{name: http, port: 8080}, {name: metrics, port: 9090, appProtocol: http}]
//!   probes: [{port: 8080, path: /healthz}]
//! - {kind: Service, name: orders, namespace: shop, ips: [10.96.0.7], ports: [{port: 80, targetPort: http}], endpoints: [shop/orders-1]}
//! - {kind: Node, name: n1, ips: [192.168.1.10]}
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use super::{
    ApplicationProtocol, DeclaredPort, Labels, Node as ClusterNode, Probe, Registry, Service, ServicePort, TargetPort,
    Workload, WorkloadId,
};
use crate::diagnostic::{Code, Diagnostic};
use crate::facts::Transport;
use crate::pace;
use crate::source::fields::{boolean, integer, list, text, texts, word};
use crate::source::{Bounds, Fields, Findings, Node, Span, Value};

impl Registry {
    /// Reads a workloads file. Where a diagnostic is an error the registry lacks the entry that it is about: a caller
    /// that enforces keeps its old registry then.
    #[must_use]
    pub fn parse(file: &str, text: &Arc<str>) -> (Self, Vec<Diagnostic>) {
        Self::parse_within(file, text, &Bounds::default())
    }

    /// The same as [`Registry::parse`] within bounds of one's own.
    #[must_use]
    pub fn parse_within(file: &str, text: &Arc<str>, bounds: &Bounds) -> (Self, Vec<Diagnostic>) {
        let (trees, mut diagnostics) = crate::source::trees(file, text, bounds);
        let mut findings = Findings::new(file.into(), Arc::clone(text));
        let mut entries = Vec::new();
        for tree in &trees {
            match &tree.value {
                Value::List(items) => entries.extend(items),
                Value::Null => {}
                _ => findings.report_with(
                    Code::WrongType,
                    tree.span,
                    format!("a workloads file is a list, found {}", tree.describe()),
                    "begin each workload with `- name: …`",
                ),
            }
        }
        pace::step();
        let registry = entries_of(&entries, &mut findings);
        pace::step();
        diagnostics.extend(findings.into_diagnostics());
        (registry, diagnostics)
    }

    /// Reads a workloads file from the disk (`-`: standard input). See [`Registry::parse`].
    #[must_use]
    pub fn read(path: &std::path::Path) -> (Self, Vec<Diagnostic>) {
        Self::read_within(path, &Bounds::default())
    }

    /// The same as [`Registry::read`] within bounds of one's own.
    #[must_use]
    pub fn read_within(path: &std::path::Path, bounds: &Bounds) -> (Self, Vec<Diagnostic>) {
        match crate::source::text_of(path, bounds) {
            Ok((name, text)) => Self::parse_within(&name, &text, bounds),
            Err(diagnostic) => (Self::default(), vec![*diagnostic]),
        }
    }
}

/// The registry that a list of entries describes.
pub(crate) fn entries_of(entries: &[&Node], findings: &mut Findings) -> Registry {
    let mut reader =
        Reader { findings, workloads: Vec::new(), services: Vec::new(), nodes: Vec::new(), seen: Seen::default() };
    for entry in entries {
        reader.entry(entry);
    }
    reader.finish()
}

type Seen<'n> = hashbrown::HashMap<(Kind, &'n str, &'n str), Span, foldhash::fast::RandomState>;

/// Endpoints as they are written.
type Endpoints<'n> = Vec<(&'n str, Span)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Workload,
    Service,
    Node,
}

struct Reader<'n, 'f> {
    findings: &'f mut Findings,
    workloads: Vec<(Workload, Span, Option<Span>)>,
    services: Vec<(Service, Endpoints<'n>)>,
    nodes: Vec<ClusterNode>,
    seen: Seen<'n>,
}

impl<'n> Reader<'n, '_> {
    fn entry(&mut self, node: &'n Node) {
        let Some(mut fields) = Fields::of(node, "an entry of the workloads file", self.findings) else { return };
        let kind = match fields.optional("kind", self.findings) {
            None if fields.has("kind") => return,
            None => Some(Kind::Workload),
            Some(node) => word(
                node,
                "`kind`",
                &[("Workload", Kind::Workload), ("Service", Kind::Service), ("Node", Kind::Node)],
                self.findings,
            ),
        };
        match kind {
            Some(Kind::Workload) => self.workload(fields),
            Some(Kind::Service) => self.service(fields),
            Some(Kind::Node) => self.node(fields),
            None => {}
        }
    }

    fn workload(&mut self, mut fields: Fields<'n>) {
        let span = fields.span();
        let name = self.required_text(&mut fields, "name");
        let namespace = self.required_text(&mut fields, "namespace");
        let service_account = self.optional_text(&mut fields, "serviceAccount");
        let labels = self.labels(&mut fields, "labels");
        let mut namespace_labels = self.labels(&mut fields, "namespaceLabels");
        let annotations = self.labels(&mut fields, "annotations");
        let namespace_annotations = self.labels(&mut fields, "namespaceAnnotations");
        let node = fields.optional("node", self.findings);
        let node_span = node.map(|node| node.span);
        let node = node.and_then(|node| text(node, "`node`", self.findings));
        let host_network = match fields.optional("hostNetwork", self.findings) {
            Some(node) => boolean(node, "`hostNetwork`", self.findings).unwrap_or(false),
            None => false,
        };
        let netns = self.optional_text(&mut fields, "netns");
        let ips = self.addresses(&mut fields);
        let ports = self.items(&mut fields, "ports", Self::declared_port);
        let probes = self.items(&mut fields, "probes", Self::probe);
        fields.finish(self.findings);
        let (Some((name, name_span)), Some((namespace, _))) = (name, namespace) else { return };
        if !self.is_first(Kind::Workload, namespace, name, name_span) {
            return;
        }
        // A team can label its namespace, it cannot rename it.
        namespace_labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
        let workload = Workload {
            name: name.into(),
            namespace: namespace.into(),
            service_account: service_account.unwrap_or("default").into(),
            labels,
            namespace_labels,
            annotations,
            namespace_annotations,
            node: node.map(Into::into),
            host_network,
            netns: netns.map(Into::into),
            ips,
            ports,
            probes,
        };
        self.workloads.push((workload, span, node_span));
    }

    fn service(&mut self, mut fields: Fields<'n>) {
        let name = self.required_text(&mut fields, "name");
        let namespace = self.required_text(&mut fields, "namespace");
        let ips = self.addresses(&mut fields);
        let ports = self.items(&mut fields, "ports", Self::service_port);
        let endpoints = match fields.optional("endpoints", self.findings) {
            // A Service without a ready endpoint is a fact, not a mistake.
            Some(Node { value: Value::List(items), .. }) if items.is_empty() => Vec::new(),
            Some(node) => texts(node, "`endpoints`", self.findings).unwrap_or_default(),
            None => Vec::new(),
        };
        fields.finish(self.findings);
        let (Some((name, name_span)), Some((namespace, _))) = (name, namespace) else { return };
        if self.is_first(Kind::Service, namespace, name, name_span) {
            let service = Service {
                name: name.into(),
                namespace: namespace.into(),
                ips,
                ports,
                endpoints: Vec::new(),
                elsewhere: Vec::new(),
            };
            self.services.push((service, endpoints));
        }
    }

    fn node(&mut self, mut fields: Fields<'n>) {
        let name = self.required_text(&mut fields, "name");
        let ips = self.addresses(&mut fields);
        fields.accept(&["labels", "annotations"]);
        fields.finish(self.findings);
        let Some((name, name_span)) = name else { return };
        if self.is_first(Kind::Node, "", name, name_span) {
            self.nodes.push(ClusterNode { name: name.into(), ips });
        }
    }

    fn is_first(&mut self, kind: Kind, namespace: &'n str, name: &'n str, span: Span) -> bool {
        match self.seen.insert((kind, namespace, name), span) {
            None => true,
            Some(first) => {
                let first = self.findings.location(first);
                let full = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
                let message = format!("a second {} `{full}`", format!("{kind:?}").to_lowercase());
                self.findings.report_with(
                    Code::DuplicateWorkload,
                    span,
                    message,
                    format!("the first one stands at {first}"),
                );
                false
            }
        }
    }

    fn required_text(&mut self, fields: &mut Fields<'n>, name: &'static str) -> Option<(&'n str, Span)> {
        let node = fields.required(name, self.findings)?;
        Some((text(node, &format!("`{name}`"), self.findings)?, node.span))
    }

    fn optional_text(&mut self, fields: &mut Fields<'n>, name: &'static str) -> Option<&'n str> {
        let node = fields.optional(name, self.findings)?;
        text(node, &format!("`{name}`"), self.findings)
    }

    fn labels(&mut self, fields: &mut Fields<'n>, name: &'static str) -> Labels {
        let Some(node) = fields.optional(name, self.findings) else { return Labels::new() };
        let Value::Map(entries) = &node.value else {
            self.findings.report(
                Code::WrongType,
                node.span,
                format!("`{name}` is a mapping, found {}", node.describe()),
            );
            return Labels::new();
        };
        let mut labels = Labels::new();
        for (key, node) in entries {
            // An empty label value is a value.
            let value = match &node.value {
                Value::Text(value) => Some(&**value),
                _ => text(node, &format!("the value of `{}`", key.text), self.findings),
            };
            if let Some(value) = value {
                // Cilium shows a label with its source. No label of Kubernetes has a colon.
                let key = ["k8s:", "any:"].iter().find_map(|source| key.text.strip_prefix(source)).unwrap_or(&key.text);
                labels.insert(Arc::from(key), value.into());
            }
        }
        labels
    }

    fn addresses(&mut self, fields: &mut Fields<'n>) -> Vec<IpAddr> {
        let items = match fields.optional("ips", self.findings) {
            Some(Node { value: Value::List(items), .. }) => items.as_slice(),
            Some(node) => list(node, "`ips`", self.findings).unwrap_or_default(),
            None => &[],
        };
        let mut addresses = Vec::new();
        for item in items {
            let Some(written) = text(item, "an address", self.findings) else { continue };
            match written.parse::<IpAddr>() {
                Ok(address) => addresses.push(address.to_canonical()),
                Err(_) => {
                    let help = "write one address such as `10.0.0.2` or `\"fd00::2\"`, without prefix length or port";
                    self.findings.report_with(
                        Code::BadAddress,
                        item.span,
                        format!("`{written}` is no IP address"),
                        help,
                    );
                }
            }
        }
        addresses
    }

    fn items<T>(
        &mut self,
        fields: &mut Fields<'n>,
        name: &'static str,
        read: impl Fn(&mut Self, Fields<'n>) -> Option<T>,
    ) -> Vec<T> {
        let items = match fields.optional(name, self.findings) {
            Some(Node { value: Value::List(items), .. }) => items.as_slice(),
            Some(node) => list(node, &format!("`{name}`"), self.findings).unwrap_or_default(),
            None => &[],
        };
        items
            .iter()
            .filter_map(|item| {
                let fields = Fields::of(item, &format!("an item of `{name}`"), self.findings)?;
                read(self, fields)
            })
            .collect()
    }

    fn port_number(&mut self, fields: &mut Fields<'n>) -> Option<u16> {
        let node = fields.required("port", self.findings)?;
        let number = integer(node, "`port`", 1..=65535, self.findings)?;
        u16::try_from(number).ok()
    }

    fn transport(&mut self, fields: &mut Fields<'n>) -> Option<Transport> {
        let Some(node) = fields.optional("protocol", self.findings) else { return Some(Transport::Tcp) };
        let words = [("TCP", Transport::Tcp), ("UDP", Transport::Udp), ("SCTP", Transport::Sctp)];
        word(node, "`protocol`", &words, self.findings)
    }

    fn declared_port(&mut self, mut fields: Fields<'n>) -> Option<DeclaredPort> {
        let port = self.port_number(&mut fields);
        let name = self.optional_text(&mut fields, "name");
        let transport = self.transport(&mut fields);
        let declared = self.optional_text(&mut fields, "appProtocol");
        fields.finish(self.findings);
        let transport = transport?;
        let application = match declared {
            Some(declared) => application_protocol(declared),
            None if transport == Transport::Tcp => name.and_then(|name| application_protocol(name.split('-').next()?)),
            None => None,
        };
        Some(DeclaredPort { name: name.map(Into::into), port: port?, transport, application })
    }

    fn probe(&mut self, mut fields: Fields<'n>) -> Option<Probe> {
        let port = self.port_number(&mut fields);
        let path = self.optional_text(&mut fields, "path");
        let method = self.optional_text(&mut fields, "method").unwrap_or("GET");
        fields.finish(self.findings);
        Some(Probe { port: port?, path: path.map(Into::into), method: method.into() })
    }

    fn service_port(&mut self, mut fields: Fields<'n>) -> Option<ServicePort> {
        let port = self.port_number(&mut fields);
        let name = self.optional_text(&mut fields, "name");
        let target = fields.optional("targetPort", self.findings);
        let target = match target {
            None => Some(None),
            Some(Node { value: Value::Text(name), .. }) if !name.is_empty() => {
                Some(Some(TargetPort::Name(Arc::from(&**name))))
            }
            Some(node) => integer(node, "`targetPort`", 1..=65535, self.findings)
                .and_then(|number| u16::try_from(number).ok())
                .map(|number| Some(TargetPort::Number(number))),
        };
        let transport = self.transport(&mut fields);
        fields.accept(&["appProtocol", "nodePort"]);
        fields.finish(self.findings);
        let port = port?;
        Some(ServicePort {
            name: name.map(Into::into),
            port,
            target: target?.unwrap_or(TargetPort::Number(port)),
            transport: transport?,
        })
    }

    fn finish(mut self) -> Registry {
        self.check_nodes();
        let index: hashbrown::HashMap<(Arc<str>, Arc<str>), WorkloadId, foldhash::fast::RandomState> = (0u32..)
            .zip(&self.workloads)
            .map(|(index, (w, ..))| ((Arc::clone(&w.namespace), Arc::clone(&w.name)), WorkloadId(index)))
            .collect();
        let mut services = Vec::new();
        for (mut service, endpoints) in std::mem::take(&mut self.services) {
            for (written, span) in endpoints {
                if let Ok(address) = written.parse::<IpAddr>() {
                    service.elsewhere.push(address.to_canonical());
                    continue;
                }
                let (namespace, name) = written.split_once('/').unwrap_or((&service.namespace, written));
                match index.get(&(Arc::from(namespace), Arc::from(name))) {
                    Some(id) if !service.endpoints.contains(id) => service.endpoints.push(*id),
                    Some(_) => {}
                    None => self.findings.report_with(
                        Code::DanglingEndpoint,
                        span,
                        format!("no workload `{namespace}/{name}` stands in this file"),
                        "endpoints are written `namespace/name` of a workload, or an address that is nobody's",
                    ),
                }
            }
            services.push(service);
        }
        let workloads: Vec<_> = self.workloads.iter().map(|(workload, ..)| workload.clone()).collect();
        let nodes = std::mem::take(&mut self.nodes);
        let registry = Registry::new(workloads, services, nodes);
        for (workload, span, _) in &self.workloads {
            pace::tick();
            for ip in workload.ips.iter().filter(|ip| !workload.host_network && registry.is_contested(**ip)) {
                let message = format!("`{ip}` belongs to another entry too");
                let help = "an address with two owners is nobody's: no allow rule matches it";
                self.findings.report_with(Code::ContestedAddress, *span, message, help);
            }
        }
        registry
    }

    fn check_nodes(&mut self) {
        if self.nodes.is_empty() {
            return;
        }
        let unknown: Vec<_> = self
            .workloads
            .iter()
            .filter_map(|(workload, _, span)| Some((workload.node.clone()?, (*span)?)))
            .filter(|(name, _)| !self.nodes.iter().any(|node| node.name == *name))
            .collect();
        for (name, span) in unknown {
            self.findings.report(
                Code::UnknownNode,
                span,
                format!("no entry `{{kind: Node, name: {name}}}` stands in this file"),
            );
        }
    }
}

/// What an `appProtocol`, or the first part of a port's name, says that the port speaks.
pub(super) fn application_protocol(word: &str) -> Option<ApplicationProtocol> {
    match word {
        "http" | "http1" | "HTTP" | "kubernetes.io/ws" => Some(ApplicationProtocol::Http),
        "http2" | "h2c" | "HTTP2" | "kubernetes.io/h2c" => Some(ApplicationProtocol::Http2),
        "grpc" | "GRPC" => Some(ApplicationProtocol::Grpc),
        "https" | "tls" | "HTTPS" | "TLS" | "kubernetes.io/wss" => Some(ApplicationProtocol::Tls),
        "tcp" | "TCP" | "mongo" | "mysql" | "redis" | "postgres" => Some(ApplicationProtocol::Tcp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ApplicationProtocol, Registry, TargetPort};
    use crate::diagnostic::Code;
    use crate::facts::Place;
    use crate::settings::Settings;

    const FILE: &str = r#"
- {name: web-1, namespace: shop, serviceAccount: web, labels: {app: web, empty: ""}, node: n1, ips: [10.0.0.3]}
- name: orders-1
  namespace: shop
  namespaceLabels: {kubernetes.io/metadata.name: lie, team: a}
  ips: [10.0.0.2, "fd00::2", "::ffff:10.0.0.9"]
  ports: [{name: http-main, port: 8080}, {name: metrics, port: 9090, appProtocol: http}, {name: dns, port: 53, protocol: UDP}, {port: 5432}]
  probes: [{port: 8080, path: /healthz}, {port: 5432}]
- {kind: Service, name: orders, namespace: shop, ips: [10.96.0.7], ports: [{port: 80, targetPort: http-main}, {port: 90}], endpoints: [shop/orders-1]}
- {kind: Node, name: n1, ips: [192.168.1.10]}
"#;

    #[test]
    fn a_workloads_file() {
        let (registry, diagnostics) = Registry::parse("w.yaml", &FILE.into());
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let id = registry.find_workload("shop", "orders-1").unwrap();
        let orders = registry.workload(id).unwrap();
        assert_eq!(&*orders.service_account, "default");
        assert_eq!(&*orders.namespace_labels["kubernetes.io/metadata.name"], "shop");
        let applications: Vec<_> = orders.ports.iter().map(|port| port.application).collect();
        assert_eq!(applications, [Some(ApplicationProtocol::Http), Some(ApplicationProtocol::Http), None, None]);
        assert_eq!(registry.place("10.0.0.9".parse().unwrap(), &Settings::default()), Place::Workload(id));
        let service = registry.service(registry.find_service("shop", "orders").unwrap()).unwrap();
        assert_eq!(service.endpoints, [id]);
        assert_eq!(service.ports[0].target, TargetPort::Name("http-main".into()));
        assert_eq!(service.ports[1].target, TargetPort::Number(90));
        assert_eq!(&*orders.probes[0].method, "GET");
        assert_eq!(orders.probes[1].path, None);
    }

    #[test]
    fn what_is_wrong_with_one_entry_stays_with_it() {
        for (entry, code) in [
            ("{namespace: a}", Code::MissingField),
            ("{name: web-1, namespace: shop}", Code::DuplicateWorkload),
            ("{name: x, namespace: a, ips: [10.0.0.256]}", Code::BadAddress),
            ("{name: x, namespace: a, ips: [10.0.0.0/8]}", Code::BadAddress),
            ("{name: x, namespace: a, lables: {}}", Code::UnknownField),
            ("{name: x, namespace: a, ports: [{port: 0}]}", Code::OutOfRange),
            ("{name: x, namespace: a, ports: [{port: 1, protocol: tcp}]}", Code::BadEnumValue),
            ("{name: x, namespace: a, ips: [10.0.0.3]}", Code::ContestedAddress),
            ("{name: x, namespace: a, node: n7}", Code::UnknownNode),
            ("{kind: Service, name: s, namespace: a, endpoints: [shop/none]}", Code::DanglingEndpoint),
            ("{kind: Pod, name: s, namespace: a}", Code::BadEnumValue),
            ("{name: x, namespace: a, labels: {a: 1}}", Code::WrongType),
            ("7", Code::WrongType),
        ] {
            let text = format!("{FILE}- {entry}\n");
            let (registry, diagnostics) = Registry::parse("w.yaml", &text.as_str().into());
            assert!(
                diagnostics
                    .iter()
                    .any(|d| d.code == code && (d.location.line == 11 || d.code == Code::ContestedAddress)),
                "{entry}: {diagnostics:?}"
            );
            assert!(registry.find_workload("shop", "orders-1").is_some());
        }
        let (_, diagnostics) = Registry::parse("w.yaml", &"name: x".into());
        assert_eq!(diagnostics[0].code, Code::WrongType);
        assert!(Registry::parse("w.yaml", &"".into()).1.is_empty());
    }
}
