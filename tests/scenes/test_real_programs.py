"""Programs that were not written here, through sidecar and node mode: what is allowed works whole, what is not is refused in its own tongue."""

import hashlib
import json
import threading

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

from lab import servers
from lab.firewall import policy
from lab.program import until
from lab.recorder import Recorder
from lab.scene import PLACEMENTS, Scene
from lab.transfer import digest
from lab.wire import Http1

WEB = [{"serviceAccount": "web"}]
NAME = "orders.shop.svc.cluster.local"
POLICY = [policy("orders", "orders", [
    {"name": "reads", "from": WEB, "ports": ["http", "http2"], "http": [{"methods": ["GET"], "paths": ["/orders/{id}"]}]},
    {"name": "feed", "from": WEB, "ports": ["feed"], "http": [{"methods": ["GET"], "paths": ["/feed"], "upgrades": ["websocket"]}]},
    {"name": "rpc", "from": WEB, "ports": ["grpc"], "grpc": [{"service": "shop.v1.Orders", "methods": ["Get", "Sum", "Watch", "Chat", "Slow", "Told"]}]},
    {"name": "tls", "from": WEB, "ports": ["https", 8444], "tls": [{"serverNames": [NAME]}]},
    {"name": "opaque", "from": WEB, "ports": [6379, 5432, 2525, 3306], "tcp": {}},
    {"name": "big", "from": WEB, "ports": ["big"], "http": [{"methods": ["GET", "PUT"], "paths": ["/**"]}]},
])]
PORTS = {"web": [], "attacker": [], "orders": [
    {"name": "http", "port": 8080}, {"name": "http2", "port": 8081}, {"name": "feed", "port": 8082, "appProtocol": "http"}, {"name": "grpc", "port": 9090}, {"name": "https", "port": 8443},
    {"name": "redis", "port": 6379}, {"name": "postgres", "port": 5432}, {"name": "banner", "port": 2525}, {"name": "mariadb", "port": 3306}, {"name": "big", "port": 8090, "appProtocol": "http"}]}


@pytest.fixture(scope="module", params=PLACEMENTS)
def scene(request, module_folder, module_ending):
    folder = module_folder / request.param
    folder.mkdir(mode=0o755)
    made = Scene(folder, module_ending, request.param, POLICY, PORTS)
    made.tls = servers.certificate(folder, NAME, "other.shop.svc.cluster.local")
    made.nginx = servers.nginx(made["orders"], folder, module_ending, made.tls)
    return made


