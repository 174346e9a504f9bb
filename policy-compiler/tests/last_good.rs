//! A refused document keeps its last good version, and what it selects is closed where it never had one.

use std::sync::Arc;

use eastwall_policy::dialect::{Compiled, LastGood, compile_onto};
use eastwall_policy::model::{Atom, Expr, PeerAtom, Tier};
use eastwall_policy::settings::MinimumProof;
use eastwall_policy::source::{Sources, parse};

const HEAD: &str = "apiVersion: eastwall.dev/v1alpha1\nkind: FirewallPolicy\n";

fn policy(name: &str, body: &str) -> String {
    format!(
        "{HEAD}metadata: {{name: {name}, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: {name}}}]\n  {body}\n"
    )
}

fn file(name: &str, text: &str) -> Sources {
    let text: Arc<str> = text.into();
    parse(name, &text)
}

fn names(compiled: &Compiled) -> Vec<(String, bool)> {
    compiled.model.policies.iter().map(|policy| (policy.name.name.to_string(), policy.broken)).collect()
}

fn good() -> (Compiled, LastGood) {
    let sources = file(
        "a.yaml",
        &format!("{}---\n{}", policy("orders", "directions: [Ingress]"), policy("web", "directions: [Egress]")),
    )
    .and(file("b.yaml", &policy("db", "directions: [Ingress]")));
    let compiled = compile_onto(&sources, &LastGood::default());
    assert!(!compiled.has_errors());
    let last_good = LastGood::of(&compiled);
    (compiled, last_good)
}

#[test]
fn a_refused_document_keeps_its_last_good_version_alone() {
    let (_, last_good) = good();
    let text = format!("{}---\n{}", policy("orders", "direction: [Ingress]"), policy("web", "directions: [Ingress]"));
    let compiled = compile_onto(&file("a.yaml", &text), &last_good);
    assert_eq!(names(&compiled), [("orders".to_owned(), false), ("web".to_owned(), false)]);
    let of = |name: &str| compiled.model.policies.iter().find(|policy| &*policy.name.name == name).unwrap();
    assert!(of("orders").closes.inbound);
    assert!(of("web").closes.inbound && !of("web").closes.outbound, "the other document is the new one");
    assert_eq!(compiled.refused.len(), 1);
    // It stays so for as long as the document is broken, and goes when the document goes.
    let again = compile_onto(&file("a.yaml", &text), &LastGood::of(&compiled));
    assert_eq!(names(&again), names(&compiled));
    let gone = compile_onto(&file("a.yaml", &policy("web", "directions: [Ingress]")), &LastGood::of(&again));
    assert_eq!(names(&gone), [("web".to_owned(), false)]);
}

#[test]
fn a_document_that_cannot_say_who_it_is_keeps_all_that_its_file_held() {
    let (_, last_good) = good();
    for text in ["{", "kind: [", "\u{1}"] {
        let compiled = compile_onto(&file("a.yaml", text), &last_good);
        assert_eq!(names(&compiled), [("orders".to_owned(), false), ("web".to_owned(), false)], "{text:?}");
    }
    // A file that is there and cannot be read is no deleted file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, policy("orders", "directions: [Ingress]")).unwrap();
    let read = || eastwall_policy::source::read(&[folder.path().to_owned()]);
    let before = LastGood::of(&compile_onto(&read(), &LastGood::default()));
    std::fs::write(&path, b"\xff").unwrap();
    assert_eq!(names(&compile_onto(&read(), &before)), [("orders".to_owned(), false)]);
}

#[test]
fn a_broken_list_keeps_what_stood_behind_the_error() {
    let item =
        |name: &str| format!("- {}", policy(name, "directions: [Ingress]").trim_end().replace('\n', "\n  ") + "\n");
    let list = |middle: &str| {
        let items = [item("db"), middle.to_owned(), item("web")].concat();
        format!("apiVersion: v1\nkind: List\nitems:\n{items}")
    };
    let compiled = compile_onto(&file("a.yaml", &list(&item("orders"))), &LastGood::default());
    assert!(!compiled.has_errors(), "{:?}", compiled.diagnostics);
    let broken = compile_onto(&file("a.yaml", &list("- [\n")), &LastGood::of(&compiled));
    assert_eq!(names(&broken), [("db".to_owned(), false), ("orders".to_owned(), false), ("web".to_owned(), false)]);
    let never = compile_onto(&file("a.yaml", &list("- [\n")), &LastGood::default());
    assert!(never.model.policies.iter().any(|policy| policy.broken && policy.subject == Expr::True));
}

