//! Denials are always logged; a flood of the same one is told of as a count.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;

/// What makes two denials the same for a reader: who, where to, and why. The rule and the reason enter as a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) port: u16,
    pub(super) why: u64,
}

impl Kind {
    /// `why` is whatever tells two refusals between the same ends apart.
    pub(super) fn new(source: IpAddr, destination: IpAddr, port: u16, why: impl Hash) -> Self {
        // A fixed seed: a peer that found a collision would at worst see two of its own refusals counted together.
        let why = foldhash::fast::FixedState::default().hash_one(why);
        Self { source, destination, port, why }
    }
}

/// What to do with one denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// Write the line.
    Tell,
    /// Only counted; the window's end tells how many.
    Collapse,
}

/// The denials of the current window. One a worker.
#[derive(Debug, Default)]
pub(super) struct Window {
    seen: HashMap<Kind, Seen>,
    /// Lines told in this window, of all kinds.
    told: u32,
    beyond: u64,
}

#[derive(Debug)]
struct Seen {
    count: u64,
    told: u64,
    last: Vec<u8>,
}

/// What a window collapsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Collapsed {
    /// How many lines were not written.
    pub(super) count: u64,
    /// The first of them; empty where there were too many kinds to keep one each.
    pub(super) line: Vec<u8>,
}

impl Window {
    /// One more denial.
    pub(super) fn denied(&mut self, kind: Kind) -> Flood {
        if self.seen.len() >= KINDS && !self.seen.contains_key(&kind) {
            self.beyond += 1;
            return Flood::Collapse;
        }
        let seen = self.seen.entry(kind).or_insert(Seen { count: 0, told: 0, last: Vec::new() });
        seen.count += 1;
        if seen.told < TOLD && self.told < TOLD_OF_ALL {
            seen.told += 1;
            self.told += 1;
            Flood::Tell
        } else {
            Flood::Collapse
        }
    }

    /// Remembers the first collapsed line of a kind, for the summary. Says whether it wants one.
    pub(super) fn sample(&mut self, kind: Kind) -> Option<&mut Vec<u8>> {
        self.seen.get_mut(&kind).map(|seen| &mut seen.last).filter(|last| last.is_empty())
    }

    /// Ends the window: what was collapsed, kind by kind.
    pub(super) fn end(&mut self) -> Vec<Collapsed> {
        self.told = 0;
        let mut collapsed: Vec<Collapsed> = self
            .seen
            .drain()
            .filter(|(_, seen)| seen.count > seen.told)
            .map(|(_, seen)| Collapsed { count: seen.count - seen.told, line: seen.last })
            .collect();
        if self.beyond > 0 {
            collapsed.push(Collapsed { count: std::mem::take(&mut self.beyond), line: Vec::new() });
        }
        collapsed
    }
}

/// Lines of one kind told in full in one window.
const TOLD: u64 = 10;

/// Lines told in full in one window: an attacker who varies everything is bounded too.
const TOLD_OF_ALL: u32 = 1_000;

/// Kinds told apart in one window.
const KINDS: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(n: u32) -> Kind {
        Kind::new(std::net::Ipv4Addr::from(n).into(), [10, 0, 0, 1].into(), 80, "no-rule")
    }

    #[test]
    fn the_first_are_told_and_the_rest_counted() {
        let mut window = Window::default();
        let told = (0..1_000).filter(|_| window.denied(kind(1)) == Flood::Tell).count();
        assert_eq!(told, 10);
        assert_eq!(window.denied(kind(2)), Flood::Tell, "another peer's denial is no part of the flood");
        window.sample(kind(1)).unwrap().extend_from_slice(b"{x");
        assert!(window.sample(kind(1)).is_none());
        assert_eq!(window.end(), [Collapsed { count: 990, line: b"{x".to_vec() }]);
        assert_eq!(window.denied(kind(1)), Flood::Tell, "a new window tells again");
    }

    #[test]
    fn nothing_is_lost_however_many_kinds() {
        let mut window = Window::default();
        let told = (0..10_000).filter(|n| window.denied(kind(*n)) == Flood::Tell).count() as u64;
        assert!(window.seen.len() <= KINDS);
        let collapsed: u64 = window.end().iter().map(|collapsed| collapsed.count).sum();
        assert_eq!(told + collapsed, 10_000);
        assert_eq!(told, u64::from(TOLD_OF_ALL));
    }
}
