//! Upgrades: nothing passes before the upstream has switched, and nothing is parsed after it.

use std::io::{BufReader, Read, Write};
use std::sync::mpsc;

use crate::harness::{Answer, Gateway, WEB, backend, read_head, usual};

const UPGRADE: &str =
    "GET /feed HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";

/// Attacks 33 and 38.
#[test]
fn nothing_passes_before_101_and_everything_after_it() {
    let (go, gate) = mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    let (address, record) = backend(move |peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        read_head(&mut reader).unwrap();
        gate.lock().unwrap().recv().unwrap();
        out.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nwelcome")
            .unwrap();
        let mut got = Vec::new();
        reader.read_to_end(&mut got).unwrap();
        out.write_all(&got).unwrap();
    });
    let gateway = Gateway::start(&usual(), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    let early = "DELETE /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n";
    write!(reader.get_mut(), "{UPGRADE}{early}").unwrap();
    record.wait_for(|record| record.text().ends_with("\r\n\r\n"));
    assert!(!record.text().contains("DELETE"), "{}", record.text());
    go.send(()).unwrap();
    assert_eq!(Answer::read(&mut reader, false).unwrap().status, 101);
    let mut welcome = [0; 7];
    reader.read_exact(&mut welcome).unwrap();
    assert_eq!(&welcome, b"welcome");
    reader.get_mut().write_all(b"\x81\x05frame").unwrap();
    reader.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    let mut echoed = Vec::new();
    reader.read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed, [early.as_bytes(), b"\x81\x05frame"].concat());
}

/// Attack 33: without 101, what follows is the next request and judged as one.
#[test]
fn without_101_what_follows_is_the_next_request() {
    let (address, record) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        while read_head(&mut reader).is_some() {
            out.write_all(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let gateway = Gateway::start(&usual(), address);
    let bytes = format!("{UPGRADE}DELETE /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n");
    let answers = gateway.ask(WEB, bytes.as_bytes(), 2);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [426, 403]);
    assert!(!record.text().contains("DELETE"));
}

#[test]
fn an_upgrade_needs_a_rule_that_permits_it() {
    let (address, record) = backend(|_| {});
    let gateway = Gateway::start(&usual(), address);
    let answers = gateway.ask(WEB, UPGRADE.replace("/feed", "/orders/1").as_bytes(), 1);
    assert_eq!(answers[0].status, 403);
    let connect = b"CONNECT orders:80 HTTP/1.1\r\nHost: orders:80\r\n\r\n";
    assert_eq!(gateway.ask(WEB, connect, 1)[0].status, 403);
    assert_eq!(record.connections(), 0);
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_bad_gateway() {
    let (address, _) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        read_head(&mut BufReader::new(peer)).unwrap();
        out.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n").unwrap();
    });
    let gateway = Gateway::start(&usual(), address);
    assert_eq!(gateway.ask(WEB, UPGRADE.as_bytes(), 1)[0].status, 502);
}
