//! What Eastwall means to keep to, beside what was measured. Told, never asserted.

mod churn;

use crate::peers::{Peer, Protocol};
use crate::report::{Report, Row};
use crate::spread::Spread;

/// One aim.
pub(crate) struct Bar {
    pub(crate) what: String,
    /// `None`: nothing is aimed at, it is told to compare with.
    pub(crate) at_most: Option<f64>,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    /// The same of each round, where the figure is that of all requests.
    pub(crate) rounds: Option<Spread>,
}

impl Bar {
    pub(crate) fn is_met(&self) -> Option<bool> {
        self.at_most.map(|at_most| self.measured <= at_most)
    }

    pub(crate) fn verdict(&self) -> &'static str {
        match self.is_met() {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        }
    }

    pub(crate) fn limit(&self) -> String {
        self.at_most.map_or_else(|| "-".to_owned(), |at_most| format!("{at_most} {}", self.unit))
    }

    /// Quartiles of the rounds.
    pub(crate) fn spread(&self) -> String {
        self.rounds.as_ref().map_or_else(String::new, |rounds| format!("rounds {:.2}..{:.2}", rounds.low, rounds.high))
    }
}

/// The aims that this run measured.
pub(crate) fn bars(report: &Report) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut add = |what: String, at_most: f64, unit, measured: Option<f64>| {
        if let Some(measured) = measured {
            bars.push(Bar { what, at_most: Some(at_most), measured, unit, rounds: None });
        }
    };
    let row = |scenario: &str, peer: Peer, rules: usize| -> Option<Row<'_>> {
        let table = report.tables.iter().find(|table| table.scenario.name == scenario)?;
        table.rows().into_iter().find(|row| row.measured.peer == peer && row.measured.rules == rules)
    };
    let ratio = |scenario: &str, peer: Peer, rules: usize| row(scenario, peer, rules).map(|row| row.ratio.median);
    for rules in [10, 1_000, 10_000, 100_000] {
        for (peer, at_most) in [(Peer::Haproxy, 0.85), (Peer::Envoy, 0.30)] {
            let what = format!("http1, {rules} rules: CPU of a request ÷ {}'s", peer.name());
            add(what, at_most, "×", ratio("http1", peer, rules));
        }
    }
    let growth = ratio("growth", Peer::Holding(10_000), 10_000).map(|few_by_many| 1.0 / few_by_many);
    add("growth: CPU of a request with 10,000 rules ÷ with 10".to_owned(), 1.1, "×", growth);
    for rules in [10, 1_000, 10_000] {
        let what = format!("http2, {rules} rules: CPU of a request ÷ haproxy's");
        add(what, 1.0, "×", ratio("http2", Peer::Haproxy, rules));
    }
    for scenario in ["tcp-down", "tcp-up"] {
        add(format!("{scenario}: CPU of a MiB ÷ haproxy's"), 1.0, "×", ratio(scenario, Peer::Haproxy, 1_000));
    }
    let by_ztunnel = ratio("hbone", Peer::Ztunnel, 1_000);
    add("hbone: CPU of a request, layer 7 ÷ ztunnel's, layer 4".to_owned(), 1.2, "×", by_ztunnel);
    if let Some(ours) = report.memory.iter().find(|footprint| footprint.is_of(Peer::Eastwall, Protocol::Http1)) {
        add("memory: idle, 1,000 rules".to_owned(), 15.0, "MB", Some(ours.idle as f64 / 1e6));
        add("memory: a connection, idle after a request".to_owned(), 10_000.0, "bytes", Some(ours.per_connection));
    }
    for table in &report.tables {
        bars.extend(churn::bars(table));
    }
    bars
}
