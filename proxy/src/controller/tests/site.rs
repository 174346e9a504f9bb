//! The two, and the cluster between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use eastwall_controller::authority::{self, Authority, FileVault, ServerCertificate, Source};
use eastwall_controller::slices::{self, AUDIENCE, Endpoint, Fleet, Review, ReviewError, Reviewed, Reviewer};
use eastwall_controller::{Change, Key, Metrics, Object, Store};
use eastwall_policy::facts::{Connection, Direction, Protocol, Request, Transport};
use eastwall_policy::source::Bounds;
use eastwall_policy::verdict::Action;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::controller::settings::{Following, Serves};
use crate::controller::{State, start};
use crate::intercept::Captured;
use crate::observe::{Destination, LogWriter, Recorder};
use crate::policy::{self, Followed, Live, Origin, Reloader};

/// Knows the tokens of the cluster.
#[derive(Default)]
struct Tokens(Mutex<BTreeMap<String, Reviewed>>);

impl Reviewer for Tokens {
    fn review<'a>(&'a self, token: &'a str) -> Review<'a> {
        let found = self.0.lock().unwrap().get(token).cloned();
        Box::pin(async move { found.ok_or_else(|| ReviewError::Refused("nobody's".to_owned())) })
    }
}

/// A controller and its cluster.
pub(super) struct Site {
    pub(super) runtime: Runtime,
    pub(super) folder: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) settings: slices::Settings,
    authority: Arc<Authority>,
    tokens: Arc<Tokens>,
}

/// A controller that serves; ends when dropped.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    pub(super) fleet: Arc<Fleet>,
    _end: oneshot::Sender<()>,
}

/// A proxy that follows.
pub(super) struct Proxy {
    pub(super) live: Arc<Live>,
    pub(super) reloader: Reloader,
    pub(super) recorder: Recorder,
    pub(super) captured: Captured,
    _writer: LogWriter,
}

impl Site {
    /// Two pods of `shop` on node n1, one on n2, and one of the node's own.
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let vault = Arc::new(FileVault::new(&folder.path().join("vault")));
        let authority = Authority::open(authority::Settings::default(), Source::Own(vault));
        let authority = runtime.block_on(authority).unwrap();
        let site = Self {
            runtime,
            folder,
            store: Store::default(),
            settings: slices::Settings {
                heartbeat: Duration::from_millis(100),
                gather: Duration::from_millis(5),
                ..slices::Settings::default()
            },
            authority,
            tokens: Arc::default(),
        };
        site.store.apply(
            [
                node("n1", "192.168.0.1"),
                node("n2", "192.168.0.2"),
                pod("shop", "orders", "orders", "n1", "10.0.0.2"),
                pod("shop", "web", "web", "n1", "10.0.0.3"),
                pod("shop", "far", "far", "n2", "10.0.0.4"),
                host_pod("eastwall-system", "eastwall", "eastwall-node", "n1", "192.168.0.1"),
                policy("orders", "/v1"),
            ]
            .map(Change::Put),
        );
        site.store.complete();
        for (token, name, account, node) in [
            ("orders", "shop/orders", "orders", "n1"),
            ("web", "shop/web", "web", "n1"),
            ("node", "eastwall-system/eastwall", "eastwall-node", "n1"),
        ] {
            site.token(token, name, account, node, AUDIENCE);
        }
        site
    }

    /// The API server knows this token.
    pub(super) fn token(&self, token: &str, pod: &str, account: &str, node: &str, audience: &str) {
        let (namespace, name) = pod.split_once('/').unwrap();
        let extra = [("pod-name", name), ("pod-uid", pod), ("node-name", node)]
            .map(|(what, value)| (format!("authentication.kubernetes.io/{what}"), vec![value.to_owned()]));
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let reviewed = Reviewed { user, extra: extra.into(), audiences: vec![audience.to_owned()] };
        self.tokens.0.lock().unwrap().insert(token.to_owned(), reviewed);
    }

    pub(super) fn put(&self, object: Object) {
        self.store.apply([Change::Put(object)]);
    }

    pub(super) fn delete(&self, object: &Object) {
        self.store.apply([Change::Delete(object.key.clone())]);
    }

    /// Serves on a free port.
    pub(super) fn serve(&self) -> Served {
        self.serve_at("127.0.0.1:0".parse().unwrap())
    }

    pub(super) fn serve_at(&self, address: SocketAddr) -> Served {
        let _entered = self.runtime.enter();
        let names = vec!["eastwall-controller.eastwall-system.svc".to_owned()];
        let tls = ServerCertificate::start(&self.authority, names).unwrap();
        std::fs::write(self.folder.path().join("ca.crt"), self.authority.bundle_pem()).unwrap();
        let reviewer = Arc::<Tokens>::clone(&self.tokens);
        let endpoint = Endpoint::new(
            &self.store,
            reviewer,
            Arc::clone(&self.authority),
            self.settings.clone(),
            Arc::new(Metrics::new().unwrap()),
        );
        let fleet = Arc::clone(endpoint.fleet());
        let listener = self.runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        self.runtime.spawn(async move {
            let end = async move { drop(ended.await) };
            endpoint.serve(listener, tls, end).await.unwrap();
        });
        Served { address, fleet, _end: end }
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// As the pod `shop/orders`, unless said otherwise.
    pub(super) fn following(&self, address: SocketAddr) -> Following {
        let token = self.folder.path().join("token");
        std::fs::write(&token, "orders\n").unwrap();
        Following {
            addresses: vec![address.to_string()],
            name: "eastwall-controller.eastwall-system.svc".to_owned(),
            ca: self.folder.path().join("ca.crt"),
            token,
            state: self.state(),
            max_staleness: Duration::from_secs(60),
            serves: Serves::Pod { namespace: "shop".to_owned(), name: "orders".to_owned() },
            node: Some("n1".into()),
            slice_bytes: 1 << 20,
        }
    }
}

