//! `BreakGlass`: an emergency that opens what policies close, for a named reason and a short time.

use std::sync::Arc;

use super::context::Context;
use super::metadata::{self, Scope};
use super::policy;
use super::rule::timestamp;
use crate::diagnostic::{Code, Told};
use crate::dialect::{Refused, name_of};
use crate::model::{BREAK_GLASS_MAX, BreakGlass};
use crate::settings::Settings;
use crate::source::fields::text;
use crate::source::{Document, Fields, Findings};

/// What came of all documents of the kind.
#[derive(Debug, Default)]
pub(in crate::dialect) struct Outcome {
    pub(in crate::dialect) broken: Vec<Arc<BreakGlass>>,
    pub(in crate::dialect) refused: Vec<Refused>,
    pub(in crate::dialect) diagnostics: Told,
}

/// Reads every document of the kind. One with an error opens nothing, whatever it said before.
pub(in crate::dialect) fn compile(documents: &[&Document], settings: &Settings) -> Outcome {
    let mut outcome = Outcome::default();
    for document in documents {
        let findings = Findings::of(document);
        let mut context = Context { findings, settings, namespace: None, mentions: Vec::new() };
        let read = (!document.broken).then(|| read(document, &mut context)).flatten();
        match read {
            Some(read) if !context.findings.has_errors() => outcome.broken.push(Arc::new(read)),
            _ => outcome.refused.push(Refused::harmless(document)),
        }
        outcome.diagnostics.extend(context.findings.into_diagnostics());
    }
    outcome
}

