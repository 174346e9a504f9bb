"""A cluster on one node: API server and controller on the node's network namespace, pods with sidecars beside it, everything as `deploy/` has it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import yaml

from .api_server import ApiServer
from .controller import Controller
from .kubelet import Injected
from .network import NODE4, NODE6, Network, Pod
from .program import until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SYSTEM = "eastwall-system"
NODE = "node1"


class Cluster:
    """Ready when it is made; `close` takes everything away."""

    def __init__(self, folder: Path):
        self.folder, self.ending = folder, contextlib.ExitStack()
        with self.ending as guard:
            self.network = Network("routed")
            guard.callback(self.network.delete)
            self.api = ApiServer(folder, self.network.node, NODE4)
            guard.callback(self.api.stop)
            self.apply("-k", DEPLOY / "base")
            self.api.done("wait", "--for=condition=Established", "crd", "-l", "app.kubernetes.io/part-of=eastwall", "--timeout=60s")
            # Before the controller looks for what it has to tell whom to trust: it looks again later, but that takes its time.
            self.apply("-k", DEPLOY / "overlays" / "sidecar")
            self.settings = folder / "injector.yaml"
            self.controller = Controller(self.api, "mesh", f"--injector-settings={self.settings}")
            guard.callback(self.controller.kill)
            # As deploy/ has them, but for a name that pods could only look up in a DNS of the cluster.
            [settings] = yaml.safe_load_all((DEPLOY / "injection" / "settings.yaml").read_text())
            settings = yaml.safe_load(settings["data"]["settings.yaml"]) | {"controller": f"{NODE4}:{self.controller.proxies}"}
            self.settings.write_text(json.dumps(settings))
            self.endpoints()
            addresses = [{"type": "InternalIP", "address": address} for address in (NODE4, NODE6)]
            self.put({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
            self.api.done("patch", "node", NODE, "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"addresses": addresses}}))
            self.controller.ready()
            self.controller.until("the API server trusts both webhooks", self.trusted)
            self.ending = guard.pop_all()

    def close(self) -> None:
        self.ending.close()

    def apply(self, *words) -> str:
        return self.api.done("apply", "--server-side", *map(str, words))

    def put(self, *documents: dict) -> None:
        """As `kubectl apply` puts them."""
        for document in documents:
            self.api.done("apply", "--server-side", "--force-conflicts", "-f", "-", text=json.dumps(document))

    def endpoints(self) -> None:
        """Those of the controller's Service, which a controller manager would keep."""
        ports = [{"name": "webhook", "port": self.controller.webhook}, {"name": "grpc", "port": self.controller.proxies}]
        self.put({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": ports,
                  "metadata": {"name": "eastwall-controller", "namespace": SYSTEM, "labels": {"kubernetes.io/service-name": "eastwall-controller"}},
                  "endpoints": [{"addresses": [NODE4], "conditions": {"ready": True}}]})

    def trusted(self) -> bool:
        for kind in ("validatingwebhookconfiguration", "mutatingwebhookconfiguration"):
            if not all(each["clientConfig"].get("caBundle") for each in self.api.get(kind, "eastwall")["webhooks"]):
                return False
        return True

    def namespace(self, name: str, **labels: str) -> None:
        """Made, and known to the controller where it is to inject."""
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {f"eastwall.dev/{key}": word for key, word in labels.items()}}})
        if labels.get("inject") == "enabled":
            until(lambda: self.api.kubectl("get", "configmap", "eastwall-controller-ca", "-n", name).returncode == 0, f"the roots in {name}")

    @staticmethod
    def pod(namespace: str, name: str, account: str | None = None, ports: list = (), annotations: dict | None = None, labels: dict | None = None) -> dict:
        """A pod of this node; its service account has its name where no other is given."""
        spec = {"serviceAccountName": account or name, "nodeName": NODE, "containers": [{"name": "app", "image": "example/app:1", "ports": list(ports)}]}
        return {"apiVersion": "v1", "kind": "Pod", "spec": spec,
                "metadata": {"name": name, "namespace": namespace, "annotations": annotations or {}, "labels": labels or {}}}

    def run(self, pod: dict, place: Pod) -> None:
        """The API server makes it, and is told its addresses."""
        metadata, account = pod["metadata"], pod["spec"]["serviceAccountName"]
        namespace = ["-n", metadata["namespace"]]
        self.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": metadata["namespace"]}})
        self.api.done("create", "-f", "-", text=json.dumps(pod))
        addresses = [place.ipv4, place.ipv6]
        status = {"status": {"phase": "Running", "podIP": addresses[0], "podIPs": [{"ip": each} for each in addresses]}}
        self.api.done("patch", "pod", metadata["name"], *namespace, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    def sidecar(self, place: Pod, namespace: str, name: str) -> Injected:
        """The sidecar that the API server put into a pod, which runs when this returns."""
        return Injected(self.api, self.folder / "pods", place, namespace, name).start()

    def delete(self, *words: str) -> None:
        """At once: there is nobody who would end anything in its own time."""
        self.api.done("delete", *words, "--grace-period=0", "--force")
