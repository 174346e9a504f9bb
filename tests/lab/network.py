"""Pods on one node: network namespaces joined through the node by routes or by a bridge, over IPv4 and IPv6."""

from dataclasses import dataclass, field

from .namespace import Namespace

SUBNET4 = "10.77.0"
SUBNET6 = "fd77:"
NODE4 = f"{SUBNET4}.1"
NODE6 = f"{SUBNET6}:1"


class Pod(Namespace):
    """A namespace with `eth0`, one IPv4 and one IPv6 address."""

    def __init__(self, name: str, number: int):
        super().__init__(name)
        self.label = name
        self.ipv4 = f"{SUBNET4}.{number}"
        self.ipv6 = f"{SUBNET6}:{number:x}"

    def workload(self, namespace: str = "shop", netns: bool = False, ports: list | None = None, **more) -> dict:
        """Its entry of a workloads file; the service account has the pod's name."""
        entry = {"name": self.label, "namespace": namespace, "serviceAccount": self.label, "node": "node1", "ips": [self.ipv4, self.ipv6]}
        if netns:
            entry["netns"] = self.path
        entry["ports"] = ports or []
        return entry | more


@dataclass
class Network:
    """A node and its pods. `kind` is `routed` (a host route per pod) or `bridged` (one layer-2 segment)."""

    kind: str
    node: Namespace = field(init=False)
    pods: dict[str, Pod] = field(default_factory=dict)

    def __post_init__(self):
        assert self.kind in ("routed", "bridged"), self.kind
        self.node = Namespace("node")
        self.node.run(["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0",
                       "net.ipv4.conf.default.rp_filter=0", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"])
        if self.kind == "bridged":
            self.node.ip("link add br0 type bridge", "link set br0 type bridge forward_delay 0", f"addr add {NODE4}/24 dev br0",
                         f"addr add {NODE6}/64 dev br0 nodad", "link set br0 up")
        else:
            self.node.ip(f"addr add {NODE4}/32 dev lo", f"addr add {NODE6}/128 dev lo nodad")

    def pod(self, name: str) -> Pod:
        """A new pod, connected; numbered in order of making, from .11."""
        number = 11 + len(self.pods)
        pod = Pod(name, number)
        self.pods[name] = pod
        outer = f"veth{number}"
        self.node.ip(f"link add {outer} type veth peer name eth0 netns {pod.name}")
        if self.kind == "bridged":
            self.node.ip(f"link set {outer} master br0", f"link set {outer} up")
            pod.ip(f"addr add {pod.ipv4}/24 dev eth0", f"addr add {pod.ipv6}/64 dev eth0 nodad", "link set eth0 up",
                   f"route add default via {NODE4}", f"route add default via {NODE6}")
        else:
            self.node.ip(f"addr add 169.254.1.1/32 dev {outer}", f"addr add fe80::1/64 dev {outer} nodad", f"link set {outer} up",
                         f"route add {pod.ipv4}/32 dev {outer} src {NODE4}", f"route add {pod.ipv6}/128 dev {outer} src {NODE6}")
            pod.ip(f"addr add {pod.ipv4}/32 dev eth0", f"addr add {pod.ipv6}/128 dev eth0 nodad", "link set eth0 up",
                   "route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1 dev eth0",
                   "route add default via fe80::1 dev eth0")
        return pod

    def node_entry(self) -> dict:
        """The node's own entry of a workloads file."""
        return {"kind": "Node", "name": "node1", "ips": [NODE4, NODE6]}

    def filter_bridged_frames(self, on: bool) -> None:
        """`bridge-nf-call-iptables` of the node."""
        value = int(on)
        self.node.run(["sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={value}", f"net.bridge.bridge-nf-call-ip6tables={value}"])

    def service(self, address: str, port: int, pod: Pod, target: int) -> None:
        """A kube-proxy style Service address on the node: DNAT before routing, and `ct state invalid drop` on the way."""
        family, destination = ("ip6", f"[{pod.ipv6}]") if ":" in address else ("ip", pod.ipv4)
        self.node.run(["nft", "-f", "-"], input=f"""
add table inet services
add chain inet services prerouting {{ type nat hook prerouting priority dstnat; }}
add chain inet services forward {{ type filter hook forward priority filter; }}
flush chain inet services forward
add rule inet services forward ct state invalid counter drop
add rule inet services prerouting {family} daddr {address} tcp dport {port} dnat to {destination}:{target}
""")

    def delete(self) -> None:
        """Removes the pods, then the node."""
        for pod in self.pods.values():
            pod.delete()
        self.node.delete()
