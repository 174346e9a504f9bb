//! The formats that people write policies in, one module a format.
//!
//! Each front end gets all documents of its dialect together with the cluster's settings, and turns each into
//! [`Policy`]s of the model or into diagnostics. Nothing is ever silently ignored, and a refused document never holds
//! back another.

use std::sync::Arc;

use crate::analysis::test::PolicyTest;
use crate::diagnostic::{Code, Diagnostic, Location, Told};
use crate::facts::Transport;
use crate::model::{Atom, BreakGlass, Directions, Expr, Mode, Model, PeerAtom, Policy, PolicyName, Stack, Tier};
use crate::registry::Registry;
use crate::registry::kubernetes::{self, Objects};
use crate::settings::Settings;
use crate::source::{Document, Findings, Sources, Span, Unconfirmed};

mod cidr;
mod cilium;
mod istio;
mod last_good;
mod linkerd;
mod members;
mod memo;
mod native;
mod network;
mod selector;

pub use memo::Memos;

pub use last_good::LastGood;
pub use native::schema::{crds, schemas};

/// A reader of documents: which are its own, and what it makes of them.
struct FrontEnd {
    /// API group, versions and kinds.
    reads: &'static [(&'static str, &'static [&'static str], &'static [&'static str])],
    /// Turns all documents of these kinds into policies.
    compile: fn(&[&Document], &Settings, &mut Memos) -> Outcome,
}

impl FrontEnd {
    fn is_of(&self, group: &str, kind: &str) -> bool {
        self.reads.iter().any(|(own, _, kinds)| *own == group && kinds.contains(&kind))
    }
}

/// Kinds that are compiled: policies, emergencies, and the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// API group.
    pub group: &'static str,
    /// Versions of the group that are read, the one to prefer first.
    pub versions: &'static [&'static str],
    /// Kinds.
    pub kinds: &'static [&'static str],
}

/// Every kind that is compiled, a `PolicyTest` aside: it is never in force.
pub fn reads() -> impl Iterator<Item = Reads> {
    const OTHERS: Reads =
        Reads { group: native::GROUP, versions: &[native::VERSION], kinds: &[native::SETTINGS, native::BREAK_GLASS] };
    let policies = FRONT_ENDS.iter().flat_map(|front_end| front_end.reads);
    policies.map(|&(group, versions, kinds)| Reads { group, versions, kinds }).chain([OTHERS])
}

/// Every reader of policies.
const FRONT_ENDS: &[FrontEnd] =
    &[native::FRONT_END, istio::FRONT_END, cilium::FRONT_END, linkerd::FRONT_END, network::FRONT_END];

/// What came of a set of documents.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The policies that could be read, and the settings.
    pub model: Arc<Model>,
    /// Findings, errors included.
    pub diagnostics: Vec<Diagnostic>,
    /// Documents with an error, by name where the name could be read.
    pub refused: Vec<PolicyName>,
    /// `PolicyTest` documents.
    pub tests: Vec<PolicyTest>,
    /// Documents of kinds that are no policy: passed over, counted.
    pub passed_over: Vec<(String, usize)>,
    /// What the policies name, with the places: checked against a registry by `analysis::check`. None
    /// [`LastGood::without_mentions`].
    pub mentions: Vec<Arc<Mention>>,
    /// What the Kubernetes objects among the documents say of who is where.
    pub objects: Arc<Objects>,
    /// What each document was read as, for the next time.
    pub memos: Arc<Memos>,
}

impl Compiled {
    /// Who is where: the workloads file joined with the objects that stand beside the policies.
    #[must_use]
    pub fn registry(&self, file: Registry) -> (Registry, Vec<Diagnostic>) {
        self.objects.join(file)
    }

    /// Whether any document was refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }
}

/// Something outside the policy files that a policy names.
#[derive(Clone, Debug)]
pub struct Mention {
    /// What.
    pub of: Mentioned,
    /// The finding if it does not exist.
    pub finding: Unconfirmed,
}

