"""HTTP/2 floods, slow peers, and what bounds them. Ids are the numbers of the list of attacks."""

import os
import resource
import time

import pytest
from hyperframe.frame import ContinuationFrame, DataFrame, HeadersFrame, PingFrame, PriorityFrame, SettingsFrame, WindowUpdateFrame

from lab.program import until
from lab.stage import HOST, Stage, shape_policy

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open/x"), (b":authority", HOST.encode())]
POST = [(b":method", b"POST")] + GET[1:]
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def stage(module_folder, module_ending):
    return Stage(module_folder / "flood", module_ending, shape_policy("A"), arguments=["--head-timeout", "2s"])


def resident(stage) -> int:
    with open(f"/proc/{stage.firewall.program.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def still_serves(stage):
    """The one thing that every flood must leave as it was."""
    assert stage.firewall.program.alive(), stage.firewall.said()
    for version in ("1", "2"):
        outcome = stage.send(version, "GET", "/open/after")
        assert outcome.verdict == "allow", outcome
    assert stage.send("1", "GET", "/admin").verdict == "deny"


@pytest.fixture(autouse=True)
def bounded(stage):
    """Every flood ends with the proxy alive, serving, and not grown beyond bound."""
    before = resident(stage)
    yield
    still_serves(stage)
    assert resident(stage) - before < 64 * MEGABYTE, (before, resident(stage))


def flood(client, make, most: int) -> int:
    """Sends until the peer ends the connection; how often it took."""
    for count in range(most):
        make(count)
        if client.closed or client.goaway is not None:
            return count
        if count % 50 == 49:
            client.pump(0.001)
    until(lambda: not client.pump(0.2) or client.closed or client.goaway is not None, "the end of the answers", 10)
    return most


def test_attack_40_rapid_reset(stage):
    before = stage.firewall.metric("eastwall_requests_total")
    with stage.http2() as client:
        def once(_):
            client.reset(client.request(GET))
        sent = flood(client, once, 20_000)
        assert client.closed or client.goaway is not None, "a peer that resets without end is sent away"
    assert sent < 20_000
    # What was judged before the end is counted, reset or not.
    assert stage.firewall.metric("eastwall_requests_total") > before


def test_attack_41_continuation_flood(stage):
    with stage.http2() as client:
        block = client.encoder.encode(GET, huffman=False)
        client.frame(HeadersFrame(1, block))

        def once(_):
            client.frame(ContinuationFrame(1, client.encoder.encode([(b"x-a", os.urandom(500).hex().encode())], huffman=False)))
        assert flood(client, once, 20_000) < 20_000 or client.closed or client.goaway is not None


def test_attack_41_empty_continuations(stage):
    with stage.http2() as client:
        client.frame(HeadersFrame(1, client.encoder.encode(GET, huffman=False)))
        flood(client, lambda _: client.frame(ContinuationFrame(1, b"")), 50_000)
        assert client.closed or client.goaway is not None


def test_attack_42_made_to_reset(stage):
    """Frames that make the server reset a stream it is serving count like the client's own resets."""
    with stage.http2() as client:
        def once(_):
            stream = client.request(POST, end=False)
            client.frame(WindowUpdateFrame(stream, window_increment=1))
            bad = WindowUpdateFrame(stream, window_increment=0x7FFFFFFF)
            client.frame(bad)
        flood(client, once, 20_000)
        assert client.closed or client.goaway is not None


def test_attack_43_empty_data_frames(stage):
    with stage.http2() as client:
        stream = client.request(POST, end=False)
        flood(client, lambda _: client.frame(DataFrame(stream, b"")), 100_000)
        assert client.closed or client.goaway is not None or client.streams[stream].reset is not None


def test_attack_44_trailers_without_end(stage):
    stage.recorder.forget()
    with stage.http2() as client:
        stream = client.request(POST, b"body", end=False)
        client.trailers(stream, [(b"x-trail", b"1")], end=False)
        answer = client.wait(stream, until=lambda answer: answer.ended or client.goaway is not None)
        assert answer.reset is not None or client.goaway not in (None, 0) or client.closed, answer
    assert not stage.recorder.requests


def test_attack_44_frames_after_a_reset(stage):
    with stage.http2() as client:
        stream = client.request(POST, b"x", end=False)
        client.reset(stream)
        client.data(stream, b"more", False)
        client.trailers(stream, [(b"x-trail", b"1")])
        after = client.request(GET)
        answer = client.wait(after, until=lambda answer: answer.ended or client.goaway is not None)
        assert answer.status == 200 or client.goaway is not None or client.closed


def test_attack_45_hpack_bomb(stage):
    with stage.http2() as client:
        big = [(b"x-bomb", b"a" * 3500)]
        client.request(GET + big)
        stream = client.request(GET + big * 2000)
        answer = client.wait(stream, until=lambda answer: answer.ended or client.goaway is not None)
        assert answer.status in (431, 400) or answer.reset is not None or client.goaway is not None or client.closed, answer


def test_attack_45_one_byte_data_frames_pass_and_stay_bounded(stage):
    stage.recorder.forget()
    with stage.http2() as client:
        stream = client.request(POST, end=False)
        for _ in range(5000):
            client.data(stream, b"x", False)
            if client.closed:
                break
        client.data(stream, b"", True)
        answer = client.wait(stream, until=lambda answer: answer.ended or client.goaway is not None)
    if answer.status == 200:
        assert [len(request.body) for request in stage.recorder.requests] == [5000]
    else:
        assert answer.reset is not None or client.goaway is not None or client.closed


def test_attack_45_zero_window_holds_no_bodies(module_folder, module_ending):
    """The client opens no window: the answers wait at the receiver, not in the proxy."""
    big = Stage(module_folder / "window", module_ending, shape_policy("A"), answer=lambda request: (200, [], b"x" * (4 * MEGABYTE)))
    before = resident(big)
    with big.http2(settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}, auto=False) as client:
        for _ in range(50):
            client.request([(name, b"/open/x") if name == b":path" else (name, value) for name, value in GET])
        until(lambda: len(big.recorder.connections) >= 1, "a request at the receiver")
        client.pump(1)
        time.sleep(1)
        assert resident(big) - before < 64 * MEGABYTE
    assert big.firewall.program.alive()


