//! The independent parts of a request, each with the finitely many classes of values that rules can tell apart.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::addresses::Cells;
use super::diagram::Set;
use super::domain::{self, Domains};
use super::element::{Element, Lift};
use super::machine::Machine;
use super::product::{self, Class};
use super::residue::{Ask, PROTOCOLS, Residues};
use super::{Budget, Undecided};
use crate::canonical::Options;
use crate::facts::{Protocol, Transport};
use crate::model::interpret::pattern;
use crate::model::{Atom, Each, Pattern, Text};

/// One independent part of a request. The order is that of the decision diagrams, and of what is printed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Name {
    /// The path, and the query where a rule asks about both as one.
    Target,
    Method,
    /// Host, and the port behind it.
    Authority,
    Header(Arc<str>),
    Query(Arc<str>),
    Claim(Vec<Arc<str>>),
    /// `iss` and `sub` of the token as one.
    Subject,
    Upgrade,
    Sni,
    Alpn,
    Qname,
    RemoteIp,
    Protocol,
}

/// The value of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Absent,
    /// A claim that is there and says nothing that a pattern could match.
    Nothing,
    Written(Vec<u16>),
    Address(IpAddr),
    Protocol(Protocol),
}

/// A part of the request with its classes.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: Name,
    /// What rules ask about it, by the number that classes name.
    pub(super) questions: Vec<Question>,
    pub(super) classes: Vec<(Box<[u32]>, Value)>,
    asks: BTreeMap<Ask, Vec<u32>>,
    presence: Vec<Ask>,
}

/// One thing that a class can be.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) lift: Lift,
    pub(super) of: Text,
    pub(super) patterns: Vec<Pattern>,
    /// Asked by a rule; else told apart for the sake of what requests are valid.
    pub(super) by_rule: bool,
}

/// Which part of the request a question is about.
pub(super) fn name_of(atom: &Atom) -> Option<Name> {
    let of = match atom {
        Atom::Text { of, .. } | Atom::Present(of) => of,
        Atom::RemoteIp(_) => return Some(Name::RemoteIp),
        _ => return None,
    };
    Some(match of {
        Text::Method => Name::Method,
        Text::Path | Text::PathEitherSlash | Text::PathAndQuery => Name::Target,
        Text::Host | Text::Authority => Name::Authority,
        Text::Header(name) => Name::Header(Arc::clone(name)),
        Text::Query(name) => Name::Query(Arc::clone(name)),
        Text::Upgrade => Name::Upgrade,
        Text::Sni => Name::Sni,
        Text::Alpn => Name::Alpn,
        Text::Claim(path) | Text::StringClaim(path) | Text::SpacedClaim(path) => Name::Claim(path.clone()),
        Text::RequestPrincipal => Name::Subject,
        Text::Qname => Name::Qname,
        Text::PeerPrincipal => return None,
    })
}

impl Variable {
    /// The protocols that a transport carries.
    pub(super) fn protocols(transport: Transport) -> Self {
        let classes = PROTOCOLS
            .into_iter()
            // DNS runs over two transports.
            .filter(|protocol| {
                protocol.transport() == transport || (*protocol == Protocol::Dns && transport == Transport::Tcp)
            })
            .map(|protocol| (Box::default(), Value::Protocol(protocol)))
            .collect();
        Self::new(Name::Protocol, Vec::new(), classes)
    }

    /// The classes of the values that these questions can tell apart.
    ///
    /// # Errors
    /// The budget is used up, or an expression is too large.
    pub(super) fn of(
        name: Name,
        asks: &[Ask],
        residues: &Residues,
        options: Options,
        domains: &mut Domains,
        budget: &mut Budget,
    ) -> Result<Self, Undecided> {
        let atoms = || asks.iter().filter_map(|ask| Some((*ask, residues.question(*ask)?)));
        if name == Name::RemoteIp {
            return Ok(Self::addresses(atoms()));
        }
        let mut builder = Builder::default();
        let mut held = BTreeMap::new();
        let mut presence = Vec::new();
        let mut with_query = false;
        for (ask, atom) in atoms() {
            match atom {
                Atom::Text { of, each, is } => {
                    with_query |= *of == Text::PathAndQuery;
                    held.insert(ask, builder.ask(of, *each, is)?);
                }
                _ => presence.push(ask),
            }
        }
        for text in told_apart(&name) {
            builder.question(Lift::Whole, text_of(&name), vec![Pattern::Exact(text.as_bytes().into())], false)?;
        }
        if matches!(&name, Name::Header(header) if &**header == "content-type") {
            builder.grpc_types()?;
        }
        let mut classes = Vec::new();
        if let Some((mut domain, list)) = domain::of(&name, options, with_query, domains)? {
            let found = product::classes(&mut domain, &mut builder.elements, list, budget)?;
            classes = found.into_iter().map(|Class { holds, value }| (holds, Value::Written(value))).collect();
        }
        for value in domain::beside(&name, &builder.questions) {
            let holds = builder.holds(&value);
            if !classes.iter().any(|(_, held)| *held == Value::Written(written(&value))) {
                classes.push((holds, Value::Written(written(&value))));
            }
        }
        classes.retain(|(_, value)| domain::is_sendable(&name, value));
        if domain::may_be_absent(&name) {
            classes.insert(0, (Box::default(), Value::Absent));
        }
        if matches!(name, Name::Claim(_)) {
            classes.push((Box::default(), Value::Nothing));
        }
        let mut variable = Self::new(name, builder.questions, classes);
        variable.asks = held;
        variable.presence = presence;
        Ok(variable)
    }

