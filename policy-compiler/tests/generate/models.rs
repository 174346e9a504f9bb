//! Random models: policies of every stack, tier and mode, rules from shapes that people write to arbitrary conditions.

use std::sync::Arc;

use eastwall_policy::diagnostic::Location;
use eastwall_policy::facts::{Direction, Protocol};
use eastwall_policy::model::{
    AsciiSet, Atom, CidrScope, Directions, Each, Effect, Expr, HttpOption, HttpOptions, JwtRule, KeysFrom, Mode, Model,
    NodeScope, Pattern, PeerAtom, PlaintextPrincipal, Policy, PolicyName, PortAtom, Rest, Rule, Segment, Selector,
    SelectorOperator, SelectorRequirement, Stack, Text, Tier, TokenPlace,
};
use eastwall_policy::settings::{Probes, Settings};
use proptest::prelude::*;

use super::flows::PROTOCOLS;
use super::registries::transport;
use super::{
    ACCOUNTS, APPS, FQDNS, HEADERS, HOSTS, METHODS, NAMESPACES, NETWORKS, PARAMETERS, PATHS, PORT_NAMES, PORTS,
    PRINCIPALS, VALUES, bytes, word,
};

/// Up to five policies.
pub(crate) fn model() -> impl Strategy<Value = Model> {
    (prop::collection::vec(policy(), 0..6), any::<bool>(), 0_u32..3).prop_map(|(mut policies, probes, trusted)| {
        for (index, policy) in (1_u32..).zip(&mut policies) {
            policy.name.name = format!("p{index}").into();
            policy.location.line = index;
        }
        let mut settings = Settings {
            node_networks: vec!["192.168.1.0/24".parse().unwrap()],
            probes: if probes { Probes::Allow } else { Probes::Policy },
            ..Settings::default()
        };
        settings.istio.trusted_proxies = trusted;
        Model { settings, policies: policies.into_iter().map(Arc::new).collect(), ..Model::default() }
    })
}

/// What stands at a place from now on; `None`: nothing.
type Edit = (usize, Option<Arc<Policy>>);

/// Many policies of the same subjects, and what becomes of one after the other: that at a place is another one, or gone.
pub(crate) fn crowd() -> impl Strategy<Value = (Vec<Arc<Policy>>, Vec<Edit>)> {
    let changes = prop::collection::vec((any::<usize>(), prop::option::weighted(0.8, policy())), 1..8);
    (policy(), prop::collection::vec(policy(), 20..30), changes).prop_map(|(first, policies, changes)| {
        let mut lines = 0;
        let mut alike = |mut policy: Policy| {
            lines += 1;
            policy.name.name = format!("p{lines}").into();
            policy.location.line = lines;
            (policy.stack, policy.tier, policy.subject) = (first.stack, first.tier, first.subject.clone());
            adapt(&mut policy);
            Arc::new(policy)
        };
        let policies = policies.into_iter().map(&mut alike).collect();
        (policies, changes.into_iter().map(|(place, policy)| (place, policy.map(&mut alike))).collect())
    })
}

/// To what its tier may do.
fn adapt(policy: &mut Policy) {
    if !policy.tier.is_ordered(policy.stack) {
        for rule in policy.rules.iter_mut().filter(|rule| rule.effect == Effect::Pass) {
            rule.effect = Effect::Deny;
        }
    }
    if policy.tier == Tier::Admin {
        policy.closes = Directions::default();
    }
}

fn policy() -> impl Strategy<Value = Policy> {
    let stack = prop_oneof![
        5 => Just(Stack::Native),
        3 => Just(Stack::Network),
        1 => Just(Stack::Istio),
        2 => Just(Stack::Linkerd)
    ];
    let tier = prop_oneof![1 => Just(Tier::Admin), 3 => Just(Tier::Application), 1 => Just(Tier::Baseline)];
    let mode = prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Audit)];
    let closes = (any::<bool>(), any::<bool>()).prop_map(|(inbound, outbound)| Directions { inbound, outbound });
    let rules = prop::collection::vec(rule(), 0..5);
    let http = (prop::collection::vec(http_options(), 0..2), prop::collection::vec(jwt_rule(), 0..2));
    (
        stack,
        tier,
        mode,
        subject(),
        closes,
        rules,
        http,
        prop::bool::weighted(0.03),
        prop::sample::select(vec![None, Some("p1"), Some("p2")]),
    )
        .prop_map(
            |(stack, tier, mode, subject, closes, mut rules, (http_options, jwt_rules), broken, replaces)| {
                for (index, rule) in (1_u32..).zip(&mut rules) {
                    rule.name = format!("r{index}").into();
                    rule.location.column = index;
                }
                let mut policy = Policy {
                    name: name(""),
                    location: location(),
                    stack,
                    tier,
                    priority: 0,
                    mode,
                    replaces: replaces.filter(|_| mode == Mode::Audit).map(name).into_iter().collect(),
                    subject,
                    closes,
                    rules,
                    http_options,
                    jwt_rules,
                    broken,
                };
                adapt(&mut policy);
                policy
            },
        )
}