#[test]
fn what_never_was_good_is_closed() {
    let subject = |text: &str| {
        let compiled = compile_onto(&file("c.yaml", text), &LastGood::default());
        assert!(compiled.has_errors());
        assert_eq!(compiled.model.policies.len(), 1, "{text}");
        let policy = &compiled.model.policies[0];
        assert!(policy.broken && policy.closes.inbound && policy.closes.outbound);
        (policy.tier, policy.subject.clone())
    };
    let namespace = Expr::Is(Atom::Subject(PeerAtom::Namespace("shop".into())));
    let account = Expr::Is(Atom::Subject(PeerAtom::ServiceAccount("orders".into())));
    let both = Expr::All(vec![namespace.clone(), account]);
    assert_eq!(subject(&policy("orders", "direction: [Ingress]")), (Tier::Application, both.clone()));
    assert_eq!(subject(&policy("orders", "ingress: [")), (Tier::Application, both));
    let cut = format!("{HEAD}metadata: {{name: a, namespace: shop}}\nspec:\n  subject: [{{serviceAccount: a}}, {{");
    assert_eq!(subject(&cut), (Tier::Application, namespace.clone()));
    assert_eq!(
        subject(&format!("{HEAD}metadata: {{name: a, namespace: shop}}\nspec: 7")),
        (Tier::Application, namespace)
    );
    assert_eq!(subject("{").1, Expr::True);
    assert_eq!(
        subject("apiVersion: eastwall.dev/v1alpha1\nkind: ClusterFirewallPolicy\nmetadata: {name: a}\nspec: 7"),
        (Tier::Admin, Expr::True)
    );
}

#[test]
fn what_never_would_have_acted_closes_nothing() {
    for text in [
        policy("orders", "mode: Audit\n  direction: [Ingress]"),
        "apiVersion: eastwall.dev/v1alpha1\nkind: PolicyTest\nmetadata: {name: a, namespace: b}\nspec: 7\n".to_owned(),
    ] {
        let compiled = compile_onto(&file("c.yaml", &text), &LastGood::default());
        assert!(compiled.has_errors() && compiled.model.policies.is_empty(), "{text}");
    }
}

#[test]
fn a_name_that_stands_twice_is_neither() {
    let twice =
        format!("{}---\n{}", policy("orders", "directions: [Ingress]"), policy("orders", "directions: [Egress]"));
    let compiled = compile_onto(&file("c.yaml", &twice), &LastGood::default());
    assert_eq!(names(&compiled), [("orders".to_owned(), true), ("orders".to_owned(), true)]);
    let (_, last_good) = good();
    let compiled = compile_onto(&file("a.yaml", &twice), &last_good);
    assert_eq!(names(&compiled), [("orders".to_owned(), false)]);
}

#[test]
fn lost_settings_are_the_last_ones_or_close_everything() {
    let settings = "apiVersion: eastwall.dev/v1alpha1\nkind: DialectSettings\nmetadata: {name: cluster}\nspec: {native: {minimumProof: MutualTLS}}\n";
    let broken = settings.replace("MutualTLS", "Mutual");
    let never = compile_onto(&file("s.yaml", &broken), &LastGood::default());
    assert!(never.model.policies.iter().any(|policy| policy.broken && policy.subject == Expr::True));
    let still = compile_onto(&file("s.yaml", &broken), &LastGood::of(&never));
    assert!(still.model.policies.iter().any(|policy| policy.broken), "the defaults are nobody's choice");
    let before = LastGood::of(&compile_onto(&file("s.yaml", settings), &LastGood::default()));
    let kept = compile_onto(&file("s.yaml", &broken), &before);
    assert!(kept.model.policies.is_empty());
    assert_eq!(kept.model.settings.minimum_proof, MinimumProof::MutualTls);
    let deleted = compile_onto(&Sources::default(), &before);
    assert_eq!(deleted.model.settings.minimum_proof, MinimumProof::Address);
}

