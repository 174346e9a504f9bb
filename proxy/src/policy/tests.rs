//! The sources as people and machines change them, with the real watcher.

mod churn;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eastwall_policy::facts::{Connection, Direction, Protocol, Request, Transport};
use eastwall_policy::model::Model;
use eastwall_policy::verdict::{Action, Reason, Verdict};
use eastwall_policy::world::World;

use super::maker::Maker;
use super::{Live, Origin, Outcome, Reloader, start};
use crate::observe::{Destination, LogWriter, Recorder};

struct Site {
    folder: tempfile::TempDir,
    live: Arc<Live>,
    reloader: Reloader,
    recorder: Recorder,
    _writer: LogWriter,
}

/// A policy of `orders` that lets `web` read one path.
fn policy(name: &str, path: &str) -> String {
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         subject: [{{serviceAccount: orders}}]\n  ingress:\n  - {{name: reads, from: [{{serviceAccount: web}}], \
         ports: [80], http: [{{methods: [GET], paths: [{path}]}}]}}\n"
    )
}

const WORKLOADS: &str = "\
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2], ports: [{name: http, port: 80}]}
";

impl Site {
    /// Writes `prepare`'s files and starts on `policies`.
    fn start(prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("workloads.yaml"), WORKLOADS).unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        prepare(&folder.path().join("policies"));
        let (recorder, writer) = Recorder::start(Destination::Off).unwrap();
        let origin = Origin {
            policies: vec![folder.path().join("policies")],
            workloads: Some(folder.path().join("workloads.yaml")),
            upstream: None,
            start_closed: true,
            bounds: eastwall_policy::source::Bounds::default(),
            controller: None,
        };
        let (live, reloader) = start(origin, &recorder).unwrap();
        Self { folder, live, reloader, recorder, _writer: writer }
    }

    fn with(files: &[(&str, &str)]) -> Self {
        Self::start(|folder| files.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap()))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join("policies").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    fn get(&self, path: &str) -> Verdict {
        get(&self.live, path)
    }

    fn allows(&self, path: &str) -> bool {
        self.get(path).action == Action::Allow
    }

    fn generation(&self) -> u64 {
        self.live.load().generation().number
    }

    /// Asks for a reload and waits for it.
    fn reload(&self) -> Arc<super::Status> {
        self.reloader.reload().blocking_recv().unwrap()
    }

    /// Waits for the watcher to find it out by itself.
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let given_up = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < given_up, "never came: {what}; {:?}", self.reloader.status());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn get(live: &Live, path: &str) -> Verdict {
    let world = live.load();
    let connection = Connection {
        source: world.source([10, 0, 0, 3].into()),
        destination: world.destination([10, 0, 0, 2].into()),
        port: 80,
        transport: Transport::Tcp,
        service: None,
        fqdn: None,
        direction: Some(Direction::Inbound),
    };
    let request = Request::bare(Protocol::Http, b"GET", path.as_bytes(), 0);
    world.request_verdict(&world.flow(&connection), &request)
}

/// Runs `change` while another thread asks for what no version ever allowed, and for nothing to ever be open.
fn never_open(site: &Site, change: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watched = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let verdict = get(&site.live, "/never");
                assert_eq!(verdict.action, Action::Deny, "{verdict:?}");
            }
        });
        change();
        stop.store(true, Ordering::Relaxed);
        watched.join().unwrap();
    });
}

#[test]
fn every_way_of_writing_a_file_is_seen_and_none_opens() {
    type Change = fn(&Site, &str);
    let ways: [(&str, Change); 7] = [
        ("an editor's rename", |site, text| {
            site.write(".a.yaml.swp", text);
            fs::rename(site.at(".a.yaml.swp"), site.at("a.yaml")).unwrap();
        }),
        ("an editor's backup", |site, text| {
            fs::rename(site.at("a.yaml"), site.at("a.yaml~")).unwrap();
            site.write("a.yaml", text);
            fs::remove_file(site.at("a.yaml~")).unwrap();
        }),
        ("written in place", |site, text| site.write("a.yaml", text)),
        ("written in place, slowly", |site, text| {
            let mut file = fs::File::create(site.at("a.yaml")).unwrap();
            for part in text.as_bytes().chunks(40) {
                file.write_all(part).unwrap();
                std::thread::sleep(Duration::from_millis(30));
            }
        }),
        ("deleted and created again", |site, text| {
            fs::remove_file(site.at("a.yaml")).unwrap();
            std::thread::sleep(Duration::from_millis(150));
            site.write("a.yaml", text);
        }),
        ("renamed to another name", |site, text| {
            fs::rename(site.at("a.yaml"), site.at("z.yaml")).unwrap();
            site.write("z.yaml", text);
        }),
        ("the folder replaced", |site, text| {
            let (old, new) = (site.at(""), site.folder.path().join("new"));
            fs::create_dir(&new).unwrap();
            fs::write(new.join("a.yaml"), text).unwrap();
            fs::rename(&old, site.folder.path().join("old")).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            fs::rename(&new, site.folder.path().join("policies")).unwrap();
        }),
    ];
    for (way, change) in ways {
        let site = Site::with(&[("a.yaml", &policy("orders", "/v1"))]);
        assert!(site.allows("/v1"), "{way}");
        never_open(&site, || {
            change(&site, &policy("orders", "/v2"));
            site.until(way, |site| site.allows("/v2") && !site.allows("/v1"));
        });
        // And the watch goes on after it.
        let name = if site.at("z.yaml").exists() { "z.yaml" } else { "a.yaml" };
        site.write(name, &policy("orders", "/v3"));
        site.until(way, |site| site.allows("/v3") && !site.allows("/v2"));
        assert_eq!(site.reload().last_reload.result, Outcome::Unchanged, "{way}");
    }
}

