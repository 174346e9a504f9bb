"""Each way around the proxy is tried, and each ends at nothing. Also attacks 67, 68 and 70."""

import re
import socket
import sys
import threading
import time

import pytest

from lab.firewall import SIDECAR_UID, binary, cluster_policy, policy, redirect
from lab.program import until
from lab.recorder import Recorder
from lab.scene import PLACEMENTS, Scene
from lab.wire import Http1

WEB = [{"serviceAccount": "web"}]
RULES = [{"name": "reads", "from": WEB, "http": [{"methods": ["GET"], "paths": ["/orders/{id}"]}]}]
POLICY = [policy("orders", "orders", RULES)]
PORTS = {"web": [], "attacker": [], "orders": [{"name": "http", "port": 8080}]}
APPLICATION_UID = 2000
DENIED = b"GET /admin HTTP/1.1\r\nhost: orders\r\n\r\n"


@pytest.fixture(params=PLACEMENTS)
def scene(request, folder, ending):
    made = Scene(folder, ending, request.param, POLICY, PORTS)
    made.receiver = ending.enter_context(Recorder(made["orders"], "::", 8080))
    return made


class Datagrams:
    """A UDP receiver that keeps what it got."""

    def __init__(self, pod, port: int):
        self.socket = pod.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.bind(("::", port))
        self.socket.settimeout(0.2)
        self.got: list[bytes] = []
        self.open = True
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()

    def _take(self):
        while self.open:
            try:
                self.got.append(self.socket.recv(65536))
            except TimeoutError:
                continue
            except OSError:
                return

    def close(self):
        self.open = False
        self.thread.join(5)
        self.socket.close()


def send_datagram(pod, address: str, port: int, data: bytes):
    with pod.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(data, (address, port))
        except OSError:
            pass  # refused by the sending side's own rules


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("port", [53, 443, 8080])
def test_udp_and_quic_to_a_closed_workload(scene, ending, family, port):
    receiver = Datagrams(scene["orders"], port)
    ending.callback(receiver.close)
    address = getattr(scene["orders"], family)
    quic_initial = b"\xc3\x00\x00\x00\x01\x08" + bytes(range(8)) + b"\x00\x00\x44\x9e" + bytes(1174)
    for pod in ("attacker", "web"):
        send_datagram(scene[pod], address, port, quic_initial)
        send_datagram(scene[pod], address, port, b"hello")
    time.sleep(0.5)
    assert receiver.got == []
    firewall = scene.firewall()
    assert firewall.metric("eastwall_unevaluated_bytes_total") >= 0


def test_udp_passes_where_a_rule_says_so(scene, ending):
    receiver = Datagrams(scene["orders"], 5353)
    ending.callback(receiver.close)
    scene.write_policies([policy("orders", "orders", RULES + [{"name": "telemetry", "from": WEB, "ports": [5353], "udp": {}}])])
    if scene.placement == "sidecar":
        scene.firewall().apply()

    def arrives():
        send_datagram(scene["web"], scene["orders"].ipv4, 5353, b"from web")
        return b"from web" in receiver.got

    until(arrives, "an allowed datagram")
    send_datagram(scene["attacker"], scene["orders"].ipv4, 5353, b"from attacker")
    time.sleep(0.3)
    assert set(receiver.got) == {b"from web"}


def test_echo_passes(scene):
    for address in (scene["orders"].ipv4, scene["orders"].ipv6):
        scene["web"].run(["ping", "-c", "1", "-W", "5", address])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_ipv6_when_only_ipv4_is_registered(folder, ending, placement):
    scene = Scene(folder, ending, placement, POLICY, PORTS, more={"orders": {"ips": ["10.77.0.13"]}})
    assert scene["orders"].ipv4 == "10.77.0.13"
    with Recorder(scene["orders"], "::", 8080) as receiver:
        for pod in ("attacker", "web"):
            try:
                with Http1(scene[pod].connect(scene["orders"].ipv6, 8080, 2)) as client:
                    client.send(DENIED)
                    answer = client.response(timeout=2)
                    assert answer is None or answer.status == 403
            except OSError:
                pass
        assert receiver.bytes_received == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("proxied", ["ipv4", "ipv6"])
