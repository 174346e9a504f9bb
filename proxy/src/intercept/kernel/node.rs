//! Node mode.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::net::{Fabric, Net, Server, eventually, udp_server};
use super::relay::Relay;
use crate::intercept::node::{members, plan as pods_plan};
use crate::intercept::rules::{Bypass, Family, MARK_LISTENER, MARK_RETURN, MARK_UPSTREAM, Ports};
use crate::intercept::{Captured, Handed, Inherited, Node, NodeSetup, install};

const PORT: u16 = 8080;

fn setup() -> NodeSetup {
    NodeSetup { node: None, uid: 0, ports: Ports::default(), family: Family::Both, bypass: Bypass::default() }
}

fn serve(net: &Net) -> Node {
    let node = Node::new(setup(), Inherited::default(), Captured::default());
    let failures = node.reconcile(&net.closed(), 0);
    assert!(failures.is_empty(), "{failures:?}");
    node
}

fn count(node: &Node, pod: usize, counter: &str) -> u64 {
    let name = format!("test/p{pod}");
    let counts = node.counts().into_iter().find(|(pod, _)| **pod == *name).unwrap().1;
    counts.get(counter).unwrap_or_else(|| panic!("no counter {counter} in {counts:?}")).packets
}

/// Every way in which there is no proxy.
fn assert_dead(net: &Net, server: &Server, when: &str) {
    let before = server.accepted();
    for address in net.both(1) {
        let answer = net.ask(0, SocketAddr::new(address, PORT));
        let kind = answer.expect_err("nobody may answer").kind();
        assert!(
            matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset),
            "{when}: {address}: {kind:?}"
        );
    }
    assert_eq!(server.accepted(), before, "{when}: nothing may reach the application");
}

fn whole_life(fabric: Fabric) {
    let net = Net::new(fabric, 2);
    let server = Server::everywhere(&net.pods[1], PORT);
    // What kube-proxy and a strict host firewall add.
    net.in_node(
        "nft -f - <<'R'
table inet kube {
  chain pre { type nat hook prerouting priority dstnat; policy accept;
    ip daddr 10.96.0.10 tcp dport 80 dnat ip to 10.77.0.3:8080
    ip6 daddr fd96::10 tcp dport 80 dnat ip6 to [fd77::3]:8080
  }
  chain post { type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.77.0.0/24 ip daddr 10.77.0.0/24 ct status dnat masquerade
    ip6 saddr fd77::/64 ip6 daddr fd77::/64 ct status dnat masquerade
  }
  chain forward { type filter hook forward priority filter; policy accept;
    ct state invalid counter drop
  }
}
R",
    );
    for address in net.both(1) {
        let to = SocketAddr::new(address, PORT);
        assert!(net.ask(0, to).is_ok(), "the network itself must work: {to}");
    }
    let plans: Vec<_> = {
        let world = net.closed();
        let of = |pod| {
            let nobody = Handed::default();
            let members = members(&world, None, &nobody);
            let namespace = std::sync::Arc::clone(&net.pods[pod]);
            pods_plan(&setup(), &world, &members[pod], namespace, 0).unwrap()
        };
        // The client's side stays open, so that the receiver's side is what is tested.
        vec![of(1)]
    };
    install::apply(&plans).unwrap();
    assert_dead(&net, &server, "rules, and a proxy that never ran");

    let node = serve(&net);
    {
        let relay = Relay::start(node.listeners());
        for (address, own) in net.both(1).into_iter().zip(net.both(0)) {
            let seen: SocketAddr = net.ask(0, SocketAddr::new(address, PORT)).unwrap().parse().unwrap();
            assert_eq!(seen.ip(), own, "{fabric:?}: the source address is kept");
        }
        let log = relay.seen();
        assert_eq!(log.iter().filter(|line| line.starts_with("Outbound")).count(), 2, "{log:#?}");
        assert_eq!(log.iter().filter(|line| line.starts_with("Inbound")).count(), 2, "{log:#?}");

        // A Service address is not in the way.
        for service in ["10.96.0.10:80", "[fd96::10]:80"] {
            net.ask(0, service.parse().unwrap()).unwrap_or_else(|error| panic!("{fabric:?} {service}: {error}"));
        }
        hold_many(&net);
    }
    drop(node);
    assert_dead(&net, &server, "after the proxy died");
    install::delete(&net.pods).unwrap();
    assert!(net.ask(0, SocketAddr::new(net.v4(1), PORT)).is_ok(), "deleted rules are gone");
    for pod in [0, 1] {
        assert_eq!(net.in_pod(pod, "nft list tables; ip rule show pref 106; ip -6 rule show pref 106").trim(), "");
        assert_eq!(net.in_pod(pod, "ip route show table all | grep 15106 || true").trim(), "");
    }
}

