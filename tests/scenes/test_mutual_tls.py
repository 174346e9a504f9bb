"""Two proxies that prove to each other who they stand before: real programs, and what an observer on the wire sees."""

import json
import subprocess
import threading
import time

import pytest

from lab import servers
from lab.firewall import SIDECAR_UID, policy
from lab.mesh import Authority, spiffe
from lab.program import Program, until
from lab.scene import Scene
from lab.wire import Http1
from lab.workload_api import WorkloadApi, response

PORTS = {"web": [], "orders": [{"name": "http", "port": 8080}, {"name": "redis", "port": 6379}], "batch": []}
RULES = [policy("orders", "orders", [
    {"name": "pages", "from": [{"serviceAccount": "web"}], "proof": "MutualTLS", "ports": ["http"], "http": [{"paths": ["/open"]}]},
    {"name": "redis", "from": [{"principal": spiffe("web")}], "proof": "MutualTLS", "ports": ["redis"], "tcp": {}},
])]
MESHED = {"orders": {"annotations": {"eastwall.dev/hbone": "enabled"}}}


class Mesh(Scene):
    """Every guarded pod has a proxy with a certificate of the pod's account."""

    def __init__(self, folder, ending, placement: str, guarded=("orders", "web"), more=None, entries=(), issue=None, arguments=()):
        self.authority = Authority()
        self.folders = {}
        issue = issue or (lambda name: self.authority.issue(spiffe(name)))

        def identity(name: str) -> list:
            root = folder / f"identity-{name}"
            if name == "node":
                for pod in guarded:
                    issue(pod).write(root / "shop" / pod, [self.authority.certificate])
            else:
                issue(name).write(root, [self.authority.certificate])
            self.folders[name] = root
            return ["--identity", root, *arguments]

        super().__init__(folder, ending, placement, RULES, PORTS, guarded=guarded, more=more or MESHED, entries=entries, arguments=identity)

    def curl(self, path: str, source: str = "web", host: str | None = None) -> str:
        """The status that a pod's curl sees."""
        address = host or f"{self['orders'].ipv4}:8080"
        return self[source].run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", f"http://{address}{path}"], check=False).stdout


def capture(pod, folder, name: str) -> Program:
    """All TCP of a pod's interface, in a file."""
    program = Program(pod, ["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-w", folder / f"{name}.pcap", "tcp"], folder, f"tcpdump-{name}")
    until(lambda: "listening on" in program.text(), "tcpdump")
    return program


@pytest.mark.parametrize("placement", ["sidecar", "node"])
def test_what_passes_between_proxies_is_encrypted_and_proven(folder, ending, placement):
    mesh = Mesh(folder, ending, placement)
    servers.nginx(mesh["orders"], folder, ending)
    wire = capture(mesh["orders"], folder, "orders")
    ending.callback(wire.stop)
    assert mesh.curl("/open") == "200"
    assert mesh.curl("/closed") == "403"
    line = mesh.firewall().wait_log(lambda line: line.get("url.path") == "/open" and line.get("direction", line.get("eastwall.direction")) != "outbound" and line.get("proof") == "mtls")
    assert spiffe("web") in json.dumps(line), line
    if placement == "sidecar":
        until(lambda: (folder / "orders.pcap").stat().st_size > 2000, "packets")
        wire.stop()
        seen = (folder / "orders.pcap").read_bytes()
        assert b"/open" not in seen and b"nginx" not in seen, "plaintext on the wire"
    assert mesh.firewall().metric("eastwall_handshakes_total", direction="inbound", result="accepted") >= 1
    # Whoever has no certificate, at whatever address, has no proof.
    assert mesh.curl("/open", source="batch") == "403"


def test_a_node_needs_identities_once_it_has_pods(folder, ending):
    root = folder / "identities"
    root.mkdir()
    scene = Scene(folder, ending, "node", RULES, PORTS, guarded=(), arguments=["--identity", root])
    scene.guarded = ("orders",)
    scene.write_workloads()
    until(lambda: scene.firewall().ask("/readyz")[0] == 503, "the first pod")
    assert json.loads(scene.firewall().ask("/readyz")[1])["identity"] is False
    authority = Authority()
    authority.issue(spiffe("orders")).write(root / "shop" / "orders", [authority.certificate])
    scene.firewall().wait_ready()


def test_long_lived_bytes_of_another_protocol(folder, ending):
    mesh = Mesh(folder, ending, "sidecar")
    servers.redis(mesh["orders"], folder, ending)
    payload = "x" * 300_000
    ask = lambda *words, source="web", **more: mesh[source].run(["redis-cli", "-h", mesh["orders"].ipv4, *words], check=False, **more).stdout
    assert ask("-x", "set", "big", input=payload).strip() == "OK"
    assert ask("--raw", "get", "big").strip() == payload
    assert "PONG" not in ask("ping", source="batch")


def test_a_connection_carries_so_many_tunnels(folder, ending):
    mesh = Mesh(folder, ending, "sidecar", arguments=["--hbone-tunnels", "2"])
    servers.redis(mesh["orders"], folder, ending)
    opened = lambda: mesh.firewall("web").metric("eastwall_handshakes_total", direction="outbound", result="accepted")
    before = opened()
    for _ in range(5):
        client = ending.enter_context(mesh["web"].connect(mesh["orders"].ipv4, 6379))
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
    # Each of the two workers has its own.
    assert opened() - before >= 3


