//! When to try again, and where.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Goes round the addresses, and waits longer each time that nobody answers.
#[derive(Debug)]
pub(super) struct Retry {
    addresses: Vec<String>,
    next: usize,
    failures: u32,
}

impl Retry {
    /// Begins anywhere, so that proxies spread over the controllers.
    pub(super) fn new(addresses: Vec<String>) -> Self {
        let next = usize::try_from(random() % addresses.len().max(1) as u64).unwrap_or_default();
        Self { addresses, next, failures: 0 }
    }

    /// Where to try now.
    pub(super) fn address(&mut self) -> String {
        let address = self.addresses.get(self.next % self.addresses.len().max(1)).cloned().unwrap_or_default();
        self.next = self.next.wrapping_add(1);
        address
    }

    /// Somebody answered.
    pub(super) fn answered(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next try: from half to all of a time that doubles.
    pub(super) fn wait(&mut self) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = longest / 2;
        half + half.mul_f64((random() % 1_000) as f64 / 1_000.0)
    }
}

/// Spreads what would otherwise come at once; nothing depends on its being secret.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

const FIRST: Duration = Duration::from_millis(200);

/// A controller that is back is found again well within the time after which addresses prove nothing.
const LONGEST: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_tried_and_waits_grow_to_a_bound() {
        let mut retry = Retry::new(["a:1", "b:1", "c:1"].map(str::to_owned).into());
        let mut tried: Vec<String> = (0..3).map(|_| retry.address()).collect();
        tried.sort();
        assert_eq!(tried, ["a:1", "b:1", "c:1"]);
        let waits: Vec<Duration> = (0..20).map(|_| retry.wait()).collect();
        for (at, wait) in waits.iter().enumerate() {
            let longest = FIRST.saturating_mul(1 << at.min(16)).min(LONGEST);
            assert!(longest / 2 <= *wait && *wait <= longest, "{at}: {wait:?}");
        }
        retry.answered();
        assert!(retry.wait() <= FIRST);
    }
}
