"""Cases of a suite as real traffic: a gateway in a namespace that owns every address of the case; verdict and received bytes must agree.

Each case that HTTP, gRPC, TLS or TCP can express is sent inbound from its source address to its destination's address and port, with a receiver
there. What the proxy does is compared with what `decide` says of the same request as it is sent: its inbound side (a gateway stands inbound), in
plaintext and at this time (a principal that the case proves, and its clock, are
left out of both; a missing Host, which HTTP/1.1 must have, is the same in both). Where nothing of that was needed, the case's own `expect` counts too.

The claims of a case are sent in a token that is signed for it, by an issuer whom a `RequestAuthentication` and the proxy's own settings name; what such
a case expects counts always, and where it passes, the same claims in a forged and in an expired token must not.

Of an HTTP request that passes, what the receiver got is compared with the canonical form, computed here anew, and its path with the one in the access
log, which is the one that was judged.
"""

from __future__ import annotations

import base64
import collections
import ipaddress
import ssl
from pathlib import Path

import yaml

from .firewall import Firewall, decide
from .issuers import Issuers, bearing, speaks_istio
from .namespace import Namespace
from .program import until
from .recorder import Recorder
from .wire import Http1, Http2, Malformed

LISTEN = 15999
GREETING = b"\x00eastwall-opaque\x00"
HTTP = ("http", "http2", "grpc")


def why_not(case: dict, workloads: list[dict]) -> str | None:
    """Why a case cannot be sent, or `None`."""
    source, destination = case.get("src") or {}, case["dst"]
    protocol = case.get("protocol", "tcp")
    if case.get("direction") == "outbound":
        return "the gateway stands inbound"
    if "remoteIp" in case:
        return "a trusted remote address"
    if "jwt" in case and protocol not in HTTP:
        return "a token outside of HTTP"
    if case.get("tls"):
        return "TLS that the proxy terminated"
    if case.get("transport", "tcp") != "tcp" or protocol not in (*HTTP, "tls", "tcp"):
        return "a transport or protocol that is not proxied"
    if "fqdn" in destination or "service" in destination:
        return "a destination by name or Service"
    if source_address(case, workloads) is None:
        return "no source address"
    if destination_address(case, workloads) is None or not destination.get("port"):
        return "no destination address and port"
    if protocol in HTTP and ("method" not in case or "path" not in case):
        return "a request without method or path"
    if protocol in HTTP and any(name in case and case[name] is None for name in ("headers", "query", "host")):
        return "a part of the request that cannot be seen"
    if "sni" in case and (case["sni"] is None or protocol != "tls"):
        return "a server name that is hidden, or of a connection that is not TLS"
    if "alpn" in case and protocol != "tls":
        return "ALPN without TLS"
    if any(ipaddress.ip_address(each["ip"]).is_loopback for each in (source, destination) if each.get("ip")):
        return "a loopback address"
    return None


def sent_unmodified(case: dict, policies: list[Path]) -> bool:
    """Whether the traffic says all that the case says: no proven peer, no Host made up, no other direction or clock that a rule could ask for."""
    source, text = case.get("src") or {}, "".join(policy.read_text() for policy in policies)
    if "principal" in source or (case.get("protocol") in HTTP and case.get("host") is None):
        return False
    return (case.get("direction") == "inbound" or "egress" not in text.lower()) and ("now" not in case or "expires" not in text)


def as_sent(case: dict) -> dict:
    """The request of `decide` that the traffic is: inbound, now, in plaintext so that nobody's identity is proven, and with a Host."""
    request = {key: value for key, value in case.items() if key not in ("expect", "expectAudit", "why", "policy", "now")} | {"direction": "inbound"}
    if request.get("protocol") in HTTP and request.get("host") is None:
        request["host"] = "host.of.the.suite"
    if request.get("src"):
        request["src"] = {key: value for key, value in request["src"].items() if key != "principal"}
    return request


def _as_bytes(request: dict) -> dict:
    """The same connection, if nobody knew what it speaks."""
    return {key: value for key, value in request.items() if key in ("id", "src", "dst", "direction")} | {"protocol": "tcp"}


