"""SIGTERM: what is in flight ends with its answer, nothing new begins, and the process ends well."""

import signal
import threading
import time

import pytest

from lab.firewall import policy
from lab.program import until
from lab.recorder import Recorder
from lab.scene import PLACEMENTS, Scene
from lab.stage import HOST, Stage, shape_policy
from lab.wire import Http1, Http2

ASK = f"GET /open/x HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
GET2_NOW = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open/x"), (b":authority", HOST.encode())]
GET2 = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open/slow"), (b":authority", HOST.encode())]


@pytest.fixture
def held():
    return threading.Event()


@pytest.fixture
def stage(folder, ending, held):
    def answer(request):
        if request.path == "/open/slow":
            held.wait(20)
        return 200, [], b"served"

    return Stage(folder, ending, shape_policy("A"), answer=answer)


@pytest.mark.parametrize("how", ["signal", "post"])
@pytest.mark.parametrize("version", ["1", "2"])
def test_requests_in_flight_end_with_their_answer(stage, held, version, how):
    idle = stage.http1()
    idle.send(ASK)
    assert idle.response().status == 200
    connection = stage.connect()
    if version == "1":
        client = Http1(connection)
        client.send(f"GET /open/slow HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
    else:
        client = Http2(connection)
        stream = client.request(GET2)
    until(lambda: any(b"slow" in raw or raw.startswith(b"PRI") for raw in stage.recorder.raw), "the request at the receiver")
    program = stage.firewall.program
    if how == "signal":
        program.signal(signal.SIGTERM)
    else:
        assert stage.firewall.ask_socket("/drain", "POST")[0] in (200, 202, 204)

    def refused():
        try:
            with stage.http1() as late:
                late.send(ASK)
                return late.response(timeout=2) is None
        except OSError:
            return True

    until(refused, "new connections refused")
    assert program.alive(), "it waits for what is in flight"
    held.set()
    answer = client.response() if version == "1" else client.wait(stream)
    assert answer is not None and answer.status == 200 and answer.body == b"served"
    assert idle.ended(10), "an idle connection is closed"
    client.close()
    assert program.wait(10) == 0


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_where_traffic_is_intercepted_it_ends_as_well(folder, ending, held, placement, family):
    """In flight: the answer. New: refused, while it drains and when it is gone. The end: exit 0."""
    def answer(request):
        if request.path == "/open/slow":
            held.wait(20)
        return 200, [], b"served"

    rules = [{"name": "open", "from": [{"serviceAccount": "web"}], "http": [{"paths": ["/open/**"]}]}]
    scene = Scene(folder, ending, placement, [policy("orders", "orders", rules)], {"web": [], "orders": [{"name": "http", "port": 8080}]})
    receiver = ending.enter_context(Recorder(scene["orders"], "::", 8080, answer=answer))
    address = getattr(scene["orders"], family)

    def ask(path: str) -> Http1:
        client = Http1(scene["web"].connect(address, 8080, 3))
        client.send(f"GET {path} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
        return client

    idle = ask("/open/x")
    assert idle.response().status == 200
    slow = ask("/open/slow")
    until(lambda: any(b"slow" in raw for raw in receiver.raw), "the request at the receiver")
    firewall = scene.firewall()
    program = firewall.program
    program.signal(signal.SIGTERM)

    def refused():
        try:
            with ask("/open/late") as late:
                return late.response(timeout=2) is None
        except OSError:
            return True

    until(refused, "new connections refused")
    assert program.alive(), "it waits for what is in flight"
    held.set()
    answered = slow.response()
    assert answered is not None and answered.status == 200 and answered.body == b"served"
    assert idle.ended(10), "an idle connection is closed"
    slow.close()
    assert program.wait(10) == 0
    arrived = receiver.bytes_received
    assert refused() and receiver.bytes_received == arrived, "closed without the proxy"


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("before", ["nothing", "a request"])
def test_what_a_silent_client_sends_as_it_begins_is_answered(stage, before, version):
    """Its request was under way, and says nothing of the drain: it would not know whether to send it again."""
    if version == "1":
        client = stage.http1()
        ask = lambda: client.send(ASK) or client.response()
    else:
        client = stage.http2()
        ask = lambda: client.wait(client.request(GET2_NOW))
    until(lambda: stage.firewall.metric("eastwall_connections_active") == 1, "the connection")
    if before == "a request":
        assert ask().status == 200
    program = stage.firewall.program
    program.signal(signal.SIGTERM)
    until(lambda: "draining" in program.text(), "the drain")
    answer = ask()
    assert answer is not None and answer.status == 200
    if version == "1":
        assert answer.value("connection") == "close" and client.ended()
    else:
        assert client.goaway is not None
    assert program.wait(5) == 0


@pytest.mark.parametrize("before", ["nothing", "a request"])
def test_a_client_that_stays_silent_holds_up_no_drain(stage, before):
    client = stage.http1()
    until(lambda: stage.firewall.metric("eastwall_connections_active") == 1, "the connection")
    if before == "a request":
        client.send(ASK)
        assert client.response().status == 200
    stage.firewall.program.signal(signal.SIGTERM)
    assert client.ended(10)
    assert stage.firewall.program.wait(5) == 0
    assert "cut what did not end in time" not in stage.firewall.said()


def test_drain_has_an_end(stage, held):
    client = stage.http1()
    client.send(f"GET /open/slow HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
    until(lambda: stage.recorder.bytes_received > 0, "the request at the receiver")
    asked = time.monotonic()
    stage.firewall.program.signal(signal.SIGTERM)
    assert stage.firewall.program.wait(20) == 0
    print(f"ended after {time.monotonic() - asked:.1f} s with --drain {stage.firewall.drain}")
    held.set()
    client.close()