/// See [`Mention`].
#[derive(Clone, Debug, PartialEq)]
pub enum Mentioned {
    /// A Service. Its absence is an error.
    Service {
        /// Namespace.
        namespace: Arc<str>,
        /// Name.
        name: Arc<str>,
    },
    /// A port name, of this transport where one is said. That no workload declares it is a warning.
    Port {
        /// Name.
        name: Arc<str>,
        /// Transport.
        transport: Option<Transport>,
    },
    /// Workloads for which this is true (only subject atoms). That nobody is one of them yet is a warning.
    Somebody(Expr),
    /// Workloads that a policy protects. That there is none is a warning.
    Protected(Expr),
}

/// What one front end makes of its documents.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Policies of documents without an error.
    pub policies: Vec<Arc<Policy>>,
    /// Documents with an error.
    pub refused: Vec<Refused>,
    /// All findings.
    pub diagnostics: Told,
    /// What the policies name.
    pub mentions: Vec<Arc<Mention>>,
}

impl memo::Reading for Outcome {
    fn forget_mentions(&mut self) {
        self.mentions = Vec::new();
    }
}

impl Outcome {
    /// Adds what came of other documents.
    fn extend(&mut self, other: &Self) {
        self.policies.extend(other.policies.iter().cloned());
        self.refused.extend(other.refused.iter().cloned());
        self.diagnostics.join(other.diagnostics.clone());
        self.mentions.extend(other.mentions.iter().cloned());
    }
}

/// A document with an error.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Who it is. Kind or name are empty where they could not be read.
    pub name: PolicyName,
    /// Where it starts.
    pub location: Location,
    /// What closes the workloads that it would have selected, unless it has a last good version. `None`: it never acts
    /// in the enforced table (mode Audit, a test).
    pub closure: Option<Policy>,
}

impl Refused {
    /// A refused document that closes `subject`; `None` for its whole namespace, or everything where it has none.
    #[must_use]
    pub fn closing(document: &Document, stack: Stack, tier: Tier, subject: Option<Expr>) -> Self {
        let name = name_of(document);
        let subject = subject.unwrap_or_else(|| match document.namespace.as_str() {
            "" => Expr::True,
            namespace => Expr::Is(Atom::Subject(PeerAtom::Namespace(namespace.into()))),
        });
        let closure = closure(name.clone(), document.location.clone(), stack, tier, subject);
        Self { name, location: document.location.clone(), closure: Some(closure) }
    }

    /// A refused document that would not have acted.
    #[must_use]
    pub fn harmless(document: &Document) -> Self {
        Self { name: name_of(document), location: document.location.clone(), closure: None }
    }
}

/// The kind; with its group, as `kubectl` writes it, where an earlier front end has a kind of the same name.
fn kind_of(document: &Document) -> String {
    let group = document.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    match (group, document.kind.as_str()) {
        (linkerd::GROUP, kind @ ("AuthorizationPolicy" | "HTTPRoute")) => format!("{kind}.{group}"),
        (_, kind) => kind.to_owned(),
    }
}

/// Kind, namespace and name of a document.
#[must_use]
pub fn name_of(document: &Document) -> PolicyName {
    PolicyName {
        kind: kind_of(document).into(),
        namespace: namespace_of(document).into(),
        name: document.name.as_str().into(),
    }
}

/// The namespace of a document. One of another dialect that names none belongs to `default`, as `kubectl` would have
/// it; kinds of the whole cluster belong to none.
fn namespace_of(document: &Document) -> &str {
    let group = document.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = document.kind.as_str();
    match document.namespace.as_str() {
        _ if group != native::GROUP && CLUSTER_SCOPED.contains(&kind) => "",
        "" if FRONT_ENDS.iter().any(|front_end| group != native::GROUP && front_end.is_of(group, kind)) => "default",
        namespace => namespace,
    }
}

/// Kinds of other dialects that have no namespace.
const CLUSTER_SCOPED: &[&str] =
    &["AdminNetworkPolicy", "BaselineAdminNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy"];