/// 400 connections between one pair, open at the same time, each with an answer.
fn hold_many(net: &Net) {
    use std::io::{Read as _, Write as _};
    for address in net.both(1) {
        let mut held = Vec::new();
        for _ in 0..400 {
            let mut stream = net.dial(0, None, SocketAddr::new(address, PORT)).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut answer = [0; 100];
            let length = stream.read(&mut answer).unwrap();
            assert!(length > 0);
            held.push(stream);
        }
        let mut answer = [0; 100];
        for stream in &mut held {
            stream.write_all(b"again").unwrap();
            assert!(stream.read(&mut answer).unwrap() > 0);
        }
    }
}

#[test]
fn routed_network() {
    whole_life(Fabric::Routed);
}

#[test]
fn bridged_network_that_netfilter_does_not_see() {
    whole_life(Fabric::Bridged(false));
}

#[test]
fn bridged_network_that_netfilter_sees() {
    whole_life(Fabric::Bridged(true));
}

#[test]
fn address_and_where_possible_port_of_the_client_are_kept() {
    let net = Net::new(Fabric::Bridged(false), 1);
    let _server = Server::everywhere(&net.pods[0], PORT);
    let node = serve(&net);
    let _relay = Relay::start(node.listeners());
    // The same client port twice, to two destinations, at the same time.
    let _other = Server::everywhere(&net.pods[0], PORT + 1);
    let mut held = Vec::new();
    for (from, to) in [("10.77.0.1:41000", net.v4(0)), ("[fd77::1]:41000", net.v6(0))] {
        for port in [PORT, PORT + 1] {
            let (from, to): (SocketAddr, _) = (from.parse().unwrap(), SocketAddr::new(to, port));
            let stream = dial_from(&net, from, to);
            let mut stream = stream.unwrap();
            std::io::Write::write_all(&mut stream, b"hello").unwrap();
            let mut answer = [0; 100];
            let length = std::io::Read::read(&mut stream, &mut answer).unwrap();
            let seen: SocketAddr = std::str::from_utf8(&answer[..length]).unwrap().parse().unwrap();
            assert_eq!(seen.ip(), from.ip());
            // To the second destination NAT gives another port, or the two would be one to the listener.
            assert!(seen.port() == from.port() || port != PORT, "{seen}");
            held.push(stream);
        }
    }
}

fn dial_from(net: &Net, from: SocketAddr, to: SocketAddr) -> std::io::Result<std::net::TcpStream> {
    net.node
        .run_blocking(move || {
            let socket = socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), super::net::PATIENCE)?;
            Ok(std::net::TcpStream::from(socket))
        })
        .unwrap()
}

#[test]
fn a_connection_that_was_open_before_is_cut() {
    use std::io::{Read as _, Write as _};
    let net = Net::new(Fabric::Bridged(false), 2);
    let server = Server::everywhere(&net.pods[1], PORT);
    for address in net.both(1) {
        let mut stream = net.dial(0, None, SocketAddr::new(address, PORT)).unwrap();
        stream.write_all(b"hello").unwrap();
        assert!(stream.read(&mut [0; 100]).unwrap() > 0);
        let before = server.received();
        let node = serve(&net);
        let _relay = Relay::start(node.listeners());
        let _ = stream.write_all(b"more");
        let answer = stream.read(&mut [0; 100]);
        assert!(
            matches!(answer, Err(ref error) if error.kind() == ErrorKind::ConnectionReset),
            "{address}: {answer:?}"
        );
        assert_eq!(server.received(), before, "{address}");
        install::delete(&net.pods).unwrap();
    }
}

