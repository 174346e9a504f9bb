"""A candidate policy in mode Audit: it never acts, and what it would have said is in the access log and in the metrics."""

import pytest

from lab.firewall import policy
from lab.program import until
from lab.recorder import Recorder
from lab.scene import PLACEMENTS, Scene
from lab.wire import Http1

WEB, CLERK = [{"serviceAccount": "web"}], [{"serviceAccount": "clerk"}]
ENFORCED = policy("orders", "orders", [{"name": "web-reads", "from": WEB, "http": [{"methods": ["GET"], "paths": ["/orders/{id}", "/status"]}]}])
CANDIDATE = policy("orders-next", "orders", [
    {"name": "web-status", "from": WEB, "http": [{"methods": ["GET"], "paths": ["/status"]}]},
    {"name": "clerk-reads", "from": CLERK, "http": [{"methods": ["GET"], "paths": ["/orders/{id}"]}]},
], mode="Audit", replaces=["orders"])
PORTS = {"web": [], "clerk": [], "orders": [{"name": "http", "port": 8080}]}
METRIC = "eastwall_audit_differences_total"


@pytest.fixture(scope="module", params=PLACEMENTS)
def scene(request, module_folder, module_ending):
    made = Scene(module_folder / request.param, module_ending, request.param, [ENFORCED, CANDIDATE], PORTS)
    made.receiver = module_ending.enter_context(Recorder(made["orders"], "::", 8080))
    return made


@pytest.mark.parametrize(("pod", "path", "enforced", "shadow", "rule"), [
    ("web", "/orders/7", "allow", "deny", None), ("clerk", "/orders/7", "deny", "allow", "clerk-reads"),
    ("web", "/status", "allow", "allow", "web-status"), ("clerk", "/status", "deny", "deny", None)])
def test_what_the_candidate_would_say(scene, pod, path, enforced, shadow, rule):
    firewall = scene.firewall()
    scene.receiver.forget()
    everything, ours = firewall.metric(METRIC), firewall.metric(METRIC, direction="inbound", enforced=enforced, shadow=shadow)
    with Http1(scene[pod].connect(scene["orders"].ipv4, 8080)) as client:
        port = client.socket.getsockname()[1]
        client.send(f"GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
        assert client.response().status == {"allow": 200, "deny": 403}[enforced], "what is enforced acts"
    assert [request.path for request in scene.receiver.requests] == ([path] if enforced == "allow" else [])
    line = firewall.wait_log(lambda line: line["event"] == "request" and line["client.port"] == port)
    assert line["verdict"] == enforced and line["policy"] == "FirewallPolicy shop/orders"
    audit = line["audit"]
    assert audit["verdict"] == shadow and audit["policy"] == "FirewallPolicy shop/orders-next" and audit.get("rule") == rule, audit
    assert "policy.yaml" in audit["rule_location"]
    differs = enforced != shadow
    if differs:
        until(lambda: firewall.metric(METRIC, direction="inbound", enforced=enforced, shadow=shadow) == ours + 1, "the counted difference")
    assert firewall.metric(METRIC) == everything + differs
