"""Everything at once: pods that the API server had injected, their sidecars following the controller, mutual TLS between them, real programs at both ends."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from lab import servers
from lab.mesh import spiffe
from lab.program import Program, until
from lab.recorder import Recorder
from lab.wire import Http1

NAMESPACE = "trade"
ENFORCED = 1.0
# After an API server that was away is back: it refuses a watch twice before it takes it.
CAUGHT_UP = 10.0
PORTS = [{"name": "http", "containerPort": 8080}, {"name": "echo", "containerPort": 9000}]
STRICT = {"eastwall.dev/inbound-mtls": "strict"}
CALLER = spiffe("web", NAMESPACE)


def policy(name: str, account: str, **spec) -> dict:
    return {"apiVersion": "eastwall.dev/v1alpha1", "kind": "FirewallPolicy", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"subject": [{"serviceAccount": account}]} | spec}


WEB = policy("web", "web", egress=[
    {"name": "asks", "to": [{"serviceAccount": "orders"}], "ports": [8080], "http": [{"methods": ["GET"]}]},
    {"name": "talks", "to": [{"serviceAccount": "orders"}], "ports": [9000], "tcp": {}},
])


def orders(*paths: str) -> dict:
    """Who may ask `orders` for what: `web` with a proof, `batch` with none."""
    proven = {"from": [{"principal": CALLER}], "proof": "MutualTLS"}
    return policy("orders", "orders", ingress=[
        {"name": "asked", "ports": ["http"], "http": [{"paths": list(paths)}]} | proven,
        {"name": "told", "ports": ["echo"], "tcp": {}} | proven,
        {"name": "known", "from": [{"serviceAccount": "batch"}], "ports": ["http"], "http": [{"paths": ["/plain"]}]},
    ])


class Mesh:
    """`web` asks `orders`; both have a sidecar, `batch` has none."""

    def __init__(self, cluster, folder, ending):
        self.cluster, self.api, self.controller, self.ending = cluster, cluster.api, cluster.controller, ending
        self.places = {name: cluster.network.pod(name) for name in ("web", "orders", "batch")}
        self.sidecars = {}
        cluster.namespace(NAMESPACE, inject="enabled")
        ending.callback(self.forget)
        cluster.run(cluster.pod(NAMESPACE, "web"), self.places["web"])
        cluster.run(cluster.pod(NAMESPACE, "orders", ports=PORTS, annotations=STRICT), self.places["orders"])
        cluster.run(cluster.pod(NAMESPACE, "batch", labels={"eastwall.dev/inject": "disabled"}), self.places["batch"])
        for name in ("web", "orders"):
            self.stand(name, self.places[name])
        servers.nginx(self.places["orders"], folder, ending)
        ending.enter_context(Recorder(self.places["orders"], self.places["orders"].ipv4, 9000, http=False, echo=True))

    def stand(self, name: str, place) -> None:
        """Its sidecar, which says what it said where a test fails."""
        self.sidecars[name] = self.cluster.sidecar(place, NAMESPACE, name)
        self.ending.enter_context(self.sidecars[name])

    def forget(self) -> None:
        for kind in ("pods", "fwp"):
            self.api.done("delete", kind, "--all", "-n", NAMESPACE, "--grace-period=0", "--force")

    def curl(self, path: str, source: str = "web", to: str = "orders") -> str:
        """The status that the curl of a pod sees."""
        url = f"http://{self.places[to].ipv4}:8080{path}"
        return self.places[source].run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", url], check=False).stdout

    def apply(self, *documents: dict) -> float:
        """When the API server had them, each by a `kubectl apply` of its own."""
        self.cluster.put(*documents)
        return time.monotonic()

    def turns(self, path: str, status: str, since: float, longest: float = 10) -> float:
        """Seconds until curl sees this status."""
        until(lambda: self.curl(path) == status, f"{path} is answered {status}", longest, 0)
        return time.monotonic() - since

    def programmed(self, name: str = "orders", status: str = "True") -> dict:
        """The policy, once its status is of its generation."""
        def told():
            whole = self.api.get("fwp", name, "-n", NAMESPACE)
            conditions = {each["type"]: each for each in whole.get("status", {}).get("conditions", [])}
            wanted = [conditions["Accepted"], conditions["Programmed"]]
            return all(each["status"] == status and each["observedGeneration"] == whole["metadata"]["generation"] for each in wanted) and whole

        return self.controller.until(f"{name} is programmed", told)

    def connect(self) -> Http1:
        """A connection of `web` to `orders` that is kept, over which one request has passed."""
        client = Http1(self.places["web"].connect(self.places["orders"].ipv4, 8080))
        self.ending.callback(client.close)
        assert ask(client, "/open") == 200
        return client

    @contextlib.contextmanager
    def traffic(self):
        """Requests, each over a connection of its own, from beginning to end; the list of what curl saw."""
        statuses, ending = [], threading.Event()

        def go_on():
            while not ending.is_set():
                statuses.append(self.curl("/open"))

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            yield statuses
        finally:
            ending.set()
            thread.join()


def ask(client: Http1, path: str) -> int | None:
    """`None` where the connection ended instead."""
    client.send(f"GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
    answer = client.response()
    return answer.status if answer else None


@pytest.fixture(scope="module")
def mesh(cluster, module_folder, module_ending):
    made = Mesh(cluster, module_folder, module_ending)
    made.apply(WEB)
    made.programmed("web")
    return made


@pytest.fixture
def closed(mesh):
    """Nobody has written a policy for `orders`."""
    mesh.api.done("delete", "fwp", "orders", "-n", NAMESPACE, "--ignore-not-found")
    until(lambda: mesh.curl("/open") == "403", "it is closed", 10)
    return mesh


@pytest.fixture
def opened(mesh):
    """`web` may ask `orders` for `/open`."""
    mesh.apply(orders("/open"))
    mesh.programmed()
    until(lambda: mesh.curl("/open") == "200", "it is open", 10)
    return mesh


def test_a_policy_that_is_applied_is_enforced_within_a_second(closed):
    mesh = closed
    for _ in range(3):
        began = time.monotonic()
        applied = mesh.apply(orders("/open"))
        lag, whole = mesh.turns("/open", "200", applied), time.monotonic() - began
        print(f"applied: enforced {lag * 1000:.0f} ms after the API server had it, {whole * 1000:.0f} ms after kubectl was called")
        assert lag < ENFORCED
        assert mesh.curl("/other") == "403"
        mesh.programmed()
        mesh.api.done("delete", "fwp", "orders", "-n", NAMESPACE)
        lag = mesh.turns("/open", "403", time.monotonic())
        print(f"deleted: enforced {lag * 1000:.0f} ms after the API server had it")
        assert lag < ENFORCED


def test_who_asks_is_proven_and_nothing_is_plain_on_the_wire(opened, folder, ending):
    mesh, place = opened, opened.places["orders"]
    wire = Program(place, ["tcpdump", "-i", "eth0", "--immediate-mode", "-U", "-w", folder / "wire.pcap", "tcp"], folder, "tcpdump")
    ending.callback(wire.stop)
    until(lambda: "listening on" in wire.text(), "tcpdump")
    before = len(mesh.sidecars["orders"].log())
    assert mesh.curl("/open") == "200"
    line = until(lambda: next((each for each in mesh.sidecars["orders"].log()[before:] if each.get("url.path") == "/open"), None), "the request in the access log")
    assert line["verdict"] == "allow" and line["proof"] == "mtls" and line["principal"] == CALLER, line
    # What is plain is seen: this pod has no sidecar.
    mesh.curl("/plain", source="batch")
    until(lambda: b"/plain" in (folder / "wire.pcap").read_bytes(), "packets")
    wire.stop()
    seen = (folder / "wire.pcap").read_bytes()
    assert not [word for word in (b"/open", b"nginx") if word in seen]


def test_strict_is_a_word_on_the_pod(opened):
    mesh = opened
    assert mesh.curl("/plain", source="batch") == "403"
    line = mesh.sidecars["orders"].wait_log(lambda line: line.get("reason") == "plaintext-refused")
    assert line["verdict"] == "deny", line
    mesh.api.done("annotate", "pod", "orders", "-n", NAMESPACE, "eastwall.dev/inbound-mtls-")
    try:
        until(lambda: mesh.curl("/plain", source="batch") == "200", "plaintext passes", 10)
        assert mesh.curl("/open", source="batch") == "403", "it is no proof"
    finally:
        mesh.api.done("annotate", "pod", "orders", "-n", NAMESPACE, "eastwall.dev/inbound-mtls=strict")
    until(lambda: mesh.curl("/plain", source="batch") == "403", "it is strict again", 10)


def test_a_status_is_of_the_generation_that_is_in_force(opened):
    mesh = opened
    before = mesh.programmed()["metadata"]["generation"]
    mesh.apply(orders("/open", "/more"))
    whole = mesh.programmed()
    assert whole["metadata"]["generation"] == before + 1 == whole["status"]["observedGeneration"]
    assert mesh.curl("/more") == "200"
    # A version that takes the place of another is no reason to warn.
    assert "notify" not in mesh.sidecars["orders"].program.text()


def given_away(mesh, name: str, account: str) -> None:
    """The pod is gone, and all that it had open; its address is that of a pod of another account."""
    client, stream = mesh.connect(), mesh.places["web"].connect(mesh.places["orders"].ipv4, 9000)
    with stream:
        stream.sendall(b"bytes")
        assert stream.recv(5) == b"bytes"
        mesh.cluster.delete("pod", name, "-n", NAMESPACE)
        gone = time.monotonic()
        stream.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            assert stream.recv(1) == b""
        lag = time.monotonic() - gone
    print(f"a connection of {name} was cut {lag * 1000:.0f} ms after the API server had deleted the pod")
    assert lag < ENFORCED
    assert ask(client, "/open") in (None, 403)
    mesh.cluster.run(mesh.cluster.pod(NAMESPACE, f"new-{name}", account, ports=PORTS), mesh.places[name])
    assert ask(client, "/open") in (None, 403)


def test_whoever_gets_the_address_of_a_caller_gets_none_of_its_rights(opened):
    mesh = opened
    given_away(mesh, "web", "other")
    # The old sidecar still runs, and shows the certificate of the pod that is gone.
    assert mesh.curl("/open") == "403"
    mesh.sidecars["orders"].wait_log(lambda line: line.get("reason") == "identity-mismatch")
    mesh.sidecars["web"].stop()
    mesh.stand("new-web", mesh.places["web"])
    mesh.apply(policy("other", "other", egress=[{"to": [{"serviceAccount": "orders"}], "tcp": {}}]))
    mesh.programmed("other")
    assert mesh.curl("/open") == "403"
    line = mesh.sidecars["orders"].wait_log(lambda line: line.get("principal") == spiffe("other", NAMESPACE))
    assert line["verdict"] == "deny" and line["reason"] == "no-rule", line
    mesh.sidecars.pop("new-web").stop()
    mesh.cluster.delete("pod", "new-web", "-n", NAMESPACE)
    mesh.cluster.run(mesh.cluster.pod(NAMESPACE, "web"), mesh.places["web"])
    mesh.stand("web", mesh.places["web"])
    until(lambda: mesh.curl("/open") == "200", "the caller is back", 10)


def test_whoever_gets_the_address_of_a_server_gets_none_of_its_callers(opened):
    mesh = opened
    # It serves whom the old one refused, and would like to be taken for it.
    mesh.apply(policy("other", "other", ingress=[{"from": [{"any": True}], "ports": ["http"], "tcp": {}}]))
    given_away(mesh, "orders", "other")
    assert mesh.curl("/open") == "403", "its callers may ask `orders`"
    mesh.apply(policy("web", "web", egress=[{"to": [{"serviceAccount": "other"}], "tcp": {}}]))
    mesh.programmed("web")
    assert mesh.curl("/open") == "000", "the old sidecar cannot prove that it is the new pod"
    assert mesh.sidecars["web"].metric("eastwall_handshakes_total", direction="outbound", result="other-identity") >= 1
    mesh.sidecars["orders"].stop()
    mesh.cluster.delete("pod", "new-orders", "-n", NAMESPACE)
    mesh.cluster.run(mesh.cluster.pod(NAMESPACE, "orders", ports=PORTS, annotations=STRICT), mesh.places["orders"])
    mesh.stand("orders", mesh.places["orders"])
    mesh.apply(WEB)
    until(lambda: mesh.curl("/open") == "200", "the server is back", 10)


def test_an_api_server_that_dies_stops_nothing(opened):
    mesh = opened
    kept = mesh.connect()
    with mesh.traffic() as statuses:
        mesh.api.kill()
        assert mesh.curl("/other") == "403", "and opens nothing"
        mesh.api.start()
        # A watch that broke is tried again after ever longer times.
        lag = mesh.turns("/after", "200", mesh.apply(orders("/open", "/after")), 30)
        print(f"what was applied to an API server that is back was in force after {lag:.1f} s")
        assert lag < CAUGHT_UP
        mesh.programmed()
    assert ask(kept, "/open") == 200
    assert len(statuses) > 20 and set(statuses) == {"200"}, statuses


def test_a_controller_that_dies_stops_nothing(opened):
    mesh = opened
    kept = mesh.connect()
    with mesh.traffic() as statuses:
        mesh.controller.kill()
        # Nobody is there who would tell.
        mesh.apply(orders("/open", "/after"))
        time.sleep(2)
        assert mesh.curl("/after") == "403"
        began = time.monotonic()
        mesh.controller.start().ready()
        back = time.monotonic() - began
        until(lambda: mesh.curl("/after") == "200", "what was applied meanwhile is in force", 20)
        print(f"a new controller was ready after {back:.1f} s, and what was applied before it in force after {time.monotonic() - began:.1f} s")
        mesh.controller.until("it leads", mesh.controller.leads)
        mesh.programmed()
        lag = mesh.turns("/then", "200", mesh.apply(orders("/open", "/then")))
        assert lag < ENFORCED
    assert ask(kept, "/open") == 200
    assert len(statuses) > 20 and set(statuses) == {"200"}, statuses