def _declares_http(case: dict, workloads: list[dict]) -> bool:
    """Whether the destination says that the port speaks HTTP, by its name or its `appProtocol`."""
    address = destination_address(case, workloads)
    for entry in workloads:
        for port in entry.get("ports") or [] if address in (entry.get("ips") or []) and entry.get("kind") not in ("Service", "Node") else []:
            if port.get("port") == case["dst"]["port"]:
                words = f"{port.get('name', '')}-{port.get('appProtocol', '')}".lower().split("-")
                return any(word in ("http", "http2", "grpc", "h2c") for word in words)
    return False


def _registered(name: str, workloads: list[dict]) -> dict | None:
    return next((each for each in workloads if f"{each.get('namespace')}/{each.get('name')}" == name and each.get("kind") not in ("Service", "Node")), None)


def _own_address(end: dict, workloads: list[dict]) -> str | None:
    if end.get("ip"):
        parsed = ipaddress.ip_address(end["ip"])
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)
    entry = _registered(end.get("workload", ""), workloads)
    return entry["ips"][0] if entry and entry.get("ips") else None


def source_address(case: dict, workloads: list[dict]) -> str | None:
    return _own_address(case.get("src") or {}, workloads)


def destination_address(case: dict, workloads: list[dict]) -> str | None:
    return _own_address(case["dst"], workloads)


def plain(value) -> bytes:
    """A member of a case as bytes."""
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return str(value).encode()


