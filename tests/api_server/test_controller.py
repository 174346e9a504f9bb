"""The controller beside a real API server, with the rights of its service account alone."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from kinds import ROOT
from lab.api_server import ApiServer, free_port
from lab.controller import Controller
from lab.firewall import binary
from lab.namespace import HOME
from lab.program import Program, until

NAMESPACE = "shop"
CONFIGURATION = "validatingwebhookconfiguration"


@pytest.fixture(scope="module")
def api(module_folder, module_ending):
    made = ApiServer(module_folder)
    module_ending.callback(made.stop)
    for namespace in ["eastwall-system", NAMESPACE]:
        made.done("create", "namespace", namespace)
    made.install(ROOT / "deploy" / "crds", ROOT / "deploy" / "base" / "rbac.yaml")
    return made


@pytest.fixture
def start(api):
    """Starts replicas that end with the test."""
    started = []

    def make(name: str, *words: str) -> Controller:
        started.append(Controller(api, name, *words))
        return started[-1]

    yield make
    for controller in started:
        controller.kill()
    for kind in ["pods", "fwp", "cfwp", "fws", "fwbg"]:
        api.done("delete", kind, "--all", "-A", "--grace-period=0", "--force")
    api.kubectl("delete", CONFIGURATION, "eastwall")


@pytest.fixture
def controller(start):
    made = start("alone").ready()
    made.until("it leads", made.leads)
    return made


def pod(name: str, app: str, port: int = 8080) -> dict:
    spec = {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": port}]}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": app}}, "spec": spec}


def policy(name: str = "orders", app: str = "orders", rule: dict | None = None) -> dict:
    spec = {"subject": [{"pods": {"matchLabels": {"app": app}}}], "ingress": [rule or {"from": [{"any": True}], "tcp": {}}]}
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


MISSPELT = {"from": [{"any": True}], "http": [{"metods": ["GET"]}]}


def conditions(api: ApiServer, name: str = "orders") -> dict[str, dict]:
    status = api.get("fwp", name, "-n", NAMESPACE).get("status", {})
    return {each["type"]: each for each in status.get("conditions", [])}


def put(api: ApiServer, *documents: dict) -> None:
    for document in documents:
        done = api.put(document)
        assert done.returncode == 0, done.stderr


def test_a_status_says_what_became_of_a_policy(api, controller):
    put(api, pod("a", "orders"), pod("b", "orders"), policy())
    both = lambda *words: lambda: (told := conditions(api)) and all(told.get(kind, {}).get("status") == status for kind, status in words) and told
    told = controller.until("the status is there", both(("Accepted", "True"), ("Selecting", "True"), ("Programmed", "Unknown")))
    assert told["Programmed"]["reason"] == "NoProxies"
    whole = api.get("fwp", "orders", "-n", NAMESPACE)
    assert whole["status"]["selectedWorkloads"] == 2
    assert whole["status"]["observedGeneration"] == whole["metadata"]["generation"] == 1
    assert "True" in api.done("get", "fwp", "orders", "-n", NAMESPACE)

    # A label typo shows.
    put(api, policy(app="order"))
    told = controller.until("nobody is selected", both(("Accepted", "True"), ("Selecting", "False")))
    assert told["Selecting"]["reason"] == "NoWorkload" and told["Selecting"]["observedGeneration"] == 2

    # What is refused keeps its last good version, and says which.
    put(api, policy(rule=MISSPELT))
    told = controller.until("it is refused", both(("Accepted", "False")))
    assert told["Accepted"]["message"].startswith("generation 2 stays in force\n"), told
    assert "spec.ingress[0].http[0].metods: unknown field `metods` [EW0201]" in told["Accepted"]["message"]
    assert controller.metric("eastwall_controller_policies_refused") == 1

    # And what never was good closes.
    put(api, policy("fresh", rule=MISSPELT))
    told = controller.until("it is refused", lambda: conditions(api, "fresh").get("Accepted"))
    assert told["message"].startswith("it never was in force: what it selects is closed\n"), told


def test_a_status_is_written_only_when_it_changes(api, controller):
    put(api, pod("a", "orders"), policy())
    controller.until("the status is there", lambda: conditions(api).get("Selecting", {}).get("status") == "True")
    version = lambda: api.get("fwp", "orders", "-n", NAMESPACE)["metadata"]["resourceVersion"]
    before = version()
    put(api, pod("x", "other"), pod("y", "other"))
    controller.until("the pods are known", lambda: controller.objects("Pod") == 3)
    time.sleep(2.5)
    assert version() == before
    since = conditions(api)["Accepted"]["lastTransitionTime"]
    put(api, pod("z", "orders"))
    controller.until("the count follows", lambda: api.get("fwp", "orders", "-n", NAMESPACE)["status"]["selectedWorkloads"] == 2)
    assert conditions(api)["Accepted"]["lastTransitionTime"] == since


def test_an_emergency_has_a_status_too(api, controller):
    put(api, pod("a", "orders"))
    end = datetime.now(UTC) + timedelta(hours=1)
    spec = {"subject": [{"namespace": NAMESPACE}], "reason": "payments are down", "expires": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
    put(api, {"apiVersion": "eastwall.dev/v1alpha1", "kind": "BreakGlass", "metadata": {"name": "fire"}, "spec": spec})
    status = lambda: api.get("fwbg", "fire").get("status", {})
    told = controller.until("the status is there", lambda: status().get("conditions"))
    assert {each["type"]: each["status"] for each in told} == {"Accepted": "True", "Programmed": "Unknown", "Selecting": "True"}
    assert status()["selectedWorkloads"] == 1


def test_settings_have_a_status_too(api, controller):
    put(api, {"apiVersion": "eastwall.dev/v1alpha1", "kind": "DialectSettings", "metadata": {"name": "cluster"}, "spec": {"cluster": {"networks": ["10.0.0.0/8"]}}})
    settings = lambda: api.get("fws", "cluster").get("status", {}).get("conditions", [])
    told = controller.until("the status is there", settings)
    assert [(each["type"], each["status"]) for each in told][0] == ("Accepted", "True") and len(told) == 2, told


def test_a_kind_that_is_installed_later_is_followed(api, controller):
    names = {"kind": "AdminNetworkPolicy", "plural": "adminnetworkpolicies", "singular": "adminnetworkpolicy", "listKind": "AdminNetworkPolicyList"}
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "adminnetworkpolicies.policy.networking.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
        "spec": {"group": "policy.networking.k8s.io", "names": names, "scope": "Cluster",
                 "versions": [{"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]},
    }
    put(api, definition)
    api.done("wait", "--for=condition=Established", "crd", definition["metadata"]["name"], "--timeout=30s")
    put(api, {"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "a"},
              "spec": {"priority": 1, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]}})
    controller.until("it is known", lambda: controller.objects("AdminNetworkPolicy") == 1)
    api.done("delete", "crd", definition["metadata"]["name"])
    controller.until("it is gone", lambda: controller.objects("AdminNetworkPolicy") == 0)
    assert controller.http("/readyz")[0] == 200


def install_webhook(api: ApiServer, controller: Controller) -> None:
    """The configuration of deploy/, with the replica's address instead of the Service."""
    configuration = yaml.safe_load((ROOT / "deploy" / "base" / "webhook.yaml").read_text())
    for webhook in configuration["webhooks"]:
        path = webhook["clientConfig"].pop("service")["path"]
        webhook["clientConfig"]["url"] = f"https://127.0.0.1:{controller.webhook}{path}"
    put(api, configuration)
    controller.until("the authority is there", lambda: bundle(api))


