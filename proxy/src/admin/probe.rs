//! Whether a port of the pod accepts connections: what the kubelet asks in the place of a `tcpSocket` probe, whose own
//! connection would end at the proxy, which accepts whatever the application does.
//!
//! Whoever reaches the admin port can ask. So only listed ports are dialled, at the address that was asked alone, and not
//! more often than the kubelet could want.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::Span;

// As flags and as members of the configuration file.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProbeSettings {
    /// Ports of the pod that `/probe/tcp/PORT` of the admin server dials, for probes that cannot pass the proxy
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    #[serde(rename = "ports")]
    probe_ports: Vec<NonZeroU16>,
    /// Time that such a port has to accept [default: 1s]
    #[arg(long, value_name = "TIME")]
    #[serde(rename = "timeout")]
    probe_timeout: Option<Span>,
}

impl ProbeSettings {
    /// Each that is set, and the file's where it is not.
    pub(crate) fn over(&self, file: &Self) -> Self {
        let probe_ports = if self.probe_ports.is_empty() { &file.probe_ports } else { &self.probe_ports };
        Self { probe_ports: probe_ports.clone(), probe_timeout: self.probe_timeout.or(file.probe_timeout) }
    }

    /// Whether there is no time to answer in.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.probe_timeout.is_some_and(|span| span.0.is_zero())
    }

    /// What they say, ready to be asked.
    pub(crate) fn probes(&self) -> Probes {
        let timeout = self.probe_timeout.map_or(Duration::from_secs(1), |span| span.0);
        Probes::new(self.probe_ports.iter().map(|port| port.get()), timeout)
    }

    /// Whether any port is listed.
    pub(crate) fn asks(&self) -> bool {
        !self.probe_ports.is_empty()
    }
}

/// The listed ports, each with what was last found.
#[derive(Debug)]
pub(crate) struct Probes {
    ports: BTreeMap<u16, Mutex<Option<Found>>>,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    at: Instant,
    address: IpAddr,
    accepts: bool,
}

impl Probes {
    pub(super) fn new(ports: impl IntoIterator<Item = u16>, timeout: Duration) -> Self {
        Self { ports: ports.into_iter().map(|port| (port, Mutex::default())).collect(), timeout }
    }

    /// Whether the port accepts; `None` where it is not listed.
    pub(super) async fn ask(&self, address: IpAddr, port: u16) -> Option<bool> {
        // Whoever asks while another dials waits for the same answer.
        let mut last = self.ports.get(&port)?.lock().await;
        if let Some(found) = *last
            && found.address == address
            && found.at.elapsed() < FRESH
        {
            return Some(found.accepts);
        }
        let accepts = matches!(timeout(self.timeout, TcpStream::connect((address, port))).await, Ok(Ok(_)));
        *last = Some(Found { at: Instant::now(), address, accepts });
        Some(accepts)
    }
}

/// A tenth of the shortest period that a probe can have.
const FRESH: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_listed_port_is_dialled_and_no_other() {
        let open = TcpListener::bind((HERE, 0)).unwrap();
        let other = TcpListener::bind((HERE, 0)).unwrap();
        let closed = TcpListener::bind((HERE, 0)).unwrap().local_addr().unwrap().port();
        let port = open.local_addr().unwrap().port();
        let probes = Probes::new([port, closed], Duration::from_secs(5));
        assert_eq!(probes.ask(HERE, port).await, Some(true));
        assert_eq!(probes.ask(HERE, closed).await, Some(false));
        assert_eq!(probes.ask(HERE, other.local_addr().unwrap().port()).await, None);
        other.set_nonblocking(true).unwrap();
        assert!(other.accept().is_err(), "it was not dialled");
    }

    #[tokio::test]
    async fn a_flood_of_questions_is_one_connection() {
        let open = TcpListener::bind((HERE, 0)).unwrap();
        let port = open.local_addr().unwrap().port();
        let probes = Probes::new([port], Duration::from_secs(5));
        let started = Instant::now();
        for _ in 0..200 {
            assert_eq!(probes.ask(HERE, port).await, Some(true));
        }
        open.set_nonblocking(true).unwrap();
        let dialled = std::iter::from_fn(|| open.accept().ok()).count();
        let most = 1 + started.elapsed().as_millis() / FRESH.as_millis();
        assert!((1..=most).contains(&(dialled as u128)), "{dialled} of {most}");
    }

    #[tokio::test]
    async fn a_port_that_does_not_answer_is_given_up() {
        // A full backlog drops what comes.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&std::net::SocketAddr::from((HERE, 0)).into()).unwrap();
        full.listen(0).unwrap();
        let address = full.local_addr().unwrap().as_socket().unwrap();
        let _waiting: Vec<_> = (0..4)
            .filter_map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok())
            .collect();
        let started = Instant::now();
        let probes = Probes::new([address.port()], Duration::from_millis(300));
        assert_eq!(probes.ask(HERE, address.port()).await, Some(false));
        assert!((300..2000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    }
}
