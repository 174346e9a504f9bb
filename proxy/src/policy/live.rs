//! The world in force, and the news that it changed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use eastwall_policy::world::World;
use prometheus::Histogram;
use tokio::sync::watch;

/// The world in force. Cheap to read on every request; workers follow it and tell their connections ([`super::News`]).
#[derive(Debug)]
pub(crate) struct Live {
    world: ArcSwap<World>,
    changed: watch::Sender<u64>,
    revocations: Arc<Revocations>,
    has_registry: AtomicBool,
}

/// One worker's view of the swaps: how far all its connections have been judged.
#[derive(Debug)]
pub(crate) struct Follower {
    judged: u64,
    revocations: Arc<Revocations>,
}

/// How long swaps take to reach the last connection.
#[derive(Debug)]
struct Revocations {
    seconds: Histogram,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    followers: usize,
    current: u64,
    swaps: VecDeque<Swap>,
}

/// A swap that connections of some workers have not yet been judged after.
#[derive(Debug)]
struct Swap {
    number: u64,
    at: Instant,
    left: usize,
}

/// Somebody is registered.
fn registers(world: &World) -> bool {
    !world.registry().workloads.is_empty()
}

// === impl Live ===

impl Live {
    /// Starts with this world. `has_registry`: a workloads file was named, read or not. The time that each swap took to reach the last connection goes to `revocation_seconds`.
    pub(crate) fn new(world: Arc<World>, has_registry: bool, revocation_seconds: Histogram) -> Self {
        let number = world.generation().number;
        Self {
            has_registry: AtomicBool::new(has_registry || registers(&world)),
            world: ArcSwap::new(world),
            changed: watch::Sender::new(number),
            revocations: Arc::new(Revocations {
                seconds: revocation_seconds,
                open: Mutex::new(Open { current: number, ..Open::default() }),
            }),
        }
    }

    /// The world in force.
    pub(crate) fn load(&self) -> Arc<World> {
        self.world.load_full()
    }

    /// Somebody says who is registered: a workloads file, or Kubernetes objects among the policies, once there were any.
    pub(crate) fn has_registry(&self) -> bool {
        self.has_registry.load(Ordering::Relaxed)
    }

    /// Swaps the world whole and wakes everyone who waits.
    pub(crate) fn swap(&self, world: Arc<World>) {
        if registers(&world) {
            self.has_registry.store(true, Ordering::Relaxed);
        }
        let number = world.generation().number;
        self.revocations.swapped(number, || self.world.store(world));
        self.changed.send_replace(number);
    }

    /// Whether this world is in force.
    ///
    /// PERF: counts nothing that workers share.
    pub(crate) fn is(&self, world: &Arc<World>) -> bool {
        Arc::ptr_eq(&self.world.load(), world)
    }

    /// The number of each swap from now on.
    pub(crate) fn swaps(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Follows swaps, from the world in force on: the receiver has the number of each.
    pub(crate) fn follow(&self) -> (Follower, watch::Receiver<u64>) {
        let swaps = self.swaps();
        let judged = {
            let mut open = self.revocations.open();
            open.followers += 1;
            open.current
        };
        (Follower { judged, revocations: Arc::clone(&self.revocations) }, swaps)
    }
}

// === impl Follower ===

impl Follower {
    /// The last world that all connections of the worker were judged by.
    pub(super) fn judged_last(&self) -> u64 {
        self.judged
    }

    /// All connections of the worker were judged by the world with this number, or a later one.
    pub(super) fn judged(&mut self, number: u64) {
        if number > self.judged {
            self.revocations.open().settle(self.judged, number, &self.revocations.seconds);
            self.judged = number;
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Under one lock: a swap in between would wait for a worker that is gone.
        let mut open = self.revocations.open();
        open.followers = open.followers.saturating_sub(1);
        open.settle(self.judged, u64::MAX, &self.revocations.seconds);
    }
}

// === impl Revocations ===

impl Revocations {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores under the lock, so that a worker is either counted here or begins with the new number.
    fn swapped(&self, number: u64, store: impl FnOnce()) {
        let mut open = self.open();
        store();
        open.current = number;
        let left = open.followers;
        if left == 0 {
            self.seconds.observe(0.0);
            return;
        }
        if open.swaps.len() >= SWAPS
            && let Some(oldest) = open.swaps.pop_front()
        {
            self.seconds.observe(oldest.at.elapsed().as_secs_f64());
        }
        open.swaps.push_back(Swap { number, at: Instant::now(), left });
    }
}

// === impl Open ===

impl Open {
    /// The connections of one worker that were judged last by `from` are now judged by `to`.
    fn settle(&mut self, from: u64, to: u64, seconds: &Histogram) {
        self.swaps.retain_mut(|swap| {
            if from < swap.number && swap.number <= to {
                swap.left = swap.left.saturating_sub(1);
            }
            if swap.left == 0 {
                seconds.observe(swap.at.elapsed().as_secs_f64());
            }
            swap.left > 0
        });
    }
}

/// Swaps measured at once. A connection that takes longer than so many is counted as it stands.
const SWAPS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn revocations() -> Revocations {
        let seconds = Histogram::with_opts(prometheus::HistogramOpts::new("t", "h")).unwrap();
        Revocations { seconds, open: Mutex::default() }
    }

    fn settle(revocations: &Revocations, from: u64, to: u64) {
        revocations.open().settle(from, to, &revocations.seconds);
    }

    #[test]
    fn a_swap_is_measured_when_the_last_worker_is_done_or_gone() {
        let revocations = revocations();
        revocations.open().followers = 2;
        revocations.swapped(1, || ());
        settle(&revocations, 0, 1);
        assert_eq!(revocations.seconds.get_sample_count(), 0, "one worker is left");
        revocations.swapped(2, || ());
        settle(&revocations, 0, u64::MAX);
        assert_eq!(revocations.seconds.get_sample_count(), 1, "it is gone: the first swap is done, the second is not");
        settle(&revocations, 1, 2);
        assert_eq!(revocations.seconds.get_sample_count(), 2);
        assert!(revocations.open().swaps.is_empty());
    }

    #[test]
    fn without_workers_a_swap_is_done_at_once() {
        let revocations = revocations();
        revocations.swapped(1, || ());
        assert_eq!(revocations.seconds.get_sample_count(), 1);
    }

    #[test]
    fn open_measurements_are_bounded() {
        let revocations = revocations();
        revocations.open().followers = 1;
        (1..=1_000).for_each(|number| revocations.swapped(number, || ()));
        assert_eq!(revocations.open().swaps.len(), SWAPS);
        assert_eq!(revocations.seconds.get_sample_count(), 1_000 - SWAPS as u64);
    }
}
