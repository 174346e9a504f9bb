//! Changes that come one after the other, on a core that has other work.

use std::fmt::Write as _;
use std::sync::{Arc, Weak};

use eastwall_policy::world::World;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::*;

/// Many rules of `orders`, and one that lets `web` read `path`.
fn many(rules: usize, path: &str) -> String {
    let mut text = policy("orders", path);
    for number in 0..rules {
        writeln!(
            text,
            "  - {{name: r{number}, from: [{{serviceAccount: web}}], http: [{{methods: [GET], paths: [/r/{number}]}}]}}"
        )
        .unwrap();
    }
    text
}

/// Holds this thread, and those that it starts, to the first core that it may run on.
fn stay_on_one_core() {
    let allowed = sched_getaffinity(None).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|core| allowed.is_set(*core)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).unwrap();
}

#[test]
fn a_change_is_enforced_on_a_core_that_is_never_idle() {
    let on_one_core = || {
        stay_on_one_core();
        let site = Site::with(&[("a.yaml", &many(RULES, "/v1"))]);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let began = Instant::now();
            site.write("a.yaml", &many(RULES, "/v2"));
            site.until("the next version is in force", |site| site.allows("/v2"));
            let took = began.elapsed();
            stop.store(true, Ordering::Relaxed);
            assert!(!site.allows("/v1"), "what is no longer allowed is denied");
            took
        })
    };
    let took = std::thread::spawn(on_one_core).join().unwrap();
    assert!(took < BOUND, "a change is held back by other work of the core: {took:?}");
}

const RULES: usize = 500;
const BOUND: Duration = Duration::from_secs(15);

#[test]
fn a_world_is_freed_by_the_thread_that_made_it_and_soon() {
    let site = Site::with(&[("a.yaml", &policy("orders", "/v0"))]);
    let mut former: Vec<Weak<World>> = Vec::new();
    for version in 1..5 {
        let held = site.live.load();
        site.write("a.yaml", &policy("orders", &format!("/v{version}")));
        site.until("the next version is in force", |site| site.allows(&format!("/v{version}")));
        assert!(Arc::strong_count(&held) > 1, "a connection that lets go of it last does not free it");
        former.push(Arc::downgrade(&held));
    }
    site.until("no former world is left", |_| former.iter().all(|world| world.strong_count() == 0));
}
