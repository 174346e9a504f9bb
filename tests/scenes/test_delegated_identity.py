"""A node proxy whose certificates a SPIRE agent gives for the pods that it serves: rotation, refusals, an agent that goes away."""

from lab import servers
from lab.firewall import call, policy
from lab.mesh import Authority, spiffe
from lab.program import until
from lab.scene import Scene
from lab.spire_agent import SpireAgent, svid, svids

PORTS = {"web": [], "orders": [{"name": "http", "port": 8080}], "batch": []}
MESHED = {"orders": {"annotations": {"eastwall.dev/hbone": "enabled"}}}
RULES = [policy("orders", "orders", [
    {"name": "pages", "from": [{"serviceAccount": "web"}], "proof": "MutualTLS", "ports": ["http"], "http": [{"paths": ["/open"]}]},
])]


class Delegated(Scene):
    """One node proxy, and the agent beside it."""

    def __init__(self, folder, ending, given: dict[str, str]):
        self.authority, self.partner = Authority(), Authority("partner")
        self.agent = SpireAgent(folder / "admin.sock")
        ending.callback(lambda: self.agent.stop())
        self.agent.trust({"spiffe://cluster.local": [self.authority.certificate], "partner.example": [self.partner.certificate]})
        for account, principal in given.items():
            self.give(account, principal)
        super().__init__(folder, ending, "node", RULES, PORTS, guarded=("orders", "web"), more=MESHED, start=False,
                         arguments=lambda _: ["--spire-admin-socket", folder / "admin.sock"])

    def give(self, account: str, principal: str, end: float = 1, **more) -> None:
        self.agent.give("shop", account, svids(svid(principal, self.authority.issue(principal, end=end), int(end * 86400)), **more))

    def curl(self, path: str = "/open") -> str:
        return self["web"].run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", f"http://{self['orders'].ipv4}:8080{path}"], check=False).stdout

    def said(self) -> str:
        return self.firewall().program.text()


def test_a_node_proves_each_of_its_pods_and_nobody_else(folder, ending):
    mesh = Delegated(folder, ending, {"orders": spiffe("orders"), "web": spiffe("web")})
    firewall = mesh.firewall().start()
    servers.nginx(mesh["orders"], folder, ending)
    until(lambda: mesh.curl() == "200", "both identities")
    assert mesh.curl("/closed") == "403"
    assert firewall.wait_log(lambda line: line.get("url.path") == "/open" and line.get("proof") == "mtls")
    asked = {frozenset(("k8s:ns:shop", f"k8s:sa:{account}")) for account in ("orders", "web")}
    assert set(mesh.agent.asked) == asked, "of the pods that are served, and of no others"
    # Rotation without a cut.
    remaining = lambda: firewall.metric("eastwall_identity_remaining_seconds")
    assert remaining() > 20 * 3600
    for account in ("orders", "web"):
        mesh.give(account, spiffe(account), end=0.5)
    until(lambda: remaining() < 13 * 3600, "the new certificates")
    assert mesh.curl() == "200"
    # An agent that goes away, and comes back with another authority.
    mesh.agent.stop()
    until(lambda: firewall.metric("eastwall_identity_reads_total", result="failure") > 0, "the failure")
    assert mesh.curl() == "200", "the last good identities stay"
    mesh.authority = Authority("next")
    mesh.agent = SpireAgent(folder / "admin.sock")
    mesh.agent.trust({"cluster.local": [mesh.authority.certificate]})
    for account in ("orders", "web"):
        mesh.give(account, spiffe(account))
    until(lambda: remaining() > 20 * 3600, "the next identities")
    until(lambda: mesh.curl() == "200", "who is believed now")
    # What is not served any more is not asked for, and its key is dropped.
    mesh.give("orders", spiffe("orders"), end=0.25)
    until(lambda: remaining() < 7 * 3600, "the shortest")
    mesh.guarded = ("web",)
    mesh.write_workloads()
    until(lambda: remaining() > 20 * 3600, "the one that is left")


def test_an_identity_of_another_is_refused(folder, ending):
    mesh = Delegated(folder, ending, {"orders": spiffe("batch"), "web": spiffe("web")})
    firewall = mesh.firewall().launch()
    servers.nginx(mesh["orders"], folder, ending)
    until(lambda: f"gave what is of others: `{spiffe('batch')}`" in mesh.said(), "the refusal")
    firewall.wait_ready()
    assert mesh.curl() in ("000", "502"), "orders has nothing to show"
    assert firewall.metric("eastwall_handshakes_total", direction="inbound", result="no-identity") > 0
    mesh.agent.give("shop", "orders", b"")
    until(lambda: "k8s:ns:shop and k8s:sa:orders" in mesh.said(), "that there is none")
    partly = firewall.metric("eastwall_identity_reads_total", result="partial")
    stranger = mesh.partner.issue(spiffe("orders"))
    mesh.agent.give("shop", "orders", svids(svid(spiffe("orders"), stranger), federates_with=("partner.example",)))
    until(lambda: firewall.metric("eastwall_identity_reads_total", result="partial") > partly, "a certificate of an authority that does not speak for the domain")
    assert mesh.curl() in ("000", "502")
    mesh.give("orders", spiffe("orders"))
    until(lambda: mesh.curl() == "200", "the right one")


def test_it_belongs_to_a_node(folder):
    done = call("proxy", "--mode", "sidecar", "--policy", folder, "--spire-admin-socket", folder / "admin.sock", check=False)
    assert done.returncode == 2 and "node mode" in done.stderr, done
    done = call("proxy", "--mode", "node", "--policy", folder, "--spire-admin-socket", "a", "--workload-api", "unix:b", check=False)
    assert done.returncode == 2 and "one of" in done.stderr, done
