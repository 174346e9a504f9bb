//! What a request costs Eastwall, HAProxy, nginx and Envoy under the same policy, in one run.
//!
//! `bench/run` builds this and runs it. Figures are printed, never asserted; a wrong answer ends the run.

mod answers;
mod authority;
mod backend;
mod bars;
mod chart;
mod churn;
mod floor;
mod identities;
mod load;
mod memory;
mod origin;
mod page;
mod peers;
mod pods;
mod process;
mod report;
mod rounds;
mod rules;
mod running;
mod scenario;
mod soak;
mod spread;
mod usage;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use eastwall_bench::machine;
use floor::Floor;
use peers::Programs;
use process::{Failure, LOAD};
use report::{Report, Table};
use rounds::Amount;
use rules::Rules;
use scenario::Scenario;

const WHOLE: Amount = Amount { rounds: 12, seconds: 1.0, connections: 10_000, is_smoke: false };
const SMOKE: Amount = Amount { rounds: 1, seconds: 0.3, connections: 1_000, is_smoke: true };

/// Named like a scenario.
const MEMORY: &str = "memory";

fn main() -> Result<(), Failure> {
    if let Some(ended) = as_helper() {
        return ended;
    }
    let mut amount = WHOLE;
    let (mut out, mut note) = (None, None);
    let mut only: Vec<String> = Vec::new();
    let mut soak: Option<f64> = None;
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => amount = SMOKE,
            "--out" => out = arguments.next().map(PathBuf::from),
            "--note" => note = arguments.next(),
            "--only" => only.extend(arguments.next().iter().flat_map(|names| names.split(',')).map(str::to_owned)),
            "--soak" => soak = arguments.next().and_then(|seconds| seconds.parse().ok()),
            _ => {
                return Err(format!(
                    "`{argument}` is no option: --smoke, --out FOLDER, --note TEXT, --only SCENARIO,…, --soak SECONDS"
                )
                .into());
            }
        }
    }
    let out = out.ok_or("--out FOLDER is missing")?;
    fs::create_dir_all(&out)?;
    process::open_many_files()?;
    pods::sweep()?;
    let programs = Programs {
        eastwall: env::var_os("EASTWALL").map(PathBuf::from).ok_or("EASTWALL names no program")?,
        envoy: env::var_os("ENVOY").map(PathBuf::from),
        ztunnel: env::var_os("ZTUNNEL").map(PathBuf::from),
    };
    if programs.ztunnel.is_none() {
        eprintln!("NOTE: ZTUNNEL names no program: ztunnel is left out, and nothing is said of the aim beside it");
    }
    let names: Vec<&str> = scenario::ALL.iter().map(|each| each.name).chain([MEMORY]).collect();
    if let Some(unknown) = only.iter().find(|only| !names.contains(&only.as_str())) {
        return Err(format!("there is no scenario `{unknown}`: {}", names.join(", ")).into());
    }
    let is_chosen = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let chosen: Vec<&Scenario> = scenario::ALL.iter().filter(|each| is_chosen(each.name)).collect();

    let mut report = Report {
        machine: machine::describe(&programs.versions(), note.as_deref()),
        tables: Vec::new(),
        memory: Vec::new(),
    };
    process::stay_on(LOAD)?;
    if let Some(seconds) = soak {
        let soak = soak::run(seconds, &programs)?;
        print!("{}", soak.text());
        return soak.write(report.machine, &out);
    }
    for scenario in chosen {
        if scenario.needs_root() && !rustix::process::geteuid().is_root() {
            eprintln!("NOTE: {} is left out: only root makes network namespaces", scenario.name);
            continue;
        }
        let sizes = if amount.is_smoke { &scenario.sizes[..1] } else { scenario.sizes };
        let mut measured = Vec::new();
        for &size in sizes {
            measured.extend(rounds::measure(scenario, Rules(size), amount, &programs)?);
        }
        let table = Table { scenario, measured };
        print!("{}", table.text());
        report.tables.push(table);
    }
    if is_chosen(MEMORY) {
        report.memory = memory::measure(amount.connections, &programs)?;
        print!("{}", report::memory_text(&report.memory));
    }
    let Amount { rounds, seconds, is_smoke, .. } = amount;
    let trial = if is_smoke { ": a trial, whose figures say nothing" } else { "" };
    let longer = format!(", {} s where something changes", seconds * scenario::LONGER);
    let longer = if is_smoke { "" } else { &longer };
    report.machine.insert("rounds".into(), format!("{rounds} of {seconds} s each{longer}{trial}").into());
    report.machine.insert("load after".into(), machine::load().into());
    fs::write(out.join("proxies.txt"), report.text())?;
    fs::write(out.join("proxies.json"), serde_json::to_string_pretty(&report.json())? + "\n")?;
    fs::write(out.join("proxies.html"), page::draw(&report))?;
    if !amount.is_smoke {
        print!("{}", report.aims());
    }
    eprintln!("written: proxies.txt, proxies.json and proxies.html in {}", out.display());
    Ok(())
}

/// What this program does when it is started as a backend or as one of the proxies.
fn as_helper() -> Option<Result<(), Failure>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let address = |text: &str| text.parse::<SocketAddr>().map_err(Failure::from);
    let floor = |floor, listen, upstream| floor::serve(floor, address(listen)?, address(upstream)?);
    let origin = |is_http2, listen| origin::serve(is_http2, address(listen)?);
    Some(match arguments.as_slice() {
        ["h2-to-h2", listen, upstream] => floor(Floor::H2, listen, upstream),
        ["hyper-to-h2", listen, upstream] => floor(Floor::Hyper, listen, upstream),
        ["hbone-to-tcp", listen, upstream] => floor(Floor::Tunnels, listen, upstream),
        ["authority", listen, folder] => address(listen).and_then(|listen| authority::serve(listen, Path::new(folder))),
        ["origin-http1", listen] => origin(false, listen),
        ["origin-http2", listen] => origin(true, listen),
        _ => return None,
    })
}
