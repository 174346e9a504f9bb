//! What every reader of these dialects needs: where findings go, whose policy it is, which end is asked about.

use std::sync::Arc;

use crate::diagnostic::Code;
use crate::dialect::{Mention, Mentioned};
use crate::facts::{Direction, Transport};
use crate::model::{Atom, Expr, PeerAtom, PolicyName};
use crate::settings::Settings;
use crate::source::{Document, Findings, Span};

/// One document while it is read.
pub(super) struct Context<'a> {
    pub(super) findings: Findings,
    pub(super) settings: &'a Settings,
    pub(super) mentions: Vec<Arc<Mention>>,
    pub(super) name: PolicyName,
    /// The direction of the rule that is read.
    pub(super) direction: Direction,
}

impl<'a> Context<'a> {
    /// For one document.
    pub(super) fn of(document: &Document, name: PolicyName, settings: &'a Settings) -> Self {
        let findings = Findings::of(document);
        Self { findings, settings, mentions: Vec::new(), name, direction: Direction::Inbound }
    }

    /// The namespace of a namespaced policy.
    pub(super) fn namespace(&self) -> Arc<str> {
        Arc::clone(&self.name.namespace)
    }

    /// Notes that a rule speaks of workloads of which these hold: that there is none is worth a warning.
    pub(super) fn mention(&mut self, span: Span, who: &[PeerAtom]) {
        let finding = self.findings.unconfirmed(
            Code::NobodyYet,
            span,
            "no workload is selected by this peer",
            "check labels and the namespace; a peer of pods never matches addresses outside the cluster",
        );
        let all = Expr::all(who.iter().map(|atom| Expr::Is(Atom::Subject(atom.clone()))));
        self.mentions.push(Arc::new(Mention { of: Mentioned::Somebody(all), finding }));
    }

    /// Notes that a rule names a port: that no workload declares it, for this transport where one is said, is worth a
    /// warning.
    pub(super) fn mention_port(&mut self, span: Span, name: &Arc<str>, transport: Option<Transport>) {
        let finding = self.findings.unconfirmed(
            Code::NobodyYet,
            span,
            format!("no workload declares a port `{name}`"),
            "the name and the transport are those of a container's port, never of a Service's",
        );
        self.mentions.push(Arc::new(Mention { of: Mentioned::Port { name: Arc::clone(name), transport }, finding }));
    }
}

/// A question about the other end. A network plugin knows addresses, and nothing of what is proven.
pub(super) fn peer(atom: PeerAtom) -> Expr {
    Expr::Is(Atom::Located(atom))
}

/// A question about the protected workload.
pub(super) fn subject(atom: PeerAtom) -> Expr {
    Expr::Is(Atom::Subject(atom))
}
