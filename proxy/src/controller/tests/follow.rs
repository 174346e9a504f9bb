//! What the controller says is in force, and stays when it goes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use eastwall_controller::slices::Counts;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::site::{Proxy, Site, broken, pod, policy, read, until};
use crate::admin::client::ask;
use crate::app;
use crate::config::{Config, Settings};
use crate::controller::settings::{Following, Serves};

/// The bar for what a change may take; here everything is near, and the machine may be busy.
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_slice_is_in_force_and_so_is_each_change() {
    let site = Site::new();
    let served = site.serve();
    let proxy = Proxy::start(site.following(served.address));
    assert!(!proxy.lets_web("/v1"), "nothing passes before the first slice");
    proxy.until("the first slice", |proxy| proxy.lets_web("/v1"));
    assert!(!proxy.lets_web("/v2") && proxy.allows([192, 168, 0, 1], "/healthz"));
    until("the first acknowledgement", || served.fleet.counts().in_force == 1);
    let all = Counts { proxies: 1, in_force: 1, refused: 0 };
    assert_eq!(served.fleet.counts_of(&policy("orders", "").key), all);

    site.put(policy("orders", "/v2"));
    let took = proxy.until("the change", |proxy| proxy.lets_web("/v2") && !proxy.lets_web("/v1"));
    assert!(took < SECOND, "{took:?}");
    until("its acknowledgement", || served.fleet.counts_of(&policy("orders", "").key) == all);
    let programmed = served.fleet.programmed();
    let progress = &programmed.policies[&policy("orders", "").key];
    assert_eq!((progress.generation, progress.proxies, progress.behind), (1, 1, 0));
    assert_eq!(programmed.policies.len(), 1);

    // The address of `web` is somebody else's now.
    site.delete(&pod("shop", "web", "web", "n1", ""));
    site.put(pod("shop", "stranger", "stranger", "n1", "10.0.0.3"));
    let took = proxy.until("the pod's end", |proxy| !proxy.lets_web("/v2"));
    assert!(took < SECOND, "{took:?}");

    // Nobody replaces a file here: what is deleted goes at once.
    site.delete(&policy("orders", ""));
    let took = proxy.until("the policy's end", |proxy| proxy.lets_web("/v3"));
    assert!(took < SECOND, "{took:?}");
    assert_eq!(served.fleet.counts_of(&policy("orders", "").key), Counts::default());
    site.put(pod("shop", "more", "more", "n1", "10.0.0.9"));
    until("no trace of it", || !site.state().join("current/policies/eastwall.dev").exists());
}

#[derive(clap::Parser)]
struct Call {
    #[command(flatten)]
    settings: Settings,
}

/// As its command starts it, and not the parts that follow alone.
#[test]
fn a_whole_process_of_one_pod_follows() {
    let site = Site::new();
    let served = site.serve();
    let following = site.following(served.address);
    let socket = site.folder.path().join("admin.sock");
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let call = Call::parse_from([
        "eastwall".to_owned(),
        "--mode=gateway".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        "--upstream=127.0.0.1:9".to_owned(),
        "--access-log=off".to_owned(),
        format!("--controller={}", served.address),
        format!("--controller-ca={}", path(&following.ca)),
        format!("--controller-token={}", path(&following.token)),
        format!("--controller-state={}", path(&following.state)),
        "--pod-namespace=shop".to_owned(),
        "--pod-name=orders".to_owned(),
        "--node-name=n1".to_owned(),
        format!("--admin-socket={}", path(&socket)),
    ]);
    let config = Config::new(&call.settings, None).unwrap();
    let process = std::thread::spawn(move || app::run(&config).map_err(|error| error.to_string()));
    until("the slice is in force", || served.fleet.counts().in_force == 1);
    let listed = || ask(&socket, "GET", "/policy").unwrap().body;
    let before = listed();
    site.put(policy("orders", "/v2"));
    until("the change", || listed() != before);
    assert_eq!(ask(&socket, "POST", "/drain").unwrap().status, 202);
    process.join().unwrap().unwrap();
}

#[test]
fn a_broken_document_is_told_and_holds_back_no_other() {
    let site = Site::new();
    let served = site.serve();
    let proxy = Proxy::start(site.following(served.address));
    proxy.until("the first slice", |proxy| proxy.lets_web("/v1"));
    site.put(broken("orders"));
    let key = broken("orders").key;
    until("the refusal", || served.fleet.counts_of(&key).refused == 1);
    assert!(proxy.lets_web("/v1"), "its last good version stays");
    assert_eq!(*served.fleet.programmed().policies[&key].named, ["shop/orders".into()]);
    site.put(policy("more", "/more"));
    proxy.until("the other", |proxy| proxy.lets_web("/more"));
    until("its acknowledgement", || served.fleet.counts_of(&policy("more", "").key).in_force == 1);
    assert_eq!(served.fleet.counts_of(&key), Counts { proxies: 1, in_force: 0, refused: 1 });
    site.put(policy("orders", "/v2"));
    proxy.until("the repair", |proxy| proxy.lets_web("/v2"));
    until("all is well", || served.fleet.counts_of(&key).in_force == 1 && served.fleet.counts().in_force == 1);
}

