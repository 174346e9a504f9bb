//! The default inbound policy: what holds for a port that no `Server` selects.
//!
//! SPEC: a pod's annotation comes before its namespace's, and that before the cluster's setting.

use std::sync::Arc;

use super::authentication::{of_cluster, proven};
use super::server::{Server, loopback, probe, tcp};
use crate::diagnostic::{Code, Diagnostic, Location};
use crate::facts::Direction;
use crate::model::{
    Atom, Directions, Effect, Expr, Mode, PeerAtom, Policy, PolicyName, PortAtom, Rule, Selector, SelectorOperator,
    SelectorRequirement, Stack, Tier,
};
use crate::settings::{LinkerdAccess, Settings};

/// Who may reach a port by one of Linkerd's words for that; `None` where nobody may.
pub(super) fn access(access: LinkerdAccess, settings: &Settings) -> Option<Expr> {
    match access {
        LinkerdAccess::AllUnauthenticated | LinkerdAccess::Audit => Some(Expr::True),
        LinkerdAccess::ClusterUnauthenticated => Some(of_cluster(settings)),
        LinkerdAccess::AllAuthenticated => Some(proven()),
        LinkerdAccess::ClusterAuthenticated => Some(Expr::all([of_cluster(settings), proven()])),
        LinkerdAccess::Deny => None,
    }
}

/// Asked after every `Server`: the default policy, and that ports without one are nobody's business elsewhere.
pub(super) fn policies(servers: &[Server], settings: &Settings) -> Vec<Policy> {
    let mut found = vec![default_policy(settings)];
    // Nothing but annotations is there to say that a workload belongs to a mesh.
    if !settings.linkerd.is_written && !servers.is_empty() {
        let selected = Expr::any(servers.iter().map(|server| server.subject.clone()));
        found.push(policy(
            "ports-without-a-server",
            2,
            selected,
            Directions::default(),
            vec![allow("open", Expr::True)],
        ));
    }
    found.retain(|policy| policy.subject != Expr::False);
    found
}

/// That ports without a `Server` are not judged.
pub(super) fn not_written(server: &Server) -> Diagnostic {
    let message = "ports that no Server selects are not judged: the default inbound policy is not known";
    Diagnostic::new(Code::NotEnforced, server.location.clone(), message).help(
        "write it as `linkerd: {defaultInboundPolicy: …}` in DialectSettings, or as an annotation of the namespace",
    )
}

fn default_policy(settings: &Settings) -> Policy {
    let annotated = |key: &str, operator, values: Vec<Arc<str>>| {
        let requirements = vec![SelectorRequirement { key: key.into(), operator, values }];
        Expr::Is(Atom::Subject(PeerAtom::Annotations(Selector { requirements })))
    };
    let is_there = |key| annotated(key, SelectorOperator::Exists, Vec::new());
    let subject = match settings.linkerd.is_written {
        true => Expr::True,
        false => Expr::any([is_there(ACCESS), is_there(IDENTITY)]),
    };
    let words = LinkerdAccess::WORDS.map(|(word, _)| Arc::from(word)).to_vec();
    let mut rules = vec![
        allow("not-tcp", !tcp()),
        allow("loopback", loopback()),
        allow("probe", Expr::all([tcp(), probe(settings)])),
        Rule {
            effect: Effect::Deny,
            ..allow(
                "proxy-require-identity-inbound-ports",
                Expr::all([Expr::Is(Atom::Port(PortAtom::Annotated(IDENTITY.into()))), !proven()]),
            )
        },
    ];
    for (word, given) in LinkerdAccess::WORDS {
        let named = annotated(ACCESS, SelectorOperator::In, vec![word.into()]);
        // What is no word of Linkerd's is taken for none.
        let otherwise = !annotated(ACCESS, SelectorOperator::In, words.clone());
        let is_default = settings.linkerd.is_written && settings.linkerd.default_inbound_policy == given;
        let holds = if is_default { Expr::any([named, otherwise]) } else { named };
        if let Some(condition) = access(given, settings) {
            rules.push(allow(word, Expr::all([holds, condition])));
        }
    }
    if !settings.linkerd.is_written {
        let open = !annotated(ACCESS, SelectorOperator::In, words);
        rules.push(allow("no-default", open));
    }
    rules.push(Rule { effect: Effect::Deny, ..allow("unauthorized", Expr::True) });
    let open =
        matches!(settings.linkerd.default_inbound_policy, LinkerdAccess::AllUnauthenticated | LinkerdAccess::Audit);
    let closes = Directions { inbound: settings.linkerd.is_written && !open, outbound: false };
    policy("default-inbound-policy", 1, subject, closes, rules)
}

fn policy(name: &str, priority: u32, subject: Expr, closes: Directions, rules: Vec<Rule>) -> Policy {
    Policy {
        name: PolicyName { kind: "Linkerd".into(), namespace: "".into(), name: name.into() },
        location: location(),
        stack: Stack::Linkerd,
        tier: Tier::Application,
        priority,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject,
        closes,
        rules,
        http_options: Vec::new(),
        broken: false,
    }
}

fn allow(name: &str, condition: Expr) -> Rule {
    Rule {
        name: name.into(),
        location: location(),
        direction: Direction::Inbound,
        effect: Effect::Allow,
        condition,
        expires: None,
    }
}

/// It stands in no document.
fn location() -> Location {
    Location { file: "linkerd-default-inbound-policy".into(), line: 1, column: 1 }
}

const ACCESS: &str = "config.linkerd.io/default-inbound-policy";
const IDENTITY: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
