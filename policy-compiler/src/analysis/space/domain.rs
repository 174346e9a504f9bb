//! Which values a part of a request can have at all: canonical paths, host names, header lines.

use std::collections::BTreeMap;

use super::Undecided;
use super::element::{Element, Lift};
use super::machine::Machine;
use super::variable::{Name, Question, Value, values};
use crate::canonical::{self, Options, octet};
use crate::model::{HttpOption, Pattern};

/// Automata of values, each built once: that of canonical paths takes longer than most comparisons.
#[derive(Debug, Default)]
pub(super) struct Domains(BTreeMap<String, Machine>);

impl Domains {
    fn machine(&mut self, expression: String) -> Result<Machine, Undecided> {
        if let Some(known) = self.0.get(&expression) {
            return Ok(known.clone());
        }
        let machine = Machine::expression(&format!("^(?:{expression})$")).map_err(|()| Undecided::Budget)?;
        self.0.insert(expression, machine.clone());
        Ok(machine)
    }
}

/// The automaton of the values of a part, in written form, and whether there can be several. `None`: only the values of
/// [`beside`].
///
/// # Errors
/// An automaton that is too large.
pub(super) fn of(
    name: &Name,
    options: Options,
    with_query: bool,
    domains: &mut Domains,
) -> Result<Option<(Element, bool)>, Undecided> {
    let (expression, list) = match name {
        Name::Target => (path(options, with_query), false),
        Name::Method => (format!("{TOKEN}{{1,64}}"), false),
        Name::Authority => (format!("{HOST}(?:{PORT})?"), false),
        Name::Header(name) if is_never_seen(name, options) => return Ok(None),
        Name::Header(_) => (LINE.to_owned(), true),
        Name::Query(_) => ("(?s-u:.)*".to_owned(), true),
        // JSON text is UTF-8.
        Name::Claim(_) => (UTF8.to_owned(), true),
        Name::Subject => (format!("{UTF8}/{UTF8}"), false),
        Name::Upgrade => (format!("{LOWER_TOKEN}+(?:/{LOWER_TOKEN}+)*"), false),
        Name::Sni => (HOST.to_owned(), false),
        Name::Alpn => ("(?s-u:.)+".to_owned(), false),
        Name::Qname => ("(?:[!-@\\[-~]*[!-\\-/-@\\[-~])".to_owned(), false),
        Name::RemoteIp | Name::Protocol => return Ok(None),
    };
    let machine = domains.machine(expression)?;
    let lift = if list { Lift::EveryValue } else { Lift::Whole };
    Ok(Some((Element::new(lift, vec![machine]), list)))
}