fn jwt_rule() -> impl Strategy<Value = Arc<JwtRule>> {
    let place = prop_oneof![
        Just(TokenPlace::Bearer),
        word(HEADERS).prop_map(|name| TokenPlace::Header { name, prefix: "".into() }),
        Just(TokenPlace::Cookie("token".into())),
    ];
    (place, prop::bool::ANY).prop_map(|(place, is_told)| {
        let told_in = if is_told { vec!["x-payload".into()] } else { Vec::new() };
        let keys = KeysFrom::Text("{}".into());
        Arc::new(JwtRule { issuer: Some("i".into()), audiences: Vec::new(), keys, places: vec![place], told_in })
    })
}

fn name(name: &str) -> PolicyName {
    PolicyName { kind: "FirewallPolicy".into(), namespace: "".into(), name: name.into() }
}

fn location() -> Location {
    Location { file: "p.yaml".into(), line: 1, column: 1 }
}

/// Who is protected: known for every registered workload.
fn subject() -> impl Strategy<Value = Expr> {
    let atom = prop_oneof![
        word(NAMESPACES).prop_map(PeerAtom::Namespace),
        word(ACCOUNTS).prop_map(PeerAtom::ServiceAccount),
        selector("app", APPS).prop_map(PeerAtom::Labels),
        selector("team", &["blue", "red"]).prop_map(PeerAtom::NamespaceLabels),
        Just(PeerAtom::Workload),
    ]
    .prop_map(|atom| Expr::Is(Atom::Subject(atom)));
    prop_oneof![
        2 => Just(Expr::True),
        3 => atom.clone(),
        1 => (atom.clone(), atom).prop_map(|(a, b)| Expr::all([a, !b])),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let direction = prop::sample::select(vec![Direction::Inbound, Direction::Inbound, Direction::Outbound]);
    (direction, effect(), condition(), prop::option::weighted(0.3, 0..20_i64)).prop_map(
        |(direction, effect, condition, expires)| Rule {
            name: "".into(),
            location: location(),
            direction,
            effect,
            condition,
            expires: expires.filter(|_| effect == Effect::Allow),
        },
    )
}

fn effect() -> impl Strategy<Value = Effect> {
    prop_oneof![3 => Just(Effect::Allow), 1 => Just(Effect::Deny), 1 => Just(Effect::Pass)]
}

/// Conditions as front ends make them, and arbitrary ones.
pub(crate) fn condition() -> impl Strategy<Value = Expr> {
    prop_oneof![4 => shaped(), 2 => arbitrary()]
}

/// Peers, ports, one protocol, fields: what people write.
fn shaped() -> impl Strategy<Value = Expr> {
    let peers = prop::collection::vec(other_end().prop_map(Expr::Is), 0..3);
    let but = prop::option::weighted(0.2, other_end().prop_map(Expr::Is));
    let ports = prop::collection::vec(port(), 0..3);
    (peers, but, ports, bytes_seen()).prop_map(|(peers, but, ports, seen)| {
        let peers = if peers.is_empty() { Expr::True } else { Expr::any(peers) };
        let ports = if ports.is_empty() { Expr::True } else { Expr::any(ports) };
        Expr::all([peers, but.map_or(Expr::True, |but| !but), ports, seen])
    })
}

fn bytes_seen() -> impl Strategy<Value = Expr> {
    let http = || Expr::Is(Atom::Protocol(vec![Protocol::Http, Protocol::Http2, Protocol::Grpc]));
    let matches =
        || prop::collection::vec(prop::collection::vec(text(), 0..3).prop_map(Expr::all), 1..3).prop_map(Expr::any);
    prop_oneof![
        2 => transport().prop_map(|transport| Expr::Is(Atom::Transport(transport))),
        4 => matches().prop_map(move |matches| Expr::all([http(), matches])),
        1 => matches().prop_map(move |matches| Expr::any([!http(), matches])),
        1 => text().prop_map(|text| Expr::all([Expr::Is(Atom::Protocol(vec![Protocol::Tls])), text])),
        1 => Just(Expr::True),
    ]
}

fn arbitrary() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        1 => Just(Expr::True),
        1 => Just(Expr::False),
        12 => atom().prop_map(Expr::Is),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Expr::All),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Expr::Any),
            inner.prop_map(|inner| Expr::Not(Box::new(inner))),
        ]
    })
}

fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        1 => peer().prop_map(Atom::Subject),
        4 => other_end(),
        2 => port().prop_map(|port| match port { Expr::Is(atom) => atom, _ => Atom::Port(PortAtom::Declared) }),
        2 => prop::collection::vec(prop::sample::select(PROTOCOLS), 0..3).prop_map(Atom::Protocol),
        1 => transport().prop_map(Atom::Transport),
        4 => text_atom(),
        1 => texts().prop_map(Atom::Present),
        1 => network().prop_map(Atom::RemoteIp),
        1 => Just(Atom::DeclaredProbe),
    ]
}

fn other_end() -> impl Strategy<Value = Atom> {
    prop_oneof![2 => peer().prop_map(Atom::Peer), 1 => peer().prop_map(Atom::Located)]
}

/// Any question about an end.
pub(crate) fn peer() -> impl Strategy<Value = PeerAtom> {
    let plaintext = prop::sample::select(vec![PlaintextPrincipal::Absent, PlaintextPrincipal::Registered]);
    let scope =
        prop::sample::select(vec![CidrScope::Every, CidrScope::Reached, CidrScope::Outside, CidrScope::NotWorkload]);
    let principals = prop::collection::vec(
        prop_oneof![
            bytes(PRINCIPALS).prop_map(Pattern::Exact),
            Just(Pattern::Prefix(Arc::from(&b"spiffe://cluster.local/"[..]))),
            Just(Pattern::NonEmpty),
        ],
        0..3,
    );
    prop_oneof![
        3 => word(NAMESPACES).prop_map(PeerAtom::Namespace),
        4 => word(ACCOUNTS).prop_map(PeerAtom::ServiceAccount),
        1 => selector("team", &["blue", "red"]).prop_map(PeerAtom::NamespaceLabels),
        2 => selector("app", APPS).prop_map(PeerAtom::Labels),
        2 => (principals, plaintext).prop_map(|(is, plaintext)| PeerAtom::Principal { is, plaintext }),
        1 => Just(PeerAtom::Proven),
        3 => (network(), scope).prop_map(|(net, scope)| PeerAtom::Cidr { net, scope }),
        1 => (word(NAMESPACES), word(&["svc-0", "svc-1"]))
            .prop_map(|(namespace, name)| PeerAtom::Service { namespace, name }),
        1 => (word(&["svc-0", "svc-1"]), selector("team", &["blue", "red"]))
            .prop_map(|(name, namespaces)| PeerAtom::ServiceNamed { name, namespaces }),
        1 => prop::sample::select(vec![NodeScope::Own, NodeScope::Any]).prop_map(PeerAtom::Node),
        1 => Just(PeerAtom::Workload),
        1 => Just(PeerAtom::External),
        1 => bytes(FQDNS).prop_map(|name| PeerAtom::Fqdn(vec![Pattern::Exact(name)])),
        1 => selector("policy", &["deny", "open"]).prop_map(PeerAtom::Annotations),
    ]
}

fn network() -> impl Strategy<Value = ipnet::IpNet> {
    prop::sample::select(NETWORKS).prop_map(|text| text.parse().unwrap())
}

fn port() -> impl Strategy<Value = Expr> {
    prop_oneof![
        (prop::sample::select(PORTS), 0..3_u16).prop_map(|(from, more)| PortAtom::Range(from, from + more * 1000)),
        word(PORT_NAMES).prop_map(PortAtom::Named),
        Just(PortAtom::Declared),
        Just(PortAtom::Annotated("ports".into())),
    ]
    .prop_map(|port| Expr::Is(Atom::Port(port)))
}

