//! Every bound holds, and says which one it was.

use std::io::{BufReader, Read, Write};

use crate::harness::{ATTACKER, Answer, CLERK, Gateway, WEB, http_backend, usual};

#[test]
fn heads_are_bounded_in_bytes_and_lines() {
    let (address, record) = http_backend();
    let gateway = Gateway::start(&usual(), address);
    let start = "GET /orders/1 HTTP/1.1\r\nHost: orders\r\n";
    let large = format!("{start}X-A: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("{start}{}\r\n", "X-A: b\r\n".repeat(10_000));
    for bytes in [large, many] {
        let mut stream = gateway.connect(WEB);
        // The rest may meet a connection that has said its word.
        let _ = stream.write_all(bytes.as_bytes());
        assert_eq!(Answer::read(&mut BufReader::new(stream), false).unwrap().status, 431);
    }
    assert_eq!(record.connections(), 0);
    assert!(gateway.ask(WEB, format!("{start}\r\n").as_bytes(), 1)[0].status == 200);
}

#[test]
fn a_head_that_never_ends_is_timed_out_and_an_idle_connection_is_not() {
    let (address, _) = http_backend();
    let gateway = Gateway::with(&usual(), address, "http", &["--head-timeout", "300ms"]);
    let idle = gateway.connect(WEB);
    let mut slow = gateway.connect(WEB);
    slow.write_all(b"GET /orders/1 HTTP/1.1\r\nHost: or").unwrap();
    let mut reader = BufReader::new(slow);
    let answer = Answer::read(&mut reader, false).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    let mut idle = BufReader::new(idle);
    idle.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut idle, false).unwrap().status, 200, "a pre-warmed connection lives");
}

#[test]
fn silence_ends_a_connection() {
    let (address, _) = http_backend();
    let gateway = Gateway::with(&usual(), address, "http", &["--idle-timeout", "300ms"]);
    let mut never_spoke = gateway.connect(WEB);
    let mut reader = BufReader::new(gateway.connect(WEB));
    reader.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut reader, false).unwrap().status, 200);
    assert!(Answer::read(&mut reader, false).is_none());
    assert_eq!(never_spoke.read(&mut [0]).unwrap(), 0);
}

#[test]
fn connections_are_bounded_in_all_and_for_each_source() {
    let (address, _) = http_backend();
    let gateway = Gateway::with(&usual(), address, "http", &["--connections", "5", "--connections-per-source", "2"]);
    let serves = |from| {
        let mut reader = BufReader::new(gateway.connect(from));
        let sent = reader.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n");
        let mut first = [0];
        (sent.is_ok() && reader.read(&mut first).is_ok_and(|length| length == 1)).then_some(reader)
    };
    let held: Vec<_> = [WEB, WEB, CLERK, CLERK].into_iter().map(|from| serves(from).unwrap()).collect();
    assert!(serves(WEB).is_none(), "a third of one source");
    let fifth = serves(ATTACKER).unwrap();
    assert!(serves(ATTACKER).is_none(), "a sixth in all");
    drop(fifth);
    drop(held);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while serves(WEB).is_none() {
        assert!(std::time::Instant::now() < end, "places come back");
    }
}
