"""Who a peer proves to be, at the door: a gateway for HBONE, asked by a client of our own that has certificates right and wrong."""

import json
import ssl

import pytest
from hyperframe.frame import SettingsFrame

from lab.firewall import policy
from lab.mesh import USAGES, Authority, Hbone, secure, self_signed, spiffe, text
from lab.program import until
from lab.stage import ATTACKER, BACKEND, ORDERS, STRANGER, WEB, WORKLOADS, Stage

HBONE = 15008
CALLED = f"{ORDERS}:{BACKEND}"
RULES = [policy("orders", "orders", [
    {"name": "proven", "from": [{"principal": spiffe("web")}, {"principal": "spiffe://partner.example/ns/edi/sa/sender"}], "proof": "MutualTLS", "http": [{"paths": ["/proven"]}]},
    {"name": "known", "from": [{"serviceAccount": "web"}], "http": [{"paths": ["/known"]}]},
])]


class Door(Stage):
    """A stage whose gateway takes HBONE too."""

    def __init__(self, folder, ending, *arguments, policies=None, workloads=None):
        folder.mkdir(exist_ok=True)
        self.folder, self.numbers = folder, iter(range(1000))
        self.authority, self.partner = Authority(), Authority("partner")
        self.own = self.authority.issue(spiffe("orders"))
        self.identity = self.own.write(folder / "identity", [self.authority.certificate])
        (folder / "partner.pem").write_text(text([self.partner.certificate]))
        more = ["--identity", self.identity, "--hbone-listen", f"127.0.0.1:{HBONE}", "--trust-bundle", f"partner.example={folder / 'partner.pem'}"]
        super().__init__(folder / "stage", ending, policies or RULES, workloads or WORKLOADS, arguments=[*more, *arguments])

    def shake(self, identity, source: str = WEB, **more) -> Hbone:
        """A connection of HBONE from a source, with this certificate."""
        socket = self.place.connect("127.0.0.1", HBONE, 10, source)
        return Hbone(secure(socket, self.folder / f"client-{next(self.numbers)}", identity, **more))

    def ask(self, identity, path: str, source: str = WEB, authority: str = CALLED) -> int | None:
        """The status of one request through a tunnel of its own."""
        with self.shake(identity, source) as client:
            stream = client.connect(authority)
            assert client.status(stream) == 200
            return client.ask(stream, path)

    def handshakes(self, result: str) -> float:
        return self.firewall.metric("eastwall_handshakes_total", direction="inbound", result=result)


@pytest.fixture(scope="module")
def door(module_folder, module_ending):
    return Door(module_folder / "door", module_ending)


@pytest.fixture(scope="module")
def web(door):
    return door.authority.issue(spiffe("web"))


def test_a_proven_identity_is_what_rules_ask_for(door, web):
    assert door.ask(web, "/proven") == 200
    assert door.ask(web, "/known") == 200, "the account of the identity"
    assert door.ask(web, "/other") == 403
    line = door.firewall.wait_log(lambda line: line.get("url.path") == "/proven" and line["verdict"] == "allow")
    assert line["proof"] == "mtls" and spiffe("web") in json.dumps(line), line
    below = Authority("below", door.authority).issue(spiffe("web"))
    assert door.ask(below, "/proven") == 200, "through an intermediate authority"


def wrong(door) -> dict:
    """Certificates that prove nothing, by the reason that is counted."""
    issue = door.authority.issue
    return {
        "expired": issue(spiffe("web"), begin=-2, end=-1),
        "not-yet-valid": issue(spiffe("web"), begin=1, end=2),
        "several-uris": issue(spiffe("web"), spiffe("orders")),
        "no-uri": issue(names=("web.shop",)),
        "not-spiffe": issue("https://cluster.local/ns/shop/sa/web"),
        "unknown-trust-domain": issue(spiffe("web", domain="other.example")),
        "unknown-issuer": self_signed(spiffe("web")),
        "authority": issue(spiffe("web"), authority=True),
        "authority-by-usage": issue(spiffe("web"), signs_certificates=True),
        "usage": issue(spiffe("web"), usages=USAGES[:1]),
        "no-certificate": None,
    }


@pytest.mark.parametrize("reason", ["expired", "not-yet-valid", "several-uris", "no-uri", "not-spiffe", "unknown-trust-domain", "unknown-issuer", "authority", "authority-by-usage", "usage", "no-certificate"])
def test_what_proves_nothing_is_refused_with_its_reason(door, reason):
    kind, reason = reason, reason.removesuffix("-by-usage")
    before = door.handshakes(reason)
    door.recorder.forget()
    with door.shake(wrong(door)[kind]) as client:
        assert client.status(client.connect(CALLED)) is None
    until(lambda: door.handshakes(reason) == before + 1, f"a handshake refused as {reason}")
    assert door.firewall.wait_log(lambda line: line.get("alert") == "certificate-refused" and reason in str(line))["severity"] == "medium"
    assert door.recorder.arrived == 0


