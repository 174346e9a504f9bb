"""What no rule allows any longer is cut, although it was opened when one did. The time is measured at the client."""

import json
import threading
import time

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

from lab import servers
from lab.firewall import policy
from lab.program import Program, until
from lab.recorder import Recorder
from lab.scene import PLACEMENTS, Scene
from lab.wire import Http1, Http2

WEB = [{"serviceAccount": "web"}]
RULES = {
    "feed": {"name": "feed", "from": WEB, "ports": ["http"], "http": [{"methods": ["GET"], "paths": ["/feed"], "upgrades": ["websocket"]}]},
    "slow": {"name": "slow", "from": WEB, "ports": ["slow"], "http": [{"methods": ["GET"], "paths": ["/slow/**"]}]},
    "rpc": {"name": "rpc", "from": WEB, "ports": ["grpc"], "grpc": [{"service": "shop.v1.Orders"}]},
    "redis": {"name": "redis", "from": WEB, "ports": ["redis"], "tcp": {}},
}
PORTS = {"web": [], "orders": [{"name": "http", "port": 8080}, {"name": "slow", "port": 8085, "appProtocol": "http"}, {"name": "grpc", "port": 9090}, {"name": "redis", "port": 6379}]}
WITHIN = 1.0
GUARD = 20


def without(*names: str) -> list[dict]:
    return [policy("orders", "orders", [rule for name, rule in RULES.items() if name not in names], directions=["Ingress"])]


@pytest.fixture(params=PLACEMENTS)
def scene(request, folder, ending):
    return Scene(folder, ending, request.param, without(), PORTS)


def told(what: str, seconds: float):
    print(f"{what}: cut {seconds * 1000:.0f} ms after the file was written")
    assert seconds < WITHIN, f"{what} was cut only after {seconds:.3f} s"


def test_an_open_websocket_is_cut(scene):
    listener = scene["orders"].listen("::", 8080)

    def talk(connection):
        for message in connection:
            connection.send(message)

    with websockets.sync.server.serve(talk, sock=listener) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            with websockets.sync.client.connect("ws://orders:8080/feed", sock=scene["web"].connect(scene["orders"].ipv4, 8080), proxy=None, close_timeout=1) as client:
                client.send("hello")
                assert client.recv(timeout=10) == "hello"
                written = time.monotonic()
                scene.firewall().write_policies(without("feed"))
                with pytest.raises(websockets.exceptions.ConnectionClosed):
                    client.recv(timeout=GUARD)
                told("websocket", time.monotonic() - written)
        finally:
            server.shutdown()
            thread.join(5)


def test_an_open_grpc_stream_is_cut(scene, folder, ending):
    server = servers.python(scene["orders"], folder, ending, "lab.grpc_peer", "serve", "[::]:9090")
    servers.listening(scene["orders"], 9090, server)
    client = servers.python(scene["web"], folder, ending, "lab.grpc_peer", "call", f"{scene['orders'].ipv4}:9090", "Hold")
    until(lambda: client.text().count("word") > 5, "words of the stream")
    written = time.time()
    scene.firewall().write_policies(without("rpc"))
    assert client.wait(GUARD) == 0
    last = json.loads(client.text().splitlines()[-1])
    assert last["code"] == "PERMISSION_DENIED", last
    told("gRPC stream", last["at"] - written)


def test_an_idle_redis_connection_is_cut(scene, folder, ending):
    servers.redis(scene["orders"], folder, ending)
    with scene["web"].connect(scene["orders"].ipv4, 6379, GUARD) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        written = time.monotonic()
        scene.firewall().write_policies(without("redis"))
        with pytest.raises(ConnectionResetError):
            if client.recv(100) == b"":
                raise AssertionError("ended like a server that went away, not cut")
        told("idle redis connection", time.monotonic() - written)


def test_an_opaque_connection_that_must_now_be_inspected_is_cut(scene, folder, ending):
    servers.redis(scene["orders"], folder, ending)
    with scene["web"].connect(scene["orders"].ipv4, 6379, GUARD) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        rules = without("redis")
        rules[0]["spec"]["ingress"].append({"name": "redis", "from": WEB, "ports": ["redis"], "http": [{"paths": ["/x"]}]})
        written = time.monotonic()
        scene.firewall().write_policies(rules)
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        told("opaque connection", time.monotonic() - written)


@pytest.mark.parametrize("version", ["1", "2"])
def test_an_open_request_is_judged_again(scene, version):
    held = threading.Event()

    def answer(request):
        held.wait(GUARD)
        return 200, [], b"late"

    with Recorder(scene["orders"], "::", 8085, answer=answer) as receiver:
        connection = scene["web"].connect(scene["orders"].ipv4, 8085, GUARD)
        try:
            if version == "1":
                client = Http1(connection)
                client.send(b"GET /slow/1 HTTP/1.1\r\nhost: orders\r\n\r\n")
            else:
                client = Http2(connection)
                stream = client.request([(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/slow/1"), (b":authority", b"orders")])
                client.pump(1)
            until(lambda: receiver.connections and receiver.bytes_received > 20, "the request at the receiver")
            written = time.monotonic()
            scene.firewall().write_policies(without("slow"))
            if version == "1":
                try:
                    late = client.response(timeout=GUARD)
                except TimeoutError:
                    late = "nothing"
                assert late is None or late.status == 403, late
            else:
                late = client.wait(stream, GUARD)
                assert late.reset is not None or late.status == 403 or client.closed, late
            told(f"open request over HTTP/{version}", time.monotonic() - written)
        finally:
            held.set()
            connection.close()


def test_a_swap_cuts_nothing_that_both_generations_allow(scene, folder, ending):
    servers.redis(scene["orders"], folder, ending)
    with scene["web"].connect(scene["orders"].ipv4, 6379, GUARD) as client:
        for number in range(10):
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
            scene.write_policies(without("feed") if number % 2 else without("rpc"))
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"


def test_an_expiry_cuts(scene, folder, ending):
    import datetime

    servers.redis(scene["orders"], folder, ending)
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    rules = without("redis")
    rules[0]["spec"]["ingress"].append(RULES["redis"] | {"expires": end.strftime("%Y-%m-%dT%H:%M:%SZ")})
    scene.write_policies(rules)
    with scene["web"].connect(scene["orders"].ipv4, 6379, GUARD) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    try:
        again = scene["web"].connect(scene["orders"].ipv4, 6379)
    except ConnectionResetError:
        return  # refused before `connect` came back
    with Http1(again) as again:
        assert again.ended(), "the direction stays closed"


def test_an_address_that_changes_hands_loses_its_connections(scene, folder, ending):
    """Also attack 56: the old owner's connection must not authorise the new owner."""
    servers.redis(scene["orders"], folder, ending)
    with scene["web"].connect(scene["orders"].ipv4, 6379, GUARD) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        scene.more["web"] = {"serviceAccount": "other"}
        written = time.monotonic()
        for firewall in scene.firewalls.values():
            firewall.write_workloads(scene.workloads() + [scene.network.node_entry()])
        with pytest.raises(ConnectionResetError):
            client.recv(100)
        told("connection of an address that changed hands", time.monotonic() - written)
