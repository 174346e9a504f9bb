//! Which datagrams the table lets a workload send and receive: the part of a world that nft can enforce.
//!
//! Addresses and ports are cut into the largest pieces inside which no rule can tell one value from another, and the
//! world is asked once a piece. So the result is exact, but for what a packet filter cannot see (names in DNS
//! queries): that is not allowed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use eastwall_policy::facts::{Connection, Direction, End, Fact, Place, Protocol, Request, Transport, Truth};
use eastwall_policy::model::{Atom, Expr, Mode, PeerAtom, PortAtom, Rule};
use eastwall_policy::registry::WorkloadId;
use eastwall_policy::verdict::Action;
use eastwall_policy::world::{ConnectionVerdict, World};
use ipnet::IpNet;

use super::rules::unproxied::{Admission, Datagram, Opening};
use super::rules::{PortRange, Unproxied};

const DNS: u16 = 53;

/// What may pass to and from a workload at this moment, besides TCP.
pub(crate) fn unproxied(world: &World, workload: WorkloadId, now: i64) -> Unproxied {
    let admission = |direction| Question { world, workload, direction, now }.admission();
    Unproxied { inbound: admission(Direction::Inbound), outbound: admission(Direction::Outbound) }
}

struct Question<'a> {
    world: &'a World,
    workload: WorkloadId,
    direction: Direction,
    now: i64,
}

/// One way to cut: where the pieces begin, in order, the first at 0.
type Cuts = BTreeSet<u128>;

impl Question<'_> {
    fn admission(&self) -> Admission {
        let mut openings = Vec::new();
        let mut whole = true;
        for transport in [Datagram::Udp, Datagram::Sctp] {
            for v4 in [true, false] {
                whole &= self.open(transport, v4, &mut openings);
            }
        }
        if whole {
            return Admission::Open;
        }
        openings.sort_unstable();
        Admission::Closed(openings)
    }

    /// Adds what is allowed; says whether that is everything.
    fn open(&self, transport: Datagram, v4: bool, openings: &mut Vec<Opening>) -> bool {
        let rules: Vec<&Rule> = self.rules(transport).collect();
        // Without a rule that can tell peers or ports apart, one answer holds for all.
        let (addresses, ports) = if rules.is_empty() {
            (Cuts::from([0]), Cuts::from([0]))
        } else {
            (self.address_cuts(&rules, v4), self.port_cuts(&rules, transport))
        };
        let last = if v4 { u128::from(u32::MAX) } else { u128::MAX };
        let mut whole = true;
        let mut held: Option<(u128, u128, Vec<PortRange>)> = None;
        for (low, high) in pieces(&addresses, last) {
            let allowed = self.ports(transport, address(high, v4), &ports);
            whole &= allowed == [PortRange(0, u16::MAX)];
            match &mut held {
                Some((_, end, same)) if *same == allowed => *end = high,
                _ => {
                    emit(held.replace((low, high, allowed)), transport, v4, openings);
                }
            }
        }
        emit(held, transport, v4, openings);
        whole
    }

    fn ports(&self, transport: Datagram, peer: IpAddr, cuts: &Cuts) -> Vec<PortRange> {
        let mut allowed: Vec<PortRange> = Vec::new();
        for (low, high) in pieces(cuts, u128::from(u16::MAX)) {
            let (Ok(low), Ok(high)) = (u16::try_from(low), u16::try_from(high)) else { continue };
            if !self.passes(transport, peer, high) {
                continue;
            }
            match allowed.last_mut() {
                Some(PortRange(_, end)) if end.checked_add(1) == Some(low) => *end = high,
                _ => allowed.push(PortRange(low, high)),
            }
        }
        allowed
    }

    fn passes(&self, datagram: Datagram, peer: IpAddr, port: u16) -> bool {
        let Self { world, workload, direction, now } = *self;
        let transport = match datagram {
            Datagram::Udp => Transport::Udp,
            Datagram::Sctp => Transport::Sctp,
        };
        let own = world.registry().workload(workload);
        let own = own.and_then(|own| own.ips.iter().find(|ip| ip.to_canonical().is_ipv4() == peer.is_ipv4()));
        let own = End { address: own.copied(), place: Place::Workload(workload), principal: None };
        let (source, destination, service) = match direction {
            Direction::Inbound => (world.source(peer), own, None),
            Direction::Outbound => (own, world.destination(peer), world.registry().service_at(peer)),
        };
        let connection =
            Connection { source, destination, port, transport, service, fqdn: None, direction: Some(direction) };
        let flow = world.flow(&connection);
        match world.connection_verdict(&flow, now) {
            ConnectionVerdict::Opaque(_) => return true,
            ConnectionVerdict::Deny(_) => return false,
            ConnectionVerdict::Inspect => {}
        }
        let allows = |protocol| {
            let request = Request { qname: Fact::Unknown, ..Request::opaque(Fact::Known(protocol), now) };
            world.request_verdict(&flow, &request).action == Action::Allow
        };
        match datagram {
            Datagram::Udp => allows(Protocol::Dns) && (port == DNS || allows(Protocol::Udp)),
            Datagram::Sctp => allows(Protocol::Sctp),
        }
    }

    /// The rules of this direction that a datagram can meet at all.
    fn rules(&self, transport: Datagram) -> impl Iterator<Item = &Rule> {
        let enforced = self.world.model().policies.iter().filter(|policy| policy.mode == Mode::Enforce);
        enforced
            .flat_map(|policy| &policy.rules)
            .filter(move |rule| rule.direction == self.direction && can_meet(&rule.condition, transport).possibly())
    }

    fn address_cuts(&self, rules: &[&Rule], v4: bool) -> Cuts {
        let mut cuts = Cuts::from([0]);
        let mut net = |net: IpNet| {
            if net.addr().is_ipv4() == v4 {
                cuts.insert(number(net.network()));
                cuts.extend(number(net.broadcast()).checked_add(1));
            }
        };
        let settings = &self.world.model().settings;
        settings.networks.iter().chain(&settings.node_networks).for_each(|known| net(*known));
        let registry = self.world.registry();
        let workloads = registry.workloads.iter().flat_map(|workload| &workload.ips);
        let services = registry.services.iter().flat_map(|service| &service.ips);
        let nodes = registry.nodes.iter().flat_map(|node| &node.ips);
        workloads.chain(services).chain(nodes).for_each(|ip| net(ip.to_canonical().into()));
        rules.iter().for_each(|rule| {
            each_atom(&rule.condition, &mut |atom| match (atom, atom.of_other_end()) {
                (_, Some(PeerAtom::Cidr { net: named, .. })) | (Atom::RemoteIp(named), _) => net(*named),
                _ => {}
            });
        });
        let last = if v4 { u128::from(u32::MAX) } else { u128::MAX };
        cuts.retain(|cut| *cut <= last);
        cuts
    }

    fn port_cuts(&self, rules: &[&Rule], transport: Datagram) -> Cuts {
        let mut cuts = Cuts::from([0]);
        let mut range = |low: u16, high: u16| {
            cuts.insert(low.into());
            cuts.insert(u128::from(high) + 1);
        };
        if transport == Datagram::Udp {
            range(DNS, DNS);
        }
        let registry = self.world.registry();
        registry.workloads.iter().flat_map(|workload| &workload.ports).for_each(|port| range(port.port, port.port));
        registry.services.iter().flat_map(|service| &service.ports).for_each(|port| range(port.port, port.port));
        rules.iter().for_each(|rule| {
            each_atom(&rule.condition, &mut |atom| {
                if let Atom::Port(PortAtom::Range(low, high)) = atom {
                    range(*low, *high);
                }
            });
        });
        cuts.retain(|cut| *cut <= u128::from(u16::MAX));
        cuts
    }
}