def bundle(api: Api) -> str:
    webhooks = api.get(CONFIGURATION, "eastwall")["webhooks"]
    return base64.b64decode(webhooks[0]["clientConfig"].get("caBundle", "")).decode()


def refused(api: ApiServer, document: dict) -> str:
    done = api.put(document, "--dry-run=server")
    return done.stderr if done.returncode != 0 else ""


def test_the_api_server_asks_the_compiler(api, start):
    controller = start("hook")
    install_webhook(api, controller.ready())
    put(api, pod("a", "orders"), pod("web", "web"))
    # The API server takes a moment to call a new webhook.
    said = until(lambda: refused(api, policy(rule=MISSPELT)), "a misspelt field is refused")
    assert 'admission webhook "validate.eastwall.dev" denied the request: firewallpolicy.eastwall.dev/shop/orders: the compiler refuses it' in said
    assert "spec.ingress[0].http[0].metods: unknown field `metods` [EW0201]; did you mean `methods`?" in said

    # What it names is looked up in the cluster.
    done = api.put(policy(app="order"))
    assert done.returncode == 0 and "Warning: spec.subject[0]" in done.stderr, done.stderr
    dangling = policy()
    dangling["spec"]["egress"] = [{"to": [{"service": "nobody"}], "tcp": {}}]
    done = api.put(dangling, "--dry-run=server")
    assert done.returncode == 0 and "nobody" in done.stderr and "Warning: spec.egress[0].to[0]" in done.stderr, done.stderr
    done = api.put(policy())
    assert done.returncode == 0 and "Warning" not in done.stderr, done.stderr
    controller.until("it is known", lambda: controller.objects("FirewallPolicy") == 1)
    done = api.kubectl("delete", "fwp", "orders", "-n", NAMESPACE)
    assert done.returncode == 0 and "Warning: this OPENS ingress of `shop/a`: no other policy closes it" in done.stderr, done.stderr
    assert controller.metric('eastwall_controller_admissions_total{verdict="refused",webhook="validate"}') >= 1