#[test]
fn a_server_that_pushes_on_an_old_connection_is_cut_too() {
    let net = Net::new(Fabric::Bridged(false), 2);
    let to = SocketAddr::new(net.v4(1), PORT);
    let listener = net.pods[1].run_blocking(move || std::net::TcpListener::bind(to)).unwrap().unwrap();
    let mut client = net.dial(0, None, to).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let node = serve(&net);
    let _relay = Relay::start(node.listeners());
    std::io::Write::write_all(&mut server, b"secret").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let answer = std::io::Read::read(&mut client, &mut [0; 10]);
    assert!(answer.is_err(), "{answer:?}");
}

#[test]
fn nothing_leaves_under_a_foreign_address() {
    let net = Net::new(Fabric::Bridged(false), 3);
    let server = Server::everywhere(&net.pods[1], PORT);
    let node = serve(&net);
    let relay = Relay::start(node.listeners());
    // Pod 0 takes the addresses of pod 2.
    net.in_pod(0, "ip addr add 10.77.0.4/32 dev eth0; ip addr add fd77::4/128 dev eth0 nodad");
    for (own, to) in net.both(2).into_iter().zip(net.both(1)) {
        let answer = net.dial(0, Some(SocketAddr::new(own, 0)), SocketAddr::new(to, PORT));
        assert!(answer.is_err(), "{own} -> {to}");
    }
    assert_eq!(server.accepted(), 0);
    assert!(relay.seen().is_empty(), "{:?}", relay.seen());
    assert!(count(&node, 0, "spoofed") >= 2);
    // A raw socket passes no output hook, and meets the rules of the device.
    net.in_pod(0, "python3 - <<'P'
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
h = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28, 1, 0, 64, 17, 0, socket.inet_aton('10.77.0.4'), socket.inet_aton('10.77.0.3'))
try:
    s.sendto(h + struct.pack('!HHHH', 9, 9, 8, 0), ('10.77.0.3', 0))
except OSError:
    pass
l = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0x0800)
try:
    l.sendto(h + struct.pack('!HHHH', 9, 9, 8, 0), ('eth0', 0x0800, 0, 0, b'\\xff' * 6))
except OSError:
    pass
P");
    assert!(count(&node, 0, "spoofed_at_device") >= 1);
}

