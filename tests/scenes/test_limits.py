"""Bad input and slow peers meet bounds: each with its default, its setting, and its reason in the metrics."""

import resource
import time

import pytest

from lab.program import until
from lab.stage import HOST, WEB, Stage, shape_policy
from lab.wire import Http1

HEAD = f"GET /open/x HTTP/1.1\r\nhost: {HOST}\r\n"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def stage(module_folder, module_ending):
    """The defaults."""
    return Stage(module_folder / "defaults", module_ending, shape_policy("A"))


@pytest.fixture(scope="module")
def tight(module_folder, module_ending):
    """Every bound set by its flag."""
    return Stage(module_folder / "tight", module_ending, shape_policy("A"), arguments=[
        "--head-bytes", "2000", "--header-fields", "10", "--streams", "5", "--head-timeout", "1s", "--idle-timeout", "2s", "--connections", "50", "--connections-per-source", "20"])


def resident(stage) -> int:
    with open(f"/proc/{stage.firewall.program.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def refused(stage, outcome, refusal: str, *statuses: int):
    """Refused with one of these statuses, nothing passed on, and the log gives this reason."""
    assert outcome.status in statuses, outcome
    assert not outcome.requests and outcome.bytes == 0
    (line,) = stage.logged(outcome)
    assert (line["verdict"], line["reason"], line["refusal"]) == ("reject", "rejected", refusal), line


def closed_by(stage, limit: str) -> float:
    """Connections that this limit closed, so far."""
    return stage.firewall.metric("eastwall_connections_rejected_total", limit=limit)


def test_oversize_headers(stage, tight):
    assert stage.raw((HEAD + "x-big: " + "a" * 50_000 + "\r\n\r\n").encode()).verdict == "allow"
    refused(stage, stage.raw((HEAD + "x-big: " + "a" * 100_000 + "\r\n\r\n").encode()), "head-too-large", 431)
    refused(tight, tight.raw((HEAD + "x-big: " + "a" * 3000 + "\r\n\r\n").encode()), "head-too-large", 431)
    refused(stage, stage.raw(f"GET /open/{'a' * 100_000} HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()), "target-too-long", 414)


def test_oversize_headers_over_h2(stage):
    base = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open/x"), (b":authority", HOST.encode())]
    assert stage.fields(base + [(b"x-big", b"a" * 50_000)]).verdict == "allow"
    outcome = stage.fields(base + [(b"x-big", b"a" * 100_000)])
    # Here the HTTP/2 library itself refuses, before there is a request that a line could tell of.
    assert outcome.status == 431 and not outcome.requests and outcome.bytes == 0, outcome


@pytest.mark.parametrize("version", ["1", "2"])
def test_ten_thousand_headers(stage, tight, version):
    for where, allowed, too_many in ((stage, 90, 10_000), (stage, 90, 120), (tight, 5, 20)):
        fine = where.send(version, "GET", "/open/x", [(f"x-{number}", "1") for number in range(allowed)])
        assert fine.verdict == "allow", fine
        outcome = where.send(version, "GET", "/open/x", [(f"x-{number}", "1") for number in range(too_many)])
        assert outcome.verdict == "reject" and not outcome.requests, outcome
        if version == "1" or too_many < 1000:
            refused(where, outcome, "too-many-fields", 431)


def test_slow_headers(tight):
    before = closed_by(tight, "head-timeout")
    with tight.http1() as client:
        started = time.monotonic()
        for byte in HEAD.encode():
            client.send(bytes([byte]))
            if client.closed:
                break
            time.sleep(0.1)
            if time.monotonic() - started > 15:
                break
        answer = client.response(timeout=5)
        assert answer is None or answer.status == 408, answer
        assert client.ended(5)
    until(lambda: closed_by(tight, "head-timeout") == before + 1, "the counted refusal")
    tight.recorder.forget()


def test_an_endless_body_streams_in_bounded_memory(folder, ending):
    """The receiver takes it as it comes; nothing is gathered."""
    stage = Stage(folder, ending, shape_policy("A"), http=False)
    before = resident(stage)
    with stage.http1() as client:
        client.send(f"POST /open/x HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n".encode())
        block = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(800):
            client.send(block)
            assert not client.closed
        until(lambda: stage.recorder.bytes_received > 40 * MEGABYTE, "the body at the receiver")
        assert resident(stage) - before < 32 * MEGABYTE
    assert stage.firewall.program.alive()


def test_a_body_that_nobody_reads_is_held_back(module_folder, module_ending):
    """Backpressure: a receiver that stops reading stops the sender."""
    from lab.namespace import Namespace
    from lab.firewall import Firewall
    from lab.stage import BACKEND, LISTEN, ORDERS, WORKLOADS

    place = Namespace("deaf")
    module_ending.callback(place.delete)
    listener = place.listen(ORDERS, BACKEND)
    module_ending.callback(listener.close)
    firewall = Firewall(module_folder / "deaf", "gateway", place, shape_policy("A"), WORKLOADS, listen=f"127.0.0.1:{LISTEN}", upstream=f"{ORDERS}:{BACKEND}")
    module_ending.enter_context(firewall)
    firewall.start()
    with place.connect("127.0.0.1", LISTEN, 3, WEB) as client:
        client.sendall(f"POST /open/x HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000000000\r\n\r\n".encode())
        sent = 0
        try:
            while sent < 200 * MEGABYTE:
                sent += client.send(b"x" * 65536)
        except TimeoutError:
            pass
        assert sent < 100 * MEGABYTE, "the sender is held back"


def test_the_endless_body_of_a_denied_request_ends(stage):
    with stage.http1() as client:
        client.send(f"POST /admin HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1000000000\r\n\r\n".encode())
        assert client.response().status == 403
        for _ in range(2000):
            client.send(b"x" * 65536)
            if client.closed:
                break
        assert client.closed or client.ended(5)


def test_half_open_connections_end(tight):
    """Idle after a request, and silent from the start."""
    before = closed_by(tight, "idle-timeout"), closed_by(tight, "head-timeout")
    with tight.http1() as client:
        client.send((HEAD + "\r\n").encode())
        assert client.response().status == 200
        assert client.ended(15)
    with tight.http1() as client:
        assert client.ended(15)
    until(lambda: (closed_by(tight, "idle-timeout"), closed_by(tight, "head-timeout")) == (before[0] + 2, before[1]), "the counted ends")


def test_connections_are_capped_by_source_and_in_all(tight):
    opened = []
    before = closed_by(tight, "connections-per-source"), closed_by(tight, "connections")

    def serves(source: str) -> bool:
        try:
            client = Http1(tight.connect(source))
        except ConnectionResetError:
            return False
        opened.append(client)
        client.send((HEAD + "\r\n").encode())
        answer = client.response(timeout=5)
        return answer is not None and answer.status in (200, 403)

    try:
        count = sum(serves(WEB) for _ in range(30))
        assert 15 <= count <= 20, count
        assert closed_by(tight, "connections-per-source") - before[0] == 30 - count and closed_by(tight, "connections") == before[1]
        assert serves("127.0.0.4"), "another source is not kept out"
        total = count + 1 + sum(serves(f"127.0.1.{number}") for number in range(1, 61))
        assert total <= 50, total
        assert closed_by(tight, "connections") - before[1] == 30 + 1 + 60 - (30 - count) - total
    finally:
        for client in opened:
            client.close()
    until(lambda: tight.firewall.metric("eastwall_connections_active") < 5, "the end of the connections")
    assert tight.send("1", "GET", "/open/x").verdict == "allow"


def test_refusals_are_counted_by_reason(stage):
    def rejects():
        return (stage.firewall.metric("eastwall_requests_total", direction="inbound", protocol="http", verdict="reject", reason="rejected", source_workload="shop/web"),
                stage.firewall.metric("eastwall_evasion_attempts_total", source_workload="shop/web", refusal="escaped-slash"))

    before = rejects()
    refused(stage, stage.send("1", "GET", "/a%2Fb"), "escaped-slash", 400)
    until(lambda: rejects() == (before[0] + 1, before[1] + 1), "the counted refusal")
