//! Times of many single events, less what reading the clock takes.

use std::hint::black_box;
use std::time::Instant;

/// The median of two readings of the clock with nothing between them, in nanoseconds.
pub(crate) fn overhead() -> u64 {
    let mut empty: Vec<u64> = (0..1_000_000)
        .map(|_| {
            let started = Instant::now();
            black_box(());
            nanoseconds(started)
        })
        .collect();
    empty.sort_unstable();
    empty[empty.len() / 2]
}

pub(crate) fn nanoseconds(started: Instant) -> u64 {
    started.elapsed().as_nanos() as u64
}

/// Percentiles of many times, in nanoseconds. Too few times to say one of them: `None`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percentiles {
    pub(crate) count: usize,
    pub(crate) p50: u64,
    pub(crate) p99: Option<u64>,
    pub(crate) p999: Option<u64>,
}

impl Percentiles {
    /// Of times that include `overhead` each.
    pub(crate) fn of(mut times: Vec<u64>, overhead: u64) -> Self {
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].saturating_sub(overhead);
        // Ten events beyond a percentile are the least that says anything of it.
        Self {
            count: times.len(),
            p50: at(0.5),
            p99: (times.len() >= 1_000).then(|| at(0.99)),
            p999: (times.len() >= 10_000).then(|| at(0.999)),
        }
    }
}