/// Istio's and Linkerd's kind of one name, in one namespace and of one name.
mod of_two_groups {
    use super::*;

    fn istio(field: &str) -> String {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: orders, namespace: shop}}\nspec: {{{field}}}\n"
        )
    }

    fn linkerd(field: &str) -> String {
        format!(
            "apiVersion: policy.linkerd.io/v1beta3\nkind: Server\nmetadata: {{name: orders, namespace: shop}}\nspec: {{podSelector: {{}}, port: 8080}}\n---\n\
             apiVersion: policy.linkerd.io/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: orders, namespace: shop}}\n\
             spec: {{targetRef: {{group: policy.linkerd.io, kind: Server, name: orders}}, {field}}}\n"
        )
    }

    const EVERYBODY: &str = "requiredAuthenticationRefs: []";

    fn text(of: &Compiled, kind: &str) -> Vec<String> {
        let own = of.model.policies.iter().filter(|policy| &*policy.name.kind == kind);
        own.map(|policy| format!("{:?} {:?}", policy.broken, policy.rules)).collect()
    }

    #[test]
    fn each_keeps_its_own_last_good_version() {
        let both = compile_onto(
            &file("a.yaml", &format!("{}---\n{}", istio("rules: [{}]"), linkerd(EVERYBODY))),
            &LastGood::default(),
        );
        assert!(!both.has_errors(), "neither is a second document: {:?}", both.diagnostics);
        assert_eq!((text(&both, "AuthorizationPolicy").len(), text(&both, "Server").len()), (1, 1));
        let last_good = LastGood::of(&both);

        let broken = format!("{}---\n{}", istio("rulez: [{}]"), linkerd(EVERYBODY));
        let kept = compile_onto(&file("a.yaml", &broken), &last_good);
        assert_eq!(kept.refused.len(), 1);
        assert_eq!(text(&kept, "AuthorizationPolicy"), text(&both, "AuthorizationPolicy"));
        assert_eq!(text(&kept, "Server"), text(&both, "Server"));

        let broken = format!("{}---\n{}", istio("action: DENY, rules: [{}]"), linkerd("requiredAuthentication: []"));
        let kept = compile_onto(&file("a.yaml", &broken), &last_good);
        assert_ne!(text(&kept, "AuthorizationPolicy"), text(&both, "AuthorizationPolicy"), "Istio's is the new one");
        assert_eq!(text(&kept, "AuthorizationPolicy").len(), 1);
        assert_eq!(text(&kept, "Server"), text(&both, "Server"), "with what the broken document said last");
    }

    #[test]
    fn one_that_cannot_tell_its_group_brings_no_old_version_back_beside_a_new_one() {
        let last_good = LastGood::of(&compile_onto(&file("a.yaml", &istio("rules: [{}]")), &LastGood::default()));
        let closed = istio("action: DENY, rules: [{}]");
        for stranger in [
            "kind: AuthorizationPolicy\nmetadata: {name: orders, namespace: shop}\nspec: [\n".to_owned(),
            istio("").replace("istio.io/v1", "istio.io/v9"),
        ] {
            let compiled = compile_onto(&file("a.yaml", &format!("{closed}---\n{stranger}")), &last_good);
            let own: Vec<_> = compiled.model.policies.iter().filter(|policy| !policy.broken).collect();
            assert_eq!(own.len(), 1, "{stranger}: {own:?}");
            assert!(own[0].rules.iter().any(|rule| rule.effect == eastwall_policy::model::Effect::Deny), "the new one");
            assert!(
                compiled.model.policies.iter().any(|policy| policy.broken),
                "nobody knows what it would have denied"
            );
        }
    }
}
