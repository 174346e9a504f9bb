//! Recorded flows, judged by both sides.

use serde::Serialize;
use serde_json::Value;

use crate::flow::{Question, QuestionError, recorded};
use crate::verdict::Action;
use crate::world::World;

/// What recorded flows would have met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// Flows that were read.
    pub flows: usize,
    /// Allowed by both.
    pub allowed: usize,
    /// Refused by both.
    pub refused: usize,
    /// Refused before, allowed now.
    pub newly_allowed: Vec<Flipped>,
    /// Allowed before, refused now.
    pub newly_refused: Vec<Flipped>,
    /// Lines that are no flow: alerts, and the like.
    pub passed_over: usize,
}

/// A recorded flow that meets another verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flipped {
    /// How often it was recorded.
    pub count: usize,
    /// The flow, as `decide` reads it.
    pub flow: Value,
    /// Why it is judged so now.
    pub because: String,
}

/// Judges lines of JSON: requests of `decide`, or lines of the access log.
///
/// # Errors
/// The first line that is neither, by its number.
pub fn replay<'l>(
    old: &World,
    new: &World,
    lines: impl Iterator<Item = &'l str>,
    now: i64,
) -> Result<Replay, (usize, QuestionError)> {
    let mut replay = Replay::default();
    for (number, line) in (1..).zip(lines).filter(|(_, line)| !line.trim().is_empty()) {
        let recorded: Value = serde_json::from_str(line)
            .map_err(|error| (number, QuestionError { member: String::new(), message: error.to_string() }))?;
        let asked = if recorded.get("dst").is_some() {
            recorded
        } else {
            match recorded::logged(&recorded, old.registry()) {
                Some(asked) => asked,
                None => {
                    replay.passed_over += 1;
                    continue;
                }
            }
        };
        let question = Question::from_json(&asked).map_err(|error| (number, error))?;
        let judge = |world: &World| question.answer(world, now).map_err(|error| (number, error));
        let (before, after) = (judge(old)?, judge(new)?);
        replay.flows += 1;
        let flipped = match (before.verdict == Action::Allow, after.verdict == Action::Allow) {
            (true, true) => {
                replay.allowed += 1;
                continue;
            }
            (false, false) => {
                replay.refused += 1;
                continue;
            }
            (false, true) => &mut replay.newly_allowed,
            (true, false) => &mut replay.newly_refused,
        };
        let flow = without_its_own(asked);
        match flipped.iter_mut().find(|held| held.flow == flow) {
            Some(held) => held.count += 1,
            None => flipped.push(Flipped { count: 1, flow, because: after.because() }),
        }
    }
    Ok(replay)
}

/// What makes one flow another one although nothing about it differs.
fn without_its_own(mut flow: Value) -> Value {
    if let Some(members) = flow.as_object_mut() {
        members.remove("id");
    }
    flow
}
