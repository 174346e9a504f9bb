//! The policy that every proxy gets: each rule allows one source address one method on one path, all else is denied.

use std::net::{IpAddr, Ipv4Addr};

/// Where the load comes from: the first source.
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Whom no rule names.
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9));
/// The pod behind the proxy.
pub(crate) const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Where proxies listen.
pub(crate) const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

/// How many rules there are: ten for each source, and more than ten above a thousand sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules(pub(crate) usize);

/// One rule.
pub(crate) struct Rule {
    pub(crate) number: usize,
    pub(crate) source: usize,
    pub(crate) method: &'static str,
    pub(crate) path: String,
}

impl Rules {
    pub(crate) fn all(self) -> impl Iterator<Item = Rule> {
        (0..self.0).map(move |number| {
            let sources = self.sources();
            let method = METHODS[number / sources % METHODS.len()];
            Rule { number, source: number % sources, method, path: format!("/api/v1/items-{number}") }
        })
    }

    pub(crate) fn sources(self) -> usize {
        (self.0 / 10).clamp(1, 1_000)
    }

    /// The address of a source. The load keeps its own; the others move between two networks from revision to revision.
    pub(crate) fn address(source: usize, revision: usize) -> IpAddr {
        match source {
            0 => CLIENT,
            other => Ipv4Addr::from(0x7F01_0000 + ((revision as u32 % 2) << 16) + other as u32).into(),
        }
    }

    /// The paths that the load may ask for with this method.
    pub(crate) fn allowed(self, method: &str) -> Vec<String> {
        self.all().filter(|rule| rule.source == 0 && rule.method == method).map(|rule| rule.path).collect()
    }

    /// The paths that the load is denied to GET: what it may do only otherwise, and what only others may.
    pub(crate) fn denied(self) -> Vec<String> {
        let others = self.all().filter(|rule| (rule.source == 0) != (rule.method == "GET"));
        others.take(10).map(|rule| rule.path).collect()
    }
}
