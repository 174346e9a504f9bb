//! How often one address may call.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A bucket for each address.
#[derive(Debug)]
pub(super) struct Rate {
    burst: f64,
    per_second: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(burst: NonZeroU32, per_second: NonZeroU32) -> Self {
        Self { burst: burst.get().into(), per_second: per_second.get().into(), buckets: Mutex::default() }
    }

    /// Whether this address may call once more now.
    pub(super) fn takes(&self, address: IpAddr, now: Instant) -> bool {
        let address = address.to_canonical();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&address) {
            buckets.retain(|_, bucket| self.left(*bucket, now) < self.burst);
            if buckets.len() >= ADDRESSES {
                return false;
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket { left: self.burst, at: now });
        let left = self.left(*bucket, now);
        let takes = left >= 1.0;
        *bucket = Bucket { left: if takes { left - 1.0 } else { left }, at: now };
        takes
    }

    fn left(&self, bucket: Bucket, now: Instant) -> f64 {
        let back = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        (bucket.left + back).min(self.burst)
    }
}

/// Addresses that called of late; more than a cluster has nodes and pods that call within a minute.
const ADDRESSES: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_gets_back_what_it_used_and_takes_nothing_from_others() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let rate = Rate::new(number(3), number(2));
        let (one, other) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let start = Instant::now();
        assert_eq!([(); 4].map(|()| rate.takes(one, start)), [true, true, true, false]);
        assert!(rate.takes(other, start));
        let later = start + Duration::from_secs(1);
        assert_eq!([(); 3].map(|()| rate.takes(one, later)), [true, true, false]);
        let much_later = start + Duration::from_secs(60);
        assert_eq!([(); 4].map(|()| rate.takes(one, much_later)), [true, true, true, false]);
    }
}
