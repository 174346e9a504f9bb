//! What changes may cost those who ask meanwhile, beside how far two untouched proxies lie apart.

use super::Bar;
use crate::churn::Change;
use crate::load::Load;
use crate::peers::Peer;
use crate::report::{Table, latency};
use crate::running::Sample;
use crate::spread::Spread;

/// Those of one scenario; none where nothing changes.
pub(super) fn bars(table: &Table) -> Vec<Bar> {
    let of = |peer| Some(table.measured.iter().find(|measured| measured.peer == peer)?.samples.as_slice());
    let (Some(one), Some(other)) = (of(Peer::Eastwall), of(Peer::Changing(Change::Nothing))) else { return Vec::new() };
    let name = table.scenario.name;
    let (figure, at_most, cost): (_, _, fn(&[&Sample]) -> Option<f64>) = match table.scenario.load {
        Load::Paced { .. } => ("p99", 1.2, p99),
        // A tenth fewer.
        _ => ("time of a request", 1.11, time),
    };
    let bar = |what: String, at_most, changing: Option<&[Sample]>, still: &[&[Sample]]| {
        let changing = changing?;
        let ratio = |changing: &[&Sample], still: &[&Sample]| Some(cost(changing)? / cost(still)?);
        let rounds = changing.iter().enumerate().map(|(round, sample)| {
            let still: Vec<&Sample> = still.iter().filter_map(|samples| samples.get(round)).collect();
            ratio(&[sample], &still)
        });
        let rounds: Vec<f64> = rounds.collect::<Option<_>>()?;
        let still: Vec<&Sample> = still.iter().copied().flatten().collect();
        let measured = ratio(&changing.iter().collect::<Vec<_>>(), &still)?;
        Some(Bar { what, at_most, measured, unit: "×", rounds: Some(Spread::of(rounds.into_iter())) })
    };
    let apart = bar(format!("{name}: {figure} of one untouched ÷ another untouched"), None, Some(other), &[one]);
    let changes = [("documents", Change::Document), ("addresses", Change::Addresses)].map(|(things, change)| {
        let what = format!("{name}: {figure} while {things} change ÷ while nothing does");
        bar(what, Some(at_most), of(Peer::Changing(change)), &[one, other])
    });
    [apart].into_iter().chain(changes).flatten().collect()
}

/// Of all requests.
fn p99(samples: &[&Sample]) -> Option<f64> {
    Some(latency(samples.iter().copied())?.p99)
}

/// How long one takes where as many are asked as are answered.
fn time(samples: &[&Sample]) -> Option<f64> {
    let count: f64 = samples.iter().map(|sample| sample.done.count).sum();
    let seconds: f64 = samples.iter().map(|sample| sample.done.seconds).sum();
    (count > 0.0).then(|| seconds / count)
}
