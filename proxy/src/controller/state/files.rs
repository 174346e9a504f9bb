//! Which file holds which document: a policy has one of its own, so that its place says which it is; objects share one a
//! namespace, so that a pod that comes or goes is one file read again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use eastwall_protocol::v1alpha1::{Key, Object};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::hex;

/// Path below a version's folder.
type Name = Arc<str>;

/// Every file of a version. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(BTreeMap<Name, Arc<File>>);

#[derive(Clone, Debug, Default)]
struct File {
    /// By kind, namespace and name.
    documents: BTreeMap<[String; 3], Document>,
    /// Of its bytes, once they were made.
    digest: Option<[u8; 32]>,
}

#[derive(Clone, Debug)]
struct Document {
    key: Key,
    json: Arc<[u8]>,
}

/// A file that can be written.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) name: Name,
    pub(super) digest: [u8; 32],
    /// Its bytes; `None`: the same as before.
    pub(super) made: Option<Vec<u8>>,
}

impl Files {
    /// Puts a document into its file.
    pub(super) fn put(&mut self, object: Object) -> io::Result<()> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the controller sent {what}"));
        let key = object.key.ok_or_else(|| wrong("an object without a name"))?;
        let value: Value = serde_json::from_slice(&object.json).map_err(|_| wrong("an object that is no JSON"))?;
        if key != key_of(&value) {
            // It would stand in for another document.
            return Err(wrong("an object under another name"));
        }
        self.hold(Document { key, json: (&*object.json).into() });
        Ok(())
    }

    /// Takes a document away.
    pub(super) fn delete(&mut self, key: &Key) {
        let name = name(key);
        let Some(file) = self.0.get_mut(&name).map(Arc::make_mut) else { return };
        file.documents.remove(&identity(key));
        file.digest = None;
        if file.documents.is_empty() {
            self.0.remove(&name);
        }
    }

    /// Holds what a file holds.
    pub(super) fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut value: Value = serde_json::from_slice(bytes)?;
        let items = if value.get("kind").is_some_and(|kind| kind == "List") { value.get_mut("items") } else { None };
        let values = match items.map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => vec![value],
        };
        for value in values {
            self.hold(Document { key: key_of(&value), json: value.to_string().into_bytes().into() });
        }
        Ok(())
    }

    fn hold(&mut self, document: Document) {
        let file = Arc::make_mut(self.0.entry(name(&document.key)).or_default());
        file.documents.insert(identity(&document.key), document);
        file.digest = None;
    }

    /// Makes the bytes of every file that changed, and tells of every file.
    pub(super) fn finish(&mut self) -> io::Result<Vec<Finished>> {
        let mut all = Vec::with_capacity(self.0.len());
        for (name, file) in &mut self.0 {
            if let Some(digest) = file.digest {
                all.push(Finished { name: Arc::clone(name), digest, made: None });
                continue;
            }
            let bytes = file.bytes()?;
            let digest = Sha256::digest(&bytes).into();
            Arc::make_mut(file).digest = Some(digest);
            all.push(Finished { name: Arc::clone(name), digest, made: Some(bytes) });
        }
        Ok(all)
    }

    /// The bytes of a file.
    pub(super) fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0.get(name).map_or_else(|| Ok(Vec::new()), |file| file.bytes())
    }

    /// Names that the other has not.
    pub(super) fn gone_from<'f>(&'f self, other: &Self) -> BTreeSet<&'f Name> {
        self.0.keys().filter(|name| !other.0.contains_key(*name)).collect()
    }

    /// The only document of a file.
    pub(super) fn key_at(&self, name: &str) -> Option<Key> {
        let file = self.0.get(name).filter(|file| file.documents.len() == 1)?;
        file.documents.values().next().map(|document| document.key.clone())
    }
}

impl File {
    /// A policy is written as people read it: lines say where a rule stands.
    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut documents = self.documents.values();
        if let (Some(document), None) = (documents.next().filter(|one| !is_place(&one.key)), documents.next()) {
            let value: Value = serde_json::from_slice(&document.json)?;
            return Ok(format!("{value:#}\n").into_bytes());
        }
        let items: Vec<&[u8]> = self.documents.values().map(|document| &*document.json).collect();
        Ok([LIST, &items.join(&b",\n"[..]), b"\n]}\n"].concat())
    }
}

const LIST: &[u8] = b"{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[\n";

fn key_of(value: &Value) -> Key {
    let text = |at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    Key {
        api_version: text("/apiVersion"),
        kind: text("/kind"),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
    }
}

fn identity(key: &Key) -> [String; 3] {
    [key.kind.clone(), key.namespace.clone(), key.name.clone()]
}

fn group(key: &Key) -> &str {
    key.api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

/// Whether it says who is where; everything else is a policy.
fn is_place(key: &Key) -> bool {
    matches!(group(key), "" | "discovery.k8s.io")
}

fn name(key: &Key) -> Name {
    let parts = match (is_place(key), key.namespace.as_str()) {
        (true, "") => vec!["objects", "cluster"],
        (true, namespace) => vec!["objects", "namespaces", namespace],
        (false, "") => vec!["policies", group(key), &key.kind, &key.name],
        (false, namespace) => vec!["policies", group(key), &key.kind, namespace, &key.name],
    };
    let parts: Vec<String> = parts.into_iter().map(safe).collect();
    format!("{}.json", parts.join("/")).into()
}

/// A name as a part of a path. Names of Kubernetes are; what could lead elsewhere, or is too long, gets a digest instead.
fn safe(part: &str) -> String {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if !part.is_empty() && part.len() <= LONGEST && !part.starts_with('.') && part.bytes().all(known) {
        return part.to_owned();
    }
    let shown: String = part.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(LONGEST / 2).collect();
    format!("{shown}_{}", hex(&Sha256::digest(part).into()))
}

/// Of one part of a path, its ending left out: file systems take 255 bytes.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for part in ["..", ".", "", "a/b", "/etc", ".hidden", "a\0", &"x".repeat(300), "ü", "a_b"] {
            let safe = safe(part);
            assert!(!safe.contains('/') && !safe.starts_with('.') && safe.len() < 220, "{part}: {safe}");
            assert!(safe.contains('_'), "it could be another's: {part}");
        }
        assert_eq!(safe("orders-v1.shop"), "orders-v1.shop");
        let key = |namespace: &str, name: &str| Key {
            api_version: "eastwall.dev/v1alpha1".into(),
            kind: "FirewallPolicy".into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        assert_eq!(&*name(&key("shop", "orders")), "policies/eastwall.dev/FirewallPolicy/shop/orders.json");
        assert_ne!(name(&key("a", "b/c")), name(&key("a/b", "c")));
    }
}
