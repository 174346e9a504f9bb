//! Two network namespaces joined by a cable: the pod that asks and the pod that is protected.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{Failure, LOAD, run};

/// Where the pod is that asks, and the one that is protected.
pub(crate) const ASKS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 1));
pub(crate) const PROTECTED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 2));

/// Names of namespaces begin with this and the process id of the harness that made them.
const PREFIX: &str = "ewbench";
static MADE: AtomicUsize = AtomicUsize::new(0);

/// Removed when dropped.
pub(crate) struct Pods {
    asks: String,
    protected: String,
}

impl Pods {
    pub(crate) fn make() -> Result<Self, Failure> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = |role: &str| format!("{PREFIX}-{}-{number}-{role}", std::process::id());
        let pods = Self { asks: name("asks"), protected: name("protected") };
        let Self { asks, protected } = &pods;
        ip(&format!("netns add {asks}"))?;
        ip(&format!("netns add {protected}"))?;
        ip(&format!("-n {asks} link add eth0 type veth peer name eth0 netns {protected}"))?;
        for (pod, address) in [(asks, ASKS), (protected, PROTECTED)] {
            ip(&format!("-n {pod} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {pod} link set eth0 up"))?;
            ip(&format!("-n {pod} link set lo up"))?;
        }
        Ok(pods)
    }

    /// The path of the protected pod's namespace.
    pub(crate) fn protected(&self) -> String {
        format!("/run/netns/{}", self.protected)
    }

    /// Does something in the pod that asks, programs that it starts included.
    pub(crate) fn ask<T: Send>(&self, work: impl FnOnce() -> Result<T, Failure> + Send) -> Result<T, Failure> {
        let inside = || -> Result<T, Failure> {
            let namespace = File::open(Path::new("/run/netns").join(&self.asks))?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        let done = scope(|scope| scope.spawn(|| inside().map_err(|error| error.to_string())).join());
        Ok(done.map_err(|_| "a thread died")??)
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for pod in [&self.asks, &self.protected] {
            // One that was not made cannot be removed.
            let _ = ip(&format!("netns del {pod}"));
        }
    }
}

/// Removes what harnesses left behind that were killed.
pub(crate) fn sweep() -> Result<(), Failure> {
    for line in ip("netns list")?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let mut parts = name.split('-');
        let is_ours = parts.next() == Some(PREFIX);
        if is_ours && parts.next().is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            ip(&format!("netns del {name}"))?;
        }
    }
    Ok(())
}

fn ip(arguments: &str) -> Result<String, Failure> {
    run(LOAD, "ip", &arguments.split(' ').map(str::to_owned).collect::<Vec<_>>())
}