fn closure(name: PolicyName, location: Location, stack: Stack, tier: Tier, subject: Expr) -> Policy {
    Policy {
        name,
        location,
        stack,
        tier,
        priority: 0,
        mode: Mode::Enforce,
        replaces: Vec::new(),
        subject,
        closes: Directions { inbound: true, outbound: true },
        rules: Vec::new(),
        http_options: Vec::new(),
        jwt_rules: Vec::new(),
        broken: true,
    }
}

/// Compiles documents that have no history: what a refused document selects is closed.
#[must_use]
pub fn compile(sources: &Sources) -> Compiled {
    compile_onto(sources, &LastGood::default())
}

/// Compiles documents; a refused one keeps its last good version, and if it never had one, what it selects is closed.
/// Documents that are the same as last time (see [`crate::source::Reader`]) are not read again, and their policies are
/// the same allocations.
#[must_use]
pub fn compile_onto(sources: &Sources, last_good: &LastGood) -> Compiled {
    let mut sorted = Sorted::default();
    for document in &sources.documents {
        sorted.add(document);
    }
    let mut diagnostics = Told::default();
    diagnostics.extend(sources.diagnostics.iter().cloned());
    let mut refused = std::mem::take(&mut sorted.refused);
    diagnostics.join(std::mem::take(&mut sorted.diagnostics));

    let settings = native::settings::compile(&sorted.settings);
    diagnostics.join(settings.diagnostics);
    refused.extend(settings.refused);
    // A document of which nobody knows what it is may be the settings.
    let lost = refused.iter().any(|refused| refused.name.kind.is_empty() || &*refused.name.kind == native::SETTINGS);
    let settings = match settings.settings {
        Some(settings) => settings,
        None if lost => last_good.settings().cloned().unwrap_or_default(),
        None => Settings::default(),
    };

    let emergencies = native::break_glass::compile(&sorted.emergencies, &settings);
    diagnostics.join(emergencies.diagnostics);
    refused.extend(emergencies.refused);

    let tests = native::tests::compile(&sorted.tests);
    diagnostics.join(tests.diagnostics);
    refused.extend(tests.refused);

    let mut memos = last_good.memos().next(&settings);
    let mut policies = Vec::new();
    let mut mentions = Vec::new();
    for (front_end, documents) in FRONT_ENDS.iter().zip(&sorted.policies) {
        let outcome = (front_end.compile)(documents, &settings, &mut memos);
        policies.extend(outcome.policies);
        refused.extend(outcome.refused);
        diagnostics.join(outcome.diagnostics);
        mentions.extend(outcome.mentions);
    }
    memos.close();
    let objects = Objects::of(sorted.objects.iter().copied());
    diagnostics.extend(objects.diagnostics.iter().cloned());
    diagnostics.extend(sorted.note());
    refuse_duplicates(&sorted, &mut policies, &mut refused, &mut diagnostics);
    let is_refused = |glass: &Arc<BreakGlass>| refused.iter().any(|refused| refused.name == glass.name);
    let mut break_glass: Vec<_> = emergencies.broken.into_iter().filter(|glass| !is_refused(glass)).collect();
    break_glass.sort_by(|a, b| a.name.cmp(&b.name));
    let kept = last_good.keep(&refused, &policies);
    policies.extend(kept);
    policies.sort_by(|a, b| (a.priority, &a.name, &a.location).cmp(&(b.priority, &b.name, &b.location)));
    let mut refused: Vec<PolicyName> = refused.into_iter().map(|refused| refused.name).collect();
    refused.sort();
    refused.dedup();
    Compiled {
        model: Arc::new(Model { settings, policies, break_glass }),
        diagnostics: diagnostics.into_list(),
        refused,
        tests: tests.tests,
        passed_over: sorted.passed_over,
        mentions,
        objects: Arc::new(objects),
        memos: Arc::new(memos),
    }
}

/// Documents by who reads them.
#[derive(Default)]
struct Sorted<'d> {
    /// By front end.
    policies: [Vec<&'d Document>; FRONT_ENDS.len()],
    settings: Vec<&'d Document>,
    tests: Vec<&'d Document>,
    emergencies: Vec<&'d Document>,
    objects: Vec<&'d Document>,
    passed_over: Vec<(String, usize)>,
    /// The first that was passed over.
    other: Option<&'d Document>,
    refused: Vec<Refused>,
    diagnostics: Told,
}