@pytest.mark.parametrize("kind", ["ping", "settings", "priority", "window"])
def test_attack_45_control_frame_floods(stage, kind):
    makers = {
        "ping": lambda number: PingFrame(0, number.to_bytes(8, "big")),
        "settings": lambda number: SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65535 + number % 2}),
        "priority": lambda number: PriorityFrame(2 * number + 1, depends_on=0, stream_weight=1, exclusive=False),
        "window": lambda number: WindowUpdateFrame(0, window_increment=1),
    }
    with stage.http2() as client:
        client.socket.settimeout(5)
        def once(number):
            try:
                client.frame(makers[kind](number))
            except TimeoutError:
                # It has stopped reading what it cannot answer: bounded too.
                client.closed = True
        flood(client, once, 20_000)


def test_attack_45_streams_are_capped(stage):
    with stage.http2() as client:
        until(lambda: client.pump(1) and SettingsFrame.MAX_CONCURRENT_STREAMS in client.peer_settings, "the settings of the proxy")
        most = client.peer_settings[SettingsFrame.MAX_CONCURRENT_STREAMS]
        assert most <= 250
        streams = [client.request(POST, end=False) for _ in range(most + 20)]
        until(lambda: client.pump(0.2) and any(client.streams[each].reset is not None for each in streams) or client.goaway is not None or client.closed, "a refused stream")


def test_attack_45_slow_heads_end(stage):
    """Slowloris: a head that does not end within its time."""
    with stage.http1() as client:
        client.send(b"GET /open/x HTTP/1.1\r\nhost: ")
        answer = client.response(timeout=15)
        assert (answer is None or answer.status == 408) and client.ended(10)
    with stage.http2() as client:
        client.frame(HeadersFrame(1, client.encoder.encode(GET, huffman=False)))
        until(lambda: (client.pump(0.2), client.closed or client.goaway is not None)[1], "the end of a head that never ends", 20)


def test_attack_45_many_idle_connections_stay_small(stage):
    before = resident(stage)
    clients = []
    try:
        for number in range(900):
            client = stage.http1()
            client.send(b"GET /open/%d HTTP/1.1\r\nhost: " % number + HOST.encode() + b"\r\n\r\n")
            clients.append(client)
        for client in clients:
            assert client.response().status == 200
        assert (resident(stage) - before) / len(clients) < 40_000
    finally:
        for client in clients:
            client.close()
