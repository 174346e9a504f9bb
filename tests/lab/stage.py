"""A gateway between pods on 127.0.0.x, with a receiver that keeps every byte: where literal requests meet literal verdicts."""

from __future__ import annotations

from dataclasses import dataclass

from .firewall import Firewall, policy
from .namespace import Namespace
from .program import until
from .recorder import Received, Recorder
from .wire import Answer2, Http1, Http2, Malformed, Message

ORDERS, WEB, ATTACKER, STRANGER = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"
HOST = "orders.shop.svc.cluster.local"
LISTEN, BACKEND = 8000, 8080
VERSIONS = ("1", "2")
SHAPES = ("A", "D")

WORKLOADS = [
    {"name": "orders", "namespace": "shop", "serviceAccount": "orders", "ips": [ORDERS], "ports": [{"name": "http", "port": BACKEND}]},
    {"name": "web", "namespace": "shop", "serviceAccount": "web", "ips": [WEB], "ports": []},
    {"name": "attacker", "namespace": "shop", "serviceAccount": "attacker", "ips": [ATTACKER], "ports": []},
]

OPEN_PATHS = ["/open/**", "/a/open/**", "/public/**"]
ADMIN_PATHS = ["/admin/**", "/a/admin/**"]


def shape_policy(shape: str) -> list[dict]:
    """The same wish twice: `A` names what is open, `D` opens everything and denies what is not."""
    web = [{"serviceAccount": "web"}]
    if shape == "A":
        return [policy("orders", "orders", [{"name": "open", "from": web, "http": [{"paths": OPEN_PATHS}]}])]
    return [policy("orders", "orders", [
        {"name": "everything", "from": web, "http": [{"paths": ["/**"]}]},
        {"name": "no-admin", "action": "Deny", "from": [{"any": True}], "ports": ["http"], "http": [{"paths": ADMIN_PATHS}]},
    ])]


def below(path: str, patterns: list[str]) -> bool:
    """Whole-segment prefixes, said again without the program under test."""
    return any(path == pattern[:-3] or path.startswith(pattern[:-2]) for pattern in patterns)


def passes(shape: str, path: str) -> bool:
    """What the shape's policy says of a canonical path."""
    return below(path, OPEN_PATHS) if shape == "A" else not below(path, ADMIN_PATHS)


@dataclass
class Outcome:
    """What one request met: the verdict as the client saw it, and what the receiver got."""

    verdict: str
    status: int | None
    requests: list[Received]
    bytes: int
    answer: Message | Answer2 | None = None
    connection_ended: bool = False
    port: int = 0
    since: int = 0


class Stage:
    """One gateway, one receiver, in a namespace of their own."""

    def __init__(self, folder, ending, policies: list[dict], workloads: list[dict] | None = None, answer=None, arguments: list = (), http: bool = True):
        self.place = Namespace("stage")
        ending.callback(self.place.delete)
        self.recorder = ending.enter_context(Recorder(self.place, ORDERS, BACKEND, answer=answer, http=http))
        self.firewall = Firewall(folder, "gateway", self.place, policies, workloads or WORKLOADS, listen=f"127.0.0.1:{LISTEN}",
                                 upstream=f"{ORDERS}:{BACKEND}", arguments=arguments)
        ending.enter_context(self.firewall)
        self.firewall.start()

    def connect(self, source: str = WEB, timeout: float = 10):
        return self.place.connect("127.0.0.1", LISTEN, timeout, source)

    def http1(self, source: str = WEB) -> Http1:
        return Http1(self.connect(source))

    def http2(self, source: str = WEB, **more) -> Http2:
        return Http2(self.connect(source), **more)

    def raw(self, data: bytes, source: str = WEB, answers: int = 1) -> Outcome:
        """Literal HTTP/1 bytes on a connection of their own."""
        self.recorder.forget()
        self.since = len(self.firewall.log())
        with self.http1(source) as client:
            port = client.socket.getsockname()[1]
            client.send(data)
            answer = None
            for _ in range(answers):
                try:
                    answer = client.response()
                except Malformed as error:
                    raise AssertionError(f"malformed answer to {data!r}: {error}; {client.buffer!r}") from error
                if answer is None:
                    break
            ended = client.closed or (answer is not None and answer.value("connection") == "close" and client.ended())
        return self._outcome(answer.status if answer else None, answer, port, ended)

    def send(self, version: str, method: str, target: str | bytes, headers: list = (), body: bytes | None = None, host: str | None = HOST,
             source: str = WEB) -> Outcome:
        """One request as literally as its version allows."""
        target = target if isinstance(target, bytes) else target.encode("latin-1")
        pairs = [(_bytes(name), _bytes(value)) for name, value in headers]
        if version == "1":
            lines = [method.encode() + b" " + target + b" HTTP/1.1"]
            if host is not None:
                lines.append(b"host: " + _bytes(host))
            lines += [name + b": " + value for name, value in pairs]
            if body is not None:
                lines.append(b"content-length: %d" % len(body))
            return self.raw(b"\r\n".join(lines) + b"\r\n\r\n" + (body or b""), source)
        fields = [(b":method", method.encode()), (b":scheme", b"http"), (b":path", target)]
        if host is not None:
            fields.append((b":authority", _bytes(host)))
        return self.fields(fields + [(name.lower(), value) for name, value in pairs], body, source)

    def fields(self, fields: list, body: bytes | None = None, source: str = WEB, trailers: list | None = None) -> Outcome:
        """One HTTP/2 request with exactly these fields."""
        self.recorder.forget()
        self.since = len(self.firewall.log())
        with self.http2(source) as client:
            answer = client.wait(client.request(fields, body, trailers=trailers))
            refused = answer.reset is not None or client.goaway not in (None, 0)
            status = answer.status if answer.status else (400 if refused or client.closed else None)
            return self._outcome(status, answer, client.socket.getsockname()[1], client.closed)

    def _outcome(self, status: int | None, answer, port: int, ended: bool) -> Outcome:
        if status is None:
            verdict = "reject" if ended else "none"
        else:
            verdict = {200: "allow", 101: "allow", 403: "deny"}.get(status, "reject" if 400 <= status < 500 else "other")
        requests = list(self.recorder.requests)
        return Outcome(verdict, status, requests, self.recorder.arrived, answer, ended, port, self.since)

    def logged(self, outcome: Outcome, count: int = 1) -> list[dict]:
        """The lines of the access log that tell of this outcome's connection."""
        def lines():
            found = [line for line in self.firewall.log()[outcome.since :] if line.get("client.port") == outcome.port and line["event"] == "request"]
            return found if len(found) >= count else None

        return until(lines, f"{count} lines of the access log of port {outcome.port}", 10)


def _bytes(value) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1")