@pytest.mark.parametrize("reason", ["other-identity", "unknown-issuer", "expired"])
def test_the_destination_has_to_prove_who_it_is(folder, ending, reason):
    """A server that is not whom the registry has there gets no byte, and there is no way back to plaintext."""
    other = Authority("other")

    def issue(name: str):
        if name != "orders":
            return mine.issue(spiffe(name))
        return {"other-identity": mine.issue(spiffe("batch")), "unknown-issuer": other.issue(spiffe("orders")), "expired": mine.issue(spiffe("orders"), end=0.00005)}[reason]

    mine = Authority()
    trusted = mine.certificate
    mesh = Scene(folder, ending, "sidecar", RULES, PORTS, guarded=("orders", "web"), more=MESHED,
                 arguments=lambda name: ["--identity", issue(name).write(folder / f"identity-{name}", [other.certificate if name == "orders" and reason == "unknown-issuer" else trusted])])
    nginx = servers.nginx(mesh["orders"], folder, ending)
    if reason == "expired":
        time.sleep(5)
    before = mesh.firewall("web").metric("eastwall_handshakes_total", direction="outbound", result=reason)
    said = mesh["web"].run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", f"http://{mesh['orders'].ipv4}:8080/open"], check=False).stdout
    assert said in ("502", "000"), said
    assert mesh.firewall("web").metric("eastwall_handshakes_total", direction="outbound", result=reason) > before
    assert "/open" not in (folder / "nginx" / "access.log").read_text()
    assert nginx.alive()


def test_a_service_leads_through_a_tunnel_to_one_of_its_endpoints(folder, ending):
    service = {"kind": "Service", "name": "orders", "namespace": "shop", "ips": ["10.96.0.7"], "ports": [{"name": "http", "port": 80, "targetPort": 8080}], "endpoints": ["shop/orders"]}
    mesh = Mesh(folder, ending, "sidecar", entries=[service])
    servers.nginx(mesh["orders"], folder, ending)
    # Nobody answers at the Service's address: there is no kube-proxy here.
    assert mesh.curl("/open", host="10.96.0.7") == "200"
    line = mesh.firewall().wait_log(lambda line: line.get("url.path") == "/open")
    assert line["proof"] == "mtls", line


def test_identities_from_the_workload_api(folder, ending):
    """The agent's socket, rotation without a cut, and an agent that goes away."""
    authority = Authority()
    agents = {}

    def agent(name: str) -> list:
        home = folder / f"agent-{name}"
        home.mkdir()
        home.chmod(0o755)
        agents[name] = WorkloadApi(home / "api.sock")
        ending.callback(agents[name].stop)
        agents[name].give(response(spiffe(name), authority.issue(spiffe(name)), [authority.certificate]))
        return ["--workload-api", f"unix:{home / 'api.sock'}"]

    mesh = Scene(folder, ending, "sidecar", RULES, PORTS, guarded=("orders", "web"), more=MESHED, arguments=agent)
    servers.nginx(mesh["orders"], folder, ending)
    ask = lambda: mesh["web"].run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", f"http://{mesh['orders'].ipv4}:8080/open"], check=False).stdout
    assert ask() == "200"
    remaining = lambda: mesh.firewall().metric("eastwall_identity_remaining_seconds")
    assert remaining() > 20 * 3600
    stopping, statuses = threading.Event(), []

    def go_on():
        while not stopping.is_set() and len(statuses) < 500:
            statuses.append(ask())

    thread = threading.Thread(target=go_on)
    thread.start()
    for name in agents:
        agents[name].give(response(spiffe(name), authority.issue(spiffe(name), end=0.5), [authority.certificate]))
    until(lambda: remaining() < 13 * 3600, "the new certificate")
    stopping.set()
    thread.join(30)
    assert set(statuses) == {"200"}, statuses
    for each in agents.values():
        each.stop()
    assert ask() == "200", "the last good identity stays"
    until(lambda: mesh.firewall().metric("eastwall_identity_reads_total", result="failure") > 0, "the failure")


def test_a_destination_that_takes_hbone_from_now_on_gets_no_plaintext(folder, ending):
    """Connections that were kept open for it are not used any more."""
    mesh = Mesh(folder, ending, "sidecar", more={"orders": {}})
    servers.nginx(mesh["orders"], folder, ending)
    # Judged request by request at the source, so that its proxy keeps connections.
    mesh.write_policies([*RULES, policy("web", "web", egress=[{"to": [{"serviceAccount": "orders"}], "http": [{"methods": ["GET"]}]}])])
    with Http1(mesh["web"].connect(mesh["orders"].ipv4, 8080)) as client:
        ask = lambda: (client.send(b"GET /open HTTP/1.1\r\nhost: orders\r\n\r\n"), client.response().status)[1]
        assert ask() == 403, "plaintext is no proof"
        mesh.more = MESHED
        mesh.write_workloads()
        assert ask() == 200
