//! One item of `jwtRules`, read strictly; what Eastwall makes no use of is validated all the same.
//!
//! SPEC: without `fromHeaders`, `fromParams` and `fromCookies` a token stands behind `Bearer` in `Authorization`, or in the
//! parameter `access_token`.

use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::{Code, Location};
use crate::model::{JwtRule, KeysFrom, TokenPlace, token};
use crate::source::{Fields, Findings, Node, Value, fields};

/// What of a rule has a meaning here.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) location: Location,
    pub(super) accepts: Arc<JwtRule>,
    pub(super) space_delimited: Vec<Arc<str>>,
    /// A request without a token is refused.
    pub(super) required: bool,
}

const PRESENCE: [(&str, bool); 2] = [("OPTIONAL", false), ("REQUIRED", true)];

pub(super) fn read(node: &Node, findings: &mut Findings) -> Option<Item> {
    let mut rule = Fields::of(node, "an item of `jwtRules`", findings)?;
    let issuer =
        super::optional(&mut rule, "issuer", findings).and_then(|node| fields::text(node, "`issuer`", findings));
    let keys: Vec<(&str, &Node)> = ["jwksUri", "jwks_uri", "jwks"]
        .into_iter()
        .filter_map(|name| Some((name, super::optional(&mut rule, name, findings)?)))
        .collect();
    if let [_, (_, second), ..] = keys.as_slice() {
        findings.report_with(
            Code::Conflict,
            second.span,
            "`jwks` and `jwksUri` exclude each other",
            "keep one of them",
        );
    }
    for (name, node) in &keys {
        match *name {
            "jwks" => key_set(node, findings),
            _ => key_address(node, findings),
        }
    }
    if issuer.is_none() && !keys.iter().any(|(name, _)| *name != "jwks") {
        let help = "without an issuer nobody knows where its keys are";
        findings.report_with(Code::MissingField, rule.span(), "a rule needs an `issuer` or a `jwksUri`", help);
    }
    let audiences = strings(&mut rule, "audiences", findings);
    let mut places = Vec::new();
    let mut told_in: Vec<Arc<str>> = Vec::new();
    places.extend(strings(&mut rule, "fromParams", findings).into_iter().map(TokenPlace::Parameter));
    places.extend(strings(&mut rule, "fromCookies", findings).into_iter().map(TokenPlace::Cookie));
    for item in items(&mut rule, "fromHeaders", findings) {
        let Some(mut header) = Fields::of(item, "an item of `fromHeaders`", findings) else { continue };
        let name = header.required("name", findings).and_then(|node| fields::text(node, "`name`", findings));
        let prefix = super::optional(&mut header, "prefix", findings).filter(|node| node.text() != Some(""));
        let prefix = prefix.and_then(|node| fields::text(node, "`prefix`", findings)).unwrap_or_default();
        if let Some(name) = name {
            places.push(TokenPlace::Header { name: name.to_ascii_lowercase().into(), prefix: prefix.into() });
        }
        header.finish(findings);
    }
    for item in items(&mut rule, "outputClaimToHeaders", findings) {
        let Some(mut copy) = Fields::of(item, "an item of `outputClaimToHeaders`", findings) else { continue };
        copy.required("claim", findings).and_then(|node| fields::text(node, "`claim`", findings));
        if let Some(node) = copy.required("header", findings)
            && let Some(name) = fields::text(node, "`header`", findings)
        {
            told_in.push(name.to_ascii_lowercase().into());
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
                let help = "a name has letters, digits, `-` and `_`";
                findings.report_with(Code::BadValue, node.span, format!("`{name}` is no header name"), help);
            }
        }
        copy.finish(findings);
    }
    if let Some(node) =
        super::optional(&mut rule, "outputPayloadToHeader", findings).filter(|node| node.text() != Some(""))
    {
        let name = fields::text(node, "`outputPayloadToHeader`", findings);
        told_in.extend(name.map(|name| Arc::from(name.to_ascii_lowercase())));
    }
    if let Some(node) = super::optional(&mut rule, "forwardOriginalToken", findings)
        && fields::boolean(node, "`forwardOriginalToken`", findings) == Some(false)
    {
        let message = "the token is passed on to the workload: Eastwall takes no header away";
        let help = "let the workload drop it, or write `true`";
        findings.report_with(Code::NotEnforced, node.span, message, help);
    }
    if !told_in.is_empty() {
        let field = if rule.has("outputPayloadToHeader") { "outputPayloadToHeader" } else { "outputClaimToHeaders" };
        let message =
            "the workload is told nothing: Eastwall writes no header, and refuses requests that have this one";
        let help = "let the workload read the token, which is passed on to it";
        findings.report_with(Code::NotEnforced, rule.key_span(field), message, help);
    }
    if let Some(node) = super::optional(&mut rule, "timeout", findings) {
        timeout(node, findings);
    }
    let space_delimited = strings(&mut rule, "spaceDelimitedClaims", findings);
    if space_delimited.len() > MAX_SPACE_DELIMITED {
        let message = format!("{} claims, where Istio takes at most {MAX_SPACE_DELIMITED}", space_delimited.len());
        findings.report(Code::OutOfRange, rule.key_span("spaceDelimitedClaims"), message);
    }
    let presence = super::optional(&mut rule, "presence", findings);
    let required = presence.and_then(|node| fields::word(node, "`presence`", &PRESENCE, findings)).unwrap_or(false);
    rule.finish(findings);
    let location = findings.location(node.span);
    let issuer: Option<Arc<str>> = issuer.map(Arc::from);
    let written = |name: &str| keys.iter().find(|(key, _)| (*key == "jwks") == (name == "jwks"));
    let text = |name| written(name).and_then(|(_, node)| node.text()).filter(|text| !text.is_empty());
    let keys = match (text("jwks"), text("jwksUri"), &issuer) {
        (Some(text), ..) => KeysFrom::Text(text.into()),
        (None, Some(address), _) => KeysFrom::Address(address.into()),
        (None, None, issuer) => KeysFrom::Issuer(issuer.clone().unwrap_or_default()),
    };
    if places.is_empty() {
        let authorization = TokenPlace::Header { name: token::AUTHORIZATION.into(), prefix: "Bearer ".into() };
        places = vec![authorization, TokenPlace::Parameter("access_token".into())];
    }
    let accepts = Arc::new(JwtRule { issuer, audiences, keys, places, told_in });
    Some(Item { location, accepts, space_delimited, required })
}

