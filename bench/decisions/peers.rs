//! The engines that the same questions are asked beside Eastwall: a linear scan and Cedar.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::cedar::Cedar;
use crate::clock::{Percentiles, nanoseconds};
use crate::eastwall::milliseconds;
use crate::questions::Question;
use crate::rules::Rules;
use crate::scan::Scan;

/// What was measured of Cedar at one size.
pub(crate) struct Figures {
    pub(crate) decision: Percentiles,
    pub(crate) bytes: usize,
    pub(crate) read_ms: f64,
}

/// Asks as many of the questions, in order, as fit into `budget`.
pub(crate) fn scan(
    rules: &Rules,
    questions: &[Question],
    budget: Duration,
    overhead: u64,
) -> Result<Percentiles, Box<dyn Error>> {
    let scan = Scan::new(rules);
    let began = Instant::now();
    let mut times = Vec::with_capacity(questions.len());
    let mut path = Vec::new();
    for question in questions {
        question.path(&mut path);
        let destination = rules.destination(question.rule as usize) as u32;
        let started = Instant::now();
        let allowed = black_box(scan.allows(destination, question, &path));
        times.push(nanoseconds(started));
        agreed("the linear scan", question, allowed)?;
        if began.elapsed() > budget {
            break;
        }
    }
    Ok(Percentiles::of(times, overhead))
}

/// Asks as many of the questions, in order, as fit into `budget`.
pub(crate) fn cedar(
    rules: &Rules,
    questions: &[Question],
    budget: Duration,
    overhead: u64,
) -> Result<Figures, Box<dyn Error>> {
    let text = Cedar::text(rules);
    let started = Instant::now();
    let cedar = Cedar::parse(&text)?;
    let read_ms = milliseconds(started);
    let began = Instant::now();
    let mut times = Vec::with_capacity(questions.len());
    let mut path = Vec::new();
    for question in questions {
        question.path(&mut path);
        let request = cedar.request(rules.destination(question.rule as usize), question, &path)?;
        let started = Instant::now();
        let allowed = cedar.allows(&request);
        times.push(nanoseconds(started));
        agreed("cedar", question, allowed)?;
        if began.elapsed() > budget {
            break;
        }
    }
    Ok(Figures { decision: Percentiles::of(times, overhead), bytes: text.len(), read_ms })
}

fn agreed(engine: &str, question: &Question, allowed: bool) -> Result<(), Box<dyn Error>> {
    if allowed == question.allowed {
        return Ok(());
    }
    Err(format!("{engine} answers {question:?} with {}", if allowed { "allow" } else { "deny" }).into())
}
