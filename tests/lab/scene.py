"""A network, its pods and the proxies that stand before them, in one of the ways that Eastwall is placed."""

from __future__ import annotations

from .firewall import Firewall, Sidecar, node_firewall
from .network import Network, Pod
from .program import until

PLACEMENTS = ("node", "sidecar")
EVERYWHERE = ("node", "node-bridged", "sidecar")


class Scene:
    """Pods by name; `ports` declares those of each; `guarded` names the pods that a proxy stands before; `arguments` may depend on the pod's name (`node`)."""

    def __init__(self, folder, ending, placement: str, policies: list[dict], ports: dict[str, list[dict]], guarded: tuple = ("orders",), strangers: tuple = (),
                 arguments: list = (), more: dict[str, dict] | None = None, entries: list[dict] = (), start: bool = True):
        self.placement = placement
        self.network = Network("bridged" if placement == "node-bridged" else "routed")
        ending.callback(self.network.delete)
        self.pods: dict[str, Pod] = {name: self.network.pod(name) for name in (*ports, *strangers)}
        self.guarded, self.ports, self.more, self.entries = guarded, ports, more or {}, list(entries)
        self.firewalls: dict[str, Firewall] = {}
        given = arguments if callable(arguments) else lambda _: arguments
        if placement == "sidecar":
            for name in guarded:
                self.firewalls[name] = Sidecar(folder / f"sidecar-{name}", self.pods[name], policies, self.workloads() + [self.network.node_entry()], arguments=given(name))
        else:
            self.firewalls["node"] = node_firewall(folder / "node", self.network, policies, self.workloads(), arguments=given("node"))
        for firewall in self.firewalls.values():
            ending.enter_context(firewall)
            if start:
                firewall.start()

    def workloads(self) -> list[dict]:
        """The registered pods; strangers are not among them."""
        found = []
        for name, ports in self.ports.items():
            guarded = name in self.guarded and self.placement != "sidecar"
            found.append(self.pods[name].workload(ports=ports, netns=guarded, **self.more.get(name, {})))
        return found + self.entries

    def __getitem__(self, name: str) -> Pod:
        return self.pods[name]

    def firewall(self, name: str = "orders") -> Firewall:
        """The proxy before a pod."""
        return self.firewalls.get(name) or self.firewalls["node"]

    def write_policies(self, documents: list[dict]) -> None:
        """The same change everywhere, in force when this returns."""
        before = {name: firewall.generation() for name, firewall in self.firewalls.items()}
        for firewall in self.firewalls.values():
            firewall.write_policies(documents)
        for name, firewall in self.firewalls.items():
            until(lambda firewall=firewall, name=name: firewall.generation() > before[name], f"a new generation at {name}")

    def write_workloads(self) -> None:
        """The workloads as they are now, in force when this returns."""
        before = {name: firewall.generation() for name, firewall in self.firewalls.items()}
        for firewall in self.firewalls.values():
            firewall.write_workloads(self.workloads() + [self.network.node_entry()])
        for name, firewall in self.firewalls.items():
            until(lambda firewall=firewall, name=name: firewall.generation() > before[name], f"a new generation at {name}")

    def log(self, name: str = "orders") -> list[dict]:
        return self.firewall(name).log()
