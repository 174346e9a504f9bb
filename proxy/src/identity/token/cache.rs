//! Tokens that were verified, so that each is verified once. One a worker.

use std::collections::{HashMap, VecDeque};
use std::hash::RandomState;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::jwks::KeySet;
use super::verify::Unverified;

/// By the whole token: a hash that only this process knows finds it, and all its bytes are compared.
#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<Rc<str>, Entry, RandomState>,
    /// The oldest first.
    order: VecDeque<Rc<str>>,
    bytes: usize,
    most: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    token: Rc<Unverified>,
    /// The sets that have verified it. A set that is gone, or was replaced, is none of them.
    by: Vec<Weak<KeySet>>,
}

impl Cache {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self { entries: HashMap::default(), order: VecDeque::new(), bytes: 0, most, most_bytes }
    }

    /// What was read of a token that some set has verified: whether this one has is another question.
    pub(super) fn read(&self, token: &str) -> Option<Rc<Unverified>> {
        self.entries.get(token).map(|entry| Rc::clone(&entry.token))
    }

    /// Whether this very set has verified it.
    pub(super) fn is_verified(&self, token: &str, keys: &Arc<KeySet>) -> bool {
        let is = |by: &Weak<KeySet>| std::ptr::eq(by.as_ptr(), Arc::as_ptr(keys));
        self.entries.get(token).is_some_and(|entry| entry.by.iter().any(is))
    }

    /// This set has verified it.
    pub(super) fn verified(&mut self, token: &str, read: &Rc<Unverified>, keys: &Arc<KeySet>) {
        if let Some(entry) = self.entries.get_mut(token) {
            // INVARIANT: what is held weakly keeps its place in memory, so no other set is ever taken for it.
            entry.by.retain(|by| by.strong_count() > 0);
            entry.by.push(Arc::downgrade(keys));
            return;
        }
        if self.most == 0 || cost(token) > self.most_bytes {
            return;
        }
        while self.order.len() >= self.most || self.bytes + cost(token) > self.most_bytes {
            let Some(oldest) = self.order.pop_front() else { break };
            self.forget(&oldest);
        }
        let key: Rc<str> = token.into();
        self.bytes += cost(token);
        self.order.push_back(Rc::clone(&key));
        self.entries.insert(key, Entry { token: Rc::clone(read), by: vec![Arc::downgrade(keys)] });
    }

    /// The token has ended.
    pub(super) fn ended(&mut self, token: &str) {
        if self.entries.contains_key(token) {
            self.order.retain(|held| **held != *token);
            self.forget(token);
        }
    }

    fn forget(&mut self, token: &str) {
        if self.entries.remove(token).is_some() {
            self.bytes -= cost(token);
        }
    }
}

/// What a token is counted as: claims take several times the room of their text.
fn cost(token: &str) -> usize {
    token.len() * 8 + 256
}

#[cfg(test)]
mod tests {
    use super::super::verify::tests::{Signer, keys_of};
    use super::*;

    fn token(signer: &Signer, number: usize) -> (String, Rc<Unverified>) {
        let token = signer.sign(&serde_json::json!({"exp": 10, "n": number}));
        let read = Rc::new(Unverified::read(&token).unwrap());
        (token, read)
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let signer = Signer::ed25519("a");
        let keys = Arc::new(keys_of(&[&signer]));
        let tokens: Vec<_> = (0..4).map(|number| token(&signer, number)).collect();
        let (one, _) = &tokens[0];
        for (most, bytes) in [(2, usize::MAX), (100, 2 * cost(one))] {
            let mut cache = Cache::new(most, bytes);
            for (token, read) in &tokens {
                cache.verified(token, read, &keys);
            }
            let held: Vec<bool> = tokens.iter().map(|(token, _)| cache.is_verified(token, &keys)).collect();
            assert_eq!(held, [false, false, true, true], "{most} {bytes}");
            assert_eq!((cache.order.len(), cache.entries.len()), (2, 2));
            cache.ended(&tokens[2].0);
            assert_eq!((cache.order.len(), cache.entries.len(), cache.bytes), (1, 1, cost(one)));
        }
        let mut none = Cache::new(0, usize::MAX);
        none.verified(&tokens[0].0, &tokens[0].1, &keys);
        assert!(none.read(&tokens[0].0).is_none());
    }

    #[test]
    fn what_another_set_has_verified_is_not_verified() {
        let signer = Signer::ed25519("a");
        let (before, after) = (Arc::new(keys_of(&[&signer])), Arc::new(keys_of(&[&signer])));
        let (token, read) = token(&signer, 1);
        let mut cache = Cache::new(10, usize::MAX);
        cache.verified(&token, &read, &before);
        assert!(cache.is_verified(&token, &before));
        assert!(!cache.is_verified(&token, &after));
        drop(before);
        cache.verified(&token, &read, &after);
        assert_eq!(cache.entries[&*token].by.len(), 1, "a set that is gone is forgotten");
        assert!(!cache.is_verified(&token[..token.len() - 1], &after), "the whole token counts");
    }
}