def client_hello(sni: str | None, alpn) -> bytes:
    """The first flight of a real TLS client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn] if isinstance(alpn, str) else list(alpn))
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=sni or None).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


class Receivers:
    """One recorder for each destination, in the namespace that owns all addresses."""

    def __init__(self, place: Namespace):
        self.place = place
        self.addresses: set[str] = set()
        self.made: dict[tuple[str, int], Recorder] = {}

    def own(self, address: str) -> None:
        if address not in self.addresses:
            bits = 128 if ":" in address else 32
            self.place.ip(f"addr add {address}/{bits} dev lo" + (" nodad" if bits == 128 else ""))
            self.addresses.add(address)

    def at(self, address: str, port: int) -> Recorder:
        self.own(address)
        key = (address, port)
        if key not in self.made:
            self.made[key] = Recorder(self.place, address, port)
        return self.made[key]

    def close(self) -> None:
        for recorder in self.made.values():
            recorder.close()


def send_group(folder: Path, policies: list[Path], workloads_file: Path | None, cases: list[dict], left_out: collections.Counter):
    """Sends what can be sent; yields (case, whether it agrees, what was seen)."""
    workloads = yaml.safe_load(workloads_file.read_text()) if workloads_file else []
    sendable = []
    for case in cases:
        reason = why_not(case, workloads)
        if reason:
            left_out[reason] += 1
        else:
            sendable.append(case)
    if not sendable:
        return
    issuers = Issuers(sendable)
    if issuers.asked and speaks_istio(policies):
        accepting = folder / "request-authentication.yaml"
        accepting.write_text(issuers.request_authentication({each["namespace"] for each in workloads if each.get("namespace")}))
        policies = [*policies, accepting]
    settings = ["--config", issuers.config(folder)] if issuers.asked else []
    requests = [as_sent(case) for case in sendable]
    said = decide(policies, workloads_file, requests)
    for case in [each for each in sendable if said[each["id"]].get("reason") == "not-subject"]:
        left_out["a destination that is no registered workload, which a gateway refuses"] += 1
        sendable.remove(case)
    opaque = decide(policies, workloads_file, [_as_bytes(request) for request in requests])
    for case in [each for each in sendable if each.get("protocol") in HTTP and not _declares_http(each, workloads) and opaque[each["id"]]["verdict"] == "allow"]:
        # What the bytes are is never asked there.
        left_out["HTTP inside a connection that passes as opaque TCP"] += 1
        sendable.remove(case)
    place = Namespace("suite")
    receivers = Receivers(place)
    try:
        by_destination = collections.defaultdict(list)
        for case in sendable:
            entrance = "::1" if ":" in source_address(case, workloads) else "127.0.0.1"
            by_destination[destination_address(case, workloads), case["dst"]["port"], entrance].append(case)
        for number, ((address, port, entrance), several) in enumerate(by_destination.items()):
            receiver = receivers.at(address, port)
            shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
            firewall = Firewall(folder / f"gateway-{number}", "gateway", place, [], [], listen=f"[{entrance}]:{LISTEN}" if ":" in entrance else f"{entrance}:{LISTEN}", upstream=shown, drain="0s", arguments=settings)
            (firewall.policy_folder / "policy.yaml").unlink()
            for index, policy in enumerate(policies):
                (firewall.policy_folder / f"policy-{index}.yaml").write_text(policy.read_text())
            firewall.write_workloads(workloads)
            with firewall:
                firewall.start()
                for case in several:
                    source = source_address(case, workloads)
                    receivers.own(source)
                    receiver.forget()
                    lines = len(firewall.log())
                    request = bearing(as_sent(case), issuers.token(case["jwt"])) if "jwt" in case else as_sent(case)
                    seen, client = _send(place, entrance, source, request, receiver)
                    wanted = said[case["id"]]["verdict"]
                    passed = wanted == "allow"
                    refused = {wanted, "cut"} if wanted != "allow" else {wanted}
                    good = seen in refused and bool(receiver.arrived) == passed
                    if good and passed and case.get("protocol") in HTTP:
                        judged = _line(firewall, lines, client)
                        differs = difference(request, receiver.requests, judged, opaque[case["id"]]["verdict"] == "allow")
                        if differs:
                            yield case, False, f"{seen}, but {differs}"
                            continue
                    if good and passed and "jwt" in case:
                        believed = _believed(place, entrance, source, as_sent(case), receiver, issuers.forgeries(case["jwt"]))
                        if believed:
                            yield case, False, f"{seen}, and so does a token that is {believed}"
                            continue
                    if good and ("jwt" in case or sent_unmodified(case, policies)) and wanted != case["expect"]:
                        yield case, False, f"{seen}, as decide says of it as inbound traffic"
                        continue
                    yield case, good, f"{seen} with {receiver.arrived} bytes at the receiver, while decide says {wanted}"
    finally:
        receivers.close()
        place.delete()


UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# What belongs to one connection and not to the request.
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "content-length", "host"}


def canonical_path(path: bytes) -> bytes:
    """The canonical form of a path that is not refused: unreserved escapes decoded once, `//` merged, dot segments resolved."""
    decoded, at = b"", 0
    while at < len(path):
        octet = bytes.fromhex(path[at + 1 : at + 3].decode()) if path[at : at + 1] == b"%" else b""
        if octet:
            decoded += octet if octet[0] in UNRESERVED else b"%" + path[at + 1 : at + 3].upper()
            at += 3
        else:
            decoded += path[at : at + 1]
            at += 1
    segments: list[bytes] = []
    parts = decoded.split(b"/")[1:]
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == b"..":
            segments = segments[:-1] + ([b""] if last else [])
        elif part == b"." or part == b"":
            segments += [b""] if last else []
        else:
            segments.append(part)
    return b"/" + b"/".join(segments)


def difference(case: dict, requests: list, judged: dict, opaque: bool) -> str | None:
    """In what the request that arrived is not the canonical form of the case, nor the one that was judged; `None` where it is. `opaque`: any bytes are allowed there."""
    if len(requests) != 1:
        return f"{len(requests)} requests arrived"
    (got,) = requests
    if judged["protocol"] == "tcp" and opaque:
        # Judged as the bytes that it is, and passed on as they are.
        same = (got.method, got.target) == (case["method"], _target(case).decode("latin-1"))
        return None if same else f"{got.method} {got.target} arrived"
    if got.method != case["method"] or judged.get("http.request.method") != case["method"]:
        return f"method {got.method} arrived, {judged.get('http.request.method')} was judged"
    path = plain(case["path"])
    if not path.startswith(b"/"):
        return None if got.target.encode("latin-1") == path else f"target {got.target!r} arrived"
    wanted = canonical_path(path).decode("latin-1")
    if got.path != wanted or judged.get("url.path") != wanted:
        return f"path {got.path!r} arrived and {judged.get('url.path')!r} was judged, the canonical one is {wanted!r}"
    query = None if case.get("query") is None else plain(case["query"]).decode("latin-1")
    if (got.target.partition("?")[2] if "?" in got.target else None) != query:
        return f"query of {got.target!r} arrived, not {query!r}"
    host = plain(case["host"]).decode("latin-1").lower()
    if got.host != host:
        return f"host {got.host!r} arrived, not {host!r}"
    given = [(name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")) for name, value in _headers(case)]
    nominated = {word.strip().lower() for name, value in given if name == "connection" for word in value.split(",")}
    for name in {name for name, _ in given} - HOP_BY_HOP - nominated:
        if got.all(name) != [value for key, value in given if key == name]:
            return f"header {name} arrived as {got.all(name)}"
    for name in nominated - HOP_BY_HOP - {"close"}:
        if got.all(name):
            return f"header {name}, which Connection names, arrived"
    return None


def _believed(place: Namespace, entrance: str, source: str, request: dict, receiver: Recorder, forgeries: dict[str, str]) -> str | None:
    """What is wrong with the first token that passes all the same."""
    for wrong, token in forgeries.items():
        receiver.forget()
        seen, _ = _send(place, entrance, source, bearing(request, token), receiver)
        if seen == "allow" or receiver.arrived:
            return wrong
    return None


def _line(firewall: Firewall, since: int, client: int) -> dict:
    """The line of the access log that tells of this client's request."""
    return until(lambda: next((line for line in firewall.log()[since:] if line["event"] == "request" and line["client.port"] == client), None), "the line of the request")


