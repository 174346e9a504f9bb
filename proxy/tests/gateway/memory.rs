//! What a change no longer needs goes back to the system, though nobody asks for anything.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, WEB, http_backend, policy, usual};

#[test]
fn rules_that_are_gone_take_no_memory() {
    let (address, _) = http_backend();
    let mut many = String::new();
    for index in 0..5_000 {
        let web = "from: [{serviceAccount: web}]";
        writeln!(many, "  - {{name: r{index}, {web}, http: [{{methods: [GET], paths: [/p/{index}]}}]}}").unwrap();
    }
    let gateway = Gateway::start(&policy(&many), address);
    let with_many = gateway.own_memory();
    gateway.rewrite(&usual());
    let end = Instant::now() + Duration::from_secs(20);
    while gateway.ask(WEB, b"GET /orders/1 HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n", 1)[0].status != 200 {
        assert!(Instant::now() < end, "two rules are not in force");
    }
    // The rules before the last ones may be kept until these are replaced.
    gateway.rewrite(&policy("  - {name: none, from: [{serviceAccount: web}]}"));
    // Left alone, the allocator would keep it for ten seconds, and then until somebody allocates.
    let end = Instant::now() + Duration::from_secs(8);
    while gateway.own_memory() > with_many / 2 {
        assert!(Instant::now() < end, "{with_many} kB with 5,000 rules, {} kB with one", gateway.own_memory());
        std::thread::sleep(Duration::from_millis(20));
    }
}
