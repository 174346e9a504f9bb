//! What an emergency opens: sides of a connection, each for itself.

use std::sync::Arc;

use super::{ConnectionVerdict, Flow, World};
use crate::facts::{Connection, Direction, Place};
use crate::model::BreakGlass;
use crate::table::plan::Plan;
use crate::verdict::{Action, Audit, Reason, Verdict};

/// One side of a connection, and the emergencies that open it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) plan: Plan,
    pub(super) lacks_proof: bool,
    break_glass: Vec<Arc<BreakGlass>>,
}

impl World {
    /// The emergency that opens the flow at this time, if one does.
    #[must_use]
    pub fn emergency<'f>(&self, flow: &'f Flow, now: i64) -> Option<&'f Arc<BreakGlass>> {
        flow.sides.iter().flat_map(|side| &side.break_glass).find(|glass| glass.acts(now))
    }

    /// The sides that are judged, each for itself; none where no emergency opens any.
    pub(super) fn sides(&self, connection: &Connection<'_>) -> Vec<Side> {
        // PERF: at nearly all times there is none.
        if self.model.break_glass.is_empty() {
            return Vec::new();
        }
        let side = |direction| {
            let connection = Connection { direction: Some(direction), ..*connection };
            Side {
                plan: Plan::new(&self.table, &self.model, &self.registry, &self.residents, &connection),
                lacks_proof: self.lacks_proof(&connection),
                break_glass: self.opened_by(&connection).cloned().collect(),
            }
        };
        let judged = [Direction::Outbound, Direction::Inbound].into_iter();
        let judged = judged.filter(|one| connection.direction.is_none_or(|direction| direction == *one));
        let sides: Vec<Side> = judged.map(side).collect();
        if sides.iter().all(|side| side.break_glass.is_empty()) { Vec::new() } else { sides }
    }

    /// The emergencies that open the side of a connection that is judged.
    pub(crate) fn opened_by(&self, connection: &Connection<'_>) -> impl Iterator<Item = &Arc<BreakGlass>> + use<'_> {
        let judged = match connection.direction {
            Some(Direction::Outbound) => connection.source.place,
            Some(Direction::Inbound) => connection.destination.place,
            None => Place::Unknown,
        };
        let workload = match judged {
            Place::Workload(id) => self.registry.workload(id),
            _ => None,
        };
        let all = &self.model.break_glass;
        all.iter().filter(move |glass| workload.is_some_and(|workload| glass.subject.selects(workload)))
    }

    /// Of a connection that is refused: the sides that no emergency opens decide.
    pub(super) fn opened_connection(&self, flow: &Flow, verdict: Verdict, now: i64) -> ConnectionVerdict {
        if !flow.is_opened(now) {
            return ConnectionVerdict::Deny(verdict);
        }
        let mut unseen = true;
        for side in flow.sides.iter().filter(|side| !side.acts(now)) {
            match self.table.connection_verdict(&side.plan, &self.registry, now) {
                ConnectionVerdict::Deny(_) => return ConnectionVerdict::Deny(verdict),
                ConnectionVerdict::Opaque(_) => unseen &= !side.lacks_proof,
                ConnectionVerdict::Inspect => unseen = false,
            }
        }
        if unseen { ConnectionVerdict::Opaque(opened(verdict)) } else { ConnectionVerdict::Inspect }
    }
}

// === impl Flow ===

impl Flow {
    pub(super) fn is_opened(&self, now: i64) -> bool {
        self.sides.iter().any(|side| side.acts(now))
    }
}

impl Side {
    pub(super) fn acts(&self, now: i64) -> bool {
        self.break_glass.iter().any(|glass| glass.acts(now))
    }
}

/// What a refusal becomes while an emergency lasts: it passes, and what would have happened is told.
pub(super) fn opened(verdict: Verdict) -> Verdict {
    let audit = Some(Audit { action: verdict.action, reason: verdict.reason, rule: verdict.rule });
    Verdict { action: Action::Allow, reason: Reason::BreakGlass, rule: None, proof: verdict.proof, audit }
}