def test_one_ip_version_when_only_the_other_is_proxied(folder, ending, placement, proxied):
    scene = Scene(folder, ending, placement, POLICY, PORTS, arguments=["--family", proxied])
    other = getattr(scene["orders"], {"ipv4": "ipv6", "ipv6": "ipv4"}[proxied])
    datagrams = Datagrams(scene["orders"], 8080)
    ending.callback(datagrams.close)
    with Recorder(scene["orders"], "::", 8080) as receiver:
        for pod in ("attacker", "web"):
            for data in (DENIED, b"GET /orders/7 HTTP/1.1\r\nhost: orders\r\n\r\n"):
                with pytest.raises(OSError), Http1(scene[pod].connect(other, 8080, 3)) as client:
                    client.send(data)
            send_datagram(scene[pod], other, 8080, b"hello")
        time.sleep(0.5)
        assert receiver.bytes_received == 0 and receiver.connections == [] and datagrams.got == []
        for pod, status in (("web", 200), ("attacker", 403)):
            with Http1(scene[pod].connect(getattr(scene["orders"], proxied), 8080)) as client:
                client.send(b"GET /orders/7 HTTP/1.1\r\nhost: orders\r\n\r\n")
                assert client.response().status == status, "the version that is proxied is judged"


@pytest.mark.parametrize("mark", [1, 2, 3, 0x1337, 0xFFFFFFFF])
def test_the_proxys_mark_from_another_process(scene, mark):
    for family, address in ((socket.AF_INET, scene["orders"].ipv4), (socket.AF_INET6, scene["orders"].ipv6)):
        made = scene["attacker"].socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark.to_bytes(4, sys.byteorder))
        made.settimeout(5)
        try:
            made.connect((address, 8080))
            with Http1(made) as client:
                client.send(DENIED)
                answer = client.response()
                assert answer is None or answer.status == 403
        except OSError:
            pass
        finally:
            made.close()
    assert scene.receiver.bytes_received == 0


def test_a_direct_hit_on_the_listeners_port(scene):
    """Every port that listens in the pod, the application's own apart, leads nowhere."""
    listing = scene["orders"].run(["ss", "-Hltn"]).stdout
    ports = {int(port) for port in re.findall(r"LISTEN\s+\S+\s+\S+\s+\S+:(\d+)\s", listing)} - {8080}
    assert ports, "the proxy listens in the pod"
    for port in ports:
        for pod, addresses in (("attacker", (scene["orders"].ipv4, scene["orders"].ipv6)), ("orders", ("127.0.0.1", "::1", scene["orders"].ipv4))):
            for address in addresses:
                try:
                    with Http1(scene[pod].connect(address, port, 2)) as client:
                        client.send(b"GET /orders/7 HTTP/1.1\r\nhost: orders\r\n\r\n")
                        try:
                            answer = client.response(timeout=2)
                        except TimeoutError:
                            answer = None
                        assert answer is None or answer.status in (400, 403, 404), (pod, address, port, answer)
                except OSError:
                    pass
    assert scene.receiver.bytes_received == 0
    assert scene.firewall().program.alive()


def test_a_connection_that_was_open_before_the_redirect(folder, ending):
    for placement in PLACEMENTS:
        scene = Scene(folder / placement, ending, placement, POLICY, PORTS, start=False)
        with Recorder(scene["orders"], "::", 8080) as receiver:
            for address in (scene["orders"].ipv4, scene["orders"].ipv6):
                early = Http1(scene["attacker"].connect(address, 8080))
                early.send(b"GET /admin HTTP/1.1\r\nhost: orders\r\n\r\n")
                assert early.response().status == 200, "unprotected until the redirect"
                receiver.forget()
                if scene.firewall().program is None:
                    scene.firewall().start()
                early.send(DENIED)
                try:
                    answer = early.response(timeout=2)
                except TimeoutError:
                    answer = None
                assert answer is None or answer.status == 403, (placement, address, answer)
                early.close()
                assert b"/admin" not in b"".join(receiver.raw), placement
                scene.firewall().stop()
                if placement == "sidecar":
                    redirect(scene["orders"], "delete", "sidecar")
                else:
                    redirect(scene.network.node, "delete", "node", "--workloads", scene.firewall().workloads_file)
                receiver.forget()


def test_attack_70_a_spoofed_source_address(folder, ending):
    scene = Scene(folder, ending, "node", POLICY, PORTS, guarded=("orders", "attacker"))
    with Recorder(scene["orders"], "::", 8080) as receiver:
        for own, target in ((f"{scene['web'].ipv4}/32", scene["orders"].ipv4), (f"{scene['web'].ipv6}/128", scene["orders"].ipv6)):
            scene["attacker"].ip(f"addr add {own} dev lo" + (" nodad" if ":" in own else ""))
            try:
                with Http1(scene["attacker"].connect(target, 8080, 3, source=own.partition("/")[0])) as client:
                    client.send(b"GET /orders/7 HTTP/1.1\r\nhost: orders\r\n\r\n")
                    answer = client.response(timeout=3)
                    assert answer is None or answer.status == 403, answer
            except OSError:
                pass
        assert receiver.bytes_received == 0
    until(lambda: [line for line in scene.log() if line["event"] == "alert"], "the alert of a spoofed address")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/policy", "/reload", "/drain", "/explain", "/flows", "/debug/pprof", "/"])
