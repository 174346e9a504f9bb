//! The conditions of one policy: `Accepted`, `Programmed` and, where it protects workloads, `Selecting`.

use eastwall_policy::dialect::name_of;
use eastwall_policy::model::Expr;
use eastwall_policy::registry::Workload;
use serde_json::{Map, Value, json};

use super::Progress;
use super::unprotected::{self, Unprotected};
use crate::cluster::Object;
use crate::policies::{View, file, line};

/// The status that it should have, without times.
pub(super) fn status(
    object: &Object,
    view: &View,
    progress: Option<&Progress>,
    unprotected: &[Unprotected<'_>],
) -> Value {
    let file = file(&object.key);
    let document = view.document(&file);
    let is_refused = document.is_none_or(|document| view.is_refused(document));
    let lines: Vec<String> = view.findings(&file).iter().map(|finding| line(finding, document)).collect();
    let accepted = if is_refused {
        let stays = match view.in_force.get(&file) {
            // Nothing stands in for an emergency: it is over.
            _ if &*object.key.kind == EMERGENCY => "it opens nothing".to_owned(),
            Some(generation) => format!("generation {generation} stays in force"),
            None => "it never was in force: what it selects is closed".to_owned(),
        };
        ("Accepted", "False", "Refused", format!("{stays}\n{}", lines.join("\n")))
    } else if lines.is_empty() {
        ("Accepted", "True", "Compiled", "the compiler took it".to_owned())
    } else {
        ("Accepted", "True", "CompiledWithFindings", lines.join("\n"))
    };
    let subjects = document.map(|document| subjects(view, document)).unwrap_or_default();
    let mut programmed = programmed(object, is_refused, progress);
    // An emergency opens, and needs no proxy for that.
    if !is_refused && &*object.key.kind != EMERGENCY {
        let is_selected = |one: &&Unprotected<'_>| subjects.iter().any(|subject| subject.selects(one.workload));
        let selected: Vec<Unprotected<'_>> = unprotected.iter().filter(is_selected).copied().collect();
        programmed = with_pods(programmed, &selected);
    }
    let mut conditions = vec![accepted, programmed];
    let mut status = Map::new();
    status.insert("observedGeneration".into(), object.generation.into());
    // Settings select nobody.
    if &*object.key.kind != SETTINGS {
        let is_selected = |workload: &&Workload| subjects.iter().any(|subject| subject.selects(workload));
        let count = view.registry.workloads.iter().filter(is_selected).count();
        status.insert("selectedWorkloads".into(), count.into());
        conditions.push(selecting(count));
    }
    let conditions = conditions.into_iter().map(|(condition, holds, reason, message)| {
        json!({
            "type": condition, "status": holds, "reason": reason, "message": shortened(&message),
            "observedGeneration": object.generation,
        })
    });
    status.insert("conditions".into(), conditions.collect());
    Value::Object(status)
}

type Condition = (&'static str, &'static str, &'static str, String);

fn programmed(object: &Object, is_refused: bool, progress: Option<&Progress>) -> Condition {
    let (holds, reason, message) = match progress {
        _ if is_refused => ("False", "NotAccepted", "a policy that is refused reaches no proxy".to_owned()),
        Some(Progress { silent, .. }) if !silent.is_empty() => {
            let message = format!("these controllers have not said yet how their proxies stand: {}", silent.join(", "));
            ("Unknown", "Pending", message)
        }
        Some(progress) if progress.proxies > 0 && progress.generation != object.generation => {
            ("Unknown", "Pending", format!("{} proxies are about to be told", progress.proxies))
        }
        Some(Progress { proxies, behind: 0, .. }) if *proxies > 0 => {
            ("True", "InForce", format!("in force in all of {proxies} proxies"))
        }
        Some(Progress { proxies, behind, named, .. }) if *proxies > 0 => {
            let more = if *behind > named.len() { " …" } else { "" };
            ("False", "Behind", format!("{behind} of {proxies} proxies are behind: {}{more}", named.join(", ")))
        }
        _ => ("Unknown", "NoProxies", "no connected proxy is concerned".to_owned()),
    };
    ("Programmed", holds, reason, message)
}

/// Where pods that it selects have no proxy it is not in force there, whatever the proxies say that there are.
fn with_pods(programmed: Condition, unprotected: &[Unprotected<'_>]) -> Condition {
    let (condition, holds, reason, message) = programmed;
    if unprotected.is_empty() {
        return (condition, holds, reason, message);
    }
    let count = unprotected.len();
    let message = format!(
        "{message}; {count} of the pods that it selects {} no proxy: {}",
        if count == 1 { "has" } else { "have" },
        unprotected::names(unprotected)
    );
    // Who is behind, or silent, may change that.
    let reason = if matches!(reason, "InForce" | "NoProxies") { "PodsWithoutProxy" } else { reason };
    (condition, if holds == "Unknown" && reason == "Pending" { "Unknown" } else { "False" }, reason, message)
}

fn selecting(count: usize) -> Condition {
    let (holds, reason, message) = match count {
        0 => (
            "False",
            "NoWorkload",
            "no workload matches `spec.subject`: is a label, a name or the namespace misspelt?".to_owned(),
        ),
        1 => ("True", "Workloads", "it protects 1 workload".to_owned()),
        count => ("True", "Workloads", format!("it protects {count} workloads")),
    };
    ("Selecting", holds, reason, message)
}

/// Whom it protects, by the version that is in force.
fn subjects<'v>(view: &'v View, document: &eastwall_policy::source::Document) -> Vec<&'v Expr> {
    let (name, model) = (name_of(document), &view.compiled.model);
    let policies = model.policies.iter().filter(|policy| policy.name == name).map(|policy| &policy.subject);
    let emergencies = model.break_glass.iter().filter(|glass| glass.name == name).map(|glass| &glass.subject);
    policies.chain(emergencies).collect()
}

/// Whether a status says something else than the wanted one, times aside.
pub(super) fn differs(current: Option<&Value>, wanted: &Value) -> bool {
    let Some(current) = current else { return true };
    let same = |member: &str| current.get(member) == wanted.get(member);
    let is_same_condition = |wanted: &Value| {
        let held = condition(Some(current), wanted.get("type")).and_then(Value::as_object);
        held.is_some_and(|held| {
            let mut held = held.clone();
            held.remove("lastTransitionTime");
            Some(&held) == wanted.as_object()
        })
    };
    !(same("observedGeneration") && same("selectedWorkloads") && conditions(Some(wanted)).all(is_same_condition))
}

/// The wanted status with its times: a condition that holds as before keeps the time of its last change.
pub(super) fn with_times(current: Option<&Value>, wanted: &Value, now: jiff::Timestamp) -> Value {
    // SPEC: `metav1.Time` has whole seconds.
    let now = Value::from(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string());
    let mut status = wanted.clone();
    for condition_of in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let held = condition(current, condition_of.get("type"));
        let time = held.filter(|held| held.get("status") == condition_of.get("status"));
        let time = time.and_then(|held| held.get("lastTransitionTime")).cloned().unwrap_or_else(|| now.clone());
        if let Some(members) = condition_of.as_object_mut() {
            members.insert("lastTransitionTime".into(), time);
        }
    }
    status
}

