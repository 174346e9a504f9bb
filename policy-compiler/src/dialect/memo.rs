//! What was read of each document, taken over while the document and the settings stay the same.

use std::fmt::Debug;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Outcome, cilium, native};
use crate::settings::Settings;
use crate::source::Document;

/// What each front end that reads documents one by one made of them.
#[derive(Debug, Default)]
pub struct Memos {
    settings: Settings,
    pub(super) native: Memo<native::Read>,
    pub(super) istio: Memo<Outcome>,
    pub(super) cilium: Memo<cilium::Read>,
    pub(super) network: Memo<Outcome>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Memo<T> {
    before: ByIdentity<T>,
    now: ByIdentity<T>,
}

type ByIdentity<T> = HashMap<u64, Arc<T>, foldhash::fast::RandomState>;

impl Memos {
    /// For the next compilation: knows what this one read, if the settings are the same.
    pub(super) fn next(&self, settings: &Settings) -> Self {
        if *settings != self.settings {
            return Self { settings: settings.clone(), ..Self::default() };
        }
        Self {
            settings: settings.clone(),
            native: self.native.next(),
            istio: self.istio.next(),
            cilium: self.cilium.next(),
            network: self.network.next(),
        }
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { before: ByIdentity::default(), now: ByIdentity::default() }
    }
}

impl<T> Memo<T> {
    fn next(&self) -> Self {
        Self { before: self.now.clone(), now: ByIdentity::default() }
    }

    /// What `read` says of this document, read now or before. It may depend on the document and the settings alone.
    pub(super) fn of(&mut self, document: &Document, read: impl FnOnce() -> T) -> Arc<T> {
        let identity = document.root.identity();
        // What is broken is a part of a document: the same part may be broken in another way.
        let known = self.before.get(&identity).filter(|_| !document.broken);
        let made = known.map_or_else(|| Arc::new(read()), Arc::clone);
        self.now.insert(identity, Arc::clone(&made));
        made
    }
}
