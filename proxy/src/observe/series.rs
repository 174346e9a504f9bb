//! Counters by label with a bound on the number of series: a peer that invents names cannot fill the memory of the
//! proxy, nor that of whoever scrapes it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts};

/// A counter vector of at most [`LIMIT`] series. What comes after is counted under `other`.
#[derive(Debug)]
pub(super) struct Series {
    counters: IntCounterVec,
    /// Positions of the labels that become `other` first: names that come from outside.
    foldable: &'static [usize],
    known: Mutex<HashSet<Vec<String>>>,
}

impl Series {
    /// Makes the vector. `foldable` are positions in `labels`.
    pub(super) fn new(
        name: &str,
        help: &str,
        labels: &[&str],
        foldable: &'static [usize],
    ) -> Result<Self, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
        Ok(Self { counters, foldable, known: Mutex::default() })
    }

    /// What a registry collects.
    pub(super) fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.counters.clone())
    }

    /// The counter of these labels, or of `other`. Slow: ask once, keep the handle.
    pub(super) fn counter(&self, labels: &[&str]) -> IntCounter {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        if !known.contains(&labels) && known.len() >= LIMIT - RESERVED {
            for position in self.foldable {
                if let Some(label) = labels.get_mut(*position) {
                    OTHER.clone_into(label);
                }
            }
            if !known.contains(&labels) && known.len() >= LIMIT - 1 {
                labels.iter_mut().for_each(|label| OTHER.clone_into(label));
            }
        }
        let counter = self.counters.with_label_values(&labels);
        known.insert(labels);
        counter
    }
}

/// The contract's bound on the series of one metric.
const LIMIT: usize = 2_000;

/// Room kept for series whose names are folded but whose other labels still tell: two directions, eight protocols,
/// about ten reasons.
const RESERVED: usize = 200;

const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    fn series(series: &Series) -> usize {
        series.counters.collect().iter().map(|family| family.get_metric().len()).sum()
    }

    #[test]
    fn invented_names_end_in_other_and_the_total_stays_right() {
        let capped = Series::new("t", "h", &["direction", "source"], &[1]).unwrap();
        for name in 0..10_000 {
            capped.counter(&["inbound", &format!("ns/{name}")]).inc();
        }
        assert_eq!(series(&capped), LIMIT - RESERVED + 1);
        assert_eq!(capped.counter(&["inbound", "other"]).get(), 10_000 - (LIMIT - RESERVED) as u64);
        assert_eq!(capped.counter(&["inbound", "ns/7"]).get(), 1, "an early series keeps its name");
    }

    #[test]
    fn even_labels_that_do_not_fold_cannot_pass_the_limit() {
        let capped = Series::new("t", "h", &["direction", "source"], &[1]).unwrap();
        for name in 0..10_000 {
            capped.counter(&[&format!("d{name}"), "x"]).inc();
        }
        assert_eq!(series(&capped), LIMIT);
        let total: f64 = capped.counters.collect()[0].get_metric().iter().map(|m| m.get_counter().get_value()).sum();
        assert_eq!(total, 10_000.0);
    }
}
