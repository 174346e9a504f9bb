//! The whole run as one page for a browser.

use std::fmt::Write as _;

use crate::bars::{Bar, bars};
use crate::chart::{self, Curve, short};
use crate::load::Load;
use crate::peers::Peer;
use crate::report::{Report, Row, Table};
use crate::spread::Spread;

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Eastwall beside its peers</title>\n<style>\n\
body { font: 15px/1.5 sans-serif; color: #222; max-width: 960px; margin: 2em auto; padding: 0 1em; }\n\
table { border-collapse: collapse; margin: .5em 0 1em; font-size: 13px; }\n\
th, td { padding: 2px 12px 2px 0; text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }\n\
th { border-bottom: 1px solid #bbb; font-weight: normal; color: #666; }\n\
td.name, th.name { text-align: left; }\n\
tr.ours td { font-weight: bold; }\n\
.missed { color: #b00020; } .met { color: #00692f; }\n\
h2 { margin: 2em 0 0; font-size: 19px; } p { margin: .3em 0 .8em; color: #555; }\n\
</style>\n<h1>Eastwall beside its peers</h1>\n";

/// The page.
pub(crate) fn draw(report: &Report) -> String {
    let mut page = HEAD.to_owned();
    put(
        &mut page,
        "<p>CPU of the proxy for one request, message or MiB; shorter is better. Whiskers are quartiles of the rounds. The factor \
        behind a figure is Eastwall's divided by it, paired by rounds: below 1, Eastwall is cheaper.</p>",
    );
    let aims = bars(report);
    if !aims.is_empty() {
        put(
            &mut page,
            "<h2>Aims</h2>\n<table><tr><th class=\"name\">what</th><th>at most</th><th>measured</th><th></th><th></th></tr>",
        );
        aims.iter().for_each(|aim| put(&mut page, &aim_row(aim)));
        put(&mut page, "</table>");
    }
    report.tables.iter().for_each(|table| section(&mut page, table));
    memory(&mut page, report);
    put(&mut page, "<h2>Where and how</h2>\n<table>");
    for (key, value) in report.machine.iter().filter(|(_, value)| !value.is_null()) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        put(&mut page, &format!("<tr><td class=\"name\">{key}</td><td class=\"name\">{}</td></tr>", escape(&value)));
    }
    put(&mut page, "</table>\n</html>");
    page
}

fn aim_row(aim: &Bar) -> String {
    let class = if aim.is_met() == Some(false) { "missed" } else { "met" };
    format!(
        "<tr><td class=\"name\">{}</td><td>{}</td><td>{} {}</td><td class=\"{class}\">{}</td><td>{}</td></tr>",
        aim.what,
        aim.limit(),
        short(aim.measured),
        aim.unit,
        aim.verdict(),
        aim.spread()
    )
}

fn section(page: &mut String, table: &Table) {
    let scenario = table.scenario;
    let (name, unit) = (scenario.name, scenario.load.unit());
    put(
        page,
        &format!(
            "<h2>{name}</h2>\n<p>{}; {} worker{}.</p>",
            scenario.about,
            scenario.workers,
            if scenario.workers == 1 { "" } else { "s" }
        ),
    );
    let rows = table.rows();
    let sizes: Vec<usize> = rows.iter().map(|row| row.measured.rules).collect();
    if sizes.iter().all(|size| Some(size) == sizes.first()) {
        let bar = |row: &Row<'_>| chart::Bar {
            label: row.measured.peer.name().to_owned(),
            colour: colour(row.measured.peer),
            spread: row.cost,
            note: if row.measured.peer == Peer::Eastwall {
                String::new()
            } else {
                format!(" · {}×", short(row.ratio.median))
            },
        };
        page.push_str(&chart::bars(&rows.iter().map(bar).collect::<Vec<_>>(), "µs"));
    } else {
        let curve = |&peer: &Peer| Curve {
            label: peer.name().to_owned(),
            colour: colour(peer),
            points: rows
                .iter()
                .filter(|row| row.measured.peer == peer)
                .map(|row| (row.measured.rules as f64, row.cost.median))
                .collect(),
        };
        let curves: Vec<Curve> = scenario.peers.iter().map(curve).filter(|curve| !curve.points.is_empty()).collect();
        page.push_str(&chart::curves(&curves, "µs"));
    }
    if matches!(scenario.load, Load::Paced { .. }) {
        put(page, "<p>Time until the answer that 99 of 100 requests did not exceed.</p>");
        let bar = |row: &Row<'_>| {
            let spread = Spread::of(row.measured.samples.iter().filter_map(|sample| Some(sample.done.latency?.p99)));
            let label = row.measured.peer.name().to_owned();
            chart::Bar { label, colour: colour(row.measured.peer), spread, note: String::new() }
        };
        page.push_str(&chart::bars(&rows.iter().map(bar).collect::<Vec<_>>(), "µs"));
    }
    put(
        page,
        &format!(
            "<table><tr><th>rules</th><th class=\"name\">proxy</th><th>CPU µs a {unit}</th><th>quartiles</th><th>eastwall ÷</th>\
        <th>quartiles</th><th>busy</th><th>a second</th><th>p50 µs</th><th>p99 µs</th><th>p99.9 µs</th><th>peak MB</th></tr>"
        ),
    );
    rows.iter().for_each(|row| put(page, &figures(row)));
    put(page, "</table>");
}

fn figures(row: &Row<'_>) -> String {
    let (peer, range) =
        (row.measured.peer, |spread: &Spread| format!("{} – {}", short(spread.low), short(spread.high)));
    let times = row.times().map(|time| format!("<td>{time}</td>")).concat();
    format!(
        "<tr{}><td>{}</td><td class=\"name\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.0}%</td><td>{:.0}</td>{times}<td>{:.1}</td></tr>",
        if peer == Peer::Eastwall { " class=\"ours\"" } else { "" },
        row.measured.rules,
        peer.name(),
        short(row.cost.median),
        range(&row.cost),
        short(row.ratio.median),
        range(&row.ratio),
        row.busy * 100.0,
        row.rate.median,
        row.measured.peak as f64 / 1e6,
    )
}

fn memory(page: &mut String, report: &Report) {
    for alike in report.memory.chunk_by(|one, next| one.protocol == next.protocol) {
        let Some(first) = alike.first() else { continue };
        put(page, "<h2>memory</h2>\n<p>Resident with 1,000 rules, when nobody asks.</p>");
        let bars = |figure: fn(&crate::memory::Footprint) -> f64| -> Vec<chart::Bar> {
            let bar = |footprint: &crate::memory::Footprint| {
                let spread = Spread::of([figure(footprint)].into_iter());
                let label = footprint.peer.name().to_owned();
                chart::Bar { label, colour: colour(footprint.peer), spread, note: String::new() }
            };
            alike.iter().map(bar).collect()
        };
        page.push_str(&chart::bars(&bars(|footprint| footprint.idle as f64 / 1e6), "MB"));
        put(page, &format!("<p>More than that, for each of {}.</p>", first.about()));
        page.push_str(&chart::bars(&bars(|footprint| footprint.per_connection), "bytes"));
    }
}

/// Colours that stay apart for colour-blind eyes; what is not a peer is pale.
fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Eastwall => "#0072b2",
        Peer::Haproxy => "#d98c00",
        Peer::Nginx => "#009e73",
        Peer::Envoy => "#d55e00",
        Peer::Ztunnel => "#cc79a7",
        Peer::Between(_) => "#0072b2",
        Peer::Changing(_) | Peer::Holding(_) | Peer::Logging(_) => "#56b4e9",
        Peer::Floor(_) => "#999",
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn put(page: &mut String, text: &str) {
    assert!(writeln!(page, "{text}").is_ok(), "a text takes what is written to it");
}
