//! Objects and the workloads file to one registry.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Endpoint, Exposed, Objects, Pod, Slice};
use crate::diagnostic::{Code, Diagnostic};
use crate::registry::{ApplicationProtocol, Labels, Node, Registry, Service, TargetPort, Workload, WorkloadId};

type Map<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
type Set<K> = hashbrown::HashSet<K, foldhash::fast::RandomState>;

impl Objects {
    /// The registry that the workloads file and the objects describe together. For the same namespace and name the
    /// file's entry wins; an address that two entries claim is nobody's.
    #[must_use]
    pub fn join(&self, file: Registry) -> (Registry, Vec<Diagnostic>) {
        if self.is_empty() {
            return (file, Vec::new());
        }
        let Registry { mut workloads, services, nodes, .. } = file;
        let from_file = workloads.len();
        let mut findings = Vec::new();
        let others = self.others(&workloads);
        workloads.extend(others.iter().map(|pod| pod.workload.clone()));
        workloads.iter_mut().for_each(|workload| self.describe_namespace(workload));
        let mut ready = vec![true; from_file];
        ready.extend(others.iter().map(|pod| pod.ready));

        let (services, spoken) = self.services(services, &Behind::new(&workloads, &ready), &mut findings);
        apply(&spoken, from_file, &mut workloads);
        let nodes = self.nodes(nodes, &workloads, &services);
        let registry = Registry::new(workloads, services, nodes);
        for (workload, pod) in registry.workloads.iter().skip(from_file).zip(others) {
            for ip in workload.ips.iter().filter(|ip| !workload.host_network && registry.is_contested(**ip)) {
                let message = format!("`{ip}` belongs to another entry too");
                let help = "an address with two owners is nobody's: no allow rule matches it";
                findings.push(pod.place.finding(Code::ContestedAddress, message, help));
            }
        }
        (registry, findings)
    }

    /// Pods that the workloads file does not have.
    fn others(&self, file: &[Workload]) -> Vec<&Pod> {
        let named: Set<(&str, &str)> = file.iter().map(|one| (&*one.namespace, &*one.name)).collect();
        let is_other = |pod: &&Pod| !named.contains(&(&*pod.workload.namespace, &*pod.workload.name));
        self.pods.iter().filter(is_other).collect()
    }

    /// The file's Services and those that it does not have, and what these say of their endpoints.
    fn services(
        &self,
        mut services: Vec<Service>,
        behind: &Behind<'_>,
        findings: &mut Vec<Diagnostic>,
    ) -> (Vec<Service>, Vec<Declaration>) {
        let named: Set<(Arc<str>, Arc<str>)> =
            services.iter().map(|one| (Arc::clone(&one.namespace), Arc::clone(&one.name))).collect();
        let mut slices: Map<(&str, &str), Vec<&Slice>> = Map::default();
        for slice in &self.slices {
            slices.entry((&slice.namespace, &slice.service)).or_default().push(slice);
        }
        let mut spoken = Vec::new();
        for exposed in &self.services {
            let Service { namespace, name, .. } = &exposed.service;
            if named.contains(&(Arc::clone(namespace), Arc::clone(name))) {
                continue;
            }
            let of_it = slices.get(&(&**namespace, &**name)).map(Vec::as_slice).unwrap_or_default();
            let service = behind.resolve(exposed, of_it, findings);
            spoken.extend(declarations(exposed, &service, behind.workloads));
            services.push(service);
        }
        (services, spoken)
    }

    /// The file's nodes and those that it does not have. Network plugins with a bridge or a pair of interfaces give the
    /// node the first address of its pods' range, and from there the kubelet probes; what somebody says to have is theirs.
    fn nodes(&self, mut nodes: Vec<Node>, workloads: &[Workload], services: &[Service]) -> Vec<Node> {
        let named: Set<Arc<str>> = nodes.iter().map(|node| Arc::clone(&node.name)).collect();
        let mut claimed: Set<IpAddr> =
            nodes.iter().chain(&self.nodes).flat_map(|node| node.ips.iter().copied()).collect();
        let networked = workloads.iter().filter(|workload| !workload.host_network);
        claimed.extend(networked.flat_map(|workload| &workload.ips).chain(services.iter().flat_map(|one| &one.ips)));
        for (node, first) in
            self.nodes.iter().zip(&self.first_of_ranges).filter(|(node, _)| !named.contains(&node.name))
        {
            let mut node = node.clone();
            node.ips.extend(first.iter().filter(|ip| !claimed.contains(*ip)));
            nodes.push(node);
        }
        nodes
    }

    /// Labels and annotations of its Namespace, unless the workloads file says its own. A team can label its namespace,
    /// it cannot rename it.
    fn describe_namespace(&self, workload: &mut Workload) {
        let name: Arc<str> = "kubernetes.io/metadata.name".into();
        if let Some(namespace) = self.namespaces.get(&workload.namespace) {
            if workload.namespace_labels.keys().all(|key| *key == name) {
                workload.namespace_labels = namespace.labels.clone();
            }
            if workload.namespace_annotations.is_empty() {
                workload.namespace_annotations = namespace.annotations.clone();
            }
        }
        workload.namespace_labels.insert(name, Arc::clone(&workload.namespace));
    }
}

/// Finds who is behind a Service.
struct Behind<'w> {
    workloads: &'w [Workload],
    ready: &'w [bool],
    by_name: Map<(&'w str, &'w str), WorkloadId>,
    /// `None`: several have it.
    by_address: Map<IpAddr, Option<WorkloadId>>,
    by_namespace: Map<&'w str, Vec<WorkloadId>>,
}