def test_an_authority_speaks_for_its_own_trust_domain_alone(door):
    before = door.handshakes("unknown-issuer")
    with door.shake(door.partner.issue(spiffe("web"))) as client:
        assert client.status(client.connect(CALLED)) is None
    until(lambda: door.handshakes("unknown-issuer") == before + 1, "the refusal")
    # Nobody of another trust domain is at an address of the cluster; outside of it he is who he proves to be.
    sender = door.partner.issue("spiffe://partner.example/ns/edi/sa/sender")
    assert door.ask(sender, "/proven", source=WEB) == 403
    assert door.ask(sender, "/proven", source=STRANGER) == 200


def test_neither_older_tls_nor_another_protocol_within_it(door, web):
    before = door.handshakes("protocol")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        door.shake(web, newest=ssl.TLSVersion.TLSv1_2)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        door.shake(web, alpn=("http/1.1",))
    until(lambda: door.handshakes("protocol") == before + 2, "both refusals")


@pytest.mark.parametrize(
    ("authority", "method", "status", "limit"),
    [
        ("127.0.0.3:8080", "CONNECT", 403, "tunnel-relay"),
        (f"{ORDERS}:22", "CONNECT", 403, "tunnel-relay"),
        ("10.0.0.1:80", "CONNECT", 403, "tunnel-relay"),
        ("orders.shop:8080", "CONNECT", 400, "tunnel-request"),
        (ORDERS, "CONNECT", 400, "tunnel-request"),
        (CALLED, "GET", 405, "tunnel-request"),
    ],
)
def test_it_is_no_open_relay(door, web, authority, method, status, limit):
    before = door.firewall.metric("eastwall_connections_rejected_total", limit=limit)
    door.recorder.forget()
    with door.shake(web) as client:
        assert client.status(client.connect(authority, method)) == status
        stream = client.connect(CALLED)
        assert client.status(stream) == 200 and client.ask(stream, "/proven") == 200, "the connection goes on"
    assert door.firewall.metric("eastwall_connections_rejected_total", limit=limit) == before + 1


def test_proof_and_place_must_agree(door, web):
    alerts = door.firewall.metric("eastwall_alerts_total", kind="identity-mismatch")
    for source in (ATTACKER, STRANGER):
        assert door.ask(web, "/proven", source=source) == 403
    line = door.firewall.wait_log(lambda line: line.get("reason") == "identity-mismatch")
    assert line["verdict"] == "deny", line
    assert door.firewall.metric("eastwall_alerts_total", kind="identity-mismatch") == alerts + 2


def test_many_tunnels_share_a_connection_and_each_is_judged(door, web):
    with door.shake(web) as client:
        streams = [client.connect(CALLED) for _ in range(20)]
        assert all(client.status(stream) == 200 for stream in streams)
        for stream in streams:
            assert client.ask(stream, "/proven") == 200
        assert [client.ask(stream, "/other") for stream in streams] == [403] * 20


def test_an_identity_that_was_proven_is_not_believed_in_plaintext(folder, ending):
    door = Door(folder, ending)
    web = door.authority.issue(spiffe("web"))
    plain = lambda source=WEB: door.send("1", "GET", "/known", source=source).status
    assert plain() == 200
    assert door.ask(web, "/proven") == 200
    assert plain() == 403
    assert door.firewall.metric("eastwall_alerts_total", kind="downgrade") == 1
    lenient = Door(folder / "lenient", ending, "--accept-downgrade")
    assert lenient.ask(lenient.authority.issue(spiffe("web")), "/proven") == 200
    assert lenient.send("1", "GET", "/known").status == 200


def test_identities_of_gateways_come_from_anywhere(folder, ending):
    door = Door(folder, ending, "--any-address", spiffe("web"))
    web = door.authority.issue(spiffe("web"))
    assert door.ask(web, "/proven", source=STRANGER) == 200
    assert door.ask(door.authority.issue(spiffe("orders")), "/known", source=STRANGER) == 403


def test_rotation_cuts_nothing_and_a_change_of_trust_cuts(folder, ending):
    door = Door(folder, ending)
    web = door.authority.issue(spiffe("web"))
    reads = lambda: door.firewall.metric("eastwall_identity_reads_total", result="success")
    with door.shake(web) as client:
        stream = client.connect(CALLED)
        assert client.status(stream) == 200 and client.ask(stream, "/proven") == 200
        before = reads()
        door.authority.issue(spiffe("orders"), end=0.5).write(door.identity, [door.authority.certificate])
        until(lambda: reads() > before, "the new certificate")
        until(lambda: door.firewall.metric("eastwall_identity_remaining_seconds") < 13 * 3600, "its end")
        assert client.ask(stream, "/proven") == 200
        # Another authority beside the first: nobody is believed less.
        other, before = Authority("other"), reads()
        door.authority.issue(spiffe("orders")).write(door.identity, [door.authority.certificate, other.certificate])
        until(lambda: reads() > before, "both authorities")
        assert client.ask(stream, "/proven") == 200
        # The first is believed no more.
        other.issue(spiffe("orders")).write(door.identity, [other.certificate])
        client.wait(stream, until=lambda answer: answer.ended)
        assert client.closed or client.streams[stream].ended
    assert door.ask(other.issue(spiffe("web")), "/proven") == 200
    with door.shake(web) as client:
        assert client.status(client.connect(CALLED)) is None