def _send(place: Namespace, entrance: str, source: str, case: dict, receiver: Recorder) -> tuple[str, int]:
    """The verdict as the client sees it, and the client's port; `cut` where the connection ends without a word, as a denial does where no HTTP is declared."""
    try:
        connection = place.connect(entrance, LISTEN, 5, source)
    except ConnectionResetError:
        return "cut", 0
    client = connection.getsockname()[1]
    protocol = case.get("protocol", "tcp")
    try:
        if protocol == "http":
            return _http1(connection, case), client
        if protocol in ("http2", "grpc"):
            return _http2(connection, case, protocol == "grpc"), client
        data = client_hello(case.get("sni"), case.get("alpn")) if protocol == "tls" else GREETING
        return _opaque(connection, data, receiver), client
    finally:
        connection.close()


def _target(case: dict) -> bytes:
    target = plain(case["path"])
    if case.get("query") is not None:
        target += b"?" + plain(case["query"])
    return target


def _headers(case: dict) -> list[tuple[bytes, bytes]]:
    return [(plain(name), plain(value)) for name, value in case.get("headers") or []]


def _verdict(status: int | None, grpc_status: str | None = None) -> str:
    if grpc_status == "7":
        return "deny"
    return {None: "cut", 200: "allow", 403: "deny"}.get(status, "reject" if 400 <= (status or 0) < 500 else f"status {status}")


def _http1(connection, case: dict) -> str:
    client = Http1(connection)
    lines = [plain(case["method"]) + b" " + _target(case) + b" HTTP/1.1", b"host: " + plain(case["host"])]
    lines += [name + b": " + value for name, value in _headers(case)]
    client.send(b"\r\n".join(lines) + b"\r\n\r\n")
    try:
        answer = client.response(head=case["method"] == "HEAD", timeout=5)
    except (TimeoutError, Malformed) as error:
        return repr(error)
    return _verdict(answer.status if answer else None)


def _http2(connection, case: dict, grpc: bool) -> str:
    client = Http2(connection)
    fields = [(b":method", plain(case["method"])), (b":scheme", b"http"), (b":path", _target(case)), (b":authority", plain(case["host"]))]
    given = [(name.lower(), value) for name, value in _headers(case)]
    if grpc:
        names = {name for name, _ in given}
        given = [(name, value) for name, value in ((b"content-type", b"application/grpc"), (b"te", b"trailers")) if name not in names] + given
    answer = client.wait(client.request(fields + given, b"\0\0\0\0\0" if grpc else None), 5)
    if answer.status is None and not (answer.reset is not None or client.goaway is not None or client.closed):
        return "no answer"
    return _verdict(answer.status, answer.value("grpc-status"))


def _opaque(connection, data: bytes, receiver: Recorder) -> str:
    """Allowed when the bytes arrive, denied when the connection ends."""
    client = Http1(connection)
    client.send(data)
    client.socket.settimeout(0.05)

    def decided():
        if data in b"".join(receiver.raw):
            return "allow"
        try:
            part = client.socket.recv(4096)
        except TimeoutError:
            return None
        except ConnectionResetError:
            part = b""
        if part == b"" or part.startswith(b"\x15\x03"):
            return "allow" if receiver.bytes_received else "deny"
        return None

    try:
        return until(decided, "an end or an arrival", 6)
    except AssertionError as error:
        return str(error)

