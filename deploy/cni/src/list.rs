//! A network configuration list as text. What is added can be taken away again, and leaves every other byte as it was.

use std::ops::Range;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::configuration;

/// This plugin in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// See [`configuration::Configuration`].
    pub(crate) socket: String,
    pub(crate) exempt_namespaces: Vec<String>,
    pub(crate) timeout_seconds: u64,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            socket: configuration::socket().display().to_string(),
            exempt_namespaces: configuration::exempt_namespaces(),
            timeout_seconds: configuration::timeout_seconds(),
        }
    }
}

/// Name of the program, and so the `type` of its entry.
pub(crate) const TYPE: &str = "eastwall-cni";

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    plugins: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Plugin {
    #[serde(rename = "type")]
    name: String,
}

impl Entry {
    fn text(&self) -> String {
        let Self { socket, exempt_namespaces, timeout_seconds } = self;
        let entry = json!({
            "type": TYPE,
            "socket": socket,
            "exemptNamespaces": exempt_namespaces,
            "timeoutSeconds": timeout_seconds,
        });
        entry.to_string()
    }
}

/// The list with this entry at its end, and nowhere else.
pub(crate) fn with(text: &str, entry: &Entry) -> Result<String, String> {
    let mut text = without(text)?;
    let plugins = plugins(&text)?;
    // Alone it would stand before no network.
    let last =
        plugins.last().ok_or("`plugins` is empty: eastwall-cni comes after the plugin that makes the network")?;
    let end = last.0.end;
    let line = text.get(..last.0.start).and_then(|before| before.rsplit_once('\n')).map(|(_, line)| line);
    let indent = line.filter(|line| line.trim().is_empty()).map(|line| format!("\n{line}"));
    text.insert_str(end, &format!(",{}{}", indent.unwrap_or_default(), entry.text()));
    Ok(text)
}

/// The list without this plugin.
pub(crate) fn without(text: &str) -> Result<String, String> {
    let mut text = text.to_owned();
    loop {
        let plugins = plugins(&text)?;
        let Some(at) = plugins.iter().position(|(_, name)| name == TYPE) else { return Ok(text) };
        let here = plugins.get(at).map_or(0..0, |(range, _)| range.clone());
        let before = at.checked_sub(1).and_then(|at| plugins.get(at));
        let gone = match (before, plugins.get(at + 1)) {
            (Some((before, _)), _) => before.end..here.end,
            (None, Some((after, _))) => here.start..after.start,
            (None, None) => here,
        };
        text.replace_range(gone, "");
    }
}

/// Where each plugin stands in the text, and its type.
fn plugins(text: &str) -> Result<Vec<(Range<usize>, String)>, String> {
    let list: List<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let place = |raw: &&RawValue| {
        let plugin: Plugin = serde_json::from_str(raw.get()).map_err(|error| format!("`plugins`: {error}"))?;
        // A raw value is a slice of the text that it was read from.
        let start = (raw.get().as_ptr() as usize) - (text.as_ptr() as usize);
        Ok((start..start + raw.get().len(), plugin.name))
    };
    list.plugins.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const PRETTY: &str = "{\n  \"name\": \"k8s\",\n  \"cniVersion\": \"0.3.1\",\n  \"plugins\": [\n    {\n      \"type\": \"calico\",\n      \"mtu\": 0\n    },\n    {\"type\": \"portmap\", \"snat\": true, \"capabilities\": {\"portMappings\": true}}\n  ],\n  \"disableCheck\": true\n}\n";

    fn types(text: &str) -> Vec<String> {
        plugins(text).unwrap().into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn what_is_added_comes_last_and_goes_without_a_trace() {
        for text in [
            PRETTY,
            r#"{"plugins":[{"type":"ptp"}]}"#,
            "{\"plugins\" : [ {\"type\":\"ptp\"} ]}",
            "{\"plugins\":[\n\t{\"type\":\"a\"}\n]}",
        ] {
            let added = with(text, &Entry::default()).unwrap();
            assert_eq!(types(&added).last().unwrap(), TYPE, "{added}");
            assert_eq!(types(&added).len(), types(text).len() + 1);
            assert_eq!(with(&added, &Entry::default()).unwrap(), added, "twice is once");
            assert_eq!(without(&added).unwrap(), text);
            assert_eq!(without(text).unwrap(), text);
        }
        let added = with(PRETTY, &Entry::default()).unwrap();
        assert!(added.contains("}},\n    {\"type\":\"eastwall-cni\","), "{added}");
        let (before, after): (Value, Value) =
            (serde_json::from_str(PRETTY).unwrap(), serde_json::from_str(&added).unwrap());
        assert_eq!(before["plugins"][0], after["plugins"][0]);
        assert_eq!(before["disableCheck"], after["disableCheck"]);
        let expected = json!({"type": TYPE, "socket": "/run/eastwall/cni.sock", "exemptNamespaces": ["kube-system", "eastwall-system"], "timeoutSeconds": 10});
        assert_eq!(after["plugins"][2], expected);
    }

    #[test]
    fn other_settings_replace_those_before_and_other_places_too() {
        let other = Entry { socket: "/other".into(), exempt_namespaces: vec![], timeout_seconds: 3 };
        let added = with(&with(PRETTY, &Entry::default()).unwrap(), &other).unwrap();
        assert_eq!(added, with(PRETTY, &other).unwrap());
        let first = r#"{"plugins":[{"type":"eastwall-cni"}, {"type":"a"}, {"type":"eastwall-cni"}, {"type":"b"}]}"#;
        assert_eq!(without(first).unwrap(), r#"{"plugins":[{"type":"a"}, {"type":"b"}]}"#);
        assert_eq!(types(&with(first, &other).unwrap()), ["a", "b", TYPE]);
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":"bridge"}"#,
            r#"{"plugins":{}}"#,
            r#"{"plugins":[{}]}"#,
            r#"{"plugins":[]}"#,
            r#"{"plugins":[{"type":"a"}],"plugins":[]}"#,
            r#"{"plugins":[{"type":"eastwall-cni"}]}"#,
        ] {
            assert!(with(text, &Entry::default()).is_err(), "{text}");
        }
        assert_eq!(without(r#"{"plugins":[{"type":"eastwall-cni"}]}"#).unwrap(), r#"{"plugins":[]}"#);
    }
}
