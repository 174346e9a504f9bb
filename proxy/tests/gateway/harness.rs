//! A gateway, a recording backend, and clients with the addresses of pods.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The pod behind the gateway: workload `shop/orders`.
pub(crate) const ORDERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Workload `shop/web`.
pub(crate) const WEB: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
/// Workload `shop/attacker`.
pub(crate) const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4));
/// Workload `shop/clerk`.
pub(crate) const CLERK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));

/// Long enough for a machine that does other things; nothing waits for it but a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Rules on port `http` (or whatever the test calls the backend's port), ingress of `shop/orders`.
pub(crate) fn policy(ingress: &str) -> String {
    format!(
        "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec:\n  \
         subject: [{{serviceAccount: orders}}]\n  ingress:\n{ingress}\n"
    )
}

/// What most tests use: `web` and `clerk` may read orders, `web` may write to `/up` and upgrade on `/feed`.
pub(crate) fn usual() -> String {
    policy(
        "  - name: reads\n    from: [{serviceAccount: web}, {serviceAccount: clerk}]\n    \
         http: [{methods: [GET, HEAD], paths: [\"/orders/{id}\"]}, {methods: [POST], paths: [/up]}]\n  \
         - name: feed\n    from: [{serviceAccount: web}]\n    \
         http: [{methods: [GET], paths: [/feed], upgrades: [websocket]}]",
    )
}

