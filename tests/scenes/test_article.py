"""The scene the whole thing is for: a compromised pod behind an address that is trusted."""

import ssl

import pytest

from lab.firewall import policy
from lab.program import until
from lab.recorder import Recorder
from lab.scene import EVERYWHERE, Scene
from lab.wire import Http1, Http2

HOST = "orders.shop"
POLICY = [policy("orders", "orders", [
    {"name": "web-reads", "from": [{"serviceAccount": "web"}], "http": [{"methods": ["GET"], "paths": ["/orders/{id}"]}]},
    {"name": "trusted-range", "from": [{"cidr": "10.77.0.0/24"}, {"cidr": "fd77::/64"}], "ports": ["http"], "http": [{"methods": ["GET"], "paths": ["/status", "/orders/{id}"]}]},
])]
PORTS = {"web": [], "orders": [{"name": "http", "port": 8080}], "attacker": []}


@pytest.fixture(scope="module", params=EVERYWHERE)
def scene(request, module_folder, module_ending):
    made = Scene(module_folder / request.param, module_ending, request.param, POLICY, PORTS, strangers=("stranger",))
    made.receiver = module_ending.enter_context(Recorder(made["orders"], "::", 8080))
    return made


@pytest.fixture(params=["ipv4", "ipv6"])
def address(request, scene):
    scene.receiver.forget()
    return getattr(scene["orders"], request.param)


def ask(scene, pod: str, address: str, method: str, path: str, version: str = "1"):
    connection = scene[pod].connect(address, 8080)
    if version == "1":
        with Http1(connection) as client:
            client.send(f"{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
            answer = client.response()
    else:
        with Http2(connection) as client:
            answer = client.wait(client.request([(b":method", method.encode()), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", HOST.encode())]))
    assert answer is not None, "an HTTP denial is answered"
    return answer


@pytest.mark.parametrize("version", ["1", "2"])
def test_an_allowed_call_passes(scene, address, version):
    assert ask(scene, "web", address, "GET", "/orders/7", version).status == 200
    (request,) = scene.receiver.requests
    assert (request.method, request.target) == ("GET", "/orders/7")
    line = scene.firewall().wait_log(lambda line: line["verdict"] == "allow" and line["url.path"] == "/orders/7")
    assert line["rule"] == "web-reads" and line["source_workload"] == "shop/web" and line["destination_workload"] == "shop/orders"
    assert "policy.yaml" in line["rule_location"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/orders/7"), ("DELETE", "/orders/7"), ("GET", "/admin"), ("GET", "/status"), ("GET", "/orders/7/items")])
def test_other_methods_and_paths_of_an_allowed_peer_are_refused(scene, address, method, path):
    assert ask(scene, "web", address, method, path).status == 403
    # Not every byte: a pooled HTTP/2 connection of an earlier, allowed call may still acknowledge the receiver's SETTINGS.
    assert scene.receiver.arrived == 0


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/orders/7"), ("GET", "/status"), ("POST", "/admin")])
def test_a_registered_attacker_behind_a_trusted_address_is_refused(scene, address, version, method, path):
    answer = ask(scene, "attacker", address, method, path, version)
    assert answer.status == 403
    decision = answer.value("x-eastwall-decision-id")
    assert decision, "a denied client gets the id of the decision"
    line = scene.firewall().wait_log(lambda line: line.get("decision_id") == decision)
    assert line["verdict"] == "deny" and line["source_workload"] == "shop/attacker" and line["policy"] and "policy.yaml" in line["rule_location"]
    assert line["url.path"] == path and line["http.request.method"] == method and line["generation"]
    assert scene.receiver.bytes_received == 0


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/status", 200), ("GET", "/orders/7", 200), ("GET", "/admin", 403), ("POST", "/status", 403), ("GET", "/status/x", 403)])
def test_an_unregistered_address_gets_exactly_the_paths_of_its_range(scene, address, method, path, status):
    assert ask(scene, "stranger", address, method, path).status == status
    assert [request.target for request in scene.receiver.requests] == ([path] if status == 200 else [])
    if status != 200:
        assert scene.receiver.bytes_received == 0


@pytest.mark.parametrize("speech", ["ssh", "raw", "tls", "half", "silent"])
def test_other_protocols_on_the_http_port_reach_nothing(scene, address, speech):
    hello = ssl.MemoryBIO()
    client_side = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=HOST)
    try:
        client_side.do_handshake()
    except ssl.SSLWantReadError:
        pass
    data = {"ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "raw": bytes(range(256)), "tls": hello.read(), "half": b"GE", "silent": b""}[speech]
    for pod in ("attacker", "web"):
        with Http1(scene[pod].connect(address, 8080)) as client:
            client.send(data)
            if speech in ("ssh", "raw", "tls"):
                client.socket.settimeout(10)
                until(lambda: client.closed or not client._more(), "the end of the connection")
                assert b"served" not in client.buffer
    assert scene.receiver.bytes_received == 0, scene.receiver.raw


def test_the_counters_tell(scene, address):
    firewall = scene.firewall()
    before = firewall.metric("eastwall_requests_total", verdict="deny", source_workload="shop/attacker", destination_workload="shop/orders")
    assert ask(scene, "attacker", address, "GET", "/orders/7").status == 403
    until(lambda: firewall.metric("eastwall_requests_total", verdict="deny", source_workload="shop/attacker", destination_workload="shop/orders") == before + 1, "the counter")
