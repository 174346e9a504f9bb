//! How long decisions, compiling and changes take, beside a linear scan and Cedar under the same rules, in one run.
//!
//! `bench/run` builds this and runs it. Times are printed beside their bars, never asserted; answers are compared always,
//! and a wrong one ends the run.

mod cedar;
mod changes;
mod clock;
mod eastwall;
mod peers;
mod plot;
mod questions;
mod report;
mod rules;
mod scan;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use eastwall_bench::machine;
use report::{Change, Compiled, Report, Row};
use rules::{Dialect, Rules};

/// The allocator of the product.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How much is measured.
struct Amount {
    sizes: &'static [usize],
    questions: usize,
    /// How long Eastwall may be asked at one size, and how long a peer.
    budget: Duration,
    peer_budget: Duration,
    /// Rules and rounds of a change, and workloads.
    change: (usize, usize, usize),
}

const WHOLE: Amount = Amount {
    sizes: &[10, 1_000, 10_000, 100_000],
    questions: 1_000_000,
    budget: Duration::from_secs(60),
    peer_budget: Duration::from_secs(15),
    change: (10_000, 20, 10_000),
};
const SMOKE: Amount = Amount {
    sizes: &[10, 1_000],
    questions: 2_000,
    budget: Duration::from_secs(1),
    peer_budget: Duration::from_millis(300),
    change: (300, 3, 300),
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut amount = &WHOLE;
    let (mut out, mut note) = (None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => amount = &SMOKE,
            "--out" => out = arguments.next().map(PathBuf::from),
            "--note" => note = arguments.next(),
            _ => return Err(format!("`{argument}` is no option: --smoke, --out FOLDER, --note TEXT").into()),
        }
    }
    let out = out.ok_or("--out FOLDER is missing")?;
    fs::create_dir_all(&out)?;

    let mut report = measure(amount, note.as_deref())?;
    report.machine.insert("load after".into(), machine::load().into());
    let text = report.text();
    print!("{text}");
    fs::write(out.join("decisions.txt"), &text)?;
    fs::write(out.join("decisions.json"), serde_json::to_string_pretty(&report.json())? + "\n")?;
    fs::write(out.join("decisions.svg"), plot::draw(&report))?;
    eprintln!("written: decisions.txt, decisions.json and decisions.svg in {}", out.display());
    Ok(())
}

fn measure(amount: &Amount, note: Option<&str>) -> Result<Report, Box<dyn Error>> {
    let versions = ["eastwall-policy", "cedar-policy"].map(|name| (name, machine::locked(name)));
    let machine = machine::describe(&versions, note);
    let overhead = clock::overhead();
    eprintln!("reading the clock takes {overhead} ns");
    let mut rows = Vec::new();
    for &count in amount.sizes {
        for one_scope in [true, false] {
            at_size(&Rules { count, one_scope }, amount, overhead, &mut rows)?;
        }
    }
    Ok(Report { machine, overhead, rows, changes: changes(amount)? })
}

fn at_size(rules: &Rules, amount: &Amount, overhead: u64, rows: &mut Vec<Row>) -> Result<(), Box<dyn Error>> {
    let (count, layout) = (rules.count, rules.layout());
    let questions = questions::draw(rules, amount.questions);
    for (dialect, engine) in [(Dialect::Native, "eastwall native"), (Dialect::Istio, "eastwall istio")] {
        eprintln!("{count} rules, {layout}: {engine}");
        let figures = eastwall::measure(rules, dialect, &questions, amount.budget, overhead)?;
        rows.push(Row {
            rules: count,
            layout,
            engine,
            decision: figures.decision,
            flow: Some((figures.flow, figures.both)),
            compiled: Some(Compiled {
                documents: rules.documents(),
                bytes: figures.bytes,
                read_ms: figures.read_ms,
                table: Some((figures.table_ms, figures.size)),
            }),
        });
    }
    eprintln!("{count} rules, {layout}: linear scan");
    let decision = peers::scan(rules, &questions, amount.peer_budget, overhead)?;
    rows.push(Row { rules: count, layout, engine: "linear scan", decision, flow: None, compiled: None });
    eprintln!("{count} rules, {layout}: cedar");
    let figures = peers::cedar(rules, &questions, amount.peer_budget, overhead)?;
    rows.push(Row {
        rules: count,
        layout,
        engine: "cedar",
        decision: figures.decision,
        flow: None,
        compiled: Some(Compiled { documents: 1, bytes: figures.bytes, read_ms: figures.read_ms, table: None }),
    });
    Ok(())
}

fn changes(amount: &Amount) -> Result<Vec<Change>, Box<dyn Error>> {
    let (count, rounds, workloads) = amount.change;
    let rules = Rules { count, one_scope: false };
    let mut changes = Vec::new();
    for dialect in [Dialect::Native, Dialect::Istio] {
        for one_scope in [true, false] {
            let rules = Rules { one_scope, ..rules };
            let (name, documents) = (dialect.name(), rules.documents());
            eprintln!("one document of {documents} changed: {name}, {}", rules.layout());
            changes.push(Change {
                what: format!("{name}, {}: one of {documents} documents, {count} rules", rules.layout()),
                rounds: changes::document(&rules, dialect, rounds)?,
                bar_ms: Some(100.0),
            });
        }
    }
    eprintln!("one address of {workloads} changed");
    let address = changes::address(&rules, workloads, rounds)?;
    for (what, rounds, bar_ms) in [
        ("the new registry joined with the table", address.join, Some(1.0)),
        ("the registry made of its workloads, and joined", address.registry, Some(1.0)),
        ("the workloads file read, made and joined", address.file, None),
    ] {
        changes.push(Change { what: format!("one address of {workloads} workloads: {what}"), rounds, bar_ms });
    }
    Ok(changes)
}
