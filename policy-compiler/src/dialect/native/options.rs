//! `httpOptions`: canonicalisation opt-ins on ports of the subject.

use super::context::Context;
use super::port;
use crate::diagnostic::Code;
use crate::model::{HttpOption, HttpOptions};
use crate::source::fields::{list, word};
use crate::source::{Fields, Node};

/// Reads the list.
pub(super) fn list_of(node: &Node, context: &mut Context<'_>) -> Vec<HttpOptions> {
    let items = list(node, "`httpOptions`", &mut context.findings).unwrap_or_default();
    items.iter().filter_map(|item| options(item, context)).collect()
}

fn options(node: &Node, context: &mut Context<'_>) -> Option<HttpOptions> {
    use HttpOption::{Decode, Keep, Reject};
    const REJECT_KEEP_DECODE: &[(&str, HttpOption)] = &[("Reject", Reject), ("Keep", Keep), ("Decode", Decode)];
    const REJECT_KEEP: &[(&str, HttpOption)] = &[("Reject", Reject), ("Keep", Keep)];
    const MERGE_KEEP: &[(&str, HttpOption)] = &[("Merge", Reject), ("Keep", Keep)];
    let mut fields = Fields::of(node, "an item of `httpOptions`", &mut context.findings)?;
    let ports = fields.required("ports", &mut context.findings).and_then(|node| port::list_of(node, context));
    let mut option = |name: &'static str, words: &[(&'static str, HttpOption)]| {
        let node = fields.optional(name, &mut context.findings)?;
        word(node, &format!("`{name}`"), words, &mut context.findings)
    };
    let escaped_slash = option("escapedSlash", REJECT_KEEP_DECODE);
    let backslash = option("backslash", REJECT_KEEP_DECODE);
    let path_parameters = option("pathParameters", REJECT_KEEP);
    let merge_slashes = option("mergeSlashes", MERGE_KEEP);
    let method_override = option("methodOverride", REJECT_KEEP);
    let underscore_headers = option("underscoreHeaders", REJECT_KEEP);
    let says_something = OPTIONS.iter().any(|option| fields.has(option));
    let span = fields.span();
    let before = context.findings.errors();
    fields.finish(&mut context.findings);
    if !says_something && context.findings.errors() == before {
        let help = "add `escapedSlash`, `backslash`, `pathParameters`, `mergeSlashes`, `methodOverride` or `underscoreHeaders`";
        context.findings.report_with(Code::MissingField, span, "an item of `httpOptions` opts into nothing", help);
    }
    Some(HttpOptions {
        ports: ports?,
        escaped_slash,
        backslash,
        path_parameters,
        merge_slashes,
        method_override,
        underscore_headers,
    })
}

const OPTIONS: &[&str] =
    &["escapedSlash", "backslash", "pathParameters", "mergeSlashes", "methodOverride", "underscoreHeaders"];