impl Proxy {
    pub(super) fn start(following: Following) -> Self {
        let state = State::open(&following.state).unwrap();
        let (recorder, writer) = Recorder::start(Destination::Off).unwrap();
        let silent = state.silence().is_none_or(|silence| silence > following.max_staleness);
        let origin = Origin {
            policies: State::policies(&following.state),
            workloads: Some(State::workloads(&following.state)),
            upstream: None,
            start_closed: true,
            bounds: Bounds::default(),
            controller: Some(Followed { node: following.node.clone(), is_silent: silent }),
        };
        let (live, reloader) = policy::start(origin, &recorder).unwrap();
        let captured = Captured::default();
        let of_node = matches!(following.serves, Serves::Node(_)).then(|| captured.subscribe());
        start(following, state, &live, reloader.clone(), &recorder, of_node).unwrap();
        Self { live, reloader, recorder, captured, _writer: writer }
    }

    /// Whether `source` may get a path of `shop/orders`.
    pub(super) fn allows(&self, source: [u8; 4], path: &str) -> bool {
        let world = self.live.load();
        let connection = Connection {
            source: world.source(source.into()),
            destination: world.destination([10, 0, 0, 2].into()),
            port: 80,
            transport: Transport::Tcp,
            service: None,
            fqdn: None,
            direction: Some(Direction::Inbound),
        };
        let request = Request::bare(Protocol::Http, b"GET", path.as_bytes(), 0);
        world.request_verdict(&world.flow(&connection), &request).action == Action::Allow
    }

    pub(super) fn lets_web(&self, path: &str) -> bool {
        self.allows([10, 0, 0, 3], path)
    }

    /// Waits; how long it took.
    pub(super) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let started = Instant::now();
        while !holds(self) {
            assert!(started.elapsed() < Duration::from_secs(30), "never came: {what}; {:?}", self.reloader.status());
            std::thread::sleep(Duration::from_millis(2));
        }
        started.elapsed()
    }
}

/// Waits for anything.
pub(super) fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(30), "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn object(value: Value) -> Object {
    let text = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let key = Key {
        api_version: text("/apiVersion").into(),
        kind: text("/kind").into(),
        namespace: text("/metadata/namespace").into(),
        name: text("/metadata/name").into(),
    };
    Object { key, uid: text("/metadata/uid").into(), generation: 1, value: Arc::new(value) }
}

fn node(name: &str, address: &str) -> Object {
    object(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}}))
}

pub(super) fn pod(namespace: &str, name: &str, account: &str, node: &str, address: &str) -> Object {
    object(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}/{name}")},
        "spec": {"serviceAccountName": account, "nodeName": node, "containers": [{
            "ports": [{"name": "http", "containerPort": 80}],
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": 80}}}]},
        "status": {"phase": "Running", "podIP": address}}))
}

fn host_pod(namespace: &str, name: &str, account: &str, node: &str, address: &str) -> Object {
    let mut value = Value::clone(&pod(namespace, name, account, node, address).value);
    value["spec"]["hostNetwork"] = json!(true);
    object(value)
}

/// Lets `web` read one path of `orders`, and nothing else.
pub(super) fn policy(name: &str, path: &str) -> Object {
    object(json!({"apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"subject": [{"serviceAccount": "orders"}], "ingress": [
            {"name": "reads", "from": [{"serviceAccount": "web"}], "ports": [80], "http": [{"methods": ["GET"], "paths": [path]}]}]}}))
}

/// One that cannot be read.
pub(super) fn broken(name: &str) -> Object {
    object(json!({"apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"subject": "orders"}}))
}