def test_a_certificate_is_renewed_in_time(api, start):
    first = start("first")
    install_webhook(api, first.ready())
    before = bundle(api)
    assert first.stop() == 0
    api.done("annotate", "--overwrite", "secret", "eastwall-webhook", "-n", "eastwall-system", "eastwall.dev/renew-after=2026-01-01T00:00:00Z")
    second = start("second")
    install_webhook(api, second.ready())
    after = second.until("the new authority is trusted", lambda: (now := bundle(api)) != before and now)
    assert after.count("BEGIN CERTIFICATE") == 2 and after.strip().endswith(before.strip()), "both are trusted meanwhile"
    secret = lambda: api.get("secret", "eastwall-webhook", "-n", "eastwall-system")
    renewed = lambda: base64.b64decode(secret()["data"]["ca.crt"]).decode() == after
    second.until("replicas find the new one", renewed)
    second.until("the new one is shown", lambda: second.program.text().count("certificate was read") == 2)
    assert until(lambda: refused(api, policy(rule=MISSPELT)), "it is asked")


def test_an_api_server_that_is_away_changes_nothing(api, controller):
    put(api, *[pod(f"p{number}", "orders") for number in range(5)], policy())
    controller.until("all is known", lambda: controller.objects("Pod") == 5 and controller.objects("FirewallPolicy") == 1)
    api.kill()
    time.sleep(3)
    for _ in range(5):
        assert controller.http("/readyz")[0] == 200
        assert (controller.objects("Pod"), controller.objects("FirewallPolicy")) == (5, 1)
        time.sleep(0.2)
    controller.until("it no longer claims to lead", lambda: not controller.leads(), 10)
    api.start()
    api.done("delete", "pod", "p0", "-n", NAMESPACE, "--grace-period=0", "--force")
    put(api, policy(app="order"))
    controller.until("it has caught up", lambda: controller.objects("Pod") == 4)
    controller.until("it leads again", controller.leads)
    controller.until("the status follows", lambda: conditions(api).get("Selecting", {}).get("status") == "False")
    assert controller.metric('eastwall_controller_watch_errors_total{kind="Pod"}') > 0


def test_the_lease_moves_when_its_holder_dies(api, start):
    first = start("one").ready()
    first.until("it leads", first.leads)
    second = start("two").ready()
    holder = lambda: api.get("lease", "eastwall-controller", "-n", "eastwall-system")["spec"].get("holderIdentity")
    time.sleep(2)
    assert first.leads() and not second.leads() and holder() == "one"
    first.kill()
    second.until("it leads", second.leads, 15)
    assert holder() == "two"
    put(api, pod("a", "orders"), policy())
    second.until("it writes", lambda: conditions(api).get("Selecting", {}).get("status") == "True")
    third = start("three").ready()
    assert not third.leads()
    assert second.stop() == 0
    # It was given back: nobody waits until it has run out.
    third.until("it leads", third.leads, 3)


