"""Races and names on the wire: a swap under load, a random walk against the oracle, and what a ClientHello claims. Ids are the numbers of the list."""

import random
import threading
import time

import pytest

from lab.firewall import decide, policy
from lab.program import until
from lab.stage import BACKEND, HOST, SHAPES, VERSIONS, WEB, WORKLOADS, Stage, passes, shape_policy
from lab.traffic import client_hello

WEB_PEER = [{"serviceAccount": "web"}]


@pytest.fixture
def stage(folder, ending):
    return Stage(folder, ending, shape_policy("A"))


def test_attack_65_no_request_sees_half_a_set(stage):
    """Two sets that agree on nothing but `/open`: a mix of both would allow `/else` together with `/x`."""
    done = threading.Event()
    swaps = 0

    def swap():
        nonlocal swaps
        while not done.is_set():
            stage.firewall.write_policies(shape_policy(SHAPES[swaps % 2]))
            swaps += 1
            time.sleep(0.03)

    swapper = threading.Thread(target=swap, daemon=True)
    swapper.start()
    try:
        client = stage.http1()
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for path, allowed in (("/open/x", {200}), ("/admin", {403}), ("/else", {200, 403, "cut"})):
                client.send(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
                answer = client.response()
                assert (answer.status if answer else "cut") in allowed, (path, answer)
                if answer is None:
                    # It was open when the set that allowed it went.
                    client.close()
                    client = stage.http1()
        client.close()
    finally:
        done.set()
        swapper.join(10)
    assert swaps > 50
    rules: dict[str, set] = {}
    for line in stage.firewall.log():
        if line["event"] == "request" and line["url.path"] == "/open/x":
            assert line["verdict"] == "allow", line
            rules.setdefault(line["generation"], set()).add(line["rule"])
    assert len(rules) > 20 and all(len(names) == 1 for names in rules.values()), rules


def test_attack_57_a_random_walk_agrees_with_the_oracle(stage):
    """Bounded in time; every answer must be what the canonical path says under a set that was in force."""
    walk = random.Random(57)
    words = ("open", "admin", "public", "a", "x", "openx", "%6fpen", "..", ".", "a%2f", "admin;", "%2e%2e", "")
    shape = "A"
    sent = 0
    end = time.monotonic() + 15
    while time.monotonic() < end:
        if sent % 200 == 199:
            shape = "D" if shape == "A" else "A"
            stage.firewall.reload_and_wait(lambda: stage.firewall.write_policies(shape_policy(shape)))
        batch = ["/" + "/".join(walk.choice(words) for _ in range(walk.randint(1, 4))) for _ in range(50)]
        file, workloads = stage.firewall.policy_folder / "policy.yaml", stage.firewall.workloads_file
        wanted = decide([file], workloads, [{"id": str(number), "src": {"ip": WEB}, "dst": {"workload": "shop/orders", "port": BACKEND}, "direction": "inbound", "protocol": "http",
                                             "method": "GET", "path": path, "host": HOST} for number, path in enumerate(batch)])
        with stage.http1() as client:
            for number, path in enumerate(batch):
                if client.closed:
                    client.close()
                    client = stage.http1()
                client.send(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
                answer = client.response()
                assert answer is not None, path
                got = {200: "allow", 403: "deny", 400: "reject"}[answer.status]
                assert got == wanted[str(number)]["verdict"], (shape, path, wanted[str(number)])
                if answer.value("connection") == "close":
                    client.closed = True
                sent += 1
            client.close()
    for request in stage.recorder.requests:
        assert passes("A", request.path) or passes("D", request.path), request
    assert sent > 500


@pytest.fixture(scope="module")
def passthrough(module_folder, module_ending):
    """TLS by server name on the port."""
    rules = [{"name": "tls", "from": WEB_PEER, "ports": [BACKEND], "tls": [{"serverNames": ["good.local", "*.wild.local"]}]}]
    workloads = [WORKLOADS[0] | {"ports": [{"name": "tls", "port": BACKEND}]}] + WORKLOADS[1:]
    return Stage(module_folder / "tls", module_ending, [policy("orders", "orders", rules)], workloads, http=False)


def first_flight(stage, data: bytes) -> str:
    stage.recorder.forget()
    with stage.http1() as client:
        client.send(data)

        def seen():
            if data in b"".join(stage.recorder.raw):
                return "allow"
            client.socket.settimeout(0.05)
            try:
                client._more()
            except TimeoutError:
                return None
            if client.closed or client.buffer.startswith((b"\x15\x03", b"HTTP/1.1 403")):
                return "deny"
            return None

        found = until(seen, "an arrival or an end", 10)
    assert (stage.recorder.bytes_received > 0) == (found == "allow")
    return found


@pytest.mark.parametrize(("name", "verdict"), [
    ("good.local", "allow"), ("GOOD.Local", "allow"), ("good.local.", "allow"), ("evil.local", "deny"), (None, "deny"), ("good.local.evil", "deny"), ("xgood.local", "deny"), ("a.wild.local", "allow"),
    ("a.b.wild.local", "deny"), ("wild.local", "deny"),
])
def test_attack_55_server_names(passthrough, name, verdict):
    hello = client_hello("name.placeholder" if name else None, None)
    if name:
        hello = renamed(hello, b"name.placeholder", name.encode())
    assert first_flight(passthrough, hello) == verdict


def renamed(hello: bytes, old: bytes, new: bytes) -> bytes:
    """The same ClientHello with another server name, all its lengths made right: names that no client library would send."""
    at = hello.index(old)
    grow = len(new) - len(old)
    made = bytearray(hello[:at] + new + hello[at + len(old) :])

    def add(position: int, size: int):
        value = int.from_bytes(made[position : position + size], "big") + grow
        made[position : position + size] = value.to_bytes(size, "big")

    # name length, list length, extension length stand in front of the name
    for position in (at - 2, at - 5, at - 7):
        add(position, 2)
    add(3, 2)  # record
    add(6, 3)  # handshake
    session = 5 + 4 + 2 + 32
    suites = session + 1 + made[session]
    compression = suites + 2 + int.from_bytes(made[suites : suites + 2], "big")
    add(compression + 1 + made[compression], 2)  # extensions
    return bytes(made)


@pytest.mark.parametrize("change", ["nul", "two-names", "not-tls", "fragmented", "cut", "empty-name"])
def test_attack_55_malformed_hellos(passthrough, change):
    hello = client_hello("name.placeholder", None)
    good = renamed(hello, b"name.placeholder", b"good.local")
    if change == "nul":
        assert first_flight(passthrough, renamed(hello, b"name.placeholder", b"good.local\0.evil")) == "deny"
    elif change == "two-names":
        both = renamed(hello, b"name.placeholder", b"good.local" + b"\0\x00\x0aevil.local")
        # One entry's length grew over both: repair it so that the list holds two names.
        at = both.index(b"good.local")
        both = both[: at - 2] + b"\x00\x0a" + both[at:]
        assert first_flight(passthrough, both) == "deny"
    elif change == "not-tls":
        assert first_flight(passthrough, b"GET / HTTP/1.1\r\nhost: good.local\r\n\r\n") == "deny"
    elif change == "fragmented":
        # The same hello over several records, byte by byte: what is one message is judged as one.
        body = good[5:]
        pieces = b"".join(good[:3] + len(body[at : at + 40]).to_bytes(2, "big") + body[at : at + 40] for at in range(0, len(body), 40))
        assert first_flight(passthrough, pieces) == "allow"
        evil = renamed(hello, b"name.placeholder", b"evil.local")[5:]
        pieces = b"".join(good[:3] + len(evil[at : at + 7]).to_bytes(2, "big") + evil[at : at + 7] for at in range(0, len(evil), 7))
        assert first_flight(passthrough, pieces) == "deny"
    elif change == "cut":
        passthrough.recorder.forget()
        with passthrough.http1() as client:
            client.send(good[:60])
            client.socket.shutdown(1)
            assert client.ended(10) or client.buffer.startswith(b"\x15\x03")
        assert passthrough.recorder.bytes_received == 0
    else:
        assert first_flight(passthrough, renamed(hello, b"name.placeholder", b"")) == "deny"


@pytest.mark.parametrize("version", VERSIONS)
def test_attack_55_authority_is_judged_on_each_stream(folder, ending, version):
    rules = [{"name": "one", "from": WEB_PEER, "http": [{"hosts": ["a.local"]}]}]
    stage = Stage(folder, ending, [policy("orders", "orders", rules)])
    hosts = ("a.local", "b.local", "a.local", "b.local")
    if version == "1":
        with stage.http1() as client:
            statuses = []
            for host in hosts:
                client.send(f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
                statuses.append(client.response().status)
    else:
        with stage.http2() as client:
            streams = [client.request([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", host.encode())]) for host in hosts]
            statuses = [client.wait(stream).status for stream in streams]
    assert statuses == [200, 403, 200, 403]
    assert [request.host for request in stage.recorder.requests] == ["a.local", "a.local"]
