//! Sidecar mode.

use std::net::SocketAddr;
use std::sync::Arc;

use super::net::{Fabric, Net, Server, udp_server};
use super::relay::Relay;
use crate::intercept::rules::unproxied::Admission;
use crate::intercept::rules::{Bypass, Exclusion, Family, Ports, Ruleset, Unproxied};
use crate::intercept::{Inherited, Listeners, Plan, install};

const PORT: u16 = 8080;

fn ruleset() -> Ruleset {
    Ruleset {
        // The relay's; the application is somebody else.
        uid: 0,
        ports: Ports::default(),
        family: Family::Both,
        bypass: Bypass::default(),
        exclusion: Exclusion::Uid,
        unproxied: Unproxied::default(),
    }
}

fn apply(net: &Net, pod: usize, ruleset: Ruleset) {
    install::apply(&[Plan { namespace: Arc::clone(&net.pods[pod]), ruleset }]).unwrap();
}

fn sidecar(net: &Net, pod: usize, family: Family) -> Listeners {
    net.pods[pod]
        .run_blocking(move || Listeners::sidecar(Ports::default(), family, &Inherited::default()))
        .unwrap()
        .unwrap()
}

/// A relay whose thread lives in the pod.
fn relay(net: &Net, pod: usize, listeners: Listeners) -> Relay {
    net.pods[pod].run_blocking(move || Relay::start(&listeners)).unwrap()
}

/// As another uid than the proxy's.
fn as_application(net: &Net, pod: usize, to: SocketAddr) -> std::io::Result<String> {
    net.ask_as(pod, 4321, 0, to)
}

#[test]
fn both_directions_pass_the_proxy_and_nothing_passes_without_it() {
    let net = Net::new(Fabric::Routed, 2);
    let server = Server::everywhere(&net.pods[1], PORT);
    apply(&net, 1, ruleset());
    for address in net.both(1) {
        assert!(net.ask(0, SocketAddr::new(address, PORT)).is_err(), "no proxy yet");
    }
    assert_eq!(server.accepted(), 0);
    let inbound = relay(&net, 1, sidecar(&net, 1, Family::Both));
    for address in net.both(1) {
        let answer = net.ask(0, SocketAddr::new(address, PORT));
        let seen: SocketAddr = answer.unwrap().parse().unwrap();
        assert_eq!(seen.ip(), address, "the sidecar dials the pod's own address, never loopback");
    }
    assert_eq!(inbound.seen().len(), 2);

    apply(&net, 0, ruleset());
    assert!(as_application(&net, 0, SocketAddr::new(net.v4(1), PORT)).is_err(), "no proxy at the source yet");
    let outbound = relay(&net, 0, sidecar(&net, 0, Family::Both));
    for address in net.both(1) {
        let answer = as_application(&net, 0, SocketAddr::new(address, PORT));
        assert!(answer.is_ok(), "{answer:?}");
    }
    let log = outbound.seen();
    assert_eq!(log.len(), 2, "{log:?}");
    assert!(log.iter().all(|line| line.starts_with("Outbound")), "{log:?}");
    drop((inbound, outbound));
    let accepted = server.accepted();
    for address in net.both(1) {
        assert!(net.ask(0, SocketAddr::new(address, PORT)).is_err());
        assert!(as_application(&net, 0, SocketAddr::new(address, PORT)).is_err());
    }
    assert_eq!(server.accepted(), accepted, "dead proxies: nothing reaches the application");
    install::delete(&net.pods).unwrap();
    assert!(net.ask(0, SocketAddr::new(net.v4(1), PORT)).is_ok());
}

