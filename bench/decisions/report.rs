//! What was measured, as tables for a terminal and as JSON.

use std::fmt::Write as _;

use eastwall_bench::machine;
use eastwall_policy::table::Size;
use serde_json::{Map, Value, json};

use crate::changes::Rounds;
use crate::clock::Percentiles;

/// One engine at one size in one layout.
pub(crate) struct Row {
    pub(crate) rules: usize,
    pub(crate) layout: &'static str,
    pub(crate) engine: &'static str,
    pub(crate) decision: Percentiles,
    /// Resolving the connection, and both together: Eastwall alone tells them apart.
    pub(crate) flow: Option<(Percentiles, Percentiles)>,
    pub(crate) compiled: Option<Compiled>,
}

/// What compiling took and came to.
pub(crate) struct Compiled {
    pub(crate) documents: usize,
    pub(crate) bytes: usize,
    pub(crate) read_ms: f64,
    /// The table and its world; Cedar has nothing behind reading.
    pub(crate) table: Option<(f64, Size)>,
}

/// One change of policies or workloads.
pub(crate) struct Change {
    pub(crate) what: String,
    pub(crate) rounds: Rounds,
    pub(crate) bar_ms: Option<f64>,
}

/// A bar, and the worst that was measured against it.
pub(crate) struct Bar {
    what: String,
    bar: f64,
    measured: f64,
    at: String,
    unit: &'static str,
}

pub(crate) struct Report {
    pub(crate) machine: Map<String, Value>,
    pub(crate) overhead: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) changes: Vec<Change>,
}

const MEDIAN_NS: f64 = 250.0;
const P99_NS: f64 = 1_000.0;
/// Rules, and how long reading and compiling them may take.
const COMPILE_MS: [(usize, f64); 2] = [(10_000, 300.0), (100_000, 3_000.0)];

impl Bar {
    /// Every bar is a "less than".
    fn is_met(&self) -> bool {
        self.measured < self.bar
    }

    fn verdict(&self) -> &'static str {
        if self.is_met() { "met" } else { "NOT MET" }
    }
}

impl Report {
    /// Every bar that was measured, with the worst row of those that it is about.
    pub(crate) fn bars(&self) -> Vec<Bar> {
        let mut bars = Vec::new();
        let engines = ["eastwall native", "eastwall istio"];
        for engine in engines {
            let rows = || self.rows.iter().filter(move |row| row.engine == engine);
            let at = |row: &Row| format!("{} rules, {}", row.rules, row.layout);
            let median = rows().map(|row| (row.decision.p50 as f64, at(row)));
            bars.extend(worst(format!("{engine}: one decision, median"), MEDIAN_NS, "ns", median));
            let p99 = rows().filter_map(|row| Some((row.decision.p99? as f64, at(row))));
            bars.extend(worst(format!("{engine}: one decision, p99"), P99_NS, "ns", p99));
            for (rules, bar) in COMPILE_MS {
                let times = rows().filter(|row| row.rules == rules).filter_map(|row| {
                    let compiled = row.compiled.as_ref()?;
                    Some((compiled.read_ms + compiled.table.as_ref()?.0, at(row)))
                });
                bars.extend(worst(format!("{engine}: {rules} rules compiled, parsing included"), bar, "ms", times));
            }
        }
        bars.extend(self.changes.iter().filter_map(|change| {
            let measured = change.rounds.median;
            Some(Bar { what: change.what.clone(), bar: change.bar_ms?, measured, at: "median".into(), unit: "ms" })
        }));
        bars
    }

    pub(crate) fn text(&self) -> String {
        let mut text = machine::text(&self.machine);
        line(&mut text, format!("reading the clock: {} ns, subtracted from every time below\n", self.overhead));
        self.decisions(&mut text);
        self.compiling(&mut text);
        line(&mut text, "Changes (ms until there is a world that judges by it)".into());
        line(&mut text, format!("{:<78} {:>6} {:>9} {:>9}", "what", "rounds", "median", "slowest"));
        for Change { what, rounds, .. } in &self.changes {
            line(&mut text, format!("{what:<78} {:>6} {:>9.3} {:>9.3}", rounds.count, rounds.median, rounds.slowest));
        }
        line(&mut text, "\nBars (the worst row counts)".into());
        line(&mut text, format!("{:<78} {:>10} {:>11}  {:<7}  at", "what", "bar", "measured", "verdict"));
        for bar in self.bars() {
            let Bar { what, bar: limit, measured, at, unit } = &bar;
            let places = if *unit == "ns" { 0 } else { 3 };
            let measured = format!("{measured:.places$} {unit}");
            line(
                &mut text,
                format!("{what:<78} {:>10} {measured:>11}  {:<7}  {at}", format!("< {limit} {unit}"), bar.verdict()),
            );
        }
        text
    }