    fn new(name: Name, questions: Vec<Question>, classes: Vec<(Box<[u32]>, Value)>) -> Self {
        Self { name, questions, classes, asks: BTreeMap::new(), presence: Vec::new() }
    }

    /// One address for each cell that the networks cut the address space into.
    fn addresses<'a>(atoms: impl Iterator<Item = (Ask, &'a Atom)>) -> Self {
        let nets: Vec<_> = atoms
            .filter_map(|(ask, atom)| match atom {
                Atom::RemoteIp(net) => Some((ask, *net)),
                _ => None,
            })
            .collect();
        let cells = Cells::of(nets.iter().map(|(_, net)| *net), |_| false);
        let classes = cells
            .into_iter()
            .map(|address| {
                let holds = (0u32..).zip(&nets).filter(|(_, (_, net))| net.contains(&address)).map(|(at, _)| at);
                (holds.collect(), Value::Address(address))
            })
            .collect();
        let mut variable = Self::new(Name::RemoteIp, Vec::new(), classes);
        variable.asks = (0u32..).zip(&nets).map(|(at, (ask, _))| (*ask, vec![at])).collect();
        variable
    }

    pub(super) fn size(&self) -> usize {
        self.classes.len()
    }

    /// The classes of which the answer is yes.
    pub(super) fn yes(&self, ask: Ask) -> Set {
        if self.presence.contains(&ask) {
            return self.select(|_, value| *value != Value::Absent);
        }
        let asked = self.asks.get(&ask).map(Vec::as_slice).unwrap_or_default();
        self.select(|holds, _| asked.iter().any(|question| holds.binary_search(question).is_ok()))
    }

    pub(super) fn select(&self, is: impl Fn(&[u32], &Value) -> bool) -> Set {
        let members = self.classes.iter().enumerate().filter(|(_, (holds, value))| is(holds, value));
        Set::of(self.size(), members.map(|(at, _)| at))
    }

    /// The classes of exactly this value, which is told apart.
    pub(super) fn exactly(&self, text: &str) -> Set {
        let text = written(text.as_bytes());
        self.select(|_, value| matches!(value, Value::Written(held) if *held == text))
    }

    /// Content types that make a POST a call.
    pub(super) fn grpc_types(&self) -> Set {
        let question = self.questions.iter().position(|question| !question.by_rule);
        let question = question.and_then(|at| u32::try_from(at).ok());
        self.select(|holds, _| question.is_some_and(|question| holds.binary_search(&question).is_ok()))
    }
}

/// Questions as they are collected, each with its automaton.
#[derive(Default)]
struct Builder {
    questions: Vec<Question>,
    elements: Vec<Element>,
}

impl Builder {
    /// The questions of which any is enough for this one.
    fn ask(&mut self, of: &Text, each: Each, is: &[Pattern]) -> Result<Vec<u32>, Undecided> {
        let lift = lift(of, each);
        if matches!(lift, Lift::BothSlashes | Lift::EveryPart | Lift::EveryValue | Lift::EveryWord) {
            return Ok(vec![self.question(lift, of.clone(), is.to_vec(), true)?]);
        }
        is.iter().map(|pattern| self.question(lift, of.clone(), vec![pattern.clone()], true)).collect()
    }

    fn question(&mut self, lift: Lift, of: Text, patterns: Vec<Pattern>, by_rule: bool) -> Result<u32, Undecided> {
        let same = |held: &Question| held.lift == lift && held.patterns == patterns && held.of == of;
        if let Some(at) = self.questions.iter().position(same) {
            return Ok(u32::try_from(at).unwrap_or(u32::MAX));
        }
        let machines = patterns.iter().map(Machine::of).collect::<Result<_, _>>()?;
        self.elements.push(Element::new(lift, machines));
        self.questions.push(Question { lift, of, patterns, by_rule });
        Ok(u32::try_from(self.questions.len() - 1).unwrap_or(u32::MAX))
    }

