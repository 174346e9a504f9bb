//! `PolicyTest`: flows with the verdicts that their author expects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::explain::explain;
use crate::diagnostic::Location;
use crate::flow::{Answer, Question};
use crate::model::{Mode, Model, PolicyName};
use crate::registry::Registry;
use crate::verdict::Action;
use crate::world::World;

/// One `PolicyTest` document.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// Namespace and name.
    pub name: PolicyName,
    /// Where its document starts.
    pub location: Location,
    /// Seconds since the epoch at which cases are judged that do not say so themselves.
    pub now: Option<i64>,
    /// The workloads of the test; `None`: those of the command line.
    pub registry: Option<Registry>,
    /// The flows.
    pub cases: Vec<Case>,
}

/// One flow and what is expected of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its name, or `cases[2]`.
    pub name: String,
    /// Where it stands.
    pub location: Location,
    /// The members of a `decide` request.
    pub request: serde_json::Value,
    /// The verdict.
    pub expect: Action,
    /// The rule that must have decided, by name.
    pub rule: Option<String>,
}

/// What came of one case.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The test, `shop/orders`.
    pub test: String,
    /// The case.
    pub case: String,
    /// Where it stands.
    pub location: Location,
    /// What was expected, where it was not met.
    pub failure: Option<Failure>,
    /// Where the rule stands that decided, `p.yaml:8:5`.
    pub decided_at: Option<String>,
    /// Of an unexpected denial: the allow rules that came nearest, each with what failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nearest: Vec<String>,
}

/// Which rules the cases reached.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Coverage {
    /// Rules of policies that act.
    pub rules: usize,
    /// Those that some case's verdict named.
    pub reached: usize,
    /// The others: policy, rule and place.
    pub missed: Vec<String>,
}

/// How a case was not met.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Failure {
    /// The case itself cannot be asked.
    Unusable {
        /// Why.
        message: String,
    },
    /// Another verdict.
    Verdict {
        /// As the case says.
        expected: Action,
        /// As it is.
        got: Box<Answer>,
    },
    /// The verdict, by another rule.
    Rule {
        /// As the case says.
        expected: String,
        /// As it is.
        got: Box<Answer>,
    },
}

impl PolicyTest {
    /// Judges every case under `model`. `registry` counts where the test has none of its own, `now` where neither test
    /// nor case says.
    #[must_use]
    pub fn run(&self, model: &Arc<Model>, registry: &Arc<Registry>, now: i64) -> Vec<Outcome> {
        let registry = self.registry.clone().map_or_else(|| Arc::clone(registry), Arc::new);
        let world = World::new(Arc::clone(model), registry, 1);
        let test = match &*self.name.namespace {
            "" => self.name.name.to_string(),
            namespace => format!("{namespace}/{}", self.name.name),
        };
        let outcome = |case: &Case| {
            let now = self.now.unwrap_or(now);
            let question = Question::from_json(&case.request);
            let answer = question.as_ref().ok().and_then(|question| question.answer(&world, now).ok());
            let failure = case.failure(&world, now);
            let is_denied = matches!(&failure, Some(Failure::Verdict { got, .. }) if got.verdict == Action::Deny);
            let nearest = question.as_ref().ok().filter(|_| is_denied).map(|question| nearest(&world, question, now));
            Outcome {
                test: test.clone(),
                case: case.name.clone(),
                location: case.location.clone(),
                failure,
                decided_at: answer.filter(|answer| answer.rule.is_some()).and_then(|answer| answer.location),
                nearest: nearest.unwrap_or_default(),
            }
        };
        self.cases.iter().map(outcome).collect()
    }
}

/// The allow rules that came nearest to a denied flow.
fn nearest(world: &World, question: &Question, now: i64) -> Vec<String> {
    let Ok(explanation) = explain(world, question, now) else { return Vec::new() };
    let misses = explanation.sides.into_iter().flat_map(|side| side.nearest);
    misses.map(|miss| format!("{} at {}: {}", miss.rule, miss.location, miss.failed.join("; "))).collect()
}

/// Which rules of a model these outcomes reached. Rules are told apart by where they stand.
#[must_use]
pub fn coverage(model: &Model, outcomes: &[Outcome]) -> Coverage {
    let reached: BTreeSet<&str> = outcomes.iter().filter_map(|outcome| outcome.decided_at.as_deref()).collect();
    let mut coverage = Coverage::default();
    let mut seen = BTreeSet::new();
    for policy in model.policies.iter().filter(|policy| policy.mode == Mode::Enforce) {
        for rule in &policy.rules {
            let place = rule.location.to_string();
            // What one rule of a document became is one rule here, and what the dialect adds stands in none.
            if rule.location == policy.location || !seen.insert(place.clone()) {
                continue;
            }
            coverage.rules += 1;
            if reached.contains(place.as_str()) {
                coverage.reached += 1;
            } else {
                coverage.missed.push(format!("{} rule `{}` at {place}", policy.name, rule.name));
            }
        }
    }
    coverage
}

impl Coverage {
    /// Of a hundred, rounded down; 0 where there is no rule to reach.
    #[must_use]
    pub fn percent(&self) -> u32 {
        let percent = (self.reached * 100).checked_div(self.rules).unwrap_or(0);
        u32::try_from(percent).unwrap_or(100)
    }
}

impl Case {
    fn failure(&self, world: &World, now: i64) -> Option<Failure> {
        let answer = Question::from_json(&self.request).and_then(|question| question.answer(world, now));
        let got = match answer {
            Ok(answer) => Box::new(answer),
            Err(error) => return Some(Failure::Unusable { message: error.to_string() }),
        };
        if got.verdict != self.expect {
            return Some(Failure::Verdict { expected: self.expect, got });
        }
        let expected = self.rule.as_ref().filter(|rule| got.rule.as_ref() != Some(rule))?;
        Some(Failure::Rule { expected: expected.clone(), got })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable { message } => write!(f, "cannot be asked: {message}"),
            Self::Verdict { expected, got } => {
                write!(f, "expected {expected}, got {}: {}", got.verdict, got.because())
            }
            Self::Rule { expected, got } => {
                write!(f, "expected the rule `{expected}` to decide, got {}: {}", got.verdict, got.because())
            }
        }
    }
}