#[test]
fn the_listeners_cannot_be_dialled() {
    let net = Net::new(Fabric::Bridged(false), 2);
    let node = serve(&net);
    let relay = Relay::start(node.listeners());
    let Ports { inbound, outbound } = Ports::default();
    for address in net.both(1).into_iter().chain(["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]) {
        for port in [inbound, outbound] {
            // From the node, from a neighbour, from the pod itself.
            let from_inside = net.ask(1, SocketAddr::new(address, port));
            assert!(from_inside.is_err(), "{address}:{port}: {from_inside:?}");
            if !address.is_loopback() {
                assert!(dial_from_node(&net, SocketAddr::new(address, port)).is_err());
            }
        }
    }
    assert!(relay.seen().is_empty(), "{:?}", relay.seen());
    assert!(count(&node, 1, "direct_hit") >= 8);
}

fn dial_from_node(net: &Net, to: SocketAddr) -> std::io::Result<std::net::TcpStream> {
    net.node.run_blocking(move || std::net::TcpStream::connect_timeout(&to, super::net::PATIENCE)).unwrap()
}

#[test]
fn a_process_of_the_pod_that_takes_the_port_of_a_dead_proxy_gets_nothing() {
    let net = Net::new(Fabric::Bridged(false), 2);
    drop(serve(&net));
    let thief = Server::everywhere(&net.pods[1], Ports::default().inbound);
    for address in net.both(1) {
        assert!(dial_from_node(&net, SocketAddr::new(address, PORT)).is_err());
    }
    assert_eq!(thief.accepted(), 0);
}

#[test]
fn the_mark_of_the_proxy_from_another_uid_changes_nothing() {
    let net = Net::new(Fabric::Bridged(false), 2);
    let server = Server::everywhere(&net.pods[1], PORT);
    let node = serve(&net);
    let relay = Relay::start(node.listeners());
    let to = SocketAddr::new(net.v4(1), PORT);
    let foreign = net.ask_as(0, 1234, MARK_UPSTREAM, to).unwrap();
    assert!(foreign.starts_with("10.77.0.2:"), "{foreign}");
    let seen = relay.seen();
    assert_eq!(
        seen.iter().filter(|line| line.starts_with("Outbound")).count(),
        1,
        "it went through the proxy: {seen:?}"
    );
    // The mark of the return path leads to loopback, and there to nobody.
    for mark in [MARK_RETURN, MARK_LISTENER] {
        let answer = net.ask_as(0, 1234, mark, SocketAddr::new(net.v4(1), PORT + 1));
        assert!(answer.is_err(), "mark {mark}: {answer:?}");
    }
    let answer = net.ask_as(0, 1234, MARK_RETURN, to);
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn datagrams_meet_the_table() {
    let net = Net::new(Fabric::Bridged(false), 2);
    let received = udp_server(&net.pods[1], "[::]:5353".parse().unwrap());
    for address in net.both(1) {
        assert!(net.ask_udp(0, SocketAddr::new(address, 5353)).is_ok(), "the network itself must work");
    }
    let before = received.load(std::sync::atomic::Ordering::SeqCst);
    let node = serve(&net);
    for address in net.both(1) {
        assert!(net.ask_udp(0, SocketAddr::new(address, 5353)).is_err());
        // From an end that is not managed, so that only the receiver's rules are in the way.
        let to = SocketAddr::new(address, 5353);
        net.node
            .run_blocking(move || {
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                std::net::UdpSocket::bind(any).unwrap().send_to(b"hello", to).unwrap();
            })
            .unwrap();
    }
    eventually("what was dropped is counted", || count(&node, 1, "unproxied_in_dropped") >= 2);
    assert!(count(&node, 0, "unproxied_out_dropped") >= 2);
    assert_eq!(received.load(std::sync::atomic::Ordering::SeqCst), before);
    for address in net.both(1) {
        net.ping(0, address).unwrap_or_else(|error| panic!("echo passes everywhere, {address}: {error}"));
    }
}

#[test]
fn an_application_on_loopback_stays_unreachable_and_reaches_itself() {
    let net = Net::new(Fabric::Bridged(false), 2);
    let private = Server::start(&net.pods[1], "127.0.0.1:9000".parse().unwrap());
    let public = Server::everywhere(&net.pods[1], PORT);
    let node = serve(&net);
    let relay = Relay::start(node.listeners());
    assert!(net.ask(0, SocketAddr::new(net.v4(1), 9000)).is_err());
    assert_eq!(private.accepted(), 0);
    let seen = relay.seen().len();
    for own in net.both(1).into_iter().chain(["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()]) {
        net.ask(1, SocketAddr::new(own, PORT)).unwrap_or_else(|error| panic!("{own}: {error}"));
    }
    assert_eq!(public.accepted(), 4);
    assert_eq!(relay.seen().len(), seen, "a pod to itself is never intercepted");
}

#[test]
fn apply_is_all_or_nothing_over_several_namespaces() {
    let net = Net::new(Fabric::Bridged(false), 2);
    let world = net.closed();
    let plan = |pod: usize, uid| {
        let nobody = Handed::default();
        let members = members(&world, None, &nobody);
        let namespace = std::sync::Arc::clone(&net.pods[pod]);
        let setup = NodeSetup { uid, ..setup() };
        pods_plan(&setup, &world, &members[pod], namespace, 0).unwrap()
    };
    let spoil = |mut plan: install::Plan| {
        if let crate::intercept::rules::Exclusion::Marked { devices, .. } = &mut plan.ruleset.exclusion {
            devices.push("a-name-too-long-for-a-device".into());
        }
        plan
    };
    let state = |pod| {
        net.in_pod(pod, "nft -s list ruleset; ip rule; ip -6 rule; ip route show table 15106 2>/dev/null || true")
    };
    let empty = state(0);
    install::apply(&[plan(0, 0), spoil(plan(1, 0))]).unwrap_err();
    assert_eq!(state(0), empty, "nothing is left of what could be applied");
    assert_eq!(state(1), empty, "and nothing of what could not");

    install::apply(&[plan(0, 7), plan(1, 7)]).unwrap();
    let first = (state(0), state(1));
    install::apply(&[plan(0, 7), plan(1, 7)]).unwrap();
    assert_eq!((state(0), state(1)), first, "idempotent");
    install::apply(&[plan(0, 8), spoil(plan(1, 8))]).unwrap_err();
    assert_eq!((state(0), state(1)), first, "what stood before stands again");
    install::delete(&net.pods).unwrap();
    install::delete(&net.pods).unwrap();
    assert_eq!(state(0), empty);
}

#[test]
fn pods_come_and_go_with_the_registry() {
    let net = Net::new(Fabric::Bridged(false), 2);
    let server = Server::everywhere(&net.pods[1], PORT);
    let captured = Captured::default();
    let node = Node::new(setup(), Inherited::default(), captured.clone());
    let relay = Relay::start(node.listeners());
    let to = SocketAddr::new(net.v4(1), PORT);
    assert!(node.reconcile(&net.closed(), 0).is_empty());
    assert_eq!(captured.borrow().len(), 2);
    eventually("a new pod is served", || net.ask(0, to).is_ok());
    let mut workloads = net.registry().workloads;
    let gone = workloads.pop().unwrap();
    let world = |workloads| {
        let registry = eastwall_policy::registry::Registry::new(workloads, Vec::new(), Vec::new());
        eastwall_policy::world::World::closed(std::sync::Arc::new(registry), 2)
    };
    assert!(node.reconcile(&world(workloads.clone()), 0).is_empty());
    eventually("a pod that left is served no more", || net.ask(0, to).is_err());
    assert_eq!(captured.borrow().len(), 1);
    let accepted = server.accepted();
    assert!(dial_from_node(&net, to).is_err(), "and stays closed");
    assert_eq!(server.accepted(), accepted);
    // Back again; and an entry that cannot be entered holds nobody back.
    let ghost = eastwall_policy::registry::Workload {
        name: "ghost".into(),
        netns: Some("/run/netns/no".into()),
        ..gone.clone()
    };
    workloads.extend([gone, ghost]);
    eventually("a pod that came back is served", || {
        let failures = node.reconcile(&world(workloads.clone()), 0);
        failures.iter().all(|failure| &*failure.pod == "test/ghost") && failures.len() == 1
    });
    eventually("a pod that came back is reached", || net.ask(0, to).is_ok());
    drop(relay);
}

/// Prints how long the helper thread makes a worker wait for a socket:
/// `cargo test --release -p eastwall --lib -- --ignored --nocapture time_of_a_socket`.
#[test]
#[ignore = "a measurement, not a test"]
fn time_of_a_socket() {
    let net = Net::new(Fabric::Bridged(false), 1);
    let _server = Server::everywhere(&net.pods[0], PORT);
    let to = SocketAddr::new(net.v4(0), PORT);
    let source = SocketAddr::new(net.v4(0), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let namespace = std::sync::Arc::clone(&net.pods[0]);
    runtime.block_on(async {
        let mut hops = Vec::new();
        let mut dials = Vec::new();
        for _ in 0..2000 {
            let start = std::time::Instant::now();
            namespace.run(|| Ok(())).await.unwrap();
            hops.push(start.elapsed());
            let start = std::time::Instant::now();
            let dialer = crate::intercept::Dialer::Pod { namespace: std::sync::Arc::clone(&namespace), source };
            dialer.connect(to, super::net::PATIENCE).await.unwrap();
            dials.push(start.elapsed());
        }
        for (what, mut times) in [("hop to the helper thread and back", hops), ("whole connect over loopback", dials)] {
            times.sort_unstable();
            println!("{what}: median {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
        }
    });
}
