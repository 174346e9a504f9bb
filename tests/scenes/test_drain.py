"""SIGTERM: what is in flight ends with its answer, nothing new begins, and the process ends well."""

import signal
import threading
import time

import pytest

from lab.program import until
from lab.stage import HOST, Stage, shape_policy
from lab.wire import Http1, Http2

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
    idle.send(f"GET /open/x HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
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
                late.send(f"GET /open/x HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode())
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
    if how == "signal":
        assert program.wait(10) == 0


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