#[test]
fn a_mounted_config_map_is_swapped_whole() {
    let version = |folder: &Path, name: &str, path: &str| {
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("a.yaml"), policy("orders", path)).unwrap();
        symlink(name, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    let site = Site::start(|folder| {
        version(folder, "..2026_01", "/v1");
        symlink("..data/a.yaml", folder.join("a.yaml")).unwrap();
    });
    assert!(site.allows("/v1"));
    never_open(&site, || {
        for (name, path) in [("..2026_02", "/v2"), ("..2026_03", "/v3")] {
            version(&site.at(""), name, path);
            site.until(path, |site| site.allows(path) && !site.allows("/v1"));
        }
    });
}

#[test]
fn a_single_file_inside_a_mounted_config_map_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("workloads.yaml"), WORKLOADS).unwrap();
    for (name, path) in [("..1", "/v1"), ("..2", "/v2")] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("a.yaml"), policy("orders", path)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/a.yaml", at("a.yaml")).unwrap();
    let (recorder, writer) = Recorder::start(Destination::Off).unwrap();
    let origin = Origin {
        policies: vec![at("a.yaml")],
        workloads: Some(at("workloads.yaml")),
        upstream: None,
        start_closed: true,
        bounds: eastwall_policy::source::Bounds::default(),
        controller: None,
    };
    let (live, reloader) = start(origin, &recorder).unwrap();
    let site = Site { live, reloader, recorder, _writer: writer, folder };
    assert!(site.allows("/v1"));
    symlink("..2", site.folder.path().join("..data_tmp")).unwrap();
    fs::rename(site.folder.path().join("..data_tmp"), site.folder.path().join("..data")).unwrap();
    site.until("the second version", |site| site.allows("/v2") && !site.allows("/v1"));
}

#[test]
fn a_bad_document_keeps_its_last_good_version_and_holds_nobody_back() {
    let site = Site::with(&[("a.yaml", &policy("one", "/a1")), ("b.yaml", &policy("two", "/b1"))]);
    for bad in [
        policy("one", "/a2").replace("methods", "method"),
        "kind: [\n".to_owned(),
        String::new(),
        "\u{0}\u{1}".to_owned(),
        policy("one", "/a2").replace("paths", "paths: [/x], paths"),
    ] {
        never_open(&site, || {
            site.write("a.yaml", &bad);
            site.write("b.yaml", &policy("two", "/b2"));
            site.until("the neighbour", |site| site.allows("/b2"));
            let status = site.reload();
            assert!(site.allows("/a1") && !site.allows("/a2") && !site.allows("/b1"), "{bad:?}");
            assert!(!status.errors.is_empty() || !status.held.is_empty(), "{bad:?}: {status:?}");
            assert!(status.good && status.is_ready(), "the last good version serves: {status:?}");
            assert!(matches!(status.last_reload.result, Outcome::Partial | Outcome::Failure), "{status:?}");
            site.write("a.yaml", &policy("one", "/a1"));
            site.write("b.yaml", &policy("two", "/b1"));
            site.until("both are good again", |site| site.allows("/b1") && site.reload().errors.is_empty());
        });
    }
    let metrics = site.recorder.metrics().render().unwrap();
    assert!(metrics.contains("eastwall_policy_reloads_total{result=\"partial\"}"), "{metrics}");
    assert!(metrics.contains(&format!("eastwall_policy_generation {}", site.generation())), "{metrics}");
}

