//! What was read of each document, taken over while the document and the settings stay the same.

use std::fmt::Debug;
use std::sync::Arc;

use hashbrown::HashMap;

use super::{Outcome, cilium, native};
use crate::pace;
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
    without_mentions: bool,
}

/// What a front end makes of one document.
pub(super) trait Reading {
    /// Leaves out what the document names.
    fn forget_mentions(&mut self);
}

type ByIdentity<T> = HashMap<u64, Arc<T>, foldhash::fast::RandomState>;

impl Memos {
    /// For who asks nobody whether what is named exists: it takes as much memory as the rules.
    pub(super) fn without_mentions() -> Self {
        Self::anew(Settings::default(), true)
    }

    fn anew(settings: Settings, without_mentions: bool) -> Self {
        Self {
            settings,
            native: Memo::anew(without_mentions),
            istio: Memo::anew(without_mentions),
            cilium: Memo::anew(without_mentions),
            network: Memo::anew(without_mentions),
        }
    }

    /// For the next compilation: knows what this one read, if the settings are the same.
    pub(super) fn next(&self, settings: &Settings) -> Self {
        if *settings != self.settings {
            return Self::anew(settings.clone(), self.native.without_mentions);
        }
        Self {
            settings: settings.clone(),
            native: self.native.next(),
            istio: self.istio.next(),
            cilium: self.cilium.next(),
            network: self.network.next(),
        }
    }

    /// Everything was read: what was there before and is no more is forgotten.
    pub(super) fn close(&mut self) {
        self.native.close();
        self.istio.close();
        self.cilium.close();
        self.network.close();
    }
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self::anew(false)
    }
}

impl<T> Memo<T> {
    fn anew(without_mentions: bool) -> Self {
        Self { before: ByIdentity::default(), now: ByIdentity::default(), without_mentions }
    }

    fn next(&self) -> Self {
        Self { before: self.now.clone(), ..Self::anew(self.without_mentions) }
    }

    fn close(&mut self) {
        self.before = ByIdentity::default();
    }
}

impl<T: Reading> Memo<T> {
    /// What `read` says of this document, read now or before. It may depend on the document and the settings alone.
    pub(super) fn of(&mut self, document: &Document, read: impl FnOnce() -> T) -> Arc<T> {
        pace::step();
        let identity = document.root.identity();
        // What is broken is a part of a document: the same part may be broken in another way.
        let known = self.before.get(&identity).filter(|_| !document.broken);
        let made = known.map_or_else(|| Arc::new(self.spare(read())), Arc::clone);
        self.now.insert(identity, Arc::clone(&made));
        made
    }

    fn spare(&self, mut made: T) -> T {
        if self.without_mentions {
            made.forget_mentions();
        }
        made
    }
}
