//! The network configuration that the runtime writes to standard input.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// What this plugin reads of it. The runtime and other plugins may have members of their own there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Configuration<'a> {
    /// The version that the runtime speaks.
    pub(crate) cni_version: String,
    /// Socket of the node proxy.
    #[serde(default = "socket")]
    pub(crate) socket: PathBuf,
    /// Namespaces whose pods start without a proxy.
    #[serde(default = "exempt_namespaces")]
    pub(crate) exempt_namespaces: Vec<String>,
    /// How long the proxy may take.
    #[serde(default = "timeout_seconds")]
    pub(crate) timeout_seconds: u64,
    #[serde(borrow, default)]
    prev_result: Option<&'a RawValue>,
}

/// What the plugins before have made.
#[derive(Debug)]
pub(crate) struct Previous<'a> {
    /// As it came.
    text: &'a str,
    has_version: bool,
    /// The addresses that the pod got.
    pub(crate) ips: Vec<IpAddr>,
}

impl<'a> Configuration<'a> {
    /// Reads and checks what this plugin needs.
    pub(crate) fn of(text: &'a str) -> Result<Self, Failure> {
        let configuration: Self =
            serde_json::from_str(text).map_err(|error| Failure::undecodable(error.to_string()))?;
        if !configuration.socket.is_absolute() {
            let path = configuration.socket.display();
            return Err(Failure::configuration(format!("`socket` must be an absolute path, not `{path}`")));
        }
        if !TIMEOUTS.contains(&configuration.timeout_seconds) {
            let (least, most) = TIMEOUTS.into_inner();
            return Err(Failure::configuration(format!("`timeoutSeconds` must be {least} to {most}")));
        }
        Ok(configuration)
    }

    /// The result of the plugins before. Without one this plugin is not chained: there is no network to stand before.
    pub(crate) fn previous(&self) -> Result<Previous<'a>, Failure> {
        let text = self.prev_result.map(RawValue::get).ok_or_else(|| {
            Failure::configuration(
                "`prevResult` is missing: eastwall-cni comes after the plugin that makes the network".into(),
            )
        })?;
        let wrong = |why: String| Failure::undecodable(format!("`prevResult`: {why}"));
        let result: Map<String, Value> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let listed = match result.get("ips") {
            None | Some(Value::Null) => &[][..],
            Some(Value::Array(listed)) => listed,
            Some(_) => return Err(wrong("`ips` is no list".into())),
        };
        let address = |entry: &Value| {
            let text = entry.get("address").and_then(Value::as_str)?;
            text.split_once('/').map_or(text, |(address, _)| address).parse().ok()
        };
        let ips = listed
            .iter()
            .map(|entry| address(entry).ok_or_else(|| wrong(format!("`ips`: {entry} has no address"))))
            .collect::<Result<_, _>>()?;
        Ok(Previous { text, has_version: result.contains_key("cniVersion"), ips })
    }
}

impl Previous<'_> {
    /// The result of this plugin: the same, with the version that a result must have.
    pub(crate) fn told(&self, version: &str) -> String {
        match self.text.strip_prefix('{') {
            Some(rest) if !self.has_version => {
                let comma = if rest.trim_start().starts_with('}') { "" } else { "," };
                format!("{{\"cniVersion\":{}{comma}{rest}\n", Value::from(version))
            }
            _ => format!("{}\n", self.text),
        }
    }
}

/// Default of `socket`.
pub(crate) fn socket() -> PathBuf {
    "/run/eastwall/cni.sock".into()
}

/// Default of `exemptNamespaces`: what the proxy itself needs to start.
pub(crate) fn exempt_namespaces() -> Vec<String> {
    ["kube-system", "eastwall-system"].map(str::to_owned).into()
}

/// Default of `timeoutSeconds`.
pub(crate) fn timeout_seconds() -> u64 {
    10
}

/// Of `timeoutSeconds`; a runtime gives up after a few minutes.
pub(crate) const TIMEOUTS: RangeInclusive<u64> = 1..=300;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(more: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"n","type":"eastwall-cni","runtimeConfig":{{}}{more}}}"#)
    }

    #[test]
    fn members_have_defaults() {
        let text = of("");
        let configuration = Configuration::of(&text).unwrap();
        assert_eq!(configuration.socket, socket());
        assert_eq!(configuration.exempt_namespaces, ["kube-system", "eastwall-system"]);
        assert_eq!(configuration.timeout_seconds, 10);
        let text = of(r#","socket":"/a","exemptNamespaces":[],"timeoutSeconds":3"#);
        let configuration = Configuration::of(&text).unwrap();
        assert_eq!((configuration.socket, configuration.timeout_seconds), ("/a".into(), 3));
        assert!(configuration.exempt_namespaces.is_empty());
    }

    #[test]
    fn what_cannot_be_is_an_error_with_its_code() {
        for (text, code, word) in [
            (String::new(), 6, "EOF"),
            ("{}".into(), 6, "cniVersion"),
            (of(r#","socket":"a""#), 7, "absolute"),
            (of(r#","timeoutSeconds":0"#), 7, "1 to 300"),
            (of(r#","timeoutSeconds":301"#), 7, "1 to 300"),
            (of(r#","exemptNamespaces":"kube-system""#), 6, "sequence"),
            (of(r#","socket":"/a","socket":"/b""#), 6, "duplicate"),
        ] {
            let failure = Configuration::of(&text).unwrap_err();
            assert_eq!(failure.code(), code, "{text}: {failure:?}");
            assert!(failure.details().contains(word), "{text}: {failure:?}");
        }
    }

    #[test]
    fn the_result_before_is_read_and_kept_as_it_is() {
        let result = r#"{ "cniVersion":"1.0.0", "ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1"},{"address":"fd00::5/64"}], "x":1.50 }"#;
        let text = of(&format!(r#","prevResult":{result}"#));
        let previous = Configuration::of(&text).unwrap().previous().unwrap();
        assert_eq!(previous.text, result);
        assert_eq!(previous.ips, ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
        let text = of(r#","prevResult":{"interfaces":[]}"#);
        assert!(Configuration::of(&text).unwrap().previous().unwrap().ips.is_empty());
        for (more, code) in [
            ("", 7),
            (r#","prevResult":null"#, 7),
            (r#","prevResult":[]"#, 6),
            (r#","prevResult":{"ips":{}}"#, 6),
            (r#","prevResult":{"ips":[{"address":"10.1.0/16"}]}"#, 6),
            (r#","prevResult":{"ips":["10.1.0.5"]}"#, 6),
        ] {
            let text = of(more);
            assert_eq!(Configuration::of(&text).unwrap().previous().unwrap_err().code(), code, "{more}");
        }
    }
}
