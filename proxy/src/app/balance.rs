//! Which worker keeps a connection. The kernel wakes whoever it likes, so that a few long-lived connections could all end
//! on one worker while the others idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Open connections of every worker. Asked when one is accepted, never for a request.
#[derive(Debug)]
pub(super) struct Balance(Box<[AtomicUsize]>);

/// One connection that a worker keeps, until dropped.
#[derive(Debug)]
pub(super) struct Kept {
    balance: Arc<Balance>,
    worker: usize,
}

impl Balance {
    /// Of this many workers, without a connection yet.
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self((0..workers).map(|_| AtomicUsize::new(0)).collect()))
    }

    /// Who is to keep what worker `own` accepted: itself, unless another has clearly less. An eighth is not worth the way
    /// to another thread. Two that ask at once may choose the same: the next connections level that.
    pub(super) fn choose(&self, own: usize) -> usize {
        let load = |worker: &AtomicUsize| worker.load(Ordering::Relaxed);
        let mine = self.0.get(own).map_or(0, load);
        match self.0.iter().map(load).enumerate().min_by_key(|(_, open)| *open) {
            Some((least, open)) if mine > open + open / 8 => least,
            _ => own,
        }
    }

    /// Counts a connection as this worker's.
    pub(super) fn keep(self: &Arc<Self>, worker: usize) -> Kept {
        if let Some(open) = self.0.get(worker) {
            open.fetch_add(1, Ordering::Relaxed);
        }
        Kept { balance: Arc::clone(self), worker }
    }

    /// Open connections of each worker.
    #[cfg(test)]
    pub(super) fn open(&self) -> Vec<usize> {
        self.0.iter().map(|open| open.load(Ordering::Relaxed)).collect()
    }
}

impl Kept {
    /// Whose it is.
    pub(super) fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(open) = self.balance.0.get(self.worker) {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_spread_evenly_and_many_nearly() {
        let balance = Balance::new(2);
        // Whoever accepts, and here it is always the same one.
        let mut kept: Vec<_> = (0..4).map(|_| balance.keep(balance.choose(0))).collect();
        assert_eq!(balance.open(), [2, 2]);
        kept.extend((0..80).map(|_| balance.keep(balance.choose(0))));
        let open = balance.open();
        assert!(open[0] > open[1] && open[0] <= open[1] + open[1] / 8 + 1, "{open:?}");
        drop(kept);
        assert_eq!(balance.open(), [0, 0]);
    }
}