fn selector(key: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Selector> + Clone {
    let operator = prop::sample::select(vec![
        SelectorOperator::In,
        SelectorOperator::In,
        SelectorOperator::NotIn,
        SelectorOperator::Exists,
        SelectorOperator::DoesNotExist,
    ]);
    let key = prop::sample::select(vec![key, key, "other"]);
    let requirement = (key, operator, prop::collection::vec(word(values), 1..3))
        .prop_map(|(key, operator, values)| SelectorRequirement { key: key.into(), operator, values });
    prop::collection::vec(requirement, 0..2).prop_map(|requirements| Selector { requirements })
}

fn text() -> impl Strategy<Value = Expr> {
    (text_atom(), prop::bool::weighted(0.15)).prop_map(|(atom, negated)| {
        let expr = Expr::Is(atom);
        if negated { !expr } else { expr }
    })
}

fn text_atom() -> impl Strategy<Value = Atom> {
    let each = || prop::sample::select(vec![Each::Every, Each::Some, Each::Joined, Each::Line]);
    let with = |of: BoxedStrategy<Text>, is: BoxedStrategy<Pattern>| {
        (of, each(), prop::collection::vec(is, 0..3)).prop_map(|(of, each, is)| Atom::Text { of, each, is })
    };
    prop_oneof![
        3 => with(Just(Text::Method).boxed(), bytes(METHODS).prop_map(Pattern::Exact).boxed()),
        5 => with(
            prop::sample::select(vec![Text::Path, Text::Path, Text::PathEitherSlash, Text::PathAndQuery]).boxed(),
            path().boxed(),
        ),
        1 => with(prop::sample::select(vec![Text::Host, Text::Authority, Text::Sni, Text::Qname]).boxed(), host().boxed()),
        3 => with(
            prop_oneof![word(HEADERS).prop_map(Text::Header), word(PARAMETERS).prop_map(Text::Query), claim()].boxed(),
            value().boxed(),
        ),
        1 => with(texts().boxed(), value().boxed()),
    ]
}

fn texts() -> impl Strategy<Value = Text> {
    prop_oneof![
        prop::sample::select(vec![
            Text::Method,
            Text::Path,
            Text::PathEitherSlash,
            Text::PathAndQuery,
            Text::Host,
            Text::Authority,
            Text::Upgrade,
            Text::Sni,
            Text::Alpn,
            Text::RequestPrincipal,
            Text::PeerPrincipal,
            Text::Qname,
        ]),
        word(HEADERS).prop_map(Text::Header),
        word(PARAMETERS).prop_map(Text::Query),
        claim(),
    ]
}

fn claim() -> impl Strategy<Value = Text> {
    let path = prop::sample::select(vec![vec!["roles"], vec!["scope"], vec!["deep", "n"], vec!["sub"]])
        .prop_map(|path| path.into_iter().map(Arc::from).collect::<Vec<Arc<str>>>());
    let read = prop::sample::select(vec![Text::Claim, Text::StringClaim, Text::SpacedClaim]);
    (path, read).prop_map(|(path, read)| read(path))
}

fn path() -> impl Strategy<Value = Pattern> {
    let segment = prop_oneof![
        2 => bytes(&["a", "b", "x", ""]).prop_map(Segment::Literal),
        1 => Just(Segment::Variable),
        1 => Just(Segment::Of(AsciiSet::alphanumeric_and(b"-"))),
    ];
    let rest = prop_oneof![Just(Rest::Nothing), Just(Rest::Below), Just(Rest::Of(AsciiSet::alphanumeric_and(b"-"))),];
    prop_oneof![
        3 => bytes(PATHS).prop_map(Pattern::Exact),
        3 => (prop::collection::vec(segment, 0..3), rest)
            .prop_map(|(segments, rest)| Pattern::Segments { segments, rest }),
        1 => bytes(&["/a", "/"]).prop_map(Pattern::Prefix),
        1 => bytes(&["/b", "/"]).prop_map(Pattern::Suffix),
        1 => prop::sample::select(vec!["/a/.*", ".*", "/a/?", "/[^/]+"]).prop_map(regex),
        1 => Just(Pattern::Anything),
    ]
}

fn host() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        bytes(HOSTS).prop_map(Pattern::ExactIgnoreCase),
        bytes(&["orders.shop:8080"]).prop_map(Pattern::ExactIgnoreCase),
        bytes(&["partner.example"]).prop_map(Pattern::OneLabel),
        bytes(&[".EXAMPLE"]).prop_map(Pattern::SuffixIgnoreCase),
        bytes(&["ORDERS"]).prop_map(Pattern::PrefixIgnoreCase),
    ]
}

fn value() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        4 => bytes(VALUES).prop_map(Pattern::Exact),
        1 => bytes(&["ac"]).prop_map(Pattern::Prefix),
        1 => bytes(&["ex"]).prop_map(Pattern::Suffix),
        1 => Just(Pattern::NonEmpty),
        1 => Just(Pattern::Anything),
        1 => prop::sample::select(vec!["acme|globex", "[a-z]*"]).prop_map(regex),
    ]
}

fn regex(source: &str) -> Pattern {
    let anchored = format!(r"\A(?s-u:{source})\z");
    let syntax = regex_automata::util::syntax::Config::new().utf8(false);
    let regex = regex_automata::meta::Regex::builder().syntax(syntax).build(&anchored).unwrap();
    Pattern::Regex { source: source.into(), expression: anchored.into(), regex }
}

fn http_options() -> impl Strategy<Value = HttpOptions> {
    let option =
        || prop::option::of(prop::sample::select(vec![HttpOption::Decode, HttpOption::Keep, HttpOption::Reject]));
    (port(), option(), option(), option(), option(), option(), option()).prop_map(
        |(ports, escaped_slash, backslash, path_parameters, merge_slashes, method_override, underscore_headers)| {
            HttpOptions {
                ports,
                escaped_slash,
                backslash,
                path_parameters,
                merge_slashes,
                method_override,
                underscore_headers,
            }
        },
    )
}
