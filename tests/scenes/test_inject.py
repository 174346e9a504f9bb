"""What `eastwall inject` writes works: the commands of its two containers, in a pod, as the users that they are given."""

import json

import pytest
import yaml

from lab.firewall import Firewall, binary, call, policy
from lab.network import Network
from lab.program import until
from lab.recorder import Recorder
from lab.wire import Http1

PORTS = [{"name": "http", "containerPort": 8080}, {"name": "raw", "containerPort": 8081}]
POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "orders", "namespace": "shop"},
    "spec": {"containers": [{"name": "app", "image": "app:1.0", "ports": PORTS, "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}},
                             "livenessProbe": {"tcpSocket": {"port": "raw"}}}]},
}
# What comes from the cluster comes from files here.
FROM_THE_CLUSTER = ("--controller", "--admin-socket")


class Injected(Firewall):
    """The sidecar of an injected pod."""

    def __init__(self, folder, pod, spec, policies, workloads):
        self.redirect, self.proxy = spec["initContainers"]
        super().__init__(folder, "sidecar", pod, policies, workloads, uid=self.proxy["securityContext"]["runAsUser"])
        [admin] = [word for word in self.proxy["command"] if word.startswith("--admin=")]
        self.admin = f"127.0.0.1:{admin.rpartition(':')[2]}"

    def command(self) -> list:
        kept = [word for word in self.proxy["command"][1:] if not word.startswith(FROM_THE_CLUSTER)]
        more = ["--policy", self.policy_folder, "--workloads", self.workloads_file, "--access-log", self.log_file, "--admin-socket", self.admin_socket]
        return [binary(), *kept, *map(str, more)]


@pytest.fixture(scope="module")
def scene(module_folder, module_ending):
    spec = yaml.safe_load(call("inject", stdin=json.dumps(POD)).stdout)["spec"]
    network = Network("routed")
    module_ending.callback(network.delete)
    web, orders = network.pod("web"), network.pod("orders")
    ports = [{"name": port["name"], "port": port["containerPort"]} for port in PORTS]
    workloads = [web.workload(ports=[]), orders.workload(ports=ports, probes=[{"port": 8080, "path": "/healthz"}]), network.node_entry()]
    made = Injected(module_folder, orders, spec, [policy("orders", "orders", directions=["Ingress"])], workloads)
    assert made.redirect["command"][0] == "eastwall"
    # Root with this one capability, as the container is.
    assert made.redirect["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    orders.run(["setpriv", "--bounding-set=-all,+net_admin", "--no-new-privs", binary(), *made.redirect["command"][1:]])
    made.network, made.web, made.orders = network, web, orders
    made.http = module_ending.enter_context(Recorder(orders, "::", 8080))
    module_ending.enter_context(made)
    made.start()
    return made


def ask(place, address: str, port: int, path: str):
    host = f"[{address}]" if ":" in address else address
    with Http1(place.connect(address, port)) as client:
        client.send(f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
        answer = client.response()
        return answer.status if answer else None


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_the_probes_of_the_pod_say_what_the_application_does(scene, family):
    address = getattr(scene.orders, family)
    [app] = yaml.safe_load(call("inject", stdin=json.dumps(POD)).stdout)["spec"]["containers"]
    question = app["livenessProbe"]["httpGet"]
    until(lambda: ask(scene.network.node, address, question["port"], question["path"]) == 503, "nobody listens")
    with Recorder(scene.orders, "::", 8081, http=False) as raw:
        until(lambda: ask(scene.network.node, address, question["port"], question["path"]) == 200, "somebody listens")
        assert raw.bytes_received == 0
    assert ask(scene.network.node, address, 8080, app["readinessProbe"]["httpGet"]["path"]) == 200


@pytest.mark.parametrize("path", ["/probe/tcp/8080", "/probe/tcp/22", "/probe/tcp/15106", "/policy", "/probe"])
def test_no_other_port_is_dialled_for_anybody(scene, path):
    assert ask(scene.web, scene.orders.ipv4, 15020, path) == 404


def test_everything_else_meets_the_proxy(scene):
    scene.http.forget()
    assert ask(scene.web, scene.orders.ipv4, 8080, "/") == 403
    assert scene.http.bytes_received == 0
