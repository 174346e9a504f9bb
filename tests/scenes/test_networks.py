"""Node mode over routed and bridged networks: nothing of the node's own rules gets around it, alive or dead. Also attacks 63, 64 and 71."""

import time

import pytest

from lab.firewall import policy, redirect
from lab.recorder import Recorder
from lab.scene import Scene
from lab.wire import Http1

WEB = [{"serviceAccount": "web"}]
POLICY = [policy("orders", "orders", [{"name": "reads", "from": WEB, "http": [{"methods": ["GET"], "paths": ["/orders/{id}"]}]}])]
PORTS = {"web": [], "attacker": [], "orders": [{"name": "http", "port": 8080}]}
SERVICE4, SERVICE6 = "10.96.0.10", "fd96::10"
KINDS = [pytest.param("node", None, id="routed"), pytest.param("node-bridged", False, id="bridged-nf0"), pytest.param("node-bridged", True, id="bridged-nf1")]


def service_entry() -> dict:
    return {"kind": "Service", "name": "orders", "namespace": "shop", "ips": [SERVICE4, SERVICE6], "ports": [{"name": "http", "port": 80, "targetPort": 8080}], "endpoints": ["shop/orders"]}


def made(placement, filtered, folder, ending, guarded=("orders",)):
    scene = Scene(folder, ending, placement, POLICY, PORTS, guarded=guarded, entries=[service_entry()], start=False)
    if filtered is not None:
        scene.network.filter_bridged_frames(filtered)
    scene.network.service(SERVICE4, 80, scene["orders"], 8080)
    scene.network.service(SERVICE6, 80, scene["orders"], 8080)
    scene.receiver = ending.enter_context(Recorder(scene["orders"], "::", 8080))
    return scene


@pytest.fixture
def build(folder, ending):
    return lambda placement, filtered, **more: made(placement, filtered, folder, ending, **more)


WAYS = ("ipv4", "ipv6", "service4", "service6")


def working(filtered) -> tuple:
    """The ways that a network has at all: over a bridge that netfilter does not see, the answer of a Service's pod goes straight back to the
    client, from an address that the client never asked; kube-proxy does not work there either."""
    return WAYS[:2] if filtered is False else WAYS


def way(scene, name: str) -> tuple[str, int]:
    return {"ipv4": (scene["orders"].ipv4, 8080), "ipv6": (scene["orders"].ipv6, 8080), "service4": (SERVICE4, 80), "service6": (SERVICE6, 80)}[name]


def ask(scene, pod: str, name: str, path: str = "/orders/7", timeout: float = 10):
    """The status, or what else became of it."""
    address, port = way(scene, name)
    try:
        with Http1(scene[pod].connect(address, port, timeout)) as client:
            client.send(f"GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
            answer = client.response(timeout=timeout)
            return answer.status if answer else "closed"
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return type(error).__name__


@pytest.mark.parametrize(("placement", "filtered"), KINDS)
@pytest.mark.parametrize("guarded", [("orders",), ("orders", "web", "attacker")], ids=["destination", "both-ends"])
def test_verdicts_hold_and_the_source_address_is_kept(build, placement, filtered, guarded):
    scene = build(placement, filtered, guarded=guarded)
    scene.firewall().start()
    for name in working(filtered):
        scene.receiver.forget()
        assert ask(scene, "web", name) == 200, name
        (request,) = scene.receiver.requests
        assert request.source == (scene["web"].ipv6 if "6" in name else scene["web"].ipv4), "the server sees the client's address"
        scene.receiver.forget()
        assert ask(scene, "web", name, "/admin") == 403, name
        assert ask(scene, "attacker", name) == 403, name
        assert scene.receiver.bytes_received == 0


@pytest.mark.parametrize(("placement", "filtered"), KINDS)
def test_four_hundred_connections_between_one_pair(build, placement, filtered):
    scene = build(placement, filtered)
    scene.firewall().start()
    clients = []
    try:
        for number in range(400):
            address, port = way(scene, "service4" if number % 2 and filtered is not False else "ipv4")
            client = Http1(scene["web"].connect(address, port))
            clients.append(client)
            client.send(f"GET /orders/{number} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
            assert client.response().status == 200, number
        for number, client in enumerate(clients):
            client.send(f"GET /orders/again-{number} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
        for number, client in enumerate(clients):
            assert client.response().status == 200, number
    finally:
        for client in clients:
            client.close()
    assert {request.source for request in scene.receiver.requests} == {scene["web"].ipv4}


@pytest.mark.parametrize(("placement", "filtered"), KINDS)
def test_with_the_proxy_dead_nothing_arrives(build, placement, filtered):
    scene = build(placement, filtered)
    firewall = scene.firewall()

    def closed(when: str):
        for pod in ("attacker", "web"):
            for name in WAYS:
                assert ask(scene, pod, name, timeout=2) not in (200, 403), (when, pod, name)
        time.sleep(0.2)
        assert scene.receiver.bytes_received == 0, (when, scene.receiver.raw)

    redirect(scene.network.node, "apply", "node", "--workloads", firewall.workloads_file)
    closed("between redirect apply and listening")
    firewall.start()
    for name in working(filtered):
        assert ask(scene, "web", name) == 200
    scene.receiver.forget()
    firewall.kill()
    closed("after kill -9")
    firewall.start()
    for name in working(filtered):
        assert ask(scene, "web", name) == 200
    scene.receiver.forget()


def test_kill_under_load_lets_nothing_through(build):
    """Attack 64: what arrives between `kill -9` and the next start is nothing that was not judged."""
    scene = build("node", None)
    firewall = scene.firewall()
    firewall.start()
    open_ones = []
    for number in range(20):
        client = Http1(scene["web"].connect(*way(scene, "ipv4")))
        client.send(b"GET /orders/1 HTTP/1.1\r\nhost: orders\r\n\r\n")
        assert client.response().status == 200
        open_ones.append(client)
    scene.receiver.forget()
    firewall.kill()
    for client in open_ones:
        client.send(b"GET /admin HTTP/1.1\r\nhost: orders\r\n\r\n")
        client.close()
    for _ in range(50):
        assert ask(scene, "attacker", "ipv4", "/admin", timeout=1) not in (200, 403)
    assert scene.receiver.bytes_received == 0


def test_redirect_is_idempotent_and_leaves_nothing(build):
    scene = build("node", None)
    workloads = ["--workloads", scene.firewall().workloads_file]
    before = scene["orders"].run(["nft", "list", "ruleset"]).stdout
    redirect(scene.network.node, "apply", "node", *workloads)
    once = scene["orders"].run(["nft", "-s", "list", "ruleset"]).stdout
    redirect(scene.network.node, "apply", "node", *workloads)
    assert scene["orders"].run(["nft", "-s", "list", "ruleset"]).stdout == once and once != before
    assert "table" in redirect(scene.network.node, "print", "node", *workloads).stdout
    redirect(scene.network.node, "delete", "node", *workloads)
    assert scene["orders"].run(["nft", "list", "ruleset"]).stdout == before
    assert ask(scene, "attacker", "ipv4") == 200
    redirect(scene.network.node, "delete", "node", *workloads)