@pytest.fixture(params=["ipv4", "ipv6"])
def address(request, scene):
    return getattr(scene["orders"], request.param)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def curl(scene, pod: str, *arguments, check: bool = True):
    return scene[pod].run(["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments], check=check)


def test_curl_and_nginx_over_http1(scene, address):
    base = f"http://{bracketed(address)}:8080"
    done = curl(scene, "web", f"{base}/orders/7")
    assert done.stdout.endswith("200") and "GET /orders/7" in done.stdout
    several = scene["web"].run(["curl", "-sS", "--max-time", "20", *[f"{base}/orders/{number}" for number in range(20)]])
    assert several.stdout.count("GET /orders/") == 20
    for pod, path in (("web", "/admin"), ("attacker", "/orders/7")):
        assert curl(scene, pod, f"{base}{path}").stdout.endswith("403")
    log = (scene.nginx.output.parent / "nginx" / "access.log").read_text()
    assert "/admin" not in log


def test_curl_and_nginx_over_h2c(scene, address):
    base = f"http://{bracketed(address)}:8081"
    # One URL a call: curl 7.88 cannot reuse a connection that began with prior knowledge.
    for number in (7, 8):
        done = curl(scene, "web", "--http2-prior-knowledge", f"{base}/orders/{number}")
        assert done.stdout.endswith("200") and f"GET /orders/{number}" in done.stdout
    for pod, path in (("web", "/admin"), ("attacker", "/orders/7")):
        assert curl(scene, pod, "--http2-prior-knowledge", f"{base}{path}").stdout.endswith("403")


def test_nghttp_streams_in_parallel(scene):
    done = scene["web"].run(["h2load", "-n", "500", "-c", "5", "-m", "20", f"http://{scene['orders'].ipv4}:8081/orders/7"])
    assert "500 succeeded, 0 failed, 0 errored" in done.stdout, done.stdout
    refused = scene["attacker"].run(["nghttp", "-v", f"http://{scene['orders'].ipv4}:8081/orders/7"], check=False)
    assert ":status: 403" in refused.stdout, refused.stdout


@pytest.fixture(scope="module")
def grpc_server(scene, module_folder, module_ending):
    program = servers.python(scene["orders"], module_folder, module_ending, "lab.grpc_peer", "serve", "[::]:9090")
    servers.listening(scene["orders"], 9090, program)
    return program


def rpc(scene, what: str, pod: str = "web", address: str | None = None) -> dict:
    done = servers.run_python(scene[pod], "lab.grpc_peer", "call", f"{address or scene['orders'].ipv4}:9090", what)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("what", "answer"), [("Get", "order 7"), ("Sum", "4950"), ("Watch", [str(number) for number in range(100)]), ("Chat", ["ONE", "TWO", "THREE"])])
def test_grpc_calls_of_every_kind(scene, grpc_server, what, answer):
    got = rpc(scene, what)
    assert (got["code"], got.get("answer")) == ("OK", answer), got
    if what == "Get":
        assert ["x-served-by", "orders"] in got["trailers"], "trailers arrive"


def test_grpc_over_ipv6(scene, grpc_server):
    assert rpc(scene, "Get", address=f"[{scene['orders'].ipv6}]")["code"] == "OK"


def test_grpc_denials_are_permission_denied(scene, grpc_server):
    before = rpc(scene, "Told")["calls"]
    assert rpc(scene, "Delete")["code"] == "PERMISSION_DENIED"
    assert rpc(scene, "Get", pod="attacker")["code"] == "PERMISSION_DENIED"
    assert rpc(scene, "Told")["calls"] == before + ["/shop.v1.Orders/Told"], "the server saw no call that was denied"


def test_grpc_deadlines_and_cancellation_reach_the_server(scene, grpc_server):
    cancelled = rpc(scene, "Told")["cancelled"]
    assert rpc(scene, "Deadline")["code"] == "DEADLINE_EXCEEDED"
    assert rpc(scene, "Cancel")["code"] == "CANCELLED"
    until(lambda: rpc(scene, "Told")["cancelled"] == cancelled + 2, "both ends of calls at the server")


def test_websockets_talk_both_ways(scene, address):
    listener = scene["orders"].listen("::", 8082)

    def talk(connection):
        for message in connection:
            connection.send(message[::-1])

    with websockets.sync.server.serve(talk, sock=listener) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            uri = f"ws://{bracketed(address)}:8082"
            with websockets.sync.client.connect(f"{uri}/feed", sock=scene["web"].connect(address, 8082), proxy=None) as client:
                for message in ("hello", b"\x00\xff" * 40_000, "x" * 100_000):
                    client.send(message)
                    assert client.recv(timeout=10) == message[::-1]
            for pod, path in (("web", "/other"), ("attacker", "/feed")):
                with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                    websockets.sync.client.connect(f"{uri}{path}", sock=scene[pod].connect(address, 8082), proxy=None)
                assert refused.value.response.status_code == 403
        finally:
            server.shutdown()
            thread.join(5)


def test_tls_is_passed_through_by_server_name(scene, address):
    def fetch(name, pod="web"):
        return curl(scene, pod, "--cacert", scene.tls[0], "--connect-to", f"::{bracketed(address)}:8443", f"https://{name}/orders/7", check=False)

    passed = fetch(NAME)
    assert passed.stdout.endswith("200") and "GET /orders/7" in passed.stdout, passed
    for done in (fetch("other.shop.svc.cluster.local"), fetch(NAME, "attacker")):
        assert done.returncode != 0 and "200" not in done.stdout
    alert = scene["web"].run(["openssl", "s_client", "-connect", f"{bracketed(address)}:8443", "-servername", "other.shop.svc.cluster.local"], check=False, input="")
    assert "access denied" in alert.stderr.lower(), alert.stderr


def test_openssl_server_and_client(scene, folder, ending):
    servers.s_server(scene["orders"], folder, ending, scene.tls, 8444)
    address = f"{scene['orders'].ipv4}:8444"
    asked = scene["web"].run(["openssl", "s_client", "-connect", address, "-servername", NAME, "-quiet"], input="GET / HTTP/1.0\r\n\r\n", check=False)
    assert "s_server" in asked.stdout or "Ciphers" in asked.stdout, asked
    without = scene["web"].run(["openssl", "s_client", "-connect", address, "-noservername"], input="", check=False)
    assert "access denied" in without.stderr.lower(), "no server name is no allowed one"


def test_redis_is_opaque(scene, folder, ending):
    servers.redis(scene["orders"], folder, ending)
    host = ["redis-cli", "-h", scene["orders"].ipv4]
    assert scene["web"].run([*host, "set", "order", "7"]).stdout.strip() == "OK"
    assert scene["web"].run([*host, "get", "order"]).stdout.strip() == "7"
    assert scene["web"].run(["redis-cli", "-h", scene["orders"].ipv6, "get", "order"]).stdout.strip() == "7"
    piped = scene["web"].run([*host, "--pipe"], input="".join(f"SET k{number} v{number}\r\n" for number in range(5000)))
    assert "replies: 5000" in piped.stdout and "errors: 0" in piped.stdout
    refused = scene["attacker"].run([*host, "get", "order"], check=False)
    assert "7" not in refused.stdout.split() and refused.returncode != 0 or "Error" in refused.stdout + refused.stderr, refused


def test_postgres_is_opaque(scene, folder, ending):
    servers.postgres(scene["orders"], folder, ending)
    connect = ["psql", "-h", scene["orders"].ipv4, "-U", "shop", "-d", "postgres", "-Atqc"]
    assert scene["web"].run([*connect, "select sum(n) from generate_series(1, 100000) n"]).stdout.strip() == "5000050000"
    assert len(scene["web"].run([*connect, "select repeat('x', 1000) from generate_series(1, 5000)"]).stdout) == 5_005_000
    refused = scene["attacker"].run([*connect, "select 1"], check=False)
    assert refused.returncode != 0 and refused.stdout == ""


def test_a_server_that_speaks_first_never_waits(scene, address):
    with Recorder(scene["orders"], "::", 2525, greeting=b"220 orders.shop ESMTP ready\r\n", http=False, echo=True):
        with scene["web"].connect(address, 2525) as client:
            assert client.recv(100) == b"220 orders.shop ESMTP ready\r\n"
            client.sendall(b"EHLO web\r\n")
            assert client.recv(100) == b"EHLO web\r\n"
            client.shutdown(1)
            assert client.recv(100) == b"", "half-close is carried through"
        with Http1(scene["attacker"].connect(address, 2525)) as client:
            assert client.ended(), "the denied client hears no greeting"


def test_mariadb_whose_server_speaks_first(scene, folder, ending):
    servers.mariadb(scene["orders"], folder, ending)
    for address in (scene["orders"].ipv4, scene["orders"].ipv6):
        connect = ["mariadb", "--no-defaults", "--protocol=tcp", "--connect-timeout=10", "-h", address, "-u", "shop", "-NBe"]
        assert scene["web"].run([*connect, "select 6 * 7"]).stdout.strip() == "42"
        assert len(scene["web"].run([*connect, "select repeat('x', 1000000)"]).stdout) == 1_000_001
        refused = scene["attacker"].run([*connect, "select 1"], check=False)
        assert refused.returncode != 0 and refused.stdout == "" and "ERROR 20" in refused.stderr, refused
    with Http1(scene["attacker"].connect(scene["orders"].ipv4, 3306)) as client:
        assert client.ended(), "the denied client hears no greeting"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["down", "up", "up-chunked"])
