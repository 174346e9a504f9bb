//! The rules that every engine gets, written for each: 100 a document, each for one source, one method and one path.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use eastwall_policy::registry::{DeclaredPort, Labels, Registry, Workload};

use eastwall_policy::facts::Transport;

pub(crate) const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
/// Rules of one document.
pub(crate) const A_DOCUMENT: usize = 100;

/// How many rules there are, and for how many destinations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) count: usize,
    /// All rules protect one workload; otherwise every document protects one of its own.
    pub(crate) one_scope: bool,
}

/// A language that the rules can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Native,
    Istio,
}

impl Dialect {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Istio => "istio",
        }
    }
}

/// What a rule says of a path; a third of the rules each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Exact,
    /// Everything below a prefix.
    Tree,
    /// One segment behind a prefix.
    Items,
}

impl Rules {
    pub(crate) fn layout(&self) -> &'static str {
        if self.one_scope { "one scope" } else { "100 a scope" }
    }

    pub(crate) fn documents(&self) -> usize {
        self.count.div_ceil(A_DOCUMENT)
    }

    pub(crate) fn sources(&self) -> usize {
        (self.count / 10).clamp(10, 1_000)
    }

    pub(crate) fn destinations(&self) -> usize {
        if self.one_scope { 1 } else { self.documents() }
    }

    pub(crate) fn source(&self, rule: usize) -> usize {
        rule * 7 % self.sources()
    }

    pub(crate) fn destination(&self, rule: usize) -> usize {
        if self.one_scope { 0 } else { rule / A_DOCUMENT }
    }

    pub(crate) fn method(rule: usize) -> usize {
        rule % METHODS.len()
    }

    pub(crate) fn shape(rule: usize) -> Shape {
        match rule % 3 {
            0 => Shape::Exact,
            1 => Shape::Tree,
            _ => Shape::Items,
        }
    }

    /// One document; `revision` changes one path of it.
    pub(crate) fn document(&self, dialect: Dialect, document: usize, revision: usize) -> String {
        let app = if self.one_scope { 0 } else { document };
        let head = match dialect {
            Dialect::Native => format!(
                "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\nmetadata: {{name: p{document}, namespace: shop}}\n\
                 spec:\n  subject: [{{serviceAccount: app-{app}}}]\n  ingress:\n"
            ),
            Dialect::Istio => format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p{document}, namespace: shop}}\n\
                 spec:\n  selector: {{matchLabels: {{app: app-{app}}}}}\n  action: ALLOW\n  rules:\n"
            ),
        };
        let mut text = head;
        let first = document * A_DOCUMENT;
        for rule in first..self.count.min(first + A_DOCUMENT) {
            let changed = if rule == first && revision > 0 { format!("-{revision}") } else { String::new() };
            let path = match (Self::shape(rule), dialect) {
                (Shape::Exact, _) => format!("/api/v1/exact-{rule}{changed}"),
                (Shape::Tree, Dialect::Native) => format!("/api/v1/tree-{rule}{changed}/**"),
                (Shape::Tree, Dialect::Istio) => format!("/api/v1/tree-{rule}{changed}/*"),
                (Shape::Items, Dialect::Native) => format!("/api/v1/items-{rule}{changed}/{{id}}"),
                (Shape::Items, Dialect::Istio) => format!("/api/v1/items-{rule}{changed}/{{*}}"),
            };
            let (source, method) = (self.source(rule), METHODS[Self::method(rule)]);
            let written = match dialect {
                Dialect::Native => writeln!(
                    text,
                    "  - {{name: r{rule}, from: [{{serviceAccount: sa-{source}}}], http: [{{methods: [{method}], paths: [\"{path}\"]}}]}}"
                ),
                Dialect::Istio => writeln!(
                    text,
                    "  - {{from: [{{source: {{principals: [cluster.local/ns/shop/sa/sa-{source}]}}}}], \
                     to: [{{operation: {{methods: [{method}], paths: [\"{path}\"]}}}}]}}"
                ),
            };
            assert!(written.is_ok(), "a text takes what is written to it");
        }
        text
    }

    /// All documents, as one file.
    pub(crate) fn text(&self, dialect: Dialect) -> String {
        let documents: Vec<String> = (0..self.documents()).map(|number| self.document(dialect, number, 0)).collect();
        documents.join("---\n")
    }

    /// Who is where: every source and every destination, one address each.
    pub(crate) fn registry(&self) -> Registry {
        let callers = (0..self.sources()).map(|i| workload("caller", "sa", i, source_address(i)));
        let apps = (0..self.destinations()).map(|i| workload("app", "app", i, destination_address(i)));
        Registry::new(callers.chain(apps).collect(), Vec::new(), Vec::new())
    }
}

pub(crate) fn workload(name: &str, account: &str, number: usize, address: IpAddr) -> Workload {
    Workload {
        name: format!("{name}-{number}").into(),
        namespace: "shop".into(),
        service_account: format!("{account}-{number}").into(),
        labels: Labels::from_iter([("app".into(), format!("{name}-{number}").into())]),
        namespace_labels: Labels::default(),
        annotations: Labels::default(),
        namespace_annotations: Labels::default(),
        node: None,
        host_network: false,
        netns: None,
        ips: vec![address],
        ports: vec![DeclaredPort {
            name: Some("http".into()),
            port: 8080,
            transport: Transport::Tcp,
            application: None,
        }],
        probes: Vec::new(),
    }
}

pub(crate) fn source_address(index: usize) -> IpAddr {
    address(0x0A01_0000, index)
}

pub(crate) fn destination_address(index: usize) -> IpAddr {
    address(0x0A02_0000, index)
}

fn address(base: u32, index: usize) -> IpAddr {
    Ipv4Addr::from(base + index as u32).into()
}
