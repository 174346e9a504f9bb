//! One item of `ingress`, `egress`, `ingressDeny` or `egressDeny`.

use super::context::Context;
use super::members::Members;
use super::{icmp, l7, peers};
use crate::diagnostic::Code;
use crate::model::{Effect, Expr};
use crate::source::{Node, Value, fields};

/// One rule, read.
pub(super) struct Entry {
    /// The other end.
    pub(super) peers: Expr,
    /// See [`peers::Peers::by_endpoints`].
    pub(super) by_endpoints: bool,
    /// Ports and what may pass on them. `None`: every port.
    pub(super) ports: Option<Vec<l7::PortRule>>,
    /// What it asks of the endpoints of every rule of this direction.
    pub(super) required: Vec<Expr>,
}

impl Entry {
    /// What the rule asks of ports and bytes.
    pub(super) fn content(&self) -> Expr {
        let Some(ports) = &self.ports else { return Expr::True };
        let each = |rule: &l7::PortRule| Expr::all([rule.ports.clone(), rule.content.clone().unwrap_or(Expr::True)]);
        let any: Vec<Expr> = ports.iter().map(each).collect();
        if any.contains(&Expr::True) { Expr::True } else { Expr::any(any) }
    }
}

/// Reads one rule; `None` after an error.
pub(super) fn read(node: &Node, effect: Effect, context: &mut Context<'_>) -> Option<Entry> {
    let before = context.findings.errors();
    let mut members = Members::of(node, "a rule", context.findings)?;
    let peers = peers::read(&mut members, effect, context);
    let to_ports = members.find("toPorts");
    let icmps = members.find("icmps").filter(|node| !l7::is_empty(Some(node)));
    let ports = match to_ports {
        Some(node) if !l7::is_empty(to_ports) => l7::list(node, effect, context),
        _ => None,
    };
    if let Some(icmps) = icmps {
        icmp::read(icmps, context);
        if !l7::is_empty(to_ports) {
            let help = "write two rules";
            context.findings.report_with(Code::Conflict, icmps.span, "`icmps` and `toPorts` exclude each other", help);
        }
    }
    if effect == Effect::Allow {
        authentication(&mut members, context);
    }
    members.finish(context.findings);
    let peers = peers?;
    if context.findings.errors() != before {
        return None;
    }
    let has_ports = !l7::is_empty(to_ports) || icmps.is_some();
    // `[{}]` is how people write that nothing may pass.
    let is_bare = effect == Effect::Allow && matches!(&node.value, Value::Map(entries) if entries.is_empty());
    if peers.condition.is_none() && !has_ports && peers.required.is_empty() && !is_bare {
        let help = "write `fromEntities: [all]` or `toEntities: [all]` to mean everything";
        let message = match effect {
            Effect::Deny => "a deny rule that says nothing denies nothing",
            _ => "a rule whose fields have no value allows nothing",
        };
        context.findings.report_with(Code::Suspicious, node.span, message, help);
    }
    Some(Entry {
        // SPEC: nobody and no port in particular is nothing at all.
        peers: match peers.condition {
            Some(_) | None if icmps.is_some() => Expr::False,
            Some(condition) => condition,
            None if has_ports => Expr::True,
            None => Expr::False,
        },
        by_endpoints: peers.by_endpoints,
        ports,
        required: peers.required,
    })
}

/// `mode: disabled` asks for nothing, which is what happens without the field.
fn authentication(members: &mut Members<'_>, context: &mut Context<'_>) {
    let Some(node) = members.find("authentication") else { return };
    let Some(mut inner) = Members::of(node, "`authentication`", context.findings) else { return };
    let mode = inner.require("mode", context.findings);
    inner.finish(context.findings);
    let modes = [("disabled", true), ("required", false), ("test-always-fail", false)];
    let harmless = mode.and_then(|mode| fields::word(mode, "`mode`", &modes, context.findings));
    if harmless == Some(false) {
        let help = "write the rule for the native `FirewallPolicy` with `proof: MutualTLS`";
        members.refuse("authentication", "Eastwall takes no part in Cilium's handshakes", help, context.findings);
    }
}
