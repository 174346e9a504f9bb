//! `icmps`: read and checked, and then nobody's business: Eastwall judges TCP, UDP and SCTP.

use super::context::Context;
use super::members::{Members, items};
use crate::diagnostic::Code;
use crate::source::{Node, Value, fields};

/// Reads the list. A rule with it matches none of the traffic that Eastwall judges.
pub(super) fn read(node: &Node, context: &mut Context<'_>) {
    let Some(list) = items(node, "icmps", context.findings) else { return };
    for item in list {
        let Some(mut members) = Members::of(item, "an item of `icmps`", context.findings) else { continue };
        let found = members.list("fields", context.findings).unwrap_or_default();
        members.finish(context.findings);
        if found.len() > MOST {
            let message = format!("{} types, where Cilium takes at most {MOST}", found.len());
            context.findings.report_with(Code::OutOfRange, item.span, message, "split the rule");
        }
        found.iter().for_each(|field| member(field, context));
    }
    context.findings.report_with(
        Code::NotEnforced,
        node.span,
        "ICMP is not judged by Eastwall: this rule matches nothing here",
        "leave it to Cilium; echo and errors pass in every case",
    );
}

fn member(node: &Node, context: &mut Context<'_>) {
    let Some(mut members) = Members::of(node, "an item of `fields`", context.findings) else { return };
    let kind = members.require("type", context.findings);
    let family = members.find("family");
    members.finish(context.findings);
    if let Some(family) = family {
        fields::word(family, "`family`", &[("IPv4", ()), ("IPv6", ())], context.findings);
    }
    match kind {
        Some(kind) if matches!(kind.value, Value::Number(_)) => {
            fields::integer(kind, "`type`", 0..=255, context.findings);
        }
        Some(kind) => {
            let name = fields::text(kind, "`type`", context.findings);
            let fits = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if name.is_some_and(|name| !fits(name)) {
                let help = "write a number from 0 to 255, or a name such as `EchoRequest`";
                context.findings.report_with(Code::BadValue, kind.span, "`type` is no type of ICMP", help);
            }
        }
        None => {}
    }
}

/// Cilium's cap on the types of one list.
const MOST: usize = 40;
