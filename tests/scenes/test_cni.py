"""The chained CNI plugin, run as a container runtime runs it: no pod without a proxy, and no packet before the rules."""

import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lab.firewall import Firewall, Sidecar, binary, policy, redirect
from lab.namespace import HOME, Container, Namespace
from lab.network import Network, Pod
from lab.program import until
from lab.recorder import Recorder
from lab.wire import Http1

POLICY = [policy("orders", "orders", [{"name": "reads", "from": [{"serviceAccount": "web"}], "http": [{"methods": ["GET"], "paths": ["/orders/**"]}]}])]
PORTS = [{"name": "http", "port": 8080}]
EXEMPT = {"namespaceLabels": {"eastwall.dev/interception": "disabled"}}
TABLE = ["nft", "list", "table", "inet", "eastwall"]


def plugin_binary() -> Path:
    """The plugin beside the program under test, or the one that `./test` builds."""
    root = Path(__file__).resolve().parents[2]
    places = [Path(binary()).with_name("eastwall-cni"), root / "target" / "checked" / "eastwall-cni"]
    found = next((place for place in places if place.exists()), None)
    assert found, f"none of {places} exists: cargo build --profile checked -p eastwall-cni"
    return found


class Runtime:
    """A container runtime with this plugin alone in its chain; what makes the network has been here before."""

    def __init__(self, socket_path, version: str = "1.1.0", **members):
        self.version = version
        self.configuration = {"cniVersion": version, "name": "k8s", "type": "eastwall-cni", "socket": str(socket_path), "timeoutSeconds": 10} | members

    def call(self, command: str, pod: Pod | None = None, namespace: str = "shop", name: str | None = None, netns: str | None = None, uid: str | None = None, **more) -> tuple[int, dict | None]:
        """Exit code, and what it said on standard output."""
        environment = {"CNI_COMMAND": command, "CNI_PATH": "/nowhere", "PATH": os.environ["PATH"]}
        text = self.configuration | more
        if pod:
            environment |= {"CNI_CONTAINERID": f"c-{pod.name}", "CNI_IFNAME": "eth0", "CNI_NETNS": pod.path if netns is None else netns,
                            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name or pod.label};K8S_POD_UID={uid or pod.name}"}
            text = text | {"prevResult": self.result(pod)}
        done = subprocess.run([plugin_binary()], input=json.dumps(text), env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def result(self, pod: Pod) -> dict:
        """Of the plugins before."""
        return {"cniVersion": self.version, "interfaces": [{"name": "eth0", "sandbox": pod.path}],
                "ips": [{"address": f"{pod.ipv4}/32", "interface": 0}, {"address": f"{pod.ipv6}/128", "interface": 0}], "dns": {}}

    def add(self, pod: Pod, **more) -> None:
        code, told = self.call("ADD", pod, **more)
        assert (code, told) == (0, self.result(pod)), told

    def fails(self, command: str, pod: Pod | None, expected: int, **more) -> str:
        """The words of an error with this code."""
        code, told = self.call(command, pod, **more)
        assert code == 1 and told["code"] == expected and told["cniVersion"] == self.version, (code, told)
        return f"{told['msg']}: {told['details']}"


class Node:
    """A node with two pods, of which the runtime starts `orders`; `web` and `attacker` have no proxy of their own."""

    def __init__(self, folder, ending, place: Namespace | None = None):
        self.ending = ending
        self.network = Network("routed")
        ending.callback(self.network.delete)
        self.web, self.attacker, self.orders = (self.network.pod(name) for name in ("web", "attacker", "orders"))
        self.receiver = ending.enter_context(Recorder(self.orders, "::", 8080))
        self.socket, self.state = folder / "run" / "cni.sock", folder / "run" / "pods.json"
        self.firewall = ending.enter_context(Firewall(folder / "node", "node", place or self.network.node, POLICY, [], arguments=["--cni-socket", self.socket]))
        self.runtime = Runtime(self.socket)

    def register(self, *entries: dict) -> None:
        """These pods, and the clients."""
        clients = [pod.workload() for pod in (self.web, self.attacker)]
        self.firewall.write_workloads(clients + list(entries) + [self.network.node_entry()])
        if self.firewall.program and self.firewall.program.alive():
            self.firewall.ask_socket("/reload", "POST")

    def ask(self, source: Pod, target: Pod | None = None, path: str = "/orders/7", address: str | None = None):
        """The status, or what else became of it."""
        address = address or (target or self.orders).ipv4
        try:
            with Http1(source.connect(address, 8080, 3)) as client:
                client.send(f"GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
                answer = client.response(timeout=3)
                return answer.status if answer else "closed"
        except OSError as error:
            return type(error).__name__

    def verdicts(self) -> tuple:
        """Of what the policy allows, in both IP versions, and of what it does not."""
        return (self.ask(self.web), self.ask(self.web, address=self.orders.ipv6), self.ask(self.web, path="/admin"), self.ask(self.attacker))

    def is_closed(self) -> bool:
        """Nobody gets an answer of the pod, and nothing reaches it."""
        before = self.receiver.bytes_received
        answers = [self.ask(pod, address=address) for pod in (self.web, self.attacker) for address in (self.orders.ipv4, self.orders.ipv6)]
        return 200 not in answers and self.receiver.bytes_received == before


ENFORCED = (200, 200, 403, 403)


@pytest.fixture
def node(folder, ending):
    return Node(folder, ending)


def has_rules(pod: Namespace) -> bool:
    return pod.run(TABLE, check=False).returncode == 0


def test_nothing_passes_before_the_registry_knows_the_pod_and_then_the_policies_decide(node):
    node.register()
    node.firewall.start()
    assert node.ask(node.web) == 200, "the network itself works"
    node.receiver.forget()
    node.runtime.add(node.orders)
    assert has_rules(node.orders) and node.is_closed()
    line = node.firewall.wait_log(lambda line: line.get("reason") == "unregistered")
    assert line["destination.address"] in (node.orders.ipv4, node.orders.ipv6)
    udp = node.orders.socket(kind=socket.SOCK_DGRAM)
    udp.bind((node.orders.ipv4, 9000))
    udp.settimeout(0.3)
    with node.web.socket(kind=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", (node.orders.ipv4, 9000))
        with pytest.raises(TimeoutError):
            udp.recv(10)
    udp.close()
    assert node.ask(node.orders, node.web) == 403, "it may open nothing either"

    node.register(node.orders.workload(ports=PORTS, ips=[]))
    time.sleep(1.2)
    assert node.is_closed(), "an entry without addresses proves nothing"
    node.register(node.orders.workload(ports=PORTS))
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    assert node.runtime.call("CHECK", node.orders) == (0, None)
    node.runtime.add(node.orders)
    assert node.verdicts() == ENFORCED, "a second ADD of the same changes nothing"


def test_an_address_that_the_registry_gives_to_another_pod_opens_nothing(node):
    node.register({"name": "orders-old", "namespace": "shop", "serviceAccount": "free", "node": "node1", "ips": [node.orders.ipv4, node.orders.ipv6], "ports": PORTS})
    node.firewall.start()
    node.runtime.add(node.orders)
    assert node.is_closed()
    node.firewall.wait_log(lambda line: line.get("reason") == "unregistered")
    assert node.ask(node.orders, node.web) == 403


def test_without_a_proxy_there_is_no_pod(node):
    assert "cni.sock" in node.runtime.fails("ADD", node.orders, 11)
    assert not has_rules(node.orders)
    assert node.runtime.call("DEL", node.orders) == (0, None)
    assert node.runtime.call("GC") == (0, None)
    node.runtime.fails("STATUS", None, 51)
    node.runtime.fails("CHECK", node.orders, 11)
    node.runtime.add(node.orders, namespace="kube-system")
    node.runtime.fails("ADD", node.orders, 11, namespace="kube-system", exemptNamespaces=[])
    assert not has_rules(node.orders)

    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    assert node.runtime.call("STATUS") == (0, None)
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    node.firewall.stop()
    node.runtime.fails("ADD", node.attacker, 11)
    assert not node.socket.exists()


def test_a_restart_keeps_the_pods_and_kill_closes_them(node):
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    assert node.state.stat().st_mode & 0o777 == 0o600 and node.socket.stat().st_mode & 0o777 == 0o600
    node.receiver.forget()
    node.firewall.kill()
    assert has_rules(node.orders) and node.is_closed()
    node.runtime.fails("ADD", node.orders, 11)
    node.firewall.start()
    until(lambda: node.verdicts() == ENFORCED, "verdicts after kill -9")
    node.firewall.stop()
    assert node.is_closed()
    node.firewall.start()
    until(lambda: node.verdicts() == ENFORCED, "verdicts after a restart")
    assert node.runtime.call("CHECK", node.orders) == (0, None)


def test_the_next_process_takes_the_pods_over(node):
    node.firewall.arguments += ["--handover", node.socket.with_name("handover.sock")]
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    before = node.firewall.program
    node.firewall.launch()
    assert before.wait(30) == 0
    node.firewall.wait_ready()
    assert node.verdicts() == ENFORCED
    until(lambda: node.runtime.call("CHECK", node.orders) == (0, None), "the socket of the next process")
    late = node.network.pod("late")
    node.runtime.add(late)
    assert sorted(pod["name"] for pod in json.loads(node.state.read_text())["pods"]) == ["late", "orders"]


def test_a_proxy_in_a_container_is_handed_pods_by_a_runtime_whose_processes_it_does_not_see(folder, ending):
    place = Container("proxy")
    ending.callback(place.delete)
    node = Node(folder, ending, place)
    ending.callback(lambda: Container.terminate(node.firewall.program))
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")


def test_deletion_forgets_the_pod_and_leaves_it_closed(node):
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    node.receiver.forget()
    assert node.runtime.call("DEL", node.orders, netns="/run/netns/of-another") == (0, None)
    assert node.runtime.call("DEL", node.orders, netns="") == (0, None), "the runtime has no path any more, but the pod is there"
    assert node.runtime.call("DEL", node.orders, uid="of-another") == (0, None)
    assert node.verdicts() == ENFORCED, "a pod of the same name with another namespace or uid stays"
    assert node.runtime.call("DEL", node.orders) == (0, None)
    assert node.is_closed() and json.loads(node.state.read_text())["pods"] == []
    node.runtime.fails("CHECK", node.orders, 100)
    assert node.runtime.call("DEL", node.orders) == (0, None), "twice is no error"
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")

    node.firewall.stop()
    redirect(node.network.node, "delete", "node", "--cni-state", node.state)
    assert not has_rules(node.orders) and node.ask(node.attacker) == 200, "a node that is to be left"


def test_a_pod_that_is_made_again_gets_its_new_namespace(node):
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    fresh = node.network.pod("orders-again")
    receiver = node.ending.enter_context(Recorder(fresh, "::", 8080))
    node.runtime.add(fresh, name="orders")
    node.receiver.forget()
    assert node.is_closed(), "the namespace before is nobody's"
    assert node.ask(node.web, fresh) != 200 and not receiver.bytes_received, "the registry has the addresses of the pod before"
    node.register(node.orders.workload(ports=PORTS, ips=[fresh.ipv4, fresh.ipv6]))
    until(lambda: node.ask(node.web, fresh) == 200, "the new pod")
    assert node.ask(node.attacker, fresh) == 403 and node.is_closed()
    assert node.runtime.call("DEL", node.orders) == (0, None)
    assert node.ask(node.web, fresh) == 200, "the late deletion of the one before"


def test_no_pod_gets_the_namespace_of_another(node):
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    node.runtime.add(node.orders)
    assert "another workload has this network namespace" in node.runtime.fails("ADD", node.orders, 100, name="thief")
    assert "node proxy itself" in node.runtime.fails("ADD", node.orders, 100, name="host", netns=node.network.node.path)
    node.runtime.fails("ADD", node.orders, 100, name="nobody", netns="/run/netns/no-such")
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    elsewhere = node.attacker.workload(netns=True, name="vault", ips=[])
    node.register(node.orders.workload(ports=PORTS), elsewhere)
    assert "another network namespace" in node.runtime.fails("ADD", node.web, 100, name="vault")
    assert not has_rules(node.web)


def test_a_namespace_is_exempt_by_its_label(node):
    node.register(node.orders.workload(ports=PORTS, **EXEMPT))
    node.firewall.start()
    # The clients are in the same namespace and without the label: who disagrees is not exempt.
    node.runtime.add(node.orders)
    assert has_rules(node.orders)
    assert node.runtime.call("DEL", node.orders) == (0, None)

    vault = node.network.pod("vault")
    node.ending.enter_context(Recorder(vault, "::", 8080))
    labelled = vault.workload(namespace="vaults", ports=PORTS, **EXEMPT)
    node.register(labelled)
    node.runtime.add(vault, namespace="vaults")
    assert not has_rules(vault) and node.ask(node.attacker, vault) == 200
    assert node.runtime.call("CHECK", vault, namespace="vaults") == (0, None)
    node.register(labelled | {"namespaceLabels": {}})
    until(lambda: has_rules(vault), "rules once the label is gone")
    node.register(labelled)
    until(lambda: not has_rules(vault), "no rules once it is there")
    assert node.ask(node.attacker, vault) == 200
    node.firewall.kill()
    node.firewall.start()
    assert not has_rules(vault) and node.ask(node.attacker, vault) == 200


INJECTED = {"annotations": {"eastwall.dev/injected": "1.0.0"}}


def test_a_pod_with_a_sidecar_is_left_to_it_and_who_only_says_so_is_closed(node, folder):
    # As the injector has written into the pod; the registry knows it before its addresses.
    node.register(node.orders.workload(ports=PORTS, ips=[], **INJECTED))
    node.firewall.start()
    node.receiver.forget()
    node.runtime.add(node.orders)
    assert has_rules(node.orders) and node.is_closed()
    assert node.runtime.call("CHECK", node.orders) == (0, None)
    node.register(node.orders.workload(ports=PORTS, **INJECTED))
    time.sleep(1.2)
    assert node.is_closed(), "it has said so, and no sidecar is there"

    # As its two containers do; the ports are those of the node's proxy.
    pods = [pod.workload() for pod in (node.web, node.attacker)] + [node.orders.workload(ports=PORTS)]
    sidecar = node.ending.enter_context(Sidecar(folder / "sidecar", node.orders, POLICY, pods))
    sidecar.start()
    until(lambda: node.verdicts() == ENFORCED, "verdicts of the sidecar")
    rules = lambda: re.sub(r"packets \d+ bytes \d+", "", node.orders.run(TABLE).stdout)  # noqa: E731
    own = rules()

    # Whatever becomes of the node's proxy, and of the label of the namespace.
    node.firewall.kill()
    node.firewall.start()
    everybody = [pod.workload(**EXEMPT) for pod in (node.web, node.attacker)]
    node.firewall.write_workloads([*everybody, node.orders.workload(ports=PORTS, **EXEMPT, **INJECTED), node.network.node_entry()])
    node.firewall.ask_socket("/reload", "POST")
    time.sleep(1.2)
    assert rules() == own and node.verdicts() == ENFORCED
    node.register(node.orders.workload(ports=PORTS, **INJECTED))
    time.sleep(1.2)
    assert rules() == own and node.verdicts() == ENFORCED
    sidecar.kill()
    assert node.is_closed()


def test_a_pod_that_comes_to_say_that_it_has_a_sidecar_is_closed(node):
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    node.runtime.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    node.receiver.forget()
    node.register(node.orders.workload(ports=PORTS, **INJECTED))
    until(lambda: node.ask(node.web) != 200, "it is let go of")
    assert has_rules(node.orders) and node.is_closed()
    node.register(node.orders.workload(ports=PORTS))
    until(lambda: node.verdicts() == ENFORCED, "it is served again")

    # One that was exempt has no rules: it is closed as soon as it no longer is, whatever it says.
    vault = node.network.pod("vault")
    node.ending.enter_context(Recorder(vault, "::", 8080))
    labelled = vault.workload(namespace="vaults", ports=PORTS, **EXEMPT, **INJECTED)
    node.register(node.orders.workload(ports=PORTS), labelled)
    node.runtime.add(vault, namespace="vaults")
    assert not has_rules(vault) and node.ask(node.attacker, vault) == 200
    node.register(node.orders.workload(ports=PORTS), labelled | {"namespaceLabels": {}})
    until(lambda: has_rules(vault), "rules once the label is gone")
    assert node.ask(node.attacker, vault) != 200 and node.ask(node.web, vault) != 200


def test_root_alone_hands_over(node):
    node.register()
    node.firewall.start()
    # As somebody may have opened it by mistake.
    node.socket.parent.chmod(0o755)
    node.socket.chmod(0o666)
    ask = ["socat", "-t5", "-", f"UNIX-CONNECT:{node.socket}"]
    told = [HOME.run(ask, uid=uid, check=False, input='{"status":{}}\n') for uid in (None, 1337)]
    assert told[0].stdout == '{"ok":true}\n', told[0]
    assert told[1].stdout == "" and "Permission denied" not in told[1].stderr, told[1]
    until(lambda: "is not root" in node.firewall.said(), "a line of the log")


def test_a_node_is_installed_and_left_without_a_trace(node, folder):
    programs, configurations = folder / "bin", folder / "net.d"
    programs.mkdir()
    configurations.mkdir()
    text = '{\n  "cniVersion": "1.0.0",\n  "name": "k8s",\n  "plugins": [\n    {"type": "ptp"},\n    {"type": "portmap"}\n  ]\n}\n'
    (configurations / "10-k8s.conflist").write_text(text)
    places = ["--bin-dir", programs, "--conf-dir", configurations]
    run = lambda *words: subprocess.run([plugin_binary(), *words], capture_output=True, text=True, timeout=60)  # noqa: E731
    assert run("install", *places, "--socket", node.socket).returncode == 0
    plugins = json.loads((configurations / "10-k8s.conflist").read_text())["plugins"]
    assert [plugin["type"] for plugin in plugins] == ["ptp", "portmap", "eastwall-cni"]
    # As the runtime would run what was installed.
    installed = Runtime(node.socket, "1.0.0", **plugins[-1])
    node.register(node.orders.workload(ports=PORTS))
    node.firewall.start()
    environment = {"CNI_COMMAND": "VERSION"}
    done = subprocess.run([programs / "eastwall-cni"], input="{}", env=environment, capture_output=True, text=True, timeout=60)
    assert "1.1.0" in json.loads(done.stdout)["supportedVersions"]
    installed.add(node.orders)
    until(lambda: node.verdicts() == ENFORCED, "verdicts")
    assert run("uninstall", *places).returncode == 0
    assert [file.name for file in configurations.iterdir()] == ["10-k8s.conflist"] and not list(programs.iterdir())
    assert (configurations / "10-k8s.conflist").read_text() == text
    assert run("install", "--nonsense").returncode == 2
