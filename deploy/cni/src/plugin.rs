//! The commands of the CNI specification. Environment and configuration in, text for standard output out.

use std::time::Duration;

use serde_json::{Value, json};

use crate::configuration::Configuration;
use crate::environment::{Environment, PodName};
use crate::failure::Failure;
use crate::proxy::{self, Trouble};

/// What is spoken, oldest first. A result is passed on as it is, so nothing differs between them but the commands.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", LATEST];
const LATEST: &str = "1.1.0";

/// Runs the command that the environment names.
pub(crate) fn run(environment: &Environment, text: &str) -> Result<String, Failure> {
    match environment.command.as_str() {
        "VERSION" => Ok(format!("{}\n", json!({"cniVersion": version_of(text), "supportedVersions": VERSIONS}))),
        "ADD" => add(environment, &configuration(text, "ADD", "0.3.0")?),
        "CHECK" => check(environment, &configuration(text, "CHECK", "0.4.0")?),
        "DEL" => Ok(delete(environment, &configuration(text, "DEL", "0.3.0")?)),
        "STATUS" => status(&configuration(text, "STATUS", "1.1.0")?),
        // The proxy forgets by itself whose namespace is gone: there is nothing else that could be left behind.
        "GC" => configuration(text, "GC", "1.1.0").map(|_| String::new()),
        other => Err(Failure::environment(format!("CNI_COMMAND: there is no command `{other}`"))),
    }
}

/// The version that the runtime speaks; the latest one where it does not say.
pub(crate) fn version_of(text: &str) -> &'static str {
    let given: Option<Value> = serde_json::from_str(text).ok();
    let given = given.as_ref().and_then(|given| given.get("cniVersion")?.as_str());
    VERSIONS.into_iter().find(|version| Some(*version) == given).unwrap_or(LATEST)
}

/// The configuration, for a command that came with version `since`.
fn configuration<'a>(text: &'a str, command: &str, since: &str) -> Result<Configuration<'a>, Failure> {
    let configuration = Configuration::of(text)?;
    let place = |wanted: &str| VERSIONS.iter().position(|version| *version == wanted);
    let version = &configuration.cni_version;
    match place(version) {
        None => Err(Failure::version(format!("`{version}` is none of {}", VERSIONS.join(", ")))),
        given if given < place(since) => Err(Failure::version(format!("version {version} has no {command}"))),
        _ => Ok(configuration),
    }
}

/// The pod's network is there, and the pod has sent nothing yet.
fn add(environment: &Environment, configuration: &Configuration<'_>) -> Result<String, Failure> {
    environment.check_attachment()?;
    let (netns, pod) = (environment.netns()?, environment.pod()?);
    let previous = configuration.previous()?;
    if !is_exempt(configuration, &pod) {
        let PodName { namespace, name, uid } = pod;
        let mut add = json!({"namespace": namespace, "name": name, "netns": netns, "ips": previous.ips});
        with_uid(&mut add, uid);
        ask(configuration, &json!({"add": add})).map_err(failed)?;
    }
    Ok(previous.told(&configuration.cni_version))
}

fn check(environment: &Environment, configuration: &Configuration<'_>) -> Result<String, Failure> {
    environment.check_attachment()?;
    let (netns, pod) = (environment.netns()?, environment.pod()?);
    configuration.previous()?;
    if !is_exempt(configuration, &pod) {
        let check = json!({"namespace": pod.namespace, "name": pod.name, "netns": netns});
        ask(configuration, &json!({"check": check})).map_err(failed)?;
    }
    Ok(String::new())
}

/// Never fails for the pod's or the proxy's sake: a pod that cannot be taken down would be there for ever. A proxy that
/// does not hear of it forgets the pod when its namespace is gone.
fn delete(environment: &Environment, configuration: &Configuration<'_>) -> String {
    if let Ok(pod) = environment.pod()
        && !is_exempt(configuration, &pod)
    {
        let PodName { namespace, name, uid } = pod;
        let mut delete = json!({"namespace": namespace, "name": name});
        with_uid(&mut delete, uid);
        if let (Some(netns), Some(delete)) = (environment.netns_left(), delete.as_object_mut()) {
            delete.insert("netns".into(), netns.into());
        }
        if let Err(Trouble::Absent(why) | Trouble::Refused(why)) = ask(configuration, &json!({"delete": delete})) {
            crate::complain(&format!("the node proxy was not told that a pod is gone: {why}"));
        }
    }
    String::new()
}

fn status(configuration: &Configuration<'_>) -> Result<String, Failure> {
    match ask(configuration, &json!({"status": {}})) {
        Ok(()) => Ok(String::new()),
        Err(Trouble::Absent(why) | Trouble::Refused(why)) => Err(Failure::limited(why)),
    }
}

fn is_exempt(configuration: &Configuration<'_>, pod: &PodName) -> bool {
    configuration.exempt_namespaces.contains(&pod.namespace)
}