#[test]
fn junk_that_was_never_good_leaves_the_table_in_force() {
    let site = Site::with(&[("a.yaml", &policy("one", "/a1"))]);
    assert!(site.allows("/a1"), "{:?} {:?}", site.get("/a1"), site.reloader.status());
    let generation = site.generation();
    site.write("junk.yaml", "{{{");
    let status = site.reload();
    assert_eq!(site.generation(), generation, "the same table is the same generation");
    assert!(site.allows("/a1") && !site.allows("/never"));
    assert!(!status.errors.is_empty() && status.is_ready(), "{status:?}");
}

#[test]
fn a_named_document_that_was_never_good_closes_what_it_selects() {
    let site = Site::with(&[]);
    assert!(site.allows("/anything"), "no policy: open");
    site.write("a.yaml", &policy("one", "/a1").replace("methods", "method"));
    site.reload();
    let verdict = site.get("/a1");
    assert_eq!((verdict.action, verdict.reason), (Action::Deny, Reason::BrokenPolicy));
}

#[test]
fn without_a_good_table_everything_is_closed_and_not_ready() {
    let site = Site::with(&[("a.yaml", "{{{")]);
    assert_eq!(site.get("/a1").reason, Reason::NoTable);
    let status = site.reloader.status();
    assert!(!status.good && !status.is_ready() && status.last_reload.result == Outcome::Failure, "{status:?}");
    site.write("a.yaml", &policy("one", "/a1"));
    site.until("the repaired file", |site| site.allows("/a1"));
    site.until("ready", |site| site.reloader.status().is_ready());
    assert!(!site.allows("/never"));
}

#[test]
fn without_a_registry_nothing_passes_at_all() {
    let site = Site::start(|folder| {
        fs::write(folder.join("a.yaml"), policy("one", "/a1")).unwrap();
        fs::remove_file(folder.parent().unwrap().join("workloads.yaml")).unwrap();
    });
    assert_eq!(site.get("/a1").reason, Reason::NoTable);
    assert!(!site.reloader.status().is_ready());
    let workloads = site.folder.path().join("workloads.yaml");
    fs::write(&workloads, WORKLOADS).unwrap();
    site.until("the registry", |site| site.allows("/a1"));
    assert!(!site.allows("/never"));
    // From then on the last good one stays, whatever becomes of the file.
    for bad in ["", "{{{", "- {name: x}\n- {name: [}\n"] {
        fs::write(&workloads, bad).unwrap();
        let status = site.reload();
        assert!(status.workloads.is_some(), "{bad:?}");
        assert!(site.allows("/a1") && !site.allows("/never"), "{bad:?}");
    }
    fs::remove_file(&workloads).unwrap();
    site.reload();
    assert!(site.allows("/a1") && !site.allows("/never"));
    // Another address: the registry alone changes, and the generation with it.
    let generation = site.generation();
    fs::write(&workloads, WORKLOADS.replace("10.0.0.3", "10.0.0.4")).unwrap();
    site.until("the new address", |site| !site.allows("/a1"));
    assert!(site.generation() > generation);
}

#[test]
fn a_change_of_addresses_compiles_no_rule() {
    let site = Site::with(&[("a.yaml", &policy("one", "/a1"))]);
    let before = site.live.load();
    fs::write(site.folder.path().join("workloads.yaml"), WORKLOADS.replace("10.0.0.3", "10.0.0.4")).unwrap();
    site.reload();
    let after = site.live.load();
    assert!(!site.allows("/a1"));
    assert!(std::ptr::eq(before.table(), after.table()), "the table is the same one");
    assert!(after.generation().number > before.generation().number);
    assert_eq!(after.generation().hash, before.generation().hash);
    site.write("a.yaml", &policy("one", "/a2"));
    site.reload();
    assert!(!std::ptr::eq(after.table(), site.live.load().table()));
}

#[test]
fn what_is_deleted_on_purpose_goes_but_not_at_once() {
    let site = Site::with(&[("a.yaml", &policy("one", "/a1")), ("b.yaml", &policy("two", "/b1"))]);
    fs::remove_file(site.at("a.yaml")).unwrap();
    let status = site.reload();
    assert!(site.allows("/a1"), "a file that has just gone may come back");
    assert_eq!(status.held.len(), 1);
    site.until("the deletion", |site| !site.allows("/a1"));
    assert!(site.allows("/b1"), "the neighbour stays");
    fs::remove_file(site.at("b.yaml")).unwrap();
    site.until("the last one's deletion", |site| site.allows("/never"));
    assert_eq!(site.get("/never").reason, Reason::Unprotected);
    site.until("the count of what is open", |site| {
        site.recorder.metrics().render().unwrap().contains("unprotected_workloads{direction=\"inbound\"} 2")
    });
}

