//! The exact text, as `eastwall redirect print` shows it.

use std::net::IpAddr;

use super::unproxied::{Admission, Datagram, Opening};
use super::{Bypass, Count, Counts, Exclusion, Family, PortRange, Ports, Ruleset, Unproxied};

fn sidecar() -> Ruleset {
    Ruleset {
        uid: 15106,
        ports: Ports::default(),
        family: Family::Both,
        bypass: Bypass::default(),
        exclusion: Exclusion::Uid,
        unproxied: Unproxied { inbound: Admission::Open, outbound: Admission::Open },
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_sidecar() {
    insta::assert_snapshot!(sidecar().text(&Counts::new()));
}

#[test]
fn a_sidecar_with_exceptions_and_one_ip_version() {
    let bypass = Bypass {
        inbound_ports: vec![PortRange(22, 22), PortRange(6000, 6010)],
        inbound_networks: vec!["192.0.2.7/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        outbound_ports: vec![PortRange(9443, 9443)],
        outbound_networks: vec!["198.51.100.0/25".parse().unwrap(), "198.51.100.128/25".parse().unwrap()],
    };
    insta::assert_snapshot!(Ruleset { family: Family::Ipv4, bypass, ..sidecar() }.text(&Counts::new()));
}

#[test]
fn a_pod_of_a_node() {
    let opening = |low, high, ports| Opening { peers: (ip(low), ip(high)), transport: Datagram::Udp, ports };
    let unproxied = Unproxied {
        inbound: Admission::Closed(Vec::new()),
        outbound: Admission::Closed(vec![
            opening("10.96.0.10", "10.96.0.10", PortRange(53, 53)),
            opening("198.51.100.0", "198.51.100.127", PortRange(443, 444)),
            opening("fd96::10", "fd96::10", PortRange(53, 53)),
        ]),
    };
    let exclusion = Exclusion::Marked {
        addresses: vec![ip("fd00::2"), ip("10.0.0.2"), ip("::ffff:10.0.0.2")],
        devices: vec!["eth0".into(), "net1".into()],
    };
    let counts = Counts::from([("spoofed".to_owned(), Count { packets: 3, bytes: 180 })]);
    insta::assert_snapshot!(Ruleset { uid: 0, exclusion, unproxied, ..sidecar() }.text(&counts));
}

#[test]
fn removal() {
    insta::assert_snapshot!(super::removal());
}

#[test]
fn ports_are_parsed_or_refused() {
    for (text, expected) in [("22", Some(PortRange(22, 22))), ("7000-7010", Some(PortRange(7000, 7010)))] {
        assert_eq!(text.parse().ok(), expected, "{text}");
    }
    for text in ["", "0", "x", "10-9", "-1", "70000", "1-", "1-2-3", "1;drop"] {
        assert!(text.parse::<PortRange>().is_err(), "{text}");
    }
}

#[test]
fn every_different_set_has_a_mark_of_its_own() {
    let open = Unproxied { inbound: Admission::Open, outbound: Admission::Open };
    let half = Unproxied { inbound: Admission::Open, ..Unproxied::default() };
    let marks = [open.mark(), half.mark(), Unproxied::default().mark()];
    assert!(marks.iter().all(|mark| *mark > 0xff), "never a mark of proxied flows: {marks:?}");
    assert!(marks[0] != marks[1] && marks[1] != marks[2] && marks[0] != marks[2]);
}