impl<'d> Sorted<'d> {
    fn add(&mut self, document: &'d Document) {
        if kubernetes::is_object(document) {
            self.objects.push(document);
            return;
        }
        let (group, version) = document.api_version.rsplit_once('/').unwrap_or(("", &document.api_version));
        let reads = |kinds: &[&str], versions: &[&str]| {
            kinds.contains(&document.kind.as_str()) && (versions.contains(&version) || document.broken)
        };
        if group == native::GROUP && reads(&[native::SETTINGS], &[native::VERSION]) {
            self.settings.push(document);
            return;
        }
        if group == native::GROUP && reads(&[native::TEST], &[native::VERSION]) {
            self.tests.push(document);
            return;
        }
        if group == native::GROUP && reads(&[native::BREAK_GLASS], &[native::VERSION]) {
            self.emergencies.push(document);
            return;
        }
        let mut of_group = false;
        for (front_end, documents) in FRONT_ENDS.iter().zip(&mut self.policies) {
            for (own, versions, kinds) in front_end.reads.iter().filter(|(own, ..)| *own == group) {
                if reads(kinds, versions) {
                    documents.push(document);
                    return;
                }
                of_group |= kinds.contains(&document.kind.as_str()) && *own == group;
            }
        }
        match (group, document.kind.as_str()) {
            // Who a broken document is may stand behind the error: it must be taken for a policy.
            (native::GROUP, _) | (_, "") => self.unknown(document),
            (_, kind)
                if document.broken && group.is_empty() && document.api_version.is_empty() && !is_not_ours(kind) =>
            {
                self.unknown(document);
            }
            (_, kind) if native::KINDS.contains(&kind) => self.unknown(document),
            // A version of the group that is not known may mean anything.
            _ if of_group => self.unknown(document),
            (group, kind) => {
                if NOT_READ.contains(&(group, kind)) {
                    self.diagnostics.push(not_read(document, kind));
                }
                self.pass_over(document);
            }
        }
    }

    fn pass_over(&mut self, document: &'d Document) {
        self.other.get_or_insert(document);
        match self.passed_over.iter_mut().find(|(kind, _)| *kind == document.kind) {
            Some((_, count)) => *count += 1,
            None => self.passed_over.push((document.kind.clone(), 1)),
        }
    }

    /// Says that documents were passed over, so that nobody takes them for read.
    fn note(&self) -> Option<Diagnostic> {
        let first = self.other?;
        let all: usize = self.passed_over.iter().map(|(_, count)| count).sum();
        let mut kinds: Vec<String> = self.passed_over.iter().map(|(kind, count)| format!("{count} `{kind}`")).collect();
        if kinds.len() > MOST_KINDS {
            let others = kinds.split_off(MOST_KINDS).len();
            kinds.push(format!("{others} other kinds"));
        }
        let documents = if all == 1 { "1 document is".to_owned() } else { format!("{all} documents are") };
        let message = format!("{documents} no policy: {} passed over", kinds.join(", "));
        Some(Findings::of(first).diagnostic(Code::PassedOver, first.root.span, message))
    }

    fn unknown(&mut self, document: &Document) {
        if !document.broken {
            self.diagnostics.push(unknown_kind(document));
        }
        // Nobody knows its tier: nothing that it could have denied may pass.
        self.refused.push(Refused::closing(document, Stack::Native, Tier::Admin, None));
    }
}

/// Kinds that a note names one by one.
const MOST_KINDS: usize = 12;

/// Kinds that stand beside policies in people's files and whose breakage says nothing about access.
fn is_not_ours(kind: &str) -> bool {
    const KINDS: &[&str] = &[
        "ConfigMap",
        "CronJob",
        "DaemonSet",
        "Deployment",
        "EndpointSlice",
        "Ingress",
        "Job",
        "Namespace",
        "Node",
        "Pod",
        "ReplicaSet",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ];
    KINDS.contains(&kind)
}