fn with_uid(message: &mut Value, uid: Option<String>) {
    if let (Some(uid), Some(message)) = (uid, message.as_object_mut()) {
        message.insert("uid".into(), uid.into());
    }
}

fn ask(configuration: &Configuration<'_>, request: &Value) -> Result<(), Trouble> {
    proxy::ask(&configuration.socket, Duration::from_secs(configuration.timeout_seconds), request)
}

fn failed(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Absent(why) => Failure::later(why),
        Trouble::Refused(why) => Failure::refused(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 4] = [
        ("CNI_CONTAINERID", "c"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1"),
    ];

    fn called(command: &str, variables: &[(&str, &str)], text: &str) -> Result<String, Failure> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(held, _)| *held == name).map(|(_, value)| (*value).to_owned());
            if name == "CNI_COMMAND" { Some(command.to_owned()) } else { found }
        };
        run(&Environment::of(variable), text)
    }

    /// A configuration whose proxy is not there.
    fn configured(version: &str, more: &str) -> String {
        format!(
            r#"{{"cniVersion":"{version}","name":"n","type":"eastwall-cni","socket":"/nowhere/cni.sock","timeoutSeconds":5{more}}}"#
        )
    }

    const RESULT: &str = r#","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.3/32"}]}"#;

    #[test]
    fn versions_are_told() {
        for (text, expected) in
            [("", LATEST), (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"), (r#"{"cniVersion":"9"}"#, LATEST)]
        {
            let told: Value = serde_json::from_str(&called("VERSION", &[], text).unwrap()).unwrap();
            assert_eq!(told["cniVersion"], expected, "{text}");
            assert_eq!(told["supportedVersions"][4], LATEST);
        }
    }

    #[test]
    fn errors_have_the_codes_of_the_specification() {
        let without = |name| ALL.into_iter().filter(|(held, _)| *held != name).collect::<Vec<_>>();
        let good = configured("1.0.0", RESULT);
        for (command, variables, text, code) in [
            ("ADD", ALL.to_vec(), good.clone(), 11),
            ("CHECK", ALL.to_vec(), good.clone(), 11),
            ("STATUS", vec![], configured("1.1.0", ""), 51),
            ("ADD", without("CNI_CONTAINERID"), good.clone(), 4),
            ("ADD", without("CNI_NETNS"), good.clone(), 4),
            ("ADD", without("CNI_IFNAME"), good.clone(), 4),
            ("ADD", without("CNI_ARGS"), good.clone(), 4),
            ("", ALL.to_vec(), good.clone(), 4),
            ("REMOVE", ALL.to_vec(), good.clone(), 4),
            ("ADD", ALL.to_vec(), configured("1.0.0", ""), 7),
            ("ADD", ALL.to_vec(), "{".into(), 6),
            ("ADD", ALL.to_vec(), configured("0.2.0", RESULT), 1),
            ("ADD", ALL.to_vec(), configured("2.0.0", RESULT), 1),
            ("CHECK", ALL.to_vec(), configured("0.3.1", RESULT), 1),
            ("STATUS", vec![], configured("1.0.0", ""), 1),
            ("GC", vec![], configured("1.0.0", ""), 1),
        ] {
            let failure = called(command, &variables, &text).unwrap_err();
            assert_eq!(failure.code(), code, "{command} {text}: {failure:?}");
            let told: Value = serde_json::from_str(&failure.told("1.0.0")).unwrap();
            assert_eq!((&told["cniVersion"], &told["code"]), (&json!("1.0.0"), &json!(code)));
            assert!(told["msg"].is_string() && told["details"].is_string());
        }
    }

    #[test]
    fn deletion_and_collection_need_no_proxy() {
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            assert_eq!(called("DEL", &ALL, &configured(version, "")).unwrap(), "");
            assert_eq!(called("DEL", &[("CNI_CONTAINERID", "c")], &configured(version, "")).unwrap(), "");
        }
        assert_eq!(called("GC", &[], &configured("1.1.0", r#","cni.dev/valid-attachments":[]"#)).unwrap(), "");
    }

    #[test]
    fn exempt_namespaces_need_no_proxy_and_the_result_is_passed_on() {
        let system = ("CNI_ARGS", "K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=dns");
        let variables: Vec<_> = ALL.into_iter().take(3).chain([system]).collect();
        let told = called("ADD", &variables, &configured("1.0.0", RESULT)).unwrap();
        assert_eq!(told, "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.3/32\"}]}\n");
        let told = called("ADD", &variables, &configured("0.4.0", r#","prevResult":{"dns":{}}"#)).unwrap();
        assert_eq!(told, "{\"cniVersion\":\"0.4.0\",\"dns\":{}}\n");
        assert_eq!(called("CHECK", &variables, &configured("1.0.0", RESULT)).unwrap(), "");
        let none = configured("1.0.0", &format!(r#","exemptNamespaces":[]{RESULT}"#));
        assert_eq!(called("ADD", &variables, &none).unwrap_err().code(), 11);
    }
}
