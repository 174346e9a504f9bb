//! A difference as a person reads it.

use std::fmt;

use super::{Difference, MutualTls, Protection, State};
use crate::analysis::space::{Change, Kind, Open};
use crate::facts::{Direction, Transport};

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for protection in &self.protection {
            write_protection(protection, f)?;
        }
        for MutualTls { workloads, before, now } in &self.mutual_tls {
            writeln!(f, "inbound mutual TLS {before} → {now}: {}", listed(workloads))?;
        }
        self.emergencies.iter().try_for_each(|emergency| emergency.fmt(f))?;
        self.tokens.iter().try_for_each(|tokens| tokens.fmt(f))?;
        for (kind, title) in [(Kind::Allowed, "newly allowed"), (Kind::Denied, "newly denied")] {
            let changes: Vec<&Change> = self.changes.iter().filter(|change| change.kind == kind).collect();
            if !changes.is_empty() {
                writeln!(f, "{title}")?;
            }
            changes.into_iter().try_for_each(|change| write_change(change, f))?;
        }
        for open in &self.undecided {
            write_open(open, f)?;
        }
        if let Some(replay) = &self.replay {
            writeln!(
                f,
                "replayed {} flows: {} allowed by both, {} refused by both, {} newly allowed, {} newly refused",
                replay.flows,
                replay.allowed,
                replay.refused,
                replay.newly_allowed.iter().map(|flipped| flipped.count).sum::<usize>(),
                replay.newly_refused.iter().map(|flipped| flipped.count).sum::<usize>(),
            )?;
            let flipped = [("newly allowed", &replay.newly_allowed), ("newly refused", &replay.newly_refused)];
            for (title, flows) in flipped {
                for flow in flows {
                    writeln!(f, "  {title}, {} times: {}", flow.count, flow.flow)?;
                    writeln!(f, "    {}", flow.because)?;
                }
            }
            if replay.passed_over > 0 {
                writeln!(f, "  {} lines are no flow and were passed over", replay.passed_over)?;
            }
        }
        if self.is_empty() {
            writeln!(f, "no flow meets another verdict")?;
        }
        Ok(())
    }
}

fn write_protection(protection: &Protection, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let direction = match protection.direction {
        Direction::Inbound => "inbound at",
        Direction::Outbound => "outbound at",
    };
    let (what, verb) = match protection.now {
        State::Open => ("closed → open", "was closed by"),
        State::Closed => ("open → closed", "is closed by"),
    };
    writeln!(f, "{what}: {direction} {}", listed(&protection.workloads))?;
    for closing in &protection.policies {
        let gone = match (closing.only_here, protection.now) {
            (true, State::Open) => ", which is gone",
            (true, State::Closed) => ", which is new",
            (false, _) => "",
        };
        writeln!(f, "  {verb} {} at {}{gone}", closing.policy, closing.location)?;
    }
    Ok(())
}

fn write_change(change: &Change, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let sign = if change.kind == Kind::Allowed { '+' } else { '-' };
    writeln!(f, "{sign} {}", change.requests)?;
    write_ends(&change.sources, &change.destinations, &change.ports, &change.transports, f)?;
    writeln!(f, "    for example {}", change.witness)?;
    writeln!(f, "    before {}: {}", change.old.verdict, change.old.because())?;
    writeln!(f, "    now {}: {}", change.new.verdict, change.new.because())
}

fn write_open(open: &Open, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "undecided: {}", open.why)?;
    write_ends(&open.sources, &open.destinations, &open.ports, open.transport.as_slice(), f)?;
    open.rules.iter().try_for_each(|rule| writeln!(f, "    {rule}"))
}

fn write_ends(
    sources: &[String],
    destinations: &[String],
    ports: &[String],
    transports: &[Transport],
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let transports: Vec<String> = transports.iter().map(|transport| format!("{transport:?}").to_lowercase()).collect();
    let transports = transports.join(", ");
    writeln!(f, "    from {}", listed(sources))?;
    writeln!(f, "    to {}, {transports} {}", listed(destinations), ports_listed(ports))
}

fn ports_listed(ports: &[String]) -> String {
    match ports {
        [only] if only == "every port" => only.clone(),
        [only] if !only.contains('-') => format!("port {only}"),
        several => format!("ports {}", several.join(", ")),
    }
}

/// The first few by name.
fn listed(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}

/// All names are in the JSON.
const SHOWN: usize = 8;
