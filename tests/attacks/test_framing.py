"""Messages whose ends two peers see in two places: smuggling, upgrades, pipelines. Ids are the numbers of the list of attacks."""

import base64
import os
import threading

import pytest

from lab.firewall import policy
from lab.program import until
from lab.stage import HOST, SHAPES, Stage, shape_policy

HOST_LINE = b"host: " + HOST.encode() + b"\r\n"
SMUGGLED = b"GET /admin HTTP/1.1\r\n" + HOST_LINE + b"\r\n"


@pytest.fixture(scope="module", params=SHAPES)
def stage(request, module_folder, module_ending):
    return Stage(module_folder / request.param, module_ending, shape_policy(request.param))


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"POST /open/x " + version + b"\r\n" + HOST_LINE + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def refused(outcome):
    assert outcome.status in (400, 501), outcome
    assert outcome.connection_ended, "after a framing refusal the connection is closed"
    assert not outcome.requests and outcome.bytes == 0, outcome


CHUNKED = b"0\r\n\r\n"


@pytest.mark.parametrize("data", [
    post(b"content-length: 5", b"transfer-encoding: chunked", body=CHUNKED),
    post(b"transfer-encoding: chunked", b"content-length: 5", body=CHUNKED),
    post(b"transfer-encoding: chunked, identity", body=CHUNKED),
    post(b"transfer-encoding: identity, chunked", body=CHUNKED),
    post(b"transfer-encoding: gzip, chunked", body=CHUNKED),
    post(b"transfer-encoding: xchunked", body=CHUNKED),
    post(b"transfer-encoding: identity", body=CHUNKED),
    post(b"transfer-encoding: chunked,", body=CHUNKED),
    post(b"transfer-encoding: \"chunked\"", body=CHUNKED),
    post(b"transfer-encoding:", body=CHUNKED),
    post(b"transfer-encoding : chunked", body=CHUNKED),
    post(b"transfer-encoding\t: chunked", body=CHUNKED),
    post(b"transfer-encoding: chunked", b"transfer-encoding: chunked", body=CHUNKED),
    post(b"transfer-encoding: chunked", b"transfer-encoding: x", body=CHUNKED),
    post(b"transfer-encoding:\x0bchunked", body=CHUNKED),
    post(b"transfer_encoding: chunked", b"content-length: 5", b"transfer-encoding: chunked", body=CHUNKED),
    post(b"content-length: 5", b"content-length: 5", body=b"hello"),
    post(b"content-length: 5", b"content-length: 6", body=b"hello!"),
    post(b"content-length: 5, 5", body=b"hello"),
    post(b"content-length: +5", body=b"hello"),
    post(b"content-length: -5", body=b"hello"),
    post(b"content-length: 0x5", body=b"hello"),
    post(b"content-length: 5 5", body=b"hello"),
    post(b"content-length: 5.0", body=b"hello"),
    post(b"content-length:", body=b"hello"),
    post(b"content-length: 99999999999999999999999", body=b"hello"),
    post(b"content-length: 18446744073709551616", body=b"hello"),
    post(b"content-length: \xb25", body=b"hello"),
], ids=lambda data: ascii(data.split(b"\r\n", 2)[2][:70]))
def test_attack_31_two_framings(stage, data):
    refused(stage.raw(data + SMUGGLED))


@pytest.mark.parametrize("body", [
    b"g\r\nx\r\n0\r\n\r\n", b"-1\r\nx\r\n0\r\n\r\n", b"0x1\r\nx\r\n0\r\n\r\n", b" 1\r\nx\r\n0\r\n\r\n", b"1 \r\nx\r\n0\r\n\r\n", b"\r\n1\r\nx\r\n0\r\n\r\n", b"1\nx\n0\n\n", b"1\r\nxy\r\n0\r\n\r\n",
    b"FFFFFFFFFFFFFFFF1\r\nx\r\n0\r\n\r\n", b"1000000000000000000000\r\n", b"1;\nx=y\r\nx\r\n0\r\n\r\n", b"1;a\rb\r\nx\r\n0\r\n\r\n", b"1\r\nx\r\n0\r\nbad header\r\n\r\n", b"1\r\nx0\r\n\r\n",
    b"1\r\nx\r\n0\r\ncontent-length: 5\r\n\r\n", b"1\r\nx\r\n0\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n0\r\nhost: evil\r\n\r\n",
], ids=ascii)
def test_attack_31_malformed_chunks(stage, body):
    """The head may have gone on already; what may not happen is a framed second request, or a body that anyone reads otherwise."""
    outcome = stage.raw(post(b"transfer-encoding: chunked", body=body) + SMUGGLED)
    assert outcome.status is None or outcome.status >= 400, outcome
    assert not outcome.requests, "no whole request may come of a malformed body"
    assert b"/admin" not in b"".join(stage.recorder.raw)


