//! A refusal of the past, explained: what was logged, and what the table in force says of the same request now.

use eastwall_policy::analysis::explain;
use eastwall_policy::flow::Question;
use eastwall_policy::world::World;
use serde_json::{Map, Value, json};

/// The logged line, beside the account of the table in force.
pub(super) fn account(world: &World, line: &str) -> Value {
    let decision: Value = serde_json::from_str(line).unwrap_or_default();
    match again(world, &decision) {
        Ok((account, text)) => json!({"decision": decision, "now": account, "text": text}),
        Err(why) => json!({"decision": decision, "now": null, "text": why}),
    }
}

/// Judges the request again, as far as it was kept: headers and query are not, since they may hold secrets.
fn again(world: &World, decision: &Value) -> Result<(Value, String), String> {
    let question = question(decision).ok_or("the request had bytes that cannot be asked about again\n")?;
    let now = jiff::Timestamp::now().as_second();
    let told = Question::from_json(&question)
        .and_then(|question| explain::explain(world, &question, now))
        .map_err(|error| format!("the request cannot be judged again: {error}\n"))?;
    let account = serde_json::to_value(&told).map_err(|error| format!("the account cannot be written: {error}\n"))?;
    Ok((account, told.to_string()))
}

/// The members of `decide`, from the names of the access log.
fn question(decision: &Value) -> Option<Value> {
    let mut question = Map::new();
    for (to, from) in [
        ("direction", "direction"),
        ("protocol", "protocol"),
        ("method", "http.request.method"),
        ("path", "url.path"),
        ("sni", "tls.client.server_name"),
    ] {
        if let Some(value) = decision.get(from) {
            // What was escaped or cut for the log is not what came over the wire.
            if value.as_str()?.contains(['\\', '…']) {
                return None;
            }
            question.insert(to.into(), value.clone());
        }
    }
    if question.contains_key("method") {
        question.insert("host".into(), decision.get("server.address")?.clone());
    }
    let mut source = json!({"ip": decision.get("client.address")?});
    if let (Some(source), Some(principal)) = (source.as_object_mut(), decision.get("principal")) {
        source.insert("principal".into(), principal.clone());
    }
    question.insert("src".into(), source);
    question.insert(
        "dst".into(),
        json!({"ip": decision.get("destination.address")?, "port": decision.get("destination.port")?}),
    );
    Some(question.into())
}
