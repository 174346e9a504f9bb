//! Changes that come one after the other.

use std::sync::Weak;

use super::*;

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