    fn decisions(&self, text: &mut String) {
        line(text, "Decisions (ns; half of the questions are denied; every answer was compared)".into());
        line(
            text,
            format!(
                "{:>7} {:<11} {:<15} {:>8} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9}  bars",
                "rules",
                "layout",
                "engine",
                "asked",
                "p50",
                "p99",
                "p99.9",
                "conn p50",
                "conn p99",
                "both p50",
                "both p99"
            ),
        );
        for row in &self.rows {
            let asked = &row.decision;
            let (flow, both) = row.flow.as_ref().map_or((None, None), |(flow, both)| (Some(flow), Some(both)));
            let median = |times: Option<&Percentiles>| times.map(|times| times.p50);
            let p99 = |times: Option<&Percentiles>| times.and_then(|times| times.p99);
            let is_met = (asked.p50 as f64) < MEDIAN_NS && asked.p99.is_some_and(|p99| (p99 as f64) < P99_NS);
            let bars = match (&row.flow, is_met) {
                (None, _) => "",
                (_, true) => "met",
                (_, false) => "NOT MET",
            };
            line(
                text,
                format!(
                    "{:>7} {:<11} {:<15} {:>8} {:>10} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9}  {bars}",
                    row.rules,
                    row.layout,
                    row.engine,
                    asked.count,
                    asked.p50,
                    or_dash(asked.p99),
                    or_dash(asked.p999),
                    or_dash(median(flow)),
                    or_dash(p99(flow)),
                    or_dash(median(both)),
                    or_dash(p99(both)),
                ),
            );
        }
        text.push('\n');
    }

    fn compiling(&self, text: &mut String) {
        line(text, "Compiling (ms) and what it comes to".into());
        line(
            text,
            format!(
                "{:>7} {:<11} {:<15} {:>9} {:>9} {:>9} {:>9} {:>9} {:>6} {:>7} {:>7} {:>8}",
                "rules",
                "layout",
                "engine",
                "documents",
                "kB",
                "read",
                "table",
                "both",
                "scopes",
                "gates",
                "clauses",
                "postings"
            ),
        );
        for row in &self.rows {
            let Some(compiled) = &row.compiled else { continue };
            let kilobytes = compiled.bytes / 1_000;
            let (table, both, [scopes, gates, clauses, postings]) = match &compiled.table {
                None => ("-".into(), "-".into(), ["-", "-", "-", "-"].map(str::to_owned)),
                Some((ms, size)) => (
                    format!("{ms:.1}"),
                    format!("{:.1}", compiled.read_ms + ms),
                    [size.scopes, size.gates, size.clauses, size.postings].map(|count| count.to_string()),
                ),
            };
            line(
                text,
                format!(
                    "{:>7} {:<11} {:<15} {:>9} {kilobytes:>9} {:>9.1} {table:>9} {both:>9} {scopes:>6} {gates:>7} {clauses:>7} {postings:>8}",
                    row.rules, row.layout, row.engine, compiled.documents, compiled.read_ms,
                ),
            );
        }
        text.push('\n');
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "clock overhead ns": self.overhead,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "changes": self.changes.iter().map(|Change { what, rounds, bar_ms }| json!({
                "what": what, "rounds": rounds.count, "median ms": rounds.median, "slowest ms": rounds.slowest,
                "bar ms": bar_ms,
            })).collect::<Vec<_>>(),
            "bars": self.bars().iter().map(|bar| json!({
                "what": bar.what, "below": bar.bar, "measured": bar.measured, "unit": bar.unit, "at": bar.at,
                "met": bar.is_met(),
            })).collect::<Vec<_>>(),
        })
    }
}

fn row(row: &Row) -> Value {
    json!({
        "rules": row.rules,
        "layout": row.layout,
        "engine": row.engine,
        "decision ns": percentiles(&row.decision),
        "connection ns": row.flow.as_ref().map(|(flow, _)| percentiles(flow)),
        "both ns": row.flow.as_ref().map(|(_, both)| percentiles(both)),
        "compiled": row.compiled.as_ref().map(|compiled| json!({
            "documents": compiled.documents,
            "bytes": compiled.bytes,
            "read ms": compiled.read_ms,
            "table ms": compiled.table.as_ref().map(|(ms, _)| ms),
            "size": compiled.table.as_ref().map(|(_, size)| json!({
                "policies": size.policies, "rules": size.rules, "scopes": size.scopes, "gates": size.gates,
                "clauses": size.clauses, "postings": size.postings,
            })),
        })),
    })
}

fn percentiles(times: &Percentiles) -> Value {
    json!({"asked": times.count, "p50": times.p50, "p99": times.p99, "p99.9": times.p999})
}

fn worst(what: String, bar: f64, unit: &'static str, measured: impl Iterator<Item = (f64, String)>) -> Option<Bar> {
    let (measured, at) = measured.max_by(|left, right| left.0.total_cmp(&right.0))?;
    Some(Bar { what, bar, measured, at, unit })
}

fn or_dash(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn line(text: &mut String, line: String) {
    assert!(writeln!(text, "{}", line.trim_end()).is_ok(), "a text takes what is written to it");
}