impl<'w> Behind<'w> {
    fn new(workloads: &'w [Workload], ready: &'w [bool]) -> Self {
        let mut by_name = Map::default();
        let mut by_address: Map<IpAddr, Option<WorkloadId>> = Map::default();
        let mut by_namespace: Map<&str, Vec<WorkloadId>> = Map::default();
        for (index, workload) in (0u32..).zip(workloads) {
            let id = WorkloadId(index);
            by_name.entry((&*workload.namespace, &*workload.name)).or_insert(id);
            by_namespace.entry(&*workload.namespace).or_default().push(id);
            for ip in workload.ips.iter().filter(|_| !workload.host_network) {
                by_address.entry(*ip).and_modify(|owner| *owner = None).or_insert(Some(id));
            }
        }
        Self { workloads, ready, by_name, by_address, by_namespace }
    }

    /// A Service with its endpoints: those of its slices; where it has none, the Pods that its selector selects.
    fn resolve(&self, exposed: &Exposed, slices: &[&Slice], findings: &mut Vec<Diagnostic>) -> Service {
        let mut service = exposed.service.clone();
        if slices.is_empty() {
            service.endpoints = self.selected(&service.namespace, &exposed.selector);
            return service;
        }
        for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
            match self.workload(endpoint) {
                Some(id) if !service.endpoints.contains(&id) => service.endpoints.push(id),
                Some(_) => {}
                None => self.note_elsewhere(exposed, endpoint, &mut service, findings),
            }
        }
        for port in &mut service.ports {
            let mut numbers: Vec<u16> = slices
                .iter()
                .flat_map(|slice| &slice.ports)
                .filter(|(name, _)| *name == port.name)
                .map(|(_, number)| *number)
                .collect();
            numbers.sort_unstable();
            numbers.dedup();
            // Where Pods differ the name says it, at each of them.
            if let [number] = numbers[..] {
                port.target = TargetPort::Number(number);
            }
        }
        service
    }

    fn workload(&self, endpoint: &Endpoint) -> Option<WorkloadId> {
        let named = endpoint.pod.as_ref().and_then(|(namespace, name)| self.by_name.get(&(&**namespace, &**name)));
        let mut at = endpoint.addresses.iter().filter_map(|address| *self.by_address.get(address)?);
        named.copied().or_else(|| at.next())
    }

    fn note_elsewhere(
        &self,
        exposed: &Exposed,
        endpoint: &Endpoint,
        service: &mut Service,
        findings: &mut Vec<Diagnostic>,
    ) {
        for address in &endpoint.addresses {
            if !service.elsewhere.contains(address) {
                service.elsewhere.push(*address);
            }
        }
        if let Some((namespace, name)) = &endpoint.pod {
            let message = format!("its endpoint `{namespace}/{name}` is no Pod of these files");
            let help = "it is judged as an address that nobody has: add the Pods of this namespace";
            findings.push(exposed.place.finding(Code::NobodyYet, message, help));
        }
    }

    fn selected(&self, namespace: &str, selector: &Labels) -> Vec<WorkloadId> {
        if selector.is_empty() {
            return Vec::new();
        }
        let here = self.by_namespace.get(namespace).map(Vec::as_slice).unwrap_or_default();
        let is_selected = |id: &&WorkloadId| {
            let index = id.0 as usize;
            let workload = self.workloads.get(index);
            self.ready.get(index) == Some(&true)
                && workload
                    .is_some_and(|workload| selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value)))
        };
        here.iter().filter(is_selected).copied().collect()
    }
}

/// What a Service says that a port of one of its endpoints speaks.
struct Declaration {
    workload: WorkloadId,
    port: usize,
    application: ApplicationProtocol,
}

fn declarations(exposed: &Exposed, service: &Service, workloads: &[Workload]) -> Vec<Declaration> {
    let mut found = Vec::new();
    for (port, application) in service.ports.iter().zip(&exposed.applications) {
        let Some(application) = *application else { continue };
        for id in &service.endpoints {
            let declared = workloads.get(id.0 as usize).map(|one| one.ports.as_slice()).unwrap_or_default();
            let is_target = |one: &crate::registry::DeclaredPort| {
                one.transport == port.transport
                    && match &port.target {
                        TargetPort::Number(number) => one.port == *number,
                        TargetPort::Name(name) => one.name.as_ref() == Some(name),
                    }
            };
            let at = declared.iter().enumerate().filter(|(_, one)| is_target(one));
            found.extend(at.map(|(index, _)| Declaration { workload: *id, port: index, application }));
        }
    }
    found
}

/// `appProtocol` of a Service beats the name of the Pod's port; Services that disagree leave the port undeclared.
fn apply(declarations: &[Declaration], from_file: usize, workloads: &mut [Workload]) {
    let mut said: Map<(WorkloadId, usize), Option<ApplicationProtocol>> = Map::default();
    for Declaration { workload, port, application } in declarations {
        let both = said.entry((*workload, *port)).or_insert(Some(*application));
        if *both != Some(*application) {
            *both = None;
        }
    }
    for ((workload, port), application) in said {
        let index = workload.0 as usize;
        if index < from_file {
            continue;
        }
        if let Some(port) = workloads.get_mut(index).and_then(|one| one.ports.get_mut(port)) {
            port.application = application;
        }
    }
}