#[test]
fn what_bypasses_is_counted() {
    let net = Net::new(Fabric::Routed, 2);
    let servers = [Server::everywhere(&net.pods[1], PORT), Server::everywhere(&net.pods[1], PORT + 1)];
    let bypass = Bypass { inbound_ports: vec!["8081".parse().unwrap()], ..Bypass::default() };
    apply(&net, 1, Ruleset { bypass, ..ruleset() });
    for address in net.both(1) {
        assert!(net.ask(0, SocketAddr::new(address, PORT)).is_err());
        net.ask(0, SocketAddr::new(address, PORT + 1)).unwrap();
    }
    assert_eq!(servers[0].accepted(), 0);
    assert!(install::counts(&net.pods[1]).unwrap()["bypass_in"].bytes > 0);
    let before = install::counts(&net.pods[1]).unwrap();

    let bypass = Bypass { inbound_networks: vec!["10.77.0.2/32".parse().unwrap()], ..Bypass::default() };
    apply(&net, 1, Ruleset { bypass, ..ruleset() });
    assert!(install::counts(&net.pods[1]).unwrap()["bypass_in"].bytes >= before["bypass_in"].bytes, "counters go on");
    net.ask(0, SocketAddr::new(net.v4(1), PORT)).unwrap();
    assert!(net.ask(0, SocketAddr::new(net.v6(1), PORT)).is_err());

    install::delete(&net.pods).unwrap();
    let bypass = Bypass {
        outbound_ports: vec!["8081-8090".parse().unwrap()],
        outbound_networks: vec!["fd77::3/128".parse().unwrap()],
        ..Bypass::default()
    };
    apply(&net, 0, Ruleset { bypass, ..ruleset() });
    assert!(as_application(&net, 0, SocketAddr::new(net.v4(1), PORT)).is_err());
    assert!(as_application(&net, 0, SocketAddr::new(net.v4(1), PORT + 1)).is_ok());
    assert!(as_application(&net, 0, SocketAddr::new(net.v6(1), PORT)).is_ok());
}

#[test]
fn the_ip_version_that_is_not_redirected_is_closed_unless_the_workload_is_open() {
    let net = Net::new(Fabric::Routed, 2);
    let server = Server::everywhere(&net.pods[1], PORT);
    apply(&net, 1, Ruleset { family: Family::Ipv4, ..ruleset() });
    let inbound = relay(&net, 1, sidecar(&net, 1, Family::Ipv4));
    net.ask(0, SocketAddr::new(net.v4(1), PORT)).unwrap();
    assert!(net.ask(0, SocketAddr::new(net.v6(1), PORT)).is_err());
    assert_eq!(server.accepted(), 1);
    let unproxied = Unproxied { inbound: Admission::Open, outbound: Admission::Closed(Vec::new()) };
    apply(&net, 1, Ruleset { family: Family::Ipv4, unproxied, ..ruleset() });
    net.ask(0, SocketAddr::new(net.v6(1), PORT)).unwrap();
    let to = SocketAddr::new(net.v6(0), PORT);
    let _listening = Server::everywhere(&net.pods[0], PORT);
    assert!(as_application(&net, 1, to).is_err(), "answers leave, but nothing else does");
    drop(inbound);
}

#[test]
fn datagrams_pass_where_the_table_opens() {
    use crate::intercept::rules::PortRange;
    use crate::intercept::rules::unproxied::{Datagram, Opening};
    let net = Net::new(Fabric::Routed, 2);
    let received = udp_server(&net.pods[1], "[::]:53".parse().unwrap());
    let other = udp_server(&net.pods[1], "[::]:54".parse().unwrap());
    let opening = |address| Opening { peers: (address, address), transport: Datagram::Udp, ports: PortRange(53, 53) };
    let unproxied = Unproxied {
        inbound: Admission::Closed(net.both(0).map(opening).into()),
        outbound: Admission::Closed(Vec::new()),
    };
    apply(&net, 1, Ruleset { unproxied, ..ruleset() });
    for address in net.both(1) {
        net.ask_udp(0, SocketAddr::new(address, 53)).unwrap_or_else(|error| panic!("{address}: {error}"));
        assert!(net.ask_udp(0, SocketAddr::new(address, 54)).is_err());
    }
    assert_eq!(received.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(other.load(std::sync::atomic::Ordering::SeqCst), 0);
    let counts = install::counts(&net.pods[1]).unwrap();
    assert!(counts["unproxied_in_passed"].packets >= 2 && counts["unproxied_in_dropped"].packets >= 2, "{counts:?}");
}
