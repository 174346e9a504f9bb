//! The parts of a request's way, one by one: parsing, detection, canonicalisation, decision. By time, or by instructions,
//! which repeat.
//!
//! `bench/run` builds this and runs it. What each part answers is compared before it is measured.

mod cases;

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cases::{ALL, Case};
use criterion::Criterion;
use eastwall_bench::machine;
use serde_json::{Map, Value, json};

/// The allocator of the product.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How often a part runs while its instructions are counted: often enough that making its input, which hashes with a
/// fresh seed each time, does not show.
const COUNTED: u64 = 20_000;

fn main() -> Result<(), Box<dyn Error>> {
    let (mut out, mut note, mut smoke, mut instructions) = (None, None, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" => smoke = true,
            "--instructions" => instructions = true,
            "--out" => out = arguments.next().map(PathBuf::from),
            "--note" => note = arguments.next(),
            // What `--instructions` starts.
            "--repeat" => return repeat(arguments.next().as_deref(), arguments.next().as_deref()),
            _ => {
                let options = "--instructions, --smoke, --out FOLDER, --note TEXT";
                return Err(format!("`{argument}` is no option: {options}").into());
            }
        }
    }
    let out = out.ok_or("--out FOLDER is missing")?;
    fs::create_dir_all(&out)?;
    if !instructions {
        time(smoke);
        return Ok(());
    }
    let machine = machine::describe(&[("valgrind", machine::said("valgrind", &["--version"]))], note.as_deref());
    let counted: Vec<(&str, f64)> =
        ALL.iter().take(if smoke { 1 } else { ALL.len() }).map(count).collect::<Result<_, _>>()?;
    let mut text = machine::text(&machine);
    writeln!(text, "{:<48} {:>12}", "Instructions of one run", "each")?;
    for (name, each) in &counted {
        writeln!(text, "{name:<48} {each:>12.0}")?;
    }
    print!("{text}");
    let values: Map<String, Value> = counted.iter().map(|(name, each)| ((*name).to_owned(), json!(each))).collect();
    fs::write(out.join("micro.txt"), text)?;
    let whole = json!({"machine": machine, "instructions": values});
    Ok(fs::write(out.join("micro.json"), serde_json::to_string_pretty(&whole)? + "\n")?)
}

fn time(smoke: bool) {
    let milliseconds = |whole| Duration::from_millis(if smoke { 10 } else { whole });
    let mut criterion = Criterion::default()
        .output_directory(Path::new("../target/criterion"))
        .warm_up_time(milliseconds(500))
        .measurement_time(milliseconds(2_000))
        .sample_size(if smoke { 10 } else { 100 });
    for case in ALL {
        let mut part = (case.make)();
        criterion.bench_function(case.name, |bencher| bencher.iter(&mut part));
    }
    criterion.final_summary();
}

/// Runs one part so many times and nothing else.
fn repeat(name: Option<&str>, times: Option<&str>) -> Result<(), Box<dyn Error>> {
    let case = ALL.iter().find(|case| Some(case.name) == name).ok_or("there is no such part")?;
    let times: u64 = times.ok_or("how often?")?.parse()?;
    let mut part = (case.make)();
    (0..times).for_each(|_| part());
    Ok(())
}

/// Instructions of one run of a part: what many take more than none, so that making its input does not count.
fn count(case: &Case) -> Result<(&'static str, f64), Box<dyn Error>> {
    let [none, many] = [0, COUNTED].map(|times| collected(case.name, times));
    Ok((case.name, (many? - none?) as f64 / COUNTED as f64))
}

fn collected(name: &str, times: u64) -> Result<i64, Box<dyn Error>> {
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["--repeat", name, &times.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be started ({error}): install the package `valgrind`"))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    match line {
        Some((_, number)) if ran.status.success() => Ok(number.trim().parse()?),
        _ => Err(format!("{name} under valgrind: {said}").into()),
    }
}
