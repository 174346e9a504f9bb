//! A rule is removed: what lived by it is cut, what did not goes on.

use std::io::{BufReader, ErrorKind, Read, Write};

use crate::harness::{Answer, Gateway, WEB, backend, header, http_backend, policy, read_head};

const READS: &str =
    "  - {name: reads, from: [{serviceAccount: web}], http: [{methods: [GET], paths: [\"/orders/{id}\"]}]}";
const FEED: &str = "\n  - {name: feed, from: [{serviceAccount: web}], http: [{paths: [/feed], upgrades: [websocket]}]}";

/// The end that a reset makes.
fn is_reset(result: &std::io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

#[test]
fn a_websocket_is_cut_and_requests_that_both_allow_go_on() {
    let (address, _) = backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        while let Some(head) = read_head(&mut reader) {
            if header(&head, "upgrade").is_some() {
                out.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                    .unwrap();
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                return;
            }
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let gateway = Gateway::start(&policy(&[READS, FEED].concat()), address);
    let mut reader = BufReader::new(gateway.connect(WEB));
    let mut ask = || {
        reader.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
        Answer::read(&mut reader, false).unwrap().status
    };
    assert_eq!(ask(), 200);
    let mut feed = BufReader::new(gateway.connect(WEB));
    let upgrade = "GET /feed HTTP/1.1\r\nHost: orders\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    feed.get_mut().write_all(upgrade.as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut feed, false).unwrap().status, 101);
    gateway.rewrite(&policy(READS));
    let end = feed.read(&mut [0]);
    assert!(is_reset(&end), "{end:?}");
    assert_eq!(ask(), 200);
}

#[test]
fn a_request_under_way_and_an_idle_connection_are_cut() {
    let (address, record) = backend(|mut peer| {
        let _ = std::io::copy(&mut peer, &mut std::io::sink());
    });
    let gateway = Gateway::start(&policy(READS), address);
    let mut idle = gateway.connect(WEB);
    let mut busy = gateway.connect(WEB);
    idle.write_all(b"GET /denied HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    let mut idle = BufReader::new(idle);
    assert_eq!(Answer::read(&mut idle, false).unwrap().status, 403);
    busy.write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    record.wait_for(|record| record.text().ends_with("\r\n\r\n"));
    gateway.rewrite(&policy(READS).replace("web", "clerk"));
    for end in [busy.read(&mut [0]), idle.read(&mut [0])] {
        assert!(is_reset(&end), "{end:?}");
    }
    let again = gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 1);
    assert_eq!(again[0].status, 403);
}

#[test]
fn a_connection_that_never_spoke_is_cut() {
    let (address, _) = http_backend();
    let gateway = Gateway::start(&policy(READS), address);
    let mut silent = gateway.connect(WEB);
    // Connections are accepted in order: once a later one is answered, this one waits for its first byte.
    assert_eq!(gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n", 1)[0].status, 200);
    gateway.rewrite(&policy(READS).replace("web", "clerk"));
    let end = silent.read(&mut [0]);
    assert!(is_reset(&end), "{end:?}");
}

#[test]
fn opaque_bytes_are_cut_when_no_longer_allowed_or_no_longer_unseen() {
    let (address, _) = backend(|mut peer| {
        peer.stream.write_all(b"ready").unwrap();
        let _ = std::io::copy(&mut peer, &mut std::io::sink());
    });
    let rule = |what: &str| {
        policy(&format!("  - {{name: x, from: [{{serviceAccount: web}}], ports: [{}], {what}}}", address.port()))
    };
    for after in [rule("tcp: {}").replace("web", "clerk"), rule("http: [{methods: [GET]}]")] {
        let gateway = Gateway::with(&rule("tcp: {}"), address, "", &[]);
        let mut stream = gateway.connect(WEB);
        stream.read_exact(&mut [0; 5]).unwrap();
        gateway.rewrite(&after);
        let end = stream.read(&mut [0]);
        assert!(is_reset(&end), "{end:?}");
    }
}

#[test]
fn an_idle_http2_connection_is_cut() {
    let (address, _) = backend(|_| {});
    let gateway = Gateway::start(&policy(READS), address);
    let mut stream = gateway.connect(WEB);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut settings = [0; 9];
    stream.read_exact(&mut settings).unwrap();
    gateway.rewrite(&policy(&READS.replace("serviceAccount: web", "serviceAccount: clerk")));
    let mut space = [0; 1024];
    let end = loop {
        match stream.read(&mut space) {
            Ok(1..) => {}
            end => break end,
        }
    };
    assert!(is_reset(&end), "{end:?}");
}

#[test]
fn an_idle_http2_connection_does_not_hold_up_the_measurement() {
    let (address, _) = backend(|_| {});
    let gateway = Gateway::start(&policy(READS), address);
    let mut stream = gateway.connect(WEB);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    stream.read_exact(&mut [0; 9]).unwrap();
    let measured = gateway.metric("eastwall_revocation_seconds_count");
    gateway.rewrite(&policy(&[READS, FEED].concat()));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while gateway.metric("eastwall_revocation_seconds_count") <= measured {
        assert!(std::time::Instant::now() < end, "the swap is not measured while the connection is open");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
