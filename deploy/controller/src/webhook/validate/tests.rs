use serde_json::{Value, json};

use super::*;
use crate::cluster::{Change, Store};
use crate::policies::tests::{good, object, pod, policies, policy};

fn view(objects: Vec<crate::cluster::Object>) -> Arc<View> {
    let store = Store::default();
    let somebody = pod("web", "web", "10.0.0.9");
    store.apply(objects.into_iter().chain([somebody]).map(Change::Put));
    policies().view(&store.load())
}

fn request(operation: &str, object: &Value) -> AdmissionRequest<DynamicObject> {
    let (group, version) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    let (new, old) = if operation == "DELETE" { (&Value::Null, object) } else { (object, &Value::Null) };
    serde_json::from_value(json!({
        "uid": "1", "kind": {"group": group, "version": version, "kind": object["kind"]},
        "resource": {"group": group, "version": version, "resource": "x"},
        "namespace": object["metadata"]["namespace"].as_str(), "name": object["metadata"]["name"].as_str().unwrap_or_default(), "operation": operation,
        "userInfo": {}, "object": new, "oldObject": old,
    }))
    .unwrap()
}

fn create(view: &View, rule: Value) -> Judgement {
    judge(view, request("CREATE", &policy(1, rule).value))
}

#[test]
fn a_good_policy_passes_and_a_wrong_one_is_refused_by_field() {
    let view = view(vec![pod("a", "orders", "10.0.0.2")]);
    assert_eq!(create(&view, good()), Judgement::default());
    let refused = create(&view, json!({"from": [{"any": true}], "http": [{"metods": ["GET"]}]}));
    let refusal = refused.refusal.unwrap();
    assert!(refusal.starts_with("firewallpolicy.eastwall.dev/shop/orders: the compiler refuses it\n"), "{refusal}");
    assert!(
        refusal.contains("\nspec.ingress[0].http[0].metods: unknown field `metods` [EW0201]; did you mean `methods`?"),
        "{refusal}"
    );
}

#[test]
fn what_selects_nobody_passes_with_a_warning() {
    let judged = create(&view(vec![pod("a", "order", "10.0.0.2")]), good());
    assert_eq!(judged.refusal, None);
    assert!(judged.warnings.iter().any(|warning| warning.starts_with("spec.subject[0]")), "{judged:?}");
}

#[test]
fn a_service_that_is_not_there_yet_is_told_and_no_reason_to_refuse() {
    let mut value = (*policy(1, good()).value).clone();
    value["spec"]["egress"] = json!([{"to": [{"service": "nobody"}], "tcp": {}}]);
    let judged = judge(&view(vec![pod("a", "orders", "10.0.0.2")]), request("CREATE", &value));
    assert_eq!(judged.refusal, None);
    let expected = "spec.egress[0].to[0].service: there is no Service `shop/nobody` [EW0403]";
    assert!(judged.warnings.iter().any(|warning| warning.starts_with(expected)), "{judged:?}");
}

#[test]
fn an_update_is_judged_instead_of_what_is_there() {
    let broken = policy(1, json!({"tpc": {}}));
    let view = view(vec![broken, pod("a", "orders", "10.0.0.2")]);
    let judged = judge(&view, request("UPDATE", &policy(2, good()).value));
    assert_eq!(judged.refusal, None, "it mends the broken one, and is no second one");
    let opens = "this OPENS egress of `shop/a`: no other policy closes it";
    assert_eq!(judged.warnings, [opens], "the broken one closed both directions");
}

#[test]
fn what_opens_a_direction_is_told() {
    let view = view(vec![policy(1, good()), pod("a", "orders", "10.0.0.2")]);
    let opens = "this OPENS ingress of `shop/a`: no other policy closes it";
    let deleted = judge(&view, request("DELETE", &policy(1, good()).value));
    assert_eq!(deleted, Judgement { refusal: None, warnings: vec![opens.to_owned()] });
    let mut audit = (*policy(2, good()).value).clone();
    audit["spec"]["mode"] = "Audit".into();
    let audited = judge(&view, request("UPDATE", &audit));
    assert!(audited.warnings.contains(&opens.to_owned()), "{audited:?}");
}

#[test]
fn what_another_policy_closes_too_is_not_opened() {
    let mut second = (*policy(1, good()).value).clone();
    second["metadata"]["name"] = "second".into();
    let view = view(vec![policy(1, good()), object(second), pod("a", "orders", "10.0.0.2")]);
    assert_eq!(judge(&view, request("DELETE", &policy(1, good()).value)), Judgement::default());
}

#[test]
fn a_name_that_is_yet_to_be_made_up() {
    let mut value = (*policy(1, good()).value).clone();
    value["metadata"] = json!({"generateName": "orders-", "namespace": "shop"});
    let judged = judge(&view(vec![pod("a", "orders", "10.0.0.2")]), request("CREATE", &value));
    assert_eq!(judged, Judgement::default());
}

#[test]
fn an_emergency_begins_when_it_is_made() {
    let end = jiff::Timestamp::now().as_second() + 3600;
    let glass = |hours: i64| {
        json!({
            "apiVersion": "eastwall.dev/v1alpha1", "kind": "BreakGlass", "metadata": {"name": "fire"},
            "spec": {
                "subject": [{"any": true}], "reason": "the payment service is down",
                "expires": jiff::Timestamp::from_second(end + (hours - 1) * 3600).unwrap().to_string(),
            },
        })
    };
    let view = view(vec![pod("a", "orders", "10.0.0.2")]);
    assert_eq!(judge(&view, request("CREATE", &glass(1))).refusal, None);
    let refusal = judge(&view, request("CREATE", &glass(9))).refusal.unwrap();
    assert!(refusal.contains("spec.expires: it has to end within 4 hours"), "{refusal}");
}

#[test]
fn long_and_many_warnings_are_bounded() {
    let response = AdmissionResponse::from(&request("CREATE", &policy(1, good()).value));
    let warnings = vec!["é".repeat(1_000); 50];
    let told = Judgement { refusal: None, warnings }.onto(response).warnings.unwrap();
    assert_eq!(told.len(), MOST + 1);
    assert!(told.iter().all(|warning| warning.chars().count() <= LONGEST + 1));
    assert!(told[MOST].starts_with("40 more"), "{}", told[MOST]);
}
