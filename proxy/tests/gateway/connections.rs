//! Connections that are judged as a whole, and bytes that are not what the port says.

use std::io::{Read, Write};

use crate::harness::{ATTACKER, Gateway, WEB, backend, http_backend, policy, usual};

/// A ClientHello with this server name, as any client sends it.
fn client_hello(name: &str) -> Vec<u8> {
    let name = name.as_bytes();
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
    let entry = [&[0][..], &length(name), name].concat();
    let list = [&length(&entry)[..], &entry].concat();
    let extension = [&[0, 0][..], &length(&list), &list].concat();
    let mut body = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    body.extend(length(&extension));
    body.extend(extension);
    let message = [&[1, 0][..], &length(&body), &body].concat();
    [&[22, 3, 1][..], &length(&message), &message].concat()
}

#[test]
fn other_protocols_reach_nothing_on_an_http_port() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let tls = client_hello("orders");
    for from in [ATTACKER, WEB] {
        for bytes in
            [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x00\x00\x00\x08\x04\xd2\x16\x2f", &tls, b"*1\r\n$4\r\nPING\r\n"]
        {
            let mut stream = gateway.connect(from);
            stream.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            if bytes == tls {
                assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49], "access_denied");
            } else {
                assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
            }
        }
    }
    assert_eq!(record.connections(), 0);
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    let (address, _) = backend(|mut peer| {
        peer.stream.write_all(b"220 ready\r\n").unwrap();
        let mut line = [0; 4];
        peer.read_exact(&mut line).unwrap();
        peer.stream.write_all(&line).unwrap();
    });
    let rules =
        policy(&format!("  - {{name: mail, from: [{{serviceAccount: web}}], ports: [{}], tcp: {{}}}}", address.port()));
    // With a detection bound that would be seen.
    let gateway = Gateway::with(&rules, address, "", &["--detect-timeout", "1h"]);
    let mut stream = gateway.connect(WEB);
    let mut banner = [0; 11];
    stream.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"220 ready\r\n");
    stream.write_all(b"EHLO").unwrap();
    let mut echo = Vec::new();
    stream.read_to_end(&mut echo).unwrap();
    assert_eq!(echo, b"EHLO");
    let mut denied = gateway.connect(ATTACKER);
    denied.write_all(b"x").unwrap();
    drop(gateway);
    assert!(denied.read(&mut [0]).map_or(true, |length| length == 0));
}

#[test]
fn tls_is_judged_by_its_server_name() {
    let (address, record) = backend(|mut peer| {
        let mut hello = [0; 16];
        peer.read_exact(&mut hello).unwrap();
        peer.stream.write_all(b"server hello").unwrap();
        let _ = std::io::copy(&mut peer, &mut std::io::sink());
    });
    let rules = policy(&format!(
        "  - {{name: tls, from: [{{serviceAccount: web}}], ports: [{}], tls: [{{serverNames: [\"*.shop.test\"]}}]}}",
        address.port()
    ));
    for port_name in ["", "tls"] {
        let gateway = Gateway::with(&rules, address, port_name, &[]);
        let mut stream = gateway.connect(WEB);
        let hello = client_hello("Orders.Shop.Test");
        let (one, two) = hello.split_at(30);
        stream.write_all(one).unwrap();
        stream.write_all(two).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"server hello");
        record.wait_for(|record| record.bytes().ends_with(&hello));
        let before = record.connections();
        for name in ["other.test", "a.b.shop.test"] {
            let mut stream = gateway.connect(WEB);
            stream.write_all(&client_hello(name)).unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49], "{name}");
        }
        assert_eq!(record.connections(), before);
    }
}

#[test]
fn a_timeout_never_turns_inspection_into_opacity() {
    let (address, record) = backend(|_| {});
    let rules = policy(&format!(
        "  - {{name: web, from: [{{serviceAccount: web}}], ports: [{}], http: [{{methods: [GET], paths: [\"/**\"]}}]}}",
        address.port()
    ));
    let gateway = Gateway::with(&rules, address, "", &["--detect-timeout", "100ms"]);
    let mut stream = gateway.connect(WEB);
    assert!(stream.read(&mut [0]).map_or(true, |length| length == 0), "cut without a word");
    let mut half = gateway.connect(WEB);
    half.write_all(b"GE").unwrap();
    assert!(half.read(&mut [0]).map_or(true, |length| length == 0), "cut after half a word");
    gateway.wait_for_refusal("detect-timeout");
    assert_eq!(record.connections(), 0);
}

