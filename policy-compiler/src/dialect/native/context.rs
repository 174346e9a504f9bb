//! What every reader of one policy document needs.

use std::sync::Arc;

use crate::diagnostic::Code;
use crate::dialect::{Mention, Mentioned};
use crate::model::{Atom, Expr, PeerAtom};
use crate::settings::Settings;
use crate::source::{Findings, Span};

/// One policy document while it is read.
pub(super) struct Context<'a> {
    /// What is wrong with it.
    pub(super) findings: Findings,
    /// The cluster's settings.
    pub(super) settings: &'a Settings,
    /// The policy's own namespace; `None` for a cluster policy.
    pub(super) namespace: Option<Arc<str>>,
    /// What it names.
    pub(super) mentions: Vec<Arc<Mention>>,
}

impl Context<'_> {
    /// Says that the document names workloads for which `peer` atoms hold.
    pub(super) fn mention_somebody(&mut self, span: Span, who: &str, atoms: &[PeerAtom]) {
        let subject = Expr::all(atoms.iter().map(|atom| Expr::Is(Atom::Subject(atom.clone()))));
        let finding = self.findings.unconfirmed(
            Code::NobodyYet,
            span,
            format!("no workload {who}"),
            "it matches nobody until there is one; check the spelling",
        );
        self.mentions.push(Arc::new(Mention { of: Mentioned::Somebody(subject), finding }));
    }

    /// Says that the document names a Service.
    pub(super) fn mention_service(&mut self, span: Span, namespace: &Arc<str>, name: &Arc<str>) {
        let finding = self.findings.unconfirmed(
            Code::DanglingService,
            span,
            format!("there is no Service `{namespace}/{name}`"),
            "check the name and the namespace; without `namespace` the policy's own is meant",
        );
        let of = Mentioned::Service { namespace: Arc::clone(namespace), name: Arc::clone(name) };
        self.mentions.push(Arc::new(Mention { of, finding }));
    }
}