#[test]
fn what_was_said_last_stays_and_another_controller_goes_on() {
    let mut site = Site::new();
    // In many parts, each smaller than a policy.
    site.settings.part_bytes = 100;
    let first = site.serve();
    let second = site.serve();
    let mut following = site.following(first.address);
    let (again, at) = (second.address, first.address);
    drop(second);
    following.addresses.push(again.to_string());
    let proxy = Proxy::start(following);
    proxy.until("the first slice", |proxy| proxy.lets_web("/v1"));
    drop(first);
    std::thread::sleep(Duration::from_millis(50));
    site.put(policy("orders", "/v2"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(proxy.lets_web("/v1") && !proxy.lets_web("/v2"), "nobody tells");
    let second = site.serve_at(again);
    proxy.until("the other controller", |proxy| proxy.lets_web("/v2") && !proxy.lets_web("/v1"));
    drop(second);
    let _first = site.serve_at(at);
    site.put(policy("orders", "/v3"));
    proxy.until("the first controller again", |proxy| proxy.lets_web("/v3"));
}

#[test]
fn a_restart_without_a_controller_goes_on_with_what_was_there() {
    let site = Site::new();
    let served = site.serve();
    let following = site.following(served.address);
    let proxy = Proxy::start(following.clone());
    proxy.until("the first slice", |proxy| proxy.lets_web("/v1"));
    until("it is heard", || site.state().join("heard").exists());
    drop(served);
    drop(proxy);
    let proxy = Proxy::start(following.clone());
    assert!(proxy.lets_web("/v1") && !proxy.lets_web("/v2"), "at once");

    // Of unknown age, it still protects, and addresses prove nothing.
    fs::remove_file(site.state().join("heard")).unwrap();
    let proxy = Proxy::start(following);
    assert!(!proxy.lets_web("/v1") && proxy.allows([192, 168, 0, 1], "/healthz"));
    assert!(!proxy.live.load().is_closed() && proxy.reloader.status().controller_silent);
}

#[test]
fn a_silent_controller_leaves_no_address_proving_anything() {
    let site = Site::new();
    let served = site.serve();
    let address = served.address;
    let proxy = Proxy::start(Following { max_staleness: SECOND, ..site.following(address) });
    proxy.until("the first slice", |proxy| proxy.lets_web("/v1"));
    let age = || {
        let text = proxy.recorder.metrics().render().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("eastwall_registry_age_seconds "));
        line.unwrap().parse::<f64>().unwrap()
    };
    // Heartbeats alone keep it good.
    std::thread::sleep(SECOND * 2);
    assert!(proxy.lets_web("/v1") && age() < 1.0, "{}", age());
    drop(served);
    let took = proxy.until("doubt", |proxy| !proxy.lets_web("/v1"));
    assert!(took > SECOND / 2, "{took:?}");
    assert!(proxy.allows([192, 168, 0, 1], "/healthz"), "the kubelet of its own node is who it was");
    assert!(!proxy.allows([192, 168, 0, 2], "/healthz"));
    assert!(age() > 1.0 && proxy.reloader.status().controller_silent);
    let _served = site.serve_at(address);
    proxy.until("it is heard again", |proxy| proxy.lets_web("/v1"));
}

/// SPIFFE id and modes of what a folder holds.
fn identity(folder: &std::path::Path) -> Option<String> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(folder.join("tls.crt")).ok()?.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    rustls::sign::CertifiedKey::new(chain.clone(), key).keys_match().unwrap();
    assert!(read(&folder.join("ca.crt")).contains("BEGIN CERTIFICATE"));
    assert_eq!(fs::metadata(folder.join("tls.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
    match leaf.subject_alternative_name().unwrap().unwrap().value.general_names.as_slice() {
        [GeneralName::URI(id)] => Some((*id).to_owned()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sidecar_gets_the_certificate_of_its_pod() {
    let site = Site::new();
    let served = site.serve();
    let _proxy = Proxy::start(site.following(served.address));
    let folder = site.state().join("identity");
    until("the certificate", || identity(&folder).is_some());
    assert_eq!(identity(&folder).unwrap(), "spiffe://cluster.local/ns/shop/sa/orders");
    assert_eq!(fs::metadata(site.state()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_node_proxy_gets_those_of_the_pods_on_its_node_while_they_are_there() {
    let site = Site::new();
    let served = site.serve();
    let following = Following { serves: Serves::Node("n1".to_owned()), ..site.following(served.address) };
    fs::write(&following.token, "node").unwrap();
    let proxy = Proxy::start(following);
    let folder = site.state().join("identity");
    let of = |account: &str| identity(&folder.join("shop").join(account));
    until("both certificates", || of("orders").is_some() && of("web").is_some());
    assert_eq!(of("web").unwrap(), "spiffe://cluster.local/ns/shop/sa/web");
    assert!(!folder.join("shop/far").exists() && !folder.join("eastwall-system").exists());
    assert!(proxy.lets_web("/v1"));

    // It speaks for the pods whose traffic it gets, and for none of another node, whatever it says.
    let served_pods = || served.fleet.programmed().served;
    until("it is heard", || served.fleet.programmed().nodes.contains("n1"));
    assert!(served_pods().is_empty());
    proxy.captured.send_replace(["shop/orders", "shop/far"].map(Arc::from).into());
    until("it has one", || served_pods() == [("shop".into(), "orders".into())].into());
    proxy.captured.send_modify(|captured| captured.extend(["shop/web".into()]));
    until("it has both", || served_pods().len() == 2);
    site.put(policy("orders", "/v2"));
    proxy.until("the change", |proxy| proxy.lets_web("/v2"));
    until("its acknowledgement", || served.fleet.counts().in_force == 1);
    assert_eq!(served_pods().len(), 2);
    proxy.captured.send_replace(["shop/web"].map(Arc::from).into());
    until("it has lost one", || served_pods() == [("shop".into(), "web".into())].into());

    site.delete(&pod("shop", "web", "web", "n1", ""));
    until("the key is thrown away", || !folder.join("shop/web").exists());
    site.delete(&pod("shop", "orders", "orders", "n1", ""));
    until("all keys are thrown away", || !folder.join("shop").exists());
}