/// Values beside those of the automaton.
pub(super) fn beside(name: &Name, questions: &[Question]) -> Vec<Vec<u8>> {
    match name {
        // SPEC: `OPTIONS *` has the known path `*`.
        Name::Target => vec![b"*".to_vec()],
        // Address literals are hosts as well: those that rules name, and one that none names.
        Name::Authority => {
            let named = questions.iter().flat_map(|question| &question.patterns).filter_map(|pattern| match pattern {
                Pattern::Exact(bytes) | Pattern::ExactIgnoreCase(bytes) if bytes.starts_with(b"[") => {
                    let mut canonical = Vec::new();
                    let port = canonical::authority(bytes, &mut canonical).ok()?;
                    port.is_none().then_some(canonical)
                }
                _ => None,
            });
            named.chain([b"[2001:db8::7]".to_vec()]).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a request without the part is possible.
pub(super) fn may_be_absent(name: &Name) -> bool {
    !matches!(name, Name::Target | Name::Method | Name::Qname | Name::RemoteIp | Name::Protocol)
}

/// Whether a value passes canonicalisation as it is; the automata admit a few that do not.
pub(super) fn is_sendable(name: &Name, value: &Value) -> bool {
    let Value::Written(written) = value else { return true };
    match (name, values(written).as_slice()) {
        // `h2c` and its like are never passed on.
        (Name::Upgrade, [asked]) => {
            let first = asked.split(|byte| *byte == b'/').next().unwrap_or_default();
            !matches!(octet::trim(first), b"h2c" | b"h2" | b"http")
        }
        _ => true,
    }
}

/// Headers that no rule ever sees in a request that is let through: the proxy's own, and override channels.
fn is_never_seen(name: &str, options: Options) -> bool {
    canonical::is_reserved(name.as_bytes())
        || (options.method_override == HttpOption::Reject && canonical::is_override(name.as_bytes()))
}

/// Canonical paths under these options, with `?` and a query where one is asked about.
fn path(options: Options, with_query: bool) -> String {
    let keeps = |option: HttpOption| option == HttpOption::Keep;
    let mut octets = r##"!"$&'()*+,\-0-9:<=>@A-Z\[\]^_`a-z{|}~"##.to_owned();
    let mut escapes = ESCAPES.to_owned();
    if keeps(options.escaped_slash) {
        escapes.push_str("|2F");
    }
    if keeps(options.backslash) {
        octets.push_str(r"\\");
        escapes.push_str("|5C");
    }
    if keeps(options.path_parameters) {
        octets.push(';');
    }
    let other = format!("(?:[{octets}]|%(?:{escapes}))");
    let any = format!(r"(?:\.|{other})");
    // A segment that is neither `.` nor `..`.
    let segment = format!(r"(?:{other}{any}*|\.{other}{any}*|\.\.{any}+)");
    let empty = if options.merge_slashes == HttpOption::Reject { "" } else { "?" };
    let query = if with_query { r"(?:\?(?:[!-$&-~&&[^#]]|%[0-9A-Fa-f]{2})*)?" } else { "" };
    format!("/(?:{segment}{empty}/)*{segment}?{query}")
}

const TOKEN: &str = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]";
const LOWER_TOKEN: &str = "[!#$%&'*+\\-.^_`|~0-9a-z]";
const HOST: &str = r"[a-z0-9_\-]+(?:\.[a-z0-9_\-]+)*";
const PORT: &str = ":(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
/// A field value, trimmed.
const LINE: &str = r"(?:[!-~\x80-\xFF](?:[\t -~\x80-\xFF]*[!-~\x80-\xFF])?)?";
const UTF8: &str = r"(?:(?u)(?s).*)";
/// Escapes that a canonical path keeps: of printable octets that are not unreserved and no delimiter some take for `/`.
const ESCAPES: &str = "20|21|22|23|24|25|26|27|28|29|2A|2B|2C|3A|3C|3D|3E|3F|40|5B|5D|5E|60|7B|7C|7D";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(element: &mut Element, value: &[u8]) -> bool {
        let start = element.start();
        let end = value.iter().fold(start, |state, byte| element.step(state, u16::from(*byte)));
        element.is_true(end)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn paths_are_those_that_are_their_own_canonical_form(
            path in "/[a./%25C2FE;\\\\~#?é\\x00 ]{0,7}",
            keep in prop::collection::vec(any::<bool>(), 4),
        ) {
            let option = |at: usize| if keep[at] { HttpOption::Keep } else { HttpOption::Reject };
            let options = Options {
                escaped_slash: option(0),
                backslash: option(1),
                path_parameters: option(2),
                merge_slashes: option(3),
                ..Options::default()
            };
            let mut canonical = Vec::new();
            let is_canonical = canonical::path(path.as_bytes(), options, &mut canonical).is_ok()
                && canonical == path.as_bytes();
            let (mut domain, _) = of(&Name::Target, options, false, &mut Domains::default()).unwrap().unwrap();
            let accepted = accepts(&mut domain, path.as_bytes());
            // Some paths that hide dot segments behind kept delimiters are in the automaton, and refused later.
            prop_assert!(accepted || !is_canonical, "{:?}", path);
            if keep.iter().all(|keep| !keep) {
                prop_assert_eq!(accepted, is_canonical, "{:?}", path);
            }
        }

        #[test]
        fn hosts_are_those_that_are_their_own_canonical_form(host in "[a-cA.\\-_:0-9]{0,8}") {
            let mut canonical = Vec::new();
            let port = canonical::authority(host.as_bytes(), &mut canonical);
            if let Ok(Some(port)) = &port {
                canonical.extend_from_slice(format!(":{port}").as_bytes());
            }
            let (mut domain, _) = of(&Name::Authority, Options::default(), false, &mut Domains::default()).unwrap().unwrap();
            prop_assert_eq!(accepts(&mut domain, host.as_bytes()), port.is_ok() && canonical == host.as_bytes(), "{:?}", host);
        }
    }
}
