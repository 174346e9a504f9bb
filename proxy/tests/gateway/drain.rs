//! SIGTERM: what is in flight ends with its answer, nothing new begins, exit 0.

use std::io::{BufReader, Write};
use std::sync::mpsc;

use crate::harness::{Answer, Gateway, WEB, backend, read_head, usual};

#[test]
fn in_flight_requests_end_with_their_answer() {
    let (go, gate) = mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    let (address, record) = backend(move |peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        while read_head(&mut reader).is_some() {
            gate.lock().unwrap().recv().unwrap();
            out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
        }
    });
    let mut gateway = Gateway::start(&usual(), address);
    let idle = gateway.connect(WEB);
    let mut busy = BufReader::new(gateway.connect(WEB));
    busy.get_mut().write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    record.wait_for(|record| record.text().ends_with("\r\n\r\n"));
    gateway.signal(rustix::process::Signal::TERM);
    assert!(Answer::read(&mut BufReader::new(idle), false).is_none(), "an idle connection ends");
    while gateway.try_connect(WEB).is_ok() {
        // Its listeners close worker by worker.
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    let answer = Answer::read(&mut busy, false).unwrap();
    assert_eq!((answer.status, answer.body), (200, b"done".to_vec()));
    assert!(Answer::read(&mut busy, false).is_none());
    assert_eq!(gateway.wait(), Some(0));
    assert_eq!(gateway.log().lines().count(), 1, "the last line is written");
}

#[test]
fn what_does_not_end_in_time_is_cut() {
    let (address, record) = backend(|mut peer| {
        let _ = std::io::copy(&mut peer, &mut std::io::sink());
    });
    let mut gateway = Gateway::with(&usual(), address, "http", &["--drain", "200ms"]);
    let mut busy = gateway.connect(WEB);
    busy.write_all(b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\n\r\n").unwrap();
    record.wait_for(|record| record.text().ends_with("\r\n\r\n"));
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.wait(), Some(0));
}