fn read(document: &Document, context: &mut Context<'_>) -> Option<BreakGlass> {
    let spec = metadata::spec(document, Scope::Cluster, &mut context.findings)?;
    let mut fields = Fields::of(spec, "`spec`", &mut context.findings)?;
    let subject = policy::subject(&mut fields, document, context);
    let reason = fields.required("reason", &mut context.findings);
    let reason = reason.and_then(|node| text(node, "`reason`", &mut context.findings));
    let begins = match fields.optional("begins", &mut context.findings) {
        Some(node) => timestamp(node, "`begins`", context),
        None if document.created.is_some() || fields.has("begins") => document.created,
        None => {
            let help = format!("write `begins: \"…\"`, at most {} hours before `expires`", BREAK_GLASS_MAX / 3600);
            context.findings.report_with(Code::MissingField, spec.span, "nobody knows when it begins", help);
            None
        }
    };
    let end = fields.required("expires", &mut context.findings);
    let expires = end.and_then(|node| timestamp(node, "`expires`", context));
    fields.finish(&mut context.findings);
    let (begins, expires) = (begins?, expires?);
    let created = document.created.unwrap_or(begins);
    if let Some(end) = end.filter(|_| !(1..=BREAK_GLASS_MAX).contains(&(expires - begins)) || begins < created) {
        let hours = BREAK_GLASS_MAX / 3600;
        let message = format!("it has to end within {hours} hours of its begin, and to begin when it is made or later");
        let help = "write an earlier `expires`; a longer emergency takes another document, which somebody decides on";
        context.findings.report_with(Code::OutOfRange, end.span, message, help);
    }
    let told = Code::BreakGlass;
    let message = format!("`{}` opens what policies close for its subject", name_of(document));
    context.findings.report_with(told, spec.span, message, "delete it as soon as the emergency is over");
    Some(BreakGlass {
        name: name_of(document),
        location: document.location.clone(),
        subject: subject?,
        reason: reason?.into(),
        begins,
        expires,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::facts::{Connection, Direction, Fact, Protocol, Request, Transport};
    use crate::model::BreakGlass;
    use crate::registry::Registry;
    use crate::verdict::{Action, Reason, Verdict};
    use crate::world::{ConnectionVerdict, World};
    use crate::{dialect, source};

    const POLICY: &str = "
apiVersion: eastwall.dev/v1alpha1
kind: ClusterFirewallPolicy
metadata: {name: closed}
spec: {tier: Baseline, subject: [{any: true}], directions: [Ingress, Egress]}
";
    const WORKLOADS: &str = "
- {name: orders, namespace: shop, serviceAccount: orders, ips: [10.0.0.2]}
- {name: web, namespace: shop, serviceAccount: web, ips: [10.0.0.3]}
";

    fn glass(spec: &str) -> String {
        format!("apiVersion: eastwall.dev/v1alpha1\nkind: BreakGlass\nmetadata: {{name: fire}}\nspec: {spec}\n")
    }

    fn compiled(spec: &str) -> dialect::Compiled {
        dialect::compile(&source::parse("p.yaml", &Arc::from(format!("{POLICY}---\n{}", glass(spec)))))
    }

    fn asked(world: &World, direction: Direction, now: i64) -> (ConnectionVerdict, Verdict) {
        let (from, to) = ("10.0.0.3".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let connection = Connection {
            source: world.source(from),
            destination: world.destination(to),
            port: 80,
            transport: Transport::Tcp,
            service: None,
            fqdn: None,
            direction: Some(direction),
        };
        let flow = world.flow(&connection);
        let request = Request::opaque(Fact::Known(Protocol::Tcp), now);
        (world.connection_verdict(&flow, now), world.request_verdict(&flow, &request))
    }

    #[test]
    fn its_workloads_pass_as_in_audit_until_it_ends() {
        let compiled = compiled(
            r#"{subject: [{serviceAccount: orders, namespace: shop}], reason: "INC-7", begins: "1970-01-01T00:00:10Z", expires: "1970-01-01T04:00:10Z"}"#,
        );
        assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
        let [held] = compiled.model.break_glass.as_slice() else { panic!() };
        let BreakGlass { reason, begins, expires, .. } = &**held;
        assert_eq!((&**reason, *begins, *expires), ("INC-7", 10, 4 * 3600 + 10));
        let (registry, _) = Registry::parse("w.yaml", &Arc::from(WORKLOADS));
        let world = World::new(Arc::clone(&compiled.model), Arc::new(registry), 1);
        for (now, opens) in [(9, false), (10, true), (4 * 3600 + 9, true), (4 * 3600 + 10, false)] {
            let (connection, verdict) = asked(&world, Direction::Inbound, now);
            let expected = if opens { (Action::Allow, Reason::BreakGlass) } else { (Action::Deny, Reason::NoRule) };
            assert_eq!((verdict.action, verdict.reason), expected, "at {now}");
            assert_eq!(matches!(connection, ConnectionVerdict::Opaque(_)), opens, "at {now}");
            if opens {
                let audit = verdict.audit.unwrap();
                assert_eq!((audit.action, audit.reason), (Action::Deny, Reason::NoRule));
            }
            // Of the other side its own policies decide.
            assert_eq!(asked(&world, Direction::Outbound, now).1.action, Action::Deny);
        }
        let without = World::new(
            super::super::super::compile(&source::parse("p.yaml", &Arc::from(POLICY))).model,
            Arc::clone(world.registry()),
            1,
        );
        assert_ne!(without.generation().hash, world.generation().hash);
    }

    #[test]
    fn the_side_that_it_does_not_open_still_decides() {
        let spec = r#"{subject: [{serviceAccount: orders, namespace: shop}], reason: x, begins: "1970-01-01T00:00:00Z", expires: "1970-01-01T01:00:00Z"}"#;
        let world = |policies: &str| {
            let compiled =
                dialect::compile(&source::parse("p.yaml", &Arc::from(format!("{policies}---\n{}", glass(spec)))));
            let (registry, _) = Registry::parse("w.yaml", &Arc::from(WORKLOADS));
            World::new(compiled.model, Arc::new(registry), 1)
        };
        let whole = |world: &World, from: &str| {
            let connection = Connection {
                source: world.source(from.parse().unwrap()),
                destination: world.destination("10.0.0.2".parse().unwrap()),
                port: 80,
                transport: Transport::Tcp,
                service: None,
                fqdn: None,
                direction: None,
            };
            let flow = world.flow(&connection);
            let verdict = world.request_verdict(&flow, &Request::opaque(Fact::Known(Protocol::Tcp), 0));
            (verdict.action, matches!(world.connection_verdict(&flow, 0), ConnectionVerdict::Opaque(_)))
        };
        let inbound = POLICY.replace(", Egress", "");
        assert_eq!(whole(&world(&inbound), "10.0.0.3"), (Action::Allow, true), "nobody closes the other side");
        assert_eq!(whole(&world(&inbound), "203.0.113.7"), (Action::Allow, true), "a stranger has none");
        assert_eq!(whole(&world(POLICY), "10.0.0.3"), (Action::Deny, false), "the sender's policies go on");
        assert_eq!(whole(&world(POLICY), "10.0.0.2"), (Action::Allow, true), "both sides are its own");
    }

    #[test]
    fn one_that_is_wrong_opens_nothing() {
        let cases = [
            (r#"{subject: [{any: true}], begins: "1970-01-01T00:00:00Z", expires: "1970-01-01T01:00:00Z"}"#, "reason"),
            (r#"{subject: [{any: true}], reason: x, expires: "1970-01-01T01:00:00Z"}"#, "begins"),
            (r#"{subject: [{any: true}], reason: x, begins: "1970-01-01T00:00:00Z"}"#, "expires"),
            (r#"{reason: x, begins: "1970-01-01T00:00:00Z", expires: "1970-01-01T01:00:00Z"}"#, "subject"),
            (
                r#"{subject: [{any: true}], reason: x, begins: "1970-01-01T00:00:00Z", expires: "1970-01-01T04:00:01Z"}"#,
                "within 4 hours",
            ),
            (
                r#"{subject: [{any: true}], reason: x, begins: "1970-01-01T01:00:00Z", expires: "1970-01-01T01:00:00Z"}"#,
                "within 4 hours",
            ),
            (
                r#"{subject: [{any: true}], reason: "", begins: "1970-01-01T00:00:00Z", expires: "1970-01-01T01:00:00Z"}"#,
                "reason",
            ),
        ];
        for (spec, said) in cases {
            let compiled = compiled(spec);
            assert!(compiled.model.break_glass.is_empty(), "{spec}");
            let errors: Vec<_> = compiled.diagnostics.iter().filter(|one| one.is_error()).collect();
            assert!(errors.iter().any(|one| one.message.contains(said)), "{spec}: {errors:?}");
            assert_eq!(compiled.model.policies.len(), 1, "another document is not touched");
        }
    }

    #[test]
    fn two_of_one_name_open_nothing() {
        let spec =
            r#"{subject: [{any: true}], reason: x, begins: "1970-01-01T00:00:00Z", expires: "1970-01-01T01:00:00Z"}"#;
        let text = format!("{}---\n{}", glass(spec), glass(spec));
        let compiled = dialect::compile(&source::parse("p.yaml", &Arc::from(text)));
        assert!(compiled.has_errors() && compiled.model.break_glass.is_empty());
    }
}