    /// Content types that make a POST a call: see [`is_grpc`].
    fn grpc_types(&mut self) -> Result<(), Undecided> {
        let machine = Machine::expression(GRPC_TYPES).map_err(|()| Undecided::Budget)?;
        self.elements.push(Element::new(Lift::Whole, vec![machine]));
        let of = Text::Header("content-type".into());
        self.questions.push(Question { lift: Lift::Whole, of, patterns: Vec::new(), by_rule: false });
        Ok(())
    }

    /// What holds of one single value that is no member of the domain's automaton.
    fn holds(&self, value: &[u8]) -> Box<[u32]> {
        let is = |question: &Question, value: &[u8]| {
            let of_path = matches!(question.of, Text::Path | Text::PathEitherSlash);
            let asterisk = |with: &Pattern| of_path && value.starts_with(b"*") && matches!(with, Pattern::Regex { .. });
            question.patterns.iter().any(|with| !asterisk(with) && pattern::matches(with, value))
        };
        let holds = (0u32..).zip(&self.questions).filter(|(_, question)| match question.lift {
            Lift::EitherSlash => is(question, value) || is(question, &[value, b"/"].concat()),
            Lift::BothSlashes => is(question, value) && is(question, &[value, b"/"].concat()),
            _ => is(question, value),
        });
        holds.map(|(at, _)| at).collect()
    }
}

/// How a question about a text reads its written form.
fn lift(of: &Text, each: Each) -> Lift {
    match (of, each) {
        (Text::Path, _) => Lift::Before(b'?'),
        (Text::PathEitherSlash, Each::Every) => Lift::BothSlashes,
        (Text::PathEitherSlash, _) => Lift::EitherSlash,
        (Text::Host, _) => Lift::Before(b':'),
        (Text::Header(_), Each::Every) => Lift::EveryPart,
        (Text::Header(_), Each::Some) => Lift::AnyPart,
        (Text::Header(_), Each::Joined) => Lift::Joined,
        (Text::Header(_), Each::Line) => Lift::AnyValue,
        (Text::Query(_) | Text::Claim(_) | Text::StringClaim(_), Each::Every) => Lift::EveryValue,
        (Text::Query(_) | Text::Claim(_) | Text::StringClaim(_), _) => Lift::AnyValue,
        (Text::SpacedClaim(_), Each::Every) => Lift::EveryWord,
        (Text::SpacedClaim(_), _) => Lift::AnyWord,
        _ => Lift::Whole,
    }
}

/// Values that decide what else can be in the request.
fn told_apart(name: &Name) -> &'static [&'static str] {
    match name {
        Name::Method => &["GET", "POST", "OPTIONS", "CONNECT"],
        Name::Upgrade => &["connect"],
        _ => &[],
    }
}

fn text_of(name: &Name) -> Text {
    match name {
        Name::Method => Text::Method,
        _ => Text::Upgrade,
    }
}

/// Bytes in written form.
pub(super) fn written(bytes: &[u8]) -> Vec<u16> {
    bytes.iter().copied().map(u16::from).collect()
}

/// The single values of a written form, in order.
pub(super) fn values(written: &[u16]) -> Vec<Vec<u8>> {
    written
        .split(|symbol| *symbol == super::element::NEXT)
        .map(|value| value.iter().filter_map(|symbol| u8::try_from(*symbol).ok()).collect())
        .collect()
}

/// One line that [`crate::canonical::is_grpc_call`] takes for a call's.
const GRPC_TYPES: &str = r"^(?:(?i:application/grpc)(?:\+[^;]*[^; \t])?[ \t]*(?:;.*)?)$";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::canonical::is_grpc_call;

    proptest! {
        #[test]
        fn content_types_of_calls_are_those_of_the_canonical_request(tail in "[+; a]{0,4}", case: bool) {
            let value = format!("{}{tail}", if case { "application/grpc" } else { "Application/gRPC" });
            let value = value.trim();
            let machine = Machine::expression(GRPC_TYPES).unwrap();
            let end = value.bytes().fold(machine.start(), |state, byte| machine.step(state, byte));
            prop_assert_eq!(machine.accepts(end), is_grpc_call(b"POST", std::iter::once(value.as_bytes())), "{:?}", value);
        }
    }
}
