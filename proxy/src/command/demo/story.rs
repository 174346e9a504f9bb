//! What happens, in order, and what must come of it.

use std::io;
use std::time::{Duration, Instant};

use super::client::{Feed, Outcome, call, send};
use super::narrator::Narrator;
use super::pods::{Pod, Pods};
use super::process::{Edition, Proxy};
use super::server;

const ALLOWED: Outcome = Outcome::Status(200);
const REFUSED: Outcome = Outcome::Status(403);

/// Tells the story; false if anything in it went otherwise.
pub(super) fn tell(narrator: &Narrator, pods: &Pods, proxy: &Proxy) -> io::Result<bool> {
    let seen = server::serve(pods.listen()?)?;
    let stage = Stage { narrator, pods, proxy };
    let mut fine = true;

    narrator.chapter("The stage");
    narrator.say("Pod `orders` serves HTTP. Pod `web` is its client. Pod `attacker` was taken over by somebody.");
    narrator.say(&format!(
        "All of them live in {}, which an old rule trusts. Eastwall stands in front of `orders` with this policy:",
        pods.network()
    ));
    narrator.quote(&proxy.text(Edition { place_orders: false, feed: true }));

    narrator.chapter("What `web` was given, it may do");
    fine &= stage.request(Pod::Web, "GET", "/orders/7", &ALLOWED);
    fine &= stage.request(Pod::Web, "DELETE", "/orders/7", &REFUSED);
    fine &= stage.request(Pod::Web, "GET", "/admin", &REFUSED);

    narrator.chapter("A trusted address is not an identity");
    narrator.say("An address of the old network that nobody registered gets what the old rule names, and no more:");
    fine &= stage.request(Pod::Stranger, "GET", "/report", &ALLOWED);
    fine &= stage.request(Pod::Stranger, "GET", "/orders/7", &REFUSED);
    narrator.say("`attacker` sits in that network too, but it is a registered workload, and nobody gave it anything:");
    let before = seen.connections();
    fine &= stage.request(Pod::Attacker, "GET", "/report", &REFUSED);
    fine &= stage.request(Pod::Attacker, "GET", "/orders/7", &REFUSED);
    fine &= stage.request(Pod::Attacker, "POST", "/orders", &REFUSED);
    let ssh = send(pods, Pod::Attacker, b"SSH-2.0-OpenSSH_9.2p1\r\n");
    fine &= stage.check("attacker: SSH to the HTTP port", &ssh, !matches!(ssh, Outcome::Status(200..=299)));
    let reached = seen.connections() - before;
    fine &= stage.check("what `orders` saw of all that", &format!("{reached} connections"), reached == 0);
    if let Some(line) = proxy.log_line(&["attacker", "\"deny\"", "/orders/7"]) {
        narrator.say("Every refusal is in the access log, with the policy and the place of its text:");
        narrator.quote(&line);
    } else {
        fine &= stage.check("the access log has the refusal", &"nothing", false);
    }

    narrator.chapter("Tricks");
    fine &= stage.request(Pod::Web, "GET", "/orders/../admin", &REFUSED);
    fine &= stage.request(Pod::Web, "GET", "/orders/%2e%2e/admin", &REFUSED);
    fine &= stage.request(Pod::Web, "GET", "/orders%2F7", &Outcome::Status(400));
    let smuggled = b"GET /orders/7 HTTP/1.1\r\nHost: orders.shop\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\n\r\n";
    let smuggled = send(pods, Pod::Web, smuggled);
    fine &= stage.check("web: a request hidden in another's body", &smuggled, smuggled == Outcome::Status(400));

    narrator.chapter("A policy edit takes effect live");
    fine &= stage.request(Pod::Web, "POST", "/orders", &REFUSED);
    let written = Instant::now();
    proxy.write(Edition { place_orders: true, feed: true })?;
    let took = wait_until(|| call(pods, Pod::Web, "POST", "/orders") == Outcome::Status(201), written);
    let told =
        took.map_or("never".to_owned(), |took| format!("201, {} ms after the file was written", took.as_millis()));
    fine &= stage.check("web: POST /orders, with a rule for it", &told, took.is_some());

    narrator.chapter("An open connection is cut");
    let feed = Feed::open(pods, Pod::Web)?;
    fine &= stage.check("web: GET /feed, an answer without end", &"open", true);
    let written = Instant::now();
    proxy.write(Edition { place_orders: true, feed: false })?;
    let cut = feed.wait_for_the_cut(written);
    let told = cut.as_ref().map_or("still open".to_owned(), |(took, how)| {
        format!("{how}, {} ms after its rule was removed", took.as_millis())
    });
    fine &= stage.check("the feed", &told, cut.is_some());

    narrator.chapter("What was counted");
    narrator.quote(&proxy.counters(&[
        "eastwall_requests_total",
        "eastwall_policy_generation",
        "eastwall_policy_reloads_total",
    ])?);
    narrator.say("And what `orders` saw, with the address that it saw:");
    for (address, line) in seen.requests() {
        narrator.quote(&format!("{address} {line}"));
    }
    Ok(fine)
}

/// Says how to go on by hand.
pub(super) fn invite(narrator: &Narrator, pods: &Pods, proxy: &Proxy) {
    narrator.chapter("It is all still running");
    match pods.gateway() {
        Some(gateway) => {
            for pod in [Pod::Web, Pod::Attacker] {
                narrator.say(&format!(
                    "curl -i --interface {} http://{gateway}/orders/7    (as `{}`)",
                    pods.address(pod),
                    pod.name()
                ));
            }
        }
        None => {
            for pod in [Pod::Web, Pod::Attacker] {
                narrator.say(&format!(
                    "ip netns exec {} curl -i http://{}/orders/7",
                    pods.namespace(pod),
                    pods.orders()
                ));
            }
        }
    }
    narrator.say(&format!("edit {}", proxy.policy_path().display()));
    narrator.say(&format!("curl http://{}/metrics", proxy.admin_address()));
    narrator.say("Ctrl-C ends it and cleans up.");
}

struct Stage<'a> {
    narrator: &'a Narrator,
    pods: &'a Pods,
    proxy: &'a Proxy,
}

impl Stage<'_> {
    fn request(&self, from: Pod, method: &str, path: &str, expected: &Outcome) -> bool {
        let outcome = call(self.pods, from, method, path);
        self.check(&format!("{}: {method} {path}", from.name()), &outcome, outcome == *expected)
    }

    fn check(&self, what: &str, outcome: &impl ToString, as_expected: bool) -> bool {
        self.narrator.tried(what, &outcome.to_string(), as_expected);
        if !as_expected && let Some(line) = self.proxy.log_line(&["{"]) {
            self.narrator.quote(&line);
        }
        as_expected
    }
}

/// Tries until it holds, for five seconds at most; how long it took since `start`.
fn wait_until(mut holds: impl FnMut() -> bool, start: Instant) -> Option<Duration> {
    while start.elapsed() < Duration::from_secs(5) {
        if holds() {
            return Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}
