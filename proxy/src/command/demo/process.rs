//! The real proxy, as a process of its own, with the demo's policy and workloads.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::pods::{PORT, Pod, Pods};
use super::{Step, Teardown};

/// The running proxy and its files.
#[derive(Debug)]
pub(super) struct Proxy {
    policy: PathBuf,
    access_log: PathBuf,
    admin: SocketAddr,
    network: String,
}

/// Rules of the demo's policy that the story changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Edition {
    /// `web` may place orders.
    pub(super) place_orders: bool,
    /// `web` may follow the feed.
    pub(super) feed: bool,
}

impl Proxy {
    /// Writes the files, starts the proxy and waits until it is ready.
    pub(super) fn start(pods: &Pods, folder: &Path, teardown: &Teardown) -> io::Result<Self> {
        let policies = folder.join("policies");
        fs::create_dir(&policies)?;
        let proxy = Self {
            policy: policies.join("orders.yaml"),
            access_log: folder.join("access.log"),
            admin: TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?,
            network: pods.network(),
        };
        let workloads = folder.join("workloads.yaml");
        fs::write(&workloads, workloads_file(pods))?;
        fs::write(policies.join("cluster.yaml"), settings(pods))?;
        proxy.write(Edition { place_orders: false, feed: true })?;
        let errors = folder.join("proxy.log");
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("proxy").args(["--mode", if pods.gateway().is_some() { "gateway" } else { "node" }]);
        if let Some(listen) = pods.gateway() {
            command.args(["--listen", &listen.to_string(), "--upstream", &pods.orders().to_string()]);
        }
        command.arg("--policy").arg(&policies).arg("--workloads").arg(&workloads);
        command.arg("--access-log").arg(&proxy.access_log).args(["--admin", &proxy.admin.to_string()]);
        command.arg("--admin-socket").arg(folder.join("admin.sock"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&errors)?);
        teardown.add(Step::Process(command.spawn()?));
        proxy.wait_until_ready().map_err(|error| {
            let told = fs::read_to_string(&errors).unwrap_or_default();
            io::Error::other(format!("the proxy did not become ready: {error}\n{told}"))
        })?;
        Ok(proxy)
    }

    /// Puts an edition of the policy in place, the way an editor does: a new file over the old one.
    pub(super) fn write(&self, edition: Edition) -> io::Result<()> {
        let next = self.policy.with_extension("next");
        fs::write(&next, self.text(edition))?;
        fs::rename(next, &self.policy)
    }

    /// The policy's text.
    pub(super) fn text(&self, edition: Edition) -> String {
        let mut rules = String::from(
            "  - name: web-reads\n    from: [{serviceAccount: web}]\n    http: [{methods: [GET], paths: [\"/orders/{id}\"]}]\n",
        );
        if edition.place_orders {
            rules.push_str(
                "  - name: web-places\n    from: [{serviceAccount: web}]\n    http: [{methods: [POST], paths: [/orders]}]\n",
            );
        }
        if edition.feed {
            rules.push_str(
                "  - name: web-follows\n    from: [{serviceAccount: web}]\n    http: [{methods: [GET], paths: [/feed]}]\n",
            );
        }
        rules.push_str(&format!(
            "  - name: old-network\n    from: [{{cidr: {}}}]\n    ports: [http]\n    http: [{{methods: [GET], paths: [/report]}}]\n",
            self.network
        ));
        format!(
            "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: orders, namespace: shop}}\n\
             spec:\n  subject: [{{serviceAccount: orders}}]\n  ingress:\n{rules}"
        )
    }

    /// The newest line of the access log that holds every one of `parts`; it is written a moment after the answer.
    pub(super) fn log_line(&self, parts: &[&str]) -> Option<String> {
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let log = fs::read_to_string(&self.access_log).unwrap_or_default();
            let line = log.lines().rev().find(|line| parts.iter().all(|part| line.contains(part)));
            if line.is_some() || Instant::now() > until {
                return line.map(str::to_owned);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lines of `/metrics` that start with one of `names` and are not zero.
    pub(super) fn counters(&self, names: &[&str]) -> io::Result<String> {
        let page = self.admin("/metrics")?;
        let wanted = |line: &&str| names.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0");
        Ok(page.lines().filter(wanted).collect::<Vec<_>>().join("\n"))
    }

    /// Address of the admin server.
    pub(super) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Path of the policy file.
    pub(super) fn policy_path(&self) -> &Path {
        &self.policy
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match self.admin("/readyz") {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => return Ok(()),
                Ok(answer) if Instant::now() > until => return Err(io::Error::other(answer)),
                Err(error) if Instant::now() > until => return Err(error),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn admin(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

/// Ends a process we started: politely, and after five seconds for good.
pub(super) fn end(mut child: Child) -> io::Result<()> {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    let until = Instant::now() + Duration::from_secs(5);
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn workloads_file(pods: &Pods) -> String {
    let entry = |pod: Pod, ports: &str| {
        let netns = pods.namespace_path(pod).map(|path| format!(", netns: {}", path.display())).unwrap_or_default();
        format!(
            "- {{name: {name}, namespace: shop, serviceAccount: {name}, ips: [{ip}]{ports}{netns}}}\n",
            name = pod.name(),
            ip = pods.address(pod),
        )
    };
    let orders_ports = format!(", ports: [{{name: http, port: {PORT}}}]");
    [entry(Pod::Orders, &orders_ports), entry(Pod::Web, ""), entry(Pod::Attacker, "")].concat()
}

fn settings(pods: &Pods) -> String {
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: DialectSettings\nmetadata: {{name: cluster}}\n\
         spec:\n  cluster: {{networks: [\"{}\"]}}\n",
        pods.network()
    )
}
