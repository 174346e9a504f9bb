//! What was measured, as tables for a terminal and as JSON.

use std::fmt::Write as _;

use eastwall_bench::machine;
use serde_json::{Map, Value, json};

use crate::bars::{Bar, bars};
use crate::load::Latency;
use crate::memory::{self, Footprint};
use crate::rounds::Measured;
use crate::running::Sample;
use crate::scenario::Scenario;
use crate::spread::Spread;

/// The whole run.
pub(crate) struct Report {
    pub(crate) machine: Map<String, Value>,
    pub(crate) tables: Vec<Table>,
    pub(crate) memory: Vec<Footprint>,
}

/// One scenario.
pub(crate) struct Table {
    pub(crate) scenario: &'static Scenario,
    pub(crate) measured: Vec<Measured>,
}

/// The figures of one proxy.
pub(crate) struct Row<'a> {
    pub(crate) measured: &'a Measured,
    pub(crate) cost: Spread,
    /// Eastwall's CPU for a request, divided by this proxy's of the same round.
    pub(crate) ratio: Spread,
    pub(crate) rate: Spread,
    pub(crate) busy: f64,
    pub(crate) latency: Option<Latency>,
}

impl Table {
    pub(crate) fn rows(&self) -> Vec<Row<'_>> {
        self.measured.iter().map(|measured| self.row(measured)).collect()
    }

    fn row<'a>(&'a self, measured: &'a Measured) -> Row<'a> {
        let samples = || measured.samples.iter();
        let of = |figure: fn(&Sample) -> f64| Spread::of(samples().map(figure));
        let is_ours =
            |other: &&Measured| Some(&other.peer) == self.scenario.peers.first() && other.beside == measured.beside;
        let ours = self.measured.iter().find(is_ours).unwrap_or(measured);
        Row {
            measured,
            cost: of(|sample| sample.cost),
            ratio: Spread::of(ours.samples.iter().zip(samples()).map(|(ours, theirs)| ours.cost / theirs.cost)),
            rate: of(|sample| sample.done.count / sample.done.seconds),
            busy: of(|sample| sample.busy).median,
            latency: latency(samples()),
        }
    }

    pub(crate) fn text(&self) -> String {
        let Scenario { name, about, workers, .. } = self.scenario;
        let mut text = String::new();
        line(
            &mut text,
            &format!("\n{name}: {about}; workers: {workers}; CPU and rate of one {}", self.scenario.load.unit()),
        );
        line(
            &mut text,
            &format!(
                "{:>7} {:<22} {:>8} {:>17} {:>9} {:>12} {:>5} {:>10} {:>8} {:>8} {:>8} {:>8}",
                "rules",
                "proxy",
                "CPU µs",
                "quartiles",
                "eastwall÷",
                "quartiles",
                "busy",
                "a second",
                "p50 µs",
                "p99 µs",
                "p99.9 µs",
                "peak MB"
            ),
        );
        for row in self.rows() {
            let Row { measured, cost, ratio, rate, busy, .. } = &row;
            let [p50, p99, p999] = row.times();
            line(
                &mut text,
                &format!(
                    "{:>7} {:<22} {:>8.2} {:>17} {:>9.2} {:>12} {:>4.0}% {:>10.0} {p50:>8} {p99:>8} {p999:>8} {:>8.1}",
                    measured.rules,
                    measured.peer.name(),
                    cost.median,
                    format!("{:.2}..{:.2}", cost.low, cost.high),
                    ratio.median,
                    format!("{:.2}..{:.2}", ratio.low, ratio.high),
                    busy * 100.0,
                    rate.median,
                    measured.peak as f64 / 1e6,
                ),
            );
        }
        text
    }

    fn json(&self) -> Value {
        json!({
            "scenario": self.scenario.name,
            "about": self.scenario.about,
            "workers": self.scenario.workers,
            "unit": self.scenario.load.unit(),
            "rows": self.rows().iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

/// Of all requests of all rounds, where each was timed; else of the median round, where every round tells.
pub(crate) fn latency<'a>(samples: impl Iterator<Item = &'a Sample> + Clone) -> Option<Latency> {
    let mut times: Vec<u64> = samples.clone().flat_map(|sample| &sample.done.times).copied().collect();
    times.sort_unstable();
    Latency::of(&times).or_else(|| {
        let rounds: Vec<Latency> = samples.map(|sample| sample.done.latency).collect::<Option<_>>()?;
        let median = |figure: fn(&Latency) -> f64| Spread::of(rounds.iter().map(figure)).median;
        Some(Latency { p50: median(|l| l.p50), p99: median(|l| l.p99), p999: median(|l| l.p999) })
    })
}

impl Row<'_> {
    /// The percentiles, or dashes.
    pub(crate) fn times(&self) -> [String; 3] {
        match self.latency {
            Some(Latency { p50, p99, p999 }) => [p50, p99, p999].map(|time| format!("{time:.0}")),
            None => ["-"; 3].map(str::to_owned),
        }
    }

    fn json(&self) -> Value {
        json!({
            "rules": self.measured.rules,
            "proxy": self.measured.peer.name(),
            "cpu us": spread(&self.cost),
            "eastwall by this": spread(&self.ratio),
            "a second": spread(&self.rate),
            "busy": self.busy,
            "latency us": self.latency.map(|latency| json!({"p50": latency.p50, "p99": latency.p99, "p99.9": latency.p999})),
            "peak bytes": self.measured.peak,
            "cpu us of each round": self.measured.samples.iter().map(|sample| sample.cost).collect::<Vec<_>>(),
        })
    }
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let mut text = machine::text(&self.machine);
        text.extend(self.tables.iter().map(Table::text));
        text += &memory_text(&self.memory);
        text += &self.aims();
        text
    }

    /// What is aimed at, and whether it was reached.
    pub(crate) fn aims(&self) -> String {
        let mut text = String::new();
        let bars = bars(self);
        if bars.is_empty() {
            return text;
        }
        line(&mut text, &format!("\n{:<62} {:>12} {:>12}", "aims", "at most", "measured"));
        for bar in bars {
            let (limit, measured) = (bar.limit(), format!("{:.2} {}", bar.measured, bar.unit));
            let said = format!("{:<7}  {}", bar.verdict(), bar.spread());
            line(&mut text, &format!("{:<62} {limit:>12} {measured:>12}  {said}", bar.what));
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let aim = |bar: &Bar| json!({"what": bar.what, "at most": bar.at_most, "measured": bar.measured, "unit": bar.unit, "met": bar.is_met(), "of each round": bar.rounds.as_ref().map(spread)});
        json!({"aims": bars(self).iter().map(aim).collect::<Vec<_>>(), "machine": self.machine, "scenarios": self.tables.iter().map(Table::json).collect::<Vec<_>>(), "memory": self.memory.iter().map(footprint).collect::<Vec<_>>()})
    }
}

/// The memory of each proxy as a table.
pub(crate) fn memory_text(footprints: &[Footprint]) -> String {
    let mut text = String::new();
    for alike in footprints.chunk_by(|one, next| one.protocol == next.protocol) {
        let Some(first) = alike.first() else { continue };
        line(&mut text, &format!("\nmemory: {} rules; then {}", memory::RULES.0, first.about()));
        line(&mut text, &format!("{:<22} {:>8} {:>23}", "proxy", "idle MB", "bytes for a connection"));
        for Footprint { peer, idle, per_connection, .. } in alike {
            line(&mut text, &format!("{:<22} {:>8.1} {per_connection:>23.0}", peer.name(), *idle as f64 / 1e6));
        }
    }
    text
}

fn footprint(footprint: &Footprint) -> Value {
    json!({
        "proxy": footprint.peer.name(),
        "held": footprint.about(),
        "idle bytes": footprint.idle,
        "connections": footprint.connections,
        "bytes for a connection": footprint.per_connection,
    })
}

fn spread(spread: &Spread) -> Value {
    json!({"median": spread.median, "lower quartile": spread.low, "upper quartile": spread.high})
}

fn line(text: &mut String, line: &str) {
    assert!(writeln!(text, "{}", line.trim_end()).is_ok(), "a text takes what is written to it");
}
