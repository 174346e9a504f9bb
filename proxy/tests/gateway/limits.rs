//! Every bound holds, and says which one it was.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{ATTACKER, Answer, CLERK, Gateway, ORDERS, WEB, backend, http_backend, usual};

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
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while serves(WEB).is_none() {
        assert!(std::time::Instant::now() < end, "places come back");
    }
}

/// Attack 45.
#[test]
fn a_frame_of_http2_that_never_ends_is_timed_out_and_an_idle_connection_is_not() {
    let (address, _) = http_backend();
    let start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for unfinished in [&b"\0\0\x01\x01\x01\0\0\0\x01\x82"[..], b"\0\0\x08\x06", b"\0\0\x08\x06\0\0\0\0\0half"] {
        let gateway = Gateway::with(&usual(), address, "http", &["--head-timeout", "300ms"]);
        let mut idle = gateway.connect(WEB);
        idle.write_all(start).unwrap();
        let mut slow = gateway.connect(WEB);
        slow.write_all(start).unwrap();
        slow.write_all(unfinished).unwrap();
        // A reset is an end as well; what is still open has a read that fails in time.
        let end = slow.read_to_end(&mut Vec::new());
        assert!(!matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "still open");
        gateway.wait_for_refusal("head-timeout");
        idle.write_all(b"\0\0\x08\x06\0\0\0\0\0pingpong").unwrap();
        let mut reader = BufReader::new(idle);
        let mut seen = Vec::new();
        while !seen.ends_with(b"pingpong") {
            assert!(reader.read_until(b'g', &mut seen).unwrap() > 0, "an idle connection lives");
        }
    }
}

#[test]
fn an_upstream_that_does_not_answer_is_given_up() {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::new(ORDERS, 0).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    // Until its queue is full.
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(stream);
    }
    let gateway = Gateway::with(&usual(), address, "http", &["--connect-timeout", "300ms"]);
    let answer = gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 1);
    assert_eq!(answer[0].status, 502);
    gateway.wait_for_refusal("connect-timeout");
}

#[test]
fn the_body_of_a_refused_request_is_thrown_away_within_a_bound() {
    let (address, record) = http_backend();
    let gateway = Gateway::with(&usual(), address, "http", &["--body-drain", "50"]);
    for (length, answers) in [(50, 2), (51, 1)] {
        let refused = format!("POST /denied HTTP/1.1\r\nHost: orders\r\nContent-Length: {length}\r\n\r\n");
        let bytes = format!("{refused}{}{refused}{}", "a".repeat(length), "a".repeat(length));
        assert_eq!(gateway.ask(WEB, bytes.as_bytes(), 2).len(), answers, "{length}");
    }
    assert_eq!(record.connections(), 0);
}

#[test]
fn idle_upstreams_are_kept_in_bounded_numbers() {
    let twice = b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n".repeat(2);
    for (flags, connections) in [(&[][..], 1), (&["--pooled", "0"], 2)] {
        let (address, record) = http_backend();
        let gateway = Gateway::with(&usual(), address, "http", flags);
        assert_eq!(gateway.ask(WEB, &twice, 2).len(), 2);
        assert_eq!(record.connections(), connections, "{flags:?}");
    }
}

#[test]
fn an_idle_upstream_is_closed_in_time() {
    let (told, ended) = std::sync::mpsc::channel();
    let (address, _) = backend(move |mut peer| {
        let mut head = [0; 1024];
        while peer.read(&mut head).is_ok_and(|length| length > 0) {
            peer.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
        told.send(()).unwrap();
    });
    let gateway = Gateway::with(&usual(), address, "http", &["--pool-idle-timeout", "200ms"]);
    let mut reader = BufReader::new(gateway.connect(WEB));
    reader.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    assert_eq!(Answer::read(&mut reader, false).unwrap().status, 200);
    ended.recv_timeout(Duration::from_secs(15)).unwrap();
}