#[test]
fn an_undeclared_port_with_http_rules_finds_out() {
    let (address, record) = http_backend();
    let rules = policy(&format!(
        "  - {{name: web, from: [{{serviceAccount: web}}], ports: [{}], http: [{{methods: [GET], paths: [\"/**\"]}}]}}",
        address.port()
    ));
    let gateway = Gateway::with(&rules, address, "", &[]);
    assert_eq!(gateway.ask(WEB, b"GET /a HTTP/1.1\r\nHost: orders\r\n\r\n", 1)[0].status, 200);
    assert_eq!(gateway.ask(WEB, b"PUT /a HTTP/1.1\r\nHost: orders\r\n\r\n", 1)[0].status, 403);
    assert_eq!(gateway.ask(ATTACKER, b"GET /a HTTP/1.1\r\nHost: orders\r\n\r\n", 1)[0].status, 403);
    assert_eq!(record.connections(), 1);
}

#[test]
fn a_declared_protocol_is_enforced_whatever_the_rules_say() {
    let (address, record) = http_backend();
    let rules = policy(&format!(
        "  - {{name: web, from: [{{serviceAccount: web}}], ports: [{}], http: [{{methods: [GET], paths: [\"/**\"]}}]}}",
        address.port()
    ));
    let http1 = &b"GET /a HTTP/1.1\r\nHost: orders\r\n\r\n"[..];
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (name, bytes) in [("https", http1), ("tls", http1), ("tls", http2)] {
        let gateway = Gateway::with(&rules, address, name, &[]);
        let mut stream = gateway.connect(WEB);
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{name}: {answer:?}");
        gateway.wait_for_metric("eastwall_alerts_total{kind=\"protocol-mismatch\"}");
        gateway.wait_for_log("\"reason\":\"protocol-mismatch\"");
    }
    assert_eq!(record.connections(), 0);
}

#[test]
fn a_client_hello_is_bounded() {
    let (address, record) = backend(|mut peer| {
        let _ = std::io::copy(&mut peer, &mut std::io::sink());
    });
    let rules = policy(&format!(
        "  - {{name: tls, from: [{{serviceAccount: web}}], ports: [{}], tls: [{{serverNames: [\"*.shop.test\"]}}]}}",
        address.port()
    ));
    let gateway = Gateway::with(&rules, address, "tls", &["--hello-bytes", "100"]);
    let short = client_hello("orders.shop.test");
    let mut passes = gateway.connect(WEB);
    passes.write_all(&short).unwrap();
    record.wait_for(|record| record.bytes() == short);
    let mut long = gateway.connect(WEB);
    long.write_all(&client_hello(&format!("{}.shop.test", "a".repeat(60)))).unwrap();
    let mut answer = Vec::new();
    let _ = long.read_to_end(&mut answer);
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 49], "access_denied");
    gateway.wait_for_refusal("hello-bytes");
    assert_eq!(record.connections(), 1);
}

/// A workloads file that does not know the upstream protects nobody behind the gateway: nothing reaches it.
#[test]
fn nothing_passes_to_an_upstream_that_nobody_registered() {
    let upstream = std::net::TcpListener::bind("127.0.0.99:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let gateway = Gateway::start(&usual(), upstream.local_addr().unwrap());
    for from in [WEB, ATTACKER] {
        let mut stream = gateway.connect(from);
        let _ = stream.write_all(b"GET /orders/7 HTTP/1.1\r\nhost: orders\r\n\r\n");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 403"), "{answer:?}");
    }
    assert_eq!(upstream.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "no byte, no connection");
    // The writer has a thread of its own.
    while !gateway.log().contains("\"reason\":\"unregistered\"") {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