fn emit(held: Option<(u128, u128, Vec<PortRange>)>, transport: Datagram, v4: bool, openings: &mut Vec<Opening>) {
    let Some((low, high, ports)) = held else { return };
    let peers = (address(low, v4), address(high, v4));
    openings.extend(ports.into_iter().map(|ports| Opening { peers, transport, ports }));
}

/// First and last of each piece.
fn pieces(cuts: &Cuts, last: u128) -> impl Iterator<Item = (u128, u128)> {
    let ends = cuts.iter().skip(1).map(|next| next - 1).chain([last]);
    cuts.iter().copied().zip(ends)
}

/// Whether a condition can be true of a datagram, whoever sends it.
fn can_meet(condition: &Expr, transport: Datagram) -> Truth {
    let own = match transport {
        Datagram::Udp => Transport::Udp,
        Datagram::Sctp => Transport::Sctp,
    };
    match condition {
        Expr::True => Truth::True,
        Expr::False => Truth::False,
        Expr::Is(Atom::Transport(asked)) => (*asked == own).into(),
        Expr::Is(Atom::Protocol(asked)) if !asked.iter().any(|protocol| protocol.transport() == own) => Truth::False,
        Expr::Is(_) => Truth::Unknown,
        Expr::All(parts) => parts.iter().fold(Truth::True, |truth, part| truth.and(can_meet(part, transport))),
        Expr::Any(parts) => parts.iter().fold(Truth::False, |truth, part| truth.or(can_meet(part, transport))),
        Expr::Not(inner) => !can_meet(inner, transport),
    }
}