#[test]
fn a_path_that_cannot_be_read_keeps_what_it_held() {
    let site = Site::with(&[("a.yaml", &policy("one", "/a1"))]);
    fs::rename(site.at(""), site.folder.path().join("away")).unwrap();
    for _ in 0..3 {
        let status = site.reload();
        assert!(site.allows("/a1") && !site.allows("/never"), "{status:?}");
        assert_eq!(status.held.len(), 1, "{status:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
    fs::rename(site.folder.path().join("away"), site.folder.path().join("policies")).unwrap();
    site.until("the folder is back", |site| site.reload().held.is_empty());
    assert!(site.allows("/a1") && !site.allows("/never"));
}

#[test]
fn an_expired_rule_makes_a_new_generation_and_stays_gone() {
    let soon = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 2).unwrap();
    let text = policy("one", "/a1") + &format!("    expires: \"{soon}\"\n");
    let text = text.replace("- {name: reads, from: [{serviceAccount: web}], ports: [80], http: [{methods: [GET], paths: [/a1]}]}\n",
        "- name: reads\n    from: [{serviceAccount: web}]\n    ports: [80]\n    http: [{methods: [GET], paths: [/a1]}]\n");
    let site = Site::with(&[("a.yaml", &text)]);
    assert!(site.reloader.status().errors.is_empty(), "{:?}", site.reloader.status());
    let generation = site.generation();
    assert!(site.allows("/a1"), "every request here is judged at time 0: only the table can end the rule");
    site.until("the end", |site| !site.allows("/a1"));
    assert!(site.generation() > generation);
    assert_eq!(site.get("/a1").reason, Reason::NoRule, "the policy goes on closing");
    site.reload();
    site.write("a.yaml", &(text + "# touched\n"));
    site.reload();
    assert!(!site.allows("/a1"), "no reload revives it");
}

#[test]
fn a_reload_of_nothing_new_is_no_new_generation() {
    let site = Site::with(&[("a.yaml", &policy("one", "/a1"))]);
    site.reload();
    let generation = site.generation();
    for _ in 0..3 {
        assert_eq!(site.reload().last_reload.result, Outcome::Unchanged);
    }
    assert_eq!(site.generation(), generation);
}

/// A gateway in front of 10.0.0.2, with or without a workloads file.
fn gateway(workloads: Option<&str>) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("policies")).unwrap();
    fs::write(at("policies/a.yaml"), policy("orders", "/v1")).unwrap();
    if let Some(text) = workloads {
        fs::write(at("workloads.yaml"), text).unwrap();
    }
    let (recorder, writer) = Recorder::start(Destination::Off).unwrap();
    let origin = Origin {
        policies: vec![at("policies")],
        workloads: workloads.map(|_| at("workloads.yaml")),
        upstream: Some(([10, 0, 0, 2], 80).into()),
        start_closed: true,
        bounds: eastwall_policy::source::Bounds::default(),
        controller: None,
    };
    let (live, reloader) = start(origin, &recorder).unwrap();
    Site { live, reloader, recorder, _writer: writer, folder }
}

#[test]
fn a_gateway_in_front_of_nobody_is_not_ready() {
    let site = gateway(Some(WORKLOADS));
    assert!(site.live.has_registry() && site.reloader.status().is_ready(), "{:?}", site.reloader.status());
    let file = site.folder.path().join("workloads.yaml");
    for left in ["[]\n", "- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.9]}\n"] {
        fs::write(&file, left).unwrap();
        let status = site.reload();
        assert!(!status.is_ready() && status.unregistered_upstream.is_some(), "{left}: {status:?}");
        fs::write(&file, WORKLOADS).unwrap();
        let status = site.reload();
        assert!(status.is_ready() && status.unregistered_upstream.is_none(), "{left}: {status:?}");
    }
}

#[test]
fn a_gateway_without_a_registry_says_that_it_protects_nobody() {
    let site = gateway(None);
    let status = site.reloader.status();
    assert!(!site.live.has_registry() && status.is_ready() && status.unprotected_upstream.is_some(), "{status:?}");
    let metrics = site.recorder.metrics().render().unwrap();
    assert!(metrics.contains("eastwall_unprotected_workloads{direction=\"inbound\"} 1"), "{metrics}");
}