def test_a_gibibyte_arrives_whole(scene, folder, ending, way):
    program = servers.python(scene["orders"], folder, ending, "lab.transfer", "8090")
    servers.listening(scene["orders"], 8090, program)
    size = 1 << 30
    base = f"http://{scene['orders'].ipv4}:8090"
    if way == "down":
        whole = hashlib.blake2b(digest_size=16)
        with Http1(scene["web"].connect(scene["orders"].ipv4, 8090, 60)) as client:
            client.send(f"GET /{size} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.socket.recv(1)
            left = size
            while left:
                part = client.socket.recv(1 << 20)
                assert part, f"{left} bytes are missing"
                whole.update(part)
                left -= len(part)
        assert whole.hexdigest() == digest(size)
    else:
        file = folder / "gibibyte"
        from lab.transfer import BLOCK

        with open(file, "wb") as made:
            for _ in range(size // len(BLOCK)):
                made.write(BLOCK)
        more = ["-H", "Transfer-Encoding: chunked"] if way == "up-chunked" else []
        try:
            done = scene["web"].run(["curl", "-sS", "--max-time", "200", "-H", "Expect:", *more, "-T", file, f"{base}/put"], timeout=220)
        finally:
            file.unlink()
        assert done.stdout == digest(size)


def test_a_thousand_connections_at_once(scene):
    clients = []
    try:
        for number in range(1000):
            client = Http1(scene["web"].connect(scene["orders"].ipv4, 8080))
            clients.append(client)
            client.send(f"GET /orders/{number} HTTP/1.1\r\nhost: orders\r\n\r\n".encode())
        for number, client in enumerate(clients):
            answer = client.response(timeout=20)
            assert answer is not None and answer.status == 200 and f"/orders/{number} ".encode() in answer.body
        for client in clients[::50]:
            client.send(b"GET /admin HTTP/1.1\r\nhost: orders\r\n\r\n")
            assert client.response().status == 403
    finally:
        for client in clients:
            client.close()


def test_expect_continue(scene, folder, ending):
    program = servers.python(scene["orders"], folder, ending, "lab.transfer", "8090")
    servers.listening(scene["orders"], 8090, program)
    with Http1(scene["web"].connect(scene["orders"].ipv4, 8090)) as client:
        client.send(b"PUT /x HTTP/1.1\r\nhost: orders\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert client.response().status == 100
        client.send(b"hello")
        assert client.response().body == hashlib.blake2b(b"hello", digest_size=16).hexdigest().encode()
