//! `targetRef` and `targetRefs`: what a policy is attached to instead of a selector.
//!
//! SPEC: a sidecar and ztunnel take no notice of a policy with targets. A waypoint takes a Service of the policy's
//! namespace, a Gateway there, or the class `istio-waypoint` from the root namespace; it takes no selector at all.

use super::subject;
use crate::diagnostic::Code;
use crate::model::{Atom, Expr, PeerAtom, PolicyName};
use crate::settings::{Istio, IstioEnforcementPoint};
use crate::source::{Document, Fields, Findings, Node, Span, Value, fields};

/// What `spec` says of where a policy applies.
#[derive(Debug)]
pub(super) struct Attachment<'d> {
    selector: Option<&'d Node>,
    targets: Vec<Target<'d>>,
    span: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Target<'d> {
    kind: Kind,
    name: &'d str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Service,
    ServiceEntry,
    Gateway,
    GatewayClass,
}

const KINDS: [(&str, &str, Kind); 4] = [
    ("", "Service", Kind::Service),
    ("networking.istio.io", "ServiceEntry", Kind::ServiceEntry),
    ("gateway.networking.k8s.io", "Gateway", Kind::Gateway),
    ("gateway.networking.k8s.io", "GatewayClass", Kind::GatewayClass),
];

/// The class of every waypoint.
const WAYPOINT_CLASS: &str = "istio-waypoint";

impl<'d> Attachment<'d> {
    /// Of a document without `spec`.
    pub(super) fn everything() -> Self {
        Self { selector: None, targets: Vec::new(), span: None }
    }

    /// Reads `selector`, `targetRef` and `targetRefs`, of which there is at most one.
    pub(super) fn read(spec: &mut Fields<'d>, findings: &mut Findings) -> Self {
        let selector = super::optional(spec, "selector", findings);
        let one = super::optional(spec, "targetRef", findings);
        let many = super::optional(spec, "targetRefs", findings);
        let given: Vec<Span> = [selector, one, many].into_iter().flatten().map(|node| node.span).collect();
        if let [_, second, ..] = given.as_slice() {
            let message = "`selector`, `targetRef` and `targetRefs` exclude each other";
            findings.report_with(Code::Conflict, *second, message, "keep one of them");
        }
        let mut targets: Vec<Target<'d>> = one.and_then(|node| target(node, findings)).into_iter().collect();
        if let Some(many) = many {
            // SPEC: an empty list is none.
            let items = match &many.value {
                Value::List(items) => items.as_slice(),
                _ => fields::list(many, "`targetRefs`", findings).unwrap_or_default(),
            };
            targets.extend(items.iter().filter_map(|item| target(item, findings)));
        }
        let span = (!targets.is_empty()).then(|| one.or(many).map(|node| node.span)).flatten();
        Self { selector, targets, span }
    }

    /// The workloads that the policy protects here; `None` where this enforcement point takes no notice of it, which a
    /// finding says.
    pub(super) fn subject(
        &self,
        name: &PolicyName,
        document: &Document,
        istio: &Istio,
        findings: &mut Findings,
    ) -> Option<Expr> {
        let waypoint = istio.enforcement_point == IstioEnforcementPoint::Waypoint;
        let Some(span) = self.span else {
            let subject = subject::of(name, self.selector, &istio.root_namespace, findings);
            if waypoint {
                let span = self.selector.unwrap_or(&document.root).span;
                let message = "a waypoint takes no policy without `targetRefs`: it protects nothing here";
                let help = "attach it with `targetRefs`, or leave it to ztunnel, which enforces it on TCP";
                findings.report_with(Code::NotEnforced, span, message, help);
                return None;
            }
            return Some(subject);
        };
        if !waypoint {
            let message = "`targetRefs` attach to gateways and waypoints; a sidecar takes no notice of this policy, and \
                           neither does Eastwall";
            let help = "use a `selector` to protect workloads, or set `istio.enforcementPoint: Waypoint`";
            findings.report_with(Code::NotEnforced, span, message, help);
            return None;
        }
        let in_root = *name.namespace == *istio.root_namespace;
        let protected: Vec<Expr> =
            self.targets.iter().filter_map(|target| target.protects(&name.namespace, in_root)).collect();
        if protected.is_empty() {
            let message = "no target of this policy is a workload of the mesh: it protects nothing here";
            let help = "name a `Service` or a waypoint `Gateway` of its namespace";
            findings.report_with(Code::NotEnforced, span, message, help);
            return None;
        }
        Some(Expr::any(protected))
    }
}

impl Target<'_> {
    fn protects(self, namespace: &str, in_root: bool) -> Option<Expr> {
        match self.kind {
            Kind::Service => Some(Expr::all([
                subject::namespace(namespace),
                Expr::Is(Atom::Subject(PeerAtom::Service { namespace: namespace.into(), name: self.name.into() })),
            ])),
            // Which Services a waypoint stands for is written on objects that are not read here, so all workloads of its
            // namespace count: never fewer than in Istio.
            Kind::Gateway => Some(subject::namespace(namespace)),
            Kind::GatewayClass => (in_root && self.name == WAYPOINT_CLASS).then_some(Expr::True),
            Kind::ServiceEntry => None,
        }
    }
}

fn target<'d>(node: &'d Node, findings: &mut Findings) -> Option<Target<'d>> {
    let before = findings.errors();
    let mut fields = Fields::of(node, "a target", findings)?;
    let group = super::optional(&mut fields, "group", findings);
    let kind = fields.required("kind", findings).and_then(|node| fields::text(node, "`kind`", findings));
    let name = fields.required("name", findings).and_then(|node| fields::text(node, "`name`", findings));
    if let Some(namespace) = super::optional(&mut fields, "namespace", findings).filter(|node| node.text() != Some(""))
    {
        let message = "a target in another namespace";
        findings.report_with(Code::BadValue, namespace.span, message, "remove `namespace`: it is the policy's own");
    }
    fields.finish(findings);
    let group = match group {
        Some(node) if node.text() == Some("") => "",
        Some(node) => fields::text(node, "`group`", findings)?,
        None => "",
    };
    let (kind, name) = (kind?, name?);
    let group = if group == "core" { "" } else { group };
    let known = KINDS.iter().find(|(of_group, word, _)| (*of_group, *word) == (group, kind));
    let Some((_, _, kind)) = known else {
        let message = format!("`{kind}` of group `{group}` is no target of a policy");
        let help = "targets are `Service`, `ServiceEntry`, `Gateway` and `GatewayClass`, each with its own group";
        findings.report_with(Code::BadEnumValue, node.span, message, help);
        return None;
    };
    (findings.errors() == before).then_some(Target { kind: *kind, name })
}
