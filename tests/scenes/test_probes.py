"""A pod's own probes keep working under a default deny, and only those exact probes."""

import pytest

from lab.firewall import cluster_policy, policy
from lab.recorder import Recorder
from lab.scene import PLACEMENTS, Scene
from lab.wire import Http1

PROBES = [{"port": 8080, "path": "/healthz"}, {"port": 8081}]
PORTS = {"web": [], "orders": [{"name": "http", "port": 8080}, {"name": "raw", "port": 8081}]}
CLOSED = [cluster_policy("closed", "Baseline", subject=[{"any": True}], directions=["Ingress"]), policy("orders", "orders", directions=["Ingress"])]


@pytest.fixture(scope="module", params=PLACEMENTS)
def scene(request, module_folder, module_ending):
    made = Scene(module_folder / request.param, module_ending, request.param, CLOSED, PORTS, more={"orders": {"probes": PROBES}})
    made.receiver = module_ending.enter_context(Recorder(made["orders"], "::", 8080))
    made.raw = module_ending.enter_context(Recorder(made["orders"], "::", 8081, http=False))
    return made


def ask(place, address: str, line: str):
    with Http1(place.connect(address, 8080)) as client:
        client.send(f"{line} HTTP/1.1\r\nhost: {address if ':' not in address else f'[{address}]'}:8080\r\nuser-agent: kube-probe/1.34\r\n\r\n".encode())
        answer = client.response(head=line.startswith("HEAD"))
        return answer.status if answer else None


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize(("line", "status"), [("GET /healthz", 200), ("POST /healthz", 403), ("GET /healthz/x", 403), ("GET /", 403), ("HEAD /healthz", 403), ("GET /HEALTHZ", 403)])
def test_the_node_may_ask_exactly_what_is_declared(scene, family, line, status):
    scene.receiver.forget()
    assert ask(scene.network.node, getattr(scene["orders"], family), line) == status
    assert len(scene.receiver.requests) == int(status == 200)


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_nobody_else_may(scene, family):
    scene.receiver.forget()
    assert ask(scene["web"], getattr(scene["orders"], family), "GET /healthz") == 403
    assert scene.receiver.bytes_received == 0


def test_a_connect_probe_connects(scene):
    with scene.network.node.connect(scene["orders"].ipv4, 8081, 5):
        pass
    with Http1(scene["web"].connect(scene["orders"].ipv4, 8081, 5)) as client:
        client.send(b"hello")
        assert client.ended(5)
    assert scene.raw.bytes_received == 0