/// The same two workloads as Kubernetes objects.
fn pods(account: &str, more: &str) -> String {
    let pod = |name: &str, account: &str, ip: &str| {
        format!(
            "- apiVersion: v1\n  kind: Pod\n  metadata: {{name: {name}, namespace: shop}}\n  spec: {{serviceAccountName: \
             {account}, containers: [{{ports: [{{containerPort: 80, name: http}}]}}]}}\n  status: {{podIP: {ip}}}\n"
        )
    };
    let (orders, web) = (pod("orders", "orders", "10.0.0.2"), pod("web", account, "10.0.0.3"));
    format!("apiVersion: v1\nkind: List\nitems:\n{orders}{web}{more}")
}

#[test]
fn objects_beside_the_policies_say_who_is_registered() {
    let site = gateway(None);
    site.write("pods.yaml", &pods("web", ""));
    let status = site.reload();
    assert!(site.live.has_registry() && status.is_ready() && status.unprotected_upstream.is_none(), "{status:?}");
    assert!(site.allows("/v1") && !site.allows("/v2"));

    // Another Pod joins the same table.
    let table = Arc::clone(site.live.load().model());
    site.write("pods.yaml", &pods("stranger", ""));
    site.reload();
    assert!(!site.allows("/v1"));
    assert!(Arc::ptr_eq(&table, site.live.load().model()), "no policy was read again");

    // One that cannot be read leaves who was there before.
    site.write("pods.yaml", &pods("web", "- {apiVersion: v1, kind: Pod, metadata: {name: x}, spec: 7}\n"));
    let status = site.reload();
    assert!(!status.errors.is_empty() && !site.allows("/v1"), "{status:?}");
    site.write("pods.yaml", &pods("web", ""));
    assert!(site.reload().errors.is_empty() && site.allows("/v1"));

    // Who has been registered once is not forgotten: nobody passes because a file went.
    fs::remove_file(site.at("pods.yaml")).unwrap();
    site.until("the file is gone for good", |site| site.reload().unregistered_upstream.is_some());
    assert!(site.live.has_registry() && !site.reloader.status().is_ready(), "{:?}", site.reloader.status());
}

#[test]
fn objects_that_were_never_read_seal_everything() {
    let site = Site::with(&[("a.yaml", &policy("orders", "/v1")), ("b.yaml", "apiVersion: v1\nkind: Pod\nspec: [")]);
    assert!(site.live.load().is_sealed() && !site.reloader.status().is_ready());
    site.write("b.yaml", "");
    fs::remove_file(site.at("b.yaml")).unwrap();
    site.until("the file is gone for good", |site| {
        site.reload();
        site.allows("/v1")
    });
}

/// Whether [`picky`] fails. Of one test alone.
static FAILS: AtomicBool = AtomicBool::new(true);

fn picky(_: &World, _: &Model) -> Result<(), String> {
    if FAILS.load(Ordering::Relaxed) { Err("injected".to_owned()) } else { Ok(()) }
}

#[test]
fn a_table_that_fails_its_self_test_never_serves() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("workloads.yaml"), WORKLOADS).unwrap();
    fs::write(at("a.yaml"), policy("orders", "/v1")).unwrap();
    let (recorder, _writer) = Recorder::start(Destination::Off).unwrap();
    let origin = Origin {
        policies: vec![at("a.yaml")],
        workloads: Some(at("workloads.yaml")),
        upstream: None,
        start_closed: true,
        bounds: eastwall_policy::source::Bounds::default(),
        controller: None,
    };
    let (mut maker, first) = Maker::tested_by(picky, origin, recorder.clone());
    assert!(first.is_sealed(), "there is no older one");
    for next in 2..4 {
        let status = maker.status();
        assert!(!status.is_ready() && status.self_test.is_some(), "{status:?}");
        assert_eq!(status.last_reload.result, Outcome::Failure);
        let read = |maker: &mut Maker| {
            let gathered = maker.gather(Instant::now());
            maker.apply(gathered)
        };
        assert!(read(&mut maker).is_none(), "the same again");
        assert!(!maker.status().is_ready() && maker.status().last_reload.result == Outcome::Failure);
        FAILS.store(false, Ordering::Relaxed);
        assert!(!read(&mut maker).unwrap().is_closed());
        assert!(maker.status().is_ready(), "{:?}", maker.status());
        let generation = maker.status().generation.clone();
        FAILS.store(true, Ordering::Relaxed);
        fs::write(at("a.yaml"), policy("orders", &format!("/v{next}"))).unwrap();
        assert!(read(&mut maker).is_none(), "the old one stays");
        assert_eq!(maker.status().generation, generation);
    }
    let metrics = recorder.metrics().render().unwrap();
    assert!(metrics.contains("eastwall_policy_reloads_total{result=\"failure\"} 5"), "{metrics}");
}
