//! `eastwall inject`: Kubernetes objects in, the same with the sidecar out.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use eastwall_injector::{FieldPath, Injector, Outcome, Scope, Segment, Settings, Untouched};
use eastwall_policy::diagnostic::as_text;
use eastwall_policy::source::{self, Node, Value as Tree};
use serde_json::Value;

use super::output::{complain, print, style};
use crate::bounds::ReadingSettings;
use crate::intercept::rules::Family;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads files of YAML (several documents, Lists) or JSON, writes the same to standard output. Objects without pods, and pods
with the label or annotation `eastwall.dev/inject: disabled`, are written as they were, to the byte. In objects that get the
sidecar the order of fields stays, comments and the way that values were written are lost. Injecting twice changes nothing.

One object that is refused, and nothing is written at all. A cluster's own webhook does the same to pods.

Exit codes: 0 done, 1 an object is refused, 2 unusable call or documents.

Examples:
  eastwall inject -f deployment.yaml | kubectl apply -f -
  kubectl get deployment orders -o yaml | eastwall inject | kubectl apply -f -
  eastwall inject -f app.yaml --settings sidecar.yaml --image registry.example/eastwall:0.1.0"
)]
pub(super) struct Inject {
    /// File, or `-` for standard input; may be repeated
    #[arg(short, long = "file", value_name = "FILE", default_value = "-")]
    files: Vec<PathBuf>,
    /// Settings, a YAML mapping; a flag wins
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Image of the sidecar, with a version
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Address of the controller
    #[arg(long, value_name = "HOST:PORT")]
    controller: Option<String>,
    /// Uid of the proxy
    #[arg(long)]
    uid: Option<u32>,
    /// Port that gets what arrives at the pod
    #[arg(long, value_name = "PORT")]
    inbound_port: Option<u16>,
    /// Port that gets what the pod opens
    #[arg(long, value_name = "PORT")]
    outbound_port: Option<u16>,
    /// Port of health, readiness, metrics and probes
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,
    /// IP versions that are redirected
    #[arg(long, value_enum)]
    family: Option<Family>,
    #[command(flatten)]
    reading: ReadingSettings,
}

impl Inject {
    pub(super) fn run(&self) -> ExitCode {
        match self.injected() {
            Ok(text) => print(text).err().unwrap_or(ExitCode::SUCCESS),
            Err(code) => code,
        }
    }

    fn injected(&self) -> Result<String, ExitCode> {
        let unusable = |message: String| {
            complain(format_args!("eastwall inject: {message}"));
            ExitCode::from(2)
        };
        let settings = self.settings().map_err(unusable)?;
        let injector = Injector::new(settings).map_err(|error| unusable(error.to_string()))?;
        let mut run = Run { injector, text: String::new(), refused: false, broken: false };
        for path in &self.files {
            run.file(path, &self.reading);
        }
        match run {
            Run { broken: true, .. } => Err(ExitCode::from(2)),
            Run { refused: true, .. } => Err(ExitCode::from(1)),
            Run { text, .. } => Ok(text),
        }
    }

    fn settings(&self) -> Result<Settings, String> {
        let mut settings = match &self.settings {
            None => Settings::default(),
            Some(path) => {
                let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
                read.and_then(|text| serde_saphyr::from_str(&text).map_err(|error| error.to_string()))
                    .map_err(|message| format!("`{}`: {message}", path.display()))?
            }
        };
        fn set<T: Clone>(flag: Option<&T>, into: &mut T) {
            if let Some(value) = flag {
                *into = value.clone();
            }
        }
        set(self.image.as_ref(), &mut settings.image);
        set(self.controller.as_ref(), &mut settings.controller);
        set(self.uid.as_ref(), &mut settings.uid);
        set(self.inbound_port.as_ref(), &mut settings.inbound_port);
        set(self.outbound_port.as_ref(), &mut settings.outbound_port);
        set(self.admin_port.as_ref(), &mut settings.admin_port);
        let family = self.family.map(|family| match family {
            Family::Both => eastwall_injector::Family::Both,
            Family::Ipv4 => eastwall_injector::Family::Ipv4,
            Family::Ipv6 => eastwall_injector::Family::Ipv6,
        });
        set(family.as_ref(), &mut settings.family);
        Ok(settings)
    }
}

/// All files of one call.
struct Run {
    injector: Injector,
    text: String,
    refused: bool,
    broken: bool,
}