/// A running proxy; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Gateway {
    /// In front of `backend`, whose port is declared under the name `http`.
    pub(crate) fn start(policy: &str, backend: SocketAddr) -> Self {
        Self::with(policy, backend, "http", &[])
    }

    /// In front of `backend`, whose port is declared under this name (`""`: not declared).
    pub(crate) fn with(policy: &str, backend: SocketAddr, port_name: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = match port_name {
            "" => String::new(),
            name => format!(", ports: [{{name: {name}, port: {}}}]", backend.port()),
        };
        let pod = |name: &str, ip: IpAddr, ports: &str| {
            format!("- {{name: {name}, namespace: shop, serviceAccount: {name}, ips: [{ip}]{ports}}}\n")
        };
        let workloads = [
            pod("orders", ORDERS, &ports),
            pod("web", WEB, ""),
            pod("attacker", ATTACKER, ""),
            pod("clerk", CLERK, ""),
        ];
        std::fs::write(folder.path().join("workloads.yaml"), workloads.concat()).unwrap();
        std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_eastwall"))
            .args(["proxy", "--mode", "gateway", "--listen", "127.0.0.1:0", "--upstream", &backend.to_string()])
            .args(["--policy", "policy.yaml", "--workloads", "workloads.yaml", "--access-log", "access.log"])
            .args(["--admin-socket", "admin.sock"])
            .args(flags)
            .current_dir(folder.path())
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("the proxy does not start: {said}") };
            said.push_str(&line);
            if let Some((_, rest)) = line.split_once("accepting address=") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, folder }
    }

    /// A connection from a pod.
    pub(crate) fn connect(&self, from: IpAddr) -> TcpStream {
        self.try_connect(from).unwrap()
    }

    pub(crate) fn try_connect(&self, from: IpAddr) -> std::io::Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&self.address.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Sends bytes from a pod and reads answers until there are `count` of them or the connection ends.
    pub(crate) fn ask(&self, from: IpAddr, bytes: &[u8], count: usize) -> Vec<Answer> {
        let mut stream = self.connect(from);
        stream.write_all(bytes).unwrap();
        let mut reader = BufReader::new(stream);
        (0..count).map_while(|_| Answer::read(&mut reader, false)).collect()
    }

    /// Replaces the policy the way an editor does.
    pub(crate) fn rewrite(&self, policy: &str) {
        let new = self.folder.path().join(".policy.new");
        std::fs::write(&new, policy).unwrap();
        std::fs::rename(new, self.folder.path().join("policy.yaml")).unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the end and gives the exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// The value of a metric, or 0: a line of the exposition without it, such as `eastwall_revocation_seconds_count`.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let mut stream = std::os::unix::net::UnixStream::connect(self.folder.path().join("admin.sock")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: eastwall\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a connection was closed at this limit.
    pub(crate) fn wait_for_refusal(&self, limit: &str) {
        self.wait_for_metric(&format!("eastwall_connections_rejected_total{{limit=\"{limit}\"}}"));
    }

    /// Waits until a metric is no longer 0.
    pub(crate) fn wait_for_metric(&self, series: &str) {
        let end = std::time::Instant::now() + PATIENCE;
        while self.metric(series) == 0.0 {
            assert!(std::time::Instant::now() < end, "{series} stays 0");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the access log says this.
    pub(crate) fn wait_for_log(&self, what: &str) {
        let end = std::time::Instant::now() + PATIENCE;
        while !self.log().contains(what) {
            assert!(std::time::Instant::now() < end, "{what} is not in the log: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Memory of its own that is resident, in kilobytes.
    pub(crate) fn own_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The access log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One HTTP/1 answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads one; `None` at the end of the connection. `head`: to a HEAD request.
    pub(crate) fn read(reader: &mut impl BufRead, head: bool) -> Option<Self> {
        let mut lines = String::new();
        while !lines.ends_with("\r\n\r\n") {
            if reader.read_line(&mut lines).ok()? == 0 {
                assert!(lines.is_empty(), "cut inside a head: {lines}");
                return None;
            }
        }
        let status = lines.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Self { status, head: lines, body: Vec::new() };
        if head || status < 200 || status == 204 || status == 304 {
            return Some(answer);
        }
        if let Some(length) = answer.header("content-length") {
            answer.body.resize(length.parse().unwrap(), 0);
            reader.read_exact(&mut answer.body).unwrap();
        } else if answer.header("transfer-encoding").is_some() {
            answer.body = read_chunks(reader).0;
        } else {
            reader.read_to_end(&mut answer.body).unwrap();
        }
        Some(answer)
    }

    /// A header of the answer.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The data of a chunked body, and its trailers.
pub(crate) fn read_chunks(reader: &mut impl BufRead) -> (Vec<u8>, String) {
    let (mut data, mut trailers) = (Vec::new(), String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        if size == 0 {
            break;
        }
        let from = data.len();
        data.resize(from + size + 2, 0);
        reader.read_exact(&mut data[from..]).unwrap();
        assert_eq!(data.split_off(from + size), b"\r\n");
    }
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the trailers do not end");
        if line == "\r\n" {
            return (data, trailers);
        }
        trailers.push_str(&line);
    }
}

/// What a backend saw: one entry a connection.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<Vec<u8>>>>);

impl Record {
    /// Every byte of every connection.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().concat()
    }

    /// Every byte as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until this is true of what was seen.
    pub(crate) fn wait_for(&self, what: impl Fn(&Self) -> bool) {
        let end = std::time::Instant::now() + PATIENCE;
        while !what(self) {
            assert!(std::time::Instant::now() < end, "not seen: {}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A backend's side of a connection: what is read is recorded.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    record: Record,
    index: usize,
}

impl Read for Peer {
    fn read(&mut self, space: &mut [u8]) -> std::io::Result<usize> {
        let length = self.stream.read(space)?;
        self.record.0.lock().unwrap()[self.index].extend_from_slice(&space[..length]);
        Ok(length)
    }
}

/// Listens as `shop/orders` and runs this for each connection on a thread of its own.
pub(crate) fn backend(serve: impl Fn(Peer) + Send + Sync + 'static) -> (SocketAddr, Record) {
    let listener = TcpListener::bind((ORDERS, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let record = Record::default();
    let serve = Arc::new(serve);
    let seen = record.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let index = {
                let mut held = seen.0.lock().unwrap();
                held.push(Vec::new());
                held.len() - 1
            };
            let peer = Peer { stream, record: seen.clone(), index };
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(peer));
        }
    });
    (address, record)
}

/// A head as it came, and the reader behind it.
pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<String> {
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        if reader.read_line(&mut lines).ok()? == 0 {
            return None;
        }
    }
    Some(lines)
}

/// A strict HTTP/1 server: answers `METHOD target` and the length of the body to each request.
pub(crate) fn http_backend() -> (SocketAddr, Record) {
    backend(|peer| {
        let mut out = peer.stream.try_clone().unwrap();
        let mut reader = BufReader::new(peer);
        while let Some(head) = read_head(&mut reader) {
            let body = if let Some(length) = header(&head, "content-length") {
                let mut left: u64 = length.parse().unwrap();
                let mut space = vec![0; 64 * 1024];
                let total = left;
                while left > 0 {
                    let take = space.len().min(usize::try_from(left).unwrap());
                    reader.read_exact(&mut space[..take]).unwrap();
                    left -= take as u64;
                }
                total
            } else if header(&head, "transfer-encoding").is_some() {
                read_chunks(&mut reader).0.len() as u64
            } else {
                0
            };
            let line = head.lines().next().unwrap().rsplit_once(' ').unwrap().0.to_owned();
            let text = format!("{line} {body}");
            let content = if head.starts_with("HEAD") { "" } else { &text };
            if write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", text.len()).is_err() {
                return;
            }
        }
    })
}