fn conditions(status: Option<&Value>) -> impl Iterator<Item = &Value> {
    status.and_then(|status| status.get("conditions")?.as_array()).into_iter().flatten()
}

fn condition<'v>(status: Option<&'v Value>, of: Option<&Value>) -> Option<&'v Value> {
    conditions(status).find(|condition| condition.get("type") == of)
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

/// The kind that opens what policies close.
const EMERGENCY: &str = "BreakGlass";

/// The kind that protects nobody.
const SETTINGS: &str = "DialectSettings";

/// Characters of a message; the definition takes 32,768.
const LONGEST: usize = 8_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Change, Store};
    use crate::policies::tests::{good, pod, policies, policy};
    use crate::uncovered::{Lack, Uncovered};

    fn told(rule: Value, label: &str, progress: Option<&Progress>) -> (Value, Vec<String>) {
        let (store, policies) = (Store::default(), policies());
        let object = policy(3, rule);
        store.apply([Change::Put(object.clone()), Change::Put(pod("a", label, "10.0.0.2"))]);
        let status = status(&object, &policies.view(&store.load()), progress, &[]);
        let text = |condition: &Value, member: &str| condition[member].as_str().unwrap().to_owned();
        let all = conditions(Some(&status))
            .map(|one| format!("{}={} {}", text(one, "type"), text(one, "status"), text(one, "reason")));
        let all = all.collect();
        (status, all)
    }

    #[test]
    fn a_good_policy() {
        let (status, conditions) = told(good(), "orders", None);
        assert_eq!(conditions, ["Accepted=True Compiled", "Programmed=Unknown NoProxies", "Selecting=True Workloads"]);
        assert_eq!((&status["selectedWorkloads"], &status["observedGeneration"]), (&json!(1), &json!(3)));
    }

    #[test]
    fn a_label_that_nobody_has_and_a_misspelt_field() {
        assert_eq!(told(good(), "order", None).1[2], "Selecting=False NoWorkload");
        let (status, conditions) = told(json!({"from": [{"any": true}], "tpc": {}}), "orders", None);
        assert_eq!(conditions[..2], ["Accepted=False Refused", "Programmed=False NotAccepted"]);
        let message = status["conditions"][0]["message"].as_str().unwrap();
        assert!(
            message.contains("what it selects is closed\n") && message.contains("\nspec.ingress[0].tpc: unknown field"),
            "{message}"
        );
    }

    #[test]
    fn proxies_that_are_behind_are_named() {
        let mut progress = Progress { generation: 3, ..Progress::default() };
        progress.add(None);
        assert_eq!(told(good(), "orders", Some(&progress)).1[1], "Programmed=True InForce");
        for number in 0..6 {
            progress.add(Some(&format!("node-{number}").into()));
        }
        let (status, conditions) = told(good(), "orders", Some(&progress));
        assert_eq!(conditions[1], "Programmed=False Behind");
        let expected = "6 of 7 proxies are behind: node-0, node-1, node-2, node-3, node-4 …";
        assert_eq!(status["conditions"][1]["message"], expected);
        progress.generation = 2;
        assert_eq!(told(good(), "orders", Some(&progress)).1[1], "Programmed=Unknown Pending", "of an older one");
        progress.silent = vec!["b".into()];
        let (status, _) = told(good(), "orders", Some(&progress));
        let expected = "these controllers have not said yet how their proxies stand: b";
        assert_eq!(status["conditions"][1]["message"], expected);
    }

    #[test]
    fn pods_without_a_proxy_are_named() {
        let (store, policies) = (Store::default(), policies());
        let object = policy(3, good());
        let pods = (0..7).map(|number| Change::Put(pod(&format!("p{number}"), "orders", &format!("10.0.0.{number}"))));
        store.apply(pods.chain([Change::Put(object.clone()), Change::Put(pod("other", "other", "10.0.0.9"))]));
        let view = policies.view(&store.load());
        let mut uncovered = Uncovered::from([(("shop".into(), "other".into()), Lack::NoProxy)]);
        let programmed = |uncovered: &Uncovered, progress: &Progress| {
            let unprotected = unprotected::of(&view, uncovered);
            let status = status(&object, &view, Some(progress), &unprotected);
            let one = &status["conditions"][1];
            ["status", "reason", "message"].map(|member| one[member].as_str().unwrap().to_owned())
        };
        let mut progress = Progress { generation: 3, ..Progress::default() };
        progress.add(None);
        assert_eq!(programmed(&uncovered, &progress)[..2], ["True", "InForce"], "nobody's policy selects it");
        uncovered.extend([(("shop".into(), "p1".into()), Lack::NotCaptured)]);
        let [status, reason, message] = programmed(&uncovered, &progress);
        assert_eq!([status, reason], ["False", "PodsWithoutProxy"]);
        let expected =
            "in force in all of 1 proxies; 1 of the pods that it selects has no proxy: shop/p1 (not-captured)";
        assert_eq!(message, expected);
        uncovered.extend((0..7).map(|number| (("shop".into(), format!("p{number}").into()), Lack::NoProxy)));
        assert!(programmed(&uncovered, &progress)[2].ends_with("shop/p4 (no-proxy) …"));
        let counts = unprotected::counts(&unprotected::of(&view, &uncovered));
        assert_eq!(counts, [(("shop".to_owned(), "no-proxy"), 7)].into());
        progress.silent = vec!["b".into()];
        assert_eq!(programmed(&uncovered, &progress)[..2], ["Unknown", "Pending"]);
        let asks = Uncovered::from([(("shop".into(), "other".into()), Lack::NoSidecar)]);
        assert_eq!(unprotected::of(&view, &asks).len(), 1, "it asks for a sidecar");
    }

    #[test]
    fn only_a_change_is_written_and_a_time_stays() {
        let (first, _) = told(good(), "orders", None);
        let then = jiff::Timestamp::from_second(1_000).unwrap();
        let written = with_times(None, &first, then);
        assert!(!differs(Some(&written), &first) && differs(None, &first));
        let (second, _) = told(good(), "order", None);
        assert!(differs(Some(&written), &second));
        let later = with_times(Some(&written), &second, jiff::Timestamp::from_second(2_000).unwrap());
        let times: Vec<&str> =
            conditions(Some(&later)).map(|one| one["lastTransitionTime"].as_str().unwrap()).collect();
        assert_eq!(times, ["1970-01-01T00:16:40Z", "1970-01-01T00:16:40Z", "1970-01-01T00:33:20Z"]);
    }
}
