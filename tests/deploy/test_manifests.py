"""What the kustomizations of deploy/ make: every overlay renders, is held together, has the privileges that it needs and no more, and its policies keep
names, probes and the system alive."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from kustomization import render

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
PACK = DEPLOY / "packs" / "cluster-doors"
EASTWALL = os.environ.get("EASTWALL", str(ROOT / "target" / "release" / "eastwall"))
VERSION = re.search(r'^version = "(.+)"$', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
OVERLAYS = sorted(path.name for path in (DEPLOY / "overlays").iterdir())
ENFORCED = [name for name in OVERLAYS if name != "audit-only"]
KUSTOMIZATIONS = sorted(path.parent for path in DEPLOY.rglob("kustomization.yaml"))
# Who may have which capability, as docs/interception.md says.
CAPABILITIES = {"eastwall-node": {"NET_ADMIN", "SYS_ADMIN"}, "eastwall-uninstall": {"NET_ADMIN", "SYS_ADMIN"}}
KUBECTL = shutil.which("kubectl", path=os.pathsep.join(filter(None, [os.environ.get("KUBEBUILDER_ASSETS"), os.environ.get("PATH")])))


def by_name(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def eastwall(*words: str, text: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([EASTWALL, *words], input=text, capture_output=True, text=True)


def overlay(name: str) -> list[dict]:
    return render(DEPLOY / "overlays" / name)


def everything() -> list[tuple[str, dict]]:
    return [(by_name(folder), each) for folder in KUSTOMIZATIONS for each in render(folder)]


def templates(objects: list[dict]) -> list[tuple[str, dict]]:
    return [(each["metadata"]["name"], each["spec"]["template"]) for each in objects if "template" in each.get("spec", {})]


def containers(template: dict) -> list[dict]:
    return template["spec"].get("initContainers", []) + template["spec"]["containers"]


ALL = everything()
TEMPLATES = {f"{where}:{name}": (name, template) for where, each in ALL for name, template in templates([each])}


def test_there_is_what_the_description_names():
    assert OVERLAYS == ["audit-only", "both", "node", "sidecar"]


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=by_name)
def test_no_file_is_left_out(folder):
    files = {path.name for path in folder.iterdir() if path.suffix in (".yaml", ".json")} - {"kustomization.yaml"}
    assert files <= set(yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"])


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=by_name)
def test_kubectl_renders_the_same(folder):
    """Without kubectl: that it renders at all."""
    ours = render(folder)
    if KUBECTL is None or "Kustomize Version: v5" not in subprocess.run([KUBECTL, "version", "--client"], capture_output=True, text=True).stdout:
        return
    done = subprocess.run([KUBECTL, "kustomize", str(folder)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

    def by_identity(objects):
        return {(each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each for each in objects}

    assert by_identity(yaml.safe_load_all(done.stdout)) == by_identity(ours)


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_object_is_there_twice_and_each_has_its_namespace(name):
    objects = overlay(name)
    identities = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(identities)) == len(identities)
    namespaces = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    assert {namespace for _, namespace, _ in identities if namespace} == namespaces


@pytest.mark.parametrize("where", TEMPLATES)
def test_containers_have_what_they_need_and_no_more(where):
    name, template = TEMPLATES[where]
    spec = template["spec"]
    assert spec.get("automountServiceAccountToken", True) is False or name == "eastwall-controller"
    assert not spec.get("hostNetwork") and not spec.get("hostPID") and not spec.get("hostIPC")
    for container in containers(template):
        context = spec.get("securityContext", {}) | container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False and context["readOnlyRootFilesystem"] is True, container["name"]
        assert context["seccompProfile"] == {"type": "RuntimeDefault"} and not context.get("privileged")
        assert context["capabilities"]["drop"] == ["ALL"]
        added = set(context["capabilities"].get("add", []))
        assert added in (set(), CAPABILITIES.get(name)), container["name"]
        # Root is only who has capabilities, and who writes to root's folders of CNI plugins.
        assert (context["runAsUser"] == 0) == bool(added or container["name"] == "cni") and (context.get("runAsNonRoot") is True) == (context["runAsUser"] != 0)
        assert container["resources"]["limits"]["memory"] and container["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("where", TEMPLATES)
def test_of_the_node_only_netns_and_the_plugins_folders_are_mounted(where):
    _, template = TEMPLATES[where]
    paths = {volume["hostPath"]["path"] for volume in template["spec"].get("volumes", []) if "hostPath" in volume}
    assert paths <= {"/run/netns", "/run/eastwall/cni", "/opt/cni/bin", "/etc/cni/net.d"}
    for container in containers(template):
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted <= {volume["name"] for volume in template["spec"].get("volumes", [])}, container["name"]


@pytest.mark.parametrize("where", TEMPLATES)
def test_images_have_a_version_and_ours_is_this_one(where):
    for container in containers(TEMPLATES[where][1]):
        name, _, tag = container["image"].rpartition(":")
        assert "/" in name and tag and tag != "latest", container["image"]
        if name.startswith("ghcr.io/eastwall/"):
            assert tag == VERSION


def test_every_other_place_names_this_version_too():
    [settings] = [each for where, each in ALL if where == "injection" and each["kind"] == "ConfigMap"]
    assert yaml.safe_load(settings["data"]["settings.yaml"])["image"] == f"ghcr.io/eastwall/eastwall:{VERSION}"
    tags = re.findall(r"-t ghcr\.io/eastwall/\w+:(\S+)", (DEPLOY / "Containerfile").read_text())
    assert tags == [VERSION, VERSION]


@pytest.mark.parametrize("name", [*OVERLAYS, "../samples/shop"])
def test_selectors_find_what_they_name(name):
    objects = render(DEPLOY / "overlays" / name)
    pods = [(each["metadata"]["namespace"], each["spec"]["template"]) for each in objects if "template" in each.get("spec", {})]
    for each in objects:
        spec = each.get("spec", {})
        selector = spec.get("selector") if each["kind"] == "Service" else spec.get("selector", {}).get("matchLabels") if isinstance(spec.get("selector"), dict) else None
        if each["kind"] not in ("Service", "Deployment", "DaemonSet", "PodDisruptionBudget"):
            continue
        found = [pod for namespace, pod in pods if namespace == each["metadata"]["namespace"] and selector.items() <= pod["metadata"]["labels"].items()]
        assert len(found) == 1, f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Service":
            ports = {port["name"] for container in found[0]["spec"]["containers"] for port in container.get("ports", [])}
            assert {port["targetPort"] for port in spec["ports"]} <= ports


@pytest.mark.parametrize("where", [where for where in TEMPLATES if "eastwall-controller" in where or "eastwall-node" in where])
def test_what_runs_is_probed_on_a_port_that_it_has_and_listens_where_it_says(where):
    [container] = TEMPLATES[where][1]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    listens = {int(word.rpartition(":")[2]) for word in container["command"] if re.match(r"--(admin|webhook|proxies)=", word)}
    assert listens == set(ports.values())


def test_two_controllers_on_two_nodes_one_of_which_stays():
    objects = {(each["kind"], each["metadata"]["name"]): each for each in render(DEPLOY / "base")}
    controller = objects["Deployment", "eastwall-controller"]["spec"]
    assert controller["replicas"] == 2 and objects["PodDisruptionBudget", "eastwall-controller"]["spec"]["minAvailable"] == 1
    terms = controller["template"]["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert all(term["podAffinityTerm"]["labelSelector"] == controller["selector"] for term in terms)
    account = controller["template"]["spec"]["serviceAccountName"]
    assert ("ServiceAccount", account) in objects
    # Who may serve every pod of a node is who does.
    [proxy] = [each["spec"]["template"]["spec"] for each in overlay("node") if each["kind"] == "DaemonSet"]
    assert f"--node-account=eastwall-node/{proxy['serviceAccountName']}" in controller["template"]["spec"]["containers"][0]["command"]
    assert objects["ClusterRoleBinding", "eastwall-controller"]["subjects"][0]["name"] == account


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_is_to_be_injected_waits_for_it_and_webhooks_never_hold_up_the_system(name):
    objects = overlay(name)
    services = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in objects if each["kind"] == "Service"}
    own = {each["metadata"]["name"] for each in objects if each["kind"] == "Namespace"}
    for each in objects:
        for webhook in each.get("webhooks", []):
            service = webhook["clientConfig"]["service"]
            assert (service["namespace"], service["name"]) in services and service["path"] in ("/validate", "/mutate")
            assert webhook["failurePolicy"] == ("Fail" if each["kind"] == "MutatingWebhookConfiguration" else "Ignore") and webhook["sideEffects"] == "None" and webhook["timeoutSeconds"] <= 10
            if each["kind"] == "MutatingWebhookConfiguration":
                assert webhook["reinvocationPolicy"] == "IfNeeded"
                [excluded] = [term["values"] for term in webhook["namespaceSelector"]["matchExpressions"] if term["key"] == "kubernetes.io/metadata.name"]
                assert {"kube-system"} | own <= set(excluded)


@pytest.mark.parametrize(("name", "expected"), [("sidecar", {"inject-namespace", "inject-pod"}), ("both", {"inject-namespace"}), ("node", set()), ("audit-only", set())])
def test_who_may_ask_for_a_sidecar(name, expected):
    found = {hook["name"].split(".")[0] for each in overlay(name) if each["kind"] == "MutatingWebhookConfiguration" for hook in each["webhooks"]}
    assert found == expected


@pytest.mark.parametrize(("name", "level"), [("eastwall-system", "restricted"), ("eastwall-node", "privileged")])
def test_pod_security_of_namespaces(name, level):
    [labels] = [each["metadata"]["labels"] for each in overlay("node") if each["kind"] == "Namespace" and each["metadata"]["name"] == name]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {level}


# === policies ===


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    def written(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        kept = [each for each in overlay(name) if each["apiVersion"] == "eastwall.dev/v1alpha1"]
        assert kept
        (folder / "policies.yaml").write_text(yaml.safe_dump_all(kept))
        return folder

    return {name: written(name) for name in OVERLAYS}


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_is_found_in_the_policies(policies, name, tmp_path):
    own = [{"name": each, "namespace": each, "serviceAccount": each, "ips": [f"10.9.0.{at}"]} for at, each in enumerate(["eastwall-system", "eastwall-node"], 1)]
    (tmp_path / "w.yaml").write_text((PACK / "workloads.yaml").read_text() + yaml.safe_dump(own))
    done = eastwall("check", str(policies[name]), "--workloads", str(tmp_path / "w.yaml"), "--format", "json")
    found = [each for each in json.loads(done.stdout) if each["severity"] != "note"]
    assert (done.returncode, found) == (0, [])


@pytest.mark.parametrize("name", ENFORCED)
def test_the_baseline_closes_and_keeps_names_probes_and_the_system(policies, name):
    done = eastwall("test", str(PACK / "tests" / "default-deny.yaml"), "--policy", str(policies[name]), "--workloads", str(PACK / "workloads.yaml"))
    assert done.returncode == 0 and " 0 failed" in done.stdout + done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize("name", OVERLAYS)
def test_only_audit_lets_pass_and_says_what_it_would_do(policies, name):
    request = {"src": {"workload": "shop/web"}, "dst": {"workload": "shop/orders", "port": 8080}, "method": "GET", "path": "/orders/7"}
    done = eastwall("decide", "--policy", str(policies[name]), "--workloads", str(PACK / "workloads.yaml"), "--requests", "-", text=json.dumps(request))
    verdict = json.loads(done.stdout)
    enforced = "allow" if name == "audit-only" else "deny"
    assert (verdict["verdict"], verdict.get("audit", verdict)["verdict"]) == (enforced, "deny"), verdict


@pytest.mark.parametrize("namespace", ["kube-system", "eastwall-system", "eastwall-node"])
def test_the_namespaces_of_the_system_stay_open(policies, namespace, tmp_path):
    workloads = [{"name": "a", "namespace": namespace, "serviceAccount": "a", "ips": ["10.0.0.2"]}, {"name": "b", "namespace": namespace, "serviceAccount": "b", "ips": ["10.0.0.3"]}]
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(workloads))
    request = json.dumps({"src": {"workload": f"{namespace}/a"}, "dst": {"workload": f"{namespace}/b", "port": 80}, "method": "GET", "path": "/"})
    done = eastwall("decide", "--policy", str(policies["both"]), "--workloads", str(tmp_path / "w.yaml"), "--requests", "-", text=request)
    assert json.loads(done.stdout)["verdict"] == "allow"


# === the sample ===


def test_the_sample_is_free_of_findings_and_its_tests_reach_every_rule():
    shop = str(DEPLOY / "samples" / "shop")
    done = eastwall("check", shop, "--format", "json")
    assert [each for each in json.loads(done.stdout) if each["severity"] != "note"] == []
    done = eastwall("test", f"{shop}/policies.yaml", "--policy", shop, "--coverage", "--min-coverage", "100")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sample_gets_the_sidecar():
    objects = render(DEPLOY / "samples" / "shop")
    done = eastwall("inject", text=yaml.safe_dump_all(objects))
    assert done.returncode == 0, done.stderr
    injected = list(yaml.safe_load_all(done.stdout))
    assert [name for name, template in templates(injected) if [each["name"] for each in containers(template)][:2] == ["eastwall-redirect", "eastwall-proxy"]] == ["web", "orders", "store"]
    for before, after in zip(objects, injected, strict=True):
        if "template" not in before.get("spec", {}):
            assert before == after


# === what `eastwall inject` writes ===


def test_injected_values_keep_their_types():
    """Who reads the output reads YAML 1.1: what was text must be text there too, and numbers the same."""
    texts = ["yes", "No", "on", "OFF", "y", "n", "true", "null", "~", "", " ", "0644", "0o17", "0x1f", "0b11", "1_000", "1e3", "1.5", ".5", "+1", "-", "- a", "a: b",
             "a #b", "#a", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "[a", "{a", "'a", '"a', "a\nb\n", "\ta", "a ", "12:30:45", "2001-01-01", "=", "<<", ".inf",
             ".NaN", "é\x85\u2028", "\x07", "a\\b", "?", "? a", ":", "a:", "---", "...", "a\r\nb"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"annotations": {f"k{at}": text for at, text in enumerate(texts)}}, "spec": {"containers": []}}
    done = eastwall("inject", text=f"apiVersion: v1\nkind: List\nitems:\n- {json.dumps(pod)}\nmode: 0644\n")
    assert done.returncode == 0, done.stderr
    read = yaml.safe_load(done.stdout)
    expected = copy.deepcopy(pod["metadata"])
    expected["annotations"] |= {"eastwall.dev/injected": VERSION, "eastwall.dev/hbone": "enabled"}
    assert (read["items"][0]["metadata"], read["mode"]) == (expected, 420)


# === the end ===


def test_the_uninstaller_takes_rules_after_proxies_and_keeps_policies(tmp_path):
    calls = tmp_path / "calls"
    kubectl = tmp_path / "kubectl"
    # One namespace has pods with a sidecar until they are restarted.
    kubectl.write_text(f"""#!/bin/sh
echo "$*" >>{calls}
case "$*" in
*"get pods"*) grep -q 'rollout restart' {calls} || echo shop ;;
*"get deployment"*) echo deployment.apps/web ;;
*"get namespaces"*) echo namespace/shop ;;
esac
""")
    kubectl.chmod(0o755)

    def run(*words: str):
        calls.write_text("")
        done = subprocess.run([DEPLOY / "uninstall" / "uninstall.sh", *words], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, capture_output=True, text=True)
        return done.returncode, calls.read_text().splitlines()

    code, said = run()
    assert code == 0
    order = ["mutatingwebhookconfiguration eastwall", "daemonset eastwall-node", "apply -k", "rollout status daemonset/eastwall-uninstall",
             "rollout restart deployment.apps/web", "label namespace/shop eastwall.dev/inject-", "namespace eastwall-node eastwall-system"]
    places = [next(at for at, line in enumerate(said) if part in line) for part in order]
    assert places == sorted(places), said
    assert not any(re.search(r"delete .*\bcrd\b|firewallpolic", line) for line in said)
    assert any("delete" in line and " crd " in line for line in run("--with-policies")[1])
    assert run("--everything") == (2, [])
