"""The API server calls `/mutate` itself: the pods that it then holds have the sidecar, or are refused, or are left alone."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import subprocess
import threading

import pytest
from kinds import EASTWALL
from lab import servers
from lab.network import NODE4
from lab.program import until

OPTED_IN, OTHER = "opted-in", "left-alone"
SIDECAR = ["eastwall-redirect", "eastwall-proxy"]


@pytest.fixture(scope="module")
def api(cluster):
    cluster.namespace(OPTED_IN, inject="enabled")
    cluster.namespace(OTHER)
    return cluster.api


@pytest.fixture(autouse=True)
def no_pods(api):
    yield
    for namespace in (OPTED_IN, OTHER):
        api.done("delete", "pods,deployments", "--all", "-n", namespace, "--grace-period=0", "--force")


def injected_offline(cluster, document: dict) -> dict:
    done = subprocess.run([EASTWALL, "inject", "--settings", cluster.settings], input=json.dumps(document), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def create(api, document: dict) -> dict:
    """What the API server holds afterwards."""
    return json.loads(api.done("create", "-o", "json", "-f", "-", text=json.dumps(document)))


def names(pod: dict) -> list[str]:
    return [each["name"] for each in pod["spec"].get("initContainers", [])]


def test_what_is_stored_has_the_sidecar_and_keeps_it(cluster, api):
    stored = create(api, cluster.pod(OPTED_IN, "web"))
    assert names(stored) == SIDECAR
    assert f"--controller={NODE4}:{cluster.controller.proxies}" in stored["spec"]["initContainers"][1]["command"]
    # As the command makes it, and once is enough.
    assert injected_offline(cluster, stored) == stored
    api.done("label", "pod", "web", "-n", OPTED_IN, "tier=front")
    again = api.get("pod", "web", "-n", OPTED_IN)
    assert again["spec"] == stored["spec"] and again["metadata"]["labels"] == {"tier": "front"}
    assert cluster.controller.metric('eastwall_controller_admissions_total{verdict="allowed",webhook="mutate"}') >= 1


def test_a_deployment_is_kept_as_it_is_and_its_pods_get_the_sidecar(cluster, api):
    template = {"metadata": {"labels": {"app": "web"}}, "spec": cluster.pod(OPTED_IN, "web")["spec"]}
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": OPTED_IN},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template}}
    stored = create(api, document)["spec"]["template"]
    assert "initContainers" not in stored["spec"]
    # As the controller of ReplicaSets makes a pod of it.
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-", "namespace": OPTED_IN, "labels": {"app": "web"}}, "spec": stored["spec"]}
    assert names(create(api, pod)) == SIDECAR


def test_what_was_injected_already_stays_as_it_is(cluster, api):
    document = injected_offline(cluster, cluster.pod(OPTED_IN, "web"))
    stored = create(api, document)
    for part in ("initContainers", "volumes"):
        assert stored["spec"][part] == document["spec"][part]
    assert stored["metadata"]["annotations"] == document["metadata"]["annotations"]


def test_what_cannot_have_it_is_refused_in_words(cluster, api):
    document = cluster.pod(OPTED_IN, "web")
    document["spec"]["hostNetwork"] = True
    done = api.kubectl("create", "-f", "-", text=json.dumps(document))
    assert done.returncode != 0
    assert 'admission webhook "inject-namespace.eastwall.dev" denied the request: the sidecar cannot be put into this pod: spec.hostNetwork' in done.stderr, done.stderr
    assert "leave the pod out with `eastwall.dev/inject: disabled`" in done.stderr
    document["metadata"]["labels"] = {"eastwall.dev/inject": "disabled"}
    assert names(create(api, document)) == []


def test_who_does_not_ask_gets_nothing(cluster, api):
    assert names(create(api, cluster.pod(OTHER, "web"))) == []
    assert names(create(api, cluster.pod(OTHER, "asks", labels={"eastwall.dev/inject": "enabled"}))) == SIDECAR
    assert names(create(api, cluster.pod(OPTED_IN, "declines", labels={"eastwall.dev/inject": "disabled"}))) == []


@contextlib.contextmanager
def another_webhook(cluster, folder):
    """One that comes after ours, and puts a container of its own before all others."""
    certificate, key = servers.certificate(folder, "localhost")
    first = json.dumps([{"op": "add", "path": "/spec/initContainers/0", "value": {"name": "first", "image": "example/first:1"}}]).encode()

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["request"]
            response = {"uid": asked["uid"], "allowed": True}
            if "first" not in names(asked["object"]):
                response |= {"patchType": "JSONPatch", "patch": base64.b64encode(first).decode()}
            answer = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers, bind_and_activate=False)
    server.socket.close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = cluster.network.node.listen("127.0.0.1", 0)
    server.socket = context.wrap_socket(listener, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    webhook = {"name": "first.example.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
               "clientConfig": {"url": f"https://localhost:{server.socket.getsockname()[1]}/", "caBundle": base64.b64encode(certificate.read_bytes()).decode()},
               "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": OPTED_IN}},
               "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]}
    # They are called in the order of these names.
    configuration = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "zz-first"}, "webhooks": [webhook]}
    try:
        cluster.put(configuration)
        yield
    finally:
        cluster.api.kubectl("delete", "mutatingwebhookconfiguration", "zz-first")
        server.shutdown()
        server.server_close()


def test_it_comes_first_again_where_another_webhook_changed_the_pod(cluster, api, folder):
    with another_webhook(cluster, folder):
        made = iter(range(50))
        # The API server takes a moment to call a new webhook.
        stored = until(lambda: (pod := create(api, cluster.pod(OPTED_IN, f"web-{next(made)}"))) and "first" in names(pod) and pod, "the other webhook is called")
    assert names(stored) == [*SIDECAR, "first"]
    assert injected_offline(cluster, stored) == stored


def test_no_pod_that_should_have_it_is_made_while_nobody_answers(cluster, api):
    """Others are, those of the system among them."""
    cluster.controller.kill()
    try:
        done = api.kubectl("create", "-f", "-", text=json.dumps(cluster.pod(OPTED_IN, "web")))
        assert done.returncode != 0 and 'failed calling webhook "inject-namespace.eastwall.dev"' in done.stderr, done.stderr
        assert names(create(api, cluster.pod(OTHER, "web"))) == []
        restricted = cluster.pod("eastwall-system", "ours")
        restricted["spec"]["securityContext"] = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
        restricted["spec"]["containers"][0]["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert api.kubectl("create", "--dry-run=server", "-f", "-", text=json.dumps(restricted)).returncode == 0
        # A policy can be mended all the same.
        assert api.kubectl("annotate", "cfwp", "eastwall-dns", "mended=yes").returncode == 0
    finally:
        cluster.controller.start().ready()
    assert names(create(api, cluster.pod(OPTED_IN, "web"))) == SIDECAR