def test_attack_31_well_framed_bodies_pass(stage):
    for data, body in ((post(b"content-length: 5", body=b"hello"), b"hello"), (post(b"transfer-encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
                       (post(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), b"hello"),
                       (post(b"transfer-encoding: chunked", body=b"5\r\nhello\r\n0\r\nx-trail: 1\r\n\r\n"), b"hello"),
                       (post(b"transfer-encoding: chunked", body=b"5;ext=1\r\nhello\r\n0\r\n\r\n"), b"hello"), (post(b"content-length: 0"), b"")):
        outcome = stage.raw(data)
        assert outcome.verdict == "allow" and [request.body for request in outcome.requests] == [body], (data, outcome)


@pytest.mark.parametrize("data", [
    post(b"transfer-encoding: chunked", body=CHUNKED, version=b"HTTP/1.0"),
    post(b"transfer-encoding: identity", body=b"x", version=b"HTTP/1.0"),
    post(b"transfer-encoding: gzip", b"transfer-encoding: chunked", body=CHUNKED),
    b"POST /open/x HTTP/1.2\r\n" + HOST_LINE + b"\r\n", b"POST /open/x HTTP/2.0\r\n" + HOST_LINE + b"\r\n", b"POST /open/x http/1.1\r\n" + HOST_LINE + b"\r\n",
    b"POST /open/x\r\n" + HOST_LINE + b"\r\n", b"POST  /open/x HTTP/1.1\r\n" + HOST_LINE + b"\r\n", b"POST /open/x  HTTP/1.1\r\n" + HOST_LINE + b"\r\n",
    b"POST\t/open/x HTTP/1.1\r\n" + HOST_LINE + b"\r\n", b"POST /open/x HTTP/1.1 \r\n" + HOST_LINE + b"\r\n", b" POST /open/x HTTP/1.1\r\n" + HOST_LINE + b"\r\n",
], ids=lambda data: ascii(data.split(b"\r\n")[0] + b" " + data.split(b"\r\n")[2][:30]))
def test_attack_32_old_versions_and_odd_lines(stage, data):
    outcome = stage.raw(data + SMUGGLED)
    assert (outcome.status is None or outcome.status in (400, 505)) and outcome.connection_ended, outcome
    assert not outcome.requests and outcome.bytes == 0, outcome


UPGRADE = b"GET /open/feed HTTP/1.1\r\n" + HOST_LINE + b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: " + base64.b64encode(b"0123456789abcdef") + b"\r\n\r\n"


@pytest.fixture(scope="module")
def upgrades(module_folder, module_ending):
    """An upgrade is allowed to /feed alone; the receiver answers what the path says."""
    held = threading.Event()

    def answer(request):
        if request.method == "CONNECT":
            held.wait(10)
            return int(request.header("x-answer")), [], b""
        if request.path == "/feed" and request.header("x-answer") == "101":
            return 101, [("connection", "Upgrade"), ("upgrade", "websocket")], b""
        return 200, [], b"served"

    rules = [{"name": "feed", "from": [{"serviceAccount": "web"}], "http": [{"paths": ["/feed"], "upgrades": ["websocket"]}]},
             {"name": "open", "from": [{"serviceAccount": "web"}], "http": [{"paths": ["/open/**"]}]},
             {"name": "tunnel", "from": [{"serviceAccount": "web"}], "http": [{"hosts": ["tunnel.local"], "methods": ["CONNECT"], "upgrades": ["connect"]}]}]
    made = Stage(module_folder / "upgrades", module_ending, [policy("orders", "orders", rules)], answer=answer)
    made.held = held
    return made


def upgrade(path: bytes, answer: bytes = b"200") -> bytes:
    return UPGRADE.replace(b"/open/feed", path).replace(b"\r\n\r\n", b"\r\nx-answer: " + answer + b"\r\n\r\n")


def test_attack_33_nothing_after_an_upgrade_before_its_answer(upgrades):
    """The receiver says 200: what was pipelined is the next request and is judged as one."""
    outcome = upgrades.raw(upgrade(b"/feed") + SMUGGLED, answers=2)
    assert [request.path for request in outcome.requests] == ["/feed"], outcome
    assert b"/admin" not in b"".join(upgrades.recorder.raw)
    assert outcome.status == 403 or outcome.answer is None, "judged as the next request, or the connection closed"


def test_attack_33_denied_upgrade_reaches_nothing(upgrades):
    outcome = upgrades.raw(upgrade(b"/open/feed", b"101") + SMUGGLED)
    assert outcome.status == 403 and not outcome.requests and outcome.bytes == 0, outcome


def test_attack_34_early_data_after_connect(upgrades):
    """The receiver takes its time with its answer: until it comes nothing goes on, and after a refusal nothing goes on unjudged."""
    head = b"CONNECT tunnel.local:443 HTTP/1.1\r\nhost: tunnel.local:443\r\nx-answer: %s\r\n\r\n"
    for word in (b"502", b"200"):
        upgrades.recorder.forget()
        upgrades.held.clear()
        with upgrades.http1() as client:
            client.send(head % word + SMUGGLED)
            until(lambda: upgrades.recorder.requests, "the request at the receiver")
            assert b"/admin" not in b"".join(upgrades.recorder.raw), "nothing before the answer"
            upgrades.held.set()
            if word == b"502":
                answer = client.response()
                assert answer is not None and answer.status >= 400
                after = None if client.closed else client.response()
                assert after is None or after.status == 403, "judged as the next request, or the connection closed"
                assert b"/admin" not in b"".join(upgrades.recorder.raw)
            else:
                assert client.response().status == 200
                until(lambda: b"/admin" in b"".join(upgrades.recorder.raw), "the tunnel's bytes, after its answer")
    refused_connect = upgrades.raw(b"CONNECT evil.local:443 HTTP/1.1\r\nhost: evil.local:443\r\n\r\n" + SMUGGLED)
    assert 400 <= refused_connect.status < 500 and not refused_connect.requests and refused_connect.bytes == 0, refused_connect


@pytest.mark.parametrize("lines", [
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n", b"connection: upgrade\r\nupgrade: h2c\r\n", b"upgrade: h2c\r\n",
    b"connection: upgrade\r\nupgrade: websocket, h2c\r\n", b"connection: upgrade\r\nUpgrade: H2C\r\n",
], ids=ascii)
def test_attack_35_h2c_upgrade(stage, lines):
    outcome = stage.raw(b"GET /open/x HTTP/1.1\r\n" + HOST_LINE + lines + b"\r\n")
    assert outcome.status == 400 and not outcome.requests and outcome.bytes == 0, outcome


BASE = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/open/x"), (b":authority", HOST.encode())]


def swapped(name: bytes, value: bytes) -> list:
    return [(key, value if key == name else old) for key, old in BASE]


@pytest.mark.parametrize("fields", [
    swapped(b":path", b"/open/x HTTP/1.1\r\nx: y"), swapped(b":path", b"/open/x\n"), swapped(b":path", b"/open /x"), swapped(b":path", b""), swapped(b":method", b"GET /admin HTTP/1.1\r\nx: y"),
    swapped(b":method", b""), swapped(b":method", b"GE T"), swapped(b":authority", b"a\r\nb: c"), BASE + [(b"x: y\r\nz", b"1")], BASE + [(b"x y", b"1")], BASE + [(b"x", b"1\r\ntransfer-encoding: chunked")],
    BASE + [(b"transfer-encoding", b"chunked")], BASE + [(b"connection", b"close")], BASE + [(b"keep-alive", b"1")], BASE + [(b"proxy-connection", b"1")], BASE + [(b"upgrade", b"websocket")],
    BASE + [(b"te", b"gzip")], BASE + [(b":unknown", b"1")], BASE + [(b":path", b"/admin")], BASE + [(b":method", b"GET")], [(b"x", b"1")] + BASE, BASE[1:], BASE[:1] + BASE[2:], BASE[:2] + BASE[3:],
    BASE + [(b":status", b"200")], BASE + [(b":protocol", b"websocket")],
], ids=lambda fields: ascii([field for field in fields if field not in BASE] or len(fields))[:60])
def test_attack_36_malformed_h2_fields(stage, fields):
    outcome = stage.fields(fields)
    assert outcome.verdict in ("reject", "deny") and not outcome.requests and outcome.bytes == 0, outcome


@pytest.mark.parametrize(("length", "body"), [(b"4", b"hello"), (b"6", b"hello"), (b"0", b"hello"), (b"x", b"hello"), (b"5, 5", b"hello"), (b"+5", b"hello")])
def test_attack_36_content_length_mismatch_in_h2(stage, length, body):
    outcome = stage.fields(BASE + [(b"content-length", length)], body)
    assert outcome.verdict == "reject" and not outcome.requests, outcome


def test_attack_36_twice_content_length_in_h2(stage):
    outcome = stage.fields(BASE + [(b"content-length", b"5"), (b"content-length", b"6")], b"hello")
    assert outcome.verdict == "reject" and not outcome.requests, outcome


def get(path: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST_LINE + b"\r\n"


@pytest.mark.parametrize("order", [(b"/open/1", b"/admin"), (b"/admin", b"/open/1"), (b"/open/1", b"/admin", b"/open/2"), (b"/admin", b"/open/1", b"/admin")], ids=ascii)
def test_attack_37_pipelines_answer_in_order(stage, order):
    stage.recorder.forget()
    with stage.http1() as client:
        client.send(b"".join(map(get, order)))
        statuses = []
        for _ in order:
            answer = client.response()
            if answer is None:
                break
            statuses.append(answer.status)
        assert client.buffer == b""
    wanted = [403 if path == b"/admin" else 200 for path in order]
    assert statuses == wanted[: len(statuses)] and statuses, statuses
    passed = [path.decode() for path, status in zip(order, statuses) if status == 200]
    assert [request.path for request in stage.recorder.requests] == passed


@pytest.mark.parametrize("framing", ["length", "chunked", "unfinished"])
def test_attack_37_body_of_a_denied_post_is_no_request(stage, framing):
    inner = get(b"/open/inner")
    if framing == "length":
        data = b"POST /admin HTTP/1.1\r\n" + HOST_LINE + b"content-length: %d\r\n\r\n" % len(inner) + inner
    elif framing == "chunked":
        data = b"POST /admin HTTP/1.1\r\n" + HOST_LINE + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n"
    else:
        data = b"POST /admin HTTP/1.1\r\n" + HOST_LINE + b"content-length: 1000000\r\n\r\n" + inner
    stage.recorder.forget()
    with stage.http1() as client:
        client.send(data + get(b"/open/after"))
        first = client.response()
        assert first.status == 403
        try:
            second = client.response(timeout=1 if framing == "unfinished" else 10)
        except TimeoutError:
            second = None
    paths = [request.path for request in stage.recorder.requests]
    assert framing != "unfinished" or second is None, "the rest of an unfinished body is no request"
    assert paths == (["/open/after"] if second is not None else []), paths
    assert second is None or second.status == 200


@pytest.mark.parametrize("version", ["1"])
def test_attack_38_websocket_frames_are_never_http(upgrades, version):
    upgrades.recorder.forget()
    with upgrades.http1() as client:
        client.send(upgrade(b"/feed", b"101"))
        assert client.response().status == 101
        payload = SMUGGLED + os.urandom(16)
        client.send(payload)
        until(lambda: payload in b"".join(upgrades.recorder.raw), "the bytes of the upgraded connection at the receiver")
    assert upgrades.send("1", "GET", "/feed", [("connection", "upgrade"), ("upgrade", "other"), ("x-answer", "101")]).status in (400, 403)


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(("method", "target"), [("OPTIONS", "*"), ("CONNECT", "orders:443"), ("CONNECT", "/open/x"), ("GET", "*"), ("TRACE", "*")])
def test_attack_39_requests_without_a_path(stage, version, method, target):
    if version == "2" and method == "CONNECT":
        fields = [(b":method", b"CONNECT"), (b":authority", b"orders:443")] + ([] if target[0] != "/" else [(b":scheme", b"http"), (b":path", b"/open/x")])
        outcome = stage.fields(fields)
    else:
        outcome = stage.send(version, method, target, host="orders:443" if method == "CONNECT" else HOST)
    assert outcome.verdict in ("deny", "reject") and not outcome.requests and outcome.bytes == 0, outcome