fn each_atom<'e>(condition: &'e Expr, visit: &mut impl FnMut(&'e Atom)) {
    match condition {
        Expr::True | Expr::False => {}
        Expr::Is(atom) => visit(atom),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().for_each(|part| each_atom(part, visit)),
        Expr::Not(inner) => each_atom(inner, visit),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// The piece that ends at the last address fits its family: cuts are kept within it.
fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(short) if v4 => Ipv4Addr::from(short).into(),
        _ => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eastwall_policy::registry::Registry;
    use eastwall_policy::{dialect, source};

    use super::*;

    const WORKLOADS: &str = r#"
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3, "fd00::3"]}
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2, "fd00::2"], ports: [{name: u, port: 7000, protocol: UDP}]}
- {name: dns, namespace: kube-system, serviceAccount: dns, ips: [10.0.0.53], ports: [{name: dns, port: 53, protocol: UDP}]}
- {kind: Service, name: kube-dns, namespace: kube-system, ips: [10.96.0.10], ports: [{name: dns, port: 53, protocol: UDP}], endpoints: [kube-system/dns]}
"#;

    fn admitted(spec: &str) -> Unproxied {
        admitted_by(&format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: orders}}]\n{spec}"
        ))
    }

    fn admitted_by(policy: &str) -> Unproxied {
        let compiled = dialect::compile(&source::parse("p.yaml", &Arc::from(policy)));
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        let (registry, diagnostics) = Registry::parse("w.yaml", &Arc::from(WORKLOADS));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let world = World::new(compiled.model, Arc::new(registry), 1);
        unproxied(&world, world.registry().find_workload("shop", "orders").unwrap(), 1_000)
    }

    fn shown(admission: &Admission) -> Vec<String> {
        match admission {
            Admission::Open => vec!["open".into()],
            Admission::Closed(openings) => openings
                .iter()
                .map(|o| format!("{}-{} {} {}", o.peers.0, o.peers.1, o.transport.name(), o.ports))
                .collect(),
        }
    }

    #[test]
    fn what_the_table_says_is_what_nft_lets_through() {
        let closed: &[&str] = &[];
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("  directions: [Ingress]\n", closed, &["open"]),
            (
                "  directions: [Ingress, Egress]\n  ingress:\n  - {name: a, from: [{serviceAccount: web}], http: [{}]}\n",
                closed,
                closed,
            ),
            (
                "  ingress:\n  - {name: a, from: [{serviceAccount: web}], ports: [\"6000-6010\"], udp: {}}\n",
                &["10.0.0.3-10.0.0.3 udp 6000-6010", "fd00::3-fd00::3 udp 6000-6010"],
                &["open"],
            ),
            (
                "  ingress:\n  - {name: a, from: [{serviceAccount: web}], udp: {}}\n",
                &["10.0.0.3-10.0.0.3 udp 7000", "fd00::3-fd00::3 udp 7000"],
                &["open"],
            ),
            (
                "  egress:\n  - {name: a, to: [{service: kube-dns, namespace: kube-system}], ports: [53], dns: [{}]}\n",
                &["open"],
                &["10.0.0.53-10.0.0.53 udp 53", "10.96.0.10-10.96.0.10 udp 53"],
            ),
            (
                "  egress:\n  - {name: a, to: [{cidr: 198.51.100.0/24}], notTo: [{cidr: 198.51.100.128/25}], ports: [443], udp: {}}\n",
                &["open"],
                &["198.51.100.0-198.51.100.127 udp 443"],
            ),
            (
                "  ingress:\n  - {name: a, from: [{serviceAccount: web}], ports: [\"1-100\"], udp: {}}\n  - {name: d, action: Deny, from: [{any: true}], ports: [\"50-60\"]}\n",
                &[
                    "10.0.0.3-10.0.0.3 udp 1-49",
                    "10.0.0.3-10.0.0.3 udp 61-100",
                    "fd00::3-fd00::3 udp 1-49",
                    "fd00::3-fd00::3 udp 61-100",
                ],
                &["open"],
            ),
            (
                "  ingress:\n  - {name: a, from: [{serviceAccount: web}], ports: [9], udp: {}, expires: \"1970-01-01T00:10:00Z\"}\n",
                closed,
                &["open"],
            ),
        ];
        for (spec, inbound, outbound) in cases {
            let found = admitted(spec);
            assert_eq!(shown(&found.inbound), *inbound, "inbound: {spec}");
            assert_eq!(shown(&found.outbound), *outbound, "outbound: {spec}");
        }
    }

    #[test]
    fn networks_of_a_network_policy_are_cut_out() {
        let policy = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 198.51.100.0/24}}], ports: [{protocol: UDP, port: 443}]}]}
";
        assert_eq!(shown(&admitted_by(policy).outbound), ["198.51.100.0-198.51.100.255 udp 443"]);
    }

    #[test]
    fn without_a_table_everything_is_closed() {
        let (registry, _) = Registry::parse("w.yaml", &Arc::from(WORKLOADS));
        assert_eq!(unproxied(&World::closed(Arc::new(registry), 1), WorkloadId(1), 0), Unproxied::default());
    }
}
