//! The entries of the other replicas, as this one has seen them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::share::Share;
use crate::status::Programmed;

/// By identity.
pub(super) struct Entries {
    own: String,
    patience: Duration,
    others: BTreeMap<String, Entry>,
    /// When they were last read.
    read: Option<Instant>,
}

struct Entry {
    text: String,
    /// What it says; nothing where it says that it does not fit, or something that this version cannot read.
    says: Option<Programmed>,
    /// When it was first seen to say this, by the clock of who looks.
    since: Instant,
    is_dead: bool,
}

impl Entries {
    pub(super) fn new(own: String, patience: Duration) -> Self {
        Self { own, patience, others: BTreeMap::new(), read: None }
    }

    /// Takes in what is written there now.
    pub(super) fn read(&mut self, written: BTreeMap<String, String>, now: Instant) {
        // While the API server was away nobody could renew anything.
        let was_away = self.read.is_none_or(|read| now.duration_since(read) > self.patience / 2);
        self.read = Some(now);
        let mut before = std::mem::take(&mut self.others);
        for (identity, text) in written.into_iter().filter(|(identity, _)| *identity != self.own) {
            let entry = match before.remove(&identity).filter(|held| held.text == text) {
                Some(held) if was_away => Entry { since: now, ..held },
                Some(held) => {
                    let is_dead = held.is_dead || now.duration_since(held.since) >= self.patience;
                    Entry { is_dead, ..held }
                }
                None => Entry { says: Share::read(&text), text, since: now, is_dead: false },
            };
            self.others.insert(identity, entry);
        }
    }

    /// Those that nobody renews any more.
    pub(super) fn dead(&self) -> Vec<String> {
        self.others.iter().filter(|(_, entry)| entry.is_dead).map(|(identity, _)| identity.clone()).collect()
    }

    /// All replicas together.
    pub(super) fn and(&self, own: Programmed) -> Programmed {
        let mut all = own;
        for (identity, entry) in self.others.iter().filter(|(_, entry)| !entry.is_dead) {
            all.join(&Arc::from(identity.as_str()), entry.says.as_ref());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Key;
    use crate::status::Progress;

    const PATIENCE: Duration = Duration::from_secs(15);

    fn key() -> Key {
        let [api_version, kind, namespace, name] = ["eastwall.dev/v1alpha1", "FirewallPolicy", "shop", "orders"];
        let [api_version, kind] = [api_version, kind].map(Arc::from);
        Key { api_version, kind, namespace: namespace.into(), name: name.into() }
    }

    /// Two proxies, one of them behind.
    fn programmed(generation: i64) -> Programmed {
        let mut progress = Progress { generation, ..Progress::default() };
        progress.add(None);
        progress.add(Some(&"shop/a".into()));
        let served = [("shop".into(), "a".into())].into();
        Programmed { policies: [(key(), progress)].into(), served, nodes: ["n1".into()].into(), is_partial: false }
    }

    fn written(programmed: &Programmed, most: usize) -> BTreeMap<String, String> {
        [("own".to_owned(), "not read".to_owned()), ("b".to_owned(), Share::of(programmed).text(most))].into()
    }

    fn entries() -> Entries {
        Entries::new("own".to_owned(), PATIENCE)
    }

    #[test]
    fn proxies_of_all_replicas_are_counted() {
        let mut entries = entries();
        entries.read(written(&programmed(3), 1_000), Instant::now());
        let mut own = programmed(3);
        own.served = [("shop".into(), "b".into())].into();
        let mut all = entries.and(own);
        assert_eq!((all.served.len(), all.nodes.len(), all.is_partial), (2, 1, false));
        let all = all.policies.remove(&key()).unwrap();
        assert_eq!((all.proxies, all.behind, all.named.len(), all.silent.len()), (4, 2, 2, 0));
    }

    #[test]
    fn who_speaks_of_another_generation_or_of_nothing_is_silent() {
        let too_long = written(&programmed(3), 10);
        assert!(too_long["b"].contains("null"), "{too_long:?}");
        for says in [written(&programmed(2), 1_000), written(&Programmed::default(), 1_000), too_long] {
            let mut entries = entries();
            entries.read(says, Instant::now());
            let all = entries.and(programmed(3)).policies.remove(&key()).unwrap();
            assert_eq!((all.proxies, &*all.silent), (2, &["b".into()][..]));
        }
    }

    #[test]
    fn what_nobody_renews_counts_no_more() {
        let (mut entries, start) = (entries(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        let old = written(&programmed(3), 1_000);
        for seconds in [0, 5, 10, 14] {
            entries.read(old.clone(), after(seconds));
        }
        assert!(entries.dead().is_empty());
        entries.read(old.clone(), after(16));
        assert_eq!(entries.dead(), ["b"]);
        assert_eq!(entries.and(programmed(3)), programmed(3));
        entries.read(old.clone(), after(17));
        assert_eq!(entries.dead(), ["b"], "nothing brings it back but a renewal");
        let renewed = [("b".to_owned(), old["b"].replace("written\":\"", "written\":\"x"))];
        entries.read(renewed.clone().into(), after(18));
        assert!(entries.dead().is_empty());
        // Nobody could renew while the API server was away.
        entries.read(renewed.clone().into(), after(300));
        entries.read(renewed.into(), after(305));
        assert!(entries.dead().is_empty());
    }
}
