//! The messages, parsed and told. No socket, no pod.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What the plugin wants.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Request {
    /// A pod has got its network, and has sent nothing yet.
    Add(Add),
    /// A pod is taken down.
    Delete(Delete),
    /// Is a pod served?
    Check(Check),
    /// Would a pod be taken now?
    Status(Status),
}

/// See [`Request::Add`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Add {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    #[serde(default)]
    pub(super) uid: Option<Arc<str>>,
    pub(super) netns: PathBuf,
    pub(super) ips: Vec<IpAddr>,
}

/// See [`Request::Delete`]. Without a path: the runtime has none any more.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delete {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    #[serde(default)]
    pub(super) uid: Option<Arc<str>>,
    #[serde(default)]
    pub(super) netns: Option<PathBuf>,
}

/// See [`Request::Check`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) netns: PathBuf,
}

/// See [`Request::Status`].
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Status {}

/// What it is told.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    ok: bool,
    #[serde(skip_serializing_if = "is_false")]
    exempt: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    retry: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Request {
    /// One line, or what is wrong with it.
    pub(super) fn parse(line: &[u8]) -> Result<Self, String> {
        let request: Self = serde_json::from_slice(line).map_err(|error| format!("not understood: {error}"))?;
        let (namespace, name, netns) = match &request {
            Self::Add(add) => {
                addresses(&add.ips)?;
                (&add.namespace, &add.name, Some(&*add.netns))
            }
            Self::Delete(delete) => (&delete.namespace, &delete.name, delete.netns.as_deref()),
            Self::Check(check) => (&check.namespace, &check.name, Some(&*check.netns)),
            Self::Status(_) => return Ok(request),
        };
        named("namespace", namespace)?;
        named("name", name)?;
        match netns.filter(|path| !path.is_absolute()) {
            Some(path) => Err(format!("`netns` must be an absolute path, not `{}`", path.display())),
            None => Ok(request),
        }
    }

    /// `namespace/name`.
    pub(super) fn pod(namespace: &str, name: &str) -> String {
        format!("{namespace}/{name}")
    }
}

impl Answer {
    /// Done.
    pub(super) fn done(exempt: bool) -> Self {
        Self { ok: true, exempt, error: None, retry: false }
    }

    /// Not done.
    pub(super) fn refused(error: impl Into<String>, retry: bool) -> Self {
        Self { ok: false, exempt: false, error: Some(error.into()), retry }
    }

    /// One line.
    pub(super) fn line(&self) -> Vec<u8> {
        // A struct of strings and booleans can be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// As Kubernetes names things; a `/` would make two names of one.
fn named(what: &str, text: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    if text.is_empty() || text.len() > NAME_MAX || !text.bytes().all(is_plain) {
        return Err(format!("`{what}` is no Kubernetes name"));
    }
    Ok(())
}

fn addresses(ips: &[IpAddr]) -> Result<(), String> {
    if ips.len() > IPS_MAX {
        return Err(format!("more than {IPS_MAX} addresses"));
    }
    let is_nobodys = |ip: &&IpAddr| {
        let ip = ip.to_canonical();
        ip.is_unspecified() || ip.is_loopback() || ip.is_multicast()
    };
    match ips.iter().find(is_nobodys) {
        Some(ip) => Err(format!("{ip} is no pod's address")),
        None => Ok(()),
    }
}

/// Of a name in Kubernetes.
const NAME_MAX: usize = 253;

/// A pod has one or two, more with further networks.
const IPS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_understood() {
        let add = br#"{"add":{"namespace":"shop","name":"web-1","netns":"/run/netns/a","ips":["10.0.0.3","fd00::3"]}}"#;
        let Ok(Request::Add(add)) = Request::parse(add) else { panic!("no add") };
        assert!(*add.netns == *"/run/netns/a" && add.uid.is_none() && add.ips.len() == 2);
        let delete = br#"{"delete":{"namespace":"shop","name":"web-1","uid":"u"}}"#;
        let Ok(Request::Delete(delete)) = Request::parse(delete) else { panic!("no delete") };
        assert!(delete.netns.is_none() && delete.uid.as_deref() == Some("u"));
        assert!(matches!(
            Request::parse(br#"{"check":{"namespace":"s","name":"w","netns":"/n"}}"#),
            Ok(Request::Check(_))
        ));
        assert!(matches!(Request::parse(br#"{"status":{}}"#), Ok(Request::Status(_))));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let many = vec!["\"10.0.0.1\""; IPS_MAX + 1].join(",");
        let long = "a".repeat(NAME_MAX + 1);
        for (line, word) in [
            (String::new(), "understood"),
            ("{}".into(), "understood"),
            (r#""add""#.into(), "understood"),
            (r#"{"remove":{}}"#.into(), "understood"),
            (r#"{"status":{"more":1}}"#.into(), "understood"),
            (r#"{"status":{},"add":{}}"#.into(), "understood"),
            (r#"{"add":{"namespace":"s","name":"w","ips":[]}}"#.into(), "netns"),
            (r#"{"add":{"namespace":"s","name":"w","netns":"/n","ips":[],"ports":[]}}"#.into(), "ports"),
            (r#"{"add":{"namespace":"s","name":"w","name":"v","netns":"/n","ips":[]}}"#.into(), "duplicate"),
            (r#"{"add":{"namespace":"s","name":"w","netns":"n","ips":[]}}"#.into(), "absolute"),
            (r#"{"add":{"namespace":"s","name":"w","netns":"/n","ips":["10.0.0.300"]}}"#.into(), "understood"),
            (r#"{"add":{"namespace":"s","name":"w","netns":"/n","ips":["127.0.0.1"]}}"#.into(), "127.0.0.1"),
            (r#"{"add":{"namespace":"s","name":"w","netns":"/n","ips":["::ffff:0.0.0.0"]}}"#.into(), "address"),
            (format!(r#"{{"add":{{"namespace":"s","name":"w","netns":"/n","ips":[{many}]}}}}"#), "addresses"),
            (r#"{"add":{"namespace":"s/x","name":"w","netns":"/n","ips":[]}}"#.into(), "`namespace`"),
            (r#"{"delete":{"namespace":"s","name":""}}"#.into(), "`name`"),
            (format!(r#"{{"delete":{{"namespace":"s","name":"{long}"}}}}"#), "`name`"),
            (r#"{"check":{"namespace":"s","name":"../w","netns":"/n"}}"#.into(), "`name`"),
        ] {
            let error = Request::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn answers_are_one_line_each() {
        for (answer, expected) in [
            (Answer::done(false), "{\"ok\":true}\n"),
            (Answer::done(true), "{\"ok\":true,\"exempt\":true}\n"),
            (Answer::refused("a\nb", false), "{\"ok\":false,\"error\":\"a\\nb\"}\n"),
            (Answer::refused("later", true), "{\"ok\":false,\"error\":\"later\",\"retry\":true}\n"),
        ] {
            assert_eq!(String::from_utf8(answer.line()).unwrap(), expected);
        }
    }
}