fn unknown_kind(document: &Document) -> Diagnostic {
    let field = |name: &str| document.root.get(name).map_or(document.root.span, |node| node.span);
    let findings = Findings::of(document);
    let finding =
        |span: Span, message: String, help: String| findings.diagnostic(Code::UnknownKind, span, message).help(help);
    let full = format!("{}/{}", native::GROUP, native::VERSION);
    if native::KINDS.contains(&document.kind.as_str()) {
        let message = format!("`{}` has no kind `{}`", document.api_version, document.kind);
        return finding(field("apiVersion"), message, format!("write `apiVersion: {full}`"));
    }
    let help = match crate::source::fields::nearest(&document.kind, native::KINDS) {
        Some(kind) => format!("did you mean `{kind}`?"),
        None => format!("the kinds of `{full}` are {}", crate::source::fields::listed(native::KINDS)),
    };
    finding(field("kind"), format!("unknown kind `{}`", document.kind), help)
}

fn not_read(document: &Document, kind: &str) -> Diagnostic {
    let span = document.root.get("kind").map_or(document.root.span, |node| node.span);
    Findings::of(document)
        .diagnostic(Code::NotRead, span, format!("`{kind}` is not read by this version: it protects nothing here"))
        .help("write the same as a `FirewallPolicy`, or leave it to the system that enforces it")
}

/// Two documents of one kind and name: neither is taken.
fn refuse_duplicates(
    sorted: &Sorted<'_>,
    policies: &mut Vec<Arc<Policy>>,
    refused: &mut Vec<Refused>,
    diagnostics: &mut Told,
) {
    type First<'d> =
        hashbrown::HashMap<(&'d str, &'d str, &'d str, &'d str), &'d Document, foldhash::fast::RandomState>;
    let mut first = First::default();
    let mut twice = hashbrown::HashSet::<PolicyName, foldhash::fast::RandomState>::default();
    let read = sorted.policies.iter().flatten().chain(&sorted.settings).chain(&sorted.tests).chain(&sorted.emergencies);
    for document in read.copied().filter(|document| !document.name.is_empty()) {
        let group = document.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let key = (group, document.kind.as_str(), namespace_of(document), document.name.as_str());
        let Some(earlier) = first.insert(key, document) else { continue };
        first.insert(key, earlier);
        let name = name_of(document);
        let span = document
            .root
            .get("metadata")
            .and_then(|metadata| metadata.get("name"))
            .map_or(document.root.span, |node| node.span);
        diagnostics.push(
            Findings::of(document)
                .diagnostic(Code::DuplicateDocument, span, format!("a second `{name}`"))
                .help(format!("the first one stands at {}; neither is taken: rename or remove one", earlier.location)),
        );
        twice.insert(name);
    }
    if twice.is_empty() {
        return;
    }
    let (again, kept): (Vec<Arc<Policy>>, Vec<Arc<Policy>>) =
        std::mem::take(policies).into_iter().partition(|policy| twice.contains(&policy.name));
    *policies = kept;
    let emergencies = sorted.emergencies.iter().filter(|document| twice.contains(&name_of(document)));
    refused.extend(emergencies.map(|document| Refused::harmless(document)));
    refused.extend(again.into_iter().map(|policy| {
        let closure = (policy.mode == Mode::Enforce).then(|| {
            closure(policy.name.clone(), policy.location.clone(), policy.stack, policy.tier, policy.subject.clone())
        });
        Refused { name: policy.name.clone(), location: policy.location.clone(), closure }
    }));
}

/// Policies of dialects that this version does not read: passed over with a warning each.
const NOT_READ: &[(&str, &str)] = &[
    (linkerd::GROUP, "EgressNetwork"),
    (linkerd::GROUP, "HTTPLocalRateLimitPolicy"),
    ("crd.antrea.io", "ClusterNetworkPolicy"),
    ("crd.antrea.io", "NetworkPolicy"),
    ("crd.projectcalico.org", "GlobalNetworkPolicy"),
    ("crd.projectcalico.org", "NetworkPolicy"),
    ("projectcalico.org", "GlobalNetworkPolicy"),
    ("projectcalico.org", "NetworkPolicy"),
];