/// The items of a list; SPEC: an empty one is none.
fn items<'n>(rule: &mut Fields<'n>, name: &'static str, findings: &mut Findings) -> &'n [Node] {
    match super::optional(rule, name, findings) {
        Some(Node { value: Value::List(items), .. }) => items,
        Some(node) => fields::list(node, &format!("`{name}`"), findings).unwrap_or_default(),
        None => &[],
    }
}

fn strings(rule: &mut Fields<'_>, name: &'static str, findings: &mut Findings) -> Vec<Arc<str>> {
    let what = format!("an item of `{name}`");
    let items = items(rule, name, findings);
    items.iter().filter_map(|item| fields::text(item, &what, findings).map(Arc::from)).collect()
}

fn key_address(node: &Node, findings: &mut Findings) {
    let Some(address) = fields::text(node, "`jwksUri`", findings) else { return };
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let printable = address.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if host.is_empty() || !printable {
        let help = "write a URL such as `https://sso.example.com/keys`";
        findings.report_with(Code::BadValue, node.span, format!("`{address}` is no `http` or `https` URL"), help);
    }
}

/// A set of keys, or one key.
fn key_set(node: &Node, findings: &mut Findings) {
    if node.text() == Some("") {
        return;
    }
    let Some(text) = fields::text(node, "`jwks`", findings) else { return };
    let value: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let keys = match value.as_ref().and_then(|value| value.get("keys")) {
        Some(keys) => keys.as_array().map(Vec::as_slice),
        None => value.as_ref().map(std::slice::from_ref),
    };
    let Some(keys) =
        keys.filter(|keys| keys.iter().all(|key| key.get("kty").is_some_and(serde_json::Value::is_string)))
    else {
        let help = "write a JSON object with a list `keys`, each with its `kty`";
        findings.report_with(Code::BadValue, node.span, "`jwks` is no set of keys", help);
        return;
    };
    if keys.iter().any(|key| key.get("d").is_some() || key.get("kty").is_some_and(|kty| kty == "oct")) {
        let help = "only public keys are needed: remove it, and make a new key";
        findings.report_with(Code::Suspicious, node.span, "`jwks` holds a private key", help);
    }
}

fn timeout(node: &Node, findings: &mut Findings) {
    let Some(written) = fields::text(node, "`timeout`", findings) else { return };
    if duration(written).is_none_or(|timeout| timeout < Duration::from_millis(1)) {
        let help = "write a time such as `5s`, at least `1ms`";
        findings.report_with(Code::BadValue, node.span, format!("`{written}` is no timeout"), help);
    }
}

/// A duration as Go writes it: numbers, each with its unit.
fn duration(written: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = written;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, tail) = rest.split_at_checked(number)?;
        let length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(length)?;
        let unit = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(Duration::try_from_secs_f64(value.parse::<f64>().ok()? * unit).ok()?)?;
        rest = tail;
    }
    (!written.is_empty()).then_some(total)
}

const UNITS: [(&str, f64); 6] = [("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)];

/// Istio's cap on `spaceDelimitedClaims`.
const MAX_SPACE_DELIMITED: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (written, expected) in [
            ("5s", Some(5_000)),
            ("1.5s", Some(1_500)),
            ("1m2s", Some(62_000)),
            ("250ms", Some(250)),
            ("apple", None),
            ("5", None),
            ("", None),
            ("-1s", None),
            ("1..2s", None),
            ("9999999999999999999999h", None),
        ] {
            assert_eq!(duration(written), expected.map(Duration::from_millis), "{written}");
        }
    }
}