@pytest.fixture
def follow(api, folder, ending):
    """Starts the proxy of a pod, which is made for it with a service account of its name, beside one controller."""

    def make(controller: Controller, name: str, audience: str = "eastwall-controller") -> Program:
        if api.kubectl("get", "serviceaccount", name, "-n", NAMESPACE).returncode != 0:
            api.done("create", "serviceaccount", name, "-n", NAMESPACE)
        running = pod(name, "orders")
        running["spec"] |= {"serviceAccountName": name, "nodeName": "n1"}
        put(api, running)
        address = f"127.0.0.{ord(name[0])}"
        api.done("patch", "pod", name, "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"phase": "Running", "podIP": address}}))
        own = folder / name
        own.mkdir()
        (own / "ca.crt").write_text(controller.roots())
        (own / "token").write_text(api.token(NAMESPACE, name, name, audience))
        proxy = Program(
            HOME, [binary(), "proxy", "--mode=gateway", f"--listen=127.0.0.1:{free_port()}", f"--upstream={address}:8080", "--access-log=off",
                   f"--admin-socket={own / 'socket'}", *controller.flags(own, NAMESPACE, name)],
            folder, f"proxy-{name}")
        ending.callback(proxy.stop)
        return proxy

    return make


def test_a_proxy_proves_its_pod_by_a_token_and_puts_its_slice_in_force(api, controller, folder, follow):
    put(api, policy())
    proxy, folder = follow(controller, "orders", "https://elsewhere.example"), folder / "orders"
    controller.until("a token for others is refused", lambda: "the token is not" in proxy.text())
    assert not (folder / "state" / "current").exists()

    (folder / "token").write_text(api.token(NAMESPACE, "orders", "orders"))
    held = folder / "state" / "current" / "policies" / "eastwall.dev" / "FirewallPolicy" / NAMESPACE / "orders.json"
    controller.until("the slice is there", held.exists)
    certificate = folder / "state" / "identity" / "tls.crt"
    controller.until("the certificate is there", certificate.exists)
    shown = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName"], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[1:] == [f"    URI:spiffe://cluster.local/ns/{NAMESPACE}/sa/orders"], shown
    programmed = lambda: conditions(api).get("Programmed", {})
    controller.until("the status says so", lambda: programmed().get("status") == "True")

    # What it refuses it is behind with.
    put(api, policy(rule=MISSPELT))
    controller.until("the refusal is told", lambda: conditions(api).get("Accepted", {}).get("status") == "False")
    put(api, policy())
    controller.until("all is well again", lambda: programmed().get("status") == "True" and programmed()["observedGeneration"] == 3)
    api.done("delete", "pod", "orders", "-n", NAMESPACE, "--grace-period=0", "--force")
    controller.until("its stream ends with it", lambda: "has ended" in proxy.text())

    # What happened is told as the published list of metrics says.
    listed = json.loads((ROOT / "deploy" / "monitoring" / "controller-metrics.json").read_text())
    text = controller.http("/metrics")[1]
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    assert types == {name: listed[name]["type"] for name in types}
    # A family has no line before something of it happened.
    may_be_silent = {f"eastwall_controller_{name}" for name in ("admissions_total", "pods_without_proxy", "watch_errors_total")}
    assert set(listed) - set(types) <= may_be_silent, set(listed) - set(types)
    assert controller.metric('eastwall_controller_callers_refused_total{reason="token"}') > 0
    assert controller.metric('eastwall_controller_certificates_total{result="success"}') > 0
    assert controller.metric("eastwall_controller_root_expiry_timestamp_seconds") > time.time() + 86_400


def test_proxies_of_all_replicas_count(api, start, follow):
    first = start("one").ready()
    first.until("it leads", first.leads)
    second = start("two").ready()
    put(api, policy())
    follow(first, "a")
    slow = follow(second, "b")
    programmed = lambda: conditions(api).get("Programmed", {})
    says = lambda *words: lambda: (told := programmed()) and (told["status"], told["reason"], told["message"]) == words
    first.until("both have it", says("True", "InForce", "in force in all of 2 proxies"))
    assert not second.leads()

    # Whoever is behind is named, and as long as he is it is not in force.
    slow.signal(signal.SIGSTOP)
    version = api.put(policy(rule={"from": [{"any": True}], "udp": {}}))
    assert version.returncode == 0, version.stderr
    seen = set()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        if programmed()["observedGeneration"] == 2:
            seen.add(programmed()["status"])
    assert "True" not in seen, seen
    first.until("one is behind", says("False", "Behind", "1 of 2 proxies are behind: shop/b"))
    slow.signal(signal.SIGCONT)
    first.until("both have it", says("True", "InForce", "in force in all of 2 proxies"))

    # Nobody speaks for the dead.
    replicas = lambda: set(api.get("configmap", "eastwall-controller-replicas", "-n", "eastwall-system")["data"])
    assert replicas() == {"one", "two"}
    second.kill()
    first.until("its share expires", says("True", "InForce", "in force in all of 1 proxies"))
    first.until("its entry is taken out", lambda: replicas() == {"one"})
    assert first.stop() == 0
    assert "data" not in api.get("configmap", "eastwall-controller-replicas", "-n", "eastwall-system")


def test_pods_without_a_proxy_are_named(api, start, follow):
    controller = start("looks", "--proxy-grace", "1").ready()
    put(api, policy(), policy("other", "other"))
    proxy = follow(controller, "a")
    bare = pod("bare", "orders")
    bare["spec"]["nodeName"] = "n1"
    put(api, bare)
    running = json.dumps({"status": {"phase": "Running", "podIP": "10.0.0.9"}})
    api.done("patch", "pod", "bare", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", running)
    programmed = lambda name="orders": (told := conditions(api, name).get("Programmed", {})) and (told["status"], told["reason"], told["message"])
    count = lambda reason: controller.metric(f'eastwall_controller_pods_without_proxy{{namespace="{NAMESPACE}",reason="{reason}"}}')
    one = ("False", "PodsWithoutProxy", "in force in all of 1 proxies; 1 of the pods that it selects has no proxy: shop/bare (no-proxy)")
    controller.until("the pod is named", lambda: programmed() == one)
    assert count("no-proxy") == 1 and programmed("other")[:2] == ("True", "InForce")

    # It is older than the label.
    api.done("label", "namespace", NAMESPACE, "eastwall.dev/inject=enabled")
    controller.until("it has another reason", lambda: count("no-sidecar") == 1 and count("no-proxy") == 0)
    proxy.stop()
    controller.until("another one is without", lambda: count("no-sidecar") == 2)
    assert programmed()[2] == "no connected proxy is concerned; 2 of the pods that it selects have no proxy: shop/a (no-sidecar), shop/bare (no-sidecar)"
    api.done("label", "namespace", NAMESPACE, "eastwall.dev/inject-")
    api.done("delete", "pod", "a", "bare", "-n", NAMESPACE, "--grace-period=0", "--force")
    controller.until("they are gone", lambda: programmed() == ("Unknown", "NoProxies", "no connected proxy is concerned"))
    assert "pods_without_proxy{" not in controller.http("/metrics")[1]


def test_it_may_do_no_more_than_it_does(api, controller):
    def may(*words: str) -> bool:
        return api.kubectl("auth", "can-i", *words, "--as", "system:serviceaccount:eastwall-system:eastwall-controller").stdout.strip() == "yes"

    assert may("patch", "firewallpolicies.eastwall.dev", "--subresource=status", "-n", NAMESPACE)
    for words in [("get", "secrets", "-n", NAMESPACE), ("get", "secrets/other", "-n", "eastwall-system"), ("list", "secrets", "-n", "eastwall-system"),
                  ("update", "firewallpolicies.eastwall.dev", "-n", NAMESPACE), ("create", "pods", "-n", NAMESPACE), ("patch", f"{CONFIGURATION}s/other")]:
        assert not may(*words), words
    for verb in ["get", "patch"]:
        assert may(verb, "configmaps/eastwall-controller-replicas", "-n", "eastwall-system")
        assert not may(verb, "configmaps/eastwall-controller-replicas", "-n", NAMESPACE)
        assert not may(verb, "configmaps/eastwall-injector", "-n", "eastwall-system")
    assert not may("update", "configmaps/eastwall-controller-replicas", "-n", "eastwall-system")
    assert not may("list", "configmaps", "-n", "eastwall-system")
    assert "forbidden" not in controller.program.text()