impl Run {
    fn file(&mut self, path: &Path, reading: &ReadingSettings) {
        let bounds = reading.bounds();
        let (name, text) = match source::text_of(path, &bounds) {
            Ok(read) => read,
            Err(error) => return self.unusable(as_text(&error, style(&std::io::stderr())).trim_end()),
        };
        let (documents, diagnostics) = source::cut(&name, &text, &bounds);
        for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.is_error()) {
            self.unusable(as_text(diagnostic, style(&std::io::stderr())).trim_end());
        }
        for (range, tree) in documents {
            // Comments between two markers.
            if tree.value != Tree::Null {
                self.document(&name, &text, range, &tree);
            }
        }
    }

    fn document(&mut self, name: &str, text: &Arc<str>, range: Range<usize>, tree: &Node) {
        let object = match json(tree) {
            Ok(object) => object,
            Err((line, message)) => return self.unusable(&format!("{name}:{line}: {message}")),
        };
        let part = text.get(range).unwrap_or_default();
        match self.injector.inject(&object, Scope::Everything) {
            Ok(Outcome::Untouched(why)) => {
                if why == Untouched::NoPods && has_template(&object) {
                    let (line, title) = (tree.span.line, title(&object));
                    complain(format_args!(
                        "{name}:{line}: note: {title} is of no kind whose pods can get the sidecar here: the webhook does that"
                    ));
                }
                self.add(without_marker(part));
            }
            Ok(Outcome::Injected(injected)) => {
                for warning in &injected.warnings {
                    let line = line_of(tree, &warning.path);
                    complain(format_args!("{name}:{line}: warning: {}: {warning}", title(&object)));
                }
                let written = if without_marker(part).trim_start().starts_with('{') {
                    serde_json::to_string_pretty(&injected.object).map_err(|error| error.to_string())
                } else {
                    serde_saphyr::to_string(&injected.object).map_err(|error| error.to_string())
                };
                match written {
                    Ok(written) => self.add(&written),
                    Err(error) => self.unusable(&format!("{name}:{}: cannot be written: {error}", tree.span.line)),
                }
            }
            Err(refusals) => {
                self.refused = true;
                for refusal in refusals.iter() {
                    let line = line_of(tree, &refusal.path);
                    complain(format_args!("{name}:{line}: refused: {}: {refusal}", title(&object)));
                }
            }
        }
    }

    fn unusable(&mut self, message: &str) {
        self.broken = true;
        complain(message);
    }

    fn add(&mut self, document: &str) {
        if !self.text.is_empty() {
            self.text.push_str("---\n");
        }
        let _ = writeln!(self.text, "{}", document.trim_end_matches(['\n', '\r']));
    }
}

/// A document without the line that begins it, and without directives, which stand before that.
fn without_marker(part: &str) -> &str {
    let mut rest = part;
    while rest.starts_with('%') {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    let Some(content) = rest.strip_prefix("---") else { return rest };
    let content = content.trim_start_matches([' ', '\t']);
    content.strip_prefix("\r\n").or_else(|| content.strip_prefix('\n')).unwrap_or(content)
}

/// The line where a field stands, or the nearest above it that is there.
fn line_of(tree: &Node, path: &FieldPath) -> u32 {
    let mut node = tree;
    for segment in path.segments() {
        let next = match (segment, &node.value) {
            (Segment::Key(key), _) => node.get(key),
            (Segment::Index(index), Tree::List(items)) => items.get(*index),
            (Segment::Index(_), _) => None,
        };
        let Some(next) = next else { break };
        node = next;
    }
    node.span.line
}

fn title(object: &Value) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let metadata = object.get("metadata");
    let of = |member: &str| text(metadata.and_then(|metadata| metadata.get(member)));
    let kind = text(object.get("kind")).unwrap_or_else(|| "an object without `kind`".to_owned());
    match (of("namespace"), of("name").or_else(|| of("generateName"))) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => kind,
    }
}

/// A custom resource that makes pods, as far as one can see.
fn has_template(object: &Value) -> bool {
    object.pointer("/spec/template/spec/containers").is_some_and(Value::is_array)
}

/// As `kubectl` reads it: by YAML 1.1, in which a number that begins with 0 is octal.
fn json(node: &Node) -> Result<Value, (u32, String)> {
    Ok(match &node.value {
        Tree::Number(text) => number(text).ok_or_else(|| {
            (node.span.line, format!("`{text}` can be read in two ways: write it in quotes, or decimal"))
        })?,
        Tree::List(items) => items.iter().map(json).collect::<Result<_, _>>()?,
        Tree::Map(entries) => {
            let members = entries.iter().map(|(key, node)| Ok((key.text.to_string(), json(node)?)));
            Value::Object(members.collect::<Result<_, (u32, String)>>()?)
        }
        _ => node.to_json(),
    })
}

fn number(text: &str) -> Option<Value> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |digits: &str, radix| i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Value::from);
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        return radix(hexadecimal, 16);
    }
    if let Some(octal) = digits.strip_prefix("0o") {
        return radix(octal, 8);
    }
    if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return radix(digits, 8);
    }
    let decimal: Value = serde_json::from_str(&format!("{sign}{digits}")).ok()?;
    // More digits than fit would come out as others.
    let is_whole = digits.bytes().all(|digit| digit.is_ascii_digit());
    (!is_whole || decimal.is_i64() || decimal.is_u64()).then_some(decimal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_kubectl_reads_them() {
        for (text, expected) in [
            ("0", "0"),
            ("8080", "8080"),
            ("-1", "-1"),
            ("+1", "1"),
            ("0644", "420"),
            ("0o644", "420"),
            ("0x1F", "31"),
            ("1.5", "1.5"),
        ] {
            assert_eq!(number(text).map(|number| number.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in ["089", ".inf", ".nan", "123456789012345678901234567890", "0x", "1."] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn markers_and_directives_are_no_part_of_a_document() {
        for (part, expected) in [
            ("a: 1\n", "a: 1\n"),
            ("---\na: 1\n", "a: 1\n"),
            ("--- \r\na: 1\n", "a: 1\n"),
            ("--- {a: 1}\n", "{a: 1}\n"),
            ("%YAML 1.2\n---\na: 1", "a: 1"),
        ] {
            assert_eq!(without_marker(part), expected, "{part:?}");
        }
    }
}
