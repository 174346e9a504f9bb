//! Objects that go to proxies together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::cluster::Key;

/// Of what is told.
pub(super) type Digest = [u8; 32];

/// An object as proxies are told of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) json: Bytes,
    pub(super) digest: Digest,
}

/// Objects by name, and the digest of all.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) entries: BTreeMap<Key, Arc<Entry>>,
    pub(super) digest: Digest,
}

impl Entry {
    pub(super) fn new(key: Key, told: &serde_json::Value) -> Self {
        let json = Bytes::from(told.to_string());
        let digest = Sha256::digest(&json).into();
        Self { key, json, digest }
    }
}

impl Group {
    pub(super) fn new(entries: BTreeMap<Key, Arc<Entry>>) -> Self {
        let mut hash = Sha256::new();
        entries.values().for_each(|entry| hash.update(entry.digest));
        Self { entries, digest: hash.finalize().into() }
    }
}

/// The names of what one has and the other has not, or not so.
pub(super) fn differing<'g>(
    before: &'g BTreeMap<Key, Arc<Entry>>,
    after: &'g BTreeMap<Key, Arc<Entry>>,
) -> impl Iterator<Item = &'g Key> {
    let is_same = |a: &Arc<Entry>, b: &Arc<Entry>| Arc::ptr_eq(a, b) || a.digest == b.digest;
    let changed = after.iter().filter(move |(key, entry)| !before.get(key).is_some_and(|held| is_same(held, entry)));
    let gone = before.keys().filter(|key| !after.contains_key(key));
    changed.map(|(key, _)| key).chain(gone)
}