def test_limits_of_tunnels(folder, ending):
    """What the door says that it takes, and what it does with more."""
    door = Door(folder, ending, "--hbone-head-bytes", "1000", "--hbone-window", "100000", "--hbone-connection-window", "300000")
    web = door.authority.issue(spiffe("web"))
    counted = lambda: door.firewall.metric("eastwall_connections_rejected_total", limit="head-bytes")
    with door.shake(web) as client:
        stream = client.connect(CALLED)
        assert client.status(stream) == 200
        assert (client.peer_settings[SettingsFrame.INITIAL_WINDOW_SIZE], client.granted) == (100_000, 300_000)
        assert client.ask(stream, "/proven") == 200
        before = counted()
        assert client.status(client.connect(CALLED, "CONNECT", (b"x-more", b"x" * 700))) == 200
        assert client.status(client.connect(CALLED, "CONNECT", (b"x-more", b"x" * 1000))) == 431
        assert counted() == before + 1
        assert client.ask(stream, "/proven") == 200, "other tunnels go on"


def test_a_broken_file_leaves_the_last_good_identity(folder, ending):
    door = Door(folder, ending)
    web = door.authority.issue(spiffe("web"))
    before = door.firewall.metric("eastwall_identity_reads_total", result="failure")
    (door.identity / "tls.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    until(lambda: door.firewall.metric("eastwall_identity_reads_total", result="failure") > before, "the failure")
    assert door.ask(web, "/proven") == 200
    assert door.firewall.ask("/readyz")[0] == 200


def test_without_an_identity_it_is_not_ready(folder, ending):
    door = Door(folder, ending)
    door.firewall.stop()
    for name in ("tls.crt", "tls.key"):
        (door.identity / name).rename(folder / name)
    door.firewall.launch()
    until(lambda: _asked(door.firewall) == 503, "an answer")
    said = json.loads(door.firewall.ask("/readyz")[1])
    assert said["identity"] is False, said
    for name in ("tls.crt", "tls.key"):
        (folder / name).rename(door.identity / name)
    door.firewall.wait_ready()


def _asked(firewall) -> int | None:
    try:
        return firewall.ask("/readyz")[0]
    except OSError:
        return None


OTHERS = [entry for entry in WORKLOADS if entry["name"] != "web"]
REUSED = OTHERS + [{"name": "batch", "namespace": "shop", "serviceAccount": "batch", "ips": [WEB], "ports": []}]


@pytest.mark.parametrize("after", [OTHERS, REUSED], ids=["deleted", "address-reused"])
def test_a_live_connection_does_not_outlive_its_workload(folder, ending, after):
    """The connection ends, proven or not, and nothing of the old rights remains, whoever has the address now."""
    door = Door(folder, ending, "--accept-downgrade")
    web = door.authority.issue(spiffe("web"))
    with door.shake(web) as tunnel, door.http1() as plain:
        stream = tunnel.connect(CALLED)
        assert tunnel.status(stream) == 200 and tunnel.ask(stream, "/proven") == 200
        plain.send(b"GET /known HTTP/1.1\r\nhost: orders\r\n\r\n")
        assert plain.response().status == 200
        door.firewall.reload_and_wait(lambda: door.firewall.write_workloads(after))
        assert tunnel.ask(stream, "/proven") in (None, 403)
        plain.send(b"GET /known HTTP/1.1\r\nhost: orders\r\n\r\n")
        answer = plain.response()
        assert answer is None or answer.status == 403
    assert door.ask(web, "/proven") == 403


def test_strict_takes_proven_peers_and_declared_probes_alone(folder, ending):
    annotated = [entry | {"annotations": {"eastwall.dev/inbound-mtls": "strict"}, "node": "n1", "probes": [{"port": BACKEND, "path": "/healthz"}]} if entry["name"] == "orders" else entry for entry in WORKLOADS]
    door = Door(folder, ending, workloads=[*annotated, {"kind": "Node", "name": "n1", "ips": [STRANGER]}])
    assert door.send("1", "GET", "/known").status == 403
    assert door.send("1", "GET", "/healthz", source=STRANGER).status == 200
    assert door.send("1", "GET", "/healthz", source=WEB).status == 403
    assert door.ask(door.authority.issue(spiffe("web")), "/known") == 200
    line = door.firewall.wait_log(lambda line: line.get("reason") == "plaintext-refused")
    assert line["verdict"] == "deny"