def test_attack_68_admin_is_out_of_the_applications_reach(sidecar, method, path):
    firewall = sidecar.firewall()
    generation = firewall.generation()
    status, body = firewall.ask(path, method)
    assert status in (403, 404, 405), (method, path, status, body)
    asked = sidecar["orders"].run(["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--unix-socket", firewall.admin_socket, f"http://admin{path}"],
                                  uid=APPLICATION_UID, check=False)
    assert asked.returncode != 0 or asked.stdout in ("403", "404"), asked
    assert firewall.generation() == generation and firewall.program.alive()


@pytest.fixture(scope="module")
def sidecar(module_folder, module_ending):
    return Scene(module_folder / "admin", module_ending, "sidecar", POLICY, PORTS)


def test_attack_68_health_and_metrics_are_all_there_is(sidecar):
    firewall = sidecar.firewall()
    for path in ("/healthz", "/readyz", "/metrics"):
        assert firewall.ask(path)[0] == 200
        assert firewall.ask(path, "POST")[0] in (400, 404, 405)
    for pod in ("attacker", "web"):
        host, port = firewall.admin.rsplit(":", 1)
        for address in (sidecar["orders"].ipv4, sidecar["orders"].ipv6):
            try:
                with Http1(sidecar[pod].connect(address, int(port), 2)) as client:
                    client.send(b"POST /reload HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
                    answer = client.response(timeout=2)
                    assert answer is None or answer.status in (400, 403, 404, 405)
            except OSError:
                pass


def test_the_sidecar_runs_without_any_capability(sidecar):
    with open(f"/proc/{sidecar.firewall().program.pid}/status", encoding="ascii") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
    assert status["Uid"].split()[0] != "0"


def test_a_loopback_only_listener_stays_unreachable(sidecar):
    with Recorder(sidecar["orders"], "127.0.0.1", 8099) as inner:
        try:
            with Http1(sidecar["web"].connect(sidecar["orders"].ipv4, 8099, 3)) as client:
                client.send(b"GET /orders/7 HTTP/1.1\r\nhost: orders\r\n\r\n")
                answer = client.response(timeout=3)
                assert answer is None or answer.status in (403, 502, 503), answer
        except OSError:
            pass
        assert inner.bytes_received == 0
        with Http1(sidecar["orders"].connect("127.0.0.1", 8099)) as client:
            client.send(b"GET / HTTP/1.1\r\nhost: me\r\n\r\n")
            assert client.response().status == 200, "loopback itself is never intercepted"


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_attack_69_a_name_is_only_a_claim(folder, ending, placement):
    """Egress: the name in Host or SNI does not make another address the one that is allowed."""
    rules = [{"name": "orders", "to": [{"service": "orders"}], "http": [{"methods": ["GET"], "paths": ["/orders/{id}"], "hosts": ["orders.shop"]}]}]
    service = {"kind": "Service", "name": "orders", "namespace": "shop", "ips": ["10.96.0.10"], "ports": [{"name": "http", "port": 80, "targetPort": 8080}], "endpoints": ["shop/orders"]}
    scene = Scene(folder, ending, placement, [policy("web", "web", egress=rules)], PORTS, guarded=("web",), strangers=("evil",), entries=[service])
    with Recorder(scene["evil"], "::", 8080) as evil, Recorder(scene["orders"], "::", 8080) as orders:
        head = b"GET /orders/7 HTTP/1.1\r\nhost: orders.shop\r\n\r\n"
        place = scene["web"]
        if placement == "sidecar":
            asked = place.run(["curl", "-sS", "--max-time", "5", "-H", "Host: orders.shop", "-o", "/dev/null", "-w", "%{http_code}", f"http://{scene['evil'].ipv4}:8080/orders/7"], uid=APPLICATION_UID, check=False)
            assert asked.stdout in ("403", "000"), asked
            fine = place.run(["curl", "-sS", "--max-time", "5", "-H", "Host: orders.shop", "-o", "/dev/null", "-w", "%{http_code}", f"http://{scene['orders'].ipv4}:8080/orders/7"], uid=APPLICATION_UID, check=False)
            assert fine.stdout == "200", fine
        else:
            for address in (scene["evil"].ipv4, scene["evil"].ipv6):
                with Http1(place.connect(address, 8080)) as client:
                    client.send(head)
                    answer = client.response()
                    assert answer is None or answer.status == 403
            with Http1(place.connect(scene["orders"].ipv4, 8080)) as client:
                client.send(head)
                assert client.response().status == 200
        assert evil.bytes_received == 0 and len(orders.requests) == 1


@pytest.mark.parametrize("way", ["uid", "net-admin"])
def test_attack_67_who_leaves_its_own_sidecar_is_judged_at_the_other_end(folder, ending, way):
    """Outbound is a courtesy: the proxy's uid and NET_ADMIN inside the pod are the documented exceptions. Inbound is the guarantee."""
    egress = [{"name": "orders", "to": [{"serviceAccount": "orders"}], "ports": ["http"], "http": [{}]}]
    scene = Scene(folder, ending, "sidecar", [*POLICY, policy("web", "web", egress=egress)], PORTS, guarded=("web", "orders"), strangers=("evil",))

    def ask(address: str, path: str, uid: int, method: str = "GET") -> str:
        return scene["web"].run(["curl", "-sS", "--max-time", "5", "-X", method, "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}:8080{path}"], uid=uid, check=False).stdout

    with Recorder(scene["evil"], "::", 8080) as evil, Recorder(scene["orders"], "::", 8080) as orders:
        for address in (scene["evil"].ipv4, f"[{scene['evil'].ipv6}]"):
            assert ask(address, "/x", APPLICATION_UID) in ("403", "000")
        assert evil.bytes_received == 0, "an application without privileges does not leave"
        if way == "uid":
            uid = SIDECAR_UID
        else:
            uid = APPLICATION_UID
            scene["web"].run(["nft", "flush", "ruleset"])
        assert ask(scene["evil"].ipv4, "/leaves", uid) == "200", "the exception, as the threat model says"
        for address in (scene["orders"].ipv4, f"[{scene['orders'].ipv6}]"):
            orders.forget()
            for method, path in (("GET", "/admin"), ("DELETE", "/orders/7")):
                assert ask(address, path, uid, method) == "403"
            assert orders.bytes_received == 0, "the destination's inbound side still judges it"
            assert ask(address, "/orders/7", uid) == "200"
        for method, path in (("GET", "/admin"), ("DELETE", "/orders/7")):
            scene.firewall("orders").wait_log(lambda line, asked=(method, path): line["verdict"] == "deny" and line["source_workload"] == "shop/web"
                                              and (line["http.request.method"], line["url.path"]) == asked)
        assert {line["url.path"] for line in scene.log("web")} <= {"/x"}, "nothing of it went through the source's own proxy"


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("uid", [0, APPLICATION_UID])
def test_a_pod_of_the_node_is_judged_like_any_other(folder, ending, placement, uid):
    """Attack 63: the same pod, the same node, the node itself, and other uids inside the pods."""
    closed = [cluster_policy("closed", "Baseline", subject=[{"any": True}], directions=["Ingress"])]
    scene = Scene(folder, ending, placement, closed, PORTS, more={"orders": {"probes": [{"port": 8080, "path": "/healthz"}]}})
    with Recorder(scene["orders"], "::", 8080) as receiver:
        for place in (scene["web"], scene["attacker"], scene.network.node):
            asked = place.run(["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", f"http://{scene['orders'].ipv4}:8080/orders/7"], uid=uid, check=False)
            assert asked.stdout in ("403", "000"), asked
        assert receiver.bytes_received == 0
        # A pod that speaks to itself is never intercepted.
        assert scene["orders"].run(["curl", "-sS", "--max-time", "5", "-o", "/dev/null", "-w", "%{http_code}", f"http://{scene['orders'].ipv4}:8080/me"], uid=uid, check=False).stdout == "200"


def test_redirect_sidecar_is_idempotent_and_all_or_nothing(make_network):
    pod = make_network("routed", "alone").pods["alone"]
    before = pod.run(["nft", "list", "ruleset"]).stdout
    redirect(pod, "apply", "sidecar", "--uid", 1337)
    once = pod.run(["nft", "-s", "list", "ruleset"]).stdout
    redirect(pod, "apply", "sidecar", "--uid", 1337)
    assert pod.run(["nft", "-s", "list", "ruleset"]).stdout == once != before
    broken = pod.run([binary(), "redirect", "apply", "--mode", "sidecar", "--uid", "no-number"], check=False)
    assert broken.returncode != 0 and pod.run(["nft", "-s", "list", "ruleset"]).stdout == once
    redirect(pod, "delete", "sidecar")
    assert pod.run(["nft", "list", "ruleset"]).stdout == before
